//! The URL of a server. It is parsed once, completely and strictly; everything that looks up an
//! address or builds a request uses the result. No other code parses URLs.
//!
//! The parser accepts what curl accepts: `http://` or no scheme; internationalised names; unusual
//! forms of IPv4 (`127.1`, `0x7f.1`), which [`HttpUrl`] displays as they were understood. It
//! refuses what cannot be meant, or what different readers understand differently: browsers drop
//! tabs, read `\` as `/`, and fall back to port 80 if a port is not a number. This module does not
//! use the DNS while parsing.

use std::fmt::{self, Display, Formatter};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, ToSocketAddrs as _};
use std::str::FromStr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use nix::net::if_::{if_nameindex, if_nametoindex};
use percent_encoding::percent_decode_str;
use url::Url;

/// An `http` URL with everything that is needed for requests to it.
///
/// It is displayed as it was understood, without the fragment, which is never sent. Passwords are
/// displayed as `****`; no output contains them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpUrl {
    host: Host,
    port: u16,
    /// Path and query, percent-encoded (RFC 9112 §3.2.1).
    request_target: String,
    credentials: Option<Credentials>,
}

/// The host to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    /// Lower case; internationalised names in Punycode (RFC 5891).
    Name(String),
    Ipv4(Ipv4Addr),
    Ipv6(Ipv6Addr, Option<Zone>),
}

/// The network interface of an IPv6 address (RFC 4007 §11).
#[derive(Debug, Clone)]
struct Zone {
    /// As written: the name or the index of an interface.
    name: String,
    scope_id: u32,
}

/// Zones are equal if they mean the same interface, however it was written.
impl PartialEq for Zone {
    fn eq(&self, other: &Self) -> bool {
        self.scope_id == other.scope_id
    }
}

impl Eq for Zone {}

/// The user information before the host.
#[derive(Clone, PartialEq, Eq)]
struct Credentials {
    /// The user for display, percent-encoded as written; `None` without a password, because the
    /// user may then be a secret itself, such as a token.
    user: Option<String>,
    /// Value of the header field `Authorization` (RFC 7617).
    authorization: String,
}

/// Hides the secrets, even if a whole plan is printed for debugging.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("****")
    }
}

/// The port if the URL does not name one.
const PORT: u16 = 80;

/// The replacement for a password, or for a user without a password.
const REDACTED: &str = "****";

/// A text that is not a usable URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{url}: {part}: {problem}")]
pub struct InvalidUrl {
    /// The text as written, on one line, without a password.
    url: String,
    /// The part at fault.
    pub part: Part,
    /// What is wrong, and what to write instead.
    problem: String,
}

/// Part of a URL (RFC 3986 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// `http`
    Scheme,
    /// `user:password`
    Userinfo,
    /// A name, an IPv4 address, or an IPv6 address in brackets.
    Host,
    /// The interface of an IPv6 address.
    Zone,
    /// A number from 1 to 65535.
    Port,
    /// From the first `/`.
    Path,
    /// After the `?`.
    Query,
    /// After the `#`.
    Fragment,
}

impl Display for Part {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Part::Scheme => "scheme",
            Part::Userinfo => "userinfo",
            Part::Host => "host",
            Part::Zone => "zone",
            Part::Port => "port",
            Part::Path => "path",
            Part::Query => "query",
            Part::Fragment => "fragment",
        })
    }
}

/// A part and what is wrong with it.
type Problem = (Part, String);

impl HttpUrl {
    /// The root of the server at an address.
    #[must_use]
    pub fn at(address: SocketAddr) -> Self {
        let host = match address {
            SocketAddr::V4(address) => Host::Ipv4(*address.ip()),
            SocketAddr::V6(address) => {
                let zone = (address.scope_id() != 0).then(|| Zone {
                    name: address.scope_id().to_string(),
                    scope_id: address.scope_id(),
                });
                Host::Ipv6(*address.ip(), zone)
            }
        };
        HttpUrl {
            host,
            port: address.port(),
            request_target: "/".to_owned(),
            credentials: None,
        }
    }

    /// Path and query: the request target after the method.
    #[must_use]
    pub fn request_target(&self) -> &str {
        &self.request_target
    }

    /// Host and port, the request target of `CONNECT` (RFC 9112 §3.2.3).
    #[must_use]
    pub fn authority(&self) -> String {
        format!("{}:{}", self.bare_host(), self.port)
    }

    /// Value of the header field `Host` (RFC 9110 §7.2): without the scheme's default port, and
    /// without the zone, which is meaningless on another machine.
    #[must_use]
    pub fn host_field(&self) -> String {
        match self.port {
            PORT => self.bare_host(),
            _ => self.authority(),
        }
    }

    /// Value of the header field `Authorization`, if the URL contains user information.
    #[must_use]
    pub fn authorization(&self) -> Option<&str> {
        let credentials = self.credentials.as_ref();
        credentials.map(|it| it.authorization.as_str())
    }

    /// The bytes of a plain GET. `more_fields` follow `Host`; each ends with CRLF.
    #[must_use]
    pub fn get(&self, more_fields: &str) -> Vec<u8> {
        let (target, host) = (&self.request_target, self.host_field());
        format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{more_fields}\r\n").into_bytes()
    }

    /// Whether two URLs have the same host and port.
    #[must_use]
    pub fn is_of_same_server(&self, other: &Self) -> bool {
        self.host == other.host && self.port == other.port
    }

