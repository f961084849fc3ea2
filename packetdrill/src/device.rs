//! The device under packetdrill: what the stack sends waits here with its time until packetdrill sniffs it; what
//! packetdrill injects arrives from here. It stands for a `tun0` seen from the kernel's side: super-packets leave uncut
//! when the namespace's `tun0` has generic segmentation offload. Above: `ip`. Below: nothing.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use usersock::device::{Caps, DevStats, Device, Xmit};
use usersock::env::Instant;
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
    gso: AtomicBool,
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
        Wire { mtu, gso: AtomicBool::new(false), queues: Mutex::default() }
    }

    /// Whether the stack may hand over super-packets.
    pub fn set_gso(&self, on: bool) {
        self.gso.store(on, Ordering::Relaxed);
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
        caps.tso = self.gso.load(Ordering::Relaxed);
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
    use std::time::Duration;

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
