//! Scores: models of grad log p_t(x).

mod host;

use super::context::mnemo_context;
use super::dataset::mnemo_dataset;
use super::exec::{mnemo_exec, with_exec};
use super::process::mnemo_process;
use super::status::mnemo_error;
use super::tensor::{
    check_column_range, check_range, fill, input, is_on_host, mnemo_tensor, output, real_matrix, times,
};
use super::{
    Sized32, count, flag, given, guard, hand_over, initialise, place, read_sized, required, reserved, take_back,
};
use crate::engine::Grade;
use crate::error::Error;
use crate::score::{Custom, Empirical, Prediction, Regularizer, ScoreModel, Want};
use crate::tensor::{Dtype, rounding};
use host::Host;
use std::ffi::c_void;
use std::sync::Arc;

/// Regularizer: none. s = (m ybar - x) / sigma^2 (reg 3.8).
pub const MNEMO_REG_NONE: u32 = 0;
/// Regularizer: Tikhonov, strength c >= 0. s = (m ybar - x) / (sigma^2 + c) (reg 5.7).
pub const MNEMO_REG_TIKHONOV: u32 = 1;
/// Regularizer: empirical Bayes against the density, strength c > 0. s min(1, p(x)/c) (reg 5.11).
pub const MNEMO_REG_BAYES_DENSITY: u32 = 2;
/// Regularizer: empirical Bayes against the unnormalised weights, strength c > 0. s min(1, sum_n exp(l_n)/c) (reg
/// 5.12). c_density = c_weight / (N (2 pi sigma^2)^(d/2)).
pub const MNEMO_REG_BAYES_WEIGHT: u32 = 3;

/// A custom score's eval writes the score s.
pub const MNEMO_PREDICT_SCORE: u32 = 0;
/// A custom score's eval writes the noise, eps = -sigma s.
pub const MNEMO_PREDICT_EPS: u32 = 1;
/// A custom score's eval writes the denoised value, x0 = (x + sigma^2 s) / m.
pub const MNEMO_PREDICT_X0: u32 = 2;
/// A custom score's eval writes the velocity, v = m eps - sigma x0.
pub const MNEMO_PREDICT_V: u32 = 3;
/// A custom score's eval writes the flow velocity, u = eps - x0.
pub const MNEMO_PREDICT_FLOW: u32 = 4;

/// A model of the score of p_t. Immutable; it keeps its data set, process and context alive.
pub struct mnemo_score {
    pub(super) score: Arc<dyn ScoreModel>,
}

/// How an empirical score is formed.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct mnemo_empirical_options {
    /// sizeof(mnemo_empirical_options).
    pub struct_size: u32,
    /// MNEMO_REG_…; initially MNEMO_REG_NONE.
    pub regularizer: u32,
    /// The regularizer's constant c; not looked at for MNEMO_REG_NONE, nor for empirical Bayes with a log_strength.
    pub strength: f64,
    /// Training rows whose summed weight is below this may be left out: of ybar, and of the other sums where few rows have
    /// weight. In [0, 1), 0 leaves out none. Initially 1e-12, which is below what float64 results show.
    pub tolerance: f64,
    /// With conditional = 1, the label whose rows alone form the score.
    pub label: i64,
    /// 0 (initially) or 1.
    pub conditional: u32,
    /// 0.
    pub reserved: u32,
    /// ln c for empirical Bayes, whose c is beyond the range of double in high dimension: the weights at a noised
    /// training row sum to about exp(-d/2). NaN (initially): ln(strength).
    pub log_strength: f64,
}

// SAFETY: repr(C), size first, no padding, any bytes are valid.
unsafe impl Sized32 for mnemo_empirical_options {
    fn initial() -> Self {
        Self {
            struct_size: size_of::<Self>() as u32,
            regularizer: MNEMO_REG_NONE,
            strength: 0.0,
            tolerance: 1e-12,
            label: 0,
            conditional: 0,
            reserved: 0,
            log_strength: f64::NAN,
        }
    }
}

