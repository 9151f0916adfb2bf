//! The fused pass behind every empirical score (kernels/empirical.cu, kernels/measure.cu). Sums are in float64; where rows are
//! long, bounds say which of them need not be summed (super::near).
//!
//! Queries go in blocks and rows in segments, some of them at a time, so that buffers are bounded: neither changes a bit.

use super::address;
use super::bounds::Bounds;
use super::certificate::Certificate;
use super::elementwise::{matrix, uniform};
use super::memory::Block;
use super::near::Near;
use super::rows::{self, Taken};
use super::session::{Session, blocks, launch};
use crate::engine::{Moments, Query};
use crate::error::{Result, per_row, try_vec};
use crate::exec::Exec;
use crate::tensor::Matrix;

/// Rows of a segment (`SEGMENT` of kernels/common.cuh).
pub const SEGMENT: usize = 4096;
/// Queries of a block at most.
pub const QUERIES: usize = 256;
/// Up to these dimensions one kernel makes distances, weights and sums, without a buffer between: kernels/small.cu and
/// kernels/flash.cu.
pub const SMALL: usize = 16;
/// See [`SMALL`].
pub const FLASH: usize = 128;
/// Queries of a block at most, of these dimensions.
const FUSED_QUERIES: usize = 4096;
/// Bytes that buffers of a block of queries may take, unless one segment takes more.
const BUFFERS: usize = 256 << 20;
/// exp of less is 0 in float64.
const NO_WEIGHT: f64 = 746.0;
/// Segments of a launch at most: grids have no more blocks in y and z.
const MOST_SEGMENTS: usize = 65535;
const NUMBER: usize = size_of::<f64>();

/// What a segment, and after the last all rows, give for a query (`Record` of kernels/records.cuh).
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Record {
    /// The smallest |y - x|².
    pub distance: f64,
    /// Σ w over all rows but the nearest, whose w is 1.
    pub rest: f64,
    /// Σ w (max ℓ - ℓ).
    pub slope: f64,
    pub row: i64,
    /// Of distances, beyond that of sums of squared differences.
    pub error: f64,
}

/// The segments that a launch is about, and the queries (`Part` of kernels/common.cuh).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Part {
    /// Rows that take part, in all segments.
    pub count: i64,
    pub first_segment: i64,
    pub segments: i32,
    pub queries: i32,
}

/// How rows are cut into segments, and these into parts.
#[derive(Clone, Copy)]
pub struct Segments {
    rows: usize,
    queries: usize,
    all: usize,
    /// Segments of a part.
    pub at_a_time: usize,
}

impl Segments {
    /// Where a query takes `bytes` bytes of buffers for each segment.
    pub fn new(rows: usize, queries: usize, bytes: usize) -> Self {
        let all = rows.div_ceil(SEGMENT);
        Self { rows, queries, all, at_a_time: (BUFFERS / (queries * bytes).max(1)).clamp(1, all.min(MOST_SEGMENTS)) }
    }

    pub fn parts(self) -> impl Iterator<Item = Part> {
        let part = move |first: usize| Part {
            count: self.rows as i64,
            first_segment: first as i64,
            segments: self.at_a_time.min(self.all - first) as i32,
            queries: self.queries as i32,
        };
        (0..self.all).step_by(self.at_a_time).map(part)
    }

    fn is_last(self, part: Part) -> bool {
        part.first_segment as usize + part.segments as usize == self.all
    }
}

impl Part {
    /// One block for each query and segment.
    pub fn each(self) -> [usize; 3] {
        [self.queries as usize, self.segments as usize, 1]
    }
}

/// The grid of kernels/measure.cu, and whether it is the one with low tiles: 8 queries by 128 rows, or 64 by 64.
fn tiles(part: Part) -> (bool, [usize; 3]) {
    let (low, [rows, queries, segments]) = wide_tiles(part, SEGMENT);
    (low, [queries, rows, segments])
}

/// The same of the kernels that sum rows, of any number of columns.
fn wide_tiles(part: Part, columns: usize) -> (bool, [usize; 3]) {
    let (queries, low) = (part.queries as usize, part.queries <= 8);
    let (down, across) = if low { (8, 128) } else { (64, 64) };
    (low, [columns.div_ceil(across), queries.div_ceil(down), part.segments as usize])
}

/// Some of the queries, and the buffers of their passes.
struct Sums<'a, 's> {
    session: &'a Session<'s>,
    rows: &'a Taken,
    queries: usize,
    dim: usize,
    segments: Segments,
    x: u64,
    precision: Block,
    /// One number per query and row: `[queries, segments, SEGMENT]`. None where the first pass is one kernel and there is no second.
    weights: Option<Block>,
    /// The same, for second passes.
    values: Option<Block>,
    records: Block,
    running: Block,
    scales: Block,
    partial: Block,
    /// For the first pass, where few rows may have weight.
    near: Option<Near<'a, 's>>,
}

