// SPDX-License-Identifier: MIT OR Apache-2.0
//! Good objects, made once, for calls of which something else is wrong.

use crate::calls::{COPY, CONTEXT, EVAL, INVALID, STRUCT, call, make};
use crate::input::Input;
use mnemo::capi::{context::*, dataset::*, process::*, score::*, status::*, tensor::*};
use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::OnceLock;

/// The data set's rows and columns.
pub const ROWS: i64 = 5;
pub const DIM: i64 = 3;

/// Its values.
pub const DATA: [f32; 15] = [0.0, 1.0, -1.0, 0.5, 0.25, 2.0, -1.5, 0.0, 0.0, 1.0, 1.0, 1.0, -0.25, 3.0, -2.0];
pub const LABELS: [i32; 5] = [0, 1, 0, 1, 2];

/// What computes on one instruction set.
pub struct Machine {
    pub context: *mut mnemo_context,
    pub dataset: *mut mnemo_dataset,
    /// Plain, Tikhonov, Bayes (density), Bayes (weight), conditional; under EDM's process.
    pub scores: Vec<*mut mnemo_score>,
    /// s = -x.
    pub custom: *mut mnemo_score,
    expected: [f64; 3],
}

pub struct World {
    pub machines: Vec<Machine>,
    /// One of each kind.
    pub processes: [*mut mnemo_process; 7],
}

// SAFETY: the objects are immutable and the library allows their use by many threads.
unsafe impl Send for World {}
// SAFETY: as above.
unsafe impl Sync for World {}

/// The tensor of some values.
pub fn tensor<T>(data: &[T], rows: i64, cols: i64, dtype: u32) -> mnemo_tensor {
    assert_eq!(data.len(), (rows * cols) as usize);
    mnemo_tensor {
        data: data.as_ptr().cast_mut().cast(),
        rows,
        cols,
        row_stride: 0,
        dtype,
        device_type: MNEMO_CPU,
        device_id: 0,
        reserved: 0,
    }
}

unsafe extern "C" fn minus_x(
    _: *mut c_void,
    x: *const mnemo_tensor,
    _: *const mnemo_tensor,
    out: *mut mnemo_tensor,
    _: *mut c_void,
) -> i32 {
    // SAFETY: the library's own tensors, contiguous and of one type.
    unsafe { negate(&*x, &*out) }
    0
}

unsafe extern "C" fn minus_v(
    _: *mut c_void,
    _: *const mnemo_tensor,
    _: *const mnemo_tensor,
    v: *const mnemo_tensor,
    out: *mut mnemo_tensor,
    _: *mut c_void,
) -> i32 {
    // SAFETY: as above.
    unsafe { negate(&*v, &*out) }
    0
}

/// out = -x, for callbacks.
///
/// # Safety
/// Both are the contiguous tensors of a callback.
pub unsafe fn negate(x: &mnemo_tensor, out: &mnemo_tensor) {
    assert_eq!((x.rows, x.cols, x.dtype), (out.rows, out.cols, out.dtype));
    assert!(x.row_stride == 0 && out.row_stride == 0 && x.device_type == MNEMO_CPU);
    for k in 0..(x.rows * x.cols) as usize {
        // SAFETY: as promised.
        unsafe {
            match x.dtype {
                MNEMO_F32 => out.data.cast::<f32>().add(k).write(-x.data.cast::<f32>().add(k).read()),
                MNEMO_F64 => out.data.cast::<f64>().add(k).write(-x.data.cast::<f64>().add(k).read()),
                other => unreachable!("a callback was given element type {other}"),
            }
        }
    }
}

impl Machine {
    fn new(instruction_set: u32, edm: *mut mnemo_process) -> Option<Self> {
        // SAFETY: everything below is a good call.
        unsafe {
            let mut options: mnemo_context_options = std::mem::zeroed();
            mnemo_context_options_init(&raw mut options, size_of_val(&options));
            (options.num_threads, options.instruction_set) = (1, instruction_set);
            let context = make(CONTEXT, |out, err| mnemo_context_create(&raw const options, out, err)).ok()?;
            let (rows, labels) = (tensor(&DATA, ROWS, DIM, MNEMO_F32), tensor(&LABELS, ROWS, 1, MNEMO_I32));
            let dataset = make(COPY, |out, err| {
                mnemo_dataset_copy(context, &raw const rows, &raw const labels, null(), out, err)
            })
            .expect("a good data set");
            let kinds = [MNEMO_REG_NONE, MNEMO_REG_TIKHONOV, MNEMO_REG_BAYES_DENSITY, MNEMO_REG_BAYES_WEIGHT];
            let scores = (0..5)
                .map(|i| {
                    let mut options: mnemo_empirical_options = std::mem::zeroed();
                    mnemo_empirical_options_init(&raw mut options, size_of_val(&options));
                    (options.regularizer, options.strength) = (kinds[i % 4], 0.01);
                    options.conditional = u32::from(i == 4);
                    make(STRUCT, |out, err| mnemo_score_empirical(dataset, edm, &raw const options, out, err))
                        .expect("a good score")
                })
                .collect();
            let mut ops: mnemo_score_ops = std::mem::zeroed();
            mnemo_score_ops_init(&raw mut ops, size_of_val(&ops));
            ops.eval = Some(minus_x);
            ops.jvp = Some(minus_v);
            let custom =
                make(STRUCT, |out, err| mnemo_score_custom(context, edm, DIM, &raw const ops, null_mut(), out, err))
                    .expect("a good custom score");
            let mut machine = Self { context, dataset, scores, custom, expected: [0.0; 3] };
            machine.expected = machine.evaluate();
            assert!(machine.expected.iter().all(|v| v.is_finite() && *v != 0.0));
            Some(machine)
        }
    }

