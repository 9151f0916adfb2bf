//! Loads, stores and atomics.

use super::{Decoded, Decoder, Parts, Symbol};
use crate::access::{self, GENERIC, GLOBAL, LOCAL, PARAMETER, SHARED, SIGNED, STRONG, TO_WIDE};
use crate::atomic::{Operation, atomic};
use crate::instruction::{Instruction, Run};
use crate::operation::variant;
use crate::syntax::{Operand, Statement};
use crate::types::{Space, Type};

impl<'a> Decoder<'a> {
    pub(super) fn memory(
        &mut self,
        name: &str,
        mut parts: Parts<'a>,
        s: &Statement<'a>,
        mut i: Instruction,
    ) -> Decoded<()> {
        match name {
            // Hints: nothing to do.
            "prefetch" | "prefetchu" | "applypriority" | "discard" => return Ok(()),
            "createpolicy" => {
                i.d = self.dest(&s.operands[0], Type::B64)?;
                self.push(i);
                return Ok(());
            }
            "atom" | "red" => return self.atomic(name, parts, s, i),
            _ => {}
        }
        let given = parts.find(Space::named);
        i.space = given.unwrap_or(Space::Generic);
        for order in ["volatile", "relaxed", "acquire", "release", "mmio"] {
            if parts.take(order) {
                i.mode |= STRONG;
                // Every atomic read acquires what was released.
                i.mode |= if order == "release" { access::RELEASE } else { 0 };
            }
        }
        let mut policy = false;
        parts.left.retain(|p| {
            policy |= *p == "L2::cache_hint";
            !(p.starts_with("L1::") || p.starts_with("L2::") || cache_hint(p))
        });
        let count = if parts.take("v2") {
            2
        } else if parts.take("v4") {
            4
        } else if parts.take("v8") {
            8
        } else {
            1
        };
        let ty = parts.ty()?;
        parts.end()?;
        if s.operands.len() != 2 + usize::from(policy) {
            return Err("the number of operands is wrong".to_owned());
        }
        let (values, address) = if name == "st" { (1, 0) } else { (0, 1) };
        let values = match &s.operands[values] {
            Operand::Vector(list) if list.len() == count => list.clone(),
            Operand::Vector(_) => return Err(format!("the opcode wants {count} elements")),
            single if count == 1 => vec![single.clone()],
            _ => return Err(format!("the opcode wants {count} elements")),
        };
        self.address(&s.operands[address], &mut i)?;
        let width = ty.bytes();
        if width > 8 || ty == Type::Pred {
            return Err("this type cannot be loaded or stored".to_owned());
        }
        i.width = width as u8;
        let (mut slots, mut found_wide) = (Vec::new(), None);
        for operand in &values {
            let (slot, found) = match (name, operand) {
                (_, Operand::Name("_")) => (access::SINK, None),
                ("st", operand) => {
                    let wide = match operand {
                        Operand::Name(name) => match self.resolve(name) {
                            Some(Symbol::Register(ty, _)) => ty.bytes() == 8,
                            _ => width == 8,
                        },
                        _ => width == 8,
                    };
                    (self.source_as(operand, ty, true)?, Some(wide))
                }
                _ => {
                    let (slot, found) = self.dest_as(operand, ty, true)?;
                    (slot, Some(found.bytes() == 8))
                }
            };
            if found_wide.is_some() && found.is_some() && found != found_wide {
                return Err("the elements have registers of different sizes".to_owned());
            }
            found_wide = found_wide.or(found);
            slots.push(slot);
        }
        self.list(slots, &mut i);
        if found_wide == Some(true) {
            i.mode |= TO_WIDE;
        }
        if ty.signed() {
            i.mode |= SIGNED;
        }
        if matches!(i.space, Space::Global | Space::Shared | Space::Generic) {
            self.program.grain = self.program.grain.min(width);
        }
        if name == "st" && matches!(i.space, Space::Constant) {
            return Err("constants cannot be written".to_owned());
        }
        i.run = if name == "st" { store(i.space, width) } else { load(i.space, width) };
        self.push(i);
        Ok(())
    }

    /// An address operand: base register and offset, or a variable.
    pub(super) fn address(&mut self, operand: &Operand<'a>, i: &mut Instruction) -> Decoded<()> {
        let Operand::Address(inner) = operand else { return Err("expected an address in brackets".to_owned()) };
        let (name, offset) = match &**inner {
            Operand::Name(name) => (*name, 0),
            Operand::Offset(name, offset) => (*name, *offset),
            Operand::Integer(value) => {
                i.a = self.bits(*value, Type::B64);
                i.wide = true;
                return Ok(());
            }
            _ => return Err("this is not an address".to_owned()),
        };
        match self.resolve(name) {
            Some(Symbol::Register(ty, slot)) => {
                if ty.float() || !matches!(ty.bytes(), 4 | 8) {
                    return Err(format!("`{name}` cannot be an address"));
                }
                i.wide = ty.bytes() == 8;
                i.a = slot;
                i.offset = offset;
                if i.space == Space::Generic && !i.wide {
                    return Err(format!("`{name}` has 32 bits where a generic address has 64"));
                }
            }
            Some(Symbol::Predicate(_)) => return Err(format!("`{name}` cannot be an address")),
            Some(symbol) => {
                match symbol {
                    // Parameters of device functions live in the thread's local memory.
                    Symbol::Local(_) if i.space == Space::Parameter => i.space = Space::Local,
                    Symbol::Variable(number) if i.space == Space::Generic => {
                        let space = self.variables[number as usize].space;
                        i.space = space;
                    }
                    Symbol::Local(_) if i.space == Space::Generic => i.space = Space::Local,
                    _ => {}
                }
                i.a = self.symbol_address(symbol, offset, Type::B64)?;
                i.wide = true;
            }
            None => return Err(format!("`{name}` is not declared")),
        }
        Ok(())
    }

