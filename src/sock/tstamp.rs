//! Transmit timestamps (SO_TIMESTAMPING): when a packet entered a device's queue, when the device took it, when TCP's
//! peer acknowledged it. A packet of which that is asked carries a [`TxStamp`]; each report goes to the error queue.
//! Above: `sendmsg` of the protocols, `device::netdev` and TCP's `ack`, which report. Below: `errqueue`. Linux:
//! sock_set_timestamping, __sock_cmsg_send, __skb_tstamp_tx, __skb_complete_tx_timestamp.

use super::exterr::{ErrEntry, IpPacket, SockExtendedErr, origin};
use super::proto::SockRef;
use super::skb::{L3, SkbInner};
use super::{Sock, flag};
use crate::base::env::Instant;
use crate::base::error::{Error, Result};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

/// SOF_TIMESTAMPING_*: bits of `Sock::tsflags`.
pub(crate) mod sof {
    #![allow(missing_docs)]
    pub(crate) const TX_HARDWARE: u32 = 1 << 0;
    pub(crate) const TX_SOFTWARE: u32 = 1 << 1;
    pub(crate) const RX_SOFTWARE: u32 = 1 << 3;
    pub(crate) const SOFTWARE: u32 = 1 << 4;
    pub(crate) const OPT_ID: u32 = 1 << 7;
    pub(crate) const TX_SCHED: u32 = 1 << 8;
    pub(crate) const TX_ACK: u32 = 1 << 9;
    pub(crate) const OPT_CMSG: u32 = 1 << 10;
    pub(crate) const OPT_TSONLY: u32 = 1 << 11;
    pub(crate) const OPT_STATS: u32 = 1 << 12;
    pub(crate) const BIND_PHC: u32 = 1 << 15;
    pub(crate) const OPT_ID_TCP: u32 = 1 << 16;
    pub(crate) const OPT_RX_FILTER: u32 = 1 << 17;
    pub(crate) const TX_COMPLETION: u32 = 1 << 18;
    pub(crate) const MASK: u32 = (1 << 19) - 1;
    /// What a control message may change for one call.
    pub(crate) const TX_RECORD_MASK: u32 = TX_HARDWARE | TX_SOFTWARE | TX_SCHED | TX_ACK | TX_COMPLETION;
}

/// SO_TIMESTAMPING_OLD and _NEW, which are also the types of their control messages; SCM_TS_OPT_ID.
pub(crate) const TIMESTAMPING_OLD: i32 = 37;
pub(crate) const TIMESTAMPING_NEW: i32 = 65;
const SCM_TS_OPT_ID: i32 = 81;

/// The event that is reported: SCM_TSTAMP_*, as in ee_info.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Point {
    /// The device took the packet.
    Snd = 0,
    /// The packet entered the device's queue.
    Sched = 1,
    /// The peer acknowledged the byte.
    Ack = 2,
}

/// What one call asks of timestamps: the socket's option, changed by control messages (struct sockcm_cookie).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cookie {
    /// Bits of [`sof`].
    pub(crate) tsflags: u32,
    /// SCM_TS_OPT_ID.
    ts_opt_id: Option<u32>,
}

impl Cookie {
    /// That of a call without control messages.
    pub(crate) fn of(sock: &Sock) -> Cookie {
        Cookie { tsflags: sock.tsflags(), ts_opt_id: None }
    }

