//! What the table is made of: arguments that are easy to spoil, a world of good objects, and the check of one row.

use mnemo::capi::{context::*, dataset::*, exec::*, process::*, score::*, status::*, tensor::*};
use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_void};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::{null, null_mut};

pub const OK: i32 = MNEMO_OK;
pub const INVALID: i32 = MNEMO_E_INVALID;
pub const SHAPE: i32 = MNEMO_E_SHAPE;
pub const DTYPE: i32 = MNEMO_E_DTYPE;
pub const DEVICE: i32 = MNEMO_E_DEVICE;
pub const NOMEM: i32 = MNEMO_E_NOMEM;
pub const IO: i32 = MNEMO_E_IO;
pub const CANCELLED: i32 = MNEMO_E_CANCELLED;
pub const CALLBACK: i32 = MNEMO_E_CALLBACK;
pub const UNSUPPORTED: i32 = MNEMO_E_UNSUPPORTED;

/// What outputs hold before a call.
pub const UNTOUCHED: u8 = 0xA5;

/// Memory that a failed call must not change.
pub type Region = *const [u8];

/// The bytes of `value`.
pub fn region<T>(value: &T) -> Region {
    std::ptr::slice_from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>())
}

/// A call with arguments that are accepted, until a row of the table changes one.
pub trait Call {
    fn good(w: &World) -> Self;
    /// Calls the function.
    fn run(&mut self, err: *mut mnemo_error) -> i32;
    /// What stays as it is on failure.
    fn outputs(&self) -> Vec<Region>;
}

/// Rows of the table: the status (or status and native number), the word its message must hold, and what is changed in a
/// good call. The text of the change is the row's name.
#[macro_export]
macro_rules! rows {
    ($w:expr, $call:ty, $c:ident; $($expected:expr, $name:literal => $change:expr;)*) => {
        $($w.row::<$call>(stringify!($change), $expected, $name, |$c: &mut $call| {
            let _ = &$c;
            $change;
        });)*
    };
}

pub struct Expected(i32, i32);

impl From<i32> for Expected {
    fn from(code: i32) -> Self {
        Self(code, 0)
    }
}

impl From<(i32, i32)> for Expected {
    fn from((code, native): (i32, i32)) -> Self {
        Self(code, native)
    }
}

/// A tensor and its memory.
pub struct Tensor {
    view: mnemo_tensor,
    memory: Vec<u64>,
    pub null: bool,
}

impl Deref for Tensor {
    type Target = mnemo_tensor;
    fn deref(&self) -> &mnemo_tensor {
        &self.view
    }
}

impl DerefMut for Tensor {
    fn deref_mut(&mut self) -> &mut mnemo_tensor {
        &mut self.view
    }
}

pub trait Number: Copy {
    const DTYPE: u32;
}

macro_rules! number {
    ($($t:ty => $d:ident),*) => {$(impl Number for $t { const DTYPE: u32 = $d; })*};
}
number!(f32 => MNEMO_F32, f64 => MNEMO_F64, u8 => MNEMO_U8, i32 => MNEMO_I32, i64 => MNEMO_I64);

impl Tensor {
    /// An output: its memory is untouched.
    pub fn output<T: Number>(rows: i64, cols: i64) -> Self {
        let mut memory = vec![u64::from_ne_bytes([UNTOUCHED; 8]); (rows * cols + 1) as usize];
        let view = mnemo_tensor {
            data: memory.as_mut_ptr().cast(),
            rows,
            cols,
            row_stride: 0,
            dtype: T::DTYPE,
            device_type: MNEMO_CPU,
            device_id: 0,
            reserved: 0,
        };
        Self { view, memory, null: false }
    }

    pub fn matrix<T: Number>(cols: i64, values: &[T]) -> Self {
        let mut tensor = Self::output::<T>(values.len() as i64 / cols.max(1), cols);
        for (i, v) in values.iter().enumerate() {
            tensor.set(i, *v);
        }
        tensor
    }

