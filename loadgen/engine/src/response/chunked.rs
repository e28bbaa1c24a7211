//! The framing of chunked bodies (RFC 9112 §7.1), byte by byte.

use super::misread::Rule;

/// The position of the parser in a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunk {
    /// In a size: its value so far, and whether it has a digit yet.
    Size(u64, bool),
    /// In blanks after a size.
    SizeBlank(u64),
    Extension(u64),
    SizeEnd(u64),
    Data(u64),
    DataEnd,
    DataEndLf,
    TrailerStart,
    /// In a line of the trailer section; whether the line has a colon or continues the one before.
    Trailer(bool),
    LastLf,
}

impl Chunk {
    /// The state at the start of a body.
    pub(super) const FIRST: Chunk = Chunk::Size(0, false);

    /// The state after one byte; `None` after the last. Lines of the trailer section may end with a
    /// lone LF, like all fields (RFC 9112 §2.2); chunk size lines may not.
    pub(super) fn step(self, byte: u8) -> Result<Option<Chunk>, Rule> {
        Ok(Some(match (self, byte) {
            (Chunk::Size(size, _), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                let size = size.checked_mul(16).ok_or(Rule::ChunkSize)?;
                Chunk::Size(size + u64::from(digit), true)
            }
            (Chunk::Size(size, true) | Chunk::SizeBlank(size) | Chunk::Extension(size), b'\r') => {
                Chunk::SizeEnd(size)
            }
            (Chunk::Size(size, true) | Chunk::SizeBlank(size), b' ' | b'\t') => {
                Chunk::SizeBlank(size)
            }
            (Chunk::Size(size, true) | Chunk::SizeBlank(size), b';') => Chunk::Extension(size),
            (Chunk::Extension(size), byte) if byte != b'\n' => Chunk::Extension(size),
            (Chunk::SizeEnd(0), b'\n') => Chunk::TrailerStart,
            (Chunk::SizeEnd(size), b'\n') => Chunk::Data(size),
            (Chunk::DataEnd, b'\r') => Chunk::DataEndLf,
            (Chunk::DataEndLf, b'\n') => Chunk::FIRST,
            (Chunk::DataEnd | Chunk::DataEndLf, _) => return Err(Rule::ChunkEnd),
            (Chunk::TrailerStart, b'\r') => Chunk::LastLf,
            (Chunk::TrailerStart | Chunk::LastLf, b'\n') => return Ok(None),
            (Chunk::TrailerStart, b' ' | b'\t') => Chunk::Trailer(true),
            (Chunk::TrailerStart, byte) => Chunk::Trailer(byte == b':'),
            (Chunk::Trailer(true), b'\n') => Chunk::TrailerStart,
            (Chunk::Trailer(has_colon), byte) if byte != b'\n' => {
                Chunk::Trailer(has_colon || byte == b':')
            }
            (Chunk::Trailer(false) | Chunk::LastLf, _) => return Err(Rule::NoColon),
            _ => return Err(Rule::ChunkSize),
        }))
    }
}