/// The host's model. Its functions run on the thread that called the library, once per evaluation for the whole batch,
/// and may call the library. `x`, `v` and `out` are contiguous [batch, dim], F32 if the caller's matrix is F32 and F64
/// if it is F64; `t` is a vector [batch] of F64. On a CUDA context all are in its device's memory, and what the functions
/// do with them is queued on `stream`, that of the call. They return 0; anything else ends the
/// call with MNEMO_E_CALLBACK and is its error's `native`. They must not let exceptions or panics escape.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct mnemo_score_ops {
    /// sizeof(mnemo_score_ops).
    pub struct_size: u32,
    /// What eval writes, MNEMO_PREDICT_…; initially MNEMO_PREDICT_SCORE.
    pub prediction: u32,
    /// Writes the prediction at (x, t) to out.
    pub eval: Option<
        unsafe extern "C" fn(
            user: *mut c_void,
            x: *const mnemo_tensor,
            t: *const mnemo_tensor,
            out: *mut mnemo_tensor,
            stream: *mut c_void,
        ) -> i32,
    >,
    /// Writes the derivative of the prediction along v to out; or NULL, and mnemo_score_jvp is MNEMO_E_UNSUPPORTED.
    pub jvp: Option<
        unsafe extern "C" fn(
            user: *mut c_void,
            x: *const mnemo_tensor,
            t: *const mnemo_tensor,
            v: *const mnemo_tensor,
            out: *mut mnemo_tensor,
            stream: *mut c_void,
        ) -> i32,
    >,
    /// Called once with `user` when the last object that uses the score is released, on the thread that does so; or
    /// NULL.
    pub drop: Option<unsafe extern "C" fn(user: *mut c_void)>,
}

// SAFETY: repr(C), size first, no padding, any bytes are valid (a non-zero function pointer is the caller's promise).
unsafe impl Sized32 for mnemo_score_ops {
    fn initial() -> Self {
        let struct_size = size_of::<Self>() as u32;
        Self { struct_size, prediction: MNEMO_PREDICT_SCORE, eval: None, jvp: None, drop: None }
    }
}

/// What mnemo_score_eval computes: an output for each pointer that is not NULL, all in one pass over the data. Matrices
/// are [batch, dim] of the element type of x; vectors are F64 or F32 unless said otherwise. A custom score has `score`
/// and `denoised` only.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct mnemo_score_outputs {
    /// sizeof(mnemo_score_outputs).
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// s(x, t), the score with its regularizer.
    pub score: *mut mnemo_tensor,
    /// (x + sigma^2 s) / m of that score. Without a regularizer it is ybar = sum_n w_n y_n.
    pub denoised: *mut mnemo_tensor,
    /// ln p_t(x) of the unregularized mixture, nats. Conditional scores: of the label's mixture.
    pub log_density: *mut mnemo_tensor,
    /// div s, the trace of the score's derivative.
    pub divergence: *mut mnemo_tensor,
    /// Entropy of the weights w, nats: ln of the number of training rows that x might have come from.
    pub entropy: *mut mnemo_tensor,
    /// I64: argmin_n |x - m y_n|, ties to the lowest index.
    pub nearest_index: *mut mnemo_tensor,
    /// min_n |x - m y_n|.
    pub nearest_distance: *mut mnemo_tensor,
    /// Upper bound on the length (L2, absolute) of the error of each row of denoised as this call writes it, or with
    /// denoised NULL would write it alone, in the type of x.
    ///
    /// The error is that against exact arithmetic on the x given, the data's values scale * raw + shift rounded to float64,
    /// and the m and sigma of mnemo_process_eval. Rigorous: what tolerance leaves out (its share of the data's diameter at
    /// most; nothing at 0), distances that are sums of squared differences, exponentials, sums, means, the regularizer, the
    /// rounding of denoised to its type. Probabilistic: where many rows have weight, and distances are products, the
    /// roundings of a product are taken as independent, and eight standard deviations of their sum (1e-15) as its most.
    pub denoised_error_bound: *mut mnemo_tensor,
    /// The same for log_density, the rounding to its type included (NULL: to F64), in nats. No output is changed by asking
    /// for a bound.
    pub log_density_error_bound: *mut mnemo_tensor,
}

// SAFETY: repr(C), size first, no padding, any bytes are valid.
unsafe impl Sized32 for mnemo_score_outputs {
    fn initial() -> Self {
        let none = std::ptr::null_mut();
        Self {
            struct_size: size_of::<Self>() as u32,
            reserved: 0,
            score: none,
            denoised: none,
            log_density: none,
            divergence: none,
            entropy: none,
            nearest_index: none,
            nearest_distance: none,
            denoised_error_bound: none,
            log_density_error_bound: none,
        }
    }
}

