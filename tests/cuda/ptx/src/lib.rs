#![doc = include_str!("../README.md")]

mod access;
mod atomic;
mod convert;
mod copies;
mod decode;
mod fault;
mod float;
mod instruction;
mod launch;
mod lexer;
mod machine;
mod matrix;
mod memory;
mod module;
mod operation;
mod race;
mod registers;
mod shared;
mod syntax;
mod types;
mod warp;

pub use fault::{Fault, FaultKind, OtherAccess, ParseError};
pub use launch::{Checks, Launch, Order, Statistics};
pub use memory::{BadAddress, Memory, OutOfMemory};
pub use module::{Kernel, Loaded, Module, Parameter};
