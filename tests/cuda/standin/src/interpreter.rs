//! The one place that speaks with the PTX interpreter: a device's memory and the modules in it.

use crate::code::{self, Code};
use crate::settings::Kernels;
use ptx_interpreter::{Fault, FaultKind, Launch, Loaded, Memory, Module};
use std::sync::Arc;

/// Addresses of one device lie this far from those of the next, so that an address tells its device.
const STRIDE: u64 = 1 << 40;

/// The memory of one device.
pub struct Board {
    memory: Memory,
}

impl Board {
    pub fn new(ordinal: usize, capacity: u64) -> Self {
        Self { memory: Memory::starting_at(STRIDE * ordinal as u64, capacity) }
    }

    pub fn allocate(&mut self, bytes: u64) -> Option<u64> {
        self.memory.allocate(bytes).ok()
    }

    pub fn free(&mut self, address: u64) -> bool {
        self.memory.free(address).is_ok()
    }

    pub fn holds(&self, address: u64, bytes: u64) -> bool {
        self.memory.range_of(address).is_some_and(|(base, length)| address - base + bytes <= length)
    }

    pub fn configure(&mut self, kernels: Kernels) {
        self.memory.set_checks(kernels.checks);
        self.memory.set_order(kernels.blocks);
    }

    pub fn read(&self, address: u64, bytes: usize) -> Result<Vec<u8>, String> {
        let mut found = vec![0; bytes];
        self.memory.read(address, &mut found).map_err(|error| error.to_string())?;
        Ok(found)
    }

    pub fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), String> {
        self.memory.write(address, bytes).map_err(|error| error.to_string())
    }

    pub fn copy(&mut self, to: u64, from: u64, bytes: u64) -> Result<(), String> {
        self.memory.copy(to, from, bytes).map_err(|error| error.to_string())
    }
}

/// PTX text that was understood.
pub struct Program(Arc<Module>);

/// What a kernel asks of its launch.
pub struct Signature {
    /// Offset and size in bytes of each parameter.
    pub parameters: Vec<(usize, usize)>,
    pub static_shared_bytes: u32,
    pub max_threads: Option<u32>,
}

impl Program {
    /// The sentence of what is wrong where the text is not understood.
    pub fn parse(source: &str) -> Result<Self, String> {
        Module::parse(source).map(|module| Self(Arc::new(module))).map_err(|error| error.to_string())
    }

    pub fn signature(&self, name: &str) -> Option<Signature> {
        let kernel = self.0.kernel(name)?;
        let parameters = kernel.parameters().iter().map(|p| (p.offset as usize, p.size as usize)).collect();
        Some(Signature {
            parameters,
            static_shared_bytes: kernel.static_shared_bytes(),
            max_threads: kernel.max_threads(),
        })
    }
}

/// A module whose global variables have their place in a device's memory.
pub struct Resident(Loaded);

impl Resident {
    pub fn new(program: &Program, board: &mut Board) -> Result<Self, Code> {
        Loaded::new(program.0.clone(), &mut board.memory).map(Self).map_err(|_| code::OUT_OF_MEMORY)
    }

    /// Address and bytes of a global variable.
    pub fn global(&self, name: &str) -> Option<(u64, u64)> {
        self.0.global(name)
    }

    pub fn unload(self, board: &mut Board) {
        self.0.unload(&mut board.memory);
    }

    /// Runs a kernel to its end; the driver's code and a sentence where it is at fault.
    pub fn launch(
        &self,
        board: &mut Board,
        kernel: &str,
        launch: &Launch,
        parameters: &[u8],
    ) -> Result<(), (Code, String)> {
        match self.0.launch(kernel, launch, parameters, &mut board.memory) {
            Ok(_) => Ok(()),
            Err(fault) => Err((code_of(&fault), fault.to_string())),
        }
    }
}

/// A real device notices bad addresses only; what else the interpreter finds is a failed launch.
fn code_of(fault: &Fault) -> Code {
    match fault.kind {
        FaultKind::OutOfBounds { .. }
        | FaultKind::UseAfterFree { .. }
        | FaultKind::SharedOutOfBounds { .. }
        | FaultKind::LocalOutOfBounds { .. }
        | FaultKind::ReadOnly { .. } => code::ILLEGAL_ADDRESS,
        FaultKind::Misaligned { .. } => code::MISALIGNED_ADDRESS,
        FaultKind::Limit { .. } => code::LAUNCH_TIMEOUT,
        _ => code::LAUNCH_FAILED,
    }
}
