//! Matrix instructions and asynchronous copies.

use super::{Decoded, Decoder, Parts, operands};
use crate::copies;
use crate::instruction::{Flow, Instruction};
use crate::matrix::{self, Shape};
use crate::operation::variant;
use crate::syntax::{Operand, Statement};
use crate::types::{Space, Type};

impl<'a> Decoder<'a> {
    pub(super) fn tensor(
        &mut self,
        name: &str,
        mut parts: Parts<'a>,
        s: &Statement<'a>,
        mut i: Instruction,
    ) -> Decoded<()> {
        if name == "cp" {
            return self.copy_async(parts, s, i);
        }
        if !parts.take("sync") || !parts.take("aligned") {
            return Err("only the .sync.aligned form is known".to_owned());
        }
        // All lanes take part.
        i.flow = Flow::Warp;
        i.m = self.bits(0xffff_ffff, Type::B32);
        match name {
            "mma" => self.multiply(parts, s, i),
            "movmatrix" => {
                operands::<2>(s)?;
                if !parts.take("m8n8") || !parts.take("trans") {
                    return Err("only .m8n8.trans is known".to_owned());
                }
                parts.only(&[Type::B16])?;
                parts.end()?;
                i.d = self.dest(&s.operands[0], Type::B32)?;
                i.a = self.source(&s.operands[1], Type::B32)?;
                i.run = matrix::transpose;
                self.push(i);
                Ok(())
            }
            "ldmatrix" | "stmatrix" => {
                operands::<2>(s)?;
                let count = parts.find(|p| {
                    Some(match p {
                        "x1" => 1,
                        "x2" => 2,
                        "x4" => 4,
                        _ => return None,
                    })
                });
                let count = count.ok_or("the number of matrices is missing")?;
                if !parts.take("m8n8") {
                    return Err("only 8 by 8 matrices are known".to_owned());
                }
                i.mode = u32::from(parts.take("trans"));
                i.space = parts.find(Space::named).unwrap_or(Space::Generic);
                i.mode |= u32::from(i.space == Space::Generic) << 1;
                parts.only(&[Type::B16])?;
                parts.end()?;
                let (values, address) = if name == "ldmatrix" { (0, 1) } else { (1, 0) };
                let slots = self.fragment(&s.operands[values], count, Type::B32, name == "ldmatrix")?;
                self.list(slots, &mut i);
                self.address(&s.operands[address], &mut i)?;
                if !matches!(i.space, Space::Shared | Space::Generic) {
                    return Err("matrices lie in shared memory".to_owned());
                }
                i.run = if name == "ldmatrix" { matrix::load } else { matrix::store };
                self.push(i);
                Ok(())
            }
            _ => Err("this instruction is not known".to_owned()),
        }
    }

    /// The registers of a fragment.
    fn fragment(&mut self, operand: &Operand<'a>, count: usize, ty: Type, result: bool) -> Decoded<Vec<u32>> {
        let list = match operand {
            Operand::Vector(list) => &list[..],
            single => std::slice::from_ref(single),
        };
        if list.len() != count {
            return Err(format!("a fragment of {} registers instead of {count}", list.len()));
        }
        list.iter().map(|o| if result { self.dest(o, ty) } else { self.source(o, ty) }).collect()
    }

    fn multiply(&mut self, mut parts: Parts<'a>, s: &Statement<'a>, mut i: Instruction) -> Decoded<()> {
        operands::<4>(s)?;
        let (rows, depth) = parts
            .find(|p| {
                let (rows, depth) = p.strip_prefix('m')?.split_once("n8k")?;
                Some((rows.parse().ok()?, depth.parse().ok()?))
            })
            .ok_or("the shape is missing or not known")?;
        if !parts.take("row") || !parts.take("col") {
            return Err("only .row.col is known".to_owned());
        }
        let saturate = parts.take("satfinite");
        parts.end()?;
        let [d, a, b, c] = parts.types[..] else { return Err("four types are needed".to_owned()) };
        let shape = Shape { rows, depth, a, b, c, d, saturate };
        if !shape.exists() {
            return Err("this shape does not exist with these types".to_owned());
        }
        let (na, nb, nc, nd) = shape.counts();
        let factor = if a == Type::F64 { Type::F64 } else { Type::B32 };
        let register = |ty| if ty == Type::F16 { Type::B32 } else { ty };
        let mut slots = self.fragment(&s.operands[0], nd, register(d), true)?;
        slots.extend(self.fragment(&s.operands[1], na, factor, false)?);
        slots.extend(self.fragment(&s.operands[2], nb, factor, false)?);
        slots.extend(self.fragment(&s.operands[3], nc, register(c), false)?);
        self.list(slots, &mut i);
        i.target = self.program.shapes.len() as u32;
        self.program.shapes.push(shape);
        i.run = variant!(matrix::multiply);
        self.push(i);
        Ok(())
    }

    fn copy_async(&mut self, mut parts: Parts<'a>, s: &Statement<'a>, mut i: Instruction) -> Decoded<()> {
        if !parts.take("async") {
            return Err("this copy is not known".to_owned());
        }
        if parts.take("commit_group") {
            operands::<0>(s)?;
            i.run = copies::commit;
        } else if parts.take("wait_all") {
            operands::<0>(s)?;
            i.count = 1;
            i.run = copies::wait;
        } else if parts.take("wait_group") {
            let [Operand::Integer(left)] = s.operands[..] else { return Err("expected a number of groups".to_owned()) };
            i.mode = u32::try_from(left).map_err(|_| "too many groups")?;
            i.run = copies::wait;
        } else {
            let through = parts.take("cg");
            if !through && !parts.take("ca") {
                return Err("this copy is not known".to_owned());
            }
            if parts.find(Space::named) != Some(Space::Shared) || parts.find(Space::named) != Some(Space::Global) {
                return Err("cp.async goes from global to shared memory".to_owned());
            }
            let policy = parts.take("L2::cache_hint");
            parts.left.retain(|p| !p.starts_with("L2::"));
            let rest = match &s.operands[..] {
                [_, _, _, rest @ ..] => &rest[..rest.len() - usize::from(policy && !rest.is_empty())],
                _ => return Err("operands are missing".to_owned()),
            };
            let Operand::Integer(bytes @ (4 | 8 | 16)) = s.operands[2] else {
                return Err("cp.async copies 4, 8 or 16 bytes".to_owned());
            };
            if through && bytes != 16 {
                return Err("cp.async.cg copies 16 bytes".to_owned());
            }
            i.width = bytes as u8;
            self.program.grain = self.program.grain.min(bytes as u32);
            // The source's base and offset go to `b` and `mode`, the target's to `a` and `offset`.
            let mut source = i.clone();
            source.space = Space::Global;
            self.address(&s.operands[1], &mut source)?;
            if !source.wide {
                return Err("a global address has 64 bits".to_owned());
            }
            i.space = Space::Shared;
            self.address(&s.operands[0], &mut i)?;
            i.b = source.a;
            i.mode = i32::try_from(source.offset).map_err(|_| "too large an offset")? as u32;
            match rest {
                [] => {}
                [Operand::Not(_)] => (i.r, i.r_flip) = self.predicate(&rest[0])?,
                [Operand::Name(name)] if matches!(self.resolve(name), Some(super::Symbol::Predicate(_))) => {
                    (i.r, i.r_flip) = self.predicate(&rest[0])?;
                }
                [size] => {
                    i.c = self.source(size, Type::U32)?;
                    i.count = 1;
                }
                _ => return Err("too many operands".to_owned()),
            }
            i.run = copies::start;
        }
        parts.end()?;
        self.push(i);
        Ok(())
    }
}
