//! Sampling.

use crate::rows;
use crate::support::*;
use mnemo::capi::{exec::*, sampler::*, score::*, status::*, tensor::*};
use std::ptr::null;

const NAN: f64 = f64::NAN;
const INF: f64 = f64::INFINITY;

struct Sample {
    score: *const mnemo_score,
    options: Sized<mnemo_sampler_options>,
    times: Vec<f64>,
    x: Tensor,
    exec: Sized<mnemo_exec>,
}

impl Call for Sample {
    fn good(w: &World) -> Self {
        Self {
            score: w.score,
            options: Sized::new(mnemo_sampler_options_init),
            times: Vec::new(),
            x: Tensor::matrix(3, &[50.0, -80.0, 10.0, 0.0, 70.0, -1.0]),
            exec: Sized::new(mnemo_exec_init),
        }
    }
    fn run(&mut self, err: *mut mnemo_error) -> i32 {
        unsafe { mnemo_sample(self.score, self.options.ptr(), self.x.ptr(), self.exec.ptr(), err) }
    }
    fn outputs(&self) -> Vec<Region> {
        vec![self.x.bytes()]
    }
}

impl Sample {
    fn custom(&mut self, times: &[f64]) {
        self.times = times.to_vec();
        self.options.grid = MNEMO_GRID_CUSTOM;
        (self.options.times, self.options.times_count) = (self.times.as_ptr(), self.times.len() as i64);
    }

    /// The standard normal's score with an observer, in few steps from a low level.
    fn host(&mut self, w: &World) {
        self.score = w.custom;
        (self.options.t_start, self.options.steps) = (1.0, 4);
        self.options.observer = Some(host_observer);
        self.options.observer_user = w.host.user();
    }
}

pub fn options_init(w: &World) {
    init_rows(w, mnemo_sampler_options_init, |o| {
        let nan = [o.t_start, o.t_end, o.alpha2, o.eta].iter().all(|v| v.is_nan());
        let rest = (o.rtol, o.atol, o.rho, o.s_churn, o.s_min, o.s_max, o.s_noise);
        nan && rest == (1e-5, 1e-5, 7.0, 0.0, 0.0, INF, 1.0)
            && (o.solver, o.grid, o.from_prior, o.denoise_last) == (MNEMO_SOLVER_HEUN, MNEMO_GRID_KARRAS, 0, 0)
            && (o.steps, o.first_sample, o.times, o.times_count) == (18, 0, null(), 0)
            && o.observer.is_none()
    });
}

pub fn sample(w: &World) {
    tensor_rows::<Sample>(w, "x_inout", true, |c| &mut c.x);
    sized_rows::<Sample, _>(w, "options", OK, |c| &mut c.options);
    exec_rows::<Sample>(w, true, |c| &mut c.exec);
    numbers(w);
    grids(w);
    for bad in [NAN, INF, -INF, 1e101] {
        w.row::<Sample>(&format!("x holds {bad}"), INVALID, "x_inout", |c| c.x.set(4, bad));
        w.row::<Sample>(&format!("x holds {bad}, but is not looked at"), OK, "", |c| {
            c.x.set(4, bad);
            c.options.from_prior = 1;
        });
    }
    for solver in MNEMO_SOLVER_EULER..=MNEMO_SOLVER_EDM_STOCHASTIC {
        for (what, code, name, alpha2) in [("0", OK, "", 0.0), ("NaN", OK, "", NAN), ("1", UNSUPPORTED, "alpha2", 1.0)]
        {
            // The ODE's solvers; for ANCESTRAL and EDM_STOCHASTIC the header says nothing about alpha2.
            if solver > MNEMO_SOLVER_RK45 && code != OK {
                continue;
            }
            w.row::<Sample>(&format!("solver {solver}, alpha2 = {what}"), code, name, |c| {
                (c.options.solver, c.options.alpha2) = (solver, alpha2);
                (c.options.t_start, c.options.t_end) = (1.0, 0.1);
            });
        }
        w.row::<Sample>(&format!("solver {solver}, no rows"), OK, "", |c| {
            c.options.solver = solver;
            (c.x.rows, c.x.data) = (0, std::ptr::null_mut());
        });
    }
    rows! { w, Sample, c;
        OK, "" => {};
        OK, "" => c.options.null = true;
        INVALID, "score" => c.score = null();
        SHAPE, "x_inout" => c.x.cols = 2;
        SHAPE, "x_inout" => (c.x.rows, c.x.cols) = (1, 6);
        SHAPE, "x_inout" => c.x.cols = 0;
        DTYPE, "x_inout" => c.x = Tensor::matrix(3, &[0u8; 6]);
        DTYPE, "x_inout" => c.x.dtype = MNEMO_I64;
        INVALID, "reserved" => c.options.reserved = 1;
        // Callbacks.
        OK, "" => c.host(w);
        (CALLBACK, 42), "observer" => { c.host(w); w.host.observer.set(42) };
        (CALLBACK, -1), "observer" => { c.host(w); w.host.observer.set(-1); c.options.solver = MNEMO_SOLVER_RK45 };
        (CALLBACK, 43), "eval" => { c.host(w); w.host.eval.set(43) };
        (CALLBACK, 43), "eval" => { c.host(w); w.host.eval.set(43); c.options.solver = MNEMO_SOLVER_RK45 };
        CALLBACK, "eval" => { c.host(w); w.host.add.set(NAN) };
        CALLBACK, "eval" => { c.host(w); w.host.add.set(INF); c.options.solver = MNEMO_SOLVER_RK45 };
        CANCELLED, "cancel" => { c.host(w); c.exec.cancel = w.requested };
    }
}

