//! Memorization: what of the generated is copied.

use super::dataset::mnemo_dataset;
use super::exec::{mnemo_exec, with_exec};
use super::status::mnemo_error;
use super::tensor::{fill, mnemo_tensor, output, real_matrix};
use super::{Sized32, count, given, guard, initialise, read_sized, required, reserved, write_sized};
use crate::error::Error;
use crate::memorization::{Metric, check_k, memorization, nearest};
use crate::tensor::Dtype;

/// Metric: Euclidean distance.
pub const MNEMO_METRIC_L2: u32 = 0;
/// Metric: 1 - cos(x, y), in [0, 2]: 0 in the same direction, 1 at a right angle, 2 in the opposite direction, whatever the
/// lengths. It is formed as half the squared distance of the rows divided by their lengths, so that small ones do not cancel.
pub const MNEMO_METRIC_COSINE: u32 = 1;

/// What counts as a copy.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct mnemo_memorization_options {
    /// sizeof(mnemo_memorization_options).
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// A sample within this Euclidean distance of a training row is a copy (tau of reg 5); positive, initially 0: to be
    /// set. Half the median distance of training rows to their nearest neighbours is a scale-free choice.
    pub threshold: f64,
}

// SAFETY: repr(C), size first, no padding, any bytes are valid.
unsafe impl Sized32 for mnemo_memorization_options {
    fn initial() -> Self {
        Self { struct_size: size_of::<Self>() as u32, reserved: 0, threshold: 0.0 }
    }
}

/// How near generated samples come to the training rows.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct mnemo_memorization_report {
    /// sizeof(mnemo_memorization_report), set by the caller.
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// Number of samples.
    pub samples: i64,
    /// Samples within the threshold of their nearest training row.
    pub copied: i64,
    /// copied / samples.
    pub fraction_copied: f64,
    /// Smallest Euclidean distance of a sample to its nearest training row.
    pub min_distance: f64,
    /// Median of these distances (mean of the middle two).
    pub median_distance: f64,
    /// Largest of these distances.
    pub max_distance: f64,
}

// SAFETY: repr(C), size first, no padding, any bytes are valid.
unsafe impl Sized32 for mnemo_memorization_report {
    fn initial() -> Self {
        Self {
            struct_size: size_of::<Self>() as u32,
            reserved: 0,
            samples: 0,
            copied: 0,
            fraction_copied: 0.0,
            min_distance: 0.0,
            median_distance: 0.0,
            max_distance: 0.0,
        }
    }
}

/// Fills `options` with its initial values; `size` is sizeof *options.
///
/// Threads: any. Errors: none; NULL is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mnemo_memorization_options_init(options: *mut mnemo_memorization_options, size: usize) {
    // SAFETY: the caller's promises; so throughout this file.
    unsafe { initialise(options, size) }
}

/// Fills `report` with zeros and its size; `size` is sizeof *report.
///
/// Threads: any. Errors: none; NULL is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mnemo_memorization_report_init(report: *mut mnemo_memorization_report, size: usize) {
    // SAFETY: as above.
    unsafe { initialise(report, size) }
}

/// The `k` nearest training rows of each query, exact: `distance` [queries, k] (F64 or F32), nearest first, and `index`
/// [queries, k] (I64), ties to the lower index; either may be NULL. `queries` is [any, dim], F32 or F64; k in [1, N]. A
/// training row's nearest row is itself: for its neighbours ask for one more and leave out the first.
///
/// MNEMO_METRIC_L2: distances are square roots of float64 sums of squared differences. MNEMO_METRIC_COSINE: a training row
/// of zeros has no direction, and distance 1 from every query; a query of zeros is MNEMO_E_INVALID. Distances are equal if
/// their float64 values are: rows that are multiples of each other by powers of two tie, by other factors they may differ in
/// the last bits. L2 leaves out rows that cannot be among the nearest, cosine reads every row.
///
/// Memory: 16 bytes times min(k times 32, N) per
/// query of a block whose results are kept at a time, at most 64 MiB or one query's; never queries * N.
///
/// Threads: any. Errors: MNEMO_E_INVALID, MNEMO_E_SHAPE, MNEMO_E_DTYPE, MNEMO_E_DEVICE, MNEMO_E_NOMEM,
/// MNEMO_E_CANCELLED, MNEMO_E_IO (rows in a file). On failure the outputs are untouched.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mnemo_nearest(
    dataset: *const mnemo_dataset,
    queries: *const mnemo_tensor,
    metric: u32,
    k: i64,
    distance: *mut mnemo_tensor,
    index: *mut mnemo_tensor,
    exec: *const mnemo_exec,
    err: *mut mnemo_error,
) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(err, || {
            let dataset = &required("dataset", dataset)?.dataset.clone();
            let engine = dataset.engine();
            with_exec(exec, engine, true, |exec| {
                let queries = real_matrix("queries", queries, dataset.rows().dim(), engine)?;
                let metric = match metric {
                    MNEMO_METRIC_L2 => Metric::L2,
                    MNEMO_METRIC_COSINE => Metric::Cosine,
                    other => {
                        return Err(Error::invalid(format!(
                            "metric is {other}; it is MNEMO_METRIC_L2 (0) or MNEMO_METRIC_COSINE (1)"
                        )));
                    }
                };
                let k = count("k", k)?;
                check_k(dataset, k)?;
                let shape = (queries.rows(), k);
                let distance = output("distance", distance, shape, &[Dtype::F64, Dtype::F32], engine)?;
                let index = output("index", index, shape, &[Dtype::I64], engine)?;
                let found = nearest(dataset, &engine.load("queries", queries)?, metric, k, exec)?;
                if let Some(mut to) = distance {
                    fill("distance", engine, &mut to, |to| {
                        found.distance.chunks_exact(k).enumerate().for_each(|(i, row)| to.set_row(i, row));
                        Ok(())
                    })?;
                }
                if let Some(mut to) = index {
                    fill("index", engine, &mut to, |to| {
                        let rows = found.index.chunks_exact(k).enumerate();
                        rows.for_each(|(i, row)| to.row_mut::<i64>(i).copy_from_slice(row));
                        Ok(())
                    })?;
                }
                Ok(())
            })
        })
    }
}

/// Reports how many of the `generated` samples [any > 0, dim] (F32 or F64) are copies of training rows, and how near
/// the samples come, into `report`, whose struct_size is set.
///
/// Threads: any. Errors: as mnemo_nearest; MNEMO_E_INVALID if options->threshold is not positive.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mnemo_memorization(
    dataset: *const mnemo_dataset,
    generated: *const mnemo_tensor,
    options: *const mnemo_memorization_options,
    report: *mut mnemo_memorization_report,
    exec: *const mnemo_exec,
    err: *mut mnemo_error,
) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(err, || {
            let dataset = &required("dataset", dataset)?.dataset.clone();
            let engine = dataset.engine();
            let options = read_sized("options", options)?;
            reserved("options", options.reserved)?;
            given("report", report)?;
            super::check_size("report", report)?;
            let r = with_exec(exec, engine, true, |exec| {
                let generated = real_matrix("generated", generated, dataset.rows().dim(), engine)?;
                memorization(dataset, &engine.load("generated", generated)?, options.threshold, exec)
            })?;
            let value = mnemo_memorization_report {
                struct_size: 0,
                reserved: 0,
                samples: r.samples as i64,
                copied: r.copied as i64,
                fraction_copied: r.fraction_copied,
                min_distance: r.min_distance,
                median_distance: r.median_distance,
                max_distance: r.max_distance,
            };
            write_sized("report", report, &value)
        })
    }
}
