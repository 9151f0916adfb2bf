//! Small dimensions, where a weight costs more than a distance: queries in the lanes of a register, rows one by one.
//!
//! Two sweeps over the rows: the nearest row b, then Σ w (y - b) and what else is wanted, with w = exp(-h (|x - y|² -
//! best)) and every difference exact. All is formed about b, so that nothing cancels, near the data or far from it: with
//! u = Σ w (y - b) / Z, ȳ = b + u and ȳ - x = (b - x) + u.
//!
//! For a step in float32 a mean is first formed with weights of a shorter series, off by 2e-9; a query whose ȳ - x is so small beside the spread of the rows that this could show is formed again.
//!
//! Every sum runs over a chunk's rows in index order, then over the chunks, which depend on the number of rows alone.
//!
//! [`sweep`] has the kernels; here the work is dealt out and the results are written.
//!
//! Memory: the rows in float64, kept with the data set; per wave of queries, where there are several chunks, 8 (2d + 5)
//! bytes for each query and chunk.

mod sweep;

use super::super::InstructionSet;
use super::super::pool::{Parts, Pool};
use super::super::tile::{Buffer, Plan, row_index};
use super::Results;
use super::certificate::{Arithmetic, Certificate, Position};
use super::route::Route;
use super::sums::Running;
use crate::dataset::Rows;
use crate::engine::{Grade, Moments, Query};
use crate::error::{Result, try_vec};
use crate::exec::Exec;
use sweep::{BLOCK, Block, Divide, Lanes, MEAN, NEAREST, Nearest, PRODUCT, SCALARS, SHORT_MEAN, SMALLEST, Sums, Sweep};

/// The largest dimension answered here.
pub const MOST_DIM: usize = 16;
/// The rows in float64, `[len, D]`; D is d or a little more, and what is beyond d is 0.
struct Wide(Buffer<f64>);

impl Wide {
    /// The rows, decoded at the first call; `None` if they would pass the limit.
    fn of<const D: usize>(rows: &Rows, limit: Option<u64>) -> Result<Option<&[f64]>> {
        let stored = rows.len() * rows.dim() * rows.dtype().size();
        let bytes = stored + rows.len() * D * size_of::<f64>();
        if limit.is_some_and(|limit| bytes as u64 > limit) {
            return Ok(None);
        }
        if let Some(ready) = rows.prepared().get::<Self>() {
            return Ok(Some(&ready.0));
        }
        let mut wide = Buffer::zeros(rows.len() * D, "rows in float64")?;
        for (n, row) in wide.chunks_exact_mut(D).enumerate() {
            rows.decode(n, &mut row[..rows.dim()]);
        }
        Ok(rows.prepared().keep(Self(wide)).map(|it| &*it.0))
    }
}

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
    match query.rows.dim() {
        1 => run_in::<1>(pool, isa, limit, query, wanted, cut, out, exec),
        2 => run_in::<2>(pool, isa, limit, query, wanted, cut, out, exec),
        3 => run_in::<3>(pool, isa, limit, query, wanted, cut, out, exec),
        4 => run_in::<4>(pool, isa, limit, query, wanted, cut, out, exec),
        5..=8 => run_in::<8>(pool, isa, limit, query, wanted, cut, out, exec),
        9..=MOST_DIM => run_in::<MOST_DIM>(pool, isa, limit, query, wanted, cut, out, exec),
        _ => Ok(false),
    }
}

