//! Queries so near to the data that few rows have weight: bounds find those rows, and they are summed one by one.
//!
//! The rows that count are those with h (|x - y|² - best) ≤ cut, measured by differences in float64 and taken in index
//! order; the bounds only save work, so no bit depends on them. Everything is formed about the best row. Which queries are
//! answered so depends on the query and the data alone, never on a hint.
//!
//! Memory: 8 bytes for each row that may count, at most [`FOUND_BYTES`] or one query's if that is more (16 bytes times N);
//! far less where queries are answered so in the end.

use super::super::bounds::Bounds;
use super::super::pool::{Parts, Pool};
use super::super::survivors::{Candidate, Found, Scan, Wanted};
use super::super::tile::{Buffer, Plan, SquaredDifference, pack, pair_list};
use super::super::vector::Isa;
use super::super::{InstructionSet, Kernel};
use super::certificate::Arithmetic;
use super::route::{NO_WEIGHT, Route};
use super::sums::{Running, Sums, exp_neg};
use super::{Merge, Results};
use crate::engine::{Moments, Query};
use crate::error::{Error, Result, per_row, try_vec};
use crate::exec::Exec;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// A query to which the bounds leave more than one in so many rows is answered by the dense pass, which costs no more then.
/// They are counted on a sample, by codes alone and when the smallest distance is known: neither the other queries nor the
/// order of threads decides.
const SHARE: usize = 8;
/// The same where the dense pass is by integer products.
const SHARE_OF_TILES: usize = 32;
/// One to which they leave more than one in so many before the smallest distance is known, only one that is near it, is given
/// up at once.
const HOPELESS: usize = 4;
/// What the found rows of a wave may take if every row is near to every query.
const FOUND_BYTES: usize = 256 << 20;