    pub fn vector<T: Number>(values: &[T]) -> Self {
        Self::matrix(1, values)
    }

    pub fn set<T: Number>(&mut self, i: usize, value: T) {
        assert!(T::DTYPE == self.dtype && (i + 1) * size_of::<T>() <= self.memory.len() * 8);
        unsafe { self.memory.as_mut_ptr().cast::<T>().add(i).write(value) }
    }

    pub fn get<T: Number>(&self, i: usize) -> T {
        assert!(T::DTYPE == self.dtype && (i + 1) * size_of::<T>() <= self.memory.len() * 8);
        unsafe { self.memory.as_ptr().cast::<T>().add(i).read() }
    }

    pub fn values<T: Number>(&self) -> Vec<T> {
        (0..(self.rows * self.cols) as usize).map(|i| self.get(i)).collect()
    }

    pub fn ptr(&mut self) -> *mut mnemo_tensor {
        if self.null { null_mut() } else { &raw mut self.view }
    }

    pub fn bytes(&self) -> Region {
        std::ptr::slice_from_raw_parts(self.memory.as_ptr().cast(), self.memory.len() * 8)
    }
}

/// A struct that begins with its size, with zeros behind it for a longer version of itself.
pub struct Sized<S> {
    memory: Vec<u64>,
    pub null: bool,
    pub misaligned: bool,
    kind: PhantomData<S>,
}

impl<S> Sized<S> {
    pub fn new(init: unsafe extern "C" fn(*mut S, usize)) -> Self {
        let mut memory = vec![0u64; size_of::<S>() / 8 + 9];
        unsafe { init(memory.as_mut_ptr().cast(), size_of::<S>()) };
        Self { memory, null: false, misaligned: false, kind: PhantomData }
    }

    pub fn set_size(&mut self, size: usize) {
        unsafe { self.memory.as_mut_ptr().cast::<u32>().write(size as u32) }
    }

    pub fn set_bytes(&mut self, range: std::ops::Range<usize>, value: u8) {
        assert!(range.end <= self.memory.len() * 8);
        unsafe { self.memory.as_mut_ptr().cast::<u8>().add(range.start).write_bytes(value, range.len()) }
    }

    pub fn ptr(&mut self) -> *mut S {
        let p = self.memory.as_mut_ptr().cast::<u8>();
        if self.null { null_mut() } else { p.wrapping_add(if self.misaligned { 2 } else { 0 }).cast() }
    }

    pub fn bytes(&self) -> Region {
        std::ptr::slice_from_raw_parts(self.memory.as_ptr().cast(), self.memory.len() * 8)
    }
}

impl<S> Deref for Sized<S> {
    type Target = S;
    fn deref(&self) -> &S {
        unsafe { &*self.memory.as_ptr().cast() }
    }
}

impl<S> DerefMut for Sized<S> {
    fn deref_mut(&mut self) -> &mut S {
        unsafe { &mut *self.memory.as_mut_ptr().cast() }
    }
}

/// Where a new handle goes; what arrives is released.
pub struct Out<T> {
    pub handle: *mut T,
    pub null: bool,
    release: unsafe extern "C" fn(*mut T),
}

impl<T> Out<T> {
    pub fn new(release: unsafe extern "C" fn(*mut T)) -> Self {
        Self { handle: Self::untouched(), null: false, release }
    }

    fn untouched() -> *mut T {
        std::ptr::without_provenance_mut(usize::from_ne_bytes([UNTOUCHED; 8]))
    }

    pub fn ptr(&mut self) -> *mut *mut T {
        if self.null { null_mut() } else { &raw mut self.handle }
    }

    /// The handle, for the caller to release.
    pub fn take(mut self) -> *mut T {
        std::mem::replace(&mut self.handle, Self::untouched())
    }
}

impl<T> Drop for Out<T> {
    fn drop(&mut self) {
        if self.handle != Self::untouched() {
            unsafe { (self.release)(self.handle) }
        }
    }
}

