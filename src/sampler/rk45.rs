//! Dormand–Prince 5(4) with a step size and an error test for every sample: a hard sample does not slow its neighbours
//! down, and no sample's result depends on the batch it is in.

use super::{Model, Observer, Options};
use crate::engine::Factor::{All, Rows};
use crate::error::{Error, Result, per_row, try_vec};
use crate::score::Terms;
use crate::tensor::Matrix;
use std::mem::swap;

/// Dormand and Prince (1980): nodes, stage weights, and the difference of the fifth- and fourth-order weights.
const C: [f64; 6] = [0.0, 1.0 / 5.0, 3.0 / 10.0, 4.0 / 5.0, 8.0 / 9.0, 1.0];
const A: [&[f64]; 6] = [
    &[],
    &[1.0 / 5.0],
    &[3.0 / 40.0, 9.0 / 40.0],
    &[44.0 / 45.0, -56.0 / 15.0, 32.0 / 9.0],
    &[19372.0 / 6561.0, -25360.0 / 2187.0, 64448.0 / 6561.0, -212.0 / 729.0],
    &[9017.0 / 3168.0, -355.0 / 33.0, 46732.0 / 5247.0, 49.0 / 176.0, -5103.0 / 18656.0],
];
const B: [f64; 6] = [35.0 / 384.0, 0.0, 500.0 / 1113.0, 125.0 / 192.0, -2187.0 / 6784.0, 11.0 / 84.0];
const E: [f64; 7] =
    [71.0 / 57600.0, 0.0, -71.0 / 16695.0, 71.0 / 1920.0, -17253.0 / 339200.0, 22.0 / 525.0, -1.0 / 40.0];

/// The step-size controller of Hairer, Nørsett and Wanner (1993), II.4: the order of the error, a safety factor, and how
/// much one step may differ from the last.
const ORDER: f64 = 5.0;
const SAFETY: f64 = 0.9;
const LEAST_FACTOR: f64 = 0.2;
const MOST_FACTOR: f64 = 10.0;
/// Progress is told in thousandths of the interval between two of the caller's nodes.
const SEGMENT: u64 = 1000;
/// Attempts after which a run is given up as hopeless.
const MOST_ROUNDS: u64 = 1_000_000;

/// Integrates `x` from `nodes[0]` to `nodes[1]`; a third node of NaN asks for a denoising step at the end.
pub fn run(
    model: &Model<'_, '_>,
    options: &Options,
    nodes: &[f64],
    mut x: Matrix,
    mut observer: Option<&mut Observer<'_>>,
) -> Result<Matrix> {
    let engine = model.engine();
    let batch = x.rows();
    let mut done_at = nodes.len() - 1;
    let denoise = nodes[done_at].is_nan();
    done_at -= usize::from(denoise);
    let mut round = 0;
    for (done, segment) in (0..).zip(nodes[..=done_at].windows(2)) {
        model.exec.report(done * SEGMENT, done_at as u64 * SEGMENT)?;
        let (start, end) = (segment[0], segment[1]);
        let mut front = Front::new(model, options, &x, start, end)?;
        while !front.samples.is_empty() {
            let part = ((start - front.furthest(end)) / (start - end) * SEGMENT as f64) as u64;
            model.exec.report(done * SEGMENT + part, done_at as u64 * SEGMENT)?;
            front.attempt(model)?;
            front.judge(model, options, end)?;
            front.retire(model, end, &mut x, observer.is_some())?;
            round += 1;
            if round == MOST_ROUNDS {
                return Err(Error::invalid(format!("rtol {:e}: no end after {round} steps", options.rtol)));
            }
            if let Some(observe) = observer.as_mut() {
                observe(round, front.furthest(end), &x)?;
            }
        }
    }
    if denoise {
        let mut denoised = engine.zeros(batch, x.cols())?;
        model.denoised(&mut denoised, &x, nodes[done_at])?;
        x = denoised;
        if let Some(observe) = observer.as_mut() {
            observe(round + 1, 0.0, &x)?;
        }
    }
    model.exec.report(done_at as u64 * SEGMENT, done_at as u64 * SEGMENT)?;
    Ok(x)
}

/// The samples that are on their way, side by side, and all memory that their steps need: it is never more than at first.
struct Front {
    /// Which sample of the batch each row is.
    samples: Vec<usize>,
    t: Vec<f64>,
    /// The next step, negative.
    h: Vec<f64>,
    x: Matrix,
    /// dx/dt at `x`: a step's first stage.
    slope: Matrix,
    /// h dx/dt of each stage.
    stages: [Matrix; 6],
    /// A stage's x, and after them the step's end,
    to: Matrix,
    /// dx/dt there,
    slope_there: Matrix,
    /// and how far off it is.
    error: Matrix,
    norms: Vec<f64>,
    /// Some of the rows.
    rows: Vec<usize>,
    columns: Columns,
}

