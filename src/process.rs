//! The forward process: how a data point y becomes noise, `x_t | y ~ N(m(t) y, sigma(t)^2 I)` (reg 2.1, 3.6).
//!
//! Each process is a handful of closed forms in double precision. `1 - exp(-B)` and its relatives are written with
//! `exp_m1` and `ln_1p`, so that every quantity keeps its digits however small the time. No quantity has a unit of its
//! own: sigma is in the units of the data, m has none, beta is 1/time and g is sigma^2/time.

use crate::error::{Error, Result, try_vec};
use std::fmt;
use std::sync::Arc;

/// Inverses accept values this far, relatively, outside their interval: the rounding of the caller's own arithmetic.
const END_TOLERANCE: f64 = 4.0 * f64::EPSILON;

/// A forward process `dx = -beta x / 2 dt + sqrt(g) dW` for t in \[[`t_min`](Self::t_min), [`t_end`](Self::t_end)\]
/// (reg 2.1). Immutable; a clone shares the table of a discrete process.
#[derive(Clone, Debug)]
pub struct Process {
    kind: Kind,
    t_end: f64,
}

/// The process at one time (reg 3.6).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Marginal {
    /// The factor of the data point, `exp(-1/2 ∫ beta)`.
    pub m: f64,
    /// The standard deviation of the noise.
    pub sigma: f64,
    /// The drift coefficient: `dm/dt = -beta m / 2`.
    pub beta: f64,
    /// The variance rate: `d(sigma^2)/dt = g - beta sigma^2`.
    pub g: f64,
}

#[derive(Clone, Debug)]
enum Kind {
    VpLinear(Schedule),
    SubVp(Schedule),
    VePower { k: f64, a: f64, scale: f64, power: f64 }, // sigma = scale t^power
    VeExponential { rate_base: f64, log_base: f64 },
    VeGeometric { sigma_min: f64, quotient: f64, log_quotient: f64 }, // sigma = sigma_min quotient^t
    Discrete(Arc<Vec<Node>>),
    Flow,
}

/// beta(t), linear from `start` at 0 to `end` at `t_end`, as weighted sums of terms >= 0, which do not cancel.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    start: f64,
    end: f64,
    t_end: f64,
}

impl Schedule {
    fn new(beta_min: f64, beta_max: f64, t_end: f64) -> Result<Self> {
        for (argument, value) in [("beta_min", beta_min), ("beta_max", beta_max)] {
            require(value.is_finite() && value >= 0.0, argument, value, "finite and not negative")?;
        }
        require(beta_min.max(beta_max) > 0.0, "beta_max", beta_max, "positive where beta_min is 0")?;
        require_positive("t_end", t_end)?;
        let product = beta_min.max(beta_max) * t_end; // bounds every B
        require(product.is_finite(), "the larger beta times t_end", product, "finite")?;
        Ok(Self { start: beta_min, end: beta_max, t_end })
    }

    fn beta(&self, t: f64) -> f64 {
        let u = t / self.t_end;
        self.start * (1.0 - u) + self.end * u
    }

    /// B(t), the integral of beta from 0 to t.
    fn integral(&self, t: f64) -> f64 {
        let half = 0.5 * t / self.t_end;
        t * (self.start * (1.0 - half) + self.end * half)
    }

    /// The t with B(t) = b: the root of the quadratic in the form without cancellation, in units where neither the
    /// square of a rate nor its product with B can overflow.
    fn time_of_integral(&self, b: f64) -> f64 {
        if b <= 0.0 {
            return 0.0; // both terms of the denominator vanish here when start = 0
        }
        let peak = self.start.max(self.end);
        let (start, end, b) = (self.start / peak, self.end / peak, b / (peak * self.t_end));
        let discriminant = start * start + 2.0 * (end - start) * b; // (beta(t) / peak)^2
        self.t_end * 2.0 * b / (start + discriminant.max(0.0).sqrt())
    }
}

/// One entry of a discrete schedule.
#[derive(Clone, Copy, Debug, Default)]
struct Node {
    alpha_bar: f64,
    /// (sigma/m)^2 = (1 - alpha_bar)/alpha_bar.
    odds: f64,
    /// Growth of ln(odds) to the next node; the last node repeats its predecessor's.
    log_step: f64,
}

/// x^power; EDM's powers, 0 and 1, take no time.
fn raise(x: f64, power: f64) -> f64 {
    if power == 0.0 {
        1.0
    } else if power == 1.0 {
        x
    } else {
        x.powf(power)
    }
}

