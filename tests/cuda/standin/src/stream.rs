//! Streams: lines of work, each in its own order.

use crate::code::{self, Code};
use crate::driver::{Driver, Handle, export, put};
use crate::operation::Operation;
use crate::queue::{Ticket, Work};
use std::thread::ThreadId;

pub struct Stream {
    pub context: Handle,
    pub flags: u32,
    pub priority: i32,
    pub kind: Kind,
    /// The newest work.
    pub last: Ticket,
    /// The capture that this stream takes part in.
    pub capture: Option<Handle>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The stream with handle 0 or 1, one per context.
    Legacy,
    /// The stream with handle 2, one per context and thread.
    PerThread(ThreadId),
    Explicit,
}

pub const NON_BLOCKING: u32 = 1;
pub const GREATEST_PRIORITY: i32 = -5;

impl Stream {
    pub fn legacy(context: Handle) -> Self {
        Self { context, flags: 0, priority: 0, kind: Kind::Legacy, last: 0, capture: None }
    }

    /// Made by the host, which has to destroy it.
    pub fn is_explicit(&self) -> bool {
        self.kind == Kind::Explicit
    }

    /// Waits for the legacy stream and the other way round.
    pub fn is_blocking(&self) -> bool {
        self.kind != Kind::Legacy && self.flags & NON_BLOCKING == 0
    }
}

impl Driver {
    /// The stream that a host's handle means in a context; streams of other contexts are refused.
    pub fn stream(&mut self, context: Handle, handle: Handle) -> Result<Handle, Code> {
        match handle {
            0 | 1 => Ok(self.contexts.get(&context).ok_or(code::CONTEXT_IS_DESTROYED)?.legacy_stream),
            2 => {
                let kind = Kind::PerThread(std::thread::current().id());
                let found = self.streams.iter().find(|(_, stream)| stream.context == context && stream.kind == kind);
                if let Some((&handle, _)) = found {
                    return Ok(handle);
                }
                let handle = self.handle();
                self.streams.insert(handle, Stream { kind, ..Stream::legacy(context) });
                Ok(handle)
            }
            _ => match self.streams.get(&handle) {
                Some(stream) if stream.context == context && stream.is_explicit() => Ok(handle),
                _ => Err(code::INVALID_HANDLE),
            },
        }
    }

    /// Puts work into a stream or into the graph that it captures.
    pub fn submit(&mut self, stream: Handle, operation: Operation) -> Result<(), Code> {
        self.submit_after(stream, operation, &[])
    }

    /// The same, for work that waits for `others` too.
    pub fn submit_after(&mut self, stream: Handle, operation: Operation, others: &[Ticket]) -> Result<(), Code> {
        let found = self.streams.get(&stream).ok_or(code::INVALID_HANDLE)?;
        match found.capture {
            Some(capture) => self.capture_work(capture, stream, operation),
            None => {
                self.forbid_legacy_in_capture(stream)?;
                self.enqueue_in(stream, operation, others)?;
                Ok(())
            }
        }
    }

    /// Queues work in a stream that does not capture, after what it and the rules of the legacy stream ask for.
    pub fn enqueue_in(&mut self, handle: Handle, operation: Operation, others: &[Ticket]) -> Result<Ticket, Code> {
        let stream = self.streams.get(&handle).ok_or(code::INVALID_HANDLE)?;
        let (context, blocking) = (stream.context, stream.is_blocking());
        let mut after = others.to_vec();
        after.push(stream.last);
        if stream.kind == Kind::Legacy {
            after.extend(self.queue.blocking(context));
        } else if blocking {
            let legacy = self.contexts.get(&context).ok_or(code::CONTEXT_IS_DESTROYED)?.legacy_stream;
            after.push(self.streams.get(&legacy).map_or(0, |stream| stream.last));
        }
        let ticket = self.enqueue(Work { context, stream: handle, blocking, after, operation });
        if let Some(stream) = self.streams.get_mut(&handle) {
            stream.last = ticket;
        }
        Ok(ticket)
    }

