//! Training sets and labels from `.npy` (versions 1 to 3) and IDX files, plain or gzip-compressed.
//!
//! Files are not trusted: a header is compared with the bytes that are there before memory is taken for what it
//! promises, and where that cannot be known (gzip) memory grows only as the bytes arrive.

use crate::error::{Error, Result, try_vec};
use crate::tensor::Values;
use flate2::read::MultiGzDecoder;
use half::f16;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek};
use std::path::Path;

/// Bytes read and converted at a time: they stay in the processor's cache between the two.
const BLOCK: usize = 1 << 18;

/// The longest npy header accepted; numpy itself refuses to parse more than 10 000 bytes.
const MAX_HEADER: u32 = 1 << 16;

/// A matrix of rows, in the file's own element type.
#[derive(Clone, Debug)]
pub struct Rows {
    /// `rows * dim` elements, row after row.
    pub values: Values,
    /// The first dimension of the file's array.
    pub rows: usize,
    /// The product of its other dimensions (1 where there are none).
    pub dim: usize,
}

/// Reads a training set: npy `f2`, `f4`, `f8` or `u1` of either byte order, or IDX types 0x08, 0x0D or 0x0E.
///
/// The values may take at most `memory_limit` bytes. They are not checked for NaN or infinity.
pub fn read_rows(path: &Path, memory_limit: Option<u64>) -> Result<Rows> {
    let mut source = Source::open(path, memory_limit)?;
    let header = source.header()?;
    if header.fortran && header.shape.iter().filter(|&&d| d > 1).count() > 1 {
        return Err(Error::unsupported(format!(
            "{}: the array is stored in Fortran order; save it again with np.save(file, np.ascontiguousarray(a))",
            source.name
        )));
    }
    let values = match header.kind.as_str() {
        "f2" => Values::F16(source.elements(&header, f16::from_le_bytes)?),
        "f4" => Values::F32(source.elements(&header, f32::from_le_bytes)?),
        "f8" => Values::F64(source.elements(&header, f64::from_le_bytes)?),
        "u1" => Values::U8(source.elements(&header, u8::from_le_bytes)?),
        other => return Err(source.dtype(other, "rows", "f2, f4, f8, u1 (npy) and 0x08, 0x0D, 0x0E (IDX)")),
    };
    // That many elements are in memory and no dimension is 0: neither number can overflow.
    let dim = header.shape[1..].iter().product::<u64>() as usize;
    Ok(Rows { values, rows: header.shape[0] as usize, dim })
}

/// Reads labels: integers of shape `[N]` or `[N, 1]`, npy `i1` to `i8` and `u1` to `u8` of either byte order, or IDX
/// types 0x08, 0x09, 0x0B or 0x0C.
///
/// The labels may take at most `memory_limit` bytes, at 8 bytes each.
pub fn read_labels(path: &Path, memory_limit: Option<u64>) -> Result<Vec<i64>> {
    let mut source = Source::open(path, memory_limit)?;
    let header = source.header()?;
    if !matches!(header.shape[..], [_] | [_, 1]) {
        let (name, sizes) = (&source.name, header.sizes());
        return Err(Error::shape(format!("{name}: labels of sizes {sizes}; accepted are N and N x 1")));
    }
    match header.kind.as_str() {
        "i1" => source.elements(&header, |b| i64::from(i8::from_le_bytes(b))),
        "i2" => source.elements(&header, |b| i64::from(i16::from_le_bytes(b))),
        "i4" => source.elements(&header, |b| i64::from(i32::from_le_bytes(b))),
        "i8" => source.elements(&header, i64::from_le_bytes),
        "u1" => source.elements(&header, |b| i64::from(u8::from_le_bytes(b))),
        "u2" => source.elements(&header, |b| i64::from(u16::from_le_bytes(b))),
        "u4" => source.elements(&header, |b| i64::from(u32::from_le_bytes(b))),
        "u8" => {
            // Read as signed, exactly the values above i64::MAX come out negative.
            let labels = source.elements(&header, i64::from_le_bytes)?;
            let Some(i) = labels.iter().position(|&label| label < 0) else { return Ok(labels) };
            let (name, label) = (&source.name, labels[i] as u64);
            Err(Error::invalid(format!("{name}: label {i} is {label}; at most {} is accepted", i64::MAX)))
        }
        other => Err(source.dtype(other, "labels", "i1 to i8, u1 to u8 (npy) and 0x08, 0x09, 0x0B, 0x0C (IDX)")),
    }
}

/// What a header of either format says.
struct Header {
    /// The element type as npy writes it, without the byte order: `f4`.
    kind: String,
    big_endian: bool,
    fortran: bool,
    shape: Vec<u64>,
}

impl Header {
    fn sizes(&self) -> String {
        excerpt(&self.shape.iter().map(u64::to_string).collect::<Vec<_>>().join(" x "))
    }
}

/// An open file, and what is needed to complain about it.
struct Source {
    name: String,
    reader: Box<dyn Read>,
    /// The bytes not read yet; unknown under gzip.
    left: Option<u64>,
    memory_limit: Option<u64>,
}

