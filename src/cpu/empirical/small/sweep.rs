//! The kernels: a block of queries, one in each lane, against the rows one by one.

use crate::cpu::Kernel;
use crate::cpu::empirical::sums::SERIES;
use crate::cpu::tile::row_index;
use crate::cpu::vector::{Double, Isa, Vector};
use std::ops::Range;

/// Queries that are answered together.
pub const BLOCK: usize = 32;

/// One number per query of a block.
pub type Lane = [f64; BLOCK];
/// One vector per query of a block.
pub type Lanes<const D: usize> = [Lane; D];

/// What the second sweep sums, each with what is before it: nothing.
pub const NEAREST: u8 = 0;
/// Σ w (y - b) and Σ w.
pub const MEAN: u8 = 1;
/// Σ w h (|x - y|² - best) and Σ w |y - b|² too; from here on Σ w leaves out b, whose weight is 1.
pub const SCALARS: u8 = 2;
/// Σ w (y - b) ((y - b)·v) too.
pub const PRODUCT: u8 = 3;

/// The nearest rows of a block.
#[derive(Clone, Copy)]
pub struct Nearest {
    /// Smallest squared distance.
    pub best: Lane,
    /// The position of its row among those that take part, a whole number.
    pub position: Lane,
}

impl Nearest {
    pub const START: Self = Self { best: [f64::INFINITY; BLOCK], position: [0.0; BLOCK] };

    /// The results of later rows.
    pub fn absorb(&mut self, later: &Self) {
        for l in 0..BLOCK {
            if later.best[l] < self.best[l] {
                (self.best[l], self.position[l]) = (later.best[l], later.position[l]);
            }
        }
    }
}

/// See the constants above.
#[derive(Clone, Copy)]
pub struct Sums<const D: usize> {
    /// Σ w (y - b).
    pub mean: Lanes<D>,
    /// Σ w.
    pub weight: Lane,
    /// Σ w h (|x - y|² - best).
    pub excess: Lane,
    /// Σ w |y - b|².
    pub square: Lane,
    /// Σ w (y - b) ((y - b)·v).
    pub product: Lanes<D>,
}

impl<const D: usize> Sums<D> {
    pub const START: Self = Self {
        mean: [[0.0; BLOCK]; D],
        weight: [0.0; BLOCK],
        excess: [0.0; BLOCK],
        square: [0.0; BLOCK],
        product: [[0.0; BLOCK]; D],
    };

    pub fn absorb(&mut self, other: &Self) {
        let add = |to: &mut Lane, from: &Lane| to.iter_mut().zip(from).for_each(|(t, f)| *t += f);
        for k in 0..D {
            add(&mut self.mean[k], &other.mean[k]);
            add(&mut self.product[k], &other.product[k]);
        }
        add(&mut self.weight, &other.weight);
        add(&mut self.excess, &other.excess);
        add(&mut self.square, &other.square);
    }
}

/// A block of queries and all that is known of it. Where there are fewer queries, the last is repeated.
pub struct Block<const D: usize> {
    /// The queries' rows in the batch, the first `len` of them.
    pub ids: [usize; BLOCK],
    pub len: usize,
    pub x: Lanes<D>,
    /// Half the precision.
    pub h: Lane,
    pub tangent: Lanes<D>,
    pub nearest: Nearest,
    /// b.
    pub around: Lanes<D>,
    pub sums: Sums<D>,
    /// ȳ, and after it what is made of the sums.
    pub mean: Lanes<D>,
    pub offset: Lanes<D>,
    pub product: Lanes<D>,
    pub trace: Lane,
}

impl<const D: usize> Block<D> {
    pub const START: Self = Self {
        ids: [0; BLOCK],
        len: 0,
        x: [[0.0; BLOCK]; D],
        h: [0.0; BLOCK],
        tangent: [[0.0; BLOCK]; D],
        nearest: Nearest::START,
        around: [[0.0; BLOCK]; D],
        sums: Sums::START,
        mean: [[0.0; BLOCK]; D],
        offset: [[0.0; BLOCK]; D],
        product: [[0.0; BLOCK]; D],
        trace: [0.0; BLOCK],
    };
}

/// e^l is 0 below this, where float64 begins to lose digits.
pub const SMALLEST: f64 = -708.0;

/// e^l for l from [`SMALLEST`] to 0.
///
/// # Safety
/// See [`crate::cpu::vector`].
#[inline(always)]
unsafe fn exp<V: Double>(l: V) -> V {
    // Adding 1.5·2^52 leaves the nearest whole number in the low bits of the significand.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    // SAFETY: the caller's promise.
    unsafe {
        let shifted = l.mul_add(V::splat(std::f64::consts::LOG2_E), V::splat(ROUND));
        // ln 2 is off by less than l's own rounding, however often it is taken.
        let r = shifted.sub(V::splat(ROUND)).mul_add(V::splat(-std::f64::consts::LN_2), l);
        let mut sum = V::splat(SERIES[0]);
        for c in &SERIES[1..] {
            sum = sum.mul_add(r, V::splat(*c));
        }
        sum.mul_add(r, V::splat(1.0)).mul(shifted.power_of_two())
    }
}

