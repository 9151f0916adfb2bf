//! `cp.async`: copies from global to shared memory that land when the thread that asked waits for them.

use crate::access::Touch;
use crate::fault::{FaultKind, Outcome, trouble};
use crate::instruction::Instruction;
use crate::machine::Machine;
use crate::registers::lanes;

/// A copy under way. Its bytes were read when it was asked for.
#[derive(Clone, Copy)]
pub(crate) struct Copy {
    lane: u32,
    group: u32,
    offset: u32,
    bytes: u32,
    data: [u8; 16],
}

/// The copies of one warp.
#[derive(Default)]
pub(crate) struct Copies {
    under_way: Vec<Copy>,
    /// Groups every lane has committed.
    committed: [u32; 32],
}

impl Copies {
    pub fn start_block(&mut self) {
        self.under_way.clear();
        self.committed = [0; 32];
    }
}

/// `cp.async`: `a` shared address, `b` global address (64 bits), `c` bytes to read if `count` is 1; `width` bytes land.
pub(crate) fn start(m: &mut Machine<'_>, i: &Instruction, mask: u32) -> Outcome {
    let bytes = u32::from(i.width);
    for lane in lanes(mask) {
        let bit = lane;
        let lane = lane as u32;
        let to = m.address(i, lane);
        let from = m.warp.registers.get::<u64>(i.b, lane).wrapping_add(i.mode as i32 as i64 as u64);
        let ignored = i.r != crate::decode::TRUE && (m.warp.predicates[i.r as usize] ^ i.r_flip) >> bit & 1 != 0;
        let wanted = match i.count {
            _ if ignored => 0,
            1 => m.warp.registers.get::<u32>(i.c, lane),
            _ => bytes,
        };
        if wanted > bytes {
            return trouble(lane, FaultKind::BadOperand(format!("cp.async of {bytes} bytes reads {wanted}")));
        }
        let mut data = [0; 16];
        if from & u64::from(bytes - 1) != 0 {
            return trouble(lane, FaultKind::Misaligned { address: from, bytes });
        }
        if to & u64::from(bytes - 1) != 0 {
            return trouble(lane, FaultKind::Misaligned { address: to, bytes });
        }
        if wanted > 0 {
            match m.touch_global(i.index, from, wanted, Touch::Read) {
                // SAFETY: `touch_global` answered `wanted` bytes, at most 16.
                Ok(at) => unsafe { std::ptr::copy_nonoverlapping(at, data.as_mut_ptr(), wanted as usize) },
                Err(kind) => return trouble(lane, kind),
            }
        }
        // The place is checked now and marked as being written; the bytes land with the wait.
        if let Err(kind) = m.touch_shared(to, bytes, Touch::Write) {
            return trouble(lane, kind);
        }
        let offset = to as u32;
        m.shared.begin_copy(offset, bytes);
        let group = m.warp.copies.committed[bit];
        m.warp.copies.under_way.push(Copy { lane, group, offset, bytes, data });
    }
    Ok(())
}

pub(crate) fn commit(m: &mut Machine<'_>, _: &Instruction, mask: u32) -> Outcome {
    for lane in lanes(mask) {
        m.warp.copies.committed[lane] += 1;
    }
    Ok(())
}

/// `cp.async.wait_group`: all but the latest `mode` groups land; `cp.async.wait_all` (`count` 1): all copies do.
pub(crate) fn wait(m: &mut Machine<'_>, i: &Instruction, mask: u32) -> Outcome {
    let mut kept = Vec::new();
    for copy in std::mem::take(&mut m.warp.copies.under_way) {
        let committed = m.warp.copies.committed[copy.lane as usize];
        let lands = mask >> copy.lane & 1 != 0 && (i.count == 1 || copy.group.saturating_add(i.mode) < committed);
        if !lands {
            kept.push(copy);
            continue;
        }
        m.shared.end_copy(copy.offset, copy.bytes);
        match m.touch_shared(u64::from(copy.offset), copy.bytes, Touch::Write) {
            // SAFETY: `touch_shared` answered `bytes` bytes, at most 16.
            Ok(to) => unsafe { std::ptr::copy_nonoverlapping(copy.data.as_ptr(), to, copy.bytes as usize) },
            Err(kind) => return trouble(copy.lane, kind),
        }
    }
    m.warp.copies.under_way = kept;
    Ok(())
}
