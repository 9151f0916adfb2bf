//! Comparisons and predicates.

use std::cmp::Ordering;

use super::{Decoded, Decoder, Parts, operands};
use crate::instruction::{Instruction, Run};
use crate::machine::Machine;
use crate::operation::{act, variant};
use crate::registers::Lane;
use crate::syntax::{Operand, Statement};
use crate::types::Type;

/// How `setp` combines its comparison with a further predicate.
const AND: u32 = 1;
const OR: u32 = 2;
const XOR: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    EqualOrNan,
    NotEqualOrNan,
    LessOrNan,
    LessEqualOrNan,
    GreaterOrNan,
    GreaterEqualOrNan,
    Number,
    Nan,
}

impl Comparison {
    fn named(name: &str) -> Option<Comparison> {
        use Comparison::*;
        Some(match name {
            "eq" => Equal,
            "ne" => NotEqual,
            "lt" | "lo" => Less,
            "le" | "ls" => LessEqual,
            "gt" | "hi" => Greater,
            "ge" | "hs" => GreaterEqual,
            "equ" => EqualOrNan,
            "neu" => NotEqualOrNan,
            "ltu" => LessOrNan,
            "leu" => LessEqualOrNan,
            "gtu" => GreaterOrNan,
            "geu" => GreaterEqualOrNan,
            "num" => Number,
            "nan" => Nan,
            _ => return None,
        })
    }

    fn for_floats_only(self) -> bool {
        use Comparison::*;
        matches!(
            self,
            EqualOrNan | NotEqualOrNan | LessOrNan | LessEqualOrNan | GreaterOrNan | GreaterEqualOrNan | Number | Nan
        )
    }
}

/// A value that `setp` compares.
trait Compared: Lane {
    type By: PartialOrd + Copy;
    fn by(self) -> Self::By;
}

macro_rules! compared {
    ($($type:ty => $by:ty: |$x:ident| $e:expr;)*) => {$(
        impl Compared for $type {
            type By = $by;
            #[inline(always)]
            fn by(self) -> $by { let $x = self; $e }
        }
    )*};
}

compared! {
    u16 => u16: |x| x;
    i16 => i16: |x| x;
    u32 => u32: |x| x;
    i32 => i32: |x| x;
    u64 => u64: |x| x;
    i64 => i64: |x| x;
    f32 => f32: |x| x;
    f64 => f64: |x| x;
    half::f16 => f32: |x| x.to_f32();
    half::bf16 => f32: |x| x.to_f32();
    Flushed => f32: |x| x.0;
}

#[derive(Clone, Copy)]
struct Flushed(f32);

// SAFETY: stored as a float32.
unsafe impl Lane for Flushed {
    type Stored = f32;
    #[inline(always)]
    fn load(stored: f32) -> Self {
        Flushed(crate::float::flush(stored))
    }
    #[inline(always)]
    fn store(self) -> f32 {
        self.0
    }
}

macro_rules! comparison {
    ($t:ty, |$a:ident, $b:ident| $e:expr) => {{
        #[inline(always)]
        fn lane(a: $t, b: $t) -> bool {
            let ($a, $b) = (a.by(), b.by());
            $e
        }
        #[inline(always)]
        fn body(m: &mut Machine<'_>, i: &Instruction, mask: u32) -> crate::fault::Outcome {
            let found = m.warp.registers.compare::<$t>([i.a, i.b], lane);
            combine(m, i, mask, found);
            Ok(())
        }
        variant!(body)
    }};
}

/// Writes a comparison's result, combined with the source predicate.
#[inline(always)]
fn combine(m: &mut Machine<'_>, i: &Instruction, mask: u32, found: u32) {
    let predicates = &mut m.warp.predicates;
    let with = predicates[i.r as usize] ^ i.r_flip;
    let join = |found: u32| match i.mode {
        AND => found & with,
        OR => found | with,
        XOR => found ^ with,
        _ => found,
    };
    let (first, second) = (join(found), join(!found));
    if i.wide {
        // `set`: all ones, or 1.0.
        for lane in crate::registers::lanes(mask) {
            let value = if first >> lane & 1 != 0 { i.offset as u32 } else { 0 };
            m.warp.registers.set::<u32>(i.d, lane as u32, value);
        }
        return;
    }
    let p = &mut predicates[i.p as usize];
    *p = *p & !mask | first & mask;
    if i.count == 2 {
        let q = &mut predicates[i.q as usize];
        *q = *q & !mask | second & mask;
    }
}

