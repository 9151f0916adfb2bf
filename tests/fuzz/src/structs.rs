// SPDX-License-Identifier: MIT OR Apache-2.0
//! Structs that begin with their size, as a host of another version, or a careless one, passes them.

use crate::input::Input;
use crate::memory::{CANARY, Memory};
use mnemo::capi::status::*;
use std::marker::PhantomData;

/// Larger sizes are refused unread.
const LARGEST: usize = 64 << 10;

/// A struct in memory of as many bytes as its size says, or NULL.
pub struct Struct<T> {
    memory: Option<Memory>,
    before: Vec<u8>,
    /// The status that the struct itself deserves, if the rest of the call is good.
    pub deserves: Option<i32>,
    kind: PhantomData<T>,
}

type Init<T> = unsafe extern "C" fn(*mut T, usize);

impl<T> Struct<T> {
    /// A struct as `init` fills it, with up to five fields changed; the fields at the offsets `pointers` are NULL.
    pub fn any(input: &mut Input, init: Init<T>, pointers: &[usize]) -> Self {
        let full = size_of::<T>();
        let (claimed, offset) = match input.u8() {
            0..200 => (full, 0),
            200..230 => (8 + 8 * input.below(full / 8), 0),
            230..240 => (full + 8 + 8 * input.below(16), 0),
            240..246 => (usize::from(input.u8()), 0),
            246..250 => (u32::from_le_bytes(input.bytes()) as usize, 0),
            250..254 => (full, 1 + input.below(7)),
            _ => return Self { memory: None, before: Vec::new(), deserves: None, kind: PhantomData },
        };
        let refused = offset > 0 || claimed < 8 || claimed > LARGEST || !claimed.is_multiple_of(8);
        let len = if claimed > LARGEST { 4 } else { claimed.max(4) };
        let mut memory = Memory::new(len, offset);
        // SAFETY: `len` bytes are there.
        unsafe { init(memory.ptr(), len) };
        let bytes = memory.bytes_mut();
        for _ in 0..input.below(6) {
            let at = 8 * input.below(len.min(full).div_ceil(8));
            let (at, value) = match input.below(4) {
                0 => (at, input.f64().to_ne_bytes()),
                1 => (at, input.i64().to_ne_bytes()),
                half => (at + 4 * (half - 2), u64::from(input.u32()).to_ne_bytes()),
            };
            let width = if at % 8 == 4 { 4 } else { 8 }.min(len.saturating_sub(at));
            bytes[at.min(len)..][..width].copy_from_slice(&value[..width]);
        }
        for &at in pointers.iter().filter(|&&at| at < len) {
            bytes[at..len.min(at + 8)].fill(0);
        }
        let known = len.min(full);
        if len > full {
            bytes[full..].fill(0);
            if input.below(2) == 1 {
                bytes[full + input.below(len - full)] = 1 + input.u8() % 255;
            }
        }
        let tail = bytes[known..].iter().any(|&b| b != 0);
        bytes[..4].copy_from_slice(&(claimed as u32).to_ne_bytes());
        let deserves = if refused {
            Some(MNEMO_E_INVALID)
        } else if tail {
            Some(MNEMO_E_UNSUPPORTED)
        } else {
            None
        };
        let before = memory.bytes().to_vec();
        Self { memory: Some(memory), before, deserves, kind: PhantomData }
    }

    pub fn is_null(&self) -> bool {
        self.memory.is_none()
    }

    pub fn ptr(&self) -> *mut T {
        self.memory.as_ref().map_or(std::ptr::null_mut(), Memory::ptr)
    }

    /// Writes a field, if the struct reaches that far.
    pub fn set<F: Copy>(&mut self, at: usize, value: F) {
        if let Some(memory) = &mut self.memory
            && at + size_of::<F>() <= memory.bytes().len()
        {
            // SAFETY: within the block.
            unsafe { memory.ptr::<u8>().add(at).cast::<F>().write_unaligned(value) };
            self.before = memory.bytes().to_vec();
        }
    }

    /// A field of numbers, if the struct reaches that far.
    pub fn get<F: Copy>(&self, at: usize) -> Option<F> {
        let memory = self.memory.as_ref().filter(|m| at + size_of::<F>() <= m.bytes().len())?;
        // SAFETY: within the block; callers ask for numbers.
        Some(unsafe { memory.ptr::<u8>().add(at).cast::<F>().read_unaligned() })
    }

    /// The call must not have changed it.
    pub fn check_unchanged(&self) {
        assert!(self.memory.as_ref().is_none_or(|m| m.bytes() == self.before), "a struct was changed");
    }

    /// A struct that the call fills: of `value` as much as fits after the size, and nothing else, or nothing on failure.
    pub fn check_filled(&self, status: i32, value: &T) {
        let Some(memory) = &self.memory else { return };
        if status != MNEMO_OK {
            return self.check_unchanged();
        }
        // SAFETY: `value` is a repr(C) struct without padding.
        let value = unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast::<u8>(), size_of::<T>()) };
        let mut expected = self.before.clone();
        let known = expected.len().min(value.len());
        expected[4..known].copy_from_slice(&value[4..known]);
        assert_eq!(memory.bytes(), expected, "not what the struct should hold");
    }

    /// `status` is what the struct deserves, if it deserves one.
    pub fn check_status(&self, status: i32) {
        if let Some(deserved) = self.deserves {
            assert_eq!(status, deserved, "the struct alone deserves {deserved}");
        }
    }
}

/// An init function fills what this version knows and clears the rest, of any size.
pub fn check_init<T>(input: &mut Input, init: Init<T>) {
    let size = match input.u8() {
        255 => usize::from(u16::from_le_bytes(input.bytes())),
        small => usize::from(small),
    };
    let (memory, whole) = (Memory::new(size, input.below(8)), Memory::new(size_of::<T>(), 0));
    // SAFETY: the blocks have these sizes.
    unsafe {
        init(memory.ptr(), size);
        init(whole.ptr(), size_of::<T>());
    }
    if size < 4 {
        return assert!(memory.bytes().iter().all(|&b| b == CANARY), "an init function wrote beyond {size} bytes");
    }
    let known = size.min(size_of::<T>());
    assert_eq!(memory.bytes()[..4], (size as u32).to_ne_bytes());
    assert_eq!(memory.bytes()[4..known], whole.bytes()[4..known]);
    assert!(memory.bytes()[known..].iter().all(|&b| b == 0));
}
