//! @name@: hooks into TCP. Each end of a connection sends an experimental option (RFC 6994) in its SYN or SYN-ACK, and
//! counts those of the other; round trips and retransmissions are counted too. With `net.@name@.enabled` = 0 new
//! connections have none of it.
#![forbid(unsafe_code)]

use usersock_plugin::Sysctl;
use usersock_plugin::hook::{Hdr, cb};
use usersock_plugin::prelude::*;

const KIND: u8 = 254;
const EXID: u16 = 0x5553;
const LENGTH: u8 = 4;
const FLAG_SYN: u8 = 2;

/// Counters, in the order of COUNTERS.
const OFFERED: usize = 0;
const SEEN: usize = 1;
const ROUND_TRIPS: usize = 2;
const RETRANSMITTED: usize = 3;
/// Sysctls, in the order of SYSCTLS.
const ENABLED: usize = 0;

/// The option.
pub fn option() -> [u8; LENGTH as usize] {
    let [high, low] = EXID.to_be_bytes();
    [KIND, LENGTH, high, low]
}

struct @Name@;

impl @Name@ {
    /// A connection begins, or a listener, whose children inherit it: asks for the events.
    fn begin(&self, h: &mut Hook<'_>) {
        if h.reg().sysctl(ENABLED) != 0 {
            let _ = h.set_cb_flags(cb::WRITE_HDR_OPT | cb::RTT | cb::RETRANS);
        }
    }

    fn look_for_it(&self, h: &mut Hook<'_>, options: &[u8]) {
        if find_option(options, KIND, Some(EXID)).is_some() {
            let _ = h.reg().count(SEEN, 1);
        }
    }

    /// The SYN-ACK arrived.
    fn active(&self, h: &mut Hook<'_>, options: &[u8]) {
        self.look_for_it(h, options);
    }

    /// The last segment of the handshake arrived; the option is in the SYN.
    fn passive(&self, h: &mut Hook<'_>, _options: &[u8], syn: &[u8]) {
        self.look_for_it(h, syn);
    }

    fn round_trip(&self, h: &mut Hook<'_>, _sample_us: u32, _srtt_us: u32) {
        let _ = h.reg().count(ROUND_TRIPS, 1);
    }

    fn retransmitted(&self, h: &mut Hook<'_>, _seq: u32, segs: u32, error: Option<Errno>) {
        if error.is_none() {
            let _ = h.reg().count(RETRANSMITTED, segs.into());
        }
    }

    /// How many bytes of options a segment is to have.
    fn opt_len(&self, _: &mut Hook<'_>, seg: &HdrSeg<'_>) -> u32 {
        let in_syn = seg.flags.is_some_and(|flags| flags & FLAG_SYN != 0);
        if in_syn && seg.remaining >= LENGTH.into() { LENGTH.into() } else { 0 }
    }

    fn write_opt(&self, h: &mut Hook<'_>, _seg: &HdrSeg<'_>, w: &mut Hdr<'_>) {
        if w.store(&option()).is_ok() {
            let _ = h.reg().count(OFFERED, 1);
        }
    }
}

impl Hooks for @Name@ {
    const NAME: &'static str = "@name@";
    const COUNTERS: &'static [&'static str] =
        &["@Name@Offered", "@Name@Seen", "@Name@RoundTrips", "@Name@Retransmitted"];
    const SYSCTLS: &'static [Sysctl] = &[Sysctl {
        name: "enabled",
        value: 1,
        min: 0,
        max: 1,
        help: "Whether new connections and listeners have the hooks.",
    }];
    const HOOKS: HookFns<Self> = HookFns {
        tcp_connect: Some(Self::begin),
        listen: Some(Self::begin),
        active_established: Some(Self::active),
        passive_established: Some(Self::passive),
        rtt: Some(Self::round_trip),
        retrans: Some(Self::retransmitted),
        hdr_opt_len: Some(Self::opt_len),
        write_hdr_opt: Some(Self::write_opt),
        ..HookFns::NONE
    };
}

usersock_plugin::plugin!(|plugin| plugin.hooks(@Name@));
