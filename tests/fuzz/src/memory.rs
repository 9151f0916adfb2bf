// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory of exactly the size that a call was promised, so that the address sanitizer sees the first byte beyond it.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};

/// What outputs hold before a call: as a float, no number that the library computes.
pub const CANARY: u8 = 0xA5;

/// A block that starts `offset` bytes after an address divisible by 16 and ends where its allocation ends.
pub struct Memory {
    base: *mut u8,
    offset: usize,
    len: usize,
}

impl Memory {
    pub fn new(len: usize, offset: usize) -> Self {
        let layout = Self::layout(len, offset);
        // SAFETY: the layout's size is not 0.
        let base = unsafe { alloc(layout) };
        if base.is_null() {
            handle_alloc_error(layout);
        }
        // SAFETY: just allocated.
        unsafe { base.write_bytes(CANARY, offset + len) };
        Self { base, offset, len }
    }

    /// An exact copy of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let mut memory = Self::new(bytes.len(), 0);
        memory.bytes_mut().copy_from_slice(bytes);
        memory
    }

    fn layout(len: usize, offset: usize) -> Layout {
        Layout::from_size_align((offset + len).max(1), 16).expect("a few KiB")
    }

    pub fn ptr<T>(&self) -> *mut T {
        // SAFETY: within the allocation, or its end.
        unsafe { self.base.add(self.offset) }.cast()
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `len` bytes follow, all written.
        unsafe { std::slice::from_raw_parts(self.ptr(), self.len) }
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.ptr(), self.len) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.base, Self::layout(self.len, self.offset)) };
    }
}
