//! The short way of the segment that makes a child: the bare acknowledgement of the SYN-ACK, with the sequence number
//! that follows the SYN. It does what [`rcv_state_process`](super::rcv_state_process) does then. Above: `child`.

use super::{Seg, established_from_syn_recv, finish};
use crate::base::ways::Way;
use crate::sock::skb::Skb;
use crate::sock::state::State;
use crate::tcp::ack::{self, flag};
use crate::tcp::tcb::{Cx, TcpSock};
use crate::wire::tcp::TcpFlags;

/// Processes it, for a child that has just been made. Err: it is no such segment, and nothing was done.
#[inline]
pub(in crate::tcp) fn rcv_third(cx: &mut Cx<'_>, skb: Skb) -> Result<(), Skb> {
    let Some(seg) = applies(cx, &skb) else { return Err(skb) };
    Way::Third.taken();
    ack::ack(cx, &seg, flag::SLOWPATH | flag::UPDATE_TS_RECENT | flag::NO_CHALLENGE_ACK);
    established_from_syn_recv(cx, &seg, &skb);
    // A hook may have ended it.
    finish(cx, &seg, skb, None);
    Ok(())
}

/// Its header, if it is such a segment. What made the child has seen that it acknowledges the SYN-ACK, and nothing was
/// sent since.
#[inline]
fn applies(cx: &mut Cx<'_>, skb: &Skb) -> Option<Seg> {
    let cb = &skb.tcp;
    debug_assert!(cx.state() == State::SynRecv && is_new(cx.tp) && cb.ack_seq == cx.tp.snd_una);
    let bare = cb.all_flags().bits() == TcpFlags::ACK.bits() && cb.seq == cb.end_seq;
    if !Way::Third.is_open() || !bare || cb.seq != cx.tp.rcv_nxt {
        return None;
    }
    let (seg, timestamps) = Seg::plain(skb)?;
    let (tsoffset, r) = (cx.tp.tsoffset, &mut cx.tp.rx_opt);
    if r.tstamp_ok {
        let (val, ecr) = timestamps?;
        // PAWS may reject it otherwise: while `tcp_timestamps` is off, a request looks at no timestamp.
        if (val.wrapping_sub(r.ts_recent) as i32) < 0 {
            return None;
        }
        (r.saw_tstamp, r.rcv_tsval) = (true, val);
        r.rcv_tsecr = if ecr != 0 { ecr.wrapping_sub(tsoffset) } else { 0 };
    } else {
        r.saw_tstamp = false;
    }
    Some(seg)
}

/// Whether it has sent nothing but the SYN-ACK, and nobody else has a say in what it does: of a child that has just
/// been made. One of Fast Open has sent the SYN-ACK itself, and takes the general way.
fn is_new(tp: &TcpSock) -> bool {
    let idle = tp.snd_una == tp.snd_nxt && tp.packets_out == 0 && tp.write_queue.is_empty();
    idle && tp.tfb_slots == 0 && !tp.has_fastopen_rsk()
}
