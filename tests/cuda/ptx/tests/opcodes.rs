//! Every scalar opcode against Rust's own arithmetic, on random and on awkward values.

mod support;

use half::{bf16, f16};
use support::{Argument::Wide, Device, Random, module};

/// Runs one instruction on many inputs. Types: `h` 16 bits, `b` 32, `w` 64, `p` a predicate; the first is the result,
/// which the text calls %d, as it calls the sources %a, %b, %c and %e.
fn run(text: &str, types: &str, inputs: &[Vec<u64>]) -> Vec<u64> {
    let names = ["d", "a", "b", "c", "e"];
    let mut body = String::from(
        ".reg .b64 %x, %y, %z; .reg .b32 %t, %n; .reg .pred %out;\n\
         mov.u32 %t, %tid.x; mov.u32 %n, %ctaid.x; mad.lo.u32 %t, %n, 32, %t;\n",
    );
    for (name, ty) in names.iter().zip(types.chars()) {
        let ty = match ty {
            'h' => ".b16",
            'b' => ".b32",
            'w' => ".b64",
            _ => ".pred",
        };
        body += &format!(".reg {ty} %{name};\n");
    }
    let count = types.len() - 1;
    body += &format!("ld.param.u64 %x, [p0]; mul.wide.u32 %y, %t, {}; add.u64 %x, %x, %y;\n", 8 * count);
    for (at, (name, ty)) in names.iter().zip(types.chars()).enumerate().skip(1) {
        let offset = 8 * (at - 1);
        body += &match ty {
            'h' => format!("ld.global.u16 %{name}, [%x+{offset}];\n"),
            'b' => format!("ld.global.u32 %{name}, [%x+{offset}];\n"),
            'w' => format!("ld.global.u64 %{name}, [%x+{offset}];\n"),
            _ => format!("{{ .reg .u32 %v; ld.global.u32 %v, [%x+{offset}]; setp.ne.u32 %{name}, %v, 0; }}\n"),
        };
    }
    body += text;
    body += "\nld.param.u64 %z, [p1]; mul.wide.u32 %y, %t, 8; add.u64 %z, %z, %y;\n";
    body += match &types[..1] {
        "h" => "cvt.u64.u16 %y, %d; st.global.u64 [%z], %y;",
        "b" => "cvt.u64.u32 %y, %d; st.global.u64 [%z], %y;",
        "w" => "st.global.u64 [%z], %d;",
        _ => "selp.u64 %y, 1, 0, %d; st.global.u64 [%z], %y;",
    };
    let mut device = Device::new(&module(2, &body));
    // Whole warps only: the last inputs are repeated.
    let lanes = inputs.len().next_multiple_of(32);
    let values: Vec<u64> = (0..lanes).flat_map(|i| inputs[i.min(inputs.len() - 1)].clone()).collect();
    let (x, z) = (device.put(&values), device.room(8 * lanes));
    device.run("k", lanes as u32 / 32, 32, &[Wide(x), Wide(z)]).unwrap_or_else(|fault| panic!("{text}: {fault}"));
    let found = device.get::<u64>(z, lanes);
    // With some lanes missing the others answer the same.
    let z = device.put(&vec![0u64; lanes]);
    device.run("k", lanes as u32 / 32, 29, &[Wide(x), Wide(z)]).unwrap();
    for (lane, (part, whole)) in device.get::<u64>(z, lanes).into_iter().zip(&found).enumerate() {
        assert_eq!(part, if lane % 32 < 29 { *whole } else { 0 }, "{text}");
    }
    found[..inputs.len()].to_vec()
}

const INTEGERS: [u64; 14] = [
    0,
    1,
    2,
    3,
    31,
    32,
    33,
    0x7f,
    0x80,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
];

/// Inputs for the sources of `types`: awkward ones in every combination of two, and random ones.
fn inputs(types: &str, special: &[u64]) -> Vec<Vec<u64>> {
    let mut random = Random(types.len() as u64 + 17);
    let count = types.len() - 1;
    let mut out = Vec::new();
    for &a in special {
        for &b in special {
            out.push(
                (0..count)
                    .map(|k| [a, b, special[(random.next() % special.len() as u64) as usize]][k.min(2)])
                    .collect(),
            );
        }
    }
    for _ in 0..200 {
        // Of every size.
        out.push((0..count).map(|_| random.next() >> (random.next() % 64)).collect());
    }
    out
}