impl Source {
    fn open(path: &Path, memory_limit: Option<u64>) -> Result<Self> {
        let name = path.display().to_string();
        let io = |e| Error::io(&name, &e);
        // Asked before opening: opening a FIFO would wait for a writer.
        if !std::fs::metadata(path).map_err(io)?.is_file() {
            return Err(Error::file(format!("{name}: not a regular file")));
        }
        let mut file = File::open(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        let mut magic = Vec::new();
        file.by_ref().take(2).read_to_end(&mut magic).map_err(io)?;
        file.rewind().map_err(io)?;
        let gzip = magic == [0x1f, 0x8b];
        let reader: Box<dyn Read> = if gzip { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
        Ok(Self { name, reader, left: (!gzip).then_some(length), memory_limit })
    }

    fn malformed<T>(&self, what: impl std::fmt::Display) -> Result<T> {
        Err(Error::file(format!("{}: {what}", self.name)))
    }

    fn dtype(&self, kind: &str, what: &str, accepted: &str) -> Error {
        let (name, kind) = (&self.name, excerpt(kind));
        Error::dtype(format!("{name}: element type {kind} is not accepted for {what}; accepted are {accepted}"))
    }

    /// Fills `buffer` as far as the file goes, and says how far that is.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.reader.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.raw_os_error().is_some() => return Err(Error::io(&self.name, &e)),
                Err(e) => return self.malformed(format!("the gzip stream is damaged or cut short: {e}")),
            }
        }
        self.left = self.left.map(|left| left.saturating_sub(filled as u64));
        Ok(filled)
    }

    /// Fills `buffer` with the next bytes of the header.
    fn all<B: AsMut<[u8]>>(&mut self, mut buffer: B) -> Result<B> {
        if self.fill(buffer.as_mut())? < buffer.as_mut().len() {
            return self.malformed("the file ends within its npy or IDX header");
        }
        Ok(buffer)
    }

    fn header(&mut self) -> Result<Header> {
        let header = match self.all([0; 4])? {
            [0x93, b'N', b'U', b'M'] => self.npy()?,
            [0, 0, code, dimensions] => self.idx(code, dimensions)?,
            _ => return self.malformed("neither an npy nor an IDX file"),
        };
        let name = &self.name;
        if header.shape.is_empty() {
            return Err(Error::shape(format!("{name}: the array has no dimensions; at least 1 is needed")));
        }
        if header.shape.contains(&0) {
            return Err(Error::invalid(format!("{name}: empty data: the sizes are {}", header.sizes())));
        }
        Ok(header)
    }

    fn idx(&mut self, code: u8, dimensions: u8) -> Result<Header> {
        let known = [(0x08, "u1"), (0x09, "i1"), (0x0B, "i2"), (0x0C, "i4"), (0x0D, "f4"), (0x0E, "f8")];
        let kind = known.iter().find(|k| k.0 == code).map_or_else(|| format!("0x{code:02X}"), |k| k.1.to_string());
        let shape = (0..dimensions).map(|_| Ok(u32::from_be_bytes(self.all([0; 4])?).into())).collect::<Result<_>>()?;
        Ok(Header { kind, big_endian: true, fortran: false, shape })
    }

    fn npy(&mut self) -> Result<Header> {
        let length = match self.all([0; 4])? {
            [b'P', b'Y', 1, 0] => u16::from_le_bytes(self.all([0; 2])?).into(),
            [b'P', b'Y', 2 | 3, 0] => u32::from_le_bytes(self.all([0; 4])?),
            version => {
                let version = version.escape_ascii();
                return self.malformed(format!("npy version '{version}'; accepted are 1.0, 2.0 and 3.0"));
            }
        };
        if length > MAX_HEADER {
            return self.malformed(format!("an npy header of {length} bytes; at most {MAX_HEADER} are accepted"));
        }
        let text = self.all(vec![0; length as usize])?;
        let Ok(text) = std::str::from_utf8(&text) else { return self.malformed("the npy header is not UTF-8 text") };
        let Some(header) = Parser(text).header() else {
            let wanted = "a dict of a plain 'descr', 'fortran_order' and 'shape'";
            return self.malformed(format!("the npy header is not {wanted}: {}", excerpt(text)));
        };
        Ok(header)
    }

    /// The array itself: elements of `W` bytes, which `convert` takes in little-endian order.
    fn elements<T, const W: usize>(&mut self, header: &Header, convert: impl Fn([u8; W]) -> T) -> Result<Vec<T>> {
        let name = format!("{}{}", header.kind[..1].to_uppercase(), 8 * W);
        let promise = format!("the header promises {} {name}", header.sizes());
        let Some(bytes) = header.shape.iter().try_fold(W as u64, |product, &size| product.checked_mul(size)) else {
            return self.malformed(format!("{promise}, more bytes than any file can hold"));
        };
        let promise = format!("{promise} = {bytes} bytes, the file holds");
        if let Some(left) = self.left.filter(|&left| left != bytes) {
            let excess = left.checked_sub(bytes).map(|n| format!(", {n} too many")).unwrap_or_default();
            return self.malformed(format!("{promise} {left} after the header{excess}"));
        }
        let count = bytes / W as u64;
        let memory = u128::from(count) * size_of::<T>() as u128;
        if let Some(limit) = self.memory_limit.filter(|&limit| memory > limit.into()) {
            let name = &self.name;
            return Err(Error::NoMemory(format!("{name}: {memory} bytes are needed, the memory limit is {limit}")));
        }
        let count = usize::try_from(count).map_err(|_| Error::no_memory(memory, &self.name))?;

        let mut block = try_vec(count.min(BLOCK / W) * W, 0, &self.name)?;
        let mut values = Vec::new();
        while values.len() < count {
            let missing = count - values.len();
            let block = &mut block[..missing.min(BLOCK / W) * W];
            let filled = self.fill(block)?;
            if filled < block.len() {
                return self.malformed(format!("{promise} {} after the header", values.len() * W + filled));
            }
            let (chunks, _) = block.as_chunks_mut::<W>();
            if values.capacity() - values.len() < chunks.len() {
                // A plain file has been seen to hold everything; under gzip, double what has arrived.
                let more = if self.left.is_some() { missing } else { values.len().max(chunks.len()).min(missing) };
                values.try_reserve_exact(more).map_err(|_| Error::no_memory(memory, &self.name))?;
            }
            if header.big_endian {
                chunks.iter_mut().for_each(|chunk| chunk.reverse());
            }
            values.extend(chunks.iter().map(|&chunk| convert(chunk)));
        }
        // Under gzip only this shows more data, and only reaching the end has the checksum verified.
        if self.fill(&mut [0])? > 0 {
            return self.malformed(format!("{promise} at least 1 more"));
        }
        Ok(values)
    }
}

