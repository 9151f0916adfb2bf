//! A child of a fork has its parent's objects, but not its device.

use crate::driver::Driver;
use crate::host::{CUDA, context, describe, warm_up};
use crate::process::alone;
use crate::scene::{OPERATIONS, Scene};
use mnemo::capi::status::MNEMO_E_POISONED;

/// Runs `work` in a forked child; whether it came to its end there.
fn in_child(work: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child runs the library and the stand-in, whose locks no other thread holds: there is one.
    unsafe {
        let child = libc::fork();
        assert!(child >= 0, "fork");
        if child == 0 {
            let good = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or(false);
            libc::_exit(if good { 7 } else { 1 });
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
        libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 7
    }
}

fn is_refused(scene: &Scene) -> bool {
    let calls = OPERATIONS.iter().all(|(name, operation)| match operation(scene) {
        Err(e) if e.status == MNEMO_E_POISONED && e.message.contains("fork") => true,
        other => {
            eprintln!("{name}: {other:?}");
            false
        }
    });
    calls && warm_up(&scene.context).is_err_and(|e| e.status == MNEMO_E_POISONED)
}

fn touched(driver: &Driver) -> (u64, u64, u64, u64) {
    let c = driver.counters();
    (c.live_allocations, c.live_modules, c.live_contexts, c.launches)
}

#[test]
fn calls_in_a_child() {
    alone(&[], |driver| {
        let scene = Scene::new(&CUDA, 20, 17).unwrap();
        let bits: Vec<_> = OPERATIONS.iter().map(|(_, operation)| operation(&scene).unwrap()).collect();
        let unused = Scene::new(&CUDA, 20, 17).unwrap();
        for scene in [&scene, &unused] {
            // The driver's state is the parent's: nothing of it is touched.
            let before = touched(driver);
            assert!(in_child(|| is_refused(scene) && touched(driver) == before));
            assert!(in_child(|| describe(&scene.context)["backend"] == "cuda"));
        }
        // Letting go of everything there does nothing to the parent's device either.
        let before = touched(driver);
        let (scene_address, unused_address) = (&raw const scene, &raw const unused);
        // SAFETY: the child has copies of both, and forgets them with itself.
        assert!(in_child(|| unsafe {
            drop((std::ptr::read(scene_address), std::ptr::read(unused_address)));
            touched(driver) == before
        }));
        for ((name, operation), bits) in OPERATIONS.iter().zip(&bits) {
            assert_eq!(operation(&scene).unwrap(), *bits, "{name} in the parent");
            assert_eq!(operation(&unused).unwrap(), *bits, "{name} in the parent");
        }
        drop((scene, unused));
        driver.end();
    });
}

/// Within a callback of the parent the context is current, and still the child's call is refused.
#[test]
fn the_parent_goes_on_with_new_contexts() {
    alone(&[], |driver| {
        let scene = Scene::new(&CUDA, 20, 17).unwrap();
        assert!(in_child(|| is_refused(&scene)));
        drop(scene);
        drop(context(&CUDA).unwrap());
        driver.end();
    });
}
