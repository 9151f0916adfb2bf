//! A stand-in of its own for each test, and small kernels in PTX.

// Each test file uses a part of this.
#![allow(dead_code, non_snake_case)]

use std::ffi::{CString, c_char, c_void};
use std::path::{Path, PathBuf};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU32, Ordering};

pub type Handle = u64;

pub const INVALID_VALUE: i32 = 1;
pub const OUT_OF_MEMORY: i32 = 2;
pub const INVALID_CONTEXT: i32 = 201;
pub const NO_BINARY_FOR_GPU: i32 = 209;
pub const INVALID_HANDLE: i32 = 400;
pub const NOT_FOUND: i32 = 500;
pub const NOT_READY: i32 = 600;
pub const ILLEGAL_ADDRESS: i32 = 700;
pub const LAUNCH_FAILED: i32 = 719;
pub const CAPTURE_UNSUPPORTED: i32 = 900;
pub const CAPTURE_INVALIDATED: i32 = 901;

/// Adds 1 to the first `n` words; reads a word beyond `n` on request; adds up through shared memory.
pub const PTX: &str = include_str!("kernels.ptx");

/// A temporary folder that goes with its owner.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("standin-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a temporary folder");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The library that cargo built beside this test.
pub fn built_library() -> PathBuf {
    let test = std::env::current_exe().expect("the path of the test");
    let folder = test.parent().expect("a folder");
    let candidates = [folder, folder.parent().expect("a folder")].map(|folder| folder.join("libstandin_cuda.so"));
    candidates.into_iter().find(|path| path.exists()).expect("libstandin_cuda.so beside the test")
}

macro_rules! functions {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        /// The functions of one copy of the library; a copy has its own state.
        pub struct Cuda {
            $(pub $name: unsafe extern "C" fn($($type),*) -> $answer,)*
            pub library: libloading::Library,
            pub folder: Folder,
        }

        impl Cuda {
            /// A fresh copy, from a library that may have been altered.
            pub fn load(library: &[u8]) -> Self {
                let folder = Folder::new();
                let path = folder.0.join("libcuda.so.1");
                std::fs::write(&path, library).expect("a copy of the library");
                // SAFETY: the library's initialization does nothing.
                let library = unsafe { libloading::Library::new(&path) }.expect("the library");
                Self {
                    // SAFETY: the types are the driver's.
                    $($name: *unsafe { library.get(stringify!($name)) }.expect(stringify!($name)),)*
                    library,
                    folder,
                }
            }

            $(#[allow(clippy::too_many_arguments)] // the driver's
            pub fn $name(&self $(, $argument: $type)*) -> $answer {
                // SAFETY: the tests give pointers that are good.
                unsafe { (self.$name)($($argument),*) }
            })*
        }
    };
}

