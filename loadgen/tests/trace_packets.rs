//! Real traffic over the loopback interface: captured, written to a file, read back, and printed as tcpdump
//! prints it, line by line. tshark finds nothing wrong with the file.

mod skipped;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;
use trace::model::{Packet, TcpOption};
use trace::output::tcpdump;
use trace::packets;
use trace::packets::{Capture, Frame, Link, Live, Ports};

use skipped::skipped;

/// Says loudly that something was not tested.
macro_rules! skip {
    ($($why:tt)*) => {{
        skipped(format_args!($($why)*));
        return;
    }};
}

/// A capture of what is done with a listener.
fn captured(address: SocketAddr, traffic: impl FnOnce(&TcpListener)) -> Option<Capture> {
    let listener = match TcpListener::bind(address) {
        Ok(listener) => listener,
        Err(error) => {
            skipped(format_args!("nothing can listen on {address}: {error}"));
            return None;
        }
    };
    let mut live = match Live::open(Ports::default()) {
        Ok(live) => live,
        Err(missing) => {
            skipped(&missing);
            return None;
        }
    };
    live.begin().expect("a thread for the capture");
    // As of a server, whose port is known when it has started.
    let port = listener.local_addr().unwrap().port();
    live.set_ports(Ports::from([port])).expect("another filter");
    traffic(&listener);
    settle(&live);
    Some(live.end())
}

/// The kernel acknowledges and closes by itself: waits until it has nothing more to say.
fn settle(live: &Live) {
    let begun = Instant::now();
    let mut seen = usize::MAX;
    while begun.elapsed() < Duration::from_secs(2) && live.seen() != seen {
        seen = live.seen();
        thread::sleep(Duration::from_millis(100));
    }
}

const IPV4: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const IPV6: SocketAddr = SocketAddr::new(std::net::IpAddr::V6(Ipv6Addr::LOCALHOST), 0);

/// The fewest that an exchange takes: three to open, two with data, two to close.
const FRAMES_OF_AN_EXCHANGE: usize = 7;

/// One request and its response, closed by the server first.
fn exchange(listener: &TcpListener, response: &[u8]) {
    thread::scope(|scope| {
        scope.spawn(|| serve(listener.accept().unwrap().0, response));
        ask(listener.local_addr().unwrap());
    });
}

fn serve(mut stream: TcpStream, response: &[u8]) {
    let mut request = [0; 1024];
    let _ = stream.read(&mut request).unwrap();
    stream.write_all(response).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let _ = stream.read(&mut request).unwrap();
}

fn ask(address: SocketAddr) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).unwrap();
    response
}

const HELLO: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world";

/// Writes the capture, and holds what comes of it against the programs that everybody uses.
fn agrees(capture: &Capture) -> Vec<Packet> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("capture.pcap");
    packets::write(&path, capture).expect("writes the capture");
    let read = packets::read(&path).expect("reads it back");
    assert_eq!(read.notes, [""; 0]);
    assert_eq!(read.frames.len(), capture.frames.len());
    for (read, live) in read.frames.iter().zip(&capture.frames) {
        // A pcap file has no names of interfaces, and times since 1970.
        let mut expected = live.clone();
        expected.interface = None;
        expected.at_ns = live.at_ns.saturating_add_signed(capture.epoch_offset_ns);
        assert_eq!(*read, expected);
    }
    let (packets, notes) = capture.packets();
    assert_eq!(notes, [""; 0]);
    assert_eq!(
        packets.len(),
        capture.frames.len(),
        "the filter let through no more than was asked for"
    );
    assert!(packets.is_sorted_by_key(|packet| packet.at_ns));
    same_as_tcpdump(&path, &read.packets().0);
    tshark_is_content(&path);
    packets
}

