//! The layout of a tracepoint's fields, from its `format` file in `tracefs`.

use std::path::Path;
use std::{fs, io};

/// The fields of a tracepoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Format {
    /// The ID with which the tracepoint is opened.
    pub(super) id: u64,
    fields: Vec<(String, Field)>,
}

/// Offset and size of a field, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field {
    offset: usize,
    size: usize,
}

impl Format {
    /// Reads the format of a tracepoint, such as `sock/inet_sock_set_state`, in this folder of
    /// events.
    pub(super) fn read(events: &Path, tracepoint: &str) -> io::Result<Self> {
        let text = fs::read_to_string(events.join(tracepoint).join("format"))?;
        let malformed = |why| {
            let message = format!("the format of tracepoint {tracepoint}: {why}");
            io::Error::new(io::ErrorKind::InvalidData, message)
        };
        Format::parse(&text).map_err(malformed)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut id = None;
        let mut fields = Vec::new();
        for line in text.lines().map(str::trim_start) {
            // The rest is an expression for printing, which may contain anything.
            if line.starts_with("print fmt:") {
                break;
            }
            if let Some(number) = line.strip_prefix("ID:") {
                let number = number.trim().parse();
                id = Some(number.map_err(|_| format!("{line:?} has no number"))?);
            } else if line.starts_with("field:") {
                fields.push(field(line).ok_or_else(|| format!("{line:?} is not a field"))?);
            }
        }
        Ok(Format {
            id: id.ok_or("the ID is missing")?,
            fields,
        })
    }

    /// A required field of this size.
    pub(super) fn field(&self, name: &str, size: usize) -> io::Result<Field> {
        let found = self.fields.iter().find(|(other, _)| other == name);
        let message = match found {
            Some((_, field)) if field.size == size => return Ok(*field),
            Some((_, field)) => format!(
                "field {name} of a tracepoint has {} bytes instead of {size}",
                field.size
            ),
            None => format!("a tracepoint has no field {name}"),
        };
        Err(io::Error::new(io::ErrorKind::InvalidData, message))
    }
}

/// Parses `field:__u8 saddr[4]; offset:32; size:4; signed:0;`, which contains tabs.
fn field(line: &str) -> Option<(String, Field)> {
    let mut parts = line.split(';').map(str::trim);
    let declaration = parts.next()?.strip_prefix("field:")?;
    let (_, name) = declaration.rsplit_once([' ', '*'])?;
    let name = name.split('[').next().filter(|name| !name.is_empty())?;
    let number = |part: Option<&str>, key| part?.strip_prefix(key)?.parse().ok();
    let field = Field {
        offset: number(parts.next(), "offset:")?,
        size: number(parts.next(), "size:")?,
    };
    // Rejects a field whose end would overflow.
    field.offset.checked_add(field.size)?;
    Some((name.to_owned(), field))
}

impl Field {
    /// The bytes of this field in a record; `None` if the record is shorter.
    pub(super) fn bytes<const N: usize>(self, record: &[u8]) -> Option<[u8; N]> {
        record
            .get(self.offset..self.offset + self.size)?
            .try_into()
            .ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SYS_EXIT: &str = "name: sys_exit
ID: 442
format:
	field:unsigned short common_type;	offset:0;	size:2;	signed:0;
	field:int common_pid;	offset:4;	size:4;	signed:1;

	field:long id;	offset:8;	size:8;	signed:1;
	field:const void * skaddr;	offset:16;	size:8;	signed:0;
	field:char *name;	offset:24;	size:8;	signed:0;
	field:unsigned long args[6];	offset:32;	size:48;	signed:0;

print fmt: \"NR %ld = %ld; field:x\", REC->id, REC->ret
ID: 7
";

    #[test]
    fn fields_are_found() {
        let format = Format::parse(SYS_EXIT).unwrap();
        assert_eq!(format.id, 442);
        for (name, offset, size) in [
            ("common_type", 0, 2),
            ("id", 8, 8),
            ("skaddr", 16, 8),
            ("name", 24, 8),
            ("args", 32, 48),
        ] {
            assert_eq!(
                format.field(name, size).unwrap(),
                Field { offset, size },
                "{name}"
            );
        }
        for (name, size, expected) in [
            ("ret", 8, "a tracepoint has no field ret"),
            ("id", 4, "field id of a tracepoint has 8 bytes instead of 4"),
        ] {
            let error = format.field(name, size).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn what_is_malformed_is_named() {
        for (text, expected) in [
            ("", "the ID is missing"),
            ("name: a\nformat:\n", "the ID is missing"),
            ("ID: x\n", "\"ID: x\" has no number"),
            ("ID: 1\nfield:int;\n", "\"field:int;\" is not a field"),
            (
                "ID: 1\nfield:int a;\tsize:4;\toffset:0;\n",
                "\"field:int a;\\tsize:4;\\toffset:0;\" is not a field",
            ),
            (
                "ID: 1\nfield:int a;\toffset:-1;\tsize:4;\n",
                "\"field:int a;\\toffset:-1;\\tsize:4;\" is not a field",
            ),
            (
                "ID: 1\nfield:int a;\toffset:18446744073709551615;\tsize:4;\n",
                "\"field:int a;\\toffset:18446744073709551615;\\tsize:4;\" is not a field",
            ),
        ] {
            assert_eq!(Format::parse(text).unwrap_err(), expected, "{text:?}");
        }
    }

    #[test]
    fn a_short_record_has_no_field() {
        let field = Field { offset: 2, size: 2 };
        assert_eq!(field.bytes(&[0, 1, 2, 3]), Some([2, 3]));
        assert_eq!(field.bytes::<2>(&[0, 1, 2]), None);
        assert_eq!(field.bytes::<4>(&[0, 1, 2, 3]), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(
            text in "(ID:|field:|print fmt:|offset:|size:|[0-9]{1,20}|[ \t\n;\\[\\]*]|[a-z]{1,3}|\\PC){0,60}",
            record in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            if let Ok(format) = Format::parse(&text) {
                for (_, field) in &format.fields {
                    field.bytes::<4>(&record);
                }
            }
        }
    }
}
