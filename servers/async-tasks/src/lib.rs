//! One tokio task per connection on a work-stealing runtime. It reads like a thread per connection and
//! waits like an event loop: a waiting task is a small state machine on the heap, and a few threads run
//! those that are ready. The price is the runtime's bookkeeping around every wait.

#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::TcpListener;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Poll, ready};
use std::thread;

use host::{ACCEPT_BACKOFF, AcceptError, Host, accept_error};
use http1::{Connection, Next, Now, Scratch};
use tokio::io::{AsyncRead as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, watch};
use tokio::time::{sleep, sleep_until};

/// Serves until the host is stopped and every connection accepted by then is over.
///
/// # Errors
///
/// When the runtime cannot be set up.
pub fn serve(listener: TcpListener, host: &Arc<Host>) -> io::Result<()> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(host.settings.threads.get())
        .enable_all()
        .build()?;
    // Spawned, because what block_on itself runs has no place on a worker thread.
    let acceptor = runtime.spawn(accept(listener, Arc::clone(host)));
    runtime.block_on(acceptor).map_err(io::Error::other)?
}

async fn accept(listener: TcpListener, host: Arc<Host>) -> io::Result<()> {
    host.closes(&listener)?;
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let stopping = stop_signal(&host);
    let mut stopped = stopping.clone();
    let permits = u32::try_from(host.settings.connections_max)
        .map_or(PERMITS_MAX, |max| max.min(PERMITS_MAX));
    let room = Arc::new(Semaphore::new(permits as usize));
    let spawn = |stream, permit| {
        let open = Open::new(&host, permit);
        tokio::spawn(converse(stream, open, stopping.clone()));
    };

    let accept_next = async || -> io::Result<()> {
        let permit = permit(&room, &host).await?;
        match listener.accept().await {
            Ok((stream, _)) => spawn(stream, permit),
            Err(error) if accept_error(&error) == AcceptError::OutOfResources => {
                host.counters.out_of_files();
                sleep(ACCEPT_BACKOFF).await;
            }
            Err(_) => {}
        }
        Ok(())
    };
    loop {
        tokio::select! {
            accepted = accept_next() => accepted?,
            _ = stopped.wait_for(|stopped| *stopped) => break,
        }
    }

    // Those who stood in the accept queue are served too, however many.
    room.add_permits((PERMITS_MAX - permits) as usize);
    for stream in host.queue().into_iter().flatten() {
        stream.set_nonblocking(true)?;
        spawn(TcpStream::from_std(stream)?, permit(&room, &host).await?);
    }
    // If files had run out, some still do. Asked by plain system calls: the runtime's idea of readiness
    // may be older than the queue.
    let queue = listener.into_std()?;
    loop {
        match queue.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(true)?;
                spawn(TcpStream::from_std(stream)?, permit(&room, &host).await?);
            }
            Err(error) => match accept_error(&error) {
                AcceptError::NothingWaits | AcceptError::NotListening => break,
                AcceptError::ConnectionGone => {}
                AcceptError::OutOfResources => {
                    host.counters.out_of_files();
                    sleep(ACCEPT_BACKOFF).await;
                }
            },
        }
    }
    drop(queue);
    // All permits are back when all connections are over.
    let _all = room
        .acquire_many(PERMITS_MAX)
        .await
        .map_err(io::Error::other)?;
    Ok(())
}

/// More connections than any machine has ports, and fewer than a semaphore can count.
const PERMITS_MAX: u32 = 1 << 24;

/// Waits until one more connection may be open.
async fn permit(room: &Arc<Semaphore>, host: &Host) -> io::Result<OwnedSemaphorePermit> {
    match Arc::clone(room).try_acquire_owned() {
        Err(TryAcquireError::NoPermits) => {
            host.counters.full();
            Arc::clone(room)
                .acquire_owned()
                .await
                .map_err(io::Error::other)
        }
        outcome => outcome.map_err(io::Error::other),
    }
}

/// Becomes true when the host is stopped.
fn stop_signal(host: &Host) -> watch::Receiver<bool> {
    let (stop, stopped) = watch::channel(false);
    host.on_stop(move || _ = stop.send_replace(true));
    stopped
}

