//! Queries so near to the data that few rows have weight: bounds find those rows, and they are summed one by one.
//!
//! The rows that count are those with h (|x - y|² - best) ≤ cut, measured by differences in float64 and taken in index
//! order; the bounds only save work, so no bit depends on them. Everything is formed about the best row.
//!
//! Memory: at most [`super::WAVE_BYTES`] of found rows, or one query's if that is more (2 bytes times N).

use super::super::pool::{Parts, Pool};
use super::super::projection::Projection;
use super::super::survivors::{Neighbour, Scan, Wanted, group_of};
use super::super::tile::{Buffer, Plan, pack};
use super::super::vector::Isa;
use super::super::{InstructionSet, Kernel};
use super::route::{NO_WEIGHT, Route};
use super::sums::{Running, Sums, exp_neg};
use super::{Merge, Results, WAVE_BYTES};
use crate::engine::{Moments, Query};
use crate::error::{Result, per_row, try_vec};
use crate::exec::Exec;
use std::sync::Mutex;

/// A query near to more than one in so many rows of a chunk, or expected to be near to one in so many of all rows, is
/// answered by the dense pass, which costs no more then.
const SHARE: usize = 8;
const EXPECTED_SHARE: usize = 32;

/// Answers the queries `ids`; returns those that have too many rows near them.
#[allow(clippy::too_many_arguments)]
pub fn run(
    pool: &Pool,
    isa: InstructionSet,
    projection: &Projection,
    query: &Query<'_>,
    ids: &[usize],
    wanted: bool,
    cut: f64,
    out: &mut Moments<'_>,
    exec: &Exec<'_>,
) -> Result<Vec<usize>> {
    let rows = query.rows;
    let plan = Plan::new(rows.len(), rows.dim());
    let chunks = plan.chunks();
    let room = |c: usize| plan.chunk_range(c).len() / SHARE + 1;
    let per_query = (0..chunks).map(room).sum::<usize>() * size_of::<Neighbour>();
    let wave = (WAVE_BYTES / per_query).clamp(1, 4 * Plan::GROUP);
    let route = Route::near(wanted);
    let mut left = Vec::new();
    let threads = pool.threads();
    let scratch = Mutex::new(
        (0..threads)
            .map(|_| {
                let vectors = try_vec(if wanted { 3 * plan.stride } else { 0 }, 0.0, "sums")?;
                Ok((Buffer::zeros(plan.tile * plan.stride, "decoded tile")?, vectors))
            })
            .collect::<Result<Vec<_>>>()?,
    );
    for (w, ids) in ids.chunks(wave).enumerate() {
        exec.report((w * wave) as u64, query.x.rows() as u64)?;
        let x = pack(query.x, ids, plan.stride)?;
        let tangent = query.tangent.map(|v| pack(v, ids, plan.stride)).transpose()?;
        let margins = per_row(ids.len(), |i| cut.min(NO_WEIGHT) / (0.5 * query.precision[ids[i]]))?;
        let groups = ids.len().div_ceil(Plan::GROUP);
        let mut found = Vec::new();
        for g in 0..groups {
            for c in 0..chunks {
                for _ in group_of(g, ids.len()) {
                    let mut v = try_vec(room(c), Neighbour { d2: 0.0, index: 0 }, "rows near a sample")?;
                    v.clear();
                    found.push(v);
                }
            }
        }
        let stop = exec.stop();
        let wanted_rows = Wanted::Within(&margins);
        let scan = Scan::new(pool, isa, projection, rows, (&plan, &x), wanted_rows, &mut found, &stop)?;
        stop.check()?;
        let Some(mut scan) = scan else {
            left.extend_from_slice(ids);
            continue;
        };
        for (b, expected) in scan.expected(pool, isa)?.into_iter().enumerate() {
            if expected > rows.len() / EXPECTED_SHARE {
                scan.leave_out(b);
            }
        }
        stop.check()?;
        let (parts, free) = (Parts::new(&mut found), &scratch);
        let with_scratch = |work: &mut dyn FnMut(&mut Buffer<f64>, &mut Vec<f64>)| {
            let spare = free.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop();
            let Some((mut tile, mut vectors)) = spare else { unreachable!("one scratch per thread") };
            work(&mut tile, &mut vectors);
            free.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((tile, vectors));
        };
        pool.run(groups * chunks, ids.len() * rows.len(), |task| {
            let (g, c) = (task / chunks, task % chunks);
            let queries = group_of(g, ids.len());
            let at = queries.start * chunks + c * queries.len();
            // SAFETY: each task has its own part, and `found` outlives `run`.
            let found = unsafe { parts.part(at..at + queries.len()) };
            with_scratch(&mut |tile, _| scan.measure(isa, c, queries.clone(), found, tile));
        })?;
        stop.check()?;

        let mut too_many = try_vec(ids.len(), false, "one value per sample")?;
        let (flags, results) = (Parts::new(&mut too_many), Results::new(out, rows.dim()));
        pool.run(ids.len(), ids.len() * plan.stride * 64, |i| {
            let group = group_of(i / Plan::GROUP, ids.len());
            let at = |c: usize| group.start * chunks + c * group.len() + i % Plan::GROUP;
            // SAFETY: what was found for query i, its flag and its outputs are this task's alone.
            unsafe {
                let mut near = Vec::new();
                for c in 0..chunks {
                    let found = &parts.part(at(c)..at(c) + 1)[0];
                    if found.len() == found.capacity() || near.try_reserve(found.len()).is_err() {
                        flags.part(i..i + 1)[0] = true;
                        return;
                    }
                    near.extend_from_slice(found);
                }
                if near.is_empty() {
                    flags.part(i..i + 1)[0] = true;
                    return;
                }
                with_scratch(&mut |tile, vectors| {
                    let merge = Merge {
                        query,
                        stride: plan.stride,
                        x: &x[i * plan.stride..(i + 1) * plan.stride],
                        tangent: tangent.as_ref().map(|v| &v[i * plan.stride..(i + 1) * plan.stride]),
                        h: 0.5 * query.precision[ids[i]],
                        route,
                    };
                    let mut running = [isa.run(Add { merge: &merge, near: &mut near, cut, tile, vectors })];
                    // One "chunk", whose results are the total.
                    let running = Parts::new(&mut running);
                    let sums = Parts::new(vectors);
                    let chunk = |_| (running.part(0..1), sums.part(0..if wanted { 3 * plan.stride } else { 0 }));
                    merge.finish(1, chunk, &results, ids[i]);
                });
            }
        })?;
        left.extend(ids.iter().zip(too_many).filter(|(_, too_many)| *too_many).map(|(&id, _)| id));
    }
    Ok(left)
}

