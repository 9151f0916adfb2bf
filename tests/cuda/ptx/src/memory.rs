//! Global memory of the device: allocations at addresses of its own.

use crate::fault::FaultKind;
use crate::launch::{Checks, Order};
use crate::registers::Line;
use crate::types::GLOBAL_START;

/// Bytes between allocations: an access that misses one hits nothing.
const GUARD: u64 = 4096;
const ALIGN: u64 = 256;

/// No room left for an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes do not fit: {live} of {capacity} are in use")]
pub struct OutOfMemory {
    pub bytes: u64,
    pub live: u64,
    pub capacity: u64,
}

/// An address of the host's that no allocation holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes at {address:#x} are not device memory{}", if *.freed { ": they were freed" } else { "" })]
pub struct BadAddress {
    pub address: u64,
    pub bytes: u64,
    pub freed: bool,
}

/// Device memory. Addresses begin at 0x7000_0000_0000, are never given twice, and are never valid on the host.
///
/// It also holds how kernels run on it: which checks, which order of blocks, how many instructions at most.
pub struct Memory {
    /// Sorted by address, since addresses only grow.
    allocations: Vec<Allocation>,
    /// Start and bytes of what was freed.
    freed: Vec<(u64, u64)>,
    next: u64,
    live: u64,
    capacity: u64,
    pub(crate) checks: Checks,
    pub(crate) order: Order,
    pub(crate) limit: u64,
    /// Register memory of the last launch.
    pub(crate) spare: Vec<Vec<Line>>,
    /// Blocks that ever ran here: their numbers stamp the marks of race detection.
    pub(crate) blocks: u64,
}

pub(crate) struct Allocation {
    start: u64,
    pub data: Vec<u8>,
    /// One bit a byte: written yet?
    written: Vec<u8>,
    pub read_only: bool,
    pub marks: crate::race::Marks,
}

impl Memory {
    /// An empty memory that holds at most `capacity_bytes` at a time.
    pub fn new(capacity_bytes: u64) -> Memory {
        Memory::starting_at(0, capacity_bytes)
    }

    /// The same, with addresses that begin `offset` bytes higher, so that those of several devices differ.
    pub fn starting_at(offset: u64, capacity_bytes: u64) -> Memory {
        Memory {
            allocations: Vec::new(),
            freed: Vec::new(),
            next: GLOBAL_START + offset,
            live: 0,
            capacity: capacity_bytes,
            checks: Checks::default(),
            order: Order::default(),
            limit: u64::MAX,
            spare: Vec::new(),
            blocks: 0,
        }
    }

    /// What later launches look for. All checks are on at first.
    pub fn set_checks(&mut self, checks: Checks) {
        self.checks = checks;
    }

    /// In which order later launches run their blocks.
    pub fn set_order(&mut self, order: Order) {
        self.order = order;
    }

    /// How many warp instructions a later launch may execute before it faults.
    pub fn set_instruction_limit(&mut self, instructions: u64) {
        self.limit = instructions;
    }

    /// Room for `bytes`, at an address that is a multiple of 256. What it holds counts as never written.
    pub fn allocate(&mut self, bytes: u64) -> Result<u64, OutOfMemory> {
        let refused = OutOfMemory { bytes, live: self.live, capacity: self.capacity };
        let live = self.live.checked_add(bytes).filter(|&live| live <= self.capacity).ok_or(refused)?;
        let length = usize::try_from(bytes).map_err(|_| refused)?;
        let mut data = Vec::new();
        let mut written = Vec::new();
        // Room for an access of 16 bytes to look at the bits of all of them at once.
        let bits = length.div_ceil(8) + 8;
        if data.try_reserve_exact(length).is_err() || written.try_reserve_exact(bits).is_err() {
            return Err(refused);
        }
        // What nobody wrote is not zero: a test that forgets the check still sees nonsense.
        data.resize(length, 0xa5);
        written.resize(bits, 0);
        let start = self.next;
        self.next = (start + bytes + GUARD).next_multiple_of(ALIGN);
        self.live = live;
        self.allocations.push(Allocation {
            start,
            data,
            written,
            read_only: false,
            marks: crate::race::Marks::default(),
        });
        Ok(start)
    }

    /// Gives an allocation back; `address` must be its start.
    pub fn free(&mut self, address: u64) -> Result<(), BadAddress> {
        match self.allocations.binary_search_by_key(&address, |a| a.start) {
            Ok(at) => {
                let gone = self.allocations.remove(at);
                self.live -= gone.data.len() as u64;
                self.freed.push((address, gone.data.len() as u64));
                Ok(())
            }
            Err(_) => Err(self.bad(address, 0)),
        }
    }

    /// Copies device memory to the host. Bytes never written may be copied.
    pub fn read(&self, address: u64, into: &mut [u8]) -> Result<(), BadAddress> {
        let (at, offset) = self.find(address, into.len() as u64)?;
        into.copy_from_slice(&self.allocations[at].data[offset..offset + into.len()]);
        Ok(())
    }

    /// Copies host memory to the device.
    pub fn write(&mut self, address: u64, from: &[u8]) -> Result<(), BadAddress> {
        let (at, offset) = self.find(address, from.len() as u64)?;
        let allocation = &mut self.allocations[at];
        allocation.data[offset..offset + from.len()].copy_from_slice(from);
        mark(&mut allocation.written, offset, from.len());
        Ok(())
    }

    /// Sets `bytes` bytes to `value`.
    pub fn fill(&mut self, address: u64, bytes: u64, value: u8) -> Result<(), BadAddress> {
        let (at, offset) = self.find(address, bytes)?;
        let allocation = &mut self.allocations[at];
        allocation.data[offset..offset + bytes as usize].fill(value);
        mark(&mut allocation.written, offset, bytes as usize);
        Ok(())
    }

