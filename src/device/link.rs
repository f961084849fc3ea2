//! A simulated link: a pair of devices joined by a wire that has, in each direction, a rate, a delay, a queue, and
//! loss, reordering, duplication and corruption. It has no clock or thread of its own: packets arrive according to the
//! clock that its stacks share, and the same seed gives the same result. Above: `ip::output`, the poll loop;
//! `sim::World` creates links. Below: `wire`, each direction. Linux: tc-netem and tc-tbf on a veth pair.

mod wire;

use super::gso;
use super::{Caps, DevStats, Device, LinkType, Xmit};
use crate::base::env::{Duration, Entropy, Instant, SeededEntropy};
use crate::base::error::{Error, Result};
use crate::sock::skb::{Csum, Skb};
use crate::wire::ether::{HEADER_LEN, MacAddr};
use std::cmp::Reverse;
use std::io;
use std::sync::Arc;
use wire::{Owners, Planned, Wire};

#[cfg(test)]
mod tests;

/// What one direction of a link does to packets. Probabilities are from 0 to 1 and apply to each packet independently.
/// Start from a perfect wire and set what differs: `Direction::default().delay(d).loss(0.01)`.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Direction {
    /// Bits a second, link header included; 0: no limit.
    pub rate: u64,
    /// Propagation delay.
    pub delay: Duration,
    /// Added to the delay, uniformly from 0 to this. It does not reorder: a packet arrives no earlier than the one
    /// before.
    pub jitter: Duration,
    /// Bytes that the queue in front of a limited rate holds; a packet that does not fit is lost. 0: no limit.
    pub queue_bytes: u64,
    /// The same limit in packets. 0: no limit.
    pub queue_packets: usize,
    /// A packet that the queue has no room for takes the place of the oldest one, which is lost: the queue stays as
    /// short, but what it delivers is newer. If the queue is the sender's own, the sender is told that it is congested.
    /// Linux: pfifo_head_drop.
    pub head_drop: bool,
    /// Queue length in bytes at which ECN-capable packets are marked CE (RFC 3168 §5); 0: never.
    pub ecn_threshold: u64,
    /// Probability that a packet is lost.
    pub loss: f64,
    /// Probability that a packet is delayed by `reorder_by` while later ones pass it.
    pub reorder: f64,
    /// Extra delay of a reordered packet.
    pub reorder_by: Duration,
    /// Probability that a packet arrives twice.
    pub duplicate: f64,
    /// Probability that a packet arrives with one bit flipped, at any position.
    pub corrupt: f64,
}

impl Default for Direction {
    /// A perfect wire: no delay, no limit.
    fn default() -> Direction {
        Direction {
            rate: 0,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            queue_bytes: 0,
            queue_packets: 0,
            head_drop: false,
            ecn_threshold: 0,
            loss: 0.0,
            reorder: 0.0,
            reorder_by: Duration::from_millis(2),
            duplicate: 0.0,
            corrupt: 0.0,
        }
    }
}

/// For each field, a method that returns the value with this field changed.
macro_rules! setters {
    ($(#[$doc:meta] $field:ident: $ty:ty,)*) => {$(
        #[$doc]
        #[must_use]
        pub const fn $field(mut self, $field: $ty) -> Self {
            self.$field = $field;
            self
        }
    )*};
}

impl Direction {
    setters! {
        /// Sets the rate, bits a second; 0: no limit.
        rate: u64,
        /// Sets the propagation delay.
        delay: Duration,
        /// Sets the greatest jitter.
        jitter: Duration,
        /// Sets the size of the queue, bytes; 0: no limit.
        queue_bytes: u64,
        /// Sets the size of the queue, packets; 0: no limit.
        queue_packets: usize,
        /// Sets whether a full queue loses its oldest packet.
        head_drop: bool,
        /// Sets the queue length in bytes at which packets are marked CE; 0: never.
        ecn_threshold: u64,
        /// Sets the probability of loss.
        loss: f64,
        /// Sets the probability of a delay by `reorder_by`.
        reorder: f64,
        /// Sets the extra delay of a reordered packet.
        reorder_by: Duration,
        /// Sets the probability that a packet arrives twice.
        duplicate: f64,
        /// Sets the probability of one flipped bit.
        corrupt: f64,
    }

    /// Whether a queue of `packets` packets and `queued` bytes has no room for `bytes` more.
    fn is_full(&self, packets: usize, queued: u64, bytes: u64) -> bool {
        self.queue_packets > 0 && packets >= self.queue_packets
            || self.queue_bytes > 0 && queued + bytes > self.queue_bytes && packets > 0
    }

    fn valid(&self) -> bool {
        [self.loss, self.reorder, self.duplicate, self.corrupt].iter().all(|p| (0.0..=1.0).contains(p))
    }
}

