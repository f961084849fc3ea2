//! The runs of google/packetdrill's gtests/net/tcp that fail, each with the line and the message that say so and with
//! its reason. Another failure, and one of these runs that passes, is news: it makes the command fail. Each was played
//! on Linux 6.18.44 (`--kernel`) and fails there at the same line with the same value; only times may differ, which its
//! ticks of 4 ms round up. What changed in Linux, and when, is read from its changes, not played on older kernels.

use std::path::Path;

use super::RunResult;
use super::world::Variant;

/// Runs that fail for one reason.
pub struct Known {
    /// Scripts by folder and name, without the ending. Of each, the script's line that packetdrill names (zero: an
    /// assertion of the script's code, or an error before its first line) and what its message has in it.
    pub scripts: &'static [(&'static str, u32, &'static str)],
    /// Those that fail.
    pub variants: &'static [Variant],
    /// For docs/packetdrill.md.
    pub reason: &'static str,
}

const EVERY: &[Variant] = &[Variant::Ipv4, Variant::Mapped, Variant::Ipv6];
const IPV6: &[Variant] = &[Variant::Ipv6];
/// The SYN-ACK is longer by an option with a cookie.
const WITH_COOKIE: &str = "ipv6_payload_len: expected: 28 (0x1c) vs actual: 40 ";

