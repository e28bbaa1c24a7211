//! Files that grow line by line. All readers treat them alike: bytes after the last line end were
//! cut off by a kill and are left out; any other deviation from the format is damage, reported with
//! line and column.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use csv::StringRecord;
use nix::libc;
use serde::de::DeserializeOwned;

use super::{Error, io_error};
use engine::foreign;

/// The largest count, time or rate that a record may contain.
const FIGURE_MAX: f64 = 1e18;

/// The smallest nonzero value that a record may contain: times and shares are written with six
/// decimals.
const FIGURE_MIN: f64 = 1e-12;

/// The bytes of a file; `None` if it does not exist. Anything but a regular file, such as a pipe,
/// is damage: reading it might never end.
pub fn bytes_of(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let failed = io_error("reading", path);
    let mut options = OpenOptions::new();
    // With this flag, opening a pipe does not wait for a writer.
    let opened = (options.read(true).custom_flags(libc::O_NONBLOCK)).open(path);
    let mut file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if !file.metadata().map_err(&failed)?.is_file() {
        return Err(Error::Damaged {
            path: path.to_owned(),
            line: None,
            column: None,
            message: "not a regular file".to_owned(),
        });
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(&failed)?;
    Ok(Some(bytes))
}

/// The complete lines of a file.
#[derive(Debug)]
pub(super) struct Lines<'a> {
    path: &'a Path,
    text: &'a str,
    /// The number of bytes after the last line end.
    pub(super) cut_off: usize,
}

impl<'a> Lines<'a> {
    /// The lines of the file `path` with this content.
    pub(super) fn of(path: &'a Path, bytes: &'a [u8]) -> Result<Self, Error> {
        let end = bytes.iter().rposition(|&byte| byte == b'\n');
        let (whole, rest) = bytes.split_at(end.map_or(0, |end| end + 1));
        let text = text(path, whole)?;
        for (number, line) in numbered(text) {
            if line.ends_with('\r') {
                let message = "the line ends with CR LF: the line ends of this file were converted";
                let column = line.chars().count();
                return Err(damaged(path, number, column, message));
            }
        }
        Ok(Lines {
            path,
            text,
            cut_off: rest.len(),
        })
    }

    /// The path of the file.
    pub(super) fn path(&self) -> &'a Path {
        self.path
    }

    /// All lines, with their ends.
    pub(super) fn text(&self) -> &'a str {
        self.text
    }

    /// Each line with its number, without its end.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &'a str)> + use<'a> {
        numbered(self.text)
    }

    /// A message if something was left out.
    pub(super) fn remark(&self) -> Option<String> {
        (self.cut_off > 0).then(|| {
            format!(
                "{}:{}: the last line is incomplete, as after a kill, and is left out",
                foreign::path(self.path),
                self.text.lines().count() + 1
            )
        })
    }

    /// The names of the columns, from the first line.
    pub(super) fn header(&self) -> Result<StringRecord, Error> {
        let line = self.text.lines().next().unwrap_or_default();
        self.record(1, line)
    }

    /// The rows after the first line, each with its number.
    pub(super) fn rows<T: DeserializeOwned>(
        &self,
        header: &StringRecord,
        signed: &[&str],
    ) -> Result<Vec<(u64, T)>, Error> {
        let mut rows = Vec::new();
        let mut figures: Option<Vec<bool>> = None;
        for (number, line) in self.iter().skip(1) {
            let record = self.record(number, line)?;
            if record.len() != header.len() {
                let message = format!("{} columns instead of {}", record.len(), header.len());
                return Err(damaged(self.path, number, 1, message));
            }
            let at = |field: usize, message: String| {
                let name = header.get(field).unwrap_or_default();
                let message = format!("column `{name}`: {message}");
                damaged(self.path, number, column_of(line, field), message)
            };
            let row = match record.deserialize(Some(header)) {
                Ok(row) => row,
                Err(error) => {
                    let field = culprit::<T>(&error, &record, header);
                    return Err(at(field, reason(&error)));
                }
            };
            let figures = figures.get_or_insert_with(|| are_figures::<T>(&record, header));
            for (field, value) in record.iter().enumerate() {
                let is_signed = signed.contains(&header.get(field).unwrap_or_default());
                if figures[field]
                    && let Err(message) = check_figure(value, is_signed)
                {
                    return Err(at(field, message));
                }
            }
            rows.push((number, row));
        }
        Ok(rows)
    }

    /// The position of the first field after `field` that is neither empty nor one of `also`.
    pub(super) fn first_after(
        &self,
        number: u64,
        field: usize,
        also: &[&str],
    ) -> Result<Option<usize>, Error> {
        let index = usize::try_from(number).unwrap_or(usize::MAX);
        let line = self.text.lines().nth(index.saturating_sub(1));
        let record = self.record(number, line.unwrap_or_default())?;
        let fields = (record.iter().enumerate()).skip(field + 1);
        let mut filled = fields.filter(|(_, text)| !text.is_empty() && !also.contains(text));
        Ok(filled.next().map(|(at, _)| at))
    }

    /// The fields of a line. A field never contains a line end: it would not have been written.
    fn record(&self, number: u64, line: &str) -> Result<StringRecord, Error> {
        if line.matches('"').count() % 2 == 1 {
            let column = line.chars().take_while(|&c| c != '"').count() + 1;
            let message = "a quotation mark is not closed";
            return Err(damaged(self.path, number, column, message));
        }
        let mut record = StringRecord::new();
        let mut reader = csv::ReaderBuilder::new();
        let mut reader = reader.has_headers(false).from_reader(line.as_bytes());
        match reader.read_record(&mut record) {
            Ok(true) => Ok(record),
            Ok(false) => Err(damaged(self.path, number, 1, "an empty line")),
            Err(error) => Err(damaged(self.path, number, 1, error.to_string())),
        }
    }

    /// Damage in a field of a line.
    pub(super) fn damage(&self, number: u64, field: usize, message: impl Into<String>) -> Error {
        let index = usize::try_from(number).unwrap_or(usize::MAX);
        let line = self.text.lines().nth(index.saturating_sub(1));
        let column = column_of(line.unwrap_or_default(), field);
        damaged(self.path, number, column, message)
    }
}

