//! `cargo bench [FILTER]`: the kernels through the crate's own interface, one thread, each instruction set that this
//! processor has. Benchmarks against other programs are in the Python files beside this one.

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use mnemo::cpu::{Cpu, InstructionSet};
use mnemo::dataset::{Dataset, Decoding};
use mnemo::engine::{Grade, SharedEngine};
use mnemo::exec::Exec;
use mnemo::memorization::{Metric, nearest};
use mnemo::process::Process;
use mnemo::random::{Purpose, Stream};
use mnemo::sampler::{Grid, Options, Solver, sample};
use mnemo::score::{Empirical, Regularizer, ScoreModel, Want};
use mnemo::tensor::{Matrix, View};
use std::sync::Arc;

fn main() {
    divan::main();
}

fn instruction_sets() -> Vec<InstructionSet> {
    InstructionSet::available()
}

fn engine(isa: InstructionSet) -> SharedEngine {
    Arc::new(Cpu::with_instruction_set(1, None, isa).expect("it is available"))
}

fn normals(len: usize, seed: u64) -> Vec<f64> {
    let mut v = vec![0.0; len];
    Stream { seed, purpose: Purpose::Prior, step: 0 }.fill_normal(0, &mut v);
    v
}

/// The size of the large data sets: images of 28 × 28.
const LEN: usize = 8192;
const DIM: usize = 784;

/// Rows of 8 bits that lie near a plane of 16 dimensions, as images do.
fn images() -> Vec<u8> {
    const WAVES: usize = 16;
    let (waves, heights) = (normals(WAVES * DIM, 1), normals(LEN * WAVES, 2));
    let noise = normals(LEN * DIM, 3);
    let mut rows = vec![0; LEN * DIM];
    for (n, row) in rows.chunks_exact_mut(DIM).enumerate() {
        for (k, value) in row.iter_mut().enumerate() {
            let wave: f64 = (0..WAVES).map(|w| heights[n * WAVES + w] * waves[w * DIM + k]).sum();
            *value = (128.0 + 12.0 * wave + 4.0 * noise[n * DIM + k]) as u8;
        }
    }
    rows
}

/// An element type in which rows are kept.
trait Kept {
    /// The rows of [`images`].
    fn dataset(engine: SharedEngine) -> Dataset;
}

const DECODING: Decoding = Decoding { scale: 1.0 / 127.5, shift: -1.0 };

impl Kept for u8 {
    fn dataset(engine: SharedEngine) -> Dataset {
        Dataset::copy(engine, View::new(&images(), LEN, DIM), None, DECODING).expect("small")
    }
}

impl Kept for f32 {
    fn dataset(engine: SharedEngine) -> Dataset {
        let rows: Vec<Self> = images().into_iter().map(f32::from).collect();
        Dataset::copy(engine, View::new(&rows, LEN, DIM), None, DECODING).expect("small")
    }
}

impl Kept for half::f16 {
    fn dataset(engine: SharedEngine) -> Dataset {
        let rows: Vec<Self> = images().into_iter().map(|v| Self::from_f32(f32::from(v))).collect();
        Dataset::copy(engine, View::new(&rows, LEN, DIM), None, DECODING).expect("small")
    }
}

fn model(data: Dataset) -> Empirical {
    let process = Process::ve_power(2.0, 1.0, 80.0).expect("EDM");
    Empirical::new(Arc::new(data), process, Regularizer::None, 1e-12, None).expect("no label")
}

/// Noised rows of a data set.
fn queries(data: &Dataset, batch: usize, sigma: f64) -> Matrix {
    let d = data.rows().dim();
    let mut x = normals(batch * d, 4);
    let mut row = vec![0.0; d];
    for (b, x) in x.chunks_exact_mut(d).enumerate() {
        data.rows().decode(b * data.rows().len() / batch, &mut row);
        x.iter_mut().zip(&row).for_each(|(x, y)| *x = y + sigma * *x);
    }
    Matrix::from_host(x, batch, d)
}

const SCORE: Want = Want {
    score: true,
    denoised: false,
    log_density: false,
    divergence: false,
    entropy: false,
    nearest_index: false,
    nearest_distance: false,
    denoised_error_bound: false,
    log_density_error_bound: false,
};

/// Items are pairs of a query and a number of a row.
fn evaluate(bencher: Bencher<'_, '_>, data: Dataset, batch: usize, sigma: f64, want: Want, grade: Grade) {
    let x = queries(&data, batch, sigma);
    let pairs = ItemsCount::new(batch * data.rows().len() * data.rows().dim());
    let (model, t) = (model(data), vec![sigma; batch]);
    let eval = || model.eval(black_box(&x), &t, want, grade, &Exec::default()).expect("finite");
    // Makes the bounds where they serve.
    eval();
    bencher.counter(pairs).bench_local(eval);
}