    fn evaluate(&self) -> [f64; 3] {
        let (x, t, mut s) = ([0.5, -0.25, 1.0], [0.75], [0.0; 3]);
        let (x, t, mut score) =
            (tensor(&x, 1, 3, MNEMO_F64), tensor(&t, 1, 1, MNEMO_F64), tensor(&s, 1, 3, MNEMO_F64));
        score.data = s.as_mut_ptr().cast();
        // SAFETY: a good call.
        unsafe {
            let mut outputs: mnemo_score_outputs = std::mem::zeroed();
            mnemo_score_outputs_init(&raw mut outputs, size_of_val(&outputs));
            outputs.score = &raw mut score;
            let status = call(EVAL, |err| {
                mnemo_score_eval(self.scores[0], &raw const x, &raw const t, &raw const outputs, null(), err)
            });
            assert_eq!(status, MNEMO_OK);
        }
        s
    }

    /// A good call gives what it always gave.
    pub fn check_usable(&self) {
        assert_eq!(self.evaluate().map(f64::to_bits), self.expected.map(f64::to_bits), "another result than before");
    }

    /// The same for one input in eight, always the same ones: an evaluation costs more than most calls that fail.
    pub fn check_usable_now_and_then(&self, data: &[u8]) {
        if data.iter().fold(0u8, |sum, b| sum.wrapping_mul(31).wrapping_add(*b)).is_multiple_of(8) {
            self.check_usable();
        }
    }

    pub fn any_score(&self, input: &mut Input) -> *mut mnemo_score {
        match input.below(6) {
            5 => self.custom,
            k => self.scores[k],
        }
    }
}

impl World {
    pub fn get() -> &'static Self {
        static WORLD: OnceLock<World> = OnceLock::new();
        WORLD.get_or_init(|| {
            let table = [0.99, 0.9, 0.5, 0.1, 0.01];
            // SAFETY: good calls.
            let processes = unsafe {
                [
                    make(INVALID, |out, err| mnemo_process_ve_power(2.0, 1.0, 80.0, out, err)),
                    make(INVALID, |out, err| mnemo_process_vp_linear(0.1, 20.0, 1.0, out, err)),
                    make(INVALID, |out, err| mnemo_process_sub_vp(0.1, 20.0, out, err)),
                    make(INVALID, |out, err| mnemo_process_ve_exponential(100.0, 1.0, out, err)),
                    make(INVALID, |out, err| mnemo_process_ve_geometric(0.01, 50.0, out, err)),
                    make(INVALID, |out, err| mnemo_process_discrete(table.as_ptr(), 5, out, err)),
                    make(INVALID, |out, err| mnemo_process_flow(out, err)),
                ]
                .map(|p| p.expect("a good process"))
            };
            let sets = [MNEMO_ISA_PORTABLE, MNEMO_ISA_AVX2, MNEMO_ISA_AVX512, MNEMO_ISA_AMX];
            Self { machines: sets.iter().filter_map(|&set| Machine::new(set, processes[0])).collect(), processes }
        })
    }

    pub fn machine(&self, input: &mut Input) -> &Machine {
        &self.machines[input.below(self.machines.len())]
    }

    /// One of the fixed processes, or one of any numbers.
    pub fn process(&self, input: &mut Input) -> Process {
        let kind = input.u8();
        if kind < 128 {
            return Process(self.processes[usize::from(kind % 7)], false);
        }
        // SAFETY: the table holds as many numbers as it says.
        let made = unsafe {
            make(INVALID, |out, err| match kind % 6 {
                0 => mnemo_process_ve_power(input.f64(), input.f64(), input.f64(), out, err),
                1 => mnemo_process_vp_linear(input.f64(), input.f64(), input.f64(), out, err),
                2 => mnemo_process_sub_vp(input.f64(), input.f64(), out, err),
                3 => mnemo_process_ve_exponential(input.f64(), input.f64(), out, err),
                4 => mnemo_process_ve_geometric(input.f64(), input.f64(), out, err),
                _ => {
                    let table: Vec<f64> = (0..input.below(6)).map(|_| input.f64()).collect();
                    mnemo_process_discrete(table.as_ptr(), table.len() as i64, out, err)
                }
            })
        };
        made.map_or(Process(self.processes[0], false), |p| Process(p, true))
    }
}

/// A process, released if it is not one of the fixed ones.
pub struct Process(pub *mut mnemo_process, bool);

impl Drop for Process {
    fn drop(&mut self) {
        if self.1 {
            // SAFETY: made by `World::process` and used by nobody else.
            unsafe { mnemo_process_release(self.0) };
        }
    }
}