/// The sums over the rows near one query.
struct Add<'a, 'q> {
    merge: &'a Merge<'q>,
    near: &'a mut Vec<Neighbour>,
    cut: f64,
    tile: &'a mut [f64],
    vectors: &'a mut [f64],
}

impl Kernel for Add<'_, '_> {
    type Output = Running;

    #[inline(always)]
    unsafe fn run<S: Isa>(self) -> Running {
        let Self { merge, near, cut, tile, vectors } = self;
        let Merge { query, stride, tangent, h, .. } = *merge;
        let Some(&best) = near.iter().min() else { unreachable!("the first pass measured a row") };
        near.retain(|n| h * (n.d2 - best.d2) <= cut && n.index != best.index);
        near.sort_unstable_by_key(|n| n.index);
        let mut run = Running { best: best.d2, index: best.index as usize, included: 1.0, ..Running::START };
        for n in &*near {
            let w = exp_neg::<S>(h * (n.d2 - best.d2));
            run.rest += w;
            run.excess = S::mul_add(w, n.d2 - best.d2, run.excess);
        }
        run.included += run.rest;
        if vectors.is_empty() {
            return run;
        }
        vectors.fill(0.0);
        let sums = Sums::of(vectors, stride);
        query.rows.decode(run.index, &mut sums.centre[..query.rows.dim()]);
        let row = &mut tile[..stride];
        for n in &*near {
            let w = exp_neg::<S>(h * (n.d2 - best.d2));
            query.rows.decode(n.index as usize, &mut row[..query.rows.dim()]);
            row.iter_mut().zip(&*sums.centre).for_each(|(y, c)| *y -= c);
            sums.mean.iter_mut().zip(&*row).for_each(|(sum, y)| *sum = S::mul_add(w, *y, *sum));
            if let Some(v) = tangent {
                const LANES: usize = 16;
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
        run
    }
}
