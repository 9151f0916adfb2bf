//! Versions, releases, cancel flags, contexts and processes.

use crate::rows;
use crate::support::*;
use mnemo::capi::{context::*, dataset::*, exec::*, process::*, score::*, status::*, tensor::*};
use std::ffi::{CStr, CString, c_char};
use std::ptr::{null, null_mut};

const NAN: f64 = f64::NAN;
const INF: f64 = f64::INFINITY;

pub fn abi_version(w: &World) {
    w.expect(mnemo_abi_version() == (MNEMO_ABI_MAJOR << 16) | MNEMO_ABI_MINOR, "(major << 16) | minor");
}

pub fn version(w: &World) {
    w.expect(
        unsafe { CStr::from_ptr(mnemo_version()) }.to_str() == Ok(env!("CARGO_PKG_VERSION")),
        "the package's version",
    );
}

pub fn status_names(w: &World) {
    let names: Vec<String> = (MNEMO_OK..=MNEMO_E_PANIC).map(status_name).collect();
    w.expect(names.iter().all(|n| n.starts_with("MNEMO_")), "every status has a name");
    w.expect(names.iter().collect::<std::collections::BTreeSet<_>>().len() == 14, "the names differ");
    for none in [-1, 14, i32::MIN, i32::MAX] {
        w.expect(status_name(none) == "unknown status", &format!("{none} has no name"));
    }
}

/// NULL is ignored by all of them; that they release is what every other row and `values::any_order` rely on.
pub fn releases(w: &World) {
    unsafe {
        mnemo_cancel_release(null_mut());
        mnemo_context_release(null_mut());
        mnemo_dataset_release(null_mut());
        mnemo_process_release(null_mut());
        mnemo_score_release(null_mut());
    }
    w.expect(true, "NULL is ignored");
}

pub fn exec_init(w: &World) {
    init_rows(w, mnemo_exec_init, |e| {
        e.flags == 0 && e.stream.is_null() && e.seed == 0 && e.cancel.is_null() && e.progress.is_none()
    });
}

struct CancelCreate(Out<mnemo_cancel>);

impl Call for CancelCreate {
    fn good(_: &World) -> Self {
        Self(Out::new(mnemo_cancel_release))
    }
    fn run(&mut self, err: *mut mnemo_error) -> i32 {
        unsafe { mnemo_cancel_create(self.0.ptr(), err) }
    }
    fn outputs(&self) -> Vec<Region> {
        vec![region(&self.0.handle)]
    }
}

pub fn cancel_create(w: &World) {
    rows! { w, CancelCreate, c;
        OK, "" => {};
        INVALID, "out" => c.0.null = true;
    }
}

pub fn cancel_request(w: &World) {
    w.expect(unsafe { mnemo_cancel_request(null_mut()) } == INVALID, "cancel NULL");
}

pub fn cancel_reset(w: &World) {
    w.expect(unsafe { mnemo_cancel_reset(null_mut()) } == INVALID, "cancel NULL");
}

struct ContextCreate {
    options: Sized<mnemo_context_options>,
    folder: CString,
    out: Out<mnemo_context>,
}

impl Call for ContextCreate {
    fn good(_: &World) -> Self {
        Self {
            options: Sized::new(mnemo_context_options_init),
            folder: CString::default(),
            out: Out::new(mnemo_context_release),
        }
    }
    fn run(&mut self, err: *mut mnemo_error) -> i32 {
        unsafe { mnemo_context_create(self.options.ptr(), self.out.ptr(), err) }
    }
    fn outputs(&self) -> Vec<Region> {
        vec![region(&self.out.handle)]
    }
}

pub fn context_options_init(w: &World) {
    init_rows(w, mnemo_context_options_init, |o| {
        (o.device_type, o.device_id, o.num_threads, o.memory_limit) == (MNEMO_CPU, 0, 0, 0)
            && o.instruction_set == MNEMO_ISA_BEST
            && o.kernel_cache_dir.is_null()
    });
}

