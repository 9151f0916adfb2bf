//! How much of what a model generates is copied from its training set.

use crate::dataset::Dataset;
pub use crate::engine::Metric;
use crate::engine::Search;
use crate::error::{Error, Result, try_vec};
use crate::exec::Exec;
use crate::tensor::Matrix;

/// The nearest training rows of each query, nearest first, ties to the lower index.
#[derive(Debug)]
pub struct Nearest {
    /// Distances, `[batch, k]` row-major.
    pub distance: Vec<f64>,
    /// Row indices, `[batch, k]` row-major.
    pub index: Vec<i64>,
}

/// An error unless a data set has `k` nearest rows.
pub fn check_k(dataset: &Dataset, k: usize) -> Result<()> {
    let len = dataset.rows().len();
    if k == 0 || k > len {
        return Err(Error::invalid(format!("k is {k}; it must lie in [1, {len}], the number of rows")));
    }
    Ok(())
}

/// The `k` nearest rows of each query `[batch, dim]`: exact.
pub fn nearest(dataset: &Dataset, queries: &Matrix, metric: Metric, k: usize, exec: &Exec<'_>) -> Result<Nearest> {
    let rows = dataset.rows();
    check_k(dataset, k)?;
    let len = queries.rows() * k;
    let mut found = Nearest { distance: try_vec(len, 0.0, "distance")?, index: try_vec(len, 0, "index")? };
    let search = Search { rows, x: queries, metric, k };
    dataset.engine().nearest(&search, &mut found.distance, &mut found.index, exec)?;
    Ok(found)
}

/// How near generated samples come to the training set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Report {
    /// Number of samples.
    pub samples: u64,
    /// Samples within the threshold of a training row.
    pub copied: u64,
    /// copied / samples.
    pub fraction_copied: f64,
    /// Smallest distance to the nearest row.
    pub min_distance: f64,
    /// Median distance to the nearest row (mean of the middle two).
    pub median_distance: f64,
    /// Largest distance to the nearest row.
    pub max_distance: f64,
}

/// Counts the samples `[batch, dim]` that lie within `threshold` (τ of reg 5) of their nearest training row.
pub fn memorization(dataset: &Dataset, generated: &Matrix, threshold: f64, exec: &Exec<'_>) -> Result<Report> {
    if !(threshold.is_finite() && threshold > 0.0) {
        return Err(Error::invalid(format!("threshold is {threshold:?}; it must be finite and positive")));
    }
    if generated.rows() == 0 {
        return Err(Error::invalid("generated: no rows; a fraction needs at least one sample"));
    }
    let mut distance = nearest(dataset, generated, Metric::L2, 1, exec)?.distance;
    distance.sort_unstable_by(f64::total_cmp);
    let samples = distance.len();
    let copied = distance.iter().filter(|&&d| d <= threshold).count();
    Ok(Report {
        samples: samples as u64,
        copied: copied as u64,
        fraction_copied: copied as f64 / samples as f64,
        min_distance: distance[0],
        median_distance: 0.5 * (distance[(samples - 1) / 2] + distance[samples / 2]),
        max_distance: distance[samples - 1],
    })
}
