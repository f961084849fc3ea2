//! A connection that a request has become: the child sock of a listener, with the options that it inherits and the
//! numbers of the handshake. Above: `handshake`, `check_req`. Below: `lookup`, `input` (which runs the child's first
//! segment). The listener is owned; a child is owned inside it. Linux: tcp_v4_syn_recv_sock, tcp_create_openreq_child,
//! sk_clone_lock.

use super::auth;
use super::bhash::Holder;
use super::close;
use super::connect;
use super::ecn;
use super::handshake::mss_for;
use super::input::{self, Verdict};
use super::listener::{ReqKey, Request};
use super::lookup::Entry;
use super::tcb::{Cx, TcpSock};
use super::{cong, mtu, rcv, rcvbuf, set_state, sock_ops, timer, ulp, window};
use crate::counters::Mib;
use crate::ip::{self, pktoptions, socket_headers};
use crate::sock::packet::PacketInfo;
use crate::sock::skb::Skb;
use crate::sock::state::State;
use crate::sock::{Sock, SockCommon, flag, ip_flag};
use crate::wire::seq::RawWindow;
use crate::wire::tcp_options::TcpOptions;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The segment that makes a child.
pub(super) struct OpenedBy {
    /// Bytes, with its header.
    len: u32,
    window: RawWindow,
    ecn: ecn::Opening,
    info: Option<PacketInfo>,
}

impl OpenedBy {
    /// `o`: its options.
    pub(super) fn of(skb: &Skb, o: &TcpOptions) -> OpenedBy {
        OpenedBy { len: skb.len() as u32, window: skb.tcp.window(), ecn: ecn::Opening::of(skb, o), info: skb.rx }
    }
}

