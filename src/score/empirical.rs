//! The exact score of the smoothed training set, and its regularized and conditional forms (reg 3.8, 5.7, 5.11, 5.12, 6.8).
//!
//! With ℓ_n = -|x - m y_n|² / 2σ², w = softmax(ℓ), ȳ = Σ w_n y_n and C = Σ w_n (y_n - ȳ)(y_n - ȳ)ᵀ:
//!
//! - s = (m ȳ - x) / σ²
//! - log p = logsumexp(ℓ) - ln N - (d/2) ln 2πσ²
//! - div s = -d/σ² + (m²/σ⁴) tr C
//! - J v = -v/σ² + (m²/σ⁴) C v
//!
//! The engine works in the frame x/m, where ℓ_n = -½ (m/σ)² |x/m - y_n|².

use super::{Evaluation, ScoreModel, Want, marginals};
use crate::dataset::Dataset;
use crate::engine::{Factor, Grade, Moments, Query, SharedEngine};
use crate::error::{Error, Result, per_row, try_vec};
use crate::exec::Exec;
use crate::process::{Marginal, Process};
use crate::tensor::Matrix;
use std::sync::Arc;

/// What keeps the score from pointing at training rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Regularizer {
    /// Nothing: the reverse flow ends on training rows.
    None,
    /// s = (m ȳ - x) / (σ² + c) (reg 5.7).
    Tikhonov {
        /// c ≥ 0.
        c: f64,
    },
    /// s · min(1, p/c), with the density p itself (reg 5.11).
    BayesDensity {
        /// ln c: at d = 3072 typical densities are beyond the range of float64.
        log_c: f64,
    },
    /// s · min(1, Σ exp(ℓ_n)/c), with the unnormalised weights (reg 5.12).
    BayesWeight {
        /// ln c; the weights at a noised training row sum to about exp(-d/2).
        log_c: f64,
    },
}

/// An empirical score.
pub struct Empirical {
    dataset: Arc<Dataset>,
    process: Process,
    regularizer: Regularizer,
    tolerance: f64,
    label: Option<i64>,
}

/// One query batch in the engine's frame.
struct Frame {
    marginals: Vec<Marginal>,
    /// m, kept from 0 so that x/m exists: below this, rows of less than 1e40 |x| vanish beside x/m and all weights are
    /// equal, as they are at m = 0 (the flow at t = 1).
    m: Vec<f64>,
    /// x/m.
    x: Matrix,
    /// (m/σ)².
    precision: Vec<f64>,
}

const LEAST_M: f64 = 1e-40;

impl Empirical {
    /// The score of `dataset` under `process`; with a `label`, of the rows that carry it alone (reg 6.8). Training rows
    /// whose summed weight is below `tolerance` may be left out of ȳ; 0 leaves out none.
    pub fn new(
        dataset: Arc<Dataset>,
        process: Process,
        regularizer: Regularizer,
        tolerance: f64,
        label: Option<i64>,
    ) -> Result<Self> {
        match regularizer {
            Regularizer::Tikhonov { c } if !(c.is_finite() && c >= 0.0) => {
                return Err(Error::invalid(format!(
                    "strength is {c:?}; Tikhonov takes a finite number that is not negative"
                )));
            }
            Regularizer::BayesDensity { log_c } | Regularizer::BayesWeight { log_c } if !log_c.is_finite() => {
                return Err(Error::invalid(format!("log_strength is {log_c:?}; it must be finite")));
            }
            _ => {}
        }
        if !(0.0..1.0).contains(&tolerance) {
            return Err(Error::invalid(format!("tolerance is {tolerance:?}; it must lie in [0, 1)")));
        }
        if let Some(label) = label {
            dataset.rows_of_label(label)?;
        }
        Ok(Self { dataset, process, regularizer, tolerance, label })
    }

    fn subset(&self) -> Option<&[u32]> {
        self.label.map(|l| self.dataset.rows_of_label(l).expect("checked by new"))
    }

    fn frame(&self, x: &Matrix, t: &[f64]) -> Result<Frame> {
        let marginals = marginals(&self.process, t)?;
        let batch = marginals.len();
        let m = per_row(batch, |i| marginals[i].m.max(LEAST_M))?;
        let precision = per_row(batch, |i| (m[i] / marginals[i].sigma).powi(2))?;
        // 1/σ⁴ must not overflow either.
        if let Some(i) = marginals.iter().position(|p| p.sigma < 1e-70) {
            return Err(Error::invalid(format!(
                "t, row {i}: t = {:?} has sigma = {:e}; the empirical score needs at least 1e-70",
                t[i], marginals[i].sigma
            )));
        }
        let engine = self.engine();
        let mut scaled = engine.zeros(x.rows(), x.cols())?;
        let inverse = per_row(batch, |i| 1.0 / m[i])?;
        engine.combine(&mut scaled, None, &[(Factor::Rows(&inverse), x)]);
        Ok(Frame { marginals, m, x: scaled, precision })
    }

