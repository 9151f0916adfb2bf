//! Data sets of bytes, whose dense empirical score some processors form in whole numbers: against [`crate::certificate`]'s
//! truth, which measures by differences, over sizes that fill tiles, pairs of tiles, sets of queries and chunks, and those
//! that do not.
//!
//! The divergence wants float64 throughout and would hide all of it: it is asked for beside the rest, and for itself in
//! [`crate::sweep`].

use crate::api::{Api, Call, Decoding, EVERYTHING, Empirical, Kind, Matrix, Outputs, Regularizer, Want};
use crate::certificate::{Scaled, Truth, truth};
use crate::data::{Complaints, Rng, norm};
use crate::rust::Machine;
use mnemo::tensor::Dtype;

both!(
    sizes_and_noise_levels,
    rows_of_one_value,
    copies_and_rows_beside_each_other,
    a_label,
    beside_the_data_and_far_from_it,
    other_processes,
);

const UNITY: Decoding = Decoding { scale: 1.0 / 255.0, shift: 0.0 };
const SIGNED: Decoding = Decoding { scale: 2.0 / 255.0, shift: -1.0 };
const MIRRORED: Decoding = Decoding { scale: -0.5, shift: 3.0 };
const FAR: Decoding = Decoding { scale: 100.0, shift: -1e4 };
const TINY: Decoding = Decoding { scale: 1e-3, shift: 0.0 };

/// What is asked for at once, and what alone.
fn wants() -> [Want; 6] {
    let none = Want::default();
    [
        Want { divergence: false, ..EVERYTHING },
        Want { score: true, ..none },
        Want { denoised: true, denoised_error_bound: true, ..none },
        Want { log_density: true, log_density_error_bound: true, ..none },
        Want { nearest_index: true, nearest_distance: true, ..none },
        EVERYTHING,
    ]
}

/// Σ = sigma for times up to whatever a test wants.
fn by_sigma() -> Kind {
    Kind::VePower(2.0, 1.0, 1e12)
}

fn random(rng: &mut Rng, n: usize, d: usize) -> Vec<f64> {
    (0..n * d).map(|_| rng.below(256) as f64).collect()
}

/// Rows near a few directions, as those of images are: some are near to each other, others not.
fn images(rng: &mut Rng, n: usize, d: usize) -> Vec<f64> {
    let directions = rng.normals(4 * d);
    (0..n)
        .flat_map(|_| {
            let along = rng.normals(4);
            let pixel = |k: usize| 100.0 + 25.0 * (0..4).map(|j| along[j] * directions[j * d + k]).sum::<f64>();
            (0..d).map(|k| (pixel(k) + 10.0 * rng.normal()).round().clamp(0.0, 255.0)).collect::<Vec<_>>()
        })
        .collect()
}

fn decoded(raw: &[f64], decoding: Decoding) -> Vec<f64> {
    raw.iter().map(|v| decoding.scale * v + decoding.shift).collect()
}

/// The root mean square distance of rows from their mean, and the least distance of the first rows to others.
fn spread_and_gap(data: &[f64], d: usize) -> (f64, f64) {
    let n = data.len() / d;
    let mean: Vec<f64> = (0..d).map(|k| data[k..].iter().step_by(d).sum::<f64>() / n as f64).collect();
    let square = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
    let spread = (data.chunks_exact(d).map(|row| square(row, &mean)).sum::<f64>() / n as f64).sqrt();
    let first = data.chunks_exact(d).enumerate().take(10);
    let pairs = first.flat_map(|(i, a)| data.chunks_exact(d).skip(i + 1).map(move |b| (a, b)));
    let gap = pairs.map(|(a, b)| square(a, b)).filter(|s| *s > 0.0).fold(f64::INFINITY, f64::min).sqrt();
    (spread, gap)
}

/// From 30 times the spread of the rows to far below the distance of the nearest two, the ends among them.
fn noise_levels(rng: &mut Rng, data: &[f64], d: usize, batch: usize) -> Vec<f64> {
    let (spread, gap) = spread_and_gap(data, d);
    let (most, least) = (30.0 * spread, 0.02 * gap.min(spread));
    (0..batch)
        .map(|i| match i {
            0 => most,
            1 => least,
            _ => least * (most / least).powf(rng.uniform()),
        })
        .collect()
}

