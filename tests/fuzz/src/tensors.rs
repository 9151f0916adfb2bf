// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tensors, good ones and lies, whose memory is what they promise: exactly, or none if the library must refuse them unseen.

use crate::input::Input;
use crate::memory::{CANARY, Memory};
use mnemo::capi::status::MNEMO_OK;
use mnemo::capi::tensor::*;

/// Tensors that promise more bytes are given no memory.
const LARGEST: usize = 6 << 10;

#[derive(Clone, Copy, PartialEq)]
pub enum Fill {
    /// An output.
    Canary,
    /// Multiples of 1/16 between -8 and 8.
    Values,
    /// Multiples of 1/16 between 1/16 and 8.
    Times,
    /// Integers from 0 to 4.
    Indices,
}

/// A tensor, or NULL.
pub struct Tensor {
    descriptor: Option<Memory>,
    memory: Memory,
    before: Vec<u8>,
    t: mnemo_tensor,
    /// As the header wants it.
    pub valid: bool,
    /// Its numbers are those of its [`Fill`], not any bits.
    pub tame: bool,
}

fn size_of_dtype(dtype: u32) -> Option<usize> {
    match dtype {
        MNEMO_U8 => Some(1),
        MNEMO_F16 | MNEMO_BF16 => Some(2),
        MNEMO_F32 | MNEMO_I32 => Some(4),
        MNEMO_F64 | MNEMO_I64 => Some(8),
        _ => None,
    }
}

impl Tensor {
    /// A contiguous tensor with nothing wrong with it.
    pub fn good(input: &mut Input, rows: i64, cols: i64, dtype: u32, fill: Fill) -> Self {
        Self::build(input, plain(rows, cols, dtype), 0, 0, fill)
    }

    /// A vector of these numbers.
    pub fn of(values: &[f64]) -> Self {
        Self::vector(MNEMO_F64, values.len(), values.iter().flat_map(|v| v.to_ne_bytes()).collect())
    }

    /// A vector of these integers.
    pub fn integers(values: &[i64]) -> Self {
        Self::vector(MNEMO_I64, values.len(), values.iter().flat_map(|v| v.to_ne_bytes()).collect())
    }

    fn vector(dtype: u32, len: usize, bytes: Vec<u8>) -> Self {
        let mut tensor = Self::build(&mut Input::new(&[]), plain(len as i64, 1, dtype), 0, 0, Fill::Canary);
        tensor.memory.bytes_mut().copy_from_slice(&bytes);
        tensor.before = bytes;
        tensor
    }

    /// A tensor of this shape and type, unless the input says otherwise.
    pub fn any(input: &mut Input, rows: i64, cols: i64, dtype: u32, fill: Fill) -> Self {
        let mut t = plain(rows, cols, dtype);
        let faults = input.u8();
        let mut when = |bit: u8, change: &mut dyn FnMut(&mut Input)| {
            if faults & 1 << bit != 0 {
                change(input);
            }
        };
        let mut offset = 0;
        when(0, &mut |i| t.rows = i.i64());
        when(1, &mut |i| t.cols = i.i64());
        when(2, &mut |i| t.row_stride = i.i64());
        when(3, &mut |i| t.dtype = i.u32());
        when(4, &mut |i| (t.device_type, t.device_id) = (i.u32(), i.i64() as i32));
        when(5, &mut |i| t.reserved = i.u32());
        when(6, &mut |i| offset = i.below(16));
        let wild = if faults >> 7 == 1 { input.u8() } else { 0 };
        Self::build(input, t, offset, wild, fill)
    }

    /// `wild`: 0 nothing more, 1 no descriptor, 2 no data, 3 a descriptor at an odd address, others any bits as numbers.
    fn build(input: &mut Input, mut t: mnemo_tensor, offset: usize, wild: u8, fill: Fill) -> Self {
        let (rows, cols) = (usize::try_from(t.rows), usize::try_from(t.cols));
        let stride = if t.row_stride == 0 || t.rows < 2 { t.cols } else { t.row_stride };
        let promised = size_of_dtype(t.dtype).and_then(|size| {
            let (rows, cols, stride) = (rows.ok()?, cols.ok()?, usize::try_from(stride).ok()?);
            let last = rows.saturating_sub(1).checked_mul(stride)?.checked_add(cols)?.checked_mul(size)?;
            (stride >= cols && last <= isize::MAX as usize).then_some(if rows == 0 || cols == 0 { 0 } else { last })
        });
        let bytes = promised.filter(|&p| p <= LARGEST && wild != 2);
        let mut memory = Memory::new(bytes.unwrap_or(0), offset);
        let mut tame = true;
        if wild > 3 && fill != Fill::Canary {
            tame = false;
            let pattern = input.slice(64);
            memory.bytes_mut().iter_mut().zip(pattern.iter().cycle()).for_each(|(to, &from)| *to = from);
        } else if fill != Fill::Canary {
            let seed = input.slice(16);
            write(&mut memory, t.dtype, fill, seed);
        }
        t.data = if bytes.is_some_and(|b| b > 0) { memory.ptr() } else { std::ptr::null_mut() };
        let aligned = size_of_dtype(t.dtype).is_some_and(|size| t.data.addr().is_multiple_of(size));
        let valid = promised.is_some_and(|p| (p == 0 || !t.data.is_null()) && aligned)
            && t.device_type == MNEMO_CPU
            && t.reserved == 0
            && !matches!(wild, 1 | 3);
        let descriptor = (wild != 1).then(|| {
            let block = Memory::new(size_of::<mnemo_tensor>(), if wild == 3 { 1 + input.below(7) } else { 0 });
            // SAFETY: that many bytes are there.
            unsafe { block.ptr::<mnemo_tensor>().write_unaligned(t) };
            block
        });
        let before = memory.bytes().to_vec();
        Self { descriptor, memory, before, t, valid, tame }
    }

