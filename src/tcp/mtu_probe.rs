//! Path MTU probing (RFC 4821): segments larger than the MSS are sent as probes, so that the path's MTU is found
//! without ICMP, and where ICMP is dropped (a black hole) the MSS falls until segments pass. Above: `xmit` (probes
//! leave), `ack`, `recovery`, `retransmit` (what became of them), `timer` (black holes). Below: `mtu`. Linux:
//! tcp_mtu_probe, tcp_mtup_init, tcp_mtu_probing.

use super::mtu::{self, current_mss, mss_to_mtu, mtu_to_mss, net_header_len};
use super::output::{current_ssthresh, packets_in_flight, wnd_end};
use super::segment::transmit_skb;
use super::tcb::{CaState, Cx};
use super::{cong, xmit};
use crate::base::env::Instant;
use crate::counters::Mib;
use crate::sock::skb::Skb;
use crate::wire::seq::SeqNum;
use crate::wire::tcp::HEADER_LEN;

/// Least window in which a probe is sent, segments: its loss must show by duplicates, not by a timeout (RFC 4821 §7.4).
const MIN_CWND: u32 = 11;

/// The search for the path's MTU (icsk_mtup, mtu_probe). Sizes are of whole packets, bytes.
#[derive(Debug)]
pub(crate) struct MtuProbing {
    /// The largest size that the path may carry, and the largest that it is known to carry.
    search_high: u32,
    search_low: u32,
    /// The probe in flight.
    probe: Option<InFlight>,
    /// When the search began, or began again.
    began: Instant,
}

#[derive(Debug, Clone, Copy)]
struct InFlight {
    size: u32,
    start: SeqNum,
    end: SeqNum,
}

/// What became of a look for something to probe with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Probe {
    /// No probe now: ordinary sending goes on.
    None,
    /// A probe would be possible soon: nothing is sent until it is.
    Wait,
    /// One left.
    Sent,
}

/// A connection begins, or its options are known: the search begins where `net.ipv4.tcp_mtu_probing` says always
/// (tcp_mtup_init).
pub(super) fn init(cx: &mut Cx<'_>) {
    if let Some(cold) = &mut cx.tp.cold {
        cold.mtu_probing = None;
    }
    if cx.stack.sysctl.tcp_mtu_probing() > 1 {
        enable(cx);
    }
}

fn enable(cx: &mut Cx<'_>) {
    let base = cx.stack.sysctl.tcp_base_mss().max(0) as u32;
    let probing = MtuProbing { search_high: largest(cx), search_low: mss_to_mtu(cx, base), probe: None, began: cx.now };
    cx.tp.cold.get_or_insert_default().mtu_probing = Some(probing);
}

/// The packet that the peer's MSS allows.
fn largest(cx: &Cx<'_>) -> u32 {
    u32::from(cx.tp.rx_opt.mss_clamp) + HEADER_LEN as u32 + net_header_len(cx)
}

/// The path's MTU is `pmtu` for all we know otherwise: the search stays below it. Returns the size that segments are
/// held to until a probe has passed.
pub(super) fn limit(cx: &mut Cx<'_>, pmtu: u32) -> Option<u32> {
    let p = cx.tp.mtu_probing_mut()?;
    p.search_high = p.search_high.min(pmtu);
    Some(p.search_low)
}

/// Sends a probe if the search goes on, enough data waits, and windows have room for the probe and for the segments
/// behind it whose acknowledgements would show its loss (tcp_mtu_probe).
pub(super) fn mtu_probe(cx: &mut Cx<'_>) -> Probe {
    let Some(p) = cx.tp.mtu_probing() else { return Probe::None };
    let (low, high) = (p.search_low, p.search_high);
    let dsack_due = cx.tp.sack.as_ref().is_some_and(|s| s.duplicate_sack.is_some());
    if p.probe.is_some()
        || cx.tp.ca_state != CaState::Open
        || cx.tp.snd_cwnd < MIN_CWND
        || !cx.tp.ooo_queue.is_empty()
        || dsack_due
    {
        return Probe::None;
    }
    let size = mtu_to_mss(cx, low.midpoint(high));
    let needed = size.saturating_add((cx.tp.reordering.saturating_add(1)).saturating_mul(cx.tp.mss_cache));
    let narrow = i64::from(high) - i64::from(low) < i64::from(cx.stack.sysctl.tcp_probe_threshold());
    if size > mtu_to_mss(cx, high) || narrow {
        search_again(cx);
        return Probe::None;
    }
    if cx.tp.write_seq.since(cx.tp.snd_nxt) < needed || cx.tp.snd_wnd < needed {
        return Probe::None;
    }
    if (cx.tp.snd_nxt + needed).after(wnd_end(cx.tp)) {
        return Probe::Wait;
    }
    if packets_in_flight(cx.tp) + 2 > cx.tp.snd_cwnd {
        return Probe::Wait;
    }
    match take(cx, size) {
        Some(skb) => send(cx, skb),
        None => Probe::None,
    }
}

