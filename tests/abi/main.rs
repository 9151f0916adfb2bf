//! The ABI is a decision, not an accident: the header, the list of exported symbols and the layout of every struct are
//! committed, and these tests fail with the mending command when one of them drifts.

mod header;
mod layout;

use std::path::{Path, PathBuf};
use std::process::Command;

const MEND: &str = "if the change is meant, run `make abi`, read the difference and say under the ABI heading of CHANGELOG.md what changed";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// target/<profile>, where cargo put the libraries beside this test.
fn built() -> PathBuf {
    let exe = std::env::current_exe().expect("the path of this test");
    exe.ancestors().nth(2).expect("target/<profile>/deps/abi").to_path_buf()
}

/// Compares with the committed file, or replaces it under `make abi`.
fn matches_committed(path: &Path, now: &str) {
    if std::env::var_os("MNEMO_ACCEPT_ABI").is_some() {
        std::fs::write(path, now).expect("write");
        return;
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    let differ = committed.lines().zip(now.lines()).position(|(a, b)| a != b);
    assert!(
        committed == now,
        "{} is not what the source says (first difference: line {}); {MEND}",
        path.display(),
        differ.map_or(committed.lines().count().min(now.lines().count()), |n| n) + 1
    );
}

#[test]
fn header_is_what_the_source_says() {
    matches_committed(&root().join("include/mnemo.h"), &header::generate(&root()));
}

fn exported() -> Vec<String> {
    let library = built().join("libmnemo.so");
    let out = Command::new("nm").args(["-D", "--defined-only"]).arg(&library).output().expect("nm (binutils)");
    assert!(out.status.success(), "nm {}: {}", library.display(), String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).expect("nm prints text");
    let mut symbols: Vec<String> = text.lines().filter_map(|l| l.split_whitespace().last()).map(String::from).collect();
    symbols.sort_unstable();
    symbols
}

#[test]
fn exported_symbols_are_the_committed_ones() {
    let symbols = exported();
    assert!(symbols.iter().all(|s| s.starts_with("mnemo_")), "a symbol without the prefix: {symbols:?}");
    matches_committed(&root().join("tests/abi/symbols.txt"), &(symbols.join("\n") + "\n"));
}

#[test]
fn every_exported_function_is_in_the_header() {
    let header = header::generate(&root());
    for symbol in exported() {
        assert!(header.contains(&format!("{symbol}(")), "{symbol} is exported but not declared; {MEND}");
    }
}

#[test]
fn soname_is_the_abi_major() {
    let out = Command::new("readelf").arg("-d").arg(built().join("libmnemo.so")).output().expect("readelf (binutils)");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let soname = format!("libmnemo.so.{}", mnemo::capi::status::MNEMO_ABI_MAJOR);
    assert!(text.contains(&format!("[{soname}]")), "SONAME is not {soname}:\n{text}");
}

#[test]
fn layouts_are_the_committed_ones_in_c_and_in_rust() {
    let in_c = layout::measured_by_c(&header::generate(&root()));
    matches_committed(&root().join("tests/abi/layout.txt"), &in_c);
    assert_eq!(in_c, layout::measured_by_rust(), "C and Rust disagree about a struct");
}
