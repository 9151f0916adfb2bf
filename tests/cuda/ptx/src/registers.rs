//! The registers of one warp: 32 lanes side by side, so that a loop over lanes becomes vector instructions.

use half::{bf16, f16};

/// Every lane.
pub(crate) const ALL: u32 = u32::MAX;

/// 32 lanes of 32 bits. A 64-bit register takes two lines.
#[derive(Clone, Copy)]
#[repr(C, align(128))]
pub(crate) struct Line(pub [u32; 32]);

/// A value a lane can hold.
///
/// # Safety
/// `Stored` is `u32`- or `u64`-sized plain data that any bits are valid for.
pub(crate) unsafe trait Lane: Copy {
    type Stored: Copy;
    fn load(stored: Self::Stored) -> Self;
    fn store(self) -> Self::Stored;
}

macro_rules! lane {
    ($($type:ty as $stored:ty: |$s:ident| $load:expr, |$v:ident| $store:expr;)*) => {$(
        // SAFETY: the stored types are u32, u64, f32 and f64.
        unsafe impl Lane for $type {
            type Stored = $stored;
            #[inline(always)]
            fn load($s: $stored) -> Self { $load }
            #[inline(always)]
            fn store(self) -> $stored { let $v = self; $store }
        }
    )*};
}

lane! {
    u32 as u32: |s| s, |v| v;
    u64 as u64: |s| s, |v| v;
    i32 as i32: |s| s, |v| v;
    i64 as i64: |s| s, |v| v;
    f32 as f32: |s| s, |v| v;
    f64 as f64: |s| s, |v| v;
    u16 as u32: |s| s as u16, |v| u32::from(v);
    i16 as u32: |s| s as i16, |v| u32::from(v as u16);
    f16 as u32: |s| f16::from_bits(s as u16), |v| u32::from(v.to_bits());
    bf16 as u32: |s| bf16::from_bits(s as u16), |v| u32::from(v.to_bits());
}

/// Marks a slot in the bank of constants.
pub(crate) const CONSTANT: u32 = 1 << 31;

/// The registers of a warp and, in a bank of their own, the constants of the module. Slots are line numbers; the decoder
/// hands out only slots that exist, leaves two lines for every 64-bit register, and gives no instruction a constant as its
/// result: that makes the unchecked access below sound.
pub(crate) struct Registers {
    lines: Vec<Line>,
    /// Where the warp's own lines and the constants begin.
    banks: [*mut Line; 2],
}

impl Registers {
    /// Registers in `lines`, whose old values are forgotten. `constants` must outlive them.
    pub fn new(mut lines: Vec<Line>, count: usize, constants: &[Line]) -> Registers {
        lines.clear();
        lines.resize(count, Line([0; 32]));
        let banks = [lines.as_mut_ptr(), constants.as_ptr().cast_mut()];
        Registers { lines, banks }
    }

    /// The lines, for another use.
    pub fn into_lines(self) -> Vec<Line> {
        self.lines
    }

    #[inline(always)]
    fn line(&self, slot: u32) -> *mut Line {
        let (bank, line) = ((slot >> 31) as usize, (slot & !CONSTANT) as usize);
        debug_assert!(bank == 1 || line < self.lines.len());
        // SAFETY: the slot lies within its bank, see the type.
        unsafe { self.banks[bank].add(line) }
    }

    /// The lanes of the register at `slot`.
    #[inline(always)]
    pub fn lanes<T: Lane>(&mut self, slot: u32) -> *mut T::Stored {
        self.line(slot).cast()
    }

    #[inline(always)]
    pub fn get<T: Lane>(&self, slot: u32, lane: u32) -> T {
        // SAFETY: a register has 32 lanes, see the type.
        T::load(unsafe { *self.line(slot).cast::<T::Stored>().add((lane & 31) as usize) })
    }

    #[inline(always)]
    pub fn set<T: Lane>(&mut self, slot: u32, lane: u32, value: T) {
        // SAFETY: as above; results are never constants.
        unsafe { *self.line(slot).cast::<T::Stored>().add((lane & 31) as usize) = value.store() }
    }