fn same_as_tcpdump(path: &Path, packets: &[Packet]) {
    let Some(theirs) = output(Command::new("tcpdump").args(["-n", "-t", "-r"]).arg(path)) else {
        skip!("tcpdump is not installed; the lines are not compared with its");
    };
    let ours = tcpdump::lines(packets);
    let theirs: Vec<&str> = theirs.0.lines().collect();
    for (number, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
        assert_eq!(ours, theirs, "line {}", number + 1);
    }
    assert_eq!(ours.len(), theirs.len());
}

fn tshark_is_content(path: &Path) {
    // Preferences of the user are not asked for.
    let tshark = || {
        let mut command = Command::new("tshark");
        command
            .env("WIRESHARK_CONFIG_DIR", "/nonexistent")
            // A port that the kernel picked may be that of some protocol, by which the payload is no good.
            .args(["-d", "tcp.port==1-65535,data"])
            .arg("-n")
            .arg("-r")
            .arg(path);
        command
    };
    let Some((_, warnings)) = output(&mut tshark()) else {
        skip!("tshark is not installed; it is not asked what it thinks of the file");
    };
    let warnings: Vec<&str> = warnings
        .lines()
        .filter(|line| !line.starts_with("Running as user"))
        .collect();
    assert_eq!(warnings, [""; 0]);
    // Malformed packets, and what Wireshark takes for a fault of the capture rather than of the connection.
    for fault in [
        "_ws.malformed",
        "tcp.analysis.lost_segment",
        "tcp.analysis.ack_lost_segment",
    ] {
        let (found, _) = output(tshark().args(["-Y", fault])).unwrap();
        assert_eq!(found, "", "{fault}");
    }
}

/// What a program prints, if it is installed.
fn output(command: &mut Command) -> Option<(String, String)> {
    let output = match command.output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => panic!("{command:?}: {error}"),
    };
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success(), "{command:?}: {stderr}");
    Some((stdout, stderr))
}

#[test]
fn one_request() {
    for address in [IPV4, IPV6] {
        let Some(capture) = captured(address, |listener| exchange(listener, HELLO)) else {
            return;
        };
        let packets = agrees(&capture);
        let flags: Vec<_> = packets
            .iter()
            .map(|packet| (packet.flags.syn, packet.flags.ack))
            .take(3)
            .collect();
        assert_eq!(
            flags,
            [(true, false), (true, true), (false, true)],
            "{packets:#?}"
        );
        assert!(
            packets
                .iter()
                .all(|packet| packet.interface.as_deref() == Some("lo"))
        );
        assert!(packets[0].options.contains(&TcpOption::SackPermitted));
        assert!(packets.iter().any(|packet| packet.payload == HELLO));
        assert_eq!(
            packets.iter().filter(|packet| packet.flags.fin).count(),
            2,
            "each seen once"
        );
    }
}

#[test]
fn times_are_of_the_monotonic_clock() {
    let monotonic_ns = || {
        let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap();
        u64::try_from(time.tv_sec() * 1_000_000_000 + time.tv_nsec()).unwrap()
    };
    let before_ns = monotonic_ns();
    let mut connected_ns = 0;
    let capture = captured(IPV4, |listener| {
        let _stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        connected_ns = monotonic_ns();
        thread::sleep(Duration::from_millis(30));
    });
    let Some(capture) = capture else { return };
    let (packets, _) = capture.packets();
    // What the distance of the two clocks may be off by, generously.
    let slack_ns = 5_000_000;
    for packet in &packets[..3] {
        assert!(packet.at_ns + slack_ns >= before_ns && packet.at_ns <= connected_ns + slack_ns);
    }
    assert!(
        packets[3].at_ns >= connected_ns + 30_000_000 - slack_ns,
        "it was stamped on arrival"
    );
}

#[test]
fn twenty_connections_at_a_time() {
    for address in [IPV4, IPV6] {
        let capture = captured(address, |listener| {
            thread::scope(|scope| {
                for _ in 0..20 {
                    scope.spawn(|| ask(listener.local_addr().unwrap()));
                }
                for _ in 0..20 {
                    let stream = listener.accept().unwrap().0;
                    scope.spawn(|| serve(stream, HELLO));
                }
            });
        });
        let Some(capture) = capture else { return };
        let packets = agrees(&capture);
        let opened = packets
            .iter()
            .filter(|packet| packet.flags.syn && !packet.flags.ack)
            .count();
        assert_eq!(opened, 20);
    }
}

