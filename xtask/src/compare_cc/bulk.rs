//! The two programs of a flow: one writes as fast as its socket takes it, the other counts what arrives.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::Outcome;

/// Bytes of a write, and of a read at most.
const BLOCK: usize = 128 << 10;

/// Arguments of both programs.
#[derive(clap::Args)]
pub struct Args {
    /// Where the sink listens
    address: SocketAddr,
    /// Seconds from the first byte that arrives to the end
    seconds: f64,
    /// Seconds from the first byte that arrives that are not counted
    #[arg(default_value_t = 0.0)]
    omit: f64,
}

/// Writes until the sink closes.
pub fn send(args: &Args) -> Outcome {
    let mut stream = TcpStream::connect(args.address)?;
    let (block, begun) = (vec![0; BLOCK], Instant::now());
    // The sink ends it; this is for one that does not.
    while begun.elapsed().as_secs_f64() < args.seconds + 10.0 && stream.write_all(&block).is_ok() {}
    Ok(true)
}

/// Takes one connection, says on standard output how many Mbit/s arrived, and ends.
pub fn sink(args: &Args) -> Outcome {
    let listener = TcpListener::bind(args.address)?;
    println!("ready");
    let (mut stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(Duration::from_millis(50)))?;
    let (mut block, mut begun, mut bytes) = (vec![0; BLOCK], None, 0u64);
    loop {
        let got = match stream.read(&mut block) {
            Ok(0) => break,
            Ok(n) => n as u64,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
            Err(e) => return Err(e.into()),
        };
        let now = Instant::now();
        let since = match begun {
            None if got == 0 => continue,
            _ => (now - *begun.get_or_insert(now)).as_secs_f64(),
        };
        if since >= args.seconds {
            println!("{}", bytes as f64 * 8e-6 / (args.seconds - args.omit));
            return Ok(true);
        }
        if since >= args.omit {
            bytes += got;
        }
    }
    println!("the connection ended early");
    Ok(false)
}
