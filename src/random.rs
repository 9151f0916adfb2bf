//! Counter-based random numbers: each is a pure function of (seed, sample, step, purpose, element), so a result depends
//! neither on the order of evaluation nor on how the work is split, and has the same bits on every machine.
//!
//! The generator is Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011). Its key is
//! the seed and its counter says which number is wanted. This layout is fixed for ever:
//!
//! | word         | holds                                                 |
//! |--------------|-------------------------------------------------------|
//! | `counter[0]` | element / 2                                           |
//! | `counter[1]` | step                                                  |
//! | `counter[2]` | bits 0..32 of the sample index                        |
//! | `counter[3]` | purpose << 24, with bits 32..56 of the sample index   |
//! | `key[0]`     | low word of the seed                                  |
//! | `key[1]`     | high word of the seed                                 |
//!
//! Sample indices are therefore below 2^56. The block of four words gives elements 2i and 2i + 1 by Box–Muller:
//! `u = ((w1:w0 >> 11) + 0.5) 2^-53` and `v = (w3:w2 >> 11) 2^-53` give `r = sqrt(-2 ln u)`, then `r cos(2 pi v)` and
//! `r sin(2 pi v)`.
//!
//! The transform uses only `+ - * / sqrt` on binary64, which IEEE 754 rounds correctly, integer operations on bits, and
//! exact conversions from integers. The order of operations is part of the definition. rustc never contracts `a * b + c`
//! into a fused multiply-add; a port must not either (in CUDA: `__dmul_rn`, `__dadd_rn`, `__ddiv_rn`, `__dsqrt_rn`). The
//! one kind of machine left out is 32-bit x86 without SSE2, whose x87 unit rounds twice.

/// What a number is for; part of the counter, so that two uses never share a number. Values are fixed for ever.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The initial state of a sample.
    Prior = 0,
    /// The noise of a stochastic step.
    Step = 1,
    /// The noise that EDM churn adds before a step.
    Churn = 2,
}

/// Philox4x32-10: ten rounds of the bijection of `counter` that `key` selects.
pub fn philox4x32_10(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    // The multipliers and Weyl increments of Salmon et al. (the increments are the golden ratio and sqrt(3) - 1).
    const MULTIPLIER: [u64; 2] = [0xd251_1f53, 0xcd9e_8d57];
    const WEYL: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];
    let ([mut c0, mut c1, mut c2, mut c3], [mut k0, mut k1]) = (counter, key);
    for _ in 0..10 {
        let (p0, p1) = (MULTIPLIER[0] * u64::from(c0), MULTIPLIER[1] * u64::from(c2));
        (c0, c1, c2, c3) = ((p1 >> 32) as u32 ^ c1 ^ k0, p1 as u32, (p0 >> 32) as u32 ^ c3 ^ k1, p0 as u32);
        (k0, k1) = (k0.wrapping_add(WEYL[0]), k1.wrapping_add(WEYL[1]));
    }
    [c0, c1, c2, c3]
}

/// Number of sample indices.
pub const SAMPLES: u64 = 1 << 56;

/// The random numbers of one use, at one step, under one seed.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    /// The seed of the whole run.
    pub seed: u64,
    /// What the numbers are for.
    pub purpose: Purpose,
    /// The step of the sampler.
    pub step: u32,
}

impl Stream {
    /// Fills `out` with elements `0..out.len()` of one sample: independent standard normals.
    ///
    /// # Panics
    /// If `sample` is 2^56 or more, or `out` holds more than 2^33 elements.
    pub fn fill_normal(&self, sample: u64, out: &mut [f64]) {
        // All words of a block before its transforms: the integer work vectorizes, and the transforms overlap.
        const BLOCK: usize = 16;
        for (block, values) in out.chunks_mut(2 * BLOCK).enumerate() {
            let first = u32::try_from(block * BLOCK).expect("a sample has at most 2^33 elements");
            let mut words = [[0; 4]; BLOCK];
            for (i, words) in words[..values.len().div_ceil(2)].iter_mut().enumerate() {
                *words = self.words(sample, first + i as u32);
            }
            for (values, words) in values.chunks_mut(2).zip(words) {
                for (value, normal) in values.iter_mut().zip(box_muller(words)) {
                    *value = normal;
                }
            }
        }
    }

