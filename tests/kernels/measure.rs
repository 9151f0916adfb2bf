//! Distances and projections, bit for bit: they are one chain of fused operations, which plain loops repeat.

use super::data::{DTYPES, Data, Dtype, assert_near, bits, normals};
use super::device::{Array, Build, Device, Part, Rows, with};

/// Columns of a tile of the kernels for 8 and for 64 queries.
const TILES: [(usize, usize); 2] = [(8, 128), (64, 64)];

/// Distances, or projections onto `v`, of segments `first..first + segments`, by tiles of `queries` queries.
pub fn measure(
    device: &mut Device,
    (height, width): (usize, usize),
    rows: Rows,
    part: Part,
    (x, v): (&Array<f64>, Option<&Array<f64>>),
    few: Option<&Array<i32>>,
    out: &Array<f64>,
) {
    let what = if v.is_some() { "project" } else { "measure" };
    let segment = device.build().segment();
    let grid = [(part.queries as usize).div_ceil(height), segment.div_ceil(width), part.segments as usize];
    device.launch("measure", &format!("mnemo_{what}_{height}"), grid, with![rows, part, x, v, few, out]);
}

/// The tile shapes there are.
pub fn tiles() -> [(usize, usize); 2] {
    TILES
}

/// All segments at once, as `[queries, rows]`.
fn all(device: &mut Device, tile: (usize, usize), data: &Data, x: &[f64], v: Option<&[f64]>) -> Vec<f64> {
    let (queries, count) = (x.len() / data.dim, data.taking_part().len());
    let segment = device.build().segment();
    let segments = count.div_ceil(segment);
    let rows = data.upload(device);
    let (x, v) = (device.upload(x), v.map(|v| device.upload(v)));
    let out = device.empty::<f64>(queries * segments * segment);
    let part = Part { count: count as i64, first_segment: 0, segments: segments as i32, queries: queries as i32 };
    measure(device, tile, rows, part, (&x, v.as_ref()), None, &out);
    let out = device.download(&out);
    out.chunks(segments * segment).flat_map(|query| query[..count].to_vec()).collect()
}

fn check(build: Build, queries: usize, data: &Data) {
    let dim = data.dim;
    let (x, v) = (normals(90, queries * dim), normals(91, queries * dim));
    let (mut distances, mut projections) = (Vec::new(), Vec::new());
    for (x, v) in x.chunks(dim).zip(v.chunks(dim)) {
        distances.extend(data.squared_distances(x));
        projections.extend(data.projections(x, v));
    }
    for tile in TILES {
        let mut device = Device::new(build);
        let what = format!("{queries} queries, {} x {dim} {:?}, tile {tile:?}", data.rows, data.dtype);
        assert_eq!(bits(&all(&mut device, tile, data, &x, None)), bits(&distances), "distances, {what}");
        assert_eq!(bits(&all(&mut device, tile, data, &x, Some(&v))), bits(&projections), "projections, {what}");
    }
}

#[test]
fn every_shape_is_one_chain_of_differences() {
    let rows = [1, 2, 31, 32, 33, 63, 64, 65, 131];
    let dims = [1, 2, 15, 16, 17, 64, 67];
    let queries = [1, 2, 8, 9, 63, 64, 65];
    // Not all triples, but every value beside several of the others.
    for i in 0..21 {
        let (n, d, b) = (rows[i % rows.len()], dims[(i * 2) % dims.len()], queries[(i * 3 + i / 7) % queries.len()]);
        check(Build::Small, b, &Data::normal(i as u64, n, d, Dtype::F64));
    }
}

#[test]
fn the_library_has_segments_of_4096_rows() {
    check(Build::Library, 2, &Data::normal(3, 4099, 3, Dtype::F32));
}

#[test]
fn every_type_is_decoded_as_on_the_cpu() {
    for dtype in DTYPES {
        check(Build::Small, 3, &Data::normal(4, 70, 19, dtype));
        // Two roundings, multiply then add; fused would be other bits.
        let wanted: Vec<f64> = normals(5, 40 * 7).iter().map(|v| 0.3 * v + 0.4).collect();
        check(Build::Small, 2, &Data::new(&wanted, 7, dtype, 0.012_345, -0.7));
    }
    // Every binary16 that is finite, subnormal ones and -0 among them.
    let halves: Vec<u16> = (0..=u16::MAX).filter(|b| half::f16::from_bits(*b).is_finite()).collect();
    let values: Vec<f64> = halves.iter().map(|b| half::f16::from_bits(*b).to_f64()).collect();
    let data = Data::new(&values, 64, Dtype::F16, 1.0, 0.0);
    let mut device = Device::new(Build::Library);
    let (rows, to) = (data.upload(&mut device), device.empty::<f64>(values.len()));
    device.launch("measure", "mnemo_decode", [8, 1, 1], with![rows, &to]);
    // As on the CPU -0 becomes 0 when the shift of 0 is added.
    let want: Vec<f64> = values.iter().map(|v| v + 0.0).collect();
    assert_eq!(bits(&device.download(&to)), bits(&want));
}

