use ptx_interpreter::*;
use std::sync::Arc;
fn main() {
    for path in std::env::args().skip(1) {
        let text = std::fs::read_to_string(&path).unwrap();
        let module = match Module::parse(&text) {
            Ok(m) => m,
            Err(e) => {
                println!("{path}: {e}");
                continue;
            }
        };
        println!("{path}: {module:?} {:?}", module.version());
        for k in module.kernels() {
            println!(
                "  {} {:?} shared {} max {:?} local {}",
                k.name(),
                k.parameters(),
                k.static_shared_bytes(),
                k.max_threads(),
                k.local_bytes()
            );
        }
        let mut memory = Memory::new(1 << 30);
        let loaded = Loaded::new(Arc::new(module), &mut memory).unwrap();
        if loaded.module().kernel("first").is_some() {
            let n = 1000;
            let x = memory.allocate(8 * n).unwrap();
            let y = memory.allocate(8 * n).unwrap();
            let data: Vec<u8> = (0..n).flat_map(|i| (0.001 * i as f64).to_le_bytes()).collect();
            memory.write(x, &data).unwrap();
            let mut p = Vec::new();
            p.extend(x.to_le_bytes());
            p.extend(y.to_le_bytes());
            p.extend(1000u32.to_le_bytes());
            p.extend([0; 4]);
            for a in [1.0f64, 2.0, 3.0, 0.5, 0.25] {
                p.extend(a.to_le_bytes());
            }
            p.extend(7u32.to_le_bytes());
            p.extend([0; 4]);
            let r = loaded.launch(
                "first",
                &Launch { grid: [4, 1, 1], block: [256, 1, 1], dynamic_shared_bytes: 1024 },
                &p,
                &mut memory,
            );
            match r {
                Ok(s) => println!("{s:?}"),
                Err(e) => println!("{e}"),
            }
            let mut out = vec![0; 8 * n as usize];
            memory.read(y, &mut out).unwrap();
            let out: Vec<f64> = out.chunks(8).map(|c| f64::from_le_bytes(c.try_into().unwrap())).collect();
            println!("{:?}", &out[..4]);
            let (c, _) = loaded.global("counter").unwrap();
            let mut b = [0; 4];
            memory.read(c, &mut b).unwrap();
            println!("counter {}", u32::from_le_bytes(b));
        }
    }
}