struct Case {
    name: String,
    raw: Vec<f64>,
    d: usize,
    decoding: Decoding,
    label: bool,
    kind: Kind,
    t: Vec<f64>,
    x: Vec<f64>,
    wants: Vec<Want>,
}

impl Case {
    /// Queries about the rows, each with noise of its own.
    fn noised(rng: &mut Rng, name: &str, (raw, d): (Vec<f64>, usize), decoding: Decoding, batch: usize) -> Self {
        let data = decoded(&raw, decoding);
        let t = noise_levels(rng, &data, d, batch);
        let n = data.len() / d;
        let mut x = Vec::new();
        for &sigma in &t {
            let (row, other) = (rng.below(n) * d, rng.below(n) * d);
            let share = rng.pick(&[0.0, 0.0, 0.0, 0.5]);
            let noise = rng.pick(&[1.0, 1.0, 1.0, 0.0]) * sigma;
            x.extend((0..d).map(|k| (1.0 - share) * data[row + k] + share * data[other + k] + noise * rng.normal()));
        }
        let name = format!("{name}, {n} x {d}, {decoding:?}");
        Self { name, raw, d, decoding, label: false, kind: by_sigma(), t, x, wants: wants().into() }
    }
}

/// Runs a case on every machine; one that may not keep rows of few columns in float64 is among them.
fn run<A: Api>(case: &Case, complaints: &mut Complaints) {
    let d = case.d;
    let stored = Matrix::new(Dtype::U8, &case.raw, d);
    let takes_part = |n: usize| !case.label || n % 3 == 1;
    let labels: Vec<f64> = (0..stored.rows).map(|n| if takes_part(n) { 4.0 } else { 9.0 }).collect();
    let labels = Matrix::new(Dtype::I32, &labels, 1);
    let of_label: Vec<usize> = (0..stored.rows).filter(|n| takes_part(*n)).collect();
    let every = decoded(&stored.values(), case.decoding);
    let data: Vec<f64> = of_label.iter().flat_map(|n| &every[n * d..(n + 1) * d]).copied().collect();
    let process = A::process(&case.kind).unwrap();
    let at = A::at(&process, &case.t).unwrap();
    let x = Matrix::new(Dtype::F32, &case.x, d);
    let mut scaled: Vec<Scaled> = Vec::new();
    let mut truths = Vec::new();
    for i in 0..x.rows {
        let p = at[if at.len() == 1 { 0 } else { i }];
        let known = scaled.iter().position(|s| s.m == p.m).unwrap_or_else(|| {
            scaled.push(Scaled::new(&data, d, p.m));
            scaled.len() - 1
        });
        truths.push((truth(&x.row(i), &data, &scaled[known], p, Regularizer::None), p));
    }
    let options = Empirical { label: case.label.then_some(4), ..Empirical::default() };
    // Rows of that share of the weight may be missing from a mean.
    let left_out = options.tolerance * 2.0 * Scaled::new(&data, d, 1.0).radius();
    let mut machines = A::every(2);
    machines.push(A::limited(2, (stored.rows * (d + 16)) as u64));
    for machine in &machines {
        let dataset = machine.dataset(&stored, Some(&labels), case.decoding).unwrap();
        let score = machine.empirical(&dataset, &process, options).unwrap();
        for want in &case.wants {
            let found = A::eval(&score, &x, &case.t, *want, Call::default()).unwrap();
            for (i, (truth, p)) in truths.iter().enumerate() {
                let name = || format!("{}, row {i}, {p:?}, {want:?}, {}", case.name, machine.describe());
                compare(&name, i, &x.row(i), (truth, p.m, p.sigma, left_out), &of_label, &found, complaints);
            }
        }
    }
}

/// What the header promises of the score of F32 x, beyond what float64 leaves of x and the rows.
const PROMISED: f64 = 1e-5;

