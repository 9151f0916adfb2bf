//! Integers, bits, comparisons, moves.

use crate::integers;

#[test]
fn sums_and_products() {
    integers("add.u16 %d, %a, %b;", "hhh", |v| v[0].wrapping_add(v[1]));
    integers("add.s32 %d, %a, %b;", "bbb", |v| v[0].wrapping_add(v[1]));
    integers("add.u64 %d, %a, %b;", "www", |v| v[0].wrapping_add(v[1]));
    integers("sub.s16 %d, %a, %b;", "hhh", |v| v[0].wrapping_sub(v[1]));
    integers("sub.u32 %d, %a, %b;", "bbb", |v| v[0].wrapping_sub(v[1]));
    integers("sub.s64 %d, %a, %b;", "www", |v| v[0].wrapping_sub(v[1]));
    integers("add.sat.s32 %d, %a, %b;", "bbb", |v| (v[0] as i32).saturating_add(v[1] as i32) as u64);
    integers("sub.sat.s32 %d, %a, %b;", "bbb", |v| (v[0] as i32).saturating_sub(v[1] as i32) as u64);
    integers("mul.lo.s16 %d, %a, %b;", "hhh", |v| v[0].wrapping_mul(v[1]));
    integers("mul.lo.s32 %d, %a, %b;", "bbb", |v| v[0].wrapping_mul(v[1]));
    integers("mul.lo.u64 %d, %a, %b;", "www", |v| v[0].wrapping_mul(v[1]));
    integers("mul.hi.u16 %d, %a, %b;", "hhh", |v| (v[0] & 0xffff) * (v[1] & 0xffff) >> 16);
    integers("mul.hi.s16 %d, %a, %b;", "hhh", |v| (i64::from(v[0] as i16) * i64::from(v[1] as i16) >> 16) as u64);
    integers("mul.hi.u32 %d, %a, %b;", "bbb", |v| u64::from(v[0] as u32) * u64::from(v[1] as u32) >> 32);
    integers("mul.hi.s32 %d, %a, %b;", "bbb", |v| (i64::from(v[0] as i32) * i64::from(v[1] as i32) >> 32) as u64);
    integers("mul.hi.u64 %d, %a, %b;", "www", |v| (u128::from(v[0]) * u128::from(v[1]) >> 64) as u64);
    integers("mul.hi.s64 %d, %a, %b;", "www", |v| (i128::from(v[0] as i64) * i128::from(v[1] as i64) >> 64) as u64);
    integers("mul.wide.u16 %d, %a, %b;", "bhh", |v| (v[0] & 0xffff) * (v[1] & 0xffff));
    integers("mul.wide.s16 %d, %a, %b;", "bhh", |v| (i64::from(v[0] as i16) * i64::from(v[1] as i16)) as u64);
    integers("mul.wide.u32 %d, %a, %b;", "wbb", |v| u64::from(v[0] as u32) * u64::from(v[1] as u32));
    integers("mul.wide.s32 %d, %a, %b;", "wbb", |v| (i64::from(v[0] as i32) * i64::from(v[1] as i32)) as u64);
    integers("mad.lo.s32 %d, %a, %b, %c;", "bbbb", |v| v[0].wrapping_mul(v[1]).wrapping_add(v[2]));
    integers("mad.lo.u64 %d, %a, %b, %c;", "wwww", |v| v[0].wrapping_mul(v[1]).wrapping_add(v[2]));
    integers("mad.hi.u32 %d, %a, %b, %c;", "bbbb", |v| {
        (u64::from(v[0] as u32) * u64::from(v[1] as u32) >> 32).wrapping_add(v[2])
    });
    integers("mad.hi.s64 %d, %a, %b, %c;", "wwww", |v| {
        ((i128::from(v[0] as i64) * i128::from(v[1] as i64) >> 64) as u64).wrapping_add(v[2])
    });
    integers("mad.wide.u32 %d, %a, %b, %c;", "wbbw", |v| {
        (u64::from(v[0] as u32) * u64::from(v[1] as u32)).wrapping_add(v[2])
    });
    integers("mad.wide.s32 %d, %a, %b, %c;", "wbbw", |v| {
        (i64::from(v[0] as i32) * i64::from(v[1] as i32)).wrapping_add(v[2] as i64) as u64
    });
    integers("mad.wide.s16 %d, %a, %b, %c;", "bhhb", |v| {
        (i64::from(v[0] as i16) * i64::from(v[1] as i16)).wrapping_add(v[2] as i64) as u64
    });
    integers("mul24.lo.u32 %d, %a, %b;", "bbb", |v| (v[0] & 0xff_ffff) * (v[1] & 0xff_ffff));
    integers("mul24.hi.u32 %d, %a, %b;", "bbb", |v| (v[0] & 0xff_ffff) * (v[1] & 0xff_ffff) >> 16);
    let s24 = |x: u64| (x << 40) as i64 >> 40;
    integers("mul24.lo.s32 %d, %a, %b;", "bbb", |v| (s24(v[0]) * s24(v[1])) as u64);
    integers("mad24.lo.s32 %d, %a, %b, %c;", "bbbb", |v| ((s24(v[0]) * s24(v[1])) as u64).wrapping_add(v[2]));
    integers("sad.u32 %d, %a, %b, %c;", "bbbb", |v| v[2].wrapping_add(u64::from((v[0] as u32).abs_diff(v[1] as u32))));
    integers("sad.s32 %d, %a, %b, %c;", "bbbb", |v| v[2].wrapping_add(u64::from((v[0] as i32).abs_diff(v[1] as i32))));
    integers("sad.u64 %d, %a, %b, %c;", "wwww", |v| v[2].wrapping_add(v[0].abs_diff(v[1])));
}