/// The text of a file, which must be UTF-8 without a byte order mark and without NUL bytes, which a
/// power failure leaves.
pub(super) fn text<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a str, Error> {
    let (text, fault) = match str::from_utf8(bytes) {
        Ok(text) => match text.find('\0') {
            _ if text.starts_with('\u{feff}') => (text, Some((0, "a byte order mark"))),
            Some(at) => (text, Some((at, "zero bytes, as after a power failure"))),
            None => (text, None),
        },
        Err(error) => {
            let valid = str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default();
            (valid, Some((valid.len(), "bytes that are not UTF-8")))
        }
    };
    match fault {
        None => Ok(text),
        Some((at, message)) => {
            let (line, column) = place(text, at);
            Err(damaged(path, line, column, message))
        }
    }
}

/// Line and column of a byte, from 1; the column in characters.
pub(super) fn place(text: &str, at: usize) -> (u64, usize) {
    let before = text.get(..at).unwrap_or(text);
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (
        before.matches('\n').count() as u64 + 1,
        before[start..].chars().count() + 1,
    )
}

pub(super) fn damaged(path: &Path, line: u64, column: usize, message: impl Into<String>) -> Error {
    Error::Damaged {
        path: path.to_owned(),
        line: Some(line),
        column: Some(column as u64),
        message: message.into(),
    }
}

fn numbered(text: &str) -> impl Iterator<Item = (u64, &str)> {
    // Not `lines`, which would also remove the CR of a line end.
    let lines = text.split_terminator('\n');
    (1..).zip(lines)
}

/// Where a field begins, in characters from 1.
fn column_of(line: &str, field: usize) -> usize {
    let (mut fields, mut is_quoted) = (0, false);
    if field == 0 {
        return 1;
    }
    for (at, c) in line.chars().enumerate() {
        match c {
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => fields += 1,
            _ => {}
        }
        if fields == field {
            return at + 2;
        }
    }
    line.chars().count() + 1
}

/// The field that causes an error, found by leaving out one after another if necessary.
fn culprit<T: DeserializeOwned>(
    error: &csv::Error,
    record: &StringRecord,
    header: &StringRecord,
) -> usize {
    if let csv::ErrorKind::Deserialize { err, .. } = error.kind()
        && let Some(field) = err.field()
    {
        return usize::try_from(field).unwrap_or_default();
    }
    let is_it = |field: &usize| {
        with(record, *field, "")
            .deserialize::<T>(Some(header))
            .is_ok()
    };
    (0..record.len()).find(is_it).unwrap_or_default()
}

fn reason(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::Deserialize { err, .. } => err.kind().to_string(),
        _ => error.to_string(),
    }
}

/// Which fields of a row contain figures: those that accept a number but no word.
fn are_figures<T: DeserializeOwned>(record: &StringRecord, header: &StringRecord) -> Vec<bool> {
    let takes = |field, text| {
        with(record, field, text)
            .deserialize::<T>(Some(header))
            .is_ok()
    };
    let is_figure = |field| takes(field, "1") && !takes(field, "x");
    (0..record.len()).map(is_figure).collect()
}

fn with(record: &StringRecord, field: usize, text: &str) -> StringRecord {
    let fields = record.iter().enumerate();
    fields
        .map(|(at, it)| if at == field { text } else { it })
        .collect()
}

