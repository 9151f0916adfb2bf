//! A data set from a file is the data set of its numbers.

use crate::api::{Api, Call, Decoding, EVERYTHING, Empirical, Kind, Matrix};
use crate::data::Rng;
use flate2::{Compression, write::GzEncoder};
use mnemo::capi::status::MNEMO_E_IO;
use mnemo::tensor::Dtype;
use std::io::Write;
use std::path::{Path, PathBuf};

both!(files_hold_what_copies_hold, a_missing_file);

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

fn a_missing_file<A: Api>() {
    let failure = A::new(1).open(Path::new("/does/not/exist.npy"), None, Decoding::default()).err().unwrap();
    const ENOENT: i32 = 2;
    assert_eq!((failure.status, failure.native), (MNEMO_E_IO, ENOENT));
    assert!(failure.message.contains("/does/not/exist.npy"));
}
