//! Quotes words for a POSIX shell, so that printed commands can be pasted.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// A word that any POSIX shell reads as exactly this text.
pub fn quoted(word: impl AsRef<OsStr>) -> String {
    let bytes = word.as_ref().as_bytes();
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.,:=/@%+".contains(byte);
    if !bytes.is_empty() && bytes.iter().all(is_plain) {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    match str::from_utf8(bytes) {
        Ok(text) if !text.contains(is_unprintable) || text.ends_with('\n') => {
            format!("'{}'", text.replace('\'', r"'\''"))
        }
        _ => by_printf(bytes),
    }
}

/// A word that names a file and is never mistaken for an option.
pub fn quoted_path(path: &Path) -> String {
    match path.as_os_str().as_bytes().first() {
        Some(b'-') => quoted(Path::new(".").join(path)),
        _ => quoted(path),
    }
}

/// A whole command in one line.
pub fn command_line<W: AsRef<OsStr>>(words: impl IntoIterator<Item = W>) -> String {
    let words: Vec<String> = words.into_iter().map(quoted).collect();
    words.join(" ")
}

/// Whether a character must not reach a terminal, or would break the line.
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || ('\u{202a}'..='\u{202e}').contains(&c)
        || ('\u{2066}'..='\u{2069}').contains(&c)
}

/// Bytes that a line cannot contain, written with printf(1): command substitution strips only line
/// ends at the end of its output.
fn by_printf(bytes: &[u8]) -> String {
    let mut format = String::new();
    for &byte in bytes {
        match byte {
            b'%' => format.push_str("%%"),
            b'\\' => format.push_str(r"\\"),
            b'\'' | ..b' ' | 0x7f.. => {
                write!(format, "\\{byte:03o}").expect("writing to a String cannot fail");
            }
            _ => format.push(char::from(byte)),
        }
    }
    // `--`, because a format may begin with a hyphen.
    format!("\"$(printf -- '{format}')\"")
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn words_that_are_plain_stay_as_they_are() {
        for (word, expected) in [
            ("--idle-timeout=10m", "--idle-timeout=10m"),
            ("", "''"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("$HOME", "'$HOME'"),
            ("~", "'~'"),
            ("größe", "'größe'"),
            ("a\nb", r#""$(printf -- 'a\012b')""#),
        ] {
            assert_eq!(quoted(word), expected);
        }
        assert_eq!(quoted_path(Path::new("-x")), "./-x");
        assert_eq!(quoted_path(Path::new("a b")), "'a b'");
        assert_eq!(command_line(["a", "b c"]), "a 'b c'");
    }

    /// Whatever the word, a shell gives it back.
    #[test]
    fn a_shell_reads_what_was_meant() {
        let words: [&[u8]; 20] = [
            b"plain",
            b"",
            b" ",
            b"a  b",
            b"~/sets",
            b"-n",
            b"--",
            b"a!b",
            b"it's \"quoted\"",
            b"$HOME `id` \\n",
            b"*?[a]{b,c}",
            b"a;b&c|d>e<f(g)#h",
            "gr\u{f6}\u{df}e \u{65e5}\u{672c}".as_bytes(),
            b"two\nlines",
            b"ends with a line end\n",
            b"tab\tand\x1b[31mred\x7f",
            b"not UTF-8: \xff\xfe'%s\\",
            b"-\xff",
            "\u{202e}turned".as_bytes(),
            b"=x",
        ];
        for word in words {
            let word = OsStr::from_bytes(word);
            let script = format!("printf '%s' {}", quoted(word));
            for shell in ["sh", "bash"] {
                let Ok(output) = Command::new(shell).args(["-c", &script]).output() else {
                    println!("SKIPPED: no {shell}");
                    continue;
                };
                assert_eq!(OsStr::from_bytes(&output.stdout), word, "{script}");
            }
        }
    }
}
