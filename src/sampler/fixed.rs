//! The solvers that step over a given grid. Unprimed symbols belong to the present node, primed ones to the next.

use super::{Estimate, Model, Observer, Options, Solver};
use crate::engine::Factor::All;
use crate::error::{Error, Result, try_vec};
use crate::process::Marginal;
use crate::random::{Purpose, Stream};
use crate::tensor::{LARGEST, Matrix};

/// What a multistep rule remembers.
struct Previous {
    denoised: Matrix,
    /// λ' - λ of the step before, λ = ln(m/σ).
    step: f64,
}

/// Steps `x` over `nodes` (see [`super::grid::nodes`]).
pub fn run(
    model: &Model<'_, '_>,
    options: &Options,
    nodes: &[f64],
    mut x: Matrix,
    mut observer: Option<&mut Observer<'_>>,
) -> Result<Matrix> {
    let total = nodes.len() - 1;
    let mut previous = None;
    for (i, w) in nodes.windows(2).enumerate() {
        model.exec.report(i as u64, total as u64)?;
        let stepper = Stepper { model, options, step: i, total, t: w[0], p: model.score.process().eval(w[0])? };
        let end = w[1].is_nan();
        x = if end { stepper.denoise(x)? } else { stepper.step(x, w[1], &mut previous)? };
        if let Some(row) = model.score.engine().first_beyond(&x, LARGEST) {
            return Err(Error::invalid(format!(
                "solver {:?}: sample {row} is beyond {LARGEST:e} after step {i} (t = {:?}); use more steps",
                options.solver, w[0]
            )));
        }
        if let Some(observe) = observer.as_mut() {
            observe(i as u64 + 1, if end { 0.0 } else { w[1] }, &x)?;
        }
    }
    model.exec.report(total as u64, total as u64)?;
    Ok(x)
}

struct Stepper<'a, 'e> {
    model: &'a Model<'a, 'e>,
    options: &'a Options,
    step: usize,
    total: usize,
    t: f64,
    p: Marginal,
}

impl Stepper<'_, '_> {
    fn step(&self, x: Matrix, next: f64, previous: &mut Option<Previous>) -> Result<Matrix> {
        let q = self.model.score.process().eval(next)?;
        match self.options.solver {
            Solver::Euler => self.euler(x, next),
            Solver::Heun => self.heun(x, next),
            Solver::Exponential => self.ancestral(x, q, self.options.eta.unwrap_or(0.0)),
            Solver::Ancestral => self.ancestral(x, q, self.options.eta.unwrap_or(1.0)),
            Solver::DpmPp2m => self.dpm_pp_2m(x, q, previous),
            Solver::EulerMaruyama => self.euler_maruyama(x, next, self.options.alpha2.unwrap_or(1.0)),
            Solver::EdmStochastic => self.edm_stochastic(x, next, q),
            Solver::Rk45 => unreachable!("RK45 has no grid"),
        }
    }

    fn times(&self, x: &Matrix, t: f64) -> Result<Vec<f64>> {
        try_vec(x.rows(), t, "one time per sample")
    }

    fn slope(&self, x: &Matrix, t: f64) -> Result<Matrix> {
        self.model.slope(x, &self.times(x, t)?)
    }

    fn estimate(&self, x: &Matrix) -> Result<Estimate> {
        self.model.estimate(x, &self.times(x, self.t)?)
    }

    /// x̂0.
    fn denoised(&self, x: &Matrix) -> Result<Matrix> {
        self.model.denoised(x, &self.times(x, self.t)?)
    }

    /// The last step, to σ = 0: x ← x̂0, after churn where the solver has it.
    fn denoise(&self, x: Matrix) -> Result<Matrix> {
        if self.options.solver != Solver::EdmStochastic {
            return self.denoised(&x);
        }
        let (y, t_hat, p_hat) = self.churn(x)?;
        let x = self.combine(y, p_hat.m, &[]);
        self.model.denoised(&x, &self.times(&x, t_hat)?)
    }

    /// x ← a x + Σ c · matrix.
    fn combine(&self, mut x: Matrix, a: f64, terms: &[(f64, &Matrix)]) -> Matrix {
        let terms: Vec<_> = terms.iter().map(|(c, m)| (All(*c), *m)).collect();
        self.model.score.engine().combine(&mut x, Some(All(a)), &terms);
        x
    }

    fn add_noise(&self, x: &mut Matrix, scale: f64, purpose: Purpose) {
        let stream = Stream { seed: self.model.exec.seed, purpose, step: self.step as u32 };
        self.model.score.engine().add_normal(x, All(scale), stream, self.options.first_sample);
    }

    /// x' = x + (t' - t) dx/dt.
    fn euler(&self, x: Matrix, next: f64) -> Result<Matrix> {
        let slope = self.slope(&x, self.t)?;
        Ok(self.combine(x, 1.0, &[(next - self.t, &slope)]))
    }

    /// The trapezoid with Euler's x' in its second slope.
    fn heun(&self, x: Matrix, next: f64) -> Result<Matrix> {
        let h = next - self.t;
        let slope = self.slope(&x, self.t)?;
        let ahead = self.combine(x, 1.0, &[(h, &slope)]);
        let slope_ahead = self.slope(&ahead, next)?;
        Ok(self.combine(ahead, 1.0, &[(-0.5 * h, &slope), (0.5 * h, &slope_ahead)]))
    }

