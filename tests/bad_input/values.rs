//! The smallest inputs must work and be right: one row, one dimension, no queries, rows that lie apart.

use crate::support::*;
use mnemo::capi::{context::*, dataset::*, memorization::*, process::*, sampler::*, score::*, status::*};
use std::ptr::{null, null_mut};
use std::sync::mpsc;
use std::time::Duration;

fn near(got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len());
    assert!(got.iter().zip(want).all(|(g, w)| (g - w).abs() <= 1e-9 * w.abs().max(1.0)), "{got:?} is not {want:?}");
}

/// The empirical score of one row y under EDM's process is that of N(y, t^2 I).
fn gaussian(y: &[f64], x: &[f64], t: f64) {
    let w = World::new();
    let d = y.len() as i64;
    let batch = x.len() as i64 / d;
    let (variance, offsets) = (t * t, x.iter().enumerate().map(|(i, x)| y[i % y.len()] - x).collect::<Vec<f64>>());
    let squared: Vec<f64> = offsets.chunks(y.len()).map(|o| o.iter().map(|v| v * v).sum()).collect();
    let data = made(mnemo_dataset_release, |p| unsafe {
        mnemo_dataset_copy(w.context, Tensor::matrix(d, y).ptr(), null(), null(), p, null_mut())
    });
    let score = made(mnemo_score_release, |p| unsafe { mnemo_score_empirical(data, w.process, null(), p, null_mut()) });
    let (mut x_in, mut times) = (Tensor::matrix(d, x), Tensor::vector(&[t]));
    let [mut s, mut denoised, mut product] = [0; 3].map(|_| Tensor::output::<f64>(batch, d));
    let [mut log_density, mut divergence, mut entropy, mut distance] = [0; 4].map(|_| Tensor::output::<f64>(batch, 1));
    let mut index = Tensor::output::<i64>(batch, 1);
    let mut o = Sized::new(mnemo_score_outputs_init);
    (o.score, o.denoised, o.log_density) = (s.ptr(), denoised.ptr(), log_density.ptr());
    (o.divergence, o.entropy) = (divergence.ptr(), entropy.ptr());
    (o.nearest_index, o.nearest_distance) = (index.ptr(), distance.ptr());
    unsafe {
        assert_eq!(mnemo_score_eval(score, x_in.ptr(), times.ptr(), o.ptr(), null(), null_mut()), OK);
        let mut v = Tensor::matrix(d, &offsets);
        let (v, out) = (v.ptr(), product.ptr());
        assert_eq!(mnemo_score_jvp(score, x_in.ptr(), times.ptr(), v, out, null(), null_mut()), OK);
    }
    let each = |f: &dyn Fn(f64) -> f64| squared.iter().map(|&d2| f(d2)).collect::<Vec<f64>>();
    let volume = 0.5 * d as f64 * (2.0 * std::f64::consts::PI * variance).ln();
    near(&s.values(), &offsets.iter().map(|o| o / variance).collect::<Vec<f64>>());
    near(&product.values(), &offsets.iter().map(|o| -o / variance).collect::<Vec<f64>>());
    near(&denoised.values(), &y.repeat(batch as usize));
    near(&log_density.values(), &each(&|d2| -0.5 * d2 / variance - volume));
    near(&divergence.values(), &each(&|_| -(d as f64) / variance));
    near(&entropy.values(), &each(&|_| 0.0));
    near(&distance.values(), &each(&f64::sqrt));
    assert!(index.values::<i64>().iter().all(|&n| n == 0));

    // The flow of one row ends on it.
    let mut options = Sized::new(mnemo_sampler_options_init);
    (options.from_prior, options.denoise_last) = (1, 1);
    unsafe { assert_eq!(mnemo_sample(score, options.ptr(), x_in.ptr(), null(), null_mut()), OK) };
    near(&x_in.values(), &y.repeat(batch as usize));
    let mut report = Sized::new(mnemo_memorization_report_init);
    let mut options = Sized::new(mnemo_memorization_options_init);
    options.threshold = 1e-6;
    unsafe {
        assert_eq!(mnemo_memorization(data, x_in.ptr(), options.ptr(), report.ptr(), null(), null_mut()), OK);
        mnemo_dataset_release(data);
        mnemo_score_release(score);
    }
    assert_eq!((report.samples, report.copied, report.fraction_copied), (batch, batch, 1.0));
}

#[test]
fn one_row_is_a_gaussian() {
    gaussian(&[1.0, -2.0, 0.5], &[0.0, 1.0, 2.0, 3.0, -2.0, 0.5], 0.7);
}

