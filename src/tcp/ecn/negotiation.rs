//! Agreement on ECN in the handshake (RFC 9768 §3.1, RFC 3168 §6.1.1). A SYN asks by AE, CWR and ECE for accurate ECN
//! or by CWR and ECE for that of RFC 3168. The SYN-ACK answers by ECE alone for the latter; for the former its ACE
//! field tells the codepoint that the SYN arrived with, and the handshake's last acknowledgement that of the SYN-ACK.
//! Whatever a peer or the path makes of that falls back to what both ends are sure of. Above: `control`, `synsent`,
//! `handshake`, `synack`, `child`, `input`, `retransmit`. Below: `ace`, `option`. Linux: tcp_ecn.h.

use super::super::input::Seg;
use super::super::sock_ops::{self, Ends};
use super::super::tcb::{Cx, TcpSock};
use super::option::{OF_SYN_ACK, first};
use super::{Counters, ECT_0, EcnMode, MASK, OptSeen, ace, fail, set_ecn_capable, syn_codepoint};
use crate::sock::dst::Dst;
use crate::sock::skb::Skb;
use crate::stack::Stack;
use crate::wire::ip::Ecn;
use crate::wire::tcp::TcpFlags;
use crate::wire::tcp_options::{AccEcn, SynOptions, TcpOptions};

/// ECE and CWR: what asks for ECN in a SYN.
const ECN_SYN: u16 = TcpFlags::ECE.union(TcpFlags::CWR).bits();

/// The ACE field that tells which codepoint a SYN or SYN-ACK arrived with (RFC 9768 Table 2).
fn reflected(codepoint: u8) -> TcpFlags {
    ace::flags_of(match Ecn::from_tos(codepoint) {
        Ecn::NotEct => 2,
        Ecn::Ect1 => 3,
        Ecn::Ect0 => 4,
        Ecn::Ce => 6,
    })
}

/// The codepoint that such a field tells (RFC 9768 Tables 2 and 3).
fn told(ace: u8) -> u8 {
    let codepoint = match ace {
        2 => Ecn::NotEct,
        0 | 4 => Ecn::Ect0,
        6 => Ecn::Ce,
        _ => Ecn::Ect1,
    };
    codepoint as u8
}

/// Whether a path may have made `arrived` of the codepoint `sent` (RFC 9768 §3.2.2.3; tcp_ect_transition_valid).
fn may_become(sent: u8, arrived: u8) -> bool {
    let (none, ce) = (Ecn::NotEct as u8, Ecn::Ce as u8);
    sent == arrived || sent != none && arrived != none && sent != ce
}

/// Whether the codepoint that the peer tells of our SYN or SYN-ACK is believable. If not, no more ECN-capable packets
/// are sent (tcp_accecn_validate_syn_feedback).
fn validate(stack: &Stack, c: &mut Counters, ace: u8) -> bool {
    let ok = !stack.sysctl.tcp_ecn_fallback() || may_become(c.syn_ect_snt, told(ace));
    if !ok {
        c.fail |= fail::ACE_RECV;
    }
    ok
}

// ---- The side that connects.

/// Asks for ECN in our SYN where the sysctl, the route, the algorithm or a hook wants it (tcp_ecn_send_syn).
pub(in crate::tcp) fn send_syn(cx: &mut Cx<'_>, skb: &mut Skb) {
    let by_route = cx.sk.dst.as_ref().is_some_and(|d| d.metrics.feature_ecn);
    let needed = cx.tp.ca.ops.needs_ecn() || sock_ops::needs_ecn(cx, None);
    // An ECN-based algorithm needs ECT on the SYN, too.
    set_ecn_capable(cx.sk, needed);
    let mode = match cx.stack.sysctl.tcp_ecn() {
        3 => EcnMode::Pending,
        1 | 4 => EcnMode::Rfc3168,
        _ if by_route || needed => EcnMode::Rfc3168,
        _ => EcnMode::Off,
    };
    if mode != EcnMode::Off {
        skb.tcp.flags |= ECN_SYN;
    }
    if mode == EcnMode::Pending {
        skb.tcp.flags |= TcpFlags::AE.bits();
    }
    cx.tp.begin_ecn(mode);
    if mode != EcnMode::Off {
        cx.tp.ecn_counters_mut().syn_ect_snt = syn_codepoint(cx.sk);
    }
}

/// Whether a SYN that is sent again still asks for ECN: for accurate ECN the first time (RFC 9768 §3.1.4.1).
pub(in crate::tcp) fn asks_again(tp: &TcpSock) -> bool {
    tp.ecn.mode == EcnMode::Pending && tp.retransmits <= 1
}

