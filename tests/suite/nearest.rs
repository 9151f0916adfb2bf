//! Nearest rows and the memorization report, against every distance computed and sorted.

use crate::api::{Api, Call, Decoding, Matrix, Metric};
use crate::data::{Complaints, Rng, distance};
use mnemo::capi::status::{MNEMO_E_INVALID, MNEMO_E_SHAPE};
use mnemo::tensor::Dtype;

both!(
    whole_numbers_are_exact,
    search_by_bounds_is_the_plain_one,
    copies_go_by_index,
    same_bits_by_bounds_and_without,
    real_numbers,
    cosines_of_whole_numbers,
    directions,
    memorization_report,
    what_is_refused
);

/// (distance, index) of every row, nearest first and of equals the lowest index.
fn sorted(query: &[f64], data: &[f64]) -> Vec<(f64, i64)> {
    let mut all: Vec<(f64, i64)> =
        data.chunks_exact(query.len()).zip(0..).map(|(row, n)| (distance(query, row), n)).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    all
}

/// Squared distances of whole numbers have no rounding and many ties: indices and bits are exact.
fn whole_numbers_are_exact<A: Api>() {
    let mut rng = Rng(20);
    for machine in A::every(2) {
        for (n, d) in [(1, 1), (9, 1), (255, 3), (1025, 5), (2500, 17)] {
            let data: Vec<f64> = (0..n * d).map(|_| rng.below(4) as f64).collect();
            let dataset =
                machine.dataset(&Matrix::new(Dtype::U8, &data, d).apart(1), None, Decoding::default()).unwrap();
            for batch in [0, 1, 9] {
                let queries: Vec<f64> = (0..batch * d).map(|_| rng.below(7) as f64 * 0.5).collect();
                for k in [1, 5.min(n), n] {
                    let x = Matrix::new(Dtype::F32, &queries, d).apart(2);
                    let (distances, indices) = A::nearest(&dataset, &x, k, Call::default()).unwrap();
                    let expected: Vec<(f64, i64)> =
                        queries.chunks_exact(d).flat_map(|q| sorted(q, &data).into_iter().take(k)).collect();
                    let found: Vec<(f64, i64)> = distances.into_iter().zip(indices).collect();
                    assert_eq!(found, expected, "{n} x {d}, batch {batch}, k {k}");
                }
            }
        }
    }
}

/// Enough queries of enough rows for the projection, on data with few directions, many ties, copies and an outlier: whole
/// numbers again, so that indices and bits are exact. The projection's bound never leaves out a row that belongs.
fn search_by_bounds_is_the_plain_one<A: Api>() {
    let mut rng = Rng(25);
    let (n, d, batch) = (4500, 131, 160);
    let directions: Vec<f64> = (0..9 * d).map(|_| rng.below(3) as f64 - 1.0).collect();
    let mut row = |spread: usize| -> Vec<f64> {
        let along: Vec<f64> = (0..9).map(|_| rng.below(spread) as f64).collect();
        let value = |j: usize| (0..9).map(|k| along[k] * directions[k * d + j]).sum::<f64>() + rng.below(2) as f64;
        (0..d).map(value).collect()
    };
    let mut data: Vec<f64> = (0..n).flat_map(|i| row(if i % 7 == 0 { 1 } else { 5 })).collect();
    data.copy_within(0..50 * d, 4000 * d);
    data[4400 * d] = 1e6;
    let mut queries: Vec<f64> = (0..batch).flat_map(|_| row(4)).collect();
    queries[..60 * d].copy_from_slice(&data[30 * d..90 * d]);
    queries[70 * d..71 * d].iter_mut().for_each(|v| *v *= 1e3);
    for machine in A::every(2) {
        let dataset = machine.dataset(&Matrix::new(Dtype::F32, &data, d), None, Decoding::default()).unwrap();
        for k in [1, 7, 140] {
            let (distances, indices) =
                A::nearest(&dataset, &Matrix::new(Dtype::F64, &queries, d), k, Call::default()).unwrap();
            let found: Vec<(f64, i64)> = distances.into_iter().zip(indices).collect();
            for (i, query) in queries.chunks_exact(d).enumerate() {
                assert_eq!(found[i * k..(i + 1) * k], sorted(query, &data)[..k], "query {i}, k {k}");
            }
        }
        // A query that float32 cannot hold is answered by the plain search.
        let mut far = queries.clone();
        far[5] = 1e40;
        let x = Matrix::new(Dtype::F64, &far, d);
        let (_, indices) = A::nearest(&dataset, &x, 1, Call::default()).unwrap();
        assert_eq!(indices[1], sorted(&far[d..2 * d], &data)[0].1);
    }
}

