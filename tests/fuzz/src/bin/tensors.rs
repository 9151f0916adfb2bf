// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any description of a tensor in any place for one, over memory that ends where the description does. What is wrong must be
//! refused, what is right must be computed, and only the elements of outputs are written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mnemo::capi::{dataset::*, memorization::*, sampler::*, score::*, status::*, tensor::*};
use mnemo_fuzz::calls::*;
use mnemo_fuzz::input::Input;
use mnemo_fuzz::tensors::{Fill, Tensor};
use mnemo_fuzz::world::{DIM, Machine, ROWS, World};
use std::mem::zeroed;
use std::ptr::{null, null_mut};

const REALS: [u32; 2] = [MNEMO_F32, MNEMO_F64];
const STORED: [u32; 5] = [MNEMO_F32, MNEMO_F64, MNEMO_F16, MNEMO_BF16, MNEMO_U8];
const INTEGERS: [u32; 3] = [MNEMO_I64, MNEMO_I32, MNEMO_U8];

fuzz_target!(|data: &[u8]| {
    let input = &mut Input::new(data);
    let machine = World::get().machine(input);
    // SAFETY: tensors are NULL or describe their memory, or nothing that could be read.
    unsafe {
        match input.below(7) {
            0 => copy(input, machine),
            1 => eval(input, machine),
            2 => jvp(input, machine),
            3 => sample(input, machine),
            4 => nearest(input, machine.dataset, ROWS, DIM),
            5 => memorization(input, machine),
            _ => gather(input, machine),
        }
    }
    machine.check_usable_now_and_then(data);
});

/// After a call: inputs are what they were, outputs are whole or untouched, and what the header forbids was refused. Where
/// `sure`, what it allows was done.
fn check(status: i32, allowed: bool, sure: bool, inputs: &[&Tensor], outputs: &[&Tensor]) {
    inputs.iter().for_each(|t| t.check_unchanged());
    outputs.iter().for_each(|t| t.check_output(status));
    assert!(allowed || status != MNEMO_OK, "a call was accepted that the header forbids");
    assert!(!allowed || !sure || status == MNEMO_OK, "a good call was refused with {status}");
}

/// Rows and labels of any shape; then every call that reads the data set, whose kernels meet odd sizes there.
unsafe fn copy(input: &mut Input, machine: &Machine) {
    let (n, d) = (1 + input.below(40) as i64, 1 + input.below(18) as i64);
    let dtype = input.pick(&STORED);
    let rows = Tensor::any(input, n, d, dtype, Fill::Values);
    let (n, d) = (rows.rows(), rows.cols());
    let kind = input.pick(&INTEGERS);
    let labels = Tensor::any(input, n, 1, kind, Fill::Indices);
    let given = input.u8() & 1 == 1;
    let labels_ptr = if given { labels.ptr() } else { null_mut() };
    let made =
        unsafe { make(COPY, |out, err| mnemo_dataset_copy(machine.context, rows.ptr(), labels_ptr, null(), out, err)) };
    let labels_good = labels_ptr.is_null() || labels.is(n, 1, &INTEGERS);
    let allowed = rows.is(n, d, &STORED) && n > 0 && d > 0 && labels_good;
    check(made.err().unwrap_or(MNEMO_OK), allowed, rows.tame, &[&rows, &labels], &[]);
    let Ok(dataset) = made else { return };
    unsafe {
        let mut info: mnemo_dataset_info = zeroed();
        mnemo_dataset_info_init(&raw mut info, size_of_val(&info));
        assert_eq!(call(STRUCT, |err| mnemo_dataset_info(dataset, &raw mut info, err)), MNEMO_OK);
        assert_eq!((info.rows, info.dim, info.dtype), (n, d, rows.dtype()));
        assert_eq!(info.labels > 0, !labels_ptr.is_null());
        nearest(input, dataset, n, d);
        let process = World::get().processes[0];
        let score = make(STRUCT, |out, err| mnemo_score_empirical(dataset, process, null(), out, err));
        let score = score.expect("a score of the data");
        evaluate(input, score, d, rows.tame);
        mnemo_score_release(score);
        mnemo_dataset_release(dataset);
    }
}

unsafe fn eval(input: &mut Input, machine: &Machine) {
    let custom = input.below(6);
    let score = if custom == 5 { machine.custom } else { machine.scores[custom] };
    unsafe { evaluate(input, score, DIM, custom < 5) };
}

