//! What a call answers when memory lacks: [`Error::NoMemory`] or the bits that it always answers, never others. An allocator of
//! our own fails one large request, each in turn. One test alone in its process.

use mnemo::cpu::Cpu;
use mnemo::dataset::{Dataset, Decoding};
use mnemo::engine::{Grade, SharedEngine};
use mnemo::error::{Error, Result};
use mnemo::exec::Exec;
use mnemo::memorization::{Metric, nearest};
use mnemo::process::Process;
use mnemo::random::{Purpose, Stream};
use mnemo::score::{Empirical, Evaluation, Regularizer, ScoreModel, Want};
use mnemo::tensor::{Matrix, View};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// The system's allocator, which fails one of the requests of at least [`LARGE`] bytes.
struct Failing;

/// Large requests that are granted before the one that fails; below 0 it is behind us.
static GRANTED: AtomicI64 = AtomicI64::new(-1);
/// More than anything of a fixed size takes.
const LARGE: usize = 16 << 10;

fn grants(bytes: usize) -> bool {
    bytes < LARGE || GRANTED.fetch_sub(1, Ordering::Relaxed) != 0
}

// SAFETY: it hands every request on, or answers that it cannot be met.
unsafe impl GlobalAlloc for Failing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        if grants(layout.size()) { unsafe { System.alloc(layout) } } else { std::ptr::null_mut() }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static FAILING: Failing = Failing;

const LEN: usize = 4096;
const DIM: usize = 128;
/// Enough for a search to have bounds made.
const BATCH: usize = 128;
/// Few rows count.
const NEAR: f64 = 0.05;

/// Rows for which no bounds are made yet.
fn data(engine: &SharedEngine, rows: &[f64]) -> Arc<Dataset> {
    Arc::new(Dataset::copy(engine.clone(), View::new(rows, LEN, DIM), None, Decoding::default()).unwrap())
}

/// What `call` answers when request `granted` fails, and whether there were too few for that.
fn failing<T>(granted: i64, call: impl FnOnce() -> T) -> (T, bool) {
    GRANTED.store(granted, Ordering::Relaxed);
    let answer = call();
    (answer, GRANTED.swap(-1, Ordering::Relaxed) >= 0)
}

/// The bits of an answer, and whether all requests were granted.
type Answer = Result<(Vec<u64>, bool)>;

fn score(data: &Arc<Dataset>, x: &Matrix, granted: i64) -> Answer {
    let process = Process::ve_power(2.0, 1.0, 80.0)?;
    let score = Empirical::new(data.clone(), process, Regularizer::None, 1e-12, None)?;
    let want = Want { score: true, denoised_error_bound: true, ..Want::default() };
    let (e, all) = failing(granted, || score.eval(x, &[NEAR; BATCH], want, Grade::Double, &Exec::default()));
    let Evaluation { score, denoised_error_bound, .. } = e?;
    Ok((score.unwrap().host().iter().chain(&denoised_error_bound.unwrap()).map(|v| v.to_bits()).collect(), all))
}

fn search(data: &Arc<Dataset>, x: &Matrix, granted: i64) -> Answer {
    let (found, all) = failing(granted, || nearest(data, x, Metric::L2, 3, &Exec::default()));
    let found = found?;
    let indices = found.index.iter().map(|i| i.cast_unsigned());
    Ok((found.distance.iter().map(|v| v.to_bits()).chain(indices).collect(), all))
}

#[test]
fn a_call_that_lacks_memory_says_so() {
    let mut numbers = vec![0.0; (LEN + BATCH) * DIM];
    Stream { seed: 3, purpose: Purpose::Prior, step: 0 }.fill_normal(0, &mut numbers);
    let (rows, noise) = numbers.split_at(LEN * DIM);
    let x: Vec<f64> = rows.iter().zip(noise).map(|(y, z)| y + NEAR * z).collect();
    let x = Matrix::from_host(x, BATCH, DIM);
    let engine: SharedEngine = Arc::new(Cpu::new(2, None).unwrap());
    for (name, call) in [("score", score as fn(&Arc<Dataset>, &Matrix, i64) -> Answer), ("search", search)] {
        let answer = |data: &Arc<Dataset>| call(data, &x, -1).unwrap().0;
        let expected = answer(&data(&engine, rows));
        let mut refusals = Vec::new();
        for granted in 0.. {
            let at = || format!("{name}, request {granted}");
            let data = data(&engine, rows);
            let answered = call(&data, &x, granted);
            // What failed has left nothing behind.
            assert!(answer(&data) == expected, "after {}", at());
            match answered {
                Ok((bits, all)) => {
                    assert!(bits == expected, "{}", at());
                    if all {
                        break;
                    }
                }
                Err(Error::NoMemory(message)) => refusals.push(message),
                Err(e) => panic!("{}: {e}", at()),
            }
        }
        // The rows' bounds were among what could not be had.
        for what in ["principal directions", "quantized rows"] {
            assert!(refusals.iter().any(|message| message.starts_with(what)), "{what}: {refusals:?}");
        }
    }
}