fn compare<T: Compared + 'static>(comparison: Comparison) -> Run {
    use Comparison::*;
    macro_rules! pick {
        ($($name:ident: |$a:ident, $b:ident| $e:expr;)*) => {
            match comparison {
                $($name => {
                    #[inline(always)]
                    fn lane<T: Compared>(a: T, b: T) -> bool {
                        let ($a, $b) = (a.by(), b.by());
                        $e
                    }
                    #[inline(always)]
                    fn body<T: Compared>(m: &mut Machine<'_>, i: &Instruction, mask: u32) -> crate::fault::Outcome {
                        let found = m.warp.registers.compare::<T>([i.a, i.b], lane::<T>);
                        combine(m, i, mask, found);
                        Ok(())
                    }
                    body::<T>
                })*
            }
        };
    }
    #[allow(clippy::neg_cmp_op_on_partial_ord)]
    {
        pick! {
            Equal: |a, b| a == b;
            NotEqual: |a, b| matches!(a.partial_cmp(&b), Some(Ordering::Less | Ordering::Greater));
            Less: |a, b| a < b;
            LessEqual: |a, b| a <= b;
            Greater: |a, b| a > b;
            GreaterEqual: |a, b| a >= b;
            EqualOrNan: |a, b| matches!(a.partial_cmp(&b), None | Some(Ordering::Equal));
            NotEqualOrNan: |a, b| a != b;
            LessOrNan: |a, b| !(a >= b);
            LessEqualOrNan: |a, b| !(a > b);
            GreaterOrNan: |a, b| !(a <= b);
            GreaterEqualOrNan: |a, b| !(a < b);
            Number: |a, b| a.partial_cmp(&b).is_some();
            Nan: |a, b| a.partial_cmp(&b).is_none();
        }
    }
}

/// The comparisons that loops are made of, compiled for this processor.
fn compare_fast(ty: Type, comparison: Comparison) -> Option<Run> {
    use Comparison::*;
    Some(match (ty, comparison) {
        (Type::S32, Less) => comparison!(i32, |a, b| a < b),
        (Type::S32, LessEqual) => comparison!(i32, |a, b| a <= b),
        (Type::S32, Greater) => comparison!(i32, |a, b| a > b),
        (Type::S32, GreaterEqual) => comparison!(i32, |a, b| a >= b),
        (Type::U32, Less) => comparison!(u32, |a, b| a < b),
        (Type::U32, LessEqual) => comparison!(u32, |a, b| a <= b),
        (Type::U32, Greater) => comparison!(u32, |a, b| a > b),
        (Type::U32, GreaterEqual) => comparison!(u32, |a, b| a >= b),
        (Type::S32 | Type::U32 | Type::B32, Equal) => comparison!(u32, |a, b| a == b),
        (Type::S32 | Type::U32 | Type::B32, NotEqual) => comparison!(u32, |a, b| a != b),
        (Type::S64, Less) => comparison!(i64, |a, b| a < b),
        (Type::S64, Greater) => comparison!(i64, |a, b| a > b),
        (Type::U64, Less) => comparison!(u64, |a, b| a < b),
        (Type::S64 | Type::U64 | Type::B64, Equal) => comparison!(u64, |a, b| a == b),
        (Type::S64 | Type::U64 | Type::B64, NotEqual) => comparison!(u64, |a, b| a != b),
        (Type::F64, Less) => comparison!(f64, |a, b| a < b),
        (Type::F64, Greater) => comparison!(f64, |a, b| a > b),
        (Type::F64, LessEqual) => comparison!(f64, |a, b| a <= b),
        (Type::F64, GreaterEqual) => comparison!(f64, |a, b| a >= b),
        (Type::F64, Equal) => comparison!(f64, |a, b| a == b),
        (Type::F64, NotEqualOrNan) => comparison!(f64, |a, b| a != b),
        _ => return None,
    })
}

impl<'a> Decoder<'a> {
    pub(super) fn predicates(&mut self, name: &str, s: &Statement<'a>, mut i: Instruction) -> Decoded<()> {
        i.p = self.predicate_dest(&s.operands[0])?;
        (i.r, i.r_flip) = self.predicate(&s.operands[1])?;
        if name == "not" {
            operands::<2>(s)?;
            i.r_flip = !i.r_flip;
            i.mode = 0;
        } else {
            operands::<3>(s)?;
            let flip;
            (i.q, flip) = self.predicate(&s.operands[2])?;
            i.offset = i64::from(flip);
            i.mode = match name {
                "and" => AND,
                "or" => OR,
                "xor" => XOR,
                _ => return Err("this instruction does not know predicates".to_owned()),
            };
        }
        i.run = act!(|m, i, mask| {
            let predicates = &mut m.warp.predicates;
            let (a, b) = (predicates[i.r as usize] ^ i.r_flip, predicates[i.q as usize] ^ i.offset as u32);
            let value = match i.mode {
                AND => a & b,
                OR => a | b,
                XOR => a ^ b,
                _ => a,
            };
            let p = &mut predicates[i.p as usize];
            *p = *p & !mask | value & mask;
        });
        self.push(i);
        Ok(())
    }

