//! The error bounds of empirical scores against the truth: 1e5 queries over all noise levels, none of them beyond its
//! bound, and bounds that say something.

use crate::api::{Api, Call, Decoding, EVERYTHING, Empirical, Kind, Marginal, Matrix, Outputs, Regularizer, Want};
use crate::data::{Complaints, Rng, distance, norm};
use crate::home::is_cuda;
use crate::reference::{Double, two_product, two_sum};
use crate::rust::Machine;
use mnemo::tensor::Dtype;
use std::collections::BTreeMap;

both!(asking_changes_nothing, bounds_grow_with_tolerance);

/// Half the distance from 1 to the next number.
const U32: f64 = 0.5 * f32::EPSILON as f64;
const U64: f64 = 0.5 * f64::EPSILON;

const NEITHER: Want = Want { denoised_error_bound: false, log_density_error_bound: false, ..EVERYTHING };
const BOUNDED: Want = Want {
    score: false,
    denoised: true,
    log_density: true,
    divergence: false,
    entropy: false,
    nearest_index: false,
    nearest_distance: false,
    denoised_error_bound: true,
    log_density_error_bound: true,
};

/// m y_n for every number of the data, as an unevaluated sum of two.
pub struct Scaled {
    d: usize,
    pub m: f64,
    high: Vec<f64>,
    low: Vec<f64>,
}

impl Scaled {
    pub fn new(data: &[f64], d: usize, m: f64) -> Self {
        let products = data.iter().map(|&y| two_product(m, y));
        Self { d, m, high: products.clone().map(|p| p.0).collect(), low: products.map(|p| p.1).collect() }
    }

    /// The largest distance of a row from the mean row.
    pub fn radius(&self) -> f64 {
        let len = (self.high.len() / self.d) as f64;
        let mean: Vec<f64> = (0..self.d).map(|k| self.high[k..].iter().step_by(self.d).sum::<f64>() / len).collect();
        self.high.chunks_exact(self.d).map(|row| distance(row, &mean)).fold(0.0, f64::max)
    }

    /// |x - m y_n|². Each difference and its square are off by half an ulp of themselves, the sum by nothing to speak of
    /// (its parts are summed with their errors), all in all 3 roundings of the result. Bounds grant sums of squared
    /// differences 12 and more.
    fn squared_distance(&self, x: &[f64], n: usize) -> Double {
        const LANES: usize = 8;
        let (mut sums, mut errors) = ([0.0; LANES], [0.0; LANES]);
        let row = n * self.d..(n + 1) * self.d;
        let (high, low) = (&self.high[row.clone()], &self.low[row]);
        let mut add = |l: usize, x: f64, high: f64, low: f64| {
            let difference = (x - high) - low;
            let square = difference * difference;
            let sum = sums[l] + square;
            let of_square = sum - sums[l];
            errors[l] += (sums[l] - (sum - of_square)) + (square - of_square);
            sums[l] = sum;
        };
        let whole = self.d / LANES * LANES;
        for k in (0..whole).step_by(LANES) {
            for l in 0..LANES {
                add(l, x[k + l], high[k + l], low[k + l]);
            }
        }
        for k in whole..self.d {
            add(k - whole, x[k], high[k], low[k]);
        }
        (0..LANES).fold(Double::default(), |total, l| total.plus(two_sum(sums[l], errors[l])))
    }
}

/// The truth at one x.
pub struct Truth {
    pub denoised: Vec<Double>,
    pub log_density: Double,
    /// Of the weights, without the regularizer.
    pub entropy: f64,
    /// |x - m y_n|² for every row, and the first row of which it is the least.
    pub squared: Vec<f64>,
    pub nearest: usize,
}

