//! Row-wise sums, noise and norms on working matrices.

use super::pool::{Parts, Pool};
use super::vector::Isa;
use super::{InstructionSet, Kernel};
use crate::engine::Factor;
use crate::error::{Result, per_row};
use crate::random::Stream;
use crate::tensor::Matrix;
use std::ops::Range;

/// Calls `f(rows, their elements)` for blocks of rows, in parallel where `cost` (nanoseconds per element) makes it worth
/// while.
fn for_rows(pool: &Pool, m: &mut Matrix, cost: usize, f: impl Fn(Range<usize>, &mut [f64]) + Sync) {
    const ROWS: usize = 64;
    let (rows, d) = (m.rows(), m.cols());
    let parts = Parts::new(m.host_mut());
    let block = |b: usize| {
        let rows = b * ROWS..((b + 1) * ROWS).min(rows);
        // SAFETY: one task and one part per block of rows; `m` is borrowed until `run` returns.
        let part = unsafe { parts.part(rows.start * d..rows.end * d) };
        f(rows, part);
    };
    if pool.run(rows.div_ceil(ROWS), rows * d * cost, block).is_err() {
        // The pool could not start its threads; the work is the same on this one.
        (0..rows.div_ceil(ROWS)).for_each(block);
    }
}

/// out ← Σ factor · matrix, or out ← keep · out + Σ factor · matrix, terms in the order given.
pub fn combine(
    pool: &Pool,
    isa: InstructionSet,
    out: &mut Matrix,
    keep: Option<Factor<'_>>,
    terms: &[(Factor<'_>, &Matrix)],
) {
    let d = out.cols();
    for (_, m) in terms {
        assert!(m.rows() == out.rows() && m.cols() == d, "combine: shapes differ");
    }
    for_rows(pool, out, 1, |rows, out| isa.run(Combine { out, rows, d, keep, terms }));
}

/// [`combine`] for a block of rows.
struct Combine<'a> {
    out: &'a mut [f64],
    rows: Range<usize>,
    d: usize,
    keep: Option<Factor<'a>>,
    terms: &'a [(Factor<'a>, &'a Matrix)],
}

impl Kernel for Combine<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Isa>(self) {
        let Self { out, rows, d, keep, mut terms } = self;
        let part = |m: &'_ Matrix| rows.start * m.cols()..rows.end * m.cols();
        match (keep, terms) {
            (None, [(Factor::All(c), m), rest @ ..]) => {
                out.iter_mut().zip(&m.host()[part(m)]).for_each(|(o, v)| *o = c * v);
                terms = rest;
            }
            (None, _) => out.fill(0.0),
            (Some(Factor::All(1.0)), _) => {}
            (Some(Factor::All(c)), _) => out.iter_mut().for_each(|v| *v *= c),
            (Some(Factor::Rows(c)), _) => {
                for (row, c) in out.chunks_exact_mut(d.max(1)).zip(&c[rows.clone()]) {
                    row.iter_mut().for_each(|v| *v *= c);
                }
            }
        }
        for (factor, m) in terms {
            let from = &m.host()[part(m)];
            match factor {
                Factor::All(c) => out.iter_mut().zip(from).for_each(|(o, v)| *o += c * v),
                Factor::Rows(c) => {
                    let each = out.chunks_exact_mut(d.max(1)).zip(from.chunks_exact(d.max(1)));
                    for ((row, from), c) in each.zip(&c[rows.clone()]) {
                        row.iter_mut().zip(from).for_each(|(o, v)| *o += c * v);
                    }
                }
            }
        }
    }
}

/// out ← out + factor · z.
pub fn add_normal(pool: &Pool, out: &mut Matrix, factor: Factor<'_>, stream: Stream, first_sample: u64) {
    let d = out.cols().max(1);
    for_rows(pool, out, 20, |rows, out| {
        for (i, row) in rows.zip(out.chunks_exact_mut(d)) {
            let c = factor.of(i);
            for (pair, values) in (0u32..).zip(row.chunks_mut(2)) {
                let z = stream.normal_pair(first_sample + i as u64, pair);
                values.iter_mut().zip(z).for_each(|(o, z)| *o += c * z);
            }
        }
    });
}

/// Row inner products.
pub fn dot_rows(x: &Matrix, y: &Matrix) -> Result<Vec<f64>> {
    per_row(x.rows(), |i| row_of(x, i).iter().zip(row_of(y, i)).map(|(a, b)| a * b).sum())
}

fn row_of(m: &Matrix, i: usize) -> &[f64] {
    &m.host()[i * m.cols()..(i + 1) * m.cols()]
}

/// error / allowed; no error needs no allowance.
fn share(error: f64, allowed: f64) -> f64 {
    if error == 0.0 { 0.0 } else { error / allowed }
}

/// Root mean square over a row of error / (atol + rtol max(|x|, |y|)).
pub fn error_norms(out: &mut [f64], error: &Matrix, x: &Matrix, y: &Matrix, rtol: f64, atol: f64) {
    for (i, norm) in out.iter_mut().enumerate() {
        let terms = row_of(error, i).iter().zip(row_of(x, i)).zip(row_of(y, i));
        let sum: f64 = terms.map(|((e, x), y)| share(*e, atol + rtol * x.abs().max(y.abs())).powi(2)).sum();
        *norm = (sum / error.cols() as f64).sqrt();
    }
}
