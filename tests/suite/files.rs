//! A data set from a file is the data set of its numbers.

use crate::api::{Api, Call, Decoding, EVERYTHING, Empirical, Kind, Matrix, Metric, Regularizer, Want};
use crate::data::Rng;
use crate::determinism::solvers;
use crate::home::is_cuda;
use flate2::{Compression, write::GzEncoder};
use mnemo::capi::status::{MNEMO_E_INVALID, MNEMO_E_IO, MNEMO_E_NOMEM, MNEMO_E_UNSUPPORTED};
use mnemo::tensor::Dtype;
use std::io::Write;
use std::path::{Path, PathBuf};

both!(files_hold_what_copies_hold, files_beyond_memory_hold_the_same, a_missing_file);

fn npy(descr: &str, shape: &str, bytes: &[u8]) -> Vec<u8> {
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    while !(10 + header.len() + 1).is_multiple_of(64) {
        header.push(' ');
    }
    header.push('\n');
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend(u16::try_from(header.len()).unwrap().to_le_bytes());
    file.extend(header.as_bytes());
    file.extend(bytes);
    file
}

fn idx(kind: u8, sizes: &[u32], bytes: &[u8]) -> Vec<u8> {
    let mut file = vec![0, 0, kind, u8::try_from(sizes.len()).unwrap()];
    sizes.iter().for_each(|s| file.extend(s.to_be_bytes()));
    file.extend(bytes);
    file
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn files_hold_what_copies_hold<A: Api>() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: Vec<u8>| -> PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let mut rng = Rng(30);
    // Images of 4 x 5, flattened to rows of 20.
    let (n, d) = (60, 20);
    let real = rng.normals(n * d);
    let pixels: Vec<u8> = (0..n * d).map(|_| rng.below(256) as u8).collect();
    let labels: Vec<u8> = (0..n).map(|i| (i % 10) as u8).collect();
    let singles: Vec<u8> = real.iter().flat_map(|&v| (v as f32).to_le_bytes()).collect();
    let doubles: Vec<u8> = real.iter().flat_map(|&v| v.to_le_bytes()).collect();
    let big: Vec<u8> = real.iter().flat_map(|&v| (v as f32).to_be_bytes()).collect();
    let images = idx(0x08, &[60, 4, 5], &pixels);
    let pixel_values: Vec<f64> = pixels.iter().map(|&p| f64::from(p)).collect();
    let bytes = Decoding { scale: 1.0 / 127.5, shift: -1.0 };
    let plain = Decoding::default();
    let files = [
        (write("f4.npy", npy("<f4", "(60, 20)", &singles)), Dtype::F32, &real, plain),
        (write("f8.npy", npy("<f8", "(60, 4, 5)", &doubles)), Dtype::F64, &real, plain),
        (write("big.npy", npy(">f4", "(60, 20)", &big)), Dtype::F32, &real, plain),
        (write("u1.npy.gz", gzip(&npy("|u1", "(60, 20)", &pixels))), Dtype::U8, &pixel_values, bytes),
        (write("images-idx3-ubyte", images.clone()), Dtype::U8, &pixel_values, bytes),
        (write("images-idx3-ubyte.gz", gzip(&images)), Dtype::U8, &pixel_values, bytes),
        (write("f4.idx", idx(0x0D, &[60, 20], &big)), Dtype::F32, &real, plain),
    ];
    let label_files =
        [write("labels-idx1-ubyte", idx(0x08, &[60], &labels)), write("labels.npy", npy("|u1", "(60,)", &labels))];
    let label_matrix = Matrix::new(Dtype::U8, &labels.iter().map(|&l| f64::from(l)).collect::<Vec<_>>(), 1);
    let machine = A::new(1);
    let process = A::process(&Kind::VePower(2.0, 1.0, 80.0)).unwrap();
    let x = Matrix::new(Dtype::F64, &rng.normals(3 * d), d);
    let options = Empirical { label: Some(4), ..Empirical::default() };
    for (i, (path, dtype, values, decoding)) in files.iter().enumerate() {
        let bits = |dataset: &A::Dataset| {
            let score = machine.empirical(dataset, &process, options).unwrap();
            A::eval(&score, &x, &[0.7], EVERYTHING, Call::default()).unwrap().bits()
        };
        let opened = machine.open(path, Some(&label_files[i % 2]), *decoding).unwrap();
        let copied = machine.dataset(&Matrix::new(*dtype, values, d), Some(&label_matrix), *decoding).unwrap();
        assert_eq!(bits(&opened), bits(&copied), "{}", path.display());
    }
}

