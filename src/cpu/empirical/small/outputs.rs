//! What a block's results become: the caller's outputs and their error bounds.

use super::Pass;
use super::sweep::{Block, Lanes};
use crate::cpu::empirical::certificate::{Arithmetic, Certificate, Position};
use crate::cpu::empirical::route::Route;
use crate::cpu::empirical::sums::Running;
use crate::cpu::pool::Parts;
use crate::cpu::tile::row_index;

impl Pass<'_> {
    /// Writes the error bounds that are wanted.
    ///
    /// # Safety
    /// See [`Pass::finish`].
    pub(super) unsafe fn certify<const D: usize>(&self, block: &Block<D>) {
        let (out, query, d) = (self.results, self.query, self.results.dim);
        if out.mean_error.is_none() && out.log_sum_error.is_none() {
            return;
        }
        let radius = query.rows.radius();
        for (l, &id) in block.ids[..block.len].iter().enumerate() {
            let of = |lanes: &Lanes<D>, k: usize| lanes[k][l];
            let (h, best, rest) = (block.h[l], block.nearest.best[l], block.sums.weight[l]);
            // Where h is 0 it has taken the sizes with it; no row is farther than this.
            let excess = if h > 0.0 { block.sums.excess[l] / h } else { rest * (2.0 * (best.sqrt() + radius)).powi(2) };
            let index = row_index(query.subset, block.nearest.position[l] as usize);
            let run = Running { best, index, rest, excess, included: 1.0 + rest, ..Running::START };
            let (mut at, mut distance) = (Position::default(), 0.0);
            for k in 0..d {
                let (x, b, mean) = (of(&block.x, k), of(&block.around, k), of(&block.mean, k));
                // ȳ - b; the difference of what was made of it has lost what is small.
                let u = of(&block.sums.mean, k);
                at.correction += u * (2.0 * (b - x) + u);
                at.from_best += u * u;
                at.length += mean * mean;
                at.from_centre += (mean - query.rows.mean()[k]).powi(2);
                distance += (x - query.rows.mean()[k]).powi(2);
            }
            let root = f64::sqrt;
            let certificate = Certificate {
                rows: query.rows,
                h,
                route: Route::near(true),
                arithmetic: Arithmetic::sweep(self.plan),
                run: &run,
                distance: root(distance),
                x_error: query.x_error.map_or(0.0, |e| e[id]),
            };
            let at = Position {
                length: root(at.length),
                from_centre: root(at.from_centre),
                from_best: root(at.from_best),
                correction: at.correction,
            };
            let one = |to: &Option<Parts<f64>>, value: f64| {
                if let Some(to) = to {
                    // SAFETY: the caller's promise.
                    unsafe { to.part(id..id + 1)[0] = value };
                }
            };
            one(&out.log_sum_error, certificate.log_sum());
            one(&out.mean_error, certificate.mean(at));
        }
    }

    /// # Safety
    /// See [`Pass::finish`].
    pub(super) unsafe fn write<const D: usize>(&self, block: &Block<D>) {
        let (out, d) = (self.results, self.results.dim);
        let ids = block.ids[..block.len].iter().copied();
        let vectors = |to: &Option<Parts<f64>>, from: &Lanes<D>| {
            if let Some(to) = to {
                for (l, id) in ids.clone().enumerate() {
                    // SAFETY: the caller's promise.
                    let to = unsafe { to.part(id * d..(id + 1) * d) };
                    to.iter_mut().zip(from).for_each(|(to, from)| *to = from[l]);
                }
            }
        };
        vectors(&out.mean, &block.mean);
        vectors(&out.offset, &block.offset);
        vectors(&out.covariance_product, &block.product);
        let scalars = |to: &Option<Parts<f64>>, of: &dyn Fn(usize) -> f64| {
            if let Some(to) = to {
                for (l, id) in ids.clone().enumerate() {
                    // SAFETY: the caller's promise.
                    unsafe { to.part(id..id + 1)[0] = of(l) };
                }
            }
        };
        let Block { nearest, sums, h, .. } = block;
        scalars(&out.log_sum, &|l| sums.weight[l].ln_1p() - h[l] * nearest.best[l]);
        scalars(&out.entropy, &|l| sums.weight[l].ln_1p() + sums.excess[l] / (1.0 + sums.weight[l]));
        scalars(&out.covariance_trace, &|l| block.trace[l]);
        scalars(&out.nearest_distance, &|l| nearest.best[l].sqrt());
        if let Some(to) = &out.nearest {
            for (id, position) in ids.zip(nearest.position) {
                // SAFETY: the caller's promise.
                unsafe { to.part(id..id + 1)[0] = row_index(self.query.subset, position as usize) as i64 };
            }
        }
    }
}