fn numbers(w: &World) {
    type Get = fn(&mut mnemo_sampler_options) -> &mut f64;
    let all = MNEMO_SOLVER_HEUN;
    let bad: [(&str, u32, Get, &[f64]); 12] = [
        ("t_start", all, |o| &mut o.t_start, &[-1.0, 80.5, INF, -INF]),
        ("t_end", all, |o| &mut o.t_end, &[0.0, -1.0, 80.5, INF, -INF]),
        ("alpha2", MNEMO_SOLVER_EULER_MARUYAMA, |o| &mut o.alpha2, &[-1e-300, INF, -INF]),
        ("eta", MNEMO_SOLVER_EXPONENTIAL, |o| &mut o.eta, &[-1e-300, 1.0000001, INF]),
        ("eta", MNEMO_SOLVER_ANCESTRAL, |o| &mut o.eta, &[-1e-300, 1.0000001, INF]),
        ("rtol", MNEMO_SOLVER_RK45, |o| &mut o.rtol, &[-1.0, NAN, INF]),
        ("atol", MNEMO_SOLVER_RK45, |o| &mut o.atol, &[-1.0, NAN, INF]),
        ("rho", all, |o| &mut o.rho, &[0.0, -1.0, NAN, INF]),
        ("s_churn", MNEMO_SOLVER_EDM_STOCHASTIC, |o| &mut o.s_churn, &[-1.0, NAN, INF]),
        ("s_min", MNEMO_SOLVER_EDM_STOCHASTIC, |o| &mut o.s_min, &[-1.0, NAN, INF]),
        ("s_max", MNEMO_SOLVER_EDM_STOCHASTIC, |o| &mut o.s_max, &[-1.0, NAN, -INF]),
        ("s_noise", MNEMO_SOLVER_EDM_STOCHASTIC, |o| &mut o.s_noise, &[-1.0, NAN, INF]),
    ];
    for (name, solver, get, values) in bad {
        for &v in values {
            w.row::<Sample>(&format!("solver {solver}, {name} = {v}"), INVALID, name, |c| {
                c.options.solver = solver;
                *get(&mut c.options) = v;
            });
        }
    }
    for steps in [0, -1, i64::MIN, i64::MAX] {
        w.row::<Sample>(&format!("steps = {steps}"), INVALID, "steps", |c| c.options.steps = steps);
    }
    for first in [-1, i64::MIN, 1 << 56, i64::MAX] {
        w.row::<Sample>(&format!("first_sample = {first}"), INVALID, "first_sample", |c| {
            c.options.first_sample = first
        });
    }
    for solver in [8, u32::MAX] {
        w.row::<Sample>(&format!("solver = {solver}"), INVALID, "solver", |c| c.options.solver = solver);
    }
    for grid in [4, u32::MAX] {
        w.row::<Sample>(&format!("grid = {grid}"), INVALID, "grid", |c| c.options.grid = grid);
    }
    rows! { w, Sample, c;
        INVALID, "from_prior" => c.options.from_prior = 2;
        INVALID, "denoise_last" => c.options.denoise_last = u32::MAX;
        INVALID, "t_start" => (c.options.t_start, c.options.t_end) = (1.0, 2.0);
        INVALID, "t_end" => (c.options.t_start, c.options.t_end) = (1.0, 1.0);
        INVALID, "steps" => (c.options.denoise_last, c.options.steps) = (1, 1);
        INVALID, "steps" => {
            c.options.grid = MNEMO_GRID_UNIFORM_T;
            (c.options.t_start, c.options.t_end, c.options.steps) = (1.0 + f64::EPSILON, 1.0, 2);
        };
        INVALID, "rtol" => (c.options.solver, c.options.rtol, c.options.atol) = (MNEMO_SOLVER_RK45, 0.0, 0.0);
        OK, "" => (c.options.rtol, c.options.s_churn) = (NAN, NAN); // other solvers'
        // The last index that the random stream has, and a batch that goes beyond it.
        OK, "" => { c.options.first_sample = (1 << 56) - 2; c.options.from_prior = 1 };
        INVALID, "first_sample" => { c.options.first_sample = (1 << 56) - 1; c.options.from_prior = 1 };
        INVALID, "first_sample" => {
            c.options.first_sample = (1 << 56) - 1;
            c.options.solver = MNEMO_SOLVER_EULER_MARUYAMA;
        };
        // Where g, or sigma/m, is infinite.
        INVALID, "t_start" => (c.score, c.options.solver) = (w.flow_score, MNEMO_SOLVER_HEUN);
        INVALID, "t_start" => {
            c.score = w.flow_score;
            (c.options.solver, c.options.grid) = (MNEMO_SOLVER_EULER_MARUYAMA, MNEMO_GRID_UNIFORM_T);
        };
        INVALID, "t_start" => {
            c.score = w.flow_score;
            (c.options.solver, c.options.grid) = (MNEMO_SOLVER_EDM_STOCHASTIC, MNEMO_GRID_UNIFORM_T);
        };
        OK, "" => (c.score, c.options.grid) = (w.flow_score, MNEMO_GRID_UNIFORM_T);
    }
}

