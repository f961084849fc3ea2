//! gauged: Reno that counts each packet that arrives, and can be loaded again while it is used. `cargo build -p
//! usersock-plugin --example gauged` makes libgauged.so.
#![forbid(unsafe_code)]

use usersock_plugin::cong::flags;
use usersock_plugin::prelude::*;

/// Reno that takes the place of another `gauged`.
struct Gauged;

impl Congestion for Gauged {
    type Conn = ();
    const NAME: &'static str = "gauged";
    const FLAGS: u32 = flags::NON_RESTRICTED | flags::REPLACE;
    const COUNTERS: &'static [&'static str] = &["GaugedPackets"];
    const MORE: CongMore<Self> = CongMore {
        pkts_delivered: Some(|_, tp, _, pkts| {
            let _ = tp.reg().count(0, pkts.iter().filter(|p| p.rtt_us >= 0).count() as u64);
        }),
        ..CongMore::NONE
    };
}

usersock_plugin::plugin!(|plugin| plugin.congestion(Gauged));
