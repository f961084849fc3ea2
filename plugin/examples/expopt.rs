//! expopt: an experimental TCP option (RFC 6994) that tells each end how many of its data segments arrive, in Rust.
//! `c-tests/plugins/expopt.c` is the same in C, and explains it. `cargo build -p usersock-plugin --example expopt`
//! makes libexpopt.so.
#![forbid(unsafe_code)]

use usersock_plugin::Sysctl;
use usersock_plugin::hook::{Hdr, cb};
use usersock_plugin::prelude::*;

const KIND: u8 = 254;
const EXID: u16 = 0x5553;
const OFFER: u8 = 4;
const LEDGER: u8 = 10;
const FLAG_SYN: u8 = 2;

/// Counters, in the order of COUNTERS.
const OFFERED: usize = 0;
const AGREED: usize = 1;
const DECLINED: usize = 2;
const OUT: usize = 3;
const IN: usize = 4;
const IN_LOST: usize = 5;
const IN_LATE: usize = 6;
const OUT_LOST: usize = 7;
const OUT_LATE: usize = 8;
const ERRORS: usize = 9;

/// The state of a connection: the 64-bit value that a hook has on each sock.
#[derive(Clone, Copy)]
struct Known {
    /// Data segments received when the last ledger was read.
    seen: u16,
    /// The largest `sent` of a ledger.
    sent: u16,
    /// The peer's segments that did not arrive.
    missed: u16,
    /// Ours, by the peer's last ledger.
    told: u16,
}

impl Known {
    fn of(h: &Hook<'_>) -> Known {
        let v = h.value();
        Known { seen: v as u16, sent: (v >> 16) as u16, missed: (v >> 32) as u16, told: (v >> 48) as u16 }
    }

    fn value(self) -> u64 {
        let Known { seen, sent, missed, told } = self;
        u64::from(seen) | u64::from(sent) << 16 | u64::from(missed) << 32 | u64::from(told) << 48
    }
}

fn offers(options: &[u8]) -> bool {
    find_option(options, KIND, Some(EXID)).is_some_and(|data| data.len() == usize::from(OFFER) - 2)
}

fn count(h: &Hook<'_>, counter: usize, n: u64) {
    let _ = h.reg().count(counter, n);
}

/// Counts the difference from `before` to `now`, modulo 2^16: an increase in one counter, a decrease in the other.
fn count_way(h: &Hook<'_>, before: u16, now: u16, forwards: usize, backwards: usize) {
    let d = now.wrapping_sub(before) as i16;
    if d != 0 {
        count(h, if d > 0 { forwards } else { backwards }, d.unsigned_abs().into());
    }
}

struct Expopt;

impl Expopt {
    fn offer(&self, h: &mut Hook<'_>) {
        let _ = h.set_cb_flags(if h.reg().sysctl(0) != 0 { cb::WRITE_HDR_OPT } else { 0 });
    }

    /// The handshake is complete. `theirs`: the peer sent the option.
    fn agree(&self, h: &mut Hook<'_>, theirs: bool) {
        if h.view().cb_flags & cb::WRITE_HDR_OPT == 0 {
            return; // and we did not
        }
        count(h, if theirs { AGREED } else { DECLINED }, 1);
        let _ = h.set_cb_flags(if theirs { cb::WRITE_HDR_OPT | cb::PARSE_UNKNOWN_HDR_OPT } else { 0 });
    }

    fn active(&self, h: &mut Hook<'_>, options: &[u8]) {
        self.agree(h, offers(options));
    }

    fn passive(&self, h: &mut Hook<'_>, options: &[u8], syn: &[u8]) {
        self.agree(h, offers(syn) || offers(options));
    }

    fn opt_len(&self, _: &mut Hook<'_>, seg: &HdrSeg<'_>) -> u32 {
        let need = match seg.flags {
            None => LEDGER,
            Some(flags) if flags & FLAG_SYN != 0 => {
                if seg.syn.is_none_or(offers) { OFFER } else { 0 } // a listener sends it only if the SYN had it
            }
            Some(_) if seg.len > 0 => LEDGER,
            Some(_) => 0,
        };
        if u32::from(need) <= seg.remaining { need.into() } else { 0 }
    }

    fn write_opt(&self, h: &mut Hook<'_>, seg: &HdrSeg<'_>, w: &mut Hdr<'_>) {
        let [high, low] = EXID.to_be_bytes();
        if seg.flags.is_some_and(|flags| flags & FLAG_SYN != 0) {
            if w.store(&[KIND, OFFER, high, low]).is_ok() {
                count(h, OFFERED, 1);
            }
            return;
        }
        let mut ledger = [KIND, LEDGER, high, low, 0, 0, 0, 0, 0, 0];
        ledger[4..8].copy_from_slice(&h.view().data_segs_out.to_be_bytes());
        ledger[8..].copy_from_slice(&Known::of(h).missed.to_be_bytes());
        if w.store(&ledger).is_ok() {
            count(h, OUT, 1);
        }
    }

    fn parse(&self, h: &mut Hook<'_>, options: &[u8]) {
        let Some(data) = find_option(options, KIND, Some(EXID)) else { return }; // another experiment's
        let &[_, _, _, _, s1, s0, t1, t0] = data else { return count(h, ERRORS, 1) };
        let (sent, told) = (u16::from_be_bytes([s1, s0]), u16::from_be_bytes([t1, t0]));
        count(h, IN, 1);
        let k = Known::of(h);
        let mut now = Known { seen: h.view().data_segs_in as u16, sent: k.sent, missed: 0, told };
        let further = sent.wrapping_sub(k.sent) as i16;
        let mut missed = k.missed as i16;
        if further > 0 {
            now.sent = sent;
            missed = sent.wrapping_sub(k.seen) as i16;
        } else if further < 0 {
            // An older ledger: missed segments have arrived.
            missed = missed.wrapping_sub(now.seen.wrapping_sub(k.seen) as i16);
        }
        // Segments that the network duplicated make this negative: nothing is missed then.
        now.missed = missed.max(0) as u16;
        count_way(h, k.missed, now.missed, IN_LOST, IN_LATE);
        count_way(h, k.told, now.told, OUT_LOST, OUT_LATE);
        let _ = h.set_value(now.value());
    }
}

impl Hooks for Expopt {
    const NAME: &'static str = "expopt";
    const COUNTERS: &'static [&'static str] = &[
        "ExpoptOffered",
        "ExpoptAgreed",
        "ExpoptDeclined",
        "ExpoptOut",
        "ExpoptIn",
        "ExpoptInLost",
        "ExpoptInLate",
        "ExpoptOutLost",
        "ExpoptOutLate",
        "ExpoptErrors",
    ];
    const SYSCTLS: &'static [Sysctl] = &[Sysctl {
        name: "enabled",
        value: 1,
        min: 0,
        max: 1,
        help: "Whether new connections and listeners offer the option.",
    }];
    const HOOKS: HookFns<Self> = HookFns {
        tcp_connect: Some(Self::offer),
        listen: Some(Self::offer),
        active_established: Some(Self::active),
        passive_established: Some(Self::passive),
        hdr_opt_len: Some(Self::opt_len),
        write_hdr_opt: Some(Self::write_opt),
        parse_hdr_opt: Some(Self::parse),
        ..HookFns::NONE
    };
}

usersock_plugin::plugin!(|plugin| plugin.hooks(Expopt));