impl Process {
    /// Variance preserving, `beta = g = beta_min + (beta_max - beta_min) t / t_end` (Song et al. 2021: 0.1, 20, 1;
    /// reg C.2: 0.001, 3). With equal ends it is the constant schedule; beta may also decrease.
    /// Errors: [`Error::Invalid`] unless both rates are finite, not negative and not both 0, t_end > 0 and its product
    /// with the larger rate are finite, and sigma^2 at t_end does not underflow.
    pub fn vp_linear(beta_min: f64, beta_max: f64, t_end: f64) -> Result<Self> {
        let schedule = Schedule::new(beta_min, beta_max, t_end)?;
        Self { kind: Kind::VpLinear(schedule), t_end }
            .representable(format_args!("beta_min {beta_min:?}, beta_max {beta_max:?}, t_end {t_end:?}"))
    }

    /// Sub-variance preserving, T = 1: beta as in [`vp_linear`](Self::vp_linear), `sigma = 1 - e^-B`,
    /// `g = beta (1 - e^-2B)` (Song et al. 2021, eq. 13).
    /// Errors: as [`vp_linear`](Self::vp_linear).
    pub fn sub_vp(beta_min: f64, beta_max: f64) -> Result<Self> {
        let schedule = Schedule::new(beta_min, beta_max, 1.0)?;
        Self { kind: Kind::SubVp(schedule), t_end: 1.0 }
            .representable(format_args!("beta_min {beta_min:?}, beta_max {beta_max:?}"))
    }

    /// Variance exploding with `g = k t^a`, so `sigma^2 = k t^(a+1)/(a+1)`. Karras et al. 2022 (EDM): k = 2, a = 1,
    /// where sigma = t exactly.
    /// Errors: [`Error::Invalid`] unless k > 0, a > -1, t_end > 0, sigma^2 and g at t_end are finite.
    pub fn ve_power(k: f64, a: f64, t_end: f64) -> Result<Self> {
        require_positive("k", k)?;
        require(a.is_finite() && a > -1.0, "a", a, "finite and greater than -1")?;
        require_positive("t_end", t_end)?;
        let kind = Kind::VePower { k, a, scale: (k / (a + 1.0)).sqrt(), power: 0.5 * (a + 1.0) };
        Self { kind, t_end }.representable(format_args!("k {k:?}, a {a:?}, t_end {t_end:?}"))
    }

    /// Variance exploding with `g = rate_base^t`, so `sigma^2 = (r^t - 1)/ln r`, and `sigma^2 = t` for r = 1. reg's text
    /// has r = 10; its code, and so its figures, r = 100.
    /// Errors: [`Error::Invalid`] unless rate_base > 0, t_end > 0, sigma^2 and g at t_end are finite.
    pub fn ve_exponential(rate_base: f64, t_end: f64) -> Result<Self> {
        require_positive("rate_base", rate_base)?;
        require_positive("t_end", t_end)?;
        let kind = Kind::VeExponential { rate_base, log_base: rate_base.ln() };
        Self { kind, t_end }.representable(format_args!("rate_base {rate_base:?}, t_end {t_end:?}"))
    }

    /// Variance exploding, T = 1, `sigma = sigma_min (sigma_max/sigma_min)^t` (Song et al. 2021: 0.01, 50). The only
    /// process with noise at t = 0.
    /// Errors: [`Error::Invalid`] unless 0 < sigma_min < sigma_max, their quotient, sigma^2 and g are finite.
    pub fn ve_geometric(sigma_min: f64, sigma_max: f64) -> Result<Self> {
        require_positive("sigma_min", sigma_min)?;
        let greater = sigma_max.is_finite() && sigma_max > sigma_min;
        require(greater, "sigma_max", sigma_max, format_args!("finite and greater than sigma_min, {sigma_min:?}"))?;
        // the difference of near values is exact, so ln_1p keeps the digits that ln(quotient) would lose
        let log_quotient = ((sigma_max - sigma_min) / sigma_min).ln_1p();
        let kind = Kind::VeGeometric { sigma_min, quotient: sigma_max / sigma_min, log_quotient };
        Self { kind, t_end: 1.0 }.representable(format_args!("sigma_min {sigma_min:?}, sigma_max {sigma_max:?}"))
    }

