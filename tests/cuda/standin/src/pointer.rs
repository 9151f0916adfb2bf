//! What the driver knows of a pointer.

use crate::code::{self, Code};
use crate::driver::{Driver, Handle, export};
use std::ffi::c_void;

/// A value and how many of its bytes the host has room for.
struct Answer(u64, usize);

const MEMORY_HOST: u64 = 1;
const MEMORY_DEVICE: u64 = 2;

impl Driver {
    /// An attribute of a pointer; `None` where the pointer is unknown or has no such attribute.
    fn pointer_attribute(&self, attribute: u32, pointer: u64) -> Option<Answer> {
        let device = self.allocation_at(pointer).filter(|(_, allocation)| !allocation.doomed);
        let pinned = self.pinned_range(pointer as usize, 1);
        let context: Handle = match (device, pinned) {
            (Some((_, allocation)), _) => allocation.context,
            (_, Some((_, pinned))) => pinned.context,
            _ => return None,
        };
        let (base, bytes) = match (device, pinned) {
            (Some((base, allocation)), _) => (base, allocation.bytes),
            (_, Some((base, pinned))) => (base as u64, pinned.bytes as u64),
            _ => return None,
        };
        Some(match attribute {
            1 => Answer(context, 8),
            2 => Answer(if device.is_some() { MEMORY_DEVICE } else { MEMORY_HOST }, 4),
            3 if device.is_some() => Answer(pointer, 8),
            4 if device.is_none() => Answer(pointer, 8),
            6 | 8 => Answer(0, 4), // synchronous operations, managed
            7 => Answer(base, 8),  // the allocation's own number
            9 => Answer(self.device_of(context).ok()? as u64, 4),
            11 => Answer(base, 8),
            12 => Answer(bytes, 8),
            13 => Answer(1, 4),
            17 => match device {
                Some((_, allocation)) if allocation.pooled => Answer(self.devices[allocation.device].primary + 1, 8),
                _ => Answer(0, 8),
            },
            _ => return None,
        })
    }
}

/// # Safety
/// The place is null or has room for the answer.
unsafe fn write(place: *mut c_void, Answer(value, bytes): Answer) -> Result<(), Code> {
    if place.is_null() {
        return Err(code::INVALID_VALUE);
    }
    let value = value.to_le_bytes();
    // SAFETY: the caller's promise.
    unsafe { value.as_ptr().copy_to_nonoverlapping(place.cast(), bytes) };
    Ok(())
}

export! {
    fn cuPointerGetAttribute(driver, place: *mut c_void, attribute: u32, pointer: u64) {
        driver.ready()?;
        let answer = driver.pointer_attribute(attribute, pointer).ok_or(code::INVALID_VALUE)?;
        // SAFETY: the host gives room for this attribute or null.
        unsafe { write(place, answer) }
    }

    // Answers nought for what a pointer does not have, and device -2 for an unknown pointer.
    fn cuPointerGetAttributes(driver, count: u32, attributes: *const u32, places: *const *mut c_void, pointer: u64) {
        driver.ready()?;
        if count == 0 || attributes.is_null() || places.is_null() {
            return Err(code::INVALID_VALUE);
        }
        for index in 0..count as usize {
            // SAFETY: the host gives `count` attributes and places.
            let (attribute, place) = unsafe { (*attributes.add(index), *places.add(index)) };
            let nought = match attribute {
                1 | 3 | 4 | 7 | 11 | 12 | 17 => Answer(0, 8),
                2 | 6 | 8 | 13 => Answer(0, 4),
                9 => Answer(-2_i64 as u64, 4),
                _ => return Err(code::INVALID_VALUE),
            };
            // SAFETY: the host gives room for each attribute or null.
            unsafe { write(place, driver.pointer_attribute(attribute, pointer).unwrap_or(nought)) }?;
        }
        Ok(())
    }
}
