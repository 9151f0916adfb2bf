//! One group of queries against one chunk of the data: the kernel.

use super::route::{Distances, Mean, Route};
use super::sums::{Running, Sums, exp_neg, exp_neg_single};
use crate::cpu::Kernel;
use crate::cpu::tile::{Buffer, Plan, Product, SquaredDifference, pair_sums, prefetch, reader, row_index};
use crate::cpu::vector::{Isa, Vector};
use crate::engine::Query;
use crate::error::Result;
use crate::exec::Stop;
use std::ops::Range;

/// Queries, padded to the plan's stride, in the forms the routes need; empty where no route does.
pub struct Packed {
    /// x.
    pub x: Buffer<f64>,
    /// x less the mean of the data.
    pub centred: Buffer<f64>,
    /// The same times the data's scale, in float32: the products with raw numbers are then those with the rows.
    pub centred_single: Buffer<f32>,
    /// |x - mean|².
    pub squared_norms: Vec<f64>,
    /// v.
    pub tangent: Option<Buffer<f64>>,
}

/// The buffers of one thread.
pub struct Scratch {
    /// The decoded tile if a route reads it, else one decoded row.
    tile: Buffer<f64>,
    centred: Buffer<f64>,
    /// Raw numbers less their mean.
    centred_single: Buffer<f32>,
    d2: Buffer<f64>,
    weights: Buffer<f64>,
    weights_single: Buffer<f32>,
    /// Rows of the tile that have weight, for each [`Set`].
    active: Buffer<u32>,
}

impl Scratch {
    /// Buffers for groups of `queries` whose routes are among `routes`.
    pub fn new(plan: &Plan, queries: usize, routes: &[Route]) -> Result<Self> {
        let tile = plan.tile * plan.stride;
        let when = |needed: fn(&Route) -> bool| if routes.iter().any(needed) { tile } else { 0 };
        Ok(Self {
            tile: Buffer::zeros(when(needs_raw).max(plan.stride), "decoded tile")?,
            centred: Buffer::zeros(when(needs_double), "centred tile")?,
            centred_single: Buffer::zeros(when(needs_single), "centred tile")?,
            d2: Buffer::zeros(queries * plan.tile, "distances of a tile")?,
            weights: Buffer::zeros(queries * plan.tile, "weights of a tile")?,
            weights_single: Buffer::zeros(queries * plan.tile, "weights of a tile")?,
            active: Buffer::zeros(queries.div_ceil(QUERIES) * plan.tile, "rows of a tile")?,
        })
    }
}

/// Whether a route reads the tile as decoded.
pub fn needs_raw(route: &Route) -> bool {
    route.distances == Distances::Exact || route.mean == Mean::Local
}

/// Whether a route reads the float64 centred tile.
pub fn needs_double(route: &Route) -> bool {
    route.distances == Distances::Double || route.mean == Mean::Double
}

/// Whether a route reads the float32 centred tile.
pub fn needs_single(route: &Route) -> bool {
    route.distances == Distances::Single || route.mean == Mean::Single
}

/// See the module.
pub struct ChunkTask<'a> {
    /// The query batch.
    pub query: &'a Query<'a>,
    /// How the data is cut.
    pub plan: &'a Plan,
    /// The chunk, as positions in the list of rows that take part.
    pub positions: Range<usize>,
    /// The batch's queries in packed form, of which `queries` are this group's.
    pub packed: &'a Packed,
    /// The group.
    pub queries: Range<usize>,
    /// Half the precision of each query of the group.
    pub h: &'a [f64],
    /// The route of each query of the group.
    pub routes: &'a [Route],
    /// h (d² - best) beyond which a row is left out of the weighted mean.
    pub cut: f64,
    /// The chunk's result for each query of the group.
    pub running: &'a mut [Running],
    /// The same, vectors.
    pub vectors: &'a mut [f64],
    /// This thread's buffers.
    pub scratch: &'a mut Scratch,
    /// Looked at once per tile.
    pub stop: &'a Stop<'a>,
}

