//! Streams of the caller's own: calls that neither wait nor allocate, and graphs made of them.

use crate::driver::{Driver, Handle, Room};
use crate::host::*;
use crate::numbers::{Rng, bits};
use crate::process::alone;
use crate::scene::*;
use mnemo::capi::exec::MNEMO_EXEC_CHECK;
use mnemo::capi::sampler::*;
use mnemo::capi::status::MNEMO_E_UNSUPPORTED;
use mnemo::capi::tensor::mnemo_tensor;

const BATCH: usize = 3;

/// Solvers that take the same steps for all samples.
const SOLVERS: [u32; 7] = [
    MNEMO_SOLVER_EULER,
    MNEMO_SOLVER_HEUN,
    MNEMO_SOLVER_EXPONENTIAL,
    MNEMO_SOLVER_DPMPP_2M,
    MNEMO_SOLVER_EULER_MARUYAMA,
    MNEMO_SOLVER_ANCESTRAL,
    MNEMO_SOLVER_EDM_STOCHASTIC,
];

/// A scene with a batch in the device's memory, and a stream that waits for no other.
struct Stage {
    driver: &'static Driver,
    scene: Scene,
    stream: Handle,
    start: Vec<f64>,
    x: Room<'static, f64>,
    out: [Room<'static, f64>; 2],
}

impl Stage {
    fn new(driver: &'static Driver, (count, dim): (usize, usize)) -> Self {
        let scene = Scene::new(&CUDA, count, dim).unwrap();
        let start = scene.points(BATCH);
        let x = Room::of(driver, &start);
        let out = [(); 2].map(|()| Room::of(driver, &vec![0.0; start.len()]));
        Self { driver, scene, stream: driver.stream(), start, x, out }
    }

    fn x(&self) -> mnemo_tensor {
        device_tensor(&self.x, BATCH, self.scene.dim)
    }

    fn eval(&self, t: &[f64], flags: u32) -> Outcome<()> {
        let out = self.out.each_ref().map(|out| device_tensor(out, BATCH, self.scene.dim));
        write_both(&self.scene.score, &self.x(), t, out, &exec(self.stream, flags, 0))
    }

    fn sample(&self, options: &mnemo_sampler_options) -> Outcome<()> {
        sample_at(&self.scene.score, options, self.x(), &exec(self.stream, 0, 11))
    }

    /// What is in all of the batch's memory; then that is as at the beginning.
    fn results(&self) -> Vec<u64> {
        let found = [&self.x, &self.out[0], &self.out[1]].map(|room| bits(&room.read())).concat();
        self.x.write(&self.start);
        self.out.iter().for_each(|out| out.write(&vec![0.0; self.start.len()]));
        found
    }

