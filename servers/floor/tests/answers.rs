//! The floor sends an answer for each blank line, however the bytes are split.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use host::{Host, Settings};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Runs `visit` against a floor, stops the floor with the connections that `visit` left open, and waits for its
/// end.
fn with_floor<T>(visit: impl FnOnce(SocketAddr, &Host) -> T) -> T {
    let host = Arc::new(Host::new(Settings::default()));
    let listener = host::listen((Ipv4Addr::LOCALHOST, 0).into(), &host.settings).unwrap();
    let address = listener.local_addr().unwrap();
    thread::scope(|scope| {
        let server = scope.spawn(|| floor::serve(listener, &host));
        let seen = visit(address, &host);
        host.stop();
        server.join().unwrap().unwrap();
        seen
    })
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    stream
}

/// Reads to the end of the stream and counts the answers.
fn answers(stream: &mut TcpStream) -> usize {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let answers = text.matches("hello world").count();
    let one = text.len().checked_div(answers).unwrap_or(0);
    assert_eq!(text, text[..one].repeat(answers));
    answers
}

#[test]
fn whole_split_and_pipelined() {
    with_floor(|address, _| {
        let mut stream = connect(address);
        stream.write_all(REQUEST).unwrap();
        for byte in REQUEST {
            stream.write_all(&[*byte]).unwrap();
        }
        stream.write_all(&REQUEST.repeat(3_000)).unwrap();
        // Not a blank line: \r\n\r and something else.
        stream.write_all(b"GET / HTTP/1.1\r\n\rx\n\r\n").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(answers(&mut stream), 3_002);
    });
}

/// A peer that sends everything before it reads gets all answers.
#[test]
fn who_reads_late_gets_all() {
    with_floor(|address, _| {
        let mut stream = connect(address);
        let mut sends = stream.try_clone().unwrap();
        let sender = thread::spawn(move || {
            sends.write_all(&REQUEST.repeat(100_000)).unwrap();
            sends.shutdown(std::net::Shutdown::Write).unwrap();
        });
        thread::sleep(Duration::from_millis(200));
        assert_eq!(answers(&mut stream), 100_000);
        sender.join().unwrap();
    });
}

/// At a stop the floor answers what has arrived and waits for nothing else.
#[test]
fn the_stop_answers_what_has_arrived() {
    let mut streams = with_floor(|address, _| {
        let mut idle = connect(address);
        idle.write_all(REQUEST).unwrap();
        let mut first = [0; 1];
        idle.read_exact(&mut first).unwrap();
        let mut asked = connect(address);
        asked.write_all(REQUEST).unwrap();
        let half = connect(address);
        (&half).write_all(&REQUEST[..9]).unwrap();
        // On loopback a send returns when its bytes are in the other socket, so all of this has arrived.
        [asked, half]
    });
    assert_eq!(streams.each_mut().map(answers), [1, 0]);
}
