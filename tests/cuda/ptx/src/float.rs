//! Floating-point arithmetic as PTX rounds it.

/// Rounding of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rounding {
    Nearest,
    Zero,
    Down,
    Up,
    /// To nearest, ties away from zero.
    Away,
}

impl Rounding {
    /// Of an arithmetic operation.
    pub fn named(name: &str) -> Option<Rounding> {
        Some(match name {
            "rn" => Rounding::Nearest,
            "rz" => Rounding::Zero,
            "rm" => Rounding::Down,
            "rp" => Rounding::Up,
            "rna" => Rounding::Away,
            _ => return None,
        })
    }
}

/// Subnormal numbers become zeros of their sign.
#[inline(always)]
pub(crate) fn flush(x: f32) -> f32 {
    if x.to_bits() & 0x7f80_0000 == 0 { f32::from_bits(x.to_bits() & 0x8000_0000) } else { x }
}

/// Clamps to [0, 1]; NaN becomes 0.
#[inline(always)]
pub(crate) fn saturate(x: f32) -> f32 {
    if x > 0.0 { if x < 1.0 { x } else { 1.0 } } else { 0.0 }
}

#[inline(always)]
pub(crate) fn saturate64(x: f64) -> f64 {
    if x > 0.0 { if x < 1.0 { x } else { 1.0 } } else { 0.0 }
}

/// Moves a value rounded to nearest to the neighbour that a directed rounding wants. `rest` has the sign of the exact
/// value minus `near`.
fn direct64(near: f64, rest: f64, rounding: Rounding) -> f64 {
    if rest == 0.0 || rest.is_nan() || near.is_nan() {
        return near;
    }
    let up = match rounding {
        Rounding::Nearest | Rounding::Away => return near,
        Rounding::Up => true,
        Rounding::Down => false,
        // Zero: towards it. An exact value on the other side of zero cannot round to `near`.
        Rounding::Zero => near < 0.0 || near == 0.0 && rest < 0.0,
    };
    match (up, rest > 0.0) {
        (true, true) => next_up(near),
        (false, false) => next_down(near),
        _ => near,
    }
}

fn next_up(x: f64) -> f64 {
    x.next_up()
}

fn next_down(x: f64) -> f64 {
    x.next_down()
}

/// Overflow to infinity that the rounding forbids becomes the largest number.
fn tame64(value: f64, finite: bool, rounding: Rounding) -> f64 {
    if !finite || !value.is_infinite() {
        return value;
    }
    match (rounding, value > 0.0) {
        (Rounding::Zero, true) | (Rounding::Down, true) => f64::MAX,
        (Rounding::Zero, false) | (Rounding::Up, false) => f64::MIN,
        _ => value,
    }
}

/// The sum and what it lost.
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let part = sum - a;
    (sum, (a - (sum - part)) + (b - part))
}

pub(crate) fn add64(a: f64, b: f64, rounding: Rounding) -> f64 {
    let finite = a.is_finite() && b.is_finite();
    let (sum, rest) = two_sum(a, b);
    if sum == 0.0
        && finite
        && rounding == Rounding::Down
        && (a != 0.0 || b != 0.0 || a.is_sign_negative() != b.is_sign_negative())
    {
        // x - x is -0 when rounding down.
        return -0.0;
    }
    if !sum.is_finite() {
        return tame64(sum, finite, rounding);
    }
    direct64(sum, rest, rounding)
}

pub(crate) fn mul64(a: f64, b: f64, rounding: Rounding) -> f64 {
    fma64(a, b, if (a.is_sign_negative()) == (b.is_sign_negative()) { 0.0 } else { -0.0 }, rounding)
}

/// a·b + c with one rounding of any direction: exact, in integers.
pub(crate) fn fma64(a: f64, b: f64, c: f64, rounding: Rounding) -> f64 {
    let near = a.mul_add(b, c);
    if rounding == Rounding::Nearest || near.is_nan() || !(a.is_finite() && b.is_finite() && c.is_finite()) {
        return near;
    }
    if a == 0.0 || b == 0.0 {
        return add64(a * b, c, rounding);
    }
    let (product_negative, product) =
        (a.is_sign_negative() != b.is_sign_negative(), mantissa(a).0 as u128 * mantissa(b).0 as u128);
    let product_exponent = mantissa(a).1 + mantissa(b).1;
    let exact = Exact { negative: product_negative, value: product, exponent: product_exponent, sticky: false };
    let sum = exact.add(c);
    if sum.value == 0 && !sum.sticky {
        return if rounding == Rounding::Down { -0.0 } else { 0.0 };
    }
    sum.round64(rounding)
}

