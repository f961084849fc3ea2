//! @name@: a kind of device, `device=@name@:OWN:PEER`, which carries IP packets between two stacks of this machine, in
//! one process or two: OWN is the file of this end's socket (AF_UNIX, datagrams), PEER that of the other end's.
#![forbid(unsafe_code)]

use std::fs::remove_file;
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use usersock_plugin::Reg;
use usersock_plugin::prelude::*;

const MAX_MTU: usize = 65_535;

/// Counter: packets dropped, because nobody is at the other end, or it is slow.
const NO_PEER: usize = 0;

/// The two files of an argument.
pub fn ends(argument: &str) -> Option<(PathBuf, PathBuf)> {
    let (own, peer) = argument.split_once(':').filter(|(own, peer)| !own.is_empty() && !peer.is_empty())?;
    Some((own.into(), peer.into()))
}

struct @Name@;

struct Wire {
    socket: UnixDatagram,
    own: PathBuf,
    peer: PathBuf,
}

impl DeviceKind for @Name@ {
    type Device = Wire;
    const NAME: &'static str = "@name@";
    const COUNTERS: &'static [&'static str] = &["@Name@NoPeer"];

    fn open(&self, args: &DeviceArgs<'_>, info: &mut DeviceInfo) -> std::result::Result<Wire, Refusal> {
        let (own, peer) = ends(args.argument).ok_or("not OWN:PEER, two files of sockets")?;
        // Left by a process that was killed, or not there.
        let _ = remove_file(&own);
        let socket = UnixDatagram::bind(&own)?;
        socket.set_nonblocking(true)?;
        info.mtu = args.mtu.unwrap_or(1500);
        Ok(Wire { socket, own, peer })
    }
}

impl Device for Wire {
    fn recv(&self, _: Reg<'_>, _: u32, _: Time, budget: usize, sink: &mut Sink<'_>) -> Result<()> {
        let mut buf = [0; MAX_MTU];
        for _ in 0..budget {
            match self.socket.recv(&mut buf) {
                Ok(len) => {
                    let mut skb = Skb::new()?;
                    skb.append(&buf[..len])?;
                    // What does not fit is dropped and counted.
                    let _ = sink.rx(skb);
                }
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Ok(()),
                Err(e) => return Err(e.raw_os_error().map_or(Errno::Io, Errno::from_number)),
            }
        }
        Ok(())
    }

    /// The packet stays the stack's.
    fn xmit(&self, reg: Reg<'_>, _: u32, _: Time, skb: &mut Packet) -> Result<()> {
        let mut buf = [0; MAX_MTU];
        let len = skb.copy(0, &mut buf);
        let Err(e) = self.socket.send_to(&buf[..len], &self.peer) else { return Ok(()) };
        reg.count(NO_PEER, 1)?;
        match e.kind() {
            ErrorKind::WouldBlock => Err(Errno::NoBufs),
            _ => Err(e.raw_os_error().map_or(Errno::Io, Errno::from_number)),
        }
    }

    /// A thread that waits for a packet waits here.
    fn poll_fd(&self, _: u32) -> Option<RawFd> {
        Some(self.socket.as_raw_fd())
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let _ = remove_file(&self.own);
    }
}

usersock_plugin::plugin!(|plugin| plugin.device(@Name@));
