//! Loads, stores and atomics: every address is checked here.

use crate::fault::{FaultKind, Outcome, trouble};
use crate::instruction::Instruction;
use crate::machine::Machine;
use crate::registers::{ALL, Lane, lanes};
use crate::types::{LOCAL_WINDOW, PARAMETER_WINDOW, SHARED_WINDOW, Space, WINDOW_BYTES};

/// The result goes to a 64-bit register.
pub(crate) const TO_WIDE: u32 = 1;
/// The value is sign-extended to its register.
pub(crate) const SIGNED: u32 = 2;
/// Other threads may touch the same place at the same time: volatile, relaxed and so on, and atomics.
pub(crate) const STRONG: u32 = 4;
/// A fence comes with it: what the thread did before is seen by those who read the place.
pub(crate) const RELEASE: u32 = 8;

/// A slot of a vector that nobody wants, `_`.
pub(crate) const SINK: u32 = u32::MAX;

pub(crate) const GENERIC: u8 = 0;
pub(crate) const GLOBAL: u8 = 1;
pub(crate) const SHARED: u8 = 2;
pub(crate) const LOCAL: u8 = 3;
pub(crate) const PARAMETER: u8 = 4;

/// What an access does to memory, for the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Touch {
    Read,
    Write,
    StrongRead,
    StrongWrite,
}

impl Touch {
    pub fn writes(self) -> bool {
        matches!(self, Touch::Write | Touch::StrongWrite)
    }

    pub fn strong(self) -> bool {
        matches!(self, Touch::StrongRead | Touch::StrongWrite)
    }
}

/// Splits a generic address.
fn place(address: u64) -> (Space, u64) {
    match address {
        SHARED_WINDOW.. if address < SHARED_WINDOW + WINDOW_BYTES => (Space::Shared, address - SHARED_WINDOW),
        LOCAL_WINDOW.. if address < LOCAL_WINDOW + WINDOW_BYTES => (Space::Local, address - LOCAL_WINDOW),
        PARAMETER_WINDOW.. if address < PARAMETER_WINDOW + WINDOW_BYTES => {
            (Space::Parameter, address - PARAMETER_WINDOW)
        }
        _ => (Space::Global, address),
    }
}