functions! {
    fn cuInit(flags: u32) -> i32;
    fn cuDriverGetVersion(version: *mut i32) -> i32;
    fn cuDeviceGetCount(count: *mut i32) -> i32;
    fn cuDeviceGet(device: *mut i32, ordinal: i32) -> i32;
    fn cuDeviceGetAttribute(value: *mut i32, attribute: i32, device: i32) -> i32;
    fn cuDevicePrimaryCtxRetain(context: *mut Handle, device: i32) -> i32;
    fn cuDevicePrimaryCtxRelease_v2(device: i32) -> i32;
    fn cuDevicePrimaryCtxGetState(device: i32, flags: *mut u32, active: *mut i32) -> i32;
    fn cuCtxCreate_v2(context: *mut Handle, flags: u32, device: i32) -> i32;
    fn cuCtxDestroy_v2(context: Handle) -> i32;
    fn cuCtxPushCurrent_v2(context: Handle) -> i32;
    fn cuCtxPopCurrent_v2(context: *mut Handle) -> i32;
    fn cuCtxSetCurrent(context: Handle) -> i32;
    fn cuCtxGetCurrent(context: *mut Handle) -> i32;
    fn cuCtxGetDevice(device: *mut i32) -> i32;
    fn cuCtxSynchronize() -> i32;
    fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) -> i32;
    fn cuMemAlloc_v2(address: *mut u64, bytes: usize) -> i32;
    fn cuMemFree_v2(address: u64) -> i32;
    fn cuMemAllocAsync(address: *mut u64, bytes: usize, stream: Handle) -> i32;
    fn cuMemFreeAsync(address: u64, stream: Handle) -> i32;
    fn cuMemHostAlloc(place: *mut *mut c_void, bytes: usize, flags: u32) -> i32;
    fn cuMemFreeHost(place: *mut c_void) -> i32;
    fn cuMemcpyHtoD_v2(to: u64, from: *const c_void, bytes: usize) -> i32;
    fn cuMemcpyDtoH_v2(to: *mut c_void, from: u64, bytes: usize) -> i32;
    fn cuMemcpyHtoDAsync_v2(to: u64, from: *const c_void, bytes: usize, stream: Handle) -> i32;
    fn cuMemcpyDtoHAsync_v2(to: *mut c_void, from: u64, bytes: usize, stream: Handle) -> i32;
    fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: Handle) -> i32;
    fn cuMemcpy2DAsync_v2(rectangle: *const Rectangle, stream: Handle) -> i32;
    fn cuMemsetD8Async(address: u64, byte: u8, count: usize, stream: Handle) -> i32;
    fn cuMemsetD32Async(address: u64, word: u32, count: usize, stream: Handle) -> i32;
    fn cuStreamCreate(stream: *mut Handle, flags: u32) -> i32;
    fn cuStreamDestroy_v2(stream: Handle) -> i32;
    fn cuStreamSynchronize(stream: Handle) -> i32;
    fn cuStreamQuery(stream: Handle) -> i32;
    fn cuStreamWaitEvent(stream: Handle, event: Handle, flags: u32) -> i32;
    fn cuStreamIsCapturing(stream: Handle, status: *mut u32) -> i32;
    fn cuStreamBeginCapture_v2(stream: Handle, mode: u32) -> i32;
    fn cuStreamEndCapture(stream: Handle, graph: *mut Handle) -> i32;
    fn cuThreadExchangeStreamCaptureMode(mode: *mut u32) -> i32;
    fn cuGraphInstantiateWithFlags(executable: *mut Handle, graph: Handle, flags: u64) -> i32;
    fn cuGraphLaunch(executable: Handle, stream: Handle) -> i32;
    fn cuGraphExecDestroy(executable: Handle) -> i32;
    fn cuGraphDestroy(graph: Handle) -> i32;
    fn cuGraphGetNodes(graph: Handle, nodes: *mut Handle, count: *mut usize) -> i32;
    fn cuEventCreate(event: *mut Handle, flags: u32) -> i32;
    fn cuEventRecord(event: Handle, stream: Handle) -> i32;
    fn cuEventQuery(event: Handle) -> i32;
    fn cuEventSynchronize(event: Handle) -> i32;
    fn cuEventElapsedTime(milliseconds: *mut f32, start: Handle, end: Handle) -> i32;
    fn cuEventDestroy_v2(event: Handle) -> i32;
    fn cuModuleLoadData(module: *mut Handle, image: *const c_char) -> i32;
    fn cuModuleUnload(module: Handle) -> i32;
    fn cuModuleGetFunction(function: *mut Handle, module: Handle, name: *const c_char) -> i32;
    fn cuModuleGetGlobal_v2(address: *mut u64, bytes: *mut usize, module: Handle, name: *const c_char) -> i32;
    fn cuFuncGetAttribute(value: *mut i32, attribute: i32, function: Handle) -> i32;
    fn cuFuncSetAttribute(function: Handle, attribute: i32, value: i32) -> i32;
    fn cuOccupancyMaxActiveBlocksPerMultiprocessor(blocks: *mut i32, function: Handle, threads: i32, shared: usize) -> i32;
    fn cuLaunchKernel(
        function: Handle, grid_x: u32, grid_y: u32, grid_z: u32, block_x: u32, block_y: u32, block_z: u32,
        shared: u32, stream: Handle, parameters: *const *const c_void, extra: *const usize
    ) -> i32;
    fn cuPointerGetAttribute(place: *mut c_void, attribute: u32, pointer: u64) -> i32;
    fn cuPointerGetAttributes(count: u32, attributes: *const u32, places: *const *mut c_void, pointer: u64) -> i32;
    fn cuGetErrorName(error: i32, text: *mut *const c_char) -> i32;
    fn cuGetErrorString(error: i32, text: *mut *const c_char) -> i32;
    fn cuGetProcAddress_v2(name: *const c_char, function: *mut *mut c_void, version: i32, flags: u64, status: *mut u32) -> i32;
    fn cuGetExportTable(table: *mut *const c_void, id: *const c_void) -> i32;
    fn cuDeviceGetName(name: *mut c_char, length: i32, device: i32) -> i32;
    fn cuDeviceGetUuid_v2(uuid: *mut [u8; 16], device: i32) -> i32;
    fn cuDeviceTotalMem_v2(bytes: *mut usize, device: i32) -> i32;
    fn cuDevicePrimaryCtxSetFlags_v2(device: i32, flags: u32) -> i32;
    fn cuCtxGetFlags(flags: *mut u32) -> i32;
    fn cuCtxGetLimit(value: *mut usize, limit: u32) -> i32;
    fn cuCtxSetLimit(limit: u32, value: usize) -> i32;
    fn cuMemGetAddressRange_v2(base: *mut u64, bytes: *mut usize, address: u64) -> i32;
    fn cuMemHostRegister_v2(address: *mut c_void, bytes: usize, flags: u32) -> i32;
    fn cuMemHostUnregister(address: *mut c_void) -> i32;
    fn cuMemHostGetDevicePointer_v2(address: *mut u64, host: *mut c_void, flags: u32) -> i32;
    fn cuMemcpyPeerAsync(to: u64, to_context: Handle, from: u64, from_context: Handle, bytes: usize, stream: Handle) -> i32;
    fn cuStreamCreateWithPriority(stream: *mut Handle, flags: u32, priority: i32) -> i32;
    fn cuStreamGetPriority(stream: Handle, priority: *mut i32) -> i32;
    fn cuStreamGetCtx(stream: Handle, context: *mut Handle) -> i32;
    fn cuStreamGetCaptureInfo(stream: Handle, status: *mut u32, id: *mut u64) -> i32;
    fn cuModuleLoadDataEx(
        module: *mut Handle, image: *const c_char, count: u32, options: *const u32, values: *const usize
    ) -> i32;
    fn cuFuncGetModule(module: *mut Handle, function: Handle) -> i32;
    fn cuLaunchKernelEx(
        configuration: *const Configuration, function: Handle, parameters: *const *const c_void, extra: *const usize
    ) -> i32;
    fn standin_counters(place: *mut Counters) -> i32;
    fn standin_set(name: *const c_char, value: *const c_char) -> i32;
    fn standin_fail(function: *const c_char, call: u64, code: i32) -> i32;
    fn standin_reset() -> ();
    fn standin_last_fault(place: *mut c_char, size: usize) -> usize;
}

