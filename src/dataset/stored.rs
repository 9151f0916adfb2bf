//! Where the raw numbers of a data set are: in memory, or in an open file that is too large for it.
//!
//! A file is read by positions, never mapped: one that is cut short later is an error, not a signal. Reading deep inside a
//! kernel cannot return an error, so a failure is kept, what could not be read counts as zeros, and whoever started the
//! work asks [`Stored::check`] before it hands out results. From then on every call with the data set fails: its rows are
//! no longer those that it was made of.

use crate::error::{Error, Result};
use crate::tensor::{Dtype, Values};
use half::{bf16, f16};
use std::fs::{File, Metadata};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::atomic::{AtomicI64, Ordering};

/// Some elements in the machine's own byte order.
#[derive(Clone, Copy)]
pub enum Raw<'a> {
    /// binary32.
    F32(&'a [f32]),
    /// binary64.
    F64(&'a [f64]),
    /// binary16.
    F16(&'a [f16]),
    /// bfloat16.
    Bf16(&'a [bf16]),
    /// 8-bit.
    U8(&'a [u8]),
}

impl Raw<'_> {
    /// How many there are.
    #[inline(always)]
    pub fn len(&self) -> usize {
        match self {
            Self::F32(v) => v.len(),
            Self::F64(v) => v.len(),
            Self::F16(v) => v.len(),
            Self::Bf16(v) => v.len(),
            Self::U8(v) => v.len(),
        }
    }
}

/// The elements of all rows, row after row.
#[derive(Debug)]
pub enum Stored {
    /// In memory.
    Memory(Values),
    /// In a file.
    File(Elements),
}

impl Stored {
    /// The element type.
    pub fn dtype(&self) -> Dtype {
        match self {
            Self::Memory(values) => values.dtype(),
            Self::File(file) => file.dtype,
        }
    }

    /// Whether something could not be read.
    #[inline(always)]
    pub fn failed(&self) -> bool {
        matches!(self, Self::File(file) if file.failure.load(Ordering::Relaxed) != 0)
    }

    /// [`Error::Io`] if something could not be read, or the file is no longer as it was when it was opened.
    pub fn check(&self) -> Result<()> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::File(file) => file.check(),
        }
    }
}

#[inline(always)]
fn in_memory(values: &Values, range: Range<usize>) -> Raw<'_> {
    match values {
        Values::F32(v) => Raw::F32(&v[range]),
        Values::F64(v) => Raw::F64(&v[range]),
        Values::F16(v) => Raw::F16(&v[range]),
        Values::Bf16(v) => Raw::Bf16(&v[range]),
        Values::U8(v) => Raw::U8(&v[range]),
    }
}

/// What tells that a file was written to: its size, and when it was last modified.
type Stamp = (u64, i64, i64);

fn stamp(of: &Metadata) -> Stamp {
    (of.size(), of.mtime(), of.mtime_nsec())
}

/// The elements of an array in a file.
#[derive(Debug)]
pub struct Elements {
    file: File,
    name: String,
    /// The first byte of the first element.
    start: u64,
    dtype: Dtype,
    /// Whether the bytes of an element have to be turned round.
    foreign: bool,
    opened: Stamp,
    /// 0, the operating system's error number, or [`CHANGED`].
    failure: AtomicI64,
}

const CHANGED: i64 = -1;

impl Elements {
    /// The elements of type `dtype` that begin at byte `start` of `file` and end with it; `name` is for messages.
    pub fn new(file: File, name: String, start: u64, dtype: Dtype, big_endian: bool) -> Result<Self> {
        let opened = stamp(&file.metadata().map_err(|e| Error::io(&name, &e))?);
        let foreign = big_endian != cfg!(target_endian = "big");
        Ok(Self { file, name, start, dtype, foreign, opened, failure: AtomicI64::new(0) })
    }

    /// Fills `bytes` with the elements that begin at number `first`.
    #[inline(never)]
    fn read(&self, first: usize, bytes: &mut [u8]) {
        let size = self.dtype.size();
        if self.failure.load(Ordering::Relaxed) == 0
            && let Err(e) = self.file.read_exact_at(bytes, self.start + first as u64 * size as u64)
        {
            self.fail(&e);
        }
        if self.failure.load(Ordering::Relaxed) != 0 {
            bytes.fill(0);
        }
        if self.foreign {
            fn turn<const SIZE: usize>(bytes: &mut [u8]) {
                bytes.as_chunks_mut::<SIZE>().0.iter_mut().for_each(|element| element.reverse());
            }
            match size {
                2 => turn::<2>(bytes),
                4 => turn::<4>(bytes),
                8 => turn::<8>(bytes),
                _ => {}
            }
        }
    }

