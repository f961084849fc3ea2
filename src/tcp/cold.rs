//! Fields of [`TcpSock`] that few connections need: options, the numbers of loss recovery, a listener's queues, keys,
//! plug-ins. They are in a box that is allocated when one of them is first written; until then a read finds their
//! initial values. Above: all of TCP. Below: `tcb`.

use super::auth::Auth;
use super::challenge::ChallengeBudget;
use super::ecn::{Counters, EceEcho};
use super::fastopen::FastOpen;
use super::listener::Listener;
use super::mtu_probe::MtuProbing;
use super::queue::RareQueue;
use super::repair;
use super::sock_ops::HookSlot;
use super::tcb::{SackState, TcpSock};
use super::tfb::Tfb;
use super::ulp::UlpState;
use crate::base::env::Instant;
use crate::stack::TimerSlot;
use crate::wire::seq::SeqNum;
use std::ops::Deref;

/// Declares a struct of numbers that few connections have, and `NONE`, its value where they are absent.
macro_rules! absent_is {
    ($(#[$meta:meta])* $name:ident { $($(#[$fmeta:meta])* $field:ident: $ty:ty = $none:expr,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy)]
        pub(crate) struct $name {
            $($(#[$fmeta])* pub(crate) $field: $ty,)*
        }

        impl $name {
            /// Of a connection that has none.
            pub(crate) const NONE: $name = $name { $($field: $none,)* };
        }

        impl Default for $name {
            fn default() -> $name {
                $name::NONE
            }
        }
    };
}

absent_is! {
/// Options that few programs set. They outlive a connection, and a listener's children have them too.
#[derive(PartialEq, Eq)]
Options {
    /// TCP_SYNCNT; 0: sysctl.
    syn_retries: u8 = 0,
    /// TCP_KEEPCNT; 0: sysctl.
    keepalive_probes: u8 = 0,
    /// TCP_KEEPIDLE in ms; 0: sysctl.
    keepalive_time_ms: u32 = 0,
    /// TCP_KEEPINTVL in ms; 0: sysctl.
    keepalive_intvl_ms: u32 = 0,
    /// TCP_LINGER2 in ms; 0: sysctl, -1: none.
    linger2_ms: i32 = 0,
    /// TCP_THIN_LINEAR_TIMEOUTS.
    thin_lto: bool = false,
    /// TCP_NOTSENT_LOWAT; 0: sysctl.
    notsent_lowat: u32 = 0,
    /// TCP_RTO_MIN_US: minimum RTO, µs; 0: the route's or the sysctl's.
    rto_min_us: u32 = 0,
    /// TCP_RTO_MAX_MS in ms; 0: sysctl.
    rto_max_ms: u32 = 0,
    /// TCP_DELACK_MAX_US; 0: default.
    delack_max_us: u32 = 0,
    /// TCP_SAVE_SYN: 0: off; 1: network and TCP headers; 2: also the link header (which is not kept here, so the same
    /// as 1).
    save_syn: u8 = 0,
    /// TCP_DEFER_ACCEPT, as a number of SYN-ACK retransmissions; 0: off.
    defer_accept: u8 = 0,
    /// TCP_REPAIR_QUEUE; outlives repair mode.
    repair_queue: repair::Queue = repair::Queue::None,
    /// TCP_USER_TIMEOUT in ms; 0: none.
    user_timeout_ms: u32 = 0,
    /// TCP_TX_DELAY, µs.
    tx_delay: u32 = 0,
}
}

absent_is! {
/// What only loss, reordering, urgent data or a closed window needs.
Rare {
    /// Number of RTO timeouts, recurring ones included.
    total_rto: u16 = 0,
    /// Number of RTO recoveries.
    total_rto_recoveries: u16 = 0,
    /// Time in RTO recovery, ms.
    total_rto_time_ms: u32 = 0,
    /// Start of the current RTO recovery, ms.
    rto_stamp_ms: u32 = 0,
    /// Number of DSACK blocks received.
    dsack_dups: u32 = 0,
    /// Out-of-order segments received.
    rcv_ooopack: u32 = 0,
    /// Times that a timeout changed it (timeout_rehash).
    timeout_rehash: u16 = 0,
    /// `segs_in` when the receive queues were last collapsed.
    collapse_segs: u32 = 0,
    /// Time of the last ACK for an out-of-window segment, ms (last_oow_ack_time).
    last_oow_ack_ms: u32 = 0,
    /// Time for which the receive window and the send buffer limited transmission, ms (chrono_stat).
    limited_ms: [u32; 2] = [0; 2],
    /// Number of challenge ACKs that may still be sent in this second.
    challenge: ChallengeBudget = ChallengeBudget::NEW,
    /// The echo of marks segment by segment, for an algorithm that asks for it.
    ece_echo: EceEcho = EceEcho::NONE,
    /// Time of the first probe of this zero-window episode.
    probes_tstamp: Instant = Instant::ZERO,
    /// Sequence number of the urgent byte.
    urg_seq: SeqNum = SeqNum(0),
    /// Retransmitted bytes.
    bytes_retrans: u64 = 0,
    /// Number of times reordering was detected.
    reord_seen: u32 = 0,
    /// Times that load balancing changed the transmit hash.
    plb_rehash: u32 = 0,
}
}

/// Rarely used state, allocated when first needed: what only loss, options, a listener or a plug-in has. It is read as
/// if it were [`TcpSock`]'s own, and is `Cold::NONE` where there is none.
#[derive(Debug)]
pub struct Cold {
    pub(super) options: Options,
    pub(super) rare: Rare,
    /// Pacing timer, of what paces itself.
    pub(super) pacing_timer: TimerSlot,
    /// Fast Open (RFC 7413); None: this sock has had nothing to do with it.
    pub(super) fastopen: Option<Box<FastOpen>>,
    /// The search for a path MTU, when it is on.
    pub(super) mtu_probing: Option<MtuProbing>,
    /// The SYN that opened this connection, with the headers that TCP_SAVE_SYN selects.
    pub saved_syn: Option<Box<[u8]>>,
    /// Option bytes of that SYN, for hooks when the connection is established.
    pub syn_options: Option<Box<[u8]>>,
    /// State of hooks on this sock.
    pub(super) hooks: Vec<HookSlot>,
    /// Upper-layer protocol (icsk_ulp_ops, icsk_ulp_data).
    pub(super) ulp: Option<UlpState>,
    /// An alternative to this TCP.
    pub(super) tfb: Option<Box<Tfb>>,
    /// Counters of marks, and what is known of their way.
    pub(super) ecn_counters: Option<Box<Counters>>,
    /// Number of senders that sleep (sk_write_pending).
    pub(crate) write_pending: u32,
    /// `rcv_nxt` of the hole for which duplicates are counted (compressed_ack_rcv_nxt).
    pub(super) compressed_rcv_nxt: SeqNum,
    /// Upper bound of the congestion window, segments.
    pub snd_cwnd_clamp: u32,
    /// Urgent pointer to send: one past the last urgent byte.
    pub(crate) snd_up: SeqNum,
    /// `snd_una` when the current reduction began; with `undo_valid`, the reduction can be undone (undo_marker).
    pub(crate) undo_marker: SeqNum,
    /// Number of retransmitted segments without a DSACK; -1: none was retransmitted.
    pub(crate) undo_retrans: i32,
    /// `snd_nxt` when a loss probe was sent; valid while `tlp_active`.
    pub(crate) tlp_high_seq: SeqNum,
    /// Highest sequence number that was sacked, when `sacked_out > 0`.
    pub(crate) highest_sack: SeqNum,
    /// Sequence number at which the retransmission scan continues (retransmit_skb_hint).
    pub(crate) retransmit_hint: Option<SeqNum>,
    /// Retransmitted segments, SYN and SYN-ACK included (total_retrans).
    pub total_retrans: u32,
    /// Window before the reduction, for PRR and undo.
    pub prior_cwnd: u32,
    /// Threshold before the reduction.
    pub prior_ssthresh: u32,
    /// Segments delivered since recovery began (PRR).
    pub prr_delivered: u32,
    /// Segments sent since recovery began.
    pub prr_out: u32,
    /// Out-of-order segments.
    pub(crate) ooo_queue: RareQueue,
    /// SACK blocks and cache.
    pub(crate) sack: Option<Box<SackState>>,
    /// Keys for peers whose segments are signed; None: it never had one.
    pub(super) auth: Option<Box<Auth>>,
    /// A listener's queues.
    pub(crate) listener: Option<Box<Listener>>,
    /// Segments marked lost in total.
    pub lost: u32,
    /// Segments delivered with CE marks, in total.
    pub delivered_ce: u32,
}

impl Cold {
    /// Of a connection that has none.
    const EMPTY: Cold = Cold {
        options: Options::NONE,
        rare: Rare::NONE,
        pacing_timer: TimerSlot::EMPTY,
        fastopen: None,
        mtu_probing: None,
        saved_syn: None,
        syn_options: None,
        hooks: Vec::new(),
        ulp: None,
        tfb: None,
        ecn_counters: None,
        write_pending: 0,
        compressed_rcv_nxt: SeqNum(0),
        snd_cwnd_clamp: u32::MAX,
        snd_up: SeqNum(0),
        undo_marker: SeqNum(0),
        undo_retrans: 0,
        tlp_high_seq: SeqNum(0),
        highest_sack: SeqNum(0),
        retransmit_hint: None,
        total_retrans: 0,
        prior_cwnd: 0,
        prior_ssthresh: 0,
        prr_delivered: 0,
        prr_out: 0,
        ooo_queue: RareQueue::EMPTY,
        sack: None,
        auth: None,
        listener: None,
        lost: 0,
        delivered_ce: 0,
    };
    /// The same, to read.
    const NONE: &Cold = &Cold::EMPTY;

    /// Whether it adds options to a segment.
    #[inline]
    pub(super) fn has_options(&self) -> bool {
        self.auth.is_some() || self.sack.as_ref().is_some_and(|s| s.duplicate_sack.is_some())
    }
}

impl Default for Cold {
    fn default() -> Cold {
        Cold::EMPTY
    }
}

impl Deref for TcpSock {
    type Target = Cold;
    #[inline]
    fn deref(&self) -> &Cold {
        self.cold.as_deref().unwrap_or(Cold::NONE)
    }
}

impl TcpSock {
    /// Options that few programs set.
    #[inline]
    pub(crate) fn options(&self) -> &Options {
        &self.deref().options
    }

    /// The same, to set one.
    pub(crate) fn options_mut(&mut self) -> &mut Options {
        &mut self.cold_mut().options
    }

    /// Fast Open (RFC 7413); None: this sock has had nothing to do with it.
    #[inline]
    pub(super) fn fastopen(&self) -> Option<&FastOpen> {
        self.deref().fastopen.as_deref()
    }

    /// The same, to change it.
    pub(super) fn fastopen_if_any(&mut self) -> Option<&mut FastOpen> {
        self.cold.as_mut()?.fastopen.as_deref_mut()
    }

    /// The search for a path MTU, when it is on.
    pub(super) fn mtu_probing(&self) -> Option<&MtuProbing> {
        self.deref().mtu_probing.as_ref()
    }

    /// The same, to go on with it.
    pub(super) fn mtu_probing_mut(&mut self) -> Option<&mut MtuProbing> {
        self.cold.as_mut()?.mtu_probing.as_mut()
    }

    /// What few connections have.
    #[inline]
    pub(crate) fn rare(&self) -> &Rare {
        &self.deref().rare
    }

    /// The same, to change it.
    pub(crate) fn rare_mut(&mut self) -> &mut Rare {
        &mut self.cold_mut().rare
    }

    /// The same, to return something to what it is where it is absent.
    #[inline]
    pub(crate) fn rare_if_any(&mut self) -> Option<&mut Rare> {
        self.cold.as_mut().map(|c| &mut c.rare)
    }

    /// Rarely used state, to change it.
    #[inline]
    pub fn cold_mut(&mut self) -> &mut Cold {
        self.cold.get_or_insert_default()
    }

    /// Whether nothing rare is under way: a scan of what to send again, a search for the path MTU, a child's handshake
    /// of Fast Open.
    #[inline]
    pub(super) fn is_ordinary(&self) -> bool {
        let rare = |c: &Cold| c.retransmit_hint.is_some() || c.mtu_probing.is_some() || self.has_fastopen_rsk();
        !self.cold.as_ref().is_some_and(|c| rare(c))
    }

    /// No hint where the retransmission scan continues.
    #[inline]
    pub(crate) fn clear_retransmit_hint(&mut self) {
        if let Some(cold) = &mut self.cold {
            cold.retransmit_hint = None;
        }
    }

    /// Undoing the reduction will not bring the threshold back that was before it.
    #[inline]
    pub(crate) fn forbid_undo(&mut self) {
        if let Some(cold) = &mut self.cold {
            cold.prior_ssthresh = 0;
        }
    }

    /// `snd_una` has moved: what is compared with it does not stay so far behind that it seems to be ahead.
    #[inline]
    pub(crate) fn follow_una(&mut self, prior_snd_una: SeqNum) {
        let una = self.snd_una;
        if let Some(cold) = &mut self.cold {
            cold.highest_sack = cold.highest_sack.later(una);
            if cold.snd_up.between(prior_snd_una, una) {
                cold.snd_up = una;
            }
        }
    }

    /// A listener's queues.
    #[inline]
    pub(crate) fn listener_mut(&mut self) -> Option<&mut Listener> {
        self.cold.as_mut()?.listener.as_deref_mut()
    }

    /// Whether there are keys for peers whose segments are signed.
    #[inline]
    pub(super) fn has_auth(&self) -> bool {
        self.cold.as_ref().is_some_and(|c| c.auth.is_some())
    }

    /// Keys for peers whose segments are signed.
    #[inline]
    pub(super) fn auth_mut(&mut self) -> Option<&mut Auth> {
        self.cold.as_mut()?.auth.as_deref_mut()
    }

    /// Out-of-order segments, to change them.
    #[inline]
    pub(crate) fn ooo_mut(&mut self) -> &mut RareQueue {
        &mut self.cold_mut().ooo_queue
    }
}

#[cfg(test)]
mod tests {
    use crate::tcp::testing::Bench;

    /// More than half of the sequence space may be acknowledged after the last SACK block or urgent byte.
    #[test]
    fn what_snd_una_has_passed_stays_with_it_and_what_is_ahead_stays_where_it_is() {
        Bench::established().with(|cx| {
            let first = cx.tp.snd_una;
            let (sacked, urgent) = (cx.tp.highest_sack, cx.tp.snd_up);
            let cold = cx.tp.cold_mut();
            (cold.highest_sack, cold.snd_up) = (first, first);
            for _ in 0..5 {
                let prior = cx.tp.snd_una;
                cx.tp.snd_una = prior + 0x3000_0000;
                cx.tp.follow_una(prior);
                assert_eq!((cx.tp.highest_sack, cx.tp.snd_up), (cx.tp.snd_una, cx.tp.snd_una));
            }
            let prior = cx.tp.snd_una;
            let ahead = prior + 100;
            let cold = cx.tp.cold_mut();
            (cold.highest_sack, cold.snd_up) = (ahead, ahead);
            cx.tp.snd_una = prior + 50;
            cx.tp.follow_una(prior);
            assert_eq!((cx.tp.highest_sack, cx.tp.snd_up), (ahead, ahead));
            // As the sock was.
            cx.tp.snd_una = first;
            let cold = cx.tp.cold_mut();
            (cold.highest_sack, cold.snd_up) = (sacked, urgent);
        });
    }
}
