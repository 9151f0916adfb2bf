//! One GPU: its primary context, which PyTorch, JAX and the CUDA runtime use too.

use super::driver::{CAPABILITY, Driver, Handle, not_there};
use crate::error::{Error, Result};
use std::ffi::CStr;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicI32, Ordering};

/// A device, and its context for as long as anything of ours lives there.
pub struct Device {
    pub driver: &'static Driver,
    pub ordinal: i32,
    pub name: String,
    /// Compute capability: (8, 0) is sm_80.
    pub capability: (i32, i32),
    /// The driver's own name of it.
    handle: i32,
    context: Handle,
    /// The process that made it: a context does not survive a fork.
    process: u32,
    /// The error after which the driver refuses everything, or 0.
    fault: AtomicI32,
}

/// While it lives the device's context is the thread's current one; the caller's comes back.
pub struct Entered<'a>(&'a Driver, PhantomData<*const ()>);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut popped = 0;
        // SAFETY: `popped` is writable, and `enter` pushed on this thread. There is nobody to tell of a failure.
        let _ = unsafe { self.0.pop_context(&raw mut popped) };
    }
}

impl Device {
    /// The device with this number; [`Error::Device`] says what is missing.
    pub fn open(ordinal: i32) -> Result<Self> {
        let driver = Driver::get()?;
        let (mut count, mut handle, mut context, mut capability) = (0, 0, 0, [0; 2]);
        let mut name = [0; 256];
        // SAFETY: all places are writable; `name` is NUL-terminated by the driver, and by its own last zero.
        unsafe {
            driver.device_count(&raw mut count).map_err(not_there)?;
            if !(0..count).contains(&ordinal) {
                return Err(Error::Device(format!(
                    "device_id is {ordinal}; the driver has {count} devices, from 0 on"
                )));
            }
            driver.device(&raw mut handle, ordinal).map_err(not_there)?;
            driver.device_name(name.as_mut_ptr(), name.len() as i32 - 1, handle).map_err(not_there)?;
            for (value, attribute) in capability.iter_mut().zip(CAPABILITY) {
                driver.device_attribute(&raw mut *value, attribute, handle).map_err(not_there)?;
            }
            let name = CStr::from_ptr(name.as_ptr()).to_string_lossy().into_owned();
            let capability = (capability[0], capability[1]);
            if capability < (8, 0) {
                let (major, minor) = capability;
                return Err(Error::Device(format!("{name} has compute capability {major}.{minor}; 8.0 is the least")));
            }
            driver.retain_context(&raw mut context, handle).map_err(not_there)?;
            let process = std::process::id();
            Ok(Self { driver, ordinal, name, capability, handle, context, process, fault: AtomicI32::new(0) })
        }
    }

    /// Whether this is the process in which the device was opened.
    pub fn is_ours(&self) -> bool {
        self.process == std::process::id()
    }

    /// Makes the context current; [`Error::Poisoned`] after a fork or a fault.
    pub fn enter(&self) -> Result<Entered<'_>> {
        if !self.is_ours() {
            return Err(Error::Poisoned(
                "a CUDA context does not survive a fork, and CUDA cannot be used in the child; spawn it instead".into(),
            ));
        }
        let fault = self.fault.load(Ordering::Relaxed);
        if fault != 0 {
            return Err(Error::Poisoned(format!(
                "the device failed in an earlier call (CUDA error {fault}); its context is lost"
            )));
        }
        // SAFETY: the context is retained for as long as `self` lives.
        self.note(unsafe { self.driver.push_context(self.context) })?;
        Ok(Entered(self.driver, PhantomData))
    }

    /// Notes an error after which the driver refuses everything: a kernel that touched what is not its own.
    pub fn note<T>(&self, result: Result<T>) -> Result<T> {
        // CUDA_ERROR_ECC_UNCORRECTABLE, NVLINK_UNCORRECTABLE, CONTEXT_IS_DESTROYED, ILLEGAL_ADDRESS, LAUNCH_TIMEOUT, ASSERT, and HARDWARE_STACK_ERROR to LAUNCH_FAILED.
        if let Err(Error::Cuda { native: code @ (214 | 220 | 700 | 702 | 709 | 710 | 714..=719), .. }) = &result {
            self.fault.store(*code, Ordering::Relaxed);
        }
        result
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if self.is_ours() {
            // SAFETY: `open` retained it once. There is nobody to tell of a failure.
            let _ = unsafe { self.driver.release_context(self.handle) };
        }
    }
}
