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

/// Lanes whose idle memory is kept. A host may use a stream for a while, and never again.
const MOST_LANES: usize = 16;

#[derive(Default)]
struct Kept {
    /// Blocks that nobody holds, by the [`Lane`] they were used on and their size.
    idle: HashMap<(Lane, u64), Vec<u64>>,
    /// The lanes that were used last, the last one at the end: what is idle on others is freed when a new one comes.
    lanes: Vec<Lane>,
    /// Blocks whose addresses are in a captured graph, which may run again at any time: they are never freed before the pool.
    captured: HashSet<u64>,
}

impl Kept {
    /// Work goes to `lane`, which becomes the last one used. Whether that is news, so that others may be of no more use.
    fn enter(&mut self, lane: Lane) -> bool {
        let at = self.lanes.iter().position(|other| *other == lane);
        match at {
            Some(at) => self.lanes[at..].rotate_left(1),
            None => self.lanes.push(lane),
        }
        let beyond = self.lanes.len().saturating_sub(MOST_LANES);
        self.lanes.drain(..beyond);
        at.is_none()
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
        // Freeing waits, which a capture cannot.
        if capturing == 0 && kept.enter(lane) {
            let Kept { idle, lanes, captured } = &mut *kept;
            self.release(idle, captured, |lane| !lanes.contains(&lane));
        }
        if let Some(address) = kept.idle.get_mut(&(lane, size)).and_then(Vec::pop) {
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
            self.release_idle();
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

    /// Frees what nobody holds and no graph knows.
    fn release_idle(&self) {
        let mut kept = self.lock();
        let Kept { idle, captured, .. } = &mut *kept;
        self.release(idle, captured, |_| true);
    }

    /// Frees what is idle on some lanes and not captured; freeing waits for work that may still use it. The device's context is
    /// current.
    fn release(&self, idle: &mut HashMap<(Lane, u64), Vec<u64>>, captured: &HashSet<u64>, of: impl Fn(Lane) -> bool) {
        let _relaxed = Relaxed::new(self.device.driver);
        idle.retain(|(lane, _), addresses| {
            if !of(*lane) {
                return true;
            }
            addresses.retain(|address| {
                let keep = captured.contains(address);
                if !keep {
                    // SAFETY: the address came from `allocate` and is in no other list. There is nobody to tell of a failure.
                    let _ = unsafe { self.device.driver.free(*address) };
                }
                keep
            });
            !addresses.is_empty()
        });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.lock().captured.clear();
        if let Ok(_entered) = self.device.enter() {
            self.release_idle();
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
            self.pool.lock().idle.entry((self.lane, self.size)).or_default().push(self.address);
        } else if let Ok(_entered) = self.pool.device.enter() {
            let _relaxed = Relaxed::new(self.pool.device.driver);
            // SAFETY: the address came from `allocate`, and nobody else has it. There is nobody to tell of a failure.
            let _ = unsafe { self.pool.device.driver.free(self.address) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Kept, MOST_LANES, size_class};

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
    fn the_lanes_used_last_are_kept() {
        let mut kept = Kept::default();
        for lane in 0..MOST_LANES {
            assert!(kept.enter(lane));
        }
        assert!(!kept.enter(0), "it is there");
        assert!(kept.enter(100));
        assert_eq!(kept.lanes.len(), MOST_LANES);
        assert!(kept.lanes.contains(&0) && !kept.lanes.contains(&1), "the one that was not used for longest goes");
    }
}
