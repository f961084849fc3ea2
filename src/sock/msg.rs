//! What a send or receive call carries: the program's memory, name, control data and flags. Above: `ffi` and the Rust
//! API, which build it. Below: `sendmsg` and `recvmsg` of the protocols. Linux: struct msghdr with its iov_iter.

pub use super::exterr::SockExtendedErr;
use super::pages::{Pages, Runs};
use crate::base::error::{Error, Result};
use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// MSG_PROBE: a datagram's way is found, and nothing is sent.
pub const MSG_PROBE: i32 = 0x10;

/// A destination (msg_name) that is no whole address of IPv4 or IPv6. Which of these a protocol takes, and what it
/// answers to the others, is its own affair: a stream does not look at a name at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OddName {
    /// The family it says it is of; AF_UNSPEC where it is too short to say.
    pub family: u16,
    /// Its length, bytes.
    pub len: usize,
    /// Its bytes read as an address of AF_INET; of no meaning where it is too short for one.
    pub inet: SocketAddrV4,
    /// The same of AF_INET6.
    pub inet6: SocketAddrV6,
}

/// Returns how many bytes at an address are accessible, at most `len`. Like the kernel, the stack checks the program's
/// memory when it copies, not before.
pub type Probe = fn(at: usize, len: usize) -> usize;

fn all_good(_at: usize, len: usize) -> usize {
    len
}

/// A message to send: consumed from the front as bytes are taken.
pub struct SendMsg<'a> {
    slices: &'a [IoSlice<'a>],
    /// The pages that the slices are in, where a packet can share them.
    pub(super) runs: Option<Runs<'a>>,
    pub(super) index: usize,
    pub(super) offset: usize,
    remaining: usize,
    probe: Probe,
    faulted: bool,
    /// Destination (msg_name), if given.
    pub name: Option<SocketAddr>,
    /// The same where it is no address; `name` is None then.
    pub odd_name: Option<OddName>,
    /// MSG_* bits.
    pub flags: i32,
    /// Parsed ancillary data.
    pub control: Vec<Control>,
}

/// A place in a [`SendMsg`].
#[derive(Debug, Clone, Copy)]
pub struct SendMark {
    index: usize,
    offset: usize,
    remaining: usize,
}

/// Ancillary data, decoded; the C ABI translates.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Control {
    /// IP_PKTINFO, IPV6_PKTINFO: interface index, source or destination address.
    PktInfo {
        /// Interface index, 0 for any.
        ifindex: u32,
        /// Received: destination address of the packet. To send: source address, unspecified for any.
        addr: IpAddr,
        /// Received over IPv4: ipi_spec_dst, the address of this host that an answer comes from. To send: not used.
        spec_dst: Option<Ipv4Addr>,
    },
    /// IP_TTL.
    Ttl(i32),
    /// IP_TOS.
    Tos(i32),
    /// IPV6_HOPLIMIT.
    HopLimit(i32),
    /// IPV6_TCLASS.
    Tclass(i32),
    /// IPV6_DONTFRAG.
    DontFrag(bool),
    /// SO_TIMESTAMP: time of arrival since the UNIX epoch, to be shown in microseconds.
    Timestamp(std::time::Duration),
    /// SO_TIMESTAMPNS: the same in nanoseconds.
    TimestampNs(std::time::Duration),
    /// SO_TIMESTAMP_NEW, SO_TIMESTAMPNS_NEW: the same, under other numbers.
    TimestampNew(std::time::Duration),
    /// See `TimestampNew`.
    TimestampNsNew(std::time::Duration),
    /// SO_TIMESTAMPING: of a packet that came, or of an event that the error queue reports.
    Timestamping(std::time::Duration),
    /// SO_TIMESTAMPING_NEW.
    TimestampingNew(std::time::Duration),
    /// TCP_CM_INQ (TCP_INQ): bytes left in the receive queue.
    Inq(i32),
    /// SO_RXQ_OVFL: packets dropped so far.
    RxqOvfl(u32),
    /// UDP_SEGMENT: bytes a datagram.
    UdpSegment(u16),
    /// UDP_GRO: bytes a datagram in the received super-packet.
    UdpGro(i32),
    /// SO_MARK; received: SO_RCVMARK.
    Mark(u32),
    /// SO_PRIORITY; received: SO_RCVPRIORITY.
    Priority(u32),
    /// SCM_TXTIME: departure time by CLOCK_MONOTONIC, nanoseconds.
    TxTime(u64),
    /// IP_RECVERR, IPV6_RECVERR: a queued error.
    RecvErr(SockExtendedErr),
    /// To send: a header whose length cannot be. What stands before it is good.
    Malformed,
    /// Bytes of a level and type that only the protocol knows, or of one known here whose length or value is wrong.
    Other {
        /// cmsg_level.
        level: i32,
        /// cmsg_type.
        ty: i32,
        /// Payload.
        data: Vec<u8>,
    },
}

