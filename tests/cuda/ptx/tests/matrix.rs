//! `mma`, `ldmatrix`, `stmatrix`, `movmatrix` against naive products, with the fragment layouts written out shape by
//! shape as the PTX ISA gives them.

mod support;

use half::{bf16, f16};
use ptx_interpreter::FaultKind;
use support::{Argument::Wide, Device, Random, kind, module};

/// Where element `i` of lane `l` lies: (row, column).
type Place = fn(usize, usize) -> (usize, usize);

struct Shape {
    name: &'static str,
    types: &'static str,
    m: usize,
    k: usize,
    a: Place,
    b: Place,
    c: Place,
    /// Elements of A, B, C in a lane, and elements in one register of A and B.
    counts: (usize, usize, usize, usize),
}

// groupID and threadID_in_group of the documentation.
fn g(l: usize) -> usize {
    l >> 2
}
fn t(l: usize) -> usize {
    l & 3
}

/// Accumulators: c0 and c1 in row groupID, c2 and c3 eight below.
const C16: Place = |l, i| (if i < 2 { g(l) } else { g(l) + 8 }, t(l) * 2 + (i & 1));
const C8: Place = |l, i| (g(l), t(l) * 2 + i);

const K8_16BIT: (Place, Place) =
    (|l, i| (if i < 2 { g(l) } else { g(l) + 8 }, t(l) * 2 + (i & 1)), |l, i| (t(l) * 2 + i, g(l)));
const K16_16BIT: (Place, Place) = (
    |l, i| {
        let row = if i < 2 || (4..6).contains(&i) { g(l) } else { g(l) + 8 };
        (row, if i < 4 { t(l) * 2 + (i & 1) } else { t(l) * 2 + (i & 1) + 8 })
    },
    |l, i| (if i < 2 { t(l) * 2 + (i & 1) } else { t(l) * 2 + (i & 1) + 8 }, g(l)),
);
const K4_TF32: (Place, Place) = (|l, i| (if i == 0 { g(l) } else { g(l) + 8 }, t(l)), |l, _| (t(l), g(l)));
const K8_TF32: (Place, Place) = (
    |l, i| (if i == 0 || i == 2 { g(l) } else { g(l) + 8 }, if i < 2 { t(l) } else { t(l) + 4 }),
    |l, i| (if i == 0 { t(l) } else { t(l) + 4 }, g(l)),
);
const M8_F64: (Place, Place) = (|l, _| (g(l), t(l)), |l, _| (t(l), g(l)));
const K16_F64: (Place, Place) = (
    |l, i| (if i % 2 == 0 { g(l) } else { g(l) + 8 }, if i % 2 == 0 { i * 2 + t(l) } else { i * 2 - 2 + t(l) }),
    |l, i| (t(l) + i * 4, g(l)),
);
const K16_INT: (Place, Place) =
    (|l, i| (if i < 4 { g(l) } else { g(l) + 8 }, t(l) * 4 + (i & 3)), |l, i| (t(l) * 4 + (i & 3), g(l)));
const K32_INT: (Place, Place) = (
    |l, i| {
        let row = if i < 4 || (8..12).contains(&i) { g(l) } else { g(l) + 8 };
        (row, if i < 8 { t(l) * 4 + (i & 3) } else { t(l) * 4 + (i & 3) + 16 })
    },
    |l, i| (if i < 4 { t(l) * 4 + (i & 3) } else { t(l) * 4 + (i & 3) + 16 }, g(l)),
);
const M8_INT: (Place, Place) = (|l, i| (g(l), t(l) * 4 + i), |l, i| (t(l) * 4 + i, g(l)));