/// The bits of everything that can be asked of a data set.
fn everything<A: Api>(machine: &A, data: &A::Dataset, labelled: bool, near: &Matrix) -> Vec<u64> {
    let bits = |m: &Matrix| m.values().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    let process = A::process(&Kind::VePower(2.0, 1.0, 80.0)).unwrap();
    let t = [0.01, 0.3, 1.0, 3.0, 20.0, 70.0];
    let mut all = Vec::new();
    for dtype in [Dtype::F32, Dtype::F64] {
        let x = Matrix::new(dtype, &near.values(), near.cols);
        let empirical = |regularizer, label| Empirical { regularizer, label, ..Empirical::default() };
        let mut scores = vec![
            empirical(Regularizer::None, None),
            empirical(Regularizer::Tikhonov { c: 0.1 }, None),
            empirical(Regularizer::BayesWeight { log_c: -3.0 }, None),
        ];
        scores.extend(labelled.then(|| empirical(Regularizer::None, Some(4))));
        for options in scores {
            let score = machine.empirical(data, &process, options).unwrap();
            all.extend(A::eval(&score, &x, &t, EVERYTHING, Call::default()).unwrap().bits());
            // The divergence wants float64 throughout; without it rows of bytes may be read as whole numbers.
            let want = Want { divergence: false, ..EVERYTHING };
            all.extend(A::eval(&score, &x, &t, want, Call::default()).unwrap().bits());
            all.extend(bits(&A::jvp(&score, &x, &t, &x).unwrap()));
        }
        for (metric, k) in [(Metric::L2, 1), (Metric::L2, 30), (Metric::Cosine, 7)] {
            let (distances, indices) = A::nearest_by(data, &x, metric, k, Call::default()).unwrap();
            all.extend(distances.iter().map(|v| v.to_bits()).chain(indices.iter().map(|n| n.cast_unsigned())));
        }
        let report = A::memorization(data, &x, 1.0).unwrap();
        all.extend([report.copied, report.min_distance.to_bits(), report.median_distance.to_bits()]);
    }
    let score = machine.empirical(data, &process, Empirical::default()).unwrap();
    for options in solvers() {
        let mut x = near.clone();
        A::sample(&score, &options, &mut x, None, Call { seed: 7, ..Call::default() }).unwrap();
        all.extend(bits(&x));
    }
    all
}

