//! What the tests need of the library, whichever way it is reached.

use half::{bf16, f16};
pub use mnemo::dataset::Decoding;
pub use mnemo::memorization::{Metric, Report};
pub use mnemo::process::Marginal;
pub use mnemo::sampler::{Grid, Options, Solver};
pub use mnemo::score::{Prediction, Regularizer, Want};
use mnemo::tensor::Dtype;
use std::path::Path;

/// A matrix in the host's memory, rows `stride` elements apart.
#[derive(Clone, Debug)]
pub struct Matrix {
    pub numbers: Numbers,
    pub rows: usize,
    pub cols: usize,
    pub stride: usize,
}

macro_rules! numbers {
    ($($kind:ident $t:ty, $from:expr, $to:expr;)*) => {
        /// The elements of a [`Matrix`], with the gaps between its rows.
        #[derive(Clone, Debug)]
        pub enum Numbers { $($kind(Vec<$t>)),* }

        impl Numbers {
            fn of(dtype: Dtype, values: impl Iterator<Item = f64>) -> Self {
                match dtype { $(Dtype::$kind => Self::$kind(values.map($from).collect())),* }
            }

            fn get(&self, i: usize) -> f64 {
                match self { $(Self::$kind(v) => $to(v[i])),* }
            }

            pub fn len(&self) -> usize {
                match self { $(Self::$kind(v) => v.len()),* }
            }

            pub fn dtype(&self) -> Dtype {
                match self { $(Self::$kind(_) => Dtype::$kind),* }
            }

            pub fn data(&self) -> *mut u8 {
                match self { $(Self::$kind(v) => v.as_ptr().cast_mut().cast()),* }
            }

            pub fn data_mut(&mut self) -> *mut u8 {
                match self { $(Self::$kind(v) => v.as_mut_ptr().cast()),* }
            }
        }
    };
}

numbers! {
    F32 f32, |v| v as f32, f64::from;
    F64 f64, |v| v, |v| v;
    F16 f16, f16::from_f64, f64::from;
    Bf16 bf16, bf16::from_f64, f64::from;
    U8 u8, |v| v as u8, f64::from;
    I32 i32, |v| v as i32, f64::from;
    I64 i64, |v| v as i64, |v| v as f64;
}

impl Matrix {
    /// Rows of `cols` values, rounded to `dtype`.
    pub fn new(dtype: Dtype, values: &[f64], cols: usize) -> Self {
        assert!(cols > 0 && values.len().is_multiple_of(cols));
        Self { numbers: Numbers::of(dtype, values.iter().copied()), rows: values.len() / cols, cols, stride: cols }
    }

    /// The same rows with `gap` elements between them that nobody may read: NaN, where the type has one.
    pub fn apart(&self, gap: usize) -> Self {
        let stride = self.cols + gap;
        let at =
            |i: usize| (i / stride < self.rows && i % stride < self.cols).then(|| self.get(i / stride, i % stride));
        let values = (0..self.rows * stride).map(|i| at(i).unwrap_or(f64::NAN));
        Self { numbers: Numbers::of(self.dtype(), values), stride, ..*self }
    }

    /// Rows `range` alone.
    pub fn part(&self, range: std::ops::Range<usize>) -> Self {
        let values = range.clone().flat_map(|i| (0..self.cols).map(move |j| self.get(i, j)));
        Self { numbers: Numbers::of(self.dtype(), values), rows: range.len(), cols: self.cols, stride: self.cols }
    }

    pub fn dtype(&self) -> Dtype {
        self.numbers.dtype()
    }

    pub fn get(&self, i: usize, j: usize) -> f64 {
        self.numbers.get(i * self.stride + j)
    }

    pub fn row(&self, i: usize) -> Vec<f64> {
        (0..self.cols).map(|j| self.get(i, j)).collect()
    }

    /// Every element in float64, row-major, without gaps.
    pub fn values(&self) -> Vec<f64> {
        (0..self.rows).flat_map(|i| self.row(i)).collect()
    }
}

/// A forward process by the name and the arguments of its constructor.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    VpLinear(f64, f64, f64),
    SubVp(f64, f64),
    VePower(f64, f64, f64),
    VeExponential(f64, f64),
    VeGeometric(f64, f64),
    Discrete(Vec<f64>),
    Flow,
}

/// How an empirical score is formed.
#[derive(Clone, Copy, Debug)]
pub struct Empirical {
    pub regularizer: Regularizer,
    pub tolerance: f64,
    pub label: Option<i64>,
}

impl Default for Empirical {
    fn default() -> Self {
        Self { regularizer: Regularizer::None, tolerance: 1e-12, label: None }
    }
}

/// What an evaluation returns; empty what was not wanted.
#[derive(Clone, Debug, Default)]
pub struct Outputs {
    pub score: Vec<f64>,
    pub denoised: Vec<f64>,
    pub log_density: Vec<f64>,
    pub divergence: Vec<f64>,
    pub entropy: Vec<f64>,
    pub nearest_index: Vec<i64>,
    pub nearest_distance: Vec<f64>,
    pub denoised_error_bound: Vec<f64>,
    pub log_density_error_bound: Vec<f64>,
}

