//! A data set with its score on some context, and the calls that tests make on them.

use crate::host::*;
use crate::numbers::{Rng, bits};
use mnemo::capi::context::mnemo_context;
use mnemo::capi::dataset::mnemo_dataset;
use mnemo::capi::exec::mnemo_exec;
use mnemo::capi::memorization::{MNEMO_METRIC_COSINE, MNEMO_METRIC_L2, mnemo_nearest};
use mnemo::capi::sampler::*;
use mnemo::capi::score::*;
use mnemo::capi::status::MNEMO_E_CUDA;
use mnemo::capi::tensor::mnemo_tensor;
use std::ptr::from_mut;

/// What no result is: an output in the host's memory that a failed call must leave alone.
const UNTOUCHED: f64 = -123.25;

/// A call that failed left the host's memory alone, unless it was the driver that failed, perhaps after a copy.
#[track_caller]
fn assert_untouched(outcome: &Outcome<()>, untouched: bool) {
    if let Err(e) = outcome {
        assert!(untouched || e.status == MNEMO_E_CUDA, "a failed call wrote to the host's memory: {}", e.message);
    }
}

/// A data set, and its exact score under EDM's process.
pub struct Scene {
    pub rows: Vec<f64>,
    pub dim: usize,
    pub score: Object<mnemo_score>,
    pub dataset: Object<mnemo_dataset>,
    pub context: Object<mnemo_context>,
}

impl Scene {
    pub fn new(place: &Place<'_>, count: usize, dim: usize) -> Outcome<Self> {
        Self::of(place, Rng(count as u64).numbers(count * dim), dim)
    }

    pub fn of(place: &Place<'_>, rows: Vec<f64>, dim: usize) -> Outcome<Self> {
        let context = context(place)?;
        let dataset = dataset(&context, &tensor(&rows, dim))?;
        let score = empirical(&dataset, &edm(), MNEMO_REG_NONE, 0.0)?;
        Ok(Self { rows, dim, score, dataset, context })
    }

    /// Points to evaluate at.
    pub fn points(&self, batch: usize) -> Vec<f64> {
        Rng(99).numbers(batch * self.dim)
    }
}

/// What an evaluation writes.
#[derive(Clone, Debug)]
pub struct Outputs {
    pub score: Vec<f64>,
    pub denoised: Vec<f64>,
    pub log_density: Vec<f64>,
    pub divergence: Vec<f64>,
    pub entropy: Vec<f64>,
    pub distance: Vec<f64>,
    pub denoised_bound: Vec<f64>,
    pub density_bound: Vec<f64>,
    pub index: Vec<i64>,
}

impl Outputs {
    fn untouched(batch: usize, dim: usize) -> Self {
        let [score, denoised] = [(); 2].map(|()| vec![UNTOUCHED; batch * dim]);
        let columns = [(); 6].map(|()| vec![UNTOUCHED; batch]);
        let [log_density, divergence, entropy, distance, denoised_bound, density_bound] = columns;
        let index = vec![UNTOUCHED as i64; batch];
        Self { score, denoised, log_density, divergence, entropy, distance, denoised_bound, density_bound, index }
    }

    /// All but the index.
    pub fn columns(&self) -> [&[f64]; 8] {
        let Self { score, denoised, log_density, divergence, entropy, distance, denoised_bound, density_bound, .. } =
            self;
        [score, denoised, log_density, divergence, entropy, distance, denoised_bound, density_bound]
    }

    pub fn bits(&self) -> Vec<u64> {
        let numbers = self.columns().into_iter().flat_map(bits);
        numbers.chain(self.index.iter().map(|&index| index.cast_unsigned())).collect()
    }

    fn is_untouched(&self) -> bool {
        self.columns().into_iter().flatten().all(|&v| v == UNTOUCHED)
            && self.index.iter().all(|&i| i == UNTOUCHED as i64)
    }
}

/// Every output, in the host's memory, at points that are there too.
#[track_caller]
pub fn eval(score: &Object<mnemo_score>, x: &[f64], dim: usize, t: &[f64], exec: &mnemo_exec) -> Outcome<Outputs> {
    eval_at(score, &tensor(x, dim), t, exec)
}

