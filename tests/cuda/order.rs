//! In whichever order a device does what it may do in any order, bits are the same.

use crate::driver::{Driver, Room};
use crate::host::*;
use crate::numbers::{Rng, bits};
use crate::process::alone;
use crate::scene::*;
use mnemo::capi::sampler::{MNEMO_SOLVER_EDM_STOCHASTIC, MNEMO_SOLVER_HEUN};

const ORDERS: [&str; 5] = ["late", "queued", "reversed", "random:1", "random:2"];
const BLOCKS: [&str; 2] = ["reverse", "shuffled:5"];

/// Calls on two streams by turns, all of them under way at once, and calls of the host's tensors among them.
fn results(driver: &'static Driver, (count, dim): (usize, usize)) -> Vec<u64> {
    const BATCH: usize = 3;
    let streams = [driver.stream(), driver.stream()];
    let start = Rng(99).numbers(BATCH * dim);
    let rooms = || [(); 2].map(|()| Room::of(driver, &start));
    let (x, score, denoised, state) = (rooms(), rooms(), rooms(), rooms());
    // Last, so that nothing of the test's waits for the rows.
    let scene = Scene::new(&CUDA, count, dim).unwrap();
    let mut found = Vec::new();
    for round in 0..2 {
        for (i, &stream) in streams.iter().enumerate() {
            let at = |rooms: &[Room<'_, f64>; 2]| device_tensor(&rooms[i], BATCH, dim);
            let (t, call) = (0.3 + 0.2 * (i + round) as f64, exec(stream, 0, 3));
            // The second time on what the first wrote.
            write_both(&scene.score, &at(&x), &[t], [at(&score), at(&denoised)], &call).unwrap();
            write_both(&scene.score, &at(&denoised), &[t], [at(&score), at(&x)], &call).unwrap();
            sample_at(&scene.score, &sampler(MNEMO_SOLVER_EDM_STOCHASTIC), at(&state), &call).unwrap();
        }
        let stream = exec(streams[round % 2], 0, 3);
        found.extend(eval(&scene.score, &start, dim, &[0.3, 0.5, 0.7], &stream).unwrap().bits());
        found.extend(bits(&sample(&scene.score, &sampler(MNEMO_SOLVER_HEUN), &start, dim, &stream).unwrap()));
        let (distance, index) = nearest(&scene.dataset, &start, dim, 0, 5, &stream).unwrap();
        found.extend(bits(&distance));
        found.extend(index.into_iter().map(i64::cast_unsigned));
    }
    for rooms in [&x, &score, &denoised, &state] {
        rooms.iter().for_each(|room| found.extend(bits(&room.read())));
    }
    drop((x, score, denoised, state, scene));
    streams.into_iter().for_each(|stream| driver.drop_stream(stream));
    driver.end();
    found
}

#[test]
fn of_work() {
    for order in ORDERS {
        alone(&[("STANDIN_ORDER", order)], |driver| {
            for shape in [(40, 3), (40, 17), (520, 130)] {
                driver.begin();
                let found = results(driver, shape);
                driver.begin();
                driver.set("STANDIN_ORDER", "immediate");
                assert!(found == results(driver, shape), "{shape:?}");
            }
        });
        if crate::process::is_child() {
            return;
        }
    }
}

#[test]
fn of_blocks() {
    for blocks in BLOCKS {
        alone(&[("STANDIN_BLOCKS", blocks)], |driver| {
            for shape in [(40, 3), (40, 17), (520, 130)] {
                driver.begin();
                let found = results(driver, shape);
                driver.begin();
                driver.set("STANDIN_BLOCKS", "forward");
                assert!(found == results(driver, shape), "{shape:?}");
            }
        });
        if crate::process::is_child() {
            return;
        }
    }
}
