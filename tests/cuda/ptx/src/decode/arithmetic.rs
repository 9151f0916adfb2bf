//! Integer and floating-point arithmetic.

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
    pub(super) fn arithmetic(
        &mut self,
        name: &str,
        mut parts: Parts<'a>,
        s: &Statement<'a>,
        mut i: Instruction,
    ) -> Decoded<()> {
        match name {
            "mma" | "ldmatrix" | "stmatrix" | "movmatrix" | "cp" | "wgmma" | "mbarrier" => {
                return self.tensor(name, parts, s, i);
            }
            _ => {}
        }
        let ty = parts.ty()?;
        if matches!(ty, Type::F16 | Type::F16x2 | Type::Bf16 | Type::Bf16x2) {
            return self.half(name, parts, s, i);
        }
        i.run = match ty {
            Type::F32 => {
                self.floats(name, ty, s, &mut i)?;
                self.float32(name, &mut parts, &mut i)?
            }
            Type::F64 => {
                self.floats(name, ty, s, &mut i)?;
                float64(name, &mut parts, &mut i)?
            }
            _ => self.integer(name, ty, &mut parts, s, &mut i)?,
        };
        parts.end()?;
        self.push(i);
        Ok(())
    }

    /// Operands of a floating-point instruction: all of one type.
    fn floats(&mut self, name: &str, ty: Type, s: &Statement<'a>, i: &mut Instruction) -> Decoded<()> {
        match name {
            "fma" | "mad" => self.sources(s, i, ty, &[ty, ty, ty]),
            "add" | "sub" | "mul" | "div" | "min" | "max" | "copysign" => self.sources(s, i, ty, &[ty, ty]),
            "abs" | "neg" | "rcp" | "sqrt" | "rsqrt" | "sin" | "cos" | "lg2" | "ex2" | "tanh" => {
                self.sources(s, i, ty, &[ty])
            }
            _ => Err("this instruction is not known".to_owned()),
        }
    }

    fn float32(&mut self, name: &str, parts: &mut Parts<'a>, i: &mut Instruction) -> Decoded<Run> {
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

    fn integer(
        &mut self,
        name: &str,
        ty: Type,
        parts: &mut Parts<'a>,
        s: &Statement<'a>,
        i: &mut Instruction,
    ) -> Decoded<Run> {
        use Type::*;
        if !ty.integer() {
            return Err("this instruction is not known, or not with this type".to_owned());
        }
        let carry_out = parts.take("cc");
        if carry_out || matches!(name, "addc" | "subc" | "madc") {
            return self.carry(name, ty, carry_out, parts, s, i);
        }
        let saturating = parts.take("sat");
        if saturating && (ty != S32 || !matches!(name, "add" | "sub" | "mad")) {
            return Err("`.sat` is not known here".to_owned());
        }
        let (wide, high, low) = (parts.take("wide"), parts.take("hi"), parts.take("lo"));
        match name {
            "mul" | "mad" if wide => {
                let (from, to) = match ty {
                    U16 => (U16, U32),
                    S16 => (S16, S32),
                    U32 => (U32, U64),
                    S32 => (S32, S64),
                    _ => return Err("`.wide` does not know this type".to_owned()),
                };
                if name == "mul" {
                    self.sources(s, i, to, &[from, from])?;
                    return Ok(match ty {
                        U16 => op2!(u16, u16 => u32, |a, b| u32::from(a) * u32::from(b)),
                        S16 => op2!(i16, i16 => i32, |a, b| i32::from(a) * i32::from(b)),
                        U32 => op2!(u32, u32 => u64, |a, b| u64::from(a) * u64::from(b)),
                        _ => op2!(i32, i32 => i64, |a, b| i64::from(a) * i64::from(b)),
                    });
                }
                self.sources(s, i, to, &[from, from, to])?;
                return Ok(match ty {
                    U16 => op3!(u16, u16, u32 => u32, |a, b, c| (u32::from(a) * u32::from(b)).wrapping_add(c)),
                    S16 => op3!(i16, i16, i32 => i32, |a, b, c| (i32::from(a) * i32::from(b)).wrapping_add(c)),
                    U32 => op3!(u32, u32, u64 => u64, |a, b, c| (u64::from(a) * u64::from(b)).wrapping_add(c)),
                    _ => op3!(i32, i32, i64 => i64, |a, b, c| (i64::from(a) * i64::from(b)).wrapping_add(c)),
                });
            }
            "mul" | "mad" if !high && !low => return Err("`.lo`, `.hi` or `.wide` is missing".to_owned()),
            _ => {}
        }
        match name {
            "dp4a" | "dp2a" => {
                let [a, b] = parts.types[..] else { return Err("two types are needed".to_owned()) };
                let result = if a == S32 || b == S32 { S32 } else { U32 };
                self.sources(s, i, result, &[U32, U32, result])?;
                i.mode = u32::from(a == S32) | u32::from(b == S32) << 1 | u32::from(high) << 2;
                return Ok(if name == "dp4a" {
                    act!(|m, i, mask| {
                        let mode = i.mode;
                        m.warp.registers.ternary::<u32, u32, u32, u32>([i.d, i.a, i.b, i.c], mask, |a, b, c| {
                            (0..4).fold(c, |sum, k| {
                                sum.wrapping_add((byte(a, k, mode & 1) * byte(b, k, mode >> 1 & 1)) as u32)
                            })
                        })
                    })
                } else {
                    act!(|m, i, mask| {
                        let mode = i.mode;
                        let half = |x: u32, k: u32| {
                            let x = x >> (16 * k) & 0xffff;
                            if mode & 1 != 0 { i32::from(x as i16) } else { x as i32 }
                        };
                        m.warp.registers.ternary::<u32, u32, u32, u32>([i.d, i.a, i.b, i.c], mask, |a, b, c| {
                            let from = if mode & 4 != 0 { 2 } else { 0 };
                            (0..2).fold(c, |sum, k| {
                                sum.wrapping_add(half(a, k).wrapping_mul(byte(b, from + k, mode >> 1 & 1)) as u32)
                            })
                        })
                    })
                });
            }
            "abs" | "neg" => self.sources(s, i, ty, &[ty])?,
            "mad" | "mad24" | "sad" => self.sources(s, i, ty, &[ty, ty, ty])?,
            _ => self.sources(s, i, ty, &[ty, ty])?,
        }
        if matches!(ty, U16x2 | S16x2) {
            return Ok(match (name, ty) {
                ("add", _) => op2!(u32, |a, b| halves(a, b, u16::wrapping_add)),
                ("sub", _) => op2!(u32, |a, b| halves(a, b, u16::wrapping_sub)),
                ("min", U16x2) => op2!(u32, |a, b| halves(a, b, u16::min)),
                ("max", U16x2) => op2!(u32, |a, b| halves(a, b, u16::max)),
                ("min", _) => op2!(u32, |a, b| halves(a, b, |a, b| (a as i16).min(b as i16) as u16)),
                ("max", _) => op2!(u32, |a, b| halves(a, b, |a, b| (a as i16).max(b as i16) as u16)),
                _ => return Err("this instruction does not know two integers of 16 bits".to_owned()),
            });
        }
        let bytes = ty.bytes();
        let signed = ty.signed();
        Ok(match (name, bytes, signed) {
            ("add", 4, true) if saturating => op2!(i32, |a, b| a.saturating_add(b)),
            ("sub", 4, true) if saturating => op2!(i32, |a, b| a.saturating_sub(b)),
            ("mad", 4, true) if saturating && high => {
                op3!(i32, |a, b, c| ((i64::from(a) * i64::from(b) >> 32) as i32).saturating_add(c))
            }
            ("add", 2, _) => op2!(u16, |a, b| a.wrapping_add(b)),
            ("add", 4, _) => op2!(u32, |a, b| a.wrapping_add(b)),
            ("add", 8, _) => op2!(u64, |a, b| a.wrapping_add(b)),
            ("sub", 2, _) => op2!(u16, |a, b| a.wrapping_sub(b)),
            ("sub", 4, _) => op2!(u32, |a, b| a.wrapping_sub(b)),
            ("sub", 8, _) => op2!(u64, |a, b| a.wrapping_sub(b)),
            ("mul", 2, _) if low => op2!(u16, |a, b| a.wrapping_mul(b)),
            ("mul", 4, _) if low => op2!(u32, |a, b| a.wrapping_mul(b)),
            ("mul", 8, _) if low => op2!(u64, |a, b| a.wrapping_mul(b)),
            ("mul", 2, false) => op2!(u16, |a, b| (u32::from(a) * u32::from(b) >> 16) as u16),
            ("mul", 2, true) => op2!(i16, |a, b| (i32::from(a) * i32::from(b) >> 16) as i16),
            ("mul", 4, false) => op2!(u32, |a, b| (u64::from(a) * u64::from(b) >> 32) as u32),
            ("mul", 4, true) => op2!(i32, |a, b| (i64::from(a) * i64::from(b) >> 32) as i32),
            ("mul", 8, false) => op2!(u64, |a, b| (u128::from(a) * u128::from(b) >> 64) as u64),
            ("mul", 8, true) => op2!(i64, |a, b| (i128::from(a) * i128::from(b) >> 64) as i64),
            ("mad", 2, _) if low => op3!(u16, |a, b, c| a.wrapping_mul(b).wrapping_add(c)),
            ("mad", 4, _) if low => op3!(u32, |a, b, c| a.wrapping_mul(b).wrapping_add(c)),
            ("mad", 8, _) if low => op3!(u64, |a, b, c| a.wrapping_mul(b).wrapping_add(c)),
            ("mad", 2, false) => op3!(u16, |a, b, c| ((u32::from(a) * u32::from(b) >> 16) as u16).wrapping_add(c)),
            ("mad", 2, true) => op3!(i16, |a, b, c| ((i32::from(a) * i32::from(b) >> 16) as i16).wrapping_add(c)),
            ("mad", 4, false) => op3!(u32, |a, b, c| ((u64::from(a) * u64::from(b) >> 32) as u32).wrapping_add(c)),
            ("mad", 4, true) => op3!(i32, |a, b, c| ((i64::from(a) * i64::from(b) >> 32) as i32).wrapping_add(c)),
            ("mad", 8, false) => op3!(u64, |a, b, c| ((u128::from(a) * u128::from(b) >> 64) as u64).wrapping_add(c)),
            ("mad", 8, true) => op3!(i64, |a, b, c| ((i128::from(a) * i128::from(b) >> 64) as i64).wrapping_add(c)),
            ("mul24", 4, false) if !high => op2!(u32, |a, b| (a & 0xff_ffff).wrapping_mul(b & 0xff_ffff)),
            ("mul24", 4, true) if !high => op2!(i32, |a, b| (a << 8 >> 8).wrapping_mul(b << 8 >> 8)),
            ("mul24", 4, false) => op2!(u32, |a, b| (u64::from(a & 0xff_ffff) * u64::from(b & 0xff_ffff) >> 16) as u32),
            ("mul24", 4, true) => op2!(i32, |a, b| (i64::from(a << 8 >> 8) * i64::from(b << 8 >> 8) >> 16) as i32),
            ("mad24", 4, false) if !high => {
                op3!(u32, |a, b, c| (a & 0xff_ffff).wrapping_mul(b & 0xff_ffff).wrapping_add(c))
            }
            ("mad24", 4, true) if !high => op3!(i32, |a, b, c| (a << 8 >> 8).wrapping_mul(b << 8 >> 8).wrapping_add(c)),
            ("sad", 2, false) => op3!(u16, |a, b, c| c.wrapping_add(a.abs_diff(b))),
            ("sad", 2, true) => op3!(i16, |a, b, c| c.wrapping_add(a.abs_diff(b) as i16)),
            ("sad", 4, false) => op3!(u32, |a, b, c| c.wrapping_add(a.abs_diff(b))),
            ("sad", 4, true) => op3!(i32, |a, b, c| c.wrapping_add(a.abs_diff(b) as i32)),
            ("sad", 8, false) => op3!(u64, |a, b, c| c.wrapping_add(a.abs_diff(b))),
            ("sad", 8, true) => op3!(i64, |a, b, c| c.wrapping_add(a.abs_diff(b) as i64)),
            // Division by zero answers all ones, as the hardware does.
            ("div", 2, false) => op2!(u16, |a, b| a.checked_div(b).unwrap_or(u16::MAX)),
            ("div", 2, true) => op2!(i16, |a, b| if b == 0 { -1 } else { a.wrapping_div(b) }),
            ("div", 4, false) => op2!(u32, |a, b| a.checked_div(b).unwrap_or(u32::MAX)),
            ("div", 4, true) => op2!(i32, |a, b| if b == 0 { -1 } else { a.wrapping_div(b) }),
            ("div", 8, false) => op2!(u64, |a, b| a.checked_div(b).unwrap_or(u64::MAX)),
            ("div", 8, true) => op2!(i64, |a, b| if b == 0 { -1 } else { a.wrapping_div(b) }),
            ("rem", 2, false) => op2!(u16, |a, b| a.checked_rem(b).unwrap_or(a)),
            ("rem", 2, true) => op2!(i16, |a, b| if b == 0 { a } else { a.wrapping_rem(b) }),
            ("rem", 4, false) => op2!(u32, |a, b| a.checked_rem(b).unwrap_or(a)),
            ("rem", 4, true) => op2!(i32, |a, b| if b == 0 { a } else { a.wrapping_rem(b) }),
            ("rem", 8, false) => op2!(u64, |a, b| a.checked_rem(b).unwrap_or(a)),
            ("rem", 8, true) => op2!(i64, |a, b| if b == 0 { a } else { a.wrapping_rem(b) }),
            ("min", 2, false) => op2!(u16, |a, b| a.min(b)),
            ("min", 2, true) => op2!(i16, |a, b| a.min(b)),
            ("min", 4, false) => op2!(u32, |a, b| a.min(b)),
            ("min", 4, true) => op2!(i32, |a, b| a.min(b)),
            ("min", 8, false) => op2!(u64, |a, b| a.min(b)),
            ("min", 8, true) => op2!(i64, |a, b| a.min(b)),
            ("max", 2, false) => op2!(u16, |a, b| a.max(b)),
            ("max", 2, true) => op2!(i16, |a, b| a.max(b)),
            ("max", 4, false) => op2!(u32, |a, b| a.max(b)),
            ("max", 4, true) => op2!(i32, |a, b| a.max(b)),
            ("max", 8, false) => op2!(u64, |a, b| a.max(b)),
            ("max", 8, true) => op2!(i64, |a, b| a.max(b)),
            ("abs", 2, true) => op1!(i16 => i16, |a| a.wrapping_abs()),
            ("abs", 4, true) => op1!(i32 => i32, |a| a.wrapping_abs()),
            ("abs", 8, true) => op1!(i64 => i64, |a| a.wrapping_abs()),
            ("neg", 2, true) => op1!(i16 => i16, |a| a.wrapping_neg()),
            ("neg", 4, true) => op1!(i32 => i32, |a| a.wrapping_neg()),
            ("neg", 8, true) => op1!(i64 => i64, |a| a.wrapping_neg()),
            _ => return Err("this instruction is not known, or not with this type".to_owned()),
        })
    }

    /// Extended-precision arithmetic through the carry flag.
    fn carry(
        &mut self,
        name: &str,
        ty: Type,
        out: bool,
        parts: &mut Parts<'a>,
        s: &Statement<'a>,
        i: &mut Instruction,
    ) -> Decoded<Run> {
        if !matches!(ty, Type::U32 | Type::S32 | Type::U64 | Type::S64) {
            return Err("the carry flag does not know this type".to_owned());
        }
        let high = parts.take("hi");
        let low = parts.take("lo");
        let kind = match name {
            "add" | "addc" => 0,
            "sub" | "subc" => 1,
            "mad" | "madc" if high || low => 2,
            _ => return Err("this instruction does not know the carry flag".to_owned()),
        };
        if kind == 2 {
            self.sources(s, i, ty, &[ty, ty, ty])?;
        } else {
            self.sources(s, i, ty, &[ty, ty])?;
        }
        i.mode = kind
            | u32::from(name.ends_with('c')) << 2
            | u32::from(out) << 3
            | u32::from(high) << 4
            | u32::from(ty.signed()) << 5;
        i.wide = ty.bytes() == 8;
        Ok(act!(|m, i, mask| {
            for lane in lanes(mask) {
                let bit = lane;
                let lane = lane as u32;
                let registers = &mut m.warp.registers;
                let bits = if i.wide { 64 } else { 32 };
                let get = |slot: u32| {
                    if i.wide { registers.get::<u64>(slot, lane) } else { u64::from(registers.get::<u32>(slot, lane)) }
                };
                let all = u64::MAX >> (64 - bits);
                let (mut a, mut b) = (get(i.a), get(i.b));
                if i.mode & 3 == 2 {
                    let product = product(a, b, bits, i.mode >> 5 & 1 != 0);
                    a = (if i.mode >> 4 & 1 != 0 { product >> bits } else { product }) as u64 & all;
                    b = get(i.c);
                }
                let carry = u128::from(i.mode >> 2 & 1 & m.warp.carry >> bit);
                let sum = if i.mode & 3 == 1 {
                    // The flag of a subtraction is a borrow.
                    u128::from(a).wrapping_sub(u128::from(b)).wrapping_sub(carry)
                } else {
                    u128::from(a) + u128::from(b) + carry
                };
                if i.mode >> 3 & 1 != 0 {
                    crate::machine::set_bits(&mut m.warp.carry, 1 << bit, sum >> bits & 1 != 0);
                }
                let value = sum as u64 & all;
                if i.wide {
                    registers.set::<u64>(i.d, lane, value);
                } else {
                    registers.set::<u32>(i.d, lane, value as u32);
                }
            }
        }))
    }
}

fn float64(name: &str, parts: &mut Parts<'_>, i: &mut Instruction) -> Decoded<Run> {
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

fn product(a: u64, b: u64, bits: u32, signed: bool) -> u128 {
    match (signed, bits) {
        (true, 32) => (i128::from(a as u32 as i32) * i128::from(b as u32 as i32)) as u128,
        (true, _) => (i128::from(a as i64) * i128::from(b as i64)) as u128,
        _ => u128::from(a) * u128::from(b),
    }
}

fn byte(x: u32, k: u32, signed: u32) -> i32 {
    let byte = (x >> (8 * k)) as u8;
    if signed != 0 { i32::from(byte as i8) } else { i32::from(byte) }
}

fn halves(a: u32, b: u32, f: impl Fn(u16, u16) -> u16) -> u32 {
    u32::from(f((a >> 16) as u16, (b >> 16) as u16)) << 16 | u32::from(f(a as u16, b as u16))
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
