//! **mnemo** measures, explains and reduces memorization in diffusion models.
//!
//! The product is the C ABI in [`capi`] (`include/mnemo.h`, `libmnemo`); these modules are the safe core beneath it.
//! An arrow points down only: `capi` → `sampler`, `memorization` → `score` → engines (`cpu`, `cuda`) → `dataset`, `tensor`,
//! `process`, `random`, `error`.
#![deny(unsafe_op_in_unsafe_fn, missing_docs, clippy::undocumented_unsafe_blocks)]

pub mod capi;
pub mod cpu;
pub mod cuda;
pub mod dataset;
pub mod engine;
pub mod error;
pub mod exec;
pub mod memorization;
pub mod process;
pub mod random;
pub mod sampler;
pub mod score;
pub mod tensor;
