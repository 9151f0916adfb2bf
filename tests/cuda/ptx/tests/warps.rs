//! What lanes do together: shuffles, votes, reductions, barriers, atomics, calls, branches.

mod support;

use ptx_interpreter::{FaultKind, Launch, Loaded, Memory, Module, Order};
use support::{Argument::*, Device, Random, kind, module};

/// Runs a body on one warp; %t is the lane, %a and %b its two inputs, %d its result (32 bits).
fn warp(body: &str, a: &[u32; 32], b: &[u32; 32]) -> Vec<u32> {
    let text = format!(
        ".reg .b32 %t, %a, %b, %d, %r<8>; .reg .b64 %x, %y, %o, %rd<8>; .reg .pred %p<8>;
         ld.param.u64 %x, [p0]; ld.param.u64 %y, [p1]; mov.u32 %t, %tid.x; mul.wide.u32 %o, %t, 4;
         add.u64 %x, %x, %o; ld.global.u32 %a, [%x]; ld.global.u32 %b, [%x+128]; add.u64 %y, %y, %o; mov.u32 %d, 0;
         {body}\n st.global.u32 [%y], %d;"
    );
    let mut device = Device::new(&module(2, &text));
    let input: Vec<u32> = a.iter().chain(b).copied().collect();
    let (x, y) = (device.put(&input), device.room(128));
    device.run("k", 1, 32, &[Wide(x), Wide(y)]).unwrap_or_else(|fault| panic!("{body}: {fault}"));
    device.get(y, 32)
}

fn random(seed: u64, below: u32) -> [u32; 32] {
    let mut random = Random(seed);
    std::array::from_fn(|_| random.next() as u32 % below)
}

#[test]
fn shuffles() {
    let a = random(1, 1000);
    let none = [0; 32];
    for width in [32usize, 16, 8, 4, 2] {
        let c = (32 - width) << 8;
        for by in [0usize, 1, 3, 5, 16, 31] {
            let segment = |l: usize| l / width * width;
            let test = |mode: &str, clamp: usize, from: &dyn Fn(usize) -> Option<usize>| {
                let body =
                    format!("shfl.sync.{mode}.b32 %d|%p0, %a, {by}, {}, -1; @!%p0 add.u32 %d, %d, 5000;", c | clamp);
                let wanted: Vec<u32> = (0..32).map(|l| from(l).map_or(a[l] + 5000, |at| a[at])).collect();
                assert_eq!(warp(&body, &a, &none), wanted, "{body}");
            };
            test("up", 0, &|l| (l >= by && l - by >= segment(l)).then(|| l - by));
            test("down", 31, &|l| (l + by < segment(l) + width).then_some(l + by));
            test("bfly", 31, &|l| ((l ^ by) < segment(l) + width).then_some(l ^ by));
            test("idx", 31, &|l| Some(segment(l) + by % width));
        }
    }
    // Every lane its own source.
    let b = random(2, 32);
    let wanted: Vec<u32> = b.iter().map(|&at| a[at as usize]).collect();
    assert_eq!(warp("shfl.sync.idx.b32 %d, %a, %b, 31, -1;", &a, &b), wanted);
}