#[test]
fn quotients_and_extremes() {
    integers("div.u32 %d, %a, %b;", "bbb", |v| (v[0] as u32).checked_div(v[1] as u32).unwrap_or(u32::MAX).into());
    integers("div.s32 %d, %a, %b;", "bbb", |v| match v[1] as i32 {
        0 => u64::MAX,
        b => (v[0] as i32).wrapping_div(b) as u64,
    });
    integers("div.u64 %d, %a, %b;", "www", |v| v[0].checked_div(v[1]).unwrap_or(u64::MAX));
    integers("div.s64 %d, %a, %b;", "www", |v| match v[1] as i64 {
        0 => u64::MAX,
        b => (v[0] as i64).wrapping_div(b) as u64,
    });
    integers("div.s16 %d, %a, %b;", "hhh", |v| match v[1] as i16 {
        0 => u64::MAX,
        b => (v[0] as i16).wrapping_div(b) as u64,
    });
    integers("rem.u32 %d, %a, %b;", "bbb", |v| (v[0] as u32).checked_rem(v[1] as u32).unwrap_or(v[0] as u32).into());
    integers("rem.s64 %d, %a, %b;", "www", |v| match v[1] as i64 {
        0 => v[0],
        b => (v[0] as i64).wrapping_rem(b) as u64,
    });
    integers("min.s16 %d, %a, %b;", "hhh", |v| (v[0] as i16).min(v[1] as i16) as u64);
    integers("min.u32 %d, %a, %b;", "bbb", |v| (v[0] as u32).min(v[1] as u32).into());
    integers("min.s32 %d, %a, %b;", "bbb", |v| (v[0] as i32).min(v[1] as i32) as u64);
    integers("max.u16 %d, %a, %b;", "hhh", |v| (v[0] as u16).max(v[1] as u16).into());
    integers("max.s64 %d, %a, %b;", "www", |v| (v[0] as i64).max(v[1] as i64) as u64);
    integers("max.u64 %d, %a, %b;", "www", |v| v[0].max(v[1]));
    integers("abs.s32 %d, %a;", "bb", |v| (v[0] as i32).wrapping_abs() as u64);
    integers("abs.s64 %d, %a;", "ww", |v| (v[0] as i64).wrapping_abs() as u64);
    integers("neg.s16 %d, %a;", "hh", |v| v[0].wrapping_neg());
    integers("neg.s32 %d, %a;", "bb", |v| v[0].wrapping_neg());
    integers("min.u16x2 %d, %a, %b;", "bbb", |v| {
        let part = |s: u32| u64::from(((v[0] >> s) as u16).min((v[1] >> s) as u16)) << s;
        part(0) | part(16)
    });
    let dp4a = |v: &[u64], signed: bool| {
        (0..4).fold(v[2], |sum, k| {
            let part = |x: u64| {
                let byte = (x >> (8 * k)) as u8;
                if signed { i64::from(byte as i8) } else { i64::from(byte) }
            };
            sum.wrapping_add((part(v[0]) * part(v[1])) as u64)
        })
    };
    integers("dp4a.s32.s32 %d, %a, %b, %c;", "bbbb", |v| dp4a(v, true));
    integers("dp4a.u32.u32 %d, %a, %b, %c;", "bbbb", |v| dp4a(v, false));
    integers("dp2a.hi.s32.u32 %d, %a, %b, %c;", "bbbb", |v| {
        (0..2).fold(v[2], |sum, k| {
            let (a, b) = ((v[0] >> (16 * k)) as i16, (v[1] >> (16 + 8 * k)) as u8);
            sum.wrapping_add((i64::from(a) * i64::from(b)) as u64)
        })
    });
}

