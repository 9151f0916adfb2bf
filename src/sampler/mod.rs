//! Integrating the reverse process from noise to samples (reg 2.10):
//!
//! dx/dt = m' x̂0 + σ' ε̂ for the ODE, with the extra drift and noise of α2 for the SDE, t falling from `t_start` to `t_end`.
//!
//! x̂0 and ε̂ = -σ s are the model's denoised value and noise; this form equals -½βx - ½gs and stays finite where β does
//! not (the flow at t = 1). The state is float64.

mod blocks;
mod fixed;
pub mod grid;
mod rk45;

use crate::engine::Factor::{self, All};
use crate::engine::{Grade, Noise, SharedEngine};
use crate::error::{Error, Result};
use crate::exec::{Exec, Trail};
use crate::random::{Purpose, SAMPLES, Stream};
use crate::score::{ScoreModel, Scratch, Step, Terms};
use crate::tensor::Matrix;
pub use grid::Grid;
use std::cell::RefCell;

/// The rule for one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Solver {
    /// Explicit Euler on the ODE in t.
    Euler,
    /// Heun's second-order rule on the ODE in t (Karras et al. 2022, Alg. 1).
    Heun,
    /// x ← m' x̂0 + √(σ'² - ς²) ε̂ + ς z: exact for constant x̂0; DDIM (Song et al. 2021), η = 0 unless given.
    Exponential,
    /// DPM-Solver++(2M) (Lu et al. 2022): second order, one evaluation per step.
    DpmPp2m,
    /// Dormand–Prince 5(4) on the ODE in t, with error control and step size per sample.
    Rk45,
    /// Euler–Maruyama on the reverse SDE with any α2; α2 = 1 unless given.
    EulerMaruyama,
    /// The step of `Exponential` with η = 1 unless given: DDPM (Ho et al. 2020).
    Ancestral,
    /// Karras et al. 2022, Alg. 2, in the frame x/m, σ/m.
    EdmStochastic,
}

/// How to sample. `Default` gives EDM's deterministic sampler.
#[derive(Clone, Debug)]
pub struct Options {
    /// The rule for one step.
    pub solver: Solver,
    /// Where the nodes lie; not used by RK45.
    pub grid: Grid,
    /// Number of steps, the denoising one included; not used by RK45 or a custom grid.
    pub steps: usize,
    /// First time; the process's T if `None`.
    pub t_start: Option<f64>,
    /// Last time at which the score is evaluated; the time of σ = 0.002, or the process's first, if `None`.
    pub t_end: Option<f64>,
    /// α2 of the SDE; the solver's own if `None`.
    pub alpha2: Option<f64>,
    /// η of the exponential and ancestral steps; the solver's own if `None`.
    pub eta: Option<f64>,
    /// Relative tolerance of RK45.
    pub rtol: f64,
    /// Absolute tolerance of RK45.
    pub atol: f64,
    /// ρ of the Karras grid.
    pub rho: f64,
    /// S_churn of EDM's stochastic sampler.
    pub s_churn: f64,
    /// S_min: σ/m below which there is no churn.
    pub s_min: f64,
    /// S_max: σ/m above which there is no churn.
    pub s_max: f64,
    /// S_noise: the churn noise's standard deviation.
    pub s_noise: f64,
    /// Start from σ(t_start) z instead of the caller's x.
    pub from_prior: bool,
    /// End with x ← x̂0 at the last time.
    pub denoise_last: bool,
    /// Index of the first sample in the random stream, so that a batch can be split.
    pub first_sample: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            solver: Solver::Heun,
            grid: Grid::Karras,
            steps: 18,
            t_start: None,
            t_end: None,
            alpha2: None,
            eta: None,
            rtol: 1e-5,
            atol: 1e-5,
            rho: 7.0,
            s_churn: 0.0,
            s_min: 0.0,
            s_max: f64::INFINITY,
            s_noise: 1.0,
            from_prior: false,
            denoise_last: false,
            first_sample: 0,
        }
    }
}

/// Sees the state after each step: (step, t, x) → whether to go on; step 0 is the start.
pub type Observer<'a> = dyn FnMut(u64, f64, &Matrix) -> Result<()> + 'a;

/// The score as the solvers use it.
struct Model<'a, 'e> {
    score: &'a dyn ScoreModel,
    grade: Grade,
    exec: &'a Exec<'e>,
    /// The index in the caller's batch of the first sample here.
    first_row: usize,
    scratch: RefCell<Scratch>,
    trail: Trail,
}

impl Model<'_, '_> {
    fn engine(&self) -> &SharedEngine {
        self.score.engine()
    }

    /// out ← a x + b x̂0 + c s + noise; ε̂ = -σ s.
    fn combine(&self, out: &mut Matrix, x: &Matrix, t: Factor<'_>, terms: Terms<'_>) -> Result<()> {
        let scratch = &mut *self.scratch.borrow_mut();
        let step = Step { x, t, terms, grade: self.grade };
        self.exec.within(Some(&self.trail), |exec| self.score.combine(out, step, exec, scratch))
    }

