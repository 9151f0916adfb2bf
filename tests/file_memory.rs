//! How much memory a data set beyond the memory limit takes, counted by the allocator. One test alone in its process.

use mnemo::cpu::Cpu;
use mnemo::dataset::{Dataset, Decoding};
use mnemo::engine::{Grade, SharedEngine};
use mnemo::exec::Exec;
use mnemo::memorization::{Metric, nearest};
use mnemo::process::Process;
use mnemo::score::{Empirical, Regularizer, ScoreModel, Want};
use mnemo::tensor::Matrix;
use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{BufWriter, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

struct Counting;
static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: it is the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(live, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_file_of_ten_times_the_limit_is_served_within_it() {
    const ROWS: usize = 20_000;
    const DIM: usize = 512;
    const FILE: usize = ROWS * DIM * 4;
    const LIMIT: usize = FILE / 10;
    let file = tempfile::NamedTempFile::new().unwrap();
    {
        let mut to = BufWriter::new(file.as_file());
        let sizes = [ROWS as u32, DIM as u32].map(u32::to_be_bytes);
        to.write_all(&[0, 0, 0x0D, 2]).and_then(|()| to.write_all(sizes.as_flattened())).unwrap();
        for i in 0..ROWS * DIM {
            to.write_all(&(((i * 7919) % 10007) as f32 / 1e4).to_be_bytes()).unwrap();
        }
    }
    let mut peaks = Vec::new();
    for limit in [Some(LIMIT as u64), None] {
        let before = LIVE.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        let engine: SharedEngine = Arc::new(Cpu::new(1, limit).unwrap());
        let data = Arc::new(Dataset::open(engine, file.path(), None, Decoding::default()).unwrap());
        let resident = LIVE.load(Ordering::Relaxed) - before;
        let process = Process::ve_power(2.0, 1.0, 80.0).unwrap();
        let score = Empirical::new(data.clone(), process, Regularizer::None, 1e-12, None).unwrap();
        let x = Matrix::from_host(vec![0.25; 4 * DIM], 4, DIM);
        let want = Want { score: true, log_density: true, divergence: true, ..Want::default() };
        for grade in [Grade::Single, Grade::Double] {
            score.eval(&x, &[0.01, 0.5, 5.0, 50.0], want, grade, &Exec::default()).unwrap();
        }
        for metric in [Metric::L2, Metric::Cosine] {
            nearest(&data, &x, metric, 10, &Exec::default()).unwrap();
        }
        peaks.push((resident, PEAK.load(Ordering::Relaxed) - before));
    }
    let [(resident, peak), (in_memory, _)] = peaks[..] else { unreachable!() };
    // The counting itself: an open file in memory takes at least its size.
    assert!(in_memory > FILE, "{in_memory}");
    // Norms, the mean in three forms, the file's name, the context.
    assert!(resident < 8 * ROWS + 20 * DIM + 4096, "{resident} bytes stay in memory");
    assert!(peak < LIMIT, "{peak} bytes with all buffers, the limit is {LIMIT}");
}
