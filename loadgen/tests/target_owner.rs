//! Who answers at a server's address: connections and listeners in other hands are found, and a server is known
//! as long as any part of it runs.

use std::fs;
use std::io::{IoSlice, IoSliceMut, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::cmsg_space;
use nix::libc;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use subject::catalogue::{Ready, Server, Serves};
use subject::process::{Memory, Options, Owner, Sampler, Target, probe};

const PLENTY: Duration = Duration::from_secs(20);

/// Set in processes that are to serve: what they do, the port, and the socket where they hand things over.
const ROLE: &str = "LOADGEN_TEST_ROLE";

/// A server that does what `role` says.
fn server(role: &str, over: &Path) -> Server {
    let own = std::env::current_exe().unwrap();
    let script = format!(
        "{ROLE}='{role} {{port}} {}' exec '{}' --ignored --exact serve --nocapture",
        over.display(),
        own.display()
    );
    Server {
        name: "fake".to_owned(),
        about: String::new(),
        build: None,
        run: ["sh".to_owned(), "-c".to_owned(), script].to_vec(),
        version: None,
        ready: Ready::Connect,
        reference: false,
        floor: false,
        groups: Vec::new(),
        serves: Serves::All,
        thread_per_connection: false,
    }
}

fn start(server: &Server) -> Result<Target, String> {
    Target::start(server, Path::new("/"), &Options::default()).map_err(|error| error.to_string())
}

/// Not a test of its own: the server of the others.
#[test]
#[ignore = "run by other tests"]
fn serve() {
    let Ok(wanted) = std::env::var(ROLE) else {
        return;
    };
    let words: Vec<&str> = wanted.splitn(3, ' ').collect();
    let &[role, port, over] = &words[..] else {
        panic!("{wanted}");
    };
    let address: SocketAddr = format!("127.0.0.1:{port}").parse().unwrap();
    match role {
        "hands-connections" => {
            let over = UnixStream::connect(over).unwrap();
            for stream in TcpListener::bind(address).unwrap().incoming() {
                hand(&over, stream.unwrap().as_raw_fd());
            }
        }
        "shares-its-listener" => {
            use socket2::{Domain, Socket, Type};
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.bind(&address.into()).unwrap();
            let mut over = UnixStream::connect(over).unwrap();
            hand(&over, socket.as_raw_fd());
            // Nobody is served before the other one has it.
            over.read_exact(&mut [0]).unwrap();
            socket.listen(100).unwrap();
            answer_all(&socket.into());
        }
        "loses-its-main-thread" => {
            end_main_thread();
            answer_all(&TcpListener::bind(address).unwrap());
        }
        _ => panic!("{role}"),
    }
}

/// The main thread is the test runner's, which waits for this one: a signal reaches it there.
#[allow(unsafe_code)]
fn end_main_thread() {
    extern "C" fn end_thread(_: libc::c_int) {
        // SAFETY: a system call that concerns no memory, and does not return.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    }
    let handler = SigHandler::Handler(end_thread);
    // SAFETY: the handler makes a system call only, and nothing that the main thread holds is needed again.
    unsafe {
        signal(Signal::SIGUSR1, handler).unwrap();
        let pid = libc::getpid();
        assert_eq!(libc::syscall(libc::SYS_tgkill, pid, pid, libc::SIGUSR1), 0);
    }
}

fn answer_all(listener: &TcpListener) {
    for stream in listener.incoming() {
        let stream = stream.unwrap();
        thread::spawn(move || answer(stream));
    }
}

fn answer(mut stream: TcpStream) {
    while let Ok(1..) = stream.read(&mut [0; 1024]) {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world";
        if stream.write_all(answer).is_err() {
            return;
        }
    }
}

fn hand(over: &UnixStream, fd: RawFd) {
    let rights = [ControlMessage::ScmRights(&[fd])];
    let bytes = [IoSlice::new(b"x")];
    sendmsg::<()>(over.as_raw_fd(), &bytes, &rights, MsgFlags::empty(), None).unwrap();
}

/// What was handed over; nothing when the other side has closed.
fn take(over: &UnixStream) -> Option<OwnedFd> {
    let mut byte = [0];
    let mut bytes = [IoSliceMut::new(&mut byte)];
    let mut room = cmsg_space!(RawFd);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(over.as_raw_fd(), &mut bytes, Some(&mut room), flags).unwrap();
    let fd = message.cmsgs().unwrap().find_map(|message| match message {
        ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
        _ => None,
    })?;
    // SAFETY: the kernel made it for this process a moment ago, and nobody else knows it.
    #[allow(unsafe_code)]
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A server may accept connections and leave the work to others: what they use is not in its cost.
#[test]
fn a_process_that_is_handed_connections_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let over = folder.path().join("over");
    let listener = UnixListener::bind(&over).unwrap();
    thread::spawn(move || {
        let (over, _) = listener.accept().unwrap();
        while let Some(stream) = take(&over) {
            thread::spawn(move || answer(stream.into()));
        }
    });
    let target = start(&server("hands-connections", &over)).unwrap();
    let error = target.probe().unwrap_err().to_string();
    let expected = format!(
        "another process has sockets at its address and was not started by loadgen: {} (",
        std::process::id()
    );
    assert!(error.starts_with(&expected), "{error}");
}

/// Either of those who have a listener may accept.
#[test]
fn a_process_that_has_the_listener_too_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let over = folder.path().join("over");
    let listener = UnixListener::bind(&over).unwrap();
    let others: Arc<Mutex<Vec<Child>>> = Arc::default();
    let started = Arc::clone(&others);
    thread::spawn(move || {
        // A server whose port seems to be taken is started once more with another.
        for over in listener.incoming() {
            let mut over = over.unwrap();
            let handed = take(&over).unwrap();
            let mut other = Command::new("sleep");
            let other = other.arg("1000").stdin(Stdio::from(handed)).spawn();
            started.lock().unwrap().push(other.unwrap());
            over.write_all(b"x").unwrap();
        }
    });
    let error = start(&server("shares-its-listener", &over)).unwrap_err();
    let mut others = others.lock().unwrap();
    let last = others.last().unwrap().id();
    for other in others.iter_mut() {
        other.kill().unwrap();
        other.wait().unwrap();
    }
    let named = format!("a process that loadgen did not start: {last} (sleep)");
    assert!(error.contains(&named), "{error}");
}

/// Its other threads serve on, and it is a process like any other.
#[test]
fn a_server_whose_main_thread_has_ended_runs() {
    let target = start(&server("loses-its-main-thread", Path::new("/"))).unwrap();
    let stat = || fs::read_to_string(format!("/proc/{}/stat", target.pid())).unwrap();
    let deadline = Instant::now() + PLENTY;
    while !stat().contains(") Z ") {
        assert!(Instant::now() < deadline, "{}", stat());
        thread::sleep(Duration::from_millis(5));
    }
    assert!(!target.has_ended());
    assert_eq!(
        target.processes().members().unwrap(),
        [target.pid().cast_signed()]
    );
    let sampler = Sampler::start(target.processes()).unwrap();
    for _ in 0..200 {
        probe(target.address()).unwrap();
    }
    let cost = sampler.finish().unwrap();
    assert!(cost.cpu_s() > 0.0 && cost.rss_bytes_max > 0, "{cost:?}");
    assert!(cost.files_max.is_some_and(|files| files > 3), "{cost:?}");
    assert!(Memory::settled(target.processes(), 0).unwrap().bytes > 0);
    assert_eq!(target.owner(), Owner::Server);
    let ended = target.stop(PLENTY);
    assert!(!ended.killed, "{ended:?}");
    assert_eq!(ended.to_string(), "was ended by SIGTERM");
}
