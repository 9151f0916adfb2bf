//! Exact k nearest rows: squared differences in float64, a bounded heap per query and chunk. Where a projection of the data
//! is at hand, [`super::survivors`] finds the rows that need no look.
//!
//! Memory: per thread one decoded tile and `64 × tile` distances; per wave at most [`WAVE_BYTES`] of candidates, or one
//! query's if that is more (`16 · min(k · chunks, N)` bytes).

use super::pool::{Parts, Pool};
use super::projection::Projection;
use super::survivors::{Neighbour, Scan, Wanted, group_of};
use super::tile::{Buffer, Plan, SquaredDifference, decode, pack, pair_sums};
use super::vector::Isa;
use super::{InstructionSet, Kernel};
use crate::dataset::Rows;
use crate::error::{Result, per_row, try_vec};
use crate::exec::{Exec, Stop};
use crate::tensor::Matrix;
use std::collections::BinaryHeap;
use std::ops::Range;

/// Candidates kept at a time.
const WAVE_BYTES: usize = 64 << 20;

/// A group of queries against one chunk.
struct ChunkTask<'a> {
    rows: &'a Rows,
    plan: &'a Plan,
    positions: Range<usize>,
    x: &'a [f64],
    k: usize,
    /// The best k rows of the chunk for each query.
    found: &'a mut [Vec<Neighbour>],
    tile: &'a mut [f64],
    d2: &'a mut [f64],
    stop: &'a Stop<'a>,
}

impl Kernel for ChunkTask<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Isa>(self) {
        let plan = self.plan;
        let mut heaps: Vec<BinaryHeap<Neighbour>> = self.found.iter_mut().map(|f| std::mem::take(f).into()).collect();
        let mut from = self.positions.start;
        while from < self.positions.end && !self.stop.now() {
            let positions = from..(from + plan.tile).min(self.positions.end);
            decode(self.rows, None, positions.clone(), plan.stride, self.tile);
            // SAFETY: the instruction set is this function's own precondition.
            unsafe {
                pair_sums::<S::Double, SquaredDifference>(
                    self.x,
                    0..heaps.len(),
                    self.tile,
                    positions.len(),
                    plan,
                    self.d2,
                );
            }
            for (b, heap) in heaps.iter_mut().enumerate() {
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
        for (found, heap) in self.found.iter_mut().zip(heaps) {
            *found = heap.into_vec();
        }
    }
}

/// See [`crate::engine::Engine::nearest`].
#[allow(clippy::too_many_arguments)]
pub fn run(
    pool: &Pool,
    isa: InstructionSet,
    limit: Option<u64>,
    rows: &Rows,
    x: &Matrix,
    k: usize,
    (distance, index): (&mut [f64], &mut [i64]),
    exec: &Exec<'_>,
) -> Result<()> {
    let batch = x.rows();
    let plan = Plan::new(rows.len(), rows.dim());
    let chunks = plan.chunks();
    let per_query = (k * chunks).min(rows.len()) * size_of::<Neighbour>();
    let wave = (WAVE_BYTES / per_query).clamp(1, Plan::GROUP * (4 * pool.threads()).div_ceil(chunks)).min(batch.max(1));
    let groups = wave.div_ceil(Plan::GROUP);
    let ids = per_row(batch, |i| i)?;
    // Bounds do not pay where a good part of the rows is asked for.
    const FEW: usize = 32;
    let few = k <= rows.len() / FEW;
    let projection = if few { Projection::of(pool, isa, rows, Some(batch), limit) } else { None };
    for (w, ids) in ids.chunks(wave).enumerate() {
        exec.report((w * wave) as u64, batch as u64)?;
        let packed = pack(x, ids, plan.stride)?;
        // Candidates lie [group][chunk][query]; all memory is taken here, where its lack can be reported.
        let mut found = try_vec(ids.len() * chunks, Vec::new(), "nearest candidates")?;
        found.clear();
        for g in 0..groups {
            for c in 0..chunks {
                for _ in group_of(g, ids.len()) {
                    let room = k.min(plan.chunk_range(c).len());
                    let mut v = try_vec(room, Neighbour { d2: 0.0, index: 0 }, "nearest candidates")?;
                    v.clear();
                    found.push(v);
                }
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
        let stop = exec.stop();
        let scan = match projection {
            Some(projection) => {
                Scan::new(pool, isa, projection, rows, (&plan, &packed), Wanted::Nearest(k), &mut found, &stop)?
            }
            None => None,
        };
        stop.check()?;
        let found_parts = Parts::new(&mut found);
        pool.run(groups * chunks, ids.len() * rows.len() * rows.dim(), |task| {
            let (g, c) = (task / chunks, task % chunks);
            let queries = group_of(g, ids.len());
            if queries.is_empty() {
                return;
            }
            let at = queries.start * chunks + c * queries.len();
            let spare = scratch.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop();
            let Some((mut tile, mut d2)) = spare else { unreachable!("one scratch per thread") };
            if let Some(scan) = &scan {
                // SAFETY: as below.
                let found = unsafe { found_parts.part(at..at + queries.len()) };
                scan.measure(isa, c, queries, found, &mut tile);
                scratch.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((tile, d2));
                return;
            }
            isa.run(ChunkTask {
                rows,
                plan: &plan,
                positions: plan.chunk_range(c),
                x: &packed[queries.start * plan.stride..queries.end * plan.stride],
                k,
                // SAFETY: each task has its own part, and `found` outlives `run`.
                found: unsafe { found_parts.part(at..at + queries.len()) },
                tile: &mut tile,
                d2: &mut d2,
                stop: &stop,
            });
            scratch.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((tile, d2));
        })?;
        stop.check()?;
        for (i, &id) in ids.iter().enumerate() {
            let queries = group_of(i / Plan::GROUP, ids.len());
            let at = |c: usize| queries.start * chunks + c * queries.len() + i % Plan::GROUP;
            let mut all = try_vec(
                (0..chunks).map(|c| found[at(c)].len()).sum(),
                Neighbour { d2: 0.0, index: 0 },
                "nearest candidates",
            )?;
            let candidates = (0..chunks).flat_map(|c| &found[at(c)]);
            all.iter_mut().zip(candidates).for_each(|(to, from)| *to = *from);
            all.sort_unstable();
            for (j, n) in all[..k].iter().enumerate() {
                distance[id * k + j] = n.d2.sqrt();
                index[id * k + j] = i64::from(n.index);
            }
        }
    }
    exec.report(batch as u64, batch as u64)
}
