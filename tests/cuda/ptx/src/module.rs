//! Modules, kernels, and launching them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::decode::{Decoder, Routine, Signature};
use crate::fault::{Fault, FaultKind, ParseError, Trouble, line_of};
use crate::instruction::{self, Program};
use crate::launch::{Launch, Statistics};
use crate::machine::{Code, Machine, Needs};
use crate::memory::{Memory, OutOfMemory};
use crate::registers::{Line, fill};
use crate::syntax::{self, Initial};
use crate::types::Space;

/// Shared memory of one block at most, as on the largest devices.
const MOST_SHARED: u32 = 232_448;

/// Parsed PTX.
pub struct Module {
    source: String,
    version: (u32, u32),
    target: String,
    program: Program,
    kernels: Vec<Kernel>,
    variables: Vec<ModuleVariable>,
}

struct ModuleVariable {
    name: String,
    space: Space,
    bytes: u64,
    element: usize,
    initial: Vec<Value>,
}

enum Value {
    Bits(u64),
    Float(f64),
    Symbol(String, i64),
}

/// One parameter of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter {
    pub size: u32,
    pub align: u32,
    /// Where it begins in the packed parameter block.
    pub offset: u32,
}

/// An entry of a module.
#[derive(Clone, Debug)]
pub struct Kernel {
    name: String,
    parameters: Vec<Parameter>,
    static_shared_bytes: u32,
    max_threads: Option<u32>,
    needs: Needs,
    /// Shared variables it can reach, and where they lie.
    shared: HashMap<u32, u32>,
}

impl Kernel {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sizes, alignments and offsets in bytes.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Shared memory that the kernel declares itself.
    pub fn static_shared_bytes(&self) -> u32 {
        self.static_shared_bytes
    }

    /// Threads of a block at most, if the kernel says so (`.maxntid`, `.reqntid`).
    pub fn max_threads(&self) -> Option<u32> {
        self.max_threads
    }

    /// Local memory of one thread.
    pub fn local_bytes(&self) -> u32 {
        self.needs.local_bytes
    }

    /// Bytes of the packed parameter block.
    pub fn parameter_bytes(&self) -> u32 {
        self.parameters.last().map_or(0, |p| p.offset + p.size)
    }
}

