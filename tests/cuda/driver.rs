//! The stand-in driver: what a host with tensors and streams of its own needs of it, and what a test asks of it.

use libloading::Library;
use std::ffi::{CString, c_char, c_void};
use std::sync::OnceLock;

pub type Handle = usize;

/// `CUresult`s that tests have the driver answer.
pub const INVALID_VALUE: i32 = 1;
pub const OUT_OF_MEMORY: i32 = 2;
pub const ILLEGAL_ADDRESS: i32 = 700;
pub const LAUNCH_FAILED: i32 = 719;

/// Numbers that the stand-in keeps, as its own source orders them.
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

/// The driver that the loader finds.
pub struct Driver(Library);

macro_rules! functions {
    ($(fn $name:ident = $symbol:literal($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        impl Driver {
            $(fn $name(&self $(, $argument: $type)*) -> $answer {
                // SAFETY: the types are those of cuda.h and of the stand-in.
                let found = unsafe { self.0.get::<unsafe extern "C" fn($($type),*) -> $answer>($symbol.as_bytes()) };
                let function = found.unwrap_or_else(|e| panic!("is this the stand-in? {e}"));
                // SAFETY: places are good for what they are for.
                unsafe { function($($argument),*) }
            })*
        }
    };
}

functions! {
    fn init = "cuInit"(flags: u32) -> i32;
    fn retain = "cuDevicePrimaryCtxRetain"(context: *mut Handle, device: i32) -> i32;
    fn release = "cuDevicePrimaryCtxRelease_v2"(device: i32) -> i32;
    fn create_context = "cuCtxCreate_v2"(context: *mut Handle, flags: u32, device: i32) -> i32;
    fn destroy_context = "cuCtxDestroy_v2"(context: Handle) -> i32;
    fn push = "cuCtxPushCurrent_v2"(context: Handle) -> i32;
    fn pop = "cuCtxPopCurrent_v2"(context: *mut Handle) -> i32;
    fn get_current = "cuCtxGetCurrent"(context: *mut Handle) -> i32;
    fn allocate = "cuMemAlloc_v2"(address: *mut u64, bytes: usize) -> i32;
    fn free = "cuMemFree_v2"(address: u64) -> i32;
    fn copy_in = "cuMemcpyHtoD_v2"(to: u64, from: *const c_void, bytes: usize) -> i32;
    fn copy_out = "cuMemcpyDtoH_v2"(to: *mut c_void, from: u64, bytes: usize) -> i32;
    fn synchronize_context = "cuCtxSynchronize"() -> i32;
    fn create_stream = "cuStreamCreate"(stream: *mut Handle, flags: u32) -> i32;
    fn destroy_stream = "cuStreamDestroy_v2"(stream: Handle) -> i32;
    fn begin_capture = "cuStreamBeginCapture_v2"(stream: Handle, mode: u32) -> i32;
    fn end_capture = "cuStreamEndCapture"(stream: Handle, graph: *mut Handle) -> i32;
    fn instantiate = "cuGraphInstantiateWithFlags"(executable: *mut Handle, graph: Handle, flags: u64) -> i32;
    fn launch_graph = "cuGraphLaunch"(executable: Handle, stream: Handle) -> i32;
    fn destroy_executable = "cuGraphExecDestroy"(executable: Handle) -> i32;
    fn destroy_graph = "cuGraphDestroy"(graph: Handle) -> i32;
    fn standin_counters = "standin_counters"(place: *mut Counters) -> i32;
    fn standin_set = "standin_set"(name: *const c_char, value: *const c_char) -> i32;
    fn standin_fail = "standin_fail"(function: *const c_char, call: u64, code: i32) -> i32;
    fn standin_reset = "standin_reset"() -> ();
    fn standin_last_fault = "standin_last_fault"(place: *mut c_char, size: usize) -> usize;
}

#[track_caller]
fn good(result: i32) {
    assert_eq!(result, 0, "CUresult");
}

fn text(text: &str) -> CString {
    CString::new(text).expect("no zero within")
}

impl Driver {
    /// The driver, if the loader finds one.
    pub fn find() -> Option<&'static Self> {
        static DRIVER: OnceLock<Option<Driver>> = OnceLock::new();
        // SAFETY: the stand-in's initialisation does nothing.
        DRIVER.get_or_init(|| unsafe { Library::new("libcuda.so.1") }.ok().map(Self)).as_ref()
    }

    /// The driver as a fresh process has it, initialised, and the primary context of device 0 retained.
    pub fn begin(&self) {
        self.standin_reset();
        good(self.init(0));
        let mut context = 0;
        good(self.retain(&raw mut context, 0));
    }

    /// Asserts that nothing of the library's is left, and that no kernel failed.
    #[track_caller]
    pub fn end(&self) {
        let c = self.counters();
        assert_eq!(c.faults, 0, "{}", self.last_fault());
        self.end_after_fault();
        assert_eq!((c.live_allocations, c.live_modules), (0, 0), "memory or modules are left: {c:?}");
    }

    /// The same where a kernel failed: what the context held goes with it.
    #[track_caller]
    pub fn end_after_fault(&self) {
        let c = self.counters();
        assert_eq!((c.live_contexts, c.depth, c.live_pinned), (1, 0, 0), "contexts are left: {c:?}");
        assert_eq!((c.live_streams, c.live_events, c.live_graphs, c.live_executables), (0, 0, 0, 0), "{c:?}");
        good(self.release(0));
    }

    pub fn counters(&self) -> Counters {
        let mut counters = Counters::default();
        assert_eq!(self.standin_counters(&raw mut counters), 0);
        counters
    }

    /// Sets what an environment variable of the stand-in sets.
    #[track_caller]
    pub fn set(&self, name: &str, value: &str) {
        assert_eq!(self.standin_set(text(name).as_ptr(), text(value).as_ptr()), 0, "{name}={value}");
    }

    /// Has the `call`-th call of a function from now on answer `code`; 0: every call.
    pub fn fail(&self, function: &str, call: u64, code: i32) {
        assert_eq!(self.standin_fail(text(function).as_ptr(), call, code), 0);
    }

    pub fn last_fault(&self) -> String {
        let mut bytes = vec![0u8; self.standin_last_fault(std::ptr::null_mut(), 0)];
        self.standin_last_fault(bytes.as_mut_ptr().cast(), bytes.len());
        bytes.pop();
        String::from_utf8(bytes).expect("UTF-8")
    }

    /// The thread's current context, 0 if it has none.
    pub fn current(&self) -> Handle {
        let mut context = 0;
        good(self.get_current(&raw mut context));
        context
    }

    /// A context of the caller's own, current from now on.
    pub fn own_context(&self, device: i32) -> Handle {
        let mut context = 0;
        good(self.create_context(&raw mut context, 0, device));
        context
    }

    pub fn destroy(&self, context: Handle) {
        good(self.destroy_context(context));
    }

    /// Runs `work` with the primary context of device 0 current.
    #[track_caller]
    pub fn within<T>(&self, work: impl FnOnce() -> T) -> T {
        let (mut context, mut popped) = (0, 0);
        good(self.retain(&raw mut context, 0));
        good(self.push(context));
        let result = work();
        good(self.pop(&raw mut popped));
        assert_eq!(popped, context, "another context was left current");
        good(self.release(0));
        result
    }

    /// A stream on device 0 that does not wait for the legacy one.
    pub fn stream(&self) -> Handle {
        let mut stream = 0;
        self.within(|| good(self.create_stream(&raw mut stream, 1)));
        stream
    }

    pub fn drop_stream(&self, stream: Handle) {
        self.within(|| good(self.destroy_stream(stream)));
    }

    /// Numbers at an address of device 0, after all that is under way.
    pub fn download<T: Copy + Default>(&self, from: u64, len: usize) -> Vec<T> {
        let mut numbers = vec![T::default(); len];
        let bytes = size_of_val(&numbers[..]);
        self.within(|| {
            good(self.synchronize_context());
            if bytes > 0 {
                good(self.copy_out(numbers.as_mut_ptr().cast(), from, bytes));
            }
        });
        numbers
    }

    pub fn upload<T: Copy>(&self, to: u64, numbers: &[T]) {
        if !numbers.is_empty() {
            self.within(|| good(self.copy_in(to, numbers.as_ptr().cast(), size_of_val(numbers))));
        }
    }

    /// The graph of what `work` does on `stream`; an error of the driver if the capture was invalidated.
    pub fn capture(&self, stream: Handle, work: impl FnOnce()) -> Result<Graph<'_>, i32> {
        self.within(|| {
            good(self.begin_capture(stream, 0));
            work();
            let (mut graph, mut executable) = (0, 0);
            match self.end_capture(stream, &raw mut graph) {
                0 => {}
                code => return Err(code),
            }
            good(self.instantiate(&raw mut executable, graph, 0));
            good(self.destroy_graph(graph));
            Ok(Graph { driver: self, executable })
        })
    }
}