/// Enough rows for bounds, and columns for both kinds of them.
const MANY: (usize, usize) = (4160, 300);
/// The most that are found by bounds; one more, and all distances are computed.
const MOST: usize = MANY.0 / 32;
const TYPES: [Dtype; 5] = [Dtype::U8, Dtype::F16, Dtype::Bf16, Dtype::F32, Dtype::F64];

/// Rows of which each is there a dozen times, in whole numbers that every type holds: whatever is asked for, the k-th distance is
/// a tie, which the lowest indices win. Asked one by one and in parts at first, when no bounds are made yet, then with them.
fn copies_go_by_index<A: Api>() {
    let mut rng = Rng(28);
    let (n, d) = MANY;
    let batch = 130;
    let directions: Vec<f64> = (0..4 * d).map(|_| rng.below(3) as f64).collect();
    let mut row = || -> Vec<f64> {
        let along: Vec<f64> = (0..4).map(|_| rng.below(9) as f64).collect();
        let value = |j: usize| (0..4).map(|k| along[k] * directions[k * d + j]).sum::<f64>() + rng.below(3) as f64;
        (0..d).map(value).collect()
    };
    let values: Vec<Vec<f64>> = (0..n / 12).map(|_| row()).collect();
    let mut queries: Vec<f64> = (0..batch).flat_map(|_| row()).map(|v| v + 0.5).collect();
    let data: Vec<f64> = (0..n).flat_map(|_| values[rng.below(n / 12)].clone()).collect();
    queries[..40 * d].copy_from_slice(&data[10 * d..50 * d]);
    let expected: Vec<Vec<(f64, i64)>> = queries.chunks_exact(d).map(|query| sorted(query, &data)).collect();
    assert!(expected.iter().all(|e| e[MOST - 1].0 == e[MOST].0 || e[MOST].0 == e[MOST + 1].0));
    let x = Matrix::new(Dtype::F32, &queries, d);
    for machine in A::every(2) {
        for dtype in TYPES {
            let dataset = machine.dataset(&Matrix::new(dtype, &data, d), None, Decoding::default()).unwrap();
            // k, how many queries, and how many of them at a time.
            let asked = [(1, 8, 1), (n, 3, 2), (MOST, 9, 4), (MOST, batch, batch), (1, batch, 50), (MOST + 1, 30, 30)];
            for (k, count, size) in asked.into_iter().chain([(MOST, 9, 4), (1, 8, 1)]) {
                for from in (0..count).step_by(size) {
                    let part = from..(from + size).min(count);
                    let (distances, indices) = A::nearest(&dataset, &x.part(part.clone()), k, Call::default()).unwrap();
                    let found: Vec<(f64, i64)> = distances.into_iter().zip(indices).collect();
                    for (i, found) in part.zip(found.chunks_exact(k)) {
                        assert!(found == &expected[i][..k], "{dtype:?}, query {i}, k {k} on {}", machine.describe());
                    }
                }
            }
        }
    }
}

