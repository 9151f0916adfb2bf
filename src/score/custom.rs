//! The host's own model behind a callback: any of the five things a diffusion network predicts, converted (FORMULAS 1).

use super::{Evaluation, ScoreModel, Want, marginals};
use crate::engine::{Factor, Grade, SharedEngine};
use crate::error::{Error, Result, per_row, try_vec};
use crate::exec::Exec;
use crate::process::{Marginal, Process};
use crate::tensor::{Dtype, Element, Matrix, View, ViewMut};

/// What a model predicts from (x, t).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prediction {
    /// s = ∇ log p_t(x).
    Score,
    /// ε̂ = -σ s.
    Epsilon,
    /// x̂0 = (x + σ² s) / m.
    Clean,
    /// v̂ = m ε̂ - σ x̂0.
    Velocity,
    /// û = ε̂ - x̂0.
    Flow,
}

/// The host's model. Matrices are contiguous, F32 for callers who work in F32 and F64 for the others; times are F64, one
/// per sample. All are in the memory of the engine's device, where it has one. A failure is the callback's own non-zero number.
pub trait Predictor: Send + Sync {
    /// Writes the prediction at `x` and `t` to `out`, both `[batch, dim]`; `stream` is that of the call.
    fn eval(&self, x: View<'_>, t: View<'_>, out: ViewMut<'_>, stream: usize) -> std::result::Result<(), i32>;

    /// Writes the derivative of the prediction along `v` to `out`; `None` if the model has no derivative.
    fn jvp(
        &self,
        x: View<'_>,
        t: View<'_>,
        v: View<'_>,
        out: ViewMut<'_>,
        stream: usize,
    ) -> Option<std::result::Result<(), i32>>;
}

/// A score computed by the host.
pub struct Custom {
    engine: SharedEngine,
    process: Process,
    dim: usize,
    prediction: Prediction,
    predictor: Box<dyn Predictor>,
}

/// score = x · on_x + prediction · on_prediction, per sample.
struct Linear {
    on_x: Vec<f64>,
    on_prediction: Vec<f64>,
}

impl Linear {
    fn new(marginals: &[Marginal], of: impl Fn(&Marginal) -> (f64, f64)) -> Result<Self> {
        let on_x = per_row(marginals.len(), |i| of(&marginals[i]).0)?;
        Ok(Self { on_x, on_prediction: per_row(marginals.len(), |i| of(&marginals[i]).1)? })
    }
}

impl Custom {
    /// A score of dimension `dim` under `process`.
    pub fn new(
        engine: SharedEngine,
        process: Process,
        dim: usize,
        prediction: Prediction,
        predictor: Box<dyn Predictor>,
    ) -> Self {
        Self { engine, process, dim, prediction, predictor }
    }

    fn to_score(&self, marginals: &[Marginal]) -> Result<Linear> {
        let of = |p: &Marginal| {
            let (m, s) = (p.m, p.sigma);
            match self.prediction {
                Prediction::Score => (0.0, 1.0),
                Prediction::Epsilon => (0.0, -1.0 / s),
                Prediction::Clean => (-1.0 / s / s, m / s / s),
                Prediction::Velocity => (-1.0 / (m * m + s * s), -m / s / (m * m + s * s)),
                Prediction::Flow => (-1.0 / (m + s) / s, -m / (m + s) / s),
            }
        };
        Linear::new(marginals, of)
    }

    fn to_denoised(&self, marginals: &[Marginal], t: &[f64]) -> Result<Linear> {
        if matches!(self.prediction, Prediction::Score | Prediction::Epsilon)
            && let Some(i) = marginals.iter().position(|p| p.m == 0.0)
        {
            return Err(Error::invalid(format!(
                "t, row {i}: t = {:?} has m = 0, where a {:?} prediction says nothing about the denoised value",
                t[i], self.prediction
            )));
        }
        let of = |p: &Marginal| {
            let (m, s) = (p.m, p.sigma);
            match self.prediction {
                Prediction::Score => (1.0 / m, s * s / m),
                Prediction::Epsilon => (1.0 / m, -s / m),
                Prediction::Clean => (0.0, 1.0),
                Prediction::Velocity => (m / (m * m + s * s), -s / (m * m + s * s)),
                Prediction::Flow => (1.0 / (m + s), -s / (m + s)),
            }
        };
        Linear::new(marginals, of)
    }