/// Everything in float64, about the nearest row and with sums that keep their errors: good to a few roundings of |y - b|
/// for the rows that weigh, and to 5 of ln p and its terms. Bounds grant at least 8 of either.
pub fn truth(x: &[f64], data: &[f64], scaled: &Scaled, p: Marginal, regularizer: Regularizer) -> Truth {
    let d = x.len();
    let len = data.len() / d;
    let precision = 1.0 / (p.sigma * p.sigma);
    let squared: Vec<Double> = (0..len).map(|n| scaled.squared_distance(x, n)).collect();
    let best = (0..len).min_by(|&a, &b| squared[a].0.total_cmp(&squared[b].0)).unwrap();
    let b = &data[best * d..(best + 1) * d];
    let negative = Double(-squared[best].0, -squared[best].1);
    let (mut rest, mut of_rest, mut excess) = (0.0, 0.0, 0.0);
    let (mut sums, mut errors) = (vec![0.0; d], vec![0.0; d]);
    for n in (0..len).filter(|&n| n != best) {
        let above = 0.5 * precision * squared[n].plus(negative).0;
        let w = (-above).exp();
        // What is less than this of the nearest row's weight is lost beside every rounding.
        if w < 1e-40 {
            continue;
        }
        let sum = two_sum(rest, w);
        (rest, of_rest, excess) = (sum.0, of_rest + sum.1, excess + w * above);
        for (((sum, error), y), b) in sums.iter_mut().zip(&mut errors).zip(&data[n * d..(n + 1) * d]).zip(b) {
            let next = two_sum(*sum, w * (y - b));
            (*sum, *error) = (next.0, *error + next.1);
        }
    }
    let rest = rest + of_rest;
    let shift: Vec<f64> = sums.iter().zip(&errors).map(|(sum, error)| (sum + error) / (1.0 + rest)).collect();
    let volume = 0.5 * d as f64 * (std::f64::consts::TAU.ln() + 2.0 * p.sigma.ln());
    let exponent = Double(-0.5 * precision * squared[best].0, -0.5 * precision * squared[best].1);
    let log_sum = exponent.plus(Double(rest.ln_1p(), 0.0));
    let log_density = log_sum.plus(Double(-(len as f64).ln(), 0.0)).plus(Double(-volume, 0.0));
    // f and 1 - f, either to its own precision.
    let bayes = |log: Double, log_c: f64| {
        let log = log.plus(Double(-log_c, 0.0)).0.min(0.0);
        (log.exp(), -log.exp_m1())
    };
    let (factor, complement) = match regularizer {
        Regularizer::None => (1.0, 0.0),
        Regularizer::Tikhonov { c } => (1.0 / (1.0 + c * precision), c / (p.sigma * p.sigma + c)),
        Regularizer::BayesDensity { log_c } => bayes(log_density, log_c),
        Regularizer::BayesWeight { log_c } => bayes(log_sum, log_c),
    };
    // f ȳ + (1 - f) x/m from the side of the greater share, ȳ being b + shift.
    let denoised = (0..d)
        .map(|k| {
            let from_best = ((x[k] - scaled.high[best * d + k]) - scaled.low[best * d + k]) / scaled.m;
            if factor >= 0.5 {
                Double(b[k], 0.0).plus(Double(shift[k] + complement * (from_best - shift[k]), 0.0))
            } else {
                let quotient = x[k] / scaled.m;
                let rest = (-quotient).mul_add(scaled.m, x[k]) / scaled.m;
                Double(quotient, rest).plus(Double(factor * (shift[k] - from_best), 0.0))
            }
        })
        .collect();
    // H = ln z + Σ w (ℓ_best - ℓ): no term is negative.
    let entropy = rest.ln_1p() + excess / (1.0 + rest);
    let squared = squared.iter().map(|s| s.0).collect();
    Truth { denoised, log_density, entropy, squared, nearest: best }
}

/// A kind of data, and how much is asked of it.
struct Case {
    name: &'static str,
    len: usize,
    d: usize,
    dtype: Dtype,
    decoding: Decoding,
    shape: Shape,
    kind: Kind,
    regularizers: Vec<Regularizer>,
    /// Of so many labels one is asked for; 0 is a score of all rows.
    labels: usize,
    queries: usize,
    /// The median of bound / error that is good enough.
    useful: f64,
}

/// What rows look like.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    Normal,
    /// All numbers of a row are the same: the roundings of its products are alike, too.
    Grey,
    Binary,
    /// Two numbers of a row are not 0.
    Sparse,
    /// Rows of very different length.
    Tails,
    /// Far from the origin.
    Far,
}

