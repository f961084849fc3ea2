//! An HTTP client, and a server that has one page to answer it.
//!
//! ```sh
//! cargo build --example http
//! USERSOCK_CONFIG=tun=tun0,addr=10.0.0.2/24,gw=10.0.0.1 target/debug/examples/http get 10.0.0.1:8080 /
//! USERSOCK_CONFIG=tun=tun0,addr=10.0.0.2/24,gw=10.0.0.1 target/debug/examples/http serve 10.0.0.2:80 [REQUESTS]
//! ```
//!
//! with `python3 -m http.server 8080` on the kernel's side of tun0 for the first, `curl http://10.0.0.2/` for the
//! second. In C: examples/c/http_get.c.

use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::ExitCode;
use std::time::Duration;
use usersock::net::{TcpListener, TcpStream};

fn get(addr: &str, path: &str) -> io::Result<()> {
    let mut conn = TcpStream::connect(addr)?;
    conn.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(conn, "GET {path} HTTP/1.0\r\nHost: {addr}\r\n\r\n")?;
    let mut page = Vec::new();
    conn.read_to_end(&mut page)?;
    io::stdout().write_all(&page)
}

/// Reads a request and says what it was.
fn answer(conn: TcpStream) -> io::Result<()> {
    let mut reader = BufReader::new(conn);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
            break;
        }
    }
    let body = format!("you asked: {}\n", request.trim());
    let mut conn = reader.into_inner();
    write!(conn, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
    // Closing waits, for up to 5 seconds, until all is acknowledged: the stack ends with the process.
    let linger = [1i32.to_ne_bytes(), 5i32.to_ne_bytes()].concat();
    Ok(conn.socket().setsockopt(libc::SOL_SOCKET, libc::SO_LINGER, &linger)?)
}

fn serve(addr: &str, requests: usize) -> io::Result<()> {
    let listener = TcpListener::bind(addr)?;
    println!("listening on {}", listener.local_addr()?);
    for conn in listener.incoming().take(requests) {
        if let Err(e) = answer(conn?) {
            eprintln!("http: {e}");
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let done = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["get", addr, path] => get(addr, path),
        ["serve", addr] => serve(addr, usize::MAX),
        ["serve", addr, n] => n.parse().map_err(io::Error::other).and_then(|n| serve(addr, n)),
        _ => Err(io::Error::other("usage: http get ADDR:PORT PATH | http serve ADDR:PORT [REQUESTS]")),
    };
    done.map_or_else(
        |e| {
            eprintln!("http: {e}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}
