//! The short way of the segments that end a connection: a FIN without data that is next in order, and the
//! acknowledgement of ours, of a peer that has acknowledged all that was sent. They do what
//! [`rcv_established`](super::rcv_established) and [`rcv_state_process`](super::rcv_state_process) do then; a test
//! plays both. Above: `input`, `proto`. Below: `ack`, `reassembly`, `close`.

use super::{Seg, data_snd_check};
use crate::base::ways::Way;
use crate::sock::flag as sflag;
use crate::sock::skb::Skb;
use crate::sock::state::State;
use crate::sock::wait::Events;
use crate::tcp::ack::{self, AckResult, flag};
use crate::tcp::delack::ack_snd_check;
use crate::tcp::output::{ACK, FIN};
use crate::tcp::tcb::{Cx, TcpSock};
use crate::tcp::{close, ecn, metrics, rcvbuf, reassembly};

const FIN_ACK: u16 = FIN | ACK;

/// A segment of an established connection whose header is not as predicted. Err: it is no such FIN, and nothing was
/// done.
// Most segments have the predicted header, and pay for what is put there.
#[inline(never)]
pub(super) fn rcv_fin(cx: &mut Cx<'_>, seg: &Seg, timestamps: Option<(u32, u32)>, skb: Skb) -> Result<(), Skb> {
    if !(is_expected(cx.tp, seg, FIN_ACK) && take_timestamps(cx.tp, timestamps)) {
        return Err(skb);
    }
    Way::Closing.taken();
    ecn::received(cx, seg, 0);
    acknowledge(cx, seg, 0);
    rcvbuf::rcv_rtt_measure_ts(cx, seg);
    reassembly::queue_fin(cx, seg, skb);
    data_snd_check(cx);
    ack_snd_check(cx);
    Ok(())
}

/// A segment of a connection that is not established. Err: it is none that acknowledges our FIN and leaves nothing to
/// wait for, and nothing was done.
#[inline]
pub(in crate::tcp) fn rcv_last(cx: &mut Cx<'_>, skb: Skb, state: State) -> Result<(), Skb> {
    let flags = match state {
        State::FinWait1 => FIN_ACK,
        State::LastAck => ACK,
        _ => return Err(skb),
    };
    let Some((seg, timestamps)) = Seg::plain(&skb) else { return Err(skb) };
    let tp = &*cx.tp;
    let all = seg.ack_seq == tp.write_seq && !tp.has_fastopen_rsk() && tp.options().linger2_ms >= 0;
    if !(all && is_expected(tp, &seg, flags) && take_timestamps(cx.tp, timestamps)) {
        return Err(skb);
    }
    Way::Closing.taken();
    acknowledge(cx, &seg, flag::NO_CHALLENGE_ACK);
    if state == State::LastAck {
        metrics::update(cx);
        close::done(cx);
        return Ok(());
    }
    crate::tcp::set_state(cx, State::FinWait2);
    // The FIN moves the connection to TIME-WAIT.
    if cx.sk.flag(sflag::DEAD) {
        reassembly::last_fin(cx, &seg, skb);
    } else {
        // A lingering close waits for this.
        cx.sock.wait.wake(Events::IN | Events::OUT);
        reassembly::queue_fin(cx, &seg, skb);
    }
    Ok(())
}

/// Whether a segment has these flags, no data, the sequence number that is next, and an acknowledgement of all that was
/// sent; and nobody else has a say in what it does.
#[inline(always)]
fn is_expected(tp: &TcpSock, seg: &Seg, flags: u16) -> bool {
    Way::Closing.is_open()
        && seg.flags.bits() == flags
        && seg.seq == tp.rcv_nxt
        && seg.end_seq == seg.seq + seg.fin()
        && seg.ack_seq == tp.snd_nxt
        && tp.tfb_slots == 0
        && tp.sock_ops_flags == 0
        && tp.ecn.is_off()
        && tp.ooo_queue.is_empty()
}

/// Takes them, if PAWS accepts the segment for them.
#[inline(always)]
fn take_timestamps(tp: &mut TcpSock, timestamps: Option<(u32, u32)>) -> bool {
    let tsoffset = tp.tsoffset;
    let r = &mut tp.rx_opt;
    if r.tstamp_ok {
        let Some((val, ecr)) = timestamps else { return false };
        if (val.wrapping_sub(r.ts_recent) as i32) < 0 {
            return false;
        }
        (r.saw_tstamp, r.rcv_tsval) = (true, val);
        r.rcv_tsecr = if ecr != 0 { ecr.wrapping_sub(tsoffset) } else { 0 };
    } else {
        r.saw_tstamp = false;
    }
    true
}

/// Processes the acknowledgement, which lies between what is unacknowledged and what was sent.
#[inline(always)]
fn acknowledge(cx: &mut Cx<'_>, seg: &Seg, flags: u32) {
    let acked = ack::ack(cx, seg, flag::SLOWPATH | flag::UPDATE_TS_RECENT | flags);
    debug_assert_eq!(acked, AckResult::New);
}
