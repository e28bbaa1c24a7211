//! Text from outside, such as from a server or a build command: it is made harmless for terminals
//! and files, and limited in length.
//!
//! Every message and record that quotes foreign text uses this module. HTML is escaped where it is
//! written.

use std::borrow::Cow;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// The longest quotation, in bytes of UTF-8.
pub const QUOTE_BYTES_MAX: usize = 300;

/// The number of last lines that are quoted.
const LINES_MAX: usize = 5;

/// The mark for omitted text.
const OMITTED: &str = " ... ";

/// Decodes bytes as text: what is not UTF-8 becomes `\xNN`. Control characters remain; see
/// [`escaped`].
pub fn text(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// Escapes everything except visible characters and blanks: control characters, line breaks, and
/// invisible characters that change the direction of text.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            // These characters are visible, although `escape_debug` escapes them.
            '"' | '\'' | '\\' => out.push(c),
            '\0' => out.push_str("\\0"),
            _ => out.extend(c.escape_debug()),
        }
    }
    out
}

/// Like [`escaped`], and also escapes what would be markup in Markdown or end a table cell.
pub fn in_markdown(text: &str) -> String {
    let mut out = String::new();
    for c in escaped(text).chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '&' => out.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '$' => out.extend(['\\', c]),
            _ => out.push(c),
        }
    }
    out
}

/// A path that is safe to print.
pub fn path(path: &Path) -> String {
    escaped(&text(path.as_os_str().as_bytes()))
}

/// Shortens a text to at most this many bytes. The start is kept and usually the end, where
/// programs say why they failed.
pub fn shortened(text: &str, bytes_max: usize) -> Cow<'_, str> {
    if text.len() <= bytes_max {
        return Cow::Borrowed(text);
    }
    let kept = bytes_max.saturating_sub(OMITTED.len());
    let head = text.floor_char_boundary_at(kept / 3);
    let tail = text.ceil_char_boundary_at(text.len() - (kept - kept / 3));
    Cow::Owned(format!("{}{OMITTED}{}", &text[..head], &text[tail..]))
}

/// A quotation that is safe in a message: [`escaped`] and [`shortened`].
pub fn quoted(text: &str) -> String {
    // An escaped character takes up to ten bytes, so text that is cut anyway is dropped before
    // escaping.
    let text = shortened(text, 2 * QUOTE_BYTES_MAX);
    shortened(&escaped(&text), QUOTE_BYTES_MAX).into_owned()
}

/// The last non-empty lines of an output, joined by `; ` and safe in a message.
pub fn last_words(output: &str) -> String {
    // A program that redraws its line, such as a progress bar, ends it with a carriage return
    // alone.
    let lines = output.split(['\n', '\r']).map(str::trim);
    let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    quoted(&lines[lines.len().saturating_sub(LINES_MAX)..].join("; "))
}

/// A method that later versions of the standard library have.
trait CharBoundary {
    fn floor_char_boundary_at(&self, index: usize) -> usize;
    fn ceil_char_boundary_at(&self, index: usize) -> usize;
}

impl CharBoundary for str {
    fn floor_char_boundary_at(&self, index: usize) -> usize {
        let mut at = index.min(self.len());
        while !self.is_char_boundary(at) {
            at -= 1;
        }
        at
    }

    fn ceil_char_boundary_at(&self, index: usize) -> usize {
        let mut at = index.min(self.len());
        while !self.is_char_boundary(at) {
            at += 1;
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys() {
        for (bytes, expected) in [
            (&b"plain, \"quoted\" \\ 'x'"[..], "plain, \"quoted\" \\ 'x'"),
            (b"\x1b[2J\x1b[31mred\x07", "\\u{1b}[2J\\u{1b}[31mred\\u{7}"),
            (b"nul \0, del \x7f, tab \t", "nul \\0, del \\u{7f}, tab \\t"),
            (b"\xff\xc3", "\\xff\\xc3"),
            ("C1 \u{9b}31m".as_bytes(), "C1 \\u{9b}31m"),
            ("bidi \u{202e}txt.exe".as_bytes(), "bidi \\u{202e}txt.exe"),
            (
                "zero\u{200b}width\u{feff}".as_bytes(),
                "zero\\u{200b}width\\u{feff}",
            ),
            (
                "marks \u{61c}\u{200e}\u{200f}\u{2060}\u{2066}\u{2069}".as_bytes(),
                "marks \\u{61c}\\u{200e}\\u{200f}\\u{2060}\\u{2066}\\u{2069}",
            ),
            (
                "separators \u{2028}\u{2029}".as_bytes(),
                "separators \\u{2028}\\u{2029}",
            ),
            ("grün, 漢字, 🦀".as_bytes(), "grün, 漢字, 🦀"),
        ] {
            assert_eq!(quoted(&text(bytes)), expected);
        }
    }

    #[test]
    fn lines_become_one() {
        assert_eq!(last_words("one\n\n  two \r\n"), "one; two");
        assert_eq!(last_words("10%\r20%\rdone"), "10%; 20%; done");
        assert_eq!(last_words("1\n2\n3\n4\n5\n6\n"), "2; 3; 4; 5; 6");
        assert_eq!(last_words(" \n\t\n"), "");
    }

    #[test]
    fn both_ends_are_kept() {
        let long = format!("begin {} the end", "x".repeat(9_000));
        let short = quoted(&long);
        assert_eq!(short.len(), QUOTE_BYTES_MAX);
        assert!(
            short.starts_with("begin x") && short.ends_with("x the end"),
            "{short}"
        );
        assert!(short.contains(" ... "), "{short}");
        // Characters stay whole, and escapes count.
        let wide = quoted(&"漢".repeat(500));
        assert!(
            wide.len() <= QUOTE_BYTES_MAX && wide.len() > QUOTE_BYTES_MAX - 6,
            "{wide}"
        );
        assert!(quoted(&"\u{1b}".repeat(500)).len() <= QUOTE_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn any_bytes_are_one_bounded_line(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
            let words = last_words(&text(&bytes));
            prop_assert!(words.len() <= QUOTE_BYTES_MAX);
            prop_assert!(!words.contains(|c: char| c.is_control()));
        }
    }

    #[test]
    fn markup_is_escaped_for_markdown() {
        assert_eq!(in_markdown("a|b <br> *c* [d]"), r"a\|b &lt;br> \*c\* \[d\]");
    }
}
