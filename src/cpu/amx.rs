//! Products of 8-bit integer matrices on the tile registers of AMX, exact in 32 bits: about thirty times as many products a
//! second as float32 registers form.
//!
//! A tile is 16 lines of 64 bytes. The left matrix has a line for each of its rows, 64 numbers deep; the right one lies in
//! quads: line i holds numbers 4i to 4i + 3 of each of 16 columns, column after column. [`transpose`] and [`interleave`]
//! bring bytes into that order. A load that crosses cache lines takes five times as long: everything starts on one.
//!
//! Linux gives the registers to a process that asks for them, once and for all its threads; alternate signal stacks must
//! have room for them (`MINSIGSTKSZ` as `getauxval(AT_MINSIGSTKSZ)` tells it), and where one has not the kernel refuses.

/// Rows of the left matrix, and columns of the right one, in a tile.
pub const SIDE: usize = 16;
/// Numbers that a tile is deep.
pub const DEPTH: usize = 64;
/// Bytes of a tile.
pub const TILE: usize = SIDE * DEPTH;
/// Left tiles that are multiplied together, at most.
pub const LEFT: usize = 3;
/// Right tiles that are.
pub const RIGHT: usize = 2;
/// Numbers of their products.
pub const PRODUCTS: usize = LEFT * RIGHT * SIDE * SIDE;

pub use machine::{Tiles, available, interleave, products, transpose};

