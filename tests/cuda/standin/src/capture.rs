//! Captures: work of streams that goes to a graph instead of the device, and what is forbidden meanwhile.

use crate::code::{self, Code};
use crate::driver::{Driver, Handle, export, put};
use crate::graph::{Graph, Node};
use crate::operation::Operation;
use crate::stream::Kind;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::thread::ThreadId;

/// `CUstreamCaptureMode`.
const GLOBAL: u32 = 0;
const THREAD_LOCAL: u32 = 1;
const RELAXED: u32 = 2;

const STATUS_NONE: u32 = 0;
const STATUS_ACTIVE: u32 = 1;
const STATUS_INVALIDATED: u32 = 2;

thread_local! {
    /// What this thread lets captures forbid it, by `cuThreadExchangeStreamCaptureMode`.
    static OWN_MODE: Cell<u32> = const { Cell::new(GLOBAL) };
}

pub struct Capture {
    context: Handle,
    /// The stream where it began and has to end.
    origin: Handle,
    mode: u32,
    thread: ThreadId,
    valid: bool,
    nodes: Vec<Node>,
    /// The last nodes of each stream that takes part.
    tails: BTreeMap<Handle, Vec<usize>>,
}

#[derive(Default)]
pub struct Captures(BTreeMap<Handle, Capture>);

impl Captures {
    pub fn invalidate(&mut self, capture: Handle) {
        if let Some(capture) = self.0.get_mut(&capture) {
            capture.valid = false;
        }
    }

    /// Drops the captures of a context that goes.
    pub fn forget(&mut self, context: Handle) {
        self.0.retain(|_, capture| capture.context != context);
    }

    /// A capture that can still take work.
    fn valid(&mut self, capture: Handle) -> Result<&mut Capture, Code> {
        self.0.get_mut(&capture).filter(|capture| capture.valid).ok_or(code::CAPTURE_INVALIDATED)
    }

    /// The last nodes of a stream in a capture.
    pub fn tail(&mut self, capture: Handle, stream: Handle) -> Result<Vec<usize>, Code> {
        Ok(self.valid(capture)?.tails.get(&stream).cloned().unwrap_or_default())
    }

    fn status(&self, capture: Option<Handle>) -> u32 {
        match capture.and_then(|capture| self.0.get(&capture)) {
            None => STATUS_NONE,
            Some(capture) if capture.valid => STATUS_ACTIVE,
            Some(_) => STATUS_INVALIDATED,
        }
    }

    /// Invalidates the captures that `chosen` picks; an error if there were any.
    fn forbid(&mut self, answer: Code, chosen: impl Fn(&Capture) -> bool) -> Result<(), Code> {
        let mut outcome = Ok(());
        for capture in self.0.values_mut().filter(|capture| chosen(capture)) {
            capture.valid = false;
            outcome = Err(answer);
        }
        outcome
    }
}

impl Capture {
    /// Whether this thread may not make unsafe calls (allocate, free, synchronize, load) while the capture lasts.
    fn forbids_here(&self) -> bool {
        let own_thread = self.thread == std::thread::current().id();
        match (self.mode, OWN_MODE.get()) {
            (RELAXED, _) | (_, RELAXED) => false,
            (GLOBAL, GLOBAL) => true,
            _ => own_thread,
        }
    }

    /// Nodes that the last nodes of the first stream come after, themselves included.
    fn joined(&self) -> BTreeSet<usize> {
        let mut joined = BTreeSet::new();
        let mut open = self.tails.get(&self.origin).cloned().unwrap_or_default();
        while let Some(node) = open.pop() {
            if joined.insert(node) {
                open.extend(&self.nodes[node].after);
            }
        }
        joined
    }
}

impl Driver {
    /// For calls that are unsafe in a capture.
    pub fn forbid_in_capture(&mut self) -> Result<(), Code> {
        self.captures
            .forbid(code::CAPTURE_UNSUPPORTED, Capture::forbids_here)
            .inspect_err(|_| self.totals.capture_violations += 1)
    }

    /// For calls that wait: forbidden in the modes that forbid unsafe calls, and in any mode where the context captures.
    pub fn forbid_synchronization(&mut self, context: Handle) -> Result<(), Code> {
        let forbidden = |capture: &Capture| capture.context == context || capture.forbids_here();
        self.captures.forbid(code::CAPTURE_UNSUPPORTED, forbidden).inspect_err(|_| self.totals.capture_violations += 1)
    }

