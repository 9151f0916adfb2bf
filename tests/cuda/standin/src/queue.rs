//! Work that was submitted and has not run, and the order in which it runs.

use crate::driver::{Driver, Handle};
use crate::operation::Operation;
use std::collections::{BTreeMap, BTreeSet};

/// Numbers work in the order of submission; work depends on smaller tickets only.
pub type Ticket = u64;

pub struct Work {
    pub context: Handle,
    pub stream: Handle,
    /// From a stream that waits for the legacy stream and the other way round.
    pub blocking: bool,
    pub after: Vec<Ticket>,
    pub operation: Operation,
}

/// Which legal order queued work runs in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// At the last moment: only what the awaited work depends on.
    Late,
    /// All that was queued up to the awaited work, in the order of submission.
    Queued,
    /// As `Queued`, but always the newest stream that can go on.
    Reversed,
    /// As `Queued`, but any work that can go on, drawn by a generator with this state.
    Random(u64),
    /// At submission, as if the device were infinitely fast.
    Immediate,
}

impl Order {
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "late" => Self::Late,
            "queued" => Self::Queued,
            "reversed" => Self::Reversed,
            "immediate" => Self::Immediate,
            _ => Self::Random(text.strip_prefix("random:")?.parse().ok()?),
        })
    }
}

/// Work that may wait at most; beyond that the oldest runs, as a real queue is finite too.
const LONGEST: usize = 4096;

#[derive(Default)]
pub struct Queue {
    pending: BTreeMap<Ticket, Work>,
    last: Ticket,
}

impl Queue {
    pub fn is_pending(&self, ticket: Ticket) -> bool {
        self.pending.contains_key(&ticket)
    }

    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// The ticket of the work that is added next.
    pub fn next_ticket(&self) -> Ticket {
        self.last + 1
    }

    pub fn add(&mut self, mut work: Work) -> Ticket {
        self.last += 1;
        work.after.retain(|ticket| self.pending.contains_key(ticket));
        self.pending.insert(self.last, work);
        self.last
    }

    /// Pending work of the streams of a context which the legacy stream waits for.
    pub fn blocking(&self, context: Handle) -> Vec<Ticket> {
        self.tickets(|work| work.context == context && work.blocking)
    }

    /// Pending work of a context.
    pub fn of(&self, context: Handle) -> Vec<Ticket> {
        self.tickets(|work| work.context == context)
    }

    fn tickets(&self, chosen: impl Fn(&Work) -> bool) -> Vec<Ticket> {
        self.pending.iter().filter(|(_, work)| chosen(work)).map(|(ticket, _)| *ticket).collect()
    }

    pub fn discard(&mut self, context: Handle) {
        self.pending.retain(|_, work| work.context != context);
    }

    fn is_ready(&self, work: &Work) -> bool {
        !work.after.iter().any(|&ticket| self.is_pending(ticket))
    }

    /// What `goals` depend on, themselves included.
    fn needed(&self, goals: &[Ticket]) -> BTreeSet<Ticket> {
        let mut needed = BTreeSet::new();
        let mut open = goals.to_vec();
        while let Some(ticket) = open.pop() {
            if let Some(work) = self.pending.get(&ticket)
                && needed.insert(ticket)
            {
                open.extend(&work.after);
            }
        }
        needed
    }

    /// The next work to run on the way to `goals`.
    fn choose(&self, order: &mut Order, goals: &[Ticket]) -> Option<Ticket> {
        let needed = self.needed(goals);
        let newest = *needed.last()?;
        let mut ready = self.pending.range(..=newest).filter(|(_, work)| self.is_ready(work));
        match order {
            Order::Late => needed.first().copied(),
            Order::Queued | Order::Immediate => ready.next().map(|(ticket, _)| *ticket),
            Order::Reversed => ready.max_by_key(|(_, work)| work.stream).map(|(ticket, _)| *ticket),
            Order::Random(state) => {
                let ready: Vec<_> = ready.map(|(ticket, _)| *ticket).collect();
                ready.get(draw(state) as usize % ready.len().max(1)).copied()
            }
        }
    }
}

/// The next number of a generator: SplitMix64 (Steele, Lea and Flood 2014).
fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut number = *state;
    number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

impl Driver {
    /// Adds work, and runs what may not wait any longer.
    pub fn enqueue(&mut self, work: Work) -> Ticket {
        let context = work.context;
        let ticket = self.queue.add(work);
        if self.settings.order == Order::Immediate {
            self.run_until(&[ticket]);
        }
        while self.queue.len() > LONGEST {
            let Some(oldest) =
                self.queue.of(context).first().copied().or_else(|| self.queue.pending.keys().next().copied())
            else {
                break;
            };
            self.run_until(&[oldest]);
        }
        ticket
    }

    /// Runs work until all of `goals` has run.
    pub fn run_until(&mut self, goals: &[Ticket]) {
        while self.run_one(goals) {}
    }

    /// Runs one piece of work on the way to `goals`; false where there is none left.
    pub fn run_one(&mut self, goals: &[Ticket]) -> bool {
        let Some(ticket) = self.queue.choose(&mut self.settings.order, goals) else {
            return false;
        };
        if let Some(work) = self.queue.pending.remove(&ticket) {
            self.execute(work.context, ticket, work.operation);
        }
        true
    }

    /// Runs all work of a context.
    pub fn finish(&mut self, context: Handle) {
        let goals = self.queue.of(context);
        self.run_until(&goals);
    }
}
