//! Laws that hold for every data set and every x: derivatives, invariances, limits and bounds of the empirical score.

use mnemo::cpu::Cpu;
use mnemo::dataset::{Dataset, Decoding};
use mnemo::engine::{Grade, SharedEngine};
use mnemo::exec::Exec;
use mnemo::memorization::{Metric, nearest};
use mnemo::process::{Marginal, Process};
use mnemo::score::{Empirical, Evaluation, Regularizer, ScoreModel, Want};
use mnemo::tensor::{Matrix, View};
use proptest::prelude::*;
use std::sync::{Arc, LazyLock};

static ENGINE: LazyLock<SharedEngine> = LazyLock::new(|| Arc::new(Cpu::new(1, None).unwrap()));

/// A small data set with labels 0 and 1, a point and a direction, and a process at a time.
#[derive(Clone, Debug)]
struct Case {
    dim: usize,
    rows: Vec<f64>,
    labels: Vec<i64>,
    x: Vec<f64>,
    v: Vec<f64>,
    process: Process,
    t: f64,
}

fn processes() -> impl Strategy<Value = (Process, f64)> {
    prop_oneof![
        (0.2..5.0).prop_map(|t| (Process::ve_power(2.0, 1.0, 80.0).unwrap(), t)),
        (0.05..1.0).prop_map(|t| (Process::vp_linear(0.1, 20.0, 1.0).unwrap(), t)),
        (0.15..1.0).prop_map(|t| (Process::sub_vp(0.1, 20.0).unwrap(), t)),
        (0.2..0.95).prop_map(|t| (Process::flow().unwrap(), t)),
    ]
}

fn cases() -> impl Strategy<Value = Case> {
    (1usize..6, 1usize..12, processes()).prop_flat_map(|(dim, n, (process, t))| {
        let numbers = |len| prop::collection::vec(-2.0..2.0, len);
        (numbers(n * dim), prop::collection::vec(0i64..2, n), numbers(dim), numbers(dim))
            .prop_map(move |(rows, labels, x, v)| Case { dim, rows, labels, x, v, process: process.clone(), t })
    })
}

/// A regularizer, its strength relative to the density at x, and whether the score is that of one label.
fn options() -> impl Strategy<Value = (u8, f64, bool)> {
    (0u8..4, prop_oneof![-3.0..-0.1, 0.1..3.0], any::<bool>())
}

fn dataset(rows: &[f64], dim: usize, labels: &[i64]) -> Arc<Dataset> {
    let n = rows.len() / dim;
    let labels = (!labels.is_empty()).then(|| View::new(labels, n, 1));
    Arc::new(Dataset::copy(ENGINE.clone(), View::new(rows, n, dim), labels, Decoding::default()).unwrap())
}

fn score(data: &Arc<Dataset>, process: &Process, regularizer: Regularizer, label: Option<i64>) -> Empirical {
    // Nothing is left out: the laws are those of the whole sum.
    Empirical::new(data.clone(), process.clone(), regularizer, 0.0, label).unwrap()
}

fn eval(score: &Empirical, x: &[f64], t: f64) -> Evaluation {
    let want = Want {
        score: true,
        denoised: true,
        log_density: true,
        divergence: true,
        entropy: true,
        nearest_index: true,
        nearest_distance: true,
        ..Want::default()
    };
    let x = Matrix::from_host(x.to_vec(), 1, x.len());
    score.eval(&x, &[t], want, Grade::Double, &Exec::default()).unwrap()
}

fn s(e: &Evaluation) -> &[f64] {
    e.score.as_ref().unwrap().host()
}

fn denoised(e: &Evaluation) -> &[f64] {
    e.denoised.as_ref().unwrap().host()
}

fn log_density(e: &Evaluation) -> f64 {
    e.log_density.as_ref().unwrap()[0]
}

fn entropy(e: &Evaluation) -> f64 {
    e.entropy.as_ref().unwrap()[0]
}

fn norm(v: &[f64]) -> f64 {
    v.iter().map(|v| v * v).sum::<f64>().sqrt()
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    norm(&a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<_>>())
}