    pub(super) fn compare(
        &mut self,
        name: &str,
        mut parts: Parts<'a>,
        s: &Statement<'a>,
        mut i: Instruction,
    ) -> Decoded<()> {
        let comparison = parts.find(Comparison::named).ok_or("the comparison is missing")?;
        i.mode = parts
            .find(|p| {
                Some(match p {
                    "and" => AND,
                    "or" => OR,
                    "xor" => XOR,
                    _ => return None,
                })
            })
            .unwrap_or(0);
        let flush = parts.take("ftz");
        parts.end()?;
        if s.operands.len() != 3 + usize::from(i.mode != 0) {
            return Err("the number of operands is wrong".to_owned());
        }
        let ty;
        if name == "set" {
            let [result, of] = parts.types[..] else { return Err("set needs two types".to_owned()) };
            ty = of;
            i.d = self.dest(&s.operands[0], result)?;
            i.wide = true;
            i.offset = match result {
                Type::F32 => i64::from(1.0f32.to_bits()),
                Type::U32 | Type::S32 => 0xffff_ffff,
                _ => return Err("set does not know this type".to_owned()),
            };
        } else {
            ty = parts.ty()?;
            match &s.operands[0] {
                Operand::Pair(p, q) => {
                    i.p = self.predicate_dest(p)?;
                    i.q = self.predicate_dest(q)?;
                    i.count = 2;
                }
                p => i.p = self.predicate_dest(p)?,
            }
        }
        i.a = self.source(&s.operands[1], ty)?;
        i.b = self.source(&s.operands[2], ty)?;
        if let Some(with) = s.operands.get(3) {
            (i.r, i.r_flip) = self.predicate(with)?;
        }
        if comparison.for_floats_only() && !ty.float() {
            return Err("this comparison is for floating-point numbers".to_owned());
        }
        i.run = match ty {
            Type::F32 if flush => compare::<Flushed>(comparison),
            _ if compare_fast(ty, comparison).is_some() => compare_fast(ty, comparison).ok_or("")?,
            Type::U16 | Type::B16 => compare::<u16>(comparison),
            Type::S16 => compare::<i16>(comparison),
            Type::U32 | Type::B32 => compare::<u32>(comparison),
            Type::S32 => compare::<i32>(comparison),
            Type::U64 | Type::B64 => compare::<u64>(comparison),
            Type::S64 => compare::<i64>(comparison),
            Type::F32 => compare::<f32>(comparison),
            Type::F64 => compare::<f64>(comparison),
            Type::F16 => compare::<::half::f16>(comparison),
            Type::Bf16 => compare::<::half::bf16>(comparison),
            _ => return Err("this type cannot be compared".to_owned()),
        };
        self.push(i);
        Ok(())
    }

    pub(super) fn test(&mut self, mut parts: Parts<'a>, s: &Statement<'a>, mut i: Instruction) -> Decoded<()> {
        operands::<2>(s)?;
        let ty = parts.only(&[Type::F32, Type::F64])?;
        i.p = self.predicate_dest(&s.operands[0])?;
        i.a = self.source(&s.operands[1], ty)?;
        i.wide = ty == Type::F64;
        const KINDS: [&str; 6] = ["finite", "infinite", "number", "notanumber", "normal", "subnormal"];
        i.mode = parts.find(|p| KINDS.iter().position(|k| *k == p)).ok_or("testp needs a property")? as u32;
        parts.end()?;
        i.run = act!(|m, i, mask| {
            for lane in crate::registers::lanes(mask) {
                use std::num::FpCategory::*;
                let category = if i.wide {
                    m.warp.registers.get::<f64>(i.a, lane as u32).classify()
                } else {
                    m.warp.registers.get::<f32>(i.a, lane as u32).classify()
                };
                let holds = match i.mode {
                    0 => !matches!(category, Nan | Infinite),
                    1 => category == Infinite,
                    2 => category != Nan,
                    3 => category == Nan,
                    // Zero counts as normal.
                    4 => matches!(category, Normal | Zero),
                    _ => category == Subnormal,
                };
                crate::machine::set_bits(&mut m.warp.predicates[i.p as usize], 1 << lane, holds);
            }
        });
        self.push(i);
        Ok(())
    }
}
