//! Planted bugs: every kind is found, and the corrected twin of each runs.

mod support;

use ptx_interpreter::{Checks, Fault, FaultKind, Memory, Module, Order, Statistics};
use support::{Argument::*, Device, kind, module};

/// The usual start: thread index in %t, both pointers in %x and %y, 64-bit offset of 8 bytes a thread in %o.
const START: &str = ".reg .b32 %t, %n, %r<8>; .reg .b64 %x, %y, %o, %rd<8>; .reg .f64 %f<4>; .reg .pred %p<4>;
    ld.param.u64 %x, [p0]; ld.param.u64 %y, [p1];
    mov.u32 %t, %tid.x; mov.u32 %n, %ctaid.x; mov.u32 %r7, %ntid.x; mad.lo.u32 %n, %n, %r7, %t; mul.wide.u32 %o, %n, 8;
    .shared .align 16 .b8 s[1024]; .reg .b32 %s, %u; mov.u32 %s, s; mad.lo.u32 %u, %t, 8, %s;\n";

/// Runs a body over 128 numbers, 2 blocks of 64 threads.
fn run(body: &str) -> Result<Statistics, Fault> {
    run_in(body, |_| ())
}

fn run_in(body: &str, prepare: impl FnOnce(&mut Memory)) -> Result<Statistics, Fault> {
    let mut device = Device::new(&module(2, &format!("{START}{body}")));
    prepare(&mut device.memory);
    let x = device.put(&[1.5f64; 128]);
    let y = device.room(128 * 8);
    device.run("k", 2, 64, &[Wide(x), Wide(y)])
}

const SHARE: &str = "add.u64 %rd0, %x, %o; ld.global.f64 %f0, [%rd0]; st.shared.f64 [%u], %f0;\n";
/// Reads what the other warp wrote.
const OTHER: &str = "xor.b32 %r0, %t, 32; mad.lo.u32 %r0, %r0, 8, %s; ld.shared.f64 %f1, [%r0];
    add.u64 %rd1, %y, %o; st.global.f64 [%rd1], %f1;\n";

#[test]
fn missing_barrier() {
    run(&format!("{SHARE} bar.sync 0; {OTHER}")).unwrap();
    // The first warp reads before the second has run at all.
    assert!(matches!(kind(run(&format!("{SHARE}{OTHER}"))), FaultKind::SharedUninitialized { .. }));
    // Without that check the second warp's write is found to race with the first's read.
    let found = kind(run_in(&format!("{SHARE}{OTHER}"), |memory| {
        memory.set_checks(Checks { races: true, uninitialized: false });
    }));
    assert!(matches!(found, FaultKind::Race { shared: true, other, .. } if !other.write && other.warp == Some(0)));
    // Nothing is looked for if nothing is asked for.
    run_in(&format!("{SHARE}{OTHER}"), |memory| memory.set_checks(Checks { races: false, uninitialized: false }))
        .unwrap();
}

#[test]
fn write_after_read() {
    let again = "st.shared.f64 [%u], %f1; bar.sync 0;";
    run(&format!("{SHARE} bar.sync 0; {OTHER} bar.sync 0; {again}")).unwrap();
    let found = kind(run(&format!("{SHARE} bar.sync 0; {OTHER} {again}")));
    assert!(matches!(found, FaultKind::Race { shared: true, .. }), "{found:?}");
}

#[test]
fn two_writers() {
    let one = "cvt.rn.f64.u32 %f0, %t;";
    // All threads write one place: harmless only if they write the same.
    run(&format!("mov.f64 %f0, 0d3FF0000000000000; st.shared.f64 [s], %f0; {one}")).unwrap();
    let found = kind(run(&format!("{one} st.shared.f64 [s], %f0;")));
    assert!(matches!(found, FaultKind::Race { shared: true, other, .. } if other.write));
    run(&format!("{one} atom.shared.add.f64 %f1, [s], %f0;")
        .replace("atom", "st.shared.f64 [%u], %f0; bar.sync 0; atom"))
    .unwrap();
}

