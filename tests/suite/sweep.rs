//! Everything that an empirical score returns, against [`crate::reference`], over sizes that fill tiles, chunks and
//! groups exactly, by one more and by one less.

use crate::api::{Api, Call, Decoding, EVERYTHING, Empirical, Kind, Marginal, Matrix, Outputs, Regularizer, Want};
use crate::data::{Complaints, Rng, norm};
use crate::reference::{Exact, Known, exact};
use mnemo::tensor::Dtype;

both!(
    sizes_and_noise_levels,
    small_dimensions,
    element_types,
    copies_of_rows,
    far_from_the_origin,
    far_from_the_data,
    between_rows,
    regularized_and_conditional,
    flow_from_pure_noise,
    tiny_noise,
    ties_go_to_the_lowest_index,
    few_of_many_rows,
);

/// Relative errors that the header promises, for F64 and for F32 x.
const PROMISED: [(Dtype, f64); 2] = [(Dtype::F64, 1e-9), (Dtype::F32, 1e-5)];

/// A data set, the queries to it and how it is asked.
struct Case {
    name: String,
    rows: Matrix,
    decoding: Decoding,
    labels: Option<Vec<i64>>,
    kind: Kind,
    options: Empirical,
    /// Builds the queries from the values of the rows and the process at the times.
    t: Vec<f64>,
    x: Vec<f64>,
    /// Elements between the rows of x.
    gap: usize,
}

fn values(rows: &Matrix, decoding: Decoding) -> Vec<f64> {
    rows.values().iter().map(|v| decoding.scale * v + decoding.shift).collect()
}

fn marginals<A: Api>(kind: &Kind, t: &[f64]) -> Vec<Marginal> {
    A::at(&A::process(kind).unwrap(), t).unwrap()
}

/// Runs a case on every machine, in both types of x.
fn run<A: Api>(case: &Case, complaints: &mut Complaints) {
    let d = case.rows.cols;
    let data = values(&case.rows, case.decoding);
    let process = A::process(&case.kind).unwrap();
    let mut rng = Rng(case.x.len() as u64);
    let v = rng.normals(case.x.len());
    let all: Vec<usize> = (0..case.rows.rows).collect();
    let part: Vec<usize> = match (case.options.label, &case.labels) {
        (Some(label), Some(labels)) => all.into_iter().filter(|&n| labels[n] == label).collect(),
        _ => all,
    };
    let machines = A::every(2);
    for (dtype, promised) in PROMISED {
        let (x, v) = (Matrix::new(dtype, &case.x, d).apart(case.gap), Matrix::new(dtype, &v, d));
        let at = marginals::<A>(&case.kind, &case.t);
        let references: Vec<Exact> = (0..x.rows)
            .map(|i| {
                let p = at[if at.len() == 1 { 0 } else { i }];
                exact(&x.row(i), &v.row(i), &data, &part, p, case.options.regularizer, case.options.tolerance)
            })
            .collect();
        for machine in &machines {
            let labels = case.labels.as_ref();
            let labels = labels.map(|l| Matrix::new(Dtype::I64, &l.iter().map(|&l| l as f64).collect::<Vec<_>>(), 1));
            let dataset = machine.dataset(&case.rows, labels.as_ref(), case.decoding).unwrap();
            let score = machine.empirical(&dataset, &process, case.options).unwrap();
            let found = A::eval(&score, &x, &case.t, EVERYTHING, Call::default()).unwrap();
            let jvp = A::jvp(&score, &x, &case.t, &v).unwrap();
            let name = format!("{} ({}, {})", case.name, dtype.name(), machine.describe());
            compare(&name, case, &found, &references, (dtype, promised), complaints);
            for (i, r) in references.iter().enumerate() {
                let tolerance = promised * r.jvp_size + r.jvp.error + rounding(dtype, &r.jvp.value);
                complaints.near_vector(&jvp.row(i), &r.jvp.value, tolerance, || format!("{name}, row {i}: jvp"));
            }
            // An output is as good alone as with the others.
            for want in alone() {
                let found = A::eval(&score, &x, &case.t, want, Call::default()).unwrap();
                compare(&format!("{name}, {want:?}"), case, &found, &references, (dtype, promised), complaints);
            }
        }
    }
}

