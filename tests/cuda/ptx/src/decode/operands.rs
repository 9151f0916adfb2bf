//! Operands: names and numbers become registers, and are held against the type that the opcode wants.

use super::{Decoded, Decoder, FALSE, SPECIAL, Symbol, TRUE};
use crate::instruction::{Constant, Instruction, Special, Value};
use crate::operation::act;
use crate::registers::CONSTANT;
use crate::syntax::Operand;
use crate::types::{Space, Type};

impl<'a> Decoder<'a> {
    /// A constant's slot.
    fn constant(&mut self, value: Value, wide: bool) -> u32 {
        let special = match value {
            Value::Bits(_) => false,
            Value::Variable(number, _) => self.variables[number as usize].space == Space::Shared,
            Value::Special(_) => true,
        };
        let program = &mut self.program;
        let (list, lines, mark) = if special {
            (&mut program.specials, &mut program.special_lines, SPECIAL)
        } else {
            (&mut program.constants, &mut program.constant_lines, CONSTANT)
        };
        *self.constants.entry((value, wide)).or_insert_with(|| {
            let line = *lines;
            *lines += if wide { 2 } else { 1 };
            list.push(Constant { line, wide, value });
            line | mark
        })
    }

    pub(super) fn bits(&mut self, bits: u64, ty: Type) -> u32 {
        self.constant(Value::Bits(bits), ty.bytes() == 8)
    }

    /// A source operand of a type.
    pub(super) fn source(&mut self, operand: &Operand<'a>, ty: Type) -> Decoded<u32> {
        self.source_as(operand, ty, false)
    }

    /// A source operand; a wider register will do if `loose`.
    pub(super) fn source_as(&mut self, operand: &Operand<'a>, ty: Type, loose: bool) -> Decoded<u32> {
        match operand {
            Operand::Name(name) => match self.resolve(name) {
                Some(Symbol::Register(found, slot)) => {
                    fits(name, found, ty, loose)?;
                    Ok(slot)
                }
                Some(Symbol::Predicate(_)) => Err(format!("`{name}` is a predicate")),
                Some(symbol) => self.symbol_address(symbol, 0, ty),
                None => match Special::named(name) {
                    Some(special) => Ok(self.constant(Value::Special(special), ty.bytes() == 8)),
                    None if name.starts_with("%clock") || name.starts_with("%globaltimer") => self.clock(ty),
                    None if *name == "WARP_SZ" => Ok(self.bits(32, ty)),
                    None => Err(format!("`{name}` is not declared")),
                },
            },
            Operand::Offset(name, offset) => match self.resolve(name) {
                Some(Symbol::Register(..) | Symbol::Predicate(_)) | None => {
                    Err(format!("`{name}` plus an offset is not a value"))
                }
                Some(symbol) => self.symbol_address(symbol, *offset, ty),
            },
            Operand::Integer(_) if ty.float() && !matches!(ty, Type::F16x2 | Type::Bf16x2 | Type::Tf32) => {
                Err("an integer where a floating-point number belongs".to_owned())
            }
            Operand::Integer(value) => Ok(self.bits(if ty.bytes() == 8 { *value } else { *value & 0xffff_ffff }, ty)),
            Operand::Float32(bits) if matches!(ty, Type::F32 | Type::B32) => Ok(self.bits(u64::from(*bits), ty)),
            Operand::Float64(bits) if matches!(ty, Type::F64 | Type::B64) => Ok(self.bits(*bits, ty)),
            Operand::Float64(bits) if ty == Type::F32 => {
                Ok(self.bits(u64::from((f64::from_bits(*bits) as f32).to_bits()), ty))
            }
            _ => Err("this operand is not a value of the opcode's type".to_owned()),
        }
    }

