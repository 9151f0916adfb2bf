//! Runs the blocks of a launch: warps take turns, lanes of a warp step together.

mod schedule;

use crate::access::Touch;
use crate::fault::{FaultKind, Outcome, trouble};
use crate::instruction::{Constant, Program, Special, Value};
use crate::launch::{Checks, Launch, Statistics};
use crate::memory::Memory;
use crate::race::Who;
use crate::registers::{ALL, Line, Registers};
use crate::shared::Shared;

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

/// What is the same for every launch of a module.
#[derive(Clone, Copy)]
pub(crate) struct Code<'m> {
    pub program: &'m Program,
    pub constants: &'m [Line],
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
        Code { program, constants }: Code<'m>,
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