/// A SYN that asks for ECN is sent again: it does not ask any more, for a node on the path may drop such SYNs
/// (RFC 3168 §6.1.1.1; tcp_ecn_clear_syn).
pub(in crate::tcp) fn clear_syn(stack: &Stack, skb: &mut Skb) {
    let syn = TcpFlags::SYN.bits();
    let kind = syn | TcpFlags::ACK.bits() | ECN_SYN;
    if skb.tcp.flags & kind == syn | ECN_SYN && stack.sysctl.tcp_ecn_fallback() {
        skb.tcp.flags &= !ace::FLAGS.bits();
    }
}

/// The answer to our SYN (RFC 9768 Table 2; tcp_ecn_rcv_synack). As in Linux, an answer of accurate ECN is taken even
/// where our SYN did not ask for it, but for the one that RFC 9768 reserves.
pub(in crate::tcp) fn rcv_synack(cx: &mut Cx<'_>, seg: &Seg) {
    let e = &mut cx.tp.ecn;
    if !e.is_ok() {
        return;
    }
    match ace::of(seg.flags) {
        // Without ECN, or a peer that reflects whatever flags arrive.
        0 | 7 => e.mode = EcnMode::Off,
        1 => e.mode = EcnMode::Rfc3168,
        5 if e.mode != EcnMode::Pending => {}
        ace => agreed(cx, seg, ace),
    }
}

/// The peer counts.
fn agreed(cx: &mut Cx<'_>, seg: &Seg, ace: u8) {
    cx.tp.ecn.mode = EcnMode::Accurate;
    let c = cx.tp.ecn_counters_mut();
    c.syn_ect_rcv = seg.dsfield & MASK;
    if let Some(o) = seg.accecn.filter(|_| c.saw_opt < OptSeen::Counter) {
        c.see_option(first(&o));
        c.opt_demand = 2;
    }
    let marked = Ecn::from_tos(seg.dsfield) == Ecn::Ce;
    if marked && (ace == 5 || validate(cx.stack, c, ace)) {
        c.add_received_ce(1);
    }
}

/// A SYN that crosses ours (tcp_ecn_rcv_syn).
pub(in crate::tcp) fn rcv_syn(cx: &mut Cx<'_>, seg: &Seg) {
    let e = &mut cx.tp.ecn;
    if e.mode == EcnMode::Pending {
        e.mode = EcnMode::Rfc3168;
        if asks_for_accurate(seg.flags) {
            e.mode = EcnMode::Accurate;
            e.prev_ecnfield = seg.dsfield & MASK;
            cx.tp.ecn_counters_mut().syn_ect_rcv = seg.dsfield & MASK;
        }
    }
    let e = &mut cx.tp.ecn;
    if e.is_rfc3168() && !seg.flags.contains(TcpFlags::ECE | TcpFlags::CWR) {
        e.mode = EcnMode::Off;
    }
}

/// Our SYN becomes a SYN-ACK (tcp_ecn_send_synack).
pub(in crate::tcp) fn send_synack(tp: &TcpSock, skb: &mut Skb) {
    skb.tcp.flags &= !ace::FLAGS.bits();
    skb.tcp.flags |= match tp.ecn.mode {
        EcnMode::Off => 0,
        EcnMode::Accurate => reflected(tp.ecn_counters().syn_ect_rcv).bits(),
        EcnMode::Rfc3168 | EcnMode::Pending => TcpFlags::ECE.bits(),
    };
}

/// Puts the AccECN option into a SYN-ACK that answers a crossing SYN, where there is room. A SYN has none.
pub(in crate::tcp) fn syn_option(cx: &Cx<'_>, is_synack: bool, o: &mut SynOptions) {
    if is_synack && cx.tp.ecn.is_accurate() && cx.tp.retransmits < 2 {
        fit_syn(cx, o);
    }
}

/// The ACE field of an acknowledgement that answers a SYN or SYN-ACK: the codepoint of that. Nothing on a connection
/// without such a field.
pub(in crate::tcp) fn reflector_flags(tp: &TcpSock) -> TcpFlags {
    if tp.ecn.is_accurate() { reflected(tp.ecn_counters().syn_ect_rcv) } else { TcpFlags::NONE }
}

/// A SYN or SYN-ACK arrives again on a connection. Returns the ACE field of the challenge ACK, which tells the
/// codepoint of the latest one (RFC 9768 §3.1.5). Linux 6.18 tells that of the handshake's, 7.0 does as we do.
pub(in crate::tcp) fn syn_in_connection(cx: &mut Cx<'_>, seg: &Seg) -> TcpFlags {
    if cx.tp.ecn.is_accurate() {
        let c = cx.tp.ecn_counters_mut();
        c.syn_ect_rcv = seg.dsfield & MASK;
        if let Some(o) = seg.accecn.filter(|_| c.saw_opt < OptSeen::Counter) {
            c.see_option(first(&o));
            c.demand(1);
        }
    }
    reflector_flags(cx.tp)
}