#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq)]
pub struct Counters {
    pub live_allocations: u64,
    pub live_bytes: u64,
    pub live_pinned: u64,
    pub live_modules: u64,
    pub live_streams: u64,
    pub live_events: u64,
    pub live_graphs: u64,
    pub live_executables: u64,
    pub live_contexts: u64,
    pub depth: u64,
    pub pending: u64,
    pub allocations: u64,
    pub pinned_allocations: u64,
    pub module_loads: u64,
    pub launches: u64,
    pub kernels: u64,
    pub graph_launches: u64,
    pub copies: u64,
    pub fills: u64,
    pub synchronizations: u64,
    pub waits: u64,
    pub capture_violations: u64,
    pub faults: u64,
    pub abandoned: u64,
}

/// `CUDA_MEMCPY2D`.
#[repr(C)]
#[derive(Default)]
pub struct Rectangle {
    pub source: (usize, usize),
    pub source_type: u32,
    pub source_host: usize,
    pub source_device: u64,
    pub source_array: usize,
    pub source_pitch: usize,
    pub target: (usize, usize),
    pub target_type: u32,
    pub target_host: usize,
    pub target_device: u64,
    pub target_array: usize,
    pub target_pitch: usize,
    pub width: usize,
    pub height: usize,
}

/// `CUlaunchConfig`.
#[repr(C)]
pub struct Configuration {
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared: u32,
    pub stream: Handle,
    pub attributes: *const Attribute,
    pub count: u32,
}

