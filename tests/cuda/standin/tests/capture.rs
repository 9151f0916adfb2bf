//! Captures: what goes to a graph, what is forbidden meanwhile, and replaying.

mod support;

use support::*;

#[test]
fn a_graph_replays_as_often_as_wanted() {
    let cuda = Cuda::new();
    let (stream, module) = (cuda.stream(), cuda.module());
    let (increment, double) = (cuda.function(module, "increment"), cuda.function(module, "double"));
    let address = cuda.upload(&[1; 4]);
    let graph = cuda.capture(stream, || {
        good(cuda.launch(increment, address, 4, stream));
        good(cuda.launch(double, address, 4, stream));
    });
    good(cuda.cuStreamSynchronize(stream));
    assert_eq!(cuda.download(address, 4), [1; 4], "capturing runs nothing");
    let mut nodes = 0;
    good(cuda.cuGraphGetNodes(graph, std::ptr::null_mut(), &mut nodes));
    assert_eq!(nodes, 2);
    let executable = cuda.instantiate(graph);
    good(cuda.cuGraphDestroy(graph));
    for _ in 0..3 {
        good(cuda.cuGraphLaunch(executable, stream));
    }
    assert_eq!(cuda.counters().kernels, 0);
    good(cuda.cuStreamSynchronize(stream));
    assert_eq!(cuda.download(address, 4), [22; 4]);
    assert_eq!((cuda.counters().launches, cuda.counters().kernels, cuda.counters().graph_launches), (2, 6, 3));
    // The parameters were taken at the capture; the data were not.
    good(cuda.cuMemsetD32Async(address, 0, 4, stream));
    good(cuda.cuGraphLaunch(executable, stream));
    good(cuda.cuStreamSynchronize(stream));
    assert_eq!(cuda.download(address, 4), [2; 4]);
    good(cuda.cuGraphExecDestroy(executable));
    assert_eq!(cuda.cuGraphLaunch(executable, stream), INVALID_HANDLE);
}

#[test]
fn other_streams_join_by_events_and_have_to_come_back() {
    for order in ["late", "reversed", "random:5"] {
        let cuda = Cuda::bare();
        cuda.set("STANDIN_ORDER", order);
        cuda.begin();
        let module = cuda.module();
        let (increment, double) = (cuda.function(module, "increment"), cuda.function(module, "double"));
        let (first, second) = (cuda.stream(), cuda.stream());
        let (fork, join) = (cuda.event(), cuda.event());
        let address = cuda.upload(&[1; 4]);
        let graph = cuda.capture(first, || {
            good(cuda.launch(increment, address, 4, first));
            good(cuda.cuEventRecord(fork, first));
            good(cuda.cuStreamWaitEvent(second, fork, 0));
            good(cuda.launch(double, address, 4, second));
            good(cuda.cuEventRecord(join, second));
            good(cuda.cuStreamWaitEvent(first, join, 0));
            good(cuda.launch(increment, address, 4, first));
        });
        let executable = cuda.instantiate(graph);
        good(cuda.cuGraphLaunch(executable, first));
        good(cuda.cuStreamSynchronize(first));
        assert_eq!(cuda.download(address, 4), [5; 4], "{order}");
        // Without the second event the work of the second stream is lost.
        good(cuda.cuStreamBeginCapture_v2(first, 0));
        good(cuda.cuEventRecord(fork, first));
        good(cuda.cuStreamWaitEvent(second, fork, 0));
        good(cuda.launch(double, address, 4, second));
        let mut graph = 1;
        assert_eq!(cuda.cuStreamEndCapture(first, &mut graph), 904);
        assert_eq!(graph, 0);
        // Afterwards both streams work as before.
        good(cuda.launch(increment, address, 4, second));
        good(cuda.cuStreamSynchronize(second));
        assert_eq!(cuda.download(address, 4), [6; 4]);
    }
}

