//! @name@: a congestion control of TCP, which a connection has by TCP_CONGESTION or net.ipv4.tcp_congestion_control. It
//! grows its window as Reno does, and after a loss keeps `net.@name@.beta` per cent of it, where Reno keeps 50.
#![forbid(unsafe_code)]

use usersock_plugin::Sysctl;
use usersock_plugin::prelude::*;

/// Counters, in the order of COUNTERS.
const ACKED: usize = 0;
const LOSSES: usize = 1;
/// Sysctls, in the order of SYSCTLS.
const BETA: usize = 0;

/// What is kept of `cwnd` segments after a loss.
pub fn keep(cwnd: u32, beta: i64) -> u32 {
    let per_cent = u64::try_from(beta).unwrap_or(0);
    u32::try_from(u64::from(cwnd) * per_cent / 100).unwrap_or(u32::MAX).max(2)
}

/// What a connection has of its own.
#[derive(Default)]
struct Conn {
    /// Segments, in all.
    acked: u64,
}

struct @Name@;

impl @Name@ {
    fn pkts_acked(&self, tp: &mut Tcp<'_>, conn: &mut Conn, sample: &AckSample) {
        conn.acked += u64::from(sample.pkts_acked);
        let _ = tp.reg().count(ACKED, sample.pkts_acked.into());
    }

    /// For TCP_CC_INFO.
    fn get_info(&self, _: &mut Tcp<'_>, conn: &mut Conn, to: &mut [u8]) -> usize {
        let Some(to) = to.get_mut(..8) else { return 0 };
        to.copy_from_slice(&conn.acked.to_ne_bytes());
        8
    }
}

impl Congestion for @Name@ {
    type Conn = Conn;
    const NAME: &'static str = "@name@";
    const COUNTERS: &'static [&'static str] = &["@Name@Acked", "@Name@Losses"];
    const SYSCTLS: &'static [Sysctl] = &[Sysctl {
        name: "beta",
        value: 70,
        min: 10,
        max: 95,
        help: "Per cent of the window that is kept after a loss.",
    }];
    const MORE: CongMore<Self> =
        CongMore { pkts_acked: Some(Self::pkts_acked), get_info: Some(Self::get_info), ..CongMore::NONE };

    fn ssthresh(&self, tp: &mut Tcp<'_>, _: &mut Conn) -> u32 {
        let _ = tp.reg().count(LOSSES, 1);
        keep(tp.snd_cwnd, tp.reg().sysctl(BETA))
    }
}

usersock_plugin::plugin!(|plugin| plugin.congestion(@Name@));
