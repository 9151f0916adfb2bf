//! The same bits for any number of threads and any split of the batch.

use crate::api::{
    Api, Call, Decoding, EVERYTHING, Empirical, Grid, Kind, Matrix, Metric, Options, Outputs, Regularizer, Solver, Want,
};
use crate::data::Rng;
use crate::rust::Machine;
use mnemo::tensor::Dtype;
use std::ops::Range;

both!(
    evaluations,
    error_bounds,
    rows_of_bytes,
    whoever_else_is_asked,
    derivatives,
    nearest_rows,
    samples,
    a_step_knows_nothing_of_the_last,
    samples_in_blocks,
    one_score_in_many_threads
);

/// Enough rows for several chunks, in a dimension that the kernels answer by products, in one by differences and in one by
/// bounds.
const SHAPES: [(usize, usize); 3] = [(3500, 20), (3300, 2), (4200, 130)];
const THREADS: [usize; 3] = [2, 3, 8];
/// More than one group of queries.
const BATCH: usize = 71;

/// The batch whole, in blocks of five and row by row.
fn splits(batch: usize) -> Vec<Vec<Range<usize>>> {
    [batch, 5, 1].iter().map(|&size| (0..batch).step_by(size).map(|i| i..(i + size).min(batch)).collect()).collect()
}

struct Setting {
    rows: Matrix,
    labels: Matrix,
    x: Matrix,
    t: Vec<f64>,
}

fn kind() -> Kind {
    Kind::VpLinear(0.1, 20.0, 1.0)
}

/// Queries of every sort: noised rows at times of their own, from where one row answers to where all do.
fn setting<A: Api>((n, d): (usize, usize), dtype: Dtype) -> Setting {
    let mut rng = Rng(n as u64);
    let data = rng.normals(n * d);
    let t: Vec<f64> = (0..BATCH).map(|_| rng.pick(&[1e-4, 0.02, 0.1, 0.2, 0.35, 0.5, 1.0])).collect();
    let at = A::at(&A::process(&kind()).unwrap(), &t).unwrap();
    let x: Vec<f64> = at
        .iter()
        .flat_map(|p| {
            let row = rng.below(n);
            (0..d).map(|k| p.m * data[row * d + k] + p.sigma * rng.normal()).collect::<Vec<_>>()
        })
        .collect();
    let labels: Vec<f64> = (0..n).map(|i| f64::from(i % 10 == 3)).collect();
    Setting {
        rows: Matrix::new(Dtype::F32, &data, d),
        labels: Matrix::new(Dtype::I32, &labels, 1),
        x: Matrix::new(dtype, &x, d),
        t,
    }
}

/// Every setting, and machines of every instruction set with one thread and with more.
fn everywhere<A: Api>(mut test: impl FnMut(&Setting, &A, &A)) {
    let single = A::every(1);
    for threads in THREADS {
        let several = A::every(threads);
        for shape in SHAPES {
            for dtype in [Dtype::F32, Dtype::F64] {
                let setting = setting::<A>(shape, dtype);
                for (one, many) in single.iter().zip(&several) {
                    test(&setting, one, many);
                }
            }
        }
    }
}

fn score<A: Api>(machine: &A, s: &Setting, options: Empirical) -> A::Score {
    let dataset = machine.dataset(&s.rows, Some(&s.labels), Decoding::default()).unwrap();
    machine.empirical(&dataset, &A::process(&kind()).unwrap(), options).unwrap()
}

fn evaluations<A: Api>() {
    let variants = [
        Empirical::default(),
        Empirical {
            tolerance: 0.0,
            regularizer: Regularizer::BayesWeight { log_c: 0.1f64.ln() },
            ..Empirical::default()
        },
        Empirical { label: Some(0), regularizer: Regularizer::Tikhonov { c: 0.1 }, ..Empirical::default() },
    ];
    everywhere::<A>(|s, one, many| {
        for options in variants {
            let (one, many) = (score(one, s, options), score(many, s, options));
            let expected = A::eval(&one, &s.x, &s.t, EVERYTHING, Call::default()).unwrap().bits();
            for split in splits(BATCH) {
                let mut found = Outputs::default();
                for part in split.iter().cloned() {
                    let (x, t) = (s.x.part(part.clone()), &s.t[part]);
                    found.extend(A::eval(&many, &x, t, EVERYTHING, Call::default()).unwrap());
                }
                assert!(found.bits() == expected, "{options:?}, {} parts", split.len());
            }
        }
    });
}