fn alone() -> [Want; 4] {
    let none = Want::default();
    [
        Want { score: true, ..none },
        Want { denoised: true, entropy: true, ..none },
        Want { log_density: true, nearest_index: true, ..none },
        Want { divergence: true, nearest_distance: true, ..none },
    ]
}

/// An output in F32 is rounded once more, and below 1e-38 to a multiple of 2^-149 per element.
fn rounding(dtype: Dtype, values: &[f64]) -> f64 {
    const SMALLEST: f64 = 1.5e-45;
    if dtype == Dtype::F32 {
        f64::from(f32::EPSILON) * norm(values) + SMALLEST * (values.len() as f64).sqrt()
    } else {
        0.0
    }
}

fn compare(
    name: &str,
    case: &Case,
    found: &Outputs,
    references: &[Exact],
    (dtype, promised): (Dtype, f64),
    complaints: &mut Complaints,
) {
    let rows = &case.rows;
    let d = rows.cols;
    for (i, r) in references.iter().enumerate() {
        let at = |what: &str| format!("{name}, row {i}: {what}");
        // Regularized by the density, a score is off as the density is.
        let of_factor =
            if r.factor < 1.0 { promised * r.factor * r.plain * r.log_density.value.abs().max(1.0) } else { 0.0 };
        if !found.score.is_empty() {
            let tolerance =
                promised * norm(&r.score.value) + r.score.error + of_factor + rounding(dtype, &r.score.value);
            complaints.near_vector(&found.score[i * d..(i + 1) * d], &r.score.value, tolerance, || at("score"));
        }
        if !found.denoised.is_empty() {
            // x̂0 is x/m and a multiple of s, known as well as s is; and it is rounded to the type of x.
            let value = &r.denoised.value;
            let tolerance = promised * norm(value) + r.denoised.error + rounding(dtype, value);
            complaints.near_vector(&found.denoised[i * d..(i + 1) * d], value, tolerance, || at("denoised"));
        }
        if !found.log_density.is_empty() {
            let Known { value, error } = r.log_density;
            let tolerance = promised * value.abs().max(1.0) + error;
            complaints.near(found.log_density[i], value, tolerance, || at("log_density"));
        }
        if !found.divergence.is_empty() {
            let tolerance = promised * r.divergence_size + r.divergence.error;
            complaints.near(found.divergence[i], r.divergence.value, tolerance, || at("divergence"));
        }
        if !found.entropy.is_empty() {
            // Rows that may be left out of the mean are not measured exactly either, so their weights (in sum below
            // `tolerance`) and what these add, w |ln w| with |ln w| of 30 to 700, are good to a few digits only. With no
            // tolerance nothing is promised where the weights of all rows but one leave float64.
            let Known { value, error } = r.entropy;
            let tolerance = promised * value + error + value.min(30.0 * case.options.tolerance) + 1e-300;
            complaints.near(found.entropy[i], value, tolerance, || at("entropy"));
        }
        let least = r.distances.iter().copied().fold(f64::INFINITY, f64::min);
        if !found.nearest_distance.is_empty() {
            let tolerance = 1e-12 * least + r.nearest_error;
            complaints.near(found.nearest_distance[i], least, tolerance, || at("nearest_distance"));
        }
        if !found.nearest_index.is_empty() {
            let n = found.nearest_index[i] as usize;
            complaints.unless(r.distances[n] <= least * (1.0 + 1e-12) + 2.0 * r.nearest_error, || {
                format!("{}: {n} at {:e}, but {least:e} is the least", at("nearest_index"), r.distances[n])
            });
            let twin = (0..n).find(|&k| r.distances[k].is_finite() && rows.row(k) == rows.row(n));
            complaints.unless(twin.is_none(), || format!("{}: {n}, but row {twin:?} is the same", at("nearest_index")));
        }
    }
}

fn rows(rng: &mut Rng, n: usize, d: usize) -> Vec<f64> {
    rng.normals(n * d)
}

