//! The functions of NVIDIA's driver that the engine calls, found at run time: the library loads on machines without one.
//!
//! Every function is looked up before the first is called, so that a driver which lacks one is an error and no more. A
//! result is a plain number here: drivers are newer than any list of their errors.

use crate::error::{Error, Result};
use libloading::Library;
use std::ffi::{CStr, c_char, c_uint, c_void};
use std::sync::OnceLock;

/// `CUcontext`, `CUmodule`, `CUfunction`, `CUstream`: addresses that mean nothing here.
pub type Handle = usize;

/// The least driver: what loads the embedded kernels.
const LEAST_VERSION: i32 = 12000;

macro_rules! driver {
    ($($(#[$doc:meta])* fn $name:ident = $symbol:literal($($argument:ident: $type:ty),*);)*) => {
        /// The driver.
        pub struct Driver {
            /// Never unloaded: a driver does not bear it.
            _library: &'static Library,
            $($name: unsafe extern "system" fn($($type),*) -> i32,)*
        }

        impl Driver {
            fn find(library: &'static Library) -> Result<Self> {
                Ok(Self {
                    _library: library,
                    // SAFETY: the signatures are those of cuda.h; these functions never change their meaning.
                    $($name: *unsafe { library.get(concat!($symbol, "\0").as_bytes()) }.map_err(|_| {
                        Error::Device(concat!("the CUDA driver lacks ", $symbol, "; one of CUDA 12.0 or later is needed").into())
                    })?,)*
                })
            }

            // `error_name` is called unchecked: its failure is no news.
            $($(#[$doc])*
            #[allow(dead_code, clippy::too_many_arguments)]
            pub unsafe fn $name(&self, $($argument: $type),*) -> Result<()> {
                // SAFETY: the caller's promise.
                self.check($symbol, unsafe { (self.$name)($($argument),*) })
            })*
        }
    };
}

driver! {
    fn init = "cuInit"(flags: c_uint);
    fn version = "cuDriverGetVersion"(version: *mut i32);
    fn error_name = "cuGetErrorName"(code: i32, name: *mut *const c_char);
    fn device_count = "cuDeviceGetCount"(count: *mut i32);
    fn device = "cuDeviceGet"(device: *mut i32, ordinal: i32);
    fn device_name = "cuDeviceGetName"(name: *mut c_char, len: i32, device: i32);
    fn device_attribute = "cuDeviceGetAttribute"(value: *mut i32, attribute: i32, device: i32);
    fn retain_context = "cuDevicePrimaryCtxRetain"(context: *mut Handle, device: i32);
    fn release_context = "cuDevicePrimaryCtxRelease_v2"(device: i32);
    fn push_context = "cuCtxPushCurrent_v2"(context: Handle);
    fn pop_context = "cuCtxPopCurrent_v2"(context: *mut Handle);
    fn load_module = "cuModuleLoadData"(module: *mut Handle, image: *const c_void);
    fn unload_module = "cuModuleUnload"(module: Handle);
    fn function = "cuModuleGetFunction"(function: *mut Handle, module: Handle, name: *const c_char);
    fn allow = "cuFuncSetAttribute"(function: Handle, attribute: i32, value: i32);
    fn launch = "cuLaunchKernel"(
        function: Handle, grid_x: c_uint, grid_y: c_uint, grid_z: c_uint, block_x: c_uint, block_y: c_uint, block_z: c_uint,
        shared: c_uint, stream: Handle, parameters: *mut *mut c_void, extra: *mut *mut c_void
    );
    fn allocate = "cuMemAlloc_v2"(address: *mut u64, bytes: usize);
    fn free = "cuMemFree_v2"(address: u64);
    fn upload = "cuMemcpyHtoDAsync_v2"(to: u64, from: *const c_void, bytes: usize, stream: Handle);
    fn download = "cuMemcpyDtoHAsync_v2"(to: *mut c_void, from: u64, bytes: usize, stream: Handle);
    fn copy_2d = "cuMemcpy2DAsync_v2"(copy: *const Copy2d, stream: Handle);
    fn fill_bytes = "cuMemsetD8Async"(address: u64, value: u8, bytes: usize, stream: Handle);
    fn synchronize = "cuStreamSynchronize"(stream: Handle);
    fn exchange_capture_mode = "cuThreadExchangeStreamCaptureMode"(mode: *mut i32);
    fn is_capturing = "cuStreamIsCapturing"(stream: Handle, status: *mut i32);
}

/// `CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR` and `_MINOR`.
pub const CAPABILITY: [i32; 2] = [75, 76];
/// `CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES`.
pub const MOST_SHARED: i32 = 8;
/// `CU_MEMORYTYPE_HOST` and `CU_MEMORYTYPE_DEVICE`.
pub const HOST: i32 = 1;
/// See [`HOST`].
pub const DEVICE: i32 = 2;

/// `CUDA_MEMCPY2D`: rows of bytes from one memory to another.
#[repr(C)]
#[derive(Default)]
pub struct Copy2d {
    pub from_x: usize,
    pub from_y: usize,
    pub from_type: i32,
    pub from_host: usize,
    pub from_device: u64,
    pub from_array: usize,
    pub from_pitch: usize,
    pub to_x: usize,
    pub to_y: usize,
    pub to_type: i32,
    pub to_host: usize,
    pub to_device: u64,
    pub to_array: usize,
    pub to_pitch: usize,
    pub width: usize,
    pub height: usize,
}

const OUT_OF_MEMORY: i32 = 2;

impl Driver {
    /// The driver, initialised; [`Error::Device`] says what is missing.
    pub fn get() -> Result<&'static Self> {
        static DRIVER: OnceLock<Driver> = OnceLock::new();
        if let Some(driver) = DRIVER.get() {
            return Ok(driver);
        }
        let driver = Self::open()?;
        Ok(DRIVER.get_or_init(|| driver))
    }

    fn open() -> Result<Self> {
        let names: &[&str] = if cfg!(windows) { &["nvcuda.dll"] } else { &["libcuda.so.1", "libcuda.so"] };
        let mut missing = String::new();
        // SAFETY: loading NVIDIA's driver runs its own initialisation and nothing else.
        let library =
            names.iter().find_map(|name| unsafe { Library::new(*name).map_err(|e| missing = reason(&e)).ok() });
        let library = library.ok_or_else(|| Error::Device(format!("no CUDA driver: {missing}")))?;
        let driver = Self::find(Box::leak(Box::new(library)))?;
        let mut version = 0;
        // SAFETY: `version` is writable; both may be called first.
        unsafe {
            driver.version(&raw mut version).map_err(not_there)?;
            if version < LEAST_VERSION {
                let (major, minor) = (version / 1000, version % 1000 / 10);
                return Err(Error::Device(format!(
                    "the CUDA driver is for CUDA {major}.{minor}; 12.0 or later is needed"
                )));
            }
            driver.init(0).map_err(not_there)?;
        }
        Ok(driver)
    }

    /// What the driver calls the CUDA version it is for, such as 12080.
    pub fn cuda_version(&self) -> i32 {
        let mut version = 0;
        // SAFETY: `version` is writable.
        unsafe { self.version(&raw mut version) }.map_or(0, |()| version)
    }

    fn check(&self, function: &str, code: i32) -> Result<()> {
        if code == 0 {
            return Ok(());
        }
        let mut name = std::ptr::null();
        // SAFETY: `name` is writable; the string is static.
        let known = unsafe { (self.error_name)(code, &raw mut name) } == 0 && !name.is_null();
        // SAFETY: as above.
        let name = if known { unsafe { CStr::from_ptr(name) }.to_string_lossy() } else { "an unknown error".into() };
        let message = format!("{function}: {name} ({code})");
        Err(if code == OUT_OF_MEMORY { Error::NoMemory(message) } else { Error::Cuda { message, native: code } })
    }
}

/// What the loader says.
fn reason(e: &libloading::Error) -> String {
    std::error::Error::source(e).map_or_else(|| e.to_string(), ToString::to_string)
}

/// Any error of a driver that is being looked for means that the device is not there.
pub fn not_there(e: Error) -> Error {
    Error::Device(e.to_string())
}