    /// d = f(a) in the lanes of `mask`.
    #[inline(always)]
    pub fn unary<A: Lane, R: Lane>(&mut self, [d, a]: [u32; 2], mask: u32, f: impl Fn(A) -> R) {
        let (d, a) = (self.lanes::<R>(d), self.lanes::<A>(a));
        // SAFETY: both point to 32 lanes; each chunk is read before it is written, so d may be a.
        unsafe {
            if mask == ALL {
                for at in (0..32).step_by(8) {
                    let chunk: [R::Stored; 8] = each(|i| f(A::load(*a.add(at + i))).store());
                    d.add(at).cast::<[R::Stored; 8]>().write(chunk);
                }
            } else {
                for i in lanes(mask) {
                    *d.add(i) = f(A::load(*a.add(i))).store();
                }
            }
        }
    }

    /// d = f(a, b) in the lanes of `mask`.
    #[inline(always)]
    pub fn binary<A: Lane, B: Lane, R: Lane>(&mut self, [d, a, b]: [u32; 3], mask: u32, f: impl Fn(A, B) -> R) {
        let (d, a, b) = (self.lanes::<R>(d), self.lanes::<A>(a), self.lanes::<B>(b));
        // SAFETY: as in `unary`.
        unsafe {
            if mask == ALL {
                for at in (0..32).step_by(8) {
                    let chunk: [R::Stored; 8] = each(|i| f(A::load(*a.add(at + i)), B::load(*b.add(at + i))).store());
                    d.add(at).cast::<[R::Stored; 8]>().write(chunk);
                }
            } else {
                for i in lanes(mask) {
                    *d.add(i) = f(A::load(*a.add(i)), B::load(*b.add(i))).store();
                }
            }
        }
    }

    /// d = f(a, b, c) in the lanes of `mask`.
    #[inline(always)]
    pub fn ternary<A: Lane, B: Lane, C: Lane, R: Lane>(
        &mut self,
        [d, a, b, c]: [u32; 4],
        mask: u32,
        f: impl Fn(A, B, C) -> R,
    ) {
        let (d, a, b, c) = (self.lanes::<R>(d), self.lanes::<A>(a), self.lanes::<B>(b), self.lanes::<C>(c));
        // SAFETY: as in `unary`.
        unsafe {
            if mask == ALL {
                for at in (0..32).step_by(8) {
                    let chunk: [R::Stored; 8] =
                        each(|i| f(A::load(*a.add(at + i)), B::load(*b.add(at + i)), C::load(*c.add(at + i))).store());
                    d.add(at).cast::<[R::Stored; 8]>().write(chunk);
                }
            } else {
                for i in lanes(mask) {
                    *d.add(i) = f(A::load(*a.add(i)), B::load(*b.add(i)), C::load(*c.add(i))).store();
                }
            }
        }
    }

    /// The lanes where f(a, b) holds.
    #[inline(always)]
    pub fn compare<A: Lane>(&mut self, [a, b]: [u32; 2], f: impl Fn(A, A) -> bool) -> u32 {
        let (a, b) = (self.lanes::<A>(a), self.lanes::<A>(b));
        let mut found = 0;
        for i in 0..32 {
            // SAFETY: both point to 32 lanes.
            found |= u32::from(unsafe { f(A::load(*a.add(i)), A::load(*b.add(i))) }) << i;
        }
        found
    }
}

#[inline(always)]
fn each<T: Copy>(f: impl Fn(usize) -> T) -> [T; 8] {
    [f(0), f(1), f(2), f(3), f(4), f(5), f(6), f(7)]
}

/// The lanes whose bits are set, lowest first.
#[inline(always)]
pub(crate) fn lanes(mut mask: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        if mask == 0 {
            return None;
        }
        let lane = mask.trailing_zeros();
        mask &= mask - 1;
        Some(lane as usize)
    })
}

/// Writes a value to all lanes of a constant.
pub(crate) fn fill(lines: &mut [Line], line: u32, wide: bool, value: u64) {
    let line = line as usize;
    if wide {
        // Sixteen values of 64 bits to a line, low half first.
        for at in 0..64 {
            lines[line + at / 32].0[at % 32] = (value >> (32 * (at % 2))) as u32;
        }
    } else {
        lines[line].0 = [value as u32; 32];
    }
}