    /// Copies within device memory, unwritten bytes included; the ranges may overlap.
    pub fn copy(&mut self, to: u64, from: u64, bytes: u64) -> Result<(), BadAddress> {
        let (source, at) = self.find(from, bytes)?;
        let (target, to_at) = self.find(to, bytes)?;
        let length = bytes as usize;
        let values = self.allocations[source].data[at..at + length].to_vec();
        let known: Vec<bool> = (at..at + length).map(|i| is_marked(&self.allocations[source].written, i, 1)).collect();
        let allocation = &mut self.allocations[target];
        allocation.data[to_at..to_at + length].copy_from_slice(&values);
        for (i, known) in known.into_iter().enumerate() {
            let (byte, bit) = ((to_at + i) / 8, 1 << ((to_at + i) % 8));
            if known {
                allocation.written[byte] |= bit;
            } else {
                allocation.written[byte] &= !bit;
            }
        }
        Ok(())
    }

    /// How many allocations live, and their bytes.
    pub fn live(&self) -> (usize, u64) {
        (self.allocations.len(), self.live)
    }

    /// Start and bytes of the allocation that holds `address`.
    pub fn range_of(&self, address: u64) -> Option<(u64, u64)> {
        let (at, _) = self.find(address, 0).ok()?;
        let allocation = &self.allocations[at];
        Some((allocation.start, allocation.data.len() as u64))
    }

    pub(crate) fn protect(&mut self, address: u64) {
        if let Ok((at, _)) = self.find(address, 0) {
            self.allocations[at].read_only = true;
        }
    }

    fn find(&self, address: u64, bytes: u64) -> Result<(usize, usize), BadAddress> {
        let at = self.allocations.partition_point(|a| a.start <= address);
        if let Some(at) = at.checked_sub(1) {
            let allocation = &self.allocations[at];
            let offset = address - allocation.start;
            let length = allocation.data.len() as u64;
            if offset <= length && bytes <= length - offset && (offset < length || offset == 0) {
                return Ok((at, offset as usize));
            }
        }
        Err(self.bad(address, bytes))
    }

    fn bad(&self, address: u64, bytes: u64) -> BadAddress {
        let freed = self.freed.iter().any(|&(start, length)| (start..start + length.max(1)).contains(&address));
        BadAddress { address, bytes, freed }
    }

    /// Where a kernel's access goes: allocation and offset. `hint` is the allocation that the instruction hit last.
    #[inline(always)]
    pub(crate) fn locate(&self, hint: &mut u32, address: u64, bytes: u32) -> Result<(usize, usize), FaultKind> {
        if let Some(allocation) = self.allocations.get(*hint as usize) {
            let offset = address.wrapping_sub(allocation.start);
            let length = allocation.data.len() as u64;
            if offset < length && u64::from(bytes) <= length - offset {
                return Ok((*hint as usize, offset as usize));
            }
        }
        self.locate_slowly(hint, address, bytes)
    }

    #[cold]
    fn locate_slowly(&self, hint: &mut u32, address: u64, bytes: u32) -> Result<(usize, usize), FaultKind> {
        match self.find(address, u64::from(bytes)) {
            Ok((at, offset)) if bytes > 0 => {
                *hint = at as u32;
                Ok((at, offset))
            }
            Err(BadAddress { freed: true, .. }) => Err(FaultKind::UseAfterFree { address, bytes }),
            _ => Err(FaultKind::OutOfBounds { address, bytes }),
        }
    }

    #[inline(always)]
    pub(crate) fn allocation(&mut self, at: usize) -> &mut Allocation {
        &mut self.allocations[at]
    }
}

impl Allocation {
    #[inline(always)]
    pub fn is_written(&self, offset: usize, bytes: usize) -> bool {
        is_marked(&self.written, offset, bytes)
    }

    #[inline(always)]
    pub fn mark_written(&mut self, offset: usize, bytes: usize) {
        mark(&mut self.written, offset, bytes);
    }
}

/// Whether the bits of `bytes` bytes at `offset` are all set. The bits must go on 8 bytes beyond the last.
#[inline(always)]
pub(crate) fn is_marked(bits: &[u8], offset: usize, bytes: usize) -> bool {
    let (mut at, mut left) = (offset, bytes);
    loop {
        let now = left.min(32);
        let wanted = (1u64 << now) - 1;
        if window(bits, at / 8) >> (at % 8) & wanted != wanted {
            return false;
        }
        left -= now;
        if left == 0 {
            return true;
        }
        at += now;
    }
}

#[inline(always)]
fn window(bits: &[u8], at: usize) -> u64 {
    bits.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// Sets the bits of `bytes` bytes at `offset`.
#[inline(always)]
pub(crate) fn mark(bits: &mut [u8], offset: usize, bytes: usize) {
    if bytes <= 16 {
        if let Some(word) = bits.get_mut(offset / 8..offset / 8 + 8) {
            let word: &mut [u8; 8] = match word.try_into() {
                Ok(word) => word,
                Err(_) => return,
            };
            *word = (u64::from_le_bytes(*word) | ((1u64 << bytes) - 1) << (offset % 8)).to_le_bytes();
        }
        return;
    }
    let (mut at, end) = (offset, offset + bytes);
    while at < end && at % 8 != 0 {
        bits[at / 8] |= 1 << (at % 8);
        at += 1;
    }
    let whole = (end - at) / 8;
    bits[at / 8..at / 8 + whole].fill(0xff);
    at += whole * 8;
    while at < end {
        bits[at / 8] |= 1 << (at % 8);
        at += 1;
    }
}
