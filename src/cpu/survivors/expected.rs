//! What a sample of the rows says beforehand of what a search will leave to each query.

use super::super::directions::{BLOCK, DIRECTIONS};
use super::super::pool::{Parts, Pool};
use super::super::tile::Plan;
use super::super::vector::Isa;
use super::super::{InstructionSet, Kernel};
use super::{Among, PERIOD, SAMPLED, Scan, group_of};
use crate::error::{Result, try_vec};
use std::ops::Range;
use std::sync::atomic::Ordering;

/// What some of the data say about a query: about how many rows will be measured, and how many blocks of rows coarse codes
/// leave.
#[derive(Clone, Copy, Default)]
pub struct Expected {
    /// Rows.
    pub rows: usize,
    /// Blocks.
    pub blocks: usize,
}

impl Scan<'_> {
    /// Counts on a sample how many rows the bounds leave to each query: those by fine codes alone, or after the coarse ones'.
    pub fn count(&mut self, pool: &Pool, isa: InstructionSet, by_coarse: bool) -> Result<()> {
        let (chunks, queries) = (self.plan.chunks(), self.limits.len());
        let mut counts = try_vec(queries * chunks, Expected::default(), "one value per query")?;
        let (parts, scan) = (Parts::new(&mut counts), &*self);
        pool.run(chunks, queries * scan.rows.len() * DIRECTIONS / 4 / PERIOD * SAMPLED, |c| {
            // SAFETY: each task has its own part, and `counts` outlives `run`.
            let counts = unsafe { parts.part(c * queries..(c + 1) * queries) };
            if isa.run(Count { scan, chunk: scan.plan.chunk_range(c), by_coarse, counts }).is_err() {
                scan.lacking.store(true, Ordering::Relaxed);
            }
        })?;
        scan.check()?;
        let sampled = (0..chunks).flat_map(|c| Among::Sample.pieces(self.plan.chunk_range(c)));
        let sampled: usize = sampled.map(|piece| piece.len()).sum();
        let all = self.rows.len().div_ceil(BLOCK);
        for (b, expected) in self.expected.iter_mut().enumerate() {
            let sum = |of: fn(&Expected) -> usize| (0..chunks).map(|c| of(&counts[c * queries + b])).sum::<usize>();
            *expected = Expected { rows: sum(|e| e.rows) * all / sampled, blocks: sum(|e| e.blocks) * all / sampled };
        }
        Ok(())
    }

    /// Whether coarse codes leave a group of queries so few blocks that they save more than they cost.
    pub fn coarse_pays(&self, queries: Range<usize>) -> bool {
        let all = self.rows.len().div_ceil(BLOCK) * queries.len();
        let left: usize = self.expected[queries].iter().map(|e| e.blocks).sum();
        let (coarse, _) = self.bounds.coarse.costs(self.tiles);
        let (of_all, of_some) = self.bounds.fine.costs(self.tiles);
        coarse * all + of_some * left < of_all * all
    }
}

/// What the bounds leave of the sample of a chunk, counted.
struct Count<'a> {
    scan: &'a Scan<'a>,
    chunk: Range<usize>,
    by_coarse: bool,
    counts: &'a mut [Expected],
}

impl Kernel for Count<'_> {
    type Output = Result<()>;

    #[inline(always)]
    unsafe fn run<S: Isa>(self) -> Result<()> {
        let Self { scan, chunk, by_coarse, counts } = self;
        let mut on_tiles = scan.on_tiles(counts.len())?;
        for g in 0..counts.len().div_ceil(Plan::GROUP) {
            let queries = group_of(g, counts.len());
            let counts = &mut counts[queries.clone()];
            let thresholds = scan.thresholds(queries.clone());
            let mut left = [0; Plan::GROUP];
            for blocks in Among::Sample.pieces(chunk.clone()) {
                if scan.stop.now() {
                    return Ok(());
                }
                let count = |b: usize, _: usize, scores: &[f32; BLOCK]| {
                    counts[b].rows += scores.iter().filter(|s| **s <= thresholds.wanted[b]).count();
                };
                // SAFETY: the instruction set is this function's own precondition.
                unsafe {
                    scan.look::<S>(&queries, blocks, &thresholds, by_coarse, on_tiles.as_mut(), &mut left, count)
                };
            }
            counts.iter_mut().zip(left).for_each(|(count, left)| count.blocks = left);
        }
        Ok(())
    }
}
