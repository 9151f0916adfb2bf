//! Data sets: the training rows.

use super::context::mnemo_context;
use super::status::mnemo_error;
use super::tensor::{
    HostInput, MNEMO_BF16, MNEMO_F16, MNEMO_F32, MNEMO_F64, MNEMO_U8, fill, host_input, mnemo_tensor, output,
};
use super::{
    Sized32, guard, hand_over, initialise, place, read_sized, required, reserved, string, take_back, write_sized,
};
use crate::dataset::{Dataset, Decoding};
use crate::error::{Error, Result, try_collect, try_vec};
use crate::tensor::Dtype;
use std::ffi::c_char;
use std::path::Path;
use std::sync::Arc;

/// Training rows, kept in their own element type, and their labels. Immutable; scores made from it keep it alive.
pub struct mnemo_dataset {
    pub(super) dataset: Arc<Dataset>,
}

/// How rows are read.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct mnemo_dataset_options {
    /// sizeof(mnemo_dataset_options).
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// value = scale * raw + shift, in float64; initially 1. For 8-bit images in [-1, 1]: scale = 1/127.5, shift = -1.
    pub scale: f64,
    /// Initially 0.
    pub shift: f64,
    /// mnemo_dataset_open only: a file of one integer per row (.npy or IDX, plain or gzip), UTF-8; initially NULL, no
    /// labels.
    pub labels_path: *const c_char,
}

// SAFETY: repr(C), size first, no padding, any bytes are valid.
unsafe impl Sized32 for mnemo_dataset_options {
    fn initial() -> Self {
        let struct_size = size_of::<Self>() as u32;
        Self { struct_size, reserved: 0, scale: 1.0, shift: 0.0, labels_path: std::ptr::null() }
    }
}

/// What a data set holds.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct mnemo_dataset_info {
    /// sizeof(mnemo_dataset_info), set by the caller.
    pub struct_size: u32,
    /// The element type of the stored rows, MNEMO_F32 …
    pub dtype: u32,
    /// Number of rows N.
    pub rows: i64,
    /// Dimension d of a row.
    pub dim: i64,
    /// Number of distinct labels; 0 if there are none.
    pub labels: i64,
    /// The smallest value, after scale and shift.
    pub min: f64,
    /// The largest value. 8-bit images in their own range: open, read min and max, open again scaled by them.
    pub max: f64,
}

// SAFETY: repr(C), size first, no padding, any bytes are valid.
unsafe impl Sized32 for mnemo_dataset_info {
    fn initial() -> Self {
        Self { struct_size: size_of::<Self>() as u32, dtype: 0, rows: 0, dim: 0, labels: 0, min: 0.0, max: 0.0 }
    }
}

/// Fills `options` with its initial values; `size` is sizeof *options.
///
/// Threads: any. Errors: none; NULL is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mnemo_dataset_options_init(options: *mut mnemo_dataset_options, size: usize) {
    // SAFETY: the caller's promises; so throughout this file.
    unsafe { initialise(options, size) }
}

/// Fills `info` with zeros and its size; `size` is sizeof *info.
///
/// Threads: any. Errors: none; NULL is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mnemo_dataset_info_init(info: *mut mnemo_dataset_info, size: usize) {
    // SAFETY: as above.
    unsafe { initialise(info, size) }
}

/// Makes a data set of a copy of `rows` [N, d] (F32, F64, F16, BF16 or U8; at least one row and one column) into `out`.
///
/// Tensors in a device's memory are read on the legacy default stream, and waited for.
///
/// `labels` is NULL or a vector of N integers (I64, I32 or U8). `options` may be NULL. Owned by the caller:
/// mnemo_dataset_release.
///
/// Threads: any. Errors: MNEMO_E_INVALID, MNEMO_E_SHAPE, MNEMO_E_DTYPE, MNEMO_E_DEVICE, MNEMO_E_NOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mnemo_dataset_copy(
    context: *const mnemo_context,
    rows: *const mnemo_tensor,
    labels: *const mnemo_tensor,
    options: *const mnemo_dataset_options,
    out: *mut *mut mnemo_dataset,
    err: *mut mnemo_error,
) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(err, || {
            let out = place(out)?;
            let engine = required("context", context)?.engine.clone();
            let (decoding, labels_path) = read_options(options)?;
            if labels_path.is_some() {
                return Err(Error::invalid("labels_path is set, but mnemo_dataset_copy takes labels as a tensor"));
            }
            let rows = host_input("rows", rows, &engine)?;
            let labels = if labels.is_null() { None } else { Some(host_input("labels", labels, &engine)?) };
            let labels = labels.as_ref().map(HostInput::view);
            let dataset = Arc::new(Dataset::copy(engine.clone(), rows.view(), labels, decoding)?);
            hand_over(out, mnemo_dataset { dataset });
            Ok(())
        })
    }
}

