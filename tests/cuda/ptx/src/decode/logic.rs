//! Bits.

use super::{Decoded, Decoder, Parts, operands};
use crate::instruction::Instruction;
use crate::operation::{act, op1, op2, op3};
use crate::syntax::{Operand, Statement};
use crate::types::Type;

impl<'a> Decoder<'a> {
    pub(super) fn logic(
        &mut self,
        name: &str,
        mut parts: Parts<'a>,
        s: &Statement<'a>,
        mut i: Instruction,
    ) -> Decoded<()> {
        if matches!(name, "setp" | "set") {
            return self.compare(name, parts, s, i);
        }
        let ty = parts.ty()?;
        if ty == Type::Pred {
            parts.end()?;
            return self.predicates(name, s, i);
        }
        if name == "testp" {
            return self.test(parts, s, i);
        }
        let wide = ty.bytes() == 8;
        let short = ty.bytes() == 2;
        match name {
            "and" | "or" | "xor" => {
                parts.only(&[Type::B16, Type::B32, Type::B64])?;
                self.sources(s, &mut i, ty, &[ty, ty])?;
                i.run = match (name, wide) {
                    ("and", true) => op2!(u64, |a, b| a & b),
                    ("and", false) => op2!(u32, |a, b| a & b),
                    ("or", true) => op2!(u64, |a, b| a | b),
                    ("or", false) => op2!(u32, |a, b| a | b),
                    (_, true) => op2!(u64, |a, b| a ^ b),
                    (_, false) => op2!(u32, |a, b| a ^ b),
                };
            }
            "not" => {
                parts.only(&[Type::B16, Type::B32, Type::B64])?;
                self.sources(s, &mut i, ty, &[ty])?;
                i.run = match (wide, short) {
                    (true, _) => op1!(u64 => u64, |a| !a),
                    (_, true) => op1!(u16 => u16, |a| !a),
                    _ => op1!(u32 => u32, |a| !a),
                };
            }
            "cnot" => {
                parts.only(&[Type::B16, Type::B32, Type::B64])?;
                self.sources(s, &mut i, ty, &[ty])?;
                i.run = match (wide, short) {
                    (true, _) => op1!(u64 => u64, |a| u64::from(a == 0)),
                    (_, true) => op1!(u16 => u16, |a| u16::from(a == 0)),
                    _ => op1!(u32 => u32, |a| u32::from(a == 0)),
                };
            }
            "lop3" => {
                parts.only(&[Type::B32])?;
                if !parts.left.is_empty() {
                    return Err("lop3 with a predicate is not known".to_owned());
                }
                let [d, a, b, c, Operand::Integer(table)] = &s.operands[..] else {
                    return Err("lop3 needs four operands and a table".to_owned());
                };
                i.d = self.dest(d, ty)?;
                (i.a, i.b, i.c) = (self.source(a, ty)?, self.source(b, ty)?, self.source(c, ty)?);
                i.offset = *table as i64;
                i.run = act!(|m, i, mask| {
                    let table = i.offset as u32;
                    let minterm = |bit: u32| if table >> bit & 1 != 0 { u32::MAX } else { 0 };
                    let t: [u32; 8] = std::array::from_fn(|bit| minterm(bit as u32));
                    m.warp.registers.ternary::<u32, u32, u32, u32>([i.d, i.a, i.b, i.c], mask, |a, b, c| {
                        (!a & !b & !c & t[0])
                            | (!a & !b & c & t[1])
                            | (!a & b & !c & t[2])
                            | (!a & b & c & t[3])
                            | (a & !b & !c & t[4])
                            | (a & !b & c & t[5])
                            | (a & b & !c & t[6])
                            | (a & b & c & t[7])
                    })
                });
            }
            "shl" => {
                parts.only(&[Type::B16, Type::B32, Type::B64])?;
                self.sources(s, &mut i, ty, &[ty, Type::U32])?;
                i.run = match (wide, short) {
                    (true, _) => op2!(u64, u32 => u64, |a, b| if b > 63 { 0 } else { a << b }),
                    (_, true) => op2!(u16, u32 => u16, |a, b| if b > 15 { 0 } else { a << b }),
                    _ => op2!(u32, |a, b| if b > 31 { 0 } else { a << b }),
                };
            }
            "shr" => {
                self.sources(s, &mut i, ty, &[ty, Type::U32])?;
                i.run = match (ty.signed(), ty.bytes()) {
                    (true, 8) => op2!(i64, u32 => i64, |a, b| a >> b.min(63)),
                    (true, 2) => op2!(i16, u32 => i16, |a, b| a >> b.min(15)),
                    (true, 4) => op2!(i32, u32 => i32, |a, b| a >> b.min(31)),
                    (false, 8) => op2!(u64, u32 => u64, |a, b| if b > 63 { 0 } else { a >> b }),
                    (false, 2) => op2!(u16, u32 => u16, |a, b| if b > 15 { 0 } else { a >> b }),
                    (false, 4) => op2!(u32, |a, b| if b > 31 { 0 } else { a >> b }),
                    _ => return Err("shr does not know this type".to_owned()),
                };
            }
            "shf" => {
                parts.only(&[Type::B32])?;
                self.sources(s, &mut i, ty, &[ty, ty, Type::U32])?;
                let (left, clamp) = (parts.take("l"), parts.take("clamp"));
                if !left && !parts.take("r") || !clamp && !parts.take("wrap") {
                    return Err("shf needs a direction and .clamp or .wrap".to_owned());
                }
                i.run = match (left, clamp) {
                    (true, true) => op3!(u32, |a, b, c| join(a, b, 32 - c.min(32))),
                    (true, false) => op3!(u32, |a, b, c| join(a, b, 32 - (c & 31))),
                    (false, true) => op3!(u32, |a, b, c| join(a, b, c.min(32))),
                    (false, false) => op3!(u32, |a, b, c| join(a, b, c & 31)),
                };
            }
            "popc" => {
                parts.only(&[Type::B32, Type::B64])?;
                self.sources(s, &mut i, Type::U32, &[ty])?;
                i.run = if wide { op1!(u64 => u32, |a| a.count_ones()) } else { op1!(u32 => u32, |a| a.count_ones()) };
            }
            "clz" => {
                parts.only(&[Type::B32, Type::B64])?;
                self.sources(s, &mut i, Type::U32, &[ty])?;
                i.run = if wide {
                    op1!(u64 => u32, |a| a.leading_zeros())
                } else {
                    op1!(u32 => u32, |a| a.leading_zeros())
                };
            }
            "bfind" => {
                let shift = parts.take("shiftamt");
                self.sources(s, &mut i, Type::U32, &[ty])?;
                i.run = match (ty, shift) {
                    (Type::U32, false) => op1!(u32 => u32, |a| find(u64::from(a))),
                    (Type::S32, false) => op1!(i32 => u32, |a| find((a ^ a >> 31) as u32 as u64)),
                    (Type::U64, false) => op1!(u64 => u32, |a| find(a)),
                    (Type::S64, false) => op1!(i64 => u32, |a| find((a ^ a >> 63) as u64)),
                    (Type::U32, true) => op1!(u32 => u32, |a| shift_amount(u64::from(a), 31)),
                    (Type::S32, true) => op1!(i32 => u32, |a| shift_amount((a ^ a >> 31) as u32 as u64, 31)),
                    (Type::U64, true) => op1!(u64 => u32, |a| shift_amount(a, 63)),
                    (Type::S64, true) => op1!(i64 => u32, |a| shift_amount((a ^ a >> 63) as u64, 63)),
                    _ => return Err("bfind does not know this type".to_owned()),
                };
            }
            "brev" => {
                parts.only(&[Type::B32, Type::B64])?;
                self.sources(s, &mut i, ty, &[ty])?;
                i.run =
                    if wide { op1!(u64 => u64, |a| a.reverse_bits()) } else { op1!(u32 => u32, |a| a.reverse_bits()) };
            }
            "bfe" => {
                self.sources(s, &mut i, ty, &[ty, Type::U32, Type::U32])?;
                i.run = match ty {
                    Type::U32 => op3!(u32, |a, b, c| extract(u64::from(a), b, c, 32, false) as u32),
                    Type::S32 => op3!(i32, u32, u32 => u32, |a, b, c| extract(a as u32 as u64, b, c, 32, true) as u32),
                    Type::U64 => op3!(u64, u32, u32 => u64, |a, b, c| extract(a, b, c, 64, false)),
                    Type::S64 => op3!(u64, u32, u32 => u64, |a, b, c| extract(a, b, c, 64, true)),
                    _ => return Err("bfe does not know this type".to_owned()),
                };
            }
            "bfi" => {
                parts.only(&[Type::B32, Type::B64])?;
                operands::<5>(s)?;
                i.d = self.dest(&s.operands[0], ty)?;
                i.a = self.source(&s.operands[1], ty)?;
                i.b = self.source(&s.operands[2], ty)?;
                i.c = self.source(&s.operands[3], Type::U32)?;
                i.m = self.source(&s.operands[4], Type::U32)?;
                i.wide = wide;
                i.run = act!(|m, i, mask| {
                    for lane in crate::registers::lanes(mask) {
                        let lane = lane as u32;
                        let r = &mut m.warp.registers;
                        let (at, length) = (r.get::<u32>(i.c, lane) & 255, r.get::<u32>(i.m, lane) & 255);
                        if i.wide {
                            let value = insert(r.get::<u64>(i.a, lane), r.get::<u64>(i.b, lane), at, length, 64);
                            r.set::<u64>(i.d, lane, value);
                        } else {
                            let (a, b) = (r.get::<u32>(i.a, lane), r.get::<u32>(i.b, lane));
                            r.set::<u32>(i.d, lane, insert(u64::from(a), u64::from(b), at, length, 32) as u32);
                        }
                    }
                });
            }
            "bmsk" => {
                let clamp = parts.take("clamp");
                if !clamp && !parts.take("wrap") {
                    return Err("bmsk needs .clamp or .wrap".to_owned());
                }
                self.sources(s, &mut i, Type::B32, &[Type::U32, Type::U32])?;
                i.run = if clamp {
                    op2!(u32, |a, b| if a >= 32 || b == 0 { 0 } else { (u32::MAX >> (32 - b.min(32))) << a })
                } else {
                    op2!(u32, |a, b| if b & 31 == 0 { 0 } else { (u32::MAX >> (32 - (b & 31))) << (a & 31) })
                };
            }
            "prmt" => {
                parts.only(&[Type::B32])?;
                self.sources(s, &mut i, ty, &[ty, ty, ty])?;
                let mode = parts.find(|p| {
                    Some(match p {
                        "f4e" => 1,
                        "b4e" => 2,
                        "rc8" => 3,
                        "ecl" => 4,
                        "ecr" => 5,
                        "rc16" => 6,
                        _ => return None,
                    })
                });
                i.run = match mode {
                    None => op3!(u32, |a, b, c| permute(a, b, c)),
                    Some(1) => op3!(u32, |a, b, c| permute(a, b, [0x3210, 0x4321, 0x5432, 0x6543][c as usize & 3])),
                    Some(2) => op3!(u32, |a, b, c| permute(a, b, [0x5670, 0x6701, 0x7012, 0x0123][c as usize & 3])),
                    Some(3) => op3!(u32, |a, b, c| permute(a, b, [0x0000, 0x1111, 0x2222, 0x3333][c as usize & 3])),
                    Some(4) => op3!(u32, |a, b, c| permute(a, b, [0x3210, 0x3211, 0x3222, 0x3333][c as usize & 3])),
                    Some(5) => op3!(u32, |a, b, c| permute(a, b, [0x0000, 0x1110, 0x2210, 0x3210][c as usize & 3])),
                    Some(_) => op3!(u32, |a, b, c| permute(a, b, [0x1010, 0x3232, 0x1010, 0x3232][c as usize & 3])),
                };
            }
            "fns" => {
                parts.only(&[Type::B32])?;
                self.sources(s, &mut i, ty, &[Type::B32, Type::U32, Type::S32])?;
                i.run = op3!(u32, u32, i32 => u32, |a, b, c| nth_set(a, b, c));
            }
            _ => return Err("this instruction is not known".to_owned()),
        }
        parts.end()?;
        self.push(i);
        Ok(())
    }

