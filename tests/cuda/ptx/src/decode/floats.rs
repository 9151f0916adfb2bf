//! Floating-point arithmetic.

use super::{Decoded, Decoder, Parts};
use crate::float::{
    Rounding, add32, add64, div32, div64, flush, fma32, fma64, max32, max64, min32, min64, mul32, mul64, saturate,
    saturate64, sqrt32, sqrt64,
};
use crate::instruction::{Instruction, Run};
use crate::operation::{act, op1, op2, op3};
use crate::registers::lanes;
use crate::syntax::Statement;
use crate::types::Type;

impl<'a> Decoder<'a> {
    /// Operands of a floating-point instruction: all of one type.
    pub(super) fn floats(&mut self, name: &str, ty: Type, s: &Statement<'a>, i: &mut Instruction) -> Decoded<()> {
        match name {
            "fma" | "mad" => self.sources(s, i, ty, &[ty, ty, ty]),
            "add" | "sub" | "mul" | "div" | "min" | "max" | "copysign" => self.sources(s, i, ty, &[ty, ty]),
            "abs" | "neg" | "rcp" | "sqrt" | "rsqrt" | "sin" | "cos" | "lg2" | "ex2" | "tanh" => {
                self.sources(s, i, ty, &[ty])
            }
            _ => Err("this instruction is not known".to_owned()),
        }
    }