impl Kernel for ChunkTask<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Isa>(mut self) {
        self.running.fill(Running::START);
        self.vectors.fill(0.0);
        let mut from = self.positions.start;
        while from < self.positions.end && !self.stop.now() {
            let positions = from..(from + self.plan.tile).min(self.positions.end);
            from = positions.end;
            // SAFETY: the instruction set is this function's own precondition.
            unsafe {
                self.load_tile::<S>(positions.clone());
                self.distances::<S>(positions.clone());
                for b in 0..self.routes.len() {
                    self.remeasure::<S>(b, positions.clone());
                    self.weigh::<S>(b, positions.clone());
                }
                self.add_centred::<S>(positions.len());
            }
            for b in 0..self.routes.len() {
                if self.routes[b].mean == Mean::Local {
                    self.add_local::<S>(b, positions.len());
                }
            }
        }
    }
}

impl<'a> ChunkTask<'a> {
    fn x(&self, b: usize) -> &'a [f64] {
        let at = (self.queries.start + b) * self.plan.stride;
        &self.packed.x[at..at + self.plan.stride]
    }

    fn tangent(&self, b: usize) -> Option<&'a [f64]> {
        let at = (self.queries.start + b) * self.plan.stride;
        self.packed.tangent.as_ref().map(|v| &v[at..at + self.plan.stride])
    }

    /// Decodes the rows at `positions` into the forms that the routes read.
    #[inline(always)]
    unsafe fn load_tile<S: Isa>(&mut self, positions: Range<usize>) {
        let Scratch { tile, centred, centred_single, .. } = &mut *self.scratch;
        let Query { rows, subset, .. } = *self.query;
        let stride = self.plan.stride;
        let whole = tile.len() > stride;
        let last = self.positions.end - 1;
        let mut reader = reader(rows, subset, &positions);
        for (i, position) in positions.enumerate() {
            prefetch(rows.raw(row_index(subset, (position + AHEAD).min(last))));
            let index = row_index(subset, position);
            let own = i * stride..i * stride + rows.dim();
            if whole || !centred.is_empty() {
                let row = &mut tile[if whole { i * stride } else { 0 }..][..rows.dim()];
                reader.decode(index, row);
                if !centred.is_empty() {
                    let centred = &mut centred[own.clone()];
                    centred.iter_mut().zip(row.iter().zip(rows.mean())).for_each(|(o, (y, m))| *o = y - m);
                }
            }
            if !centred_single.is_empty() {
                reader.decode_centred(index, &mut centred_single[own]);
            }
        }
    }

    /// Squared distances of every query of the group to the tile, by each query's own arithmetic.
    #[inline(always)]
    unsafe fn distances<S: Isa>(&mut self, positions: Range<usize>) {
        let Scratch { tile, centred, centred_single, d2, .. } = &mut *self.scratch;
        let (plan, packed, count) = (self.plan, self.packed, positions.len());
        let all = self.queries.start * plan.stride..self.queries.end * plan.stride;
        let mut b = 0;
        for same in self.routes.chunk_by(|a, b| a.distances == b.distances) {
            let run = b..b + same.len();
            b = run.end;
            // SAFETY: the instruction set is the caller's promise.
            unsafe {
                match same[0].distances {
                    Distances::Exact => {
                        let x = &packed.x[all.clone()];
                        pair_sums::<S::Double, SquaredDifference>(x, run, tile, count, plan, d2);
                        continue;
                    }
                    Distances::Double => {
                        let x = &packed.centred[all.clone()];
                        pair_sums::<S::Double, Product>(x, run.clone(), centred, count, plan, d2);
                    }
                    Distances::Single => {
                        let x = &packed.centred_single[all.clone()];
                        pair_sums::<S::Single, Product>(x, run.clone(), centred_single, count, plan, d2);
                    }
                }
            }
            // |x̃ - ỹ|² = |x̃|² + |ỹ|² - 2 x̃·ỹ
            let norms = self.query.rows.squared_norms();
            for b in run {
                let xx = packed.squared_norms[self.queries.start + b];
                let row = &mut d2[b * plan.tile..b * plan.tile + count];
                match self.query.subset {
                    None => (row.iter_mut().zip(&norms[positions.clone()]))
                        .for_each(|(p, yy)| *p = S::mul_add(-2.0, *p, xx + yy).max(0.0)),
                    Some(subset) => (row.iter_mut().zip(&subset[positions.clone()]))
                        .for_each(|(p, &n)| *p = S::mul_add(-2.0, *p, xx + norms[n as usize]).max(0.0)),
                }
            }
        }
    }

    /// Measures the rows near the best again, by differences.
    #[inline(always)]
    unsafe fn remeasure<S: Isa>(&mut self, b: usize, positions: Range<usize>) {
        let count = positions.len();
        let route = self.routes[b];
        if route.distances == Distances::Exact {
            return;
        }
        let (x, best) = (self.x(b), self.running[b].best);
        let Scratch { tile, d2, .. } = &mut *self.scratch;
        let d2 = &mut d2[b * self.plan.tile..b * self.plan.tile + count];
        let (lowest, _) = extremes(d2);
        let limit = best.min(lowest + route.doubt) + route.remeasure;
        if lowest > limit {
            return;
        }
        let stride = self.plan.stride;
        let whole = tile.len() > stride;
        for (n, d2) in d2.iter_mut().enumerate() {
            if *d2 <= limit {
                if !whole {
                    let index = row_index(self.query.subset, positions.start + n);
                    self.query.rows.decode(index, &mut tile[..self.query.rows.dim()]);
                }
                let y = &tile[if whole { n * stride } else { 0 }..][..stride];
                // SAFETY: the instruction set is the caller's promise.
                unsafe {
                    pair_sums::<S::Double, SquaredDifference>(x, 0..1, y, 1, self.plan, std::slice::from_mut(d2));
                }
            }
        }
    }

    /// Turns the distances of query `b` to the tile into weights and scalar sums.
    #[inline(always)]
    fn weigh<S: Isa>(&mut self, b: usize, positions: Range<usize>) {
        const LANES: usize = 8;
        let Plan { stride, tile, .. } = *self.plan;
        let (h, route) = (self.h[b], self.routes[b]);
        let own = b * tile..b * tile + positions.len().next_multiple_of(LANES);
        let (lowest, highest) = extremes(&self.scratch.d2[own.clone()][..positions.len()]);
        // Beyond the tile's rows: farther than any, and weightless below.
        self.scratch.d2[own.clone()][positions.len()..].fill(f64::MAX);
        let mut run = self.running[b];
        let mut new_best = None;
        if lowest < run.best {
            let at = self.scratch.d2[own.clone()].iter().position(|&v| v == lowest).unwrap_or(0);
            let gap = run.best - lowest;
            let factor = if run.best.is_finite() { exp_neg::<S>(h * gap) } else { 0.0 };
            if route.mean != Mean::None {
                let width = self.vectors.len() / self.routes.len();
                let tangent = self.tangent(b);
                let mut sums = Sums::of(&mut self.vectors[b * width..(b + 1) * width], stride);
                if route.mean == Mean::Local {
                    sums.recentre(&self.scratch.tile[at * stride..(at + 1) * stride], &mut run, tangent);
                }
                sums.scale(factor);
            }
            run.fade(gap, factor);
            run.best = lowest;
            run.index = row_index(self.query.subset, positions.start + at);
            run.included += 1.0;
            // The best row's weight of exactly 1 is not part of `rest`.
            self.scratch.d2[own.start + at] = f64::MAX;
            new_best = Some(at);
        }

        let Scratch { d2, weights, weights_single, .. } = &mut *self.scratch;
        let (d2, best) = (&d2[own.clone()], run.best);
        let (weights, weights_single) = (&mut weights[own.clone()], &mut weights_single[own]);
        let farthest = h * (highest - best);
        let cut = if farthest > self.cut { Some((h, best, self.cut)) } else { None };
        // Plain loops with one thing to do each are ones that vectorise.
        let [rest, excess, included] = if route.single_weights && farthest <= SINGLE_REACH {
            #[allow(clippy::cast_possible_truncation)]
            weights_single.iter_mut().zip(d2).for_each(|(w, d2)| *w = exp_neg_single::<S>((h * (d2 - best)) as f32));
            sums_and_cut::<S, f32>(weights_single, d2, best, cut, positions.len(), new_best)
        } else {
            weights.iter_mut().zip(d2).for_each(|(w, d2)| *w = exp_neg::<S>(h * (d2 - best)));
            let sums = sums_and_cut::<S, f64>(weights, d2, best, cut, positions.len(), new_best);
            if route.single_weights {
                #[allow(clippy::cast_possible_truncation)]
                let narrow = |w: f64| if w > LEAST_WEIGHT { w as f32 } else { 0.0 };
                weights_single.iter_mut().zip(&*weights).for_each(|(single, w)| *single = narrow(*w));
            }
            sums
        };
        run.rest += rest;
        run.excess += excess;
        run.included += included;
        self.running[b] = run;
    }

    /// Adds Σ w (y - mean of the data) for the queries that want it so.
    #[inline(always)]
    unsafe fn add_centred<S: Isa>(&mut self, count: usize) {
        let Scratch { centred, centred_single, weights, weights_single, active, .. } = &mut *self.scratch;
        let (plan, routes, sums) = (self.plan, self.routes, &mut *self.vectors);
        // SAFETY: the instruction set is the caller's promise.
        unsafe {
            add_means::<S::Single>(Mean::Single, routes, plan, centred_single, count, weights_single, active, sums);
            add_means::<S::Double>(Mean::Double, routes, plan, centred, count, weights, active, sums);
        }
    }

    /// Adds Σ w (y - c), and the tangent's sums, for query `b`.
    #[inline(always)]
    fn add_local<S: Isa>(&mut self, b: usize, count: usize) {
        const LANES: usize = 16;
        let Plan { stride, tile, .. } = *self.plan;
        let tangent = self.tangent(b);
        let mut slope = 0.0;
        for n in 0..count {
            let w = self.scratch.weights[b * tile + n];
            if w == 0.0 {
                continue;
            }
            let width = self.vectors.len() / self.routes.len();
            let sums = Sums::of(&mut self.vectors[b * width..(b + 1) * width], stride);
            let y = &self.scratch.tile[n * stride..(n + 1) * stride];
            for (sum, (y, c)) in sums.mean.iter_mut().zip(y.iter().zip(&*sums.centre)) {
                *sum = S::mul_add(w, y - c, *sum);
            }
            if let Some(v) = tangent {
                let mut lanes = [0.0; LANES];
                for k in (0..stride).step_by(LANES) {
                    for l in 0..LANES {
                        lanes[l] = S::mul_add(y[k + l] - sums.centre[k + l], v[k + l], lanes[l]);
                    }
                }
                let along = w * lanes.iter().sum::<f64>();
                slope += along;
                for (sum, (y, c)) in sums.product.iter_mut().zip(y.iter().zip(&*sums.centre)) {
                    *sum = S::mul_add(along, y - c, *sum);
                }
            }
        }
        self.running[b].slope += slope;
    }
}

