//! Warp instructions a second, in time of this process alone.

use std::sync::Arc;

use ptx_interpreter::{Checks, Launch, Loaded, Memory, Module};

const SOURCE: &str = "
.version 8.0
.target sm_80
.address_size 64
.visible .entry arithmetic(.param .u64 out, .param .u64 rounds) {
    .reg .f64 %f<6>; .reg .b64 %out, %n, %o; .reg .b32 %t; .reg .pred %p;
    ld.param.u64 %out, [out]; ld.param.u64 %n, [rounds]; mov.u32 %t, %tid.x; cvt.rn.f64.u32 %f5, %t;
    mov.f64 %f4, 0d3FF0000000000001; mov.f64 %f0, %f5; mov.f64 %f1, %f5; mov.f64 %f2, %f5; mov.f64 %f3, %f5;
again:
    fma.rn.f64 %f0, %f0, %f4, %f5; fma.rn.f64 %f1, %f1, %f4, %f5; fma.rn.f64 %f2, %f2, %f4, %f5;
    fma.rn.f64 %f3, %f3, %f4, %f5; fma.rn.f64 %f0, %f0, %f4, %f5; fma.rn.f64 %f1, %f1, %f4, %f5;
    fma.rn.f64 %f2, %f2, %f4, %f5; fma.rn.f64 %f3, %f3, %f4, %f5;
    sub.u64 %n, %n, 1; setp.ne.u64 %p, %n, 0; @%p bra again;
    add.f64 %f0, %f0, %f1; add.f64 %f2, %f2, %f3; add.f64 %f0, %f0, %f2;
    mul.wide.u32 %o, %t, 8; add.u64 %out, %out, %o; st.global.f64 [%out], %f0; ret;
}
.visible .entry tiles(.param .u64 out, .param .u64 rounds) {
    .shared .align 16 .b8 s[256]; .reg .f64 %f<5>; .reg .b64 %out, %n, %o; .reg .b32 %t, %s; .reg .pred %p;
    ld.param.u64 %out, [out]; ld.param.u64 %n, [rounds]; mov.u32 %t, %tid.x; cvt.rn.f64.u32 %f4, %t;
    mov.f64 %f0, 0d0000000000000000; mov.u32 %s, s; mad.lo.u32 %s, %t, 8, %s;
again:
    st.shared.f64 [%s], %f4; bar.sync 0;
    ld.shared.f64 %f1, [s]; fma.rn.f64 %f0, %f1, %f4, %f0; ld.shared.f64 %f1, [s+8]; fma.rn.f64 %f0, %f1, %f4, %f0;
    ld.shared.f64 %f1, [s+16]; fma.rn.f64 %f0, %f1, %f4, %f0; ld.shared.f64 %f1, [%s]; fma.rn.f64 %f0, %f1, %f4, %f0;
    ld.shared.v2.f64 {%f1, %f2}, [s+32]; fma.rn.f64 %f0, %f1, %f4, %f0; fma.rn.f64 %f0, %f2, %f4, %f0;
    bar.sync 0; sub.u64 %n, %n, 1; setp.ne.u64 %p, %n, 0; @%p bra again;
    mul.wide.u32 %o, %t, 8; add.u64 %out, %out, %o; st.global.f64 [%out], %f0; ret;
}";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut memory = Memory::new(1 << 20);
    let loaded = Loaded::new(Arc::new(Module::parse(SOURCE)?), &mut memory)?;
    let out = memory.allocate(32 * 8)?;
    let launch = Launch { grid: [1, 1, 1], block: [32, 1, 1], dynamic_shared_bytes: 0 };
    for (kernel, checks) in [("arithmetic", true), ("tiles", true), ("tiles", false)] {
        memory.set_checks(Checks { races: checks, uninitialized: checks });
        let mut best = f64::INFINITY;
        for _ in 0..5 {
            let parameters: Vec<u8> = [out, 200_000].into_iter().flat_map(u64::to_le_bytes).collect();
            let before = seconds()?;
            let statistics = loaded.launch(kernel, &launch, &parameters, &mut memory)?;
            best = best.min((seconds()? - before) / statistics.instructions as f64);
        }
        let with = if checks { "all checks" } else { "no checks" };
        println!("{kernel:10} {with:10} {:6.1} million warp instructions a second", 1e-6 / best);
    }
    Ok(())
}

/// Processor time of this process where the system tells it, else the time of day.
fn seconds() -> Result<f64, Box<dyn std::error::Error>> {
    if let Ok(text) = std::fs::read_to_string("/proc/self/schedstat") {
        return Ok(text.split(' ').next().unwrap_or("0").parse::<f64>()? * 1e-9);
    }
    Ok(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs_f64())
}