/// One sweep of a block over the rows at `positions`: the nearest of them, or sums.
pub struct Sweep<'a, const D: usize, const KIND: u8> {
    pub rows: &'a [f64],
    pub subset: Option<&'a [u32]>,
    pub positions: Range<usize>,
    /// ln of the smallest weight that is not 0.
    pub limit: f64,
    pub block: &'a mut Block<D>,
}

impl<const D: usize, const KIND: u8> Kernel for Sweep<'_, D, KIND> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Isa>(mut self) {
        assert!(self.subset.map_or(self.rows.len() / D, <[u32]>::len) >= self.positions.end);
        // As many registers as can be kept at hand; none for queries that are not there.
        let mut from = 0;
        while from < self.block.len {
            let two = self.block.len - from > S::Double::LANES;
            // SAFETY: the instruction set is this function's own precondition; the rows were just checked.
            unsafe {
                match (KIND, D) {
                    (NEAREST, 1..=4) if two => self.find::<S::Double, 2>(&mut from),
                    (NEAREST, _) => self.find::<S::Double, 1>(&mut from),
                    (_, 1..=2) if two => self.add::<S::Double, 2>(&mut from),
                    _ => self.add::<S::Double, 1>(&mut from),
                }
            }
        }
    }
}

impl<const D: usize, const KIND: u8> Sweep<'_, D, KIND> {
    /// The row at `position`.
    #[inline(always)]
    fn row(&self, position: usize) -> *const f64 {
        let row = row_index(self.subset, position) * D;
        self.rows[row..row + D].as_ptr()
    }

    /// # Safety
    /// See [`crate::cpu::vector`].
    #[inline(always)]
    unsafe fn find<V: Double, const REGISTERS: usize>(&mut self, from: &mut usize) {
        // SAFETY: the caller's promise; a lane of a block has room for its registers.
        unsafe {
            let x = load::<V, D, REGISTERS>(&self.block.x, *from);
            let mut best = [V::splat(f64::INFINITY); REGISTERS];
            let mut at = [V::splat(0.0); REGISTERS];
            let mut position = V::splat(self.positions.start as f64);
            for p in self.positions.clone() {
                let y = self.row(p);
                for g in 0..REGISTERS {
                    let d2 = squared_distance(&x[g], y);
                    at[g] = d2.if_less(best[g], position, at[g]);
                    best[g] = d2.if_less(best[g], d2, best[g]);
                }
                position = position.add(V::splat(1.0));
            }
            store(&best, &mut self.block.nearest.best, *from);
            store(&at, &mut self.block.nearest.position, *from);
        }
        *from += REGISTERS * V::LANES;
    }

    /// # Safety
    /// See [`crate::cpu::vector`].
    #[inline(always)]
    unsafe fn add<V: Double, const REGISTERS: usize>(&mut self, from: &mut usize) {
        // SAFETY: the caller's promise; a lane of a block has room for its registers.
        unsafe {
            let zero = V::splat(0.0);
            let x = load::<V, D, REGISTERS>(&self.block.x, *from);
            let around = load::<V, D, REGISTERS>(&self.block.around, *from);
            let tangent = load::<V, D, REGISTERS>(&self.block.tangent, *from);
            let best = load_one::<V, REGISTERS>(&self.block.nearest.best, *from);
            let at = load_one::<V, REGISTERS>(&self.block.nearest.position, *from);
            let h = load_one::<V, REGISTERS>(&self.block.h, *from);
            let limit = V::splat(self.limit);
            let (mut mean, mut product) = ([[zero; D]; REGISTERS], [[zero; D]; REGISTERS]);
            let (mut weight, mut excess, mut square) = ([zero; REGISTERS], [zero; REGISTERS], [zero; REGISTERS]);
            let mut position = V::splat(self.positions.start as f64);
            for p in self.positions.clone() {
                let y = self.row(p);
                let mut log = [zero; REGISTERS];
                let mut any = false;
                for g in 0..REGISTERS {
                    log[g] = best[g].sub(squared_distance(&x[g], y)).mul(h[g]);
                    any |= log[g].any_at_least(limit);
                }
                if any {
                    for g in 0..REGISTERS {
                        let mut l = log[g];
                        if KIND >= SCALARS {
                            // Infinite times 0 is no number.
                            l = l.if_less(limit, V::splat(2.0 * SMALLEST), l);
                        }
                        let mut w = l.if_less(limit, zero, exp(l));
                        if KIND >= SCALARS {
                            w = position.if_less(at[g], w, at[g].if_less(position, w, zero));
                            excess[g] = w.mul_add(zero.sub(l), excess[g]);
                        }
                        weight[g] = weight[g].add(w);
                        let mut apart = [zero; D];
                        for k in 0..D {
                            apart[k] = V::splat(*y.add(k)).sub(around[g][k]);
                            mean[g][k] = w.mul_add(apart[k], mean[g][k]);
                        }
                        if KIND >= SCALARS {
                            square[g] = w.mul_add(dot(&apart, &apart), square[g]);
                        }
                        if KIND == PRODUCT {
                            let along = w.mul(dot(&apart, &tangent[g]));
                            for k in 0..D {
                                product[g][k] = along.mul_add(apart[k], product[g][k]);
                            }
                        }
                    }
                }
                position = position.add(V::splat(1.0));
            }
            let sums = &mut self.block.sums;
            for k in 0..D {
                store(&std::array::from_fn::<V, REGISTERS, _>(|g| mean[g][k]), &mut sums.mean[k], *from);
                store(&std::array::from_fn::<V, REGISTERS, _>(|g| product[g][k]), &mut sums.product[k], *from);
            }
            store(&weight, &mut sums.weight, *from);
            store(&excess, &mut sums.excess, *from);
            store(&square, &mut sums.square, *from);
        }
        *from += REGISTERS * V::LANES;
    }
}

