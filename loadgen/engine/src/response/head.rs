//! Parses the head of a response (RFC 9112 §4, §5) line by line as it arrives.

use memchr::memchr;

use super::misread::Rule;

/// The content of a head's lines so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Head {
    /// 0 before the status line.
    pub(super) status: u16,
    minor: u8,
    close: bool,
    keep_alive: bool,
    pub(super) length: Length,
    pub(super) coding: Coding,
    /// Total length of the lines read so far.
    pub(super) bytes: usize,
}

/// The value of Content-Length.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Length {
    /// There is no such field.
    #[default]
    Absent,
    /// The length in bytes.
    Bytes(u64),
    /// The value is not a number, or two values differ.
    Invalid,
}

/// The value of Transfer-Encoding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Coding {
    /// There is no such field.
    #[default]
    Absent,
    /// The last coding is chunked.
    Chunked,
    /// The last coding is another one.
    Other,
    /// The chunked coding has a parameter, which is not allowed (RFC 9112 §7.1).
    Invalid,
}

/// The fault in a head, and where its line begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fault {
    pub(super) rule: Rule,
    pub(super) at: usize,
}

impl Head {
    /// Parses the complete lines of `input`. Returns their length, and whether the last one is the
    /// empty line that ends the head.
    ///
    /// A line ends with CR LF or a lone LF (RFC 9112 §2.2). Unless the line is empty, only the next
    /// byte shows whether it is complete: a blank continues the field on the next line (§5.2).
    /// says whether it is whole: a blank there folds the next line into it (§5.2).
    #[inline]
    pub(super) fn read(&mut self, input: &[u8]) -> Result<(usize, bool), Fault> {
        let mut at = 0;
        while let Some(end) = memchr(b'\n', &input[at..]) {
            let line = without_cr(&input[at..at + end]);
            let next = at + end + 1;
            if line.is_empty() && self.status != 0 {
                return Ok((next, true));
            }
            let (outcome, bytes) = match input.get(next) {
                None => break,
                Some(b' ' | b'\t') if !line.is_empty() => match folds_end(&input[at..], end) {
                    None => break,
                    Some(end) => (self.folded(line, &input[at..at + end]), at + end + 1),
                },
                Some(_) => (self.line(line), next),
            };
            outcome.map_err(|rule| Fault { rule, at })?;
            at = bytes;
        }
        match self.has_begun_well(&input[at..]) {
            Ok(()) => Ok((at, false)),
            Err(rule) => Err(Fault { rule, at }),
        }
    }

    /// Whether the connection may be reused (RFC 9112 §9.3). An HTTP/1.0 message with a
    /// Transfer-Encoding is faulty, and its connection is closed (§6.1).
    #[inline]
    pub(super) fn persists(&self) -> bool {
        !self.close && (self.minor > 0 || (self.keep_alive && self.coding == Coding::Absent))
    }

    /// Detects a fault in an unfinished line that no continuation can mend.
    #[cold]
    fn has_begun_well(&self, line: &[u8]) -> Result<(), Rule> {
        const START: &[u8] = b"HTTP/1.";
        let (text, ended) = match memchr(b'\n', line) {
            Some(end) => (without_cr(&line[..end]), true),
            None => (line, false),
        };
        match (self.status, ended) {
            (0, true) if text.is_empty() => Ok(()),
            (0, true) => status_line(text).map(drop),
            (0, false) => match START.starts_with(&text[..text.len().min(START.len())]) {
                _ if text == b"\r" => Ok(()),
                true => Ok(()),
                false => Err(Rule::StatusLine),
            },
            (_, true) if memchr(b':', text).is_none() => Err(Rule::NoColon),
            _ => Ok(()),
        }
    }

    #[inline]
    fn line(&mut self, line: &[u8]) -> Result<(), Rule> {
        match self.status {
            0 => self.first_line(line),
            _ => self.field(line),
        }
    }

    /// Parses the status line, or an empty line before it (RFC 9112 §2.2).
    #[inline]
    fn first_line(&mut self, line: &[u8]) -> Result<(), Rule> {
        match status_line(line) {
            Ok((minor, status)) => (self.minor, self.status) = (minor, status),
            Err(_) if line.is_empty() => {}
            Err(rule) => return Err(rule),
        }
        Ok(())
    }

    /// Parses a line; `all` includes its continuations. A line end with the blanks around it counts
    /// as blanks (RFC 9112 §5.2). A continuation of the status line belongs to no field and is
    /// ignored (§2.2).
    #[cold]
    fn folded(&mut self, line: &[u8], all: &[u8]) -> Result<(), Rule> {
        if self.status == 0 {
            return self.first_line(line);
        }
        if memchr(b':', line).is_none() {
            return Err(Rule::NoColon);
        }
        let unfolded: Vec<u8> = (all.iter())
            .map(|&byte| if byte == b'\n' { b' ' } else { byte })
            .collect();
        self.field(&unfolded)
    }

