//! Shared memory of a block.

use crate::memory::{is_marked, mark};

pub(crate) struct Shared {
    pub data: Vec<u8>,
    written: Vec<u8>,
    pub order: Clocks,
}

/// What orders the warps of a block.
#[derive(Default)]
pub(crate) struct Clocks;

impl Clocks {
    pub fn arrive(&mut self, _barrier: u32, _warp: u32) {}
    pub fn complete(&mut self, _barrier: u32) {}
    pub fn wake(&mut self, _barrier: u32, _warp: u32) {}
}

impl Shared {
    pub fn new(bytes: u32, _grain: u32, _warps: u32) -> Shared {
        let length = bytes as usize;
        Shared { data: vec![0xa5; length], written: vec![0; length.div_ceil(8) + 8], order: Clocks }
    }

    pub fn start_block(&mut self) {
        self.data.fill(0xa5);
        self.written.fill(0);
    }

    #[inline(always)]
    pub fn is_written(&self, offset: usize, bytes: usize) -> bool {
        is_marked(&self.written, offset, bytes)
    }

    #[inline(always)]
    pub fn mark_written(&mut self, offset: usize, bytes: usize) {
        mark(&mut self.written, offset, bytes);
    }
}