    /// Variance preserving, from a table of K values: `alpha_bar[0]` belongs to t = 1, `alpha_bar[K - 1]` to t = K;
    /// m^2 = alpha_bar, sigma^2 = 1 - alpha_bar (Ho et al. 2020). Between the steps ln(sigma/m) is linear in t.
    /// Errors: [`Error::Invalid`] if the table is empty, or naming the first index whose value is not in (0, 1), is
    /// subnormal or is not below its predecessor; [`Error::NoMemory`] if the table cannot be copied.
    pub fn discrete(alpha_bar: &[f64]) -> Result<Self> {
        if alpha_bar.is_empty() {
            return Err(Error::invalid("alpha_bar has 0 values; it must have at least 1"));
        }
        let mut nodes = try_vec(alpha_bar.len(), Node::default(), "alpha_bar")?;
        let mut before = 1.0;
        for (i, &value) in alpha_bar.iter().enumerate() {
            let inside = value.is_normal() && value > 0.0 && value < before;
            let place = if i == 0 { "" } else { ", the value before it" };
            require(
                inside,
                format_args!("alpha_bar[{i}]"),
                value,
                format_args!("a normal number above 0 and below {before:?}{place}"),
            )?;
            nodes[i] = Node { alpha_bar: value, odds: (1.0 - value) / value, log_step: 0.0 };
            if i > 0 {
                let drop = before - value; // ln(odds / odds before) as a sum of two positive terms
                nodes[i].log_step = (drop / value).ln_1p() + (drop / (1.0 - before)).ln_1p();
                nodes[i - 1].log_step = nodes[i].log_step;
            }
            before = value;
        }
        Ok(Self { kind: Kind::Discrete(Arc::new(nodes)), t_end: alpha_bar.len() as f64 })
    }

    /// The linear flow `x_t = (1 - t) y + t ε`, T = 1 (Lipman et al. 2023). Errors: none.
    pub fn flow() -> Result<Self> {
        Ok(Self { kind: Kind::Flow, t_end: 1.0 })
    }

