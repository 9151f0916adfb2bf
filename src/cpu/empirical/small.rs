//! Small dimensions, where a weight costs more than a distance: queries in the lanes of a register, rows one by one.
//!
//! Two sweeps over the rows: the nearest row b, then Σ w (y - b) and what else is wanted, with w = exp(-h (|x - y|² -
//! best)) and every difference exact. All is formed about b, so that nothing cancels, near the data or far from it: with
//! u = Σ w (y - b) / Z, ȳ = b + u and ȳ - x = (b - x) + u.
//!
//! A step in float32 is first answered in float32 ([`step`]); a query where that could show is answered again, with others
//! of its kind.
//!
//! Every sum runs over a chunk's rows in index order, then over the chunks, which depend on the number of rows alone.
//!
//! [`sweep`] and [`step`] have the kernels, which read the rows as [`wide`] has them; here the work is dealt out, and
//! [`outputs`] has what is written.
//!
//! Memory: the rows in float64 and in pairs of float32, kept with the data set; per wave of queries, where there are several
//! chunks, 8 (2d + 5) bytes for each query and chunk.

mod outputs;
mod step;
mod sweep;
mod wide;

use super::super::InstructionSet;
use super::super::pool::{Parts, Pool};
use super::super::tile::{Plan, row_index};
use super::Results;
use crate::engine::{Grade, Moments, Query};
use crate::error::{Result, try_vec};
use crate::exec::Exec;
use std::ops::Range;
use sweep::{BLOCK, Block, Divide, Lanes, MEAN, NEAREST, Nearest, PRODUCT, SCALARS, SMALLEST, Sums, Sweep};
use wide::Wide;

/// The largest dimension answered here.
pub const MOST_DIM: usize = 16;

/// Answers the queries if they are of a small dimension; says whether it did.
#[allow(clippy::too_many_arguments)]
pub fn run(
    pool: &Pool,
    isa: InstructionSet,
    limit: Option<u64>,
    query: &Query<'_>,
    wanted: bool,
    cut: f64,
    out: &mut Moments<'_>,
    exec: &Exec<'_>,
) -> Result<bool> {
    let width = match query.rows.dim() {
        d @ 1..=4 => d,
        5..=8 => 8,
        9..=MOST_DIM => MOST_DIM,
        _ => return Ok(false),
    };
    let Some(Wide { rows, pairs }) = Wide::of(query.rows, width, limit)? else { return Ok(false) };
    let plan = Plan::new(query.subset.map_or(query.rows.len(), <[u32]>::len), width);
    let scalars =
        out.log_sum.is_some() || out.entropy.is_some() || out.covariance_trace.is_some() || out.log_sum_error.is_some();
    let kind = match query.tangent {
        Some(_) => PRODUCT,
        None if !wanted && !scalars => NEAREST,
        None if query.step => MEAN,
        // The same arithmetic whatever else is wanted, error bounds among it.
        None => SCALARS,
    };
    let batch = query.x.rows();
    let results = Results::new(out, exec.trail, query.rows.dim());
    let pass = Pass { isa, query, rows, pairs, plan: &plan, kind, cut, results: &results };
    match width {
        1 => pass.run::<1>(pool, exec),
        2 => pass.run::<2>(pool, exec),
        3 => pass.run::<3>(pool, exec),
        4 => pass.run::<4>(pool, exec),
        8 => pass.run::<8>(pool, exec),
        _ => pass.run::<MOST_DIM>(pool, exec),
    }?;
    exec.report(batch as u64, batch as u64)?;
    Ok(true)
}

/// What all blocks share.
struct Pass<'a> {
    isa: InstructionSet,
    query: &'a Query<'a>,
    rows: &'a [f64],
    pairs: &'a [f32],
    plan: &'a Plan,
    kind: u8,
    cut: f64,
    results: &'a Results<'a>,
}

/// Queries in a wave of which each takes some pairs of a query and a row: between two looks at the caller's wishes, some
/// hundredths of a second.
fn wave(pairs: usize) -> usize {
    const WAVE_PAIRS: usize = 1 << 26;
    const LEAST_WAVE: usize = 64;
    const MOST_WAVE: usize = 1 << 13;
    (WAVE_PAIRS / (pairs * BLOCK)).clamp(LEAST_WAVE, MOST_WAVE)
}

