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

use super::certificate::{Denoised, Density};
use super::{Evaluation, Regularizer, ScoreModel, Scratch, Step, Want, marginal, marginals};
use crate::dataset::Dataset;
use crate::engine::{Factor, Grade, Moments, Query, SharedEngine};
use crate::error::{Error, Result, per_row, try_vec};
use crate::exec::Exec;
use crate::process::{Marginal, Process};
use crate::tensor::Matrix;
use std::sync::Arc;

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
    /// The rounding of `x`, in length, if error bounds are wanted.
    x_error: Option<Vec<f64>>,
}

const LEAST_M: f64 = 1e-40;

/// What a step takes of one time.
struct AtTime {
    inverse_m: f64,
    /// (m/σ)².
    precision: f64,
    /// x̂0 = on_mean ȳ + on_frame x/m.
    on_mean: f64,
    on_frame: f64,
    /// s = on_offset (ȳ - x/m).
    on_offset: f64,
}

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
        regularizer.check()?;
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

    fn frame(&self, x: &Matrix, t: &[f64], bounds: bool) -> Result<Frame> {
        let marginals = marginals(&self.process, t)?;
        let batch = marginals.len();
        let m = per_row(batch, |i| marginals[i].m.max(LEAST_M))?;
        let precision = per_row(batch, |i| (m[i] / marginals[i].sigma).powi(2))?;
        for (i, p) in marginals.iter().enumerate() {
            enough_noise(i, t[i], p)?;
        }
        let engine = self.engine();
        let mut scaled = engine.zeros(x.rows(), x.cols())?;
        let inverse = per_row(batch, |i| 1.0 / m[i])?;
        engine.combine(&mut scaled, None, &[(Factor::Rows(&inverse), x)], None)?;
        let x_error = if bounds {
            let squared = engine.dot_rows(&scaled, &scaled)?;
            // 1/m is rounded and so is its product with x, except where there is nothing to round.
            Some(per_row(batch, |i| if m[i] == 1.0 { 0.0 } else { 1.01 * f64::EPSILON * squared[i].sqrt() })?)
        } else {
            None
        };
        Ok(Frame { marginals, m, x: scaled, precision, x_error })
    }

    fn query<'a>(
        &'a self,
        x: &'a Matrix,
        precision: &'a [f64],
        grade: Grade,
        tangent: Option<&'a Matrix>,
    ) -> Query<'a> {
        Query {
            rows: self.dataset.rows(),
            subset: self.subset(),
            x,
            precision,
            tolerance: self.tolerance,
            grade,
            tangent,
            step: false,
            x_error: None,
        }
    }

    /// The numbers of one time, without a regularizer that depends on x.
    fn at_time(&self, m: f64, sigma: f64) -> AtTime {
        let m = m.max(LEAST_M);
        let (f, complement) = self.regularizer.plain(sigma);
        AtTime {
            inverse_m: 1.0 / m,
            precision: (m / sigma).powi(2),
            on_mean: f,
            on_frame: complement,
            on_offset: f * m / sigma / sigma,
        }
    }

    fn log_density(&self, log_sum: &[f64], marginals: &[Marginal]) -> Result<Vec<f64>> {
        let n = self.subset().map_or(self.dataset.rows().len(), <[u32]>::len) as f64;
        let d = self.dim() as f64;
        let log_volume = |sigma: f64| 0.5 * d * ((2.0 * std::f64::consts::PI).ln() + 2.0 * sigma.ln());
        per_row(log_sum.len(), |i| log_sum[i] - n.ln() - log_volume(marginals[i].sigma))
    }

    /// ln p/c, of which the factor of an empirical Bayes regularizer is min(1, p/c); `None` for the others.
    fn log_ratio(&self, log_sum: &[f64], marginals: &[Marginal]) -> Result<Option<Vec<f64>>> {
        let less = |log: &[f64], log_c: f64| per_row(log.len(), |i| log[i] - log_c).map(Some);
        match self.regularizer {
            Regularizer::None | Regularizer::Tikhonov { .. } => Ok(None),
            Regularizer::BayesDensity { log_c } => less(&self.log_density(log_sum, marginals)?, log_c),
            Regularizer::BayesWeight { log_c } => less(log_sum, log_c),
        }
    }

    /// The error bounds that are wanted, of the caller's outputs, from the engine's: `errors` of `mean` (unregularized) and
    /// of `log_sum`.
    #[allow(clippy::too_many_arguments)]
    fn bounds(
        &self,
        frame: &Frame,
        want: Want,
        grade: Grade,
        log_sum: Option<&[f64]>,
        mean: Option<&Matrix>,
        offset: Option<&Matrix>,
        errors: [Option<Vec<f64>>; 2],
    ) -> Result<[Option<Vec<f64>>; 2]> {
        if errors.iter().all(Option::is_none) {
            return Ok([None, None]);
        }
        let (engine, rows) = (self.engine(), self.dataset.rows());
        let (batch, d) = (frame.m.len(), self.dim());
        let lengths = |m: &Matrix| {
            let mut lengths = engine.dot_rows(m, m)?;
            lengths.iter_mut().for_each(|l| *l = l.sqrt());
            Ok::<_, Error>(lengths)
        };
        let x = lengths(&frame.x)?;
        let farthest = rows.mean().iter().map(|v| v * v).sum::<f64>().sqrt() + rows.radius();
        // What m = 0 would do to each ℓ in place of a small m.
        let of_m = |i: usize| match frame.marginals[i].m < LEAST_M {
            true => 2.0 * frame.precision[i] * (x[i] + farthest) * farthest,
            false => 0.0,
        };
        let [mean_error, log_sum_error] = errors;
        let len = self.subset().map_or(rows.len(), <[u32]>::len) as f64;
        let density = match (log_sum, &log_sum_error) {
            (Some(log_sum), Some(error)) => Some(per_row(batch, |i| {
                let log_sum = (error[i] + of_m(i), log_sum[i]);
                Density { log_sum, len, dim: d as f64, sigma: frame.marginals[i].sigma }.bound()
            })?),
            _ => None,
        };
        let denoised = match (mean, mean_error) {
            (Some(mean), Some(mean_error)) => {
                let mean = lengths(mean)?;
                let offset = offset.filter(|_| self.regularizer.is_bayes()).map(lengths).transpose()?;
                let ratio = self.log_ratio(log_sum.unwrap_or_default(), &frame.marginals)?;
                let (factor, complement) = self.regularizer.factors(ratio.as_deref(), &frame.marginals)?;
                // The bound on the density is the looser of the two that ln p/c may need.
                let ratio = ratio.as_deref().zip(density.as_deref());
                Some(per_row(batch, |i| {
                    let parts = Denoised {
                        dim: d,
                        mean_error: mean_error[i] + 2.0 * rows.radius() * of_m(i).min(1.0),
                        mean: mean[i],
                        x: (x[i], frame.x_error.as_ref().map_or(0.0, |e| e[i])),
                        offset: offset.as_ref().map_or(0.0, |o| o[i]),
                        factor: (factor[i], complement[i]),
                        log_ratio: ratio.map(|(log, error)| (log[i], error[i])),
                    };
                    parts.bound(grade)
                })?)
            }
            _ => None,
        };
        Ok([denoised, density.filter(|_| want.log_density_error_bound)])
    }

    /// The bound on a weighted mean in a pass without one would change the arithmetic of the other outputs: it gets a pass
    /// of its own.
    fn bound_apart(&self, x: &Matrix, t: &[f64], want: Want, grade: Grade, exec: &Exec<'_>) -> Result<Evaluation> {
        let alone = Want { denoised: true, denoised_error_bound: true, ..Want::default() };
        let others = Want { denoised_error_bound: false, ..want };
        if others == Want::default() {
            return Ok(Evaluation { denoised: None, ..self.eval(x, t, alone, grade, exec)? });
        }
        let Evaluation { denoised_error_bound, .. } = exec.within(None, |exec| self.eval(x, t, alone, grade, exec))?;
        Ok(Evaluation { denoised_error_bound, ..self.eval(x, t, others, grade, exec)? })
    }
}

