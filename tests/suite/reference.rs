//! The empirical score again (reg 3.8), row by row with squared differences in twice float64's precision, and how well
//! float64 can know each of its results.

use crate::api::{Marginal, Regularizer};
use crate::data::norm;

/// An unevaluated sum of two float64 numbers, the second below half an ulp of the first (Dekker 1971).
#[derive(Clone, Copy, Default)]
pub struct Double(pub f64, pub f64);

pub fn two_sum(a: f64, b: f64) -> Double {
    let sum = a + b;
    let of_b = sum - a;
    Double(sum, (a - (sum - of_b)) + (b - of_b))
}

pub fn two_product(a: f64, b: f64) -> Double {
    let product = a * b;
    Double(product, a.mul_add(b, -product))
}

impl Double {
    pub fn plus(self, other: Self) -> Self {
        let sum = two_sum(self.0, other.0);
        two_sum(sum.0, sum.1 + self.1 + other.1)
    }

    fn squared(self) -> Self {
        let square = two_product(self.0, self.0);
        Self(square.0, square.1 + 2.0 * self.0 * self.1)
    }
}

/// x - m y.
fn difference(x: f64, m: f64, y: f64) -> Double {
    let product = two_product(m, y);
    two_sum(x, -product.0).plus(Double(-product.1, 0.0))
}

/// One value and the error that float64 arithmetic cannot avoid.
///
/// Whoever computes in float64 rounds x (in the frame x/m, or less the mean of the data), so his result is that of an x
/// moved by a few roundings of the numbers in it; and he sums d squares, so each ℓ is off by a few roundings of itself.
/// `error` is what these do to the result, to first order.
#[derive(Clone, Debug, Default)]
pub struct Known<T> {
    pub value: T,
    pub error: f64,
}

/// All that is known at one x.
#[derive(Clone, Debug, Default)]
pub struct Exact {
    pub score: Known<Vec<f64>>,
    pub denoised: Known<Vec<f64>>,
    pub jvp: Known<Vec<f64>>,
    pub log_density: Known<f64>,
    /// Its relative error refers to `divergence_size`, the sum of the sizes of its terms.
    pub divergence: Known<f64>,
    pub divergence_size: f64,
    pub jvp_size: f64,
    pub entropy: Known<f64>,
    /// |x - m y_n| for every row of the data set; infinite for those that do not take part.
    pub distances: Vec<f64>,
    pub nearest_error: f64,
    /// |s| before the regularizer and the factor that it puts on it: how the score follows the log density.
    pub plain: f64,
    pub factor: f64,
}

const ROUNDING: f64 = f64::EPSILON / 2.0;
/// Roundings of x: into the frame, less the mean, and the differences from the rows.
const OF_X: f64 = 6.0;
/// Roundings of ℓ: precision, the sum of d squares in a few registers, and exp.
const OF_LOGIT: f64 = 24.0;
/// Roundings of a weighted mean.
const OF_MEAN: f64 = 16.0;

