//! One row per built-in sysctl: getter, name, type with range, default, support, mode, meaning. The rows define the
//! table for get, set and list, and the getters of the data path. Names, ranges and defaults are those of Linux 6.18
//! (ranges as observed in a new network namespace). Linux: sysctl_net_ipv4.c, sysctl_net_core.c, sysctl_net_ipv6.c.
//!
//! A `Moot` row says in its meaning why there is nothing to implement.

use super::{Def, Kind, Mode, Support, Sysctls};
use crate::base::env::Duration;
use std::borrow::Cow;
use std::sync::Arc;

const I32_MIN: i128 = i32::MIN as i128;
const I32_MAX: i128 = i32::MAX as i128;
const U32_MAX: i128 = u32::MAX as i128;
const U64_MAX: i128 = u64::MAX as i128;

macro_rules! kind {
    (text, $lo:expr, $hi:expr) => {
        Kind::Text
    };
    (bitmap, $lo:expr, $hi:expr) => {
        Kind::Ports
    };
    (ports, $lo:expr, $hi:expr) => {
        Kind::Pair { min: $lo, max: $hi }
    };
    (gids, $lo:expr, $hi:expr) => {
        Kind::Pair { min: $lo, max: $hi }
    };
    (ints3, $lo:expr, $hi:expr) => {
        Kind::Triple { min: $lo, max: $hi }
    };
    (ulongs3, $lo:expr, $hi:expr) => {
        Kind::Triple { min: $lo, max: $hi }
    };
    ($number:ident, $lo:expr, $hi:expr) => {
        Kind::Number { min: $lo, max: $hi }
    };
}