/// Holds an instruction on integers against a function.
#[track_caller]
fn integers(text: &str, types: &str, wanted: impl Fn(&[u64]) -> u64) {
    let inputs = inputs(types, &INTEGERS);
    for (input, found) in inputs.iter().zip(run(text, types, &inputs)) {
        let mask = match &types[..1] {
            "h" => 0xffff,
            "b" => 0xffff_ffff,
            _ => u64::MAX,
        };
        assert_eq!(found, wanted(input) & mask, "{text} of {input:x?}");
    }
}

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

const FLOATS: [f64; 22] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    1.5,
    2.5,
    -2.5,
    3.0,
    1e10,
    -1e10,
    1e300,
    1e-300,
    3e38,
    1e-40,
    -1e-45,
    5e-324,
    2147483648.5,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::NAN,
    0.1,
];

fn doubles(count: usize) -> Vec<Vec<u64>> {
    let mut out = inputs(&"wwww"[..count + 1], &FLOATS.map(f64::to_bits));
    let mut random = Random(5);
    for _ in 0..300 {
        out.push(
            (0..count)
                .map(|_| ((random.unit() - 0.5) * 2f64.powi((random.next() % 60) as i32 - 30)).to_bits())
                .collect(),
        );
    }
    out
}

fn singles(count: usize) -> Vec<Vec<u64>> {
    doubles(count)
        .into_iter()
        .map(|v| v.into_iter().map(|x| u64::from((f64::from_bits(x) as f32).to_bits())).collect())
        .collect()
}

#[track_caller]
fn float64(text: &str, types: &str, wanted: impl Fn(&[f64]) -> f64) {
    let inputs = doubles(types.len() - 1);
    for (input, found) in inputs.iter().zip(run(text, types, &inputs)) {
        let values: Vec<f64> = input.iter().map(|&x| f64::from_bits(x)).collect();
        let (found, wanted) = (f64::from_bits(found), wanted(&values));
        assert!(
            found.to_bits() == wanted.to_bits() || found.is_nan() && wanted.is_nan(),
            "{text} of {values:?}: {found:e} {wanted:e}"
        );
    }
}

#[track_caller]
fn float32(text: &str, types: &str, wanted: impl Fn(&[f32]) -> f32) {
    let inputs = singles(types.len() - 1);
    for (input, found) in inputs.iter().zip(run(text, types, &inputs)) {
        let values: Vec<f32> = input.iter().map(|&x| f32::from_bits(x as u32)).collect();
        let (found, wanted) = (f32::from_bits(found as u32), wanted(&values));
        assert!(
            found.to_bits() == wanted.to_bits() || found.is_nan() && wanted.is_nan(),
            "{text} of {values:?}: {found:e} {wanted:e}"
        );
    }
}

fn ftz(x: f32) -> f32 {
    if x.is_subnormal() { 0.0f32.copysign(x) } else { x }
}

