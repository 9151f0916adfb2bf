//! Projections of the rows on the principal directions of a data set: lower bounds of distances, by which a search leaves
//! out rows that it never reads.
//!
//! With p_1 … p_q orthonormal and ỹ = y - mean of the data, a row is kept as c(y) = (p_1·ỹ, …, p_q·ỹ, r), where r is
//! the length of what the directions leave of ỹ. Two rests differ by at least the difference of their lengths, so
//! |x - y|² ≥ |c(x) - c(y)|² = |x̃|² + 2 (½|ỹ|² - c(x)·c(y)) for any x and y; the bracket is a row's score. There are two of
//! them: a coarse one for every row, and a finer one, with more directions, for the blocks of rows that it leaves. The
//! directions only decide how tight that is: they are principal directions of a sample of the rows, by subspace iteration
//! (Halko, Martinsson and Tropp 2011).
//!
//! Rounding. Let u = 2^-24, a = |x̃|, R the largest |ỹ|, and E the relative error of r², a float64 difference of sums
//! of d terms. A kept c is off by at most (u + √E) |ỹ|, which moves 2 c(x)·c(y) by at most 4 (u + √E) aR ≤
//! (u + √E) (a + R)²; a score is a float32 sum of 131 terms of at most ½R² + 2aR together, so twice it is off by at most
//! 197 u (a + R)². The slack is twice the sum, so that the bound holds in the worst case.
//!
//! Memory: 524 bytes a row. Time: about that of 200 queries against every row.

use super::pool::{Parts, Pool};
use super::tile::{Buffer, Plan, Product, pair_sums};
use super::vector::{Isa, Vector};
use super::{InstructionSet, Kernel};
use crate::dataset::Rows;
use crate::error::Result;
use crate::random::{Purpose, Stream};
use std::ops::Range;

/// Numbers of a coarse bound: those of the first directions, and the length of the rest.
pub const COARSE: usize = 64;
/// Numbers that a fine bound adds: those of more directions, the length of their rest, and the coarse rest, which is taken
/// back.
pub const FINE: usize = 66;
const FIRST: usize = COARSE - 1;
const DIRECTIONS: usize = FIRST + FINE - 2;
/// Rows whose projections lie together, element by element.
pub const BLOCK: usize = 16;

/// See the module.
pub struct Projection {
    /// Elements from one direction to the next.
    stride: usize,
    /// `[DIRECTIONS, stride]`; a direction that the data do not have is zeros.
    directions: Buffer<f64>,
    /// `[block][COARSE][BLOCK]`.
    coarse: Buffer<f32>,
    /// `[block][FINE][BLOCK]`.
    fine: Buffer<f32>,
    /// ½|ỹ|².
    half_norms: Buffer<f32>,
    radius: f64,
    /// √E.
    rest_error: f64,
}

/// Queries, projected.
pub struct Projected {
    /// What a row's coarse numbers are multiplied by, -c(x): `[queries, COARSE]`.
    pub coarse: Buffer<f32>,
    /// What its fine numbers are multiplied by: `[queries, FINE]`.
    pub fine: Buffer<f32>,
    /// |x̃|².
    squared_norms: Vec<f64>,
    slack: Vec<f64>,
}

impl Projected {
    /// The largest score that a row within squared distance `d2` of query `b` can have.
    #[allow(clippy::cast_possible_truncation)]
    pub fn threshold(&self, b: usize, d2: f64) -> f32 {
        ((0.5 * (d2 + self.slack[b] - self.squared_norms[b])) as f32).next_up()
    }
}

