//! Words of PTX text.

use crate::fault::ParseError;

/// One word. Names keep their dots, so `ld.global.f64` and `%tid.x` are one word each.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Word<'a> {
    Name(&'a str),
    Integer(u64),
    Float32(u32),
    Float64(u64),
    Text(&'a str),
    Sign(char),
    End,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Token<'a> {
    pub word: Word<'a>,
    pub line: u32,
}

/// Cuts `source` into words; comments and white space are dropped.
pub(crate) fn words(source: &str) -> Result<Vec<Token<'_>>, ParseError> {
    let bytes = source.as_bytes();
    let mut out = Vec::new();
    let (mut at, mut line) = (0, 1);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\n' => {
                line += 1;
                at += 1;
            }
            b' ' | b'\t' | b'\r' | 0 => at += 1,
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                while bytes.get(at).is_some_and(|&b| b != b'\n') {
                    at += 1;
                }
            }
            b'/' if bytes.get(at + 1) == Some(&b'*') => {
                at += 2;
                while at < bytes.len() && !bytes[at..].starts_with(b"*/") {
                    line += u32::from(bytes[at] == b'\n');
                    at += 1;
                }
                at += 2;
            }
            b'"' => {
                let start = at + 1;
                at = start;
                while bytes.get(at).is_some_and(|&b| b != b'"') {
                    line += u32::from(bytes[at] == b'\n');
                    at += 1;
                }
                out.push(Token { word: Word::Text(&source[start..at.min(bytes.len())]), line });
                at += 1;
            }
            b'0'..=b'9' => {
                let (word, next) =
                    number(source, at).ok_or_else(|| ParseError::at(source, line, "this is not a number PTX knows"))?;
                out.push(Token { word, line });
                at = next;
            }
            b if starts_name(b) => {
                let start = at;
                at += 1;
                loop {
                    match bytes.get(at) {
                        Some(&b) if continues_name(b) => at += 1,
                        // `L2::128B` within an opcode; a label ends in one colon.
                        Some(b':') if bytes.get(at + 1) == Some(&b':') => at += 2,
                        _ => break,
                    }
                }
                out.push(Token { word: Word::Name(&source[start..at]), line });
            }
            b if b.is_ascii() => {
                out.push(Token { word: Word::Sign(char::from(b)), line });
                at += 1;
            }
            _ => return Err(ParseError::at(source, line, "PTX is ASCII text")),
        }
    }
    out.push(Token { word: Word::End, line });
    Ok(out)
}

fn starts_name(b: u8) -> bool {
    b.is_ascii_alphabetic() || matches!(b, b'_' | b'$' | b'%' | b'.')
}

fn continues_name(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$' | b'.')
}

fn number(source: &str, start: usize) -> Option<(Word<'_>, usize)> {
    let bytes = source.as_bytes();
    let mut end = start;
    while bytes.get(end).is_some_and(|&b| b.is_ascii_alphanumeric() || b == b'.') {
        end += 1;
    }
    // An exponent's sign belongs to a decimal fraction only.
    let text = &source[start..end];
    if text.contains('.') && text.ends_with(['e', 'E']) && matches!(bytes.get(end), Some(b'+' | b'-')) {
        end += 1;
        while bytes.get(end).is_some_and(u8::is_ascii_digit) {
            end += 1;
        }
    }
    let text = &source[start..end];
    let word = match text.get(..2) {
        Some("0f" | "0F") => Word::Float32(u32::from_str_radix(&text[2..], 16).ok()?),
        Some("0d" | "0D") => Word::Float64(u64::from_str_radix(&text[2..], 16).ok()?),
        _ if text.contains('.') => Word::Float64(text.parse::<f64>().ok()?.to_bits()),
        prefix => {
            let digits = text.trim_end_matches(['U', 'u']);
            Word::Integer(match prefix {
                Some("0x" | "0X") => u64::from_str_radix(&digits[2..], 16).ok()?,
                Some("0b" | "0B") => u64::from_str_radix(&digits[2..], 2).ok()?,
                _ if digits.len() > 1 && digits.starts_with('0') => u64::from_str_radix(digits, 8).ok()?,
                _ => digits.parse().ok()?,
            })
        }
    };
    Some((word, end))
}
