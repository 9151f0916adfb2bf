//! The weighted sums of a tile's rows.

use super::chunk::GROUP;
use super::route::{Mean, Route};
use crate::cpu::tile::Plan;
use crate::cpu::vector::Vector;

/// Queries whose weighted means are formed together.
pub const QUERIES: usize = 8;

/// Queries whose weighted means are formed together, and the rows of the tile that have weight for one of them.
#[derive(Clone, Copy, Default)]
struct Set {
    /// The first `filled` are queries.
    members: [usize; QUERIES],
    filled: usize,
    /// How many rows.
    active: usize,
}

/// Adds Σ_n w_n y_n to the sums of the queries whose mean is formed by `mean`, eight queries at a time. A row whose weight
/// is 0 adds exactly nothing, so a query's sum does not depend on the others it is formed with.
///
/// # Safety
/// See [`crate::cpu::vector`]. `y` holds `count` rows, `weights` a tile's for every query of `routes`, `vectors` the queries'
/// sums one after another.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub unsafe fn add_means<V: Vector>(
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
    let wanted = routes.iter().any(|r| r.mean == mean);
    assert!(
        !wanted || width >= plan.stride && y.len() >= count * plan.stride && weights.len() >= routes.len() * plan.tile
    );
    let mut sets = [Set::default(); GROUP.div_ceil(QUERIES)];
    let mut filled_sets = 0;
    let mut set = Set::default();
    for (b, route) in routes.iter().enumerate() {
        if route.mean == mean {
            set.members[set.filled] = b;
            set.filled += 1;
        }
        if set.filled == QUERIES || set.filled > 0 && b + 1 == routes.len() {
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
        // As many sums as registers leave room for.
        let columns = match (plan.stride - k) / V::LANES {
            8.. if one => 8,
            4.. if V::REGISTERS < 32 => 4,
            3.. if V::REGISTERS >= 32 => 3,
            _ => 1,
        };
        for (set, active) in sets.iter().zip(active.chunks_exact(plan.tile)) {
            let active = &active[..set.active];
            let mut first = 0;
            while first < set.filled && !active.is_empty() {
                let rows = match set.filled - first {
                    8.. if V::REGISTERS >= 32 => 8,
                    4.. if V::REGISTERS >= 32 => 4,
                    3.. if V::REGISTERS < 32 => 3,
                    2.. => 2,
                    _ => 1,
                };
                // SAFETY: `active` holds rows of the tile and the columns stay within a row; the sums of different queries
                // are apart; the instruction set is the caller's promise.
                unsafe {
                    let y = y.as_ptr().add(k);
                    let w = set.members.map(|b| weights.as_ptr().add(b * plan.tile));
                    let sums = set.members.map(|b| vectors.as_mut_ptr().add(b * width + k));
                    let (w, sums) = (&w[first..], &sums[first..]);
                    match (rows, columns) {
                        (8, 3) => weighted_columns::<V, 8, 3>(y, plan.stride, active, w, sums),
                        (4, 3) => weighted_columns::<V, 4, 3>(y, plan.stride, active, w, sums),
                        (2, 3) => weighted_columns::<V, 2, 3>(y, plan.stride, active, w, sums),
                        (1, 3) => weighted_columns::<V, 1, 3>(y, plan.stride, active, w, sums),
                        (3, 4) => weighted_columns::<V, 3, 4>(y, plan.stride, active, w, sums),
                        (2, 4) => weighted_columns::<V, 2, 4>(y, plan.stride, active, w, sums),
                        (1, 4) => weighted_columns::<V, 1, 4>(y, plan.stride, active, w, sums),
                        (1, 8) => weighted_columns::<V, 1, 8>(y, plan.stride, active, w, sums),
                        (8, _) => weighted_columns::<V, 8, 1>(y, plan.stride, active, w, sums),
                        (4, _) => weighted_columns::<V, 4, 1>(y, plan.stride, active, w, sums),
                        (3, _) => weighted_columns::<V, 3, 1>(y, plan.stride, active, w, sums),
                        (2, _) => weighted_columns::<V, 2, 1>(y, plan.stride, active, w, sums),
                        _ => weighted_columns::<V, 1, 1>(y, plan.stride, active, w, sums),
                    }
                }
                first += rows;
            }
        }
        k += columns * V::LANES;
    }
}

/// `sums[r][..COLUMNS * LANES] += Σ_n w_r[n] y_n` for `ROWS` queries, accumulated in registers over the tile.
#[inline(always)]
#[allow(clippy::needless_range_loop)]
unsafe fn weighted_columns<V: Vector, const ROWS: usize, const COLUMNS: usize>(
    y: *const V::Element,
    stride: usize,
    active: &[u32],
    weights: &[*const V::Element],
    sums: &[*mut f64],
) {
    // SAFETY: the caller's promises.
    unsafe {
        let weights: [*const V::Element; ROWS] = std::array::from_fn(|r| weights[r]);
        let mut acc = [[V::splat(V::Element::default()); COLUMNS]; ROWS];
        for &n in active {
            let row = y.add(n as usize * stride);
            // The fewer of the two stay in registers for one row.
            if ROWS > COLUMNS {
                let columns: [V; COLUMNS] = std::array::from_fn(|c| V::load(row.add(c * V::LANES)));
                for r in 0..ROWS {
                    let w = V::splat(*weights[r].add(n as usize));
                    for c in 0..COLUMNS {
                        acc[r][c] = w.mul_add(columns[c], acc[r][c]);
                    }
                }
            } else {
                let w: [V; ROWS] = std::array::from_fn(|r| V::splat(*weights[r].add(n as usize)));
                for c in 0..COLUMNS {
                    let column = V::load(row.add(c * V::LANES));
                    for r in 0..ROWS {
                        acc[r][c] = w[r].mul_add(column, acc[r][c]);
                    }
                }
            }
        }
        for (acc, sum) in acc.iter().zip(sums) {
            for (c, acc) in acc.iter().enumerate() {
                acc.add_to(sum.add(c * V::LANES));
            }
        }
    }
}
