//! The principal directions of a data set: what they keep of a row bounds distances at a fraction of their cost.
//!
//! With p_1 … p_q orthonormal and ỹ = y - mean of the data, c(y) = (p_1·ỹ, …, p_q·ỹ) are a row's coordinates and r(y) is
//! the length of what the directions leave of ỹ. Two rests have a product of at most that of their lengths, so x̃·ỹ ≤
//! c(x)·c(y) + r(x) r(y) for any x and y, whatever the directions. They only decide how tight that is: they are principal
//! directions of a sample of the rows, by subspace iteration (Halko, Martinsson and Tropp 2011).
//!
//! Rounding. Let u = 2^-24, a = |x̃|, R the largest |ỹ|, and E the relative error of r², a float64 difference of sums
//! of d terms. A rest, in float32, is off by at most (u + √E) |ỹ|, and coordinates by less, which moves twice the product by at
//! most 4 (u + √E) aR ≤ (u + √E) (a + R)². The slack is more than twice that.

use super::tile::{Buffer, Plan, Product, pair_sums};
use super::vector::Isa;
use super::{InstructionSet, Kernel};
use crate::dataset::Rows;
use crate::error::Result;
use crate::random::{Purpose, Stream};

/// How many directions.
pub const DIRECTIONS: usize = 64;
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

    /// Projects up to [`BLOCK`] centred rows with these squared lengths: `put(i, c, r)` for row i.
    pub fn project(
        &self,
        isa: InstructionSet,
        centred: &[f64],
        squared_norms: &[f64],
        along: &mut [f64],
        mut put: impl FnMut(usize, &[f64; DIRECTIONS], f64),
    ) {
        isa.run(Along { directions: self, centred, count: squared_norms.len(), out: along });
        for (i, &squared) in squared_norms.iter().enumerate() {
            let coordinates = std::array::from_fn(|k| along[k * BLOCK + i]);
            let rest = squared - coordinates.iter().map(|c| c * c).sum::<f64>();
            put(i, &coordinates, rest.max(0.0).sqrt());
        }
    }

    /// How much twice a score may be off, as a share of (|x̃| + R)².
    pub fn slack(&self) -> f64 {
        2.0 * (f64::from(f32::EPSILON) + 2.0 * self.rest_error)
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