    #[inline]
    fn field(&mut self, line: &[u8]) -> Result<(), Rule> {
        let colon = memchr(b':', line).ok_or(Rule::NoColon)?;
        let mut name = &line[..colon];
        // A proxy must remove these blanks (RFC 9112 §5.1), so they are meaningless.
        if name.last().is_some_and(|&byte| is_blank(byte)) {
            name = trim_end(name);
        }
        let value = &line[colon + 1..];
        // Comparing lengths first is fast: most header fields are none of these.
        match name.len() {
            14 if is(name, b"Content-Length") => self.content_length(value),
            17 if is(name, b"Transfer-Encoding") => self.transfer_encoding(value),
            10 if is(name, b"Connection") => self.connection(value),
            _ => {}
        }
        Ok(())
    }

    /// A list of equal numbers counts as one number (RFC 9112 §6.3).
    #[inline]
    fn content_length(&mut self, value: &[u8]) {
        let length = match decimal(trim(value)) {
            Some(bytes) => Length::Bytes(bytes),
            None => one_of_all(value).map_or(Length::Invalid, Length::Bytes),
        };
        self.length = match self.length {
            Length::Absent => length,
            earlier if earlier == length => length,
            _ => Length::Invalid,
        };
    }

    /// The codings of several fields form one list (RFC 9110 §5.3).
    #[inline(never)]
    fn transfer_encoding(&mut self, value: &[u8]) {
        let Some(last) = list(value).last() else {
            return;
        };
        let (name, has_parameter) = match memchr(b';', last) {
            Some(end) => (trim_end(&last[..end]), true),
            None => (last, false),
        };
        self.coding = match (name.eq_ignore_ascii_case(b"chunked"), has_parameter) {
            (true, false) => Coding::Chunked,
            (true, true) => Coding::Invalid,
            (false, _) => Coding::Other,
        };
    }

    fn connection(&mut self, value: &[u8]) {
        for option in list(value) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }
}

/// The end of the last continuation line after `end`, once it is known.
#[cold]
fn folds_end(input: &[u8], mut end: usize) -> Option<usize> {
    while let b' ' | b'\t' = *input.get(end + 1)? {
        end += 1 + memchr(b'\n', &input[end + 1..])?;
    }
    Some(end)
}

#[inline]
fn without_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Parses `HTTP/1.x SSS reason`: the minor version and the status.
#[inline]
fn status_line(line: &[u8]) -> Result<(u8, u16), Rule> {
    let [
        b'H',
        b'T',
        b'T',
        b'P',
        b'/',
        b'1',
        b'.',
        minor,
        b' ',
        a,
        b,
        c,
        rest @ ..,
    ] = line
    else {
        return Err(Rule::StatusLine);
    };
    let digits = [minor, a, b, c];
    if !digits.iter().all(|byte| byte.is_ascii_digit()) || !matches!(rest, [] | [b' ', ..]) {
        return Err(Rule::StatusLine);
    }
    let [minor, a, b, c] = digits.map(|byte| byte - b'0');
    match u16::from(a) * 100 + u16::from(b) * 10 + u16::from(c) {
        status @ 100.. => Ok((minor, status)),
        _ => Err(Rule::StatusLine),
    }
}

/// Compares a field name, trying the usual spelling first: nearly all servers use it, and the
/// comparison is fast.
#[inline]
fn is<const N: usize>(name: &[u8], usual: &[u8; N]) -> bool {
    name == usual || name.eq_ignore_ascii_case(usual)
}

/// A CR outside a line end counts as a blank (RFC 9112 §2.2).
#[inline]
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r')
}

#[inline]
fn trim(mut value: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = value
        && is_blank(*first)
    {
        value = rest;
    }
    trim_end(value)
}

#[inline]
fn trim_end(mut value: &[u8]) -> &[u8] {
    while let [rest @ .., last] = value
        && is_blank(*last)
    {
        value = rest;
    }
    value
}

/// The non-empty elements of a list (RFC 9110 §5.6.1).
fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let elements = value.split(|&byte| byte == b',').map(trim);
    elements.filter(|element| !element.is_empty())
}

/// The number that all elements of a list share.
#[cold]
fn one_of_all(value: &[u8]) -> Option<u64> {
    let mut numbers = list(value).map(decimal);
    let first = numbers.next()??;
    numbers.all(|number| number == Some(first)).then_some(first)
}

#[inline]
fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0u64, |number, byte| match byte {
        b'0'..=b'9' => number.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })
}
