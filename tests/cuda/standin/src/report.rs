//! What a test asks the stand-in for, and the report at exit.

use crate::context;
use crate::driver::{Driver, lock, try_lock, with};
use std::ffi::{CStr, c_char};
use std::io::Write;

/// Copies as much of a text as fits, and the zero that ends it.
///
/// # Safety
/// There is room for `size` bytes, one at least.
pub unsafe fn fill_text(place: *mut c_char, size: usize, text: &str) {
    let length = text.len().min(size - 1);
    // SAFETY: the caller's promise.
    unsafe {
        text.as_ptr().copy_to_nonoverlapping(place.cast(), length);
        *place.add(length) = 0;
    }
}

/// Adds a line to the file that `STANDIN_REPORT` names. A report that cannot be written is no reason to fail.
pub fn append(line: &str) {
    let Some(path) = std::env::var_os("STANDIN_REPORT") else { return };
    if let Ok(mut file) = std::fs::OpenOptions::new().create(true).append(true).open(path) {
        let _ = writeln!(file, "{line}");
    }
}

/// At exit: the counters and the first fault.
pub extern "C" fn report_at_exit() {
    if std::env::var_os("STANDIN_LEAKS").is_none_or(|wanted| wanted != "1") {
        return;
    }
    // Another thread may still be at work: the exit does not wait for it.
    if let Some(state) = try_lock()
        && let Some(driver) = state.as_ref()
    {
        append(&format!("exit: {:?} first fault: {:?}", driver.counters(), driver.faults.0));
    }
}

/// # Safety
/// The pointer is null or leads to text that a zero ends.
unsafe fn text_of<'a>(text: *const c_char) -> Option<&'a str> {
    // SAFETY: the caller's promise.
    if text.is_null() { None } else { unsafe { CStr::from_ptr(text) }.to_str().ok() }
}

/// Sets what the environment variable `name` would set at `cuInit`: what is pretended from now on, the order of work,
/// calls to fail. The number of devices and their memory count only before `cuInit`. 0, or 1 where it makes no sense.
#[unsafe(no_mangle)]
unsafe extern "C" fn standin_set(name: *const c_char, value: *const c_char) -> i32 {
    // SAFETY: the test gives texts or null.
    let (Some(name), Some(value)) = (unsafe { text_of(name) }, unsafe { text_of(value) }) else { return 1 };
    with(|driver| {
        if driver.initialized && matches!(name, "STANDIN_DEVICES" | "STANDIN_MEMORY") {
            return 1;
        }
        i32::from(!driver.settings.set(&mut driver.failures, name, value))
    })
}

/// Lets the `call`-th call of a function from now on (0: every call) answer `code`. 0, or 1 where there is no name.
#[unsafe(no_mangle)]
unsafe extern "C" fn standin_fail(function: *const c_char, call: u64, code: i32) -> i32 {
    // SAFETY: the test gives a text or null.
    let Some(function) = (unsafe { text_of(function) }) else { return 1 };
    with(|driver| driver.failures.add(function, call, code));
    0
}

/// Forgets everything, as if the process were fresh: objects, settings, rules of failure, counters, and the calling
/// thread's stack of contexts. Handles from before stay unknown. Pinned memory is freed.
#[unsafe(no_mangle)]
extern "C" fn standin_reset() {
    let mut state = lock();
    if let Some(driver) = state.as_mut() {
        driver.free_all_pinned();
    }
    *state = None;
    context::clear();
}

/// Copies the newest sentence about what went wrong; the bytes it needs with the zero that ends it.
#[unsafe(no_mangle)]
unsafe extern "C" fn standin_last_fault(place: *mut c_char, size: usize) -> usize {
    with(|driver: &mut Driver| {
        if !place.is_null() && size > 0 {
            // SAFETY: the test gives `size` bytes.
            unsafe { fill_text(place, size, &driver.faults.1) };
        }
        driver.faults.1.len() + 1
    })
}