fn check_figure(text: &str, is_signed: bool) -> Result<(), String> {
    let value: f64 = match text.parse() {
        _ if text.is_empty() => return Ok(()),
        Ok(value) => value,
        Err(_) => return Err(format!("`{text}` is not a number")),
    };
    match () {
        () if !value.is_finite() => Err("not a finite number".to_owned()),
        () if value.abs() > FIGURE_MAX => {
            Err(format!("`{text}` is too large to have been measured"))
        }
        () if value != 0.0 && value.abs() < FIGURE_MIN => {
            Err(format!("`{text}` is too small to have been measured"))
        }
        () if text.starts_with('-') && !is_signed => Err(format!("`{text}` is below zero")),
        () => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Row {
        name: String,
        count: u64,
        figure: Option<f64>,
        change: Option<f64>,
        kind: Option<Kind>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Kind {
        Call,
    }

    fn read(text: &[u8]) -> Result<usize, String> {
        let path = Path::new("F");
        let read = || {
            let lines = Lines::of(path, text)?;
            let header = lines.header()?;
            lines.rows::<Row>(&header, &["change"])
        };
        read()
            .map(|rows| rows.len())
            .map_err(|error: Error| error.to_string())
    }

    #[test]
    fn damage_has_its_place() {
        const HEAD: &str = "name,count,figure,change,kind\n";
        let rows: [(&[u8], Result<usize, &str>); 26] = [
            (b"a,1,2.5,-3,call\n", Ok(1)),
            (b"a,1,,,\nb,2,,,\n", Ok(2)),
            (b"\"a,\"\"b\",1,,,\n", Ok(1)),
            (b"a,1,1e-7,,\n", Ok(1)),
            // Truncations by a kill.
            (b"a,1,,,\nb,2", Ok(1)),
            (b"a,1,,,\n\"b \xc2", Ok(1)),
            (b"a,1,,,\nb,2,\0\0\0", Ok(1)),
            // Damage.
            (
                b"a,1,inf,,\n",
                Err("F:2:5: column `figure`: not a finite number"),
            ),
            (
                b"a,1,NaN,,\n",
                Err("F:2:5: column `figure`: not a finite number"),
            ),
            (
                b"a,1,,nan,\n",
                Err("F:2:6: column `change`: not a finite number"),
            ),
            (
                b"a,1,1e999,,\n",
                Err("F:2:5: column `figure`: not a finite number"),
            ),
            (
                b"a,1,1e-300,,\n",
                Err("F:2:5: column `figure`: `1e-300` is too small to have been measured"),
            ),
            (
                b"a,1,,-1e-310,\n",
                Err("F:2:6: column `change`: `-1e-310` is too small to have been measured"),
            ),
            (
                b"a,1,1e300,,\n",
                Err("F:2:5: column `figure`: `1e300` is too large to have been measured"),
            ),
            (
                b"a,1,-0,,\n",
                Err("F:2:5: column `figure`: `-0` is below zero"),
            ),
            (
                b"a,1,-2.5,,\n",
                Err("F:2:5: column `figure`: `-2.5` is below zero"),
            ),
            (
                b"a,-1,,,\n",
                Err("F:2:3: column `count`: invalid digit found in string"),
            ),
            (
                b"\xc3\xa4,x,,,\n",
                Err("F:2:3: column `count`: invalid digit found in string"),
            ),
            (
                b"\"a,b\",x,,,\n",
                Err("F:2:7: column `count`: invalid digit found in string"),
            ),
            (
                b"a,1,,,cal\n",
                Err("F:2:7: column `kind`: unknown variant `cal`, expected `call`"),
            ),
            (b"a,1,,\n", Err("F:2:1: 4 columns instead of 5")),
            (b"a,1,,,,\n", Err("F:2:1: 6 columns instead of 5")),
            (b"a,1,,,\n\nb,1,,,\n", Err("F:3:1: an empty line")),
            (b"a,1,\"2,,\n", Err("F:2:5: a quotation mark is not closed")),
            (
                b"a,1,,,\r\n",
                Err("F:2:7: the line ends with CR LF: the line ends of this file were converted"),
            ),
            (
                b"a,1,,,\nb\xff,1,,,\nc",
                Err("F:3:2: bytes that are not UTF-8"),
            ),
        ];
        for (text, expected) in rows {
            let whole = [HEAD.as_bytes(), text].concat();
            let shown = String::from_utf8_lossy(text);
            assert_eq!(read(&whole), expected.map_err(str::to_owned), "{shown:?}");
        }
        for (text, expected) in [
            (
                &b"\xef\xbb\xbfname,count,figure,change,kind\n"[..],
                "F:1:1: a byte order mark",
            ),
            (
                b"name,count,figure,change,kind\na,1,,\0,\n",
                "F:2:6: zero bytes, as after a power failure",
            ),
            (b"", "F:1:1: an empty line"),
            (b"name,cou", "F:1:1: an empty line"),
        ] {
            assert_eq!(read(text), Err(expected.to_owned()));
        }
    }
}