    pub(super) fn symbol_address(&mut self, symbol: Symbol, offset: i64, ty: Type) -> Decoded<u32> {
        if !matches!(ty.bytes(), 4 | 8) || ty.float() {
            return Err("an address needs a 32-bit or 64-bit integer".to_owned());
        }
        let value = match symbol {
            Symbol::Variable(number) => {
                self.high.variables.insert(number);
                Value::Variable(number, offset)
            }
            Symbol::Local(at) | Symbol::Parameter(at) => Value::Bits((i64::from(at) + offset) as u64),
            Symbol::Register(..) | Symbol::Predicate(_) => return Err("this has no address".to_owned()),
        };
        Ok(self.constant(value, ty.bytes() == 8))
    }

    /// A result register of a type.
    pub(super) fn dest(&mut self, operand: &Operand<'a>, ty: Type) -> Decoded<u32> {
        Ok(self.dest_as(operand, ty, false)?.0)
    }

    /// A result register and its type; a wider one will do if `loose`.
    pub(super) fn dest_as(&mut self, operand: &Operand<'a>, ty: Type, loose: bool) -> Decoded<(u32, Type)> {
        let Operand::Name(name) = operand else { return Err("the result must be a register".to_owned()) };
        if *name == "_" {
            // A place to throw values away.
            return Ok((self.registers(ty, 1)?, ty));
        }
        match self.resolve(name) {
            Some(Symbol::Register(found, slot)) => {
                fits(name, found, ty, loose)?;
                Ok((slot, found))
            }
            Some(_) => Err(format!("`{name}` is not a register of this type")),
            None => Err(format!("`{name}` is not declared")),
        }
    }

    /// A predicate source and what to flip in it.
    pub(super) fn predicate(&mut self, operand: &Operand<'a>) -> Decoded<(u16, u32)> {
        let (name, flip) = match operand {
            Operand::Name(name) => (*name, 0),
            Operand::Not(name) => (*name, u32::MAX),
            Operand::Integer(0) => return Ok((FALSE, 0)),
            Operand::Integer(_) => return Ok((TRUE, 0)),
            _ => return Err("expected a predicate".to_owned()),
        };
        match self.resolve(name) {
            Some(Symbol::Predicate(number)) => Ok((number, flip)),
            Some(_) => Err(format!("`{name}` is not a predicate")),
            None => Err(format!("`{name}` is not declared")),
        }
    }

    /// A predicate result; `_` throws it away.
    pub(super) fn predicate_dest(&mut self, operand: &Operand<'a>) -> Decoded<u16> {
        match operand {
            Operand::Name("_") => Ok(self.registers(Type::Pred, 1)? as u16),
            Operand::Name(_) => Ok(self.predicate(operand)?.0),
            _ => Err("the result must be a predicate".to_owned()),
        }
    }

    /// A list of registers for vector operands.
    pub(super) fn list(&mut self, slots: Vec<u32>, i: &mut Instruction) {
        i.list = self.program.operands.len() as u32;
        i.count = slots.len() as u8;
        self.program.operands.extend(slots);
    }

    fn clock(&mut self, ty: Type) -> Decoded<u32> {
        let mut i = self.blank();
        i.d = self.registers(ty, 1)?;
        i.wide = ty.bytes() == 8;
        i.run = act!(|m, i, mask| {
            let now = m.statistics.instructions;
            for lane in crate::registers::lanes(mask) {
                if i.wide {
                    m.warp.registers.set::<u64>(i.d, lane as u32, now);
                } else {
                    m.warp.registers.set::<u32>(i.d, lane as u32, now as u32);
                }
            }
        });
        let slot = i.d;
        self.push(i);
        Ok(slot)
    }
}

/// Whether a register declared as `found` may stand where the opcode wants `wanted`.
fn fits(name: &str, found: Type, wanted: Type, loose: bool) -> Decoded<()> {
    let size = if loose { found.bytes() >= wanted.bytes() } else { found.bytes() == wanted.bytes() };
    if !size {
        return Err(format!("`{name}` has {} bits where {} belong", found.bytes() * 8, wanted.bytes() * 8));
    }
    // A wider register must not be a floating-point one.
    if !found.agrees(wanted) || found.bytes() != wanted.bytes() && found.float() {
        return Err(format!("`{name}` holds {found:?} where {wanted:?} belongs"));
    }
    Ok(())
}
