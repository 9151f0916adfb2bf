//! Data sets for the kernels, and what plain loops make of them.

use super::device::{Device, Rows};
use half::{bf16, f16};
use mnemo::random::{Purpose, Stream};

/// Element types, as in mnemo.h.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Dtype {
    F32 = 1,
    F64 = 2,
    F16 = 3,
    Bf16 = 4,
    U8 = 5,
}
pub const DTYPES: [Dtype; 5] = [Dtype::F32, Dtype::F64, Dtype::F16, Dtype::Bf16, Dtype::U8];

/// Standard normal numbers of a seed.
pub fn normals(seed: u64, n: usize) -> Vec<f64> {
    let mut out = vec![0.0; n];
    Stream { seed, purpose: Purpose::Prior, step: 0 }.fill_normal(0, &mut out);
    out
}

/// A training set in host memory.
pub struct Data {
    pub raw: Vec<u8>,
    /// Decoded, `[rows, dim]`.
    pub values: Vec<f64>,
    pub rows: usize,
    pub dim: usize,
    pub dtype: Dtype,
    pub scale: f64,
    pub shift: f64,
    pub subset: Option<Vec<u32>>,
}

impl Data {
    /// Numbers as near to `wanted` as `dtype` has them, decoded as `scale * raw + shift`.
    pub fn new(wanted: &[f64], dim: usize, dtype: Dtype, scale: f64, shift: f64) -> Self {
        let (mut raw, mut values) = (Vec::new(), Vec::new());
        for v in wanted.iter().map(|v| (v - shift) / scale) {
            // A type's nearest number, its bytes and its value.
            let near = match dtype {
                Dtype::F32 => (v as f32).to_le_bytes().to_vec(),
                Dtype::F64 => v.to_le_bytes().to_vec(),
                Dtype::F16 => f16::from_f64(v).to_le_bytes().to_vec(),
                Dtype::Bf16 => bf16::from_f64(v).to_le_bytes().to_vec(),
                Dtype::U8 => vec![v.round() as u8],
            };
            let value = match dtype {
                Dtype::F32 => f64::from(v as f32),
                Dtype::F64 => v,
                Dtype::F16 => f16::from_f64(v).to_f64(),
                Dtype::Bf16 => bf16::from_f64(v).to_f64(),
                Dtype::U8 => f64::from(v.round() as u8),
            };
            raw.extend(near);
            values.push(scale * value + shift);
        }
        Self { raw, values, rows: wanted.len() / dim, dim, dtype, scale, shift, subset: None }
    }

    /// Normal numbers of a seed, in a type that takes them; bytes are scaled as images are.
    pub fn normal(seed: u64, rows: usize, dim: usize, dtype: Dtype) -> Self {
        let (scale, shift) = if dtype == Dtype::U8 { (2.0 / 255.0, -1.0) } else { (1.0, 0.0) };
        Self::new(&normals(seed, rows * dim), dim, dtype, scale, shift)
    }

    /// Of which only some take part.
    pub fn with_subset(self, subset: Vec<u32>) -> Self {
        Self { subset: Some(subset), ..self }
    }

    /// The numbers of the rows that take part.
    pub fn taking_part(&self) -> Vec<usize> {
        match &self.subset {
            Some(subset) => subset.iter().map(|n| *n as usize).collect(),
            None => (0..self.rows).collect(),
        }
    }

    pub fn row(&self, n: usize) -> &[f64] {
        &self.values[n * self.dim..(n + 1) * self.dim]
    }

    /// On the device.
    pub fn upload(&self, device: &mut Device) -> Rows {
        let data = device.upload(&self.raw).address;
        let subset = self.subset.as_ref().map_or(0, |subset| device.upload(subset).address);
        Rows {
            data,
            subset,
            factor: 0,
            scale: self.scale,
            shift: self.shift,
            count: self.taking_part().len() as i64,
            dim: self.dim as i32,
            dtype: self.dtype as i32,
        }
    }

    /// |y - x|² of every row that takes part, in the order of the kernels: fused, one element after the other.
    pub fn squared_distances(&self, x: &[f64]) -> Vec<f64> {
        let of = |n: usize| self.row(n).iter().zip(x).fold(0.0, |sum: f64, (y, x)| (y - x).mul_add(y - x, sum));
        self.taking_part().into_iter().map(of).collect()
    }

    /// |y - x|² in the order of the kernels that give a row to a warp: lane by lane, then lane i and i + 16, i + 8, ...
    pub fn squared_distances_by_warps(&self, x: &[f64]) -> Vec<f64> {
        let of = |n: usize| {
            let mut lanes = [0.0f64; 32];
            for (j, (y, x)) in self.row(n).iter().zip(x).enumerate() {
                lanes[j % 32] = (y - x).mul_add(y - x, lanes[j % 32]);
            }
            for step in [16, 8, 4, 2, 1] {
                for lane in 0..step {
                    lanes[lane] += lanes[lane + step];
                }
            }
            lanes[0]
        };
        self.taking_part().into_iter().map(of).collect()
    }

    /// (y - x)·v, likewise.
    pub fn projections(&self, x: &[f64], v: &[f64]) -> Vec<f64> {
        let each = |n: usize| self.row(n).iter().zip(x).zip(v);
        let of = |n: usize| each(n).fold(0.0, |sum: f64, ((y, x), v)| (y - x).mul_add(*v, sum));
        self.taking_part().into_iter().map(of).collect()
    }
}

/// Bits, for comparisons that tell 0 from -0 and a NaN from itself.
pub fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// Panics unless two vectors agree to `relative` of the second's magnitude or to `absolute`.
#[track_caller]
pub fn assert_near(got: &[f64], want: &[f64], relative: f64, absolute: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        let near = g == w || (g - w).abs() <= relative * w.abs() + absolute;
        assert!(near, "{what}, number {i}: {g:e}, expected {w:e}");
    }
}
