//! Contexts: one primary per device, others by creation, and each thread's stack of current ones.

use crate::code::{self, Code};
use crate::driver::{Driver, Handle, export, put};
use crate::stream::Stream;
use std::cell::RefCell;
use std::collections::BTreeMap;

pub struct Context {
    pub device: usize,
    pub flags: u32,
    /// How often a primary context is retained; 1 for one that was created.
    pub retained: u64,
    pub primary: bool,
    /// The error of a kernel that failed: every later call answers it.
    pub failed: Option<Code>,
    pub legacy_stream: Handle,
    pub limits: BTreeMap<u32, usize>,
}

thread_local! {
    static STACK: RefCell<Vec<Handle>> = const { RefCell::new(Vec::new()) };
}

/// The context that is current on this thread, dead or alive.
pub fn top() -> Option<Handle> {
    STACK.with_borrow(|stack| stack.last().copied())
}

pub fn depth() -> usize {
    STACK.with_borrow(Vec::len)
}

/// Forgets this thread's stack.
pub fn clear() {
    STACK.with_borrow_mut(Vec::clear);
}

/// What the driver says of these limits on a fresh context, by number: stack, printf, heap, depth, launches, fetch, persisting.
const LIMITS: [usize; 7] = [1024, 1 << 20, 8 << 20, 2, 2048, 64, 0];

impl Driver {
    fn create_context(&mut self, handle: Handle, device: usize, flags: u32, primary: bool) {
        let legacy_stream = self.handle();
        self.streams.insert(legacy_stream, Stream::legacy(handle));
        let limits = (0..).zip(LIMITS).collect();
        let context = Context { device, flags, retained: 1, primary, failed: None, legacy_stream, limits };
        self.contexts.insert(handle, context);
    }

    /// Runs what is queued, then takes the context away with all that it owns.
    fn destroy_context(&mut self, handle: Handle) {
        self.finish(handle);
        self.captures.forget(handle);
        self.contexts.remove(&handle);
        let mut abandoned = 0;
        let allocations: Vec<_> =
            self.allocations.iter().filter(|(_, a)| a.context == handle).map(|(address, _)| *address).collect();
        abandoned += allocations.len();
        for address in allocations {
            self.release(address);
        }
        let modules: Vec<_> =
            self.modules.iter().filter(|(_, m)| m.context == handle).map(|(module, _)| *module).collect();
        abandoned += modules.len();
        for module in modules {
            self.unload(module);
        }
        abandoned += self.streams.values().filter(|stream| stream.context == handle && stream.is_explicit()).count();
        self.streams.retain(|_, stream| stream.context != handle);
        abandoned += self.events.values().filter(|event| event.context == handle).count();
        self.events.retain(|_, event| event.context != handle);
        abandoned += self.executables.values().filter(|executable| executable.context == handle).count();
        self.executables.retain(|_, executable| executable.context != handle);
        abandoned += self.abandon_pinned(handle);
        self.totals.abandoned += abandoned as u64;
    }

    /// Lets a context fail for good: what it had queued never runs.
    pub fn fail(&mut self, handle: Handle, code: Code, sentence: String) {
        self.tell(sentence);
        self.totals.faults += 1;
        if let Some(context) = self.contexts.get_mut(&handle) {
            context.failed.get_or_insert(code);
        }
        self.queue.discard(handle);
    }

    fn device_index(&self, device: i32) -> Result<usize, Code> {
        self.ready()?;
        usize::try_from(device).ok().filter(|&device| device < self.devices.len()).ok_or(code::INVALID_DEVICE)
    }

    fn create_explicit(&mut self, context: *mut Handle, flags: u32, device: i32) -> Result<(), Code> {
        let device = self.device_index(device)?;
        self.forbid_in_capture()?;
        let handle = self.handle();
        // SAFETY: the host gives a place for a handle or null.
        unsafe { put(context, handle) }?;
        self.create_context(handle, device, flags, false);
        STACK.with_borrow_mut(|stack| stack.push(handle));
        Ok(())
    }
}