/// `computes`: the score has every output, and finite ones where the arguments are tame.
unsafe fn evaluate(input: &mut Input, score: *mut mnemo_score, dim: i64, computes: bool) {
    let (batch, dtype) = (input.below(12) as i64, input.pick(&REALS));
    let x = Tensor::any(input, batch, dim, dtype, Fill::Values);
    let (batch, dtype) = (x.rows(), x.dtype());
    let times = if input.u8() & 1 == 1 { batch } else { 1 };
    let kind = input.pick(&REALS);
    let t = Tensor::any(input, times, 1, kind, Fill::Times);
    let (chosen, column) = (input.u8(), input.pick(&REALS));
    let outputs: [Tensor; 9] = std::array::from_fn(|i| {
        let (cols, dtype) = match i {
            0 | 1 => (dim, dtype),
            6 => (1, MNEMO_I64),
            _ => (1, column),
        };
        // One of them may be odd: two mistakes hide each other.
        if input.u8() & 7 == 7 {
            Tensor::any(input, batch, cols, dtype, Fill::Canary)
        } else if (0..=512).contains(&batch) && REALS.contains(&x.dtype()) {
            Tensor::good(input, batch, cols, dtype, Fill::Canary)
        } else {
            Tensor::good(input, 1, cols, MNEMO_F64, Fill::Canary)
        }
    });
    // The last bit is that of both bounds.
    let given: Vec<usize> = (0..9).filter(|&i| chosen & 1 << i.min(7) != 0 && !outputs[i].is_null()).collect();
    let at = |i: usize| if given.contains(&i) { outputs[i].ptr() } else { null_mut() };
    let status = unsafe {
        let mut o: mnemo_score_outputs = zeroed();
        mnemo_score_outputs_init(&raw mut o, size_of_val(&o));
        (o.score, o.denoised, o.log_density, o.divergence) = (at(0), at(1), at(2), at(3));
        (o.entropy, o.nearest_distance, o.nearest_index) = (at(4), at(5), at(6));
        (o.denoised_error_bound, o.log_density_error_bound) = (at(7), at(8));
        call(EVAL, |err| mnemo_score_eval(score, x.ptr(), t.ptr(), &raw const o, null(), err))
    };
    let allowed = x.is(batch, dim, &REALS)
        && (t.is(1, 1, &REALS) || t.is(batch, 1, &REALS))
        && given.iter().all(|&i| match i {
            0 | 1 => outputs[i].is(batch, dim, &[dtype]),
            6 => outputs[i].is(batch, 1, &[MNEMO_I64]),
            _ => outputs[i].is(batch, 1, &REALS),
        });
    let used: Vec<&Tensor> = given.iter().map(|&i| &outputs[i]).collect();
    check(status, allowed, computes && x.tame && t.tame, &[&x, &t], &used);
    (0..9).filter(|i| !given.contains(i)).for_each(|i| outputs[i].check_unchanged());
}

unsafe fn jvp(input: &mut Input, machine: &Machine) {
    let score = machine.any_score(input);
    let (batch, dtype) = (input.below(12) as i64, input.pick(&REALS));
    let x = Tensor::any(input, batch, DIM, dtype, Fill::Values);
    let (batch, dtype) = (x.rows(), x.dtype());
    let t = Tensor::any(input, 1, 1, MNEMO_F64, Fill::Times);
    let v = Tensor::any(input, batch, DIM, dtype, Fill::Values);
    let out = Tensor::any(input, batch, DIM, dtype, Fill::Canary);
    let status =
        unsafe { call(EVAL, |err| mnemo_score_jvp(score, x.ptr(), t.ptr(), v.ptr(), out.ptr(), null(), err)) };
    let allowed = x.is(batch, DIM, &REALS)
        && (t.is(1, 1, &REALS) || t.is(batch, 1, &REALS))
        && v.is(batch, DIM, &[dtype])
        && out.is(batch, DIM, &[dtype]);
    check(status, allowed, x.tame && t.tame && v.tame, &[&x, &t, &v], &[&out]);
}

unsafe fn sample(input: &mut Input, machine: &Machine) {
    let score = machine.any_score(input);
    let (batch, dtype) = (input.below(8) as i64, input.pick(&REALS));
    let from_prior = input.u8() & 1 == 1;
    let fill = if from_prior { Fill::Canary } else { Fill::Values };
    let x = Tensor::any(input, batch, DIM, dtype, fill);
    let status = unsafe {
        let mut options: mnemo_sampler_options = zeroed();
        mnemo_sampler_options_init(&raw mut options, size_of_val(&options));
        (options.steps, options.t_start, options.from_prior) = (2, 4.0, u32::from(from_prior));
        call(EVAL, |err| mnemo_sample(score, &raw const options, x.ptr(), null(), err))
    };
    let allowed = x.is(x.rows(), DIM, &REALS);
    if status == MNEMO_OK {
        x.check_gaps();
        check(status, allowed, true, &[], &[]);
    } else {
        check(status, allowed, x.tame, &[&x], &[]);
    }
}