#[test]
fn race_between_blocks() {
    // Each block reads what the other may have written.
    let own = "add.u64 %rd1, %y, %o; st.global.f64 [%rd1], %f0;";
    let body = |neighbour: u32| {
        format!(
            "mov.f64 %f0, 0d3FF0000000000000; {own} bar.sync 0; xor.b32 %r0, %n, {neighbour}; mul.wide.u32 %rd2, %r0, 8;
             add.u64 %rd2, %y, %rd2; ld.global.f64 %f1, [%rd2];"
        )
    };
    // Within the block there is a barrier; across blocks there is nothing.
    run(&body(32)).unwrap();
    for order in [Order::Forward, Order::Reverse, Order::Shuffled(3)] {
        let found = kind(run_in(&body(64), |memory| {
            memory.set_order(order);
            memory.set_checks(Checks { races: true, uninitialized: false });
        }));
        assert!(matches!(found, FaultKind::Race { shared: false, other, .. } if !other.same_block), "{found:?}");
    }
    // Two blocks write different numbers to one place; atomics may.
    let found = kind(run("cvt.rn.f64.u32 %f0, %n; setp.eq.u32 %p0, %t, 0; @%p0 st.global.f64 [%y], %f0;"));
    assert!(matches!(found, FaultKind::Race { shared: false, .. }));
    run("cvt.rn.f64.u32 %f0, %n; setp.eq.u32 %p0, %t, 0; @%p0 st.global.f64 [%x], %f0;").unwrap_err();
    run("cvt.rn.f64.u32 %f0, %n; setp.eq.u32 %p0, %t, 0; @%p0 red.global.add.f64 [%x], %f0;").unwrap();
    // A plain read of what another block adds to atomically.
    let found = kind(run("mov.f64 %f0, 0d3FF0000000000000; red.global.add.f64 [%x], %f0; ld.global.f64 %f1, [%x];"));
    assert!(matches!(found, FaultKind::Race { shared: false, .. }));
    // A later launch comes after: no race.
    let mut device = Device::new(&module(2, &format!("{START} mov.f64 %f0, 0d3FF0000000000000; {own}")));
    let y = device.room(128 * 8);
    device.run("k", 2, 64, &[Wide(y), Wide(y)]).unwrap();
    device.run("k", 2, 64, &[Wide(y), Wide(y)]).unwrap();
}

#[test]
fn fences_and_tickets() {
    // Block 0 writes, fences and raises a flag; block 1 reads the flag, then the data.
    let body = |fence: &str| {
        format!(
            "setp.eq.u32 %p0, %t, 0; mov.u32 %r1, %ctaid.x; setp.eq.u32 %p1, %r1, 0; and.pred %p2, %p0, %p1;
             @!%p2 bra second; mov.f64 %f0, 0d4000000000000000; st.global.f64 [%y], %f0; {fence}
             atom.global.exch.b64 %rd3, [%x+8], 1; ret;
             second: @!%p0 ret; atom.global.add.u64 %rd3, [%x+8], 0; ld.global.f64 %f1, [%y];"
        )
    };
    run(&body("membar.gl;")).unwrap();
    run(&body("fence.acq_rel.gpu;")).unwrap();
    run(&body("").replace("exch", "release.gpu.exch").replace("atom.global.release.gpu", "atom.release.gpu.global"))
        .unwrap();
    run(&body("").replace("atom.global.exch.b64 %rd3, [%x+8], 1", "st.release.gpu.global.u64 [%x+8], 1")).unwrap();
    assert!(matches!(kind(run(&body(""))), FaultKind::Race { shared: false, .. }));
    // What is written after the flag was raised is not covered by it.
    let write = "st.global.f64 [%y], %f0;";
    let late = body("membar.gl;").replace(write, "").replace(", 1; ret;", &format!(", 1; {write} ret;"));
    assert!(late.contains(write));
    assert!(matches!(kind(run(&late)), FaultKind::Race { shared: false, .. }));
}

