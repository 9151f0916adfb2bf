//! `mov`, conversions and selections.

use super::{Decoded, Decoder, Parts, operands};
use crate::convert::Conversion;
use crate::float::Rounding;
use crate::instruction::Instruction;
use crate::operation::{act, op1, op2};
use crate::registers::lanes;
use crate::syntax::{Operand, Statement};
use crate::types::{LOCAL_WINDOW, PARAMETER_WINDOW, SHARED_WINDOW, Space, Type, WINDOW_BYTES};

impl<'a> Decoder<'a> {
    pub(super) fn moves(
        &mut self,
        name: &str,
        mut parts: Parts<'a>,
        s: &Statement<'a>,
        mut i: Instruction,
    ) -> Decoded<()> {
        match name {
            "mov" => {
                parts.end()?;
                operands::<2>(s)?;
                return self.mov(parts.ty()?, s, i);
            }
            "cvt" => return self.convert(parts, s, i),
            "cvta" => {
                operands::<2>(s)?;
                let back = parts.take("to");
                let space = parts.find(Space::named).ok_or("cvta needs a space")?;
                let ty = parts.only(&[Type::U64, Type::U32])?;
                i.d = self.dest(&s.operands[0], ty)?;
                i.a = self.source(&s.operands[1], ty)?;
                let window = match space {
                    Space::Shared => SHARED_WINDOW,
                    Space::Local => LOCAL_WINDOW,
                    Space::Parameter => PARAMETER_WINDOW,
                    _ => 0,
                };
                i.offset = if back { (window as i64).wrapping_neg() } else { window as i64 };
                if ty == Type::U32 && window != 0 {
                    return Err("generic addresses have 64 bits".to_owned());
                }
                i.run = if ty == Type::U64 {
                    act!(|m, i, mask| {
                        let offset = i.offset as u64;
                        m.warp.registers.unary::<u64, u64>([i.d, i.a], mask, |a| a.wrapping_add(offset))
                    })
                } else {
                    op1!(u32 => u32, |a| a)
                };
            }
            "isspacep" => {
                operands::<2>(s)?;
                let space = parts.find(Space::named).ok_or("isspacep needs a space")?;
                i.p = self.predicate_dest(&s.operands[0])?;
                i.a = self.source(&s.operands[1], Type::U64)?;
                i.space = space;
                i.run = act!(|m, i, mask| {
                    for lane in lanes(mask) {
                        let address = m.warp.registers.get::<u64>(i.a, lane as u32);
                        let within = |window: u64| (window..window + WINDOW_BYTES).contains(&address);
                        let inside = match i.space {
                            Space::Shared => within(SHARED_WINDOW),
                            Space::Local => within(LOCAL_WINDOW),
                            Space::Parameter => within(PARAMETER_WINDOW),
                            _ => !(within(SHARED_WINDOW) || within(LOCAL_WINDOW) || within(PARAMETER_WINDOW)),
                        };
                        crate::machine::set_bits(&mut m.warp.predicates[i.p as usize], 1 << lane, inside);
                    }
                });
            }
            "selp" => {
                operands::<4>(s)?;
                let ty = parts.ty()?;
                i.d = self.dest(&s.operands[0], ty)?;
                i.a = self.source(&s.operands[1], ty)?;
                i.b = self.source(&s.operands[2], ty)?;
                (i.r, i.r_flip) = self.predicate(&s.operands[3])?;
                i.run = if ty.bytes() == 8 {
                    act!(|m, i, mask| select::<u64>(m, i, mask))
                } else {
                    act!(|m, i, mask| select::<u32>(m, i, mask))
                };
            }
            "slct" => {
                operands::<4>(s)?;
                let ftz = parts.take("ftz");
                let (ty, by) = match parts.types[..] {
                    [ty, by @ (Type::S32 | Type::F32)] => (ty, by),
                    _ => return Err("slct needs two types".to_owned()),
                };
                i.d = self.dest(&s.operands[0], ty)?;
                i.a = self.source(&s.operands[1], ty)?;
                i.b = self.source(&s.operands[2], ty)?;
                i.c = self.source(&s.operands[3], by)?;
                use crate::float::flush;
                use crate::operation::op3;
                i.run = match (ty.bytes() == 8, by == Type::F32, ftz) {
                    (true, false, _) => op3!(u64, u64, i32 => u64, |a, b, c| if c >= 0 { a } else { b }),
                    (false, false, _) => op3!(u32, u32, i32 => u32, |a, b, c| if c >= 0 { a } else { b }),
                    (true, true, false) => op3!(u64, u64, f32 => u64, |a, b, c| if c >= 0.0 { a } else { b }),
                    (false, true, false) => op3!(u32, u32, f32 => u32, |a, b, c| if c >= 0.0 { a } else { b }),
                    (true, true, true) => op3!(u64, u64, f32 => u64, |a, b, c| if flush(c) >= 0.0 { a } else { b }),
                    (false, true, true) => op3!(u32, u32, f32 => u32, |a, b, c| if flush(c) >= 0.0 { a } else { b }),
                };
            }
            "szext" => {
                operands::<3>(s)?;
                let clamp = parts.take("clamp");
                if !clamp {
                    parts.take("wrap");
                }
                let ty = parts.only(&[Type::U32, Type::S32])?;
                i.d = self.dest(&s.operands[0], ty)?;
                i.a = self.source(&s.operands[1], ty)?;
                i.b = self.source(&s.operands[2], Type::U32)?;
                i.run = match (ty, clamp) {
                    (Type::U32, true) => op2!(u32, |a, b| if b >= 32 { a } else { a & ((1 << b) - 1) }),
                    (Type::U32, false) => op2!(u32, |a, b| a & ((1 << (b & 31)) - 1)),
                    (_, true) => op2!(u32, |a, b| match b {
                        0 => 0,
                        32.. => a,
                        _ => ((a << (32 - b)) as i32 >> (32 - b)) as u32,
                    }),
                    _ => op2!(u32, |a, b| match b & 31 {
                        0 => 0,
                        b => ((a << (32 - b)) as i32 >> (32 - b)) as u32,
                    }),
                };
            }
            _ => return Err("this instruction is not known".to_owned()),
        }
        parts.end()?;
        self.push(i);
        Ok(())
    }

