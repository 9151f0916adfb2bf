//! The library through its Rust API.

use crate::api::{
    Api, Call, Decoding, Empirical, Failure, Kind, Marginal, Matrix, Model, Observer, Options, Outcome, Outputs,
    Prediction, Report, Want,
};
use mnemo::capi::status::{
    MNEMO_E_CALLBACK, MNEMO_E_CANCELLED, MNEMO_E_DEVICE, MNEMO_E_DTYPE, MNEMO_E_INVALID, MNEMO_E_IO, MNEMO_E_NOMEM,
    MNEMO_E_SHAPE, MNEMO_E_UNSUPPORTED,
};
use mnemo::cpu::{Cpu, InstructionSet};
use mnemo::dataset::Dataset;
use mnemo::engine::{Grade, SharedEngine};
use mnemo::error::Error;
use mnemo::exec::{Cancel, Exec};
use mnemo::memorization::{Metric, memorization, nearest};
use mnemo::process::Process;
use mnemo::sampler::sample;
use mnemo::score::{self, Custom, Predictor, ScoreModel};
use mnemo::tensor::{Dtype, Place, View, ViewMut};
use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;

pub struct Machine(SharedEngine);

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        let (status, native) = match &e {
            Error::Invalid(_) => (MNEMO_E_INVALID, 0),
            Error::Shape(_) => (MNEMO_E_SHAPE, 0),
            Error::Dtype(_) => (MNEMO_E_DTYPE, 0),
            Error::Device(_) => (MNEMO_E_DEVICE, 0),
            Error::NoMemory(_) => (MNEMO_E_NOMEM, 0),
            Error::Io { native, .. } => (MNEMO_E_IO, *native),
            Error::Cancelled(_) => (MNEMO_E_CANCELLED, 0),
            Error::Callback { native, .. } => (MNEMO_E_CALLBACK, *native),
            Error::Unsupported(_) => (MNEMO_E_UNSUPPORTED, 0),
            #[allow(unreachable_patterns)]
            other => panic!("a kind of error that the suite does not know: {other}"),
        };
        Self { status, native, message: e.to_string() }
    }
}

fn view(m: &Matrix) -> View<'_> {
    // SAFETY: a Matrix holds its rows.
    unsafe { View::from_raw(m.numbers.data(), (m.rows, m.cols, m.stride), m.dtype(), Place::Cpu) }
}

fn view_mut(m: &mut Matrix) -> ViewMut<'_> {
    let (shape, dtype) = ((m.rows, m.cols, m.stride), m.dtype());
    // SAFETY: a Matrix holds its rows, and is borrowed for writing.
    unsafe { ViewMut::from_raw(m.numbers.data_mut(), shape, dtype, Place::Cpu) }
}

fn grade(m: &Matrix) -> Grade {
    if m.dtype() == Dtype::F32 { Grade::Single } else { Grade::Double }
}

fn times(t: &[f64], rows: usize) -> Vec<f64> {
    if t.len() == rows { t.to_vec() } else { vec![t[0]; rows] }
}

fn with_exec<T>(call: Call<'_, Cancel>, body: impl FnOnce(&Exec<'_>) -> mnemo::error::Result<T>) -> Outcome<T> {
    let Call { seed, cancel, progress } = call;
    let exec = Exec { seed, cancel, progress: RefCell::new(progress), ..Exec::default() };
    Ok(body(&exec)?)
}

/// A host's model, fed in float64 whatever the caller's type is.
struct Fed(Box<dyn Model>);

fn status(native: i32) -> Result<(), i32> {
    if native == 0 { Ok(()) } else { Err(native) }
}

fn wide(v: View<'_>) -> Vec<f64> {
    let mut out = vec![0.0; v.rows() * v.cols()];
    out.chunks_exact_mut(v.cols()).enumerate().for_each(|(i, row)| v.row_f64(i, row));
    out
}

fn narrow(from: &[f64], mut to: ViewMut<'_>) {
    let cols = to.view().cols();
    from.chunks_exact(cols).enumerate().for_each(|(i, row)| to.set_row(i, row));
}

impl Predictor for Fed {
    fn eval(&self, x: View<'_>, t: View<'_>, out: ViewMut<'_>, _: usize) -> Result<(), i32> {
        let mut answer = vec![0.0; x.rows() * x.cols()];
        status(self.0.eval(&wide(x), &t.to_f64_vec().expect("memory"), &mut answer))?;
        narrow(&answer, out);
        Ok(())
    }

    fn jvp(&self, x: View<'_>, t: View<'_>, v: View<'_>, out: ViewMut<'_>, _: usize) -> Option<Result<(), i32>> {
        if !self.0.has_jvp() {
            return None;
        }
        let mut answer = vec![0.0; x.rows() * x.cols()];
        let done = status(self.0.jvp(&wide(x), &t.to_f64_vec().expect("memory"), &wide(v), &mut answer));
        narrow(&answer, out);
        Some(done)
    }
}

impl Api for Machine {
    type Dataset = Arc<Dataset>;
    type Process = Process;
    type Score = Box<dyn ScoreModel>;
    type Cancel = Cancel;

    fn new(threads: usize) -> Self {
        Self(Arc::new(Cpu::new(threads, None).unwrap()))
    }

    fn limited(threads: usize, memory_limit: u64) -> Self {
        Self(Arc::new(Cpu::new(threads, Some(memory_limit)).unwrap()))
    }

    fn every(threads: usize) -> Vec<Self> {
        let make = |set| Self(Arc::new(Cpu::with_instruction_set(threads, None, set).unwrap()));
        InstructionSet::available().into_iter().map(make).collect()
    }