#[test]
fn named_barriers() {
    // Warp 0 makes, warp 1 takes; they meet at barrier 1.
    let body = |arrive: &str, wait: &str| {
        format!(
            "setp.lt.u32 %p0, %t, 32; @!%p0 bra take; {SHARE} {arrive} ret;
             take: {wait} {OTHER}"
        )
    };
    run(&body("bar.arrive 1, 64;", "bar.sync 1, 64;")).unwrap();
    run(&body("bar.sync 1, 64;", "bar.sync 1, 64;")).unwrap();
    // Nothing meets: the second warp reads what the first wrote.
    assert!(matches!(kind(run(&body("", ""))), FaultKind::Race { shared: true, .. }));
    // One waits for ever.
    assert!(matches!(kind(run(&body("", "bar.sync 1, 64;"))), FaultKind::DivergentBarrier { barrier: 1, missing: 32 }));
    assert!(matches!(kind(run(&body("bar.sync 2, 64;", "bar.sync 1, 64;"))), FaultKind::DivergentBarrier { .. }));
}

const COPY: &str = "add.u64 %rd0, %x, %o; cp.async.ca.shared.global [%u], [%rd0], 8; cp.async.commit_group;\n";

#[test]
fn missing_wait() {
    run(&format!("{COPY} cp.async.wait_group 0; bar.sync 0; {OTHER}")).unwrap();
    run(&format!("{COPY} cp.async.wait_all; bar.sync 0; {OTHER}")).unwrap();
    assert!(matches!(kind(run(&format!("{COPY} bar.sync 0; {OTHER}"))), FaultKind::AsyncNotWaited { .. }));
    // One group may still be under way, and it is the only one.
    let found = kind(run(&format!("{COPY} cp.async.wait_group 1; bar.sync 0; {OTHER}")));
    assert!(matches!(found, FaultKind::AsyncNotWaited { .. }));
    // The wait is for the own copies only; those of the other warp need the barrier.
    let found = kind(run(&format!("{COPY} cp.async.wait_group 0; {OTHER}")));
    assert!(matches!(found, FaultKind::SharedUninitialized { .. }));
    // Nor may one write over a copy under way.
    let found = kind(run(&format!("{COPY} mov.f64 %f0, 0d0000000000000000; st.shared.f64 [%u], %f0;")));
    assert!(matches!(found, FaultKind::AsyncNotWaited { .. }));
    // Not committed, so not waited for.
    let found = kind(run(&format!(
        "{} cp.async.wait_group 0; bar.sync 0; {OTHER}",
        COPY.replace("cp.async.commit_group;", "")
    )));
    assert!(matches!(found, FaultKind::AsyncNotWaited { .. }));
}

#[test]
fn global_out_of_bounds() {
    let at = |offset: i32| format!("add.u64 %rd0, %x, %o; ld.global.f64 %f0, [%rd0+{offset}];");
    run(&at(0)).unwrap();
    for offset in [8, -8] {
        let fault = run(&at(offset)).unwrap_err();
        assert!(matches!(fault.kind, FaultKind::OutOfBounds { bytes: 8, .. }), "{fault}");
        // The very thread that goes astray, and the line.
        assert_eq!((fault.block[0], fault.thread[0]), if offset > 0 { (1, 63) } else { (0, 0) });
        assert!(fault.text.contains("ld.global.f64") && fault.line > 0);
    }
    let found = kind(run("add.u64 %rd0, %x, %o; st.global.f64 [%rd0+8], 0d0000000000000000;"));
    assert!(matches!(found, FaultKind::OutOfBounds { .. }));
    assert!(matches!(kind(run("mov.u64 %rd0, 16; ld.f64 %f0, [%rd0];")), FaultKind::OutOfBounds { .. }));
    assert!(matches!(
        kind(run("add.u64 %rd0, %x, 1016; atom.global.add.u64 %rd1, [%rd0+8], 1;")),
        FaultKind::OutOfBounds { .. }
    ));
}

#[test]
fn use_after_free() {
    let mut device = Device::new(&module(2, &format!("{START} add.u64 %rd0, %x, %o; ld.global.f64 %f0, [%rd0];")));
    let x = device.put(&[1.0f64; 128]);
    device.run("k", 2, 64, &[Wide(x), Wide(x)]).unwrap();
    device.memory.free(x).unwrap();
    let found = kind(device.run("k", 2, 64, &[Wide(x), Wide(x)]));
    assert!(matches!(found, FaultKind::UseAfterFree { bytes: 8, .. }));
    assert!(device.memory.free(x).unwrap_err().freed);
    // A new allocation never lies where an old one was.
    assert_ne!(device.put(&[1.0f64; 128]), x);
}

