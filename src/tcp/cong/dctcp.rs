//! DCTCP (RFC 8257): the window is reduced in proportion to the share of marked segments, so that short queues whose
//! switches mark early keep the link busy. The receiver's side, an echo for each segment, is in `ecn`. For networks
//! under one administration only (§3, §5). Above: `ack`. Linux: net/ipv4/tcp_dctcp.c.

use super::reno::Reno;
use super::*;
use crate::tcp::plb::Plb;

/// alpha of 1: each segment was marked.
const MAX_ALPHA: u32 = 1 << 10;
/// Weight of a window's marks in alpha, as a shift: g = 1/16 (§4.2).
const SHIFT_G: u32 = 4;
/// INET_DIAG_DCTCPINFO.
const INET_DIAG_DCTCPINFO: i32 = 9;

/// "dctcp".
pub(crate) struct DctcpOps;

impl CongOps for DctcpOps {
    fn name(&self) -> &str {
        "dctcp"
    }
    fn needs_ecn(&self) -> bool {
        true
    }
    fn exact_ece(&self) -> bool {
        true
    }
    fn ssthresh_of_syn(&self, cwnd: u32, _: u32) -> u32 {
        // There was no mark yet.
        cwnd.max(2)
    }
    fn start(&self, cx: &mut Cx<'_>) -> Box<dyn CongAlgo> {
        if !cx.tp.ecn.is_ok() {
            // The peer did not agree to ECN: without marks there is only loss (§3.5).
            cx.tp.ca.ops = Arc::new(FallbackOps);
            return FallbackOps.start(cx);
        }
        let mut dctcp = Dctcp { alpha: MAX_ALPHA, loss_cwnd: 0, window: Window::default(), plb: Plb::default() };
        dctcp.begin_window(cx.tp);
        Box::new(dctcp)
    }
}

/// Reno under the name that says why (dctcp_reno).
struct FallbackOps;

impl CongOps for FallbackOps {
    fn name(&self) -> &str {
        "dctcp-reno"
    }
    fn start(&self, _: &mut Cx<'_>) -> Box<dyn CongAlgo> {
        Box::new(Fallback)
    }
}

#[derive(Debug)]
struct Fallback;

impl CongAlgo for Fallback {
    fn slots(&self) -> u32 {
        0
    }

    fn ssthresh(&mut self, cx: &mut Cx<'_>) -> u32 {
        Reno.ssthresh(cx)
    }
    fn cong_avoid(&mut self, cx: &mut Cx<'_>, ack: SeqNum, acked: u32) {
        Reno.cong_avoid(cx, ack, acked);
    }
    /// struct tcp_dctcp_info that says: DCTCP is not at work.
    fn get_info(&mut self, _: &Cx<'_>) -> Option<(i32, Vec<u8>)> {
        Some((INET_DIAG_DCTCPINFO, vec![0; 16]))
    }
}

#[derive(Debug)]
struct Dctcp {
    /// Estimate of the share of segments that are marked, in 1/1024. It begins at 1, so that the first mark halves the
    /// window.
    alpha: u32,
    /// Window before the last reduction.
    loss_cwnd: u32,
    window: Window,
    plb: Plb,
}

/// A window of data, which is an observation of alpha (§3.3).
#[derive(Debug, Default)]
struct Window {
    /// Its end.
    next_seq: SeqNum,
    /// What had been delivered when it began, and of it with marks.
    delivered: u32,
    delivered_ce: u32,
}

impl Dctcp {
    fn begin_window(&mut self, tp: &TcpSock) {
        self.window = Window { next_seq: tp.snd_nxt, delivered: tp.delivered, delivered_ce: tp.delivered_ce };
    }

    /// Segments delivered in this window, and those with marks.
    fn delivered(&self, tp: &TcpSock) -> (u32, u32) {
        let w = &self.window;
        (tp.delivered.wrapping_sub(w.delivered), tp.delivered_ce.wrapping_sub(w.delivered_ce))
    }
}

/// alpha after a window of `delivered` segments, `marked` of them with marks: alpha = (1 - g) alpha + g F (§3.3). A
/// remainder below the shift's resolution goes at once, so that alpha reaches 0.
fn next_alpha(alpha: u32, delivered: u32, marked: u32) -> u32 {
    let decay = match alpha >> SHIFT_G {
        0 => alpha,
        n => n,
    };
    let share = (u64::from(marked) << (10 - SHIFT_G)) / u64::from(delivered.max(1));
    (u64::from(alpha - decay) + share).min(u64::from(MAX_ALPHA)) as u32
}

impl CongAlgo for Dctcp {
    fn slots(&self) -> u32 {
        ca_slot::CWND_EVENT | ca_slot::IN_ACK_EVENT
    }

