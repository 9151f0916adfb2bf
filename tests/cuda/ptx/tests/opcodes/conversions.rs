//! Conversions of floating-point numbers, and the 16-bit formats.

use half::{bf16, f16};

use crate::floats::{doubles, float32, float64, singles};
use crate::run;
use crate::support::Random;

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
