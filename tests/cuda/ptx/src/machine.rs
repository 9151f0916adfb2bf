//! Runs the blocks of a launch: warps take turns, lanes of a warp step together.

use crate::access::Touch;
use crate::fault::{FaultKind, Outcome, Trouble, trouble};
use crate::instruction::{Constant, Flow, Instruction, Program, Special, Value};
use crate::launch::{Checks, Launch, Statistics};
use crate::memory::Memory;
use crate::race::Who;
use crate::registers::{ALL, Line, Registers, lanes};
use crate::shared::Shared;

/// Warp instructions after which a warp lets the others of its block go on, so that one may wait for another.
const SLICE: u64 = 1 << 20;
/// Instructions after which lanes that were left behind get a turn.
const PATIENCE: u64 = 1 << 14;

/// Lanes of a warp that are at the same instruction.
#[derive(Clone, Copy, Debug)]
struct Group {
    pc: u32,
    mask: u32,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    /// At a `.sync` instruction that other lanes have to reach.
    Gathering,
    /// At a `bar.warp.sync` for these lanes.
    WarpBarrier(u32),
    /// At a barrier of the block, in its so-many-th use.
    Barrier(u32, u64),
}

/// One warp: registers, and where its lanes are.
pub(crate) struct Warp {
    pub registers: Registers,
    pub predicates: Vec<u32>,
    /// The carry flag of every lane.
    pub carry: u32,
    /// Local memory, one lane after the other.
    pub local: Vec<u8>,
    pub index: u32,
    /// Lanes that have not exited.
    pub alive: u32,
    pub copies: crate::copies::Copies,
    groups: Vec<Group>,
    stacks: Vec<Vec<u32>>,
}

impl Warp {
    fn set_special(&mut self, special: &Constant, lane: u32, value: u64) {
        if special.wide {
            self.registers.set::<u64>(special.line, lane, value);
        } else {
            self.registers.set::<u32>(special.line, lane, value as u32);
        }
    }
}

#[derive(Clone, Copy, Default)]
struct Barrier {
    uses: u64,
    arrived: u32,
    expected: u32,
    count: u32,
    all: bool,
    any: bool,
    /// Results of the last use: popc, and, or.
    result: (u32, bool, bool),
}

enum Turn {
    Done,
    Blocked,
    Slice,
}

/// What a kernel needs of its warps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needs {
    pub lines: u32,
    pub predicates: u32,
    pub local_bytes: u32,
    pub entry: u32,
}

pub(crate) struct Machine<'m> {
    pub program: &'m Program,
    pub memory: &'m mut Memory,
    pub parameters: &'m [u8],
    pub checks: Checks,
    pub shared: Shared,
    pub warp: Warp,
    pub statistics: Statistics,
    /// The allocation each instruction hit last.
    pub hints: Vec<u32>,
    /// For race detection: who runs, and when each block of the launch released what it wrote.
    pub who: Who,
    pub releases: Vec<u32>,
    pub local_bytes: u32,
    /// Where and who, for faults.
    pub at: u32,
    pub block: [u32; 3],
    launch: Launch,
    needs: Needs,
    limit: u64,
    warps: Vec<Warp>,
    barriers: [Barrier; 16],
    exited: u32,
}

