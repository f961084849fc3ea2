//! Explicit congestion notification: its mode, the marks that arrive and their echo, the answer to an echo, and the
//! codepoint of what leaves. One echo a round trip (RFC 3168), or counters of marked segments and bytes (accurate ECN,
//! RFC 9768). Above: `control`, `handshake`, `synsent` (agreement), `input`, `reassembly` (marks that arrive), `ack`
//! (feedback), `segment` (what leaves), `prr`, `recovery`, `undo` (CWR), `cong`, `info`. Below: `delack`. Linux: the
//! tcp_ecn_* and tcp_accecn_* functions.
//!
//! Linux 6.18 has accurate ECN, but its sysctl refuses `tcp_ecn` 3 to 5. What it does once a connection is accurate was
//! asked of a kernel 6.18, whose client accepts an answer of RFC 9768 to a SYN of RFC 3168. Where 6.18 leaves out a
//! fallback that RFC 9768 asks for, and that later Linux has, the text at the place says so.
//!
//! | file | what |
//! |---|---|
//! | `negotiation` | SYN, SYN-ACK, the handshake's last acknowledgement, and every fallback |
//! | `ace` | the counter in the header: CE-marked segments |
//! | `option` | the counters in the option: bytes by codepoint |

mod ace;
mod negotiation;
mod option;
#[cfg(test)]
mod tests;

pub(super) use ace::{Delivered, process, received};
pub(super) use negotiation::{
    EcnRequest, Opening, asks_again, clear_syn, cookie_request, create_request, make_synack, openreq_child, rcv_syn,
    rcv_synack, reflector_flags, repeated_syn, request_option, send_syn, send_synack, syn_in_connection, syn_option,
    third_ack,
};
pub(super) use option::{arrives_again, established_option, sent as option_sent};

use super::cong;
use super::control;
use super::delack::enter_quickack_mode;
use super::input::Seg;
use super::tcb::{Cx, TcpSock};
use crate::base::env::Instant;
use crate::sock::SockCommon;
use crate::wire::ip::Ecn;
use crate::wire::seq::SeqNum;
use crate::wire::tcp::TcpFlags;

/// The ECN bits of a TOS byte (INET_ECN_MASK).
const MASK: u8 = 3;
/// ECT(0), the codepoint of packets that may be marked (RFC 3168 §5).
const ECT_0: u8 = Ecn::Ect0 as u8;
/// Quick acknowledgements after a mark, or after a packet that should have been ECN-capable.
const QUICKACKS: u32 = 2;

/// What the two ends use (the TCP_ECN_MODE_* of ecn_flags).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EcnMode {
    /// Nothing.
    #[default]
    Off,
    /// One echo a round trip (RFC 3168). Our SYN asks for it, or both ends have agreed.
    Rfc3168,
    /// Our SYN asks for accurate ECN: the answer decides.
    Pending,
    /// Counters (RFC 9768).
    Accurate,
}

/// What is wrong with the feedback of an accurate connection: bits of tcpi_accecn_fail_mode (TCP_ACCECN_*_FAIL_*).
pub(super) mod fail {
    /// The peer does not see the codepoints that we send.
    pub(crate) const ACE_SEND: u8 = 1;
    /// The counter that arrives in the header means nothing.
    pub(crate) const ACE_RECV: u8 = 2;
    /// The options that we send do not arrive.
    pub(crate) const OPT_SEND: u8 = 4;
    /// The counters that arrive in options mean nothing.
    pub(crate) const OPT_RECV: u8 = 8;
}

/// Which options of the peer were seen (TCP_ACCECN_OPT_*).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd)]
pub(super) enum OptSeen {
    /// None.
    #[default]
    None,
    /// One without counters.
    Empty,
    /// One with counters.
    Counter,
    /// One whose counters were zeroed on the way.
    Fail,
}

