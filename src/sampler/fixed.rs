//! The solvers that step over a given grid. Unprimed symbols belong to the present node, primed ones to the next.

use super::{Model, Observer, Options, Solver};
use crate::engine::{Factor::All, Noise};
use crate::error::{Error, Result};
use crate::process::Marginal;
use crate::random::{Purpose, Stream};
use crate::score::Terms;
use crate::tensor::{LARGEST, Matrix};
use std::mem::swap;

/// Steps `x` over `nodes` (see [`super::grid::nodes`]).
pub fn run(
    model: &Model<'_, '_>,
    options: &Options,
    nodes: &[f64],
    x: Matrix,
    mut observer: Option<&mut Observer<'_>>,
) -> Result<Matrix> {
    let total = nodes.len() - 1;
    let zeros = || model.engine().zeros(x.rows(), x.cols());
    let (next, slope, third) = (zeros()?, zeros()?, zeros()?);
    let mut state = State { x, next, slope, third, step: None };
    for (i, w) in nodes.windows(2).enumerate() {
        model.exec.report(i as u64, total as u64)?;
        let stepper = Stepper { model, options, step: i, total, t: w[0], p: model.score.process().eval(w[0])? };
        let end = w[1].is_nan();
        if end { stepper.denoise(&mut state) } else { stepper.step(&mut state, w[1]) }?;
        if let Some(row) = model.engine().first_beyond(&state.x, LARGEST)? {
            return Err(Error::invalid(format!(
                "solver {:?}: sample {} is beyond {LARGEST:e} after step {i} (t = {:?}); use more steps",
                options.solver,
                model.first_row + row,
                w[0]
            )));
        }
        if let Some(observe) = observer.as_mut() {
            observe(i as u64 + 1, if end { 0.0 } else { w[1] }, &state.x)?;
        }
    }
    model.exec.report(total as u64, total as u64)?;
    Ok(state.x)
}

/// The samples, and room for what a step makes of them: no step needs memory of its own.
struct State {
    x: Matrix,
    /// Where x' grows.
    next: Matrix,
    slope: Matrix,
    /// A second slope, or what a multistep rule remembers: the x̂0 of the step before.
    third: Matrix,
    /// λ' - λ of the step before, λ = ln(m/σ).
    step: Option<f64>,
}

struct Stepper<'a, 'e> {
    model: &'a Model<'a, 'e>,
    options: &'a Options,
    step: usize,
    total: usize,
    t: f64,
    p: Marginal,
}

/// b x̂0 + c s.
fn of_model((b, c): (f64, f64)) -> Terms<'static> {
    Terms { x: All(0.0), denoised: All(b), score: All(c), noise: None }
}

impl Stepper<'_, '_> {
    fn step(&self, state: &mut State, next: f64) -> Result<()> {
        let q = self.model.score.process().eval(next)?;
        match self.options.solver {
            Solver::Euler => self.euler(state, next),
            Solver::Heun => self.heun(state, next),
            Solver::Exponential => self.ancestral(state, q, self.options.eta.unwrap_or(0.0)),
            Solver::Ancestral => self.ancestral(state, q, self.options.eta.unwrap_or(1.0)),
            Solver::DpmPp2m => self.dpm_pp_2m(state, q),
            Solver::EulerMaruyama => self.euler_maruyama(state, next, self.options.alpha2.unwrap_or(1.0)),
            Solver::EdmStochastic => self.edm_stochastic(state, next, q),
            Solver::Rk45 => unreachable!("RK45 has no grid"),
        }
    }

    /// x ← a x + Σ c · matrix.
    fn add<const N: usize>(&self, x: &mut Matrix, a: f64, terms: [(f64, &Matrix); N]) -> Result<()> {
        self.model.engine().combine(x, Some(All(a)), &terms.map(|(c, m)| (All(c), m)), None)
    }

    /// The noise of this step, with a standard deviation of `factor`.
    fn noise(&self, factor: f64, purpose: Purpose) -> Noise {
        let stream = Stream { seed: self.model.exec.seed, purpose, step: self.step as u32 };
        Noise { factor, stream, first_sample: self.options.first_sample + self.model.first_row as u64 }
    }

    /// x ← a x + b x̂0 + c s + noise.
    fn advance(&self, state: &mut State, (a, b, c): (f64, f64, f64), noise: Option<Noise>) -> Result<()> {
        let State { x, next, .. } = state;
        self.model.combine(next, x, All(self.t), Terms { x: All(a), denoised: All(b), score: All(c), noise })?;
        swap(x, next);
        Ok(())
    }

    /// The last step, to σ = 0: x ← x̂0, after churn where the solver has it.
    fn denoise(&self, state: &mut State) -> Result<()> {
        if self.options.solver != Solver::EdmStochastic {
            return self.advance(state, (0.0, 1.0, 0.0), None);
        }
        let (t_hat, p_hat) = self.churn(&mut state.x)?;
        let State { x, next, .. } = state;
        self.add(x, p_hat.m, [])?;
        self.model.denoised(next, x, t_hat)?;
        swap(x, next);
        Ok(())
    }

    /// x' = x + (t' - t) dx/dt.
    fn euler(&self, state: &mut State, next: f64) -> Result<()> {
        let h = next - self.t;
        let (b, c) = self.model.flow(self.t)?;
        self.advance(state, (1.0, h * b, h * c), None)
    }

