//! A server that is correct except for one fault. It has a thread for each connection and uses the protocol core of
//! our servers, so that everything else that the soak reports is a mistake of the soak.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::mem;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use http1::{Connection, Limits, Next, Now, Scratch, Tally};
use signal_hook::consts::SIGTERM;
use signal_hook::flag;
use socket2::SockRef;

/// What the server does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Nothing,
    WrongByte,
    LeaksDescriptors,
    LeaksMemory,
    LeaksThreads,
    ResetsHalfClosed,
    ClosesUnstaged,
    KeepsSlowPeers,
    OneAtATime,
    Spins,
    Dies,
    DiesAfterQuiet,
    Miscounts,
    DropsAtStop,
    StaysAtStop,
    ExitsWithOne,
}

impl Fault {
    pub(crate) const ALL: [Fault; 16] = [
        Fault::Nothing,
        Fault::WrongByte,
        Fault::LeaksDescriptors,
        Fault::LeaksMemory,
        Fault::LeaksThreads,
        Fault::ResetsHalfClosed,
        Fault::ClosesUnstaged,
        Fault::KeepsSlowPeers,
        Fault::OneAtATime,
        Fault::Spins,
        Fault::Dies,
        Fault::DiesAfterQuiet,
        Fault::Miscounts,
        Fault::DropsAtStop,
        Fault::StaysAtStop,
        Fault::ExitsWithOne,
    ];

    pub(crate) fn name(self) -> String {
        format!("{self:?}")
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Fault::ALL.into_iter().find(|fault| fault.name() == text);
        known.ok_or_else(|| format!("no fault {text}"))
    }
}

struct Server {
    fault: Fault,
    limits: Limits,
    stop: Arc<AtomicBool>,
    tally: Arc<Tally>,
    accepted: AtomicU64,
    closed: AtomicU64,
    answers: AtomicU64,
    last_accept: Mutex<Instant>,
    /// With `OneAtATime`, held while a connection is served.
    turn: Mutex<()>,
}

/// Runs the server with the arguments `FAULT --listen ADDR` and the timeouts, as the soak gives them.
pub(crate) fn main(mut arguments: impl Iterator<Item = String>) -> io::Result<ExitCode> {
    let fault = arguments.next().unwrap_or_default().parse::<Fault>();
    let fault = fault.map_err(io::Error::other)?;
    let arguments: Vec<String> = arguments.collect();
    let options: BTreeMap<&str, &str> = arguments
        .chunks_exact(2)
        .map(|pair| (pair[0].as_str(), pair[1].as_str()))
        .collect();
    let time = |option| humantime::parse_duration(options[option]).map_err(io::Error::other);
    let endless = Duration::from_secs(3600);
    let unless_slow = |time| match fault {
        Fault::KeepsSlowPeers => endless,
        _ => time,
    };
    let address: SocketAddr = options["--listen"].parse().map_err(io::Error::other)?;
    let server = Arc::new(Server {
        fault,
        limits: Limits {
            idle_timeout: unless_slow(time("--idle-timeout")?),
            header_timeout: unless_slow(time("--header-timeout")?),
            ..Limits::default()
        },
        stop: Arc::default(),
        tally: Arc::default(),
        accepted: AtomicU64::new(0),
        closed: AtomicU64::new(0),
        answers: AtomicU64::new(0),
        last_accept: Mutex::new(Instant::now()),
        turn: Mutex::new(()),
    });
    flag::register(SIGTERM, Arc::clone(&server.stop))?;
    serve(&server, address, time("--grace")?)?;
    Ok(match fault {
        Fault::ExitsWithOne => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    })
}

/// With `DiesAfterQuiet`, the shortest time without a new connection that counts as quiet. The soak keeps away longer.
const QUIET: Duration = Duration::from_millis(800);

/// How often a waiting thread checks for changes.
const LOOK_EVERY: Duration = Duration::from_millis(10);

