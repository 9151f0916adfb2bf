//! The boundary between mathematics and machines: the fused operations that core code asks for, whoever computes them.
//!
//! Core code holds [`Matrix`] values, hands them from one operation to the next and never looks inside; numbers of
//! which there is one per row (times, scales, log densities) are host vectors.

use crate::dataset::Rows;
use crate::error::{Error, Result};
use crate::exec::Exec;
use crate::random::Stream;
use crate::tensor::{Dtype, Matrix, View, ViewMut};
use std::sync::Arc;

/// How exact a result has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grade {
    /// The caller's numbers are float32: a relative error of a few 1e-7 in the weighted mean is allowed.
    Single,
    /// The caller's numbers are float64.
    Double,
}

/// A factor in [`Engine::combine`].
#[derive(Clone, Copy, Debug)]
pub enum Factor<'a> {
    /// One number for all rows.
    All(f64),
    /// One number per row.
    Rows(&'a [f64]),
}

impl Factor<'_> {
    /// Whether the factor of every row is 0.
    pub fn is_zero(&self) -> bool {
        match self {
            Self::All(c) => *c == 0.0,
            Self::Rows(c) => c.iter().all(|c| *c == 0.0),
        }
    }

    /// The factor of row `i`.
    pub fn of(&self, i: usize) -> f64 {
        match self {
            Self::All(c) => *c,
            Self::Rows(c) => c[i],
        }
    }
}

/// What [`Engine::combine`] adds last: factor · z, z standard normal. Element j of row i is number j of sample
/// `first_sample + i` of `stream`.
#[derive(Clone, Copy, Debug)]
pub struct Noise {
    /// The standard deviation.
    pub factor: f64,
    /// Whose numbers they are.
    pub stream: Stream,
    /// The sample of the first row.
    pub first_sample: u64,
}

/// A Gaussian-kernel query against the rows y_n of a data set: ℓ_n = -½ precision |x - y_n|², w = softmax(ℓ).
#[derive(Clone, Copy)]
pub struct Query<'a> {
    /// The training rows.
    pub rows: &'a Rows,
    /// The rows that take part, ascending and at least one; all of them when `None`.
    pub subset: Option<&'a [u32]>,
    /// x, `[batch, dim]`.
    pub x: &'a Matrix,
    /// One precision per row of `x`: finite and not negative.
    pub precision: &'a [f64],
    /// Rows whose summed weight is below this may be left out of the sums; 0 leaves out nothing.
    pub tolerance: f64,
    /// How exact the mean has to be.
    pub grade: Grade,
    /// Whether this is one of many steps, of which nothing but the mean is wanted: in float32 ȳ - x may be off by 5e-6 of
    /// itself then, or, where ȳ is wanted, by as much of the largest distance of a row from the mean row.
    pub step: bool,
    /// v of the covariance product `[batch, dim]`.
    pub tangent: Option<&'a Matrix>,
    /// How far each row of `x` may be from the x that is meant, in length: error bounds count it. `None`: no row is.
    pub x_error: Option<&'a [f64]>,
}

/// What a [`Query`] returns; absent outputs cost nothing. All sums run over the rows that take part.
#[derive(Default)]
pub struct Moments<'a> {
    /// ȳ = Σ w_n y_n, `[batch, dim]`.
    pub mean: Option<&'a mut Matrix>,
    /// ȳ - x, without the rounding of ȳ, `[batch, dim]`.
    pub offset: Option<&'a mut Matrix>,
    /// Σ w_n (y_n - ȳ) ((y_n - ȳ)·v), `[batch, dim]`; needs [`Query::tangent`].
    pub covariance_product: Option<&'a mut Matrix>,
    /// ln Σ exp(ℓ_n).
    pub log_sum: Option<&'a mut [f64]>,
    /// -Σ w ln w, in nats.
    pub entropy: Option<&'a mut [f64]>,
    /// Σ w_n |y_n - ȳ|².
    pub covariance_trace: Option<&'a mut [f64]>,
    /// argmin |x - y_n|, ties to the lowest index.
    pub nearest: Option<&'a mut [i64]>,
    /// min |x - y_n|.
    pub nearest_distance: Option<&'a mut [f64]>,
    /// Bound on the length of the error of `mean` by what was left out and rounded; needs `mean`, and changes nothing else.
    pub mean_error: Option<&'a mut [f64]>,
    /// The same for `log_sum`, which need not be asked for.
    pub log_sum_error: Option<&'a mut [f64]>,
}

/// How far apart two rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// |x - y|.
    L2,
    /// 1 - cos(x, y) = ½ |x/|x| - y/|y||², in [0, 2]; 1 from a training row of zeros, which has no direction.
    Cosine,
}

/// A search for the `k` nearest rows of a data set to each query.
#[derive(Clone, Copy)]
pub struct Search<'a> {
    /// The training rows.
    pub rows: &'a Rows,
    /// The queries, `[batch, dim]`.
    pub x: &'a Matrix,
    /// What is near.
    pub metric: Metric,
    /// How many, at least one and at most all.
    pub k: usize,
}

/// The complaint about a query of zeros where cosines are asked for.
pub fn no_direction(row: usize) -> Error {
    Error::invalid(format!(
        "queries: row {row} is all zeros, which has no direction and no cosine distance; leave it out"
    ))
}