/// A graph that can be launched.
pub struct Graph<'a> {
    driver: &'a Driver,
    executable: Handle,
}

impl Graph<'_> {
    pub fn launch(&self, stream: Handle) {
        self.driver.within(|| good(self.driver.launch_graph(self.executable, stream)));
    }
}

impl Drop for Graph<'_> {
    fn drop(&mut self) {
        self.driver.within(|| good(self.driver.destroy_executable(self.executable)));
    }
}

/// Numbers in the memory of device 0.
pub struct Room<'a, T> {
    driver: &'a Driver,
    pub address: u64,
    len: usize,
    kind: std::marker::PhantomData<T>,
}

impl<'a, T: Copy + Default> Room<'a, T> {
    pub fn of(driver: &'a Driver, numbers: &[T]) -> Self {
        let mut address = 0;
        driver.within(|| good(driver.allocate(&raw mut address, size_of_val(numbers).max(1))));
        let room = Self { driver, address, len: numbers.len(), kind: std::marker::PhantomData };
        room.write(numbers);
        room
    }

    pub fn write(&self, numbers: &[T]) {
        assert!(numbers.len() <= self.len);
        self.driver.upload(self.address, numbers);
    }

    /// Waits for all streams.
    pub fn read(&self) -> Vec<T> {
        self.driver.download(self.address, self.len)
    }
}

impl<T> Drop for Room<'_, T> {
    fn drop(&mut self) {
        // After a fault the driver answers that, and frees.
        self.driver.within(|| self.driver.free(self.address));
    }
}