// ---- The side that listens.

/// What a request has agreed on (the ECN fields of tcp_request_sock).
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::tcp) struct EcnRequest {
    mode: EcnMode,
    syn_ect_rcv: u8,
    syn_ect_snt: u8,
    saw_opt: OptSeen,
    fail: u8,
}

impl EcnRequest {
    fn new(mode: EcnMode) -> EcnRequest {
        EcnRequest { mode, ..EcnRequest::default() }
    }

    /// Whether ECN is agreed, of either kind.
    pub(in crate::tcp) fn is_ok(&self) -> bool {
        self.mode != EcnMode::Off
    }

    fn is_accurate(&self) -> bool {
        self.mode == EcnMode::Accurate
    }

    /// The option of an acknowledgement for the request.
    pub(in crate::tcp) fn see_option(&mut self, option: Option<AccEcn>) {
        if let Some(o) = option.filter(|_| self.is_accurate() && self.saw_opt < OptSeen::Counter) {
            self.saw_opt = first(&o);
            if self.saw_opt == OptSeen::Fail {
                self.fail |= fail::OPT_RECV;
            }
        }
    }

    /// The SYN-ACK was sent again. From the second time on it has no ACE field, and what the peer takes ECT for is
    /// unknown (RFC 9768 §3.1.4.2).
    pub(in crate::tcp) fn sent_again(&mut self, num_retrans: u8) {
        if self.is_accurate() && num_retrans > 1 {
            self.fail |= fail::ACE_SEND;
        }
    }
}

/// Whether a SYN asks for accurate ECN. A combination of flags that nothing uses yet asks for it, too
/// (RFC 9768 §3.1.2; tcp_accecn_syn_requested).
fn asks_for_accurate(flags: TcpFlags) -> bool {
    !matches!(ace::of(flags), 0 | 3)
}

/// What a listener agrees on: accurate ECN if the SYN asks and the sysctl allows; else that of RFC 3168 if the SYN asks
/// with ECE and CWR, is itself not ECN-capable, and we are willing. `has_room`: a cookie can remember it
/// (tcp_ecn_create_request).
pub(in crate::tcp) fn create_request(cx: &mut Cx<'_>, skb: &Skb, dst: &Dst, ends: Ends, has_room: bool) -> EcnRequest {
    let flags = skb.tcp.all_flags();
    // Departure: Linux answers in accurate ECN even where the cookie cannot remember that, and then does not count.
    if !has_room {
        return EcnRequest::default();
    }
    let tcp_ecn = cx.stack.sysctl.tcp_ecn();
    if asks_for_accurate(flags) && tcp_ecn >= 3 {
        let syn_ect_rcv = skb.tcp.ip_dsfield & MASK;
        return EcnRequest { syn_ect_rcv, ..EcnRequest::new(EcnMode::Accurate) };
    }
    if !flags.contains(TcpFlags::ECE | TcpFlags::CWR) {
        return EcnRequest::default();
    }
    let ect = skb.tcp.ip_dsfield & MASK != 0;
    // AE or another reserved bit asks for more than we have: then plain ECN is agreed.
    let reserved = skb.tcp.reserved() != 0 || flags.contains(TcpFlags::AE);
    let willing = tcp_ecn != 0 || dst.metrics.feature_ecn;
    let agreed = ((!ect || reserved) && willing) || cx.tp.ca.ops.needs_ecn() || sock_ops::needs_ecn(cx, Some(ends));
    EcnRequest::new(if agreed { EcnMode::Rfc3168 } else { EcnMode::Off })
}

/// What an acknowledgement with a cookie brings back. That the connection is accurate shows in its ACE field, which a
/// peer without such has 0 (RFC 9768 §5.1; cookie_accecn_ok).
pub(in crate::tcp) fn cookie_request(agreed: bool, flags: TcpFlags) -> EcnRequest {
    EcnRequest::new(match agreed {
        false => EcnMode::Off,
        true if ace::of(flags) > 1 => EcnMode::Accurate,
        true => EcnMode::Rfc3168,
    })
}

