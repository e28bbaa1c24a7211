//! The floor as a process: the contract of a server, whatever its peers do.

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use lab::responder::Counts;
use nix::sys::signal::{Signal, kill};
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const BODY: &[u8] = b"hello world";
const PLENTY: Duration = Duration::from_secs(20);

struct Floor {
    child: Child,
    address: SocketAddr,
}

impl Floor {
    fn start() -> Self {
        Floor::of(Command::new(env!("CARGO_BIN_EXE_loadgen")).arg("responder"))
    }

    /// With no more files than these.
    fn with_files(files: u32) -> Self {
        let script = format!(
            "ulimit -n {files} && exec {} responder",
            env!("CARGO_BIN_EXE_loadgen")
        );
        Floor::of(Command::new("sh").args(["-c", &script]))
    }

    fn of(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let address = line.strip_prefix("listening on ").unwrap().trim();
        let address: SocketAddr = address.parse().unwrap();
        assert_ne!(address.port(), 0);
        Floor { child, address }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PLENTY)).unwrap();
        stream.set_write_timeout(Some(PLENTY)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    fn cpu_time(&self) -> Duration {
        let clock = clock_getcpuclockid(self.pid()).unwrap();
        ClockId::now(clock).unwrap().into()
    }

    /// Sends the signal, waits for the end, and takes the counts.
    fn stop(self, signal: Signal) -> (ExitStatus, Counts) {
        kill(self.pid(), signal).unwrap();
        self.ended()
    }

    fn ended(mut self) -> (ExitStatus, Counts) {
        let deadline = Instant::now() + PLENTY;
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() > deadline => panic!("it does not end"),
                None => thread::sleep(Duration::from_millis(5)),
            }
        };
        let mut stderr = String::new();
        let mut pipe = self.child.stderr.take().unwrap();
        pipe.read_to_string(&mut stderr).unwrap();
        assert_eq!(stderr.lines().count(), 1, "{stderr:?}");
        (status, serde_json::from_str(&stderr).unwrap())
    }
}

/// No process is left behind when a test fails.
impl Drop for Floor {
    fn drop(&mut self) {
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}

/// The next answer, read to its last byte and no further.
fn answer(stream: &mut impl Read) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("\r\nContent-Length: 11\r\n"), "{head}");
    let mut body = [0; BODY.len()];
    stream.read_exact(&mut body)?;
    assert_eq!(body, BODY);
    Ok(())
}

