//! The rows in 7 bits a number: bounds of distances by integer products, which are exact, and several times as fast as those
//! of floating-point numbers.
//!
//! A row's coordinates c (all of ỹ = y - mean of the data, or those along some directions, which leave a rest of length r) are
//! kept as ĉ = v (k - 64) with integers k in [1, 127], a query's as ĉ = w e with integers e in [-127, 127]. With the lengths
//! of what that leaves, x̃·ỹ ≤ c(x)·c(y) + r(x) r(y) and c(x)·c(y) = ĉ(x)·ĉ(y) + ĉ(x)·(c - ĉ)(y) + (c - ĉ)(x)·c(y), which is at
//! most w v e·(k - 64) + |ĉ(x)||c - ĉ|(y) + |c - ĉ|(x)|c(y)|. So |x - y|² ≥ |x̃|² + 2 (½|ỹ|² - those); the bracket is a row's
//! score.
//!
//! Rounding. The lengths are rounded up. A score is a float32 sum of five terms of at most ½R² + 4aR together (a = |x̃|, R the
//! largest |ỹ|) with at most 7 roundings each, so twice it is off by at most 14 u (½R² + 4aR) ≤ 28 u (a + R)², u = 2^-24;
//! the slack is more than half as much again.

use super::amx::{self, LEFT, Left, RIGHT, SIDE, TILE, Tiles};
use super::directions::BLOCK;
use super::tile::{Buffer, Plan};
use super::vector::{Integers, Isa, Vector};
use crate::error::{Result, try_vec};
use std::ops::Range;

/// Numbers that are multiplied together.
const QUAD: usize = 4;
/// Left tiles of a group of queries.
const SETS: usize = Plan::GROUP / SIDE;
/// The code of 0.
const ZERO: f64 = 64.0;
/// The largest distance of a row's code from that, and the largest code of a query.
const ROW_STEPS: f64 = 63.0;
const QUERY_STEPS: f64 = 127.0;
/// Products of more numbers than these might not fit 32 bits.
pub const MOST_DIM: usize = 1 << 16;

/// How much twice a score may be off, as a share of (|x̃| + R)².
pub const SLACK: f64 = 48.0 * (f32::EPSILON / 2.0) as f64;

/// Floats kept for each row.
const FLOATS: usize = 5;

/// Bytes kept for each row of `dim` numbers.
pub fn bytes(dim: usize) -> usize {
    dim.next_multiple_of(QUAD) + FLOATS * size_of::<f32>()
}

/// The codes of all rows.
pub struct Quantized {
    /// Quads of a row.
    quads: usize,
    /// `[block][quads][BLOCK][QUAD]`, and a tile of nothing.
    pub codes: Buffer<u8>,
    /// ½|ỹ|², v, |c|, |c - ĉ| and r: `[block][FLOATS][BLOCK]`.
    pub numbers: Buffer<f32>,
}

/// The codes of queries.
pub struct Coded {
    /// Four to an integer, the lowest byte first: `[queries, quads]`.
    codes: Vec<i32>,
    /// The same as left tiles, `[group][quads / 16][SETS]`, where there are tile registers.
    tiles: Buffer<i32>,
    each: Vec<One>,
}

/// What else is known of a coded query.
#[derive(Clone, Copy, Default)]
struct One {
    /// -64 Σ e.
    start: i32,
    /// -w.
    step: f32,
    /// -|x̃ - x̂|.
    error: f32,
    /// -|x̂|.
    length: f32,
    /// -r.
    rest: f32,
}

/// Upwards, by more than a rounding to float32 and the few roundings of `v` itself.
#[allow(clippy::cast_possible_truncation)]
fn up(v: f64) -> f32 {
    (v * (1.0 + 1e-6)) as f32
}

impl Quantized {
    /// Room for `blocks` blocks of rows of `dim` numbers.
    pub fn zeros(blocks: usize, dim: usize) -> Result<Self> {
        let quads = dim.div_ceil(QUAD);
        Ok(Self {
            quads,
            codes: Buffer::zeros(blocks * BLOCK * quads * QUAD + TILE, "quantized rows")?,
            numbers: Buffer::zeros(blocks * BLOCK * FLOATS, "quantized rows")?,
        })
    }

    /// The parts of `codes` and of `numbers` that block `block` has.
    pub fn of_block(dim: usize, block: usize) -> (Range<usize>, Range<usize>) {
        let (codes, numbers) = (dim.div_ceil(QUAD) * QUAD * BLOCK, FLOATS * BLOCK);
        (block * codes..(block + 1) * codes, block * numbers..(block + 1) * numbers)
    }