/// A number per row, of the stage at hand.
struct Columns {
    t: Vec<f64>,
    on_denoised: Vec<f64>,
    on_score: Vec<f64>,
}

impl Columns {
    fn new(len: usize) -> Result<Self> {
        let column = || try_vec(len, 0.0, "one value per sample");
        Ok(Self { t: column()?, on_denoised: column()?, on_score: column()? })
    }

    /// slope ← dx/dt at `x` and the times of `self`, times the factor of each row if there is one.
    fn slope_at(
        &mut self,
        model: &Model<'_, '_>,
        slope: &mut Matrix,
        x: &Matrix,
        factor: Option<&[f64]>,
    ) -> Result<()> {
        let mut last = (f64::NAN, (0.0, 0.0));
        for (i, &t) in self.t.iter().enumerate() {
            // Neighbours mostly have the same time at first.
            if t != last.0 {
                last = (t, model.flow(t)?);
            }
            let factor = factor.map_or(1.0, |f| f[i]);
            (self.on_denoised[i], self.on_score[i]) = (factor * last.1.0, factor * last.1.1);
        }
        let terms = Terms { x: All(0.0), denoised: Rows(&self.on_denoised), score: Rows(&self.on_score), noise: None };
        model.combine(slope, x, Rows(&self.t), terms)
    }
}

impl Front {
    fn new(model: &Model<'_, '_>, options: &Options, x: &Matrix, start: f64, end: f64) -> Result<Self> {
        let (engine, len) = (model.engine(), x.rows());
        let zeros = || engine.zeros(len, x.cols());
        let mut columns = Columns::new(len)?;
        columns.t.fill(start);
        let mut slope = zeros()?;
        columns.slope_at(model, &mut slope, x, None)?;
        let samples = per_row(len, |i| i)?;
        Ok(Self {
            h: first_steps(model, options, x, &slope, start, end)?,
            x: engine.gather(x, &samples)?,
            samples,
            t: try_vec(len, start, "one time per sample")?,
            slope,
            stages: [zeros()?, zeros()?, zeros()?, zeros()?, zeros()?, zeros()?],
            to: zeros()?,
            slope_there: zeros()?,
            error: zeros()?,
            norms: try_vec(len, 0.0, "one value per sample")?,
            rows: try_vec(len, 0, "one value per sample")?,
            columns,
        })
    }

    /// The time of the sample that has come least far.
    fn furthest(&self, end: f64) -> f64 {
        self.t.iter().copied().fold(end, f64::max)
    }

    /// One step of every sample, not yet accepted.
    fn attempt(&mut self, model: &Model<'_, '_>) -> Result<()> {
        let Self { t, h, x, slope, stages, to, slope_there, error, columns, .. } = self;
        let engine = model.engine();
        engine.combine(&mut stages[0], None, &[(Rows(h), slope)], None)?;
        for s in 1..=6 {
            let (before, after) = stages.split_at_mut(s);
            let weights = if s < 6 { A[s] } else { &B };
            let mut terms = [(All(1.0), &*x); 7];
            for (term, stage) in terms[1..].iter_mut().zip(weights.iter().zip(&*before)) {
                *term = (All(*stage.0), stage.1);
            }
            engine.combine(to, None, &terms[..=s], None)?;
            let c = if s < 6 { C[s] } else { 1.0 };
            for (at, (t, h)) in columns.t.iter_mut().zip(t.iter().zip(&*h)) {
                *at = t + c * h;
            }
            match after.first_mut() {
                Some(stage) => columns.slope_at(model, stage, to, Some(h)),
                None => columns.slope_at(model, slope_there, to, None),
            }?;
        }
        // The seventh stage is the next step's first, and is not yet times h.
        let last = &mut columns.on_score;
        last.iter_mut().zip(&*h).for_each(|(last, h)| *last = E[6] * h);
        let mut terms = [(Rows(last), &*slope_there); 7];
        for (term, stage) in terms.iter_mut().zip(E.iter().zip(&*stages)) {
            *term = (All(*stage.0), stage.1);
        }
        engine.combine(error, None, &terms, None)?;
        Ok(())
    }