/// `CUlaunchAttribute`.
#[repr(C)]
#[derive(Default)]
pub struct Attribute {
    pub id: u32,
    pub padding: [u8; 4],
    pub value: [u64; 8],
}

/// Stops the test where a call of the driver failed.
#[track_caller]
pub fn good(result: i32) {
    assert_eq!(result, 0, "CUresult");
}

pub fn text(text: &str) -> CString {
    CString::new(text).expect("no zero within")
}

impl Cuda {
    /// A fresh library that was not initialized.
    pub fn bare() -> Self {
        Self::load(&std::fs::read(built_library()).expect("the library"))
    }

    /// A fresh library with the primary context of device 0 current.
    pub fn new() -> Self {
        let cuda = Self::bare();
        cuda.begin();
        cuda
    }

    /// Initializes with the settings so far, and makes the primary context of device 0 current.
    pub fn begin(&self) -> Handle {
        good(self.cuInit(0));
        let mut context = 0;
        good(self.cuDevicePrimaryCtxRetain(&mut context, 0));
        good(self.cuCtxSetCurrent(context));
        context
    }

    pub fn set(&self, name: &str, value: &str) {
        assert_eq!(self.standin_set(text(name).as_ptr(), text(value).as_ptr()), 0, "{name}={value}");
    }

    pub fn fail(&self, function: &str, call: u64, code: i32) {
        assert_eq!(self.standin_fail(text(function).as_ptr(), call, code), 0);
    }

    pub fn counters(&self) -> Counters {
        let mut counters = Counters::default();
        assert_eq!(self.standin_counters(&mut counters), 0);
        counters
    }

    pub fn last_fault(&self) -> String {
        let mut bytes = vec![0_u8; self.standin_last_fault(null_mut(), 0)];
        self.standin_last_fault(bytes.as_mut_ptr().cast(), bytes.len());
        bytes.pop();
        String::from_utf8(bytes).expect("UTF-8")
    }

    #[track_caller]
    pub fn allocate(&self, words: usize) -> u64 {
        let mut address = 0;
        good(self.cuMemAlloc_v2(&mut address, 4 * words));
        address
    }

    /// Device memory that holds `words`.
    #[track_caller]
    pub fn upload(&self, words: &[u32]) -> u64 {
        let address = self.allocate(words.len());
        good(self.cuMemcpyHtoD_v2(address, words.as_ptr().cast(), 4 * words.len()));
        address
    }

    /// The words at an address, by a copy that waits for the legacy stream only.
    #[track_caller]
    pub fn download(&self, address: u64, words: usize) -> Vec<u32> {
        let mut found = vec![0; words];
        good(self.cuMemcpyDtoH_v2(found.as_mut_ptr().cast(), address, 4 * words));
        found
    }