/// 1/σ⁴ must not overflow.
const LEAST_SIGMA: f64 = 1e-70;

fn enough_noise(i: usize, t: f64, p: &Marginal) -> Result<()> {
    if p.sigma < LEAST_SIGMA {
        return Err(Error::invalid(format!(
            "t, row {i}: t = {t:?} has sigma = {:e}; the empirical score needs at least 1e-70",
            p.sigma
        )));
    }
    Ok(())
}

fn first_of(column: &[f64]) -> f64 {
    column.first().copied().unwrap_or_default()
}

fn no_denoised(i: usize, t: f64, m: f64) -> Error {
    Error::invalid(format!(
        "t, row {i}: t = {t:?} has m = {m:e}, where the denoised value of a regularized score does not exist"
    ))
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
        if want.denoised_error_bound && !(want.denoised || want.score || want.divergence) {
            return self.bound_apart(x, t, want, grade, exec);
        }
        let engine = self.engine();
        let (batch, d) = (x.rows(), self.dim());
        let frame = self.frame(x, t, want.denoised_error_bound || want.log_density_error_bound)?;
        let Frame { marginals, m, .. } = &frame;
        let bayes = self.regularizer.is_bayes();

        let matrix = |wanted: bool| wanted.then(|| engine.zeros(batch, d)).transpose();
        let vector = |wanted: bool| wanted.then(|| try_vec(batch, 0.0, "outputs")).transpose();
        let bounds = (want.denoised_error_bound, want.log_density_error_bound);
        let mut offset = matrix(want.score || ((want.divergence || bounds.0) && bayes))?;
        let mut mean = matrix(want.denoised || bounds.0)?;
        let mut log_sum = vector(want.log_density || bounds.1 || bayes)?;
        let mut entropy = vector(want.entropy)?;
        let mut trace = vector(want.divergence)?;
        let mut nearest = want.nearest_index.then(|| try_vec(batch, 0i64, "outputs")).transpose()?;
        let mut distance = vector(want.nearest_distance)?;
        let mut mean_error = vector(bounds.0)?;
        let mut log_sum_error = vector(bounds.1 || (bounds.0 && bayes))?;
        engine.empirical(
            &Query { x_error: frame.x_error.as_deref(), ..self.query(&frame.x, &frame.precision, grade, None) },
            Moments {
                mean: mean.as_mut(),
                offset: offset.as_mut(),
                log_sum: log_sum.as_deref_mut(),
                entropy: entropy.as_deref_mut(),
                covariance_trace: trace.as_deref_mut(),
                nearest: nearest.as_deref_mut(),
                nearest_distance: distance.as_deref_mut(),
                mean_error: mean_error.as_deref_mut(),
                log_sum_error: log_sum_error.as_deref_mut(),
                covariance_product: None,
            },
            exec,
        )?;

        let log_ratio = self.log_ratio(log_sum.as_deref().unwrap_or_default(), marginals)?;
        let (factor, complement) = self.regularizer.factors(log_ratio.as_deref(), marginals)?;
        // s = f m (ȳ - x/m) / σ²
        let to_score = per_row(batch, |i| factor[i] * m[i] / marginals[i].sigma / marginals[i].sigma)?;

        let [denoised_error_bound, log_density_error_bound] = self.bounds(
            &frame,
            want,
            grade,
            log_sum.as_deref(),
            mean.as_ref(),
            offset.as_ref(),
            [mean_error, log_sum_error],
        )?;

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
            engine.combine(&mut score, Some(Factor::Rows(&to_score)), &[], None)?;
            Some(score)
        } else {
            None
        };
        // (x + σ² s)/m = (1 - f) x/m + f ȳ
        if let Some(mean) = mean.as_mut()
            && self.regularizer != Regularizer::None
        {
            if let Some(i) = (0..batch).find(|&i| marginals[i].m < LEAST_M && complement[i] != 0.0) {
                return Err(no_denoised(i, t[i], marginals[i].m));
            }
            engine.combine(mean, Some(Factor::Rows(&factor)), &[(Factor::Rows(&complement), &frame.x)], None)?;
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
            denoised: mean.filter(|_| want.denoised),
            denoised_error_bound,
            log_density_error_bound,
            log_density: log_sum.filter(|_| want.log_density).map(|l| self.log_density(&l, marginals)).transpose()?,
            divergence,
            entropy,
            nearest_index: nearest,
            nearest_distance: distance,
        })
    }

    fn combine(&self, out: &mut Matrix, step: Step<'_>, exec: &Exec<'_>, scratch: &mut Scratch) -> Result<()> {
        if self.regularizer.is_bayes() {
            return super::combine(self, out, step, exec);
        }
        let Step { x, t, terms, grade } = step;
        let engine = self.engine();
        let (batch, d) = (x.rows(), self.dim());
        let (on_denoised, on_score) = (!terms.denoised.is_zero(), !terms.score.is_zero());
        // One number for all where the time is the same, or one per sample.
        let same = [t, terms.denoised, terms.score].iter().all(|f| matches!(f, Factor::All(_)));
        let count = if same { batch.min(1) } else { batch };
        let mut columns: [Vec<f64>; 5] = Default::default();
        for (column, len) in columns.iter_mut().zip([batch, count, count, count, count]) {
            *column = scratch.column(len)?;
        }
        let [precision, inverse_m, on_mean, on_frame, on_offset] = &mut columns;
        // m and σ first, where they are a chain of calls; then what is made of them, row by row alike.
        let (m, sigma) = (&mut *inverse_m, &mut *precision);
        let mut last = f64::NAN;
        for i in 0..count {
            let at = t.of(i);
            if at != last {
                (m[i], sigma[i]) = self.process.scales(at);
                if sigma[i].is_nan() || sigma[i] < LEAST_SIGMA {
                    enough_noise(i, at, &marginal(&self.process, i, at)?)?;
                }
            } else {
                (m[i], sigma[i]) = (m[i - 1], sigma[i - 1]);
            }
            last = at;
        }
        for i in 0..count {
            let a = self.at_time(m[i], sigma[i]);
            let (b, c) = (terms.denoised.of(i), terms.score.of(i));
            if on_denoised && a.on_frame != 0.0 && m[i] < LEAST_M {
                return Err(no_denoised(i, t.of(i), m[i]));
            }
            (m[i], sigma[i]) = (a.inverse_m, a.precision);
            (on_mean[i], on_frame[i], on_offset[i]) = (b * a.on_mean, b * a.on_frame, c * a.on_offset);
        }
        if same {
            let first = first_of(precision);
            precision.fill(first);
        }
        let factor = |column| if same { Factor::All(first_of(column)) } else { Factor::Rows(column) };
        let mut matrices = [(); 3].map(|()| scratch.matrix(engine, batch, d));
        let [Ok(frame), Ok(mean), Ok(offset)] = &mut matrices else {
            return matrices.into_iter().find_map(Result::err).map_or(Ok(()), Err);
        };
        // In many processes m is 1, and x/m is x.
        let frame = match factor(inverse_m) {
            Factor::All(1.0) => x,
            inverse_m => {
                engine.combine(frame, None, &[(inverse_m, x)], None)?;
                &*frame
            }
        };
        engine.empirical(
            &Query { step: true, ..self.query(frame, precision, grade, None) },
            Moments {
                mean: on_denoised.then_some(&mut *mean),
                offset: on_score.then_some(&mut *offset),
                ..Moments::default()
            },
            exec,
        )?;
        let on_frame = factor(on_frame);
        let all = [(terms.x, x), (on_frame, frame), (factor(on_mean), &*mean), (factor(on_offset), &*offset)];
        let there = [!terms.x.is_zero(), on_denoised && !on_frame.is_zero(), on_denoised, on_score];
        let (mut some, mut len) = (all, 0);
        for (term, _) in all.into_iter().zip(there).filter(|(_, there)| *there) {
            some[len] = term;
            len += 1;
        }
        engine.combine(out, None, &some[..len], terms.noise)?;
        scratch.keep(matrices.into_iter().flatten(), columns);
        Ok(())
    }

    fn is_quick(&self) -> bool {
        // Numbers read and weights formed for one sample, a weight being as much as ten numbers.
        const QUICK: usize = 1 << 15;
        self.subset().map_or(self.dataset.rows().len(), <[u32]>::len) * (self.dim() + 10) <= QUICK
    }

    fn jvp(&self, x: &Matrix, t: &[f64], v: &Matrix, grade: Grade, exec: &Exec<'_>) -> Result<Matrix> {
        let engine = self.engine();
        let (batch, d) = (x.rows(), self.dim());
        let frame = self.frame(x, t, false)?;
        let bayes = self.regularizer.is_bayes();
        let mut product = engine.zeros(batch, d)?;
        let mut offset = bayes.then(|| engine.zeros(batch, d)).transpose()?;
        let mut log_sum = bayes.then(|| try_vec(batch, 0.0, "outputs")).transpose()?;
        engine.empirical(
            &self.query(&frame.x, &frame.precision, grade, Some(v)),
            Moments {
                covariance_product: Some(&mut product),
                offset: offset.as_mut(),
                log_sum: log_sum.as_deref_mut(),
                ..Moments::default()
            },
            exec,
        )?;
        let log_ratio = self.log_ratio(log_sum.as_deref().unwrap_or_default(), &frame.marginals)?;
        let (factor, _) = self.regularizer.factors(log_ratio.as_deref(), &frame.marginals)?;
        let variance = per_row(batch, |i| frame.marginals[i].sigma.powi(2))?;
        let on_product = per_row(batch, |i| factor[i] * frame.precision[i] / variance[i])?;
        let on_v = per_row(batch, |i| -factor[i] / variance[i])?;
        engine.combine(&mut product, Some(Factor::Rows(&on_product)), &[(Factor::Rows(&on_v), v)], None)?;
        if let Some(offset) = offset {
            // J (κ s) v = κ (J v + [κ < 1] s (s·v)), s = m offset / σ²
            let along = engine.dot_rows(&offset, v)?;
            let on_offset = per_row(batch, |i| {
                if factor[i] < 1.0 { factor[i] * frame.precision[i] / variance[i] * along[i] } else { 0.0 }
            })?;
            engine.combine(&mut product, Some(Factor::All(1.0)), &[(Factor::Rows(&on_offset), &offset)], None)?;
        }
        Ok(product)
    }
}
