//! TCP sockets as `/proc/net/tcp` and `/proc/net/tcp6` list them (proc_pid_net(5)).

use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Socket, State, canonical};

/// The sockets at this local port that listen, or are connected and not closed on this side.
pub(super) fn serving(port: u16) -> io::Result<Vec<Socket>> {
    let mut sockets = Vec::new();
    for file in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            // A kernel without IPv6 has no such file.
            Err(error) if error.kind() == io::ErrorKind::NotFound && file.ends_with('6') => {
                continue;
            }
            Err(error) => return Err(error),
        };
        let serves = |it: &Socket| {
            it.local.port() == port
                && matches!(
                    it.state,
                    State::Listen | State::Established | State::CloseWait
                )
        };
        sockets.extend(text.lines().skip(1).filter_map(socket).filter(serves));
    }
    Ok(sockets)
}

/// Of a line: its number, local and remote address, state, queues, ..., and the inode in the tenth column.
fn socket(line: &str) -> Option<Socket> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (local, remote) = (address(fields.get(1)?)?, address(fields.get(2)?)?);
    let (send, receive) = fields.get(4)?.split_once(':')?;
    let state = State::from_linux(i32::from_str_radix(fields.get(3)?, 16).ok()?)?;
    Some(Socket {
        holders: Vec::new(),
        local: canonical(local),
        remote: (state != State::Listen).then(|| canonical(remote)),
        state,
        receive_queue: u32::from_str_radix(receive, 16).ok()?,
        send_queue: u32::from_str_radix(send, 16).ok()?,
        timer: None,
        inode: fields.get(9)?.parse().ok()?,
        info: None,
    })
}

/// `0100007F:1F90`: words of 32 bits as they stand in memory, and the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        Some(
            u32::from_str_radix(ip.get(8 * at..8 * at + 8)?, 16)
                .ok()?
                .to_ne_bytes(),
        )
    };
    Some(match ip.len() {
        8 => SocketAddr::from((Ipv4Addr::from(word(0)?), port)),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let bytes: [u8; 16] = words.as_flattened().try_into().ok()?;
            SocketAddr::from((Ipv6Addr::from(bytes), port))
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, expected) in [
            ("0100007F:1F90", Some("127.0.0.1:8080")),
            ("00000000:0000", Some("0.0.0.0:0")),
            ("00000000000000000000000001000000:0050", Some("[::1]:80")),
            ("0100007F", None),
            ("xyz:1", None),
            ("01:1", None),
        ] {
            // The kernel writes words in the order of this machine.
            let expected = expected.filter(|_| cfg!(target_endian = "little"));
            let expected = expected.map(|text| text.parse().unwrap());
            if cfg!(target_endian = "little") {
                assert_eq!(address(text), expected, "{text}");
            }
        }
    }
}
