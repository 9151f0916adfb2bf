//! Where a sampler steps, what it starts from, and how the host watches and stops it.

use crate::api::{Api, Call, Decoding, Empirical, Grid, Kind, Matrix, Options, Solver};
use crate::data::Rng;
use crate::determinism::solvers;
use crate::home::is_cuda;
use mnemo::capi::status::{MNEMO_E_CALLBACK, MNEMO_E_CANCELLED, MNEMO_E_INVALID, MNEMO_E_UNSUPPORTED};
use mnemo::random::{Purpose, Stream};
use mnemo::tensor::Dtype;
use std::thread::current;

both!(
    karras_grid,
    uniform_grids,
    custom_grids,
    grids_that_are_refused,
    prior_is_philox,
    callbacks_run_on_the_entering_thread,
    an_observer_stops,
    progress_stops,
    a_step_that_takes_long_can_be_stopped_within,
    a_cancelled_call_stops,
    blocks_of_samples_can_be_watched_and_stopped,
    options_that_are_refused,
);

/// A score of three rows in the plane.
fn score<A: Api>(machine: &A, kind: &Kind) -> A::Score {
    let rows = Matrix::new(Dtype::F64, &[1.0, 0.5, -1.0, 0.25, 0.0, -2.0], 2);
    let dataset = machine.dataset(&rows, None, Decoding::default()).unwrap();
    machine.empirical(&dataset, &A::process(kind).unwrap(), Empirical::default()).unwrap()
}

fn edm() -> Kind {
    Kind::VePower(2.0, 1.0, 80.0)
}

fn start() -> Matrix {
    Matrix::new(Dtype::F64, &Rng(50).normals(10), 2)
}

/// The times that an observer sees, after the step numbers were checked.
fn times<A: Api>(score: &A::Score, options: &Options) -> Vec<f64> {
    let mut seen = Vec::new();
    let mut observer = |step: u64, t: f64, x: &[f64]| {
        assert_eq!((step, x.len()), (seen.len() as u64, 10));
        seen.push(t);
        0
    };
    A::sample(score, options, &mut start(), Some(&mut observer), Call::default()).unwrap();
    seen
}

fn assert_times(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (f, e) in found.iter().zip(expected) {
        // Powers and logs there and back.
        assert!((f - e).abs() <= 1e-12 * e, "{found:?} should be {expected:?}");
    }
}

/// Karras et al. 2022, Eq. 5 and Table 1: 18 levels from 80 to .002, then 0.
fn karras_grid<A: Api>() {
    let machine = A::new(1);
    let levels = |n: u32, rho: f64, low: f64, high: f64| -> Vec<f64> {
        let at = |i: u32| {
            let (a, b) = (high.powf(1.0 / rho), low.powf(1.0 / rho));
            (a + f64::from(i) / f64::from(n - 1) * (b - a)).powf(rho)
        };
        (0..n).map(at).collect()
    };
    let mut expected = levels(18, 7.0, 0.002, 80.0);
    assert_eq!(times::<A>(&score(&machine, &edm()), &Options::default()).len(), 19);
    let options = Options { denoise_last: true, ..Options::default() };
    expected.push(0.0);
    assert_times(&times::<A>(&score(&machine, &edm()), &options), &expected);

    // Without the denoising step, 18 steps have 19 levels; rho is free, and the levels are those of sigma/m.
    let kind = Kind::VpLinear(0.1, 20.0, 1.0);
    let options = Options { rho: 3.0, t_start: Some(0.9), t_end: Some(0.01), steps: 6, ..Options::default() };
    let found = times::<A>(&score(&machine, &kind), &options);
    let at = A::at(&A::process(&kind).unwrap(), &found).unwrap();
    let ratios: Vec<f64> = at.iter().map(|p| p.sigma / p.m).collect();
    assert_times(&ratios, &levels(7, 3.0, ratios[6], ratios[0]));
    assert_eq!((found[0], found[6]), (0.9, 0.01));
}

