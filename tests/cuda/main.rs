//! The host's side of the CUDA engine, on a stand-in for NVIDIA's driver: what a machine without a GPU can show of it.
//!
//! `tests/cuda/run.sh` runs this with the stand-in's folder in `LD_LIBRARY_PATH`; without a driver every test fails. Each
//! test is a process of its own ([`process::alone`]), because a driver and a compiler are found once in a process.

mod agreement;
mod callbacks;
mod capture;
mod compiler;
mod driver;
mod failures;
mod forks;
mod host;
mod memory;
mod missing;
mod numbers;
mod order;
mod places;
mod process;
mod scene;
