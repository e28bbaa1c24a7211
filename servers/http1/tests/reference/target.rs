//! Request targets and hosts (9112 §3.2, RFC 3986).

use std::net::Ipv6Addr;

/// Whether a method allows this form of target (9112 §3.2).
pub(super) fn may_stand(method: &str, target: &str) -> bool {
    match method {
        "CONNECT" => {
            let port = target.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
            matches!(port, Some(Ok(1..)))
                && is_host_and_port(target.as_bytes())
                && !target.starts_with(':')
        }
        "OPTIONS" if target == "*" => true,
        _ if target.starts_with('/') => is_path_and_query(target.as_bytes()),
        _ => ["http://", "https://"].iter().any(|scheme| {
            let (start, rest) = (target.get(..scheme.len()), target.get(scheme.len()..));
            let is_scheme = start.is_some_and(|start| start.eq_ignore_ascii_case(scheme));
            is_scheme && rest.is_some_and(follows_a_scheme)
        }),
    }
}

/// authority path-abempty [ "?" query ], with a host that is not empty (9110 §4.2.1) and no user (§4.2.4).
fn follows_a_scheme(rest: &str) -> bool {
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let path = &rest[authority.len()..];
    let has_host = !authority.is_empty() && !authority.starts_with(':');
    has_host && is_host_and_port(authority.as_bytes()) && is_path_and_query(path.as_bytes())
}

/// uri-host [ ":" port ]
pub(super) fn is_host_and_port(text: &[u8]) -> bool {
    let after_host = match text {
        [b'[', rest @ ..] => {
            let Some(end) = rest.iter().position(|&byte| byte == b']') else {
                return false;
            };
            let address = str::from_utf8(&rest[..end]).unwrap_or_default();
            if address.parse::<Ipv6Addr>().is_err() && !is_ip_future(address) {
                return false;
            }
            &rest[end + 1..]
        }
        _ => after_name_bytes(text, b""),
    };
    match after_host {
        [] => true,
        [b':', port @ ..] => port.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

/// "v" 1*HEXDIG "." 1*( unreserved / sub-delims / ":" ) (RFC 3986 §3.2.2)
fn is_ip_future(address: &str) -> bool {
    let Some((version, rest)) = address.split_once('.') else {
        return false;
    };
    let version = version.strip_prefix(['v', 'V']).unwrap_or_default();
    let hexadecimal = !version.is_empty() && version.chars().all(|c| c.is_ascii_hexdigit());
    let text = !rest.is_empty() && !rest.contains('%');
    hexadecimal && text && after_name_bytes(rest.as_bytes(), b":").is_empty()
}

/// pchar, "/" and "?" (RFC 3986 §3.3, §3.4). The caller has checked a leading "/" where one is needed.
fn is_path_and_query(text: &[u8]) -> bool {
    after_name_bytes(text, b":@/?").is_empty()
}

/// The rest after unreserved characters, sub-delims, percent-encoded bytes and `others`.
fn after_name_bytes<'t>(mut text: &'t [u8], others: &[u8]) -> &'t [u8] {
    loop {
        text = match text {
            [b'%', high, low, rest @ ..] if [high, low].iter().all(|b| b.is_ascii_hexdigit()) => {
                rest
            }
            [byte, rest @ ..]
                if byte.is_ascii_alphanumeric()
                    || b"-._~!$&'()*+,;=".contains(byte)
                    || others.contains(byte) =>
            {
                rest
            }
            _ => return text,
        }
    }
}
