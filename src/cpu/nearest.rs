//! Exact k nearest rows: squared differences in float64, a bounded heap per query and chunk. Where bounds of
//! distances are at hand, [`super::survivors`] finds the rows that need no look.
//!
//! Cosine is the same search over rows of length 1: tiles are divided by their rows' lengths as they are decoded, queries
//! once. Half a squared distance of at most 4 is δ = 1 - cos, and near 0 it is off by about 1e-16 √δ, where 1 less a product
//! would be off by 1e-16.
//!
//! Memory: per thread one decoded tile and `64 × tile` distances; per wave at most [`WAVE_BYTES`] of candidates, or one
//! query's if that is more (`16 · min(k · chunks, N)` bytes).

use super::bounds::Bounds;
use super::pool::{Parts, Pool};
use super::survivors::{Found, Neighbour, Scan, Wanted, group_of};
use super::tile::{Buffer, Plan, SquaredDifference, decode, pack, pair_sums};
use super::vector::Isa;
use super::{InstructionSet, Kernel};
use crate::dataset::Rows;
use crate::engine::{Metric, Search, no_direction};
use crate::error::{Error, Result, per_row, try_vec};
use crate::exec::{Exec, Stop};
use std::ops::Range;

/// Candidates kept at a time.
const WAVE_BYTES: usize = 64 << 20;

/// A group of queries against one chunk.
struct ChunkTask<'a> {
    rows: &'a Rows,
    plan: &'a Plan,
    positions: Range<usize>,
    x: &'a [f64],
    metric: Metric,
    k: usize,
    /// The best k rows of the chunk for each query.
    found: &'a mut [Found],
    tile: &'a mut [f64],
    d2: &'a mut [f64],
    stop: &'a Stop<'a>,
}

impl Kernel for ChunkTask<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Isa>(self) {
        let plan = self.plan;
        let mut from = self.positions.start;
        while from < self.positions.end && !self.stop.now() {
            let positions = from..(from + plan.tile).min(self.positions.end);
            decode(self.rows, None, positions.clone(), plan.stride, self.tile);
            if self.metric == Metric::Cosine {
                for row in self.tile[..positions.len() * plan.stride].chunks_exact_mut(plan.stride) {
                    to_unit(row);
                }
            }
            // SAFETY: the instruction set is this function's own precondition.
            unsafe {
                pair_sums::<S::Double, SquaredDifference>(
                    self.x,
                    0..self.found.len(),
                    self.tile,
                    positions.len(),
                    plan,
                    self.d2,
                );
            }
            if self.metric == Metric::Cosine {
                bound_cosines(self.tile, positions.len(), plan, self.found.len(), self.d2);
            }
            for (b, Found { nearest: heap, .. }) in self.found.iter_mut().enumerate() {
                let d2 = &self.d2[b * plan.tile..][..positions.len()];
                for (index, &d2) in (from as u32..).zip(d2) {
                    // Rows come in index order, so an equal distance never displaces an earlier row.
                    if heap.len() < self.k {
                        heap.push(Neighbour { d2, index });
                    } else if let Some(mut worst) = heap.peek_mut()
                        && d2 < worst.d2
                    {
                        *worst = Neighbour { d2, index };
                    }
                }
            }
            from = positions.end;
        }
    }
}

/// Divides a padded row by its length, if that is not 0.
#[inline(always)]
fn to_unit(row: &mut [f64]) {
    const LANES: usize = 16;
    // Squares of numbers so small would be subnormal or 0; by a power of two they grow without rounding.
    const SMALL: f64 = 1e-100;
    const GROW: f64 = f64::from_bits((1023 + 600) << 52);
    let mut largest = [0.0; LANES];
    for sixteen in row.chunks_exact(LANES) {
        for l in 0..LANES {
            largest[l] = sixteen[l].abs().max(largest[l]);
        }
    }
    let largest = largest.iter().fold(0.0, |a: f64, &v| a.max(v));
    if largest == 0.0 {
        return;
    }
    if largest < SMALL {
        for v in row.iter_mut() {
            *v *= GROW;
        }
    }
    let mut squares = [0.0; LANES];
    for sixteen in row.chunks_exact(LANES) {
        for l in 0..LANES {
            squares[l] += sixteen[l] * sixteen[l];
        }
    }
    let length = squares.iter().sum::<f64>().sqrt();
    for v in row.iter_mut() {
        *v /= length;
    }
}

/// Makes squared distances of unit rows what cosines allow: 2 from a row of zeros, and at most 4.
#[inline(always)]
fn bound_cosines(tile: &[f64], count: usize, plan: &Plan, queries: usize, d2: &mut [f64]) {
    for (n, row) in tile.chunks_exact(plan.stride).enumerate().take(count) {
        // A unit row's first number is seldom 0: this looks at few.
        if row.iter().all(|&v| v == 0.0) {
            for b in 0..queries {
                d2[b * plan.tile + n] = 2.0;
            }
        }
    }
    for b in 0..queries {
        for d2 in &mut d2[b * plan.tile..][..count] {
            *d2 = if *d2 > 4.0 { 4.0 } else { *d2 };
        }
    }
}

