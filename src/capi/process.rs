//! Forward processes.

use super::{array, guard, hand_over, place, required, status::mnemo_error, take_back};
use crate::error::{Error, Result, try_collect};
use crate::process::Process;

/// A forward process dx = -beta/2 x dt + sqrt(g) dW, under which x_t given a training row y is N(m(t) y, sigma(t)^2 I).
/// g is the variance rate. Immutable.
pub struct mnemo_process {
    pub(super) process: Process,
}

/// Variance preserving, linear: beta = g = beta_min + (t/T)(beta_max - beta_min), 0 <= t <= T = t_end; m = exp(-B/2),
/// sigma^2 = 1 - exp(-B), B the integral of beta. Song et al.: 0.1, 20, 1. beta_min = beta_max is the constant
/// schedule.
///
/// Threads: any. Errors: MNEMO_E_INVALID. Owned by the caller: mnemo_process_release.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mnemo_process_vp_linear(
    beta_min: f64,
    beta_max: f64,
    t_end: f64,
    out: *mut *mut mnemo_process,
    err: *mut mnemo_error,
) -> i32 {
    // SAFETY: the caller's promises; so throughout this file.
    unsafe {
        guard(err, || {
            let out = place(out)?;
            hand_over(out, mnemo_process { process: Process::vp_linear(beta_min, beta_max, t_end)? });
            Ok(())
        })
    }
}

/// Sub-VP (Song et al. 2021): m and beta as vp_linear with T = 1, sigma = 1 - exp(-B), g = beta (1 - exp(-2B)).
///
/// Threads: any. Errors: MNEMO_E_INVALID. Owned by the caller: mnemo_process_release.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mnemo_process_sub_vp(
    beta_min: f64,
    beta_max: f64,
    out: *mut *mut mnemo_process,
    err: *mut mnemo_error,
) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(err, || {
            let out = place(out)?;
            hand_over(out, mnemo_process { process: Process::sub_vp(beta_min, beta_max)? });
            Ok(())
        })
    }
}

/// Variance exploding, power: beta = 0, g = k t^a, m = 1, sigma^2 = k t^(a+1) / (a+1). EDM (sigma = t) is k = 2, a = 1,
/// t_end = 80. k > 0, a > -1.
///
/// Threads: any. Errors: MNEMO_E_INVALID. Owned by the caller: mnemo_process_release.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mnemo_process_ve_power(
    k: f64,
    a: f64,
    t_end: f64,
    out: *mut *mut mnemo_process,
    err: *mut mnemo_error,
) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(err, || {
            let out = place(out)?;
            hand_over(out, mnemo_process { process: Process::ve_power(k, a, t_end)? });
            Ok(())
        })
    }
}

/// Variance exploding, exponential: beta = 0, g = r^t, m = 1, sigma^2 = (r^t - 1) / ln r, r = rate_base > 0 (reg 2: r =
/// 100).
///
/// Threads: any. Errors: MNEMO_E_INVALID. Owned by the caller: mnemo_process_release.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mnemo_process_ve_exponential(
    rate_base: f64,
    t_end: f64,
    out: *mut *mut mnemo_process,
    err: *mut mnemo_error,
) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(err, || {
            let out = place(out)?;
            hand_over(out, mnemo_process { process: Process::ve_exponential(rate_base, t_end)? });
            Ok(())
        })
    }
}

/// Variance exploding, geometric (Song et al. 2021): m = 1, sigma = sigma_min (sigma_max / sigma_min)^t, 0 <= t <= 1.
/// sigma(0) is sigma_min, not 0.
///
/// Threads: any. Errors: MNEMO_E_INVALID. Owned by the caller: mnemo_process_release.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mnemo_process_ve_geometric(
    sigma_min: f64,
    sigma_max: f64,
    out: *mut *mut mnemo_process,
    err: *mut mnemo_error,
) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(err, || {
            let out = place(out)?;
            hand_over(out, mnemo_process { process: Process::ve_geometric(sigma_min, sigma_max)? });
            Ok(())
        })
    }
}