/// Fills `options` with its initial values; `size` is sizeof *options.
///
/// Threads: any. Errors: none; NULL is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mnemo_empirical_options_init(options: *mut mnemo_empirical_options, size: usize) {
    // SAFETY: the caller's promises; so throughout this file.
    unsafe { initialise(options, size) }
}

/// Fills `ops` with its initial values (no functions); `size` is sizeof *ops.
///
/// Threads: any. Errors: none; NULL is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mnemo_score_ops_init(ops: *mut mnemo_score_ops, size: usize) {
    // SAFETY: as above.
    unsafe { initialise(ops, size) }
}

/// Fills `outputs` with its initial values (no outputs); `size` is sizeof *outputs.
///
/// Threads: any. Errors: none; NULL is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mnemo_score_outputs_init(outputs: *mut mnemo_score_outputs, size: usize) {
    // SAFETY: as above.
    unsafe { initialise(outputs, size) }
}

/// Makes the exact score of the training set smoothed by `process` into `out`: with l_n = -|x - m y_n|^2 / (2 sigma^2),
/// w = softmax(l) and ybar = sum_n w_n y_n, s = (m ybar - x) / sigma^2 (reg 3.8), or as `options` (may be NULL)
/// regularizes it.
///
/// Owned by the caller: mnemo_score_release.
///
/// Threads: any; one score may be used by many threads at once. Errors: MNEMO_E_INVALID, also for a label that is not
/// in the data; MNEMO_E_UNSUPPORTED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mnemo_score_empirical(
    dataset: *const mnemo_dataset,
    process: *const mnemo_process,
    options: *const mnemo_empirical_options,
    out: *mut *mut mnemo_score,
    err: *mut mnemo_error,
) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(err, || {
            let out = place(out)?;
            let dataset = required("dataset", dataset)?.dataset.clone();
            let process = required("process", process)?.process.clone();
            let o = read_sized("options", options)?;
            reserved("options", o.reserved)?;
            let c = o.strength;
            let log_c = || {
                if !o.log_strength.is_nan() {
                    return Ok(o.log_strength);
                }
                if !(c.is_finite() && c > 0.0) {
                    return Err(Error::invalid(format!(
                        "strength is {c:?}; empirical Bayes takes a finite positive number, or log_strength"
                    )));
                }
                Ok(c.ln())
            };
            let regularizer = match o.regularizer {
                MNEMO_REG_NONE => Regularizer::None,
                MNEMO_REG_TIKHONOV => Regularizer::Tikhonov { c },
                MNEMO_REG_BAYES_DENSITY => Regularizer::BayesDensity { log_c: log_c()? },
                MNEMO_REG_BAYES_WEIGHT => Regularizer::BayesWeight { log_c: log_c()? },
                other => {
                    return Err(Error::invalid(format!(
                        "regularizer is {other}; it is one of MNEMO_REG_NONE … MNEMO_REG_BAYES_WEIGHT (0 … 3)"
                    )));
                }
            };
            let label = flag("conditional", o.conditional)?.then_some(o.label);
            let score = Arc::new(Empirical::new(dataset, process, regularizer, o.tolerance, label)?);
            hand_over(out, mnemo_score { score });
            Ok(())
        })
    }
}

/// Makes a score of the host's own model, of dimension `dim`, into `out`. `user` is passed to every function of `ops`.
///
/// The score owns `user` from success on (ops.drop); on failure drop is not called. Owned by the caller:
/// mnemo_score_release.
///
/// Threads: any; the host's functions run on the threads that use the score. Errors: MNEMO_E_INVALID,
/// MNEMO_E_UNSUPPORTED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mnemo_score_custom(
    context: *const mnemo_context,
    process: *const mnemo_process,
    dim: i64,
    ops: *const mnemo_score_ops,
    user: *mut c_void,
    out: *mut *mut mnemo_score,
    err: *mut mnemo_error,
) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(err, || {
            let out = place(out)?;
            let engine = required("context", context)?.engine.clone();
            let process = required("process", process)?.process.clone();
            let dim = count("dim", dim)?;
            if dim == 0 {
                return Err(Error::invalid("dim is 0; it must be positive"));
            }
            given("ops", ops)?;
            let ops = read_sized("ops", ops)?;
            let prediction = match ops.prediction {
                MNEMO_PREDICT_SCORE => Prediction::Score,
                MNEMO_PREDICT_EPS => Prediction::Epsilon,
                MNEMO_PREDICT_X0 => Prediction::Clean,
                MNEMO_PREDICT_V => Prediction::Velocity,
                MNEMO_PREDICT_FLOW => Prediction::Flow,
                other => {
                    return Err(Error::invalid(format!(
                        "ops: prediction is {other}; it is one of MNEMO_PREDICT_SCORE … MNEMO_PREDICT_FLOW (0 … 4)"
                    )));
                }
            };
            if ops.eval.is_none() {
                return Err(Error::invalid("ops: eval is NULL"));
            }
            let host = Box::new(Host { ops, user, device: engine.device() });
            hand_over(out, mnemo_score { score: Arc::new(Custom::new(engine, process, dim, prediction, host)) });
            Ok(())
        })
    }
}

