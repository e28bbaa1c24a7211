//! Placeholders in the `run` command of a server: `{addr}`, `{host}`, `{port}` and `{empty_dir}`.

use std::net::SocketAddr;
use std::path::Path;

const PLACEHOLDERS: [&str; 4] = ["addr", "host", "port", "empty_dir"];

/// `argument` with its placeholders filled in. Braces around anything but a single lower-case word
/// are kept, and so is `${word}`, which is for a shell.
pub(crate) fn fill(
    argument: &str,
    address: SocketAddr,
    empty_dir: &Path,
) -> Result<String, String> {
    let mut filled = String::new();
    let mut rest = argument;
    while let Some(open) = rest.find('{') {
        let (before, from_open) = rest.split_at(open);
        filled.push_str(before);
        let word = from_open[1..].split_once('}').map(|(word, _)| word);
        let is_word = |word: &&str| {
            !word.is_empty() && word.bytes().all(|c| c.is_ascii_lowercase() || c == b'_')
        };
        match word.filter(is_word).filter(|_| !before.ends_with('$')) {
            Some(word) => {
                match word {
                    "addr" => filled.push_str(&address.to_string()),
                    "host" => filled.push_str(&address.ip().to_string()),
                    "port" => filled.push_str(&address.port().to_string()),
                    "empty_dir" => filled.push_str(&empty_dir.to_string_lossy()),
                    _ => {
                        return Err(format!(
                            "`run` has an unknown placeholder {{{word}}}; known: {{{}}}",
                            PLACEHOLDERS.join("}, {")
                        ));
                    }
                }
                rest = &from_open[word.len() + 2..];
            }
            None => {
                filled.push('{');
                rest = &from_open[1..];
            }
        }
    }
    filled.push_str(rest);
    Ok(filled)
}

/// Checks that all placeholders of `argument` are known; the error names the first unknown one.
pub(crate) fn check(argument: &str) -> Result<(), String> {
    fill(argument, SocketAddr::from(([0, 0, 0, 0], 0)), Path::new("")).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders() {
        let rows = [
            ("{addr}", Ok("127.0.0.1:80")),
            ("--bind={host} -p {port}.", Ok("--bind=127.0.0.1 -p 80.")),
            ("'{empty_dir}/x'", Ok("'/tmp/e/x'")),
            ("{ print $1 } {} {A} {", Ok("{ print $1 } {} {A} {")),
            ("${home}{port}", Ok("${home}80")),
            ("{{port}}", Ok("{80}")),
            (
                "{prt}",
                Err(
                    "`run` has an unknown placeholder {prt}; known: {addr}, {host}, {port}, {empty_dir}",
                ),
            ),
        ];
        for (argument, expected) in rows {
            let address = "127.0.0.1:80".parse().unwrap();
            let filled = fill(argument, address, Path::new("/tmp/e"));
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(filled, expected, "for {argument:?}");
        }
    }
}
