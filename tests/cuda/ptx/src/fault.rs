//! What can go wrong: text that is not understood, and bugs found while a kernel runs.

use std::fmt;

/// The PTX text holds something this interpreter does not know, or something PTX does not allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}: `{text}`")]
pub struct ParseError {
    /// Line of the source, from 1.
    pub line: u32,
    /// That line's text.
    pub text: String,
    /// What is wrong with it.
    pub message: String,
}

impl ParseError {
    pub(crate) fn at(source: &str, line: u32, message: impl Into<String>) -> ParseError {
        ParseError { line, text: line_of(source, line).to_owned(), message: message.into() }
    }
}

pub(crate) fn line_of(source: &str, line: u32) -> &str {
    source.lines().nth(line.saturating_sub(1) as usize).unwrap_or("").trim()
}

/// What kind of bug was found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultKind {
    /// A global (or constant) address outside every live allocation.
    OutOfBounds { address: u64, bytes: u32 },
    /// A global address inside an allocation that was freed.
    UseAfterFree { address: u64, bytes: u32 },
    /// An address that is not a multiple of the access's size.
    Misaligned { address: u64, bytes: u32 },
    /// A read of global memory nobody wrote.
    Uninitialized { address: u64, bytes: u32 },
    /// A write to constant memory or to parameters.
    ReadOnly { address: u64 },
    /// An offset outside the block's shared memory.
    SharedOutOfBounds { offset: u64, bytes: u32, shared_bytes: u32 },
    /// A read of shared memory nobody in this block wrote.
    SharedUninitialized { offset: u64, bytes: u32 },
    /// An offset outside the thread's local memory.
    LocalOutOfBounds { offset: u64, bytes: u32 },
    /// An offset outside the kernel's parameters.
    ParameterOutOfBounds { offset: u64, bytes: u32 },
    /// An aligned barrier that some threads of the warp, or threads that have exited, do not reach.
    DivergentBarrier { barrier: u32, missing: u32 },
    /// Every thread left waits for another.
    Deadlock { waiting: u32 },
    /// A `.sync` instruction whose member mask names threads that do not come, leaves out a thread that did come,
    /// or a shuffle that reads from a thread not taking part.
    DivergentShuffle { member_mask: u32, active: u32 },
    /// Two threads, one place, at least one write, nothing that orders them.
    Race { address: u64, shared: bool, other: OtherAccess },
    /// Shared memory that a `cp.async` still writes was touched before its wait (and, by another thread, barrier).
    AsyncNotWaited { offset: u64 },
    /// `trap` or a failed assertion.
    Trap,
    /// The instruction limit was reached.
    Limit { instructions: u64 },
    /// The launch itself is wrong: sizes, parameter block, an unknown kernel.
    BadParameters(String),
    /// An operand's value that the instruction does not allow.
    BadOperand(String),
}

/// The earlier access of a race.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherAccess {
    /// Whether it wrote.
    pub write: bool,
    /// Its warp within its block, if it is known.
    pub warp: Option<u32>,
    /// Whether it came from the same block.
    pub same_block: bool,
}

/// A bug found while a kernel ran: what, where and who.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub kind: FaultKind,
    pub kernel: String,
    /// Block index, as `blockIdx`.
    pub block: [u32; 3],
    /// Thread index, as `threadIdx`.
    pub thread: [u32; 3],
    /// Line of the PTX source, from 1; 0 if no instruction is to blame.
    pub line: u32,
    /// That line's text.
    pub text: String,
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FaultKind::OutOfBounds { address, bytes } => {
                write!(f, "{bytes} bytes at {address:#x} lie outside every allocation")
            }
            FaultKind::UseAfterFree { address, bytes } => write!(f, "{bytes} bytes at {address:#x} were freed"),
            FaultKind::Misaligned { address, bytes } => {
                write!(f, "address {address:#x} is not a multiple of {bytes} bytes")
            }
            FaultKind::Uninitialized { address, bytes } => {
                write!(f, "{bytes} bytes at {address:#x} are read before anything wrote all of them")
            }
            FaultKind::ReadOnly { address } => write!(f, "address {address:#x} is read-only"),
            FaultKind::SharedOutOfBounds { offset, bytes, shared_bytes } => {
                write!(f, "{bytes} bytes at shared offset {offset} lie outside the block's {shared_bytes} bytes")
            }
            FaultKind::SharedUninitialized { offset, bytes } => {
                write!(f, "{bytes} bytes at shared offset {offset} are read before anything wrote all of them")
            }
            FaultKind::LocalOutOfBounds { offset, bytes } => {
                write!(f, "{bytes} bytes at local offset {offset} lie outside the thread's local memory")
            }
            FaultKind::ParameterOutOfBounds { offset, bytes } => {
                write!(f, "{bytes} bytes at parameter offset {offset} lie outside the kernel's parameters")
            }
            FaultKind::DivergentBarrier { barrier, missing } => {
                write!(f, "barrier {barrier} is not reached by {missing} threads that have to")
            }
            FaultKind::Deadlock { waiting } => write!(f, "{waiting} threads wait and none can go on"),
            FaultKind::DivergentShuffle { member_mask, active } => {
                write!(f, "member mask {member_mask:#010x} does not fit the lanes {active:#010x} that take part")
            }
            FaultKind::Race { address, shared, other } => {
                let space = if *shared { "shared offset" } else { "address" };
                let verb = if other.write { "written" } else { "read" };
                write!(f, "{space} {address:#x} was {verb} by ")?;
                match (other.same_block, other.warp) {
                    (true, Some(warp)) => write!(f, "warp {warp} of this block")?,
                    (true, None) => write!(f, "another warp of this block")?,
                    (false, _) => write!(f, "another block")?,
                }
                write!(f, " and nothing orders the two accesses")
            }
            FaultKind::AsyncNotWaited { offset } => {
                write!(f, "shared offset {offset} is the target of a cp.async that has not been waited for")
            }
            FaultKind::Trap => write!(f, "the kernel executed trap"),
            FaultKind::Limit { instructions } => {
                write!(f, "the limit of {instructions} warp instructions was reached")
            }
            FaultKind::BadParameters(what) | FaultKind::BadOperand(what) => write!(f, "{what}"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kernel, self.kind)?;
        if self.line != 0 {
            write!(f, " (block {:?}, thread {:?}, PTX line {}: `{}`)", self.block, self.thread, self.line, self.text)?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}

/// A fault on its way up: the kind and the lane.
#[derive(Debug)]
pub(crate) struct Trouble {
    pub kind: FaultKind,
    pub lane: u32,
}

/// Answer of one instruction.
pub(crate) type Outcome = Result<(), Box<Trouble>>;

/// Builds a trouble; kept out of line, since it almost never happens.
#[cold]
pub(crate) fn trouble<T>(lane: u32, kind: FaultKind) -> Result<T, Box<Trouble>> {
    Err(Box::new(Trouble { kind, lane }))
}