    fn mov(&mut self, ty: Type, s: &Statement<'a>, mut i: Instruction) -> Decoded<()> {
        match (&s.operands[0], &s.operands[1]) {
            (to, from) if ty == Type::Pred => {
                i.p = self.predicate_dest(to)?;
                (i.r, i.r_flip) = self.predicate(from)?;
                i.run = act!(|m, i, mask| {
                    let value = m.warp.predicates[i.r as usize] ^ i.r_flip;
                    let p = &mut m.warp.predicates[i.p as usize];
                    *p = *p & !mask | value & mask;
                });
            }
            (Operand::Vector(to), from) => {
                let part = part_type(ty, to.len())?;
                i.a = self.source(from, ty)?;
                let mut slots = Vec::new();
                for operand in to {
                    slots.push(match operand {
                        Operand::Name("_") => crate::access::SINK,
                        _ => self.dest(operand, part)?,
                    });
                }
                self.list(slots, &mut i);
                i.width = part.bytes() as u8;
                i.wide = ty.bytes() == 8;
                i.run = act!(|m, i, mask| unpack(m, i, mask));
            }
            (to, Operand::Vector(from)) => {
                let part = part_type(ty, from.len())?;
                i.d = self.dest(to, ty)?;
                let slots = from.iter().map(|operand| self.source(operand, part)).collect::<Decoded<Vec<_>>>()?;
                self.list(slots, &mut i);
                i.width = part.bytes() as u8;
                i.wide = ty.bytes() == 8;
                i.run = act!(|m, i, mask| pack(m, i, mask));
            }
            (to, from) => {
                i.d = self.dest(to, ty)?;
                i.a = self.source(from, ty)?;
                i.run = if ty.bytes() == 8 { op1!(u64 => u64, |a| a) } else { op1!(u32 => u32, |a| a) };
            }
        }
        self.push(i);
        Ok(())
    }

