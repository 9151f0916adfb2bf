//! The registers of x86-64. Everything is unsafe for the reason that [`super`] gives.

use super::{BIAS, Double, Integers, Isa, Single, Vector};
use std::arch::x86_64::*;

/// AVX2 and FMA.
pub struct Avx2;

/// AVX-512 F, DQ, VL and VNNI.
pub struct Avx512;

macro_rules! register {
    ($registers:literal x $v:ty, $t:ty, $lanes:literal, $set1:ident, $load:ident, $store:ident, $sub:ident, $fma:ident, $sum:expr, $sums:expr, $add:expr) => {
        impl Vector for $v {
            type Element = $t;
            const LANES: usize = $lanes;
            const REGISTERS: usize = $registers;
            #[inline(always)]
            unsafe fn splat(e: $t) -> Self {
                // SAFETY: see the module.
                unsafe { $set1(e) }
            }
            #[inline(always)]
            unsafe fn load(p: *const $t) -> Self {
                // SAFETY: see the module.
                unsafe { $load(p) }
            }
            #[inline(always)]
            unsafe fn sub(self, other: Self) -> Self {
                // SAFETY: see the module.
                unsafe { $sub(self, other) }
            }
            #[inline(always)]
            unsafe fn mul_add(self, b: Self, c: Self) -> Self {
                // SAFETY: see the module.
                unsafe { $fma(self, b, c) }
            }
            #[inline(always)]
            unsafe fn sum(self) -> $t {
                // SAFETY: see the module.
                unsafe { $sum(self) }
            }
            #[inline(always)]
            unsafe fn sums(v: [Self; 4]) -> [f64; 4] {
                // SAFETY: see the module; the two types are four numbers.
                unsafe { std::mem::transmute::<__m256d, [f64; 4]>($sums(v)) }
            }
            #[inline(always)]
            unsafe fn store(self, p: *mut $t) {
                // SAFETY: see the module.
                unsafe { $store(p, self) }
            }
            #[inline(always)]
            unsafe fn add_to(self, p: *mut f64) {
                // SAFETY: see the module.
                unsafe { $add(self, p) }
            }
        }
    };
}

#[inline(always)]
unsafe fn sum_pd256(v: __m256d) -> f64 {
    // SAFETY: see the module.
    unsafe {
        let pair = _mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1));
        _mm_cvtsd_f64(_mm_add_sd(pair, _mm_unpackhi_pd(pair, pair)))
    }
}
#[inline(always)]
unsafe fn sum_ps256(v: __m256) -> f32 {
    // SAFETY: see the module.
    unsafe {
        let four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)))
    }
}
// The halves of two registers, added: a step of four sums costs little more than a step of one.
#[inline(always)]
unsafe fn halves_pd256(a: __m256d, b: __m256d) -> __m256d {
    // SAFETY: see the module.
    unsafe { _mm256_add_pd(_mm256_permute2f128_pd(a, b, 0x20), _mm256_permute2f128_pd(a, b, 0x31)) }
}
#[inline(always)]
unsafe fn sums_pd256(v: [__m256d; 4]) -> __m256d {
    // SAFETY: see the module.
    unsafe {
        let (a, b) = (halves_pd256(v[0], v[2]), halves_pd256(v[1], v[3]));
        _mm256_add_pd(_mm256_unpacklo_pd(a, b), _mm256_unpackhi_pd(a, b))
    }
}
#[inline(always)]
unsafe fn halves_ps256(a: __m256, b: __m256) -> __m256 {
    // SAFETY: see the module.
    unsafe { _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31)) }
}
#[inline(always)]
unsafe fn sums_ps256(v: [__m256; 4]) -> __m256d {
    // SAFETY: see the module.
    unsafe {
        let (a, b) = (halves_ps256(v[0], v[2]), halves_ps256(v[1], v[3]));
        let two = _mm256_add_ps(_mm256_shuffle_ps(a, b, 0x44), _mm256_shuffle_ps(a, b, 0xee));
        let (low, high) = (_mm256_castps256_ps128(two), _mm256_extractf128_ps(two, 1));
        _mm256_cvtps_pd(_mm_add_ps(_mm_shuffle_ps(low, high, 0x88), _mm_shuffle_ps(low, high, 0xdd)))
    }
}
#[inline(always)]
unsafe fn add_pd256(v: __m256d, p: *mut f64) {
    // SAFETY: see the module.
    unsafe { _mm256_storeu_pd(p, _mm256_add_pd(_mm256_loadu_pd(p), v)) }
}
#[inline(always)]
unsafe fn add_ps256(v: __m256, p: *mut f64) {
    // SAFETY: see the module.
    unsafe {
        add_pd256(_mm256_cvtps_pd(_mm256_castps256_ps128(v)), p);
        add_pd256(_mm256_cvtps_pd(_mm256_extractf128_ps(v, 1)), p.add(4));
    }
}
register!(16 x __m256d, f64, 4, _mm256_set1_pd, _mm256_loadu_pd, _mm256_storeu_pd, _mm256_sub_pd, _mm256_fmadd_pd, sum_pd256, sums_pd256, add_pd256);
register!(16 x __m256, f32, 8, _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_sub_ps, _mm256_fmadd_ps, sum_ps256, sums_ps256, add_ps256);

