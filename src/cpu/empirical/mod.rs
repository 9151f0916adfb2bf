//! The fused pass behind every empirical score: squared distances, running softmax and weighted mean in one sweep over
//! the data (reg 3.8; `score::empirical` has the mathematics).
//!
//! Queries to which few rows are near are answered by [`near`], the others by a pass over all rows: [`route`] says in which
//! arithmetic a query is answered, [`chunk`] is the kernel, [`means`] its second product, [`sums`] what it accumulates; here
//! the work is dealt out and the chunks' results are joined. Every sum runs in an order that follows from the data set alone
//! (see [`Plan`]): tiles within a chunk, then chunks.
//!
//! Memory: per thread a tile of max(400 KiB / 4d, 16) rows in up to three forms (20 bytes a number), in whole numbers one of
//! 256 rows in two (2 bytes a number), and `128 × tile` distances and weights; per wave at most [`WAVE_BYTES`] of chunk
//! results, or one query's if that is more (`32 chunks × 2d` numbers, 3d for a JVP). Nothing is of size batch × N.

mod certificate;
mod chunk;
mod integer;
mod means;
mod near;
mod route;
mod small;
mod sums;

use super::InstructionSet;
use super::bounds::Bounds;
use super::pool::{Parts, Pool};
use super::tile::{Buffer, Plan, pack};
use super::vector::Portable;
use crate::dataset::Decoding;
use crate::engine::{Grade, Moments, Query};
use crate::error::{Result, per_row, try_collect, try_vec};
use crate::exec::{Exec, Trail};
use crate::tensor::Dtype;
use certificate::{Arithmetic, Certificate, Position};
use chunk::{ChunkTask, Packed, Scratch, group, needs_double, needs_integer, needs_single};
use route::{Asked, Mean, Route, WEIGHTS_SINGLE};
use std::sync::Mutex;
use sums::{Running, Sums, exp_neg};

/// Chunk results kept at a time.
const WAVE_BYTES: usize = 64 << 20;

/// A query of the batch and the route it takes.
type Routed = (usize, Route);

/// See [`crate::engine::Engine::empirical`].
pub fn run(
    pool: &Pool,
    isa: InstructionSet,
    limit: Option<u64>,
    query: &Query<'_>,
    mut out: Moments<'_>,
    exec: &Exec<'_>,
) -> Result<()> {
    let wanted = out.mean.is_some()
        || out.offset.is_some()
        || out.covariance_product.is_some()
        || out.covariance_trace.is_some();
    // tr C is a difference of terms as large as |ȳ - x| times the error of ȳ: far from the data it needs ȳ in float64.
    let grade = if out.covariance_trace.is_some() { Grade::Double } else { query.grade };
    let query = &Query { grade, ..*query };
    let len = query.subset.map_or(query.rows.len(), <[u32]>::len);
    let cut = if query.tolerance > 0.0 { (len as f64 / query.tolerance).ln() } else { f64::INFINITY };
    if small::run(pool, isa, limit, query, wanted, cut, &mut out, exec)? {
        return Ok(());
    }
    let d = query.rows.dim();
    let squared_norms = per_row(query.x.rows(), |i| {
        let x = &query.x.host()[i * d..(i + 1) * d];
        x.iter().zip(query.rows.mean()).map(|(x, m)| (x - m) * (x - m)).sum::<f64>()
    })?;
    let tiles = isa == InstructionSet::Amx && query.rows.dtype() == Dtype::U8;
    let asked = |i: usize| {
        let x = query.x.host()[i * d..(i + 1) * d].iter().zip(query.rows.mean());
        Asked {
            precision: query.precision[i],
            distance: squared_norms[i].sqrt(),
            largest: x.fold(0.0, |a: f64, (x, m)| a.max((x - m).abs())),
            tiles,
        }
    };
    let first = |i: usize| Route::first(query, wanted, &asked(i), cut);
    let mut dense = per_row(query.x.rows(), |i| i)?;
    if query.subset.is_none() {
        // Each query by itself: bounds are float32 numbers, which one from too far away would overflow.
        const FAR: f64 = 1e29;
        let few = |i: &usize| Route::perhaps_few(query, query.precision[*i], cut) && squared_norms[*i] < FAR;
        let near: Vec<usize> = dense.iter().copied().filter(few).collect();
        // Made at the first such query, whatever the batch: which rows count, and so the bits, depend on it.
        if !near.is_empty()
            && let Some(bounds) = Bounds::of(pool, isa, query.rows, None, limit)?
        {
            dense.retain(|i| !few(i));
            dense.extend(near::run(pool, isa, bounds, query, &near, wanted, tiles, cut, &mut out, exec)?);
        }
    }
    let mut routed: Vec<Routed> = per_row(dense.len(), |i| (dense[i], first(dense[i])))?;
    if routed.is_empty() {
        return exec.report(query.x.rows() as u64, query.x.rows() as u64);
    }
    let mut redo = passes(pool, isa, query, &mut routed, &squared_norms, cut, &mut out, exec)?;
    // A query whose |ȳ - x| turned out too small for its route takes the next one, at most three times. Progress counts a
    // query once.
    while redo.contains(&true) {
        let again = redo.iter().filter(|again| **again).count();
        let next = |(i, route): Routed| (i, route.next(query, wanted, &asked(i), cut));
        let left = routed.iter().zip(&redo).filter(|(_, again)| **again).map(|(r, _)| Ok(next(*r)));
        routed = try_collect(again, left, "one value per sample")?;
        redo = passes(pool, isa, query, &mut routed, &squared_norms, cut, &mut out, &exec.quiet())?;
    }
    exec.report(query.x.rows() as u64, query.x.rows() as u64)
}

