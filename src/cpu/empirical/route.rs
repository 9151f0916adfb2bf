//! How a query is answered: which arithmetic gives its distances, which its weighted mean, and when that is good
//! enough.
//!
//! Rounding. Let u be the unit roundoff of the arithmetic, x̃ and ỹ the query and a row less the mean of the data, R
//! the largest |ỹ|, and h half the precision. A product x̃·ỹ is off by at most `DEPTH u |x̃| R` (worst case: DEPTH
//! roundings deep). In practice the roundings of a register's partial sums are independent and at most u |x̃||ỹ| /
//! lanes each: with n = d / lanes of them per lane the standard deviation is √(n / 3 lanes) u |x̃||ỹ|, which at d = 784
//! is 1, 2 and 4 times u |x̃||ỹ| for 16, 8 and 4 lanes, and far less when x̃ is mostly noise and partial sums stay
//! small (measured on 60000 images at σ = 10: ℓ off by 2e-7 nats where `PRACTICE` says 5e-6). The worst case decides which
//! rows are measured again exactly to find the nearest; the practical bound decides whether ℓ = -h |x - y|² may be used
//! as it is. The rows' errors e_n are independent too, so Σ w_n e_n (y_n - ȳ) is about e times the spread of the rows,
//! their root mean square |ỹ|, by which the practical bound also takes |ỹ|.

use super::integer;
use crate::dataset::Decoding;
use crate::engine::{Grade, Query};

/// The arithmetic of |x - y|².
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distances {
    /// |x̃|² + |ỹ|² - 2 x̃·ỹ with the product in float32.
    Single,
    /// The same with the product in whole numbers ([`super::integer`]).
    Integer,
    /// The same with the product in float64.
    Double,
    /// Σ (x - y)² in float64.
    Exact,
}

/// The arithmetic of ȳ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mean {
    /// No weighted mean is wanted.
    None,
    /// mean of the data + Σ w ỹ, in float32 within a tile and float64 from tile to tile; weights in float32.
    Single,
    /// shift + scale Σ w u of raw rows u, in whole numbers within a tile and float64 from tile to tile.
    Integer,
    /// The same in float64.
    Double,
    /// best row + Σ w (y - best row): for queries so close to the data that the others would cancel.
    Local,
}

/// How one query is answered.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// The arithmetic of the distances.
    pub distances: Distances,
    /// The arithmetic of the weighted mean.
    pub mean: Mean,
    /// Weights are float32 numbers, and computed as such where they are not small: e^-x is off by about 6e-8 (1 + x) then,
    /// independently from row to row.
    pub single_weights: bool,
    /// Two rows closer than this in squared distance may be in the wrong order.
    pub doubt: f64,
    /// Rows within this of the smallest squared distance are measured again exactly; at least `doubt`.
    pub remeasure: f64,
    /// The answer stands if |ȳ - x| is at least this; otherwise the query takes the next route.
    pub least_offset: f64,
    /// How far the query is from its whole numbers, at most ([`Distances::Integer`]).
    pub residual: f64,
    level: u8,
}

/// Unit roundoffs.
const U32: f64 = 6.0e-8;
const U64: f64 = 1.1e-16;
/// Roundings in practice and in the worst case: a block of at most 1024 numbers over at least 4 lanes, their sum, and
/// the two inputs.
const PRACTICE: f64 = 2.0;
const DEPTH: f64 = 1024.0 / 4.0 + 8.0;