impl Case {
    fn data(&self) -> Arc<Dataset> {
        dataset(&self.rows, self.dim, &self.labels)
    }

    fn at(&self) -> Marginal {
        self.process.eval(self.t).unwrap()
    }

    fn plain(&self) -> Empirical {
        score(&self.data(), &self.process, Regularizer::None, None)
    }

    /// The score that `options` describes, and the factor that its regularizer puts on it.
    fn regularized(&self, (kind, log_strength, conditional): (u8, f64, bool)) -> (Empirical, f64) {
        let label = conditional.then(|| self.labels[0]);
        let data = self.data();
        let plain = score(&data, &self.process, Regularizer::None, label);
        let log_p = log_density(&eval(&plain, &self.x, self.t));
        let variance = self.at().sigma.powi(2);
        let n =
            if conditional { self.labels.iter().filter(|l| **l == self.labels[0]).count() } else { self.labels.len() };
        let log_volume = (n as f64).ln() + 0.5 * self.dim as f64 * (std::f64::consts::TAU * variance).ln();
        let (regularizer, factor) = match kind {
            0 => (Regularizer::None, 1.0),
            1 => (Regularizer::Tikhonov { c: log_strength.exp() }, variance / (variance + log_strength.exp())),
            2 => (Regularizer::BayesDensity { log_c: log_p + log_strength }, (-log_strength).min(0.0).exp()),
            _ => {
                let log_c = log_p + log_volume + log_strength;
                (Regularizer::BayesWeight { log_c }, (-log_strength).min(0.0).exp())
            }
        };
        (score(&data, &self.process, regularizer, label), factor)
    }

    /// How fast the score changes: the inverse of the length over which it does. A derivative of order k is about its
    /// (k + 1)-th power at most, up to a factor of a few.
    fn rate(&self) -> f64 {
        let Marginal { m, sigma, .. } = self.at();
        let spread = 4.0 * (self.dim as f64).sqrt();
        let reach = norm(&self.x) + m * spread;
        (1.0 + m * spread / sigma) / sigma + reach / (sigma * sigma)
    }

    /// A step for central differences: their error relative to the rate's power is that of step times rate, squared, which
    /// is 1e-8, times a factor of a few; rounding adds 1e-16 / 1e-4.
    fn step(&self) -> f64 {
        1e-4 / self.rate()
    }

    /// The central difference of `f` along `v`.
    fn difference(&self, v: &[f64], f: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
        let h = self.step();
        let at = |h: f64| f(&self.x.iter().zip(v).map(|(x, v)| x + h * v).collect::<Vec<_>>());
        at(h).iter().zip(at(-h)).map(|(a, b)| (a - b) / (2.0 * h)).collect()
    }
}

