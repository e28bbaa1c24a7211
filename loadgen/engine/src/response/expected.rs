//! Expected content, and its comparison with content as it arrives.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use hmac_sha256::Hash as Sha256;

/// The content that a response must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// Exactly these bytes.
    Text(Vec<u8>),
    /// Content with this SHA-256 hash (FIPS 180-4).
    Sha256([u8; 32]),
}

/// `sha256:` with 64 hexadecimal digits, or the digits alone, is a hash; anything else is the text
/// itself.
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

/// Compares content with what is expected, as it arrives.
pub(super) enum Check {
    Nothing,
    /// The number of matching bytes so far; `None` after a mismatch.
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

    /// Whether the content was as expected; resets the check for the next response.
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
