//! Arithmetic: by the type of the opcode.

use super::floats::float64;
use super::{Decoded, Decoder, Parts};
use crate::instruction::Instruction;
use crate::syntax::Statement;
use crate::types::Type;

impl<'a> Decoder<'a> {
    pub(super) fn arithmetic(
        &mut self,
        name: &str,
        mut parts: Parts<'a>,
        s: &Statement<'a>,
        mut i: Instruction,
    ) -> Decoded<()> {
        match name {
            "mma" | "ldmatrix" | "stmatrix" | "movmatrix" | "cp" | "wgmma" | "mbarrier" => {
                return self.tensor(name, parts, s, i);
            }
            _ => {}
        }
        let ty = parts.ty()?;
        if matches!(ty, Type::F16 | Type::F16x2 | Type::Bf16 | Type::Bf16x2) {
            return self.half(name, parts, s, i);
        }
        i.run = match ty {
            Type::F32 => {
                self.floats(name, ty, s, &mut i)?;
                self.float32(name, &mut parts, &mut i)?
            }
            Type::F64 => {
                self.floats(name, ty, s, &mut i)?;
                float64(name, &mut parts, &mut i)?
            }
            _ => self.integer(name, ty, &mut parts, s, &mut i)?,
        };
        parts.end()?;
        self.push(i);
        Ok(())
    }
}
