//! What a call takes beyond the data set: the largest number of bytes that were live at once, counted by an allocator of
//! our own, against what the modules of `src/cpu` and README promise. Nothing may be of size batch × N.

use mnemo::cpu::Cpu;
use mnemo::dataset::{Dataset, Decoding};
use mnemo::engine::{Grade, SharedEngine};
use mnemo::exec::Exec;
use mnemo::memorization::{Metric, nearest};
use mnemo::process::Process;
use mnemo::random::{Purpose, Stream};
use mnemo::sampler::{Options, Solver, sample};
use mnemo::score::{Empirical, Regularizer, ScoreModel, Want};
use mnemo::tensor::{Matrix, View};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

/// The system's allocator, and how much of its memory is in use.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn took(bytes: usize) {
    let live = LIVE.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(live, Ordering::Relaxed);
}

fn gave(bytes: usize) {
    LIVE.fetch_sub(bytes, Ordering::Relaxed);
}

// SAFETY: all of it is the system's allocator; counting takes no memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        gave(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both may exist while the contents move.
        took(size);
        // SAFETY: the caller's promise.
        let moved = unsafe { System.realloc(at, layout, size) };
        gave(layout.size());
        moved
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// One test at a time: the count is of the whole process.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// What `work` took at most beyond what was in use when it began, and what it left in use, its result included.
fn taken<T>(work: impl FnOnce() -> T) -> (T, usize, usize) {
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let result = work();
    let left = LIVE.load(Ordering::Relaxed).saturating_sub(before);
    (result, PEAK.load(Ordering::Relaxed) - before, left)
}

const THREADS: usize = 2;
const DIM: usize = 128;
/// Both are cut into the most chunks there are.
const FEW: usize = 1 << 15;
const MANY: usize = 1 << 16;
const BATCH: usize = 512;

/// A noise level at which every row counts, and one at which hardly any but the nearest does.
const FAR: f64 = 10.0;
const NEAR: f64 = 0.02;

// The promises.
/// Bytes a row that a data set of at least 128 dimensions keeps for its bounds once they are made.
const BOUNDS: usize = 104 + DIM;
/// Results of chunks, rows found near or candidates of a search that are kept at a time.
const WAVE: usize = 64 << 20;
/// Per thread: a tile of 400 KiB in float32 in up to three forms, 20 bytes a number where one is 4, and the distances and
/// weights of 128 queries to each of its at most 256 rows; a sixth more, since tiles are whole numbers of 16 rows.
const PER_THREAD: usize = (400 << 10) * 20 / 4 * 7 / 6 + 128 * 256 * 20;
/// Small things: one number each, for each query; the lists of tasks and of what they find.
const PER_QUERY: usize = 1024;
const SMALL: usize = 1 << 20;

/// The work space of a call that keeps `matrices` matrices `[batch, dim]` of float64.
fn bound(batch: usize, matrices: usize) -> usize {
    WAVE + THREADS * PER_THREAD + batch * (matrices * DIM * 8 + PER_QUERY) + SMALL
}

/// `len` images of 8 bits: twelve waves with random heights, and a little noise.
fn data(len: usize) -> Arc<Dataset> {
    const WAVES: usize = 12;
    let engine: SharedEngine = Arc::new(Cpu::new(THREADS, None).unwrap());
    let normals = |purpose, sample, out: &mut [f64]| Stream { seed: 1, purpose, step: 0 }.fill_normal(sample, out);
    let mut waves = [[0.0; DIM]; WAVES];
    for (k, wave) in waves.iter_mut().enumerate() {
        normals(Purpose::Prior, k as u64, wave);
    }
    let mut raw = vec![0u8; len * DIM];
    let (mut heights, mut row) = ([0.0; WAVES], [0.0; DIM]);
    for (n, raw) in raw.chunks_exact_mut(DIM).enumerate() {
        normals(Purpose::Step, n as u64, &mut heights);
        normals(Purpose::Churn, n as u64, &mut row);
        for (height, wave) in heights.iter().zip(&waves) {
            row.iter_mut().zip(wave).for_each(|(v, w)| *v += 2.0 * height * w);
        }
        raw.iter_mut().zip(row).for_each(|(raw, v)| *raw = (128.0 + 8.0 * v) as u8);
    }
    let decoding = Decoding { scale: 1.0 / 127.5, shift: -1.0 };
    Arc::new(Dataset::copy(engine, View::new(&raw, len, DIM), None, decoding).unwrap())
}

