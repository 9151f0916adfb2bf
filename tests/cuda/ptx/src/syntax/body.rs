//! Bodies of functions: labels, registers, statements and their operands.

use super::{Item, Operand, Parsed, Parser, Statement};
use crate::lexer::Word;
use crate::types::{Space, Type};

impl<'a> Parser<'a> {
    pub(super) fn body(&mut self) -> Parsed<Vec<Item<'a>>> {
        self.expect('{')?;
        let mut items = Vec::new();
        let mut depth = 1;
        while depth > 0 {
            let line = self.line();
            match self.peek() {
                Word::End => return self.fail("the function does not end"),
                Word::Sign('{') => {
                    depth += 1;
                    self.at += 1;
                    items.push(Item::Open);
                }
                Word::Sign('}') => {
                    depth -= 1;
                    self.at += 1;
                    if depth > 0 {
                        items.push(Item::Close);
                    }
                }
                Word::Sign(';') => self.at += 1,
                Word::Sign('@') => {
                    self.at += 1;
                    let negated = self.accept('!');
                    let guard = self.name()?;
                    let statement = self.statement(line, Some((guard, negated)))?;
                    items.push(Item::Statement(statement));
                }
                Word::Name(".reg") => {
                    self.at += 1;
                    self.registers(&mut items)?;
                }
                Word::Name(".loc" | ".file") => self.skip_line(line),
                Word::Name(".pragma") => self.skip_statement(),
                Word::Name(name) if name.starts_with('.') => {
                    if Space::named(&name[1..]).is_none() {
                        return self.fail("this directive is not known");
                    }
                    items.extend(self.variables(false)?.into_iter().map(Item::Variable));
                    self.expect(';')?;
                }
                Word::Name(name) if self.peek_second() == Word::Sign(':') => {
                    self.at += 2;
                    match self.peek() {
                        Word::Name(".branchtargets") => {
                            self.at += 1;
                            let mut targets = vec![self.name()?];
                            while self.accept(',') {
                                targets.push(self.name()?);
                            }
                            self.expect(';')?;
                            items.push(Item::Targets(name, targets));
                        }
                        Word::Name(".callprototype" | ".calltargets") => {
                            return self.fail("calls through pointers are not known");
                        }
                        _ => items.push(Item::Label(name)),
                    }
                }
                Word::Name(_) => {
                    let statement = self.statement(line, None)?;
                    items.push(Item::Statement(statement));
                }
                _ => return self.fail("expected an instruction"),
            }
        }
        Ok(items)
    }

    fn registers(&mut self, items: &mut Vec<Item<'a>>) -> Parsed<()> {
        let mut ty = None;
        while let Word::Name(word) = self.peek() {
            match word.strip_prefix('.') {
                Some(word) => match Type::named(word) {
                    Some(found) => ty = Some(found),
                    None => return self.fail("this type is not known"),
                },
                None => break,
            }
            self.at += 1;
        }
        let Some(ty) = ty else { return self.fail("expected a type") };
        loop {
            let name = self.name()?;
            let count = if self.accept('<') {
                let count = self.integer()? as u32;
                self.expect('>')?;
                Some(count)
            } else {
                None
            };
            items.push(Item::Register(ty, name, count));
            if !self.accept(',') {
                break;
            }
        }
        self.expect(';')
    }

    fn statement(&mut self, line: u32, guard: Option<(&'a str, bool)>) -> Parsed<Statement<'a>> {
        let opcode = self.name()?;
        let mut operands = Vec::new();
        if !self.accept(';') {
            loop {
                operands.push(self.operand()?);
                if self.accept(';') {
                    break;
                }
                self.expect(',')?;
            }
        }
        Ok(Statement { line, guard, opcode, operands })
    }

    fn operand(&mut self) -> Parsed<Operand<'a>> {
        let first = self.single()?;
        if self.accept('|') {
            let second = self.single()?;
            return Ok(Operand::Pair(Box::new(first), Box::new(second)));
        }
        Ok(first)
    }

    fn single(&mut self) -> Parsed<Operand<'a>> {
        let operand = match self.next() {
            Word::Name(name) => match self.peek() {
                Word::Sign('+') => {
                    self.at += 1;
                    Operand::Offset(name, self.integer()? as i64)
                }
                Word::Sign('-') => {
                    self.at += 1;
                    Operand::Offset(name, (self.integer()? as i64).wrapping_neg())
                }
                _ => Operand::Name(name),
            },
            Word::Integer(value) => Operand::Integer(value),
            Word::Float32(bits) => Operand::Float32(bits),
            Word::Float64(bits) => Operand::Float64(bits),
            Word::Sign('-') => match self.next() {
                Word::Integer(value) => Operand::Integer(value.wrapping_neg()),
                Word::Float32(bits) => Operand::Float32(bits ^ 1 << 31),
                Word::Float64(bits) => Operand::Float64(bits ^ 1 << 63),
                _ => return self.fail("expected a number"),
            },
            Word::Sign('!') => Operand::Not(self.name()?),
            Word::Sign('[') => {
                let inner = self.single()?;
                self.expect(']')?;
                Operand::Address(Box::new(inner))
            }
            Word::Sign('{') => Operand::Vector(self.operands_until('}')?),
            Word::Sign('(') => Operand::List(self.operands_until(')')?),
            _ => {
                self.at -= 1;
                return self.fail("expected an operand");
            }
        };
        Ok(operand)
    }

    fn operands_until(&mut self, close: char) -> Parsed<Vec<Operand<'a>>> {
        let mut list = Vec::new();
        while !self.accept(close) {
            list.push(self.operand()?);
            if !self.accept(',') {
                self.expect(close)?;
                break;
            }
        }
        Ok(list)
    }
}