/// What the host's callbacks do: they return these numbers, and eval and jvp write -x and -v plus `add`.
#[derive(Default)]
pub struct Host {
    pub eval: Cell<i32>,
    pub jvp: Cell<i32>,
    pub observer: Cell<i32>,
    pub progress: Cell<i32>,
    pub add: Cell<f64>,
    pub drops: Cell<u32>,
}

impl Host {
    pub fn user(&self) -> *mut c_void {
        std::ptr::from_ref(self).cast_mut().cast()
    }

    unsafe fn of<'a>(user: *mut c_void) -> &'a Self {
        unsafe { &*user.cast() }
    }

    unsafe fn write(&self, from: *const mnemo_tensor, out: *mut mnemo_tensor) {
        let (from, out) = unsafe { (&*from, &*out) };
        assert!((from.rows, from.cols, from.dtype) == (out.rows, out.cols, out.dtype));
        for i in 0..(from.rows * from.cols) as usize {
            unsafe {
                match from.dtype {
                    MNEMO_F32 => {
                        let v = -from.data.cast::<f32>().add(i).read() + self.add.get() as f32;
                        out.data.cast::<f32>().add(i).write(v);
                    }
                    _ => {
                        let v = -from.data.cast::<f64>().add(i).read() + self.add.get();
                        out.data.cast::<f64>().add(i).write(v);
                    }
                }
            }
        }
    }

    /// All callbacks, with the standard normal's score and its derivative.
    pub fn ops() -> Sized<mnemo_score_ops> {
        let mut ops = Sized::new(mnemo_score_ops_init);
        ops.eval = Some(host_eval);
        ops.jvp = Some(host_jvp);
        ops.drop = Some(host_drop);
        ops
    }
}

pub unsafe extern "C" fn host_eval(
    user: *mut c_void,
    x: *const mnemo_tensor,
    _: *const mnemo_tensor,
    out: *mut mnemo_tensor,
    _: *mut c_void,
) -> i32 {
    unsafe {
        Host::of(user).write(x, out);
        Host::of(user).eval.get()
    }
}

pub unsafe extern "C" fn host_jvp(
    user: *mut c_void,
    _: *const mnemo_tensor,
    _: *const mnemo_tensor,
    v: *const mnemo_tensor,
    out: *mut mnemo_tensor,
    _: *mut c_void,
) -> i32 {
    unsafe {
        Host::of(user).write(v, out);
        Host::of(user).jvp.get()
    }
}

pub unsafe extern "C" fn host_drop(user: *mut c_void) {
    let drops = unsafe { &Host::of(user).drops };
    drops.set(drops.get() + 1);
}

pub unsafe extern "C" fn host_observer(user: *mut c_void, step: u64, _: f64, _: *const mnemo_tensor) -> i32 {
    if step == 2 { unsafe { Host::of(user) }.observer.get() } else { 0 }
}

pub unsafe extern "C" fn host_progress(user: *mut c_void, _: u64, _: u64) -> i32 {
    unsafe { Host::of(user) }.progress.get()
}

/// Good objects: four labelled rows of three numbers, EDM's process (sigma = t, T = 80), the empirical score of these,
/// the same under the flow, and a custom score over `host`.
pub struct World {
    pub context: *mut mnemo_context,
    pub data: *mut mnemo_dataset,
    pub unlabelled: *mut mnemo_dataset,
    pub process: *mut mnemo_process,
    pub flow: *mut mnemo_process,
    pub score: *mut mnemo_score,
    pub flow_score: *mut mnemo_score,
    pub custom: *mut mnemo_score,
    pub requested: *mut mnemo_cancel,
    pub host: Box<Host>,
    pub folder: tempfile::TempDir,
    pub function: Cell<&'static str>,
    pub rows: Cell<usize>,
    failures: RefCell<Vec<String>>,
}

pub const DATA: [f64; 12] = [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 3.0];

/// What a maker puts in its `out`.
pub fn made<T>(release: unsafe extern "C" fn(*mut T), make: impl FnOnce(*mut *mut T) -> i32) -> *mut T {
    let mut out = Out::new(release);
    assert_eq!(make(out.ptr()), OK);
    out.take()
}

