//! The rows in the forms that the kernels read.

use super::step;
use crate::cpu::tile::Buffer;
use crate::dataset::Rows;
use crate::error::Result;

/// The rows as the kernels read them; their width D is d or a little more, and what is beyond d is 0.
pub struct Wide {
    /// In float64, `[len, D]`.
    pub rows: Buffer<f64>,
    /// The mean of the data less these, in two float32 numbers each: `[len, 2, D]`.
    pub pairs: Buffer<f32>,
}

impl Wide {
    /// The rows, decoded at the first call; `None` if they would pass the limit.
    pub fn of(rows: &Rows, width: usize, limit: Option<u64>) -> Result<Option<&Self>> {
        let stored = rows.len() * rows.dim() * rows.dtype().size();
        let bytes = stored + rows.len() * width * (size_of::<f64>() + 2 * size_of::<f32>());
        if limit.is_some_and(|limit| bytes as u64 > limit) {
            return Ok(None);
        }
        if let Some(ready) = rows.prepared().get::<Self>() {
            return Ok(Some(ready));
        }
        let mut wide = Buffer::zeros(rows.len() * width, "rows in float64")?;
        let mut pairs = Buffer::zeros(rows.len() * 2 * width, "rows in pairs of float32")?;
        for (n, (row, pair)) in wide.chunks_exact_mut(width).zip(pairs.chunks_exact_mut(2 * width)).enumerate() {
            rows.decode(n, &mut row[..rows.dim()]);
            let (high, low) = pair.split_at_mut(width);
            for ((y, mean), (high, low)) in row.iter().zip(rows.mean()).zip(high.iter_mut().zip(low)) {
                *high = step::high(mean - y);
                *low = step::high(mean - y - f64::from(*high));
            }
        }
        Ok(rows.prepared().keep(Self { rows: wide, pairs }))
    }
}