    fn query<'a>(&'a self, frame: &'a Frame, grade: Grade, tangent: Option<&'a Matrix>) -> Query<'a> {
        Query {
            rows: self.dataset.rows(),
            subset: self.subset(),
            x: &frame.x,
            precision: &frame.precision,
            tolerance: self.tolerance,
            grade,
            tangent,
        }
    }

    fn log_density(&self, log_sum: &[f64], marginals: &[Marginal]) -> Result<Vec<f64>> {
        let n = self.subset().map_or(self.dataset.rows().len(), <[u32]>::len) as f64;
        let d = self.dim() as f64;
        let log_volume = |sigma: f64| 0.5 * d * ((2.0 * std::f64::consts::PI).ln() + 2.0 * sigma.ln());
        per_row(log_sum.len(), |i| log_sum[i] - n.ln() - log_volume(marginals[i].sigma))
    }

    /// The regularizer's factor f on the unregularized score, and 1 - f, each to its own precision.
    fn factors(&self, log_sum: &[f64], marginals: &[Marginal]) -> Result<(Vec<f64>, Vec<f64>)> {
        let batch = marginals.len();
        let bayes = |log: &[f64], log_c: f64| {
            let log = |i: usize| (log[i] - log_c).min(0.0);
            Ok((per_row(batch, |i| log(i).exp())?, per_row(batch, |i| -log(i).exp_m1())?))
        };
        match self.regularizer {
            Regularizer::None => Ok((per_row(batch, |_| 1.0)?, per_row(batch, |_| 0.0)?)),
            Regularizer::Tikhonov { c } => {
                let of = |i: usize, numerator: fn(f64, f64) -> f64| {
                    let v = marginals[i].sigma.powi(2);
                    numerator(v, c) / (v + c)
                };
                Ok((per_row(batch, |i| of(i, |v, _| v))?, per_row(batch, |i| of(i, |_, c| c))?))
            }
            Regularizer::BayesDensity { log_c } => bayes(&self.log_density(log_sum, marginals)?, log_c),
            Regularizer::BayesWeight { log_c } => bayes(log_sum, log_c),
        }
    }

    fn is_bayes(&self) -> bool {
        matches!(self.regularizer, Regularizer::BayesDensity { .. } | Regularizer::BayesWeight { .. })
    }
}

impl ScoreModel for Empirical {
    fn engine(&self) -> &SharedEngine {
        self.dataset.engine()
    }

    fn process(&self) -> &Process {
        &self.process
    }

    fn dim(&self) -> usize {
        self.dataset.rows().dim()
    }

