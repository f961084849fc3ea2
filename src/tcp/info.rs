//! `struct tcp_info`, bit for bit as Linux 6.18 fills it. Above: `sockopt`. Linux: tcp_get_info,
//! include/uapi/linux/tcp.h.

use super::chrono;
use super::tcb::{Cx, TcpSock};
use super::{output, rtt};
use crate::sock::state::State;

/// Bytes of `struct tcp_info` in Linux 6.18. A program built against an older header asks for fewer and gets the front.
pub const TCP_INFO_LEN: usize = 280;

/// The fields of the structure in order, without `tcpi_`, each with its bytes: for listings. A name that begins with a
/// dash is padding, or a field that nothing fills. The shifts of the windows are one octet.
pub(crate) const FIELDS: &[(&str, usize)] = &[
    ("state", 1),
    ("ca_state", 1),
    ("retransmits", 1),
    ("probes", 1),
    ("backoff", 1),
    ("options", 1),
    ("wscales", 1),
    ("delivery_rate_app_limited", 1),
    ("rto", 4),
    ("ato", 4),
    ("snd_mss", 4),
    ("rcv_mss", 4),
    ("unacked", 4),
    ("sacked", 4),
    ("lost", 4),
    ("retrans", 4),
    ("-fackets", 4),
    ("last_data_sent", 4),
    ("-last_ack_sent", 4),
    ("last_data_recv", 4),
    ("last_ack_recv", 4),
    ("pmtu", 4),
    ("rcv_ssthresh", 4),
    ("rtt", 4),
    ("rttvar", 4),
    ("snd_ssthresh", 4),
    ("snd_cwnd", 4),
    ("advmss", 4),
    ("reordering", 4),
    ("rcv_rtt", 4),
    ("rcv_space", 4),
    ("total_retrans", 4),
    ("pacing_rate", 8),
    ("max_pacing_rate", 8),
    ("bytes_acked", 8),
    ("bytes_received", 8),
    ("segs_out", 4),
    ("segs_in", 4),
    ("notsent_bytes", 4),
    ("min_rtt", 4),
    ("data_segs_in", 4),
    ("data_segs_out", 4),
    ("delivery_rate", 8),
    ("busy_time", 8),
    ("rwnd_limited", 8),
    ("sndbuf_limited", 8),
    ("delivered", 4),
    ("delivered_ce", 4),
    ("bytes_sent", 8),
    ("bytes_retrans", 8),
    ("dsack_dups", 4),
    ("reord_seen", 4),
    ("rcv_ooopack", 4),
    ("snd_wnd", 4),
    ("rcv_wnd", 4),
    ("rehash", 4),
    ("total_rto", 2),
    ("total_rto_recoveries", 2),
    ("total_rto_time", 4),
    ("received_ce", 4),
    ("delivered_e1_bytes", 4),
    ("delivered_e0_bytes", 4),
    ("delivered_ce_bytes", 4),
    ("received_e1_bytes", 4),
    ("received_e0_bytes", 4),
    ("received_ce_bytes", 4),
    ("accecn_fail_mode", 2),
    ("accecn_opt_seen", 2),
];

const OPT_TIMESTAMPS: u8 = 1;
const OPT_SACK: u8 = 2;
const OPT_WSCALE: u8 = 4;
const OPT_ECN: u8 = 8;
const OPT_ECN_SEEN: u8 = 16;
const OPT_SYN_DATA: u8 = 32;

/// Writes fields in order.
struct Out {
    buf: [u8; TCP_INFO_LEN],
    at: usize,
}

