//! How one call runs: its seed, and how the caller watches and stops it.

use crate::dataset::Rows;
use crate::error::{Error, Result, per_row};
use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// A flag that any thread may raise to stop a call.
#[derive(Debug, Default)]
pub struct Cancel(AtomicBool);

impl Cancel {
    /// Asks every call that uses this flag to stop.
    pub fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Makes the flag usable for a new call.
    pub fn reset(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Whether a stop was asked for.
    pub fn requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// One call's view of its cancel flag: once a worker has seen a request the call is stopped, even if the flag is reset
/// before the call looks again; results cut short are never taken for whole ones. Rows that cannot be read stop it too.
pub struct Stop<'a> {
    cancel: Option<&'a Cancel>,
    rows: &'a Rows,
    seen: AtomicBool,
}

impl Stop<'_> {
    /// Whether to stop now. For workers.
    pub fn now(&self) -> bool {
        let stop = self.cancel.is_some_and(Cancel::requested);
        if stop {
            self.seen.store(true, Ordering::Relaxed);
        }
        stop || self.rows.failed()
    }

    /// [`Error::Cancelled`] if a worker stopped, [`Error::Io`] if it had to.
    pub fn check(&self) -> Result<()> {
        if self.seen.load(Ordering::Relaxed) { Err(stopped()) } else { self.rows.check() }
    }
}

fn stopped() -> Error {
    Error::Cancelled("exec.cancel: a stop was requested".into())
}

/// A progress callback: (done, total) → whether to go on.
pub type Progress<'a> = dyn FnMut(u64, u64) -> bool + 'a;

/// The nearest training row of each sample at the last step: where a search begins at the next. It saves work and never
/// changes a result.
pub struct Trail(Vec<AtomicU32>);

impl Trail {
    /// One of `samples` samples, none of which has taken a step.
    pub fn new(samples: usize) -> Result<Self> {
        Ok(Self(per_row(samples, |_| AtomicU32::new(u32::MAX))?))
    }

    /// The row kept for sample `i`.
    pub fn get(&self, i: usize) -> Option<usize> {
        let row = self.0.get(i)?.load(Ordering::Relaxed);
        (row != u32::MAX).then_some(row as usize)
    }

    /// Keeps a row for sample `i`.
    pub fn set(&self, i: usize, row: usize) {
        if let (Some(at), Ok(row)) = (self.0.get(i), u32::try_from(row)) {
            at.store(row, Ordering::Relaxed);
        }
    }
}

/// The circumstances of one call. It stays on the thread that entered the library; workers see only its [`Stop`].
#[derive(Default)]
pub struct Exec<'a> {
    /// The seed of every random number drawn in the call.
    pub seed: u64,
    /// The address of the caller's device stream, handed on to the host's model; 0 is the default stream, or none.
    pub stream: usize,
    /// Whether the caller waits for a device's result, which is looked at for NaN and infinity then.
    pub check: bool,
    /// Raised by the caller to stop.
    pub cancel: Option<&'a Cancel>,
    /// Told how far the call has come.
    pub progress: RefCell<Option<&'a mut Progress<'a>>>,
    /// What `progress` was last told.
    pub told: Cell<(u64, u64)>,
    /// What samplers know of their samples from the last step.
    pub trail: Option<&'a Trail>,
}

impl Exec<'_> {
    /// The same seed and cancel flag without the progress callback, for a call inside a call.
    pub fn quiet(&self) -> Exec<'_> {
        let Self { seed, stream, check, cancel, trail, .. } = *self;
        Exec { seed, stream, check, cancel, trail, ..Exec::default() }
    }

    /// Runs `work`, a call inside this one: where it reports its own progress, this one's stands still and is told again,
    /// so that a host which stops calls by it need not wait for the end of `work`.
    pub fn within<T>(&self, trail: Option<&Trail>, work: impl FnOnce(&Exec<'_>) -> Result<T>) -> Result<T> {
        let mut stopped = None;
        let mut again = |_, _| {
            let (done, total) = self.told.get();
            stopped = self.report(done, total).err();
            stopped.is_none()
        };
        let progress = if self.progress.borrow().is_some() { Some(&mut again as &mut Progress<'_>) } else { None };
        let result = work(&Exec { progress: RefCell::new(progress), trail, ..self.quiet() });
        stopped.map_or(result, Err)
    }

    /// What workers look at that read `rows`.
    pub fn stop<'b>(&'b self, rows: &'b Rows) -> Stop<'b> {
        Stop { cancel: self.cancel, rows, seen: AtomicBool::new(false) }
    }

    /// [`Error::Cancelled`] if a stop was asked for.
    pub fn check(&self) -> Result<()> {
        match self.cancel {
            Some(c) if c.requested() => Err(stopped()),
            _ => Ok(()),
        }
    }

    /// Reports progress, then looks at the cancel flag.
    pub fn report(&self, done: u64, total: u64) -> Result<()> {
        self.told.set((done, total));
        // Taken out while it runs, so that a callback which calls the library again finds no borrow of it.
        let taken = self.progress.borrow_mut().take();
        if let Some(progress) = taken {
            let go_on = progress(done, total);
            *self.progress.borrow_mut() = Some(progress);
            if !go_on {
                return Err(Error::Cancelled(format!("exec.progress asked to stop at {done} of {total}")));
            }
        }
        self.check()
    }
}
