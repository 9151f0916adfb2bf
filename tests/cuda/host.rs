//! A C host: objects, calls and tensors as it makes them. Every call must leave the thread's stack of contexts as it was.

use crate::driver::{Driver, Room};
use mnemo::capi::context::*;
use mnemo::capi::dataset::*;
use mnemo::capi::exec::*;
use mnemo::capi::process::*;
use mnemo::capi::score::*;
use mnemo::capi::status::*;
use mnemo::capi::tensor::*;
use std::ffi::{CStr, CString, c_void};
use std::ptr::{null, null_mut};

/// An object of the library, released when dropped.
pub struct Object<T> {
    pub handle: *mut T,
    release: unsafe extern "C" fn(*mut T),
}

impl<T> Drop for Object<T> {
    fn drop(&mut self) {
        // SAFETY: made by the library, released once.
        unsafe { (self.release)(self.handle) }
    }
}

/// A call that failed.
#[derive(Debug)]
pub struct Failure {
    pub status: i32,
    pub native: i32,
    pub message: String,
}

pub type Outcome<T> = Result<T, Failure>;

/// Makes a call.
#[track_caller]
pub fn call(f: impl FnOnce(*mut mnemo_error) -> i32) -> Outcome<()> {
    let depth = || Driver::find().map(|driver| driver.counters().depth);
    let mut error = mnemo_error { code: -1, native: -1, len: 99, reserved: 99, message: [7; 496] };
    let before = depth();
    let status = f(&raw mut error);
    assert_eq!(depth(), before, "the thread's stack of contexts");
    // SAFETY: the library ends its message with a NUL.
    let message = unsafe { CStr::from_ptr(error.message.as_ptr()) }.to_str().expect("UTF-8").to_owned();
    assert_eq!((error.code, error.len as usize), (status, message.len()));
    if status == MNEMO_OK { Ok(()) } else { Err(Failure { status, native: error.native, message }) }
}

fn make<T>(
    release: unsafe extern "C" fn(*mut T),
    f: impl FnOnce(*mut *mut T, *mut mnemo_error) -> i32,
) -> Outcome<Object<T>> {
    let mut handle = null_mut();
    let outcome = call(|err| f(&raw mut handle, err));
    assert_eq!(handle.is_null(), outcome.is_err(), "an object exactly on success");
    outcome.map(|()| Object { handle, release })
}

/// A struct with its initial values.
pub fn initial<T>(init: unsafe extern "C" fn(*mut T, usize)) -> T {
    let mut value = std::mem::MaybeUninit::<T>::uninit();
    // SAFETY: init fills the whole struct.
    unsafe {
        init(value.as_mut_ptr(), size_of::<T>());
        value.assume_init()
    }
}

/// Where a context computes, and where it keeps kernels.
pub struct Place<'a> {
    pub device_type: u32,
    pub device_id: i32,
    pub kernels: Option<&'a str>,
}

pub const CPU: Place<'_> = Place { device_type: MNEMO_CPU, device_id: 0, kernels: None };
pub const CUDA: Place<'_> = Place { device_type: MNEMO_CUDA, device_id: 0, kernels: None };

pub fn context(place: &Place<'_>) -> Outcome<Object<mnemo_context>> {
    let folder = place.kernels.map(|folder| CString::new(folder).expect("a path"));
    let mut options = initial(mnemo_context_options_init);
    (options.device_type, options.device_id) = (place.device_type, place.device_id);
    options.num_threads = 1;
    options.kernel_cache_dir = folder.as_ref().map_or(null(), |folder| folder.as_ptr());
    // SAFETY: pointers are to live values of their types; so throughout this file.
    make(mnemo_context_release, |out, err| unsafe { mnemo_context_create(&raw const options, out, err) })
}

pub fn warm_up(context: &Object<mnemo_context>) -> Outcome<()> {
    // SAFETY: as above.
    call(|err| unsafe { mnemo_context_warm_up(context.handle, err) })
}

