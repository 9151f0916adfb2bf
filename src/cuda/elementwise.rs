//! Row-wise sums with noise, and norms, on working matrices, and the way in and out for the caller's
//! (kernels/elementwise.cu, kernels/noise.cu).

use super::driver::{Copy2d, DEVICE, HOST};
use super::memory::Block;
use super::session::{Session, blocks, launch};
use super::{address, block};
use crate::engine::{Factor, Noise};
use crate::error::{Error, Result, try_collect};
use crate::random::Stream;
use crate::tensor::{Dtype, LARGEST, Matrix, Place, View, ViewMut, beyond, check_finite, is_beyond};

/// The kernels' number of an element type (`Dtype` of kernels/common.cuh).
pub fn dtype_number(dtype: Dtype) -> i32 {
    match dtype {
        Dtype::F32 => 1,
        Dtype::F64 => 2,
        Dtype::F16 => 3,
        Dtype::Bf16 => 4,
        Dtype::U8 => 5,
        Dtype::I32 => 6,
        Dtype::I64 => 7,
    }
}

/// Rows of a warp each.
fn warps(rows: usize) -> [usize; 3] {
    blocks(rows.saturating_mul(32))
}

/// A matrix of any numbers.
pub fn matrix(session: &Session<'_>, rows: usize, cols: usize) -> Result<Matrix> {
    if i32::try_from(cols).is_err() {
        return Err(Error::shape(format!("{cols} columns; at most {} on a device", i32::MAX)));
    }
    let count =
        rows.checked_mul(cols).ok_or_else(|| Error::no_memory(rows as u128 * cols as u128 * 8, "working matrix"))?;
    Ok(Matrix::from_device(session.room::<f64>(count, "working matrix")?, rows, cols))
}

pub fn zeros(session: &Session<'_>, rows: usize, cols: usize) -> Result<Matrix> {
    let m = matrix(session, rows, cols)?;
    clear(session, block(&m), rows * cols * size_of::<f64>())?;
    Ok(m)
}

/// Makes the first `bytes` bytes 0.
pub fn clear(session: &Session<'_>, to: &Block, bytes: usize) -> Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    let device = &session.engine.device;
    // SAFETY: the block is as long.
    device.note(unsafe { device.driver.fill_bytes(to.address(), 0, bytes, session.stream) })
}

/// Where the rows of a caller's matrix are, in bytes.
struct Pitched {
    place: Place,
    address: u64,
    pitch: usize,
}

impl Pitched {
    fn of(view: &View<'_>) -> Self {
        Self { place: view.place(), address: view.data().addr() as u64, pitch: view.stride() * view.dtype().size() }
    }

    fn contiguous(place: Place, address: u64, view: &View<'_>) -> Self {
        Self { place, address, pitch: view.cols() * view.dtype().size() }
    }
}

/// Copies the rows of one matrix to another of its shape and element type.
fn copy(session: &Session<'_>, shape: &View<'_>, from: &Pitched, to: &Pitched) -> Result<()> {
    let (width, height) = (shape.cols() * shape.dtype().size(), shape.rows());
    if width == 0 || height == 0 {
        return Ok(());
    }
    let mut copy = Copy2d { width, height, from_pitch: from.pitch, to_pitch: to.pitch, ..Copy2d::default() };
    match from.place {
        Place::Cpu => (copy.from_type, copy.from_host) = (HOST, from.address as usize),
        Place::Cuda => (copy.from_type, copy.from_device) = (DEVICE, from.address),
    }
    match to.place {
        Place::Cpu => (copy.to_type, copy.to_host) = (HOST, to.address as usize),
        Place::Cuda => (copy.to_type, copy.to_device) = (DEVICE, to.address),
    }
    let device = &session.engine.device;
    // SAFETY: both are so many rows of so many bytes, by their makers' word. Where one is the host's the caller of this
    // function waits.
    device.note(unsafe { device.driver.copy_2d(&raw const copy, session.stream) })
}

/// Copies a device's matrix to the host, contiguous, and waits.
pub fn fetch(session: &Session<'_>, from: View<'_>, to: &mut [u8]) -> Result<()> {
    session.refuse_capture("an input that the host reads")?;
    assert_eq!(to.len(), from.rows() * from.cols() * from.dtype().size(), "fetch");
    let target = Pitched::contiguous(Place::Cpu, to.as_mut_ptr().addr() as u64, &from);
    copy(session, &from, &Pitched::of(&from), &target)?;
    session.wait()
}

/// Copies a contiguous matrix of the host's to the device.
pub fn put(session: &Session<'_>, from: &[u8], to: &mut ViewMut<'_>) -> Result<()> {
    session.refuse_capture("a result that the host makes")?;
    let to = to.view();
    assert_eq!(from.len(), to.rows() * to.cols() * to.dtype().size(), "put");
    let source = Pitched::contiguous(Place::Cpu, from.as_ptr().addr() as u64, &to);
    copy(session, &to, &source, &Pitched::of(&to))?;
    session.wait()
}

