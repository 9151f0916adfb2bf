//! The mixture's sums against plain loops in float64, and their bits against themselves: other parts, other tiles.

use super::bounds::Coded;
use super::data::{Data, Dtype, assert_near, bits, normals};
use super::device::{Array, Build, Device, NONE, Part, Record, Rows, with};
use super::measure::{measure, tiles};

const U: f64 = 0.5 * f64::EPSILON;

/// What is asked for.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    pub data: &'a Data,
    pub x: &'a [f64],
    pub precision: &'a [f64],
    pub tangent: Option<&'a [f64]>,
}

/// What is answered.
#[derive(Debug, PartialEq)]
pub struct Answer {
    /// Σ w (y - x).
    pub offset: Vec<f64>,
    /// x and that.
    pub mean: Vec<f64>,
    /// Σ w y.
    pub whole: Vec<f64>,
    pub log_sum: Vec<f64>,
    pub entropy: Vec<f64>,
    pub distance: Vec<f64>,
    pub nearest: Vec<i64>,
    pub trace: Vec<f64>,
    pub product: Vec<f64>,
    /// By how much the exponents may be off that products gave, h E; 0 where none did.
    pub of_products: Vec<f64>,
}

impl Answer {
    fn bits(&self) -> Vec<Vec<u64>> {
        [
            &self.offset,
            &self.mean,
            &self.whole,
            &self.log_sum,
            &self.entropy,
            &self.distance,
            &self.trace,
            &self.product,
        ]
        .map(|values| bits(values))
        .into_iter()
        .chain([self.nearest.iter().map(|n| *n as u64).collect()])
        .collect()
    }
}

/// Which kernels make the first pass.
#[derive(Clone, Copy, Debug)]
enum First {
    /// Those for any rows.
    Any,
    /// kernels/small.cu, for rows of at most so many numbers.
    Small(usize),
    /// kernels/flash.cu, likewise.
    Flash(usize),
    /// kernels/near.cu where few rows are near, and elsewhere kernels/products.cu or, where they are not exact enough, those for any
    /// rows.
    Near,
}

/// How the kernels are driven; no bit may depend on it, but for which kernels make the first pass.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    first: First,
    tile: (usize, usize),
    /// Segments of a part.
    segments: usize,
}

impl Way {
    /// By tiles of this shape.
    fn tiled(tile: usize, segments: usize) -> Self {
        Self { first: First::Any, tile: tiles()[tile], segments }
    }

    /// By the kernel for rows of at most `most` numbers.
    fn small(most: usize, segments: usize) -> Self {
        Self { first: First::Small(most), tile: tiles()[0], segments }
    }

    fn flash(most: usize, segments: usize) -> Self {
        Self { first: First::Flash(most), tile: tiles()[0], segments }
    }

    pub fn near(tile: usize, segments: usize) -> Self {
        Self { first: First::Near, tile: tiles()[tile], segments }
    }
}

/// exp of less is 0.
pub const NO_WEIGHT: f64 = 746.0;

/// Weights of a part, and of kernels/near.cu which rows they are of, and where that is so.
struct Weighed {
    weights: Array<f64>,
    near: Option<(Array<u32>, Array<i32>)>,
}

struct Pass<'a> {
    device: &'a mut Device,
    way: Way,
    rows: Rows,
    queries: usize,
    precision: Array<f64>,
}