    fn fail(&self, e: &std::io::Error) {
        // The end of the file was not there when it was opened.
        self.failure.store(e.raw_os_error().map_or(CHANGED, i64::from), Ordering::Relaxed);
    }

    fn check(&self) -> Result<()> {
        if self.failure.load(Ordering::Relaxed) == 0 {
            match self.file.metadata() {
                Ok(now) if stamp(&now) == self.opened => return Ok(()),
                Ok(_) => self.failure.store(CHANGED, Ordering::Relaxed),
                Err(e) => self.fail(&e),
            }
        }
        match i32::try_from(self.failure.load(Ordering::Relaxed)) {
            Ok(native @ 1..) => Err(Error::io(&self.name, &std::io::Error::from_raw_os_error(native))),
            _ => Err(Error::file(format!(
                "{}: the file was changed or cut short after the data set was made of it, which reads its rows from there \
                 because they exceed the context's memory_limit",
                self.name
            ))),
        }
    }
}

/// Bytes on a boundary that suits every element type.
#[repr(align(64))]
struct Block<const BYTES: usize>([u8; BYTES]);

impl<const BYTES: usize> Block<BYTES> {
    #[inline(always)]
    fn elements(&self, dtype: Dtype, range: Range<usize>) -> Raw<'_> {
        #[inline(always)]
        fn of<T>(bytes: &[u8], range: Range<usize>) -> &[T] {
            // SAFETY: used below for numbers alone, of which any bytes are one.
            let (before, elements, _) = unsafe { bytes.align_to::<T>() };
            debug_assert!(before.is_empty());
            &elements[range]
        }
        match dtype {
            Dtype::F64 => Raw::F64(of(&self.0, range)),
            Dtype::F32 => Raw::F32(of(&self.0, range)),
            Dtype::F16 => Raw::F16(of(&self.0, range)),
            Dtype::Bf16 => Raw::Bf16(of(&self.0, range)),
            _ => Raw::U8(&self.0[range]),
        }
    }
}

/// Reads elements in order; of a file, `BYTES` at a time into a block on the stack.
pub struct Reader<'a, const BYTES: usize> {
    stored: &'a Stored,
    /// Elements from here on will not be asked for.
    end: usize,
    /// Absent where the elements are in memory anyway.
    block: Option<Block<BYTES>>,
    /// The elements in the block.
    held: Range<usize>,
}

impl<'a, const BYTES: usize> Reader<'a, BYTES> {
    /// A reader that is not expected to read beyond element `end`.
    #[inline(always)]
    pub fn new(stored: &'a Stored, end: usize) -> Self {
        let block = match stored {
            Stored::Memory(_) => None,
            Stored::File(_) => Some(Block([0; BYTES])),
        };
        Self { stored, end, block, held: 0..0 }
    }

    /// The elements of `range`, which is not empty, as far as they are at hand: at least one.
    #[inline(always)]
    pub fn part(&mut self, range: Range<usize>) -> Raw<'_> {
        match (self.stored, &mut self.block) {
            (Stored::File(file), Some(block)) => {
                if !self.held.contains(&range.start) {
                    let size = file.dtype.size();
                    let count = (self.end.max(range.end) - range.start).min(BYTES / size);
                    file.read(range.start, &mut block.0[..count * size]);
                    self.held = range.start..range.start + count;
                }
                let end = self.held.end.min(range.end);
                block.elements(file.dtype, range.start - self.held.start..end - self.held.start)
            }
            (Stored::Memory(values), _) => in_memory(values, range),
            (Stored::File(_), None) => unreachable!("made by `new`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder opens like a file and refuses to be read, as a disk that fails would.
    #[test]
    fn what_the_system_answers_is_the_error() {
        const EISDIR: i32 = 21;
        let folder = tempfile::tempdir().unwrap();
        let file = File::open(folder.path()).unwrap();
        let stored = Stored::File(Elements::new(file, "the folder".into(), 0, Dtype::F32, false).unwrap());
        stored.check().unwrap();
        let mut reader = Reader::<64>::new(&stored, 100);
        for (at, expected) in [(0, 16), (16, 16), (32, 8), (33, 7)] {
            let Raw::F32(values) = reader.part(at..40) else { panic!("another type") };
            assert_eq!(values, vec![0.0; expected]);
        }
        assert!(stored.failed());
        // It lasts.
        for _ in 0..2 {
            let Err(Error::Io { message, native: EISDIR }) = stored.check() else { panic!("no error") };
            assert!(message.starts_with("the folder: "), "{message}");
        }
    }
}
