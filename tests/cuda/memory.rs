//! Device memory that runs out.

use crate::driver::{Driver, OUT_OF_MEMORY};
use crate::host::CUDA;
use crate::process::alone;
use crate::scene::{OPERATIONS, Operation, Scene};
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
