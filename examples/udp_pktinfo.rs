//! A UDP server on all addresses of the stack that answers from the one it was asked at (IP_PKTINFO), in capitals; and
//! its client.
//!
//! ```sh
//! cargo build --example udp_pktinfo
//! cd target/debug/examples
//! USERSOCK_CONFIG=tun=tun0,addr=10.0.0.2/24,addr=10.0.0.3/24,gw=10.0.0.1 ./udp_pktinfo serve 7 [DATAGRAMS]
//! USERSOCK_CONFIG=tun=tun1,addr=10.0.1.2/24,gw=10.0.1.1 ./udp_pktinfo ask 10.0.0.3:7 TEXT
//! ```
//!
//! In C: examples/c/udp_pktinfo.c.

use std::env;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;
use std::time::Duration;
use usersock::net::UdpSocket;
use usersock::sock::msg::{Control, RecvMsg, SendMsg};

fn serve(port: u16, datagrams: usize) -> io::Result<()> {
    let server = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?;
    // What has no method of its own is reached through the socket.
    let socket = server.socket();
    socket.setsockopt(libc::SOL_IP, libc::IP_PKTINFO, &1i32.to_ne_bytes())?;
    println!("listening on port {port}");
    let mut buf = vec![0; 65536];
    for _ in 0..datagrams {
        let mut slices = [IoSliceMut::new(&mut buf)];
        let mut msg = RecvMsg::new(&mut slices, 0);
        let n = socket.recvmsg(&mut msg)?;
        let (peer, control) = (msg.name, std::mem::take(&mut msg.control));
        let at = control.iter().find_map(|c| match c {
            Control::PktInfo { addr: IpAddr::V4(addr), .. } => Some(*addr),
            _ => None,
        });
        let (Some(peer), Some(at)) = (peer, at) else { continue };
        println!("{n} bytes from {} at {at}", peer.ip());
        buf[..n].make_ascii_uppercase();
        let slices = [IoSlice::new(&buf[..n])];
        let mut answer = SendMsg::new(&slices, 0);
        answer.name = Some(peer);
        // The interface is the route's to choose.
        answer.control.push(Control::PktInfo { ifindex: 0, addr: at.into(), spec_dst: None });
        socket.sendmsg(&mut answer)?;
    }
    Ok(())
}

fn ask(addr: &str, text: &str) -> io::Result<()> {
    let client = UdpSocket::bind("0.0.0.0:0")?;
    // A datagram may be lost, as the first ones are while the kernel's end of a TUN device comes up: asked again.
    client.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut buf = [0; 2048];
    for _ in 0..10 {
        client.send_to(text.as_bytes(), addr)?;
        match client.recv_from(&mut buf) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => continue,
            answer => {
                let (n, from) = answer?;
                println!("{} from {from}", String::from_utf8_lossy(&buf[..n]));
                return Ok(());
            }
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let number = |s: &str| s.parse::<u16>().map_err(io::Error::other);
    let done = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", port] => number(port).and_then(|port| serve(port, usize::MAX)),
        ["serve", port, n] => number(port).and_then(|port| serve(port, number(n)?.into())),
        ["ask", addr, text] => ask(addr, text),
        _ => Err(io::Error::other("usage: udp_pktinfo serve PORT [DATAGRAMS] | udp_pktinfo ask ADDR:PORT TEXT")),
    };
    done.map_or_else(
        |e| {
            eprintln!("udp_pktinfo: {e}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}
