//! Training sets: rows in their own element type, decoded as `value = scale * raw + shift` in float64, and their labels.

mod file;
mod prepared;
mod rows;
mod stored;

pub use prepared::Prepared;
pub use rows::{Reader, Rows};

use crate::engine::SharedEngine;
use crate::error::{Error, Result, try_collect};
use crate::tensor::{Dtype, Element, Values, View};
use half::{bf16, f16};
use std::collections::BTreeMap;
use std::path::Path;
use stored::Stored;

/// How raw numbers become values: `value = scale * raw + shift`, in float64.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decoding {
    /// Multiplies the stored number; finite and not 0.
    pub scale: f64,
    /// Added after scaling; finite.
    pub shift: f64,
}

impl Default for Decoding {
    fn default() -> Self {
        Self { scale: 1.0, shift: 0.0 }
    }
}

/// A training set: immutable, shared by the scores that are built on it.
pub struct Dataset {
    engine: SharedEngine,
    rows: Rows,
    groups: Option<BTreeMap<i64, Vec<u32>>>,
}

impl std::fmt::Debug for Dataset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Dataset({} x {} {})", self.rows.len(), self.rows.dim(), self.rows.dtype().name())
    }
}

impl Dataset {
    /// Copies the caller's matrix (F32, F64, F16, BF16 or U8) in its own type; `labels` are one integer per row.
    pub fn copy(engine: SharedEngine, rows: View<'_>, labels: Option<View<'_>>, decoding: Decoding) -> Result<Self> {
        not_empty(rows.rows(), rows.cols())?;
        let bytes = rows.rows() as u128 * rows.cols() as u128 * rows.dtype().size() as u128;
        if let Some(limit) = engine.memory_limit()
            && bytes > u128::from(limit)
        {
            return Err(Error::NoMemory(format!("rows: {bytes} bytes exceed the context's memory_limit of {limit}")));
        }
        let values = match rows.dtype() {
            Dtype::F32 => Values::F32(copy_rows(&rows)?),
            Dtype::F64 => Values::F64(copy_rows(&rows)?),
            Dtype::F16 => Values::F16(copy_rows::<f16>(&rows)?),
            Dtype::Bf16 => Values::Bf16(copy_rows::<bf16>(&rows)?),
            Dtype::U8 => Values::U8(copy_rows(&rows)?),
            other => {
                return Err(Error::dtype(format!(
                    "rows: element type {}; accepted are F32, F64, F16, BF16 and U8",
                    other.name()
                )));
            }
        };
        let labels = labels.map(|l| label_values(&l)).transpose()?;
        Self::build(engine, Stored::Memory(values), (rows.rows(), rows.cols()), labels, decoding)
    }

    /// Reads `.npy` or IDX files, plain or gzip-compressed. Rows of a plain file that exceed the engine's memory limit stay
    /// there and are read whenever they are needed.
    pub fn open(engine: SharedEngine, path: &Path, labels: Option<&Path>, decoding: Decoding) -> Result<Self> {
        let limit = engine.memory_limit();
        let rows = file::read_rows(path, limit)?;
        let labels = labels.map(|p| file::read_labels(p, limit)).transpose()?;
        Self::build(engine, rows.stored, (rows.rows, rows.dim), labels, decoding)
    }

    fn build(
        engine: SharedEngine,
        stored: Stored,
        (len, dim): (usize, usize),
        labels: Option<Vec<i64>>,
        decoding: Decoding,
    ) -> Result<Self> {
        let rows = Rows::new(stored, len, dim, decoding)?;
        let groups = match labels {
            None => None,
            Some(labels) => {
                if labels.len() != len {
                    return Err(Error::shape(format!("labels: {} labels for {len} rows; one per row", labels.len())));
                }
                let mut groups = BTreeMap::<i64, Vec<u32>>::new();
                for (n, &label) in (0u32..).zip(&labels) {
                    let group = groups.entry(label).or_default();
                    group.try_reserve(1).map_err(|_| Error::no_memory(len as u128 * 4, "rows of a label"))?;
                    group.push(n);
                }
                Some(groups)
            }
        };
        engine.prepare(&rows)?;
        Ok(Self { engine, rows, groups })
    }

    /// The engine that computes on this data set.
    pub fn engine(&self) -> &SharedEngine {
        &self.engine
    }

    /// The rows.
    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    /// Number of distinct labels; 0 if the data set has none.
    pub fn label_count(&self) -> usize {
        self.groups.as_ref().map_or(0, BTreeMap::len)
    }

    /// The indices of the rows that carry `label`, ascending.
    pub fn rows_of_label(&self, label: i64) -> Result<&[u32]> {
        let groups = self.groups.as_ref().ok_or_else(|| Error::invalid("label: the data set has no labels"))?;
        groups.get(&label).map(Vec::as_slice).ok_or_else(|| {
            Error::invalid(format!("label is {label}; the data set holds {} labels and this is not one", groups.len()))
        })
    }
}

fn not_empty(len: usize, dim: usize) -> Result<()> {
    if len == 0 || dim == 0 {
        return Err(Error::invalid(format!("rows: {len} x {dim} is empty; at least one row and one column")));
    }
    Ok(())
}

fn copy_rows<T: Element>(view: &View<'_>) -> Result<Vec<T>> {
    let len = view.rows() * view.cols();
    let mut out = Vec::new();
    out.try_reserve_exact(len).map_err(|_| Error::no_memory(len as u128 * std::mem::size_of::<T>() as u128, "rows"))?;
    for i in 0..view.rows() {
        out.extend_from_slice(view.row::<T>(i));
    }
    Ok(out)
}

fn label_values(view: &View<'_>) -> Result<Vec<i64>> {
    if view.cols() != 1 {
        return Err(Error::shape(format!("labels: {} columns; a vector has 1", view.cols())));
    }
    let label = |i: usize| {
        Ok(match view.dtype() {
            Dtype::I64 => view.row::<i64>(i)[0],
            Dtype::I32 => i64::from(view.row::<i32>(i)[0]),
            Dtype::U8 => i64::from(view.row::<u8>(i)[0]),
            other => {
                return Err(Error::dtype(format!(
                    "labels: element type {}; accepted are I64, I32 and U8",
                    other.name()
                )));
            }
        })
    };
    try_collect(view.rows(), (0..view.rows()).map(label), "labels")
}
