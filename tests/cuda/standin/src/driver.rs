//! The state of the stand-in, behind one lock, and the way in for every exported function.

use crate::capture::Captures;
use crate::code::{self, Code};
use crate::context::{self, Context};
use crate::counters::Totals;
use crate::device::Device;
use crate::event::Event;
use crate::failure::Failures;
use crate::graph::{Executable, Graph};
use crate::host_memory::Pinned;
use crate::memory::Allocation;
use crate::module::{Function, Module};
use crate::queue::Queue;
use crate::settings::{NAMES, Settings};
use crate::stream::Stream;
use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

/// What the host holds instead of a pointer. Never dereferenced, never given out twice, so that a stale one is noticed.
pub type Handle = u64;

#[derive(Default)]
pub struct Driver {
    pub initialized: bool,
    pub settings: Settings,
    pub failures: Failures,
    pub totals: Totals,
    /// Sentences about what went wrong, the first and the newest.
    pub faults: (String, String),
    pub devices: Vec<Device>,
    pub contexts: BTreeMap<Handle, Context>,
    pub streams: BTreeMap<Handle, Stream>,
    pub events: BTreeMap<Handle, Event>,
    pub modules: BTreeMap<Handle, Module>,
    pub functions: BTreeMap<Handle, Function>,
    pub graphs: BTreeMap<Handle, Graph>,
    pub executables: BTreeMap<Handle, Executable>,
    pub captures: Captures,
    pub allocations: BTreeMap<u64, Allocation>,
    pub pinned: BTreeMap<usize, Pinned>,
    pub queue: Queue,
    next_handle: Handle,
}

static DRIVER: Mutex<Option<Driver>> = Mutex::new(None);

/// The last handle that was given out, kept over resets: a handle from before a reset stays unknown.
static LAST_HANDLE: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0x5ca1_ab1e_0000);

impl Driver {
    fn new() -> Self {
        Self { next_handle: LAST_HANDLE.load(std::sync::atomic::Ordering::Relaxed), ..Self::default() }
    }

    pub fn handle(&mut self) -> Handle {
        self.next_handle += 16;
        LAST_HANDLE.store(self.next_handle, std::sync::atomic::Ordering::Relaxed);
        self.next_handle
    }

    /// Reads the environment and makes the devices, once.
    pub fn initialize(&mut self) -> Result<(), Code> {
        if self.initialized {
            return Ok(());
        }
        self.read_environment();
        if self.settings.devices == 0 {
            return Err(code::NO_DEVICE);
        }
        self.devices = (0..self.settings.devices).map(|ordinal| Device::new(ordinal, self.settings.memory)).collect();
        for ordinal in 0..self.devices.len() {
            self.devices[ordinal].primary = self.handle();
        }
        self.initialized = true;
        static AT_EXIT: std::sync::Once = std::sync::Once::new();
        // SAFETY: the function takes nothing and touches only what lives as long as the library.
        AT_EXIT.call_once(|| unsafe {
            libc::atexit(crate::report::report_at_exit);
        });
        Ok(())
    }

    fn read_environment(&mut self) {
        for name in NAMES {
            // What standin_set chose before cuInit stays.
            if self.settings.chosen.contains(name) {
                continue;
            }
            if let Ok(value) = std::env::var(name)
                && !self.settings.set(&mut self.failures, name, &value)
            {
                self.tell(format!("{name}={value} makes no sense"));
            }
        }
    }

    pub fn ready(&self) -> Result<(), Code> {
        if self.initialized { Ok(()) } else { Err(code::NOT_INITIALIZED) }
    }

    /// The context that is current on the calling thread, if it lives and has not failed.
    pub fn current(&self) -> Result<Handle, Code> {
        self.ready()?;
        let handle = context::top().ok_or(code::INVALID_CONTEXT)?;
        let context = self.contexts.get(&handle).ok_or(code::CONTEXT_IS_DESTROYED)?;
        match context.failed {
            Some(code) => Err(code),
            None => Ok(handle),
        }
    }

    pub fn device_of(&self, context: Handle) -> Result<usize, Code> {
        self.contexts.get(&context).map(|context| context.device).ok_or(code::CONTEXT_IS_DESTROYED)
    }

    /// Keeps a sentence for `standin_last_fault` and the report.
    pub fn tell(&mut self, sentence: String) {
        crate::report::append(&format!("fault: {sentence}"));
        if self.faults.0.is_empty() {
            self.faults.0.clone_from(&sentence);
        }
        self.faults.1 = sentence;
    }
}

/// The state, whatever happened to an earlier holder of the lock.
pub fn lock() -> MutexGuard<'static, Option<Driver>> {
    DRIVER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The state, unless another thread is at work on it.
pub fn try_lock() -> Option<MutexGuard<'static, Option<Driver>>> {
    match DRIVER.try_lock() {
        Ok(state) => Some(state),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Runs `body` on the state.
pub fn with<R>(body: impl FnOnce(&mut Driver) -> R) -> R {
    body(lock().get_or_insert_with(Driver::new))
}

/// Runs the body of an exported function, unless it is to fail on purpose; a panic becomes an unknown error.
pub fn enter(name: &str, body: impl FnOnce(&mut Driver) -> Result<(), Code>) -> i32 {
    with(|driver| {
        if name == "cuInit" && !driver.initialized {
            driver.read_environment();
        }
        if let Some(code) = driver.failures.strike(name) {
            if code.is_sticky()
                && let Ok(context) = driver.current()
            {
                driver.fail(context, code, format!("{name} failed on purpose"));
            }
            return code.0;
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| body(driver)));
        match outcome {
            Ok(Ok(())) => code::SUCCESS,
            Ok(Err(code)) => code.0,
            Err(panic) => {
                driver.tell(format!("{name} panicked: {}", panic_text(panic.as_ref())));
                code::UNKNOWN.0
            }
        }
    })
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a text")
}

/// Writes through a pointer of the host; a null pointer is an error.
///
/// # Safety
/// The pointer is null or good for a write of `T`.
pub unsafe fn put<T>(pointer: *mut T, value: T) -> Result<(), Code> {
    if pointer.is_null() {
        return Err(code::INVALID_VALUE);
    }
    // SAFETY: the caller's promise; hosts owe no alignment beyond the type's, but none is assumed.
    unsafe { pointer.write_unaligned(value) };
    Ok(())
}

/// Exports functions of the driver. Each body runs under the lock and yields a result.
macro_rules! export {
    ($(fn $name:ident($driver:ident $(, $argument:ident: $type:ty)* $(,)?) $body:block)*) => {
        $(
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $name($($argument: $type),*) -> i32 {
                crate::driver::enter(stringify!($name), |$driver: &mut crate::driver::Driver| -> Result<(), crate::code::Code> { $body })
            }
        )*
    };
}
pub(crate) use export;