impl<'a, 's> Sums<'a, 's> {
    fn new(
        session: &'a Session<'s>,
        (rows, bounds): (&'a Taken, Option<&'a Bounds>),
        x: u64,
        precision: &[f64],
        cut: f64,
        second_pass: bool,
    ) -> Result<Self> {
        let (queries, dim) = (precision.len(), rows.raw.dim as usize);
        let weighted = dim > FLASH || second_pass;
        let columns = usize::from(weighted) + usize::from(second_pass);
        let of_near = if bounds.is_some() { Near::BYTES } else { 0 };
        let bytes = NUMBER * (columns * SEGMENT + dim + 2) + size_of::<Record>() + of_near;
        let segments = Segments::new(rows.raw.count as usize, queries, bytes);
        let room = |count: usize| session.room::<f64>(count, "sums over rows");
        let at_a_time = segments.at_a_time;
        let numbers = queries * at_a_time * SEGMENT;
        Ok(Self {
            session,
            rows,
            queries,
            dim,
            segments,
            x,
            precision: column(session, precision)?,
            weights: weighted.then(|| room(numbers)).transpose()?,
            values: second_pass.then(|| room(numbers)).transpose()?,
            records: session.room::<Record>(queries * at_a_time, "sums over rows")?,
            running: session.room::<Record>(queries, "sums over rows")?,
            scales: room(2 * queries * at_a_time)?,
            partial: room(queries * at_a_time * dim)?,
            near: bounds.map(|bounds| Near::new(session, (rows, bounds), (x, queries), at_a_time, cut)).transpose()?,
        })
    }

    /// Whether kernels for few rows do what is asked: of which queries and segments they say, NULL for none.
    fn few(&self) -> u64 {
        self.near.as_ref().map_or(0, Near::few)
    }

    /// to ← |y - x|² of the rows of some segments.
    fn measure(&self, part: Part, x: u64, to: &Block) -> Result<()> {
        measure(self.session, self.rows, part, x, 0, to)
    }

    /// The nearest rows' distances as where bounds find few rows, if there are bounds.
    fn measure_again(&self, part: Part, running: Option<&Block>) -> Result<()> {
        let Some(near) = &self.near else { return Ok(()) };
        near.measure_again(part, &self.records, running, self.weights())
    }

    /// to ← (y - x)·v.
    fn project(&self, part: Part, x: u64, v: u64, to: &Block) -> Result<()> {
        match tiles(part) {
            (true, grid) => launch!(self.session, "project_8", grid, self.rows.raw, part, x, v, 0u64, to.address()),
            (false, grid) => launch!(self.session, "project_64", grid, self.rows.raw, part, x, v, 0u64, to.address()),
        }
    }

    /// partial ← Σ w (y - shift) of each segment, w times `multiplier` where there is one.
    fn accumulate(&self, part: Part, few: u64, multiplier: u64, shift: u64) -> Result<()> {
        let (session, rows, weights, to) =
            (self.session, self.rows.raw, self.weights().address(), self.partial.address());
        match wide_tiles(part, self.dim) {
            (true, grid) => launch!(session, "accumulate_8", grid, rows, part, few, weights, multiplier, shift, to),
            (false, grid) => launch!(session, "accumulate_64", grid, rows, part, few, weights, multiplier, shift, to),
        }
    }

    fn weights(&self) -> &Block {
        self.weights.as_ref().expect("made where a pass has weights")
    }

    /// Records, and partial ← Σ w (y - shift), by one kernel; `shift` is x or NULL for 0, `partial` may be NULL.
    fn fused(&self, part: Part, shift: u64, partial: u64) -> Result<()> {
        let (rows, x, precision, whole) = (self.rows.raw, self.x, self.precision.address(), i32::from(shift == 0));
        let (session, records) = (self.session, self.records.address());
        let grid = [self.queries.div_ceil(32), part.segments as usize, 1];
        match self.dim {
            ..=2 => launch!(session, "small_2", grid, rows, part, x, precision, whole, records, partial),
            3..=4 => launch!(session, "small_4", grid, rows, part, x, precision, whole, records, partial),
            5..=8 => launch!(session, "small_8", grid, rows, part, x, precision, whole, records, partial),
            9..=SMALL => launch!(session, "small_16", grid, rows, part, x, precision, whole, records, partial),
            17..=32 => {
                launch!(session, "flash_32", grid, shared flash_shared(32), rows, part, x, precision, whole, records, partial)
            }
            33..=64 => {
                launch!(session, "flash_64", grid, shared flash_shared(64), rows, part, x, precision, whole, records, partial)
            }
            _ => {
                launch!(session, "flash_128", grid, shared flash_shared(128), rows, part, x, precision, whole, records, partial)
            }
        }
    }

