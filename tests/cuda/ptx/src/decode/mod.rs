//! Turns statements into decoded instructions: names become registers, constants and addresses, and the types of
//! operands are held against what the opcode wants.

mod arithmetic;
mod compare;
mod control;
mod floats;
mod half;
mod integers;
mod logic;
mod memory;
mod moves;
mod operands;
mod tensor;

use std::collections::{HashMap, HashSet};

use crate::fault::{Outcome, ParseError};
use crate::instruction::{Flow, Instruction, Program, Value};
use crate::machine::Machine;
use crate::registers::CONSTANT;
use crate::syntax::{Function, Item, Operand, Statement, Variable};
use crate::types::{Space, Type};

/// Marks the slot of a special value until all of them are known.
const SPECIAL: u32 = 1 << 30;

/// Predicates that never change: true and false.
pub(crate) const TRUE: u16 = 0;
pub(crate) const FALSE: u16 = 1;
const FIRST_PREDICATE: u32 = 2;

type Decoded<T> = Result<T, String>;

/// What a name stands for.
#[derive(Clone, Copy, Debug)]
enum Symbol {
    Register(Type, u32),
    Predicate(u16),
    /// A variable of the module, by number.
    Variable(u32),
    /// An offset in the thread's local memory.
    Local(u32),
    /// An offset in the kernel's parameters.
    Parameter(u32),
}

/// What is known of a function before its body is decoded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Signature {
    pub number: usize,
    /// Local offsets and bytes.
    pub parameters: Vec<(u32, u32)>,
    pub returns: Vec<(u32, u32)>,
}

/// A decoded function.
#[derive(Clone, Debug, Default)]
pub(crate) struct Routine {
    pub entry: u32,
    pub lines: u32,
    pub predicates: u32,
    pub local_bytes: u32,
    /// Numbers of the variables and of the functions that it names.
    pub variables: HashSet<u32>,
    pub calls: HashSet<usize>,
}

#[derive(Default)]
struct Scope<'a> {
    names: HashMap<&'a str, Symbol>,
    /// `%r<n>` declarations: prefix, type, first slot, count.
    ranges: Vec<(&'a str, Type, u32, u32)>,
    labels: HashMap<&'a str, u32>,
    targets: HashMap<&'a str, Vec<&'a str>>,
    /// Instructions, and entries of the table of targets, that wait for a label.
    branches: Vec<(Patch, &'a str, u32)>,
    /// Registers, predicates and local memory that were in use when it began.
    used: (u32, u32, u32),
}

#[derive(Clone, Copy)]
enum Patch {
    Code(usize),
    Table(usize),
}

pub(crate) struct Decoder<'a> {
    source: &'a str,
    pub program: Program,
    /// Variables of the module, those of functions included.
    pub variables: Vec<Variable<'a>>,
    pub signatures: HashMap<&'a str, Signature>,
    calls: Vec<(usize, usize)>,
    constants: HashMap<(Value, bool), u32>,
    scopes: Vec<Scope<'a>>,
    /// The next free slots of the current function.
    next_line: u32,
    next_predicate: u32,
    next_local: u32,
    high: Routine,
    in_kernel: bool,
    line: u32,
    /// Where each function starts.
    entries: HashMap<usize, u32>,
}

/// Dotted parts of an opcode that are still to be understood.
struct Parts<'a> {
    left: Vec<&'a str>,
    types: Vec<Type>,
}

impl<'a> Parts<'a> {
    fn new(opcode: &'a str) -> (&'a str, Parts<'a>) {
        let mut pieces = opcode.split('.');
        let name = pieces.next().unwrap_or("");
        let (mut left, mut types) = (Vec::new(), Vec::new());
        for piece in pieces {
            match Type::named(piece) {
                Some(ty) => types.push(ty),
                None => left.push(piece),
            }
        }
        (name, Parts { left, types })
    }

    fn take(&mut self, name: &str) -> bool {
        let at = self.left.iter().position(|p| *p == name);
        at.map(|at| self.left.remove(at)).is_some()
    }