#[test]
fn a_connection_that_is_reset() {
    for address in [IPV4, IPV6] {
        let capture = captured(address, |listener| {
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (server, _) = listener.accept().unwrap();
            client.write_all(b"nobody reads this").unwrap();
            SockRef::from(&server)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
            drop(server);
        });
        let Some(capture) = capture else { return };
        let packets = agrees(&capture);
        assert!(packets.iter().any(|packet| packet.flags.rst));
    }
}

#[test]
fn a_connection_that_is_refused() {
    // On one port: the address of the listener, which is closed by then.
    let capture = captured(IPV4, |listener| {
        let address = listener.local_addr().unwrap();
        exchange(listener, HELLO);
        SockRef::from(listener).shutdown(Shutdown::Both).unwrap();
        TcpStream::connect(address).expect_err("nobody listens any more");
    });
    let Some(capture) = capture else { return };
    let packets = agrees(&capture);
    let last = &packets[packets.len() - 1];
    assert!(last.flags.rst && last.flags.ack, "{last:?}");
}

#[test]
fn more_data_than_a_segment_takes() {
    let body = vec![b'x'; 3_000_000];
    for address in [IPV4, IPV6] {
        let Some(capture) = captured(address, |listener| exchange(listener, &body)) else {
            return;
        };
        let packets = agrees(&capture);
        let from_server = packets.iter().filter(|packet| {
            !packet.flags.syn && packet.source.port() == packets[0].destination.port()
        });
        let bytes: u64 = from_server
            .clone()
            .map(|packet| u64::from(packet.payload_bytes))
            .sum();
        assert!(bytes >= body.len() as u64, "{bytes}");
        assert!(
            from_server
                .clone()
                .any(|packet| packet.payload_bytes > 16_000),
            "no large segments"
        );
    }
}

/// Segments as no connection has them: whatever tcpdump says of them, so do we.
#[test]
fn segments_of_all_kinds_read_as_tcpdump_reads_them() {
    for seed in 0..4 {
        let mut random = fastrand::Rng::with_seed(seed);
        let frames = (0..5000)
            .map(|number| odd_frame(&mut random, number))
            .collect();
        let capture = Capture {
            frames,
            ..Capture::default()
        };
        let (packets, _) = capture.packets();
        assert_eq!(packets.len(), capture.frames.len());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("odd.pcap");
        packets::write(&path, &capture).unwrap();
        same_as_tcpdump(&path, &packets);
    }
}

