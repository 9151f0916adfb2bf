//! The running sums of one query, and how they move to another reference.

use crate::cpu::vector::Isa;

/// What one query knows of the rows it has seen. Weights are relative to the best row: exp(-h (d² - best)).
#[derive(Clone, Copy)]
pub struct Running {
    /// Smallest squared distance.
    pub best: f64,
    /// Its row in the data set.
    pub index: usize,
    /// Sum of the other rows' weights, apart so that 1 + rest loses nothing when rest is tiny.
    pub rest: f64,
    /// Σ weight (d² - best).
    pub excess: f64,
    /// Sum of the weights that entered the weighted mean.
    pub included: f64,
    /// Σ weight (y - c)·v (tangent only).
    pub slope: f64,
    /// How much the rounding of weights to whole units changed them, added up ([`super::integer`] only).
    pub rounded: f64,
}

impl Running {
    /// No row seen yet.
    pub const START: Self =
        Self { best: f64::INFINITY, index: 0, rest: 0.0, excess: 0.0, included: 0.0, slope: 0.0, rounded: 0.0 };

    /// Makes weights relative to a smaller distance, `gap` below the present one; `factor` is exp(-h gap).
    pub fn fade(&mut self, gap: f64, factor: f64) {
        if factor > 0.0 {
            self.excess = factor * (self.excess + gap * (self.rest + 1.0));
            self.rest = factor * (self.rest + 1.0);
            self.included *= factor;
            self.slope *= factor;
            self.rounded *= factor;
        } else {
            *self = Self::START;
        }
    }
}

/// The vectors of one query: Σ w (y - c), c, and Σ w (y - c) ((y - c)·v). c is the mean of the data or the best row.
pub struct Sums<'a> {
    /// Σ w (y - c).
    pub mean: &'a mut [f64],
    /// c, for [`super::route::Mean::Local`] only; empty where no query of the pass is so.
    pub centre: &'a mut [f64],
    /// Σ w (y - c) ((y - c)·v), empty without a tangent.
    pub product: &'a mut [f64],
}

impl<'a> Sums<'a> {
    /// Splits one query's vectors.
    pub fn of(vectors: &'a mut [f64], stride: usize) -> Self {
        let (mean, rest) = vectors.split_at_mut(stride);
        let (centre, product) = rest.split_at_mut(stride.min(rest.len()));
        Self { mean, centre, product }
    }

    /// Replaces the centre by `to` without changing what the sums stand for.
    pub fn recentre(&mut self, to: &[f64], run: &mut Running, tangent: Option<&[f64]>) {
        if let Some(v) = tangent {
            let turn: f64 = self.centre.iter().zip(to).zip(v).map(|((c, t), v)| (c - t) * v).sum();
            for (k, to) in to.iter().enumerate() {
                let step = self.centre[k] - to;
                self.product[k] += step * run.slope + turn * self.mean[k] + run.included * turn * step;
            }
            run.slope += run.included * turn;
        }
        for (k, to) in to.iter().enumerate() {
            self.mean[k] += run.included * (self.centre[k] - to);
        }
        self.centre.copy_from_slice(to);
    }

    /// Multiplies every weight by `factor`.
    pub fn scale(&mut self, factor: f64) {
        self.mean.iter_mut().chain(self.product.iter_mut()).for_each(|v| *v *= factor);
    }
}

/// (e^r - 1) / r on |r| ≤ ln 2 / 2, highest power first: 1/13! … 1/1!, to 5e-18.
pub const SERIES: [f64; 13] = [
    1.0 / 6_227_020_800.0,
    1.0 / 479_001_600.0,
    1.0 / 39_916_800.0,
    1.0 / 3_628_800.0,
    1.0 / 362_880.0,
    1.0 / 40_320.0,
    1.0 / 5_040.0,
    1.0 / 720.0,
    1.0 / 120.0,
    1.0 / 24.0,
    1.0 / 6.0,
    1.0 / 2.0,
    1.0,
];

