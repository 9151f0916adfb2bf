//! Decoded instructions.

use crate::fault::Outcome;
use crate::machine::Machine;
use crate::types::Space;

/// Carries out one instruction for the lanes of a mask.
///
/// Unsafe because some are compiled for instruction sets that must be present; the decoder picks only those that are.
pub(crate) type Run = for<'m> unsafe fn(&mut Machine<'m>, &Instruction, u32) -> Outcome;

/// How an instruction moves on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// To the next one.
    Plain,
    /// Waits for the lanes its member mask (register `m`) names, then runs and goes to the next one.
    Warp,
    /// `bar.warp.sync`: as `Warp`, but any such instruction will do.
    WarpBarrier,
    /// To `target`.
    Branch,
    /// To one of a list, by an index in `a`.
    Indexed,
    Call,
    Return,
    Exit,
    /// A barrier of the block: `a` its number, `b` the number of threads unless `all`.
    Barrier,
}

#[derive(Clone)]
pub(crate) struct Instruction {
    pub run: Run,
    pub flow: Flow,
    /// Predicate and what to flip in it; predicate 0 is always true.
    pub guard: u16,
    pub flip: u32,
    /// Registers: result and sources.
    pub d: u32,
    pub a: u32,
    pub b: u32,
    pub c: u32,
    /// Member mask of a `.sync` instruction.
    pub m: u32,
    /// Predicate results; predicate 0 stands for none.
    pub p: u16,
    pub q: u16,
    /// A predicate source and what to flip in it.
    pub r: u16,
    pub r_flip: u32,
    /// Address offset, or an immediate.
    pub offset: i64,
    /// More operands, in `Program::operands`.
    pub list: u32,
    pub count: u8,
    /// Bytes of one element in memory.
    pub width: u8,
    pub space: Space,
    /// Whether the address register has 64 bits.
    pub wide: bool,
    /// What varies within one `run`.
    pub mode: u32,
    /// Its own index, and the index of where it may go.
    pub index: u32,
    pub target: u32,
    pub line: u32,
}

/// The code of a module.
#[derive(Default)]
pub(crate) struct Program {
    pub code: Vec<Instruction>,
    pub operands: Vec<u32>,
    /// Where indexed branches go.
    pub targets: Vec<u32>,
    pub shapes: Vec<crate::matrix::Shape>,
    pub conversions: Vec<crate::convert::Conversion>,
    /// Operands that are the same for all warps, in a bank of their own, and its lines.
    pub constants: Vec<Constant>,
    pub constant_lines: u32,
    /// Operands that depend on the launch or the thread: they take the first lines of every warp.
    pub specials: Vec<Constant>,
    pub special_lines: u32,
    /// Bytes of the smallest access to memory that other threads may see: the grain of race detection.
    pub grain: u32,
}

/// A constant operand: a register that nothing writes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Constant {
    pub line: u32,
    pub wide: bool,
    pub value: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Value {
    Bits(u64),
    /// Address of a variable (by its number) plus an offset.
    Variable(u32, i64),
    Special(Special),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Special {
    Thread(u8),
    Threads(u8),
    Block(u8),
    Blocks(u8),
    Lane,
    Warp,
    Warps,
    MaskEqual,
    MaskLess,
    MaskLessEqual,
    MaskGreater,
    MaskGreaterEqual,
    DynamicShared,
    TotalShared,
    Zero,
    One,
}

impl Special {
    pub fn named(name: &str) -> Option<Special> {
        use Special::*;
        Some(match name {
            "%tid.x" => Thread(0),
            "%tid.y" => Thread(1),
            "%tid.z" => Thread(2),
            "%ntid.x" => Threads(0),
            "%ntid.y" => Threads(1),
            "%ntid.z" => Threads(2),
            "%ctaid.x" => Block(0),
            "%ctaid.y" => Block(1),
            "%ctaid.z" => Block(2),
            "%nctaid.x" => Blocks(0),
            "%nctaid.y" => Blocks(1),
            "%nctaid.z" => Blocks(2),
            "%laneid" => Lane,
            "%warpid" => Warp,
            "%nwarpid" => Warps,
            "%lanemask_eq" => MaskEqual,
            "%lanemask_lt" => MaskLess,
            "%lanemask_le" => MaskLessEqual,
            "%lanemask_gt" => MaskGreater,
            "%lanemask_ge" => MaskGreaterEqual,
            "%dynamic_smem_size" => DynamicShared,
            "%total_smem_size" => TotalShared,
            "%smid" | "%gridid" | "%clusterid.x" | "%clusterid.y" | "%clusterid.z" | "%cluster_ctarank"
            | "%cluster_ctaid.x" | "%cluster_ctaid.y" | "%cluster_ctaid.z" => Zero,
            "%nsmid" | "%cluster_nctarank" | "%cluster_nctaid.x" | "%cluster_nctaid.y" | "%cluster_nctaid.z" => One,
            _ => return None,
        })
    }
}