    /// Pinned host memory for words, filled with `value`.
    #[track_caller]
    pub fn pinned(&self, words: usize, value: u32) -> Pinned {
        let mut place = null_mut();
        good(self.cuMemHostAlloc(&mut place, 4 * words, 0));
        let pinned = Pinned { place: place.cast(), words };
        pinned.fill(value);
        pinned
    }

    /// A stream that does not wait for the legacy one.
    #[track_caller]
    pub fn stream(&self) -> Handle {
        let mut stream = 0;
        good(self.cuStreamCreate(&mut stream, 1));
        stream
    }

    #[track_caller]
    pub fn event(&self) -> Handle {
        let mut event = 0;
        good(self.cuEventCreate(&mut event, 0));
        event
    }

    #[track_caller]
    pub fn module(&self) -> Handle {
        let mut module = 0;
        good(self.cuModuleLoadData(&mut module, text(PTX).as_ptr()));
        module
    }

    #[track_caller]
    pub fn function(&self, module: Handle, name: &str) -> Handle {
        let mut function = 0;
        good(self.cuModuleGetFunction(&mut function, module, text(name).as_ptr()));
        function
    }

    /// The kernel of [`PTX`] with that name.
    #[track_caller]
    pub fn kernel(&self, name: &str) -> Handle {
        self.function(self.module(), name)
    }

    /// Launches a kernel of (address, count) in one block of 32 threads.
    pub fn launch(&self, function: Handle, address: u64, count: u32, stream: Handle) -> i32 {
        self.launch_sized(function, address, count, ([1; 3], [32, 1, 1]), 0, stream)
    }

    pub fn launch_sized(
        &self,
        function: Handle,
        address: u64,
        count: u32,
        (grid, block): ([u32; 3], [u32; 3]),
        shared: u32,
        stream: Handle,
    ) -> i32 {
        let parameters = [(&raw const address).cast::<c_void>(), (&raw const count).cast()];
        self.cuLaunchKernel(
            function,
            grid[0],
            grid[1],
            grid[2],
            block[0],
            block[1],
            block[2],
            shared,
            stream,
            parameters.as_ptr(),
            std::ptr::null(),
        )
    }

    /// What work of a stream makes of `graph`'s capture: begins, runs `body`, ends.
    #[track_caller]
    pub fn capture(&self, stream: Handle, body: impl FnOnce()) -> Handle {
        good(self.cuStreamBeginCapture_v2(stream, 0));
        body();
        let mut graph = 0;
        good(self.cuStreamEndCapture(stream, &mut graph));
        graph
    }

    #[track_caller]
    pub fn instantiate(&self, graph: Handle) -> Handle {
        let mut executable = 0;
        good(self.cuGraphInstantiateWithFlags(&mut executable, graph, 0));
        executable
    }
}

/// Words of pinned memory. The driver writes them behind the compiler's back: every access is volatile.
pub struct Pinned {
    pub place: *mut u32,
    words: usize,
}

impl Pinned {
    pub fn fill(&self, value: u32) {
        for word in 0..self.words {
            // SAFETY: within the allocation, which the test keeps.
            unsafe { self.place.add(word).write_volatile(value) };
        }
    }

    pub fn words(&self) -> Vec<u32> {
        // SAFETY: as above.
        (0..self.words).map(|word| unsafe { self.place.add(word).read_volatile() }).collect()
    }
}

/// The library without one of its functions: its name in the table of symbols is altered.
pub fn without(library: &Path, function: &str) -> Vec<u8> {
    let mut bytes = std::fs::read(library).expect("the library");
    let name = [b"\0", function.as_bytes(), b"\0"].concat();
    let places: Vec<usize> =
        bytes.windows(name.len()).enumerate().filter(|(_, w)| *w == name).map(|(at, _)| at).collect();
    assert!(!places.is_empty(), "the library has no {function}");
    for place in places {
        // The name is looked up by its hash, and then compared: it is not found any more.
        bytes[place + 1] = b'_';
    }
    bytes
}
