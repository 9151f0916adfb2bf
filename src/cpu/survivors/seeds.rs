//! The rows with the smallest coarse bounds: measured, they limit a search before it begins.

use super::super::directions::{BLOCK, DIRECTIONS};
use super::super::pool::{Parts, Pool};
use super::super::tile::{Buffer, Plan};
use super::super::vector::Isa;
use super::super::{InstructionSet, Kernel};
use super::{Among, Neighbour, Scan, Wanted, group_of};
use crate::error::{Error, Result, try_vec};
use std::collections::BinaryHeap;
use std::ops::Range;
use std::sync::atomic::Ordering;

impl Scan<'_> {
    /// Measures the rows with the smallest coarse bounds, and so limits the search.
    pub fn begin(&mut self, pool: &Pool, isa: InstructionSet) -> Result<()> {
        let (chunks, queries) = (self.plan.chunks(), self.limits.len());
        let k = if let Wanted::Nearest(k) = self.wanted { k } else { 1 };
        // The nearest by their bounds are not quite the nearest, nor are they spread evenly over the chunks.
        let seeds = k + k / 4 + 8;
        let of_chunk = (2 * seeds).div_ceil(chunks);
        let mut found = try_vec(queries * chunks, BinaryHeap::new(), "rows near a sample")?;
        let (parts, scan) = (Parts::new(&mut found), &*self);
        let work = queries * scan.rows.len() * DIRECTIONS / 8;
        pool.run(chunks, work, |c| {
            // SAFETY: each task has its own part, and `found` outlives `run`.
            let found = unsafe { parts.part(c * queries..(c + 1) * queries) };
            if isa.run(Smallest { scan, chunk: scan.plan.chunk_range(c), seeds: of_chunk, found }).is_err() {
                scan.lacking.store(true, Ordering::Relaxed);
            }
        })?;
        pool.run(queries, queries * k * scan.plan.stride, |b| {
            let Ok(mut row) = Buffer::zeros(scan.plan.stride, "decoded row") else {
                return scan.lacking.store(true, Ordering::Relaxed);
            };
            // SAFETY: what was found for query b is this task's alone.
            let of_chunks = (0..chunks).map(|c| unsafe { &mut parts.part(c * queries + b..c * queries + b + 1)[0] });
            let mut near = Vec::new();
            for found in of_chunks {
                if near.try_reserve(found.len()).is_err() {
                    return scan.lacking.store(true, Ordering::Relaxed);
                }
                near.extend(found.drain());
            }
            near.sort_unstable();
            near.truncate(seeds);
            for n in &mut near {
                n.d2 = scan.distance(isa, b, n.index as usize, &mut row);
            }
            near.sort_unstable();
            if let Some(farthest) = near.get(k - 1) {
                scan.narrow(b, farthest.d2);
            }
        })?;
        scan.check()
    }
}

/// The rows of a chunk with the smallest coarse scores.
struct Smallest<'a> {
    scan: &'a Scan<'a>,
    chunk: Range<usize>,
    seeds: usize,
    found: &'a mut [BinaryHeap<Neighbour>],
}

impl Kernel for Smallest<'_> {
    type Output = Result<()>;

    #[inline(always)]
    unsafe fn run<S: Isa>(self) -> Result<()> {
        let Self { scan, chunk, seeds, found } = self;
        for found in &mut *found {
            let lack = |_| Error::no_memory(seeds as u128 * 16, "rows near a sample");
            found.try_reserve(seeds).map_err(lack)?;
        }
        let mut on_tiles = scan.on_tiles(found.len())?;
        for blocks in Among::All.pieces(chunk.clone()) {
            for g in 0..found.len().div_ceil(Plan::GROUP) {
                if scan.stop.now() {
                    return Ok(());
                }
                let queries = group_of(g, found.len());
                let found = &mut found[queries.clone()];
                let mut most = [f32::INFINITY; Plan::GROUP];
                for (most, heap) in most.iter_mut().zip(&*found) {
                    *most = worst(heap, seeds);
                }
                let keep = |b: usize, block: usize, scores: &[f32; BLOCK]| {
                    let first = block * BLOCK;
                    keep(&mut found[b], seeds, first, &scores[..(chunk.end - first).min(BLOCK)]);
                };
                let (coarse, x) = (&scan.bounds.coarse, &scan.prepared.coarse);
                // SAFETY: the instruction set is this function's own precondition.
                unsafe { coarse.all_scores::<S>(on_tiles.as_mut(), x, queries, blocks.clone(), &most, keep) };
            }
        }
        Ok(())
    }
}

/// The largest score that the k smallest may still have.
#[allow(clippy::cast_possible_truncation)]
fn worst(heap: &BinaryHeap<Neighbour>, k: usize) -> f32 {
    if heap.len() < k { f32::INFINITY } else { heap.peek().map_or(f32::INFINITY, |n| n.d2 as f32) }
}

/// Keeps the k smallest scores.
#[inline(always)]
#[allow(clippy::cast_possible_truncation)]
fn keep(heap: &mut BinaryHeap<Neighbour>, k: usize, first: usize, scores: &[f32]) {
    for (i, &score) in scores.iter().enumerate() {
        let row = Neighbour { d2: f64::from(score), index: (first + i) as u32 };
        if heap.len() < k {
            heap.push(row);
        } else if let Some(mut worst) = heap.peek_mut()
            && row.d2 < worst.d2
        {
            *worst = row;
        }
    }
}
