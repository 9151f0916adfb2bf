//! Arithmetic in float16 and bfloat16, alone or in pairs.

use super::{Decoded, Decoder, Parts};
use crate::float::Small;
use crate::instruction::Instruction;
use crate::operation::act;
use crate::registers::lanes;
use crate::syntax::Statement;
use crate::types::Type;

impl<'a> Decoder<'a> {
    pub(super) fn half(
        &mut self,
        name: &str,
        mut parts: Parts<'a>,
        s: &Statement<'a>,
        mut i: Instruction,
    ) -> Decoded<()> {
        let ty = parts.ty()?;
        let register = if ty.bytes() == 4 { Type::B32 } else { Type::B16 };
        let count = match name {
            "fma" => 3,
            "add" | "sub" | "mul" | "min" | "max" => 2,
            "abs" | "neg" | "ex2" | "tanh" => 1,
            _ => return Err("this instruction does not know this type".to_owned()),
        };
        self.sources(s, &mut i, register, &[register; 3][..count])?;
        parts.take("rn");
        parts.take("approx");
        let flush = parts.take("ftz");
        let (sat, relu, nan) = (parts.take("sat"), parts.take("relu"), parts.take("NaN"));
        parts.end()?;
        const NAMES: [&str; 10] = ["fma", "add", "sub", "mul", "min", "max", "abs", "neg", "ex2", "tanh"];
        let kind = NAMES.iter().position(|n| *n == name).unwrap_or(0) as u32;
        i.mode = kind
            | u32::from(matches!(ty, Type::Bf16 | Type::Bf16x2)) << 8
            | u32::from(ty.bytes() == 4) << 9
            | u32::from(sat) << 10
            | u32::from(relu) << 11
            | u32::from(nan) << 12
            | u32::from(flush) << 13;
        i.run = act!(|m, i, mask| {
            let registers = &mut m.warp.registers;
            for lane in lanes(mask) {
                let lane = lane as u32;
                let (a, b, c) =
                    (registers.get::<u32>(i.a, lane), registers.get::<u32>(i.b, lane), registers.get::<u32>(i.c, lane));
                let low = one(i.mode, a & 0xffff, b & 0xffff, c & 0xffff);
                let high = if i.mode >> 9 & 1 != 0 { one(i.mode, a >> 16, b >> 16, c >> 16) } else { 0 };
                registers.set::<u32>(i.d, lane, high << 16 | low);
            }
        });
        self.push(i);
        Ok(())
    }
}

fn one(mode: u32, a: u32, b: u32, c: u32) -> u32 {
    let format = if mode >> 8 & 1 != 0 { Small::Bf16 } else { Small::F16 };
    let exponent = if format == Small::Bf16 { 0x7f80 } else { 0x7c00 };
    let flush = |x: u32| if mode >> 13 & 1 != 0 && x & exponent == 0 { x & 0x8000 } else { x };
    let (a, b, c) = (flush(a), flush(b), flush(c));
    let real = |f: fn(f64) -> f64| format.bits(format.round(f(format.value(a)), crate::float::Rounding::Nearest));
    let bits = match mode & 255 {
        0 => format.fma(a, b, c),
        1 => format.add(a, b),
        2 => format.add(a, b ^ 0x8000),
        3 => format.mul(a, b),
        4 | 5 => {
            let (x, y) = (format.value(a), format.value(b));
            let larger = mode & 255 == 5;
            if x.is_nan() || y.is_nan() {
                match (mode >> 12 & 1 != 0 || x.is_nan() && y.is_nan(), x.is_nan()) {
                    (true, _) => 0x7fff,
                    (_, true) => b,
                    _ => a,
                }
            } else if x == y {
                if larger { a & b } else { a | b }
            } else if (x < y) != larger {
                a
            } else {
                b
            }
        }
        6 => a & 0x7fff,
        7 => a ^ 0x8000,
        8 => real(f64::exp2),
        _ => real(f64::tanh),
    };
    let bits = flush(bits);
    let value = format.value(bits);
    if mode >> 10 & 1 != 0 {
        format.bits(crate::float::saturate64(value))
    } else if mode >> 11 & 1 != 0 && value.is_nan() {
        0x7fff
    } else if mode >> 11 & 1 != 0 && value <= 0.0 {
        0
    } else {
        bits
    }
}
