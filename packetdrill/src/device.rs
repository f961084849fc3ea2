//! The device under packetdrill: what the stack sends waits here with its time until packetdrill sniffs it; what
//! packetdrill injects arrives from here. It stands for a `tun0` seen from the kernel's side: super-packets leave uncut
//! while the namespace's `tun0` has TCP segmentation offload, and arrive joined when the script gives `--mss`. Above:
//! `ip`. Below: nothing.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use usersock::device::{Caps, DevStats, Device, Xmit};
use usersock::env::Instant;
use usersock::internal::device::mark_joined;
use usersock::sock::skb::{L3, Skb};

/// The root queueing discipline of the device, as `tc` would have set it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Qdisc {
    /// First in, first out; the device takes everything at once.
    #[default]
    Pfifo,
    /// A queue without a place: each transmit is a local drop.
    Full,
    /// Each packet leaves at its time (`Skb::tx_time`).
    Fq,
}

#[derive(Debug, Default)]
struct Queues {
    qdisc: Qdisc,
    /// On their way into the stack.
    inbound: VecDeque<Skb>,
    /// Held back by `fq`: earliest departure first.
    paced: Vec<(Instant, Skb)>,
    /// Left the stack, with the time of departure.
    outbound: VecDeque<(Instant, Vec<u8>)>,
    stats: DevStats,
}

/// See the module's text.
#[derive(Debug)]
pub struct Wire {
    /// Bytes, at the start; later changes are made on the `NetDev`.
    mtu: u32,
    tso: AtomicBool,
    /// Bytes of the segments that TCP packets arrive joined from. Zero: each packet is a segment.
    mss: AtomicU16,
    queues: Mutex<Queues>,
}

impl Queues {
    /// The packet leaves. The caller drops it without holding these queues: the drop is its completion, which calls the
    /// sock.
    fn depart(&mut self, now: Instant, skb: &Skb) {
        let bytes = skb.to_vec();
        self.stats.tx_packets += 1;
        self.stats.tx_bytes += bytes.len() as u64;
        self.outbound.push_back((now, bytes));
    }

    /// Sends the packets that `fq` held back until now, and returns them for the caller to drop.
    fn release(&mut self, now: Instant) -> Vec<(Instant, Skb)> {
        let due = self.paced.partition_point(|(at, _)| *at <= now);
        let released: Vec<_> = self.paced.drain(..due).collect();
        released.iter().for_each(|(_, skb)| self.depart(now, skb));
        released
    }
}

impl Wire {
    /// A device with this MTU in bytes, without super-packets.
    pub fn new(mtu: u32) -> Wire {
        Wire { mtu, tso: AtomicBool::new(false), mss: AtomicU16::new(0), queues: Mutex::default() }
    }

    /// Whether the device takes super-packets, or the stack cuts them before.
    pub fn set_tso(&self, on: bool) {
        self.tso.store(on, Ordering::Relaxed);
    }

    /// Packetdrill's `--mss`: TCP packets with more payload than this arrive as one joined from segments of this size.
    pub fn set_mss(&self, mss: u16) {
        self.mss.store(mss, Ordering::Relaxed);
    }

    /// Sets the queueing discipline. Packets that the previous one held back leave with the next poll.
    pub fn set_qdisc(&self, qdisc: Qdisc) {
        let mut queues = self.queues.lock();
        queues.qdisc = qdisc;
        if qdisc != Qdisc::Fq {
            queues.paced.iter_mut().for_each(|(at, _)| *at = Instant::ZERO);
        }
    }

    /// Queues a datagram for the stack, which receives it at the next poll. False if it is no IP datagram.
    pub fn inject(&self, datagram: &[u8]) -> bool {
        let l3 = match datagram.first().map(|first| first >> 4) {
            Some(4) => L3::V4,
            Some(6) => L3::V6,
            _ => return false,
        };
        let mut skb = Skb::from_slice(datagram);
        skb.l3 = l3;
        let mss = self.mss.load(Ordering::Relaxed);
        if mss > 0 {
            mark_joined(&mut skb, mss);
        }
        self.queues.lock().inbound.push_back(skb);
        true
    }

