//! Queries and segments of which few rows have weight: which these are, and what is done elsewhere.

use super::bounds::Coded;
use super::data::{Data, Dtype, assert_near, normals};
use super::device::{Build, Device, Part, Record, with};
use super::empirical::{NO_WEIGHT, Question, Way, by_kernels};

const U: f64 = 0.5 * f64::EPSILON;

#[test]
fn few_rows_are_found_measured_and_summed() {
    // Clusters of which one is near to each query: of a segment's 4096 rows a dozen count, and of the last segment's none
    // do, but its nearest is always one.
    const DIM: usize = 131;
    let centres = normals(30, 350 * DIM);
    let near: Vec<f64> = normals(31, 4100 * DIM).iter().map(|v| 0.01 * v).collect();
    let values: Vec<f64> = near.iter().enumerate().map(|(i, v)| v + centres[i / DIM % 350 * DIM + i % DIM]).collect();
    let data = Data::new(&values, DIM, Dtype::F32, 1.0, 0.0);
    let x: Vec<f64> = [3, 77, 349].iter().flat_map(|n| data.row(*n).to_vec()).collect();
    let x: Vec<f64> = x.iter().zip(normals(32, 3 * DIM)).map(|(x, noise)| x + 0.05 * noise).collect();
    let device = &mut Device::new(Build::Library);
    let rows = data.upload(device);
    let coded = Coded::new(device, &data, rows, &x);
    let [x_there, precision] = [&x, &vec![400.0; 3]].map(|values| device.upload(values));
    let part = Part { count: rows.count, first_segment: 0, segments: 2, queries: 3 };
    let low = coded.bound(device, part, 0);
    let (few, weights) = (device.empty::<i32>(6), device.empty::<f64>(6 * 4096));
    let records = device.empty::<Record>(6);
    let cut = (4100f64 / 1e-12).ln();
    let squares = &coded.queries.squares;
    let parameters =
        with![rows, part, &x_there, &precision, cut, squares, coded.radius, &low, &few, &weights, &records];
    device.launch("near", "mnemo_near", [3, 2, 1], parameters);
    let (few, records) = (device.download(&few), device.download(&records));
    for (b, x) in x.chunks(DIM).enumerate() {
        let distances = data.squared_distances(x);
        for (segment, here) in distances.chunks(4096).enumerate() {
            let (count, record) = (few[2 * b + segment], records[2 * b + segment]);
            let best = here.iter().copied().fold(f64::INFINITY, f64::min);
            let weights: Vec<f64> = here.iter().map(|d| (-200.0 * (d - best)).exp()).collect();
            let above = weights.iter().filter(|w| **w >= (-cut).exp()).count() as i32;
            // Those that count are there, and few others.
            assert!((above..4 * above + 4).contains(&count), "query {b}: {count} found, {above} count");
            assert_eq!(here[record.row as usize - 4096 * segment], best);
            // Of 4096 weights less than 1e-12 / 4100 are left out; roundings as elsewhere in this file.
            let rest = weights.iter().sum::<f64>() - 1.0;
            assert_near(&[record.rest], &[rest], 1e-11, 1e-12, "rest");
        }
    }
}

#[test]
fn a_second_pass_meets_the_distance_of_the_first() {
    // So narrow that a distance off by an ulp would weigh nothing, or infinitely much; few rows, and segments of many.
    const DIM: usize = 129;
    let mut values = normals(33, 90 * DIM);
    for n in 33..60 {
        for j in 0..DIM {
            values[n * DIM + j] = values[32 * DIM + j] + 1e-3 * values[n * DIM + j];
        }
    }
    let data = Data::new(&values, DIM, Dtype::F32, 1.0, 0.0);
    let near =
        |n: usize, i: u64| data.row(n).iter().zip(normals(34 + i, DIM)).map(|(y, noise)| y + 0.3 * noise).collect();
    let x: Vec<Vec<f64>> = (0..24).map(|i| near([2, 32, 70][i % 3], i as u64)).collect();
    let (x, precision) = (x.concat(), vec![1e20; 24]);
    let question = Question { data: &data, x: &x, precision: &precision, tangent: Some(&x) };
    let answer = by_kernels(Build::Small, Way::near(0, 1), &question);
    for (b, n) in answer.nearest.iter().enumerate() {
        assert_eq!(answer.trace[b], 0.0, "query {b}");
        assert_near(
            &answer.mean[b * DIM..][..DIM],
            data.row(*n as usize),
            0.0,
            8.0 * U * 10.0,
            "the nearest row alone",
        );
        assert!(answer.product[b * DIM..][..DIM].iter().all(|v| v.abs() < 1e-12), "query {b}");
    }
}