impl Pass<'_> {
    fn parts(&self) -> Vec<Part> {
        let segments = (self.rows.count as usize).div_ceil(self.device.build().segment());
        (0..segments)
            .step_by(self.way.segments)
            .map(|first| Part {
                count: self.rows.count,
                first_segment: first as i64,
                segments: self.way.segments.min(segments - first) as i32,
                queries: self.queries as i32,
            })
            .collect()
    }

    fn buffer(&mut self, part: Part) -> Array<f64> {
        let numbers = self.queries * part.segments as usize * self.device.build().segment();
        self.device.empty(numbers)
    }

    fn measured(&mut self, part: Part, x: &Array<f64>, v: Option<&Array<f64>>) -> Array<f64> {
        let out = self.buffer(part);
        measure(self.device, self.way.tile, self.rows, part, (x, v), None, &out);
        out
    }

    /// Weights and records of a part, and how they are made.
    fn weighed(&mut self, part: Part, coded: Option<&Coded>, x: &Array<f64>, records: &Array<Record>) -> Weighed {
        let (segments, weights) = (part.segments as usize, self.buffer(part));
        let grid = [self.queries, segments, 1];
        let near = coded.map(|coded| {
            let Coded { centre, radius, rows: of_rows, queries: of_queries, .. } = coded;
            let (low, squares) = (coded.bound(self.device, part, self.rows.subset), &of_queries.squares);
            let few = self.device.empty::<i32>(self.queries * segments);
            let parameters =
                with![self.rows, part, x, &self.precision, NO_WEIGHT, squares, *radius, &low, &few, &weights, records];
            self.device.launch("near", "mnemo_near", grid, parameters);
            let tiles = [self.queries.div_ceil(64), self.device.build().segment().div_ceil(128), segments];
            let parameters = with![self.rows, part, centre, x, &of_rows.squares, squares, &few, &weights];
            self.device.launch("products", "mnemo_measure_products", tiles, parameters);
            (low, few)
        });
        let few = near.as_ref().map(|(_, few)| few);
        measure(self.device, self.way.tile, self.rows, part, (x, None), few, &weights);
        if few.is_some() {
            let parameters = with![self.rows, part, x, few, records, NONE, &weights];
            self.device.launch("products", "mnemo_measure_again", grid, parameters);
        }
        let parameters = with![part, &self.precision, few, &weights, records];
        self.empirical("mnemo_weights", grid, parameters);
        Weighed { weights, near }
    }

    fn empirical(&mut self, kernel: &str, grid: [usize; 3], parameters: super::device::Parameters) {
        self.device.launch("empirical", kernel, grid, parameters);
    }

    fn accumulate(
        &mut self,
        part: Part,
        Weighed { weights, near }: &Weighed,
        by: Option<(&Coded, &Array<Record>)>,
        multiplier: Option<&Array<f64>>,
        shift: Option<&Array<f64>>,
    ) -> Array<f64> {
        let dim = self.rows.dim as usize;
        let partial = self.device.empty(part.segments as usize * self.queries * dim);
        if let (Some((low, few)), Some((coded, records))) = (near, by) {
            let segments = part.segments as usize;
            let grid = [dim.div_ceil(256), self.queries, segments];
            let parameters = with![self.rows, part, low, few, weights, shift, &partial];
            self.device.launch("near", "mnemo_accumulate_near", grid, parameters);
            let grid = [dim.div_ceil(128), self.queries.div_ceil(64), segments];
            let parameters = with![self.rows, part, &coded.centre, few, weights, records, shift, &partial];
            self.device.launch("products", "mnemo_accumulate_products", grid, parameters);
        }
        let few = near.as_ref().map(|(_, few)| few);
        let (height, width) = self.way.tile;
        let grid = [dim.div_ceil(width), self.queries.div_ceil(height), part.segments as usize];
        let parameters = with![self.rows, part, few, weights, multiplier, shift, &partial];
        self.empirical(&format!("mnemo_accumulate_{height}"), grid, parameters);
        partial
    }
}

