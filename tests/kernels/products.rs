//! Distances and sums by products on tensor cores: as near to those of plain loops as they are said to be, and only where asked.

use super::bounds::Coded;
use super::data::{Data, Dtype, assert_near, normals};
use super::device::{Array, Build, Device, NONE, Part, Record, with};

const U: f64 = 0.5 * f64::EPSILON;
/// What no distance is.
const UNTOUCHED: f64 = -1.0;
/// Of kernels/common.cuh.
const BY_PRODUCTS: i32 = -1;
const BY_DIFFERENCES: i32 = -2;

struct Scene {
    device: Device,
    coded: Coded,
    rows: super::device::Rows,
    x: Array<f64>,
    part: Part,
    few: Array<i32>,
    records: Array<Record>,
    /// E of each query.
    errors: Vec<f64>,
}

/// All segments of `data` at once; `ways` are taken in turn by queries and segments.
fn scene(build: Build, data: &Data, x: &[f64], ways: &[i32], rest: f64) -> Scene {
    let mut device = Device::new(build);
    let rows = data.upload(&mut device);
    let coded = Coded::new(&mut device, data, rows, x);
    let (queries, segments) = (x.len() / data.dim, data.taking_part().len().div_ceil(build.segment()));
    let part = Part { count: rows.count, first_segment: 0, segments: segments as i32, queries: queries as i32 };
    let few: Vec<i32> = (0..queries * segments).map(|i| ways[i % ways.len()]).collect();
    let squares = device.download(&coded.queries.squares);
    let of = |squared: &f64| 2.0 * (data.dim as f64 + 12.0) * U * (squared.sqrt() + coded.radius).powi(2);
    let errors: Vec<f64> = squares.iter().map(of).collect();
    let record = |i: usize| Record { distance: 0.0, rest, slope: 0.0, row: 0, error: errors[i / segments] };
    let records: Vec<Record> = (0..queries * segments).map(record).collect();
    let (few, records, x) = (device.upload(&few), device.upload(&records), device.upload(x));
    Scene { device, coded, rows, x, part, few, records, errors }
}

impl Scene {
    /// Distances `[queries, segments, SEGMENT]`; again: those that may be the least by differences.
    fn distances(&mut self, again: bool) -> Vec<f64> {
        let Self { device, coded, rows, x, part, few, records, .. } = self;
        let (queries, segments, segment) = (part.queries as usize, part.segments as usize, device.build().segment());
        let to = device.upload(&vec![UNTOUCHED; queries * segments * segment]);
        let tiles = [queries.div_ceil(64), segment.div_ceil(128), segments];
        let squares = (&coded.rows.squares, &coded.queries.squares);
        let parameters = with![*rows, *part, &coded.centre, &*x, squares.0, squares.1, &*few, &to];
        device.launch("products", "mnemo_measure_products", tiles, parameters);
        if again {
            let parameters = with![*rows, *part, &*x, &*few, &*records, NONE, &to];
            device.launch("products", "mnemo_measure_again", [queries, segments, 1], parameters);
        }
        device.download(&to)
    }
}

fn check_distances(build: Build, data: &Data, x: &[f64], ways: &[i32]) {
    let (count, segment) = (data.taking_part().len(), build.segment());
    let segments = count.div_ceil(segment);
    let mut scene = scene(build, data, x, ways, 0.0);
    let (found, again) = (scene.distances(false), scene.distances(true));
    for (b, x) in x.chunks(data.dim).enumerate() {
        let (want, by_warps) = (data.squared_distances(x), data.squared_distances_by_warps(x));
        for s in 0..segments {
            let (here, at) = (s * segment..count.min((s + 1) * segment), (b * segments + s) * segment);
            let what = format!("query {b}, segment {s} of {count} x {} {:?}", data.dim, data.dtype);
            let (found, again) = (&found[at..at + segment], &again[at..at + segment]);
            if ways[(b * segments + s) % ways.len()] != BY_PRODUCTS {
                assert!(found.iter().chain(again).all(|d| *d == UNTOUCHED), "{what}: not asked for");
                continue;
            }
            let (own, rest) = found.split_at(here.len());
            assert!(rest.iter().all(|d| *d == UNTOUCHED), "{what}: no rows");
            assert_near(own, &want[here.clone()], 0.0, scene.errors[b], &what);
            assert!(own.iter().all(|d| *d >= 0.0), "{what}");
            // The least one is by differences, bit for bit, and so is every one that may be it.
            let least = by_warps[here.clone()].iter().copied().fold(f64::INFINITY, f64::min);
            assert_eq!(again.iter().take(here.len()).copied().fold(f64::INFINITY, f64::min), least, "{what}");
            for (i, n) in here.enumerate() {
                assert!(again[i] == own[i] || again[i] == by_warps[n], "{what}, row {n}");
                assert!(again[i] == by_warps[n] || by_warps[n] > least, "{what}, row {n}");
            }
        }
    }
}

