//! Thirty small cases, computed elsewhere with 60 digits.

use crate::api::{Api, Call, Decoding, EVERYTHING, Empirical, Kind, Matrix, Regularizer, Want};
use crate::data::{Complaints, norm};
use mnemo::tensor::Dtype;
use serde_json::Value;

both!(agree_with_sixty_digits, processes_agree_with_sixty_digits);

fn cases() -> Vec<Value> {
    let text = include_str!("../data/empirical_score.json");
    let cases: Value = serde_json::from_str(text).unwrap();
    let cases = cases["cases"].as_array().unwrap().clone();
    assert_eq!(cases.len(), 30);
    cases
}

fn number(v: &Value) -> f64 {
    v.as_f64().unwrap_or_else(|| panic!("{v} is not a number"))
}

fn numbers(v: &Value) -> Vec<f64> {
    v.as_array().unwrap().iter().map(number).collect()
}

fn kind(case: &Value) -> Kind {
    let p = |name: &str| number(&case["params"][name]);
    match case["process"].as_str().unwrap() {
        "vp_linear" => Kind::VpLinear(p("beta_min"), p("beta_max"), p("t_end")),
        "sub_vp" => Kind::SubVp(p("beta_min"), p("beta_max")),
        "ve_power" => Kind::VePower(p("k"), p("a"), p("t_end")),
        "ve_exponential" => Kind::VeExponential(p("rate_base"), p("t_end")),
        "ve_geometric" => Kind::VeGeometric(p("sigma_min"), p("sigma_max")),
        other => panic!("process {other}"),
    }
}

fn processes_agree_with_sixty_digits<A: Api>() {
    let mut complaints = Complaints::default();
    for (i, case) in cases().iter().enumerate() {
        let process = A::process(&kind(case)).unwrap();
        let p = A::at(&process, &[number(&case["t"])]).unwrap()[0];
        for (name, found) in [("m", p.m), ("sigma", p.sigma), ("beta", p.beta), ("g", p.g)] {
            let expected = number(&case[name]);
            // A dozen roundings of closed forms without cancellation.
            complaints.near(found, expected, 3e-15 * expected, || format!("case {i}, {name}"));
        }
    }
    complaints.end();
}

fn agree_with_sixty_digits<A: Api>() {
    // What the header promises: 1e-9 for F64 and 1e-5 for F32.
    let mut complaints = Complaints::default();
    for machine in A::every(2) {
        for (dtype, tolerance) in [(Dtype::F64, 1e-9), (Dtype::F32, 1e-5)] {
            for (i, case) in cases().iter().enumerate() {
                check(&machine, case, dtype, tolerance, &mut complaints, &format!("case {i}, {}", dtype.name()));
            }
        }
    }
    complaints.end();
}

fn check<A: Api>(machine: &A, case: &Value, dtype: Dtype, tolerance: f64, complaints: &mut Complaints, at: &str) {
    let rows: Vec<f64> = case["rows"].as_array().unwrap().iter().flat_map(numbers).collect();
    let (x, v) = (numbers(&case["x"]), numbers(&case["v"]));
    let d = x.len();
    // The rows are float32 numbers, so either type holds them.
    let rows = Matrix::new(dtype, &rows, d);
    let labels = Matrix::new(Dtype::I64, &numbers(&case["labels"]), 1);
    let dataset = machine.dataset(&rows, Some(&labels), Decoding::default()).unwrap();
    let process = A::process(&kind(case)).unwrap();
    let t = [number(&case["t"])];
    let (x, v) = (Matrix::new(dtype, &x, d), Matrix::new(dtype, &v, d));

    let mut vector = |name: &str, found: &[f64]| {
        let expected = numbers(&case[name]);
        let length = norm(&expected);
        complaints.near_vector(found, &expected, tolerance * length, || format!("{at}, {name}"));
        for (k, (found, expected)) in found.iter().zip(&expected).enumerate() {
            // An element is a difference of numbers of the vector's size, so it keeps the digits that it has left of them:
            // the floor is a thousandth of the length.
            let floor = expected.abs().max(1e-3 * length);
            complaints.near(*found, *expected, tolerance * floor, || format!("{at}, {name}[{k}]"));
        }
    };

    let plain = machine.empirical(&dataset, &process, Empirical::default()).unwrap();
    let e = A::eval(&plain, &x, &t, EVERYTHING, Call::default()).unwrap();
    vector("score", &e.score);
    vector("denoised", &e.denoised);
    vector("jvp", &A::jvp(&plain, &x, &t, &v).unwrap().values());
    let c = number(&case["strength"]);
    for (name, regularizer) in [
        ("tikhonov", Regularizer::Tikhonov { c }),
        ("bayes_weight", Regularizer::BayesWeight { log_c: c.ln() }),
        ("bayes_density", Regularizer::BayesDensity { log_c: c.ln() }),
    ] {
        let score = machine.empirical(&dataset, &process, Empirical { regularizer, ..Empirical::default() }).unwrap();
        let want = Want { score: true, ..Want::default() };
        vector(name, &A::eval(&score, &x, &t, want, Call::default()).unwrap().score);
    }
    let label = Some(number(&case["label"]) as i64);
    let conditional = machine.empirical(&dataset, &process, Empirical { label, ..Empirical::default() }).unwrap();
    let want = Want { score: true, log_density: true, ..Want::default() };
    let of_label = A::eval(&conditional, &x, &t, want, Call::default()).unwrap();
    vector("conditional", &of_label.score);

    for (name, found) in [("log_density", e.log_density[0]), ("conditional_log_density", of_label.log_density[0])] {
        let expected = number(&case[name]);
        // A log has an absolute error: that of a density, relative.
        complaints.near(found, expected, tolerance * expected.abs().max(1.0), || format!("{at}, {name}"));
    }
    let expected = number(&case["divergence"]);
    complaints.near(e.divergence[0], expected, tolerance * expected.abs(), || format!("{at}, divergence"));
    // Nothing is lost when all rows but one weigh 1e-23 together. Of an entropy of 1e-53 the reference itself has only
    // seven digits: it knows the first weight, 1 - 1e-55, to 60.
    let expected = number(&case["entropy"]);
    const DIGITS: f64 = 1e-60;
    complaints.near(e.entropy[0], expected, tolerance * expected + DIGITS, || format!("{at}, entropy"));
}
