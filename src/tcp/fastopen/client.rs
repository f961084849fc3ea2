//! A client's part: sendmsg(2) that connects (MSG_FASTOPEN), connect(2) that leaves the SYN to the first write(2)
//! (TCP_FASTOPEN_CONNECT), the SYN with its option and data, and what its answer tells (RFC 7413 §4.2.1, §4.1.3).
//! Above: `connect`, `control`, `sendmsg`, `synsent`. Below: `metrics`. Linux: tcp_sendmsg_fastopen, tcp_send_syn_data,
//! tcp_rcv_fastopen_synack.

use super::blackhole::active_should_disable;
use super::{ClientFail, SynRequest, bit, no_cookie, server};
use crate::base::error::{Error, Result};
use crate::counters::Mib;
use crate::sock::connect::{connect_stream, refuses};
use crate::sock::msg::SendMsg;
use crate::sock::skb::{SKB_OVERHEAD, Skb};
use crate::sock::{SockGuard, ip_flag, mem};
use crate::tcp::chrono::{Chrono, chrono_start};
use crate::tcp::output::{ACK, PSH};
use crate::tcp::queue::Pos;
use crate::tcp::rack::mark_skb_lost;
use crate::tcp::segment::transmit_skb;
use crate::tcp::tcb::Cx;
use crate::tcp::{connect, control, mtu, recovery, sendmsg};
use crate::wire::tcp::MAX_OPTIONS_LEN;
use crate::wire::tcp_options::{FastOpenCookie, TcpOptions};

/// Most bytes of data in a SYN, where the MTU allows more: those of one page fragment.
const SYN_DATA_MOST: usize = 32_768;

/// The option of our SYN, and whether data may go with it.
enum Offer {
    Data(Option<FastOpenCookie>),
    /// Without data: no cookie is known, or there is a pause (`blackhole`), in which there is no option either.
    NoData(Option<FastOpenCookie>),
}

/// What is known of the server decides what the SYN offers; its MSS is written to `mss` (tcp_fastopen_cookie_check).
fn cookie_check(cx: &mut Cx<'_>, mss: &mut u16) -> Offer {
    let known = cx.tp.net.metrics.fastopen(cx).unwrap_or_default();
    if known.mss != 0 {
        *mss = known.mss;
    }
    if active_should_disable(cx) {
        return Offer::NoData(None);
    }
    let by_route = cx.sk.dst.as_ref().is_some_and(|d| d.metrics.fastopen_no_cookie);
    if no_cookie(&cx.stack.sysctl, cx.tp, by_route, bit::CLIENT_NO_COOKIE) {
        return Offer::Data(None);
    }
    if known.cookie.is_some() {
        return Offer::Data(known.cookie);
    }
    cx.tp.fastopen_mut().client_fail = ClientFail::CookieUnavailable;
    Offer::NoData(Some(FastOpenCookie::REQUEST.in_form(known.try_exp == 1)))
}

/// connect(2) has chosen addresses and ports: whether the SYN is left to somebody else. That is the sendmsg(2) that
/// connects, or the first write(2) where TCP_FASTOPEN_CONNECT is set and data may go with the SYN. Where it may not,
/// the SYN asks for a cookie (tcp_fastopen_defer_connect).
pub(in crate::tcp) fn defer_connect(cx: &mut Cx<'_>) -> bool {
    let Some(f) = cx.tp.fastopen() else { return false };
    if f.request.is_some() {
        return true;
    }
    if !f.connect {
        return false;
    }
    if let Offer::Data(_) = cookie_check(cx, &mut 0) {
        cx.sk.ip_flags |= ip_flag::DEFER_CONNECT;
        // Nothing is sent or waits: TCP_INFO and ioctl(2) may ask before the first write(2).
        (cx.tp.snd_una, cx.tp.snd_nxt) = (cx.tp.write_seq, cx.tp.write_seq);
        return true;
    }
    cx.tp.fastopen_mut().request = Some(SynRequest::default());
    false
}

