//! Dormand–Prince 5(4) with a step size and an error test for every sample: a hard sample does not slow its neighbours
//! down, and no sample's result depends on the batch it is in.

use super::{Model, Observer, Options};
use crate::engine::Factor::{All, Rows};
use crate::error::{Error, Result, per_row, try_vec};
use crate::score::Terms;
use crate::tensor::Matrix;

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
        let mut t = try_vec(batch, start, "one time per sample")?;
        let mut slope = slope_at(model, &x, &t)?;
        let mut h = first_steps(model, options, &x, &slope, start, end)?;
        let mut active = per_row(batch, |i| i)?;
        while !active.is_empty() {
            let furthest = active.iter().map(|&i| t[i]).fold(end, f64::max);
            let part = ((start - furthest) / (start - end) * SEGMENT as f64) as u64;
            model.exec.report(done * SEGMENT + part, done_at as u64 * SEGMENT)?;
            let attempt = Attempt::new(model, &x, &slope, &t, &h, &active)?;
            let norms = engine.error_norms(&attempt.error, &attempt.from, &attempt.to, options.rtol, options.atol)?;
            let mut accepted = try_vec(active.len(), 0, "accepted rows")?;
            accepted.clear();
            for (row, (&i, norm)) in active.iter().zip(norms).enumerate() {
                let factor = if norm.is_finite() { SAFETY * norm.powf(-1.0 / ORDER) } else { LEAST_FACTOR };
                if norm <= 1.0 {
                    accepted.push(row);
                    t[i] = attempt.t[row];
                    h[i] *= factor.clamp(LEAST_FACTOR, MOST_FACTOR);
                } else {
                    h[i] *= factor.clamp(LEAST_FACTOR, 1.0);
                }
                // Exactly to the end, and not to a sliver before it.
                if t[i] + h[i] < end || (t[i] + h[i] - end) < -0.01 * h[i] {
                    h[i] = end - t[i];
                }
                if t[i] > end && t[i] + h[i] == t[i] {
                    return Err(Error::invalid(format!(
                        "rtol {:e}, atol {:e}: sample {} needs a step below the resolution of t at {:?}; loosen them or end earlier",
                        options.rtol,
                        options.atol,
                        model.first_row + i,
                        t[i]
                    )));
                }
            }
            let rows = per_row(accepted.len(), |k| active[accepted[k]])?;
            engine.scatter(&engine.gather(&attempt.to, &accepted)?, &rows, &mut x);
            engine.scatter(&engine.gather(&attempt.slope, &accepted)?, &rows, &mut slope);
            active.retain(|&i| t[i] > end);
            round += 1;
            if round == MOST_ROUNDS {
                return Err(Error::invalid(format!("rtol {:e}: no end after {round} steps", options.rtol)));
            }
            if let Some(observe) = observer.as_mut() {
                observe(round, active.iter().map(|&i| t[i]).fold(end, f64::max), &x)?;
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

/// dx/dt at a time for each sample.
fn slope_at(model: &Model<'_, '_>, x: &Matrix, t: &[f64]) -> Result<Matrix> {
    let mut on_denoised = try_vec(t.len(), 0.0, "one value per sample")?;
    let mut on_score = try_vec(t.len(), 0.0, "one value per sample")?;
    let mut last = (f64::NAN, (0.0, 0.0));
    for (i, &t) in t.iter().enumerate() {
        // Neighbours mostly have the same time at first.
        if t != last.0 {
            last = (t, model.flow(t)?);
        }
        (on_denoised[i], on_score[i]) = last.1;
    }
    let mut slope = model.engine().zeros(x.rows(), x.cols())?;
    let terms = Terms { x: All(0.0), denoised: Rows(&on_denoised), score: Rows(&on_score) };
    model.combine(&mut slope, x, Rows(t), terms)?;
    Ok(slope)
}

/// One step of every active sample, not yet accepted.
struct Attempt {
    from: Matrix,
    to: Matrix,
    /// dx/dt at `to`: the next step's first stage.
    slope: Matrix,
    error: Matrix,
    /// The times after the step.
    t: Vec<f64>,
}

impl Attempt {
    fn new(model: &Model<'_, '_>, x: &Matrix, slope: &Matrix, t: &[f64], h: &[f64], active: &[usize]) -> Result<Self> {
        let engine = model.engine();
        let from = engine.gather(x, active)?;
        let h = per_row(active.len(), |row| h[active[row]])?;
        let at = |c: f64| per_row(active.len(), |row| t[active[row]] + c * h[row]);
        let mut stages = vec![engine.gather(slope, active)?];
        // x + h Σ weight · stage
        let advance = |weights: &[f64], stages: &[Matrix], start: Option<&Matrix>| -> Result<Matrix> {
            let mut out = engine.zeros(from.rows(), from.cols())?;
            let factors =
                weights.iter().map(|w| per_row(h.len(), |row| w * h[row])).collect::<Result<Vec<Vec<f64>>>>()?;
            let mut terms: Vec<_> = start.iter().map(|m| (All(1.0), *m)).collect();
            terms.extend(factors.iter().zip(stages).map(|(f, s)| (Rows(f), s)));
            engine.combine(&mut out, None, &terms);
            Ok(out)
        };
        for s in 1..6 {
            let x = advance(A[s], &stages, Some(&from))?;
            stages.push(slope_at(model, &x, &at(C[s])?)?);
        }
        let to = advance(&B, &stages, Some(&from))?;
        let t = at(1.0)?;
        stages.push(slope_at(model, &to, &t)?);
        let error = advance(&E, &stages, None)?;
        let slope = stages.pop().expect("seven stages");
        Ok(Self { from, to, slope, error, t })
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
    let norm = |v: &Matrix| engine.error_norms(v, x, x, options.rtol, options.atol);
    let (size, speed) = (norm(x)?, norm(slope)?);
    let span = start - end;
    let guess = per_row(x.rows(), |i| {
        let (d0, d1) = (size[i], speed[i]);
        if d0 < 1e-5 || d1 < 1e-5 { 1e-6 * span } else { 0.01 * d0 / d1 }.min(span)
    })?;
    let back = per_row(guess.len(), |i| -guess[i])?;
    let mut ahead = engine.zeros(x.rows(), x.cols())?;
    engine.combine(&mut ahead, None, &[(All(1.0), x), (Rows(&back), slope)]);
    let times = per_row(guess.len(), |i| start - guess[i])?;
    let mut change = slope_at(model, &ahead, &times)?;
    engine.combine(&mut change, Some(All(1.0)), &[(All(-1.0), slope)]);
    let change = norm(&change)?;
    per_row(x.rows(), |i| {
        let h = guess[i];
        let most = speed[i].max(change[i] / h);
        let step = if most <= 1e-15 { (1e-6 * span).max(h * 1e-3) } else { (0.01 / most).powf(1.0 / ORDER) };
        -(100.0 * h).min(step).min(span)
    })
}
