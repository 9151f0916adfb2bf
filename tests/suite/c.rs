//! The library through its C ABI, called as a C host would: opaque handles, structs by pointer, statuses.

use crate::api::{
    Api, Call, Decoding, Empirical, Failure, Grid, Kind, Marginal, Matrix, Metric, Model, Observer, Options, Outcome,
    Outputs, Prediction, Progress, Regularizer, Report, Solver, Want,
};
use crate::home::{Lent, choose, narrow, wide};
use mnemo::capi::context::*;
use mnemo::capi::dataset::*;
use mnemo::capi::exec::*;
use mnemo::capi::memorization::*;
use mnemo::capi::process::*;
use mnemo::capi::sampler::*;
use mnemo::capi::score::*;
use mnemo::capi::status::{MNEMO_OK, mnemo_error};
use mnemo::capi::tensor::*;
use mnemo::tensor::Dtype;
use std::ffi::{CStr, CString, c_void};
use std::path::Path;
use std::ptr::{null, null_mut};

/// An object of the library, released when dropped.
pub struct Handle<T> {
    object: *mut T,
    release: unsafe extern "C" fn(*mut T),
}

// SAFETY: the header allows every object to be used and released on any thread.
unsafe impl<T> Send for Handle<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Handle<T> {}

impl<T> Drop for Handle<T> {
    fn drop(&mut self) {
        // SAFETY: made by the library, released once.
        unsafe { (self.release)(self.object) }
    }
}

/// Makes a call, and an outcome of its status; the struct and the status must say the same.
fn call(f: impl FnOnce(*mut mnemo_error) -> i32) -> Outcome<()> {
    let mut error = mnemo_error { code: -1, native: -1, len: 99, reserved: 99, message: [7; 496] };
    let status = f(&raw mut error);
    // SAFETY: the library ends its message with a NUL.
    let message = unsafe { CStr::from_ptr(error.message.as_ptr()) }.to_str().expect("UTF-8").to_owned();
    assert_eq!((error.code, error.len as usize, error.reserved), (status, message.len(), 0));
    if status == MNEMO_OK {
        assert!(error.native == 0 && message.is_empty());
        return Ok(());
    }
    assert!(!message.is_empty());
    Err(Failure { status, native: error.native, message })
}

/// Makes an object.
fn make<T>(
    release: unsafe extern "C" fn(*mut T),
    f: impl FnOnce(*mut *mut T, *mut mnemo_error) -> i32,
) -> Outcome<Handle<T>> {
    let mut object = null_mut();
    call(|err| f(&raw mut object, err))?;
    assert!(!object.is_null());
    Ok(Handle { object, release })
}

/// A struct with its initial values.
fn initial<T>(init: unsafe extern "C" fn(*mut T, usize)) -> T {
    let mut value = std::mem::MaybeUninit::<T>::uninit();
    // SAFETY: init fills the whole struct.
    unsafe {
        init(value.as_mut_ptr(), size_of::<T>());
        value.assume_init()
    }
}

fn column(values: &[f64]) -> Matrix {
    Matrix::new(Dtype::F64, values, 1)
}

/// What no result is: an output that a failed call must leave alone.
const UNTOUCHED: f64 = -123.25;