#[test]
fn carries_run_through() {
    let text = "{ .reg .b32 %l, %h, %p, %q; mov.b64 {%l, %h}, %a; mov.b64 {%p, %q}, %b;
        add.cc.u32 %l, %l, %p; addc.u32 %h, %h, %q; mov.b64 %d, {%l, %h}; }";
    integers(text, "www", |v| v[0].wrapping_add(v[1]));
    let text = "{ .reg .b32 %l, %h, %p, %q; mov.b64 {%l, %h}, %a; mov.b64 {%p, %q}, %b;
        sub.cc.u32 %l, %l, %p; subc.u32 %h, %h, %q; mov.b64 %d, {%l, %h}; }";
    integers(text, "www", |v| v[0].wrapping_sub(v[1]));
    // The high half of a product of 64 bits from products of 32.
    let text = "{ .reg .b32 %l, %h, %p, %q, %r, %s, %t0; mov.b64 {%l, %h}, %a; mov.b64 {%p, %q}, %b;
        mul.hi.u32 %t0, %l, %p; mad.lo.cc.u32 %t0, %l, %q, %t0; madc.hi.u32 %r, %l, %q, 0;
        mad.lo.cc.u32 %t0, %h, %p, %t0; madc.hi.cc.u32 %r, %h, %p, %r; addc.u32 %s, 0, 0;
        mad.lo.cc.u32 %r, %h, %q, %r; madc.hi.u32 %s, %h, %q, %s; mov.b64 %d, {%r, %s}; }";
    integers(text, "www", |v| (u128::from(v[0]) * u128::from(v[1]) >> 64) as u64);
    let text = "{ .reg .b64 %l; add.cc.u64 %l, %a, %b; addc.u64 %d, 0, 0; }";
    integers(text, "www", |v| u64::from(v[0].checked_add(v[1]).is_none()));
    let text = "{ .reg .b64 %l; sub.cc.u64 %l, %a, %b; subc.cc.u64 %d, 0, 0; subc.u64 %d, %d, 0; }";
    integers(text, "www", |v| if v[0] < v[1] { 0u64.wrapping_sub(2) } else { 0 });
}

