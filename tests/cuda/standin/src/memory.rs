//! Device memory: who allocated what, and whether it may still be used.

use crate::code::{self, Code};
use crate::driver::{Driver, Handle, export, put};
use crate::operation::Operation;

pub struct Allocation {
    pub device: usize,
    pub context: Handle,
    pub bytes: u64,
    /// From a pool, in the order of a stream.
    pub pooled: bool,
    /// A free is queued: the host may not use it any more.
    pub doomed: bool,
}

impl Driver {
    fn allocate(&mut self, context: Handle, bytes: usize, pooled: bool) -> Result<u64, Code> {
        if bytes == 0 {
            return Err(code::INVALID_VALUE);
        }
        let device = self.device_of(context)?;
        let bytes = bytes as u64;
        let address = self.devices[device].board.allocate(bytes).ok_or(code::OUT_OF_MEMORY)?;
        self.allocations.insert(address, Allocation { device, context, bytes, pooled, doomed: false });
        self.totals.allocations += 1;
        Ok(address)
    }

    /// Gives memory back to its device.
    pub fn release(&mut self, address: u64) {
        if let Some(allocation) = self.allocations.remove(&address)
            && !self.devices[allocation.device].board.free(address)
        {
            self.tell(format!("the interpreter does not know the allocation at {address:#x}"));
        }
    }

    pub fn allocated_bytes(&self, device: usize) -> u64 {
        self.allocations
            .values()
            .filter(|allocation| allocation.device == device)
            .map(|allocation| allocation.bytes)
            .sum()
    }

    /// The allocation that holds an address, and where it begins.
    pub fn allocation_at(&self, address: u64) -> Option<(u64, &Allocation)> {
        let (&base, allocation) = self.allocations.range(..=address).next_back()?;
        (address - base < allocation.bytes).then_some((base, allocation))
    }

    /// The device whose memory holds `bytes` at `address`; an error where they leave one allocation or its free is queued.
    pub fn device_range(&self, address: u64, bytes: usize) -> Result<usize, Code> {
        match self.allocation_at(address) {
            Some((base, found)) if !found.doomed && address - base + bytes as u64 <= found.bytes => Ok(found.device),
            None => self
                .modules
                .values()
                .find_map(|module| module.device_of_global(address, bytes))
                .ok_or(code::INVALID_VALUE),
            _ => Err(code::INVALID_VALUE),
        }
    }

    /// The allocation that begins at `address` and may be freed now.
    fn freeable(&self, address: u64) -> Result<&Allocation, Code> {
        self.allocations.get(&address).filter(|allocation| !allocation.doomed).ok_or(code::INVALID_VALUE)
    }
}

export! {
    fn cuMemGetInfo_v2(driver, free: *mut usize, total: *mut usize) {
        let device = driver.device_of(driver.current()?)?;
        let memory = driver.devices[device].memory;
        // SAFETY: the host gives places for both or null.
        unsafe {
            put(free, memory.saturating_sub(driver.allocated_bytes(device)) as usize)?;
            put(total, memory as usize)
        }
    }

    fn cuMemAlloc_v2(driver, address: *mut u64, bytes: usize) {
        let context = driver.current()?;
        driver.forbid_in_capture()?;
        let found = driver.allocate(context, bytes, false)?;
        // SAFETY: the host gives a place for an address or null.
        unsafe { put(address, found) }
    }

    // Waits for all work of the context, as the driver does.
    fn cuMemFree_v2(driver, address: u64) {
        driver.forbid_in_capture()?;
        if address == 0 {
            return driver.current().map(|_| ());
        }
        // After a kernel failed the memory still goes, so that counters show who forgot to free.
        let answer = driver.current();
        let context = driver.freeable(address)?.context;
        driver.totals.waits += 1;
        driver.finish(context);
        driver.release(address);
        answer.and_then(|_| driver.current()).map(|_| ())
    }

    fn cuMemAllocAsync(driver, address: *mut u64, bytes: usize, stream: Handle) {
        let context = driver.current()?;
        let stream = driver.stream(context, stream)?;
        if !driver.settings.pools {
            return Err(code::NOT_SUPPORTED);
        }
        driver.forbid_captured(stream)?;
        driver.forbid_in_capture()?;
        let found = driver.allocate(context, bytes, true)?;
        // SAFETY: the host gives a place for an address or null.
        unsafe { put(address, found) }
    }

    fn cuMemFreeAsync(driver, address: u64, stream: Handle) {
        driver.forbid_in_capture()?;
        let answer = driver.current();
        if let Err(code) = answer {
            if driver.freeable(address).is_ok() {
                driver.release(address);
            }
            return Err(code);
        }
        let stream = driver.stream(answer?, stream)?;
        driver.forbid_captured(stream)?;
        if !driver.freeable(address)?.pooled {
            return Err(code::INVALID_VALUE);
        }
        driver.submit(stream, Operation::Free { address })?;
        if let Some(allocation) = driver.allocations.get_mut(&address) {
            allocation.doomed = true;
        }
        Ok(())
    }

    fn cuMemGetAddressRange_v2(driver, base: *mut u64, bytes: *mut usize, address: u64) {
        driver.current()?;
        let (found, allocation) = driver.allocation_at(address).ok_or(code::NOT_FOUND)?;
        // SAFETY: the host gives places for either or null.
        unsafe {
            if !base.is_null() {
                put(base, found)?;
            }
            if bytes.is_null() { Ok(()) } else { put(bytes, allocation.bytes as usize) }
        }
    }
}