/// Noised rows, each at its own time if there is more than one.
fn noised(rng: &mut Rng, data: &[f64], d: usize, at: &[Marginal], batch: usize) -> Vec<f64> {
    let n = data.len() / d;
    (0..batch)
        .flat_map(|i| {
            let (p, row) = (at[if at.len() == 1 { 0 } else { i }], rng.below(n));
            let x: Vec<f64> = (0..d).map(|k| p.m * data[row * d + k] + p.sigma * rng.normal()).collect();
            x
        })
        .collect()
}

/// Processes with times that reach from small noise to large.
fn schedules() -> Vec<(Kind, Vec<f64>)> {
    let table: Vec<f64> = vec![0.99, 0.9, 0.5, 0.1];
    vec![
        (Kind::VePower(2.0, 1.0, 80.0), vec![0.002, 0.02, 0.2, 0.5, 1.0, 3.0, 20.0, 80.0]),
        (Kind::VpLinear(0.1, 20.0, 1.0), vec![1e-4, 0.01, 0.1, 0.2, 0.4, 0.6, 1.0]),
        (Kind::SubVp(0.1, 20.0), vec![1e-3, 0.05, 0.2, 0.5, 1.0]),
        (Kind::VeExponential(100.0, 1.0), vec![1e-5, 0.01, 0.2, 1.0]),
        (Kind::VeGeometric(0.01, 50.0), vec![0.0, 0.2, 0.4, 0.6, 1.0]),
        (Kind::Discrete(table), vec![1.0, 2.0, 2.5, 4.0]),
        (Kind::Flow, vec![0.01, 0.2, 0.5, 0.9]),
    ]
}

const SIZES: [usize; 10] = [1, 2, 63, 64, 65, 255, 256, 257, 1031, 2500];
const DIMS: [usize; 10] = [1, 2, 3, 15, 16, 17, 63, 64, 65, 130];
const BATCHES: [usize; 8] = [0, 1, 3, 4, 5, 7, 64, 65];

fn sizes_and_noise_levels<A: Api>() {
    let mut complaints = Complaints::default();
    let mut rng = Rng(1);
    for n in SIZES {
        for d in DIMS {
            // Large products of sizes are expensive for the reference, and have nothing that half of the batches lack.
            let batches = if n * d > 60_000 { &BATCHES[..6] } else { &BATCHES[..] };
            let (batch, (kind, times)) = (rng.pick(batches), rng.pick(&schedules()));
            let mixed = rng.below(2) == 0;
            let t: Vec<f64> = (0..if mixed { batch.max(1) } else { 1 }).map(|_| rng.pick(&times)).collect();
            let t = if batch == 0 { t[..1].to_vec() } else { t };
            let data = rows(&mut rng, n, d);
            let rows = Matrix::new(Dtype::F32, &data, d);
            let x = noised(&mut rng, &data, d, &marginals::<A>(&kind, &t), batch);
            let tolerance = rng.pick(&[0.0, 1e-12, 1e-12]);
            let name = format!("{n} x {d}, batch {batch}, {kind:?} at {t:?}, tolerance {tolerance}");
            let name = name.chars().take(160).collect();
            let options = Empirical { tolerance, ..Empirical::default() };
            let decoding = Decoding::default();
            run::<A>(
                &Case { name, rows, decoding, labels: None, kind, options, t, x, gap: rng.below(3) },
                &mut complaints,
            );
        }
    }
    complaints.end();
}