/// Every type in both byte orders, rows longer than what is read at once, several chunks, labels; and one data set of
/// which the limit leaves room for the projection.
fn files_beyond_memory_hold_the_same<A: Api>() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| -> PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let mut rng = Rng(31);
    let mut case = |descr: &str, n: usize, d: usize, limit: u64| {
        let big = descr.starts_with('>');
        let mut raw = Vec::new();
        for i in 0..n * d {
            let v = rng.normal() + (i / d % 5) as f64;
            let mut bytes = match &descr[1..] {
                "f2" => half::f16::from_f64(v).to_le_bytes().to_vec(),
                "f4" => (v as f32).to_le_bytes().to_vec(),
                "f8" => v.to_le_bytes().to_vec(),
                _ => vec![rng.below(256) as u8],
            };
            if big {
                bytes.reverse();
            }
            raw.extend(bytes);
        }
        let labels: Vec<u8> = (0..n).map(|_| rng.below(10) as u8).collect();
        let (shape, decoding) = (format!("({n}, {d})"), Decoding { scale: 1.0 / 3.0, shift: -0.5 });
        let path = write(&format!("{}-{n}.npy", &descr[1..]), &npy(descr, &shape, &raw));
        let idx_path = write("idx", &idx(0x0E, &[n as u32, d as u32], &raw));
        let label_path = write("labels", &idx(0x08, &[n as u32], &labels));
        let x = Matrix::new(Dtype::F64, &rng.normals(6 * d), d);
        assert!((raw.len() as u64) > limit, "the limit is passed");
        let labelled = 8 * n as u64 <= limit;
        let answer = |machine: A, path: &Path| {
            let data = machine.open(path, labelled.then_some(&label_path), decoding).unwrap();
            everything(&machine, &data, labelled, &x)
        };
        if is_cuda() {
            // A device has its own copy of the rows.
            let refused = A::limited(1, limit).open(&path, None, decoding).err().expect("rows stay in the file");
            assert!(refused.status == MNEMO_E_UNSUPPORTED && refused.message.contains("memory_limit"), "{refused:?}");
            return;
        }
        let expected = answer(A::new(1), &path);
        for threads in [1, 3] {
            assert!(answer(A::limited(threads, limit), &path) == expected, "{descr} {n} x {d}, {threads} threads");
        }
        if descr == ">f8" {
            assert!(answer(A::limited(1, limit), &idx_path) == expected, "idx {n} x {d}");
        }
        if limit == 1 {
            let refused = A::limited(1, 1).open(&write("gz", &gzip(&npy(descr, &shape, &raw))), None, decoding);
            let refused = refused.err().unwrap();
            assert!(refused.status == MNEMO_E_NOMEM && refused.message.contains("uncompressed"), "{}", refused.message);
        }
    };
    case("<f4", 2500, 20, 1);
    case(">f2", 2500, 20, 8 * 2500);
    case("|u1", 2500, 20, 8 * 2500);
    case("|u1", 2600, 100, 8 * 2600);
    case("|u1", 1300, 785, 1);
    case(">f8", 1100, 37, 8 * 1100);
    case("<f8", 40, 5000, 1000);
    case(">f4", 300, 131, 8 * 300);
    case("<f8", 4100, 128, 4100 * 600);

    // What is refused of a file in memory is refused of one beyond it, in the same words.
    for bad in [f64::NAN, f64::INFINITY, -1e101] {
        let mut values = [1.0; 600];
        values[431] = bad;
        let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let path = write("bad.npy", &npy("<f8", "(60, 10)", &raw));
        let decoding = Decoding { scale: 1e-50, shift: 0.0 };
        let [memory, file] = [A::new(1), A::limited(1, 100)].map(|m| m.open(&path, None, decoding).err().unwrap());
        assert_eq!((memory.status, &memory.message), (MNEMO_E_INVALID, &file.message));
        assert!(file.message.contains("row 43, column 1"), "{}", file.message);
    }
    let header = npy("<f8", "(60, 10)", &[]);
    let fortran = [&header[..], &[0; 4800]].concat();
    let at = fortran.windows(5).position(|w| w == b"False").unwrap();
    let fortran = [&fortran[..at], b"True ", &fortran[at + 5..]].concat();
    for (name, file, status) in [
        ("fortran.npy", &fortran[..], MNEMO_E_UNSUPPORTED),
        ("short.npy", &[&header[..], &[0; 4799]].concat(), MNEMO_E_IO),
        ("long.npy", &[&header[..], &[0; 4801]].concat(), MNEMO_E_IO),
    ] {
        let refused = A::limited(1, 100).open(&write(name, file), None, Decoding::default()).err().unwrap();
        assert!(refused.status == status && refused.message.contains(name), "{}", refused.message);
    }
}

fn a_missing_file<A: Api>() {
    let failure = A::new(1).open(Path::new("/does/not/exist.npy"), None, Decoding::default()).err().unwrap();
    const ENOENT: i32 = 2;
    assert_eq!((failure.status, failure.native), (MNEMO_E_IO, ENOENT));
    assert!(failure.message.contains("/does/not/exist.npy"));
}
