//! Bounds of distances by codes: below the distances, and no farther than their terms say.

use super::data::{DTYPES, Data, Dtype, normals};
use super::device::{Array, Build, Device, Part, Rows, with};

/// Bytes to which codes of a row are padded (`DEPTH` of kernels/bounds.cu).
const DEPTH: usize = 64;

/// |y'|², s, |y'| and r of a row (`Terms` there).
type Terms = [f32; 4];

/// Rows and queries as codes.
pub struct Coded {
    stride: usize,
    pub centre: Array<f64>,
    pub radius: f64,
    pub rows: Of,
    pub queries: Of,
}

/// Codes, terms and |y'|².
pub struct Of {
    codes: Array<i8>,
    terms: Array<Terms>,
    pub squares: Array<f64>,
}

fn encode(device: &mut Device, rows: Rows, centre: &Array<f64>, stride: usize) -> Of {
    let count = rows.count as usize;
    let (codes, terms) = (device.empty::<i8>(count * stride), device.empty::<Terms>(count));
    let squares = device.empty::<f64>(count);
    let parameters = with![rows, centre, stride as i32, &codes, &terms, &squares];
    device.launch("bounds", "mnemo_encode", [2, 1, 1], parameters);
    Of { codes, terms, squares }
}

impl Coded {
    /// All rows of `data`, which are `rows` on the device, and queries; about the mean of the rows.
    pub fn new(device: &mut Device, data: &Data, rows: Rows, x: &[f64]) -> Self {
        let (dim, stride) = (data.dim, data.dim.next_multiple_of(DEPTH));
        let mean = |j: usize| (0..data.rows).map(|n| data.row(n)[j]).sum::<f64>() / data.rows as f64;
        let centre: Vec<f64> = (0..dim).map(mean).collect();
        let square = |n: usize| data.row(n).iter().zip(&centre).map(|(y, c)| (y - c) * (y - c)).sum::<f64>();
        let radius = (0..data.rows).map(square).fold(0.0, f64::max).sqrt();
        let centre = device.upload(&centre);
        let of_rows = encode(device, Rows { subset: 0, count: data.rows as i64, ..rows }, &centre, stride);
        let queries = Data::new(x, dim, Dtype::F64, 1.0, 0.0).upload(device);
        let of_queries = encode(device, queries, &centre, stride);
        Self { stride, centre, radius, rows: of_rows, queries: of_queries }
    }

    /// The bounds of a part, float32 in 32 bits.
    pub fn bound(&self, device: &mut Device, part: Part, subset: u64) -> Array<u32> {
        let (segment, segments) = (device.build().segment(), part.segments as usize);
        let low = device.empty::<u32>(part.queries as usize * segments * segment);
        let grid = [(part.queries as usize).div_ceil(128), segment.div_ceil(128), segments];
        let (rows, queries) = (&self.rows, &self.queries);
        let parameters =
            with![part, subset, self.stride as i32, &rows.codes, &rows.terms, &queries.codes, &queries.terms, &low];
        device.launch("bounds", "mnemo_bound", grid, parameters);
        low
    }
}

/// Bounds of all rows that take part, `[queries, rows]`, and the terms of rows and queries.
fn bounds(build: Build, data: &Data, x: &[f64], segments: usize) -> (Vec<f32>, Vec<Terms>, Vec<Terms>) {
    let device = &mut Device::new(build);
    let rows = data.upload(device);
    let coded = Coded::new(device, data, rows, x);
    let (queries, count, segment) = (x.len() / data.dim, data.taking_part().len(), build.segment());
    let mut found = vec![Vec::new(); queries];
    for first in (0..count.div_ceil(segment)).step_by(segments) {
        let segments = segments.min(count.div_ceil(segment) - first);
        let part =
            Part { count: rows.count, first_segment: first as i64, segments: segments as i32, queries: queries as i32 };
        let low = coded.bound(device, part, rows.subset);
        let low = device.download(&low);
        let here = (count - first * segment).min(segments * segment);
        for (found, low) in found.iter_mut().zip(low.chunks(segments * segment)) {
            found.extend(low[..here].iter().map(|bits| f32::from_bits(*bits)));
        }
    }
    (found.concat(), device.download(&coded.rows.terms), device.download(&coded.queries.terms))
}

