//! The AccECN option (RFC 9768 §3.2.3): counters of 24 bits, of payload bytes by the codepoint they arrived with. Ours
//! is of order 1, ECT(1) first, and is cut behind the last counter that has changed where room is short. Above: `ace`,
//! `negotiation`, `segment`. Below: `wire::tcp_options`. Linux: tcp_options_fit_accecn, tcp_accecn_process_option,
//! tcp_accecn_option_beacon_check.

use super::super::ack::flag;
use super::super::input::Seg;
use super::super::tcb::{Cx, TcpSock};
use super::{Counters, OptSeen, fail};
use crate::base::env::Instant;
use crate::wire::ip::Ecn;
use crate::wire::seq::SeqNum;
use crate::wire::tcp_options::{AccEcn, EstablishedOptions};

/// Places in arrays of counters: by codepoint, less one.
pub(super) const ECT_1: usize = Ecn::Ect1 as usize - 1;
pub(super) const ECT_0: usize = Ecn::Ect0 as usize - 1;
pub(super) const CE: usize = Ecn::Ce as usize - 1;
/// What counters of no byte show, as in the arrays: those of ECT are not 0, so that a path that zeroes options is found
/// (RFC 9768 §3.2.1).
const INIT: [u32; 3] = [1, 1, 0];
/// Bits of a counter on the wire.
const FIELD: u32 = 0xff_ffff;
/// A counter is told at least once in so many bytes, well before it can wrap unseen.
const TELL_EVERY_BITS: u32 = 22;
/// Bytes sent after which the peer's first option comes too late: a counter may have wrapped.
const TOO_LATE: u64 = (1 << 23) - 1;

/// The option of a SYN-ACK: nothing was counted yet.
pub(super) const OF_SYN_ACK: AccEcn = AccEcn { order1: true, len: 3, fields: [INIT[ECT_1], INIT[CE], INIT[ECT_0]] };

/// Places of the counters of an option.
fn places(order1: bool) -> [usize; 3] {
    if order1 { [ECT_1, CE, ECT_0] } else { [ECT_0, CE, ECT_1] }
}

/// What the peer's first option tells: whether it passed the path as it was sent (RFC 9768 §3.2.3.2.4;
/// tcp_accecn_option_init).
pub(super) fn first(o: &AccEcn) -> OptSeen {
    match o.len {
        0 => OptSeen::Empty,
        n if o.fields[0] == 0 || n >= 3 && o.fields[2] == 0 => OptSeen::Fail,
        _ => OptSeen::Counter,
    }
}

impl Counters {
    /// Notes the peer's first option (tcp_accecn_saw_opt_fail_recv).
    pub(super) fn see_option(&mut self, seen: OptSeen) {
        self.saw_opt = seen;
        if seen == OptSeen::Fail {
            self.fail |= fail::OPT_RECV;
        }
    }

    /// `len` payload bytes arrived with a codepoint that is ECN-capable.
    pub(super) fn count_bytes(&mut self, codepoint: u8, len: u32) {
        let at = usize::from(codepoint) - 1;
        let before = self.received_bytes[at];
        let after = before.wrapping_add(len);
        self.received_bytes[at] = after;
        let field = places(true).iter().position(|p| *p == at).unwrap_or(0);
        self.minlen = self.minlen.max(field as u8 + 1);
        if (before ^ after) >> TELL_EVERY_BITS != 0 {
            self.demand(1);
        }
    }

    /// At least `n` of the next segments are to have an option (tcp_accecn_opt_demand_min).
    pub(super) fn demand(&mut self, n: u8) {
        self.opt_demand = self.opt_demand.max(n);
    }
}

// ---- What leaves.

/// Puts the option into those of a segment, if it is to have one and there is room. It yields to the others, except
/// that of three SACK blocks or more the last ones go, where that makes room for counters that have changed
/// (tcp_options_fit_accecn).
pub(in crate::tcp) fn established_option(cx: &Cx<'_>, now: Instant, o: &mut EstablishedOptions) {
    let c = cx.tp.ecn_counters();
    if !cx.tp.ecn.is_accurate() || c.saw_opt == OptSeen::None {
        return;
    }
    let due = match cx.stack.sysctl.tcp_ecn_option() {
        0 => false,
        // However often it was lost.
        3 => true,
        _ if c.fail & fail::OPT_SEND != 0 => false,
        1 => c.opt_demand > 0 || beacon(cx, now),
        _ => true,
    };
    if !due {
        return;
    }
    let counters = std::array::from_fn(|i| {
        let at = places(true)[i];
        c.received_bytes[at].wrapping_add(INIT[at]) & FIELD
    });
    fit(o, counters, c.minlen);
}

