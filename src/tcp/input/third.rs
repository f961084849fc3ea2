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

/// Its header, if it is such a segment.
#[inline]
fn applies(cx: &mut Cx<'_>, skb: &Skb) -> Option<Seg> {
    let (tp, cb) = (&*cx.tp, &skb.tcp);
    let bare = cb.all_flags().bits() == TcpFlags::ACK.bits() && cb.seq == cb.end_seq;
    let expected = cb.seq == tp.rcv_nxt && cb.ack_seq == tp.snd_una && tp.snd_una == tp.snd_nxt;
    if !Way::Third.is_open() || !bare || !expected || !is_plain(tp) || cx.state() != State::SynRecv {
        return None;
    }
    let (seg, timestamps) = Seg::plain(skb)?;
    if tp.rx_opt.tstamp_ok {
        let (val, ecr) = timestamps?;
        // PAWS may reject it otherwise.
        if (val.wrapping_sub(tp.rx_opt.ts_recent) as i32) < 0 {
            return None;
        }
        let tsoffset = tp.tsoffset;
        let r = &mut cx.tp.rx_opt;
        (r.saw_tstamp, r.rcv_tsval) = (true, val);
        r.rcv_tsecr = if ecr != 0 { ecr.wrapping_sub(tsoffset) } else { 0 };
    } else {
        cx.tp.rx_opt.saw_tstamp = false;
    }
    Some(seg)
}

/// Nobody else has a say in what the child does with it.
#[inline]
fn is_plain(tp: &TcpSock) -> bool {
    tp.tfb_slots == 0 && !tp.has_fastopen_rsk() && tp.ecn.is_off() && tp.packets_out == 0 && tp.write_queue.is_empty()
}
