//! Random numbers have the bits of `mnemo::random`, and a sum with noise those of the sum and then the noise.

use super::data::{bits, normals};
use super::device::{Array, Build, Device, Parameters};
use super::elementwise::combine;
use mnemo::cpu::Cpu;
use mnemo::engine::{Engine, Factor, Noise};
use mnemo::random::{Purpose, Stream};
use mnemo::tensor::Matrix;

/// The `Noise` of kernels/noise.cu.
fn with_noise(parameters: Parameters, noise: Noise) -> Parameters {
    let Noise { factor, stream, first_sample } = noise;
    parameters.push(factor).push(stream.seed).push(first_sample).push(stream.purpose as u32).push(stream.step)
}

#[test]
fn a_sum_with_noise_has_the_bits_of_the_sum_and_then_the_noise() {
    let cpu = Cpu::new(1, None).expect("an engine");
    // Odd numbers of columns, several blocks; samples on both sides of the words they are cut into.
    let shapes = [(1, 1), (3, 2), (65, 3), (2, 1001), (129, 64)];
    // A factor of 0 tells whether zeros keep their signs.
    let noises = [
        (0.37, Stream { seed: 0, purpose: Purpose::Prior, step: 0 }, 0),
        (-2.0, Stream { seed: 0x0123_4567_89ab_cdef, purpose: Purpose::Step, step: 7 }, 0xffff_fffe),
        (0.0, Stream { seed: u64::MAX, purpose: Purpose::Churn, step: u32::MAX }, (1 << 56) - 200),
    ]
    .map(|(factor, stream, first_sample)| Noise { factor, stream, first_sample });
    for shape @ (rows, cols) in shapes {
        let own = [2, 3].map(|seed| normals(seed, rows));
        let [a, b] = [Factor::Rows(&own[0]), Factor::Rows(&own[1])];
        let sums = [
            (None, vec![]),
            (None, vec![Factor::All(0.7)]),
            (None, vec![a, Factor::All(-1.1)]),
            (Some(Factor::All(1.0)), vec![]),
            (Some(Factor::All(-0.3)), vec![Factor::All(0.7), b]),
            (Some(a), vec![b, Factor::All(0.2), a, b, a, Factor::All(1.0), b, a]),
        ];
        let mut start = normals(1, rows * cols);
        let mut values: Vec<Vec<f64>> = (0..8).map(|t| normals(10 + t, rows * cols)).collect();
        for zeros in [&mut start, &mut values[0]] {
            zeros.iter_mut().step_by(3).for_each(|v| *v = -0.0);
        }
        let matrices: Vec<Matrix> = values.iter().map(|v| Matrix::from_host(v.clone(), rows, cols)).collect();
        for (i, (keep, factors)) in sums.into_iter().enumerate() {
            for noise in [noises[i % 3], noises[(i + 1) % 3]] {
                let on_host: Vec<_> = factors.iter().copied().zip(&matrices).collect();
                let mut want = Matrix::from_host(start.clone(), rows, cols);
                cpu.combine(&mut want, keep, &on_host, None).unwrap();
                let mut z = vec![0.0; cols];
                for (i, row) in want.host_mut().chunks_mut(cols).enumerate() {
                    noise.stream.fill_normal(noise.first_sample + i as u64, &mut z);
                    row.iter_mut().zip(&z).for_each(|(v, z)| *v += noise.factor * z);
                }

                let mut device = Device::new(Build::Library);
                // Without `keep` nobody has written the result before.
                let out = if keep.is_some() { device.upload(&start) } else { device.empty(rows * cols) };
                let arrays: Vec<Array<f64>> = values.iter().map(|v| device.upload(v)).collect();
                let on_device: Vec<_> = factors.iter().copied().zip(&arrays).collect();
                let parameters = with_noise(combine(&mut device, &out, shape, keep, &on_device), noise);
                device.launch("noise", "mnemo_combine_with_noise", [3, 1, 1], parameters);
                assert_eq!(bits(&device.download(&out)), bits(want.host()), "{shape:?} {keep:?} {factors:?} {noise:?}");
            }
        }
    }
}

#[test]
fn a_hundred_thousand_normals_have_the_bits_of_the_cpu() {
    // Enough for every branch of the logarithm's exponent near 0 and of the quarter turns.
    let shape @ (rows, cols) = (100, 1000);
    let stream = Stream { seed: 42, purpose: Purpose::Step, step: 3 };
    let mut device = Device::new(Build::Library);
    let out = device.empty(rows * cols);
    let nothing = combine(&mut device, &out, shape, None, &[]);
    let parameters = with_noise(nothing, Noise { factor: 1.0, stream, first_sample: 0 });
    device.launch("noise", "mnemo_combine_with_noise", [64, 1, 1], parameters);
    for (i, row) in device.download(&out).chunks(cols).enumerate() {
        let mut want = vec![0.0; cols];
        stream.fill_normal(i as u64, &mut want);
        // 0 + 1 z: z, but for a z of -0, of which there is none here.
        assert_eq!(bits(row), bits(&want), "sample {i}");
    }
}