impl<'a> SendMsg<'a> {
    /// A message of these slices, with no name and no control data.
    pub fn new(slices: &'a [IoSlice<'a>], flags: i32) -> SendMsg<'a> {
        let remaining = slices.iter().map(|s| s.len()).fold(0usize, usize::saturating_add);
        let (probe, control) = (all_good as Probe, Vec::new());
        let (name, odd_name, runs) = (None, None, None);
        SendMsg { slices, runs, index: 0, offset: 0, remaining, probe, faulted: false, name, odd_name, flags, control }
    }

    /// A message of slices that are in pages, each at its place in `runs`.
    pub(crate) fn in_pages(slices: &'a [IoSlice<'a>], runs: Runs<'a>, flags: i32) -> SendMsg<'a> {
        SendMsg { runs: Some(runs), ..SendMsg::new(slices, flags) }
    }

    /// Has `probe` check all memory before it is read: for slices made of addresses that another process gave.
    #[must_use]
    pub fn probed(mut self, probe: Probe) -> SendMsg<'a> {
        self.probe = probe;
        self
    }

    /// EFAULT where a byte that is left to take cannot be read: for protocols that take a message whole.
    #[inline]
    pub fn readable(&self) -> Result<()> {
        self.begins(self.remaining)
    }

    /// As [`SendMsg::readable`], of the next `n` bytes alone.
    pub fn begins(&self, n: usize) -> Result<()> {
        let (mut left, mut offset) = (n.min(self.remaining), self.offset);
        for s in self.slices.iter().skip(self.index) {
            let len = (s.len() - offset).min(left);
            if len > 0 && (self.probe)(s.as_ptr() as usize + offset, len) < len {
                return Err(Error::Fault);
            }
            left -= len;
            offset = 0;
            if left == 0 {
                break;
            }
        }
        Ok(())
    }

    /// The next byte cannot be read: EFAULT where nothing was taken.
    #[inline]
    pub fn faulted(&self) -> bool {
        self.faulted
    }

    /// Bytes not yet taken.
    #[inline]
    pub fn remaining(&self) -> usize {
        self.remaining
    }

    /// The next contiguous bytes, at most `max`; empty when all are taken or the next byte faults. Does not consume
    /// them.
    #[inline]
    pub fn chunk(&mut self, max: usize) -> &'a [u8] {
        while let Some(s) = self.slices.get(self.index) {
            if self.offset < s.len() {
                let s: &'a [u8] = s;
                let end = s.len().min(self.offset.saturating_add(max));
                let s = &s[self.offset..end];
                let good = (self.probe)(s.as_ptr() as usize, s.len());
                self.faulted = good == 0;
                return &s[..good];
            }
            self.index += 1;
            self.offset = 0;
        }
        &[]
    }

    /// Consumes `n` bytes of the current chunk.
    #[inline]
    pub fn advance(&mut self, n: usize) {
        let n = n.min(self.remaining);
        self.offset += n;
        self.remaining -= n;
    }

    /// How much has been taken, for [`SendMsg::revert`].
    pub fn mark(&self) -> SendMark {
        SendMark { index: self.index, offset: self.offset, remaining: self.remaining }
    }

    /// Gives back what has been taken since `mark` (iov_iter_revert).
    pub fn revert(&mut self, mark: SendMark) {
        (self.index, self.offset, self.remaining) = (mark.index, mark.offset, mark.remaining);
    }

    /// Copies up to `to.len()` bytes and consumes them; returns how many. Fewer than remain: see `faulted`.
    pub fn copy_to(&mut self, to: &mut [u8]) -> usize {
        let mut done = 0;
        while done < to.len() {
            let c = self.chunk(to.len() - done);
            if c.is_empty() {
                break;
            }
            to[done..done + c.len()].copy_from_slice(c);
            done += c.len();
            self.advance(c.len());
        }
        done
    }

    /// Whether MSG_DONTWAIT is set.
    pub fn dontwait(&self) -> bool {
        self.flags & libc::MSG_DONTWAIT != 0
    }
}