/// Every dimension that is answered query by query in the lanes of a register, and the first that is not.
fn small_dimensions<A: Api>() {
    let mut complaints = Complaints::default();
    let mut rng = Rng(11);
    for d in 1..=17 {
        for (i, n) in [1, 2, 7, 63, 64, 65, 1009].into_iter().enumerate() {
            let batch = [1, 3, 64, 65][(d + i) % 4];
            let (kind, times) = schedules()[(d * 3 + i) % schedules().len()].clone();
            let t: Vec<f64> = (0..batch).map(|_| rng.pick(&times)).collect();
            let mut data = rows(&mut rng, n, d);
            // A quarter are copies of others, so that some are nearest together.
            for copy in (3..n).step_by(4) {
                let of = rng.below(copy) * d;
                data.copy_within(of..of + d, copy * d);
            }
            let rows = Matrix::new(Dtype::F32, &data, d);
            let x = noised(&mut rng, &data, d, &marginals::<A>(&kind, &t), batch);
            let labels: Vec<i64> = (0..n).map(|k| (k % 3) as i64).collect();
            let label = (i % 2 == 0).then_some(0);
            let options = Empirical { label, tolerance: rng.pick(&[0.0, 1e-12]), ..Empirical::default() };
            let name = format!("{n} x {d}, batch {batch}, {options:?}, {kind:?}").chars().take(160).collect();
            let (decoding, labels) = (Decoding::default(), Some(labels));
            run::<A>(&Case { name, rows, decoding, labels, kind, options, t, x, gap: 0 }, &mut complaints);
        }
    }
    complaints.end();
}

fn element_types<A: Api>() {
    let mut complaints = Complaints::default();
    let mut rng = Rng(2);
    for dtype in [Dtype::F32, Dtype::F64, Dtype::F16, Dtype::Bf16, Dtype::U8] {
        for (n, d) in [(65, 3), (300, 17), (1031, 40)] {
            for t in [0.002, 0.3, 5.0] {
                let (raw, decoding) = match dtype {
                    Dtype::U8 => (
                        (0..n * d).map(|_| rng.below(256) as f64).collect(),
                        Decoding { scale: 1.0 / 127.5, shift: -1.0 },
                    ),
                    Dtype::F64 => (rows(&mut rng, n, d), Decoding { scale: -3.0, shift: 0.1 }),
                    _ => (rows(&mut rng, n, d), Decoding::default()),
                };
                // Rows in the host's memory need not be next to each other.
                let rows = Matrix::new(dtype, &raw, d).apart(5);
                let (kind, t) = (Kind::VePower(2.0, 1.0, 80.0), vec![t]);
                let x = noised(&mut rng, &values(&rows, decoding), d, &marginals::<A>(&kind, &t), 7);
                let name = format!("{n} x {d} {}, sigma {t:?}", dtype.name());
                let case =
                    Case { name, rows, decoding, labels: None, kind, options: Empirical::default(), t, x, gap: 1 };
                run::<A>(&case, &mut complaints);
            }
        }
    }
    complaints.end();
}

/// Rows that are the same and rows that are nearly so, and queries that are rows.
fn copies_of_rows<A: Api>() {
    let mut complaints = Complaints::default();
    let mut rng = Rng(3);
    for (n, d) in [(7, 2), (64, 15), (300, 16), (700, 64), (1500, 20)] {
        let mut data = rows(&mut rng, n, d);
        for i in (3..n).step_by(3) {
            let (of, apart) = (rng.below(i), if i % 2 == 0 { 0.0 } else { 1e-6 });
            for k in 0..d {
                data[i * d + k] = data[of * d + k] + apart * rng.normal();
            }
        }
        let rows = Matrix::new(Dtype::F64, &data, d);
        for t in [1e-6, 0.002, 0.1, 1.0] {
            let kind = Kind::VePower(2.0, 1.0, 80.0);
            let mut x = noised(&mut rng, &data, d, &marginals::<A>(&kind, &[t]), 4);
            for _ in 0..4 {
                let row = rng.below(n);
                x.extend_from_slice(&data[row * d..(row + 1) * d]);
            }
            let name = format!("copies among {n} x {d}, sigma {t}");
            let options = Empirical { tolerance: rng.pick(&[0.0, 1e-12]), ..Empirical::default() };
            let (rows, decoding, t) = (rows.clone(), Decoding::default(), vec![t]);
            run::<A>(&Case { name, rows, decoding, labels: None, kind, options, t, x, gap: 0 }, &mut complaints);
        }
    }
    complaints.end();
}