#[allow(clippy::too_many_arguments)]
fn run_in<const D: usize>(
    pool: &Pool,
    isa: InstructionSet,
    limit: Option<u64>,
    query: &Query<'_>,
    wanted: bool,
    cut: f64,
    out: &mut Moments<'_>,
    exec: &Exec<'_>,
) -> Result<bool> {
    let Some(rows) = Wide::of::<D>(query.rows, limit)? else { return Ok(false) };
    let plan = Plan::new(query.subset.map_or(query.rows.len(), <[u32]>::len), D);
    let chunks = plan.chunks();
    let scalars =
        out.log_sum.is_some() || out.entropy.is_some() || out.covariance_trace.is_some() || out.log_sum_error.is_some();
    let kind = match query.tangent {
        Some(_) => PRODUCT,
        None if !wanted && !scalars => NEAREST,
        None if query.step && query.grade == Grade::Single => SHORT_MEAN,
        None if query.step => MEAN,
        // The same arithmetic whatever else is wanted, error bounds among it.
        None => SCALARS,
    };
    let batch = query.x.rows();
    let results = Results::new(out, exec.trail, query.rows.dim());
    let pass = Pass { isa, query, rows, plan: &plan, kind, cut, results: &results };

    // Pairs of a query and a row between two looks at the caller's wishes: some hundredths of a second.
    const WAVE_PAIRS: usize = 1 << 26;
    const LEAST_WAVE: usize = 64;
    const MOST_WAVE: usize = 1 << 13;
    let wave = (WAVE_PAIRS / (plan.len * BLOCK)).clamp(LEAST_WAVE, MOST_WAVE);
    let blocks = batch.div_ceil(BLOCK);
    let kept = if chunks == 1 { 0 } else { wave.min(blocks) * chunks };
    let mut nearest = try_vec(kept, Nearest::START, "nearest rows of chunks")?;
    let mut sums = try_vec(kept, Sums::<D>::START, "chunk results")?;
    for first in (0..blocks).step_by(wave) {
        exec.report((first * BLOCK) as u64, batch as u64)?;
        let stop = exec.stop(query.rows);
        let count = wave.min(blocks - first);
        // A pair costs about a nanosecond per eight numbers and as much as ten numbers for its weight.
        let work = (count * BLOCK).min(batch) * plan.len * (D + 10) / 8;
        if chunks == 1 {
            const TASK: usize = 4;
            pool.run(count.div_ceil(TASK), work, |task| {
                let mut block = Block::<D>::START;
                for i in first + task * TASK..first + ((task + 1) * TASK).min(count) {
                    if stop.now() {
                        return;
                    }
                    pass.load(i, &mut block);
                    pass.find(0, &mut block);
                    pass.look_around(&mut block);
                    pass.add(0, kind, &mut block);
                    // SAFETY: one task per block, whose outputs are its own.
                    unsafe { pass.finish(&mut block) };
                }
            })?;
            stop.check()?;
            continue;
        }
        let (near, chunk_sums) = (Parts::new(&mut nearest), Parts::new(&mut sums));
        pool.run(count * chunks, work / 3, |task| {
            if !stop.now() {
                let mut block = Block::<D>::START;
                pass.load(first + task / chunks, &mut block);
                pass.find(task % chunks, &mut block);
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
            pass.load(first + i, block);
            block.nearest = nearest[i * chunks];
            pass.look_around(block);
        };
        pool.run(count * chunks, work, |task| {
            if !stop.now() {
                let mut block = Block::START;
                with_nearest(task / chunks, &mut block);
                pass.add(task % chunks, kind, &mut block);
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
                pass.finish(&mut block);
            }
        })?;
    }
    exec.report(batch as u64, batch as u64)?;
    Ok(true)
}

/// What all blocks share.
struct Pass<'a> {
    isa: InstructionSet,
    query: &'a Query<'a>,
    rows: &'a [f64],
    plan: &'a Plan,
    kind: u8,
    cut: f64,
    results: &'a Results<'a>,
}

impl Pass<'_> {
    /// Takes block `i` of the queries.
    fn load<const D: usize>(&self, i: usize, block: &mut Block<D>) {
        let d = self.query.rows.dim();
        block.ids = i * BLOCK..((i + 1) * BLOCK).min(self.query.x.rows());
        let ids = block.ids.clone();
        let row = |l: usize| (ids.start + l).min(ids.end - 1);
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
    fn add<const D: usize>(&self, chunk: usize, kind: u8, block: &mut Block<D>) {
        match kind {
            NEAREST => {}
            SHORT_MEAN => self.isa.run(self.sweep::<D, SHORT_MEAN>(chunk, block)),
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

    /// Makes the results of the sums and writes them.
    ///
    /// # Safety
    /// No other task reads or writes the block's rows of the outputs.
    unsafe fn finish<const D: usize>(&self, block: &mut Block<D>) {
        let radius = self.query.rows.radius();
        if self.kind > NEAREST {
            self.isa.run(Divide { kind: self.kind, radius, block });
        }
        if self.kind == SHORT_MEAN && block.doubt[..block.ids.len()].contains(&true) {
            let (mean, offset, doubt) = (block.mean, block.offset, block.doubt);
            let mut sums = Sums::START;
            for chunk in 0..self.plan.chunks() {
                self.add(chunk, MEAN, block);
                sums.absorb(&block.sums);
            }
            block.sums = sums;
            self.isa.run(Divide { kind: MEAN, radius, block });
            // A query's bits are the same whatever stands beside it.
            for l in (0..BLOCK).filter(|&l| !doubt[l]) {
                for k in 0..D {
                    (block.mean[k][l], block.offset[k][l]) = (mean[k][l], offset[k][l]);
                }
            }
        }
        // SAFETY: the caller's promise.
        unsafe {
            self.write(block);
            self.certify(block);
        }
    }

    /// Writes the error bounds that are wanted.
    ///
    /// # Safety
    /// See [`Self::finish`].
    unsafe fn certify<const D: usize>(&self, block: &Block<D>) {
        let (out, query, d) = (self.results, self.query, self.results.dim);
        if out.mean_error.is_none() && out.log_sum_error.is_none() {
            return;
        }
        let radius = query.rows.radius();
        for (l, id) in block.ids.clone().enumerate() {
            let of = |lanes: &Lanes<D>, k: usize| lanes[k][l];
            let (h, best, rest) = (block.h[l], block.nearest.best[l], block.sums.weight[l]);
            // Where h is 0 it has taken the sizes with it; no row is farther than this.
            let excess = if h > 0.0 { block.sums.excess[l] / h } else { rest * (2.0 * (best.sqrt() + radius)).powi(2) };
            let index = row_index(query.subset, block.nearest.position[l] as usize);
            let run = Running { best, index, rest, excess, included: 1.0 + rest, ..Running::START };
            let (mut at, mut distance) = (Position::default(), 0.0);
            for k in 0..d {
                let (x, b, mean) = (of(&block.x, k), of(&block.around, k), of(&block.mean, k));
                // ȳ - b; the difference of what was made of it has lost what is small.
                let u = of(&block.sums.mean, k);
                at.correction += u * (2.0 * (b - x) + u);
                at.from_best += u * u;
                at.length += mean * mean;
                at.from_centre += (mean - query.rows.mean()[k]).powi(2);
                distance += (x - query.rows.mean()[k]).powi(2);
            }
            let root = f64::sqrt;
            let certificate = Certificate {
                rows: query.rows,
                h,
                route: Route::near(true),
                arithmetic: Arithmetic::sweep(self.plan),
                run: &run,
                distance: root(distance),
                x_error: query.x_error.map_or(0.0, |e| e[id]),
            };
            let at = Position {
                length: root(at.length),
                from_centre: root(at.from_centre),
                from_best: root(at.from_best),
                correction: at.correction,
            };
            let one = |to: &Option<Parts<f64>>, value: f64| {
                if let Some(to) = to {
                    // SAFETY: the caller's promise.
                    unsafe { to.part(id..id + 1)[0] = value };
                }
            };
            one(&out.log_sum_error, certificate.log_sum());
            one(&out.mean_error, certificate.mean(at));
        }
    }

    /// # Safety
    /// See [`Self::finish`].
    unsafe fn write<const D: usize>(&self, block: &Block<D>) {
        let (out, ids, d) = (self.results, block.ids.clone(), self.results.dim);
        let vectors = |to: &Option<Parts<f64>>, from: &Lanes<D>| {
            if let Some(to) = to {
                // SAFETY: the caller's promise.
                let to = unsafe { to.part(ids.start * d..ids.end * d) };
                for (l, to) in to.chunks_exact_mut(d).enumerate() {
                    to.iter_mut().zip(from).for_each(|(to, from)| *to = from[l]);
                }
            }
        };
        vectors(&out.mean, &block.mean);
        vectors(&out.offset, &block.offset);
        vectors(&out.covariance_product, &block.product);
        let scalars = |to: &Option<Parts<f64>>, of: &dyn Fn(usize) -> f64| {
            if let Some(to) = to {
                // SAFETY: the caller's promise.
                let to = unsafe { to.part(ids.clone()) };
                to.iter_mut().enumerate().for_each(|(l, to)| *to = of(l));
            }
        };
        let Block { nearest, sums, h, .. } = block;
        scalars(&out.log_sum, &|l| sums.weight[l].ln_1p() - h[l] * nearest.best[l]);
        scalars(&out.entropy, &|l| sums.weight[l].ln_1p() + sums.excess[l] / (1.0 + sums.weight[l]));
        scalars(&out.covariance_trace, &|l| block.trace[l]);
        scalars(&out.nearest_distance, &|l| nearest.best[l].sqrt());
        if let Some(to) = &out.nearest {
            // SAFETY: the caller's promise.
            let to = unsafe { to.part(ids) };
            for (to, position) in to.iter_mut().zip(nearest.position) {
                *to = row_index(self.query.subset, position as usize) as i64;
            }
        }
    }
}