/// Below this a weight is lost in any sum with the best row's 1, and its float32 products would be subnormal.
const LEAST_WEIGHT: f64 = 1e-30;
/// h (d² - best) up to which weights are computed in float32: they are good to 1.2e-6 then.
const SINGLE_REACH: f64 = 32.0;
/// Rows that are asked for from memory before they are decoded.
const AHEAD: usize = 8;
/// Queries whose weighted means are formed together.
const QUERIES: usize = 8;
/// The smallest and the largest number.
#[inline(always)]
fn extremes(d2: &[f64]) -> (f64, f64) {
    const LANES: usize = 8;
    let (mut low, mut high) = ([f64::MAX; LANES], [0.0; LANES]);
    let (eights, rest) = d2.as_chunks::<LANES>();
    for eight in eights {
        for l in 0..LANES {
            low[l] = if eight[l] < low[l] { eight[l] } else { low[l] };
            high[l] = if eight[l] > high[l] { eight[l] } else { high[l] };
        }
    }
    let low = low.iter().chain(rest).fold(f64::MAX, |a, &v| a.min(v));
    (low, high.iter().chain(rest).fold(0.0, |a: f64, &v| a.max(v)))
}

/// Σ w and Σ w (d² - best), and Σ w of those that are not beyond `cut` (h, best and the cut, if one is); the others become 0. The best row, if it is in this
/// tile, has no part in the sums and weight 1.
#[inline(always)]
fn sums_and_cut<S: Isa, E: Copy + Into<f64> + From<f32>>(
    weights: &mut [E],
    d2: &[f64],
    best: f64,
    cut: Option<(f64, f64, f64)>,
    count: usize,
    new_best: Option<usize>,
) -> [f64; 3] {
    const LANES: usize = 8;
    weights[count..].fill(E::from(0.0));
    if let Some(at) = new_best {
        weights[at] = E::from(0.0);
    }
    let (mut rest, mut excess) = ([0.0; LANES], [0.0; LANES]);
    for (w, d2) in weights.as_chunks::<LANES>().0.iter().zip(d2.as_chunks::<LANES>().0) {
        for l in 0..LANES {
            let w: f64 = w[l].into();
            rest[l] += w;
            excess[l] = S::mul_add(w, d2[l] - best, excess[l]);
        }
    }
    let [rest, excess]: [f64; 2] = [rest, excess].map(|lanes| lanes.iter().sum());
    let mut included = rest;
    if let Some((h, best, cut)) = cut {
        weights.iter_mut().zip(d2).for_each(|(w, d2)| *w = if h * (d2 - best) <= cut { *w } else { E::from(0.0) });
        let mut lanes = [0.0; LANES];
        for w in weights.as_chunks::<LANES>().0 {
            for l in 0..LANES {
                let w: f64 = w[l].into();
                lanes[l] += w;
            }
        }
        included = lanes.iter().sum();
    }
    if let Some(at) = new_best {
        weights[at] = E::from(1.0);
    }
    [rest, excess, included]
}

