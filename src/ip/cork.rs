//! Memory of a datagram that a socket puts together, in one call or in several (MSG_MORE): it counts as sent data of
//! the socket while it waits, and a small send buffer refuses the rest of a long one. What is counted is what the
//! kernel would take, a packet a fragment. Above: UDP, raw, ping. Linux: __ip_append_data, __ip6_append_data, struct
//! inet_cork.

use super::plan::Plan;
use crate::base::error::{Error, Result};
use crate::counters::Mib;
use crate::sock::{Sock, SockGuard};
use crate::wire::{ip, ipv6};
use std::sync::atomic::Ordering;

/// struct sk_buff.
const SK_BUFF: usize = 256;
/// struct skb_shared_info.
const SHARED_INFO: usize = 320;
/// SKB_SMALL_HEAD_CACHE_SIZE.
const SMALL_HEAD: usize = 576;
/// SKB_MAX_ALLOC: what is longer has its payload in pages.
const MAX_ALLOC: usize = (4096 << 2) - SHARED_INFO;
const CACHE_LINE: usize = 64;
/// LL_RESERVED_SPACE of devices with no header of their own, or Ethernet's.
const LINK_HEADER: usize = 16;
/// What IPv4 adds to align it; IPv6 adds room for a fragment header.
const ALIGN_V4: usize = 15;
const FRAGMENT_HEADER: usize = 8;

/// Memory of a packet whose head has `len` bytes (SKB_TRUESIZE of what kmalloc gives).
fn head_truesize(len: usize) -> usize {
    match len.next_multiple_of(CACHE_LINE) + SHARED_INFO {
        ..=SMALL_HEAD => SK_BUFF + SMALL_HEAD,
        head => SK_BUFF + head.next_power_of_two(),
    }
}

/// Memory of a datagram that came, with `len` bytes behind its IP header: what it took its sender on this host, in one
/// packet.
pub(crate) fn sent_truesize(v4: bool, len: usize) -> u32 {
    let (header, extra) =
        if v4 { (ip::HEADER_LEN, LINK_HEADER + ALIGN_V4) } else { (ipv6::HEADER_LEN, LINK_HEADER + FRAGMENT_HEADER) };
    let truesize = match header + len + extra {
        head if head >= MAX_ALLOC => head_truesize(header + extra) + len,
        head => head_truesize(head),
    };
    truesize as u32
}

/// The packets so far.
#[derive(Debug)]
pub(crate) struct Cork {
    mtu: usize,
    /// Length of a fragment that others follow.
    max_frag: usize,
    /// Headers of each fragment.
    headers: usize,
    /// Headers of the first one alone (opt_flen).
    first_headers: usize,
    /// Room beside.
    extra: usize,
    v4: bool,
    /// Whether bytes are in pages from the start on: a super-packet is cut later (gso_size).
    paged: bool,
    /// Bytes behind the headers, so far.
    length: usize,
    /// Length of the last packet, with its headers; None: there is none yet.
    last: Option<usize>,
    truesize: usize,
}

impl Cork {
    /// Of a datagram that leaves by `plan`; `segmented`: as a super-packet.
    pub(crate) fn new(g: &SockGuard<'_>, plan: &Plan, segmented: bool) -> Cork {
        let v4 = plan.to.is_ipv4();
        let first_headers = plan.headers.as_ref().map_or(0, |h| h.dst1.len());
        let own = if v4 { ip::HEADER_LEN + plan.options_len(g) } else { ipv6::HEADER_LEN };
        let headers = own + plan.headers_len() - first_headers;
        let mtu = if segmented { 0xffff } else { plan.frag_size(g) as usize };
        let room = mtu.saturating_sub(headers) & !7;
        let max_frag = (headers + room).saturating_sub(if v4 { 0 } else { FRAGMENT_HEADER });
        let extra = LINK_HEADER + if v4 { ALIGN_V4 } else { FRAGMENT_HEADER };
        let paged = segmented;
        Cork { mtu, max_frag, headers, first_headers, extra, v4, paged, length: 0, last: None, truesize: 0 }
    }