#[test]
fn what_a_capture_forbids_invalidates_it() {
    type Call = fn(&Cuda, u64, u64, u64) -> i32;
    let calls: [(&str, Call); 14] = [
        ("cuMemAlloc", |cuda, _, _, _| cuda.cuMemAlloc_v2(&mut 0, 4)),
        ("cuMemAllocAsync", |cuda, stream, _, _| cuda.cuMemAllocAsync(&mut 0, 4, stream)),
        ("cuMemAllocAsync elsewhere", |cuda, _, other, _| cuda.cuMemAllocAsync(&mut 0, 4, other)),
        ("cuMemFree", |cuda, _, _, address| cuda.cuMemFree_v2(address)),
        ("cuMemHostAlloc", |cuda, _, _, _| cuda.cuMemHostAlloc(&mut std::ptr::null_mut(), 4, 0)),
        ("cuModuleLoadData", |cuda, _, _, _| cuda.cuModuleLoadData(&mut 0, text(PTX).as_ptr())),
        ("cuStreamCreate", |cuda, _, _, _| cuda.cuStreamCreate(&mut 0, 1)),
        ("cuStreamSynchronize", |cuda, stream, _, _| cuda.cuStreamSynchronize(stream)),
        ("cuStreamSynchronize elsewhere", |cuda, _, other, _| cuda.cuStreamSynchronize(other)),
        ("cuStreamQuery", |cuda, stream, _, _| cuda.cuStreamQuery(stream)),
        ("cuCtxSynchronize", |cuda, _, _, _| cuda.cuCtxSynchronize()),
        ("cuMemcpyHtoD", |cuda, _, _, address| cuda.cuMemcpyHtoD_v2(address, [0_u32].as_ptr().cast(), 4)),
        ("pageable in", |cuda, stream, _, address| {
            cuda.cuMemcpyHtoDAsync_v2(address, [0_u32].as_ptr().cast(), 4, stream)
        }),
        ("pageable out", |cuda, stream, _, address| {
            cuda.cuMemcpyDtoHAsync_v2([0_u32].as_mut_ptr().cast(), address, 4, stream)
        }),
    ];
    let cuda = Cuda::new();
    let (stream, other, kernel) = (cuda.stream(), cuda.stream(), cuda.kernel("increment"));
    let address = cuda.upload(&[0; 4]);
    let before = cuda.counters();
    for (index, (name, call)) in calls.iter().enumerate() {
        good(cuda.cuStreamBeginCapture_v2(stream, 0));
        good(cuda.launch(kernel, address, 4, stream));
        assert_eq!(call(&cuda, stream, other, address), CAPTURE_UNSUPPORTED, "{name}");
        let mut status = 0;
        good(cuda.cuStreamIsCapturing(stream, &mut status));
        assert_eq!(status, 2, "{name}");
        assert_eq!(cuda.launch(kernel, address, 4, stream), CAPTURE_INVALIDATED, "{name}");
        let mut graph = 7;
        assert_eq!(cuda.cuStreamEndCapture(stream, &mut graph), CAPTURE_INVALIDATED, "{name}");
        assert_eq!(graph, 0);
        good(cuda.cuStreamIsCapturing(stream, &mut status));
        assert_eq!((status, cuda.counters().capture_violations), (0, index as u64 + 1), "{name}");
    }
    let after = cuda.counters();
    let unchanged = |c: Counters| (c.live_allocations, c.live_pinned, c.live_modules, c.live_streams, c.kernels);
    assert_eq!(unchanged(before), unchanged(after), "nothing was done");
}

#[test]
fn modes_say_whom_a_capture_forbids_what() {
    let cuda = Cuda::new();
    let stream = cuda.stream();
    let mut context = 0;
    good(cuda.cuCtxGetCurrent(&mut context));
    let allocate = || cuda.cuMemAlloc_v2(&mut 0, 4);
    let allocate_elsewhere = |own_mode: u32| {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                good(cuda.cuCtxSetCurrent(context));
                good(cuda.cuThreadExchangeStreamCaptureMode(&mut own_mode.clone()));
                allocate()
            });
            thread.join().expect("a thread")
        })
    };
    // Mode, own mode of the other thread; what the capturing and the other thread's allocations answer.
    let cases = [(0, 0, 900, 900), (0, 1, 900, 0), (0, 2, 900, 0), (1, 0, 900, 0), (2, 0, 0, 0)];
    for (mode, own_mode, here, elsewhere) in cases {
        for (place, wanted) in [(0, here), (1, elsewhere)] {
            good(cuda.cuStreamBeginCapture_v2(stream, mode));
            let found = if place == 0 { allocate() } else { allocate_elsewhere(own_mode) };
            assert_eq!(found, wanted, "mode {mode}, own mode {own_mode}, place {place}");
            let mut graph = 0;
            let ended = cuda.cuStreamEndCapture(stream, &mut graph);
            assert_eq!(ended, if wanted == 0 { 0 } else { CAPTURE_INVALIDATED });
        }
    }
    // Waiting for the captured stream itself is wrong in any mode.
    good(cuda.cuStreamBeginCapture_v2(stream, 2));
    assert_eq!(cuda.cuStreamSynchronize(stream), CAPTURE_UNSUPPORTED);
}

#[test]
fn the_legacy_stream_neither_captures_nor_waits_for_a_capture() {
    let cuda = Cuda::new();
    let kernel = cuda.kernel("increment");
    let address = cuda.upload(&[0; 4]);
    assert_eq!(cuda.cuStreamBeginCapture_v2(0, 0), CAPTURE_UNSUPPORTED);
    let mut blocking = 0;
    good(cuda.cuStreamCreate(&mut blocking, 0));
    good(cuda.cuStreamBeginCapture_v2(blocking, 2));
    let mut status = 0;
    assert_eq!(cuda.cuStreamIsCapturing(0, &mut status), 906);
    good(cuda.cuStreamIsCapturing(blocking, &mut status));
    assert_eq!(status, 1, "asking invalidates nothing");
    assert_eq!(cuda.launch(kernel, address, 4, 0), 906);
    assert_eq!(cuda.cuStreamEndCapture(blocking, &mut 0), CAPTURE_INVALIDATED);
    // A non-blocking stream does not concern it.
    let stream = cuda.stream();
    good(cuda.cuStreamBeginCapture_v2(stream, 2));
    good(cuda.launch(kernel, address, 4, 0));
    good(cuda.cuStreamEndCapture(stream, &mut 0));
}