/// A segment of one of a few connections, with flags, numbers, options and payload at random.
fn odd_frame(random: &mut fastrand::Rng, number: u64) -> Frame {
    // tcpdump looks for HTTP on two ports.
    let server = [8000, 80, 8080][random.usize(..3)];
    let client = 50_000 + random.u16(..3);
    let (source, destination) = if random.bool() {
        (client, server)
    } else {
        (server, client)
    };
    let mut options = Vec::new();
    for _ in 0..random.usize(..5) {
        let option = odd_option(random);
        if options.len() + option.len() <= 40 {
            options.extend(option);
        }
    }
    while options.len() % 4 != 0 {
        options.push(random.u8(..2));
    }
    let payloads: [&[u8]; 14] = [
        b"",
        b"",
        b"x",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\n",
        b"get / HTTP/1.1\r\n",
        b"GET / HTTP/1.1",
        b"GET / HTTP/1.1\r",
        b"HTTP/1.1 200 OK\r\n\r\nhello world",
        b"HTTP/1.1\t404\r\n",
        b"HTTP/1.1 20 OK\r\n",
        b"POST \x01\r\n",
        b"\xffGET / HTTP/1.1\r\n",
        b"GET\r\n",
    ];
    let payload = payloads[random.usize(..payloads.len())];
    // The urgent pointer is not kept, so that URG is left out.
    let flags = random.u8(..) & !0x20;
    // Numbers that collide; not 0, of which nobody could tell whether it is counted from 0.
    let small = random.bool();
    let number_of = |random: &mut fastrand::Rng| {
        if small {
            random.u32(2..9)
        } else {
            random.u32(..)
        }
    };
    let mut segment = [source.to_be_bytes(), destination.to_be_bytes()].concat();
    segment.extend(number_of(random).to_be_bytes());
    segment.extend(number_of(random).to_be_bytes());
    segment.extend([(((20 + options.len()) / 4) << 4) as u8, flags]);
    segment.extend(random.u16(..).to_be_bytes());
    segment.extend([0; 4]);
    segment.extend(options);
    segment.extend_from_slice(payload);
    let bytes = segment.len() as u16;
    let ip = if random.bool() {
        let mut ip = vec![
            0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
        ];
        ip[2..4].copy_from_slice(&(bytes + 20).to_be_bytes());
        [&[8, 0], &ip[..]].concat()
    } else {
        let address: Ipv6Addr = ["::1", "fe80::1:0:0:2", "1:0:2::3"][random.usize(..3)]
            .parse()
            .unwrap();
        let head = [&[0x60, 0, 0, 0][..], &bytes.to_be_bytes(), &[6, 64]].concat();
        [
            &[0x86, 0xdd],
            &head[..],
            &address.octets(),
            &address.octets(),
        ]
        .concat()
    };
    let mut data = [&[0; 12][..], &ip, &segment].concat();
    let original_bytes = data.len() as u32;
    if random.u8(..4) == 0 {
        // As with `tcpdump -s`: of the payload not all was captured.
        data.truncate(data.len() - random.usize(..=payload.len()));
    }
    Frame {
        at_ns: number * 1000,
        interface: None,
        link: Link::Ethernet,
        original_bytes,
        data,
    }
}

fn odd_option(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = |count: usize| {
        std::iter::repeat_with(|| random.u8(..))
            .take(count)
            .collect()
    };
    let of = |kind: u8, data: Vec<u8>| [vec![kind, data.len() as u8 + 2], data].concat();
    let data: Vec<u8> = bytes(16);
    match data[0] % 13 {
        0..=2 => vec![1],
        3 => of(2, bytes(2)),
        4 => of(3, bytes(1)),
        5 => of(4, vec![]),
        6 => of(5, bytes(8)),
        7 => of(5, bytes(16)),
        8 => of(8, bytes(8)),
        9 => of(34, vec![]),
        10 => of(34, bytes(8)),
        11 => of(77, bytes(usize::from(data[1] % 3))),
        // Too long for any header.
        _ => vec![8, 200],
    }
}

#[test]
fn ports_can_be_many_and_others_are_not_seen() {
    for ports_max in [50, 500] {
        let listeners = [(); 3].map(|()| TcpListener::bind(IPV4).unwrap());
        let [wanted, also, other] =
            [0, 1, 2].map(|number: usize| listeners[number].local_addr().unwrap().port());
        let unused = (1..ports_max).filter(|port| *port != other);
        let mut live = match Live::open(Ports::from(unused.chain([wanted]))) {
            Ok(live) => live,
            Err(missing) => skip!("{missing}"),
        };
        // Before anybody takes what comes: it waits.
        exchange(&listeners[0], HELLO);
        exchange(&listeners[2], HELLO);
        live.begin().unwrap();
        live.set_ports(Ports::from([also])).unwrap();
        exchange(&listeners[1], HELLO);
        exchange(&listeners[0], HELLO);
        settle(&live);
        let (packets, notes) = live.end().packets();
        assert_eq!(notes, [""; 0]);
        let of = |port: u16| {
            let ends = |packet: &&Packet| {
                packet.flags.syn
                    && [packet.source.port(), packet.destination.port()].contains(&port)
            };
            packets.iter().filter(ends).count()
        };
        assert_eq!([of(wanted), of(also), of(other)], [2, 2, 0]);
    }
}