fn far_from_the_origin<A: Api>() {
    let mut complaints = Complaints::default();
    let mut rng = Rng(4);
    for (n, d) in [(65, 3), (300, 17), (1031, 64)] {
        let data: Vec<f64> = rows(&mut rng, n, d).iter().map(|v| v + 1e4).collect();
        for (kind, times) in [schedules()[0].clone(), schedules()[1].clone()] {
            for t in times {
                let t = vec![t];
                let x = noised(&mut rng, &data, d, &marginals::<A>(&kind, &t), 5);
                let rows = Matrix::new(Dtype::F64, &data, d);
                let name = format!("{n} x {d} at 1e4, {kind:?} at {t:?}");
                let (options, decoding, kind) = (Empirical::default(), Decoding::default(), kind.clone());
                run::<A>(&Case { name, rows, decoding, labels: None, kind, options, t, x, gap: 0 }, &mut complaints);
            }
        }
    }
    complaints.end();
}

/// A thousand standard deviations from the nearest row.
fn far_from_the_data<A: Api>() {
    let mut complaints = Complaints::default();
    let mut rng = Rng(5);
    for (n, d) in [(2, 1), (65, 3), (300, 17), (1031, 64)] {
        let data = rows(&mut rng, n, d);
        for (kind, times) in schedules() {
            let t: Vec<f64> = (0..6).map(|_| rng.pick(&times)).collect();
            let at = marginals::<A>(&kind, &t);
            let mut x = noised(&mut rng, &data, d, &at, 6);
            for (x, p) in x.chunks_exact_mut(d).zip(&at) {
                let direction = rng.normals(d);
                let length = norm(&direction);
                x.iter_mut().zip(direction).for_each(|(x, v)| *x += 1e3 * p.sigma * v / length);
            }
            let rows = Matrix::new(Dtype::F32, &data, d);
            let name = format!("1000 sigma from {n} x {d}, {kind:?} at {t:?}");
            let (options, decoding) = (Empirical::default(), Decoding::default());
            run::<A>(&Case { name, rows, decoding, labels: None, kind, options, t, x, gap: 0 }, &mut complaints);
        }
    }
    complaints.end();
}

/// On and beside the middle of two rows, where the weights are a half each and the score nearly vanishes.
fn between_rows<A: Api>() {
    let mut complaints = Complaints::default();
    let mut rng = Rng(6);
    for (n, d) in [(2, 1), (3, 16), (300, 17), (600, 64), (2500, 24)] {
        let mut data = rows(&mut rng, n, d);
        // The first two are apart from the others, so that nothing else weighs much between them.
        for (i, row) in data[..2 * d].chunks_exact_mut(d).enumerate() {
            row[0] = 30.0;
            row[d - 1] += if i == 0 { 1.0 } else { -1.0 };
        }
        let gap = crate::data::distance(&data[..d], &data[d..2 * d]);
        for part in [0.5, 0.1, 0.03, 0.005] {
            let kind = Kind::VePower(2.0, 1.0, 80.0);
            let x: Vec<f64> = [0.0, 1e-9, 1e-4, 1e-2]
                .iter()
                .flat_map(|aside| {
                    let aside = aside * rng.normal();
                    let middle = (0..d).map(|k| 0.5 * (data[k] + data[d + k]) + aside * (data[k] - data[d + k]));
                    middle.collect::<Vec<_>>()
                })
                .collect();
            let rows = Matrix::new(Dtype::F64, &data, d);
            for tolerance in [0.0, 1e-12] {
                let (rows, t, x) = (rows.clone(), vec![part * gap], x.clone());
                let name = format!("between rows of {n} x {d}, sigma {part} gaps, tolerance {tolerance}");
                let options = Empirical { tolerance, ..Empirical::default() };
                let (kind, decoding) = (kind.clone(), Decoding::default());
                run::<A>(&Case { name, rows, decoding, labels: None, kind, options, t, x, gap: 0 }, &mut complaints);
            }
        }
    }
    complaints.end();
}