    fn describe(&self) -> String {
        self.0.describe()
    }

    fn dataset(&self, rows: &Matrix, labels: Option<&Matrix>, decoding: Decoding) -> Outcome<Self::Dataset> {
        Ok(Arc::new(Dataset::copy(self.0.clone(), view(rows), labels.map(view), decoding)?))
    }

    fn open(&self, path: &Path, labels: Option<&Path>, decoding: Decoding) -> Outcome<Self::Dataset> {
        Ok(Arc::new(Dataset::open(self.0.clone(), path, labels, decoding)?))
    }

    fn process(kind: &Kind) -> Outcome<Process> {
        Ok(match kind {
            Kind::VpLinear(a, b, t) => Process::vp_linear(*a, *b, *t),
            Kind::SubVp(a, b) => Process::sub_vp(*a, *b),
            Kind::VePower(k, a, t) => Process::ve_power(*k, *a, *t),
            Kind::VeExponential(r, t) => Process::ve_exponential(*r, *t),
            Kind::VeGeometric(a, b) => Process::ve_geometric(*a, *b),
            Kind::Discrete(alpha_bar) => Process::discrete(alpha_bar),
            Kind::Flow => Process::flow(),
        }?)
    }

    fn at(process: &Process, t: &[f64]) -> Outcome<Vec<Marginal>> {
        t.iter().map(|&t| Ok(process.eval(t)?)).collect()
    }

    fn time_of_sigma(process: &Process, sigma: f64) -> Outcome<f64> {
        Ok(process.time_of_sigma(sigma)?)
    }

    fn empirical(&self, dataset: &Arc<Dataset>, process: &Process, o: Empirical) -> Outcome<Self::Score> {
        Ok(Box::new(score::Empirical::new(dataset.clone(), process.clone(), o.regularizer, o.tolerance, o.label)?))
    }

    fn custom(
        &self,
        process: &Process,
        dim: usize,
        prediction: Prediction,
        model: Box<dyn Model>,
    ) -> Outcome<Self::Score> {
        Ok(Box::new(Custom::new(self.0.clone(), process.clone(), dim, prediction, Box::new(Fed(model)))))
    }

    fn eval(score: &Self::Score, x: &Matrix, t: &[f64], want: Want, call: Call<'_, Cancel>) -> Outcome<Outputs> {
        let engine = score.engine();
        let e =
            with_exec(call, |exec| score.eval(&engine.load("x", view(x))?, &times(t, x.rows), want, grade(x), exec))?;
        let host = |m: Option<mnemo::tensor::Matrix>| {
            m.map_or_else(Vec::new, |m| {
                let mut out = x.clone();
                engine.store(&m, &mut view_mut(&mut out)).expect("a view of the host");
                out.values()
            })
        };
        Ok(Outputs {
            score: host(e.score),
            denoised: host(e.denoised),
            log_density: e.log_density.unwrap_or_default(),
            divergence: e.divergence.unwrap_or_default(),
            entropy: e.entropy.unwrap_or_default(),
            nearest_index: e.nearest_index.unwrap_or_default(),
            nearest_distance: e.nearest_distance.unwrap_or_default(),
            denoised_error_bound: e.denoised_error_bound.unwrap_or_default(),
            log_density_error_bound: e.log_density_error_bound.unwrap_or_default(),
        })
    }

    fn jvp(score: &Self::Score, x: &Matrix, t: &[f64], v: &Matrix) -> Outcome<Matrix> {
        let engine = score.engine();
        let (working_x, working_v) = (engine.load("x", view(x))?, engine.load("v", view(v))?);
        let product = score.jvp(&working_x, &times(t, x.rows), &working_v, grade(x), &Exec::default())?;
        let mut out = x.clone();
        engine.store(&product, &mut view_mut(&mut out)).expect("a view of the host");
        Ok(out)
    }

    fn sample(
        score: &Self::Score,
        options: &Options,
        x: &mut Matrix,
        observer: Option<&mut Observer<'_>>,
        call: Call<'_, Cancel>,
    ) -> Outcome<()> {
        let engine = score.engine();
        let end = with_exec(call, |exec| {
            let start =
                if options.from_prior { engine.zeros(x.rows, x.cols)? } else { engine.load("x_inout", view(x))? };
            match observer {
                None => sample(&**score, options, start, grade(x), None, exec),
                Some(f) => {
                    let mut observe = |step: u64, t: f64, state: &mnemo::tensor::Matrix| match f(step, t, state.host())
                    {
                        0 => Ok(()),
                        native => Err(Error::Callback { message: "the observer asked to stop".into(), native }),
                    };
                    sample(&**score, options, start, grade(x), Some(&mut observe), exec)
                }
            }
        })?;
        engine.store(&end, &mut view_mut(x)).expect("a view of the host");
        Ok(())
    }

    fn nearest_by(
        dataset: &Arc<Dataset>,
        queries: &Matrix,
        metric: Metric,
        k: usize,
        call: Call<'_, Cancel>,
    ) -> Outcome<(Vec<f64>, Vec<i64>)> {
        let found = with_exec(call, |exec| {
            nearest(dataset, &dataset.engine().load("queries", view(queries))?, metric, k, exec)
        })?;
        Ok((found.distance, found.index))
    }

    fn memorization(dataset: &Arc<Dataset>, generated: &Matrix, threshold: f64) -> Outcome<Report> {
        let working = dataset.engine().load("generated", view(generated))?;
        Ok(memorization(dataset, &working, threshold, &Exec::default())?)
    }

    fn cancel() -> Cancel {
        Cancel::default()
    }

    fn request(cancel: &Cancel) {
        cancel.request();
    }
}
