//! Modules: PTX text that was loaded into a context.

use crate::code::{self, Code};
use crate::driver::{Driver, Handle, export, put};
use crate::interpreter::{Program, Resident, Signature};
use std::ffi::{CStr, c_char, c_void};

pub struct Module {
    pub context: Handle,
    device: usize,
    program: Program,
    pub resident: Resident,
    /// Global variables that the host asked for: address and bytes.
    globals: Vec<(u64, u64)>,
}

/// A kernel of a module.
pub struct Function {
    pub context: Handle,
    pub module: Handle,
    pub name: String,
    pub signature: Signature,
    /// Dynamic shared memory that a launch may ask for.
    pub dynamic_shared_limit: u32,
    pub carveout: i32,
}

const ELF: [u8; 4] = *b"\x7fELF";
/// Begins a file with code for several devices.
const FAT_BINARY: [u8; 4] = 0xba55_ed50_u32.to_le_bytes();

const JIT_ERROR_LOG: u32 = 5;
const JIT_ERROR_LOG_BYTES: u32 = 6;

impl Module {
    /// The device of a global variable that holds `bytes` at `address`.
    pub fn device_of_global(&self, address: u64, bytes: usize) -> Option<usize> {
        let inside = |&(base, length): &(u64, u64)| address >= base && address - base + bytes as u64 <= length;
        self.globals.iter().any(inside).then_some(self.device)
    }
}

/// The words after a directive such as `.version`.
fn directive<'a>(source: &'a str, name: &str) -> Option<&'a str> {
    source.lines().find_map(|line| line.trim().strip_prefix(name)).map(str::trim)
}

impl Driver {
    /// Loads an image; the sentence says more where the PTX is at fault.
    fn load(&mut self, place: *mut Handle, image: *const c_void) -> Result<(), (Code, String)> {
        let plain = |code| (code, String::new());
        let context = self.current().map_err(plain)?;
        self.forbid_in_capture().map_err(plain)?;
        if image.is_null() || place.is_null() {
            return Err(plain(code::INVALID_VALUE));
        }
        // SAFETY: an image is a program with a longer head, or text that a zero ends.
        let text = unsafe { CStr::from_ptr(image.cast::<c_char>()) }.to_bytes();
        if text.starts_with(&ELF) || text.starts_with(&FAT_BINARY) {
            return Err(plain(code::NO_BINARY_FOR_GPU));
        }
        let source = std::str::from_utf8(text).map_err(|_| plain(code::INVALID_IMAGE))?;
        self.check_target(source)?;
        let program = Program::parse(source).map_err(|sentence| (code::INVALID_PTX, sentence))?;
        let device = self.device_of(context).map_err(plain)?;
        let resident = Resident::new(&program, &mut self.devices[device].board).map_err(plain)?;
        let handle = self.handle();
        self.modules.insert(handle, Module { context, device, program, resident, globals: Vec::new() });
        self.totals.module_loads += 1;
        // SAFETY: the host gives a place for a handle.
        unsafe { put(place, handle) }.map_err(plain)
    }

    /// Whether the driver is new enough for the PTX, and the device for its target.
    fn check_target(&self, source: &str) -> Result<(), (Code, String)> {
        let version = directive(source, ".version").and_then(|version| version.split_once('.'));
        let version =
            version.and_then(|(major, minor)| Some(10 * major.parse::<i32>().ok()? + minor.parse::<i32>().ok()?));
        let version = version.ok_or_else(|| (code::INVALID_IMAGE, "the text has no .version".to_owned()))?;
        if version > self.settings.newest_ptx() {
            return Err((
                code::UNSUPPORTED_PTX_VERSION,
                format!("PTX version {version} (tenths) is newer than the driver"),
            ));
        }
        let target = directive(source, ".target").and_then(|target| target.strip_prefix("sm_"));
        let target = target.ok_or_else(|| (code::INVALID_PTX, "the text has no .target sm_".to_owned()))?;
        let digits = target.bytes().take_while(u8::is_ascii_digit).count();
        let number: i32 = target[..digits].parse().map_err(|_| (code::INVALID_PTX, "a strange .target".to_owned()))?;
        let own = 10 * self.settings.capability.0 + self.settings.capability.1;
        let fits = match target.as_bytes().get(digits) {
            Some(b'a') => number == own,
            Some(b'f') => number / 10 == own / 10 && number <= own,
            _ => number <= own,
        };
        if fits {
            Ok(())
        } else {
            Err((code::NO_BINARY_FOR_GPU, format!("PTX for sm_{target} does not run on sm_{own}")))
        }
    }