impl<'m> Machine<'m> {
    pub fn new(
        program: &'m Program,
        constants: &'m [Line],
        memory: &'m mut Memory,
        parameters: &'m [u8],
        launch: Launch,
        needs: Needs,
        shared_bytes: u32,
        address: impl Fn(u32) -> u64,
    ) -> Machine<'m> {
        let threads: u32 = launch.block.iter().product();
        let count = threads.div_ceil(32);
        let lines = (program.special_lines + needs.lines) as usize;
        let warps = (0..count)
            .map(|index| {
                let mut warp = Warp {
                    registers: Registers::new(memory.spare.pop().unwrap_or_default(), lines, constants),
                    predicates: vec![0; needs.predicates as usize],
                    carry: 0,
                    local: vec![0; needs.local_bytes as usize * 32],
                    index,
                    alive: 0,
                    copies: Default::default(),
                    groups: Vec::new(),
                    stacks: vec![Vec::new(); 32],
                };
                warp.predicates[0] = ALL;
                for special in &program.specials {
                    for lane in 0..32 {
                        let value = match special.value {
                            Value::Bits(bits) => bits,
                            Value::Variable(number, offset) => address(number).wrapping_add(offset as u64),
                            Value::Special(special) => {
                                special_value(special, &launch, index * 32 + lane, count, shared_bytes)
                            }
                        };
                        warp.set_special(special, lane, value);
                    }
                }
                warp
            })
            .collect();
        let idle = Warp {
            registers: Registers::new(Vec::new(), 0, &[]),
            predicates: Vec::new(),
            carry: 0,
            local: Vec::new(),
            index: 0,
            alive: 0,
            copies: Default::default(),
            groups: Vec::new(),
            stacks: Vec::new(),
        };
        let first = (memory.blocks as u32).wrapping_add(1);
        let who = Who { block: first, first, warp: 0, seen: [0; 32], acquired: false };
        Machine {
            program,
            checks: memory.checks,
            limit: memory.limit,
            memory,
            parameters,
            shared: Shared::new(shared_bytes, program.grain, count),
            warp: idle,
            statistics: Statistics::default(),
            hints: vec![0; program.code.len()],
            who,
            releases: Vec::new(),
            local_bytes: needs.local_bytes,
            at: u32::MAX,
            block: [0; 3],
            launch,
            needs,
            warps,
            barriers: [Barrier::default(); 16],
            exited: 0,
        }
    }

    /// Runs one block to its end.
    pub fn run_block(&mut self, block: [u32; 3]) -> Outcome {
        self.block = block;
        self.exited = 0;
        self.barriers = [Barrier::default(); 16];
        self.shared.start_block();
        self.memory.blocks += 1;
        self.who.block = self.memory.blocks as u32;
        self.who.acquired = false;
        if self.checks.races {
            self.releases.push(0);
        }
        self.statistics.blocks += 1;
        self.statistics.warps += self.warps.len() as u64;
        let threads: u32 = self.launch.block.iter().product();
        for warp in &mut self.warps {
            let left = threads - warp.index * 32;
            warp.alive = if left >= 32 { ALL } else { (1 << left) - 1 };
            warp.copies.start_block();
            warp.groups.clear();
            warp.groups.push(Group { pc: self.needs.entry, mask: warp.alive, state: State::Ready });
            warp.local.fill(0xa5);
            for special in &self.program.specials {
                if let Value::Special(Special::Block(axis)) = special.value {
                    for lane in 0..32 {
                        warp.set_special(special, lane, u64::from(block[axis as usize]));
                    }
                }
            }
        }
        loop {
            let (mut moved, mut done) = (false, 0);
            for number in 0..self.warps.len() {
                if self.warps[number].groups.is_empty() {
                    done += 1;
                    continue;
                }
                let before = self.statistics.instructions;
                std::mem::swap(&mut self.warp, &mut self.warps[number]);
                let turn = self.run_warp();
                if turn.is_ok() {
                    std::mem::swap(&mut self.warp, &mut self.warps[number]);
                }
                moved |= self.statistics.instructions != before;
                match turn? {
                    Turn::Done => done += 1,
                    Turn::Blocked | Turn::Slice => {}
                }
            }
            if done == self.warps.len() {
                return Ok(());
            }
            if !moved {
                return self.stuck();
            }
        }
    }

    /// No warp can go on: says why.
    fn stuck(&mut self) -> Outcome {
        let mut waiting = 0;
        let mut first = None;
        for number in 0..self.warps.len() {
            for group in &self.warps[number].groups {
                waiting += group.mask.count_ones();
                if first.is_none() || matches!(group.state, State::Barrier(..)) && self.exited > 0 {
                    first = Some((number, *group));
                }
            }
        }
        let Some((number, group)) = first else { return Ok(()) };
        std::mem::swap(&mut self.warp, &mut self.warps[number]);
        self.at = group.pc;
        let lane = group.mask.trailing_zeros();
        match group.state {
            State::Barrier(barrier, _) => {
                let state = self.barriers[barrier as usize];
                let missing = state.expected.saturating_sub(state.arrived);
                trouble(lane, FaultKind::DivergentBarrier { barrier, missing })
            }
            _ => trouble(lane, FaultKind::Deadlock { waiting }),
        }
    }

    /// Runs the lanes of the current warp until all exit or wait, or for a slice.
    fn run_warp(&mut self) -> Result<Turn, Box<Trouble>> {
        let end = self.statistics.instructions + SLICE;
        self.know();
        let mut tired = false;
        loop {
            let Some((mut pc, mut mask)) = self.choose(tired) else {
                return self.blocked();
            };
            if self.statistics.instructions >= end {
                self.warp.groups.push(Group { pc, mask, state: State::Ready });
                return Ok(Turn::Slice);
            }
            tired = self.run_group(&mut pc, &mut mask, end.min(self.limit))?;
            if mask != 0 {
                self.warp.groups.push(Group { pc, mask, state: State::Ready });
            }
        }
    }

    fn blocked(&mut self) -> Result<Turn, Box<Trouble>> {
        if self.warp.groups.is_empty() {
            return Ok(Turn::Done);
        }
        if self.warp.groups.iter().any(|g| matches!(g.state, State::Barrier(..))) {
            return Ok(Turn::Blocked);
        }
        // Lanes wait for lanes that wait elsewhere or never come.
        let at_barrier = |g: &Group| self.program.code[g.pc as usize].flow == Flow::Barrier;
        let shuffling = self.warp.groups.iter().find(|g| !at_barrier(g));
        let group = *shuffling.unwrap_or(&self.warp.groups[0]);
        self.at = group.pc;
        let lane = group.mask.trailing_zeros();
        let i = &self.program.code[group.pc as usize];
        match i.flow {
            Flow::Barrier => {
                let barrier = self.warp.registers.get::<u32>(i.a, lane);
                let missing = (self.warp.alive & !group.mask).count_ones();
                trouble(lane, FaultKind::DivergentBarrier { barrier, missing })
            }
            _ => {
                let member_mask = self.warp.registers.get::<u32>(i.m, lane);
                trouble(lane, FaultKind::DivergentShuffle { member_mask, active: group.mask })
            }
        }
    }

    /// Takes the lanes to run next: those at the lowest instruction, which makes lanes that parted meet again. When
    /// they have spun for long, those at the highest, so that lanes that wait for others do not starve them.
    fn choose(&mut self, tired: bool) -> Option<(u32, u32)> {
        let barriers = &self.barriers;
        for group in &mut self.warp.groups {
            if let State::Barrier(number, uses) = group.state {
                let barrier = &barriers[number as usize];
                if barrier.uses != uses {
                    let i = &self.program.code[group.pc as usize];
                    group.state = State::Ready;
                    group.pc += 1;
                    let (count, all, any) = barrier.result;
                    match i.mode & 7 {
                        2 => {
                            for lane in lanes(group.mask) {
                                self.warp.registers.set::<u32>(i.d, lane as u32, count);
                            }
                        }
                        3 => set_bits(&mut self.warp.predicates[i.p as usize], group.mask, all),
                        4 => set_bits(&mut self.warp.predicates[i.p as usize], group.mask, any),
                        _ => {}
                    }
                    if self.checks.races {
                        self.shared.order.wake(number, self.warp.index);
                        self.who.seen = self.shared.order.knows(self.warp.index);
                    }
                }
            }
        }
        let ready = self.warp.groups.iter().filter(|g| g.state == State::Ready).map(|g| g.pc);
        let pc = if tired { ready.max()? } else { ready.min()? };
        let mut mask = 0;
        self.warp.groups.retain(|g| {
            let here = g.pc == pc && matches!(g.state, State::Ready | State::Gathering);
            if here {
                mask |= g.mask;
            }
            !here
        });
        Some((pc, mask))
    }

    /// The nearest instruction beyond `pc` where other lanes stand.
    fn meeting(&self, pc: u32) -> u32 {
        let other =
            self.warp.groups.iter().filter(|g| matches!(g.state, State::Ready | State::Gathering) && g.pc >= pc);
        other.map(|g| g.pc).min().unwrap_or(u32::MAX)
    }

    /// Runs the lanes of `mask` from `pc` until they meet others, part, wait or end. Answers whether they ran long
    /// while others were ready.
    fn run_group(&mut self, at: &mut u32, lanes_here: &mut u32, end: u64) -> Result<bool, Box<Trouble>> {
        let program = self.program;
        let (mut pc, mask) = (*at, *lanes_here);
        let mut stop = self.meeting(pc);
        let patience =
            if self.warp.groups.is_empty() { u64::MAX } else { self.statistics.instructions.saturating_add(PATIENCE) };
        let end = end.min(patience);
        let mut first = true;
        loop {
            if pc >= stop && !first {
                break;
            }
            first = false;
            let i = &program.code[pc as usize];
            let live = mask & (self.warp.predicates[i.guard as usize] ^ i.flip);
            self.at = pc;
            self.statistics.instructions += 1;
            if self.statistics.instructions > end {
                *at = pc;
                self.statistics.instructions -= 1;
                if self.statistics.instructions >= self.limit {
                    return trouble(mask.trailing_zeros(), FaultKind::Limit { instructions: self.limit });
                }
                return Ok(self.statistics.instructions >= patience);
            }
            if i.flow == Flow::Plain {
                if live != 0 {
                    // SAFETY: the decoder chose a variant this processor can run.
                    unsafe { (i.run)(self, i, live)? };
                }
                pc += 1;
                continue;
            }
            if live == 0 {
                pc += 1;
                continue;
            }
            match i.flow {
                Flow::Plain => {}
                Flow::Branch | Flow::Call => {
                    if i.flow == Flow::Call {
                        for lane in lanes(live) {
                            self.warp.stacks[lane].push(pc + 1);
                        }
                    }
                    if live == mask {
                        pc = i.target;
                        stop = self.meeting(pc);
                        if stop == pc {
                            break;
                        }
                    } else {
                        self.warp.groups.push(Group { pc: i.target, mask: live, state: State::Ready });
                        *at = pc + 1;
                        *lanes_here = mask & !live;
                        return Ok(false);
                    }
                }
                Flow::Indexed => {
                    for lane in lanes(live) {
                        let index = self.warp.registers.get::<u32>(i.a, lane as u32);
                        if index >= u32::from(i.mode as u16) {
                            let what = format!("brx.idx: index {index} of {} targets", i.mode);
                            return trouble(lane as u32, FaultKind::BadOperand(what));
                        }
                        let target = program.targets[(i.list + index) as usize];
                        self.part(target, 1 << lane);
                    }
                    *at = pc + 1;
                    *lanes_here = mask & !live;
                    return Ok(false);
                }
                Flow::Return | Flow::Exit => {
                    for lane in lanes(live) {
                        let back = if i.flow == Flow::Return { self.warp.stacks[lane].pop() } else { None };
                        match back {
                            Some(target) => self.part(target, 1 << lane),
                            None => self.leave(1 << lane),
                        }
                    }
                    *at = pc + 1;
                    *lanes_here = mask & !live;
                    return Ok(false);
                }
                Flow::Warp => {
                    if self.gather(i, live)? {
                        pc += 1;
                        continue;
                    }
                    self.warp.groups.push(Group { pc, mask: live, state: State::Gathering });
                    *at = pc + 1;
                    *lanes_here = mask & !live;
                    return Ok(false);
                }
                Flow::WarpBarrier => {
                    self.warp_barrier(i, pc, live)?;
                    *at = pc + 1;
                    *lanes_here = mask & !live;
                    return Ok(false);
                }
                Flow::Barrier => {
                    self.barrier(i, pc, live)?;
                    *at = pc + 1;
                    *lanes_here = mask & !live;
                    return Ok(false);
                }
            }
        }
        *at = pc;
        Ok(false)
    }

    /// Adds lanes to the group at `pc`.
    fn part(&mut self, pc: u32, mask: u32) {
        match self.warp.groups.iter_mut().find(|g| g.pc == pc && g.state == State::Ready) {
            Some(group) => group.mask |= mask,
            None => self.warp.groups.push(Group { pc, mask, state: State::Ready }),
        }
    }

    fn leave(&mut self, mask: u32) {
        self.warp.alive &= !mask;
        self.exited += mask.count_ones();
        for lane in lanes(mask) {
            self.warp.stacks[lane].clear();
        }
        // Lanes that waited for these may go on.
        for group in &mut self.warp.groups {
            if matches!(group.state, State::Gathering | State::WarpBarrier(_)) {
                group.state = State::Ready;
            }
        }
    }

    /// Runs a `.sync` instruction if every lane that its member masks name is here; answers whether it did.
    fn gather(&mut self, i: &Instruction, live: u32) -> Result<bool, Box<Trouble>> {
        let mut left = live;
        while left != 0 {
            let lane = left.trailing_zeros();
            let members = self.warp.registers.get::<u32>(i.m, lane);
            if members >> lane & 1 == 0 {
                return trouble(lane, FaultKind::DivergentShuffle { member_mask: members, active: live });
            }
            if members & self.warp.alive & !live != 0 {
                return Ok(false);
            }
            left &= !members;
        }
        let mut left = live;
        while left != 0 {
            let lane = left.trailing_zeros();
            let members = self.warp.registers.get::<u32>(i.m, lane) & live;
            for other in lanes(members) {
                let theirs = self.warp.registers.get::<u32>(i.m, other as u32);
                if theirs & live != members {
                    return trouble(other as u32, FaultKind::DivergentShuffle { member_mask: theirs, active: live });
                }
            }
            // SAFETY: the decoder chose a variant this processor can run.
            unsafe { (i.run)(self, i, members)? };
            left &= !members;
        }
        Ok(true)
    }

    fn warp_barrier(&mut self, i: &Instruction, pc: u32, live: u32) -> Outcome {
        let mut left = live;
        while left != 0 {
            let lane = left.trailing_zeros();
            let members = self.warp.registers.get::<u32>(i.m, lane);
            if members >> lane & 1 == 0 {
                return trouble(lane, FaultKind::DivergentShuffle { member_mask: members, active: live });
            }
            let mine = left & members;
            left &= !mine;
            self.warp.groups.push(Group { pc, mask: mine, state: State::WarpBarrier(members) });
            let here = |g: &Group| g.state == State::WarpBarrier(members);
            let arrived = self.warp.groups.iter().filter(|g| here(g)).fold(0, |all, g| all | g.mask);
            if members & self.warp.alive & !arrived == 0 {
                for group in self.warp.groups.iter_mut().filter(|g| here(g)) {
                    group.state = State::Ready;
                    group.pc += 1;
                }
            }
        }
        Ok(())
    }

    fn barrier(&mut self, i: &Instruction, pc: u32, live: u32) -> Outcome {
        let (aligned, whole) = (i.mode & 8 != 0, i.mode & 16 != 0);
        let lane = live.trailing_zeros();
        if aligned && live != self.warp.alive {
            self.warp.groups.push(Group { pc, mask: live, state: State::Gathering });
            return Ok(());
        }
        let number = self.warp.registers.get::<u32>(i.a, lane);
        let Some(barrier) = self.barriers.get_mut(number as usize) else {
            return trouble(lane, FaultKind::BadOperand(format!("barrier {number} of 16")));
        };
        let threads: u32 = self.launch.block.iter().product();
        let expected = if whole { threads } else { self.warp.registers.get::<u32>(i.b, lane) };
        if !whole && (expected == 0 || expected % 32 != 0) {
            let what = format!("a barrier for {expected} threads: the count must be a multiple of 32");
            return trouble(lane, FaultKind::BadOperand(what));
        }
        if barrier.arrived == 0 {
            (barrier.expected, barrier.count, barrier.all, barrier.any) = (expected, 0, true, false);
        } else if barrier.expected != expected {
            let what = format!("barrier {number} is used for {} and for {expected} threads", barrier.expected);
            return trouble(lane, FaultKind::BadOperand(what));
        }
        barrier.arrived += if whole || !aligned { live.count_ones() } else { 32 };
        let values = self.warp.predicates[i.r as usize] ^ i.r_flip;
        barrier.count += (values & live).count_ones();
        barrier.all &= values & live == live;
        barrier.any |= values & live != 0;
        let uses = barrier.uses;
        if self.checks.races {
            self.shared.order.arrive(number, self.warp.index);
            self.who.seen = self.shared.order.knows(self.warp.index);
        }
        if barrier.arrived >= barrier.expected {
            barrier.result = (barrier.count, barrier.all, barrier.any);
            barrier.uses += 1;
            barrier.arrived = 0;
            self.statistics.barriers += 1;
            if self.checks.races {
                self.shared.order.complete(number);
            }
        }
        let state = if i.mode & 7 == 1 { State::Ready } else { State::Barrier(number, uses) };
        let pc = if i.mode & 7 == 1 { pc + 1 } else { pc };
        self.warp.groups.push(Group { pc, mask: live, state });
        Ok(())
    }

    /// Ends the launch: what it did. The registers' memory is kept for the next one.
    pub fn end(self) -> Statistics {
        for warp in self.warps {
            self.memory.spare.push(warp.registers.into_lines());
        }
        self.statistics
    }

    /// The thread index of a lane of the current warp.
    pub fn thread(&self, lane: u32) -> [u32; 3] {
        thread_index(&self.launch, self.warp.index * 32 + lane)
    }
}