/// ECN state of a connection (ecn_flags, and the AccECN fields of tcp_sock).
#[derive(Debug, Default)]
pub struct EcnState {
    mode: EcnMode,
    /// The window was reduced: the next new data carries CWR (RFC 3168).
    queue_cwr: bool,
    /// A mark arrived: acknowledgements carry ECE until the peer sends CWR (RFC 3168).
    demand_cwr: bool,
    /// An ECN-capable packet of the peer was seen.
    seen: bool,
    /// Codepoint of the last segment.
    prev_ecnfield: u8,
}

/// Counters, and what is known of their way. What is received is counted in every mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counters {
    /// Codepoint that our SYN or SYN-ACK left with.
    syn_ect_snt: u8,
    /// Codepoint that the peer's SYN or SYN-ACK arrived with.
    syn_ect_rcv: u8,
    /// Bits of [`fail`].
    pub(super) fail: u8,
    /// CE-marked segments received, acknowledgements included.
    pub(super) received_ce: u32,
    /// Those that no ACE field has told the peer of yet; at most 15.
    received_ce_pending: u8,
    /// Least number of fields that the next option must have to tell what has changed.
    minlen: u8,
    /// Segments that are to have an option.
    opt_demand: u8,
    /// Codepoint that alone has arrived at the peer of late; 0: it is not known.
    est_ecnfield: u8,
    /// Options of the peer.
    pub(super) saw_opt: OptSeen,
    /// Payload bytes received with ECT(1), ECT(0) and CE.
    pub(super) received_bytes: [u32; 3],
    /// Payload bytes that the peer received with ECT(1), ECT(0) and CE, by its options.
    pub(super) delivered_bytes: [u32; 3],
    /// When an option was last sent.
    opt_tstamp: Instant,
    /// Start of the duplicate that the last segment told of (DSACK), where that had an option.
    told_duplicate: Option<SeqNum>,
    /// Mean of segments delivered by an acknowledgement, in 64ths; 0: none was yet.
    pkts_acked_ewma: u16,
    /// The handshake's last acknowledgement had its flags cleared: the peer's counters are not read.
    deaf: bool,
}

impl Counters {
    /// Nothing was counted.
    const NONE: Counters = Counters {
        syn_ect_snt: 0,
        syn_ect_rcv: 0,
        fail: 0,
        received_ce: 0,
        received_ce_pending: 0,
        minlen: 0,
        opt_demand: 0,
        est_ecnfield: 0,
        saw_opt: OptSeen::None,
        received_bytes: [0; 3],
        delivered_bytes: [0; 3],
        opt_tstamp: Instant::ZERO,
        told_duplicate: None,
        pkts_acked_ewma: 0,
        deaf: false,
    };
}

impl EcnState {
    /// A connection that has agreed on `mode`.
    pub(super) fn new(mode: EcnMode) -> EcnState {
        EcnState { mode, ..EcnState::default() }
    }

    /// Whether ECN is in use, or asked for by our SYN (tcp_ecn_mode_any).
    #[inline]
    pub const fn is_ok(&self) -> bool {
        !matches!(self.mode, EcnMode::Off)
    }

    #[inline]
    fn is_rfc3168(&self) -> bool {
        self.mode == EcnMode::Rfc3168
    }

    /// Whether what is sent has nothing to do with it.
    #[inline]
    pub(super) fn is_off(&self) -> bool {
        matches!(self.mode, EcnMode::Off | EcnMode::Pending)
    }

    /// Whether both ends count (tcp_ecn_mode_accecn).
    #[inline]
    pub(super) fn is_accurate(&self) -> bool {
        self.mode == EcnMode::Accurate
    }

    /// Whether an ECN-capable packet of the peer was seen.
    pub(super) const fn is_seen(&self) -> bool {
        self.seen
    }

    /// ecn_flags, as plug-ins see them (TCP_ECN_*).
    pub(super) fn bits(&self) -> u8 {
        let mode = match self.mode {
            EcnMode::Off => 0,
            EcnMode::Rfc3168 => 1,
            EcnMode::Accurate => 16,
            EcnMode::Pending => 17,
        };
        mode | u8::from(self.queue_cwr) << 1 | u8::from(self.demand_cwr) << 2 | u8::from(self.seen) << 3
    }
}

