//! `cvt`.

use crate::float::{Rounding, Small, flush, narrow, odd, saturate64};
use crate::types::Type;

/// One conversion.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conversion {
    pub from: Type,
    pub to: Type,
    pub rounding: Rounding,
    /// Round to an integral value first (`rni`, `rzi`, `rmi`, `rpi`).
    pub integral: bool,
    pub flush: bool,
    pub saturate: bool,
    pub relu: bool,
}

enum Number {
    Integer(i128),
    Float(f64),
}

impl Conversion {
    /// Converts the bits of one lane. Results narrower than a register are extended by their sign.
    pub fn apply(&self, bits: u64) -> u64 {
        let value = match self.read(bits) {
            Number::Float(x) if self.integral => Number::Float(integral(x, self.rounding)),
            other => other,
        };
        if self.to.float() { self.float(value) } else { self.integer(value) }
    }

    fn read(&self, bits: u64) -> Number {
        use Type::*;
        match self.from {
            U8 | B8 => Number::Integer(i128::from(bits as u8)),
            U16 | B16 => Number::Integer(i128::from(bits as u16)),
            U32 | B32 => Number::Integer(i128::from(bits as u32)),
            S8 => Number::Integer(i128::from(bits as i8)),
            S16 => Number::Integer(i128::from(bits as i16)),
            S32 => Number::Integer(i128::from(bits as i32)),
            S64 => Number::Integer(i128::from(bits as i64)),
            F16 => Number::Float(Small::F16.value(bits as u32)),
            Bf16 => Number::Float(Small::Bf16.value(bits as u32)),
            F32 => {
                let x = f32::from_bits(bits as u32);
                Number::Float(f64::from(if self.flush { flush(x) } else { x }))
            }
            F64 => Number::Float(f64::from_bits(bits)),
            _ => Number::Integer(i128::from(bits)),
        }
    }

    fn integer(&self, value: Number) -> u64 {
        let bits = self.to.bytes() * 8;
        let (low, high) = if self.to.signed() {
            (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1)
        } else {
            (0, (1i128 << bits) - 1)
        };
        let value = match value {
            Number::Integer(x) if self.saturate => x.clamp(low, high),
            Number::Integer(x) => x,
            // `as` clamps to i128 and makes NaN 0.
            Number::Float(x) => (x as i128).clamp(low, high),
        };
        let shift = 128 - bits;
        if self.to.signed() { ((value << shift) >> shift) as u64 } else { ((value as u128) << shift >> shift) as u64 }
    }

    fn float(&self, value: Number) -> u64 {
        let (near, rest) = match value {
            Number::Float(x) => (x, 0.0),
            Number::Integer(x) => {
                let near = x as f64;
                (near, (x - near as i128) as f64)
            }
        };
        let near = if self.saturate { saturate64(near) } else { near };
        let near = if self.relu && near <= 0.0 { 0.0 } else { near };
        match self.to {
            Type::F64 => {
                let direct = match self.rounding {
                    Rounding::Up => rest > 0.0,
                    Rounding::Down => rest < 0.0,
                    Rounding::Zero => (rest < 0.0) == (near > 0.0) && rest != 0.0,
                    _ => false,
                };
                match (direct, rest > 0.0) {
                    (true, true) => near.next_up().to_bits(),
                    (true, false) => near.next_down().to_bits(),
                    _ => near.to_bits(),
                }
            }
            Type::F32 => {
                let x = if near.is_nan() { f32::from_bits(0x7fff_ffff) } else { narrow(near, rest, self.rounding) };
                u64::from(if self.flush { flush(x) } else { x }.to_bits())
            }
            Type::F16 => small(Small::F16, near, rest, self.rounding),
            Type::Bf16 => small(Small::Bf16, near, rest, self.rounding),
            _ => small(Small::Tf32, near, rest, self.rounding),
        }
    }
}

fn small(format: Small, near: f64, rest: f64, rounding: Rounding) -> u64 {
    u64::from(format.bits(format.round(odd(near, rest), rounding)))
}

fn integral(x: f64, rounding: Rounding) -> f64 {
    match rounding {
        Rounding::Nearest | Rounding::Away => x.round_ties_even(),
        Rounding::Zero => x.trunc(),
        Rounding::Down => x.floor(),
        Rounding::Up => x.ceil(),
    }
}
