//! The C ABI: checks, converts, calls one function of the core, returns a status. No mathematics.
//!
//! `include/mnemo.h` is generated from these files, one section per file (see `tests/abi`); their comments are its
//! text.
//!
//! What every entry point asks of its caller is what C cannot check: pointers are NULL or valid for what their type
//! says, handles are live, strings end in NUL. The header's preface is that contract, so it is not repeated as `#
//! Safety`. Brackets in them are shapes, not links.
#![allow(non_camel_case_types, clippy::missing_safety_doc, rustdoc::broken_intra_doc_links)]

pub mod context;
pub mod dataset;
pub mod exec;
pub mod memorization;
pub mod process;
pub mod sampler;
pub mod score;
pub mod status;
pub mod tensor;

use crate::error::{Error, Result};
use std::cell::Cell;
use std::ffi::{CStr, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

#[cfg(not(panic = "unwind"))]
compile_error!("mnemo must be built with panic = \"unwind\": a panic becomes MNEMO_E_PANIC, not the end of the host");

thread_local! {
    /// Calls of the library that are under way on this thread.
    static INSIDE: Cell<u32> = const { Cell::new(0) };
}

/// Makes the panic hook silent on a worker thread, which runs nothing but the library.
pub(crate) fn silence_panics_of_this_thread() {
    INSIDE.set(1);
}

/// Nothing is printed: the hook passes on only the panics of threads that are not inside the library.
fn install_silent_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if INSIDE.get() == 0 {
                previous(info);
            }
        }));
    });
}

/// Runs the body of an entry point: catches panics, fills `err`, returns the status.
///
/// # Safety
/// `err` is NULL or points to a writable `mnemo_error`.
unsafe fn guard(err: *mut status::mnemo_error, body: impl FnOnce() -> Result<()>) -> i32 {
    install_silent_hook();
    INSIDE.set(INSIDE.get() + 1);
    let outcome = catch_unwind(AssertUnwindSafe(body));
    INSIDE.set(INSIDE.get() - 1);
    let (code, native, message) = match outcome {
        Ok(Ok(())) => (status::MNEMO_OK, 0, String::new()),
        Ok(Err(e)) => {
            let native = match e {
                Error::Io { native, .. }
                | Error::Callback { native, .. }
                | Error::Cuda { native, .. }
                | Error::Compile { native, .. } => native,
                _ => 0,
            };
            (status::code_of(&e), native, e.to_string())
        }
        Err(payload) => {
            let what = (payload.downcast_ref::<&str>().copied())
                .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
                .unwrap_or("no message");
            (status::MNEMO_E_PANIC, 0, format!("a bug in mnemo: {what}"))
        }
    };
    if err.is_aligned()
        // SAFETY: the caller's promise.
        && let Some(err) = unsafe { err.as_mut() }
    {
        err.fill(code, native, &message);
    }
    code
}

/// A handle or struct that must be there.
///
/// # Safety
/// `p` is NULL or points to a live `T`.
unsafe fn required<'a, T>(name: &str, p: *const T) -> Result<&'a T> {
    if !p.is_aligned() {
        return Err(Error::invalid(format!("{name} is not aligned to {} bytes", align_of::<T>())));
    }
    // SAFETY: the caller's promise.
    unsafe { p.as_ref() }.ok_or_else(|| Error::invalid(format!("{name} is NULL")))
}

/// A sized struct that must be given. No reference is made of it: it may be shorter than this version's.
fn given<T: Sized32>(name: &str, p: *const T) -> Result<()> {
    if p.is_null() { Err(Error::invalid(format!("{name} is NULL"))) } else { Ok(()) }
}

/// Where a new handle goes. Checked before any work, so that nothing is made that could not be handed over.
///
/// # Safety
/// `out` is NULL or writable.
unsafe fn place<'a, T>(out: *mut *mut T) -> Result<&'a mut *mut T> {
    if !out.is_aligned() {
        return Err(Error::invalid(format!("out is not aligned to {} bytes", align_of::<*mut T>())));
    }
    // SAFETY: the caller's promise.
    unsafe { out.as_mut() }.ok_or_else(|| Error::invalid("out is NULL"))
}

/// Hands a new object over.
fn hand_over<T>(out: &mut *mut T, object: T) {
    *out = Box::into_raw(Box::new(object));
}

/// Takes an object back and drops it; NULL is nothing. A destructor's panic ends here.
///
/// # Safety
/// `p` is NULL or came from [`hand_over`] and is not used again.
unsafe fn take_back<T>(p: *mut T) {
    if !p.is_null() {
        // SAFETY: the caller's promise.
        unsafe {
            guard(std::ptr::null_mut(), || {
                drop(Box::from_raw(p));
                Ok(())
            });
        }
    }
}

/// A struct that begins with its own size and may grow in later versions.
///
/// # Safety
/// The type is `repr(C)`, begins with a `u32` size, has no padding, and any bytes are a valid value.
unsafe trait Sized32: Copy {
    /// The struct as its init function fills it; `struct_size` is the type's size.
    fn initial() -> Self;
}