#[test]
fn one_row_of_one_dimension() {
    gaussian(&[0.25], &[1.25], 2.0);
    gaussian(&[0.25], &[0.25, 4.0, -3.0], 1e-3);
}

#[test]
fn one_dimension() {
    let w = World::new();
    let data = made(mnemo_dataset_release, |p| unsafe {
        mnemo_dataset_copy(w.context, Tensor::vector(&[-1.0f32, 1.0]).ptr(), null(), null(), p, null_mut())
    });
    let score = made(mnemo_score_release, |p| unsafe { mnemo_score_empirical(data, w.process, null(), p, null_mut()) });
    let (x, t) = (0.3f64, 0.8f64);
    let mut s = Tensor::output::<f64>(1, 1);
    let mut o = Sized::new(mnemo_score_outputs_init);
    o.score = s.ptr();
    let (mut x_in, mut times) = (Tensor::vector(&[x]), Tensor::vector(&[t]));
    unsafe { assert_eq!(mnemo_score_eval(score, x_in.ptr(), times.ptr(), o.ptr(), null(), null_mut()), OK) };
    near(&s.values(), &[((x / (t * t)).tanh() - x) / (t * t)]);
    unsafe {
        mnemo_score_release(score);
        mnemo_dataset_release(data);
    }
}

#[test]
fn no_rows_are_an_answer() {
    let w = World::new();
    let mut x = Tensor::output::<f64>(0, 3);
    x.data = null_mut();
    let [mut s, mut none] = [3, 1].map(|cols| Tensor::output::<f64>(0, cols));
    let mut o = Sized::new(mnemo_score_outputs_init);
    for score in [w.score, w.custom] {
        o.score = s.ptr();
        for mut t in [Tensor::vector(&[1.0]), Tensor::output::<f64>(0, 1)] {
            unsafe {
                assert_eq!(mnemo_score_eval(score, x.ptr(), t.ptr(), o.ptr(), null(), null_mut()), OK);
                assert_eq!(mnemo_score_jvp(score, x.ptr(), t.ptr(), x.ptr(), s.ptr(), null(), null_mut()), OK);
            }
        }
        unsafe { assert_eq!(mnemo_sample(score, null(), x.ptr(), null(), null_mut()), OK) };
    }
    o.log_density = none.ptr();
    unsafe {
        assert_eq!(mnemo_score_eval(w.score, x.ptr(), Tensor::vector(&[1.0]).ptr(), o.ptr(), null(), null_mut()), OK);
        assert_eq!(mnemo_nearest(w.data, x.ptr(), 0, 1, none.ptr(), null_mut(), null(), null_mut()), OK);
    }
}

#[test]
fn rows_may_lie_apart() {
    let w = World::new();
    let packed = [0.5, 0.1, 0.0, 2.9, 0.0, -1.0];
    let mut apart = Tensor::matrix(5, &[0.5, 0.1, 0.0, f64::NAN, f64::NAN, 2.9, 0.0, -1.0, f64::NAN, f64::NAN]);
    (apart.cols, apart.row_stride) = (3, 5);
    let mut times = Tensor::matrix(2, &[0.5, f64::NAN, 2.0, f64::NAN]);
    (times.cols, times.row_stride) = (1, 2);
    let mut out = Tensor::output::<f64>(2, 4);
    (out.cols, out.row_stride) = (3, 4);
    let mut plain = Tensor::output::<f64>(2, 3);
    let mut o = Sized::new(mnemo_score_outputs_init);
    unsafe {
        o.score = out.ptr();
        assert_eq!(mnemo_score_eval(w.score, apart.ptr(), times.ptr(), o.ptr(), null(), null_mut()), OK);
        o.score = plain.ptr();
        let (mut x, mut t) = (Tensor::matrix(3, &packed), Tensor::vector(&[0.5, 2.0]));
        assert_eq!(mnemo_score_eval(w.score, x.ptr(), t.ptr(), o.ptr(), null(), null_mut()), OK);
    }
    for (i, v) in plain.values::<f64>().into_iter().enumerate() {
        assert_eq!(out.get::<f64>(i / 3 * 4 + i % 3), v);
    }
    let untouched = f64::from_ne_bytes([UNTOUCHED; 8]);
    assert_eq!((out.get::<f64>(3), out.get::<f64>(7)), (untouched, untouched), "between rows nothing is written");
    // One row's stride is not looked at.
    let mut one = Tensor::matrix(3, &packed[..3]);
    one.row_stride = -1;
    (out.rows, out.row_stride) = (1, 1);
    o.score = out.ptr();
    unsafe {
        let mut t = Tensor::vector(&[0.5]);
        assert_eq!(mnemo_score_eval(w.score, one.ptr(), t.ptr(), o.ptr(), null(), null_mut()), OK);
    }
}