/// A connection counts as open until this is dropped, by the end of its task or by a panic in it.
struct Open {
    host: Arc<Host>,
    _permit: OwnedSemaphorePermit,
}

impl Open {
    fn new(host: &Arc<Host>, permit: OwnedSemaphorePermit) -> Self {
        host.counters.accepted();
        Open {
            host: Arc::clone(host),
            _permit: permit,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if thread::panicking() {
            self.host.counters.panicked();
        }
        self.host.counters.closed();
    }
}

/// The whole conversation with one peer, from its first byte to the close.
async fn converse(mut stream: TcpStream, open: Open, mut stopped: watch::Receiver<bool>) {
    let host = &*open.host;
    let mut connection = with_scratch(host, |scratch| Connection::new(scratch, host::now()));
    // Both futures live as long as the connection, so that a request does not pay for setting them up;
    // the timer is set anew when it fires, not when the deadline moves.
    let mut timer = pin!(sleep_until(connection.deadline().into()));
    let mut stop = pin!(stopped.wait_for(|stopped| *stopped));
    let mut draining = false;
    loop {
        tokio::select! {
            biased;
            outcome = step(&mut stream, &mut connection, host) => match outcome {
                Ok(()) if connection.next() == Next::Close => break,
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // What a peer does wrong ends its own connection and nothing else.
                Err(error) => {
                    // The kernel's own limit for answers that nobody takes.
                    if error.kind() == io::ErrorKind::TimedOut && connection.next() == Next::Write {
                        with_scratch(host, |scratch| connection.timed_out(scratch, host::now()));
                    }
                    break;
                }
            },
            () = &mut timer => {
                let now = host::now();
                if connection.deadline() <= now.instant {
                    with_scratch(host, |scratch| connection.timed_out(scratch, now));
                }
                timer.as_mut().reset(connection.deadline().into());
            }
            _ = &mut stop, if !draining => {
                draining = true;
                with_scratch(host, |scratch| heed_stop(&mut connection, scratch, host, host::now()));
            }
        }
        if connection.deadline() < timer.deadline().into_std() {
            timer.as_mut().reset(connection.deadline().into());
        }
    }
}

/// Does what comes next. Cancelled while it waits, it has done nothing.
async fn step(stream: &mut TcpStream, connection: &mut Connection, host: &Host) -> io::Result<()> {
    match connection.next() {
        // Not `read(..).await`, which would hold a buffer for as long as it waits.
        Next::Read => {
            poll_fn(|cx| {
                with_scratch(host, |scratch| {
                    let mut space = ReadBuf::new(scratch.space());
                    ready!(Pin::new(&mut *stream).poll_read(cx, &mut space))?;
                    let n = space.filled().len();
                    let now = host::now();
                    heed_stop(connection, scratch, host, now);
                    connection.received(scratch, n, now);
                    // Whoever sends without a pause keeps the timer from being looked at.
                    if connection.deadline() <= now.instant && connection.next() != Next::Close {
                        connection.timed_out(scratch, now);
                    }
                    Poll::Ready(Ok(()))
                })
            })
            .await
        }
        Next::Write => {
            let n = stream.write(connection.output()).await?;
            with_scratch(host, |scratch| connection.sent(scratch, n, host::now()));
            Ok(())
        }
        Next::ShutdownWrite => {
            stream.shutdown().await?;
            with_scratch(host, |scratch| {
                connection.write_is_shut(scratch, host::now());
            });
            Ok(())
        }
        Next::Close => Ok(()),
    }
}

fn heed_stop(connection: &mut Connection, scratch: &Scratch, host: &Host, now: Now) {
    if let Some(until) = host.drain_until() {
        connection.drain(scratch, until, now);
    }
}

/// Lends what the present worker thread has for whichever task it runs.
fn with_scratch<T>(host: &Host, work: impl FnOnce(&mut Scratch) -> T) -> T {
    thread_local! {
        static SCRATCH: RefCell<Option<Scratch>> = const { RefCell::new(None) };
    }
    SCRATCH.with_borrow_mut(|scratch| work(scratch.get_or_insert_with(|| host.scratch())))
}