/// The flags of a request's SYN-ACK. Returns the codepoint of its IP header: an ECN-based algorithm needs ECT on the
/// SYN-ACK, too. `again`: it was sent before; accurate ECN is given up where the first repetition was not answered
/// either, because a node on the path may drop its flags (RFC 9768 §3.1.4.2; tcp_ecn_make_synack).
pub(in crate::tcp) fn make_synack(
    cx: &mut Cx<'_>,
    req: &mut EcnRequest,
    again: bool,
    num_timeout: u8,
    ends: Ends,
    flags: &mut TcpFlags,
) -> u8 {
    match req.mode {
        EcnMode::Off | EcnMode::Pending => return 0,
        EcnMode::Rfc3168 => flags.insert(TcpFlags::ECE),
        EcnMode::Accurate if again && num_timeout > 0 => {}
        EcnMode::Accurate => flags.insert(reflected(req.syn_ect_rcv)),
    }
    let needed = cx.tp.ca.ops.needs_ecn() || sock_ops::needs_ecn(cx, Some(ends));
    req.syn_ect_snt = if needed { ECT_0 } else { 0 };
    req.syn_ect_snt
}

/// Puts the AccECN option into a request's SYN-ACK, where there is room. One that is sent again has none, for a node on
/// the path may drop segments with unknown options (RFC 9768 §3.2.3.2.2).
pub(in crate::tcp) fn request_option(cx: &Cx<'_>, req: &EcnRequest, again: bool, o: &mut SynOptions) {
    if req.is_accurate() && !again {
        fit_syn(cx, o);
    }
}

/// Puts the option with as many counters as fit into those of a SYN-ACK.
fn fit_syn(cx: &Cx<'_>, o: &mut SynOptions) {
    if cx.stack.sysctl.tcp_ecn_option() != 0 {
        let cut = |len| AccEcn { len, ..OF_SYN_ACK };
        o.accecn = (0..=3).rev().map(cut).find(|a| o.fits(a));
    }
}

/// The SYN of a request arrives again (RFC 9768 §3.1.5). Without flags: the peer has given up accurate ECN, or a node
/// on the path has cleared them; then the peer's codepoints mean nothing.
pub(in crate::tcp) fn repeated_syn(req: &mut EcnRequest, skb: &Skb) {
    if req.is_accurate() {
        req.syn_ect_rcv = skb.tcp.ip_dsfield & MASK;
        if ace::of(skb.tcp.all_flags()) == 0 {
            req.fail |= fail::ACE_RECV;
        }
    }
}

/// The segment that makes a child.
#[derive(Debug, Clone, Copy)]
pub(in crate::tcp) struct Opening {
    flags: TcpFlags,
    dsfield: u8,
    /// Bytes of payload.
    payload: u32,
    /// It has no data, no SYN or FIN, and no SACK block.
    bare: bool,
}

impl Opening {
    pub(in crate::tcp) fn of(skb: &Skb, o: &TcpOptions) -> Opening {
        let (cb, payload) = (&skb.tcp, skb.len().saturating_sub(skb.tcp.header_len()) as u32);
        let bare = cb.seq == cb.end_seq && o.sack.is_empty();
        Opening { flags: cb.all_flags(), dsfield: cb.ip_dsfield, payload, bare }
    }
}

/// A child begins with what its request has agreed on (tcp_ecn_openreq_child).
pub(in crate::tcp) fn openreq_child(c: &mut Cx<'_>, req: &EcnRequest, by: &Opening) {
    c.tp.begin_ecn(req.mode);
    if req.is_accurate() {
        c.tp.ecn.prev_ecnfield = req.syn_ect_rcv;
        *c.tp.ecn_counters_mut() = Counters {
            syn_ect_snt: req.syn_ect_snt,
            syn_ect_rcv: req.syn_ect_rcv,
            fail: req.fail,
            saw_opt: req.saw_opt,
            opt_demand: 1,
            ..Counters::NONE
        };
        third_ack(c, by.flags, by.bare);
        ace::count(c, by.dsfield & MASK, 1, by.payload);
    }
}

/// The ACE field of the handshake's last acknowledgement tells the codepoint that our SYN-ACK arrived with (RFC 9768
/// Table 3). 0 is not among its values: the flags were cleared, and will be, so that nothing that they or options say
/// is to be acted on (Table 4; of the two Linux 7.0 leaves out the options, 6.18 neither). `bare`: it has nothing but
/// an acknowledgement; of another the field may be a counter (tcp_accecn_third_ack).
pub(in crate::tcp) fn third_ack(cx: &mut Cx<'_>, flags: TcpFlags, bare: bool) {
    if !cx.tp.ecn.is_accurate() {
        return;
    }
    let c = cx.tp.ecn_counters_mut();
    match ace::of(flags) {
        0 => {
            c.fail |= fail::ACE_RECV;
            if bare {
                c.fail |= fail::OPT_RECV;
                c.deaf = true;
            }
        }
        // Unused, and no error.
        1 | 5 | 7 => {}
        ace => {
            if bare && validate(cx.stack, c, ace) && told(ace) == Ecn::Ce as u8 && cx.tp.delivered_ce == 0 {
                cx.tp.cold_mut().delivered_ce = 1;
            }
        }
    }
}