fn grids(w: &World) {
    let bad: [&[f64]; 13] = [
        &[1.0],
        &[1.0, 1.0],
        &[1.0, 2.0],
        &[2.0, 1.0, 1.5],
        &[NAN, 1.0],
        &[1.0, NAN],
        &[2.0, NAN, 1.0],
        &[INF, 1.0],
        &[1.0, -INF],
        &[80.5, 1.0],
        &[1.0, -0.5],
        &[1.0, 0.0, -1.0],
        &[0.0, -0.0],
    ];
    for solver in [MNEMO_SOLVER_HEUN, MNEMO_SOLVER_RK45] {
        for times in bad {
            w.row::<Sample>(&format!("solver {solver}, times {times:?}"), INVALID, "times", |c| {
                c.options.solver = solver;
                c.custom(times);
            });
        }
    }
    rows! { w, Sample, c;
        OK, "" => c.custom(&[1.0, 0.5, 0.0]);
        OK, "" => c.custom(&[1.0, 0.0]);
        OK, "" => { c.custom(&[1.0, 0.5]); c.options.denoise_last = 1 };
        OK, "" => { c.custom(&[1.0, 0.5]); c.options.steps = 0 }; // not looked at
        INVALID, "times" => { c.custom(&[1.0, 0.5]); c.options.times = null() };
        INVALID, "times" => { c.custom(&[1.0, 0.5]); c.options.times = c.options.times.wrapping_byte_add(4) };
        INVALID, "times" => { c.custom(&[1.0, 0.5]); c.options.times_count = 0 };
        INVALID, "times" => c.options.grid = MNEMO_GRID_CUSTOM;
        INVALID, "times_count" => { c.custom(&[1.0, 0.5]); c.options.times_count = -1 };
        INVALID, "times_count" => { c.custom(&[1.0, 0.5]); c.options.times_count = i64::MIN };
        SHAPE, "times_count" => { c.custom(&[1.0, 0.5]); c.options.times_count = i64::MAX };
    }
}