/// Random rows: a tenth of them copies of others, a tenth copies with differences from 1e-6 to 1e-3.
fn rows(rng: &mut Rng, len: usize, d: usize, dtype: Dtype, shape: Shape) -> Vec<f64> {
    let mut data = rng.normals(len * d);
    for row in data.chunks_exact_mut(d) {
        let (size, column) = (rng.normal(), rng.below(d));
        for (k, v) in row.iter_mut().enumerate() {
            *v = match shape {
                Shape::Normal => *v,
                Shape::Grey => size,
                Shape::Binary => f64::from(*v > 0.3),
                Shape::Sparse => *v * f64::from(k == column || k == 3),
                Shape::Tails => *v * (2.0 * size).exp(),
                Shape::Far => *v + 1000.0,
            };
        }
    }
    if dtype == Dtype::U8 {
        data.iter_mut().for_each(|v| *v = (128.0 + 50.0 * *v).round().clamp(0.0, 255.0));
    }
    for n in 0..len / 5 {
        let (from, to) = (rng.below(len), rng.below(len));
        let near = if n % 2 == 0 || dtype == Dtype::U8 { 0.0 } else { 10f64.powf(-3.0 - 3.0 * rng.uniform()) };
        for k in 0..d {
            data[to * d + k] = data[from * d + k] + near * rng.normal();
        }
    }
    data
}

/// A query of one of many sorts.
fn query(rng: &mut Rng, data: &[f64], d: usize, p: Marginal) -> Vec<f64> {
    let len = data.len() / d;
    let (a, b) = (rng.below(len), rng.below(len));
    let (a, b) = (&data[a * d..(a + 1) * d], &data[b * d..(b + 1) * d]);
    let length = 10f64.powf(3.0 * rng.uniform());
    match rng.below(12) {
        // As far from two rows, up to some noise or none.
        0..=2 => {
            let noise = rng.pick(&[0.0, 1e-9, 1e-3, 1.0]) * p.sigma;
            (0..d).map(|k| 0.5 * p.m * (a[k] + b[k]) + noise * rng.normal()).collect()
        }
        3 => a.iter().map(|y| p.m * y).collect(),
        4 => (0..d).map(|_| p.sigma * rng.normal()).collect(),
        // Far away: anywhere, and straight beyond a row.
        5 => (0..d).map(|_| length * rng.normal()).collect(),
        6 => a.iter().map(|y| length * y).collect(),
        7 => (0..d).map(|k| p.m * (a[k] + 0.01 * (b[k] - a[k]))).collect(),
        _ => (0..d).map(|k| p.m * a[k] + p.sigma * rng.normal()).collect(),
    }
}

const TOLERANCES: [f64; 4] = [0.0, 1e-12, 1e-6, 1e-3];