/// Rows along a few directions, as those of images are, so that some rows count near the data, a few or one.
fn along_few_directions(rng: &mut Rng, n: usize, d: usize) -> Vec<f64> {
    let directions = rng.normals(5 * d);
    let mut row = || {
        let (along, noise) = (rng.normals(5), rng.normals(d));
        (0..d)
            .map(|j| 0.05 * noise[j] + (0..5).map(|k| along[k] * directions[k * d + j]).sum::<f64>())
            .collect::<Vec<_>>()
    };
    (0..n).flat_map(|_| row()).collect()
}

/// Error bounds, alone and together: they are made of the same sums as what they bound, and of nothing that chance decides.
fn error_bounds<A: Api>() {
    let none = Want::default();
    let wants = [
        Want { denoised_error_bound: true, ..none },
        Want { log_density_error_bound: true, ..none },
        Want { denoised: true, log_density: true, denoised_error_bound: true, log_density_error_bound: true, ..none },
    ];
    let variants = [
        Empirical::default(),
        Empirical { regularizer: Regularizer::BayesDensity { log_c: -100.0 }, tolerance: 1e-6, label: None },
        Empirical { label: Some(0), ..Empirical::default() },
    ];
    let process = A::process(&Kind::VePower(2.0, 1.0, 80.0)).unwrap();
    // Answered by codes and projections or by products, by codes alone, row by row, and by products of few rows.
    for (n, d, dtype) in
        [(4200, 400, Dtype::F32), (4200, 130, Dtype::F64), (3300, 2, Dtype::F64), (700, 33, Dtype::F32)]
    {
        let mut rng = Rng((n + d) as u64);
        let data = along_few_directions(&mut rng, n, d);
        let t: Vec<f64> = (0..33).map(|_| 0.01 * 1000f64.powf(rng.uniform())).collect();
        let x: Vec<f64> = t
            .iter()
            .flat_map(|sigma| {
                let row = rng.below(n);
                (0..d).map(|k| data[row * d + k] + sigma * rng.normal()).collect::<Vec<_>>()
            })
            .collect();
        let labels: Vec<f64> = (0..n).map(|i| f64::from(i % 10 == 3)).collect();
        let (rows, labels) = (Matrix::new(Dtype::F32, &data, d), Matrix::new(Dtype::I32, &labels, 1));
        let x = Matrix::new(dtype, &x, d);
        for (one, several) in A::every(1).iter().zip(A::every(3)) {
            let at = |machine: &A| machine.dataset(&rows, Some(&labels), Decoding::default()).unwrap();
            let (data_of_one, data_of_several) = (at(one), at(&several));
            for options in variants {
                let one = one.empirical(&data_of_one, &process, options).unwrap();
                let several = several.empirical(&data_of_several, &process, options).unwrap();
                for want in wants {
                    let expected = A::eval(&one, &x, &t, want, Call::default()).unwrap().bits();
                    for split in splits(t.len()) {
                        let parts = split.len();
                        let mut found = Outputs::default();
                        for part in split {
                            let (x, t) = (x.part(part.clone()), &t[part]);
                            found.extend(A::eval(&several, &x, t, want, Call::default()).unwrap());
                        }
                        assert!(found.bits() == expected, "{n} x {d}, {options:?}, {want:?}, {parts} parts");
                    }
                }
            }
        }
    }
}

