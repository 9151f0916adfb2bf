//! NVRTC, NVIDIA's run-time compiler, if the machine has one: it makes machine code for the device at hand.

use crate::error::{Error, Result, try_vec};
use libloading::Library;
use std::ffi::{CStr, CString, c_char};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

type Program = usize;

macro_rules! nvrtc {
    ($($name:ident = $symbol:literal($($argument:ident: $type:ty),*);)*) => {
        /// The compiler.
        pub struct Compiler {
            /// (12, 9)
            pub version: (i32, i32),
            $($name: unsafe extern "C" fn($($type),*) -> i32,)*
        }

        impl Compiler {
            fn find(library: &'static Library) -> Option<Self> {
                Some(Self {
                    version: (0, 0),
                    // SAFETY: the signatures are those of nvrtc.h.
                    $($name: *unsafe { library.get(concat!($symbol, "\0").as_bytes()) }.ok()?,)*
                })
            }
        }
    };
}

nvrtc! {
    get_version = "nvrtcVersion"(major: *mut i32, minor: *mut i32);
    create = "nvrtcCreateProgram"(
        program: *mut Program, source: *const c_char, name: *const c_char, headers: i32, sources: *const *const c_char,
        names: *const *const c_char
    );
    compile = "nvrtcCompileProgram"(program: Program, count: i32, options: *const *const c_char);
    log_size = "nvrtcGetProgramLogSize"(program: Program, size: *mut usize);
    log = "nvrtcGetProgramLog"(program: Program, log: *mut c_char);
    cubin_size = "nvrtcGetCUBINSize"(program: Program, size: *mut usize);
    cubin = "nvrtcGetCUBIN"(program: Program, cubin: *mut c_char);
    destroy = "nvrtcDestroyProgram"(program: *mut Program);
}

/// A file that sources include: its name and its text.
pub type Header = (&'static str, &'static str);

impl Compiler {
    /// The compiler of this machine; `None` if it has none.
    pub fn get() -> Option<&'static Self> {
        static COMPILER: OnceLock<Option<Compiler>> = OnceLock::new();
        COMPILER.get_or_init(Self::open).as_ref()
    }

    fn open() -> Option<Self> {
        places().into_iter().find_map(|path| {
            load_builtins(&path);
            // SAFETY: loading NVRTC runs its own initialisation and nothing else.
            let library = unsafe { Library::new(path) }.ok()?;
            // Never unloaded: it has threads and state of its own.
            let mut compiler = Self::find(Box::leak(Box::new(library)))?;
            let (mut major, mut minor) = (0, 0);
            // SAFETY: both places are writable.
            let code = unsafe { (compiler.get_version)(&raw mut major, &raw mut minor) };
            compiler.version = (major, minor);
            // 11.1 was the first that makes machine code.
            (code == 0 && (major, minor) >= (12, 0)).then_some(compiler)
        })
    }

    /// Machine code of `source` for `sm`, such as 80. [`Error::Compile`] holds the first lines of what the compiler says.
    pub fn machine_code(
        &self,
        name: &str,
        source: &str,
        headers: &[Header],
        options: &[&str],
        sm: u32,
    ) -> Result<Vec<u8>> {
        let c = |text: &str| {
            CString::new(text).map_err(|_| Error::Compile { message: format!("{name}: a NUL"), native: 0 })
        };
        let (c_name, c_source) = (c(name)?, c(source)?);
        let all = |each: &mut dyn Iterator<Item = &str>| each.map(c).collect::<Result<Vec<_>>>();
        let names = all(&mut headers.iter().map(|h| h.0))?;
        let texts = all(&mut headers.iter().map(|h| h.1))?;
        let architecture = format!("--gpu-architecture=sm_{sm}");
        let options = all(&mut options.iter().copied().chain([&architecture[..]]))?;
        let pointers = |strings: &[CString]| strings.iter().map(|s| s.as_ptr()).collect::<Vec<_>>();
        let (names, texts, options) = (pointers(&names), pointers(&texts), pointers(&options));
        let mut program = OpenProgram { compiler: self, handle: 0 };
        let (mut size, check) = (0, |code| program_error(name, code));
        // SAFETY: all strings are NUL-terminated and live until the end; sizes are those that NVRTC tells, and it writes
        // no more.
        unsafe {
            let (count, handle) = (names.len() as i32, &raw mut program.handle);
            check((self.create)(handle, c_source.as_ptr(), c_name.as_ptr(), count, texts.as_ptr(), names.as_ptr()))?;
            let code = (self.compile)(program.handle, options.len() as i32, options.as_ptr());
            if code != 0 {
                return Err(Error::Compile { message: format!("{name}: {}", program.said()), native: code });
            }
            check((self.cubin_size)(program.handle, &raw mut size))?;
            let mut cubin = try_vec(size, 0u8, "compiled kernels")?;
            check((self.cubin)(program.handle, cubin.as_mut_ptr().cast()))?;
            Ok(cubin)
        }
    }
}

