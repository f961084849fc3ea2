//! A peer made by hand, for tests: it writes any segment to a stack on a recording device, and reads what the stack
//! answers.

use super::tcb::TcpSock;
use crate::base::env::Duration;
use crate::base::error::Result;
use crate::device::capture_test::Bench;
use crate::inet::Socket;
use crate::sock::msg::{RecvMsg, SendMsg};
use crate::sock::state::State;
use crate::wire::ip::Ipv4Repr;
use crate::wire::tcp::{TcpFlags, TcpHeader, fill_checksum};
use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

pub(super) const HERE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(super) const THERE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
pub(super) const PORT: u16 = 80;
/// The peer's initial sequence number: its first data crosses the wrap.
pub(super) const ISS: u32 = 0xffff_ff00;

pub(super) const FIN: u8 = 1;
pub(super) const SYN: u8 = 2;
pub(super) const RST: u8 = 4;
pub(super) const PSH: u8 = 8;
pub(super) const ACK: u8 = 16;

/// MSS 1460, SACK, window scale 7.
pub(super) const SYN_OPTIONS: &[u8] = &[2, 4, 5, 0xb4, 1, 1, 4, 2, 1, 3, 3, 7];

/// A segment to inject. Sequence and acknowledgement numbers are absolute.
#[derive(Clone, Debug)]
pub(super) struct Seg {
    pub src: Ipv4Addr,
    pub dst: Ipv4Addr,
    pub sport: u16,
    pub dport: u16,
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    /// The flag AE.
    pub ae: bool,
    /// TOS of the IP header.
    pub tos: u8,
    pub window: u16,
    pub urgent: u16,
    pub options: Vec<u8>,
    pub data: Vec<u8>,
}

impl Seg {
    pub(super) fn new(sport: u16, flags: u8, seq: u32, ack: u32) -> Seg {
        let (options, data) = (Vec::new(), Vec::new());
        let (src, dst, dport, window, urgent, ae, tos) = (THERE, HERE, PORT, 1000, 0, false, 0);
        Seg { src, dst, sport, dport, seq, ack, flags, ae, tos, window, urgent, options, data }
    }

    /// The IPv4 datagram, checksums right.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut options = self.options.clone();
        options.truncate(40);
        options.resize(options.len().next_multiple_of(4), 0);
        let mut t = Vec::new();
        t.extend(self.sport.to_be_bytes());
        t.extend(self.dport.to_be_bytes());
        t.extend(self.seq.to_be_bytes());
        t.extend(self.ack.to_be_bytes());
        t.extend([((20 + options.len()) as u8 / 4) << 4 | u8::from(self.ae), self.flags]);
        t.extend(self.window.to_be_bytes());
        t.extend([0, 0]);
        t.extend(self.urgent.to_be_bytes());
        t.extend(options);
        t.extend(&self.data);
        fill_checksum(&mut t, IpAddr::V4(self.src), IpAddr::V4(self.dst));
        let repr = Ipv4Repr {
            src: self.src,
            dst: self.dst,
            protocol: 6,
            ttl: 64,
            tos: self.tos,
            id: 1,
            dont_fragment: true,
            more_fragments: false,
            frag_offset: 0,
            payload_len: t.len(),
        };
        let mut b = vec![0; 20];
        repr.emit_with_options(&mut b, &[]);
        b.extend(t);
        b
    }
}

/// A SACK option of these blocks.
pub(super) fn sack(blocks: &[(u32, u32)]) -> Vec<u8> {
    let mut o = vec![1, 1, 5, 2 + 8 * blocks.len() as u8];
    for (a, b) in blocks {
        o.extend(a.to_be_bytes());
        o.extend(b.to_be_bytes());
    }
    o
}

/// What the stack sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Out {
    pub dport: u16,
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub len: usize,
}

fn read(packets: &[Vec<u8>]) -> Vec<Out> {
    let tcp = packets.iter().filter(|p| p[9] == 6);
    tcp.map(|p| {
        let h = TcpHeader::parse(&p[20..]).unwrap();
        let flags = (h.flags().bits() & (TcpFlags::FIN | TcpFlags::SYN | TcpFlags::RST | TcpFlags::ACK).bits()) as u8;
        Out { dport: h.dst_port(), seq: h.seq().0, ack: h.ack().0, flags, len: h.payload().len() }
    })
    .collect()
}

/// A stack with a listener on PORT.
pub(super) struct Host {
    pub bench: Bench,
    pub listener: Socket,
}

/// A connection of the host: the socket, the peer's port, its next sequence number and the host's.
pub(super) struct Conn {
    pub socket: Socket,
    pub port: u16,
    pub seq: u32,
    pub ack: u32,
}

impl Host {
    pub(super) fn new(backlog: i32) -> Host {
        Host::on(Bench::on_ip(), backlog)
    }

    /// On a stack that was prepared.
    pub(super) fn on(bench: Bench, backlog: i32) -> Host {
        let listener = Socket::new(&bench.stack, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
        listener.bind(SocketAddr::new(IpAddr::V4(HERE), PORT)).unwrap();
        listener.listen(backlog).unwrap();
        listener.set_nonblocking(true);
        Host { bench, listener }
    }

    pub(super) fn put(&self, seg: &Seg) -> Vec<Out> {
        read(&self.bench.inject(&seg.bytes()))
    }

    pub(super) fn wait(&self, by: Duration) -> Vec<Out> {
        read(&self.bench.advance(by))
    }

    pub(super) fn sent(&self) -> Vec<Out> {
        read(&self.bench.poll())
    }

    pub(super) fn connect(&self, port: u16, options: &[u8]) -> Conn {
        self.connect_by(&Seg { options: options.to_vec(), ..Seg::new(port, SYN, ISS, 0) })
    }

    /// The same by this SYN.
    pub(super) fn connect_by(&self, syn: &Seg) -> Conn {
        let port = syn.sport;
        let answer = self.put(syn);
        assert_eq!((answer.len(), answer[0].flags), (1, SYN | ACK), "{answer:?}");
        let (seq, ack) = (ISS.wrapping_add(1), answer[0].seq.wrapping_add(1));
        self.put(&Seg::new(port, ACK, seq, ack));
        let (socket, peer) = self.listener.accept().unwrap();
        assert_eq!(peer.port(), port);
        socket.set_nonblocking(true);
        Conn { socket, port, seq, ack }
    }

    /// Sockets of TCP, and its memory in pages.
    pub(super) fn accounts(&self) -> (i64, i64) {
        let a = self.listener.sock().accounts();
        (a.sockets.sum(), a.pages.sum())
    }
}

impl Conn {
    pub(super) fn seg(&self, flags: u8) -> Seg {
        Seg::new(self.port, flags, self.seq, self.ack)
    }

    pub(super) fn tcb<R>(&self, f: impl FnOnce(&TcpSock) -> R) -> R {
        let g = self.socket.sock().lock(self.socket.stack());
        f(g.private.downcast_ref::<TcpSock>().unwrap())
    }

    pub(super) fn state(&self) -> State {
        self.socket.sock().state()
    }

    pub(super) fn send(&self, len: usize) -> Result<usize> {
        let data = vec![0x5a; len];
        self.socket.sendmsg(&mut SendMsg::new(&[IoSlice::new(&data)], libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL))
    }

    pub(super) fn recv(&self, len: usize) -> Result<usize> {
        let mut data = vec![0; len];
        let mut slices = [IoSliceMut::new(&mut data)];
        self.socket.recvmsg(&mut RecvMsg::new(&mut slices, libc::MSG_DONTWAIT))
    }
}
