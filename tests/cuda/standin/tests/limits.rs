//! What a device has, what a launch may ask for, and what is refused.

mod support;

use std::ffi::{CStr, c_void};
use std::ptr::null_mut;
use support::*;

fn attribute(cuda: &Cuda, attribute: i32) -> i32 {
    let mut value = -1;
    good(cuda.cuDeviceGetAttribute(&mut value, attribute, 0));
    value
}

#[test]
fn devices_are_what_was_asked_for() {
    let cuda = Cuda::bare();
    for (name, value) in [("CAPABILITY", "9.0"), ("DRIVER", "13000"), ("DEVICES", "3"), ("MEMORY", "1000000")] {
        cuda.set(&format!("STANDIN_{name}"), value);
    }
    cuda.begin();
    let (mut count, mut version, mut free, mut total) = (0, 0, 0, 0);
    good(cuda.cuDeviceGetCount(&mut count));
    good(cuda.cuDriverGetVersion(&mut version));
    good(cuda.cuMemGetInfo_v2(&mut free, &mut total));
    assert_eq!((count, version, free, total), (3, 13000, 1_000_000, 1_000_000));
    assert_eq!(
        [75, 76, 16, 97, 8, 10, 115, 41].map(|a| attribute(&cuda, a)),
        [9, 0, 132, 227 << 10, 48 << 10, 32, 1, 1]
    );
    assert_eq!(cuda.cuDeviceGet(&mut 0, 3), 101);
    assert_eq!(cuda.cuDeviceGetAttribute(&mut 0, 1, -1), 101);
    assert_eq!(cuda.cuDeviceGetAttribute(&mut 0, 500, 0), INVALID_VALUE);
    let set = |name: &str, value: &str| cuda.standin_set(text(name).as_ptr(), text(value).as_ptr());
    assert_eq!(set("STANDIN_DEVICES", "1"), 1, "too late");
    assert_eq!((set("STANDIN_NOTHING", "1"), set("STANDIN_CAPABILITY", "9")), (1, 1));
}

#[test]
fn the_environment_sets_the_same() {
    let variables = [
        ("CAPABILITY", "12.0"),
        ("DRIVER", "12090"),
        ("DEVICES", "1"),
        ("MEMORY", "4096"),
        ("POOLS", "0"),
        ("FAIL", "cuInit:1:999"),
    ];
    if std::env::var_os("STANDIN_MEMORY").is_none() {
        let mut again = std::process::Command::new(std::env::current_exe().expect("this test"));
        again.args(["the_environment_sets_the_same", "--exact"]);
        for (name, value) in variables {
            again.env(format!("STANDIN_{name}"), value);
        }
        let output = again.output().expect("a process");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
        return;
    }
    let cuda = Cuda::bare();
    // What was set before stays.
    cuda.set("STANDIN_DRIVER", "13010");
    assert_eq!(cuda.cuInit(0), 999);
    cuda.begin();
    let (mut count, mut version, mut total) = (0, 0, 0);
    good(cuda.cuDeviceGetCount(&mut count));
    good(cuda.cuDriverGetVersion(&mut version));
    good(cuda.cuMemGetInfo_v2(&mut 0, &mut total));
    assert_eq!((count, version, total), (1, 13010, 4096));
    assert_eq!([75, 115].map(|a| attribute(&cuda, a)), [12, 0]);
    assert_eq!(cuda.cuMemAllocAsync(&mut 0, 4, 0), 801);
}

#[test]
fn no_device() {
    let cuda = Cuda::bare();
    cuda.set("STANDIN_DEVICES", "0");
    assert_eq!([0; 2].map(|_| cuda.cuInit(0)), [100; 2]);
    assert_eq!(cuda.cuDeviceGetCount(&mut 0), 3);
}