#[test]
fn float_arithmetic() {
    float64("add.f64 %d, %a, %b;", "www", |v| v[0] + v[1]);
    float64("sub.rn.f64 %d, %a, %b;", "www", |v| v[0] - v[1]);
    float64("mul.f64 %d, %a, %b;", "www", |v| v[0] * v[1]);
    float64("fma.rn.f64 %d, %a, %b, %c;", "wwww", |v| v[0].mul_add(v[1], v[2]));
    float64("div.rn.f64 %d, %a, %b;", "www", |v| v[0] / v[1]);
    float64("rcp.rn.f64 %d, %a;", "ww", |v| 1.0 / v[0]);
    float64("sqrt.rn.f64 %d, %a;", "ww", |v| v[0].sqrt());
    float64("abs.f64 %d, %a;", "ww", |v| v[0].abs());
    float64("neg.f64 %d, %a;", "ww", |v| -v[0]);
    float64("copysign.f64 %d, %a, %b;", "www", |v| v[1].copysign(v[0]));
    float32("add.f32 %d, %a, %b;", "bbb", |v| v[0] + v[1]);
    float32("sub.f32 %d, %a, %b;", "bbb", |v| v[0] - v[1]);
    float32("mul.f32 %d, %a, %b;", "bbb", |v| v[0] * v[1]);
    float32("fma.rn.f32 %d, %a, %b, %c;", "bbbb", |v| v[0].mul_add(v[1], v[2]));
    float32("div.rn.f32 %d, %a, %b;", "bbb", |v| v[0] / v[1]);
    float32("rcp.rn.f32 %d, %a;", "bb", |v| 1.0 / v[0]);
    float32("sqrt.rn.f32 %d, %a;", "bb", |v| v[0].sqrt());
    float32("add.ftz.f32 %d, %a, %b;", "bbb", |v| ftz(ftz(v[0]) + ftz(v[1])));
    float32("mul.ftz.f32 %d, %a, %b;", "bbb", |v| ftz(ftz(v[0]) * ftz(v[1])));
    float32("fma.rn.ftz.f32 %d, %a, %b, %c;", "bbbb", |v| ftz(ftz(v[0]).mul_add(ftz(v[1]), ftz(v[2]))));
    float32("neg.ftz.f32 %d, %a;", "bb", |v| ftz(-v[0]));
    let sat = |x: f32| if x.is_nan() { 0.0 } else { x.clamp(0.0, 1.0) + 0.0 };
    float32("add.sat.f32 %d, %a, %b;", "bbb", |v| sat(v[0] + v[1]));
    float32("fma.rn.sat.f32 %d, %a, %b, %c;", "bbbb", |v| sat(v[0].mul_add(v[1], v[2])));
    // A number wins over NaN; -0 is below +0.
    let smaller = |a: f64, b: f64| match (a.is_nan(), b.is_nan()) {
        (true, _) => b,
        (_, true) => a,
        _ if a.total_cmp(&b).is_le() => a,
        _ => b,
    };
    float64("min.f64 %d, %a, %b;", "www", |v| smaller(v[0], v[1]));
    float64("max.f64 %d, %a, %b;", "www", |v| -smaller(-v[0], -v[1]));
    float32("min.f32 %d, %a, %b;", "bbb", |v| smaller(v[0].into(), v[1].into()) as f32);
    float32("max.f32 %d, %a, %b;", "bbb", |v| -smaller((-v[0]).into(), (-v[1]).into()) as f32);
    float32("max.NaN.f32 %d, %a, %b;", "bbb", |v| {
        if v[0].is_nan() || v[1].is_nan() { f32::NAN } else { -smaller((-v[0]).into(), (-v[1]).into()) as f32 }
    });
    for (name, holds) in [
        ("lt", [true, false, false, false]),
        ("geu", [false, true, true, true]),
        ("neu", [true, false, true, true]),
        ("ne", [true, false, true, false]),
        ("num", [true, true, true, false]),
        ("nan", [false, false, false, true]),
        ("equ", [false, true, false, true]),
    ] {
        let inputs = doubles(2);
        let text = format!("setp.{name}.f64 %d, %a, %b;");
        for (input, found) in inputs.iter().zip(run(&text, "pww", &inputs)) {
            let order = f64::from_bits(input[0]).partial_cmp(&f64::from_bits(input[1]));
            let at = order.map_or(3, |order| (order as i8 + 1) as usize);
            assert_eq!(found == 1, holds[at], "{text} {input:?}");
        }
    }
    let categories = doubles(1);
    for (input, found) in categories.iter().zip(run("testp.subnormal.f64 %d, %a;", "pw", &categories)) {
        assert_eq!(found == 1, f64::from_bits(input[0]).is_subnormal());
    }
    for (input, found) in categories.iter().zip(run("testp.finite.f64 %d, %a;", "pw", &categories)) {
        assert_eq!(found == 1, f64::from_bits(input[0]).is_finite());
    }
}

