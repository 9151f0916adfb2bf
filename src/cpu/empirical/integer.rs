//! Distances to rows of bytes, and their weighted sums, by integer products that are exact: [`super::route::Distances::Integer`]
//! and [`super::route::Mean::Integer`].
//!
//! A query less the mean of the data, in raw units, is x̂ = s e + r with whole numbers e of 24 bits, |r| ≤ s √d / 2. An
//! e is three signed bytes, so that e·u for a row u of bytes is three products of bytes. Then |x - y|² = |x̃|² + |ỹ|² -
//! 2 x̃·ỹ lacks only 2 r·ỹ: the distances are, but for what all rows have in common, those from a query that is |r| away.
//!
//! A tile's weights, in float32, are made whole numbers of 24 bits: multiples of a power of two by which the largest of them
//! has all its bits. They are three unsigned bytes, and the sums of rows times them are exact again, as is the sum of the
//! weights by which these are divided. What rounding did to the weights is added up ([`Running::rounded`]): each is off by at
//! most half a unit, and weights that are alike err alike.

use super::sums::Running;
use crate::cpu::amx::{self, DEPTH, LEFT, Left, PRODUCTS, RIGHT, SIDE, TILE, Tiles};
use crate::cpu::tile::{Buffer, Plan, prefetch, reader, row_index};
use crate::cpu::vector::Isa;
use crate::dataset::Rows;
use crate::engine::Query;
use crate::error::{Result, try_vec};
use std::ops::Range;

/// Bytes of a whole number.
const PLANES: usize = LEFT;
/// The largest whole number of a query: its bytes are at most 127.
const MOST: f64 = (127 << 16 | 127 << 8 | 127) as f64;
/// Rows of more numbers would not fit 32 bits.
pub const MOST_DIM: usize = 1 << 16;
/// Rows to a tile: long enough that sums are seldom taken from the registers, short enough for the second-level cache.
const ROWS: usize = 256;
/// Queries that share a tile.
pub const GROUP: usize = 128;
/// What a unit of a byte is worth to the byte below.
const WORTH: f64 = 256.0;

/// How far a query whose largest |x - mean| is `largest` can be from its whole numbers.
pub fn residual(largest: f64, dim: usize) -> f64 {
    0.5 * (largest / MOST) * (dim as f64).sqrt() * (1.0 + 1e-8)
}

/// The plan for rows of bytes.
pub fn plan(plan: Plan) -> Plan {
    Plan { tile: ROWS.min(plan.len).next_multiple_of(DEPTH), ..plan }
}

/// How the planes of some queries, or of their weights, lie in left tiles.
#[derive(Clone, Copy)]
pub struct Planes {
    /// Left tiles of a step: one for each plane of 16 queries, or one for all planes of a few.
    count: usize,
    /// Lines from one plane to the next: of left tiles, and of products.
    left: usize,
    products: usize,
    /// Lines of a tile that are used.
    lines: usize,
}

impl Planes {
    /// For groups of at most so many queries.
    pub fn of(queries: usize) -> Self {
        if PLANES * queries <= SIDE {
            let few = queries.max(1);
            Self { count: 1, left: few, products: few, lines: PLANES * few }
        } else {
            Self { count: PLANES, left: SIDE, products: RIGHT * SIDE, lines: SIDE }
        }
    }

    /// Bytes of a step.
    fn step(self) -> usize {
        self.count * TILE
    }

    /// Bytes of the left tiles of so many queries, `depth` deep.
    fn bytes(self, queries: usize, depth: usize) -> usize {
        queries.div_ceil(SIDE) * depth / DEPTH * self.step()
    }

    /// Where plane `l` of step `step` of query `b` is.
    fn at(self, b: usize, depth: usize, step: usize, l: usize) -> usize {
        b / SIDE * self.bytes(1, depth) + step * self.step() + (l * self.left + b % SIDE) * DEPTH
    }

    /// Line `i` of the products with right tile `r`, the planes joined: whole numbers below 2^53, exactly.
    #[inline(always)]
    fn whole_numbers<S: Isa>(self, products: &[i32], i: usize, r: usize) -> [f64; SIDE] {
        let line = |l: usize| &products.as_chunks::<SIDE>().0[l * self.products + r * SIDE + i];
        let (low, middle, high) = (line(0), line(1), line(2));
        let mut out = [0.0; SIDE];
        for i in 0..SIDE {
            let upper = S::mul_add(f64::from(high[i]), WORTH, f64::from(middle[i]));
            out[i] = S::mul_add(upper, WORTH, f64::from(low[i]));
        }
        out
    }
}

