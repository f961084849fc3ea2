//! The connection: the send and receive variables of RFC 9293 §3.3.1, and the per-connection state of loss recovery,
//! congestion control and timing. Names are Linux's (struct tcp_sock, inet_connection_sock). State that an idle
//! connection does not need is boxed and allocated when first used (`Cold`): an idle one takes 608 bytes here, which
//! lie in its sock (`Private`), CUBIC's state included, and there is no other allocation.

use super::chrono::Chrono;
use super::cold::Cold;
use super::cong::CongState;
use super::delack::AckState;
use super::ecn::EcnState;
use super::minmax::MinMax;
use super::net::TcpNet;
use super::queue::SegQueue;
use super::rtx::RtxQueue;
use crate::base::env::Instant;
use crate::sock::{Sock, SockCommon, SockGuard};
use crate::stack::{Stack, TimerSlot};
use crate::sys::place::ROOM;
use crate::wire::seq::{SeqNum, WindowShift};
use crate::wire::tcp::HEADER_LEN;
use std::sync::{Arc, Weak};

/// The argument of TCP's functions: the stack, the part of an owned sock that all protocols share, and the connection,
/// borrowed separately.
pub struct Cx<'a> {
    /// The stack.
    pub stack: &'a Arc<Stack>,
    /// The sock, for the fields outside the lock and for arming timers.
    pub sock: &'a Arc<Sock>,
    /// The part that all protocols share.
    pub sk: &'a mut SockCommon,
    /// The connection.
    pub tp: &'a mut TcpSock,
    /// Time of the event being processed (tcp_mstamp).
    pub now: Instant,
    /// A packet or a timer owns the sock, and no system call (not sock_owned_by_user).
    pub(crate) softirq: bool,
}

impl<'a> Cx<'a> {
    /// Borrows from an owned sock; None when the sock is not TCP's.
    #[inline]
    pub fn new<'g>(g: &'a mut SockGuard<'g>) -> Option<Cx<'a>>
    where
        'g: 'a,
    {
        let (stack, sock, now, softirq) = (g.stack, g.sock, g.now(), g.in_softirq());
        let st: &'a mut crate::sock::SockState = &mut *g;
        let tp = st.private.downcast_mut::<TcpSock>()?;
        Some(Cx { stack, sock, sk: &mut st.common, tp, now, softirq })
    }

    /// The same without the time, for who seldom needs it and then [reads the clock](Cx::refresh_clock).
    #[inline]
    pub(crate) fn untimed<'g>(g: &'a mut SockGuard<'g>) -> Option<Cx<'a>>
    where
        'g: 'a,
    {
        let (stack, sock, now, softirq) = (g.stack, g.sock, Instant::ZERO, g.in_softirq());
        let st: &'a mut crate::sock::SockState = &mut *g;
        let tp = st.private.downcast_mut::<TcpSock>()?;
        Some(Cx { stack, sock, sk: &mut st.common, tp, now, softirq })
    }

    /// The same, for callers that need it by value.
    #[inline]
    pub(crate) fn reborrow(&mut self) -> Cx<'_> {
        Cx { stack: self.stack, sock: self.sock, sk: self.sk, tp: self.tp, now: self.now, softirq: self.softirq }
    }

    /// Reads the clock again (tcp_mstamp_refresh).
    #[inline]
    pub(crate) fn refresh_clock(&mut self) {
        self.now = self.stack.now();
    }

    /// Connection state.
    #[inline]
    pub fn state(&self) -> crate::sock::state::State {
        self.sock.state()
    }
}

/// Bits that control Nagle's algorithm (TCP_NAGLE_*).
pub(crate) mod nagle {
    /// TCP_NODELAY.
    pub(crate) const OFF: u8 = 1;
    /// TCP_CORK.
    pub(crate) const CORK: u8 = 2;
    /// Send now, whatever the size.
    pub(crate) const PUSH: u8 = 4;
}