#[test]
fn memory_ends() {
    let cuda = Cuda::bare();
    cuda.set("STANDIN_MEMORY", "4096");
    cuda.begin();
    let address = cuda.allocate(512);
    assert_eq!(cuda.cuMemAlloc_v2(&mut 0, 2049), OUT_OF_MEMORY);
    assert_eq!(cuda.cuMemAlloc_v2(&mut 0, usize::MAX), OUT_OF_MEMORY);
    assert_eq!(cuda.cuMemAlloc_v2(&mut 0, 0), INVALID_VALUE);
    cuda.allocate(512);
    let (mut free, mut total) = (1, 0);
    good(cuda.cuMemGetInfo_v2(&mut free, &mut total));
    assert_eq!((free, total), (0, 4096));
    good(cuda.cuMemFree_v2(address));
    cuda.allocate(512);
    assert_eq!(cuda.cuMemFree_v2(address + 4), INVALID_VALUE);
    good(cuda.cuMemFree_v2(0));
}

#[test]
fn copies_stay_within_one_allocation() {
    let cuda = Cuda::new();
    let address = cuda.upload(&[1; 4]);
    let mut words = [0_u32; 8];
    let host = words.as_mut_ptr().cast::<c_void>();
    assert_eq!(cuda.cuMemcpyDtoH_v2(host, address, 17), INVALID_VALUE);
    assert_eq!(cuda.cuMemcpyDtoH_v2(host, address + 12, 8), INVALID_VALUE);
    assert_eq!(cuda.cuMemcpyHtoD_v2(host as u64, host, 4), INVALID_VALUE, "host memory for device memory");
    assert_eq!(cuda.cuMemcpyDtoH_v2(address as *mut c_void, address, 4), INVALID_VALUE, "and the other way round");
    assert_eq!(cuda.cuMemcpyDtoH_v2(null_mut(), address, 4), INVALID_VALUE);
    assert_eq!(cuda.cuMemsetD32Async(address + 2, 0, 1, 0), INVALID_VALUE, "not a multiple of four");
    good(cuda.cuMemcpyDtoH_v2(host, address, 0));
    good(cuda.cuMemsetD8Async(address + 3, 2, 3, 0));
    assert_eq!(cuda.download(address, 4), [0x0200_0001, 0x0202, 1, 1]);
}

#[test]
fn launches_have_limits() {
    let cuda = Cuda::new();
    let module = cuda.module();
    let (increment, sum) = (cuda.function(module, "increment"), cuda.function(module, "sum"));
    let address = cuda.upload(&[1; 256]);
    let launch = |kernel, grid, block, shared| cuda.launch_sized(kernel, address, 256, (grid, block), shared, 0);
    for (grid, block, wanted) in [
        ([0, 1, 1], [32, 1, 1], INVALID_VALUE),
        ([1, 1, 1], [32, 0, 1], INVALID_VALUE),
        ([1, 65536, 1], [32, 1, 1], INVALID_VALUE),
        ([1 << 31, 1, 1], [32, 1, 1], INVALID_VALUE),
        ([1, 1, 1], [1025, 1, 1], INVALID_VALUE),
        ([1, 1, 1], [32, 33, 1], INVALID_VALUE),
        ([1, 1, 1], [1, 1, 65], INVALID_VALUE),
        ([8, 1, 1], [32, 1, 1], 0),
    ] {
        assert_eq!(launch(increment, grid, block, 0), wanted, "{grid:?} {block:?}");
    }
    assert_eq!(launch(sum, [1; 3], [257, 1, 1], 2048), 701, "the kernel says 256 at most");
    good(launch(sum, [1; 3], [256, 1, 1], 1024));
    assert_eq!(cuda.download(address, 2), [512, 2], "eight blocks incremented, one added up");
    // Shared memory beyond 48 KiB has to be asked for.
    assert_eq!(launch(sum, [1; 3], [32, 1, 1], (48 << 10) + 1), INVALID_VALUE);
    assert_eq!(cuda.cuFuncSetAttribute(sum, 8, (163 << 10) + 1), INVALID_VALUE);
    good(cuda.cuFuncSetAttribute(sum, 8, 163 << 10));
    let mut most = 0;
    good(cuda.cuFuncGetAttribute(&mut most, 8, sum));
    assert_eq!(most, 163 << 10);
    good(launch(sum, [1; 3], [256, 1, 1], 163 << 10));
    good(cuda.cuCtxSynchronize());
    let mut blocks = [0; 3];
    for (blocks, (threads, shared)) in blocks.iter_mut().zip([(256, 1024), (256, 60 << 10), (257, 0)]) {
        good(cuda.cuOccupancyMaxActiveBlocksPerMultiprocessor(blocks, sum, threads, shared));
    }
    assert_eq!(blocks, [8, 2, 0], "by threads, by shared memory, none");
}

