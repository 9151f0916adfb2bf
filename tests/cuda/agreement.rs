//! Results of a CUDA context beside those of a CPU context, and of a batch beside those of its rows.

use crate::host::*;
use crate::numbers::{Rng, bits, distance, length};
use crate::process::alone;
use crate::scene::*;
use mnemo::capi::sampler::*;
use mnemo::capi::score::*;
use mnemo::capi::tensor::mnemo_tensor;
use std::ffi::c_void;
use std::ptr::from_mut;

/// What both promise for float64 callers, relative to the terms that a result is the difference of.
const ERROR: f64 = 1e-9;

/// Bounds above this would show nothing. At the least sigma here, logits of long rows are about 1e6.
const LOOSE: f64 = 1e-6;

/// Rows, dimension and batch: of each kind of kernel, with full and partial blocks, one segment and more.
const SHAPES: &[(usize, usize, usize)] = &[
    (1, 1, 9),
    (65, 1, 65),
    (300, 3, 9),
    (65, 3, 65),
    (1, 17, 9),
    (65, 17, 9),
    (300, 17, 1),
    (65, 40, 65),
    (300, 40, 9),
    (65, 130, 9),
    (600, 130, 9),
    (4200, 131, 3),
    (4200, 2, 3),
];

/// Two scenes of the same rows, the CPU's first.
fn both(rows: Vec<f64>, dim: usize) -> [Scene; 2] {
    [CPU, CUDA].map(|place| Scene::of(&place, rows.clone(), dim).unwrap())
}

#[track_caller]
fn near(found: f64, expected: f64, tolerance: f64, what: &str) {
    assert!((found - expected).abs() <= tolerance, "{what}: {found:e} and {expected:e}, at most {tolerance:e} apart");
}

fn compare(cpu: &Outputs, cuda: &Outputs, x: &[f64], dim: usize, sigma: &dyn Fn(usize) -> f64) {
    assert_eq!(cpu.index, cuda.index);
    for i in 0..cpu.index.len() {
        let of = |numbers: &[f64]| numbers[i * dim..][..dim].to_vec();
        let variance = sigma(i) * sigma(i);
        let bound = cpu.denoised_bound[i] + cuda.denoised_bound[i];
        let apart = distance(&of(&cpu.denoised), &of(&cuda.denoised));
        assert!(apart <= bound, "row {i}: denoised values are {apart:e} apart, bounds say {bound:e}");
        assert!(bound < LOOSE, "a bound of {bound:e} shows nothing");
        let bound = cpu.density_bound[i] + cuda.density_bound[i];
        assert!(bound < LOOSE, "a bound of {bound:e} shows nothing");
        near(cuda.log_density[i], cpu.log_density[i], bound, "log_density");
        // (m ybar - x) / sigma^2, of which the mean is as near as said.
        let apart = distance(&of(&cpu.score), &of(&cuda.score));
        let terms = (length(&of(&cpu.denoised)) + length(&of(x))) / variance;
        assert!(apart <= ERROR * terms, "row {i}: scores are {apart:e} apart, of terms {terms:e}");
        // -d / sigma^2 and the trace of a covariance over sigma^4.
        let terms = 2.0 * dim as f64 / variance + cpu.divergence[i].abs();
        near(cuda.divergence[i], cpu.divergence[i], ERROR * terms, "divergence");
        near(cuda.entropy[i], cpu.entropy[i], ERROR, "entropy");
        near(cuda.distance[i], cpu.distance[i], ERROR * cpu.distance[i], "nearest_distance");
    }
}

#[test]
fn evaluations() {
    alone(&[("STANDIN_CHECKS", "0")], |driver| {
        for &(count, dim, batch) in SHAPES {
            let [cpu, cuda] = both(Rng(count as u64).numbers(count * dim), dim);
            let x = cpu.points(batch);
            // One time, and one for each row, from where one row has all the weight to where all have.
            let times: Vec<f64> = (0..batch).map(|i| 0.02 * 1.1f64.powi(i as i32 % 60)).collect();
            for t in [&[0.4][..], &times] {
                let outputs = |scene: &Scene| eval(&scene.score, &x, dim, t, &exec(0, 0, 0)).unwrap();
                let sigma = |i: usize| t[i.min(t.len() - 1)];
                compare(&outputs(&cpu), &outputs(&cuda), &x, dim, &sigma);
            }
            drop((cpu, cuda));
        }
        driver.end();
    });
}