    /// Whether `len` bytes, with the transport's header, fit into one packet: then nothing but the wait for room can
    /// refuse them.
    pub(crate) fn is_one(&self, len: usize) -> bool {
        self.last.is_none() && self.headers + self.first_headers + len <= self.mtu.min(self.max_frag)
    }

    /// Adds the bytes of a call; `transport`: the transport's header, which the first call's first packet has. ENOBUFS:
    /// the send buffer is full twice over; nothing is added. A first packet with that header has waited for room.
    /// EMSGSIZE: the headers do not fit into the first fragment (RFC 7112 section 5).
    pub(crate) fn append(&mut self, g: &SockGuard<'_>, len: usize, transport: usize) -> Result<()> {
        if !self.v4 && self.headers + self.first_headers + transport.max(FRAGMENT_HEADER) > self.mtu {
            return Err(Error::MsgSize);
        }
        let sock = g.sock;
        let limit = 2 * i64::from(sock.sndbuf.load(Ordering::Relaxed));
        let before = i64::from(sock.wmem_alloc.load(Ordering::Relaxed) as i32);
        let (was_last, was_truesize, was_length) = (self.last, self.truesize, self.length);
        let first = if self.last.is_none() { transport + self.first_headers } else { 0 };
        let mut first_header = first;
        let mut left = len + first;
        self.length += left;
        loop {
            if let Some(last) = self.last {
                if left == 0 {
                    return Ok(());
                }
                let n = self.room_behind(last, left);
                if n > 0 {
                    let n = left.min(n);
                    (self.last, self.truesize, left) = (Some(last + n), self.truesize + n, left - n);
                    continue;
                }
            }
            if first_header == 0 && before + self.truesize as i64 > limit {
                (self.last, self.truesize, self.length) = (was_last, was_truesize, was_length);
                g.stack.mib.inc(if self.v4 { Mib::IpOutDiscards } else { Mib::Ip6OutDiscards });
                return Err(Error::NoBufs);
            }
            left -= self.begin_packet(left, first_header);
            first_header = 0;
        }
    }

    /// Bytes that still go into the last packet; 0: a new one begins.
    fn room_behind(&self, last: usize, left: usize) -> usize {
        let whole = if self.v4 || self.length <= self.mtu { self.mtu } else { self.max_frag };
        let room = whole.saturating_sub(last);
        if room < left { self.max_frag.saturating_sub(last) } else { room }
    }

    /// A new packet begins, with what the last one has too much (fraggap). Returns how many of `left` bytes it takes.
    fn begin_packet(&mut self, left: usize, first_header: usize) -> usize {
        let gap = self.last.map_or(0, |last| last.saturating_sub(self.max_frag));
        let whole = if self.v4 || self.length <= self.mtu { self.mtu } else { self.max_frag };
        let mut data = left + gap;
        if data > whole.saturating_sub(self.headers) {
            data = self.max_frag.saturating_sub(self.headers).max(gap + 1);
        }
        let in_pages = self.paged || self.headers + data + self.extra >= MAX_ALLOC;
        let in_head = if in_pages { first_header + gap } else { data };
        self.truesize += head_truesize(self.headers + in_head + self.extra);
        // The bytes in pages are added as they are copied, behind the packet's head.
        if in_pages {
            self.last = Some(self.headers + in_head);
            return in_head - gap;
        }
        self.last = Some(self.headers + data);
        data - gap
    }

    /// Charges the packets to the sock, while they wait for more.
    pub(crate) fn charge(&self, sock: &Sock) {
        sock.wmem_alloc.fetch_add(self.truesize as u32, Ordering::Relaxed);
    }

    /// Takes the charge back. Nobody is woken: what waited is charged again, or leaves.
    pub(crate) fn uncharge(&self, sock: &Sock) {
        sock.wmem_alloc.fetch_sub(self.truesize as u32, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