/// With at least `required` counters.
pub(super) fn fit(o: &mut EstablishedOptions, fields: [u32; 3], required: u8) {
    let all = o.sack;
    loop {
        let found = (required..=3).rev().find(|len| o.fits(&AccEcn { order1: true, len: *len, fields }));
        if let Some(len) = found {
            o.accecn = Some(AccEcn { order1: true, len, fields });
            return;
        }
        if required == 0 || o.sack.len() <= 2 {
            break;
        }
        o.sack.truncate(o.sack.len() - 1);
    }
    // In vain: the blocks come back.
    o.sack = all;
}

/// Whether the last option was sent so long ago that the next segment has one: `tcp_ecn_option_beacon` options a round
/// trip (RFC 9768 §3.2.3.3).
fn beacon(cx: &Cx<'_>, now: Instant) -> bool {
    let per_round = cx.stack.sysctl.tcp_ecn_option_beacon().max(0) as u64;
    let since = (now - cx.tp.ecn_counters().opt_tstamp).as_micros().min(u128::from(u32::MAX)) as u64;
    per_round != 0 && since * per_round >= u64::from(cx.tp.srtt_us >> 3)
}

/// A segment leaves, `with` an option or without. To be called before the duplicate that it tells of is forgotten.
pub(in crate::tcp) fn sent(cx: &mut Cx<'_>, with: bool) {
    if !cx.tp.ecn.is_accurate() {
        return;
    }
    let duplicate = cx.tp.sack.as_ref().and_then(|s| s.duplicate_sack).map(|d| d.start);
    let now = cx.now;
    let c = cx.tp.ecn_counters_mut();
    c.told_duplicate = duplicate.filter(|_| with);
    if with {
        c.minlen = 0;
        c.opt_tstamp = now;
        c.opt_demand = c.opt_demand.saturating_sub(1);
    }
}

// ---- What arrives.

/// Data from `seq` on arrives that was received before. If the last segment said so already, and had an option, it was
/// probably lost for that, on a path that drops options it does not know: then no more are sent (RFC 9768 §3.2.3.2.2;
/// tcp_rcv_spurious_retrans of Linux 7.0, which 6.18 does not have).
pub(in crate::tcp) fn arrives_again(tp: &mut TcpSock, seq: SeqNum) {
    if tp.ecn.is_accurate() && tp.ecn_counters().told_duplicate == Some(seq) {
        tp.ecn_counters_mut().fail |= fail::OPT_SEND;
    }
}

/// Takes the counters of an acknowledgement that delivers `bytes`. True: `delivered_bytes` has grown by just these
/// bytes, so that those marked are known. Without an option they are counted by the codepoint that alone arrived of
/// late (tcp_accecn_process_option).
pub(super) fn process(cx: &mut Cx<'_>, seg: &Seg, bytes: u32, flags: u32) -> bool {
    let bytes_sent = cx.tp.bytes_sent;
    let c = cx.tp.ecn_counters_mut();
    if c.fail & fail::OPT_RECV != 0 {
        return false;
    }
    let Some(o) = seg.accecn.filter(|_| flags & flag::SLOWPATH != 0) else {
        if c.saw_opt == OptSeen::None {
            if bytes_sent >= TOO_LATE {
                c.see_option(OptSeen::Fail);
            }
            return false;
        }
        let known = c.est_ecnfield != 0;
        if known {
            let n = &mut c.delivered_bytes[usize::from(c.est_ecnfield) - 1];
            *n = n.wrapping_add(bytes);
        }
        return known;
    };
    if c.saw_opt < OptSeen::Counter {
        c.see_option(first(&o));
    }
    take(c, &o)
}

/// Takes the counters of an option. True: only the codepoint that was known to arrive alone has grown.
fn take(c: &mut Counters, o: &AccEcn) -> bool {
    let estimate = c.est_ecnfield;
    let (mut known, mut ambiguous, mut changed) = (estimate != 0, false, false);
    for (at, field) in places(o.order1).into_iter().zip(o.fields).take(usize::from(o.len)) {
        let delta = advance(&mut c.delivered_bytes[at], field, INIT[at]);
        let codepoint = at as u8 + 1;
        let other = delta != 0 && codepoint != estimate;
        if delta < 0 || other && changed {
            (known, ambiguous) = (false, true);
        }
        if other && !changed {
            c.est_ecnfield = codepoint;
            changed = true;
        }
    }
    if ambiguous {
        c.est_ecnfield = 0;
    }
    known
}

/// Moves a counter to what 24 bits on the wire show, by the shorter way. Returns how far: back where we have estimated
/// too much.
fn advance(counter: &mut u32, field: u32, init: u32) -> i32 {
    let delta = field.wrapping_sub(init).wrapping_sub(*counter) & FIELD;
    let delta = (delta << 8) as i32 >> 8;
    *counter = counter.wrapping_add_signed(delta);
    delta
}
