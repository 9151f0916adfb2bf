//! Every solver against its formulas written out (FORMULAS 2), and against what is known in closed form.

use crate::api::{Api, Call, Decoding, Empirical, Grid, Kind, Marginal, Matrix, Options, Solver, Want};
use crate::data::{Complaints, Rng, distance, norm};
use mnemo::random::{Purpose, Stream};
use mnemo::tensor::Dtype;

both!(
    exponential_is_ddim,
    ancestral_is_ddpm,
    euler_and_heun_written_out,
    dpm_solver_written_out,
    edm_stochastic_written_out,
    edm_stochastic_churns_before_its_last_step,
    euler_maruyama_written_out,
    orders_on_one_row,
    exponential_is_exact_on_one_row,
    rk45_meets_its_tolerance,
    rk45_does_not_see_its_neighbours,
    sde_keeps_the_marginal_of_one_row,
);

const DIM: usize = 5;
const SEED: u64 = 0xfeed_0000_0001;
const FIRST: u64 = 1000;

struct Lab<A: Api> {
    score: A::Score,
    process: A::Process,
}

impl<A: Api> Lab<A> {
    /// `n` rows in DIM dimensions under a process.
    fn new(n: usize, kind: &Kind) -> Self {
        let machine = A::new(1);
        let rows = Matrix::new(Dtype::F64, &rows(n), DIM);
        let dataset = machine.dataset(&rows, None, Decoding::default()).unwrap();
        let process = A::process(kind).unwrap();
        let score = machine.empirical(&dataset, &process, Empirical::default()).unwrap();
        Self { score, process }
    }

    fn at(&self, t: f64) -> Marginal {
        A::at(&self.process, &[t]).unwrap()[0]
    }

    /// (s, x̂0) at x and t.
    fn eval(&self, x: &[f64], t: f64) -> (Vec<f64>, Vec<f64>) {
        let want = Want { score: true, denoised: true, ..Want::default() };
        let e = A::eval(&self.score, &Matrix::new(Dtype::F64, x, DIM), &[t], want, Call::default()).unwrap();
        (e.score, e.denoised)
    }

    /// dx/dt = -β x/2 - g s/2.
    fn slope(&self, x: &[f64], t: f64) -> Vec<f64> {
        let (p, s) = (self.at(t), self.eval(x, t).0);
        x.iter().zip(s).map(|(x, s)| -0.5 * p.beta * x - 0.5 * p.g * s).collect()
    }

    fn run(&self, options: &Options, x: &[f64]) -> Vec<f64> {
        let mut x = Matrix::new(Dtype::F64, x, DIM);
        let options = Options { first_sample: FIRST, ..options.clone() };
        A::sample(&self.score, &options, &mut x, None, Call { seed: SEED, ..Call::default() }).unwrap();
        x.values()
    }
}

fn rows(n: usize) -> Vec<f64> {
    Rng(60).normals(n * DIM)
}

/// Three states.
fn states(scale: f64) -> Vec<f64> {
    Rng(61).normals(3 * DIM).iter().map(|v| scale * v).collect()
}

/// The library's numbers for a batch.
fn normals(purpose: Purpose, step: u32, len: usize) -> Vec<f64> {
    let stream = Stream { seed: SEED, purpose, step };
    let mut z = vec![0.0; len];
    z.chunks_exact_mut(DIM).zip(FIRST..).for_each(|(z, sample)| stream.fill_normal(sample, z));
    z
}

/// a x + b y + …
fn sum(terms: &[(f64, &[f64])]) -> Vec<f64> {
    (0..terms[0].1.len()).map(|i| terms.iter().map(|(c, v)| c * v[i]).sum()).collect()
}

fn custom(solver: Solver, nodes: &[f64]) -> Options {
    Options { solver, grid: Grid::Custom(nodes.to_vec()), ..Options::default() }
}

