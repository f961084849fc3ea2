//! The client of memcached: connections that each ask for one value, again as soon as they have it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// The argument that makes this program the client.
pub const ASK: &str = "--ask-memcached";
/// Connections, by two threads.
const CONNECTIONS: usize = 50;
/// How long it asks.
const TIME: Duration = Duration::from_secs(2);
/// The value, what asks for it and the answer.
const VALUE: &str = "0123456789abcdef0123456789abcdef";
const GET: &[u8] = b"get key\r\n";

/// Asks, prints requests a second and ends, if this process was started for that.
pub fn ask_if_told() {
    let args: Vec<String> = std::env::args().collect();
    let [_, word, address] = &args[..] else { return };
    if word != ASK {
        return;
    }
    match ask(address) {
        Ok(rate) => println!("{rate:.1}"),
        Err(e) => {
            eprintln!("{address}: {e}");
            std::process::exit(1);
        }
    }
    std::process::exit(0);
}

fn open(address: &str) -> std::io::Result<TcpStream> {
    let c = TcpStream::connect(address)?;
    c.set_nodelay(true)?;
    c.set_read_timeout(Some(Duration::from_secs(10)))?;
    Ok(c)
}

fn expect(c: &mut TcpStream, want: &str) -> std::io::Result<()> {
    let mut answer = vec![0; want.len()];
    c.read_exact(&mut answer)?;
    match answer == want.as_bytes() {
        true => Ok(()),
        false => Err(std::io::Error::other(format!("answers {:?}", String::from_utf8_lossy(&answer)))),
    }
}

fn ask(address: &str) -> std::io::Result<f64> {
    let mut first = open(address)?;
    first.write_all(format!("set key 0 0 {}\r\n{VALUE}\r\n", VALUE.len()).as_bytes())?;
    expect(&mut first, "STORED\r\n")?;
    let begin = Instant::now();
    let work = || -> std::io::Result<u64> {
        let mut all = (0..CONNECTIONS / 2).map(|_| open(address)).collect::<std::io::Result<Vec<_>>>()?;
        let answer = format!("VALUE key 0 {}\r\n{VALUE}\r\nEND\r\n", VALUE.len());
        let mut done = 0;
        while begin.elapsed() < TIME {
            for c in &mut all {
                c.write_all(GET)?;
            }
            for c in &mut all {
                expect(c, &answer)?;
                done += 1;
            }
        }
        Ok(done)
    };
    let done = std::thread::scope(|t| {
        let other = t.spawn(work);
        let mine = work();
        let theirs = other.join().unwrap_or_else(|_| Err(std::io::Error::other("the second thread panicked")));
        Ok::<u64, std::io::Error>(mine? + theirs?)
    })?;
    Ok(done as f64 / begin.elapsed().as_secs_f64())
}