#[test]
fn copies_of_a_row_tie_whatever_way_they_are_summed() {
    // Row 40 is row 3; of its segment of 32 many rows are near, of row 3's only that one.
    const DIM: usize = 150;
    let mut values = normals(60, 70 * DIM);
    values.copy_within(3 * DIM..4 * DIM, 40 * DIM);
    for n in (32..64).filter(|n| *n != 40) {
        for j in 0..DIM {
            values[n * DIM + j] = values[40 * DIM + j] + 1e-2 * values[n * DIM + j];
        }
    }
    let data = Data::new(&values, DIM, Dtype::F32, 1.0, 0.0);
    let x: Vec<f64> = (0..30)
        .flat_map(|i| normals(61 + i, DIM).into_iter().zip(data.row(3)).map(|(v, y)| y + 1e-4 * v).collect::<Vec<_>>())
        .collect();
    // By products, and by differences.
    for precision in [20.0, 1e7] {
        let precision = vec![precision; 30];
        let question = Question { data: &data, x: &x, precision: &precision, tangent: None };
        let answer = by_kernels(Build::Small, Way::near(0, 3), &question);
        assert!(answer.nearest.iter().all(|n| *n == 3), "{:?}", answer.nearest);
    }
}

#[test]
fn products_are_chosen_where_they_are_exact_enough() {
    // Rows so near to each other that all count, after a segment of rows far from each other. Queries a distance away, on a row,
    // and far off.
    const DIM: usize = 9;
    let mut values: Vec<f64> = normals(70, 101 * DIM).iter().map(|v| 1e-7 * v).collect();
    for n in 0..32 {
        values[n * DIM] = 40.0 + n as f64;
    }
    let data = Data::new(&values, DIM, Dtype::F64, 1.0, 0.0);
    let mut x = vec![0.0; 4 * DIM];
    (x[0], x[DIM], x[3 * DIM]) = (0.5, 0.5, 1e7);
    x[2 * DIM..3 * DIM].copy_from_slice(data.row(45));
    let device = &mut Device::new(Build::Small);
    let rows = data.upload(device);
    let coded = Coded::new(device, &data, rows, &x);
    let far: Vec<f64> = device.download(&coded.queries.squares).iter().map(|v| v.sqrt() + coded.radius).collect();
    let errors: Vec<f64> = far.iter().map(|far| 2.0 * (DIM as f64 + 12.0) * U * far * far).collect();
    let precision = [2.0 * 0.9e-8 / errors[0], 2.0 * 1.1e-8 / errors[1], 1.0, 1e-12];
    let (x_there, there) = (device.upload(&x), device.upload(&precision));
    let part = Part { count: rows.count, first_segment: 0, segments: 4, queries: 4 };
    let low = coded.bound(device, part, 0);
    let (few, weights) = (device.empty::<i32>(16), device.empty::<f64>(16 * 32));
    let empty = Record { distance: 0.0, rest: 0.0, slope: 0.0, row: 0, error: 0.0 };
    let records = device.upload(&[empty; 16]);
    let squares = &coded.queries.squares;
    let parameters =
        with![rows, part, &x_there, &there, NO_WEIGHT, squares, coded.radius, &low, &few, &weights, &records];
    device.launch("near", "mnemo_near", [4, 4, 1], parameters);
    let (few, records) = (device.download(&few), device.download(&records));
    assert!(few[0] >= 1 && few[4] >= 1, "{few:?}: of the first segment few rows are near");
    for (q, expected) in [-1, -2, -2, -2].into_iter().enumerate() {
        assert_eq!(few[4 * q + 1..4 * q + 4], [expected; 3], "query {q}");
        for record in &records[4 * q + 1..4 * q + 4] {
            assert_near(&[record.error], &[errors[q]], 1e-12, 0.0, "E");
        }
    }
    // And what all segments together say of it.
    let question = Question { data: &data, x: &x[..2 * DIM], precision: &precision[..2], tangent: None };
    assert_near(&by_kernels(Build::Small, Way::near(0, 3), &question).of_products, &[0.9e-8, 0.0], 1e-12, 0.0, "h E");
}

#[test]
fn an_offset_shorter_than_the_data_keeps_its_digits() {
    // x on a row that has all weight but 1e-7 of it: what is left of the mean less x is as short.
    const DIM: usize = 130;
    let data = Data::new(&normals(80, 100 * DIM), DIM, Dtype::F64, 1.0, 0.0);
    let mut x = data.row(0).to_vec();
    x.extend(data.row(40).iter().map(|v| v + 1e-6));
    let precision = [0.2, 0.2];
    let question = Question { data: &data, x: &x, precision: &precision, tangent: None };
    let answer = by_kernels(Build::Small, Way::near(0, 1), &question);
    for b in 0..2 {
        let x = &x[b * DIM..(b + 1) * DIM];
        let best = data.squared_distances(x).into_iter().fold(f64::INFINITY, f64::min);
        let weights: Vec<f64> = data.squared_distances(x).iter().map(|d| (-0.1 * (d - best)).exp()).collect();
        let total: f64 = weights.iter().sum();
        let of = |j: usize| (0..100).map(|n| weights[n] * (data.row(n)[j] - x[j])).sum::<f64>() / total;
        let offset: Vec<f64> = (0..DIM).map(of).collect();
        let length = offset.iter().map(|v| v * v).sum::<f64>().sqrt();
        assert!(length < 1e-4, "{length:e}: nothing is lost here");
        assert_near(&answer.offset[b * DIM..(b + 1) * DIM], &offset, 0.0, 1e-11 * length, "offset");
    }
}
