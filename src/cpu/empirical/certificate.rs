//! How far the sums of one query can be from the exact ones: what was left out, and every rounding.
//!
//! Exact are the numbers of the data set as decoded, h, and x but for the error that the query states for it
//! ([`crate::engine::Query::x_error`]). w_n are the weights as computed, of the rows that enter the mean and with a sum of
//! 1, ȳ' their exact mean, V = Σ w |y - ȳ'|², R the radius of the data about its mean μ, A_n = h (|x - y_n|² - best), and e_n
//! the error of ℓ_n.
//!
//! **Weights.** True weights are w_n exp(e_n) / E, so that, whatever constant the e_n have in common,
//!
//!   |ȳ - ȳ'| = |Σ w_n (exp(e_n) - 1) (y_n - ȳ')| / E  ≤  exp(2 max |e|) Σ w_n |e_n| |y_n - ȳ'|,
//!
//! which by Cauchy and Schwarz is at most √(Σ w e²) √V for errors of any correlation. The terms of e_n:
//!
//! - A sum of squared differences is off by at most ρ of itself, ρ = roundings deep × u. h, the difference from the best and
//!   the product take a few roundings more, the exponential [`EXP`] (4e-7 + 2e-7 A_n in float32), and one more each time
//!   the best row changed. Together e_n ≤ a + b A_n; and A_n ≤ [`NO_WEIGHT`], so Σ w A² ≤ `NO_WEIGHT` Σ w A. *Rigorous.*
//! - An error Δ of x adds 2 h (y_n - ȳ')·Δ to ℓ_n, and so at most 2 h V |Δ| to ȳ'. *Rigorous.*
//! - A product x̃·ỹ_n is off by u √(d/3)/lanes |x̃| |ỹ_n| in standard deviation if the roundings of its partial sums, each
//!   at most u times as large as |x̃| |ỹ_n| / lanes allows, are independent ([`super::route`] has the derivation; blocks
//!   count once), and by a few roundings of inputs and lanes. |x̃|² and |ỹ|² are sums of d terms whose partial sums grow
//!   evenly: u √(d/3) of themselves. [`DEVIATIONS`] of these are taken. *Probabilistic*; the worst case is `DEPTH` (264) for
//!   the first and d for the second, which at σ = 2 on images says 2e-2 nats where 1e-6 is seen. Rows measured again
//!   by differences have none of it.
//!
//! - A product in whole numbers lacks 2 r·ỹ_n, r being what they leave of the query: 2 h |r| |ỹ_n|. *Rigorous.*
//!
//! **Means.** Weights in whole units are off by what was added up as they were rounded, and move ȳ' by that times the
//! farthest |y - ȳ'|; the sums of raw rows are exact within a tile. *Rigorous.* A sum of k terms is off by k u Σ w |y - c| ≤ k u √(V + |ȳ' - c|²), c being what the terms are relative to:
//! μ, the best row, or nothing where rows are raw, and then each change of it adds a few roundings of its move, at most 2R. *Rigorous.*
//!
//! **What is left out.** Rows beyond the cut weigh N exp(-cut) at most, and where all rows were weighed no more than was
//! seen to be missing; none is farther from ȳ' than R + |ȳ' - μ|. *Rigorous*, as is that ȳ' itself is no farther from
//! the truth than that: the bound is never more.
//!
//! V is not summed. It is Σ w (d² - best) less terms of ȳ' alone, or at most R² - |ȳ' - μ|², whichever is the less, plus
//! what the errors above do to it, and what rows do that are in the first sum but not in the mean.

use super::route::{Distances, Mean, NO_WEIGHT, Route};
use super::sums::Running;
use crate::cpu::tile::Plan;
use crate::cpu::vector::{Isa, Vector};
use crate::cpu::{InstructionSet, Kernel};
use crate::dataset::Rows;

/// Half the distance from 1 to the next number, in float32 and float64.
const U32: f64 = 0.5 * f32::EPSILON as f64;
const U64: f64 = 0.5 * f64::EPSILON;
/// The relative error of [`super::sums::exp_neg`].
const EXP: f64 = 6e-16;
/// A chance of 1e-15 for one normal number.
const DEVIATIONS: f64 = 8.0;
/// Beyond this [`super::sums::exp_neg`] is 0.
const LARGEST: f64 = 708.0;
/// Rows of less weight than this may be missing from any mean (see `chunk::LEAST_WEIGHT`).
const LEAST_WEIGHT: f64 = 1e-30;
/// What the roundings of a bound itself are worth, many times over.
const OWN: f64 = 1.0 + 1e-6;

