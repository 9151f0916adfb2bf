//! The experiments of Baptista et al., "Memorization and regularization in generative diffusion models" (reg), on points
//! of the plane: what the figures show and what the tests assert.

use mnemo::cpu::Cpu;
use mnemo::dataset::{Dataset, Decoding};
use mnemo::engine::{Grade, SharedEngine};
use mnemo::error::Result;
use mnemo::exec::Exec;
use mnemo::memorization::{Metric, Report, memorization, nearest};
use mnemo::process::Process;
use mnemo::sampler::{Grid, Observer, Options, Solver, sample};
use mnemo::score::{Empirical, Regularizer};
use mnemo::tensor::{Matrix, View};
use std::sync::Arc;

/// A point of the plane.
pub type Point = [f64; 2];

/// The training set of reg 4.4 and 5: numpy's `seed(1); randn(20, 2)`. The closest two points are 0.0762 apart.
pub const DATA: [Point; 20] = [
    [1.6243453636632417, -0.6117564136500754],
    [-0.5281717522634557, -1.0729686221561705],
    [0.8654076293246785, -2.3015386968802827],
    [1.74481176421648, -0.7612069008951028],
    [0.31903909605709857, -0.2493703754774101],
    [1.462107937044974, -2.060140709497654],
    [-0.3224172040135075, -0.38405435466841564],
    [1.1337694423354374, -1.0998912673140309],
    [-0.17242820755043575, -0.8778584179213718],
    [0.04221374671559283, 0.5828152137158222],
    [-1.1006191772129212, 1.1447237098396141],
    [0.9015907205927955, 0.5024943389018682],
    [0.9008559492644118, -0.6837278591743331],
    [-0.12289022551864817, -0.9357694342590688],
    [-0.2678880796260159, 0.530355466738186],
    [-0.691660751725309, -0.39675352685597737],
    [-0.6871727001195994, -0.8452056414987196],
    [-0.671246130836819, -0.01266459891890136],
    [-1.1173103486352778, 0.23441569781709215],
    [1.6598021771098705, 0.7420441605773356],
];

/// τ: a sample this close to a training point is memorized.
pub const THRESHOLD: f64 = 0.01;

/// A regularizer at growing strength, and what fraction of its samples is memorized.
pub struct Sweep {
    /// The regularizer of strength c.
    pub regularizer: fn(f64) -> Regularizer,
    /// log10 of the first c; each next one is √10 times as strong.
    pub first_exponent: f64,
    /// The fraction for each c, measured on [`REFERENCE_SAMPLES`] samples and rounded to three decimals.
    pub reference: [f64; 7],
}

/// reg prints figures 5 and 7 as plots of 1000 samples; the references are finer.
pub const REFERENCE_SAMPLES: usize = 20_000;
const ROUNDING: f64 = 0.0005;

/// reg Figure 5.
pub const TIKHONOV: Sweep = Sweep {
    regularizer: |c| Regularizer::Tikhonov { c },
    first_exponent: -5.0,
    reference: [0.993, 0.795, 0.400, 0.146, 0.049, 0.016, 0.006],
};

/// reg Figure 7, with c against the unnormalised weights (reg 5.12). At c = 10 no point attracts samples any more, and
/// what lies near one lies there by chance: of a density of about 1/2π, 20 discs of radius τ hold 0.001.
pub const EMPIRICAL_BAYES: Sweep = Sweep {
    regularizer: |c| Regularizer::BayesWeight { log_c: c.ln() },
    first_exponent: -2.0,
    reference: [0.990, 0.969, 0.903, 0.686, 0.157, 0.005, 0.0],
};

impl Sweep {
    /// (c, reference) for each strength.
    pub fn points(&self) -> impl Iterator<Item = (f64, f64)> {
        (0..).zip(self.reference).map(|(i, p)| (10f64.powf(self.first_exponent + 0.5 * f64::from(i)), p))
    }
}

/// The standard error of the difference of two measured fractions, the reference and one of `samples` samples.
///
/// Both count independent successes of the same probability p, so the variances p(1 - p)/n add. p is known only up to
/// the rounding of the reference; the value nearest ½ gives the largest variance, and no error of 0 where the reference
/// is 0.
pub fn standard_error(reference: f64, samples: usize) -> f64 {
    let p = 0.5f64.clamp(reference - ROUNDING, reference + ROUNDING);
    (p * (1.0 - p) * (1.0 / samples as f64 + 1.0 / REFERENCE_SAMPLES as f64)).sqrt()
}

/// How far a fraction is from the reference beyond the rounding of the latter.
pub fn deviation(reference: f64, fraction: f64) -> f64 {
    ((fraction - reference).abs() - ROUNDING).max(0.0)
}

/// What a small Tikhonov c leaves of the threshold: near a training point the flow scales distances by √(σ² + c), which
/// turns the prior's Gaussian into one of variance c around the point, and P(|z| ≤ τ) of that is this.
pub fn tikhonov_limit(c: f64) -> f64 {
    -(-0.5 * THRESHOLD * THRESHOLD / c).exp_m1()
}

