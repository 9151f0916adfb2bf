//! Copies, sums and checks, against the CPU engine: bit for bit wherever no sum over a row is formed.

use super::data::{assert_near, bits, normals};
use super::device::{Array, Build, Device, Parameters, with};
use mnemo::cpu::Cpu;
use mnemo::engine::{Engine, Factor};
use mnemo::tensor::Matrix;

/// Shapes that fill no block, one, and several.
const SHAPES: [(usize, usize); 6] = [(1, 1), (2, 3), (9, 64), (1, 517), (67, 5), (300, 2)];
const U: f64 = 0.5 * f64::EPSILON;

fn device() -> Device {
    Device::new(Build::Library)
}

fn matrix(values: &[f64], (rows, cols): (usize, usize)) -> Matrix {
    Matrix::from_host(values.to_vec(), rows, cols)
}

/// A place for the first bad row, as its owner begins it.
fn no_bad_row(device: &mut Device) -> Array<u64> {
    device.upload(&[u64::MAX])
}

#[test]
fn load_widens_strided_rows_exactly_and_finds_the_first_bad_row() {
    for (rows, cols) in SHAPES {
        let stride = cols + 3;
        let wide = normals(1, rows * stride);
        let narrow: Vec<f32> = wide.iter().map(|v| *v as f32).collect();
        let take =
            |values: &[f64]| -> Vec<f64> { values.chunks(stride).flat_map(|row| row[..cols].to_vec()).collect() };
        let widened: Vec<f64> = narrow.iter().map(|v| f64::from(*v)).collect();
        for (dtype, want) in [(1, take(&widened)), (2, take(&wide))] {
            let mut device = device();
            let from = if dtype == 1 { device.upload(&narrow).address } else { device.upload(&wide).address };
            let (to, bad) = (device.empty::<f64>(rows * cols), no_bad_row(&mut device));
            let load = |first_bad: Option<&Array<u64>>| {
                with![from, dtype, stride as i64, rows as i64, cols as i32, &to, 1e100, first_bad]
            };
            device.launch("elementwise", "mnemo_load", [3, 1, 1], load(Some(&bad)));
            assert_eq!(bits(&device.download(&to)), bits(&want));
            assert_eq!(device.download(&bad), [u64::MAX]);
            device.launch("elementwise", "mnemo_load", [1, 1, 1], load(None));
            assert_eq!(bits(&device.download(&to)), bits(&want));
        }
    }
    // The first of several, in whatever order blocks come; what is in the gaps between rows is nobody's business.
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1.1e100] {
        let (rows, cols, stride) = (700, 3, 4);
        let mut values = vec![1e100; rows * stride];
        values[3] = f64::NAN;
        for row in [650, 301, 499] {
            values[row * stride + 2] = bad;
        }
        let mut device = device();
        let (from, to, first) = (device.upload(&values), device.empty::<f64>(rows * cols), no_bad_row(&mut device));
        let parameters = with![&from, 2, stride as i64, rows as i64, cols as i32, &to, 1e100, &first];
        device.launch("elementwise", "mnemo_load", [5, 1, 1], parameters);
        assert_eq!(device.download(&first), [301], "{bad}");
    }
}

#[test]
fn store_rounds_once_and_leaves_gaps_alone() {
    let special = [-0.0, 1e-45, 0.7e-45, 1e-40, f64::from(f32::MAX), 16777217.0, 0.1, -1.0 - f64::EPSILON];
    for (rows, cols) in SHAPES {
        let stride = cols + 2;
        let mut values = normals(2, rows * cols);
        values.iter_mut().zip(special).for_each(|(v, s)| *v = s);
        let mut device = device();
        let (from, bad) = (device.upload(&values), no_bad_row(&mut device));
        let narrow = device.upload(&vec![7f32; rows * stride]);
        let wide = device.upload(&vec![7f64; rows * stride]);
        for (dtype, to) in [(1, narrow.address), (2, wide.address)] {
            let limit = f64::from(f32::MAX);
            let parameters = with![&from, rows as i64, cols as i32, to, dtype, stride as i64, limit, &bad];
            device.launch("elementwise", "mnemo_store", [2, 1, 1], parameters);
        }
        assert_eq!(device.download(&bad), [u64::MAX]);
        let (narrow, wide) = (device.download(&narrow), device.download(&wide));
        for i in 0..rows {
            for j in 0..stride {
                let want = if j < cols { values[i * cols + j] } else { 7.0 };
                assert_eq!(wide[i * stride + j].to_bits(), want.to_bits());
                assert_eq!(narrow[i * stride + j].to_bits(), (want as f32).to_bits(), "{want}");
            }
        }
    }
    let mut device = device();
    let from = device.upload(&[0.0, 1.0, 3.5e38, 0.0, f64::NAN, 0.0]);
    let (to, bad) = (device.empty::<f32>(6), no_bad_row(&mut device));
    let parameters = with![&from, 6i64, 1, &to, 1, 1i64, f64::from(f32::MAX), &bad];
    device.launch("elementwise", "mnemo_store", [1, 1, 1], parameters);
    assert_eq!(device.download(&bad), [2]);
}