/// A few roundings per step and number; the scores of some steps magnify them.
#[track_caller]
fn assert_same(found: &[f64], expected: &[f64]) {
    let error = distance(found, expected);
    assert!(error <= 1e-11 * norm(expected), "off by {error:e}:\n{found:?} should be\n{expected:?}");
}

/// ᾱ of 20 steps of β from .01 to .4.
fn table() -> Vec<f64> {
    let mut product = 1.0;
    let beta = (0..20).map(|k| 0.01 + 0.39 * f64::from(k) / 19.0);
    beta.map(|b| {
        product *= 1.0 - b;
        product
    })
    .collect()
}

/// The step of Song et al. 2021 from k to j on ᾱ alone, ε̂ = -σ s.
fn ddim<A: Api>(lab: &Lab<A>, x: &[f64], k: usize, j: usize, eta: f64, z: &[f64]) -> Vec<f64> {
    let alpha_bar = table();
    let (now, next) = (alpha_bar[k - 1], alpha_bar[j - 1]);
    let noise = sum(&[(-(1.0 - now).sqrt(), &lab.eval(x, k as f64).0)]);
    let clean = sum(&[(1.0 / now.sqrt(), x), (-(1.0 - now).sqrt() / now.sqrt(), &noise)]);
    let sigma = eta * ((1.0 - next) / (1.0 - now)).sqrt() * (1.0 - now / next).sqrt();
    sum(&[(next.sqrt(), &clean), ((1.0 - next - sigma * sigma).max(0.0).sqrt(), &noise), (sigma, z)])
}

fn exponential_is_ddim<A: Api>() {
    let lab = Lab::<A>::new(8, &Kind::Discrete(table()));
    for nodes in [vec![20, 19, 18, 17], vec![20, 13, 7, 2, 1], (1..=20).rev().collect()] {
        for eta in [0.0, 0.4, 1.0] {
            let mut x = states(1.0);
            for (i, w) in nodes.windows(2).enumerate() {
                x = ddim(&lab, &x, w[0], w[1], eta, &normals(Purpose::Step, i as u32, x.len()));
            }
            let times: Vec<f64> = nodes.iter().map(|&k| k as f64).collect();
            let options = Options { eta: (eta > 0.0).then_some(eta), ..custom(Solver::Exponential, &times) };
            assert_same(&lab.run(&options, &states(1.0)), &x);
            // And then x̂0 at step 1.
            if nodes.last() == Some(&1) {
                let ended = lab.run(&Options { denoise_last: true, ..options }, &states(1.0));
                assert_same(&ended, &lab.eval(&x, 1.0).1);
            }
        }
    }
}

/// Ho et al. 2020, Eq. 6 and 7: mean √ᾱ' β x̂0 / (1 - ᾱ) + √α (1 - ᾱ') x / (1 - ᾱ), variance β (1 - ᾱ') / (1 - ᾱ).
fn ancestral_is_ddpm<A: Api>() {
    let lab = Lab::<A>::new(8, &Kind::Discrete(table()));
    let alpha_bar = table();
    let nodes: Vec<usize> = vec![20, 19, 15, 6, 5, 1];
    let mut x = states(1.0);
    for (i, w) in nodes.windows(2).enumerate() {
        let (now, next) = (alpha_bar[w[0] - 1], alpha_bar[w[1] - 1]);
        let (alpha, beta) = (now / next, 1.0 - now / next);
        let clean = lab.eval(&x, w[0] as f64).1;
        let mean = [(next.sqrt() * beta / (1.0 - now), &clean[..]), (alpha.sqrt() * (1.0 - next) / (1.0 - now), &x)];
        let z = normals(Purpose::Step, i as u32, x.len());
        x = sum(&[mean[0], mean[1], ((beta * (1.0 - next) / (1.0 - now)).sqrt(), &z)]);
    }
    let times: Vec<f64> = nodes.iter().map(|&k| k as f64).collect();
    assert_same(&lab.run(&custom(Solver::Ancestral, &times), &states(1.0)), &x);
    // With no noise it is DDIM.
    let still = Options { eta: Some(0.0), ..custom(Solver::Ancestral, &times) };
    assert_eq!(lab.run(&still, &states(1.0)), lab.run(&custom(Solver::Exponential, &times), &states(1.0)));
}