/// Mantissa and exponent: |x| = m·2^e.
fn mantissa(x: f64) -> (u64, i32) {
    let bits = x.to_bits();
    let exponent = (bits >> 52 & 0x7ff) as i32;
    let fraction = bits & ((1 << 52) - 1);
    if exponent == 0 { (fraction, -1074) } else { (fraction | 1 << 52, exponent - 1075) }
}

/// A number in 128 bits; `sticky` says that a little more follows, away from zero.
struct Exact {
    negative: bool,
    value: u128,
    exponent: i32,
    sticky: bool,
}

impl Exact {
    fn add(mut self, c: f64) -> Exact {
        if c == 0.0 {
            return self;
        }
        let (m, e) = mantissa(c);
        let mut other = Exact { negative: c.is_sign_negative(), value: u128::from(m), exponent: e, sticky: false };
        self.normalize();
        other.normalize();
        // The larger one keeps its place; both leave two bits at the top.
        let (mut large, mut small) =
            if (self.exponent, self.value) >= (other.exponent, other.value) { (self, other) } else { (other, self) };
        let shift = (large.exponent - small.exponent) as u32;
        if shift >= 128 {
            small.sticky = small.value != 0;
            small.value = 0;
        } else {
            small.sticky = small.value & ((1u128 << shift) - 1) != 0;
            small.value >>= shift;
        }
        if large.negative == small.negative {
            large.value += small.value;
            large.sticky = small.sticky;
        } else {
            large.value -= small.value;
            if small.sticky {
                large.value -= 1;
                large.sticky = true;
            }
        }
        large
    }

    /// Puts the highest bit at bit 125.
    fn normalize(&mut self) {
        let shift = self.value.leading_zeros() as i32 - 2;
        if shift >= 0 {
            self.value <<= shift;
        }
        self.exponent -= shift.max(0);
    }

    fn round64(mut self, rounding: Rounding) -> f64 {
        let top = 127 - self.value.leading_zeros() as i32;
        // Bits to drop so that 53 stay, more for subnormal results.
        let drop = (top - 52).max(-1074 - self.exponent);
        if drop <= 0 {
            let value = (self.value << -drop) as u64;
            return build64(self.negative, value, self.exponent + drop, rounding);
        }
        let drop = drop.min(127) as u32;
        let rest = self.value & ((1u128 << drop) - 1);
        let half = 1u128 << (drop - 1);
        let mut kept = (self.value >> drop) as u64;
        self.exponent += drop as i32;
        let inexact = rest != 0 || self.sticky;
        let up = match rounding {
            Rounding::Nearest => rest > half || rest == half && (self.sticky || kept & 1 == 1),
            Rounding::Away => rest >= half,
            Rounding::Zero => false,
            Rounding::Down => self.negative && inexact,
            Rounding::Up => !self.negative && inexact,
        };
        kept += u64::from(up);
        build64(self.negative, kept, self.exponent, rounding)
    }
}

fn build64(negative: bool, mut value: u64, mut exponent: i32, rounding: Rounding) -> f64 {
    if value == 1 << 53 {
        value >>= 1;
        exponent += 1;
    }
    let magnitude = if value < 1 << 52 {
        f64::from_bits(value)
    } else if exponent > 971 {
        tame64(if negative { f64::NEG_INFINITY } else { f64::INFINITY }, true, rounding).abs()
    } else {
        f64::from_bits((exponent + 1075) as u64 * (1 << 52) + (value - (1 << 52)))
    };
    if negative { -magnitude } else { magnitude }
}

pub(crate) fn div64(a: f64, b: f64, rounding: Rounding) -> f64 {
    let near = a / b;
    if rounding == Rounding::Nearest || !near.is_finite() || near == 0.0 && a == 0.0 || b.is_infinite() {
        return tame64(near, a.is_finite() && b.is_finite() && b != 0.0, rounding);
    }
    // Exact remainder of integers: the sign of a - near·b, times the sign of b.
    let sign = remainder_sign(a, near, b);
    let rest = if b < 0.0 { -sign } else { sign };
    direct64(near, rest, rounding)
}