impl Module {
    /// Reads PTX text. Whatever is not understood, or has operands of the wrong type, is an error that names its line.
    pub fn parse(source: &str) -> Result<Module, ParseError> {
        let file = syntax::parse(source)?;
        let mut decoder = Decoder::new(source);
        for variable in &file.variables {
            decoder.global(variable.clone());
        }
        let mut number = 0;
        for function in &file.functions {
            if !function.entry && !decoder.signatures.contains_key(function.name) {
                decoder.signatures.insert(function.name, Signature { number, ..Signature::default() });
                number += 1;
            }
        }
        // Callees first: a call copies into its callee's parameters, and a caller's registers lie behind those of all
        // that it calls, so that a thread's calls never share any.
        let mut routines: Vec<Routine> = vec![Routine::default(); number];
        for function in callees_first(source, &file.functions)? {
            let base = behind(function, &decoder, &routines);
            let routine = decoder.function(function, &base)?;
            if let Some(signature) = decoder.signatures.get(function.name) {
                routines[signature.number] = routine;
            }
        }
        let mut kernels = Vec::new();
        for function in file.functions.iter().filter(|f| f.entry && f.body.is_some()) {
            let base = behind(function, &decoder, &routines);
            let routine = decoder.function(function, &base)?;
            let mut offset = 0u32;
            let mut parameters = Vec::new();
            for parameter in &function.parameters {
                offset = offset.next_multiple_of(parameter.align.max(1));
                parameters.push(Parameter { size: parameter.bytes as u32, align: parameter.align, offset });
                offset += parameter.bytes as u32;
            }
            let mut reached = routine.variables.clone();
            let (mut seen, mut left) = (HashSet::new(), routine.calls.iter().copied().collect::<Vec<_>>());
            while let Some(callee) = left.pop() {
                if seen.insert(callee) {
                    reached.extend(&routines[callee].variables);
                    left.extend(&routines[callee].calls);
                }
            }
            let mut reached: Vec<u32> = reached.into_iter().collect();
            reached.sort_unstable();
            let (mut shared, mut bytes, mut dynamic_align) = (HashMap::new(), 0u64, 1);
            for &number in &reached {
                let variable = &decoder.variables[number as usize];
                if variable.space == Space::Shared && !variable.external {
                    bytes = bytes.next_multiple_of(u64::from(variable.align.max(1)));
                    shared.insert(number, bytes as u32);
                    bytes += variable.bytes;
                }
                if variable.space == Space::Shared && variable.external {
                    dynamic_align = dynamic_align.max(variable.align.max(16));
                }
            }
            if bytes > u64::from(MOST_SHARED) {
                return Err(ParseError::at(source, function.line, format!("{bytes} bytes of shared memory")));
            }
            let dynamic = (bytes as u32).next_multiple_of(dynamic_align);
            for &number in &reached {
                let variable = &decoder.variables[number as usize];
                if variable.space == Space::Shared && variable.external {
                    shared.insert(number, dynamic);
                }
            }
            let needs = Needs {
                lines: routine.lines + 2,
                predicates: routine.predicates,
                local_bytes: routine.local_bytes,
                entry: routine.entry,
            };
            kernels.push(Kernel {
                name: function.name.to_owned(),
                parameters,
                static_shared_bytes: if dynamic_align > 1 { dynamic } else { bytes as u32 },
                max_threads: function.max_threads,
                needs,
                shared,
            });
        }
        decoder.finish()?;
        let variables = decoder
            .variables
            .iter()
            .map(|v| ModuleVariable {
                name: v.name.to_owned(),
                space: v.space,
                bytes: v.bytes,
                element: v.element as usize,
                initial: v
                    .initial
                    .iter()
                    .map(|value| match value {
                        Initial::Bits(bits) => Value::Bits(*bits),
                        Initial::Float(x) => Value::Float(*x),
                        Initial::Symbol(name, offset) => Value::Symbol((*name).to_owned(), *offset),
                    })
                    .collect(),
            })
            .collect();
        Ok(Module {
            source: source.to_owned(),
            version: file.version,
            target: file.target.to_owned(),
            program: decoder.program,
            kernels,
            variables,
        })
    }

    pub fn kernel(&self, name: &str) -> Option<&Kernel> {
        self.kernels.iter().find(|k| k.name == name)
    }

    pub fn kernels(&self) -> impl Iterator<Item = &Kernel> {
        self.kernels.iter()
    }

    /// Version of PTX.
    pub fn version(&self) -> (u32, u32) {
        self.version
    }

    /// The `.target`, as `sm_80`.
    pub fn target(&self) -> &str {
        &self.target
    }
}

/// The names in the calls of a function.
fn called<'f, 'a>(function: &'f syntax::Function<'a>) -> impl Iterator<Item = &'a str> + use<'f, 'a> {
    let statements = function.body.iter().flatten().filter_map(|item| match item {
        syntax::Item::Statement(statement) if statement.opcode.starts_with("call") => Some(statement),
        _ => None,
    });
    statements.flat_map(|statement| &statement.operands).filter_map(|operand| match operand {
        syntax::Operand::Name(name) => Some(*name),
        _ => None,
    })
}

/// Where a function's registers begin: behind those of the functions that it calls.
fn behind(function: &syntax::Function<'_>, decoder: &Decoder<'_>, routines: &[Routine]) -> Routine {
    let mut base = Routine::default();
    for signature in called(function).filter_map(|name| decoder.signatures.get(name)) {
        let callee = &routines[signature.number];
        base.lines = base.lines.max(callee.lines);
        base.predicates = base.predicates.max(callee.predicates);
        base.local_bytes = base.local_bytes.max(callee.local_bytes);
    }
    base
}

