//! The kernels: their sources, how they come to the device, and how one is started.
//!
//! A file of kernels becomes machine code for the device by NVRTC, or comes from the cache on disk. Without NVRTC, or where
//! its result does not load, the PTX in the library, made of the same source, is compiled by the driver.

use super::cache::{Cache, Key};
use super::compiler::{Compiler, Header};
use super::device::Device;
use super::driver::{Handle, MOST_SHARED};
use crate::error::{Error, Result};
use std::ffi::{CString, c_void};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// One source file.
struct Source {
    name: &'static str,
    text: &'static str,
    /// For compute capability 8.0, NUL-terminated.
    ptx: &'static str,
    kernels: &'static [&'static str],
}

macro_rules! source {
    ($name:literal: $($kernel:literal)*) => {
        Source {
            name: $name,
            text: include_str!(concat!("../../kernels/", $name, ".cu")),
            ptx: concat!(include_str!(concat!("../../kernels/ptx/", $name, ".ptx")), "\0"),
            kernels: &[$(concat!("mnemo_", $kernel)),*],
        }
    };
}

const SOURCES: &[Source] = &[
    source!("elementwise": "load" "store" "combine" "dot_rows" "error_norms" "first_beyond" "copy_rows" "fill"),
    source!("noise": "combine_with_noise"),
    source!("measure": "measure_8" "measure_64" "project_8" "project_64" "decode" "row_factors"),
    source!("empirical": "weights" "merge_records" "accumulate_8" "accumulate_64" "merge_means" "finish" "reweight"
        "weighted_sums" "merge_sums"),
    source!("small": "small_2" "small_4" "small_8" "small_16"),
    source!("flash": "flash_32" "flash_64" "flash_128"),
    source!("bounds": "encode" "bound"),
    source!("near": "near" "accumulate_near"),
    source!("products": "measure_products" "measure_again" "accumulate_products"),
    source!("nearest": "bound_cosines" "select" "select_near" "finish_nearest"),
];

macro_rules! header {
    ($name:literal) => {
        ($name, include_str!(concat!("../../kernels/", $name)))
    };
}

const HEADERS: &[Header] = &[
    header!("combine.cuh"),
    header!("common.cuh"),
    header!("few.cuh"),
    header!("matrix.cuh"),
    header!("records.cuh"),
    header!("tile.cuh"),
];

/// One option a line.
const OPTIONS: &str = include_str!("../../kernels/options.txt");

/// A file on the device.
struct Module {
    device: Arc<Device>,
    handle: Handle,
    /// In the order of [`Source::kernels`].
    functions: Vec<Handle>,
    from: Origin,
}

/// How a file came to the device.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Compiled,
    Cached,
    Ptx,
}

impl Drop for Module {
    fn drop(&mut self) {
        if let Ok(_entered) = self.device.enter() {
            // SAFETY: loaded once; nobody has its functions any more. There is nobody to tell of a failure.
            let _ = unsafe { self.device.driver.unload_module(self.handle) };
        }
    }
}

/// A kernel by its name without the prefix: the number of its file, and its own there.
#[derive(Clone, Copy)]
pub struct Kernel(usize, usize);

impl Kernel {
    /// The kernel `mnemo_NAME`. Constants only: a name that is not there fails to compile.
    pub const fn named(name: &str) -> Self {
        let mut file = 0;
        while file < SOURCES.len() {
            let mut at = 0;
            while at < SOURCES[file].kernels.len() {
                if is_prefixed(SOURCES[file].kernels[at].as_bytes(), name.as_bytes()) {
                    return Self(file, at);
                }
                at += 1;
            }
            file += 1;
        }
        panic!("no such kernel")
    }
}

/// Whether `full` is "mnemo_" and `name`.
const fn is_prefixed(full: &[u8], name: &[u8]) -> bool {
    const PREFIX: usize = b"mnemo_".len();
    if full.len() != PREFIX + name.len() {
        return false;
    }
    let mut i = 0;
    while i < name.len() {
        if full[PREFIX + i] != name[i] {
            return false;
        }
        i += 1;
    }
    true
}

/// How many blocks, of how many threads, with how much dynamic shared memory.
#[derive(Clone, Copy)]
pub struct Shape {
    pub grid: [u32; 3],
    pub block: u32,
    pub shared: u32,
}

/// The kernels of one context. Files are loaded when one of their kernels is first used.
pub struct Kernels {
    device: Arc<Device>,
    cache: Cache,
    modules: [OnceLock<Module>; SOURCES.len()],
    loading: Mutex<()>,
}

impl Kernels {
    pub fn new(device: Arc<Device>, cache: Cache) -> Self {
        Self { device, cache, modules: [const { OnceLock::new() }; SOURCES.len()], loading: Mutex::new(()) }
    }

    /// Loads all files. The device's context is current.
    pub fn load_all(&self) -> Result<()> {
        (0..SOURCES.len()).try_for_each(|file| self.module(file).map(drop))
    }

