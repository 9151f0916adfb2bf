// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any bytes as the library's structs of options, outputs, callbacks and reports, shorter and longer than they are, and the
//! call that reads them. Pointers in them are NULL or valid.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mnemo::capi::{context::*, dataset::*, exec::*, memorization::*, process::*, sampler::*, score::*, status::*, tensor::*};
use mnemo_fuzz::calls::*;
use mnemo_fuzz::hosts::{self, Host};
use mnemo_fuzz::input::Input;
use mnemo_fuzz::memory::Memory;
use mnemo_fuzz::structs::{Struct, check_init};
use mnemo_fuzz::tensors::{Fill, Tensor};
use mnemo_fuzz::world::{DATA, DIM, LABELS, Machine, ROWS, World, tensor};
use std::cell::Cell;
use std::ffi::c_char;
use std::mem::{offset_of, zeroed};
use std::ptr::{null, null_mut};

const REALS: [u32; 2] = [MNEMO_F32, MNEMO_F64];

fuzz_target!(|data: &[u8]| {
    let world = World::get();
    let input = &mut Input::new(data);
    let machine = world.machine(input);
    // SAFETY: every call below is given what the header asks for, but for what a struct may hold.
    unsafe {
        match input.below(12) {
            0 => context(input),
            1 => dataset_options(input, machine),
            2 => dataset_info(input, machine),
            3 => score_ops(input, world, machine),
            4 => empirical_options(input, world, machine),
            5 => score_outputs(input, machine),
            6 => exec(input, machine),
            7 => sampler_options(input, world, machine),
            8 => memorization(input, machine),
            9 => inits(input),
            10 => process(input, world),
            _ => describe(input, machine),
        }
    }
    machine.check_usable_now_and_then(data);
});

/// NULL or a string, in memory that ends with it; and whether it is UTF-8.
fn string(input: &mut Input) -> (Option<Memory>, bool) {
    let text: &[u8] = input.pick(&[&b""[..], b"\0", b"folder\0", b"\xC3\x96\0", b"\xFF\0", b"caf\xC3\0"]);
    ((!text.is_empty()).then(|| Memory::of(text)), std::str::from_utf8(text).is_ok())
}

fn pointer(memory: &Option<Memory>) -> *const c_char {
    memory.as_ref().map_or(null(), |m| m.ptr::<c_char>().cast_const())
}

unsafe fn context(input: &mut Input) {
    const DIR: usize = offset_of!(mnemo_context_options, kernel_cache_dir);
    let mut options = Struct::any(input, mnemo_context_options_init, &[DIR]);
    let (dir, _) = string(input);
    options.set(DIR, pointer(&dir));
    let made = unsafe { make(CONTEXT, |out, err| mnemo_context_create(options.ptr(), out, err)) };
    options.check_unchanged();
    options.check_status(made.err().unwrap_or(MNEMO_OK));
    let Ok(context) = made else { return };
    let limit = options.get::<u64>(offset_of!(mnemo_context_options, memory_limit)).filter(|&l| l > 0);
    let rows = tensor(&DATA, ROWS, DIM, MNEMO_F32);
    let copied = unsafe { make(COPY, |out, err| mnemo_dataset_copy(context, &raw const rows, null(), null(), out, err)) };
    let fits = limit.is_none_or(|limit| limit >= size_of_val(&DATA) as u64);
    assert_eq!(copied.err().unwrap_or(MNEMO_OK), if fits { MNEMO_OK } else { MNEMO_E_NOMEM });
    let context_first = input.u8() & 1 == 1;
    unsafe {
        if context_first {
            mnemo_context_release(context);
        }
        if let Ok(dataset) = copied {
            let distance = [0.0f64; ROWS as usize];
            let mut out = tensor(&distance, 1, ROWS, MNEMO_F64);
            let mut distance = distance;
            out.data = distance.as_mut_ptr().cast();
            let query = tensor(&DATA[..DIM as usize], 1, DIM, MNEMO_F32);
            let status = call(NEAREST, |err| {
                mnemo_nearest(dataset, &raw const query, MNEMO_METRIC_L2, ROWS, &raw mut out, null_mut(), null(), err)
            });
            assert!(status == MNEMO_OK && distance[0] == 0.0 && distance[1] > 0.0);
            mnemo_dataset_release(dataset);
        }
        if !context_first {
            mnemo_context_release(context);
        }
    }
}

