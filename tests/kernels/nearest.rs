//! The k nearest rows, exactly: distances bit for bit, ties to the lower index.

use super::bounds::Coded;
use super::data::{Data, Dtype, bits, normals};
use super::device::{Build, Device, Part, Rows, with};
use super::measure::{measure, tiles};

/// Which kernels find rows.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Distances,
    Cosines,
    Bounds,
}

/// Distances and indices `[queries, k]`, segments taken `at_once` at a time.
fn by_kernels(build: Build, data: &Data, x: &[f64], k: usize, way: Way, at_once: usize) -> (Vec<f64>, Vec<i64>) {
    let cosine = way == Way::Cosines;
    let device = &mut Device::new(build);
    let (queries, segment) = (x.len() / data.dim, build.segment());
    let mut rows = data.upload(device);
    let mut x_there = device.upload(x);
    let factor = device.empty::<f64>(data.rows);
    if cosine {
        device.launch("measure", "mnemo_row_factors", [2, 1, 1], with![rows, &factor]);
        rows.factor = factor.address;
        let plain = Data::new(x, data.dim, Dtype::F64, 1.0, 0.0).upload(device);
        let of_queries = device.empty::<f64>(queries);
        device.launch("measure", "mnemo_row_factors", [1, 1, 1], with![plain, &of_queries]);
        x_there = device.empty(x.len());
        let unit = Rows { factor: of_queries.address, ..plain };
        device.launch("measure", "mnemo_decode", [1, 1, 1], with![unit, &x_there]);
    }
    let list_distance = device.empty::<f64>(2 * queries * k);
    let list_index = device.empty::<u32>(2 * queries * k);
    let side = device.empty::<i32>(queries);
    let coded = (way == Way::Bounds).then(|| Coded::new(device, data, rows, x));
    let segments = data.rows.div_ceil(segment);
    for first in (0..segments).step_by(at_once) {
        let here = at_once.min(segments - first);
        let part = Part {
            count: data.rows as i64,
            first_segment: first as i64,
            segments: here as i32,
            queries: queries as i32,
        };
        if let Some(coded) = &coded {
            let low = coded.bound(device, part, rows.subset);
            let parameters = with![rows, part, &x_there, &low, k as i64, &list_distance, &list_index, &side];
            device.launch("nearest", "mnemo_select_near", [queries, 1, 1], parameters);
            continue;
        }
        let distances = device.empty::<f64>(queries * here * segment);
        measure(device, tiles()[first % 2], rows, part, (&x_there, None), None, &distances);
        if cosine {
            let grid = [queries, here, 1];
            device.launch("nearest", "mnemo_bound_cosines", grid, with![part, &factor, &distances]);
        }
        let parameters = with![part, &distances, k as i64, &list_distance, &list_index, &side];
        device.launch("nearest", "mnemo_select", [queries, 1, 1], parameters);
    }
    let (distance, index) = (device.empty::<f64>(queries * k), device.empty::<i64>(queries * k));
    let parameters =
        with![queries as i32, k as i64, &list_distance, &list_index, &side, i32::from(cosine), &distance, &index];
    device.launch("nearest", "mnemo_finish_nearest", [2, 1, 1], parameters);
    (device.download(&distance), device.download(&index))
}

/// All rows by (distance, index).
fn sorted(distances: &[f64]) -> Vec<(f64, i64)> {
    let mut all: Vec<(f64, i64)> = distances.iter().copied().zip(0..).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    all
}

fn check(build: Build, data: &Data, x: &[f64], k: usize) {
    let what = format!("{} x {}, k = {k}", data.rows, data.dim);
    for way in [Way::Distances, Way::Bounds] {
        let what = format!("{what}: {way:?}");
        let (distance, index) = by_kernels(build, data, x, k, way, 1);
        let again = by_kernels(build, data, x, k, way, 3);
        assert_eq!((bits(&again.0), &again.1), (bits(&distance), &index), "{what}: parts");
        for (b, x) in x.chunks(data.dim).enumerate() {
            let by_warps = way == Way::Bounds;
            let want = if by_warps { data.squared_distances_by_warps(x) } else { data.squared_distances(x) };
            for (i, (d2, n)) in sorted(&want).into_iter().take(k).enumerate() {
                assert_eq!(index[b * k + i], n, "{what}, query {b}, place {i}");
                assert_eq!(distance[b * k + i].to_bits(), d2.sqrt().to_bits(), "{what}, query {b}, place {i}");
            }
        }
    }
}