/// Rows of bytes, which may be read as whole numbers, asked for by queries of which some are answered so, some in float64,
/// some by bounds where there are any, and some from far away, in one batch. The divergence wants float64 throughout.
fn rows_of_bytes<A: Api>() {
    let want = Want { divergence: false, ..EVERYTHING };
    let process = A::process(&Kind::VePower(2.0, 1.0, 1e3)).unwrap();
    let decoding = Decoding { scale: 0.05, shift: -6.4 };
    for (n, d) in [(4200, 130), (3500, 65)] {
        let mut rng = Rng((n + d) as u64);
        let raw: Vec<f64> = along_few_directions(&mut rng, n, d)
            .iter()
            .map(|v| ((v - decoding.shift) / decoding.scale).round().clamp(0.0, 255.0))
            .collect();
        let data: Vec<f64> = raw.iter().map(|v| decoding.scale * v + decoding.shift).collect();
        // More than one group, in the last of which a set of 16 is not full.
        let t: Vec<f64> = (0..137).map(|_| 0.01 * 10_000f64.powf(rng.uniform())).collect();
        let x: Vec<f64> = t
            .iter()
            .enumerate()
            .flat_map(|(i, sigma)| {
                let (row, far) = (rng.below(n), if i % 9 == 4 { 1e8 / (d as f64).sqrt() } else { 0.0 });
                (0..d).map(|k| data[row * d + k] + (sigma + far) * rng.normal()).collect::<Vec<_>>()
            })
            .collect();
        let labels: Vec<f64> = (0..n).map(|i| f64::from(i % 10 == 3)).collect();
        let (rows, labels) = (Matrix::new(Dtype::U8, &raw, d), Matrix::new(Dtype::I32, &labels, 1));
        let x = Matrix::new(Dtype::F32, &x, d);
        for label in [None, Some(0)] {
            let options = Empirical { label, ..Empirical::default() };
            let score = |machine: &A| {
                let dataset = machine.dataset(&rows, Some(&labels), decoding).unwrap();
                machine.empirical(&dataset, &process, options).unwrap()
            };
            let expected: Vec<Outputs> =
                A::every(1).iter().map(|m| A::eval(&score(m), &x, &t, want, Call::default()).unwrap()).collect();
            for threads in THREADS {
                for (many, expected) in A::every(threads).iter().zip(&expected) {
                    let many = score(many);
                    for size in [t.len(), 50, 17, 1] {
                        let mut found = Outputs::default();
                        for first in (0..t.len()).step_by(size) {
                            let part = first..(first + size).min(t.len());
                            let (x, t) = (x.part(part.clone()), &t[part]);
                            found.extend(A::eval(&many, &x, t, want, Call::default()).unwrap());
                        }
                        assert!(found.bits() == expected.bits(), "{n} x {d}, {label:?}, {threads} threads, by {size}");
                    }
                }
            }
            // Some are answered by bounds, where there is room for them, and some otherwise.
            if n > 4096 && label.is_none() {
                let without = score(&A::limited(1, (n * d + 16 * n) as u64));
                let without = A::eval(&without, &x, &t, want, Call::default()).unwrap().denoised_error_bound;
                let with = &expected[expected.len() - 1].denoised_error_bound;
                let differ = without.iter().zip(with).filter(|(a, b)| a != b).count();
                assert!((t.len() / 8..t.len() / 8 * 7).contains(&differ), "{differ} of {}", t.len());
            }
        }
    }
}