fn pack_queries(
    query: &Query<'_>,
    ids: &[usize],
    routes: &[Route],
    squared_norms: &[f64],
    plan: &Plan,
    (group, planes): (usize, integer::Planes),
) -> Result<Packed> {
    let squared_norms = per_row(ids.len(), |i| squared_norms[ids[i]])?;
    let integer = routes.iter().any(needs_integer);
    let x = pack(query.x, ids, plan.stride)?;
    let (mean, scale) = (query.rows.mean(), query.rows.decoding().scale);
    let double = routes.iter().any(needs_double);
    let single = routes.iter().any(needs_single);
    let mut centred = Buffer::<f64>::zeros(if double { x.len() } else { 0 }, "packed queries")?;
    let mut centred_single = Buffer::<f32>::zeros(if single { x.len() } else { 0 }, "packed queries")?;
    let rows = x.chunks_exact(plan.stride);
    for (to, x) in centred.chunks_exact_mut(plan.stride).zip(rows.clone()) {
        to.iter_mut().zip(x.iter().zip(mean)).for_each(|(o, (x, m))| *o = x - m);
    }
    for (to, x) in centred_single.chunks_exact_mut(plan.stride).zip(rows) {
        #[allow(clippy::cast_possible_truncation)]
        to.iter_mut().zip(x.iter().zip(mean)).for_each(|(o, (x, m))| *o = (scale * (x - m)) as f32);
    }
    let coded = |x: &[f64]| integer::Coded::new(query.rows, x, plan.stride, &squared_norms, (group, planes));
    Ok(Packed {
        integer: integer.then(|| coded(&x)).transpose()?,
        x,
        centred,
        centred_single,
        squared_norms,
        tangent: query.tangent.map(|v| pack(v, ids, plan.stride)).transpose()?,
    })
}

/// Answers the queries by their routes, those in whole numbers first; says which need a finer one.
#[allow(clippy::too_many_arguments)]
fn passes(
    pool: &Pool,
    isa: InstructionSet,
    query: &Query<'_>,
    routed: &mut [Routed],
    squared_norms: &[f64],
    cut: f64,
    out: &mut Moments<'_>,
    exec: &Exec<'_>,
) -> Result<Vec<bool>> {
    routed.sort_unstable_by_key(|(i, route)| (!needs_integer(route), *i));
    let mut redo = try_vec(routed.len(), false, "one value per sample")?;
    let mut done = 0;
    for same in routed.chunk_by(|(_, a), (_, b)| needs_integer(a) == needs_integer(b)) {
        let again = pass(pool, isa, query, same, squared_norms, cut, out, exec)?;
        redo[done..done + same.len()].copy_from_slice(&again);
        done += same.len();
    }
    Ok(redo)
}

