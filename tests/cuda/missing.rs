//! What is missing is said, and nothing is printed.

use crate::driver::Driver;
use crate::host::{CUDA, Place, context};
use crate::process::{is_child, process, stand_in, written};
use mnemo::capi::status::MNEMO_E_DEVICE;

/// Asserts that no context can be had, and that the message has these words.
#[track_caller]
fn refused(place: &Place<'_>, words: &[&str]) {
    let mut failure = None;
    let printed = written(|| failure = context(place).err());
    assert_eq!(printed, "");
    let failure = failure.expect("no context");
    assert_eq!(failure.status, MNEMO_E_DEVICE, "{}", failure.message);
    for word in words {
        assert!(failure.message.contains(word), "{word} is not in: {}", failure.message);
    }
}

#[test]
fn no_driver() {
    let folder = tempfile::tempdir().unwrap();
    process(&[("LD_LIBRARY_PATH", folder.path().to_str().unwrap())], || {
        // SAFETY: a driver's initialisation.
        if unsafe { libloading::Library::new("libcuda.so.1") }.is_err() {
            refused(&CUDA, &["device_type is MNEMO_CUDA", "no CUDA driver", "libcuda.so"]);
        }
    });
}

#[test]
fn a_driver_that_does_not_load() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["libcuda.so.1", "libcuda.so"] {
        std::fs::write(folder.path().join(name), "not a library").unwrap();
    }
    process(&[("LD_LIBRARY_PATH", folder.path().to_str().unwrap())], || {
        refused(&CUDA, &["device_type is MNEMO_CUDA", "no CUDA driver", "libcuda.so"]);
    });
}

#[test]
fn a_driver_that_lacks_a_function() {
    for function in ["cuInit", "cuMemsetD8Async", "cuStreamIsCapturing", "cuMemAlloc_v2"] {
        let folder = tempfile::tempdir().unwrap();
        if !is_child() {
            let mut library = std::fs::read(stand_in()).unwrap();
            let name = [b"\0", function.as_bytes(), b"\0"].concat();
            let places: Vec<usize> =
                (0..library.len() - name.len()).filter(|&at| library[at..].starts_with(&name)).collect();
            assert!(!places.is_empty(), "the stand-in has no {function}");
            // Names are looked up by their hashes, and then compared.
            places.into_iter().for_each(|at| library[at + 1] = b'_');
            std::fs::write(folder.path().join("libcuda.so.1"), library).unwrap();
        }
        let place = folder.path().to_str().unwrap();
        process(&[("LD_LIBRARY_PATH", place), ("LACKING", function)], || {
            let function = std::env::var("LACKING").unwrap();
            refused(&CUDA, &["device_type is MNEMO_CUDA", "lacks", &function]);
        });
        if is_child() {
            return;
        }
    }
}

#[test]
fn no_device() {
    process(&[("STANDIN_DEVICES", "0")], || {
        refused(&CUDA, &["device_type is MNEMO_CUDA", "cuInit", "CUDA_ERROR_NO_DEVICE"]);
        // It is not remembered wrongly: the next one is told the same.
        refused(&CUDA, &["CUDA_ERROR_NO_DEVICE"]);
    });
}

#[test]
fn an_old_driver() {
    process(&[], || {
        // Its version can be had before cuInit, at which the stand-in looks at the environment.
        Driver::find().unwrap().set("STANDIN_DRIVER", "11040");
        refused(&CUDA, &["device_type is MNEMO_CUDA", "CUDA 11.4", "12.0"]);
    });
}

#[test]
fn an_unknown_error_at_the_start() {
    process(&[], || {
        let driver = Driver::find().unwrap();
        for (function, code) in [("cuDriverGetVersion", 1), ("cuInit", 803)] {
            driver.fail(function, 1, code);
            refused(&CUDA, &["device_type is MNEMO_CUDA", function, &format!("({code})")]);
        }
        // What has passed is not held against it.
        assert!(context(&CUDA).is_ok());
    });
}

#[test]
fn a_device_that_is_not_there() {
    process(&[], || {
        for (device_id, text) in [(2, "device_id is 2"), (-1, "device_id is -1"), (i32::MAX, "device_id is 2147483647")]
        {
            refused(&Place { device_id, ..CUDA }, &["device_type is MNEMO_CUDA", text, "2 devices"]);
        }
        assert!(context(&Place { device_id: 1, ..CUDA }).is_ok());
    });
}

#[test]
fn a_device_that_is_too_old() {
    process(&[("STANDIN_CAPABILITY", "7.5")], || {
        refused(&CUDA, &["device_type is MNEMO_CUDA", "compute capability 7.5", "8.0"]);
    });
}
