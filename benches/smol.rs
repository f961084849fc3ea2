//! smoltcp over a TUN device, driven as its documentation describes: poll, copy, wait in the descriptor.

use crate::bulk::{CHUNK, End};
use crate::net::PATIENCE;
use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::phy::{Medium, TunTapInterface, wait};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};
use std::os::fd::AsRawFd;

/// Bytes of each of the socket's two buffers; more did not make it faster.
const BUFFER: usize = 1 << 20;

/// An end of a connection.
pub struct Smol {
    device: TunTapInterface,
    iface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    chunk: Vec<u8>,
}

impl Smol {
    /// smoltcp with this address on TUN device `name`, connected to `to`.
    pub fn connect(name: &str, addr: [u8; 4], to: ([u8; 4], u16)) -> Result<Smol, String> {
        let mut device = TunTapInterface::new(name, Medium::Ip).map_err(|e| format!("{name}: {e}"))?;
        let mut iface = Interface::new(Config::new(HardwareAddress::Ip), &mut device, Instant::now());
        let [a, b, c, d] = addr;
        iface.update_ip_addrs(|list| {
            // The list holds at least one.
            let _ = list.push(IpCidr::new(IpAddress::v4(a, b, c, d), 24));
        });
        let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        let [a, b, c, d] = to.0;
        socket
            .connect(iface.context(), (IpAddress::v4(a, b, c, d), to.1), 50_000)
            .map_err(|e| format!("connect: {e}"))?;
        let mut sockets = SocketSet::new(vec![]);
        let handle = sockets.add(socket);
        let mut smol = Smol { device, iface, sockets, handle, chunk: vec![0x5a; CHUNK] };
        smol.until(|s, _| s.may_send());
        Ok(smol)
    }

    /// Polls, and calls `step` on the socket, until it returns true.
    fn until(&mut self, mut step: impl FnMut(&mut tcp::Socket<'static>, &mut [u8]) -> bool) {
        let begin = std::time::Instant::now();
        loop {
            let polled = self.iface.poll(Instant::now(), &mut self.device, &mut self.sockets);
            let socket = self.sockets.get_mut::<tcp::Socket>(self.handle);
            let before = (socket.send_queue(), socket.recv_queue());
            let finished = step(socket, &mut self.chunk);
            let moved = before != (socket.send_queue(), socket.recv_queue());
            if finished {
                self.iface.poll(Instant::now(), &mut self.device, &mut self.sockets);
                return;
            }
            if !moved && polled == PollResult::None {
                assert!(begin.elapsed() < PATIENCE * 3, "smoltcp stalled");
                let delay = self.iface.poll_delay(Instant::now(), &self.sockets);
                // An interrupted wait looks again.
                let _ = wait(self.device.as_raw_fd(), delay);
            }
        }
    }
}

impl End for Smol {
    fn send(&mut self, bytes: u64) {
        let mut left = bytes as usize;
        self.until(|s, chunk| {
            while left > 0 && s.can_send() {
                left -= s.send_slice(&chunk[..left.min(CHUNK)]).expect("send");
            }
            left == 0 && s.send_queue() == 0
        });
    }
    fn receive(&mut self, bytes: u64) {
        let mut left = bytes as usize;
        self.until(|s, chunk| {
            while left > 0 && s.can_recv() {
                left -= s.recv_slice(&mut chunk[..left.min(CHUNK)]).expect("receive");
            }
            left == 0
        });
    }
}
