//! A host's own model: the exact model of a single training row, in each of the five things that a network may predict.

use crate::api::{
    Api, Call, Decoding, EVERYTHING, Empirical, Failure, Grid, Kind, Matrix, Model, Options, Prediction, Solver, Want,
};
use crate::data::{Complaints, Rng, norm};
use mnemo::capi::status::{MNEMO_E_CALLBACK, MNEMO_E_UNSUPPORTED};
use mnemo::tensor::Dtype;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

both!(
    five_predictions_of_one_model,
    a_model_can_be_sampled,
    an_equal_model_samples_equally,
    what_a_model_cannot_do,
    a_model_is_dropped_once,
);

const PREDICTIONS: [Prediction; 5] =
    [Prediction::Score, Prediction::Epsilon, Prediction::Clean, Prediction::Velocity, Prediction::Flow];

/// N(m y, σ²) of one row y: x0 = y, ε = (x - m y)/σ, s = -ε/σ, v = m ε - σ y, u = ε - y.
struct Gaussian {
    row: Vec<f64>,
    prediction: Prediction,
    process: mnemo::process::Process,
    has_jvp: bool,
    /// Counts this model's destructions.
    dropped: Arc<AtomicUsize>,
}

impl Drop for Gaussian {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

impl Gaussian {
    fn each(&self, x: &[f64], t: &[f64], out: &mut [f64], f: impl Fn(f64, f64, f64, f64) -> f64) -> i32 {
        let d = self.row.len();
        assert_eq!((x.len(), out.len()), (t.len() * d, t.len() * d));
        for (i, out) in out.iter_mut().enumerate() {
            let p = self.process.eval(t[i / d]).unwrap();
            *out = f(x[i], self.row[i % d], p.m, p.sigma);
        }
        0
    }
}

impl Model for Gaussian {
    fn eval(&self, x: &[f64], t: &[f64], out: &mut [f64]) -> i32 {
        self.each(x, t, out, |x, y, m, sigma| {
            let noise = (x - m * y) / sigma;
            match self.prediction {
                Prediction::Score => -noise / sigma,
                Prediction::Epsilon => noise,
                Prediction::Clean => y,
                Prediction::Velocity => m * noise - sigma * y,
                Prediction::Flow => noise - y,
            }
        })
    }

    fn jvp(&self, _x: &[f64], t: &[f64], v: &[f64], out: &mut [f64]) -> i32 {
        self.each(v, t, out, |v, _, m, sigma| match self.prediction {
            Prediction::Score => -v / sigma / sigma,
            Prediction::Epsilon | Prediction::Flow => v / sigma,
            Prediction::Clean => 0.0,
            Prediction::Velocity => m * v / sigma,
        })
    }