pub(super) fn grade(dtype: Dtype) -> Grade {
    if dtype == Dtype::F32 { Grade::Single } else { Grade::Double }
}

/// Evaluates `score` at `x` [batch, dim] (F32 or F64) and times `t` (a vector of one, or of one per row; F64 or F32)
/// into the tensors of `outputs`.
///
/// For F32 x the error of the score is below 1e-5 of its length, for F64 x below 1e-9, beyond what the data themselves
/// leave open: a score much shorter than |x|/sigma^2, as near a stationary point at small sigma, is a difference of
/// equal terms, of which float64 keeps 1e-16. Memory beyond the outputs: about three times x in float64 and a bounded
/// work space; never batch * N.
///
/// Threads: any. Errors: MNEMO_E_INVALID (NaN or Inf in x; t outside the process or where sigma = 0; a result that an
/// F32 output cannot hold), MNEMO_E_SHAPE, MNEMO_E_DTYPE, MNEMO_E_DEVICE, MNEMO_E_NOMEM, MNEMO_E_CANCELLED,
/// MNEMO_E_CALLBACK, MNEMO_E_UNSUPPORTED (an output that this score does not have), MNEMO_E_IO (rows in a file). On failure the outputs are untouched.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mnemo_score_eval(
    score: *const mnemo_score,
    x: *const mnemo_tensor,
    t: *const mnemo_tensor,
    outputs: *const mnemo_score_outputs,
    exec: *const mnemo_exec,
    err: *mut mnemo_error,
) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(err, || {
            // The call's own share: a callback may release the handle.
            let score = required("score", score)?.score.clone();
            let engine = score.engine();
            with_exec(exec, engine, is_on_host(x), |exec| {
                let x = real_matrix("x", x, score.dim(), engine)?;
                let t = times(t, x.rows(), engine)?;
                given("outputs", outputs)?;
                let o = read_sized("outputs", outputs)?;
                reserved("outputs", o.reserved)?;
                let (batch, vector) = (x.rows(), [Dtype::F64, Dtype::F32]);
                let matrix = |name, p| output(name, p, (batch, score.dim()), &[x.dtype()], engine);
                let column = |name, p| output(name, p, (batch, 1), &vector, engine);
                let mut out = [
                    (matrix("outputs.score", o.score)?),
                    (matrix("outputs.denoised", o.denoised)?),
                    (column("outputs.log_density", o.log_density)?),
                    (column("outputs.divergence", o.divergence)?),
                    (column("outputs.entropy", o.entropy)?),
                    (column("outputs.nearest_distance", o.nearest_distance)?),
                    (column("outputs.denoised_error_bound", o.denoised_error_bound)?),
                    (column("outputs.log_density_error_bound", o.log_density_error_bound)?),
                ];
                let nearest = output("outputs.nearest_index", o.nearest_index, (batch, 1), &[Dtype::I64], engine)?;
                let want = Want {
                    score: out[0].is_some(),
                    denoised: out[1].is_some(),
                    log_density: out[2].is_some(),
                    divergence: out[3].is_some(),
                    entropy: out[4].is_some(),
                    nearest_distance: out[5].is_some(),
                    nearest_index: nearest.is_some(),
                    denoised_error_bound: out[6].is_some(),
                    log_density_error_bound: out[7].is_some(),
                };
                let e = score.eval(&engine.load("x", x)?, &t, want, grade(x.dtype()), exec)?;
                let names = ["outputs.score", "outputs.denoised"];
                for (name, (to, from)) in names.iter().zip(out[..2].iter().zip([&e.score, &e.denoised])) {
                    if let (Some(to), Some(from)) = (to, from) {
                        check_range(name, engine, from, to)?;
                    }
                }
                // The bound is that of float64 numbers; what is written as F32 is rounded once more.
                let mut density_bound = e.log_density_error_bound;
                if let (Some(bound), Some(to), Some(density)) = (&mut density_bound, &out[2], &e.log_density) {
                    bound.iter_mut().zip(density).for_each(|(b, v)| *b += rounding(to.view().dtype(), *v));
                }
                let columns =
                    [e.log_density, e.divergence, e.entropy, e.nearest_distance, e.denoised_error_bound, density_bound];
                let names = [
                    "outputs.log_density",
                    "outputs.divergence",
                    "outputs.entropy",
                    "outputs.nearest_distance",
                    "outputs.denoised_error_bound",
                    "outputs.log_density_error_bound",
                ];
                for (name, (to, from)) in names.iter().zip(out[2..].iter().zip(&columns)) {
                    if let (Some(to), Some(from)) = (to, from) {
                        check_column_range(name, from, to)?;
                    }
                }
                for (to, from) in out[..2].iter_mut().zip([e.score, e.denoised]) {
                    if let (Some(to), Some(from)) = (to, from) {
                        engine.store(&from, to)?;
                    }
                }
                for (i, (to, from)) in out[2..].iter_mut().zip(columns).enumerate() {
                    if let (Some(to), Some(from)) = (to, from) {
                        fill(names[i], engine, to, |to| {
                            // A bound in F32 is rounded up.
                            if i < 4 {
                                to.set_column(&from)
                            } else {
                                to.set_column_upward(&from)
                            }
                            Ok(())
                        })?;
                    }
                }
                if let (Some(mut to), Some(from)) = (nearest, e.nearest_index) {
                    fill("outputs.nearest_index", engine, &mut to, |to| {
                        from.iter().enumerate().for_each(|(i, &n)| to.row_mut::<i64>(i)[0] = n);
                        Ok(())
                    })?;
                }
                Ok(())
            })
        })
    }
}