#[test]
fn votes_matches_and_reductions() {
    let a = random(3, 4);
    let b = random(4, u32::MAX);
    let mask = (0..32).filter(|&l| a[l] == 1).fold(0, |all, l| all | 1 << l);
    let vote = |mode: &str, limit: u32| {
        let body = format!("setp.lt.u32 %p0, %a, {limit}; vote.sync.{mode}.pred %p1, %p0, -1; selp.u32 %d, 1, 0, %p1;");
        warp(&body, &a, &b)[7]
    };
    assert_eq!((vote("all", 4), vote("all", 3), vote("any", 1), vote("any", 0)), (1, 0, 1, 0));
    assert_eq!((vote("uni", 4), vote("uni", 0), vote("uni", 2)), (1, 1, 0));
    assert_eq!(warp("setp.eq.u32 %p0, %a, 1; vote.sync.ballot.b32 %d, %p0, -1;", &a, &b), vec![mask; 32]);
    let equal: Vec<u32> = (0..32).map(|l| (0..32).filter(|&m| a[m] == a[l]).fold(0, |all, m| all | 1 << m)).collect();
    assert_eq!(warp("match.any.sync.b32 %d, %a, -1;", &a, &b), equal);
    assert_eq!(warp("cvt.u64.u32 %rd0, %a; match.any.sync.b64 %d, %rd0, -1;", &a, &b), equal);
    assert_eq!(warp("match.all.sync.b32 %d|%p0, %a, -1; @%p0 mov.u32 %d, 9;", &a, &b), vec![0; 32]);
    assert_eq!(warp("match.all.sync.b32 %d|%p0, 7, -1; @!%p0 mov.u32 %d, 9;", &a, &b), vec![u32::MAX; 32]);
    let reduce = |operation: &str, f: fn(u32, u32) -> u32| {
        let wanted = b.into_iter().reduce(f).unwrap();
        assert_eq!(warp(&format!("redux.sync.{operation} %d, %b, -1;"), &a, &b), vec![wanted; 32], "{operation}");
    };
    reduce("add.s32", u32::wrapping_add);
    reduce("min.u32", u32::min);
    reduce("max.u32", u32::max);
    reduce("min.s32", |x, y| (x as i32).min(y as i32) as u32);
    reduce("max.s32", |x, y| (x as i32).max(y as i32) as u32);
    reduce("and.b32", |x, y| x & y);
    reduce("or.b32", |x, y| x | y);
    reduce("xor.b32", |x, y| x ^ y);
    // Part of the warp.
    let low = b[..16].iter().fold(0u32, |sum, x| sum.wrapping_add(*x));
    let body = "setp.lt.u32 %p0, %t, 16; @%p0 redux.sync.add.u32 %d, %b, 65535;";
    assert_eq!(warp(body, &a, &b), [vec![low; 16], vec![0; 16]].concat());
    let body = "setp.gt.u32 %p0, %t, 4; @%p0 activemask.b32 %d;";
    assert_eq!(warp(body, &a, &b)[5], 0xffff_ffe0);
    let body = "elect.sync %r0|%p0, -1; @%p0 mov.u32 %d, 3;";
    assert_eq!(warp(body, &a, &b), [vec![3], vec![0; 31]].concat());
}

#[test]
fn special_registers() {
    let none = [0; 32];
    assert_eq!(warp("mov.u32 %d, %laneid;", &none, &none)[9], 9);
    assert_eq!(warp("mov.u32 %d, %lanemask_lt;", &none, &none)[9], 0x1ff);
    assert_eq!(warp("mov.u32 %d, %lanemask_ge;", &none, &none)[31], 0x8000_0000);
    // Three dimensions.
    let body = ".reg .b32 %r<16>; .reg .b64 %y, %o; ld.param.u64 %y, [p0];
        mov.u32 %r0, %tid.x; mov.u32 %r1, %tid.y; mov.u32 %r2, %tid.z; mov.u32 %r3, %ctaid.x; mov.u32 %r4, %ctaid.y; mov.u32 %r5, %ctaid.z;
        mov.u32 %r6, %ntid.x; mov.u32 %r7, %ntid.y; mov.u32 %r8, %ntid.z; mov.u32 %r9, %nctaid.x; mov.u32 %r10, %nctaid.y; mov.u32 %r11, %nctaid.z;
        mad.lo.u32 %r5, %r5, %r10, %r4; mad.lo.u32 %r5, %r5, %r9, %r3;
        mad.lo.u32 %r5, %r5, %r8, %r2; mad.lo.u32 %r5, %r5, %r7, %r1; mad.lo.u32 %r5, %r5, %r6, %r0;
        mul.wide.u32 %o, %r5, 4; add.u64 %y, %y, %o; mov.u32 %r12, %warpid; st.global.u32 [%y], %r12;";
    for order in [Order::Forward, Order::Shuffled(9)] {
        let mut device = Device::new(&module(1, body));
        device.memory.set_order(order);
        let y = device.room(4 * 30 * 36);
        device.run_with("k", [2, 3, 5], [3, 4, 3], 0, &[Wide(y)]).unwrap();
        // Every thread wrote its warp at its own place.
        let found = device.get::<u32>(y, 30 * 36);
        assert!(found.iter().enumerate().all(|(at, &warp)| warp as usize == at % 36 / 32));
    }
}

