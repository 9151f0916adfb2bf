//! What is prepared of a data set so that a search can leave out rows that it never reads: two kinds of lower bounds of
//! distances, of which [`super::projection`] is the cheaper and [`super::quantized`] the tighter one.
//!
//! Memory: 276 bytes a row and a byte for each of its numbers. Time: about that of 300 queries against every row.

use super::InstructionSet;
use super::pool::{Parts, Pool};
use super::projection::{BLOCK, Directions, NUMBERS, Projection};
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
    /// The rows' projections.
    pub projection: Projection,
    /// The rows' codes.
    pub quantized: Quantized,
}

/// Queries in the forms that the bounds need.
pub struct Prepared {
    /// Their projections, times -1: `[queries, NUMBERS]`.
    pub projected: Vec<f32>,
    /// Their codes.
    pub coded: Coded,
    each: Vec<One>,
}

#[derive(Clone, Copy, Default)]
struct One {
    /// |x̃|².
    squared: f64,
    /// By how much a projection's, and by how much a code's bound may be too large.
    slack: [f64; 2],
}

/// The largest score that a row within some distance can have.
#[derive(Clone, Copy)]
pub struct Threshold {
    /// Of a projection.
    pub projected: f32,
    /// Of a code.
    pub quantized: f32,
}

impl Prepared {
    /// The largest scores that a row within squared distance `d2` of query `b` can have.
    #[allow(clippy::cast_possible_truncation)]
    #[inline(always)]
    pub fn threshold(&self, b: usize, d2: f64) -> Threshold {
        let One { squared, slack } = self.each[b];
        let of = |slack: f64| ((0.5 * (d2 + slack - squared)) as f32).next_up();
        Threshold { projected: of(slack[0]), quantized: of(slack[1]) }
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
        let kept = (NUMBERS + 1) * size_of::<f32>() + quantized::bytes(d);
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
        let (mut projection, mut quantized) = (Projection::zeros(blocks)?, Quantized::zeros(blocks, d)?);
        let (numbers, half_norms) = (Parts::new(&mut projection.numbers), Parts::new(&mut projection.half_norms));
        let (codes, code_numbers) = (Parts::new(&mut quantized.codes), Parts::new(&mut quantized.numbers));
        let failed = AtomicBool::new(false);
        pool.run(blocks.div_ceil(TASK), n * d * NUMBERS, |task| {
            let room = || Ok::<_, Error>((Buffer::zeros(BLOCK * plan.stride, "rows")?, Directions::room()?));
            let Ok((mut centred, mut along)) = room() else {
                failed.store(true, Ordering::Relaxed);
                return;
            };
            for block in task * TASK..((task + 1) * TASK).min(blocks) {
                let positions = block * BLOCK..((block + 1) * BLOCK).min(n);
                let mut squared = [0.0; BLOCK];
                let squared = &mut squared[..positions.len()];
                let of_block = Quantized::of_block(d, block);
                // SAFETY: a task has its own blocks.
                let (numbers, half_norms, codes, code_numbers) = unsafe {
                    (
                        numbers.part(block * BLOCK * NUMBERS..(block + 1) * BLOCK * NUMBERS),
                        half_norms.part(block * BLOCK..(block + 1) * BLOCK),
                        codes.part(of_block.0),
                        code_numbers.part(of_block.1),
                    )
                };
                for (i, (position, squared)) in positions.zip(squared.iter_mut()).enumerate() {
                    let row = &mut centred[i * plan.stride..][..d];
                    rows.decode(position, row);
                    row.iter_mut().zip(rows.mean()).for_each(|(y, m)| *y -= m);
                    *squared = row.iter().map(|y| y * y).sum();
                    half_norms[i] = (0.5 * *squared) as f32;
                    Quantized::put(row, *squared, i, codes, code_numbers);
                }
                directions.project(isa, &centred, squared, &mut along, |i, k, c| numbers[k * BLOCK + i] = c);
                // Rows that are not there are farther than any.
                half_norms[squared.len()..].fill(f32::INFINITY);
                Quantized::put_nothing(squared.len(), code_numbers);
            }
        })?;
        if failed.into_inner() {
            return Err(Error::no_memory((plan.stride * BLOCK * 8) as u128, "bounds of distances"));
        }
        rows.check()?;
        Ok(Self { stride: plan.stride, radius: rows.radius(), directions, projection, quantized })
    }

    /// Prepares queries that are packed at the data set's stride; `None` if one of them is too far for float32.
    pub fn prepare(&self, isa: InstructionSet, x: &[f64], mean: &[f64]) -> Result<Option<Prepared>> {
        let queries = x.len() / self.stride;
        let mut out = Prepared {
            projected: try_vec(queries * NUMBERS, 0.0, "projected queries")?,
            coded: self.quantized.coded(queries, isa == InstructionSet::Amx)?,
            each: try_vec(queries, One::default(), "one value per query")?,
        };
        let mut centred = Buffer::zeros(BLOCK * self.stride, "projected queries")?;
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
                let slack = [self.directions.slack(), quantized::SLACK].map(|slack| slack * reach * reach);
                out.each[first + i] = One { squared: squared[i], slack };
                self.quantized.code(&to[..mean.len()], first + i, &mut out.coded);
            }
            let projected = &mut out.projected[first * NUMBERS..];
            self.directions.project(isa, &centred, squared, &mut along, |i, k, c| projected[i * NUMBERS + k] = -c);
        }
        Ok(Some(out))
    }
}
