//! Where the tests' contexts compute and where their tensors are: on the CPU, or as `MNEMO_TEST_DEVICE` says: "host" for a
//! CUDA context with tensors in the host's memory, "device" for one with tensors in the device's.
//!
//! `tests/cuda/run.sh` runs the tests of the C ABI with both.

use crate::api::{Matrix, Numbers};
use libloading::{Library, Symbol};
use mnemo::capi::context::mnemo_context_options;
use mnemo::capi::tensor::*;
use mnemo::tensor::Dtype;
use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::OnceLock;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Home {
    Cpu,
    CudaWithHostTensors,
    Cuda,
}

fn home() -> Home {
    static HOME: OnceLock<Home> = OnceLock::new();
    *HOME.get_or_init(|| match std::env::var("MNEMO_TEST_DEVICE").as_deref() {
        Err(_) => Home::Cpu,
        Ok("host") => Home::CudaWithHostTensors,
        Ok("device") => Home::Cuda,
        Ok(other) => panic!("MNEMO_TEST_DEVICE is {other}; it is host or device"),
    })
}

/// Whether contexts of the C ABI compute on a CUDA device.
pub fn is_cuda() -> bool {
    home() != Home::Cpu
}

/// Whether tensors are in its memory.
pub fn tensors_on_device() -> bool {
    home() == Home::Cuda
}

/// Has a context be on the device.
pub fn choose(options: &mut mnemo_context_options) {
    options.device_type = if is_cuda() { MNEMO_CUDA } else { MNEMO_CPU };
}

/// The little of the driver that a host with tensors of its own needs.
struct Driver(Library);

type Status = i32;

impl Driver {
    fn get() -> &'static Self {
        static DRIVER: OnceLock<Driver> = OnceLock::new();
        DRIVER.get_or_init(|| {
            // SAFETY: NVIDIA's driver, or what stands in for it.
            let driver = Self(unsafe { Library::new("libcuda.so.1") }.expect("a driver"));
            // SAFETY: signatures are those of cuda.h; so throughout this file.
            unsafe { driver.call::<unsafe extern "C" fn(u32) -> Status>("cuInit", |f| f(0)) };
            driver
        })
    }

    fn call<F>(&self, name: &str, f: impl FnOnce(Symbol<'_, F>) -> Status) {
        // SAFETY: as above.
        let function = unsafe { self.0.get::<F>(name.as_bytes()) }.unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(f(function), 0, "{name}");
    }

    /// Runs `work` with the device's primary context current, which is retained for good.
    fn with_context<T>(&self, work: impl FnOnce() -> T) -> T {
        static CONTEXT: OnceLock<usize> = OnceLock::new();
        type Retain = unsafe extern "C" fn(*mut usize, i32) -> Status;
        let context = *CONTEXT.get_or_init(|| {
            let mut context = 0;
            // SAFETY: as above.
            self.call::<Retain>("cuDevicePrimaryCtxRetain", |f| unsafe { f(&raw mut context, 0) });
            context
        });
        // SAFETY: as above.
        self.call::<unsafe extern "C" fn(usize) -> Status>("cuCtxPushCurrent_v2", |f| unsafe { f(context) });
        let result = work();
        let mut popped = 0usize;
        // SAFETY: as above.
        self.call::<unsafe extern "C" fn(*mut usize) -> Status>("cuCtxPopCurrent_v2", |f| unsafe {
            f(&raw mut popped)
        });
        assert_eq!(popped, context, "the library left another context current");
        result
    }

    fn allocate(&self, bytes: usize) -> u64 {
        let mut address = 0;
        // SAFETY: as above.
        self.call::<unsafe extern "C" fn(*mut u64, usize) -> Status>("cuMemAlloc_v2", |f| unsafe {
            f(&raw mut address, bytes)
        });
        address
    }

    fn free(&self, address: u64) {
        // SAFETY: as above.
        self.call::<unsafe extern "C" fn(u64) -> Status>("cuMemFree_v2", |f| unsafe { f(address) });
    }

    fn upload(&self, to: u64, from: *const c_void, bytes: usize) {
        type Copy = unsafe extern "C" fn(u64, *const c_void, usize) -> Status;
        // SAFETY: as above.
        self.call::<Copy>("cuMemcpyHtoD_v2", |f| unsafe { f(to, from, bytes) });
    }

    /// Waits for the default stream, on which the tests' calls are.
    fn download(&self, to: *mut c_void, from: u64, bytes: usize) {
        type Copy = unsafe extern "C" fn(*mut c_void, u64, usize) -> Status;
        // SAFETY: as above.
        self.call::<unsafe extern "C" fn(usize) -> Status>("cuStreamSynchronize", |f| unsafe { f(0) });
        self.call::<Copy>("cuMemcpyDtoH_v2", |f| unsafe { f(to, from, bytes) });
    }
}