    fn eval(&self, x: &Matrix, t: &[f64], want: Want, grade: Grade, exec: &Exec<'_>) -> Result<Evaluation> {
        let engine = self.engine();
        let (batch, d) = (x.rows(), self.dim());
        let frame = self.frame(x, t)?;
        let Frame { marginals, m, .. } = &frame;
        let bayes = self.is_bayes();

        let matrix = |wanted: bool| wanted.then(|| engine.zeros(batch, d)).transpose();
        let vector = |wanted: bool| wanted.then(|| try_vec(batch, 0.0, "outputs")).transpose();
        let mut offset = matrix(want.score || (want.divergence && bayes))?;
        let mut mean = matrix(want.denoised)?;
        let mut log_sum = vector(want.log_density || bayes)?;
        let mut entropy = vector(want.entropy)?;
        let mut trace = vector(want.divergence)?;
        let mut nearest = want.nearest_index.then(|| try_vec(batch, 0i64, "outputs")).transpose()?;
        let mut distance = vector(want.nearest_distance)?;
        engine.empirical(
            &self.query(&frame, grade, None),
            Moments {
                mean: mean.as_mut(),
                offset: offset.as_mut(),
                log_sum: log_sum.as_deref_mut(),
                entropy: entropy.as_deref_mut(),
                covariance_trace: trace.as_deref_mut(),
                nearest: nearest.as_deref_mut(),
                nearest_distance: distance.as_deref_mut(),
                covariance_product: None,
            },
            exec,
        )?;

        let (factor, complement) = self.factors(log_sum.as_deref().unwrap_or_default(), marginals)?;
        // s = f m (ȳ - x/m) / σ²
        let to_score = per_row(batch, |i| factor[i] * m[i] / marginals[i].sigma / marginals[i].sigma)?;

        let divergence = match &trace {
            None => None,
            Some(trace) => {
                let squared_offset = match (&offset, bayes) {
                    (Some(o), true) => engine.dot_rows(o, o)?,
                    _ => try_vec(batch, 0.0, "outputs")?,
                };
                let of = |i: usize| {
                    let (v, p) = (marginals[i].sigma.powi(2), frame.precision[i]);
                    let plain = -(d as f64) / v + p / v * trace[i];
                    // div (κ s) = κ (div s + [κ < 1] |s|²)
                    let gradient = if bayes && factor[i] < 1.0 { p / v * squared_offset[i] } else { 0.0 };
                    factor[i] * (plain + gradient)
                };
                Some(per_row(batch, of)?)
            }
        };
        let score = if want.score {
            let mut score = offset.take().expect("asked for above");
            engine.combine(&mut score, Some(Factor::Rows(&to_score)), &[]);
            Some(score)
        } else {
            None
        };
        // (x + σ² s)/m = (1 - f) x/m + f ȳ
        if let Some(mean) = mean.as_mut()
            && self.regularizer != Regularizer::None
        {
            if let Some(i) = (0..batch).find(|&i| marginals[i].m < LEAST_M && complement[i] != 0.0) {
                return Err(Error::invalid(format!(
                    "t, row {i}: t = {:?} has m = {:e}, where the denoised value of a regularized score does not exist",
                    t[i], marginals[i].m
                )));
            }
            engine.combine(mean, Some(Factor::Rows(&factor)), &[(Factor::Rows(&complement), &frame.x)]);
        }
        if let Some(distance) = distance.as_mut() {
            distance.iter_mut().zip(m).for_each(|(d, m)| *d *= m);
        }
        if let Some(nearest) = nearest.as_mut() {
            let first = self.subset().map_or(0, |s| i64::from(s[0]));
            // At m = 0 every row is as near as the first.
            nearest.iter_mut().zip(marginals).filter(|(_, p)| p.m == 0.0).for_each(|(n, _)| *n = first);
        }
        Ok(Evaluation {
            score,
            denoised: mean,
            log_density: log_sum.filter(|_| want.log_density).map(|l| self.log_density(&l, marginals)).transpose()?,
            divergence,
            entropy,
            nearest_index: nearest,
            nearest_distance: distance,
        })
    }

    fn jvp(&self, x: &Matrix, t: &[f64], v: &Matrix, grade: Grade, exec: &Exec<'_>) -> Result<Matrix> {
        let engine = self.engine();
        let (batch, d) = (x.rows(), self.dim());
        let frame = self.frame(x, t)?;
        let bayes = self.is_bayes();
        let mut product = engine.zeros(batch, d)?;
        let mut offset = bayes.then(|| engine.zeros(batch, d)).transpose()?;
        let mut log_sum = bayes.then(|| try_vec(batch, 0.0, "outputs")).transpose()?;
        engine.empirical(
            &self.query(&frame, grade, Some(v)),
            Moments {
                covariance_product: Some(&mut product),
                offset: offset.as_mut(),
                log_sum: log_sum.as_deref_mut(),
                ..Moments::default()
            },
            exec,
        )?;
        let (factor, _) = self.factors(log_sum.as_deref().unwrap_or_default(), &frame.marginals)?;
        let variance = per_row(batch, |i| frame.marginals[i].sigma.powi(2))?;
        let on_product = per_row(batch, |i| factor[i] * frame.precision[i] / variance[i])?;
        let on_v = per_row(batch, |i| -factor[i] / variance[i])?;
        engine.combine(&mut product, Some(Factor::Rows(&on_product)), &[(Factor::Rows(&on_v), v)]);
        if let Some(offset) = offset {
            // J (κ s) v = κ (J v + [κ < 1] s (s·v)), s = m offset / σ²
            let along = engine.dot_rows(&offset, v)?;
            let on_offset = per_row(batch, |i| {
                if factor[i] < 1.0 { factor[i] * frame.precision[i] / variance[i] * along[i] } else { 0.0 }
            })?;
            engine.combine(&mut product, Some(Factor::All(1.0)), &[(Factor::Rows(&on_offset), &offset)]);
        }
        Ok(product)
    }
}