impl Projection {
    /// The projection of `rows`, made at once or, where a number of queries is given, when enough have been asked to pay
    /// for it; `None` before, where it would not help, and where there is no memory for it.
    pub fn of<'a>(
        pool: &Pool,
        isa: InstructionSet,
        rows: &'a Rows,
        queries: Option<usize>,
        limit: Option<u64>,
    ) -> Option<&'a Self> {
        // Below these the bound costs as much as the distance.
        const LEAST_DIM: usize = 128;
        const LEAST_LEN: usize = 4096;
        const ENOUGH_QUERIES: u64 = 128;
        let (n, d) = (rows.len(), rows.dim());
        // Coordinates neither overflow nor underflow in float32.
        if d < LEAST_DIM || n < LEAST_LEN || !(1e-12..1e15).contains(&rows.radius()) {
            return None;
        }
        let asked = queries.map_or(u64::MAX, |n| rows.prepared().ask(n));
        if let Some(ready) = rows.prepared().get() {
            return Some(ready);
        }
        let bytes = n as u64 * (d as u64 * rows.dtype().size() as u64 + ((COARSE + FINE + 1) as u64 * 4));
        if asked < ENOUGH_QUERIES || limit.is_some_and(|limit| bytes > limit) {
            return None;
        }
        rows.prepared().keep(Self::new(pool, isa, rows).ok()?)
    }

    fn new(pool: &Pool, isa: InstructionSet, rows: &Rows) -> Result<Self> {
        const SAMPLE: usize = 1024;
        let (n, d) = (rows.len(), rows.dim());
        let plan = Plan::new(n, d);
        let sample = n.min(SAMPLE);
        let mut directions = Buffer::zeros(DIRECTIONS * plan.stride, "principal directions")?;
        isa.run(Iterate {
            rows,
            plan: &plan,
            sample,
            directions: &mut directions,
            next: &mut Buffer::zeros(DIRECTIONS * plan.stride, "principal directions")?,
            tile: &mut Buffer::zeros(plan.tile * plan.stride, "rows")?,
            along: &mut Buffer::zeros(DIRECTIONS * plan.tile, "coordinates")?,
        });
        let defect = defect(&directions, plan.stride);
        let blocks = n.div_ceil(BLOCK);
        let mut it = Self {
            stride: plan.stride,
            directions,
            coarse: Buffer::zeros(blocks * BLOCK * COARSE, "projections")?,
            fine: Buffer::zeros(blocks * BLOCK * FINE, "projections")?,
            half_norms: Buffer::zeros(blocks * BLOCK, "projections")?,
            radius: rows.radius(),
            // The worst case of |ỹ|² - Σ (p·ỹ)² with DIRECTIONS products of d terms.
            rest_error: (20.0 * d as f64 * f64::EPSILON + 2.0 * defect).sqrt(),
        };
        const TASK: usize = 64;
        let tasks = blocks.div_ceil(TASK);
        let mut kept = [&mut it.coarse, &mut it.fine, &mut it.half_norms].map(|buffer| {
            std::mem::replace(buffer, Buffer::zeros(0, "").unwrap_or_else(|_| unreachable!("no memory needed")))
        });
        let [coarse, fine, half_norms] = kept.each_mut().map(|buffer| Parts::new(buffer));
        let failed = std::sync::atomic::AtomicBool::new(false);
        pool.run(tasks, n * d * DIRECTIONS, |task| {
            let block_range = task * TASK..((task + 1) * TASK).min(blocks);
            let scratch =
                || Ok((Buffer::zeros(BLOCK * plan.stride, "rows")?, Buffer::zeros(DIRECTIONS * BLOCK, "rows")?));
            let Ok::<_, crate::error::Error>((mut tile, mut along)) = scratch() else {
                failed.store(true, std::sync::atomic::Ordering::Relaxed);
                return;
            };
            for block in block_range {
                let positions = block * BLOCK..((block + 1) * BLOCK).min(n);
                let count = positions.len();
                for (i, position) in positions.enumerate() {
                    let row = &mut tile[i * plan.stride..][..d];
                    rows.decode(position, row);
                    row.iter_mut().zip(rows.mean()).for_each(|(y, m)| *y -= m);
                }
                isa.run(Along { projection: &it, centred: &tile, count, out: &mut along });
                // SAFETY: a task has its own blocks.
                let (coarse, fine, half_norms) = unsafe {
                    (
                        coarse.part(block * BLOCK * COARSE..(block + 1) * BLOCK * COARSE),
                        fine.part(block * BLOCK * FINE..(block + 1) * BLOCK * FINE),
                        half_norms.part(block * BLOCK..(block + 1) * BLOCK),
                    )
                };
                for i in 0..count {
                    let squared = tile[i * plan.stride..][..d].iter().map(|y| y * y).sum();
                    half_norms[i] = (0.5 * squared) as f32;
                    let (c, f) = coordinates(&along, i, squared);
                    c.iter().enumerate().for_each(|(k, &c)| coarse[k * BLOCK + i] = c);
                    f.iter().enumerate().for_each(|(k, &f)| fine[k * BLOCK + i] = f);
                }
                // Rows that are not there are farther than any.
                half_norms[count..].fill(f32::INFINITY);
            }
        })?;
        if failed.into_inner() {
            return Err(crate::error::Error::no_memory((plan.stride * BLOCK * 8) as u128, "projections"));
        }
        [it.coarse, it.fine, it.half_norms] = kept;
        Ok(it)
    }

    /// Projects queries that are packed at the data set's stride; `None` if one of them is too far for float32.
    pub fn project(&self, isa: InstructionSet, x: &[f64], mean: &[f64]) -> Result<Option<Projected>> {
        let queries = x.len() / self.stride;
        let mut out = Projected {
            coarse: Buffer::zeros(queries * COARSE, "projected queries")?,
            fine: Buffer::zeros(queries * FINE, "projected queries")?,
            squared_norms: Vec::with_capacity(queries),
            slack: Vec::with_capacity(queries),
        };
        let mut centred = Buffer::zeros(BLOCK * self.stride, "projected queries")?;
        let mut along = Buffer::zeros(DIRECTIONS * BLOCK, "projected queries")?;
        let slack = 2.0 * (200.0 * f64::from(f32::EPSILON) / 2.0 + 2.0 * self.rest_error);
        for (block, x) in x.chunks(BLOCK * self.stride).enumerate() {
            let count = x.len() / self.stride;
            for (to, x) in centred.chunks_exact_mut(self.stride).zip(x.chunks_exact(self.stride)) {
                to.iter_mut().zip(x.iter().zip(mean)).for_each(|(o, (x, m))| *o = x - m);
            }
            isa.run(Along { projection: self, centred: &centred, count, out: &mut along });
            for i in 0..count {
                let squared: f64 = centred[i * self.stride..(i + 1) * self.stride].iter().map(|x| x * x).sum();
                if squared > 1e30 {
                    return Ok(None);
                }
                let (c, f) = coordinates(&along, i, squared);
                let reach = squared.sqrt() + self.radius;
                out.squared_norms.push(squared);
                out.slack.push(slack * reach * reach);
                let b = block * BLOCK + i;
                out.coarse[b * COARSE..(b + 1) * COARSE].iter_mut().zip(c).for_each(|(o, c)| *o = -c);
                out.fine[b * FINE..(b + 1) * FINE].iter_mut().zip(f).for_each(|(o, f)| *o = -f);
                out.fine[(b + 1) * FINE - 1] = f[FINE - 1];
            }
        }
        Ok(Some(out))
    }

    /// The coarse scores `out[b * blocks.len() * BLOCK + n]` of the rows of `blocks` for the queries whose numbers are `x`.
    ///
    /// # Safety
    /// See [`super::vector`].
    #[inline(always)]
    pub unsafe fn scores<S: Isa>(&self, x: &[f32], blocks: Range<usize>, out: &mut [f32]) {
        let queries = x.len() / COARSE;
        assert!(blocks.end * BLOCK <= self.half_norms.len() && out.len() >= queries * blocks.len() * BLOCK);
        let mut b = 0;
        while b < queries {
            // SAFETY: b + the queries taken stay below `queries`; the instruction set is the caller's promise.
            unsafe {
                if S::Single::REGISTERS >= 32 && b + 8 <= queries {
                    self.against::<S::Single, 8>(x, b, blocks.clone(), out);
                    b += 8;
                } else if b + 4 <= queries {
                    self.against::<S::Single, 4>(x, b, blocks.clone(), out);
                    b += 4;
                } else {
                    self.against::<S::Single, 1>(x, b, blocks.clone(), out);
                    b += 1;
                }
            }
        }
    }

    /// The fine scores of one block for the query whose numbers are `x`, from the coarse ones.
    ///
    /// # Safety
    /// See [`super::vector`].
    #[inline(always)]
    pub unsafe fn refine<S: Isa>(&self, x: &[f32], block: usize, scores: &mut [f32]) {
        assert!((block + 1) * BLOCK * FINE <= self.fine.len() && x.len() == FINE && scores.len() == BLOCK);
        // SAFETY: the block and its scores are there; the instruction set is the caller's promise.
        unsafe {
            // Chains of sums of their own, so that one need not wait for another.
            const CHAINS: usize = 6;
            let y = self.fine.as_ptr().add(block * BLOCK * FINE);
            for at in (0..BLOCK).step_by(S::Single::LANES) {
                let mut sums = [S::Single::splat(0.0); CHAINS];
                sums[0] = S::Single::load(scores.as_ptr().add(at));
                for k in (0..FINE).step_by(CHAINS) {
                    for (c, sum) in sums.iter_mut().enumerate() {
                        let y = S::Single::load(y.add((k + c) * BLOCK + at));
                        *sum = S::Single::splat(x[k + c]).mul_add(y, *sum);
                    }
                }
                let one = S::Single::splat(1.0);
                let sum = sums[1..].iter().fold(sums[0], |total, sum| one.mul_add(*sum, total));
                sum.store(scores.as_mut_ptr().add(at));
            }
        }
    }

    #[inline(always)]
    unsafe fn against<V: Vector<Element = f32>, const XS: usize>(
        &self,
        x: &[f32],
        b: usize,
        blocks: Range<usize>,
        out: &mut [f32],
    ) {
        let registers = blocks.len() * BLOCK / V::LANES;
        // SAFETY: `scores` checked that the blocks and the queries are there.
        unsafe {
            for j in (0..registers).step_by(2) {
                if j + 2 <= registers {
                    self.registers::<V, XS, 2>(x, b, &blocks, j, out);
                } else {
                    self.registers::<V, XS, 1>(x, b, &blocks, j, out);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn registers<V: Vector<Element = f32>, const XS: usize, const YS: usize>(
        &self,
        x: &[f32],
        b: usize,
        blocks: &Range<usize>,
        first: usize,
        out: &mut [f32],
    ) {
        let rows = blocks.len() * BLOCK;
        // SAFETY: the caller checked the bounds; the instruction set is its promise.
        unsafe {
            let ys: [*const f32; YS] = std::array::from_fn(|j| {
                let row = (first + j) * V::LANES;
                self.coarse.as_ptr().add((blocks.start + row / BLOCK) * BLOCK * COARSE + row % BLOCK)
            });
            let norms = self.half_norms.as_ptr().add(blocks.start * BLOCK + first * V::LANES);
            let start: [V; YS] = std::array::from_fn(|j| V::load(norms.add(j * V::LANES)));
            let mut sums = [start; XS];
            let xs: [*const f32; XS] = std::array::from_fn(|i| x.as_ptr().add((b + i) * COARSE));
            for k in 0..COARSE {
                let y: [V; YS] = std::array::from_fn(|j| V::load(ys[j].add(k * BLOCK)));
                for i in 0..XS {
                    let c = V::splat(*xs[i].add(k));
                    for j in 0..YS {
                        sums[i][j] = c.mul_add(y[j], sums[i][j]);
                    }
                }
            }
            for (i, sums) in sums.iter().enumerate() {
                for (j, sum) in sums.iter().enumerate() {
                    sum.store(out.as_mut_ptr().add((b + i) * rows + (first + j) * V::LANES));
                }
            }
        }
    }
}

/// The coarse and fine numbers of row `i` of a block, from its products with the directions and its squared length.
#[allow(clippy::cast_possible_truncation)]
fn coordinates(along: &[f64], i: usize, squared: f64) -> ([f32; COARSE], [f32; FINE]) {
    let c = |k: usize| along[k * BLOCK + i];
    let rest = |from: f64, ks: Range<usize>| ks.fold(from, |rest, k| rest - c(k) * c(k));
    let after_first = rest(squared, 0..FIRST);
    let after_all = rest(after_first, FIRST..DIRECTIONS);
    let [after_first, after_all] = [after_first, after_all].map(|r| r.max(0.0).sqrt() as f32);
    (
        std::array::from_fn(|k| if k < FIRST { c(k) as f32 } else { after_first }),
        std::array::from_fn(|k| match k + FIRST {
            k if k < DIRECTIONS => c(k) as f32,
            DIRECTIONS => after_all,
            _ => after_first,
        }),
    )
}

/// Products of rows with the directions: `out[k * BLOCK + i]`.
struct Along<'a> {
    projection: &'a Projection,
    centred: &'a [f64],
    count: usize,
    out: &'a mut [f64],
}

impl Kernel for Along<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Isa>(self) {
        let Projection { stride, ref directions, .. } = *self.projection;
        let plan = Plan { stride, tile: BLOCK, chunk: BLOCK, len: BLOCK };
        // SAFETY: the instruction set is this function's own precondition.
        unsafe { pair_sums::<S::Double, Product>(directions, 0..DIRECTIONS, self.centred, self.count, &plan, self.out) }
    }
}

/// Subspace iteration on evenly spaced rows.
struct Iterate<'a> {
    rows: &'a Rows,
    plan: &'a Plan,
    sample: usize,
    directions: &'a mut [f64],
    next: &'a mut [f64],
    tile: &'a mut [f64],
    along: &'a mut [f64],
}

