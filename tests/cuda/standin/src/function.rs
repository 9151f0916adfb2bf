//! What a kernel says of itself, and how many of its blocks fit on a multiprocessor.

use crate::code::{self, Code};
use crate::device::{SHARED_RESERVED, THREADS_PER_BLOCK, model};
use crate::driver::{Driver, Handle, export, put};
use crate::module::Function;

/// Registers are not counted: PTX has none to count.
const REGISTERS_PER_THREAD: i32 = 32;

const MAX_DYNAMIC_SHARED: i32 = 8;
const CARVEOUT: i32 = 9;

impl Driver {
    pub fn function(&mut self, function: Handle) -> Result<&mut Function, Code> {
        let context = self.current()?;
        self.functions.get_mut(&function).filter(|found| found.context == context).ok_or(code::INVALID_HANDLE)
    }

    /// Blocks of a kernel that a multiprocessor holds at a time.
    fn blocks(&mut self, place: *mut i32, function: Handle, threads: i32, dynamic_shared: usize) -> Result<(), Code> {
        let model = model(self.settings.capability);
        let function = self.function(function)?;
        if threads <= 0 {
            return Err(code::INVALID_VALUE);
        }
        let shared = function.signature.static_shared_bytes as usize + dynamic_shared + SHARED_RESERVED as usize;
        let most = function.signature.max_threads.map_or(THREADS_PER_BLOCK, |most| most as i32);
        let blocks = if threads > most || dynamic_shared > function.dynamic_shared_limit as usize {
            0
        } else {
            // Threads come in warps.
            let by_threads = model.threads_per_multiprocessor / ((threads as u32).next_multiple_of(32) as i32);
            let by_shared = model.shared_per_multiprocessor as usize / shared;
            by_threads.min(by_shared as i32).min(model.blocks_per_multiprocessor)
        };
        // SAFETY: the host gives a place for a number or null.
        unsafe { put(place, blocks) }
    }
}

export! {
    fn cuFuncGetAttribute(driver, value: *mut i32, attribute: i32, function: Handle) {
        let capability = driver.settings.capability;
        let function = driver.function(function)?;
        let found = match attribute {
            0 => function.signature.max_threads.map_or(THREADS_PER_BLOCK, |most| most as i32),
            1 => function.signature.static_shared_bytes as i32,
            2 | 3 | 7 => 0, // constant and local memory, caching
            4 => REGISTERS_PER_THREAD,
            5 | 6 => 10 * capability.0 + capability.1,
            MAX_DYNAMIC_SHARED => function.dynamic_shared_limit as i32,
            CARVEOUT => function.carveout,
            _ => return Err(code::INVALID_VALUE),
        };
        // SAFETY: the host gives a place for a number or null.
        unsafe { put(value, found) }
    }

    fn cuFuncSetAttribute(driver, function: Handle, attribute: i32, value: i32) {
        let most = model(driver.settings.capability).shared_per_block;
        let function = driver.function(function)?;
        match attribute {
            MAX_DYNAMIC_SHARED if (0..=most - function.signature.static_shared_bytes as i32).contains(&value) => {
                function.dynamic_shared_limit = value as u32;
            }
            CARVEOUT if (-1..=100).contains(&value) => function.carveout = value,
            _ => return Err(code::INVALID_VALUE),
        }
        Ok(())
    }

    fn cuFuncSetCacheConfig(driver, function: Handle, preference: u32) {
        driver.function(function)?;
        if preference > 3 { Err(code::INVALID_VALUE) } else { Ok(()) }
    }

    fn cuFuncGetModule(driver, module: *mut Handle, function: Handle) {
        let found = driver.function(function)?.module;
        // SAFETY: the host gives a place for a handle or null.
        unsafe { put(module, found) }
    }

    fn cuOccupancyMaxActiveBlocksPerMultiprocessor(driver, blocks: *mut i32, function: Handle, threads: i32, dynamic_shared: usize) {
        driver.blocks(blocks, function, threads, dynamic_shared)
    }

    fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
        driver, blocks: *mut i32, function: Handle, threads: i32, dynamic_shared: usize, flags: u32
    ) {
        if flags > 1 {
            return Err(code::INVALID_VALUE);
        }
        driver.blocks(blocks, function, threads, dynamic_shared)
    }
}