impl Machine<'_> {
    #[inline(always)]
    pub fn address(&self, i: &Instruction, lane: u32) -> u64 {
        let base = if i.wide {
            self.warp.registers.get::<u64>(i.a, lane)
        } else {
            u64::from(self.warp.registers.get::<u32>(i.a, lane))
        };
        base.wrapping_add(i.offset as u64)
    }

    /// Checks `bytes` bytes (1, 2, 4, 8 or 16) at `address` for a lane's access; answers where they are.
    #[inline(always)]
    pub fn touch<const SPACE: u8>(
        &mut self,
        index: u32,
        lane: u32,
        address: u64,
        bytes: u32,
        touch: Touch,
    ) -> Result<*mut u8, FaultKind> {
        if address & u64::from(bytes - 1) != 0 {
            return Err(FaultKind::Misaligned { address, bytes });
        }
        match SPACE {
            GLOBAL => self.touch_global(index, address, bytes, touch),
            SHARED => self.touch_shared(address, bytes, touch),
            LOCAL => self.touch_local(lane, address, bytes),
            PARAMETER => self.touch_parameter(address, bytes, touch),
            _ => match place(address) {
                (Space::Shared, offset) => self.touch_shared(offset, bytes, touch),
                (Space::Local, offset) => self.touch_local(lane, offset, bytes),
                (Space::Parameter, offset) => self.touch_parameter(offset, bytes, touch),
                _ => self.touch_global(index, address, bytes, touch),
            },
        }
    }

    /// Bytes of global memory, whatever their alignment.
    // Not inlined: it would stand in every load and store for every space and width, and take long to compile.
    #[inline(never)]
    pub fn touch_global(&mut self, index: u32, address: u64, bytes: u32, touch: Touch) -> Result<*mut u8, FaultKind> {
        let (at, offset) = self.memory.locate(&mut self.hints[index as usize], address, bytes)?;
        if touch.strong() && self.checks.races {
            self.synchronize(touch, true);
        }
        let checks = self.checks;
        let allocation = self.memory.allocation(at);
        let length = bytes as usize;
        if touch.writes() {
            if allocation.read_only {
                return Err(FaultKind::ReadOnly { address });
            }
            allocation.mark_written(offset, length);
            self.statistics.bytes_written += u64::from(bytes);
        } else {
            if checks.uninitialized && !allocation.is_written(offset, length) {
                return Err(FaultKind::Uninitialized { address, bytes });
            }
            self.statistics.bytes_read += u64::from(bytes);
        }
        let data = allocation.data[offset..offset + length].as_mut_ptr();
        if checks.races && !allocation.read_only {
            allocation.marks.prepare(allocation.data.len(), self.program.grain);
            let tick = self.statistics.instructions as u32;
            let race = allocation.marks.touch(offset, length, touch, &self.who, tick, Some(&self.releases));
            if let Some((place, other)) = race {
                let address = address + (place - offset) as u64;
                return Err(FaultKind::Race { address, shared: false, other });
            }
        }
        Ok(data)
    }

    /// Bytes of shared memory, whatever their alignment.
    #[inline(never)]
    pub fn touch_shared(&mut self, offset: u64, bytes: u32, touch: Touch) -> Result<*mut u8, FaultKind> {
        let (at, length) = (offset as usize, bytes as usize);
        let size = self.shared.data.len();
        if offset >= size as u64 || length > size - at {
            return Err(FaultKind::SharedOutOfBounds { offset, bytes, shared_bytes: size as u32 });
        }
        if touch.strong() && self.checks.races {
            self.synchronize(touch, false);
        }
        let shared = &mut self.shared;
        if shared.is_copied(at, length) {
            return Err(FaultKind::AsyncNotWaited { offset });
        }
        if touch.writes() {
            shared.mark_written(at, length);
        } else if self.checks.uninitialized && !shared.is_written(at, length) {
            return Err(FaultKind::SharedUninitialized { offset, bytes });
        }
        if self.checks.races {
            let tick = self.statistics.instructions as u32;
            if let Some((place, other)) = shared.marks.touch(at, length, touch, &self.who, tick, None) {
                return Err(FaultKind::Race { address: place as u64, shared: true, other });
            }
        }
        Ok(shared.data[at..at + length].as_mut_ptr())
    }

    #[inline(always)]
    fn touch_local(&mut self, lane: u32, offset: u64, bytes: u32) -> Result<*mut u8, FaultKind> {
        let size = self.local_bytes;
        if offset >= u64::from(size) || bytes > size - offset as u32 {
            return Err(FaultKind::LocalOutOfBounds { offset, bytes });
        }
        let at = lane as usize * size as usize + offset as usize;
        Ok(self.warp.local[at..at + bytes as usize].as_mut_ptr())
    }

    #[inline(always)]
    fn touch_parameter(&mut self, offset: u64, bytes: u32, touch: Touch) -> Result<*mut u8, FaultKind> {
        if touch.writes() {
            return Err(FaultKind::ReadOnly { address: offset });
        }
        let end = offset.saturating_add(u64::from(bytes));
        match self.parameters.get(offset as usize..end as usize) {
            // Only ever read through: writes were refused above.
            Some(found) => Ok(found.as_ptr().cast_mut()),
            None => Err(FaultKind::ParameterOutOfBounds { offset, bytes }),
        }
    }

    /// A space known only when the kernel runs.
    pub fn touch_in(
        &mut self,
        space: Space,
        index: u32,
        lane: u32,
        address: u64,
        bytes: u32,
        touch: Touch,
    ) -> Result<*mut u8, FaultKind> {
        match space {
            Space::Global | Space::Constant => self.touch::<GLOBAL>(index, lane, address, bytes, touch),
            Space::Shared => self.touch::<SHARED>(index, lane, address, bytes, touch),
            Space::Local => self.touch::<LOCAL>(index, lane, address, bytes, touch),
            Space::Parameter => self.touch::<PARAMETER>(index, lane, address, bytes, touch),
            Space::Generic => self.touch::<GENERIC>(index, lane, address, bytes, touch),
        }
    }
}

/// How the addresses of a whole warp lie.
#[derive(Clone, Copy)]
enum Pattern {
    /// All lanes have the same address.
    Same,
    /// Every lane begins where the one before ends.
    Row,
}