#[test]
fn barriers_reduce() {
    let body = "
        .reg .b32 %t, %d, %e; .reg .b64 %y, %o; .reg .pred %p<4>; ld.param.u64 %y, [p0]; mov.u32 %t, %tid.x;
        setp.lt.u32 %p0, %t, 70; bar.red.popc.u32 %d, 0, %p0; bar.red.and.pred %p1, 1, %p0; bar.red.or.pred %p2, 0, !%p0;
        selp.u32 %e, 1000, 0, %p1; add.u32 %d, %d, %e; selp.u32 %e, 2000, 0, %p2; add.u32 %d, %d, %e;
        mul.wide.u32 %o, %t, 4; add.u64 %y, %y, %o; st.global.u32 [%y], %d;";
    for (threads, wanted) in [(96, 2070), (70, 1070), (100, 2070)] {
        let mut device = Device::new(&module(1, body));
        let y = device.room(400);
        let statistics = device.run("k", 1, threads, &[Wide(y)]).unwrap();
        assert_eq!(statistics.barriers, 3);
        assert_eq!(device.get::<u32>(y, threads as usize), vec![wanted; threads as usize]);
    }
}

#[test]
fn atomics() {
    let numbers: [u32; 32] = random(5, 1 << 20);
    // Operation and type, the place's first value, and what one step makes of it.
    let test = |operation: &str, first: u64, step: &dyn Fn(u64, u32) -> u64, wide: bool| {
        for space in ["global", "shared", "generic"] {
            let (at, dot) = match space {
                "global" => ("[%x]", ".global"),
                "shared" => ("[s]", ".shared"),
                _ => ("[%x]", ""),
            };
            let convert = if operation.ends_with("f64") {
                "cvt.rn.f64.u32 %v, %b;"
            } else if operation.ends_with("f32") {
                "cvt.rn.f32.u32 %v, %b;"
            } else if wide {
                "cvt.u64.u32 %v, %b;"
            } else {
                "mov.b32 %v, %b;"
            };
            let (ty, size) = if wide { ("b64", 8) } else { ("b32", 4) };
            let body = format!(
                ".reg .{ty} %v, %w, %z; .reg .b32 %t, %b; .reg .b64 %x, %y, %o, %n; .reg .pred %p; .shared .align 8 .b8 s[8];
                 ld.param.u64 %x, [p0]; ld.param.u64 %y, [p1]; ld.param.u64 %n, [p2]; mov.u32 %t, %tid.x;
                 mul.wide.u32 %o, %t, 4; add.u64 %n, %n, %o; ld.global.u32 %b, [%n]; {convert}
                 setp.eq.u32 %p, %t, 0; @%p ld.global.{ty} %z, [%x]; @%p st.shared.{ty} [s], %z; bar.sync 0;
                 atom{dot}.{operation} %w, {at}, %v;
                 mul.wide.u32 %o, %t, {size}; add.u64 %y, %y, %o; st.global.{ty} [%y], %w; bar.sync 0;
                 @%p ld.shared.{ty} %z, [s]; @%p st.global.{ty} [%y+1024], %z;"
            );
            let mut device = Device::new(&module(3, &body));
            let (x, y, n) = (device.put(&[first]), device.room(2048), device.put(&numbers));
            device
                .run("k", 1, 32, &[Wide(x), Wide(y), Wide(n)])
                .unwrap_or_else(|fault| panic!("{operation} {space}: {fault}"));
            let mask = if wide { u64::MAX } else { 0xffff_ffff };
            let mut value = first;
            let read = |device: &Device, at: u64| {
                if wide { device.get::<u64>(at, 1)[0] } else { device.get::<u32>(at, 1)[0].into() }
            };
            for (lane, &number) in numbers.iter().enumerate() {
                assert_eq!(read(&device, y + lane as u64 * size), value & mask, "{operation} {space}");
                value = step(value, number) & mask;
            }
            let end = if space == "shared" { read(&device, y + 1024) } else { read(&device, x) };
            assert_eq!(end, value & mask, "{operation} {space}");
        }
    };
    test("add.u32", 7, &|v, n| v + u64::from(n), false);
    test("add.u64", 7 << 40, &|v, n| v + u64::from(n), true);
    test("add.f64", 0.5f64.to_bits(), &|v, n| (f64::from_bits(v) + f64::from(n)).to_bits(), true);
    test("add.f32", 0.5f32.to_bits().into(), &|v, n| (f32::from_bits(v as u32) + n as f32).to_bits().into(), false);
    test("min.u32", 900_000, &|v, n| v.min(n.into()), false);
    test("max.s32", 5, &|v, n| v.max(n.into()), false);
    test("min.s64", u64::MAX, &|v, n| (v as i64).min(n.into()) as u64, true);
    test("max.u64", 3, &|v, n| v.max(n.into()), true);
    test("and.b32", 0xffff_ffff, &|v, n| v & u64::from(n), false);
    test("or.b64", 1 << 63, &|v, n| v | u64::from(n), true);
    test("xor.b32", 0, &|v, n| v ^ u64::from(n), false);
    test("exch.b32", 12, &|_, n| n.into(), false);
    test("inc.u32", 0, &|v, n| if v >= u64::from(n) { 0 } else { v + 1 }, false);
    test("dec.u32", 9, &|v, n| if v == 0 || v > u64::from(n) { n.into() } else { v - 1 }, false);
    // Compare and swap: lane 3 finds what it looks for.
    let a: [u32; 32] = std::array::from_fn(|lane| lane as u32);
    let body = ".shared .align 4 .b8 s[4]; setp.eq.u32 %p0, %t, 0; @%p0 st.shared.u32 [s], 3; bar.warp.sync -1;
        atom.shared.cas.b32 %d, [s], %a, 77;";
    let wanted: Vec<u32> = a.iter().map(|&lane| if lane <= 3 { 3 } else { 77 }).collect();
    assert_eq!(warp(body, &a, &[0; 32]), wanted);
    let body = "{ .reg .b32 %h; .shared .align 4 .b8 s[4]; setp.eq.u32 %p0, %t, 0; @%p0 st.shared.u32 [s], 0; bar.warp.sync -1;
        mov.u32 %h, 0x3c003c00; red.shared.add.noftz.f16x2 [s], %h; ld.shared.u32 %d, [s]; }";
    assert_eq!(warp(body, &a, &a), vec![0x5000_5000; 32], "thirty-two in float16");
}

