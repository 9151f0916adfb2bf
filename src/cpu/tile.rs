//! Tiles of decoded data rows, and the sums over pairs of a query and a row that everything else is made of.

use super::vector::Vector;
use crate::dataset::{Reader, Rows};
use crate::error::{Result, try_vec};
use crate::tensor::Matrix;
use std::ops::{Deref, DerefMut, Range};

/// Zeros that start on a cache line, so that no register load crosses one.
pub struct Buffer<T> {
    data: Vec<T>,
    start: usize,
    len: usize,
}

impl<T: Copy + Default> Buffer<T> {
    const LINE: usize = 64;

    /// `len` zeros.
    pub fn zeros(len: usize, what: &str) -> Result<Self> {
        let data = try_vec(len + Self::LINE / size_of::<T>(), T::default(), what)?;
        let start = data.as_ptr().align_offset(Self::LINE);
        Ok(Self { data, start, len })
    }
}

impl<T> Deref for Buffer<T> {
    type Target = [T];
    #[inline(always)]
    fn deref(&self) -> &[T] {
        &self.data[self.start..self.start + self.len]
    }
}

impl<T> DerefMut for Buffer<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.data[self.start..self.start + self.len]
    }
}

/// How the pass over a data set is cut. It depends on the data set alone, never on the batch or the threads, because the
/// order of every sum follows from it.
#[derive(Clone, Copy)]
pub struct Plan {
    /// Elements from one decoded row to the next: d rounded up to a cache line of float32; the rest is zeros.
    pub stride: usize,
    /// Data rows per tile.
    pub tile: usize,
    /// Data rows per chunk, the unit of parallel work.
    pub chunk: usize,
    /// Number of data rows that take part.
    pub len: usize,
}

impl Plan {
    /// Queries that are looked at together.
    pub const GROUP: usize = 64;

    /// Data rows per tile at most.
    pub const MOST_TILE: usize = 256;

    /// The plan for `len` rows of `dim` numbers.
    pub fn new(len: usize, dim: usize) -> Self {
        const TILE_BYTES: usize = 400 << 10;
        const MOST_CHUNKS: usize = 32;
        const LEAST_CHUNK: usize = 1024;
        let stride = dim.next_multiple_of(16);
        // A multiple of 16, for the loops over a tile's numbers.
        let tile = (TILE_BYTES / (stride * size_of::<f32>())).min(len).clamp(16, Self::MOST_TILE).next_multiple_of(16);
        // A multiple of 16, the rows of a block of codes.
        let chunk = len.div_ceil(MOST_CHUNKS).max(LEAST_CHUNK).next_multiple_of(16).min(len.max(1));
        Self { stride, tile, chunk, len }
    }

    /// Number of chunks.
    pub fn chunks(&self) -> usize {
        self.len.div_ceil(self.chunk)
    }

    /// The rows of chunk `c`, as positions in the list of rows that take part.
    pub fn chunk_range(&self, c: usize) -> Range<usize> {
        c * self.chunk..((c + 1) * self.chunk).min(self.len)
    }
}

/// The index in the data set of the row at `position` of the list of rows that take part.
#[inline(always)]
pub fn row_index(subset: Option<&[u32]>, position: usize) -> usize {
    subset.map_or(position, |s| s[position] as usize)
}

/// The rows `ids` of a batch, padded to `stride`.
pub fn pack(x: &Matrix, ids: &[usize], stride: usize) -> Result<Buffer<f64>> {
    let mut packed = Buffer::zeros(ids.len() * stride, "packed queries")?;
    for (to, &i) in packed.chunks_exact_mut(stride).zip(ids) {
        to[..x.cols()].copy_from_slice(&x.host()[i * x.cols()..(i + 1) * x.cols()]);
    }
    Ok(packed)
}

/// Asks for memory that will be read soon, where the machine can.
#[inline(always)]
pub fn prefetch(bytes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    for line in bytes.chunks(64) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: a hint about memory that is there; every x86-64 processor has it.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = bytes;
}

/// A reader of the rows at `positions`; rows of a list are read one by one, since others may lie between them.
#[inline(always)]
pub fn reader<'a>(rows: &'a Rows, subset: Option<&[u32]>, positions: &Range<usize>) -> Reader<'a> {
    rows.reader(if subset.is_none() { positions.clone() } else { 0..0 })
}

/// Decodes the rows at `positions` into `tile`, one every `stride` elements.
#[inline(always)]
pub fn decode(rows: &Rows, subset: Option<&[u32]>, positions: Range<usize>, stride: usize, tile: &mut [f64]) {
    let mut reader = reader(rows, subset, &positions);
    for (to, p) in tile.chunks_exact_mut(stride).zip(positions) {
        reader.decode(row_index(subset, p), &mut to[..rows.dim()]);
    }
}

/// What a tile's numbers are to a query's: their squared difference summed, or their product summed.
pub trait PairSum<V: Vector> {
    /// sum + term(x, y).
    ///
    /// # Safety
    /// See [`super::vector`].
    unsafe fn add(sum: V, x: V, y: V) -> V;
}