/// [`MANY`] rows whose bounds are made, for all tests, and a score of them.
fn prepared() -> (&'static Arc<Dataset>, Empirical) {
    static DATA: OnceLock<Arc<Dataset>> = OnceLock::new();
    let data = DATA.get_or_init(|| {
        let data = data(MANY);
        eval(&score(&data), &queries(&data, 1, NEAR), NEAR, SCORE);
        data
    });
    (data, score(data))
}

fn score(data: &Arc<Dataset>) -> Empirical {
    let process = Process::ve_power(2.0, 1.0, 80.0).unwrap();
    Empirical::new(Arc::clone(data), process, Regularizer::None, 1e-12, None).unwrap()
}

/// Every few rows of the data, noised.
fn queries(data: &Dataset, batch: usize, sigma: f64) -> Matrix {
    let mut x = vec![0.0; batch * DIM];
    let mut noise = [0.0; DIM];
    for (b, x) in x.chunks_exact_mut(DIM).enumerate() {
        data.rows().decode(b * data.rows().len() / batch, x);
        Stream { seed: 2, purpose: Purpose::Prior, step: 0 }.fill_normal(b as u64, &mut noise);
        x.iter_mut().zip(noise).for_each(|(x, z)| *x += sigma * z);
    }
    Matrix::from_host(x, batch, DIM)
}

/// The scores' peak for `batch` queries.
fn eval(model: &Empirical, x: &Matrix, sigma: f64, want: Want) -> usize {
    let t = vec![sigma; x.rows()];
    taken(|| model.eval(x, &t, want, Grade::Single, &Exec::default()).unwrap()).1
}

const SCORE: Want = Want {
    score: true,
    denoised: false,
    log_density: false,
    divergence: false,
    entropy: false,
    nearest_index: false,
    nearest_distance: false,
    denoised_error_bound: false,
    log_density_error_bound: false,
};
const ALL: Want = Want {
    score: true,
    denoised: true,
    log_density: true,
    divergence: true,
    entropy: true,
    nearest_index: true,
    nearest_distance: true,
    denoised_error_bound: true,
    log_density_error_bound: true,
};

/// `peak` is within what was promised, which is less than a float32 for every query and row.
fn assert_bounded(what: &str, peak: usize, bound: usize, batch: usize, len: usize) {
    assert!(peak <= bound, "{what}: {peak} bytes, of which {bound} were promised");
    assert!(3 * bound <= 2 * batch * len * 4, "{what}: a bound of {bound} bytes would not notice batch × N");
}

#[test]
fn a_data_set_keeps_its_rows_a_norm_each_and_bounds() {
    let _alone = alone();
    let (data, peak, kept) = taken(|| data(MANY));
    // The caller's own copy of the rows was there meanwhile.
    let rows = MANY * (DIM + 8);
    assert!((rows..rows + SMALL).contains(&kept), "{kept} bytes for {rows} of rows and norms");
    assert!(peak <= kept + MANY * DIM + SMALL, "{peak} bytes while it was made");
    let x = queries(&data, 1, NEAR);
    let model = score(&data);
    let (_, peak, kept) = taken(|| model.eval(&x, &[NEAR], SCORE, Grade::Single, &Exec::default()).unwrap());
    let bounds = MANY * BOUNDS;
    // 64 directions are kept besides.
    assert!((bounds..bounds + SMALL).contains(&kept), "{kept} bytes kept for bounds, {BOUNDS} a row are {bounds}");
    // Nothing else is of size N while they are made, but what the query itself may find: 2 bytes a row.
    assert!(peak <= bounds + 2 * MANY + 2 * THREADS * PER_THREAD + SMALL, "{peak} bytes while bounds were made");
}