#[test]
fn bits() {
    integers("and.b16 %d, %a, %b;", "hhh", |v| v[0] & v[1]);
    integers("or.b32 %d, %a, %b;", "bbb", |v| v[0] | v[1]);
    integers("xor.b64 %d, %a, %b;", "www", |v| v[0] ^ v[1]);
    integers("not.b16 %d, %a;", "hh", |v| !v[0]);
    integers("not.b64 %d, %a;", "ww", |v| !v[0]);
    integers("cnot.b32 %d, %a;", "bb", |v| u64::from(v[0] as u32 == 0));
    for table in [0x00u32, 0x96, 0xe8, 0x1a, 0xff] {
        integers(&format!("lop3.b32 %d, %a, %b, %c, {table};"), "bbbb", |v| {
            (0..32).fold(0, |out, bit| {
                let at = (v[0] >> bit & 1) << 2 | (v[1] >> bit & 1) << 1 | (v[2] >> bit & 1);
                out | u64::from(table >> at & 1) << bit
            })
        });
    }
    let by = |v: u64, bits: u64| (v & 0xffff_ffff).min(bits);
    integers("shl.b16 %d, %a, %b;", "hhb", |v| ((v[0] as u128) << by(v[1], 64)) as u64);
    integers("shl.b32 %d, %a, %b;", "bbb", |v| ((v[0] as u128) << by(v[1], 64)) as u64);
    integers("shl.b64 %d, %a, %b;", "wwb", |v| ((v[0] as u128) << by(v[1], 64)) as u64);
    integers("shr.u16 %d, %a, %b;", "hhb", |v| (v[0] & 0xffff) >> by(v[1], 63));
    integers("shr.b32 %d, %a, %b;", "bbb", |v| (v[0] & 0xffff_ffff) >> by(v[1], 63));
    integers("shr.u64 %d, %a, %b;", "wwb", |v| (v[0] as u128 >> by(v[1], 64)) as u64);
    integers("shr.s16 %d, %a, %b;", "hhb", |v| (i64::from(v[0] as i16) >> by(v[1], 63)) as u64);
    integers("shr.s32 %d, %a, %b;", "bbb", |v| (i64::from(v[0] as i32) >> by(v[1], 63)) as u64);
    integers("shr.s64 %d, %a, %b;", "wwb", |v| (v[0] as i64 >> by(v[1], 63)) as u64);
    let both = |v: &[u64]| (v[1] & 0xffff_ffff) << 32 | v[0] & 0xffff_ffff;
    integers("shf.l.wrap.b32 %d, %a, %b, %c;", "bbbb", |v| both(v) << (v[2] & 31) >> 32);
    integers("shf.r.wrap.b32 %d, %a, %b, %c;", "bbbb", |v| both(v) >> (v[2] & 31));
    integers("shf.l.clamp.b32 %d, %a, %b, %c;", "bbbb", |v| ((both(v) as u128) << by(v[2], 32) >> 32) as u64);
    integers("shf.r.clamp.b32 %d, %a, %b, %c;", "bbbb", |v| both(v) >> by(v[2], 32));
    integers("popc.b32 %d, %a;", "bb", |v| u64::from((v[0] as u32).count_ones()));
    integers("popc.b64 %d, %a;", "bw", |v| u64::from(v[0].count_ones()));
    integers("clz.b32 %d, %a;", "bb", |v| u64::from((v[0] as u32).leading_zeros()));
    integers("clz.b64 %d, %a;", "bw", |v| u64::from(v[0].leading_zeros()));
    integers("brev.b32 %d, %a;", "bb", |v| u64::from((v[0] as u32).reverse_bits()));
    integers("brev.b64 %d, %a;", "ww", |v| v[0].reverse_bits());
    let highest = |v: u128| if v == 0 { u64::MAX } else { u64::from(127 - v.leading_zeros()) };
    integers("bfind.u32 %d, %a;", "bb", |v| highest(u128::from(v[0] as u32)));
    integers("bfind.s32 %d, %a;", "bb", |v| {
        let x = v[0] as i32;
        highest(if x < 0 { !x } else { x } as u128)
    });
    integers("bfind.u64 %d, %a;", "bw", |v| highest(u128::from(v[0])));
    integers("bfind.shiftamt.u32 %d, %a;", "bb", |v| match v[0] as u32 {
        0 => u64::MAX,
        x => u64::from(x.leading_zeros()),
    });
    integers("bfind.shiftamt.s64 %d, %a;", "bw", |v| match v[0] as i64 {
        0 | -1 => u64::MAX,
        x => u64::from((if x < 0 { !x } else { x } as u64).leading_zeros()),
    });
    // Fields: position and length are bytes.
    integers("bfe.u32 %d, %a, %b, %c;", "bbbb", |v| {
        let (at, length) = (v[1] & 255, v[2] & 255);
        let field = if at > 63 { 0 } else { (v[0] & 0xffff_ffff) >> at };
        if length > 31 { field } else { field & ((1 << length) - 1) }
    });
    integers("bfe.s32 %d, %a, %b, %c;", "bbbb", |v| {
        let (at, length) = (v[1] & 255, v[2] & 255);
        let wide = i128::from(v[0] as i32) >> at.min(127);
        if length == 0 { 0 } else { (wide << (128 - length.min(32)) >> (128 - length.min(32))) as u64 }
    });
    integers("bfe.u64 %d, %a, %b, %c;", "wwbb", |v| {
        let (at, length) = (v[1] & 255, v[2] & 255);
        let field = u128::from(v[0]) >> at.min(127);
        (if length > 63 { field } else { field & ((1 << length) - 1) }) as u64
    });
    integers("bfi.b32 %d, %a, %b, %c, %e;", "bbbbb", |v| {
        let (at, length) = ((v[2] & 255).min(32), (v[3] & 255).min(32));
        let mask = (((1u128 << length) - 1) << at) as u64 & 0xffff_ffff;
        v[1] & !mask | ((v[0] as u128) << at) as u64 & mask
    });
    integers("bfi.b64 %d, %a, %b, %c, %e;", "wwwbb", |v| {
        let (at, length) = ((v[2] & 255).min(64), (v[3] & 255).min(64));
        let mask = if length == 0 { 0 } else { ((u128::MAX >> (128 - length)) << at) as u64 };
        v[1] & !mask | ((v[0] as u128) << at) as u64 & mask
    });
    integers("prmt.b32 %d, %a, %b, %c;", "bbbb", |v| {
        let bytes: Vec<u8> = (v[0] as u32).to_le_bytes().into_iter().chain((v[1] as u32).to_le_bytes()).collect();
        (0..4).fold(0, |out, k| {
            let pick = v[2] >> (4 * k);
            let byte = bytes[(pick & 7) as usize];
            let byte = if pick & 8 == 0 {
                byte
            } else if byte >= 128 {
                255
            } else {
                0
            };
            out | u64::from(byte) << (8 * k)
        })
    });
    integers("szext.wrap.u32 %d, %a, %b;", "bbb", |v| v[0] & ((1 << (v[1] & 31)) - 1));
    integers("bmsk.clamp.b32 %d, %a, %b;", "bbb", |v| {
        (0..32)
            .filter(|&bit| bit >= v[0] & 0xffff_ffff && bit < (v[0] & 0xffff_ffff) + (v[1] & 0xffff_ffff))
            .fold(0, |all, bit| all | 1 << bit)
    });
}

