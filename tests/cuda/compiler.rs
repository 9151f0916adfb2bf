//! How kernels come to the device: compiled by NVRTC, read from the cache, or the PTX in the library.
//!
//! The stand-in takes PTX only, so that machine code is made, kept, offered to the driver, and refused by it.

use crate::driver::Driver;
use crate::host::*;
use crate::process::alone;
use crate::scene::{OPERATIONS, Scene};
use mnemo::capi::context::mnemo_context;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// NVRTC's file, which `tests/cuda/run.sh` names.
fn nvrtc() -> String {
    std::env::var("MNEMO_NVRTC").expect("tests/cuda/run.sh says where NVRTC is")
}

/// What the files in a folder hold.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// A context with its kernels on the device, all of them from the library's PTX.
#[track_caller]
fn ready(folder: &Path) -> Object<mnemo_context> {
    let context = context(&Place { kernels: folder.to_str(), ..CUDA }).unwrap();
    let kernels = &describe(&context)["kernels"];
    let all = kernels["not_loaded"].as_u64().unwrap();
    assert!(all > 1 && kernels["ptx"] == 0, "{kernels}");
    warm_up(&context).unwrap();
    let said = describe(&context);
    assert_eq!(said["kernels"], serde_json::json!({"compiled": 0, "cached": 0, "ptx": all, "not_loaded": 0}));
    assert_eq!(said["cache"], folder.to_str().unwrap());
    context
}

/// Whether the kernels do what they do elsewhere.
fn works(driver: &Driver, place: &Place<'_>) {
    let bits = |place: &Place<'_>| {
        let scene = Scene::new(place, 20, 3).unwrap();
        OPERATIONS.iter().map(|(_, operation)| operation(&scene).unwrap()).collect::<Vec<_>>()
    };
    let elsewhere = tempfile::tempdir().unwrap();
    assert_eq!(bits(place), bits(&Place { kernels: elsewhere.path().to_str(), ..CUDA }));
    assert_eq!(driver.counters().faults, 0);
}

#[test]
fn without_nvrtc() {
    alone(&[("MNEMO_NVRTC", "/nonexistent")], |driver| {
        let folder = tempfile::tempdir().unwrap();
        let context = ready(folder.path());
        assert_eq!(describe(&context)["nvrtc"], serde_json::Value::Null);
        // A file each.
        assert_eq!(describe(&context)["kernels"]["ptx"], driver.counters().live_modules);
        assert_eq!(files(folder.path()), BTreeMap::new());
        drop(context);
        works(driver, &CUDA);
        driver.end();
    });
}

#[test]
fn machine_code_is_kept() {
    alone(&[("MNEMO_NVRTC", &nvrtc())], |driver| {
        let folder = tempfile::tempdir().unwrap();
        // The library makes the folder.
        let folder = folder.path().join("of the user's").join("cache");
        let context = ready(&folder);
        let said = describe(&context);
        assert!(said["nvrtc"].as_str().is_some_and(|version| version.starts_with("1")), "{said}");
        let kept = files(&folder);
        assert_eq!(kept.len() as u64, driver.counters().live_modules, "one for each file of kernels");
        for (path, bytes) in &kept {
            assert_eq!(path.extension().and_then(|e| e.to_str()), Some("cubin"), "a partial file is left");
            // After the cache's own head, machine code is an ELF file.
            assert!(bytes.windows(4).take(64).any(|four| four == b"\x7fELF"), "{}", path.display());
        }
        drop(context);

        // A second context takes what is there: not a byte nor a time changes.
        let times = || kept.keys().map(|path| path.metadata().unwrap().modified().unwrap()).collect::<Vec<_>>();
        let before = times();
        drop(ready(&folder));
        assert_eq!((files(&folder), times()), (kept.clone(), before));

        // What is damaged or cut is made again, the rest stays.
        let damaged: Vec<&PathBuf> = kept.keys().take(2).collect();
        let mut bytes = kept[damaged[0]].clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(damaged[0], &bytes).unwrap();
        std::fs::write(damaged[1], &kept[damaged[1]][..100]).unwrap();
        drop(ready(&folder));
        assert_eq!(files(&folder), kept);
        works(driver, &Place { kernels: folder.to_str(), ..CUDA });
        driver.end();
    });
}

#[test]
fn a_cache_that_cannot_be_written() {
    alone(&[("MNEMO_NVRTC", &nvrtc())], |driver| {
        // Nothing can be made below a file, not even by root.
        let file = tempfile::NamedTempFile::new().unwrap();
        drop(ready(&file.path().join("below")));
        drop(ready(file.path()));
        driver.end();
    });
}

#[test]
fn a_device_newer_than_nvrtc() {
    alone(&[("MNEMO_NVRTC", &nvrtc()), ("STANDIN_CAPABILITY", "9.9")], |driver| {
        let folder = tempfile::tempdir().unwrap();
        let context = ready(folder.path());
        assert_eq!(describe(&context)["instruction_set"], "sm_99");
        assert_eq!(files(folder.path()), BTreeMap::new(), "machine code for a device that NVRTC does not know");
        drop(context);
        driver.end();
    });
}

/// A file that is not NVRTC is as good as none.
#[test]
fn a_compiler_that_is_none() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "not a library").unwrap();
    alone(&[("MNEMO_NVRTC", file.path().to_str().unwrap())], |driver| {
        let folder = tempfile::tempdir().unwrap();
        let context = ready(folder.path());
        assert_eq!(describe(&context)["nvrtc"], serde_json::Value::Null);
        drop(context);
        driver.end();
    });
}
