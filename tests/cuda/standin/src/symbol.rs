//! Functions that a host looks up through the driver, and the texts of its errors.

use crate::code;
use crate::driver::{enter, export, put};
use std::ffi::{CStr, CString, c_char, c_void};

const FOUND: u32 = 0;
const NOT_FOUND: u32 = 1;

/// The newest exported version of a function, out of this very library.
fn look_up(name: &CStr) -> *mut c_void {
    // SAFETY: plain calls of the loader; the address is one of this library's own functions.
    unsafe {
        let mut own = std::mem::zeroed::<libc::Dl_info>();
        if libc::dladdr(cuGetErrorName as *const c_void, &mut own) == 0 {
            return std::ptr::null_mut();
        }
        let library = libc::dlopen(own.dli_fname, libc::RTLD_NOW | libc::RTLD_NOLOAD);
        if library.is_null() {
            return std::ptr::null_mut();
        }
        let versions =
            ["_v2", ""].iter().filter_map(|suffix| CString::new([name.to_bytes(), suffix.as_bytes()].concat()).ok());
        let found = versions.map(|name| libc::dlsym(library, name.as_ptr())).find(|found| !found.is_null());
        libc::dlclose(library);
        found.unwrap_or(std::ptr::null_mut())
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuGetProcAddress_v2(
    name: *const c_char,
    function: *mut *mut c_void,
    version: i32,
    flags: u64,
    status: *mut u32,
) -> i32 {
    let _ = flags;
    enter("cuGetProcAddress_v2", |driver| {
        if name.is_null() || function.is_null() {
            return Err(code::INVALID_VALUE);
        }
        // SAFETY: the host gives a name.
        let name = unsafe { CStr::from_ptr(name) };
        let address = if version > driver.settings.driver { std::ptr::null_mut() } else { look_up(name) };
        let outcome = if address.is_null() { NOT_FOUND } else { FOUND };
        // SAFETY: the host gives a place for a pointer, and one for a number or null.
        unsafe {
            put(function, address)?;
            if !status.is_null() {
                put(status, outcome)?;
            }
        }
        if outcome == FOUND { Ok(()) } else { Err(code::NOT_FOUND) }
    })
}

export! {
    // NVRTC asks for private tables and crashes if the function is missing; there are none.
    fn cuGetExportTable(driver, table: *mut *const c_void, id: *const c_void) {
        let _ = (driver, id);
        if !table.is_null() {
            // SAFETY: the host gives a place for a pointer.
            unsafe { put(table, std::ptr::null()) }?;
        }
        Err(code::NOT_FOUND)
    }

    fn cuGetErrorName(driver, error: i32, text: *mut *const c_char) {
        let _ = driver;
        let texts = code::texts(error);
        // SAFETY: the host gives a place for a pointer or null.
        unsafe { put(text, texts.map_or(std::ptr::null(), |(name, _)| name.as_ptr())) }?;
        texts.map(|_| ()).ok_or(code::INVALID_VALUE)
    }

    fn cuGetErrorString(driver, error: i32, text: *mut *const c_char) {
        let _ = driver;
        let texts = code::texts(error);
        // SAFETY: the host gives a place for a pointer or null.
        unsafe { put(text, texts.map_or(std::ptr::null(), |(_, sentence)| sentence.as_ptr())) }?;
        texts.map(|_| ()).ok_or(code::INVALID_VALUE)
    }
}
