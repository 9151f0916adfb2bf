//! Scores: made, evaluated, differentiated.

use crate::rows;
use crate::support::*;
use mnemo::capi::{context::*, dataset::*, exec::*, process::*, score::*, status::*};
use std::ffi::c_void;
use std::ptr::{null, null_mut};

const NAN: f64 = f64::NAN;
const INF: f64 = f64::INFINITY;

pub fn empirical_options_init(w: &World) {
    init_rows(w, mnemo_empirical_options_init, |o| {
        (o.regularizer, o.strength, o.tolerance, o.label, o.conditional, o.reserved)
            == (MNEMO_REG_NONE, 0.0, 1e-12, 0, 0, 0)
    });
}

pub fn ops_init(w: &World) {
    init_rows(w, mnemo_score_ops_init, |o| {
        o.prediction == MNEMO_PREDICT_SCORE && o.eval.is_none() && o.jvp.is_none() && o.drop.is_none()
    });
}

pub fn outputs_init(w: &World) {
    init_rows(w, mnemo_score_outputs_init, |o| {
        o.reserved == 0 && o.score.is_null() && o.log_density_error_bound.is_null()
    });
}

struct MakeEmpirical {
    dataset: *const mnemo_dataset,
    process: *const mnemo_process,
    options: Sized<mnemo_empirical_options>,
    out: Out<mnemo_score>,
}

impl Call for MakeEmpirical {
    fn good(w: &World) -> Self {
        Self {
            dataset: w.data,
            process: w.process,
            options: Sized::new(mnemo_empirical_options_init),
            out: Out::new(mnemo_score_release),
        }
    }
    fn run(&mut self, err: *mut mnemo_error) -> i32 {
        unsafe { mnemo_score_empirical(self.dataset, self.process, self.options.ptr(), self.out.ptr(), err) }
    }
    fn outputs(&self) -> Vec<Region> {
        vec![region(&self.out.handle)]
    }
}

pub fn empirical(w: &World) {
    sized_rows::<MakeEmpirical, _>(w, "options", OK, |c| &mut c.options);
    for bad in [4, 5, u32::MAX] {
        w.row::<MakeEmpirical>(&format!("regularizer = {bad}"), INVALID, "regularizer", |c| {
            c.options.regularizer = bad
        });
    }
    for (regularizer, least) in
        [(MNEMO_REG_TIKHONOV, 0.0), (MNEMO_REG_BAYES_DENSITY, 5e-324), (MNEMO_REG_BAYES_WEIGHT, 5e-324)]
    {
        for (strength, code) in [(NAN, INVALID), (INF, INVALID), (-1e-300, INVALID), (least, OK), (0.5, OK)] {
            let name = if code == OK { "" } else { "strength" };
            w.row::<MakeEmpirical>(&format!("regularizer {regularizer}, strength {strength}"), code, name, |c| {
                (c.options.regularizer, c.options.strength) = (regularizer, strength);
            });
        }
    }
    for bad in [-1e-300, 1.0, 2.0, NAN, INF] {
        w.row::<MakeEmpirical>(&format!("tolerance = {bad}"), INVALID, "tolerance", |c| c.options.tolerance = bad);
    }
    rows! { w, MakeEmpirical, c;
        OK, "" => {};
        OK, "" => c.options.null = true;
        OK, "" => c.options.strength = NAN; // not looked at without a regularizer
        OK, "" => c.options.tolerance = 0.0;
        OK, "" => (c.options.conditional, c.options.label) = (1, 7);
        OK, "" => (c.options.conditional, c.options.label) = (0, 8); // not looked at
        INVALID, "dataset" => c.dataset = null();
        INVALID, "process" => c.process = null();
        INVALID, "out" => c.out.null = true;
        INVALID, "strength" => c.options.regularizer = MNEMO_REG_BAYES_DENSITY;
        INVALID, "log_strength" => {
            c.options.regularizer = MNEMO_REG_BAYES_DENSITY;
            c.options.log_strength = f64::INFINITY;
        };
        INVALID, "strength" => c.options.regularizer = MNEMO_REG_BAYES_WEIGHT;
        INVALID, "conditional" => c.options.conditional = 2;
        INVALID, "conditional" => c.options.conditional = u32::MAX;
        INVALID, "label" => (c.options.conditional, c.options.label) = (1, 8);
        INVALID, "label" => (c.options.conditional, c.options.label) = (1, i64::MIN);
        INVALID, "label" => (c.options.conditional, c.dataset) = (1, w.unlabelled);
        INVALID, "reserved" => c.options.reserved = 1;
    }
}