/// Makes a data set of a file into `out`: .npy (f2, f4, f8 or u1) or IDX (u8, f32 or f64; the MNIST format), plain or
/// gzip-compressed, told by their contents. The first dimension is N, the others are flattened to d.
///
/// `path` is UTF-8. `options` may be NULL. A file that is truncated, too long or not what its header says is
/// MNEMO_E_IO; nothing is allocated before sizes are checked. Owned by the caller: mnemo_dataset_release.
///
/// Rows that exceed the context's memory_limit stay in the file, if it is not compressed: it is kept open, and every call
/// reads what it needs, at most 8 KiB at a time on the stack of each thread. In memory are then 8 bytes a row and 8 a label
/// (labels alone must fit the limit), and what calls take anyway. Results have the same bits as with the rows in memory,
/// with one exception: scores at small sigma, whose near rows are found and summed apart where the limit leaves room for
/// it (see memory_limit) and by a pass over all rows where it does not, may differ within their error. A file that cannot
/// be read, is cut short, or changes in size or time of modification is MNEMO_E_IO of that call and of every later one
/// with this data set. Its name may be removed or given to another file.
///
/// Threads: any. Errors: MNEMO_E_IO, MNEMO_E_DTYPE, MNEMO_E_UNSUPPORTED, MNEMO_E_INVALID, MNEMO_E_SHAPE, MNEMO_E_NOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mnemo_dataset_open(
    context: *const mnemo_context,
    path: *const c_char,
    options: *const mnemo_dataset_options,
    out: *mut *mut mnemo_dataset,
    err: *mut mnemo_error,
) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(err, || {
            let out = place(out)?;
            let engine = required("context", context)?.engine.clone();
            let path = string("path", path)?.ok_or_else(|| Error::invalid("path is NULL"))?;
            let (decoding, labels) = read_options(options)?;
            let dataset = Arc::new(Dataset::open(engine, Path::new(path), labels.map(Path::new), decoding)?);
            hand_over(out, mnemo_dataset { dataset });
            Ok(())
        })
    }
}

/// # Safety
/// `options` is NULL or valid, its strings live for `'a`.
unsafe fn read_options<'a>(options: *const mnemo_dataset_options) -> Result<(Decoding, Option<&'a str>)> {
    // SAFETY: the caller's promise.
    unsafe {
        let o = read_sized("options", options)?;
        reserved("options", o.reserved)?;
        Ok((Decoding { scale: o.scale, shift: o.shift }, string("labels_path", o.labels_path)?))
    }
}

/// Describes `dataset` in `info`, whose struct_size is set.
///
/// Threads: any. Errors: MNEMO_E_INVALID.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mnemo_dataset_info(
    dataset: *const mnemo_dataset,
    info: *mut mnemo_dataset_info,
    err: *mut mnemo_error,
) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(err, || {
            let dataset = &required("dataset", dataset)?.dataset;
            let rows = dataset.rows();
            let dtype = match rows.dtype() {
                Dtype::F64 => MNEMO_F64,
                Dtype::F16 => MNEMO_F16,
                Dtype::Bf16 => MNEMO_BF16,
                Dtype::U8 => MNEMO_U8,
                _ => MNEMO_F32,
            };
            let value = mnemo_dataset_info {
                struct_size: 0,
                dtype,
                rows: rows.len() as i64,
                dim: rows.dim() as i64,
                labels: dataset.label_count() as i64,
                min: rows.min(),
                max: rows.max(),
            };
            write_sized("info", info, &value)
        })
    }
}

/// Writes the values of the rows named by `index` (a vector of I64) to `out` [rows of index, d], F32 or F64. Tensors in a
/// device's memory are read and written on the legacy default stream, and waited for.
///
/// Threads: any. Errors: MNEMO_E_INVALID for an index outside [0, N); MNEMO_E_SHAPE, MNEMO_E_DTYPE, MNEMO_E_DEVICE,
/// MNEMO_E_NOMEM, MNEMO_E_IO (rows in a file: all of them are read, into memory of their own, before one is written).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mnemo_dataset_gather(
    dataset: *const mnemo_dataset,
    index: *const mnemo_tensor,
    out: *mut mnemo_tensor,
    err: *mut mnemo_error,
) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(err, || {
            let dataset = required("dataset", dataset)?.dataset.clone();
            let (rows, engine) = (dataset.rows(), dataset.engine());
            let index = host_input("index", index, engine)?;
            let index = index.view();
            super::tensor::expect_dtype("index", index.dtype(), &[Dtype::I64])?;
            if index.cols() != 1 {
                return Err(Error::shape(format!("index: {} columns; a vector has 1", index.cols())));
            }
            let shape = (index.rows(), rows.dim());
            let mut out = output("out", out, shape, &[Dtype::F32, Dtype::F64], engine)?
                .ok_or_else(|| Error::invalid("out is NULL"))?;
            let row_at = |i: usize| {
                let n = index.row::<i64>(i)[0];
                usize::try_from(n).ok().filter(|n| *n < rows.len()).ok_or_else(|| {
                    Error::invalid(format!("index, row {i} is {n}; the data set has rows 0 to {}", rows.len() - 1))
                })
            };
            let wanted = try_collect(index.rows(), (0..index.rows()).map(row_at), "index")?;
            // Rows of a file are all read before one is written.
            let together = if rows.bytes() > 0 { 1 } else { wanted.len().max(1) };
            let mut values = try_vec(together * rows.dim(), 0.0, "rows")?;
            fill("out", engine, &mut out, |out| {
                for (block, wanted) in wanted.chunks(together).enumerate() {
                    values.chunks_exact_mut(rows.dim()).zip(wanted).for_each(|(row, &n)| rows.decode(n, row));
                    rows.check()?;
                    let rows = values.chunks_exact(rows.dim()).take(wanted.len());
                    rows.enumerate().for_each(|(i, row)| out.set_row(block * together + i, row));
                }
                Ok(())
            })
        })
    }
}

/// Releases `dataset`; NULL is ignored.
///
/// Threads: any. Errors: none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mnemo_dataset_release(dataset: *mut mnemo_dataset) {
    // SAFETY: as above.
    unsafe { take_back(dataset) }
}
