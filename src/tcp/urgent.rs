//! Urgent data, as Linux understands it: one byte out of band (RFC 6093). Above: `input`. Linux: tcp_check_urg,
//! tcp_urg.

use super::input::Seg;
use super::tcb::Cx;
use crate::sock::skb::Skb;
use crate::sock::wait::Events;
use crate::sock::{flag, mem};
use crate::wire::tcp::TcpFlags;

/// `urg_data`: the byte is there, in the low eight bits.
pub(crate) const VALID: u16 = 0x100;
/// `urg_data`: announced, not yet received.
pub(crate) const NOTYET: u16 = 0x200;
/// `urg_data`: the program has read it.
pub(crate) const READ: u16 = 0x400;

/// Where the urgent pointer stands in the header.
const URGENT_OFFSET: usize = 18;

/// A segment with URG: takes a new urgent pointer (tcp_check_urg).
fn check_urg(cx: &mut Cx<'_>, seg: &Seg, skb: &Skb) {
    let mut field = [0; 2];
    skb.copy_out(URGENT_OFFSET, &mut field);
    let mut ptr = u32::from(u16::from_be_bytes(field));
    // Implementations point one byte past the urgent byte; `tcp_stdurg` selects what RFC 793 says (RFC 6093 §2.2).
    if ptr != 0 && !cx.stack.sysctl.tcp_stdurg() {
        ptr -= 1;
    }
    let ptr = seg.seq + ptr;
    if cx.tp.copied_seq.after(ptr) || ptr.before(cx.tp.rcv_nxt) {
        return;
    }
    if cx.tp.urg_data != 0 && !ptr.after(cx.tp.rare().urg_seq) {
        return;
    }
    // Linux sends SIGURG here; waiters are woken. POLLPRI is set when the byte has arrived.
    cx.sock.wait.wake(Events::PRI);
    // The next byte to read is an older urgent byte that is not in line: it is skipped, because it can no longer be
    // read.
    if cx.tp.rare().urg_seq == cx.tp.copied_seq
        && cx.tp.urg_data != 0
        && !cx.sk.flag(flag::URGINLINE)
        && cx.tp.copied_seq != cx.tp.rcv_nxt
    {
        cx.tp.copied_seq += 1;
        let used_up = cx.sk.receive_queue.front().is_some_and(|s| !cx.tp.copied_seq.before(s.tcp.end_seq));
        if used_up && let Some(skb) = cx.sk.receive_queue.pop_front() {
            mem::uncharge_rmem(cx.sock, cx.sk, skb.truesize);
        }
    }
    cx.tp.urg_data = NOTYET;
    cx.tp.rare_mut().urg_seq = ptr;
    cx.tp.pred_flags = 0;
}

/// The URG step of every slow-path segment; `skb` still has its TCP header (RFC 9293 §3.10.7.4, sixth; tcp_urg).
pub(crate) fn urg(cx: &mut Cx<'_>, seg: &Seg, skb: &Skb) {
    if seg.flags.contains(TcpFlags::URG) {
        check_urg(cx, seg, skb);
    }
    if cx.tp.urg_data != NOTYET {
        return;
    }
    let syn = seg.flags.contains(TcpFlags::SYN) as u32;
    let at = cx.tp.rare().urg_seq.since(seg.seq).wrapping_add(seg.header_len as u32).wrapping_sub(syn);
    // The pointer lies before this segment's data.
    if at < seg.header_len as u32 || at as usize >= skb.len() {
        return;
    }
    let mut byte = [0u8; 1];
    if skb.copy_out(at as usize, &mut byte) == 1 {
        cx.tp.urg_data = VALID | byte[0] as u16;
        if !cx.sk.flag(flag::DEAD) {
            cx.sock.wait.wake(Events::IN | Events::PRI);
        }
    }
}