    /// The host in the form that is looked up, for messages.
    #[must_use]
    pub fn host(&self) -> String {
        match &self.host {
            Host::Name(name) => name.clone(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address, None) => address.to_string(),
            Host::Ipv6(address, Some(zone)) => format!("{address}%{}", zone.name),
        }
    }

    /// The addresses of the server; a name is looked up.
    ///
    /// # Errors
    ///
    /// If the name cannot be resolved.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        match &self.host {
            Host::Name(name) => Ok((name.as_str(), self.port).to_socket_addrs()?.collect()),
            Host::Ipv4(address) => Ok(vec![(*address, self.port).into()]),
            Host::Ipv6(address, zone) => {
                let scope_id = zone.as_ref().map_or(0, |zone| zone.scope_id);
                Ok(vec![
                    SocketAddrV6::new(*address, self.port, 0, scope_id).into(),
                ])
            }
        }
    }

    fn bare_host(&self) -> String {
        match &self.host {
            Host::Name(name) => name.clone(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address, _) => format!("[{address}]"),
        }
    }
}

impl Display for HttpUrl {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("http://")?;
        match &self.credentials {
            Some(Credentials {
                user: Some(user), ..
            }) => write!(f, "{user}:{REDACTED}@")?,
            Some(Credentials { user: None, .. }) => write!(f, "{REDACTED}@")?,
            None => {}
        }
        match &self.host {
            // The form of RFC 6874.
            Host::Ipv6(address, Some(zone)) => write!(f, "[{address}%25{}]", zone.name)?,
            _ => f.write_str(&self.bare_host())?,
        }
        if self.port != PORT {
            write!(f, ":{}", self.port)?;
        }
        f.write_str(&self.request_target)
    }
}

impl FromStr for HttpUrl {
    type Err = InvalidUrl;

    /// Parses a URL with or without `http://`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        read(text).map_err(|(part, problem)| InvalidUrl {
            url: shown(text),
            part,
            problem,
        })
    }
}

fn read(text: &str) -> Result<HttpUrl, Problem> {
    let pieces = Pieces::of(without_scheme(text)?);
    let credentials = pieces.userinfo.map(credentials).transpose()?;
    let (host, port) = host_and_port(&pieces)?;
    for (part, text) in [
        (Part::Path, Some(pieces.path)),
        (Part::Query, pieces.query),
        (Part::Fragment, pieces.fragment),
    ] {
        check_characters(part, text.unwrap_or_default())?;
    }
    Ok(HttpUrl {
        host,
        port,
        request_target: request_target(pieces.path, pieces.query)?,
        credentials,
    })
}

/// The part after `http://`; everything if there is no scheme.
fn without_scheme(text: &str) -> Result<&str, Problem> {
    let head = &text[..text.find(['/', '?', '#', '@', '[']).unwrap_or(text.len())];
    let Some(colon) = head.find(':') else {
        return Ok(text);
    };
    let (scheme, rest) = (&head[..colon], &text[colon + 1..]);
    let is_http = scheme.eq_ignore_ascii_case("http");
    let is_https = scheme.eq_ignore_ascii_case("https");
    let refuse = |problem: String| Err((Part::Scheme, problem));
    match rest.strip_prefix("//") {
        Some(_) if is_https => refuse(
            "HTTPS is not supported; terminate TLS elsewhere and use the http:// URL behind it"
                .to_owned(),
        ),
        Some(rest) if is_http => Ok(rest),
        Some(_) => refuse(format!(
            "\"{}\" is not supported; write http://",
            escaped(scheme)
        )),
        // `http:8000` is a host named `http`, as for curl.
        None if (is_http || is_https) && !is_digits(&head[colon + 1..]) => {
            refuse("two slashes are missing after the colon; write http://HOST/".to_owned())
        }
        None => Ok(text),
    }
}

/// A URL without its scheme, split at its delimiters (RFC 3986 §3).
struct Pieces<'a> {
    userinfo: Option<&'a str>,
    host_and_port: &'a str,
    path: &'a str,
    query: Option<&'a str>,
    fragment: Option<&'a str>,
}

impl<'a> Pieces<'a> {
    fn of(text: &'a str) -> Self {
        let (text, fragment) = split_off(text, '#');
        let (text, query) = split_off(text, '?');
        let (authority, path) = text.split_at(text.find('/').unwrap_or(text.len()));
        let (userinfo, host_and_port) = match authority.rsplit_once('@') {
            Some((userinfo, rest)) => (Some(userinfo), rest),
            None => (None, authority),
        };
        Pieces {
            userinfo,
            host_and_port,
            path,
            query,
            fragment,
        }
    }
}

fn split_off(text: &str, delimiter: char) -> (&str, Option<&str>) {
    match text.split_once(delimiter) {
        Some((text, rest)) => (text, Some(rest)),
        None => (text, None),
    }
}

/// Basic authentication: user and password; either may be empty.
fn credentials(userinfo: &str) -> Result<Credentials, Problem> {
    let refuse = |problem: &str| Err((Part::Userinfo, problem.to_owned()));
    if userinfo.contains('@') {
        return refuse(
            "there is a second @ before the host; write %40 for an @ in a user or password",
        );
    }
    check_characters(Part::Userinfo, userinfo)?;
    let (user, password) = split_off(userinfo, ':');
    let decoded = |text: &str| percent_decode_str(text).collect::<Vec<u8>>();
    let (name, secret) = (decoded(user), decoded(password.unwrap_or_default()));
    if name.contains(&b':') {
        return refuse("Basic authentication cannot send a user with a colon; use -H");
    }
    if name.iter().chain(&secret).any(u8::is_ascii_control) {
        return refuse("Basic authentication does not allow control characters; remove them");
    }
    let joined = [name, secret].join(&b':');
    Ok(Credentials {
        user: password.map(|_| user.to_owned()),
        authorization: format!("Basic {}", BASE64_STANDARD.encode(joined)),
    })
}

