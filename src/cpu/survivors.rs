//! The rows near to a query, found through a projection: those whose bound says that they are not among them are never
//! read.
//!
//! First some rows with small bounds, of every chunk, are measured; the k-th smallest of their distances is one within which
//! k rows lie. Then the rows whose bound does not rule them out are measured, by differences in float64: what is found does
//! not depend on how the bounds fell out.

use super::pool::{Parts, Pool};
use super::projection::{BLOCK, COARSE, FINE, Projected, Projection};
use super::tile::{Plan, SquaredDifference, pair_list, pair_sums};
use super::vector::Isa;
use super::{InstructionSet, Kernel};
use crate::dataset::Rows;
use crate::error::{Result, try_vec};
use crate::exec::Stop;
use std::collections::BinaryHeap;
use std::ops::Range;

/// Blocks whose scores are looked at together.
const BLOCKS: usize = 16;
/// Rows of that.
const ROWS: usize = BLOCKS * BLOCK;

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

/// Which rows are looked for.
#[derive(Clone, Copy)]
pub enum Wanted<'a> {
    /// The k nearest.
    Nearest(usize),
    /// All whose squared distance is within so much of the smallest, one number for each query, as far as there is room for
    /// them.
    Within(&'a [f64]),
}

/// What the second pass needs.
pub struct Scan<'a> {
    projection: &'a Projection,
    rows: &'a Rows,
    plan: &'a Plan,
    x: &'a [f64],
    projected: Projected,
    /// Rows farther than this, squared, are not looked for, and the score that this allows.
    limits: Vec<(f64, f32)>,
    stop: &'a Stop<'a>,
}

impl<'a> Scan<'a> {
    /// The first pass, which uses `found` (as the plain search does, and leaves it empty) to keep candidates. `None` if a
    /// query cannot be projected.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        pool: &Pool,
        isa: InstructionSet,
        projection: &'a Projection,
        rows: &'a Rows,
        (plan, x): (&'a Plan, &'a [f64]),
        wanted: Wanted<'_>,
        found: &mut [Vec<Neighbour>],
        stop: &'a Stop<'a>,
    ) -> Result<Option<Self>> {
        let Some(projected) = projection.project(isa, x, rows.mean())? else { return Ok(None) };
        let queries = x.len() / plan.stride;
        let mut limits = try_vec(queries, (0.0, 0.0), "one value per query")?;
        let chunks = plan.chunks();
        let k = if let Wanted::Nearest(k) = wanted { k } else { 1 };
        // Twice as many as are needed, since they do not lie evenly; chunks but the last are alike and larger than that.
        let seeds = (2 * k).div_ceil(chunks);
        let mut scan = Self { projection, rows, plan, x, projected, limits: Vec::new(), stop };
        {
            let found = Parts::new(found);
            let tasks = queries.div_ceil(Plan::GROUP) * chunks;
            pool.run(tasks, queries * rows.len() * COARSE / 8, |task| {
                let (g, c) = (task / chunks, task % chunks);
                let queries = group_of(g, queries);
                let at = queries.start * chunks + c * queries.len();
                // SAFETY: each task has its own part, and `found` outlives `run`.
                let found = unsafe { found.part(at..at + queries.len()) };
                isa.run(Bounds { scan: &scan, chunk: plan.chunk_range(c), queries, seeds, found });
            })?;
        }
        let (found, parts) = (Parts::new(found), Parts::new(&mut limits));
        pool.run(queries, queries * k * plan.stride, |b| {
            let group = group_of(b / Plan::GROUP, queries);
            let mut nearest: Vec<Neighbour> = Vec::new();
            for c in 0..chunks {
                let at = group.start * chunks + c * group.len() + b % Plan::GROUP;
                // SAFETY: the candidates and the threshold of query b are this task's alone.
                nearest.append(&mut unsafe { found.part(at..at + 1) }[0].drain(..).collect());
            }
            nearest.sort_unstable();
            nearest.truncate(k);
            let mut row = vec![0.0; plan.stride];
            let farthest = nearest.iter().fold(0.0, |far: f64, n| {
                rows.decode(n.index as usize, &mut row[..rows.dim()]);
                let x = &x[b * plan.stride..(b + 1) * plan.stride];
                far.max(isa.run(Measure { x, row: &row, plan }))
            });
            let limit = match wanted {
                Wanted::Nearest(_) => farthest,
                Wanted::Within(margin) => farthest + margin[b],
            };
            // SAFETY: as above.
            unsafe { parts.part(b..b + 1)[0] = (limit, scan.projected.threshold(b, limit)) };
        })?;
        scan.limits = limits;
        Ok(Some(scan))
    }

    /// Looks for no row for query `b`.
    pub fn leave_out(&mut self, b: usize) {
        self.limits[b] = (-1.0, f32::NEG_INFINITY);
    }

    /// About how many rows the second pass would measure for each query: counted on some of the rows, always the same.
    pub fn expected(&self, pool: &Pool, isa: InstructionSet) -> Result<Vec<usize>> {
        const EVERY: usize = 16;
        let queries = self.limits.len();
        let mut counts = try_vec(queries, 0, "one value per query")?;
        let parts = Parts::new(&mut counts);
        pool.run(queries.div_ceil(Plan::GROUP), queries * self.rows.len() * COARSE / 8 / EVERY, |g| {
            let queries = group_of(g, queries);
            // SAFETY: each task has its own queries.
            let counts = unsafe { parts.part(queries.clone()) };
            isa.run(Count { scan: self, every: EVERY, queries, counts });
        })?;
        counts.iter_mut().for_each(|count| *count *= EVERY);
        Ok(counts)
    }

    /// The second pass of a group of queries over chunk `c`: measures what the bounds leave, into `found`, each of which
    /// keeps the nearest rows that it has room for. `row` is room for decoded rows.
    pub fn measure(
        &self,
        isa: InstructionSet,
        c: usize,
        queries: Range<usize>,
        found: &mut [Vec<Neighbour>],
        row: &mut [f64],
    ) {
        isa.run(Survivors { scan: self, chunk: self.plan.chunk_range(c), queries, found, row });
    }

    /// Which queries ask for each row, a bit for each query of the group: a row is then decoded once for all of them.
    ///
    /// # Safety
    /// See [`super::vector`].
    #[inline(always)]
    unsafe fn ask<S: Isa>(
        &self,
        queries: &Range<usize>,
        rows: &Range<usize>,
        scores: &mut [f32],
        asked: &mut [u64; ROWS],
    ) {
        asked.fill(0);
        let stride = rows.len().next_multiple_of(BLOCK);
        for (b, scores) in scores.chunks_exact_mut(stride).enumerate().take(queries.len()) {
            let query = queries.start + b;
            let limit = self.limits[query].1;
            for (i, scores) in scores.chunks_exact_mut(BLOCK).enumerate() {
                if !scores.iter().fold(false, |any, &s| any | (s <= limit)) {
                    continue;
                }
                // SAFETY: the instruction set is the caller's promise.
                unsafe { self.projection.refine::<S>(self.fine(query), rows.start / BLOCK + i, scores) };
                for (asked, &score) in asked[i * BLOCK..].iter_mut().zip(&*scores) {
                    *asked |= u64::from(score <= limit) << b;
                }
            }
        }
    }

    fn coarse(&self, queries: &Range<usize>) -> &[f32] {
        &self.projected.coarse[queries.start * COARSE..queries.end * COARSE]
    }

    fn fine(&self, query: usize) -> &[f32] {
        &self.projected.fine[query * FINE..(query + 1) * FINE]
    }
}