    /// The name of the constructor: `"vp_linear"`, `"sub_vp"`, ...
    pub fn name(&self) -> &'static str {
        match self.kind {
            Kind::VpLinear(_) => "vp_linear",
            Kind::SubVp(_) => "sub_vp",
            Kind::VePower { .. } => "ve_power",
            Kind::VeExponential { .. } => "ve_exponential",
            Kind::VeGeometric { .. } => "ve_geometric",
            Kind::Discrete(_) => "discrete",
            Kind::Flow => "flow",
        }
    }

    /// The first time: 1 for a discrete process, else 0.
    pub fn t_min(&self) -> f64 {
        if matches!(self.kind, Kind::Discrete(_)) { 1.0 } else { 0.0 }
    }

    /// The last time: T, or K for a discrete process.
    pub fn t_end(&self) -> f64 {
        self.t_end
    }

    /// m and sigma at time t, no numbers outside the interval: [`eval`](Self::eval) for loops over many samples, where a
    /// result in memory costs more than what is in it.
    #[inline(always)]
    pub fn scales(&self, t: f64) -> (f64, f64) {
        if t >= self.t_min() && t <= self.t_end {
            let Marginal { m, sigma, .. } = self.marginal(t.abs());
            (m, sigma)
        } else {
            (f64::NAN, f64::NAN)
        }
    }

    /// m, sigma, beta and g at time t. sigma is 0 at t = 0 (not for VE geometric); g is +inf at t = 0 for VE power with
    /// a < 0; beta and g are +inf at t = 1 for the flow. At a node of a table they take the slope to its left, the interval
    /// that reverse time enters there (at t = 1 that to its right); both are 0 for a table of one value.
    /// Errors: [`Error::Invalid`] unless t_min <= t <= t_end.
    #[inline]
    pub fn eval(&self, t: f64) -> Result<Marginal> {
        self.check_time(t).map(|t| self.marginal(t))
    }

    /// (dm/dt, dsigma/dt) at time t: the probability flow is `dx/dt = m' x̂0 + sigma' ε̂` (reg 2.10 with alpha2 = 0),
    /// finite where beta and g are not. sigma' is +inf at t = 0 for VP (unless beta_min = 0), VE power with a < 1 and VE
    /// exponential, whose sigma starts like a root of t. For VE power with a = 1 it is sqrt(k/2) everywhere.
    /// Errors: [`Error::Invalid`] unless t_min <= t <= t_end.
    pub fn derivative(&self, t: f64) -> Result<(f64, f64)> {
        self.eval_with_derivative(t).map(|(_, derivative)| derivative)
    }

    /// [`eval`](Self::eval) and [`derivative`](Self::derivative) at once, which share most of their work.
    #[inline(always)]
    pub fn eval_with_derivative(&self, t: f64) -> Result<(Marginal, (f64, f64))> {
        let t = self.check_time(t)?;
        let marginal = self.marginal(t);
        let Marginal { m, sigma, beta, g } = marginal;
        let derivative = match &self.kind {
            // beta / sigma is 0/0 where beta starts from 0: its limit
            Kind::VpLinear(s) if sigma == 0.0 && s.start == 0.0 => (-0.5 * beta * m, (0.5 * s.end / s.t_end).sqrt()),
            Kind::VpLinear(_) => (-0.5 * beta * m, 0.5 * beta * m * m / sigma),
            Kind::SubVp(_) => (-0.5 * beta * m, beta * m * m),
            Kind::VePower { scale, power, .. } => (0.0, scale * power * raise(t, power - 1.0)),
            Kind::VeExponential { .. } => (0.0, 0.5 * g / sigma),
            Kind::VeGeometric { log_quotient, .. } => (0.0, sigma * log_quotient),
            Kind::Discrete(nodes) => {
                let half_step = 0.5 * log_rate(nodes, t);
                (-half_step * sigma * sigma * m, half_step * sigma * m * m)
            }
            Kind::Flow => (-1.0, 1.0),
        };
        Ok((marginal, derivative))
    }

    /// The time at which the noise level is `sigma`. A value a few ulp outside the interval is taken for its end. Where
    /// sigma is flat (VP near 1) the answer is only as good as the conditioning; the exact end value gives t_end.
    /// Errors: [`Error::Invalid`] unless sigma(t_min) <= sigma <= sigma(t_end).
    pub fn time_of_sigma(&self, sigma: f64) -> Result<f64> {
        let ends = (self.marginal(self.t_min()).sigma, self.marginal(self.t_end).sigma);
        self.invert("sigma", sigma, ends, |sigma| self.invert_sigma(sigma))
    }

    /// The time at which sigma/m, the noise level in the frame of EDM (Karras et al. 2022), is `ratio`. Ends as in
    /// [`time_of_sigma`](Self::time_of_sigma); for the flow +inf is accepted and means t = 1.
    /// Errors: [`Error::Invalid`] unless `ratio` lies between sigma/m at t_min and at t_end.
    pub fn time_of_ratio(&self, ratio: f64) -> Result<f64> {
        let [first, last] = [self.t_min(), self.t_end].map(|t| self.marginal(t));
        self.invert("ratio", ratio, (first.sigma / first.m, last.sigma / last.m), |r| match &self.kind {
            // (sigma/m)^2 = e^B - 1; a large square would overflow
            Kind::VpLinear(s) if r > 1.0 => s.time_of_integral(2.0 * r.ln() + (1.0 / r / r).ln_1p()),
            Kind::VpLinear(s) => s.time_of_integral((r * r).ln_1p()),
            // (1 - e^-B)/e^(-B/2) = 2 sinh(B/2)
            Kind::SubVp(s) => s.time_of_integral(2.0 * (0.5 * r).asinh()),
            Kind::Discrete(nodes) => time_of_odds(nodes, r * r),
            Kind::Flow => r / (1.0 + r),
            // m = 1
            Kind::VePower { .. } | Kind::VeExponential { .. } | Kind::VeGeometric { .. } => self.invert_sigma(r),
        })
    }

    /// [`eval`](Self::eval) at a time known to be in the interval.
    #[inline(always)]
    fn marginal(&self, t: f64) -> Marginal {
        match &self.kind {
            Kind::VpLinear(s) => {
                let (b, beta) = (s.integral(t), s.beta(t));
                Marginal { m: (-0.5 * b).exp(), sigma: (-(-b).exp_m1()).sqrt(), beta, g: beta }
            }
            Kind::SubVp(s) => {
                let (b, beta) = (s.integral(t), s.beta(t));
                Marginal { m: (-0.5 * b).exp(), sigma: -(-b).exp_m1(), beta, g: -beta * (-2.0 * b).exp_m1() }
            }
            Kind::VePower { k, a, scale, power } => exploding(scale * raise(t, *power), k * raise(t, *a)),
            Kind::VeExponential { rate_base, log_base } => {
                // sigma^2 = t (e^x - 1)/x, which is t in the limit of rate_base = 1
                let x = t * log_base;
                let mean_rate = if x == 0.0 { 1.0 } else { x.exp_m1() / x };
                exploding((t * mean_rate).sqrt(), rate_base.powf(t))
            }
            Kind::VeGeometric { sigma_min, quotient, log_quotient } => {
                let sigma = sigma_min * quotient.powf(t);
                exploding(sigma, 2.0 * sigma * sigma * log_quotient)
            }
            Kind::Discrete(nodes) => {
                // (sigma/m)^2 = odds e^x; both squares in the form that is exact at x = 0 and cannot become inf/inf
                let (&Node { alpha_bar, log_step, .. }, fraction) = node_at(nodes, t);
                let (x, noise) = (fraction * log_step, 1.0 - alpha_bar);
                let variance = noise / (alpha_bar * (-x).exp() + noise);
                let rate = variance * log_rate(nodes, t);
                let m = (alpha_bar / (alpha_bar + noise * x.exp())).sqrt();
                Marginal { m, sigma: variance.sqrt(), beta: rate, g: rate }
            }
            Kind::Flow => Marginal { m: 1.0 - t, sigma: t, beta: 2.0 / (1.0 - t), g: 2.0 * t / (1.0 - t) },
        }
    }

    /// The inverse of sigma(t), for a value strictly between its ends.
    fn invert_sigma(&self, sigma: f64) -> f64 {
        match &self.kind {
            Kind::VpLinear(s) => s.time_of_integral(-(-sigma * sigma).ln_1p()),
            Kind::SubVp(s) => s.time_of_integral(-(-sigma).ln_1p()),
            Kind::VePower { scale, power, .. } => (sigma / scale).powf(1.0 / power),
            Kind::VeExponential { log_base, .. } => {
                // t = sigma^2 ln(1 + x)/x; for rate_base < 1 rounding may carry x below its limit -1
                let x = (sigma * sigma * log_base).max(-1.0);
                sigma * sigma * if x == 0.0 { 1.0 } else { x.ln_1p() / x }
            }
            Kind::VeGeometric { sigma_min, log_quotient, .. } => {
                ((sigma - sigma_min) / sigma_min).ln_1p() / log_quotient
            }
            Kind::Discrete(nodes) => time_of_odds(nodes, sigma * sigma / ((1.0 - sigma) * (1.0 + sigma))),
            Kind::Flow => sigma,
        }
    }

    fn invert(&self, argument: &str, value: f64, ends: (f64, f64), inverse: impl Fn(f64) -> f64) -> Result<f64> {
        let (low, high) = ends;
        let inside = value >= low * (1.0 - END_TOLERANCE) && value <= high * (1.0 + END_TOLERANCE);
        require(inside, argument, value, format_args!("in [{low:?}, {high:?}] for {}", self.name()))?;
        Ok(match value {
            v if v <= low => self.t_min(),
            v if v >= high => self.t_end,
            v => inverse(v).max(self.t_min()).min(self.t_end),
        })
    }

    #[inline]
    fn check_time(&self, t: f64) -> Result<f64> {
        let (low, high) = (self.t_min(), self.t_end);
        // Solvers come here for every sample and stage: what a complaint needs is only made for one.
        if t >= low && t <= high {
            return Ok(t.abs()); // -0 is 0
        }
        require(false, "t", t, format_args!("in [{low:?}, {high:?}] for {}", self.name()))?;
        Ok(t)
    }

    /// Refuses parameters, each acceptable, that together overflow or underflow.
    fn representable(self, given: fmt::Arguments) -> Result<Self> {
        let Marginal { sigma, g, .. } = self.marginal(self.t_end);
        let holds = (sigma * sigma).is_normal() && g.is_finite();
        let argument = format!("{given} are too large or too small together: sigma at the last time");
        require(holds, argument, sigma, "one whose square is positive and, like g, finite")?;
        Ok(self)
    }
}

