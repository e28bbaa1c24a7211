//! Source addresses as on command lines: `127.0.0.1,127.0.0.2` or `127.0.0.0/28`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::str::FromStr;

use super::Usage;
use super::place::family_differs;

/// Addresses of one family, used in turn; empty if the kernel chooses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sources(pub(super) Vec<IpAddr>);

/// Each has about 28,000 ports, so this is enough.
const SOURCES_MAX: usize = 256;

impl FromStr for Sources {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut addresses = Vec::new();
        for part in text.split(',').map(str::trim) {
            match part.split_once('/') {
                Some((first, prefix)) => addresses.extend(block(part, first, prefix)?),
                None => addresses.push(part.parse().map_err(|_| {
                    format!(
                        "{part:?}: expected addresses such as 127.0.0.1,127.0.0.2 or 127.0.0.0/28"
                    )
                })?),
            }
            if addresses.len() > SOURCES_MAX {
                return Err(too_many());
            }
        }
        let first: IpAddr = addresses[0];
        match addresses
            .iter()
            .find(|other| other.is_ipv4() != first.is_ipv4())
        {
            Some(other) => Err(format!("{first} and {other} are of different families")),
            None => Ok(Sources(addresses)),
        }
    }
}

/// All addresses of a block such as 10.0.0.16/28.
fn block(text: &str, first: &str, prefix: &str) -> Result<impl Iterator<Item = IpAddr>, String> {
    let expected = || format!("{text:?}: expected a block of IPv4 addresses such as 127.0.0.0/28");
    let first: Ipv4Addr = first.parse().map_err(|_| expected())?;
    let prefix: u32 = prefix.parse().map_err(|_| expected())?;
    match prefix {
        24..=32 => {}
        0..24 => return Err(too_many()),
        33.. => return Err(expected()),
    }
    let size = 1 << (32 - prefix);
    let start = first.to_bits();
    let aligned = Ipv4Addr::from_bits(start - start % size);
    if aligned != first {
        return Err(format!(
            "{text} is not a block; did you mean {aligned}/{prefix}?"
        ));
    }
    Ok((start..=start + (size - 1)).map(|bits| Ipv4Addr::from_bits(bits).into()))
}

fn too_many() -> String {
    format!("at most {SOURCES_MAX} addresses, as many as a /24 block has")
}

impl Sources {
    /// Checks that they are addresses of this machine.
    pub(crate) fn check(&self) -> Result<(), Usage> {
        for &source in &self.0 {
            // The socket is only bound, never used.
            if let Err(error) = UdpSocket::bind((source, 0)) {
                return Err(Usage(format!(
                    "--source: {source} is not an address of this machine ({error}); `ip address` lists them"
                )));
            }
        }
        Ok(())
    }

    /// Checks that they can reach a server of the catalogue, which is not started yet.
    pub(crate) fn check_server(&self, name: &str) -> Result<(), Usage> {
        match self.0.first() {
            Some(source) if source.is_ipv6() => Err(Usage(format!(
                "--source: {name} listens on IPv4, which {source} cannot reach"
            ))),
            _ => Ok(()),
        }
    }

    /// Checks that they can reach `target`.
    pub(crate) fn check_target(&self, target: SocketAddr) -> Result<(), Usage> {
        match self.0.first() {
            Some(&source) if source.is_ipv4() != target.is_ipv4() => {
                Err(family_differs(source, target))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_blocks() {
        for (text, count, last) in [
            ("127.0.0.1", 1, "127.0.0.1"),
            ("127.0.0.1, 10.0.0.7", 2, "10.0.0.7"),
            ("127.0.0.0/30", 4, "127.0.0.3"),
            ("127.0.0.0/24", 256, "127.0.0.255"),
            ("10.1.2.3/32,10.1.2.8/31", 3, "10.1.2.9"),
            ("255.255.255.0/24", 256, "255.255.255.255"),
            ("::1,fe80::2", 2, "fe80::2"),
        ] {
            let Sources(found) = text.parse().unwrap();
            assert_eq!(found.len(), count, "{text}");
            assert_eq!(found.last(), Some(&last.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn what_are_none() {
        for (text, message) in [
            ("", "expected addresses such as"),
            ("127.0.0.1,", "expected addresses such as"),
            ("localhost", "expected addresses such as"),
            ("10.0.0.0/23", "at most 256"),
            ("10.0.0.0/24,10.0.1.0", "at most 256"),
            ("10.0.0.5/24", "did you mean 10.0.0.0/24?"),
            ("10.0.0.0/33", "expected a block"),
            ("10.0.0.0/x", "expected a block"),
            ("::1/128", "expected a block of IPv4"),
            ("127.0.0.1,::1", "different families"),
        ] {
            let error = text.parse::<Sources>().unwrap_err();
            assert!(error.contains(message), "{text}: {error}");
        }
    }

    #[test]
    fn sources_are_of_this_machine() {
        let check = |text: &str| text.parse::<Sources>().unwrap().check();
        assert!(check("127.0.0.0/28").is_ok());
        // TEST-NET-1 (RFC 5737) is nobody's.
        let error = check("127.0.0.1,192.0.2.7").unwrap_err().0;
        assert!(
            error.contains("192.0.2.7 is not an address of this machine"),
            "{error}"
        );
    }
}