    /// The trapezoid with Euler's x' in its second slope.
    fn heun(&self, state: &mut State, next: f64) -> Result<()> {
        let h = next - self.t;
        let State { x, next: ahead, slope, .. } = state;
        self.model.combine(slope, x, All(self.t), of_model(self.model.flow(self.t)?))?;
        self.add(x, 1.0, [(h, slope)])?;
        self.model.combine(ahead, x, All(next), of_model(self.model.flow(next)?))?;
        self.add(x, 1.0, [(-0.5 * h, slope), (0.5 * h, ahead)])?;
        Ok(())
    }

    /// The posterior of x' given x and x̂0, with η times its noise: ς = η σ' s/σ, s² = σ² - (m/m')² σ'².
    fn ancestral(&self, state: &mut State, q: Marginal, eta: f64) -> Result<()> {
        let Marginal { m, sigma, .. } = self.p;
        let s2 = (sigma * sigma - (m / q.m).powi(2) * q.sigma * q.sigma).max(0.0);
        let added = eta * q.sigma * s2.sqrt() / sigma;
        let kept = (q.sigma * q.sigma - added * added).max(0.0).sqrt();
        let noise = (added > 0.0).then(|| self.noise(added, Purpose::Step));
        self.advance(state, (0.0, q.m, -kept * sigma), noise)
    }

    /// x' = (σ'/σ) x - m' (e^{-h} - 1) D, h = λ' - λ, D extrapolated from the last two x̂0 to the middle of the step.
    fn dpm_pp_2m(&self, state: &mut State, q: Marginal) -> Result<()> {
        let State { x, next: denoised, third: before, step, .. } = state;
        self.model.denoised(denoised, x, self.t)?;
        // From m = 0 (the flow at t = 1) h is infinite: the step is first order and is not remembered as a slope.
        let h = (q.m / q.sigma).ln() - (self.p.m / self.p.sigma).ln();
        let weight = -q.m * (-h).exp_m1();
        let kept = q.sigma / self.p.sigma;
        match step.replace(h) {
            Some(last) if last.is_finite() => {
                let half = 0.5 * h / last;
                self.add(x, kept, [(weight * (1.0 + half), denoised), (-weight * half, before)])?;
            }
            _ => self.add(x, kept, [(weight, denoised)])?,
        }
        swap(denoised, before);
        Ok(())
    }

    /// x' = x + (t' - t) (m' x̂0 + σ' ε̂ - ½ α2 g s) + √(α2 g (t - t')) z.
    fn euler_maruyama(&self, state: &mut State, next: f64, alpha2: f64) -> Result<()> {
        let g = if alpha2 == 0.0 { 0.0 } else { self.p.g };
        if !g.is_finite() {
            return Err(Error::invalid(format!(
                "t_start is {:?}, where the process's g is infinite; an SDE starts at an earlier time",
                self.t
            )));
        }
        let h = next - self.t;
        let (b, c) = self.model.flow(self.t)?;
        let noise = (alpha2 > 0.0).then(|| self.noise((alpha2 * g * -h).sqrt(), Purpose::Step));
        self.advance(state, (1.0, h * b, h * (c - 0.5 * alpha2 * g)), noise)
    }

    /// x ← y = x/m at the noise level r = σ/m raised by γ; the time and the marginal of that level.
    fn churn(&self, x: &mut Matrix) -> Result<(f64, Marginal)> {
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
        if gamma == 0.0 {
            self.add(x, 1.0 / self.p.m, [])?;
            return Ok((self.t, self.p));
        }
        let top = process.eval(process.t_end())?;
        // Not above the process's own largest noise level.
        let t_hat = process.time_of_ratio((r * (1.0 + gamma)).min(top.sigma / top.m))?;
        let p_hat = process.eval(t_hat)?;
        let r_hat = p_hat.sigma / p_hat.m;
        let noise = self.noise(o.s_noise * (r_hat * r_hat - r * r).max(0.0).sqrt(), Purpose::Churn);
        self.model.engine().combine(x, Some(All(1.0 / self.p.m)), &[], Some(noise))?;
        Ok((t_hat, p_hat))
    }

    /// Raises the noise level, then one Heun step in y = x/m over r = σ/m.
    fn edm_stochastic(&self, state: &mut State, next: f64, q: Marginal) -> Result<()> {
        let (t_hat, p_hat) = self.churn(&mut state.x)?;
        let State { x: y, next: scaled, slope: first, third: second, .. } = state;
        let (r_hat, r_next) = (p_hat.sigma / p_hat.m, q.sigma / q.m);
        // dy/dr = ε̂ = -σ s, evaluated at x = m y.
        let mut slope = |to: &mut Matrix, y: &Matrix, t: f64, p: Marginal| {
            self.model.engine().combine(scaled, None, &[(All(p.m), y)], None)?;
            self.model.combine(to, scaled, All(t), of_model((0.0, -p.sigma)))
        };
        let h = r_next - r_hat;
        slope(first, y, t_hat, p_hat)?;
        self.add(y, 1.0, [(h, first)])?;
        slope(second, y, next, q)?;
        self.add(y, 1.0, [(-0.5 * h, first), (0.5 * h, second)])?;
        self.add(y, q.m, [])?;
        Ok(())
    }
}
