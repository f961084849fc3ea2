//! A device whose other end are peers made by hand: what they send is put together here, and of what the stack sends
//! them only the end is noted, so that the stack's part alone is measured. Above: `served`, `windows`.

use crate::measure::cpu_time;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use usersock::device::{Caps, DevStats, Device, Xmit};
use usersock::env::Instant;
use usersock::internal::wire::ip::Ipv4Repr;
use usersock::internal::wire::tcp::{TcpFlags, TcpHeader, TcpRepr, fill_checksum};
use usersock::sock::skb::Skb;
use usersock::stack::Stack;
use usersock::wire::proto;
use usersock::wire::seq::{RawWindow, SeqNum};

/// The stack's address and port.
pub const HERE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// See [`HERE`].
pub const PORT: u16 = 80;
/// The peers' initial sequence number.
pub const ISS: u32 = 0xffff_ff00;

/// Delivers what the peers write.
#[derive(Debug)]
pub struct Wire {
    waiting: Mutex<VecDeque<Skb>>,
    /// Of each peer: the sequence number behind the last segment that the stack sent it.
    sent_to: Vec<AtomicU32>,
    /// The number of the peer of an address and a port.
    peer: fn(Ipv4Addr, u16) -> usize,
}

impl Wire {
    /// With so many peers.
    pub fn new(peers: usize, peer: fn(Ipv4Addr, u16) -> usize) -> Wire {
        Wire { waiting: Mutex::default(), sent_to: (0..peers).map(|_| AtomicU32::new(0)).collect(), peer }
    }

    /// What peer `i` acknowledges when it has received everything.
    pub fn sent_to(&self, i: usize) -> u32 {
        self.sent_to[i].load(Ordering::Relaxed)
    }

    /// Gives the stack these segments; returns the processor time that they took.
    pub fn put(
        &self,
        segments: impl IntoIterator<Item = Skb>,
        stack: &Arc<Stack>,
        now: impl Fn() -> Instant,
    ) -> Duration {
        self.waiting.lock().expect("lock").extend(segments);
        let start = cpu_time();
        stack.poll(now());
        cpu_time() - start
    }
}

impl Device for Wire {
    fn name(&self) -> &str {
        "wire"
    }
    fn caps(&self) -> Caps {
        let mut caps = Caps::ip(1500);
        caps.tx_csum = true;
        caps
    }
    fn recv(&self, _: u16, now: Instant, budget: usize, sink: &mut dyn FnMut(Skb)) -> io::Result<usize> {
        for n in 0..budget {
            let Some(mut skb) = self.waiting.lock().expect("lock").pop_front() else { return Ok(n) };
            skb.tstamp = now;
            sink(skb);
        }
        Ok(budget)
    }
    fn xmit(&self, _: u16, _: Instant, skb: Skb) -> Xmit {
        let mut head = [0; 80];
        let n = skb.copy_out(0, &mut head);
        let tcp = TcpHeader::parse(&head[20..n]).expect("a segment");
        let syn = u32::from(tcp.flags().contains(TcpFlags::SYN));
        let end = tcp.seq() + (skb.len() - 20 - tcp.header_len()) as u32 + syn;
        let [a, b, c, d] = [head[16], head[17], head[18], head[19]];
        let sent_to = &self.sent_to[(self.peer)(Ipv4Addr::new(a, b, c, d), tcp.dst_port())];
        if end.after(SeqNum(sent_to.load(Ordering::Relaxed))) || syn == 1 {
            sent_to.store(end.0, Ordering::Relaxed);
        }
        Xmit::Sent
    }
    fn has_pending(&self, _: u16) -> bool {
        !self.waiting.lock().expect("lock").is_empty()
    }
    fn stats(&self) -> DevStats {
        DevStats::default()
    }
}

/// A segment from a peer, with its IP header.
pub fn segment(
    (from, src_port): (Ipv4Addr, u16),
    (seq, ack): (u32, u32),
    flags: TcpFlags,
    options: &[u8],
    data: &[u8],
) -> Skb {
    let tcp = TcpRepr {
        src_port,
        dst_port: PORT,
        seq: SeqNum(seq),
        ack: SeqNum(ack),
        flags,
        window: RawWindow(65_535),
        urgent: 0,
        options_len: options.len(),
    };
    let len = tcp.header_len() + data.len();
    let ip = Ipv4Repr { id: 7, dont_fragment: true, ..Ipv4Repr::new(from, HERE, proto::TCP, len) };
    let mut buf = vec![0; 20 + len];
    let n = ip.emit(&mut buf);
    let t = tcp.emit(&mut buf[n..]);
    buf[n + 20..n + t].copy_from_slice(options);
    buf[n + t..].copy_from_slice(data);
    fill_checksum(&mut buf[n..], IpAddr::V4(from), IpAddr::V4(HERE));
    Skb::from_slice(&buf)
}