/// Answers queries that are all in whole numbers, or none; says which need a finer route.
#[allow(clippy::too_many_arguments)]
fn pass(
    pool: &Pool,
    isa: InstructionSet,
    query: &Query<'_>,
    routed: &[Routed],
    squared_norms: &[f64],
    cut: f64,
    out: &mut Moments<'_>,
    exec: &Exec<'_>,
) -> Result<Vec<bool>> {
    let ids = per_row(routed.len(), |i| routed[i].0)?;
    let routes = per_row(routed.len(), |i| routed[i].1)?;
    let d = query.rows.dim();
    let plan = Plan::new(query.subset.map_or(query.rows.len(), <[u32]>::len), d);
    let integer = routes.iter().all(needs_integer);
    let plan = if integer { integer::plan(plan) } else { plan };
    let most = if integer { integer::GROUP } else { group(plan.stride) };
    let chunks = plan.chunks();
    let parts = if routes.iter().all(|r| r.mean == Mean::None) {
        0
    } else if routes.iter().all(|r| r.mean != Mean::Local) {
        1
    } else {
        2 + usize::from(query.tangent.is_some())
    };
    let width = parts * plan.stride;

    let group = (WAVE_BYTES / (chunks * width.max(1) * size_of::<f64>())).clamp(1, most);
    let wave = (WAVE_BYTES / (group * chunks * width.max(1) * size_of::<f64>()))
        .min((4 * pool.threads()).div_ceil(chunks))
        .max(1)
        * group;
    let wave = wave.min(ids.len());
    let planes = integer::Planes::of(group.min(ids.len()));
    let threads = pool.threads().min(wave.div_ceil(group) * chunks);
    let scratch = Mutex::new(
        (0..threads).map(|_| Scratch::new(&plan, d, group.min(ids.len()), &routes)).collect::<Result<Vec<_>>>()?,
    );
    let mut running = try_vec(wave * chunks, Running::START, "chunk results")?;
    let mut vectors = try_vec(wave * chunks * width, 0.0, "chunk results")?;
    let mut redo = try_vec(ids.len(), false, "one value per sample")?;

    for (w, wave_ids) in ids.chunks(wave).enumerate() {
        // After those that were answered otherwise.
        let before = query.x.rows().saturating_sub(ids.len());
        exec.report(exec.told.get().0.max((before + w * wave) as u64), query.x.rows() as u64)?;
        let wave_routes = &routes[w * wave..][..wave_ids.len()];
        let packed = pack_queries(query, wave_ids, wave_routes, squared_norms, &plan, (group, planes))?;
        let h: Vec<f64> = wave_ids.iter().map(|&i| 0.5 * query.precision[i]).collect();
        let (running_parts, vector_parts) = (Parts::new(&mut running), Parts::new(&mut vectors));
        let groups = wave_ids.len().div_ceil(group);
        let stop = exec.stop(query.rows);
        // A pair costs about a nanosecond per number and as much as 16 numbers for its weight.
        let work = wave_ids.len() * plan.len * (plan.stride + 16);
        pool.run(groups * chunks, work, |task| {
            let (g, c) = (task / chunks, task % chunks);
            let queries = g * group..((g + 1) * group).min(wave_ids.len());
            // Chunk results lie [group][chunk][query]: a task's are together.
            let at = queries.start * chunks + c * queries.len();
            let spare = scratch.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop();
            let Some(mut spare) = spare else { unreachable!("one scratch per thread") };
            // SAFETY: each task has its own part of both; they outlive `run`.
            let (running, vectors) = unsafe {
                (
                    running_parts.part(at..at + queries.len()),
                    vector_parts.part(at * width..(at + queries.len()) * width),
                )
            };
            isa.run(ChunkTask {
                query,
                plan: &plan,
                positions: plan.chunk_range(c),
                packed: &packed,
                h: &h[queries.clone()],
                routes: &wave_routes[queries.clone()],
                queries,
                cut,
                running,
                vectors,
                scratch: &mut spare,
                stop: &stop,
            });
            scratch.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(spare);
        })?;
        stop.check()?;

        let redo = Parts::new(&mut redo);
        let results = Results::new(out, exec.trail, d);
        let (running_parts, vector_parts) = (Parts::new(&mut running), Parts::new(&mut vectors));
        pool.run(wave_ids.len(), wave_ids.len() * chunks * width, |i| {
            let g = i / group;
            let in_group = (wave_ids.len() - g * group).min(group);
            let at = |c: usize| g * group * chunks + c * in_group + i % group;
            let merge = Merge {
                query,
                stride: plan.stride,
                x: &packed.x[i * plan.stride..(i + 1) * plan.stride],
                tangent: packed.tangent.as_ref().map(|v| &v[i * plan.stride..(i + 1) * plan.stride]),
                h: h[i],
                route: wave_routes[i],
                arithmetic: Arithmetic::pass(isa, &plan, wave_routes[i].mean, cut),
            };
            // SAFETY: one task per query; the results of its chunks, its outputs and its flag are its own.
            unsafe {
                let chunk =
                    |c| (running_parts.part(at(c)..at(c) + 1), vector_parts.part(at(c) * width..(at(c) + 1) * width));
                let first = w * wave + i;
                redo.part(first..first + 1)[0] = merge.finish(chunks, chunk, &results, wave_ids[i]);
            }
        })?;
    }
    Ok(redo)
}