/// The stretches of a chunk, [`ROWS`] rows each but for the last.
fn stretches(chunk: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let end = chunk.end;
    chunk.step_by(ROWS).map(move |from| from..(from + ROWS).min(end))
}

/// The blocks of a stretch: chunks begin at a block.
fn blocks(rows: &Range<usize>) -> Range<usize> {
    rows.start / BLOCK..rows.end.div_ceil(BLOCK)
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

/// Some of the smallest bounds of a chunk for each query of a group.
struct Bounds<'a> {
    scan: &'a Scan<'a>,
    chunk: Range<usize>,
    queries: Range<usize>,
    seeds: usize,
    found: &'a mut [Vec<Neighbour>],
}

impl Kernel for Bounds<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Isa>(self) {
        let Self { scan, chunk, queries, seeds, found } = self;
        let mut heaps: Vec<BinaryHeap<Neighbour>> = found.iter_mut().map(|f| std::mem::take(f).into()).collect();
        let mut scores = [0.0; Plan::GROUP * ROWS];
        for rows in stretches(chunk) {
            if scan.stop.now() {
                break;
            }
            // SAFETY: the instruction set is this function's own precondition.
            unsafe { scan.projection.scores::<S>(scan.coarse(&queries), blocks(&rows), &mut scores) };
            let stride = rows.len().next_multiple_of(BLOCK);
            for (heap, scores) in heaps.iter_mut().zip(scores.chunks_exact(stride)) {
                keep(heap, seeds, rows.start, &scores[..rows.len()]);
            }
        }
        for (found, heap) in found.iter_mut().zip(heaps) {
            *found = heap.into_vec();
        }
    }
}

/// Keeps the k smallest scores.
#[inline(always)]
fn keep(heap: &mut BinaryHeap<Neighbour>, k: usize, first: usize, scores: &[f32]) {
    const LANES: usize = 16;
    for (i, part) in scores.chunks(LANES).enumerate() {
        let worst = if heap.len() < k { f32::INFINITY } else { heap.peek().map_or(f32::INFINITY, |n| n.d2 as f32) };
        // Most parts hold nothing: one comparison of them all.
        if !part.iter().fold(false, |any, &s| any | (s < worst)) {
            continue;
        }
        for (j, &score) in part.iter().enumerate() {
            let row = Neighbour { d2: f64::from(score), index: (first + i * LANES + j) as u32 };
            if heap.len() < k {
                heap.push(row);
            } else if let Some(mut worst) = heap.peek_mut()
                && row.d2 < worst.d2
            {
                *worst = row;
            }
        }
    }
}