fn program_error(name: &str, code: i32) -> Result<()> {
    if code == 0 {
        Ok(())
    } else {
        Err(Error::Compile { message: format!("{name}: NVRTC error {code}"), native: code })
    }
}

/// A program that is destroyed on every way out.
struct OpenProgram<'a> {
    compiler: &'a Compiler,
    handle: Program,
}

impl OpenProgram<'_> {
    /// The beginning of the log.
    fn said(&self) -> String {
        const MOST: usize = 400;
        let mut size = 0;
        // SAFETY: the program is alive; the log is written into as many bytes as it says it has.
        unsafe {
            if (self.compiler.log_size)(self.handle, &raw mut size) != 0 || size == 0 {
                return "NVRTC says nothing".into();
            }
            let Ok(mut log) = try_vec(size, 0u8, "log") else { return "a log too long for memory".into() };
            if (self.compiler.log)(self.handle, log.as_mut_ptr().cast()) != 0 {
                return "NVRTC has no log".into();
            }
            let text = CStr::from_bytes_until_nul(&log).unwrap_or_default().to_string_lossy();
            text[..text.floor_char_boundary(MOST)].trim().into()
        }
    }
}

impl Drop for OpenProgram<'_> {
    fn drop(&mut self) {
        if self.handle != 0 {
            // SAFETY: made by `create`, and not used after.
            unsafe { (self.compiler.destroy)(&raw mut self.handle) };
        }
    }
}

/// Loads what NVRTC loads itself when it compiles, by a name that the loader need not know: its neighbour in a folder.
fn load_builtins(nvrtc: &Path) {
    let Some(folder) = nvrtc.parent().filter(|folder| !folder.as_os_str().is_empty()) else { return };
    for file in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = file.file_name();
        if name.to_string_lossy().starts_with("libnvrtc-builtins.so") {
            // SAFETY: a library of tables. Never unloaded, as NVRTC itself; one that does not load is NVRTC's to miss.
            if let Ok(library) = unsafe { Library::new(file.path()) } {
                std::mem::forget(library);
            }
        }
    }
}

/// Where NVRTC may be: where the user says (`MNEMO_NVRTC`, a file), where the loader looks, where CUDA's installer and the
/// PyPI packages `nvidia-cuda-nvrtc` and `nvidia-cuda-nvrtc-cu12` put it.
fn places() -> Vec<PathBuf> {
    const NAMES: &[&str] = if cfg!(windows) {
        &["nvrtc64_130_0.dll", "nvrtc64_120_0.dll"]
    } else {
        &["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"]
    };
    let variable = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    // A user who names a file wants that one or none.
    if let Some(file) = variable("MNEMO_NVRTC") {
        return vec![file];
    }
    let mut folders = Vec::new();
    for prefix in ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(variable) {
        let pythons = std::fs::read_dir(prefix.join("lib")).into_iter().flatten().flatten().map(|entry| entry.path());
        for python in pythons.filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("python"))) {
            let nvidia = python.join("site-packages/nvidia");
            folders.extend([nvidia.join("cu13/lib"), nvidia.join("cuda_nvrtc/lib")]);
        }
    }
    folders.extend(["CUDA_PATH", "CUDA_HOME"].into_iter().filter_map(variable).map(|cuda| cuda.join("lib64")));
    let in_folders = folders.iter().flat_map(|folder| NAMES.iter().map(|name| folder.join(name)));
    NAMES.iter().map(PathBuf::from).chain(in_folders).collect()
}
