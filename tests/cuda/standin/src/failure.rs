//! Calls that fail on purpose.

use crate::code::Code;

/// The `call`-th call of `function` from now on answers `code`; call 0 means every call.
struct Failure {
    function: String,
    call: u64,
    code: Code,
    seen: u64,
}

#[derive(Default)]
pub struct Failures(Vec<Failure>);

impl Failures {
    pub fn add(&mut self, function: &str, call: u64, code: i32) {
        self.0.push(Failure { function: function.to_owned(), call, code: Code(code), seen: 0 });
    }

    /// Adds rules `function:call:code`, separated by commas; `None`, and no rule, where one is malformed.
    pub fn parse(&mut self, rules: &str) -> Option<()> {
        let parsed: Option<Vec<_>> = rules
            .split(',')
            .filter(|rule| !rule.is_empty())
            .map(|rule| {
                let mut parts = rule.split(':');
                let (function, call, code) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
                parts.next().is_none().then_some((function, call, code))
            })
            .collect();
        for (function, call, code) in parsed? {
            self.add(function, call, code);
        }
        Some(())
    }

    /// Counts a call; the code to answer with instead of running it, if a rule says so.
    pub fn strike(&mut self, function: &str) -> Option<Code> {
        let mut code = None;
        for failure in self.0.iter_mut().filter(|failure| failure.function == function) {
            failure.seen += 1;
            if failure.call == 0 || failure.call == failure.seen {
                code = code.or(Some(failure.code));
            }
        }
        code
    }
}