#[test]
fn events_inside_and_outside() {
    let cuda = Cuda::new();
    let (stream, other, inside, outside) = (cuda.stream(), cuda.stream(), cuda.event(), cuda.event());
    good(cuda.cuEventRecord(outside, other));
    good(cuda.cuStreamBeginCapture_v2(stream, 2));
    assert_eq!(cuda.cuStreamWaitEvent(stream, outside, 0), 905, "work outside the capture");
    assert_eq!(cuda.cuStreamEndCapture(stream, &mut 0), CAPTURE_INVALIDATED);
    good(cuda.cuStreamBeginCapture_v2(stream, 2));
    good(cuda.cuEventRecord(inside, stream));
    assert_eq!(cuda.cuEventQuery(inside), 907);
    assert_eq!(cuda.cuStreamEndCapture(stream, &mut 0), CAPTURE_INVALIDATED);
    assert_eq!(cuda.cuStreamWaitEvent(stream, inside, 0), 907, "its capture is over");
}

#[test]
fn a_capture_ends_where_it_began() {
    let cuda = Cuda::new();
    let (stream, other, event) = (cuda.stream(), cuda.stream(), cuda.event());
    let mut context = 0;
    good(cuda.cuCtxGetCurrent(&mut context));
    assert_eq!(cuda.cuStreamEndCapture(stream, &mut 0), 401, "none began");
    good(cuda.cuStreamBeginCapture_v2(stream, 0));
    assert_eq!(cuda.cuStreamBeginCapture_v2(stream, 0), 401);
    good(cuda.cuEventRecord(event, stream));
    good(cuda.cuStreamWaitEvent(other, event, 0));
    assert_eq!(cuda.cuStreamEndCapture(other, &mut 0), 903);
    assert_eq!(cuda.cuStreamEndCapture(stream, &mut 0), CAPTURE_INVALIDATED);
    good(cuda.cuStreamBeginCapture_v2(stream, 0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            good(cuda.cuCtxSetCurrent(context));
            assert_eq!(cuda.cuStreamEndCapture(stream, &mut 0), 908);
        });
    });
    assert_eq!(cuda.cuStreamEndCapture(stream, &mut 0), CAPTURE_INVALIDATED);
}

#[test]
fn pinned_memory_in_a_graph_is_read_at_each_launch() {
    let cuda = Cuda::new();
    let stream = cuda.stream();
    let host = cuda.pinned(4, 1);
    let address = cuda.upload(&[0; 4]);
    let graph = cuda.capture(stream, || good(cuda.cuMemcpyHtoDAsync_v2(address, host.place.cast(), 16, stream)));
    let executable = cuda.instantiate(graph);
    for value in [3, 4] {
        host.fill(value);
        good(cuda.cuGraphLaunch(executable, stream));
        good(cuda.cuStreamSynchronize(stream));
        assert_eq!(cuda.download(address, 4), [value; 4]);
    }
    good(cuda.cuMemFreeHost(host.place.cast()));
    good(cuda.cuGraphLaunch(executable, stream));
    assert_eq!(cuda.cuStreamSynchronize(stream), ILLEGAL_ADDRESS);
    assert!(cuda.last_fault().contains("not pinned any more"), "{}", cuda.last_fault());
}

#[test]
fn a_graph_within_a_graph() {
    for order in ["late", "reversed", "random:2"] {
        let cuda = Cuda::bare();
        cuda.set("STANDIN_ORDER", order);
        cuda.begin();
        let (stream, module) = (cuda.stream(), cuda.module());
        let (increment, double) = (cuda.function(module, "increment"), cuda.function(module, "double"));
        let address = cuda.upload(&[1; 4]);
        let inner = cuda.instantiate(cuda.capture(stream, || good(cuda.launch(double, address, 4, stream))));
        let outer = cuda.instantiate(cuda.capture(stream, || {
            good(cuda.launch(increment, address, 4, stream));
            good(cuda.cuGraphLaunch(inner, stream));
            good(cuda.launch(increment, address, 4, stream));
            good(cuda.cuGraphLaunch(inner, stream));
        }));
        good(cuda.cuGraphLaunch(outer, stream));
        good(cuda.cuStreamSynchronize(stream));
        assert_eq!(cuda.download(address, 4), [10; 4], "{order}");
    }
}

#[test]
fn a_graph_outlives_no_module() {
    let cuda = Cuda::new();
    let (stream, module) = (cuda.stream(), cuda.module());
    let kernel = cuda.function(module, "increment");
    let address = cuda.upload(&[0; 4]);
    let executable = cuda.instantiate(cuda.capture(stream, || good(cuda.launch(kernel, address, 4, stream))));
    good(cuda.cuModuleUnload(module));
    assert_eq!(cuda.cuGraphLaunch(executable, stream), INVALID_HANDLE);
}
