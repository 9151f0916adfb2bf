//! Projections of the rows on the principal directions of a data set: lower bounds of distances that cost a fraction of a
//! distance.
//!
//! With p_1 … p_q orthonormal and ỹ = y - mean of the data, a row is kept as c(y) = (p_1·ỹ, …, p_q·ỹ, r), where r is
//! the length of what the directions leave of ỹ. Two rests differ by at least the difference of their lengths, so
//! |x - y|² ≥ |c(x) - c(y)|² = |x̃|² + 2 (½|ỹ|² - c(x)·c(y)) for any x and y; the bracket is a row's score. The directions
//! only decide how tight that is: they are principal directions of a sample of the rows, by subspace iteration (Halko,
//! Martinsson and Tropp 2011).
//!
//! Rounding. Let u = 2^-24, a = |x̃|, R the largest |ỹ|, and E the relative error of r², a float64 difference of sums
//! of d terms. A kept c is off by at most (u + √E) |ỹ|, which moves 2 c(x)·c(y) by at most 4 (u + √E) aR ≤
//! (u + √E) (a + R)²; a score is a float32 sum of 65 terms of at most ½R² + 2aR together, so twice it is off by at most
//! 98 u (a + R)². The slack is more than twice the sum, so that the bound holds in the worst case.

use super::tile::{Buffer, Plan, Product, pair_sums};
use super::vector::{Isa, Vector};
use super::{InstructionSet, Kernel};
use crate::dataset::Rows;
use crate::error::Result;
use crate::random::{Purpose, Stream};
use std::ops::Range;

/// Numbers of a projection: those of the directions, and the length of the rest.
pub const NUMBERS: usize = 64;
const DIRECTIONS: usize = NUMBERS - 1;
/// Rows whose projections lie together, element by element.
pub const BLOCK: usize = 16;

/// The principal directions of a sample of the rows.
pub struct Directions {
    /// Elements from one direction to the next.
    stride: usize,
    /// `[DIRECTIONS, stride]`; a direction that the data do not have is zeros.
    directions: Buffer<f64>,
    /// √E.
    rest_error: f64,
}

impl Directions {
    /// Those of `rows`.
    pub fn of(isa: InstructionSet, rows: &Rows, plan: &Plan) -> Result<Self> {
        const SAMPLE: usize = 1024;
        let d = rows.dim();
        let mut directions = Buffer::zeros(DIRECTIONS * plan.stride, "principal directions")?;
        isa.run(Iterate {
            rows,
            plan,
            sample: rows.len().min(SAMPLE),
            directions: &mut directions,
            next: &mut Buffer::zeros(DIRECTIONS * plan.stride, "principal directions")?,
            tile: &mut Buffer::zeros(plan.tile * plan.stride, "rows")?,
            along: &mut Buffer::zeros(DIRECTIONS * plan.tile, "coordinates")?,
        });
        let defect = defect(&directions, plan.stride);
        // The worst case of |ỹ|² - Σ (p·ỹ)² with DIRECTIONS products of d terms.
        let rest_error = (20.0 * d as f64 * f64::EPSILON + 2.0 * defect).sqrt();
        Ok(Self { stride: plan.stride, directions, rest_error })
    }

    /// Room for [`Directions::project`].
    pub fn room() -> Result<Buffer<f64>> {
        Buffer::zeros(DIRECTIONS * BLOCK, "coordinates")
    }

    /// The numbers of up to [`BLOCK`] centred rows with these squared lengths: `put(i, k, number k of row i)`.
    #[allow(clippy::cast_possible_truncation)]
    pub fn project(
        &self,
        isa: InstructionSet,
        centred: &[f64],
        squared_norms: &[f64],
        along: &mut [f64],
        mut put: impl FnMut(usize, usize, f32),
    ) {
        isa.run(Along { directions: self, centred, count: squared_norms.len(), out: along });
        for (i, &squared) in squared_norms.iter().enumerate() {
            let mut rest = squared;
            for k in 0..DIRECTIONS {
                let c = along[k * BLOCK + i];
                rest -= c * c;
                put(i, k, c as f32);
            }
            put(i, DIRECTIONS, rest.max(0.0).sqrt() as f32);
        }
    }

    /// How much twice a score may be off, as a share of (|x̃| + R)².
    pub fn slack(&self) -> f64 {
        2.0 * (100.0 * f64::from(f32::EPSILON) / 2.0 + 2.0 * self.rest_error)
    }
}

/// The numbers of all rows.
pub struct Projection {
    /// `[block][NUMBERS][BLOCK]`.
    pub numbers: Buffer<f32>,
    /// ½|ỹ|².
    pub half_norms: Buffer<f32>,
}

impl Projection {
    /// Room for `blocks` blocks.
    pub fn zeros(blocks: usize) -> Result<Self> {
        Ok(Self {
            numbers: Buffer::zeros(blocks * BLOCK * NUMBERS, "projections")?,
            half_norms: Buffer::zeros(blocks * BLOCK, "projections")?,
        })
    }

    /// The scores `out[b * blocks.len() * BLOCK + n]` of the rows of `blocks` for queries, `x` being their numbers times -1.
    ///
    /// # Safety
    /// See [`super::vector`].
    #[inline(always)]
    pub unsafe fn scores<S: Isa>(&self, x: &[f32], blocks: Range<usize>, out: &mut [f32]) {
        let queries = x.len() / NUMBERS;
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
                self.numbers.as_ptr().add((blocks.start + row / BLOCK) * BLOCK * NUMBERS + row % BLOCK)
            });
            let norms = self.half_norms.as_ptr().add(blocks.start * BLOCK + first * V::LANES);
            let start: [V; YS] = std::array::from_fn(|j| V::load(norms.add(j * V::LANES)));
            let mut sums = [start; XS];
            let xs: [*const f32; XS] = std::array::from_fn(|i| x.as_ptr().add((b + i) * NUMBERS));
            for k in 0..NUMBERS {
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

/// Products of rows with the directions: `out[k * BLOCK + i]`.
struct Along<'a> {
    directions: &'a Directions,
    centred: &'a [f64],
    count: usize,
    out: &'a mut [f64],
}

impl Kernel for Along<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Isa>(self) {
        let Directions { stride, ref directions, .. } = *self.directions;
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
