//! Sampling: integrating the reverse process.

use super::exec::{mnemo_exec, with_exec};
use super::score::{grade, mnemo_score};
use super::status::mnemo_error;
use super::tensor::{check_range, is_on_host, lend, mnemo_tensor, output};
use super::{Sized32, array, count, flag, guard, initialise, read_sized, required, reserved};
use crate::error::{Error, Result, try_collect, try_vec};
use crate::sampler::{Grid, Options, Solver, sample};
use crate::tensor::{Dtype, Matrix, Place, View, ViewMut};
use std::ffi::c_void;

/// Solver: explicit Euler on the ODE dx/dt = -beta/2 x - g/2 s.
pub const MNEMO_SOLVER_EULER: u32 = 0;
/// Solver: Heun's second-order rule on the ODE (Karras et al. 2022, Alg. 1). Two evaluations per step.
pub const MNEMO_SOLVER_HEUN: u32 = 1;
/// Solver: x <- m' x0 + sigma' eps, exact for a constant denoised value: the DDIM step (Song et al. 2021). With eta >
/// 0, DDIM's stochastic form.
pub const MNEMO_SOLVER_EXPONENTIAL: u32 = 2;
/// Solver: DPM-Solver++(2M) (Lu et al. 2022). Second order, one evaluation per step.
pub const MNEMO_SOLVER_DPMPP_2M: u32 = 3;
/// Solver: Dormand-Prince 5(4) on the ODE; step size and error test (rtol, atol; root mean square over a row) per
/// sample.
pub const MNEMO_SOLVER_RK45: u32 = 4;
/// Solver: Euler-Maruyama on the SDE, drift -beta/2 x - (1 + alpha2)/2 g s and noise sqrt(alpha2 g) (reg 2.10).
pub const MNEMO_SOLVER_EULER_MARUYAMA: u32 = 5;
/// Solver: the posterior of the next state given the denoised value, with eta times its noise: DDPM (Ho et al. 2020).
pub const MNEMO_SOLVER_ANCESTRAL: u32 = 6;
/// Solver: Karras et al. 2022, Alg. 2 (s_churn, s_min, s_max, s_noise), in the frame x/m, sigma/m.
pub const MNEMO_SOLVER_EDM_STOCHASTIC: u32 = 7;

/// Grid: equal steps in t.
pub const MNEMO_GRID_UNIFORM_T: u32 = 0;
/// Grid: equal steps in log sigma.
pub const MNEMO_GRID_UNIFORM_S: u32 = 1;
/// Grid: equal steps in (sigma/m)^(1/rho) (Karras et al. 2022, Eq. 5). sigma/m must be finite at t_start: not the
/// flow's 1.
pub const MNEMO_GRID_KARRAS: u32 = 2;
/// Grid: the caller's `times`.
pub const MNEMO_GRID_CUSTOM: u32 = 3;

/// How to sample. The initial values are EDM's deterministic sampler: HEUN, KARRAS, 18 steps, rho = 7.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct mnemo_sampler_options {
    /// sizeof(mnemo_sampler_options).
    pub struct_size: u32,
    /// MNEMO_SOLVER_…; initially MNEMO_SOLVER_HEUN.
    pub solver: u32,
    /// MNEMO_GRID_…; initially MNEMO_GRID_KARRAS. Not looked at by RK45, but for a custom grid, at whose nodes it
    /// stops.
    pub grid: u32,
    /// 1: start from sigma(t_start) z, z standard normal, which fits where m(t_start) y is small beside sigma; 0
    /// (initially): start from the caller's x.
    pub from_prior: u32,
    /// 1: end with x <- denoised(x, last time); initially 0. For a regularized score that is its own denoised value,
    /// which moves x by a share sigma^2 / (sigma^2 + c) (Tikhonov) or min(1, p/c) (empirical Bayes) of the way only.
    pub denoise_last: u32,
    /// 0.
    pub reserved: u32,
    /// Number of steps, the denoising one included: with denoise_last = 1 EDM's 18 steps are 17 between 18 noise levels
    /// and one to 0. Initially 18. Not looked at by RK45 or with a custom grid.
    pub steps: i64,
    /// Index in the random stream of the first row of x: a batch that is split continues with the index of its part.
    /// Initially 0.
    pub first_sample: i64,
    /// First time; NaN (initially) means the process's last, T.
    pub t_start: f64,
    /// Last time at which the score is evaluated, where sigma > 0; NaN (initially) means that of sigma = 0.002, or the
    /// process's first.
    pub t_end: f64,
    /// alpha2 >= 0 of the SDE, for EULER_MARUYAMA; NaN (initially) means 1 there. The ODE solvers accept 0 only;
    /// ANCESTRAL and EDM_STOCHASTIC have their own noise and do not look at it.
    pub alpha2: f64,
    /// eta in [0, 1] of EXPONENTIAL (NaN, initially, means 0) and ANCESTRAL (NaN means 1).
    pub eta: f64,
    /// Relative tolerance of RK45; initially 1e-5.
    pub rtol: f64,
    /// Absolute tolerance of RK45; initially 1e-5.
    pub atol: f64,
    /// rho of the Karras grid; initially 7.
    pub rho: f64,
    /// S_churn of EDM_STOCHASTIC; initially 0.
    pub s_churn: f64,
    /// S_min: no churn below this sigma/m; initially 0.
    pub s_min: f64,
    /// S_max: no churn above this sigma/m; initially infinity.
    pub s_max: f64,
    /// S_noise: standard deviation of the churn noise; initially 1.
    pub s_noise: f64,
    /// The nodes of a custom grid, strictly falling; a last node of 0, where sigma is 0, means a denoising step.
    pub times: *const f64,
    /// How many.
    pub times_count: i64,
    /// Called after each step, and before the first with step = 0, with the time reached (0 after a denoising step;
    /// RK45: that of the slowest sample) and the state [batch, dim] in the element type of x and in memory of its kind
    /// (a device's is for work that is queued on the stream before the observer returns); on the thread that made the call. A non-zero result stops the call with MNEMO_E_CALLBACK. Or NULL.
    pub observer: Option<unsafe extern "C" fn(user: *mut c_void, step: u64, t: f64, x: *const mnemo_tensor) -> i32>,
    /// Passed to `observer`.
    pub observer_user: *mut c_void,
}

