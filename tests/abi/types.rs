//! The types of the interface, as libabigail compares them: every function's result and parameters, every struct a pointer
//! leads to, every constant. A stub in C has them all in its debug information: each function of the header with an empty
//! body, and the constants as enumerators.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The header's functions, as declared but for the semicolon.
fn functions(header: &str) -> Vec<String> {
    let mut code = String::new();
    let mut rest = header;
    while let Some((before, comment)) = rest.split_once("/*") {
        code += before;
        rest = comment.split_once("*/").expect("the end of a comment").1;
    }
    code += rest;
    let mut found = Vec::new();
    let (mut depth, mut statement, mut in_macro) = (0, String::new(), false);
    for line in code.lines() {
        if in_macro || line.starts_with('#') {
            in_macro = line.ends_with('\\');
            continue;
        }
        // Its brace encloses the whole header and belongs to C++.
        if line.starts_with("extern \"C\"") {
            continue;
        }
        for c in line.chars() {
            depth += i32::from(c == '{') - i32::from(c == '}' && depth > 0);
            statement.push(c);
            if c == ';' && depth == 0 {
                let words = statement.trim_end_matches(';').split_whitespace().collect::<Vec<_>>().join(" ");
                if words.contains('(') && !words.contains('{') && !words.starts_with("typedef ") {
                    found.push(words);
                }
                statement.clear();
            }
        }
        statement.push(' ');
    }
    found
}

/// The header's integer constants: name, value.
fn constants(header: &str) -> Vec<(&str, &str)> {
    let defined = header.lines().filter_map(|l| l.strip_prefix("#define ")?.split_once(' '));
    defined.filter(|(name, value)| name.starts_with("MNEMO_") && value.parse::<i64>().is_ok()).collect()
}

fn stub(header: &str) -> String {
    // Before the header, whose macros would take the place of the enumerators' names. A type for each: in one for all a
    // constant may take the value of another unseen.
    let mut text = String::new();
    for (name, value) in constants(header) {
        writeln!(text, "enum {name} {{ {name} = {value} }} value_of_{name};").unwrap();
    }
    text += "#include <mnemo.h>\n";
    for function in functions(header) {
        writeln!(text, "{function} {{{}}}", if function.starts_with("void ") { "" } else { " return 0; " }).unwrap();
    }
    text
}

/// The functions of the stub.
pub fn names(header: &str) -> Vec<String> {
    let name = |f: &String| f.split('(').next()?.rsplit([' ', '*']).next().map(String::from);
    let mut names: Vec<String> = functions(header).iter().filter_map(name).collect();
    names.sort_unstable();
    names
}

/// libabigail's description of the interface, in a file in `dir`. Nothing in it is of this machine.
pub fn describe(header: &str, dir: &Path) -> PathBuf {
    std::fs::write(dir.join("mnemo.h"), header).expect("write");
    std::fs::write(dir.join("mnemo.c"), stub(header)).expect("write");
    let soname = format!("-Wl,-soname,libmnemo.so.{}", mnemo::capi::status::MNEMO_ABI_MAJOR);
    let cc = ["-std=c99", "-g", "-O0", "-fPIC", "-shared", "-nostdlib", "-I.", &soname, "mnemo.c", "-o", "libmnemo.so"];
    run(Command::new("cc").current_dir(dir).args(cc), "cc (gcc)");
    let plain = ["--no-architecture", "--no-corpus-path", "--no-comp-dir-path", "--no-show-locs", "--no-elf-needed"];
    let abidw = ["--type-id-style", "hash", "--out-file", "mnemo.abi", "libmnemo.so"];
    run(Command::new("abidw").current_dir(dir).args(plain).args(abidw), "abidw (abigail-tools)");
    dir.join("mnemo.abi")
}

fn run(command: &mut Command, tool: &str) {
    let out = command.output().unwrap_or_else(|e| panic!("{tool}: {e}"));
    assert!(out.status.success(), "{tool}: {}", String::from_utf8_lossy(&out.stderr));
}

/// What abidiff says of the two descriptions; nothing if they are the same interface.
pub fn difference(recorded: &Path, now: &Path) -> Option<String> {
    let out = Command::new("abidiff")
        .args(["--no-architecture", "--harmless", "--show-bytes"])
        .args([recorded, now])
        .output();
    let out = out.unwrap_or_else(|e| panic!("abidiff (abigail-tools): {e}"));
    let code = out.status.code().expect("abidiff ends by itself");
    // 1 and 2 are errors, 4 a change, 8 one that breaks programs.
    assert!(code & 3 == 0, "abidiff: {}", String::from_utf8_lossy(&out.stderr));
    (code != 0).then(|| String::from_utf8_lossy(&out.stdout).into_owned())
}
