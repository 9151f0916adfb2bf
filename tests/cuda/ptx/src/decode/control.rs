//! Branches, calls, barriers, and what the lanes of a warp do together.

use super::{Decoded, Decoder, Parts, Patch, Symbol, operands};
use crate::fault::{FaultKind, trouble};
use crate::instruction::{Flow, Instruction};
use crate::operation::act;
use crate::syntax::{Operand, Statement};
use crate::types::Type;
use crate::warp;

impl<'a> Decoder<'a> {
    pub(super) fn control(
        &mut self,
        name: &str,
        mut parts: Parts<'a>,
        s: &Statement<'a>,
        mut i: Instruction,
    ) -> Decoded<()> {
        match name {
            "bra" => {
                parts.take("uni");
                operands::<1>(s)?;
                let Operand::Name(label) = s.operands[0] else { return Err("expected a label".to_owned()) };
                i.flow = Flow::Branch;
                let at = self.push(i);
                self.wait_for(Patch::Code(at), label);
            }
            "brx" => {
                parts.take("idx");
                parts.take("uni");
                operands::<2>(s)?;
                i.a = self.source(&s.operands[0], Type::U32)?;
                let Operand::Name(list) = s.operands[1] else { return Err("expected a list of targets".to_owned()) };
                let targets = self.scopes.iter().rev().find_map(|scope| scope.targets.get(list)).cloned();
                let targets = targets.ok_or_else(|| format!("there is no list `{list}`"))?;
                i.list = self.program.targets.len() as u32;
                i.mode = targets.len() as u32;
                i.flow = Flow::Indexed;
                for label in targets {
                    let entry = self.program.targets.len();
                    self.program.targets.push(0);
                    self.wait_for(Patch::Table(entry), label);
                }
                self.push(i);
            }
            "call" => {
                parts.take("uni");
                self.call(s, i)?;
            }
            "ret" => {
                parts.take("uni");
                operands::<0>(s)?;
                i.flow = Flow::Return;
                self.push(i);
            }
            "exit" => {
                operands::<0>(s)?;
                i.flow = Flow::Exit;
                self.push(i);
            }
            "trap" | "brkpt" => {
                operands::<0>(s)?;
                self.trap(i);
            }
            "nanosleep" | "pmevent" | "griddepcontrol" => {
                parts.left.clear();
            }
            "membar" | "fence" => {
                parts.left.retain(|p| {
                    !matches!(*p, "gl" | "cta" | "sys" | "gpu" | "cluster" | "sc" | "acq_rel" | "proxy" | "async")
                        && !matches!(*p, "acquire" | "release")
                        && !p.contains("::")
                });
                i.run = act!(|m, _i, _mask| m.fence());
                self.push(i);
            }
            "bar" | "barrier" => return self.barrier(name, parts, s, i),
            _ => return self.together(name, parts, s, i),
        }
        parts.end()
    }

    fn wait_for(&mut self, patch: Patch, label: &'a str) {
        let line = self.line;
        if let Some(scope) = self.scopes.last_mut() {
            scope.branches.push((patch, label, line));
        }
    }

    fn trap(&mut self, mut i: Instruction) {
        i.run = {
            fn trap(m: &mut crate::machine::Machine<'_>, _: &Instruction, mask: u32) -> crate::fault::Outcome {
                let _ = m;
                trouble(mask.trailing_zeros(), FaultKind::Trap)
            }
            trap
        };
        self.push(i);
    }

