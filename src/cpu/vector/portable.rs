//! Registers that are arrays, for every machine. Everything is unsafe for the reason that [`super`] gives, or for none.

use super::{BIAS, Double, Integers, Isa, Single, Vector};

/// Plain Rust: four lanes, no fused multiply-add.
pub struct Portable;

macro_rules! portable {
    ($t:ty, $lanes:literal) => {
        impl Vector for [$t; $lanes] {
            type Element = $t;
            const LANES: usize = $lanes;
            const REGISTERS: usize = 16;
            #[inline(always)]
            unsafe fn splat(e: $t) -> Self {
                [e; $lanes]
            }
            #[inline(always)]
            unsafe fn load(p: *const $t) -> Self {
                // SAFETY: see the module.
                unsafe { p.cast::<Self>().read_unaligned() }
            }
            #[inline(always)]
            unsafe fn sub(self, other: Self) -> Self {
                std::array::from_fn(|i| self[i] - other[i])
            }
            #[inline(always)]
            unsafe fn mul_add(self, b: Self, c: Self) -> Self {
                std::array::from_fn(|i| self[i] * b[i] + c[i])
            }
            #[inline(always)]
            unsafe fn sum(self) -> $t {
                let mut half = $lanes / 2;
                let mut v = self;
                while half > 0 {
                    for i in 0..half {
                        v[i] += v[i + half];
                    }
                    half /= 2;
                }
                v[0]
            }
            #[inline(always)]
            unsafe fn sums(v: [Self; 4]) -> [f64; 4] {
                // SAFETY: see the module.
                unsafe { [v[0].sum().into(), v[1].sum().into(), v[2].sum().into(), v[3].sum().into()] }
            }
            #[inline(always)]
            unsafe fn store(self, p: *mut $t) {
                // SAFETY: see the module.
                unsafe { p.cast::<Self>().write_unaligned(self) }
            }
            #[inline(always)]
            unsafe fn add_to(self, p: *mut f64) {
                for i in 0..$lanes {
                    // SAFETY: see the module.
                    unsafe { *p.add(i) += f64::from(self[i]) };
                }
            }
        }
    };
}
portable!(f64, 4);
portable!(f32, 4);

impl Integers<[f32; 4]> for [i32; 4] {
    #[inline(always)]
    unsafe fn splat(e: i32) -> Self {
        [e; 4]
    }
    #[inline(always)]
    unsafe fn dot4(self, p: *const u8, x: i32) -> Self {
        // SAFETY: see the module.
        let y = unsafe { p.cast::<[[u8; 4]; 4]>().read_unaligned() };
        let x = x.to_le_bytes().map(|x| i32::from(x.cast_signed()));
        std::array::from_fn(|i| self[i] + (0..4).map(|j| i32::from(y[i][j]) * x[j]).sum::<i32>())
    }
    #[inline(always)]
    #[allow(clippy::cast_precision_loss)]
    unsafe fn to_float(self) -> [f32; 4] {
        self.map(|v| v as f32)
    }
}

impl Double for [f64; 4] {
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] + other[i])
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] * other[i])
    }
    #[inline(always)]
    unsafe fn if_less(self, other: Self, a: Self, b: Self) -> Self {
        std::array::from_fn(|i| if self[i] < other[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn any_at_least(self, other: Self) -> bool {
        (self[0] >= other[0]) | (self[1] >= other[1]) | (self[2] >= other[2]) | (self[3] >= other[3])
    }
    #[inline(always)]
    unsafe fn power_of_two(self) -> Self {
        std::array::from_fn(|i| f64::from_bits(self[i].to_bits().wrapping_add(BIAS as u64) << 52))
    }
}

impl Single for [f32; 4] {
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] + other[i])
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] * other[i])
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        std::array::from_fn(|i| if self[i] < other[i] { self[i] } else { other[i] })
    }
    #[inline(always)]
    unsafe fn if_less(self, other: Self, a: Self, b: Self) -> Self {
        std::array::from_fn(|i| if self[i] < other[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn times_power_of_two(self, shifted: Self) -> Self {
        std::array::from_fn(|i| f32::from_bits(self[i].to_bits().wrapping_add(shifted[i].to_bits() << 23)))
    }
}

impl Isa for Portable {
    type Integers = [i32; 4];
    type Double = [f64; 4];
    type Single = [f32; 4];
    #[inline(always)]
    fn mul_add(a: f64, b: f64, c: f64) -> f64 {
        a * b + c
    }
    #[inline(always)]
    fn mul_add_single(a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }
}