pub fn context_create(w: &World) {
    sized_rows::<ContextCreate, _>(w, "options", OK, |c| &mut c.options);
    rows! { w, ContextCreate, c;
        OK, "" => {};
        OK, "" => c.options.null = true;
        OK, "" => c.options.num_threads = 3;
        INVALID, "out" => c.out.null = true;
        DEVICE, "device_type" => c.options.device_type = MNEMO_CUDA;
        INVALID, "device_type" => c.options.device_type = 0;
        INVALID, "device_type" => c.options.device_type = 3;
        INVALID, "device_type" => c.options.device_type = u32::MAX;
        INVALID, "num_threads" => c.options.num_threads = u32::MAX;
        INVALID, "instruction_set" => c.options.instruction_set = 5;
        INVALID, "reserved" => c.options.reserved = 1;
        INVALID, "kernel_cache_dir" => {
            c.folder = CString::new(b"\xFF\xFE".to_vec()).unwrap();
            c.options.kernel_cache_dir = c.folder.as_ptr();
        };
    }
}

struct WarmUp(*const mnemo_context);

impl Call for WarmUp {
    fn good(w: &World) -> Self {
        Self(w.context)
    }
    fn run(&mut self, err: *mut mnemo_error) -> i32 {
        unsafe { mnemo_context_warm_up(self.0, err) }
    }
    fn outputs(&self) -> Vec<Region> {
        Vec::new()
    }
}

pub fn context_warm_up(w: &World) {
    rows! { w, WarmUp, c;
        OK, "" => {};
        INVALID, "context" => c.0 = null();
    }
}

struct Describe {
    context: *const mnemo_context,
    json: [u8; 512],
    null: bool,
    capacity: usize,
    needed: usize,
    no_needed: bool,
}

impl Call for Describe {
    fn good(w: &World) -> Self {
        Self { context: w.context, json: [UNTOUCHED; 512], null: false, capacity: 512, needed: 0, no_needed: false }
    }
    fn run(&mut self, err: *mut mnemo_error) -> i32 {
        let json = if self.null { null_mut() } else { self.json.as_mut_ptr().cast::<c_char>() };
        let needed = if self.no_needed { null_mut() } else { &raw mut self.needed };
        let status = unsafe { mnemo_context_describe(self.context, json, self.capacity, needed, err) };
        if status == OK && !self.null {
            let text = CStr::from_bytes_until_nul(&self.json).expect("a NUL").to_str().expect("UTF-8");
            let parsed: serde_json::Value = serde_json::from_str(text).expect("JSON");
            for member in ["backend", "instruction_set", "threads", "device"] {
                assert!(!parsed[member].is_null(), "{member} in {text}");
            }
            assert!(self.no_needed || self.needed == text.len() + 1);
            assert!(self.json[text.len() + 1..].iter().all(|&b| b == UNTOUCHED));
        }
        status
    }
    fn outputs(&self) -> Vec<Region> {
        vec![region(&self.json)]
    }
}

pub fn context_describe(w: &World) {
    rows! { w, Describe, c;
        OK, "" => {};
        OK, "" => c.no_needed = true;
        OK, "" => (c.null, c.capacity) = (true, 0);
        OK, "" => (c.null, c.capacity, c.no_needed) = (true, 0, true);
        INVALID, "context" => c.context = null();
        INVALID, "json" => c.null = true;
        INVALID, "capacity" => c.capacity = 0;
        INVALID, "capacity" => c.capacity = 8;
        INVALID, "capacity" => (c.capacity, c.no_needed) = (8, true);
    }
    let mut whole = Describe::good(w);
    whole.run(null_mut());
    let (exact, mut short) = (whole.needed, Describe::good(w));
    short.capacity = exact - 1;
    w.expect(short.run(null_mut()) == INVALID && short.needed == exact, "needed is told when capacity is one too few");
    short.capacity = exact;
    w.expect(short.run(null_mut()) == OK, "capacity = needed is enough");
}