/// The sign of a - q·b.
fn remainder_sign(a: f64, q: f64, b: f64) -> f64 {
    let negative = q.is_sign_negative() == b.is_sign_negative();
    let product = u128::from(mantissa(q).0) * u128::from(mantissa(b).0);
    let exact = Exact { negative, value: product, exponent: mantissa(q).1 + mantissa(b).1, sticky: false };
    let sum = if product == 0 {
        Exact { negative: a < 0.0, value: u128::from(mantissa(a).0), exponent: mantissa(a).1, sticky: false }
    } else {
        exact.add(a)
    };
    if sum.value == 0 && !sum.sticky {
        0.0
    } else if sum.negative {
        -1.0
    } else {
        1.0
    }
}

pub(crate) fn sqrt64(a: f64, rounding: Rounding) -> f64 {
    let near = a.sqrt();
    if rounding == Rounding::Nearest || !near.is_finite() || a == 0.0 {
        return near;
    }
    direct64(near, remainder_sign(a, near, near), rounding)
}

/// Rounds a float64, to which `rest` (far below its last bit) is to be added, to float32.
pub(crate) fn narrow(value: f64, rest: f64, rounding: Rounding) -> f32 {
    let value = odd(value, rest);
    let near = value as f32;
    if value.is_nan() || rounding == Rounding::Nearest {
        return near;
    }
    let exact = f64::from(near);
    let up = match rounding {
        Rounding::Nearest => return near,
        Rounding::Away => {
            // Only a tie differs from nearest: then the larger magnitude.
            let other = if value > exact { near.next_up() } else { near.next_down() };
            let tie = value != exact && (value - exact).abs() == (f64::from(other) - value).abs();
            return if tie && other.abs() > near.abs() { other } else { near };
        }
        Rounding::Up => true,
        Rounding::Down => false,
        Rounding::Zero => value < 0.0,
    };
    match up {
        true if exact < value => near.next_up(),
        false if exact > value => near.next_down(),
        _ => near,
    }
}

/// Rounds to odd: 53 bits with the last one sticky round to fewer bits as the exact value does.
pub(crate) fn odd(value: f64, rest: f64) -> f64 {
    let mut bits = value.to_bits();
    if rest != 0.0 && value.is_finite() && value != 0.0 {
        if (rest > 0.0) != (value > 0.0) && bits & 1 == 0 {
            bits -= 1;
        }
        bits |= 1;
    }
    f64::from_bits(bits)
}

/// A format narrower than float32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Small {
    F16,
    Bf16,
    Tf32,
}

impl Small {
    /// The nearest (or as `rounding` says) number of the format.
    pub fn round(self, value: f64, rounding: Rounding) -> f64 {
        let (digits, least, largest) = match self {
            Small::F16 => (10, -14, 65504.0),
            Small::Bf16 => (7, -126, f64::from(f32::from_bits(0x7f7f_0000))),
            Small::Tf32 => (10, -126, f64::from(f32::from_bits(0x7f7f_e000))),
        };
        if !value.is_finite() || value == 0.0 {
            return value;
        }
        let exponent = ((value.to_bits() >> 52 & 0x7ff) as i32 - 1023).max(least) - digits;
        let scale = f64::from_bits(((1023 + exponent) as u64) << 52);
        let steps = value / scale;
        let rounded = match rounding {
            Rounding::Nearest => steps.round_ties_even(),
            Rounding::Zero => steps.trunc(),
            Rounding::Down => steps.floor(),
            Rounding::Up => steps.ceil(),
            Rounding::Away => steps.round(),
        } * scale;
        let rounded = if rounded == 0.0 { 0.0f64.copysign(value) } else { rounded };
        if rounded.abs() <= largest {
            return rounded;
        }
        match rounding {
            Rounding::Zero => largest.copysign(value),
            Rounding::Down if value > 0.0 => largest,
            Rounding::Up if value < 0.0 => -largest,
            _ => f64::INFINITY.copysign(value),
        }
    }

