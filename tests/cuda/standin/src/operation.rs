//! What a stream can be asked to do, and doing it.

use crate::code::{self, Code};
use crate::driver::{Driver, Handle};
use crate::interpreter::Board;
use crate::queue::Ticket;
use ptx_interpreter::Launch;
use std::sync::Arc;
use std::time::Instant;

#[derive(Clone)]
pub enum Operation {
    /// Only a place in the order.
    Nothing,
    Kernel {
        function: Handle,
        launch: Arc<Launch>,
        parameters: Arc<[u8]>,
    },
    /// Bytes that were taken from pageable memory at the call.
    Write {
        address: u64,
        bytes: Arc<[u8]>,
    },
    /// From host memory that stays valid until the work has run: pinned, or of a call that waits.
    WriteFrom {
        address: u64,
        host: usize,
        bytes: usize,
        pinned: bool,
    },
    /// To such memory.
    ReadInto {
        host: usize,
        address: u64,
        bytes: usize,
        pinned: bool,
    },
    Copy {
        to: u64,
        from: u64,
        bytes: u64,
    },
    Fill {
        address: u64,
        pattern: Pattern,
        count: usize,
    },
    Record {
        event: Handle,
    },
    Free {
        address: u64,
    },
    /// Rows of a rectangle, one after the other.
    Rows(Vec<Operation>),
}

/// An element that memory is filled with.
#[derive(Clone, Copy)]
pub enum Pattern {
    Byte(u8),
    Word(u32),
}

impl Pattern {
    pub fn bytes(self) -> usize {
        match self {
            Self::Byte(_) => 1,
            Self::Word(_) => 4,
        }
    }
}

impl Driver {
    /// Runs work whose turn has come. If it fails, so does its context.
    pub fn execute(&mut self, context: Handle, ticket: Ticket, operation: Operation) {
        if let Err((code, sentence)) = self.perform(context, ticket, operation) {
            self.fail(context, code, sentence);
        }
    }

    fn perform(&mut self, context: Handle, ticket: Ticket, operation: Operation) -> Result<(), (Code, String)> {
        let address_error = |sentence| (code::ILLEGAL_ADDRESS, sentence);
        match operation {
            Operation::Nothing => {}
            Operation::Kernel { function, launch, parameters } => {
                self.run_kernel(context, function, &launch, &parameters)?;
            }
            Operation::Write { address, bytes } => {
                self.board(address)?.write(address, &bytes).map_err(address_error)?
            }
            Operation::WriteFrom { address, host, bytes, pinned } => {
                self.check_pinned(host, bytes, pinned)?;
                // SAFETY: pinned memory was just found; else the call that gave it still waits.
                let source = unsafe { std::slice::from_raw_parts(host as *const u8, bytes) };
                self.board(address)?.write(address, source).map_err(address_error)?;
            }
            Operation::ReadInto { host, address, bytes, pinned } => {
                self.check_pinned(host, bytes, pinned)?;
                let found = self.board(address)?.read(address, bytes).map_err(address_error)?;
                // SAFETY: as above, and device memory never overlaps host memory.
                unsafe { std::ptr::copy_nonoverlapping(found.as_ptr(), host as *mut u8, bytes) };
            }
            Operation::Copy { to, from, bytes } => self.copy(to, from, bytes)?,
            Operation::Fill { address, pattern, count } => {
                let bytes = match pattern {
                    Pattern::Byte(byte) => vec![byte; count],
                    Pattern::Word(word) => word.to_le_bytes().repeat(count),
                };
                self.board(address)?.write(address, &bytes).map_err(address_error)?;
            }
            Operation::Record { event } => {
                if let Some(event) = self.events.get_mut(&event) {
                    event.reached(ticket, Instant::now());
                }
            }
            Operation::Free { address } => self.release(address),
            Operation::Rows(rows) => {
                for row in rows {
                    self.perform(context, ticket, row)?;
                }
            }
        }
        Ok(())
    }

    fn run_kernel(
        &mut self,
        context: Handle,
        function: Handle,
        launch: &Launch,
        parameters: &[u8],
    ) -> Result<(), (Code, String)> {
        let gone = || (code::LAUNCH_FAILED, "the module of a queued kernel was unloaded".to_owned());
        let device = self.device_of(context).map_err(|_| gone())?;
        let function = self.functions.get(&function).ok_or_else(gone)?;
        let module = self.modules.get(&function.module).ok_or_else(gone)?;
        self.totals.kernels += 1;
        let board = &mut self.devices[device].board;
        board.configure(self.settings.kernels);
        module.resident.launch(board, &function.name, launch, parameters)
    }

    /// The memory that an address belongs to.
    fn board(&mut self, address: u64) -> Result<&mut Board, (Code, String)> {
        let device = self.devices.iter_mut().find(|device| device.board.holds(address, 0));
        let missing =
            || (code::ILLEGAL_ADDRESS, format!("a copy touches {address:#x}, which is no device memory (any more)"));
        device.map(|device| &mut device.board).ok_or_else(missing)
    }

    fn copy(&mut self, to: u64, from: u64, bytes: u64) -> Result<(), (Code, String)> {
        let board = self.board(from)?;
        let outcome = if board.holds(to, bytes) {
            board.copy(to, from, bytes)
        } else {
            let found = board.read(from, bytes as usize).map_err(|sentence| (code::ILLEGAL_ADDRESS, sentence))?;
            self.board(to)?.write(to, &found)
        };
        outcome.map_err(|sentence| (code::ILLEGAL_ADDRESS, sentence))
    }

    /// Pinned memory can be gone when a graph uses it again.
    fn check_pinned(&self, host: usize, bytes: usize, pinned: bool) -> Result<(), (Code, String)> {
        if pinned && self.pinned_range(host, bytes).is_none() {
            return Err((
                code::ILLEGAL_ADDRESS,
                format!("a copy touches host memory at {host:#x} that is not pinned any more"),
            ));
        }
        Ok(())
    }
}
