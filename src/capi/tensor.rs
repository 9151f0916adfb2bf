//! Tensors.

use super::{required, reserved};
use crate::engine::SharedEngine;
use crate::error::{Error, Result, try_vec};
use crate::tensor::{Dtype, Place, View, ViewMut};
use std::ffi::c_void;

/// Element type: IEEE binary32.
pub const MNEMO_F32: u32 = 1;
/// Element type: IEEE binary64.
pub const MNEMO_F64: u32 = 2;
/// Element type: IEEE binary16.
pub const MNEMO_F16: u32 = 3;
/// Element type: bfloat16.
pub const MNEMO_BF16: u32 = 4;
/// Element type: unsigned 8-bit integer.
pub const MNEMO_U8: u32 = 5;
/// Element type: signed 32-bit integer.
pub const MNEMO_I32: u32 = 6;
/// Element type: signed 64-bit integer.
pub const MNEMO_I64: u32 = 7;

/// Device type: the host's memory (DLPack's number).
pub const MNEMO_CPU: u32 = 1;
/// Device type: the memory of a CUDA device (DLPack's number).
pub const MNEMO_CUDA: u32 = 2;

/// A view of a row-major matrix in the caller's memory. A vector of n numbers has rows = n and cols = 1.
///
/// The memory is borrowed for the call, a device's until the stream of the call has passed. It must be aligned to the
/// element type. Rows may be apart (row_stride > cols);
/// elements of a row are not. NaN or Inf in an input is an error that names the row and the column. An input may be the
/// same memory as an output; two outputs may not.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct mnemo_tensor {
    /// The first element; may be NULL if there is none (rows or cols is 0).
    pub data: *mut c_void,
    /// Number of rows.
    pub rows: i64,
    /// Number of columns.
    pub cols: i64,
    /// Elements from one row to the next, at least cols; 0 means cols. Not looked at when there are fewer than two
    /// rows.
    pub row_stride: i64,
    /// MNEMO_F32 …
    pub dtype: u32,
    /// MNEMO_CPU or MNEMO_CUDA.
    pub device_type: u32,
    /// Which CUDA device; not looked at for MNEMO_CPU.
    pub device_id: i32,
    /// 0.
    pub reserved: u32,
}

struct Described {
    shape: (usize, usize, usize),
    dtype: Dtype,
    place: Place,
}

/// Whether the tensor, if there is one, is in the host's memory.
///
/// # Safety
/// `t` is NULL or valid.
pub(super) unsafe fn is_on_host(t: *const mnemo_tensor) -> bool {
    // SAFETY: the caller's promise.
    unsafe { t.as_ref() }.is_none_or(|t| t.device_type == MNEMO_CPU)
}

/// Checks what can be checked without touching the memory; `engine` is the one that is to read or write it.
fn describe(name: &str, t: &mnemo_tensor, engine: &SharedEngine) -> Result<Described> {
    reserved(name, t.reserved)?;
    let dtype = match t.dtype {
        MNEMO_F32 => Dtype::F32,
        MNEMO_F64 => Dtype::F64,
        MNEMO_F16 => Dtype::F16,
        MNEMO_BF16 => Dtype::Bf16,
        MNEMO_U8 => Dtype::U8,
        MNEMO_I32 => Dtype::I32,
        MNEMO_I64 => Dtype::I64,
        other => {
            return Err(Error::dtype(format!("{name}: dtype is {other}; it is one of MNEMO_F32 … MNEMO_I64 (1 … 7)")));
        }
    };
    let place = match t.device_type {
        MNEMO_CPU => Place::Cpu,
        MNEMO_CUDA => match engine.device() {
            None => return Err(Error::Device(format!("{name}: a CUDA tensor, but its context computes on the CPU"))),
            Some(device) if device != t.device_id => {
                let given = t.device_id;
                return Err(Error::Device(format!(
                    "{name}: on CUDA device {given}, but its context computes on device {device}"
                )));
            }
            Some(_) => Place::Cuda,
        },
        other => {
            return Err(Error::Device(format!(
                "{name}: device_type is {other}; it is MNEMO_CPU (1) or MNEMO_CUDA (2)"
            )));
        }
    };
    let size = |field: &str, v: i64| {
        usize::try_from(v).map_err(|_| Error::shape(format!("{name}: {field} is {v}; it must not be negative")))
    };
    let (rows, cols) = (size("rows", t.rows)?, size("cols", t.cols)?);
    let stride = if t.row_stride == 0 || rows < 2 { cols } else { size("row_stride", t.row_stride)? };
    if stride < cols {
        return Err(Error::shape(format!("{name}: row_stride is {stride}; it must be 0 or at least cols = {cols}")));
    }
    let last = rows.saturating_sub(1).checked_mul(stride).and_then(|n| n.checked_add(cols));
    if last.and_then(|n| n.checked_mul(dtype.size())).is_none_or(|bytes| bytes > isize::MAX as usize) {
        return Err(Error::shape(format!("{name}: {rows} rows of {cols} elements do not fit in memory")));
    }
    if rows > 0 && cols > 0 {
        if t.data.is_null() {
            return Err(Error::invalid(format!("{name}: data is NULL, but the tensor is {rows} x {cols}")));
        }
        if !t.data.addr().is_multiple_of(dtype.size()) {
            return Err(Error::invalid(format!(
                "{name}: data is not aligned to the {} bytes of {}",
                dtype.size(),
                dtype.name()
            )));
        }
    }
    Ok(Described { shape: (rows, cols, stride), dtype, place })
}

