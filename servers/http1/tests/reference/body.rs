//! Chunked bodies (9112 §7.1).

use http1::Limits;

use super::{BAD, Stop, TOO_LARGE, is_tchar};

/// The end of the chunked body that begins at `at`. Lines end in CR LF only. *Policy*: the bytes of extensions,
/// trailers and leading zeros together have the limit of a head; the first byte of each does not count.
pub(super) fn chunked(input: &[u8], at: usize, limits: &Limits) -> Result<usize, Stop> {
    let mut input = Input {
        bytes: input,
        at,
        overhead_left: limits.head_bytes_max,
    };
    let mut content_left = limits.body_bytes_max;
    loop {
        let size = input.chunk_size_line(content_left)?;
        if size == 0 {
            break;
        }
        content_left -= size;
        input.data(size)?;
        input.end_of_line()?;
    }
    while input.trailer_line()? {}
    Ok(input.at)
}

struct Input<'i> {
    bytes: &'i [u8],
    at: usize,
    overhead_left: usize,
}

impl Input<'_> {
    /// chunk-size [ chunk-ext ] CRLF
    fn chunk_size_line(&mut self, size_max: u64) -> Result<u64, Stop> {
        let mut zeros = 0;
        let mut digits = String::new();
        let mut byte = self.byte()?;
        while byte.is_ascii_hexdigit() {
            if byte == b'0' && digits.is_empty() {
                self.count_overhead()?;
                zeros += 1;
            } else {
                digits.push(byte.into());
            }
            if digits.len() > 16 {
                return Err(self.fault(BAD));
            }
            byte = self.byte()?;
        }
        if zeros + digits.len() == 0 || !matches!(byte, b'\r' | b';' | b' ' | b'\t') {
            return Err(self.fault(BAD));
        }
        let size = match &digits[..] {
            "" => 0,
            digits => u64::from_str_radix(digits, 16).expect("at most 16 digits"),
        };
        if size > size_max {
            return Err(self.fault("413 Content Too Large"));
        }
        if byte != b'\r' {
            self.extensions(byte)?;
        }
        self.expect(b'\n')?;
        Ok(size)
    }

    /// `*( BWS ";" BWS token [ BWS "=" BWS ( token / quoted-string ) ] )` from `byte` on (9112 §7.1.1), and
    /// the CR after it.
    fn extensions(&mut self, mut byte: u8) -> Result<(), Stop> {
        loop {
            byte = self.behind_space(byte)?;
            if byte != b';' {
                return Err(self.fault(BAD));
            }
            byte = self.overhead()?;
            byte = self.behind_space(byte)?;
            byte = self.behind_token(byte)?;
            let end = byte;
            byte = self.behind_space(byte)?;
            if byte == b'=' {
                byte = self.overhead()?;
                byte = self.behind_space(byte)?;
                byte = match byte {
                    b'"' => self.behind_quoted_string()?,
                    _ => self.behind_token(byte)?,
                };
                if byte == b'\r' {
                    return Ok(());
                }
            } else if end == b'\r' {
                return Ok(());
            }
        }
    }

    fn behind_space(&mut self, mut byte: u8) -> Result<u8, Stop> {
        while matches!(byte, b' ' | b'\t') {
            byte = self.overhead()?;
        }
        Ok(byte)
    }

    fn behind_token(&mut self, mut byte: u8) -> Result<u8, Stop> {
        if !is_tchar(byte.into()) {
            return Err(self.fault(BAD));
        }
        while is_tchar(byte.into()) {
            byte = self.overhead()?;
        }
        Ok(byte)
    }

    /// 9110 §5.6.4
    fn behind_quoted_string(&mut self) -> Result<u8, Stop> {
        loop {
            let byte = match self.overhead()? {
                b'"' => return self.overhead(),
                b'\\' => self.overhead()?,
                byte => byte,
            };
            if !is_text(byte) {
                return Err(self.fault(BAD));
            }
        }
    }

    fn data(&mut self, size: u64) -> Result<(), Stop> {
        let left = (self.bytes.len() - self.at) as u64;
        if size > left {
            return Err(Stop::Missing);
        }
        self.at += size as usize;
        Ok(())
    }

    fn end_of_line(&mut self) -> Result<(), Stop> {
        self.expect(b'\r')?;
        self.expect(b'\n')
    }

    /// Reads a trailer field (9112 §7.1.2); `false` for the empty line after the last one.
    fn trailer_line(&mut self) -> Result<bool, Stop> {
        let mut byte = self.byte()?;
        if byte == b'\r' {
            self.expect(b'\n')?;
            return Ok(false);
        }
        byte = self.behind_token(byte)?;
        if byte != b':' {
            return Err(self.fault(BAD));
        }
        loop {
            byte = self.overhead()?;
            match byte {
                b'\r' => break,
                byte if is_text(byte) => {}
                _ => return Err(self.fault(BAD)),
            }
        }
        self.expect(b'\n')?;
        Ok(true)
    }

    /// Reads a byte that counts as overhead.
    fn overhead(&mut self) -> Result<u8, Stop> {
        let byte = self.byte()?;
        self.count_overhead()?;
        Ok(byte)
    }

    fn byte(&mut self) -> Result<u8, Stop> {
        let byte = *self.bytes.get(self.at).ok_or(Stop::Missing)?;
        self.at += 1;
        Ok(byte)
    }

    fn expect(&mut self, expected: u8) -> Result<(), Stop> {
        match self.byte()? == expected {
            true => Ok(()),
            false => Err(self.fault(BAD)),
        }
    }

    fn count_overhead(&mut self) -> Result<(), Stop> {
        match self.overhead_left.checked_sub(1) {
            Some(left) => self.overhead_left = left,
            None => return Err(self.fault(TOO_LARGE)),
        }
        Ok(())
    }

    /// The fault is in the byte that was read last.
    fn fault(&self, status: &'static str) -> Stop {
        Stop::Fault(self.at, vec![status])
    }
}

/// Whether a byte may be in a field value or a quoted string (9110 §5.5, §5.6.4).
fn is_text(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}