/// The whole of it by the kernels: means relative to x, then what needs them.
pub fn by_kernels(build: Build, way: Way, question: &Question<'_>) -> Answer {
    let Question { data, x, precision, tangent } = question;
    let precision_here = precision;
    let (queries, dim) = (precision.len(), data.dim);
    let device = &mut Device::new(build);
    let rows = data.upload(device);
    let (x_there, precision) = (device.upload(x), device.upload(precision));
    let mut pass = Pass { device, way, rows, queries, precision };
    let running = pass.device.empty::<Record>(queries);
    let [offset, whole] = [(); 2].map(|()| pass.device.empty::<f64>(queries * dim));
    let per_query = [queries.div_ceil(256), 1, 1];
    let parts = pass.parts();
    let coded = matches!(way.first, First::Near).then(|| Coded::new(pass.device, data, rows, x));
    for part in &parts {
        let last = std::ptr::eq(part, parts.last().expect("a part"));
        let segments = part.segments as usize;
        let records = pass.device.empty::<Record>(queries * segments);
        let scales = pass.device.empty::<f64>(2 * queries * segments);
        let (file, most, shared) = match way.first {
            First::Any | First::Near => ("", 0, 0),
            First::Small(most) => ("small", most, 0),
            First::Flash(most) => ("flash", most, (64 * (most + 1) + 32 * 33) * size_of::<f64>()),
        };
        let (partial, partial_whole) = if most > 0 {
            let [partial, partial_whole] = [(); 2].map(|()| pass.device.empty(segments * queries * dim));
            let grid = [queries.div_ceil(32), segments, 1];
            // Of rows less x, of rows, and none.
            for (whole, partial) in [(0, Some(&partial)), (1, Some(&partial_whole)), (0, None)] {
                let parameters = with![rows, *part, &x_there, &pass.precision, whole, &records, partial];
                pass.device.launch_with(file, &format!("mnemo_{file}_{most}"), grid, shared, parameters);
            }
            (partial, partial_whole)
        } else {
            let weighed = pass.weighed(*part, coded.as_ref(), &x_there, &records);
            let by = coded.as_ref().map(|coded| (coded, &records));
            let partial = pass.accumulate(*part, &weighed, by, None, Some(&x_there));
            (partial, pass.accumulate(*part, &weighed, by, None, None))
        };
        let parameters = with![*part, &pass.precision, &records, &running, &scales];
        pass.empirical("mnemo_merge_records", per_query, parameters);
        let total = last.then_some(&running);
        for (partial, to) in [(&partial, &offset), (&partial_whole, &whole)] {
            let parameters = with![*part, dim as i32, partial, &scales, total, to];
            pass.empirical("mnemo_merge_means", [2, 1, 1], parameters);
        }
    }
    let (log_sum, entropy, distance) =
        (pass.device.empty::<f64>(queries), pass.device.empty::<f64>(queries), pass.device.empty::<f64>(queries));
    let nearest = pass.device.empty::<i64>(queries);
    let parameters =
        with![queries as i32, &pass.precision, rows.subset, &running, &log_sum, &entropy, &distance, &nearest];
    pass.empirical("mnemo_finish", per_query, parameters);
    // All four may be left out.
    let parameters = with![queries as i32, &pass.precision, rows.subset, &running, NONE, NONE, NONE, NONE];
    pass.empirical("mnemo_finish", per_query, parameters);

    let errors = pass.device.download(&running);
    let offset = pass.device.download(&offset);
    let mean: Vec<f64> = offset.iter().zip(*x).map(|(o, x)| o + x).collect();
    let mean_there = pass.device.upload(&mean);
    let tangent_there = tangent.map(|v| pass.device.upload(v));
    let (trace, product) = (pass.device.empty::<f64>(queries), pass.device.empty::<f64>(queries * dim));
    for part in &parts {
        let segments = part.segments as usize;
        let weights = pass.measured(*part, &x_there, None);
        if coded.is_some() {
            let parameters = with![rows, *part, &x_there, NONE, NONE, &running, &weights];
            pass.device.launch("products", "mnemo_measure_again", [queries, segments, 1], parameters);
        }
        let parameters = with![*part, &pass.precision, &running, &weights];
        pass.empirical("mnemo_reweight", [queries, segments, 1], parameters);
        let values = pass.measured(*part, &mean_there, None);
        let sums = pass.device.empty::<f64>(queries * segments);
        let parameters = with![*part, &weights, &values, &sums];
        pass.empirical("mnemo_weighted_sums", [queries, segments, 1], parameters);
        pass.empirical("mnemo_merge_sums", per_query, with![*part, &sums, &trace]);
        if let Some(tangent) = &tangent_there {
            let values = pass.measured(*part, &mean_there, Some(tangent));
            let weighed = Weighed { weights, near: None };
            let partial = pass.accumulate(*part, &weighed, None, Some(&values), Some(&mean_there));
            let parameters = with![*part, dim as i32, &partial, NONE, NONE, &product];
            pass.empirical("mnemo_merge_means", [1, 1, 1], parameters);
        }
    }
    Answer {
        offset,
        mean,
        whole: pass.device.download(&whole),
        log_sum: pass.device.download(&log_sum),
        entropy: pass.device.download(&entropy),
        distance: pass.device.download(&distance),
        nearest: pass.device.download(&nearest),
        trace: pass.device.download(&trace),
        product: if tangent.is_some() { pass.device.download(&product) } else { Vec::new() },
        of_products: errors.iter().zip(precision_here.iter()).map(|(record, p)| 0.5 * p * record.error).collect(),
    }
}