/// Relative errors allowed in ȳ - x by the mean's arithmetic and by float32 distances, of which the score is a
/// multiple. Single precision callers are promised 1e-5, double precision ones 1e-9.
// A tile of copies is summed with roundings that are all alike, up to fifty times as large together.
const MEAN_SINGLE: f64 = 2e-7;
const MEAN_DOUBLE: f64 = 1e-11;
pub const WEIGHTS_SINGLE: f64 = 8e-6;
const WEIGHTS_DOUBLE: f64 = 1e-10;
/// exp(-ℓ) is 0 in float64 beyond this: what is skipped there is skipped by no choice.
pub const NO_WEIGHT: f64 = 746.0;
/// Errors allowed in ℓ (nats): by float32 products, by float64 products for either kind of caller.
const LOGIT_BY_SINGLE: f64 = 1e-4;
/// The same by whole numbers where ℓ alone is asked for.
const LOGIT_ALONE: f64 = 1e-5;
const LOGIT_SINGLE: f64 = 1e-7;
const LOGIT_DOUBLE: f64 = 1e-11;
/// Squared distance from the best row, as a share of R², within which few rows are expected; and within which it is worth
/// while to look whether they are few.
const FEW: f64 = 0.05;
const PERHAPS_FEW: f64 = 0.4;
/// Standard deviations of r·ỹ that are allowed for.
const INTEGER_PRACTICE: f64 = 4.0;

/// What is known of a query beforehand.
#[derive(Clone, Copy)]
pub struct Asked {
    /// 1/σ² in units of the data.
    pub precision: f64,
    /// |x̃|.
    pub distance: f64,
    /// The largest |x̃_k|.
    pub largest: f64,
    /// Whether there are tile registers and rows of bytes.
    pub tiles: bool,
}

impl Route {
    /// The cheapest route for a query with `distance` |x̃| from the mean of the data, as far as can be known
    /// beforehand: |ȳ - x| is guessed to be √(d / precision), as it is for a noised training row.
    pub fn first(query: &Query<'_>, wanted: bool, of: &Asked, cut: f64) -> Self {
        let guess = (query.rows.dim() as f64 / of.precision).sqrt();
        let level = if query.grade == Grade::Single { 0 } else { 2 };
        let mut route = Self::at(level, query, wanted, of, cut);
        while guess < route.least_offset {
            route = route.next(query, wanted, of, cut);
        }
        route
    }

    /// The next finer route.
    pub fn next(self, query: &Query<'_>, wanted: bool, of: &Asked, cut: f64) -> Self {
        Self::at(self.level + 1, query, wanted, of, cut)
    }

    /// The route of a query whose few near rows are found by bounds.
    pub fn near(wanted: bool) -> Self {
        let mean = if wanted { Mean::Local } else { Mean::None };
        Self {
            distances: Distances::Exact,
            mean,
            single_weights: false,
            doubt: 0.0,
            remeasure: 0.0,
            least_offset: 0.0,
            residual: 0.0,
            level: 3,
        }
    }

    /// Whether few rows may be within `cut` of the best, as far as can be known beforehand.
    pub fn perhaps_few(query: &Query<'_>, precision: f64, cut: f64) -> bool {
        let radius = query.rows.radius();
        cut.min(NO_WEIGHT) / (0.5 * precision) <= PERHAPS_FEW * radius * radius
    }