    /// Hands the matrices to the host in the caller's element type and takes its answer back.
    fn call<T: Element + Default>(
        &self,
        name: &str,
        inputs: &[&Matrix],
        t: &[f64],
        call: impl FnOnce(&[View<'_>], View<'_>, ViewMut<'_>) -> Option<std::result::Result<(), i32>>,
    ) -> Result<Matrix> {
        let (batch, d) = (inputs[0].rows(), self.dim);
        if self.engine.device().is_some() {
            return self.call_on_device(name, inputs, t, T::DTYPE, call);
        }
        let host = |m: &&Matrix| {
            let mut copy = try_vec(batch * d, T::default(), "callback input")?;
            self.engine.store(m, &mut ViewMut::new(&mut copy, batch, d))?;
            Ok(copy)
        };
        let copies = inputs.iter().map(host).collect::<Result<Vec<Vec<T>>>>()?;
        let views: Vec<View<'_>> = copies.iter().map(|c| View::new(c, batch, d)).collect();
        let mut out = try_vec(batch * d, T::default(), "callback output")?;
        succeeded(name, call(&views, View::new(t, batch, 1), ViewMut::new(&mut out, batch, d)))?;
        self.engine.load("out", View::new(&out, batch, d)).map_err(|e| written(name, e))
    }

    /// The same with matrices and times in the engine's own memory; the host's work is queued on the stream of the call.
    fn call_on_device(
        &self,
        name: &str,
        inputs: &[&Matrix],
        t: &[f64],
        dtype: Dtype,
        call: impl FnOnce(&[View<'_>], View<'_>, ViewMut<'_>) -> Option<std::result::Result<(), i32>>,
    ) -> Result<Matrix> {
        let (engine, batch) = (&self.engine, inputs[0].rows());
        let mut copies = Vec::with_capacity(inputs.len());
        for m in inputs {
            let mut copy = engine.zeros(batch, self.dim)?;
            engine.store(m, &mut engine.lend(&mut copy, dtype))?;
            copies.push(copy);
        }
        let (mut times, mut out) = (engine.column(t)?, engine.zeros(batch, self.dim)?);
        let lent: Vec<ViewMut<'_>> = copies.iter_mut().map(|m| engine.lend(m, dtype)).collect();
        let views: Vec<View<'_>> = lent.iter().map(ViewMut::view).collect();
        let times = engine.lend(&mut times, Dtype::F64);
        succeeded(name, call(&views, times.view(), engine.lend(&mut out, dtype)))?;
        engine.load("out", engine.lend(&mut out, dtype).view()).map_err(|e| written(name, e))
    }
}

/// What a callback's answer means.
fn succeeded(name: &str, answer: Option<std::result::Result<(), i32>>) -> Result<()> {
    match answer {
        None => Err(Error::unsupported("this custom score has no jvp callback")),
        Some(Err(native)) => {
            Err(Error::Callback { message: format!("the {name} callback returned {native}; 0 means success"), native })
        }
        Some(Ok(())) => Ok(()),
    }
}

/// The complaint about what a callback wrote.
fn written(name: &str, e: Error) -> Error {
    match e {
        Error::Invalid(e) => Error::Callback { message: format!("the {name} callback wrote to {e}"), native: 0 },
        other => other,
    }
}

impl ScoreModel for Custom {
    fn engine(&self) -> &SharedEngine {
        &self.engine
    }

    fn process(&self) -> &Process {
        &self.process
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn eval(&self, x: &Matrix, t: &[f64], want: Want, grade: Grade, exec: &Exec<'_>) -> Result<Evaluation> {
        let absent = [
            (want.log_density, "log_density"),
            (want.divergence, "divergence"),
            (want.entropy, "entropy"),
            (want.nearest_index, "nearest_index"),
            (want.nearest_distance, "nearest_distance"),
            (want.denoised_error_bound, "denoised_error_bound"),
            (want.log_density_error_bound, "log_density_error_bound"),
        ];
        if let Some((_, name)) = absent.iter().find(|(wanted, _)| *wanted) {
            return Err(Error::unsupported(format!("{name}: a custom score has score and denoised only")));
        }
        exec.check()?;
        let marginals = marginals(&self.process, t)?;
        // What can be refused is refused before the host is asked to work.
        let denoised = want.denoised.then(|| self.to_denoised(&marginals, t)).transpose()?;
        let score = want.score.then(|| self.to_score(&marginals)).transpose()?;
        if x.rows() == 0 {
            let empty = |wanted: bool| wanted.then(|| self.engine.zeros(0, self.dim)).transpose();
            return Ok(Evaluation { score: empty(want.score)?, denoised: empty(want.denoised)?, ..Default::default() });
        }
        let ask = |v: &[View<'_>], t: View<'_>, out: ViewMut<'_>| Some(self.predictor.eval(v[0], t, out, exec.stream));
        let prediction = match grade {
            Grade::Single => self.call::<f32>("eval", &[x], t, ask)?,
            Grade::Double => self.call::<f64>("eval", &[x], t, ask)?,
        };
        let convert = |linear: &Linear| {
            let mut out = self.engine.zeros(x.rows(), self.dim)?;
            let terms = [(Factor::Rows(&linear.on_x), x), (Factor::Rows(&linear.on_prediction), &prediction)];
            self.engine.combine(&mut out, None, &terms, None)?;
            Ok(out)
        };
        Ok(Evaluation {
            score: score.as_ref().map(convert).transpose()?,
            denoised: denoised.as_ref().map(convert).transpose()?,
            ..Evaluation::default()
        })
    }

    fn jvp(&self, x: &Matrix, t: &[f64], v: &Matrix, grade: Grade, exec: &Exec<'_>) -> Result<Matrix> {
        exec.check()?;
        let linear = self.to_score(&marginals(&self.process, t)?)?;
        if x.rows() == 0 {
            return self.engine.zeros(0, self.dim);
        }
        let ask = |views: &[View<'_>], t: View<'_>, out: ViewMut<'_>| {
            self.predictor.jvp(views[0], t, views[1], out, exec.stream)
        };
        let mut out = match grade {
            Grade::Single => self.call::<f32>("jvp", &[x, v], t, ask)?,
            Grade::Double => self.call::<f64>("jvp", &[x, v], t, ask)?,
        };
        let along = [(Factor::Rows(&linear.on_x), v)];
        self.engine.combine(&mut out, Some(Factor::Rows(&linear.on_prediction)), &along, None)?;
        Ok(out)
    }
}
