//! The search itself: rows that may be near enough are measured, or kept with their bounds.

use super::super::directions::BLOCK;
use super::super::tile::{Plan, SquaredDifference, pair_list};
use super::super::vector::Isa;
use super::super::{InstructionSet, Kernel};
use super::{Among, Candidate, Found, Neighbour, ROWS, Scan, Wanted, group_of};
use crate::error::{Error, Result, per_row, try_vec};
use std::ops::Range;
use std::sync::atomic::Ordering;

impl Scan<'_> {
    /// Searches chunk `c`, into `found`. `row` is room for decoded rows.
    pub fn measure(&self, isa: InstructionSet, c: usize, found: &mut [Found], row: &mut [f64]) {
        if isa.run(Survivors { scan: self, chunk: self.plan.chunk_range(c), found, row }).is_err() {
            self.lacking.store(true, Ordering::Relaxed);
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
        let by_coarse = per_row(groups, |g| scan.coarse_pays(group_of(g, scan.limits.len())))?;
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
            let keeps = matches!(scan.wanted, Wanted::Within(_));
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
            unsafe { scan.look::<S>(&queries, blocks, &thresholds, by_coarse[g], on_tiles.as_mut(), &mut left, sort) };
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