struct MakeCustom {
    context: *const mnemo_context,
    process: *const mnemo_process,
    dim: i64,
    ops: Sized<mnemo_score_ops>,
    host: Box<Host>,
    user: *mut c_void,
    out: Out<mnemo_score>,
}

impl Call for MakeCustom {
    fn good(w: &World) -> Self {
        let host = Box::<Host>::default();
        Self {
            context: w.context,
            process: w.process,
            dim: 3,
            ops: Host::ops(),
            user: host.user(),
            host,
            out: Out::new(mnemo_score_release),
        }
    }
    fn run(&mut self, err: *mut mnemo_error) -> i32 {
        let ops = self.ops.ptr();
        unsafe { mnemo_score_custom(self.context, self.process, self.dim, ops, self.user, self.out.ptr(), err) }
    }
    fn outputs(&self) -> Vec<Region> {
        vec![region(&self.out.handle), region(&*self.host)] // its drops too: a failed creation owns nothing
    }
}

pub fn custom(w: &World) {
    sized_rows::<MakeCustom, _>(w, "ops", INVALID, |c| &mut c.ops);
    for bad in [5, 6, u32::MAX] {
        w.row::<MakeCustom>(&format!("prediction = {bad}"), INVALID, "prediction", |c| c.ops.prediction = bad);
    }
    rows! { w, MakeCustom, c;
        OK, "" => {};
        OK, "" => c.ops.jvp = None;
        OK, "" => (c.ops.drop, c.user) = (None, null_mut());
        OK, "" => { c.ops.set_size(16); c.ops.set_bytes(16..32, 0) }; // an older struct that ends with eval
        INVALID, "context" => c.context = null();
        INVALID, "process" => c.process = null();
        INVALID, "ops" => c.ops.null = true;
        INVALID, "eval" => c.ops.eval = None;
        INVALID, "out" => c.out.null = true;
        INVALID, "dim" => c.dim = 0;
        INVALID, "dim" => c.dim = -1;
        INVALID, "dim" => c.dim = i64::MIN;
    }
    let call = &mut MakeCustom::good(w);
    w.expect(call.run(null_mut()) == OK && call.host.drops.get() == 0, "drop is not called before release");
    let handle = std::mem::replace(&mut call.out, Out::new(mnemo_score_release)).take();
    unsafe { mnemo_score_release(handle) };
    w.expect(call.host.drops.get() == 1, "drop is called once, at release");
}

struct Eval {
    score: *const mnemo_score,
    x: Tensor,
    t: Tensor,
    outputs: Sized<mnemo_score_outputs>,
    s: Tensor,
    denoised: Tensor,
    log_density: Tensor,
    divergence: Tensor,
    entropy: Tensor,
    nearest_index: Tensor,
    nearest_distance: Tensor,
    denoised_error_bound: Tensor,
    log_density_error_bound: Tensor,
    exec: Sized<mnemo_exec>,
}

