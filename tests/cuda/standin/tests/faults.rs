//! Kernels at fault, and calls that fail on purpose.

mod support;

use support::*;

#[test]
fn a_fault_stays_with_its_context() {
    // A kernel, the words of its memory, its count, the answer and a part of the sentence.
    let cases = [("increment", 4, 5, ILLEGAL_ADDRESS, "outside"), ("stop", 4, 4, LAUNCH_FAILED, "trap")];
    for (name, words, count, code, sentence) in cases {
        let cuda = Cuda::new();
        let (stream, event, module) = (cuda.stream(), cuda.event(), cuda.module());
        let (bad, fine) = (cuda.function(module, name), cuda.function(module, "double"));
        let address = cuda.upload(&vec![1; words]);
        let host = cuda.pinned(words, 9);
        let mut pooled = 0;
        good(cuda.cuMemAllocAsync(&mut pooled, 4, stream));
        good(cuda.launch(bad, address, count, stream));
        good(cuda.launch(fine, address, 4, stream));
        good(cuda.cuMemcpyDtoHAsync_v2(host.place.cast(), address, 4 * words, stream));
        good(cuda.cuEventRecord(event, stream));
        assert_eq!(cuda.cuStreamSynchronize(stream), code, "{name}");
        assert_eq!(host.words(), vec![9; words], "what was queued never runs");
        assert!(cuda.last_fault().contains(name) && cuda.last_fault().contains(sentence), "{}", cuda.last_fault());
        assert_eq!((cuda.counters().faults, cuda.counters().kernels, cuda.counters().pending), (1, 1, 0));
        // Every later call answers the same.
        assert_eq!(cuda.cuStreamSynchronize(stream), code);
        assert_eq!(cuda.cuCtxSynchronize(), code);
        assert_eq!(cuda.cuEventQuery(event), code);
        assert_eq!(cuda.cuMemAlloc_v2(&mut 0, 4), code);
        assert_eq!(cuda.launch(fine, address, 4, stream), code);
        assert_eq!(cuda.cuMemcpyDtoH_v2(host.place.cast(), address, 4), code);
        assert_eq!(cuda.cuModuleLoadData(&mut 0, text(PTX).as_ptr()), code);
        // Frees answer it too, and free.
        assert_eq!(cuda.cuMemFree_v2(address), code);
        assert_eq!(cuda.cuMemFreeAsync(pooled, stream), code);
        assert_eq!(cuda.cuMemFreeHost(host.place.cast()), code);
        assert_eq!(cuda.cuStreamDestroy_v2(stream), code);
        assert_eq!(cuda.cuEventDestroy_v2(event), code);
        assert_eq!(cuda.cuModuleUnload(module), code);
        let left = cuda.counters();
        assert_eq!(
            (left.live_allocations, left.live_pinned, left.live_streams, left.live_events, left.live_modules),
            (0, 0, 0, 0, 0)
        );
        // Another device does not mind, and a context that is retained afresh is well.
        let mut other = 0;
        good(cuda.cuDevicePrimaryCtxRetain(&mut other, 1));
        good(cuda.cuCtxPushCurrent_v2(other));
        assert_eq!(cuda.download(cuda.upload(&[5]), 1), [5]);
        good(cuda.cuCtxPopCurrent_v2(&mut 0));
        good(cuda.cuDevicePrimaryCtxRelease_v2(0));
        good(cuda.cuDevicePrimaryCtxRetain(&mut 0, 0));
        assert_eq!(cuda.download(cuda.upload(&[5]), 1), [5]);
    }
}

#[test]
fn memory_of_another_device_is_no_memory_to_a_kernel() {
    let cuda = Cuda::new();
    let kernel = cuda.kernel("increment");
    let mut other = 0;
    good(cuda.cuDevicePrimaryCtxRetain(&mut other, 1));
    good(cuda.cuCtxPushCurrent_v2(other));
    let foreign = cuda.upload(&[1; 4]);
    good(cuda.cuCtxPopCurrent_v2(&mut 0));
    // A copy reaches it, by its address.
    let own = cuda.upload(&[2; 4]);
    good(cuda.cuMemcpyDtoDAsync_v2(foreign, own, 8, 0));
    assert_eq!(cuda.download(foreign, 4), [2, 2, 1, 1]);
    good(cuda.launch(kernel, foreign, 4, 0));
    assert_eq!(cuda.cuStreamSynchronize(0), ILLEGAL_ADDRESS);
}

