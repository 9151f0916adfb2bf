//! Numbers by which a test sees leaks, allocations and waits.

use crate::context;
use crate::driver::{Driver, put, with};

/// Counts since the start or the last reset.
#[derive(Default)]
pub struct Totals {
    pub allocations: u64,
    pub pinned_allocations: u64,
    pub module_loads: u64,
    pub launches: u64,
    pub kernels: u64,
    pub graph_launches: u64,
    pub copies: u64,
    pub fills: u64,
    pub synchronizations: u64,
    pub waits: u64,
    pub capture_violations: u64,
    pub faults: u64,
    pub abandoned: u64,
}

/// What `standin_counters` writes. Fields are only ever added at the end.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
pub struct Counters {
    // What lives now.
    pub live_allocations: u64,
    pub live_bytes: u64,
    pub live_pinned: u64,
    pub live_modules: u64,
    pub live_streams: u64,
    pub live_events: u64,
    pub live_graphs: u64,
    pub live_executables: u64,
    /// Retains of primary contexts, and contexts that were created.
    pub live_contexts: u64,
    /// Depth of the calling thread's stack of contexts.
    pub depth: u64,
    /// Work that was submitted and has not run.
    pub pending: u64,
    // What happened so far.
    pub allocations: u64,
    pub pinned_allocations: u64,
    pub module_loads: u64,
    /// Kernels that were launched, into graphs too.
    pub launches: u64,
    /// Kernels that ran.
    pub kernels: u64,
    pub graph_launches: u64,
    pub copies: u64,
    pub fills: u64,
    /// Calls that synchronize with a stream, an event or a context.
    pub synchronizations: u64,
    /// Other calls that wait: copies that block, copies into pageable memory, frees, unloading a module.
    pub waits: u64,
    /// Calls that a capture forbids.
    pub capture_violations: u64,
    pub faults: u64,
    /// Objects that were still there when their context went.
    pub abandoned: u64,
}

impl Driver {
    pub fn counters(&self) -> Counters {
        let totals = &self.totals;
        Counters {
            live_allocations: self.allocations.len() as u64,
            live_bytes: self.allocations.values().map(|allocation| allocation.bytes).sum(),
            live_pinned: self.pinned.len() as u64,
            live_modules: self.modules.len() as u64,
            live_streams: self.streams.values().filter(|stream| stream.is_explicit()).count() as u64,
            live_events: self.events.len() as u64,
            live_graphs: self.graphs.len() as u64,
            live_executables: self.executables.len() as u64,
            live_contexts: self.contexts.values().map(|context| context.retained).sum(),
            depth: context::depth() as u64,
            pending: self.queue.len() as u64,
            allocations: totals.allocations,
            pinned_allocations: totals.pinned_allocations,
            module_loads: totals.module_loads,
            launches: totals.launches,
            kernels: totals.kernels,
            graph_launches: totals.graph_launches,
            copies: totals.copies,
            fills: totals.fills,
            synchronizations: totals.synchronizations,
            waits: totals.waits,
            capture_violations: totals.capture_violations,
            faults: totals.faults,
            abandoned: totals.abandoned,
        }
    }
}

/// Writes the counters. 0, or 1 where there is no place for them.
#[unsafe(no_mangle)]
unsafe extern "C" fn standin_counters(place: *mut Counters) -> i32 {
    // SAFETY: the test gives a place for the counters or null.
    with(|driver| i32::from(unsafe { put(place, driver.counters()) }.is_err()))
}