    /// Result and up to three sources.
    pub(super) fn sources(
        &mut self,
        s: &Statement<'a>,
        i: &mut Instruction,
        result: Type,
        sources: &[Type],
    ) -> Decoded<()> {
        if s.operands.len() != sources.len() + 1 {
            return Err(format!("{} operands instead of {}", s.operands.len(), sources.len() + 1));
        }
        i.d = self.dest(&s.operands[0], result)?;
        for (k, &ty) in sources.iter().enumerate() {
            let slot = self.source(&s.operands[k + 1], ty)?;
            match k {
                0 => i.a = slot,
                1 => i.b = slot,
                _ => i.c = slot,
            }
        }
        Ok(())
    }
}

/// The low 32 bits of b:a shifted right.
#[inline(always)]
fn join(a: u32, b: u32, right: u32) -> u32 {
    ((u64::from(b) << 32 | u64::from(a)) >> right) as u32
}

fn find(a: u64) -> u32 {
    63u32.wrapping_sub(a.leading_zeros())
}

fn shift_amount(a: u64, top: u32) -> u32 {
    match find(a) {
        u32::MAX => u32::MAX,
        at => top - at,
    }
}

fn extract(a: u64, at: u32, length: u32, bits: u32, signed: bool) -> u64 {
    let (at, length) = (at & 255, length & 255);
    let top = bits - 1;
    let sign = if !signed || length == 0 { 0 } else { a >> (at + length - 1).min(top) & 1 };
    let mut out = 0;
    for bit in 0..bits {
        let value = if bit < length && at + bit <= top { a >> (at + bit) & 1 } else { sign };
        out |= value << bit;
    }
    out
}