impl Kernel for Iterate<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Isa>(self) {
        const ROUNDS: usize = 3;
        let Plan { stride, tile, .. } = *self.plan;
        let d = self.rows.dim();
        let noise = Stream { seed: 0, purpose: Purpose::Prior, step: 0 };
        for (direction, k) in self.directions.chunks_exact_mut(stride).zip(0..) {
            noise.fill_normal(k, &mut direction[..d]);
        }
        orthonormalize(self.directions, stride);
        for _ in 0..ROUNDS {
            self.next.fill(0.0);
            for first in (0..self.sample).step_by(tile) {
                let count = tile.min(self.sample - first);
                for i in 0..count {
                    let row = &mut self.tile[i * stride..][..d];
                    self.rows.decode((first + i) * self.rows.len() / self.sample, row);
                    row.iter_mut().zip(self.rows.mean()).for_each(|(y, m)| *y -= m);
                }
                // SAFETY: the instruction set is this function's own precondition.
                unsafe {
                    let x = &*self.directions;
                    pair_sums::<S::Double, Product>(x, 0..DIRECTIONS, self.tile, count, self.plan, self.along);
                }
                for (k, next) in self.next.chunks_exact_mut(stride).enumerate() {
                    for (row, &along) in self.tile.chunks_exact(stride).zip(&self.along[k * tile..k * tile + count]) {
                        next.iter_mut().zip(row).for_each(|(n, y)| *n = S::mul_add(along, *y, *n));
                    }
                }
            }
            self.directions.copy_from_slice(self.next);
            orthonormalize(self.directions, stride);
        }
    }
}