/// The types that getters return, and how they read the cells. Times that may be negative in Linux read as zero: they
/// have already expired.
#[rustfmt::skip]
macro_rules! getter {
    ($(#[$doc:meta])* $get:ident flag) => {
        $(#[$doc])* #[inline] pub fn $get(&self) -> bool { self.number(Row::$get as usize) != 0 }
    };
    ($(#[$doc:meta])* $get:ident int) => {
        $(#[$doc])* #[inline] pub fn $get(&self) -> i32 { self.number(Row::$get as usize) as i32 }
    };
    ($(#[$doc:meta])* $get:ident uint) => {
        $(#[$doc])* #[inline] pub fn $get(&self) -> u32 { self.number(Row::$get as usize) as u32 }
    };
    ($(#[$doc:meta])* $get:ident ulong) => {
        $(#[$doc])* #[inline] pub fn $get(&self) -> u64 { self.number(Row::$get as usize) }
    };
    ($(#[$doc:meta])* $get:ident secs) => {
        $(#[$doc])* #[inline] pub fn $get(&self) -> Duration { Duration::from_secs(self.time(Row::$get as usize)) }
    };
    ($(#[$doc:meta])* $get:ident centisecs) => {
        $(#[$doc])* #[inline] pub fn $get(&self) -> Duration {
            Duration::from_millis(self.time(Row::$get as usize).saturating_mul(10))
        }
    };
    ($(#[$doc:meta])* $get:ident msecs) => {
        $(#[$doc])* #[inline] pub fn $get(&self) -> Duration { Duration::from_millis(self.time(Row::$get as usize)) }
    };
    ($(#[$doc:meta])* $get:ident micros) => {
        $(#[$doc])* #[inline] pub fn $get(&self) -> Duration { Duration::from_micros(self.time(Row::$get as usize)) }
    };
    ($(#[$doc:meta])* $get:ident nanos) => {
        $(#[$doc])* #[inline] pub fn $get(&self) -> Duration { Duration::from_nanos(self.number(Row::$get as usize)) }
    };
    ($(#[$doc:meta])* $get:ident ints3) => {
        $(#[$doc])* #[inline] pub fn $get(&self) -> [i32; 3] { self.triple(Row::$get as usize).map(|n| n as i32) }
    };
    ($(#[$doc:meta])* $get:ident ulongs3) => {
        $(#[$doc])* #[inline] pub fn $get(&self) -> [u64; 3] { self.triple(Row::$get as usize) }
    };
    ($(#[$doc:meta])* $get:ident ports) => {
        $(#[$doc])* #[inline] pub fn $get(&self) -> (u16, u16) {
            let (a, b) = self.pair(Row::$get as usize);
            (a as u16, b as u16)
        }
    };
    ($(#[$doc:meta])* $get:ident gids) => {
        $(#[$doc])* #[inline] pub fn $get(&self) -> (u32, u32) { self.pair(Row::$get as usize) }
    };
    ($(#[$doc:meta])* $get:ident bitmap) => {
        $(#[$doc])* pub fn $get(&self) -> Arc<str> { self.text(Row::$get as usize) }
    };
    ($(#[$doc:meta])* $get:ident text) => {
        $(#[$doc])* pub fn $get(&self) -> Arc<str> { self.text(Row::$get as usize) }
    };
}

macro_rules! sysctls {
    ($(
        $get:ident $name:literal $ty:ident($lo:expr, $hi:expr) $default:literal $support:ident $mode:ident
            $doc:literal,
    )*) => {
        /// Index of a row in the table.
        #[expect(non_camel_case_types, reason = "the getters' names, which are Linux's")]
        #[derive(Clone, Copy)]
        pub(super) enum Row { $($get,)* }

        /// Number of rows.
        pub(super) const ROWS: usize = [$(Row::$get),*].len();

        /// All rows, in order of [`Row`].
        pub(super) static TABLE: [Def; ROWS] = [$(Def {
            name: Cow::Borrowed($name),
            kind: kind!($ty, $lo, $hi),
            default: Cow::Borrowed($default),
            support: Support::$support,
            mode: Mode::$mode,
            help: Cow::Borrowed($doc),
        },)*];

        /// A getter per sysctl of the table: relaxed atomic loads, fast enough for the data path, except for texts.
        impl Sysctls {
            $(getter! { #[doc = concat!("`", $name, "`: ", $doc)] $get $ty })*
        }

        /// The getters' names with their rows' names and support, for the test that every live sysctl is read
        /// somewhere.
        #[cfg(test)]
        pub(super) const GETTERS: &[(&str, &str, Support)] = &[$((stringify!($get), $name, Support::$support),)*];
    };
}

#[rustfmt::skip]
sysctls! {
    // TCP: opening and closing.
    tcp_abort_on_overflow "net.ipv4.tcp_abort_on_overflow" flag(0, 255) "0" Live Rw
        "Reset, instead of ignoring, a connection that finds the accept queue full.",
    tcp_fin_timeout "net.ipv4.tcp_fin_timeout" secs(-8589934, 8589934) "60" Live Rw
        "How long an orphan stays in FIN_WAIT2.",
    tcp_max_orphans "net.ipv4.tcp_max_orphans" int(I32_MIN, I32_MAX) "131072" Live Rw
        "Sockets without a descriptor before new orphans are reset. Linux: half the hash table.",
    tcp_max_syn_backlog "net.ipv4.tcp_max_syn_backlog" int(I32_MIN, I32_MAX) "2048" Live Rw
        "Requests a listener remembers without cookies. Linux: by memory; here as for 262,144 hash slots.",
    tcp_max_tw_buckets "net.ipv4.tcp_max_tw_buckets" int(I32_MIN, I32_MAX) "131072" Live Rw
        "Time-wait sockets before new ones are not kept. Linux: half the hash table.",
    tcp_migrate_req "net.ipv4.tcp_migrate_req" flag(0, 1) "0" Live Rw
        "Move requests of a closed listener to another of its SO_REUSEPORT group.",
    tcp_orphan_retries "net.ipv4.tcp_orphan_retries" int(0, 255) "0" Live Rw
        "Retransmissions of an orphan before it is killed; 0 means 8.",
    tcp_rfc1337 "net.ipv4.tcp_rfc1337" flag(0, 255) "0" Live Rw
        "Ignore RSTs in TIME-WAIT (RFC 1337).",
    tcp_syn_linear_timeouts "net.ipv4.tcp_syn_linear_timeouts" int(0, 127) "4" Live Rw
        "SYN retransmissions at the same interval before backing off.",
    tcp_syn_retries "net.ipv4.tcp_syn_retries" int(1, 127) "6" Live Rw
        "SYN retransmissions.",
    tcp_synack_retries "net.ipv4.tcp_synack_retries" int(0, 255) "5" Live Rw
        "SYN-ACK retransmissions.",
    tcp_syncookies "net.ipv4.tcp_syncookies" int(0, 255) "1" Live Rw
        "SYN cookies when the SYN queue overflows (1) or always (2).",
    tcp_tw_reuse "net.ipv4.tcp_tw_reuse" int(0, 2) "2" Live Rw
        "Take a time-wait port for a new connection: 1 yes, 2 for loopback only (RFC 6191).",
    tcp_tw_reuse_delay "net.ipv4.tcp_tw_reuse_delay" msecs(1, 60000) "1000" Live Rw
        "Age of a time-wait socket before it may be taken over.",
    // TCP: Fast Open.
    tcp_fastopen "net.ipv4.tcp_fastopen" int(I32_MIN, I32_MAX) "1" Live Rw
        "Fast Open: bit 0 client, bit 1 server, and the finer bits of tcp(7).",
    tcp_fastopen_blackhole_timeout_sec "net.ipv4.tcp_fastopen_blackhole_timeout_sec" secs(0, I32_MAX) "0" Live Rw
        "First pause of Fast Open after it met a firewall that drops it.",
    tcp_fastopen_key "net.ipv4.tcp_fastopen_key" text(0, 0) "00000000-00000000-00000000-00000000" Live Rw
        "Key of Fast Open cookies, or with a comma the key and the one before it.",
    // TCP: options.
    tcp_dsack "net.ipv4.tcp_dsack" flag(0, 255) "1" Live Rw
        "Send duplicate SACKs (RFC 2883).",
    tcp_ecn "net.ipv4.tcp_ecn" int(0, 5) "2" Live Rw
        "ECN: 0 off; 1 ask and answer, 2 answer only; accurate ECN: 3 ask and answer, 4 ask plain, 5 answer only.",
    tcp_ecn_fallback "net.ipv4.tcp_ecn_fallback" flag(0, 1) "1" Live Rw
        "Retry a SYN without ECN (RFC 3168 §6.1.1.1).",
    tcp_ecn_option "net.ipv4.tcp_ecn_option" int(0, 3) "2" Live Rw
        "AccECN option: 0 never, 1 when counters change and now and then, 2 in segments with room, 3 if lost, too.",
    tcp_ecn_option_beacon "net.ipv4.tcp_ecn_option_beacon" int(0, 3) "3" Live Rw
        "AccECN options a round trip at least, with tcp_ecn_option 1.",
    tcp_sack "net.ipv4.tcp_sack" flag(0, 255) "1" Live Rw
        "Selective acknowledgements (RFC 2018).",
    tcp_timestamps "net.ipv4.tcp_timestamps" int(0, 255) "1" Live Rw
        "Timestamps (RFC 7323): 0 off, 1 with a random offset per connection, 2 without.",
    tcp_window_scaling "net.ipv4.tcp_window_scaling" flag(0, 255) "1" Live Rw
        "Window scaling (RFC 7323).",
    tcp_reflect_tos "net.ipv4.tcp_reflect_tos" flag(0, 1) "0" Live Rw
        "Answer a SYN with its own TOS.",
    // TCP: acknowledgements.
    tcp_backlog_ack_defer "net.ipv4.tcp_backlog_ack_defer" flag(0, 1) "1" Live Rw
        "One ACK for a whole backlog.",
    tcp_challenge_ack_limit "net.ipv4.tcp_challenge_ack_limit" int(I32_MIN, I32_MAX) "2147483647" Live Rw
        "Challenge ACKs a second, all connections together; the greatest integer means unlimited (CVE-2016-5696).",
    tcp_comp_sack_delay_ns "net.ipv4.tcp_comp_sack_delay_ns" nanos(0, U64_MAX) "1000000" Live Rw
        "Longest delay of a compressed SACK, ns; at most a twentieth of the round trip.",
    tcp_comp_sack_nr "net.ipv4.tcp_comp_sack_nr" int(0, 255) "44" Live Rw
        "Most SACKs compressed into one; 0 compresses none.",
    tcp_comp_sack_slack_ns "net.ipv4.tcp_comp_sack_slack_ns" nanos(0, U64_MAX) "100000" Live Rw
        "Slack of the compressed-SACK timer, ns: added to the delay.",
    tcp_invalid_ratelimit "net.ipv4.tcp_invalid_ratelimit" msecs(0, I32_MAX) "500" Live Rw
        "Least interval between answers to invalid segments of a connection.",
    tcp_pingpong_thresh "net.ipv4.tcp_pingpong_thresh" int(1, 255) "1" Live Rw
        "Replies soon after requests before ACKs are delayed as interactive.",
    // TCP: windows and buffers.
    tcp_adv_win_scale "net.ipv4.tcp_adv_win_scale" int(-31, 31) "1" Legacy Rw
        "Buffer share not advertised. Obsolete since Linux 6.6: the share follows from the measured truesize.",
    tcp_app_win "net.ipv4.tcp_app_win" int(0, 31) "31" Live Rw
        "Reserve window/2^n of the buffer for the application.",
    tcp_mem "net.ipv4.tcp_mem" ulongs3(0, U64_MAX) "196608\t262144\t393216" Live Rw
        "All TCP buffers, in pages: below, pressure, hard limit. Linux: by memory; here as for 16 GiB.",
    tcp_moderate_rcvbuf "net.ipv4.tcp_moderate_rcvbuf" flag(0, 255) "1" Live Rw
        "Grow the receive buffer with the measured rate.",
    tcp_rmem "net.ipv4.tcp_rmem" ints3(1, I32_MAX) "4096\t131072\t33554432" Live Rw
        "Receive buffer, bytes: least, first, greatest.",
    tcp_wmem "net.ipv4.tcp_wmem" ints3(1, I32_MAX) "4096\t16384\t4194304" Live Rw
        "Send buffer, bytes: least, first, greatest.",
    tcp_shrink_window "net.ipv4.tcp_shrink_window" flag(0, 1) "0" Live Rw
        "Let the advertised window shrink to what memory is free, where windows are scaled.",
    tcp_workaround_signed_windows "net.ipv4.tcp_workaround_signed_windows" flag(0, 255) "0" Live Rw
        "Never offer more than 32767 bytes to a peer that did not scale.",
    tcp_notsent_lowat "net.ipv4.tcp_notsent_lowat" uint(0, U32_MAX) "4294967295" Live Rw
        "Unsent bytes below which a socket is writable.",
    // TCP: sending.
    tcp_autocorking "net.ipv4.tcp_autocorking" flag(0, 1) "1" Live Rw
        "Hold a small segment while earlier ones wait in the device queue.",
    tcp_limit_output_bytes "net.ipv4.tcp_limit_output_bytes" int(I32_MIN, I32_MAX) "4194304" Live Rw
        "Bytes of a socket in the device queue (TSQ).",
    tcp_min_tso_segs "net.ipv4.tcp_min_tso_segs" int(1, 255) "2" Live Rw
        "Least segments of a super-packet.",
    tcp_tso_rtt_log "net.ipv4.tcp_tso_rtt_log" int(0, 255) "9" Live Rw
        "Bigger super-packets for near peers: halve the bonus each 2^n us of RTT.",
    tcp_tso_win_divisor "net.ipv4.tcp_tso_win_divisor" int(0, 255) "3" Live Rw
        "Share of the window that one super-packet may take.",
    tcp_pacing_ca_ratio "net.ipv4.tcp_pacing_ca_ratio" int(0, 1000) "120" Live Rw
        "Pacing rate in congestion avoidance, percent of cwnd/srtt.",
    tcp_pacing_ss_ratio "net.ipv4.tcp_pacing_ss_ratio" int(0, 1000) "200" Live Rw
        "Pacing rate in slow start, percent of cwnd/srtt.",
    tcp_retrans_collapse "net.ipv4.tcp_retrans_collapse" flag(0, 255) "1" Live Rw
        "Merge small segments when they are sent again.",
    tcp_slow_start_after_idle "net.ipv4.tcp_slow_start_after_idle" flag(0, 255) "1" Live Rw
        "Shrink cwnd after idling an RTO (RFC 2861).",
    tcp_stdurg "net.ipv4.tcp_stdurg" flag(0, 255) "0" Live Rw
        "Urgent pointer points at (1) instead of after (0) the urgent byte (RFC 6093).",
    // TCP: MSS and path MTU.
    tcp_base_mss "net.ipv4.tcp_base_mss" int(I32_MIN, I32_MAX) "1024" Live Rw
        "First MSS that MTU probing tries.",
    tcp_min_snd_mss "net.ipv4.tcp_min_snd_mss" int(48, 65535) "48" Live Rw
        "Least MSS we send by, options included (CVE-2019-11479).",
    tcp_mtu_probe_floor "net.ipv4.tcp_mtu_probe_floor" int(48, 65535) "48" Live Rw
        "Least MSS that MTU probing falls to.",
    tcp_mtu_probing "net.ipv4.tcp_mtu_probing" int(0, 255) "0" Live Rw
        "MTU probing (RFC 4821): 0 off, 1 when a black hole shows, 2 always.",
    tcp_probe_interval "net.ipv4.tcp_probe_interval" secs(0, 17179869) "600" Live Rw
        "Wait before MTU probing tries larger again.",
    tcp_probe_threshold "net.ipv4.tcp_probe_threshold" int(I32_MIN, I32_MAX) "8" Live Rw
        "MTU probing stops when the search range is narrower, bytes.",
    // TCP: loss and timers.
    tcp_early_retrans "net.ipv4.tcp_early_retrans" int(0, 4) "3" Live Rw
        "Tail loss probes: 0 off, 3 or 4 on (RFC 8985 §7).",
    tcp_frto "net.ipv4.tcp_frto" int(0, 255) "2" Live Rw
        "Spurious-timeout detection (RFC 5682): 0 off.",
    tcp_keepalive_intvl "net.ipv4.tcp_keepalive_intvl" secs(-8589934, 8589934) "75" Live Rw
        "Between keepalive probes.",
    tcp_keepalive_probes "net.ipv4.tcp_keepalive_probes" int(0, 255) "9" Live Rw
        "Unanswered keepalive probes before the connection ends.",
    tcp_keepalive_time "net.ipv4.tcp_keepalive_time" secs(-8589934, 8589934) "7200" Live Rw
        "Idle time before the first keepalive probe.",
    tcp_max_reordering "net.ipv4.tcp_max_reordering" int(1, I32_MAX) "300" Live Rw
        "Greatest reordering, segments, that a connection adapts to.",
    tcp_min_rtt_wlen "net.ipv4.tcp_min_rtt_wlen" secs(0, 86400) "300" Live Rw
        "Window of the minimum-RTT filter.",
    tcp_recovery "net.ipv4.tcp_recovery" int(0, 255) "1" Live Rw
        "RACK loss detection bits (RFC 8985): 1 on, 2 static reordering window, 4 no DUPACK threshold.",
    tcp_reordering "net.ipv4.tcp_reordering" int(1, 300) "3" Live Rw
        "First guess of reordering, segments: the DUPACK threshold.",
    tcp_retries1 "net.ipv4.tcp_retries1" int(0, 255) "3" Live Rw
        "Retransmissions before the route is suspected (RFC 1122 §4.2.3.5 R1).",
    tcp_retries2 "net.ipv4.tcp_retries2" int(0, 255) "15" Live Rw
        "Retransmissions before the connection ends (RFC 1122 §4.2.3.5 R2), as a time.",
    tcp_rto_max_ms "net.ipv4.tcp_rto_max_ms" msecs(1000, 120000) "120000" Live Rw
        "Greatest RTO.",
    tcp_rto_min_us "net.ipv4.tcp_rto_min_us" micros(1, I32_MAX) "200000" Live Rw
        "Least RTO.",
    tcp_thin_linear_timeouts "net.ipv4.tcp_thin_linear_timeouts" flag(0, 255) "0" Live Rw
        "No back-off for streams of few packets.",
    // TCP: congestion control.
    tcp_allowed_congestion_control "net.ipv4.tcp_allowed_congestion_control" text(0, 0) "reno cubic bbr" Live Rw
        "Algorithms that programs may choose by TCP_CONGESTION; TCP keeps the list.",
    tcp_available_congestion_control "net.ipv4.tcp_available_congestion_control" text(0, 0) "reno cubic" Live Ro
        "Registered algorithms; answered by a reader hook.",
    tcp_congestion_control "net.ipv4.tcp_congestion_control" text(0, 0) "cubic" Live Rw
        "Algorithm of new sockets. Refused with ENOENT, by a validator hook, when not registered.",
    cubic_hystart "tcp_cubic.hystart" flag(0, 1) "1" Live Rw
        "CUBIC ends slow start before a loss. A parameter of Linux's module, as on the kernel's command line.",
    cubic_hystart_ack_delta "tcp_cubic.hystart_ack_delta_us" int(0, I32_MAX) "2000" Live Rw
        "HyStart: greatest space between ACKs of one train, microseconds.",
    cubic_hystart_detect "tcp_cubic.hystart_detect" int(0, 7) "3" Live Rw
        "By what: 1 ACK trains, 2 delay; 4 HyStart++ (RFC 9406) in place of both, which Linux lacks.",
    cubic_hystart_low_window "tcp_cubic.hystart_low_window" int(0, I32_MAX) "16" Live Rw
        "HyStart: least window, segments.",
    tcp_no_metrics_save "net.ipv4.tcp_no_metrics_save" flag(0, 255) "0" Live Rw
        "Forget what a connection learned of its destination.",
    tcp_no_ssthresh_metrics_save "net.ipv4.tcp_no_ssthresh_metrics_save" flag(0, 1) "1" Live Rw
        "Forget ssthresh at least.",
    tcp_plb_cong_thresh "net.ipv4.tcp_plb_cong_thresh" int(0, 256) "128" Live Rw
        "PLB: congested share of packets, of 256.",
    tcp_plb_enabled "net.ipv4.tcp_plb_enabled" flag(0, 1) "0" Live Rw
        "Protective load balancing.",
    tcp_plb_idle_rehash_rounds "net.ipv4.tcp_plb_idle_rehash_rounds" int(0, 31) "3" Live Rw
        "PLB: congested rounds before rehashing when idle.",
    tcp_plb_rehash_rounds "net.ipv4.tcp_plb_rehash_rounds" int(0, 31) "12" Live Rw
        "PLB: congested rounds before rehashing.",
    tcp_plb_suspend_rto_sec "net.ipv4.tcp_plb_suspend_rto_sec" secs(0, 255) "60" Live Rw
        "PLB: pause after an RTO.",
    // TCP: miscellaneous.
    tcp_available_ulp "net.ipv4.tcp_available_ulp" text(0, 0) "" Live Ro
        "Registered upper-layer protocols; answered by a reader hook.",
    tcp_available_stacks "net.ipv4.tcp_available_stacks" text(0, 0) "default" Live Ro
        "TCPs that TCP_STACK may choose, which Linux lacks; answered by a reader hook.",
    tcp_child_ehash_entries "net.ipv4.tcp_child_ehash_entries" uint(0, 16777216) "0" Legacy Rw
        "Hash table size of child namespaces, which a stack cannot have; 0: share.",
    tcp_early_demux "net.ipv4.tcp_early_demux" flag(0, 255) "1" Moot Rw
        "Find the socket before routing, which saves Linux a look-up. Here the route to this host is remembered.",
    tcp_ehash_entries "net.ipv4.tcp_ehash_entries" int(I32_MIN, I32_MAX) "-262144" Live Ro
        "Slots of the established table; negative: shared by namespaces.",
    tcp_fack "net.ipv4.tcp_fack" int(0, 255) "0" Legacy Rw
        "Without effect since Linux 4.15.",
    tcp_fwmark_accept "net.ipv4.tcp_fwmark_accept" flag(0, 255) "0" Live Rw
        "An accepted socket takes its SYN's mark, where the listener has none.",
    tcp_l3mdev_accept "net.ipv4.tcp_l3mdev_accept" flag(0, 1) "0" Legacy Rw
        "Listeners accept from any VRF: as on a kernel without VRFs, there is none.",
    tcp_stack "net.ipv4.tcp_stack" text(0, 0) "default" Live Rw
        "TCP of new sockets, which Linux lacks. Refused with ENOENT, by a validator hook, when not registered.",
    tcp_low_latency "net.ipv4.tcp_low_latency" int(I32_MIN, I32_MAX) "0" Legacy Rw
        "Without effect since Linux 4.14.",
    // IPv4.
    force_igmp_version "net.ipv4.conf.all.force_igmp_version" int(I32_MIN, I32_MAX) "0" Live Rw
        "IGMP version to speak: 1, 2; 0 or 3: that of the querier.",
    igmpv2_unsolicited_report_interval "net.ipv4.conf.all.igmpv2_unsolicited_report_interval" int(I32_MIN, I32_MAX)
        "10000" Live Rw "Longest time between unsolicited reports of IGMPv1 and IGMPv2, ms.",
    igmpv3_unsolicited_report_interval "net.ipv4.conf.all.igmpv3_unsolicited_report_interval" int(I32_MIN, I32_MAX)
        "1000" Live Rw "Longest time between unsolicited reports of IGMPv3, ms.",
    igmp_link_local_mcast_reports "net.ipv4.igmp_link_local_mcast_reports" flag(0, 255) "1" Live Rw
        "Report groups of 224.0.0.0/24, too.",
    igmp_max_memberships "net.ipv4.igmp_max_memberships" int(I32_MIN, I32_MAX) "20" Live Rw
        "Groups a socket may join.",
    igmp_max_msf "net.ipv4.igmp_max_msf" int(I32_MIN, I32_MAX) "10" Live Rw
        "Sources in a socket's filter of a group.",
    igmp_qrv "net.ipv4.igmp_qrv" int(1, I32_MAX) "2" Live Rw
        "How often a change of a group is reported (robustness variable).",
    ip_autobind_reuse "net.ipv4.ip_autobind_reuse" flag(0, 1) "0" Live Rw
        "bind to port 0 may reuse SO_REUSEADDR ports.",
    ip_default_ttl "net.ipv4.ip_default_ttl" int(1, 255) "64" Live Rw
        "TTL of what we send.",
    ip_dynaddr "net.ipv4.ip_dynaddr" int(0, 255) "0" Live Rw
        "A SYN that is sent again after its source was removed has the new one. Linux logs with 2; here as 1.",
    ip_early_demux "net.ipv4.ip_early_demux" flag(0, 255) "1" Moot Rw
        "Find the socket before routing, which saves Linux a look-up. Here the route to this host is remembered.",
    ip_forward "net.ipv4.ip_forward" int(0, 0) "0" Live Rw
        "Always 0: a stack is a host and does not forward. Linux takes other values; here they are EINVAL.",
    ip_local_port_range "net.ipv4.ip_local_port_range" ports(0, 65535) "32768\t60999" Live Rw
        "Ports that connect and bind to 0 choose from; EINVAL when empty or below `ip_unprivileged_port_start`.",
    ip_local_reserved_ports "net.ipv4.ip_local_reserved_ports" bitmap(0, 0) "" Live Rw
        "Ports never chosen by the stack, as `8080,10000-10010`.",
    ip_no_pmtu_disc "net.ipv4.ip_no_pmtu_disc" int(0, 255) "0" Live Rw
        "Path MTU discovery: 0 on, 1 off, 2 ignore what ICMP says, 3 only from known sockets.",
    ip_nonlocal_bind "net.ipv4.ip_nonlocal_bind" flag(0, 255) "0" Live Rw
        "bind to addresses that are not ours.",
    ip_unprivileged_port_start "net.ipv4.ip_unprivileged_port_start" int(0, 65535) "0" Live Rw
        "First port that programs of a shared stack may bind; its owner may bind all. Linux: 1024.",
    ipfrag_high_thresh "net.ipv4.ipfrag_high_thresh" ulong(0, U64_MAX) "4194304" Live Rw
        "Bytes of fragments kept; not below `ipfrag_low_thresh`.",
    ipfrag_low_thresh "net.ipv4.ipfrag_low_thresh" ulong(0, U64_MAX) "3145728" Legacy Rw
        "Obsolete since Linux 4.17; not above `ipfrag_high_thresh`.",
    ipfrag_max_dist "net.ipv4.ipfrag_max_dist" int(0, I32_MAX) "64" Live Rw
        "Fragments of one source between two of one datagram; 0: any number.",
    ipfrag_secret_interval "net.ipv4.ipfrag_secret_interval" int(I32_MIN, I32_MAX) "0" Legacy Rw
        "Without effect since Linux 4.17.",
    ipfrag_time "net.ipv4.ipfrag_time" secs(-8589934, 8589934) "30" Live Rw
        "How long fragments wait for the rest.",
    ping_group_range "net.ipv4.ping_group_range" gids(0, 4294967294) "1\t0" Live Rw
        "Groups that may open ping sockets; the first above the second: none.",
    route_min_adv_mss "net.ipv4.route.min_adv_mss" int(I32_MIN, I32_MAX) "256" Live Rw
        "Least MSS we announce.",
    route_min_pmtu "net.ipv4.route.min_pmtu" int(68, I32_MAX) "552" Live Rw
        "Least path MTU that ICMP can set.",
    route_mtu_expires "net.ipv4.route.mtu_expires" secs(-8589934, 8589934) "600" Live Rw
        "How long a learned path MTU is kept.",
    // ICMP.
    icmp_echo_enable_probe "net.ipv4.icmp_echo_enable_probe" flag(0, 1) "0" Live Rw
        "Answer PROBE (RFC 8335), of both families.",
    icmp_echo_ignore_all "net.ipv4.icmp_echo_ignore_all" flag(0, 1) "0" Live Rw
        "Do not answer echo requests.",
    icmp_echo_ignore_broadcasts "net.ipv4.icmp_echo_ignore_broadcasts" flag(0, 1) "1" Live Rw
        "Do not answer broadcast and multicast echo requests.",
    icmp_errors_use_inbound_ifaddr "net.ipv4.icmp_errors_use_inbound_ifaddr" flag(0, 1) "0" Legacy Rw
        "Errors about forwarded packets have the address of the arriving interface; a host forwards none.",
    icmp_ignore_bogus_error_responses "net.ipv4.icmp_ignore_bogus_error_responses" flag(0, 1) "1" Live Rw
        "Do not log errors that answer broadcasts. The log is that of `usersock trace`.",
    icmp_msgs_burst "net.ipv4.icmp_msgs_burst" int(0, I32_MAX) "50" Live Rw
        "Limited ICMP messages in a burst, all destinations.",
    icmp_msgs_per_sec "net.ipv4.icmp_msgs_per_sec" int(0, I32_MAX) "1000" Live Rw
        "Limited ICMP messages a second, all destinations.",
    icmp_ratelimit "net.ipv4.icmp_ratelimit" msecs(0, I32_MAX) "1000" Live Rw
        "Between limited ICMP messages to one destination.",
    icmp_ratemask "net.ipv4.icmp_ratemask" int(I32_MIN, I32_MAX) "6168" Live Rw
        "ICMP types that are limited, a bit each.",
    // UDP.
    udp_child_hash_entries "net.ipv4.udp_child_hash_entries" uint(0, 65536) "0" Legacy Rw
        "Hash table size of child namespaces, which a stack cannot have; 0: share.",
    udp_early_demux "net.ipv4.udp_early_demux" flag(0, 255) "1" Moot Rw
        "Find the socket before routing, which saves Linux a look-up. Here the route to this host is remembered.",
    udp_hash_entries "net.ipv4.udp_hash_entries" int(I32_MIN, I32_MAX) "-16384" Live Ro
        "Slots of the UDP table; negative: shared by namespaces.",
    udp_l3mdev_accept "net.ipv4.udp_l3mdev_accept" flag(0, 1) "0" Legacy Rw
        "Sockets receive from any VRF: as on a kernel without VRFs, there is none.",
    udp_mem "net.ipv4.udp_mem" ulongs3(0, U64_MAX) "393216\t524288\t786432" Live Rw
        "All UDP buffers, in pages: below, pressure, hard limit. Linux: by memory; here as for 16 GiB.",
    udp_rmem_min "net.ipv4.udp_rmem_min" int(1, I32_MAX) "4096" Live Rw
        "Receive buffer that memory pressure leaves a socket, bytes.",
    udp_wmem_min "net.ipv4.udp_wmem_min" int(1, I32_MAX) "4096" Live Rw
        "Send buffer that memory pressure leaves a socket, bytes.",
    // All protocols.
    busy_poll "net.core.busy_poll" int(0, I32_MAX) "0" Live Rw
        "Busy polling in poll and select, microseconds.",
    busy_read "net.core.busy_read" int(0, I32_MAX) "0" Live Rw
        "First `SO_BUSY_POLL` of a socket, microseconds.",
    netdev_budget "net.core.netdev_budget" int(I32_MIN, I32_MAX) "300" Moot Rw
        "Packets a round of softirq takes before it gives way. Here calls and threads do that work, which the kernel's \
         scheduler shares out, 64 packets of each queue in turn.",
    netdev_max_backlog "net.core.netdev_max_backlog" int(I32_MIN, I32_MAX) "1000" Moot Rw
        "Packets that wait between a device and the stack. Here they wait in the device, and on the loopback until the \
         call that sent them ends, so that none is dropped.",
    optmem_max "net.core.optmem_max" int(0, I32_MAX) "131072" Live Rw
        "Ancillary memory of a socket, bytes: completions of `MSG_ZEROCOPY`.",
    rmem_default "net.core.rmem_default" int(2304, I32_MAX) "212992" Live Rw
        "First receive buffer of a socket, bytes.",
    rmem_max "net.core.rmem_max" int(2304, I32_MAX) "4194304" Live Rw
        "Greatest `SO_RCVBUF`, bytes.",
    somaxconn "net.core.somaxconn" int(0, I32_MAX) "4096" Live Rw
        "Greatest backlog of listen(2).",
    tstamp_allow_data "net.core.tstamp_allow_data" flag(0, 1) "1" Live Rw
        "Give transmit timestamps together with the data.",
    txrehash "net.core.txrehash" int(0, 1) "1" Live Rw
        "First `SO_TXREHASH` of a socket.",
    wmem_default "net.core.wmem_default" int(4608, I32_MAX) "212992" Live Rw
        "First send buffer of a socket, bytes.",
    wmem_max "net.core.wmem_max" int(4608, I32_MAX) "4194304" Live Rw
        "Greatest `SO_SNDBUF`, bytes.",
    // IPv6.
    auto_flowlabels "net.ipv6.auto_flowlabels" int(0, 3) "1" Live Rw
        "Flow labels from the flow hash: 0 never, 1 unless the socket declines, 2 if it asks, 3 always.",
    bindv6only "net.ipv6.bindv6only" flag(0, 255) "0" Live Rw
        "First `IPV6_V6ONLY` of a socket.",
    ip6_accept_ra "net.ipv6.conf.all.accept_ra" int(I32_MIN, I32_MAX) "0" Live Rw
        "Take router advertisements. Linux: 1; here addresses are configured, unless it is asked for.",
    ip6_accept_ra_defrtr "net.ipv6.conf.all.accept_ra_defrtr" flag(I32_MIN, I32_MAX) "1" Live Rw
        "Who sends them is a default router.",
    ip6_accept_ra_from_local "net.ipv6.conf.all.accept_ra_from_local" flag(I32_MIN, I32_MAX) "0" Live Rw
        "Also from an address of ours.",
    ip6_accept_ra_min_hop_limit "net.ipv6.conf.all.accept_ra_min_hop_limit" int(I32_MIN, I32_MAX) "1" Live Rw
        "Least hop limit that is taken from them.",
    ip6_accept_ra_mtu "net.ipv6.conf.all.accept_ra_mtu" flag(I32_MIN, I32_MAX) "1" Live Rw
        "Take the MTU of the link from them.",
    ip6_accept_ra_pinfo "net.ipv6.conf.all.accept_ra_pinfo" flag(I32_MIN, I32_MAX) "1" Live Rw
        "Take the prefixes of the link from them.",
    ip6_accept_ra_rtr_pref "net.ipv6.conf.all.accept_ra_rtr_pref" flag(I32_MIN, I32_MAX) "1" Live Rw
        "Mind the routers' preferences (RFC 4191).",
    ip6_addr_gen_mode "net.ipv6.conf.all.addr_gen_mode" int(0, 3) "0" Live Rw
        "Interface identifiers: 0 and 1 EUI-64 without a secret, 1 also no link-local address, 2 stable, 3 stable with \
         a random secret.",
    ip6_stable_secret "net.ipv6.conf.all.stable_secret" text(0, 0) "" Live Rw
        "An address: the secret of stable interface identifiers (RFC 7217), which replace EUI-64.",
    ip6_autoconf "net.ipv6.conf.all.autoconf" flag(I32_MIN, I32_MAX) "1" Live Rw
        "Make addresses of advertised prefixes.",
    ip6_dad_transmits "net.ipv6.conf.all.dad_transmits" int(I32_MIN, I32_MAX) "1" Live Rw
        "Probes before such an address is used.",
    ip6_max_addresses "net.ipv6.conf.all.max_addresses" int(I32_MIN, I32_MAX) "16" Live Rw
        "Addresses of an interface beyond which advertisements make none; 0: no limit.",
    ip6_ra_defrtr_metric "net.ipv6.conf.all.ra_defrtr_metric" int(1, I32_MAX) "1024" Live Rw
        "Metric of the default route by such a router.",
    ip6_router_solicitations "net.ipv6.conf.all.router_solicitations" int(-1, I32_MAX) "-1" Live Rw
        "Solicitations before none is sent any more; -1: no limit.",
    ip6_router_solicitation_interval "net.ipv6.conf.all.router_solicitation_interval" secs(0, 8589934) "4" Live Rw
        "Between the first two; it doubles from one to the next.",
    ip6_router_solicitation_max_interval "net.ipv6.conf.all.router_solicitation_max_interval" secs(0, 8589934)
        "3600" Live Rw "Longest time between two; 0: no limit.",
    ip6_accept_dad "net.ipv6.conf.all.accept_dad" int(I32_MIN, 1) "1" Live Rw
        "Duplicate address detection of addresses by advertisements; below 1: none. Linux's 2, which ends IPv6 of an \
         interface, is EINVAL.",
    ip6_disable_ipv6 "net.ipv6.conf.all.disable_ipv6" flag(0, 1) "0" Live Rw
        "IPv6 off. With 0 the addresses are there again; Linux has forgotten them.",
    ip6_forwarding "net.ipv6.conf.all.forwarding" int(0, 0) "0" Live Rw
        "Always 0: a stack is a host and does not forward.",
    ip6_hop_limit "net.ipv6.conf.all.hop_limit" int(1, 255) "64" Live Rw
        "Hop limit of what we send.",
    flowlabel_consistency "net.ipv6.flowlabel_consistency" flag(0, 255) "1" Live Rw
        "Sockets may not ask to reflect the peer's flow label (`IPV6_FL_F_REFLECT`).",
    flowlabel_reflect "net.ipv6.flowlabel_reflect" int(0, 7) "0" Live Rw
        "Answer with the flow label received: 1 TCP connections, 2 resets of no socket's, 4 echo replies.",
    flowlabel_state_ranges "net.ipv6.flowlabel_state_ranges" flag(0, 255) "0" Live Rw
        "The upper half of the labels is for those of hashes, and cannot be leased.",
    icmp6_echo_ignore_all "net.ipv6.icmp.echo_ignore_all" flag(0, 255) "0" Live Rw
        "Do not answer echo requests.",
    icmp6_echo_ignore_anycast "net.ipv6.icmp.echo_ignore_anycast" flag(0, 255) "0" Moot Rw
        "Do not answer anycast echo requests. No address of this stack is anycast, and such a request is not its own.",
    icmp6_echo_ignore_multicast "net.ipv6.icmp.echo_ignore_multicast" flag(0, 255) "0" Live Rw
        "Do not answer multicast echo requests.",
    icmp6_ratelimit "net.ipv6.icmp.ratelimit" msecs(0, I32_MAX) "100" Live Rw
        "Between limited ICMPv6 messages to one destination.",
    icmp6_ratemask "net.ipv6.icmp.ratemask" bitmap(0, 0) "0-1,3-127" Live Rw
        "ICMPv6 types that are limited.",
    ip6frag_high_thresh "net.ipv6.ip6frag_high_thresh" ulong(0, U64_MAX) "4194304" Live Rw
        "Bytes of fragments kept; not below `ip6frag_low_thresh`.",
    ip6frag_low_thresh "net.ipv6.ip6frag_low_thresh" ulong(0, U64_MAX) "3145728" Legacy Rw
        "Obsolete since Linux 4.17; not above `ip6frag_high_thresh`.",
    ip6frag_secret_interval "net.ipv6.ip6frag_secret_interval" int(I32_MIN, I32_MAX) "0" Legacy Rw
        "Without effect since Linux 4.17.",
    ip6frag_time "net.ipv6.ip6frag_time" secs(-8589934, 8589934) "60" Live Rw
        "How long fragments wait for the rest.",
    ip6_nonlocal_bind "net.ipv6.ip_nonlocal_bind" flag(0, 255) "0" Live Rw
        "bind to addresses that are not ours.",
    force_mld_version "net.ipv6.conf.all.force_mld_version" int(I32_MIN, I32_MAX) "0" Live Rw
        "MLD version to speak: 1, 2; 0: that of the querier.",
    mldv1_unsolicited_report_interval "net.ipv6.conf.all.mldv1_unsolicited_report_interval" msecs(0, I32_MAX)
        "10000" Live Rw "Longest time between unsolicited reports of MLDv1.",
    mldv2_unsolicited_report_interval "net.ipv6.conf.all.mldv2_unsolicited_report_interval" msecs(0, I32_MAX)
        "1000" Live Rw "Longest time between unsolicited reports of MLDv2.",
    mld_max_msf "net.ipv6.mld_max_msf" int(I32_MIN, I32_MAX) "64" Live Rw
        "Sources in a socket's filter of a group.",
    mld_qrv "net.ipv6.mld_qrv" int(1, I32_MAX) "2" Live Rw
        "How often a change of a group is reported (robustness variable).",
    max_dst_opts_number "net.ipv6.max_dst_opts_number" int(I32_MIN, I32_MAX) "8" Live Rw
        "Options accepted in a destination header; negative: and no unknown ones.",
    max_hbh_opts_number "net.ipv6.max_hbh_opts_number" int(I32_MIN, I32_MAX) "8" Live Rw
        "Options accepted in a hop-by-hop header; negative: and no unknown ones.",
    max_dst_opts_length "net.ipv6.max_dst_opts_length" int(I32_MIN, I32_MAX) "2147483647" Live Rw
        "Bytes accepted of a destination header.",
    max_hbh_length "net.ipv6.max_hbh_length" int(I32_MIN, I32_MAX) "2147483647" Live Rw
        "Bytes accepted of a hop-by-hop header.",
    route6_min_adv_mss "net.ipv6.route.min_adv_mss" int(I32_MIN, I32_MAX) "1220" Live Rw
        "Least MSS we announce.",
    route6_mtu_expires "net.ipv6.route.mtu_expires" secs(-8589934, 8589934) "600" Live Rw
        "How long a learned path MTU is kept.",
    // Neighbours (ARP and NDP). The variants of the `_ms` names in seconds are deprecated in Linux, and absent here.
    neigh_app_solicit "net.ipv4.neigh.default.app_solicit" int(0, I32_MAX) "0" Live Rw
        "Probes left to a daemon: times to wait that nothing is sent.",
    neigh_base_reachable_time_ms "net.ipv4.neigh.default.base_reachable_time_ms" msecs(1, I32_MAX) "30000" Live Rw
        "How long, about, an answer is believed.",
    neigh_delay_first_probe_time "net.ipv4.neigh.default.delay_first_probe_time" secs(-8589934, 8589934) "5" Live Rw
        "Wait for a hint before probing.",
    neigh_gc_interval "net.ipv4.neigh.default.gc_interval" secs(-8589934, 8589934) "30" Legacy Rw
        "Without effect since Linux 2.6.32.",
    neigh_gc_stale_time "net.ipv4.neigh.default.gc_stale_time" secs(-8589934, 8589934) "60" Live Rw
        "Age at which an unused entry may go.",
    neigh_gc_thresh1 "net.ipv4.neigh.default.gc_thresh1" int(0, I32_MAX) "128" Live Rw
        "Entries below which nothing is collected.",
    neigh_gc_thresh2 "net.ipv4.neigh.default.gc_thresh2" int(0, I32_MAX) "512" Live Rw
        "Entries that may stay for 5 seconds only.",
    neigh_gc_thresh3 "net.ipv4.neigh.default.gc_thresh3" int(0, I32_MAX) "1024" Live Rw
        "Most entries.",
    neigh_locktime "net.ipv4.neigh.default.locktime" centisecs(I32_MIN, I32_MAX) "100" Live Rw
        "Least age of an entry before another answer replaces it.",
    neigh_mcast_resolicit "net.ipv4.neigh.default.mcast_resolicit" int(0, I32_MAX) "0" Live Rw
        "Multicast probes after unicast ones failed.",
    neigh_mcast_solicit "net.ipv4.neigh.default.mcast_solicit" int(0, I32_MAX) "3" Live Rw
        "Multicast or broadcast probes.",
    neigh_retrans_time_ms "net.ipv4.neigh.default.retrans_time_ms" msecs(0, I32_MAX) "1000" Live Rw
        "Between probes.",
    neigh_ucast_solicit "net.ipv4.neigh.default.ucast_solicit" int(0, I32_MAX) "3" Live Rw
        "Unicast probes.",
    neigh_unres_qlen_bytes "net.ipv4.neigh.default.unres_qlen_bytes" int(0, I32_MAX) "212992" Live Rw
        "Bytes that wait for an unknown address.",
    neigh6_app_solicit "net.ipv6.neigh.default.app_solicit" int(0, I32_MAX) "0" Live Rw
        "Probes left to a daemon: times to wait that nothing is sent.",
    neigh6_base_reachable_time_ms "net.ipv6.neigh.default.base_reachable_time_ms" msecs(1, I32_MAX) "30000" Live Rw
        "How long, about, an answer is believed.",
    neigh6_delay_first_probe_time "net.ipv6.neigh.default.delay_first_probe_time" secs(-8589934, 8589934) "5" Live Rw
        "Wait for a hint before probing.",
    neigh6_gc_interval "net.ipv6.neigh.default.gc_interval" secs(-8589934, 8589934) "30" Legacy Rw
        "Without effect since Linux 2.6.32.",
    neigh6_gc_stale_time "net.ipv6.neigh.default.gc_stale_time" secs(-8589934, 8589934) "60" Live Rw
        "Age at which an unused entry may go.",
    neigh6_gc_thresh1 "net.ipv6.neigh.default.gc_thresh1" int(0, I32_MAX) "128" Live Rw
        "Entries below which nothing is collected.",
    neigh6_gc_thresh2 "net.ipv6.neigh.default.gc_thresh2" int(0, I32_MAX) "512" Live Rw
        "Entries that may stay for 5 seconds only.",
    neigh6_gc_thresh3 "net.ipv6.neigh.default.gc_thresh3" int(0, I32_MAX) "1024" Live Rw
        "Most entries.",
    neigh6_locktime "net.ipv6.neigh.default.locktime" centisecs(I32_MIN, I32_MAX) "0" Legacy Rw
        "Without effect: only ARP looks at such a time.",
    neigh6_mcast_resolicit "net.ipv6.neigh.default.mcast_resolicit" int(0, I32_MAX) "0" Live Rw
        "Multicast probes after unicast ones failed.",
    neigh6_mcast_solicit "net.ipv6.neigh.default.mcast_solicit" int(0, I32_MAX) "3" Live Rw
        "Multicast or broadcast probes.",
    neigh6_retrans_time_ms "net.ipv6.neigh.default.retrans_time_ms" msecs(0, I32_MAX) "1000" Live Rw
        "Between probes.",
    neigh6_ucast_solicit "net.ipv6.neigh.default.ucast_solicit" int(0, I32_MAX) "3" Live Rw
        "Unicast probes.",
    neigh6_unres_qlen_bytes "net.ipv6.neigh.default.unres_qlen_bytes" int(0, I32_MAX) "212992" Live Rw
        "Bytes that wait for an unknown address.",
}
