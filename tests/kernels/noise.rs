//! Random numbers have the bits of `mnemo::random`.

use super::data::{bits, normals};
use super::device::{Build, Device, NONE, with};
use mnemo::cpu::Cpu;
use mnemo::engine::{Engine, Factor};
use mnemo::random::{Purpose, Stream};
use mnemo::tensor::Matrix;

#[test]
fn noise_has_the_bits_of_the_cpu() {
    let cpu = Cpu::new(1, None).expect("an engine");
    // Odd numbers of columns, several blocks; samples on both sides of the words they are cut into.
    let shapes = [(1, 1), (3, 2), (65, 3), (2, 1001), (129, 64)];
    let streams = [
        (Stream { seed: 0, purpose: Purpose::Prior, step: 0 }, 0),
        (Stream { seed: 0x0123_4567_89ab_cdef, purpose: Purpose::Step, step: 7 }, 0xffff_fffe),
        (Stream { seed: u64::MAX, purpose: Purpose::Churn, step: u32::MAX }, (1 << 56) - 200),
    ];
    for (rows, cols) in shapes {
        let start = normals(1, rows * cols);
        let own = normals(2, rows);
        for (stream, first) in streams {
            for factor in [Factor::All(0.37), Factor::Rows(&own)] {
                let mut want = Matrix::from_host(start.clone(), rows, cols);
                cpu.add_normal(&mut want, factor, stream, first).unwrap();
                let mut device = Device::new(Build::Library);
                let out = device.upload(&start);
                let of_rows = match factor {
                    Factor::Rows(c) => Some(device.upload(c)),
                    Factor::All(_) => None,
                };
                let all = if let Factor::All(c) = factor { c } else { f64::NAN };
                let parameters = with![
                    &out,
                    rows as i64,
                    cols as i32,
                    of_rows.as_ref(),
                    all,
                    stream.seed,
                    stream.purpose as u32,
                    stream.step,
                    first
                ];
                device.launch("noise", "mnemo_add_normal", [3, 1, 1], parameters);
                assert_eq!(bits(&device.download(&out)), bits(want.host()), "{rows} x {cols}, {stream:?}");
            }
        }
    }
}

#[test]
fn a_hundred_thousand_normals_have_the_bits_of_the_cpu() {
    // Enough for every branch of the logarithm's exponent near 0 and of the quarter turns.
    let (rows, cols) = (100, 1000);
    let stream = Stream { seed: 42, purpose: Purpose::Step, step: 3 };
    let mut device = Device::new(Build::Library);
    let out = device.upload(&vec![0.0; rows * cols]);
    let parameters =
        with![&out, rows as i64, cols as i32, NONE, 1.0, stream.seed, stream.purpose as u32, stream.step, 0u64];
    device.launch("noise", "mnemo_add_normal", [64, 1, 1], parameters);
    for (i, row) in device.download(&out).chunks(cols).enumerate() {
        let mut want = vec![0.0; cols];
        stream.fill_normal(i as u64, &mut want);
        // 0 + 1 z: z, but for a z of -0, of which there is none here.
        assert_eq!(bits(row), bits(&want), "sample {i}");
    }
}