/// Gram-Schmidt, twice for each row, which is enough (Giraud et al. 2005); a row that depends on the others becomes 0.
fn orthonormalize(rows: &mut [f64], stride: usize) {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    for k in 0..rows.len() / stride {
        let (before, rest) = rows.split_at_mut(k * stride);
        let row = &mut rest[..stride];
        let mut length = dot(row, row).sqrt();
        let mut kept = 1.0;
        for _ in 0..2 {
            if length > 0.0 && length.is_finite() {
                row.iter_mut().for_each(|v| *v /= length);
            }
            for other in before.chunks_exact(stride) {
                let along = dot(row, other);
                row.iter_mut().zip(other).for_each(|(v, o)| *v -= along * o);
            }
            length = dot(row, row).sqrt();
            kept = length;
        }
        // The second round of a row that is independent changes next to nothing.
        if kept > 0.5 && kept < 2.0 {
            row.iter_mut().for_each(|v| *v /= length);
        } else {
            row.fill(0.0);
        }
    }
}

/// How far the rows are from orthonormal (zero rows apart): the Frobenius norm of their Gram matrix less the identity.
fn defect(rows: &[f64], stride: usize) -> f64 {
    let mut sum = 0.0;
    for (i, a) in rows.chunks_exact(stride).enumerate() {
        for (j, b) in rows.chunks_exact(stride).enumerate().take(i + 1) {
            let dot: f64 = a.iter().zip(b).map(|(a, b)| a * b).sum();
            let expected = if i == j && dot > 0.0 { 1.0 } else { 0.0 };
            sum += if i == j { 1.0 } else { 2.0 } * (dot - expected) * (dot - expected);
        }
    }
    sum.sqrt()
}