fn check(build: Build, data: &Data, x: &[f64], segments: usize) {
    let (low, of_rows, of_queries) = bounds(build, data, x, segments);
    let taking_part = data.taking_part();
    for (b, x) in x.chunks(data.dim).enumerate() {
        let [.., x_length, x_left] = of_queries[b].map(f64::from);
        for (i, distance) in data.squared_distances(x).into_iter().enumerate() {
            let bound = f64::from(low[b * taking_part.len() + i]);
            let [.., length, left] = of_rows[taking_part[i]].map(f64::from);
            let what = format!(
                "query {b}, row {i} of {} x {} {:?}: bound {bound:e}, distance {distance:e}",
                taking_part.len(),
                data.dim,
                data.dtype,
            );
            assert!(bound <= distance, "{what}");
            // The term that is taken off is at most as wrong as it is large; then what is taken off for rounding, twice.
            let wide = 4.0 * (x_left * length + (x_length + x_left) * left);
            let rounding = 2.0 * (48.0 * 2f64.powi(-24) * (x_length + length).powi(2) + 4e-36);
            assert!(bound >= distance - wide - rounding, "{what}: at most {wide:e} + {rounding:e} below");
        }
    }
}

#[test]
fn every_shape_is_bounded() {
    let (rows, dims, queries) = ([1, 7, 31, 33, 127, 129, 200], [1, 2, 63, 64, 65, 130], [1, 15, 17, 64, 129]);
    for i in 0..14 {
        let (n, d, b) = (rows[i % rows.len()], dims[(i * 5) % dims.len()], queries[(i * 3) % queries.len()]);
        let data = Data::normal(400 + i as u64, n, d, DTYPES[i % DTYPES.len()]);
        check(Build::Small, &data, &normals(500 + i as u64, b * d), 1 + i % 3);
    }
}

#[test]
fn the_librarys_segments_are_bounded() {
    let data = Data::normal(1, 4227, 3, Dtype::F32);
    check(Build::Library, &data, &normals(2, 2 * 3), 2);
    check(Build::Library, &data.with_subset((0..4227).filter(|n| n % 11 == 3).collect()), &normals(3, 3), 1);
}

#[test]
fn a_row_of_its_own_is_bounded() {
    // Distances of 0, of a hair, rows alike, and the middle itself, whose codes are all 0.
    let mut values = normals(4, 40 * 70);
    values.copy_within(..70, 70);
    for j in 0..70 {
        values[140 + j] = 0.0;
    }
    let data = Data::new(&values, 70, Dtype::F64, 1.0, 0.0);
    let mut x = data.row(0).to_vec();
    x.extend(data.row(5).iter().map(|v| v * (1.0 + 1e-15)));
    x.extend([0.0; 70]);
    check(Build::Small, &data, &x, 2);
    let alike = Data::new(&[0.7; 33 * 70], 70, Dtype::F64, 1.0, 0.0);
    check(Build::Small, &alike, &vec![0.7; 70], 2);
}

#[test]
fn one_number_far_from_the_others_is_bounded() {
    // It makes the step so wide that all other numbers have the code 0.
    let mut values = normals(5, 35 * 66);
    values[66 * 3 + 7] = 1e4;
    let data = Data::new(&values, 66, Dtype::F32, 1.0, 0.0);
    let mut x = normals(6, 2 * 66);
    x[70] = -3e5;
    check(Build::Small, &data, &x, 2);
}

#[test]
fn large_and_small_numbers_are_bounded() {
    for scale in [1e-25, 1e-12, 1e-3, 1e6, 1e15] {
        let values: Vec<f64> = normals(7, 33 * 65).iter().map(|v| v * scale).collect();
        let data = Data::new(&values, 65, Dtype::F64, 1.0, 0.0);
        let x: Vec<f64> = normals(8, 2 * 65).iter().map(|v| v * scale).collect();
        check(Build::Small, &data, &x, 2);
    }
}

#[test]
fn what_overflows_and_what_is_not_a_number_bounds_nothing() {
    let values: Vec<f64> = normals(9, 33 * 65).iter().map(|v| v * 1e25).collect();
    let far = Data::new(&values, 65, Dtype::F64, 1.0, 0.0);
    let near = Data::normal(10, 33, 65, Dtype::F32);
    let mut x = normals(11, 65);
    x[64] = f64::NAN;
    let infinite = vec![f64::INFINITY; 65];
    for (data, x) in [(&far, &normals(12, 65)), (&near, &x), (&near, &infinite)] {
        let (low, ..) = bounds(Build::Small, data, x, 2);
        // near.cu takes infinity for NaN.
        assert!(low.iter().all(|bound| !bound.is_finite()), "{low:?}");
    }
}
