//! UDPDEV: a device that carries IP packets over a UDP socket of the host, `device=udp:LOCAL/REMOTE`, in Rust.
//! `c-tests/plugins/udpdev.c` is the same in C, and says more. `cargo build -p usersock-plugin --example udpdev` makes
//! libudpdev.so.
#![forbid(unsafe_code)]

use std::io::ErrorKind;
use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use usersock_plugin::prelude::*;

const DEFAULT_MTU: u32 = 1472;
const MAX_DATAGRAM: usize = 65_507;

/// Counters: ICMP errors for sent datagrams, because REMOTE has no socket; packets longer than the MTU.
const REFUSED: usize = 0;
const TOO_LONG: usize = 1;

struct Udp;

struct Tunnel {
    socket: UdpSocket,
    mtu: u32,
}

impl DeviceKind for Udp {
    type Device = Tunnel;
    const NAME: &'static str = "udp";
    const COUNTERS: &'static [&'static str] = &["UdpdevRefused", "UdpdevTooLong"];

    fn open(&self, args: &DeviceArgs<'_>, info: &mut DeviceInfo) -> std::result::Result<Tunnel, Refusal> {
        let end = |text: &str| text.parse::<SocketAddrV4>().ok().filter(|end| end.port() != 0);
        let ends = args.argument.split_once('/').and_then(|(local, remote)| Some((end(local)?, end(remote)?)));
        let (local, remote) = ends.ok_or("not LOCAL:PORT/REMOTE:PORT of IPv4")?;
        if args.mtu.is_some_and(|mtu| mtu as usize > MAX_DATAGRAM) {
            return Err("an MTU beyond 65507 does not fit in a datagram".into());
        }
        let socket = UdpSocket::bind(local)?;
        socket.connect(remote)?;
        socket.set_nonblocking(true)?;
        info.mtu = args.mtu.unwrap_or(DEFAULT_MTU);
        Ok(Tunnel { socket, mtu: info.mtu })
    }
}

fn errno(e: &std::io::Error) -> Errno {
    e.raw_os_error().map_or(Errno::Io, Errno::from_number)
}

impl Device for Tunnel {
    fn recv(&self, reg: Reg<'_>, _: u32, _: Time, budget: usize, sink: &mut Sink<'_>) -> Result<()> {
        let mut buf = [0; MAX_DATAGRAM];
        for _ in 0..budget {
            match self.socket.recv(&mut buf) {
                Ok(len) => {
                    let mut skb = Skb::new()?;
                    skb.append(&buf[..len])?;
                    // What does not fit is dropped and counted.
                    let _ = sink.rx(skb);
                }
                // An ICMP error for an earlier datagram.
                Err(e) if e.kind() == ErrorKind::ConnectionRefused => reg.count(REFUSED, 1)?,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(errno(&e)),
            }
        }
        Ok(())
    }

    fn xmit(&self, reg: Reg<'_>, _: u32, _: Time, skb: &mut Packet) -> Result<()> {
        let mut buf = [0; MAX_DATAGRAM];
        if skb.len() > self.mtu as usize {
            reg.count(TOO_LONG, 1)?;
            return Err(Errno::MsgSize);
        }
        let len = skb.copy(0, &mut buf);
        let mut tries = 0;
        while let Err(e) = self.socket.send(&buf[..len]) {
            let again = match e.kind() {
                ErrorKind::ConnectionRefused => reg.count(REFUSED, 1).is_ok(),
                kind => kind == ErrorKind::Interrupted,
            };
            if !again || tries == 3 {
                return Err(errno(&e));
            }
            tries += 1;
        }
        Ok(())
    }

    fn poll_fd(&self, _: u32) -> Option<RawFd> {
        Some(self.socket.as_raw_fd())
    }
}

usersock_plugin::plugin!(|plugin| plugin.device(Udp));
