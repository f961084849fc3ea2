//! Explicit congestion notification (RFC 3168): whether both ends agree to it, the echo of marks that arrive, the
//! answer to an echo, and the codepoint of what leaves. Above: `control`, `handshake`, `synsent` (agreement), `input`,
//! `reassembly` (marks that arrive), `ack` (echo), `segment` (what leaves), `prr`, `recovery`, `undo` (CWR), `cong`.
//! Below: `delack`. Not here: accurate ECN (RFC 9768). Linux: the tcp_ecn_* functions.

use super::cong;
use super::control;
use super::delack::enter_quickack_mode;
use super::input::Seg;
use super::sock_ops::{self, Ends};
use super::tcb::Cx;
use crate::sock::SockCommon;
use crate::sock::dst::Dst;
use crate::sock::skb::Skb;
use crate::stack::Stack;
use crate::wire::ip::Ecn;
use crate::wire::seq::SeqNum;
use crate::wire::tcp::TcpFlags;

/// The ECN bits of a TOS byte (INET_ECN_MASK).
const MASK: u8 = 3;
/// ECT(0), the codepoint of packets that may be marked (RFC 3168 §5).
const ECT_0: u8 = Ecn::Ect0 as u8;
/// ECE and CWR: what asks for ECN in a SYN.
const ECN_SYN: u8 = (TcpFlags::ECE.bits() | TcpFlags::CWR.bits()) as u8;
/// Quick acknowledgements after a mark, or after a packet that should have been ECN-capable.
const QUICKACKS: u32 = 2;

/// ECN state of a connection (ecn_flags; the bits are Linux's TCP_ECN_*).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EcnFlags(u8);

impl EcnFlags {
    /// Both ends agreed, or our SYN asks.
    const OK: u8 = 1;
    /// The window was reduced: the next new data carries CWR.
    const QUEUE_CWR: u8 = 2;
    /// A mark arrived: acknowledgements carry ECE until the peer sends CWR.
    const DEMAND_CWR: u8 = 4;
    /// An ECN-capable packet of the peer was seen.
    const SEEN: u8 = 8;

    /// What a connection begins with: `agreed` by both ends, or not.
    pub(super) const fn new(agreed: bool) -> EcnFlags {
        EcnFlags(if agreed { EcnFlags::OK } else { 0 })
    }

    /// Whether both ends agreed to ECN.
    #[inline]
    pub const fn is_ok(self) -> bool {
        self.0 & EcnFlags::OK != 0
    }

    /// Whether an ECN-capable packet of the peer was seen.
    pub(super) const fn is_seen(self) -> bool {
        self.0 & EcnFlags::SEEN != 0
    }

    /// The bits, as plug-ins see them.
    pub(super) const fn bits(self) -> u8 {
        self.0
    }
}

// ---- The handshake.

/// Whether the sock's packets say ECT(0) whatever they carry (INET_ECN_xmit, INET_ECN_dontxmit).
pub(super) fn set_ecn_capable(sk: &mut SockCommon, capable: bool) {
    let bits = if capable { ECT_0 } else { 0 };
    sk.tos = sk.tos & !MASK | bits;
    sk.tclass = sk.tclass & !MASK | bits;
}

/// Asks for ECN in our SYN where the sysctl, the route, the algorithm or a hook wants it (RFC 3168 §6.1.1;
/// tcp_ecn_send_syn).
pub(super) fn send_syn(cx: &mut Cx<'_>, skb: &mut Skb) {
    let by_route = cx.sk.dst.as_ref().is_some_and(|d| d.metrics.feature_ecn);
    let needed = cx.tp.ca.ops.needs_ecn() || sock_ops::needs_ecn(cx, None);
    // An ECN-based algorithm needs ECT on the SYN, too.
    set_ecn_capable(cx.sk, needed);
    let asks = cx.stack.sysctl.tcp_ecn() == 1 || by_route || needed;
    if asks {
        skb.tcp.flags |= ECN_SYN;
    }
    cx.tp.ecn = EcnFlags::new(asks);
}

/// A SYN that asks for ECN is sent again: it does not ask any more, for a node on the path may drop such SYNs
/// (RFC 3168 §6.1.1.1; tcp_ecn_clear_syn).
pub(super) fn clear_syn(stack: &Stack, skb: &mut Skb) {
    let syn = TcpFlags::SYN.bits() as u8;
    let kind = syn | TcpFlags::ACK.bits() as u8 | ECN_SYN;
    if skb.tcp.flags & kind == syn | ECN_SYN && stack.sysctl.tcp_ecn_fallback() {
        skb.tcp.flags &= !ECN_SYN;
    }
}