/// e^-x for x ≥ 0 to about 1e-16 relative, 0 beyond 708; written so that it vectorises.
#[inline(always)]
pub fn exp_neg<S: Isa>(x: f64) -> f64 {
    const LARGEST: f64 = 708.0;
    // Adding 1.5·2^52 leaves round(y) in the low bits of the significand.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    // ln 2 in two parts: a product of the first with any exponent is exact.
    const LN2_HIGH: f64 = 6.931_471_803_691_238e-1;
    const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    let shifted = S::mul_add(-x, std::f64::consts::LOG2_E, ROUND);
    let k = shifted - ROUND;
    let r = S::mul_add(k, -LN2_LOW, S::mul_add(k, -LN2_HIGH, -x));
    let mut series = SERIES[0];
    for c in &SERIES[1..] {
        series = S::mul_add(series, r, *c);
    }
    let e = S::mul_add(series, r, 1.0);
    let power = f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52);
    if x <= LARGEST { e * power } else { 0.0 }
}

/// The same in float32 to about 1e-7 relative and 1e-7 x absolute, as x is rounded; 0 beyond 69, where no sum with a
/// weight of 1 has room for it and its products could be subnormal.
#[inline(always)]
pub fn exp_neg_single<S: Isa>(x: f32) -> f32 {
    const LARGEST: f32 = 69.0;
    // Adding 1.5·2^23 leaves round(y) in the low bits of the significand.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts: a product of the first with an exponent is exact.
    const LN2_HIGH: f32 = 0.693_145_75;
    const LN2_LOW: f32 = 1.428_606_8e-6;
    // 1/7! … 1/2!: the series on |r| ≤ ln 2 / 2 ends below 6e-9.
    const INVERSE_FACTORIALS: [f32; 6] = [1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 1.0 / 2.0];
    let shifted = S::mul_add_single(-x, std::f32::consts::LOG2_E, ROUND);
    let k = shifted - ROUND;
    let r = S::mul_add_single(k, -LN2_LOW, S::mul_add_single(k, -LN2_HIGH, -x));
    let mut series = INVERSE_FACTORIALS[0];
    for c in &INVERSE_FACTORIALS[1..] {
        series = S::mul_add_single(series, r, *c);
    }
    let e = S::mul_add_single(S::mul_add_single(series, r, 1.0), r, 1.0);
    let power = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    if x <= LARGEST { e * power } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::vector::Portable;

    #[test]
    fn exp_neg_is_within_two_ulp_of_std() {
        for i in 0..400_000 {
            let x = f64::from(i) * 1.77e-3;
            let (ours, std) = (exp_neg::<Portable>(x), (-x).exp());
            if x <= 708.0 {
                // The series, the scaled argument and std's own rounding are each good to about half an ulp.
                assert!((ours / std - 1.0).abs() < 5e-16, "{x}: {ours} {std}");
            } else {
                assert_eq!(ours, 0.0);
            }
        }
        assert_eq!(exp_neg::<Portable>(0.0), 1.0);
        assert_eq!(exp_neg::<Portable>(f64::INFINITY), 0.0);
    }

    #[test]
    fn exp_neg_single_is_within_two_ulp_of_std() {
        for i in 0..400_000_u32 {
            let x = i as f32 * 1.77e-4;
            let (ours, exact) = (exp_neg_single::<Portable>(x), (-f64::from(x)).exp());
            if x <= 69.0 {
                // Three roundings of numbers near 1 without a fused multiply-add, one ulp being 1.2e-7.
                assert!((f64::from(ours) / exact - 1.0).abs() < 2.4e-7, "{x}: {ours} {exact}");
            } else {
                assert_eq!(ours, 0.0);
            }
        }
        assert_eq!(exp_neg_single::<Portable>(0.0), 1.0);
        assert_eq!(exp_neg_single::<Portable>(f32::INFINITY), 0.0);
    }
}