/// Queries as whole numbers.
pub struct Coded {
    depth: usize,
    /// Queries of a group.
    group: usize,
    planes: Planes,
    /// Left tiles, `[group][set of 16][depth / 64]`.
    codes: Buffer<u8>,
    each: Vec<One>,
}

#[derive(Clone, Copy, Default)]
struct One {
    /// What a unit of a product takes from the squared distance.
    unit: f64,
    /// The squared distance less |ỹ|² and that.
    constant: f64,
}

impl Coded {
    /// The packed queries `x`, of these squared distances from the mean of the data, in groups.
    pub fn new(
        rows: &Rows,
        x: &[f64],
        stride: usize,
        squared_norms: &[f64],
        (group, planes): (usize, Planes),
    ) -> Result<Self> {
        let dim = rows.dim();
        let depth = dim.next_multiple_of(DEPTH);
        let queries = squared_norms.len();
        let group = group.min(queries.max(1));
        let of_group = planes.bytes(group, depth);
        let mut out = Self {
            depth,
            group,
            planes,
            codes: Buffer::zeros(queries.div_ceil(group) * of_group, "packed queries")?,
            each: try_vec(queries, One::default(), "packed queries")?,
        };
        let (scale, shift) = (rows.decoding().scale, rows.decoding().shift);
        for (b, (x, squared)) in x.chunks_exact(stride).zip(squared_norms).enumerate() {
            let centred = || x.iter().zip(rows.mean()).map(|(x, m)| x - m);
            let largest = centred().fold(0.0, |a: f64, v| a.max(v.abs()));
            let step = largest / MOST;
            let inverse = if step > 0.0 { 1.0 / step } else { 0.0 };
            let mut along = 0.0;
            let codes = &mut out.codes[b / group * of_group..][..of_group];
            for (k, (v, m)) in centred().zip(rows.mean()).enumerate() {
                #[allow(clippy::cast_possible_truncation)]
                let mut code = (v * inverse).round_ties_even().clamp(-MOST, MOST) as i32;
                along += f64::from(code) * (m - shift);
                for l in 0..PLANES {
                    #[allow(clippy::cast_possible_truncation)]
                    let byte = code as i8;
                    codes[planes.at(b % group, depth, k / DEPTH, l) + k % DEPTH] = byte.cast_unsigned();
                    code = (code - i32::from(byte)) >> 8;
                }
            }
            // x̂·ỹ = s scale e·u - s e·(mean - shift)
            out.each[b] = One { unit: 2.0 * step * scale, constant: squared + 2.0 * step * along };
        }
        Ok(out)
    }
}

/// The buffers of one thread.
pub struct Scratch {
    /// Some rows as they are stored, each from a cache line on.
    raw: Buffer<u8>,
    /// A tile as the right matrix of distances, `[rows / 16][depth / 64]`, and of means, `[depth / 16][rows / 64]`.
    rows: Buffer<u8>,
    columns: Buffer<u8>,
    planes: Planes,
    /// Weights as left tiles, `[set of 16][rows / 64]`, the unit of each query's, and which steps of the tile have any.
    weights: Buffer<u8>,
    units: Vec<f64>,
    any: Vec<u64>,
    products: Buffer<i32>,
    steps: Vec<u32>,
}

impl Scratch {
    /// Buffers for groups of `queries`; empty ones where no route needs them.
    pub fn new(plan: &Plan, dim: usize, queries: usize, needed: bool) -> Result<Self> {
        let planes = Planes::of(queries);
        let when = |len: usize| if needed { len } else { 0 };
        let (depth, queries) = (dim.next_multiple_of(DEPTH), queries.next_multiple_of(SIDE));
        let rows = plan.tile.next_multiple_of(DEPTH);
        Ok(Self {
            raw: Buffer::zeros(when(SIDE * depth), "rows")?,
            rows: Buffer::zeros(when(rows * depth), "rows of a tile")?,
            columns: Buffer::zeros(when(rows * depth), "columns of a tile")?,
            planes,
            weights: Buffer::zeros(when(planes.bytes(queries, plan.tile)), "weights of a tile")?,
            units: try_vec(when(queries), 0.0, "weights of a tile")?,
            any: try_vec(when(queries), 0, "weights of a tile")?,
            products: Buffer::zeros(when(PRODUCTS), "products of a tile")?,
            steps: try_vec(when((depth / DEPTH).max(rows / DEPTH)), 0, "steps of a tile")?,
        })
    }

    /// Lines of left tiles that are used.
    pub fn lines(&self) -> usize {
        self.planes.lines
    }

