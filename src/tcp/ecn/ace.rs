//! The ACE field (RFC 9768 §3.2.2): the flags AE, CWR and ECE are a counter of three bits, of CE-marked segments. What
//! arrives with a mark is counted (r.cep), and what the peer has counted is found from its counter, which may have
//! wrapped (s.cep; RFC 9768 §3.2.2.5). Above: `input`, `ack`. Below: `option`, whose bytes tell how often it wrapped.
//! Linux: tcp_ecn_received_counters, tcp_accecn_process.

use super::super::ack::flag;
use super::super::input::{self, Seg};
use super::super::sack;
use super::super::tcb::{CaState, Cx};
use super::option::{self, CE};
use super::{Counters, EcnState, MASK};
use crate::wire::ip::Ecn;
use crate::wire::tcp::TcpFlags;

/// The flags that are the field.
pub(super) const FLAGS: TcpFlags = TcpFlags::AE.union(TcpFlags::CWR).union(TcpFlags::ECE);
/// What a counter of no mark shows: not 0, so that a path that clears the flags is found (RFC 9768 §3.2.1).
const INIT: u32 = 5;
/// Bits of the field.
const FIELD: u32 = 7;
/// Marked segments that the peer was not told of at which an acknowledgement leaves at once (RFC 9768 §3.2.2.5.1
/// allows 2 to 6).
const MAX_PENDING: u8 = 6;
/// Binary digits of the mean of segments that an acknowledgement delivers, and of the weight of the mean before.
const MEAN_BITS: u32 = 6;
/// With a greater mean than this, acknowledgements of many segments are usual.
const THINNED: u16 = 4 << MEAN_BITS;
/// Most marked segments that are noted as not yet told.
const PENDING_LIMIT: u32 = 15;

/// The field of these flags.
#[inline]
pub(super) fn of(flags: TcpFlags) -> u8 {
    (flags.bits() >> 6 & FIELD as u16) as u8
}

/// The flags of a field.
#[inline]
pub(super) fn flags_of(ace: u8) -> TcpFlags {
    TcpFlags::from_bits((u16::from(ace) & FIELD as u16) << 6)
}

/// The field that tells of `ce` marked segments.
#[inline]
pub(super) fn on_wire(ce: u32) -> u8 {
    (ce.wrapping_add(INIT) & FIELD) as u8
}

impl EcnState {
    /// The ACE field that header prediction expects while no further mark is reported; 0 where there is no such field.
    #[inline]
    pub(in crate::tcp) fn expected_flags(&self, delivered_ce: u32) -> TcpFlags {
        if self.is_accurate() { flags_of(on_wire(delivered_ce)) } else { TcpFlags::NONE }
    }
}

/// Counts a segment that has passed the checks, with `len` bytes of payload, by its codepoint. A codepoint other than
/// the last one's is told to the peer at once, and in two options (RFC 9768 §3.2.3.3; tcp_ecn_received_counters).
#[inline]
pub(in crate::tcp) fn received(cx: &mut Cx<'_>, seg: &Seg, len: u32) {
    if (seg.dsfield | cx.tp.ecn.prev_ecnfield) & MASK != 0 {
        count(cx, seg.dsfield & MASK, u32::from(seg.rx_segs.max(1)), len);
    }
}

pub(super) fn count(cx: &mut Cx<'_>, codepoint: u8, segs: u32, len: u32) {
    let is_ce = codepoint == Ecn::Ce as u8;
    if codepoint != Ecn::NotEct as u8 {
        cx.tp.ecn.seen |= !cx.tp.ecn.is_rfc3168();
        if is_ce {
            cx.tp.ecn_counters_mut().add_received_ce(segs);
        }
        if len > 0 {
            cx.tp.ecn_counters_mut().count_bytes(codepoint, len);
        }
    }
    let e = &mut cx.tp.ecn;
    let edge = e.prev_ecnfield != codepoint;
    e.prev_ecnfield = codepoint;
    if (edge || is_ce) && e.is_accurate() {
        cx.tp.ecn_counters_mut().opt_demand = 2;
        if edge {
            cx.tp.ack.ack_now();
        }
    }
}

impl Counters {
    /// `segs` marked segments have arrived.
    pub(super) fn add_received_ce(&mut self, segs: u32) {
        self.received_ce = self.received_ce.wrapping_add(segs);
        self.received_ce_pending = u32::from(self.received_ce_pending).saturating_add(segs).min(PENDING_LIMIT) as u8;
    }
}

impl Counters {
    /// An acknowledgement has delivered `pkts` segments.
    pub(super) fn count_acked(&mut self, pkts: u32) {
        let (mean, new) = (u32::from(self.pkts_acked_ewma), pkts.min(u32::from(u16::MAX)) << MEAN_BITS);
        let mean = match (mean, new) {
            (mean, 0) => mean,
            (0, new) => new,
            (mean, new) => ((mean << MEAN_BITS) - mean + new) >> MEAN_BITS,
        };
        self.pkts_acked_ewma = mean.min(u32::from(u16::MAX)) as u16;
    }
}