fn uniform_grids<A: Api>() {
    let machine = A::new(1);
    let (t_start, t_end) = (Some(0.8), Some(0.05));
    let kind = Kind::SubVp(0.1, 20.0);
    let options = Options { grid: Grid::UniformT, t_start, t_end, steps: 5, ..Options::default() };
    let expected: Vec<f64> = (0..6).map(|i| 0.8 + f64::from(i) / 5.0 * (0.05 - 0.8)).collect();
    assert_times(&times::<A>(&score(&machine, &kind), &options), &expected);

    let options = Options { grid: Grid::UniformS, denoise_last: true, ..options };
    let found = times::<A>(&score(&machine, &kind), &options);
    assert_eq!((found.len(), found[5]), (6, 0.0));
    let at = A::at(&A::process(&kind).unwrap(), &found[..5]).unwrap();
    let logs: Vec<f64> = at.iter().map(|p| -p.sigma.ln()).collect();
    for i in 0..5 {
        let expected = logs[0] + i as f64 / 4.0 * (logs[4] - logs[0]);
        assert!((logs[i] - expected).abs() < 1e-12, "{logs:?}");
        let t = A::time_of_sigma(&A::process(&kind).unwrap(), (-expected).exp()).unwrap();
        assert!((t - found[i]).abs() <= 1e-12, "{t} {}", found[i]);
    }
}

fn custom_grids<A: Api>() {
    let machine = A::new(1);
    let custom = |times: &[f64]| Options { grid: Grid::Custom(times.to_vec()), steps: 999, ..Options::default() };
    let found = times::<A>(&score(&machine, &edm()), &custom(&[7.0, 3.0, 0.5]));
    assert_eq!(found, [7.0, 3.0, 0.5]);
    // A last node of 0, where sigma is 0, is a denoising step, with or without denoise_last.
    for denoise_last in [false, true] {
        let options = Options { denoise_last, ..custom(&[7.0, 3.0, 0.0]) };
        assert_eq!(times::<A>(&score(&machine, &edm()), &options), [7.0, 3.0, 0.0]);
    }
    let discrete = Kind::Discrete(vec![0.9, 0.5, 0.1]);
    assert_eq!(times::<A>(&score(&machine, &discrete), &custom(&[3.0, 1.0, 0.0])), [3.0, 1.0, 0.0]);
    // The geometric process has noise at 0.
    let geometric = Kind::VeGeometric(0.01, 5.0);
    assert_eq!(times::<A>(&score(&machine, &geometric), &custom(&[1.0, 0.5, 0.0])), [1.0, 0.5, 0.0]);
}

fn grids_that_are_refused<A: Api>() {
    let score = score(&A::new(1), &edm());
    let custom = |times: &[f64]| Options { grid: Grid::Custom(times.to_vec()), ..Options::default() };
    for options in [
        custom(&[]),
        custom(&[1.0]),
        custom(&[1.0, 1.0]),
        custom(&[1.0, 2.0]),
        custom(&[1.0, f64::NAN]),
        custom(&[81.0, 1.0]),
        custom(&[1.0, -1.0]),
        Options { t_end: Some(0.0), ..Options::default() },
        Options { t_start: Some(1.0), t_end: Some(2.0), ..Options::default() },
        Options { steps: 0, ..Options::default() },
        Options { rho: 0.0, ..Options::default() },
    ] {
        let mut x = start();
        let failure = A::sample(&score, &options, &mut x, None, Call::default()).unwrap_err();
        assert_eq!(failure.status, MNEMO_E_INVALID, "{options:?}: {}", failure.message);
        assert_eq!(x.values(), start().values());
    }
}

fn prior_is_philox<A: Api>() {
    let (machine, kind) = (A::new(2), Kind::VpLinear(0.1, 20.0, 1.0));
    let score = score(&machine, &kind);
    let sigma = A::at(&A::process(&kind).unwrap(), &[0.7]).unwrap()[0].sigma;
    // Either side of 2^32, where the counter's words change.
    for first_sample in [0, 12, (1 << 32) - 2] {
        let options = Options { from_prior: true, first_sample, t_start: Some(0.7), steps: 1, ..Options::default() };
        let stream = Stream { seed: 0x1234_5678_9abc_def0, purpose: Purpose::Prior, step: 0 };
        let expected: Vec<f64> = (0..5)
            .flat_map(|i| {
                let mut z = [0.0; 2];
                stream.fill_normal(first_sample + i, &mut z);
                z.map(|z| sigma * z)
            })
            .collect();
        for dtype in [Dtype::F64, Dtype::F32] {
            let mut seen = Vec::new();
            let mut observer = |step: u64, _: f64, x: &[f64]| {
                if step == 0 {
                    seen = x.to_vec();
                }
                0
            };
            // What the caller's x holds does not matter, not even if it is no number.
            let mut x = Matrix::new(dtype, &[f64::NAN; 10], 2);
            let call = Call { seed: stream.seed, ..Call::default() };
            A::sample(&score, &options, &mut x, Some(&mut observer), call).unwrap();
            // The state is float64; the C ABI shows it in the type of x.
            let rounded = Matrix::new(dtype, &expected, 2).values();
            assert!(seen == expected || seen == rounded, "{seen:?} should be {expected:?}");
        }
    }
}

