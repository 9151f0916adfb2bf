//! Contexts: what is current, who retains what, and what goes with a context.

mod support;

use support::*;

#[test]
fn nothing_works_before_init_or_without_a_context() {
    let cuda = Cuda::bare();
    let mut context = 0;
    assert_eq!(cuda.cuDevicePrimaryCtxRetain(&mut context, 0), 3);
    assert_eq!(cuda.cuMemAlloc_v2(&mut 0, 4), 3);
    assert_eq!(cuda.cuDriverGetVersion(&mut 0), 0, "the version is always known");
    good(cuda.cuInit(0));
    assert_eq!(cuda.cuInit(1), INVALID_VALUE);
    good(cuda.cuDevicePrimaryCtxRetain(&mut context, 0));
    assert_eq!(cuda.cuMemAlloc_v2(&mut 0, 4), INVALID_CONTEXT);
    assert_eq!(cuda.cuCtxSynchronize(), INVALID_CONTEXT);
    assert_eq!(cuda.cuStreamCreate(&mut 0, 1), INVALID_CONTEXT);
    assert_eq!(cuda.cuCtxPopCurrent_v2(&mut 0), INVALID_CONTEXT);
    assert_eq!(cuda.cuCtxSetCurrent(context + 1), INVALID_CONTEXT);
    assert_eq!(cuda.cuCtxPushCurrent_v2(0), INVALID_CONTEXT);
}

#[test]
fn each_thread_has_a_stack() {
    let cuda = Cuda::bare();
    good(cuda.cuInit(0));
    let (mut first, mut second, mut found) = (0, 0, 0);
    good(cuda.cuDevicePrimaryCtxRetain(&mut first, 0));
    good(cuda.cuDevicePrimaryCtxRetain(&mut second, 1));
    assert_ne!(first, second);
    good(cuda.cuCtxGetCurrent(&mut found));
    assert_eq!(found, 0);
    good(cuda.cuCtxPushCurrent_v2(first));
    good(cuda.cuCtxPushCurrent_v2(second));
    let mut device = -1;
    good(cuda.cuCtxGetDevice(&mut device));
    assert_eq!((device, cuda.counters().depth), (1, 2));
    std::thread::scope(|scope| {
        scope.spawn(|| assert_eq!((cuda.counters().depth, cuda.cuMemAlloc_v2(&mut 0, 4)), (0, INVALID_CONTEXT)));
    });
    good(cuda.cuCtxPopCurrent_v2(&mut found));
    assert_eq!(found, second);
    good(cuda.cuCtxGetDevice(&mut device));
    assert_eq!(device, 0);
    // Setting replaces the top; setting none pops it.
    good(cuda.cuCtxSetCurrent(second));
    assert_eq!(cuda.counters().depth, 1);
    good(cuda.cuCtxSetCurrent(0));
    assert_eq!(cuda.counters().depth, 0);
}

#[test]
fn a_primary_context_lives_while_it_is_retained() {
    let cuda = Cuda::new();
    let (mut context, mut again, mut flags, mut active) = (0, 0, 0, 0);
    good(cuda.cuCtxGetCurrent(&mut context));
    good(cuda.cuDevicePrimaryCtxRetain(&mut again, 0));
    assert_eq!((context, cuda.counters().live_contexts), (again, 2));
    let address = cuda.upload(&[1]);
    good(cuda.cuDevicePrimaryCtxRelease_v2(0));
    assert_eq!(cuda.download(address, 1), [1]);
    good(cuda.launch(cuda.kernel("increment"), address, 1, 0));
    assert_eq!((cuda.counters().pending, cuda.counters().kernels), (1, 0));
    good(cuda.cuDevicePrimaryCtxRelease_v2(0));
    assert_eq!((cuda.counters().pending, cuda.counters().kernels), (0, 1), "what was queued runs first");
    good(cuda.cuDevicePrimaryCtxGetState(0, &mut flags, &mut active));
    assert_eq!((active, cuda.counters().live_contexts, cuda.counters().live_allocations), (0, 0, 0));
    assert_eq!(cuda.cuMemAlloc_v2(&mut 0, 4), 709, "the current context is gone");
    assert_eq!(cuda.cuDevicePrimaryCtxRelease_v2(0), INVALID_CONTEXT);
    good(cuda.cuDevicePrimaryCtxRetain(&mut again, 0));
    assert_eq!(context, again);
    assert_eq!(cuda.cuMemFree_v2(address), INVALID_VALUE, "its memory went with it");
}

#[test]
fn created_contexts_are_apart_from_the_primary() {
    let cuda = Cuda::new();
    let (mut primary, mut own, mut found) = (0, 0, 0);
    good(cuda.cuCtxGetCurrent(&mut primary));
    let stream = cuda.stream();
    let kernel = cuda.kernel("increment");
    let address = cuda.upload(&[1]);
    good(cuda.cuCtxCreate_v2(&mut own, 0, 0));
    good(cuda.cuCtxGetCurrent(&mut found));
    assert_eq!((own, 2), (found, cuda.counters().depth));
    assert_eq!(cuda.cuStreamSynchronize(stream), INVALID_HANDLE, "a stream of the other context");
    assert_eq!(cuda.launch(kernel, address, 1, 0), INVALID_HANDLE, "a function of the other context");
    good(cuda.cuCtxDestroy_v2(own));
    good(cuda.cuCtxGetCurrent(&mut found));
    assert_eq!(found, primary);
    assert_eq!(cuda.cuCtxDestroy_v2(primary), INVALID_CONTEXT, "a primary context is released instead");
    assert_eq!(cuda.cuCtxSetCurrent(own), INVALID_CONTEXT);
}

#[test]
fn what_is_left_behind_is_counted() {
    let cuda = Cuda::new();
    let clean = cuda.counters();
    let (address, stream, event, host) = (cuda.allocate(1), cuda.stream(), cuda.event(), cuda.pinned(1, 0));
    let module = cuda.module();
    let full = cuda.counters();
    let live =
        |c: Counters| (c.live_allocations, c.live_bytes, c.live_pinned, c.live_modules, c.live_streams, c.live_events);
    assert_eq!(live(full), (1, 4, 1, 1, 1, 1));
    good(cuda.cuMemFree_v2(address));
    good(cuda.cuStreamDestroy_v2(stream));
    good(cuda.cuEventDestroy_v2(event));
    good(cuda.cuMemFreeHost(host.place.cast()));
    good(cuda.cuModuleUnload(module));
    assert_eq!(live(cuda.counters()), live(clean));
    // The same objects again, and nobody frees them.
    let _left = (cuda.allocate(1), cuda.stream(), cuda.event(), cuda.pinned(1, 0));
    cuda.module();
    good(cuda.cuDevicePrimaryCtxRelease_v2(0));
    assert_eq!((live(cuda.counters()), cuda.counters().abandoned), (live(clean), 5));
}

#[test]
fn a_reset_forgets_everything() {
    let cuda = Cuda::new();
    let (address, stream) = (cuda.allocate(1), cuda.stream());
    cuda.fail("cuInit", 1, 999);
    cuda.standin_reset();
    assert_eq!(cuda.counters(), Counters::default());
    assert_eq!(cuda.cuMemFree_v2(address), INVALID_VALUE);
    cuda.begin();
    assert_eq!(cuda.cuStreamSynchronize(stream), INVALID_HANDLE, "a handle from before");
    let (mut free, mut total) = (0, 0);
    good(cuda.cuMemGetInfo_v2(&mut free, &mut total));
    assert_eq!((free, total), (2 << 30, 2 << 30));
}