fn serve(server: &Arc<Server>, address: SocketAddr, grace: Duration) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    println!("listening on {}", listener.local_addr()?);
    io::stdout().flush()?;
    loop {
        let stopping = server.stop.load(SeqCst);
        match listener.accept() {
            Ok((stream, _)) => welcome(server, stream)?,
            Err(error) if error.kind() == ErrorKind::WouldBlock && stopping => break,
            Err(_) => rest(server),
        }
    }
    drop(listener);
    let deadline = Instant::now() + grace;
    while server.fault == Fault::StaysAtStop
        || (server.closed.load(SeqCst) < server.accepted.load(SeqCst) && Instant::now() < deadline)
    {
        thread::sleep(LOOK_EVERY);
    }
    let responses = server.tally.responses().filter(|(_, count)| *count > 0);
    let responses: BTreeMap<u16, u64> = responses.collect();
    let requests: u64 = match server.fault {
        Fault::Miscounts => 1,
        _ => responses.values().sum(),
    };
    let closed = server.closed.load(SeqCst);
    let accepted = server.accepted.load(SeqCst);
    let counters = serde_json::json!({
        "accepted": accepted,
        "closed": closed,
        "open": accepted - closed,
        "panics": 0,
        "requests": requests,
        "responses": responses,
    });
    eprintln!("{counters}");
    Ok(())
}

fn rest(server: &Server) {
    match server.fault {
        Fault::Spins => thread::yield_now(),
        _ => thread::sleep(LOOK_EVERY / 5),
    }
}

fn welcome(server: &Arc<Server>, stream: TcpStream) -> io::Result<()> {
    let number = server.accepted.fetch_add(1, SeqCst);
    let last = mem::replace(&mut *locked(&server.last_accept), Instant::now());
    let quiet = last.elapsed();
    match server.fault {
        Fault::LeaksDescriptors if number.is_multiple_of(10) => {
            mem::forget(File::open("/dev/null")?);
        }
        Fault::LeaksMemory => mem::forget(vec![1_u8; 100 << 10]),
        Fault::LeaksThreads if number.is_multiple_of(10) => {
            thread::spawn(|| thread::sleep(Duration::from_secs(3600)));
        }
        Fault::Dies if number > 100 => std::process::abort(),
        Fault::DiesAfterQuiet if number > 100 && quiet > QUIET => std::process::abort(),
        _ => {}
    }
    let server = Arc::clone(server);
    thread::spawn(move || {
        // Errors are caused by the peer.
        let _ = converse(&server, stream);
        server.closed.fetch_add(1, SeqCst);
    });
    Ok(())
}

fn converse(server: &Server, mut stream: TcpStream) -> io::Result<()> {
    let _turn = (server.fault == Fault::OneAtATime).then(|| locked(&server.turn));
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LOOK_EVERY))?;
    stream.set_write_timeout(Some(LOOK_EVERY))?;
    let mut scratch = Scratch::new(server.limits, Arc::clone(&server.tally));
    let mut connection = Connection::new(&scratch, now());
    loop {
        if server.stop.load(SeqCst) {
            if server.fault == Fault::DropsAtStop {
                return Ok(());
            }
            let until = Instant::now() + Duration::from_secs(1);
            connection.drain(&scratch, until, now());
        }
        let outcome = match connection.next() {
            Next::Read => stream.read(scratch.space()).map(|n| {
                if n == 0 && server.fault == Fault::ResetsHalfClosed {
                    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                }
                connection.received(&mut scratch, n, now());
            }),
            Next::Write => write(server, &mut stream, connection.output())
                .map(|n| connection.sent(&mut scratch, n, now())),
            Next::ShutdownWrite if server.fault == Fault::ClosesUnstaged => return Ok(()),
            Next::ShutdownWrite => (stream.shutdown(Shutdown::Write))
                .map(|()| connection.write_is_shut(&scratch, now())),
            Next::Close => return Ok(()),
        };
        match outcome {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if connection.deadline() <= Instant::now() {
                    connection.timed_out(&mut scratch, now());
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn write(server: &Server, stream: &mut TcpStream, output: &[u8]) -> io::Result<usize> {
    let number = server.answers.fetch_add(1, SeqCst);
    if server.fault == Fault::WrongByte
        && number % 50 == 49
        && let Some(right) = output.strip_suffix(b"d")
    {
        return stream.write(&[right, b"D"].concat());
    }
    if server.fault == Fault::DropsAtStop {
        // Slow, so that some peer is always waiting for an answer.
        thread::sleep(Duration::from_millis(100));
        if server.stop.load(SeqCst) {
            return Err(ErrorKind::BrokenPipe.into());
        }
    }
    stream.write(output)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now() -> Now {
    Now {
        instant: Instant::now(),
        wall: SystemTime::now(),
    }
}