/// A link's configuration. Start from a perfect link and set what differs: `LinkConfig::both(direction).mtu(9000)`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LinkConfig {
    /// From the first end to the second.
    pub forth: Direction,
    /// From the second end to the first.
    pub back: Direction,
    /// Ethernet frames, with ARP and NDP, instead of IP datagrams.
    pub ethernet: bool,
    /// Largest IP datagram in bytes.
    pub mtu: u32,
    /// The ends pass super-packets and partial checksums unchanged, by pointer: fast, but not what a real wire carries.
    /// Not together with corruption, which no checksum would detect.
    pub offload: bool,
    /// The queue is the sender's own transmit ring: a sock stays charged for its bytes until they are on the wire, and
    /// a full queue returns packets instead of losing them. Otherwise the queue is in a router, which the sender does
    /// not see.
    pub own_queue: bool,
}

impl Default for LinkConfig {
    /// A perfect wire for IP datagrams of up to 1500 bytes.
    fn default() -> LinkConfig {
        LinkConfig {
            forth: Direction::default(),
            back: Direction::default(),
            ethernet: false,
            mtu: 1500,
            offload: false,
            own_queue: false,
        }
    }
}

impl LinkConfig {
    /// The same settings for both directions.
    pub fn both(direction: Direction) -> LinkConfig {
        LinkConfig { forth: direction, back: direction, ..LinkConfig::default() }
    }

    setters! {
        /// Sets the direction from the first end to the second.
        forth: Direction,
        /// Sets the direction from the second end to the first.
        back: Direction,
        /// Sets whether the link carries Ethernet frames, with ARP and NDP.
        ethernet: bool,
        /// Sets the largest IP datagram, bytes.
        mtu: u32,
        /// Sets whether super-packets and partial checksums pass unchanged.
        offload: bool,
        /// Sets whether the queue is the sender's own transmit ring.
        own_queue: bool,
    }
}

/// Creates the two ends of a link, named `names`. EINVAL: a probability outside 0..=1, an MTU outside 68..=65535, or
/// corruption together with `offload`.
pub fn pair(names: [&str; 2], config: &LinkConfig, seed: u64) -> Result<(Arc<LinkEnd>, Arc<LinkEnd>)> {
    let corrupts = config.forth.corrupt > 0.0 || config.back.corrupt > 0.0;
    let valid = config.forth.valid() && config.back.valid() && (68..=65_535).contains(&config.mtu);
    if !valid || (corrupts && config.offload) {
        return Err(Error::Inval);
    }
    let wire = |direction: Direction, salt: u64| {
        let l2 = if config.ethernet { HEADER_LEN } else { 0 };
        Arc::new(Wire::new(direction, seed.wrapping_add(salt), [config.own_queue, config.offload], l2))
    };
    let (forth, back) = (wire(config.forth, 0x0f0f), wire(config.back, 0xbac0));
    let macs = SeededEntropy::new(seed.wrapping_add(0x3ac));
    let end = |name: &str, out: &Arc<Wire>, into: &Arc<Wire>| {
        let [_, _, a, b, c, d, e, f] = macs.next_u64().to_be_bytes();
        let link =
            if config.ethernet { LinkType::Ethernet(MacAddr([a & !1 | 2, b, c, d, e, f])) } else { LinkType::Ip };
        let caps = Caps {
            link,
            tx_csum: config.offload,
            tso: config.offload,
            every_cwr: config.offload,
            uso: config.offload,
            gso_software: config.offload,
            ..Caps::ip(config.mtu)
        };
        let (out, into) = (out.clone(), into.clone());
        Arc::new(LinkEnd { name: name.to_owned(), caps, out, into })
    };
    Ok((end(names[0], &forth, &back), end(names[1], &back, &forth)))
}

/// Statistics of one direction of a link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fate {
    /// Packets handed to the link.
    pub sent: u64,
    /// Bytes in those packets.
    pub bytes: u64,
    /// Packets lost by chance.
    pub lost: u64,
    /// Packets lost because the queue was full.
    pub overflowed: u64,
    /// Packets marked CE.
    pub marked: u64,
    /// Packets delayed so that others passed them.
    pub reordered: u64,
    /// Packets duplicated.
    pub duplicated: u64,
    /// Packets corrupted.
    pub corrupted: u64,
    /// Packets that arrived.
    pub received: u64,
    /// Bytes in those packets.
    pub received_bytes: u64,
}

impl Fate {
    /// Counts a packet that the queue lost, in place of what it was going to be on the way.
    fn overflow(&mut self, planned: Option<&Planned>) {
        self.overflowed += 1;
        match planned {
            None => self.lost -= 1,
            Some(p) => {
                self.reordered -= u64::from(p.late.is_some());
                self.duplicated -= u64::from(p.twice);
                self.corrupted -= u64::from(p.corrupted);
            }
        }
    }
}

impl std::ops::Add for Fate {
    type Output = Fate;