#[test]
fn approximations_are_rounded_once() {
    float32("rcp.approx.ftz.f32 %d, %a;", "bb", |v| ftz(1.0 / ftz(v[0])));
    float32("sqrt.approx.f32 %d, %a;", "bb", |v| v[0].sqrt());
    float32("ex2.approx.f32 %d, %a;", "bb", |v| f64::from(v[0]).exp2() as f32);
    float32("lg2.approx.f32 %d, %a;", "bb", |v| f64::from(v[0]).log2() as f32);
    float32("sin.approx.f32 %d, %a;", "bb", |v| f64::from(v[0]).sin() as f32);
    float32("cos.approx.ftz.f32 %d, %a;", "bb", |v| ftz(f64::from(ftz(v[0])).cos() as f32));
    float32("tanh.approx.f32 %d, %a;", "bb", |v| f64::from(v[0]).tanh() as f32);
    float32("rsqrt.approx.f32 %d, %a;", "bb", |v| (1.0 / f64::from(v[0]).sqrt()) as f32);
    float32("div.full.f32 %d, %a, %b;", "bbb", |v| (f64::from(v[0]) / f64::from(v[1])) as f32);
    float64("rsqrt.approx.f64 %d, %a;", "ww", |v| 1.0 / v[0].sqrt());
}

#[test]
fn conversions_of_floats() {
    float64("{ .reg .f32 %s; cvt.rn.f32.f64 %s, %a; cvt.f64.f32 %d, %s; }", "ww", |v| f64::from(v[0] as f32));
    float64("cvt.rni.f64.f64 %d, %a;", "ww", |v| v[0].round_ties_even());
    float64("cvt.rzi.f64.f64 %d, %a;", "ww", |v| v[0].trunc());
    float32("cvt.rmi.f32.f32 %d, %a;", "bb", |v| v[0].floor());
    float32("cvt.rpi.f32.f32 %d, %a;", "bb", |v| v[0].ceil());
    float32("cvt.sat.f32.f32 %d, %a;", "bb", |v| if v[0].is_nan() { 0.0 } else { v[0].clamp(0.0, 1.0) + 0.0 });
    let doubles = doubles(1);
    let each = |text: &str, types: &str, wanted: &dyn Fn(f64) -> u64| {
        for (input, found) in doubles.iter().zip(run(text, types, &doubles)) {
            let x = f64::from_bits(input[0]);
            assert_eq!(found, wanted(x), "{text} of {x:e}");
        }
    };
    each("cvt.rzi.s32.f64 %d, %a;", "bw", &|x| u64::from(x as i32 as u32));
    each("cvt.rni.s32.f64 %d, %a;", "bw", &|x| u64::from(x.round_ties_even() as i32 as u32));
    each("cvt.rni.s64.f64 %d, %a;", "ww", &|x| x.round_ties_even() as i64 as u64);
    each("cvt.rmi.u32.f64 %d, %a;", "bw", &|x| u64::from(x.floor() as u32));
    each("cvt.rpi.u64.f64 %d, %a;", "ww", &|x| x.ceil() as u64);
    each("cvt.rzi.u16.f64 %d, %a;", "hw", &|x| u64::from(x as u16));
    each("cvt.rzi.s8.f64 %d, %a;", "bw", &|x| x as i8 as u32 as u64);
    // Directed roundings of float64 to float32: the nearest float32 on the right side.
    let directed = |x: f64, up: bool| {
        let near = x as f32;
        match up {
            true if f64::from(near) < x => near.next_up(),
            false if f64::from(near) > x => near.next_down(),
            _ => near,
        }
    };
    let bits = |x: f32| u64::from(if x.is_nan() { 0x7fff_ffff } else { x.to_bits() });
    each("cvt.rp.f32.f64 %d, %a;", "bw", &|x| bits(directed(x, true)));
    each("cvt.rm.f32.f64 %d, %a;", "bw", &|x| bits(directed(x, false)));
    each("cvt.rz.f32.f64 %d, %a;", "bw", &|x| bits(directed(x, x < 0.0)));
    // float32 to 16 bits: the candidates below and above are found by search among all numbers of the format.
    let singles = singles(1);
    let check = |text: &str, types: &str, value: &dyn Fn(u16) -> f32| {
        let mut all: Vec<f32> = (0..=u16::MAX).map(value).filter(|x| x.is_finite()).collect();
        all.sort_by(|a, b| a.total_cmp(b));
        for (input, found) in singles.iter().zip(run(text, types, &singles)) {
            let x = f32::from_bits(input[0] as u32);
            let found = value(found as u16);
            if x.is_nan() {
                assert!(found.is_nan());
                continue;
            }
            let at = all.partition_point(|y| y.total_cmp(&x).is_lt());
            let (below, above) = (all.get(at.wrapping_sub(1)).copied(), all.get(at).copied());
            let wanted = match (below, above) {
                _ if x.is_infinite() => x,
                (Some(low), Some(high)) => {
                    let (down, up) = (f64::from(x) - f64::from(low), f64::from(high) - f64::from(x));
                    let even = |y: f32| (y.to_bits() >> (if text.contains("bf16") { 16 } else { 13 })) & 1 == 0;
                    // Of two subnormal float16 neighbours the even one is the even multiple of 2^-24.
                    let even = |y: f32| {
                        if !text.contains("bf16") && y.abs() < 6.2e-5 {
                            (y / 5.960_464_5e-8) % 2.0 == 0.0
                        } else {
                            even(y)
                        }
                    };
                    if down < up || down == up && even(low) { low } else { high }
                }
                // Beyond the largest: infinity from half a step on, and none of the inputs is within that.
                (None, _) => f32::NEG_INFINITY,
                (_, None) => f32::INFINITY,
            };
            assert_eq!(found, wanted, "{text} of {x:e}");
        }
    };
    check("cvt.rn.f16.f32 %d, %a;", "hb", &|bits| f16::from_bits(bits).to_f32());
    check("cvt.rn.bf16.f32 %d, %a;", "hb", &|bits| bf16::from_bits(bits).to_f32());
    for (input, found) in singles.iter().zip(run("cvt.f32.bf16 %d, %a;", "bh", &singles)) {
        let wanted = bf16::from_bits(input[0] as u16).to_f32();
        assert!(found as u32 == wanted.to_bits() || wanted.is_nan());
    }
    // Two at once: the first source goes to the upper half.
    let found = run("cvt.rn.bf16x2.f32 %d, %a, %b;", "bbb", &[vec![0x3f80_0000, 0xc000_0000]]);
    assert_eq!(found, [0x3f80_c000]);
    let found = run("cvt.rn.f16x2.f32 %d, %a, %b;", "bbb", &[vec![0x3f80_0000, 0xc000_0000]]);
    assert_eq!(found, [0x3c00_c000]);
    // Ties go away from zero, and 13 bits go.
    let found = run("cvt.rna.tf32.f32 %d, %a;", "bb", &[vec![0x3f80_1000], vec![0xbf80_1000], vec![0x3f80_0fff]]);
    assert_eq!(found, [0x3f80_2000, 0xbf80_2000, 0x3f80_0000]);
    let found = run("cvt.rn.relu.bf16.f32 %d, %a;", "hb", &[vec![0xbf80_0000], vec![0x3fc0_0000]]);
    assert_eq!(found, [0, 0x3fc0]);
}

