//! The rows near to a query, found through [`super::bounds`]: those whose bound says that they are not among them are never
//! read.
//!
//! First some rows with small bounds are measured, which gives a distance within which there are rows enough. Then all rows
//! are looked through by their bounds; those that may be nearer than what is known are measured, by differences in float64,
//! and make the search narrower; others that may count are kept with their bounds. What is found in the end does not depend on
//! which thread came first.

mod expected;
mod search;
mod seeds;

use super::bounds::{Bounds, Prepared};
use super::directions::{BLOCK, DIRECTIONS};
use super::quantized::OnTiles;
use super::tile::{Buffer, Plan, SquaredDifference, pair_sums};
use super::vector::Isa;
use super::{InstructionSet, Kernel};
use crate::dataset::Rows;
use crate::error::{Error, Result, per_row, try_vec};
use crate::exec::Stop;
use expected::Expected;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Blocks whose scores are looked at together.
const BLOCKS: usize = 16;
/// Rows of that.
const ROWS: usize = BLOCKS * BLOCK;
/// Of so many blocks of a chunk the first [`SAMPLED`] stand for all.
const PERIOD: usize = 32;
const SAMPLED: usize = 2;

/// A data row and its squared distance; the order puts the nearest first, and of equals the lowest index.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Neighbour {
    /// Squared distance.
    pub d2: f64,
    /// The row.
    pub index: u32,
}

impl Eq for Neighbour {}

impl Ord for Neighbour {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.d2.total_cmp(&other.d2).then(self.index.cmp(&other.index))
    }
}

impl PartialOrd for Neighbour {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// A row whose bound does not rule it out.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Candidate {
    /// Its score by its code.
    pub score: f32,
    /// The row.
    pub index: u32,
}

/// What is found for a query in a chunk.
#[derive(Clone, Default)]
pub struct Found {
    /// The k nearest that were measured, if the k nearest are wanted.
    pub nearest: BinaryHeap<Neighbour>,
    /// Rows that may be near enough, if such are wanted, in any order.
    pub candidates: Vec<Candidate>,
}

/// Which rows are looked for.
#[derive(Clone)]
pub enum Wanted {
    /// The k nearest.
    Nearest(usize),
    /// All whose squared distance is within so much of the smallest, one number for each query.
    Within(Vec<f64>),
}

/// A search.
pub struct Scan<'a> {
    bounds: &'a Bounds,
    rows: &'a Rows,
    plan: &'a Plan,
    /// The queries, packed.
    pub x: Buffer<f64>,
    prepared: Prepared,
    wanted: Wanted,
    /// The squared distance within which k rows are known: the bits of a float64, whose order is theirs.
    limits: Vec<AtomicU64>,
    expected: Vec<Expected>,
    /// Queries that have been given up.
    dropped: Vec<bool>,
    lacking: AtomicBool,
    tiles: bool,
    stop: &'a Stop<'a>,
}

/// Which rows are looked through.
#[derive(Clone, Copy)]
pub enum Among {
    /// Some, which stand for all.
    Sample,
    /// All.
    All,
}

impl Among {
    /// The blocks of a chunk, in pieces.
    fn pieces(self, chunk: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let (every, take) = match self {
            Self::Sample => (PERIOD, SAMPLED),
            Self::All => (BLOCKS, BLOCKS),
        };
        // Chunks begin at a block.
        let end = chunk.end.div_ceil(BLOCK);
        (chunk.start / BLOCK..end).step_by(every).map(move |from| from..(from + take).min(end))
    }
}