    /// The next datagram that left, and when.
    pub fn sniff(&self) -> Option<(Instant, Vec<u8>)> {
        self.queues.lock().outbound.pop_front()
    }
}

impl Device for Wire {
    fn name(&self) -> &str {
        "tun0"
    }

    fn caps(&self) -> Caps {
        let mut caps = Caps::ip(self.mtu);
        caps.tso = self.tso.load(Ordering::Relaxed);
        caps.departure_times = self.queues.lock().qdisc == Qdisc::Fq;
        caps
    }

    fn recv(&self, _: u16, now: Instant, budget: usize, sink: &mut dyn FnMut(Skb)) -> io::Result<usize> {
        let (batch, released) = {
            let mut queues = self.queues.lock();
            let released = queues.release(now);
            let n = queues.inbound.len().min(budget);
            let batch: Vec<Skb> = queues.inbound.drain(..n).collect();
            queues.stats.rx_packets += n as u64;
            queues.stats.rx_bytes += batch.iter().map(|skb| skb.len() as u64).sum::<u64>();
            (batch, released)
        };
        let n = batch.len() + released.len();
        for mut skb in batch {
            skb.tstamp = now;
            sink(skb);
        }
        Ok(n)
    }

    fn xmit(&self, _: u16, now: Instant, skb: Skb) -> Xmit {
        let mut queues = self.queues.lock();
        let done = match queues.qdisc {
            Qdisc::Full => {
                queues.stats.tx_dropped += 1;
                return Xmit::Dropped(io::Error::from_raw_os_error(libc::ENOBUFS));
            }
            Qdisc::Fq if skb.tx_time > now => {
                let at = queues.paced.partition_point(|(at, _)| *at <= skb.tx_time);
                let time = skb.tx_time;
                queues.paced.insert(at, (time, skb));
                None
            }
            Qdisc::Fq | Qdisc::Pfifo => {
                queues.depart(now, &skb);
                Some(skb)
            }
        };
        drop(queues);
        drop(done);
        Xmit::Sent
    }

    fn next_event(&self, _: u16) -> Option<Instant> {
        self.queues.lock().paced.first().map(|(at, _)| *at)
    }

    fn has_pending(&self, _: u16) -> bool {
        !self.queues.lock().inbound.is_empty()
    }

    fn stats(&self) -> DevStats {
        self.queues.lock().stats
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::Ipv4Addr;
    use std::time::Duration;
    use usersock::ip::route::{self, RouteSpec};
    use usersock::net::TcpListener;

    fn skb(tx_time: Instant) -> Skb {
        let mut skb = Skb::from_slice(&[0x45, 0, 0, 20]);
        skb.tx_time = tx_time;
        skb
    }

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(ms)
    }

    #[test]
    fn fq_lets_each_packet_leave_at_its_time() {
        let wire = Wire::new(1500);
        wire.set_qdisc(Qdisc::Fq);
        for ms in [30, 10, 0] {
            assert!(matches!(wire.xmit(0, at(5), skb(at(ms))), Xmit::Sent));
        }
        assert_eq!(wire.sniff().map(|(time, _)| time), Some(at(5)));
        assert_eq!(wire.next_event(0), Some(at(10)));
        wire.recv(0, at(10), 64, &mut |_| ()).unwrap();
        assert_eq!(wire.sniff().map(|(time, _)| time), Some(at(10)));
        assert_eq!(wire.next_event(0), Some(at(30)));
        wire.set_qdisc(Qdisc::Pfifo);
        wire.recv(0, at(11), 64, &mut |_| ()).unwrap();
        assert_eq!(wire.sniff().map(|(time, _)| time), Some(at(11)), "nothing is lost with the discipline");
    }

    #[test]
    fn a_queue_without_a_place_drops() {
        let wire = Wire::new(1500);
        wire.set_qdisc(Qdisc::Full);
        assert!(matches!(wire.xmit(0, at(0), skb(at(0))), Xmit::Dropped(_)));
        assert_eq!(wire.stats().tx_dropped, 1);
        assert!(wire.sniff().is_none());
    }