#[test]
fn parameters_are_asked_for() {
    let cuda = Cuda::new();
    let kernel = cuda.kernel("increment");
    let address = cuda.upload(&[1; 4]);
    let launch = |parameters: *const *const c_void, extra: *const usize| {
        cuda.cuLaunchKernel(kernel, 1, 1, 1, 32, 1, 1, 0, 0, parameters, extra)
    };
    assert_eq!(launch(std::ptr::null(), std::ptr::null()), INVALID_VALUE, "none given");
    assert_eq!(launch([(&raw const address).cast(), std::ptr::null()].as_ptr(), std::ptr::null()), INVALID_VALUE);
    // All of them in one buffer: an address and a count.
    let mut buffer = address.to_le_bytes().to_vec();
    buffer.extend(4_u32.to_le_bytes());
    for (size, wanted) in [(12_usize, 0), (11, INVALID_VALUE), (16, INVALID_VALUE)] {
        let extra = [1, buffer.as_ptr() as usize, 2, (&raw const size) as usize, 0];
        assert_eq!(launch(std::ptr::null(), extra.as_ptr()), wanted, "{size}");
    }
    assert_eq!(cuda.download(address, 4), [2; 4]);
    assert_eq!(cuda.launch(kernel + 1, address, 4, 0), INVALID_HANDLE);
}

#[test]
fn pointers_are_known() {
    let cuda = Cuda::new();
    let address = cuda.allocate(4);
    let host = cuda.pinned(4, 0);
    let ask = |attribute, pointer| {
        let mut value = 0_u64;
        (cuda.cuPointerGetAttribute((&raw mut value).cast(), attribute, pointer), value)
    };
    let mut context = 0;
    good(cuda.cuCtxGetCurrent(&mut context));
    assert_eq!([1, 2, 3, 11, 12].map(|a| ask(a, address + 4).1), [context, 2, address + 4, address, 16]);
    assert_eq!(
        (ask(2, host.place as u64), ask(3, host.place as u64).0),
        ((0, 1), INVALID_VALUE),
        "pinned, and no device memory"
    );
    let (mut local, mut kind, mut device) = (0_u32, 7_u32, 7_i32);
    assert_eq!(ask(2, (&raw mut local) as u64).0, INVALID_VALUE);
    let places = [(&raw mut kind).cast::<c_void>(), (&raw mut device).cast()];
    good(cuda.cuPointerGetAttributes(2, [2, 9].as_ptr(), places.as_ptr(), (&raw mut local) as u64));
    assert_eq!((kind, device), (0, -2));
    good(cuda.cuPointerGetAttributes(2, [2, 9].as_ptr(), places.as_ptr(), address));
    assert_eq!((kind, device), (2, 0));
}

#[test]
fn errors_have_texts() {
    let cuda = Cuda::bare();
    let mut texts = [std::ptr::null(); 2];
    good(cuda.cuGetErrorName(700, &mut texts[0]));
    good(cuda.cuGetErrorString(2, &mut texts[1]));
    // SAFETY: texts of the library that a zero ends.
    let texts = texts.map(|text| unsafe { CStr::from_ptr(text) });
    assert_eq!(texts[0], c"CUDA_ERROR_ILLEGAL_ADDRESS");
    assert!(!texts[1].is_empty());
    assert_eq!(cuda.cuGetErrorName(12345, &mut std::ptr::null()), INVALID_VALUE);
}