fn regularized_and_conditional<A: Api>() {
    let mut complaints = Complaints::default();
    let mut rng = Rng(7);
    for (n, d) in [(5, 2), (257, 3), (700, 17), (1031, 33)] {
        let data = rows(&mut rng, n, d);
        let labels: Vec<i64> = (0..n).map(|i| [-7, 3, 1 << 40][(i * i) % 3]).collect();
        for (kind, times) in schedules().into_iter().take(3) {
            let t = vec![rng.pick(&times)];
            let p = marginals::<A>(&kind, &t)[0];
            let x = noised(&mut rng, &data, d, &[p], 5);
            let rows = Matrix::new(Dtype::F32, &data, d);
            let log_p = exact(&x[..d], &x[..d], &rows.values(), &(0..n).collect::<Vec<_>>(), p, Regularizer::None, 0.0);
            // Strengths above and below the density at the first query, as far as float64 holds them.
            let log_c = |shift: f64| (log_p.log_density.value + shift).clamp(-600.0, 600.0);
            for (regularizer, label) in [
                (Regularizer::None, Some(-7)),
                (Regularizer::Tikhonov { c: 0.3 * p.sigma * p.sigma }, None),
                (Regularizer::Tikhonov { c: 100.0 }, Some(3)),
                (Regularizer::Tikhonov { c: 0.0 }, None),
                (Regularizer::BayesDensity { log_c: log_c(2.0) }, None),
                (Regularizer::BayesDensity { log_c: log_c(-2.0) }, Some(3)),
                (Regularizer::BayesWeight { log_c: 0.0 }, None),
                (Regularizer::BayesWeight { log_c: 1e-6f64.ln() }, Some(-7)),
            ] {
                let options = Empirical { regularizer, label, tolerance: rng.pick(&[0.0, 1e-12]) };
                let name = format!("{n} x {d}, {kind:?} at {t:?}, {options:?}");
                let (rows, labels, t, x) = (rows.clone(), Some(labels.clone()), t.clone(), x.clone());
                let (kind, decoding) = (kind.clone(), Decoding::default());
                run::<A>(&Case { name, rows, decoding, labels, kind, options, t, x, gap: 2 }, &mut complaints);
            }
        }
    }
    complaints.end();
}

/// The flow at t = 1 has m = 0: all rows weigh the same, and s = -x.
fn flow_from_pure_noise<A: Api>() {
    let mut complaints = Complaints::default();
    let mut rng = Rng(8);
    for (n, d) in [(1, 1), (64, 3), (300, 20), (1500, 16)] {
        let data = rows(&mut rng, n, d);
        let x = rng.normals(5 * d);
        for t in [vec![1.0], vec![1.0, 0.5, 1.0 - 1e-9, 1.0, 0.999]] {
            let (rows, kind) = (Matrix::new(Dtype::F32, &data, d), Kind::Flow);
            let name = format!("flow from noise, {n} x {d}, {t:?}");
            let (options, decoding, x) = (Empirical::default(), Decoding::default(), x.clone());
            run::<A>(&Case { name, rows, decoding, labels: None, kind, options, t, x, gap: 0 }, &mut complaints);
        }
    }
    complaints.end();
}

/// σ of 1e-6 to 1e-9 under sub-VP, where x and its row differ in their last digits only.
fn tiny_noise<A: Api>() {
    let mut complaints = Complaints::default();
    let mut rng = Rng(9);
    for (n, d) in [(1, 3), (65, 2), (300, 17), (1031, 64)] {
        let data = rows(&mut rng, n, d);
        for t in [1e-8, 1e-5, 1e-4] {
            let (kind, t) = (Kind::SubVp(0.1, 20.0), vec![t]);
            let x = noised(&mut rng, &data, d, &marginals::<A>(&kind, &t), 5);
            let rows = Matrix::new(Dtype::F64, &data, d);
            let name = format!("{n} x {d}, sub-VP at {t:?}");
            let (options, decoding) = (Empirical::default(), Decoding::default());
            run::<A>(&Case { name, rows, decoding, labels: None, kind, options, t, x, gap: 0 }, &mut complaints);
        }
    }
    complaints.end();
}

