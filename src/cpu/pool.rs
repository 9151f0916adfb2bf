//! The threads of one context.

use crate::error::{Error, Result};
use rayon::prelude::*;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

/// A thread pool that is started at its first use and survives `fork()`.
///
/// Threads do not cross a fork, so a pool belongs to the process that made it: a child leaks its parent's pool (joining
/// threads that do not exist would hang) and starts its own. No lock is held at any time, since a lock held by another
/// thread while the process forks is held in the child for ever.
pub struct Pool {
    threads: usize,
    started: AtomicPtr<Started>,
}

struct Started {
    process: u32,
    pool: rayon::ThreadPool,
    threads: Vec<JoinHandle<()>>,
}

impl Started {
    fn new(threads: usize) -> Result<Self> {
        let mut handles = Vec::with_capacity(threads);
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .spawn_handler(|worker| {
                let name = format!("mnemo-{}", worker.index());
                handles.push(std::thread::Builder::new().name(name).spawn(move || {
                    crate::capi::silence_panics_of_this_thread();
                    worker.run();
                })?);
                Ok(())
            })
            .build()
            .map_err(|e| Error::NoMemory(format!("num_threads: {threads} threads could not be started: {e}")))?;
        Ok(Self { process: std::process::id(), pool, threads: handles })
    }

    /// Ends the threads and waits until they are gone, so that a host may unload the library or count its leaks.
    fn stop(self) {
        drop(self.pool);
        for thread in self.threads {
            // A worker's panic was already handed to the call that caused it.
            let _ = thread.join();
        }
    }
}

impl Pool {
    /// A pool of `threads` threads; 0 means one per processor.
    pub fn new(threads: usize) -> Self {
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            n => n,
        };
        Self { threads, started: AtomicPtr::new(std::ptr::null_mut()) }
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.threads
    }

    fn start(&self) -> Result<&rayon::ThreadPool> {
        let process = std::process::id();
        let current = self.started.load(Ordering::Acquire);
        // SAFETY: a non-null pointer came from Box::into_raw below and is freed only by Drop, which has &mut self.
        if let Some(s) = unsafe { current.as_ref() }
            && s.process == process
        {
            return Ok(&s.pool);
        }
        let fresh = Box::into_raw(Box::new(Started::new(self.threads)?));
        match self.started.compare_exchange(current, fresh, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: `fresh` is now owned by self; a parent's pool that it replaced is leaked on purpose.
            Ok(_) => Ok(unsafe { &(*fresh).pool }),
            Err(winner) => {
                // SAFETY: `fresh` was never shared.
                unsafe { Box::from_raw(fresh) }.stop();
                // SAFETY: as at the load above; another thread of this process installed it.
                Ok(unsafe { &(*winner).pool })
            }
        }
    }

    /// Runs `task(0..tasks)`, in parallel unless there is nothing to share or `work` (in element operations, roughly
    /// nanoseconds) is less than waking a thread costs.
    pub fn run(&self, tasks: usize, work: usize, task: impl Fn(usize) + Send + Sync) -> Result<()> {
        const WORTH_WAKING: usize = 60_000;
        if self.threads == 1 || tasks < 2 || work < WORTH_WAKING {
            (0..tasks).for_each(task);
            return Ok(());
        }
        let pool = self.start()?;
        if pool.current_thread_index().is_some() {
            // Within a task of `run_watched`: a worker that waited for its parts would begin another such task meanwhile.
            (0..tasks).for_each(task);
        } else {
            pool.install(|| (0..tasks).into_par_iter().with_max_len(1).for_each(task));
        }
        Ok(())
    }

    /// Runs `task(0..tasks)` on the pool's threads and, until they are done, `watch` on this one now and then.
    pub fn run_watched(&self, tasks: usize, task: impl Fn(usize) + Send + Sync, watch: &mut dyn FnMut()) -> Result<()> {
        const NOW_AND_THEN: Duration = Duration::from_millis(20);
        let (task, left, waiting) = (&task, &AtomicUsize::new(tasks), &std::thread::current());
        self.start()?.in_place_scope(|scope| {
            for i in 0..tasks {
                scope.spawn(move |_| {
                    let _done = Done { left, waiting };
                    task(i);
                });
            }
            while left.load(Ordering::Acquire) > 0 {
                watch();
                std::thread::park_timeout(NOW_AND_THEN);
            }
        });
        Ok(())
    }
}

/// Counts a task as done when it ends, even by a panic, and wakes the thread that waits for the last.
struct Done<'a> {
    left: &'a AtomicUsize,
    waiting: &'a Thread,
}

impl Drop for Done<'_> {
    fn drop(&mut self) {
        if self.left.fetch_sub(1, Ordering::Release) == 1 {
            self.waiting.unpark();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let started = *self.started.get_mut();
        // SAFETY: see `start`; nobody else can hold a reference while self is dropped.
        if let Some(s) = unsafe { started.as_ref() }
            && s.process == std::process::id()
        {
            // SAFETY: as above. A pool of another process is leaked: its threads do not exist here.
            unsafe { Box::from_raw(started) }.stop();
        }
    }
}

/// Hands disjoint parts of a slice to parallel tasks.
pub struct Parts<T>(*mut T, usize);

// SAFETY: tasks reach the slice only through `part`, whose caller promises disjoint ranges.
unsafe impl<T: Send> Sync for Parts<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Parts<T> {}

impl<T> Parts<T> {
    /// Borrows the slice for the time of one `Pool::run`.
    pub fn new(slice: &mut [T]) -> Self {
        Self(slice.as_mut_ptr(), slice.len())
    }

    /// The elements of `range`.
    ///
    /// # Safety
    /// The slice outlives the returned borrow, and no two live borrows overlap.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn part(&self, range: std::ops::Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.1, "Parts::part");
        // SAFETY: in bounds by the assertion; disjoint and alive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(range.start), range.len()) }
    }
}