unsafe fn nearest(input: &mut Input, dataset: *mut mnemo_dataset, rows: i64, dim: i64) {
    let (batch, dtype) = (input.below(12) as i64, input.pick(&REALS));
    let queries = Tensor::any(input, batch, dim, dtype, Fill::Values);
    let batch = queries.rows();
    let k = if input.u8() < 240 { 1 + input.below(rows.clamp(1, 8) as usize) as i64 } else { input.i64() };
    let kind = input.pick(&REALS);
    let distance = Tensor::any(input, batch, k, kind, Fill::Canary);
    let index = Tensor::any(input, batch, k, MNEMO_I64, Fill::Canary);
    let metric = match input.u8() {
        0..160 => MNEMO_METRIC_L2,
        160..240 => MNEMO_METRIC_COSINE,
        _ => input.u32(),
    };
    let status = unsafe {
        call(NEAREST, |err| {
            mnemo_nearest(dataset, queries.ptr(), metric, k, distance.ptr(), index.ptr(), null(), err)
        })
    };
    let allowed = queries.is(batch, dim, &REALS)
        && (metric == MNEMO_METRIC_L2
            || metric == MNEMO_METRIC_COSINE
                // A query of zeros has no direction.
                && !(0..batch as usize).any(|i| (0..dim as usize).all(|j| queries.get(i, j) == 0.0)))
        && (1..=rows).contains(&k)
        && (distance.is_null() || distance.is(batch, k, &REALS))
        && (index.is_null() || index.is(batch, k, &[MNEMO_I64]));
    check(status, allowed, queries.tame, &[&queries], &[&distance, &index]);
    if status != MNEMO_OK || index.is_null() {
        return;
    }
    for i in 0..batch as usize {
        for j in 0..k as usize {
            let n = index.get(i, j);
            assert!((0.0..rows as f64).contains(&n), "row {n} of {rows}");
            assert!((0..j).all(|other| index.get(i, other) != n), "row {n} twice");
            if !distance.is_null() {
                assert!(distance.get(i, j) >= 0.0 && (j == 0 || distance.get(i, j - 1) <= distance.get(i, j)));
            }
        }
    }
}

unsafe fn memorization(input: &mut Input, machine: &Machine) {
    let (batch, dtype) = (1 + input.below(12) as i64, input.pick(&REALS));
    let generated = Tensor::any(input, batch, DIM, dtype, Fill::Values);
    let options = mnemo_memorization_options { struct_size: 16, reserved: 0, threshold: 2.0 };
    unsafe {
        let mut report: mnemo_memorization_report = zeroed();
        mnemo_memorization_report_init(&raw mut report, size_of_val(&report));
        let status = call(NEAREST, |err| {
            mnemo_memorization(
                machine.dataset,
                generated.ptr(),
                &raw const options,
                &raw mut report,
                null(),
                err,
            )
        });
        let allowed = generated.is(generated.rows(), DIM, &REALS) && generated.rows() > 0;
        check(status, allowed, generated.tame, &[&generated], &[]);
        assert_eq!(report.samples, if status == MNEMO_OK { generated.rows() } else { 0 });
        assert!(report.copied <= report.samples && report.min_distance <= report.median_distance);
        assert!(report.median_distance <= report.max_distance && report.max_distance.is_finite());
    }
}

unsafe fn gather(input: &mut Input, machine: &Machine) {
    let n = input.below(20) as i64;
    let index = Tensor::any(input, n, 1, MNEMO_I64, Fill::Indices);
    let kind = input.pick(&REALS);
    let out = Tensor::any(input, index.rows(), DIM, kind, Fill::Canary);
    let status = unsafe { call(GATHER, |err| mnemo_dataset_gather(machine.dataset, index.ptr(), out.ptr(), err)) };
    let allowed = index.is(index.rows(), 1, &[MNEMO_I64]) && out.is(index.rows(), DIM, &REALS);
    check(status, allowed, index.tame, &[&index], &[&out]);
    if status == MNEMO_OK {
        for i in 0..index.rows() as usize {
            for j in 0..DIM as usize {
                let row = index.get(i, 0) as usize;
                assert_eq!(out.get(i, j), f64::from(mnemo_fuzz::world::DATA[row * DIM as usize + j]));
            }
        }
    }
}
