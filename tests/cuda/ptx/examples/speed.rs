use ptx_interpreter::*;
use std::sync::Arc;
fn cpu() -> f64 {
    // Time of this process alone.
    let t = std::fs::read_to_string("/proc/self/schedstat").unwrap();
    t.split(' ').next().unwrap().parse::<f64>().unwrap() * 1e-9
}
fn main() {
    let text = std::fs::read_to_string(std::env::args().nth(1).unwrap()).unwrap();
    let module = Module::parse(&text).unwrap();
    let mut memory = Memory::new(1 << 30);
    let loaded = Loaded::new(Arc::new(module), &mut memory).unwrap();
    let n = 1024u64;
    let (x, y, z) = (memory.allocate(8 * n).unwrap(), memory.allocate(8 * n).unwrap(), memory.allocate(8 * n).unwrap());
    let data: Vec<u8> = (0..n).flat_map(|i| (0.5 * i as f64).to_le_bytes()).collect();
    memory.write(x, &data).unwrap();
    memory.write(y, &data).unwrap();
    let p: Vec<u8> = [x, y, z].into_iter().flat_map(u64::to_le_bytes).chain(1000u32.to_le_bytes()).collect();
    let launch = |k: &str, g: u32, b: u32, p: &[u8], m: &mut Memory| {
        let t = cpu();
        let s = loaded.launch(k, &Launch { grid: [g, 1, 1], block: [b, 1, 1], dynamic_shared_bytes: 0 }, p, m);
        let t = cpu() - t;
        match s {
            Ok(s) => println!("{k}: {:.1} M/s  {:?}", s.instructions as f64 / t * 1e-6, s),
            Err(e) => println!("{k}: {e}"),
        }
    };
    launch("add", 4, 256, &p, &mut memory);
    let mut out = vec![0; 8 * 1000];
    memory.read(z, &mut out).unwrap();
    for (i, c) in out.chunks(8).enumerate() {
        assert_eq!(f64::from_le_bytes(c.try_into().unwrap()), i as f64);
    }
    let q: Vec<u8> = x.to_le_bytes().to_vec();
    launch("noin", 1, 8, &q, &mut memory);
    let mut out = vec![0; 64];
    memory.read(x, &mut out).unwrap();
    println!("{:?}", out.chunks(8).map(|c| f64::from_le_bytes(c.try_into().unwrap())).collect::<Vec<_>>());
    let q: Vec<u8> = x.to_le_bytes().into_iter().chain(300000u32.to_le_bytes()).collect();
    launch("fmaloop", 1, 32, &q, &mut memory);
    memory.write(x, &data).unwrap();
    launch("f32loop", 1, 32, &q, &mut memory);
    let (a, b) = (memory.allocate(64 * 32 * 8).unwrap(), memory.allocate(64 * 32 * 8 * 20).unwrap());
    memory.fill(a, 64 * 32 * 8, 0).unwrap();
    memory.fill(b, 64 * 32 * 8 * 20, 0).unwrap();
    let p: Vec<u8> = [a, b, z].into_iter().flat_map(u64::to_le_bytes).chain(20u32.to_le_bytes()).collect();
    launch("tile", 1, 64, &p, &mut memory);
    memory.set_checks(Checks { races: false, uninitialized: false });
    launch("tile", 1, 64, &p, &mut memory);
}