impl Call for Eval {
    fn good(w: &World) -> Self {
        Self {
            score: w.score,
            x: Tensor::matrix(3, &[0.5, 0.1, 0.0, 2.9, 0.0, -1.0]),
            t: Tensor::vector(&[0.5, 2.0]),
            outputs: Sized::new(mnemo_score_outputs_init),
            s: Tensor::output::<f64>(2, 3),
            denoised: Tensor::output::<f64>(2, 3),
            log_density: Tensor::output::<f64>(2, 1),
            divergence: Tensor::output::<f64>(2, 1),
            entropy: Tensor::output::<f32>(2, 1),
            nearest_index: Tensor::output::<i64>(2, 1),
            nearest_distance: Tensor::output::<f64>(2, 1),
            denoised_error_bound: Tensor::output::<f64>(2, 1),
            log_density_error_bound: Tensor::output::<f32>(2, 1),
            exec: Sized::new(mnemo_exec_init),
        }
    }
    fn run(&mut self, err: *mut mnemo_error) -> i32 {
        let mut o = *self.outputs;
        (o.score, o.denoised) = (self.s.ptr(), self.denoised.ptr());
        (o.log_density, o.divergence, o.entropy) = (self.log_density.ptr(), self.divergence.ptr(), self.entropy.ptr());
        (o.nearest_index, o.nearest_distance) = (self.nearest_index.ptr(), self.nearest_distance.ptr());
        o.denoised_error_bound = self.denoised_error_bound.ptr();
        o.log_density_error_bound = self.log_density_error_bound.ptr();
        if o.struct_size != 8 {
            *self.outputs = o;
        }
        unsafe {
            let (x, t) = (self.x.ptr(), self.t.ptr());
            mnemo_score_eval(self.score, x, t, self.outputs.ptr(), self.exec.ptr(), err)
        }
    }
    fn outputs(&self) -> Vec<Region> {
        let vectors = [&self.log_density, &self.divergence, &self.entropy, &self.nearest_index, &self.nearest_distance];
        let bounds = [&self.denoised_error_bound, &self.log_density_error_bound];
        [&self.s, &self.denoised].into_iter().chain(vectors).chain(bounds).map(Tensor::bytes).collect()
    }
}

impl Eval {
    /// The custom score, with the outputs it has.
    fn custom(&mut self, w: &World) {
        self.score = w.custom;
        for none in [
            &mut self.log_density,
            &mut self.divergence,
            &mut self.entropy,
            &mut self.nearest_index,
            &mut self.nearest_distance,
            &mut self.denoised_error_bound,
            &mut self.log_density_error_bound,
        ] {
            none.null = true;
        }
    }

    /// The flow's score, where m = 0 at t = 1.
    fn end_of_flow(&mut self, score: *const mnemo_score) {
        self.score = score;
        self.t = Tensor::vector(&[1.0]);
    }
}

/// The x and t of an evaluation.
fn point_rows<C: Call>(w: &World, x: fn(&mut C) -> &mut Tensor, t: fn(&mut C) -> &mut Tensor) {
    tensor_rows::<C>(w, "x", true, x);
    tensor_rows::<C>(w, "t", true, t);
    for bad in [NAN, INF, -INF, 1e101] {
        w.row::<C>(&format!("x holds {bad}"), INVALID, "x", |c| x(c).set(5, bad));
        w.row::<C>("it names the row", INVALID, "1", |c| x(c).set(5, bad));
        w.row::<C>("it names the column", INVALID, "2", |c| x(c).set(5, bad));
    }
    for bad in [0.0, -0.0, -1.0, 80.5, NAN, INF, -INF, 1e-80] {
        w.row::<C>(&format!("t holds {bad}"), INVALID, "t", |c| t(c).set(1, bad));
        w.row::<C>("it names the row", INVALID, "1", |c| t(c).set(1, bad));
        w.row::<C>(&format!("t is {bad}"), INVALID, "t", |c| *t(c) = Tensor::vector(&[bad]));
        w.row::<C>(&format!("t is {bad} for all"), INVALID, "t", |c| *t(c) = Tensor::vector(&[bad; 2]));
    }
    w.row::<C>("t of one", OK, "", |c| *t(c) = Tensor::vector(&[1.0]));
    w.row::<C>("t of F32", OK, "", |c| *t(c) = Tensor::vector(&[1.0f32, 2.0]));
    w.row::<C>("t of F32 NaN", INVALID, "t", |c| *t(c) = Tensor::vector(&[1.0, f32::NAN]));
    w.row::<C>("t of I64", DTYPE, "t", |c| *t(c) = Tensor::vector(&[1i64, 2]));
    w.row::<C>("t of 3", SHAPE, "t", |c| *t(c) = Tensor::vector(&[1.0; 3]));
    w.row::<C>("t of 0", SHAPE, "t", |c| t(c).rows = 0);
    w.row::<C>("t as [1, 2]", SHAPE, "t", |c| (t(c).rows, t(c).cols) = (1, 2));
    w.row::<C>("t as [2, 0]", SHAPE, "t", |c| t(c).cols = 0);
    w.row::<C>("x of two columns", SHAPE, "x", |c| x(c).cols = 2);
    w.row::<C>("x of no columns", SHAPE, "x", |c| x(c).cols = 0);
    w.row::<C>("x as a row of 6", SHAPE, "x", |c| (x(c).rows, x(c).cols) = (1, 6));
    w.row::<C>("x of U8", DTYPE, "x", |c| *x(c) = Tensor::matrix(3, &[0u8; 6]));
}

