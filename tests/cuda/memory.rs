//! Device memory that runs out.

use crate::driver::{Driver, OUT_OF_MEMORY};
use crate::host::{CUDA, exec};
use crate::process::alone;
use crate::scene::{OPERATIONS, Operation, Scene, eval};
use mnemo::capi::status::MNEMO_E_NOMEM;

/// A fresh scene on a fresh driver, after which nothing may be left.
fn trial<T>(driver: &Driver, test: impl FnOnce(&Scene) -> T) -> T {
    driver.begin();
    let scene = Scene::new(&CUDA, 20, 17).unwrap();
    let result = test(&scene);
    drop(scene);
    driver.end();
    result
}

/// What a call gives where memory does not run out, and how many blocks it takes.
fn expected(driver: &Driver, operation: Operation) -> (Vec<u64>, u64) {
    trial(driver, |scene| {
        let before = driver.counters().allocations;
        let bits = operation(scene).unwrap();
        let taken = driver.counters().allocations - before;
        assert!(taken > 0, "a call that takes no memory shows nothing");
        // The second time there is room from the first.
        assert_eq!(operation(scene).unwrap(), bits);
        (bits, taken)
    })
}

#[test]
fn one_refusal_is_made_good() {
    alone(&[], |driver| {
        for (name, operation) in OPERATIONS {
            let (bits, taken) = expected(driver, *operation);
            for k in 1..=taken {
                trial(driver, |scene| {
                    driver.fail("cuMemAlloc_v2", k, OUT_OF_MEMORY);
                    let found = operation(scene).unwrap_or_else(|e| panic!("{name}, allocation {k}: {e:?}"));
                    assert_eq!(found, bits, "{name}, allocation {k}");
                });
            }
        }
    });
}

#[test]
fn two_refusals_are_an_error() {
    alone(&[], |driver| {
        for (name, operation) in OPERATIONS {
            let (bits, taken) = expected(driver, *operation);
            for k in 1..=taken {
                trial(driver, |scene| {
                    // The second is the attempt after idle memory was freed.
                    driver.fail("cuMemAlloc_v2", k, OUT_OF_MEMORY);
                    driver.fail("cuMemAlloc_v2", k + 1, OUT_OF_MEMORY);
                    let failure = operation(scene).expect_err(name);
                    assert_eq!(failure.status, MNEMO_E_NOMEM, "{name}, allocation {k}: {}", failure.message);
                    assert!(failure.message.contains("bytes"), "{}", failure.message);
                    assert_eq!(operation(scene).unwrap(), bits, "{name} after allocation {k}");
                });
            }
        }
    });
}

#[test]
fn no_memory_at_all() {
    alone(&[], |driver| {
        for (name, operation) in OPERATIONS {
            trial(driver, |scene| {
                driver.fail("cuMemAlloc_v2", 0, OUT_OF_MEMORY);
                for _ in 0..2 {
                    assert_eq!(operation(scene).expect_err(name).status, MNEMO_E_NOMEM, "{name}");
                }
            });
        }
    });
}

/// Idle memory of an earlier call is freed for one that needs another kind of it.
#[test]
fn idle_memory_is_given_up() {
    alone(&[], |driver| {
        for (name, operation) in OPERATIONS {
            let (bits, _) = expected(driver, *operation);
            trial(driver, |scene| {
                for (_, other) in OPERATIONS {
                    other(scene).unwrap();
                }
                let held = driver.counters().live_allocations;
                driver.fail("cuMemAlloc_v2", 1, OUT_OF_MEMORY);
                // Labels and rows are never in idle memory: making a data set allocates.
                (OPERATIONS[0].1)(scene).unwrap();
                assert!(driver.counters().live_allocations < held, "nothing was freed");
                assert_eq!(operation(scene).unwrap(), bits, "{name}");
            });
        }
    });
}

/// A host may take a new stream for every request: what they used is not kept for all of them.
#[test]
fn streams_that_come_and_go() {
    alone(&[], |driver| {
        driver.begin();
        let scene = Scene::new(&CUDA, 20, 17).unwrap();
        let (x, mut live, mut streams) = (scene.points(2), Vec::new(), Vec::new());
        let on = |stream| eval(&scene.score, &x, 17, &[0.5], &exec(stream, 0, 0)).unwrap().bits();
        let first = driver.stream();
        let expected = on(first);
        for _ in 0..40 {
            let stream = driver.stream();
            assert_eq!(on(stream), expected);
            // They go at the end, so that no two have the same number.
            streams.push(stream);
            // The first one stays among the last.
            let before = driver.counters().allocations;
            assert_eq!(on(first), expected);
            assert_eq!(driver.counters().allocations, before, "a stream in use lost its memory");
            live.push(driver.counters().live_allocations);
        }
        assert!(live[3] < live[10], "what a stream used is kept");
        assert_eq!(live[20], live[39], "and not for ever");
        streams.push(first);
        streams.into_iter().for_each(|stream| driver.drop_stream(stream));
        drop(scene);
        driver.end();
    });
}