/// Answers the queries `ids`; returns those that have too many rows near them.
#[allow(clippy::too_many_arguments)]
pub fn run(
    pool: &Pool,
    isa: InstructionSet,
    bounds: &Bounds,
    query: &Query<'_>,
    ids: &[usize],
    wanted: bool,
    tiles: bool,
    cut: f64,
    out: &mut Moments<'_>,
    exec: &Exec<'_>,
) -> Result<Vec<usize>> {
    let rows = query.rows;
    let share = if tiles { SHARE_OF_TILES } else { SHARE };
    let plan = Plan::new(rows.len(), rows.dim());
    let chunks = plan.chunks();
    let wave = (FOUND_BYTES / (2 * rows.len() * size_of::<Candidate>())).clamp(1, 4 * Plan::GROUP);
    let route = Route::near(wanted);
    let mut left = Vec::new();
    let width = if wanted { 3 * plan.stride } else { 0 };
    let scratch = Mutex::new(
        (0..pool.threads())
            .map(|_| Ok((Buffer::zeros(plan.tile * plan.stride, "decoded tile")?, try_vec(width, 0.0, "sums")?)))
            .collect::<Result<Vec<_>>>()?,
    );
    let with_scratch = |work: &mut dyn FnMut(&mut Buffer<f64>, &mut Vec<f64>)| {
        let spare = scratch.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop();
        let Some((mut tile, mut vectors)) = spare else { unreachable!("one scratch per thread") };
        work(&mut tile, &mut vectors);
        scratch.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((tile, vectors));
    };
    for (w, ids) in ids.chunks(wave).enumerate() {
        exec.report((w * wave) as u64, query.x.rows() as u64)?;
        let x = pack(query.x, ids, plan.stride)?;
        let margin = |i: usize| cut.min(NO_WEIGHT) / (0.5 * query.precision[ids[i]]);
        let stop = exec.stop(rows);
        let within = Wanted::Within(per_row(ids.len(), margin)?);
        let Some(mut scan) = Scan::new(isa, bounds, rows, (&plan, x), within, &stop)? else {
            left.extend_from_slice(ids);
            continue;
        };
        scan.begin(pool, isa)?;
        scan.count(pool, isa, true)?;
        stop.check()?;
        scan.drop_beyond(rows.len() / HOPELESS);
        if let Some(trail) = exec.trail {
            with_scratch(&mut |tile, _| {
                for (b, row) in ids.iter().enumerate().filter_map(|(b, &id)| Some((b, trail.get(id)?))) {
                    scan.hint(isa, b, row, tile);
                }
            });
        }
        // [chunk][query]
        let mut found = try_vec(ids.len() * chunks, Found::default(), "rows near a sample")?;
        let parts = Parts::new(&mut found);
        pool.run(chunks, ids.len() * rows.len(), |c| {
            // SAFETY: each task has its own part, and `found` outlives `run`.
            let found = unsafe { parts.part(c * ids.len()..(c + 1) * ids.len()) };
            with_scratch(&mut |tile, _| scan.measure(isa, c, found, tile));
        })?;
        stop.check()?;
        scan.check()?;
        scan.count(pool, isa, false)?;
        stop.check()?;
        let lacking = AtomicBool::new(false);

        let tangent = query.tangent.map(|v| pack(v, ids, plan.stride)).transpose()?;
        let mut too_many = try_vec(ids.len(), false, "one value per sample")?;
        let (flags, results) = (Parts::new(&mut too_many), Results::new(out, exec.trail, rows.dim()));
        pool.run(ids.len(), ids.len() * plan.stride * 64, |i| {
            // SAFETY: what was found for query i, its flag and its outputs are this task's alone.
            let of_chunk = |c: usize| unsafe { &parts.part(c * ids.len() + i..c * ids.len() + i + 1)[0] };
            if scan.is_dropped(i) || scan.expected(i) > rows.len() / share {
                // SAFETY: as above.
                unsafe { flags.part(i..i + 1)[0] = true };
                return;
            }
            let (best, of_best, most) = scan.nearest(i);
            let Some(candidates) = candidates(chunks, of_chunk, most) else {
                return lacking.store(true, Ordering::Relaxed);
            };
            let merge = Merge {
                query,
                stride: plan.stride,
                x: &scan.x[i * plan.stride..(i + 1) * plan.stride],
                tangent: tangent.as_ref().map(|v| &v[i * plan.stride..(i + 1) * plan.stride]),
                h: 0.5 * query.precision[ids[i]],
                route,
                arithmetic: Arithmetic::list(isa, 0, rows.len(), cut),
            };
            with_scratch(&mut |tile, vectors| {
                let add = Add { merge: &merge, best, of_best, cut, candidates: &candidates, tile, vectors };
                let (running, count) = isa.run(add);
                // By the rows that count: how many candidates there were is chance.
                let merge = Merge { arithmetic: Arithmetic::list(isa, count, rows.len(), cut), ..merge };
                let mut running = [running];
                // One "chunk", whose results are the total.
                let (running, sums) = (Parts::new(&mut running), Parts::new(vectors));
                // SAFETY: as above.
                unsafe { merge.finish(1, |_| (running.part(0..1), sums.part(0..width)), &results, ids[i]) };
            });
        })?;
        if lacking.into_inner() {
            return Err(Error::NoMemory("the rows near a sample: no memory".into()));
        }
        left.extend(ids.iter().zip(too_many).filter(|(_, too_many)| *too_many).map(|(&id, _)| id));
    }
    Ok(left)
}

/// The rows found in the chunks whose scores are at most `most`, in index order; `None` if memory lacks.
fn candidates<'a>(chunks: usize, found: impl Fn(usize) -> &'a Found, most: f32) -> Option<Vec<Candidate>> {
    let mut all = Vec::new();
    for c in 0..chunks {
        let candidates = || found(c).candidates.iter().filter(|c| c.score <= most);
        all.try_reserve(candidates().count()).ok()?;
        all.extend(candidates());
    }
    all.sort_unstable_by_key(|c: &Candidate| c.index);
    Some(all)
}

