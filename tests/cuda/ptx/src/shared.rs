//! Shared memory of a block.

use crate::memory::{is_marked, mark};
use crate::race::{Clocks, Marks};

/// Copies under way are known by words of this many bytes.
const WORD: u32 = 4;

pub(crate) struct Shared {
    pub data: Vec<u8>,
    written: Vec<u8>,
    /// Words that a `cp.async` is still writing, and how many.
    copied: Vec<bool>,
    under_way: u32,
    pub marks: Marks,
    pub order: Clocks,
}

impl Shared {
    pub fn new(bytes: u32, grain: u32, warps: u32) -> Shared {
        let length = bytes as usize;
        let mut marks = Marks::default();
        marks.prepare(length, grain);
        Shared {
            data: vec![0xa5; length],
            written: vec![0; length.div_ceil(8) + 8],
            copied: vec![false; length.div_ceil(WORD as usize)],
            under_way: 0,
            marks,
            order: Clocks::new(warps),
        }
    }

    pub fn start_block(&mut self) {
        // What nobody wrote is not zero: a test that forgets the check still sees nonsense.
        self.data.fill(0xa5);
        self.written.fill(0);
        if self.under_way > 0 {
            self.copied.fill(false);
            self.under_way = 0;
        }
        self.order.start_block();
    }

    #[inline(always)]
    pub fn is_written(&self, offset: usize, bytes: usize) -> bool {
        is_marked(&self.written, offset, bytes)
    }

    #[inline(always)]
    pub fn mark_written(&mut self, offset: usize, bytes: usize) {
        mark(&mut self.written, offset, bytes);
    }

    /// Whether a copy under way writes here.
    #[inline(always)]
    pub fn is_copied(&self, offset: usize, bytes: usize) -> bool {
        self.under_way > 0 && self.copied[offset / WORD as usize..=(offset + bytes - 1) / WORD as usize].contains(&true)
    }

    pub fn begin_copy(&mut self, offset: u32, bytes: u32) {
        self.copied[(offset / WORD) as usize..((offset + bytes) / WORD) as usize].fill(true);
        self.under_way += bytes / WORD;
    }

    pub fn end_copy(&mut self, offset: u32, bytes: u32) {
        self.copied[(offset / WORD) as usize..((offset + bytes) / WORD) as usize].fill(false);
        self.under_way -= bytes / WORD;
    }
}
