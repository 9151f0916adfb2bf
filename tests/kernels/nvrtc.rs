//! NVIDIA's runtime compiler, opened by path.

use super::root;
use libloading::Library;
use std::ffi::{CStr, CString, c_char, c_int};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::ptr::null;
use std::sync::OnceLock;

type Program = *const u8;
type Texts = *const *const c_char;

/// One version of the compiler.
pub struct Compiler {
    library: Library,
    // Which it opens by name only: it has to be there.
    _builtins: Library,
}

/// What it makes of a file.
pub struct Compiled {
    /// A cubin for `sm_..`, PTX for `compute_..`.
    pub code: Vec<u8>,
    /// What compiler and assembler say.
    pub log: String,
}

/// The folder of the libraries of all versions.
fn libraries() -> &'static Path {
    static FETCHED: OnceLock<PathBuf> = OnceLock::new();
    FETCHED.get_or_init(|| {
        let script = root().join("tests/cuda/nvrtc.sh");
        let status = Command::new(&script).status().expect("tests/cuda/nvrtc.sh runs");
        assert!(status.success(), "{}: {status}", script.display());
        root().join("build/nvrtc")
    })
}

impl Compiler {
    /// Opens version `version`, one of those that tests/cuda/nvrtc.sh fetches.
    pub fn open(version: &str) -> Self {
        let folder = libraries().join(version);
        let mut parts = version.split('.');
        let (major, minor) = (parts.next().expect("major"), parts.next().expect("minor"));
        let open = |name: String| {
            let path = folder.join(name);
            // SAFETY: NVIDIA's libraries, whose constructors only prepare themselves.
            unsafe { Library::new(&path) }.unwrap_or_else(|e| panic!("{}: {e}", path.display()))
        };
        Self {
            _builtins: open(format!("libnvrtc-builtins.so.{major}.{minor}")),
            library: open(format!("libnvrtc.so.{major}")),
        }
    }

    fn call<F: Copy, R>(&self, name: &str, call: impl FnOnce(F) -> R) -> R {
        // SAFETY: the types are those of nvrtc.h, which have not changed since 11.1.
        let function = unsafe { self.library.get::<F>(name.as_bytes()) };
        call(*function.unwrap_or_else(|e| panic!("{name}: {e}")))
    }

    /// A size and then so many bytes of a program.
    fn bytes(&self, program: Program, what: &str) -> Vec<u8> {
        let mut size = 0usize;
        self.call(&format!("nvrtcGet{what}Size"), |f: unsafe extern "C" fn(Program, *mut usize) -> c_int| {
            // SAFETY: the program is alive.
            assert_eq!(unsafe { f(program, &mut size) }, 0, "{what}");
        });
        let mut bytes = vec![0; size];
        self.call(&format!("nvrtcGet{what}"), |f: unsafe extern "C" fn(Program, *mut u8) -> c_int| {
            // SAFETY: as above, and there is room for what it said.
            assert_eq!(unsafe { f(program, bytes.as_mut_ptr()) }, 0, "{what}");
        });
        bytes
    }

    /// Compiles kernels/`name`.cu for `sm_..` or `compute_..`, with the options of the library and `extra` ones. Panics with
    /// the log where it does not compile.
    pub fn compile(&self, name: &str, architecture: &str, extra: &[&str]) -> Compiled {
        let c = |text: &str| CString::new(text).expect("no NUL");
        let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let folder = root().join("kernels");
        let source = c(&read(&folder.join(format!("{name}.cu"))));
        let headers: Vec<(CString, CString)> = files("cuh")
            .iter()
            .map(|header| (c(&format!("{header}.cuh")), c(&read(&folder.join(format!("{header}.cuh"))))))
            .collect();
        let header_names: Vec<*const c_char> = headers.iter().map(|h| h.0.as_ptr()).collect();
        let header_texts: Vec<*const c_char> = headers.iter().map(|h| h.1.as_ptr()).collect();
        let common = read(&folder.join("options.txt"));
        let mut options: Vec<CString> = common.lines().chain(extra.iter().copied()).map(c).collect();
        options.push(c(&format!("--gpu-architecture={architecture}")));
        if architecture.starts_with("sm_") {
            options.push(c("--ptxas-options=-v"));
        }
        let option_texts: Vec<*const c_char> = options.iter().map(|o| o.as_ptr()).collect();

        let mut program: Program = null();
        type Create = unsafe extern "C" fn(*mut Program, *const c_char, *const c_char, c_int, Texts, Texts) -> c_int;
        self.call("nvrtcCreateProgram", |f: Create| {
            let (name, count) = (c(&format!("{name}.cu")), headers.len() as c_int);
            // SAFETY: all texts end with NUL and live until the call returns, which copies them.
            let code = unsafe {
                let (texts, names) = (header_texts.as_ptr(), header_names.as_ptr());
                f(&mut program, source.as_ptr(), name.as_ptr(), count, texts, names)
            };
            assert_eq!(code, 0, "nvrtcCreateProgram");
        });
        let code = self.call("nvrtcCompileProgram", |f: unsafe extern "C" fn(Program, c_int, Texts) -> c_int| {
            // SAFETY: the program is alive, and as above.
            unsafe { f(program, option_texts.len() as c_int, option_texts.as_ptr()) }
        });
        let log = self.bytes(program, "ProgramLog");
        let log = CStr::from_bytes_until_nul(&log).expect("a text").to_string_lossy().into_owned();
        assert_eq!(code, 0, "{name}.cu for {architecture} does not compile:\n{log}");
        let mut code = self.bytes(program, if architecture.starts_with("sm_") { "CUBIN" } else { "PTX" });
        if architecture.starts_with("compute_") {
            code.truncate(code.iter().position(|b| *b == 0).unwrap_or(code.len()));
        }
        self.call("nvrtcDestroyProgram", |f: unsafe extern "C" fn(*mut Program) -> c_int| {
            // SAFETY: made above and not used again.
            assert_eq!(unsafe { f(&mut program) }, 0);
        });
        Compiled { code, log }
    }
}

/// The names of kernels/*.`extension`, without it, in order.
pub fn files(extension: &str) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(root().join("kernels"))
        .expect("kernels")
        .map(|entry| PathBuf::from(entry.expect("an entry").file_name()))
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    names.sort_unstable();
    names
}
