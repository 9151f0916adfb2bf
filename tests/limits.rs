//! The edges: interruption in the middle of a call, numbers at the ends of their range, handles released while in use.

use mnemo::capi::{context, dataset, exec, process, sampler, score, status, tensor};
use mnemo::cpu::Cpu;
use mnemo::dataset::{Dataset, Decoding};
use mnemo::engine::{Grade, SharedEngine};
use mnemo::error::Error;
use mnemo::exec::{Cancel, Exec};
use mnemo::process::Process;
use mnemo::random::{Purpose, Stream};
use mnemo::sampler::{Options, Solver, sample};
use mnemo::score::{Empirical, Evaluation, Regularizer, ScoreModel, Want};
use mnemo::tensor::{Matrix, View};
use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn normals(len: usize, seed: u64) -> Vec<f64> {
    let mut v = vec![0.0; len];
    Stream { seed, purpose: Purpose::Prior, step: 0 }.fill_normal(0, &mut v);
    v
}

fn model(rows: &[f64], d: usize, process: Process, tolerance: f64) -> Empirical {
    let engine: SharedEngine = Arc::new(Cpu::new(2, None).unwrap());
    let rows = View::new(rows, rows.len() / d, d);
    let data = Arc::new(Dataset::copy(engine, rows, None, Decoding::default()).unwrap());
    Empirical::new(data, process, Regularizer::None, tolerance, None).unwrap()
}

fn edm() -> Process {
    Process::ve_power(2.0, 1.0, 80.0).unwrap()
}

fn matrix(values: &[f64], d: usize) -> Matrix {
    Matrix::from_host(values.to_vec(), values.len() / d, d)
}

/// Raises a flag when it goes out of scope.
struct Raise<'a>(&'a AtomicBool);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_request_that_is_reset_at_once_never_passes_for_success() {
    const D: usize = 128;
    let score = model(&normals(6000 * D, 1), D, edm(), 1e-12);
    let x = matrix(&normals(64 * D, 2), D);
    let want = Want { log_density: true, ..Want::default() };
    let eval = |exec: &Exec<'_>| score.eval(&x, &[1.0; 64], want, Grade::Double, exec);
    let whole = eval(&Exec::default()).unwrap().log_density;
    let (cancel, done) = (Cancel::default(), AtomicBool::new(false));
    std::thread::scope(|s| {
        s.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_micros(300));
                cancel.request();
                std::thread::sleep(Duration::from_micros(20));
                cancel.reset();
            }
        });
        // Also when an assertion fails: the scope waits for its thread.
        let _at_the_end = Raise(&done);
        let mut cancelled = 0;
        for _ in 0..60 {
            match eval(&Exec { cancel: Some(&cancel), ..Exec::default() }) {
                Ok(Evaluation { log_density, .. }) => assert_eq!(log_density, whole),
                Err(Error::Cancelled(_)) => cancelled += 1,
                Err(e) => panic!("{e}"),
            }
        }
        assert!(cancelled > 0, "no call was caught in the act");
    });
}

#[test]
fn rk45_needs_no_absolute_tolerance_where_nothing_moves() {
    let score = model(&[1.0, 0.0, -1.0, 0.0], 2, edm(), 0.0);
    let run = |atol| {
        let options = Options {
            solver: Solver::Rk45,
            t_start: Some(5.0),
            t_end: Some(0.1),
            rtol: 1e-6,
            atol,
            ..Options::default()
        };
        sample(&score, &options, matrix(&[3.0, 0.0], 2), Grade::Double, None, &Exec::default()).unwrap()
    };
    let (none, tiny) = (run(0.0), run(1e-300));
    assert_eq!(none.host(), tiny.host());
    assert_eq!(none.host()[1], 0.0);
}

#[test]
fn enormous_noise_makes_all_weights_equal() {
    let score = model(&[0.0, 1.0, 5.0], 1, Process::ve_power(2.0, 1.0, 1e154).unwrap(), 1e-12);
    let want = Want { entropy: true, denoised: true, ..Want::default() };
    let e = score.eval(&matrix(&[2.0], 1), &[1e154], want, Grade::Double, &Exec::default()).unwrap();
    // Three equal weights: ln 3 and the mean to a few roundings.
    approx::assert_relative_eq!(e.entropy.unwrap()[0], 3f64.ln(), max_relative = 1e-15);
    approx::assert_relative_eq!(e.denoised.unwrap().host()[0], 2.0, max_relative = 1e-15);
}

#[test]
fn tolerance_zero_is_no_coarser_than_any_other() {
    // Two rows at ±a and a query nearly between them, the rest far away: ȳ - x is 5e-5 of it all and h is large.
    const D: usize = 24;
    let mut rows = normals(600 * D, 3);
    rows.iter_mut().for_each(|v| *v *= 0.3);
    let a: Vec<f64> = normals(D, 4).iter().map(|v| 0.04 * v).collect();
    for k in 0..D {
        (rows[k], rows[D + k]) = (a[k], -a[k]);
    }
    let process = edm();
    let x: Vec<f64> = a.iter().map(|v| 1e-4 * v).collect();
    for h in [1e4, 1e6, 1e8] {
        let t = (0.5f64 / h).sqrt();
        let want = Want { score: true, ..Want::default() };
        let eval = |tolerance, grade| {
            let score = model(&rows, D, process.clone(), tolerance);
            score.eval(&matrix(&x, D), &[t], want, grade, &Exec::default()).unwrap().score.unwrap()
        };
        let reference = eval(1e-12, Grade::Double);
        let size = reference.host().iter().map(|v| v * v).sum::<f64>().sqrt();
        for grade in [Grade::Single, Grade::Double] {
            let found = eval(0.0, grade);
            let off = found.host().iter().zip(reference.host()).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt();
            // The promise of the coarser kind of caller; the two paths agree to what x's own rounding leaves at h = 1e8.
            assert!(off <= 1e-5 * size, "h = {h:e}, {grade:?}: {:e}", off / size);
        }
    }
}