    /// out ← x̂0.
    fn denoised(&self, out: &mut Matrix, x: &Matrix, t: f64) -> Result<()> {
        self.combine(out, x, All(t), Terms { x: All(0.0), denoised: All(1.0), score: All(0.0), noise: None })
    }

    /// b and c of dx/dt = b x̂0 + c s, of the probability-flow ODE: m' and -σ' σ. Where m does not move (VE) the denoised
    /// value is not needed, and is not computed.
    fn flow(&self, t: f64) -> Result<(f64, f64)> {
        let (p, (m_rate, sigma_rate)) = self.score.process().eval_with_derivative(t)?;
        Ok((m_rate, -sigma_rate * p.sigma))
    }
}

/// Samples: `x` `[batch, dim]` is the initial state (ignored with `from_prior`); the result is the state at the end.
///
/// A sample's bits depend on its own state, index and the options, not on the batch it is in nor on the thread count.
pub fn sample(
    score: &dyn ScoreModel,
    options: &Options,
    mut x: Matrix,
    grade: Grade,
    mut observer: Option<&mut Observer<'_>>,
    exec: &Exec<'_>,
) -> Result<Matrix> {
    check(options, x.rows())?;
    let nodes = grid::nodes(score.process(), options, exec)?;
    let start = score.process().eval(nodes[0])?;
    if options.from_prior {
        let stream = Stream { seed: exec.seed, purpose: Purpose::Prior, step: 0 };
        let noise = Noise { factor: start.sigma, stream, first_sample: options.first_sample };
        score.engine().combine(&mut x, None, &[], Some(noise))?;
    }
    if let Some(observe) = observer.as_mut() {
        observe(0, nodes[0], &x)?;
    }
    let threads = score.engine().threads();
    // Few enough that one thread's part stays in its cache; more parts than threads, because samples are not all as hard.
    const LEAST_BLOCK: usize = 64;
    const MOST_BLOCK: usize = 512;
    let block = x.rows().div_ceil(2 * threads).clamp(LEAST_BLOCK, MOST_BLOCK);
    if observer.is_none() && score.is_quick() && threads > 1 && x.rows() > block {
        blocks::run(score, options, &nodes, x, grade, exec, block)
    } else {
        run(score, options, &nodes, x, grade, observer, exec, 0)
    }
}

/// Takes `x`, the samples from `first_row` of the batch on, over the nodes.
#[allow(clippy::too_many_arguments)]
fn run(
    score: &dyn ScoreModel,
    options: &Options,
    nodes: &[f64],
    x: Matrix,
    grade: Grade,
    observer: Option<&mut Observer<'_>>,
    exec: &Exec<'_>,
    first_row: usize,
) -> Result<Matrix> {
    let trail = Trail::new(x.rows())?;
    let model = Model { score, grade, exec, first_row, scratch: RefCell::default(), trail };
    match options.solver {
        Solver::Rk45 => rk45::run(&model, options, nodes, x, observer),
        _ => fixed::run(&model, options, nodes, x, observer),
    }
}

fn check(o: &Options, batch: usize) -> Result<()> {
    let finite = |name: &str, v: f64, least: f64| {
        if v.is_finite() && v >= least {
            Ok(())
        } else {
            Err(Error::invalid(format!("{name} is {v:?}; it must be finite and at least {least:?}")))
        }
    };
    if let Some(a) = o.alpha2 {
        finite("alpha2", a, 0.0)?;
        let ode =
            matches!(o.solver, Solver::Euler | Solver::Heun | Solver::Exponential | Solver::DpmPp2m | Solver::Rk45);
        if a != 0.0 && ode {
            return Err(Error::unsupported(format!(
                "alpha2 is {a:?} with solver {:?}, which integrates the ODE (alpha2 = 0); EULER_MARUYAMA takes any alpha2",
                o.solver
            )));
        }
    }
    if let Some(eta) = o.eta {
        finite("eta", eta, 0.0)?;
        if eta > 1.0 {
            return Err(Error::invalid(format!("eta is {eta:?}; it must lie in [0, 1]")));
        }
    }
    if o.solver == Solver::Rk45 {
        finite("rtol", o.rtol, 0.0)?;
        finite("atol", o.atol, 0.0)?;
        if o.rtol == 0.0 && o.atol == 0.0 {
            return Err(Error::invalid("rtol and atol are both 0; one must be positive"));
        }
    }
    if o.solver == Solver::EdmStochastic {
        finite("s_churn", o.s_churn, 0.0)?;
        finite("s_min", o.s_min, 0.0)?;
        finite("s_noise", o.s_noise, 0.0)?;
        if o.s_max.is_nan() || o.s_max < o.s_min {
            return Err(Error::invalid(format!("s_max is {:?}; it must be at least s_min = {:?}", o.s_max, o.s_min)));
        }
    }
    if o.first_sample.saturating_add(batch as u64) > SAMPLES {
        return Err(Error::invalid(format!(
            "first_sample is {} with {batch} samples; sample indices must be below 2^56",
            o.first_sample
        )));
    }
    Ok(())
}
