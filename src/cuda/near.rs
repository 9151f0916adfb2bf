//! Where a data set has bounds: of a query and a segment of which few rows have weight, these are found, and they alone are measured
//! and summed (kernels/near.cu); of others, products do that for all rows where they are exact enough (kernels/products.cu).

use super::bounds::{Bounds, Queries};
use super::empirical::{Part, SEGMENT};
use super::memory::Block;
use super::rows::Taken;
use super::session::{Session, THREADS, launch};
use crate::error::Result;

/// Queries and columns of a block of kernels/products.cu.
const QUERIES: usize = 64;
/// See [`QUERIES`].
const COLUMNS: usize = 128;

/// Some queries, and the buffers of a pass.
pub struct Near<'a, 's> {
    session: &'a Session<'s>,
    rows: &'a Taken,
    x: u64,
    queries: Queries<'a>,
    /// Rows of which h (|y - x|² - best) is above this are left out.
    cut: f64,
    /// Bounds of distances, then which rows are near: `[queries, segments, SEGMENT]`.
    low: Block,
    /// How many rows are near, or how all rows are summed: `[queries, segments]`.
    few: Block,
}

impl<'a, 's> Near<'a, 's> {
    /// Of buffers, for each query and segment.
    pub const BYTES: usize = SEGMENT * size_of::<f32>() + size_of::<i32>();

    /// x `[queries, dim of the rows]`, for parts of `segments` segments at most.
    pub fn new(
        session: &'a Session<'s>,
        (rows, bounds): (&'a Taken, &'a Bounds),
        (x, queries): (u64, usize),
        segments: usize,
        cut: f64,
    ) -> Result<Self> {
        let what = "bounds of distances";
        let low = session.room::<f32>(queries * segments * SEGMENT, what)?;
        let few = session.room::<i32>(queries * segments, what)?;
        let queries = bounds.of_queries(session, x, queries, rows.raw.dim as usize)?;
        Ok(Self { session, rows, x, queries, cut, low, few })
    }

    /// For the kernels that do the rest.
    pub fn few(&self) -> u64 {
        self.few.address()
    }

    /// Weights and records of segments where few rows are near, and where that is so; of others distances, unless they are left to
    /// differences.
    pub fn weigh(&self, part: Part, precision: u64, weights: &Block, records: &Block) -> Result<()> {
        let (session, rows, x) = (self.session, self.rows, self.x);
        self.queries.bound(session, part, rows.subset(), &self.low)?;
        let (low, few, to, records) = (self.low.address(), self.few.address(), weights.address(), records.address());
        let (raw, cut, radius) = (rows.raw, self.cut, self.queries.radius());
        let (row_squares, squares) = self.queries.squares();
        launch!(session, "near", part.each(), raw, part, x, precision, cut, squares, radius, low, few, to, records)?;
        let (queries, segments) = (part.queries as usize, part.segments as usize);
        let grid = [queries.div_ceil(QUERIES), SEGMENT.div_ceil(COLUMNS), segments];
        let centre = self.queries.centre();
        launch!(session, "measure_products", grid, raw, part, centre, x, row_squares, squares, few, to)
    }

    /// Once more the distances that may be the least of a segment, after all have been measured; in a second pass, where `running`
    /// are the sums of the first, those that may be the least of all.
    pub fn measure_again(&self, part: Part, records: &Block, running: Option<&Block>, distances: &Block) -> Result<()> {
        let (session, raw, x) = (self.session, self.rows.raw, self.x);
        let (few, running) = running.map_or((self.few(), 0), |running| (0, running.address()));
        let (records, to) = (records.address(), distances.address());
        launch!(session, "measure_again", part.each(), raw, part, x, few, records, running, to)
    }

    /// partial ← Σ w (y - shift) of the segments that are not left to differences.
    pub fn accumulate(&self, part: Part, weights: &Block, records: &Block, shift: u64, partial: &Block) -> Result<()> {
        let (session, raw) = (self.session, self.rows.raw);
        let (dim, queries, segments) = (raw.dim as usize, part.queries as usize, part.segments as usize);
        let (low, few, centre) = (self.low.address(), self.few.address(), self.queries.centre());
        let (weights, records, to) = (weights.address(), records.address(), partial.address());
        let grid = [dim.div_ceil(THREADS as usize), queries, segments];
        launch!(session, "accumulate_near", grid, raw, part, low, few, weights, shift, to)?;
        let grid = [dim.div_ceil(COLUMNS), queries.div_ceil(QUERIES), segments];
        launch!(session, "accumulate_products", grid, raw, part, centre, few, weights, records, shift, to)
    }
}