fn compare(
    name: &dyn Fn() -> String,
    i: usize,
    x: &[f64],
    (truth, m, sigma, left_out): (&Truth, f64, f64, f64),
    of_label: &[usize],
    found: &Outputs,
    complaints: &mut Complaints,
) {
    let d = x.len();
    let own = i * d..(i + 1) * d;
    let variance = sigma * sigma;
    let denoised: Vec<f64> = truth.denoised.iter().map(|v| v.0).collect();
    // m ȳ - x
    let offset: Vec<f64> = truth.denoised.iter().zip(x).map(|(y, x)| m.mul_add(y.0, -x) + m * y.1).collect();
    let length = norm(&offset);
    // x, m y and x/m are float64 numbers, six roundings in all; the sums of the weights take a few more.
    let size = norm(x) + norm(&denoised);
    let by_rounding = 16.0 * f64::EPSILON * size + left_out;
    // An output in F32 is rounded once more.
    let stored = |v: &[f64]| f64::from(f32::EPSILON) * norm(v) + 1.5e-45 * (d as f64).sqrt();
    if !found.score.is_empty() {
        let expected: Vec<f64> = offset.iter().map(|o| o / variance).collect();
        let tolerance = (PROMISED * length + by_rounding) / variance + stored(&expected);
        complaints.near_vector(&found.score[own.clone()], &expected, tolerance, || format!("{}: score", name()));
    }
    if !found.denoised.is_empty() {
        let tolerance = (PROMISED * length + by_rounding) / m + stored(&denoised);
        complaints.near_vector(&found.denoised[own.clone()], &denoised, tolerance, || format!("{}: denoised", name()));
    }
    let log_density = truth.log_density.0;
    if !found.log_density.is_empty() {
        let tolerance = (1e-6 * log_density.abs()).max(1e-3);
        complaints.near(found.log_density[i], log_density, tolerance, || format!("{}: log_density", name()));
    }
    if !found.entropy.is_empty() {
        // Weights are off by 1e-4 at most; the rest is what rows add that may be left out.
        let tolerance = 1e-4 * truth.entropy + 30.0 * 1e-12 + f64::EPSILON;
        complaints.near(found.entropy[i], truth.entropy, tolerance, || format!("{}: entropy", name()));
    }
    let least = truth.squared[truth.nearest];
    // Of x, and of a sum of d squares.
    let of_nearest = 1e-12 * least.sqrt() + 8.0 * f64::EPSILON * size;
    if !found.nearest_distance.is_empty() {
        let found = found.nearest_distance[i];
        complaints.near(found, least.sqrt(), of_nearest, || format!("{}: nearest_distance", name()));
    }
    if !found.nearest_index.is_empty() {
        // The same row, but where float64 cannot tell two from each other.
        let found = of_label.binary_search(&(found.nearest_index[i] as usize));
        let holds = found.is_ok_and(|n| {
            n == truth.nearest || truth.squared[n] != least && truth.squared[n].sqrt() <= least.sqrt() + of_nearest
        });
        complaints.unless(holds, || format!("{}: {found:?}, not {}, is nearest", name(), truth.nearest));
    }
    if !found.denoised_error_bound.is_empty() && !found.denoised.is_empty() {
        let error = found.denoised[own].iter().zip(&truth.denoised).map(|(o, y)| ((o - y.0) - y.1).powi(2));
        let (error, bound) = (error.sum::<f64>().sqrt(), found.denoised_error_bound[i]);
        complaints.unless(error <= bound, || format!("{}: denoised is off by {error:e}, bound {bound:e}", name()));
    }
    if !found.log_density_error_bound.is_empty() && !found.log_density.is_empty() {
        let error = ((found.log_density[i] - log_density) - truth.log_density.1).abs();
        let bound = found.log_density_error_bound[i];
        complaints.unless(error <= bound, || format!("{}: log_density is off by {error:e}, bound {bound:e}", name()));
    }
}

/// Every size beside one that fills something: dimensions about a tile's depth, rows about a tile's length and a chunk's,
/// queries about sets of 16 and groups.
fn sizes_and_noise_levels<A: Api>() {
    let mut complaints = Complaints::default();
    let mut rng = Rng(70);
    for (n, d, batch, decoding) in [
        (300, 16, 17, UNITY),
        (257, 17, 130, SIGNED),
        (2051, 63, 48, MIRRORED),
        (256, 64, 65, FAR),
        (511, 65, 16, TINY),
        (513, 127, 64, UNITY),
        (512, 128, 15, SIGNED),
        (1000, 784, 65, SIGNED),
        (257, 784, 1, FAR),
        (300, 1000, 130, MIRRORED),
        (1000, 17, 64, TINY),
        (2051, 1000, 17, UNITY),
        (2051, 16, 130, FAR),
        // Large enough for bounds.
        (4200, 160, 33, SIGNED),
    ] {
        let raw = if batch % 2 == 0 { random(&mut rng, n, d) } else { images(&mut rng, n, d) };
        let name = format!("batch {batch}");
        run::<A>(&Case::noised(&mut rng, &name, (raw, d), decoding, batch), &mut complaints);
    }
    complaints.end();
}