/// Reads the caller's struct, of this version or another; NULL means the initial values.
///
/// # Safety
/// `p` is NULL or points to a struct of as many bytes as its first field says.
unsafe fn read_sized<T: Sized32>(name: &str, p: *const T) -> Result<T> {
    let mut value = T::initial();
    if p.is_null() {
        return Ok(value);
    }
    // SAFETY: every sized struct begins with its size.
    let size = unsafe { check_size::<T>(name, p) }?;
    let known = size.min(size_of::<T>());
    // SAFETY: the caller vouches for `size` bytes, and any bytes are a valid T.
    let tail = unsafe {
        std::ptr::copy_nonoverlapping(p.cast::<u8>(), (&raw mut value).cast::<u8>(), known);
        std::slice::from_raw_parts(p.cast::<u8>().add(known), size - known)
    };
    if let Some(i) = tail.iter().position(|&b| b != 0) {
        return Err(Error::unsupported(format!(
            "{name}: byte {} of the struct is not 0, but this version of mnemo knows only the first {}",
            known + i,
            size_of::<T>()
        )));
    }
    Ok(value)
}

/// Fills the part of the caller's struct that both know; its `struct_size` stays.
///
/// # Safety
/// As [`read_sized`], and writable.
unsafe fn write_sized<T: Sized32>(name: &str, p: *mut T, value: &T) -> Result<()> {
    const SIZE: usize = size_of::<u32>();
    if p.is_null() {
        return Err(Error::invalid(format!("{name} is NULL")));
    }
    // SAFETY: the caller vouches for as many bytes as the first field says.
    unsafe {
        let known = check_size::<T>(name, p)?.min(size_of::<T>());
        let from = std::ptr::from_ref(value).cast::<u8>().add(SIZE);
        std::ptr::copy_nonoverlapping(from, p.cast::<u8>().add(SIZE), known - SIZE);
    }
    Ok(())
}

unsafe fn check_size<T>(name: &str, p: *const T) -> Result<usize> {
    const LARGEST: usize = 64 << 10;
    if !p.is_aligned() {
        return Err(Error::invalid(format!("{name} is not aligned to {} bytes", align_of::<T>())));
    }
    // SAFETY: the caller vouches for the first field.
    let size = unsafe { p.cast::<u32>().read() } as usize;
    if size < align_of::<T>() || size > LARGEST || !size.is_multiple_of(align_of::<T>()) {
        return Err(Error::invalid(format!(
            "{name}: struct_size is {size}; set it to the size of the struct ({} in this version), as its init function does",
            size_of::<T>()
        )));
    }
    Ok(size)
}

/// The body of an init function: the initial values as far as the caller's struct reaches, zeros beyond.
///
/// # Safety
/// `p` is NULL or writable for `size` bytes.
unsafe fn initialise<T: Sized32>(p: *mut T, size: usize) {
    let Ok(size32) = u32::try_from(size) else { return };
    if p.is_null() || size < size_of::<u32>() {
        return;
    }
    let initial = T::initial();
    let known = size.min(size_of::<T>());
    // SAFETY: the caller's promise.
    unsafe {
        p.cast::<u8>().write_bytes(0, size);
        std::ptr::copy_nonoverlapping((&raw const initial).cast::<u8>(), p.cast::<u8>(), known);
        p.cast::<u32>().write_unaligned(size32);
    }
}

/// A caller's string.
///
/// # Safety
/// `p` is NULL or a NUL-terminated string that lives for `'a`.
unsafe fn string<'a>(name: &str, p: *const c_char) -> Result<Option<&'a str>> {
    if p.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    let s = unsafe { CStr::from_ptr(p) };
    s.to_str().map(Some).map_err(|e| Error::invalid(format!("{name} is not UTF-8: {e}")))
}

/// A C truth value.
fn flag(name: &str, v: u32) -> Result<bool> {
    match v {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Error::invalid(format!("{name} is {v}; it is 0 or 1"))),
    }
}

/// A field that has no meaning yet.
fn reserved(name: &str, v: u32) -> Result<()> {
    if v != 0 {
        return Err(Error::invalid(format!("{name}: reserved is {v}; it is 0")));
    }
    Ok(())
}

/// A caller's count.
fn count(name: &str, v: i64) -> Result<usize> {
    usize::try_from(v).map_err(|_| Error::invalid(format!("{name} is {v}; it must not be negative")))
}

/// A caller's array of `n` numbers; `length` is the name of n.
///
/// # Safety
/// `p` is NULL or holds `n` numbers that live for `'a`.
unsafe fn array<'a>(name: &str, p: *const f64, length: &str, n: i64) -> Result<&'a [f64]> {
    let n = count(length, n)?;
    if n == 0 {
        return Ok(&[]);
    }
    if p.is_null() || !p.is_aligned() {
        return Err(Error::invalid(format!(
            "{name} is {}",
            if p.is_null() { "NULL" } else { "not aligned to 8 bytes" }
        )));
    }
    if n > isize::MAX as usize / size_of::<f64>() {
        return Err(Error::shape(format!("{length} is {n}; no array is that long")));
    }
    // SAFETY: not NULL, aligned, and the caller vouches for `n` numbers.
    Ok(unsafe { std::slice::from_raw_parts(p, n) })
}
