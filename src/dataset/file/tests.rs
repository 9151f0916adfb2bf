use super::*;
use std::io::Write;

fn npy_with(version: u8, header: &[u8], data: &[u8]) -> Vec<u8> {
    let length = (header.len() as u32).to_le_bytes();
    [b"\x93NUMPY", &[version, 0][..], &length[..if version == 1 { 2 } else { 4 }], header, data].concat()
}

fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    npy_with(1, format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}  \n").as_bytes(), data)
}

fn idx(code: u8, shape: &[u32], data: &[u8]) -> Vec<u8> {
    let sizes: Vec<u8> = shape.iter().flat_map(|s| s.to_be_bytes()).collect();
    [&[0, 0, code, shape.len() as u8], &sizes[..], data].concat()
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// What `read` makes of the file; an error has to name it first.
fn read<T>(path: &Path, limit: Option<u64>, read: fn(&Path, Option<u64>) -> Result<T>) -> Result<T> {
    read(path, limit).inspect_err(|e| assert!(e.to_string().starts_with(&format!("{}: ", path.display())), "{e}"))
}

fn rows(bytes: &[u8], limit: Option<u64>) -> Result<Rows> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    read(file.path(), limit, read_rows)
}

fn labels(bytes: &[u8], limit: Option<u64>) -> Result<Vec<i64>> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    read(file.path(), limit, read_labels)
}

/// The message of the refusal, which is an `Error::Io` of no system call.
fn malformed(bytes: &[u8]) -> String {
    match rows(bytes, None) {
        Err(Error::Io { message, native: 0 }) => message,
        other => panic!("{other:?}"),
    }
}

/// `$want` as a file of either byte order and format, plain and as two gzip members: all are to pass `$check`.
macro_rules! round_trips {
    ($want:expr, $kind:literal, $code:expr, $check:expr) => {{
        let little: Vec<u8> = $want.iter().flat_map(|v| v.to_le_bytes()).collect();
        let big: Vec<u8> = $want.iter().flat_map(|v| v.to_be_bytes()).collect();
        let native: Vec<u8> = $want.iter().flat_map(|v| v.to_ne_bytes()).collect();
        let orders = [("<", &little), (">", &big), ("=", &native), ("|", &native)];
        let mut files = orders.map(|(order, data)| npy(&format!("{order}{}", $kind), "(6, 1)", data)).to_vec();
        files.extend($code.map(|code: u8| idx(code, &[6, 1], &big)));
        for plain in files {
            $check([gz(&plain[..9]), gz(&plain[9..])].concat());
            $check(plain);
        }
    }};
}

#[test]
fn every_type_order_and_format_round_trips() {
    macro_rules! rows_of {
        ($variant:ident, $kind:literal, $code:expr, $from:expr) => {
            let want = [0u8, 1, 2, 100, 7, 255].map($from);
            round_trips!(want, $kind, $code, |file: Vec<u8>| {
                let Rows { stored: Stored::Memory(values), rows: 6, dim: 1 } = rows(&file, None).unwrap() else { panic!() };
                assert!(matches!(values, Values::$variant(v) if v == want));
            });
        };
    }
    rows_of!(F16, "f2", None, |v| f16::from_f32(v.into()));
    rows_of!(F32, "f4", Some(0x0D), |v| f32::from(v) / 3.0);
    rows_of!(F64, "f8", Some(0x0E), |v| f64::from(v) / 3.0);
    rows_of!(U8, "u1", Some(0x08), |v| v);
    macro_rules! labels_of {
        ($type:ty, $kind:literal, $code:expr, $largest:expr) => {
            let want: [$type; 6] = [0, 1, 42, 100, <$type>::MIN, $largest];
            round_trips!(want, $kind, $code, |file: Vec<u8>| {
                assert_eq!(labels(&file, None).unwrap(), want.map(|v| v as i64));
            });
        };
    }
    labels_of!(i8, "i1", Some(0x09), i8::MAX);
    labels_of!(i16, "i2", Some(0x0B), i16::MAX);
    labels_of!(i32, "i4", Some(0x0C), i32::MAX);
    labels_of!(i64, "i8", None, i64::MAX);
    labels_of!(u8, "u1", Some(0x08), u8::MAX);
    labels_of!(u16, "u2", None, u16::MAX);
    labels_of!(u32, "u4", None, u32::MAX);
    labels_of!(u64, "u8", None, i64::MAX as u64);
}