impl TcpSock {
    /// The counters: allocated with the first ECN-capable packet, or when accurate ECN is asked for or agreed.
    #[inline]
    pub(super) fn ecn_counters(&self) -> &Counters {
        self.ecn_counters.as_deref().unwrap_or(&Counters::NONE)
    }

    #[inline]
    fn ecn_counters_mut(&mut self) -> &mut Counters {
        self.cold_mut().ecn_counters.get_or_insert_with(|| Box::new(Counters::NONE))
    }

    /// A connection begins with what it asks for or has agreed on.
    fn begin_ecn(&mut self, mode: EcnMode) {
        self.ecn = EcnState::new(mode);
        if let Some(cold) = &mut self.cold {
            cold.ecn_counters = None;
        }
    }
}

/// Whether the sock's packets say ECT(0) whatever they carry (INET_ECN_xmit, INET_ECN_dontxmit).
pub(super) fn set_ecn_capable(sk: &mut SockCommon, capable: bool) {
    let bits = if capable { ECT_0 } else { 0 };
    sk.tos = sk.tos & !MASK | bits;
    sk.tclass = sk.tclass & !MASK | bits;
}

// ---- What arrives.

/// The codepoint of a data segment: CE is echoed until the peer answers with CWR (RFC 3168 §6.1.3; tcp_data_ecn_check).
#[inline(always)]
pub(super) fn data_ecn_check(cx: &mut Cx<'_>, seg: &Seg) {
    if cx.tp.ecn.is_ok() {
        check_codepoint(cx, seg);
    }
}

fn check_codepoint(cx: &mut Cx<'_>, seg: &Seg) {
    let rfc3168 = cx.tp.ecn.is_rfc3168();
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
            if rfc3168 && !cx.tp.ecn.demand_cwr {
                enter_quickack_mode(cx, QUICKACKS);
                cx.tp.ecn.demand_cwr = true;
            }
        }
        Ecn::Ect0 | Ecn::Ect1 => {
            if cx.tp.ca.ops.needs_ecn() {
                cong::ca_event(cx, cong::CaEvent::EcnNoCe);
                echo_exactly(cx, false);
            }
        }
    }
    // Of an accurate connection [`received`] notes it.
    cx.tp.ecn.seen |= rfc3168;
}

/// The echo of each segment's mark (RFC 8257 §3.2; Linux: dctcp_ece_ack.h).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct EceEcho {
    /// The last segment that arrived was marked.
    pub(crate) ce: bool,
    /// `rcv_nxt` after it.
    rcv_nxt: SeqNum,
}

impl EceEcho {
    /// Nothing has arrived.
    pub(crate) const NONE: EceEcho = EceEcho { ce: false, rcv_nxt: SeqNum(0) };
}

/// The algorithm begins: what was received before says nothing.
pub(super) fn init_echo(cx: &mut Cx<'_>) {
    if cx.tp.ca.ops.exact_ece() {
        cx.tp.rare_mut().ece_echo = EceEcho { ce: false, rcv_nxt: cx.tp.rcv_nxt };
    }
}

/// A segment arrived, with a mark or without. Where that changes, what came before is acknowledged by itself, with the
/// echo that it had, and this one at once: so the sender can count marked bytes in spite of delayed acknowledgements
/// (RFC 8257 §3.2; dctcp_ece_ack_update).
fn echo_exactly(cx: &mut Cx<'_>, ce: bool) {
    if !cx.tp.ca.ops.exact_ece() {
        return;
    }
    let before = cx.tp.rare().ece_echo;
    if before.ce != ce {
        if cx.tp.ack.is_delayed() {
            set_echo(cx, before.ce);
            control::send_ack_of(cx, before.rcv_nxt);
        }
        cx.tp.ack.ack_now();
    }
    cx.tp.rare_mut().ece_echo = EceEcho { ce, rcv_nxt: cx.tp.rcv_nxt };
    set_echo(cx, ce);
}

fn set_echo(cx: &mut Cx<'_>, ce: bool) {
    cx.tp.ecn.demand_cwr = ce;
}