#[test]
fn derivatives() {
    alone(&[("STANDIN_CHECKS", "0")], |driver| {
        for &(count, dim, batch) in SHAPES {
            let [cpu, cuda] = both(Rng(count as u64).numbers(count * dim), dim);
            let (x, v) = (cpu.points(batch), Rng(4).numbers(batch * dim));
            for t in [0.1, 0.6] {
                let along = |scene: &Scene| jvp(&scene.score, &x, &v, dim, &[t], &exec(0, 0, 0)).unwrap();
                let (cpu, cuda) = (along(&cpu), along(&cuda));
                for ((cpu, cuda), v) in cpu.chunks(dim).zip(cuda.chunks(dim)).zip(v.chunks(dim)) {
                    let terms = length(v) / (t * t) + length(cpu);
                    let apart = distance(cpu, cuda);
                    assert!(apart <= ERROR * terms, "{count} x {dim}: {apart:e} apart, of terms {terms:e}");
                }
            }
        }
        driver.end();
    });
}

#[test]
fn regularized_scores() {
    alone(&[], |driver| {
        let (count, dim, batch) = (65, 3, 9);
        let [cpu, cuda] = both(Rng(1).numbers(count * dim), dim);
        let x = cpu.points(batch);
        for (process, t) in [(edm(), 0.4), (preserving(), 0.3)] {
            for (regularizer, strength) in [
                (MNEMO_REG_NONE, 0.0),
                (MNEMO_REG_TIKHONOV, 0.3),
                (MNEMO_REG_BAYES_DENSITY, 1e-2),
                (MNEMO_REG_BAYES_WEIGHT, 0.5),
            ] {
                let [cpu, cuda] = [&cpu, &cuda].map(|scene| {
                    let score = empirical(&scene.dataset, &process, regularizer, strength).unwrap();
                    eval(&score, &x, dim, &[t], &exec(0, 0, 0)).unwrap()
                });
                // VP at 0.3 has a variance of 0.6, EDM at 0.4 one of 0.16.
                compare(&cpu, &cuda, &x, dim, &|_| 0.4);
            }
        }
        drop((cpu, cuda));
        driver.end();
    });
}

#[test]
fn nearest_rows_of_whole_numbers() {
    alone(&[("STANDIN_CHECKS", "0")], |driver| {
        for &(count, dim, batch) in SHAPES {
            let [cpu, cuda] = both(Rng(count as u64).whole(count * dim), dim);
            let queries = Rng(6).whole(batch * dim);
            for k in [1, 7, 65, 257] {
                let lists = |scene: &Scene| {
                    let (distance, index) =
                        nearest(&scene.dataset, &queries, dim, 0, k.min(count), &exec(0, 0, 0)).unwrap();
                    (bits(&distance), index)
                };
                // Distances are exact and many tie: to the lower index.
                assert!(lists(&cpu) == lists(&cuda), "{count} x {dim}, the {k} nearest");
            }
        }
        driver.end();
    });
}

unsafe extern "C" fn keep(user: *mut c_void, _step: u64, _t: f64, x: *const mnemo_tensor) -> i32 {
    // SAFETY: the test's list, and a tensor in the host's memory, as x is.
    unsafe {
        let numbers = std::slice::from_raw_parts((*x).data.cast::<f64>(), ((*x).rows * (*x).cols) as usize);
        (*user.cast::<Vec<Vec<f64>>>()).push(numbers.to_vec());
    }
    0
}

#[test]
fn samples() {
    alone(&[], |driver| {
        for (dim, batch) in [(3, 9), (17, 5)] {
            let [cpu, cuda] = both(Rng(1).numbers(40 * dim), dim);
            for solver in [
                MNEMO_SOLVER_HEUN,
                MNEMO_SOLVER_DPMPP_2M,
                MNEMO_SOLVER_RK45,
                MNEMO_SOLVER_EULER_MARUYAMA,
                MNEMO_SOLVER_ANCESTRAL,
                MNEMO_SOLVER_EDM_STOCHASTIC,
            ] {
                let draw = |scene: &Scene| {
                    let mut states: Vec<Vec<f64>> = Vec::new();
                    let mut options = sampler(solver);
                    (options.from_prior, options.first_sample) = (1, 5);
                    options.observer = Some(keep);
                    options.observer_user = from_mut(&mut states).cast();
                    let end = sample(&scene.score, &options, &vec![0.0; batch * dim], dim, &exec(0, 0, 21)).unwrap();
                    (states.swap_remove(0), end)
                };
                let ((start, end), (own_start, own_end)) = (draw(&cpu), draw(&cuda));
                assert!(start.iter().any(|v| *v != 0.0));
                assert_eq!(bits(&start), bits(&own_start), "random numbers");
                let (apart, terms) = (distance(&end, &own_end), length(&end) + length(&start));
                assert!(apart <= ERROR * terms, "solver {solver}: {apart:e} apart, of {terms:e}");
            }
        }
        driver.end();
    });
}