    fn atomic(&mut self, name: &str, mut parts: Parts<'a>, s: &Statement<'a>, mut i: Instruction) -> Decoded<()> {
        let given = parts.find(Space::named);
        i.space = given.unwrap_or(Space::Generic);
        i.mode = STRONG;
        for order in ["relaxed", "acquire", "release", "acq_rel"] {
            if parts.take(order) {
                i.mode |= if matches!(order, "release" | "acq_rel") { access::RELEASE } else { 0 };
            }
        }
        for scope in ["cta", "cluster", "gpu", "sys"] {
            parts.take(scope);
        }
        parts.take("noftz");
        let policy = parts.take("L2::cache_hint");
        let operation = parts.find(Operation::named).ok_or("the operation is missing")?;
        let ty = parts.ty()?;
        parts.end()?;
        if !operation.knows(ty) {
            return Err("the operation does not know this type".to_owned());
        }
        let swap = operation == Operation::CompareAndSwap;
        let wanted = usize::from(name == "atom") + 2 + usize::from(swap) + usize::from(policy);
        if s.operands.len() != wanted {
            return Err(format!("{} operands instead of {wanted}", s.operands.len()));
        }
        let mut rest = &s.operands[..];
        if name == "atom" {
            i.d = self.dest(&rest[0], ty)?;
            i.count = u8::from(rest[0] != Operand::Name("_"));
            rest = &rest[1..];
        }
        self.address(&rest[0], &mut i)?;
        i.b = self.source(&rest[1], ty)?;
        i.c = if swap { self.source(&rest[2], ty)? } else { i.b };
        i.width = ty.bytes() as u8;
        if ty.bytes() == 8 {
            i.mode |= TO_WIDE;
        }
        self.program.grain = self.program.grain.min(ty.bytes());
        i.run = atomic_run(operation, ty);
        self.push(i);
        Ok(())
    }
}

fn cache_hint(part: &str) -> bool {
    matches!(part, "nc" | "ca" | "cg" | "cs" | "cv" | "lu" | "wb" | "wt" | "weak" | "cta" | "cluster" | "gpu" | "sys")
}

macro_rules! by_space_and_width {
    ($f:ident, $space:expr, $width:expr) => {{
        macro_rules! widths {
            ($s:ident) => {
                match $width {
                    1 => variant!(access::$f::<$s, 1>),
                    2 => variant!(access::$f::<$s, 2>),
                    4 => variant!(access::$f::<$s, 4>),
                    _ => variant!(access::$f::<$s, 8>),
                }
            };
        }
        match $space {
            Space::Global | Space::Constant => widths!(GLOBAL),
            Space::Shared => widths!(SHARED),
            Space::Local => widths!(LOCAL),
            Space::Parameter => widths!(PARAMETER),
            Space::Generic => widths!(GENERIC),
        }
    }};
}

fn load(space: Space, width: u32) -> Run {
    by_space_and_width!(load, space, width)
}

fn store(space: Space, width: u32) -> Run {
    by_space_and_width!(store, space, width)
}

/// Operation and type travel in the instruction's function.
fn atomic_run(operation: Operation, ty: Type) -> Run {
    macro_rules! of {
        ($($operation:ident: $($ty:ident)*;)*) => {
            match (operation, ty) {
                $($((Operation::$operation, Type::$ty) => {
                    variant!(|m: &mut crate::machine::Machine<'_>, i: &Instruction, mask| {
                        atomic(m, i, mask, Operation::$operation, Type::$ty)
                    })
                })*)*
                _ => variant!(|_m: &mut crate::machine::Machine<'_>, _i: &Instruction, _mask| Ok(())),
            }
        };
    }
    of! {
        Add: U32 S32 U64 S64 F32 F64 F16 F16x2 Bf16 Bf16x2;
        Min: U32 S32 U64 S64 F16 F16x2 Bf16 Bf16x2;
        Max: U32 S32 U64 S64 F16 F16x2 Bf16 Bf16x2;
        Inc: U32;
        Dec: U32;
        And: B32 B64;
        Or: B32 B64;
        Xor: B32 B64;
        Exchange: B32 B64 U32 U64 S32 S64 F32 F64;
        CompareAndSwap: B16 B32 B64 U32 U64 S32 S64;
    }
}