impl World {
    pub fn new() -> Self {
        let host = Box::<Host>::default();
        unsafe {
            let context = made(mnemo_context_release, |p| mnemo_context_create(null(), p, null_mut()));
            let mut rows = Tensor::matrix(3, &DATA);
            let mut labels = Tensor::vector(&[0i64, 0, 7, 7]);
            let [data, unlabelled] = [labels.ptr(), null_mut()].map(|l| {
                made(mnemo_dataset_release, |p| mnemo_dataset_copy(context, rows.ptr(), l, null(), p, null_mut()))
            });
            let process = made(mnemo_process_release, |p| mnemo_process_ve_power(2.0, 1.0, 80.0, p, null_mut()));
            let flow = made(mnemo_process_release, |p| mnemo_process_flow(p, null_mut()));
            let [score, flow_score] = [process, flow].map(|process| {
                made(mnemo_score_release, |p| mnemo_score_empirical(data, process, null(), p, null_mut()))
            });
            let custom = made(mnemo_score_release, |p| {
                mnemo_score_custom(context, process, 3, Host::ops().ptr(), host.user(), p, null_mut())
            });
            let requested = made(mnemo_cancel_release, |p| mnemo_cancel_create(p, null_mut()));
            assert_eq!(mnemo_cancel_request(requested), OK);
            Self {
                context,
                data,
                unlabelled,
                process,
                flow,
                score,
                flow_score,
                custom,
                requested,
                host,
                folder: tempfile::tempdir().expect("a temporary folder"),
                function: Cell::new(""),
                rows: Cell::new(0),
                failures: RefCell::default(),
            }
        }
    }

    /// One row of the table: `change` is made to a good call, which is called with an error struct and without one.
    pub fn row<C: Call>(&self, what: &str, expected: impl Into<Expected>, name: &str, change: impl Fn(&mut C)) {
        let Expected(code, native) = expected.into();
        self.rows.set(self.rows.get() + 1);
        for with_error in [true, false] {
            for cell in [&self.host.eval, &self.host.jvp, &self.host.observer, &self.host.progress] {
                cell.set(0);
            }
            self.host.add.set(0.0);
            let mut call = C::good(self);
            change(&mut call);
            let before: Vec<Vec<u8>> = call.outputs().iter().map(|r| unsafe { (**r).to_vec() }).collect();
            let mut err: mnemo_error = unsafe { std::mem::transmute([UNTOUCHED; size_of::<mnemo_error>()]) };
            let status = call.run(if with_error { &raw mut err } else { null_mut() });
            let message = if with_error { check_error(&err, status, native, name) } else { Ok(String::new()) };
            let mut wrong = Vec::new();
            if status != code {
                wrong.push(format!("status {}, not {}", status_name(status), status_name(code)));
            }
            match message {
                Ok(text) if status != code => wrong.push(format!("'{text}'")),
                Ok(_) => {}
                Err(complaint) => wrong.push(complaint),
            }
            let after = call.outputs();
            if code != OK && before.iter().zip(after).any(|(b, r)| *b != unsafe { (*r).to_vec() }) {
                wrong.push("an output was touched".into());
            }
            if !wrong.is_empty() {
                let without = if with_error { "" } else { " (err = NULL)" };
                self.fail(format!("{what}{without}: {}", wrong.join("; ")));
                return;
            }
        }
    }

    /// Keeps a failure for the end, so that one run shows all of them.
    pub fn fail(&self, what: String) {
        let what: Vec<&str> = what.split_whitespace().collect();
        self.failures.borrow_mut().push(format!("{}: {}", self.function.get(), what.join(" ")));
    }

    pub fn expect(&self, holds: bool, what: &str) {
        self.rows.set(self.rows.get() + 1);
        if !holds {
            self.fail(what.into());
        }
    }

