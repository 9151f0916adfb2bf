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

    /// m, sigma, beta and g at time t. sigma is 0 at t = 0 (not for VE geometric); g is +inf at t = 0 for VE power with
    /// a < 0; beta and g are +inf at t = 1 for the flow. At a node of a table they take the slope to its left, the interval
    /// that reverse time enters there (at t = 1 that to its right); both are 0 for a table of one value.
    /// Errors: [`Error::Invalid`] unless t_min <= t <= t_end.
    pub fn eval(&self, t: f64) -> Result<Marginal> {
        self.check_time(t).map(|t| self.marginal(t))
    }

    /// (dm/dt, dsigma/dt) at time t: the probability flow is `dx/dt = m' x̂0 + sigma' ε̂` (reg 2.10 with alpha2 = 0),
    /// finite where beta and g are not. sigma' is +inf at t = 0 for VP (unless beta_min = 0), VE power with a < 1 and VE
    /// exponential, whose sigma starts like a root of t. For VE power with a = 1 it is sqrt(k/2) everywhere.
    /// Errors: [`Error::Invalid`] unless t_min <= t <= t_end.
    pub fn derivative(&self, t: f64) -> Result<(f64, f64)> {
        let t = self.check_time(t)?;
        let Marginal { m, sigma, beta, g } = self.marginal(t);
        Ok(match &self.kind {
            // beta / sigma is 0/0 where beta starts from 0: its limit
            Kind::VpLinear(s) if sigma == 0.0 && s.start == 0.0 => (-0.5 * beta * m, (0.5 * s.end / s.t_end).sqrt()),
            Kind::VpLinear(_) => (-0.5 * beta * m, 0.5 * beta * m * m / sigma),
            Kind::SubVp(_) => (-0.5 * beta * m, beta * m * m),
            Kind::VePower { scale, power, .. } => (0.0, scale * power * t.powf(power - 1.0)),
            Kind::VeExponential { .. } => (0.0, 0.5 * g / sigma),
            Kind::VeGeometric { log_quotient, .. } => (0.0, sigma * log_quotient),
            Kind::Discrete(nodes) => {
                let half_step = 0.5 * log_rate(nodes, t);
                (-half_step * sigma * sigma * m, half_step * sigma * m * m)
            }
            Kind::Flow => (-1.0, 1.0),
        })
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
            Kind::VePower { k, a, scale, power } => exploding(scale * t.powf(*power), k * t.powf(*a)),
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

    fn check_time(&self, t: f64) -> Result<f64> {
        let (low, high) = (self.t_min(), self.t_end);
        require(t >= low && t <= high, "t", t, format_args!("in [{low:?}, {high:?}] for {}", self.name()))?;
        Ok(t.abs()) // -0 is 0
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
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    /// Every kind, at the usual parameters first and then at odd ones.
    fn zoo() -> Vec<Process> {
        let mut product = 1.0;
        let ddpm = (0..1000).map(|i| 1e-4 + (0.02 - 1e-4) * i as f64 / 999.0).map(|beta| {
            product *= 1.0 - beta;
            product
        });
        let processes = [
            Process::vp_linear(0.1, 20.0, 1.0),
            Process::vp_linear(0.001, 3.0, 1.0),
            Process::sub_vp(0.1, 20.0),
            Process::ve_power(2.0, 1.0, 80.0),
            Process::ve_exponential(100.0, 1.0),
            Process::ve_geometric(0.01, 50.0),
            Process::discrete(&[0.9, 0.5, 0.1]),
            Process::flow(),
            Process::discrete(&ddpm.collect::<Vec<_>>()),
            Process::vp_linear(0.0, 3.0, 2.0),
            Process::vp_linear(5.0, 1.0, 1.0),
            Process::ve_power(3.0, -0.5, 2.0),
            Process::ve_power(0.5, 2.5, 2.0),
            Process::ve_exponential(1.0, 2.0),
            Process::ve_exponential(0.25, 3.0),
        ];
        processes.into_iter().map(Result::unwrap).collect()
    }

    #[test]
    fn agrees_with_sixty_digits() {
        let zoo = zoo();
        let [vp, slow, sub, edm, exp, geo, table, flow, ..] = &zoo[..] else { panic!("too few") };
        let (early, late) = (9.999999747378752e-06, 0.8999999761581421);
        for (process, t, [m, sigma, beta, g]) in [
            (vp, early, [0.9999994995026379, 0.0010004971132853413, 0.10019899999497284, 0.10019899999497284]),
            (vp, late, [0.016996466910761114, 0.99985554962332, 18.009999525547027, 18.009999525547027]),
            (slow, early, [0.9999999949250251, 0.0001007469587049252, 0.001029989999242389, 0.001029989999242389]),
            (slow, late, [0.5445761638862209, 0.838711393583614, 2.7000999284982683, 2.7000999284982683]),
            (sub, early, [0.9999994995026379, 1.000994473692301e-06, 0.10019899999497284, 2.005971901305358e-07]),
            (sub, late, [0.016996466910761114, 0.9997111201125514, 18.009999525547027, 18.009998022583943]),
            (edm, 0.0020000000949949026, [1.0, 0.0020000000949949026, 0.0, 0.004000000189989805]),
            (exp, early, [1.0, 0.00316231402764037, 0.0, 1.0000460527610924]),
            (exp, late, [1.0, 3.6720451938848435, 0.0, 63.09572752037223]),
            (geo, early, [1.0, 0.010000851755569943, 0.0, 0.0017037288333111257]),
            (geo, late, [1.0, 21.33403070002189, 0.0, 7753.045368518968]),
            (table, 1.25, [0.9157562569830419, 0.4017343373380086, 0.3546111243623051, 0.3546111243623051]),
            (table, 3.0, [0.31622776601683794, 0.9486832980505138, 1.9775021196025975, 1.9775021196025975]),
            (flow, 0.5, [0.5, 0.5, 4.0, 2.0]),
        ] {
            let got = process.eval(t).unwrap();
            for (got, want) in [(got.m, m), (got.sigma, sigma), (got.beta, beta), (got.g, g)] {
                // a few roundings; e^(-B/2) with B = 8 multiplies that of B by 4
                assert_relative_eq!(got, want, max_relative = 4e-15);
            }
        }
        // a tiny time: a few roundings again, where 1 - exp(-B) would be wrong in the fourth digit
        let t = 1e-12;
        for (got, want) in [
            (vp.eval(t).unwrap().sigma, 3.1622776603256234e-07),
            (vp.derivative(t).unwrap().1, 158113.8830320056),
            (vp.time_of_ratio(3.162277660325782e-07).unwrap(), t),
            (sub.eval(t).unwrap().sigma, 1.00000000009945e-13),
            (sub.time_of_ratio(1.0000000000995e-13).unwrap(), t),
            (exp.eval(t).unwrap().sigma, 1.0000000000011513e-06),
        ] {
            assert_relative_eq!(got, want, max_relative = 2e-15);
        }
    }

    #[test]
    fn derivatives_match_finite_differences() {
        for process in zoo() {
            for u in [0.03, 0.3, 0.62, 0.9] {
                let t = process.t_min() + u * (process.t_end() - process.t_min());
                let h = 1e-5 * u * process.t_end().min(2.0);
                let [before, now, after] = [t - h, t, t + h].map(|t| process.eval(t).unwrap());
                let slope = |quantity: fn(&Marginal) -> f64| (quantity(&after) - quantity(&before)) / (2.0 * h);
                let (m1, sigma1) = process.derivative(t).unwrap();
                for (got, want) in [
                    (m1, slope(|e| e.m)),
                    (sigma1, slope(|e| e.sigma)),
                    (now.beta, -2.0 * slope(|e| e.m) / now.m),
                    (now.g, slope(|e| e.sigma * e.sigma) + now.beta * now.sigma * now.sigma),
                ] {
                    // truncation (h/t)^2 = 1e-10 times the curvature; rounding of the values and of t ± h, 1e-16/h <= 4e-10
                    assert_relative_eq!(got, want, max_relative = 3e-8, epsilon = 2e-8);
                }
            }
        }
    }

    #[test]
    fn ends_take_their_limits() {
        let (infinite, at_zero) = (f64::INFINITY, |process: Result<Process>| process.unwrap().derivative(0.0).unwrap());
        assert_eq!(at_zero(Process::ve_power(2.0, 1.0, 80.0)), (0.0, 1.0));
        assert_eq!(at_zero(Process::vp_linear(0.0, 3.0, 2.0)), (0.0, 0.75_f64.sqrt()));
        assert_eq!(at_zero(Process::vp_linear(0.1, 20.0, 1.0)), (-0.05, infinite));
        assert_eq!(at_zero(Process::sub_vp(0.1, 20.0)), (-0.05, 0.1));
        let flow = Process::flow().unwrap();
        assert_eq!(flow.eval(1.0).unwrap(), Marginal { m: 0.0, sigma: 1.0, beta: infinite, g: infinite });
        assert_eq!((flow.derivative(1.0).unwrap(), flow.time_of_ratio(infinite).unwrap()), ((-1.0, 1.0), 1.0));
    }

    #[test]
    fn inverses_round_trip() {
        for process in zoo() {
            let (low, high) = (process.t_min(), process.t_end());
            for u in [0.0, 1e-12, 1e-9, 1e-6, 1e-3, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0 - 1e-9, 1.0] {
                let t = low + u * (high - low);
                let (Marginal { m, sigma, .. }, (m1, sigma1)) =
                    (process.eval(t).unwrap(), process.derivative(t).unwrap());
                let log_slope = sigma1 / sigma - m1 / m; // inf or NaN where sigma or m is 0: no allowance then
                for (back, shift) in [
                    (process.time_of_sigma(sigma).unwrap(), sigma / sigma1),
                    (process.time_of_ratio(sigma / m).unwrap(), 1.0 / log_slope),
                ] {
                    // a relative error of sigma moves t by sigma/sigma' times as much; the errors are a few ulp
                    let tolerance = 16.0 * f64::EPSILON * (t + shift.max(0.0));
                    assert!((back - t).abs() <= tolerance, "{process:?} {t:e} {back:e}");
                }
            }
        }
    }

    #[test]
    fn table_is_exact_at_its_nodes() {
        let table = [1.0 - f64::EPSILON, 0.7, 1e-3, 1e-300];
        let process = Process::discrete(&table).unwrap();
        for (i, alpha_bar) in table.into_iter().enumerate() {
            let Marginal { m, sigma, .. } = process.eval((i + 1) as f64).unwrap();
            assert_eq!((m, sigma), (alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt()));
        }
        let one = Process::discrete(&[0.5]).unwrap();
        assert_eq!((one.eval(1.0).unwrap().beta, one.derivative(1.0).unwrap()), (0.0, (0.0, 0.0)));
        assert_eq!((one.name(), one.time_of_ratio(1.0).unwrap()), ("discrete", 1.0));
    }

    #[test]
    fn refuses_values_outside_the_domain() {
        let text = |error: Error| error.to_string();
        for process in zoo() {
            let (low, high) = (process.t_min(), process.t_end());
            for t in [low - 1e-9, high * (1.0 + 1e-9), f64::NAN, f64::INFINITY] {
                let start = format!("t is {t:?}; it must be in [{low:?}, {high:?}] for {}", process.name());
                assert_eq!(process.eval(t).map_err(text), Err(start.clone()));
                assert_eq!(process.derivative(t).map_err(text), Err(start));
            }
            // an ulp outside is the end itself
            let [first, last] = [low, high].map(|t| process.eval(t).unwrap());
            assert_eq!(process.time_of_sigma(first.sigma * (1.0 - f64::EPSILON)).unwrap(), low);
            assert_eq!(process.time_of_sigma(last.sigma * (1.0 + f64::EPSILON)).unwrap(), high);
            for sigma in [first.sigma - 1e-6, last.sigma * (1.0 + 1e-9), f64::NAN] {
                assert!(process.time_of_sigma(sigma).map_err(text).unwrap_err().starts_with("sigma is"));
            }
            assert!(process.time_of_ratio(f64::NAN).map_err(text).unwrap_err().starts_with("ratio is"));
        }
    }

    #[test]
    fn constructors_name_the_argument() {
        for (process, start) in [
            (Process::vp_linear(-1.0, 1.0, 1.0), "beta_min is -1.0; it must be finite and not negative"),
            (Process::vp_linear(0.1, f64::NAN, 1.0), "beta_max is NaN"),
            (Process::vp_linear(0.0, 0.0, 1.0), "beta_max is 0.0; it must be positive where beta_min is 0"),
            (Process::vp_linear(0.1, 1e200, 1e200), "the larger beta times t_end is inf"),
            (Process::ve_power(0.0, 1.0, 1.0), "k is 0.0"),
            (Process::ve_power(1.0, -1.0, 1.0), "a is -1.0"),
            (Process::ve_exponential(-2.0, 1.0), "rate_base is -2.0"),
            (
                Process::ve_exponential(100.0, 1e3),
                "rate_base 100.0, t_end 1000.0 are too large or too small together: sigma at the last time is inf",
            ),
            (Process::ve_geometric(2.0, 1.0), "sigma_max is 1.0; it must be finite and greater than sigma_min, 2.0"),
            (Process::discrete(&[]), "alpha_bar has 0 values"),
            (
                Process::discrete(&[0.9, 0.9]),
                "alpha_bar[1] is 0.9; it must be a normal number above 0 and below 0.9, the value before it",
            ),
            (Process::discrete(&[0.9, f64::NAN, 2.0]), "alpha_bar[1] is NaN"),
        ] {
            let message = process.unwrap_err().to_string();
            assert!(message.starts_with(start), "{message}");
        }
    }
}
