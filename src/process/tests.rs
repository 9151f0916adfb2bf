use super::*;
use approx::assert_relative_eq;

/// Every kind, at the usual parameters first and then at odd ones.
fn zoo() -> Vec<Process> {
    let mut product = 1.0;
    let ddpm = (0..1000).map(|i| 1e-4 + (0.02 - 1e-4) * i as f64 / 999.0).map(|beta| {
        product *= 1.0 - beta;
        product
    });
    let processes = [
        Process::vp_linear(0.1, 20.0, 1.0),
        Process::vp_linear(0.001, 3.0, 1.0),
        Process::sub_vp(0.1, 20.0),
        Process::ve_power(2.0, 1.0, 80.0),
        Process::ve_exponential(100.0, 1.0),
        Process::ve_geometric(0.01, 50.0),
        Process::discrete(&[0.9, 0.5, 0.1]),
        Process::flow(),
        Process::discrete(&ddpm.collect::<Vec<_>>()),
        Process::vp_linear(0.0, 3.0, 2.0),
        Process::vp_linear(5.0, 1.0, 1.0),
        Process::ve_power(3.0, -0.5, 2.0),
        Process::ve_power(0.5, 2.5, 2.0),
        Process::ve_exponential(1.0, 2.0),
        Process::ve_exponential(0.25, 3.0),
    ];
    processes.into_iter().map(Result::unwrap).collect()
}

#[test]
fn agrees_with_sixty_digits() {
    let zoo = zoo();
    let [vp, slow, sub, edm, exp, geo, table, flow, ..] = &zoo[..] else { panic!("too few") };
    let (early, late) = (9.999999747378752e-06, 0.8999999761581421);
    for (process, t, [m, sigma, beta, g]) in [
        (vp, early, [0.9999994995026379, 0.0010004971132853413, 0.10019899999497284, 0.10019899999497284]),
        (vp, late, [0.016996466910761114, 0.99985554962332, 18.009999525547027, 18.009999525547027]),
        (slow, early, [0.9999999949250251, 0.0001007469587049252, 0.001029989999242389, 0.001029989999242389]),
        (slow, late, [0.5445761638862209, 0.838711393583614, 2.7000999284982683, 2.7000999284982683]),
        (sub, early, [0.9999994995026379, 1.000994473692301e-06, 0.10019899999497284, 2.005971901305358e-07]),
        (sub, late, [0.016996466910761114, 0.9997111201125514, 18.009999525547027, 18.009998022583943]),
        (edm, 0.0020000000949949026, [1.0, 0.0020000000949949026, 0.0, 0.004000000189989805]),
        (exp, early, [1.0, 0.00316231402764037, 0.0, 1.0000460527610924]),
        (exp, late, [1.0, 3.6720451938848435, 0.0, 63.09572752037223]),
        (geo, early, [1.0, 0.010000851755569943, 0.0, 0.0017037288333111257]),
        (geo, late, [1.0, 21.33403070002189, 0.0, 7753.045368518968]),
        (table, 1.25, [0.9157562569830419, 0.4017343373380086, 0.3546111243623051, 0.3546111243623051]),
        (table, 3.0, [0.31622776601683794, 0.9486832980505138, 1.9775021196025975, 1.9775021196025975]),
        (flow, 0.5, [0.5, 0.5, 4.0, 2.0]),
    ] {
        let got = process.eval(t).unwrap();
        for (got, want) in [(got.m, m), (got.sigma, sigma), (got.beta, beta), (got.g, g)] {
            // a few roundings; e^(-B/2) with B = 8 multiplies that of B by 4
            assert_relative_eq!(got, want, max_relative = 4e-15);
        }
    }
    // a tiny time: a few roundings again, where 1 - exp(-B) would be wrong in the fourth digit
    let t = 1e-12;
    for (got, want) in [
        (vp.eval(t).unwrap().sigma, 3.1622776603256234e-07),
        (vp.derivative(t).unwrap().1, 158113.8830320056),
        (vp.time_of_ratio(3.162277660325782e-07).unwrap(), t),
        (sub.eval(t).unwrap().sigma, 1.00000000009945e-13),
        (sub.time_of_ratio(1.0000000000995e-13).unwrap(), t),
        (exp.eval(t).unwrap().sigma, 1.0000000000011513e-06),
    ] {
        assert_relative_eq!(got, want, max_relative = 2e-15);
    }
}

#[test]
fn derivatives_match_finite_differences() {
    for process in zoo() {
        for u in [0.03, 0.3, 0.62, 0.9] {
            let t = process.t_min() + u * (process.t_end() - process.t_min());
            let h = 1e-5 * u * process.t_end().min(2.0);
            let [before, now, after] = [t - h, t, t + h].map(|t| process.eval(t).unwrap());
            let slope = |quantity: fn(&Marginal) -> f64| (quantity(&after) - quantity(&before)) / (2.0 * h);
            let (m1, sigma1) = process.derivative(t).unwrap();
            for (got, want) in [
                (m1, slope(|e| e.m)),
                (sigma1, slope(|e| e.sigma)),
                (now.beta, -2.0 * slope(|e| e.m) / now.m),
                (now.g, slope(|e| e.sigma * e.sigma) + now.beta * now.sigma * now.sigma),
            ] {
                // truncation (h/t)^2 = 1e-10 times the curvature; rounding of the values and of t ± h, 1e-16/h <= 4e-10
                assert_relative_eq!(got, want, max_relative = 3e-8, epsilon = 2e-8);
            }
        }
    }
}