    pub fn failures(&self) -> Vec<String> {
        self.failures.take()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        unsafe {
            mnemo_context_release(self.context);
            mnemo_process_release(self.process);
            mnemo_process_release(self.flow);
            mnemo_dataset_release(self.data);
            mnemo_dataset_release(self.unlabelled);
            mnemo_cancel_release(self.requested);
            for score in [self.score, self.flow_score, self.custom] {
                mnemo_score_release(score);
            }
        }
        assert_eq!(self.host.drops.get(), 1, "drop is called once");
    }
}

pub fn status_name(status: i32) -> String {
    unsafe { CStr::from_ptr(mnemo_status_name(status)) }.to_string_lossy().into_owned()
}

/// The message, if the struct says what the header promises.
fn check_error(err: &mnemo_error, status: i32, native: i32, name: &str) -> Result<String, String> {
    let bytes: Vec<u8> = err.message.iter().map(|&c| c.cast_unsigned()).collect();
    let len = err.len as usize;
    if err.code != status || err.reserved != 0 || len >= bytes.len() || bytes.iter().position(|&b| b == 0) != Some(len)
    {
        return Err(format!("the error is not filled: code {}, len {len}, reserved {}", err.code, err.reserved));
    }
    let text = String::from_utf8(bytes[..len].to_vec()).map_err(|e| format!("the message is not UTF-8: {e}"))?;
    if (status == OK) != text.is_empty() {
        return Err(format!("status {status} with the message '{text}'"));
    }
    if status != OK && err.native != native {
        return Err(format!("native is {}, not {native}", err.native));
    }
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    if status != OK && !text.split(|c| !is_word(c)).any(|word| word == name) {
        return Err(format!("the message does not name {name}: '{text}'"));
    }
    Ok(text)
}

/// The rows of every tensor argument that is given as [rows > 1, cols].
pub fn tensor_rows<C: Call>(w: &World, name: &str, required: bool, get: fn(&mut C) -> &mut Tensor) {
    type Change = fn(&mut Tensor);
    let changes: [(&str, i32, Change); 17] = [
        ("dtype 0", DTYPE, |t| t.dtype = 0),
        ("dtype 8", DTYPE, |t| t.dtype = 8),
        ("dtype u32::MAX", DTYPE, |t| t.dtype = u32::MAX),
        ("device_type MNEMO_CUDA", DEVICE, |t| t.device_type = MNEMO_CUDA),
        ("device_type 0", DEVICE, |t| t.device_type = 0),
        ("device_type 13", DEVICE, |t| t.device_type = 13),
        ("rows -1", SHAPE, |t| t.rows = -1),
        ("cols -1", SHAPE, |t| t.cols = -1),
        ("rows * cols overflows", SHAPE, |t| (t.rows, t.cols) = (1 << 40, 1 << 40)),
        ("rows * cols * size overflows", SHAPE, |t| (t.rows, t.cols) = (1, i64::MAX)),
        ("rows * row_stride overflows", SHAPE, |t| t.row_stride = i64::MAX),
        ("row_stride -1", SHAPE, |t| t.row_stride = -1),
        ("row_stride i64::MIN", SHAPE, |t| t.row_stride = i64::MIN),
        ("row_stride < cols", SHAPE, |t| (t.cols, t.row_stride) = (t.cols + 1, t.cols)),
        ("data NULL", INVALID, |t| t.data = null_mut()),
        ("data misaligned", INVALID, |t| t.data = t.data.wrapping_byte_add(1)),
        ("reserved 1", INVALID, |t| t.reserved = 1),
    ];
    if required {
        w.row::<C>(&format!("{name} NULL"), INVALID, name, |c| get(c).null = true);
    }
    for (what, code, change) in changes {
        w.row::<C>(&format!("{name}: {what}"), code, name, |c| change(get(c)));
    }
}