/// Rows of all 0, of all 255 and of both, among others and alone; and rows that are all the same, which have no spread.
fn rows_of_one_value<A: Api>() {
    let mut complaints = Complaints::default();
    let mut rng = Rng(71);
    for (n, d, decoding) in [(300, 65, SIGNED), (1000, 128, FAR), (513, 784, UNITY)] {
        let mut some = random(&mut rng, n, d);
        for (i, row) in some.chunks_exact_mut(d).enumerate().filter(|(i, _)| i % 7 == 3) {
            row.fill(if i % 2 == 0 { 0.0 } else { 255.0 });
        }
        let both = (0..n * d).map(|i| if i / d % 3 == 0 { 255.0 } else { 0.0 }).collect();
        let grey = (0..n).flat_map(|i| vec![(i % 256) as f64; d]).collect();
        for (name, raw) in [("black and white among others", some), ("black or white", both), ("grey", grey)] {
            run::<A>(&Case::noised(&mut rng, name, (raw, d), decoding, 34), &mut complaints);
        }
        for value in [0.0, 7.0, 255.0] {
            let mut case = Case::noised(&mut rng, "one row", (vec![value; n * d], d), decoding, 0);
            let row = decoded(&[value], decoding)[0];
            case.t = [1e-3, 1.0, 300.0].map(|t| t * decoding.scale.abs()).to_vec();
            case.x = case.t.iter().flat_map(|t| (0..d).map(|_| row + t * rng.normal()).collect::<Vec<_>>()).collect();
            run::<A>(&case, &mut complaints);
        }
    }
    complaints.end();
}

/// Rows that occur several times, in one tile, in others and in other chunks; and rows that differ in one number by one, at
/// noise levels at which that decides.
fn copies_and_rows_beside_each_other<A: Api>() {
    let mut complaints = Complaints::default();
    let mut rng = Rng(72);
    for (n, d, decoding) in [(1300, 64, SIGNED), (300, 784, UNITY), (2051, 130, MIRRORED)] {
        let wants = wants().into();
        let mut raw = random(&mut rng, n, d);
        for i in (1..n).step_by(4) {
            let of = rng.below(i);
            raw.copy_within(of * d..(of + 1) * d, i * d);
            if i % 8 == 1 {
                let k = i * d + rng.below(d);
                raw[k] = if raw[k] > 100.0 { raw[k] - 1.0 } else { raw[k] + 1.0 };
            }
        }
        let mut case = Case::noised(&mut rng, "copies", (raw, d), decoding, 65);
        for t in case.t.iter_mut().skip(2).step_by(3) {
            *t = decoding.scale.abs() * 10f64.powf(3.0 * rng.uniform() - 2.0);
        }
        run::<A>(&Case { wants, ..case }, &mut complaints);
    }
    complaints.end();
}

fn a_label<A: Api>() {
    let mut complaints = Complaints::default();
    let mut rng = Rng(73);
    // A third of them: more than 256, and for one no multiple of a tile's side.
    for (n, d, decoding, batch) in [(900, 65, SIGNED, 49), (3500, 130, FAR, 16), (1001, 784, TINY, 17)] {
        let raw = images(&mut rng, n, d);
        let case = Case::noised(&mut rng, "a label", (raw, d), decoding, batch);
        run::<A>(&Case { label: true, ..case }, &mut complaints);
    }
    complaints.end();
}

/// Queries that are rows, that are the mean of the rows, whose whole numbers are all 0 but one, and a thousand times as far
/// away as the rows are from each other.
fn beside_the_data_and_far_from_it<A: Api>() {
    let mut complaints = Complaints::default();
    let mut rng = Rng(74);
    for (n, d, decoding) in [(700, 100, SIGNED), (400, 784, FAR)] {
        let raw = images(&mut rng, n, d);
        let mut case = Case::noised(&mut rng, "odd queries", (raw, d), decoding, 24);
        let data = decoded(&case.raw, decoding);
        let (spread, _) = spread_and_gap(&data, d);
        let mean: Vec<f64> = (0..d).map(|k| data[k..].iter().step_by(d).sum::<f64>() / n as f64).collect();
        for (i, x) in case.x.chunks_exact_mut(d).enumerate() {
            let (row, far) = (rng.below(n) * d, 1e3 * spread * 10f64.powf(2.0 * rng.uniform()) / (d as f64).sqrt());
            let one = rng.below(d);
            for (k, x) in x.iter_mut().enumerate() {
                *x = match i % 4 {
                    0 => data[row + k],
                    1 => mean[k],
                    2 => mean[k] + if k == one { far } else { 0.0 },
                    _ => mean[k] + far * rng.normal(),
                };
            }
        }
        run::<A>(&case, &mut complaints);
    }
    complaints.end();
}