#[test]
fn every_k_agrees_with_sorting_all_rows() {
    for (rows, dim, queries) in [(1, 3, 2), (31, 2, 1), (33, 5, 9), (131, 17, 3), (300, 1, 2)] {
        let data = Data::normal(rows as u64, rows, dim, Dtype::F32);
        let x = normals(1 + rows as u64, queries * dim);
        for k in [1, 2, 31, 32, 33, 64, 100, 131, 299, 300] {
            if k <= rows {
                check(Build::Small, &data, &x, k);
            }
        }
        check(Build::Small, &data, &x, rows);
    }
}

#[test]
fn the_library_sorts_segments_of_4096_rows() {
    let data = Data::normal(7, 4100, 2, Dtype::F32);
    check(Build::Library, &data, &normals(8, 2), 50);
    check(Build::Library, &data, &normals(9, 2), 4099);
}

#[test]
fn ties_go_to_the_lower_index() {
    // Whole numbers from 0 to 4: each distance is many rows', in every segment.
    let wanted: Vec<f64> = normals(10, 150).iter().map(|v| (2.0 + v).round().clamp(0.0, 4.0)).collect();
    let data = Data::new(&wanted, 1, Dtype::U8, 1.0, 0.0);
    for k in [1, 5, 40, 90, 150] {
        check(Build::Small, &data, &[2.0, 0.0, -1.0], k);
    }
    // All alike.
    let data = Data::new(&[1.0; 100], 1, Dtype::F32, 1.0, 0.0);
    let (_, index) = by_kernels(Build::Small, &data, &[0.5], 70, Way::Distances, 4);
    assert_eq!(index, (0..70).collect::<Vec<i64>>());
}

#[test]
fn rows_that_come_nearer_and_nearer_all_move_the_list() {
    // Every row of every segment is a candidate; and the other way round none after the first segments.
    let falling: Vec<f64> = (0..200).map(|n| f64::from(300 - n)).collect();
    let rising: Vec<f64> = (0..200).map(f64::from).collect();
    for values in [falling, rising] {
        let data = Data::new(&values, 1, Dtype::F64, 1.0, 0.0);
        for k in [1, 40, 200] {
            check(Build::Small, &data, &[0.0], k);
        }
    }
}

#[test]
fn cosines_are_those_of_the_definition() {
    let (rows, dim) = (100, 7);
    let mut values = normals(11, rows * dim);
    // A row of zeros, one along the query, one against it, a tiny one along it.
    let x = normals(12, dim);
    for j in 0..dim {
        values[20 * dim + j] = 0.0;
        values[40 * dim + j] = x[j];
        values[60 * dim + j] = -3.0 * x[j];
        values[80 * dim + j] = x[j] * 1e-250;
    }
    let data = Data::new(&values, dim, Dtype::F64, 1.0, 0.0);
    let (distance, index) = by_kernels(Build::Small, &data, &x, rows, Way::Cosines, 2);
    let length = |v: &[f64]| v.iter().map(|v| v * v).sum::<f64>().sqrt();
    for (d, n) in distance.iter().zip(&index) {
        let y = data.row(*n as usize);
        let y: Vec<f64> = if *n == 80 { y.iter().map(|v| v * 1e250).collect() } else { y.to_vec() };
        let cosine = y.iter().zip(&x).map(|(y, x)| y * x).sum::<f64>() / (length(&y) * length(&x));
        let want = if *n == 20 { 1.0 } else { 1.0 - cosine };
        // 1 - cosine is itself off by a few u of 1, as the sum of products is.
        assert!((d - want).abs() < (2 * dim + 16) as f64 * 0.5 * f64::EPSILON, "row {n}: {d}, expected {want}");
    }
    assert!(distance.is_sorted());
    // The same numbers have the same factor: a copy is at 0, before the tiny one that is off by a rounding or also at 0.
    assert_eq!((distance[0], index[0]), (0.0, 40));
    assert_eq!(index[1], 80);
    assert_eq!(index[rows - 1], 60);
    assert!(distance[rows - 1] <= 2.0);
    assert_eq!(distance[index.iter().position(|n| *n == 20).expect("row 20")], 1.0);
}
