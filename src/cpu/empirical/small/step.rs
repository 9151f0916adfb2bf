//! The kernels of a step in float32: a block of queries, one in each float32 lane, against tiles of rows.
//!
//! A row less the mean μ of the data, and so a query, is kept as the sum of two float32 numbers: y - x then has float32's
//! relative error however near the two are. Of a tile of rows the differences and |y - x|² are formed first and kept, then
//! the weights 2^(c - p) with p = h |y - x|² / ln 2 and a whole number c, that of the nearest row so far: what all weights
//! have in common is divided out, and a whole number moves exponents alone. Tiles are summed in float64.
//!
//! Σ w (y - x) loses nothing near the data. Far from it Σ w (y - μ) keeps ȳ, where that is wanted.

use super::sweep::{BLOCK, Lane, Lanes};
use crate::cpu::Kernel;
use crate::cpu::tile::row_index;
use crate::cpu::vector::{Isa, Single, Vector};
use std::ops::Range;

/// One float32 per query of a block.
type SingleLane = [f32; BLOCK];

/// 2^r on |r| ≤ 1/2 but for a factor that all weights have, lowest power first: of least largest relative error, 7.5e-8.
const SERIES: [f32; 6] = [1.0, 0.693_146_94, 0.240_221_19, 0.055_507_127, 0.009_675_541, 0.001_327_647_1];
/// Adding 1.5·2^23 leaves the nearest whole number in the low bits of the significand.
const ROUND: f32 = 12_582_912.0;
/// Whole numbers that this leaves room for, by far.
const MOST_EXPONENT: f64 = (1 << 20) as f64;
/// Rows of less weight than 2 to minus this get it, for a product with their distance that is no subnormal number.
const LEAST_WEIGHT: f32 = 100.0;
/// Relative error of ȳ - x that is put up with: half of what callers in float32 are promised.
const ALLOWED: f64 = 5e-6;
/// Half the distance from 1 to the next float32: the most that is rounded off a number,
const U32: f64 = 0.5 * f32::EPSILON as f64;
/// and the standard deviation of it, for a number anywhere between two powers of two.
const ROUNDED: f64 = 0.42 * U32;
/// The variance of a weight but for what its logarithm adds: the series, and two roundings.
const OF_WEIGHT: f64 = 1.5 * U32 * U32;
/// The same of |y - x|², relatively: each difference is rounded twice, which counts double in a square, and partial sums;
/// and that of h.
const OF_SQUARE: f64 = 2.0 * U32 * U32;
/// Of a standard deviation: a chance of 6e-7 to pass it, and nothing to pass twice it.
const DEVIATIONS: f64 = 5.0;

/// Rows of a tile: what is kept of them stays in the nearest cache, and sums in float32 are short.
const MOST_TILE: usize = 32;

/// What the rows of a block sum up to.
#[derive(Clone, Copy)]
pub struct Sums<const D: usize> {
    /// c, a whole number.
    exponent: Lane,
    /// Σ w.
    weight: Lane,
    /// Σ w |y - x|².
    square: Lane,
    /// Σ w (y - x), or Σ w (y - μ).
    mean: Lanes<D>,
}

/// 2^k for a whole number k ≤ 0.
#[inline(always)]
fn power_of_two(k: f64) -> f64 {
    const SMALLEST: f64 = -1000.0;
    if k < SMALLEST { 0.0 } else { f64::from_bits(((1023 + k as i64) as u64) << 52) }
}

impl<const D: usize> Sums<D> {
    pub const START: Self =
        Self { exponent: [f64::INFINITY; BLOCK], weight: [0.0; BLOCK], square: [0.0; BLOCK], mean: [[0.0; BLOCK]; D] };

    /// Makes weights of the lanes relative to `exponent`, which is no greater than theirs.
    #[inline(always)]
    fn fade(&mut self, lanes: Range<usize>, exponent: &Lane) {
        for l in lanes {
            let factor = power_of_two(exponent[l] - self.exponent[l]);
            self.exponent[l] = exponent[l];
            self.weight[l] *= factor;
            self.square[l] *= factor;
            for mean in &mut self.mean {
                mean[l] *= factor;
            }
        }
    }

    /// Makes all numbers of the lanes 0.
    #[inline(always)]
    fn clear(&mut self, lanes: Range<usize>) {
        for lane in [&mut self.exponent, &mut self.weight, &mut self.square].into_iter().chain(&mut self.mean) {
            lane[lanes.clone()].fill(0.0);
        }
    }