    /// Takes the first part that `f` knows.
    fn find<T>(&mut self, f: impl Fn(&str) -> Option<T>) -> Option<T> {
        let (at, found) = self.left.iter().enumerate().find_map(|(at, p)| Some((at, f(p)?)))?;
        self.left.remove(at);
        Some(found)
    }

    fn ty(&self) -> Decoded<Type> {
        self.types.first().copied().ok_or_else(|| "the opcode has no type".to_owned())
    }

    fn only(&self, allowed: &[Type]) -> Decoded<Type> {
        let ty = self.ty()?;
        if allowed.contains(&ty) { Ok(ty) } else { Err("the opcode does not know this type".to_owned()) }
    }

    /// Nothing may be left over.
    fn end(&self) -> Decoded<()> {
        match self.left.first() {
            None => Ok(()),
            Some(part) => Err(format!("`.{part}` is not known here")),
        }
    }
}

fn operands<const N: usize>(statement: &Statement<'_>) -> Decoded<()> {
    match statement.operands.len() {
        n if n == N => Ok(()),
        n => Err(format!("{n} operands instead of {N}")),
    }
}

impl<'a> Decoder<'a> {
    pub fn new(source: &'a str) -> Decoder<'a> {
        Decoder {
            source,
            program: Program { grain: 8, ..Program::default() },
            variables: Vec::new(),
            signatures: HashMap::new(),
            calls: Vec::new(),
            constants: HashMap::new(),
            scopes: vec![Scope::default()],
            next_line: 0,
            next_predicate: FIRST_PREDICATE,
            next_local: 0,
            high: Routine::default(),
            in_kernel: false,
            line: 0,
            entries: HashMap::new(),
        }
    }

    fn error(&self, message: impl Into<String>) -> ParseError {
        ParseError::at(self.source, self.line, message)
    }

    /// Adds a variable of the module.
    pub fn global(&mut self, variable: Variable<'a>) {
        let number = self.variables.len() as u32;
        if let Some(scope) = self.scopes.last_mut() {
            scope.names.insert(variable.name, Symbol::Variable(number));
        }
        self.variables.push(variable);
    }

    /// Decodes a function's body. Registers of device functions lie below those of kernels, which may call them.
    pub fn function(&mut self, function: &Function<'a>, base: &Routine) -> Result<Routine, ParseError> {
        let Some(body) = &function.body else { return Ok(Routine::default()) };
        self.line = function.line;
        self.next_line = base.lines;
        self.next_predicate = base.predicates.max(FIRST_PREDICATE);
        self.next_local = base.local_bytes;
        self.high = Routine {
            entry: self.program.code.len() as u32,
            lines: self.next_line,
            predicates: self.next_predicate,
            local_bytes: self.next_local,
            ..Routine::default()
        };
        self.in_kernel = function.entry;
        self.scopes.push(Scope::default());
        if function.entry {
            let mut offset = 0u32;
            for parameter in &function.parameters {
                offset = offset.next_multiple_of(parameter.align.max(1));
                self.name(parameter.name, Symbol::Parameter(offset))?;
                offset += parameter.bytes as u32;
            }
        } else {
            let mut signature = self.signatures.get(function.name).cloned().unwrap_or_default();
            for (variable, is_return) in
                function.returns.iter().map(|v| (v, true)).chain(function.parameters.iter().map(|v| (v, false)))
            {
                let offset = self.local(variable)?;
                let list = if is_return { &mut signature.returns } else { &mut signature.parameters };
                list.push((offset, variable.bytes as u32));
            }
            self.entries.insert(signature.number, self.high.entry);
            self.signatures.insert(function.name, signature);
        }
        for item in body {
            self.item(item)?;
        }
        // A function that ends without `ret` returns.
        let mut end = self.blank();
        end.flow = Flow::Return;
        self.push(end);
        self.close()?;
        Ok(std::mem::take(&mut self.high))
    }

    /// Patches calls and places registers behind the constants, once all functions are decoded.
    pub fn finish(&mut self) -> Result<(), ParseError> {
        for (at, number) in std::mem::take(&mut self.calls) {
            let line = self.program.code[at].line;
            match self.entries.get(&number) {
                Some(&entry) => self.program.code[at].target = entry,
                None => return Err(ParseError::at(self.source, line, "the function has no body")),
            }
        }
        let lines = self.program.special_lines;
        let place = |slot: &mut u32| {
            if *slot & CONSTANT == 0 {
                *slot = if *slot & SPECIAL != 0 { *slot & !SPECIAL } else { *slot + lines };
            }
        };
        for i in &mut self.program.code {
            for slot in [&mut i.d, &mut i.a, &mut i.b, &mut i.c, &mut i.m] {
                place(slot);
            }
        }
        self.program.operands.iter_mut().for_each(place);
        Ok(())
    }

    fn name(&mut self, name: &'a str, symbol: Symbol) -> Result<(), ParseError> {
        let Some(scope) = self.scopes.last_mut() else { return Ok(()) };
        match scope.names.insert(name, symbol) {
            None => Ok(()),
            Some(_) => Err(self.error(format!("`{name}` is declared twice"))),
        }
    }

    fn local(&mut self, variable: &Variable<'a>) -> Result<u32, ParseError> {
        let offset = self.next_local.next_multiple_of(variable.align.max(1));
        self.next_local = offset + variable.bytes as u32;
        self.high.local_bytes = self.high.local_bytes.max(self.next_local.next_multiple_of(16));
        self.name(variable.name, Symbol::Local(offset))?;
        Ok(offset)
    }

    fn item(&mut self, item: &Item<'a>) -> Result<(), ParseError> {
        match item {
            Item::Open => {
                let used = (self.next_line, self.next_predicate, self.next_local);
                self.scopes.push(Scope { used, ..Scope::default() });
            }
            Item::Close => {
                if let Some(scope) = self.scopes.last() {
                    (self.next_line, self.next_predicate, self.next_local) = scope.used;
                }
                self.close()?;
            }
            Item::Label(name) => {
                let here = self.program.code.len() as u32;
                if let Some(scope) = self.scopes.last_mut() {
                    scope.labels.insert(name, here);
                }
            }
            Item::Targets(name, list) => {
                if let Some(scope) = self.scopes.last_mut() {
                    scope.targets.insert(name, list.clone());
                }
            }
            Item::Register(ty, name, count) => {
                let slots = count.unwrap_or(1);
                let first = self.registers(*ty, slots).map_err(|e| self.error(e))?;
                let symbol =
                    if *ty == Type::Pred { Symbol::Predicate(first as u16) } else { Symbol::Register(*ty, first) };
                match (count, self.scopes.last_mut()) {
                    (Some(count), Some(scope)) => scope.ranges.push((name, *ty, first, *count)),
                    _ => self.name(name, symbol)?,
                }
            }
            Item::Variable(variable) => {
                self.line = variable.line;
                match variable.space {
                    Space::Local | Space::Parameter => {
                        self.local(variable)?;
                    }
                    _ => {
                        let number = self.variables.len() as u32;
                        self.name(variable.name, Symbol::Variable(number))?;
                        self.variables.push(variable.clone());
                    }
                }
            }
            Item::Statement(statement) => {
                self.line = statement.line;
                self.statement(statement).map_err(|message| self.error(message))?;
            }
        }
        Ok(())
    }

    /// Ends a scope: its labels are all known now; branches to others wait for the scope around.
    fn close(&mut self) -> Result<(), ParseError> {
        let Some(scope) = self.scopes.pop() else { return Ok(()) };
        let last = self.scopes.len() <= 1;
        for (patch, label, line) in scope.branches {
            match (scope.labels.get(label), self.scopes.last_mut()) {
                (Some(&at), _) => match patch {
                    Patch::Code(code) => self.program.code[code].target = at,
                    Patch::Table(entry) => self.program.targets[entry] = at,
                },
                (None, Some(outer)) if !last => outer.branches.push((patch, label, line)),
                _ => return Err(ParseError::at(self.source, line, format!("there is no label `{label}`"))),
            }
        }
        Ok(())
    }

    /// Slots for registers of a type.
    fn registers(&mut self, ty: Type, count: u32) -> Decoded<u32> {
        if ty == Type::Pred {
            let first = self.next_predicate;
            self.next_predicate += count;
            self.high.predicates = self.high.predicates.max(self.next_predicate);
            if self.next_predicate > u32::from(u16::MAX) {
                return Err("too many predicates".to_owned());
            }
            return Ok(first);
        }
        if ty == Type::B128 {
            return Err("128-bit registers are not known".to_owned());
        }
        let first = self.next_line;
        let lines = count.checked_mul(lines_of(ty)).filter(|&n| n < 1 << 20).ok_or("too many registers")?;
        self.next_line += lines;
        self.high.lines = self.high.lines.max(self.next_line);
        Ok(first)
    }

    fn resolve(&self, name: &str) -> Option<Symbol> {
        for scope in self.scopes.iter().rev() {
            if let Some(&symbol) = scope.names.get(name) {
                return Some(symbol);
            }
            for &(prefix, ty, first, count) in &scope.ranges {
                let Some(digits) = name.strip_prefix(prefix) else { continue };
                if let Ok(number) = digits.parse::<u32>()
                    && number < count
                    && (digits == "0" || !digits.starts_with('0'))
                {
                    return Some(if ty == Type::Pred {
                        Symbol::Predicate((first + number) as u16)
                    } else {
                        Symbol::Register(ty, first + number * lines_of(ty))
                    });
                }
            }
        }
        None
    }

    /// An instruction that does nothing yet.
    fn blank(&self) -> Instruction {
        Instruction {
            run: nothing,
            flow: Flow::Plain,
            guard: TRUE,
            flip: 0,
            d: 0,
            a: 0,
            b: 0,
            c: 0,
            m: 0,
            p: TRUE,
            q: TRUE,
            r: TRUE,
            r_flip: 0,
            offset: 0,
            list: 0,
            count: 0,
            width: 0,
            space: Space::Generic,
            wide: false,
            mode: 0,
            index: 0,
            target: 0,
            line: self.line,
        }
    }

    fn push(&mut self, mut i: Instruction) -> usize {
        let at = self.program.code.len();
        i.index = at as u32;
        self.program.code.push(i);
        at
    }

    fn statement(&mut self, s: &Statement<'a>) -> Decoded<()> {
        let mut i = self.blank();
        if let Some((name, negated)) = s.guard {
            let (guard, _) = self.predicate(&Operand::Name(name))?;
            i.guard = guard;
            i.flip = if negated { u32::MAX } else { 0 };
        }
        let (name, parts) = Parts::new(s.opcode);
        match name {
            "mov" | "cvt" | "cvta" | "isspacep" | "selp" | "slct" | "szext" | "mapa" => self.moves(name, parts, s, i),
            "ld" | "ldu" | "st" | "atom" | "red" | "prefetch" | "prefetchu" | "createpolicy" | "applypriority"
            | "discard" => self.memory(name, parts, s, i),
            "bra" | "brx" | "call" | "ret" | "exit" | "trap" | "bar" | "barrier" | "membar" | "fence" | "shfl"
            | "vote" | "match" | "activemask" | "redux" | "elect" | "nanosleep" | "brkpt" | "pmevent"
            | "griddepcontrol" => self.control(name, parts, s, i),
            "setp" | "set" | "and" | "or" | "xor" | "not" | "cnot" | "lop3" | "shl" | "shr" | "shf" | "popc"
            | "clz" | "bfind" | "brev" | "bfe" | "bfi" | "prmt" | "fns" | "testp" | "bmsk" => {
                self.logic(name, parts, s, i)
            }
            _ => self.arithmetic(name, parts, s, i),
        }
    }
}

/// What a branch does besides going somewhere.
fn nothing(_: &mut Machine<'_>, _: &Instruction, _: u32) -> Outcome {
    Ok(())
}

fn lines_of(ty: Type) -> u32 {
    if ty.bytes() == 8 { 2 } else { 1 }
}