fn shapes() -> Vec<Shape> {
    let of = |name, types, m, k, (a, b): (Place, Place), counts| {
        let c = if m == 16 { C16 } else { C8 };
        Shape { name, types, m, k, a, b, c, counts }
    };
    vec![
        of("m16n8k8", "f32.f16.f16.f32", 16, 8, K8_16BIT, (4, 2, 4, 2)),
        of("m16n8k8", "f16.f16.f16.f16", 16, 8, K8_16BIT, (4, 2, 4, 2)),
        of("m16n8k8", "f32.bf16.bf16.f32", 16, 8, K8_16BIT, (4, 2, 4, 2)),
        of("m16n8k16", "f32.f16.f16.f32", 16, 16, K16_16BIT, (8, 4, 4, 2)),
        of("m16n8k16", "f16.f16.f16.f16", 16, 16, K16_16BIT, (8, 4, 4, 2)),
        of("m16n8k16", "f16.f16.f16.f32", 16, 16, K16_16BIT, (8, 4, 4, 2)),
        of("m16n8k16", "f32.f16.f16.f16", 16, 16, K16_16BIT, (8, 4, 4, 2)),
        of("m16n8k16", "f32.bf16.bf16.f32", 16, 16, K16_16BIT, (8, 4, 4, 2)),
        of("m16n8k4", "f32.tf32.tf32.f32", 16, 4, K4_TF32, (2, 1, 4, 1)),
        of("m16n8k8", "f32.tf32.tf32.f32", 16, 8, K8_TF32, (4, 2, 4, 1)),
        of("m8n8k4", "f64.f64.f64.f64", 8, 4, M8_F64, (1, 1, 2, 1)),
        of("m16n8k4", "f64.f64.f64.f64", 16, 4, K4_TF32, (2, 1, 4, 1)),
        of("m16n8k8", "f64.f64.f64.f64", 16, 8, K8_TF32, (4, 2, 4, 1)),
        of("m16n8k16", "f64.f64.f64.f64", 16, 16, K16_F64, (8, 4, 4, 1)),
        of("m8n8k16", "s32.s8.s8.s32", 8, 16, M8_INT, (4, 4, 2, 4)),
        of("m16n8k16", "s32.s8.u8.s32", 16, 16, K16_INT, (8, 4, 4, 4)),
        of("m16n8k32", "s32.s8.s8.s32", 16, 32, K32_INT, (16, 8, 4, 4)),
        of("m16n8k32", "s32.u8.s8.s32", 16, 32, K32_INT, (16, 8, 4, 4)),
        of("m16n8k32", "s32.u8.u8.s32", 16, 32, K32_INT, (16, 8, 4, 4)),
    ]
}

fn bits(ty: &str, x: f64) -> u64 {
    match ty {
        "f16" => f16::from_f64(x).to_bits().into(),
        "bf16" => bf16::from_f64(x).to_bits().into(),
        "tf32" | "f32" => (x as f32).to_bits().into(),
        "f64" => x.to_bits(),
        "s32" => x as i32 as u32 as u64,
        _ => x as i64 as u8 as u64,
    }
}

fn value(ty: &str, bits: u64) -> f64 {
    match ty {
        "f16" => f16::from_bits(bits as u16).to_f64(),
        "f32" => f32::from_bits(bits as u32).into(),
        "f64" => f64::from_bits(bits),
        _ => (bits as i32).into(),
    }
}

/// Packs elements into registers.
fn pack(ty: &str, elements: &[f64], per: usize) -> Vec<u64> {
    elements
        .chunks(per)
        .map(|chunk| chunk.iter().enumerate().fold(0, |all, (e, &x)| all | bits(ty, x) << (32 / per * e)))
        .collect()
}

