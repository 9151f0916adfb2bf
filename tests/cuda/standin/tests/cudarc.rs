//! cudarc and NVRTC, unmodified, run CUDA C++ on the stand-in. NVRTC_FOLDER names the folder of `libnvrtc.so.12`.

mod support;

use cudarc::driver::{CudaContext, CudaStream, LaunchConfig, PushKernelArg, sys};
use cudarc::nvrtc::{CompileOptions, Ptx, compile_ptx_with_opts};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use support::{Counters, Folder, built_library};

const SOURCE: &str = r#"
extern "C" __global__ void saxpy(float a, const float *x, float *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = a * x[i] + y[i];
}

// One sum a block: through shared memory to a warp, then by shuffles.
extern "C" __global__ void reduce(const float *x, float *sums, int n) {
    __shared__ float partial[256];
    int t = threadIdx.x;
    float sum = 0;
    for (int i = blockIdx.x * blockDim.x + t; i < n; i += gridDim.x * blockDim.x) sum += x[i];
    partial[t] = sum;
    __syncthreads();
    for (int half = blockDim.x / 2; half >= 32; half /= 2) {
        if (t < half) partial[t] += partial[t + half];
        __syncthreads();
    }
    if (t < 32) {
        sum = partial[t];
        for (int lane = 16; lane > 0; lane /= 2) sum += __shfl_down_sync(0xffffffffu, sum, lane);
        if (t == 0) sums[blockIdx.x] = sum;
    }
}

// The same without the first barrier.
extern "C" __global__ void racy(const float *x, float *sums, int n) {
    __shared__ float partial[256];
    int t = threadIdx.x;
    partial[t] = t < n ? x[t] : 0.0f;
    if (t < 128) partial[t] += partial[t + 128];
    if (t == 0) sums[blockIdx.x] = partial[0];
}
"#;

fn nvrtc_folder() -> PathBuf {
    let folder = std::env::var_os("NVRTC_FOLDER").expect("NVRTC_FOLDER has to name the folder of libnvrtc.so.12");
    PathBuf::from(folder)
}

/// Runs a test of this file again in a process whose loader finds the stand-in and NVRTC; true within that process.
fn within(test: &str) -> bool {
    if std::env::var_os("STANDIN_WITHIN").is_some() {
        return true;
    }
    let folder = Folder::new();
    std::os::unix::fs::symlink(built_library(), folder.0.join("libcuda.so.1")).expect("a link");
    let path = std::env::join_paths([folder.0.clone(), nvrtc_folder()]).expect("a search path");
    let mut again = Command::new(std::env::current_exe().expect("this test"));
    again.args([test, "--exact"]).env("STANDIN_WITHIN", "1").env("LD_LIBRARY_PATH", path);
    let output = again.output().expect("a process");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
    false
}

/// A function of the stand-in's own.
fn own<F: Copy>(name: &str) -> F {
    // SAFETY: each caller gives the function's type.
    unsafe { *sys::culib().get::<F>(name).expect("a function of the stand-in") }
}

fn counters() -> Counters {
    let mut counters = Counters::default();
    let function = own::<unsafe extern "C" fn(*mut Counters) -> i32>("standin_counters");
    // SAFETY: its type, and a place for the answer.
    assert_eq!(unsafe { function(&mut counters) }, 0);
    counters
}

fn last_fault() -> String {
    let function = own::<unsafe extern "C" fn(*mut u8, usize) -> usize>("standin_last_fault");
    let mut bytes = vec![0; 1000];
    // SAFETY: its type, and as many bytes.
    let size = unsafe { function(bytes.as_mut_ptr(), bytes.len()) };
    String::from_utf8_lossy(&bytes[..size - 1]).into_owned()
}

/// Pretends the driver that came with NVRTC, so that its PTX is not too new.
fn matching_driver() -> i32 {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: two places for numbers.
    assert_eq!(unsafe { cudarc::nvrtc::sys::nvrtcVersion(&mut major, &mut minor) } as i32, 0);
    let version = 1000 * major + 10 * minor;
    let function = own::<unsafe extern "C" fn(*const u8, *const u8) -> i32>("standin_set");
    let set = |name: &str, value: &str| {
        let (name, value) = (format!("{name}\0"), format!("{value}\0"));
        // SAFETY: two texts that a zero ends.
        assert_eq!(unsafe { function(name.as_ptr(), value.as_ptr()) }, 0);
    };
    set("STANDIN_DRIVER", &version.to_string());
    version
}

fn compile() -> Ptx {
    let options = CompileOptions { arch: Some("compute_80"), ..CompileOptions::default() };
    compile_ptx_with_opts(SOURCE, options).expect("PTX")
}

fn saxpy(stream: &Arc<CudaStream>, function: &cudarc::driver::CudaFunction, count: usize) {
    let x: Vec<f32> = (0..count).map(|i| i as f32).collect();
    let y: Vec<f32> = (0..count).map(|i| 0.5 * i as f32).collect();
    let (x_device, mut y_device) = (stream.clone_htod(&x).expect("x"), stream.clone_htod(&y).expect("y"));
    let (a, n) = (2.0_f32, count as i32);
    let mut launch = stream.launch_builder(function);
    launch.arg(&a).arg(&x_device).arg(&mut y_device).arg(&n);
    // SAFETY: the kernel's arguments.
    unsafe { launch.launch(LaunchConfig::for_num_elems(count as u32)) }.expect("a launch");
    let found = stream.clone_dtoh(&y_device).expect("y again");
    stream.synchronize().expect("a synchronization");
    for (i, found) in found.into_iter().enumerate() {
        assert_eq!(found, 2.5 * i as f32);
    }
}