/// Every output, in the host's memory.
#[track_caller]
pub fn eval_at(score: &Object<mnemo_score>, x: &mnemo_tensor, t: &[f64], exec: &mnemo_exec) -> Outcome<Outputs> {
    let (batch, dim) = (x.rows as usize, x.cols as usize);
    let out = Outputs::untouched(batch, dim);
    let [mut s, mut denoised] = [&out.score, &out.denoised].map(|numbers| tensor(numbers, dim));
    let [_, _, columns @ ..] = out.columns();
    let [mut density, mut divergence, mut entropy, mut distance, mut of_denoised, mut of_density] =
        columns.map(|numbers| tensor(numbers, 1));
    let mut index = tensor(&out.index, 1);
    let mut outputs = initial(mnemo_score_outputs_init);
    (outputs.score, outputs.denoised) = (from_mut(&mut s), from_mut(&mut denoised));
    (outputs.log_density, outputs.divergence) = (from_mut(&mut density), from_mut(&mut divergence));
    (outputs.entropy, outputs.nearest_distance) = (from_mut(&mut entropy), from_mut(&mut distance));
    (outputs.denoised_error_bound, outputs.log_density_error_bound) =
        (from_mut(&mut of_denoised), from_mut(&mut of_density));
    outputs.nearest_index = from_mut(&mut index);
    let outcome = write(score, x, t, &outputs, exec);
    assert_untouched(&outcome, out.is_untouched());
    outcome.map(|()| out)
}

/// An evaluation as the host says it.
#[track_caller]
pub fn write(
    score: &Object<mnemo_score>,
    x: &mnemo_tensor,
    t: &[f64],
    outputs: &mnemo_score_outputs,
    exec: &mnemo_exec,
) -> Outcome<()> {
    let t = tensor(t, 1);
    // SAFETY: pointers are to live values of their types; so throughout this file.
    call(|err| unsafe { mnemo_score_eval(score.handle, x, &raw const t, outputs, exec, err) })
}

/// The score and the denoised value alone.
#[track_caller]
pub fn write_both(
    score: &Object<mnemo_score>,
    x: &mnemo_tensor,
    t: &[f64],
    [mut to_score, mut to_denoised]: [mnemo_tensor; 2],
    exec: &mnemo_exec,
) -> Outcome<()> {
    let mut outputs = initial(mnemo_score_outputs_init);
    (outputs.score, outputs.denoised) = (from_mut(&mut to_score), from_mut(&mut to_denoised));
    write(score, x, t, &outputs, exec)
}

#[track_caller]
pub fn jvp(
    score: &Object<mnemo_score>,
    x: &[f64],
    v: &[f64],
    dim: usize,
    t: &[f64],
    exec: &mnemo_exec,
) -> Outcome<Vec<f64>> {
    let out = vec![UNTOUCHED; x.len()];
    let (x, v, t, mut to) = (tensor(x, dim), tensor(v, dim), tensor(t, 1), tensor(&out, dim));
    // SAFETY: as above.
    let outcome = call(|err| unsafe {
        mnemo_score_jvp(score.handle, &raw const x, &raw const t, &raw const v, &raw mut to, exec, err)
    });
    assert_untouched(&outcome, out.iter().all(|&v| v == UNTOUCHED));
    outcome.map(|()| out)
}

#[track_caller]
pub fn nearest(
    dataset: &Object<mnemo_dataset>,
    x: &[f64],
    dim: usize,
    metric: u32,
    k: usize,
    exec: &mnemo_exec,
) -> Outcome<(Vec<f64>, Vec<i64>)> {
    nearest_at(dataset, &tensor(x, dim), metric, k, exec)
}

#[track_caller]
pub fn nearest_at(
    dataset: &Object<mnemo_dataset>,
    x: &mnemo_tensor,
    metric: u32,
    k: usize,
    exec: &mnemo_exec,
) -> Outcome<(Vec<f64>, Vec<i64>)> {
    let queries = x.rows as usize;
    let (distance, index) = (vec![UNTOUCHED; queries * k], vec![UNTOUCHED as i64; queries * k]);
    let (mut to_distance, mut to_index) = (tensor(&distance, k), tensor(&index, k));
    // SAFETY: as above.
    let outcome = call(|err| unsafe {
        let (distance, index) = (&raw mut to_distance, &raw mut to_index);
        mnemo_nearest(dataset.handle, x, metric, k as i64, distance, index, exec, err)
    });
    let untouched = distance.iter().all(|&v| v == UNTOUCHED) && index.iter().all(|&i| i == UNTOUCHED as i64);
    assert_untouched(&outcome, untouched);
    outcome.map(|()| (distance, index))
}

