//! What is prepared of a data set so that a search can leave out rows that it never reads: two lower bounds of distances by
//! codes ([`super::quantized`]), those of a row's coordinates along [`super::directions`], which cost less, and those of all its
//! numbers, which are tighter.
//!
//! Memory: 104 bytes a row and a byte for each of its numbers. Time: `benches/RESULTS.md` has it ("its bounds for small sigma").

use super::InstructionSet;
use super::directions::{BLOCK, DIRECTIONS, Directions};
use super::pool::{Parts, Pool};
use super::quantized::{self, Coded, Quantized};
use super::tile::{Buffer, Plan};
use crate::dataset::Rows;
use crate::error::{Error, Result, try_vec};
use std::sync::atomic::{AtomicBool, Ordering};

/// See the module.
pub struct Bounds {
    stride: usize,
    radius: f64,
    directions: Directions,
    /// The codes of the rows' coordinates.
    pub coarse: Quantized,
    /// The codes of the rows.
    pub fine: Quantized,
}

/// Queries in the forms that the bounds need.
pub struct Prepared {
    /// The codes of their coordinates.
    pub coarse: Coded,
    /// Their codes.
    pub fine: Coded,
    each: Vec<One>,
}

#[derive(Clone, Copy, Default)]
struct One {
    /// |x̃|².
    squared: f64,
    /// By how much the coarse, and by how much the fine bound may be too large.
    slack: [f64; 2],
}

/// The largest score that a row within some distance can have.
#[derive(Clone, Copy)]
pub struct Threshold {
    /// By coarse codes.
    pub coarse: f32,
    /// By fine ones.
    pub fine: f32,
}

impl Prepared {
    /// The largest scores that a row within squared distance `d2` of query `b` can have.
    #[allow(clippy::cast_possible_truncation)]
    #[inline(always)]
    pub fn threshold(&self, b: usize, d2: f64) -> Threshold {
        let One { squared, slack } = self.each[b];
        let of = |slack: f64| ((0.5 * (d2 + slack - squared)) as f32).next_up();
        Threshold { coarse: of(slack[0]), fine: of(slack[1]) }
    }
}

