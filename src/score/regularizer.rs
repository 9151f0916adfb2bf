//! What keeps an empirical score from pointing at training rows: a factor f on it. denoised = f ȳ + (1 - f) x/m.

use crate::error::{Error, Result, per_row};
use crate::process::Marginal;

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

impl Regularizer {
    /// [`Error::Invalid`] if the strength is not accepted.
    pub(super) fn check(self) -> Result<()> {
        match self {
            Self::Tikhonov { c } if !(c.is_finite() && c >= 0.0) => {
                Err(Error::invalid(format!("strength is {c:?}; Tikhonov takes a finite number that is not negative")))
            }
            Self::BayesDensity { log_c } | Self::BayesWeight { log_c } if !log_c.is_finite() => {
                Err(Error::invalid(format!("log_strength is {log_c:?}; it must be finite")))
            }
            _ => Ok(()),
        }
    }

    /// Whether f = min(1, p/c) depends on x.
    pub(super) fn is_bayes(self) -> bool {
        matches!(self, Self::BayesDensity { .. } | Self::BayesWeight { .. })
    }

    /// f and 1 - f at a noise level, where they do not depend on x.
    pub(super) fn plain(self, sigma: f64) -> (f64, f64) {
        let v = sigma * sigma;
        match self {
            Self::Tikhonov { c } => (v / (v + c), c / (v + c)),
            _ => (1.0, 0.0),
        }
    }

    /// f and 1 - f of each sample, each to its own precision; `log_ratio` is ln p/c where f depends on x.
    pub(super) fn factors(self, log_ratio: Option<&[f64]>, marginals: &[Marginal]) -> Result<(Vec<f64>, Vec<f64>)> {
        let batch = marginals.len();
        if let Some(log) = log_ratio {
            return Ok((per_row(batch, |i| log[i].min(0.0).exp())?, per_row(batch, |i| -log[i].min(0.0).exp_m1())?));
        }
        let of = |i: usize| self.plain(marginals[i].sigma);
        Ok((per_row(batch, |i| of(i).0)?, per_row(batch, |i| of(i).1)?))
    }
}