/// The score of the rows `part` of `rows` (each `x.len()` numbers) at `x`, and its derivative along `v`. Rows whose
/// summed weight is below `tolerance` may be missing from the means.
pub fn exact(
    x: &[f64],
    v: &[f64],
    rows: &[f64],
    part: &[usize],
    p: Marginal,
    regularizer: Regularizer,
    tolerance: f64,
) -> Exact {
    let d = x.len();
    let (m, variance) = (p.m, p.sigma * p.sigma);
    let row = |n: usize| &rows[n * d..(n + 1) * d];
    let squared: Vec<Double> = part
        .iter()
        .map(|&n| {
            let terms = x.iter().zip(row(n)).map(|(&x, &y)| difference(x, m, y).squared());
            terms.fold(Double::default(), Double::plus)
        })
        .collect();
    let best = (0..part.len()).min_by(|&a, &b| squared[a].0.total_cmp(&squared[b].0)).unwrap();
    // -(ℓ_n - ℓ_best), whose difference of squares keeps float64's digits.
    let above: Vec<f64> =
        squared.iter().map(|s| s.plus(Double(-squared[best].0, -squared[best].1)).0 / (2.0 * variance)).collect();
    let weight: Vec<f64> = above.iter().map(|a| (-a).exp()).collect();
    let rest: f64 = (0..part.len()).filter(|&n| n != best).map(|n| weight[n]).sum();
    let z = 1.0 + rest;

    // Means over the rows that weigh anything.
    let heavy: Vec<usize> = (0..part.len()).filter(|&n| weight[n] > 1e-40).collect();
    let mean = |of: &dyn Fn(usize) -> f64| heavy.iter().map(|&n| weight[n] / z * of(n)).sum::<f64>();
    // m ȳ - x and ȳ - b, b the nearest row: neither is a difference of large numbers.
    let towards: Vec<f64> = (0..d).map(|k| -mean(&|n| difference(x[k], m, row(part[n])[k]).0)).collect();
    let b = row(part[best]);
    let shift: Vec<f64> = (0..d).map(|k| mean(&|n| row(part[n])[k] - b[k])).collect();
    let centred = |n: usize, k: usize| (row(part[n])[k] - b[k]) - shift[k];
    let spread: Vec<f64> = heavy.iter().map(|&n| (0..d).map(|k| centred(n, k).powi(2)).sum::<f64>().sqrt()).collect();
    let along: Vec<f64> = heavy.iter().map(|&n| (0..d).map(|k| centred(n, k) * v[k]).sum()).collect();
    let trace: f64 = heavy.iter().zip(&spread).map(|(&n, s)| weight[n] / z * s * s).sum();
    let product: Vec<f64> =
        (0..d).map(|k| heavy.iter().zip(&along).map(|(&n, a)| weight[n] / z * a * centred(n, k)).sum()).collect();

    // The unavoidable errors.
    let reach = norm(x) + m * part.iter().map(|&n| norm(row(n))).fold(0.0, f64::max);
    let logit = |n: usize| squared[n].0 / (2.0 * variance);
    let logit_error = |n: usize, spread: f64| {
        ROUNDING * (OF_X * reach * m * spread / variance + OF_LOGIT * (logit(n) + above[n]) + 2.0)
    };
    let by_logit = |of: &dyn Fn(usize) -> f64| -> f64 {
        heavy.iter().enumerate().map(|(i, &n)| weight[n] / z * logit_error(n, spread[i]) * of(i)).sum()
    };
    // Rows that may be left out of the means, and what each would have added.
    let left_out = |of: &dyn Fn(usize) -> f64| -> f64 {
        let may = |n: usize| weight[n] / z <= 1.01 * tolerance / part.len() as f64;
        heavy.iter().enumerate().filter(|(_, n)| may(**n)).map(|(i, &n)| weight[n] / z * of(i)).sum()
    };
    let mean_error = ROUNDING * (OF_X * norm(x) + OF_MEAN * mean(&|n| squared[n].0.sqrt()));
    let score_error = (mean_error + by_logit(&|i| m * spread[i]) + left_out(&|i| m * spread[i])) / variance;
    let on_covariance = m / variance * (m / variance);
    let jvp_error = on_covariance
        * (by_logit(&|i| spread[i] * along[i].abs() + norm(&product))
            + left_out(&|i| spread[i] * along[i].abs() + norm(&product))
            + ROUNDING * OF_MEAN * mean(&|_| norm(&product)));
    let divergence_error = on_covariance * (by_logit(&|i| spread[i] * spread[i] + trace) + ROUNDING * OF_MEAN * trace);

    let score: Vec<f64> = towards.iter().map(|o| o / variance).collect();
    let jvp: Vec<f64> = (0..d).map(|k| -v[k] / variance + on_covariance * product[k]).collect();
    let divergence = -(d as f64) / variance + on_covariance * trace;
    let jvp_size = norm(v) / variance + on_covariance * norm(&product);
    let divergence_size = d as f64 / variance + on_covariance * trace;
    let log_sum = rest.ln_1p() - logit(best);
    let log_volume = 0.5 * d as f64 * (std::f64::consts::TAU.ln() + 2.0 * p.sigma.ln());
    let log_density = log_sum - (part.len() as f64).ln() - log_volume;
    let log_error =
        ROUNDING * (OF_X * reach * norm(&score) + OF_LOGIT * mean(&|n| logit(n)) + OF_MEAN * (log_volume.abs() + 8.0));
    // H = ln z + Σ w (ℓ_best - ℓ): no term is negative.
    let entropy = rest.ln_1p() + (0..part.len()).map(|n| weight[n] / z * above[n]).sum::<f64>();
    let entropy_error: f64 = (0..part.len())
        .map(|n| {
            let spread = (0..d).map(|k| centred(n, k).powi(2)).sum::<f64>().sqrt();
            let log_w = -above[n] - z.ln();
            let of_best = if n == best { rest } else { 1.0 };
            weight[n] / z * (log_w + entropy).abs().min(above[n] + entropy + rest) * of_best * logit_error(n, spread)
        })
        .sum();

    let (plain_score, plain_divergence) = (norm(&score), divergence);
    let (factor, bayes) = match regularizer {
        Regularizer::None => (1.0, false),
        Regularizer::Tikhonov { c } => (variance / (variance + c), false),
        Regularizer::BayesDensity { log_c } => ((log_density - log_c).min(0.0).exp(), true),
        Regularizer::BayesWeight { log_c } => ((log_sum - log_c).min(0.0).exp(), true),
    };
    let gradient = if bayes && factor < 1.0 { 1.0 } else { 0.0 };
    let score_along: f64 = score.iter().zip(v).map(|(s, v)| s * v).sum();
    let on_factor = if bayes { factor * log_error } else { 0.0 };
    let regularized: Vec<f64> = score.iter().map(|s| factor * s).collect();
    let regularized_error = factor * score_error + on_factor * plain_score;
    let to_denoised = if m == 0.0 { 0.0 } else { variance / m };
    let denoised = (0..d)
        .map(|k| {
            let mean = b[k] + shift[k];
            if m == 0.0 { mean } else { mean - (1.0 - factor) * towards[k] / m }
        })
        .collect::<Vec<f64>>();
    // At m = 0 all weights are equal.
    let denoised_error = to_denoised * regularized_error
        + ROUNDING * OF_MEAN * (norm(&denoised) + norm(b) + mean(&|n| (0..d).map(|k| centred(n, k).abs()).sum()));
    let gradient_size = gradient * plain_score * (score_along.abs());
    let mut distances = vec![f64::INFINITY; rows.len() / d];
    part.iter().zip(&squared).for_each(|(&n, s)| distances[n] = s.0.sqrt());
    Exact {
        jvp: Known {
            value: (0..d).map(|k| factor * (jvp[k] + gradient * score[k] * score_along)).collect(),
            error: factor * (jvp_error + gradient * 2.0 * norm(v) * plain_score * score_error)
                + on_factor * (jvp_size + gradient_size),
        },
        divergence: Known {
            value: factor * (plain_divergence + gradient * plain_score * plain_score),
            error: factor * (divergence_error + gradient * 2.0 * plain_score * score_error)
                + on_factor * (divergence_size + gradient * plain_score * plain_score),
        },
        jvp_size: factor * (jvp_size + gradient_size),
        divergence_size: factor * (divergence_size + gradient * plain_score * plain_score),
        score: Known { value: regularized, error: regularized_error },
        denoised: Known { value: denoised, error: denoised_error },
        log_density: Known { value: log_density, error: log_error },
        entropy: Known { value: entropy, error: entropy_error },
        distances,
        nearest_error: ROUNDING * OF_X * reach,
        plain: plain_score,
        factor,
    }
}