#[test]
fn a_subset_takes_part_alone() {
    let subset: Vec<u32> = (0..200).filter(|n| n % 7 < 3).collect();
    check(Build::Small, 9, &Data::normal(6, 200, 18, Dtype::F32).with_subset(subset));
    check(Build::Small, 1, &Data::normal(6, 200, 18, Dtype::F32).with_subset(vec![199]));
}

#[test]
fn parts_of_the_segments_give_the_same_numbers() {
    let (queries, segments) = (5usize, 4usize);
    let data = Data::normal(7, 100, 21, Dtype::F32);
    let x = normals(8, queries * data.dim);
    let mut device = Device::new(Build::Small);
    let segment = device.build().segment();
    let want = all(&mut device, TILES[0], &data, &x, None);
    let (rows, x) = (data.upload(&mut device), device.upload(&x));
    for first in 0..segments {
        let out = device.upload(&vec![-1.0; queries * segment]);
        let part = Part { count: 100, first_segment: first as i64, segments: 1, queries: queries as i32 };
        measure(&mut device, TILES[1], rows, part, (&x, None), None, &out);
        for (query, got) in device.download(&out).chunks(segment).enumerate() {
            let there = first * segment..((first + 1) * segment).min(100);
            assert_eq!(bits(&got[..there.len()]), bits(&want[query * 100..][there.clone()]));
            assert!(got[there.len()..].iter().all(|v| *v == -1.0), "places of rows that are not there are written");
        }
    }
}

#[test]
fn factors_make_rows_of_length_one() {
    // Ordinary rows, one of zeros, tiny and subnormal ones, large ones.
    let dim = 37;
    let mut values = normals(9, 12 * dim);
    for (n, scale) in [(1, 0.0), (2, 1e-101), (3, 1e-200), (4, 1e-310), (5, 1e99), (6, 1e-99), (7, 1e-323)] {
        values[n * dim..(n + 1) * dim].iter_mut().for_each(|v| *v *= scale);
    }
    // So small that all but one of the products above are 0.
    values[7 * dim] = 5e-324;
    let data = Data::new(&values, dim, Dtype::F64, 1.0, 0.0);
    let mut device = Device::new(Build::Small);
    let (rows, factor) = (data.upload(&mut device), device.empty::<f64>(data.rows));
    device.launch("measure", "mnemo_row_factors", [2, 1, 1], with![rows, &factor]);
    let factors = device.download(&factor);
    let to = device.empty::<f64>(values.len());
    let unit = Rows { factor: factor.address, ..rows };
    device.launch("measure", "mnemo_decode", [1, 1, 1], with![unit, &to]);
    for (n, got) in device.download(&to).chunks(dim).enumerate() {
        if n == 1 {
            assert_eq!((factors[n], got), (0.0, [0.0; 37].as_slice()));
            continue;
        }
        assert_eq!(factors[n] < 0.0, (2..=4).contains(&n) || n == 7, "row {n}");
        // Powers of two that make the largest number about 1 do not round. Subnormal rows are what they are.
        let row = data.row(n);
        let grow = 2f64.powi(if row.iter().all(|v| v.abs() < 1e-200) { 1000 } else { 0 });
        let shrink = 2f64.powi(if row.iter().any(|v| v.abs() > 1e90) { -300 } else { 0 });
        let row: Vec<f64> = row.iter().map(|v| v * grow * shrink).collect();
        let length = row.iter().map(|v| v * v).sum::<f64>().sqrt();
        let want: Vec<f64> = row.iter().map(|v| v / length).collect();
        // Two sums of squares, each off by dim/2 u of a root at most; a root, two divisions and a product.
        assert_near(got, &want, (dim + 8) as f64 * 0.5 * f64::EPSILON, 0.0, &format!("row {n}"));
    }
}

#[test]
fn distances_use_factors() {
    let data = Data::normal(10, 50, 20, Dtype::F32);
    let mut device = Device::new(Build::Small);
    let (rows, factor) = (data.upload(&mut device), device.empty::<f64>(50));
    device.launch("measure", "mnemo_row_factors", [1, 1, 1], with![rows, &factor]);
    let factors = device.download(&factor);
    let scaled: Vec<f64> =
        (0..50).flat_map(|n| data.row(n).iter().map(|v| v * factors[n]).collect::<Vec<_>>()).collect();
    let want = Data::new(&scaled, 20, Dtype::F64, 1.0, 0.0);
    let x = normals(11, 20);
    let (on_device, out) = (device.upload(&x), device.empty::<f64>(2 * 32));
    let part = Part { count: 50, first_segment: 0, segments: 2, queries: 1 };
    measure(&mut device, TILES[0], Rows { factor: factor.address, ..rows }, part, (&on_device, None), None, &out);
    assert_eq!(bits(&device.download(&out)[..50]), bits(&want.squared_distances(&x)));
}