/// The derivative of the score along `v`, J v, at `x` and `t` as for mnemo_score_eval. `v` and `out` are [batch, dim]
/// of the element type of x. Empirical: J v = -v/sigma^2 + (m^2/sigma^4) sum_n w_n (y_n - ybar) ((y_n - ybar).v),
/// regularized like s.
///
/// Threads: any. Errors: as mnemo_score_eval; MNEMO_E_UNSUPPORTED for a custom score without jvp.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mnemo_score_jvp(
    score: *const mnemo_score,
    x: *const mnemo_tensor,
    t: *const mnemo_tensor,
    v: *const mnemo_tensor,
    out: *mut mnemo_tensor,
    exec: *const mnemo_exec,
    err: *mut mnemo_error,
) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(err, || {
            // The call's own share: a callback may release the handle.
            let score = required("score", score)?.score.clone();
            let engine = score.engine();
            with_exec(exec, engine, is_on_host(x), |exec| {
                let x = real_matrix("x", x, score.dim(), engine)?;
                let t = times(t, x.rows(), engine)?;
                let v = input("v", v, engine)?;
                super::tensor::expect_dtype("v", v.dtype(), &[x.dtype()])?;
                if (v.rows(), v.cols()) != (x.rows(), x.cols()) {
                    return Err(Error::shape(format!(
                        "v: {} x {}; it must be of the shape of x, {} x {}",
                        v.rows(),
                        v.cols(),
                        x.rows(),
                        x.cols()
                    )));
                }
                let mut out = output("out", out, (x.rows(), x.cols()), &[x.dtype()], engine)?
                    .ok_or_else(|| Error::invalid("out is NULL"))?;
                let product = score.jvp(&engine.load("x", x)?, &t, &engine.load("v", v)?, grade(x.dtype()), exec)?;
                check_range("out", engine, &product, &out)?;
                engine.store(&product, &mut out)
            })
        })
    }
}

/// Releases `score`; NULL is ignored.
///
/// Threads: any. Errors: none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mnemo_score_release(score: *mut mnemo_score) {
    // SAFETY: as above.
    unsafe { take_back(score) }
}