    /// Brings the rows at `positions` into both orders.
    ///
    /// # Safety
    /// [`amx::available`].
    #[inline(always)]
    pub unsafe fn load(&mut self, query: &Query<'_>, positions: Range<usize>, means: bool, last: usize, plan: &Plan) {
        const AHEAD: usize = SIDE;
        let Query { rows, subset, .. } = *query;
        let (dim, depth) = (rows.dim(), rows.dim().next_multiple_of(DEPTH));
        let column = plan.tile.next_multiple_of(DEPTH) * SIDE;
        let mut reader = reader(rows, subset, &positions);
        let first = positions.start;
        for block in (0..positions.len()).step_by(SIDE) {
            let there = (positions.len() - block).min(SIDE);
            for (i, to) in self.raw.chunks_exact_mut(depth).take(there).enumerate() {
                let position = first + block + i;
                prefetch(rows.raw(row_index(subset, (position + AHEAD).min(last))));
                reader.bytes(row_index(subset, position), &mut to[..dim]);
            }
            assert!((block + SIDE) * depth <= self.rows.len());
            // SAFETY: the buffers have room for whole tiles and start on cache lines, as does every depth; the caller's
            // promise.
            unsafe {
                amx::transpose(self.raw.as_ptr(), depth, self.rows.as_mut_ptr().add(block * depth));
                if means {
                    assert!(depth * plan.tile.next_multiple_of(DEPTH) <= self.columns.len());
                    for quad in 0..SIDE / 4 {
                        let line = block / 4 + quad;
                        let to = self.columns.as_mut_ptr().add(line * DEPTH);
                        amx::interleave(self.raw.as_ptr().add(4 * quad * depth), depth, to, column);
                    }
                }
            }
        }
    }

    /// Squared distances of the queries `of` to `count` rows of the tile: `d2[b * tile + n]`.
    ///
    /// # Safety
    /// [`amx::available`].
    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    pub unsafe fn distances<S: Isa>(
        &mut self,
        tiles: &Tiles,
        x: &Coded,
        of: Range<usize>,
        norms: impl Fn(usize) -> f64,
        count: usize,
        plan: &Plan,
        d2: &mut [f64],
    ) {
        let depth = x.depth;
        let Self { rows, products, steps, .. } = self;
        let steps = &mut steps[..depth / DEPTH];
        steps.iter_mut().zip(0..).for_each(|(s, i)| *s = i);
        let blocks = count.div_ceil(SIDE);
        let mut norm = [0.0; RIGHT * SIDE];
        let planes = x.planes;
        let of_set = planes.bytes(1, depth);
        let sets = of.start / x.group * x.group.div_ceil(SIDE);
        assert!((sets + of.len().div_ceil(SIDE)) * of_set <= x.codes.len() && blocks * SIDE * depth <= rows.len());
        for block in (0..blocks).step_by(RIGHT) {
            let here = RIGHT.min(blocks - block);
            for (i, norm) in norm[..(count - block * SIDE).min(RIGHT * SIDE)].iter_mut().enumerate() {
                *norm = norms(block * SIDE + i);
            }
            for (i, set) in of.clone().step_by(SIDE).enumerate() {
                let tiles_of_set = x.codes[(sets + i) * of_set..].as_ptr();
                let left = Left { tiles: tiles_of_set, step: planes.step(), count: planes.count, signed: true };
                // SAFETY: blocks and queries are there, by the assertion; a sum of d ≤ 2^16 products of at most 128 · 255 fits
                // 32 bits; the caller's promise.
                unsafe {
                    let right = std::array::from_fn(|r| rows.as_ptr().add((block + r.min(here - 1)) * SIDE * depth));
                    amx::products(tiles, left, right, steps, products);
                }
                for b in set..(set + SIDE).min(of.end) {
                    let One { unit, constant } = x.each[b];
                    for r in 0..here {
                        let product = planes.whole_numbers::<S>(products, b - set, r);
                        let norm = &norm.as_chunks::<SIDE>().0[r];
                        let out = &mut d2[(b - of.start) * plan.tile + (block + r) * SIDE..];
                        if let Some(out) = out.first_chunk_mut::<SIDE>() {
                            for i in 0..SIDE {
                                let v = S::mul_add(-unit, product[i], constant + norm[i]);
                                out[i] = if v > 0.0 { v } else { 0.0 };
                            }
                        }
                    }
                }
            }
        }
    }