fn euler_and_heun_written_out<A: Api>() {
    for (kind, nodes) in [
        (Kind::VpLinear(0.1, 20.0, 1.0), [0.6, 0.5, 0.45]),
        (Kind::VePower(2.0, 1.0, 80.0), [5.0, 3.0, 1.0]),
        (Kind::SubVp(0.1, 20.0), [0.6, 0.5, 0.45]),
        (Kind::Flow, [0.9, 0.7, 0.5]),
    ] {
        let lab = Lab::<A>::new(8, &kind);
        let [mut euler, mut heun] = [states(2.0), states(2.0)];
        for w in nodes.windows(2) {
            let h = w[1] - w[0];
            euler = sum(&[(1.0, &euler), (h, &lab.slope(&euler, w[0]))]);
            let first = lab.slope(&heun, w[0]);
            let second = lab.slope(&sum(&[(1.0, &heun), (h, &first)]), w[1]);
            heun = sum(&[(1.0, &heun), (0.5 * h, &first), (0.5 * h, &second)]);
        }
        assert_same(&lab.run(&custom(Solver::Euler, &nodes), &states(2.0)), &euler);
        assert_same(&lab.run(&custom(Solver::Heun, &nodes), &states(2.0)), &heun);
    }
}

/// Lu et al. 2022, Alg. 2, with λ = ln(m/σ), h = λ' - λ and r the ratio of the step before to this one.
fn dpm_solver_written_out<A: Api>() {
    for (kind, nodes) in [
        (Kind::VpLinear(0.1, 20.0, 1.0), [0.9, 0.6, 0.5, 0.2]),
        (Kind::VePower(2.0, 1.0, 80.0), [20.0, 5.0, 3.0, 1.0]),
        (Kind::Flow, [0.9, 0.7, 0.4, 0.1]),
    ] {
        let lab = Lab::<A>::new(8, &kind);
        let lambda = |t: f64| (lab.at(t).m / lab.at(t).sigma).ln();
        let mut x = states(1.0);
        let mut before: Option<(Vec<f64>, f64)> = None;
        for w in nodes.windows(2) {
            let (p, q, h) = (lab.at(w[0]), lab.at(w[1]), lambda(w[1]) - lambda(w[0]));
            let clean = lab.eval(&x, w[0]).1;
            let guess = match &before {
                None => clean.clone(),
                Some((older, step)) => {
                    let r = step / h;
                    sum(&[(1.0 + 0.5 / r, &clean), (-0.5 / r, older)])
                }
            };
            x = sum(&[(q.sigma / p.sigma, &x), (-q.m * ((-h).exp() - 1.0), &guess)]);
            before = Some((clean, h));
        }
        assert_same(&lab.run(&custom(Solver::DpmPp2m, &nodes), &states(1.0)), &x);
    }
}

