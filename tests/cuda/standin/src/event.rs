//! Events: marks in a stream.

use crate::code::{self, Code};
use crate::driver::{Driver, Handle, export, put};
use crate::operation::Operation;
use crate::queue::Ticket;
use std::time::Instant;

pub struct Event {
    pub context: Handle,
    pub flags: u32,
    pub mark: Mark,
    time: Option<Instant>,
}

/// Where an event was recorded last.
#[derive(Clone, PartialEq, Eq)]
pub enum Mark {
    Never,
    Queued(Ticket),
    /// In a capture, after these nodes of it.
    Captured(Handle, Vec<usize>),
}

const DISABLE_TIMING: u32 = 2;
const INTERPROCESS: u32 = 4;

impl Event {
    /// The record with this ticket has run.
    pub fn reached(&mut self, ticket: Ticket, time: Instant) {
        if self.mark == Mark::Queued(ticket) {
            self.time = Some(time);
        }
    }
}

impl Driver {
    fn event(&mut self, handle: Handle) -> Result<&mut Event, Code> {
        self.events.get_mut(&handle).ok_or(code::INVALID_HANDLE)
    }

    fn record(&mut self, event: Handle, stream: Handle) -> Result<(), Code> {
        let context = self.current()?;
        let stream = self.stream(context, stream)?;
        if self.event(event)?.context != context {
            return Err(code::INVALID_HANDLE);
        }
        let mark = match self.streams[&stream].capture {
            Some(capture) => Mark::Captured(capture, self.captures.tail(capture, stream)?),
            None => {
                self.forbid_legacy_in_capture(stream)?;
                // The mark comes first: the record may run at once.
                let ticket = self.queue.next_ticket();
                let found = self.event(event)?;
                (found.mark, found.time) = (Mark::Queued(ticket), None);
                self.enqueue_in(stream, Operation::Record { event }, &[])?;
                return Ok(());
            }
        };
        self.event(event)?.mark = mark;
        Ok(())
    }

    /// The ticket to wait for, if the event's work is still queued.
    fn awaited(&mut self, event: Handle) -> Result<Option<Ticket>, Code> {
        self.check_event(event)?;
        match self.event(event)?.mark {
            Mark::Never => Ok(None),
            Mark::Queued(ticket) => Ok(Some(ticket).filter(|&ticket| self.queue.is_pending(ticket))),
            Mark::Captured(capture, _) => {
                self.captures.invalidate(capture);
                Err(code::CAPTURED_EVENT)
            }
        }
    }

    /// Another context's error counts where its event is asked for.
    fn check_event(&mut self, event: Handle) -> Result<(), Code> {
        let context = self.event(event)?.context;
        let failed = self.contexts.get(&context).and_then(|context| context.failed);
        failed.map_or(Ok(()), Err)
    }

    fn elapsed(&mut self, place: *mut f32, start: Handle, end: Handle) -> Result<(), Code> {
        self.current()?;
        let mut times = [None; 2];
        for (event, time) in [start, end].into_iter().zip(&mut times) {
            if self.awaited(event)?.is_some() {
                return Err(code::NOT_READY);
            }
            let event = self.event(event)?;
            if event.flags & DISABLE_TIMING != 0 {
                return Err(code::INVALID_HANDLE);
            }
            *time = event.time;
        }
        let [Some(start), Some(end)] = times else { return Err(code::INVALID_HANDLE) };
        let seconds = match end.checked_duration_since(start) {
            Some(forward) => forward.as_secs_f32(),
            None => -(start - end).as_secs_f32(),
        };
        // SAFETY: the host gives a place for a number or null.
        unsafe { put(place, 1e3 * seconds) }
    }
}

export! {
    fn cuEventCreate(driver, event: *mut Handle, flags: u32) {
        let context = driver.current()?;
        if flags > 7 || (flags & INTERPROCESS != 0 && flags & DISABLE_TIMING == 0) {
            return Err(code::INVALID_VALUE);
        }
        let handle = driver.handle();
        // SAFETY: the host gives a place for a handle or null.
        unsafe { put(event, handle) }?;
        driver.events.insert(handle, Event { context, flags, mark: Mark::Never, time: None });
        Ok(())
    }

    fn cuEventDestroy_v2(driver, event: Handle) {
        let answer = driver.current();
        driver.events.remove(&event).ok_or(code::INVALID_HANDLE)?;
        answer.map(|_| ())
    }

    fn cuEventRecord(driver, event: Handle, stream: Handle) {
        driver.record(event, stream)
    }

    fn cuEventRecordWithFlags(driver, event: Handle, stream: Handle, flags: u32) {
        if flags != 0 {
            return Err(code::NOT_SUPPORTED);
        }
        driver.record(event, stream)
    }

    fn cuEventQuery(driver, event: Handle) {
        let context = driver.current()?;
        let awaited = driver.awaited(event)?;
        driver.forbid_synchronization(context)?;
        let Some(ticket) = awaited else { return Ok(()) };
        driver.run_one(&[ticket]);
        driver.check_event(event)?;
        Err(code::NOT_READY)
    }

    fn cuEventSynchronize(driver, event: Handle) {
        let context = driver.current()?;
        let awaited = driver.awaited(event)?;
        driver.forbid_synchronization(context)?;
        driver.totals.synchronizations += 1;
        if let Some(ticket) = awaited {
            driver.run_until(&[ticket]);
        }
        driver.check_event(event)
    }

    fn cuEventElapsedTime(driver, milliseconds: *mut f32, start: Handle, end: Handle) {
        driver.elapsed(milliseconds, start, end)
    }

    fn cuEventElapsedTime_v2(driver, milliseconds: *mut f32, start: Handle, end: Handle) {
        driver.elapsed(milliseconds, start, end)
    }

    fn cuStreamWaitEvent(driver, stream: Handle, event: Handle, flags: u32) {
        let context = driver.current()?;
        let stream = driver.stream(context, stream)?;
        if flags > 1 {
            return Err(code::INVALID_VALUE);
        }
        match driver.event(event)?.mark.clone() {
            Mark::Never => Ok(()),
            Mark::Captured(capture, nodes) => driver.join_capture(capture, stream, &nodes),
            Mark::Queued(ticket) => match driver.streams[&stream].capture {
                Some(capture) => {
                    driver.captures.invalidate(capture);
                    Err(code::CAPTURE_ISOLATION)
                }
                None => driver.submit_after(stream, Operation::Nothing, &[ticket]),
            },
        }
    }
}