/// Sends the SYN of an attempt with Fast Open, with as many bytes of `data` as one segment may have; the SYN and the
/// data stay in the queue as two segments, so that each can be sent again alone (tcp_send_syn_data).
pub(in crate::tcp) fn send_syn_data(cx: &mut Cx<'_>, mut syn: Skb, data: Option<&mut SendMsg<'_>>) -> Result<()> {
    let mut mss = cx.tp.advmss;
    let offer = cookie_check(cx, &mut mss);
    cx.tp.rx_opt.mss_clamp = mss;
    let cookie = match offer {
        Offer::Data(cookie) => {
            if syn_with_data(cx, &syn, data, cookie, mss) {
                return Ok(());
            }
            // A regular SYN, which asks for a cookie where one was known.
            cookie.map(|c| FastOpenCookie::REQUEST.in_form(c.experimental))
        }
        Offer::NoData(cookie) => cookie,
    };
    set_option(cx, cookie);
    let sent = transmit_skb(cx, &mut syn);
    cx.tp.rtx_queue.push_back(syn);
    if sent.is_err() {
        cx.tp.fastopen_mut().syn_fastopen = false;
    }
    // A SYN that is sent again is without the option.
    set_request_option(cx, None);
    sent
}

fn set_request_option(cx: &mut Cx<'_>, cookie: Option<FastOpenCookie>) {
    if let Some(request) = &mut cx.tp.fastopen_mut().request {
        request.cookie = cookie;
    }
}

/// The next SYN has this option.
fn set_option(cx: &mut Cx<'_>, cookie: Option<FastOpenCookie>) {
    set_request_option(cx, cookie);
    if let Some(cookie) = cookie {
        let f = cx.tp.fastopen_mut();
        (f.syn_fastopen, f.syn_fastopen_exp) = (true, cookie.experimental);
    }
}

/// Sends the SYN with data. False: there was no memory, or it did not leave, and then its data waits unsent.
fn syn_with_data(
    cx: &mut Cx<'_>,
    syn: &Skb,
    data: Option<&mut SendMsg<'_>>,
    cookie: Option<FastOpenCookie>,
    mss: u16,
) -> bool {
    // The MSS of the last SYN-ACK, bounded by path and program; options that middleboxes add shall fit.
    cx.tp.rx_opt.mss_clamp = match cx.tp.rx_opt.user_mss {
        0 => mss,
        user => mss.min(user),
    };
    let pmtu = cx.tp.pmtu_cookie;
    mtu::sync_mss(cx, pmtu);
    let space = (mtu::mtu_to_mss_bare(cx, pmtu) as usize).saturating_sub(MAX_OPTIONS_LEN).min(SYN_DATA_MOST);
    let mut skb = Skb::new();
    skb.tcp = syn.tcp;
    if let Some(msg) = data
        && space.min(msg.remaining()) > 0
        && take(cx, &mut skb, msg, space) == 0
    {
        return false;
    }
    let copied = skb.len();
    skb.tcp.end_seq += copied as u32;
    // The charge of the head, and of the data as sendmsg charges it.
    skb.truesize = SKB_OVERHEAD + copied as u32;
    mem::force(cx.sock, cx.sk, skb.truesize as i32);
    control::connect_queue_skb(cx, &skb);
    set_option(cx, cookie);
    if copied > 0 {
        chrono_start(cx, Chrono::Busy);
    }
    let sent = transmit_skb(cx, &mut skb);
    skb.tcp.seq += 1;
    skb.tcp.flags = ACK | PSH;
    let mut first = syn.share();
    first.tcp.mstamp = skb.tcp.mstamp;
    if let Some(request) = &mut cx.tp.fastopen_mut().request {
        (request.cookie, request.copied) = (None, copied);
    }
    if sent.is_err() {
        cx.tp.packets_out -= 1;
        cx.tp.write_queue.push_back(skb);
        return false;
    }
    cx.tp.rtx_queue.push_back(first);
    cx.tp.rtx_queue.push_back(skb);
    cx.tp.fastopen_mut().syn_data = copied > 0;
    cx.stack.mib.inc(Mib::TcpExtTCPOrigDataSent);
    true
}

