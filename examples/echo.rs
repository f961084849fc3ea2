//! An echo server with a thread for each connection, and its client, as with `std::net`.
//!
//! ```sh
//! cargo build --example echo
//! USERSOCK_CONFIG=tun=tun0,addr=10.0.0.2/24,gw=10.0.0.1 target/debug/examples/echo serve 10.0.0.2:7 [CONNECTIONS]
//! USERSOCK_CONFIG=tun=tun1,addr=10.0.1.2/24,gw=10.0.1.1 target/debug/examples/echo ask 10.0.0.2:7 TEXT
//! ```
//!
//! docs/config.md says how the kernel's side of the TUN devices is set up. In C: examples/c/echo_server.c, with epoll.

use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::{env, thread};
use usersock::net::{Shutdown, TcpListener, TcpStream};

fn echo(mut conn: TcpStream) -> io::Result<()> {
    let mut buf = [0; 65536];
    loop {
        match conn.read(&mut buf)? {
            // Our end of stream; then the peer's acknowledgement, before which the process must not end.
            0 => return linger(&conn),
            n => conn.write_all(&buf[..n])?,
        }
    }
}

/// Closing waits, for up to 5 seconds, until all is acknowledged: the stack ends with the process.
fn linger(conn: &TcpStream) -> io::Result<()> {
    let value = [1i32.to_ne_bytes(), 5i32.to_ne_bytes()].concat();
    Ok(conn.socket().setsockopt(libc::SOL_SOCKET, libc::SO_LINGER, &value)?)
}

fn serve(addr: &str, connections: usize) -> io::Result<()> {
    let listener = TcpListener::bind(addr)?;
    println!("listening on {}", listener.local_addr()?);
    let mut threads = Vec::new();
    for conn in listener.incoming().take(connections) {
        let conn = conn?;
        threads.push(thread::spawn(move || echo(conn)));
        threads.retain(|t| !t.is_finished());
    }
    // A connection that broke is its peer's loss.
    threads.into_iter().for_each(|t| drop(t.join()));
    Ok(())
}

fn ask(addr: &str, text: &str) -> io::Result<()> {
    let mut conn = TcpStream::connect(addr)?;
    conn.write_all(text.as_bytes())?;
    conn.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    conn.read_to_string(&mut answer)?;
    println!("{answer}");
    Ok(())
}

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let done = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", addr] => serve(addr, usize::MAX),
        ["serve", addr, n] => n.parse().map_err(io::Error::other).and_then(|n| serve(addr, n)),
        ["ask", addr, text] => ask(addr, text),
        _ => Err(io::Error::other("usage: echo serve ADDR:PORT [CONNECTIONS] | echo ask ADDR:PORT TEXT")),
    };
    done.map_or_else(
        |e| {
            eprintln!("echo: {e}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}