#[test]
fn comparisons_and_selections() {
    integers("setp.lt.s32 %d, %a, %b;", "pbb", |v| u64::from((v[0] as i32) < v[1] as i32));
    integers("setp.lt.u32 %d, %a, %b;", "pbb", |v| u64::from((v[0] as u32) < v[1] as u32));
    integers("setp.ge.s64 %d, %a, %b;", "pww", |v| u64::from(v[0] as i64 >= v[1] as i64));
    integers("setp.hi.u64 %d, %a, %b;", "pww", |v| u64::from(v[0] > v[1]));
    integers("setp.ls.u16 %d, %a, %b;", "phh", |v| u64::from(v[0] as u16 <= v[1] as u16));
    integers("setp.gt.s16 %d, %a, %b;", "phh", |v| u64::from(v[0] as i16 > v[1] as i16));
    integers("setp.ne.b64 %d, %a, %b;", "pww", |v| u64::from(v[0] != v[1]));
    integers("setp.lt.and.s32 %d, %a, %b, %c;", "pbbp", |v| u64::from((v[0] as i32) < v[1] as i32 && v[2] as u32 != 0));
    integers("setp.eq.or.u32 %d, %a, %b, !%c;", "pbbp", |v| u64::from(v[0] as u32 == v[1] as u32 || v[2] as u32 == 0));
    integers("{ .reg .pred %q; setp.le.xor.s32 %q|%d, %a, %b, %c; }", "pbbp", |v| {
        u64::from((v[0] as i32 > v[1] as i32) != (v[2] as u32 != 0))
    });
    integers("set.ge.u32.s32 %d, %a, %b;", "bbb", |v| if v[0] as i32 >= v[1] as i32 { 0xffff_ffff } else { 0 });
    integers("set.eq.f32.u64 %d, %a, %b;", "bww", |v| if v[0] == v[1] { 1.0f32.to_bits().into() } else { 0 });
    integers("selp.b32 %d, %a, %b, %c;", "bbbp", |v| if v[2] as u32 != 0 { v[0] } else { v[1] });
    integers("selp.b64 %d, %a, %b, !%c;", "wwwp", |v| if v[2] as u32 == 0 { v[0] } else { v[1] });
    integers("selp.u16 %d, %a, 7, %c;", "hhbp", |v| if v[2] as u32 != 0 { v[0] } else { 7 });
    integers("slct.u64.s32 %d, %a, %b, %c;", "wwwb", |v| if v[2] as i32 >= 0 { v[0] } else { v[1] });
    integers("slct.b32.f32 %d, %a, %b, %c;", "bbbb", |v| if f32::from_bits(v[2] as u32) >= 0.0 { v[0] } else { v[1] });
    integers("xor.pred %d, %a, !%b;", "ppp", |v| u64::from((v[0] as u32 != 0) != (v[1] as u32 == 0)));
    integers("and.pred %d, %a, %b;", "ppp", |v| u64::from(v[0] as u32 != 0 && v[1] as u32 != 0));
    integers("not.pred %d, %a;", "pp", |v| u64::from(v[0] as u32 == 0));
    integers("@%b mov.u32 %d, %a; @!%b mov.u32 %d, 5;", "bbp", |v| if v[1] as u32 != 0 { v[0] } else { 5 });
}