    /// Elements `2 * pair` and `2 * pair + 1` of one sample.
    ///
    /// # Panics
    /// If `sample` is 2^56 or more.
    pub fn normal_pair(&self, sample: u64, pair: u32) -> [f64; 2] {
        box_muller(self.words(sample, pair))
    }

    /// The random words behind a pair. Always inlined: `fill_normal` takes a third longer when its loop is not vectorized.
    #[inline(always)]
    fn words(&self, sample: u64, pair: u32) -> [u32; 4] {
        assert!(sample < SAMPLES, "sample index {sample} is not below 2^56");
        let counter = [pair, self.step, sample as u32, (self.purpose as u32) << 24 | (sample >> 32) as u32];
        philox4x32_10(counter, [self.seed as u32, (self.seed >> 32) as u32])
    }
}

/// 2^-50 and 2^-53.
const TWO_POW_M50: f64 = 1.0 / (1u64 << 50) as f64;
const TWO_POW_M53: f64 = 1.0 / (1u64 << 53) as f64;

/// Two standard normals from 106 of the 128 bits.
///
/// Above 1/2 the sum with 0.5 is a tie, rounded to even, so `u` lies in [2^-54, 1]: never 0, and 1 for only the largest
/// of the 2^53 values. The radius is then at most sqrt(108 ln 2) = 8.65, and for `u` = 1 it is +0 (`0 - 0`, not `-0`).
fn box_muller(words: [u32; 4]) -> [f64; 2] {
    let top53 = |low: u32, high: u32| (u64::from(high) << 32 | u64::from(low)) >> 11;
    let u = (top53(words[0], words[1]) as f64 + 0.5) * TWO_POW_M53;
    let radius = (0.0 - 2.0 * ln(u)).sqrt();
    let (sin, cos) = sin_cos(top53(words[2], words[3]));
    [radius * cos, radius * sin]
}

/// The natural logarithm of a positive normal number, within 1 ulp; `ln(1)` is +0.
///
/// `x = 2^k (1 + f)` with `1 + f` in [sqrt(1/2), sqrt(2)), and with `s = f / (2 + f)`, `ln(1 + f) = 2 atanh(s) = 2s + s R`
/// where `R` is the series below. As `2s = f - s f` and `s f = f²/2 - s f²/2`, the exact `f` can be added last, so small
/// errors stay small relative to the result (the arrangement of fdlibm).
fn ln(x: f64) -> f64 {
    const ONE_BITS: u64 = 0x3ff0_0000_0000_0000;
    const SQRT_HALF_BITS: u64 = 0x3fe6_a09e_667f_3bcd;
    const FRACTION_MASK: u64 = (1 << 52) - 1;
    // ln 2 cut to a multiple of 2^-32, so that k times it is exact, and the rest.
    const LN2_HI: f64 = 0.6931471803691238;
    const LN2_LO: f64 = 1.9082149292705877e-10;
    // 2 atanh(s)/s - 2 = sum over n of 2/(2n+1) s^2n. |s| < 0.1716, so n > 10 adds less than 2^-59 of the result.
    // From the last term to the first.
    const ATANH: [f64; 10] = [
        2.0 / 21.0,
        2.0 / 19.0,
        2.0 / 17.0,
        2.0 / 15.0,
        2.0 / 13.0,
        2.0 / 11.0,
        2.0 / 9.0,
        2.0 / 7.0,
        2.0 / 5.0,
        2.0 / 3.0,
    ];
    let shifted = x.to_bits() + (ONE_BITS - SQRT_HALF_BITS);
    let k = ((shifted >> 52) as i64 - 1023) as f64;
    let f = f64::from_bits((shifted & FRACTION_MASK) + SQRT_HALF_BITS) - 1.0;
    let s = f / (2.0 + f);
    let z = s * s;
    let r = z * polynomial(&ATANH, z);
    let half_square = 0.5 * f * f;
    k * LN2_HI - ((half_square - (s * (half_square + r) + k * LN2_LO)) - f)
}