/// What an acknowledgement has delivered.
#[derive(Debug, Clone, Copy)]
pub(in crate::tcp) struct Delivered {
    /// Segments.
    pub pkts: u32,
    /// Bytes.
    pub bytes: u32,
}

/// Reads the feedback of an acknowledgement, which belongs to flags of `ack::flag`. Returns the number of segments that
/// the peer newly reports as marked, and adds them to `delivered_ce`; with any, the acknowledgement echoes congestion
/// (tcp_accecn_process).
pub(in crate::tcp) fn process(cx: &mut Cx<'_>, seg: &Seg, delivered: Delivered, flags: &mut u32) -> u32 {
    if !cx.tp.ecn.is_accurate() {
        return 0;
    }
    let delta = ce_delta(cx, seg, delivered, *flags);
    if delta > 0 {
        cx.tp.cold_mut().delivered_ce = cx.tp.delivered_ce.wrapping_add(delta);
        *flags |= flag::ECE;
        // The predicted header has the new count.
        if cx.tp.pred_flags != 0 {
            input::fast_path_on(cx);
        }
    }
    delta
}

/// How far the peer's counter of marked segments has moved. Three bits tell it modulo 8. An acknowledgement of more
/// segments than that may have wrapped it: then the greatest number that fits is taken, unless the bytes in the option
/// contradict, or such acknowledgements are usual and the option is missing (RFC 9768 §3.2.2.5.2 and Appendix A.2). The
/// latter Linux has since 7.0; with 6.18 each of them would be congestion.
fn ce_delta(cx: &mut Cx<'_>, seg: &Seg, delivered: Delivered, flags: u32) -> u32 {
    // An acknowledgement that was overtaken by a later one has an old counter. One that acknowledges nothing new, and
    // has no later timestamp, may be such a one.
    if flags & (flag::FORWARD_PROGRESS | flag::TS_PROGRESS) == 0 {
        return 0;
    }
    let bytes_before = cx.tp.ecn_counters().delivered_bytes[CE];
    let bytes_known = option::process(cx, seg, delivered.bytes, flags);
    // Departure: a client of Linux 7.0 takes its SYN for an acknowledgement of one segment, so that dozens of long ones
    // must follow until they are usual.
    if flags & flag::SYN_ACKED == 0 {
        cx.tp.ecn_counters_mut().count_acked(delivered.pkts);
    }
    // A predicted header has the expected field, and can only hide whole rounds of the counter.
    if flags & flag::SLOWPATH == 0 && delivered.pkts <= FIELD {
        return 0;
    }
    // The SYN-ACK's field is no counter.
    if flags & flag::SYN_ACKED != 0 {
        return 0;
    }
    if cx.tp.ecn_counters().received_ce_pending >= MAX_PENDING {
        cx.tp.ack.ack_now();
    }
    if cx.tp.ecn_counters().deaf {
        return 0;
    }
    let counter = u32::from(of(seg.flags)).wrapping_sub(INIT);
    let delta = counter.wrapping_sub(cx.tp.delivered_ce) & FIELD;
    if delivered.pkts <= FIELD {
        return delta;
    }
    let safe = delivered.pkts - (delivered.pkts.wrapping_sub(delta) & FIELD);
    if !bytes_known {
        return if cx.tp.ecn_counters().pkts_acked_ewma > THINNED { delta } else { safe };
    }
    let ce_bytes = cx.tp.ecn_counters().delivered_bytes[CE].wrapping_sub(bytes_before);
    let in_order = sack::is_sack(cx.tp) || matches!(cx.tp.ca_state, CaState::Open | CaState::Cwr);
    by_bytes(&Wrapped { delta, safe, ce_bytes, delivered, mss: cx.tp.mss_cache, in_order })
}

/// A counter that may have wrapped, and what the option says of the same time.
struct Wrapped {
    /// Movement of the counter modulo 8.
    delta: u32,
    /// The greatest movement that the number of segments allows.
    safe: u32,
    /// Bytes that were marked.
    ce_bytes: u32,
    delivered: Delivered,
    mss: u32,
    /// The number of segments delivered can be trusted.
    in_order: bool,
}

/// Chooses the number of wraps by the marked bytes (RFC 9768 Appendix A.2.2).
fn by_bytes(w: &Wrapped) -> u32 {
    let Delivered { pkts, bytes } = w.delivered;
    if w.ce_bytes == 0 {
        return w.delta;
    }
    if pkts >= 2 * (FIELD + 1) && w.in_order {
        if bytes <= w.ce_bytes {
            return w.safe;
        }
        // Segments in proportion to bytes.
        let estimate = (u64::from(w.ce_bytes) * u64::from(pkts)).div_ceil(u64::from(bytes)) as u32;
        return w.safe.min(w.delta + (estimate & !FIELD));
    }
    if w.ce_bytes > w.delta.saturating_mul(w.mss) {
        return w.safe;
    }
    // The safety factor of two: so few bytes cannot be so many segments.
    if w.ce_bytes < w.safe.saturating_mul(w.mss) / 2 {
        return w.delta;
    }
    w.safe
}