fn host_and_port(pieces: &Pieces<'_>) -> Result<(Host, u16), Problem> {
    let text = pieces.host_and_port;
    let refuse = |problem: &str| Err((Part::Host, problem.to_owned()));
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((inside, behind)) = rest.split_once(']') else {
                return refuse("the bracket is not closed; write [ADDRESS]");
            };
            match (behind, behind.strip_prefix(':')) {
                ("", _) => (ipv6(inside)?, None),
                (_, Some(port)) => (ipv6(inside)?, Some(port)),
                (_, None) => {
                    return refuse("only :PORT may follow the bracket; write [ADDRESS]:PORT");
                }
            }
        }
        None if text.matches(':').count() > 1 => {
            return refuse(
                "more than one colon; write HOST:PORT, or an IPv6 address in brackets, [ADDRESS]:PORT",
            );
        }
        None => {
            let (host, port) = split_off(text, ':');
            // The port is checked before the name, since a mistyped port is more common than a
            // missing host.
            let port = match port {
                Some(port) => Some(self::port(port, pieces)?),
                None => None,
            };
            return Ok((name_or_ipv4(host)?, port.unwrap_or(PORT)));
        }
    };
    match port {
        Some(port) => Ok((host, self::port(port, pieces)?)),
        None => Ok((host, PORT)),
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Parses a port. Without digits it is the scheme's default, as for curl (RFC 3986 §3.2.3).
fn port(text: &str, pieces: &Pieces<'_>) -> Result<u16, Problem> {
    if text.is_empty() {
        return Ok(PORT);
    }
    let number = is_digits(text).then(|| text.parse().ok()).flatten();
    number.filter(|&port| port > 0).ok_or_else(|| {
        // In `user:pass/word@host` the host seems to end at the slash: the supposed port may be a
        // secret.
        let rest = [
            pieces.path,
            pieces.query.unwrap_or_default(),
            pieces.fragment.unwrap_or_default(),
        ];
        let problem = match !is_digits(text) && rest.iter().any(|rest| rest.contains('@')) {
            true => "the text after the colon is not a number; in a password write %2F for /, \
             %3F for ? and %23 for #"
                .to_owned(),
            false => format!(
                "{} is not a port; write a number from 1 to 65535, or nothing for {PORT}",
                escaped(text)
            ),
        };
        (Part::Port, problem)
    })
}

/// Parses the text between brackets.
fn ipv6(text: &str) -> Result<Host, Problem> {
    let (address, zone) = split_off(text, '%');
    let address: Ipv6Addr = address.parse().map_err(|_| {
        let problem = "the text in brackets is not an IPv6 address; write one such as [::1], and names and \
         IPv4 addresses without brackets";
        (Part::Host, problem.to_owned())
    })?;
    let zone = zone.map(self::zone).transpose()?;
    if zone.is_none() && address.is_unicast_link_local() {
        let problem = format!(
            "a link-local address needs its network interface; write [{address}%25INTERFACE] with one of {}",
            interfaces()
        );
        return Err((Part::Zone, problem));
    }
    Ok(Host::Ipv6(address, zone))
}

/// Parses the text after the `%` of an address: `eth0`, or `25eth0` as in RFC 6874.
fn zone(text: &str) -> Result<Zone, Problem> {
    let encoded = match text.strip_prefix("25") {
        // `25` alone is the interface with that index, as for curl.
        None | Some("") => text,
        Some(name) => name,
    };
    let name = percent_decode_str(encoded).decode_utf8_lossy();
    let by_name = if_nametoindex(name.as_ref()).ok();
    let by_number = || name.parse().ok().filter(|&number| is_interface(number));
    match by_name.or_else(by_number) {
        Some(scope_id) => Ok(Zone {
            name: encoded.to_owned(),
            scope_id,
        }),
        None => {
            let problem = format!(
                "there is no network interface \"{}\"; write one of {}",
                escaped(&name),
                interfaces()
            );
            Err((Part::Zone, problem))
        }
    }
}

fn is_interface(number: u32) -> bool {
    let is_it = |it: &nix::net::if_::Interface| it.index() == number;
    if_nameindex().is_ok_and(|all| all.iter().any(is_it))
}

/// The interfaces of this machine: `lo, eth0`.
fn interfaces() -> String {
    let Ok(all) = if_nameindex() else {
        return "those that `ip link` lists".to_owned();
    };
    let names = all
        .iter()
        .map(|it| it.name().to_string_lossy().into_owned());
    names.collect::<Vec<_>>().join(", ")
}

/// The longest label of a name (RFC 1035 §2.3.4).
const LABEL_BYTES_MAX: usize = 63;
const NAME_BYTES_MAX: usize = 253;

fn name_or_ipv4(text: &str) -> Result<Host, Problem> {
    let refuse = |problem: String| Err((Part::Host, problem));
    if text.is_empty() {
        return refuse("it is missing; write http://HOST/".to_owned());
    }
    check_characters(Part::Host, text)?;
    let found = match url::Host::parse(text) {
        Ok(found) => found,
        Err(url::ParseError::InvalidIpv4Address) => {
            return refuse(format!(
                "{} is not an IPv4 address; write four numbers from 0 to 255",
                escaped(text)
            ));
        }
        Err(error) => {
            return refuse(format!(
                "{} is not a name ({error}); write letters, digits, - and . only",
                escaped(text)
            ));
        }
    };
    let name = match found {
        url::Host::Ipv4(address) => return Ok(Host::Ipv4(address)),
        url::Host::Ipv6(address) => return Ok(Host::Ipv6(address, None)),
        url::Host::Domain(name) => name,
    };
    let is_fine = |c: char| c.is_ascii_alphanumeric() || "-_.~".contains(c);
    if let Some(other) = name.chars().find(|&c| !is_fine(c)) {
        return refuse(format!(
            "a name cannot contain {}; write letters, digits, - and . only",
            other.escape_default()
        ));
    }
    let labels = name.strip_suffix('.').unwrap_or(&name);
    if labels.split('.').any(str::is_empty) {
        return refuse(format!(
            "{} has an empty part; write one dot between two parts of a name",
            escaped(text)
        ));
    }
    let is_long = |label: &str| label.len() > LABEL_BYTES_MAX;
    if labels.len() > NAME_BYTES_MAX || labels.split('.').any(is_long) {
        return refuse(format!(
            "the name is too long; write {NAME_BYTES_MAX} characters or fewer, {LABEL_BYTES_MAX} or fewer \
             between two dots"
        ));
    }
    Ok(Host::Name(name))
}

/// Refuses characters that different readers of URLs understand differently.
fn check_characters(part: Part, text: &str) -> Result<(), Problem> {
    let refuse = |problem: String| Err((part, problem));
    for (at, c) in text.char_indices() {
        // A host cannot contain encoded characters.
        let instead = || match part {
            Part::Host => "remove it".to_owned(),
            _ => format!("write {}", percent_encoded(c)),
        };
        let is_sent = part != Part::Fragment;
        match c {
            '\\' if part == Part::Path => {
                return refuse("a URL cannot contain a backslash; write / or %5C".to_owned());
            }
            '\\' if is_sent => {
                return refuse(format!("a URL cannot contain a backslash; {}", instead()));
            }
            _ if c.is_control() => {
                let shown = c.escape_unicode();
                return refuse(format!("a control character ({shown}); {}", instead()));
            }
            _ if c.is_whitespace() => return refuse(format!("a blank; {}", instead())),
            '%' if is_sent => {
                let is_hex = |byte: &u8| byte.is_ascii_hexdigit();
                let digits = text.as_bytes().get(at + 1..at + 3);
                if !digits.is_some_and(|digits| digits.iter().all(is_hex)) {
                    return refuse(
                        "% must be followed by two hexadecimal digits; write %25 for a percent sign"
                            .to_owned(),
                    );
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn percent_encoded(c: char) -> String {
    let mut bytes = [0; 4];
    let bytes = c.encode_utf8(&mut bytes).bytes();
    bytes.map(|byte| format!("%{byte:02X}")).collect()
}

/// The request target as browsers send it: an empty path becomes `/`, `.` and `..` are resolved,
/// and characters that a URL must not contain are percent-encoded.
fn request_target(path: &str, query: Option<&str>) -> Result<String, Problem> {
    let mut url = Url::parse("http://host/").expect("a valid URL");
    url.set_path(path);
    url.set_query(query);
    Ok(match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    })
}

/// The longest URL in a message.
const SHOWN_CHARS_MAX: usize = 160;

/// A URL for a message: on one line, without user information.
fn shown(text: &str) -> String {
    let start = text.find("://").map_or(0, |at| at + 3);
    let authority = text[start..]
        .find(['/', '?', '#'])
        .map_or(text.len(), |at| start + at);
    let (head, rest) = text.split_at(start);
    let authority = &text[start..authority];
    // There is no port but an @ after the first slash: most likely a password contains a slash.
    let is_port = |it: (&str, &str)| it.1.is_empty() || is_digits(it.1);
    let may_hold_secret =
        !authority.starts_with('[') && !authority.rsplit_once(':').is_none_or(is_port);
    let end = match authority.rfind('@') {
        Some(at) => Some(at),
        None if may_hold_secret => rest.rfind('@'),
        None => None,
    };
    match end {
        Some(at) => escaped(&format!("{head}{REDACTED}{}", &rest[at..])),
        None => escaped(text),
    }
}

/// A text on one line of limited length.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars().take(SHOWN_CHARS_MAX) {
        // `escape_debug` escapes what is invisible or changes the direction of text.
        let is_plain = matches!(c, '"' | '\'' | '\\') || c.escape_debug().count() == 1;
        match !is_plain || (c.is_whitespace() && c != ' ') {
            true => out.extend(c.escape_unicode()),
            false => out.push(c),
        }
    }
    if text.chars().nth(SHOWN_CHARS_MAX).is_some() {
        out += "...";
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Delimiters, unusual and plain characters, which often form a URL.
    fn any_text() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("http://"),
            Just("h"),
            Just("1.2.3.4"),
            Just("[::1]"),
            Just("["),
            Just("]"),
            Just(":"),
            Just(":80"),
            Just("/"),
            Just("//"),
            Just("?"),
            Just("#"),
            Just("@"),
            Just("u:p@"),
            Just("%"),
            Just("%25"),
            Just("%0d"),
            Just("%lo"),
            Just(".."),
            Just("ä"),
            Just("例"),
            Just("\\"),
            Just(" "),
            Just("\n"),
            Just("\0"),
            Just("\u{200d}"),
            Just("xn--"),
            Just("&"),
            Just("'"),
            Just("\""),
            Just("{"),
            Just("|"),
            Just("é"),
            Just("\u{ad}"),
        ];
        prop_oneof![
            prop::collection::vec(piece, 0..9).prop_map(|pieces| pieces.concat()),
            any::<String>(),
            any::<String>().prop_map(|path| format!("http://h/{path}")),
        ]
    }

    proptest! {
        /// Parsing never panics, no sent text can be misunderstood, and the displayed URL means the
        /// same apart from credentials.
        #[test]
        fn any_text_is_understood_or_refused(text in any_text()) {
            let is_plain = |it: &str| it.bytes().all(|byte| byte.is_ascii_graphic());
            match text.parse::<HttpUrl>() {
                Err(error) => prop_assert!(!error.to_string().contains(char::is_control)),
                Ok(url) => {
                    prop_assert!(is_plain(url.request_target()), "{url:?}");
                    prop_assert!(url.request_target().starts_with('/'), "{url:?}");
                    prop_assert!(!url.request_target().contains('#'), "{url:?}");
                    prop_assert!(is_plain(&url.host_field()) && url.port > 0, "{url:?}");
                    prop_assert!(!url.host_field().contains(['/', '@', '%', '?']), "{url:?}");
                    let again: HttpUrl = url.to_string().parse().unwrap();
                    prop_assert!(again.is_of_same_server(&url));
                    prop_assert_eq!(again.request_target(), url.request_target());
                }
            }
        }
    }

    /// A URL; where and what it requests; and its display if it differs.
    type Understood = (
        &'static str,
        (&'static str, u16, &'static str, &'static str),
        Option<&'static str>,
    );

    #[test]
    fn what_is_understood() {
        let cases: &[Understood] = &[
            // Schemes, or none.
            ("http://h/", ("h", 80, "h", "/"), None),
            ("HTTP://H/", ("h", 80, "h", "/"), Some("http://h/")),
            ("h:8000", ("h", 8000, "h:8000", "/"), Some("http://h:8000/")),
            (
                "h:8000/a/b",
                ("h", 8000, "h:8000", "/a/b"),
                Some("http://h:8000/a/b"),
            ),
            ("h/", ("h", 80, "h", "/"), Some("http://h/")),
            (
                "example.com",
                ("example.com", 80, "example.com", "/"),
                Some("http://example.com/"),
            ),
            (
                "localhost:8000?x",
                ("localhost", 8000, "localhost:8000", "/?x"),
                Some("http://localhost:8000/?x"),
            ),
            (
                "1.2.3.4",
                ("1.2.3.4", 80, "1.2.3.4", "/"),
                Some("http://1.2.3.4/"),
            ),
            (
                "[::1]:81",
                ("::1", 81, "[::1]:81", "/"),
                Some("http://[::1]:81/"),
            ),
            (
                "http:81",
                ("http", 81, "http:81", "/"),
                Some("http://http:81/"),
            ),
            (
                "h/http://i/",
                ("h", 80, "h", "/http://i/"),
                Some("http://h/http://i/"),
            ),
            (
                "h?u=http://i:x/",
                ("h", 80, "h", "/?u=http://i:x/"),
                Some("http://h/?u=http://i:x/"),
            ),
            // Ports.
            ("http://h:1/", ("h", 1, "h:1", "/"), None),
            ("http://h:65535/", ("h", 65535, "h:65535", "/"), None),
            ("http://h:80/", ("h", 80, "h", "/"), Some("http://h/")),
            ("http://h:/", ("h", 80, "h", "/"), Some("http://h/")),
            (
                "http://h:000081/",
                ("h", 81, "h:81", "/"),
                Some("http://h:81/"),
            ),
            (
                "http://[::1]:/",
                ("::1", 80, "[::1]", "/"),
                Some("http://[::1]/"),
            ),
            // Names.
            (
                "http://bücher.example/",
                ("xn--bcher-kva.example", 80, "xn--bcher-kva.example", "/"),
                Some("http://xn--bcher-kva.example/"),
            ),
            (
                "http://faß.example/",
                ("xn--fa-hia.example", 80, "xn--fa-hia.example", "/"),
                Some("http://xn--fa-hia.example/"),
            ),
            (
                "例え.テスト:81",
                (
                    "xn--r8jz45g.xn--zckzah",
                    81,
                    "xn--r8jz45g.xn--zckzah:81",
                    "/",
                ),
                Some("http://xn--r8jz45g.xn--zckzah:81/"),
            ),
            (
                "http://loc%61lhost/",
                ("localhost", 80, "localhost", "/"),
                Some("http://localhost/"),
            ),
            (
                "http://a_b-c.example./",
                ("a_b-c.example.", 80, "a_b-c.example.", "/"),
                None,
            ),
            // Addresses, also in the odd forms that curl and browsers read.
            (
                "http://0x7f.1/",
                ("127.0.0.1", 80, "127.0.0.1", "/"),
                Some("http://127.0.0.1/"),
            ),
            (
                "http://2130706433/",
                ("127.0.0.1", 80, "127.0.0.1", "/"),
                Some("http://127.0.0.1/"),
            ),
            (
                "http://127.1:81/",
                ("127.0.0.1", 81, "127.0.0.1:81", "/"),
                Some("http://127.0.0.1:81/"),
            ),
            (
                "http://[0:0::1]/",
                ("::1", 80, "[::1]", "/"),
                Some("http://[::1]/"),
            ),
            (
                "http://[::ffff:1.2.3.4]/",
                ("::ffff:1.2.3.4", 80, "[::ffff:1.2.3.4]", "/"),
                None,
            ),
            (
                "http://[fe80::1%lo]:81/",
                ("fe80::1%lo", 81, "[fe80::1]:81", "/"),
                Some("http://[fe80::1%25lo]:81/"),
            ),
            (
                "http://[fe80::1%25lo]/",
                ("fe80::1%lo", 80, "[fe80::1]", "/"),
                None,
            ),
            (
                "http://[fe80::1%1]/",
                ("fe80::1%1", 80, "[fe80::1]", "/"),
                Some("http://[fe80::1%251]/"),
            ),
            (
                "http://[fe80::1%251]/",
                ("fe80::1%1", 80, "[fe80::1]", "/"),
                None,
            ),
            (
                "http://[::1%lo]/",
                ("::1%lo", 80, "[::1]", "/"),
                Some("http://[::1%25lo]/"),
            ),
            // Paths and queries.
            ("http://h", ("h", 80, "h", "/"), Some("http://h/")),
            (
                "http://h?a=b",
                ("h", 80, "h", "/?a=b"),
                Some("http://h/?a=b"),
            ),
            ("http://h#part", ("h", 80, "h", "/"), Some("http://h/")),
            ("http://h?a#?b", ("h", 80, "h", "/?a"), Some("http://h/?a")),
            ("http://h/?", ("h", 80, "h", "/?"), None),
            (
                "http://h/a?b?c=/d&e[]=1",
                ("h", 80, "h", "/a?b?c=/d&e[]=1"),
                None,
            ),
            (
                "http://h/ä?ö#ü",
                ("h", 80, "h", "/%C3%A4?%C3%B6"),
                Some("http://h/%C3%A4?%C3%B6"),
            ),
            ("http://h/%c3%a4%20", ("h", 80, "h", "/%c3%a4%20"), None),
            (
                "http://h/\"<>?\"<>",
                ("h", 80, "h", "/%22%3C%3E?%22%3C%3E"),
                Some("http://h/%22%3C%3E?%22%3C%3E"),
            ),
            (
                "http://h/a/../b/./c",
                ("h", 80, "h", "/b/c"),
                Some("http://h/b/c"),
            ),
            (
                "http://h//a//;p=1,2:@!$&'()*+~",
                ("h", 80, "h", "//a//;p=1,2:@!$&'()*+~"),
                None,
            ),
        ];
        for (text, (host, port, field, target), displayed) in cases {
            let url: HttpUrl = text.parse().unwrap_or_else(|error| panic!("{error}"));
            let found = (
                &*url.host(),
                url.port,
                &*url.host_field(),
                url.request_target(),
            );
            assert_eq!(found, (*host, *port, *field, *target), "{text}");
            assert_eq!(url.to_string(), displayed.unwrap_or(text), "{text}");
            assert_eq!(url.authorization(), None, "{text}");
            // The displayed URL can be parsed again.
            assert_eq!(url.to_string().parse().as_ref(), Ok(&url), "{text}");
        }
    }

    #[test]
    fn user_information_is_sent_and_not_shown() {
        for (text, sent, displayed) in [
            (
                "http://user:secret@h/",
                "user:secret",
                "http://user:****@h/",
            ),
            (
                "user:secret@h:81/x",
                "user:secret",
                "http://user:****@h:81/x",
            ),
            ("http://token@h/", "token:", "http://****@h/"),
            ("http://user:@h/", "user:", "http://user:****@h/"),
            ("http://:secret@h/", ":secret", "http://:****@h/"),
            ("http://@h/", ":", "http://****@h/"),
            ("http://u:a:b@h/", "u:a:b", "http://u:****@h/"),
            ("http://a%40b:100%25@h/", "a@b:100%", "http://a%40b:****@h/"),
            ("http://u:%2F%3f%23@h/", "u:/?#", "http://u:****@h/"),
            ("http://é:ü%C3%BC@h/", "é:üü", "http://é:****@h/"),
            ("http://http:x@h/", "http:x", "http://http:****@h/"),
            ("http://u:p@[::1]:81/@y", "u:p", "http://u:****@[::1]:81/@y"),
        ] {
            let url: HttpUrl = text.parse().unwrap_or_else(|error| panic!("{error}"));
            let encoded = url.authorization().unwrap().strip_prefix("Basic ");
            let decoded = BASE64_STANDARD.decode(encoded.unwrap()).unwrap();
            assert_eq!(String::from_utf8(decoded).unwrap(), sent, "{text}");
            assert_eq!(url.to_string(), displayed, "{text}");
            assert!(!format!("{url:?}").contains("secret"), "{url:?}");
        }
    }

    /// What an error mentions besides the part.
    #[test]
    fn what_is_refused() {
        let long_label = format!("http://{}.example/", "a".repeat(64));
        let long_name = format!("http://{}example/", "a.".repeat(125));
        let cases: &[(&str, Part, &str)] = &[
            ("https://h/", Part::Scheme, "HTTPS is not supported"),
            ("HTTPS://h:443/", Part::Scheme, "HTTPS is not supported"),
            (
                "ftp://h/",
                Part::Scheme,
                "\"ftp\" is not supported; write http://",
            ),
            ("://h/", Part::Scheme, "\"\" is not supported"),
            (" http://h/", Part::Scheme, "\" http\" is not supported"),
            ("http:h", Part::Scheme, "write http://HOST/"),
            ("http:/h/", Part::Scheme, "write http://HOST/"),
            ("https:h", Part::Scheme, "write http://HOST/"),
            ("http:", Part::Scheme, "write http://HOST/"),
            ("http:\\\\h\\", Part::Scheme, "write http://HOST/"),
            (
                "http://h:0/",
                Part::Port,
                "0 is not a port; write a number from 1 to 65535",
            ),
            ("http://h:00/", Part::Port, "00 is not a port"),
            ("http://h:65536/", Part::Port, "65536 is not a port"),
            ("http://h:99999/", Part::Port, "99999 is not a port"),
            (
                "http://h:18446744073709551697/",
                Part::Port,
                "18446744073709551697 is not a port",
            ),
            ("http://h:-1/", Part::Port, "-1 is not a port"),
            ("http://h:+81/", Part::Port, "+81 is not a port"),
            ("http://h:8O80/", Part::Port, "8O80 is not a port"),
            ("http://h:0x1F90/", Part::Port, "0x1F90 is not a port"),
            ("http://h:81;x/", Part::Port, "81;x is not a port"),
            ("http://h:81 /", Part::Port, "81  is not a port"),
            ("http://h:８０/", Part::Port, "８０ is not a port"),
            ("http://h:81\\x", Part::Port, "81\\x is not a port"),
            ("http://[::1]:x/", Part::Port, "x is not a port"),
            ("http://u:p@h:x/", Part::Port, "x is not a port"),
            ("h:x/", Part::Port, "x is not a port"),
            ("mailto:somebody", Part::Port, "somebody is not a port"),
            (
                "http://u:pass/word@h/",
                Part::Port,
                "in a password write %2F for /",
            ),
            ("", Part::Host, "it is missing"),
            ("http://", Part::Host, "it is missing"),
            ("http:///path", Part::Host, "it is missing"),
            ("/path", Part::Host, "it is missing"),
            ("//h/path", Part::Host, "it is missing"),
            ("http://:81/", Part::Host, "it is missing"),
            ("http://u:p@/", Part::Host, "it is missing"),
            ("http://?q", Part::Host, "it is missing"),
            ("http://a b/", Part::Host, "a blank; remove it"),
            (
                "http://a\tb/",
                Part::Host,
                "a control character (\\u{9}); remove it",
            ),
            ("http://a\\b/", Part::Host, "cannot contain a backslash"),
            ("http://a%zz/", Part::Host, "two hexadecimal digits"),
            ("http://a%00b/", Part::Host, "is not a name"),
            ("http://a%2Fb/", Part::Host, "is not a name"),
            ("http://a%20b/", Part::Host, "is not a name"),
            ("http://a!b/", Part::Host, "a name cannot contain !"),
            ("http://a,b/", Part::Host, "a name cannot contain ,"),
            ("http://a..b/", Part::Host, "an empty part"),
            ("http://.a/", Part::Host, "an empty part"),
            ("http://./", Part::Host, "an empty part"),
            (&long_label, Part::Host, "63 or fewer"),
            (&long_name, Part::Host, "253 characters or fewer"),
            (
                "http://256.1.1.1/",
                Part::Host,
                "256.1.1.1 is not an IPv4 address",
            ),
            ("http://1.2.3.4.5/", Part::Host, "not an IPv4 address"),
            (
                "http://::1/",
                Part::Host,
                "more than one colon; write HOST:PORT, or",
            ),
            ("::1", Part::Host, "an IPv6 address in brackets"),
            ("http://[::1/", Part::Host, "is not closed"),
            (
                "http://[::1]81/",
                Part::Host,
                "only :PORT may follow the bracket",
            ),
            (
                "http://[::1]x:81/",
                Part::Host,
                "only :PORT may follow the bracket",
            ),
            ("http://[1.2.3.4]/", Part::Host, "not an IPv6 address"),
            ("http://[h]/", Part::Host, "not an IPv6 address"),
            ("http://[]/", Part::Host, "not an IPv6 address"),
            ("http://[v1.x]/", Part::Host, "not an IPv6 address"),
            ("http://[1:2:3]/", Part::Host, "not an IPv6 address"),
            (
                "http://[fe80::1]/",
                Part::Zone,
                "needs its network interface; write [fe80::1%25INTERFACE]",
            ),
            (
                "http://[fe80::1%]/",
                Part::Zone,
                "no network interface \"\"",
            ),
            (
                "http://[fe80::1%no-such]/",
                Part::Zone,
                "no network interface \"no-such\"; write one of ",
            ),
            (
                "http://[fe80::1%25no-such]/",
                Part::Zone,
                "no network interface \"no-such\"",
            ),
            (
                "http://[fe80::1%4294967295]/",
                Part::Zone,
                "no network interface \"4294967295\"",
            ),
            (
                "http://[fe80::1%0]/",
                Part::Zone,
                "no network interface \"0\"",
            ),
            (
                "http://[fe80::1%\n]/",
                Part::Zone,
                "no network interface \"\\u{a}\"",
            ),
            ("http://u:a@b@h/", Part::Userinfo, "write %40"),
            ("http://a b:c@h/", Part::Userinfo, "a blank; write %20"),
            ("http://u:100%@h/", Part::Userinfo, "write %25"),
            ("http://u:a\\b@h/", Part::Userinfo, "write %5C"),
            ("http://u%3Av:p@h/", Part::Userinfo, "a user with a colon"),
            (
                "http://u:%0d%0aX@h/",
                Part::Userinfo,
                "no control characters",
            ),
            ("http://u:%00@h/", Part::Userinfo, "no control characters"),
            ("http://h/a b", Part::Path, "a blank; write %20"),
            ("http://h/ ", Part::Path, "a blank; write %20"),
            ("http://h/a\u{a0}b", Part::Path, "a blank; write %C2%A0"),
            (
                "http://h/\r\nX: y",
                Part::Path,
                "a control character (\\u{d}); write %0D",
            ),
            ("http://h/\u{7f}", Part::Path, "write %7F"),
            ("http://h/\u{85}", Part::Path, "write %C2%85"),
            ("http://h/a\\b", Part::Path, "write / or %5C"),
            ("http://h/100%", Part::Path, "write %25"),
            ("http://h/%4", Part::Path, "write %25"),
            ("http://h/%é1", Part::Path, "write %25"),
            ("http://h?a b", Part::Query, "a blank; write %20"),
            (
                "http://h/?a\tb",
                Part::Query,
                "a control character (\\u{9}); write %09",
            ),
            ("http://h/?a\\b", Part::Query, "write %5C"),
            ("http://h/?%g0", Part::Query, "write %25"),
            ("http://h/#a b", Part::Fragment, "a blank; write %20"),
            (
                "http://h/#\n",
                Part::Fragment,
                "a control character (\\u{a}); write %0A",
            ),
        ];
        for (text, part, problem) in cases {
            let error = text.parse::<HttpUrl>().expect_err(text);
            assert_eq!(error.part, *part, "{text:?}: {error}");
            assert!(error.problem.contains(problem), "{text:?}: {error}");
            let message = error.to_string();
            assert!(!message.contains(char::is_control), "{message:?}");
        }
    }

    /// Whatever is wrong with the URL.
    #[test]
    fn messages_are_bounded_and_visible() {
        let long = "a".repeat(100_000);
        for text in [
            format!("http://{long}é..b/"),
            format!("http://1.{}/", "9".repeat(100_000)),
            format!("http://[fe80::1%{long}]/"),
            format!("http://[{long}]/"),
            format!("http://{long}é /"),
            format!("http://h:{long}/"),
            format!("{long}://h/"),
            format!("http://h/{long} "),
            format!("http://h/?{long} "),
            "http://a\u{202e}b c/".to_owned(),
            "http://h/\u{feff}\u{2066} ".to_owned(),
        ] {
            let message = text.parse::<HttpUrl>().unwrap_err().to_string();
            // The message contains the URL and the problem, each once.
            assert!(message.chars().count() < 4 * SHOWN_CHARS_MAX, "{message}");
            let is_invisible = |c: char| "\u{202e}\u{feff}\u{2066}".contains(c);
            assert!(!message.contains(is_invisible), "{message}");
        }
    }

    #[test]
    fn messages_hold_no_password() {
        for (text, expected) in [
            ("http://u:qqqzzz@h:x/", "http://****@h:x/: port: "),
            ("u:qqqzzz@h:x", "****@h:x: port: "),
            ("http://u:qqq@zzz@h/", "http://****@h/: userinfo: "),
            ("http://u:qqq zzz@h/", "http://****@h/: userinfo: "),
            ("http://u:qqq/zzz@h/", "http://****@h/: port: "),
            ("http://u:qqq?zzz@h/", "http://****@h/: port: "),
            ("http://u:qqq#zzz@h/", "http://****@h/: port: "),
            ("http://h:81/a b@c", "http://h:81/a b@c: path: "),
            ("http://h:x/", "http://h:x/: port: x is"),
        ] {
            let message = text.parse::<HttpUrl>().unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message}");
            assert!(
                !message.contains("qqq") && !message.contains("zzz"),
                "{message}"
            );
        }
        let long = format!("http://h/{} ", "x".repeat(1_000));
        let message = long.parse::<HttpUrl>().unwrap_err().to_string();
        assert!(message.len() < 300, "{message}");
    }

    #[test]
    fn servers_are_told_apart_by_host_and_port() {
        for (one, other, same) in [
            ("http://h/a", "http://u:p@H:80/b?c", true),
            ("http://127.0.0.1/", "127.1", true),
            ("http://[::1%lo]/", "http://[::1%251]/", true),
            ("http://[::1%lo]/", "http://[::1]/", false),
            ("http://h/", "http://h:81/", false),
            ("http://h/", "http://i/", false),
        ] {
            let (one, other): (HttpUrl, HttpUrl) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!(one.is_of_same_server(&other), same, "{one} {other}");
        }
    }

    #[test]
    fn addresses_have_urls() {
        for (address, url) in [
            ("127.0.0.1:8000", "http://127.0.0.1:8000/"),
            ("127.0.0.1:80", "http://127.0.0.1/"),
            ("[::1]:8000", "http://[::1]:8000/"),
            ("[fe80::1%1]:8000", "http://[fe80::1%251]:8000/"),
        ] {
            let address: SocketAddr = address.parse().unwrap();
            let made = HttpUrl::at(address);
            assert_eq!(made.to_string(), url);
            assert_eq!(made.addresses().unwrap(), [address]);
            assert_eq!(url.parse(), Ok(made));
        }
        let url = HttpUrl::at("[::1]:81".parse().unwrap());
        let expected = "GET / HTTP/1.1\r\nHost: [::1]:81\r\nConnection: close\r\n\r\n";
        assert_eq!(url.get("Connection: close\r\n"), expected.as_bytes());
        assert_eq!(url.authority(), "[::1]:81");
        let url: HttpUrl = "h".parse().unwrap();
        assert_eq!(url.authority(), "h:80");
    }
}
