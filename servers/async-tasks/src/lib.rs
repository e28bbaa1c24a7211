//! One tokio task per connection on a work-stealing runtime. The code reads like a thread per connection and
//! waits like an event loop: a waiting task is a small state machine on the heap, and a few threads run the
//! tasks that are ready. The price is the runtime's bookkeeping around every wait.

#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::TcpListener;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Poll, ready};

use host::{Accept, Door, Guest, Host};
use http1::{Connection, Next, Scratch};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead as _, AsyncWriteExt as _, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::sync::{Notify, watch};
use tokio::time::sleep_until;

/// Serves until the host is stopped and all connections are closed.
///
/// # Errors
///
/// When the runtime cannot be set up.
pub fn serve(listener: TcpListener, host: &Arc<Host>) -> io::Result<()> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(host.settings.threads.get())
        .enable_all()
        .build()?;
    // Spawned, because block_on would run it on this thread, outside the workers.
    let acceptor = runtime.spawn(accept(listener, Arc::clone(host)));
    runtime.block_on(acceptor).map_err(io::Error::other)?
}

async fn accept(listener: TcpListener, host: Arc<Host>) -> io::Result<()> {
    let mut door = Door::nonblocking(listener, &host)?;
    let room = Arc::new(Notify::new());
    door.on_room({
        let room = Arc::clone(&room);
        move || room.notify_one()
    });
    #[expect(
        deprecated,
        reason = "its replacement is unsafe; a door keeps its descriptor open"
    )]
    let mut door = AsyncFd::with_interest(door, Interest::READABLE)?;
    // Becomes true when the host is stopped. Every task has a receiver.
    let stop = Arc::new(watch::Sender::new(false));
    let mut stopped = stop.subscribe();
    host.on_stop({
        let stop = Arc::clone(&stop);
        move || _ = stop.send_replace(true)
    });
    loop {
        let accepted = tokio::select! {
            ready = door.readable_mut() => {
                let mut ready = ready?;
                let accepted = ready.get_inner_mut().accept();
                if matches!(accepted, Accept::Nobody) {
                    ready.clear_ready();
                }
                accepted
            }
            _ = stopped.wait_for(|stopped| *stopped) => door.get_mut().accept(),
        };
        match accepted {
            // If the runtime cannot register it, the peer sees a closed connection.
            Accept::Guest(stream, guest) => {
                if let Ok(stream) = TcpStream::from_std(stream) {
                    tokio::spawn(converse(guest, stream, stopped.clone()));
                }
            }
            Accept::Nobody => {}
            Accept::Full => room.notified().await,
            Accept::Later(at) => sleep_until(at.into()).await,
            Accept::Closed => break,
        }
    }
    drop((door, stopped));
    // The last receiver is dropped with the last task.
    stop.closed().await;
    Ok(())
}

/// Holds the whole conversation with one peer, from its first byte to the close.
async fn converse(guest: Guest, mut stream: TcpStream, mut stopped: watch::Receiver<bool>) {
    let host = guest.host();
    let mut connection = with_scratch(host, |scratch| Connection::new(scratch, host::now()));
    // Both futures live as long as the connection, so that requests do not pay for creating them. The timer is
    // reset when it fires, not whenever the deadline moves.
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
                // An error ends this connection and nothing else.
                Err(error) => {
                    with_scratch(host, |scratch| {
                        host::note_failure(&mut connection, scratch, &error, host::now());
                    });
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
                with_scratch(host, |scratch| host.tell_stop(&mut connection, scratch, host::now()));
            }
        }
        if connection.deadline() < timer.deadline().into_std() {
            timer.as_mut().reset(connection.deadline().into());
        }
    }
}

/// Does what the connection asks for next. If it is cancelled while it waits, it has done nothing.
async fn step(stream: &mut TcpStream, connection: &mut Connection, host: &Host) -> io::Result<()> {
    match connection.next() {
        // `read(..).await` would hold a buffer while it waits.
        Next::Read => {
            poll_fn(|cx| {
                with_scratch(host, |scratch| {
                    let mut space = ReadBuf::new(scratch.space());
                    ready!(Pin::new(&mut *stream).poll_read(cx, &mut space))?;
                    let n = space.filled().len();
                    let now = host::now();
                    host.tell_stop(connection, scratch, now);
                    connection.received(scratch, n, now);
                    // `select!` does not reach the timer while a peer sends without a pause.
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

/// Lends `work` the buffers of the present worker thread.
fn with_scratch<T>(host: &Host, work: impl FnOnce(&mut Scratch) -> T) -> T {
    thread_local! {
        static SCRATCH: RefCell<Option<Scratch>> = const { RefCell::new(None) };
    }
    SCRATCH.with_borrow_mut(|scratch| work(scratch.get_or_insert_with(|| host.scratch())))
}