/// The caller's outputs, a part of which each finishing task writes.
struct Results<'a> {
    dim: usize,
    trail: Option<&'a Trail>,
    mean: Option<Parts<f64>>,
    offset: Option<Parts<f64>>,
    covariance_product: Option<Parts<f64>>,
    log_sum: Option<Parts<f64>>,
    entropy: Option<Parts<f64>>,
    covariance_trace: Option<Parts<f64>>,
    nearest: Option<Parts<i64>>,
    nearest_distance: Option<Parts<f64>>,
    mean_error: Option<Parts<f64>>,
    log_sum_error: Option<Parts<f64>>,
}

impl<'a> Results<'a> {
    fn new(out: &mut Moments<'_>, trail: Option<&'a Trail>, dim: usize) -> Self {
        Self {
            dim,
            trail,
            mean: out.mean.as_deref_mut().map(|m| Parts::new(m.host_mut())),
            offset: out.offset.as_deref_mut().map(|m| Parts::new(m.host_mut())),
            covariance_product: out.covariance_product.as_deref_mut().map(|m| Parts::new(m.host_mut())),
            log_sum: out.log_sum.as_deref_mut().map(Parts::new),
            entropy: out.entropy.as_deref_mut().map(Parts::new),
            covariance_trace: out.covariance_trace.as_deref_mut().map(Parts::new),
            nearest: out.nearest.as_deref_mut().map(Parts::new),
            nearest_distance: out.nearest_distance.as_deref_mut().map(Parts::new),
            mean_error: out.mean_error.as_deref_mut().map(Parts::new),
            log_sum_error: out.log_sum_error.as_deref_mut().map(Parts::new),
        }
    }
}

/// Joins the chunk results of one query, in chunk order.
struct Merge<'a> {
    query: &'a Query<'a>,
    stride: usize,
    x: &'a [f64],
    tangent: Option<&'a [f64]>,
    h: f64,
    route: Route,
    arithmetic: Arithmetic,
}

