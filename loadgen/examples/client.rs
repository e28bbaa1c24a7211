//! A client in a dozen lines: one request, and all of the answer.
//!
//! `cargo run -p loadgen --example client [ADDRESS]`

use std::env;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;

fn main() -> io::Result<()> {
    let address = env::args().nth(1).unwrap_or("127.0.0.1:8000".to_owned());
    let mut connection = TcpStream::connect(&address)?;
    let request = format!("GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes())?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    println!("{answer}");
    Ok(())
}