    /// The posterior of x' given x and x̂0, with η times its noise: ς = η σ' s/σ, s² = σ² - (m/m')² σ'².
    fn ancestral(&self, x: Matrix, q: Marginal, eta: f64) -> Result<Matrix> {
        let Marginal { m, sigma, .. } = self.p;
        let Estimate { denoised, score } = self.estimate(&x)?;
        let s2 = (sigma * sigma - (m / q.m).powi(2) * q.sigma * q.sigma).max(0.0);
        let noise = eta * q.sigma * s2.sqrt() / sigma;
        let kept = (q.sigma * q.sigma - noise * noise).max(0.0).sqrt();
        let mut x = self.combine(x, 0.0, &[(q.m, &denoised), (-kept * sigma, &score)]);
        if noise > 0.0 {
            self.add_noise(&mut x, noise, Purpose::Step);
        }
        Ok(x)
    }

    /// x' = (σ'/σ) x - m' (e^{-h} - 1) D, h = λ' - λ, D extrapolated from the last two x̂0 to the middle of the step.
    fn dpm_pp_2m(&self, x: Matrix, q: Marginal, previous: &mut Option<Previous>) -> Result<Matrix> {
        let denoised = self.denoised(&x)?;
        // From m = 0 (the flow at t = 1) h is infinite: the step is first order and is not remembered as a slope.
        let h = (q.m / q.sigma).ln() - (self.p.m / self.p.sigma).ln();
        let weight = -q.m * (-h).exp_m1();
        let kept = q.sigma / self.p.sigma;
        let x = match previous.take() {
            Some(Previous { denoised: before, step }) if step.is_finite() => {
                let half = 0.5 * h / step;
                self.combine(x, kept, &[(weight * (1.0 + half), &denoised), (-weight * half, &before)])
            }
            _ => self.combine(x, kept, &[(weight, &denoised)]),
        };
        *previous = Some(Previous { denoised, step: h });
        Ok(x)
    }

    /// x' = x + (t' - t) (m' x̂0 + σ' ε̂ - ½ α2 g s) + √(α2 g (t - t')) z.
    fn euler_maruyama(&self, x: Matrix, next: f64, alpha2: f64) -> Result<Matrix> {
        let g = if alpha2 == 0.0 { 0.0 } else { self.p.g };
        if !g.is_finite() {
            return Err(Error::invalid(format!(
                "t_start is {:?}, where the process's g is infinite; an SDE starts at an earlier time",
                self.t
            )));
        }
        let h = next - self.t;
        let (m_rate, sigma_rate) = self.model.score.process().derivative(self.t)?;
        let Estimate { denoised, score } = self.estimate(&x)?;
        let on_score = -sigma_rate * self.p.sigma - 0.5 * alpha2 * g;
        let mut x = self.combine(x, 1.0, &[(h * m_rate, &denoised), (h * on_score, &score)]);
        if alpha2 > 0.0 {
            self.add_noise(&mut x, (alpha2 * g * -h).sqrt(), Purpose::Step);
        }
        Ok(x)
    }

    /// y = x/m at the noise level r = σ/m raised by γ, with the time and the marginal of that level.
    fn churn(&self, x: Matrix) -> Result<(Matrix, f64, Marginal)> {
        let process = self.model.score.process();
        let o = self.options;
        if self.p.m == 0.0 {
            return Err(Error::invalid(format!(
                "t_start is {:?}, where m = 0 and EDM_STOCHASTIC's sigma/m is infinite; start earlier",
                self.t
            )));
        }
        let r = self.p.sigma / self.p.m;
        let churned = (o.s_churn / self.total as f64).min(std::f64::consts::SQRT_2 - 1.0);
        let gamma = if (o.s_min..=o.s_max).contains(&r) { churned } else { 0.0 };
        let mut y = self.combine(x, 1.0 / self.p.m, &[]);
        if gamma == 0.0 {
            return Ok((y, self.t, self.p));
        }
        let top = process.eval(process.t_end())?;
        // Not above the process's own largest noise level.
        let t_hat = process.time_of_ratio((r * (1.0 + gamma)).min(top.sigma / top.m))?;
        let p_hat = process.eval(t_hat)?;
        let r_hat = p_hat.sigma / p_hat.m;
        self.add_noise(&mut y, o.s_noise * (r_hat * r_hat - r * r).max(0.0).sqrt(), Purpose::Churn);
        Ok((y, t_hat, p_hat))
    }

    /// Raises the noise level, then one Heun step in y = x/m over r = σ/m.
    fn edm_stochastic(&self, x: Matrix, next: f64, q: Marginal) -> Result<Matrix> {
        let (y, t_hat, p_hat) = self.churn(x)?;
        let (r_hat, r_next) = (p_hat.sigma / p_hat.m, q.sigma / q.m);
        // dy/dr = ε̂ = -σ s, evaluated at x = m y.
        let slope = |y: &Matrix, t: f64, p: Marginal| -> Result<Matrix> {
            let x = self.scaled(y, p.m)?;
            let Estimate { score, .. } = self.model.estimate(&x, &self.times(&x, t)?)?;
            Ok(self.combine(score, -p.sigma, &[]))
        };
        let h = r_next - r_hat;
        let first = slope(&y, t_hat, p_hat)?;
        let ahead = self.combine(y, 1.0, &[(h, &first)]);
        let second = slope(&ahead, next, q)?;
        let y = self.combine(ahead, 1.0, &[(-0.5 * h, &first), (0.5 * h, &second)]);
        Ok(self.combine(y, q.m, &[]))
    }

    fn scaled(&self, y: &Matrix, factor: f64) -> Result<Matrix> {
        let engine = self.model.score.engine();
        let mut x = engine.zeros(y.rows(), y.cols())?;
        engine.combine(&mut x, None, &[(All(factor), y)]);
        Ok(x)
    }
}