/// The left matrix of a product.
#[derive(Clone, Copy)]
pub struct Left {
    /// Its tiles, those of a step one after another.
    pub tiles: *const u8,
    /// Bytes from one step's to the next's.
    pub step: usize,
    /// Tiles of a step, 1 to [`LEFT`].
    pub count: usize,
    /// Whether its numbers are signed.
    pub signed: bool,
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod machine {
    use super::{DEPTH, LEFT, Left, RIGHT, SIDE, TILE};
    use std::arch::asm;
    use std::arch::x86_64::*;
    use std::marker::PhantomData;
    use std::sync::OnceLock;

    /// Whether this process may use the tile registers; asks for them the first time.
    pub fn available() -> bool {
        static AVAILABLE: OnceLock<bool> = OnceLock::new();
        *AVAILABLE.get_or_init(|| has_tiles() && is_granted())
    }

    /// Whether the processor has tiles and 8-bit products, and the system keeps their state.
    fn has_tiles() -> bool {
        const TILE: u32 = 1 << 24;
        const INT8: u32 = 1 << 25;
        const OSXSAVE: u32 = 1 << 27;
        const STATE: u64 = 0b11 << 17;
        #[target_feature(enable = "xsave")]
        unsafe fn enabled_state() -> u64 {
            // SAFETY: the caller's promise.
            unsafe { _xgetbv(0) }
        }
        if !(is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw")) {
            return false;
        }
        if __cpuid(0).eax < 7 || __cpuid(1).ecx & OSXSAVE == 0 {
            return false;
        }
        let features = __cpuid_count(7, 0).edx;
        // SAFETY: the system said that it enabled XSAVE, and with it XGETBV.
        features & TILE != 0 && features & INT8 != 0 && unsafe { enabled_state() } & STATE == STATE
    }

    fn is_granted() -> bool {
        const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
        const TILE_DATA: libc::c_long = 18;
        // SAFETY: the call takes two numbers and changes nothing but what this process may use.
        unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA) == 0 }
    }

    /// The tile registers of this thread, set up; given back in the end, so that the system need not keep them.
    pub struct Tiles(PhantomData<*const ()>);

    impl Tiles {
        /// Sets them up for left matrices of `rows` rows, 1 to [`SIDE`].
        ///
        /// # Safety
        /// [`available`] is true, and no other such value lives on this thread.
        pub unsafe fn new(rows: usize) -> Self {
            #[repr(C, align(64))]
            struct Layout {
                palette: u8,
                start: u8,
                reserved: [u8; 14],
                row_bytes: [u16; 16],
                rows: [u8; 16],
            }
            assert!((1..=SIDE).contains(&rows));
            let mut layout = Layout { palette: 1, start: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
            // Six products and the left tile, then the right one.
            layout.row_bytes[..8].fill(DEPTH as u16);
            layout.rows[..7].fill(rows as u8);
            layout.rows[7] = SIDE as u8;
            // SAFETY: the caller's promise; the layout is one that the processor knows.
            unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const layout, options(nostack)) };
            Self(PhantomData)
        }
    }

    impl Drop for Tiles {
        fn drop(&mut self) {
            // SAFETY: `new` set them up.
            unsafe { asm!("tilerelease", options(nostack)) };
        }
    }

    macro_rules! product {
        ($multiply:literal, $left:expr, $right:expr, $steps:expr, $out:expr, [$($zero:literal),*], [$($first:literal),*], [$($second:literal),*], [$($store:literal),*]) => {
            asm!(
                $(concat!("tilezero tmm", $zero),)*
                "2:",
                "mov {step:e}, dword ptr [{steps}]",
                "mov {at}, {step}",
                "shl {at}, 10",
                "add {at}, {right0}",
                "tileloaddt1 tmm7, [{at} + {line}]",
                "mov {at}, {step}",
                "imul {at}, {bytes}",
                "add {at}, {left}",
                $("tileloadd tmm6, [{at} + {line}]",
                  concat!($multiply, " tmm", $first, ", tmm6, tmm7"),
                  "add {at}, 1024",)*
                "mov {at}, {step}",
                "shl {at}, 10",
                "add {at}, {right1}",
                "tileloaddt1 tmm7, [{at} + {line}]",
                "mov {at}, {step}",
                "imul {at}, {bytes}",
                "add {at}, {left}",
                $("tileloadd tmm6, [{at} + {line}]",
                  concat!($multiply, " tmm", $second, ", tmm6, tmm7"),
                  "add {at}, 1024",)*
                "add {steps}, 4",
                "cmp {steps}, {end}",
                "jne 2b",
                $(concat!("tilestored [{out} + {line}], tmm", $store), "add {out}, 1024",)*
                step = out(reg) _,
                at = out(reg) _,
                steps = inout(reg) $steps.as_ptr() => _,
                end = in(reg) $steps.as_ptr_range().end,
                left = in(reg) $left.tiles,
                bytes = in(reg) $left.step,
                right0 = in(reg) $right[0],
                right1 = in(reg) $right[1],
                line = in(reg) DEPTH,
                out = inout(reg) $out => _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack)
            )
        };
    }

    /// `out[(l * RIGHT + r) * 256 + i * 16 + j]` = Σ left of row i times right of column j over the `steps`, the 64 numbers from
    /// 64 step on; right numbers are unsigned.
    ///
    /// # Safety
    /// The registers are set up. What is read is there and on cache lines: [`TILE`] bytes of every tile; `out` has room for `left.count * RIGHT` tiles. No sum needs more than 32 bits.
    #[inline(always)]
    pub unsafe fn products(_tiles: &Tiles, left: Left, right: [*const u8; RIGHT], steps: &[u32], out: &mut [i32]) {
        assert!((1..=LEFT).contains(&left.count) && out.len() >= left.count * RIGHT * TILE / size_of::<i32>());
        if steps.is_empty() {
            out[..left.count * RIGHT * TILE / size_of::<i32>()].fill(0);
            return;
        }
        let out = out.as_mut_ptr();
        // SAFETY: the caller's promises; all registers that are written are named.
        unsafe {
            match (left.count, left.signed) {
                (1, true) => product!("tdpbsud", left, right, steps, out, [0, 1], [0], [1], [0, 1]),
                (2, true) => product!("tdpbsud", left, right, steps, out, [0, 1, 2, 3], [0, 2], [1, 3], [0, 1, 2, 3]),
                (_, true) => {
                    product!(
                        "tdpbsud",
                        left,
                        right,
                        steps,
                        out,
                        [0, 1, 2, 3, 4, 5],
                        [0, 2, 4],
                        [1, 3, 5],
                        [0, 1, 2, 3, 4, 5]
                    )
                }
                (1, false) => product!("tdpbuud", left, right, steps, out, [0, 1], [0], [1], [0, 1]),
                (2, false) => product!("tdpbuud", left, right, steps, out, [0, 1, 2, 3], [0, 2], [1, 3], [0, 1, 2, 3]),
                (_, false) => {
                    product!(
                        "tdpbuud",
                        left,
                        right,
                        steps,
                        out,
                        [0, 1, 2, 3, 4, 5],
                        [0, 2, 4],
                        [1, 3, 5],
                        [0, 1, 2, 3, 4, 5]
                    )
                }
            }
        }
    }

    /// Makes 16 rows of `bytes` bytes each, a multiple of [`DEPTH`] one after another, right tiles: columns are rows.
    ///
    /// # Safety
    /// [`available`] is true; `rows` and `out` start on cache lines and have 16 times `bytes` bytes.
    #[target_feature(enable = "avx512f")]
    pub unsafe fn transpose(rows: *const u8, bytes: usize, out: *mut u8) {
        // SAFETY: the caller's promises.
        unsafe {
            for at in (0..bytes).step_by(DEPTH) {
                let line = |i: usize| _mm512_load_si512(rows.add(i * bytes + at).cast());
                let mut v: [__m512i; SIDE] = [_mm512_setzero_si512(); SIDE];
                let mut w = v;
                for i in 0..8 {
                    let (a, b) = (line(2 * i), line(2 * i + 1));
                    v[2 * i] = _mm512_unpacklo_epi32(a, b);
                    v[2 * i + 1] = _mm512_unpackhi_epi32(a, b);
                }
                // w[4 i + c]: quad c of every quarter, of rows 4i to 4i + 3.
                for i in 0..4 {
                    w[4 * i] = _mm512_unpacklo_epi64(v[4 * i], v[4 * i + 2]);
                    w[4 * i + 1] = _mm512_unpackhi_epi64(v[4 * i], v[4 * i + 2]);
                    w[4 * i + 2] = _mm512_unpacklo_epi64(v[4 * i + 1], v[4 * i + 3]);
                    w[4 * i + 3] = _mm512_unpackhi_epi64(v[4 * i + 1], v[4 * i + 3]);
                }
                for c in 0..4 {
                    quarters([w[c], w[4 + c], w[8 + c], w[12 + c]], |l, v| {
                        _mm512_store_si512(out.add(at * SIDE + (4 * l + c) * DEPTH).cast(), v);
                    });
                }
            }
        }
    }

    /// Makes 4 rows of `bytes` bytes each, a multiple of [`DEPTH`] one after another, a line of right tiles for every 16
    /// columns, `stride` bytes apart.
    ///
    /// # Safety
    /// [`available`] is true; all starts on cache lines and is there.
    #[target_feature(enable = "avx512f,avx512bw")]
    pub unsafe fn interleave(rows: *const u8, bytes: usize, out: *mut u8, stride: usize) {
        // SAFETY: the caller's promises.
        unsafe {
            for at in (0..bytes).step_by(DEPTH) {
                let line = |i: usize| _mm512_load_si512(rows.add(i * bytes + at).cast());
                let (a, b, c, d) = (line(0), line(1), line(2), line(3));
                let (ab, cd) = (_mm512_unpacklo_epi8(a, b), _mm512_unpacklo_epi8(c, d));
                let (ab_high, cd_high) = (_mm512_unpackhi_epi8(a, b), _mm512_unpackhi_epi8(c, d));
                let v = [
                    _mm512_unpacklo_epi16(ab, cd),
                    _mm512_unpackhi_epi16(ab, cd),
                    _mm512_unpacklo_epi16(ab_high, cd_high),
                    _mm512_unpackhi_epi16(ab_high, cd_high),
                ];
                quarters(v, |l, v| _mm512_store_si512(out.add((at / SIDE + l) * stride).cast(), v));
            }
        }
    }

    /// `each(l, v)`: the quarters l of four registers, one after another, for every l.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn quarters(v: [__m512i; 4], each: impl Fn(usize, __m512i)) {
        let (low, high) = (_mm512_shuffle_i32x4(v[0], v[1], 0x44), _mm512_shuffle_i32x4(v[2], v[3], 0x44));
        each(0, _mm512_shuffle_i32x4(low, high, 0x88));
        each(1, _mm512_shuffle_i32x4(low, high, 0xdd));
        let (low, high) = (_mm512_shuffle_i32x4(v[0], v[1], 0xee), _mm512_shuffle_i32x4(v[2], v[3], 0xee));
        each(2, _mm512_shuffle_i32x4(low, high, 0x88));
        each(3, _mm512_shuffle_i32x4(low, high, 0xdd));
    }
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
#[allow(clippy::missing_safety_doc)]
mod machine {
    use super::{Left, RIGHT};

