//! The ABI is a decision, not an accident: the header, the list of exported symbols, the layout of every struct and the
//! types of the whole interface are committed, and these tests fail with the mending command when one of them drifts.
//! CHANGELOG.md names the checksum of the types, so that none of them changes without a word there.

mod header;
mod layout;
mod types;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

const MEND: &str = "if the change is meant, run `make abi`, read the difference and say under the ABI heading of CHANGELOG.md what changed";

/// What `types` describes; the file is for libabigail.
const RECORDED: &str = "tests/abi/recorded.abi";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// target/<profile>/deps, where cargo put the libraries that it built for this test; those in target/<profile> may be older.
fn built() -> PathBuf {
    let exe = std::env::current_exe().expect("the path of this test");
    exe.parent().expect("target/<profile>/deps/abi").to_path_buf()
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
fn exported_functions_are_those_of_the_header() {
    assert_eq!(types::names(&header::generate(&root())), exported(), "declared, exported; {MEND}");
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

#[test]
fn types_are_the_recorded_ones() {
    let recorded = root().join(RECORDED);
    let dir = tempfile::tempdir().expect("a temporary folder");
    let now = types::describe(&header::generate(&root()), dir.path());
    let difference =
        if recorded.exists() { types::difference(&recorded, &now) } else { Some("is not there".to_owned()) };
    let Some(difference) = difference else { return };
    // Written anew only then: another version of abidw may say the same in other words.
    if std::env::var_os("MNEMO_ACCEPT_ABI").is_some() {
        std::fs::copy(&now, &recorded).expect("write");
        // Past the harness, which keeps to itself what a test that passes prints.
        std::io::stdout().write_all(difference.as_bytes()).expect("write");
        return;
    }
    panic!("{RECORDED} is not what the source says; {MEND}:\n{difference}");
}

#[test]
fn changelog_names_the_recorded_types() {
    // Under `make abi` the record is being written; its second run looks.
    if std::env::var_os("MNEMO_ACCEPT_ABI").is_some() {
        return;
    }
    let mut sum = flate2::Crc::new();
    sum.update(&std::fs::read(root().join(RECORDED)).expect(RECORDED));
    let (major, minor) = (mnemo::capi::status::MNEMO_ABI_MAJOR, mnemo::capi::status::MNEMO_ABI_MINOR);
    let wanted = format!("Version {major}.{minor} (interface `{:08x}`)", sum.sum());
    let changelog = std::fs::read_to_string(root().join("CHANGELOG.md")).expect("CHANGELOG.md");
    let newest = changelog.split("\n## ").nth(1).expect("a version in CHANGELOG.md");
    let section = newest.split("\n### ABI\n").nth(1).expect("an ABI heading under the newest version of CHANGELOG.md");
    let section = section.split("\n### ").next().unwrap_or(section);
    assert!(
        section.contains(&wanted),
        "the ABI heading of the newest version in CHANGELOG.md does not say \"{wanted}\": the interface is another than the \
         one described there; say what changed, raise MNEMO_ABI_MINOR if the one before was released, and put this in"
    );
}

/// The table of errors in bindings/README.md names every status, by its number, and what the bindings call it.
#[test]
fn the_table_of_errors_is_complete() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    let (table, cpp, go) = (read("bindings/README.md"), read("include/mnemo.hpp"), read("bindings/go/error.go"));
    let python = read("bindings/python/mnemo/_errors.py");
    let header = read("include/mnemo.h");
    let statuses = header.lines().filter_map(|l| l.strip_prefix("#define MNEMO_E_")?.split_once(' '));
    let mut count = 0;
    for (name, number) in statuses {
        let row = table.lines().find(|l| l.starts_with(&format!("| `MNEMO_E_{name}` {number} |")));
        let row = row.unwrap_or_else(|| panic!("bindings/README.md: no row for MNEMO_E_{name} {number}"));
        let quoted: Vec<&str> = row.split('`').skip(1).step_by(2).collect();
        let cpp_name = quoted[1].strip_prefix("Status::").expect("the C++ column");
        assert!(cpp.contains(&format!("{cpp_name} = MNEMO_E_{name},")), "mnemo.hpp: {cpp_name}");
        assert!(
            go.lines()
                .any(|l| l.split_whitespace().next() == Some(quoted[2]) && l.contains(&format!("C.MNEMO_E_{name} "))),
            "go: {}",
            quoted[2]
        );
        let class = quoted[3];
        let mapped = python.contains(&format!("_abi.MNEMO_E_{name}: {class},"));
        assert!(mapped || class == "Error" && !python.contains(&format!("_abi.MNEMO_E_{name}:")), "python: {class}");
        if let Some(builtin) = row.split("(`").nth(1).and_then(|r| r.split("`)").next()) {
            assert!(python.contains(&format!("class {class}(Error, {builtin}):")), "python: {class} ({builtin})");
        }
        count += 1;
    }
    assert_eq!(count, 13);
}