/// All of them, in the order of docs/packetdrill.md.
pub const KNOWN: &[Known] = &[
    Known {
        scripts: &[
            ("cubic/cubic-bulk-166k", 0, "AssertionError: 36"),
            ("cubic/cubic-bulk-166k-idle-restart", 0, "AssertionError: 36"),
        ],
        variants: EVERY,
        reason: "HyStart leaves slow start at a window of 36, not 48: its rounds begin in time since Linux 6.14 \
                 (\"tcp_cubic: fix incorrect HyStart round start detection\")",
    },
    Known {
        scripts: &[("cwnd_moderation/cwnd-moderation-ecn-enter-cwr-no-moderation-700", 0, "AssertionError: 5")],
        variants: EVERY,
        reason: "the window is 5, not 4: PRR allows one segment more when snd_una advances without a loss, also before \
                 a retransmission, since Linux 5.11 (\"tcp: avoid slow start during fast recovery on new losses\")",
    },
    Known {
        scripts: &[
            ("epoll/epoll_out_edge", 40, "payload: expected 16000 bytes vs actual 20000"),
            ("epoll/epoll_out_edge_default_notsent_lowat", 41, "payload: expected 16000 bytes vs actual 20000"),
            ("epoll/epoll_out_edge_notsent_lowat", 40, "payload: expected 16000 bytes vs actual 20000"),
            ("notsent_lowat/notsent-lowat-default", 28, "payload: expected 16000 bytes vs actual 20000"),
        ],
        variants: EVERY,
        reason: "a packet of 20,000 bytes leaves, filled up from the next in the queue, not one of 16,000, since Linux \
                 6.10 (\"tcp: try to send bigger TSO packets\")",
    },
    Known {
        scripts: &[("fast_retransmit/fr-4pkt-fack-last-mss", 27, "timing error: expected outbound packet at 0.24")],
        variants: EVERY,
        reason: "RACK's timer adds 2 ms to the reordering window of 25 ms, not two ticks of 4 ms and their rounding, \
                 since Linux 6.6 (\"tcp: fix excessive TLP and RACK timeouts from HZ rounding\")",
    },
    Known {
        scripts: &[(
            "fastopen/server/client-ack-dropped-then-recovery-ms-timestamps",
            33,
            "tcp_window: expected: 256 (0x100) vs actual: 1053",
        )],
        variants: EVERY,
        reason: "the first data offers a window of 1053, not 256; the copy among Linux's own tests no longer names one",
    },
    Known {
        scripts: &[("gro/gro-mss-option", 20, "tcp_ack_seq: expected: 10001 (0x2711) vs actual: 1 ")],
        variants: EVERY,
        reason: "the data acknowledges what was never sent, and draws a challenge ACK since Linux 6.7 (\"tcp: do \
                 not accept ACK of bytes we never sent\"); with `ack 1` in that line the run passes",
    },
    Known {
        scripts: &[("ioctl/ioctl-siocinq-fin", 28, "timing error: expected outbound packet at 0.300")],
        variants: EVERY,
        reason: "the ACK of a FIN with data is delayed by 40 ms, because a FIN ends quick acknowledgements; without it \
                 the data is acknowledged at once",
    },
    Known {
        scripts: &[("shutdown/shutdown-rdwr-write-queue-close", 25, "timing error: expected outbound packet at 0.03")],
        variants: EVERY,
        reason: "the congestion window is full, and the FIN waits until the loss probe, since Linux 6.10 (\"tcp: \
                 remove dubious FIN exception from tcp_cwnd_test()\"); with one segment less of data the run passes",
    },
    Known {
        scripts: &[("ts_recent/invalid_ack", 24, "tcp_ack_seq: expected: 1001 (0x3e9) vs actual: 1 ")],
        variants: EVERY,
        reason: "the segment that acknowledges too much draws a challenge ACK (RFC 5961 §5) since Linux 7.1, and in \
                 6.18's stable series since May 2026 (\"tcp: send a challenge ACK on SEG.ACK > SND.NXT\")",
    },
    Known {
        scripts: &[("fastopen/server/icmp-baseline", 20, "")],
        variants: IPV6,
        reason: "`run_all.py` defines no CODE for IPv6; here it is one that reads as EHOSTUNREACH, as over IPv4, and \
                 no such error of ICMPv6 ends a request",
    },
    Known {
        scripts: &[
            ("fastopen/client/syn-data-icmp-unreach-frag-needed", 29, "bad ICMP code frag_needed"),
            ("fastopen/client/syn-data-icmp-unreach-frag-needed-with-seq", 29, "bad ICMP code frag_needed"),
            ("fastopen/server/opt34/icmp-before-accept", 24, "bad ICMP code host_unreachable"),
        ],
        variants: IPV6,
        reason: "packetdrill has no such ICMP code for IPv6",
    },
    Known {
        scripts: &[(
            "fastopen/client/syn-data-icmp-unreach-frag-needed-with-seq-ipv6",
            13,
            "expected: mss 1440 actual: mss 1460",
        )],
        variants: IPV6,
        reason: "the script is written for an MTU of 1500; `run_all.py` gives IPv6 one of 1520",
    },
    Known {
        // On the kernel it is packetdrill that makes the route: "error executing route command".
        scripts: &[("mtu_probe/basic-v6", 0, "route")],
        variants: IPV6,
        reason: "with the script's own `--local_ip=fd::1` the gateway is not on the link, and no route can be made",
    },
    Known {
        scripts: &[
            ("fastopen/server/simple1", 25, "expected: FOEXP 00abaaabe8e954c2 actual: FOEXP 792f542eed8979b8"),
            ("fastopen/server/simple2", 25, "expected: FOEXP 1313a2da994a0951 actual: FOEXP 792f542eed8979b8"),
            ("fastopen/server/simple3", 25, "expected: FOEXP 76d2c1c530f51f79 actual: FOEXP 792f542eed8979b8"),
            ("fastopen/server/sockopt-fastopen-key", 21, "FOEXP 00abaaabe8e954c2 actual: FOEXP 792f542eed8979b8"),
            ("fastopen/server/opt34/simple1", 25, "expected: FO 00abaaabe8e954c2 actual: FO 792f542eed8979b8"),
            ("fastopen/server/opt34/simple2", 25, "expected: FO 1313a2da994a0951 actual: FO 792f542eed8979b8"),
            ("fastopen/server/opt34/simple3", 25, "expected: FO 76d2c1c530f51f79 actual: FO 792f542eed8979b8"),
            ("fastopen/server/opt34/reset-non-tfo-socket", 17, "FO 3021b9d889017eeb actual: FO c1d1e9742a47a9bc"),
            ("fastopen/server/opt34/basic-rw", 13, WITH_COOKIE),
            ("fastopen/server/opt34/basic-zero-payload", 17, WITH_COOKIE),
            ("fastopen/server/opt34/fin-close-socket", 16, WITH_COOKIE),
            ("fastopen/server/opt34/listener-closed-trigger-rst", 14, WITH_COOKIE),
            ("fastopen/server/opt34/reset-after-accept", 16, WITH_COOKIE),
            ("fastopen/server/opt34/reset-before-accept", 18, "expected: 32 (0x20) vs actual: 44 "),
            ("fastopen/server/opt34/reset-close-with-unread-data", 18, WITH_COOKIE),
            ("fastopen/server/opt34/unread-data-closed-trigger-rst", 14, WITH_COOKIE),
        ],
        variants: IPV6,
        reason: "the script has the cookies between the IPv4 addresses that it names; over IPv6 the cookie is another, \
                 and a SYN with the script's draws the right one in the SYN-ACK",
    },
];

