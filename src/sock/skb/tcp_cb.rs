//! TCP's part of a packet: what its queues and its input keep with it. Above: all of TCP. Below: `skb`, whose field it
//! is. Linux: struct tcp_skb_cb.

use crate::base::env::Instant;
use crate::wire::seq::{RawWindow, SeqNum};
use crate::wire::tcp::TcpFlags;

/// Scoreboard bits of a segment in the retransmit queue, Linux's TCPCB_*.
pub(crate) mod sacked {
    /// Selectively acknowledged.
    pub(crate) const SACKED_ACKED: u8 = 0x01;
    /// Retransmitted, and that copy is thought to be in flight.
    pub(crate) const SACKED_RETRANS: u8 = 0x02;
    /// Marked lost.
    pub(crate) const LOST: u8 = 0x04;
    /// Sent by repair mode without the network.
    pub(crate) const REPAIRED: u8 = 0x10;
    /// Was ever retransmitted (Karn: no RTT sample).
    pub(crate) const EVER_RETRANS: u8 = 0x80;
    /// Retransmitted at some time.
    pub(crate) const RETRANS: u8 = SACKED_RETRANS | EVER_RETRANS | REPAIRED;
}

/// What TCP has said of a segment to this same stack, so that its receiver need not read it in the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Known {
    /// Nothing.
    #[default]
    Nothing,
    /// It has no options. Of this and what follows, the packet's `cb[CB_FLOW]` is the receiver's hash of its 4-tuple.
    Bare,
    /// It has timestamps alone; `cb[CB_STAMPS]` are the two.
    Stamps,
    /// It has the options of most SYNs.
    Syn,
}

/// See [`Known`].
pub(crate) const CB_FLOW: usize = 0;
pub(crate) const CB_STAMPS: usize = 1;

/// TCP's control block of a packet (tcp_skb_cb). Sequence numbers count SYN and FIN.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TcpCb {
    /// First sequence number.
    pub seq: SeqNum,
    /// One past the last sequence number.
    pub end_seq: SeqNum,
    /// Received: the acknowledgement number of the segment.
    pub ack_seq: SeqNum,
    /// Received: bytes 12 to 15 of the header, data offset, flags and window (tcp_flag_word).
    pub flag_word: u32,
    /// Header flags, as in the wire format (FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32, ECE 64, CWR 128, AE 256).
    pub flags: u16,
    /// Bits of [`sacked`].
    pub sacked: u8,
    /// Sent: how often it was sent again; no further than 255.
    pub retrans: u8,
    /// Received: TOS or traffic class of the IP header (ECN in the low two bits).
    pub ip_dsfield: u8,
    /// MSG_EOR ended this skb: nothing may be appended to it or merged with it.
    pub eor: bool,
    /// The connection was application limited when this skb was sent (rate sample).
    pub app_limited: bool,
    /// Received: TTL or hop limit of the IP header (IP_MINTTL).
    pub ttl: u8,
    /// Received: flow label of the IPv6 header.
    pub flow_label: u32,
    /// Received: some program wanted to know by then when packets come (SO_TIMESTAMP, SO_TIMESTAMPNS).
    pub has_rxtstamp: bool,
    /// Segment count when sent: payload over `gso_size`, rounded up; 1 for an empty or small one. 0: not yet computed.
    pub gso_segs: u16,
    /// Payload bytes a segment when sent.
    pub gso_size: u16,
    /// Time it was last sent (skb_mstamp_ns), or received.
    pub mstamp: Instant,
    /// `tp.delivered` when sent.
    pub delivered: u32,
    /// `tp.delivered_ce` when sent.
    pub delivered_ce: u32,
    /// Bytes in flight when sent. For a received SYN that replaces a time-wait record: the ISN of the SYN-ACK; 0: none.
    pub in_flight: u32,
    /// Start of the send phase of the rate sample.
    pub first_tx_mstamp: Instant,
    /// Time at which `delivered` was reached.
    pub delivered_mstamp: Instant,
    /// Sent: whether it is in the list in order of sending; TCP's `rtx` has the list.
    pub in_sent_list: bool,
    /// Sequence number of the packet sent before it; its own: none.
    pub sent_prev: SeqNum,
    /// Sequence number of the packet sent after it; its own: none.
    pub sent_next: SeqNum,
    /// Received: what its sender said.
    pub known: Known,
}

impl TcpCb {
    /// Received: length of the TCP header in bytes.
    #[inline]
    pub(crate) fn header_len(&self) -> usize {
        (self.flag_word >> 28) as usize * 4
    }

    /// Received: all nine flags.
    #[inline]
    pub(crate) fn all_flags(&self) -> TcpFlags {
        TcpFlags::from_bits((self.flag_word >> 16) as u16 & 0x1ff)
    }

    /// Received: the reserved bits between data offset and flags.
    pub(crate) fn reserved(&self) -> u8 {
        (self.flag_word >> 25 & 7) as u8
    }

    /// Received: the window field.
    #[inline]
    pub(crate) fn window(&self) -> RawWindow {
        RawWindow(self.flag_word as u16)
    }

    /// Sequence numbers it occupies, and whether SYN is among them.
    pub(crate) fn span(&self) -> (u32, bool) {
        (self.end_seq.since(self.seq), self.flags & TcpFlags::SYN.bits() != 0)
    }
}
