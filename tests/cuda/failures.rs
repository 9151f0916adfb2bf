//! Functions of the driver that fail.

use crate::driver::{Driver, ILLEGAL_ADDRESS, INVALID_VALUE, LAUNCH_FAILED, Room};
use crate::host::{CUDA, Outcome, context, describe, device_tensor, exec, warm_up};
use crate::process::alone;
use crate::scene::{OPERATIONS, Scene, write_both};
use mnemo::capi::status::*;

/// What the engine calls while it computes.
const FUNCTIONS: &[&str] = &[
    "cuCtxPushCurrent_v2",
    "cuModuleLoadData",
    "cuModuleGetFunction",
    "cuLaunchKernel",
    "cuMemAlloc_v2",
    "cuMemcpyHtoDAsync_v2",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpy2DAsync_v2",
    "cuMemsetD8Async",
    "cuStreamSynchronize",
    "cuStreamIsCapturing",
];

fn scene(driver: &Driver) -> Scene {
    driver.begin();
    Scene::new(&CUDA, 20, 17).unwrap()
}

#[test]
fn a_call_tells_what_failed() {
    alone(&[], |driver| {
        let mut reached = std::collections::BTreeSet::new();
        for (name, operation) in OPERATIONS {
            let first = scene(driver);
            let bits = operation(&first).unwrap();
            drop(first);
            driver.end();
            for function in FUNCTIONS {
                // A data set that is let go of makes the context current too, and can tell nobody.
                let calls: &[u64] = if *function == "cuCtxPushCurrent_v2" { &[1] } else { &[1, 2, 3, 7] };
                for &k in calls {
                    let scene = scene(driver);
                    driver.fail(function, k, INVALID_VALUE);
                    let outcome = operation(&scene);
                    let passed = outcome.is_ok();
                    match outcome {
                        // It was not called so often.
                        Ok(found) => assert_eq!(found, bits, "{name} where {function} would fail"),
                        Err(e) => {
                            reached.insert(*function);
                            let of_kernels = function.starts_with("cuModule");
                            let expected = if of_kernels { MNEMO_E_COMPILE } else { MNEMO_E_CUDA };
                            assert_eq!((e.status, e.native), (expected, INVALID_VALUE), "{name}: {}", e.message);
                            let says = e.message.contains(function) && e.message.contains("CUDA_ERROR_INVALID_VALUE");
                            assert!(says, "{name}: {function} is not in: {}", e.message);
                            assert_eq!(operation(&scene).unwrap(), bits, "{name} after {function} failed");
                        }
                    }
                    drop(scene);
                    driver.end();
                    if passed {
                        break;
                    }
                }
            }
        }
        let missing: Vec<_> = FUNCTIONS.iter().filter(|f| !reached.contains(*f)).collect();
        assert!(missing.is_empty(), "never failed: {missing:?}");
    });
}

/// Rows of more than 64 numbers take more shared memory than every device gives unasked.
#[test]
fn shared_memory_that_is_refused() {
    alone(&[], |driver| {
        let scene = Scene::new(&CUDA, 20, 70).unwrap();
        let (_, operation) = OPERATIONS.iter().find(|(name, _)| *name == "mnemo_sample").unwrap();
        driver.fail("cuFuncSetAttribute", 1, INVALID_VALUE);
        let failure = operation(&scene).unwrap_err();
        assert_eq!((failure.status, failure.native), (MNEMO_E_CUDA, INVALID_VALUE), "{}", failure.message);
        assert!(failure.message.contains("cuFuncSetAttribute"), "{}", failure.message);
        operation(&scene).unwrap();
        drop(scene);
        driver.end();
    });
}

#[test]
fn a_context_tells_what_failed() {
    alone(&[], |driver| {
        const FUNCTIONS: &[&str] =
            &["cuDeviceGetCount", "cuDeviceGet", "cuDeviceGetName", "cuDeviceGetAttribute", "cuDevicePrimaryCtxRetain"];
        // The driver is found first: it is initialised once.
        drop(context(&CUDA).unwrap());
        driver.end();
        for function in FUNCTIONS {
            driver.begin();
            driver.fail(function, 1, INVALID_VALUE);
            let failure = context(&CUDA).err().expect(function);
            assert_eq!(failure.status, MNEMO_E_DEVICE, "{}", failure.message);
            assert!(failure.message.contains(function), "{function} is not in: {}", failure.message);
            drop(context(&CUDA).unwrap());
            driver.end();
        }
    });
}

