//! Graphs of captured work, and launching them.

use crate::code;
use crate::driver::{Driver, Handle, export, put};
use crate::operation::Operation;
use crate::queue::{Ticket, Work};
use std::sync::Arc;

/// Work and the nodes before it; these have smaller numbers.
#[derive(Clone)]
pub struct Node {
    pub operation: Operation,
    pub after: Vec<usize>,
}

pub struct Graph {
    pub nodes: Arc<[Node]>,
}

/// A graph that can be launched.
pub struct Executable {
    pub context: Handle,
    nodes: Arc<[Node]>,
    /// The end of its last launch: the next waits for it.
    last: Ticket,
}

impl Driver {
    fn launch_graph(&mut self, executable: Handle, stream: Handle) -> Result<(), code::Code> {
        let context = self.current()?;
        let stream = self.stream(context, stream)?;
        let found = self.executables.get(&executable).filter(|e| e.context == context).ok_or(code::INVALID_HANDLE)?;
        let (nodes, last) = (found.nodes.clone(), found.last);
        let lost = nodes.iter().any(|node| match &node.operation {
            Operation::Kernel { function, .. } => !self.functions.contains_key(function),
            _ => false,
        });
        if lost {
            return Err(code::INVALID_HANDLE);
        }
        self.totals.graph_launches += 1;
        if let Some(capture) = self.streams[&stream].capture {
            return self.capture_graph(capture, stream, &nodes);
        }
        self.forbid_legacy_in_capture(stream)?;
        let begin = self.enqueue_in(stream, Operation::Nothing, &[last])?;
        let blocking = self.streams[&stream].is_blocking();
        let mut tickets = Vec::with_capacity(nodes.len());
        for node in nodes.iter() {
            let mut after: Vec<Ticket> = node.after.iter().map(|&node| tickets[node]).collect();
            after.push(begin);
            tickets.push(self.enqueue(Work { context, stream, blocking, after, operation: node.operation.clone() }));
        }
        let end = self.enqueue_in(stream, Operation::Nothing, &tickets)?;
        if let Some(executable) = self.executables.get_mut(&executable) {
            executable.last = end;
        }
        Ok(())
    }
}

export! {
    fn cuGraphInstantiateWithFlags(driver, executable: *mut Handle, graph: Handle, flags: u64) {
        let context = driver.current()?;
        let _ = flags;
        let nodes = driver.graphs.get(&graph).ok_or(code::INVALID_HANDLE)?.nodes.clone();
        let handle = driver.handle();
        // SAFETY: the host gives a place for a handle or null.
        unsafe { put(executable, handle) }?;
        driver.executables.insert(handle, Executable { context, nodes, last: 0 });
        Ok(())
    }

    fn cuGraphUpload(driver, executable: Handle, stream: Handle) {
        let context = driver.current()?;
        driver.stream(context, stream)?;
        if driver.executables.contains_key(&executable) { Ok(()) } else { Err(code::INVALID_HANDLE) }
    }

    fn cuGraphLaunch(driver, executable: Handle, stream: Handle) {
        driver.launch_graph(executable, stream)
    }

    fn cuGraphExecDestroy(driver, executable: Handle) {
        driver.ready()?;
        driver.executables.remove(&executable).map(|_| ()).ok_or(code::INVALID_HANDLE)
    }

    fn cuGraphDestroy(driver, graph: Handle) {
        driver.ready()?;
        driver.graphs.remove(&graph).map(|_| ()).ok_or(code::INVALID_HANDLE)
    }

    // Without a place for the nodes, only how many there are.
    fn cuGraphGetNodes(driver, graph: Handle, nodes: *mut Handle, count: *mut usize) {
        driver.ready()?;
        let found = driver.graphs.get(&graph).ok_or(code::INVALID_HANDLE)?.nodes.len();
        if !nodes.is_null() && !count.is_null() {
            // SAFETY: the host gives room for `count` nodes.
            unsafe {
                for node in 0..found.min(*count) {
                    put(nodes.add(node), graph + 1 + node as u64)?;
                }
            }
        }
        // SAFETY: the host gives a place for a number or null.
        unsafe { put(count, found) }
    }
}
