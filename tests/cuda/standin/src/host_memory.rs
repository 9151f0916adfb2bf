//! Pinned host memory: allocated here or registered by the host.

use crate::code::{self, Code};
use crate::driver::{Driver, Handle, export, put};
use std::alloc::{Layout, alloc, dealloc};
use std::ffi::c_void;

pub struct Pinned {
    pub context: Handle,
    pub bytes: usize,
    pub flags: u32,
    /// How it was allocated; `None` for memory that the host registered.
    layout: Option<Layout>,
}

/// Fresh pinned memory is filled with this, so that a host which reads before its copy has run sees no plausible number.
const JUNK: u8 = 0xfb;
const PAGE: usize = 4096;

impl Driver {
    /// The pinned memory that holds all of `bytes` at `address`.
    pub fn pinned_range(&self, address: usize, bytes: usize) -> Option<(usize, &Pinned)> {
        let (&base, pinned) = self.pinned.range(..=address).next_back()?;
        let inside = address - base <= pinned.bytes && bytes <= pinned.bytes - (address - base);
        inside.then_some((base, pinned))
    }

    fn allocate_pinned(&mut self, place: *mut *mut c_void, bytes: usize, flags: u32) -> Result<(), Code> {
        let context = self.current()?;
        self.forbid_in_capture()?;
        if bytes == 0 || place.is_null() {
            return Err(code::INVALID_VALUE);
        }
        let layout = Layout::from_size_align(bytes, PAGE).map_err(|_| code::OUT_OF_MEMORY)?;
        // SAFETY: the layout is not empty.
        let pointer = unsafe { alloc(layout) };
        if pointer.is_null() {
            return Err(code::OUT_OF_MEMORY);
        }
        // SAFETY: the memory was just allocated with that size.
        unsafe { pointer.write_bytes(JUNK, bytes) };
        self.pinned.insert(pointer as usize, Pinned { context, bytes, flags, layout: Some(layout) });
        self.totals.pinned_allocations += 1;
        // SAFETY: the host gives a place for a pointer.
        unsafe { put(place, pointer.cast()) }
    }

    fn free_pinned(&mut self, address: usize) {
        if let Some(Pinned { layout: Some(layout), .. }) = self.pinned.remove(&address) {
            // SAFETY: allocated with this layout, and taken out of the table.
            unsafe { dealloc(address as *mut u8, layout) };
        }
    }

    pub fn free_all_pinned(&mut self) {
        for address in self.pinned.keys().copied().collect::<Vec<_>>() {
            self.free_pinned(address);
        }
    }

    /// Frees the pinned memory of a context; how many allocations that were.
    pub fn abandon_pinned(&mut self, context: Handle) -> usize {
        let found: Vec<usize> = self.pinned.iter().filter(|(_, p)| p.context == context).map(|(a, _)| *a).collect();
        for &address in &found {
            self.free_pinned(address);
        }
        found.len()
    }
}

export! {
    fn cuMemHostAlloc(driver, place: *mut *mut c_void, bytes: usize, flags: u32) {
        if flags > 7 {
            return Err(code::INVALID_VALUE);
        }
        driver.allocate_pinned(place, bytes, flags)
    }

    fn cuMemAllocHost_v2(driver, place: *mut *mut c_void, bytes: usize) {
        driver.allocate_pinned(place, bytes, 0)
    }

    fn cuMemFreeHost(driver, address: usize) {
        driver.forbid_in_capture()?;
        let answer = driver.current();
        let context = match driver.pinned.get(&address) {
            Some(Pinned { layout: Some(_), context, .. }) => *context,
            _ => return Err(code::INVALID_VALUE),
        };
        driver.totals.waits += 1;
        driver.finish(context);
        driver.free_pinned(address);
        answer.and_then(|_| driver.current()).map(|_| ())
    }

    fn cuMemHostRegister_v2(driver, address: usize, bytes: usize, flags: u32) {
        let context = driver.current()?;
        driver.forbid_in_capture()?;
        if address == 0 || bytes == 0 {
            return Err(code::INVALID_VALUE);
        }
        let before = driver.pinned.range(..address + bytes).next_back();
        if before.is_some_and(|(base, pinned)| base + pinned.bytes > address) {
            return Err(code::HOST_MEMORY_ALREADY_REGISTERED);
        }
        driver.pinned.insert(address, Pinned { context, bytes, flags, layout: None });
        Ok(())
    }

    fn cuMemHostUnregister(driver, address: usize) {
        let answer = driver.current();
        driver.forbid_in_capture()?;
        let context = match driver.pinned.get(&address) {
            Some(Pinned { layout: None, context, .. }) => *context,
            _ => return Err(code::HOST_MEMORY_NOT_REGISTERED),
        };
        driver.totals.waits += 1;
        driver.finish(context);
        driver.pinned.remove(&address);
        answer.and_then(|_| driver.current()).map(|_| ())
    }

    // Kernels never see host memory here, though most real devices map it.
    fn cuMemHostGetDevicePointer_v2(driver, address: *mut u64, host: usize, flags: u32) {
        let _ = (address, host, flags);
        driver.current()?;
        Err(code::NOT_SUPPORTED)
    }

    fn cuMemHostGetFlags(driver, flags: *mut u32, host: usize) {
        driver.current()?;
        let (_, pinned) = driver.pinned_range(host, 1).ok_or(code::INVALID_VALUE)?;
        // SAFETY: the host gives a place for a number or null.
        unsafe { put(flags, pinned.flags) }
    }
}
