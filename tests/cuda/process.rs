//! A process for each test, and what it writes.

use crate::driver::Driver;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::Command;

/// Set in the process of a test, to the test's name.
const SELF: &str = "MNEMO_CUDA_TEST";

/// Whether this is the process of a test.
pub fn is_child() -> bool {
    std::env::var_os(SELF).is_some()
}

/// Runs `test` in a process of its own with these environment variables. NVRTC is not there unless one says so.
#[track_caller]
pub fn process<F: FnOnce()>(variables: &[(&str, &str)], test: F) {
    of_test(std::any::type_name::<F>(), variables, test);
}

/// The same with a driver that begins there.
#[track_caller]
pub fn alone<F: FnOnce(&'static Driver)>(variables: &[(&str, &str)], test: F) {
    of_test(std::any::type_name::<F>(), variables, || {
        let driver = Driver::find().expect("a driver; tests/cuda/run.sh says where the stand-in is");
        driver.begin();
        test(driver);
    });
}

/// `path` is that of the test's closure.
#[track_caller]
fn of_test(path: &str, variables: &[(&str, &str)], test: impl FnOnce()) {
    if is_child() {
        return test();
    }
    let name = path.split_once("::").map_or(path, |(_, rest)| rest).trim_end_matches("::{{closure}}");
    let mut command = Command::new(std::env::current_exe().expect("the path of the tests"));
    command.args([name, "--exact", "--nocapture", "--test-threads=1"]).env(SELF, name).env("MNEMO_NVRTC", "/nowhere");
    let output = command.envs(variables.iter().copied()).output().expect("the tests' own executable");
    let [said, complained] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let passed = said.contains("1 passed") && output.status.success();
    assert!(passed, "{name} with {variables:?}: {}\n{said}{complained}", output.status);
}

/// What is written to standard output and standard error while `work` runs, by whomever.
pub fn written(work: impl FnOnce()) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("written");
    let file = std::fs::File::create(&path).expect("a temporary file");
    // SAFETY: plain calls of the system on open files.
    let kept = [1, 2].map(|stream| unsafe {
        let kept = libc::dup(stream);
        assert!(kept >= 0 && libc::dup2(file.as_raw_fd(), stream) >= 0);
        (stream, kept)
    });
    work();
    for (stream, kept) in kept {
        // SAFETY: as above.
        unsafe {
            libc::dup2(kept, stream);
            libc::close(kept);
        }
    }
    std::fs::read_to_string(&path).expect("a temporary file")
}

/// The stand-in's file.
pub fn stand_in() -> PathBuf {
    let folders = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let mut paths = std::env::split_paths(&folders).map(|folder| folder.join("libcuda.so.1"));
    paths.find(|path| path.exists()).expect("tests/cuda/run.sh says where the stand-in is")
}
