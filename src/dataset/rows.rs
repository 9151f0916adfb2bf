//! The rows of a training set, what is known of them beforehand, and how they are decoded.

use super::stored::{self, Raw, Stored};
use super::{Decoding, Prepared, not_empty};
use crate::error::{Error, Result, try_vec};
use crate::tensor::{Dtype, LARGEST, Values, beyond, is_beyond};
use half::{bf16, f16};
use std::ops::Range;

/// The rows of a training set, as engines read them.
#[derive(Debug)]
pub struct Rows {
    stored: Stored,
    len: usize,
    dim: usize,
    decoding: Decoding,
    mean: Vec<f64>,
    /// (mean - shift) / scale; a number of float32 unless the rows are float64.
    raw_mean: Vec<f64>,
    /// The same in float32.
    raw_mean_single: Vec<f32>,
    /// |y_n - mean|².
    squared_norms: Vec<f64>,
    radius: f64,
    spread: f64,
    min: f64,
    max: f64,
    prepared: Prepared,
}

impl Rows {
    /// Checks and measures the rows.
    pub(super) fn new(stored: Stored, len: usize, dim: usize, decoding: Decoding) -> Result<Self> {
        not_empty(len, dim)?;
        if u32::try_from(len).is_err() {
            return Err(Error::shape(format!("rows: {len} rows; at most {}", u32::MAX)));
        }
        if !(decoding.scale.is_finite() && decoding.scale != 0.0) {
            return Err(Error::invalid(format!("scale is {}; it must be finite and not 0", decoding.scale)));
        }
        if !decoding.shift.is_finite() {
            return Err(Error::invalid(format!("shift is {}; it must be finite", decoding.shift)));
        }
        let mut rows = Self {
            stored,
            len,
            dim,
            decoding,
            mean: Vec::new(),
            raw_mean: Vec::new(),
            raw_mean_single: Vec::new(),
            squared_norms: Vec::new(),
            radius: 0.0,
            spread: 0.0,
            min: 0.0,
            max: 0.0,
            prepared: Prepared::default(),
        };
        let measured = rows.measure();
        // What a changed file holds is not worth a complaint.
        rows.check()?;
        measured.map(|()| rows)
    }

    /// Mean, norms, radius and range; two plain passes in index order, so that they never depend on a thread count.
    fn measure(&mut self) -> Result<()> {
        let mut mean = try_vec(self.dim, 0.0, "data set mean")?;
        let mut row = try_vec(self.dim, 0.0, "data set row")?;
        let (mut min, mut max) = (f64::INFINITY, f64::NEG_INFINITY);
        let mut reader = self.reader(0..self.len);
        for n in 0..self.len {
            if let Some((j, v)) = reader.first_beyond(n) {
                return Err(beyond("rows", n, j, v));
            }
            reader.decode(n, &mut row);
            if let Some(j) = row.iter().position(|v| is_beyond(*v)) {
                return Err(Error::invalid(format!(
                    "rows: row {n}, column {j} is {} after scale and shift; at most {LARGEST:e} in magnitude",
                    row[j]
                )));
            }
            mean.iter_mut().zip(&row).for_each(|(m, v)| *m += v);
            min = row.iter().copied().fold(min, f64::min);
            max = row.iter().copied().fold(max, f64::max);
        }
        let Decoding { scale, shift } = self.decoding;
        let mut raw_mean = try_vec(self.dim, 0.0, "data set mean")?;
        let mut raw_mean_single = try_vec(self.dim, 0.0, "data set mean")?;
        let narrow = self.dtype() != Dtype::F64;
        for ((mean, raw), single) in mean.iter_mut().zip(&mut raw_mean).zip(&mut raw_mean_single) {
            let plain = *mean / self.len as f64;
            *raw = (plain - shift) / scale;
            #[allow(clippy::cast_possible_truncation)]
            let rounded = *raw as f32;
            *single = rounded.clamp(f32::MIN, f32::MAX);
            // What rows are centred about may be rounded, if it is the same number everywhere.
            if narrow {
                *raw = f64::from(*single);
            }
            // Extreme scales, with which no engine uses raw numbers.
            *mean = if raw.is_finite() { scale * *raw + shift } else { plain };
        }
        let mut squared_norms = try_vec(self.len, 0.0, "data set norms")?;
        let mut reader = self.reader(0..self.len);
        for (n, norm) in squared_norms.iter_mut().enumerate() {
            reader.decode(n, &mut row);
            *norm = row.iter().zip(&mean).map(|(v, m)| (v - m) * (v - m)).sum();
        }
        self.spread = (squared_norms.iter().sum::<f64>() / self.len as f64).sqrt();
        self.radius = squared_norms.iter().copied().fold(0.0, f64::max).sqrt();
        (self.min, self.max) = (min, max);
        self.squared_norms = squared_norms;
        self.mean = mean;
        self.raw_mean = raw_mean;
        self.raw_mean_single = raw_mean_single;
        Ok(())
    }