/// An input that must be there.
///
/// # Safety
/// `t` is NULL or describes memory that is readable for `'a`.
pub(super) unsafe fn input<'a>(name: &str, t: *const mnemo_tensor, engine: &SharedEngine) -> Result<View<'a>> {
    // SAFETY: the caller's promise.
    unsafe {
        let t = required(name, t)?;
        let d = describe(name, t, engine)?;
        Ok(View::from_raw(t.data.cast_const().cast(), d.shape, d.dtype, d.place))
    }
}

/// Memory of the library's own, aligned to every element type.
struct Aligned(Vec<u64>);

impl Aligned {
    fn new(name: &str, bytes: usize) -> Result<Self> {
        Ok(Self(try_vec(bytes.div_ceil(size_of::<u64>()), 0, name)?))
    }

    fn bytes(&mut self, len: usize) -> &mut [u8] {
        assert!(len <= size_of_val(&self.0[..]), "Aligned::bytes");
        // SAFETY: so many bytes of initialised memory, borrowed with `self`.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), len) }
    }
}

/// An input that the host itself reads: one in a device's memory is copied, and waited for.
pub(super) struct HostInput<'a> {
    view: View<'a>,
    /// What `view` shows, unless it is the caller's memory.
    _copy: Option<Aligned>,
}

impl HostInput<'_> {
    pub(super) fn view(&self) -> View<'_> {
        self.view
    }
}

/// # Safety
/// As [`input`].
pub(super) unsafe fn host_input<'a>(
    name: &str,
    t: *const mnemo_tensor,
    engine: &SharedEngine,
) -> Result<HostInput<'a>> {
    // SAFETY: the caller's promise.
    let view = unsafe { input(name, t, engine) }?;
    if view.place() == Place::Cpu {
        return Ok(HostInput { view, _copy: None });
    }
    let (rows, cols, dtype) = (view.rows(), view.cols(), view.dtype());
    let len = rows * cols * dtype.size();
    let mut copy = Aligned::new(name, len)?;
    engine.fetch(view, copy.bytes(len))?;
    // SAFETY: contiguous rows in memory that moves into the same struct; a Vec's memory does not move with it.
    let view = unsafe { View::from_raw(copy.0.as_ptr().cast(), (rows, cols, cols), dtype, Place::Cpu) };
    Ok(HostInput { view, _copy: Some(copy) })
}

/// Has `write` fill an output, wherever it is.
pub(super) fn fill(
    name: &str,
    engine: &SharedEngine,
    to: &mut ViewMut<'_>,
    write: impl FnOnce(&mut ViewMut<'_>) -> Result<()>,
) -> Result<()> {
    if to.view().place() == Place::Cpu {
        return write(to);
    }
    let (rows, cols, dtype) = (to.view().rows(), to.view().cols(), to.view().dtype());
    let len = rows * cols * dtype.size();
    let mut copy = Aligned::new(name, len)?;
    // SAFETY: contiguous rows in memory that lives until the end of this function, and is looked at only after `write`.
    write(&mut unsafe { ViewMut::from_raw(copy.0.as_mut_ptr().cast(), (rows, cols, cols), dtype, Place::Cpu) })?;
    engine.put(copy.bytes(len), to)
}

/// An input matrix of F32 or F64 with `cols` columns.
///
/// # Safety
/// As [`input`].
pub(super) unsafe fn real_matrix<'a>(
    name: &str,
    t: *const mnemo_tensor,
    cols: usize,
    engine: &SharedEngine,
) -> Result<View<'a>> {
    // SAFETY: the caller's promise.
    let view = unsafe { input(name, t, engine) }?;
    expect_dtype(name, view.dtype(), &[Dtype::F32, Dtype::F64])?;
    if view.cols() != cols {
        return Err(Error::shape(format!("{name}: {} columns; this object has dimension {cols}", view.cols())));
    }
    Ok(view)
}