    fn in_ack_event(&mut self, cx: &mut Cx<'_>, _: u32) {
        if !cx.tp.snd_una.before(self.window.next_seq) {
            let (delivered, marked) = self.delivered(cx.tp);
            self.plb.update(cx, delivered, marked);
            self.plb.check_rehash(cx);
            self.alpha = next_alpha(self.alpha, delivered, marked);
            self.begin_window(cx.tp);
        }
    }

    /// cwnd * (1 - alpha / 2) (§3.3).
    fn ssthresh(&mut self, cx: &mut Cx<'_>) -> u32 {
        let cwnd = cx.tp.snd_cwnd;
        self.loss_cwnd = cwnd;
        let reduction = (u64::from(cwnd) * u64::from(self.alpha)) >> 11;
        cwnd.saturating_sub(reduction as u32).max(2)
    }

    fn cong_avoid(&mut self, cx: &mut Cx<'_>, ack: SeqNum, acked: u32) {
        Reno.cong_avoid(cx, ack, acked);
    }

    /// A loss halves the window, whatever alpha says (§3.4).
    fn set_state(&mut self, cx: &mut Cx<'_>, new: CaState) {
        if new == CaState::Recovery && cx.tp.ca_state != CaState::Recovery {
            self.react_to_loss(cx);
        }
    }

    fn cwnd_event(&mut self, cx: &mut Cx<'_>, event: CaEvent) {
        match event {
            CaEvent::Loss => {
                self.plb.update_upon_rto(cx);
                self.react_to_loss(cx);
            }
            // Nothing is in flight: the best time for another path.
            CaEvent::TxStart => self.plb.check_rehash(cx),
            _ => {}
        }
    }

    fn undo_cwnd(&mut self, cx: &mut Cx<'_>) -> u32 {
        cx.tp.snd_cwnd.max(self.loss_cwnd)
    }

    /// struct tcp_dctcp_info: whether DCTCP is at work; whether the last segment that arrived was marked; alpha; bytes
    /// of this window with marks, and all.
    fn get_info(&mut self, cx: &Cx<'_>) -> Option<(i32, Vec<u8>)> {
        let (delivered, marked) = self.delivered(cx.tp);
        let bytes = |segments: u32| segments.wrapping_mul(cx.tp.mss_cache);
        let mut info = Vec::with_capacity(16);
        for half in [1u16, u16::from(cx.tp.rare().ece_echo.ce)] {
            info.extend(half.to_ne_bytes());
        }
        for word in [self.alpha, bytes(marked), bytes(delivered)] {
            info.extend(word.to_ne_bytes());
        }
        Some((INET_DIAG_DCTCPINFO, info))
    }
}

impl Dctcp {
    fn react_to_loss(&mut self, cx: &mut Cx<'_>) {
        self.loss_cwnd = cx.tp.snd_cwnd;
        cx.tp.snd_ssthresh = (cx.tp.snd_cwnd >> 1).max(2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows: alpha, delivered, marked, alpha then; by hand from RFC 8257 §3.3 with g = 1/16.
    #[test]
    fn alpha_follows_the_table() {
        for (alpha, delivered, marked, then) in [
            (1024, 10, 10, 1024),
            (1024, 10, 0, 960),
            (0, 64, 64, 64),
            (512, 10, 5, 512),
            (15, 10, 0, 0),
            (0, 0, 0, 0),
            (1024, 1, u32::MAX, 1024),
        ] {
            assert_eq!(next_alpha(alpha, delivered, marked), then, "{alpha} {delivered} {marked}");
        }
    }

    #[test]
    fn a_mark_reduces_the_window_by_half_of_alpha() {
        let b = crate::tcp::testing::Bench::established();
        b.with(|cx| {
            let mut d = Dctcp { alpha: 0, loss_cwnd: 0, window: Window::default(), plb: Plb::default() };
            for (alpha, ssthresh) in [(0, 100), (MAX_ALPHA, 50), (MAX_ALPHA / 4, 88), (1, 100)] {
                cx.tp.snd_cwnd = 100;
                d.alpha = alpha;
                assert_eq!(d.ssthresh(cx), ssthresh, "{alpha}");
            }
            cx.tp.snd_cwnd = 2;
            d.alpha = MAX_ALPHA;
            assert_eq!(d.ssthresh(cx), 2);
        });
    }

    #[test]
    fn without_ecn_on_the_connection_it_is_reno() {
        let b = crate::tcp::testing::Bench::established();
        b.with(|cx| {
            super::super::set_congestion_control(cx, "dctcp").unwrap();
            assert_eq!(cx.tp.ca.ops.name(), "dctcp-reno");
            assert_eq!(cx.with_ca(|ca, cx| ca.get_info(cx)), Some(Some((INET_DIAG_DCTCPINFO, vec![0; 16]))));
        });
    }
}