/// Real numbers have roundings, and these are the same in a search by bounds and in one that has no room for bounds, for every
/// split of the batch and with neighbours that are far away.
fn same_bits_by_bounds_and_without<A: Api>() {
    let mut rng = Rng(29);
    let (n, d) = MANY;
    let batch = 132;
    let directions = rng.normals(6 * d);
    let mut row = |noise: f64| -> Vec<f64> {
        let along = rng.normals(6);
        (0..d)
            .map(|j| {
                128.0 + 10.0 * (0..6).map(|k| along[k] * directions[k * d + j]).sum::<f64>() + noise * rng.normal()
            })
            .collect()
    };
    let mut data: Vec<f64> = (0..n).flat_map(|_| row(3.0)).collect();
    data.copy_within(0..100 * d, 3000 * d);
    let mut queries: Vec<f64> = (0..batch).flat_map(|_| row(3.0)).collect();
    queries[..20 * d].copy_from_slice(&data[50 * d..70 * d]);
    queries[5 * d] = 1e8;
    queries[9 * d + 3] = 1e33;
    let x = Matrix::new(Dtype::F64, &queries, d);
    let decoding = Decoding { scale: 2.0 / 255.0, shift: -1.0 };
    for dtype in TYPES {
        let rows = Matrix::new(dtype, &data, d);
        let plain = A::limited(2, (n * d * dtype.size()) as u64).dataset(&rows, None, decoding).unwrap();
        let bounded = A::new(2).dataset(&rows, None, decoding).unwrap();
        let ask = |dataset: &A::Dataset, k: usize, size: usize| {
            let (mut bits, mut all) = (Vec::new(), Vec::new());
            for from in (0..batch).step_by(size) {
                let part = x.part(from..(from + size).min(batch));
                let (distances, indices) = A::nearest(dataset, &part, k, Call::default()).unwrap();
                bits.extend(distances.iter().map(|v| v.to_bits()));
                all.extend(indices);
            }
            (bits, all)
        };
        // First a batch that has bounds made.
        for (k, size) in [(1, batch), (1, 5), (1, 1), (MOST, batch), (MOST, 10), (MOST + 1, batch), (MOST + 1, 33)] {
            assert!(ask(&bounded, k, size) == ask(&plain, k, batch), "{dtype:?}, k {k}, {size} at a time");
        }
    }
}

fn real_numbers<A: Api>() {
    let (mut rng, mut complaints) = (Rng(21), Complaints::default());
    for machine in A::every(2) {
        for (n, d) in [(64, 2), (700, 16), (2500, 65)] {
            let mut data = rng.normals(n * d);
            let copy = data[..d].to_vec();
            data[(n - 1) * d..].copy_from_slice(&copy);
            let dataset = machine.dataset(&Matrix::new(Dtype::F64, &data, d), None, Decoding::default()).unwrap();
            let mut queries = rng.normals(4 * d);
            queries.extend(copy);
            for k in [1, 5, n] {
                let x = Matrix::new(Dtype::F64, &queries, d);
                let (distances, indices) = A::nearest(&dataset, &x, k, Call::default()).unwrap();
                for (i, query) in queries.chunks_exact(d).enumerate() {
                    let expected = sorted(query, &data);
                    for j in 0..k {
                        let (found, n) = (distances[i * k + j], indices[i * k + j]);
                        // Both sums of d squares round a few times; no two distances are as near as that.
                        complaints.near(found, expected[j].0, 1e-13 * expected[j].0, || format!("{n} x {d}, {i}, {j}"));
                        complaints.unless(n == expected[j].1, || format!("{n} x {d}, {i}, {j}: index {n}"));
                    }
                }
            }
        }
    }
    complaints.end();
}

/// 1 - cos of whole numbers without cancellation: 1 - p/√q = (q - p²) / √q (√q + p), and q - p² is exact.
fn cosine_distance(x: &[f64], y: &[f64]) -> f64 {
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (*a as i128) * (*b as i128)).sum::<i128>();
    let (p, q) = (product(x, y), product(x, x) * product(y, y));
    let root = (q as f64).sqrt();
    match p {
        _ if q == 0 => 1.0,
        1.. => (q - p * p) as f64 / (root * (root + p as f64)),
        _ => 1.0 - p as f64 / root,
    }
}