impl Merge<'_> {
    /// Writes the outputs of query `id`; true if its route was too coarse.
    ///
    /// # Safety
    /// No other task reads or writes the chunk results of this query or row `id` of the outputs.
    unsafe fn finish<'c>(
        &self,
        chunks: usize,
        chunk: impl Fn(usize) -> (&'c mut [Running], &'c mut [f64]),
        out: &Results<'_>,
        id: usize,
    ) -> bool {
        let (run, total) = chunk(0);
        let run = &mut run[0];
        for c in 1..chunks {
            let (other, vectors) = chunk(c);
            self.absorb(run, total, &mut other[0], vectors);
        }
        let one = |p: &Option<Parts<f64>>, v: f64| {
            if let Some(p) = p {
                // SAFETY: the caller's promise.
                unsafe { p.part(id..id + 1)[0] = v };
            }
        };
        let z = 1.0 + run.rest;
        one(&out.log_sum, run.rest.ln_1p() - self.h * run.best);
        one(&out.entropy, run.rest.ln_1p() + self.h * run.excess / z);
        one(&out.nearest_distance, run.best.sqrt());
        if let Some(p) = &out.nearest {
            // SAFETY: the caller's promise.
            unsafe { p.part(id..id + 1)[0] = run.index as i64 };
        }
        if let Some(trail) = out.trail {
            trail.set(id, run.index);
        }
        if out.log_sum_error.is_some() {
            one(&out.log_sum_error, self.certificate(run, id).log_sum());
        }
        if self.route.mean == Mean::None {
            return false;
        }

        let d = out.dim;
        let sums = Sums::of(total, self.stride);
        let rows = self.query.rows;
        let centre = if self.route.mean == Mean::Local { &*sums.centre } else { rows.mean() };
        let Decoding { scale, shift } = rows.decoding();
        match self.route.mean {
            // Float32 rows are raw numbers less their mean.
            Mean::Single => sums.mean.iter_mut().for_each(|v| *v = scale * *v / run.included),
            Mean::Integer => (sums.mean.iter_mut().zip(centre))
                .for_each(|(v, centre)| *v = scale * (*v / run.included) + (shift - centre)),
            _ => sums.mean.iter_mut().for_each(|v| *v /= run.included),
        }
        // From here `sums.mean` is ȳ - c.
        let offset = |k: usize| (centre[k] - self.x[k]) + sums.mean[k];
        let length: f64 = (0..d).map(|k| offset(k) * offset(k)).sum::<f64>().sqrt();
        // SAFETY: the caller's promise.
        unsafe {
            if let Some(p) = &out.offset {
                p.part(id * d..(id + 1) * d).iter_mut().enumerate().for_each(|(k, o)| *o = offset(k));
            }
            if let Some(p) = &out.mean {
                let mean = p.part(id * d..(id + 1) * d);
                mean.iter_mut().enumerate().for_each(|(k, o)| *o = centre[k] + sums.mean[k]);
            }
            if let Some(p) = &out.covariance_product {
                let along = run.slope / run.included;
                let product = p.part(id * d..(id + 1) * d);
                for (k, o) in product.iter_mut().enumerate() {
                    *o = sums.product[k] / run.included - sums.mean[k] * along;
                }
            }
        }
        if out.covariance_trace.is_some() || out.mean_error.is_some() {
            let at = self.position(run, centre, sums.mean);
            // Σ w |y - ȳ|² = Σ w (d² - best) - (ȳ - b)·(2 (b - x) + ȳ - b), which is exact to its own size when one row has
            // nearly all the weight.
            one(&out.covariance_trace, (run.excess / z - at.correction).max(0.0));
            if out.mean_error.is_some() {
                one(&out.mean_error, self.certificate(run, id).mean(at));
            }
        }
        let from_centre = || sums.mean.iter().map(|v| v * v).sum::<f64>().sqrt();
        length < self.route.least_offset
            || run.rounded > 0.0
                && length * WEIGHTS_SINGLE < certificate::rounded_weights(run, rows.radius() + from_centre())
    }

    /// Where the mean centre + `mean` lies.
    fn position(&self, run: &Running, centre: &[f64], mean: &[f64]) -> Position {
        let (rows, d) = (self.query.rows, self.query.rows.dim());
        let mut best = vec![0.0; d];
        rows.decode(run.index, &mut best);
        let mut at = Position::default();
        for (k, best) in best.iter().enumerate() {
            let u = (centre[k] - best) + mean[k];
            let mean = centre[k] + mean[k];
            at.correction += u * (2.0 * (best - self.x[k]) + u);
            at.from_best += u * u;
            at.length += mean * mean;
            at.from_centre += (mean - rows.mean()[k]).powi(2);
        }
        Position { length: at.length.sqrt(), from_centre: at.from_centre.sqrt(), from_best: at.from_best.sqrt(), ..at }
    }

    fn certificate<'r>(&'r self, run: &'r Running, id: usize) -> Certificate<'r> {
        let centred = self.x.iter().zip(self.query.rows.mean()).map(|(x, m)| x - m);
        Certificate {
            rows: self.query.rows,
            h: self.h,
            route: self.route,
            arithmetic: self.arithmetic,
            run,
            distance: centred.map(|v| v * v).sum::<f64>().sqrt(),
            x_error: self.query.x_error.map_or(0.0, |e| e[id]),
        }
    }

    /// Adds a later chunk's results to the total.
    fn absorb(&self, run: &mut Running, total: &mut [f64], other: &mut Running, vectors: &mut [f64]) {
        if other.best < run.best {
            std::mem::swap(run, other);
            total.swap_with_slice(vectors);
        }
        let gap = other.best - run.best;
        let factor = exp_neg::<Portable>(self.h * gap);
        if self.route.mean != Mean::None {
            let mut from = Sums::of(vectors, self.stride);
            let to = Sums::of(total, self.stride);
            if self.route.mean == Mean::Local {
                from.recentre(to.centre, other, self.tangent);
            }
            to.mean.iter_mut().zip(&*from.mean).for_each(|(t, f)| *t += factor * f);
            to.product.iter_mut().zip(&*from.product).for_each(|(t, f)| *t += factor * f);
        }
        other.fade(gap, factor);
        run.rest += other.rest;
        run.excess += other.excess;
        run.included += other.included;
        run.slope += other.slope;
        run.rounded += other.rounded;
    }
}
