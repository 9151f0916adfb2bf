//! Row-wise sums with noise, and norms, on working matrices.

use super::pool::{Parts, Pool};
use super::vector::Isa;
use super::{InstructionSet, Kernel};
use crate::engine::{Factor, Noise};
use crate::error::{Result, per_row};
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

/// [`Engine::combine`](crate::engine::Engine::combine), terms in the order given.
pub fn combine(
    pool: &Pool,
    isa: InstructionSet,
    out: &mut Matrix,
    keep: Option<Factor<'_>>,
    terms: &[(Factor<'_>, &Matrix)],
    noise: Option<Noise>,
) {
    let d = out.cols();
    for (_, m) in terms {
        assert!(m.rows() == out.rows() && m.cols() == d, "combine: shapes differ");
    }
    let cost = if noise.is_some() { 20 } else { 1 };
    for_rows(pool, out, cost, |rows, out| {
        isa.run(Combine { out: &mut *out, rows: rows.clone(), d, keep, terms });
        if let Some(noise) = noise {
            add_noise(out, rows, d, noise);
        }
    });
}

/// [`combine`] for a block of rows, but for the noise.
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

/// The noise of a block of rows.
fn add_noise(out: &mut [f64], rows: Range<usize>, d: usize, noise: Noise) {
    let Noise { factor, stream, first_sample } = noise;
    for (i, row) in rows.zip(out.chunks_exact_mut(d.max(1))) {
        for (pair, values) in (0u32..).zip(row.chunks_mut(2)) {
            let z = stream.normal_pair(first_sample + i as u64, pair);
            values.iter_mut().zip(z).for_each(|(o, z)| *o += factor * z);
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Cpu;
    use crate::engine::Engine;
    use crate::random::{Purpose, Stream};

    #[test]
    fn a_sum_with_noise_has_the_bits_of_the_sum_and_then_the_noise() {
        let stream = Stream { seed: 3, purpose: Purpose::Step, step: 5 };
        // Odd and even; more rows than a block has, enough to be shared by two threads.
        for (rows, d) in [(1, 1), (3, 2), (200, 7), (200, 64)] {
            let numbers = |sample: u64| {
                let mut m = vec![0.0; rows * d];
                Stream { seed: 9, ..stream }.fill_normal(sample, &mut m);
                // The second noise leaves the signs of zeros to the sum.
                m.iter_mut().step_by(3).for_each(|v| *v = -0.0);
                Matrix::from_host(m, rows, d)
            };
            let (start, first, second) = (numbers(0), numbers(1), numbers(2));
            let own: Vec<f64> = (0..rows).map(|i| i as f64 - 1.5).collect();
            for keep in [None, Some(Factor::All(1.0)), Some(Factor::All(-0.3)), Some(Factor::Rows(&own))] {
                let all = [(Factor::All(0.7), &first), (Factor::Rows(&own), &second)];
                for terms in (0..=2).map(|count| &all[..count]) {
                    for factor in [0.37, 0.0] {
                        let copy = || Matrix::from_host(start.host().to_vec(), rows, d);
                        let (cpu, mut want) = (Cpu::new(1, None).unwrap(), copy());
                        cpu.combine(&mut want, keep, terms, None).unwrap();
                        let mut z = vec![0.0; d];
                        for (i, row) in want.host_mut().chunks_mut(d).enumerate() {
                            stream.fill_normal(1000 + i as u64, &mut z);
                            row.iter_mut().zip(&z).for_each(|(v, z)| *v += factor * z);
                        }
                        let bits = |m: &Matrix| m.host().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                        for threads in [1, 2] {
                            let (cpu, mut found) = (Cpu::new(threads, None).unwrap(), copy());
                            let noise = Some(Noise { factor, stream, first_sample: 1000 });
                            cpu.combine(&mut found, keep, terms, noise).unwrap();
                            assert_eq!(bits(&found), bits(&want), "{rows} x {d}, {keep:?}, {terms:?}, {factor}");
                        }
                    }
                }
            }
        }
    }
}