impl Integers<__m256> for __m256i {
    #[inline(always)]
    unsafe fn splat(e: i32) -> Self {
        // SAFETY: see the module.
        unsafe { _mm256_set1_epi32(e) }
    }
    #[inline(always)]
    unsafe fn dot4(self, p: *const u8, x: i32) -> Self {
        // SAFETY: see the module. 2 · 127 · 127 is within the 16 bits of a pair's sum.
        unsafe {
            let pairs = _mm256_maddubs_epi16(_mm256_loadu_si256(p.cast()), _mm256_set1_epi32(x));
            _mm256_add_epi32(self, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
    }
    #[inline(always)]
    unsafe fn to_float(self) -> __m256 {
        // SAFETY: see the module.
        unsafe { _mm256_cvtepi32_ps(self) }
    }
}

macro_rules! double {
    ($v:ty, $add:ident, $mul:ident, $if_less:expr, $any_at_least:expr, $power_of_two:expr) => {
        impl Double for $v {
            #[inline(always)]
            unsafe fn add(self, other: Self) -> Self {
                // SAFETY: see the module.
                unsafe { $add(self, other) }
            }
            #[inline(always)]
            unsafe fn mul(self, other: Self) -> Self {
                // SAFETY: see the module.
                unsafe { $mul(self, other) }
            }
            #[inline(always)]
            unsafe fn if_less(self, other: Self, a: Self, b: Self) -> Self {
                // SAFETY: see the module.
                unsafe { $if_less(self, other, a, b) }
            }
            #[inline(always)]
            unsafe fn any_at_least(self, other: Self) -> bool {
                // SAFETY: see the module.
                unsafe { $any_at_least(self, other) }
            }
            #[inline(always)]
            unsafe fn power_of_two(self) -> Self {
                // SAFETY: see the module.
                unsafe { $power_of_two(self) }
            }
        }
    };
}

macro_rules! single {
    ($v:ty, $add:ident, $mul:ident, $min:ident, $if_less:expr, $times_power_of_two:expr) => {
        impl Single for $v {
            #[inline(always)]
            unsafe fn add(self, other: Self) -> Self {
                // SAFETY: see the module.
                unsafe { $add(self, other) }
            }
            #[inline(always)]
            unsafe fn mul(self, other: Self) -> Self {
                // SAFETY: see the module.
                unsafe { $mul(self, other) }
            }
            #[inline(always)]
            unsafe fn min(self, other: Self) -> Self {
                // SAFETY: see the module.
                unsafe { $min(self, other) }
            }
            #[inline(always)]
            unsafe fn if_less(self, other: Self, a: Self, b: Self) -> Self {
                // SAFETY: see the module.
                unsafe { $if_less(self, other, a, b) }
            }
            #[inline(always)]
            unsafe fn times_power_of_two(self, shifted: Self) -> Self {
                // SAFETY: see the module.
                unsafe { $times_power_of_two(self, shifted) }
            }
        }
    };
}

#[inline(always)]
unsafe fn if_less_ps256(x: __m256, y: __m256, a: __m256, b: __m256) -> __m256 {
    // SAFETY: see the module.
    unsafe { _mm256_blendv_ps(b, a, _mm256_cmp_ps(x, y, _CMP_LT_OQ)) }
}
#[inline(always)]
unsafe fn times_power_of_two_ps256(v: __m256, shifted: __m256) -> __m256 {
    // SAFETY: see the module.
    unsafe {
        let exponent = _mm256_slli_epi32(_mm256_castps_si256(shifted), 23);
        _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(v), exponent))
    }
}
single!(__m256, _mm256_add_ps, _mm256_mul_ps, _mm256_min_ps, if_less_ps256, times_power_of_two_ps256);