pub const EVERYTHING: Want = Want {
    score: true,
    denoised: true,
    log_density: true,
    divergence: true,
    entropy: true,
    nearest_index: true,
    nearest_distance: true,
    denoised_error_bound: true,
    log_density_error_bound: true,
};

impl Outputs {
    /// The bits of every number.
    pub fn bits(&self) -> Vec<u64> {
        let bounds = [&self.denoised_error_bound, &self.log_density_error_bound];
        let real =
            [&self.score, &self.denoised, &self.log_density, &self.divergence, &self.entropy, &self.nearest_distance];
        let index = self.nearest_index.iter().map(|n| n.cast_unsigned());
        real.into_iter().chain(bounds).flatten().map(|v| v.to_bits()).chain(index).collect()
    }

    /// Adds the outputs of the rows that follow.
    pub fn extend(&mut self, more: Self) {
        self.score.extend(more.score);
        self.denoised.extend(more.denoised);
        self.log_density.extend(more.log_density);
        self.divergence.extend(more.divergence);
        self.entropy.extend(more.entropy);
        self.nearest_index.extend(more.nearest_index);
        self.nearest_distance.extend(more.nearest_distance);
        self.denoised_error_bound.extend(more.denoised_error_bound);
        self.log_density_error_bound.extend(more.log_density_error_bound);
    }
}

/// A host's own model. The numbers it returns are the callback's.
pub trait Model: Send + Sync {
    fn eval(&self, x: &[f64], t: &[f64], out: &mut [f64]) -> i32;

    fn jvp(&self, _x: &[f64], _t: &[f64], _v: &[f64], _out: &mut [f64]) -> i32 {
        unreachable!("has_jvp is false")
    }

    fn has_jvp(&self) -> bool {
        false
    }
}

/// Sees (step, t, state) and returns the callback's number.
pub type Observer<'a> = dyn FnMut(u64, f64, &[f64]) -> i32 + 'a;

/// Sees (done, total) and says whether to go on.
pub type Progress<'a> = dyn FnMut(u64, u64) -> bool + 'a;

/// The circumstances of one call.
pub struct Call<'a, C> {
    pub seed: u64,
    pub cancel: Option<&'a C>,
    pub progress: Option<&'a mut Progress<'a>>,
}

impl<C> Default for Call<'_, C> {
    fn default() -> Self {
        Self { seed: 0, cancel: None, progress: None }
    }
}

/// A failed call; `status` is the C ABI's.
#[derive(Clone, Debug)]
pub struct Failure {
    pub status: i32,
    pub native: i32,
    pub message: String,
}

pub type Outcome<T> = Result<T, Failure>;

/// A machine, and the library on it.
pub trait Api: Sized + Sync {
    type Dataset: Sync;
    type Process;
    type Score: Sync;
    type Cancel: Sync;

    /// The machine as a host gets it.
    fn new(threads: usize) -> Self;
    /// The same with a limit for the bytes of a data set.
    fn limited(threads: usize, memory_limit: u64) -> Self;
    /// The machine once for every instruction set that the host can choose.
    fn every(threads: usize) -> Vec<Self>;
    fn describe(&self) -> String;

    fn dataset(&self, rows: &Matrix, labels: Option<&Matrix>, decoding: Decoding) -> Outcome<Self::Dataset>;
    fn open(&self, path: &Path, labels: Option<&Path>, decoding: Decoding) -> Outcome<Self::Dataset>;

    fn process(kind: &Kind) -> Outcome<Self::Process>;
    fn at(process: &Self::Process, t: &[f64]) -> Outcome<Vec<Marginal>>;
    fn time_of_sigma(process: &Self::Process, sigma: f64) -> Outcome<f64>;

    fn empirical(&self, dataset: &Self::Dataset, process: &Self::Process, options: Empirical) -> Outcome<Self::Score>;
    fn custom(
        &self,
        process: &Self::Process,
        dim: usize,
        prediction: Prediction,
        model: Box<dyn Model>,
    ) -> Outcome<Self::Score>;

    /// `t` holds one time, or one per row of `x`.
    fn eval(score: &Self::Score, x: &Matrix, t: &[f64], want: Want, call: Call<'_, Self::Cancel>) -> Outcome<Outputs>;
    fn jvp(score: &Self::Score, x: &Matrix, t: &[f64], v: &Matrix) -> Outcome<Matrix>;
    fn sample(
        score: &Self::Score,
        options: &Options,
        x: &mut Matrix,
        observer: Option<&mut Observer<'_>>,
        call: Call<'_, Self::Cancel>,
    ) -> Outcome<()>;

    fn nearest(
        dataset: &Self::Dataset,
        queries: &Matrix,
        k: usize,
        call: Call<'_, Self::Cancel>,
    ) -> Outcome<(Vec<f64>, Vec<i64>)> {
        Self::nearest_by(dataset, queries, Metric::L2, k, call)
    }
    fn nearest_by(
        dataset: &Self::Dataset,
        queries: &Matrix,
        metric: Metric,
        k: usize,
        call: Call<'_, Self::Cancel>,
    ) -> Outcome<(Vec<f64>, Vec<i64>)>;
    fn memorization(dataset: &Self::Dataset, generated: &Matrix, threshold: f64) -> Outcome<Report>;

    fn cancel() -> Self::Cancel;
    fn request(cancel: &Self::Cancel);
}
