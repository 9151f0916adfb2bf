//! The kernels that others are compared with on a device, against the same loops here: they must be right themselves.

use super::data::{Data, Dtype, assert_near, bits, normals};
use super::device::{Build, Device, NONE, with};

const U: f64 = 0.5 * f64::EPSILON;

#[test]
fn reference_kernels_are_the_loops() {
    let (rows, dim, queries, k) = (70, 6, 3, 11);
    let data = Data::normal(1, 200, dim, Dtype::Bf16).with_subset((0..200).step_by(3).take(rows).collect());
    let rows = data.taking_part().len();
    let (x, v) = (normals(2, queries * dim), normals(3, queries * dim));
    let precision = [0.5, 3.0, 40.0];
    let mut device = Device::new(Build::Small);
    let there = data.upload(&mut device);
    let [dx, dv] = [&x, &v].map(|values| device.upload(values));
    let precisions = device.upload(&precision);
    let [distances, along, weights] = [(); 3].map(|()| device.empty::<f64>(queries * rows));
    let grid = [2, 1, 1];
    let mut launch = |kernel: &str, parameters| {
        device.launch("reference", &format!("mnemo_reference_{kernel}"), grid, parameters);
    };
    launch("measure", with![there, queries as i32, &dx, NONE, &distances]);
    launch("measure", with![there, queries as i32, &dx, &dv, &along]);
    let [log_sum, entropy, sums] = [(); 3].map(|()| device.empty::<f64>(queries));
    let nearest = device.empty::<i64>(queries);
    let mean = device.empty::<f64>(queries * dim);
    let product = device.empty::<f64>(queries * dim);
    let (distance, index) = (device.empty::<f64>(queries * k), device.empty::<i64>(queries * k));
    let mut launch = |kernel: &str, parameters| {
        device.launch("reference", &format!("mnemo_reference_{kernel}"), grid, parameters);
    };
    let (b, n) = (queries as i32, rows as i64);
    launch("weigh", with![b, n, &precisions, &distances, &weights, &log_sum, &entropy, &nearest]);
    launch("mean", with![there, b, &weights, NONE, NONE, &mean]);
    launch("mean", with![there, b, &weights, &along, &dx, &product]);
    launch("sum", with![b, n, &weights, &distances, &sums]);
    launch("nearest", with![b, n, k as i64, &distances, &distance, &index]);

    let (got, got_along, got_weights) =
        (device.download(&distances), device.download(&along), device.download(&weights));
    let (mean, product) = (device.download(&mean), device.download(&product));
    for b in 0..queries {
        let (own, all) = (b * dim..(b + 1) * dim, b * rows..(b + 1) * rows);
        let h = 0.5 * precision[b];
        let taking_part = data.taking_part();
        let difference = |n: usize, j: usize| data.row(n)[j] - x[b * dim + j];
        let squares = |n: &usize| (0..dim).map(|j| difference(*n, j).powi(2)).sum::<f64>();
        let products = |n: &usize| (0..dim).map(|j| difference(*n, j) * v[b * dim + j]).sum::<f64>();
        // The same operations in the same order.
        let want: Vec<f64> = taking_part.iter().map(squares).collect();
        assert_eq!(bits(&got[all.clone()]), bits(&want));
        let want_along: Vec<f64> = taking_part.iter().map(products).collect();
        assert_eq!(bits(&got_along[all.clone()]), bits(&want_along));
        let mut order: Vec<usize> = (0..rows).collect();
        order.sort_by(|a, b| want[*a].total_cmp(&want[*b]).then(a.cmp(b)));
        assert_eq!(device.download(&nearest)[b], order[0] as i64);
        let listed: Vec<i64> = order[..k].iter().map(|n| *n as i64).collect();
        assert_eq!(device.download(&index)[b * k..(b + 1) * k], listed);
        let listed: Vec<f64> = order[..k].iter().map(|n| want[*n]).collect();
        assert_eq!(bits(&device.download(&distance)[b * k..(b + 1) * k]), bits(&listed));
        // Exponentials of either side are within 2 ulp of each other at the same argument, and so are sums of them; a
        // logarithm and a handful of roundings more.
        let near = (8 + 2 * rows) as f64 * U;
        let sum: f64 = want.iter().map(|d| (-h * (d - want[order[0]])).exp()).sum();
        assert_near(&[device.download(&log_sum)[b]], &[sum.ln() - h * want[order[0]]], near, near, "log sum");
        let weights: Vec<f64> = want.iter().map(|d| (-h * (d - want[order[0]])).exp() / sum).collect();
        assert_near(&got_weights[all.clone()], &weights, near, 0.0, "weights");
        let entropy_here: f64 = weights.iter().filter(|w| **w > 0.0).map(|w| -w * w.ln()).sum();
        // ln w is 0 where one row has all the weight: absolute.
        assert_near(&[device.download(&entropy)[b]], &[entropy_here], near, 10.0 * near, "entropy");
        let mean_here = |f: &dyn Fn(usize, usize) -> f64| -> Vec<f64> {
            (0..dim).map(|j| weights.iter().enumerate().map(|(i, w)| w * f(i, j)).sum()).collect()
        };
        // Rows are below 5 in magnitude, projections below 100.
        let want_mean = mean_here(&|i, j| data.row(taking_part[i])[j]);
        assert_near(&mean[own.clone()], &want_mean, 0.0, 5.0 * near, "mean");
        let want_product = mean_here(&|i, j| want_along[i] * difference(taking_part[i], j));
        assert_near(&product[own], &want_product, 0.0, 1000.0 * near, "product");
        let want_sum = mean_here(&|i, _| want[i])[0];
        assert_near(&[device.download(&sums)[b]], &[want_sum], near, 0.0, "sum");
    }
}

#[test]
fn reference_row_sums_are_the_loops() {
    let (rows, cols) = (5, 9);
    let [x, y, error] = [4, 5, 6].map(|seed| normals(seed, rows * cols));
    let mut device = Device::new(Build::Small);
    let [dx, dy, de] = [&x, &y, &error].map(|values| device.upload(values));
    let (dots, norms) = (device.empty::<f64>(rows), device.empty::<f64>(rows));
    let (n, d, grid) = (rows as i64, cols as i32, [1, 1, 1]);
    device.launch("reference", "mnemo_reference_dot_rows", grid, with![&dx, &dy, n, d, &dots]);
    let parameters = with![&de, &dx, &dy, n, d, 1e-3, 1e-6, &norms];
    device.launch("reference", "mnemo_reference_error_norms", grid, parameters);
    for i in 0..rows {
        let own = || i * cols..(i + 1) * cols;
        let dot = own().map(|at| x[at] * y[at]).fold(0.0, |sum, product| sum + product);
        assert_eq!(device.download(&dots)[i].to_bits(), dot.to_bits());
        let share = |at: usize| error[at] / (1e-6 + 1e-3 * x[at].abs().max(y[at].abs()));
        let squares = own().map(|at| share(at) * share(at)).fold(0.0, |sum, square| sum + square);
        assert_eq!(device.download(&norms)[i].to_bits(), (squares / cols as f64).sqrt().to_bits());
    }
}