    /// Reads a control message of SOL_SOCKET. False: it is not about timestamps. EINVAL: a length or a value that
    /// cannot be; SCM_TS_OPT_ID without SOF_TIMESTAMPING_OPT_ID, or of a stream, whose ids count bytes.
    pub(crate) fn read(&mut self, sock: &Sock, ty: i32, data: &[u8]) -> Result<bool> {
        let word = || data.try_into().map(u32::from_ne_bytes).map_err(|_| Error::Inval);
        match ty {
            TIMESTAMPING_OLD | TIMESTAMPING_NEW => {
                let flags = word()?;
                if flags & !sof::TX_RECORD_MASK != 0 {
                    return Err(Error::Inval);
                }
                self.tsflags = self.tsflags & !sof::TX_RECORD_MASK | flags;
            }
            SCM_TS_OPT_ID => {
                if sock.proto().is_stream() || self.tsflags & sof::OPT_ID == 0 {
                    return Err(Error::Inval);
                }
                self.ts_opt_id = Some(word()?);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What a datagram of the call carries, if anything; it uses up an id of the socket's.
    pub(crate) fn stamp(&self, sock: &Arc<Sock>) -> Option<TxStamp> {
        if self.tsflags & (sof::TX_SCHED | sof::TX_SOFTWARE) == 0 {
            return None;
        }
        let key = match (self.ts_opt_id, sock.tsflags() & sof::OPT_ID) {
            (_, 0) => 0,
            (Some(id), _) => id,
            (None, _) => sock.unowned().tskey.fetch_add(1, Ordering::Relaxed),
        };
        TxStamp::new(sock, self.tsflags, key)
    }
}

/// Carried by a packet whose events are reported.
#[derive(Debug, Clone)]
pub(crate) struct TxStamp(Arc<Wanted>);

#[derive(Debug, Clone)]
struct Wanted {
    /// Not a reference that keeps it alive: the sock's own queues hold the packets.
    sock: Weak<Sock>,
    /// Bits of [`sof::TX_RECORD_MASK`].
    flags: u32,
    /// Of a datagram its id; of TCP the sequence number of the byte that is reported (tskey).
    key: u32,
    /// TCP's measurements, where the socket wants them (SOF_TIMESTAMPING_OPT_STATS).
    stats: Option<Box<[u8]>>,
}

impl TxStamp {
    /// None: `flags` ask for no report.
    pub(crate) fn new(sock: &Arc<Sock>, flags: u32, key: u32) -> Option<TxStamp> {
        let flags = flags & sof::TX_RECORD_MASK;
        (flags != 0).then(|| TxStamp(Arc::new(Wanted { sock: Arc::downgrade(sock), flags, key, stats: None })))
    }

    /// The id of the datagram, or the sequence number of the byte.
    pub(crate) fn key(&self) -> u32 {
        self.0.key
    }

    /// Whether an event is reported.
    pub(crate) fn wants(&self, point: Point) -> bool {
        let bit = match point {
            Point::Snd => sof::TX_SOFTWARE,
            Point::Sched => sof::TX_SCHED,
            Point::Ack => sof::TX_ACK,
        };
        self.0.flags & bit != 0
    }

    /// As `self`, for a packet that shows TCP's measurements of now.
    pub(crate) fn with_stats(&self, stats: Vec<u8>) -> TxStamp {
        TxStamp(Arc::new(Wanted { stats: Some(stats.into()), ..(*self.0).clone() }))
    }

    /// Of a packet that two were joined to: the later byte is the one that is reported, with all events of both
    /// (tcp_skb_collapse_tstamp).
    pub(crate) fn joined(first: Option<TxStamp>, next: Option<TxStamp>) -> Option<TxStamp> {
        match (first, next) {
            (Some(first), Some(next)) => {
                let flags = first.0.flags | next.0.flags;
                Some(TxStamp(Arc::new(Wanted { flags, ..(*next.0).clone() })))
            }
            (first, next) => next.or(first),
        }
    }

    /// A report of `point` for a packet as the device gets it: `link` bytes of link header, or where a loopback has
    /// none, the header that Linux's has. None: it is not asked for.
    pub(crate) fn of_packet(&self, point: Point, skb: &SkbInner, ifindex: u32, link: Link) -> Option<Report> {
        if !self.wants(point) {
            return None;
        }
        let bytes = || match link {
            Link::Header(_) => skb.to_vec(),
            Link::Loopback => {
                let ethertype: [u8; 2] = if skb.l3 == L3::V4 { [0x08, 0] } else { [0x86, 0xdd] };
                [&[0; 12][..], &ethertype, &skb.to_vec()].concat()
            }
        };
        let skip = if let Link::Header(n) = link { n } else { 0 };
        let packet = || ip_packet(skb.l3, skb.linear().get(skip..)?, ifindex);
        self.report(point, bytes, packet, || self.0.stats.as_deref().unwrap_or_default().to_vec())
    }

    /// A report of `point`. `bytes`: the packet, shown to the program unless it wants the time alone; `stats`: shown
    /// instead where it wants that. None: the program has closed the socket, or may not see packets
    /// (net.core.tstamp_allow_data).
    pub(crate) fn report(
        &self,
        point: Point,
        bytes: impl FnOnce() -> Vec<u8>,
        packet: impl FnOnce() -> Option<(IpPacket, IpAddr)>,
        stats: impl FnOnce() -> Vec<u8>,
    ) -> Option<Report> {
        let sock = self.0.sock.upgrade()?;
        let stack = sock.stack().upgrade()?;
        let (tsflags, stream) = (sock.tsflags(), sock.proto().is_stream());
        let only = tsflags & sof::OPT_TSONLY != 0;
        if !only && !stack.sysctl.tstamp_allow_data() {
            return None;
        }
        let opt_stats = only && stream && tsflags & sof::OPT_STATS != 0;
        let payload = match (only, opt_stats) {
            (false, _) => bytes(),
            (true, true) => stats(),
            (true, false) => Vec::new(),
        };
        let (packet, offender) = if only { None } else { packet() }.unzip();
        let base = if stream { sock.unowned().tskey.load(Ordering::Relaxed) } else { 0 };
        let err = SockExtendedErr {
            errno: Error::NoMsg.errno() as u32,
            origin: origin::TIMESTAMPING,
            ty: 0,
            code: 0,
            info: point as u32,
            data: if tsflags & sof::OPT_ID != 0 { self.0.key.wrapping_sub(base) } else { 0 },
            offender,
        };
        let entry = ErrEntry { addr: None, err, payload, packet, came: None, opt_stats };
        Some(Report { sock, entry })
    }
}

/// What stands in front of the network header of a packet that a device gets.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Link {
    /// So many bytes.
    Header(usize),
    /// Nothing; on Linux's loopback an Ethernet header of zeroes.
    Loopback,
}

/// An event that is about to be reported.
#[derive(Debug)]
pub(crate) struct Report {
    sock: Arc<Sock>,
    entry: ErrEntry,
}

impl Report {
    /// The event has happened now.
    pub(crate) fn queue(mut self, now: Instant) {
        self.entry.came = Some(now);
        self.sock.queue_error(self.entry);
    }
}

/// What the IP header of a packet says, and its source. None: it is cut.
fn ip_packet(l3: L3, h: &[u8], ifindex: u32) -> Option<(IpPacket, IpAddr)> {
    let (src, dst, ttl, tos, flow_label): (IpAddr, IpAddr, u8, u8, u32) = match l3 {
        L3::V4 => {
            let h = h.first_chunk::<20>()?;
            let [.., a, b, c, d, e, f, g, i] = *h;
            (Ipv4Addr::new(a, b, c, d).into(), Ipv4Addr::new(e, f, g, i).into(), h[8], h[1], 0)
        }
        L3::V6 => {
            let (src, dst) = (h.get(8..)?.first_chunk::<16>()?, h.get(24..)?.first_chunk::<16>()?);
            let label = u32::from_be_bytes(*h.first_chunk::<4>()?) & 0xf_ffff;
            (Ipv6Addr::from(*src).into(), Ipv6Addr::from(*dst).into(), h[7], h[0] << 4 | h[1] >> 4, label)
        }
    };
    let spec_dst = if let IpAddr::V4(a) = src { a } else { Ipv4Addr::UNSPECIFIED };
    Some((IpPacket { dst, spec_dst, ifindex, ttl, tos, flow_label }, src))
}

/// SO_TIMESTAMPING: the flags. EINVAL: a bit that is unknown or needs another one, or
/// ids in a state in which there is nothing to count from. EOPNOTSUPP: no device here has a clock of its own.
pub(crate) fn set(sk: SockRef<'_>, flags: u32, new: bool) -> Result<()> {
    let mut g = sk.lock();
    let has = |bit: u32| flags & bit != 0;
    if has(!sof::MASK) || has(sof::OPT_ID_TCP) && !has(sof::OPT_ID) {
        return Err(Error::Inval);
    }
    if has(sof::OPT_ID) && sk.sock.tsflags() & sof::OPT_ID == 0 {
        let key = sk.sock.proto().tskey(&mut g, has(sof::OPT_ID_TCP))?;
        sk.sock.unowned().tskey.store(key, Ordering::Relaxed);
    }
    if has(sof::OPT_STATS) && !has(sof::OPT_TSONLY) {
        return Err(Error::Inval);
    }
    if has(sof::BIND_PHC) {
        return Err(Error::OpNotSupp);
    }
    sk.sock.set_tsflags(flags);
    g.common.tstamp_new = new;
    if has(sof::RX_SOFTWARE) {
        sk.stack.netstamp_needed.store(true, Ordering::Relaxed);
    }
    Ok(())
}

/// Control data with the time at which a packet came, or an event of the error queue happened, as the socket's options
/// ask for it (__sock_recv_timestamp). `event`: of the error queue.
pub(crate) fn received(sk: &super::SockGuard<'_>, came: Instant, event: bool, control: &mut Vec<super::msg::Control>) {
    use super::msg::Control;
    let c = &sk.common;
    let tsflags = sk.sock.tsflags();
    let (micros, nanos) = (c.flag(flag::TIMESTAMP), c.flag(flag::TIMESTAMPNS));
    // An older socket that asks for RX_SOFTWARE serves the others, unless they opt out.
    let stamped = tsflags & sof::RX_SOFTWARE != 0
        || tsflags & sof::OPT_RX_FILTER == 0 && sk.stack.netstamp_needed.load(Ordering::Relaxed);
    let timestamping = tsflags & sof::SOFTWARE != 0 && (event || stamped);
    if !(micros || nanos || timestamping) {
        return;
    }
    // The stack's clock and the wall clock run at the same rate, so the difference of one applies to the other.
    let at = sk.stack.clock.wall().saturating_sub(sk.stack.now() - came);
    match (nanos, micros, c.tstamp_new) {
        (true, _, false) => control.push(Control::TimestampNs(at)),
        (true, _, true) => control.push(Control::TimestampNsNew(at)),
        (false, true, false) => control.push(Control::Timestamp(at)),
        (false, true, true) => control.push(Control::TimestampNew(at)),
        (false, false, _) => {}
    }
    if timestamping {
        control.push(if c.tstamp_new { Control::TimestampingNew(at) } else { Control::Timestamping(at) });
    }
}