/// Device functions so that every one comes after those it calls. A cycle is an error.
fn callees_first<'f, 'a>(
    source: &str,
    functions: &'f [syntax::Function<'a>],
) -> Result<Vec<&'f syntax::Function<'a>>, ParseError> {
    let bodies: HashMap<&str, &syntax::Function> =
        functions.iter().filter(|f| !f.entry && f.body.is_some()).map(|f| (f.name, f)).collect();
    let mut out = Vec::new();
    let mut state: HashMap<&str, bool> = HashMap::new();
    fn visit<'f, 'a>(
        source: &str,
        function: &'f syntax::Function<'a>,
        bodies: &HashMap<&str, &'f syntax::Function<'a>>,
        state: &mut HashMap<&'a str, bool>,
        out: &mut Vec<&'f syntax::Function<'a>>,
    ) -> Result<(), ParseError> {
        match state.get(function.name) {
            Some(true) => return Ok(()),
            Some(false) => return Err(ParseError::at(source, function.line, "recursion is not known")),
            None => {}
        }
        state.insert(function.name, false);
        for callee in called(function).filter_map(|name| bodies.get(name)) {
            visit(source, callee, bodies, state, out)?;
        }
        state.insert(function.name, true);
        out.push(function);
        Ok(())
    }
    for function in functions.iter().filter(|f| !f.entry && f.body.is_some()) {
        visit(source, function, &bodies, &mut state, &mut out)?;
    }
    Ok(out)
}

/// A module in a memory: its `.global` and `.const` variables have addresses.
pub struct Loaded {
    module: Arc<Module>,
    /// Address of every variable, 0 for those in shared memory.
    addresses: Vec<u64>,
    /// The constant operands of its code.
    constants: Vec<Line>,
}

impl Loaded {
    /// Places the module's variables and fills in their initial values.
    pub fn new(module: Arc<Module>, memory: &mut Memory) -> Result<Loaded, OutOfMemory> {
        let mut addresses = Vec::new();
        for variable in &module.variables {
            let placed = matches!(variable.space, Space::Global | Space::Constant);
            let address = if placed { memory.allocate(variable.bytes) } else { Ok(0) };
            match address {
                Ok(address) => addresses.push(address),
                Err(error) => {
                    for address in addresses.into_iter().filter(|&a| a != 0) {
                        let _ = memory.free(address);
                    }
                    return Err(error);
                }
            }
        }
        for (variable, &address) in module.variables.iter().zip(&addresses) {
            if address == 0 {
                continue;
            }
            let mut bytes = vec![0; variable.bytes as usize];
            let chunks = bytes.chunks_exact_mut(variable.element.max(1));
            for (value, to) in variable.initial.iter().zip(chunks) {
                let bits = match value {
                    Value::Bits(bits) => *bits,
                    Value::Float(x) if variable.element == 4 => u64::from((*x as f32).to_bits()),
                    Value::Float(x) => x.to_bits(),
                    Value::Symbol(name, offset) => {
                        let at = module.variables.iter().position(|v| v.name == *name);
                        at.map_or(0, |at| addresses[at]).wrapping_add(*offset as u64)
                    }
                };
                let length = to.len();
                to.copy_from_slice(&bits.to_le_bytes()[..length]);
            }
            // The allocation was just made with this many bytes.
            let _ = memory.write(address, &bytes);
            if variable.space == Space::Constant {
                memory.protect(address);
            }
        }
        let program = &module.program;
        let mut constants = vec![Line([0; 32]); program.constant_lines as usize];
        for constant in &program.constants {
            let value = match constant.value {
                instruction::Value::Bits(bits) => bits,
                instruction::Value::Variable(number, offset) => addresses[number as usize].wrapping_add(offset as u64),
                instruction::Value::Special(_) => 0,
            };
            fill(&mut constants, constant.line, constant.wide, value);
        }
        Ok(Loaded { module, addresses, constants })
    }

