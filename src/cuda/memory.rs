//! Working memory on a device. What a call gives back is kept for the next one on the same stream, which may use it without
//! waiting: work on one stream is done in order. So a call that was made once before allocates nothing.

use super::device::Device;
use super::driver::{Driver, Handle};
use crate::error::{Error, Result};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The memory of one context.
pub struct Pool {
    device: Arc<Device>,
    kept: Mutex<Kept>,
}

/// Bytes of idle memory that are kept when more is allocated: what was used last.
const MOST_IDLE: u64 = 2 << 30;

#[derive(Default)]
struct Kept {
    /// Blocks that nobody holds, by the [`Lane`] they were used on and their size.
    idle: HashMap<(Lane, u64), Idle>,
    /// Blocks whose addresses are in a captured graph, which may run again at any time: they are never freed before the pool.
    captured: HashSet<u64>,
    /// Counts uses.
    clock: u64,
}

/// Blocks of one lane and size.
#[derive(Default)]
struct Idle {
    addresses: Vec<u64>,
    /// When one was last taken or given back, by the clock.
    used: u64,
}

impl Kept {
    /// The blocks of a lane and a size, which are in use now.
    fn of(&mut self, lane: Lane, size: u64) -> &mut Idle {
        self.clock += 1;
        let idle = self.idle.entry((lane, size)).or_default();
        idle.used = self.clock;
        idle
    }

    /// Takes out what no graph knows and was not used for longest, until at most `most` bytes are left of it.
    fn beyond(&mut self, most: u64) -> Vec<u64> {
        let Self { idle, captured, .. } = self;
        let free = |idle: &Idle| idle.addresses.iter().filter(|address| !captured.contains(address)).count() as u64;
        let mut left: u64 = idle.iter().map(|((_, size), idle)| size * free(idle)).sum();
        let mut by_use: Vec<_> = idle.iter().map(|(key, idle)| (idle.used, *key)).collect();
        by_use.sort_unstable();
        let mut out = Vec::new();
        for (_, key) in by_use {
            if left <= most {
                break;
            }
            if let Some(Idle { addresses, .. }) = idle.get_mut(&key) {
                let before = out.len();
                out.extend(addresses.extract_if(.., |address| !captured.contains(address)));
                left -= key.1 * (out.len() - before) as u64;
            }
        }
        idle.retain(|_, idle| !idle.addresses.is_empty());
        out
    }
}

/// Work that is done in order. A stream, but for the per-thread default stream: it is another one in each thread.
pub type Lane = usize;

/// The lane of a stream of this thread.
pub fn lane(stream: Handle) -> Lane {
    /// `CU_STREAM_PER_THREAD`.
    const PER_THREAD: Handle = 2;
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        // No stream is at these addresses.
        static OWN: Lane = SHARED - 1 - THREADS.fetch_add(1, Ordering::Relaxed);
    }
    if stream == PER_THREAD { OWN.with(|own| *own) } else { stream }
}

/// In place of a lane: memory that work on any stream uses. It is not kept, but freed, which waits for all of them.
pub const SHARED: Lane = Lane::MAX;