/// A directed rounding of float64 is right if exact integers say so.
#[test]
fn directed_roundings_of_float64() {
    let mut random = Random(11);
    let inputs: Vec<Vec<u64>> = (0..400)
        .map(|_| {
            // Integers of up to 53 bits, signed.
            let mut one =
                || ((random.next() >> 11) as i64 >> (random.next() % 40)) * if random.next() & 1 == 0 { 1 } else { -1 };
            vec![one(), one() | 1, one()].into_iter().map(|x| (x as f64).to_bits()).collect()
        })
        .collect();
    // The float64 on the right side of an exact integer.
    let place = |exact: i128, rounding: &str| {
        let near = exact as f64;
        let up = match rounding {
            "rp" => true,
            "rm" => false,
            _ => exact < 0,
        };
        let out = match up {
            true if (near as i128) < exact => near.next_up(),
            false if (near as i128) > exact => near.next_down(),
            _ => near,
        };
        if exact == 0 && rounding == "rm" { -0.0 } else { out }
    };
    for rounding in ["rz", "rm", "rp"] {
        let test = |text: String, types: &str, wanted: &dyn Fn(&[i128]) -> f64| {
            let cut: Vec<Vec<u64>> = inputs.iter().map(|v| v[..types.len() - 1].to_vec()).collect();
            for (input, found) in cut.iter().zip(run(&text, types, &cut)) {
                let values: Vec<i128> = input.iter().map(|&x| f64::from_bits(x) as i128).collect();
                // Zeros of products have signs of their own.
                if values[0] == 0 {
                    continue;
                }
                assert_eq!(f64::from_bits(found), wanted(&values), "{text} of {values:?}");
            }
        };
        test(format!("add.{rounding}.f64 %d, %a, %b;"), "www", &|v| place(v[0] + v[1], rounding));
        test(format!("sub.{rounding}.f64 %d, %a, %b;"), "www", &|v| place(v[0] - v[1], rounding));
        test(format!("mul.{rounding}.f64 %d, %a, %b;"), "www", &|v| place(v[0] * v[1], rounding));
        test(format!("fma.{rounding}.f64 %d, %a, %b, %c;"), "wwww", &|v| place(v[0] * v[1] + v[2], rounding));
    }
    // Division and root: q is right if it and its neighbour enclose the exact value.
    let units: Vec<Vec<u64>> =
        (0..300).map(|_| vec![(1.0 + random.unit()).to_bits(), (1.0 + random.unit()).to_bits()]).collect();
    let whole = |x: f64| (x * 2f64.powi(53)) as i128;
    for (input, found) in units.iter().zip(run("div.rm.f64 %d, %a, %b;", "www", &units)) {
        let (a, b, q) = (f64::from_bits(input[0]), f64::from_bits(input[1]), f64::from_bits(found));
        assert!(whole(q) * whole(b) <= whole(a) << 53 && whole(q.next_up()) * whole(b) > whole(a) << 53);
    }
    for (input, found) in units.iter().zip(run("div.rp.f64 %d, %a, %b;", "www", &units)) {
        let (a, b, q) = (f64::from_bits(input[0]), f64::from_bits(input[1]), f64::from_bits(found));
        assert!(whole(q) * whole(b) >= whole(a) << 53 && whole(q.next_down()) * whole(b) < whole(a) << 53);
    }
    let one: Vec<Vec<u64>> = units.iter().map(|v| v[..1].to_vec()).collect();
    for (input, found) in one.iter().zip(run("sqrt.rz.f64 %d, %a;", "ww", &one)) {
        let (a, r) = (f64::from_bits(input[0]), f64::from_bits(found));
        assert!(whole(r) * whole(r) <= whole(a) << 53 && whole(r.next_up()) * whole(r.next_up()) > whole(a) << 53);
    }
}