fn run(case: &Case, complaints: &mut Complaints) -> usize {
    const BATCH: usize = 50;
    let Case { d, .. } = *case;
    let mut rng = Rng((case.len * d + case.queries) as u64);
    let stored = Matrix::new(case.dtype, &rows(&mut rng, case.len, d, case.dtype, case.shape), d);
    let data: Vec<f64> = stored.values().iter().map(|v| case.decoding.scale * v + case.decoding.shift).collect();
    let label = |n: usize| n % case.labels.max(1);
    let labels: Vec<f64> = (0..case.len).map(|n| label(n) as f64).collect();
    let labels = Matrix::new(Dtype::I32, &labels, 1);
    // The rows that take part; queries are near to others as well.
    let every = data;
    let data: Vec<f64> =
        every.chunks_exact(d).enumerate().filter(|(n, _)| label(*n) == 0).flat_map(|(_, row)| row).copied().collect();
    let process = Machine::process(&case.kind).unwrap();
    let scaled: std::cell::RefCell<BTreeMap<u64, std::rc::Rc<Scaled>>> = Default::default();
    let at_m = |m: f64| {
        let new = || Scaled::new(&data, d, m).into();
        scaled.borrow_mut().entry(m.to_bits()).or_insert_with(new).clone()
    };
    let machines: Vec<Machine> = Machine::every(2);
    let datasets: Vec<_> = machines.iter().map(|m| m.dataset(&stored, Some(&labels), case.decoding).unwrap()).collect();
    let diameter = 2.0 * at_m(1.0).radius();
    // bound / error of every kind of caller, output and tolerance.
    let mut found: BTreeMap<(usize, &str, usize), Vec<f64>> = BTreeMap::new();
    let batches = case.queries.div_ceil(BATCH);
    let mut some_times = Vec::new();
    for i in 0..8 {
        let sigma = 0.002 * 40000f64.powf(f64::from(i) / 7.0);
        some_times.extend(Machine::time_of_sigma(&process, sigma.min(0.999)));
    }
    for batch in 0..batches {
        let tolerance = TOLERANCES[batch % 4];
        let regularizer = case.regularizers[(batch / 4) % case.regularizers.len()];
        let dtype = batch / 4 / case.regularizers.len() % 2;
        let machine = batch / 8 / case.regularizers.len() % machines.len();
        // Where m = 1, σ is what it likes; elsewhere it is one of a few, for which m y is kept.
        let t: Vec<f64> = match case.kind {
            Kind::VePower(..) => (0..BATCH).map(|_| 0.002 * 40000f64.powf(rng.uniform())).collect(),
            _ => (0..BATCH).map(|_| rng.pick(&some_times)).collect(),
        };
        let at = Machine::at(&process, &t).unwrap();
        let x: Vec<f64> = at.iter().flat_map(|&p| query(&mut rng, &every, d, p)).collect();
        let x = Matrix::new([Dtype::F32, Dtype::F64][dtype], &x, d);
        let options = Empirical { regularizer, tolerance, label: (case.labels > 0).then_some(0) };
        let score = machines[machine].empirical(&datasets[machine], &process, options).unwrap();
        let out = Machine::eval(&score, &x, &t, BOUNDED, Call::default()).unwrap();
        for (i, &p) in at.iter().enumerate() {
            let Truth { denoised, log_density, .. } = truth(&x.row(i), &data, &at_m(p.m), p, regularizer);
            let own = out.denoised[i * d..(i + 1) * d].iter().zip(&denoised);
            let error = own.map(|(o, y)| y.plus(Double(-o, 0.0)).0.powi(2)).sum::<f64>().sqrt();
            let of_log = Double(out.log_density[i], 0.0).plus(Double(-log_density.0, -log_density.1)).0.abs();
            let bounds = [out.denoised_error_bound[i], out.log_density_error_bound[i]];
            // An error may be less than the rounding of the result, by luck, and less than was allowed to be left out.
            let rounding =
                [norm(&out.denoised[i * d..(i + 1) * d]) * [U32, U64][dtype], out.log_density[i].abs() * U64];
            let least = [rounding[0] + tolerance * diameter, rounding[1] + tolerance];
            let errors = [("denoised", error, bounds[0], least[0]), ("log_density", of_log, bounds[1], least[1])];
            for (name, error, bound, least) in errors {
                complaints.unless(bound.is_finite() && bound >= 0.0 && error <= bound, || {
                    format!(
                        "{} {:?}, {}, sigma = {:e}, tolerance = {tolerance:e}, {regularizer:?}, {}: {name} is off by {error:e}, \
                         which the bound says is at most {bound:e}",
                        case.name,
                        case.shape,
                        x.dtype().name(),
                        p.sigma,
                        machines[machine].describe(),
                    )
                });
                found.entry((dtype, name, batch % 4)).or_default().push(bound / error.max(least));
            }
        }
    }
    for ((dtype, name, tolerance), mut ratios) in found {
        ratios.sort_unstable_by(f64::total_cmp);
        let median = ratios[ratios.len() / 2];
        complaints.unless(median <= case.useful, || {
            let caller = ["F32", "F64"][dtype];
            format!(
                "{}, {caller}, tolerance {tolerance}, {name}: half the bounds are {median:.0} times the error",
                case.name
            )
        });
    }
    batches * BATCH
}