fn product(shape: &Shape, some: &mut dyn FnMut(&str) -> f64) -> (Vec<f64>, Vec<f64>) {
    let types: Vec<&str> = shape.types.split('.').collect();
    let [td, ta, tb, tc] = types[..] else { panic!() };
    let (na, nb, nc, per) = shape.counts;
    let (m, k) = (shape.m, shape.k);
    let a: Vec<f64> = (0..m * k).map(|_| some(ta)).collect();
    let b: Vec<f64> = (0..k * 8).map(|_| some(tb)).collect();
    let c: Vec<f64> = (0..m * 8).map(|_| some(tc)).collect();
    // Registers of every lane, one 64-bit word each: A, B, C.
    let accumulators = |ty: &str| if ty == "f16" { 2 } else { 1 };
    let mut words = Vec::new();
    for l in 0..32 {
        let fragment = |from: &[f64], width: usize, place: Place, count: usize| -> Vec<f64> {
            (0..count).map(|i| place(l, i)).map(|(row, column)| from[row * width + column]).collect()
        };
        words.extend(pack(ta, &fragment(&a, k, shape.a, na), per));
        words.extend(pack(tb, &fragment(&b, 8, shape.b, nb), per));
        words.extend(pack(tc, &fragment(&c, 8, shape.c, nc), accumulators(tc)));
    }
    let each = words.len() / 32;
    let (ra, rb, rc, rd) = (na / per, nb / per, nc / accumulators(tc), nc / accumulators(td));
    let wide = ta == "f64";
    let register = |ty: &str| match ty {
        "f64" => ".f64",
        "f32" => ".f32",
        _ => ".b32",
    };
    let names = |prefix: &str, count: usize| -> String {
        let list: Vec<String> = (0..count).map(|i| format!("%{prefix}{i}")).collect();
        format!("{{{}}}", list.join(", "))
    };
    let mut body = format!(
        ".reg .b64 %x, %y, %o; .reg .b32 %t; .reg {0} %a<16>, %b<8>; .reg {1} %c<4>; .reg {2} %d<4>;
         ld.param.u64 %x, [p0]; ld.param.u64 %y, [p1]; mov.u32 %t, %tid.x;
         mul.wide.u32 %o, %t, {3}; add.u64 %x, %x, %o; mul.wide.u32 %o, %t, {4}; add.u64 %y, %y, %o;\n",
        if wide { ".f64" } else { ".b32" },
        register(tc),
        register(td),
        each * 8,
        rd * 8
    );
    let mut at = 0;
    for (prefix, count, wide) in [("a", ra, wide), ("b", rb, wide), ("c", rc, tc == "f64")] {
        for i in 0..count {
            body += &format!("ld.global.{} %{prefix}{i}, [%x+{}];\n", if wide { "b64" } else { "b32" }, at * 8);
            at += 1;
        }
    }
    body += &format!(
        "mma.sync.aligned.{}.row.col.{} {}, {}, {}, {};\n",
        shape.name,
        shape.types,
        names("d", rd),
        names("a", ra),
        names("b", rb),
        names("c", rc)
    );
    for i in 0..rd {
        body += &format!("st.global.{} [%y+{}], %d{i};\n", if td == "f64" { "b64" } else { "b32" }, i * 8);
    }
    let mut device = Device::new(&module(2, &body));
    device.memory.set_checks(ptx_interpreter::Checks { races: true, uninitialized: false });
    let (x, y) = (device.put(&words), device.room(32 * rd * 8));
    device.run("k", 1, 32, &[Wide(x), Wide(y)]).unwrap();
    let found = device.get::<u64>(y, 32 * rd);
    let mut d = vec![f64::NAN; m * 8];
    for l in 0..32 {
        for i in 0..nc {
            let per = accumulators(td);
            let word = found[l * rd + i / per] >> (16 * (i % per));
            let (row, column) = (shape.c)(l, i);
            d[row * 8 + column] = value(td, if td == "f16" { word & 0xffff } else { word });
        }
    }
    let wanted =
        (0..m * 8).map(|at| (0..k).map(|j| a[at / 8 * k + j] * b[j * 8 + at % 8]).sum::<f64>() + c[at]).collect();
    (d, wanted)
}

#[test]
fn products_of_small_integers_are_exact() {
    for shape in shapes() {
        let mut random = Random(23);
        // Every sum stays below 2048, where float16 holds all integers.
        let (found, wanted) = product(&shape, &mut |ty| match ty {
            "u8" => (random.next() % 8) as f64,
            _ => (random.next() % 9) as f64 - 4.0,
        });
        assert_eq!(found, wanted, "{} {}", shape.name, shape.types);
    }
}

#[test]
fn products_of_bytes_use_all_eight_bits() {
    for shape in shapes().iter().filter(|shape| shape.types.starts_with("s32")) {
        let mut random = Random(29);
        let (found, wanted) = product(shape, &mut |ty| match ty {
            "u8" => (random.next() % 256) as f64,
            "s8" => (random.next() % 256) as f64 - 128.0,
            _ => (random.next() % 2_000_000) as f64 - 1e6,
        });
        assert_eq!(found, wanted, "{} {}", shape.name, shape.types);
    }
}