fn nothing_more(stream: &mut TcpStream) {
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

#[test]
fn two_pipelined_requests_cut_anywhere() {
    let floor = Floor::start();
    let two = REQUEST.repeat(2);
    for cut in 0..=two.len() {
        let mut stream = floor.connect();
        let (first, second) = two.split_at(cut);
        stream.write_all(first).unwrap();
        // As many answers as whole requests were sent, before the rest is.
        for _ in 0..first.len() / REQUEST.len() {
            answer(&mut stream).unwrap();
        }
        stream.write_all(second).unwrap();
        for _ in first.len() / REQUEST.len()..2 {
            answer(&mut stream).unwrap();
        }
        nothing_more(&mut stream);
    }
    let (status, counts) = floor.stop(Signal::SIGTERM);
    assert_eq!(status.code(), Some(0));
    let accepted = two.len() as u64 + 1;
    let requests = 2 * accepted;
    assert_eq!(counts, Counts { accepted, requests });
}

#[test]
fn byte_by_byte() {
    let floor = Floor::start();
    let mut stream = floor.connect();
    for _ in 0..3 {
        for byte in REQUEST {
            stream.write_all(&[*byte]).unwrap();
        }
        answer(&mut stream).unwrap();
    }
    nothing_more(&mut stream);
    assert_eq!(floor.stop(Signal::SIGINT).1.requests, 3);
}

#[test]
fn ten_thousand_pipelined() {
    let floor = Floor::start();
    let stream = floor.connect();
    let mut writer = stream.try_clone().unwrap();
    let writing = thread::spawn(move || writer.write_all(&REQUEST.repeat(10_000)));
    let mut reader = BufReader::new(&stream);
    for _ in 0..10_000 {
        answer(&mut reader).unwrap();
    }
    writing.join().unwrap().unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    assert_eq!(floor.stop(Signal::SIGTERM).1.requests, 10_000);
}

/// One who sends far more than socket buffers hold before reading anything: answers are cut by full
/// buffers, and others are served meanwhile.
#[test]
fn one_who_does_not_read_gets_all_answers_later() {
    const REQUESTS: usize = 200_000;
    let floor = Floor::start();
    let mut slow = floor.connect();
    slow.write_all(&REQUEST.repeat(REQUESTS)).unwrap();
    let mut other = floor.connect();
    other.write_all(REQUEST).unwrap();
    answer(&mut other).unwrap();
    slow.shutdown(Shutdown::Write).unwrap();
    let mut reader = BufReader::new(slow);
    for _ in 0..REQUESTS {
        answer(&mut reader).unwrap();
    }
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    let (_, counts) = floor.stop(Signal::SIGTERM);
    assert_eq!(counts.requests, REQUESTS as u64 + 1);
}

#[test]
fn many_connections_at_once_and_one_after_another() {
    let floor = Floor::start();
    let mut streams: Vec<_> = (0..500).map(|_| floor.connect()).collect();
    for _ in 0..3 {
        for stream in &mut streams {
            stream.write_all(REQUEST).unwrap();
        }
        for stream in &mut streams {
            answer(stream).unwrap();
        }
    }
    // Closed ones make room for others, whose sockets get the same numbers.
    streams.truncate(10);
    for _ in 0..500 {
        let mut stream = floor.connect();
        stream.write_all(REQUEST).unwrap();
        answer(&mut stream).unwrap();
    }
    for stream in &mut streams {
        stream.write_all(REQUEST).unwrap();
        answer(stream).unwrap();
    }
    let (status, counts) = floor.stop(Signal::SIGTERM);
    assert_eq!(status.code(), Some(0));
    let expected = Counts {
        accepted: 1000,
        requests: 2010,
    };
    assert_eq!(counts, expected);
}

#[test]
fn what_was_sent_before_the_signal_is_answered() {
    let floor = Floor::start();
    let mut streams: Vec<_> = (0..100).map(|_| floor.connect()).collect();
    for stream in &mut streams {
        stream.write_all(REQUEST).unwrap();
    }
    kill(floor.pid(), Signal::SIGTERM).unwrap();
    for stream in &mut streams {
        answer(stream).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }
    let (status, counts) = floor.ended();
    assert_eq!(status.code(), Some(0));
    assert_eq!(counts.requests, 100);
}

/// A peer with half a request, and one that never reads: neither keeps it from ending.
#[test]
fn a_stop_waits_for_nobody_long() {
    let floor = Floor::start();
    let mut half = floor.connect();
    half.write_all(&REQUEST[..10]).unwrap();
    let mut deaf = floor.connect();
    deaf.write_all(&REQUEST.repeat(200_000)).unwrap();
    let start = Instant::now();
    let (status, counts) = floor.stop(Signal::SIGTERM);
    assert_eq!(status.code(), Some(0));
    assert!(start.elapsed() >= Duration::from_secs(3), "no grace");
    assert_eq!(counts.accepted, 2);
    assert_eq!(half.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let floor = Floor::start();
    let mut deaf = floor.connect();
    deaf.write_all(&REQUEST.repeat(200_000)).unwrap();
    kill(floor.pid(), Signal::SIGTERM).unwrap();
    // Not before the first one is dealt with: two of a kind would merge.
    while TcpStream::connect(floor.address).is_ok() {
        thread::sleep(Duration::from_millis(1));
    }
    kill(floor.pid(), Signal::SIGTERM).unwrap();
    let mut floor = floor;
    let status = floor.child.wait().unwrap();
    assert_eq!(status.code(), None, "ended by the signal");
}

/// More connections than files: those that fit are served, the rest waits without costing CPU time,
/// and is served when there is room.
#[test]
fn out_of_files_it_neither_spins_nor_hangs() {
    let floor = Floor::with_files(24);
    let mut streams: Vec<_> = (0..40).map(|_| floor.connect()).collect();
    for stream in &mut streams {
        stream.write_all(REQUEST).unwrap();
    }
    answer(&mut streams[0]).unwrap();
    let before = floor.cpu_time();
    thread::sleep(Duration::from_millis(500));
    let spent = floor.cpu_time() - before;
    assert!(spent < Duration::from_millis(100), "it spins: {spent:?}");
    streams[39].set_nonblocking(true).unwrap();
    let waits = streams[39].read(&mut [0]).unwrap_err();
    assert_eq!(waits.kind(), io::ErrorKind::WouldBlock);
    streams[39].set_nonblocking(false).unwrap();
    for mut stream in streams.drain(..).skip(1) {
        answer(&mut stream).unwrap();
    }
    let (status, counts) = floor.stop(Signal::SIGTERM);
    assert_eq!(status.code(), Some(0));
    let expected = Counts {
        accepted: 40,
        requests: 40,
    };
    assert_eq!(counts, expected);
}

#[test]
fn a_taken_port_is_said() {
    let floor = Floor::start();
    let output = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["responder", "--listen", &floor.address.to_string()])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    let expected = format!("loadgen: cannot listen on {}: Address", floor.address);
    assert!(stderr.starts_with(&expected), "{stderr}");
}