fn insert(a: u64, b: u64, at: u32, length: u32, bits: u32) -> u64 {
    let mut out = b;
    for bit in 0..length {
        if at + bit < bits {
            out = out & !(1 << (at + bit)) | (a >> bit & 1) << (at + bit);
        }
    }
    out
}

fn permute(a: u32, b: u32, selectors: u32) -> u32 {
    let bytes = u64::from(b) << 32 | u64::from(a);
    let mut out = 0;
    for k in 0..4 {
        let selector = selectors >> (4 * k) & 15;
        let byte = (bytes >> (8 * (selector & 7))) as u8;
        let byte = if selector & 8 != 0 { ((byte as i8) >> 7) as u8 } else { byte };
        out |= u32::from(byte) << (8 * k);
    }
    out
}

/// The position of the n-th set bit from a base, downwards if n is negative.
fn nth_set(mask: u32, base: u32, n: i32) -> u32 {
    if n == 0 {
        return if base < 32 && mask >> base & 1 != 0 { base } else { u32::MAX };
    }
    let (mut at, step, mut left) = (i64::from(base), i64::from(n.signum()), n.unsigned_abs());
    while (0..32).contains(&at) {
        if mask >> at & 1 != 0 {
            left -= 1;
            if left == 0 {
                return at as u32;
            }
        }
        at += step;
    }
    u32::MAX
}