    /// The sums over later rows.
    pub fn absorb(&mut self, other: &Self) {
        let mut other = *other;
        let exponent = std::array::from_fn(|l| self.exponent[l].min(other.exponent[l]));
        self.fade(0..BLOCK, &exponent);
        other.fade(0..BLOCK, &exponent);
        let add = |to: &mut Lane, from: &Lane| to.iter_mut().zip(from).for_each(|(t, f)| *t += f);
        add(&mut self.weight, &other.weight);
        add(&mut self.square, &other.square);
        self.mean.iter_mut().zip(&other.mean).for_each(|(to, from)| add(to, from));
    }
}

/// A block of queries and all that is known of it. Where there are fewer queries, the last is repeated.
pub struct Block<const D: usize> {
    /// The queries' rows in the batch.
    pub ids: Range<usize>,
    /// x - μ, which is minus the sum of `high` and `low`.
    x: Lanes<D>,
    high: [SingleLane; D],
    low: [SingleLane; D],
    /// |x - μ|².
    distance: Lane,
    h: Lane,
    /// h / ln 2.
    scale: SingleLane,
    /// Below 0 where sums are about μ.
    side: SingleLane,
    pub sums: Sums<D>,
    /// ȳ.
    pub mean: Lanes<D>,
    /// ȳ - x.
    pub offset: Lanes<D>,
    /// 1 where float32 may show, else 0, and whether there is a 1.
    pub doubt: [u64; BLOCK],
    pub in_doubt: bool,
    /// What is kept of a tile in a register: |y - x|² and y - x.
    squares: [Register; MOST_TILE],
    aparts: [[Register; D]; MOST_TILE],
}

/// Room for the widest register.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Register([f32; 16]);

impl Register {
    const START: Self = Self([0.0; 16]);
}

impl<const D: usize> Block<D> {
    pub const START: Self = Self {
        ids: 0..0,
        x: [[0.0; BLOCK]; D],
        high: [[0.0; BLOCK]; D],
        low: [[0.0; BLOCK]; D],
        distance: [0.0; BLOCK],
        h: [0.0; BLOCK],
        scale: [0.0; BLOCK],
        side: [0.0; BLOCK],
        sums: Sums::START,
        mean: [[0.0; BLOCK]; D],
        offset: [[0.0; BLOCK]; D],
        doubt: [0; BLOCK],
        in_doubt: false,
        squares: [Register::START; MOST_TILE],
        aparts: [[Register::START; D]; MOST_TILE],
    };
}

/// The larger part of a number.
#[allow(clippy::cast_possible_truncation)]
#[inline(always)]
pub fn high(v: f64) -> f32 {
    v as f32
}

/// Takes the queries of `block.ids`.
pub struct Load<'a, const D: usize> {
    /// `[batch, d]`.
    pub x: &'a [f64],
    pub precision: &'a [f64],
    /// μ.
    pub centre: &'a [f64],
    pub radius: f64,
    pub block: &'a mut Block<D>,
}

impl<const D: usize> Kernel for Load<'_, D> {
    type Output = ();

    #[inline(always)]
    #[allow(clippy::needless_range_loop)]
    unsafe fn run<S: Isa>(self) {
        let Self { x, precision, centre, radius, block } = self;
        let d = centre.len();
        let ids = block.ids.clone();
        if ids.len() < BLOCK {
            for l in 0..BLOCK {
                let id = (ids.start + l).min(ids.end - 1);
                block.h[l] = precision[id];
                for (lane, x) in block.x.iter_mut().zip(&x[id * d..(id + 1) * d]) {
                    lane[l] = *x;
                }
            }
        } else {
            let (x, precision) = (&x[ids.start * d..][..BLOCK * d], &precision[ids.start..][..BLOCK]);
            block.h.copy_from_slice(precision);
            if d == D {
                // The same loop with a stride that the compiler knows, and so has a pattern for.
                for (k, lane) in block.x.iter_mut().enumerate() {
                    for (l, to) in lane.iter_mut().enumerate() {
                        *to = x[l * D + k];
                    }
                }
            } else {
                for (k, lane) in block.x.iter_mut().enumerate().take(d) {
                    for (l, to) in lane.iter_mut().enumerate() {
                        *to = x[l * d + k];
                    }
                }
            }
        }
        let mut distance = [0.0; BLOCK];
        for (k, centre) in centre.iter().enumerate() {
            let (x, to_high, to_low) = (&mut block.x[k], &mut block.high[k], &mut block.low[k]);
            for l in 0..BLOCK {
                x[l] -= centre;
                let part = high(-x[l]);
                to_high[l] = part;
                to_low[l] = high(-x[l] - f64::from(part));
                distance[l] = S::mul_add(x[l], x[l], distance[l]);
            }
        }
        let squared_radius = radius * radius;
        for l in 0..BLOCK {
            block.h[l] *= 0.5;
            block.scale[l] = high(std::f64::consts::LOG2_E * block.h[l]);
            block.side[l] = if distance[l] > squared_radius { -1.0 } else { 1.0 };
        }
        block.distance = distance;
    }
}