#[test]
fn shared_out_of_bounds() {
    let body = |offset: u32| format!("mad.lo.u32 %r0, %t, 16, %s; st.shared.f64 [%r0+{offset}], 0d0000000000000000;");
    run(&body(8)).unwrap();
    let fault = run(&body(16)).unwrap_err();
    assert_eq!(fault.kind, FaultKind::SharedOutOfBounds { offset: 1024, bytes: 8, shared_bytes: 1024 });
    assert_eq!(fault.thread, [63, 0, 0]);
    // By a generic address too.
    let body = |offset: u32| {
        format!("cvta.shared.u64 %rd0, s; add.u64 %rd0, %rd0, {offset}; st.f64 [%rd0], 0d0000000000000000;")
            .replace("cvta.shared.u64 %rd0, s", "mov.u64 %rd1, s; cvta.shared.u64 %rd0, %rd1")
    };
    run(&body(1016)).unwrap();
    assert!(matches!(kind(run(&body(1024))), FaultKind::SharedOutOfBounds { .. }));
}

#[test]
fn local_and_parameters_out_of_bounds() {
    let body = |at: u32| format!(".local .align 8 .b8 l[64]; mov.u64 %rd0, l; st.local.f64 [%rd0+{at}], %f0;");
    run(&body(56)).unwrap();
    assert!(matches!(kind(run(&body(64))), FaultKind::LocalOutOfBounds { offset: 64, bytes: 8 }));
    run("ld.param.u64 %rd0, [p0+8];").unwrap();
    assert!(matches!(kind(run("ld.param.u64 %rd0, [p1+8];")), FaultKind::ParameterOutOfBounds { .. }));
}

#[test]
fn misaligned() {
    let body = |offset: u32| format!("add.u64 %rd0, %x, {offset}; ld.global.v2.f64 {{%f0, %f1}}, [%rd0];");
    run(&body(16)).unwrap();
    assert!(matches!(kind(run(&body(8))), FaultKind::Misaligned { bytes: 16, .. }));
    let found = kind(run("st.shared.v2.f64 [s+8], {%f0, %f1};"));
    assert!(matches!(found, FaultKind::Misaligned { bytes: 16, .. }));
    assert!(matches!(kind(run("ld.global.u32 %r0, [%x+2];")), FaultKind::Misaligned { bytes: 4, .. }));
}

#[test]
fn uninitialized() {
    let body = |write: &str| format!("add.u64 %rd1, %y, %o; {write} ld.global.f64 %f1, [%rd1];");
    run(&body("st.global.f64 [%rd1], 0d0000000000000000;")).unwrap();
    assert!(matches!(kind(run(&body(""))), FaultKind::Uninitialized { bytes: 8, .. }));
    // Half of it is not enough.
    assert!(matches!(kind(run(&body("st.global.u32 [%rd1], 0;"))), FaultKind::Uninitialized { .. }));
    run_in(&body(""), |memory| memory.set_checks(Checks { races: true, uninitialized: false })).unwrap();
    // Shared memory of one block says nothing to the next.
    let body = "mov.u32 %r0, %ctaid.x; setp.eq.u32 %p0, %r0, 0; @%p0 st.shared.f64 [%u], %f0; ld.shared.f64 %f1, [%u];";
    let fault = run(body).unwrap_err();
    assert!(matches!(fault.kind, FaultKind::SharedUninitialized { .. }));
    assert_eq!(fault.block, [1, 0, 0]);
}

