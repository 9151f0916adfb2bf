//! A device that is an interpreter: memory, modules and launches, with every check on.

use super::nvrtc::Compiler;
use super::root;
use ptx_interpreter::{Launch, Loaded, Memory, Module};
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Threads of every block.
pub const THREADS: u32 = 256;
/// Rows of a segment in the small build, so that few rows fill several.
pub const SMALL_SEGMENT: usize = 32;
/// Rows of a segment in the library.
pub const SEGMENT: usize = 4096;

/// Which build of the kernels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Build {
    /// The PTX that the library carries.
    Library,
    /// The same source with segments of [`SMALL_SEGMENT`] rows.
    Small,
}

impl Build {
    pub fn segment(self) -> usize {
        if self == Self::Library { SEGMENT } else { SMALL_SEGMENT }
    }
}

/// Plain numbers and structs of them, without padding.
///
/// # Safety
/// Every byte of the type has a value, and any values do.
pub unsafe trait Plain: Copy {}
macro_rules! plain {
    ($($t:ty),*) => {$(unsafe impl Plain for $t {})*};
}
// SAFETY: numbers, and structs of them that fill their size.
plain!(i8, u8, u16, i32, u32, i64, u64, f32, f64, [f32; 4], Rows, Part, Record);

fn bytes_of<T: Plain>(values: &[T]) -> &[u8] {
    // SAFETY: by the trait.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

/// An array on the device.
#[derive(Debug)]
pub struct Array<T> {
    pub address: u64,
    pub len: usize,
    of: PhantomData<T>,
}

/// `Rows` of kernels/common.cuh.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    pub data: u64,
    pub subset: u64,
    pub factor: u64,
    pub scale: f64,
    pub shift: f64,
    pub count: i64,
    pub dim: i32,
    pub dtype: i32,
}

/// `Part` of kernels/common.cuh.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Part {
    pub count: i64,
    pub first_segment: i64,
    pub segments: i32,
    pub queries: i32,
}

/// `Record` of kernels/records.cuh.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Record {
    pub distance: f64,
    pub rest: f64,
    pub slope: f64,
    pub row: i64,
    pub error: f64,
}

/// Parameters of a kernel, as they lie in memory.
#[derive(Default)]
pub struct Parameters(Vec<u8>);

impl Parameters {
    pub fn push<T: Argument>(mut self, value: T) -> Self {
        value.append(&mut self.0);
        self
    }
}

/// What a kernel takes.
pub trait Argument {
    fn append(self, to: &mut Vec<u8>);
}

impl<T: Plain> Argument for T {
    fn append(self, to: &mut Vec<u8>) {
        to.resize(to.len().next_multiple_of(align_of::<T>()), 0);
        to.extend_from_slice(bytes_of(&[self]));
    }
}

impl<T> Argument for &Array<T> {
    fn append(self, to: &mut Vec<u8>) {
        self.address.append(to);
    }
}

impl<T> Argument for Option<&Array<T>> {
    fn append(self, to: &mut Vec<u8>) {
        self.map_or(0, |array| array.address).append(to);
    }
}

/// Parameters in order.
macro_rules! with {
    ($($value:expr),* $(,)?) => { $crate::device::Parameters::default()$(.push($value))* };
}
pub(crate) use with;

/// NULL.
pub const NONE: Option<&Array<u8>> = None;

/// The device.
pub struct Device {
    memory: Memory,
    build: Build,
    loaded: BTreeMap<String, Loaded>,
}

impl Device {
    pub fn new(build: Build) -> Self {
        Self { memory: Memory::new(1 << 32), build, loaded: BTreeMap::new() }
    }

    pub fn build(&self) -> Build {
        self.build
    }

    pub fn upload<T: Plain>(&mut self, values: &[T]) -> Array<T> {
        let array = self.empty(values.len());
        self.write(&array, values);
        array
    }

    /// Room that nobody wrote to: reading it is a fault.
    pub fn empty<T: Plain>(&mut self, len: usize) -> Array<T> {
        let address = self.memory.allocate((len * size_of::<T>()) as u64).expect("device memory");
        Array { address, len, of: PhantomData }
    }

    pub fn write<T: Plain>(&mut self, to: &Array<T>, values: &[T]) {
        assert_eq!(to.len, values.len());
        self.memory.write(to.address, bytes_of(values)).expect("device memory");
    }

    pub fn download<T: Plain>(&self, from: &Array<T>) -> Vec<T> {
        let mut bytes = vec![0; from.len * size_of::<T>()];
        self.memory.read(from.address, &mut bytes).expect("device memory");
        // SAFETY: by the trait; the bytes may be unaligned.
        bytes.chunks_exact(size_of::<T>()).map(|b| unsafe { b.as_ptr().cast::<T>().read_unaligned() }).collect()
    }

    /// Runs a kernel of kernels/`file`.cu; a fault is a failure.
    pub fn launch(&mut self, file: &str, kernel: &str, grid: [usize; 3], parameters: Parameters) {
        self.launch_with(file, kernel, grid, 0, parameters);
    }

    /// The same with so many bytes of dynamic shared memory.
    pub fn launch_with(&mut self, file: &str, kernel: &str, grid: [usize; 3], shared: usize, parameters: Parameters) {
        if !self.loaded.contains_key(file) {
            let module = module(file, self.build);
            let loaded = Loaded::new(module, &mut self.memory).unwrap_or_else(|e| panic!("{file}: {e}"));
            self.loaded.insert(file.to_owned(), loaded);
        }
        let launch =
            Launch { grid: grid.map(|n| n as u32), block: [THREADS, 1, 1], dynamic_shared_bytes: shared as u32 };
        let done = self.loaded[file].launch(kernel, &launch, &parameters.0, &mut self.memory);
        done.unwrap_or_else(|fault| panic!("{kernel}: {fault}"));
    }
}

/// A file's module; it is parsed once.
fn module(file: &str, build: Build) -> Arc<Module> {
    static PARSED: Mutex<BTreeMap<String, Arc<Module>>> = Mutex::new(BTreeMap::new());
    let mut parsed = PARSED.lock().unwrap_or_else(PoisonError::into_inner);
    let make = || {
        let module = Module::parse(&ptx(file, build)).unwrap_or_else(|e| panic!("{file}: {e}"));
        Arc::new(module)
    };
    parsed.entry(format!("{file} {build:?}")).or_insert_with(make).clone()
}

/// The PTX of a file.
fn ptx(file: &str, build: Build) -> String {
    if build == Build::Library && file != "reference" {
        let path = root().join(format!("kernels/ptx/{file}.ptx"));
        return std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
    static COMPILER: OnceLock<Compiler> = OnceLock::new();
    let segment = format!("-DSEGMENT={}", build.segment());
    let compiler = COMPILER.get_or_init(|| Compiler::open("12.0.140"));
    String::from_utf8(compiler.compile(file, "compute_80", &[&segment]).code).expect("PTX is text")
}