/// While it lives, memory may be taken and freed on this thread though another thread captures a stream: that has nothing to do
/// with ours (`cuThreadExchangeStreamCaptureMode`).
struct Relaxed(&'static Driver, i32);

impl Relaxed {
    fn new(driver: &'static Driver) -> Self {
        const RELAXED: i32 = 2;
        let mut mode = RELAXED;
        // SAFETY: `mode` is read and written. Where it fails nothing is exchanged.
        let _ = unsafe { driver.exchange_capture_mode(&raw mut mode) };
        Self(driver, mode)
    }
}

impl Drop for Relaxed {
    fn drop(&mut self) {
        // SAFETY: as above.
        let _ = unsafe { self.0.exchange_capture_mode(&raw mut self.1) };
    }
}

/// A piece of device memory, given back when it is dropped.
pub struct Block {
    pool: Arc<Pool>,
    lane: Lane,
    /// 0 of an empty block.
    address: u64,
    size: u64,
}

/// Sizes are rounded up to an eighth of a power of two, so that batches of nearly one size share blocks.
fn size_class(bytes: u64) -> Option<u64> {
    const LEAST: u64 = 512;
    let bytes = bytes.max(LEAST);
    let step = (1 << bytes.ilog2()) / 8;
    bytes.checked_next_multiple_of(step).filter(|size| *size <= isize::MAX as u64)
}

impl Pool {
    pub fn new(device: Arc<Device>) -> Arc<Self> {
        Arc::new(Self { device, kept: Mutex::default() })
    }

    /// `bytes` bytes of any content for work on `stream`. The device's context is current.
    pub fn take(self: &Arc<Self>, stream: Handle, bytes: u64, what: &str) -> Result<Block> {
        let mut capturing = 0;
        // SAFETY: the place is writable, and the stream is the caller's own, alive during the call.
        self.device.note(unsafe { self.device.driver.is_capturing(stream, &raw mut capturing) })?;
        let size =
            if bytes == 0 { 0 } else { size_class(bytes).ok_or_else(|| Error::no_memory(bytes.into(), what))? };
        let mut kept = self.lock();
        let lane = lane(stream);
        if let Some(address) = kept.of(lane, size).addresses.pop() {
            if capturing != 0 {
                kept.captured.insert(address);
            }
            return Ok(Block { pool: self.clone(), lane, address, size });
        }
        drop(kept);
        if capturing != 0 && size > 0 {
            return Err(Error::unsupported(format!(
                "exec.stream is being captured, and {what} needs {bytes} bytes that no call on it has used before; make the \
                 same call once before capturing"
            )));
        }
        self.release(MOST_IDLE);
        self.allocate(lane, size, what)
    }

    /// `bytes` bytes for work on any stream. The device's context is current.
    pub fn take_shared(self: &Arc<Self>, bytes: u64, what: &str) -> Result<Block> {
        self.allocate(SHARED, bytes, what)
    }

    fn allocate(self: &Arc<Self>, lane: Lane, size: u64, what: &str) -> Result<Block> {
        let block = |address| Block { pool: self.clone(), lane, address, size };
        if size == 0 {
            return Ok(block(0));
        }
        let (driver, mut address) = (self.device.driver, 0);
        let _relaxed = Relaxed::new(driver);
        // SAFETY: the place is writable.
        let mut allocate = || unsafe { driver.allocate(&raw mut address, size as usize) };
        let mut result = allocate();
        if matches!(result, Err(Error::NoMemory(_))) {
            self.release(0);
            result = allocate();
        }
        match self.device.note(result) {
            Err(Error::NoMemory(_)) => Err(Error::no_memory(size.into(), what)),
            result => result.map(|()| block(address)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Frees what nobody holds and no graph knows, but for the `most` bytes that were used last. Freeing waits for work that may
    /// still use it, without the lock. The device's context is current.
    fn release(&self, most: u64) {
        let addresses = self.lock().beyond(most);
        let _relaxed = Relaxed::new(self.device.driver);
        for address in addresses {
            // SAFETY: the address came from `allocate`, and nobody else has it any more. There is nobody to tell of a failure.
            let _ = unsafe { self.device.driver.free(address) };
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.lock().captured.clear();
        if let Ok(_entered) = self.device.enter() {
            self.release(0);
        }
    }
}

impl Block {
    /// The first byte.
    pub fn address(&self) -> u64 {
        self.address
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // A child leaves its parent's alone; the lock may be held by a thread that it does not have.
        if self.address == 0 || !self.pool.device.is_ours() {
        } else if self.lane != SHARED {
            self.pool.lock().of(self.lane, self.size).addresses.push(self.address);
        } else if let Ok(_entered) = self.pool.device.enter() {
            let _relaxed = Relaxed::new(self.pool.device.driver);
            // SAFETY: the address came from `allocate`, and nobody else has it. There is nobody to tell of a failure.
            let _ = unsafe { self.pool.device.driver.free(self.address) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Kept, size_class};

    #[test]
    fn sizes_waste_at_most_an_eighth() {
        for bytes in (1..100_000).chain([1 << 40, (1 << 40) + 1, (1 << 41) - 1]) {
            let size = size_class(bytes).unwrap();
            assert!(size >= bytes && (size <= 512 || size - bytes <= size / 8), "{bytes}: {size}");
            assert_eq!(size_class(size), Some(size));
        }
        assert_eq!(size_class(u64::MAX), None);
        assert_eq!(size_class(1 << 63), None);
    }

    #[test]
    fn what_was_used_last_is_kept() {
        let mut kept = Kept::default();
        for (address, (lane, size)) in [(1, 512), (2, 512), (1, 1024), (2, 512), (3, 2048)].into_iter().enumerate() {
            kept.of(lane, size).addresses.push(address as u64);
        }
        // Captured, so neither counted nor freed.
        kept.captured.insert(4);
        assert_eq!(kept.beyond(2560), Vec::<u64>::new());
        // Lane 1's block of 512 bytes was not used for longest, until now.
        let address = kept.of(1, 512).addresses.pop().unwrap();
        assert_eq!(kept.beyond(1500), [2]);
        kept.of(1, 512).addresses.push(address);
        assert_eq!(kept.beyond(600), [1, 3]);
        assert_eq!(kept.beyond(0), [0]);
        assert_eq!(kept.idle.len(), 1);
        assert_eq!(kept.of(3, 2048).addresses, [4]);
    }
}
