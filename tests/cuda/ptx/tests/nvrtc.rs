//! Kernels that NVRTC compiled (tests/kernels), with every check on and blocks in any order.

mod support;

use half::bf16;
use ptx_interpreter::{FaultKind, Order};
use support::{Argument::*, Device, Random};

const SOURCES: [&str; 2] = [include_str!("kernels/kernels-12.0.ptx"), include_str!("kernels/kernels-13.0.ptx")];
const ORDERS: [Order; 4] = [Order::Forward, Order::Reverse, Order::Shuffled(1), Order::Shuffled(2)];

fn every(mut test: impl FnMut(&mut Device)) {
    for source in SOURCES {
        for order in ORDERS {
            let mut device = Device::new(source);
            device.memory.set_order(order);
            test(&mut device);
        }
    }
}

#[test]
fn philox_gives_the_published_words() {
    // Known answers of the Random123 library for philox4x32-10: counter, key, words.
    let known: [([u32; 6], [u32; 4]); 3] = [
        ([0; 6], [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]),
        ([u32::MAX; 6], [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]),
        (
            [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0],
            [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
        ),
    ];
    every(|device| {
        let input: Vec<u32> = known.iter().flat_map(|k| k.0).collect();
        let (x, out) = (device.put(&input), device.room(3 * 16));
        device.run("philox_words", 2, 32, &[Wide(x), Wide(out), Word(3)]).unwrap();
        let words: Vec<u32> = known.iter().flat_map(|k| k.1).collect();
        assert_eq!(device.get::<u32>(out, 12), words);
    });
}

fn philox(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let (mut c, mut k) = (counter, key);
    for _ in 0..10 {
        let p0 = u64::from(c[0]) * 0xD2511F53;
        let p1 = u64::from(c[2]) * 0xCD9E8D57;
        c = [(p1 >> 32) as u32 ^ c[1] ^ k[0], p1 as u32, (p0 >> 32) as u32 ^ c[3] ^ k[1], p0 as u32];
        k = [k[0].wrapping_add(0x9E3779B9), k[1].wrapping_add(0xBB67AE85)];
    }
    c
}

#[test]
fn noise_is_box_muller_of_philox() {
    every(|device| {
        let n = 500;
        let out = device.room(16 * n);
        device.run("philox_noise", 3, 96, &[Wide(out), Word(n as u32), Word(7), Word(11)]).unwrap();
        for (i, pair) in device.get::<f64>(out, 2 * n).chunks(2).enumerate() {
            let c = philox([i as u32, 0, 0, 0], [7, 11]);
            let u = ((((u64::from(c[0]) << 32) | u64::from(c[1])) >> 11) as f64 + 0.5) * 2f64.powi(-53);
            let v = (((u64::from(c[2]) << 32) | u64::from(c[3])) >> 11) as f64 * 2f64.powi(-53);
            let (r, angle) = ((-2.0 * u.ln()).sqrt(), std::f64::consts::TAU * v);
            // The kernel's own logarithm and sine differ from the library's in the last bits; an angle near 2 pi is
            // rounded to 2^-50.
            assert!((pair[0] - r * angle.cos()).abs() < 1e-13 && (pair[1] - r * angle.sin()).abs() < 1e-13, "{i}");
        }
    });
}

#[test]
fn flash_finds_the_mean() {
    every(|device| {
        // Neither count is a multiple of a tile.
        let (n, b, scale) = (101, 11, 0.7);
        let mut random = Random(3);
        let points: Vec<f64> = (0..n * 16).map(|_| random.unit()).collect();
        let queries: Vec<f64> = (0..b * 16).map(|_| random.unit()).collect();
        let (p, q, out) = (device.put(&points), device.put(&queries), device.room(b * 128));
        let arguments = [Wide(p), Wide(q), Wide(out), Word(n as u32), Word(b as u32), Real(scale)];
        device.run("flash64", 2, 256, &arguments).unwrap();
        let means = device.get::<f64>(out, b * 16);
        for (query, mean) in queries.chunks(16).zip(means.chunks(16)) {
            let weights: Vec<f64> = points
                .chunks(16)
                .map(|point| (-scale * point.iter().zip(query).map(|(x, y)| (x - y) * (x - y)).sum::<f64>()).exp())
                .collect();
            let sum: f64 = weights.iter().sum();
            for (k, &found) in mean.iter().enumerate() {
                let wanted: f64 = points.chunks(16).zip(&weights).map(|(point, w)| point[k] * w).sum::<f64>() / sum;
                // About a hundred additions of numbers below 1, each wrong by 2^-53.
                assert!((found - wanted).abs() < 1e-13, "{found} {wanted}");
            }
        }
    });
}

#[test]
fn bf16_product_is_the_product() {
    every(|device| {
        let (m, n, k) = (64, 32, 80);
        let mut random = Random(5);
        // Small integers: every sum is exact, whatever its order.
        let mut some = |count| -> Vec<u16> {
            (0..count).map(|_| bf16::from_f32((random.next() % 17) as f32 - 8.0).to_bits()).collect()
        };
        let (x, y) = (some(m * k), some(n * k));
        let (px, py, out) = (device.put(&x), device.put(&y), device.room(m * n * 4));
        let arguments = [Wide(px), Wide(py), Wide(out), Word(n as u32), Word(k as u32)];
        device.run_with("product_bf16", [n as u32 / 32, m as u32 / 32, 1], [64, 1, 1], 0, &arguments).unwrap();
        let found = device.get::<f32>(out, m * n);
        for row in 0..m {
            for column in 0..n {
                let at = |v: &[u16], r: usize, c: usize| f32::from(bf16::from_bits(v[r * k + c]));
                let wanted: f32 = (0..k).map(|t| at(&x, row, t) * at(&y, column, t)).sum();
                assert_eq!(found[row * n + column], wanted, "{row} {column}");
            }
        }
    });
}

#[test]
fn smallest_values_come_sorted() {
    every(|device| {
        let (rows, n, k) = (3, 333, 9);
        let mut random = Random(9);
        // Many ties.
        let mut values: Vec<f64> = (0..rows * n).map(|_| (random.next() % 60) as f64).collect();
        values[5] = f64::INFINITY;
        let (v, best, at) = (device.put(&values), device.room(rows * k * 8), device.room(rows * k * 4));
        let counters = device.put(&[0u32, 0]);
        let arguments = [Wide(v), Wide(best), Wide(at), Wide(counters), Word(n as u32), Word(k as u32)];
        device.run("smallest", rows as u32, 128, &arguments).unwrap();
        let (found, places) = (device.get::<f64>(best, rows * k), device.get::<i32>(at, rows * k));
        for row in 0..rows {
            let mut order: Vec<(f64, i32)> = values[row * n..][..n].iter().copied().zip(0..).collect();
            order.sort_by(|a, b| a.partial_cmp(b).unwrap());
            let wanted = &order[..k];
            let got: Vec<(f64, i32)> = (0..k).map(|j| (found[row * k + j], places[row * k + j])).collect();
            assert_eq!(got, wanted);
        }
        assert_eq!(device.get::<u32>(counters, 2), [(rows * n - 1) as u32, n as u32]);
    });
}

#[test]
fn functions_of_the_library() {
    every(|device| {
        let x: Vec<f64> = (1..200).map(|i| f64::from(i) * 0.037).chain([1e6, 3e5, 2.5e9]).collect();
        let (p, out) = (device.put(&x), device.room(x.len() * 96));
        device.run("functions", 4, 64, &[Wide(p), Wide(out), Word(x.len() as u32)]).unwrap();
        for (i, (&v, found)) in x.iter().zip(device.get::<f64>(out, x.len() * 12).chunks(12)).enumerate() {
            // IEEE operations to the bit.
            assert_eq!(found[0], 1.0 / v);
            assert_eq!(found[1], v / 3.0);
            assert_eq!(found[2], v.sqrt());
            let horner = [1.0, -2.0, 0.5, 3.0, -0.25].iter().rev().fold(0.0f64, |r, c| r.mul_add(v, *c));
            assert_eq!(found[7], horner);
            // Which of the eight places holds which multiple.
            let held = |place: usize| (0..8).rfind(|k| (k * 5 + i) & 7 == place).unwrap() as f64 * v;
            assert_eq!(found[8], held((i + 1) & 7) + held(i & 7));
            // CUDA's own functions are within two units in the last place.
            let close = |a: f64, b: f64| (a - b).abs() <= 2.0 * f64::EPSILON * b.abs();
            assert!(close(found[3], (-v).exp()), "{v} {} {}", found[3], (-v).exp());
            assert!(close(found[4], v.ln()), "{v} {} {}", found[4], v.ln());
            assert!(close(found[5], v.sin()) || (found[5] - v.sin()).abs() < 1e-15, "{v} {} {}", found[5], v.sin());
            assert!(close(found[6], v.cos()) || (found[6] - v.cos()).abs() < 1e-15, "{v} {} {}", found[6], v.cos());
            assert!(close(found[10], 1.0 / v.sqrt()), "{v} {} {}", found[10], 1.0 / v.sqrt());
            assert!(close(found[11], v.powf(1.5)), "{v} {} {}", found[11], v.powf(1.5));
            let single = f64::from((v as f32).exp() + (v as f32).ln());
            assert!((found[9] - single).abs() <= 4.0 * f64::from(f32::EPSILON) * single.abs() || single.is_infinite());
        }
    });
}

#[test]
fn the_last_block_sums() {
    every(|device| {
        let x: Vec<f64> = (0..1000).map(f64::from).collect();
        let (p, partial, out) = (device.put(&x), device.room(5 * 8), device.room(8));
        let ticket = device.put(&[0u32]);
        let arguments = [Wide(p), Wide(partial), Wide(out), Wide(ticket), Word(1000)];
        device.run("sum_last_block", 5, 128, &arguments).unwrap();
        assert_eq!(device.get::<f64>(out, 1), [499_500.0]);
    });
}

/// Removes the n-th line of a kernel that contains a text, or all of them.
fn without(source: &str, kernel: &str, text: &str, nth: Option<usize>) -> String {
    let start = source.find(&format!(".entry {kernel}(")).unwrap();
    let mut seen = 0;
    let mut out = source[..start].to_owned();
    for line in source[start..].lines() {
        let hit = line.contains(text);
        seen += usize::from(hit);
        if !(hit && nth.is_none_or(|nth| seen == nth + 1)) {
            out.push_str(line);
        }
        out.push('\n');
    }
    assert!(seen > nth.unwrap_or(0));
    out
}

/// Barriers, waits and fences that NVRTC's own PTX is robbed of.
#[test]
fn what_is_missing_is_found() {
    for source in SOURCES {
        let sum = |source: &str| {
            let mut device = Device::new(source);
            let x: Vec<f64> = (0..1000).map(f64::from).collect();
            let (p, partial, out) = (device.put(&x), device.room(5 * 8), device.room(8));
            let ticket = device.put(&[0u32]);
            let arguments = [Wide(p), Wide(partial), Wide(out), Wide(ticket), Word(1000)];
            device.run("sum_last_block", 5, 128, &arguments)
        };
        let fault = sum(&without(source, "sum_last_block", "bar.sync", Some(0))).unwrap_err();
        assert!(matches!(fault.kind, FaultKind::SharedUninitialized { .. } | FaultKind::Race { .. }), "{fault}");
        let fault = sum(&without(source, "sum_last_block", "membar", None)).unwrap_err();
        assert!(matches!(fault.kind, FaultKind::Race { shared: false, .. }), "{fault}");
        let product = |source: &str| {
            let mut device = Device::new(source);
            let (x, y) = (vec![0u16; 32 * 64], vec![0u16; 32 * 64]);
            let (px, py, out) = (device.put(&x), device.put(&y), device.room(32 * 32 * 4));
            let arguments = [Wide(px), Wide(py), Wide(out), Word(32), Word(64)];
            device.run("product_bf16", 1, 64, &arguments)
        };
        product(source).unwrap();
        for wait in ["cp.async.wait_group 0", "cp.async.wait_group 1"] {
            let fault = product(&without(source, "product_bf16", wait, None)).unwrap_err();
            assert!(matches!(fault.kind, FaultKind::AsyncNotWaited { .. }), "{fault}");
        }
        for nth in 0..2 {
            let fault = product(&without(source, "product_bf16", "bar.sync", Some(nth))).unwrap_err();
            let found = matches!(
                fault.kind,
                FaultKind::SharedUninitialized { .. }
                    | FaultKind::Race { shared: true, .. }
                    | FaultKind::AsyncNotWaited { .. }
            );
            assert!(found, "{fault}");
        }
    }
}