/// Congestion avoidance state (enum tcp_ca_state).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(u8)]
pub enum CaState {
    #[default]
    /// Normal operation.
    Open = 0,
    /// Duplicate acknowledgements or SACKs, no loss inferred yet.
    Disorder = 1,
    /// The window is being reduced, for ECN or local congestion.
    Cwr = 2,
    /// Fast recovery: lost segments are retransmitted.
    Recovery = 3,
    /// After a retransmission timeout, or SACK reneging.
    Loss = 4,
}

/// Which timer the retransmit slot is armed for (ICSK_TIME_*).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
#[allow(missing_docs)]
pub(crate) enum XmitTimer {
    #[default]
    None = 0,
    Retrans = 1,
    Probe0 = 3,
    LossProbe = 5,
    ReoTimeout = 6,
}

/// Options of the last received segment, and those negotiated (struct tcp_options_received).
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct RxOpt {
    /// Last valid timestamp of the peer (TS.Recent, RFC 7323).
    pub ts_recent: u32,
    /// When `ts_recent` was set, seconds of the stack's clock; 0: never.
    pub ts_recent_stamp: u32,
    /// TSval of the current segment.
    pub rcv_tsval: u32,
    /// TSecr of the current segment, without our offset.
    pub rcv_tsecr: u32,
    /// The current segment has a timestamp.
    pub saw_tstamp: bool,
    /// Timestamps were negotiated.
    pub tstamp_ok: bool,
    /// The current segment has a DSACK.
    pub dsack: bool,
    /// Window scaling was negotiated.
    pub wscale_ok: bool,
    /// SACK was negotiated (bit 0); the peer has sent a DSACK (bit 2).
    pub sack_ok: u8,
    /// Shift of the windows that we receive.
    pub snd_wscale: WindowShift,
    /// Shift of the windows that we send.
    pub rcv_wscale: WindowShift,
    /// MSS set by the program (TCP_MAXSEG); 0: none.
    pub user_mss: u16,
    /// Largest MSS that the peer accepts.
    pub mss_clamp: u16,
}

/// A block of the scoreboard or of a SACK option.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SackBlock {
    /// First sequence number.
    pub start: SeqNum,
    /// One past the last sequence number.
    pub end: SeqNum,
}

/// State of sending and receiving SACK; allocated at the first hole.
#[derive(Debug, Default, Clone)]
pub(crate) struct SackState {
    /// Blocks to send, the most recent first (selective_acks).
    pub selective_acks: [SackBlock; 4],
    /// Blocks of the last acknowledgement (recv_sack_cache).
    pub recv_sack_cache: [SackBlock; 4],
    /// A duplicate range to report (duplicate_sack).
    pub duplicate_sack: Option<SackBlock>,
}

/// RACK (RFC 8985) state of a connection.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Rack {
    /// Send time of the most recently delivered segment.
    pub mstamp: Instant,
    /// Its RTT, microseconds.
    pub rtt_us: u32,
    /// Its end sequence number.
    pub end_seq: SeqNum,
    /// `tp.delivered` when `reo_wnd_steps` last grew.
    pub last_delivered: u32,
    /// Reordering window, in quarters of the minimum RTT.
    pub reo_wnd_steps: u8,
    /// Number of recoveries until the window shrinks again.
    pub reo_wnd_persist: u8,
    /// A DSACK arrived since the window was set.
    pub dsack_seen: bool,
}

/// Rate sample taken at each acknowledgement (struct rate_sample).
#[derive(Debug, Default, Clone, Copy)]
#[non_exhaustive]
pub struct RateSample {
    /// Time at which `prior_delivered` was reached, as recorded on the sampled skb.
    pub prior_mstamp: Instant,
    /// `tp.delivered` when the sampled skb was sent.
    pub prior_delivered: u32,
    /// `tp.delivered_ce` when the sampled skb was sent.
    pub prior_delivered_ce: u32,
    /// Segments delivered over the interval; -1: no sample.
    pub delivered: i32,
    /// Of those, the ones with CE marks.
    pub delivered_ce: i32,
    /// Interval, microseconds; -1: no sample.
    pub interval_us: i64,
    /// Send phase of the interval.
    pub snd_interval_us: u32,
    /// Acknowledgement phase of the interval.
    pub rcv_interval_us: u32,
    /// RTT of the sample, microseconds; -1: none.
    pub rtt_us: i64,
    /// Segments newly marked lost.
    pub losses: i32,
    /// Segments newly acknowledged or sacked.
    pub acked_sacked: u32,
    /// Segments in flight before this acknowledgement.
    pub prior_in_flight: u32,
    /// End sequence number of the last acknowledged skb.
    pub last_end_seq: SeqNum,
    /// The sender was application limited.
    pub is_app_limited: bool,
    /// The sampled skb was retransmitted.
    pub is_retrans: bool,
    /// The receiver probably delayed the acknowledgement.
    pub is_ack_delayed: bool,
}