/// What `KNOWN` says of a run.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Passes, or fails as is known.
    Expected,
    /// Fails, and should pass.
    Fails,
    /// Fails at another place or with another value than is known.
    FailsOtherwise,
    /// Passes, and is known to fail.
    Passes,
}

/// Compares the result of a run with what is known.
pub fn verdict(result: &RunResult) -> Verdict {
    match (known(&result.path, result.variant), result.pass) {
        (None, true) => Verdict::Expected,
        (None, false) => Verdict::Fails,
        (Some(_), true) => Verdict::Passes,
        (Some((line, message)), false) => {
            let at_line = line == 0 || result.error.contains(&format!(".pkt:{line}: "));
            if at_line && result.error.contains(message) { Verdict::Expected } else { Verdict::FailsOtherwise }
        }
    }
}

/// The line and the message of a run that is known to fail.
fn known(script: &Path, variant: Variant) -> Option<(u32, &'static str)> {
    let script = script.with_extension("");
    let mut scripts = KNOWN.iter().filter(|known| known.variants.contains(&variant)).flat_map(|known| known.scripts);
    scripts.find(|(name, ..)| script.ends_with(name)).map(|(_, line, message)| (*line, *message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(path: &str, variant: Variant, error: Option<&str>) -> RunResult {
        let (pass, error) = (error.is_none(), error.unwrap_or_default().to_string());
        RunResult { path: path.into(), name: "s".into(), variant, pass, seconds: 0.1, error, output: String::new() }
    }

    #[test]
    fn only_the_known_failure_of_a_script_and_version_is_expected() {
        use Variant::{Ipv4, Ipv6};
        let at_line = |n: u32| format!("s.pkt:{n}: timing error: expected outbound packet at 0.300020 sec but later");
        for (name, variant, error, want) in [
            ("tcp/close/close.pkt", Ipv4, None, Verdict::Expected),
            ("tcp/close/close.pkt", Ipv4, Some("close.pkt:9: error"), Verdict::Fails),
            ("tcp/cubic/cubic-bulk-166k.pkt", Ipv4, Some("AssertionError: 36"), Verdict::Expected),
            ("/cubic/cubic-bulk-166k.pkt", Ipv6, Some("AssertionError: 36"), Verdict::Expected),
            ("tcp/cubic/cubic-bulk-166k.pkt", Ipv4, Some("AssertionError: 37"), Verdict::FailsOtherwise),
            ("tcp/cubic/cubic-bulk-166k.pkt", Ipv4, None, Verdict::Passes),
            ("tcp/ioctl/ioctl-siocinq-fin.pkt", Ipv4, Some(&at_line(28)), Verdict::Expected),
            ("tcp/ioctl/ioctl-siocinq-fin.pkt", Ipv4, Some(&at_line(27)), Verdict::FailsOtherwise),
            ("tcp/cubic/not-cubic-bulk-166k.pkt", Ipv4, Some("AssertionError: 36"), Verdict::Fails),
            ("tcp/fastopen/server/icmp-baseline.pkt", Ipv4, Some("icmp-baseline.pkt:20: error"), Verdict::Fails),
        ] {
            assert_eq!(verdict(&result(name, variant, error)), want, "{name} {variant:?} {error:?}");
        }
    }

    #[test]
    fn a_script_is_known_for_one_reason() {
        let mut names: Vec<_> = KNOWN.iter().flat_map(|known| known.scripts).map(|(name, ..)| name).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