/// The same by plain loops.
fn by_loops(question: &Question<'_>) -> Answer {
    let Question { data, x, precision, tangent } = question;
    let dim = data.dim;
    let taking_part = data.taking_part();
    let mut answer = Answer {
        offset: Vec::new(),
        mean: Vec::new(),
        whole: Vec::new(),
        log_sum: Vec::new(),
        entropy: Vec::new(),
        distance: Vec::new(),
        nearest: Vec::new(),
        trace: Vec::new(),
        product: Vec::new(),
        of_products: vec![0.0; precision.len()],
    };
    for (b, x) in x.chunks(dim).enumerate() {
        let h = 0.5 * precision[b];
        let distances = data.squared_distances(x);
        let best = distances.iter().copied().fold(f64::INFINITY, f64::min);
        let at = distances.iter().position(|d| *d == best).expect("a row");
        let above: Vec<f64> = distances.iter().map(|d| h * (d - best)).collect();
        let others = || above.iter().enumerate().filter(|(n, _)| *n != at).map(|(_, a)| *a);
        let rest: f64 = others().map(|a| (-a).exp()).sum();
        let slope: f64 = others().filter(|a| *a < 700.0).map(|a| a * (-a).exp()).sum();
        let weights: Vec<f64> = above.iter().map(|a| (-a).exp() / (1.0 + rest)).collect();
        let rows = || weights.iter().zip(taking_part.iter().map(|n| data.row(*n)));
        let mean: Vec<f64> = (0..dim).map(|j| x[j] + rows().map(|(w, y)| w * (y[j] - x[j])).sum::<f64>()).collect();
        let square = |y: &[f64]| y.iter().zip(&mean).map(|(y, m)| (y - m) * (y - m)).sum::<f64>();
        answer.trace.push(rows().map(|(w, y)| w * square(y)).sum());
        if let Some(tangent) = tangent {
            let v = &tangent[b * dim..(b + 1) * dim];
            let along = |y: &[f64]| y.iter().zip(&mean).zip(v).map(|((y, m), v)| (y - m) * v).sum::<f64>();
            answer.product.extend((0..dim).map(|j| rows().map(|(w, y)| w * (y[j] - mean[j]) * along(y)).sum::<f64>()));
        }
        answer.whole.extend((0..dim).map(|j| rows().map(|(w, y)| w * y[j]).sum::<f64>()));
        answer.mean.extend(mean);
        answer.log_sum.push(rest.ln_1p() - h * best);
        answer.entropy.push(rest.ln_1p() + slope / (1.0 + rest));
        answer.distance.push(best.sqrt());
        answer.nearest.push(taking_part[at] as i64);
    }
    answer
}

/// Every way gives the same bits, and they are near to those of the loops; the same for rows of few numbers.
fn check(build: Build, question: &Question<'_>) {
    let count = question.data.taking_part().len();
    let segments = count.div_ceil(build.segment());
    let want = by_loops(question);
    check_ways(build, question, &want, &[Way::tiled(0, 1), Way::tiled(1, 2), Way::tiled(0, segments)]);
    check_ways(build, question, &want, &[Way::near(0, 1), Way::near(1, 2), Way::near(0, segments)]);
    let dim = question.data.dim;
    for (widths, way) in [([2, 4, 8, 16].as_slice(), Way::small as fn(_, _) -> _), (&[32, 64, 128], Way::flash)] {
        let mut ways: Vec<Way> = widths.iter().filter(|most| dim <= **most).map(|most| way(*most, 1)).collect();
        if let Some(first) = ways.first().copied() {
            ways.push(Way { segments, ..first });
            check_ways(build, question, &want, &ways);
        }
    }
}