    /// to ← to merged with `partial`: a sum, or the mean by the weights of the first pass.
    fn merge_means(&self, part: Part, is_mean: bool, to: u64) -> Result<()> {
        let scales = if is_mean { self.scales.address() } else { 0 };
        let running = if is_mean && self.segments.is_last(part) { self.running.address() } else { 0 };
        launch!(
            self.session,
            "merge_means",
            blocks(self.queries * self.dim),
            part,
            self.dim as i32,
            self.partial.address(),
            scales,
            running,
            to
        )
    }

    /// Weights, their sums, and Σ w (y - shift) / Σ w for each (shift, to); a shift of NULL is 0.
    fn first_pass(&self, means: &[(u64, u64)], exec: &Exec<'_>) -> Result<()> {
        let (session, precision) = (self.session, self.precision.address());
        let (records, running, scales) = (self.records.address(), self.running.address(), self.scales.address());
        for part in self.segments.parts() {
            exec.check()?;
            let merge_records =
                || launch!(session, "merge_records", blocks(self.queries), part, precision, records, running, scales);
            if self.dim <= FLASH {
                if means.is_empty() {
                    self.fused(part, 0, 0)?;
                    merge_records()?;
                }
                for (i, &(shift, to)) in means.iter().enumerate() {
                    self.fused(part, shift, self.partial.address())?;
                    // The second time the records are the same.
                    if i == 0 {
                        merge_records()?;
                    }
                    self.merge_means(part, true, to)?;
                }
                continue;
            }
            let weights = self.weights();
            if let Some(near) = &self.near {
                near.weigh(part, precision, weights, &self.records)?;
            }
            measure(session, self.rows, part, self.x, self.few(), weights)?;
            self.measure_again(part, None)?;
            launch!(session, "weights", part.each(), part, precision, self.few(), weights.address(), records)?;
            merge_records()?;
            for &(shift, to) in means {
                if let Some(near) = &self.near {
                    near.accumulate(part, weights, &self.records, shift, &self.partial)?;
                }
                self.accumulate(part, self.few(), 0, shift)?;
                self.merge_means(part, true, to)?;
            }
        }
        Ok(())
    }

    /// trace ← Σ w |y - mean|², product ← Σ w (y - mean) ((y - mean)·v), of (v, product).
    fn second_pass(
        &self,
        mean: u64,
        trace: Option<&Block>,
        product: Option<(u64, u64)>,
        exec: &Exec<'_>,
    ) -> Result<()> {
        let (session, weights) = (self.session, self.weights().address());
        let (precision, running) = (self.precision.address(), self.running.address());
        let Some(values) = &self.values else { unreachable!("asked for when the buffers were made") };
        for part in self.segments.parts() {
            exec.check()?;
            self.measure(part, self.x, self.weights())?;
            self.measure_again(part, Some(&self.running))?;
            launch!(session, "reweight", part.each(), part, precision, running, weights)?;
            if let Some(trace) = trace {
                // The records of the first pass are done with.
                let sums = self.records.address();
                self.measure(part, mean, values)?;
                launch!(session, "weighted_sums", part.each(), part, weights, values.address(), sums)?;
                launch!(session, "merge_sums", blocks(self.queries), part, sums, trace.address())?;
            }
            if let Some((v, product)) = product {
                self.project(part, mean, v, values)?;
                self.accumulate(part, 0, values.address(), mean)?;
                self.merge_means(part, false, product)?;
            }
        }
        Ok(())
    }
}

/// Bytes of shared memory that kernels/flash.cu wants for dimensions of at most `most`.
const fn flash_shared(most: usize) -> usize {
    (64 * (most + 1) + 32 * 33) * NUMBER
}

/// to ← |y - x|² of the rows of some segments, but for those that `few` says.
pub fn measure(session: &Session<'_>, rows: &Taken, part: Part, x: u64, few: u64, to: &Block) -> Result<()> {
    match tiles(part) {
        (true, grid) => launch!(session, "measure_8", grid, rows.raw, part, x, 0u64, few, to.address()),
        (false, grid) => launch!(session, "measure_64", grid, rows.raw, part, x, 0u64, few, to.address()),
    }
}

/// One number per query on the device. Where all are one, nothing is copied, and a graph can hold it.
pub fn column(session: &Session<'_>, numbers: &[f64]) -> Result<Block> {
    match uniform(numbers) {
        None => session.upload(numbers, "one number per sample"),
        Some(number) => {
            let to = session.room::<f64>(numbers.len(), "one number per sample")?;
            launch!(session, "fill", blocks(numbers.len()), to.address(), numbers.len() as i64, number)?;
            Ok(to)
        }
    }
}

