//! The shortest server that Rust's std allows: one connection after another, the same answer to each.
//!
//! It shows what happens on the wire and is not a model for a server: it takes the first bytes for a whole
//! request, a peer that sends nothing blocks it, and any error ends it. `http1` and `host` add the rest.
//!
//! `cargo run -p iterative --example shortest [ADDRESS]`

use std::env;
use std::io::{self, Read as _, Write as _};
use std::net::TcpListener;

fn main() -> io::Result<()> {
    let address = env::args().nth(1).unwrap_or("127.0.0.1:8000".to_owned());
    let listener = TcpListener::bind(address)?;
    println!("listening on {}", listener.local_addr()?);
    for connection in listener.incoming() {
        let mut connection = connection?;
        let mut request = [0; 1024];
        if connection.read(&mut request)? > 0 {
            connection.write_all(ANSWER)?;
        }
    }
    Ok(())
}

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\nConnection: close\r\n\r\nhello world";