#[test]
fn more_than_one_block_arrives_whole() {
    let want: Vec<f32> = (0..3 * BLOCK / 4 + 5).map(|i| i as f32).collect();
    let data: Vec<u8> = want.iter().flat_map(|v| v.to_le_bytes()).collect();
    let plain = npy("<f4", &format!("({},)", want.len()), &data);
    for bytes in [gz(&plain), plain] {
        let got = rows(&bytes, Some(data.len() as u64)).unwrap();
        assert!(matches!(got.stored, Stored::Memory(Values::F32(v)) if v == want && v.capacity() == v.len()));
    }
}

#[test]
fn headers_in_any_spelling_and_no_other() {
    let good = b"{\"shape\":(1,2,3,) ,\t'descr' : \"u1\",'fortran_order':False}";
    for version in [1, 2, 3] {
        let got = rows(&npy_with(version, good, b"abcdef"), None).unwrap();
        assert_eq!((got.rows, got.dim), (1, 6));
    }
    let odd = "(1,2);(1,2)}x;(1,2),,};(1,2),'shape':(1,2)};(1,2),'more':1};(2)};(,)};(1 2)};(-1,2)};(1,2L)};\
        (1,99999999999999999999)};2};None};{};[1,2]}";
    let mut bad: Vec<_> =
        odd.split(';').map(|s| "{'descr':'|u1','fortran_order':False,'shape':".to_owned() + s).collect();
    bad.push(bad[0].clone() + &"(".repeat(60_000));
    bad.extend(["", "{}", "{", "[]", "{'descr':'|u1','shape':(1,2)}"].map(String::from));
    bad.push("{'descr':'|u1','fortran_order':0,'shape':(1,2)}".into());
    bad.push("{'descr':[('a','|u1')],'fortran_order':False,'shape':(1,2)}".into());
    for header in bad {
        let message = malformed(&npy_with(1, header.as_bytes(), b"ab"));
        assert!(message.contains("not a dict") && message.len() < 400, "{message}");
    }
    assert!(malformed(&npy_with(3, b"{'descr': '\xff'}", b"")).contains("not UTF-8"));
    assert!(malformed(&npy_with(2, &[b' '; 65537], b"")).contains("65537 bytes"));
    assert!(malformed(&npy_with(4, good, b"abcdef")).contains("version"));
    assert!(malformed(b"PK\x03\x04").contains("neither"));
}

#[test]
fn truncation_anywhere_is_an_error_and_corruption_no_panic() {
    for plain in [npy("<f4", "(2, 3)", &[7; 24]), idx(0x0D, &[2, 3], &[7; 24]), npy("<u4", "(6,)", &[7; 24])] {
        for mut bytes in [gz(&plain), plain] {
            for end in 0..bytes.len() {
                assert!(rows(&bytes[..end], None).is_err() && labels(&bytes[..end], None).is_err(), "{end}");
            }
            for (at, mask) in (0..bytes.len()).flat_map(|at| [1, 2, 8, 32, 128, 255].map(|mask| (at, mask))) {
                bytes[at] ^= mask;
                let _ = (rows(&bytes, Some(1 << 20)), labels(&bytes, Some(1 << 20)));
                bytes[at] ^= mask;
            }
        }
    }
}