/// The caller's F32 or F64 matrix as a working one.
pub fn load(session: &Session<'_>, name: &str, from: View<'_>) -> Result<Matrix> {
    if !matches!(from.dtype(), Dtype::F32 | Dtype::F64) {
        let given = from.dtype().name();
        return Err(Error::dtype(format!("{name}: element type {given}; accepted are F32 and F64")));
    }
    let (rows, cols) = (from.rows(), from.cols());
    let m = matrix(session, rows, cols)?;
    if rows * cols == 0 {
        return Ok(m);
    }
    // The host's is looked at here, and staged.
    let on_host = from.place() == Place::Cpu;
    let staged = if on_host {
        session.refuse_capture(name)?;
        check_finite(name, &from)?;
        let staged = session.room::<u8>(rows * cols * from.dtype().size(), name)?;
        copy(session, &from, &Pitched::of(&from), &Pitched::contiguous(Place::Cuda, staged.address(), &from))?;
        Some(staged)
    } else {
        None
    };
    let (data, stride) = match &staged {
        Some(staged) => (staged.address(), cols),
        None => (from.data().addr() as u64, from.stride()),
    };
    let first_bad = if session.check && !on_host { Some(FirstBad::new(session)?) } else { None };
    let (dtype, to) = (dtype_number(from.dtype()), address(&m));
    launch!(
        session,
        "load",
        blocks(rows * cols),
        data,
        dtype,
        stride as i64,
        rows as i64,
        cols as i32,
        to,
        LARGEST,
        FirstBad::address(&first_bad)
    )?;
    if let Some(row) = first_bad.map(|bad| bad.read(session)).transpose()?.flatten() {
        return Err(offender(session, name, &m, row)?);
    }
    if on_host {
        // The caller's memory may be page-locked, and is the caller's again when the call returns.
        session.wait()?;
    }
    Ok(m)
}

/// What is wrong in a row of `m`.
fn offender(session: &Session<'_>, name: &str, m: &Matrix, row: usize) -> Result<Error> {
    let mut numbers = vec![0.0f64; m.cols()];
    let at = gathered(session, m, row)?;
    session.download(block(&at), &mut numbers)?;
    let column = numbers.iter().position(|v| is_beyond(*v)).unwrap_or(0);
    Ok(beyond(name, row, column, numbers[column]))
}

fn gathered(session: &Session<'_>, m: &Matrix, row: usize) -> Result<Matrix> {
    let to = matrix(session, 1, m.cols())?;
    copy_rows(session, m, Some(&[row]), &to, None, 1)?;
    Ok(to)
}

/// The number of the first row that a kernel found fault with.
struct FirstBad(Block);

impl FirstBad {
    fn new(session: &Session<'_>) -> Result<Self> {
        Ok(Self(session.upload(&[u64::MAX], "a check of numbers")?))
    }

    /// NULL where nobody looks.
    fn address(checked: &Option<Self>) -> u64 {
        checked.as_ref().map_or(0, |bad| bad.0.address())
    }

    fn read(self, session: &Session<'_>) -> Result<Option<usize>> {
        let mut row = [0u64];
        session.download(&self.0, &mut row)?;
        Ok((row[0] != u64::MAX).then_some(row[0] as usize))
    }
}

/// Writes a working matrix to the caller's, rounding once.
pub fn store(session: &Session<'_>, from: &Matrix, to: &mut ViewMut<'_>) -> Result<()> {
    let to = to.view();
    let (rows, cols, dtype) = (to.rows(), to.cols(), dtype_number(to.dtype()));
    let write = |data: u64, stride: usize| {
        launch!(
            session,
            "store",
            blocks(rows * cols),
            address(from),
            rows as i64,
            cols as i32,
            data,
            dtype,
            stride as i64,
            f64::MAX,
            0u64
        )
    };
    if to.place() == Place::Cuda {
        return write(to.data().addr() as u64, to.stride());
    }
    session.refuse_capture("a result for the host")?;
    let staged = session.room::<u8>(rows * cols * to.dtype().size(), "a result for the host")?;
    write(staged.address(), cols)?;
    copy(session, &to, &Pitched::contiguous(Place::Cuda, staged.address(), &to), &Pitched::of(&to))?;
    session.wait()
}

pub fn first_beyond(session: &Session<'_>, x: &Matrix, limit: f64) -> Result<Option<usize>> {
    if !session.check {
        return Ok(None);
    }
    let bad = FirstBad::new(session)?;
    let (rows, cols) = (x.rows(), x.cols());
    launch!(
        session,
        "first_beyond",
        blocks(rows * cols),
        address(x),
        rows as i64,
        cols as i32,
        limit,
        bad.0.address()
    )?;
    bad.read(session)
}

/// One number for all rows, or one per row, as kernels take it (`Factor` of kernels/combine.cuh).
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct RawFactor {
    rows: u64,
    all: f64,
}

