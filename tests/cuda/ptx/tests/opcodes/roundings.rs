//! Directed roundings.

use crate::run;
use crate::support::Random;

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