/// Bits of a row are those that it has alone.
#[test]
fn a_batch_and_its_rows() {
    alone(&[("STANDIN_CHECKS", "0")], |driver| {
        for (count, dim) in [(65, 3), (65, 17), (40, 130), (600, 130), (4200, 2)] {
            let scene = Scene::new(&CUDA, count, dim).unwrap();
            let batch = 65;
            let (x, v) = (scene.points(batch), Rng(4).numbers(batch * dim));
            let times: Vec<f64> = (0..batch).map(|i| 0.1 + 0.01 * i as f64).collect();
            let call = exec(0, 0, 9);
            let options = |first: usize| mnemo_sampler_options {
                first_sample: first as i64,
                ..sampler(MNEMO_SOLVER_EULER_MARUYAMA)
            };
            let whole = eval(&scene.score, &x, dim, &times, &call).unwrap();
            let along = jvp(&scene.score, &x, &v, dim, &[0.5], &call).unwrap();
            let (far, index) = nearest(&scene.dataset, &x, dim, 0, 5, &call).unwrap();
            let drawn = sample(&scene.score, &options(0), &x, dim, &call).unwrap();
            for rows in [0..1, 7..8, 1..9, 3..20, 31..65, 64..65] {
                let of = |numbers: &[f64], each: usize| numbers[rows.start * each..rows.end * each].to_vec();
                let x = of(&x, dim);
                let part = eval(&scene.score, &x, dim, &times[rows.clone()], &call).unwrap();
                for (part, whole) in part.columns().into_iter().zip(whole.columns()) {
                    assert_eq!(bits(part), bits(&of(whole, whole.len() / batch)), "{count} x {dim}, rows {rows:?}");
                }
                assert_eq!(part.index, whole.index[rows.clone()]);
                let part = jvp(&scene.score, &x, &of(&v, dim), dim, &[0.5], &call).unwrap();
                assert_eq!(bits(&part), bits(&of(&along, dim)), "{count} x {dim}, rows {rows:?}");
                let part = nearest(&scene.dataset, &x, dim, 0, 5, &call).unwrap();
                assert_eq!((bits(&part.0), &part.1[..]), (bits(&of(&far, 5)), &index[rows.start * 5..rows.end * 5]));
                let part = sample(&scene.score, &options(rows.start), &x, dim, &call).unwrap();
                assert_eq!(bits(&part), bits(&of(&drawn, dim)), "{count} x {dim}, rows {rows:?}");
            }
        }
        driver.end();
    });
}

/// Where one row has all the weight nothing is left of the covariance, however small sigma is.
#[test]
fn derivatives_of_tiny_sigma() {
    alone(&[("STANDIN_CHECKS", "0")], |driver| {
        let (count, dim, batch) = (600, 130, 24);
        let [cpu, cuda] = both(Rng(5).numbers(count * dim), dim);
        let noise = Rng(6).numbers(batch * dim);
        let x: Vec<f64> = cuda.rows[7 * dim..][..batch * dim].iter().zip(&noise).map(|(y, v)| y + 0.3 * v).collect();
        let t = [1e-9];
        let (found, expected) =
            (eval(&cuda.score, &x, dim, &t, &exec(0, 0, 0)), eval(&cpu.score, &x, dim, &t, &exec(0, 0, 0)));
        let (found, expected) = (found.unwrap(), expected.unwrap());
        assert_eq!(found.index, expected.index);
        for (found, expected) in found.divergence.iter().zip(&expected.divergence) {
            near(*found, *expected, ERROR * expected.abs(), "divergence");
        }
        let v = Rng(8).numbers(batch * dim);
        let along = |scene: &Scene| jvp(&scene.score, &x, &v, dim, &t, &exec(0, 0, 0)).unwrap();
        for (found, expected) in along(&cuda).chunks(dim).zip(along(&cpu).chunks(dim)) {
            assert!(distance(found, expected) <= ERROR * length(expected), "{found:?} and {expected:?}");
        }
        drop((cpu, cuda));
        driver.end();
    });
}
