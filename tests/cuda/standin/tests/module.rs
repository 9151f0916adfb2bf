//! Modules, their variables, and functions of the driver that are looked up or missing.

mod support;

use std::ffi::c_void;
use std::ptr::{null, null_mut};
use support::*;

fn load(cuda: &Cuda, image: &[u8]) -> i32 {
    cuda.cuModuleLoadData(&mut 0, image.as_ptr().cast())
}

#[test]
fn images_that_the_device_cannot_run() {
    let cuda = Cuda::new();
    let with = |version: &str, target: &str| {
        text(&PTX.replace(".version 7.0", &format!(".version {version}")).replace("sm_80", target))
            .into_bytes_with_nul()
    };
    // Version, target and answer on compute capability 8.0 with driver 12.8.
    for (version, target, wanted) in [
        ("8.7", "sm_80", 0),
        ("8.8", "sm_80", 222),
        ("9.0", "sm_80", 222),
        ("7.0", "sm_75", 0),
        ("7.8", "sm_90", NO_BINARY_FOR_GPU),
        ("8.0", "sm_90a", NO_BINARY_FOR_GPU),
        ("7.0", "compute", 218),
    ] {
        assert_eq!(load(&cuda, &with(version, target)), wanted, "{version} {target}");
    }
    cuda.set("STANDIN_DRIVER", "11040");
    assert_eq!((load(&cuda, &with("7.4", "sm_80")), load(&cuda, &with("7.5", "sm_80"))), (0, 222));
    cuda.set("STANDIN_CAPABILITY", "9.0");
    cuda.set("STANDIN_DRIVER", "13000");
    assert_eq!((load(&cuda, &with("8.0", "sm_90a")), load(&cuda, &with("8.0", "sm_80"))), (0, 0));
    cuda.set("STANDIN_CAPABILITY", "12.0");
    assert_eq!((load(&cuda, &with("8.0", "sm_90a")), load(&cuda, &with("8.8", "sm_120f"))), (NO_BINARY_FOR_GPU, 0));
    assert_eq!(load(&cuda, b"\x7fELF\x02\x01\x01\0"), NO_BINARY_FOR_GPU, "a cubin");
    assert_eq!(load(&cuda, &[0x50, 0xed, 0x55, 0xba, 1, 0, 16, 0]), NO_BINARY_FOR_GPU, "a fat binary");
    assert_eq!(load(&cuda, b"no PTX\0"), 200);
    let live = cuda.counters().live_modules;
    assert_eq!(load(&cuda, &text(&PTX.replace("add.s32", "nonsense.s32")).into_bytes_with_nul()), 218);
    assert!(cuda.last_fault().contains("nonsense"), "{}", cuda.last_fault());
    assert_eq!(cuda.counters().live_modules, live);
}

#[test]
fn functions_and_variables() {
    let cuda = Cuda::new();
    let module = cuda.module();
    assert_eq!(cuda.cuModuleGetFunction(&mut 0, module, text("absent").as_ptr()), NOT_FOUND);
    assert_eq!(cuda.function(module, "sum"), cuda.function(module, "sum"));
    let (mut address, mut bytes) = (0, 0);
    assert_eq!(cuda.cuModuleGetGlobal_v2(&mut address, &mut bytes, module, text("absent").as_ptr()), NOT_FOUND);
    good(cuda.cuModuleGetGlobal_v2(&mut address, &mut bytes, module, text("bias").as_ptr()));
    assert_eq!((bytes, cuda.download(address, 1)), (4, vec![5]));
    let show = cuda.function(module, "show_bias");
    let target = cuda.upload(&[0]);
    for value in [5, 8] {
        good(cuda.cuMemsetD32Async(address, value, 1, 0));
        good(cuda.launch(show, target, 1, 0));
        assert_eq!(cuda.download(target, 1), [value]);
    }
    assert_eq!(cuda.cuMemFree_v2(address), INVALID_VALUE, "a variable is not freed");
    assert_eq!(cuda.cuMemsetD32Async(address, 1, 2, 0), INVALID_VALUE, "nor left");
    // What is queued runs before its module goes.
    good(cuda.launch(show, target, 1, 0));
    good(cuda.cuModuleUnload(module));
    assert_eq!(cuda.counters().kernels, 3);
    assert_eq!(cuda.launch(show, target, 1, 0), INVALID_HANDLE);
    assert_eq!(cuda.cuMemsetD32Async(address, 1, 1, 0), INVALID_VALUE);
    assert_eq!(cuda.cuModuleUnload(module), INVALID_HANDLE);
}

#[test]
fn functions_of_the_driver_are_looked_up_by_name() {
    let cuda = Cuda::bare();
    let look_up = |name: &str, version| {
        let (mut function, mut status) = (null_mut::<c_void>(), 9);
        let code = cuda.cuGetProcAddress_v2(text(name).as_ptr(), &mut function, version, 0, &mut status);
        (code, status, function)
    };
    // SAFETY: a plain look-up.
    let alloc = *unsafe { cuda.library.get::<*mut c_void>("cuMemAlloc_v2") }.expect("a function");
    assert_eq!(look_up("cuMemAlloc", 12080), (0, 0, alloc), "the newest version");
    assert_eq!(look_up("cuNothing", 12080), (NOT_FOUND, 1, null_mut()));
    assert_eq!(look_up("cuMemAlloc", 13000), (NOT_FOUND, 1, null_mut()), "newer than the driver");
    let mut table = alloc.cast_const();
    assert_ne!(cuda.cuGetExportTable(&mut table, null()), 0);
    assert_eq!(table, null());
}

#[test]
fn a_copy_of_the_library_can_lack_a_function() {
    let folder = Folder::new();
    let path = folder.0.join("libcuda.so.1");
    std::fs::write(&path, without(&built_library(), "cuGraphLaunch")).expect("a copy");
    // SAFETY: the library's initialization does nothing.
    let library = unsafe { libloading::Library::new(&path) }.expect("a library");
    // SAFETY: plain look-ups.
    unsafe {
        assert!(library.get::<*mut c_void>("cuGraphLaunch").is_err());
        assert!(library.get::<*mut c_void>("cuGraphUpload").is_ok());
        let init = library.get::<unsafe extern "C" fn(u32) -> i32>("cuInit").expect("cuInit");
        assert_eq!(init(0), 0);
    }
}
