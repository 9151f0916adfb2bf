//! Launches: the checks of the driver, then the kernel's turn in its stream.

use crate::code::{self, Code};
use crate::device::{BLOCK, GRID, THREADS_PER_BLOCK};
use crate::driver::{Driver, Handle, export};
use crate::operation::Operation;
use ptx_interpreter::Launch;
use std::ffi::c_void;
use std::sync::Arc;

/// `CUlaunchConfig`.
#[repr(C)]
struct Configuration {
    grid: [u32; 3],
    block: [u32; 3],
    dynamic_shared: u32,
    stream: Handle,
    attributes: *const Attribute,
    count: u32,
}

/// `CUlaunchAttribute`.
#[repr(C)]
struct Attribute {
    id: u32,
    padding: [u8; 4],
    value: [u64; 8],
}

/// Where the host keeps a kernel's parameters: one pointer each, or all in one buffer.
struct Parameters {
    each: *const *const u8,
    buffer: *const usize,
}

const BUFFER_POINTER: usize = 1;
const BUFFER_SIZE: usize = 2;

impl Parameters {
    /// The parameters as the kernel expects them: `places` are offset and bytes of each.
    ///
    /// # Safety
    /// The pointers are null or lead to what the driver asks for.
    unsafe fn collect(&self, places: &[(usize, usize)]) -> Result<Vec<u8>, Code> {
        let size = places.last().map_or(0, |(offset, bytes)| offset + bytes);
        let mut collected = vec![0; size];
        if !self.buffer.is_null() {
            if !self.each.is_null() {
                return Err(code::INVALID_VALUE);
            }
            // SAFETY: the list ends with a zero; the size is behind a pointer.
            let buffer = unsafe { self.listed(BUFFER_POINTER) }.ok_or(code::INVALID_VALUE)? as *const u8;
            let length = unsafe { self.listed(BUFFER_SIZE) }.ok_or(code::INVALID_VALUE)? as *const usize;
            // SAFETY: as above.
            if unsafe { length.read_unaligned() } != size {
                return Err(code::INVALID_VALUE);
            }
            // SAFETY: the host gives that many bytes.
            unsafe { buffer.copy_to_nonoverlapping(collected.as_mut_ptr(), size) };
            return Ok(collected);
        }
        if self.each.is_null() && !places.is_empty() {
            return Err(code::INVALID_VALUE);
        }
        for (index, &(offset, bytes)) in places.iter().enumerate() {
            // SAFETY: the host gives as many pointers as there are parameters.
            let parameter = unsafe { *self.each.add(index) };
            if parameter.is_null() {
                return Err(code::INVALID_VALUE);
            }
            // SAFETY: each leads to the parameter's bytes.
            unsafe { parameter.copy_to_nonoverlapping(collected[offset..].as_mut_ptr(), bytes) };
        }
        Ok(collected)
    }

    /// The word after `key` in the list of extras.
    ///
    /// # Safety
    /// The list is pairs that a zero ends.
    unsafe fn listed(&self, key: usize) -> Option<usize> {
        let mut pair = self.buffer;
        // SAFETY: the caller's promise.
        unsafe {
            while *pair != 0 {
                if *pair == key {
                    return Some(*pair.add(1)).filter(|&word| word != 0);
                }
                pair = pair.add(2);
            }
        }
        None
    }
}

fn all_within(sizes: [u32; 3], limits: [i32; 3]) -> bool {
    sizes.iter().zip(limits).all(|(&size, limit)| size > 0 && size <= limit as u32)
}

impl Driver {
    fn launch(
        &mut self,
        handle: Handle,
        (grid, block): ([u32; 3], [u32; 3]),
        dynamic_shared: u32,
        stream: Handle,
        parameters: Parameters,
    ) -> Result<(), Code> {
        let context = self.current()?;
        let stream = self.stream(context, stream)?;
        let function = self.function(handle)?;
        let threads = block.iter().fold(1_u64, |threads, &size| threads.saturating_mul(u64::from(size)));
        if !all_within(grid, GRID) || !all_within(block, BLOCK) || threads > THREADS_PER_BLOCK as u64 {
            return Err(code::INVALID_VALUE);
        }
        if function.signature.max_threads.is_some_and(|most| threads > u64::from(most)) {
            return Err(code::LAUNCH_OUT_OF_RESOURCES);
        }
        if dynamic_shared > function.dynamic_shared_limit {
            return Err(code::INVALID_VALUE);
        }
        // SAFETY: the host's promise.
        let parameters = unsafe { parameters.collect(&function.signature.parameters) }?.into();
        let launch = Arc::new(Launch { grid, block, dynamic_shared_bytes: dynamic_shared });
        self.submit(stream, Operation::Kernel { function: handle, launch, parameters })?;
        self.totals.launches += 1;
        Ok(())
    }
}

export! {
    fn cuLaunchKernel(
        driver, function: Handle,
        grid_x: u32, grid_y: u32, grid_z: u32,
        block_x: u32, block_y: u32, block_z: u32,
        dynamic_shared: u32, stream: Handle, parameters: *const *const u8, extra: *const usize,
    ) {
        let sizes = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
        driver.launch(function, sizes, dynamic_shared, stream, Parameters { each: parameters, buffer: extra })
    }

    // Of the attributes, only those that change nothing here are allowed: none, policy of waiting, priority.
    fn cuLaunchKernelEx(driver, configuration: *const Configuration, function: Handle, parameters: *const *const u8, extra: *const usize) {
        // SAFETY: the host gives a configuration or null.
        let found = unsafe { configuration.as_ref() }.ok_or(code::INVALID_VALUE)?;
        for index in 0..found.count as usize {
            // SAFETY: the host gives `count` attributes.
            let attribute = unsafe { &*found.attributes.add(index) };
            if !matches!(attribute.id, 0 | 3 | 8) {
                return Err(code::NOT_SUPPORTED);
            }
        }
        let sizes = (found.grid, found.block);
        driver.launch(function, sizes, found.dynamic_shared, found.stream, Parameters { each: parameters, buffer: extra })
    }

    // A function of the host in a stream could call back into the driver: not offered.
    fn cuLaunchHostFunc(driver, stream: Handle, function: *const c_void, data: *const c_void) {
        let _ = (stream, function, data);
        driver.current()?;
        Err(code::NOT_SUPPORTED)
    }
}