/// See [`crate::engine::Engine::nearest`].
pub fn run(
    pool: &Pool,
    isa: InstructionSet,
    limit: Option<u64>,
    &Search { rows, x, metric, k }: &Search<'_>,
    (distance, index): (&mut [f64], &mut [i64]),
    exec: &Exec<'_>,
) -> Result<()> {
    let batch = x.rows();
    let plan = Plan::new(rows.len(), rows.dim());
    let chunks = plan.chunks();
    let per_query = (k * chunks).min(rows.len()) * size_of::<Neighbour>();
    let ids = per_row(batch, |i| i)?;
    // Bounds do not pay where a good part of the rows is asked for.
    const FEW: usize = 32;
    let few = k <= rows.len() / FEW && metric == Metric::L2;
    if metric == Metric::Cosine
        && let Some(i) = x.host().chunks_exact(x.cols()).position(|row| row.iter().all(|&v| v == 0.0))
    {
        return Err(no_direction(i));
    }
    let bounds = if few { Bounds::of(pool, isa, rows, Some(batch), limit)? } else { None };
    // A search by bounds reads the data once for a whole wave.
    let groups = if bounds.is_some() { 4 } else { (4 * pool.threads()).div_ceil(chunks) };
    let wave = (WAVE_BYTES / per_query).clamp(1, groups * Plan::GROUP).min(batch.max(1));
    let groups = wave.div_ceil(Plan::GROUP);
    for (w, ids) in ids.chunks(wave).enumerate() {
        exec.report((w * wave) as u64, batch as u64)?;
        let mut packed = pack(x, ids, plan.stride)?;
        if metric == Metric::Cosine {
            packed.chunks_exact_mut(plan.stride).for_each(to_unit);
        }
        let stop = exec.stop(rows);
        let scan = match bounds {
            Some(bounds) => {
                let packed = pack(x, ids, plan.stride)?;
                Scan::new(isa, bounds, rows, (&plan, packed), Wanted::Nearest(k), &stop)?
            }
            None => None,
        };
        let scan = match scan {
            Some(mut scan) => {
                scan.begin(pool, isa)?;
                scan.count(pool, isa, true)?;
                Some(scan)
            }
            None => None,
        };
        stop.check()?;
        // [chunk][query]; a plain search fills all of it, whose lack can be reported here.
        let room = |c: usize| k.min(plan.chunk_range(c).len());
        let mut found = try_vec(ids.len() * chunks, Found::default(), "nearest candidates")?;
        if scan.is_none() {
            for (i, found) in found.iter_mut().enumerate() {
                let mut v = try_vec(room(i / ids.len()), Neighbour { d2: 0.0, index: 0 }, "nearest candidates")?;
                v.clear();
                found.nearest = v.into();
            }
        }
        let scratch = std::sync::Mutex::new(
            (0..pool.threads().min(groups * chunks))
                .map(|_| {
                    let tile = Buffer::zeros(plan.tile * plan.stride, "decoded tile")?;
                    Ok((tile, Buffer::zeros(Plan::GROUP * plan.tile, "distances of a tile")?))
                })
                .collect::<Result<Vec<_>>>()?,
        );
        let found_parts = Parts::new(&mut found);
        let scan_tasks = if scan.is_some() { 1 } else { groups };
        pool.run(scan_tasks * chunks, ids.len() * rows.len() * rows.dim(), |task| {
            let (g, c) = (task / chunks, task % chunks);
            let queries = if scan.is_some() { 0..ids.len() } else { group_of(g, ids.len()) };
            let at = c * ids.len();
            // SAFETY: each task has its own part, and `found` outlives `run`.
            let found = unsafe { found_parts.part(at + queries.start..at + queries.end) };
            let spare = scratch.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop();
            let Some((mut tile, mut d2)) = spare else { unreachable!("one scratch per thread") };
            match &scan {
                Some(scan) => scan.measure(isa, c, found, &mut tile),
                None => isa.run(ChunkTask {
                    rows,
                    plan: &plan,
                    positions: plan.chunk_range(c),
                    x: &packed[queries.start * plan.stride..queries.end * plan.stride],
                    metric,
                    k,
                    found,
                    tile: &mut tile,
                    d2: &mut d2,
                    stop: &stop,
                }),
            }
            scratch.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((tile, d2));
        })?;
        stop.check()?;
        scan.as_ref().map_or(Ok(()), Scan::check)?;
        for (i, &id) in ids.iter().enumerate() {
            let at = |c: usize| c * ids.len() + i;
            let mut all = try_vec(
                (0..chunks).map(|c| found[at(c)].nearest.len()).sum(),
                Neighbour { d2: 0.0, index: 0 },
                "nearest candidates",
            )?;
            let candidates = (0..chunks).flat_map(|c| &found[at(c)].nearest);
            all.iter_mut().zip(candidates).for_each(|(to, from)| *to = *from);
            all.sort_unstable();
            let Some(best) = all.get(..k) else {
                return Err(Error::file("rows: the data set's file changed while it was read"));
            };
            for (j, n) in best.iter().enumerate() {
                distance[id * k + j] = match metric {
                    Metric::L2 => n.d2.sqrt(),
                    Metric::Cosine => 0.5 * n.d2,
                };
                index[id * k + j] = i64::from(n.index);
            }
        }
    }
    exec.report(batch as u64, batch as u64)
}