/// Where the reverse flow starts at T.
pub enum Starts<'a> {
    /// This many draws from N(0, σ²(T) I).
    Prior(usize),
    /// These points.
    At(&'a [Point]),
}

/// A training set under reg's forward process: variance exploding, g = 100^t, T = 1.
pub struct Study {
    dataset: Arc<Dataset>,
    process: Process,
}

impl Study {
    /// A study of `points`.
    pub fn new(points: &[Point]) -> Result<Self> {
        let engine: SharedEngine = Arc::new(Cpu::new(0, None)?);
        let rows = View::new(points.as_flattened(), points.len(), 2);
        let dataset = Arc::new(Dataset::copy(engine, rows, None, Decoding::default())?);
        Ok(Self { dataset, process: Process::ve_exponential(100.0, 1.0)? })
    }

    /// σ(t).
    pub fn sigma(&self, t: f64) -> Result<f64> {
        Ok(self.process.eval(t)?.sigma)
    }

    /// σ² where a run stops. Without a regularizer the distance to the limit is still of the size of σ; with Tikhonov's
    /// it changes by a factor 1 + σ²/2c on the rest of the way; empirical Bayes stops at t = 1e-6, as in reg.
    fn last_variance(&self, regularizer: Regularizer) -> Result<f64> {
        Ok(match regularizer {
            Regularizer::Tikhonov { c } => 1e-6 * c,
            Regularizer::BayesDensity { .. } | Regularizer::BayesWeight { .. } => self.sigma(1e-6)?.powi(2),
            Regularizer::None => 1e-10,
        })
    }

    /// Steps that adapt to every sample: for fractions.
    pub fn adaptive(&self, regularizer: Regularizer) -> Result<Options> {
        let t_end = self.process.time_of_sigma(self.last_variance(regularizer)?.sqrt())?;
        Ok(Options { solver: Solver::Rk45, rtol: 1e-6, atol: 1e-6, t_end: Some(t_end), ..Options::default() })
    }

    /// Equal steps in s = -½ ln(σ² + c), in which the collapse has a constant rate (reg 4.24, 5.9): for paths, and as a
    /// second opinion on the fractions.
    pub fn uniform_in_s(&self, regularizer: Regularizer, steps: usize) -> Result<Options> {
        let c = if let Regularizer::Tikhonov { c } = regularizer { c } else { 0.0 };
        let first = (self.sigma(self.process.t_end())?.powi(2) + c).ln();
        let last = (self.last_variance(regularizer)? + c).ln();
        let time = |i: usize| {
            let log = first + (last - first) * i as f64 / steps as f64;
            self.process.time_of_sigma((log.exp() - c).sqrt())
        };
        let times = (0..=steps).map(time).collect::<Result<_>>()?;
        Ok(Options { solver: Solver::Heun, grid: Grid::Custom(times), ..Options::default() })
    }

    fn run(
        &self,
        regularizer: Regularizer,
        options: Options,
        starts: Starts<'_>,
        observer: Option<&mut Observer<'_>>,
    ) -> Result<Matrix> {
        let engine = self.dataset.engine();
        let (from_prior, x) = match starts {
            Starts::Prior(count) => (true, engine.zeros(count, 2)?),
            Starts::At(at) => (false, engine.load("starts", View::new(at.as_flattened(), at.len(), 2))?),
        };
        let score = Empirical::new(self.dataset.clone(), self.process.clone(), regularizer, 0.0, None)?;
        sample(&score, &Options { from_prior, ..options }, x, Grade::Double, observer, &Exec::default())
    }

    /// `count` samples. The first of many are the same as few, so samples can be compared one by one.
    pub fn samples(&self, regularizer: Regularizer, options: Options, count: usize) -> Result<Matrix> {
        self.run(regularizer, options, Starts::Prior(count), None)
    }

    /// How near samples come to the training points.
    pub fn memorization(&self, samples: &Matrix) -> Result<Report> {
        memorization(&self.dataset, samples, THRESHOLD, &Exec::default())
    }

    /// The share of the first samples, those `again` holds too, that are memorized in only one of both.
    pub fn moved_across(&self, samples: &Matrix, again: &Matrix) -> Result<f64> {
        let near = |x: &Matrix| nearest(&self.dataset, x, Metric::L2, 1, &Exec::default());
        let (a, b) = (near(samples)?.distance, near(again)?.distance);
        let moved = a.iter().zip(&b).filter(|(a, b)| (**a <= THRESHOLD) != (**b <= THRESHOLD)).count();
        Ok(moved as f64 / b.len() as f64)
    }