/// A process of up to three numbers.
struct Make<const WHICH: usize> {
    p: [f64; 3],
    out: Out<mnemo_process>,
}

impl<const WHICH: usize> Call for Make<WHICH> {
    fn good(_: &World) -> Self {
        let p = [[0.1, 20.0, 1.0], [0.1, 20.0, NAN], [2.0, 1.0, 80.0], [100.0, 1.0, NAN], [0.01, 50.0, NAN], [NAN; 3]];
        Self { p: p[WHICH], out: Out::new(mnemo_process_release) }
    }
    fn run(&mut self, err: *mut mnemo_error) -> i32 {
        let ([a, b, c], out) = (self.p, self.out.ptr());
        unsafe {
            match WHICH {
                0 => mnemo_process_vp_linear(a, b, c, out, err),
                1 => mnemo_process_sub_vp(a, b, out, err),
                2 => mnemo_process_ve_power(a, b, c, out, err),
                3 => mnemo_process_ve_exponential(a, b, out, err),
                4 => mnemo_process_ve_geometric(a, b, out, err),
                _ => mnemo_process_flow(out, err),
            }
        }
    }
    fn outputs(&self) -> Vec<Region> {
        vec![region(&self.out.handle)]
    }
}

/// NULL, and each parameter at values that none accepts and at the worst of its own.
fn process_rows<const WHICH: usize>(w: &World, parameters: &[(&str, &[f64])]) {
    rows! { w, Make<WHICH>, c;
        OK, "" => {};
        INVALID, "out" => c.out.null = true;
    }
    for (i, (name, bad)) in parameters.iter().enumerate() {
        for &v in [NAN, INF, -INF].iter().chain(*bad) {
            w.row::<Make<WHICH>>(&format!("{name} = {v}"), INVALID, name, |c| c.p[i] = v);
        }
    }
}

pub fn process_vp_linear(w: &World) {
    process_rows::<0>(w, &[("beta_min", &[-0.1]), ("beta_max", &[-1.0]), ("t_end", &[0.0, -1.0, f64::MAX, 5e-324])]);
    rows! { w, Make<0>, c;
        INVALID, "beta_max" => c.p = [0.0, 0.0, 1.0];
        OK, "" => c.p = [1.0, 1.0, 1.0];
    }
}

pub fn process_sub_vp(w: &World) {
    process_rows::<1>(w, &[("beta_min", &[-0.1]), ("beta_max", &[-1.0])]);
}

pub fn process_ve_power(w: &World) {
    process_rows::<2>(w, &[("k", &[0.0, -1.0]), ("a", &[-1.0, -2.0, 1e300]), ("t_end", &[0.0, -1.0, f64::MAX])]);
}

pub fn process_ve_exponential(w: &World) {
    process_rows::<3>(w, &[("rate_base", &[0.0, -1.0]), ("t_end", &[0.0, -1.0, 1e6])]);
    rows! { w, Make<3>, c;
        OK, "" => c.p[0] = 1.0;
    }
}

pub fn process_ve_geometric(w: &World) {
    process_rows::<4>(w, &[("sigma_min", &[0.0, -1.0]), ("sigma_max", &[0.01, 0.001, 0.0, -1.0])]);
}

pub fn process_flow(w: &World) {
    process_rows::<5>(w, &[]);
}

struct Discrete {
    table: Vec<f64>,
    data: *const f64,
    steps: i64,
    out: Out<mnemo_process>,
}

impl Call for Discrete {
    fn good(_: &World) -> Self {
        let table = vec![0.9, 0.5, 0.1];
        Self { data: table.as_ptr(), steps: 3, table, out: Out::new(mnemo_process_release) }
    }
    fn run(&mut self, err: *mut mnemo_error) -> i32 {
        unsafe { mnemo_process_discrete(self.data, self.steps, self.out.ptr(), err) }
    }
    fn outputs(&self) -> Vec<Region> {
        vec![region(&self.out.handle)]
    }
}