/// m below 1, one time for all queries and one for each.
fn other_processes<A: Api>() {
    let mut complaints = Complaints::default();
    let mut rng = Rng(75);
    for (kind, times) in [
        (Kind::VpLinear(0.1, 20.0, 1.0), vec![1e-3, 0.05, 0.2, 0.5, 1.0]),
        (Kind::Flow, vec![0.01, 0.2, 0.5, 0.9, 0.999]),
    ] {
        for each in [true, false] {
            let raw = images(&mut rng, 600, 96);
            let mut case = Case::noised(&mut rng, &format!("{kind:?}"), (raw, 96), SIGNED, 18);
            case.t = (0..18).map(|_| rng.pick(&times)).collect();
            case.t.truncate(if each { 18 } else { 1 });
            let at = A::at(&A::process(&kind).unwrap(), &case.t).unwrap();
            for (i, x) in case.x.chunks_exact_mut(96).enumerate() {
                let (p, row) = (at[i % at.len()], rng.below(600) * 96);
                let data = decoded(&case.raw[row..row + 96], SIGNED);
                x.iter_mut().zip(data).for_each(|(x, y)| *x = p.m * y + p.sigma * rng.normal());
            }
            run::<A>(&Case { kind: kind.clone(), ..case }, &mut complaints);
        }
    }
    complaints.end();
}

/// No mean is wanted: nothing but its own errors says whether whole numbers are good enough for an entropy or a density.
#[test]
fn scalars_alone() {
    let none = Want::default();
    let wants = vec![Want { entropy: true, ..none }, Want { log_density: true, log_density_error_bound: true, ..none }];
    let mut complaints = Complaints::default();
    let mut rng = Rng(76);
    for (n, d, decoding) in [(300, 784, UNITY), (700, 64, SIGNED), (2051, 130, MIRRORED)] {
        let mut raw = random(&mut rng, n, d);
        // Every other row differs from the one before in a few numbers by one.
        for i in (1..n).step_by(2) {
            raw.copy_within((i - 1) * d..i * d, i * d);
            for _ in 0..1 + rng.below(9) {
                let k = i * d + rng.below(d);
                raw[k] = if raw[k] > 100.0 { raw[k] - 1.0 } else { raw[k] + 1.0 };
            }
        }
        let mut case = Case::noised(&mut rng, "scalars", (raw, d), decoding, 64);
        for t in case.t.iter_mut().skip(2).step_by(2) {
            *t = decoding.scale.abs() * 10f64.powf(3.0 * rng.uniform() - 2.0);
        }
        run::<Machine>(&Case { wants: wants.clone(), ..case }, &mut complaints);
    }
    complaints.end();
}

/// Two rows, each hundreds of times: their weights are rounded alike, not independently.
#[test]
fn hundreds_of_copies() {
    let mut complaints = Complaints::default();
    let mut rng = Rng(77);
    for (n, d, decoding) in [(1000, 128, FAR), (3000, 64, SIGNED), (4000, 96, UNITY)] {
        let raw = (0..n * d).map(|i| if i / d % 3 == 0 { 255.0 } else { 0.0 }).collect();
        let mut case = Case::noised(&mut rng, "copies", (raw, d), decoding, 64);
        let (spread, _) = spread_and_gap(&decoded(&case.raw, decoding), d);
        let wants = vec![Want { denoised: true, denoised_error_bound: true, ..Want::default() }];
        // Queries that are one of the rows, at noise levels at which the other weighs from little to almost as much.
        for (i, (t, x)) in case.t.iter_mut().zip(case.x.chunks_exact_mut(d)).enumerate() {
            *t = spread * (0.45 + 1.5 * rng.uniform());
            let row = decoded(&case.raw[i % 2 * d..][..d], decoding);
            x.copy_from_slice(&row);
        }
        run::<Machine>(&Case { wants, ..case }, &mut complaints);
    }
    complaints.end();
}