    /// For calls that are unsafe in the stream that they name.
    pub fn forbid_captured(&mut self, stream: Handle) -> Result<(), Code> {
        match self.streams.get(&stream).and_then(|stream| stream.capture) {
            None => Ok(()),
            Some(capture) => {
                self.captures.invalidate(capture);
                self.totals.capture_violations += 1;
                Err(code::CAPTURE_UNSUPPORTED)
            }
        }
    }

    /// Work of the legacy stream would wait for the blocking streams: not while one of them captures.
    pub fn forbid_legacy_in_capture(&mut self, stream: Handle) -> Result<(), Code> {
        let captures = self.captures_before(stream);
        for &capture in &captures {
            self.captures.invalidate(capture);
            self.totals.capture_violations += 1;
        }
        if captures.is_empty() { Ok(()) } else { Err(code::CAPTURE_IMPLICIT) }
    }

    /// The captures of the blocking streams that a stream would wait for, if it is a legacy stream.
    fn captures_before(&self, stream: Handle) -> Vec<Handle> {
        let Some(legacy) = self.streams.get(&stream).filter(|stream| stream.kind == Kind::Legacy) else {
            return Vec::new();
        };
        let blocking = self.streams.values().filter(|stream| stream.context == legacy.context && stream.is_blocking());
        blocking.filter_map(|stream| stream.capture).collect()
    }

    pub fn invalidate_capture_of(&mut self, stream: Handle) {
        if let Some(capture) = self.streams.get(&stream).and_then(|stream| stream.capture) {
            self.captures.invalidate(capture);
        }
    }

    /// Makes work a node of the graph, after the stream's last nodes.
    pub fn capture_work(&mut self, capture: Handle, stream: Handle, operation: Operation) -> Result<(), Code> {
        let capture = self.captures.valid(capture)?;
        let after = capture.tails.get(&stream).cloned().unwrap_or_default();
        capture.nodes.push(Node { operation, after });
        capture.tails.insert(stream, vec![capture.nodes.len() - 1]);
        Ok(())
    }

    /// Makes the nodes of a graph that is launched nodes of the captured one.
    pub fn capture_graph(&mut self, capture: Handle, stream: Handle, nodes: &[Node]) -> Result<(), Code> {
        let capture = self.captures.valid(capture)?;
        let before = capture.tails.get(&stream).cloned().unwrap_or_default();
        let first = capture.nodes.len();
        for node in nodes {
            let mut after: Vec<_> = node.after.iter().map(|node| node + first).collect();
            if after.is_empty() {
                after.clone_from(&before);
            }
            capture.nodes.push(Node { operation: node.operation.clone(), after });
        }
        // One node that comes after all of them stands for the whole.
        let mut all: Vec<_> = (first..capture.nodes.len()).collect();
        all.extend(before);
        capture.nodes.push(Node { operation: Operation::Nothing, after: all });
        capture.tails.insert(stream, vec![capture.nodes.len() - 1]);
        Ok(())
    }

    /// Lets a stream wait for an event of a capture: it takes part from now on.
    pub fn join_capture(&mut self, capture: Handle, stream: Handle, nodes: &[usize]) -> Result<(), Code> {
        let context = self.streams[&stream].context;
        if self.captures.status(Some(capture)) == STATUS_NONE {
            return Err(code::CAPTURED_EVENT);
        }
        let others = self.streams[&stream].capture.filter(|&other| other != capture);
        let foreign = self.captures.valid(capture)?.context != context;
        if others.is_some() || foreign {
            self.captures.invalidate(capture);
            if let Some(other) = others {
                self.captures.invalidate(other);
            }
            return Err(code::CAPTURE_MERGE);
        }
        if self.streams[&stream].kind == Kind::Legacy {
            self.captures.invalidate(capture);
            return Err(code::CAPTURE_IMPLICIT);
        }
        let found = self.captures.valid(capture)?;
        let tail = found.tails.entry(stream).or_default();
        for node in nodes {
            if !tail.contains(node) {
                tail.push(*node);
            }
        }
        if let Some(stream) = self.streams.get_mut(&stream) {
            stream.capture = Some(capture);
        }
        Ok(())
    }