/// A machine that computes.
pub trait Engine: Send + Sync {
    /// What the engine is, as a JSON object.
    fn describe(&self) -> String;

    /// The bytes a data set may take, if the caller set a limit.
    fn memory_limit(&self) -> Option<u64>;

    /// How many tasks run at once in [`Self::side_by_side`].
    fn threads(&self) -> usize {
        1
    }

    /// Runs `task(0..tasks)` on the engine's threads, and meanwhile `watch` on this one, now and then.
    fn side_by_side(&self, tasks: usize, task: &(dyn Fn(usize) + Sync), watch: &mut dyn FnMut()) -> Result<()> {
        watch();
        (0..tasks).for_each(task);
        Ok(())
    }

    /// The CUDA device whose memory the engine computes on; `None` is the host's.
    fn device(&self) -> Option<i32> {
        None
    }

    /// Runs `work` on the stream of `exec`. Every call of the library is inside one; what is called outside runs on the
    /// device's default stream.
    fn within(&self, _exec: &Exec<'_>, work: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        work()
    }

    /// Makes ready what calls would otherwise make at first use.
    fn warm_up(&self) -> Result<()> {
        Ok(())
    }

    /// Makes ready what calls on these rows need, when a data set is made.
    fn prepare(&self, _rows: &Rows) -> Result<()> {
        Ok(())
    }

    /// Copies a caller's view, contiguous, to the host's memory, which is waited for.
    fn fetch(&self, from: View<'_>, _to: &mut [u8]) -> Result<()> {
        unreachable!("a view in {:?} memory", from.place())
    }

    /// Copies the host's bytes, contiguous, to a caller's view that is not in the host's memory.
    fn put(&self, _from: &[u8], to: &mut ViewMut<'_>) -> Result<()> {
        unreachable!("a view in {:?} memory", to.view().place())
    }

    /// The memory of a matrix as a host's callback sees it: contiguous, of F32 or F64, whatever is in it. Only for engines
    /// with a [`Self::device`].
    fn lend<'a>(&self, _m: &'a mut Matrix, dtype: Dtype) -> ViewMut<'a> {
        unreachable!("{} in device memory", dtype.name())
    }

    /// A matrix of zeros.
    fn zeros(&self, rows: usize, cols: usize) -> Result<Matrix>;

    /// A matrix of one column of the host's numbers.
    fn column(&self, numbers: &[f64]) -> Result<Matrix> {
        self.load("numbers", View::new(numbers, numbers.len(), 1))
    }

    /// A working copy of the caller's F32 or F64 matrix; `name` is the argument's name, for messages about NaN and Inf.
    fn load(&self, name: &str, from: View<'_>) -> Result<Matrix>;

    /// Writes a matrix to the caller's F32 or F64 memory, rounding once.
    fn store(&self, from: &Matrix, to: &mut ViewMut<'_>) -> Result<()>;

    /// The first row that has an element that is not finite or larger than `limit` in magnitude. A device looks only where
    /// the caller waits for it anyway: [`Exec::check`].
    fn first_beyond(&self, x: &Matrix, limit: f64) -> Result<Option<usize>>;

    /// out ← Σ factor · matrix + noise, or out ← keep · out + Σ factor · matrix + noise, added in this order.
    fn combine(
        &self,
        out: &mut Matrix,
        keep: Option<Factor<'_>>,
        terms: &[(Factor<'_>, &Matrix)],
        noise: Option<Noise>,
    ) -> Result<()>;

    /// Row inner products x_i · y_i.
    fn dot_rows(&self, x: &Matrix, y: &Matrix) -> Result<Vec<f64>>;

    /// Root mean square over a row of error / (atol + rtol max(|x|, |y|)).
    fn error_norms(&self, out: &mut [f64], error: &Matrix, x: &Matrix, y: &Matrix, rtol: f64, atol: f64) -> Result<()>;

    /// A matrix of the named rows.
    fn gather(&self, from: &Matrix, rows: &[usize]) -> Result<Matrix>;

    /// The named rows of `from` become the same rows of `to`.
    fn copy_rows(&self, from: &Matrix, rows: &[usize], to: &mut Matrix) -> Result<()>;

    /// Leaves the named rows, which ascend, and none between them.
    fn keep_rows(&self, m: &mut Matrix, rows: &[usize]) -> Result<()>;

    /// Row i of `from` becomes row `rows[i]` of `to`.
    fn scatter(&self, from: &Matrix, rows: &[usize], to: &mut Matrix) -> Result<()>;

    /// The fused pass over a data set behind every empirical score (reg 3.8). It never stores a batch × N matrix.
    fn empirical(&self, query: &Query<'_>, out: Moments<'_>, exec: &Exec<'_>) -> Result<()>;

    /// The nearest rows of each query, nearest first, ties to the lower index: `[batch, k]` each. A query of zeros has no
    /// cosine: [`Error::Invalid`].
    fn nearest(&self, search: &Search<'_>, distance: &mut [f64], index: &mut [i64], exec: &Exec<'_>) -> Result<()>;
}

/// A shared engine, as every object that computes holds one.
pub type SharedEngine = Arc<dyn Engine>;