pub fn eval(w: &World) {
    point_rows::<Eval>(w, |c| &mut c.x, |c| &mut c.t);
    type Get = fn(&mut Eval) -> &mut Tensor;
    let outputs: [(&str, Get); 9] = [
        ("score", |c| &mut c.s),
        ("denoised", |c| &mut c.denoised),
        ("log_density", |c| &mut c.log_density),
        ("divergence", |c| &mut c.divergence),
        ("entropy", |c| &mut c.entropy),
        ("nearest_index", |c| &mut c.nearest_index),
        ("nearest_distance", |c| &mut c.nearest_distance),
        ("denoised_error_bound", |c| &mut c.denoised_error_bound),
        ("log_density_error_bound", |c| &mut c.log_density_error_bound),
    ];
    for (name, get) in outputs {
        tensor_rows::<Eval>(w, name, false, get);
        w.row::<Eval>(&format!("{name} not wanted"), OK, "", |c| get(c).null = true);
        w.row::<Eval>(&format!("{name} of one row"), SHAPE, name, |c| get(c).rows = 1);
        w.row::<Eval>(&format!("{name} of no columns"), SHAPE, name, |c| get(c).cols = 0);
        w.row::<Eval>(&format!("{name} transposed"), SHAPE, name, |c| {
            (get(c).rows, get(c).cols) = (get(c).cols, get(c).rows);
        });
        w.row::<Eval>(&format!("{name} of I32"), DTYPE, name, |c| get(c).dtype = mnemo::capi::tensor::MNEMO_I32);
    }
    for (name, get) in &outputs[2..] {
        w.row::<Eval>(&format!("{name} of a custom score"), UNSUPPORTED, name, |c| {
            c.custom(w);
            get(c).null = false;
        });
    }
    sized_rows::<Eval, _>(w, "outputs", OK, |c| &mut c.outputs);
    exec_rows::<Eval>(w, true, |c| &mut c.exec);
    rows! { w, Eval, c;
        OK, "" => {};
        INVALID, "score" => c.score = null();
        INVALID, "outputs" => c.outputs.null = true;
        INVALID, "reserved" => c.outputs.reserved = 1;
        DTYPE, "score" => c.s.dtype = mnemo::capi::tensor::MNEMO_F32;
        DTYPE, "score" => c.x.dtype = mnemo::capi::tensor::MNEMO_F32;
        DTYPE, "nearest_index" => c.nearest_index.dtype = mnemo::capi::tensor::MNEMO_F64;
        // The host's callback.
        OK, "" => c.custom(w);
        (CALLBACK, 42), "eval" => { c.custom(w); w.host.eval.set(42) };
        (CALLBACK, i32::MIN), "eval" => { c.custom(w); w.host.eval.set(i32::MIN) };
        CALLBACK, "eval" => { c.custom(w); w.host.add.set(NAN) };
        CALLBACK, "out" => { c.custom(w); w.host.add.set(-INF) };
        INVALID, "x" => { c.custom(w); c.x.set(0, NAN) };
        INVALID, "t" => { c.custom(w); c.t.set(0, 0.0) };
        CANCELLED, "cancel" => { c.custom(w); c.exec.cancel = w.requested };
        // m = 0: the weights are equal and denoised is their mean, but not after a regularizer.
        OK, "" => c.end_of_flow(w.flow_score);
    }
    let [regularized, custom] = [false, true].map(|custom| {
        made(mnemo_score_release, |p| unsafe {
            let mut options = Sized::new(mnemo_empirical_options_init);
            (options.regularizer, options.strength) = (MNEMO_REG_TIKHONOV, 0.1);
            match custom {
                false => mnemo_score_empirical(w.data, w.flow, options.ptr(), p, null_mut()),
                true => {
                    let mut ops = Host::ops();
                    ops.drop = None;
                    mnemo_score_custom(w.context, w.flow, 3, ops.ptr(), w.host.user(), p, null_mut())
                }
            }
        })
    });
    rows! { w, Eval, c;
        INVALID, "t" => c.end_of_flow(regularized);
        INVALID, "t" => { c.custom(w); c.end_of_flow(custom) };
    }
    unsafe {
        mnemo_score_release(regularized);
        mnemo_score_release(custom);
    }
}