#[test]
fn sizes_that_lie() {
    let short = npy("|u1", "(1797, 64)", &[0; 99]);
    for bytes in [gz(&short), short] {
        let want = ": the header promises 1797 x 64 U8 = 115008 bytes, the file holds 99 after the header";
        assert!(malformed(&bytes).ends_with(want));
    }
    assert!(malformed(&npy("|u1", "(2, 2)", &[0; 11])).ends_with("holds 11 after the header, 7 too many"));
    assert!(malformed(&idx(8, &[4], &[0; 5])).ends_with("holds 5 after the header, 1 too many"));
    let huge = "(4294967296, 4294967296, 4294967296)";
    assert!(malformed(&npy("<f8", huge, &[0; 8])).contains("more bytes than any file"));
    assert!(malformed(&gz(&idx(8, &[u32::MAX; 255], &[0; 8]))).contains("more bytes than any file"));

    let claim = npy("<f4", "(1000000000, 250000)", &[0; 100]);
    for bytes in [gz(&claim), claim.clone()] {
        assert!(malformed(&bytes).ends_with("= 1000000000000000 bytes, the file holds 100 after the header"));
    }
    let Err(Error::NoMemory(message)) = rows(&gz(&claim), Some(4096)) else { panic!() };
    assert!(message.contains("1000000000000000 bytes") && message.contains("limit is 4096"));
    // Labels take 8 bytes each, whatever the file stores.
    let three = npy("|u1", "(3,)", &[0; 3]);
    assert!(matches!(labels(&three, Some(23)), Err(Error::NoMemory(m)) if m.contains("24 bytes")));
    assert!(labels(&three, Some(24)).is_ok());

    // The bomb's last byte, of its length, is wrong: a reader that went that far would say so.
    let mut bomb = gz(&npy("|u1", "(4,)", &vec![0; 1 << 23]));
    *bomb.last_mut().unwrap() ^= 1;
    assert!(malformed(&bomb).ends_with("the file holds at least 1 more"));
    assert!(malformed(&[&gz(&three)[..], b"trailing"].concat()).contains("gzip"));
}

#[test]
fn types_orders_and_shapes_not_accepted() {
    for bytes in [npy("<c16", "(1,)", &[0; 16]), npy("", "(1,)", &[0]), idx(0x0C, &[1], &[0; 4])] {
        assert!(matches!(rows(&bytes, None), Err(Error::Dtype(m)) if m.contains("accepted are f2, f4, f8, u1")));
    }
    assert!(matches!(rows(&idx(0x0A, &[1], &[0]), None), Err(Error::Dtype(m)) if m.contains("type 0x0A")));
    assert!(matches!(labels(&npy("<f4", "(1,)", &[0; 4]), None), Err(Error::Dtype(m)) if m.contains("type f4")));
    assert!(matches!(labels(&npy("|u1", "(2, 2)", &[0; 4]), None), Err(Error::Shape(m)) if m.contains("2 x 2")));
    let above = labels(&npy("<u8", "(2,)", &[[0; 8], (1u64 << 63).to_le_bytes()].concat()), None);
    assert!(matches!(above, Err(Error::Invalid(m)) if m.contains("label 1 is 9223372036854775808")));
    let fortran = |shape| {
        let header = format!("{{'descr': '|u1', 'fortran_order': True, 'shape': {shape}}}");
        rows(&npy_with(1, header.as_bytes(), &[0; 6]), None)
    };
    assert!(matches!(fortran("(2, 3)"), Err(Error::Unsupported(m)) if m.contains("np.ascontiguousarray")));
    assert_eq!(fortran("(1, 6, 1)").unwrap().dim, 6);
    for shape in ["(0,)", "(3, 0)", "(18446744073709551615, 2, 0)"] {
        assert!(matches!(rows(&npy("<f4", shape, &[]), None), Err(Error::Invalid(m)) if m.contains("empty")));
    }
    for bytes in [npy("<f4", "()", &[0; 4]), idx(8, &[], &[0])] {
        assert!(matches!(rows(&bytes, None), Err(Error::Shape(_))));
    }
}

#[test]
fn only_regular_files_are_opened() {
    let folder = tempfile::tempdir().unwrap();
    let missing = read(&folder.path().join("missing.npy"), None, read_rows);
    assert!(matches!(missing, Err(Error::Io { native, .. }) if native != 0));
    let mut others = vec![folder.path().to_path_buf()];
    if cfg!(unix) {
        let fifo = folder.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        others.extend([fifo, "/dev/zero".into()]);
    }
    for path in others {
        let error = read(&path, None, read_labels).unwrap_err();
        assert!(matches!(error, Error::Io { message, native: 0 } if message.ends_with("not a regular file")));
    }
}
