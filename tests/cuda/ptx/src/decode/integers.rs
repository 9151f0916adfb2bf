//! Integer arithmetic.

use super::{Decoded, Decoder, Parts};
use crate::instruction::{Instruction, Run};
use crate::operation::{act, op1, op2, op3};
use crate::registers::lanes;
use crate::syntax::Statement;
use crate::types::Type;

impl<'a> Decoder<'a> {
    pub(super) fn integer(
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