/// Directed roundings of float32, where float64 holds the exact value.
#[test]
fn directed_roundings_of_float32() {
    let mut random = Random(13);
    let inputs: Vec<Vec<u64>> = (0..500)
        .map(|_| {
            // Exponents so near that sums of float64 are exact.
            (0..3)
                .map(|_| {
                    let x = (random.unit() - 0.5) as f32 * 2f32.powi((random.next() % 10) as i32);
                    u64::from(x.to_bits())
                })
                .collect()
        })
        .collect();
    for rounding in ["rz", "rm", "rp"] {
        let place = |exact: f64| {
            let near = exact as f32;
            let up = rounding == "rp" || rounding == "rz" && exact < 0.0;
            match up {
                true if f64::from(near) < exact => near.next_up(),
                false if f64::from(near) > exact => near.next_down(),
                _ => near,
            }
        };
        let test = |text: String, types: &str, exact: &dyn Fn(&[f64]) -> f64| {
            let cut: Vec<Vec<u64>> = inputs.iter().map(|v| v[..types.len() - 1].to_vec()).collect();
            for (input, found) in cut.iter().zip(run(&text, types, &cut)) {
                let values: Vec<f64> = input.iter().map(|&x| f32::from_bits(x as u32).into()).collect();
                assert_eq!(f32::from_bits(found as u32), place(exact(&values)), "{text} of {values:?}");
            }
        };
        test(format!("add.{rounding}.f32 %d, %a, %b;"), "bbb", &|v| v[0] + v[1]);
        test(format!("mul.{rounding}.f32 %d, %a, %b;"), "bbb", &|v| v[0] * v[1]);
        // The fused sum is not exact in float64, but its error is far below the distance to a float32 boundary.
        test(format!("fma.{rounding}.f32 %d, %a, %b, %c;"), "bbbb", &|v| v[0] * v[1] + v[2]);
        test(format!("div.{rounding}.f32 %d, %a, %b;"), "bbb", &|v| v[0] / v[1]);
    }
    // A tiny addend decides: float64 alone would not see it.
    let tiny = vec![vec![1.0f32.to_bits().into(), 1.0f32.to_bits().into(), 1e-30f32.to_bits().into()]];
    assert_eq!(run("fma.rp.f32 %d, %a, %b, %c;", "bbbb", &tiny), [u64::from(1.0f32.next_up().to_bits())]);
    assert_eq!(run("fma.rn.f32 %d, %a, %b, %c;", "bbbb", &tiny), [u64::from(1.0f32.to_bits())]);
}