/// (x - y)².
pub struct SquaredDifference;

/// x y.
pub struct Product;

impl<V: Vector> PairSum<V> for SquaredDifference {
    #[inline(always)]
    unsafe fn add(sum: V, x: V, y: V) -> V {
        // SAFETY: the caller's promise.
        unsafe {
            let d = x.sub(y);
            d.mul_add(d, sum)
        }
    }
}

impl<V: Vector> PairSum<V> for Product {
    #[inline(always)]
    unsafe fn add(sum: V, x: V, y: V) -> V {
        // SAFETY: the caller's promise.
        unsafe { x.mul_add(y, sum) }
    }
}

/// `out[b * tile + n] = Σ_k term(x_b[k], y_n[k])` for the packed queries `b` and `count` decoded rows.
///
/// The sum of one pair is one register accumulated along k in blocks, whatever its neighbours: its bits do not depend on
/// how pairs are grouped. Blocks are summed in float64.
///
/// # Safety
/// See [`super::vector`].
#[inline(always)]
pub unsafe fn pair_sums<V: Vector, P: PairSum<V>>(
    x: &[V::Element],
    queries: Range<usize>,
    y: &[V::Element],
    count: usize,
    plan: &Plan,
    out: &mut [f64],
) {
    let block = block::<V::Element>();
    assert!(x.len() >= queries.end * plan.stride && y.len() >= count * plan.stride);
    assert!(queries.is_empty() || out.len() >= (queries.end - 1) * plan.tile + count);
    for from in (0..plan.stride).step_by(block) {
        let ks = from..(from + block).min(plan.stride);
        let mut b = queries.start;
        while b < queries.end {
            // SAFETY: the assertion covers every pair; the instruction set is the caller's promise.
            unsafe {
                let together = together::<V>(queries.end - b);
                let ks = ks.clone();
                match together {
                    6 => against_tile::<V, P, 6>(x, b, y, count, plan, ks, out),
                    4 => against_tile::<V, P, 4>(x, b, y, count, plan, ks, out),
                    3 => against_tile::<V, P, 3>(x, b, y, count, plan, ks, out),
                    2 => against_tile::<V, P, 2>(x, b, y, count, plan, ks, out),
                    _ => against_tile::<V, P, 1>(x, b, y, count, plan, ks, out),
                }
                b += together;
            }
        }
    }
}

/// How many of the queries left to take together, at four rows each: as many as registers leave room for, and
/// rather two and two than three and one.
#[inline(always)]
fn together<V: Vector>(left: usize) -> usize {
    match left {
        6.. if V::REGISTERS >= 32 => 6,
        4.. if V::REGISTERS >= 32 => 4,
        4 => 2,
        3.. => 3,
        _ => left,
    }
}

/// The length of a block along k: of a few queries and a few data rows it stays in the first-level cache.
const fn block<E>() -> usize {
    const BLOCK_BYTES: usize = 4096;
    BLOCK_BYTES / size_of::<E>()
}

/// `out[i] = Σ_k term(x_b[k], y_n[k])` for the pairs `(b, n)` of packed queries and rows, with the bits of [`pair_sums`].
///
/// # Safety
/// See [`super::vector`].
#[inline(always)]
pub unsafe fn pair_list<V: Vector, P: PairSum<V>>(
    x: &[V::Element],
    y: &[V::Element],
    pairs: &[(u32, u32)],
    stride: usize,
    out: &mut [f64],
) {
    // Several sums at once hide the time that one takes to be ready for its next term.
    const TOGETHER: usize = 8;
    assert!(out.len() >= pairs.len());
    let at = |(b, n): (u32, u32)| {
        let (b, n) = (b as usize * stride, n as usize * stride);
        assert!(b + stride <= x.len() && n + stride <= y.len());
        (b, n)
    };
    for (pairs, out) in pairs.chunks(TOGETHER).zip(out.chunks_mut(TOGETHER)) {
        // A list that is not full repeats its first pair.
        let at: [_; TOGETHER] = std::array::from_fn(|i| at(*pairs.get(i).unwrap_or(&pairs[0])));
        let mut totals = [0.0; TOGETHER];
        for from in (0..stride).step_by(block::<V::Element>()) {
            // SAFETY: `at` checked that both rows are there; the instruction set is the caller's promise.
            unsafe {
                let mut sums = [V::splat(V::Element::default()); TOGETHER];
                let mut k = from;
                while k < (from + block::<V::Element>()).min(stride) {
                    for (sum, (b, n)) in sums.iter_mut().zip(at) {
                        *sum = P::add(*sum, V::load(x.as_ptr().add(b + k)), V::load(y.as_ptr().add(n + k)));
                    }
                    k += V::LANES;
                }
                for (total, sum) in totals.iter_mut().zip(sums) {
                    let sum: f64 = sum.sum().into();
                    *total = if from == 0 { sum } else { *total + sum };
                }
            }
        }
        out.copy_from_slice(&totals[..out.len()]);
    }
}