    /// Makes the weights of query `b` whole numbers and counts them.
    #[inline(always)]
    pub fn weigh<S: Isa>(&mut self, b: usize, weights: &[f32], plan: &Plan, run: &mut Running) {
        const LANES: usize = 16;
        let mut most = [0.0_f32; LANES];
        let (sixteens, rest) = weights.as_chunks::<LANES>();
        for sixteen in sixteens {
            for l in 0..LANES {
                most[l] = if sixteen[l] > most[l] { sixteen[l] } else { most[l] };
            }
        }
        let most = most.iter().chain(rest).fold(0.0, |a: f32, &v| a.max(v));
        (self.units[b], self.any[b]) = (0.0, 0);
        if most == 0.0 {
            return;
        }
        // 2^(23 - exponent of the largest), which is a normal number, as are the weights.
        let exponent = most.to_bits() >> 23;
        let scale = f32::from_bits((2 * 127 + 23 - exponent) << 23);
        let unit = f64::from(f32::from_bits((exponent - 23) << 23));
        let (mut total, mut lost) = (0_u64, 0.0);
        for (step, weights) in weights.chunks(DEPTH).enumerate() {
            let mut padded = [0.0; DEPTH];
            padded[..weights.len()].copy_from_slice(weights);
            let mut whole = [0_u32; DEPTH];
            let mut sum = 0_u32;
            let mut off = [0.0_f32; DEPTH];
            for i in 0..DEPTH {
                const MOST: f32 = 16_777_215.0;
                let scaled = padded[i] * scale;
                let scaled = if scaled > 0.0 { scaled } else { 0.0 };
                let rounded = if scaled < MOST { scaled.round_ties_even() } else { MOST };
                off[i] = (scaled - rounded).abs();
                // SAFETY: a number from 0 to 2^24 - 1, also where a weight was none.
                whole[i] = unsafe { rounded.to_int_unchecked::<i32>() }.cast_unsigned();
            }
            for half in [32, 16, 8, 4, 2, 1] {
                for i in 0..half {
                    off[i] += off[i + half];
                }
            }
            lost += f64::from(off[0]);
            for w in &whole {
                sum += w;
            }
            for l in 0..PLANES {
                let at = self.planes.at(b, plan.tile, step, l);
                let out = &mut self.weights[at..at + DEPTH];
                for i in 0..DEPTH {
                    #[allow(clippy::cast_possible_truncation)]
                    let byte = (whole[i] >> (8 * l)) as u8;
                    out[i] = byte;
                }
            }
            self.any[b] |= u64::from(sum != 0) << step;
            total += u64::from(sum);
        }
        self.units[b] = unit;
        run.included = S::mul_add(unit, total as f64, run.included);
        run.rounded = S::mul_add(unit, lost, run.rounded);
    }

    /// Adds Σ w u, u being raw rows, to the sums of `queries` queries, `width` numbers apart.
    ///
    /// # Safety
    /// [`amx::available`].
    #[inline(always)]
    pub unsafe fn add_means<S: Isa>(&mut self, tiles: &Tiles, queries: usize, plan: &Plan, vectors: &mut [f64]) {
        let Self { columns, planes, weights, units, any, products, steps, .. } = self;
        let width = vectors.len() / queries;
        let column = plan.tile.next_multiple_of(DEPTH) * SIDE;
        let blocks = plan.stride / SIDE;
        assert!(blocks * column <= columns.len() && weights.len() >= planes.bytes(queries, plan.tile));
        for set in (0..queries).step_by(SIDE) {
            let members = set..(set + SIDE).min(queries);
            let any = any[members.clone()].iter().fold(0, |all, any| all | any);
            // A step without weights adds exactly nothing.
            let mut filled = 0;
            for step in (0..plan.tile.div_ceil(DEPTH) as u32).filter(|step| any >> step & 1 == 1) {
                steps[filled] = step;
                filled += 1;
            }
            let steps = &steps[..filled];
            if steps.is_empty() {
                continue;
            }
            let tiles_of_set = weights[planes.at(set, plan.tile, 0, 0)..].as_ptr();
            let left = Left { tiles: tiles_of_set, step: planes.step(), count: planes.count, signed: false };
            for block in (0..blocks).step_by(RIGHT) {
                let here = RIGHT.min(blocks - block);
                // SAFETY: as in `distances`; sums of at most 256 products of at most 255 · 255.
                unsafe {
                    let right = std::array::from_fn(|r| columns.as_ptr().add((block + r.min(here - 1)) * column));
                    amx::products(tiles, left, right, steps, products);
                }
                for b in members.clone() {
                    let unit = units[b];
                    if unit == 0.0 {
                        continue;
                    }
                    for r in 0..here {
                        let sum = planes.whole_numbers::<S>(products, b - set, r);
                        let out = &mut vectors[b * width + (block + r) * SIDE..];
                        if let Some(out) = out.first_chunk_mut::<SIDE>() {
                            for i in 0..SIDE {
                                out[i] = S::mul_add(unit, sum[i], out[i]);
                            }
                        }
                    }
                }
            }
        }
    }
}