/// Files as tcpdump writes them: of one interface and of all, whole and cut.
#[test]
fn captures_of_tcpdump_are_read() {
    let rows: [(&str, &[&str]); 5] = [
        ("one interface", &["-i", "lo"]),
        ("in ns", &["-i", "lo", "--time-stamp-precision", "nano"]),
        ("all interfaces", &["-i", "any", "-y", "LINUX_SLL2"]),
        (
            "all interfaces, the older header",
            &["-i", "any", "-y", "LINUX_SLL"],
        ),
        ("headers only", &["-i", "lo", "-s", "66"]),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (what, arguments) in rows {
        let listener = TcpListener::bind(IPV4).unwrap();
        let port = listener.local_addr().unwrap().port();
        let path = folder.path().join(what);
        let recorded = record(&path, port, arguments, || exchange(&listener, HELLO));
        if let Err(why) = recorded {
            skip!("tcpdump does not record: {why}");
        }
        let capture = packets::read(&path).unwrap();
        let (packets, notes) = capture.packets();
        assert!(
            packets.len() >= FRAMES_OF_AN_EXCHANGE,
            "{what}: {packets:#?}"
        );
        let Some((theirs, _)) = output(Command::new("tcpdump").args(["-nt", "-r"]).arg(&path))
        else {
            skip!("tcpdump is not installed any more");
        };
        let cut = arguments.contains(&"-s");
        for (ours, theirs) in tcpdump::lines(&packets).iter().zip(theirs.lines()) {
            // Of several interfaces it tells which, and the direction. Options that were cut off are called bad
            // by us, where no payload tells that more was cut.
            let ours = if cut {
                ours.split(", options").next().unwrap()
            } else {
                ours
            };
            assert!(theirs.contains(ours), "{what}: {ours}\n{theirs}");
            assert!(cut || theirs.ends_with(ours), "{what}: {ours}\n{theirs}");
        }
        assert_eq!(theirs.lines().count(), packets.len(), "{what}");
        assert_eq!(!notes.is_empty(), cut, "{what}: {notes:?}");
        let request = packets
            .iter()
            .find(|packet| packet.payload_bytes > 0)
            .unwrap();
        assert_eq!(
            request.payload.starts_with(b"GET / HTTP/1.1"),
            !cut,
            "{what}"
        );
    }
}

/// Lets tcpdump write a file of what is done meanwhile.
fn record(
    path: &Path,
    port: u16,
    arguments: &[&str],
    traffic: impl FnOnce(),
) -> Result<(), String> {
    let mut tcpdump = Command::new("tcpdump")
        // It sets aside 256 KiB a frame in this mode, of a buffer that is small by default.
        .args(["-U", "--immediate-mode", "-B", "65536", "-w"])
        .arg(path)
        .args(arguments)
        .args(["tcp", "port", &port.to_string()])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let mut said = String::new();
    let mut stderr = BufReader::new(tcpdump.stderr.take().unwrap());
    while !said.contains("listening on") {
        if stderr.read_line(&mut said).unwrap() == 0 {
            tcpdump.wait().unwrap();
            return Err(said);
        }
    }
    traffic();
    // It writes what it has seen at once, if it gets a CPU.
    let begun = Instant::now();
    let mut seen = 0;
    while begun.elapsed() < Duration::from_secs(20) {
        thread::sleep(Duration::from_millis(100));
        let now = packets::read(path).map_or(0, |capture| capture.frames.len());
        if now == std::mem::replace(&mut seen, now) && now >= FRAMES_OF_AN_EXCHANGE {
            break;
        }
    }
    let pid = nix::unistd::Pid::from_raw(tcpdump.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    tcpdump.wait().unwrap();
    Ok(())
}