/// Karras et al. 2022, Alg. 2, in y = x/m and r = σ/m. `nodes` are times; a last 0 is the clean end.
fn karras_algorithm_2<A: Api>(lab: &Lab<A>, options: &Options, nodes: &[f64], x: &[f64]) -> Vec<f64> {
    let frame = |t: f64| if t == 0.0 { (0.0, 1.0) } else { (lab.at(t).sigma / lab.at(t).m, lab.at(t).m) };
    let time = |r: f64, near: f64| {
        // Bisection: σ/m rises with t.
        let (mut low, mut high) = (near, lab_end(lab));
        for _ in 0..200 {
            let middle = 0.5 * (low + high);
            if frame(middle).0 < r { low = middle } else { high = middle }
        }
        0.5 * (low + high)
    };
    let n = nodes.len() - 1;
    let mut y = sum(&[(1.0 / frame(nodes[0]).1, x)]);
    for i in 0..n {
        let (r, next) = (frame(nodes[i]).0, frame(nodes[i + 1]).0);
        let churn = (options.s_churn / n as f64).min(2f64.sqrt() - 1.0);
        let gamma = if r >= options.s_min && r <= options.s_max { churn } else { 0.0 };
        let hat = r * (1.0 + gamma);
        let t_hat = if gamma > 0.0 { time(hat, nodes[i]) } else { nodes[i] };
        let z = normals(Purpose::Churn, i as u32, y.len());
        y = sum(&[(1.0, &y), (options.s_noise * (hat * hat - r * r).max(0.0).sqrt(), &z)]);
        let clean = |y: &[f64], t: f64| lab.eval(&sum(&[(frame(t).1, y)]), t).1;
        let d = sum(&[(1.0 / hat, &y), (-1.0 / hat, &clean(&y, t_hat))]);
        let ahead = sum(&[(1.0, &y), (next - hat, &d)]);
        y = if next == 0.0 {
            ahead
        } else {
            let second = sum(&[(1.0 / next, &ahead), (-1.0 / next, &clean(&ahead, nodes[i + 1]))]);
            sum(&[(1.0, &y), (0.5 * (next - hat), &d), (0.5 * (next - hat), &second)])
        };
    }
    sum(&[(frame(nodes[n]).1, &y)])
}

fn lab_end<A: Api>(lab: &Lab<A>) -> f64 {
    // The processes of these tests end at 80 or at 1.
    if A::at(&lab.process, &[80.0]).is_ok() { 80.0 } else { 1.0 }
}

fn edm_stochastic_written_out<A: Api>() {
    for (kind, nodes, (s_min, s_max)) in [
        (Kind::VePower(2.0, 1.0, 80.0), vec![20.0, 5.0, 1.0, 0.3, 0.0], (0.5, 10.0)),
        (Kind::VpLinear(0.1, 20.0, 1.0), vec![0.8, 0.5, 0.3, 0.2], (0.0, f64::INFINITY)),
    ] {
        let lab = Lab::<A>::new(8, &kind);
        for s_churn in [0.0, 0.7, 10.0] {
            let options = Options { s_churn, s_min, s_max, s_noise: 1.007, ..custom(Solver::EdmStochastic, &nodes) };
            let x = states(lab.at(nodes[0]).sigma);
            let (found, expected) = (lab.run(&options, &x), karras_algorithm_2(&lab, &options, &nodes, &x));
            // The time of a churned level is inverted here by bisection: an error of an ulp of t.
            assert!(distance(&found, &expected) <= 1e-10 * norm(&expected), "{kind:?}, churn {s_churn}");
        }
    }
}

/// Alg. 2 raises the noise before every step within [S_min, S_max], the one to σ = 0 included.
fn edm_stochastic_churns_before_its_last_step<A: Api>() {
    let nodes = [5.0, 1.0, 0.3, 0.0];
    let lab = Lab::<A>::new(8, &Kind::VePower(2.0, 1.0, 80.0));
    let options = Options { s_churn: 1.0, ..custom(Solver::EdmStochastic, &nodes) };
    let x = states(5.0);
    let (found, expected) = (lab.run(&options, &x), karras_algorithm_2(&lab, &options, &nodes, &x));
    let error = distance(&found, &expected) / norm(&expected);
    assert!(error <= 1e-10, "off by {error:e} of its length");
}

/// x' = x + h (-β x/2 - (1 + α2) g s/2) + √(α2 g |h|) z.
fn euler_maruyama_written_out<A: Api>() {
    let nodes = [0.9, 0.7, 0.6, 0.45];
    let lab = Lab::<A>::new(8, &Kind::VpLinear(0.1, 20.0, 1.0));
    for alpha2 in [None, Some(0.0), Some(0.5), Some(2.0)] {
        let a = alpha2.unwrap_or(1.0);
        let mut x = states(1.0);
        for (i, w) in nodes.windows(2).enumerate() {
            let (p, h) = (lab.at(w[0]), w[1] - w[0]);
            let s = lab.eval(&x, w[0]).0;
            let z = normals(Purpose::Step, i as u32, x.len());
            let drift = [(1.0 - 0.5 * h * p.beta, &x[..]), (-0.5 * h * (1.0 + a) * p.g, &s[..])];
            x = sum(&[drift[0], drift[1], ((a * p.g * -h).sqrt(), &z)]);
        }
        let options = Options { alpha2, ..custom(Solver::EulerMaruyama, &nodes) };
        assert_same(&lab.run(&options, &states(1.0)), &x);
    }
}