/// Copies up to `space` bytes of the message; returns how many the program's memory and the accounts allowed.
fn take(cx: &mut Cx<'_>, skb: &mut Skb, msg: &mut SendMsg<'_>, space: usize) -> usize {
    while skb.len() < space {
        let chunk = msg.chunk(space - skb.len());
        if chunk.is_empty() || !sendmsg::wmem_schedule(cx, (skb.truesize as usize + chunk.len()) as i32) {
            break;
        }
        let before = skb.len();
        skb.append(chunk, space.min(msg.remaining()));
        let n = skb.len() - before;
        if n == 0 {
            break;
        }
        msg.advance(n);
    }
    skb.len()
}

/// sendmsg(2) with MSG_FASTOPEN, or the first write(2) after a deferred connect(2): connects, with data in the SYN if
/// it may. `copied`: bytes that left with it, also when the call fails. EOPNOTSUPP: the sysctl's bit is not set, or the
/// name is of AF_UNSPEC; EALREADY, EINPROGRESS, EISCONN and others as of connect(2) (tcp_sendmsg_fastopen).
pub(in crate::tcp) fn sendmsg_fastopen(g: &mut SockGuard<'_>, msg: &mut SendMsg<'_>, copied: &mut usize) -> Result<()> {
    let sock = g.sock;
    let unspec = msg.odd_name.is_some_and(|n| i32::from(n.family) == libc::AF_UNSPEC && n.len >= 2);
    let mut cx = Cx::new(&mut *g).ok_or(Error::Io)?;
    if cx.stack.sysctl.tcp_fastopen() & bit::CLIENT_ENABLE == 0 || unspec {
        return Err(Error::OpNotSupp);
    }
    let f = cx.tp.fastopen_mut();
    if f.request.is_some() {
        return Err(Error::Already);
    }
    f.request = Some(SynRequest::default());
    let addr = match (msg.name, msg.odd_name) {
        (_, Some(odd)) => Err(refuses(sock, odd)),
        (Some(name), _) if name.is_ipv4() && sock.family == libc::AF_INET6 as u16 => Err(Error::Inval),
        (Some(name), _) => Ok(Some(name)),
        (None, None) => Err(Error::Inval),
    };
    let mut waits = 0;
    if cx.sk.ip_flags & ip_flag::DEFER_CONNECT != 0 {
        // An error shows as the state of the connection.
        waits += send_syn(&mut cx, msg).unwrap_or(0);
    }
    let nonblock = msg.dontwait();
    let mut send = |g: &mut SockGuard<'_>| {
        waits += send_syn(&mut Cx::new(g).ok_or(Error::Io)?, msg)?;
        Ok(())
    };
    let r = connect_stream(g, addr, nonblock, Some(&mut send));
    let mut cx = Cx::new(&mut *g).ok_or(Error::Io)?;
    if waits != 0 {
        cx.tp.cold_mut().write_pending = cx.tp.write_pending.saturating_sub(waits);
    }
    // The connection may have ended, and been begun anew, meanwhile.
    if let Some(request) = cx.tp.fastopen_mut().request.take() {
        *copied = request.copied;
        end_deferral(&mut cx);
    }
    r
}

/// The SYN has left, or never will.
fn end_deferral(cx: &mut Cx<'_>) {
    cx.sk.ip_flags &= !ip_flag::DEFER_CONNECT;
}

