//! Lower bounds of distances by 8-bit codes, by which rows that are too far to count are not read in float64
//! (kernels/bounds.cu).
//!
//! Memory, on the device: a byte a number, up to a multiple of 64 a row, and 24 bytes a row.

use super::empirical::{Part, SEGMENT};
use super::memory::Block;
use super::rows::{RawRows, share};
use super::session::{Session, blocks, launch};
use crate::dataset::Rows;
use crate::error::Result;

/// Of fewer numbers other kernels make distances and sums at once; products of more might not fit 32 bits.
const DIMS: std::ops::RangeInclusive<usize> = 129..=1 << 16;
/// Of fewer rows all are measured: that is little work.
const LEAST_ROWS: usize = 512;
/// Codes of a row are padded to so many bytes (`DEPTH` of kernels/bounds.cu).
const DEPTH: usize = 64;
/// Bytes of a row's other terms (`Terms` there).
const TERMS: usize = 16;
const NUMBER: usize = size_of::<f64>();
/// Queries and rows of a block (`SIDE` there).
const SIDE: usize = 128;

/// Codes of some rows, or of queries.
struct Coded {
    codes: Block,
    terms: Block,
    /// |y'|², float64.
    squares: Block,
}

/// What the device keeps of a data set for bounds.
pub struct Bounds {
    stride: usize,
    /// The point c about which rows and queries are coded.
    centre: Block,
    /// The largest |y'|.
    radius: f64,
    rows: Coded,
}

/// Queries in the form that bounds need.
pub struct Queries<'a> {
    bounds: &'a Bounds,
    coded: Coded,
}

impl Coded {
    /// The codes of `rows`, about `centre`.
    fn fill(&self, session: &Session<'_>, rows: RawRows, centre: &Block, stride: usize) -> Result<()> {
        let (codes, terms, squares) = (self.codes.address(), self.terms.address(), self.squares.address());
        let warps = blocks((rows.count as usize).saturating_mul(32));
        launch!(session, "encode", warps, rows, centre.address(), stride as i32, codes, terms, squares)
    }
}

impl Bounds {
    /// The bounds of a data set, whose rows are on the device; `None` where they would not help, and where the memory limit
    /// leaves no room for them.
    pub fn of(session: &Session<'_>, rows: &Rows, raw: RawRows) -> Result<Option<Self>> {
        let stride = rows.dim().next_multiple_of(DEPTH);
        let bytes = (rows.len() as u64).saturating_mul((stride + TERMS + NUMBER) as u64);
        let beyond = session.engine.memory_limit.is_some_and(|limit| rows.bytes().saturating_add(bytes) > limit);
        if !DIMS.contains(&rows.dim()) || rows.len() < LEAST_ROWS || beyond {
            return Ok(None);
        }
        let what = "bounds of the data set's rows";
        let room = |bytes: usize| session.engine.pool.take_shared((rows.len() * bytes) as u64, what);
        let coded = Coded { codes: room(stride)?, terms: room(TERMS)?, squares: room(NUMBER)? };
        let centre = share(session, rows.mean(), what)?;
        coded.fill(session, raw, &centre, stride)?;
        session.wait()?;
        Ok(Some(Self { stride, centre, radius: rows.radius(), rows: coded }))
    }

    /// Some queries: x `[queries, dim]`, float64.
    pub fn of_queries(&self, session: &Session<'_>, x: u64, queries: usize, dim: usize) -> Result<Queries<'_>> {
        let what = "codes of queries";
        let coded = Coded {
            codes: session.room::<i8>(queries * self.stride, what)?,
            terms: session.room::<[f32; 4]>(queries, what)?,
            squares: session.room::<f64>(queries, what)?,
        };
        coded.fill(session, RawRows::of_matrix(x, queries, dim), &self.centre, self.stride)?;
        Ok(Queries { bounds: self, coded })
    }
}

impl Queries<'_> {
    /// c.
    pub fn centre(&self) -> u64 {
        self.bounds.centre.address()
    }

    /// The largest |y'|.
    pub fn radius(&self) -> f64 {
        self.bounds.radius
    }

    /// |y'|² of all rows, and |x'|².
    pub fn squares(&self) -> (u64, u64) {
        (self.bounds.rows.squares.address(), self.coded.squares.address())
    }

    /// low ← bounds of |y - x|² of the rows of some segments, float32.
    pub fn bound(&self, session: &Session<'_>, part: Part, subset: u64, low: &Block) -> Result<()> {
        let Self { bounds: Bounds { stride, rows, .. }, coded } = self;
        let grid = [(part.queries as usize).div_ceil(SIDE), SEGMENT.div_ceil(SIDE), part.segments as usize];
        launch!(
            session,
            "bound",
            grid,
            part,
            subset,
            *stride as i32,
            rows.codes.address(),
            rows.terms.address(),
            coded.codes.address(),
            coded.terms.address(),
            low.address()
        )
    }
}
