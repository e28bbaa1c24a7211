//! The server of a run: it runs already, at a URL, or is in the catalogue and started for the run.

use std::env;
use std::net::{IpAddr, SocketAddr};

use anyhow::Context as _;

use super::Usage;
use engine::foreign;
use engine::http_url::HttpUrl;
use subject::catalogue::{Catalogue, Server};

/// The target of a command line.
pub(crate) enum Place {
    /// URLs of one server, at least one.
    Urls(Vec<HttpUrl>),
    /// A server of the catalogue, to be started.
    Server(Catalogue, Server),
}

impl Place {
    /// Parses the targets of a command line: URLs that share host and port, or one name.
    pub(crate) fn find(targets: &[String]) -> anyhow::Result<Self> {
        if let [name] = targets
            && is_name(name)
        {
            return by_name(name);
        }
        if let Some(name) = targets.iter().find(|target| is_name(target)) {
            let message =
                "a server's name must be the only target; several targets are URLs of one server";
            return Err(Usage(format!("{}: {message}", foreign::quoted(name))).into());
        }
        let parsed = targets.iter().map(|text| text.parse());
        let urls: Vec<HttpUrl> = parsed
            .collect::<Result<_, _>>()
            .map_err(|error: engine::http_url::InvalidUrl| Usage(error.to_string()))?;
        if let Some(other) = urls.iter().find(|url| !url.is_of_same_server(&urls[0])) {
            let message = "several URLs are requested in turn over the same connections, so they \
                           must share host and port";
            return Err(Usage(format!("{} and {other}: {message}", urls[0])).into());
        }
        Ok(Place::Urls(urls))
    }

    /// The URLs; empty for a server of the catalogue.
    pub(crate) fn urls(&self) -> &[HttpUrl] {
        match self {
            Place::Urls(urls) => urls,
            Place::Server(..) => &[],
        }
    }
}

/// Whether a target is the name of a server: a word without the characters that only URLs and hosts contain.
fn is_name(target: &str) -> bool {
    !target.is_empty() && !target.contains([':', '/', '.', '?', '#', '@', '[', '%', '\\'])
}

fn by_name(name: &str) -> anyhow::Result<Place> {
    let shown = foreign::quoted(name);
    let here = env::current_dir().context("finding the current folder")?;
    let catalogue = Catalogue::find(&here).map_err(|error| {
        let hint = "a target is a URL such as http://127.0.0.1:8000/, or a server's name";
        anyhow::Error::new(Usage(format!("{shown}: {error} ({hint})")))
    })?;
    let server = catalogue
        .server(name)
        .map_err(|error| Usage(format!("{error}; a host is written as http://{shown}/")))?
        .clone();
    Ok(Place::Server(catalogue, server))
}

/// The addresses behind the host of `url`, of the family of `sources` if there are any; at least one.
pub(crate) fn resolve(url: &HttpUrl, sources: &[IpAddr]) -> anyhow::Result<Vec<SocketAddr>> {
    let host = url.host();
    let all = url
        .addresses()
        .with_context(|| format!("looking up {host}"))?;
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

/// The error for a source and a target of different families, between which there is no connection.
pub(crate) fn family_differs(source: IpAddr, target: SocketAddr) -> Usage {
    let family = |ipv4: bool| if ipv4 { "an IPv4" } else { "an IPv6" };
    Usage(format!(
        "--source: {source} is {} address and cannot reach {target}, {} address",
        family(source.is_ipv4()),
        family(target.is_ipv4())
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

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
            (&["http://h/", "h/"], true),
            (&["h:80", "http://u:p@h/x"], true),
            (&["h:80", "h:81"], false),
            (&["http://h:99999/", "http://h/"], false),
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