#[test]
fn divergent_barrier() {
    run("setp.lt.u32 %p0, %t, 64; @%p0 bar.sync 0;").unwrap();
    let fault = run("setp.lt.u32 %p0, %t, 40; @%p0 bar.sync 0;").unwrap_err();
    assert_eq!(fault.kind, FaultKind::DivergentBarrier { barrier: 0, missing: 24 });
    // Whole warps that do not come.
    let fault = run("setp.lt.u32 %p0, %t, 32; @%p0 bar.sync 0;").unwrap_err();
    assert_eq!(fault.kind, FaultKind::DivergentBarrier { barrier: 0, missing: 32 });
    // Threads that have left.
    let fault = run("setp.ge.u32 %p0, %t, 50; @%p0 ret; bar.sync 0;").unwrap_err();
    assert_eq!(fault.kind, FaultKind::DivergentBarrier { barrier: 0, missing: 14 });
    // Both sides of a branch have a barrier: the warp's threads do not meet at one.
    let body =
        |at: u32| format!("setp.lt.u32 %p0, %t, {at}; @%p0 bra left; bar.sync 0; bra end; left: bar.sync 0; end: ret;");
    run(&body(32)).unwrap();
    assert!(matches!(kind(run(&body(40))), FaultKind::DivergentBarrier { .. }));
    // Without .aligned this is allowed.
    run(&body(40).replace("bar.sync", "barrier.sync")).unwrap();
}