    pub fn available() -> bool {
        false
    }

    pub enum Tiles {}

    impl Tiles {
        pub unsafe fn new(_rows: usize) -> Self {
            unreachable!("not available")
        }
    }

    pub unsafe fn products(tiles: &Tiles, _: Left, _: [*const u8; RIGHT], _: &[u32], _: &mut [i32]) {
        match *tiles {}
    }

    pub unsafe fn transpose(_: *const u8, _: usize, _: *mut u8) {
        unreachable!("not available")
    }

    pub unsafe fn interleave(_: *const u8, _: usize, _: *mut u8, _: usize) {
        unreachable!("not available")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::tile::Buffer;

    /// Bytes that look random.
    fn bytes(len: usize) -> Buffer<u8> {
        let mut out = Buffer::zeros(len, "bytes").unwrap();
        let mut state = 12_345_u32;
        out.iter_mut().for_each(|b| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *b = (state >> 24) as u8;
        });
        out
    }

    #[test]
    fn products_are_those_of_plain_loops() {
        if !available() {
            return;
        }
        const STEPS: usize = 5;
        const DEEP: usize = STEPS * DEPTH;
        let (left, rows) = (bytes(LEFT * SIDE * DEEP), bytes(RIGHT * SIDE * DEEP));
        let mut right = Buffer::zeros(rows.len(), "right").unwrap();
        for r in 0..RIGHT {
            // SAFETY: both have as many bytes from there on.
            unsafe { transpose(rows[r * SIDE * DEEP..].as_ptr(), DEEP, right[r * SIDE * DEEP..].as_mut_ptr()) };
        }
        for count in 1..=LEFT {
            for used in [1, 7, SIDE] {
                for signed in [true, false] {
                    for steps in [&[0, 1, 2, 3, 4][..], &[3], &[1, 4], &[]] {
                        let mut out = vec![-1; PRODUCTS];
                        let from = Left { tiles: left.as_ptr(), step: count * TILE, count, signed };
                        // SAFETY: everything is there.
                        unsafe {
                            let tiles = Tiles::new(used);
                            let right = std::array::from_fn(|r| right[r * SIDE * DEEP..].as_ptr());
                            products(&tiles, from, right, steps, &mut out);
                        }
                        for (at, &product) in out[..count * RIGHT * SIDE * SIDE].iter().enumerate() {
                            let (l, r, i, j) =
                                (at / SIDE / SIDE / RIGHT, at / SIDE / SIDE % RIGHT, at / SIDE % SIDE, at % SIDE);
                            if i >= used {
                                continue;
                            }
                            let number = |v: u8| if signed { i32::from(v.cast_signed()) } else { i32::from(v) };
                            let all = steps.iter().flat_map(|&s| s as usize * DEPTH..(s as usize + 1) * DEPTH);
                            let exact: i32 = all
                                .map(|k| {
                                    let y = i32::from(rows[(r * SIDE + j) * DEEP + k]);
                                    number(left[(k / DEPTH * count + l) * TILE + i * DEPTH + k % DEPTH]) * y
                                })
                                .sum();
                            assert_eq!(product, exact, "{count} {used} {signed} {steps:?} {l} {r} {i} {j}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn lines_of_columns_hold_four_rows() {
        if !available() {
            return;
        }
        const BYTES: usize = 3 * DEPTH;
        const STRIDE: usize = 2 * TILE;
        let rows = bytes(4 * BYTES);
        let mut out = Buffer::<u8>::zeros(BYTES / SIDE * STRIDE, "lines").unwrap();
        // SAFETY: everything is there.
        unsafe { interleave(rows.as_ptr(), BYTES, out.as_mut_ptr(), STRIDE) };
        for (k, i) in (0..BYTES).flat_map(|k| (0..4).map(move |i| (k, i))) {
            assert_eq!(out[k / SIDE * STRIDE + k % SIDE * 4 + i], rows[i * BYTES + k], "{k} {i}");
        }
    }
}