    /// Keeps the coordinates and the rest of a row of this squared length as row `i` of a block.
    #[inline(always)]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn put(row: &[f64], rest: f64, squared: f64, i: usize, codes: &mut [u8], numbers: &mut [f32]) {
        let step = (largest(row) / ROW_STEPS) as f32;
        let (exact, inverse) = (f64::from(step), inverse(step));
        let (mut error, mut length) = (0.0, 0.0);
        for (k, &y) in row.iter().enumerate() {
            length += y * y;
            let code = (y * inverse).round_ties_even().clamp(-ROW_STEPS, ROW_STEPS);
            error += (y - exact * code) * (y - exact * code);
            codes[(k / QUAD * BLOCK + i) * QUAD + k % QUAD] = (code + ZERO) as u8;
        }
        // 64, not 0, is what the numbers beyond the last are.
        for k in row.len()..row.len().next_multiple_of(QUAD) {
            codes[(k / QUAD * BLOCK + i) * QUAD + k % QUAD] = ZERO as u8;
        }
        let values: [f32; FLOATS] = [(0.5 * squared) as f32, step, up(length.sqrt()), up(error.sqrt()), up(rest)];
        values.iter().enumerate().for_each(|(at, v)| numbers[at * BLOCK + i] = *v);
    }

    /// Rows of a block that are not there: farther than any.
    pub fn put_nothing(from: usize, numbers: &mut [f32]) {
        numbers[from..BLOCK].fill(f32::INFINITY);
    }

    /// Room for the codes of `queries` queries.
    pub fn coded(&self, queries: usize, tiles: bool) -> Result<Coded> {
        let tiles = if tiles { queries.next_multiple_of(Plan::GROUP) * self.quads.next_multiple_of(SIDE) } else { 0 };
        Ok(Coded {
            codes: try_vec(queries * self.quads, 0, "coded queries")?,
            tiles: Buffer::zeros(tiles, "coded queries")?,
            each: try_vec(queries, One::default(), "coded queries")?,
        })
    }

    /// Keeps the coordinates and the rest of a query as query `b`.
    #[allow(clippy::cast_possible_truncation)]
    pub fn code(&self, x: &[f64], rest: f64, b: usize, into: &mut Coded) {
        let step = (largest(x) / QUERY_STEPS) as f32;
        let (exact, inverse) = (f64::from(step), inverse(step));
        let (mut error, mut squared, mut sum) = (0.0, 0.0, 0);
        let codes = &mut into.codes[b * self.quads..(b + 1) * self.quads];
        for (four, quad) in codes.iter_mut().zip(x.chunks(QUAD)) {
            let mut bytes = [0; QUAD];
            for (byte, &x) in bytes.iter_mut().zip(quad) {
                let code = (x * inverse).round_ties_even().clamp(-QUERY_STEPS, QUERY_STEPS);
                error += (x - exact * code) * (x - exact * code);
                squared += exact * code * (exact * code);
                sum += code as i32;
                *byte = (code as i8).cast_unsigned();
            }
            *four = i32::from_le_bytes(bytes);
        }
        if !into.tiles.is_empty() {
            let (set, i) = (b / SIDE, b % SIDE);
            for (step, quads) in codes.chunks(SIDE).enumerate() {
                let tile = self.tile_of(set, step);
                into.tiles[(tile * SIDE + i) * SIDE..][..quads.len()].copy_from_slice(quads);
            }
        }
        into.each[b] = One {
            start: -(ZERO as i32) * sum,
            step: -step,
            error: -up(error.sqrt()),
            length: -up(squared.sqrt()),
            rest: -up(rest),
        };
    }

    /// The scores of the rows of `block` for those queries in `mask` (bit b is query `first + b`) that have at most the score
    /// `most[b]` for one of them, given to `found(b, scores)`.
    ///
    /// # Safety
    /// See [`super::vector`].
    #[inline(always)]
    pub unsafe fn scores<S: Isa>(
        &self,
        x: &Coded,
        first: usize,
        mut mask: u64,
        block: usize,
        most: &[f32],
        mut found: impl FnMut(usize, &[f32; BLOCK]),
    ) {
        const TOGETHER: usize = 8;
        let wide = S::Single::REGISTERS >= 32;
        assert!((block + 1) * BLOCK * FLOATS <= self.numbers.len());
        let mut scores = [[0.0_f32; BLOCK]; TOGETHER];
        while mask != 0 {
            // A list that is not full repeats its first query.
            let (mut bits, mut count) = ([mask.trailing_zeros() as usize; TOGETHER], 0);
            while mask != 0 && count < if wide { TOGETHER } else { TOGETHER / 2 } {
                bits[count] = mask.trailing_zeros() as usize;
                mask &= mask - 1;
                count += 1;
            }
            let queries: [usize; TOGETHER] = std::array::from_fn(|i| first + bits[i]);
            assert!(queries.iter().all(|q| *q < x.each.len()));
            let mut at = 0;
            while at < BLOCK {
                // SAFETY: the block and the queries are there; the instruction set is the caller's promise.
                unsafe {
                    if wide {
                        self.against::<S, TOGETHER, 1>(x, queries, block, at, &mut scores);
                    } else {
                        self.against::<S, { TOGETHER / 2 }, 2>(x, queries, block, at, &mut scores);
                    }
                }
                at += S::Single::LANES * if wide { 1 } else { 2 };
            }
            for (scores, &b) in scores[..count].iter().zip(&bits) {
                if scores.iter().fold(false, |any, s| any | (*s <= most[b])) {
                    found(b, scores);
                }
            }
        }
    }

    /// The scores of `YS` registers of rows of `block`, from row `at` on, for the first `XS` of the queries.
    #[inline(always)]
    #[allow(clippy::needless_range_loop)]
    unsafe fn against<S: Isa, const XS: usize, const YS: usize>(
        &self,
        x: &Coded,
        queries: [usize; 8],
        block: usize,
        at: usize,
        scores: &mut [[f32; BLOCK]; 8],
    ) {
        // SAFETY: the caller checked the bounds; the instruction set is its promise.
        unsafe {
            let y = self.codes.as_ptr().add((block * self.quads * BLOCK + at) * QUAD);
            let xs: [*const i32; XS] = std::array::from_fn(|i| x.codes.as_ptr().add(queries[i] * self.quads));
            let each: [One; XS] = std::array::from_fn(|i| x.each[queries[i]]);
            let mut sums = [[S::Integers::splat(0); YS]; XS];
            for i in 0..XS {
                sums[i] = [S::Integers::splat(each[i].start); YS];
            }
            for k in 0..self.quads {
                for i in 0..XS {
                    for j in 0..YS {
                        let y = y.add((k * BLOCK + j * S::Single::LANES) * QUAD);
                        sums[i][j] = sums[i][j].dot4(y, *xs[i].add(k));
                    }
                }
            }
            for j in 0..YS {
                let row = at + j * S::Single::LANES;
                for i in 0..XS {
                    let score = self.score::<S>(&each[i], block, row, sums[i][j].to_float());
                    score.store(scores[i].as_mut_ptr().add(row));
                }
            }
        }
    }
}

