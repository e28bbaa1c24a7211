//! What content must be, and holding it against that as it comes.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use hmac_sha256::Hash as Sha256;

/// What the content of a response must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// These bytes.
    Text(Vec<u8>),
    /// Bytes with this SHA-256 (FIPS 180-4).
    Sha256([u8; 32]),
}

/// `sha256:` and 64 hexadecimal digits, or those digits alone, are a hash; all else is the text itself.
impl FromStr for Expected {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (digits, marked) = match text.strip_prefix("sha256:") {
            Some(digits) => (digits, true),
            None => (text, false),
        };
        let pairs = digits.as_bytes().chunks(2);
        let bytes: Option<Vec<u8>> = pairs
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
            .collect();
        let hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        match bytes.map(<[u8; 32]>::try_from) {
            Some(Ok(hash)) if hex && digits.len() == 64 => Ok(Expected::Sha256(hash)),
            _ if marked => Err("expected 64 hexadecimal digits after sha256:".to_owned()),
            _ => Ok(Expected::Text(text.as_bytes().to_vec())),
        }
    }
}

/// Holds content against what is expected, as it comes.
pub(super) enum Check {
    Nothing,
    /// So many bytes were as expected; `None` when one was not.
    Text(Arc<Expected>, Option<usize>),
    Sha256(Arc<Expected>, Box<Sha256>),
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Check::Nothing => "Nothing",
            Check::Text(..) => "Text",
            Check::Sha256(..) => "Sha256",
        })
    }
}

impl Check {
    pub(super) fn new(expected: &Arc<Expected>) -> Self {
        match **expected {
            Expected::Text(_) => Check::Text(Arc::clone(expected), Some(0)),
            Expected::Sha256(_) => Check::Sha256(Arc::clone(expected), Box::default()),
        }
    }

    #[inline]
    pub(super) fn update(&mut self, content: &[u8]) {
        match self {
            Check::Nothing => {}
            Check::Text(expected, matched) => {
                let Expected::Text(text) = &**expected else {
                    return;
                };
                *matched = matched
                    .filter(|&at| text[at..].starts_with(content))
                    .map(|at| at + content.len());
            }
            Check::Sha256(_, hasher) => hasher.update(content),
        }
    }

    /// Whether the content was as expected; ready for the next.
    #[inline]
    pub(super) fn finish(&mut self) -> bool {
        match self {
            Check::Nothing => true,
            Check::Text(expected, matched) => {
                let matched = matched.replace(0);
                matches!(&**expected, Expected::Text(text) if matched == Some(text.len()))
            }
            Check::Sha256(expected, hasher) => {
                let hash = std::mem::take(&mut **hasher).finalize();
                matches!(&**expected, Expected::Sha256(expected) if hash == *expected)
            }
        }
    }
}