    fn begin_capture(&mut self, stream: Handle, mode: u32) -> Result<(), Code> {
        let context = self.current()?;
        let origin = self.stream(context, stream)?;
        if mode > RELAXED {
            return Err(code::INVALID_VALUE);
        }
        if self.streams[&origin].kind == Kind::Legacy {
            return Err(code::CAPTURE_UNSUPPORTED);
        }
        if self.streams[&origin].capture.is_some() {
            return Err(code::ILLEGAL_STATE);
        }
        let handle = self.handle();
        let tails = BTreeMap::from([(origin, Vec::new())]);
        let thread = std::thread::current().id();
        let capture = Capture { context, origin, mode, thread, valid: true, nodes: Vec::new(), tails };
        self.captures.0.insert(handle, capture);
        if let Some(stream) = self.streams.get_mut(&origin) {
            stream.capture = Some(handle);
        }
        Ok(())
    }

    fn end_capture(&mut self, stream: Handle) -> Result<Graph, Code> {
        let context = self.current()?;
        let stream = self.stream(context, stream)?;
        let handle = self.streams[&stream].capture.ok_or(code::ILLEGAL_STATE)?;
        let capture = self.captures.0.get(&handle).ok_or(code::ILLEGAL_STATE)?;
        if capture.origin != stream {
            self.captures.invalidate(handle);
            return Err(code::CAPTURE_UNMATCHED);
        }
        if capture.mode != RELAXED && capture.thread != std::thread::current().id() {
            self.captures.invalidate(handle);
            return Err(code::CAPTURE_WRONG_THREAD);
        }
        let capture = self.captures.0.remove(&handle).ok_or(code::ILLEGAL_STATE)?;
        for stream in self.streams.values_mut().filter(|stream| stream.capture == Some(handle)) {
            stream.capture = None;
        }
        if !capture.valid {
            return Err(code::CAPTURE_INVALIDATED);
        }
        if capture.joined().len() != capture.nodes.len() {
            return Err(code::CAPTURE_UNJOINED);
        }
        Ok(Graph { nodes: capture.nodes.into() })
    }

    fn capture_status(&mut self, stream: Handle) -> Result<(u32, Handle), Code> {
        let context = self.current()?;
        let stream = self.stream(context, stream)?;
        // Asking invalidates nothing.
        if !self.captures_before(stream).is_empty() {
            return Err(code::CAPTURE_IMPLICIT);
        }
        let capture = self.streams[&stream].capture;
        Ok((self.captures.status(capture), capture.unwrap_or(0)))
    }
}

export! {
    fn cuStreamBeginCapture_v2(driver, stream: Handle, mode: u32) {
        driver.begin_capture(stream, mode)
    }

    fn cuStreamEndCapture(driver, stream: Handle, graph: *mut Handle) {
        let outcome = driver.end_capture(stream);
        let handle = if outcome.is_ok() { driver.handle() } else { 0 };
        // SAFETY: the host gives a place for a handle or null.
        unsafe { put(graph, handle) }?;
        driver.graphs.insert(handle, outcome?);
        Ok(())
    }

    fn cuStreamIsCapturing(driver, stream: Handle, status: *mut u32) {
        let (found, _) = driver.capture_status(stream)?;
        // SAFETY: the host gives a place for a number or null.
        unsafe { put(status, found) }
    }

    fn cuStreamGetCaptureInfo(driver, stream: Handle, status: *mut u32, id: *mut u64) {
        let (found, capture) = driver.capture_status(stream)?;
        if !id.is_null() {
            // SAFETY: the host gives a place for a number.
            unsafe { put(id, capture) }?;
        }
        // SAFETY: the host gives a place for a number or null.
        unsafe { put(status, found) }
    }

    // The graph and its nodes are not shown while they are captured.
    fn cuStreamGetCaptureInfo_v2(driver, stream: Handle, status: *mut u32, id: *mut u64, graph: *mut Handle, nodes: *mut u64, count: *mut usize) {
        let (found, capture) = driver.capture_status(stream)?;
        if !graph.is_null() || !nodes.is_null() || !count.is_null() {
            return Err(code::NOT_SUPPORTED);
        }
        if !id.is_null() {
            // SAFETY: the host gives a place for a number.
            unsafe { put(id, capture) }?;
        }
        // SAFETY: the host gives a place for a number or null.
        unsafe { put(status, found) }
    }

    fn cuThreadExchangeStreamCaptureMode(driver, mode: *mut u32) {
        driver.ready()?;
        if mode.is_null() {
            return Err(code::INVALID_VALUE);
        }
        // SAFETY: the host gives a number.
        let wanted = unsafe { *mode };
        if wanted > RELAXED {
            return Err(code::INVALID_VALUE);
        }
        // SAFETY: the same place.
        unsafe { put(mode, OWN_MODE.replace(wanted)) }
    }
}

const _: () = assert!(GLOBAL < THREAD_LOCAL && THREAD_LOCAL < RELAXED);