fn callbacks_run_on_the_entering_thread<A: Api>() {
    // Work enough for several threads.
    let rows = Matrix::new(Dtype::F32, &Rng(51).normals(3000 * 8), 8);
    let machine = A::new(4);
    let dataset = machine.dataset(&rows, None, Decoding::default()).unwrap();
    let process = A::process(&edm()).unwrap();
    let score = machine.empirical(&dataset, &process, Empirical::default()).unwrap();
    let here = current().id();
    for options in solvers() {
        let options = Options { from_prior: true, ..options };
        let (mut observed, mut last) = (0, (0, 0));
        let mut observer = |_: u64, _: f64, _: &[f64]| {
            assert_eq!(current().id(), here);
            observed += 1;
            0
        };
        let mut progress = |done: u64, total: u64| {
            assert_eq!(current().id(), here);
            assert!(done >= last.0 && done <= total && total > 0);
            last = (done, total);
            true
        };
        let mut x = Matrix::new(Dtype::F32, &[0.0; 64], 8);
        let call = Call { progress: Some(&mut progress), ..Call::default() };
        A::sample(&score, &options, &mut x, Some(&mut observer), call).unwrap();
        assert!(observed >= 2 && last.0 == last.1, "{options:?}: {observed} {last:?}");
    }
    let mut calls = 0;
    let mut progress = |_: u64, _: u64| {
        assert_eq!(current().id(), here);
        calls += 1;
        true
    };
    let call = Call { progress: Some(&mut progress), ..Call::default() };
    A::nearest(&dataset, &Matrix::new(Dtype::F32, &[0.0; 800], 8), 3, call).unwrap();
    assert!(calls >= 2);
}

fn an_observer_stops<A: Api>() {
    let score = score(&A::new(2), &edm());
    for options in solvers() {
        for at in [0, 2] {
            let mut last = 0;
            let mut observer = |step: u64, _: f64, _: &[f64]| {
                last = step;
                if step == at { -5 } else { 0 }
            };
            let mut x = start();
            let failure = A::sample(&score, &options, &mut x, Some(&mut observer), Call::default()).unwrap_err();
            assert_eq!((failure.status, failure.native, last), (MNEMO_E_CALLBACK, -5, at));
            assert_eq!(x.values(), start().values(), "a failed call wrote to x_inout");
        }
    }
}

fn progress_stops<A: Api>() {
    let score = score(&A::new(2), &edm());
    for options in solvers() {
        let mut calls = 0;
        let mut progress = |_: u64, _: u64| {
            calls += 1;
            calls < 3
        };
        let mut x = start();
        let call = Call { progress: Some(&mut progress), ..Call::default() };
        let failure = A::sample(&score, &options, &mut x, None, call).unwrap_err();
        assert_eq!((failure.status, calls), (MNEMO_E_CANCELLED, 3));
        assert_eq!(x.values(), start().values());
    }
}

/// A batch that one evaluation answers in parts: between them progress is told where the steps stand, and may end the call.
fn a_step_that_takes_long_can_be_stopped_within<A: Api>() {
    if is_cuda() {
        // A device is given the work of a step at once.
        return;
    }
    // Too many rows for a sampler to take blocks of samples side by side.
    let (machine, dim) = (A::new(2), 20);
    let rows = Matrix::new(Dtype::F32, &Rng(52).normals(2000 * dim), dim);
    let dataset = machine.dataset(&rows, None, Decoding::default()).unwrap();
    let score = machine.empirical(&dataset, &A::process(&edm()).unwrap(), Empirical::default()).unwrap();
    let options = Options { solver: Solver::Euler, steps: 1, from_prior: true, ..Options::default() };
    for stop_at in [u64::MAX, 4] {
        let mut told = Vec::new();
        let mut progress = |done: u64, total: u64| {
            told.push((done, total));
            (told.len() as u64) < stop_at
        };
        let mut x = Matrix::new(Dtype::F64, &vec![0.0; 4000 * dim], dim);
        let call = Call { progress: Some(&mut progress), ..Call::default() };
        let result = A::sample(&score, &options, &mut x, None, call);
        if stop_at == u64::MAX {
            result.unwrap();
            assert!(told.len() > 4 && told[..told.len() - 1].iter().all(|t| *t == (0, 1)), "{told:?}");
            assert_eq!(told.last(), Some(&(1, 1)));
        } else {
            let failure = result.unwrap_err();
            assert_eq!((failure.status, told), (MNEMO_E_CANCELLED, vec![(0, 1); 4]));
        }
    }
}