/// Declares a struct with a constructor `zero` that takes the fields `given` and gives all others their default.
macro_rules! zero_but {
    (
        $(#[$meta:meta])*
        pub struct $name:ident
        given { $($(#[$gmeta:meta])* $gvis:vis $given:ident: $gty:ty,)* }
        zero { $($(#[$zmeta:meta])* $zvis:vis $zero:ident: $zty:ty,)* }
    ) => {
        $(#[$meta])*
        pub struct $name {
            $($(#[$gmeta])* $gvis $given: $gty,)*
            $($(#[$zmeta])* $zvis $zero: $zty,)*
        }

        impl $name {
            #[inline(always)]
            fn zero($($given: $gty),*) -> $name {
                $name { $($given,)* $($zero: Default::default(),)* }
            }
        }
    };
}

zero_but! {
/// A TCP connection (or listener), protected by its sock's lock. Sequence space as in RFC 9293 §3.3.1; counts are in
/// segments unless stated otherwise. [`TcpSock::new`] has the initial values.
#[derive(Debug)]
pub struct TcpSock
given {
    /// TCP's state of the stack: tables and registries.
    pub(crate) net: Arc<TcpNet>,
    /// The congestion control algorithm and its state.
    pub(crate) ca: CongState,
}
zero {
    // Send.
    /// First unacknowledged.
    pub snd_una: SeqNum,
    /// Next to send.
    pub snd_nxt: SeqNum,
    /// One past the last byte queued.
    pub write_seq: SeqNum,
    /// `write_seq` at the last PSH.
    pub(crate) pushed_seq: SeqNum,
    /// Sequence number of the segment that last updated the window.
    pub(crate) snd_wl1: SeqNum,
    /// End of the last small segment sent (Minshall).
    pub(crate) snd_sml: SeqNum,
    /// Our initial sequence number.
    pub snt_isn: SeqNum,
    /// `snd_nxt` when recovery began; recovery ends when everything below it is acknowledged.
    pub high_seq: SeqNum,
    /// Whether `undo_marker` is set.
    pub(crate) undo_valid: bool,
    /// A loss probe is outstanding.
    pub(crate) tlp_active: bool,
    /// The probe was a retransmission.
    pub(crate) tlp_retrans: bool,
    /// The peer's window, bytes.
    pub snd_wnd: u32,
    /// Largest window that the peer has ever advertised.
    pub(crate) max_window: u32,
    /// Current MSS, for data without SACK blocks (mss_cache).
    pub mss_cache: u32,
    /// MSS that we advertise (advmss).
    pub(crate) advmss: u16,
    /// Header bytes with the negotiated options (tcp_header_len).
    pub(crate) tcp_header_len: u16,
    /// Path MTU that the MSS was computed from (icsk_pmtu_cookie).
    pub(crate) pmtu_cookie: u32,
    /// Largest size of a super-packet in segments (gso_segs).
    pub(crate) gso_segs: u16,
    /// Largest payload of a super-packet on the current route, bytes; 0: not known yet (sk_gso_max_size).
    pub(crate) gso_max_size: u32,
    /// Largest number of segments in a super-packet (sk_gso_max_segs).
    pub(crate) gso_max_segs: u16,
    /// Whether the device holds packets until their departure time (SK_PACING_FQ).
    pub(crate) departure_times: bool,
    /// A writer or poll found the send buffer full and must be woken when there is room (SOCK_NOSPACE).
    pub(crate) nospace: bool,
    /// The peer has shown progress: the next segment confirms the next hop (sk_dst_pending_confirm).
    pub(crate) dst_pending_confirm: bool,
    /// Control of Nagle's algorithm: bits of `nagle`.
    pub(crate) nonagle: u8,
    /// Unsent segments.
    pub(crate) write_queue: SegQueue,
    /// Segments sent and not yet acknowledged.
    pub(crate) rtx_queue: RtxQueue,
    /// Segments sent and not cumulatively acknowledged.
    pub packets_out: u32,
    /// Retransmissions in flight.
    pub retrans_out: u32,
    /// Selectively acknowledged segments.
    pub sacked_out: u32,
    /// Segments marked lost.
    pub lost_out: u32,
    /// Largest `packets_out` since the window was last full.
    pub max_packets_out: u32,
    /// `snd_nxt` at the time of `max_packets_out`.
    pub(crate) cwnd_usage_seq: SeqNum,
    /// The congestion window limited recent transmissions.
    pub(crate) is_cwnd_limited: bool,
    /// The last transmission filled the peer's window.
    pub(crate) rwnd_limited: bool,
    /// The peer has reneged on selective acknowledgements, and recovery from that is in progress.
    pub(crate) is_sack_reneg: bool,
    /// F-RTO (RFC 5682) in progress.
    pub(crate) frto: bool,

    // Congestion.
    /// Congestion window, segments.
    pub snd_cwnd: u32,
    /// Segments acknowledged since the last increase.
    pub snd_cwnd_cnt: u32,
    /// Part of the window that was used recently (RFC 2861).
    pub(crate) snd_cwnd_used: u32,
    /// Time at which the window was last changed or fully used, ms (snd_cwnd_stamp).
    pub snd_cwnd_stamp_ms: u32,
    /// Slow-start threshold.
    pub snd_ssthresh: u32,
    /// Congestion state.
    pub ca_state: CaState,
    /// The program has selected the algorithm.
    pub(crate) ca_setsockopt: bool,
    /// The algorithm needs its packets paced (SK_PACING_NEEDED).
    pub ca_paces: bool,
    /// The optional methods of its algorithm: bits of [`ca_slot`](super::cong::ca_slot).
    pub(crate) ca_slots: u8,
    /// Reordering degree.
    pub reordering: u32,
    /// RACK state.
    pub(crate) rack: Rack,
    /// This acknowledgement advanced `rack.mstamp`.
    pub(crate) rack_advanced: bool,
    /// Pacing rate, bytes a second; `u64::MAX`: unlimited.
    pub pacing_rate: u64,

    // Rate sampling.
    /// Segments delivered in total.
    pub delivered: u32,
    /// `delivered` at which the application-limited phase ends; 0: not limited.
    pub app_limited: u32,
    /// Send time of the first packet of the sample.
    pub first_tx_mstamp: Instant,
    /// Time at which `delivered` was reached.
    pub delivered_mstamp: Instant,
    /// Last rate sample: segments.
    pub rate_delivered: u32,
    /// Last rate sample: interval, microseconds.
    pub rate_interval_us: u32,
    /// The last rate sample was application limited.
    pub rate_app_limited: bool,

    // Timing.
    /// Smoothed RTT, µs << 3; 0: no sample yet.
    pub srtt_us: u32,
    /// Mean deviation, µs << 2.
    pub mdev_us: u32,
    /// Maximum of `mdev_us` over the last RTT.
    pub(crate) mdev_max_us: u32,
    /// Smoothed maximum deviation.
    pub rttvar_us: u32,
    /// Sequence number that ends the RTT period.
    pub(crate) rtt_seq: SeqNum,
    /// Windowed minimum of the RTT: microseconds, by time in milliseconds.
    pub(crate) rtt_min: MinMax<u32>,
    /// RTO, microseconds (icsk_rto).
    pub rto_us: u32,
    /// Backoff count.
    pub backoff: u8,
    /// Retransmissions of the same segment (icsk_retransmits).
    pub(crate) retransmits: u8,
    /// Number of unanswered zero-window probes (icsk_probes_out).
    pub(crate) probes_out: u8,
    /// The timer for which the retransmit slot is armed.
    pub(crate) pending: XmitTimer,
    /// Time of the first retransmission of this episode; zero: none (retrans_stamp).
    pub(crate) retrans_stamp: Instant,
    /// Time of the last data segment sent, ms (lsndtime).
    pub lsndtime_ms: u32,
    /// Time of the last segment received, ms (rcv_tstamp).
    pub(crate) rcv_tstamp_ms: u32,
    /// Offset of our timestamps.
    pub(crate) tsoffset: u32,
    /// Retransmit, probe, loss-probe and reordering timer.
    pub(crate) retransmit_timer: TimerSlot,
    /// What paths and device queues are chosen by, in IPv6 the flow label; 0: none yet (sk_txhash).
    pub(crate) txhash: u32,
    /// See [`hash_of_peer`](super::lookup::hash_of_peer); 0: nobody has asked yet.
    pub(super) peer_hash: u64,
    /// Among many connections, the sock that receives its segments, if that is this stack's too: see
    /// [`receiver_of`](super::lookup::receiver_of).
    pub(super) receiver: Option<Weak<Sock>>,
    /// Earliest departure time of the next packet (tcp_wstamp_ns).
    pub(crate) wstamp: Instant,

    // Receive.
    /// Next sequence number expected.
    pub rcv_nxt: SeqNum,
    /// Next sequence number that the program reads.
    pub(crate) copied_seq: SeqNum,
    /// `rcv_nxt` when a window was last advertised.
    pub(crate) rcv_wup: SeqNum,
    /// Right edge of the widest window ever advertised (rcv_mwnd_seq): the peer may have sent up to it, even if the
    /// window was shrunk since.
    pub(crate) rcv_mwnd_seq: SeqNum,
    /// Largest window ever advertised, bytes: the peer limits its segments to half of it.
    pub(crate) max_rcv_wnd: u32,
    /// Window advertised, bytes, from `rcv_wup`.
    pub rcv_wnd: u32,
    /// Limit of the window that grows as the buffer proves sufficient (rcv_ssthresh).
    pub(crate) rcv_ssthresh: u32,
    /// Upper bound of the window (TCP_WINDOW_CLAMP and the route).
    pub(crate) window_clamp: u32,
    /// Header prediction: the flag word that the next segment should have; 0: off.
    pub(crate) pred_flags: u32,
    /// Ratio of payload to truesize in 1/256 (scaling_ratio).
    pub(crate) scaling_ratio: u8,
    /// Urgent data, 0: none. A constant of `urgent`; with VALID, the byte is in the low eight bits.
    pub(crate) urg_data: u16,
    /// Whether urgent data is being sent (`snd_up` is valid).
    pub(crate) urg_mode: bool,
    /// The timer of a delayed acknowledgement and of compressed ones. Linux has one for each.
    pub(crate) delack_timer: TimerSlot,
    /// State of delayed, quick and compressed acknowledgements.
    pub(crate) ack: AckState,
    /// Options of the peer.
    pub(crate) rx_opt: RxOpt,
    /// Receive RTT estimate, µs << 3.
    pub(crate) rcv_rtt_us: u32,
    /// Sequence number that ends the measurement period.
    pub(crate) rcv_rtt_seq: SeqNum,
    /// Start of the measurement period.
    pub(crate) rcv_rtt_time: Instant,
    /// TSecr of the last sample.
    pub(crate) rcv_rtt_last_tsecr: u32,
    /// Buffer tuning: bytes that the program read in the last RTT (rcvq_space.space).
    pub(crate) rcvq_space: u32,
    /// Sequence number at the start of the tuning period.
    pub(crate) rcvq_seq: SeqNum,
    /// Start time of the tuning period.
    pub(crate) rcvq_time: Instant,
    /// Number of blocks in `sack.selective_acks`.
    pub(crate) num_sacks: u8,

    // Options and limits.
    /// Explicit congestion notification.
    pub ecn: EcnState,
    /// TCP_INQ.
    pub(crate) recvmsg_inq: bool,
    /// TCP_REPAIR.
    pub(crate) repair: bool,
    /// The child is still in its listener's accept queue.
    pub(crate) not_accepted: bool,
    /// Events that hooks have enabled on this sock: bits of `sock_ops::cb`, of all hooks together.
    pub(crate) sock_ops_flags: u8,
    /// Operations of an alternative to this TCP, bits of `tfb::slot`; 0: none, it is ours.
    pub(super) tfb_slots: u8,
    /// `Proto::destroy` has run: the sock is in no table and has returned its memory.
    pub(crate) destroyed: bool,
    /// It is used so seldom that a timer that nothing waits for any more is cancelled: see
    /// [`fired_for_nothing`](super::timer::fired_for_nothing).
    pub(super) seldom: bool,

    // Statistics (RFC 4898 and Linux).
    /// Payload bytes acknowledged.
    pub bytes_acked: u64,
    /// Payload bytes received in order.
    pub bytes_received: u64,
    /// Payload bytes sent, retransmissions included.
    pub bytes_sent: u64,
    /// Segments received.
    pub segs_in: u32,
    /// Segments sent.
    pub segs_out: u32,
    /// Data segments received.
    pub data_segs_in: u32,
    /// Data segments sent.
    pub data_segs_out: u32,
    /// Time for which there was something to send or to be acknowledged, and no other limit, ms (chrono_stat).
    pub(crate) busy_ms: u32,
    /// The current limit.
    pub(crate) chrono_type: Chrono,
    /// Start of the current limit, ms.
    pub(crate) chrono_start_ms: u32,
    /// The next answer to an old segment uses `snd_nxt` (`send_dupack`).
    pub(crate) dupack_at_nxt: bool,

    /// Reference to the local port.
    pub(crate) bound: Option<super::bhash::Bound>,
    /// Rarely used state.
    pub(crate) cold: Option<Box<Cold>>,
}
}

/// Initial congestion window, segments (RFC 6928).
pub(crate) const INIT_CWND: u32 = 10;
/// No threshold is known yet (TCP_INFINITE_SSTHRESH).
pub const INFINITE_SSTHRESH: u32 = 0x7fff_ffff;
/// Initial RTO, microseconds (RFC 6298 §2.1).
pub(crate) const TIMEOUT_INIT_US: u32 = 1_000_000;
/// MSS assumed when the peer sends no MSS option (RFC 9293 §3.7.1).
pub(crate) const MSS_DEFAULT: u16 = 536;

impl TcpSock {
    /// A closed connection with the stack's defaults (tcp_init_sock, tcp_assign_congestion_control), of this TCP.
    // What may panic is done first, so that the compiler can make it where it stays.
    #[inline(always)]
    pub fn new(net: &Arc<TcpNet>, stack: &Stack) -> TcpSock {
        let reordering = stack.sysctl.tcp_reordering().max(0) as u32;
        let ca = CongState { ops: net.cong.default_for(stack), algo: None };
        let mut tp = TcpSock::zero(net.clone(), ca);
        tp.mss_cache = u32::from(MSS_DEFAULT);
        tp.tcp_header_len = HEADER_LEN as u16;
        tp.gso_segs = 1;
        tp.gso_max_segs = 1;
        tp.snd_cwnd = INIT_CWND;
        tp.snd_ssthresh = INFINITE_SSTHRESH;
        tp.reordering = reordering;
        tp.rack.reo_wnd_steps = 1;
        tp.rtt_min = MinMax::new(u32::MAX, 0);
        tp.pacing_rate = u64::MAX;
        // Application limited until the first full flight.
        tp.app_limited = u32::MAX;
        tp.rate_app_limited = true;
        tp.mdev_us = TIMEOUT_INIT_US;
        tp.rto_us = TIMEOUT_INIT_US;
        // Half of the buffer is assumed to be payload, until the ratio is measured.
        tp.scaling_ratio = 128;
        tp
    }
}

// An idle end is its sock, for which malloc takes 896 bytes with the counts of its Arc and a header; above 872 bytes it
// is 912.
const _: () = assert!(size_of::<TcpSock>() <= ROOM && size_of::<Sock>() <= 872);