    /// The bits of a number of the format (in 16 bits, tf32 in 32).
    pub fn bits(self, value: f64) -> u32 {
        match self {
            Small::F16 if value.is_nan() => 0x7fff,
            Small::Bf16 if value.is_nan() => 0x7fff,
            Small::Tf32 if value.is_nan() => 0x7fff_ffff,
            Small::F16 => u32::from(half::f16::from_f64(value).to_bits()),
            Small::Bf16 => (value as f32).to_bits() >> 16,
            Small::Tf32 => (value as f32).to_bits(),
        }
    }

    /// The number that bits stand for; tensor instructions read only tf32's upper 19 bits.
    #[inline(always)]
    pub fn value(self, bits: u32) -> f64 {
        match self {
            Small::F16 => half::f16::from_bits(bits as u16).to_f64(),
            Small::Bf16 => f64::from(f32::from_bits(bits << 16)),
            Small::Tf32 => f64::from(f32::from_bits(bits & 0xffff_e000)),
        }
    }

    /// a·b + c, rounded once.
    pub fn fma(self, a: u32, b: u32, c: u32) -> u32 {
        let (product, c) = (self.value(a) * self.value(b), self.value(c));
        let (sum, rest) = two_sum(product, c);
        self.bits(self.round(odd(sum, rest), Rounding::Nearest))
    }

    /// a + b, rounded once.
    pub fn add(self, a: u32, b: u32) -> u32 {
        let (sum, rest) = two_sum(self.value(a), self.value(b));
        self.bits(self.round(odd(sum, rest), Rounding::Nearest))
    }

    /// a·b, rounded once.
    pub fn mul(self, a: u32, b: u32) -> u32 {
        self.bits(self.round(self.value(a) * self.value(b), Rounding::Nearest))
    }
}

pub(crate) fn add32(a: f32, b: f32, rounding: Rounding) -> f32 {
    let (a, b) = (f64::from(a), f64::from(b));
    let (sum, rest) = two_sum(a, b);
    if sum == 0.0 {
        return add64(a, b, rounding) as f32;
    }
    narrow(sum, rest, rounding)
}

pub(crate) fn mul32(a: f32, b: f32, rounding: Rounding) -> f32 {
    // 24 bits times 24 bits fit 53.
    narrow(f64::from(a) * f64::from(b), 0.0, rounding)
}

pub(crate) fn fma32(a: f32, b: f32, c: f32, rounding: Rounding) -> f32 {
    let (product, c) = (f64::from(a) * f64::from(b), f64::from(c));
    let (sum, rest) = two_sum(product, c);
    if sum == 0.0 {
        return add64(product, c, rounding) as f32;
    }
    narrow(sum, rest, rounding)
}

pub(crate) fn div32(a: f32, b: f32, rounding: Rounding) -> f32 {
    let (a, b) = (f64::from(a), f64::from(b));
    let near = a / b;
    if !near.is_finite() || near == 0.0 || !b.is_finite() {
        return near as f32;
    }
    // float64 holds q well enough for its remainder to be exact.
    let rest = (-near).mul_add(b, a) * b.signum();
    narrow(near, rest, rounding)
}

pub(crate) fn sqrt32(a: f32, rounding: Rounding) -> f32 {
    let near = f64::from(a).sqrt();
    if !near.is_finite() || near == 0.0 {
        return near as f32;
    }
    narrow(near, (-near).mul_add(near, f64::from(a)), rounding)
}

/// The smaller of two; a number wins over a NaN, -0 is below +0.
#[inline(always)]
pub(crate) fn min32(a: f32, b: f32) -> f32 {
    if a.is_nan() && b.is_nan() {
        return f32::from_bits(0x7fff_ffff);
    }
    if a == b { f32::from_bits(a.to_bits() | b.to_bits()) } else { a.min(b) }
}

#[inline(always)]
pub(crate) fn max32(a: f32, b: f32) -> f32 {
    if a.is_nan() && b.is_nan() {
        return f32::from_bits(0x7fff_ffff);
    }
    if a == b { f32::from_bits(a.to_bits() & b.to_bits()) } else { a.max(b) }
}

#[inline(always)]
pub(crate) fn min64(a: f64, b: f64) -> f64 {
    if a == b { f64::from_bits(a.to_bits() | b.to_bits()) } else { a.min(b) }
}

#[inline(always)]
pub(crate) fn max64(a: f64, b: f64) -> f64 {
    if a == b { f64::from_bits(a.to_bits() & b.to_bits()) } else { a.max(b) }
}