fn a_cancelled_call_stops<A: Api>() {
    let score = score(&A::new(2), &edm());
    let cancel = A::cancel();
    let options = Options { solver: Solver::Exponential, steps: 1_000_000, grid: Grid::UniformS, ..Options::default() };
    // Raised by another thread once the call is on its way.
    let mut steps = 0;
    let mut progress = |done: u64, _: u64| {
        if done == 10 {
            std::thread::scope(|s| s.spawn(|| A::request(&cancel)).join().unwrap());
        }
        steps = done;
        true
    };
    let call = Call { cancel: Some(&cancel), progress: Some(&mut progress), ..Call::default() };
    let mut x = start();
    let failure = A::sample(&score, &options, &mut x, None, call).unwrap_err();
    assert_eq!((failure.status, steps), (MNEMO_E_CANCELLED, 10));
    assert_eq!(x.values(), start().values());
    // And before the next one starts.
    let call = Call { cancel: Some(&cancel), ..Call::default() };
    let failure = A::eval(&score, &start(), &[1.0], crate::api::EVERYTHING, call).unwrap_err();
    assert_eq!(failure.status, MNEMO_E_CANCELLED);
}

/// A batch that several threads take to the end in blocks: the host hears of it on its own thread, and may end the call.
fn blocks_of_samples_can_be_watched_and_stopped<A: Api>() {
    const SAMPLES: usize = 3000;
    let score = score(&A::new(3), &edm());
    let here = current().id();
    // Fast enough to watch to the end, and too slow to wait for.
    let of =
        |steps| Options { solver: Solver::Euler, grid: Grid::UniformT, steps, from_prior: true, ..Options::default() };
    let (watched, endless) = (of(5_000), of(2_000_000));
    let mut told = Vec::new();
    let mut progress = |done: u64, total: u64| {
        assert_eq!(current().id(), here);
        told.push((done, total));
        true
    };
    let mut x = Matrix::new(Dtype::F32, &[0.0; SAMPLES * 2], 2);
    let call = Call { progress: Some(&mut progress), ..Call::default() };
    A::sample(&score, &watched, &mut x, None, call).unwrap();
    assert!(told.is_sorted() && told.iter().all(|t| t.1 == 5_000), "{told:?}");
    assert!(told.len() > 1 && told.last() == Some(&(5_000, 5_000)), "{told:?}");

    let mut calls = 0;
    let mut progress = |done: u64, _: u64| {
        calls += 1;
        done < 10
    };
    let mut x = Matrix::new(Dtype::F32, &[7.0; SAMPLES * 2], 2);
    let call = Call { progress: Some(&mut progress), ..Call::default() };
    let failure = A::sample(&score, &endless, &mut x, None, call).unwrap_err();
    assert_eq!(failure.status, MNEMO_E_CANCELLED);
    assert!(calls > 0 && x.values() == [7.0; SAMPLES * 2]);

    let cancel = A::cancel();
    let failure = std::thread::scope(|s| {
        s.spawn(|| {
            std::thread::sleep(std::time::Duration::from_millis(30));
            A::request(&cancel);
        });
        A::sample(&score, &endless, &mut x, None, Call { cancel: Some(&cancel), ..Call::default() }).unwrap_err()
    });
    assert_eq!(failure.status, MNEMO_E_CANCELLED);
}

fn options_that_are_refused<A: Api>() {
    let score = score(&A::new(1), &edm());
    let of = |solver| Options { solver, ..Options::default() };
    for (options, status) in [
        (Options { alpha2: Some(1.0), ..of(Solver::Euler) }, MNEMO_E_UNSUPPORTED),
        (Options { alpha2: Some(0.5), ..of(Solver::DpmPp2m) }, MNEMO_E_UNSUPPORTED),
        (Options { alpha2: Some(-1.0), ..of(Solver::EulerMaruyama) }, MNEMO_E_INVALID),
        (Options { eta: Some(1.1), ..of(Solver::Ancestral) }, MNEMO_E_INVALID),
        (Options { rtol: 0.0, atol: 0.0, ..of(Solver::Rk45) }, MNEMO_E_INVALID),
        (Options { s_churn: -1.0, ..of(Solver::EdmStochastic) }, MNEMO_E_INVALID),
    ] {
        let failure = A::sample(&score, &options, &mut start(), None, Call::default()).unwrap_err();
        assert_eq!(failure.status, status, "{options:?}: {}", failure.message);
    }
    // 0 is what an ODE solver has anyway.
    A::sample(&score, &Options { alpha2: Some(0.0), ..of(Solver::Euler) }, &mut start(), None, Call::default())
        .unwrap();
}
