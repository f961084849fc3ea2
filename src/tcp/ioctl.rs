//! ioctl(2) of TCP: bytes to read, bytes not acknowledged, bytes not sent, urgent mark. Above: `proto`. Linux:
//! tcp_ioctl, tcp_inq.

use super::tcb::Cx;
use crate::base::error::{Error, Result};
pub use crate::sock::diag::{SIOCINQ, SIOCOUTQ};
use crate::sock::flag;
use crate::sock::proto::SockRef;
use crate::sock::state::State;

/// Bytes queued and not sent.
pub const SIOCOUTQNSD: u64 = 0x894b;
/// Whether the next byte is the urgent one.
pub const SIOCATMARK: u64 = 0x8905;

/// Answers a request with an int. EINVAL on a listener, ENOTTY for what TCP does not know.
pub fn ioctl(sk: SockRef<'_>, request: u64) -> Result<i32> {
    let mut g = sk.lock();
    let Some(cx) = Cx::new(&mut g) else { return Err(Error::NoTty) };
    let (state, tp) = (cx.state(), &*cx.tp);
    let int = |n: u32| n.min(i32::MAX as u32) as i32;
    match request {
        SIOCINQ if state == State::Listen => Err(Error::Inval),
        SIOCINQ => Ok(int(inq(&cx))),
        SIOCATMARK => Ok((tp.urg_data != 0 && tp.rare().urg_seq == tp.copied_seq) as i32),
        SIOCOUTQ | SIOCOUTQNSD if state == State::Listen => Err(Error::Inval),
        SIOCOUTQ | SIOCOUTQNSD if matches!(state, State::SynSent | State::SynRecv) => Ok(0),
        SIOCOUTQ => Ok(int(tp.write_seq.since(tp.snd_una))),
        SIOCOUTQNSD => Ok(int(tp.write_seq.since(tp.snd_nxt))),
        _ => Err(Error::NoTty),
    }
}

/// Bytes a read can give before the urgent mark (tcp_inq).
fn inq(cx: &Cx<'_>) -> u32 {
    let tp = &*cx.tp;
    if matches!(cx.state(), State::SynSent | State::SynRecv) {
        return 0;
    }
    let inline = cx.sk.flag(flag::URGINLINE);
    let beyond = tp.rare().urg_seq.before(tp.copied_seq) || !tp.rare().urg_seq.before(tp.rcv_nxt);
    if inline || tp.urg_data == 0 || beyond {
        let n = tp.rcv_nxt.since(tp.copied_seq);
        // The FIN takes a number that is no byte.
        return if n > 0 && cx.sk.flag(flag::DONE) { n - 1 } else { n };
    }
    let n = tp.rare().urg_seq.since(tp.copied_seq);
    debug_assert!(n > 0 || tp.urg_data != 0);
    n
}