/// The peer has reduced its window: the echo ends. Data that says so is acknowledged at once, for that window may be
/// one segment (RFC 3168 §6.1.3; tcp_ecn_accept_cwr).
#[inline]
pub(super) fn accept_cwr(cx: &mut Cx<'_>, seg: &Seg) {
    if cx.tp.ecn.is_rfc3168() && seg.flags.contains(TcpFlags::CWR) {
        cx.tp.ecn.demand_cwr = false;
        if seg.seq != seg.end_seq {
            cx.tp.ack.ack_now();
        }
    }
}

/// Whether an acknowledgement echoes a mark (tcp_ecn_rcv_ecn_echo).
#[inline]
pub(super) fn rcv_ecn_echo(ecn: &EcnState, seg: &Seg) -> bool {
    seg.flags.contains(TcpFlags::ECE) && !seg.flags.contains(TcpFlags::SYN) && ecn.is_rfc3168()
}

// ---- What leaves.

/// The window was reduced: the next new data tells the peer by CWR (tcp_ecn_queue_cwr).
pub(super) fn queue_cwr(cx: &mut Cx<'_>) {
    cx.tp.ecn.queue_cwr |= cx.tp.ecn.is_rfc3168();
}

/// The reduction was undone: no CWR (tcp_ecn_withdraw_cwr).
pub(super) fn withdraw_cwr(cx: &mut Cx<'_>) {
    cx.tp.ecn.queue_cwr = false;
}

/// The codepoint of a time-wait record's acknowledgements: that of the connection's, without an ACE field. Departure:
/// after ECN of RFC 3168 it is none, where Linux has that of the connection's last segment.
pub(super) fn timewait_codepoint(tp: &TcpSock) -> u8 {
    if tp.ecn.is_accurate() { codepoint_accurate(tp.ecn_counters()) } else { 0 }
}

/// ECT(0) as long as the peer's feedback can be believed (RFC 9768 §3.2.2.3).
fn codepoint_accurate(c: &Counters) -> u8 {
    if c.fail & (fail::ACE_SEND | fail::ACE_RECV) == 0 { ECT_0 } else { 0 }
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

/// The ECN flags of a segment that is no SYN. Returns the codepoint of its IP header (tcp_ecn_send).
#[inline]
pub(super) fn send(cx: &mut Cx<'_>, seq: SeqNum, payload: u64, flags: &mut TcpFlags) -> u8 {
    match cx.tp.ecn.mode {
        EcnMode::Off | EcnMode::Pending => 0,
        EcnMode::Rfc3168 => send_rfc3168(cx, seq, payload, flags),
        EcnMode::Accurate => send_accurate(cx, flags),
    }
}

/// ECE and CWR. Only new data is ECN-capable (RFC 3168 §6.1.4, §6.1.5).
#[inline]
fn send_rfc3168(cx: &mut Cx<'_>, seq: SeqNum, payload: u64, flags: &mut TcpFlags) -> u8 {
    let mut codepoint = 0;
    if payload > 0 && !seq.before(cx.tp.snd_nxt) {
        codepoint = ECT_0;
        if cx.tp.ecn.queue_cwr {
            cx.tp.ecn.queue_cwr = false;
            flags.insert(TcpFlags::CWR);
        }
    } else if cx.tp.ca.ops.needs_ecn() {
        // ECN-based algorithms (DCTCP) need ECT on every packet.
        codepoint = ECT_0;
    }
    if cx.tp.ecn.demand_cwr {
        flags.insert(TcpFlags::ECE);
    }
    codepoint
}

/// The ACE field, unless the segment reflects a codepoint of the handshake. All segments are ECN-capable,
/// acknowledgements and retransmissions, too, as long as the peer's feedback can be believed (RFC 9768 §3.2.2.3).
fn send_accurate(cx: &mut Cx<'_>, flags: &mut TcpFlags) -> u8 {
    let c = cx.tp.ecn_counters_mut();
    if !flags.intersects(ace::FLAGS) {
        flags.insert(ace::flags_of(ace::on_wire(c.received_ce)));
        c.received_ce_pending = 0;
    }
    codepoint_accurate(c)
}