    /// Whether a launch of `kernel` loads its file first, which waits and cannot be captured.
    pub fn loads(&self, kernel: Kernel) -> bool {
        self.modules[kernel.0].get().is_none()
    }

    fn module(&self, file: usize) -> Result<&Module> {
        if let Some(module) = self.modules[file].get() {
            return Ok(module);
        }
        // One compiles, others wait: a context has few files.
        let _one = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        if self.modules[file].get().is_none() {
            let module = self.load(&SOURCES[file])?;
            return Ok(self.modules[file].get_or_init(|| module));
        }
        self.module(file)
    }

    fn load(&self, source: &Source) -> Result<Module> {
        let made = Compiler::get().and_then(|compiler| self.machine_code(compiler, source).ok());
        if let Some((code, from)) = made
            && let Ok(module) = self.load_image(source, &code, from)
        {
            return Ok(module);
        }
        self.load_image(source, source.ptx.as_bytes(), Origin::Ptx).map_err(|e| {
            match self.device.note(Err::<(), _>(e)) {
                Err(Error::Cuda { message, native }) => {
                    Error::Compile { message: format!("kernels of {}: {message}", source.name), native }
                }
                Err(other) => other,
                Ok(()) => unreachable!("an error stays one"),
            }
        })
    }

    /// From the cache, or compiled and kept there.
    fn machine_code(&self, compiler: &Compiler, source: &Source) -> Result<(Vec<u8>, Origin)> {
        let (major, minor) = self.device.capability;
        let sm = (major * 10 + minor) as u32;
        let made_by = format!("NVRTC {}.{}, sm_{sm}", compiler.version.0, compiler.version.1);
        let mut parts = vec![source.text, OPTIONS, &made_by];
        parts.extend(HEADERS.iter().map(|h| h.1));
        let key = Key { name: source.name, parts: &parts };
        if let Some(code) = self.cache.get(&key) {
            return Ok((code, Origin::Cached));
        }
        let options: Vec<&str> = OPTIONS.lines().filter(|line| !line.is_empty()).collect();
        let code = compiler.machine_code(&format!("{}.cu", source.name), source.text, HEADERS, &options, sm)?;
        self.cache.keep(&key, &code);
        Ok((code, Origin::Compiled))
    }

    fn load_image(&self, source: &Source, image: &[u8], from: Origin) -> Result<Module> {
        let driver = self.device.driver;
        let mut handle = 0;
        // SAFETY: machine code says how long it is, PTX ends with a NUL; the driver copies either.
        unsafe { driver.load_module(&raw mut handle, image.as_ptr().cast::<c_void>()) }?;
        let mut module = Module { device: self.device.clone(), handle, functions: Vec::new(), from };
        for name in source.kernels {
            let (mut function, name) = (0, CString::new(*name).expect("our own names"));
            // SAFETY: `function` is writable, the module loaded.
            unsafe { driver.function(&raw mut function, handle, name.as_ptr()) }?;
            module.functions.push(function);
        }
        Ok(module)
    }

    /// Starts a kernel on `stream`. The device's context is current.
    ///
    /// # Safety
    /// `arguments` point to what the kernel takes, in its order and types; the memory they name is good for what it does.
    pub unsafe fn launch(
        &self,
        kernel: Kernel,
        shape: Shape,
        stream: Handle,
        arguments: &mut [*mut c_void],
    ) -> Result<()> {
        const ALWAYS_SHARED: u32 = 48 << 10;
        let function = self.module(kernel.0)?.functions[kernel.1];
        let Shape { grid: [x, y, z], block, shared } = shape;
        if x == 0 || y == 0 || z == 0 {
            return Ok(());
        }
        let driver = self.device.driver;
        if shared > ALWAYS_SHARED {
            // SAFETY: the function is loaded.
            self.device.note(unsafe { driver.allow(function, MOST_SHARED, shared as i32) })?;
        }
        let (arguments, extra) = (arguments.as_mut_ptr(), std::ptr::null_mut());
        // SAFETY: the caller's promise; the driver copies the arguments.
        self.device.note(unsafe { driver.launch(function, x, y, z, block, 1, 1, shared, stream, arguments, extra) })
    }

    /// For the description: how kernels come to the device.
    pub fn describe(&self) -> String {
        let count = |from| self.modules.iter().filter(|m| m.get().is_some_and(|m| m.from == from)).count();
        let nvrtc = Compiler::get().map_or("null".into(), |c| format!(r#""{}.{}""#, c.version.0, c.version.1));
        let folder = self.cache.folder().map_or("null".into(), |f| super::json(&f.to_string_lossy()));
        format!(
            r#""nvrtc":{nvrtc},"cache":{folder},"kernels":{{"compiled":{},"cached":{},"ptx":{},"not_loaded":{}}}"#,
            count(Origin::Compiled),
            count(Origin::Cached),
            count(Origin::Ptx),
            self.modules.iter().filter(|m| m.get().is_none()).count(),
        )
    }
}
