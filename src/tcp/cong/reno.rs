//! Reno: RFC 5681 growth and reduction, and the fallback of every stack. Above: `ack`, `recovery`. Linux: tcp_cong.c.

use super::*;

/// "reno".
pub(crate) struct RenoOps;

/// Reno has no state of its own.
#[derive(Debug)]
pub(super) struct Reno;

impl CongOps for RenoOps {
    fn name(&self) -> &str {
        "reno"
    }
    fn non_restricted(&self) -> bool {
        true
    }
    fn start(&self, _: &mut Cx<'_>) -> Box<dyn CongAlgo> {
        Box::new(Reno)
    }
}

impl CongAlgo for Reno {
    fn slots(&self) -> u32 {
        0
    }

    fn ssthresh(&mut self, cx: &mut Cx<'_>) -> u32 {
        (cx.tp.snd_cwnd >> 1).max(2)
    }

    fn cong_avoid(&mut self, cx: &mut Cx<'_>, _ack: SeqNum, acked: u32) {
        if !crate::tcp::output::is_cwnd_limited(cx.tp) {
            return;
        }
        let mut acked = acked;
        if in_slow_start(cx.tp) {
            acked = slow_start(cx, acked);
            if acked == 0 {
                return;
            }
        }
        cong_avoid_ai(cx, cx.tp.snd_cwnd, acked);
    }
}
