//! The seam between kernels and instruction sets: a kernel is written once over [`Isa`] and compiled for each.
//!
//! Every method is unsafe for one reason: it must be inlined into a function that was compiled for, and is running on, a
//! processor with the instruction set. `InstructionSet::run` is the only place that decides so.
#![allow(clippy::missing_safety_doc)]

mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use portable::Portable;
#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512};

/// A register of floating-point numbers.
pub trait Vector: Copy {
    /// Its element.
    type Element: Copy + Default + PartialOrd + Into<f64>;
    /// Number of elements.
    const LANES: usize;
    /// Number of registers.
    const REGISTERS: usize;
    /// All elements `e`.
    unsafe fn splat(e: Self::Element) -> Self;
    /// The `LANES` elements from `p`, of any alignment.
    unsafe fn load(p: *const Self::Element) -> Self;
    /// self - other.
    unsafe fn sub(self, other: Self) -> Self;
    /// self * b + c, rounded once where the machine can.
    unsafe fn mul_add(self, b: Self, c: Self) -> Self;
    /// The sum of the elements, halves first.
    unsafe fn sum(self) -> Self::Element;
    /// The sums of the elements of four registers, with the bits of [`Self::sum`].
    unsafe fn sums(v: [Self; 4]) -> [f64; 4];
    /// Writes the `LANES` elements to `p`, of any alignment.
    unsafe fn store(self, p: *mut Self::Element);
    /// Adds element i, as float64, to `*p.add(i)`.
    unsafe fn add_to(self, p: *mut f64);
}

/// A register of 32-bit integers, as many as the instruction set's float32 register has elements.
pub trait Integers<F>: Copy {
    /// All elements `e`.
    unsafe fn splat(e: i32) -> Self;
    /// Element i plus Σ_j y[4 i + j] x_j, where the y, from `p` on and of any alignment, are at most 127 and the x_j are the
    /// signed bytes of `x`, lowest first, none of them -128.
    unsafe fn dot4(self, p: *const u8, x: i32) -> Self;
    /// The elements, rounded to float32.
    unsafe fn to_float(self) -> F;
}

/// What weights and nearest rows take of a float64 register. Comparisons are of elements.
pub trait Double: Vector<Element = f64> {
    /// self + other.
    unsafe fn add(self, other: Self) -> Self;
    /// self * other.
    unsafe fn mul(self, other: Self) -> Self;
    /// `a` where self < other, else `b`.
    unsafe fn if_less(self, other: Self, a: Self, b: Self) -> Self;
    /// Whether an element of self is at least that of `other`.
    unsafe fn any_at_least(self, other: Self) -> bool;
    /// 2^(k - 2^52) for the whole number k in the low bits of the significand, k - 2^52 in -1022 ..= 1023.
    unsafe fn power_of_two(self) -> Self;
}

/// What weights take of a float32 register.
pub trait Single: Vector<Element = f32> {
    /// self + other.
    unsafe fn add(self, other: Self) -> Self;
    /// self * other.
    unsafe fn mul(self, other: Self) -> Self;
    /// The lesser of each two elements.
    unsafe fn min(self, other: Self) -> Self;
    /// `a` where self < other, else `b`.
    unsafe fn if_less(self, other: Self, a: Self, b: Self) -> Self;
    /// self 2^k for the whole number k in the low bits of the significand of `shifted`; normal before and after.
    unsafe fn times_power_of_two(self, shifted: Self) -> Self;
}

/// An instruction set.
pub trait Isa {
    /// Its register of 32-bit integers.
    type Integers: Integers<Self::Single>;
    /// Its float64 register.
    type Double: Double;
    /// Its float32 register.
    type Single: Single;
    /// a * b + c in scalar float64, fused where the machine can do so in one instruction.
    fn mul_add(a: f64, b: f64, c: f64) -> f64;
    /// The same in float32.
    fn mul_add_single(a: f32, b: f32, c: f32) -> f32;
}

/// Of the exponent of a float64.
const BIAS: i64 = 1023;