/// Sums over the rows at `positions`. With `FAR` they are about μ on the far side of the data, else about x everywhere.
pub struct Add<'a, const D: usize, const FAR: bool> {
    /// `[len, 2, D]`: the two parts of μ - y.
    pub rows: &'a [f32],
    pub subset: Option<&'a [u32]>,
    pub positions: Range<usize>,
    pub block: &'a mut Block<D>,
}

impl<const D: usize, const FAR: bool> Kernel for Add<'_, D, FAR> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Isa>(mut self) {
        assert!(self.subset.map_or(self.rows.len() / (2 * D), <[u32]>::len) >= self.positions.end);
        // None for queries that are not there.
        for from in (0..self.block.ids.len()).step_by(S::Single::LANES) {
            // SAFETY: the instruction set is this function's own precondition; the rows were just checked.
            unsafe { self.add::<S::Single>(from) }
        }
    }
}

impl<const D: usize, const FAR: bool> Add<'_, D, FAR> {
    /// The row at `position`, of 2 D numbers.
    #[inline(always)]
    fn row(&self, position: usize) -> *const f32 {
        let row = row_index(self.subset, position) * 2 * D;
        self.rows[row..row + 2 * D].as_ptr()
    }

    /// # Safety
    /// See [`crate::cpu::vector`].
    #[inline(always)]
    unsafe fn add<V: Single>(&mut self, from: usize) {
        let lanes = from..from + V::LANES;
        // SAFETY: the caller's promise; a lane of a block has room for its registers.
        unsafe {
            let zero = V::splat(0.0);
            let load = |lane: &SingleLane| V::load(lane[lanes.clone()].as_ptr());
            let (mut high, mut low) = ([zero; D], [zero; D]);
            for k in 0..D {
                (high[k], low[k]) = (load(&self.block.high[k]), load(&self.block.low[k]));
            }
            let (scale, side) = (load(&self.block.scale), load(&self.block.side));
            let minus = zero.sub(scale);
            let mut reaches = [0.0; BLOCK];
            for (reach, scale) in reaches.iter_mut().zip(&self.block.scale[lanes.clone()]) {
                *reach = 1.0 / scale;
            }
            let inverse = V::load(reaches.as_ptr());
            let mut exponent = V::splat(f32::INFINITY);
            let tile = (64 / D).clamp(16, MOST_TILE);
            let mut at = self.positions.start;
            while at < self.positions.end {
                let len = tile.min(self.positions.end - at);
                let mut best = V::splat(f32::INFINITY);
                for i in 0..len {
                    let y = self.row(at + i);
                    let mut square = zero;
                    for k in 0..D {
                        let small = low[k].sub(V::splat(*y.add(D + k)));
                        let apart = high[k].sub(V::splat(*y.add(k))).add(small);
                        square = apart.mul_add(apart, square);
                        apart.store(self.block.aparts[i][k].0.as_mut_ptr());
                    }
                    square.store(self.block.squares[i].0.as_mut_ptr());
                    best = square.min(best);
                }
                let whole = best.mul_add(scale, V::splat(ROUND)).sub(V::splat(ROUND));
                exponent = exponent.min(whole);
                let reach = exponent.add(V::splat(LEAST_WEIGHT)).mul(inverse);
                let shift = exponent.add(V::splat(ROUND));
                let (mut weight, mut about_square, mut mean) = (zero, zero, [zero; D]);
                for i in 0..len {
                    let square = V::load(self.block.squares[i].0.as_ptr()).min(reach);
                    let shifted = square.mul_add(minus, shift);
                    let r = square.mul_add(minus, shift.sub(shifted));
                    let mut w = V::splat(SERIES[5]);
                    for c in SERIES[..5].iter().rev() {
                        w = w.mul_add(r, V::splat(*c));
                    }
                    let w = w.times_power_of_two(shifted);
                    weight = weight.add(w);
                    about_square = w.mul_add(square, about_square);
                    for (k, mean) in mean.iter_mut().enumerate() {
                        let mut apart = V::load(self.block.aparts[i][k].0.as_ptr());
                        if FAR {
                            apart = side.if_less(zero, zero.sub(V::splat(*self.row(at + i).add(k))), apart);
                        }
                        *mean = w.mul_add(apart, *mean);
                    }
                }
                let sums = &mut self.block.sums;
                if at > self.positions.start {
                    let mut now = [0.0; BLOCK];
                    exponent.add_to(now[lanes.clone()].as_mut_ptr());
                    sums.fade(lanes.clone(), &now);
                } else {
                    sums.clear(lanes.clone());
                    exponent.add_to(sums.exponent[lanes.clone()].as_mut_ptr());
                }
                weight.add_to(sums.weight[lanes.clone()].as_mut_ptr());
                about_square.add_to(sums.square[lanes.clone()].as_mut_ptr());
                for (mean, sum) in mean.iter().zip(&mut sums.mean) {
                    mean.add_to(sum[lanes.clone()].as_mut_ptr());
                }
                at += len;
            }
        }
    }
}