#[test]
fn moves_and_conversions_of_integers() {
    integers(
        "{ .reg .b16 %x0, %x1, %x2, %x3; mov.b64 {%x0, %x1, %x2, %x3}, %a; mov.b64 %d, {%x3, %x2, %x1, %x0}; }",
        "ww",
        |v| (0..4).fold(0, |out, k| out | (v[0] >> (16 * k) & 0xffff) << (48 - 16 * k)),
    );
    integers("{ .reg .b32 %l; mov.b64 {_, %l}, %a; mov.b32 %d, %l; }", "bw", |v| v[0] >> 32);
    integers("mov.b32 %d, {%a, %b};", "bhh", |v| (v[1] & 0xffff) << 16 | v[0] & 0xffff);
    integers("cvt.s64.s32 %d, %a;", "wb", |v| v[0] as i32 as u64);
    integers("cvt.u64.u32 %d, %a;", "wb", |v| v[0] as u32 as u64);
    integers("cvt.u32.u64 %d, %a;", "bw", |v| v[0]);
    integers("cvt.s32.s16 %d, %a;", "bh", |v| v[0] as i16 as u64);
    integers("cvt.u16.u32 %d, %a;", "hb", |v| v[0]);
    integers("cvt.s32.s8 %d, %a;", "bb", |v| v[0] as i8 as u64);
    integers("cvt.u32.u8 %d, %a;", "bb", |v| v[0] as u8 as u64);
    integers("cvt.s64.s8 %d, %a;", "ww", |v| v[0] as i8 as u64);
    integers("cvt.sat.u8.s32 %d, %a;", "bb", |v| (v[0] as i32).clamp(0, 255) as u64);
    integers("cvt.sat.s16.s32 %d, %a;", "bb", |v| (v[0] as i32).clamp(-32768, 32767) as u64);
    integers("cvt.sat.u32.s64 %d, %a;", "bw", |v| (v[0] as i64).clamp(0, u32::MAX.into()) as u64);
    integers("cvt.rn.f64.s32 %d, %a;", "wb", |v| f64::from(v[0] as i32).to_bits());
    integers("cvt.rn.f64.u64 %d, %a;", "ww", |v| (v[0] as f64).to_bits());
    integers("cvt.rn.f64.s64 %d, %a;", "ww", |v| (v[0] as i64 as f64).to_bits());
    integers("cvt.rn.f32.u32 %d, %a;", "bb", |v| (v[0] as u32 as f32).to_bits().into());
    integers("cvt.rn.f32.s64 %d, %a;", "bw", |v| (v[0] as i64 as f32).to_bits().into());
    integers("cvt.rz.f64.u64 %d, %a;", "ww", |v| {
        // The integer's upper 53 bits.
        let drop = 64u32.saturating_sub(v[0].leading_zeros() + 53);
        ((v[0] >> drop << drop) as f64).to_bits()
    });
    integers("cvt.rp.f32.u32 %d, %a;", "bb", |v| {
        let x = v[0] as u32;
        let near = x as f32;
        (if f64::from(near) < f64::from(x) { near.next_up() } else { near }).to_bits().into()
    });
}