#[test]
fn no_error_is_beyond_its_bound() {
    let plain = Decoding::default();
    let edm = Kind::VePower(2.0, 1.0, 80.0);
    let none = vec![Regularizer::None];
    let every = vec![
        Regularizer::None,
        Regularizer::Tikhonov { c: 0.01 },
        Regularizer::BayesDensity { log_c: -8.0 },
        Regularizer::BayesWeight { log_c: -4.0 },
    ];
    let case = |name, len, d, dtype, queries| Case {
        name,
        len,
        d,
        dtype,
        decoding: plain,
        shape: Shape::Normal,
        kind: edm.clone(),
        regularizers: none.clone(),
        labels: 0,
        queries,
        useful: 1000.0,
    };
    let pixels = Decoding { scale: 2.0 / 255.0, shift: -1.0 };
    let cases = [
        case("the plane", 60, 2, Dtype::F64, 30_000),
        case("several chunks of the plane", 2100, 2, Dtype::F32, 3000),
        case("16 columns", 400, 16, Dtype::F16, 16_000),
        Case { decoding: pixels, ..case("64 columns of pixels", 300, 64, Dtype::U8, 20_000) },
        case("784 columns", 300, 784, Dtype::F32, 3000),
        // What whole numbers leave of a query counts in full, whichever way it points.
        Case { decoding: pixels, useful: 3000.0, ..case("784 columns of pixels", 300, 784, Dtype::U8, 3000) },
        Case {
            decoding: Decoding { scale: -0.5, shift: 3.0 },
            kind: Kind::VpLinear(0.1, 20.0, 1.0),
            labels: 3,
            ..case("bytes, a label, m below 1", 1700, 65, Dtype::U8, 1500)
        },
        case("projected", 4200, 128, Dtype::F32, 2000),
        Case { kind: Kind::VpLinear(0.1, 20.0, 1.0), ..case("m below 1", 300, 20, Dtype::F32, 10_000) },
        Case { regularizers: every.clone(), ..case("regularized", 60, 3, Dtype::F64, 12_000) },
        Case {
            regularizers: every.clone(),
            kind: Kind::VpLinear(0.1, 20.0, 1.0),
            ..case("regularized, m below 1", 280, 24, Dtype::F32, 4000)
        },
        // The weights at a noised row sum to about exp(-d/2) = exp(-150), so that the factor is far from 0 and has an error of
        // its own; times |ȳ - x| of up to 1400 that is most of the whole.
        Case {
            regularizers: vec![Regularizer::BayesWeight { log_c: -150.0 }],
            ..case("a factor with an error", 40, 300, Dtype::F64, 2400)
        },
        Case { labels: 3, ..case("a label in the plane", 300, 2, Dtype::F32, 3000) },
        Case { labels: 2, regularizers: every, ..case("a label, regularized", 500, 24, Dtype::F64, 3200) },
        // Where many rows weigh, their errors cancel more than a bound may count on.
        Case { labels: 3, useful: 3000.0, ..case("a label of many rows", 4200, 128, Dtype::F32, 1200) },
    ];
    // Rows that the model of independent roundings was not made for.
    let odd = [Shape::Grey, Shape::Binary, Shape::Sparse, Shape::Tails, Shape::Far].map(|shape| Case {
        shape,
        useful: 3000.0,
        ..case("odd rows", 280, 160, Dtype::F32, 1600)
    });
    let mut complaints = Complaints::default();
    let asked: usize = cases.iter().chain(&odd).map(|case| run(case, &mut complaints)).sum();
    assert!(asked >= 100_000);
    complaints.end();
}

/// Rows and queries of every sort, in a dimension answered by differences and one answered by products.
fn settings() -> Vec<(Matrix, Matrix, Vec<f64>)> {
    let mut rng = Rng(5);
    let mut setting = |len: usize, d: usize, dtype: Dtype| {
        let data = rows(&mut rng, len, d, Dtype::F32, Shape::Normal);
        let t: Vec<f64> = (0..60).map(|_| 0.002 * 40000f64.powf(rng.uniform())).collect();
        let x: Vec<f64> = t
            .iter()
            .flat_map(|&sigma| query(&mut rng, &data, d, Marginal { m: 1.0, sigma, beta: 0.0, g: 0.0 }))
            .collect();
        (Matrix::new(Dtype::F32, &data, d), Matrix::new(dtype, &x, d), t)
    };
    vec![
        setting(50, 3, Dtype::F64),
        setting(400, 32, Dtype::F32),
        setting(4200, 130, Dtype::F32),
        setting(400, 32, Dtype::F64),
    ]
}