    fn has_jvp(&self) -> bool {
        self.has_jvp
    }
}

fn gaussian(row: &[f64], prediction: Prediction, kind: &Kind) -> Box<Gaussian> {
    use mnemo::process::Process;
    let process = match kind {
        Kind::VpLinear(a, b, t) => Process::vp_linear(*a, *b, *t),
        Kind::VePower(k, a, t) => Process::ve_power(*k, *a, *t),
        Kind::SubVp(a, b) => Process::sub_vp(*a, *b),
        _ => Process::flow(),
    };
    Box::new(Gaussian {
        row: row.to_vec(),
        prediction,
        process: process.unwrap(),
        has_jvp: true,
        dropped: Arc::default(),
    })
}

fn kinds() -> [(Kind, [f64; 3]); 4] {
    [
        (Kind::VpLinear(0.1, 20.0, 1.0), [0.05, 0.5, 1.0]),
        (Kind::VePower(2.0, 1.0, 80.0), [0.05, 1.0, 80.0]),
        (Kind::SubVp(0.1, 20.0), [0.1, 0.5, 1.0]),
        (Kind::Flow, [0.05, 0.5, 0.95]),
    ]
}

fn five_predictions_of_one_model<A: Api>() {
    let (mut rng, mut complaints) = (Rng(40), Complaints::default());
    let (machine, d) = (A::new(2), 7);
    let row = rng.normals(d);
    for (kind, t) in kinds() {
        let process = A::process(&kind).unwrap();
        let at = A::at(&process, &t).unwrap();
        let dataset = machine.dataset(&Matrix::new(Dtype::F64, &row, d), None, Decoding::default()).unwrap();
        let exact = machine.empirical(&dataset, &process, Empirical::default()).unwrap();
        let noise = rng.normals(3 * d);
        let x: Vec<f64> = (0..3 * d).map(|i| at[i / d].m * row[i % d] + at[i / d].sigma * noise[i]).collect();
        let v = rng.normals(3 * d);
        // Through score and ε the denoised value is x/m less a multiple of nearly the same: it keeps what is left of the
        // digits. Through x0 and F32 the score does: (m y - x)/σ² with |x| about 10 and σ of .05.
        for (dtype, tolerance) in [(Dtype::F64, 1e-12), (Dtype::F32, 5e-5)] {
            let (x, v) = (Matrix::new(dtype, &x, d), Matrix::new(dtype, &v, d));
            let expected = A::eval(&exact, &x, &t, EVERYTHING, Call::default()).unwrap();
            let expected_jvp = A::jvp(&exact, &x, &t, &v).unwrap();
            for prediction in PREDICTIONS {
                let custom = machine.custom(&process, d, prediction, gaussian(&row, prediction, &kind)).unwrap();
                let want = Want { score: true, denoised: true, ..Want::default() };
                let found = A::eval(&custom, &x, &t, want, Call::default()).unwrap();
                let jvp = A::jvp(&custom, &x, &t, &v).unwrap();
                for i in 0..3 {
                    let part = i * d..(i + 1) * d;
                    let name = || format!("{kind:?} at {}, {prediction:?}, {dtype:?}", t[i]);
                    let s = &expected.score[part.clone()];
                    complaints.near_vector(&found.score[part.clone()], s, tolerance * norm(s), || name() + ": score");
                    // x̂0 is a share of x/m, which is 80 times the row at VP's last time.
                    let clean = &expected.denoised[part.clone()];
                    let size = norm(clean) + norm(&x.row(i)) / at[i].m;
                    let denoised = &found.denoised[part.clone()];
                    complaints.near_vector(denoised, clean, tolerance * size, || name() + ": denoised");
                    let j = &expected_jvp.row(i);
                    complaints.near_vector(&jvp.row(i), j, tolerance * norm(j), || name() + ": jvp");
                }
            }
        }
    }
    complaints.end();
}

fn end<A: Api>(score: &A::Score, options: &Options, x: &Matrix) -> Vec<f64> {
    let mut x = x.clone();
    A::sample(score, options, &mut x, None, Call { seed: 3, ..Call::default() }).unwrap();
    x.values()
}

fn a_model_can_be_sampled<A: Api>() {
    let (machine, kind) = (A::new(1), Kind::VePower(2.0, 1.0, 80.0));
    let row = [0.5, -1.5];
    let process = A::process(&kind).unwrap();
    for prediction in PREDICTIONS {
        let score = machine.custom(&process, 2, prediction, gaussian(&row, prediction, &kind)).unwrap();
        let options = Options { denoise_last: true, from_prior: true, ..Options::default() };
        for dtype in [Dtype::F32, Dtype::F64] {
            let found = end::<A>(&score, &options, &Matrix::new(dtype, &[0.0; 8], 2));
            // The model's own F32 loses x - y at σ = .002 in the digits of y, 1e-7.
            assert!(found.chunks_exact(2).all(|x| (x[0] - 0.5).abs() + (x[1] + 1.5).abs() < 1e-5), "{found:?}");
        }
    }
}

fn an_equal_model_samples_equally<A: Api>() {
    let (machine, d) = (A::new(1), 3);
    let mut rng = Rng(41);
    let row = rng.normals(d);
    for (kind, [t_end, _, t_start]) in kinds() {
        let process = A::process(&kind).unwrap();
        let dataset = machine.dataset(&Matrix::new(Dtype::F64, &row, d), None, Decoding::default()).unwrap();
        let exact = machine.empirical(&dataset, &process, Empirical::default()).unwrap();
        let x = Matrix::new(Dtype::F64, &rng.normals(4 * d), d);
        for solver in [Solver::Heun, Solver::Exponential, Solver::DpmPp2m, Solver::EulerMaruyama, Solver::Rk45] {
            let (t_start, t_end, grid) = (Some(t_start), Some(t_end), Grid::UniformS);
            let options = Options { solver, grid, steps: 12, t_start, t_end, ..Options::default() };
            let expected = end::<A>(&exact, &options, &x);
            for prediction in PREDICTIONS {
                let custom = machine.custom(&process, d, prediction, gaussian(&row, prediction, &kind)).unwrap();
                let found = end::<A>(&custom, &options, &x);
                // Roundings of slopes that differ in their order of operations, carried along a contracting flow.
                let error = crate::data::distance(&found, &expected);
                assert!(error < 1e-10 * (1.0 + norm(&expected)), "{kind:?}, {solver:?}, {prediction:?}: {error:e}");
            }
        }
    }
}

/// A model that fails, or answers with what is no number.
struct Broken {
    status: i32,
    answer: f64,
}

impl Model for Broken {
    fn eval(&self, _x: &[f64], _t: &[f64], out: &mut [f64]) -> i32 {
        out.fill(self.answer);
        self.status
    }
}

fn what_a_model_cannot_do<A: Api>() {
    let machine = A::new(1);
    let process = A::process(&Kind::Flow).unwrap();
    let x = Matrix::new(Dtype::F64, &[0.5; 6], 3);
    let make = |status, answer, prediction| {
        machine.custom(&process, 3, prediction, Box::new(Broken { status, answer })).unwrap()
    };
    let score = Want { score: true, ..Want::default() };
    let eval = |model: &A::Score, want| -> Result<_, Failure> { A::eval(model, &x, &[0.5], want, Call::default()) };

    let failing = make(17, 0.0, Prediction::Score);
    let failure = eval(&failing, score).unwrap_err();
    assert_eq!((failure.status, failure.native), (MNEMO_E_CALLBACK, 17));
    let before = x.clone();
    let mut state = x.clone();
    let options = Options { grid: Grid::UniformT, t_start: Some(0.9), t_end: Some(0.1), ..Options::default() };
    let failure = A::sample(&failing, &options, &mut state, None, Call::default()).unwrap_err();
    assert_eq!((failure.status, failure.native), (MNEMO_E_CALLBACK, 17));
    assert_eq!(state.values(), before.values());

    let nan = make(0, f64::NAN, Prediction::Clean);
    let failure = eval(&nan, score).unwrap_err();
    assert_eq!((failure.status, failure.native), (MNEMO_E_CALLBACK, 0));

    let good = make(0, 0.25, Prediction::Score);
    for want in [
        Want { log_density: true, ..score },
        Want { divergence: true, ..score },
        Want { entropy: true, ..score },
        Want { nearest_index: true, ..score },
        Want { nearest_distance: true, ..score },
        Want { denoised_error_bound: true, ..score },
        Want { log_density_error_bound: true, ..score },
    ] {
        assert_eq!(eval(&good, want).unwrap_err().status, MNEMO_E_UNSUPPORTED);
    }
    assert_eq!(A::jvp(&good, &x, &[0.5], &x).unwrap_err().status, MNEMO_E_UNSUPPORTED);
}

fn a_model_is_dropped_once<A: Api>() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let machine = A::new(1);
    let kind = Kind::Flow;
    let mut model = gaussian(&[0.5], Prediction::Clean, &kind);
    model.dropped = dropped.clone();
    let score = machine.custom(&A::process(&kind).unwrap(), 1, Prediction::Clean, model).unwrap();
    drop(machine);
    assert_eq!(dropped.load(Ordering::SeqCst), 0);
    let x = Matrix::new(Dtype::F64, &[1.0], 1);
    A::eval(&score, &x, &[0.5], Want { score: true, ..Want::default() }, Call::default()).unwrap();
    drop(score);
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
}
