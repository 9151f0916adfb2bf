// SPDX-License-Identifier: MIT OR Apache-2.0
//! The fuzzer's bytes as arguments.

/// Reads numbers from the front; past the end everything is 0, so that every input is a whole call.
pub struct Input<'a>(&'a [u8]);

/// Doubles that have gone wrong somewhere before.
const ODD: [f64; 16] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    1e-3,
    80.0,
    f64::NAN,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::MIN_POSITIVE,
    5e-324,
    1e-160,
    1e100,
    1.0000000000000002e100,
    f64::MAX,
];

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        let n = N.min(self.0.len());
        bytes[..n].copy_from_slice(&self.0[..n]);
        self.0 = &self.0[n..];
        bytes
    }

    pub fn u8(&mut self) -> u8 {
        u8::from_le_bytes(self.bytes())
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        usize::from(self.u8()) % n
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Mostly small, sometimes anything.
    pub fn u32(&mut self) -> u32 {
        match self.u8() {
            255 => u32::from_le_bytes(self.bytes()),
            small => u32::from(small % 16),
        }
    }

    /// Mostly small, sometimes anything.
    pub fn i64(&mut self) -> i64 {
        match self.u8() {
            255 => i64::from_le_bytes(self.bytes()),
            254 => i64::MAX,
            253 => i64::MIN,
            252 => 1 << self.below(63),
            small => i64::from(small.cast_signed()),
        }
    }

    /// Mostly a multiple of 1/16 up to 8, sometimes odd, sometimes any bits.
    pub fn f64(&mut self) -> f64 {
        match self.u8() {
            255 => f64::from_le_bytes(self.bytes()),
            odd @ 224..255 => ODD[usize::from(odd % 16)],
            small => f64::from(small.cast_signed()) / 16.0,
        }
    }

    /// The next `n` bytes, or as many as there are.
    pub fn slice(&mut self, n: usize) -> &'a [u8] {
        let (head, tail) = self.0.split_at(n.min(self.0.len()));
        self.0 = tail;
        head
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        self.slice(usize::MAX)
    }
}
