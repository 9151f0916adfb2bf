//! The shape of PTX text: variables, functions, statements and operands. Nothing is checked beyond the grammar.

mod body;

use crate::fault::ParseError;
use crate::lexer::{Token, Word, words};
use crate::types::{Space, Type};

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Operand<'a> {
    Name(&'a str),
    /// A symbol and a byte offset.
    Offset(&'a str, i64),
    Not(&'a str),
    /// `p|q`: two results.
    Pair(Box<Operand<'a>>, Box<Operand<'a>>),
    Integer(u64),
    Float32(u32),
    Float64(u64),
    Address(Box<Operand<'a>>),
    Vector(Vec<Operand<'a>>),
    List(Vec<Operand<'a>>),
}

#[derive(Clone, Debug)]
pub(crate) struct Statement<'a> {
    pub line: u32,
    /// Predicate and whether it is negated.
    pub guard: Option<(&'a str, bool)>,
    pub opcode: &'a str,
    pub operands: Vec<Operand<'a>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Variable<'a> {
    pub line: u32,
    pub space: Space,
    pub name: &'a str,
    pub align: u32,
    pub bytes: u64,
    pub external: bool,
    pub initial: Vec<Initial<'a>>,
    pub element: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Initial<'a> {
    Bits(u64),
    /// An address of another variable, plus an offset.
    Symbol(&'a str, i64),
    Float(f64),
}

#[derive(Clone, Debug)]
pub(crate) enum Item<'a> {
    Label(&'a str),
    Statement(Statement<'a>),
    /// Type, name, and how many (`%r<7>`), or nothing for a single one.
    Register(Type, &'a str, Option<u32>),
    Variable(Variable<'a>),
    Targets(&'a str, Vec<&'a str>),
    Open,
    Close,
}

#[derive(Clone, Debug)]
pub(crate) struct Function<'a> {
    pub line: u32,
    pub entry: bool,
    pub name: &'a str,
    pub returns: Vec<Variable<'a>>,
    pub parameters: Vec<Variable<'a>>,
    pub max_threads: Option<u32>,
    /// Nothing for a declaration.
    pub body: Option<Vec<Item<'a>>>,
}

#[derive(Debug, Default)]
pub(crate) struct File<'a> {
    pub version: (u32, u32),
    pub target: &'a str,
    pub variables: Vec<Variable<'a>>,
    pub functions: Vec<Function<'a>>,
}

pub(crate) fn parse(source: &str) -> Result<File<'_>, ParseError> {
    let mut parser = Parser { source, tokens: words(source)?, at: 0 };
    parser.file()
}

struct Parser<'a> {
    source: &'a str,
    tokens: Vec<Token<'a>>,
    at: usize,
}

type Parsed<T> = Result<T, ParseError>;

impl<'a> Parser<'a> {
    fn peek(&self) -> Word<'a> {
        self.tokens[self.at].word
    }

    fn peek_second(&self) -> Word<'a> {
        self.tokens.get(self.at + 1).map_or(Word::End, |t| t.word)
    }

    fn line(&self) -> u32 {
        self.tokens[self.at].line
    }

    fn next(&mut self) -> Word<'a> {
        let word = self.peek();
        if word != Word::End {
            self.at += 1;
        }
        word
    }

    fn fail<T>(&self, message: impl Into<String>) -> Parsed<T> {
        Err(ParseError::at(self.source, self.line(), message))
    }

    fn accept(&mut self, sign: char) -> bool {
        let found = self.peek() == Word::Sign(sign);
        if found {
            self.at += 1;
        }
        found
    }

    fn expect(&mut self, sign: char) -> Parsed<()> {
        if self.accept(sign) { Ok(()) } else { self.fail(format!("expected `{sign}`")) }
    }

    fn name(&mut self) -> Parsed<&'a str> {
        match self.next() {
            Word::Name(name) => Ok(name),
            _ => {
                self.at -= 1;
                self.fail("expected a name")
            }
        }
    }

    fn integer(&mut self) -> Parsed<u64> {
        let negative = self.accept('-');
        match self.next() {
            Word::Integer(value) => Ok(if negative { value.wrapping_neg() } else { value }),
            _ => self.fail("expected an integer"),
        }
    }

    fn file(&mut self) -> Parsed<File<'a>> {
        let mut file = File::default();
        let mut external = false;
        loop {
            let line = self.line();
            let name = match self.peek() {
                Word::End => break,
                Word::Sign(';') => {
                    self.at += 1;
                    continue;
                }
                Word::Name(name) => name,
                _ => return self.fail("expected a directive"),
            };
            match name {
                ".version" => {
                    self.at += 1;
                    // "8.7" reads as a decimal fraction.
                    let text = match self.next() {
                        Word::Float64(bits) => format!("{:.1}", f64::from_bits(bits)),
                        Word::Integer(major) => format!("{major}.0"),
                        _ => return self.fail("expected a version"),
                    };
                    let (major, minor) = text.split_once('.').unwrap_or((&text, "0"));
                    file.version = (major.parse().unwrap_or(0), minor.parse().unwrap_or(0));
                }
                ".target" => {
                    self.at += 1;
                    file.target = self.name()?;
                    while self.accept(',') {
                        self.name()?;
                    }
                }
                ".address_size" => {
                    self.at += 1;
                    if self.integer()? != 64 {
                        return self.fail("only 64-bit addresses are known");
                    }
                }
                ".visible" | ".weak" | ".common" => self.at += 1,
                ".extern" => {
                    external = true;
                    self.at += 1;
                }
                ".entry" | ".func" => {
                    external = false;
                    let function = self.function()?;
                    file.functions.push(function);
                }
                ".file" | ".loc" => self.skip_line(line),
                ".section" => self.skip_section()?,
                ".alias" | ".pragma" => self.skip_statement(),
                _ if Space::named(&name[1..]).is_some() => {
                    let mut variables = self.variables(external)?;
                    external = false;
                    file.variables.append(&mut variables);
                    self.expect(';')?;
                }
                _ => return self.fail("this directive is not known"),
            }
        }
        if file.version == (0, 0) {
            return self.fail("this is not PTX: there is no .version");
        }
        Ok(file)
    }

    fn skip_line(&mut self, line: u32) {
        while self.line() == line && self.peek() != Word::End {
            self.at += 1;
        }
    }

    fn skip_statement(&mut self) {
        while !matches!(self.next(), Word::Sign(';') | Word::End) {}
    }

    fn skip_section(&mut self) -> Parsed<()> {
        while self.peek() != Word::Sign('{') {
            if self.next() == Word::End {
                return self.fail("expected a section");
            }
        }
        while !matches!(self.next(), Word::Sign('}') | Word::End) {}
        Ok(())
    }

    fn function(&mut self) -> Parsed<Function<'a>> {
        let line = self.line();
        let entry = self.name()? == ".entry";
        while matches!(self.peek(), Word::Name(".noreturn" | ".attribute")) {
            self.at += 1;
        }
        let returns = if self.peek() == Word::Sign('(') { self.parameter_list()? } else { Vec::new() };
        let name = self.name()?;
        let parameters = if self.peek() == Word::Sign('(') { self.parameter_list()? } else { Vec::new() };
        let mut max_threads = None;
        loop {
            match self.peek() {
                Word::Sign('{') => break,
                Word::Sign(';') => {
                    self.at += 1;
                    return Ok(Function { line, entry, name, returns, parameters, max_threads, body: None });
                }
                Word::Name(
                    directive @ (".maxntid" | ".reqntid" | ".minnctapersm" | ".maxnreg" | ".reqnctapercluster"
                    | ".maxclusterrank" | ".maxnctapersm" | ".noreturn" | ".explicitcluster"),
                ) => {
                    self.at += 1;
                    let mut product = 1u64;
                    while let Word::Integer(value) = self.peek() {
                        product *= value;
                        self.at += 1;
                        if !self.accept(',') {
                            break;
                        }
                    }
                    if matches!(directive, ".maxntid" | ".reqntid") {
                        max_threads = u32::try_from(product).ok();
                    }
                }
                Word::Name(".pragma") => self.skip_statement(),
                _ => return self.fail("this directive of a function is not known"),
            }
        }
        let body = Some(self.body()?);
        Ok(Function { line, entry, name, returns, parameters, max_threads, body })
    }

    fn parameter_list(&mut self) -> Parsed<Vec<Variable<'a>>> {
        self.expect('(')?;
        let mut list = Vec::new();
        while !self.accept(')') {
            match self.peek() {
                Word::Name(".param") => list.append(&mut self.variables_once(false)?),
                Word::Name(".reg") => return self.fail("parameters in registers are not known"),
                _ => return self.fail("expected a parameter"),
            }
            self.accept(',');
        }
        Ok(list)
    }

    fn variables(&mut self, external: bool) -> Parsed<Vec<Variable<'a>>> {
        let mut first = self.variables_once(external)?;
        while self.accept(',') {
            let line = self.line();
            let like = first[0].clone();
            let name = self.name()?;
            let (bytes, initial) = self.extent(like.element)?;
            first.push(Variable { line, name, bytes, initial, ..like });
        }
        Ok(first)
    }

    fn variables_once(&mut self, external: bool) -> Parsed<Vec<Variable<'a>>> {
        let line = self.line();
        let space = self.name()?;
        let Some(space) = Space::named(&space[1..]) else { return self.fail("expected a state space") };
        let (mut align, mut element, mut vector) = (0, None, 1);
        while let Word::Name(word) = self.peek() {
            match word {
                ".align" => {
                    self.at += 1;
                    align = self.integer()? as u32;
                    continue;
                }
                ".ptr" => {}
                ".attribute" => {
                    self.at += 1;
                    self.expect('(')?;
                    while !self.accept(')') {
                        self.next();
                    }
                    continue;
                }
                ".managed" | ".global" | ".shared" | ".const" | ".local" => {}
                ".v2" => vector = 2,
                ".v4" => vector = 4,
                _ => match word.strip_prefix('.').and_then(Type::named) {
                    Some(ty) => element = Some(ty),
                    None => break,
                },
            }
            self.at += 1;
        }
        let Some(ty) = element else { return self.fail("expected a type") };
        let element = ty.bytes() * vector;
        let name = self.name()?;
        let (bytes, initial) = self.extent(element)?;
        Ok(vec![Variable {
            line,
            space,
            name,
            align: align.max(ty.bytes().max(element)).max(align),
            bytes,
            external,
            initial,
            element: ty.bytes(),
        }])
    }

    /// Array bounds and initial values after a variable's name.
    fn extent(&mut self, element: u32) -> Parsed<(u64, Vec<Initial<'a>>)> {
        let mut count = 1u64;
        let mut open_ended = false;
        while self.accept('[') {
            if self.accept(']') {
                open_ended = true;
                continue;
            }
            count = count.saturating_mul(self.integer()?);
            self.expect(']')?;
        }
        let mut initial = Vec::new();
        if self.accept('=') {
            self.initial(&mut initial)?;
        }
        if open_ended {
            count = initial.len() as u64;
        }
        let Some(bytes) = count.checked_mul(u64::from(element)) else { return self.fail("too large an array") };
        Ok((bytes, initial))
    }

    fn initial(&mut self, out: &mut Vec<Initial<'a>>) -> Parsed<()> {
        if self.accept('{') {
            while !self.accept('}') {
                self.initial(out)?;
                self.accept(',');
            }
            return Ok(());
        }
        match self.peek() {
            Word::Float32(bits) => {
                self.at += 1;
                out.push(Initial::Bits(u64::from(bits)));
            }
            Word::Float64(bits) => {
                self.at += 1;
                out.push(Initial::Float(f64::from_bits(bits)));
            }
            Word::Name("generic") => {
                self.at += 1;
                self.expect('(')?;
                self.initial(out)?;
                self.expect(')')?;
            }
            Word::Name(name) => {
                self.at += 1;
                let offset = if self.accept('+') { self.integer()? as i64 } else { 0 };
                out.push(Initial::Symbol(name, offset));
            }
            Word::Sign('-') if matches!(self.peek_second(), Word::Float64(_)) => {
                self.at += 1;
                self.initial(out)?;
                if let Some(Initial::Float(x)) = out.last_mut() {
                    *x = -*x;
                }
            }
            _ => {
                let value = self.integer()?;
                out.push(Initial::Bits(value));
            }
        }
        Ok(())
    }
}