impl Machine<'_> {
    /// Whether all lanes hold the same address, and whether each holds the one before plus `bytes`.
    #[inline(always)]
    fn spread<T: Lane + Into<u64>>(&self, slot: u32, bytes: u32) -> (bool, bool) {
        let get = |lane| -> u64 { self.warp.registers.get::<T>(slot, lane).into() };
        let first = get(0);
        let (mut same, mut row) = (0, 0);
        for lane in 0..32 {
            same |= get(lane) ^ first;
            row |= get(lane).wrapping_sub(u64::from(lane * bytes)) ^ first;
        }
        (same == 0, row == 0)
    }

    /// Checks the accesses of all lanes at once where their addresses allow it; answers where the first lane's bytes
    /// are and how far the next lane's are. Nothing if lane after lane has to be looked at.
    #[inline(always)]
    fn touch_warp<const SPACE: u8>(
        &mut self,
        i: &Instruction,
        bytes: u32,
        touch: Touch,
    ) -> Result<Option<(*mut u8, usize)>, FaultKind> {
        if SPACE == LOCAL {
            return Ok(None);
        }
        let first = self.address(i, 0);
        let (same, row) = if i.wide { self.spread::<u64>(i.a, bytes) } else { self.spread::<u32>(i.a, bytes) };
        let pattern = match (same, row) {
            (true, _) if !touch.writes() => Pattern::Same,
            (_, true) => Pattern::Row,
            _ => return Ok(None),
        };
        if first & u64::from(bytes - 1) != 0 {
            return Ok(None);
        }
        let (total, step) = match pattern {
            Pattern::Same => (bytes, 0),
            Pattern::Row => (32 * bytes, bytes as usize),
        };
        let (space, at) = match SPACE {
            GLOBAL => (Space::Global, first),
            SHARED => (Space::Shared, first),
            PARAMETER => (Space::Parameter, first),
            _ => place(first),
        };
        let found = match space {
            Space::Global | Space::Constant => self.touch_global(i.index, at, total, touch),
            Space::Shared => self.touch_shared(at, total, touch),
            Space::Parameter => self.touch_parameter(at, total, touch),
            _ => return Ok(None),
        };
        match found {
            Ok(found) => {
                if step == 0 && matches!(space, Space::Global | Space::Constant) {
                    self.statistics.bytes_read += 31 * u64::from(bytes);
                }
                Ok(Some((found, step)))
            }
            // These have left marks behind; others are found again lane by lane.
            Err(kind @ FaultKind::Race { .. }) => Err(kind),
            Err(_) => Ok(None),
        }
    }

    /// Where a racing write of all lanes goes astray.
    #[cold]
    fn racing_lane(&self, i: &Instruction, bytes: u32, kind: &FaultKind) -> u32 {
        let FaultKind::Race { address, shared, .. } = kind else { return 0 };
        let of = |lane| match place(self.address(i, lane)) {
            (Space::Shared, offset) if *shared => offset,
            (_, address) => address,
        };
        (0..32).find(|&lane| (of(lane)..of(lane) + u64::from(bytes)).contains(address)).unwrap_or(0)
    }

    /// A racing write that changes nothing is none: many warps may store the same flag. Answers where to write then.
    #[cold]
    fn harmless(&mut self, i: &Instruction, lane: u32, kind: FaultKind) -> Result<*mut u8, FaultKind> {
        let program = self.program;
        let slots = &program.operands[i.list as usize..][..usize::from(i.count)];
        let width = usize::from(i.width);
        let bytes = (width * slots.len()) as u32;
        let checks = std::mem::replace(&mut self.checks, crate::launch::Checks { races: false, uninitialized: false });
        let found = self.touch_in(i.space, i.index, lane, self.address(i, lane), bytes, Touch::Write);
        self.checks = checks;
        let found = found?;
        for (k, &slot) in slots.iter().enumerate() {
            let value = if i.mode & TO_WIDE != 0 {
                self.warp.registers.get::<u64>(slot, lane)
            } else {
                u64::from(self.warp.registers.get::<u32>(slot, lane))
            };
            for (at, byte) in value.to_le_bytes().into_iter().enumerate().take(width) {
                // SAFETY: `touch_in` answered room for all elements.
                if unsafe { *found.add(k * width + at) } != byte {
                    return Err(kind);
                }
            }
        }
        Ok(found)
    }
}

/// `ld`: `count` elements of WIDTH bytes a lane.
#[inline(always)]
pub(crate) fn load<const SPACE: u8, const WIDTH: usize>(m: &mut Machine, i: &Instruction, mask: u32) -> Outcome {
    let program = m.program;
    let slots = &program.operands[i.list as usize..i.list as usize + usize::from(i.count)];
    let bytes = (WIDTH * slots.len()) as u32;
    let touch = if i.mode & STRONG != 0 { Touch::StrongRead } else { Touch::Read };
    if mask == ALL {
        match m.touch_warp::<SPACE>(i, bytes, touch) {
            Ok(None) => {}
            Err(kind) => return trouble(m.racing_lane(i, bytes, &kind), kind),
            Ok(Some((from, step))) => {
                for (k, &slot) in slots.iter().enumerate().filter(|(_, slot)| **slot != SINK) {
                    for lane in 0..32 {
                        // SAFETY: `touch_warp` answered room for all elements of all lanes.
                        let value = unsafe { get::<WIDTH>(from.add(lane * step + k * WIDTH)) };
                        put_register::<WIDTH>(m, i, slot, lane as u32, value);
                    }
                }
                return Ok(());
            }
        }
    }
    for lane in lanes(mask) {
        let lane = lane as u32;
        let address = m.address(i, lane);
        let from = match m.touch::<SPACE>(i.index, lane, address, bytes, touch) {
            Ok(from) => from,
            Err(kind) => return trouble(lane, kind),
        };
        for (k, &slot) in slots.iter().enumerate() {
            if slot == SINK {
                continue;
            }
            // SAFETY: `touch` answered room for all elements.
            let value = unsafe { get::<WIDTH>(from.add(k * WIDTH)) };
            put_register::<WIDTH>(m, i, slot, lane, value);
        }
    }
    Ok(())
}