// SAFETY: repr(C), size first, no padding, any bytes are valid (a non-zero function pointer is the caller's promise).
unsafe impl Sized32 for mnemo_sampler_options {
    fn initial() -> Self {
        let o = Options::default();
        Self {
            struct_size: size_of::<Self>() as u32,
            solver: MNEMO_SOLVER_HEUN,
            grid: MNEMO_GRID_KARRAS,
            from_prior: 0,
            denoise_last: 0,
            reserved: 0,
            steps: o.steps as i64,
            first_sample: 0,
            t_start: f64::NAN,
            t_end: f64::NAN,
            alpha2: f64::NAN,
            eta: f64::NAN,
            rtol: o.rtol,
            atol: o.atol,
            rho: o.rho,
            s_churn: o.s_churn,
            s_min: o.s_min,
            s_max: o.s_max,
            s_noise: o.s_noise,
            times: std::ptr::null(),
            times_count: 0,
            observer: None,
            observer_user: std::ptr::null_mut(),
        }
    }
}

impl mnemo_sampler_options {
    /// # Safety
    /// `times` is valid.
    unsafe fn read(&self) -> Result<Options> {
        reserved("options", self.reserved)?;
        let given = |v: f64| (!v.is_nan()).then_some(v);
        Ok(Options {
            solver: match self.solver {
                MNEMO_SOLVER_EULER => Solver::Euler,
                MNEMO_SOLVER_HEUN => Solver::Heun,
                MNEMO_SOLVER_EXPONENTIAL => Solver::Exponential,
                MNEMO_SOLVER_DPMPP_2M => Solver::DpmPp2m,
                MNEMO_SOLVER_RK45 => Solver::Rk45,
                MNEMO_SOLVER_EULER_MARUYAMA => Solver::EulerMaruyama,
                MNEMO_SOLVER_ANCESTRAL => Solver::Ancestral,
                MNEMO_SOLVER_EDM_STOCHASTIC => Solver::EdmStochastic,
                other => {
                    return Err(Error::invalid(format!(
                        "solver is {other}; it is one of MNEMO_SOLVER_EULER … MNEMO_SOLVER_EDM_STOCHASTIC (0 … 7)"
                    )));
                }
            },
            grid: match self.grid {
                MNEMO_GRID_UNIFORM_T => Grid::UniformT,
                MNEMO_GRID_UNIFORM_S => Grid::UniformS,
                MNEMO_GRID_KARRAS => Grid::Karras,
                MNEMO_GRID_CUSTOM => {
                    // SAFETY: the caller's promise.
                    let times = unsafe { array("times", self.times, "times_count", self.times_count) }?;
                    Grid::Custom(try_collect(times.len(), times.iter().map(|&t| Ok(t)), "times")?)
                }
                other => {
                    return Err(Error::invalid(format!(
                        "grid is {other}; it is one of MNEMO_GRID_UNIFORM_T … MNEMO_GRID_CUSTOM (0 … 3)"
                    )));
                }
            },
            steps: count("steps", self.steps)?,
            t_start: given(self.t_start),
            t_end: given(self.t_end),
            alpha2: given(self.alpha2),
            eta: given(self.eta),
            rtol: self.rtol,
            atol: self.atol,
            rho: self.rho,
            s_churn: self.s_churn,
            s_min: self.s_min,
            s_max: self.s_max,
            s_noise: self.s_noise,
            from_prior: flag("from_prior", self.from_prior)?,
            denoise_last: flag("denoise_last", self.denoise_last)?,
            first_sample: count("first_sample", self.first_sample)? as u64,
        })
    }
}