    fn call(&mut self, s: &Statement<'a>, i: Instruction) -> Decoded<()> {
        let (returns, callee, arguments) = match &s.operands[..] {
            [Operand::List(returns), Operand::Name(callee), Operand::List(arguments)] => {
                (&returns[..], *callee, &arguments[..])
            }
            [Operand::List(returns), Operand::Name(callee)] => (&returns[..], *callee, &[][..]),
            [Operand::Name(callee), Operand::List(arguments)] => (&[][..], *callee, &arguments[..]),
            [Operand::Name(callee)] => (&[][..], *callee, &[][..]),
            _ => return Err("this kind of call is not known".to_owned()),
        };
        // What a kernel prints is dropped; a failed assertion traps.
        match callee {
            "vprintf" => return Ok(()),
            "__assertfail" | "__assert_fail" => {
                self.trap(i);
                return Ok(());
            }
            _ => {}
        }
        let signature =
            self.signatures.get(callee).cloned().ok_or_else(|| format!("there is no function `{callee}`"))?;
        if !self.entries.contains_key(&signature.number) {
            return Err(format!("`{callee}` has no body"));
        }
        if signature.parameters.len() != arguments.len() || signature.returns.len() != returns.len() {
            return Err(format!("`{callee}` takes other arguments"));
        }
        for (argument, &(to, bytes)) in arguments.iter().zip(&signature.parameters) {
            let from = self.parameter(argument)?;
            self.copy(&i, to, from, bytes);
        }
        let mut call = i.clone();
        call.flow = Flow::Call;
        let at = self.push(call);
        self.calls.push((at, signature.number));
        self.high.calls.insert(signature.number);
        for (result, &(from, bytes)) in returns.iter().zip(&signature.returns) {
            let to = self.parameter(result)?;
            self.copy(&i, to, from, bytes);
        }
        Ok(())
    }

    fn parameter(&self, operand: &Operand<'a>) -> Decoded<u32> {
        match operand {
            Operand::Name(name) => match self.resolve(name) {
                Some(Symbol::Local(offset)) => Ok(offset),
                _ => Err(format!("`{name}` is not a .param variable")),
            },
            _ => Err("arguments must be .param variables".to_owned()),
        }
    }

    /// Copies a parameter within the thread's local memory.
    fn copy(&mut self, like: &Instruction, to: u32, from: u32, bytes: u32) {
        let mut i = like.clone();
        (i.mode, i.target, i.list) = (to, from, bytes);
        i.run = act!(|m, i, mask| {
            let (to, from, bytes) = (i.mode as usize, i.target as usize, i.list as usize);
            for lane in crate::registers::lanes(mask) {
                let base = lane * m.local_bytes as usize;
                m.warp.local.copy_within(base + from..base + from + bytes, base + to);
            }
        });
        self.push(i);
    }

    fn barrier(&mut self, name: &str, mut parts: Parts<'a>, s: &Statement<'a>, mut i: Instruction) -> Decoded<()> {
        if parts.take("warp") {
            parts.take("sync");
            parts.end()?;
            operands::<1>(s)?;
            i.flow = Flow::WarpBarrier;
            i.m = self.source(&s.operands[0], Type::B32)?;
            self.push(i);
            return Ok(());
        }
        if parts.take("cluster") {
            // A cluster of one block: all its threads.
            let arrive = parts.take("arrive");
            parts.left.retain(|p| !matches!(*p, "wait" | "acquire" | "release" | "relaxed" | "aligned"));
            parts.end()?;
            if arrive {
                return Ok(());
            }
            i.a = self.bits(15, Type::U32);
            i.mode = 8 | 16;
            i.flow = Flow::Barrier;
            self.push(i);
            return Ok(());
        }
        parts.take("cta");
        let aligned = parts.take("aligned") | (name == "bar");
        let kind = if parts.take("arrive") {
            1
        } else if parts.take("red") {
            match parts.find(|p| ["popc", "and", "or"].iter().position(|n| *n == p)) {
                Some(at) => 2 + at as u32,
                None => return Err("the reduction is missing".to_owned()),
            }
        } else if parts.take("sync") {
            0
        } else {
            return Err("this barrier is not known".to_owned());
        };
        parts.end()?;
        let mut rest = &s.operands[..];
        if kind >= 2 {
            let Some((first, others)) = rest.split_first() else { return Err("operands are missing".to_owned()) };
            if kind == 2 {
                i.d = self.dest(first, Type::U32)?;
            } else {
                i.p = self.predicate_dest(first)?;
            }
            let Some((last, others)) = others.split_last() else { return Err("operands are missing".to_owned()) };
            (i.r, i.r_flip) = self.predicate(last)?;
            rest = others;
        }
        let (number, count) = match rest {
            [number] => (number, None),
            [number, count] => (number, Some(count)),
            _ => return Err("the number of operands is wrong".to_owned()),
        };
        i.a = self.source(number, Type::U32)?;
        i.mode = kind | u32::from(aligned) << 3 | u32::from(count.is_none()) << 4;
        if let Some(count) = count {
            i.b = self.source(count, Type::U32)?;
        } else if kind == 1 {
            return Err("an arrival needs a number of threads".to_owned());
        }
        i.flow = Flow::Barrier;
        self.push(i);
        Ok(())
    }