    /// The sum of both statistics.
    fn add(self, o: Fate) -> Fate {
        Fate {
            sent: self.sent + o.sent,
            bytes: self.bytes + o.bytes,
            lost: self.lost + o.lost,
            overflowed: self.overflowed + o.overflowed,
            marked: self.marked + o.marked,
            reordered: self.reordered + o.reordered,
            duplicated: self.duplicated + o.duplicated,
            corrupted: self.corrupted + o.corrupted,
            received: self.received + o.received,
            received_bytes: self.received_bytes + o.received_bytes,
        }
    }
}

/// One end of a link: a device.
#[derive(Debug)]
pub struct LinkEnd {
    name: String,
    caps: Caps,
    out: Arc<Wire>,
    into: Arc<Wire>,
}

impl LinkEnd {
    /// Statistics of the packets sent from this end.
    pub fn fate(&self) -> Fate {
        self.out.state.lock().fate
    }

    /// Changes what the link does to the packets sent from this end from now on; those on their way arrive as before,
    /// and at another rate the queue's packets leave when they would have left. EINVAL: a probability outside 0..=1, or
    /// corruption on a link with `offload`.
    pub fn set_direction(&self, direction: Direction) -> Result<()> {
        if !direction.valid() || (self.out.offload && direction.corrupt > 0.0) {
            return Err(Error::Inval);
        }
        self.out.state.lock().direction = direction;
        Ok(())
    }

    /// Bytes in the queue towards the other end at `now`.
    pub fn queued_bytes(&self, now: Instant) -> u64 {
        let s = self.out.state.lock();
        s.queue.iter().filter(|q| q.departs > now).map(|q| q.bytes).sum()
    }
}

impl Device for LinkEnd {
    fn name(&self) -> &str {
        &self.name
    }

    fn caps(&self) -> Caps {
        self.caps
    }

    fn recv(&self, _: u16, now: Instant, budget: usize, sink: &mut dyn FnMut(Skb)) -> io::Result<usize> {
        // Transmit completions of this end's own queue are handled with its receive interrupt, as on many network
        // cards.
        let mut done = Owners::new();
        let departed = self.out.depart(&mut self.out.state.lock(), now, &mut done);
        let completed = if self.out.own_queue { departed.min(1) } else { 0 };
        drop(done);
        let mut got = 0;
        while got < budget {
            let next = {
                let mut s = self.into.state.lock();
                self.into.launch(&mut s, now);
                match s.flights.peek() {
                    Some(Reverse(f)) if f.at <= now => s.flights.pop().map(|Reverse(f)| {
                        s.fate.received += 1;
                        s.fate.received_bytes += f.skb.len() as u64;
                        f.skb
                    }),
                    _ => None,
                }
            };
            let Some(mut skb) = next else { break };
            got += 1;
            skb.tstamp = now;
            skb.ifindex = 0;
            skb.link_multicast = self.out.l2 > 0 && skb.linear().first().is_some_and(|b| b & 1 != 0);
            if let Some(l3) = skb.linear().get(self.out.l2).and_then(|&b| gso::l3_of(b)) {
                skb.l3 = l3;
            }
            sink(skb);
        }
        Ok(got.max(completed))
    }

    fn xmit(&self, _: u16, now: Instant, skb: Skb) -> Xmit {
        let l2 = self.out.l2;
        let most = self.caps.mtu as usize + l2;
        // All offloads, or none.
        let whole = skb.gso_size == 0 || self.caps.tso;
        if whole && skb.csum == Csum::None || self.caps.tx_csum {
            if skb.gso_size == 0 && skb.len() > most {
                return Xmit::Dropped(io::Error::from_raw_os_error(libc::EMSGSIZE));
            }
            return self.out.send(now, skb, false);
        }
        // Packets on a wire have complete checksums; otherwise corruption could go undetected.
        let mut sent = Xmit::Sent;
        for (i, seg) in gso::segment_at(skb, &self.caps, l2).enumerate() {
            if seg.len() > most {
                return Xmit::Dropped(io::Error::from_raw_os_error(libc::EMSGSIZE));
            }
            match self.out.send(now, seg, i > 0) {
                Xmit::Sent => {}
                Xmit::Congested => sent = Xmit::Congested,
                back => return back,
            }
        }
        sent
    }

    fn next_event(&self, _: u16) -> Option<Instant> {
        let arrival = self.into.state.lock().next_arrival();
        let completion = if self.out.own_queue { self.out.state.lock().queue.front().map(|q| q.departs) } else { None };
        [arrival, completion].into_iter().flatten().min()
    }

    fn stats(&self) -> DevStats {
        let (out, into) = (self.out.state.lock().fate, self.into.state.lock().fate);
        DevStats {
            rx_packets: into.received,
            rx_bytes: into.received_bytes,
            rx_dropped: 0,
            tx_packets: out.sent,
            tx_bytes: out.bytes,
            tx_dropped: out.overflowed,
        }
    }
}
