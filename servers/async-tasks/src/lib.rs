//! One tokio task per connection on a work-stealing runtime. It reads like a thread per connection and
//! waits like an event loop: a waiting task is a small state machine on the heap, and a few threads run
//! those that are ready. The price is the runtime's bookkeeping around every wait.

#![forbid(unsafe_code)]

use std::io;
use std::net::TcpListener;
use std::pin::pin;
use std::sync::Arc;

use host::{ACCEPT_BACKOFF, AcceptError, Host, accept_error};
use http1::{Connection, Next};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
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
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let stopping = stop_signal(&host);
    let mut stopped = stopping.clone();
    let permits = host.settings.connections_max.min(PERMITS_MAX as usize) as u32;
    let room = Arc::new(Semaphore::new(permits as usize));
    let spawn = |stream, permit| {
        host.counters.accepted();
        tokio::spawn(converse(
            stream,
            Arc::clone(&host),
            stopping.clone(),
            permit,
        ));
    };
    let permit = || async {
        Arc::clone(&room)
            .acquire_owned()
            .await
            .map_err(io::Error::other)
    };

    loop {
        let permit = permit().await?;
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.wait_for(|stopped| *stopped) => break,
        };
        match accepted {
            Ok((stream, _)) => spawn(stream, permit),
            Err(error) if accept_error(&error) == AcceptError::OutOfResources => {
                sleep(ACCEPT_BACKOFF).await;
            }
            Err(_) => {}
        }
    }

    // Those in the accept queue are served too. Asked by plain system calls: the runtime's idea of
    // readiness may be older than the queue.
    let queue = listener.into_std()?;
    loop {
        match queue.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(true)?;
                spawn(TcpStream::from_std(stream)?, permit().await?);
            }
            Err(error) => match accept_error(&error) {
                AcceptError::NothingWaits => break,
                AcceptError::ConnectionGone => {}
                AcceptError::OutOfResources => sleep(ACCEPT_BACKOFF).await,
            },
        }
    }
    drop(queue);
    // All permits are back when all connections are over.
    let _all = room.acquire_many(permits).await.map_err(io::Error::other)?;
    Ok(())
}

/// More connections than any machine has ports, and fewer than a semaphore can count.
const PERMITS_MAX: u32 = 1 << 24;

/// Becomes true when the host is stopped.
fn stop_signal(host: &Host) -> watch::Receiver<bool> {
    let (stop, stopped) = watch::channel(false);
    host.on_stop(move || _ = stop.send_replace(true));
    stopped
}

/// The whole conversation with one peer, from its first byte to the close. It counts as open until its
/// permit is dropped.
async fn converse(
    mut stream: TcpStream,
    host: Arc<Host>,
    mut stopped: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
) {
    let mut connection = Connection::new(host.settings.limits, host::now());
    // Both futures live as long as the connection, so that a request does not pay for setting them up;
    // the timer is set anew when it fires, not when the deadline moves.
    let mut timer = pin!(sleep_until(connection.deadline().into()));
    let mut stop = pin!(stopped.wait_for(|stopped| *stopped));
    let mut draining = false;
    loop {
        if !draining && host.stopping() {
            draining = true;
            connection.drain();
            // From here on a read returns what has arrived, then 0.
            host::shut_reading(&stream);
        }
        tokio::select! {
            biased;
            outcome = step(&mut stream, &mut connection) => match outcome {
                Ok(()) if connection.next() == Next::Close => break,
                Ok(()) => {}
                // What a peer does wrong ends its own connection and nothing else.
                Err(_) => break,
            },
            () = &mut timer => {
                let now = host::now();
                if connection.deadline() <= now.instant {
                    host.counters.timed_out(connection.timed_out(now));
                }
                timer.as_mut().reset(connection.deadline().into());
            }
            // Only wakes.
            _ = &mut stop, if !draining => {}
        }
        if connection.deadline() < timer.deadline().into_std() {
            timer.as_mut().reset(connection.deadline().into());
        }
    }
    host.counters.closed(&connection);
}

/// Does what comes next. Cancelled while it waits, it has done nothing.
async fn step(stream: &mut TcpStream, connection: &mut Connection) -> io::Result<()> {
    match connection.next() {
        Next::Read => {
            let n = stream.read(connection.space()).await?;
            connection.received(n, host::now());
        }
        Next::Write => {
            let n = stream.write(connection.output()).await?;
            connection.sent(n, host::now());
        }
        Next::ShutdownWrite => {
            stream.shutdown().await?;
            connection.write_is_shut(host::now());
        }
        Next::Close => {}
    }
    Ok(())
}