export! {
    fn cuDevicePrimaryCtxRetain(driver, context: *mut Handle, device: i32) {
        let device = driver.device_index(device)?;
        let handle = driver.devices[device].primary;
        // SAFETY: the host gives a place for a handle or null.
        unsafe { put(context, handle) }?;
        match driver.contexts.get_mut(&handle) {
            Some(context) => context.retained += 1,
            None => {
                let flags = driver.devices[device].primary_flags;
                driver.create_context(handle, device, flags, true);
            }
        }
        Ok(())
    }

    fn cuDevicePrimaryCtxRelease_v2(driver, device: i32) {
        let device = driver.device_index(device)?;
        let handle = driver.devices[device].primary;
        let context = driver.contexts.get_mut(&handle).ok_or(code::INVALID_CONTEXT)?;
        context.retained -= 1;
        if context.retained == 0 {
            driver.destroy_context(handle);
        }
        Ok(())
    }

    fn cuDevicePrimaryCtxReset_v2(driver, device: i32) {
        let device = driver.device_index(device)?;
        let handle = driver.devices[device].primary;
        if driver.contexts.contains_key(&handle) {
            driver.destroy_context(handle);
        }
        Ok(())
    }

    fn cuDevicePrimaryCtxGetState(driver, device: i32, flags: *mut u32, active: *mut i32) {
        let device = &driver.devices[driver.device_index(device)?];
        // SAFETY: the host gives places for both or null.
        unsafe {
            put(flags, device.primary_flags)?;
            put(active, i32::from(driver.contexts.contains_key(&device.primary)))
        }
    }

    fn cuDevicePrimaryCtxSetFlags_v2(driver, device: i32, flags: u32) {
        let device = driver.device_index(device)?;
        driver.devices[device].primary_flags = flags;
        let handle = driver.devices[device].primary;
        if let Some(context) = driver.contexts.get_mut(&handle) {
            context.flags = flags;
        }
        Ok(())
    }

    fn cuCtxCreate_v2(driver, context: *mut Handle, flags: u32, device: i32) {
        driver.create_explicit(context, flags, device)
    }

    fn cuCtxCreate_v3(driver, context: *mut Handle, affinity: *const u8, count: i32, flags: u32, device: i32) {
        if !affinity.is_null() || count != 0 {
            return Err(code::NOT_SUPPORTED);
        }
        driver.create_explicit(context, flags, device)
    }

    fn cuCtxCreate_v4(driver, context: *mut Handle, parameters: *const u8, flags: u32, device: i32) {
        if !parameters.is_null() {
            return Err(code::NOT_SUPPORTED);
        }
        driver.create_explicit(context, flags, device)
    }

    fn cuCtxDestroy_v2(driver, context: Handle) {
        driver.ready()?;
        match driver.contexts.get(&context) {
            Some(found) if !found.primary => {}
            _ => return Err(code::INVALID_CONTEXT),
        }
        driver.destroy_context(context);
        if top() == Some(context) {
            STACK.with_borrow_mut(Vec::pop);
        }
        Ok(())
    }

    fn cuCtxPushCurrent_v2(driver, context: Handle) {
        driver.ready()?;
        if !driver.contexts.contains_key(&context) {
            return Err(code::INVALID_CONTEXT);
        }
        STACK.with_borrow_mut(|stack| stack.push(context));
        Ok(())
    }

    fn cuCtxPopCurrent_v2(driver, context: *mut Handle) {
        driver.ready()?;
        let popped = STACK.with_borrow_mut(Vec::pop).ok_or(code::INVALID_CONTEXT)?;
        if !context.is_null() {
            // SAFETY: the host gives a place for a handle.
            unsafe { put(context, popped) }?;
        }
        Ok(())
    }

    fn cuCtxSetCurrent(driver, context: Handle) {
        driver.ready()?;
        if context != 0 && !driver.contexts.contains_key(&context) {
            return Err(code::INVALID_CONTEXT);
        }
        STACK.with_borrow_mut(|stack| {
            stack.pop();
            if context != 0 {
                stack.push(context);
            }
        });
        Ok(())
    }

    fn cuCtxGetCurrent(driver, context: *mut Handle) {
        driver.ready()?;
        // SAFETY: the host gives a place for a handle or null.
        unsafe { put(context, top().unwrap_or(0)) }
    }

    fn cuCtxGetDevice(driver, device: *mut i32) {
        driver.ready()?;
        let context = top().ok_or(code::INVALID_CONTEXT)?;
        let found = driver.device_of(context)? as i32;
        // SAFETY: the host gives a place for a number or null.
        unsafe { put(device, found) }
    }

    fn cuCtxGetFlags(driver, flags: *mut u32) {
        let context = driver.current()?;
        // SAFETY: the host gives a place for a number or null.
        unsafe { put(flags, driver.contexts[&context].flags) }
    }

    fn cuCtxGetApiVersion(driver, context: Handle, version: *mut u32) {
        driver.ready()?;
        let context = if context == 0 { top().unwrap_or(0) } else { context };
        if !driver.contexts.contains_key(&context) {
            return Err(code::INVALID_CONTEXT);
        }
        // SAFETY: the host gives a place for a number or null.
        unsafe { put(version, 3020) }
    }

    fn cuCtxSynchronize(driver) {
        let context = driver.current()?;
        driver.forbid_synchronization(context)?;
        driver.totals.synchronizations += 1;
        driver.finish(context);
        driver.current().map(|_| ())
    }

    fn cuCtxGetLimit(driver, value: *mut usize, limit: u32) {
        let context = driver.current()?;
        let found = *driver.contexts[&context].limits.get(&limit).ok_or(code::UNSUPPORTED_LIMIT)?;
        // SAFETY: the host gives a place for a number or null.
        unsafe { put(value, found) }
    }

    fn cuCtxSetLimit(driver, limit: u32, value: usize) {
        let context = driver.current()?;
        let context = driver.contexts.get_mut(&context).ok_or(code::CONTEXT_IS_DESTROYED)?;
        *context.limits.get_mut(&limit).ok_or(code::UNSUPPORTED_LIMIT)? = value;
        Ok(())
    }

    fn cuCtxGetStreamPriorityRange(driver, least: *mut i32, greatest: *mut i32) {
        driver.current()?;
        for (place, value) in [(least, 0), (greatest, crate::stream::GREATEST_PRIORITY)] {
            if !place.is_null() {
                // SAFETY: the host gives places for numbers.
                unsafe { put(place, value) }?;
            }
        }
        Ok(())
    }
}
