//! Matrix instructions and asynchronous copies.

use super::{Decoded, Decoder, Parts};
use crate::instruction::Instruction;
use crate::syntax::Statement;

impl<'a> Decoder<'a> {
    pub(super) fn tensor(
        &mut self,
        _name: &str,
        _parts: Parts<'a>,
        _s: &Statement<'a>,
        _i: Instruction,
    ) -> Decoded<()> {
        Err("this instruction is not known yet".to_owned())
    }
}