#[test]
fn waiting_for_an_event_of_a_failed_context_tells_so() {
    let waits: [fn(&Cuda, Handle) -> i32; 2] = [Cuda::cuEventSynchronize, Cuda::cuEventQuery];
    for wait in waits {
        let cuda = Cuda::new();
        let (stream, event) = (cuda.stream(), cuda.event());
        let address = cuda.upload(&[1]);
        good(cuda.launch(cuda.kernel("stop"), address, 1, stream));
        good(cuda.cuEventRecord(event, stream));
        let mut other = 0;
        good(cuda.cuDevicePrimaryCtxRetain(&mut other, 1));
        good(cuda.cuCtxPushCurrent_v2(other));
        assert_eq!([wait(&cuda, event), wait(&cuda, event)], [LAUNCH_FAILED; 2]);
        good(cuda.cuCtxSynchronize());
    }
}

#[test]
fn freed_memory_is_no_memory() {
    let cuda = Cuda::new();
    let kernel = cuda.kernel("increment");
    let address = cuda.upload(&[1; 4]);
    good(cuda.cuMemFree_v2(address));
    assert_eq!(cuda.cuMemFree_v2(address), INVALID_VALUE);
    assert_eq!(cuda.cuMemsetD8Async(address, 0, 1, 0), INVALID_VALUE);
    good(cuda.launch(kernel, address, 4, 0));
    assert_eq!(cuda.cuStreamSynchronize(0), ILLEGAL_ADDRESS);
    assert!(cuda.last_fault().contains("freed"), "{}", cuda.last_fault());
}

#[test]
fn calls_fail_on_purpose() {
    let cuda = Cuda::bare();
    cuda.set("STANDIN_FAIL", "cuMemAlloc_v2:2:2,cuEventCreate:0:999");
    cuda.begin();
    assert_eq!(cuda.cuMemAlloc_v2(&mut 0, 4), 0);
    assert_eq!(cuda.cuMemAlloc_v2(&mut 0, 4), OUT_OF_MEMORY);
    assert_eq!(cuda.cuMemAlloc_v2(&mut 0, 4), 0);
    assert_eq!([0; 2].map(|_| cuda.cuEventCreate(&mut 0, 0)), [999; 2]);
    assert_eq!(cuda.counters().live_allocations, 2, "the call did nothing");
    // Counting begins with the rule.
    cuda.fail("cuMemAlloc_v2", 1, 3);
    assert_eq!([0; 2].map(|_| cuda.cuMemAlloc_v2(&mut 0, 4)), [3, 0]);
    for rules in ["cuInit", "cuInit:1", "cuInit:x:1", "cuInit:1:2:3"] {
        assert_eq!(cuda.standin_set(text("STANDIN_FAIL").as_ptr(), text(rules).as_ptr()), 1, "{rules}");
    }
    good(cuda.cuInit(0));
    // An error that sticks does so on purpose too.
    cuda.fail("cuStreamSynchronize", 1, LAUNCH_FAILED);
    assert_eq!([0; 2].map(|_| cuda.cuStreamSynchronize(0)), [LAUNCH_FAILED; 2]);
    assert_eq!(cuda.cuMemAlloc_v2(&mut 0, 4), LAUNCH_FAILED);
    assert!(cuda.last_fault().contains("cuStreamSynchronize"));
}

#[test]
fn the_report_tells_faults_and_leaks_at_exit() {
    let folder = Folder::new();
    let report = folder.0.join("report");
    // This test again, in a process that exits.
    if std::env::var_os("STANDIN_LEAKS").is_some() {
        let cuda = Cuda::new();
        let address = cuda.allocate(1);
        good(cuda.launch(cuda.kernel("stop"), address, 1, 0));
        assert_eq!(cuda.cuStreamSynchronize(0), LAUNCH_FAILED);
        // Unloading the library would take it away before the exit.
        std::mem::forget(cuda);
        return;
    }
    let mut again = std::process::Command::new(std::env::current_exe().expect("this test"));
    again.arg("the_report_tells_faults_and_leaks_at_exit").env("STANDIN_LEAKS", "1").env("STANDIN_REPORT", &report);
    let output = again.output().expect("a process");
    assert!(output.status.success(), "{output:?}");
    let report = std::fs::read_to_string(&report).expect("a report");
    let lines: Vec<_> = report.lines().collect();
    assert_eq!(lines.len(), 2, "{report}");
    assert!(lines[0].starts_with("fault: stop: ") && lines[0].contains("trap"), "{report}");
    assert!(lines[1].starts_with("exit: Counters { live_allocations: 1, live_bytes: 4,"), "{report}");
    assert!(lines[1].contains("first fault: \"stop: "), "{report}");
}
