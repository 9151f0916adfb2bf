//! Steps the lanes of one warp: who runs next, who waits for whom.

use super::{Group, Machine, State, Turn, set_bits};
use crate::fault::{FaultKind, Outcome, Trouble, trouble};
use crate::instruction::{Flow, Instruction};
use crate::registers::lanes;

/// Warp instructions after which a warp lets the others of its block go on, so that one may wait for another.
const SLICE: u64 = 1 << 20;
/// Instructions after which lanes that were left behind get a turn.
const PATIENCE: u64 = 1 << 14;

impl Machine<'_> {
    /// Runs the lanes of the current warp until all exit or wait, or for a slice.
    pub(super) fn run_warp(&mut self) -> Result<Turn, Box<Trouble>> {
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
}