/// The flow of one row y: x(t) = m y + (σ/σ0)(x0 - m0 y).
fn flow_of_one_row<A: Api>(lab: &Lab<A>, x0: &[f64], from: f64, to: f64) -> Vec<f64> {
    let (p, q, y) = (lab.at(from), lab.at(to), rows(1));
    (0..x0.len()).map(|i| q.m * y[i % DIM] + q.sigma / p.sigma * (x0[i] - p.m * y[i % DIM])).collect()
}

fn one_row_processes() -> [(Kind, f64, f64); 4] {
    [
        (Kind::VpLinear(0.1, 20.0, 1.0), 1.0, 0.2),
        (Kind::VePower(1.0, 2.0, 3.0), 3.0, 0.5),
        (Kind::SubVp(0.1, 20.0), 0.9, 0.2),
        (Kind::VeGeometric(0.01, 50.0), 1.0, 0.5),
    ]
}

fn orders_on_one_row<A: Api>() {
    for (kind, from, to) in one_row_processes() {
        let lab = Lab::<A>::new(1, &kind);
        let x = states(lab.at(from).sigma);
        let exact = flow_of_one_row(&lab, &x, from, to);
        for (solver, order) in [(Solver::Euler, 1.0), (Solver::Heun, 2.0)] {
            let error = |steps| {
                let (t_start, t_end) = (Some(from), Some(to));
                let options = Options { solver, grid: Grid::UniformT, steps, t_start, t_end, ..Options::default() };
                distance(&lab.run(&options, &x), &exact)
            };
            let slope = (error(200) / error(400)).log2();
            // The next power of the step, a four-hundredth, moves the slope by this much at most.
            assert!((slope - order).abs() < 0.12, "{kind:?}, {solver:?}: order {slope}");
        }
    }
}

/// A constant denoised value: the exponential step and DPM-Solver++ make no error at any step size. DPM-Solver++'s order
/// shows on two rows only.
fn exponential_is_exact_on_one_row<A: Api>() {
    for (kind, from, to) in one_row_processes() {
        let lab = Lab::<A>::new(1, &kind);
        let x = states(lab.at(from).sigma);
        let exact = flow_of_one_row(&lab, &x, from, to);
        for solver in [Solver::Exponential, Solver::DpmPp2m] {
            for steps in [1, 7] {
                let (t_start, t_end) = (Some(from), Some(to));
                let options = Options { solver, grid: Grid::UniformS, steps, t_start, t_end, ..Options::default() };
                assert_same(&lab.run(&options, &x), &exact);
            }
        }
    }
    let lab = Lab::<A>::new(2, &Kind::VpLinear(0.1, 20.0, 1.0));
    let x = states(1.0);
    let end = |solver, steps| {
        let (t_start, t_end) = (Some(0.8), Some(0.3));
        let options = Options { solver, grid: Grid::UniformT, steps, t_start, t_end, ..Options::default() };
        lab.run(&options, &x)
    };
    let exact = {
        let (t_start, t_end, rtol, atol) = (Some(0.8), Some(0.3), 1e-12, 1e-12);
        lab.run(&Options { solver: Solver::Rk45, t_start, t_end, rtol, atol, ..Options::default() }, &x)
    };
    for (solver, order) in [(Solver::Exponential, 1.0), (Solver::DpmPp2m, 2.0)] {
        let error = |steps| distance(&end(solver, steps), &exact);
        let slope = (error(200) / error(400)).log2();
        assert!((slope - order).abs() < 0.12, "{solver:?}: order {slope}");
    }
}