    fn load_and_tell(&mut self, place: *mut Handle, image: *const c_void) -> Result<(), (Code, String)> {
        self.load(place, image).inspect_err(|(code, sentence)| {
            if *code == code::INVALID_PTX {
                self.tell(sentence.clone());
            }
        })
    }

    /// Takes a module and its functions away.
    pub fn unload(&mut self, handle: Handle) {
        self.functions.retain(|_, function| function.module != handle);
        if let Some(module) = self.modules.remove(&handle) {
            module.resident.unload(&mut self.devices[module.device].board);
        }
    }
}

/// Reads a name that the host gives.
///
/// # Safety
/// The pointer is null or leads to text that a zero ends.
unsafe fn name_of<'a>(name: *const c_char) -> Result<&'a str, Code> {
    if name.is_null() {
        return Err(code::INVALID_VALUE);
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(name) }.to_str().map_err(|_| code::NOT_FOUND)
}

export! {
    fn cuModuleLoadData(driver, module: *mut Handle, image: *const c_void) {
        driver.load_and_tell(module, image).map_err(|(code, _)| code)
    }

    fn cuModuleLoad(driver, module: *mut Handle, path: *const c_char) {
        // SAFETY: the host gives a path.
        let mut image = std::fs::read(unsafe { name_of(path) }?).map_err(|_| code::FILE_NOT_FOUND)?;
        image.push(0);
        driver.load_and_tell(module, image.as_ptr().cast()).map_err(|(code, _)| code)
    }

    // Of the options, only the error log is looked at.
    fn cuModuleLoadDataEx(driver, module: *mut Handle, image: *const c_void, count: u32, options: *const u32, values: *mut usize) {
        let outcome = driver.load_and_tell(module, image);
        if count > 0 && (options.is_null() || values.is_null()) {
            return Err(code::INVALID_VALUE);
        }
        let (mut log, mut bytes) = (0, 0);
        for option in 0..count as usize {
            // SAFETY: the host gives `count` options and values.
            let (option, value) = unsafe { (*options.add(option), *values.add(option)) };
            match option {
                JIT_ERROR_LOG => log = value,
                JIT_ERROR_LOG_BYTES => bytes = value,
                _ => {}
            }
        }
        if log != 0 && bytes != 0 {
            let sentence = outcome.as_ref().err().map_or("", |(_, sentence)| sentence);
            // SAFETY: the host gives a log of that size.
            unsafe { crate::report::fill_text(log as *mut c_char, bytes, sentence) };
        }
        outcome.map_err(|(code, _)| code)
    }

    // Waits for the work of the context, whose kernels may be the module's.
    fn cuModuleUnload(driver, module: Handle) {
        driver.forbid_in_capture()?;
        let answer = driver.current();
        let context = driver.modules.get(&module).ok_or(code::INVALID_HANDLE)?.context;
        driver.totals.waits += 1;
        driver.finish(context);
        driver.unload(module);
        answer.map(|_| ())
    }

    fn cuModuleGetFunction(driver, function: *mut Handle, module: Handle, name: *const c_char) {
        let context = driver.current()?;
        let found = driver.modules.get(&module).filter(|m| m.context == context).ok_or(code::INVALID_HANDLE)?;
        // SAFETY: the host gives a name.
        let name = unsafe { name_of(name) }?;
        let signature = found.program.signature(name).ok_or(code::NOT_FOUND)?;
        let known = driver.functions.iter().find(|(_, function)| function.module == module && function.name == name);
        let handle = match known {
            Some((&handle, _)) => handle,
            None => {
                let handle = driver.handle();
                let dynamic_shared_limit =
                    (crate::device::SHARED_WITHOUT_OPT_IN as u32).saturating_sub(signature.static_shared_bytes);
                let name = name.to_owned();
                driver.functions.insert(
                    handle,
                    Function { context, module, name, signature, dynamic_shared_limit, carveout: -1 },
                );
                handle
            }
        };
        // SAFETY: the host gives a place for a handle or null.
        unsafe { put(function, handle) }
    }

    fn cuModuleGetGlobal_v2(driver, address: *mut u64, bytes: *mut usize, module: Handle, name: *const c_char) {
        let context = driver.current()?;
        let found = driver.modules.get_mut(&module).filter(|m| m.context == context).ok_or(code::INVALID_HANDLE)?;
        // SAFETY: the host gives a name.
        let global = found.resident.global(unsafe { name_of(name) }?).ok_or(code::NOT_FOUND)?;
        if !found.globals.contains(&global) {
            found.globals.push(global);
        }
        // SAFETY: the host gives places for either or null.
        unsafe {
            if !address.is_null() {
                put(address, global.0)?;
            }
            if bytes.is_null() { Ok(()) } else { put(bytes, global.1 as usize) }
        }
    }
}