#[inline(always)]
unsafe fn if_less256(x: __m256d, y: __m256d, a: __m256d, b: __m256d) -> __m256d {
    // SAFETY: see the module.
    unsafe { _mm256_blendv_pd(b, a, _mm256_cmp_pd(x, y, _CMP_LT_OQ)) }
}
#[inline(always)]
unsafe fn any_at_least256(x: __m256d, y: __m256d) -> bool {
    // SAFETY: see the module.
    unsafe { _mm256_movemask_pd(_mm256_cmp_pd(x, y, _CMP_GE_OQ)) != 0 }
}
#[inline(always)]
unsafe fn power_of_two256(v: __m256d) -> __m256d {
    // SAFETY: see the module.
    unsafe {
        let biased = _mm256_add_epi64(_mm256_castpd_si256(v), _mm256_set1_epi64x(BIAS));
        _mm256_castsi256_pd(_mm256_slli_epi64(biased, 52))
    }
}
double!(__m256d, _mm256_add_pd, _mm256_mul_pd, if_less256, any_at_least256, power_of_two256);

impl Isa for Avx2 {
    type Integers = __m256i;
    type Double = __m256d;
    type Single = __m256;
    #[inline(always)]
    fn mul_add(a: f64, b: f64, c: f64) -> f64 {
        a.mul_add(b, c)
    }
    #[inline(always)]
    fn mul_add_single(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
}

#[inline(always)]
unsafe fn half_pd512(v: __m512d) -> __m256d {
    // SAFETY: see the module.
    unsafe { _mm256_add_pd(_mm512_castpd512_pd256(v), _mm512_extractf64x4_pd(v, 1)) }
}
#[inline(always)]
unsafe fn sum_pd512(v: __m512d) -> f64 {
    // SAFETY: see the module.
    unsafe { sum_pd256(half_pd512(v)) }
}
#[inline(always)]
unsafe fn sum_ps512(v: __m512) -> f32 {
    // SAFETY: see the module.
    unsafe { sum_ps256(_mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1))) }
}
#[inline(always)]
unsafe fn sums_pd512(v: [__m512d; 4]) -> __m256d {
    // SAFETY: see the module.
    unsafe { sums_pd256([half_pd512(v[0]), half_pd512(v[1]), half_pd512(v[2]), half_pd512(v[3])]) }
}
#[inline(always)]
unsafe fn halves_ps512(a: __m512, b: __m512) -> __m512 {
    // SAFETY: see the module.
    unsafe { _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee)) }
}
#[inline(always)]
unsafe fn sums_ps512(v: [__m512; 4]) -> __m256d {
    // SAFETY: see the module.
    unsafe {
        let (a, b) = (halves_ps512(v[0], v[1]), halves_ps512(v[2], v[3]));
        // Four numbers of each register.
        let four = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
        let two = _mm512_add_ps(four, _mm512_shuffle_ps(four, four, 0x4e));
        let one = _mm512_add_ps(two, _mm512_shuffle_ps(two, two, 0xb1));
        let firsts = _mm512_setr_epi32(0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12);
        _mm256_cvtps_pd(_mm512_castps512_ps128(_mm512_permutexvar_ps(firsts, one)))
    }
}
#[inline(always)]
unsafe fn add_pd512(v: __m512d, p: *mut f64) {
    // SAFETY: see the module.
    unsafe { _mm512_storeu_pd(p, _mm512_add_pd(_mm512_loadu_pd(p), v)) }
}
#[inline(always)]
unsafe fn add_ps512(v: __m512, p: *mut f64) {
    // SAFETY: see the module.
    unsafe {
        add_pd512(_mm512_cvtps_pd(_mm512_castps512_ps256(v)), p);
        add_pd512(_mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1)), p.add(8));
    }
}
register!(32 x __m512d, f64, 8, _mm512_set1_pd, _mm512_loadu_pd, _mm512_storeu_pd, _mm512_sub_pd, _mm512_fmadd_pd, sum_pd512, sums_pd512, add_pd512);
register!(32 x __m512, f32, 16, _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_sub_ps, _mm512_fmadd_ps, sum_ps512, sums_ps512, add_ps512);