fn cosines_of_whole_numbers<A: Api>() {
    let (mut rng, mut complaints) = (Rng(26), Complaints::default());
    // Lengths and sums of up to 131 terms in 16 lanes take a few dozen roundings of 1.1e-16. Each number of the two unit rows
    // is off by two more, 4.4e-16 in all, which moves half a squared distance δ by √2δ as much; and by its square at 0.
    let allowed = |distance: f64| 5e-15 * distance + 7e-16 * distance.sqrt() + 1e-31;
    for machine in A::every(2) {
        for (n, d) in [(1, 1), (9, 1), (255, 3), (1025, 5), (2500, 17), (4500, 131)] {
            // Small numbers, among which rows of zeros are; one query and some rows nearly alike.
            let mut data: Vec<f64> = (0..n * d).map(|_| rng.below(5) as f64 - 2.0).collect();
            let mut queries: Vec<f64> = (0..9 * d).map(|_| rng.below(7) as f64 - 3.0).collect();
            queries[..d].iter_mut().for_each(|v| *v = 1e6 + rng.below(1000) as f64);
            for row in data.chunks_exact_mut(d).step_by(50) {
                row.iter_mut().zip(&queries).for_each(|(y, x)| *y = x + rng.below(2) as f64);
            }
            queries.chunks_exact_mut(d).filter(|q| q.iter().all(|v| *v == 0.0)).for_each(|q| q[0] = 1.0);
            let dataset = machine.dataset(&Matrix::new(Dtype::F64, &data, d), None, Decoding::default()).unwrap();
            for (batch, k) in [(0, 1), (1, n), (9, 1), (9, 5.min(n)), (9, n)] {
                let queries = &queries[..batch * d];
                let x = Matrix::new(Dtype::F64, queries, d).apart(2);
                let (distances, indices) = A::nearest_by(&dataset, &x, Metric::Cosine, k, Call::default()).unwrap();
                for (i, query) in queries.chunks_exact(d).enumerate() {
                    let mut expected: Vec<f64> = data.chunks_exact(d).map(|y| cosine_distance(query, y)).collect();
                    let (distances, indices) = (&distances[i * k..(i + 1) * k], &indices[i * k..(i + 1) * k]);
                    let at = |j: usize| format!("{n} x {d}, query {i}, place {j}");
                    for j in 0..k {
                        let own = expected[indices[j] as usize];
                        complaints.near(distances[j], own, allowed(own), || at(j));
                        let tie = j > 0 && distances[j] == distances[j - 1];
                        complaints.unless(j == 0 || distances[j] >= distances[j - 1], || at(j));
                        complaints.unless(!tie || indices[j] > indices[j - 1], || at(j));
                    }
                    expected.sort_by(f64::total_cmp);
                    for j in 0..k {
                        complaints.near(distances[j], expected[j], allowed(expected[j]), || at(j));
                    }
                }
            }
        }
    }
    complaints.end();
}

/// Lengths do not matter, to the ends of what is accepted; rows in the same, the opposite and no direction.
fn directions<A: Api>() {
    let mut rng = Rng(27);
    let d = 37;
    let row = rng.normals(d);
    let scales = [1.0, 3.0, 0.7, 1e99, 1e-99, 1e-101, 1e-160, 1e-290, -1.0, -1e50, -1e-200, 0.0];
    let data: Vec<f64> = scales.iter().flat_map(|s| row.iter().map(move |v| s * v)).collect();
    for machine in A::every(1) {
        let dataset = machine.dataset(&Matrix::new(Dtype::F64, &data, d), None, Decoding::default()).unwrap();
        for scale in [1.0, 1e90, 1e-280] {
            let query: Vec<f64> = row.iter().map(|v| scale * v).collect();
            let x = Matrix::new(Dtype::F64, &query, d);
            let n = scales.len();
            let (distances, indices) = A::nearest_by(&dataset, &x, Metric::Cosine, n, Call::default()).unwrap();
            for (distance, index) in distances.into_iter().zip(indices) {
                let scale = scales[index as usize];
                match scale {
                    // Roundings of 1e-16 in a unit row, squared.
                    s if s > 0.0 => assert!((0.0..1e-30).contains(&distance), "{s}: {distance}"),
                    // 4 |unit row|² / 2, of which the length is off by a few roundings.
                    s if s < 0.0 => assert!((2.0 - 1e-14..=2.0).contains(&distance), "{s}: {distance}"),
                    _ => assert_eq!(distance, 1.0),
                }
            }
        }
        // Rows in one direction whose lengths are powers of 2 apart tie, and so do copies.
        let lengths = [1.0, 2.0, 1.0, 0.25, 1024.0];
        let data: Vec<f64> = lengths.iter().flat_map(|s| row.iter().map(move |v| s * v)).collect();
        let dataset = machine.dataset(&Matrix::new(Dtype::F64, &data, d), None, Decoding::default()).unwrap();
        let x = Matrix::new(Dtype::F64, &rng.normals(d), d);
        let (distances, indices) = A::nearest_by(&dataset, &x, Metric::Cosine, 5, Call::default()).unwrap();
        assert_eq!(indices, [0, 1, 2, 3, 4]);
        assert!(distances.iter().all(|distance| *distance == distances[0] && *distance > 0.1));
    }
}