/// Rows whose sums are formed together.
const ROWS: usize = 4;

#[inline(always)]
unsafe fn against_tile<V: Vector, P: PairSum<V>, const XS: usize>(
    x: &[V::Element],
    b: usize,
    y: &[V::Element],
    count: usize,
    plan: &Plan,
    ks: Range<usize>,
    out: &mut [f64],
) {
    let mut n = 0;
    while n < count {
        // SAFETY: the caller checked the bounds.
        unsafe {
            if n + ROWS <= count {
                let sums = pairs::<V, P, XS, ROWS>(x, b, y, n, plan.stride, &ks);
                for (i, sums) in sums.into_iter().enumerate() {
                    let at = (b + i) * plan.tile + n;
                    let to = out.get_unchecked_mut(at..at + ROWS);
                    let sums = V::sums(sums);
                    for j in 0..ROWS {
                        to[j] = if ks.start == 0 { sums[j] } else { to[j] + sums[j] };
                    }
                }
                n += ROWS;
            } else {
                let sums = pairs::<V, P, XS, 1>(x, b, y, n, plan.stride, &ks);
                for (i, [sum]) in sums.into_iter().enumerate() {
                    let to = out.get_unchecked_mut((b + i) * plan.tile + n);
                    let sum: f64 = sum.sum().into();
                    *to = if ks.start == 0 { sum } else { *to + sum };
                }
                n += 1;
            }
        }
    }
}

/// The terms of queries b..b + XS and rows n..n + YS over `ks`, one register for each pair.
#[inline(always)]
unsafe fn pairs<V: Vector, P: PairSum<V>, const XS: usize, const YS: usize>(
    x: &[V::Element],
    b: usize,
    y: &[V::Element],
    n: usize,
    stride: usize,
    ks: &Range<usize>,
) -> [[V; YS]; XS] {
    // SAFETY: the caller checked that the rows and columns are inside.
    unsafe {
        let xs: [*const V::Element; XS] = std::array::from_fn(|i| x.as_ptr().add((b + i) * stride));
        let ys: [*const V::Element; YS] = std::array::from_fn(|j| y.as_ptr().add((n + j) * stride));
        let mut sums = [[V::splat(V::Element::default()); YS]; XS];
        let mut k = ks.start;
        while k < ks.end {
            let xv: [V; XS] = std::array::from_fn(|i| V::load(xs[i].add(k)));
            for j in 0..YS {
                let yv = V::load(ys[j].add(k));
                for i in 0..XS {
                    sums[i][j] = P::add(sums[i][j], xv[i], yv);
                }
            }
            k += V::LANES;
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::vector::Isa;
    use crate::cpu::{InstructionSet, Kernel};

    struct Sums<'a> {
        x: &'a [f32],
        queries: usize,
        y: &'a [f32],
        count: usize,
        plan: &'a Plan,
        out: &'a mut [f64],
    }

    impl Kernel for Sums<'_> {
        type Output = ();

        unsafe fn run<S: Isa>(self) {
            let Self { x, queries, y, count, plan, out } = self;
            // SAFETY: the instruction set is this function's own precondition.
            unsafe { pair_sums::<S::Single, Product>(x, 0..queries, y, count, plan, out) };
        }
    }

    #[test]
    fn bits_of_a_pair_do_not_depend_on_its_neighbours() {
        // More than one block along k, and every way to split queries and rows.
        let plan = Plan { stride: 1040, tile: 16, chunk: 16, len: 16 };
        let number = |i: usize| ((i * 2_654_435_761) % 1_000_003) as f32 / 500_000.0 - 1.0;
        let x: Vec<f32> = (0..17 * plan.stride).map(number).collect();
        let y: Vec<f32> = (0..16 * plan.stride).map(|i| number(i + 7)).collect();
        for set in InstructionSet::available() {
            for (queries, count) in [(17, 16), (16, 15), (11, 14), (5, 13), (3, 4), (2, 1)] {
                let mut out = vec![0.0; queries * plan.tile];
                set.run(Sums { x: &x, queries, y: &y, count, plan: &plan, out: &mut out });
                for (b, n) in (0..queries).flat_map(|b| (0..count).map(move |n| (b, n))) {
                    let (x, y) = (&x[b * plan.stride..][..plan.stride], &y[n * plan.stride..][..plan.stride]);
                    let mut one = [0.0];
                    set.run(Sums { x, queries: 1, y, count: 1, plan: &plan, out: &mut one });
                    let exact: f64 = x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
                    assert_eq!(out[b * plan.tile + n].to_bits(), one[0].to_bits(), "{set:?} {queries} {count} {b} {n}");
                    // At most 264 roundings deep, each 6e-8 of at most |x||y|, which is about 350.
                    assert!((one[0] - exact).abs() < 6e-3, "{set:?}: {} {exact}", one[0]);
                }
            }
        }
    }
}