/// How the sums were formed.
#[derive(Clone, Copy)]
pub struct Arithmetic {
    /// Lanes of a float32 and of a float64 register.
    lanes: (usize, usize),
    /// h (d² - best) beyond which rows are left out.
    cut: f64,
    /// Rows that take part.
    len: usize,
    /// Whether every row was weighed, if only to be left out of the mean.
    all_weighed: bool,
    /// The longest chain of additions behind a sum of weights,
    weights: usize,
    /// behind the part of a mean that is summed in its own precision before float64 takes over,
    first: usize,
    /// and behind the rest of a mean.
    mean: usize,
    /// How often the best row can have changed.
    changes: usize,
}

impl Arithmetic {
    /// A pass over all rows, tile by tile and chunk by chunk.
    pub fn pass(isa: InstructionSet, plan: &Plan, mean: Mean, cut: f64) -> Self {
        let chunks = plan.chunks();
        let tiles = plan.chunk.div_ceil(plan.tile);
        Self {
            lanes: isa.run(Lanes),
            cut,
            len: plan.len,
            all_weighed: true,
            weights: plan.tile / 8 + 8 + 3 * (tiles + chunks),
            first: plan.tile,
            // About the best row, rows are added one by one, not in tiles.
            mean: 2 * (tiles + chunks) + if mean == Mean::Local { plan.chunk } else { 0 },
            changes: tiles + chunks,
        }
    }

    /// A list of `count` of the `len` rows, among them the best, summed one by one in float64.
    pub fn list(isa: InstructionSet, count: usize, len: usize, cut: f64) -> Self {
        Self {
            lanes: isa.run(Lanes),
            cut,
            len,
            all_weighed: false,
            weights: count + 2,
            first: 0,
            mean: count,
            changes: 0,
        }
    }

    /// A sweep over all rows one by one, chunk by chunk, about the best row; distances are summed in one lane.
    pub fn sweep(plan: &Plan) -> Self {
        let rows = plan.chunk + plan.chunks();
        let (lanes, len) = ((1, 1), plan.len);
        Self { lanes, cut: f64::INFINITY, len, all_weighed: false, weights: rows, first: 0, mean: rows, changes: 0 }
    }
}

/// The lanes of an instruction set's registers.
struct Lanes;

impl Kernel for Lanes {
    type Output = (usize, usize);

    #[inline(always)]
    unsafe fn run<S: Isa>(self) -> (usize, usize) {
        (S::Single::LANES, S::Double::LANES)
    }
}

/// What weights rounded to whole units do to ȳ at most, no row being farther from it than `farthest`.
pub fn rounded_weights(run: &Running, farthest: f64) -> f64 {
    run.rounded / run.included * farthest
}

/// Where the computed mean lies.
#[derive(Clone, Copy, Default)]
pub struct Position {
    /// |ȳ|.
    pub length: f64,
    /// |ȳ - μ|.
    pub from_centre: f64,
    /// |ȳ - b|, b the best row.
    pub from_best: f64,
    /// (ȳ - b)·(2 (b - x) + ȳ - b), so that V = Σ w (d² - best) less this.
    pub correction: f64,
}

/// One query, answered.
pub struct Certificate<'a> {
    /// The data.
    pub rows: &'a Rows,
    /// Half the precision.
    pub h: f64,
    /// How it was answered.
    pub route: Route,
    /// How its sums were formed.
    pub arithmetic: Arithmetic,
    /// Its sums.
    pub run: &'a Running,
    /// |x - μ|.
    pub distance: f64,
    /// The error of x, in length.
    pub x_error: f64,
}

