//! Time grids: the nodes of a fixed-step solver, falling from `t_start` to `t_end`.

use super::{Options, Solver};
use crate::error::{Error, Result, try_collect, try_vec};
use crate::exec::Exec;
use crate::process::Process;

/// Where the nodes lie.
#[derive(Clone, Debug, PartialEq)]
pub enum Grid {
    /// Equal steps in t.
    UniformT,
    /// Equal steps in ln σ (s = -ln σ of reg 4.24).
    UniformS,
    /// (σ/m)^{1/ρ} in equal steps (Karras et al. 2022, Eq. 5).
    Karras,
    /// The caller's nodes, strictly falling. A last node at which σ = 0 asks for a final denoising step.
    Custom(Vec<f64>),
}

/// σ at the default last time (EDM's σ_min).
const DEFAULT_SIGMA_END: f64 = 0.002;

/// The nodes at which the score is evaluated or the state ends, and, where the run ends with x ← x̂0, a last node of NaN.
///
/// `steps` is the number of intervals, the denoising one included: EDM's 18 steps have nodes σ_0 … σ_17, then 0.
pub fn nodes(process: &Process, options: &Options, exec: &Exec<'_>) -> Result<Vec<f64>> {
    if let Grid::Custom(times) = &options.grid {
        return custom(process, times, options.denoise_last);
    }
    let (start, end) = interval(process, options)?;
    let mut nodes = if options.solver == Solver::Rk45 {
        vec![start, end]
    } else {
        const MOST_STEPS: usize = 100_000_000;
        let least = 1 + usize::from(options.denoise_last && start > end);
        if options.steps < least || options.steps > MOST_STEPS {
            return Err(Error::invalid(format!("steps is {}; it must lie in [{least}, {MOST_STEPS}]", options.steps)));
        }
        let intervals = options.steps - usize::from(options.denoise_last);
        let inner = |i: usize| i as f64 / intervals as f64;
        let time = |i: usize| -> Result<f64> {
            // A grid of millions of nodes takes seconds.
            const NOW_AND_THEN: usize = 1 << 14;
            if i > 0 && i.is_multiple_of(NOW_AND_THEN) {
                exec.report(0, options.steps as u64)?;
            }
            match i {
                0 => Ok(start),
                i if i == intervals => Ok(end),
                i => match options.grid {
                    Grid::UniformT => Ok(start + inner(i) * (end - start)),
                    Grid::UniformS => {
                        let (a, b) = (process.eval(start)?.sigma.ln(), process.eval(end)?.sigma.ln());
                        process.time_of_sigma((a + inner(i) * (b - a)).exp())
                    }
                    Grid::Karras | Grid::Custom(_) => {
                        let ratio = |t: f64| process.eval(t).map(|p| (p.sigma / p.m).powf(1.0 / options.rho));
                        let (a, b) = (ratio(start)?, ratio(end)?);
                        process.time_of_ratio((a + inner(i) * (b - a)).powf(options.rho))
                    }
                },
            }
        };
        if options.grid == Grid::Karras {
            if !(options.rho.is_finite() && options.rho > 0.0) {
                return Err(Error::invalid(format!("rho is {:?}; it must be finite and positive", options.rho)));
            }
            if process.eval(start)?.m == 0.0 {
                return Err(Error::invalid(format!(
                    "t_start is {start:?}, where m = 0 and the KARRAS grid's sigma/m is infinite; start earlier or use UNIFORM_T"
                )));
            }
        }
        try_collect(intervals + 2, (0..=intervals).map(time), "time grid")?
    };
    if let Some(i) = nodes.windows(2).position(|w| w[1] >= w[0]) {
        return Err(Error::invalid(format!(
            "steps is {}; nodes {i} and {} of the grid fall on the same time {:?}",
            options.steps,
            i + 1,
            nodes[i]
        )));
    }
    if options.denoise_last {
        nodes.push(f64::NAN);
    }
    Ok(nodes)
}

fn interval(process: &Process, options: &Options) -> Result<(f64, f64)> {
    let start = options.t_start.unwrap_or(process.t_end());
    let end = match options.t_end {
        Some(t) => t,
        None => process.time_of_sigma(DEFAULT_SIGMA_END).unwrap_or(process.t_min()),
    };
    let named = |name: &str, t: f64| process.eval(t).map_err(|e| Error::invalid(format!("{name}: {e}")));
    named("t_start", start)?;
    if named("t_end", end)?.sigma == 0.0 {
        return Err(Error::invalid(format!(
            "t_end is {end:?}, where sigma = 0 and there is no score; end at a positive time, with denoise_last for the last step"
        )));
    }
    if start < end || (start == end && !options.denoise_last) {
        return Err(Error::invalid(format!(
            "t_start is {start:?} and t_end is {end:?}; time falls from t_start to t_end"
        )));
    }
    Ok((start, end))
}

fn custom(process: &Process, times: &[f64], denoise_last: bool) -> Result<Vec<f64>> {
    if times.len() < 2 {
        return Err(Error::invalid(format!("times: {} nodes; a grid has at least 2", times.len())));
    }
    if let Some(i) = times.windows(2).position(|w| w[0].is_nan() || w[1].is_nan() || w[1] >= w[0]) {
        return Err(Error::invalid(format!(
            "times: node {} is {:?} after {:?}; nodes fall strictly",
            i + 1,
            times[i + 1],
            times[i]
        )));
    }
    // With room for the NaN of a denoising step.
    let mut nodes = try_vec(times.len() + 1, f64::NAN, "times")?;
    nodes.truncate(times.len());
    nodes.copy_from_slice(times);
    let mut denoise = denoise_last;
    // 0 is the clean end of every process but the geometric one, whose σ(0) is positive; the discrete one has no other
    // meaning for it.
    if times[times.len() - 1] == 0.0 && process.eval(0.0).map_or(true, |p| p.sigma == 0.0) {
        nodes.pop();
        denoise = true;
    }
    for (i, &t) in nodes.iter().enumerate() {
        let marginal = process.eval(t).map_err(|e| Error::invalid(format!("times, node {i}: {e}")))?;
        if marginal.sigma == 0.0 {
            return Err(Error::invalid(format!("times, node {i} is {t:?}, where sigma = 0 and there is no score")));
        }
    }
    if denoise {
        nodes.push(f64::NAN);
    }
    Ok(nodes)
}
