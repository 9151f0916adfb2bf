//! `atom` and `red`: lane after lane, lowest first.

use crate::access::{RELEASE, STRONG, TO_WIDE, Touch, get, put};
use crate::fault::{Outcome, trouble};
use crate::float::Small;
use crate::instruction::Instruction;
use crate::machine::Machine;
use crate::registers::lanes;
use crate::types::Type;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Add,
    Min,
    Max,
    Inc,
    Dec,
    And,
    Or,
    Xor,
    Exchange,
    CompareAndSwap,
}

impl Operation {
    pub fn named(name: &str) -> Option<Operation> {
        Some(match name {
            "add" => Operation::Add,
            "min" => Operation::Min,
            "max" => Operation::Max,
            "inc" => Operation::Inc,
            "dec" => Operation::Dec,
            "and" => Operation::And,
            "or" => Operation::Or,
            "xor" => Operation::Xor,
            "exch" => Operation::Exchange,
            "cas" => Operation::CompareAndSwap,
            _ => return None,
        })
    }

    /// Whether the operation knows the type.
    pub fn knows(self, ty: Type) -> bool {
        use Type::*;
        match self {
            Operation::Add => {
                matches!(ty, U32 | S32 | U64 | S64 | F32 | F64 | F16 | F16x2 | Bf16 | Bf16x2)
            }
            Operation::Min | Operation::Max => matches!(ty, U32 | S32 | U64 | S64 | F16 | F16x2 | Bf16 | Bf16x2),
            Operation::Inc | Operation::Dec => ty == U32,
            Operation::And | Operation::Or | Operation::Xor => matches!(ty, B32 | B64),
            Operation::Exchange => matches!(ty, B32 | B64 | U32 | U64 | S32 | S64 | F32 | F64),
            Operation::CompareAndSwap => matches!(ty, B16 | B32 | B64 | U32 | U64 | S32 | S64),
        }
    }
}

/// What the place holds afterwards.
pub(crate) fn apply(operation: Operation, ty: Type, old: u64, b: u64, c: u64) -> u64 {
    let (x, y) = (old as u32, b as u32);
    match (operation, ty) {
        (Operation::Add, Type::F64) => (f64::from_bits(old) + f64::from_bits(b)).to_bits(),
        (Operation::Add, Type::F32) => u64::from((f32::from_bits(x) + f32::from_bits(y)).to_bits()),
        (Operation::Add, Type::F16) => u64::from(Small::F16.add(x, y)),
        (Operation::Add, Type::Bf16) => u64::from(Small::Bf16.add(x, y)),
        (_, Type::F16) => minimum(old, b, operation == Operation::Max, Small::F16),
        (_, Type::Bf16) => minimum(old, b, operation == Operation::Max, Small::Bf16),
        (_, Type::F16x2 | Type::Bf16x2) => {
            let half = if ty == Type::F16x2 { Type::F16 } else { Type::Bf16 };
            let low = apply(operation, half, old & 0xffff, b & 0xffff, 0) & 0xffff;
            let high = apply(operation, half, old >> 16 & 0xffff, b >> 16 & 0xffff, 0) & 0xffff;
            high << 16 | low
        }
        (Operation::Add, Type::U64 | Type::S64) => old.wrapping_add(b),
        (Operation::Add, _) => u64::from(x.wrapping_add(y)),
        (Operation::Min, Type::U64) => old.min(b),
        (Operation::Max, Type::U64) => old.max(b),
        (Operation::Min, Type::S64) => (old as i64).min(b as i64) as u64,
        (Operation::Max, Type::S64) => (old as i64).max(b as i64) as u64,
        (Operation::Min, Type::S32) => u64::from((x as i32).min(y as i32) as u32),
        (Operation::Max, Type::S32) => u64::from((x as i32).max(y as i32) as u32),
        (Operation::Min, _) => u64::from(x.min(y)),
        (Operation::Max, _) => u64::from(x.max(y)),
        (Operation::Inc, _) => u64::from(if x >= y { 0 } else { x + 1 }),
        (Operation::Dec, _) => u64::from(if x == 0 || x > y { y } else { x - 1 }),
        (Operation::And, _) => old & b,
        (Operation::Or, _) => old | b,
        (Operation::Xor, _) => old ^ b,
        (Operation::Exchange, _) => b,
        (Operation::CompareAndSwap, _) => {
            if old == b {
                c
            } else {
                old
            }
        }
    }
}

/// The smaller (or larger) of two half-precision values; a number wins over a NaN.
fn minimum(a: u64, b: u64, larger: bool, format: Small) -> u64 {
    let (x, y) = (format.value(a as u32), format.value(b as u32));
    let first = if x.is_nan() || y.is_nan() {
        y.is_nan()
    } else if x == y {
        x.is_sign_negative() != larger
    } else {
        (x < y) != larger
    };
    if first { a } else { b }
}

/// `atom` and `red`. Operation in `target`, type in `list`; `count` is 1 if the old value is wanted.
pub(crate) fn atomic(m: &mut Machine, i: &Instruction, mask: u32, operation: Operation, ty: Type) -> Outcome {
    let width = u32::from(i.width);
    debug_assert!(i.mode & STRONG != 0);
    if i.mode & RELEASE != 0 {
        m.fence();
    }
    for lane in lanes(mask) {
        let lane = lane as u32;
        let address = m.address(i, lane);
        let read = m.touch_in(i.space, i.index, lane, address, width, Touch::StrongRead);
        let at = match read.and_then(|_| m.touch_in(i.space, i.index, lane, address, width, Touch::StrongWrite)) {
            Ok(at) => at,
            Err(kind) => return trouble(lane, kind),
        };
        let registers = &mut m.warp.registers;
        let wide = i.mode & TO_WIDE != 0;
        let operand = |slot: u32| {
            if wide { registers.get::<u64>(slot, lane) } else { u64::from(registers.get::<u32>(slot, lane)) }
        };
        let (b, c) = (operand(i.b), operand(i.c));
        // SAFETY: `touch_in` answered `width` bytes.
        let old = unsafe {
            let old = match width {
                2 => get::<2>(at),
                4 => get::<4>(at),
                _ => get::<8>(at),
            };
            let b = if width == 2 { b & 0xffff } else { b };
            let new = apply(operation, ty, old, b, c);
            match width {
                2 => put::<2>(at, new),
                4 => put::<4>(at, new),
                _ => put::<8>(at, new),
            }
            old
        };
        if i.count == 1 {
            if wide {
                registers.set::<u64>(i.d, lane, old);
            } else {
                registers.set::<u32>(i.d, lane, old as u32);
            }
        }
    }
    Ok(())
}