#[test]
fn ends_take_their_limits() {
    let (infinite, at_zero) = (f64::INFINITY, |process: Result<Process>| process.unwrap().derivative(0.0).unwrap());
    assert_eq!(at_zero(Process::ve_power(2.0, 1.0, 80.0)), (0.0, 1.0));
    assert_eq!(at_zero(Process::vp_linear(0.0, 3.0, 2.0)), (0.0, 0.75_f64.sqrt()));
    assert_eq!(at_zero(Process::vp_linear(0.1, 20.0, 1.0)), (-0.05, infinite));
    assert_eq!(at_zero(Process::sub_vp(0.1, 20.0)), (-0.05, 0.1));
    let flow = Process::flow().unwrap();
    assert_eq!(flow.eval(1.0).unwrap(), Marginal { m: 0.0, sigma: 1.0, beta: infinite, g: infinite });
    assert_eq!((flow.derivative(1.0).unwrap(), flow.time_of_ratio(infinite).unwrap()), ((-1.0, 1.0), 1.0));
}

#[test]
fn inverses_round_trip() {
    for process in zoo() {
        let (low, high) = (process.t_min(), process.t_end());
        for u in [0.0, 1e-12, 1e-9, 1e-6, 1e-3, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0 - 1e-9, 1.0] {
            let t = low + u * (high - low);
            let (Marginal { m, sigma, .. }, (m1, sigma1)) = (process.eval(t).unwrap(), process.derivative(t).unwrap());
            let log_slope = sigma1 / sigma - m1 / m; // inf or NaN where sigma or m is 0: no allowance then
            for (back, shift) in [
                (process.time_of_sigma(sigma).unwrap(), sigma / sigma1),
                (process.time_of_ratio(sigma / m).unwrap(), 1.0 / log_slope),
            ] {
                // a relative error of sigma moves t by sigma/sigma' times as much; the errors are a few ulp
                let tolerance = 16.0 * f64::EPSILON * (t + shift.max(0.0));
                assert!((back - t).abs() <= tolerance, "{process:?} {t:e} {back:e}");
            }
        }
    }
}

#[test]
fn table_is_exact_at_its_nodes() {
    let table = [1.0 - f64::EPSILON, 0.7, 1e-3, 1e-300];
    let process = Process::discrete(&table).unwrap();
    for (i, alpha_bar) in table.into_iter().enumerate() {
        let Marginal { m, sigma, .. } = process.eval((i + 1) as f64).unwrap();
        assert_eq!((m, sigma), (alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt()));
    }
    let one = Process::discrete(&[0.5]).unwrap();
    assert_eq!((one.eval(1.0).unwrap().beta, one.derivative(1.0).unwrap()), (0.0, (0.0, 0.0)));
    assert_eq!((one.name(), one.time_of_ratio(1.0).unwrap()), ("discrete", 1.0));
}

#[test]
fn refuses_values_outside_the_domain() {
    let text = |error: Error| error.to_string();
    for process in zoo() {
        let (low, high) = (process.t_min(), process.t_end());
        for t in [low - 1e-9, high * (1.0 + 1e-9), f64::NAN, f64::INFINITY] {
            let start = format!("t is {t:?}; it must be in [{low:?}, {high:?}] for {}", process.name());
            assert_eq!(process.eval(t).map_err(text), Err(start.clone()));
            assert_eq!(process.derivative(t).map_err(text), Err(start));
        }
        // an ulp outside is the end itself
        let [first, last] = [low, high].map(|t| process.eval(t).unwrap());
        assert_eq!(process.time_of_sigma(first.sigma * (1.0 - f64::EPSILON)).unwrap(), low);
        assert_eq!(process.time_of_sigma(last.sigma * (1.0 + f64::EPSILON)).unwrap(), high);
        for sigma in [first.sigma - 1e-6, last.sigma * (1.0 + 1e-9), f64::NAN] {
            assert!(process.time_of_sigma(sigma).map_err(text).unwrap_err().starts_with("sigma is"));
        }
        assert!(process.time_of_ratio(f64::NAN).map_err(text).unwrap_err().starts_with("ratio is"));
    }
}

#[test]
fn constructors_name_the_argument() {
    for (process, start) in [
        (Process::vp_linear(-1.0, 1.0, 1.0), "beta_min is -1.0; it must be finite and not negative"),
        (Process::vp_linear(0.1, f64::NAN, 1.0), "beta_max is NaN"),
        (Process::vp_linear(0.0, 0.0, 1.0), "beta_max is 0.0; it must be positive where beta_min is 0"),
        (Process::vp_linear(0.1, 1e200, 1e200), "the larger beta times t_end is inf"),
        (Process::ve_power(0.0, 1.0, 1.0), "k is 0.0"),
        (Process::ve_power(1.0, -1.0, 1.0), "a is -1.0"),
        (Process::ve_exponential(-2.0, 1.0), "rate_base is -2.0"),
        (
            Process::ve_exponential(100.0, 1e3),
            "rate_base 100.0, t_end 1000.0 are too large or too small together: sigma at the last time is inf",
        ),
        (Process::ve_geometric(2.0, 1.0), "sigma_max is 1.0; it must be finite and greater than sigma_min, 2.0"),
        (Process::discrete(&[]), "alpha_bar has 0 values"),
        (
            Process::discrete(&[0.9, 0.9]),
            "alpha_bar[1] is 0.9; it must be a normal number above 0 and below 0.9, the value before it",
        ),
        (Process::discrete(&[0.9, f64::NAN, 2.0]), "alpha_bar[1] is NaN"),
    ] {
        let message = process.unwrap_err().to_string();
        assert!(message.starts_with(start), "{message}");
    }
}