    /// The paths of the unregularized flow.
    pub fn paths(&self, starts: Starts<'_>, steps: usize) -> Result<Paths> {
        let mut paths = Paths { t: Vec::new(), x: Vec::new() };
        let mut record = |_: u64, t: f64, x: &Matrix| {
            paths.t.push(t);
            paths.x.resize(x.rows(), Vec::new());
            paths.x.iter_mut().zip(points(x)).for_each(|(path, &point)| path.push(point));
            Ok(())
        };
        let options = self.uniform_in_s(Regularizer::None, steps)?;
        self.run(Regularizer::None, options, starts, Some(&mut record))?;
        Ok(paths)
    }
}

/// The rows of a matrix of two columns.
pub fn points(x: &Matrix) -> &[Point] {
    x.host().as_chunks().0
}

/// Paths on common times.
pub struct Paths {
    /// The times, falling.
    pub t: Vec<f64>,
    /// The states of each path at these times.
    pub x: Vec<Vec<Point>>,
}

/// How paths come to rest on their limits, the training points nearest to their ends.
pub struct Collapse {
    /// s = -ln σ at each time.
    pub s: Vec<f64>,
    /// |x - x*| of each path at these times.
    pub distance: Vec<Vec<f64>>,
    /// d ln|x - x*| / ds of each path over its last part, where a single training point has all the weight.
    pub slope: Vec<f64>,
}

impl Collapse {
    /// From here on |y - y'|²/2σ² is above 400 for any two training points y and y': a path within a few σ of its limit
    /// feels no other point.
    const SETTLED: f64 = 6.0;

    /// The collapse of `paths` on `data`.
    pub fn new(study: &Study, data: &[Point], paths: &Paths) -> Result<Self> {
        let s: Vec<f64> = paths.t.iter().map(|&t| study.sigma(t).map(|sigma| -sigma.ln())).collect::<Result<_>>()?;
        let distance: Vec<Vec<f64>> = (paths.x.iter())
            .map(|path| {
                let end = path[path.len() - 1];
                let limit = data.iter().min_by(|a, b| between(**a, end).total_cmp(&between(**b, end)));
                path.iter().map(|x| between(*x, *limit.expect("a training set has rows"))).collect()
            })
            .collect();
        let settled = s.partition_point(|&s| s < Self::SETTLED);
        let slope = distance.iter().map(|d| slope(&s[settled..], &d[settled..])).collect();
        Ok(Self { s, distance, slope })
    }

    /// The most that the solver's steps of h in s may add to a slope. Beside a single point the flow is dx/dv = x/2v in
    /// v = σ²; a Heun step to v(1 + δ), δ = e^{-2h} - 1, multiplies x by √(1 + δ) + δ³/16 + O(δ⁴): the slope is off by
    /// h²/2 to leading order.
    pub fn slope_error(&self) -> f64 {
        let h = (self.s[self.s.len() - 1] - self.s[0]) / (self.s.len() - 1) as f64;
        0.6 * h * h
    }
}

fn between(a: Point, b: Point) -> f64 {
    (a[0] - b[0]).hypot(a[1] - b[1])
}

/// The least-squares slope of ln y on x.
fn slope(x: &[f64], y: &[f64]) -> f64 {
    let mean = |v: &mut dyn Iterator<Item = f64>| v.sum::<f64>() / x.len() as f64;
    let (mx, my) = (mean(&mut x.iter().copied()), mean(&mut y.iter().map(|y| y.ln())));
    let covariance: f64 = x.iter().zip(y).map(|(x, y)| (x - mx) * (y.ln() - my)).sum();
    covariance / x.iter().map(|x| (x - mx).powi(2)).sum::<f64>()
}

/// The boundary of the square [-half, half]², `per_side` points a side: corners first, and midpoints for even `per_side`.
pub fn square(half: f64, per_side: usize) -> Vec<Point> {
    let side = |i: usize| half * (2.0 * i as f64 / per_side as f64 - 1.0);
    (0..per_side).map(side).flat_map(|u| [[u, -half], [half, u], [-u, half], [-half, -u]]).collect()
}

/// The training sets of reg Figure 3.
pub const PAIR: [Point; 2] = [[1.0, 0.0], [-1.0, 0.0]];
/// As [`PAIR`], with four points.
pub const SQUARE: [Point; 4] = [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]];

/// 0 on the hyperplane between the points of [`PAIR`].
pub fn off_axis(x: Point) -> f64 {
    x[0].abs()
}

/// 0 on the hyperplanes between neighbours in [`SQUARE`].
pub fn off_diagonals(x: Point) -> f64 {
    (x[0].abs() - x[1].abs()).abs()
}

/// The paths that start where `off` is 0, and the largest value it takes on them.
pub fn stay(paths: &Paths, off: fn(Point) -> f64) -> (usize, f64) {
    let on: Vec<_> = paths.x.iter().filter(|path| off(path[0]) == 0.0).collect();
    (on.len(), on.iter().copied().flatten().map(|&x| off(x)).fold(0.0, f64::max))
}