/// The rows that the bounds leave of every so manieth stretch of the data, counted.
struct Count<'a> {
    scan: &'a Scan<'a>,
    every: usize,
    queries: Range<usize>,
    counts: &'a mut [usize],
}

impl Kernel for Count<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Isa>(self) {
        let Self { scan, every, queries, counts } = self;
        let (mut scores, mut asked) = ([0.0; Plan::GROUP * ROWS], [0; ROWS]);
        for rows in stretches(0..scan.rows.len()).step_by(every) {
            if scan.stop.now() {
                break;
            }
            // SAFETY: the instruction set is this function's own precondition.
            unsafe {
                scan.projection.scores::<S>(scan.coarse(&queries), blocks(&rows), &mut scores);
                scan.ask::<S>(&queries, &rows, &mut scores, &mut asked);
            }
            for (b, count) in counts.iter_mut().enumerate() {
                *count += asked.iter().filter(|&asked| asked >> b & 1 == 1).count();
            }
        }
    }
}

/// The rows of a chunk that the bounds leave, measured.
struct Survivors<'a> {
    scan: &'a Scan<'a>,
    chunk: Range<usize>,
    queries: Range<usize>,
    found: &'a mut [Vec<Neighbour>],
    row: &'a mut [f64],
}

impl Kernel for Survivors<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Isa>(self) {
        let Self { scan, chunk, queries, found, row } = self;
        let Scan { rows: data, plan, x, ref limits, .. } = *scan;
        let room: Vec<usize> = found.iter().map(Vec::capacity).collect();
        let mut heaps: Vec<BinaryHeap<Neighbour>> = found.iter_mut().map(|f| std::mem::take(f).into()).collect();
        let x = &x[queries.start * plan.stride..queries.end * plan.stride];
        let mut asked = [0_u64; ROWS];
        let mut pairs = Vec::with_capacity(row.len() / plan.stride * queries.len());
        let mut indices = vec![0; row.len() / plan.stride];
        let mut into = Into { room: &room, limits: &limits[queries.clone()], heaps: &mut heaps };
        let mut scores = [0.0; Plan::GROUP * ROWS];
        for rows in stretches(chunk) {
            if scan.stop.now() {
                break;
            }
            // SAFETY: the instruction set is this function's own precondition.
            unsafe {
                scan.projection.scores::<S>(scan.coarse(&queries), blocks(&rows), &mut scores);
                scan.ask::<S>(&queries, &rows, &mut scores, &mut asked);
            }
            let mut slot = 0;
            for (n, &asked) in rows.zip(&asked) {
                if asked == 0 {
                    continue;
                }
                data.decode(n, &mut row[slot * plan.stride..][..data.dim()]);
                let mut left = asked;
                while left != 0 {
                    pairs.push((left.trailing_zeros(), slot as u32));
                    left &= left - 1;
                }
                indices[slot] = n as u32;
                slot += 1;
                if slot == indices.len() {
                    // SAFETY: as above.
                    unsafe { measure::<S>(x, row, plan, &pairs, &indices, &mut into) };
                    pairs.clear();
                    slot = 0;
                }
            }
            // SAFETY: as above.
            unsafe { measure::<S>(x, row, plan, &pairs, &indices, &mut into) };
            pairs.clear();
        }
        for (found, heap) in found.iter_mut().zip(heaps) {
            *found = heap.into_vec();
        }
    }
}

/// Where what is measured goes.
struct Into<'a> {
    room: &'a [usize],
    limits: &'a [(f64, f32)],
    heaps: &'a mut [BinaryHeap<Neighbour>],
}

/// Measures pairs of a query and a decoded row, whose indices in the data set are `indices`, for the queries' heaps.
#[inline(always)]
unsafe fn measure<S: Isa>(
    x: &[f64],
    rows: &[f64],
    plan: &Plan,
    pairs: &[(u32, u32)],
    indices: &[u32],
    into: &mut Into<'_>,
) {
    const TOGETHER: usize = 64;
    let mut d2 = [0.0; TOGETHER];
    for pairs in pairs.chunks(TOGETHER) {
        // SAFETY: the instruction set is the caller's promise.
        unsafe { pair_list::<S::Double, SquaredDifference>(x, rows, pairs, plan.stride, &mut d2[..pairs.len()]) };
        for (&(b, slot), &d2) in pairs.iter().zip(&d2) {
            let found = Neighbour { d2, index: indices[slot as usize] };
            if d2 > into.limits[b as usize].0 {
                continue;
            }
            let heap = &mut into.heaps[b as usize];
            // Rows come in index order, so an equal distance never displaces an earlier row.
            if heap.len() < into.room[b as usize] {
                heap.push(found);
            } else if let Some(mut worst) = heap.peek_mut()
                && d2 < worst.d2
            {
                *worst = found;
            }
        }
    }
}

/// The queries of group `g` in a wave of `len`.
pub fn group_of(g: usize, len: usize) -> Range<usize> {
    (g * Plan::GROUP).min(len)..((g + 1) * Plan::GROUP).min(len)
}