/// # Safety
/// See [`crate::cpu::vector`]; so with the functions below.
#[inline(always)]
unsafe fn load_one<V: Double, const REGISTERS: usize>(lane: &Lane, from: usize) -> [V; REGISTERS] {
    // SAFETY: each part is one register long; the caller's promise.
    unsafe {
        let mut to = [V::splat(0.0); REGISTERS];
        for (g, to) in to.iter_mut().enumerate() {
            *to = V::load(lane[from + g * V::LANES..from + (g + 1) * V::LANES].as_ptr());
        }
        to
    }
}

#[inline(always)]
unsafe fn load<V: Double, const D: usize, const REGISTERS: usize>(
    lanes: &Lanes<D>,
    from: usize,
) -> [[V; D]; REGISTERS] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut to = [[V::splat(0.0); D]; REGISTERS];
        for (k, lane) in lanes.iter().enumerate() {
            for (to, v) in to.iter_mut().zip(load_one::<V, REGISTERS>(lane, from)) {
                to[k] = v;
            }
        }
        to
    }
}

#[inline(always)]
unsafe fn store<V: Double, const REGISTERS: usize>(from: &[V; REGISTERS], lane: &mut Lane, at: usize) {
    for (g, v) in from.iter().enumerate() {
        let part = &mut lane[at + g * V::LANES..at + (g + 1) * V::LANES];
        // SAFETY: the part is one register long; the caller's promise.
        unsafe { v.store(part.as_mut_ptr()) };
    }
}

/// |x - y|², with the bits of [`crate::cpu::tile::pair_sums`], by which a search finds the same distances; `y` points to D
/// numbers.
#[inline(always)]
unsafe fn squared_distance<V: Double, const D: usize>(x: &[V; D], y: *const f64) -> V {
    // SAFETY: the caller's promise.
    unsafe {
        let mut terms = [V::splat(0.0); D];
        for (k, x) in x.iter().enumerate() {
            let apart = x.sub(V::splat(*y.add(k)));
            terms[k % V::LANES] = apart.mul_add(apart, terms[k % V::LANES]);
        }
        let mut half = V::LANES / 2;
        while half > 0 {
            let mut i = 0;
            while i < half && i + half < D {
                terms[i] = terms[i].add(terms[i + half]);
                i += 1;
            }
            half /= 2;
        }
        terms[0]
    }
}

#[inline(always)]
unsafe fn dot<V: Double, const D: usize>(a: &[V; D], b: &[V; D]) -> V {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sum = V::splat(0.0);
        for (a, b) in a.iter().zip(b) {
            sum = a.mul_add(*b, sum);
        }
        sum
    }
}

/// Turns the sums of a block into results.
pub struct Divide<'a, const D: usize> {
    pub kind: u8,
    pub block: &'a mut Block<D>,
}

impl<const D: usize> Kernel for Divide<'_, D> {
    type Output = ();

    #[inline(always)]
    #[allow(clippy::needless_range_loop)]
    unsafe fn run<S: Isa>(self) {
        let Self { kind, block } = self;
        let Block { x, around, sums, mean, offset, product, tangent, .. } = block;
        let mut inverse = [0.0; BLOCK];
        for l in 0..BLOCK {
            inverse[l] = 1.0 / if kind >= SCALARS { 1.0 + sums.weight[l] } else { sums.weight[l] };
        }
        for k in 0..D {
            for l in 0..BLOCK {
                let u = sums.mean[k][l] * inverse[l];
                sums.mean[k][l] = u;
                mean[k][l] = around[k][l] + u;
                offset[k][l] = (around[k][l] - x[k][l]) + u;
            }
        }
        if kind < SCALARS {
            return;
        }
        let (mut square, mut along) = ([0.0; BLOCK], [0.0; BLOCK]);
        for k in 0..D {
            for l in 0..BLOCK {
                square[l] = S::mul_add(sums.mean[k][l], sums.mean[k][l], square[l]);
                along[l] = S::mul_add(sums.mean[k][l], tangent[k][l], along[l]);
            }
        }
        for l in 0..BLOCK {
            block.trace[l] = (sums.square[l] * inverse[l] - square[l]).max(0.0);
        }
        for k in 0..D {
            for l in 0..BLOCK {
                product[k][l] = sums.product[k][l] * inverse[l] - sums.mean[k][l] * along[l];
            }
        }
    }
}