    /// Accepts the steps that are near enough, and chooses the next.
    fn judge(&mut self, model: &Model<'_, '_>, options: &Options, end: f64) -> Result<()> {
        let Self { samples, t, h, x, slope, to, slope_there, error, norms, rows, columns, .. } = self;
        let engine = model.engine();
        engine.error_norms(norms, error, x, to, options.rtol, options.atol)?;
        rows.clear();
        for row in 0..samples.len() {
            let norm = norms[row];
            let factor = if norm.is_finite() { SAFETY * norm.powf(-1.0 / ORDER) } else { LEAST_FACTOR };
            let (t, h) = (&mut t[row], &mut h[row]);
            if norm <= 1.0 {
                rows.push(row);
                *t = columns.t[row];
                *h *= factor.clamp(LEAST_FACTOR, MOST_FACTOR);
            } else {
                *h *= factor.clamp(LEAST_FACTOR, 1.0);
            }
            // Exactly to the end, and not to a sliver before it.
            if *t + *h < end || (*t + *h - end) < -0.01 * *h {
                *h = end - *t;
            }
            if *t > end && *t + *h == *t {
                return Err(Error::invalid(format!(
                    "rtol {:e}, atol {:e}: sample {} needs a step below the resolution of t at {:?}; loosen them or end earlier",
                    options.rtol,
                    options.atol,
                    model.first_row + samples[row],
                    *t
                )));
            }
        }
        if rows.len() == samples.len() {
            swap(x, to);
            swap(slope, slope_there);
        } else {
            engine.copy_rows(to, rows, x)?;
            engine.copy_rows(slope_there, rows, slope)?;
        }
        Ok(())
    }

    /// Hands the samples that are at the end to `all`, and every sample if somebody looks.
    fn retire(&mut self, model: &Model<'_, '_>, end: f64, all: &mut Matrix, seen: bool) -> Result<()> {
        let Self { samples, t, h, x, slope, stages, to, slope_there, error, norms, rows, columns } = self;
        let (engine, before) = (model.engine(), samples.len());
        rows.clear();
        rows.extend((0..before).filter(|&row| t[row] > end));
        let left = rows.len();
        if seen || left < before {
            engine.scatter(x, samples, all)?;
        }
        if left == before {
            return Ok(());
        }
        engine.keep_rows(x, rows)?;
        engine.keep_rows(slope, rows)?;
        for (to, &row) in rows.iter().enumerate() {
            (samples[to], t[to], h[to]) = (samples[row], t[row], h[row]);
        }
        samples.truncate(left);
        let Columns { t: at, on_denoised, on_score } = columns;
        for column in [t, h, norms, at, on_denoised, on_score] {
            column.truncate(left);
        }
        stages.iter_mut().chain([to, slope_there, error]).for_each(|matrix| matrix.truncate(left));
        Ok(())
    }
}

/// A first step for every sample (Hairer, Nørsett and Wanner 1993, II.4), negative.
fn first_steps(
    model: &Model<'_, '_>,
    options: &Options,
    x: &Matrix,
    slope: &Matrix,
    start: f64,
    end: f64,
) -> Result<Vec<f64>> {
    let engine = model.engine();
    let norm = |v: &Matrix| {
        let mut norms = try_vec(x.rows(), 0.0, "one value per sample")?;
        engine.error_norms(&mut norms, v, x, x, options.rtol, options.atol)?;
        Ok::<_, Error>(norms)
    };
    let (size, speed) = (norm(x)?, norm(slope)?);
    let span = start - end;
    let guess = per_row(x.rows(), |i| {
        let (d0, d1) = (size[i], speed[i]);
        if d0 < 1e-5 || d1 < 1e-5 { 1e-6 * span } else { 0.01 * d0 / d1 }.min(span)
    })?;
    let back = per_row(guess.len(), |i| -guess[i])?;
    let mut ahead = engine.zeros(x.rows(), x.cols())?;
    engine.combine(&mut ahead, None, &[(All(1.0), x), (Rows(&back), slope)], None)?;
    let mut columns = Columns::new(guess.len())?;
    columns.t.iter_mut().zip(&guess).for_each(|(t, guess)| *t = start - guess);
    let mut change = engine.zeros(x.rows(), x.cols())?;
    columns.slope_at(model, &mut change, &ahead, None)?;
    engine.combine(&mut change, Some(All(1.0)), &[(All(-1.0), slope)], None)?;
    let change = norm(&change)?;
    per_row(x.rows(), |i| {
        let h = guess[i];
        let most = speed[i].max(change[i] / h);
        let step = if most <= 1e-15 { (1e-6 * span).max(h * 1e-3) } else { (0.01 / most).powf(1.0 / ORDER) };
        -(100.0 * h).min(step).min(span)
    })
}