impl Bounds {
    /// The bounds of `rows`, made at once or, where a number of queries is given, when enough have been asked to pay for
    /// them; `None` before, where they would not help, and where the memory limit leaves no room for them. A lack of memory is
    /// an error: whether there are bounds decides about last bits, which must not depend on what else takes memory.
    pub fn of<'a>(
        pool: &Pool,
        isa: InstructionSet,
        rows: &'a Rows,
        queries: Option<usize>,
        limit: Option<u64>,
    ) -> Result<Option<&'a Self>> {
        // Below these the bound costs as much as the distance.
        const LEAST_DIM: usize = 128;
        const LEAST_LEN: usize = 4096;
        const ENOUGH_QUERIES: u64 = 128;
        let (n, d) = (rows.len(), rows.dim());
        // Numbers neither overflow nor underflow in float32.
        if !(LEAST_DIM..=quantized::MOST_DIM).contains(&d) || n < LEAST_LEN || !(1e-12..1e15).contains(&rows.radius()) {
            return Ok(None);
        }
        let asked = queries.map_or(u64::MAX, |n| rows.prepared().ask(n));
        if let Some(ready) = rows.prepared().get() {
            return Ok(Some(ready));
        }
        let kept = quantized::bytes(DIRECTIONS) + quantized::bytes(d);
        let bytes = rows.bytes() + n as u64 * kept as u64;
        if asked < ENOUGH_QUERIES || limit.is_some_and(|limit| bytes > limit) {
            return Ok(None);
        }
        Ok(rows.prepared().keep(Self::new(pool, isa, rows)?))
    }

    #[allow(clippy::cast_possible_truncation)]
    fn new(pool: &Pool, isa: InstructionSet, rows: &Rows) -> Result<Self> {
        const TASK: usize = 64;
        let (n, d) = (rows.len(), rows.dim());
        let plan = Plan::new(n, d);
        let directions = Directions::of(isa, rows, &plan)?;
        let blocks = n.div_ceil(BLOCK);
        let (mut coarse, mut fine) = (Quantized::zeros(blocks, DIRECTIONS)?, Quantized::zeros(blocks, d)?);
        let coarse_parts = (Parts::new(&mut coarse.codes), Parts::new(&mut coarse.numbers));
        let fine_parts = (Parts::new(&mut fine.codes), Parts::new(&mut fine.numbers));
        let failed = AtomicBool::new(false);
        pool.run(blocks.div_ceil(TASK), n * d * DIRECTIONS, |task| {
            let room = || Ok::<_, Error>((Buffer::zeros(BLOCK * plan.stride, "rows")?, Directions::room()?));
            let Ok((mut centred, mut along)) = room() else {
                failed.store(true, Ordering::Relaxed);
                return;
            };
            for block in task * TASK..((task + 1) * TASK).min(blocks) {
                let positions = block * BLOCK..((block + 1) * BLOCK).min(n);
                let mut squared = [0.0; BLOCK];
                let squared = &mut squared[..positions.len()];
                // SAFETY: a task has its own blocks.
                let (coarse, fine) =
                    unsafe { (of_block(&coarse_parts, DIRECTIONS, block), of_block(&fine_parts, d, block)) };
                for (i, (position, squared)) in positions.zip(squared.iter_mut()).enumerate() {
                    let row = &mut centred[i * plan.stride..][..d];
                    rows.decode(position, row);
                    row.iter_mut().zip(rows.mean()).for_each(|(y, m)| *y -= m);
                    *squared = row.iter().map(|y| y * y).sum();
                    Quantized::put(row, 0.0, *squared, i, fine.0, fine.1);
                }
                directions.project(isa, &centred, squared, &mut along, |i, coordinates, rest| {
                    Quantized::put(coordinates, rest, squared[i], i, coarse.0, coarse.1);
                });
                // Rows that are not there are farther than any.
                Quantized::put_nothing(squared.len(), coarse.1);
                Quantized::put_nothing(squared.len(), fine.1);
            }
        })?;
        if failed.into_inner() {
            return Err(Error::no_memory((plan.stride * BLOCK * 8) as u128, "bounds of distances"));
        }
        rows.check()?;
        Ok(Self { stride: plan.stride, radius: rows.radius(), directions, coarse, fine })
    }

    /// Prepares queries that are packed at the data set's stride; `None` if one of them is too far for float32.
    pub fn prepare(&self, isa: InstructionSet, x: &[f64], mean: &[f64]) -> Result<Option<Prepared>> {
        let queries = x.len() / self.stride;
        let mut out = Prepared {
            coarse: self.coarse.coded(queries, isa == InstructionSet::Amx)?,
            fine: self.fine.coded(queries, isa == InstructionSet::Amx)?,
            each: try_vec(queries, One::default(), "one value per query")?,
        };
        let mut centred = Buffer::zeros(BLOCK * self.stride, "coded queries")?;
        let mut along = Directions::room()?;
        for (block, x) in x.chunks(BLOCK * self.stride).enumerate() {
            let first = block * BLOCK;
            let mut squared = [0.0; BLOCK];
            let squared = &mut squared[..x.len() / self.stride];
            for (i, x) in x.chunks_exact(self.stride).enumerate() {
                let to = &mut centred[i * self.stride..(i + 1) * self.stride];
                to.iter_mut().zip(x.iter().zip(mean)).for_each(|(o, (x, m))| *o = x - m);
                squared[i] = to.iter().map(|x| x * x).sum();
                if squared[i] > 1e30 {
                    return Ok(None);
                }
                let reach = squared[i].sqrt() + self.radius;
                let slack = [self.directions.slack() + quantized::SLACK, quantized::SLACK].map(|s| s * reach * reach);
                out.each[first + i] = One { squared: squared[i], slack };
                self.fine.code(&to[..mean.len()], 0.0, first + i, &mut out.fine);
            }
            let coarse = &mut out.coarse;
            self.directions.project(isa, &centred, squared, &mut along, |i, coordinates, rest| {
                self.coarse.code(coordinates, rest, first + i, coarse);
            });
        }
        Ok(Some(out))
    }
}

/// The codes and numbers of a block of rows of `dim` numbers.
///
/// # Safety
/// Nobody else has them.
#[allow(clippy::mut_from_ref)]
unsafe fn of_block((codes, numbers): &(Parts<u8>, Parts<f32>), dim: usize, block: usize) -> (&mut [u8], &mut [f32]) {
    let (of_codes, of_numbers) = Quantized::of_block(dim, block);
    // SAFETY: the caller's promise.
    unsafe { (codes.part(of_codes), numbers.part(of_numbers)) }
}