#[test]
fn kernels_of_cuda_run_from_source_to_numbers() {
    if !within("kernels_of_cuda_run_from_source_to_numbers") {
        return;
    }
    matching_driver();
    let context = CudaContext::new(0).expect("a context");
    assert_eq!(context.compute_capability().expect("a capability"), (8, 0));
    let module = context.load_module(compile()).expect("a module");
    let function = |name| module.load_function(name).expect(name);
    for stream in [context.default_stream(), context.new_stream().expect("a stream"), context.per_thread_stream()] {
        saxpy(&stream, &function("saxpy"), 1000);
    }
    // Sums of whole numbers, exact in any order.
    let stream = context.new_stream().expect("a stream");
    let x = stream.clone_htod(&(0..5000).map(|i| (i % 7) as f32).collect::<Vec<_>>()).expect("x");
    let mut sums = stream.alloc_zeros::<f32>(4).expect("sums");
    let reduce = function("reduce");
    let n = 5000_i32;
    let mut launch = stream.launch_builder(&reduce);
    launch.arg(&x).arg(&mut sums).arg(&n);
    let shape = LaunchConfig { grid_dim: (4, 1, 1), block_dim: (256, 1, 1), shared_mem_bytes: 0 };
    // SAFETY: the kernel's arguments.
    unsafe { launch.launch(shape) }.expect("a launch");
    let found = stream.clone_dtoh(&sums).expect("the sums");
    let wanted: i32 = (0..5000).map(|i| i % 7).sum();
    assert_eq!(found.iter().sum::<f32>(), wanted as f32);
    drop((x, sums, stream, reduce));
    drop(module);
    drop(context);
    let left = counters();
    assert_eq!(
        (left.live_allocations, left.live_modules, left.live_streams, left.live_events, left.live_contexts),
        (0, 0, 0, 0, 0)
    );
    assert_eq!((left.abandoned, left.faults, left.kernels), (0, 0, 4));
}

#[test]
fn graphs_are_captured_and_replayed() {
    if !within("graphs_are_captured_and_replayed") {
        return;
    }
    matching_driver();
    let context = CudaContext::new(0).expect("a context");
    // SAFETY: one stream, whose order is all that is asked for. cudarc's events would not fit a capture.
    unsafe { context.disable_event_tracking() };
    let saxpy = context.load_module(compile()).expect("a module").load_function("saxpy").expect("saxpy");
    let stream = context.new_stream().expect("a stream");
    let x = stream.clone_htod(&[1.0_f32; 64]).expect("x");
    let mut y = stream.alloc_zeros::<f32>(64).expect("y");
    let (a, n) = (3.0_f32, 64_i32);
    stream.synchronize().expect("a synchronization");
    stream.begin_capture(sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL).expect("a capture");
    let mut launch = stream.launch_builder(&saxpy);
    launch.arg(&a).arg(&x).arg(&mut y).arg(&n);
    // SAFETY: the kernel's arguments.
    unsafe { launch.launch(LaunchConfig::for_num_elems(64)) }.expect("a launch");
    let flags = sys::CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
    let graph = stream.end_capture(flags).expect("the end").expect("a graph");
    for _ in 0..5 {
        graph.launch().expect("a launch");
    }
    assert_eq!(stream.clone_dtoh(&y).expect("y"), [15.0; 64]);
    // An allocation has no place in a capture.
    stream.begin_capture(sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).expect("a capture");
    let error = stream.alloc_zeros::<f32>(4).expect_err("no allocation");
    assert_eq!(error.0, sys::CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    let error = stream.end_capture(flags).err().expect("an invalid capture");
    assert_eq!(error.0, sys::CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
}

#[test]
fn a_missing_barrier_is_a_fault() {
    if !within("a_missing_barrier_is_a_fault") {
        return;
    }
    matching_driver();
    let context = CudaContext::new(0).expect("a context");
    let racy = context.load_module(compile()).expect("a module").load_function("racy").expect("racy");
    let stream = context.default_stream();
    let x = stream.clone_htod(&[1.0_f32; 256]).expect("x");
    let mut sums = stream.alloc_zeros::<f32>(1).expect("sums");
    let n = 256_i32;
    let mut launch = stream.launch_builder(&racy);
    launch.arg(&x).arg(&mut sums).arg(&n);
    let shape = LaunchConfig { grid_dim: (1, 1, 1), block_dim: (256, 1, 1), shared_mem_bytes: 0 };
    // SAFETY: the kernel's arguments.
    unsafe { launch.launch(shape) }.expect("a launch is not yet a run");
    let error = stream.synchronize().expect_err("a race");
    assert_eq!(error.0, sys::CUresult::CUDA_ERROR_LAUNCH_FAILED);
    assert!(last_fault().starts_with("racy: "), "{}", last_fault());
}

#[test]
fn cubins_and_newer_ptx_are_refused() {
    if !within("cubins_and_newer_ptx_are_refused") {
        return;
    }
    let version = matching_driver();
    let context = CudaContext::new(0).expect("a context");
    let ptx = compile().to_src();
    let next_major = format!(".version {}.0", version / 1000 - 3);
    let newer = ptx.lines().map(|line| if line.starts_with(".version") { next_major.as_str() } else { line });
    let error = context.load_module(Ptx::from_src(newer.collect::<Vec<_>>().join("\n"))).expect_err("newer PTX");
    assert_eq!(error.0, sys::CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION);
    let error = context.load_module(Ptx::from_binary(b"\x7fELF\x02\x01\x01\0\0\0\0\0".to_vec())).expect_err("a cubin");
    assert_eq!(error.0, sys::CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU);
    context.load_module(Ptx::from_src(ptx)).expect("a module");
}
