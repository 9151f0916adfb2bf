//! Status codes and errors.

use crate::error::Error;
use std::ffi::c_char;

/// Success.
pub const MNEMO_OK: i32 = 0;
/// An argument has a value that is not accepted (NULL, NaN, out of range, an unknown constant).
pub const MNEMO_E_INVALID: i32 = 1;
/// Sizes or strides do not agree, or are not accepted.
pub const MNEMO_E_SHAPE: i32 = 2;
/// An element type is not accepted.
pub const MNEMO_E_DTYPE: i32 = 3;
/// The device is not there, or a tensor lives on another device than its context.
pub const MNEMO_E_DEVICE: i32 = 4;
/// Memory could not be had, or the context's memory_limit would be passed.
pub const MNEMO_E_NOMEM: i32 = 5;
/// A file could not be read, does not hold what its header says, or was changed while a data set reads its rows from it;
/// `native` is errno or 0.
pub const MNEMO_E_IO: i32 = 6;
/// The CUDA driver reported an error; `native` is its number.
pub const MNEMO_E_CUDA: i32 = 7;
/// A kernel could not be compiled or loaded; `native` is the number of NVRTC or of the CUDA driver.
pub const MNEMO_E_COMPILE: i32 = 8;
/// A cancel handle or a progress callback asked to stop.
pub const MNEMO_E_CANCELLED: i32 = 9;
/// A callback of the host failed; `native` is what it returned.
pub const MNEMO_E_CALLBACK: i32 = 10;
/// The request is understood, but this object or this version cannot do it.
pub const MNEMO_E_UNSUPPORTED: i32 = 11;
/// The context cannot be used any more (a CUDA context after a fork or a device fault).
pub const MNEMO_E_POISONED: i32 = 12;
/// A bug in the library; the object that was being worked on should be released.
pub const MNEMO_E_PANIC: i32 = 13;

/// The ABI's major version: the SONAME is libmnemo.so.MAJOR. While it is 0, minor versions may change the ABI too;
/// every change is in CHANGELOG.md.
pub const MNEMO_ABI_MAJOR: u32 = 0;
/// The ABI's minor version: goes up when something is added.
pub const MNEMO_ABI_MINOR: u32 = 2;

/// What went wrong in one call, in memory of the caller's own; 512 bytes, no initialisation needed. A call that is
/// given one fills it whatever happens: on success `code` is MNEMO_OK and `message` is empty.
#[repr(C)]
pub struct mnemo_error {
    /// The status that the call returned.
    pub code: i32,
    /// The number of the layer below: errno, a CUDA error, a callback's own result; 0 if there is none.
    pub native: i32,
    /// Length of `message` in bytes, without its NUL.
    pub len: u32,
    /// 0.
    pub reserved: u32,
    /// UTF-8, NUL-terminated, cut at a character if it is too long. Names the argument, what was given and what is
    /// accepted.
    pub message: [c_char; 496],
}

impl mnemo_error {
    pub(crate) fn fill(&mut self, code: i32, native: i32, message: &str) {
        let len = message.floor_char_boundary(self.message.len() - 1);
        self.message[len..].fill(0);
        for (to, from) in self.message.iter_mut().zip(&message.as_bytes()[..len]) {
            *to = from.cast_signed() as c_char;
        }
        (self.code, self.native, self.len, self.reserved) = (code, native, len as u32, 0);
    }
}

pub(crate) fn code_of(e: &Error) -> i32 {
    match e {
        Error::Invalid(_) => MNEMO_E_INVALID,
        Error::Shape(_) => MNEMO_E_SHAPE,
        Error::Dtype(_) => MNEMO_E_DTYPE,
        Error::Device(_) => MNEMO_E_DEVICE,
        Error::NoMemory(_) => MNEMO_E_NOMEM,
        Error::Io { .. } => MNEMO_E_IO,
        Error::Cancelled(_) => MNEMO_E_CANCELLED,
        Error::Callback { .. } => MNEMO_E_CALLBACK,
        Error::Unsupported(_) => MNEMO_E_UNSUPPORTED,
        Error::Cuda { .. } => MNEMO_E_CUDA,
        Error::Compile { .. } => MNEMO_E_COMPILE,
        Error::Poisoned(_) => MNEMO_E_POISONED,
    }
}

/// The ABI version of the library that is loaded: (major << 16) | minor. Compare its upper half with MNEMO_ABI_MAJOR
/// and its lower half with at least the MNEMO_ABI_MINOR you were compiled with.
///
/// Threads: any. Errors: none.
#[unsafe(no_mangle)]
pub extern "C" fn mnemo_abi_version() -> u32 {
    (MNEMO_ABI_MAJOR << 16) | MNEMO_ABI_MINOR
}

/// The version of the library that is loaded, such as "0.1.0". A static string.
///
/// Threads: any. Errors: none.
#[unsafe(no_mangle)]
pub extern "C" fn mnemo_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// The name of a status, such as "MNEMO_E_SHAPE"; "unknown status" for a number that is none. A static string.
///
/// Threads: any. Errors: none.
#[unsafe(no_mangle)]
pub extern "C" fn mnemo_status_name(status: i32) -> *const c_char {
    let name: &std::ffi::CStr = match status {
        MNEMO_OK => c"MNEMO_OK",
        MNEMO_E_INVALID => c"MNEMO_E_INVALID",
        MNEMO_E_SHAPE => c"MNEMO_E_SHAPE",
        MNEMO_E_DTYPE => c"MNEMO_E_DTYPE",
        MNEMO_E_DEVICE => c"MNEMO_E_DEVICE",
        MNEMO_E_NOMEM => c"MNEMO_E_NOMEM",
        MNEMO_E_IO => c"MNEMO_E_IO",
        MNEMO_E_CUDA => c"MNEMO_E_CUDA",
        MNEMO_E_COMPILE => c"MNEMO_E_COMPILE",
        MNEMO_E_CANCELLED => c"MNEMO_E_CANCELLED",
        MNEMO_E_CALLBACK => c"MNEMO_E_CALLBACK",
        MNEMO_E_UNSUPPORTED => c"MNEMO_E_UNSUPPORTED",
        MNEMO_E_POISONED => c"MNEMO_E_POISONED",
        MNEMO_E_PANIC => c"MNEMO_E_PANIC",
        _ => c"unknown status",
    };
    name.as_ptr()
}
