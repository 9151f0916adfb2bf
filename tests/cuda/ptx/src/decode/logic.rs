//! Comparisons, bits and predicates.

use super::{Decoded, Decoder, Parts, operands};
use crate::instruction::{Instruction, Run};
use crate::machine::Machine;
use crate::operation::{act, op1, op2, op3, variant};
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
                    generic::<T>(body::<T>)
                })*
            }
        };
    }
    // A function pointer of its own for every type.
    fn generic<T>(run: fn(&mut Machine<'_>, &Instruction, u32) -> crate::fault::Outcome) -> Run {
        run
    }
    #[allow(clippy::neg_cmp_op_on_partial_ord)]
    {
        pick! {
            Equal: |a, b| a == b;
            NotEqual: |a, b| a < b || a > b;
            Less: |a, b| a < b;
            LessEqual: |a, b| a <= b;
            Greater: |a, b| a > b;
            GreaterEqual: |a, b| a >= b;
            EqualOrNan: |a, b| !(a < b || a > b);
            NotEqualOrNan: |a, b| a != b;
            LessOrNan: |a, b| !(a >= b);
            LessEqualOrNan: |a, b| !(a > b);
            GreaterOrNan: |a, b| !(a <= b);
            GreaterEqualOrNan: |a, b| !(a < b);
            Number: |a, b| a <= b || a > b;
            Nan: |a, b| !(a <= b || a > b);
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

    fn predicates(&mut self, name: &str, s: &Statement<'a>, mut i: Instruction) -> Decoded<()> {
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

    fn compare(&mut self, name: &str, mut parts: Parts<'a>, s: &Statement<'a>, mut i: Instruction) -> Decoded<()> {
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

    fn test(&mut self, mut parts: Parts<'a>, s: &Statement<'a>, mut i: Instruction) -> Decoded<()> {
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