/// Fills `options` with its initial values; `size` is sizeof *options.
///
/// Threads: any. Errors: none; NULL is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mnemo_sampler_options_init(options: *mut mnemo_sampler_options, size: usize) {
    // SAFETY: the caller's promises; so throughout this file.
    unsafe { initialise(options, size) }
}

/// Integrates the reverse process of `score` from t_start to t_end. `x_inout` [batch, dim] (F32 or F64) holds the
/// initial states, unless from_prior = 1, and receives the samples. `options` may be NULL.
///
/// The state is float64. A sample's bits depend on its initial state, its index (first_sample + row), exec->seed and
/// the options, not on the batch it is in nor on the number of threads. Memory: a few times x in float64.
///
/// Threads: any. Errors: MNEMO_E_INVALID, MNEMO_E_SHAPE, MNEMO_E_DTYPE, MNEMO_E_DEVICE, MNEMO_E_NOMEM,
/// MNEMO_E_CANCELLED, MNEMO_E_CALLBACK, MNEMO_E_UNSUPPORTED, MNEMO_E_IO (rows in a file). On failure x_inout is untouched.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mnemo_sample(
    score: *const mnemo_score,
    options: *const mnemo_sampler_options,
    x_inout: *mut mnemo_tensor,
    exec: *const mnemo_exec,
    err: *mut mnemo_error,
) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(err, || {
            // The call's own share: a callback may release the handle.
            let score = required("score", score)?.score.clone();
            let raw = read_sized("options", options)?;
            let options = raw.read()?;
            let engine = score.engine();
            // RK45 waits for every step, and one sample of NaN would end it for all.
            let waits = is_on_host(x_inout) || options.solver == Solver::Rk45;
            with_exec(exec, engine, waits, |exec| {
                let given = required("x_inout", x_inout)?;
                let batch = usize::try_from(given.rows)
                    .map_err(|_| Error::shape(format!("x_inout: rows is {}; it must not be negative", given.rows)))?;
                let mut x = output("x_inout", x_inout, (batch, score.dim()), &[Dtype::F32, Dtype::F64], engine)?
                    .ok_or_else(|| Error::invalid("x_inout is NULL"))?;
                let dtype = x.view().dtype();
                let start = if options.from_prior {
                    engine.zeros(batch, score.dim())?
                } else {
                    engine.load("x_inout", x.view())?
                };
                let mut observe = |step: u64, t: f64, state: &Matrix| {
                    let Some(f) = raw.observer else { return Ok(()) };
                    let tell = |state: View<'_>| {
                        let seen = lend(&state, engine.device());
                        match f(raw.observer_user, step, t, &raw const seen) {
                            0 => Ok(()),
                            native => Err(Error::Callback {
                                message: format!(
                                    "the observer callback returned {native} at step {step}; 0 means go on"
                                ),
                                native,
                            }),
                        }
                    };
                    // In the memory where the caller keeps x.
                    if x.view().place() == Place::Cuda {
                        let mut copy = engine.zeros(batch, score.dim())?;
                        let mut view = engine.lend(&mut copy, dtype);
                        engine.store(state, &mut view)?;
                        return tell(view.view());
                    }
                    let len = batch * score.dim();
                    let (mut single, mut double): (Vec<f32>, Vec<f64>);
                    let mut view = if dtype == Dtype::F32 {
                        single = try_vec(len, 0.0, "observer's state")?;
                        ViewMut::new(&mut single, batch, score.dim())
                    } else {
                        double = try_vec(len, 0.0, "observer's state")?;
                        ViewMut::new(&mut double, batch, score.dim())
                    };
                    engine.store(state, &mut view)?;
                    tell(view.view())
                };
                let observer = raw.observer.is_some().then_some(&mut observe as &mut crate::sampler::Observer<'_>);
                let end = sample(&*score, &options, start, grade(dtype), observer, exec)?;
                check_range("x_inout", engine, &end, &x)?;
                engine.store(&end, &mut x)
            })
        })
    }
}
