//! Floating-point arithmetic rounded to nearest.

use crate::support::Random;
use crate::{inputs, run};

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

pub fn doubles(count: usize) -> Vec<Vec<u64>> {
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

pub fn singles(count: usize) -> Vec<Vec<u64>> {
    doubles(count)
        .into_iter()
        .map(|v| v.into_iter().map(|x| u64::from((f64::from_bits(x) as f32).to_bits())).collect())
        .collect()
}

#[track_caller]
pub fn float64(text: &str, types: &str, wanted: impl Fn(&[f64]) -> f64) {
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
pub fn float32(text: &str, types: &str, wanted: impl Fn(&[f32]) -> f32) {
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