pub fn process_discrete(w: &World) {
    rows! { w, Discrete, c;
        OK, "" => {};
        OK, "" => c.steps = 1;
        INVALID, "out" => c.out.null = true;
        INVALID, "alpha_bar" => c.data = null();
        INVALID, "alpha_bar" => c.data = c.data.wrapping_byte_add(1);
        INVALID, "alpha_bar" => c.steps = 0;
        INVALID, "steps" => c.steps = -1;
        INVALID, "steps" => c.steps = i64::MIN;
        SHAPE, "steps" => c.steps = i64::MAX;
    }
    for bad in [1.0, 0.5, 0.0, -0.1, 2.0, NAN, INF, 5e-324] {
        w.row::<Discrete>(&format!("alpha_bar[2] = {bad}"), INVALID, "alpha_bar", |c| c.table[2] = bad);
    }
}

struct Eval {
    process: *const mnemo_process,
    input: Vec<f64>,
    data: *const f64,
    n: i64,
    out: [[u64; 4]; 4],
    wanted: [bool; 4],
    inverse: bool,
}

impl Call for Eval {
    fn good(w: &World) -> Self {
        let input = vec![0.5, 1.0, 2.0];
        let out = [[u64::from_ne_bytes([UNTOUCHED; 8]); 4]; 4];
        Self { process: w.process, data: input.as_ptr(), input, n: 3, out, wanted: [true; 4], inverse: false }
    }
    fn run(&mut self, err: *mut mnemo_error) -> i32 {
        let mut wanted = self.wanted.iter();
        let [m, sigma, beta, g] =
            self.out.each_mut().map(|o| if *wanted.next().unwrap() { o.as_mut_ptr().cast() } else { null_mut() });
        unsafe {
            if self.inverse {
                mnemo_process_time_of_sigma(self.process, self.data, self.n, m, err)
            } else {
                mnemo_process_eval(self.process, self.data, self.n, m, sigma, beta, g, err)
            }
        }
    }
    fn outputs(&self) -> Vec<Region> {
        vec![region(&self.out)]
    }
}

/// What the evaluation and its inverse have in common; the input of one is t, of the other sigma.
fn array_rows(w: &World, inverse: bool, name: &str) {
    type Change = fn(&mut Eval);
    let rows: [(&str, i32, &str, Change); 14] = [
        ("good", OK, "", |_| {}),
        ("n = 0", OK, "", |c| c.n = 0),
        ("n = 0 of nothing", OK, "", |c| (c.n, c.data, c.wanted) = (0, null(), [false; 4])),
        ("process NULL", INVALID, "process", |c| c.process = null()),
        ("n = -1", INVALID, "n", |c| c.n = -1),
        ("n = i64::MIN", INVALID, "n", |c| c.n = i64::MIN),
        ("n = i64::MAX", SHAPE, "n", |c| c.n = i64::MAX),
        ("input NULL", INVALID, name, |c| c.data = null()),
        ("input misaligned", INVALID, name, |c| c.data = c.data.wrapping_byte_add(4)),
        ("outside", INVALID, name, |c| c.input[2] = 80.5),
        ("negative", INVALID, name, |c| c.input[2] = -1e-300),
        ("NaN", INVALID, name, |c| c.input[2] = NAN),
        ("infinite", INVALID, name, |c| c.input[2] = INF),
        ("-infinite", INVALID, name, |c| c.input[2] = -INF),
    ];
    for (what, code, name, change) in rows {
        w.row::<Eval>(what, code, name, |c| {
            c.inverse = inverse;
            change(c);
        });
    }
}

pub fn process_eval(w: &World) {
    array_rows(w, false, "t");
    rows! { w, Eval, c;
        OK, "" => c.wanted = [false; 4];
        OK, "" => c.wanted = [false, true, false, true];
    }
}

pub fn process_time_of_sigma(w: &World) {
    array_rows(w, true, "sigma");
    rows! { w, Eval, c;
        INVALID, "t" => (c.inverse, c.wanted[0]) = (true, false);
    }
}