pub(crate) fn set_bits(word: &mut u32, mask: u32, value: bool) {
    if value {
        *word |= mask;
    } else {
        *word &= !mask;
    }
}

fn thread_index(launch: &Launch, linear: u32) -> [u32; 3] {
    let [x, y, _] = launch.block;
    [linear % x, linear / x % y, linear / (x * y)]
}

fn special_value(special: Special, launch: &Launch, linear: u32, warps: u32, shared_bytes: u32) -> u64 {
    let lane = linear % 32;
    let value = match special {
        Special::Thread(axis) => thread_index(launch, linear)[axis as usize],
        Special::Threads(axis) => launch.block[axis as usize],
        // Filled for every block.
        Special::Block(_) => 0,
        Special::Blocks(axis) => launch.grid[axis as usize],
        Special::Lane => lane,
        Special::Warp => linear / 32,
        Special::Warps => warps,
        Special::MaskEqual => 1 << lane,
        Special::MaskLess => (1 << lane) - 1,
        Special::MaskLessEqual => (1 << lane) - 1 | 1 << lane,
        Special::MaskGreater => !((1 << lane) - 1 | 1 << lane),
        Special::MaskGreaterEqual => !((1 << lane) - 1),
        Special::DynamicShared => launch.dynamic_shared_bytes,
        Special::TotalShared => shared_bytes,
        Special::Zero => 0,
        Special::One => 1,
    };
    u64::from(value)
}

impl Machine<'_> {
    /// What the current warp knows of the others.
    fn know(&mut self) {
        if self.checks.races {
            self.who.warp = self.warp.index;
            self.who.seen = self.shared.order.knows(self.warp.index);
        }
    }

    /// `membar` and `fence`.
    pub fn fence(&mut self) {
        if self.checks.races {
            self.shared.order.fence(self.warp.index, self.statistics.instructions as u32);
            self.know();
        }
    }

    /// An atomic access: after a fence it releases what its warp did; it acquires what others released.
    pub fn synchronize(&mut self, touch: Touch, global: bool) {
        if touch.writes() {
            if let Some(tick) = self.shared.order.publish(self.warp.index)
                && let Some(release) = self.releases.last_mut()
                && global
            {
                *release = tick;
            }
        } else {
            self.who.acquired |= global;
            self.shared.order.acquire(self.warp.index);
            self.know();
        }
    }
}