/// The rest of an npy header, a Python dict. `None` from any method: the text is not what numpy writes.
struct Parser<'a>(&'a str);

impl<'a> Parser<'a> {
    /// Skips white space and then `token`; skips nothing where the token does not follow.
    fn eat(&mut self, token: &str) -> Option<()> {
        self.0 = self.0.trim_ascii_start().strip_prefix(token)?;
        Some(())
    }

    fn quoted(&mut self) -> Option<&'a str> {
        let quote = if self.eat("'").is_some() { '\'' } else { self.eat("\"").map(|()| '"')? };
        let (text, rest) = self.0.split_once(quote)?;
        self.0 = rest;
        Some(text)
    }

    fn boolean(&mut self) -> Option<bool> {
        let yes = self.eat("True").is_some();
        (yes || self.eat("False").is_some()).then_some(yes)
    }

    fn number(&mut self) -> Option<u64> {
        self.eat("")?;
        let (digits, rest) = self.0.split_at(self.0.find(|c: char| !c.is_ascii_digit())?);
        self.0 = rest;
        digits.parse().ok()
    }

    /// Items with commas between them, and whether a comma may be thought to stand after the last.
    fn list(&mut self, open: &str, close: &str, mut item: impl FnMut(&mut Self) -> Option<()>) -> Option<bool> {
        self.eat(open)?;
        let mut comma = true;
        while self.eat(close).is_none() {
            if !comma {
                return None;
            }
            item(self)?;
            comma = self.eat(",").is_some();
        }
        Some(comma)
    }

    fn shape(&mut self) -> Option<Vec<u64>> {
        let mut shape = Vec::new();
        let comma = self.list("(", ")", |p| p.number().map(|size| shape.push(size)))?;
        // Python reads (3) as a number; only (3,) is a shape.
        (comma || shape.len() != 1).then_some(shape)
    }

    fn header(mut self) -> Option<Header> {
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        self.list("{", "}", |p| {
            let key = p.quoted()?;
            p.eat(":")?;
            let is_new = match key {
                "descr" => descr.replace(p.quoted()?).is_none(),
                "fortran_order" => fortran.replace(p.boolean()?).is_none(),
                "shape" => shape.replace(p.shape()?).is_none(),
                _ => false,
            };
            is_new.then_some(())
        })?;
        self.eat("")?;
        let (descr, fortran, shape) = (descr?, fortran?, shape?);
        // '=', '|' and nothing at all mean the machine's own order.
        let big_endian = descr.starts_with('>') || (cfg!(target_endian = "big") && !descr.starts_with('<'));
        let kind = descr.strip_prefix(['<', '>', '=', '|']).unwrap_or(descr).to_string();
        self.0.is_empty().then_some(Header { kind, big_endian, fortran, shape })
    }
}

/// The beginning of a text from a file, fit for a message.
fn excerpt(text: &str) -> String {
    text.chars().take(100).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
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
                    let Rows { values, rows: 6, dim: 1 } = rows(&file, None).unwrap() else { panic!() };
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
            assert!(matches!(got.values, Values::F32(v) if v == want && v.capacity() == v.len()));
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
}