/// The sums over the rows near one query.
struct Add<'a, 'q> {
    merge: &'a Merge<'q>,
    /// The smallest squared distance, and the largest score of a row that may have it.
    best: f64,
    of_best: f32,
    cut: f64,
    candidates: &'a [Candidate],
    tile: &'a mut [f64],
    vectors: &'a mut [f64],
}

/// Candidates that are decoded together, few enough for the first-level cache, and as pairs of the one query and a slot.
const TOGETHER: usize = 4;
const PAIRS: [(u32, u32); TOGETHER] = [(0, 0), (0, 1), (0, 2), (0, 3)];

impl Add<'_, '_> {
    /// Decodes up to [`TOGETHER`] rows, into slots of the tile, and measures them.
    #[inline(always)]
    unsafe fn measure<S: Isa>(&mut self, candidates: &[Candidate]) -> [f64; TOGETHER] {
        let Merge { query, stride, x, .. } = *self.merge;
        for (row, c) in self.tile.chunks_exact_mut(stride).zip(candidates) {
            query.rows.decode(c.index as usize, &mut row[..query.rows.dim()]);
        }
        let mut d2 = [0.0; TOGETHER];
        let out = &mut d2[..candidates.len()];
        // SAFETY: the instruction set is the caller's promise.
        unsafe { pair_list::<S::Double, SquaredDifference>(x, self.tile, &PAIRS[..out.len()], stride, out) };
        d2
    }
}

impl Kernel for Add<'_, '_> {
    /// The sums, and over how many rows.
    type Output = (Running, usize);

    #[inline(always)]
    unsafe fn run<S: Isa>(mut self) -> (Running, usize) {
        const LANES: usize = 16;
        let Merge { query, stride, tangent, h, .. } = *self.merge;
        let (best, of_best, candidates) = (self.best, self.of_best, self.candidates);
        let mut run = Running { best, included: 1.0, ..Running::START };
        let mut count = 1;
        for c in candidates.iter().filter(|c| c.score <= of_best) {
            // SAFETY: the instruction set is this function's own precondition.
            if unsafe { self.measure::<S>(std::slice::from_ref(c)) }[0] == best {
                run.index = c.index as usize;
                break;
            }
        }
        self.vectors.fill(0.0);
        if !self.vectors.is_empty() {
            query.rows.decode(run.index, &mut Sums::of(self.vectors, stride).centre[..query.rows.dim()]);
        }
        for candidates in candidates.chunks(TOGETHER) {
            // SAFETY: as above.
            let d2 = unsafe { self.measure::<S>(candidates) };
            for ((c, d2), row) in candidates.iter().zip(d2).zip(self.tile.chunks_exact_mut(stride)) {
                if h * (d2 - best) > self.cut || c.index as usize == run.index {
                    continue;
                }
                let w = exp_neg::<S>(h * (d2 - best));
                run.rest += w;
                count += 1;
                run.excess = S::mul_add(w, d2 - best, run.excess);
                if self.vectors.is_empty() {
                    continue;
                }
                let sums = Sums::of(self.vectors, stride);
                let Some(v) = tangent else {
                    let terms = sums.mean.iter_mut().zip(row.iter().zip(&*sums.centre));
                    terms.for_each(|(sum, (y, c))| *sum = S::mul_add(w, y - c, *sum));
                    continue;
                };
                row.iter_mut().zip(&*sums.centre).for_each(|(y, c)| *y -= c);
                sums.mean.iter_mut().zip(&*row).for_each(|(sum, y)| *sum = S::mul_add(w, *y, *sum));
                let mut lanes = [0.0; LANES];
                for (y, v) in row.chunks_exact(LANES).zip(v.chunks_exact(LANES)) {
                    for l in 0..LANES {
                        lanes[l] = S::mul_add(y[l], v[l], lanes[l]);
                    }
                }
                let along = w * lanes.iter().sum::<f64>();
                run.slope += along;
                sums.product.iter_mut().zip(&*row).for_each(|(sum, y)| *sum = S::mul_add(along, *y, *sum));
            }
        }
        run.included += run.rest;
        (run, count)
    }
}