#[test]
fn branches_part_and_meet() {
    // The sum of 0..a by a loop of a's length, with a break and a continue on the way.
    let a = random(6, 40);
    let body = "mov.u32 %r0, 0; loop: setp.ge.u32 %p0, %r0, %a; @%p0 bra done; add.u32 %r0, %r0, 1;
        and.b32 %r1, %r0, 1; setp.eq.u32 %p1, %r1, 0; @%p1 bra loop; setp.gt.u32 %p2, %d, 200; @%p2 bra done;
        add.u32 %d, %d, %r0; bra.uni loop; done:";
    let wanted: Vec<u32> = a
        .iter()
        .map(|&n| {
            let mut sum = 0;
            for i in 1..=n {
                if i % 2 == 1 {
                    if sum > 200 {
                        break;
                    }
                    sum += i;
                }
            }
            sum
        })
        .collect();
    assert_eq!(warp(body, &a, &a), wanted);
    // All lanes meet behind a branch, or the shuffle would not run.
    let body = "setp.lt.u32 %p0, %a, 20; @%p0 bra one; add.u32 %d, %a, 100; bra two; one: add.u32 %d, %a, 200; two:
        shfl.sync.bfly.b32 %d, %d, 31, 31, -1;";
    let wanted: Vec<u32> = (0..32).rev().map(|l| a[l] + if a[l] < 20 { 200 } else { 100 }).collect();
    assert_eq!(warp(body, &a, &a), wanted);
    let body = "list: .branchtargets zero, one, two, one; and.b32 %r0, %a, 3; brx.idx %r0, list;
        zero: mov.u32 %d, 10; bra end; one: mov.u32 %d, 20; bra end; two: mov.u32 %d, 30; end:";
    let wanted: Vec<u32> = a.iter().map(|n| [10, 20, 30, 20][*n as usize & 3]).collect();
    assert_eq!(warp(body, &a, &a), wanted);
    // Labels and registers of a block in braces are its own.
    let body = "{ .reg .u32 %q; mov.u32 %q, 1; l: setp.eq.u32 %p0, %q, 0; @%p0 bra l; add.u32 %d, %d, %q; }
                { .reg .u32 %q; mov.u32 %q, 2; l: setp.eq.u32 %p0, %q, 0; @%p0 bra l; add.u32 %d, %d, %q; }";
    assert_eq!(warp(body, &a, &a), vec![3; 32]);
}