/// What the context says of itself.
pub fn describe(context: &Object<mnemo_context>) -> serde_json::Value {
    let mut text = vec![0u8; 4096];
    // SAFETY: as above.
    call(|err| unsafe {
        mnemo_context_describe(context.handle, text.as_mut_ptr().cast(), text.len(), null_mut(), err)
    })
    .expect("a description");
    serde_json::from_slice(CStr::from_bytes_until_nul(&text).expect("a NUL").to_bytes()).expect("JSON")
}

/// A contiguous tensor of float64 or int64 numbers.
pub trait Number: Copy + Default {
    const DTYPE: u32;
}

impl Number for f64 {
    const DTYPE: u32 = MNEMO_F64;
}

impl Number for f32 {
    const DTYPE: u32 = MNEMO_F32;
}

impl Number for i64 {
    const DTYPE: u32 = MNEMO_I64;
}

pub fn tensor<T: Number>(numbers: &[T], cols: usize) -> mnemo_tensor {
    mnemo_tensor {
        data: numbers.as_ptr().cast_mut().cast::<c_void>(),
        rows: (numbers.len() / cols) as i64,
        cols: cols as i64,
        row_stride: 0,
        dtype: T::DTYPE,
        device_type: MNEMO_CPU,
        device_id: 0,
        reserved: 0,
    }
}

pub fn device_tensor<T: Number>(room: &Room<'_, T>, rows: usize, cols: usize) -> mnemo_tensor {
    mnemo_tensor {
        data: room.address as usize as *mut c_void,
        rows: rows as i64,
        device_type: MNEMO_CUDA,
        ..tensor::<T>(&[], cols)
    }
}

pub fn dataset(context: &Object<mnemo_context>, rows: &mnemo_tensor) -> Outcome<Object<mnemo_dataset>> {
    // SAFETY: as above.
    make(mnemo_dataset_release, |out, err| unsafe {
        mnemo_dataset_copy(context.handle, rows, null(), null(), out, err)
    })
}

/// The process dx = sqrt(2 t) dW, sigma = t.
pub fn edm() -> Object<mnemo_process> {
    // SAFETY: as above.
    make(mnemo_process_release, |out, err| unsafe { mnemo_process_ve_power(2.0, 1.0, 80.0, out, err) }).expect("EDM")
}

/// Variance preserving, linear.
pub fn preserving() -> Object<mnemo_process> {
    // SAFETY: as above.
    make(mnemo_process_release, |out, err| unsafe { mnemo_process_vp_linear(0.1, 20.0, 1.0, out, err) }).expect("VP")
}

pub fn empirical(
    dataset: &Object<mnemo_dataset>,
    process: &Object<mnemo_process>,
    regularizer: u32,
    strength: f64,
) -> Outcome<Object<mnemo_score>> {
    let mut options = initial(mnemo_empirical_options_init);
    (options.regularizer, options.strength) = (regularizer, strength);
    // SAFETY: as above.
    make(mnemo_score_release, |out, err| unsafe {
        mnemo_score_empirical(dataset.handle, process.handle, &raw const options, out, err)
    })
}

pub fn custom(
    context: &Object<mnemo_context>,
    process: &Object<mnemo_process>,
    dim: usize,
    ops: &mnemo_score_ops,
    user: *mut c_void,
) -> Outcome<Object<mnemo_score>> {
    // SAFETY: as above; the caller keeps `user`.
    make(mnemo_score_release, |out, err| unsafe {
        mnemo_score_custom(context.handle, process.handle, dim as i64, ops, user, out, err)
    })
}

/// On which stream a call runs, and whether it checks numbers.
pub fn exec(stream: usize, flags: u32, seed: u64) -> mnemo_exec {
    mnemo_exec { stream: stream as *mut c_void, flags, seed, ..initial(mnemo_exec_init) }
}
