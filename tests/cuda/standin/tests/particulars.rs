//! Calls that hosts make now and then.

mod support;

use std::ffi::{CStr, c_void};
use std::ptr::null;
use support::*;

#[test]
fn devices_have_names() {
    let cuda = Cuda::bare();
    good(cuda.cuInit(0));
    let mut name = [1; 9];
    good(cuda.cuDeviceGetName(name.as_mut_ptr(), 9, 1));
    // SAFETY: a text that a zero ends.
    assert_eq!(unsafe { CStr::from_ptr(name.as_ptr()) }, c"Stand-in", "as much as fits");
    assert_eq!(cuda.cuDeviceGetName(name.as_mut_ptr(), 0, 1), INVALID_VALUE);
    let mut uuids = [[0; 16]; 2];
    good(cuda.cuDeviceGetUuid_v2(&mut uuids[0], 0));
    good(cuda.cuDeviceGetUuid_v2(&mut uuids[1], 1));
    assert_ne!(uuids[0], uuids[1]);
    let mut bytes = 0;
    good(cuda.cuDeviceTotalMem_v2(&mut bytes, 0));
    assert_eq!(bytes, 2 << 30);
}

#[test]
fn contexts_have_flags_and_limits() {
    let cuda = Cuda::bare();
    good(cuda.cuInit(0));
    good(cuda.cuDevicePrimaryCtxSetFlags_v2(0, 4));
    cuda.begin();
    let (mut flags, mut stack) = (0, 0);
    good(cuda.cuCtxGetFlags(&mut flags));
    assert_eq!(flags, 4);
    good(cuda.cuCtxSetLimit(0, 4096));
    good(cuda.cuCtxGetLimit(&mut stack, 0));
    assert_eq!((stack, cuda.cuCtxGetLimit(&mut stack, 77)), (4096, 215));
}

#[test]
fn streams_tell_of_themselves() {
    let cuda = Cuda::new();
    let (mut stream, mut priority, mut context, mut own) = (0, 0, 0, 0);
    good(cuda.cuStreamCreateWithPriority(&mut stream, 1, -100));
    good(cuda.cuStreamGetPriority(stream, &mut priority));
    assert_eq!(priority, -5, "the greatest there is");
    good(cuda.cuStreamGetCtx(0, &mut context));
    good(cuda.cuCtxGetCurrent(&mut own));
    assert_eq!(context, own);
    assert_eq!(cuda.cuStreamCreate(&mut stream, 2), INVALID_VALUE);
    let (mut status, mut first, mut second) = (9, 0, 0);
    good(cuda.cuStreamBeginCapture_v2(stream, 1));
    good(cuda.cuStreamGetCaptureInfo(stream, &mut status, &mut first));
    assert_eq!(status, 1);
    good(cuda.cuStreamEndCapture(stream, &mut 0));
    good(cuda.cuStreamBeginCapture_v2(stream, 1));
    good(cuda.cuStreamGetCaptureInfo(stream, &mut status, &mut second));
    assert_ne!(first, second, "each capture has a number of its own");
}

#[test]
fn per_thread_streams_are_apart() {
    let cuda = Cuda::new();
    let mut context = 0;
    good(cuda.cuCtxGetCurrent(&mut context));
    let kernel = cuda.kernel("increment");
    let (a, b) = (cuda.upload(&[0]), cuda.upload(&[0]));
    good(cuda.launch(kernel, a, 1, 2));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            good(cuda.cuCtxSetCurrent(context));
            good(cuda.launch(kernel, b, 1, 2));
            good(cuda.cuStreamSynchronize(2));
            assert_eq!(cuda.counters().kernels, 1, "only this thread's");
        });
    });
    good(cuda.cuStreamSynchronize(2));
    assert_eq!((cuda.counters().kernels, cuda.counters().live_streams), (2, 0));
}

