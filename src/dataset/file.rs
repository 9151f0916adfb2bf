//! Training sets and labels from `.npy` (versions 1 to 3) and IDX files, plain or gzip-compressed.
//!
//! Files are not trusted: a header is compared with the bytes that are there before memory is taken for what it
//! promises, and where that cannot be known (gzip) memory grows only as the bytes arrive.

use super::stored::{Elements, Stored};
use crate::error::{Error, Result, try_vec};
use crate::tensor::{Dtype, Values};
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
#[derive(Debug)]
pub struct Rows {
    /// `rows * dim` elements, row after row.
    pub stored: Stored,
    /// The first dimension of the file's array.
    pub rows: usize,
    /// The product of its other dimensions (1 where there are none).
    pub dim: usize,
}

/// Reads a training set: npy `f2`, `f4`, `f8` or `u1` of either byte order, or IDX types 0x08, 0x0D or 0x0E.
///
/// Values of more than `memory_limit` bytes stay in the file, if it is a plain one. They are not checked for NaN or infinity.
pub fn read_rows(path: &Path, memory_limit: Option<u64>) -> Result<Rows> {
    let mut source = Source::open(path, memory_limit)?;
    let header = source.header()?;
    if header.fortran && header.shape.iter().filter(|&&d| d > 1).count() > 1 {
        return Err(Error::unsupported(format!(
            "{}: the array is stored in Fortran order; save it again with np.save(file, np.ascontiguousarray(a))",
            source.name
        )));
    }
    let dtype = match header.kind.as_str() {
        "f2" => Dtype::F16,
        "f4" => Dtype::F32,
        "f8" => Dtype::F64,
        "u1" => Dtype::U8,
        other => return Err(source.dtype(other, "rows", "f2, f4, f8, u1 (npy) and 0x08, 0x0D, 0x0E (IDX)")),
    };
    let stored = if let Some(elements) = source.left_in_file(&header, dtype)? {
        Stored::File(elements)
    } else {
        Stored::Memory(match dtype {
            Dtype::F16 => Values::F16(source.elements(&header, f16::from_le_bytes)?),
            Dtype::F32 => Values::F32(source.elements(&header, f32::from_le_bytes)?),
            Dtype::F64 => Values::F64(source.elements(&header, f64::from_le_bytes)?),
            _ => Values::U8(source.elements(&header, u8::from_le_bytes)?),
        })
    };
    // That many elements have been counted and no dimension is 0: neither number can overflow.
    let dim = header.shape[1..].iter().product::<u64>() as usize;
    Ok(Rows { stored, rows: header.shape[0] as usize, dim })
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
    /// The file itself and its length, unless it is compressed.
    plain: Option<(File, u64)>,
    /// The bytes not read yet; unknown under gzip.
    left: Option<u64>,
    memory_limit: Option<u64>,
}

impl Source {
    fn open(path: &Path, memory_limit: Option<u64>) -> Result<Self> {
        let name = if path.as_os_str().is_empty() { "path is empty".into() } else { path.display().to_string() };
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
        let plain = if gzip { None } else { Some((file.try_clone().map_err(io)?, length)) };
        let reader: Box<dyn Read> = if gzip { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
        Ok(Self { name, reader, plain, left: (!gzip).then_some(length), memory_limit })
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

    /// The bytes of the array, of elements of `size` bytes, which a plain file holds exactly; and the header's promise of
    /// them, for messages.
    fn promised(&self, header: &Header, size: usize) -> Result<(u64, String)> {
        let name = format!("{}{}", header.kind[..1].to_uppercase(), 8 * size);
        let promise = format!("the header promises {} {name}", header.sizes());
        let Some(bytes) = header.shape.iter().try_fold(size as u64, |product, &size| product.checked_mul(size)) else {
            return self.malformed(format!("{promise}, more bytes than any file can hold"));
        };
        let promise = format!("{promise} = {bytes} bytes, the file holds");
        if let Some(left) = self.left.filter(|&left| left != bytes) {
            let excess = left.checked_sub(bytes).map(|n| format!(", {n} too many")).unwrap_or_default();
            return self.malformed(format!("{promise} {left} after the header{excess}"));
        }
        Ok((bytes, promise))
    }

    /// The array, to be read later, if the memory limit is too small for it and the file can be read at any place.
    fn left_in_file(&mut self, header: &Header, dtype: Dtype) -> Result<Option<Elements>> {
        let (bytes, _) = self.promised(header, dtype.size())?;
        let beyond = self.memory_limit.is_some_and(|limit| bytes > limit) && usize::try_from(bytes).is_ok();
        match self.plain.take_if(|_| beyond) {
            None => Ok(None),
            Some((file, length)) => {
                Elements::new(file, self.name.clone(), length - bytes, dtype, header.big_endian).map(Some)
            }
        }
    }

    /// The array itself: elements of `W` bytes, which `convert` takes in little-endian order.
    fn elements<T, const W: usize>(&mut self, header: &Header, convert: impl Fn([u8; W]) -> T) -> Result<Vec<T>> {
        let (bytes, promise) = self.promised(header, W)?;
        let count = bytes / W as u64;
        let memory = u128::from(count) * size_of::<T>() as u128;
        if let Some(limit) = self.memory_limit.filter(|&limit| memory > limit.into()) {
            let name = &self.name;
            let hint = if self.left.is_some() { "" } else { "; rows of an uncompressed file may exceed it" };
            return Err(Error::NoMemory(format!(
                "{name}: {memory} bytes are needed, the memory limit is {limit}{hint}"
            )));
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
mod tests;