impl Certificate<'_> {
    /// Relative error of a sum of squared differences: in a block of 512 numbers over the lanes, then over blocks;
    /// differences, squares and the sum of the lanes.
    fn of_squares(&self) -> f64 {
        let d = self.rows.dim().next_multiple_of(16);
        ((d.min(512) / self.arithmetic.lanes.1 + d / 512 + 8) as f64) * U64
    }

    /// Error of |x̃|² + |ỹ|² - 2 x̃·ỹ: of the product, per |ỹ|, and of the rest. 0 where all rows that weigh were measured
    /// by differences.
    fn of_products(&self) -> (f64, f64) {
        let d = self.rows.dim() as f64;
        let (u, lanes, block) = match self.route.distances {
            Distances::Exact => return (0.0, 0.0),
            // 2 r·ỹ, and sums that are exact.
            Distances::Integer => return (2.0 * self.route.residual, self.of_norms()),
            // Few rows weigh anything, and those were measured again.
            Distances::Single if self.route.remeasure > self.route.doubt => return (0.0, 0.0),
            Distances::Single => (U32, self.arithmetic.lanes.0, 1024.0),
            Distances::Double => (U64, self.arithmetic.lanes.1, 512.0),
        };
        let product = u * (DEVIATIONS * (d.min(block) / 3.0).sqrt() / lanes as f64 + 4.0);
        (2.0 * product * self.distance, self.of_norms())
    }

    /// Error of |x̃|² + |ỹ|², and of numbers of that size.
    fn of_norms(&self) -> f64 {
        let d = self.rows.dim() as f64;
        U64 * (DEVIATIONS * (d / 3.0).sqrt() + 4.0) * (self.distance.powi(2) + self.rows.radius().powi(2))
    }

    /// Σ w A.
    fn above(&self) -> f64 {
        self.h * self.run.excess / (1.0 + self.run.rest)
    }

    /// a and b of e_n ≤ a + b A_n, what products add to it per |ỹ|, and the largest |e_n|.
    fn logits(&self) -> (f64, f64, f64, f64) {
        let Self { h, run, .. } = self;
        let (product, squares) = self.of_products();
        let relative = self.of_squares();
        // A float32 weight: the series, and the rounding of its argument.
        let single = if self.route.single_weights { 8.0 * U32 } else { 0.0 };
        let a = relative * h * run.best + h * squares + EXP * (1 + self.arithmetic.changes) as f64 + single;
        let b = relative + 8.0 * U64 + 0.5 * single;
        let radius = self.rows.radius();
        let most = a + b * LARGEST + h * (product * radius + 4.0 * self.x_error * radius);
        (a, b, h * product, most)
    }

    /// The share of the weights, as computed, of rows that were weighed but left out of the mean.
    fn outside(&self) -> f64 {
        let z = 1.0 + self.run.rest;
        // At least half of it is in the mean: the best row weighs more than all that may be left out.
        ((z - self.run.included).max(0.0) / z + 2.0 * self.arithmetic.weights as f64 * U64).min(0.5)
    }

    /// The weight, as a share of all, of rows that are missing from the mean and of those that no sum knows.
    fn missing(&self, most: f64) -> (f64, f64) {
        let Arithmetic { cut, len, all_weighed, .. } = self.arithmetic;
        let allowed = |cut: f64| len as f64 * (-cut.min(LARGEST)).exp();
        let few = self.route.distances == Distances::Single && self.route.remeasure > self.route.doubt;
        // Where few rows weigh anything the others were not measured again; their weights may be wrong by so much.
        let misjudged = if few { self.h * self.route.doubt } else { 2.0 * most };
        let skipped = if all_weighed && cut.is_finite() {
            allowed(cut).min(self.outside() * misjudged.exp())
        } else {
            allowed(cut)
        };
        (skipped + len as f64 * LEAST_WEIGHT, if all_weighed && !few { allowed(LARGEST) } else { skipped })
    }

    /// Bound on the error of ln Σ exp(ℓ_n).
    pub fn log_sum(&self) -> f64 {
        let Self { h, run, x_error, .. } = self;
        let (a, b, product, most) = self.logits();
        let z = 1.0 + run.rest;
        let root_mean_square = (run.best + run.excess / z).sqrt();
        let by_x = h * x_error * (2.0 * root_mean_square + x_error);
        let typical = a + b * self.above() + product * self.rows.radius() + by_x;
        let by_weights = (typical * most.exp()).min(most);
        let sums = U64 * ((self.arithmetic.weights + 2) as f64 * run.rest / z + 2.0 * z.ln() + 8.0 * h * run.best);
        OWN * (by_weights + by_x + sums + self.missing(most).1)
    }

    /// Bound on |error| of the computed mean, the rounding of its numbers to float64 included.
    pub fn mean(&self, at: Position) -> f64 {
        let Self { h, run, x_error, .. } = self;
        let (a, b, product, most) = self.logits();
        let Arithmetic { cut, all_weighed, weights, first, mean, changes, .. } = self.arithmetic;
        let z = 1.0 + run.rest;
        let dim = self.rows.dim() as f64;
        let radius = self.rows.radius() * (1.0 + (dim + 8.0) * U64);
        let roundings = U64 * (weights + mean + 8) as f64
            + match self.route.mean {
                Mean::Single => U32 * (first + 4) as f64,
                _ => U64 * (first + 4) as f64,
            };
        let local = self.route.mean == Mean::Local;
        let moved = if local { 4.0 * U64 * changes as f64 * radius } else { 0.0 };

        // V by the radius alone.
        let by_rounding = rounded_weights(run, radius + at.from_centre);
        let of_mean = 2.0 * roundings * radius + moved + by_rounding;
        let by_radius = radius.powi(2) - at.from_centre.powi(2) + 2.0 * of_mean * (at.from_centre + radius);
        let farthest = radius + at.from_centre + of_mean;

        // V by what was summed: the errors of d², and those of the mean in the terms that are subtracted. With T² = V +
        // |ȳ - b|² and an error of the mean of r T + m they say T² ≤ known + (r T + m) reach, hence the bound on T.
        let (relative, (of_product, of_norms)) = (self.of_squares(), self.of_products());
        let of_d2 = 2.0 * relative * run.best * run.rest / z
            + (2.0 * relative + 4.0 * U64 * weights as f64) * run.excess / z
            + 2.0 * (of_product * radius + of_norms) * run.rest / z;
        let reach = 2.0 * run.best.sqrt() + 2.0 * at.from_best;
        let of_correction = (dim + 4.0) * U64 * at.from_best * reach;
        // Rows that were weighed but are not in the mean.
        let outside = if all_weighed && cut.is_finite() { self.outside() } else { 0.0 };
        let share = 1.0 / (1.0 - outside);
        let known = run.excess / z + of_d2 - at.correction + of_correction + outside * reach * farthest;
        let known = share * known.max(0.0);
        let by_sums = if local {
            let t = roundings * reach + (known + at.from_best.powi(2) + moved * reach).sqrt();
            t * t - at.from_best.powi(2)
        } else {
            known + (roundings * radius + by_rounding) * reach
        };
        let variance = by_sums.min(by_radius).max(0.0);
        let spread = variance.sqrt();

        let about_centre = (variance + at.from_centre.powi(2)).sqrt().min(radius);
        let about = if local { (variance + at.from_best.powi(2)).sqrt() } else { about_centre };
        // Rows as raw numbers less their mean, scaled afterwards: what float64 rounds off rows as decoded.
        let of_rows = if matches!(self.route.mean, Mean::Single | Mean::Integer) {
            let shift = self.rows.decoding().shift.abs();
            3.0 * U64 * dim.sqrt() * (self.rows.min().abs().max(self.rows.max().abs()) + shift)
        } else {
            0.0
        };
        // Raw rows are summed as they are.
        let about = if self.route.mean == Mean::Integer {
            spread + at.length + self.rows.decoding().shift.abs() * dim.sqrt()
        } else {
            about
        };
        let by_arithmetic = roundings * about + moved + of_rows + by_rounding;
        let by_logits = a + b * (NO_WEIGHT * share * self.above()).sqrt() + product * about_centre;
        let by_weights = (2.0 * most).exp() * (by_logits * spread + 2.0 * h * variance * x_error);
        let by_skipping = self.missing(most).0 * farthest;
        // An infinite exponential times no spread is no number, and then the other is the least.
        let error = (by_weights + by_skipping).min(farthest) + by_arithmetic;
        // Of centre + offset: half an ulp, and never more than the offset, the centre being a number.
        let stored = if local { (U64 * at.length).min(at.from_best) } else { U64 * at.length };
        OWN * (error + stored)
    }
}