impl Out {
    fn put(&mut self, bytes: &[u8]) {
        self.buf[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }
    fn u16(&mut self, n: u16) {
        self.put(&n.to_ne_bytes())
    }
    fn u32(&mut self, n: u32) {
        self.put(&n.to_ne_bytes())
    }
    fn u64(&mut self, n: u64) {
        self.put(&n.to_ne_bytes())
    }
}

/// Bytes a second that the last rate sample delivered (tcp_compute_delivery_rate).
pub(super) fn delivery_rate(tp: &TcpSock) -> u64 {
    if tp.rate_delivered == 0 || tp.rate_interval_us == 0 {
        return 0;
    }
    u64::from(tp.rate_delivered) * u64::from(tp.mss_cache) * 1_000_000 / u64::from(tp.rate_interval_us)
}

/// tcpi_options and the octet of the two window shifts.
fn agreed_options(tp: &TcpSock) -> (u8, u8) {
    let mut options = 0;
    for (set, bit) in [
        (tp.rx_opt.tstamp_ok, OPT_TIMESTAMPS),
        (tp.rx_opt.sack_ok != 0, OPT_SACK),
        (tp.rx_opt.wscale_ok, OPT_WSCALE),
        (tp.ecn.is_ok(), OPT_ECN),
        (tp.ecn.is_seen(), OPT_ECN_SEEN),
        (tp.syn_data_acked(), OPT_SYN_DATA),
    ] {
        if set {
            options |= bit;
        }
    }
    let shifts = match tp.rx_opt.wscale_ok {
        true => tp.rx_opt.snd_wscale.get() | tp.rx_opt.rcv_wscale.get() << 4,
        false => 0,
    };
    (options, shifts)
}

/// What a listener reports: its queues, in the places of unacked and sacked, and what its children begin with.
fn listener_info(cx: &Cx<'_>, mut o: Out, pacing: u64) -> [u8; TCP_INFO_LEN] {
    o.at = 24;
    o.u32(cx.sk.ack_backlog);
    o.u32(cx.sk.max_ack_backlog);
    o.at = 80;
    o.u32(cx.tp.snd_cwnd);
    o.at = 88;
    o.u32(cx.tp.reordering);
    o.at = 104;
    o.u64(pacing);
    o.u64(cx.sk.max_pacing_rate);
    o.buf
}

/// The structure for the connection now.
pub fn tcp_info(cx: &Cx<'_>) -> [u8; TCP_INFO_LEN] {
    let tp = &*cx.tp;
    let state = cx.state();
    let listen = state == State::Listen;
    let now_ms = cx.now.as_millis() as u32;
    let ms_since = |t: u32| now_ms.wrapping_sub(t);
    let mut o = Out { buf: [0; TCP_INFO_LEN], at: 0 };
    let (options, shifts) = agreed_options(tp);
    let head = [
        state as u8,
        if listen { 0 } else { tp.ca_state as u8 },
        if listen { 0 } else { tp.retransmits },
        if listen { 0 } else { tp.probes_out },
        if listen { 0 } else { tp.backoff },
        if listen { 0 } else { options },
        if listen { 0 } else { shifts },
        if listen { 0 } else { u8::from(tp.rate_app_limited) | (tp.fastopen_client_fail() as u8) << 1 },
    ];
    o.put(&head);
    let pacing = if tp.pacing_rate == u64::MAX { u64::MAX } else { tp.pacing_rate.min(cx.sk.max_pacing_rate) };
    if listen {
        return listener_info(cx, o, pacing);
    }
    o.u32(tp.rto_us);
    o.u32(tp.ack.ato_ms.saturating_mul(1000));
    o.u32(tp.mss_cache);
    o.u32(u32::from(tp.ack.rcv_mss));
    o.u32(tp.packets_out);
    o.u32(tp.sacked_out);
    o.u32(tp.lost_out);
    o.u32(tp.retrans_out);
    o.u32(0);
    o.u32(ms_since(tp.lsndtime_ms));
    o.u32(0);
    o.u32(ms_since(tp.ack.lrcvtime_ms));
    o.u32(ms_since(tp.rcv_tstamp_ms));
    o.u32(tp.pmtu_cookie);
    o.u32(tp.rcv_ssthresh);
    o.u32(tp.srtt_us >> 3);
    o.u32(tp.mdev_us >> 2);
    o.u32(tp.snd_ssthresh);
    o.u32(tp.snd_cwnd);
    o.u32(u32::from(tp.advmss));
    o.u32(tp.reordering);
    o.u32(tp.rcv_rtt_us >> 3);
    o.u32(tp.rcvq_space);
    o.u32(tp.total_retrans);
    o.u64(pacing);
    o.u64(cx.sk.max_pacing_rate);
    o.u64(tp.bytes_acked);
    o.u64(tp.bytes_received);
    o.u32(tp.segs_out);
    o.u32(tp.segs_in);
    o.u32(output::notsent_bytes(tp));
    o.u32(rtt::min_rtt(tp));
    o.u32(tp.data_segs_in);
    o.u32(tp.data_segs_out);
    o.u64(delivery_rate(tp));
    for us in chrono::chrono_stats(tp, cx.now) {
        o.u64(us);
    }
    o.u32(tp.delivered);
    o.u32(tp.delivered_ce);
    o.u64(tp.bytes_sent);
    o.u64(tp.rare().bytes_retrans);
    o.u32(tp.rare().dsack_dups);
    o.u32(tp.rare().reord_seen);
    o.u32(tp.rare().rcv_ooopack);
    o.u32(tp.snd_wnd);
    o.u32(tp.rcv_wnd);
    o.u32(u32::from(tp.rare().timeout_rehash).wrapping_add(tp.rare().plb_rehash));
    o.u16(tp.rare().total_rto);
    o.u16(tp.rare().total_rto_recoveries);
    let episode = if tp.rare().rto_stamp_ms != 0 { ms_since(tp.rare().rto_stamp_ms) } else { 0 };
    o.u32(tp.rare().total_rto_time_ms.saturating_add(episode));
    let ecn = tp.ecn_counters();
    o.u32(ecn.received_ce);
    for bytes in ecn.delivered_bytes.into_iter().chain(ecn.received_bytes) {
        o.u32(bytes);
    }
    o.u16(u16::from(ecn.fail));
    o.u16(ecn.saw_opt as u16);
    o.buf
}