#[test]
fn functions_are_called() {
    let source = ".version 8.0\n.target sm_80\n.address_size 64
        .func (.param .b32 r) twice(.param .b32 x) { .reg .u32 %a; ld.param.u32 %a, [x]; add.u32 %a, %a, %a; st.param.u32 [r], %a; ret; }
        .func (.param .align 8 .b8 r[16]) pair(.param .b32 x, .param .align 4 .b8 y[8])
        { .reg .u32 %a, %b; .reg .u64 %w; .reg .pred %p; ld.param.u32 %a, [x]; ld.param.u32 %b, [y+4];
          { .param .b32 p; .param .b32 q; st.param.b32 [p], %a; call.uni (q), twice, (p); ld.param.b32 %a, [q]; }
          setp.gt.u32 %p, %a, 20; @%p bra big; mov.u64 %w, 5; st.param.u64 [r], %w; cvt.u64.u32 %w, %a; st.param.u64 [r+8], %w; ret;
          big: cvt.u64.u32 %w, %b; st.param.u64 [r], %w; mov.u64 %w, 6; st.param.u64 [r+8], %w; ret; }
        .visible .entry k(.param .u64 out)
        { .reg .u32 %t; .reg .u64 %y, %o, %v, %w; .reg .pred %p; mov.u32 %t, %tid.x; ld.param.u64 %y, [out]; mul.wide.u32 %o, %t, 16; add.u64 %y, %y, %o;
          mov.u64 %v, 0; mov.u64 %w, 0; setp.eq.u32 %p, %t, 7; @%p bra skip;
          { .param .b32 p; .param .align 4 .b8 q[8]; .param .align 8 .b8 r[16]; st.param.b32 [p], %t; st.param.b32 [q], 1; st.param.b32 [q+4], 2;
            call (r), pair, (p, q); ld.param.b64 %v, [r]; ld.param.b64 %w, [r+8]; }
          skip: st.global.u64 [%y], %v; st.global.u64 [%y+8], %w; ret; }";
    let mut device = Device::new(source);
    let out = device.room(32 * 16);
    device.run("k", 1, 32, &[Wide(out)]).unwrap();
    for (lane, found) in device.get::<u64>(out, 64).chunks(2).enumerate() {
        let twice = 2 * lane as u64;
        let wanted = if lane == 7 {
            [0, 0]
        } else if twice > 20 {
            [2, 6]
        } else {
            [5, twice]
        };
        assert_eq!(found, wanted);
    }
    // Recursion and unknown functions are refused.
    let recursive = source.replace("call.uni (q), twice, (p);", "call.uni (q), pair, (p);");
    assert!(Module::parse(&recursive).unwrap_err().message.contains("recursion"));
}

