//! Where the server of a run is: already running at a URL, or one of the catalogue's, to be started.

use std::env;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};

use anyhow::Context as _;
use http::Uri;

use super::Usage;
use crate::catalogue::{Catalogue, Server};

/// What stands on the command line as target.
pub(super) enum Place {
    /// URLs of one server, at least one.
    Urls(Vec<Uri>),
    /// A server to be started.
    Server(Catalogue, Server),
}

impl Place {
    /// Understands the targets of a command line: URLs that share host and port, or one name.
    pub(super) fn find(targets: &[String]) -> anyhow::Result<Self> {
        if let [name] = targets
            && !name.contains([':', '/', '.'])
        {
            return by_name(name);
        }
        let names = targets.iter().find(|target| !target.contains("://"));
        if let Some(other) = names {
            let message = match other.contains([':', '/', '.']) {
                true => format!("{other} is no URL: did you mean http://{other} ?"),
                false => format!(
                    "{other}: a server's name stands alone; several targets are URLs of one server"
                ),
            };
            return Err(Usage(message).into());
        }
        let urls: Vec<Uri> = targets
            .iter()
            .map(|text| url(text))
            .collect::<Result<_, _>>()?;
        let origin = |uri: &Uri| (host(uri).to_ascii_lowercase(), port(uri));
        if let Some(other) = urls.iter().find(|uri| origin(uri) != origin(&urls[0])) {
            let message = "several URLs are requested in turn over the same connections, so they \
                           must share host and port";
            return Err(Usage(format!("{} and {other}: {message}", urls[0])).into());
        }
        Ok(Place::Urls(urls))
    }
}

fn by_name(name: &str) -> anyhow::Result<Place> {
    let here = env::current_dir().context("finding the current folder")?;
    let catalogue = Catalogue::find(&here).map_err(|error| {
        let hint = "a target is a URL such as http://127.0.0.1:8000/, or a server's name";
        anyhow::Error::new(Usage(format!("{name}: {error} ({hint})")))
    })?;
    let server = catalogue
        .server(name)
        .map_err(|error| Usage(error.to_string()))?
        .clone();
    Ok(Place::Server(catalogue, server))
}

/// An `http` URL with a host.
fn url(text: &str) -> Result<Uri, Usage> {
    let uri: Uri = text
        .parse()
        .map_err(|error| Usage(format!("{text}: {error}")))?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => {
            let message = "https is not spoken; terminate TLS elsewhere and give an http:// URL";
            return Err(Usage(format!("{text}: {message}")));
        }
        scheme => {
            let scheme = scheme.unwrap_or("nothing");
            return Err(Usage(format!(
                "{text}: {scheme} is not spoken, only http://"
            )));
        }
    }
    match uri.host() {
        Some(host) if !host.is_empty() => Ok(uri),
        _ => Err(Usage(format!("{text}: no host in this URL"))),
    }
}

/// The URL of the root at an address.
pub(super) fn url_of(address: SocketAddr) -> anyhow::Result<Uri> {
    Ok(format!("http://{address}/").parse()?)
}

/// Without the brackets of an IPv6 address, which belong to the URL.
fn host(uri: &Uri) -> &str {
    let host = uri.host().unwrap_or_default();
    host.trim_start_matches('[').trim_end_matches(']')
}

fn port(uri: &Uri) -> u16 {
    uri.port_u16().unwrap_or(80)
}

/// The addresses behind the host of `uri`, of the family of `sources` if there are any; at least one.
pub(super) fn resolve(uri: &Uri, sources: &[IpAddr]) -> anyhow::Result<Vec<SocketAddr>> {
    let host = host(uri);
    let all: Vec<SocketAddr> = (host, port(uri))
        .to_socket_addrs()
        .with_context(|| format!("looking up {host}"))?
        .collect();
    let Some(first) = all.first() else {
        anyhow::bail!("looking up {host}: no address");
    };
    let Some(source) = sources.first() else {
        return Ok(all);
    };
    let reachable = |address: &&SocketAddr| address.is_ipv4() == source.is_ipv4();
    let addresses: Vec<SocketAddr> = all.iter().filter(reachable).copied().collect();
    match addresses.is_empty() {
        true => Err(family_differs(*source, *first).into()),
        false => Ok(addresses),
    }
}

/// A connection has addresses of one family at both its ends.
pub(super) fn family_differs(source: IpAddr, target: SocketAddr) -> Usage {
    let family = |ipv4: bool| if ipv4 { "an IPv4" } else { "an IPv6" };
    Usage(format!(
        "--source: from {source}, {} address, there is no way to {target}, {} one",
        family(source.is_ipv4()),
        family(target.is_ipv4())
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_http_with_a_host() {
        for (text, fine) in [
            ("http://127.0.0.1:8000/", true),
            ("http://[::1]:8000/a?b", true),
            ("http://localhost", true),
            ("https://localhost/", false),
            ("ftp://localhost/", false),
            ("http:///path", false),
            ("http://a b/", false),
        ] {
            assert_eq!(url(text).is_ok(), fine, "{text}");
        }
    }

    #[test]
    fn several_urls_are_of_one_server() {
        for (texts, fine) in [
            (&["http://h/a", "http://h/b"][..], true),
            (&["http://h:80/a", "http://H/b", "http://h"], true),
            (&["http://[::1]:80/a", "http://[::1]/b"], true),
            (&["http://h/a", "http://i/a"], false),
            (&["http://h:1/a", "http://h:2/a"], false),
            (&["http://h/", "event-loop"], false),
            (&["event-loop", "iterative"], false),
            (&["event-loop", "http://h/"], false),
            (&["http://h/", "h/"], false),
        ] {
            let texts: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
            assert_eq!(Place::find(&texts).is_ok(), fine, "{texts:?}");
        }
    }

    #[test]
    fn addresses_are_of_the_family_of_the_sources() {
        let address = |url: &str, source: &str| {
            let sources: Vec<IpAddr> = source.parse().into_iter().collect();
            resolve(&url.parse().unwrap(), &sources)
        };
        for (url, source, expected) in [
            ("http://127.0.0.1:81/", "", Some("127.0.0.1:81")),
            ("http://127.0.0.1/", "127.0.0.2", Some("127.0.0.1:80")),
            ("http://[::1]/", "", Some("[::1]:80")),
            ("http://[::1]/", "::1", Some("[::1]:80")),
            ("http://[::1]/", "127.0.0.1", None),
            ("http://127.0.0.1/", "::1", None),
        ] {
            let found = address(url, source);
            match expected {
                Some(expected) => assert_eq!(found.unwrap(), [expected.parse().unwrap()]),
                None => assert!(found.unwrap_err().is::<Usage>(), "{url} from {source}"),
            }
        }
    }
}