    fn end(self) {
        let Self { driver, stream, .. } = self;
        drop(self);
        driver.drop_stream(stream);
        let violations = driver.counters().capture_violations;
        assert_eq!(violations, 0, "calls that a capture forbids");
        driver.end();
    }
}

/// A warm call does nothing but queue work; in a graph it gives the same bits.
#[track_caller]
fn is_warm_and_graphic(stage: &Stage, name: &str, work: impl Fn(&Stage) -> Outcome<()>) {
    let driver = stage.driver;
    work(stage).unwrap_or_else(|e| panic!("{name}: {e:?}"));
    let expected = stage.results();
    assert!(expected.chunks(expected.len() / 3).any(|part| part.iter().any(|&v| v != 0)));

    let before = driver.counters();
    work(stage).unwrap();
    let after = driver.counters();
    let costs = |c: &crate::driver::Counters| {
        (c.allocations, c.pinned_allocations, c.module_loads, c.synchronizations, c.waits, c.live_allocations)
    };
    assert_eq!(costs(&after), costs(&before), "{name}: a warm call allocates or waits");
    assert!(after.launches > before.launches && after.pending > before.pending, "{name}: nothing was queued");
    assert_eq!(stage.results(), expected, "{name}, warm");

    let graph = driver.capture(stage.stream, || work(stage).unwrap()).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(stage.results()[..stage.start.len()], bits(&stage.start), "{name}: a capture ran");
    for _ in 0..2 {
        graph.launch(stage.stream);
        assert_eq!(stage.results(), expected, "{name}, in a graph");
    }
}

#[test]
fn evaluations() {
    alone(&[], |driver| {
        for shape in [(40, 3), (40, 17), (520, 130)] {
            driver.begin();
            let stage = Stage::new(driver, shape);
            is_warm_and_graphic(&stage, "one time", |stage| stage.eval(&[0.5], 0));
            is_warm_and_graphic(&stage, "equal times", |stage| stage.eval(&[0.5; BATCH], 0));
            stage.end();
        }
    });
}

#[test]
fn samplers() {
    alone(&[], |driver| {
        for shape in [(40, 3), (40, 17), (520, 130)] {
            driver.begin();
            let stage = Stage::new(driver, shape);
            for solver in SOLVERS {
                let mut options = sampler(solver);
                is_warm_and_graphic(&stage, &format!("solver {solver}"), |stage| stage.sample(&options));
                (options.from_prior, options.denoise_last) = (1, 1);
                is_warm_and_graphic(&stage, &format!("solver {solver} from noise"), |stage| stage.sample(&options));
            }
            stage.end();
        }
    });
}

/// A step adds its noise in the kernel that ends it.
#[test]
fn noise_takes_no_kernel_of_its_own() {
    alone(&[], |driver| {
        for shape in [(40, 3), (40, 17), (520, 130)] {
            driver.begin();
            let stage = Stage::new(driver, shape);
            let run = |options: &mnemo_sampler_options| {
                let before = driver.counters().launches;
                stage.sample(options).unwrap();
                (driver.counters().launches - before, stage.results())
            };
            for solver in [MNEMO_SOLVER_EULER_MARUYAMA, MNEMO_SOLVER_ANCESTRAL, MNEMO_SOLVER_EDM_STOCHASTIC] {
                let noisy = sampler(solver);
                // What rows need is made at the first call.
                run(&noisy);
                let quiet = mnemo_sampler_options { alpha2: 0.0, eta: 0.0, s_churn: 0.0, ..noisy };
                let ((with, noised), (without, plain)) = (run(&noisy), run(&quiet));
                assert_ne!(noised, plain, "solver {solver}: there is no noise");
                assert_eq!(with, without, "solver {solver}");
            }
            stage.end();
        }
    });
}

/// Within a capture `work` is refused with these words, and the capture goes on.
#[track_caller]
fn is_refused(stage: &Stage, what: &str, words: &[&str], work: impl FnOnce(&Stage) -> Outcome<()>) {
    let mut outcome = None;
    let graph = stage.driver.capture(stage.stream, || outcome = Some(work(stage)));
    let failure = outcome.unwrap().expect_err(what);
    assert_eq!(failure.status, MNEMO_E_UNSUPPORTED, "{what}: {}", failure.message);
    for word in words {
        assert!(failure.message.contains(word), "{what}: {word} is not in: {}", failure.message);
    }
    graph.map(drop).unwrap_or_else(|code| panic!("{what}: the capture was invalidated ({code})"));
}

#[test]
fn a_capture_refuses_what_was_not_made_ready() {
    alone(&[], |driver| {
        for warm in [false, true] {
            driver.begin();
            let stage = Stage::new(driver, (40, 17));
            if warm {
                warm_up(&stage.scene.context).unwrap();
            }
            is_refused(&stage, "work space", &["exec.stream is being captured", "before capturing"], |stage| {
                stage.eval(&[0.5], 0)
            });
            // On another stream it was made before.
            let other = exec(0, 0, 0);
            let out = stage.out.each_ref().map(|out| device_tensor(out, BATCH, 17));
            write_both(&stage.scene.score, &stage.x(), &[0.5], out, &other).unwrap();
            is_refused(&stage, "another stream", &["exec.stream is being captured"], |stage| stage.eval(&[0.5], 0));
            // And then it is made ready.
            stage.results();
            is_warm_and_graphic(&stage, "afterwards", |stage| stage.eval(&[0.5], 0));
            stage.end();
        }
    });
}

/// Work space is there of one call, but kernels of another are not loaded.
#[test]
fn a_capture_loads_no_kernels() {
    alone(&[], |driver| {
        for solver in [MNEMO_SOLVER_EULER_MARUYAMA, MNEMO_SOLVER_ANCESTRAL] {
            driver.begin();
            let stage = Stage::new(driver, (40, 17));
            // Without noise: kernels of noise are in a file of their own.
            stage.sample(&sampler(MNEMO_SOLVER_DPMPP_2M)).unwrap();
            stage.sample(&sampler(MNEMO_SOLVER_HEUN)).unwrap();
            stage.results();
            is_refused(&stage, "noise", &["exec.stream is being captured"], |stage| stage.sample(&sampler(solver)));
            is_warm_and_graphic(&stage, "afterwards", |stage| stage.sample(&sampler(solver)));
            stage.end();
        }
    });
}

#[test]
fn a_capture_refuses_what_passes_through_the_host() {
    alone(&[], |driver| {
        driver.begin();
        let stage = Stage::new(driver, (40, 17));
        let (dim, here, stream) = (stage.scene.dim, stage.start.clone(), exec(stage.stream, 0, 0));
        let host = || tensor(&here, dim);
        let out = || stage.out.each_ref().map(|out| device_tensor(out, BATCH, dim));
        let times = [0.5, 0.6, 0.7];
        let v = Rng(3).numbers(here.len());
        // Everything once, so that only capturing is in the way.
        let calls: [(&str, &dyn Fn() -> Outcome<()>); 9] = [
            ("different times", &|| stage.eval(&times, 0)),
            ("MNEMO_EXEC_CHECK", &|| stage.eval(&[0.5], MNEMO_EXEC_CHECK)),
            ("x of the host", &|| write_both(&stage.scene.score, &host(), &[0.5], out(), &stream)),
            ("an output of the host", &|| {
                let to = vec![0.0; here.len()];
                write_both(&stage.scene.score, &stage.x(), &[0.5], [out()[0], tensor(&to, dim)], &stream)
            }),
            ("numbers of each row", &|| eval_at(&stage.scene.score, &stage.x(), &[0.5], &stream).map(drop)),
            ("jvp of the host", &|| jvp(&stage.scene.score, &here, &v, dim, &[0.5], &stream).map(drop)),
            ("nearest rows", &|| nearest(&stage.scene.dataset, &here, dim, 0, 2, &stream).map(drop)),
            ("RK45", &|| stage.sample(&sampler(MNEMO_SOLVER_RK45))),
            ("samples of the host", &|| {
                sample(&stage.scene.score, &sampler(MNEMO_SOLVER_HEUN), &here, dim, &stream).map(drop)
            }),
        ];
        for (what, call) in calls {
            call().unwrap_or_else(|e| panic!("{what}: {e:?}"));
        }
        stage.results();
        for (what, call) in calls {
            is_refused(&stage, what, &["exec.stream is being captured"], |_| call());
        }
        is_warm_and_graphic(&stage, "afterwards", |stage| stage.eval(&[0.5], 0));
        stage.end();
    });
}