#[test]
fn a_table_is_left_by_the_interval_that_reverse_time_enters() {
    let process = Process::discrete(&[0.99, 0.9, 0.5, 0.1]).unwrap();
    for t in [2.0, 3.0, 4.0] {
        let (at, below) = (process.eval(t).unwrap(), process.eval(t - 1e-9).unwrap());
        // 1e-9 of the way through an interval of slope about 1.
        approx::assert_relative_eq!(at.beta, below.beta, max_relative = 1e-8);
        let ((m, s), (m_below, s_below)) = (process.derivative(t).unwrap(), process.derivative(t - 1e-9).unwrap());
        approx::assert_relative_eq!(m, m_below, max_relative = 1e-8);
        approx::assert_relative_eq!(s, s_below, max_relative = 1e-8);
    }
}

/// A context, a data set of one row of two numbers, a process and a score, through the C ABI.
unsafe fn one_row(sigma_max: f64) -> (*mut score::mnemo_score, impl FnOnce()) {
    let row = [1f32, 2.0];
    let rows = view(row.as_ptr().cast_mut().cast(), 1, 2, tensor::MNEMO_F32);
    let (mut c, mut d, mut p, mut s) = (null_mut(), null_mut(), null_mut(), null_mut());
    // SAFETY: live pointers to live memory; so throughout this file.
    unsafe {
        assert_eq!(context::mnemo_context_create(null(), &raw mut c, null_mut()), 0);
        assert_eq!(dataset::mnemo_dataset_copy(c, &raw const rows, null(), null(), &raw mut d, null_mut()), 0);
        assert_eq!(process::mnemo_process_ve_power(2.0, 1.0, sigma_max, &raw mut p, null_mut()), 0);
        assert_eq!(score::mnemo_score_empirical(d, p, null(), &raw mut s, null_mut()), 0);
    }
    // SAFETY: as above.
    (s, move || unsafe {
        process::mnemo_process_release(p);
        dataset::mnemo_dataset_release(d);
        context::mnemo_context_release(c);
    })
}

fn view(data: *mut c_void, rows: i64, cols: i64, dtype: u32) -> tensor::mnemo_tensor {
    let device_type = tensor::MNEMO_CPU;
    tensor::mnemo_tensor { data, rows, cols, row_stride: 0, dtype, device_type, device_id: 0, reserved: 0 }
}

#[test]
fn a_result_beyond_f32_is_an_error_and_not_infinity() {
    // SAFETY: see one_row.
    unsafe {
        let (s, release) = one_row(80.0);
        let (mut x, mut out, mut t) = ([3f32, 4.0], [7f32, 7.0], 1e-25f64);
        let x = view(x.as_mut_ptr().cast(), 1, 2, tensor::MNEMO_F32);
        let t = view((&raw mut t).cast(), 1, 1, tensor::MNEMO_F64);
        let mut to = view(out.as_mut_ptr().cast(), 1, 2, tensor::MNEMO_F32);
        let mut outputs: score::mnemo_score_outputs = std::mem::zeroed();
        score::mnemo_score_outputs_init(&raw mut outputs, size_of::<score::mnemo_score_outputs>());
        outputs.score = &raw mut to;
        let eval = |outputs: &score::mnemo_score_outputs| {
            score::mnemo_score_eval(s, &raw const x, &raw const t, outputs, null(), null_mut())
        };
        assert_eq!(eval(&outputs), status::MNEMO_E_INVALID);
        // The same for a vector: the log density is about -1e50.
        let mut column = view(out.as_mut_ptr().cast(), 1, 1, tensor::MNEMO_F32);
        (outputs.score, outputs.log_density) = (null_mut(), &raw mut column);
        assert_eq!(eval(&outputs), status::MNEMO_E_INVALID);
        assert_eq!(out, [7.0, 7.0]);
        score::mnemo_score_release(s);
        release();
    }
}

unsafe extern "C" fn release_in_the_middle(
    user: *mut c_void,
    step: u64,
    _: f64,
    _: *const tensor::mnemo_tensor,
) -> i32 {
    if step == 1 {
        // SAFETY: the test passes its handle and does not use it again.
        unsafe { score::mnemo_score_release(user.cast()) };
    }
    0
}

#[test]
fn a_callback_may_release_the_handle_of_its_own_call() {
    // SAFETY: see one_row.
    unsafe {
        let (s, release) = one_row(80.0);
        let mut x = [3f64, 4.0];
        let mut state = view(x.as_mut_ptr().cast(), 1, 2, tensor::MNEMO_F64);
        let mut options: sampler::mnemo_sampler_options = std::mem::zeroed();
        sampler::mnemo_sampler_options_init(&raw mut options, size_of::<sampler::mnemo_sampler_options>());
        options.observer = Some(release_in_the_middle);
        options.observer_user = s.cast();
        options.denoise_last = 1;
        release();
        let exec: *const exec::mnemo_exec = null();
        assert_eq!(sampler::mnemo_sample(s, &raw const options, &raw mut state, exec, null_mut()), 0);
        // One training row: everything ends on it.
        assert_eq!(x, [1.0, 2.0]);
    }
}
