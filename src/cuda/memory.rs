//! Working memory on a device. What a call gives back is kept for the next one on the same stream, which may use it without
//! waiting: work on one stream is done in order. So a call that was made once before allocates nothing.

use super::device::Device;
use super::driver::Handle;
use crate::error::{Error, Result};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The memory of one context: blocks that nobody holds, by the stream they were used on and their size.
pub struct Pool {
    device: Arc<Device>,
    idle: Mutex<HashMap<(Handle, u64), Vec<u64>>>,
}

/// In place of a stream: memory that work on any stream uses. It is not kept, but freed, which waits for all of them.
pub const SHARED: Handle = Handle::MAX;

/// A piece of device memory, given back when it is dropped.
pub struct Block {
    pool: Arc<Pool>,
    stream: Handle,
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
        Arc::new(Self { device, idle: Mutex::default() })
    }

    /// `bytes` bytes of any content for work on `stream`, or [`SHARED`]. The device's context is current.
    pub fn take(self: &Arc<Self>, stream: Handle, bytes: u64, what: &str) -> Result<Block> {
        let none = || Error::no_memory(bytes.into(), what);
        let size = if bytes == 0 { 0 } else { size_class(bytes).ok_or_else(none)? };
        let block = |address| Block { pool: self.clone(), stream, address, size };
        if size == 0 {
            return Ok(block(0));
        }
        if let Some(address) = self.lock().get_mut(&(stream, size)).and_then(Vec::pop) {
            return Ok(block(address));
        }
        let (driver, mut capturing, mut address) = (self.device.driver, 0, 0);
        // SAFETY: both places are writable, and the stream is the caller's own, alive during the call.
        unsafe {
            if stream != SHARED {
                self.device.note(driver.is_capturing(stream, &raw mut capturing))?;
            }
            if capturing != 0 {
                return Err(Error::unsupported(format!(
                    "exec.stream is being captured, and {what} needs {bytes} bytes that no call on it has used before; \
                     make the same call once before capturing"
                )));
            }
            let mut result = driver.allocate(&raw mut address, size as usize);
            if matches!(result, Err(Error::NoMemory(_))) {
                self.release_idle();
                result = driver.allocate(&raw mut address, size as usize);
            }
            match self.device.note(result) {
                Err(Error::NoMemory(_)) => Err(none()),
                result => result.map(|()| block(address)),
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(Handle, u64), Vec<u64>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Frees what nobody holds, when all work that may still use it is done. The device's context is current.
    fn release_idle(&self) {
        let blocks = std::mem::take(&mut *self.lock());
        // SAFETY: each address came from `allocate` and is in no other list. There is nobody to tell of a failure, and a wait
        // that fails keeps no memory: freeing waits too.
        unsafe {
            let _ = self.device.driver.synchronize_context();
            blocks.into_values().flatten().for_each(|address| drop(self.device.driver.free(address)));
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
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
        } else if self.stream != SHARED {
            self.pool.lock().entry((self.stream, self.size)).or_default().push(self.address);
        } else if let Ok(_entered) = self.pool.device.enter() {
            // SAFETY: the address came from `allocate`, and nobody else has it. There is nobody to tell of a failure.
            let _ = unsafe { self.pool.device.driver.free(self.address) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::size_class;

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
}
