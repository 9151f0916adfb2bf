//! Queries so near to the data that few rows of a segment have weight: bounds find these, and they alone are measured and
//! summed (kernels/near.cu).

use super::bounds::{Bounds, Queries};
use super::empirical::{Part, SEGMENT};
use super::memory::Block;
use super::rows::Taken;
use super::session::{Session, THREADS, launch};
use crate::error::Result;

/// Some queries, and the buffers of a pass.
pub struct Near<'a> {
    queries: Queries<'a>,
    dim: usize,
    /// Rows of which h (|y - x|² - best) is above this are left out.
    cut: f64,
    /// Bounds of distances, then which rows are near: `[queries, segments, SEGMENT]`.
    low: Block,
    /// How many rows are near, below 0 where that is not few: `[queries, segments]`.
    few: Block,
}

impl<'a> Near<'a> {
    /// Of buffers, for each query and segment.
    pub const BYTES: usize = SEGMENT * size_of::<f32>() + size_of::<i32>();

    /// x `[queries, dim]`, for parts of `segments` segments at most.
    pub fn new(
        session: &Session<'_>,
        bounds: &'a Bounds,
        (x, queries, dim): (u64, usize, usize),
        segments: usize,
        cut: f64,
    ) -> Result<Self> {
        let what = "bounds of distances";
        Ok(Self {
            queries: bounds.of_queries(session, x, queries, dim)?,
            dim,
            cut,
            low: session.room::<f32>(queries * segments * SEGMENT, what)?,
            few: session.room::<i32>(queries * segments, what)?,
        })
    }

    /// For the kernels that do the rest.
    pub fn few(&self) -> u64 {
        self.few.address()
    }

    /// Weights and records of segments where few rows are near, and where that is so.
    pub fn weigh(
        &self,
        session: &Session<'_>,
        rows: &Taken,
        part: Part,
        (x, precision): (u64, u64),
        weights: &Block,
        records: &Block,
    ) -> Result<()> {
        self.queries.bound(session, part, rows.subset(), &self.low)?;
        let (low, few, to) = (self.low.address(), self.few.address(), weights.address());
        launch!(session, "near", part.each(), rows.raw, part, x, precision, self.cut, low, few, to, records.address())
    }

    /// partial ← Σ w (y - shift) of these segments.
    pub fn accumulate(
        &self,
        session: &Session<'_>,
        rows: &Taken,
        part: Part,
        weights: &Block,
        shift: u64,
        partial: &Block,
    ) -> Result<()> {
        let grid = [self.dim.div_ceil(THREADS as usize), part.queries as usize, part.segments as usize];
        let (low, few, to) = (self.low.address(), self.few.address(), partial.address());
        launch!(session, "accumulate_near", grid, rows.raw, part, low, few, weights.address(), shift, to)
    }
}