/// Makes a child of a request, by the segment that completes it or by a Fast Open SYN, enters it into the tables in the
/// place of what `replaces` accepts, and calls `then` with the request. None: its 4-tuple is taken, or the key is gone
/// that its segments are signed with; then the request stays where it was. Linux: tcp_v4_syn_recv_sock.
pub(super) fn syn_recv_sock(
    cx: &mut Cx<'_>,
    key: &ReqKey,
    req: &mut Option<Box<Request>>,
    by: &OpenedBy,
    replaces: impl FnOnce(&Entry) -> bool,
    then: impl FnOnce(&mut Cx<'_>, Box<Request>),
) -> Option<Arc<Sock>> {
    let child = cx.sock.new_child(cx.stack);
    ulp::unlayered(&child, cx.tp);
    let parent: &Cx<'_> = cx;
    let hashed = child.try_own(parent.stack, parent.now, |g| {
        g.private.set_with(|| TcpSock::new(&parent.tp.net, parent.stack));
        let mut c = Cx::new(g)?;
        let c = &mut c;
        inherit(c, parent);
        if !auth::inherit(c, parent.tp, req.as_ref()?) {
            return None;
        }
        create_openreq_child(c, parent, req.as_ref()?, by);
        if let Some(info) = &by.info {
            // Shown, and without a use: a stream does not send to groups.
            (c.sk.mcast_oif, c.sk.mcast_hops) = (info.ifindex, info.ttl);
            if info.src.is_ipv4() {
                (c.sk.mc_index, c.sk.mc_ttl, c.sk.rcv_tos) = (info.ifindex, info.ttl, info.tos);
            }
            pktoptions::begin(c.sk, info, req.as_mut().and_then(|r| r.cold.as_mut()?.pktopts.take()));
        }
        if !c.tp.net.hashinfo.insert(key.hash, Entry::Sock(c.sock.clone(), c.sk.bound_dev_if), replaces) {
            // It holds no port, and its keepalive timer would hold it.
            c.sk.sport = 0;
            close::destroy(c);
            return None;
        }
        let bound = c.tp.net.hashinfo.bhash.bind_again(c.sk.sport, child_holder(c.sk));
        connect::hold(c, bound);
        c.tp.not_accepted = true;
        ulp::clone_to(g, parent.tp);
        let mut c = Cx::new(g)?;
        then(&mut c, req.take()?);
        Some(())
    });
    hashed.flatten().map(|()| child)
}

pub(super) fn first_segment(c: &mut Cx<'_>, mut skb: Skb) {
    skb.rx = None;
    super::proto::count_in(c, &skb);
    let Err(skb) = input::rcv_third(c, skb) else { return };
    let cb = skb.tcp;
    let signed = auth::ao_header(c.tp, &skb);
    let ip_options = ip::options::of_segment(skb.saved_header.as_deref());
    if let Verdict::Reset(reason) = input::rcv_state_process(c, skb) {
        rcv::reset_from_sock(c, &cb, signed, &ip_options);
        c.stack.mib.drop(reason);
    }
}

/// A child's hold on the listener's port. It has the child's address and is not marked as listening, so that another
/// socket can listen on the port while connections of the last listener live (SO_REUSEADDR).
fn child_holder(sk: &SockCommon) -> Holder {
    Holder::of(sk, false, false)
}

/// Copies to a child every option that a program can set on its listener (sk_clone_lock).
fn inherit(c: &mut Cx<'_>, p: &Cx<'_>) {
    let child: &Sock = c.sock;
    child.rcvbuf.store(p.sock.rcvbuf.load(Ordering::Relaxed), Ordering::Relaxed);
    child.sndbuf.store(p.sock.sndbuf.load(Ordering::Relaxed), Ordering::Relaxed);
    let (s, l) = (&mut *c.sk, &*p.sk);
    s.flags = l.flags & !(flag::DEAD | flag::DONE | flag::BINDPORT_LOCK);
    (s.tos, s.tclass, s.ttl, s.hops) = (l.tos & !3, l.tclass, l.ttl, l.hops);
    (s.pmtudisc, s.flow_label, s.rcvlowat) = (l.pmtudisc, l.flow_label, l.rcvlowat);
    (s.zerocopy, s.tstamp_new) = (l.zerocopy, l.tstamp_new);
    s.inherit_settings(l);
    if let Some(filter) = &l.filter {
        s.cold_mut().filter = Some(Box::new(filter.for_child()));
    }
    child.set_tsflags(p.sock.tsflags());
    s.more = l.more;
    if let Some(m) = &l.ip_more {
        s.cold_mut().ip_more = Some(m.clone());
    }
    if let Some(m) = s.ip_more_if_any() {
        // A listener's IP options are not its connections', unlike its extension headers.
        // Nor are its leases of flow labels.
        (m.options, m.pktoptions, m.flow_labels) = (Box::default(), None, Vec::new());
    }
    s.ip_flags = l.ip_flags & !(ip_flag::PORT_LEFT | ip_flag::DEFER_CONNECT);
    (s.txrehash, s.force_reuse) = (l.txrehash, l.force_reuse);
    close::copy_options(c.tp, p.tp);
    if p.tp.ca_setsockopt {
        // Else it was the default when the listener was made: the child has the present one (tcp_ca_openreq_child).
        (c.tp.ca.ops, c.tp.ca_setsockopt) = (p.tp.ca.ops.clone(), true);
    }
}

/// The child's addresses, and what its packets are sent with, from the request.
fn take_way(c: &mut Cx<'_>, req: &Request) {
    let sk = &mut *c.sk;
    (sk.saddr, sk.rcv_saddr, sk.daddr) = (req.saddr, req.saddr, req.daddr);
    (sk.sport, sk.dport, sk.bound_dev_if) = (req.sport, req.dport, req.oif);
    if sk.mark != req.mark {
        sk.cold_mut().mark = req.mark;
    }
    let options = pktoptions::ip_options(req.cold.as_ref().and_then(|c| c.pktopts.as_deref()));
    if !options.is_empty() {
        // A SYN with options is answered by all of the connection (inet_opt).
        sk.ip_more_mut().options = options.into();
    }
    sk.dst = Some(req.dst.clone());
    if c.stack.sysctl.tcp_reflect_tos() {
        let own = if req.daddr.is_ipv6() { &mut sk.tclass } else { &mut sk.tos };
        *own = ecn::with_codepoint(req.syn_tos, 0);
    }
}

/// The child's numbers, from the request and the segment that completes it.
fn create_openreq_child(c: &mut Cx<'_>, p: &Cx<'_>, req: &Request, by: &OpenedBy) {
    let (len, raw_window) = (by.len, by.window);
    take_way(c, req);
    socket_headers::settle_room(c.sk);
    cong::dst_init(c);
    let now_ms = c.now.as_millis() as u32;
    let auth = auth::room(c).map_or(0, |o| o.option_len() as u16);
    let tp = &mut *c.tp;
    let (rcv, snd) = (req.rcv_isn + 1, req.snt_isn + 1);
    tp.copied_seq = rcv;
    (tp.snd_una, tp.snd_nxt, tp.snd_sml) = (snd, snd, snd);
    (tp.write_seq, tp.pushed_seq, tp.snt_isn) = (snd, snd, req.snt_isn);
    tp.snd_wl1 = req.rcv_isn;
    (tp.rcv_tstamp_ms, tp.lsndtime_ms, tp.ack.lrcvtime_ms) = (now_ms, now_ms, now_ms);
    if req.num_retrans > 0 {
        tp.cold_mut().total_retrans = u32::from(req.num_retrans);
    }
    // The SYN.
    tp.segs_in = 1;
    tp.rx_opt.tstamp_ok = req.tstamp_ok;
    tp.rx_opt.sack_ok = req.sack_ok as u8;
    (tp.window_clamp, tp.rcv_ssthresh, tp.rcv_wnd) = (req.window_clamp, req.rcv_wnd, req.rcv_wnd);
    window::begin(tp, rcv);
    tp.rx_opt.wscale_ok = req.wscale_ok;
    if req.wscale_ok {
        (tp.rx_opt.snd_wscale, tp.rx_opt.rcv_wscale) = (req.snd_wscale, req.rcv_wscale);
    } else {
        tp.window_clamp = tp.window_clamp.min(65_535);
    }
    tp.snd_wnd = raw_window.scale(tp.rx_opt.snd_wscale);
    tp.max_window = tp.snd_wnd;
    tp.tsoffset = req.ts_off;
    tp.txhash = req.txhash;
    tp.tcp_header_len = 20 + auth;
    if req.tstamp_ok {
        tp.rx_opt.ts_recent = req.ts_recent;
        tp.rx_opt.ts_recent_stamp = (c.now.as_secs() as u32).max(1);
        tp.tcp_header_len += 12;
    }
    if req.num_timeout > 0 {
        // The SYN-ACK was retransmitted: the window reduction is undone if that turns out to be spurious.
        tp.cold_mut().undo_marker = req.snt_isn;
        tp.undo_valid = true;
        tp.retrans_stamp = req.snt_synack().unwrap_or(c.now);
        // The child's RTO statistics begin with the SYN-ACK's (RFC 4898, tcpi_total_rto).
        tp.rare_mut().total_rto = u16::from(req.num_timeout);
        tp.rare_mut().total_rto_recoveries = 1;
        tp.rare_mut().total_rto_time_ms = (c.now - tp.retrans_stamp).as_millis().min(u128::from(u32::MAX)) as u32;
    }
    if len >= u32::from(super::tcb::MSS_DEFAULT) + u32::from(tp.tcp_header_len) {
        tp.ack.last_seg_size = (len - u32::from(tp.tcp_header_len)).min(0xffff) as u16;
    }
    tp.not_accepted = true;
    tp.rx_opt.mss_clamp = req.mss;
    ecn::openreq_child(c, &req.ecn, &by.ecn);
    let tp = &mut *c.tp;
    if let Some(cold) = req.cold.as_ref().filter(|c| c.saved_syn.is_some() || c.syn_options.is_some()) {
        let of = tp.cold.get_or_insert_default();
        (of.saved_syn, of.syn_options) = (cold.saved_syn.clone(), cold.syn_options.clone());
    }
    sock_ops::to_child(tp, p.tp, req.cold.as_ref().map_or(&None, |c| &c.hooks));
    tp.advmss = mss_for(p, &req.dst, req.daddr.is_ipv6());
    set_state(c, State::SynRecv);
    c.stack.mib.inc(Mib::TcpPassiveOpens);
    mtu::sync_mss(c, req.dst.mtu);
    rcvbuf::initialize_rcv_mss(c);
    if c.sk.flag(flag::KEEPOPEN) {
        let idle = timer::keepalive_time_when(c);
        timer::reset_keepalive_timer(c, idle);
    }
}

#[cfg(test)]
mod tests;