#[inline(always)]
fn put_register<const WIDTH: usize>(m: &mut Machine, i: &Instruction, slot: u32, lane: u32, value: u64) {
    let value = if i.mode & SIGNED != 0 { extend(value, WIDTH) } else { value };
    if i.mode & TO_WIDE != 0 {
        m.warp.registers.set::<u64>(slot, lane, value);
    } else {
        m.warp.registers.set::<u32>(slot, lane, value as u32);
    }
}

#[inline(always)]
fn get_register(m: &Machine, i: &Instruction, slot: u32, lane: u32) -> u64 {
    if i.mode & TO_WIDE != 0 {
        m.warp.registers.get::<u64>(slot, lane)
    } else {
        u64::from(m.warp.registers.get::<u32>(slot, lane))
    }
}

/// `st`: `count` elements of WIDTH bytes a lane.
#[inline(always)]
pub(crate) fn store<const SPACE: u8, const WIDTH: usize>(m: &mut Machine, i: &Instruction, mask: u32) -> Outcome {
    let program = m.program;
    let slots = &program.operands[i.list as usize..i.list as usize + usize::from(i.count)];
    let bytes = (WIDTH * slots.len()) as u32;
    let touch = if i.mode & STRONG != 0 { Touch::StrongWrite } else { Touch::Write };
    if i.mode & RELEASE != 0 {
        m.fence();
    }
    if mask == ALL {
        let found = match m.touch_warp::<SPACE>(i, bytes, touch) {
            Ok(found) => found,
            Err(kind) => {
                let lane = m.racing_lane(i, bytes, &kind);
                match m.harmless(i, lane, kind) {
                    Ok(at) => Some((at.wrapping_sub(lane as usize * bytes as usize), bytes as usize)),
                    Err(kind) => return trouble(lane, kind),
                }
            }
        };
        if let Some((to, step)) = found {
            for (k, &slot) in slots.iter().enumerate() {
                for lane in 0..32 {
                    let value = get_register(m, i, slot, lane as u32);
                    // SAFETY: `touch_warp` answered room for all elements of all lanes.
                    unsafe { put::<WIDTH>(to.add(lane * step + k * WIDTH), value) };
                }
            }
            return Ok(());
        }
    }
    for lane in lanes(mask) {
        let lane = lane as u32;
        let address = m.address(i, lane);
        let found = m.touch::<SPACE>(i.index, lane, address, bytes, touch);
        let to = match found {
            Err(kind @ FaultKind::Race { .. }) => m.harmless(i, lane, kind),
            other => other,
        };
        let to = match to {
            Ok(to) => to,
            Err(kind) => return trouble(lane, kind),
        };
        for (k, &slot) in slots.iter().enumerate() {
            let value = get_register(m, i, slot, lane);
            // SAFETY: `touch` answered room for all elements.
            unsafe { put::<WIDTH>(to.add(k * WIDTH), value) };
        }
    }
    Ok(())
}

/// # Safety
/// WIDTH (1, 2, 4 or 8) bytes can be read.
#[inline(always)]
pub(crate) unsafe fn get<const WIDTH: usize>(from: *const u8) -> u64 {
    // SAFETY: the caller's promise.
    unsafe {
        match WIDTH {
            1 => u64::from(*from),
            2 => u64::from(from.cast::<u16>().read_unaligned()),
            4 => u64::from(from.cast::<u32>().read_unaligned()),
            _ => from.cast::<u64>().read_unaligned(),
        }
    }
}

/// # Safety
/// WIDTH (1, 2, 4 or 8) bytes can be written.
#[inline(always)]
pub(crate) unsafe fn put<const WIDTH: usize>(to: *mut u8, value: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        match WIDTH {
            1 => *to = value as u8,
            2 => to.cast::<u16>().write_unaligned(value as u16),
            4 => to.cast::<u32>().write_unaligned(value as u32),
            _ => to.cast::<u64>().write_unaligned(value),
        }
    }
}

/// Sign-extends the low `width` bytes.
#[inline(always)]
pub(crate) fn extend(value: u64, width: usize) -> u64 {
    let shift = 64 - 8 * width as u32;
    ((value << shift) as i64 >> shift) as u64
}