    /// An IPv4 datagram with `len` bytes after a header of 20 bytes, of this protocol.
    fn datagram(protocol: u8, len: u16) -> Vec<u8> {
        let mut bytes = vec![0; 20 + usize::from(len)];
        bytes[0] = 0x45;
        bytes[2..4].copy_from_slice(&(20 + len).to_be_bytes());
        bytes[9] = protocol;
        bytes[32] = 0x50;
        bytes
    }

    #[test]
    fn tcp_packets_longer_than_the_scripts_mss_arrive_joined() {
        let wire = Wire::new(1500);
        wire.set_mss(1000);
        for packet in [datagram(6, 20 + 9001), datagram(6, 20 + 1000), datagram(1, 2000), datagram(6, 13)] {
            assert!(wire.inject(&packet));
        }
        let mut seen = Vec::new();
        wire.recv(0, at(1), 64, &mut |skb| seen.push((skb.gso_size, skb.rx_segs))).unwrap();
        assert_eq!(seen, [(1000, 10), (0, 1), (0, 1), (0, 1)]);
    }

    /// From 192.0.2.1:7 to port 8080 of 10.0.0.2, window 65535, without options.
    fn segment(flags: u8, seq: u32, ack: u32) -> Vec<u8> {
        use usersock::internal::wire::{ip, tcp};
        let (src, dst) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(10, 0, 0, 2));
        let mut bytes = datagram(6, 20);
        bytes[20..24].copy_from_slice(&[0, 7, 0x1f, 0x90]);
        bytes[24..28].copy_from_slice(&seq.to_be_bytes());
        bytes[28..32].copy_from_slice(&ack.to_be_bytes());
        (bytes[33], bytes[34], bytes[35]) = (flags, 0xff, 0xff);
        tcp::fill_checksum(&mut bytes[20..], src.into(), dst.into());
        let header = ip::Ipv4Repr { dont_fragment: true, ..ip::Ipv4Repr::new(src, dst, 6, 20) };
        header.emit(&mut bytes);
        bytes
    }

    #[test]
    fn without_segmentation_offload_super_packets_are_cut_before_the_device() {
        // Without an MSS option a segment has 536 bytes; a super-packet, half of what the window takes.
        for (tso, want) in [(true, &[2720, 1360][..]), (false, &[576, 576, 576, 576, 576, 576, 576, 288])] {
            let stack = usersock::config::build("").unwrap();
            let wire = std::sync::Arc::new(Wire::new(1500));
            let dev = stack.add_device(wire.clone()).unwrap();
            wire.set_tso(tso);
            let route = |to: &str| RouteSpec::new(to.parse().unwrap()).via_dev(&dev);
            route::add_address(&stack, &dev, "10.0.0.2/24".parse().unwrap()).unwrap();
            route::replace_route(&stack, route("192.0.2.0/24")).unwrap();
            let listener = TcpListener::bind_on(&stack, "10.0.0.2:8080").unwrap();
            let deliver = |packet: Vec<u8>| {
                assert!(wire.inject(&packet));
                stack.poll(stack.now());
            };
            deliver(segment(2, 100, 0));
            let syn_ack = wire.sniff().unwrap().1;
            let isn = u32::from_be_bytes(syn_ack[24..28].try_into().unwrap());
            deliver(segment(16, 101, isn.wrapping_add(1)));
            let (mut stream, _) = listener.accept().unwrap();
            assert_eq!(stream.write(&[7; 4000]).unwrap(), 4000);
            let sent: Vec<usize> = std::iter::from_fn(|| wire.sniff()).map(|(_, packet)| packet.len()).collect();
            assert_eq!(sent, want, "tso {tso}");
        }
    }

    #[test]
    fn only_ip_datagrams_arrive() {
        let wire = Wire::new(1500);
        assert!(!wire.inject(&[]) && !wire.inject(&[0x50]));
        assert!(wire.inject(&[0x60, 0]) && wire.has_pending(0));
        let mut seen = Vec::new();
        wire.recv(0, at(1), 64, &mut |skb| seen.push((skb.l3, skb.tstamp))).unwrap();
        assert_eq!(seen, [(L3::V6, at(1))]);
    }
}