fn with_exec(
    c: Call<'_, Handle<mnemo_cancel>>,
    f: impl FnOnce(*const mnemo_exec, *mut mnemo_error) -> i32,
) -> Outcome<()> {
    unsafe extern "C" fn progress(user: *mut c_void, done: u64, total: u64) -> i32 {
        // SAFETY: `user` is the address of the reference below.
        let f = unsafe { &mut *user.cast::<&mut Progress<'_>>() };
        i32::from(!f(done, total))
    }
    let mut exec = initial(mnemo_exec_init);
    let Call { seed, cancel, progress: mut watch } = c;
    exec.seed = seed;
    // As a CPU context does: tests of bad numbers want to be told.
    exec.flags = MNEMO_EXEC_CHECK;
    exec.cancel = cancel.map_or(null_mut(), |c| c.object);
    if let Some(watch) = &mut watch {
        exec.progress = Some(progress);
        exec.progress_user = std::ptr::from_mut(watch).cast();
    }
    call(|err| f(&raw const exec, err))
}

unsafe extern "C" fn model_eval(
    user: *mut c_void,
    x: *const mnemo_tensor,
    t: *const mnemo_tensor,
    out: *mut mnemo_tensor,
    _stream: *mut c_void,
) -> i32 {
    // SAFETY: `user` is the model given to mnemo_score_custom; the tensors are the library's.
    unsafe {
        let mut answer = vec![0.0; wide(x).len()];
        let status = (*user.cast::<Box<dyn Model>>()).eval(&wide(x), &wide(t), &mut answer);
        narrow(&answer, out);
        status
    }
}

unsafe extern "C" fn model_jvp(
    user: *mut c_void,
    x: *const mnemo_tensor,
    t: *const mnemo_tensor,
    v: *const mnemo_tensor,
    out: *mut mnemo_tensor,
    _stream: *mut c_void,
) -> i32 {
    // SAFETY: as above.
    unsafe {
        let mut answer = vec![0.0; wide(x).len()];
        let status = (*user.cast::<Box<dyn Model>>()).jvp(&wide(x), &wide(t), &wide(v), &mut answer);
        narrow(&answer, out);
        status
    }
}

unsafe extern "C" fn model_drop(user: *mut c_void) {
    // SAFETY: boxed in `custom`, dropped once.
    drop(unsafe { Box::from_raw(user.cast::<Box<dyn Model>>()) });
}

unsafe extern "C" fn observe(user: *mut c_void, step: u64, t: f64, x: *const mnemo_tensor) -> i32 {
    // SAFETY: `user` is the address of the reference in `sample`.
    unsafe { (*user.cast::<&mut Observer<'_>>())(step, t, &wide(x)) }
}

pub struct Machine(Handle<mnemo_context>);

impl Api for Machine {
    type Dataset = Handle<mnemo_dataset>;
    type Process = Handle<mnemo_process>;
    type Score = Handle<mnemo_score>;
    type Cancel = Handle<mnemo_cancel>;

    fn new(threads: usize) -> Self {
        Self::limited(threads, 0)
    }

    fn limited(threads: usize, memory_limit: u64) -> Self {
        let mut options = initial(mnemo_context_options_init);
        options.num_threads = u32::try_from(threads).unwrap();
        options.memory_limit = memory_limit;
        choose(&mut options);
        // SAFETY: the pointers are to live values of their types; so throughout this file.
        let create = |out, err| unsafe { mnemo_context_create(&raw const options, out, err) };
        Self(make(mnemo_context_release, create).unwrap())
    }

    fn every(threads: usize) -> Vec<Self> {
        vec![Self::new(threads)]
    }

    fn describe(&self) -> String {
        let mut needed = 0;
        // SAFETY: as above.
        call(|err| unsafe { mnemo_context_describe(self.0.object, null_mut(), 0, &raw mut needed, err) }).unwrap();
        let mut text = vec![0u8; needed];
        // SAFETY: as above.
        call(|err| unsafe { mnemo_context_describe(self.0.object, text.as_mut_ptr().cast(), needed, null_mut(), err) })
            .unwrap();
        CStr::from_bytes_with_nul(&text).unwrap().to_str().unwrap().to_owned()
    }

    fn dataset(&self, rows: &Matrix, labels: Option<&Matrix>, decoding: Decoding) -> Outcome<Self::Dataset> {
        let mut options = initial(mnemo_dataset_options_init);
        (options.scale, options.shift) = (decoding.scale, decoding.shift);
        let (rows, labels) = (Lent::input(rows), labels.map(Lent::input));
        let labels = labels.as_ref().map_or(null(), |l| &raw const l.tensor);
        // SAFETY: as above.
        make(mnemo_dataset_release, |out, err| unsafe {
            mnemo_dataset_copy(self.0.object, &raw const rows.tensor, labels, &raw const options, out, err)
        })
    }

    fn open(&self, path: &Path, labels: Option<&Path>, decoding: Decoding) -> Outcome<Self::Dataset> {
        let text = |p: &Path| CString::new(p.to_str().unwrap()).unwrap();
        let (path, labels) = (text(path), labels.map(text));
        let mut options = initial(mnemo_dataset_options_init);
        (options.scale, options.shift) = (decoding.scale, decoding.shift);
        options.labels_path = labels.as_ref().map_or(null(), |l| l.as_ptr());
        // SAFETY: as above.
        make(mnemo_dataset_release, |out, err| unsafe {
            mnemo_dataset_open(self.0.object, path.as_ptr(), &raw const options, out, err)
        })
    }

    fn process(kind: &Kind) -> Outcome<Self::Process> {
        // SAFETY: as above.
        make(mnemo_process_release, |out, err| unsafe {
            match kind {
                Kind::VpLinear(a, b, t) => mnemo_process_vp_linear(*a, *b, *t, out, err),
                Kind::SubVp(a, b) => mnemo_process_sub_vp(*a, *b, out, err),
                Kind::VePower(k, a, t) => mnemo_process_ve_power(*k, *a, *t, out, err),
                Kind::VeExponential(r, t) => mnemo_process_ve_exponential(*r, *t, out, err),
                Kind::VeGeometric(a, b) => mnemo_process_ve_geometric(*a, *b, out, err),
                Kind::Discrete(table) => mnemo_process_discrete(table.as_ptr(), table.len() as i64, out, err),
                Kind::Flow => mnemo_process_flow(out, err),
            }
        })
    }

    fn at(process: &Self::Process, t: &[f64]) -> Outcome<Vec<Marginal>> {
        let [mut m, mut sigma, mut beta, mut g] = [(); 4].map(|()| vec![0.0; t.len()]);
        // SAFETY: as above.
        call(|err| unsafe {
            mnemo_process_eval(
                process.object,
                t.as_ptr(),
                t.len() as i64,
                m.as_mut_ptr(),
                sigma.as_mut_ptr(),
                beta.as_mut_ptr(),
                g.as_mut_ptr(),
                err,
            )
        })?;
        Ok((0..t.len()).map(|i| Marginal { m: m[i], sigma: sigma[i], beta: beta[i], g: g[i] }).collect())
    }

    fn time_of_sigma(process: &Self::Process, sigma: f64) -> Outcome<f64> {
        let mut t = 0.0;
        // SAFETY: as above.
        call(|err| unsafe { mnemo_process_time_of_sigma(process.object, &raw const sigma, 1, &raw mut t, err) })?;
        Ok(t)
    }

    fn empirical(&self, dataset: &Self::Dataset, process: &Self::Process, o: Empirical) -> Outcome<Self::Score> {
        let mut options = initial(mnemo_empirical_options_init);
        (options.regularizer, options.strength) = match o.regularizer {
            Regularizer::None => (MNEMO_REG_NONE, f64::NAN),
            Regularizer::Tikhonov { c } => (MNEMO_REG_TIKHONOV, c),
            Regularizer::BayesDensity { log_c } => (MNEMO_REG_BAYES_DENSITY, log_c.exp()),
            Regularizer::BayesWeight { log_c } => {
                // The other way to say it.
                options.log_strength = log_c;
                (MNEMO_REG_BAYES_WEIGHT, 0.0)
            }
        };
        options.tolerance = o.tolerance;
        if let Some(label) = o.label {
            (options.conditional, options.label) = (1, label);
        }
        // SAFETY: as above.
        make(mnemo_score_release, |out, err| unsafe {
            mnemo_score_empirical(dataset.object, process.object, &raw const options, out, err)
        })
    }

    fn custom(
        &self,
        process: &Self::Process,
        dim: usize,
        prediction: Prediction,
        model: Box<dyn Model>,
    ) -> Outcome<Self::Score> {
        let mut ops = initial(mnemo_score_ops_init);
        ops.prediction = match prediction {
            Prediction::Score => MNEMO_PREDICT_SCORE,
            Prediction::Epsilon => MNEMO_PREDICT_EPS,
            Prediction::Clean => MNEMO_PREDICT_X0,
            Prediction::Velocity => MNEMO_PREDICT_V,
            Prediction::Flow => MNEMO_PREDICT_FLOW,
        };
        ops.eval = Some(model_eval);
        ops.jvp = model.has_jvp().then_some(model_jvp);
        ops.drop = Some(model_drop);
        let user = Box::into_raw(Box::new(model)).cast::<c_void>();
        // SAFETY: as above.
        make(mnemo_score_release, |out, err| unsafe {
            mnemo_score_custom(self.0.object, process.object, dim as i64, &raw const ops, user, out, err)
        })
    }

    fn eval(score: &Self::Score, x: &Matrix, t: &[f64], want: Want, call: Call<'_, Self::Cancel>) -> Outcome<Outputs> {
        let untouched = |dtype, cols| Matrix::new(dtype, &vec![UNTOUCHED; x.rows * cols], cols);
        // Matrices with a gap between their rows, which must stay as it is too.
        let mut matrices = [(); 2].map(|()| untouched(x.dtype(), x.cols).apart(3));
        let mut vectors = [(); 6].map(|()| untouched(Dtype::F64, 1));
        let mut index = untouched(Dtype::I64, 1);
        let mut tensors: Vec<Lent<'_>> =
            matrices.iter_mut().chain(&mut vectors).chain([&mut index]).map(Lent::output).collect();
        let mut out = initial(mnemo_score_outputs_init);
        let wanted = [
            want.score,
            want.denoised,
            want.log_density,
            want.divergence,
            want.entropy,
            want.nearest_distance,
            want.denoised_error_bound,
            want.log_density_error_bound,
            want.nearest_index,
        ];
        for ((to, tensor), wanted) in [
            &mut out.score,
            &mut out.denoised,
            &mut out.log_density,
            &mut out.divergence,
            &mut out.entropy,
            &mut out.nearest_distance,
            &mut out.denoised_error_bound,
            &mut out.log_density_error_bound,
            &mut out.nearest_index,
        ]
        .into_iter()
        .zip(&mut tensors)
        .zip(wanted)
        {
            *to = if wanted { &raw mut tensor.tensor } else { null_mut() };
        }
        let t = column(t);
        let (x, t) = (Lent::input(x), Lent::input(&t));
        // SAFETY: as above.
        let outcome = with_exec(call, |exec, err| unsafe {
            mnemo_score_eval(score.object, &raw const x.tensor, &raw const t.tensor, &raw const out, exec, err)
        });
        drop(tensors);
        for m in &matrices {
            let (values, gap) = (m.values().len(), m.stride - m.cols);
            let mistaken = outcome.is_err() && m.values().iter().any(|&v| v != UNTOUCHED);
            assert!(!mistaken, "a failed call wrote to an output of {values}");
            let outside = (0..m.rows * gap).all(|i| m.get(i / gap, m.cols + i % gap).is_nan());
            assert!(outside, "the gap between rows was written to");
        }
        for v in vectors.iter().chain([&index]) {
            assert!(outcome.is_ok() || v.values().iter().all(|&v| v == UNTOUCHED || v == UNTOUCHED.trunc()));
        }
        outcome?;
        let get = |m: &Matrix, wanted: bool| if wanted { m.values() } else { Vec::new() };
        Ok(Outputs {
            score: get(&matrices[0], want.score),
            denoised: get(&matrices[1], want.denoised),
            log_density: get(&vectors[0], want.log_density),
            divergence: get(&vectors[1], want.divergence),
            entropy: get(&vectors[2], want.entropy),
            nearest_distance: get(&vectors[3], want.nearest_distance),
            denoised_error_bound: get(&vectors[4], want.denoised_error_bound),
            log_density_error_bound: get(&vectors[5], want.log_density_error_bound),
            nearest_index: get(&index, want.nearest_index).iter().map(|&n| n as i64).collect(),
        })
    }

    fn jvp(score: &Self::Score, x: &Matrix, t: &[f64], v: &Matrix) -> Outcome<Matrix> {
        let (t, mut out) = (column(t), x.clone());
        let (x, t, v, mut to) = (Lent::input(x), Lent::input(&t), Lent::input(v), Lent::output(&mut out));
        let [x, t, v] = [&x, &t, &v].map(|lent| &raw const lent.tensor);
        // SAFETY: as above.
        with_exec(Call::default(), |exec, err| unsafe {
            mnemo_score_jvp(score.object, x, t, v, &raw mut to.tensor, exec, err)
        })?;
        drop(to);
        Ok(out)
    }

    fn sample(
        score: &Self::Score,
        o: &Options,
        x: &mut Matrix,
        mut observer: Option<&mut Observer<'_>>,
        call: Call<'_, Self::Cancel>,
    ) -> Outcome<()> {
        let mut options = initial(mnemo_sampler_options_init);
        options.solver = match o.solver {
            Solver::Euler => MNEMO_SOLVER_EULER,
            Solver::Heun => MNEMO_SOLVER_HEUN,
            Solver::Exponential => MNEMO_SOLVER_EXPONENTIAL,
            Solver::DpmPp2m => MNEMO_SOLVER_DPMPP_2M,
            Solver::Rk45 => MNEMO_SOLVER_RK45,
            Solver::EulerMaruyama => MNEMO_SOLVER_EULER_MARUYAMA,
            Solver::Ancestral => MNEMO_SOLVER_ANCESTRAL,
            Solver::EdmStochastic => MNEMO_SOLVER_EDM_STOCHASTIC,
        };
        options.grid = match &o.grid {
            Grid::UniformT => MNEMO_GRID_UNIFORM_T,
            Grid::UniformS => MNEMO_GRID_UNIFORM_S,
            Grid::Karras => MNEMO_GRID_KARRAS,
            Grid::Custom(times) => {
                (options.times, options.times_count) = (times.as_ptr(), times.len() as i64);
                MNEMO_GRID_CUSTOM
            }
        };
        options.steps = o.steps as i64;
        options.first_sample = o.first_sample.cast_signed();
        options.from_prior = u32::from(o.from_prior);
        options.denoise_last = u32::from(o.denoise_last);
        options.t_start = o.t_start.unwrap_or(f64::NAN);
        options.t_end = o.t_end.unwrap_or(f64::NAN);
        options.alpha2 = o.alpha2.unwrap_or(f64::NAN);
        options.eta = o.eta.unwrap_or(f64::NAN);
        (options.rtol, options.atol, options.rho) = (o.rtol, o.atol, o.rho);
        (options.s_churn, options.s_min) = (o.s_churn, o.s_min);
        (options.s_max, options.s_noise) = (o.s_max, o.s_noise);
        if let Some(observer) = &mut observer {
            options.observer = Some(observe);
            options.observer_user = std::ptr::from_mut(observer).cast();
        }
        let mut state = Lent::output(x);
        // SAFETY: as above.
        with_exec(call, |exec, err| unsafe {
            mnemo_sample(score.object, &raw const options, &raw mut state.tensor, exec, err)
        })
    }

    fn nearest_by(
        dataset: &Self::Dataset,
        queries: &Matrix,
        metric: Metric,
        k: usize,
        call: Call<'_, Self::Cancel>,
    ) -> Outcome<(Vec<f64>, Vec<i64>)> {
        let blank = |dtype| Matrix::new(dtype, &vec![UNTOUCHED; queries.rows * k], k.max(1)).apart(2);
        let (mut distance, mut index) = (blank(Dtype::F64), blank(Dtype::I64));
        for m in [&mut distance, &mut index] {
            (m.rows, m.cols) = (queries.rows, k);
        }
        let (mut to_distance, mut to_index) = (Lent::output(&mut distance), Lent::output(&mut index));
        let queries = Lent::input(queries);
        let metric = match metric {
            Metric::L2 => MNEMO_METRIC_L2,
            Metric::Cosine => MNEMO_METRIC_COSINE,
        };
        // SAFETY: as above.
        with_exec(call, |exec, err| unsafe {
            mnemo_nearest(
                dataset.object,
                &raw const queries.tensor,
                metric,
                k as i64,
                &raw mut to_distance.tensor,
                &raw mut to_index.tensor,
                exec,
                err,
            )
        })?;
        drop((to_distance, to_index));
        Ok((distance.values(), index.values().iter().map(|&n| n as i64).collect()))
    }

    fn memorization(dataset: &Self::Dataset, generated: &Matrix, threshold: f64) -> Outcome<Report> {
        let mut options = initial(mnemo_memorization_options_init);
        options.threshold = threshold;
        let mut report = initial(mnemo_memorization_report_init);
        let generated = Lent::input(generated);
        // SAFETY: as above.
        call(|err| unsafe {
            mnemo_memorization(
                dataset.object,
                &raw const generated.tensor,
                &raw const options,
                &raw mut report,
                null(),
                err,
            )
        })?;
        Ok(Report {
            samples: report.samples.cast_unsigned(),
            copied: report.copied.cast_unsigned(),
            fraction_copied: report.fraction_copied,
            min_distance: report.min_distance,
            median_distance: report.median_distance,
            max_distance: report.max_distance,
        })
    }

    fn cancel() -> Self::Cancel {
        // SAFETY: as above.
        make(mnemo_cancel_release, |out, err| unsafe { mnemo_cancel_create(out, err) }).unwrap()
    }

    fn request(cancel: &Self::Cancel) {
        // SAFETY: as above.
        assert_eq!(unsafe { mnemo_cancel_request(cancel.object) }, MNEMO_OK);
    }
}