    pub fn ptr(&self) -> *mut mnemo_tensor {
        self.descriptor.as_ref().map_or(std::ptr::null_mut(), Memory::ptr)
    }

    pub fn is_null(&self) -> bool {
        self.descriptor.is_none()
    }

    pub fn rows(&self) -> i64 {
        self.t.rows
    }

    pub fn cols(&self) -> i64 {
        self.t.cols
    }

    pub fn dtype(&self) -> u32 {
        self.t.dtype
    }

    /// Valid, and of one of these types and this shape.
    pub fn is(&self, rows: i64, cols: i64, dtypes: &[u32]) -> bool {
        self.valid && (self.t.rows, self.t.cols) == (rows, cols) && dtypes.contains(&self.t.dtype)
    }

    /// Where element (i, j) lies, in bytes.
    fn at(&self, i: usize, j: usize) -> std::ops::Range<usize> {
        let size = size_of_dtype(self.t.dtype).expect("a valid tensor");
        let stride = if self.t.row_stride == 0 { self.t.cols } else { self.t.row_stride } as usize;
        let start = (i * stride + j) * size;
        start..start + size
    }

    /// The number at (i, j) of a valid tensor.
    pub fn get(&self, i: usize, j: usize) -> f64 {
        let bytes = &self.memory.bytes()[self.at(i, j)];
        match self.t.dtype {
            MNEMO_F32 => f64::from(f32::from_ne_bytes(bytes.try_into().unwrap())),
            MNEMO_F64 => f64::from_ne_bytes(bytes.try_into().unwrap()),
            MNEMO_U8 => f64::from(bytes[0]),
            MNEMO_I32 => f64::from(i32::from_ne_bytes(bytes.try_into().unwrap())),
            MNEMO_I64 => i64::from_ne_bytes(bytes.try_into().unwrap()) as f64,
            _ => f64::NAN,
        }
    }

    /// The call must not have changed it.
    pub fn check_unchanged(&self) {
        assert!(self.memory.bytes() == self.before, "memory was changed that should not be");
        if let Some(block) = &self.descriptor {
            // SAFETY: written in `build`.
            let now = unsafe { block.ptr::<mnemo_tensor>().read_unaligned() };
            let fields = |t: &mnemo_tensor| {
                (t.data, t.rows, t.cols, t.row_stride, t.dtype, t.device_type, t.device_id, t.reserved)
            };
            assert_eq!(fields(&now), fields(&self.t), "a tensor's description was changed");
        }
    }

    /// After success every element is written and nothing else, after failure nothing.
    pub fn check_output(&self, status: i32) {
        if status != MNEMO_OK || self.is_null() {
            return self.check_unchanged();
        }
        self.check_gaps();
        for i in 0..self.t.rows as usize {
            for j in 0..self.t.cols as usize {
                let element = &self.memory.bytes()[self.at(i, j)];
                assert!(element.iter().any(|&b| b != CANARY), "element {i}, {j} of an output was not written");
            }
        }
    }

    /// Nothing but elements was written.
    pub fn check_gaps(&self) {
        let mut expected = self.before.clone();
        for i in 0..self.t.rows as usize {
            for j in 0..self.t.cols as usize {
                let element = self.at(i, j);
                expected[element.clone()].copy_from_slice(&self.memory.bytes()[element]);
            }
        }
        assert!(self.memory.bytes() == expected, "memory between the rows of an output was written");
    }
}

fn plain(rows: i64, cols: i64, dtype: u32) -> mnemo_tensor {
    mnemo_tensor {
        data: std::ptr::null_mut(),
        rows,
        cols,
        row_stride: 0,
        dtype,
        device_type: MNEMO_CPU,
        device_id: 0,
        reserved: 0,
    }
}

/// Writes tame numbers, which differ from element to element even where the input has ended.
fn write(memory: &mut Memory, dtype: u32, fill: Fill, seed: &[u8]) {
    let Some(size) = size_of_dtype(dtype) else { return };
    for (k, to) in memory.bytes_mut().chunks_exact_mut(size).enumerate() {
        let byte = seed.get(k % seed.len().max(1)).copied().unwrap_or(0).wrapping_add((k * 37) as u8);
        let real = match fill {
            Fill::Times => f64::from(byte % 128 + 1) / 16.0,
            _ => f64::from(byte.cast_signed()) / 16.0,
        };
        let whole = u64::from(byte % 5);
        match dtype {
            MNEMO_F32 => to.copy_from_slice(&(real as f32).to_ne_bytes()),
            MNEMO_F64 => to.copy_from_slice(&real.to_ne_bytes()),
            // 1 with one bit of the fraction, and its sign.
            MNEMO_F16 => to.copy_from_slice(&(0x3C00 | u16::from(byte & 0x83) << 8).to_ne_bytes()),
            MNEMO_BF16 => to.copy_from_slice(&(0x3F80 | u16::from(byte & 0x80) << 8).to_ne_bytes()),
            _ => to.copy_from_slice(&whole.to_ne_bytes()[..size]),
        }
    }
}