fn check_ways(build: Build, question: &Question<'_>, want: &Answer, ways: &[Way]) {
    let Question { data, x, precision, tangent } = question;
    let count = data.taking_part().len();
    let first = by_kernels(build, ways[0], question);
    let what = format!("{} queries, {count} x {}, {:?}", precision.len(), data.dim, ways[0]);
    for way in &ways[1..] {
        assert_eq!(by_kernels(build, *way, question).bits(), first.bits(), "{what}: {way:?}");
    }
    assert_eq!(first.nearest, want.nearest, "{what}");
    let is_near = matches!(ways[0].first, First::Near);
    if !is_near {
        assert_eq!(bits(&first.distance), bits(&want.distance), "{what}");
    }
    for b in 0..precision.len() {
        let what = format!("{what}, query {b}");
        let own = b * data.dim..(b + 1) * data.dim;
        // Distances have the same bits on both sides, and so have h (D_n - D) but for 2 u of themselves; those that weigh
        // anything are below 745. A weight is then off by 2 · 745 u and two ulps of either exponential, and where
        // h (D_n - D) is small by that little; a sum of `count` of them adds count u on either side.
        let best = 0.5 * precision[b] * want.distance[b].powi(2);
        // But near.cu adds squares in another order, which makes each sum of `dim` of them off by dim u of itself.
        let order = if is_near { data.dim as f64 * U } else { 0.0 };
        assert_near(&[first.distance[b]], &[want.distance[b]], order, 0.0, &what);
        // And products.cu makes distances that are off by as much as this, where near.cu says so.
        let products = first.of_products[b];
        assert!(products <= if is_near { 1e-8 } else { 0.0 }, "{what}: {products:e}");
        let weight = (2.0 * 745.0 + 8.0 + 2.0 * count as f64) * U + order * (745.0 + 2.0 * best) + products;
        let sum = weight + 8.0 * U * best;
        assert_near(&[first.log_sum[b]], &[want.log_sum[b]], 4.0 * U, sum, &format!("{what}: log sum"));
        // Both terms are sums of positive numbers: relative, however small.
        assert_near(&[first.entropy[b]], &[want.entropy[b]], 4.0 * weight, 0.0, &format!("{what}: entropy"));
        let far = data
            .taking_part()
            .iter()
            .flat_map(|n| data.row(*n).iter().zip(&x[own.clone()]).map(|(y, x)| (y - x).abs()))
            .fold(0.0, f64::max);
        // An offset is a mean of numbers no larger than `far`, so off by the weights' error times that; x is added to it.
        let mean = 2.0 * weight * far + 2.0 * U * (far + x[own.clone()].iter().fold(0.0, |a: f64, v| a.max(v.abs())));
        assert_near(&first.mean[own.clone()], &want.mean[own.clone()], 0.0, mean, &format!("{what}: mean"));
        let largest = data.values.iter().fold(0.0, |a: f64, v| a.max(v.abs()));
        let whole = (&first.whole[own.clone()], &want.whole[own.clone()]);
        assert_near(whole.0, whole.1, 0.0, 2.0 * weight * largest, &format!("{what}: mean of whole rows"));
        // Means that differ by so much move y - mean, of which the next are products.
        let (wide, dim) = (2.0 * far, data.dim as f64);
        let trace = dim * ((4.0 * weight + 4.0 * dim * U) * wide * wide + 4.0 * wide * mean);
        assert_near(&[first.trace[b]], &[want.trace[b]], 0.0, trace, &format!("{what}: trace"));
        if let Some(tangent) = tangent {
            let v = tangent[own.clone()].iter().fold(0.0, |a: f64, v| a.max(v.abs()));
            let (got, want) = (&first.product[own.clone()], &want.product[own]);
            assert_near(got, want, 0.0, trace * v, &format!("{what}: covariance product"));
        }
    }
}

#[test]
fn every_shape_agrees_with_plain_loops() {
    let rows = [1, 2, 31, 32, 33, 63, 64, 65, 131];
    let dims = [1, 2, 3, 17, 64, 67];
    let queries = [1, 2, 7, 8, 9, 63, 65];
    for i in 0..18 {
        let (n, d, b) = (rows[i % rows.len()], dims[(i * 5) % dims.len()], queries[(i * 3) % queries.len()]);
        let data = Data::normal(100 + i as u64, n, d, Dtype::F32);
        let (x, tangent) = (normals(200 + i as u64, b * d), normals(300 + i as u64, b * d));
        // From all rows alike to one row alone.
        let precision: Vec<f64> = (0..b).map(|q| 10f64.powf(-2.0 + 5.0 * (q as f64 / 7.0).fract())).collect();
        check(Build::Small, &Question { data: &data, x: &x, precision: &precision, tangent: Some(&tangent) });
    }
}

