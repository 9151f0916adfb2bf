//! Copies and fills.
//!
//! Copies that wait go through the legacy stream, as in the driver: they know nothing of non-blocking streams.
//! Pageable host memory is read at the call; a copy into it makes the call wait.

use crate::code::{self, Code};
use crate::driver::{Driver, Handle, export};
use crate::operation::{Operation, Pattern};

/// `CUDA_MEMCPY2D`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Rectangle {
    source_x: usize,
    source_y: usize,
    source_type: u32,
    source_host: usize,
    source_device: u64,
    source_array: usize,
    source_pitch: usize,
    target_x: usize,
    target_y: usize,
    target_type: u32,
    target_host: usize,
    target_device: u64,
    target_array: usize,
    target_pitch: usize,
    width: usize,
    height: usize,
}

/// Where one end of a copy lies.
#[derive(Clone, Copy)]
enum Place {
    Host(usize),
    Device(u64),
}

impl Place {
    fn offset(self, bytes: usize) -> Self {
        match self {
            Self::Host(address) => Self::Host(address + bytes),
            Self::Device(address) => Self::Device(address + bytes as u64),
        }
    }
}

/// Bytes that are copied, as rows of `width` that lie `pitches` apart.
struct Block {
    to: Place,
    from: Place,
    width: usize,
    height: usize,
    pitches: (usize, usize),
}

impl Block {
    fn row(to: Place, from: Place, bytes: usize) -> Self {
        Self { to, from, width: bytes, height: 1, pitches: (bytes, bytes) }
    }

    fn rectangle(rectangle: &Rectangle) -> Result<Self, Code> {
        let Rectangle { width, height, source_pitch, target_pitch, .. } = *rectangle;
        if (height > 1) && (source_pitch < width || target_pitch < width) {
            return Err(code::INVALID_VALUE);
        }
        let place = |kind, host, device| match kind {
            1 => Ok(Place::Host(host)),
            2 => Ok(Place::Device(device)),
            _ => Err(code::NOT_SUPPORTED),
        };
        let from = place(rectangle.source_type, rectangle.source_host, rectangle.source_device)?;
        let to = place(rectangle.target_type, rectangle.target_host, rectangle.target_device)?;
        Ok(Self {
            to: to.offset(rectangle.target_y * target_pitch + rectangle.target_x),
            from: from.offset(rectangle.source_y * source_pitch + rectangle.source_x),
            width,
            height,
            pitches: (target_pitch, source_pitch),
        })
    }

    fn rows(&self) -> impl Iterator<Item = (Place, Place)> {
        (0..self.height).map(|row| (self.to.offset(row * self.pitches.0), self.from.offset(row * self.pitches.1)))
    }
}

impl Driver {
    /// Host memory of a copy: not null and no device memory. Whether it is pinned.
    fn host_range(&self, address: usize, bytes: usize) -> Result<bool, Code> {
        if address == 0 || self.device_range(address as u64, 1).is_ok() {
            return Err(code::INVALID_VALUE);
        }
        Ok(self.pinned_range(address, bytes).is_some())
    }

    /// The operation for one row, and whether the call has to wait for it.
    fn row(&self, to: Place, from: Place, bytes: usize, waits: bool) -> Result<(Operation, bool), Code> {
        match (to, from) {
            (Place::Device(address), Place::Host(host)) => {
                self.device_range(address, bytes)?;
                let pinned = self.host_range(host, bytes)?;
                if pinned || waits {
                    return Ok((Operation::WriteFrom { address, host, bytes, pinned }, waits));
                }
                // SAFETY: the host promises `bytes` bytes.
                let source = unsafe { std::slice::from_raw_parts(host as *const u8, bytes) };
                Ok((Operation::Write { address, bytes: source.into() }, false))
            }
            (Place::Host(host), Place::Device(address)) => {
                self.device_range(address, bytes)?;
                let pinned = self.host_range(host, bytes)?;
                Ok((Operation::ReadInto { host, address, bytes, pinned }, waits || !pinned))
            }
            (Place::Device(to), Place::Device(from)) => {
                self.device_range(to, bytes)?;
                self.device_range(from, bytes)?;
                Ok((Operation::Copy { to, from, bytes: bytes as u64 }, waits))
            }
            (Place::Host(_), Place::Host(_)) => Err(code::NOT_SUPPORTED),
        }
    }

