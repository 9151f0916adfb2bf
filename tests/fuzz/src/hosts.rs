// SPDX-License-Identifier: MIT OR Apache-2.0
//! Callbacks of a host that fails when it is told to.

use crate::input::Input;
use crate::structs::Struct;
use crate::world::{Machine, negate};
use mnemo::capi::{exec::*, tensor::*};
use std::cell::Cell;
use std::ffi::c_void;
use std::mem::offset_of;

/// What a callback does besides its work.
#[derive(Clone, Copy, PartialEq)]
enum Mischief {
    None,
    /// Calls the library.
    Reenters,
    /// Spoils the tensor that it was lent.
    SpoilsTensor,
    /// Leaves NaN in its output.
    WritesNan,
    /// Leaves a number beyond 1e100 in its output (infinity in F32).
    WritesHuge,
}

/// The `user` of every callback.
pub struct Host<'a> {
    machine: &'a Machine,
    mischief: Mischief,
    /// The call that fails, counted from 1; 0: none.
    fail_at: u32,
    /// What it returns then; not 0.
    result: i32,
    pub calls: Cell<u32>,
    pub drops: Cell<u32>,
}

impl<'a> Host<'a> {
    pub fn new(machine: &'a Machine, input: &mut Input) -> Self {
        use Mischief::*;
        let mischief = input.pick(&[None, Reenters, SpoilsTensor, WritesNan, WritesHuge]);
        let (fail_at, result) = (u32::from(input.u8() % 16), (input.i64() as i32) | 1);
        Self { machine, mischief, fail_at, result, calls: Cell::new(0), drops: Cell::new(0) }
    }

    pub fn user(&self) -> *mut c_void {
        std::ptr::from_ref(self).cast_mut().cast()
    }

    /// What the failing callback returns, if it was called.
    pub fn failed(&self) -> Option<i32> {
        (self.fail_at > 0 && self.calls.get() >= self.fail_at).then_some(self.result)
    }

    /// Whether its outputs may not be numbers.
    pub fn spoils_results(&self) -> bool {
        matches!(self.mischief, Mischief::WritesNan | Mischief::WritesHuge)
    }

    fn count(&self) -> i32 {
        self.calls.set(self.calls.get() + 1);
        assert!(self.fail_at == 0 || self.calls.get() <= self.fail_at, "called again after it failed");
        if self.mischief == Mischief::Reenters {
            self.machine.check_usable();
        }
        if self.calls.get() == self.fail_at { self.result } else { 0 }
    }
}

/// # Safety
/// `user` is a live [`Host`], so throughout this file.
unsafe fn host<'a>(user: *mut c_void) -> &'a Host<'a> {
    // SAFETY: the caller's promise.
    unsafe { &*user.cast::<Host<'a>>() }
}

unsafe fn predict(user: *mut c_void, from: *const mnemo_tensor, t: *const mnemo_tensor, out: *mut mnemo_tensor) -> i32 {
    // SAFETY: the library's tensors live for the call.
    unsafe {
        let (host, t) = (host(user), &*t);
        assert_eq!((t.rows, t.cols, t.dtype), ((*from).rows, 1, MNEMO_F64));
        assert!((*from).rows > 0, "a callback was given no rows");
        negate(&*from, &*out);
        let value = match host.mischief {
            Mischief::WritesNan => f64::NAN,
            Mischief::WritesHuge => 1e101,
            _ => 0.0,
        };
        if host.spoils_results() && (*out).dtype == MNEMO_F32 {
            (*out).data.cast::<f32>().write(value as f32);
        } else if host.spoils_results() {
            (*out).data.cast::<f64>().write(value);
        } else if host.mischief == Mischief::SpoilsTensor {
            ((*out).data, (*out).rows, (*out).dtype) = (std::ptr::null_mut(), i64::MAX, 99);
        }
        host.count()
    }
}

pub unsafe extern "C" fn eval(
    user: *mut c_void,
    x: *const mnemo_tensor,
    t: *const mnemo_tensor,
    out: *mut mnemo_tensor,
    _: *mut c_void,
) -> i32 {
    // SAFETY: as above.
    unsafe { predict(user, x, t, out) }
}

pub unsafe extern "C" fn jvp(
    user: *mut c_void,
    x: *const mnemo_tensor,
    t: *const mnemo_tensor,
    v: *const mnemo_tensor,
    out: *mut mnemo_tensor,
    _: *mut c_void,
) -> i32 {
    // SAFETY: as above.
    unsafe {
        assert_eq!(((*x).rows, (*x).cols, (*x).dtype), ((*v).rows, (*v).cols, (*v).dtype));
        predict(user, v, t, out)
    }
}

pub unsafe extern "C" fn drop(user: *mut c_void) {
    // SAFETY: as above.
    let host = unsafe { host(user) };
    host.drops.set(host.drops.get() + 1);
}

pub unsafe extern "C" fn observer(user: *mut c_void, _: u64, t: f64, x: *const mnemo_tensor) -> i32 {
    // SAFETY: as above.
    unsafe {
        assert!(t >= 0.0 && !(*x).data.is_null() | ((*x).rows == 0));
        if user.is_null() { 0 } else { host(user).count() }
    }
}

pub unsafe extern "C" fn progress(user: *mut c_void, done: u64, total: u64) -> i32 {
    assert!(done <= total, "{done} of {total}");
    // A struct may end before its user. SAFETY: as above.
    if user.is_null() { 0 } else { unsafe { host(user).count() } }
}

/// Stops what would take long. Its user is a counter.
unsafe extern "C" fn patience(user: *mut c_void, _: u64, _: u64) -> i32 {
    // SAFETY: set in `patient`.
    let calls = unsafe { &*user.cast::<Cell<u32>>() };
    calls.set(calls.get() + 1);
    i32::from(calls.get() > 16)
}

/// An exec that gives up after a while.
pub fn patient(calls: &Cell<u32>) -> mnemo_exec {
    // SAFETY: filled by its init function.
    unsafe {
        let mut exec: mnemo_exec = std::mem::zeroed();
        mnemo_exec_init(&raw mut exec, size_of_val(&exec));
        exec.progress = Some(patience);
        exec.progress_user = std::ptr::from_ref(calls).cast_mut().cast();
        exec
    }
}

/// Any exec; its cancel flag is `cancel` or NULL, its progress callback that of `host` or NULL.
pub fn any_exec(input: &mut Input, host: &Host, cancel: *mut mnemo_cancel) -> Struct<mnemo_exec> {
    let pointers = [offset_of!(mnemo_exec, cancel), offset_of!(mnemo_exec, progress), offset_of!(mnemo_exec, progress_user)];
    let mut exec = Struct::any(input, mnemo_exec_init, &pointers);
    let choice = input.u8();
    if choice & 1 != 0 {
        exec.set(pointers[0], cancel);
    }
    if choice & 2 != 0 {
        exec.set(pointers[1], progress as unsafe extern "C" fn(*mut c_void, u64, u64) -> i32);
    }
    exec.set(pointers[2], host.user());
    exec
}