#[test]
fn divergent_shuffle() {
    let body = |guard: &str, mask: &str| {
        format!("setp.lt.u32 %p0, %t, 40; {guard} shfl.sync.bfly.b32 %r0, %t, 1, 31, {mask}; bar.sync 0;")
    };
    run(&body("", "-1")).unwrap();
    let fault = run(&body("@%p0", "-1")).unwrap_err();
    assert_eq!(fault.kind, FaultKind::DivergentShuffle { member_mask: u32::MAX, active: 0xff });
    // The mask leaves out lanes that come.
    let fault = run(&body("", "65535")).unwrap_err();
    assert_eq!(fault.kind, FaultKind::DivergentShuffle { member_mask: 0xffff, active: u32::MAX });
    // The mask fits, but a lane reads from one that is not there.
    let pairs = |guard: u32, mask: &str, by: u32| {
        format!(
            "setp.eq.u32 %p1, 0, 0; and.b32 %r1, %t, 31; setp.lt.u32 %p0, %r1, {guard}; @%p0 shfl.sync.down.b32 %r0, %t, {by}, 31, {mask};"
        )
    };
    run(&pairs(16, "65535", 0)).unwrap();
    assert!(matches!(
        kind(run(&pairs(16, "65535", 8))),
        FaultKind::DivergentShuffle { member_mask: 0xffff, active: 0xffff }
    ));
    // Lanes wait for each other at the same instruction, whichever way they came.
    run("setp.lt.u32 %p0, %t, 7; @%p0 bra left; add.u32 %t, %t, 1; bra meet; left: add.u32 %t, %t, 2; meet:
         shfl.sync.idx.b32 %r0, %t, 0, 31, -1;")
    .unwrap();
    // Two halves of a warp with masks of their own.
    run("and.b32 %r1, %t, 31; setp.lt.u32 %p0, %r1, 16; selp.b32 %r2, 65535, -65536, %p0; shfl.sync.bfly.b32 %r0, %t, 3, 31, %r2;").unwrap();
    // A vote and a warp barrier that half the warp skips.
    assert!(matches!(
        kind(run("setp.lt.u32 %p0, %t, 16; @%p0 vote.sync.ballot.b32 %r0, %p0, -1; bar.sync 0;")),
        FaultKind::DivergentShuffle { .. }
    ));
    assert!(matches!(
        kind(run("setp.lt.u32 %p0, %t, 16; @%p0 bar.warp.sync -1; bar.sync 0;")),
        FaultKind::DivergentShuffle { .. }
    ));
    run("setp.lt.u32 %p0, %t, 16; @%p0 bra left; bar.warp.sync -1; bra end; left: bar.warp.sync -1; end: ret;")
        .unwrap();
}

#[test]
fn endless_loop() {
    let body =
        |to: u32| format!("mov.u32 %r0, 0; again: add.u32 %r0, %r0, 1; setp.ne.u32 %p0, %r0, {to}; @%p0 bra again;");
    let limit = |memory: &mut Memory| memory.set_instruction_limit(10_000);
    run_in(&body(100), limit).unwrap();
    assert_eq!(kind(run_in(&body(0), limit)), FaultKind::Limit { instructions: 10_000 });
    // Threads that spin for another of their own warp let it go on.
    run("setp.eq.u32 %p0, %t, 5; @%p0 bra give; wait: ld.volatile.global.u64 %rd0, [%x]; setp.ne.u64 %p1, %rd0, 7; @%p1 bra wait; ret;
         give: st.volatile.global.u64 [%x], 7;").unwrap();
    // And for one of another warp.
    run("setp.eq.u32 %p0, %t, 45; @%p0 bra give; wait: ld.volatile.global.u64 %rd0, [%x]; setp.ne.u64 %p1, %rd0, 7; @%p1 bra wait; ret;
         give: st.volatile.global.u64 [%x], 7;").unwrap();
}

#[test]
fn trap_and_bad_operands() {
    assert_eq!(kind(run("trap;")), FaultKind::Trap);
    run("setp.gt.u32 %p0, %t, 64; @%p0 trap;").unwrap();
    assert!(matches!(kind(run("mov.u32 %r0, 16; bar.sync %r0;")), FaultKind::BadOperand(_)));
    assert!(matches!(kind(run("bar.sync 1, 20;")), FaultKind::BadOperand(_)));
    let table = "list: .branchtargets one, two;";
    let body = |index: u32| format!("{table} mov.u32 %r0, {index}; brx.idx %r0, list; one: ret; two: ret;");
    run(&body(1)).unwrap();
    assert!(matches!(kind(run(&body(2))), FaultKind::BadOperand(_)));
}

#[test]
fn read_only_memory() {
    let source = |opcode: &str| {
        format!(
            ".version 8.0\n.target sm_80\n.address_size 64\n.const .align 8 .f64 c[2] = {{1.5, -2.0}};\n.global .u32 g = 7;\n
             .visible .entry k() {{ .reg .f64 %f<2>; .reg .b64 %rd<2>; mov.u64 %rd0, c; {opcode}; }}"
        )
    };
    Device::new(&source("ld.const.f64 %f0, [c+8]")).run("k", 1, 1, &[]).unwrap();
    let found = kind(Device::new(&source("st.global.f64 [%rd0], %f0")).run("k", 1, 1, &[]));
    assert!(matches!(found, FaultKind::ReadOnly { .. }));
    let device = Device::new(&source("ret"));
    let (address, bytes) = device.loaded.global("c").unwrap();
    assert_eq!((device.get::<f64>(address, 2), bytes), (vec![1.5, -2.0], 16));
    let (address, bytes) = device.loaded.global("g").unwrap();
    assert_eq!((device.get::<u32>(address, 1), bytes), (vec![7], 4));
    assert_eq!(device.loaded.global("nothing"), None);
}

#[test]
fn launches_that_cannot_be() {
    let mut device =
        Device::new(&module(1, ".reg .u64 %x; ld.param.u64 %x, [p0];").replace("{\n", ".maxntid 128, 1, 1\n{\n"));
    assert_eq!(device.loaded.module().kernel("k").unwrap().max_threads(), Some(128));
    device.run("k", 1, 128, &[Wide(0)]).unwrap();
    let ends = |result: Result<Statistics, Fault>| assert!(matches!(kind(result), FaultKind::BadParameters(_)));
    ends(device.run("k", 1, 129, &[Wide(0)]));
    ends(device.run("k", 0, 32, &[Wide(0)]));
    ends(device.run("k", 1, 0, &[Wide(0)]));
    ends(device.run_with("k", [1; 3], [32, 1, 1], 300_000, &[Wide(0)]));
    let launch = ptx_interpreter::Launch { grid: [1; 3], block: [32, 1, 1], dynamic_shared_bytes: 0 };
    ends(device.loaded.launch("k", &launch, &[0; 4], &mut device.memory));
    ends(device.loaded.launch("nothing", &launch, &[0; 8], &mut device.memory));
}

/// Text that is wrong is refused with its line.
#[test]
fn wrong_text() {
    let refused = |line: &str| {
        let source = module(2, &format!("{START}{line}"));
        match Module::parse(&source) {
            Ok(_) => panic!("`{line}` was taken"),
            Err(error) => {
                assert!(source.lines().nth(error.line as usize - 1).unwrap().contains(&error.text), "{error}");
                assert!(error.text.contains(line.split(' ').next().unwrap()), "{error}");
            }
        }
    };
    // Operands of the wrong size, kind or number.
    refused("add.u32 %r0, %rd0, 1;");
    refused("add.f64 %f0, %f1, %rd0, %rd1;");
    refused("add.s32 %r0, %r1;");
    refused("fma.rn.f64 %f0, %f1, %f2, %r0;");
    refused("ld.global.f64 %r0, [%x];");
    refused("ld.f64 %f0, [%r0];");
    refused("st.global.v2.f64 [%x], {%f0};");
    refused("mov.b64 %rd0, {%r0, %rd1};");
    refused("setp.lt.f64 %r0, %f0, %f1;");
    refused("selp.b32 %r0, %r1, %r2, %r3;");
    refused("shl.b64 %rd0, %rd1, %rd2;");
    refused("cvt.rn.f32.f64 %f0, %rd1;");
    refused("mul.wide.u32 %r0, %r1, %r2;");
    // Fragments with the wrong number of registers, shapes that do not exist.
    refused(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%r0,%r1,%r2,%r3}, {%r4,%r5}, {%r6,%r7}, {%r0,%r1,%r2,%r3};",
    );
    refused(
        "mma.sync.aligned.m16n8k8.row.col.f32.f16.bf16.f32 {%r0,%r1,%r2,%r3}, {%r4,%r5}, {%r6}, {%r0,%r1,%r2,%r3};",
    );
    refused(
        "mma.sync.aligned.m16n8k12.row.col.f32.f16.f16.f32 {%r0,%r1,%r2,%r3}, {%r4,%r5}, {%r6}, {%r0,%r1,%r2,%r3};",
    );
    refused("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%f0,%f1}, {%r0}, {%f2}, {%f0,%f1};");
    refused("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r0,%r1}, [%u];");
    refused("cp.async.cg.shared.global [%u], [%x], 8;");
    refused("cp.async.ca.shared.global [%u], [%x], 12;");
    // Names and opcodes that are not there.
    refused("add.u32 %r0, %r9, 1;");
    refused("add.u32 %q0, %r1, 1;");
    refused("bra nowhere;");
    refused("frobnicate.u32 %r0, %r1;");
    refused("add.frobnicate.u32 %r0, %r1, 1;");
    refused("div.f64 %f0, %f1, %f2;");
    refused("cvt.u32.f64 %r0, %f0;");
    refused("call (%r0), nothing, (%r1);");
    refused("wgmma.fence.sync.aligned;");
    refused("atom.global.add.b32 %r0, [%x], 1;");
    refused("atom.global.cas.b32 %r0, [%x], 1;");
    for source in [
        "",
        ".version 8.0",
        "nonsense",
        ".version 8.0\n.target sm_80\n.visible .entry k( {",
        ".entry k() { .reg .u32 %r; add.u32 %r, 1",
    ] {
        assert_eq!(Module::parse(source).is_ok(), source == ".version 8.0");
    }
}

/// Cutting a module anywhere, or dropping any of its lines, never panics.
#[test]
fn broken_text_is_an_error() {
    let source = include_str!("kernels/kernels-12.0.ptx");
    let start = source.find(".visible .entry product_bf16").unwrap();
    let end = source[start..].find("\n}").unwrap() + start + 2;
    let text = format!(".version 8.0\n.target sm_80\n.address_size 64\n{}", &source[start..end]);
    Module::parse(&text).unwrap();
    for at in (0..text.len()).step_by(37) {
        assert!(at < 60 || Module::parse(&text[..at]).is_err(), "{at}");
    }
    let lines: Vec<&str> = text.lines().collect();
    for skip in 0..lines.len() {
        let left: Vec<&str> = lines.iter().enumerate().filter(|(at, _)| *at != skip).map(|(_, line)| *line).collect();
        let _ = Module::parse(&left.join("\n"));
    }
}
