//! What ∇ log p_t can be: the trait every score model implements.

mod certificate;
mod custom;
mod empirical;
mod regularizer;

pub use custom::{Custom, Prediction, Predictor};
pub use empirical::Empirical;
pub use regularizer::Regularizer;

use crate::engine::{Factor, Grade, Noise, SharedEngine};
use crate::error::{Error, Result, per_row, try_collect, try_vec};
use crate::exec::Exec;
use crate::process::{Marginal, Process};
use crate::tensor::Matrix;

/// The terms of an evaluation that the caller wants; the others cost nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Want {
    /// s(x, t), the (regularized) score.
    pub score: bool,
    /// (x + σ² s) / m.
    pub denoised: bool,
    /// ln p_t(x) of the unregularized model, in nats.
    pub log_density: bool,
    /// div s.
    pub divergence: bool,
    /// Entropy of the posterior weights, in nats.
    pub entropy: bool,
    /// argmin_n |x - m y_n|.
    pub nearest_index: bool,
    /// min_n |x - m y_n|.
    pub nearest_distance: bool,
    /// Bound on the length of the error of `denoised` in the caller's precision, by what was left out and rounded. If
    /// nothing else is wanted that takes a weighted mean, it is that of `denoised` wanted alone.
    pub denoised_error_bound: bool,
    /// The same for `log_density`, in float64.
    pub log_density_error_bound: bool,
}

/// The terms that were wanted: matrices `[batch, dim]`, vectors of one number per sample.
#[derive(Debug, Default)]
pub struct Evaluation {
    /// See [`Want::score`].
    pub score: Option<Matrix>,
    /// See [`Want::denoised`].
    pub denoised: Option<Matrix>,
    /// See [`Want::log_density`].
    pub log_density: Option<Vec<f64>>,
    /// See [`Want::divergence`].
    pub divergence: Option<Vec<f64>>,
    /// See [`Want::entropy`].
    pub entropy: Option<Vec<f64>>,
    /// See [`Want::nearest_index`].
    pub nearest_index: Option<Vec<i64>>,
    /// See [`Want::nearest_distance`].
    pub nearest_distance: Option<Vec<f64>>,
    /// See [`Want::denoised_error_bound`].
    pub denoised_error_bound: Option<Vec<f64>>,
    /// See [`Want::log_density_error_bound`].
    pub log_density_error_bound: Option<Vec<f64>>,
}

/// a x + b x̂0 + c s + noise, as a solver asks for it.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// a.
    pub x: Factor<'a>,
    /// b.
    pub denoised: Factor<'a>,
    /// c.
    pub score: Factor<'a>,
    /// What is added last.
    pub noise: Option<Noise>,
}

/// What a solver asks for: `terms` at samples `x` `[batch, dim]` and times `t`, in a caller's precision.
#[derive(Clone, Copy)]
pub struct Step<'a> {
    /// The samples.
    pub x: &'a Matrix,
    /// Their times.
    pub t: Factor<'a>,
    /// What is wanted of them.
    pub terms: Terms<'a>,
    /// The precision.
    pub grade: Grade,
}

/// Memory that a solver lends to its model, so that one step after another needs none of its own.
#[derive(Default)]
pub struct Scratch {
    matrices: Vec<Matrix>,
    columns: Vec<Vec<f64>>,
}

impl Scratch {
    /// A matrix of any numbers.
    fn matrix(&mut self, engine: &SharedEngine, rows: usize, cols: usize) -> Result<Matrix> {
        match self.matrices.pop() {
            Some(mut m) if m.rows() >= rows && m.cols() == cols => {
                m.truncate(rows);
                Ok(m)
            }
            _ => engine.zeros(rows, cols),
        }
    }

    /// A vector of any numbers.
    fn column(&mut self, len: usize) -> Result<Vec<f64>> {
        let mut column = self.columns.pop().unwrap_or_default();
        column
            .try_reserve_exact(len.saturating_sub(column.len()))
            .map_err(|_| Error::no_memory(len as u128 * size_of::<f64>() as u128, "one value per sample"))?;
        column.resize(len, 0.0);
        Ok(column)
    }

    /// Takes back what was lent, to be lent again in the same order.
    fn keep<const N: usize>(&mut self, matrices: impl DoubleEndedIterator<Item = Matrix>, columns: [Vec<f64>; N]) {
        self.matrices.extend(matrices.rev());
        self.columns.extend(columns.into_iter().rev());
    }
}

/// What [`ScoreModel::combine`] does unless a model knows better.
fn combine(model: &(impl ScoreModel + ?Sized), out: &mut Matrix, step: Step<'_>, exec: &Exec<'_>) -> Result<()> {
    let Step { x, t, terms, grade } = step;
    let times = per_row(x.rows(), |i| t.of(i))?;
    // A term that is not there is not computed.
    let want = Want { score: !terms.score.is_zero(), denoised: !terms.denoised.is_zero(), ..Want::default() };
    let e = model.eval(x, &times, want, grade, exec)?;
    let mut all = vec![(terms.x, x)];
    all.extend(e.denoised.as_ref().map(|m| (terms.denoised, m)));
    all.extend(e.score.as_ref().map(|m| (terms.score, m)));
    model.engine().combine(out, None, &all, terms.noise)?;
    Ok(())
}

/// A model of the score of p_t.
pub trait ScoreModel: Send + Sync {
    /// The engine that computes it.
    fn engine(&self) -> &SharedEngine;

    /// The forward process it belongs to.
    fn process(&self) -> &Process;

    /// Dimension d of x.
    fn dim(&self) -> usize;

    /// The wanted terms at samples `x` `[batch, dim]` and times `t` (one per sample).
    fn eval(&self, x: &Matrix, t: &[f64], want: Want, grade: Grade, exec: &Exec<'_>) -> Result<Evaluation>;

    /// out ← a x + b x̂0 + c s + noise, as `step` says.
    fn combine(&self, out: &mut Matrix, step: Step<'_>, exec: &Exec<'_>, _scratch: &mut Scratch) -> Result<()> {
        combine(self, out, step, exec)
    }

    /// Whether an evaluation is over so soon that a batch is best sampled in blocks side by side, each from beginning to
    /// end on one thread. Never of a model that calls the host.
    fn is_quick(&self) -> bool {
        false
    }

    /// J v, the derivative of the score at `x` along `v` `[batch, dim]`.
    fn jvp(&self, x: &Matrix, t: &[f64], v: &Matrix, grade: Grade, exec: &Exec<'_>) -> Result<Matrix>;
}

/// m, σ, β and g at the time of row `i`; an error where there is no score because σ = 0.
#[inline]
fn marginal(process: &Process, i: usize, t: f64) -> Result<Marginal> {
    let marginal = process.eval(t).map_err(|e| Error::invalid(format!("t, row {i}: {e}")))?;
    if marginal.sigma > 0.0 {
        Ok(marginal)
    } else {
        Err(Error::invalid(format!(
            "t, row {i}: t = {t:?} has sigma = 0, where there is no score; use a positive time"
        )))
    }
}

/// m, σ, β and g at each time; an error where there is no score because σ = 0.
pub fn marginals(process: &Process, t: &[f64]) -> Result<Vec<Marginal>> {
    // One time for the whole batch is the common case.
    match t {
        [first, rest @ ..] if rest.iter().all(|t| t == first) => {
            try_vec(t.len(), marginal(process, 0, *first)?, "marginals")
        }
        _ => try_collect(t.len(), t.iter().enumerate().map(|(i, &t)| marginal(process, i, t)), "marginals"),
    }
}
