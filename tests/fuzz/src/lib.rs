// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the fuzz targets share: an input that never ends, memory of exactly the promised size, and the promises that every
//! call keeps whatever it is given. A broken promise is an assertion of the target, which libFuzzer reports like a crash.
#![allow(clippy::missing_safety_doc)]

pub mod calls;
pub mod hosts;
pub mod input;
pub mod memory;
pub mod structs;
pub mod tensors;
pub mod world;