    /// Copies; `stream` is where, or nothing for a copy that waits.
    fn copy_block(&mut self, block: &Block, stream: Option<Handle>) -> Result<(), Code> {
        let context = self.current()?;
        let handle = self.stream(context, stream.unwrap_or(0))?;
        if stream.is_none() {
            self.forbid_synchronization(context)?;
        }
        self.totals.copies += 1;
        if block.width == 0 || block.height == 0 {
            return Ok(());
        }
        let mut waits = stream.is_none();
        let mut rows = Vec::with_capacity(block.height);
        for (to, from) in block.rows() {
            let (row, row_waits) = self.row(to, from, block.width, stream.is_none())?;
            waits |= row_waits;
            rows.push(row);
        }
        let pageable = rows.iter().any(|row| match row {
            Operation::Write { .. } => true,
            Operation::WriteFrom { pinned, .. } | Operation::ReadInto { pinned, .. } => !pinned,
            _ => false,
        });
        if pageable {
            self.forbid_captured(handle)?;
        }
        if waits {
            self.forbid_synchronization(context)?;
            self.totals.waits += 1;
        }
        let operation = match <[Operation; 1]>::try_from(rows) {
            Ok([row]) => row,
            Err(rows) => Operation::Rows(rows),
        };
        self.submit(handle, operation)?;
        if waits {
            self.wait_for_stream(handle);
        }
        self.current().map(|_| ())
    }

    fn fill(&mut self, address: u64, pattern: Pattern, count: usize, stream: Handle) -> Result<(), Code> {
        let context = self.current()?;
        let stream = self.stream(context, stream)?;
        let bytes = count.checked_mul(pattern.bytes()).ok_or(code::INVALID_VALUE)?;
        if !address.is_multiple_of(pattern.bytes() as u64) {
            return Err(code::INVALID_VALUE);
        }
        if bytes == 0 {
            return Ok(());
        }
        self.device_range(address, bytes)?;
        self.totals.fills += 1;
        self.submit(stream, Operation::Fill { address, pattern, count })
    }

    fn copy_rectangle(&mut self, rectangle: *const Rectangle, stream: Option<Handle>) -> Result<(), Code> {
        // SAFETY: the host gives a description or null.
        let rectangle = unsafe { rectangle.as_ref() }.ok_or(code::INVALID_VALUE)?;
        self.copy_block(&Block::rectangle(rectangle)?, stream)
    }
}

export! {
    fn cuMemcpyHtoD_v2(driver, to: u64, from: usize, bytes: usize) {
        driver.copy_block(&Block::row(Place::Device(to), Place::Host(from), bytes), None)
    }

    fn cuMemcpyDtoH_v2(driver, to: usize, from: u64, bytes: usize) {
        driver.copy_block(&Block::row(Place::Host(to), Place::Device(from), bytes), None)
    }

    // Within a device the host does not wait, as in the driver.
    fn cuMemcpyDtoD_v2(driver, to: u64, from: u64, bytes: usize) {
        driver.copy_block(&Block::row(Place::Device(to), Place::Device(from), bytes), Some(0))
    }

    fn cuMemcpyHtoDAsync_v2(driver, to: u64, from: usize, bytes: usize, stream: Handle) {
        driver.copy_block(&Block::row(Place::Device(to), Place::Host(from), bytes), Some(stream))
    }

    fn cuMemcpyDtoHAsync_v2(driver, to: usize, from: u64, bytes: usize, stream: Handle) {
        driver.copy_block(&Block::row(Place::Host(to), Place::Device(from), bytes), Some(stream))
    }

    fn cuMemcpyDtoDAsync_v2(driver, to: u64, from: u64, bytes: usize, stream: Handle) {
        driver.copy_block(&Block::row(Place::Device(to), Place::Device(from), bytes), Some(stream))
    }

    fn cuMemcpyPeerAsync(driver, to: u64, to_context: Handle, from: u64, from_context: Handle, bytes: usize, stream: Handle) {
        driver.current()?;
        for (address, context) in [(to, to_context), (from, from_context)] {
            if driver.device_range(address, bytes)? != driver.device_of(context)? {
                return Err(code::INVALID_VALUE);
            }
        }
        driver.copy_block(&Block::row(Place::Device(to), Place::Device(from), bytes), Some(stream))
    }

    fn cuMemcpy2D_v2(driver, rectangle: *const Rectangle) {
        driver.copy_rectangle(rectangle, None)
    }

    fn cuMemcpy2DAsync_v2(driver, rectangle: *const Rectangle, stream: Handle) {
        driver.copy_rectangle(rectangle, Some(stream))
    }

    fn cuMemsetD8_v2(driver, address: u64, byte: u8, count: usize) {
        driver.fill(address, Pattern::Byte(byte), count, 0)
    }

    fn cuMemsetD32_v2(driver, address: u64, word: u32, count: usize) {
        driver.fill(address, Pattern::Word(word), count, 0)
    }

    fn cuMemsetD8Async(driver, address: u64, byte: u8, count: usize, stream: Handle) {
        driver.fill(address, Pattern::Byte(byte), count, stream)
    }

    fn cuMemsetD32Async(driver, address: u64, word: u32, count: usize, stream: Handle) {
        driver.fill(address, Pattern::Word(word), count, stream)
    }
}
