//! The host's model.

use super::mnemo_score_ops;
use crate::capi::tensor::lend;
use crate::score::Predictor;
use crate::tensor::{View, ViewMut};
use std::ffi::c_void;

/// The host's model as the core sees it.
pub struct Host {
    pub ops: mnemo_score_ops,
    pub user: *mut c_void,
    /// The device whose memory it is given, if it is not the host's.
    pub device: Option<i32>,
}

// SAFETY: the header says on which threads the functions run; what `user` points to is the host's to protect.
unsafe impl Send for Host {}
// SAFETY: as above.
unsafe impl Sync for Host {}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(f) = self.ops.drop {
            // SAFETY: the host's own function and pointer, called once.
            unsafe { f(self.user) };
        }
    }
}

fn success(status: i32) -> std::result::Result<(), i32> {
    if status == 0 { Ok(()) } else { Err(status) }
}

impl Predictor for Host {
    fn eval(&self, x: View<'_>, t: View<'_>, out: ViewMut<'_>, stream: usize) -> std::result::Result<(), i32> {
        let [x, t, mut out] = [&x, &t, &out.view()].map(|view| lend(view, self.device));
        let Some(f) = self.ops.eval else { unreachable!("checked when the score was made") };
        // SAFETY: the host's own function; the tensors describe live memory, `out` of it writable.
        success(unsafe { f(self.user, &raw const x, &raw const t, &raw mut out, stream as *mut c_void) })
    }

    fn jvp(
        &self,
        x: View<'_>,
        t: View<'_>,
        v: View<'_>,
        out: ViewMut<'_>,
        stream: usize,
    ) -> Option<std::result::Result<(), i32>> {
        let [x, t, v, mut out] = [&x, &t, &v, &out.view()].map(|view| lend(view, self.device));
        let f = self.ops.jvp?;
        // SAFETY: as in eval.
        let status =
            unsafe { f(self.user, &raw const x, &raw const t, &raw const v, &raw mut out, stream as *mut c_void) };
        Some(success(status))
    }
}