fn memorization_report<A: Api>() {
    let mut rng = Rng(22);
    let (n, d) = (300, 3);
    let data = rng.normals(n * d);
    let dataset = A::new(2).dataset(&Matrix::new(Dtype::F64, &data, d), None, Decoding::default()).unwrap();
    for samples in [1, 2, 9, 10] {
        let near = |i: usize| if i.is_multiple_of(3) { 1e-3 } else { 0.5 };
        let generated: Vec<f64> =
            (0..samples * d).map(|j| data[j % (n * d)] + near(j / d) * (rng.uniform() - 0.5)).collect();
        let mut least: Vec<f64> = generated.chunks_exact(d).map(|q| sorted(q, &data)[0].0).collect();
        let threshold = 0.01;
        let report = A::memorization(&dataset, &Matrix::new(Dtype::F64, &generated, d), threshold).unwrap();
        let copied = least.iter().filter(|&&l| l <= threshold).count();
        least.sort_by(f64::total_cmp);
        assert_eq!((report.samples, report.copied), (samples as u64, copied as u64));
        assert_eq!(report.fraction_copied, copied as f64 / samples as f64);
        let median = 0.5 * (least[(samples - 1) / 2] + least[samples / 2]);
        for (found, expected) in [
            (report.min_distance, least[0]),
            (report.median_distance, median),
            (report.max_distance, least[samples - 1]),
        ] {
            // Three squares, a root and a mean.
            assert!((found - expected).abs() <= 1e-14 * expected, "{report:?}");
        }
    }
    // A copy at exactly the threshold is one.
    let on = A::memorization(&dataset, &Matrix::new(Dtype::F64, &data[..d], d), 1e-300).unwrap();
    assert_eq!((on.copied, on.max_distance), (1, 0.0));
}

fn what_is_refused<A: Api>() {
    let dataset = A::new(1).dataset(&Matrix::new(Dtype::F32, &[0.0; 8], 2), None, Decoding::default()).unwrap();
    let query = Matrix::new(Dtype::F64, &[1.0, 2.0], 2);
    for k in [0, 5] {
        assert_eq!(A::nearest(&dataset, &query, k, Call::default()).unwrap_err().status, MNEMO_E_INVALID);
    }
    let nan = Matrix::new(Dtype::F64, &[1.0, f64::NAN], 2);
    assert_eq!(A::nearest(&dataset, &nan, 1, Call::default()).unwrap_err().status, MNEMO_E_INVALID);
    let zero = Matrix::new(Dtype::F64, &[1.0, 2.0, 0.0, -0.0], 2);
    let refused = A::nearest_by(&dataset, &zero, Metric::Cosine, 1, Call::default()).unwrap_err();
    assert!(refused.status == MNEMO_E_INVALID && refused.message.contains("queries: row 1"), "{}", refused.message);
    for threshold in [0.0, -1.0, f64::NAN] {
        assert_eq!(A::memorization(&dataset, &query, threshold).unwrap_err().status, MNEMO_E_INVALID);
    }
    let none = Matrix::new(Dtype::F64, &[], 2);
    let status = A::memorization(&dataset, &none, 1.0).unwrap_err().status;
    assert!([MNEMO_E_INVALID, MNEMO_E_SHAPE].contains(&status));
}