/// Bounds by tile registers are the bounds by vector registers: what is found through them is the same, to the last bit.
#[test]
fn codes_by_tile_registers() {
    let machines: Vec<Machine> =
        Machine::every(2).into_iter().filter(|m| m.describe().contains(r#""instruction_set":"avx512"#)).collect();
    let process = Machine::process(&Kind::VePower(2.0, 1.0, 80.0)).unwrap();
    const BATCHES: [usize; 8] = [1, 16, 17, 48, 49, 64, 65, 130];
    // 257 blocks of 16 rows, the last of them of 1, 4 and 16.
    for (n, d) in [(4097, 130), (4100, 300), (4112, 784)] {
        let mut rng = Rng((n + d) as u64);
        let data = along_few_directions(&mut rng, n, d);
        let most = BATCHES[BATCHES.len() - 1];
        let t: Vec<f64> = (0..most).map(|_| 0.01 * 100f64.powf(rng.uniform())).collect();
        let x: Vec<f64> = t
            .iter()
            .flat_map(|sigma| {
                let row = rng.below(n);
                (0..d).map(|k| data[row * d + k] + sigma * rng.normal()).collect::<Vec<_>>()
            })
            .collect();
        let (rows, x) = (Matrix::new(Dtype::F32, &data, d), Matrix::new(Dtype::F32, &x, d));
        let evaluate = |machine: &Machine| {
            let dataset = machine.dataset(&rows, None, Decoding::default()).unwrap();
            let score = machine.empirical(&dataset, &process, Empirical::default()).unwrap();
            BATCHES.map(|batch| {
                let x = x.part(0..batch);
                let scores = Machine::eval(&score, &x, &t[..batch], EVERYTHING, Call::default()).unwrap();
                let near = [1, 7].map(|k| Machine::nearest(&dataset, &x, k, Call::default()).unwrap());
                (scores, near)
            })
        };
        let found: Vec<_> = machines.iter().map(evaluate).collect();
        for other in found.iter().skip(1) {
            for ((batch, (scores, near)), (of_other, near_other)) in BATCHES.iter().zip(&found[0]).zip(other) {
                assert!(scores.bits() == of_other.bits(), "{n} x {d}, batch {batch}: scores");
                assert!(near == near_other, "{n} x {d}, batch {batch}: nearest");
            }
        }
        // The nearest are those of every row, and most of the scores are not: they come of bounds.
        let all = evaluate(&Machine::limited(2, (4 * n * d) as u64));
        for ((scores, near), (by_all, near_by_all)) in found.iter().flatten().zip(all.iter().cycle()) {
            assert!(near == near_by_all, "{n} x {d}");
            let bounds = scores.denoised_error_bound.iter().zip(&by_all.denoised_error_bound);
            let differ = bounds.filter(|(a, b)| a != b).count();
            assert!(scores.entropy.len() < 16 || 2 * differ > scores.entropy.len(), "{n} x {d}: {differ}");
        }
    }
}

/// A query is answered as if it were alone, whichever are in its batch: some that bounds answer, some that every row answers,
/// some far from all data and one that no bound in float32 can hold.
fn whoever_else_is_asked<A: Api>() {
    // So many columns that projections are of use beside codes.
    let (n, d) = (4200, 400);
    let mut rng = Rng(72);
    let data = along_few_directions(&mut rng, n, d);
    let rows = Matrix::new(Dtype::F32, &data, d);
    // Noise, and how far from the data.
    let near = [(0.05, 0.0), (0.1, 0.0), (0.2, 0.0), (0.3, 0.0)];
    let all = [(25.0, 0.0), (80.0, 0.0)];
    let far = [(0.1, 1e8), (0.3, 1e8), (40.0, 1e8), (0.1, 1e33)];
    let sorts: Vec<(f64, f64)> = [&near[..], &all, &near[2..], &far, &near[..2], &all[..1], &near].concat();
    let t: Vec<f64> = sorts.iter().map(|(sigma, _)| *sigma).collect();
    let x: Vec<f64> = sorts
        .iter()
        .flat_map(|(sigma, length)| {
            let (row, direction) = (rng.below(n), rng.normals(d));
            let size = direction.iter().map(|v| v * v).sum::<f64>().sqrt();
            (0..d).map(|k| data[row * d + k] + sigma * rng.normal() + length * direction[k] / size).collect::<Vec<_>>()
        })
        .collect();
    let v = Matrix::new(Dtype::F64, &rng.normals(x.len()), d);
    let process = A::process(&Kind::VePower(2.0, 1.0, 1e3)).unwrap();
    for dtype in [Dtype::F32, Dtype::F64] {
        let x = Matrix::new(dtype, &x, d);
        for machine in A::every(2) {
            let dataset = machine.dataset(&rows, None, Decoding::default()).unwrap();
            let score = machine.empirical(&dataset, &process, Empirical::default()).unwrap();
            let v = Matrix::new(dtype, &v.values(), d);
            let ask = |part: Range<usize>| {
                let (x, t) = (x.part(part.clone()), &t[part.clone()]);
                let outputs = A::eval(&score, &x, t, EVERYTHING, Call::default()).unwrap();
                (outputs, A::jvp(&score, &x, t, &v.part(part)).unwrap().values())
            };
            let (mut alone, mut of_jvp) = (Outputs::default(), Vec::new());
            for i in 0..sorts.len() {
                let (outputs, jvp) = ask(i..i + 1);
                alone.extend(outputs);
                of_jvp.extend(jvp);
            }
            let (together, jvp) = ask(0..sorts.len());
            assert!(together.bits() == alone.bits(), "{dtype:?} on {}", machine.describe());
            assert!(jvp == of_jvp, "derivatives, {dtype:?} on {}", machine.describe());
        }
        // Those near the data are answered by bounds: where there is no room for these, their errors are bounded otherwise.
        let bounded = |machine: A| {
            let dataset = machine.dataset(&rows, None, Decoding::default()).unwrap();
            let score = machine.empirical(&dataset, &process, Empirical::default()).unwrap();
            A::eval(&score, &x, &t, EVERYTHING, Call::default()).unwrap().denoised_error_bound
        };
        let (by_bounds, by_all) = (bounded(A::new(1)), bounded(A::limited(1, (4 * n * d) as u64)));
        for (i, sort) in sorts.iter().enumerate() {
            assert_eq!(by_bounds[i] != by_all[i], near.contains(sort), "{sort:?}");
        }
    }
}

fn derivatives<A: Api>() {
    everywhere::<A>(|s, one, many| {
        let v = Matrix::new(s.x.dtype(), &Rng(5).normals(BATCH * s.x.cols), s.x.cols);
        let bits = |m: Matrix| m.values().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        let options =
            Empirical { regularizer: Regularizer::BayesWeight { log_c: 0.5f64.ln() }, ..Empirical::default() };
        let (one, many) = (score(one, s, options), score(many, s, options));
        let expected = bits(A::jvp(&one, &s.x, &s.t, &v).unwrap());
        for split in splits(BATCH) {
            let found: Vec<u64> = split
                .into_iter()
                .flat_map(|p| bits(A::jvp(&many, &s.x.part(p.clone()), &s.t[p.clone()], &v.part(p)).unwrap()))
                .collect();
            assert!(found == expected, "{} parts", splits(BATCH).len());
        }
    });
}

fn nearest_rows<A: Api>() {
    everywhere::<A>(|s, one, many| {
        let [one, many] = [one, many].map(|m| m.dataset(&s.rows, None, Decoding::default()).unwrap());
        for (metric, k) in [(Metric::L2, 1), (Metric::L2, 7), (Metric::Cosine, 1), (Metric::Cosine, 7)] {
            let (distance, index) = A::nearest_by(&one, &s.x, metric, k, Call::default()).unwrap();
            for split in splits(BATCH) {
                let (mut distances, mut indices) = (Vec::new(), Vec::new());
                for part in split {
                    let (d, i) = A::nearest_by(&many, &s.x.part(part), metric, k, Call::default()).unwrap();
                    distances.extend(d);
                    indices.extend(i);
                }
                assert!(indices == index && distances.iter().zip(&distance).all(|(a, b)| a.to_bits() == b.to_bits()));
            }
        }
    });
}

/// Every solver, with what makes it draw random numbers.
pub fn solvers() -> Vec<Options> {
    let of = |solver| Options { solver, grid: Grid::UniformS, steps: 5, t_end: Some(0.01), ..Options::default() };
    vec![
        of(Solver::Euler),
        Options { denoise_last: true, ..of(Solver::Heun) },
        of(Solver::Exponential),
        Options { eta: Some(0.7), ..of(Solver::Exponential) },
        of(Solver::DpmPp2m),
        Options { rtol: 1e-2, atol: 1e-2, t_end: Some(0.2), ..of(Solver::Rk45) },
        of(Solver::EulerMaruyama),
        of(Solver::Ancestral),
        Options { s_churn: 2.0, grid: Grid::Karras, denoise_last: true, ..of(Solver::EdmStochastic) },
    ]
}

fn samples<A: Api>() {
    const ROWS: usize = 7;
    everywhere::<A>(|s, one, many| {
        let (one, many) = (score(one, s, Empirical::default()), score(many, s, Empirical::default()));
        for options in solvers() {
            let run = |score: &A::Score, part: Range<usize>| {
                let options = Options { from_prior: true, first_sample: 90 + part.start as u64, ..options.clone() };
                let mut x = s.x.part(part);
                A::sample(score, &options, &mut x, None, Call { seed: 77, ..Call::default() }).unwrap();
                x.values().iter().map(|v| v.to_bits()).collect::<Vec<_>>()
            };
            let expected = run(&one, 0..ROWS);
            for split in splits(ROWS) {
                let found: Vec<u64> = split.into_iter().flat_map(|part| run(&many, part)).collect();
                assert!(found == expected, "{options:?}");
            }
        }
    });
}

/// Few rows: threads take blocks of samples to the end. A part of the batch may be a block, less than one or several, and
/// an observer or one thread means no blocks.
fn samples_in_blocks<A: Api>() {
    const ROWS: usize = 330;
    let s = setting::<A>((20, 2), Dtype::F32);
    let at = |machine: &A| score(machine, &s, Empirical::default());
    let (one, several) = (at(&A::new(1)), THREADS.map(|threads| at(&A::new(threads))));
    for options in solvers() {
        let run = |score: &A::Score, part: Range<usize>, observed: bool| {
            let options = Options { from_prior: true, first_sample: 90 + part.start as u64, ..options.clone() };
            let mut x = Matrix::new(Dtype::F32, &vec![0.0; 2 * part.len()], 2);
            let mut observer = |_: u64, _: f64, _: &[f64]| 0;
            let observer = observed.then_some(&mut observer as &mut crate::api::Observer<'_>);
            A::sample(score, &options, &mut x, observer, Call { seed: 78, ..Call::default() }).unwrap();
            x.values().iter().map(|v| v.to_bits()).collect::<Vec<_>>()
        };
        let expected = run(&one, 0..ROWS, false);
        for score in &several {
            assert!(run(score, 0..ROWS, true) == expected, "{options:?}, observed");
            assert!(run(score, 0..ROWS, false) == expected, "{options:?}, whole");
            let found: Vec<u64> =
                [0..7, 7..200, 200..ROWS].into_iter().flat_map(|part| run(score, part, false)).collect();
            assert!(found == expected, "{options:?}, in parts");
        }
    }
}

/// Scores are immutable: threads that share one do not see each other.
fn one_score_in_many_threads<A: Api>() {
    let s = setting::<A>(SHAPES[0], Dtype::F32);
    let score = score(&A::new(2), &s, Empirical::default());
    let want = Want { score: true, entropy: true, ..Want::default() };
    let bits = || A::eval(&score, &s.x, &s.t, want, Call::default()).unwrap().bits();
    let expected = bits();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..5).for_each(|_| assert!(bits() == expected)));
        }
    });
}