/// Sends the SYN with the message's first bytes; an error undoes what `connect::connect` did. While the call waits for
/// the handshake, the answer's acknowledgement waits for the rest of the data: returns how much `write_pending` grew.
fn send_syn(cx: &mut Cx<'_>, msg: &mut SendMsg<'_>) -> Result<u32> {
    control::connect(cx, Some(msg)).inspect_err(|_| connect::unconnect(cx))?;
    let waits = u32::from(msg.remaining() > 0);
    if waits != 0 {
        cx.tp.cold_mut().write_pending += waits;
    }
    Ok(waits)
}

/// The answer to a SYN with the option or with data: remembers the server's cookie and MSS. True: the SYN's data was
/// not taken, or not all, and was sent again (tcp_rcv_fastopen_synack).
pub(in crate::tcp) fn rcv_synack(cx: &mut Cx<'_>, skb: &Skb, options: &[u8], opt: &TcpOptions) -> bool {
    let Some(f) = cx.tp.fastopen() else { return false };
    if !f.syn_fastopen && !f.syn_data {
        return false;
    }
    let unacked = f.syn_data && !cx.tp.rtx_queue.is_empty();
    let mss = match cx.tp.rx_opt.mss_clamp {
        // The program's bound: the server's own is in the option.
        clamp if clamp == cx.tp.rx_opt.user_mss => opt.mss.unwrap_or(0),
        clamp => clamp,
    };
    let given = opt.fastopen.and_then(|o| FastOpenCookie::new(o.cookie.bytes(options), o.experimental));
    let (mut cookie, mut syn_drop, mut try_exp) = (given, false, 0);
    if !f.syn_fastopen {
        // Nobody asked for it.
        cookie = None;
    } else if cx.tp.total_retrans != 0 {
        // Neither a cookie nor the data acknowledged: only the regular SYNs sent later have arrived.
        syn_drop = given.is_none() && unacked;
    } else if given.is_none() && !f.syn_data {
        // No answer to a request: once the experimental form is tried, then never again.
        try_exp = if f.syn_fastopen_exp { 2 } else { 1 };
    }
    cache_set(cx, mss, cookie, syn_drop, try_exp);
    if unacked {
        let sent_again = cx.tp.total_retrans != 0;
        cx.tp.fastopen_mut().client_fail =
            if sent_again { ClientFail::SynRetransmitted } else { ClientFail::DataNotAcked };
        let mut at = Pos::FRONT;
        while cx.tp.rtx_queue.get(at).is_some() {
            mark_skb_lost(cx, at);
            at = cx.tp.rtx_queue.next(at);
        }
        recovery::non_congestion_loss_retransmit(cx);
        cx.stack.mib.inc(Mib::TcpExtTCPFastOpenActiveFail);
        return true;
    }
    let f = cx.tp.fastopen_mut();
    f.syn_data_acked = f.syn_data;
    if f.syn_data_acked {
        cx.stack.mib.inc(Mib::TcpExtTCPFastOpenActive);
        // SYN and data are two segments of the queue, and were one packet.
        if cx.tp.delivered > 1 {
            cx.tp.delivered -= 1;
        }
    }
    server::add_skb(cx, skb);
    false
}

/// Remembers what a SYN-ACK has told (tcp_fastopen_cache_set).
fn cache_set(cx: &Cx<'_>, mss: u16, cookie: Option<FastOpenCookie>, syn_lost: bool, try_exp: u8) {
    cx.tp.net.metrics.set_fastopen(cx, |m| {
        if mss != 0 {
            m.mss = mss;
        }
        if let Some(cookie) = cookie.filter(|c| !c.bytes().is_empty()) {
            m.cookie = Some(cookie);
        } else if try_exp > m.try_exp && m.cookie.is_none() {
            m.try_exp = try_exp;
        }
        if syn_lost {
            m.syn_loss = m.syn_loss.saturating_add(1);
            m.last_syn_loss = cx.now;
        } else {
            m.syn_loss = 0;
        }
    });
}