/// The address of row `first` of a matrix.
fn from_row(m: &Matrix, first: usize) -> u64 {
    address(m) + (first * m.cols() * NUMBER) as u64
}

pub fn run(session: &Session<'_>, query: &Query<'_>, mut out: Moments<'_>, exec: &Exec<'_>) -> Result<()> {
    let there = rows::of(session, query.rows)?;
    let rows = there.take(session, query.rows, query.subset)?;
    let (batch, dim) = (query.x.rows(), query.x.cols());
    let second_pass = out.covariance_trace.is_some() || out.covariance_product.is_some();
    let bounds = out.mean_error.is_some() || out.log_sum_error.is_some();
    // Rows beyond it weigh less than the tolerance together.
    let cut =
        if query.tolerance > 0.0 { (rows.raw.count as f64 / query.tolerance).ln().min(NO_WEIGHT) } else { NO_WEIGHT };
    let most = if dim <= FLASH && !second_pass { FUSED_QUERIES } else { QUERIES };
    let left_out = if there.bounds.is_some() { query.tolerance } else { 0.0 };
    for first in (0..batch).step_by(most) {
        exec.report(first as u64, batch as u64)?;
        let here = first..(first + most).min(batch);
        let queries = here.len();
        let x = from_row(query.x, first);
        let with_bounds = (&rows, there.bounds.as_ref());
        let sums = Sums::new(session, with_bounds, x, &query.precision[here.clone()], cut, second_pass)?;

        let own_mean = match (&out.mean, second_pass) {
            (None, true) => Some(matrix(session, queries, dim)?),
            _ => None,
        };
        let mean = match (&out.mean, &own_mean) {
            (Some(mean), _) => Some(from_row(mean, first)),
            (None, own) => own.as_ref().map(address),
        };
        let offset = out.offset.as_ref().map(|offset| (x, from_row(offset, first)));
        let means: Vec<_> = mean.map(|mean| (0, mean)).into_iter().chain(offset).collect();
        sums.first_pass(&means, exec)?;

        let number = |wanted: bool| wanted.then(|| session.room::<f64>(queries, "one value per sample")).transpose();
        let log_sum = number(out.log_sum.is_some())?;
        let entropy = number(out.entropy.is_some())?;
        let distance = number(out.nearest_distance.is_some())?;
        let nearest = number(out.nearest.is_some())?;
        let place = |block: &Option<Block>| block.as_ref().map_or(0, Block::address);
        let wanted = [&log_sum, &entropy, &distance, &nearest];
        if wanted.iter().any(|block| block.is_some()) {
            let [log_sum, entropy, distance, nearest] = wanted.map(place);
            let (running, precision) = (sums.running.address(), sums.precision.address());
            launch!(
                session,
                "finish",
                blocks(queries),
                queries as i32,
                precision,
                rows.subset(),
                running,
                log_sum,
                entropy,
                distance,
                nearest
            )?;
        }
        let columns =
            [(&mut out.log_sum, &log_sum), (&mut out.entropy, &entropy), (&mut out.nearest_distance, &distance)];
        for (to, from) in columns {
            if let (Some(to), Some(from)) = (to, from) {
                session.download(from, &mut to[here.clone()])?;
            }
        }
        if let (Some(to), Some(from)) = (&mut out.nearest, &nearest) {
            session.download(from, &mut to[here.clone()])?;
        }
        if bounds {
            let mut records = try_vec(queries, Record::default(), "one value per sample")?;
            session.download(&sums.running, &mut records)?;
            let error_of = |i: usize| {
                let x_error = query.x_error.map_or(0.0, |e| e[first + i]);
                let precision = query.precision[first + i];
                Certificate { rows: query.rows, dim, precision, x_error, left_out, sums: records[i] }
            };
            if let Some(to) = &mut out.mean_error {
                to[here.clone()].copy_from_slice(&per_row(queries, |i| error_of(i).of_mean())?);
            }
            if let Some(to) = &mut out.log_sum_error {
                to[here.clone()].copy_from_slice(&per_row(queries, |i| error_of(i).of_log_sum())?);
            }
        }

        if second_pass {
            let trace = number(out.covariance_trace.is_some())?;
            let product = match (query.tangent, &out.covariance_product) {
                (Some(v), Some(to)) => Some((from_row(v, first), from_row(to, first))),
                _ => None,
            };
            sums.second_pass(mean.expect("made above"), trace.as_ref(), product, exec)?;
            if let (Some(to), Some(from)) = (&mut out.covariance_trace, &trace) {
                session.download(from, &mut to[here.clone()])?;
            }
        }
    }
    exec.report(batch as u64, batch as u64)
}