    /// Runs a stream's work up to now: of the legacy stream, work that it was given, after all that this waits for.
    pub fn wait_for_stream(&mut self, handle: Handle) {
        let goals = self.stream_goals(handle);
        self.run_until(&goals);
    }

    fn stream_goals(&self, handle: Handle) -> Vec<Ticket> {
        self.streams.get(&handle).map(|stream| stream.last).into_iter().collect()
    }

    fn create_stream(&mut self, place: *mut Handle, flags: u32, priority: i32) -> Result<(), Code> {
        let context = self.current()?;
        if flags > NON_BLOCKING {
            return Err(code::INVALID_VALUE);
        }
        self.forbid_in_capture()?;
        let handle = self.handle();
        // SAFETY: the host gives a place for a handle or null.
        unsafe { put(place, handle) }?;
        let priority = priority.clamp(GREATEST_PRIORITY, 0);
        let stream = Stream { flags, priority, kind: Kind::Explicit, ..Stream::legacy(context) };
        self.streams.insert(handle, stream);
        Ok(())
    }

    fn found_stream(&mut self, handle: Handle) -> Result<&Stream, Code> {
        let context = self.current()?;
        let handle = self.stream(context, handle)?;
        self.streams.get(&handle).ok_or(code::INVALID_HANDLE)
    }
}

export! {
    fn cuStreamCreate(driver, stream: *mut Handle, flags: u32) {
        driver.create_stream(stream, flags, 0)
    }

    fn cuStreamCreateWithPriority(driver, stream: *mut Handle, flags: u32, priority: i32) {
        driver.create_stream(stream, flags, priority)
    }

    // Its work stays queued: destroying a stream does not wait.
    fn cuStreamDestroy_v2(driver, stream: Handle) {
        let answer = driver.current();
        match driver.streams.get(&stream) {
            Some(found) if found.is_explicit() => {}
            _ => return Err(code::INVALID_HANDLE),
        }
        driver.invalidate_capture_of(stream);
        driver.streams.remove(&stream);
        answer.map(|_| ())
    }

    fn cuStreamSynchronize(driver, stream: Handle) {
        let context = driver.current()?;
        let stream = driver.stream(context, stream)?;
        driver.forbid_synchronization(context)?;
        driver.totals.synchronizations += 1;
        driver.wait_for_stream(stream);
        driver.current().map(|_| ())
    }

    // Unfinished work goes on by one step, so that a host which polls comes to an end.
    fn cuStreamQuery(driver, stream: Handle) {
        let context = driver.current()?;
        let stream = driver.stream(context, stream)?;
        driver.forbid_synchronization(context)?;
        let goals = driver.stream_goals(stream);
        if driver.run_one(&goals) {
            driver.current()?;
            return Err(code::NOT_READY);
        }
        Ok(())
    }

    fn cuStreamGetCtx(driver, stream: Handle, context: *mut Handle) {
        let found = driver.found_stream(stream)?.context;
        // SAFETY: the host gives a place for a handle or null.
        unsafe { put(context, found) }
    }

    fn cuStreamGetFlags(driver, stream: Handle, flags: *mut u32) {
        let found = driver.found_stream(stream)?.flags;
        // SAFETY: the host gives a place for a number or null.
        unsafe { put(flags, found) }
    }

    fn cuStreamGetPriority(driver, stream: Handle, priority: *mut i32) {
        let found = driver.found_stream(stream)?.priority;
        // SAFETY: the host gives a place for a number or null.
        unsafe { put(priority, found) }
    }

    fn cuStreamGetId(driver, stream: Handle, id: *mut u64) {
        let context = driver.current()?;
        let found = driver.stream(context, stream)?;
        // SAFETY: the host gives a place for a number or null.
        unsafe { put(id, found) }
    }
}
