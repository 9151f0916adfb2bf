//! The rows near to a query, found through [`super::bounds`]: those whose bound says that they are not among them are never
//! read.
//!
//! First some rows with small bounds are measured, which gives a distance within which there are rows enough. Then all rows
//! are looked through by their bounds; those that may be nearer than what is known are measured, by differences in float64,
//! and make the search narrower; others that may count are kept with their bounds. What is found in the end does not depend on
//! which thread came first.

use super::bounds::{Bounds, Prepared};
use super::directions::{BLOCK, DIRECTIONS};
use super::pool::{Parts, Pool};
use super::quantized::OnTiles;
use super::tile::{Buffer, Plan, SquaredDifference, pair_list, pair_sums};
use super::vector::Isa;
use super::{InstructionSet, Kernel};
use crate::dataset::Rows;
use crate::error::{Error, Result, per_row, try_vec};
use crate::exec::Stop;
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

/// What some of the data say about a query: about how many rows will be measured, and how many blocks of rows coarse codes
/// leave.
#[derive(Clone, Copy, Default)]
struct Expected {
    rows: usize,
    blocks: usize,
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

    /// Measures the rows with the smallest coarse bounds, and so limits the search.
    pub fn begin(&mut self, pool: &Pool, isa: InstructionSet, among: Among) -> Result<()> {
        let (chunks, queries) = (self.plan.chunks(), self.limits.len());
        let k = if let Wanted::Nearest(k) = self.wanted { k } else { 1 };
        // The nearest by their bounds are not quite the nearest, nor are they spread evenly over the chunks.
        let seeds = k + k / 4 + 8;
        let of_chunk = (2 * seeds).div_ceil(chunks);
        let mut found = try_vec(queries * chunks, BinaryHeap::new(), "rows near a sample")?;
        let (parts, scan) = (Parts::new(&mut found), &*self);
        let work = queries * scan.rows.len() * DIRECTIONS / 8;
        pool.run(chunks, if let Among::All = among { work } else { work / PERIOD * SAMPLED }, |c| {
            // SAFETY: each task has its own part, and `found` outlives `run`.
            let found = unsafe { parts.part(c * queries..(c + 1) * queries) };
            if isa.run(Smallest { scan, chunk: scan.plan.chunk_range(c), among, seeds: of_chunk, found }).is_err() {
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

    /// Counts on a sample how many rows the bounds leave to each query: those by fine codes alone, or after the coarse ones'.
    pub fn count(&mut self, pool: &Pool, isa: InstructionSet, project: bool) -> Result<()> {
        let (chunks, queries) = (self.plan.chunks(), self.limits.len());
        let mut counts = try_vec(queries * chunks, Expected::default(), "one value per query")?;
        let (parts, scan) = (Parts::new(&mut counts), &*self);
        pool.run(chunks, queries * scan.rows.len() * DIRECTIONS / 4 / PERIOD * SAMPLED, |c| {
            // SAFETY: each task has its own part, and `counts` outlives `run`.
            let counts = unsafe { parts.part(c * queries..(c + 1) * queries) };
            if isa.run(Count { scan, chunk: scan.plan.chunk_range(c), project, counts }).is_err() {
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

    /// Searches chunk `c`, into `found`. `row` is room for decoded rows.
    pub fn measure(&self, isa: InstructionSet, c: usize, found: &mut [Found], row: &mut [f64]) {
        if isa.run(Survivors { scan: self, chunk: self.plan.chunk_range(c), found, row }).is_err() {
            self.lacking.store(true, Ordering::Relaxed);
        }
    }

    /// Whether coarse codes leave a group of queries so few blocks that they save more than they cost.
    fn projects(&self, queries: Range<usize>) -> bool {
        let all = self.rows.len().div_ceil(BLOCK) * queries.len();
        let left: usize = self.expected[queries].iter().map(|e| e.blocks).sum();
        let (coarse, _) = self.bounds.coarse.costs(self.tiles);
        let (of_all, of_some) = self.bounds.fine.costs(self.tiles);
        coarse * all + of_some * left < of_all * all
    }

    /// The squared distance of row `n` from query `b`.
    fn distance(&self, isa: InstructionSet, b: usize, n: usize, decoded: &mut [f64]) -> f64 {
        let stride = self.plan.stride;
        self.rows.decode(n, &mut decoded[..self.rows.dim()]);
        decoded[self.rows.dim()..stride].fill(0.0);
        let x = &self.x[b * stride..(b + 1) * stride];
        isa.run(Measure { x, row: &decoded[..stride], plan: self.plan })
    }

    fn keeps_candidates(&self) -> bool {
        matches!(self.wanted, Wanted::Within(_))
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
        project: bool,
        mut on_tiles: Option<&mut OnTiles>,
        left: &mut [usize; Plan::GROUP],
        mut found: impl FnMut(usize, usize, &[f32; BLOCK]),
    ) {
        let (coarse, fine) = (&self.bounds.coarse, &self.bounds.fine);
        let Prepared { coarse: of_coarse, fine: x, .. } = &self.prepared;
        if !project {
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

/// The rows of a chunk with the smallest coarse scores.
struct Smallest<'a> {
    scan: &'a Scan<'a>,
    chunk: Range<usize>,
    among: Among,
    seeds: usize,
    found: &'a mut [BinaryHeap<Neighbour>],
}

impl Kernel for Smallest<'_> {
    type Output = Result<()>;

    #[inline(always)]
    unsafe fn run<S: Isa>(self) -> Result<()> {
        let Self { scan, chunk, among, seeds, found } = self;
        for found in &mut *found {
            let lack = |_| Error::no_memory(seeds as u128 * 16, "rows near a sample");
            found.try_reserve(seeds).map_err(lack)?;
        }
        let mut on_tiles = scan.on_tiles(found.len())?;
        for blocks in among.pieces(chunk.clone()) {
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

/// What the bounds leave of the sample of a chunk, counted.
struct Count<'a> {
    scan: &'a Scan<'a>,
    chunk: Range<usize>,
    project: bool,
    counts: &'a mut [Expected],
}

impl Kernel for Count<'_> {
    type Output = Result<()>;

    #[inline(always)]
    unsafe fn run<S: Isa>(self) -> Result<()> {
        let Self { scan, chunk, project, counts } = self;
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
                unsafe { scan.look::<S>(&queries, blocks, &thresholds, project, on_tiles.as_mut(), &mut left, count) };
            }
            counts.iter_mut().zip(left).for_each(|(count, left)| count.blocks = left);
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

/// The search of a chunk.
struct Survivors<'a> {
    scan: &'a Scan<'a>,
    chunk: Range<usize>,
    found: &'a mut [Found],
    row: &'a mut [f64],
}

impl Kernel for Survivors<'_> {
    type Output = Result<()>;

    #[inline(always)]
    #[allow(clippy::cast_possible_truncation)]
    unsafe fn run<S: Isa>(self) -> Result<()> {
        let Self { scan, chunk, found, row } = self;
        let Scan { rows: data, plan, .. } = *scan;
        let slots = row.len() / plan.stride;
        let mut pairs = try_vec(slots * found.len().min(Plan::GROUP), (0, 0), "rows near a sample")?;
        pairs.clear();
        let mut indices = try_vec(slots, 0, "rows near a sample")?;
        let mut on_tiles = scan.on_tiles(found.len())?;
        let (mut left, mut asked) = ([0; Plan::GROUP], [0_u64; ROWS]);
        let groups = found.len().div_ceil(Plan::GROUP);
        let project = per_row(groups, |g| scan.projects(group_of(g, scan.limits.len())))?;
        // Every group looks at a piece of the data while it is in the cache.
        let pieces = Among::All.pieces(chunk.clone()).flat_map(|piece| (0..groups).map(move |g| (piece.clone(), g)));
        for (blocks, g) in pieces.filter(|(_, g)| scan.dropped[group_of(*g, scan.dropped.len())].contains(&false)) {
            if scan.stop.now() {
                break;
            }
            let first = blocks.start * BLOCK;
            let rows = first..(blocks.end * BLOCK).min(chunk.end);
            let queries = group_of(g, found.len());
            let x = &scan.x[queries.start * plan.stride..queries.end * plan.stride];
            let found = &mut found[queries.clone()];
            let thresholds = scan.thresholds(queries.clone());
            asked.fill(0);
            let mut lacking = false;
            let keeps = scan.keeps_candidates();
            let sort = |b: usize, block: usize, scores: &[f32; BLOCK]| {
                let at = block * BLOCK;
                let mut nearest = at_most(scores, thresholds.nearest[b]);
                while nearest != 0 {
                    asked[at - first + nearest.trailing_zeros() as usize] |= 1 << b;
                    nearest &= nearest - 1;
                }
                let mut wanted = if keeps { at_most(scores, thresholds.wanted[b]) } else { 0 };
                while wanted != 0 {
                    let i = wanted.trailing_zeros() as usize;
                    wanted &= wanted - 1;
                    if at + i < rows.end {
                        let candidate = Candidate { score: scores[i], index: (at + i) as u32 };
                        lacking |= !add(&mut found[b].candidates, candidate, thresholds.wanted[b]);
                    }
                }
            };
            // SAFETY: the instruction set is this function's own precondition.
            unsafe { scan.look::<S>(&queries, blocks, &thresholds, project[g], on_tiles.as_mut(), &mut left, sort) };
            if lacking {
                return Err(Error::no_memory(chunk.len() as u128 * 8, "rows near a sample"));
            }
            let mut slot = 0;
            for (n, &asked) in rows.zip(&asked) {
                if asked == 0 {
                    continue;
                }
                data.decode(n, &mut row[slot * plan.stride..][..data.dim()]);
                let mut bits = asked;
                while bits != 0 {
                    pairs.push((bits.trailing_zeros(), slot as u32));
                    bits &= bits - 1;
                }
                indices[slot] = n as u32;
                slot += 1;
                if slot == slots {
                    // SAFETY: as above.
                    unsafe { measure::<S>(scan, queries.start, x, row, &pairs, &indices, found)? };
                    pairs.clear();
                    slot = 0;
                }
            }
            // SAFETY: as above.
            unsafe { measure::<S>(scan, queries.start, x, row, &pairs, &indices, found)? };
            pairs.clear();
        }
        Ok(())
    }
}

/// Which of the scores are at most `most`, a bit for each.
#[inline(always)]
fn at_most(scores: &[f32; BLOCK], most: f32) -> u32 {
    let mut bits = 0;
    for (i, score) in scores.iter().enumerate() {
        bits |= u32::from(*score <= most) << i;
    }
    bits
}

/// Adds a candidate; when there is no room for more, those that are no longer near enough go. False if memory lacks.
fn add(candidates: &mut Vec<Candidate>, candidate: Candidate, wanted: f32) -> bool {
    let full = candidates.len() == candidates.capacity();
    if full {
        candidates.retain(|c| c.score <= wanted);
    }
    // Room for as many again, unless half of them went.
    let more = if full && candidates.len() > candidates.capacity() / 2 { candidates.len() } else { 1 };
    let there = candidates.try_reserve(more).is_ok();
    if there {
        candidates.push(candidate);
    }
    there
}

/// Measures pairs of a query and a decoded row, whose indices in the data set are `indices`.
#[inline(always)]
unsafe fn measure<S: Isa>(
    scan: &Scan<'_>,
    first: usize,
    x: &[f64],
    rows: &[f64],
    pairs: &[(u32, u32)],
    indices: &[u32],
    found: &mut [Found],
) -> Result<()> {
    const TOGETHER: usize = 64;
    let mut d2 = [0.0; TOGETHER];
    for pairs in pairs.chunks(TOGETHER) {
        // SAFETY: the instruction set is the caller's promise.
        unsafe { pair_list::<S::Double, SquaredDifference>(x, rows, pairs, scan.plan.stride, &mut d2[..pairs.len()]) };
        for (&(b, slot), &d2) in pairs.iter().zip(&d2) {
            let b = b as usize;
            if d2 > scan.limit(first + b) {
                continue;
            }
            let Wanted::Nearest(k) = scan.wanted else {
                scan.narrow(first + b, d2);
                continue;
            };
            let (heap, row) = (&mut found[b].nearest, Neighbour { d2, index: indices[slot as usize] });
            // Rows come in index order, so an equal distance never displaces an earlier row.
            if heap.len() < k {
                heap.try_reserve(1).map_err(|_| Error::no_memory(heap.len() as u128 * 16, "rows near a sample"))?;
                heap.push(row);
            } else if let Some(mut worst) = heap.peek_mut()
                && d2 < worst.d2
            {
                *worst = row;
            }
            if heap.len() == k {
                scan.narrow(first + b, heap.peek().map_or(f64::INFINITY, |worst| worst.d2));
            }
        }
    }
    Ok(())
}