/// Queries whose weighted means are formed together, and the rows of the tile that have weight for one of them.
#[derive(Clone, Copy, Default)]
struct Set {
    /// A set that is not full repeats its last query.
    members: [usize; QUERIES],
    filled: usize,
    /// How many rows.
    active: usize,
}

/// Adds Σ_n w_n y_n to the sums of the queries whose mean is formed by `mean`, eight queries at a time. A row whose weight
/// is 0 adds exactly nothing, so a query's sum does not depend on the others it is formed with.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn add_means<V: Vector>(
    mean: Mean,
    routes: &[Route],
    plan: &Plan,
    y: &[V::Element],
    count: usize,
    weights: &[V::Element],
    active: &mut [u32],
    vectors: &mut [f64],
) {
    let width = vectors.len() / routes.len();
    let mut sets = [Set::default(); Plan::GROUP / QUERIES];
    let mut filled_sets = 0;
    let mut set = Set::default();
    for (b, route) in routes.iter().enumerate() {
        if route.mean == mean {
            set.members[set.filled] = b;
            set.filled += 1;
        }
        if set.filled == QUERIES || set.filled > 0 && b + 1 == routes.len() {
            let last = set.members[set.filled - 1];
            set.members[set.filled..].fill(last);
            let mut any = [V::Element::default(); Plan::MOST_TILE];
            for &b in &set.members[..set.filled] {
                for (any, &w) in any.iter_mut().zip(&weights[b * plan.tile..][..count]) {
                    *any = if w > *any { w } else { *any };
                }
            }
            let active = &mut active[filled_sets * plan.tile..][..count];
            for (n, any) in (0..).zip(&any[..count]) {
                active[set.active] = n;
                set.active += usize::from(*any > V::Element::default());
            }
            sets[filled_sets] = set;
            filled_sets += 1;
            set = Set::default();
        }
    }
    let sets = &sets[..filled_sets];
    let one = sets.len() == 1 && sets[0].filled == 1;
    let mut k = 0;
    // Some columns for all queries, so that they stay in the first-level cache.
    while k < plan.stride {
        let columns = match (plan.stride - k) / V::LANES {
            8.. if one => 8,
            3.. => 3,
            _ => 1,
        };
        for (set, active) in sets.iter().zip(active.chunks_exact(plan.tile)) {
            let active = &active[..set.active];
            if active.is_empty() {
                continue;
            }
            // SAFETY: `active` holds rows of the tile and the columns stay within a row; the sums of different queries are
            // apart; the instruction set is the caller's promise.
            unsafe {
                let y = y.as_ptr().add(k);
                let w = set.members.map(|b| weights.as_ptr().add(b * plan.tile));
                let sums = set.members.map(|b| vectors.as_mut_ptr().add(b * width + k));
                // As many sums as registers leave room for.
                if columns == 1 {
                    weighted_columns::<V, QUERIES, 1>(y, plan.stride, active, &w, &sums, set.filled);
                } else if columns == 8 {
                    weighted_columns::<V, 1, 8>(y, plan.stride, active, &w, &sums, 1);
                } else if V::REGISTERS >= 32 && set.filled > 4 {
                    weighted_columns::<V, QUERIES, 3>(y, plan.stride, active, &w, &sums, set.filled);
                } else {
                    weighted_columns::<V, 4, 3>(y, plan.stride, active, &w, &sums, set.filled.min(4));
                    if set.filled > 4 {
                        weighted_columns::<V, 4, 3>(y, plan.stride, active, &w[4..], &sums[4..], set.filled - 4);
                    }
                }
            }
        }
        k += columns * V::LANES;
    }
}

