//! A sampler's memory is that of its samples: no step asks for any of its own.

use mnemo::cpu::Cpu;
use mnemo::dataset::{Dataset, Decoding};
use mnemo::engine::{Grade, SharedEngine};
use mnemo::exec::Exec;
use mnemo::process::Process;
use mnemo::sampler::{Grid, Options, Solver, sample};
use mnemo::score::{Empirical, Regularizer};
use mnemo::tensor::View;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The system's allocator, counted.
struct Counted;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: it hands every request on.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTED: Counted = Counted;

/// A step would allocate at least once, and the long run has this many more.
const MORE_STEPS: usize = 400;
/// What rayon's queues may add by chance, whatever the number of steps.
const BY_CHANCE: u64 = 20;

/// One test, because the count is the whole process's.
#[test]
fn a_longer_run_allocates_no_more() {
    for (threads, batch) in [(1, 1000), (2, 1000), (2, 30)] {
        let engine: SharedEngine = Arc::new(Cpu::new(threads, None).unwrap());
        let rows: Vec<f32> = (0..40u8).map(|i| f32::from(i * 37 % 64) / 16.0 - 2.0).collect();
        let dataset = Dataset::copy(engine.clone(), View::new(&rows, 20, 2), None, Decoding::default()).unwrap();
        let dataset = Arc::new(dataset);
        for process in [Process::ve_power(2.0, 1.0, 80.0), Process::vp_linear(0.1, 20.0, 1.0)] {
            let process = process.unwrap();
            for regularizer in [Regularizer::None, Regularizer::Tikhonov { c: 0.1 }] {
                let score = Empirical::new(dataset.clone(), process.clone(), regularizer, 1e-12, None).unwrap();
                for solver in [
                    Solver::Euler,
                    Solver::Heun,
                    Solver::Exponential,
                    Solver::DpmPp2m,
                    Solver::EulerMaruyama,
                    Solver::Ancestral,
                    Solver::EdmStochastic,
                    Solver::Rk45,
                ] {
                    let run = |steps: usize| {
                        // RK45 takes more steps for a smaller tolerance: in fifth order, about as many more.
                        let tol = if steps > 20 { 1e-10 } else { 1e-3 };
                        let options = Options {
                            solver,
                            steps,
                            rtol: tol,
                            atol: tol,
                            grid: Grid::UniformT,
                            from_prior: true,
                            ..Options::default()
                        };
                        let x = engine.zeros(batch, 2).unwrap();
                        let before = ALLOCATIONS.load(Ordering::Relaxed);
                        sample(&score, &options, x, Grade::Single, None, &Exec::default()).unwrap();
                        ALLOCATIONS.load(Ordering::Relaxed) - before
                    };
                    // The threads start, and the rows are decoded.
                    run(20);
                    let (short, long) = (run(20), run(20 + MORE_STEPS));
                    assert!(
                        long <= short + BY_CHANCE,
                        "{threads} threads, {batch} samples, {solver:?}, {regularizer:?}: {short} and {long} allocations"
                    );
                }
            }
        }
    }
}
