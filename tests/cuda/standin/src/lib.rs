//! Stands in for NVIDIA's driver (`libcuda.so.1`) on a machine without a GPU, for tests only.
//!
//! Kernels run in a PTX interpreter. All else behaves as the driver documents it or more strictly: see README.md.

// The driver's names are given.
#![allow(non_snake_case)]
#![deny(unsafe_op_in_unsafe_fn)]

mod capture;
mod code;
mod context;
mod copy;
mod counters;
mod device;
mod driver;
mod event;
mod failure;
mod function;
mod graph;
mod host_memory;
mod interpreter;
mod launch;
mod memory;
mod module;
mod operation;
mod pointer;
mod queue;
mod report;
mod settings;
mod stream;
mod symbol;