/// The error of a central difference; see [`Case::step`].
const DIFFERENCE: f64 = 1e-7;
/// A few dozen roundings, magnified by sums whose terms cancel.
const ROUNDING: f64 = 1e-12;

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn jvp_is_the_derivative_of_the_score(case in cases(), options in options()) {
        let (score, factor) = case.regularized(options);
        let [x, v] = [&case.x, &case.v].map(|v| Matrix::from_host(v.clone(), 1, case.dim));
        let found = score.jvp(&x, &[case.t], &v, Grade::Double, &Exec::default()).unwrap();
        let expected = case.difference(&case.v, |x| s(&eval(&score, x, case.t)).to_vec());
        let size = factor * case.rate().powi(2) * norm(&case.v);
        prop_assert!(distance(found.host(), &expected) <= DIFFERENCE * size, "{:?} {expected:?}", found.host());
    }

    #[test]
    fn divergence_is_the_trace_of_the_derivative(case in cases(), options in options()) {
        let (score, factor) = case.regularized(options);
        let found = eval(&score, &case.x, case.t).divergence.unwrap()[0];
        let expected: f64 = (0..case.dim)
            .map(|k| {
                let mut axis = vec![0.0; case.dim];
                axis[k] = 1.0;
                case.difference(&axis, |x| vec![s(&eval(&score, x, case.t))[k]])[0]
            })
            .sum();
        let size = factor * case.rate().powi(2) * case.dim as f64;
        prop_assert!((found - expected).abs() <= DIFFERENCE * size, "{found} {expected}");
    }

    #[test]
    fn score_is_the_gradient_of_log_density(case in cases(), conditional in any::<bool>()) {
        let (score, _) = case.regularized((0, 0.1, conditional));
        let found = eval(&score, &case.x, case.t);
        let along: f64 = s(&found).iter().zip(&case.v).map(|(s, v)| s * v).sum();
        let expected = case.difference(&case.v, |x| vec![log_density(&eval(&score, x, case.t))])[0];
        prop_assert!((along - expected).abs() <= DIFFERENCE * case.rate() * norm(&case.v), "{along} {expected}");
    }

    /// Rows and m times as much of x, moved together.
    #[test]
    fn translation_changes_nothing(case in cases(), by in -50.0..50.0f64) {
        let (p, n) = (case.at(), case.rows.len() / case.dim);
        let moved = Case {
            rows: case.rows.iter().map(|y| y + by).collect(),
            x: case.x.iter().map(|x| x + p.m * by).collect(),
            ..case.clone()
        };
        let [a, b] = [&case, &moved].map(|c| eval(&c.plain(), &c.x, c.t));
        // The move rounds x and the rows to the digits of `by`.
        let tolerance = ROUNDING * (1.0 + by.abs()) * case.rate();
        prop_assert!(distance(s(&a), s(&b)) <= tolerance * case.rate());
        prop_assert!((log_density(&a) - log_density(&b)).abs() <= tolerance + ROUNDING);
        prop_assert!((entropy(&a) - entropy(&b)).abs() <= tolerance * (n as f64 + 1.0));
        let shift: Vec<f64> = denoised(&a).iter().map(|y| y + by).collect();
        let size = p.sigma * p.sigma / p.m * case.rate() + 1.0 + by.abs();
        prop_assert!(distance(denoised(&b), &shift) <= tolerance * size);
    }

    #[test]
    fn order_of_rows_changes_nothing_but_indices(case in cases(), turn in 0usize..12) {
        let n = case.labels.len();
        let place = |i: usize| (i + turn) % n;
        let mut turned = case.clone();
        for i in 0..n {
            turned.rows[place(i) * case.dim..][..case.dim].copy_from_slice(&case.rows[i * case.dim..][..case.dim]);
        }
        let [a, b] = [&case, &turned].map(|c| eval(&c.plain(), &c.x, c.t));
        prop_assert!(distance(s(&a), s(&b)) <= ROUNDING * case.rate());
        prop_assert!((log_density(&a) - log_density(&b)).abs() <= ROUNDING * (1.0 + log_density(&a).abs()));
        prop_assert_eq!(&a.nearest_distance, &b.nearest_distance);
        let [a, b] = [a, b].map(|e| e.nearest_index.unwrap()[0] as usize);
        // Random rows have no ties.
        prop_assert_eq!(place(a), b);
    }

    #[test]
    fn a_data_set_twice_is_the_data_set(case in cases()) {
        let n = case.labels.len();
        let twice = Case {
            rows: [&case.rows[..], &case.rows].concat(),
            labels: [&case.labels[..], &case.labels].concat(),
            ..case.clone()
        };
        let [a, b] = [&case, &twice].map(|c| eval(&c.plain(), &c.x, c.t));
        prop_assert!(distance(s(&a), s(&b)) <= ROUNDING * case.rate());
        prop_assert!((log_density(&a) - log_density(&b)).abs() <= ROUNDING * (1.0 + log_density(&a).abs()));
        prop_assert_eq!(&a.nearest_index, &b.nearest_index);
        let gain = entropy(&b) - entropy(&a);
        prop_assert!((gain - 2f64.ln()).abs() <= ROUNDING * n as f64, "{gain}");
    }

    #[test]
    fn units_do_not_matter(case in cases(), sigma in 0.1..5.0f64, unit in 0.01..100.0f64) {
        let process = Process::ve_power(2.0, 1.0, 1e3).unwrap();
        let case = Case { process, t: sigma, ..case };
        let scaled = Case {
            rows: case.rows.iter().map(|y| unit * y).collect(),
            x: case.x.iter().map(|x| unit * x).collect(),
            t: unit * sigma,
            ..case.clone()
        };
        let [a, b] = [&case, &scaled].map(|c| eval(&c.plain(), &c.x, c.t));
        let back: Vec<f64> = s(&b).iter().map(|s| unit * s).collect();
        // ℓ is off by a few roundings of itself, at most (reach/σ)²/2 of them.
        let tolerance = ROUNDING * (1.0 + (case.rate() * sigma).powi(2));
        prop_assert!(distance(s(&a), &back) <= tolerance * case.rate());
        let expected = log_density(&a) - case.dim as f64 * unit.ln();
        prop_assert!((log_density(&b) - expected).abs() <= tolerance);
        prop_assert!((entropy(&a) - entropy(&b)).abs() <= tolerance);
    }

    #[test]
    fn large_noise_leaves_the_mean(case in cases()) {
        let n = case.labels.len();
        let case = Case { process: Process::ve_power(2.0, 1.0, 1e9).unwrap(), t: 1e7, ..case };
        let e = eval(&case.plain(), &case.x, case.t);
        let mean: Vec<f64> =
            (0..case.dim).map(|k| case.rows[k..].iter().step_by(case.dim).sum::<f64>() / n as f64).collect();
        // ℓ differ by at most |x - y|²/σ², 1e-12.
        prop_assert!(distance(denoised(&e), &mean) <= 1e-11);
        prop_assert!((entropy(&e) - (n as f64).ln()).abs() <= 1e-11);
    }

    #[test]
    fn small_noise_leaves_the_nearest_row(case in cases()) {
        let case = Case { process: Process::ve_power(2.0, 1.0, 80.0).unwrap(), t: 1e-6, ..case };
        let mut squares: Vec<f64> =
            case.rows.chunks_exact(case.dim).map(|y| distance(&case.x, y).powi(2)).collect();
        let best = (0..squares.len()).min_by(|&a, &b| squares[a].total_cmp(&squares[b])).unwrap();
        squares.sort_by(f64::total_cmp);
        // The second row weighs e^-50 at most.
        prop_assume!(squares.len() == 1 || squares[1] - squares[0] > 1e-10);
        let e = eval(&case.plain(), &case.x, case.t);
        let row = &case.rows[best * case.dim..][..case.dim];
        prop_assert!(distance(denoised(&e), row) <= 1e-15 * (1.0 + norm(row)));
        prop_assert!(entropy(&e) < 1e-18);
        prop_assert_eq!(e.nearest_index.unwrap()[0], best as i64);
    }

    #[test]
    fn entropy_is_between_0_and_ln_n(case in cases(), sigma in -14.0..14.0f64) {
        let case = Case { process: Process::ve_power(2.0, 1.0, 1e7).unwrap(), t: sigma.exp(), ..case };
        let entropy = entropy(&eval(&case.plain(), &case.x, case.t));
        let most = (case.labels.len() as f64).ln();
        prop_assert!((0.0..=most + ROUNDING).contains(&entropy), "{entropy} {most}");
    }

    #[test]
    fn tikhonov_divides_by_variance_and_strength(case in cases(), log_c in -20.0..5.0f64) {
        let (c, variance) = (log_c.exp(), case.at().sigma.powi(2));
        let plain = eval(&case.plain(), &case.x, case.t);
        let found = eval(&score(&case.data(), &case.process, Regularizer::Tikhonov { c }, None), &case.x, case.t);
        let factor = variance / (variance + c);
        let expected: Vec<f64> = s(&plain).iter().map(|s| factor * s).collect();
        // One factor, and the order in which it is applied.
        prop_assert!(distance(s(&found), &expected) <= 1e-15 * norm(&expected));
        // x̂0 is (x + σ² s)/m of the regularized score.
        let p = case.at();
        let clean: Vec<f64> = case.x.iter().zip(s(&found)).map(|(x, s)| (x + variance * s) / p.m).collect();
        let size = (norm(&case.x) + variance * norm(s(&plain))) / p.m;
        prop_assert!(distance(denoised(&found), &clean) <= ROUNDING * size);
    }

    #[test]
    fn empirical_bayes_shrinks_by_kappa(case in cases(), log_c in -30.0..30.0f64) {
        let plain = eval(&case.plain(), &case.x, case.t);
        let (n, variance) = (case.labels.len() as f64, case.at().sigma.powi(2));
        let log_volume = n.ln() + 0.5 * case.dim as f64 * (std::f64::consts::TAU * variance).ln();
        for (regularizer, log_ratio) in [
            (Regularizer::BayesDensity { log_c }, log_density(&plain) - log_c),
            (Regularizer::BayesWeight { log_c }, log_density(&plain) + log_volume - log_c),
        ] {
            let found = eval(&score(&case.data(), &case.process, regularizer, None), &case.x, case.t);
            let kappa = log_ratio.min(0.0).exp();
            prop_assert!(kappa > 0.0 && kappa <= 1.0);
            let expected: Vec<f64> = s(&plain).iter().map(|s| kappa * s).collect();
            // κ is off, relatively, as ln p is absolutely.
            let tolerance = ROUNDING * (1.0 + log_ratio.abs());
            prop_assert!(distance(s(&found), &expected) <= tolerance * norm(&expected));
            prop_assert!(norm(s(&found)) <= norm(s(&plain)) * (1.0 + ROUNDING));
            // The density is that of the mixture itself.
            prop_assert_eq!(log_density(&found), log_density(&plain));
        }
    }

    /// Large enough for float32 arithmetic to be chosen, and never worse than 1e-5.
    #[test]
    fn single_precision_callers_get_five_digits(
        (n, dim) in (256usize..400, 16usize..24),
        seed in any::<u64>(),
        log_sigma in -4.0..3.0f64,
    ) {
        let stream = mnemo::random::Stream { seed, purpose: mnemo::random::Purpose::Prior, step: 0 };
        let mut numbers = vec![0.0; (n + 2) * dim];
        stream.fill_normal(0, &mut numbers);
        let (rows, noise) = numbers.split_at(n * dim);
        let sigma = log_sigma.exp();
        let x: Vec<f64> = rows[..dim].iter().zip(noise).map(|(y, z)| y + sigma * z).collect();
        let score = score(&dataset(rows, dim, &[]), &Process::ve_power(2.0, 1.0, 80.0).unwrap(), Regularizer::None, None);
        let x = Matrix::from_host(x, 1, dim);
        let want = Want { score: true, log_density: true, ..Want::default() };
        let of = |grade| score.eval(&x, &[sigma], want, grade, &Exec::default()).unwrap();
        let (single, double) = (of(Grade::Single), of(Grade::Double));
        prop_assert!(distance(s(&single), s(&double)) <= 1e-5 * norm(s(&double)));
        prop_assert!((log_density(&single) - log_density(&double)).abs() <= 1e-5 * log_density(&double).abs().max(1.0));
    }

    /// The nearest row of a score without m is that of a search.
    #[test]
    fn scores_and_searches_find_the_same_row(case in cases()) {
        let case = Case { process: Process::ve_power(2.0, 1.0, 80.0).unwrap(), t: 1.0, ..case };
        let e = eval(&case.plain(), &case.x, case.t);
        let x = Matrix::from_host(case.x.clone(), 1, case.dim);
        let found = nearest(&case.data(), &x, Metric::L2, 1, &Exec::default()).unwrap();
        prop_assert_eq!(found.index, e.nearest_index.unwrap());
        prop_assert_eq!(found.distance, e.nearest_distance.unwrap());
    }
}