/// Blocks that one task answers at most; its queries in doubt are answered together.
const MOST_TASK: usize = 32;

/// Blocks that one task answers: few enough that each thread has some.
fn task_size(pool: &Pool, blocks: usize) -> usize {
    if pool.threads() == 1 { MOST_TASK } else { (blocks / (2 * pool.threads())).clamp(1, MOST_TASK) }
}

impl Pass<'_> {
    /// Answers all queries.
    fn run<const D: usize>(&self, pool: &Pool, exec: &Exec<'_>) -> Result<()> {
        match (self.kind, self.query.grade) {
            (MEAN, Grade::Single) if self.results.mean.is_some() => self.steps::<D, true>(pool, exec),
            (MEAN, Grade::Single) => self.steps::<D, false>(pool, exec),
            _ => self.sweeps::<D>(pool, exec),
        }
    }

    /// Answers all queries in float64.
    fn sweeps<const D: usize>(&self, pool: &Pool, exec: &Exec<'_>) -> Result<()> {
        let (batch, chunks) = (self.query.x.rows(), self.plan.chunks());
        let (blocks, wave) = (batch.div_ceil(BLOCK), wave(self.plan.len));
        let kept = if chunks == 1 { 0 } else { wave.min(blocks) * chunks };
        let mut nearest = try_vec(kept, Nearest::START, "nearest rows of chunks")?;
        let mut sums = try_vec(kept, Sums::<D>::START, "chunk results")?;
        for first in (0..blocks).step_by(wave) {
            exec.report((first * BLOCK) as u64, batch as u64)?;
            let stop = exec.stop(self.query.rows);
            let count = wave.min(blocks - first);
            // A pair costs about a nanosecond per eight numbers and as much as ten numbers for its weight.
            let work = (count * BLOCK).min(batch) * self.plan.len * (D + 10) / 8;
            if chunks == 1 {
                let size = task_size(pool, blocks);
                pool.run(count.div_ceil(size), work, |task| {
                    let mut block = Block::<D>::START;
                    for i in first + task * size..first + ((task + 1) * size).min(count) {
                        if stop.now() {
                            return;
                        }
                        self.load(self.block(i), &mut block);
                        // SAFETY: one task per block, whose outputs are its own.
                        unsafe { self.answer(&mut block) };
                    }
                })?;
                stop.check()?;
                continue;
            }
            let (near, chunk_sums) = (Parts::new(&mut nearest), Parts::new(&mut sums));
            pool.run(count * chunks, work / 3, |task| {
                if !stop.now() {
                    let mut block = Block::<D>::START;
                    self.load(self.block(first + task / chunks), &mut block);
                    self.find(task % chunks, &mut block);
                    // SAFETY: each task has its own part, which outlives `run`.
                    unsafe { near.part(task..task + 1)[0] = block.nearest };
                }
            })?;
            stop.check()?;
            for chunks in nearest.chunks_exact_mut(chunks).take(count) {
                let (all, others) = chunks.split_at_mut(1);
                others.iter().for_each(|other| all[0].absorb(other));
            }
            let with_nearest = |i: usize, block: &mut Block<D>| {
                self.load(self.block(first + i), block);
                block.nearest = nearest[i * chunks];
                self.look_around(block);
            };
            pool.run(count * chunks, work, |task| {
                if !stop.now() {
                    let mut block = Block::START;
                    with_nearest(task / chunks, &mut block);
                    self.add(task % chunks, &mut block);
                    // SAFETY: as above.
                    unsafe { chunk_sums.part(task..task + 1)[0] = block.sums };
                }
            })?;
            stop.check()?;
            pool.run(count, count * chunks * BLOCK * D, |i| {
                let mut block = Block::START;
                with_nearest(i, &mut block);
                // SAFETY: the chunk results of a block are its task's own, and so are its outputs.
                unsafe {
                    for sums in chunk_sums.part(i * chunks..(i + 1) * chunks) {
                        block.sums.absorb(sums);
                    }
                    self.finish(&mut block);
                }
            })?;
        }
        Ok(())
    }

    /// Answers all queries in float32, and in float64 those where that could show.
    fn steps<const D: usize, const FAR: bool>(&self, pool: &Pool, exec: &Exec<'_>) -> Result<()> {
        let (batch, chunks) = (self.query.x.rows(), self.plan.chunks());
        let (blocks, wave) = (batch.div_ceil(BLOCK), wave(self.plan.len));
        let size = task_size(pool, blocks);
        let kept = if chunks == 1 { 0 } else { wave.min(blocks) * chunks };
        let mut sums = try_vec(kept, step::Sums::<D>::START, "chunk results")?;
        for first in (0..blocks).step_by(wave) {
            exec.report((first * BLOCK) as u64, batch as u64)?;
            let stop = exec.stop(self.query.rows);
            let count = wave.min(blocks - first);
            // A pair costs about a nanosecond per sixteen numbers and as much as ten numbers for its weight.
            let work = (count * BLOCK).min(batch) * self.plan.len * (D + 10) / 16;
            let chunk_sums = Parts::new(&mut sums);
            if chunks > 1 {
                pool.run(count * chunks, work, |task| {
                    if !stop.now() {
                        let mut block = step::Block::<D>::START;
                        self.load_step(self.block(first + task / chunks), &mut block);
                        self.add_step::<D, FAR>(task % chunks, &mut block);
                        // SAFETY: each task has its own part, which outlives `run`.
                        unsafe { chunk_sums.part(task..task + 1)[0] = block.sums };
                    }
                })?;
                stop.check()?;
            }
            pool.run(count.div_ceil(size), work, |task| {
                let mut block = step::Block::<D>::START;
                let (mut doubtful, mut len) = ([0; MOST_TASK * BLOCK], 0);
                for i in task * size..((task + 1) * size).min(count) {
                    if stop.now() {
                        return;
                    }
                    self.load_step(self.block(first + i), &mut block);
                    if chunks == 1 {
                        self.add_step::<D, FAR>(0, &mut block);
                    } else {
                        block.sums = step::Sums::START;
                        // SAFETY: the chunk results of a block are its task's own.
                        let sums = unsafe { chunk_sums.part(i * chunks..(i + 1) * chunks) };
                        sums.iter().for_each(|sums| block.sums.absorb(sums));
                    }
                    // SAFETY: the outputs of a task's queries are its own.
                    unsafe { self.divide_step::<D, FAR>(&mut block) };
                    if block.in_doubt {
                        for (id, _) in block.ids.clone().zip(block.doubt).filter(|(_, doubt)| *doubt != 0) {
                            doubtful[len] = id;
                            len += 1;
                        }
                    }
                }
                for ids in doubtful[..len].chunks(BLOCK) {
                    if stop.now() {
                        return;
                    }
                    let mut block = Block::<D>::START;
                    self.load(ids.iter().copied(), &mut block);
                    // SAFETY: as above.
                    unsafe { self.answer(&mut block) };
                }
            })?;
            stop.check()?;
        }
        Ok(())
    }

    /// The queries of block `i`.
    fn block(&self, i: usize) -> Range<usize> {
        i * BLOCK..((i + 1) * BLOCK).min(self.query.x.rows())
    }

    fn load_step<const D: usize>(&self, ids: Range<usize>, block: &mut step::Block<D>) {
        block.ids = ids;
        let Query { rows, x, precision, .. } = self.query;
        self.isa.run(step::Load { x: x.host(), precision, centre: rows.mean(), radius: rows.radius(), block });
    }

    fn add_step<const D: usize, const FAR: bool>(&self, chunk: usize, block: &mut step::Block<D>) {
        let (rows, subset, positions) = (self.pairs, self.query.subset, self.plan.chunk_range(chunk));
        self.isa.run(step::Add::<D, FAR> { rows, subset, positions, block });
    }

    /// # Safety
    /// See [`Self::finish`].
    unsafe fn divide_step<const D: usize, const FAR: bool>(&self, block: &mut step::Block<D>) {
        let (out, rows) = (self.results, self.query.rows);
        let part = block.ids.start * out.dim..block.ids.end * out.dim;
        let [to_mean, to_offset] = [&out.mean, &out.offset].map(|to| {
            // SAFETY: the caller's promise.
            to.as_ref().map(|to| unsafe { to.part(part.clone()) })
        });
        let (centre, radius, len) = (rows.mean(), rows.radius(), self.plan.len);
        self.isa.run(step::Divide::<D, FAR> { centre, radius, len, to_mean, to_offset, block });
    }

    /// Takes the queries `ids`, at least one and at most a block.
    fn load<const D: usize>(&self, ids: impl ExactSizeIterator<Item = usize>, block: &mut Block<D>) {
        let d = self.query.rows.dim();
        block.len = ids.len();
        block.ids.iter_mut().zip(ids).for_each(|(to, id)| *to = id);
        // Where there are fewer queries, the last is repeated.
        let last = block.ids[block.len - 1];
        block.ids[block.len..].fill(last);
        let ids = block.ids;
        let row = |l: usize| ids[l];
        let transpose = |from: &[f64], to: &mut Lanes<D>| {
            for l in 0..BLOCK {
                let from = &from[row(l) * d..(row(l) + 1) * d];
                to.iter_mut().zip(from).for_each(|(to, v)| to[l] = *v);
            }
        };
        transpose(self.query.x.host(), &mut block.x);
        if let Some(v) = self.query.tangent {
            transpose(v.host(), &mut block.tangent);
        }
        for l in 0..BLOCK {
            block.h[l] = 0.5 * self.query.precision[row(l)];
        }
    }

    fn sweep<'b, const D: usize, const KIND: u8>(
        &'b self,
        chunk: usize,
        block: &'b mut Block<D>,
    ) -> Sweep<'b, D, KIND> {
        // The scalars count every weight that float64 holds.
        let limit = if KIND >= SCALARS { SMALLEST } else { SMALLEST.max(-self.cut) };
        let (rows, subset, positions) = (self.rows, self.query.subset, self.plan.chunk_range(chunk));
        Sweep { rows, subset, positions, limit, block }
    }

    /// The nearest rows of a chunk.
    fn find<const D: usize>(&self, chunk: usize, block: &mut Block<D>) {
        self.isa.run(self.sweep::<D, NEAREST>(chunk, block));
    }

    /// The sums over a chunk.
    fn add<const D: usize>(&self, chunk: usize, block: &mut Block<D>) {
        match self.kind {
            NEAREST => {}
            MEAN => self.isa.run(self.sweep::<D, MEAN>(chunk, block)),
            SCALARS => self.isa.run(self.sweep::<D, SCALARS>(chunk, block)),
            _ => self.isa.run(self.sweep::<D, PRODUCT>(chunk, block)),
        }
    }

    /// Reads the rows that the sums are about: the nearest.
    fn look_around<const D: usize>(&self, block: &mut Block<D>) {
        if self.kind == NEAREST {
            return;
        }
        // Far from the data the mean of the data loses nothing either, and keeps symmetries of the data that a row has not: paths
        // stay on a hyperplane between rows, which they leave at the first rounding on one side of it.
        const FAR: f64 = 1e-3;
        let far = (FAR * self.query.rows.radius()).powi(2);
        for l in 0..BLOCK {
            let n = row_index(self.query.subset, block.nearest.position[l] as usize);
            let row = if self.kind == MEAN && block.nearest.best[l] > far {
                self.query.rows.mean()
            } else {
                &self.rows[n * D..(n + 1) * D]
            };
            block.around.iter_mut().zip(row).for_each(|(to, v)| to[l] = *v);
        }
    }

    /// Answers a block on one thread.
    ///
    /// # Safety
    /// See [`Self::finish`].
    unsafe fn answer<const D: usize>(&self, block: &mut Block<D>) {
        let mut nearest = Nearest::START;
        for chunk in 0..self.plan.chunks() {
            self.find(chunk, block);
            nearest.absorb(&block.nearest);
        }
        block.nearest = nearest;
        self.look_around(block);
        let mut sums = Sums::START;
        for chunk in 0..self.plan.chunks() {
            self.add(chunk, block);
            sums.absorb(&block.sums);
        }
        block.sums = sums;
        // SAFETY: the caller's promise.
        unsafe { self.finish(block) };
    }

    /// Makes the results of the sums and writes them.
    ///
    /// # Safety
    /// No other task reads or writes the block's rows of the outputs.
    unsafe fn finish<const D: usize>(&self, block: &mut Block<D>) {
        if self.kind > NEAREST {
            self.isa.run(Divide { kind: self.kind, block });
        }
        // SAFETY: the caller's promise.
        unsafe {
            self.write(block);
            self.certify(block);
        }
    }
}