fn require(holds: bool, argument: impl fmt::Display, value: f64, accepted: impl fmt::Display) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::invalid(format!("{argument} is {value:?}; it must be {accepted}"))) }
}

fn require_positive(argument: &str, value: f64) -> Result<()> {
    require(value.is_finite() && value > 0.0, argument, value, "finite and positive")
}

fn exploding(sigma: f64, g: f64) -> Marginal {
    Marginal { m: 1.0, sigma, beta: 0.0, g }
}

/// The last node not after t, and how far t is on the way to the next one. t is in [1, K].
fn node_at(nodes: &[Node], t: f64) -> (&Node, f64) {
    (&nodes[(t as usize).saturating_sub(1).min(nodes.len() - 1)], t.fract())
}

/// d ln(odds) / dt of the interval (k - 1, k] that holds t.
fn log_rate(nodes: &[Node], t: f64) -> f64 {
    nodes[(t.ceil() as usize).saturating_sub(2)].log_step
}

/// The time with (sigma/m)^2 = odds, for odds between those of the first and the last node.
fn time_of_odds(nodes: &[Node], odds: f64) -> f64 {
    let after = nodes.partition_point(|node| node.odds <= odds);
    let i = after.saturating_sub(1).min(nodes.len().saturating_sub(2));
    let fraction = (odds / nodes[i].odds).ln() / nodes[i].log_step;
    (i + 1) as f64 + fraction.clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests;
