//! From the engine's bounds on ȳ and ln Σ exp(ℓ_n) to bounds on what the caller gets of them.
//!
//! denoised = f ȳ + (1 - f) x/m, f the regularizer's factor (1 without one). With errors Δ and computed values primed,
//!
//!   f ȳ + (1 - f) x/m - f' ȳ' - (1 - f') x'/m  =  f Δȳ + Δf (ȳ' - x/m) + (1 - f') Δ(x/m),
//!
//! and the roundings of the sum, then of its numbers to the caller's type. Of an empirical Bayes regularizer
//! f = min(1, p/c), Δf ≤ f' (exp(Δ ln p) - 1), and nothing while ln p/c is above 0 by more than Δ ln p.

use crate::engine::Grade;

/// Half the distance from 1 to the next number.
const U32: f64 = 0.5 * f32::EPSILON as f64;
const U64: f64 = 0.5 * f64::EPSILON;
/// Half the smallest float32.
const TINY: f64 = 7.1e-46;
/// What the roundings of a bound itself are worth, many times over.
const OWN: f64 = 1.0 + 1e-6;

/// What the error of one sample's `denoised` is made of: lengths, and errors in length.
pub struct Denoised {
    /// Number of elements.
    pub dim: usize,
    /// The bound on Δȳ.
    pub mean_error: f64,
    /// |ȳ|.
    pub mean: f64,
    /// |x/m|, and the bound on its error.
    pub x: (f64, f64),
    /// |ȳ - x/m|; looked at where f has an error.
    pub offset: f64,
    /// f and 1 - f.
    pub factor: (f64, f64),
    /// ln p/c and the bound on its error, for an empirical Bayes regularizer.
    pub log_ratio: Option<(f64, f64)>,
}

impl Denoised {
    /// The bound, for a caller in `grade`'s precision.
    pub fn bound(&self, grade: Grade) -> f64 {
        let (f, complement) = self.factor;
        let plain = complement == 0.0 && self.log_ratio.is_none_or(|(log, error)| log > error);
        let error = if plain {
            self.mean_error
        } else {
            let of_factor = match self.log_ratio {
                // The logarithm's error, the roundings of the difference and of the exponentials.
                Some((log, error)) if log <= error => (f * (error + U64 * (log.abs() + 4.0)).exp_m1()).min(1.0),
                _ => 0.0,
            };
            let roundings = 8.0 * U64 * (f * self.mean + complement * self.x.0);
            (f + of_factor).min(1.0) * self.mean_error + of_factor * self.offset + complement * self.x.1 + roundings
        };
        let length = f * self.mean + complement * self.x.0;
        let rounding = match grade {
            Grade::Single => U32 * length + TINY * (self.dim as f64).sqrt(),
            Grade::Double => 0.0,
        };
        OWN * (error + rounding)
    }
}

/// What the error of one sample's `log_density` = ln Σ exp(ℓ_n) - ln N - (d/2) ln 2πσ² is made of.
pub struct Density {
    /// The bound on ln Σ exp(ℓ_n), and its size.
    pub log_sum: (f64, f64),
    /// N.
    pub len: f64,
    /// d.
    pub dim: f64,
    /// σ.
    pub sigma: f64,
}

impl Density {
    /// The bound.
    pub fn bound(&self) -> f64 {
        let volume = 0.5 * self.dim * ((2.0 * std::f64::consts::PI).ln() + 2.0 * self.sigma.ln().abs());
        OWN * (self.log_sum.0 + U64 * (2.0 * self.log_sum.1.abs() + 4.0 * self.len.ln() + 8.0 * volume))
    }
}