#[test]
fn shared_memory_by_launch() {
    // Dynamic shared memory begins behind the static one.
    let source = ".version 8.0\n.target sm_80\n.address_size 64\n.extern .shared .align 16 .b8 d[];\n.shared .align 8 .b8 unused[4096];
        .visible .entry k(.param .u64 out) { .shared .align 4 .b8 s[20]; .reg .u32 %t, %a, %b; .reg .u64 %y; ld.param.u64 %y, [out];
          mov.u32 %a, d; mov.u32 %b, s; sub.u32 %a, %a, %b; st.global.u32 [%y], %a; mov.u32 %a, %dynamic_smem_size; st.global.u32 [%y+4], %a;
          mov.u32 %a, 9; st.shared.u32 [d+60], %a; ret; }";
    let mut device = Device::new(source);
    assert_eq!(device.loaded.module().kernel("k").unwrap().static_shared_bytes(), 32);
    let out = device.room(8);
    device.run_with("k", [1; 3], [1; 3], 64, &[Wide(out)]).unwrap();
    assert_eq!(device.get::<u32>(out, 2), [32, 64]);
    let found = kind(device.run_with("k", [1; 3], [1; 3], 60, &[Wide(out)]));
    assert!(matches!(found, FaultKind::SharedOutOfBounds { offset: 92, bytes: 4, shared_bytes: 92 }));
}

#[test]
fn vectors_and_narrow_types() {
    let body = ".reg .b64 %x, %y, %rd<4>; .reg .b32 %r<8>; .reg .b16 %h<4>;
        ld.param.u64 %x, [p0]; ld.param.u64 %y, [p1];
        ld.global.v4.u32 {%r0, %r1, %r2, %r3}, [%x]; st.global.v4.u32 [%y], {%r3, %r2, %r1, %r0};
        ld.global.v2.u64 {%rd0, %rd1}, [%x+16]; st.global.v2.u64 [%y+16], {%rd1, %rd0};
        ld.global.v4.u8 {%h0, %h1, %h2, %h3}, [%x]; st.global.v4.u8 [%y+32], {%h3, %h2, %h1, %h0};
        ld.global.s8 %r4, [%x+1]; st.global.s32 [%y+36], %r4; ld.global.u8 %r4, [%x+1]; st.global.u32 [%y+40], %r4;
        ld.global.s16 %rd2, [%x]; st.global.u64 [%y+48], %rd2; ld.global.v2.u32 {_, %r5}, [%x]; st.global.u32 [%y+44], %r5;
        ld.global.nc.L1::no_allocate.u32 %r6, [%x+4]; st.global.cs.u16 [%y+56], %r6;";
    let mut device = Device::new(&module(2, body));
    let bytes: Vec<u8> = (0..32).map(|i| 0xf0u8.wrapping_add(i * 7)).collect();
    assert!(bytes[0] > 127 && bytes[1] > 127, "signs to extend");
    let (x, y) = (device.put(&bytes), device.room(64));
    device.run("k", 1, 1, &[Wide(x), Wide(y)]).unwrap();
    let found = device.get::<u8>(y, 58);
    let word = |at: usize| &bytes[4 * at..4 * at + 4];
    assert_eq!(found[..16], [word(3), word(2), word(1), word(0)].concat());
    assert_eq!(found[16..32], [&bytes[24..32], &bytes[16..24]].concat());
    assert_eq!(found[32..36], [bytes[3], bytes[2], bytes[1], bytes[0]]);
    assert_eq!(found[36..40], i32::from(bytes[1] as i8).to_le_bytes());
    assert_eq!(found[40..44], u32::from(bytes[1]).to_le_bytes());
    assert_eq!(found[44..48], *word(1));
    assert_eq!(found[48..56], i64::from(i16::from_le_bytes([bytes[0], bytes[1]])).to_le_bytes());
    assert_eq!(found[56..58], bytes[4..6]);
}