fn rk45_meets_its_tolerance<A: Api>() {
    for (kind, from, to) in one_row_processes() {
        let lab = Lab::<A>::new(1, &kind);
        let x = states(lab.at(from).sigma);
        let exact = flow_of_one_row(&lab, &x, from, to);
        for tolerance in [1e-4, 1e-7, 1e-10] {
            let (t_start, t_end, rtol, atol) = (Some(from), Some(to), tolerance, tolerance);
            let options = Options { solver: Solver::Rk45, t_start, t_end, rtol, atol, ..Options::default() };
            let found = lab.run(&options, &x);
            for (found, exact) in found.chunks_exact(DIM).zip(exact.chunks_exact(DIM)) {
                // Each step's error is at most the tolerance times the size of x, which falls from that of the start to
                // that of the end; the flow shrinks it from then on, so what is left of all of them is a few times that.
                let allowed = 3.0 * tolerance * (1.0 + norm(exact) + norm(&x) / 3.0);
                assert!(distance(found, exact) <= allowed, "{kind:?}: {:e} {allowed:e}", distance(found, exact));
            }
        }
    }
}

/// A sample that needs thousands of steps beside one that needs few.
fn rk45_does_not_see_its_neighbours<A: Api>() {
    let lab = Lab::<A>::new(6, &Kind::VePower(2.0, 1.0, 80.0));
    let (t_start, t_end) = (Some(10.0), Some(0.01));
    let options = Options { solver: Solver::Rk45, t_start, t_end, ..Options::default() };
    let easy = states(10.0)[..DIM].to_vec();
    let hard: Vec<f64> = easy.iter().map(|v| 1e4 * v).collect();
    let alone = lab.run(&options, &easy);
    let together = lab.run(&options, &[easy, hard].concat());
    assert_eq!(together[..DIM], alone[..]);
}

/// Started from N(m0 y, σ0²), every α2 has the marginal N(m y, σ²) at every time (reg 2.10).
fn sde_keeps_the_marginal_of_one_row<A: Api>() {
    const SAMPLES: usize = 1500;
    let mut complaints = Complaints::default();
    let lab = Lab::<A>::new(1, &Kind::VpLinear(0.1, 20.0, 1.0));
    let (from, to) = (1.0, 0.3);
    let (p, q, y) = (lab.at(from), lab.at(to), rows(1));
    let noise = Rng(70).normals(SAMPLES * DIM);
    let x: Vec<f64> = (0..SAMPLES * DIM).map(|i| p.m * y[i % DIM] + p.sigma * noise[i]).collect();
    for alpha2 in [0.0, 0.5, 1.0, 2.0] {
        let (t_start, t_end) = (Some(from), Some(to));
        let options = Options {
            solver: Solver::EulerMaruyama,
            grid: Grid::UniformT,
            steps: 600,
            t_start,
            t_end,
            alpha2: Some(alpha2),
            ..Options::default()
        };
        let end = lab.run(&options, &x);
        for (k, y) in y.iter().enumerate() {
            let column: Vec<f64> = end[k..].iter().step_by(DIM).map(|x| (x - q.m * y) / q.sigma).collect();
            let n = SAMPLES as f64;
            let mean = column.iter().sum::<f64>() / n;
            let variance = column.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / (n - 1.0);
            // Five standard errors of a mean, 1/√n, and of a variance, √(2/n): 13 and 18 %. Euler-Maruyama's own bias,
            // half the rate (at most 20) times the step, is below 2 % of the variance.
            complaints.near(mean, 0.0, 5.0 / n.sqrt(), || format!("alpha2 {alpha2}, column {k}: mean"));
            complaints.near(variance, 1.0, 5.0 * (2.0 / n).sqrt(), || format!("alpha2 {alpha2}, column {k}: variance"));
        }
    }
    complaints.end();
}
