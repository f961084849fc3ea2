//! What a congestion control algorithm says of itself (TCP_CC_INFO, `union tcp_cc_info` of linux/inet_diag.h), in the
//! words of ss(8). Above: `sock`. An algorithm that is none of these says nothing that ss would know.

use super::figure::short;
use serde_json::Value;

/// INET_DIAG_VEGASINFO, INET_DIAG_DCTCPINFO, INET_DIAG_BBRINFO.
const VEGAS: u64 = 3;
const DCTCP: u64 = 9;
const BBR: u64 = 16;
/// `tcpv_rtt` before there is a sample.
const NO_RTT: u32 = 0x7fff_ffff;

/// An algorithm's attribute, and its bytes.
pub(super) struct Info {
    attribute: u64,
    bytes: Vec<u8>,
}

impl Info {
    /// Of a socket whose algorithm has this name, which says what an algorithm of a plug-in in C means: it has no
    /// attribute.
    pub(super) fn of(v: &Value, name: &str) -> Option<Info> {
        let hex = v["bytes"].as_str()?;
        let byte = |at: usize| hex.get(at..at + 2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        let bytes = (0..hex.len()).step_by(2).map(byte).collect::<Option<Vec<u8>>>()?;
        let attribute = match (v["attr"].as_u64()?, name) {
            (0, "vegas") => VEGAS,
            (0, "dctcp") => DCTCP,
            (0, "bbr") => BBR,
            (attribute, _) => attribute,
        };
        Some(Info { attribute, bytes })
    }

    /// The 16- and 32-bit numbers at an offset.
    fn half(&self, at: usize) -> Option<u16> {
        Some(u16::from_ne_bytes(self.bytes.get(at..at + 2)?.try_into().ok()?))
    }

    fn word(&self, at: usize) -> Option<u32> {
        Some(u32::from_ne_bytes(self.bytes.get(at..at + 4)?.try_into().ok()?))
    }

    /// The words, `bbr:(...)` and `dctcp:(...)`.
    pub(super) fn words(&self) -> Option<String> {
        match self.attribute {
            // struct tcp_dctcp_info
            DCTCP if self.half(0)? == 0 => Some("dctcp:fallback_mode".to_owned()),
            DCTCP => {
                let (state, alpha, ecn, total) = (self.half(2)?, self.word(4)?, self.word(8)?, self.word(12)?);
                Some(format!("dctcp:(ce_state:{state},alpha:{alpha},ab_ecn:{ecn},ab_tot:{total})"))
            }
            // struct tcp_bbr_info: bytes a second, microseconds, and gains in 256ths.
            BBR => {
                let bw = u64::from(self.word(4)?) << 32 | u64::from(self.word(0)?);
                let mut text = format!("bbr:(bw:{}bps,mrtt:{}", bw * 8, short(f64::from(self.word(8)?) / 1000.0));
                for (name, at) in [("pacing_gain", 12), ("cwnd_gain", 16)] {
                    let gain = self.word(at)?;
                    if gain != 0 {
                        text += &format!(",{name}:{}", short(f64::from(gain) / 256.0));
                    }
                }
                Some(text + ")")
            }
            _ => None,
        }
    }

    /// The RTT, in microseconds, by which ss reckons the sending rate of vegas (struct tcpvegas_info).
    pub(super) fn rtt(&self) -> Option<u64> {
        let (enabled, rtt) = (self.word(0)?, self.word(8)?);
        (self.attribute == VEGAS && enabled != 0 && rtt != 0 && rtt != NO_RTT).then_some(rtt.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(attr: u64, name: &str, words: &[u32]) -> Info {
        let hex: String = words.iter().flat_map(|w| w.to_ne_bytes()).map(|b| format!("{b:02x}")).collect();
        Info::of(&serde_json::json!({ "attr": attr, "bytes": hex }), name).unwrap()
    }

    #[test]
    fn algorithms_are_described_in_ss_s_words() {
        // As iproute2's ss prints it of the kernel's bbr: bandwidth 25395198480 bit/s.
        let bbr = [3_174_399_810, 0, 25, 739, 739];
        let want = "bbr:(bw:25395198480bps,mrtt:0.025,pacing_gain:2.88672,cwnd_gain:2.88672)";
        let state = |enabled: u16, state: u16| {
            u32::from_ne_bytes([enabled.to_ne_bytes(), state.to_ne_bytes()].concat().try_into().unwrap())
        };
        for (attr, name, words, want) in [
            (BBR, "mine", &bbr[..], Some(want)),
            (0, "bbr", &bbr, Some(want)),
            (BBR, "bbr", &[1, 1, 1500, 0, 256], Some("bbr:(bw:34359738376bps,mrtt:1.5,cwnd_gain:1)")),
            (BBR, "bbr", &bbr[..3], None),
            (DCTCP, "dctcp", &[state(1, 1), 1024, 7, 9], Some("dctcp:(ce_state:1,alpha:1024,ab_ecn:7,ab_tot:9)")),
            (0, "dctcp", &[state(0, 0), 0, 0, 0], Some("dctcp:fallback_mode")),
            (0, "westwood", &bbr, None),
            (VEGAS, "vegas", &[1, 3, 4000, 2000], None),
        ] {
            assert_eq!(info(attr, name, words).words().as_deref(), want, "{name} {words:?}");
        }
        assert_eq!(info(VEGAS, "vegas", &[1, 3, 4000, 2000]).rtt(), Some(4000));
        for words in [[0, 3, 4000, 2000], [1, 0, 0, 0], [1, 0, NO_RTT, NO_RTT]] {
            assert_eq!(info(VEGAS, "vegas", &words).rtt(), None);
        }
        assert_eq!(info(BBR, "bbr", &bbr).rtt(), None);
    }
}