/// Discrete variance preserving (DDPM): alpha_bar[0] … alpha_bar[steps - 1], strictly falling in (0, 1), belong to t =
/// 1 … steps; m = sqrt(alpha_bar), sigma^2 = 1 - alpha_bar, and between steps log(sigma/m) is linear in t; at a step
/// beta and g are those of the interval below it. t lies in [1, steps]; 0 stands only for the clean end of a sampler's
/// own time grid. The table is copied.
///
/// Threads: any. Errors: MNEMO_E_INVALID. Owned by the caller: mnemo_process_release.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mnemo_process_discrete(
    alpha_bar: *const f64,
    steps: i64,
    out: *mut *mut mnemo_process,
    err: *mut mnemo_error,
) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(err, || {
            let out = place(out)?;
            hand_over(
                out,
                mnemo_process { process: Process::discrete(array("alpha_bar", alpha_bar, "steps", steps)?)? },
            );
            Ok(())
        })
    }
}

/// Flow matching (rectified flow): x_t = (1 - t) y + t eps, m = 1 - t, sigma = t, 0 <= t <= 1; beta = 2 / (1 - t) and g
/// = 2t / (1 - t) are infinite at t = 1. The ODE solvers start there all the same on the grids UNIFORM_T, UNIFORM_S and
/// CUSTOM; the KARRAS grid and EDM_STOCHASTIC (sigma/m is infinite) and EULER_MARUYAMA (g is) want a t_start below 1.
///
/// Threads: any. Errors: MNEMO_E_INVALID. Owned by the caller: mnemo_process_release.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mnemo_process_flow(out: *mut *mut mnemo_process, err: *mut mnemo_error) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(err, || {
            let out = place(out)?;
            hand_over(out, mnemo_process { process: Process::flow()? });
            Ok(())
        })
    }
}

/// The process at `n` times: m, sigma, beta and g, each an array of n or NULL.
///
/// Threads: any. Errors: MNEMO_E_INVALID if a time is outside the process, MNEMO_E_SHAPE; nothing is written then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mnemo_process_eval(
    process: *const mnemo_process,
    t: *const f64,
    n: i64,
    m: *mut f64,
    sigma: *mut f64,
    beta: *mut f64,
    g: *mut f64,
    err: *mut mnemo_error,
) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(err, || {
            let process = &required("process", process)?.process;
            let t = array("t", t, "n", n)?;
            let at = each(t, |t| process.eval(t))?;
            for (i, p) in at.iter().enumerate() {
                for (out, v) in [(m, p.m), (sigma, p.sigma), (beta, p.beta), (g, p.g)] {
                    if !out.is_null() {
                        out.add(i).write_unaligned(v);
                    }
                }
            }
            Ok(())
        })
    }
}

/// The inverse of sigma(t): the times at which the process has `n` given noise levels, into `t`, an array of n.
///
/// Threads: any. Errors: MNEMO_E_INVALID if a level is outside the process, MNEMO_E_SHAPE; nothing is written then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mnemo_process_time_of_sigma(
    process: *const mnemo_process,
    sigma: *const f64,
    n: i64,
    t: *mut f64,
    err: *mut mnemo_error,
) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(err, || {
            let process = &required("process", process)?.process;
            let times = each(array("sigma", sigma, "n", n)?, |s| process.time_of_sigma(s))?;
            if n > 0 && t.is_null() {
                return Err(Error::invalid("t is NULL"));
            }
            for (i, v) in times.iter().enumerate() {
                t.add(i).write_unaligned(*v);
            }
            Ok(())
        })
    }
}

fn each<T>(values: &[f64], f: impl Fn(f64) -> Result<T>) -> Result<Vec<T>> {
    let at = |(i, &v): (usize, &f64)| f(v).map_err(|e| Error::invalid(format!("element {i}: {e}")));
    try_collect(values.len(), values.iter().enumerate().map(at), "results")
}

/// Releases `process`; NULL is ignored. Scores made from it keep it.
///
/// Threads: any. Errors: none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mnemo_process_release(process: *mut mnemo_process) {
    // SAFETY: as above.
    unsafe { take_back(process) }
}