#[test]
fn halves() {
    let mut random = Random(19);
    let inputs: Vec<Vec<u64>> = (0..600).map(|_| (0..3).map(|_| random.next() & 0xffff_ffff).collect()).collect();
    let test = |text: &str, types: &str, count: usize, wanted: &dyn Fn(&[f64]) -> f64, bf: bool| {
        let value =
            |bits: u64| if bf { bf16::from_bits(bits as u16).to_f64() } else { f16::from_bits(bits as u16).to_f64() };
        let cut: Vec<Vec<u64>> = inputs.iter().map(|v| v[..count].to_vec()).collect();
        for (input, found) in cut.iter().zip(run(text, types, &cut)) {
            for shift in if types.starts_with('b') { vec![0, 16] } else { vec![0] } {
                let values: Vec<f64> = input.iter().map(|x| value(x >> shift & 0xffff)).collect();
                let (found, exact) = (value(found >> shift & 0xffff), wanted(&values));
                if exact.is_nan() {
                    assert!(found.is_nan(), "{text} of {values:?}");
                    continue;
                }
                // The nearest number of the format: no other is nearer.
                let bits = if bf { bf16::from_f64(found).to_bits() } else { f16::from_f64(found).to_bits() };
                if found.is_infinite() {
                    let largest = if bf { 3.38e38 } else { 65504.0 };
                    assert!(exact.abs() >= largest, "{text} of {values:?}: {found} {exact}");
                    continue;
                }
                for other in [bits.wrapping_add(1), bits.wrapping_sub(1)] {
                    let other = value(other.into());
                    if other.is_finite() {
                        assert!(
                            (found - exact).abs() <= (other - exact).abs(),
                            "{text} of {values:?}: {found} {exact} {other}"
                        );
                    }
                }
            }
        }
    };
    // Flushed to zero: subnormal sources, and subnormal results.
    let some = [vec![0x0200, 0x3c00], vec![0x0400, 0x8001], vec![0x0500, 0x8400], vec![0x3c00, 0x3c00]];
    assert_eq!(run("add.ftz.f16 %d, %a, %b;", "hhh", &some), [0x3c00, 0x0400, 0, 0x4000]);
    assert_eq!(run("add.f16 %d, %a, %b;", "hhh", &some)[1..3], [0x03ff, 0x0100]);
    test("add.f16 %d, %a, %b;", "hhh", 2, &|v| v[0] + v[1], false);
    test("mul.f16x2 %d, %a, %b;", "bbb", 2, &|v| v[0] * v[1], false);
    test("sub.f16x2 %d, %a, %b;", "bbb", 2, &|v| v[0] - v[1], false);
    test("fma.rn.f16x2 %d, %a, %b, %c;", "bbbb", 3, &|v| v[0] * v[1] + v[2], false);
    test("fma.rn.bf16x2 %d, %a, %b, %c;", "bbbb", 3, &|v| v[0] * v[1] + v[2], true);
    test("fma.rn.bf16 %d, %a, %b, %c;", "hhhh", 3, &|v| v[0] * v[1] + v[2], true);
    test("neg.bf16x2 %d, %a;", "bb", 1, &|v| -v[0], true);
    test("max.bf16x2 %d, %a, %b;", "bbb", 2, &|v| v[0].max(v[1]), true);
    test("min.f16 %d, %a, %b;", "hhh", 2, &|v| v[0].min(v[1]), false);
}