/// Times: one for all rows or one per row.
///
/// # Safety
/// As [`input`].
pub(super) unsafe fn times(t: *const mnemo_tensor, batch: usize, engine: &SharedEngine) -> Result<Vec<f64>> {
    // SAFETY: the caller's promise.
    let given = unsafe { host_input("t", t, engine) }?;
    let view = given.view();
    expect_dtype("t", view.dtype(), &[Dtype::F64, Dtype::F32])?;
    if view.cols() != 1 || (view.rows() != 1 && view.rows() != batch) {
        return Err(Error::shape(format!(
            "t: {} x {}; it is a vector (cols = 1) of one time, or of one per row of x ({batch})",
            view.rows(),
            view.cols()
        )));
    }
    let t = view.to_f64_vec()?;
    if t.len() == batch { Ok(t) } else { try_vec(batch, t[0], "one time per row of x") }
}

/// An output of a given shape and one of a few element types; `None` if NULL.
///
/// # Safety
/// `t` is NULL or describes memory that is writable for `'a`.
pub(super) unsafe fn output<'a>(
    name: &str,
    t: *mut mnemo_tensor,
    (rows, cols): (usize, usize),
    dtypes: &[Dtype],
    engine: &SharedEngine,
) -> Result<Option<ViewMut<'a>>> {
    // SAFETY: the caller's promise.
    if t.is_null() {
        return Ok(None);
    }
    // SAFETY: as above.
    let t = unsafe { required(name, t) }?;
    let d = describe(name, t, engine)?;
    expect_dtype(name, d.dtype, dtypes)?;
    if (d.shape.0, d.shape.1) != (rows, cols) {
        return Err(Error::shape(format!("{name}: {} x {}; it must be {rows} x {cols}", d.shape.0, d.shape.1)));
    }
    // SAFETY: described by the caller as such memory.
    Ok(Some(unsafe { ViewMut::from_raw(t.data.cast(), d.shape, d.dtype, d.place) }))
}

/// An error if a result cannot be written: it is beyond the range of an F32 output.
pub(super) fn check_range(
    name: &str,
    engine: &SharedEngine,
    from: &crate::tensor::Matrix,
    to: &ViewMut<'_>,
) -> Result<()> {
    match to.view().dtype() {
        Dtype::F32 => within_f32(name, engine.first_beyond(from, f64::from(f32::MAX))?),
        _ => Ok(()),
    }
}

/// The same for a vector. An infinite value is a result like any other.
pub(super) fn check_column_range(name: &str, from: &[f64], to: &ViewMut<'_>) -> Result<()> {
    match to.view().dtype() {
        Dtype::F32 => within_f32(name, from.iter().position(|v| v.is_finite() && v.abs() > f64::from(f32::MAX))),
        _ => Ok(()),
    }
}

fn within_f32(name: &str, beyond: Option<usize>) -> Result<()> {
    match beyond {
        Some(row) => {
            Err(Error::invalid(format!("{name}: row {row} of the result is beyond the range of F32; use F64")))
        }
        None => Ok(()),
    }
}

pub(super) fn expect_dtype(name: &str, dtype: Dtype, accepted: &[Dtype]) -> Result<()> {
    if accepted.contains(&dtype) {
        return Ok(());
    }
    let names: Vec<_> = accepted.iter().map(|d| d.name()).collect();
    Err(Error::dtype(format!("{name}: element type {}; accepted: {}", dtype.name(), names.join(", "))))
}

/// Contiguous memory of F32 or F64 as a callback sees it; `device` is the engine's.
pub(super) fn lend(view: &View<'_>, device: Option<i32>) -> mnemo_tensor {
    mnemo_tensor {
        data: view.data().cast_mut().cast(),
        rows: view.rows() as i64,
        cols: view.cols() as i64,
        row_stride: 0,
        dtype: if view.dtype() == Dtype::F32 { MNEMO_F32 } else { MNEMO_F64 },
        device_type: if view.place() == Place::Cpu { MNEMO_CPU } else { MNEMO_CUDA },
        device_id: if view.place() == Place::Cpu { 0 } else { device.unwrap_or_default() },
        reserved: 0,
    }
}
