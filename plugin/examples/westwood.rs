//! TCP Westwood+ (Mascolo, Grieco: "Performance evaluation of Westwood+ TCP", Performance Evaluation 55, 2004) in Rust.
//! `c-tests/plugins/westwood.c` is the same in C, and explains it. `cargo build -p usersock-plugin --example westwood`
//! makes libwestwood.so.
#![forbid(unsafe_code)]

use usersock_plugin::Sysctl;
use usersock_plugin::prelude::*;

/// Thresholds set by the estimate, not as Reno does.
const THRESHOLDS: usize = 0;
const MIN_INTERVAL_US: usize = 0;

#[derive(Default)]
struct Estimate {
    /// Bandwidth, segments in 2^20 seconds; 0: none yet.
    bwe: u64,
    /// Begin of the interval being measured; 0: none.
    since: u64,
    /// `tp.delivered` at its begin.
    delivered: u32,
    /// Least RTT, microseconds; 0: none yet.
    rtt_min: u32,
    /// Last RTT, microseconds.
    rtt: u32,
    /// After a timeout: the path may have changed.
    forget_rtt_min: bool,
}

impl Estimate {
    /// The bandwidth-delay product without queues, segments.
    fn bdp(&self) -> u32 {
        let segs = ((self.bwe >> 10) * u64::from(self.rtt_min) / 1_000_000) >> 10;
        segs.clamp(2, 1 << 30) as u32
    }
}

struct Westwood;

impl Westwood {
    fn pkts_acked(&self, _: &mut Tcp<'_>, w: &mut Estimate, sample: &AckSample) {
        if sample.rtt_us <= 0 {
            return;
        }
        w.rtt = u32::try_from(sample.rtt_us).unwrap_or(u32::MAX);
        if w.rtt_min == 0 || w.rtt < w.rtt_min || w.forget_rtt_min {
            w.rtt_min = w.rtt;
            w.forget_rtt_min = false;
        }
    }

    fn in_ack_event(&self, tp: &mut Tcp<'_>, w: &mut Estimate, _flags: u32) {
        if w.since != 0 {
            let took_us = (tp.now - w.since) / 1000;
            if took_us < tp.reg().sysctl(MIN_INTERVAL_US) as u64 || took_us < w.rtt.into() {
                return;
            }
            let sample = ((u64::from(tp.delivered.wrapping_sub(w.delivered)) * 1_000_000) << 20) / took_us;
            w.bwe = if w.bwe == 0 { sample } else { w.bwe - w.bwe / 8 + sample / 8 };
        }
        w.since = tp.now;
        w.delivered = tp.delivered;
    }

    fn set_state(&self, _: &mut Tcp<'_>, w: &mut Estimate, state: CaState) {
        w.forget_rtt_min |= state == CaState::Loss;
    }

    /// Idle time must not lower the estimate.
    fn cwnd_event(&self, tp: &mut Tcp<'_>, w: &mut Estimate, event: CaEvent) {
        if event == CaEvent::TxStart {
            w.since = tp.now;
            w.delivered = tp.delivered;
        }
    }

    fn get_info(&self, tp: &mut Tcp<'_>, w: &mut Estimate, to: &mut [u8]) -> usize {
        let bytes_per_s = ((w.bwe >> 10) * u64::from(tp.mss_cache)) >> 10;
        let info = [&bytes_per_s.to_ne_bytes()[..], &w.rtt.to_ne_bytes(), &w.rtt_min.to_ne_bytes()].concat();
        let Some(to) = to.get_mut(..info.len()) else { return 0 };
        to.copy_from_slice(&info);
        info.len()
    }
}

impl Congestion for Westwood {
    type Conn = Estimate;
    const NAME: &'static str = "westwood";
    const COUNTERS: &'static [&'static str] = &["WestwoodThresholds"];
    const SYSCTLS: &'static [Sysctl] = &[Sysctl {
        name: "min_interval_us",
        value: 50_000,
        min: 1000,
        max: 1_000_000,
        help: "Shortest time over which the bandwidth is measured, microseconds.",
    }];
    const MORE: CongMore<Self> = CongMore {
        pkts_acked: Some(Self::pkts_acked),
        in_ack_event: Some(Self::in_ack_event),
        set_state: Some(Self::set_state),
        cwnd_event: Some(Self::cwnd_event),
        get_info: Some(Self::get_info),
        ..CongMore::NONE
    };

    fn ssthresh(&self, tp: &mut Tcp<'_>, w: &mut Estimate) -> u32 {
        if w.bwe == 0 || w.rtt_min == 0 {
            return tp.reno_ssthresh(); // there is no estimate yet
        }
        let _ = tp.reg().count(THRESHOLDS, 1);
        w.bdp()
    }
}

usersock_plugin::plugin!(|plugin| plugin.congestion(Westwood));
