//! Work runs late, in an order that the streams and events allow, and host memory is read and written when it may be.

mod support;

use std::ffi::c_void;
use support::*;

const ORDERS: [&str; 6] = ["late", "queued", "reversed", "random:1", "random:2", "immediate"];

fn in_order(order: &str) -> Cuda {
    let cuda = Cuda::bare();
    cuda.set("STANDIN_ORDER", order);
    cuda.begin();
    cuda
}

#[test]
fn work_waits_for_a_synchronization() {
    let cuda = Cuda::new();
    let (stream, kernel) = (cuda.stream(), cuda.kernel("increment"));
    let address = cuda.upload(&[7; 4]);
    let host = cuda.pinned(4, 99);
    good(cuda.launch(kernel, address, 4, stream));
    good(cuda.cuMemcpyDtoHAsync_v2(host.place.cast(), address, 16, stream));
    assert_eq!(host.words(), [99; 4]);
    assert_eq!((cuda.counters().pending, cuda.counters().launches, cuda.counters().kernels), (2, 1, 0));
    good(cuda.cuStreamSynchronize(stream));
    assert_eq!(host.words(), [8; 4]);
    assert_eq!((cuda.counters().pending, cuda.counters().kernels), (0, 1));
}

#[test]
fn a_blocking_copy_does_not_wait_for_a_non_blocking_stream() {
    let cuda = Cuda::new();
    let (stream, kernel) = (cuda.stream(), cuda.kernel("increment"));
    let address = cuda.upload(&[7; 4]);
    good(cuda.launch(kernel, address, 4, stream));
    assert_eq!(cuda.download(address, 4), [7; 4], "the host forgot to wait and reads old bytes");
    good(cuda.cuStreamSynchronize(stream));
    assert_eq!(cuda.download(address, 4), [8; 4]);
}

#[test]
fn the_legacy_stream_orders_with_blocking_streams() {
    for order in ORDERS {
        let cuda = in_order(order);
        let mut blocking = [0; 2];
        for stream in &mut blocking {
            good(cuda.cuStreamCreate(stream, 0));
        }
        let module = cuda.module();
        let (increment, double) = (cuda.function(module, "increment"), cuda.function(module, "double"));
        let address = cuda.upload(&[3; 4]);
        good(cuda.launch(increment, address, 4, blocking[0]));
        good(cuda.launch(double, address, 4, 0));
        good(cuda.launch(increment, address, 4, blocking[1]));
        assert_eq!(cuda.download(address, 4), [9; 4], "{order}");
    }
}

#[test]
fn synchronizing_with_the_legacy_stream_waits_for_its_own_work() {
    let cuda = Cuda::new();
    let (mut blocking, kernel) = (0, cuda.kernel("increment"));
    good(cuda.cuStreamCreate(&mut blocking, 0));
    let address = cuda.upload(&[3; 4]);
    let host = cuda.pinned(4, 9);
    good(cuda.launch(kernel, address, 4, blocking));
    good(cuda.cuMemcpyDtoHAsync_v2(host.place.cast(), address, 16, blocking));
    good(cuda.cuStreamSynchronize(0));
    assert_eq!(host.words(), [9; 4]);
    // Work of its own comes after that of the blocking stream.
    good(cuda.cuEventRecord(cuda.event(), 0));
    good(cuda.cuStreamSynchronize(0));
    assert_eq!(host.words(), [4; 4]);
}

#[test]
fn streams_without_an_event_run_in_any_order_and_with_one_in_order() {
    let mut seen = Vec::new();
    for order in ORDERS {
        for ordered in [false, true] {
            let cuda = in_order(order);
            let module = cuda.module();
            let (increment, double) = (cuda.function(module, "increment"), cuda.function(module, "double"));
            let (first, second, event) = (cuda.stream(), cuda.stream(), cuda.event());
            let address = cuda.upload(&[3; 4]);
            good(cuda.launch(increment, address, 4, first));
            good(cuda.cuEventRecord(event, first));
            if ordered {
                good(cuda.cuStreamWaitEvent(second, event, 0));
            }
            good(cuda.launch(double, address, 4, second));
            good(cuda.cuStreamSynchronize(second));
            let early = cuda.download(address, 1)[0];
            good(cuda.cuCtxSynchronize());
            let found = cuda.download(address, 4);
            match ordered {
                true => assert_eq!((early, found), (8, vec![8; 4]), "{order}"),
                false => {
                    assert!(found == [8; 4] || found == [7; 4], "{order}: {found:?}");
                    seen.push((order, early, found[0]));
                }
            }
        }
    }
    let of = |order| seen.iter().find(|(name, ..)| *name == order).map(|(_, early, last)| (*early, *last));
    assert_eq!(of("late"), Some((6, 7)), "only what the awaited stream needs has run");
    assert_eq!(of("queued"), Some((8, 8)));
    assert_eq!(of("reversed").map(|(_, last)| last), Some(7));
    assert_eq!(of("immediate"), Some((8, 8)));
}