fn evaluate<A: Api>((rows, x, t): &(Matrix, Matrix, Vec<f64>), options: Empirical, wants: &[Want]) -> Vec<Outputs> {
    let machine = A::new(2);
    let dataset = machine.dataset(rows, None, Decoding::default()).unwrap();
    let process = A::process(&Kind::VePower(2.0, 1.0, 80.0)).unwrap();
    let score = machine.empirical(&dataset, &process, options).unwrap();
    wants.iter().map(|want| A::eval(&score, x, t, *want, Call::default()).unwrap()).collect()
}

/// Not a bit of another output, whichever are asked for; and a bound is the same with the output it bounds and without, where
/// nothing else is asked for that decides about the arithmetic.
fn asking_changes_nothing<A: Api>() {
    let none = Want::default();
    let wants = [
        NEITHER,
        none,
        Want { score: true, ..none },
        Want { denoised: true, ..none },
        Want { log_density: true, entropy: true, ..none },
        Want { divergence: true, ..none },
        Want { nearest_index: true, nearest_distance: true, ..none },
    ];
    for setting in settings() {
        for regularizer in [Regularizer::None, Regularizer::BayesWeight { log_c: -4.0 }] {
            let options = Empirical { regularizer, ..Empirical::default() };
            for want in wants {
                let both = Want { denoised_error_bound: true, log_density_error_bound: true, ..want };
                let first = Want { log_density_error_bound: false, ..both };
                let second = Want { denoised_error_bound: false, ..both };
                let found = evaluate::<A>(&setting, options, &[want, both, first, second]);
                let without = |o: &Outputs| {
                    Outputs { denoised_error_bound: vec![], log_density_error_bound: vec![], ..o.clone() }.bits()
                };
                for more in &found[1..] {
                    assert_eq!(without(&found[0]), without(more), "{want:?}");
                }
                assert_eq!(found[1].denoised_error_bound.len(), setting.1.rows);
                assert_eq!(found[1].denoised_error_bound, found[2].denoised_error_bound, "{want:?}");
                assert_eq!(found[1].log_density_error_bound, found[3].log_density_error_bound, "{want:?}");
            }
            let alone = Want { denoised_error_bound: true, ..none };
            let found = evaluate::<A>(&setting, options, &[alone, Want { denoised: true, ..alone }]);
            assert_eq!(found[0].denoised_error_bound, found[1].denoised_error_bound);
        }
    }
}

/// What may be left out is in the bound. Where more may be, fewer rows may count and be measured better, so only where the
/// arithmetic is always the same (few columns and F64) does a bound have to grow.
fn bounds_grow_with_tolerance<A: Api>() {
    for (i, setting) in settings().iter().enumerate() {
        let found = TOLERANCES.map(|tolerance| {
            let options = Empirical { tolerance, ..Empirical::default() };
            evaluate::<A>(setting, options, &[BOUNDED]).remove(0)
        });
        for pair in found.windows(2) {
            let bounds = pair[0].denoised_error_bound.iter().zip(&pair[1].denoised_error_bound);
            let of_log = pair[0].log_density_error_bound.iter().zip(&pair[1].log_density_error_bound);
            for (less, more) in bounds.chain(of_log) {
                assert!(less.is_finite() && *less >= 0.0 && more.is_finite());
                // A mean over fewer rows lies elsewhere by so little.
                assert!(i > 0 || *more >= 0.99 * less, "{more:e} at more tolerance than {less:e}");
            }
        }
        let sum = |o: &Outputs| o.denoised_error_bound.iter().sum::<f64>();
        // Few columns, or a device: every row is summed.
        assert!(i == 0 || is_cuda() || sum(&found[3]) > 1.001 * sum(&found[0]));
    }
}
