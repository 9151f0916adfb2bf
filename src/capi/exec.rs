//! One call: stream, seed, cancel, progress.

use super::{Sized32, guard, hand_over, initialise, place, read_sized, required, status::mnemo_error, take_back};
use crate::engine::SharedEngine;
use crate::error::{Error, Result};
use crate::exec::{Cancel, Exec};
use std::ffi::c_void;

/// Ask a CUDA context to wait, and to report NaN, Inf and numbers that a result cannot hold as it does for tensors in the
/// host's memory. Without it rows of a device tensor that have such numbers give NaN, nearest_index -1, and results beyond
/// F32 are infinite. Calls that wait for every step (nearest rows, memorization, RK45) always look. CPU contexts always check their
/// inputs; they accept the flag and need nothing from it.
pub const MNEMO_EXEC_CHECK: u32 = 1;

/// A flag by which any thread stops calls that were given it.
pub struct mnemo_cancel {
    cancel: Cancel,
}

/// How one call runs. NULL in its place means the initial values of mnemo_exec_init: no seed, no cancel, no progress.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct mnemo_exec {
    /// sizeof(mnemo_exec).
    pub struct_size: u32,
    /// MNEMO_EXEC_… or 0.
    pub flags: u32,
    /// The CUDA stream of the call, of the context's device; NULL is the legacy default stream. It must outlive the work
    /// that is queued on it. CPU contexts hand it on to callbacks and do not look at it.
    pub stream: *mut c_void,
    /// The seed of every random number of the call. Numbers come from Philox4x32-10 (Salmon et al. 2011) and depend on
    /// nothing but (seed, sample index, step, purpose, element): key = (seed low, seed high), counter = (element / 2,
    /// step, sample low, purpose << 24 | sample high), purpose 0 = initial state, 1 = step noise, 2 = EDM churn. The
    /// four words w0 … w3 give elements 2i and 2i+1 by Box-Muller in float64: u = ((w1:w0 >> 11) + 0.5) 2^-53, v =
    /// (w3:w2 >> 11) 2^-53, sqrt(-2 ln u) cos(2 pi v) and sqrt(-2 ln u) sin(2 pi v).
    pub seed: u64,
    /// Stops the call when requested, or NULL.
    pub cancel: *mut mnemo_cancel,
    /// Called now and then with (done, total), in units of the call's own (rows, steps), on the thread that made the
    /// call; while one step takes long, with the same numbers again. A non-zero result stops the call with
    /// MNEMO_E_CANCELLED. Or NULL.
    pub progress: Option<unsafe extern "C" fn(user: *mut c_void, done: u64, total: u64) -> i32>,
    /// Passed to `progress`.
    pub progress_user: *mut c_void,
}

// SAFETY: repr(C), size first, no padding, any bytes are valid (a non-zero function pointer is the caller's promise).
unsafe impl Sized32 for mnemo_exec {
    fn initial() -> Self {
        Self {
            struct_size: size_of::<Self>() as u32,
            flags: 0,
            stream: std::ptr::null_mut(),
            seed: 0,
            cancel: std::ptr::null_mut(),
            progress: None,
            progress_user: std::ptr::null_mut(),
        }
    }
}

/// Runs `body` on `engine` under the caller's `exec`. `waits`: the result goes to the host, so that a device's is waited for.
///
/// # Safety
/// `exec` is NULL or a valid struct whose pointers are valid.
pub(super) unsafe fn with_exec<T>(
    exec: *const mnemo_exec,
    engine: &SharedEngine,
    waits: bool,
    body: impl FnOnce(&Exec<'_>) -> Result<T>,
) -> Result<T> {
    // SAFETY: the caller's promise.
    let raw = unsafe { read_sized("exec", exec) }?;
    if raw.flags & !MNEMO_EXEC_CHECK != 0 {
        return Err(Error::invalid(format!("exec: flags is {:#x}; known is MNEMO_EXEC_CHECK (1)", raw.flags)));
    }
    // SAFETY: the caller's promise.
    let mut report = |done, total| raw.progress.is_none_or(|f| unsafe { f(raw.progress_user, done, total) } == 0);
    let exec = Exec {
        seed: raw.seed,
        stream: raw.stream as usize,
        check: waits || raw.flags & MNEMO_EXEC_CHECK != 0,
        // SAFETY: the caller's promise.
        cancel: unsafe { raw.cancel.as_ref() }.map(|c| &c.cancel),
        progress: std::cell::RefCell::new(if raw.progress.is_some() { Some(&mut report) } else { None }),
        ..Exec::default()
    };
    exec.check()?;
    let (mut body, mut result) = (Some(body), None);
    engine.within(&exec, &mut || {
        result = body.take().map(|body| body(&exec)).transpose()?;
        Ok(())
    })?;
    Ok(result.expect("an engine runs what it is given"))
}

/// Fills `exec` with its initial values; `size` is sizeof *exec.
///
/// Threads: any. Errors: none; NULL is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mnemo_exec_init(exec: *mut mnemo_exec, size: usize) {
    // SAFETY: the caller's promise.
    unsafe { initialise(exec, size) }
}

/// Makes a cancel flag, not requested, into `out`. Owned by the caller: mnemo_cancel_release.
///
/// Threads: any. Errors: MNEMO_E_INVALID.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mnemo_cancel_create(out: *mut *mut mnemo_cancel, err: *mut mnemo_error) -> i32 {
    // SAFETY: the caller's promises; so throughout this file.
    unsafe {
        guard(err, || {
            hand_over(place(out)?, mnemo_cancel { cancel: Cancel::default() });
            Ok(())
        })
    }
}

/// Asks every call that was given `cancel` to stop with MNEMO_E_CANCELLED; later ones stop at once, until a reset.
///
/// Threads: any, at any time; safe in a signal handler. Errors: MNEMO_E_INVALID.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mnemo_cancel_request(cancel: *mut mnemo_cancel) -> i32 {
    // SAFETY: as above. No guard: an atomic store cannot panic, and a signal handler can afford no more.
    match unsafe { cancel.as_ref() } {
        Some(c) => {
            c.cancel.request();
            super::status::MNEMO_OK
        }
        None => super::status::MNEMO_E_INVALID,
    }
}

/// Makes `cancel` usable for new calls.
///
/// Threads: any; a call still running under it may miss the request. Errors: MNEMO_E_INVALID.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mnemo_cancel_reset(cancel: *mut mnemo_cancel) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(std::ptr::null_mut(), || {
            required("cancel", cancel)?.cancel.reset();
            Ok(())
        })
    }
}

/// Releases `cancel`; NULL is ignored. No call may still be using it.
///
/// Threads: any. Errors: none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mnemo_cancel_release(cancel: *mut mnemo_cancel) {
    // SAFETY: as above.
    unsafe { take_back(cancel) }
}