/// At σ = 10 every row counts.
mod dense {
    use super::*;

    #[divan::bench(args = instruction_sets(), types = [u8, half::f16, f32], sample_count = 20)]
    fn score<T: Kept>(bencher: Bencher<'_, '_>, isa: InstructionSet) {
        evaluate(bencher, T::dataset(engine(isa)), 64, 10.0, SCORE, Grade::Single);
    }

    #[divan::bench(args = instruction_sets(), types = [u8, half::f16, f32], sample_count = 20)]
    fn one_query<T: Kept>(bencher: Bencher<'_, '_>, isa: InstructionSet) {
        evaluate(bencher, T::dataset(engine(isa)), 1, 10.0, SCORE, Grade::Single);
    }

    #[divan::bench(args = instruction_sets(), sample_count = 20)]
    fn double(bencher: Bencher<'_, '_>, isa: InstructionSet) {
        evaluate(bencher, u8::dataset(engine(isa)), 64, 10.0, SCORE, Grade::Double);
    }

    #[divan::bench(args = instruction_sets(), sample_count = 20)]
    fn divergence(bencher: Bencher<'_, '_>, isa: InstructionSet) {
        let want = Want { divergence: true, log_density: true, ..SCORE };
        evaluate(bencher, u8::dataset(engine(isa)), 64, 10.0, want, Grade::Single);
    }
}

/// At smaller σ rows are left out: by their weight at σ = 1, by bounds at σ = 0.1.
mod pruned {
    use super::*;

    #[divan::bench(args = instruction_sets(), consts = [1000, 300, 100], sample_count = 20)]
    fn score_at_thousandths<const SIGMA: usize>(bencher: Bencher<'_, '_>, isa: InstructionSet) {
        evaluate(bencher, u8::dataset(engine(isa)), 64, SIGMA as f64 / 1000.0, SCORE, Grade::Single);
    }
}

/// J v, in float64 about the best row.
#[divan::bench(args = instruction_sets(), consts = [10, 1], sample_count = 20)]
fn jvp_at<const SIGMA: usize>(bencher: Bencher<'_, '_>, isa: InstructionSet) {
    const BATCH: usize = 16;
    let (data, sigma) = (u8::dataset(engine(isa)), SIGMA as f64);
    let (x, v) = (queries(&data, BATCH, sigma), queries(&data, BATCH, 1.0));
    let (model, t) = (model(data), [sigma; BATCH]);
    let work = || model.jvp(black_box(&x), &t, &v, Grade::Single, &Exec::default()).expect("finite");
    bencher.counter(ItemsCount::new(BATCH * LEN * DIM)).bench_local(work);
}

/// k = 50, by bounds.
#[divan::bench(args = instruction_sets(), types = [u8, f32], sample_count = 20)]
fn search<T: Kept>(bencher: Bencher<'_, '_>, isa: InstructionSet) {
    const BATCH: usize = 128;
    let data = T::dataset(engine(isa));
    let x = queries(&data, BATCH, 0.1);
    let work = || nearest(&data, black_box(&x), Metric::L2, 50, &Exec::default()).expect("finite");
    work();
    bencher.counter(ItemsCount::new(BATCH * LEN * DIM)).bench_local(work);
}

/// Points of the plane.
mod small {
    use super::*;

    fn points(isa: InstructionSet, len: usize) -> Dataset {
        Dataset::copy(engine(isa), View::new(&normals(len * 2, 5), len, 2), None, Decoding::default()).expect("small")
    }

    #[divan::bench(args = instruction_sets(), consts = [20, 1000], sample_count = 20)]
    fn score<const LEN: usize>(bencher: Bencher<'_, '_>, isa: InstructionSet) {
        evaluate(bencher, points(isa, LEN), 1000, 0.5, SCORE, Grade::Single);
    }

    /// Items are samples times steps.
    #[divan::bench(args = instruction_sets(), sample_count = 20)]
    fn euler(bencher: Bencher<'_, '_>, isa: InstructionSet) {
        const SAMPLES: usize = 1000;
        let model = model(points(isa, 20));
        let options = Options {
            solver: Solver::Euler,
            grid: Grid::UniformT,
            steps: 100,
            t_start: Some(10.0),
            t_end: Some(0.01),
            from_prior: true,
            ..Options::default()
        };
        bencher.counter(ItemsCount::new(SAMPLES * options.steps)).bench_local(|| {
            let x = Matrix::from_host(vec![0.0; SAMPLES * 2], SAMPLES, 2);
            sample(&model, &options, x, Grade::Single, None, &Exec::default()).expect("finite")
        });
    }
}