#[test]
fn products_are_rounded_once() {
    for shape in shapes().iter().filter(|shape| !shape.types.starts_with("s32")) {
        let mut random = Random(31);
        let types: Vec<&str> = shape.types.split('.').collect();
        let (found, wanted) = product(shape, &mut |ty| {
            let x = random.unit() - 0.5;
            match ty {
                "f16" => f16::from_f64(x).to_f64(),
                "bf16" => bf16::from_f64(x).to_f64(),
                // Ten bits of fraction.
                "tf32" => f64::from(f32::from_bits((x as f32).to_bits() & 0xffff_e000)),
                "f32" => f64::from(x as f32),
                _ => x,
            }
        });
        for (found, wanted) in found.iter().zip(&wanted) {
            match types[0] {
                // Sums of at most 17 exact products in float64, rounded once.
                "f32" => assert_eq!(*found, f64::from(*wanted as f32)),
                // (half's own conversion from float64 rounds twice.)
                "f16" => {
                    let bits = f16::from_f64(*found).to_bits();
                    for other in [bits.wrapping_add(1), bits.wrapping_sub(1)].map(|bits| f16::from_bits(bits).to_f64())
                    {
                        assert!((found - wanted).abs() <= (other - wanted).abs());
                    }
                }
                // Up to 17 roundings of numbers below 5.
                _ => assert!((found - wanted).abs() <= 17.0 * 5.0 * f64::EPSILON),
            }
        }
    }
}

#[test]
fn tf32_sees_nineteen_bits() {
    let shape = &shapes()[9];
    let (low, _) = product(shape, &mut |ty| if ty == "tf32" { f64::from(f32::from_bits(0x3f80_1fff)) } else { 0.0 });
    assert_eq!(low, vec![8.0; 128]);
}

#[test]
fn matrices_are_loaded_and_stored() {
    // Four matrices of 8 by 8 in shared memory, rows 24 bytes apart... and 16-byte rows anywhere.
    let text = |count: usize, trans: &str| {
        let registers: Vec<String> = (0..count).map(|i| format!("%r{i}")).collect();
        let registers = registers.join(", ");
        format!(
            ".reg .b32 %t, %r<4>, %s, %u; .reg .b64 %x, %y, %o, %v; .shared .align 16 .b8 s[1024], q[1024];
             ld.param.u64 %x, [p0]; ld.param.u64 %y, [p1]; mov.u32 %t, %tid.x; mul.wide.u32 %o, %t, 32; add.u64 %x, %x, %o;
             add.u64 %y, %y, %o; mov.u32 %s, s; mad.lo.u32 %s, %t, 32, %s; mov.u32 %u, q; mad.lo.u32 %u, %t, 32, %u;
             cp.async.cg.shared.global [%s], [%x], 16; cp.async.wait_all; bar.sync 0;
             ldmatrix.sync.aligned.m8n8.x{count}{trans}.shared.b16 {{{registers}}}, [%s];
             stmatrix.sync.aligned.m8n8.x{count}.shared.b16 [%u], {{{registers}}}; bar.sync 0;
             .reg .b64 %w<2>; .reg .pred %p; setp.lt.u32 %p, %t, {rows};
             @%p ld.shared.v2.b64 {{%w0, %w1}}, [%u]; @%p st.global.v2.b64 [%y], {{%w0, %w1}};",
            rows = count * 8
        )
    };
    let mut random = Random(37);
    // Rows of 8 elements, every second 16 bytes.
    let words: Vec<u16> = (0..32 * 16).map(|_| random.next() as u16).collect();
    for count in [1, 2, 4] {
        for trans in ["", ".trans"] {
            let mut device = Device::new(&module(2, &text(count, trans)));
            let (x, y) = (device.put(&words), device.room(32 * 32));
            device.run("k", 1, 32, &[Wide(x), Wide(y)]).unwrap();
            let found = device.get::<u16>(y, 32 * 16);
            for matrix in 0..count {
                for (row, column) in (0..64).map(|at| (at / 8, at % 8)) {
                    let at = |row: usize, column: usize| (matrix * 8 + row) * 16 + column;
                    let wanted = if trans.is_empty() { words[at(row, column)] } else { words[at(column, row)] };
                    assert_eq!(found[at(row, column)], wanted, "x{count}{trans} {matrix} {row} {column}");
                }
            }
        }
    }
}

