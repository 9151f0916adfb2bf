// SPDX-License-Identifier: MIT OR Apache-2.0
//! What holds after every call, and the statuses that the header's `Errors:` lines name.

use crate::memory::{CANARY, Memory};
use mnemo::capi::status::*;

/// The statuses of one function besides MNEMO_OK.
pub type Errors = &'static [i32];

// Any call may answer MNEMO_E_NOMEM, and any that reads a struct MNEMO_E_UNSUPPORTED. MNEMO_E_PANIC is never an answer here.
pub const INVALID: Errors = &[MNEMO_E_INVALID, MNEMO_E_NOMEM];
pub const STRUCT: Errors = &[MNEMO_E_INVALID, MNEMO_E_NOMEM, MNEMO_E_UNSUPPORTED];
pub const PROCESS_EVAL: Errors = &[MNEMO_E_INVALID, MNEMO_E_NOMEM, MNEMO_E_SHAPE];
pub const CONTEXT: Errors = &[MNEMO_E_INVALID, MNEMO_E_NOMEM, MNEMO_E_UNSUPPORTED, MNEMO_E_DEVICE];
pub const GATHER: Errors = &[MNEMO_E_INVALID, MNEMO_E_NOMEM, MNEMO_E_SHAPE, MNEMO_E_DTYPE, MNEMO_E_DEVICE];
pub const COPY: Errors =
    &[MNEMO_E_INVALID, MNEMO_E_NOMEM, MNEMO_E_UNSUPPORTED, MNEMO_E_SHAPE, MNEMO_E_DTYPE, MNEMO_E_DEVICE];
pub const OPEN: Errors =
    &[MNEMO_E_IO, MNEMO_E_DTYPE, MNEMO_E_UNSUPPORTED, MNEMO_E_INVALID, MNEMO_E_SHAPE, MNEMO_E_NOMEM];
pub const NEAREST: Errors = &[
    MNEMO_E_INVALID,
    MNEMO_E_NOMEM,
    MNEMO_E_UNSUPPORTED,
    MNEMO_E_SHAPE,
    MNEMO_E_DTYPE,
    MNEMO_E_DEVICE,
    MNEMO_E_CANCELLED,
];
pub const EVAL: Errors = &[
    MNEMO_E_INVALID,
    MNEMO_E_NOMEM,
    MNEMO_E_UNSUPPORTED,
    MNEMO_E_SHAPE,
    MNEMO_E_DTYPE,
    MNEMO_E_DEVICE,
    MNEMO_E_CANCELLED,
    MNEMO_E_CALLBACK,
];

/// Makes a call with an error struct full of rubbish, holds its answer against the header, and returns the status.
pub fn call(errors: Errors, call: impl FnOnce(*mut mnemo_error) -> i32) -> i32 {
    answer(errors, call).0
}

/// The same, with `native` and the message.
pub fn answer(errors: Errors, call: impl FnOnce(*mut mnemo_error) -> i32) -> (i32, i32, String) {
    let memory = Memory::new(size_of::<mnemo_error>(), 0);
    let status = call(memory.ptr());
    // SAFETY: any bytes are a valid mnemo_error.
    let error = unsafe { &*memory.ptr::<mnemo_error>() };
    let len = error.len as usize;
    assert!(len < error.message.len(), "len is {len}");
    let message: Vec<u8> = error.message[..len].iter().map(|c| c.cast_unsigned()).collect();
    assert_eq!(error.message.iter().position(|&c| c == 0), Some(len), "len is not where the NUL is");
    let message = String::from_utf8(message).expect("the message is UTF-8");
    assert!(status == MNEMO_OK || errors.contains(&status), "undocumented status {status}: {message}");
    assert_eq!(error.code, status);
    assert_eq!(error.reserved, 0);
    assert_eq!(message.is_empty(), status == MNEMO_OK, "status {status}: '{message}'");
    assert!(error.native == 0 || matches!(status, MNEMO_E_IO | MNEMO_E_CALLBACK), "native is {}", error.native);
    (status, error.native, message)
}

/// A call that makes an object: a handle on success; an untouched `out`, the status and the message on failure.
pub fn try_make<T>(
    errors: Errors,
    create: impl FnOnce(*mut *mut T, *mut mnemo_error) -> i32,
) -> Result<*mut T, (i32, String)> {
    let place = Memory::new(size_of::<*mut T>(), 0);
    let untouched = usize::from_ne_bytes([CANARY; size_of::<usize>()]);
    let (status, _, message) = answer(errors, |err| create(place.ptr(), err));
    // SAFETY: written by `Memory::new` or the call.
    let handle = unsafe { place.ptr::<*mut T>().read() };
    if status == MNEMO_OK {
        assert!(!handle.is_null() && handle.addr() != untouched, "success without a handle");
        return Ok(handle);
    }
    assert_eq!(handle.addr(), untouched, "out was written on failure: {message}");
    Err((status, message))
}

/// The same without the message.
pub fn make<T>(errors: Errors, create: impl FnOnce(*mut *mut T, *mut mnemo_error) -> i32) -> Result<*mut T, i32> {
    try_make(errors, create).map_err(|(status, _)| status)
}