/// Turns the sums of a block into results.
pub struct Divide<'a, const D: usize, const FAR: bool> {
    /// μ.
    pub centre: &'a [f64],
    pub radius: f64,
    /// Rows that take part.
    pub len: usize,
    /// The block's rows of the results, `[len, d]`.
    pub to_mean: Option<&'a mut [f64]>,
    pub to_offset: Option<&'a mut [f64]>,
    pub block: &'a mut Block<D>,
}

impl<const D: usize, const FAR: bool> Kernel for Divide<'_, D, FAR> {
    type Output = ();

    #[inline(always)]
    #[allow(clippy::needless_range_loop)]
    unsafe fn run<S: Isa>(self) {
        let Self { centre, radius, len, to_mean, to_offset, block } = self;
        let Block { x, side, distance, h, sums, mean, offset, doubt, in_doubt, .. } = block;
        let (mut inverse, mut length) = ([0.0; BLOCK], [0.0; BLOCK]);
        for l in 0..BLOCK {
            inverse[l] = f64::from(1.0 / high(sums.weight[l]));
        }
        for (k, centre) in centre.iter().enumerate() {
            for l in 0..BLOCK {
                let u = sums.mean[k][l] * inverse[l];
                let far = FAR && side[l] < 0.0;
                let apart = if far { u - x[k][l] } else { u };
                offset[k][l] = apart;
                mean[k][l] = centre + if far { u } else { x[k][l] + u };
                length[l] = S::mul_add(apart, apart, length[l]);
            }
        }
        for (to, from) in [(to_mean, mean), (to_offset, offset)] {
            if let Some(to) = to {
                let d = centre.len();
                if to.len() == BLOCK * D {
                    for l in 0..BLOCK {
                        for (k, lane) in from.iter().enumerate() {
                            to[l * D + k] = lane[l];
                        }
                    }
                } else {
                    for (l, to) in to.chunks_exact_mut(d).enumerate() {
                        to.iter_mut().zip(from.iter()).for_each(|(to, lane)| *to = lane[l]);
                    }
                }
            }
        }
        // What two float32 numbers leave of x - μ and y - μ.
        let split = 4.0 * U32 * U32;
        let squared = |v: f64| v * v;
        let of_rows = squared(split * radius);
        // A sum's partial sums grow evenly, and each is rounded; so is each of its terms.
        let of_sum = squared(ROUNDED) * (len.min(MOST_TILE) as f64 / 3.0 + 2.0);
        let mut any = 0;
        for l in 0..BLOCK {
            let square = sums.square[l] * inverse[l];
            // And what roundings may have taken from it.
            let variance = (square - length[l]).max(0.0) + 64.0 * U32 * square;
            let left = of_rows + split * split * distance[l];
            // h |y - x|² differs from row to row as it differs from 0, within a factor or so.
            let logarithm = squared(1.5 * h[l] * square + 0.5) * OF_SQUARE + h[l] * h[l] * (1e-60 + left * square);
            let summed = if FAR && side[l] < 0.0 { radius * radius } else { square };
            let error = (OF_WEIGHT + logarithm) * variance + of_sum * summed + left;
            let size = if FAR { length[l].min(radius * radius) } else { length[l] };
            // No number is in doubt too.
            let fine = (squared(DEVIATIONS) * error <= squared(ALLOWED) * size) & (sums.exponent[l] < MOST_EXPONENT);
            doubt[l] = u64::from(!fine);
            any |= doubt[l];
        }
        *in_doubt = any != 0;
    }
}