    fn at(level: u8, query: &Query<'_>, wanted: bool, of: &Asked, cut: f64) -> Self {
        let &Asked { precision, distance, largest, tiles } = of;
        // Below these a product saves nothing over a difference.
        const SMALL_DIM: usize = 16;
        const SMALL_LEN: usize = 256;
        let rows = query.rows;
        let len = query.subset.map_or(rows.len(), <[u32]>::len);
        // A tangent's covariance product cancels unless it is formed about the best row.
        let small = rows.dim() < SMALL_DIM || len < SMALL_LEN || query.tangent.is_some();
        let h = 0.5 * precision;
        let radius = rows.radius();
        // Products of such numbers neither overflow nor underflow in float32, and what float64 rounds off scaled and shifted
        // numbers is nothing to what float32 does to rows.
        let Decoding { scale, shift } = rows.decoding();
        let farthest_number = rows.min().abs().max(rows.max().abs()) + shift.abs();
        let fits_single = (1e-12..1e15).contains(&radius)
            && distance < 1e15
            && (1e-6..1e6).contains(&scale.abs())
            && U64 * farthest_number <= 0.01 * U32 * rows.spread();
        let level = match level {
            _ if query.tangent.is_some() => 3,
            _ if small || !fits_single => level.max(2),
            _ => level,
        };
        let spread = rows.spread();
        let at_worst = |u: f64| 2.0 * u * DEPTH * distance * radius;
        let in_practice = |u: f64| 2.0 * u * PRACTICE * distance * spread;
        // |x̃|² and |ỹ|² are float64 sums of d terms.
        let squares = 2.0 * U64 * (rows.dim() as f64 + 4.0) * (distance * distance + radius * radius);
        let doubt = |u: f64| 2.0 * (at_worst(u) + squares);
        // At small σ few rows lie within `cut` of the best: float32 finds them, and each is measured again. The share of
        // R² that counts as few is a guess about the data, on which speed depends but no bound.
        let margin = cut.min(NO_WEIGHT) / h;
        let few = fits_single && doubt(U32) + margin <= FEW * radius * radius;
        let integer = tiles && level == 0 && rows.dim() <= integer::MOST_DIM;
        let residual = if integer { integer::residual(largest, rows.dim()) } else { 0.0 };
        let allowed = if query.grade == Grade::Single { LOGIT_SINGLE } else { LOGIT_DOUBLE };
        let (distances, doubt, remeasure) = if small {
            (Distances::Exact, 0.0, 0.0)
        } else if integer {
            let doubt = 2.0 * (2.0 * residual * radius + squares);
            (Distances::Integer, doubt, doubt)
        } else if level == 0 {
            // What float32 products may do to ℓ is part of `least_offset` below.
            (Distances::Single, doubt(U32), doubt(U32))
        } else if few {
            (Distances::Single, doubt(U32), doubt(U32) + margin)
        } else if level < 3 && h * in_practice(U64) <= allowed {
            (Distances::Double, doubt(U64), doubt(U64))
        } else {
            (Distances::Exact, 0.0, 0.0)
        };
        let (mean, least_offset) = match level {
            _ if !wanted => (Mean::None, 0.0),
            0 if integer => (Mean::Integer, 0.0),
            0 | 1 => (Mean::Single, U32 / MEAN_SINGLE * radius),
            2 => (Mean::Double, U64 / MEAN_DOUBLE * radius),
            _ => (Mean::Local, 0.0),
        };
        // What errors in ℓ do to ȳ - x.
        let by_weights = |u: f64, allowed: f64| spread * h * in_practice(u) / allowed;
        // What r·ỹ is in practice: r points nowhere in particular, and its numbers are evenly spread.
        let by_residual = 2.0 * INTEGER_PRACTICE * residual / (3.0 * rows.dim() as f64).sqrt() * spread;
        let least_offset = match (level, distances) {
            (0, Distances::Integer) if !wanted && h * by_residual <= LOGIT_ALONE => 0.0,
            (0, Distances::Integer) if !wanted => f64::INFINITY,
            (0, Distances::Integer) if h * by_residual <= LOGIT_BY_SINGLE => spread * h * by_residual / WEIGHTS_SINGLE,
            (0, _) if wanted && h * in_practice(U32) <= LOGIT_BY_SINGLE => {
                // Copies of a row err alike, which is twice as much as rows that only resemble each other.
                least_offset.max(by_weights(U32, 0.5 * WEIGHTS_SINGLE))
            }
            (0, _) => f64::INFINITY,
            (1, Distances::Double) => least_offset.max(by_weights(U64, WEIGHTS_SINGLE)),
            (2, Distances::Double) if wanted => least_offset.max(by_weights(U64, WEIGHTS_DOUBLE)),
            _ => least_offset,
        };
        Self { distances, mean, single_weights: level < 2, doubt, remeasure, least_offset, residual, level }
    }
}