/// Many steps in one call, in which each begins its search where the last one ended, and one call for each step.
fn a_step_knows_nothing_of_the_last<A: Api>() {
    let (n, d) = SHAPES[2];
    let mut rng = Rng(71);
    let data = along_few_directions(&mut rng, n, d);
    let times = [4.0, 2.0, 1.0, 0.7, 0.5, 0.35, 0.2, 0.1, 0.05, 0.02];
    let start = Matrix::new(Dtype::F64, &rng.normals(9 * d).iter().map(|v| 4.0 * v).collect::<Vec<_>>(), d);
    for machine in A::every(2) {
        let dataset = machine.dataset(&Matrix::new(Dtype::F32, &data, d), None, Decoding::default()).unwrap();
        let process = A::process(&Kind::VePower(2.0, 1.0, 80.0)).unwrap();
        let score = machine.empirical(&dataset, &process, Empirical::default()).unwrap();
        for solver in [Solver::Euler, Solver::Heun] {
            let options = |times: &[f64]| Options { solver, grid: Grid::Custom(times.to_vec()), ..Options::default() };
            let (mut whole, mut stepped) = (start.clone(), start.clone());
            A::sample(&score, &options(&times), &mut whole, None, Call::default()).unwrap();
            for pair in times.windows(2) {
                A::sample(&score, &options(pair), &mut stepped, None, Call::default()).unwrap();
            }
            assert_eq!(whole.values(), stepped.values(), "{solver:?} on {}", machine.describe());
            // The paths have come to the data, so that bounds were of use.
            let (distances, _) = A::nearest(&dataset, &whole, 1, Call::default()).unwrap();
            assert!(distances.iter().all(|v| *v < 1.0), "{distances:?}");
        }
    }
}