/// Tile registers, and room for products on them.
pub struct OnTiles {
    tiles: Tiles,
    steps: Vec<u32>,
    products: Buffer<i32>,
}

impl OnTiles {
    /// For at most so many queries at a time and rows of at most so many numbers.
    ///
    /// # Safety
    /// See [`Tiles::new`].
    pub unsafe fn new(queries: usize, dim: usize) -> Result<Self> {
        let mut steps = try_vec(dim.div_ceil(amx::DEPTH), 0, "products of codes")?;
        steps.iter_mut().zip(0..).for_each(|(step, i)| *step = i);
        let products = Buffer::zeros(amx::PRODUCTS, "products of codes")?;
        // SAFETY: the caller's promise.
        Ok(Self { tiles: unsafe { Tiles::new(queries.clamp(1, SIDE)) }, steps, products })
    }
}

impl Quantized {
    /// What the scores of all rows cost, and those of blocks one by one, in quads of a row.
    pub fn costs(&self, tiles: bool) -> (usize, usize) {
        // Products of a quad that tile registers form in the time of one; and what else a score costs.
        const TILES: usize = 7;
        const SCORE: usize = 8;
        (SCORE + if tiles { self.quads / TILES } else { self.quads }, SCORE + self.quads)
    }

    /// The tile of queries 16 set to 16 set + 15 and of quads 16 step to 16 step + 15.
    fn tile_of(&self, set: usize, step: usize) -> usize {
        (set / SETS * self.quads.div_ceil(SIDE) + step) * SETS + set % SETS
    }