/// How the tests sample: few steps from sigma = 2.
pub fn sampler(solver: u32) -> mnemo_sampler_options {
    let mut options = initial(mnemo_sampler_options_init);
    (options.solver, options.steps) = (solver, 3);
    (options.t_start, options.t_end) = (2.0, 0.1);
    // EDM_STOCHASTIC only looks at it.
    options.s_churn = 1.0;
    options
}

#[track_caller]
pub fn sample_at(
    score: &Object<mnemo_score>,
    options: &mnemo_sampler_options,
    mut x: mnemo_tensor,
    exec: &mnemo_exec,
) -> Outcome<()> {
    // SAFETY: as above.
    call(|err| unsafe { mnemo_sample(score.handle, options, &raw mut x, exec, err) })
}

/// Samples in the host's memory, from `x`.
#[track_caller]
pub fn sample(
    score: &Object<mnemo_score>,
    options: &mnemo_sampler_options,
    x: &[f64],
    dim: usize,
    exec: &mnemo_exec,
) -> Outcome<Vec<f64>> {
    let state = x.to_vec();
    let outcome = sample_at(score, options, tensor(&state, dim), exec);
    assert_untouched(&outcome, state == x);
    outcome.map(|()| state)
}

/// A call with all that it is given; its results as bits.
pub type Operation = fn(&Scene) -> Outcome<Vec<u64>>;

const BATCH: usize = 2;

/// Calls of every kind, with the host's tensors.
pub const OPERATIONS: &[(&str, Operation)] = &[
    ("mnemo_dataset_copy", |s| dataset(&s.context, &tensor(&s.rows, s.dim)).map(|_| Vec::new())),
    ("mnemo_score_eval", |s| {
        eval(&s.score, &s.points(BATCH), s.dim, &[0.5, 0.7], &exec(0, 0, 0)).map(|out| out.bits())
    }),
    ("mnemo_score_jvp", |s| {
        let v = Rng(5).numbers(BATCH * s.dim);
        jvp(&s.score, &s.points(BATCH), &v, s.dim, &[0.5], &exec(0, 0, 0)).map(|out| bits(&out))
    }),
    ("mnemo_nearest", |s| near(s, MNEMO_METRIC_L2)),
    ("mnemo_nearest by cosine", |s| near(s, MNEMO_METRIC_COSINE)),
    ("mnemo_sample", |s| {
        let options = sampler(MNEMO_SOLVER_EULER_MARUYAMA);
        sample(&s.score, &options, &s.points(BATCH), s.dim, &exec(0, 0, 7)).map(|x| bits(&x))
    }),
    ("bounds of distances", bounds),
];

/// A data set of so many rows of so many numbers that bounds of distances are kept with it, and a score by them.
fn bounds(s: &Scene) -> Outcome<Vec<u64>> {
    let (count, dim) = (512, 129);
    let rows: Vec<f64> = (0..count * dim).map(|i| s.rows[i * 7 % s.rows.len()] + (i / dim) as f64).collect();
    let data = dataset(&s.context, &tensor(&rows, dim))?;
    let score = empirical(&data, &edm(), MNEMO_REG_NONE, 0.0)?;
    eval(&score, &rows[5 * dim..][..BATCH * dim], dim, &[0.5, 20.0], &exec(0, 0, 0)).map(|out| out.bits())
}

fn near(s: &Scene, metric: u32) -> Outcome<Vec<u64>> {
    let (distance, index) = nearest(&s.dataset, &s.points(BATCH), s.dim, metric, 3, &exec(0, 0, 0))?;
    Ok(bits(&distance).into_iter().chain(index.into_iter().map(i64::cast_unsigned)).collect())
}