#[test]
fn the_library_has_segments_of_4096_rows() {
    // And small.cu has tiles of 1024 rows of 3 numbers: two, and more than one segment of four.
    for rows in [1500, 4099] {
        let data = Data::normal(1, rows, 3, Dtype::F32);
        let x = normals(2, 2 * 3);
        check(Build::Library, &Question { data: &data, x: &x, precision: &[3.0, 500.0], tangent: Some(&x) });
    }
}

#[test]
fn many_tiles_of_a_segment_agree_with_plain_loops() {
    // flash.cu takes 32 rows at a time: here the nearest row changes from tile to tile, and rows are alike in two of them.
    for (dim, queries) in [(2, 33), (33, 5), (64, 40), (100, 31)] {
        let mut values = normals(20, 210 * dim);
        values.copy_within(40 * dim..41 * dim, 150 * dim);
        let data = Data::new(&values, dim, Dtype::F32, 1.0, 0.0);
        let mut x = normals(21, queries * dim);
        x[..dim].copy_from_slice(data.row(150));
        let precision: Vec<f64> = (0..queries).map(|q| [1e-3, 0.3, 8.0, 1e4][q % 4]).collect();
        check(Build::Library, &Question { data: &data, x: &x, precision: &precision, tangent: None });
    }
}

#[test]
fn a_subset_takes_part_alone() {
    let data = Data::normal(3, 200, 5, Dtype::U8);
    let x = normals(4, 3 * 5);
    let precision = [1.0, 10.0, 100.0];
    let some = data.with_subset((0..200).filter(|n| n % 5 == 2).collect());
    check(Build::Small, &Question { data: &some, x: &x, precision: &precision, tangent: Some(&x) });
    let one = some.with_subset(vec![77]);
    check(Build::Small, &Question { data: &one, x: &x, precision: &precision, tangent: Some(&x) });
}

#[test]
fn no_precision_weighs_all_rows_alike_and_the_nearest_is_still_found() {
    let data = Data::normal(5, 100, 4, Dtype::F32);
    let x = normals(6, 8);
    let question = Question { data: &data, x: &x, precision: &[0.0, 0.0], tangent: None };
    check(Build::Small, &question);
    let answer = by_kernels(Build::Small, Way::tiled(0, 2), &question);
    for b in 0..2 {
        // ln 100 by way of ln(1 + 99), an ulp each.
        assert_near(&[answer.log_sum[b], answer.entropy[b]], &[100f64.ln(); 2], 4.0 * U, 0.0, "ln N");
    }
}

#[test]
fn extreme_precisions_leave_the_nearest_row_alone() {
    // Distances of 1e200 times 1e140 overflow; ℓ is -inf then and no NaN comes of it.
    let wanted: Vec<f64> = normals(7, 70 * 3).iter().map(|v| v * 1e99).collect();
    let data = Data::new(&wanted, 3, Dtype::F64, 1.0, 0.0);
    let x = normals(8, 6);
    let question = Question { data: &data, x: &x, precision: &[1e140, 1e-150], tangent: Some(&x) };
    let want = by_loops(&question);
    for way in [Way::tiled(0, 1), Way::near(0, 2), Way::small(4, 2), Way::flash(32, 2)] {
        let answer = by_kernels(Build::Small, way, &question);
        // near.cu adds three squares in another order.
        assert_eq!(answer.log_sum[0], f64::NEG_INFINITY);
        assert_near(&answer.log_sum[1..], &want.log_sum[1..], 4.0 * U, 0.0, "log sum");
        assert_eq!(answer.entropy, [0.0, 0.0]);
        assert_eq!(answer.nearest, want.nearest);
        assert_near(&answer.distance, &want.distance, 4.0 * U, 0.0, "distance");
        for (b, n) in answer.nearest.iter().enumerate() {
            // One weight is 1 and the others 0. The offset from x is exact here, for x is below half an ulp of the row.
            assert_eq!(answer.mean[3 * b..3 * b + 3], *data.row(*n as usize));
            assert_eq!(answer.trace[b], 0.0);
        }
    }
    // Near rows too: precisions as large as 1e140 tell 1e-70 apart.
    let near: Vec<f64> = (0..40).map(|n| 1e-70 * f64::from(n)).collect();
    let data = Data::new(&near, 1, Dtype::F64, 1.0, 0.0);
    check(Build::Small, &Question { data: &data, x: &[3.2e-70, 0.0], precision: &[1e140, 1e139], tangent: None });
}