/// Our SYN becomes a SYN-ACK: ECE alone agrees (tcp_ecn_send_synack).
pub(super) fn send_synack(ecn: EcnFlags, skb: &mut Skb) {
    skb.tcp.flags &= !ECN_SYN;
    if ecn.is_ok() {
        skb.tcp.flags |= TcpFlags::ECE.bits() as u8;
    }
}

/// The answer to our SYN: the peer agrees by ECE alone (RFC 3168 §6.1.1; tcp_ecn_rcv_synack).
pub(super) fn rcv_synack(cx: &mut Cx<'_>, seg: &Seg) {
    if !seg.flags.contains(TcpFlags::ECE) || seg.flags.contains(TcpFlags::CWR) {
        cx.tp.ecn.0 &= !EcnFlags::OK;
    }
}

/// A SYN that crosses ours: the peer asks by ECE and CWR (tcp_ecn_rcv_syn).
pub(super) fn rcv_syn(cx: &mut Cx<'_>, seg: &Seg) {
    if !seg.flags.contains(TcpFlags::ECE | TcpFlags::CWR) {
        cx.tp.ecn.0 &= !EcnFlags::OK;
    }
}

/// Whether a listener agrees to ECN: the SYN asks with ECE and CWR, is itself not ECN-capable, and we are willing
/// (RFC 3168 §6.1.1; tcp_ecn_create_request).
pub(super) fn create_request(cx: &mut Cx<'_>, skb: &Skb, dst: &Dst, ends: Ends) -> bool {
    let flags = skb.tcp.all_flags();
    if !flags.contains(TcpFlags::ECE | TcpFlags::CWR) {
        return false;
    }
    let ect = skb.tcp.ip_dsfield & MASK != 0;
    // AE or another reserved bit asks for more than we have (RFC 9768): then plain ECN is agreed.
    let reserved = skb.tcp.reserved() != 0 || flags.contains(TcpFlags::AE);
    let willing = cx.stack.sysctl.tcp_ecn() != 0 || dst.metrics.feature_ecn;
    ((!ect || reserved) && willing) || cx.tp.ca.ops.needs_ecn() || sock_ops::needs_ecn(cx, Some(ends))
}

/// A request's SYN-ACK: agrees by ECE. Returns the codepoint of its IP header: an ECN-based algorithm needs ECT on the
/// SYN-ACK, too (tcp_ecn_make_synack).
pub(super) fn make_synack(cx: &mut Cx<'_>, agreed: bool, ends: Ends, flags: &mut TcpFlags) -> u8 {
    if !agreed {
        return 0;
    }
    flags.insert(TcpFlags::ECE);
    let needed = cx.tp.ca.ops.needs_ecn() || sock_ops::needs_ecn(cx, Some(ends));
    if needed { ECT_0 } else { 0 }
}

// ---- What arrives.

/// The codepoint of a data segment: CE is echoed until the peer answers with CWR (RFC 3168 §6.1.3; tcp_data_ecn_check).
pub(super) fn data_ecn_check(cx: &mut Cx<'_>, seg: &Seg) {
    if !cx.tp.ecn.is_ok() {
        return;
    }
    match Ecn::from_tos(seg.dsfield) {
        Ecn::NotEct => {
            // Probably a retransmission, which is never ECN-capable: the peer has lost a segment.
            if cx.tp.ecn.is_seen() {
                enter_quickack_mode(cx, QUICKACKS);
            }
            return;
        }
        Ecn::Ce => {
            if cx.tp.ca.ops.needs_ecn() {
                cong::ca_event(cx, cong::CaEvent::EcnIsCe);
                echo_exactly(cx, true);
            }
            if cx.tp.ecn.0 & EcnFlags::DEMAND_CWR == 0 {
                enter_quickack_mode(cx, QUICKACKS);
                cx.tp.ecn.0 |= EcnFlags::DEMAND_CWR;
            }
        }
        Ecn::Ect0 | Ecn::Ect1 => {
            if cx.tp.ca.ops.needs_ecn() {
                cong::ca_event(cx, cong::CaEvent::EcnNoCe);
                echo_exactly(cx, false);
            }
        }
    }
    cx.tp.ecn.0 |= EcnFlags::SEEN;
}

/// The echo of each segment's mark (RFC 8257 §3.2; Linux: dctcp_ece_ack.h).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct EceEcho {
    /// The last segment that arrived was marked.
    pub(crate) ce: bool,
    /// `rcv_nxt` after it.
    rcv_nxt: SeqNum,
}