    pub(super) fn float32(&mut self, name: &str, parts: &mut Parts<'a>, i: &mut Instruction) -> Decoded<Run> {
        let ftz = parts.take("ftz");
        let sat = parts.take("sat");
        let approx = parts.take("approx") | parts.take("full");
        let rounding = parts.find(Rounding::named);
        let nearest = matches!(rounding, None | Some(Rounding::Nearest));
        i.mode = rounding.unwrap_or(Rounding::Nearest) as u32 | u32::from(ftz) << 8 | u32::from(sat) << 9;
        if name == "fma" && rounding.is_none()
            || matches!(name, "div" | "rcp" | "sqrt") && rounding.is_none() && !approx
        {
            return Err("the rounding is missing".to_owned());
        }
        if matches!(name, "min" | "max") {
            let (nan, by_magnitude) = (parts.take("NaN"), parts.take("xorsign"));
            let absolute = parts.take("abs");
            i.mode = u32::from(ftz)
                | u32::from(nan) << 1
                | u32::from(name == "max") << 2
                | u32::from(absolute && by_magnitude) << 3;
            return Ok(match (name, i.mode & 0b1011) {
                ("min", 0) => op2!(f32, |a, b| min32(a, b)),
                ("max", 0) => op2!(f32, |a, b| max32(a, b)),
                _ => act!(|m, i, mask| {
                    let mode = i.mode;
                    m.warp.registers.binary::<f32, f32, f32>([i.d, i.a, i.b], mask, |a, b| extreme(a, b, mode))
                }),
            });
        }
        // Nearest, unsaturated: one instruction each.
        if nearest && !sat && !approx {
            let run = match (name, ftz) {
                ("add", false) => op2!(f32, |a, b| a + b),
                ("sub", false) => op2!(f32, |a, b| a - b),
                ("mul", false) => op2!(f32, |a, b| a * b),
                ("fma" | "mad", false) => op3!(f32, |a, b, c| a.mul_add(b, c)),
                ("div", false) => op2!(f32, |a, b| a / b),
                ("rcp", false) => op1!(f32 => f32, |a| 1.0 / a),
                ("sqrt", false) => op1!(f32 => f32, |a| a.sqrt()),
                ("add", true) => op2!(f32, |a, b| flush(flush(a) + flush(b))),
                ("sub", true) => op2!(f32, |a, b| flush(flush(a) - flush(b))),
                ("mul", true) => op2!(f32, |a, b| flush(flush(a) * flush(b))),
                ("fma" | "mad", true) => op3!(f32, |a, b, c| flush(flush(a).mul_add(flush(b), flush(c)))),
                ("div", true) => op2!(f32, |a, b| flush(flush(a) / flush(b))),
                ("rcp", true) => op1!(f32 => f32, |a| flush(1.0 / flush(a))),
                ("sqrt", true) => op1!(f32 => f32, |a| flush(flush(a).sqrt())),
                ("abs", false) => op1!(f32 => f32, |a| a.abs()),
                ("neg", false) => op1!(f32 => f32, |a| -a),
                ("abs", true) => op1!(f32 => f32, |a| flush(a.abs())),
                ("neg", true) => op1!(f32 => f32, |a| flush(-a)),
                ("copysign", _) => op2!(f32, |a, b| b.copysign(a)),
                _ => return Err("this instruction does not know float32 in this form".to_owned()),
            };
            return Ok(run);
        }
        if approx {
            // The hardware's approximations are within a few units in the last place; these are rounded exactly.
            macro_rules! approximate {
                ($f:expr) => {
                    if ftz {
                        op1!(f32 => f32, |a| flush($f(f64::from(flush(a))) as f32))
                    } else {
                        op1!(f32 => f32, |a| $f(f64::from(a)) as f32)
                    }
                };
            }
            return Ok(match name {
                "rcp" => approximate!(|x: f64| 1.0 / x),
                "sqrt" => approximate!(|x: f64| x.sqrt()),
                "rsqrt" => approximate!(|x: f64| 1.0 / x.sqrt()),
                "sin" => approximate!(|x: f64| x.sin()),
                "cos" => approximate!(|x: f64| x.cos()),
                "lg2" => approximate!(|x: f64| x.log2()),
                "ex2" => approximate!(|x: f64| x.exp2()),
                "tanh" => approximate!(|x: f64| x.tanh()),
                "div" if ftz => op2!(f32, |a, b| flush((f64::from(flush(a)) / f64::from(flush(b))) as f32)),
                "div" => op2!(f32, |a, b| (f64::from(a) / f64::from(b)) as f32),
                _ => return Err("this instruction has no approximation".to_owned()),
            });
        }
        let of = |mode: u32| match mode & 255 {
            m if m == Rounding::Zero as u32 => Rounding::Zero,
            m if m == Rounding::Down as u32 => Rounding::Down,
            m if m == Rounding::Up as u32 => Rounding::Up,
            _ => Rounding::Nearest,
        };
        // A rounding, a flush or a saturation told at run time.
        macro_rules! directed {
            (|$x:ident, $y:ident, $z:ident, $r:ident| $e:expr) => {
                act!(|m, i, mask| {
                    let $r = match i.mode & 255 {
                        1 => Rounding::Zero,
                        2 => Rounding::Down,
                        3 => Rounding::Up,
                        _ => Rounding::Nearest,
                    };
                    let (ftz, sat) = (i.mode >> 8 & 1 != 0, i.mode >> 9 & 1 != 0);
                    let registers = &mut m.warp.registers;
                    for lane in lanes(mask) {
                        let lane = lane as u32;
                        let get = |slot| {
                            let x = registers.get::<f32>(slot, lane);
                            if ftz { flush(x) } else { x }
                        };
                        let ($x, $y, $z) = (get(i.a), get(i.b), get(i.c));
                        let _ = ($y, $z);
                        let value: f32 = $e;
                        let value = if ftz { flush(value) } else { value };
                        registers.set::<f32>(i.d, lane, if sat { saturate(value) } else { value });
                    }
                })
            };
        }
        let _ = of;
        Ok(match name {
            "add" => directed!(|a, b, c, r| add32(a, b, r)),
            "sub" => directed!(|a, b, c, r| add32(a, -b, r)),
            "mul" => directed!(|a, b, c, r| mul32(a, b, r)),
            "fma" | "mad" => directed!(|a, b, c, r| fma32(a, b, c, r)),
            "div" => directed!(|a, b, c, r| div32(a, b, r)),
            "rcp" => directed!(|a, b, c, r| div32(1.0, a, r)),
            "sqrt" => directed!(|a, b, c, r| sqrt32(a, r)),
            _ => return Err("this instruction does not know this rounding".to_owned()),
        })
    }
}