#[test]
fn a_result_is_finite_at_the_ends_of_what_is_accepted() {
    let w = World::new();
    let process = made(mnemo_process_release, |p| unsafe { mnemo_process_ve_power(2.0, 1.0, 1e100, p, null_mut()) });
    let score = made(mnemo_score_release, |p| unsafe { mnemo_score_empirical(w.data, process, null(), p, null_mut()) });
    for x in [0.0, 1e-300, 1.0, 1e100, -1e100] {
        for t in [1e-69, 1e-30, 1.0, 1e30, 1e100] {
            let mut out: [Tensor; 2] = [0; 2].map(|_| Tensor::output::<f64>(1, 3));
            let [s, denoised] = &mut out;
            let [mut log_density, mut entropy] = [0; 2].map(|_| Tensor::output::<f64>(1, 1));
            let mut o = Sized::new(mnemo_score_outputs_init);
            (o.score, o.denoised) = (s.ptr(), denoised.ptr());
            (o.log_density, o.entropy) = (log_density.ptr(), entropy.ptr());
            let mut err = std::mem::MaybeUninit::<mnemo_error>::uninit();
            let status = unsafe {
                let (mut x, mut t) = (Tensor::matrix(3, &[x; 3]), Tensor::vector(&[t]));
                mnemo_score_eval(score, x.ptr(), t.ptr(), o.ptr(), null(), err.as_mut_ptr())
            };
            assert!(status == OK || status == INVALID, "x = {x}, t = {t}: {}", status_name(status));
            if status == OK {
                let values = [s.values(), denoised.values(), entropy.values()].concat();
                assert!(values.iter().all(|v: &f64| v.is_finite()), "x = {x}, t = {t}: {values:?}");
                assert!(!log_density.get::<f64>(0).is_nan(), "x = {x}, t = {t}: the log density is NaN");
            }
        }
    }
    unsafe {
        mnemo_score_release(score);
        mnemo_process_release(process);
    }
}

/// A shape that promises much and holds nothing is answered at once.
#[test]
fn rows_without_columns_do_not_take_for_ever() {
    let (done, answer) = mpsc::channel();
    std::thread::spawn(move || {
        let w = World::new();
        let mut rows = Tensor::output::<f64>(0, 0);
        rows.rows = i64::MAX;
        let mut out = Out::new(mnemo_dataset_release);
        let status = unsafe { mnemo_dataset_copy(w.context, rows.ptr(), null(), null(), out.ptr(), null_mut()) };
        drop(out);
        let _ = done.send(status);
    });
    let status = answer.recv_timeout(Duration::from_secs(20)).expect("mnemo_dataset_copy of i64::MAX rows x 0 hangs");
    assert!(status == INVALID || status == SHAPE, "{}", status_name(status));
}

#[test]
fn any_order() {
    // What a score needs it keeps: everything else is released first, and it still works.
    let w = World::new();
    let context = made(mnemo_context_release, |p| unsafe { mnemo_context_create(null(), p, null_mut()) });
    let process = made(mnemo_process_release, |p| unsafe { mnemo_process_flow(p, null_mut()) });
    let data = made(mnemo_dataset_release, |p| unsafe {
        mnemo_dataset_copy(context, Tensor::matrix(3, &DATA).ptr(), null(), null(), p, null_mut())
    });
    let empirical =
        made(mnemo_score_release, |p| unsafe { mnemo_score_empirical(data, process, null(), p, null_mut()) });
    let host = Box::<Host>::default();
    let custom = made(mnemo_score_release, |p| unsafe {
        mnemo_score_custom(context, process, 3, Host::ops().ptr(), host.user(), p, null_mut())
    });
    unsafe {
        mnemo_context_release(context);
        mnemo_process_release(process);
        mnemo_dataset_release(data);
        for score in [empirical, custom] {
            let mut s = Tensor::output::<f64>(1, 3);
            let mut o = Sized::new(mnemo_score_outputs_init);
            o.score = s.ptr();
            let (mut x, mut t) = (Tensor::matrix(3, &[0.1, 0.2, 0.3]), Tensor::vector(&[0.5]));
            assert_eq!(mnemo_score_eval(score, x.ptr(), t.ptr(), o.ptr(), null(), null_mut()), OK);
            assert_eq!(host.drops.get(), 0);
            mnemo_score_release(score);
        }
    }
    assert_eq!(host.drops.get(), 1);
    drop(w);
}