/// A factor on the device. Where all rows have one number nothing is copied, and a graph can hold it.
fn factor(session: &Session<'_>, factor: Factor<'_>, rows: usize) -> Result<(RawFactor, Option<Block>)> {
    Ok(match factor {
        Factor::All(all) => (RawFactor { rows: 0, all }, None),
        Factor::Rows(each) => match uniform(&each[..rows]) {
            Some(all) => (RawFactor { rows: 0, all }, None),
            None => {
                let each = session.upload(&each[..rows], "one number per sample")?;
                (RawFactor { rows: each.address(), all: 0.0 }, Some(each))
            }
        },
    })
}

/// The number that all are, to the bit. 0 if there are none.
pub fn uniform(numbers: &[f64]) -> Option<f64> {
    let first = numbers.first().copied().unwrap_or_default();
    numbers.iter().all(|v| v.to_bits() == first.to_bits()).then_some(first)
}

const MOST_TERMS: usize = 8;

/// `Combine` of kernels/combine.cuh.
#[repr(C)]
struct Combine {
    out: u64,
    rows: i64,
    cols: i32,
    terms: i32,
    keeps: i32,
    /// Whether the first term has one factor for all rows by its kind, and not by chance.
    plain: i32,
    keep: RawFactor,
    factor: [RawFactor; MOST_TERMS],
    matrix: [u64; MOST_TERMS],
}

/// `Noise` of kernels/noise.cu.
#[repr(C)]
struct RawNoise {
    factor: f64,
    seed: u64,
    first_sample: u64,
    purpose: u32,
    step: u32,
}

pub fn combine(
    session: &Session<'_>,
    out: &mut Matrix,
    keep: Option<Factor<'_>>,
    terms: &[(Factor<'_>, &Matrix)],
    noise: Option<Noise>,
) -> Result<()> {
    let (rows, cols) = (out.rows(), out.cols());
    assert!(terms.len() <= MOST_TERMS, "combine: {} terms", terms.len());
    assert!(terms.iter().all(|(_, m)| (m.rows(), m.cols()) == (rows, cols)), "combine: shapes differ");
    let (kept, _kept) = factor(session, keep.unwrap_or(Factor::All(0.0)), rows)?;
    let mut sum = Combine {
        out: address(out),
        rows: rows as i64,
        cols: cols as i32,
        terms: terms.len() as i32,
        keeps: keep.is_some().into(),
        plain: matches!(terms.first(), Some((Factor::All(_), _))).into(),
        keep: kept,
        factor: Default::default(),
        matrix: [0; MOST_TERMS],
    };
    let mut blocks_of_factors = [const { None }; MOST_TERMS];
    for (i, (by, m)) in terms.iter().enumerate() {
        (sum.factor[i], blocks_of_factors[i]) = factor(session, *by, rows)?;
        sum.matrix[i] = address(m);
    }
    let Some(Noise { factor, stream: Stream { seed, purpose, step }, first_sample }) = noise else {
        return launch!(session, "combine", blocks(rows * cols), sum);
    };
    let noise = RawNoise { factor, seed, first_sample, purpose: purpose as u32, step };
    launch!(session, "combine_with_noise", blocks(rows * cols.div_ceil(2)), sum, noise)
}

pub fn dot_rows(session: &Session<'_>, x: &Matrix, y: &Matrix) -> Result<Vec<f64>> {
    let (rows, cols) = (x.rows(), x.cols());
    let out = session.room::<f64>(rows, "one value per sample")?;
    launch!(session, "dot_rows", warps(rows), address(x), address(y), rows as i64, cols as i32, out.address())?;
    let mut sums = crate::error::try_vec(rows, 0.0, "one value per sample")?;
    session.download(&out, &mut sums)?;
    Ok(sums)
}

pub fn error_norms(
    session: &Session<'_>,
    out: &mut [f64],
    [error, x, y]: [&Matrix; 3],
    rtol: f64,
    atol: f64,
) -> Result<()> {
    let (rows, cols) = (error.rows(), error.cols());
    let norms = session.room::<f64>(rows, "one value per sample")?;
    launch!(
        session,
        "error_norms",
        warps(rows),
        address(error),
        address(x),
        address(y),
        rows as i64,
        cols as i32,
        rtol,
        atol,
        norms.address()
    )?;
    session.download(&norms, &mut out[..rows])
}

/// Row `to_rows[i]` of `to` ← row `from_rows[i]` of `from`; without rows, i itself.
pub fn copy_rows(
    session: &Session<'_>,
    from: &Matrix,
    from_rows: Option<&[usize]>,
    to: &Matrix,
    to_rows: Option<&[usize]>,
    count: usize,
) -> Result<()> {
    let index = |rows: Option<&[usize]>| {
        let Some(rows) = rows else { return Ok(None) };
        let rows = try_collect(rows.len(), rows.iter().map(|&r| Ok(r as i64)), "rows")?;
        session.upload(&rows, "rows").map(Some)
    };
    let (from_index, to_index) = (index(from_rows)?, index(to_rows)?);
    let number = |index: &Option<Block>| index.as_ref().map_or(0, Block::address);
    let cols = from.cols();
    launch!(
        session,
        "copy_rows",
        blocks(count * cols),
        address(from),
        number(&from_index),
        address(to),
        number(&to_index),
        count as i64,
        cols as i32
    )
}
