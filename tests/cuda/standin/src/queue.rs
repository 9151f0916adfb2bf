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

    /// The work to run until all of `goals` has run, in the order to run it.
    fn plan(&self, order: &mut Order, goals: &[Ticket]) -> Vec<Ticket> {
        let needed = self.needed(goals);
        let Some(&newest) = needed.last() else { return Vec::new() };
        match order {
            Order::Late => needed.into_iter().collect(),
            Order::Queued | Order::Immediate => self.pending.range(..=newest).map(|(ticket, _)| *ticket).collect(),
            Order::Reversed => self.plan_by(newest, needed, |ready| {
                let newest =
                    ready.iter().enumerate().max_by_key(|(_, ticket)| (self.pending[*ticket].stream, **ticket));
                newest.map_or(0, |(place, _)| place)
            }),
            Order::Random(state) => self.plan_by(newest, needed, |ready| draw(state) as usize % ready.len()),
        }
    }

    /// A plan out of the work up to `newest`, where `choose` says which of the work that can go on does.
    fn plan_by(
        &self,
        newest: Ticket,
        mut needed: BTreeSet<Ticket>,
        mut choose: impl FnMut(&[Ticket]) -> usize,
    ) -> Vec<Ticket> {
        let mut missing = BTreeMap::new();
        let mut followers: BTreeMap<Ticket, Vec<Ticket>> = BTreeMap::new();
        for (&ticket, work) in self.pending.range(..=newest) {
            let before: BTreeSet<_> = work.after.iter().filter(|ticket| self.is_pending(**ticket)).collect();
            missing.insert(ticket, before.len());
            for &earlier in before {
                followers.entry(earlier).or_default().push(ticket);
            }
        }
        let mut ready: Vec<_> = missing.iter().filter(|(_, count)| **count == 0).map(|(ticket, _)| *ticket).collect();
        let mut plan = Vec::new();
        while !needed.is_empty() && !ready.is_empty() {
            let ticket = ready.swap_remove(choose(&ready));
            needed.remove(&ticket);
            plan.push(ticket);
            for follower in followers.remove(&ticket).unwrap_or_default() {
                if let Some(count) = missing.get_mut(&follower) {
                    *count -= 1;
                    if *count == 0 {
                        ready.push(follower);
                    }
                }
            }
        }
        plan
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
        let ticket = self.queue.add(work);
        if self.settings.order == Order::Immediate {
            self.run_until(&[ticket]);
        }
        while self.queue.len() > LONGEST
            && let Some((&oldest, _)) = self.queue.pending.first_key_value()
        {
            self.run_until(&[oldest]);
        }
        ticket
    }

    /// Runs work until all of `goals` has run.
    pub fn run_until(&mut self, goals: &[Ticket]) {
        for ticket in self.queue.plan(&mut self.settings.order, goals) {
            self.run(ticket);
        }
    }

    /// Runs one piece of work on the way to `goals`; false where there is none left.
    pub fn run_one(&mut self, goals: &[Ticket]) -> bool {
        match self.queue.plan(&mut self.settings.order, goals).first() {
            Some(&ticket) => {
                self.run(ticket);
                true
            }
            None => false,
        }
    }

    /// Runs work, unless a fault of its context took it away.
    fn run(&mut self, ticket: Ticket) {
        if let Some(work) = self.queue.pending.remove(&ticket) {
            self.execute(work.context, ticket, work.operation);
        }
    }

    /// Runs all work of a context.
    pub fn finish(&mut self, context: Handle) {
        let goals = self.queue.of(context);
        self.run_until(&goals);
    }
}