/// Sine and cosine of `turn * 2^-53` turns, for `turn` below 2^53; each within 1.6 ulp, and exact at quarter turns.
///
/// The nearest quarter turn is removed exactly, in integers. What is left is `t` eighths of a turn, |t| <= 1, and the
/// Taylor series of sin(pi t / 4) and cos(pi t / 4) are summed in `t`, so that the angle is never rounded.
fn sin_cos(turn: u64) -> (f64, f64) {
    const PI_4_HI: f64 = std::f64::consts::FRAC_PI_4;
    const PI_4_LO: f64 = 3.061616997868383e-17; // pi/4 - PI_4_HI
    // (-1)^n (pi/4)^(2n+1) / (2n+1)!, n = 8 down to 1; n = 9 would add less than 2^-63.
    const SIN: [f64; 8] = [
        4.628704628834683e-17,
        -2.0410263396641442e-14,
        6.948453273886629e-12,
        -1.757247673443401e-9,
        3.1336168903781217e-7,
        -3.657620418217725e-5,
        0.0024903945701927202,
        -0.08074551218828079,
    ];
    // (-1)^n (pi/4)^2n / (2n)!, n = 8 down to 1; n = 9 would add less than 2^-58.
    const COS: [f64; 8] = [
        1.001886461636272e-15,
        -3.8980731712596753e-13,
        1.1501159127974052e-10,
        -2.4611369504942e-8,
        3.59086044859151e-6,
        -0.00032599188692739,
        0.015854344243815502,
        -0.30842513753404244,
    ];
    let quarter = (turn + (1 << 50)) >> 51;
    let t = (turn as i64 - (quarter << 51) as i64) as f64 * TWO_POW_M50;
    let z = t * t;
    let sin = t * PI_4_HI + t * (PI_4_LO + z * polynomial(&SIN, z));
    let cos = 1.0 + z * polynomial(&COS, z);
    // A quarter turn takes (sin, cos) to (cos, -sin); bit 1 of a word, moved to bit 63, is a sign.
    let (sin, cos) = if quarter & 1 == 1 { (cos, sin) } else { (sin, cos) };
    let flip = |x: f64, word: u64| f64::from_bits(x.to_bits() ^ (word & 2) << 62);
    (flip(sin, quarter), flip(cos, quarter + 1))
}