    /// Number of rows N, at least 1.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Always false: a data set has rows.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Dimension d of a row, at least 1.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The element type in which the rows are stored.
    pub fn dtype(&self) -> Dtype {
        self.stored.dtype()
    }

    /// How raw numbers become values.
    pub fn decoding(&self) -> Decoding {
        self.decoding
    }

    /// The mean row, as near as the raw numbers' precision (float32 at least) lets it be: what rows are centred about.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// The squared distance of each row from the mean row.
    pub fn squared_norms(&self) -> &[f64] {
        &self.squared_norms
    }

    /// The largest distance of a row from the mean row.
    pub fn radius(&self) -> f64 {
        self.radius
    }

    /// The root mean square distance of the rows from the mean row.
    pub fn spread(&self) -> f64 {
        self.spread
    }

    /// What an engine prepared for these rows.
    pub fn prepared(&self) -> &Prepared {
        &self.prepared
    }

    /// The smallest value.
    pub fn min(&self) -> f64 {
        self.min
    }

    /// The largest value.
    pub fn max(&self) -> f64 {
        self.max
    }

    /// Bytes of memory that the stored numbers take: none where they are read from a file.
    pub fn bytes(&self) -> u64 {
        match &self.stored {
            Stored::Memory(values) => self.len as u64 * self.dim as u64 * values.dtype().size() as u64,
            Stored::File(_) => 0,
        }
    }

    /// Row `n` as it lies in memory; nothing where it is in a file.
    #[inline(always)]
    pub fn raw(&self, n: usize) -> &[u8] {
        self.raw_rows(n..n + 1)
    }

    /// The rows of `range` as they lie in memory, one after the other; nothing where they are in a file.
    #[inline(always)]
    pub fn raw_rows(&self, range: Range<usize>) -> &[u8] {
        #[inline(always)]
        fn bytes_of<T>(raw: &[T]) -> &[u8] {
            // SAFETY: numbers have no padding, and a byte may be read at any address of them.
            unsafe { std::slice::from_raw_parts(raw.as_ptr().cast(), size_of_val(raw)) }
        }
        let Stored::Memory(values) = &self.stored else { return &[] };
        let range = range.start * self.dim..range.end * self.dim;
        match values {
            Values::U8(v) => &v[range],
            Values::F32(v) => bytes_of(&v[range]),
            Values::F64(v) => bytes_of(&v[range]),
            Values::F16(v) => bytes_of(&v[range]),
            Values::Bf16(v) => bytes_of(&v[range]),
        }
    }

    /// Whether a row could not be read: results are worth nothing, and [`Rows::check`] says why.
    #[inline(always)]
    pub fn failed(&self) -> bool {
        self.stored.failed()
    }

    /// [`Error::Io`] if rows were read from a file that failed or is no longer as it was. To be asked after decoding, before
    /// results are handed out.
    pub fn check(&self) -> Result<()> {
        self.stored.check()
    }

    /// Writes the values of row `n` to `out[..dim]`; see [`Rows::check`]. For many rows in a row there is [`Rows::reader`].
    #[inline(always)]
    pub fn decode(&self, n: usize, out: &mut [f64]) {
        // As many bytes as are soon cleared.
        const BYTES: usize = 4 << 10;
        match &self.stored {
            Stored::Memory(_) => Reader::<0>::new(self, n..n + 1).decode(n, out),
            Stored::File(_) => {
                #[inline(never)]
                fn alone(rows: &Rows, n: usize, out: &mut [f64]) {
                    Reader::<BYTES>::new(rows, n..n + 1).decode(n, out);
                }
                alone(self, n, out);
            }
        }
    }

    /// A reader of the rows of `range`, in which they are asked for in order.
    #[inline(always)]
    pub fn reader(&self, range: Range<usize>) -> Reader<'_> {
        Reader::new(self, range)
    }
}

/// Decodes rows; those of a file it reads many at a time, into a block on the stack.
pub struct Reader<'a, const BYTES: usize = { 8 << 10 }> {
    rows: &'a Rows,
    raw: stored::Reader<'a, BYTES>,
}

impl<'a, const BYTES: usize> Reader<'a, BYTES> {
    #[inline(always)]
    fn new(rows: &'a Rows, range: Range<usize>) -> Self {
        Self { rows, raw: stored::Reader::new(&rows.stored, range.end * rows.dim) }
    }