impl<'a> Scan<'a> {
    /// A search that has not begun: nothing limits it. `None` if a query cannot be coded.
    pub fn new(
        isa: InstructionSet,
        bounds: &'a Bounds,
        rows: &'a Rows,
        (plan, x): (&'a Plan, Buffer<f64>),
        wanted: Wanted,
        stop: &'a Stop<'a>,
    ) -> Result<Option<Self>> {
        let Some(prepared) = bounds.prepare(isa, &x, rows.mean())? else { return Ok(None) };
        let queries = x.len() / plan.stride;
        Ok(Some(Self {
            bounds,
            rows,
            plan,
            x,
            prepared,
            wanted,
            limits: per_row(queries, |_| AtomicU64::new(f64::INFINITY.to_bits()))?,
            expected: try_vec(
                queries,
                Expected { rows: rows.len(), blocks: rows.len() / BLOCK },
                "one value per query",
            )?,
            dropped: try_vec(queries, false, "one value per query")?,
            lacking: AtomicBool::new(false),
            tiles: isa == InstructionSet::Amx,
            stop,
        }))
    }

    /// An error if a thread lacked memory.
    pub fn check(&self) -> Result<()> {
        if self.lacking.load(Ordering::Relaxed) {
            return Err(Error::NoMemory("the rows near a sample: no memory".into()));
        }
        Ok(())
    }

    /// About how many rows the bounds leave to query `b`.
    pub fn expected(&self, b: usize) -> usize {
        self.expected[b].rows
    }

    /// Gives up those queries to which the bounds leave more rows than these: nothing is found for them.
    pub fn drop_beyond(&mut self, most: usize) {
        self.dropped.iter_mut().zip(&self.expected).for_each(|(dropped, expected)| *dropped = expected.rows > most);
    }

    /// Whether query `b` has been given up.
    pub fn is_dropped(&self, b: usize) -> bool {
        self.dropped[b]
    }

    /// Makes the search of query `b` for the rows near to it narrower by one that may be the nearest. `decoded` is room for it.
    pub fn hint(&self, isa: InstructionSet, b: usize, row: usize, decoded: &mut [f64]) {
        self.narrow(b, self.distance(isa, b, row, decoded));
    }

    /// The smallest squared distance, when all chunks have been searched, and the largest scores that its row, and that a row
    /// that is wanted, can have.
    pub fn nearest(&self, b: usize) -> (f64, f32, f32) {
        let best = self.limit(b);
        let score = |d2: f64| self.prepared.threshold(b, d2).fine;
        (best, score(best), score(best + self.margin(b)))
    }

    /// The squared distance of row `n` from query `b`.
    fn distance(&self, isa: InstructionSet, b: usize, n: usize, decoded: &mut [f64]) -> f64 {
        let stride = self.plan.stride;
        self.rows.decode(n, &mut decoded[..self.rows.dim()]);
        decoded[self.rows.dim()..stride].fill(0.0);
        let x = &self.x[b * stride..(b + 1) * stride];
        isa.run(Measure { x, row: &decoded[..stride], plan: self.plan })
    }

    /// How much farther than the nearest rows may be.
    fn margin(&self, b: usize) -> f64 {
        if let Wanted::Within(margins) = &self.wanted { margins[b] } else { 0.0 }
    }

    fn limit(&self, b: usize) -> f64 {
        f64::from_bits(self.limits[b].load(Ordering::Relaxed))
    }

    fn narrow(&self, b: usize, limit: f64) {
        self.limits[b].fetch_min(limit.to_bits(), Ordering::Relaxed);
    }

    /// The scores of rows of `blocks` for a group of queries: `found(b, block, scores)` where one is at most what
    /// `thresholds` say. How many blocks coarse codes left to each query is added to `left`.
    ///
    /// # Safety
    /// See [`super::vector`].
    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    unsafe fn look<S: Isa>(
        &self,
        queries: &Range<usize>,
        blocks: Range<usize>,
        thresholds: &Thresholds,
        by_coarse: bool,
        mut on_tiles: Option<&mut OnTiles>,
        left: &mut [usize; Plan::GROUP],
        mut found: impl FnMut(usize, usize, &[f32; BLOCK]),
    ) {
        let (coarse, fine) = (&self.bounds.coarse, &self.bounds.fine);
        let Prepared { coarse: of_coarse, fine: x, .. } = &self.prepared;
        if !by_coarse {
            // SAFETY: the instruction set is the caller's promise.
            return unsafe { fine.all_scores::<S>(on_tiles, x, queries.clone(), blocks, &thresholds.wanted, found) };
        }
        let (mut masks, first) = ([0; BLOCKS], blocks.start);
        let mark = |b: usize, block: usize, _: &[f32; BLOCK]| {
            masks[block - first] |= 1 << b;
            left[b] += 1;
        };
        // SAFETY: as above.
        unsafe {
            let most = &thresholds.coarse;
            coarse.all_scores::<S>(on_tiles.take(), of_coarse, queries.clone(), blocks.clone(), most, mark);
            for (block, mask) in blocks.zip(masks) {
                let found = |b: usize, s: &[f32; BLOCK]| found(b, block, s);
                fine.scores::<S>(x, queries.start, mask, block, &thresholds.wanted, found);
            }
        }
    }

    /// Tile registers for groups of at most `queries` queries, where there are some.
    fn on_tiles(&self, queries: usize) -> Result<Option<OnTiles>> {
        // SAFETY: the instruction set says that there are tile registers.
        let room = || unsafe { OnTiles::new(queries, self.rows.dim().max(DIRECTIONS)) };
        self.tiles.then(room).transpose()
    }

    fn thresholds(&self, queries: Range<usize>) -> Thresholds {
        let mut thresholds = Thresholds {
            coarse: [f32::NEG_INFINITY; Plan::GROUP],
            wanted: [f32::NEG_INFINITY; Plan::GROUP],
            nearest: [f32::NEG_INFINITY; Plan::GROUP],
        };
        for (i, b) in queries.enumerate().filter(|(_, b)| !self.dropped[*b]) {
            let (best, margin) = (self.limit(b), self.margin(b));
            let wanted = self.prepared.threshold(b, best + margin);
            thresholds.coarse[i] = wanted.coarse;
            thresholds.wanted[i] = wanted.fine;
            thresholds.nearest[i] = self.prepared.threshold(b, best).fine;
        }
        thresholds
    }
}

/// The largest scores, for each query of a group, of rows that are wanted, by coarse and by fine codes, and of rows that may be
/// among the nearest, by fine codes.
struct Thresholds {
    coarse: [f32; Plan::GROUP],
    wanted: [f32; Plan::GROUP],
    nearest: [f32; Plan::GROUP],
}

/// The queries of group `g` in a wave of `len`.
pub fn group_of(g: usize, len: usize) -> Range<usize> {
    (g * Plan::GROUP).min(len)..((g + 1) * Plan::GROUP).min(len)
}

/// One query's distance to one row.
struct Measure<'a> {
    x: &'a [f64],
    row: &'a [f64],
    plan: &'a Plan,
}

impl Kernel for Measure<'_> {
    type Output = f64;

    #[inline(always)]
    unsafe fn run<S: Isa>(self) -> f64 {
        let mut d2 = 0.0;
        // SAFETY: the instruction set is this function's own precondition.
        unsafe {
            let out = std::slice::from_mut(&mut d2);
            pair_sums::<S::Double, SquaredDifference>(self.x, 0..1, self.row, 1, self.plan, out);
        }
        d2
    }
}