    /// As [`Quantized::scores`], of all rows of `blocks` for all of a group's `queries`, on tile registers where there are:
    /// `found(b, block, scores)`, b from the first query on. The bits are the same.
    ///
    /// # Safety
    /// See [`super::vector`].
    #[inline(always)]
    pub unsafe fn all_scores<S: Isa>(
        &self,
        on_tiles: Option<&mut OnTiles>,
        x: &Coded,
        queries: Range<usize>,
        blocks: Range<usize>,
        most: &[f32],
        mut found: impl FnMut(usize, usize, &[f32; BLOCK]),
    ) {
        let Some(OnTiles { tiles, steps, products }) = on_tiles else {
            for block in blocks {
                let mask = u64::MAX >> (64 - queries.len());
                // SAFETY: the caller's promise.
                unsafe { self.scores::<S>(x, queries.start, mask, block, most, |b, s| found(b, block, s)) };
            }
            return;
        };
        let of_block = self.quads * BLOCK * QUAD;
        let steps = &steps[..self.quads.div_ceil(SIDE)];
        assert!(queries.end <= x.each.len() && blocks.end * of_block + TILE <= self.codes.len());
        let mut scores = [0.0; BLOCK];
        assert!(queries.start.is_multiple_of(Plan::GROUP) && queries.len() <= Plan::GROUP);
        for first in queries.clone().step_by(LEFT * SIDE) {
            let these = first..(first + LEFT * SIDE).min(queries.end);
            let tiles_of_these = x.tiles[self.tile_of(first / SIDE, 0) * SIDE * SIDE..].as_ptr();
            let count = these.len().div_ceil(SIDE);
            let left = Left { tiles: tiles_of_these.cast(), step: SETS * TILE, count, signed: true };
            for block in blocks.clone().step_by(RIGHT) {
                let here = RIGHT.min(blocks.end - block);
                // SAFETY: queries and blocks are there, and a side's and a tile's worth of nothing; what a row's last tile has
                // beyond it is multiplied by the query's zeros; the caller's promise.
                unsafe {
                    let right = std::array::from_fn(|r| self.codes.as_ptr().add((block + r.min(here - 1)) * of_block));
                    amx::products(tiles, left, right, steps, products);
                }
                for r in 0..here {
                    let numbers = &self.numbers.as_chunks::<BLOCK>().0[(block + r) * FLOATS..][..FLOATS];
                    for b in these.clone() {
                        let at = ((b - first) / SIDE * RIGHT + r) * SIDE + (b - first) % SIDE;
                        let sums = &products.as_chunks::<BLOCK>().0[at];
                        let of = &x.each[b];
                        for i in 0..BLOCK {
                            // As in `score`, lane by lane.
                            let score = S::mul_add_single(of.rest, numbers[4][i], numbers[0][i]);
                            let score = S::mul_add_single(of.length, numbers[3][i], score);
                            let score = S::mul_add_single(of.error, numbers[2][i], score);
                            #[allow(clippy::cast_precision_loss)]
                            let sum = (of.start + sums[i]) as f32;
                            scores[i] = S::mul_add_single(of.step * numbers[1][i], sum, score);
                        }
                        if scores.iter().fold(false, |any, s| any | (*s <= most[b - queries.start])) {
                            found(b - queries.start, block + r, &scores);
                        }
                    }
                }
            }
        }
    }

    /// The scores of a register of rows of `block`, from row `at` on, whose products with the query are these.
    #[inline(always)]
    unsafe fn score<S: Isa>(&self, of: &One, block: usize, row: usize, products: S::Single) -> S::Single {
        let &One { step: w, error: e, length, rest, .. } = of;
        // SAFETY: the caller checked the bounds; the instruction set is its promise.
        unsafe {
            let numbers = self.numbers.as_ptr().add(block * BLOCK * FLOATS + row);
            let half_norm = S::Single::load(numbers);
            let step = S::Single::load(numbers.add(BLOCK));
            let norm = S::Single::load(numbers.add(2 * BLOCK));
            let error = S::Single::load(numbers.add(3 * BLOCK));
            let score = S::Single::splat(rest).mul_add(S::Single::load(numbers.add(4 * BLOCK)), half_norm);
            let score = S::Single::splat(length).mul_add(error, score);
            let score = S::Single::splat(e).mul_add(norm, score);
            let product = S::Single::splat(w).mul_add(step, S::Single::splat(0.0));
            product.mul_add(products, score)
        }
    }
}

/// The largest magnitude.
#[inline(always)]
fn largest(v: &[f64]) -> f64 {
    const LANES: usize = 8;
    let mut most = [0.0_f64; LANES];
    for v in v.chunks(LANES) {
        for (most, v) in most.iter_mut().zip(v) {
            *most = most.max(v.abs());
        }
    }
    most.iter().fold(0.0, |a, &b| a.max(b))
}

/// 1/step, or 0 where there is nothing to divide.
fn inverse(step: f32) -> f64 {
    if step > 0.0 { 1.0 / f64::from(step) } else { 0.0 }
}