#[test]
fn scores_take_a_bounded_work_space() {
    let _alone = alone();
    let (data, model) = prepared();
    for (sigma, want) in [(FAR, SCORE), (NEAR, SCORE), (FAR, ALL), (NEAR, ALL)] {
        let x = queries(data, BATCH, sigma);
        // x/m, two outputs, and x again as the kernels read it.
        let peak = eval(&model, &x, sigma, want);
        assert_bounded(&format!("score, sigma {sigma}"), peak, bound(BATCH, 5), BATCH, MANY);
    }
    for sigma in [FAR, NEAR] {
        let (x, v, t) = (queries(data, BATCH, sigma), queries(data, BATCH, 1.0), vec![sigma; BATCH]);
        let peak = taken(|| model.jvp(&x, &t, &v, Grade::Single, &Exec::default()).unwrap()).1;
        assert_bounded(&format!("jvp, sigma {sigma}"), peak, bound(BATCH, 5), BATCH, MANY);
    }
}

#[test]
fn a_search_takes_a_bounded_work_space() {
    let _alone = alone();
    let (data, _) = prepared();
    let x = queries(data, BATCH, NEAR);
    const K: usize = 50;
    let outputs = BATCH * K * 16;
    let peak = taken(|| nearest(data, &x, Metric::L2, K, &Exec::default()).unwrap()).1;
    // A query's candidates, 64 queries at a time; the documented most is WAVE.
    let candidates = 64 * 16 * (K * 32).min(MANY);
    assert_bounded("search", peak, bound(BATCH, 2) - WAVE + candidates + outputs, BATCH, MANY);
}

#[test]
fn samplers_take_a_few_times_their_state() {
    let _alone = alone();
    let (_, model) = prepared();
    let run = |options: &Options, matrices: usize| {
        let x = Matrix::from_host(vec![0.0; BATCH * DIM], BATCH, DIM);
        let peak = taken(|| sample(&model, options, x, Grade::Single, None, &Exec::default()).unwrap()).1;
        assert_bounded(&format!("{:?}", options.solver), peak, bound(BATCH, matrices), BATCH, MANY);
    };
    // From far to near.
    let options = Options { steps: 2, denoise_last: true, from_prior: true, ..Options::default() };
    run(&Options { solver: Solver::Heun, ..options.clone() }, 5 + 4);
    run(&Options { solver: Solver::DpmPp2m, ..options.clone() }, 5 + 4);
    // Seven stages and the states around them.
    run(
        &Options { solver: Solver::Rk45, rtol: 1.0, atol: 1.0, t_start: Some(0.02), t_end: Some(0.01), ..options },
        5 + 14,
    );
}

#[test]
fn work_space_does_not_grow_with_the_data() {
    let _alone = alone();
    let batch = 64;
    let peaks = |len: usize| {
        let data = data(len);
        let model = score(&data);
        eval(&model, &queries(&data, 1, NEAR), NEAR, SCORE);
        let at = |sigma| eval(&model, &queries(&data, batch, sigma), sigma, ALL);
        let x = queries(&data, batch, NEAR);
        nearest(&data, &x, Metric::L2, 50, &Exec::default()).unwrap();
        let search = taken(|| nearest(&data, &x, Metric::L2, 50, &Exec::default()).unwrap()).1;
        [at(FAR), at(NEAR), search]
    };
    let (few, many) = (peaks(FEW), peaks(MANY));
    // What is found near each query has room for 2 bytes a row; nothing else knows how many rows there are. What threads
    // take while they run is 128 KiB each or so, and they may or may not meet.
    const CHANCE: usize = THREADS * (256 << 10);
    let grows = [0, 2 * (batch + THREADS) * (MANY - FEW), 0];
    for (i, grows) in grows.into_iter().enumerate() {
        assert!(
            many[i] <= few[i] + grows + CHANCE,
            "dense, near, search: {few:?} bytes with {FEW} rows, {many:?} with {MANY}"
        );
    }
}