    fn convert(&mut self, mut parts: Parts<'a>, s: &Statement<'a>, mut i: Instruction) -> Decoded<()> {
        let (to, from) = match parts.types[..] {
            [to, from] => (to, from),
            _ => return Err("cvt needs two types".to_owned()),
        };
        let integral = parts.find(|p| Rounding::named(p.strip_suffix('i')?));
        let rounding = parts.find(Rounding::named);
        let flush = parts.take("ftz");
        let saturate = parts.take("sat") || parts.take("satfinite");
        let relu = parts.take("relu");
        parts.end()?;
        // An integer result of a floating-point value always has an integral rounding; so has one of the same type.
        if from.float() && !to.float() && integral.is_none() {
            return Err("cvt to an integer needs .rni, .rzi, .rmi or .rpi".to_owned());
        }
        let needs = to.float() && (!from.float() || to.bytes() < from.bytes() || to == Type::Tf32);
        if needs && rounding.is_none() {
            return Err("this cvt needs a rounding".to_owned());
        }
        let conversion = Conversion {
            from,
            to,
            rounding: integral.or(rounding).unwrap_or(Rounding::Nearest),
            integral: integral.is_some(),
            flush,
            saturate,
            relu,
        };
        let plain = !flush && !saturate && !relu;
        if matches!(to, Type::F16x2 | Type::Bf16x2) {
            operands::<3>(s)?;
            i.d = self.dest(&s.operands[0], Type::B32)?;
            i.a = self.source(&s.operands[1], from)?;
            i.b = self.source(&s.operands[2], from)?;
            let to = if to == Type::F16x2 { Type::F16 } else { Type::Bf16 };
            i.target = self.conversions(Conversion { to, ..conversion });
            i.run = act!(|m, i, mask| {
                let conversion = m.program.conversions[i.target as usize];
                m.warp.registers.binary::<u32, u32, u32>([i.d, i.a, i.b], mask, |a, b| {
                    (conversion.apply(u64::from(a)) << 16 | conversion.apply(u64::from(b))) as u32
                });
            });
            self.push(i);
            return Ok(());
        }
        operands::<2>(s)?;
        let (d, found) = self.dest_as(&s.operands[0], to, true)?;
        i.d = d;
        i.a = self.source_as(&s.operands[1], from, true)?;
        // A wider source register: which size it really has decides how to read it.
        let source_wide = match &s.operands[1] {
            Operand::Name(name) => match self.resolve(name) {
                Some(super::Symbol::Register(ty, _)) => ty.bytes() == 8,
                _ => from.bytes() == 8,
            },
            _ => from.bytes() == 8,
        };
        let exact = source_wide == (from.bytes() == 8) && (found.bytes() == 8) == (to.bytes() == 8);
        use Type::*;
        i.run = match (to, from) {
            _ if !exact || !plain => self.slow_conversion(&mut i, conversion, source_wide, found),
            (U64 | S64, U32) => op1!(u32 => u64, |a| u64::from(a)),
            (U64 | S64, S32) => op1!(i32 => i64, |a| i64::from(a)),
            (U32 | S32, U64 | S64) => op1!(u64 => u32, |a| a as u32),
            (U32 | S32, U16) => op1!(u16 => u32, |a| u32::from(a)),
            (U32 | S32, S16) => op1!(i16 => i32, |a| i32::from(a)),
            (U16 | S16, U32 | S32) => op1!(u32 => u32, |a| a & 0xffff),
            (U16 | S16, U64 | S64) => op1!(u64 => u32, |a| a as u32 & 0xffff),
            (F64, F32) if integral.is_none() => op1!(f32 => f64, |a| f64::from(a)),
            (F32, F64) if rounding == Some(Rounding::Nearest) => op1!(f64 => f32, |a| a as f32),
            (F64, S32) if rounding == Some(Rounding::Nearest) => op1!(i32 => f64, |a| f64::from(a)),
            (F64, U32) if rounding == Some(Rounding::Nearest) => op1!(u32 => f64, |a| f64::from(a)),
            (F64, S64) if rounding == Some(Rounding::Nearest) => op1!(i64 => f64, |a| a as f64),
            (F64, U64) if rounding == Some(Rounding::Nearest) => op1!(u64 => f64, |a| a as f64),
            (F32, S32) if rounding == Some(Rounding::Nearest) => op1!(i32 => f32, |a| a as f32),
            (F32, U32) if rounding == Some(Rounding::Nearest) => op1!(u32 => f32, |a| a as f32),
            (S32, F64) if integral == Some(Rounding::Zero) => op1!(f64 => i32, |a| a as i32),
            (S32, F32) if integral == Some(Rounding::Zero) => op1!(f32 => i32, |a| a as i32),
            (U32, F32) if integral == Some(Rounding::Zero) => op1!(f32 => u32, |a| a as u32),
            (F32, Bf16) if integral.is_none() => op1!(u32 => u32, |a| a << 16),
            _ => self.slow_conversion(&mut i, conversion, source_wide, found),
        };
        self.push(i);
        Ok(())
    }

