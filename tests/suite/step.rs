//! What a sampler's step takes of an empirical score in small dimensions, in float32 against float64: the same queries in
//! every dimension, on every instruction set, alone and among others.

use crate::data::{Rng, distance, norm};
use mnemo::cpu::{Cpu, InstructionSet};
use mnemo::dataset::{Dataset, Decoding};
use mnemo::engine::{Grade, Moments, Query, SharedEngine};
use mnemo::exec::Exec;
use mnemo::tensor::{Matrix, View};
use std::sync::Arc;

/// ȳ and ȳ - x of the queries `x`; ȳ is `None` unless it was asked for.
fn answer(
    engine: &SharedEngine,
    dataset: &Dataset,
    x: &[f64],
    sigma: &[f64],
    grade: Grade,
    with_mean: bool,
) -> (Option<Vec<f64>>, Vec<f64>) {
    let (batch, d) = (sigma.len(), x.len() / sigma.len());
    let precision: Vec<f64> = sigma.iter().map(|s| 1.0 / (s * s)).collect();
    let x = Matrix::from_host(x.to_vec(), batch, d);
    let (mut mean, mut offset) = (engine.zeros(batch, d).unwrap(), engine.zeros(batch, d).unwrap());
    let query = Query {
        rows: dataset.rows(),
        subset: None,
        x: &x,
        precision: &precision,
        tolerance: 0.0,
        grade,
        step: true,
        tangent: None,
        x_error: None,
    };
    let out = Moments { mean: with_mean.then_some(&mut mean), offset: Some(&mut offset), ..Moments::default() };
    engine.empirical(&query, out, &Exec::default()).unwrap();
    (with_mean.then(|| mean.host().to_vec()), offset.host().to_vec())
}

const SIGMAS: [f64; 10] = [0.002, 0.01, 0.03, 0.1, 0.2, 0.4, 0.7, 1.5, 8.0, 80.0];

/// Noised rows, rows themselves, points on and near the bisector of two rows, and points that no noise explains.
fn queries(rng: &mut Rng, data: &[f64], d: usize) -> (Vec<f64>, Vec<f64>) {
    let n = data.len() / d;
    let (mut x, mut sigmas) = (Vec::new(), Vec::new());
    let mut push = |point: Vec<f64>, sigma: f64| {
        x.extend(point);
        sigmas.push(sigma);
    };
    for sigma in SIGMAS {
        for _ in 0..8 {
            let row = rng.below(n);
            push((0..d).map(|k| data[row * d + k] + sigma * rng.normal()).collect(), sigma);
        }
        let (a, b) = (rng.below(n), rng.below(n));
        push(data[a * d..(a + 1) * d].to_vec(), sigma);
        for off in [0.0, 1e-9, 1e-3 * sigma] {
            push((0..d).map(|k| 0.5 * (data[a * d + k] + data[b * d + k]) + off * rng.normal()).collect(), sigma);
        }
        push((0..d).map(|k| data[a * d + k] + 3.0 * rng.normal()).collect(), sigma);
    }
    (x, sigmas)
}

#[test]
fn float32_is_as_near_as_promised() {
    let mut rng = Rng(77);
    let mut worst = (0.0f64, 0.0f64);
    for d in (1..=9).chain([13, 16]) {
        // One, odd and even, either side of a tile, and more than one chunk of 1024.
        for n in [1, 2, 7, 20, 32, 33, 65, 1023, 2051] {
            // Rows that no float32 number is, far from the origin in half of the cases.
            let shift = if n % 2 == 0 { 0.0 } else { 1e6 };
            let data: Vec<f64> = rng.normals(n * d).iter().map(|v| v + shift).collect();
            let (x, sigmas) = queries(&mut rng, &data, d);
            let radius = 2.0 * (d as f64).sqrt();
            for isa in InstructionSet::available() {
                let engine: SharedEngine = Arc::new(Cpu::with_instruction_set(1, None, isa).unwrap());
                let dataset = Dataset::copy(engine.clone(), View::new(&data, n, d), None, Decoding::default()).unwrap();
                let ask = |grade, with_mean| answer(&engine, &dataset, &x, &sigmas, grade, with_mean);
                let ((mean, exact), (_, alone)) = (ask(Grade::Double, true), ask(Grade::Single, false));
                let (mean_single, with_mean) = ask(Grade::Single, true);
                let (mean, mean_single) = (mean.unwrap(), mean_single.unwrap());
                for (i, sigma) in sigmas.iter().enumerate() {
                    let row = i * d..(i + 1) * d;
                    let name = format!("d {d}, {n} rows, query {i}, sigma {sigma}, {}", isa.name());
                    // Half of what callers in float32 are promised; and what float64 rounds off a sum of rows.
                    let tolerance = 5e-6 * norm(&exact[row.clone()]) + 1e-13 * radius;
                    let error = distance(&alone[row.clone()], &exact[row.clone()]);
                    assert!(error <= tolerance, "{name}: offset off by {error:e}, allowed {tolerance:e}");
                    worst.0 = worst.0.max(error / tolerance);
                    // With the mean, of which the same is asked in the measure of the data, from far away the mean decides.
                    let error = distance(&mean_single[row.clone()], &mean[row.clone()]);
                    assert!(error <= 5e-6 * radius, "{name}: mean off by {error:e}");
                    worst.1 = worst.1.max(error / radius);
                    let error = distance(&with_mean[row.clone()], &exact[row.clone()]);
                    assert!(error <= tolerance, "{name}: offset beside a mean off by {error:e}, allowed {tolerance:e}");
                }
            }
        }
    }
    // Float32 was used: errors of float64 would be far less.
    assert!(worst.0 > 1e-3 && worst.1 > 1e-9, "{worst:?}");
}

#[test]
fn a_query_does_not_know_its_neighbours() {
    let mut rng = Rng(78);
    for (d, n) in [(1, 20), (2, 20), (3, 33), (5, 7), (16, 40), (2, 1500)] {
        let data = rng.normals(n * d);
        let (x, sigmas) = queries(&mut rng, &data, d);
        for isa in InstructionSet::available() {
            for threads in [1, 3] {
                let engine: SharedEngine = Arc::new(Cpu::with_instruction_set(threads, None, isa).unwrap());
                let dataset = Dataset::copy(engine.clone(), View::new(&data, n, d), None, Decoding::default()).unwrap();
                for with_mean in [false, true] {
                    let all = answer(&engine, &dataset, &x, &sigmas, Grade::Single, with_mean);
                    // Parts that begin and end in other lanes.
                    for size in [1, 5, 37] {
                        for first in (0..sigmas.len()).step_by(size) {
                            let part = first..(first + size).min(sigmas.len());
                            let row = part.start * d..part.end * d;
                            let found =
                                answer(&engine, &dataset, &x[row.clone()], &sigmas[part], Grade::Single, with_mean);
                            assert_eq!(found.1, all.1[row.clone()], "d {d}, {n} rows, {}", isa.name());
                            assert_eq!(found.0, all.0.as_ref().map(|all| all[row].to_vec()));
                        }
                    }
                }
            }
        }
    }
}
