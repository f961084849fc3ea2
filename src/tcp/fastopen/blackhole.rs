//! Some middleboxes drop what follows a SYN with data, or its answer. When a connection shows that, no SYN carries
//! the option or data for a while, towards any destination (RFC 7413 §7.1): `tcp_fastopen_blackhole_timeout_sec`, then
//! twice as long, up to 64 times. A success ends that. Above: `client`, `timer`, `close`.

use crate::base::env::Instant;
use crate::counters::Mib;
use crate::sock::dst::DstKind;
use crate::tcp::tcb::Cx;
use crate::wire::tcp::TcpFlags;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Doublings of the pause.
const MOST_DOUBLINGS: u32 = 6;

/// Pauses of a stack.
#[derive(Debug, Default)]
pub(crate) struct Blackhole {
    /// Pauses since the last success (tfo_active_disable_times).
    times: AtomicU32,
    /// When the last one began, ns (tfo_active_disable_stamp).
    since: AtomicU64,
}

impl Blackhole {
    /// No pause, as after a success.
    pub(crate) fn clear(&self) {
        self.times.store(0, Ordering::Relaxed);
    }

    fn begin(&self, now: Instant) {
        self.since.store(now.as_nanos(), Ordering::Relaxed);
        // Whoever sees the number sees the time.
        self.times.fetch_add(1, Ordering::Release);
    }
}

/// A pause begins, unless the sysctl is 0 (tcp_fastopen_active_disable).
fn active_disable(cx: &Cx<'_>) {
    if cx.stack.sysctl.tcp_fastopen_blackhole_timeout_sec().is_zero() {
        return;
    }
    cx.tp.net.fastopen.blackhole.begin(cx.now);
    cx.stack.mib.inc(Mib::TcpExtTCPFastOpenBlackhole);
}

/// Whether there is a pause now. After one, the connection is watched: if it succeeds, pauses are short again
/// (tcp_fastopen_active_should_disable).
pub(super) fn active_should_disable(cx: &mut Cx<'_>) -> bool {
    let timeout = cx.stack.sysctl.tcp_fastopen_blackhole_timeout_sec();
    let times = cx.tp.net.fastopen.blackhole.times.load(Ordering::Acquire);
    if timeout.is_zero() || times == 0 {
        return false;
    }
    let since = Instant::from_nanos(cx.tp.net.fastopen.blackhole.since.load(Ordering::Relaxed));
    if cx.now <= since + timeout.saturating_mul(1 << (times - 1).min(MOST_DOUBLINGS)) {
        return true;
    }
    cx.tp.fastopen_mut().syn_fastopen_ch = true;
    false
}

/// A retransmission timeout: the third in a row, or the one that ends the connection, of a connection with Fast Open
/// begins a pause (tcp_fastopen_active_detect_blackhole).
pub(in crate::tcp) fn active_detect_blackhole(cx: &Cx<'_>, expired: bool) {
    let with_fastopen = cx.tp.fastopen_has(|f| f.syn_fastopen || f.syn_data || f.syn_data_acked);
    let timeouts = cx.tp.retransmits;
    if with_fastopen && (timeouts == 2 || timeouts < 2 && expired) {
        active_disable(cx);
        cx.stack.mib.inc(Mib::TcpExtTCPFastOpenActiveFail);
    }
}

/// The end of a connection: if nothing of the peer's arrived but its FIN, behind a hole, its data was dropped on the
/// way. If data arrived, the path is good (tcp_fastopen_active_disable_ofo_check).
pub(in crate::tcp) fn active_disable_ofo_check(cx: &Cx<'_>) {
    if !cx.tp.fastopen_has(|f| f.syn_fastopen) {
        return;
    }
    let fin = TcpFlags::FIN.bits();
    if cx.tp.data_segs_in == 0 {
        let queue = &cx.tp.ooo_queue;
        if queue.len() == 1 && queue.front().is_some_and(|skb| skb.tcp.flags & fin != 0) {
            active_disable(cx);
        }
    } else if cx.tp.fastopen_has(|f| f.syn_fastopen_ch) {
        let local = cx.sk.dst.as_ref().is_some_and(|dst| dst.kind == DstKind::Local);
        if !local {
            cx.tp.net.fastopen.blackhole.clear();
        }
    }
}