/// One packet of `size` bytes from the head of the unsent queue; None: packets there must not be joined.
fn take(cx: &mut Cx<'_>, size: u32) -> Option<Skb> {
    let mut skb = cx.tp.write_queue.pop_front()?;
    if skb.len() as u32 > size {
        xmit::split_head(cx, &mut skb, size, size);
    }
    while (skb.len() as u32) < size {
        let missing = size - skb.len() as u32;
        xmit::grow_skb(cx, &mut skb, missing);
        if size - skb.len() as u32 == missing {
            cx.tp.write_queue.push_front(skb);
            return None;
        }
    }
    xmit::set_tso_segs(&mut skb, size);
    Some(skb)
}

fn send(cx: &mut Cx<'_>, mut skb: Skb) -> Probe {
    if transmit_skb(cx, &mut skb).is_err() {
        cx.tp.write_queue.push_front(skb);
        return Probe::None;
    }
    // The probe is about two segments in one: its loss must not look like room for more.
    cong::set_cwnd(cx.tp, cx.tp.snd_cwnd - 1);
    let sent = InFlight { size: mss_to_mtu(cx, skb.len() as u32), start: skb.tcp.seq, end: skb.tcp.end_seq };
    xmit::event_new_data_sent(cx, skb);
    if let Some(p) = cx.tp.mtu_probing_mut() {
        p.probe = Some(sent);
    }
    Probe::Sent
}

/// The search is over: after `net.ipv4.tcp_probe_interval` it begins again, for paths change (tcp_mtu_check_reprobe).
fn search_again(cx: &mut Cx<'_>) {
    let interval = cx.stack.sysctl.tcp_probe_interval();
    if cx.tp.mtu_probing().is_none_or(|p| cx.now - p.began < interval) {
        return;
    }
    let mss = current_mss(cx);
    let (high, low) = (largest(cx), mss_to_mtu(cx, mss));
    let began = cx.now;
    cx.tp.cold.get_or_insert_default().mtu_probing =
        Some(MtuProbing { search_high: high, search_low: low, probe: None, began });
}

/// Data was acknowledged: with the probe's, its size passes, and becomes the MSS. The window keeps its bytes
/// (tcp_mtup_probe_success).
pub(super) fn acked(cx: &mut Cx<'_>) {
    let una = cx.tp.snd_una;
    let Some(p) = cx.tp.mtu_probing_mut() else { return };
    let Some(passed) = p.probe.take_if(|probe| !probe.end.after(una)) else { return };
    p.search_low = passed.size;
    let bytes = u64::from(cx.tp.snd_cwnd) * u64::from(cx.tp.mss_cache);
    let segments = bytes / u64::from(mtu_to_mss(cx, passed.size));
    cong::set_cwnd(cx.tp, segments as u32);
    cx.tp.snd_cwnd_cnt = 0;
    cx.tp.snd_cwnd_stamp_ms = cx.now.as_millis() as u32;
    cx.tp.snd_ssthresh = current_ssthresh(cx.tp);
    mtu::sync_mss(cx, cx.tp.pmtu_cookie);
    cx.stack.mib.inc(Mib::TcpExtTCPMTUPSuccess);
}

/// A loss was detected. True: it is the probe's, which was too large; that says nothing of congestion
/// (tcp_mtup_probe_failed).
pub(super) fn lost(cx: &mut Cx<'_>) -> bool {
    let una = cx.tp.snd_una;
    let Some(p) = cx.tp.mtu_probing_mut() else { return false };
    let Some(failed) = p.probe.take_if(|probe| probe.start == una) else { return false };
    p.search_high = failed.size - 1;
    cx.stack.mib.inc(Mib::TcpExtTCPMTUPFail);
    cong::set_cwnd(cx.tp, cx.tp.snd_cwnd + 1);
    true
}

/// Something is sent again: whatever comes of the probe now says nothing.
#[inline]
pub(super) fn inconclusive(cx: &mut Cx<'_>) {
    if let Some(p) = cx.tp.mtu_probing_mut() {
        p.probe = None;
    }
}

/// R1 is reached: full segments may vanish in a black hole (RFC 2923 §2.1). The search begins, or the MSS is halved,
/// down to its floor (tcp_mtu_probing).
pub(super) fn black_hole(cx: &mut Cx<'_>) {
    let sysctl = &cx.stack.sysctl;
    if sysctl.tcp_mtu_probing() == 0 {
        return;
    }
    match cx.tp.mtu_probing() {
        None => enable(cx),
        Some(p) => {
            let half = i64::from(mtu_to_mss(cx, p.search_low) >> 1);
            let mss = half.min(sysctl.tcp_base_mss().into());
            let mss = mss.max(sysctl.tcp_mtu_probe_floor().into()).max(sysctl.tcp_min_snd_mss().into()) as u32;
            let low = mss_to_mtu(cx, mss);
            if let Some(p) = cx.tp.mtu_probing_mut() {
                p.search_low = low;
            }
        }
    }
    mtu::sync_mss(cx, cx.tp.pmtu_cookie);
}
