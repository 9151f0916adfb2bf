//! What ∇ log p_t can be: the trait every score model implements.

mod certificate;
mod custom;
mod empirical;

pub use custom::{Custom, Prediction, Predictor};
pub use empirical::{Empirical, Regularizer};

use crate::engine::{Grade, SharedEngine};
use crate::error::{Error, Result, try_collect, try_vec};
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

    /// J v, the derivative of the score at `x` along `v` `[batch, dim]`.
    fn jvp(&self, x: &Matrix, t: &[f64], v: &Matrix, grade: Grade, exec: &Exec<'_>) -> Result<Matrix>;
}

/// m, σ, β and g at each time; an error where there is no score because σ = 0.
pub fn marginals(process: &Process, t: &[f64]) -> Result<Vec<Marginal>> {
    let at = |(i, &t): (usize, &f64)| {
        let marginal = process.eval(t).map_err(|e| Error::invalid(format!("t, row {i}: {e}")))?;
        if marginal.sigma > 0.0 {
            Ok(marginal)
        } else {
            Err(Error::invalid(format!(
                "t, row {i}: t = {t:?} has sigma = 0, where there is no score; use a positive time"
            )))
        }
    };
    // One time for the whole batch is the common case.
    match t {
        [first, rest @ ..] if rest.iter().all(|t| t == first) => try_vec(t.len(), at((0, first))?, "marginals"),
        _ => try_collect(t.len(), t.iter().enumerate().map(at), "marginals"),
    }
}