#[test]
fn distances_are_as_near_as_said() {
    let (rows, dims, queries) = ([1, 31, 33, 129, 200], [1, 4, 7, 8, 9, 65, 130], [1, 8, 9, 63, 65]);
    for i in 0..12 {
        let (n, d, b) = (rows[i % rows.len()], dims[(i * 3) % dims.len()], queries[(i * 2) % queries.len()]);
        let data = Data::normal(600 + i as u64, n, d, super::data::DTYPES[i % 5]);
        let ways = [&[BY_PRODUCTS][..], &[BY_PRODUCTS, 0, BY_DIFFERENCES, BY_PRODUCTS, 3]][i % 2];
        check_distances(Build::Small, &data, &normals(700 + i as u64, b * d), ways);
    }
    let data = Data::normal(2, 4200, 5, Dtype::F32).with_subset((0..4200).filter(|n| n % 3 != 1).collect());
    check_distances(Build::Library, &data, &normals(3, 3 * 5), &[BY_PRODUCTS]);
}

#[test]
fn the_nearest_of_rows_alike_is_measured_again() {
    // Far from the middle products cannot tell rows apart that are 1e-9 apart; x is one of them.
    let mut values = normals(8, 100 * 20);
    for n in [40, 41, 90] {
        for j in 0..20 {
            values[n * 20 + j] = 50.0 + f64::from(n as u32 % 50) * 1e-9;
        }
    }
    let data = Data::new(&values, 20, Dtype::F64, 1.0, 0.0);
    check_distances(Build::Small, &data, data.row(41), &[BY_PRODUCTS]);
    let found = scene(Build::Small, &data, data.row(41), &[BY_PRODUCTS], 0.0).distances(true);
    assert_eq!(found[41], 0.0);
}

#[test]
fn sums_are_as_near_as_said() {
    for (i, (n, d, b)) in [(1, 3, 1), (33, 130, 9), (70, 129, 66), (200, 8, 65)].into_iter().enumerate() {
        let data = Data::normal(800 + i as u64, n, d, super::data::DTYPES[i]);
        let x = normals(900 + i as u64, b * d);
        let segments = n.div_ceil(32);
        let ways = [BY_PRODUCTS, BY_PRODUCTS, 1, BY_DIFFERENCES, BY_PRODUCTS];
        // Weights whose sum is 1 + rest in every segment, as those of empirical.cu.
        let weights: Vec<f64> = (0..b * segments * 32).map(|i| 0.5 + (i % 7) as f64 / 16.0).collect();
        let mut scene = scene(Build::Small, &data, &x, &ways, 0.0);
        let mut records = scene.device.download(&scene.records);
        let mut own = |q: usize, s: usize| {
            let here = (n - s * 32).min(32);
            let own = weights[(q * segments + s) * 32..][..here].to_vec();
            records[q * segments + s].rest = own.iter().sum::<f64>() - 1.0;
            own
        };
        let own: Vec<Vec<f64>> = (0..b * segments).map(|at| own(at / segments, at % segments)).collect();
        let records = scene.device.upload(&records);
        let there = scene.device.upload(&weights);
        for shift in [None, Some(&scene.x)] {
            let partial = scene.device.upload(&vec![UNTOUCHED; segments * b * d]);
            let grid = [d.div_ceil(128), b.div_ceil(64), segments];
            let parameters =
                with![scene.rows, scene.part, &scene.coded.centre, &scene.few, &there, &records, shift, &partial];
            scene.device.launch("products", "mnemo_accumulate_products", grid, parameters);
            let partial = scene.device.download(&partial);
            for q in 0..b {
                for s in 0..segments {
                    let found = &partial[(s * b + q) * d..][..d];
                    if ways[(q * segments + s) % ways.len()] != BY_PRODUCTS {
                        assert!(found.iter().all(|v| *v == UNTOUCHED), "not asked for");
                        continue;
                    }
                    let weights = &own[q * segments + s];
                    let origin = |j: usize| shift.map_or(0.0, |_| x[q * d + j]);
                    let of = |j: usize| -> f64 {
                        weights.iter().zip(s * 32..).map(|(w, n)| w * (data.row(n)[j] - origin(j))).sum()
                    };
                    let want: Vec<f64> = (0..d).map(of).collect();
                    // At most 33 terms of at most 12, added twice by each side.
                    assert_near(found, &want, 0.0, 33.0 * 4.0 * 33.0 * 12.0 * U, &format!("query {q}, segment {s}"));
                }
            }
        }
    }
}