/// The description, into every size of memory.
unsafe fn describe(input: &mut Input, machine: &Machine) {
    let mut needed = 0;
    let ask = |json: *mut c_char, capacity, needed: *mut usize| {
        call(INVALID, |err| unsafe { mnemo_context_describe(machine.context, json, capacity, needed, err) })
    };
    assert_eq!(ask(null_mut(), 0, &raw mut needed), MNEMO_OK);
    let capacity = usize::from(input.u8());
    let (json, want_needed) = (Memory::new(capacity, 0), input.u8() & 1 == 1);
    let mut again = 0;
    let status = ask(json.ptr(), capacity, if want_needed { &raw mut again } else { null_mut() });
    assert_eq!(again, if want_needed { needed } else { 0 });
    assert_eq!(status, if capacity >= needed { MNEMO_OK } else { MNEMO_E_INVALID });
    if status == MNEMO_OK {
        let text = json.bytes()[..needed].strip_suffix(&[0]).expect("ends with NUL");
        let text = std::str::from_utf8(text).expect("UTF-8");
        assert!(text.starts_with(r#"{"backend":"cpu","#) && text.ends_with('}') && !text.contains('\0'));
    } else {
        assert!(json.bytes().iter().all(|&b| b == mnemo_fuzz::memory::CANARY));
    }
}

unsafe fn dataset_options(input: &mut Input, machine: &Machine) {
    const PATH: usize = offset_of!(mnemo_dataset_options, labels_path);
    let mut options = Struct::any(input, mnemo_dataset_options_init, &[PATH]);
    let path = if input.u8() < 8 { string(input).0 } else { None };
    options.set(PATH, pointer(&path));
    let read = |at| options.get::<f64>(at);
    let scale = read(offset_of!(mnemo_dataset_options, scale)).unwrap_or(1.0);
    let shift = read(offset_of!(mnemo_dataset_options, shift)).unwrap_or(0.0);
    let (rows, labels) = (tensor(&DATA, ROWS, DIM, MNEMO_F32), tensor(&LABELS, ROWS, 1, MNEMO_I32));
    let made = unsafe {
        make(COPY, |out, err| {
            mnemo_dataset_copy(machine.context, &raw const rows, &raw const labels, options.ptr(), out, err)
        })
    };
    options.check_unchanged();
    options.check_status(made.err().unwrap_or(MNEMO_OK));
    let Ok(dataset) = made else { return };
    assert!(path.is_none() || options.get::<usize>(PATH).is_none(), "labels_path was accepted beside labels");
    let values = DATA.map(|v| scale * f64::from(v) + shift);
    unsafe {
        let mut info: mnemo_dataset_info = zeroed();
        info.struct_size = size_of_val(&info) as u32;
        assert_eq!(call(STRUCT, |err| mnemo_dataset_info(dataset, &raw mut info, err)), MNEMO_OK);
        assert_eq!(info.min, values.iter().copied().fold(f64::INFINITY, f64::min));
        assert_eq!(info.max, values.iter().copied().fold(f64::NEG_INFINITY, f64::max));
        assert!(info.min >= -1e100 && info.max <= 1e100);
        mnemo_dataset_release(dataset);
    }
}

unsafe fn dataset_info(input: &mut Input, machine: &Machine) {
    let info = Struct::any(input, mnemo_dataset_info_init, &[]);
    let status = unsafe { call(STRUCT, |err| mnemo_dataset_info(machine.dataset, info.ptr(), err)) };
    assert_eq!(status == MNEMO_OK, !info.is_null() && info.deserves != Some(MNEMO_E_INVALID));
    let value = mnemo_dataset_info {
        struct_size: 0,
        dtype: MNEMO_F32,
        rows: ROWS,
        dim: DIM,
        labels: 3,
        min: -2.0,
        max: 3.0,
    };
    info.check_filled(status, &value);
}

unsafe fn score_ops(input: &mut Input, world: &World, machine: &Machine) {
    let pointers = [offset_of!(mnemo_score_ops, eval), offset_of!(mnemo_score_ops, jvp), offset_of!(mnemo_score_ops, drop)];
    let host = Host::new(machine, input);
    let process = world.process(input);
    let mut ops = Struct::any(input, mnemo_score_ops_init, &pointers);
    let choice = input.u8();
    if choice & 7 != 0 {
        ops.set(pointers[0], hosts::eval as *const ());
    }
    if choice & 8 == 0 {
        ops.set(pointers[1], hosts::jvp as *const ());
    }
    if choice & 16 == 0 {
        ops.set(pointers[2], hosts::drop as *const ());
    }
    let dim = if choice & 128 == 0 { DIM } else { input.i64() };
    let made = unsafe {
        make(STRUCT, |out, err| {
            mnemo_score_custom(machine.context, process.0, dim, ops.ptr(), host.user(), out, err)
        })
    };
    ops.check_unchanged();
    if dim > 0 {
        ops.check_status(made.err().unwrap_or(MNEMO_OK));
    }
    assert!(!ops.is_null() || made.is_err());
    let Ok(score) = made else { return assert_eq!(host.drops.get(), 0, "dropped what was not made") };
    if dim == DIM {
        unsafe { use_score(input, score, &host) };
    }
    assert_eq!(host.drops.get(), 0, "dropped too early");
    unsafe { mnemo_score_release(score) };
    let drops = ops.get::<usize>(pointers[2]).is_some_and(|p| p != 0);
    assert_eq!(host.drops.get(), u32::from(drops));
}

/// Every call that a custom score has, while its host fails as it likes.
unsafe fn use_score(input: &mut Input, score: *mut mnemo_score, host: &Host) {
    let dtype = input.pick(&REALS);
    let batch = input.below(4) as i64;
    let x = Tensor::good(input, batch, DIM, dtype, Fill::Values);
    let v = Tensor::good(input, batch, DIM, dtype, Fill::Values);
    let t = Tensor::good(input, 1, 1, MNEMO_F64, Fill::Times);
    let [s, d, j] = std::array::from_fn(|_| Tensor::good(input, batch, DIM, dtype, Fill::Canary));
    let check = |status: i32, native: i32, outputs: &[&Tensor]| {
        outputs.iter().for_each(|o| o.check_output(status));
        [&x, &v, &t].iter().for_each(|i| i.check_unchanged());
        if let Some(result) = host.failed() {
            assert_eq!((status, native), (MNEMO_E_CALLBACK, result));
        } else if host.calls.get() > 0 && host.spoils_results() {
            assert_eq!((status, native), (MNEMO_E_CALLBACK, 0));
        }
        host.calls.set(0);
    };
    unsafe {
        let mut outputs: mnemo_score_outputs = zeroed();
        mnemo_score_outputs_init(&raw mut outputs, size_of_val(&outputs));
        (outputs.score, outputs.denoised) = (s.ptr(), d.ptr());
        let (status, native, _) =
            answer(EVAL, |err| mnemo_score_eval(score, x.ptr(), t.ptr(), &raw const outputs, null(), err));
        check(status, native, &[&s, &d]);
        let (status, native, _) =
            answer(EVAL, |err| mnemo_score_jvp(score, x.ptr(), t.ptr(), v.ptr(), j.ptr(), null(), err));
        check(status, native, &[&j]);
        let mut options: mnemo_sampler_options = zeroed();
        mnemo_sampler_options_init(&raw mut options, size_of_val(&options));
        (options.solver, options.grid, options.steps) = (input.u32() % 8, input.u32() % 3, 3);
        let state = Tensor::good(input, batch, DIM, dtype, Fill::Values);
        let calls = Cell::new(0);
        let patient = hosts::patient(&calls);
        let (status, native, _) =
            answer(EVAL, |err| mnemo_sample(score, &raw const options, state.ptr(), &raw const patient, err));
        if status != MNEMO_OK {
            state.check_unchanged();
        }
        check(status, native, &[]);
    }
}

/// A score on the good data set, released by the caller.
unsafe fn empirical_options(input: &mut Input, world: &World, machine: &Machine) {
    let process = world.process(input);
    let options = Struct::any(input, mnemo_empirical_options_init, &[]);
    let made = unsafe {
        make(STRUCT, |out, err| mnemo_score_empirical(machine.dataset, process.0, options.ptr(), out, err))
    };
    options.check_unchanged();
    options.check_status(made.err().unwrap_or(MNEMO_OK));
    let Ok(score) = made else { return };
    drop(process);
    let dtype = input.pick(&REALS);
    let mut outputs: mnemo_score_outputs = unsafe { zeroed() };
    outputs.struct_size = size_of_val(&outputs) as u32;
    let given = Given::new(input, dtype, &mut outputs);
    let mut t = Tensor::good(input, 2, 1, MNEMO_F64, Fill::Times);
    if input.u8() & 1 == 1 {
        let any = [input.f64(), input.f64()];
        t = Tensor::of(&any);
    }
    unsafe {
        let status =
            call(EVAL, |err| mnemo_score_eval(score, given.x.ptr(), t.ptr(), &raw const outputs, null(), err));
        given.check(status);
        let j = Tensor::good(input, 2, DIM, dtype, Fill::Canary);
        let status =
            call(EVAL, |err| mnemo_score_jvp(score, given.x.ptr(), t.ptr(), given.x.ptr(), j.ptr(), null(), err));
        j.check_output(status);
        mnemo_score_release(score);
    }
}

/// Two points, and the tensors of every output.
struct Given {
    x: Tensor,
    outputs: [Tensor; 9],
}

/// Where the outputs are in their struct.
const OUTPUTS: [usize; 9] = [
    offset_of!(mnemo_score_outputs, score),
    offset_of!(mnemo_score_outputs, denoised),
    offset_of!(mnemo_score_outputs, log_density),
    offset_of!(mnemo_score_outputs, divergence),
    offset_of!(mnemo_score_outputs, entropy),
    offset_of!(mnemo_score_outputs, nearest_distance),
    offset_of!(mnemo_score_outputs, nearest_index),
    offset_of!(mnemo_score_outputs, denoised_error_bound),
    offset_of!(mnemo_score_outputs, log_density_error_bound),
];

impl Given {
    fn new(input: &mut Input, dtype: u32, outputs: &mut mnemo_score_outputs) -> Self {
        let column = input.pick(&REALS);
        let outputs_given = std::array::from_fn(|i| {
            let (cols, dtype) = match i {
                0 | 1 => (DIM, dtype),
                6 => (1, MNEMO_I64),
                _ => (1, column),
            };
            Tensor::good(input, 2, cols, dtype, Fill::Canary)
        });
        let given = Self { x: Tensor::good(input, 2, DIM, dtype, Fill::Values), outputs: outputs_given };
        let base = std::ptr::from_mut(outputs).cast::<u8>();
        for (at, tensor) in OUTPUTS.iter().zip(&given.outputs) {
            // SAFETY: these are the struct's pointers.
            unsafe { base.add(*at).cast::<*mut mnemo_tensor>().write(tensor.ptr()) };
        }
        given
    }

    fn check(&self, status: i32) {
        self.x.check_unchanged();
        self.outputs.iter().for_each(|o| o.check_output(status));
    }
}

unsafe fn score_outputs(input: &mut Input, machine: &Machine) {
    let mut outputs = Struct::any(input, mnemo_score_outputs_init, &OUTPUTS);
    let dtype = input.pick(&REALS);
    let mut all: mnemo_score_outputs = unsafe { zeroed() };
    let given = Given::new(input, dtype, &mut all);
    let choice = u16::from_le_bytes([input.u8(), input.u8()]);
    for (i, (&at, tensor)) in OUTPUTS.iter().zip(&given.outputs).enumerate() {
        if choice & 1 << i != 0 {
            outputs.set(at, tensor.ptr());
        }
    }
    let score = machine.any_score(input);
    let t = Tensor::good(input, 2, 1, MNEMO_F64, Fill::Times);
    let status =
        unsafe { call(EVAL, |err| mnemo_score_eval(score, given.x.ptr(), t.ptr(), outputs.ptr(), null(), err)) };
    outputs.check_unchanged();
    outputs.check_status(status);
    given.x.check_unchanged();
    for (&at, tensor) in OUTPUTS.iter().zip(&given.outputs) {
        if outputs.get::<usize>(at).is_some_and(|p| p != 0) {
            tensor.check_output(status);
        } else {
            tensor.check_unchanged();
        }
    }
}

unsafe fn exec(input: &mut Input, machine: &Machine) {
    let host = Host::new(machine, input);
    let requested = input.u8() & 1 == 1;
    unsafe {
        let cancel = make(INVALID, |out, err| mnemo_cancel_create(out, err)).expect("a cancel flag");
        if requested {
            assert_eq!(mnemo_cancel_request(cancel), MNEMO_OK);
        }
        let exec = hosts::any_exec(input, &host, cancel);
        let x = Tensor::good(input, 2, DIM, MNEMO_F64, Fill::Values);
        let t = Tensor::good(input, 1, 1, MNEMO_F64, Fill::Times);
        let out = Tensor::good(input, 2, DIM, MNEMO_F64, Fill::Canary);
        let score = machine.any_score(input);
        let status = match input.below(4) {
            0 => call(EVAL, |err| mnemo_score_jvp(score, x.ptr(), t.ptr(), x.ptr(), out.ptr(), exec.ptr(), err)),
            1 => call(NEAREST, |err| {
                mnemo_nearest(machine.dataset, x.ptr(), MNEMO_METRIC_L2, 3, out.ptr(), null_mut(), exec.ptr(), err)
            }),
            2 => {
                let mut outputs: mnemo_score_outputs = zeroed();
                outputs.struct_size = size_of_val(&outputs) as u32;
                outputs.denoised = out.ptr();
                call(EVAL, |err| mnemo_score_eval(score, x.ptr(), t.ptr(), &raw const outputs, exec.ptr(), err))
            }
            _ => {
                let mut options: mnemo_sampler_options = zeroed();
                mnemo_sampler_options_init(&raw mut options, size_of_val(&options));
                (options.steps, options.from_prior) = (2, 1);
                call(EVAL, |err| mnemo_sample(score, &raw const options, out.ptr(), exec.ptr(), err))
            }
        };
        out.check_output(status);
        x.check_unchanged();
        exec.check_unchanged();
        exec.check_status(status);
        let is_given = |at| exec.get::<usize>(at).is_some_and(|p| p != 0);
        if exec.deserves.is_none() && status != MNEMO_E_INVALID {
            let stopped = requested && is_given(offset_of!(mnemo_exec, cancel));
            let stopped = stopped || host.failed().is_some();
            assert_eq!(status, if stopped { MNEMO_E_CANCELLED } else { MNEMO_OK });
        }
        mnemo_cancel_release(cancel);
    }
}

unsafe fn sampler_options(input: &mut Input, world: &World, machine: &Machine) {
    const STEPS: usize = offset_of!(mnemo_sampler_options, steps);
    const TIMES: usize = offset_of!(mnemo_sampler_options, times);
    const COUNT: usize = offset_of!(mnemo_sampler_options, times_count);
    let pointers =
        [TIMES, offset_of!(mnemo_sampler_options, observer), offset_of!(mnemo_sampler_options, observer_user)];
    let mut options = Struct::any(input, mnemo_sampler_options_init, &pointers);
    // More steps are only slower, until they are too many.
    if let Some(steps) = options.get::<i64>(STEPS).filter(|s| (32..=100_000_000).contains(s)) {
        options.set(STEPS, steps % 32);
    }
    let times: Vec<f64> = (0..input.below(6)).map(|_| input.f64()).collect();
    if input.u8() & 1 == 1 {
        options.set(TIMES, times.as_ptr());
        if options.get::<i64>(COUNT).is_some_and(|n| n >= 0) {
            options.set(COUNT, times.len() as i64);
        }
    }
    let host = Host::new(machine, input);
    if input.u8() & 1 == 1 {
        options.set(pointers[1], hosts::observer as *const ());
    }
    options.set(pointers[2], host.user());
    let process = world.process(input);
    let own = (input.u8() & 1 == 1).then(|| unsafe {
        make(STRUCT, |out, err| mnemo_score_empirical(machine.dataset, process.0, null(), out, err)).expect("a score")
    });
    let score = own.unwrap_or_else(|| machine.any_score(input));
    let (batch, dtype) = (input.below(3) as i64, input.pick(&REALS));
    let x = Tensor::good(input, batch, DIM, dtype, Fill::Values);
    let calls = Cell::new(0);
    let patient = hosts::patient(&calls);
    let (status, native, message) =
        unsafe { answer(EVAL, |err| mnemo_sample(score, options.ptr(), x.ptr(), &raw const patient, err)) };
    options.check_unchanged();
    options.check_status(status);
    if status != MNEMO_OK {
        x.check_unchanged();
    }
    if let Some(result) = host.failed() {
        assert_eq!((status, native), (MNEMO_E_CALLBACK, result), "{message}");
    }
    if let Some(score) = own {
        unsafe { mnemo_score_release(score) };
    }
}

unsafe fn memorization(input: &mut Input, machine: &Machine) {
    let options = Struct::any(input, mnemo_memorization_options_init, &[]);
    let report = Struct::any(input, mnemo_memorization_report_init, &[]);
    let threshold = options.get::<f64>(offset_of!(mnemo_memorization_options, threshold)).unwrap_or(0.0);
    let generated = tensor(&DATA[..6], 2, DIM, MNEMO_F32);
    let status = unsafe {
        call(NEAREST, |err| {
            mnemo_memorization(machine.dataset, &raw const generated, options.ptr(), report.ptr(), null(), err)
        })
    };
    options.check_unchanged();
    let report_ok = !report.is_null() && report.deserves != Some(MNEMO_E_INVALID);
    if report_ok && threshold > 0.0 && threshold.is_finite() {
        options.check_status(status);
    }
    if status == MNEMO_OK {
        assert!(report_ok && threshold > 0.0 && options.deserves.is_none());
    }
    let value = mnemo_memorization_report {
        struct_size: 0,
        reserved: 0,
        samples: 2,
        copied: 2,
        fraction_copied: 1.0,
        min_distance: 0.0,
        median_distance: 0.0,
        max_distance: 0.0,
    };
    report.check_filled(status, &value);
}

unsafe fn inits(input: &mut Input) {
    match input.below(9) {
        0 => check_init(input, mnemo_context_options_init),
        1 => check_init(input, mnemo_dataset_options_init),
        2 => check_init(input, mnemo_dataset_info_init),
        3 => check_init(input, mnemo_exec_init),
        4 => check_init(input, mnemo_empirical_options_init),
        5 => check_init(input, mnemo_score_ops_init),
        6 => check_init(input, mnemo_score_outputs_init),
        7 => check_init(input, mnemo_sampler_options_init),
        _ => {
            check_init(input, mnemo_memorization_options_init);
            check_init(input, mnemo_memorization_report_init);
        }
    }
}

/// A process of any numbers at any times: nothing outside its range, no NaN within.
unsafe fn process(input: &mut Input, world: &World) {
    let process = world.process(input);
    let n = input.below(4);
    let times: Vec<f64> = (0..n).map(|_| input.f64()).collect();
    let outputs: [Memory; 4] = std::array::from_fn(|_| Memory::new(8 * n, 0));
    let want = input.u8();
    let at = |i: usize| if want & 1 << i != 0 { outputs[i].ptr::<f64>() } else { null_mut() };
    let status = unsafe {
        call(PROCESS_EVAL, |err| {
            mnemo_process_eval(process.0, times.as_ptr(), n as i64, at(0), at(1), at(2), at(3), err)
        })
    };
    for (i, memory) in outputs.iter().enumerate() {
        if status != MNEMO_OK || at(i).is_null() {
            assert!(memory.bytes().iter().all(|&b| b == mnemo_fuzz::memory::CANARY));
            continue;
        }
        for value in memory.bytes().chunks_exact(8).map(|b| f64::from_ne_bytes(b.try_into().unwrap())) {
            // m lies in [0, 1], sigma is finite, beta and g may be infinite at an end.
            let good = if i == 0 { (0.0..=1.0).contains(&value) } else { value >= 0.0 && (i > 1 || value.is_finite()) };
            assert!(good, "output {i} at {times:?} is {value}");
        }
    }
    let back = Memory::new(8 * n, 0);
    let status = unsafe {
        call(PROCESS_EVAL, |err| {
            mnemo_process_time_of_sigma(process.0, times.as_ptr(), n as i64, back.ptr(), err)
        })
    };
    for time in back.bytes().chunks_exact(8).map(|b| f64::from_ne_bytes(b.try_into().unwrap())) {
        assert!(status != MNEMO_OK || (time >= 0.0 && time.is_finite()), "time of {times:?} is {time}");
    }
}