/// `sums[r][..COLUMNS * LANES] += Σ_n w_r[n] y_n` for the first `filled` of `ROWS` queries, accumulated in registers over the
/// tile.
#[inline(always)]
unsafe fn weighted_columns<V: Vector, const ROWS: usize, const COLUMNS: usize>(
    y: *const V::Element,
    stride: usize,
    active: &[u32],
    weights: &[*const V::Element],
    sums: &[*mut f64],
    filled: usize,
) {
    // SAFETY: the caller's promises.
    unsafe {
        let weights: [*const V::Element; ROWS] = std::array::from_fn(|r| weights[r]);
        let mut acc = [[V::splat(V::Element::default()); COLUMNS]; ROWS];
        for &n in active {
            let row = y.add(n as usize * stride);
            let columns: [V; COLUMNS] = std::array::from_fn(|c| V::load(row.add(c * V::LANES)));
            for r in 0..ROWS {
                let w = V::splat(*weights[r].add(n as usize));
                for c in 0..COLUMNS {
                    acc[r][c] = w.mul_add(columns[c], acc[r][c]);
                }
            }
        }
        for (acc, sum) in acc.iter().zip(sums).take(filled) {
            for (c, acc) in acc.iter().enumerate() {
                acc.add_to(sum.add(c * V::LANES));
            }
        }
    }
}