/// The `Combine` of kernels/combine.cuh.
pub fn combine(
    device: &mut Device,
    out: &Array<f64>,
    (rows, cols): (usize, usize),
    keep: Option<Factor<'_>>,
    terms: &[(Factor<'_>, &Array<f64>)],
) -> Parameters {
    let mut factor = |factor: &Factor<'_>| match factor {
        Factor::All(c) => (0, *c),
        Factor::Rows(c) => (device.upload(c).address, 0.0),
    };
    let mut parameters = with![out, rows as i64, cols as i32, terms.len() as i32, i32::from(keep.is_some())];
    parameters = parameters.push(i32::from(matches!(terms.first(), Some((Factor::All(_), _)))));
    let (keep_rows, keep_all) = keep.as_ref().map_or((0, 0.0), &mut factor);
    parameters = parameters.push(keep_rows).push(keep_all);
    for i in 0..8 {
        let (of_rows, all) = terms.get(i).map_or((0, 0.0), |(f, _)| factor(f));
        parameters = parameters.push(of_rows).push(all);
    }
    for i in 0..8 {
        parameters = parameters.push(terms.get(i).map(|(_, m)| *m));
    }
    parameters
}

#[test]
fn combine_is_that_of_the_cpu() {
    let cpu = Cpu::new(1, None).expect("an engine");
    for shape @ (rows, cols) in SHAPES {
        let own = normals(3, rows);
        let keeps = [None, Some(Factor::All(1.0)), Some(Factor::All(-0.3)), Some(Factor::Rows(&own))];
        for keep in keeps {
            for terms in [0usize, 1, 2, 8] {
                for first_by_row in [false, true] {
                    let mut device = device();
                    let mut values: Vec<Vec<f64>> = (0..terms).map(|t| normals(10 + t as u64, rows * cols)).collect();
                    // A sum that begins with -0, and one with a tiny product, tell orders of operations apart.
                    if let Some(first) = values.first_mut() {
                        first[0] = -0.0;
                    }
                    let factors: Vec<Vec<f64>> = (0..terms).map(|t| normals(30 + t as u64, rows)).collect();
                    let by = |t: usize| {
                        if t.is_multiple_of(2) == first_by_row {
                            Factor::Rows(&factors[t])
                        } else {
                            Factor::All(factors[t][0])
                        }
                    };
                    let start = normals(5, rows * cols);
                    let mut want = matrix(&start, shape);
                    let matrices: Vec<Matrix> = values.iter().map(|v| matrix(v, shape)).collect();
                    let host: Vec<_> = matrices.iter().enumerate().map(|(t, m)| (by(t), m)).collect();
                    cpu.combine(&mut want, keep, &host, None).unwrap();
                    // Without `keep` nobody has written the result before.
                    let out = if keep.is_some() { device.upload(&start) } else { device.empty(rows * cols) };
                    let arrays: Vec<Array<f64>> = values.iter().map(|v| device.upload(v)).collect();
                    let on_device: Vec<_> = arrays.iter().enumerate().map(|(t, a)| (by(t), a)).collect();
                    let parameters = combine(&mut device, &out, shape, keep, &on_device);
                    device.launch("elementwise", "mnemo_combine", [2, 1, 1], parameters);
                    assert_eq!(bits(&device.download(&out)), bits(want.host()), "{shape:?} {keep:?} {terms}");
                }
            }
        }
    }
}

#[test]
fn sums_over_rows_are_those_of_plain_loops() {
    for shape @ (rows, cols) in SHAPES {
        let [x, y, mut error] = [6, 7, 8].map(|seed| normals(seed, rows * cols));
        // No error needs no allowance, even where none is given.
        error[0] = 0.0;
        let (mut x, mut y) = (x, y);
        (x[0], y[0]) = (0.0, 0.0);
        let mut device = device();
        let (dx, dy, de) = (device.upload(&x), device.upload(&y), device.upload(&error));
        let (dots, norms) = (device.empty::<f64>(rows), device.empty::<f64>(rows));
        device.launch("elementwise", "mnemo_dot_rows", [2, 1, 1], with![&dx, &dy, rows as i64, cols as i32, &dots]);
        // atol is 0: rows of x and y that are 0 allow nothing.
        let parameters = with![&de, &dx, &dy, rows as i64, cols as i32, 1e-3, 0.0, &norms];
        device.launch("elementwise", "mnemo_error_norms", [2, 1, 1], parameters);
        for (i, got) in device.download(&dots).into_iter().enumerate() {
            let own = i * cols..(i + 1) * cols;
            let products = || x[own.clone()].iter().zip(&y[own.clone()]).map(|(a, b)| a * b);
            // A sum of `cols` products in any order is off by cols u of the sum of magnitudes, and so are both.
            let error = 2.0 * (cols + 1) as f64 * U * products().map(f64::abs).sum::<f64>();
            assert_near(&[got], &[products().sum()], 0.0, error, "dot product");
        }
        let cpu = Cpu::new(1, None).expect("an engine");
        let mut want = vec![0.0; rows];
        cpu.error_norms(&mut want, &matrix(&error, shape), &matrix(&x, shape), &matrix(&y, shape), 1e-3, 0.0).unwrap();
        // Sums of squares, so relative; a few roundings of each share and of the root.
        assert_near(&device.download(&norms), &want, (2 * cols + 20) as f64 * U, 0.0, "error norm");
    }
}

#[test]
fn sums_over_rows_have_the_same_bits_in_any_batch_and_grid() {
    let (rows, cols) = (37, 101);
    let x = normals(9, rows * cols);
    let whole = {
        let mut device = device();
        let (dx, out) = (device.upload(&x), device.empty::<f64>(rows));
        device.launch("elementwise", "mnemo_dot_rows", [7, 1, 1], with![&dx, &dx, rows as i64, cols as i32, &out]);
        device.download(&out)
    };
    for (i, row) in x.chunks(cols).enumerate() {
        let mut device = device();
        let (dx, out) = (device.upload(row), device.empty::<f64>(1));
        device.launch("elementwise", "mnemo_dot_rows", [1, 1, 1], with![&dx, &dx, 1i64, cols as i32, &out]);
        assert_eq!(bits(&device.download(&out)), bits(&whole[i..=i]));
    }
}

#[test]
fn first_beyond_is_the_least_row() {
    let (rows, cols) = (401, 7);
    let mut values = normals(11, rows * cols);
    let look = |values: &[f64]| {
        let mut device = device();
        let (x, first) = (device.upload(values), no_bad_row(&mut device));
        let parameters = with![&x, rows as i64, cols as i32, 10.0, &first];
        device.launch("elementwise", "mnemo_first_beyond", [4, 1, 1], parameters);
        device.download(&first)[0]
    };
    values[0] = 10.0;
    assert_eq!(look(&values), u64::MAX, "the limit itself is not beyond");
    values[400 * cols] = -10.1;
    assert_eq!(look(&values), 400);
    values[13 * cols + 6] = f64::NAN;
    assert_eq!(look(&values), 13);
}

#[test]
fn rows_are_copied_from_and_to_any_rows() {
    let (rows, cols) = (90, 5);
    let from = normals(12, rows * cols);
    let picked: Vec<i64> = (0..rows as i64).filter(|i| i % 3 == 1).rev().collect();
    let row = |values: &[f64], i: i64| bits(&values[i as usize * cols..(i as usize + 1) * cols]);
    let copy = |from_index: Option<&[i64]>, to_index: Option<&[i64]>, count: usize| {
        let mut device = device();
        let source = device.upload(&from);
        let to = device.upload(&vec![-1.0; rows * cols]);
        let from_index = from_index.map(|index| device.upload(index));
        let to_index = to_index.map(|index| device.upload(index));
        let parameters = with![&source, from_index.as_ref(), &to, to_index.as_ref(), count as i64, cols as i32];
        device.launch("elementwise", "mnemo_copy_rows", [2, 1, 1], parameters);
        device.download(&to)
    };
    let gathered = copy(Some(&picked), None, picked.len());
    let scattered = copy(None, Some(&picked), picked.len());
    let same = copy(Some(&picked), Some(&picked), picked.len());
    for (at, &i) in (0i64..).zip(&picked) {
        assert_eq!(row(&gathered, at), row(&from, i));
        assert_eq!(row(&scattered, i), row(&from, at));
        assert_eq!(row(&same, i), row(&from, i));
    }
    for i in (0..rows as i64).filter(|i| i % 3 != 1) {
        assert_eq!(row(&same, i), bits(&vec![-1.0; cols]), "rows that are not named stay as they are");
    }
    assert_eq!(bits(&copy(None, None, rows)), bits(&from));
}

#[test]
fn fill_fills() {
    let mut device = device();
    let to = device.empty::<f64>(1000);
    device.launch("elementwise", "mnemo_fill", [2, 1, 1], with![&to, 999i64, -0.0]);
    let filled = device.download(&to);
    assert!(filled[..999].iter().all(|v| v.to_bits() == (-0.0f64).to_bits()));
    assert_ne!(filled[999].to_bits(), (-0.0f64).to_bits(), "one too many");
}