/// A tensor lent to a call. One that is written shows in its matrix when this is dropped.
pub struct Lent<'a> {
    pub tensor: mnemo_tensor,
    device: Option<(u64, usize)>,
    to: Option<&'a mut Matrix>,
}

fn bytes(numbers: &Numbers) -> usize {
    numbers.len() * numbers.dtype().size()
}

fn describe(m: &Matrix, data: *mut u8) -> mnemo_tensor {
    mnemo_tensor {
        // A host may describe an empty matrix with NULL.
        data: if m.rows == 0 { null_mut() } else { data.cast() },
        rows: m.rows as i64,
        cols: m.cols as i64,
        // 0 says the same as cols.
        row_stride: if m.stride == m.cols { 0 } else { m.stride as i64 },
        dtype: match m.dtype() {
            Dtype::F32 => MNEMO_F32,
            Dtype::F64 => MNEMO_F64,
            Dtype::F16 => MNEMO_F16,
            Dtype::Bf16 => MNEMO_BF16,
            Dtype::U8 => MNEMO_U8,
            Dtype::I32 => MNEMO_I32,
            Dtype::I64 => MNEMO_I64,
        },
        device_type: MNEMO_CPU,
        device_id: 0,
        reserved: 0,
    }
}

impl<'a> Lent<'a> {
    /// To be read.
    pub fn input(m: &'a Matrix) -> Self {
        let (tensor, device) = place(m, m.numbers.data());
        Self { tensor, device, to: None }
    }

    /// To be read and written.
    pub fn output(m: &'a mut Matrix) -> Self {
        let data = m.numbers.data_mut();
        let (tensor, device) = place(m, data);
        Self { tensor, device, to: Some(m) }
    }
}

/// Describes a matrix whose numbers are at `data`, or a copy of it on the device.
fn place(m: &Matrix, data: *mut u8) -> (mnemo_tensor, Option<(u64, usize)>) {
    let mut tensor = describe(m, data);
    if !tensors_on_device() || m.rows == 0 {
        return (tensor, None);
    }
    let (driver, len) = (Driver::get(), bytes(&m.numbers));
    let address = driver.with_context(|| {
        // The driver has no blocks of nothing.
        let address = driver.allocate(len.max(1));
        driver.upload(address, data.cast_const().cast(), len);
        address
    });
    (tensor.data, tensor.device_type) = (address as usize as *mut c_void, MNEMO_CUDA);
    (tensor, Some((address, len)))
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let Some((address, len)) = self.device else { return };
        // A second panic would end all tests; one that has failed may leave memory behind.
        if std::thread::panicking() {
            return;
        }
        let driver = Driver::get();
        driver.with_context(|| {
            if let Some(m) = &mut self.to {
                driver.download(m.numbers.data_mut().cast(), address, len);
            }
            driver.free(address);
        });
    }
}

/// The numbers of a contiguous tensor that the library lends to a callback.
///
/// # Safety
/// `t` is such a tensor.
pub unsafe fn wide(t: *const mnemo_tensor) -> Vec<f64> {
    // SAFETY: the caller's promise.
    let t = unsafe { &*t };
    assert!(t.row_stride == 0 || t.row_stride == t.cols);
    let len = (t.rows * t.cols) as usize;
    let copy = |to: *mut c_void, size: usize| match t.device_type {
        // SAFETY: the caller's promise.
        MNEMO_CPU => unsafe { std::ptr::copy_nonoverlapping(t.data.cast::<u8>(), to.cast(), len * size) },
        _ => Driver::get().download(to, t.data.addr() as u64, len * size),
    };
    match t.dtype {
        MNEMO_F32 => {
            let mut numbers = vec![0f32; len];
            copy(numbers.as_mut_ptr().cast(), size_of::<f32>());
            numbers.into_iter().map(f64::from).collect()
        }
        MNEMO_F64 => {
            let mut numbers = vec![0f64; len];
            copy(numbers.as_mut_ptr().cast(), size_of::<f64>());
            numbers
        }
        other => panic!("dtype {other} in a callback"),
    }
}

/// Writes the numbers of such a tensor.
///
/// # Safety
/// As [`wide`].
pub unsafe fn narrow(from: &[f64], t: *mut mnemo_tensor) {
    // SAFETY: the caller's promise.
    let t = unsafe { &*t };
    let copy = |from: *const c_void, bytes: usize| match t.device_type {
        // SAFETY: the caller's promise.
        MNEMO_CPU => unsafe { std::ptr::copy_nonoverlapping(from.cast::<u8>(), t.data.cast(), bytes) },
        _ => Driver::get().upload(t.data.addr() as u64, from, bytes),
    };
    match t.dtype {
        MNEMO_F32 => {
            let single: Vec<f32> = from.iter().map(|&v| v as f32).collect();
            copy(single.as_ptr().cast(), size_of_val(&single[..]));
        }
        _ => copy(from.as_ptr().cast(), size_of_val(from)),
    }
}