#[test]
fn registered_host_memory_is_pinned() {
    let cuda = Cuda::new();
    let stream = cuda.stream();
    let mut memory = vec![1_u32; 1024];
    let place = memory.as_mut_ptr().cast::<c_void>();
    let address = cuda.allocate(1024);
    good(cuda.cuMemHostRegister_v2(place, 4096, 0));
    assert_eq!(cuda.cuMemHostRegister_v2(place, 4, 0), 712);
    assert_eq!(cuda.cuMemHostGetDevicePointer_v2(&mut 0, place, 0), 801, "kernels see no host memory");
    good(cuda.cuMemcpyHtoDAsync_v2(address, place, 4096, stream));
    // SAFETY: the test's own memory, which the queued copy reads later.
    unsafe { place.cast::<u32>().write_volatile(2) };
    assert_eq!(cuda.cuMemFreeHost(place), INVALID_VALUE, "not allocated there");
    good(cuda.cuMemHostUnregister(place));
    assert_eq!(cuda.download(address, 2), [2, 1], "read before it went");
    assert_eq!(cuda.cuMemHostUnregister(place), 713);
}

#[test]
fn ranges_and_peers() {
    let cuda = Cuda::new();
    let (mut own, mut other, mut base, mut bytes) = (0, 0, 0, 0);
    good(cuda.cuCtxGetCurrent(&mut own));
    let here = cuda.upload(&[7; 4]);
    good(cuda.cuMemGetAddressRange_v2(&mut base, &mut bytes, here + 5));
    assert_eq!((base, bytes), (here, 16));
    assert_eq!(cuda.cuMemGetAddressRange_v2(&mut base, &mut bytes, 4096), NOT_FOUND);
    good(cuda.cuDevicePrimaryCtxRetain(&mut other, 1));
    good(cuda.cuCtxPushCurrent_v2(other));
    let there = cuda.upload(&[0; 4]);
    assert_eq!(cuda.cuMemcpyPeerAsync(there, own, here, own, 16, 0), INVALID_VALUE, "the wrong context");
    good(cuda.cuMemcpyPeerAsync(there, other, here, own, 16, 0));
    assert_eq!(cuda.download(there, 4), [7; 4]);
}

#[test]
fn launches_with_a_configuration() {
    let cuda = Cuda::new();
    let (stream, module) = (cuda.stream(), cuda.module());
    let kernel = cuda.function(module, "increment");
    let mut found = 0;
    good(cuda.cuFuncGetModule(&mut found, kernel));
    assert_eq!(found, module);
    let (address, count) = (cuda.upload(&[0; 4]), 4_u32);
    let parameters = [(&raw const address).cast::<c_void>(), (&raw const count).cast()];
    let launch = |attributes: &[Attribute]| {
        let configuration = Configuration {
            grid: [1; 3],
            block: [32, 1, 1],
            shared: 0,
            stream,
            attributes: attributes.as_ptr(),
            count: attributes.len() as u32,
        };
        cuda.cuLaunchKernelEx(&configuration, kernel, parameters.as_ptr(), null())
    };
    good(launch(&[]));
    good(launch(&[Attribute { id: 8, ..Attribute::default() }]));
    let cooperative = Attribute { id: 2, value: [1; 8], ..Attribute::default() };
    assert_eq!(launch(&[Attribute::default(), cooperative]), 801);
    good(cuda.cuStreamSynchronize(stream));
    assert_eq!(cuda.download(address, 4), [2; 4]);
}

#[test]
fn the_log_tells_what_is_wrong_with_ptx() {
    let cuda = Cuda::new();
    let mut log = [1_u8; 200];
    let values = [log.as_mut_ptr() as usize, log.len()];
    let load =
        |source: &str| cuda.cuModuleLoadDataEx(&mut 0, text(source).as_ptr(), 2, [5, 6].as_ptr(), values.as_ptr());
    assert_eq!(load(&PTX.replace("add.s32", "nonsense.s32")), 218);
    let told = CStr::from_bytes_until_nul(&log).expect("a text").to_string_lossy().into_owned();
    assert!(told.contains("nonsense"), "{told}");
    good(load(PTX));
    assert_eq!(std::hint::black_box(&log)[0], 0, "nothing to tell");
}
