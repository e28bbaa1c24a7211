//! TCP counters of this process's network namespace: they cover the server, the generator, and
//! everything else there.

use std::fs;

/// Counts since the namespace was created; a count that this kernel does not keep is absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Network {
    pub(super) listen_overflows: Option<u64>,
    pub(super) listen_drops: Option<u64>,
    pub(super) retransmits: Option<u64>,
    pub(super) resets_sent: Option<u64>,
}

impl Network {
    pub(super) fn now() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Network::parse(&read("/proc/net/netstat"), &read("/proc/net/snmp"))
    }

    fn parse(netstat: &str, snmp: &str) -> Self {
        Network {
            listen_overflows: count(netstat, "TcpExt:", "ListenOverflows"),
            listen_drops: count(netstat, "TcpExt:", "ListenDrops"),
            retransmits: count(snmp, "Tcp:", "RetransSegs"),
            resets_sent: count(snmp, "Tcp:", "OutRsts"),
        }
    }

    pub(super) fn since(self, begin: Self) -> Self {
        let between = |end: Option<u64>, begin: Option<u64>| Some(end?.saturating_sub(begin?));
        Network {
            listen_overflows: between(self.listen_overflows, begin.listen_overflows),
            listen_drops: between(self.listen_drops, begin.listen_drops),
            retransmits: between(self.retransmits, begin.retransmits),
            resets_sent: between(self.resets_sent, begin.resets_sent),
        }
    }
}

/// The count called `name`. A group of counts has two lines that begin with its name: one with
/// names, one with numbers.
fn count(text: &str, group: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(group));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let mut both = names
        .split_ascii_whitespace()
        .zip(numbers.split_ascii_whitespace());
    both.find(|(its, _)| *its == name)?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_stand_under_their_names() {
        let netstat = "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 1 20 300\n\
                       IpExt: ListenOverflows\nIpExt: 4\n";
        let snmp = "Ip: OutRsts\nIp: 9\nTcp: MaxConn RetransSegs InErrs OutRsts\nTcp: -1 5 6 7\n";
        let whole = Network {
            listen_overflows: Some(20),
            listen_drops: Some(300),
            retransmits: Some(5),
            resets_sent: Some(7),
        };
        for (netstat, snmp, expected) in [
            (netstat, snmp, whole),
            ("", "", Network::default()),
            (
                "TcpExt: ListenDrops\n",
                snmp,
                Network {
                    listen_overflows: None,
                    listen_drops: None,
                    ..whole
                },
            ),
            (
                netstat,
                "Tcp: OutRsts RetransSegs\nTcp: x 3\n",
                Network {
                    retransmits: Some(3),
                    resets_sent: None,
                    ..whole
                },
            ),
        ] {
            assert_eq!(Network::parse(netstat, snmp), expected, "{netstat}{snmp}");
        }
    }

    #[test]
    fn this_kernel_keeps_all_of_them() {
        let now = Network::now();
        let since = Network::now().since(now);
        for count in [
            since.listen_overflows,
            since.listen_drops,
            since.retransmits,
            since.resets_sent,
        ] {
            assert!(count.is_some(), "{since:?}");
        }
    }
}