/// What each lane gets, as the documentation has it: row l/4, elements 2(l mod 4) and one more; transposed the column.
#[test]
fn lanes_get_their_elements() {
    for (trans, at) in [
        ("", (|l, e| (l / 4, l % 4 * 2 + e)) as fn(usize, usize) -> (usize, usize)),
        (".trans", |l, e| (l % 4 * 2 + e, l / 4)),
    ] {
        let body = format!(
            ".reg .b32 %t, %r, %q, %s, %u; .reg .b64 %y, %o; .reg .b16 %h<2>; .shared .align 16 .b8 s[128];
             ld.param.u64 %y, [p0]; mov.u32 %t, %tid.x; mul.wide.u32 %o, %t, 8; add.u64 %y, %y, %o;
             mov.u32 %s, s; mad.lo.u32 %u, %t, 4, %s; shl.b32 %r, %t, 1; cvt.u16.u32 %h0, %r; add.u16 %h1, %h0, 1;
             mov.b32 %r, {{%h0, %h1}}; st.shared.u32 [%u], %r; bar.sync 0; and.b32 %q, %t, 7; mad.lo.u32 %u, %q, 16, %s;
             ldmatrix.sync.aligned.m8n8.x1{trans}.shared.b16 {{%r}}, [%u]; st.global.u32 [%y], %r;
             movmatrix.sync.aligned.m8n8.trans.b16 %q, %r; st.global.u32 [%y+4], %q;"
        );
        let mut device = Device::new(&module(1, &body));
        let y = device.room(32 * 8);
        device.run("k", 1, 32, &[Wide(y)]).unwrap();
        let found = device.get::<u16>(y, 128);
        for (l, word) in found.chunks(4).enumerate() {
            for e in 0..2 {
                let (row, column) = at(l, e);
                assert_eq!(usize::from(word[e]), row * 8 + column);
                assert_eq!(usize::from(word[2 + e]), column % 8 * 8 + row, "the transpose of the transpose");
            }
        }
    }
}

#[test]
fn matrix_bugs_are_found() {
    let body = |guard: &str, offset: u32| {
        format!(
            ".reg .b32 %t, %r, %s, %q; .reg .pred %p; .shared .align 16 .b8 s[512]; mov.u32 %t, %tid.x; setp.lt.u32 %p, %t, 20;
             mov.u32 %s, s; mad.lo.u32 %q, %t, 16, %s; mov.u32 %r, 0; st.shared.v4.u32 [%q], {{%r, %r, %r, %r}}; bar.sync 0;
             {guard} ldmatrix.sync.aligned.m8n8.x1.shared.b16 {{%r}}, [%q+{offset}]; bar.sync 0;"
        )
    };
    let run = |body: &str| Device::new(&module(0, body)).run("k", 1, 32, &[]);
    run(&body("", 0)).unwrap();
    run(&body("", 384)).unwrap();
    assert!(matches!(kind(run(&body("", 400))), FaultKind::SharedOutOfBounds { offset: 512, bytes: 16, .. }));
    assert!(matches!(kind(run(&body("", 8))), FaultKind::Misaligned { bytes: 16, .. }));
    assert!(matches!(kind(run(&body("@%p", 0))), FaultKind::DivergentShuffle { .. }));
    assert!(matches!(
        kind(run(&body("", 0)
            .replace("bar.sync 0;\n              ldmatrix", "ldmatrix")
            .replace("st.shared.v4", "@%p st.shared.v4")
            .replace("%t, 20", "%t, 3"))),
        FaultKind::SharedUninitialized { .. }
    ));
    // Part of a warp cannot multiply at all.
    let fault = Device::new(&module(0, &body("", 0))).run("k", 1, 16, &[]).unwrap_err();
    assert!(matches!(fault.kind, FaultKind::DivergentShuffle { active: 0xffff, .. }));
}