    /// What lanes of a warp do together.
    fn together(&mut self, name: &str, mut parts: Parts<'a>, s: &Statement<'a>, mut i: Instruction) -> Decoded<()> {
        if name == "activemask" {
            operands::<1>(s)?;
            i.d = self.dest(&s.operands[0], Type::B32)?;
            i.run = act!(|m, i, mask| m.warp.registers.unary::<u32, u32>([i.d, i.d], mask, |_| mask));
            parts.end()?;
            self.push(i);
            return Ok(());
        }
        if !parts.take("sync") {
            return Err("only the .sync form is known".to_owned());
        }
        i.flow = Flow::Warp;
        let Some(members) = s.operands.last() else { return Err("operands are missing".to_owned()) };
        i.m = self.source(members, Type::B32)?;
        match name {
            "shfl" => {
                operands::<5>(s)?;
                parts.only(&[Type::B32])?;
                i.mode =
                    parts.find(|p| ["up", "down", "bfly", "idx"].iter().position(|n| *n == p)).ok_or("mode")? as u32;
                match &s.operands[0] {
                    Operand::Pair(d, p) => {
                        i.d = self.dest(d, Type::B32)?;
                        i.p = self.predicate_dest(p)?;
                        i.count = 1;
                    }
                    d => i.d = self.dest(d, Type::B32)?,
                }
                i.a = self.source(&s.operands[1], Type::B32)?;
                i.b = self.source(&s.operands[2], Type::B32)?;
                i.c = self.source(&s.operands[3], Type::B32)?;
                i.run = warp::shuffle;
            }
            "vote" => {
                operands::<3>(s)?;
                i.mode =
                    parts.find(|p| ["all", "any", "uni", "ballot"].iter().position(|n| *n == p)).ok_or("mode")? as u32;
                (i.r, i.r_flip) = self.predicate(&s.operands[1])?;
                if i.mode == 3 {
                    i.d = self.dest(&s.operands[0], Type::B32)?;
                } else {
                    i.p = self.predicate_dest(&s.operands[0])?;
                }
                i.run = warp::vote;
            }
            "match" => {
                operands::<3>(s)?;
                let ty = parts.only(&[Type::B32, Type::B64])?;
                i.mode = parts.find(|p| ["any", "all"].iter().position(|n| *n == p)).ok_or("mode")? as u32;
                match &s.operands[0] {
                    Operand::Pair(d, p) if i.mode == 1 => {
                        i.d = self.dest(d, Type::B32)?;
                        i.p = self.predicate_dest(p)?;
                        i.count = 1;
                    }
                    d => i.d = self.dest(d, Type::B32)?,
                }
                i.a = self.source(&s.operands[1], ty)?;
                i.wide = ty == Type::B64;
                i.run = warp::matching;
            }
            "redux" => {
                operands::<3>(s)?;
                let ty = parts.ty()?;
                const NAMES: [&str; 6] = ["add", "min", "max", "and", "or", "xor"];
                i.mode = parts.find(|p| NAMES.iter().position(|n| *n == p)).ok_or("the operation is missing")? as u32;
                match (ty, i.mode) {
                    (Type::U32, 0..=2) | (Type::B32, 3..=5) => {}
                    (Type::S32, 0..=2) => i.mode |= 8,
                    _ => return Err("redux does not know this type".to_owned()),
                }
                i.d = self.dest(&s.operands[0], ty)?;
                i.a = self.source(&s.operands[1], ty)?;
                i.run = warp::reduce;
            }
            "elect" => {
                operands::<2>(s)?;
                let Operand::Pair(d, p) = &s.operands[0] else { return Err("elect has two results".to_owned()) };
                i.d = self.dest(d, Type::B32)?;
                i.p = self.predicate_dest(p)?;
                i.run = warp::elect;
            }
            _ => return Err("this instruction is not known".to_owned()),
        }
        parts.end()?;
        self.push(i);
        Ok(())
    }
}