#[test]
fn an_event_that_is_recorded_again_leaves_earlier_waits_alone() {
    let cuda = Cuda::new();
    let kernel = cuda.kernel("increment");
    let (first, second, event) = (cuda.stream(), cuda.stream(), cuda.event());
    let (a, b) = (cuda.upload(&[0; 4]), cuda.upload(&[0; 4]));
    good(cuda.launch(kernel, a, 4, first));
    good(cuda.cuEventRecord(event, first));
    good(cuda.cuStreamWaitEvent(second, event, 0));
    good(cuda.launch(kernel, b, 4, first));
    good(cuda.cuEventRecord(event, first));
    good(cuda.cuStreamSynchronize(second));
    assert_eq!((cuda.download(a, 1), cuda.download(b, 1)), (vec![1], vec![0]));
    good(cuda.cuEventSynchronize(event));
    assert_eq!(cuda.download(b, 1), [1]);
}

#[test]
fn a_host_that_polls_comes_to_an_end() {
    let cuda = Cuda::new();
    let (stream, event, kernel) = (cuda.stream(), cuda.event(), cuda.kernel("increment"));
    assert_eq!(cuda.cuEventQuery(event), 0, "an event that was never recorded is complete");
    let address = cuda.upload(&[0; 4]);
    for _ in 0..3 {
        good(cuda.launch(kernel, address, 4, stream));
    }
    good(cuda.cuEventRecord(event, stream));
    let mut polls = 0;
    while cuda.cuEventQuery(event) == NOT_READY {
        polls += 1;
    }
    assert_eq!(polls, 4);
    assert_eq!(cuda.cuStreamQuery(stream), 0);
    good(cuda.launch(kernel, address, 4, stream));
    assert_eq!(cuda.cuStreamQuery(stream), NOT_READY);
    assert_eq!(cuda.cuStreamQuery(stream), 0);
    assert_eq!(cuda.download(address, 4), [4; 4]);
}

#[test]
fn times_of_events() {
    let cuda = Cuda::new();
    let (stream, start, end) = (cuda.stream(), cuda.event(), cuda.event());
    let mut milliseconds = -1.0;
    assert_eq!(cuda.cuEventElapsedTime(&mut milliseconds, start, end), INVALID_HANDLE, "never recorded");
    good(cuda.cuEventRecord(start, stream));
    good(cuda.cuEventRecord(end, stream));
    assert_eq!(cuda.cuEventElapsedTime(&mut milliseconds, start, end), NOT_READY);
    good(cuda.cuEventSynchronize(end));
    good(cuda.cuEventElapsedTime(&mut milliseconds, start, end));
    assert!(milliseconds >= 0.0);
    // A record that a later one replaced changes nothing when its turn comes.
    let (other, mut before, mut after) = (cuda.stream(), 0.0, 0.0);
    good(cuda.cuEventRecord(start, stream));
    good(cuda.cuEventRecord(start, other));
    good(cuda.cuStreamSynchronize(other));
    good(cuda.cuEventElapsedTime(&mut before, start, end));
    std::thread::sleep(std::time::Duration::from_millis(2));
    good(cuda.cuStreamSynchronize(stream));
    good(cuda.cuEventElapsedTime(&mut after, start, end));
    assert_eq!(before, after);
    let mut untimed = 0;
    good(cuda.cuEventCreate(&mut untimed, 2));
    good(cuda.cuEventRecord(untimed, stream));
    good(cuda.cuEventSynchronize(untimed));
    assert_eq!(cuda.cuEventElapsedTime(&mut milliseconds, start, untimed), INVALID_HANDLE);
}

#[test]
fn pageable_memory_is_read_at_the_call_and_pinned_memory_when_the_work_runs() {
    let cuda = Cuda::new();
    let stream = cuda.stream();
    let (a, b) = (cuda.allocate(4), cuda.allocate(4));
    let mut pageable = vec![1_u32; 4];
    let pinned = cuda.pinned(4, 1);
    good(cuda.cuMemcpyHtoDAsync_v2(a, pageable.as_ptr().cast(), 16, stream));
    good(cuda.cuMemcpyHtoDAsync_v2(b, pinned.place.cast(), 16, stream));
    pageable.fill(2);
    pinned.fill(2);
    good(cuda.cuStreamSynchronize(stream));
    assert_eq!((cuda.download(a, 4), cuda.download(b, 4)), (vec![1; 4], vec![2; 4]));
    // A copy into pageable memory makes the call wait.
    let waits = cuda.counters().waits;
    good(cuda.cuMemsetD32Async(a, 5, 4, stream));
    good(cuda.cuMemcpyDtoHAsync_v2(pageable.as_mut_ptr().cast::<c_void>(), a, 16, stream));
    assert_eq!(std::hint::black_box(&pageable), &[5; 4]);
    assert_eq!(cuda.counters().waits, waits + 1);
}