pub(super) fn float64(name: &str, parts: &mut Parts<'_>, i: &mut Instruction) -> Decoded<Run> {
    let sat = parts.take("sat");
    let approx = parts.take("approx");
    let ftz = parts.take("ftz");
    let rounding = parts.find(Rounding::named);
    if sat && !matches!(name, "add" | "sub" | "mul" | "fma") || ftz && !approx {
        return Err("float64 does not know this".to_owned());
    }
    if matches!(name, "fma" | "mad" | "div" | "rcp" | "sqrt") && rounding.is_none() && !approx {
        return Err("the rounding is missing".to_owned());
    }
    if approx {
        return Ok(match name {
            // The upper 32 bits of the result; the lower ones are zero.
            "rcp" if ftz => op1!(f64 => u64, |a| coarse(1.0 / coarse_input(a))),
            "rsqrt" if ftz => op1!(f64 => u64, |a| coarse(1.0 / coarse_input(a).sqrt())),
            "rsqrt" => op1!(f64 => f64, |a| 1.0 / a.sqrt()),
            _ => return Err("this instruction has no approximation in float64".to_owned()),
        });
    }
    if matches!(rounding, None | Some(Rounding::Nearest)) {
        return Ok(match (name, sat) {
            ("add", false) => op2!(f64, |a, b| a + b),
            ("sub", false) => op2!(f64, |a, b| a - b),
            ("mul", false) => op2!(f64, |a, b| a * b),
            ("fma" | "mad", false) => op3!(f64, |a, b, c| a.mul_add(b, c)),
            ("add", true) => op2!(f64, |a, b| saturate64(a + b)),
            ("sub", true) => op2!(f64, |a, b| saturate64(a - b)),
            ("mul", true) => op2!(f64, |a, b| saturate64(a * b)),
            ("fma" | "mad", true) => op3!(f64, |a, b, c| saturate64(a.mul_add(b, c))),
            ("div", _) => op2!(f64, |a, b| a / b),
            ("rcp", _) => op1!(f64 => f64, |a| 1.0 / a),
            ("sqrt", _) => op1!(f64 => f64, |a| a.sqrt()),
            ("abs", _) => op1!(f64 => f64, |a| a.abs()),
            ("neg", _) => op1!(f64 => f64, |a| -a),
            ("min", _) => op2!(f64, |a, b| min64(a, b)),
            ("max", _) => op2!(f64, |a, b| max64(a, b)),
            ("copysign", _) => op2!(f64, |a, b| b.copysign(a)),
            _ => return Err("this instruction does not know float64".to_owned()),
        });
    }
    i.mode = rounding.unwrap_or(Rounding::Nearest) as u32;
    macro_rules! directed {
        (|$x:ident, $y:ident, $z:ident, $r:ident| $e:expr) => {
            act!(|m, i, mask| {
                let $r = match i.mode {
                    1 => Rounding::Zero,
                    2 => Rounding::Down,
                    3 => Rounding::Up,
                    _ => Rounding::Nearest,
                };
                let registers = &mut m.warp.registers;
                for lane in lanes(mask) {
                    let lane = lane as u32;
                    // An instruction of fewer operands leaves a register number here that is not read as a value.
                    let $x = registers.get::<f64>(i.a, lane);
                    let $y = || registers.get::<f64>(i.b, lane);
                    let $z = || registers.get::<f64>(i.c, lane);
                    let _ = (&$y, &$z);
                    let value: f64 = $e;
                    registers.set::<f64>(i.d, lane, value);
                }
            })
        };
    }
    Ok(match name {
        "add" => directed!(|a, b, c, r| add64(a, b(), r)),
        "sub" => directed!(|a, b, c, r| add64(a, -b(), r)),
        "mul" => directed!(|a, b, c, r| mul64(a, b(), r)),
        "fma" | "mad" => directed!(|a, b, c, r| fma64(a, b(), c(), r)),
        "div" => directed!(|a, b, c, r| div64(a, b(), r)),
        "rcp" => directed!(|a, b, c, r| div64(1.0, a, r)),
        "sqrt" => directed!(|a, b, c, r| sqrt64(a, r)),
        _ => return Err("this instruction does not know this rounding".to_owned()),
    })
}

/// The coarse approximations see and make only the upper 32 bits; subnormal numbers are zeros.
fn coarse_input(x: f64) -> f64 {
    let x = f64::from_bits(x.to_bits() & 0xffff_ffff_0000_0000);
    if x.is_subnormal() { 0.0f64.copysign(x) } else { x }
}

fn coarse(x: f64) -> u64 {
    let x = if x.is_subnormal() { 0.0f64.copysign(x) } else { x };
    x.to_bits() & 0xffff_ffff_0000_0000
}

/// `min` and `max` with their options: 1 flushes, 2 lets NaN win, 4 is max, 8 compares magnitudes.
fn extreme(a: f32, b: f32, mode: u32) -> f32 {
    let (a, b) = if mode & 1 != 0 { (flush(a), flush(b)) } else { (a, b) };
    let sign = (a.to_bits() ^ b.to_bits()) & 0x8000_0000;
    let (x, y) = if mode & 8 != 0 { (a.abs(), b.abs()) } else { (a, b) };
    let value = if mode & 2 != 0 && (x.is_nan() || y.is_nan()) {
        return f32::from_bits(0x7fff_ffff);
    } else if mode & 4 != 0 {
        max32(x, y)
    } else {
        min32(x, y)
    };
    if mode & 8 != 0 { f32::from_bits(value.to_bits() & 0x7fff_ffff | sign) } else { value }
}
