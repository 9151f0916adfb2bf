//! Bounds on the error of an empirical score's sums.

use super::empirical::{FLASH, Record, SEGMENT, SMALL};
use crate::dataset::Rows;

/// What the errors of a query's sums are made of, all of them roundings in float64 (u = 2⁻⁵³) and the error ε of x.
///
/// With h = p/2 and D the distance of the nearest row, a row's D_n is off by (d + 3) u D_n of the sum and its differences
/// and by 2ε √D_n + ε² of x, and so is h (D_n - D), which has two more roundings, and an exponential of less than 4 u. With
/// E a_n = slope / (1 + rest) the mean of a_n = h (D_n - D), and by Jensen for √D_n, the mean error of an exponent is at most
///
///   Ē = (d + 9) u (2 h D + E a) + 2 h (2 ε √(D + E a / h) + ε²) + h e,
///
/// where e is what products add to the error of a distance (kernels/products.cu).
pub struct Certificate<'a> {
    pub rows: &'a Rows,
    pub dim: usize,
    pub precision: f64,
    pub x_error: f64,
    /// The weight of rows left out, at most.
    pub left_out: f64,
    pub sums: Record,
}

const U: f64 = 0.5 * f64::EPSILON;
/// For what is of second order in the bounds, and the roundings of the bounds.
const SLACK: f64 = 1.001;

impl Certificate<'_> {
    /// Roundings of a sum of weights over rows: those in a thread or a warp (16; 512 of kernels/small.cu; 128 of
    /// kernels/flash.cu, which may grow smaller 128 times by an exponential and a product), of a tree and of warps, and six of
    /// each segment.
    fn of_sums(&self) -> f64 {
        let in_segment = match self.dim {
            d if d <= SMALL => 512.0,
            d if d <= FLASH => 128.0 * 7.0,
            _ => 16.0,
        };
        (in_segment + 20.0 + 6.0 * self.rows.len().div_ceil(SEGMENT) as f64) * U
    }

    /// Ē and the roundings of sums.
    fn of_exponents(&self) -> f64 {
        let Record { distance, rest, slope, error, .. } = self.sums;
        let (h, mean) = (0.5 * self.precision, slope / (1.0 + rest));
        let far = if h > 0.0 { (distance + mean / h).sqrt() } else { 0.0 };
        let of_x = 2.0 * h * self.x_error * (2.0 * far + self.x_error);
        (self.dim as f64 + 9.0) * U * (2.0 * h * distance + mean) + of_x + h * error + self.of_sums()
    }

    /// Of ln Σ exp(ℓ_n) = ln(1 + rest) - h D.
    pub fn of_log_sum(&self) -> f64 {
        let Record { distance, rest, .. } = self.sums;
        let exponents = self.of_exponents();
        let log_sum = rest.ln_1p() + 0.5 * self.precision * distance;
        let exponents = if exponents < 1e-3 { exponents * SLACK } else { 2.0 * exponents };
        exponents + self.left_out + 4.0 * U * log_sum
    }

    /// Of Σ w y: weights are off by their exponents, and no row is farther from the mean than 2 radii; then a chain of a
    /// segment's rows, and of segments.
    pub fn of_mean(&self) -> f64 {
        // Of a query of NaN.
        if !self.sums.distance.is_finite() {
            return f64::NAN;
        }
        let radius = self.rows.radius();
        let farthest = self.rows.mean().iter().map(|v| v * v).sum::<f64>().sqrt() + radius;
        let of_weights = 2.0 * radius * (2.0 * self.of_exponents() + self.left_out).min(1.0);
        let of_chain = (SEGMENT.min(self.rows.len()) as f64 * U + self.of_sums()) * farthest;
        SLACK * (of_weights + of_chain)
    }
}

#[cfg(test)]
mod tests {
    use super::Certificate;
    use crate::cpu::Cpu;
    use crate::cuda::empirical::Record;
    use crate::dataset::{Dataset, Decoding};
    use crate::tensor::View;
    use std::sync::Arc;

    #[test]
    fn what_products_and_tolerance_make_is_counted() {
        let numbers = [0.0, 2.0];
        let engine = Arc::new(Cpu::new(1, None).unwrap());
        let data = Dataset::copy(engine, View::new(&numbers[..], 2, 1), None, Decoding::default()).unwrap();
        let of = |error: f64, left_out: f64| {
            let sums = Record { distance: 1.0, rest: 0.5, slope: 0.2, row: 0, error };
            let it = Certificate { rows: data.rows(), dim: 1, precision: 4.0, x_error: 0.0, left_out, sums };
            (it.of_log_sum(), it.of_mean())
        };
        // h is 2, and the farthest row 1 from the mean; sums over rows make 538 roundings, which the mean counts six times.
        let ((log_sum, mean), (by_products, mean_by_products), (left, mean_left)) =
            (of(0.0, 0.0), of(1e-9, 0.0), of(0.0, 1e-6));
        assert!(log_sum < 1e-13 && mean < 4e-13, "{log_sum:e}, {mean:e}");
        assert!((2e-9..2.1e-9).contains(&by_products), "{by_products:e}");
        assert!((8e-9..8.1e-9).contains(&mean_by_products), "2 radii and twice the exponents': {mean_by_products:e}");
        assert!((1e-6..1.01e-6).contains(&left), "{left:e}");
        assert!((2e-6..2.01e-6).contains(&mean_left), "{mean_left:e}");
    }
}