impl Integers<__m512> for __m512i {
    #[inline(always)]
    unsafe fn splat(e: i32) -> Self {
        // SAFETY: see the module.
        unsafe { _mm512_set1_epi32(e) }
    }
    #[inline(always)]
    unsafe fn dot4(self, p: *const u8, x: i32) -> Self {
        // SAFETY: see the module.
        unsafe { _mm512_dpbusd_epi32(self, _mm512_loadu_si512(p.cast()), _mm512_set1_epi32(x)) }
    }
    #[inline(always)]
    unsafe fn to_float(self) -> __m512 {
        // SAFETY: see the module.
        unsafe { _mm512_cvtepi32_ps(self) }
    }
}

#[inline(always)]
unsafe fn if_less512(x: __m512d, y: __m512d, a: __m512d, b: __m512d) -> __m512d {
    // SAFETY: see the module.
    unsafe { _mm512_mask_blend_pd(_mm512_cmp_pd_mask(x, y, _CMP_LT_OQ), b, a) }
}
#[inline(always)]
unsafe fn any_at_least512(x: __m512d, y: __m512d) -> bool {
    // SAFETY: see the module.
    unsafe { _mm512_cmp_pd_mask(x, y, _CMP_GE_OQ) != 0 }
}
#[inline(always)]
unsafe fn power_of_two512(v: __m512d) -> __m512d {
    // SAFETY: see the module.
    unsafe {
        let biased = _mm512_add_epi64(_mm512_castpd_si512(v), _mm512_set1_epi64(BIAS));
        _mm512_castsi512_pd(_mm512_slli_epi64(biased, 52))
    }
}
double!(__m512d, _mm512_add_pd, _mm512_mul_pd, if_less512, any_at_least512, power_of_two512);

#[inline(always)]
unsafe fn if_less_ps512(x: __m512, y: __m512, a: __m512, b: __m512) -> __m512 {
    // SAFETY: see the module.
    unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, y, _CMP_LT_OQ), b, a) }
}
#[inline(always)]
unsafe fn times_power_of_two_ps512(v: __m512, shifted: __m512) -> __m512 {
    // SAFETY: see the module.
    unsafe {
        let exponent = _mm512_slli_epi32(_mm512_castps_si512(shifted), 23);
        _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(v), exponent))
    }
}
single!(__m512, _mm512_add_ps, _mm512_mul_ps, _mm512_min_ps, if_less_ps512, times_power_of_two_ps512);

impl Isa for Avx512 {
    type Integers = __m512i;
    type Double = __m512d;
    type Single = __m512;
    #[inline(always)]
    fn mul_add(a: f64, b: f64, c: f64) -> f64 {
        a.mul_add(b, c)
    }
    #[inline(always)]
    fn mul_add_single(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
}