/// The rows of every option struct. `short` is the status with a struct that ends after its first 8 bytes.
pub fn sized_rows<C: Call, S>(w: &World, name: &str, short: i32, get: fn(&mut C) -> &mut Sized<S>) {
    let size = size_of::<S>();
    for bad in [0, 3, 4, 5, size - 1, size + 1, size + 4, 1 << 20, u32::MAX as usize] {
        w.row::<C>(&format!("{name}: struct_size {bad}"), INVALID, name, |c| get(c).set_size(bad));
    }
    w.row::<C>(&format!("{name} misaligned"), INVALID, name, |c| get(c).misaligned = true);
    w.row::<C>(&format!("{name}: longer, zeros"), OK, "", |c| get(c).set_size(size + 64));
    for at in [size, size + 63] {
        w.row::<C>(&format!("{name}: longer, byte {at} set"), UNSUPPORTED, name, |c| {
            get(c).set_size(size + 64);
            get(c).set_bytes(at..at + 1, 1);
        });
    }
    let missing = if short == OK { "" } else { name };
    w.row::<C>(&format!("{name}: shorter"), short, missing, |c| {
        // What lies behind a short struct is not looked at.
        get(c).set_size(8);
        get(c).set_bytes(8..size, 0xEE);
    });
}

/// The rows of every call that takes an exec. `reports` says whether it calls progress.
pub fn exec_rows<C: Call>(w: &World, reports: bool, get: fn(&mut C) -> &mut Sized<mnemo_exec>) {
    sized_rows(w, "exec", OK, get);
    w.row::<C>("exec NULL", OK, "", |c| get(c).null = true);
    w.row::<C>("exec.flags = MNEMO_EXEC_CHECK", OK, "", |c| get(c).flags = MNEMO_EXEC_CHECK);
    for flags in [2, 3, u32::MAX] {
        w.row::<C>(&format!("exec.flags = {flags}"), INVALID, "flags", |c| get(c).flags = flags);
    }
    w.row::<C>("exec.cancel requested", CANCELLED, "cancel", |c| get(c).cancel = w.requested);
    let stopped = if reports { CANCELLED } else { OK };
    w.row::<C>("exec.progress asks to stop", stopped, "progress", |c| {
        w.host.progress.set(5);
        get(c).progress = Some(host_progress);
        get(c).progress_user = w.host.user();
    });
}

/// The body of an init function's row: NULL is ignored, `size` bytes are written and no more, `right` holds afterwards.
pub fn init_rows<S>(w: &World, init: unsafe extern "C" fn(*mut S, usize), right: impl Fn(&S) -> bool) {
    let size = size_of::<S>();
    let filled = |size: usize| {
        let mut memory = vec![u64::from_ne_bytes([UNTOUCHED; 8]); size_of::<S>() / 8 + 9];
        unsafe { init(memory.as_mut_ptr().cast(), size) };
        memory
    };
    let bytes = |memory: &[u64]| memory.iter().flat_map(|v| v.to_ne_bytes()).collect::<Vec<u8>>();
    unsafe {
        init(null_mut(), 0);
        init(null_mut(), size);
        init(null_mut(), usize::MAX);
    }
    for nothing in [0, 1, 3, usize::MAX, (u32::MAX as usize) + 1] {
        w.expect(
            bytes(&filled(nothing)).iter().all(|&b| b == UNTOUCHED),
            &format!("size {nothing}: nothing is written"),
        );
    }
    let whole = filled(size);
    w.expect(right(unsafe { &*whole.as_ptr().cast() }), "the initial values");
    let whole = bytes(&whole);
    for size_given in [8, size, size + 64] {
        let part = bytes(&filled(size_given));
        let known = size.min(size_given);
        w.expect(part[..4] == (size_given as u32).to_ne_bytes(), &format!("size {size_given}: struct_size"));
        w.expect(part[4..known] == whole[4..known], &format!("size {size_given}: the values"));
        w.expect(part[known..size_given].iter().all(|&b| b == 0), &format!("size {size_given}: zeros beyond"));
        w.expect(part[size_given..].iter().all(|&b| b == UNTOUCHED), &format!("size {size_given}: nothing behind"));
    }
}