struct Jvp {
    score: *const mnemo_score,
    x: Tensor,
    t: Tensor,
    v: Tensor,
    out: Tensor,
    exec: Sized<mnemo_exec>,
}

impl Call for Jvp {
    fn good(w: &World) -> Self {
        Self {
            score: w.score,
            x: Tensor::matrix(3, &[0.5, 0.1, 0.0, 2.9, 0.0, -1.0]),
            t: Tensor::vector(&[0.5, 2.0]),
            v: Tensor::matrix(3, &[1.0, 0.0, 0.0, 0.0, 1.0, -1.0]),
            out: Tensor::output::<f64>(2, 3),
            exec: Sized::new(mnemo_exec_init),
        }
    }
    fn run(&mut self, err: *mut mnemo_error) -> i32 {
        unsafe {
            let (x, t, v, out) = (self.x.ptr(), self.t.ptr(), self.v.ptr(), self.out.ptr());
            mnemo_score_jvp(self.score, x, t, v, out, self.exec.ptr(), err)
        }
    }
    fn outputs(&self) -> Vec<Region> {
        vec![self.out.bytes()]
    }
}

pub fn jvp(w: &World) {
    point_rows::<Jvp>(w, |c| &mut c.x, |c| &mut c.t);
    tensor_rows::<Jvp>(w, "v", true, |c| &mut c.v);
    tensor_rows::<Jvp>(w, "out", true, |c| &mut c.out);
    exec_rows::<Jvp>(w, true, |c| &mut c.exec);
    for bad in [NAN, INF, -INF] {
        w.row::<Jvp>(&format!("v holds {bad}"), INVALID, "v", |c| c.v.set(3, bad));
        w.row::<Jvp>("it names the row", INVALID, "1", |c| c.v.set(3, bad));
    }
    let without = made(mnemo_score_release, |p| unsafe {
        let mut ops = Host::ops();
        (ops.jvp, ops.drop) = (None, None);
        mnemo_score_custom(w.context, w.process, 3, ops.ptr(), w.host.user(), p, null_mut())
    });
    rows! { w, Jvp, c;
        OK, "" => {};
        INVALID, "score" => c.score = null();
        SHAPE, "v" => c.v.rows = 1;
        SHAPE, "v" => c.v.cols = 2;
        DTYPE, "v" => c.v.dtype = mnemo::capi::tensor::MNEMO_F32;
        SHAPE, "out" => c.out.rows = 1;
        SHAPE, "out" => c.out.cols = 2;
        DTYPE, "out" => c.out.dtype = mnemo::capi::tensor::MNEMO_F32;
        OK, "" => c.score = w.custom;
        (CALLBACK, -7), "jvp" => { c.score = w.custom; w.host.jvp.set(-7) };
        CALLBACK, "jvp" => { c.score = w.custom; w.host.add.set(NAN) };
        UNSUPPORTED, "jvp" => c.score = without;
    }
    unsafe { mnemo_score_release(without) };
}