/// The polynomial in `z` with these coefficients (an even number of them, highest power first), as two interleaved Horner
/// sums in z² to halve the wait of each operation for the one before: `(c0 y^m + c2 y^(m-1) + ..) z + (c1 y^m + ..)`.
fn polynomial<const N: usize>(coefficients: &[f64; N], z: f64) -> f64 {
    let y = z * z;
    let (mut odd, mut even) = (coefficients[0], coefficients[1]);
    for pair in coefficients[2..].chunks_exact(2) {
        (odd, even) = (odd * y + pair[0], even * y + pair[1]);
    }
    odd * z + even
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: Stream = Stream { seed: 0x0123_4567_89ab_cdef, purpose: Purpose::Step, step: 7 };

    fn normals(stream: Stream, sample: u64, n: usize) -> Vec<f64> {
        let mut out = vec![f64::NAN; n];
        stream.fill_normal(sample, &mut out);
        out
    }

    /// The difference of two numbers in units in the last place of the second.
    fn ulps(got: f64, want: f64) -> f64 {
        (got - want).abs() / (want.abs().next_up() - want.abs())
    }

    #[test]
    fn philox_agrees_with_the_known_answers_of_random123() {
        let pi = ([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]);
        for (counter, key, want) in [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (pi.0, pi.1, [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]),
        ] {
            assert_eq!(philox4x32_10(counter, key), want);
        }
    }

    #[test]
    fn normals_keep_their_bits() {
        const FIRST: [u64; 8] = [
            0x3ff9_a376_236c_2409,
            0xbfd8_2a28_16e8_3b20,
            0xbfc0_5352_7606_23b6,
            0x3fe5_bca4_89a7_879f,
            0xbfce_00e5_3ec1_64e9,
            0xc003_d2f2_3690_6c3a,
            0xbff5_a6f8_ec44_d214,
            0x3ff1_0cdb_7e01_3d78,
        ];
        // A hash of ten thousand: a change in the order of operations alters the bits of some numbers only.
        const HASH: u64 = 0x1522_804a_199a_5aa8;
        let stream = Stream { purpose: Purpose::Churn, ..STREAM };
        let bits: Vec<u64> = normals(stream, 0x00ab_cdef_0123_4567, 10_000).iter().map(|x| x.to_bits()).collect();
        assert_eq!(bits[..8], FIRST);
        assert_eq!(bits.iter().fold(0u64, |hash, bits| hash.rotate_left(5) ^ bits), HASH);
    }

    #[test]
    fn ln_is_within_2_ulp_of_std() {
        // Either side may be 1 ulp off. Uniform points, powers of two (all exponents in use), and both ends.
        let uniform = (0..200_000).map(|i| {
            let w = philox4x32_10([i, 0, 0, 0], [1, 2]);
            (f64::from(w[0]) + 0.5) / 2f64.powi(32 + (w[1] % 16) as i32)
        });
        let near_one = (1..2000).map(|i| 1.0 - f64::from(i) * f64::EPSILON);
        let powers = (0..=54).flat_map(|k| [1.0, 0.707, 0.708, 0.9].map(|m| m * 0.5f64.powi(k)));
        let worst = uniform.chain(near_one).chain(powers).map(|x| ulps(ln(x), x.ln())).fold(0.0, f64::max);
        assert!(worst <= 2.0, "{worst} ulp");
        assert_eq!(ln(1.0).to_bits(), 0);
    }

    #[test]
    fn sin_cos_is_within_2_2_ulp_of_std() {
        // std takes radians, so its argument is rounded; the test takes an octant's exact angle x + dx and corrects by the
        // derivative. 1.6 ulp of ours and 0.6 of std's. Other octants follow by symmetry, which holds bit for bit.
        let octant = 1u64 << 50;
        let small = (0..50).map(|i| 1 << i);
        let turns = (0..200_000u64).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 14).chain(small).chain([octant]);
        let mut worst = 0.0f64;
        for turn in turns {
            let (t, pi_4) = (turn as f64 * TWO_POW_M50, std::f64::consts::FRAC_PI_4);
            let x = t * pi_4;
            let dx = t.mul_add(pi_4, -x) + t * 3.061616997868383e-17;
            let (sin, cos) = sin_cos(turn);
            let ulp = |y: f64| y.next_up() - y;
            worst = worst.max(((sin - x.sin()) - dx * x.cos()).abs() / ulp(x.sin()));
            worst = worst.max(((cos - x.cos()) + dx * x.sin()).abs() / ulp(x.cos()));
            assert_eq!(sin_cos(turn + 2 * octant), (cos, -sin));
            assert_eq!(sin_cos(turn + 4 * octant), (-sin, -cos));
            assert_eq!(sin_cos(turn + 6 * octant), (-cos, sin));
            if turn > 0 && turn < octant {
                assert_eq!(sin_cos(2 * octant - turn), (cos, sin));
                assert_eq!(sin_cos(8 * octant - turn), (-sin, cos));
            }
        }
        assert!(worst <= 2.2, "{worst} ulp");
    }

    #[test]
    fn the_ends_of_the_uniforms_are_finite() {
        assert_eq!(box_muller([u32::MAX, u32::MAX, 0, 0]).map(f64::to_bits), [0, 0]);
        assert_eq!(box_muller([0; 4]), [(108.0 * std::f64::consts::LN_2).sqrt(), 0.0]);
        assert!(box_muller([u32::MAX; 4]).iter().all(|x| *x == 0.0));
    }

    #[test]
    fn a_million_normals_have_normal_moments_and_distribution() {
        let n = 1_000_000;
        let mut x: Vec<f64> = (0..1000).flat_map(|sample| normals(STREAM, sample, 1000)).collect();
        // About the known mean 0 and deviation 1: E x^k is 0, 1, 0, 3 (mean, variance, skewness, kurtosis) and the variance
        // of x^k is E x^2k - (E x^k)^2 = 1, 2, 15, 96. Five standard errors: a right generator fails once in 10^6 seeds.
        for (k, want, variance) in [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)] {
            let moment = x.iter().map(|x| x.powi(k)).sum::<f64>() / f64::from(n);
            let error = (moment - want) / (variance / f64::from(n)).sqrt();
            assert!(error.abs() < 5.0, "moment {k}: {moment}, {error} standard errors");
        }
        // Kolmogorov: sqrt(n) times the distance passes 1.95 with probability 2 exp(-2 * 1.95²) = 0.001.
        x.sort_by(f64::total_cmp);
        let distance = x.iter().enumerate().map(|(i, &x)| (cdf(x) - (i as f64 + 0.5) / f64::from(n)).abs());
        let distance = distance.fold(0.0, f64::max) + 0.5 / f64::from(n);
        assert!(distance < 1.95 / f64::from(n).sqrt(), "{distance}");
    }

    /// The normal distribution function: 1/2 + density (x + x³/3 + x⁵/(3·5) + ...), of one sign and so without cancellation.
    fn cdf(x: f64) -> f64 {
        let (mut sum, mut term, mut k) = (x, x, 1.0);
        while term.abs() > 1e-12 {
            k += 2.0;
            term *= x * x / k;
            sum += term;
        }
        0.5 + sum * (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt()
    }

    #[test]
    fn streams_are_uncorrelated() {
        let n = 100_000;
        let base = normals(STREAM, 3, n);
        let others = [
            normals(STREAM, 4, n),
            normals(STREAM, 3 + (1 << 32), n),
            normals(STREAM, 3 + (1 << 55), n),
            normals(Stream { step: 8, ..STREAM }, 3, n),
            normals(Stream { purpose: Purpose::Prior, ..STREAM }, 3, n),
            normals(Stream { purpose: Purpose::Churn, ..STREAM }, 3, n),
            normals(Stream { seed: STREAM.seed ^ 1, ..STREAM }, 3, n),
            normals(Stream { seed: STREAM.seed ^ 1 << 63, ..STREAM }, 3, n),
            base[1..].to_vec(),
            base[2..].to_vec(),
        ];
        // Each product of independent normals has variance 1: five standard errors, for the values and for the squares
        // (less 1, variance 2, so products of variance 4).
        for (i, other) in others.iter().enumerate() {
            let pairs = || base.iter().zip(other);
            let values = pairs().map(|(a, b)| a * b).sum::<f64>() / (n as f64).sqrt();
            let squares = pairs().map(|(a, b)| (a * a - 1.0) * (b * b - 1.0)).sum::<f64>() / (4.0 * n as f64).sqrt();
            assert!(values.abs() < 5.0 && squares.abs() < 5.0, "{i}: {values}, {squares} standard errors");
        }
    }

    #[test]
    fn fill_is_the_pairs_in_order_for_any_length() {
        let pairs: Vec<f64> = (0..40).flat_map(|pair| STREAM.normal_pair(9, pair)).collect();
        for n in 0..=pairs.len() {
            assert_eq!(normals(STREAM, 9, n), pairs[..n]);
        }
    }

    #[test]
    #[should_panic(expected = "below 2^56")]
    fn a_sample_index_that_would_reach_the_purpose_is_refused() {
        STREAM.normal_pair(1 << 56, 0);
    }
}