    /// Gives the variables' memory back.
    pub fn unload(self, memory: &mut Memory) {
        for address in self.addresses.into_iter().filter(|&a| a != 0) {
            let _ = memory.free(address);
        }
    }

    pub fn module(&self) -> &Module {
        &self.module
    }

    /// Address and bytes of a `.global` or `.const` variable.
    pub fn global(&self, name: &str) -> Option<(u64, u64)> {
        let at = self.module.variables.iter().position(|v| v.name == name)?;
        let address = self.addresses[at];
        (address != 0).then(|| (address, self.module.variables[at].bytes))
    }

    /// Runs a kernel. `parameters` is the packed parameter block: every parameter at its offset, little-endian.
    pub fn launch(
        &self,
        kernel: &str,
        launch: &Launch,
        parameters: &[u8],
        memory: &mut Memory,
    ) -> Result<Statistics, Fault> {
        let bad = |what: String| Fault {
            kind: FaultKind::BadParameters(what),
            kernel: kernel.to_owned(),
            block: [0; 3],
            thread: [0; 3],
            line: 0,
            text: String::new(),
        };
        let Some(found) = self.module.kernel(kernel) else {
            return Err(bad("there is no such kernel".to_owned()));
        };
        let threads = launch.block.iter().map(|&n| u64::from(n)).product::<u64>();
        let blocks = launch.grid.iter().try_fold(1u64, |all, &n| all.checked_mul(u64::from(n)));
        let limit = u64::from(found.max_threads.unwrap_or(1024).min(1024));
        if threads == 0 || threads > limit || launch.block[2] > 64 {
            return Err(bad(format!("a block of {:?} threads: at most {limit} fit", launch.block)));
        }
        let blocks = match blocks {
            Some(blocks)
                if blocks > 0 && launch.grid[0] <= i32::MAX as u32 && launch.grid[1].max(launch.grid[2]) <= 65535 =>
            {
                blocks
            }
            _ => return Err(bad(format!("a grid of {:?} blocks", launch.grid))),
        };
        let shared = u64::from(found.static_shared_bytes) + u64::from(launch.dynamic_shared_bytes);
        if shared > u64::from(MOST_SHARED) {
            return Err(bad(format!("{shared} bytes of shared memory: at most {MOST_SHARED} fit")));
        }
        if parameters.len() != found.parameter_bytes() as usize {
            let wanted = found.parameter_bytes();
            return Err(bad(format!("a parameter block of {} bytes instead of {wanted}", parameters.len())));
        }
        let variables = &self.module.variables;
        let address = |number: u32| match variables[number as usize].space {
            Space::Shared => u64::from(found.shared.get(&number).copied().unwrap_or(0)),
            _ => self.addresses[number as usize],
        };
        let order = memory.order;
        let code = Code { program: &self.module.program, constants: &self.constants };
        let mut machine = Machine::new(code, memory, parameters, *launch, found.needs, shared as u32, address);
        let [x, y, _] = launch.grid;
        for at in 0..blocks {
            let number = order.pick(at, blocks);
            let block = [
                (number % u64::from(x)) as u32,
                (number / u64::from(x) % u64::from(y)) as u32,
                (number / (u64::from(x) * u64::from(y))) as u32,
            ];
            if let Err(trouble) = machine.run_block(block) {
                let Trouble { kind, lane } = *trouble;
                let line = self.module.program.code.get(machine.at as usize).map_or(0, |i| i.line);
                return Err(Fault {
                    kind,
                    kernel: kernel.to_owned(),
                    block,
                    thread: machine.thread(lane),
                    line,
                    text: line_of(&self.module.source, line).to_owned(),
                });
            }
        }
        Ok(machine.end())
    }
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.kernels().map(Kernel::name).collect();
        f.debug_struct("Module").field("target", &self.target).field("kernels", &names).finish_non_exhaustive()
    }
}
