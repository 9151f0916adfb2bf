//! What kernels take, by architecture.

use super::nvrtc::{Compiler, files};
use super::{matches_committed, root};
use std::fmt::Write;

const ARCHITECTURES: [&str; 4] = ["sm_80", "sm_90", "sm_100", "sm_120"];

/// What the assembler says of a kernel.
#[derive(Debug, Default, PartialEq)]
struct Resources {
    kernel: String,
    registers: u32,
    shared: u32,
    stack: u32,
    spills: u32,
}

/// The number before `unit`.
fn number(line: &str, unit: &str) -> Option<u32> {
    line[..line.find(unit)?].split_whitespace().next_back()?.parse().ok()
}

/// Reads the log of `--ptxas-options=-v`.
fn parse(log: &str) -> Vec<Resources> {
    let mut all: Vec<Resources> = Vec::new();
    for line in log.lines() {
        if let Some((_, rest)) = line.split_once("Compiling entry function '") {
            let kernel = rest.split('\'').next().unwrap_or(rest).to_owned();
            all.push(Resources { kernel, ..Resources::default() });
        } else if let Some(last) = all.last_mut() {
            if let Some(bytes) = number(line, " bytes stack frame") {
                let stores = number(line, " bytes spill stores").expect("spill stores");
                let loads = number(line, " bytes spill loads").expect("spill loads");
                // Of the kernel and of every function that it calls.
                last.stack = last.stack.max(bytes);
                last.spills += stores + loads;
            } else if line.contains("Used ") {
                last.registers = number(line, " registers").expect("registers");
                last.shared = number(line, " bytes smem").unwrap_or(0);
            }
        }
    }
    all.sort_by(|a, b| a.kernel.cmp(&b.kernel));
    all
}

#[test]
fn a_log_is_read_right() {
    let log = "ptxas info    : Compiling entry function 'one' for 'sm_80'\n\
               ptxas info    : Function properties for one\n\
               ptxas         .     16 bytes stack frame, 4 bytes spill stores, 8 bytes spill loads\n\
               ptxas info    : Used 24 registers, used 1 barriers, 64 bytes smem, 376 bytes cmem[0]\n";
    let one = Resources { kernel: "one".into(), registers: 24, shared: 64, stack: 16, spills: 12 };
    assert_eq!(parse(log), [one]);
}

/// Every kernel of every file has its line for every architecture, nothing spills, and nothing lies on a stack.
fn check(version: &str) {
    let compiler = Compiler::open(version);
    let mut table = String::new();
    for name in files("cu") {
        for architecture in ARCHITECTURES {
            let compiled = compiler.compile(&name, architecture, &[]);
            assert!(!compiled.log.contains("warning"), "{name} for {architecture}:\n{}", compiled.log);
            let resources = parse(&compiled.log);
            assert!(!resources.is_empty(), "{name} for {architecture} has no kernel:\n{}", compiled.log);
            for Resources { kernel, registers, shared, stack, spills } in resources {
                assert!(kernel.starts_with("mnemo_"), "{kernel} in {name}.cu is without the prefix");
                assert_eq!(spills, 0, "{kernel} spills for {architecture}");
                assert_eq!(stack, 0, "{kernel} has a stack for {architecture}");
                writeln!(table, "{architecture} {name} {kernel} registers {registers} shared {shared}").expect("text");
            }
        }
    }
    matches_committed(&root().join(format!("tests/kernels/resources-{version}.txt")), &table);
}

#[test]
fn nothing_spills_by_12_9() {
    check("12.9.86");
}

#[test]
fn nothing_spills_by_13_0() {
    check("13.0.88");
}

#[test]
fn the_ptx_that_the_library_carries_is_that_of_the_source() {
    let compiler = Compiler::open("12.0.140");
    for name in files("cu").into_iter().filter(|name| name != "reference") {
        let ptx = String::from_utf8(compiler.compile(&name, "compute_80", &[]).code).expect("PTX is text");
        matches_committed(&root().join(format!("kernels/ptx/{name}.ptx")), &ptx);
    }
}