/// A receive call: filled from the front.
pub struct RecvMsg<'a, 'b> {
    slices: &'a mut [IoSliceMut<'b>],
    /// Takes the bytes instead of the slices.
    pub(super) pages: Option<&'a mut Pages>,
    index: usize,
    offset: usize,
    pub(super) remaining: usize,
    capacity: usize,
    probe: Probe,
    faulted: bool,
    /// MSG_* bits of the call.
    pub flags: i32,
    /// As splice(2) reads: stop before TCP's urgent byte, even with nothing read, where a receive would skip it; and
    /// begin in front, whatever SO_PEEK_OFF is.
    pub before_urgent: bool,
    /// Source address, for msg_name.
    pub name: Option<SocketAddr>,
    /// Ancillary data for the program.
    pub control: Vec<Control>,
    /// MSG_* bits to return in msg_flags (MSG_TRUNC, MSG_OOB, MSG_ERRQUEUE ...).
    pub out_flags: i32,
}

impl<'a, 'b> RecvMsg<'a, 'b> {
    /// A receive into these slices.
    pub fn new(slices: &'a mut [IoSliceMut<'b>], flags: i32) -> RecvMsg<'a, 'b> {
        let remaining = slices.iter().map(|s| s.len()).fold(0usize, usize::saturating_add);
        RecvMsg {
            slices,
            pages: None,
            index: 0,
            offset: 0,
            remaining,
            capacity: remaining,
            probe: all_good,
            faulted: false,
            flags,
            before_urgent: false,
            name: None,
            control: Vec::new(),
            out_flags: 0,
        }
    }

    /// A receive of at most `len` bytes into pages.
    pub(crate) fn into_pages(pages: &'a mut Pages, len: usize, flags: i32) -> RecvMsg<'a, 'b> {
        RecvMsg { pages: Some(pages), remaining: len, capacity: len, ..RecvMsg::new(&mut [], flags) }
    }

    /// Has `probe` check all memory before it is written: for slices made of addresses that another process gave.
    #[must_use]
    pub fn probed(mut self, probe: Probe) -> RecvMsg<'a, 'b> {
        self.probe = probe;
        self
    }

    /// A byte could not be written. The call fails with EFAULT if nothing was copied before.
    #[inline]
    pub fn faulted(&self) -> bool {
        self.faulted
    }

    /// Bytes of room left.
    #[inline]
    pub fn remaining(&self) -> usize {
        self.remaining
    }

    /// Total bytes of room, filled or not.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Copies as much of `data` as there is room for; returns how much. If that is less than both: see `faulted`.
    #[inline]
    pub fn put(&mut self, data: &[u8]) -> usize {
        let n = data.len();
        let room = if self.pages.is_some() { None } else { self.slices.get_mut(self.index) };
        if let Some(room) = room.and_then(|s| s.get_mut(self.offset..)?.get_mut(..n))
            && (self.probe)(room.as_ptr() as usize, n) == n
        {
            // As mostly, there is room for all of it in one buffer.
            room.copy_from_slice(data);
            self.offset += n;
            self.remaining -= n;
            return n;
        }
        self.put_apart(data)
    }

    fn put_apart(&mut self, data: &[u8]) -> usize {
        if let Some(pages) = &mut self.pages {
            let n = data.len().min(self.remaining);
            pages.put(&data[..n]);
            self.remaining -= n;
            return n;
        }
        let mut done = 0;
        while done < data.len() {
            let Some(s) = self.slices.get_mut(self.index) else { break };
            if self.offset == s.len() {
                self.index += 1;
                self.offset = 0;
                continue;
            }
            let n = (s.len() - self.offset).min(data.len() - done);
            let good = (self.probe)(s.as_ptr() as usize + self.offset, n);
            s[self.offset..self.offset + good].copy_from_slice(&data[done..done + good]);
            self.offset += good;
            done += good;
            if good < n {
                self.faulted = true;
                break;
            }
        }
        self.remaining -= done;
        done
    }

    /// Whether MSG_DONTWAIT is set.
    pub fn dontwait(&self) -> bool {
        self.flags & libc::MSG_DONTWAIT != 0
    }
}