#[test]
fn duplicates_share_their_weight_and_the_first_is_the_nearest() {
    // Row 70 thrice, in one segment and in others, each a bit off x.
    let mut values = normals(9, 100 * 2);
    for n in [33, 40, 95] {
        values.copy_within(140..142, 2 * n);
    }
    let data = Data::new(&values, 2, Dtype::F64, 1.0, 0.0);
    let x = [values[140] + 1e-9, values[141]];
    let question = Question { data: &data, x: &x, precision: &[1e8], tangent: Some(&[1.0, 2.0]) };
    check(Build::Small, &question);
    let answer = by_kernels(Build::Small, Way::tiled(1, 3), &question);
    assert_eq!(answer.nearest, [33]);
    assert_near(&answer.entropy, &[4f64.ln()], 1e-9, 0.0, "entropy of four rows alike, the next being 1e-2 away");
}

#[test]
fn tiny_entropies_keep_their_digits() {
    // Two rows, the farther with weight e^-120: entropy 120 e^-120 + e^-120, about 1e-50.
    let data = Data::new(&[0.0, 1.0], 1, Dtype::F64, 1.0, 0.0);
    let question = Question { data: &data, x: &[0.0], precision: &[240.0], tangent: None };
    let want = 121.0 * (-120f64).exp();
    // And in another segment.
    let mut values = vec![1e3; 40];
    (values[0], values[39]) = (0.0, 1.0);
    let far = Data::new(&values, 1, Dtype::F64, 1.0, 0.0);
    let over_segments = Question { data: &far, ..question };
    for way in [Way::tiled(0, 1), Way::near(0, 1), Way::small(2, 1), Way::flash(32, 1)] {
        for question in [&question, &over_segments] {
            // Of the argument, exact here, and of the exponential on both sides.
            assert_near(&by_kernels(Build::Small, way, question).entropy, &[want], 16.0 * U, 0.0, "entropy");
        }
    }
}

#[test]
fn a_query_has_the_same_bits_alone_and_in_a_batch() {
    let each = [
        (19, [Way::tiled(1, 2), Way::tiled(0, 5)]),
        (150, [Way::near(1, 2), Way::near(0, 5)]),
        (5, [Way::small(8, 2), Way::small(8, 5)]),
    ];
    for (dim, ways) in each.into_iter().chain([(70, [Way::flash(128, 2), Way::flash(128, 5)])]) {
        let data = Data::normal(10, 131, dim, Dtype::F32);
        let (x, precision) = (normals(11, 66 * dim), vec![4.0; 66]);
        let question = Question { data: &data, x: &x, precision: &precision, tangent: Some(&x) };
        let together = by_kernels(Build::Small, ways[0], &question);
        for b in [0, 7, 65] {
            let own = b * dim..(b + 1) * dim;
            let x = &x[own.clone()];
            let question = Question { data: &data, x, precision: &[4.0], tangent: Some(x) };
            let alone = by_kernels(Build::Small, ways[1], &question);
            assert_eq!(bits(&alone.whole), bits(&together.whole[own.clone()]));
            assert_eq!(bits(&alone.mean), bits(&together.mean[own.clone()]));
            assert_eq!(bits(&alone.product), bits(&together.product[own]));
            let scalars = |a: &Answer, b: usize| bits(&[a.log_sum[b], a.entropy[b], a.distance[b], a.trace[b]]);
            assert_eq!(scalars(&alone, 0), scalars(&together, b));
        }
    }
}