/// The algorithm begins: what was received before says nothing.
pub(super) fn init_echo(cx: &mut Cx<'_>) {
    cx.tp.ece_echo = EceEcho { ce: false, rcv_nxt: cx.tp.rcv_nxt };
}

/// A segment arrived, with a mark or without. Where that changes, what came before is acknowledged by itself, with the
/// echo that it had, and this one at once: so the sender can count marked bytes in spite of delayed acknowledgements
/// (RFC 8257 §3.2; dctcp_ece_ack_update).
fn echo_exactly(cx: &mut Cx<'_>, ce: bool) {
    if !cx.tp.ca.ops.exact_ece() {
        return;
    }
    let before = cx.tp.ece_echo;
    if before.ce != ce {
        if cx.tp.ack.is_delayed() {
            set_echo(cx, before.ce);
            control::send_ack_of(cx, before.rcv_nxt);
        }
        cx.tp.ack.ack_now();
    }
    cx.tp.ece_echo = EceEcho { ce, rcv_nxt: cx.tp.rcv_nxt };
    set_echo(cx, ce);
}

fn set_echo(cx: &mut Cx<'_>, ce: bool) {
    cx.tp.ecn.0 = cx.tp.ecn.0 & !EcnFlags::DEMAND_CWR | if ce { EcnFlags::DEMAND_CWR } else { 0 };
}

/// The peer has reduced its window: the echo ends. Data that says so is acknowledged at once, for that window may be
/// one segment (RFC 3168 §6.1.3; tcp_ecn_accept_cwr).
#[inline]
pub(super) fn accept_cwr(cx: &mut Cx<'_>, seg: &Seg) {
    if cx.tp.ecn.is_ok() && seg.flags.contains(TcpFlags::CWR) {
        cx.tp.ecn.0 &= !EcnFlags::DEMAND_CWR;
        if seg.seq != seg.end_seq {
            cx.tp.ack.ack_now();
        }
    }
}

/// Whether an acknowledgement echoes a mark (tcp_ecn_rcv_ecn_echo).
#[inline]
pub(super) fn rcv_ecn_echo(ecn: EcnFlags, seg: &Seg) -> bool {
    seg.flags.contains(TcpFlags::ECE) && !seg.flags.contains(TcpFlags::SYN) && ecn.is_ok()
}

// ---- What leaves.

/// The window was reduced: the next new data tells the peer by CWR (tcp_ecn_queue_cwr).
pub(super) fn queue_cwr(cx: &mut Cx<'_>) {
    if cx.tp.ecn.is_ok() {
        cx.tp.ecn.0 |= EcnFlags::QUEUE_CWR;
    }
}

/// The reduction was undone: no CWR (tcp_ecn_withdraw_cwr).
pub(super) fn withdraw_cwr(cx: &mut Cx<'_>) {
    cx.tp.ecn.0 &= !EcnFlags::QUEUE_CWR;
}

/// The codepoint of a SYN or SYN-ACK of a sock: what [`send_syn`] decided.
#[inline]
pub(super) fn syn_codepoint(sk: &SockCommon) -> u8 {
    MASK & if sk.daddr.is_ipv4() { sk.tos } else { sk.tclass }
}

/// A TOS byte with the codepoint `ecn`.
#[inline]
pub(super) const fn with_codepoint(tos: u8, ecn: u8) -> u8 {
    tos & !MASK | ecn
}

/// ECE and CWR of a segment that is no SYN. Returns the codepoint of its IP header: only new data is ECN-capable
/// (RFC 3168 §6.1.4, §6.1.5; tcp_ecn_send).
#[inline]
pub(super) fn send(cx: &mut Cx<'_>, seq: SeqNum, payload: u64, flags: &mut TcpFlags) -> u8 {
    if !cx.tp.ecn.is_ok() {
        return 0;
    }
    let mut codepoint = 0;
    if payload > 0 && !seq.before(cx.tp.snd_nxt) {
        codepoint = ECT_0;
        if cx.tp.ecn.0 & EcnFlags::QUEUE_CWR != 0 {
            cx.tp.ecn.0 &= !EcnFlags::QUEUE_CWR;
            flags.insert(TcpFlags::CWR);
        }
    } else if cx.tp.ca.ops.needs_ecn() {
        // ECN-based algorithms (DCTCP) need ECT on every packet.
        codepoint = ECT_0;
    }
    if cx.tp.ecn.0 & EcnFlags::DEMAND_CWR != 0 {
        flags.insert(TcpFlags::ECE);
    }
    codepoint
}
