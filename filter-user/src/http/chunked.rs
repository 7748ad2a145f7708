//! Reading a chunked body strictly: no extensions, no bare LF, trailers read and thrown away.

use bytes::{Buf, BytesMut};

/// The longest trailer section, in bytes.
const TRAILER_LIMIT: usize = 8 * 1024;
/// A chunk's size has at most this many digits.
const SIZE_DIGITS: usize = 15;

/// Where in a chunked body the reader stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chunked {
    Size,
    Data(u64),
    DataEnd,
    Trailers { read: usize },
    Done,
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It took something; there may be more to take.
    Moved,
    /// More bytes have to come first.
    Starved,
}

impl Chunked {
    /// Takes what is whole from `input` and writes it to `output` again as a chunked body.
    ///
    /// # Errors
    ///
    /// What is malformed.
    pub(crate) fn step(
        &mut self,
        input: &mut BytesMut,
        output: &mut BytesMut,
    ) -> Result<Progress, &'static str> {
        match *self {
            Self::Size => {
                let Some(line) = take_line(input, SIZE_DIGITS + 2, "chunk size is malformed")? else {
                    return Ok(Progress::Starved);
                };
                let text = std::str::from_utf8(&line).map_err(|_| "chunk size is malformed")?;
                // `from_str_radix` would take a sign.
                if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    return Err("chunk size is malformed");
                }
                let size = u64::from_str_radix(text, 16).map_err(|_| "chunk size is malformed")?;
                *self = if size == 0 { Self::Trailers { read: 0 } } else { Self::Data(size) };
            }
            Self::Data(left) => {
                if input.is_empty() {
                    return Ok(Progress::Starved);
                }
                let taken = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                output.extend_from_slice(format!("{taken:x}\r\n").as_bytes());
                output.extend_from_slice(&input[..taken]);
                output.extend_from_slice(b"\r\n");
                input.advance(taken);
                *self = match left - taken as u64 {
                    0 => Self::DataEnd,
                    left => Self::Data(left),
                };
            }
            Self::DataEnd => match take_line(input, 2, "chunk is longer than its size")? {
                None => return Ok(Progress::Starved),
                Some(line) if line.is_empty() => *self = Self::Size,
                Some(_) => return Err("chunk is longer than its size"),
            },
            Self::Trailers { read } => {
                let left = TRAILER_LIMIT - read.min(TRAILER_LIMIT);
                let Some(line) = take_line(input, left, "trailers are too long")? else {
                    return Ok(Progress::Starved);
                };
                if line.is_empty() {
                    output.extend_from_slice(b"0\r\n\r\n");
                    *self = Self::Done;
                } else {
                    let name = line.iter().position(|byte| *byte == b':').map(|colon| &line[..colon]);
                    let graphic = |name: &[u8]| !name.is_empty() && name.iter().all(u8::is_ascii_graphic);
                    if !name.is_some_and(graphic) {
                        return Err("trailer is malformed");
                    }
                    *self = Self::Trailers { read: read + line.len() + 2 };
                }
            }
            Self::Done => return Ok(Progress::Starved),
        }
        Ok(Progress::Moved)
    }
}

/// Takes a line that ends in CRLF, without it. `limit` counts the CRLF.
fn take_line(
    input: &mut BytesMut,
    limit: usize,
    too_long: &'static str,
) -> Result<Option<BytesMut>, &'static str> {
    let Some(end) = input.iter().take(limit).position(|byte| *byte == b'\n' || *byte == b'\r') else {
        return if input.len() >= limit { Err(too_long) } else { Ok(None) };
    };
    match (input[end], input.get(end + 1)) {
        (b'\r', Some(b'\n')) => {
            let line = input.split_to(end);
            input.advance(2);
            Ok(Some(line))
        }
        (b'\r', None) => Ok(None),
        _ => Err("bare CR or LF in a chunked body"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &[u8], piece: usize) -> Result<(Vec<u8>, Vec<u8>), &'static str> {
        let (mut state, mut input, mut output) = (Chunked::Size, BytesMut::new(), BytesMut::new());
        for piece in body.chunks(piece) {
            input.extend_from_slice(piece);
            while state.step(&mut input, &mut output)? == Progress::Moved {}
        }
        if state == Chunked::Done { Ok((output.to_vec(), input.to_vec())) } else { Err("not done") }
    }

    #[test]
    fn reads_the_same_however_it_is_cut() {
        let body = b"4\r\nWiki\r\n0005\r\npedia\r\n0\r\nX: y\r\n\r\nGET";
        assert_eq!(
            read(body, body.len()).unwrap(),
            (b"4\r\nWiki\r\n5\r\npedia\r\n0\r\n\r\n".to_vec(), b"GET".to_vec())
        );
        for piece in 1..body.len() {
            let (output, rest) = read(body, piece).unwrap();
            let data: Vec<u8> = output.iter().copied().filter(u8::is_ascii_alphabetic).collect();
            assert_eq!(data, b"Wikipedia", "pieces of {piece}");
            assert_eq!(rest, b"GET");
        }
    }

    #[test]
    fn refuses_what_others_read_differently() {
        for body in [
            &b"4;ext=1\r\nWiki\r\n0\r\n\r\n"[..],
            b"4\nWiki\r\n0\r\n\r\n",
            b"4\rWiki\r\n0\r\n\r\n",
            b" 4\r\nWiki\r\n0\r\n\r\n",
            b"+4\r\nWiki\r\n0\r\n\r\n",
            b"0x4\r\nWiki\r\n0\r\n\r\n",
            b"\r\nWiki\r\n0\r\n\r\n",
            b"4\r\nWikix\r\n0\r\n\r\n",
            b"4\r\nWiki\n0\r\n\r\n",
            b"10000000000000004\r\nWiki\r\n0\r\n\r\n",
            b"0\r\nbroken\r\n\r\n",
            b"0\r\n: x\r\n\r\n",
        ] {
            assert!(read(body, body.len()).is_err(), "{:?}", String::from_utf8_lossy(body));
            assert!(read(body, 1).is_err(), "{:?} byte by byte", String::from_utf8_lossy(body));
        }
    }
}
