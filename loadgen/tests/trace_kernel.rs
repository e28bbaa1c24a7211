use loadgen::trace::kernel::*;
use loadgen::trace::sockets;
use std::io::{Read, Write};
use std::net::*;
use std::time::Instant;
#[test]
fn spike() {
    let t = Instant::now();
    let tracer = Tracer::begin().unwrap();
    eprintln!("begin {:?}", t.elapsed());
    let l = TcpListener::bind("127.0.0.1:0").unwrap();
    let a = l.local_addr().unwrap();
    let th = std::thread::spawn(move || {
        let (mut s, _) = l.accept().unwrap();
        let mut b = [0; 5];
        s.read_exact(&mut b).unwrap();
        s.write_all(b"world").unwrap();
    });
    let mut c = TcpStream::connect(a).unwrap();
    c.write_all(b"hello").unwrap();
    let mut v = Vec::new();
    c.read_to_end(&mut v).unwrap();
    eprintln!("{:?}", sockets::info_of(&c));
    let t = Instant::now();
    let mut ss = sockets::list(&[a.port()]).unwrap();
    eprintln!("list {:?}", t.elapsed());
    let t = Instant::now();
    sockets::holders(None, &mut ss);
    eprintln!("holders {:?}", t.elapsed());
    eprintln!("{ss:#?}");
    drop(c);
    th.join().unwrap();
    eprintln!("{:#?}", sockets::list(&[a.port()]).unwrap());
    let t = Instant::now();
    let traced = tracer
        .end(&Watch {
            client_tids: vec![],
            server_pids: vec![std::process::id()],
            ports: vec![a.port()],
            all_calls: false,
        })
        .unwrap();
    eprintln!("end {:?} lost {}", t.elapsed(), traced.lost);
    for c in &traced.changes {
        eprintln!("{c:?}");
    }
    for c in &traced.calls {
        eprintln!(
            "{} {:?} {}({}) = {:?}",
            c.tid,
            c.entered_ns,
            c.name,
            describe(c),
            result(c)
        );
    }
}
