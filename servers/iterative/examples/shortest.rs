//! The shortest server there is in Rust's std: one connection after another, one answer for all.
//!
//! It shows what happens on the wire, and is no model: it takes whatever comes first for a whole request, a
//! peer that sends nothing stops it, and an error ends it. What it lacks is what `http1` and `host` are for.
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
