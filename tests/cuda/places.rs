//! Tensors on the wrong device, and contexts of the caller's own.

use crate::driver::Room;
use crate::host::*;
use crate::process::alone;
use crate::scene::*;
use mnemo::capi::sampler::MNEMO_SOLVER_HEUN;
use mnemo::capi::status::MNEMO_E_DEVICE;
use mnemo::capi::tensor::{MNEMO_CUDA, mnemo_tensor};

#[track_caller]
fn refused<T>(outcome: Outcome<T>, words: &[&str]) {
    let failure = outcome.err().expect("a tensor on the wrong device");
    assert_eq!(failure.status, MNEMO_E_DEVICE, "{}", failure.message);
    for word in words {
        assert!(failure.message.contains(word), "{word} is not in: {}", failure.message);
    }
}

#[test]
fn a_tensor_on_another_device() {
    alone(&[], |driver| {
        let dim = 3;
        for (place, device_id, word) in [(CUDA, 1, "device"), (CUDA, -1, "device"), (CPU, 0, "CPU"), (CPU, 1, "CPU")] {
            let scene = Scene::new(&place, 20, dim).unwrap();
            let x = scene.points(2);
            let room = Room::of(driver, &x);
            let elsewhere = mnemo_tensor { device_id, ..device_tensor(&room, 2, dim) };
            let host = vec![0.0; x.len()];
            let here = || tensor(&host, dim);
            let exec = exec(0, 0, 0);
            refused(dataset(&scene.context, &elsewhere), &["rows", word]);
            refused(eval_at(&scene.score, &elsewhere, &[0.5], &exec), &["x", word]);
            let x = tensor(&x, dim);
            refused(write_both(&scene.score, &x, &[0.5], [elsewhere, here()], &exec), &["score", word]);
            refused(write_both(&scene.score, &x, &[0.5], [here(), elsewhere], &exec), &["denoised", word]);
            refused(sample_at(&scene.score, &sampler(MNEMO_SOLVER_HEUN), elsewhere, &exec), &["x_inout", word]);
        }
        // A type that is none.
        let scene = Scene::new(&CUDA, 20, dim).unwrap();
        let x = scene.points(2);
        let unknown = mnemo_tensor { device_type: 10, ..tensor(&x, dim) };
        refused(eval_at(&scene.score, &unknown, &[0.5], &exec(0, 0, 0)), &["x", "10"]);
        // The host's memory has no number.
        let odd = mnemo_tensor { device_id: 5, ..tensor(&x, dim) };
        eval_at(&scene.score, &odd, &[0.5], &exec(0, 0, 0)).unwrap();
        drop(scene);
        driver.end();
    });
}

/// A context on the second device takes its tensors, and none of the first's.
#[test]
fn the_second_device() {
    alone(&[], |driver| {
        let second = Place { device_id: 1, ..CUDA };
        let (first, scene) = (Scene::new(&CUDA, 20, 17).unwrap(), Scene::new(&second, 20, 17).unwrap());
        assert_eq!(describe(&scene.context)["device_id"], 1);
        for (name, operation) in OPERATIONS {
            assert_eq!(operation(&scene).unwrap(), operation(&first).unwrap(), "{name}");
        }
        let room = Room::of(driver, &scene.points(2));
        let x = device_tensor(&room, 2, 17);
        assert_eq!((x.device_type, x.device_id), (MNEMO_CUDA, 0));
        refused(eval_at(&scene.score, &x, &[0.5], &exec(0, 0, 0)), &["x", "device"]);
        drop((room, first, scene));
        driver.end();
    });
}

/// Whatever context is current stays so, and the library uses its own.
#[test]
fn a_context_of_the_callers() {
    alone(&[], |driver| {
        let alone = Scene::new(&CUDA, 20, 17).unwrap();
        let expected: Vec<_> = OPERATIONS.iter().map(|(_, operation)| operation(&alone).unwrap()).collect();
        drop(alone);
        for device in [0, 1] {
            let own = driver.own_context(device);
            let scene = Scene::new(&CUDA, 20, 17).unwrap();
            assert_eq!(driver.current(), own);
            for ((name, operation), expected) in OPERATIONS.iter().zip(&expected) {
                assert_eq!(operation(&scene).unwrap(), *expected, "{name}");
                assert_eq!(driver.current(), own, "{name}");
            }
            warm_up(&scene.context).unwrap();
            describe(&scene.context);
            drop(scene);
            assert_eq!(driver.current(), own, "after a release");
            driver.destroy(own);
        }
        assert_eq!(driver.current(), 0);
        driver.end();
    });
}