/// Whole numbers, whose squared distances float64 holds exactly: the nearest index is exact too.
fn ties_go_to_the_lowest_index<A: Api>() {
    let mut rng = Rng(10);
    for machine in A::every(3) {
        for (n, d) in [(40, 1), (300, 3), (700, 17), (2500, 20)] {
            let data: Vec<f64> = (0..n * d).map(|_| rng.below(3) as f64).collect();
            let x: Vec<f64> = (0..20 * d).map(|_| rng.below(5) as f64 * 0.5).collect();
            let labels: Vec<f64> = (0..n).map(|i| (i % 4) as f64).collect();
            let dataset = machine
                .dataset(
                    &Matrix::new(Dtype::U8, &data, d),
                    Some(&Matrix::new(Dtype::U8, &labels, 1)),
                    Decoding::default(),
                )
                .unwrap();
            let process = A::process(&Kind::VePower(2.0, 1.0, 80.0)).unwrap();
            for label in [None, Some(2)] {
                let options = Empirical { label, ..Empirical::default() };
                let score = machine.empirical(&dataset, &process, options).unwrap();
                for (dtype, sigma) in [(Dtype::F32, 0.01), (Dtype::F32, 50.0), (Dtype::F64, 0.01), (Dtype::F64, 50.0)] {
                    let x = Matrix::new(dtype, &x, d);
                    for want in [EVERYTHING, Want { nearest_index: true, ..Want::default() }] {
                        let found = A::eval(&score, &x, &[sigma], want, Call::default()).unwrap().nearest_index;
                        let expected: Vec<i64> = (0..x.rows)
                            .map(|i| {
                                let square = |n: &usize| -> f64 {
                                    (0..d).map(|k| (x.get(i, k) - data[n * d + k]).powi(2)).sum()
                                };
                                let takes_part = |n: &usize| label.is_none_or(|l| labels[*n] as i64 == l);
                                let best = (0..n).filter(takes_part).min_by(|a, b| square(a).total_cmp(&square(b)));
                                best.unwrap() as i64
                            })
                            .collect();
                        assert_eq!(found, expected, "{n} x {d}, {dtype:?}, sigma {sigma}, {}", machine.describe());
                    }
                }
            }
        }
    }
}

/// Data sets large enough for bounds of distances, with the noise levels at which few rows count, some or all.
fn few_of_many_rows<A: Api>() {
    let mut complaints = Complaints::default();
    let mut rng = Rng(11);
    for (n, d, dtype) in [(4200, 131, Dtype::F32), (4097, 128, Dtype::U8)] {
        // Near to a few directions, as images are, in round numbers so that every type holds them; with copies.
        let directions: Vec<f64> = (0..6 * d).map(|_| rng.below(3) as f64).collect();
        let mut data: Vec<f64> = Vec::new();
        for i in 0..n {
            if i % 100 == 99 {
                data.extend_from_within((i - 90) * d..(i - 89) * d);
                continue;
            }
            let along: Vec<f64> = (0..6).map(|_| rng.below(9) as f64).collect();
            data.extend(
                (0..d).map(|j| (0..6).map(|k| along[k] * directions[k * d + j]).sum::<f64>() + rng.below(3) as f64),
            );
        }
        let rows = Matrix::new(dtype, &data, d);
        let decoding = Decoding { scale: 0.125, shift: -2.0 };
        let data = values(&rows, decoding);
        let kind = Kind::VePower(2.0, 1.0, 80.0);
        for t in [0.002, 0.1, 0.4, 0.8, 1.3] {
            let mut x = noised(&mut rng, &data, d, &marginals::<A>(&kind, &[t]), 3);
            let between = (rng.below(n), rng.below(n));
            x.extend((0..d).map(|k| 0.5 * (data[between.0 * d + k] + data[between.1 * d + k])));
            let name = format!("few of {n} x {d}, sigma {t}");
            for tolerance in [0.0, 1e-12] {
                let options = Empirical { tolerance, ..Empirical::default() };
                let (name, rows, kind) = (format!("{name}, tolerance {tolerance}"), rows.clone(), kind.clone());
                let case = Case { name, rows, decoding, labels: None, kind, options, t: vec![t], x: x.clone(), gap: 0 };
                run::<A>(&case, &mut complaints);
            }
        }
    }
    complaints.end();
}
