//! One group of queries against one chunk of the data: the kernel.

use super::integer;
use super::means::{QUERIES, add_means};
use super::route::{Distances, Mean, Route};
use super::sums::{Running, Sums, exp_neg, exp_neg_single};
use crate::cpu::Kernel;
use crate::cpu::amx::Tiles;
use crate::cpu::tile::{Buffer, Plan, Product, SquaredDifference, pair_sums, prefetch, reader, row_index};
use crate::cpu::vector::Isa;
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
    /// The same in whole numbers.
    pub integer: Option<integer::Coded>,
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
    integer: integer::Scratch,
    d2: Buffer<f64>,
    weights: Buffer<f64>,
    weights_single: Buffer<f32>,
    /// Rows of the tile that have weight, for each set of [`QUERIES`].
    active: Buffer<u32>,
}

impl Scratch {
    /// Buffers for groups of `queries` whose routes are among `routes`.
    pub fn new(plan: &Plan, dim: usize, queries: usize, routes: &[Route]) -> Result<Self> {
        let tile = plan.tile * plan.stride;
        let when = |needed: fn(&Route) -> bool| if routes.iter().any(needed) { tile } else { 0 };
        Ok(Self {
            tile: Buffer::zeros(when(needs_raw).max(plan.stride), "decoded tile")?,
            centred: Buffer::zeros(when(needs_double), "centred tile")?,
            centred_single: Buffer::zeros(when(needs_single), "centred tile")?,
            integer: integer::Scratch::new(plan, dim, queries, routes.iter().any(needs_integer))?,
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

/// Whether a route reads the tile in whole numbers; all of a pass do, or none.
pub fn needs_integer(route: &Route) -> bool {
    route.distances == Distances::Integer
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
        // SAFETY: only where there are tile registers does a route ask for whole numbers.
        let tiles = self.routes.iter().any(needs_integer).then(|| unsafe { Tiles::new(self.scratch.integer.lines()) });
        while from < self.positions.end && !self.stop.now() {
            let positions = from..(from + self.plan.tile).min(self.positions.end);
            from = positions.end;
            // SAFETY: the instruction set is this function's own precondition.
            unsafe {
                match &tiles {
                    None => {
                        self.load_tile::<S>(positions.clone());
                        self.distances::<S>(positions.clone());
                    }
                    Some(tiles) => self.integer_distances::<S>(tiles, positions.clone()),
                }
                for b in 0..self.routes.len() {
                    let extremes = self.remeasure::<S>(b, positions.clone());
                    self.weigh::<S>(b, positions.clone(), extremes);
                }
                match &tiles {
                    None => self.add_centred::<S>(positions.len()),
                    Some(tiles) => self.add_integer::<S>(tiles, positions.len()),
                }
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
                    Distances::Integer => unreachable!("by `integer_distances`"),
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

    /// The same in whole numbers.
    #[inline(always)]
    unsafe fn integer_distances<S: Isa>(&mut self, tiles: &Tiles, positions: Range<usize>) {
        let means = self.routes.iter().any(|r| r.mean == Mean::Integer);
        let Scratch { integer, d2, .. } = &mut *self.scratch;
        let Some(x) = &self.packed.integer else { unreachable!("packed where a route asks for it") };
        let norms = self.query.rows.squared_norms();
        let norm = |n: usize| norms[row_index(self.query.subset, positions.start + n)];
        // SAFETY: there are tiles.
        unsafe {
            integer.load(self.query, positions.clone(), means, self.positions.end - 1, self.plan);
            integer.distances::<S>(tiles, x, self.queries.clone(), norm, positions.len(), self.plan, d2);
        }
    }

    /// Measures the rows near the best again, by differences; returns the smallest and the largest squared distance.
    #[inline(always)]
    unsafe fn remeasure<S: Isa>(&mut self, b: usize, positions: Range<usize>) -> (f64, f64) {
        let count = positions.len();
        let route = self.routes[b];
        let (x, best) = (self.x(b), self.running[b].best);
        let Scratch { tile, d2, .. } = &mut *self.scratch;
        let d2 = &mut d2[b * self.plan.tile..b * self.plan.tile + count];
        let (lowest, highest) = extremes(d2);
        let limit = best.min(lowest + route.doubt) + route.remeasure;
        if route.distances == Distances::Exact || lowest > limit {
            return (lowest, highest);
        }
        let stride = self.plan.stride;
        let whole = tile.len() > stride;
        const LANES: usize = 8;
        for (first, eight) in (0..).step_by(LANES).zip(d2.chunks_mut(LANES)) {
            // Most hold nothing: one comparison of them all.
            if !eight.iter().fold(false, |any, d2| any | (*d2 <= limit)) {
                continue;
            }
            for (n, d2) in (first..).zip(eight).filter(|(_, d2)| **d2 <= limit) {
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
        extremes(d2)
    }

    /// Turns the distances of query `b` to the tile into weights and scalar sums.
    #[inline(always)]
    fn weigh<S: Isa>(&mut self, b: usize, positions: Range<usize>, (lowest, highest): (f64, f64)) {
        const LANES: usize = 8;
        let Plan { stride, tile, .. } = *self.plan;
        let (h, route) = (self.h[b], self.routes[b]);
        let own = b * tile..b * tile + positions.len().next_multiple_of(LANES);
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
            // Whole numbers are counted as such, in `add_integer`.
            run.included += if route.mean == Mean::Integer { 0.0 } else { 1.0 };
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
        run.included += if route.mean == Mean::Integer { 0.0 } else { included };
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

    /// Adds Σ w u of raw rows.
    #[inline(always)]
    unsafe fn add_integer<S: Isa>(&mut self, tiles: &Tiles, count: usize) {
        let (plan, queries) = (self.plan, self.routes.len());
        let Scratch { integer, weights_single, .. } = &mut *self.scratch;
        if self.routes.iter().any(|r| r.mean == Mean::None) {
            return;
        }
        for b in 0..queries {
            integer.weigh::<S>(b, &weights_single[b * plan.tile..][..count], plan, &mut self.running[b]);
        }
        // SAFETY: there are tiles.
        unsafe { integer.add_means::<S>(tiles, queries, plan, self.vectors) };
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

/// Queries that share one decoded tile, at most: what they need, 12 bytes a number, stays in the second-level cache.
pub const GROUP: usize = 128;
const GROUP_BYTES: usize = 1280 << 10;

/// Queries that share one decoded tile, for rows of `stride` numbers.
pub fn group(stride: usize) -> usize {
    (GROUP_BYTES / (12 * stride)).clamp(Plan::GROUP, GROUP)
}

/// Below this a weight is lost in any sum with the best row's 1, and its float32 products would be subnormal.
const LEAST_WEIGHT: f64 = 1e-30;
/// h (d² - best) up to which weights are computed in float32: they are good to 1.2e-6 then.
const SINGLE_REACH: f64 = 32.0;
/// Rows that are asked for from memory before they are decoded.
const AHEAD: usize = 8;
/// The smallest and the largest number of a slice.
#[inline(always)]
fn extremes(d2: &[f64]) -> (f64, f64) {
    const LANES: usize = 8;
    let (mut low, mut high) = ([f64::MAX; LANES], [0.0; LANES]);
    let (eights, rest) = d2.as_chunks::<LANES>();
    for eight in eights {
        for l in 0..LANES {
            low[l] = if eight[l] < low[l] { eight[l] } else { low[l] };
        }
    }
    for eight in eights {
        for l in 0..LANES {
            high[l] = if eight[l] > high[l] { eight[l] } else { high[l] };
        }
    }
    for half in [4, 2, 1] {
        for l in 0..half {
            low[l] = if low[l + half] < low[l] { low[l + half] } else { low[l] };
            high[l] = if high[l + half] > high[l] { high[l + half] } else { high[l] };
        }
    }
    (rest.iter().fold(low[0], |a, &v| a.min(v)), rest.iter().fold(high[0], |a, &v| a.max(v)))
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
