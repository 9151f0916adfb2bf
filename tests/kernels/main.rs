//! The CUDA kernels without a GPU. What compilers say of them: registers, shared memory, no spills, for every architecture, and
//! the PTX that the library carries. What they compute: that PTX, run by the interpreter of tests/cuda/ptx, against plain loops.
//!
//! The compilers come from PyPI (tests/cuda/nvrtc.sh). `MNEMO_ACCEPT_KERNELS=1 cargo test --release --test kernels` accepts a
//! change of the kernels: it writes kernels/ptx and tests/kernels/resources-VERSION.txt anew.

mod bounds;
mod data;
mod device;
mod elementwise;
mod empirical;
mod measure;
mod near;
mod nearest;
mod noise;
mod nvrtc;
mod products;
mod reference;
mod resources;

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Compares with the committed file, or replaces it.
fn matches_committed(path: &Path, now: &str) {
    if std::env::var_os("MNEMO_ACCEPT_KERNELS").is_some() {
        std::fs::write(path, now).expect("write");
        return;
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    let differ = committed.lines().zip(now.lines()).find(|(a, b)| a != b);
    assert!(
        committed == now,
        "{} is not what the compiler says (first difference: {differ:?}); if the change is meant, run \
         `MNEMO_ACCEPT_KERNELS=1 cargo test --release --test kernels` and read the difference",
        path.display(),
    );
}
