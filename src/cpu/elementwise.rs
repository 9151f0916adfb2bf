//! Row-wise sums, noise and norms on working matrices.

use super::pool::{Parts, Pool};
use crate::engine::Factor;
use crate::error::{Result, per_row};
use crate::random::Stream;
use crate::tensor::Matrix;

/// Calls `f(i, row i)` for every row, in parallel where `cost` (nanoseconds per element) makes it worth while.
fn for_rows(pool: &Pool, m: &mut Matrix, cost: usize, f: impl Fn(usize, &mut [f64]) + Sync) {
    const ROWS: usize = 16;
    let (rows, d) = (m.rows(), m.cols());
    let parts = Parts::new(m.host_mut());
    let block = |b: usize| {
        for i in b * ROWS..((b + 1) * ROWS).min(rows) {
            // SAFETY: one task per block of rows, one part per row; `m` is borrowed until `run` returns.
            f(i, unsafe { parts.part(i * d..(i + 1) * d) });
        }
    };
    if pool.run(rows.div_ceil(ROWS), rows * d * cost, block).is_err() {
        // The pool could not start its threads; the work is the same on this one.
        (0..rows.div_ceil(ROWS)).for_each(block);
    }
}

/// out ← Σ factor · matrix, or out ← keep · out + Σ factor · matrix, terms in the order given.
pub fn combine(pool: &Pool, out: &mut Matrix, keep: Option<Factor<'_>>, terms: &[(Factor<'_>, &Matrix)]) {
    let d = out.cols();
    for (_, m) in terms {
        assert!(m.rows() == out.rows() && m.cols() == d, "combine: shapes differ");
    }
    for_rows(pool, out, 1, |i, row| {
        match keep.map(|k| k.of(i)) {
            None => row.fill(0.0),
            Some(k) => row.iter_mut().for_each(|v| *v *= k),
        }
        for (factor, m) in terms {
            let c = factor.of(i);
            row.iter_mut().zip(&m.host()[i * d..(i + 1) * d]).for_each(|(o, v)| *o += c * v);
        }
    });
}

/// out ← out + factor · z.
pub fn add_normal(pool: &Pool, out: &mut Matrix, factor: Factor<'_>, stream: Stream, first_sample: u64) {
    for_rows(pool, out, 20, |i, row| {
        let c = factor.of(i);
        for (pair, values) in (0u32..).zip(row.chunks_mut(2)) {
            let z = stream.normal_pair(first_sample + i as u64, pair);
            values.iter_mut().zip(z).for_each(|(o, z)| *o += c * z);
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
pub fn error_norms(error: &Matrix, x: &Matrix, y: &Matrix, rtol: f64, atol: f64) -> Result<Vec<f64>> {
    per_row(error.rows(), |i| {
        let terms = row_of(error, i).iter().zip(row_of(x, i)).zip(row_of(y, i));
        let sum: f64 = terms.map(|((e, x), y)| share(*e, atol + rtol * x.abs().max(y.abs())).powi(2)).sum();
        (sum / error.cols() as f64).sqrt()
    })
}