    /// As [`Rows::decode`].
    #[inline(always)]
    pub fn decode(&mut self, n: usize, out: &mut [f64]) {
        let Decoding { scale, shift } = self.rows.decoding;
        // Two roundings, multiply then add, on every machine: a fused form would change the last bit with the processor.
        #[inline(always)]
        fn each<T: Copy>(raw: &[T], out: &mut [f64], f: impl Fn(T) -> f64) {
            out.iter_mut().zip(raw).for_each(|(o, &r)| *o = f(r));
        }
        let dim = self.rows.dim;
        let mut at = 0;
        while at < dim {
            let raw = self.raw.part(n * dim + at..(n + 1) * dim);
            let out = &mut out[at..dim];
            at += raw.len();
            match raw {
                Raw::U8(v) => each(v, out, |r| scale * f64::from(r) + shift),
                Raw::F32(v) => each(v, out, |r| scale * f64::from(r) + shift),
                Raw::F64(v) => each(v, out, |r| scale * r + shift),
                Raw::F16(v) => each(v, out, |r| scale * f64::from(widen(r)) + shift),
                Raw::Bf16(v) => each(v, out, |r| scale * f64::from(widen_bf16(r)) + shift),
            }
        }
    }

    /// Writes (y - mean) / scale of row `n` to `out[..dim]`, rounded once: raw numbers less their mean, which costs least.
    #[inline(always)]
    pub fn decode_centred(&mut self, n: usize, out: &mut [f32]) {
        #[inline(always)]
        fn each<T: Copy, M: Copy>(raw: &[T], mean: &[M], out: &mut [f32], f: impl Fn(T, M) -> f32) {
            out.iter_mut().zip(raw.iter().zip(mean)).for_each(|(o, (&r, &m))| *o = f(r, m));
        }
        let (dim, rows) = (self.rows.dim, self.rows);
        let mut at = 0;
        while at < dim {
            let raw = self.raw.part(n * dim + at..(n + 1) * dim);
            let (out, mean) = (&mut out[at..dim], &rows.raw_mean_single[at..]);
            let wide_mean = &rows.raw_mean[at..];
            at += raw.len();
            match raw {
                Raw::U8(v) => each(v, mean, out, |r, m| f32::from(r) - m),
                Raw::F32(v) => each(v, mean, out, |r, m| r - m),
                #[allow(clippy::cast_possible_truncation)]
                Raw::F64(v) => each(v, wide_mean, out, |r, m| (r - m) as f32),
                Raw::F16(v) => each(v, mean, out, |r, m| widen(r) - m),
                Raw::Bf16(v) => each(v, mean, out, |r, m| widen_bf16(r) - m),
            }
        }
    }

    /// Writes row `n` as it is stored, one byte a number, to `out[..dim]`; zeros where rows are not of bytes.
    #[inline(always)]
    pub fn bytes(&mut self, n: usize, out: &mut [u8]) {
        let dim = self.rows.dim;
        let mut at = 0;
        while at < dim {
            let raw = self.raw.part(n * dim + at..(n + 1) * dim);
            let out = &mut out[at..at + raw.len()];
            at += raw.len();
            match raw {
                Raw::U8(v) => out.copy_from_slice(v),
                _ => out.fill(0),
            }
        }
    }

    /// The first stored number of row `n` that is not finite or is larger than [`LARGEST`], and its column.
    fn first_beyond(&mut self, n: usize) -> Option<(usize, f64)> {
        fn first<T: Copy>(raw: &[T], f: impl Fn(T) -> f64) -> Option<(usize, f64)> {
            raw.iter().map(|&r| f(r)).enumerate().find(|(_, v)| is_beyond(*v))
        }
        let (dim, mut at) = (self.rows.dim, 0);
        while at < dim {
            let raw = self.raw.part(n * dim + at..(n + 1) * dim);
            let here = match raw {
                Raw::U8(_) => None,
                Raw::F32(v) => first(v, f64::from),
                Raw::F64(v) => first(v, |r| r),
                Raw::F16(v) => first(v, f64::from),
                Raw::Bf16(v) => first(v, f64::from),
            };
            if let Some((j, v)) = here {
                return Some((at + j, v));
            }
            at += raw.len();
        }
        None
    }
}

/// The value of a finite binary16, by operations that vectorise.
#[inline(always)]
fn widen(v: f16) -> f32 {
    const EXPONENT_BIASES: u32 = 127 - 15;
    const LEAST: f32 = 1.0 / (1 << 24) as f32;
    let magnitude = u32::from(v.to_bits() & 0x7fff);
    let subnormal = magnitude as f32 * LEAST;
    let normal = f32::from_bits((magnitude << 13) + (EXPONENT_BIASES << 23));
    let value = if magnitude < 1 << 10 { subnormal } else { normal };
    f32::from_bits(value.to_bits() | u32::from(v.to_bits() & 0x8000) << 16)
}

/// The value of a bfloat16.
#[inline(always)]
fn widen_bf16(v: bf16) -> f32 {
    f32::from_bits(u32::from(v.to_bits()) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widening_is_exact_for_every_finite_number() {
        for bits in 0..=u16::MAX {
            let (v, b) = (f16::from_bits(bits), bf16::from_bits(bits));
            if v.is_finite() {
                assert_eq!(widen(v).to_bits(), v.to_f32().to_bits(), "{v}");
            }
            if b.is_finite() {
                assert_eq!(widen_bf16(b).to_bits(), b.to_f32().to_bits(), "{b}");
            }
        }
    }
}