#[test]
fn destroying_a_stream_does_not_wait_but_freeing_memory_does() {
    let cuda = Cuda::new();
    let (stream, kernel) = (cuda.stream(), cuda.kernel("increment"));
    let address = cuda.upload(&[0; 4]);
    let host = cuda.pinned(4, 9);
    good(cuda.launch(kernel, address, 4, stream));
    good(cuda.cuMemcpyDtoHAsync_v2(host.place.cast(), address, 16, stream));
    good(cuda.cuStreamDestroy_v2(stream));
    assert_eq!(host.words(), [9; 4]);
    good(cuda.cuMemFree_v2(address));
    assert_eq!(host.words(), [1; 4]);
    assert_eq!(cuda.cuStreamSynchronize(stream), INVALID_HANDLE);
    // So does freeing pinned memory, which a queued copy may use.
    let (stream, address) = (cuda.stream(), cuda.upload(&[0; 4]));
    good(cuda.cuMemcpyHtoDAsync_v2(address, host.place.cast(), 16, stream));
    good(cuda.cuMemFreeHost(host.place.cast()));
    assert_eq!((cuda.counters().pending, cuda.download(address, 4)), (0, vec![1; 4]));
}

#[test]
fn memory_of_a_pool_is_freed_in_the_order_of_the_stream() {
    let cuda = Cuda::new();
    let (stream, kernel) = (cuda.stream(), cuda.kernel("increment"));
    let host = cuda.pinned(1, 0);
    let mut address = 0;
    good(cuda.cuMemAllocAsync(&mut address, 4, stream));
    good(cuda.cuMemsetD32Async(address, 41, 1, stream));
    good(cuda.launch(kernel, address, 1, stream));
    good(cuda.cuMemcpyDtoHAsync_v2(host.place.cast(), address, 4, stream));
    good(cuda.cuMemFreeAsync(address, stream));
    assert_eq!(cuda.counters().live_allocations, 1);
    assert_eq!(cuda.cuMemsetD32Async(address, 0, 1, stream), INVALID_VALUE, "freed as the host sees it");
    assert_eq!(cuda.cuMemFreeAsync(address, stream), INVALID_VALUE);
    good(cuda.cuStreamSynchronize(stream));
    assert_eq!((host.words(), cuda.counters().live_allocations), (vec![42], 0));
}

#[test]
fn rectangles_copy_rows() {
    let cuda = Cuda::new();
    let stream = cuda.stream();
    let source: Vec<u32> = (0..20).collect();
    let target = cuda.upload(&[100; 12]);
    // Rows 1 to 3, columns 2 and 3 of a 4 by 5 matrix go to columns 1 and 2 of a 3 by 4 one.
    let mut rectangle = Rectangle {
        source: (8, 1),
        source_type: 1,
        source_host: source.as_ptr() as usize,
        source_pitch: 20,
        target: (4, 0),
        target_type: 2,
        target_device: target,
        target_pitch: 16,
        width: 8,
        height: 3,
        ..Rectangle::default()
    };
    good(cuda.cuMemcpy2DAsync_v2(&rectangle, stream));
    good(cuda.cuStreamSynchronize(stream));
    assert_eq!(cuda.download(target, 12), [100, 7, 8, 100, 100, 12, 13, 100, 100, 17, 18, 100]);
    rectangle.height = 4;
    assert_eq!(cuda.cuMemcpy2DAsync_v2(&rectangle, stream), INVALID_VALUE, "a row beyond the memory");
    rectangle.height = 3;
    rectangle.target_pitch = 4;
    assert_eq!(cuda.cuMemcpy2DAsync_v2(&rectangle, stream), INVALID_VALUE, "rows that overlap");
}

#[test]
fn threads_work_side_by_side() {
    let cuda = Cuda::new();
    let mut context = 0;
    good(cuda.cuCtxGetCurrent(&mut context));
    let kernel = cuda.kernel("increment");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                good(cuda.cuCtxSetCurrent(context));
                let stream = cuda.stream();
                let address = cuda.upload(&[0; 4]);
                for _ in 0..20 {
                    good(cuda.launch(kernel, address, 4, stream));
                }
                good(cuda.cuStreamSynchronize(stream));
                assert_eq!(cuda.download(address, 4), [20; 4]);
                good(cuda.cuMemFree_v2(address));
            });
        }
    });
    assert_eq!((cuda.counters().kernels, cuda.counters().live_allocations), (80, 0));
}

#[test]
fn a_long_queue_runs_its_oldest_work() {
    let cuda = Cuda::new();
    let stream = cuda.stream();
    let address = cuda.allocate(1);
    for word in 0..5000 {
        good(cuda.cuMemsetD32Async(address, word, 1, stream));
    }
    assert_eq!(cuda.counters().pending, 4096);
    assert_eq!(cuda.download(address, 1), [904], "5000 - 4096 ran, and one more for the copy");
    good(cuda.cuStreamSynchronize(stream));
    assert_eq!((cuda.counters().pending, cuda.download(address, 1)), (0, vec![4999]));
}