#[test]
fn memory_keeps_its_books() {
    let mut memory = Memory::new(1000);
    let a = memory.allocate(600).unwrap();
    assert!(a >= 0x7000_0000_0000 && a.is_multiple_of(256));
    assert_eq!(memory.allocate(500).unwrap_err().live, 600);
    let b = memory.allocate(400).unwrap();
    assert_eq!(memory.live(), (2, 1000));
    assert_eq!(memory.range_of(a + 599), Some((a, 600)));
    assert_eq!(memory.range_of(a + 600), None);
    memory.fill(a, 600, 7).unwrap();
    memory.copy(b, a + 100, 400).unwrap();
    let mut out = [0; 400];
    memory.read(b, &mut out).unwrap();
    assert_eq!(out, [7; 400]);
    assert!(memory.write(b + 399, &[1, 2]).is_err() && memory.read(b - 1, &mut [0]).is_err());
    assert!(memory.free(a + 1).is_err());
    memory.free(a).unwrap();
    assert!(memory.free(a).unwrap_err().freed);
    assert_eq!(memory.live(), (1, 400));
    // A module's variables are memory like any other.
    let module = Module::parse(".version 8.0\n.target sm_80\n.global .b8 big[700];").unwrap();
    let module = std::sync::Arc::new(module);
    assert!(Loaded::new(module.clone(), &mut memory).is_err());
    memory.free(b).unwrap();
    let loaded = Loaded::new(module, &mut memory).unwrap();
    assert_eq!(memory.live(), (1, 700));
    loaded.unload(&mut memory);
    assert_eq!(memory.live(), (0, 0));
}

#[test]
fn orders_are_permutations() {
    // Blocks take tickets: the order in which they ran.
    let body =
        ".reg .b64 %x, %y, %o; .reg .b32 %n, %r; ld.param.u64 %x, [p0]; ld.param.u64 %y, [p1]; mov.u32 %n, %ctaid.x;
        atom.global.add.u32 %r, [%x], 1; mul.wide.u32 %o, %n, 4; add.u64 %y, %y, %o; st.global.u32 [%y], %r;";
    for blocks in [1u32, 2, 7, 64, 100] {
        let order = |order: Order| {
            let mut device = Device::new(&module(2, body));
            device.memory.set_order(order);
            let (x, y) = (device.put(&[0u32]), device.room(4 * blocks as usize));
            device.run("k", blocks, 1, &[Wide(x), Wide(y)]).unwrap();
            device.get::<u32>(y, blocks as usize)
        };
        let forward: Vec<u32> = (0..blocks).collect();
        assert_eq!(order(Order::Forward), forward);
        assert_eq!(order(Order::Reverse), forward.iter().rev().copied().collect::<Vec<_>>());
        let mut shuffled = order(Order::Shuffled(4));
        assert!(blocks < 7 || shuffled != forward && shuffled != order(Order::Shuffled(5)));
        shuffled.sort_unstable();
        assert_eq!(shuffled, forward);
    }
}

#[test]
fn modules_say_what_they_hold() {
    let source = ".version 7.8\n.target sm_86, debug\n.address_size 64
        .visible .entry a(.param .u32 x, .param .u64 y, .param .align 4 .b8 z[12], .param .u8 w) { ret; }\n.entry b() { ret; }";
    let module = Module::parse(source).unwrap();
    assert_eq!((module.version(), module.target()), ((7, 8), "sm_86"));
    assert_eq!(module.kernels().map(|k| k.name()).collect::<Vec<_>>(), ["a", "b"]);
    let a = module.kernel("a").unwrap();
    let places: Vec<(u32, u32)> = a.parameters().iter().map(|p| (p.offset, p.size)).collect();
    assert_eq!(places, [(0, 4), (8, 8), (16, 12), (28, 1)]);
    assert_eq!((a.parameter_bytes(), a.max_threads(), a.static_shared_bytes()), (29, None, 0));
    fn shared<T: Send + Sync>() {}
    shared::<Module>();
    let _ = Launch { grid: [1; 3], block: [1; 3], dynamic_shared_bytes: 0 };
}