    fn conversions(&mut self, conversion: Conversion) -> u32 {
        self.program.conversions.push(conversion);
        self.program.conversions.len() as u32 - 1
    }

    fn slow_conversion(
        &mut self,
        i: &mut Instruction,
        conversion: Conversion,
        source_wide: bool,
        found: Type,
    ) -> crate::instruction::Run {
        i.target = self.conversions(conversion);
        i.wide = source_wide;
        i.mode = u32::from(found.bytes() == 8);
        act!(|m, i, mask| {
            let conversion = m.program.conversions[i.target as usize];
            for lane in lanes(mask) {
                let lane = lane as u32;
                let bits = if i.wide {
                    m.warp.registers.get::<u64>(i.a, lane)
                } else {
                    u64::from(m.warp.registers.get::<u32>(i.a, lane))
                };
                let value = conversion.apply(bits);
                if i.mode == 1 {
                    m.warp.registers.set::<u64>(i.d, lane, value);
                } else {
                    m.warp.registers.set::<u32>(i.d, lane, value as u32);
                }
            }
        })
    }
}

fn part_type(ty: Type, count: usize) -> Decoded<Type> {
    match (ty.bytes() as usize, count) {
        (4, 2) => Ok(Type::B16),
        (8, 2) => Ok(Type::B32),
        (8, 4) => Ok(Type::B16),
        (2, 2) => Ok(Type::B8),
        (4, 4) => Ok(Type::B8),
        _ => Err("these parts do not make up the whole".to_owned()),
    }
}

#[inline(always)]
fn select<T: crate::registers::Lane>(m: &mut crate::machine::Machine<'_>, i: &Instruction, mask: u32) {
    let choice = m.warp.predicates[i.r as usize] ^ i.r_flip;
    let registers = &mut m.warp.registers;
    for lane in lanes(mask) {
        let from = if choice >> lane & 1 != 0 { i.a } else { i.b };
        let value = registers.get::<T>(from, lane as u32);
        registers.set::<T>(i.d, lane as u32, value);
    }
}

fn unpack(m: &mut crate::machine::Machine<'_>, i: &Instruction, mask: u32) {
    let program = m.program;
    let slots = &program.operands[i.list as usize..][..usize::from(i.count)];
    let registers = &mut m.warp.registers;
    let bits = u32::from(i.width) * 8;
    for lane in lanes(mask) {
        let lane = lane as u32;
        let whole = if i.wide { registers.get::<u64>(i.a, lane) } else { u64::from(registers.get::<u32>(i.a, lane)) };
        for (k, &slot) in slots.iter().enumerate() {
            if slot != crate::access::SINK {
                let part = whole >> (k as u32 * bits) & ((1 << bits) - 1);
                registers.set::<u32>(slot, lane, part as u32);
            }
        }
    }
}

fn pack(m: &mut crate::machine::Machine<'_>, i: &Instruction, mask: u32) {
    let program = m.program;
    let slots = &program.operands[i.list as usize..][..usize::from(i.count)];
    let registers = &mut m.warp.registers;
    let bits = u32::from(i.width) * 8;
    for lane in lanes(mask) {
        let lane = lane as u32;
        let mut whole = 0;
        for (k, &slot) in slots.iter().enumerate() {
            let part = u64::from(registers.get::<u32>(slot, lane)) & ((1 << bits) - 1);
            whole |= part << (k as u32 * bits);
        }
        if i.wide {
            registers.set::<u64>(i.d, lane, whole);
        } else {
            registers.set::<u32>(i.d, lane, whole as u32);
        }
    }
}