#[test]
fn kernels_that_do_not_load() {
    alone(&[], |driver| {
        for (function, k) in
            [("cuModuleLoadData", 1), ("cuModuleLoadData", 3), ("cuModuleGetFunction", 1), ("cuModuleGetFunction", 9)]
        {
            driver.begin();
            let context = context(&CUDA).unwrap();
            driver.fail(function, k, INVALID_VALUE);
            let failure = warm_up(&context).expect_err(function);
            assert_eq!((failure.status, failure.native), (MNEMO_E_COMPILE, INVALID_VALUE), "{}", failure.message);
            assert!(failure.message.contains(function), "{}", failure.message);
            warm_up(&context).unwrap();
            assert_eq!(describe(&context)["kernels"]["not_loaded"], 0);
            drop(context);
            driver.end();
        }
    });
}

/// What is let go of goes, whatever fails.
#[test]
fn releases_that_fail() {
    alone(&[], |driver| {
        for function in ["cuCtxSynchronize", "cuDeviceGet"] {
            let scene = scene(driver);
            for (_, operation) in OPERATIONS {
                operation(&scene).unwrap();
            }
            driver.fail(function, 0, INVALID_VALUE);
            drop(scene);
            driver.end();
        }
        // Nothing can be done about these, but to go on.
        for function in ["cuMemFree_v2", "cuModuleUnload", "cuDevicePrimaryCtxRelease_v2"] {
            let scene = scene(driver);
            for (_, operation) in OPERATIONS {
                operation(&scene).unwrap();
            }
            driver.fail(function, 0, INVALID_VALUE);
            drop(scene);
        }
    });
}

fn is_poisoned<T>(outcome: Outcome<T>, what: &str) {
    let failure = outcome.err().expect(what);
    assert_eq!(failure.status, MNEMO_E_POISONED, "{what}: {}", failure.message);
}

/// After a fault of the device its contexts are lost, and say so.
#[test]
fn a_fault_poisons_the_context() {
    alone(&[], |driver| {
        for code in [LAUNCH_FAILED, ILLEGAL_ADDRESS] {
            for (function, k) in
                [("cuLaunchKernel", 1), ("cuLaunchKernel", 2), ("cuStreamSynchronize", 1), ("cuMemcpy2DAsync_v2", 1)]
            {
                for (name, operation) in &OPERATIONS[1..] {
                    let scene = scene(driver);
                    driver.fail(function, k, code);
                    let failure = operation(&scene).expect_err(name);
                    let found = (failure.status, failure.native);
                    assert_eq!(found, (MNEMO_E_CUDA, code), "{name}, {function}: {}", failure.message);
                    assert!(failure.message.contains(function), "{name}: {}", failure.message);
                    for (other, operation) in OPERATIONS {
                        is_poisoned(operation(&scene), other);
                    }
                    is_poisoned(warm_up(&scene.context), "mnemo_context_warm_up");
                    // It can still say what it is, and be let go of.
                    assert_eq!(describe(&scene.context)["backend"], "cuda");
                    drop(scene);
                    driver.end_after_fault();
                }
            }
        }
    });
}

/// A kernel that touches what is not there: all contexts of the device are lost.
#[test]
fn memory_that_is_gone() {
    alone(&[], |driver| {
        let (scene, other) = (Scene::new(&CUDA, 20, 17).unwrap(), Scene::new(&CUDA, 20, 17).unwrap());
        let x = scene.points(2);
        let (room, gone) = (Room::of(driver, &x), Room::of(driver, &x));
        let out = [(); 2].map(|()| device_tensor(&room, 2, 17));
        let at = device_tensor(&gone, 2, 17);
        drop(gone);
        // Nothing is waited for, so nothing is known yet.
        write_both(&scene.score, &at, &[0.5], out, &exec(0, 0, 0)).unwrap();
        let (_, operation) = OPERATIONS[1];
        let failure = operation(&scene).unwrap_err();
        assert_eq!((failure.status, failure.native), (MNEMO_E_CUDA, ILLEGAL_ADDRESS), "{}", failure.message);
        assert!(driver.last_fault().contains("mnemo_load"), "{}", driver.last_fault());
        is_poisoned(operation(&scene), "the same context");
        // Another learns it from the driver, and then knows.
        let failure = operation(&other).unwrap_err();
        assert!(matches!(failure.status, MNEMO_E_CUDA | MNEMO_E_POISONED), "{}", failure.message);
        is_poisoned(operation(&other), "another context");
        drop((scene, other, room));
        driver.end_after_fault();
    });
}
