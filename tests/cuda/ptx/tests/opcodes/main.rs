//! Every scalar opcode against Rust's own arithmetic, on random and on awkward values.

mod conversions;
mod floats;
mod integers;
mod roundings;
#[path = "../support/mod.rs"]
mod support;

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
