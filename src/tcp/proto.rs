//! TCP's table of operations: each operation and the file that does it. Above: the socket layer and the registry, which
//! reach TCP through nothing else. Linux: struct proto tcp_prot, tcpv6_prot.

use super::lookup::{Entry, flow_of};
use super::net::TcpNet;
use super::tcb::{Cx, TcpSock};
use super::timewait::TimeWait;
use super::{
    auth, close, connect, deferred, handshake, input, ioctl, listener, migrate, output, rcv, rcvbuf, recvmsg, sendmsg,
    sockopt, synack, tfb, timer, tstamp,
};
use crate::base::error::{Error, Result};
use crate::base::hash::Tuple;
use crate::counters::{DropReason, Mib};
use crate::ip::{self, bind, flowlabel, pktoptions};
use crate::sock::addr::AF_INET6;
use crate::sock::addr::unmap;
use crate::sock::filter;
use crate::sock::msg::{RecvMsg, SendMsg};
use crate::sock::packet::{IcmpError, PacketInfo};
use crate::sock::proto::{Dumped, IpHandler, Proto, ProtoAccounts, SockRef};
use crate::sock::registry::{ProtoSwitch, RegisterError};
use crate::sock::reuseport::Membership;
use crate::sock::skb::Skb;
use crate::sock::state::State;
use crate::sock::wait::Events;
use crate::sock::{Sock, SockGuard, SockState};
use crate::stack::Stack;
use crate::wire::seq::SeqNum;
use crate::wire::tcp::TcpHeader;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// TCP over IPv4 and IPv6: the table of operations and the handler of its IP protocol number, around what TCP keeps for
/// the stack. Aligned as [`TcpNet`] is.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Tcp(Arc<TcpNet>);

/// Registers TCP for SOCK_STREAM of both families, as their default protocol, and the handlers of its sysctls.
pub fn register(stack: &Arc<Stack>) -> std::result::Result<(), RegisterError> {
    let tcp = Arc::new(Tcp::default());
    let proto: Arc<dyn Proto> = tcp.clone();
    let switch = |family| ProtoSwitch {
        family,
        ty: libc::SOCK_STREAM,
        protocol: libc::IPPROTO_TCP,
        default: true,
        proto: proto.clone(),
    };
    let keys = [switch(libc::AF_INET), switch(libc::AF_INET6)];
    stack.registry.register(&keys, Some((&[libc::IPPROTO_TCP as u8], tcp.clone())))?;
    sysctls(stack, &tcp.0).map_err(|_| RegisterError::Incomplete("a sysctl of TCP"))
}

/// Sysctls that list what is registered, and those that take only such names. Linux:
/// proc_tcp_available_congestion_control, proc_allowed_congestion_control, proc_tcp_available_ulp,
/// proc_tcp_congestion_control.
fn sysctls(stack: &Stack, net: &Arc<TcpNet>) -> Result<()> {
    let weak = Arc::downgrade(net);
    stack.sysctl.set_reader(
        "net.ipv4.tcp_available_congestion_control",
        Arc::new(move || weak.upgrade().map(|net| net.cong.names()).unwrap_or_default()),
    )?;
    let weak = Arc::downgrade(net);
    stack.sysctl.set_reader(
        "net.ipv4.tcp_available_ulp",
        Arc::new(move || weak.upgrade().map(|net| net.ulp.names()).unwrap_or_default()),
    )?;
    fastopen_sysctls(stack, net)?;
    let weak = Arc::downgrade(net);
    stack.sysctl.set_reader(
        "net.ipv4.tcp_available_stacks",
        Arc::new(move || weak.upgrade().map(|net| net.tfb.names()).unwrap_or_default()),
    )?;
    let weak = Arc::downgrade(net);
    stack.sysctl.set_validator(
        "net.ipv4.tcp_stack",
        Arc::new(move |name| weak.upgrade().ok_or(Error::NoEnt)?.tfb.set_default(name)),
    )?;
    let weak = Arc::downgrade(net);
    stack.sysctl.set_reader(
        "net.ipv4.tcp_allowed_congestion_control",
        Arc::new(move || weak.upgrade().map(|net| net.cong.allowed()).unwrap_or_default()),
    )?;
    let weak = Arc::downgrade(net);
    stack.sysctl.set_validator(
        "net.ipv4.tcp_allowed_congestion_control",
        Arc::new(move |names| weak.upgrade().ok_or(Error::NoEnt)?.cong.set_allowed(names)),
    )?;
    let weak = Arc::downgrade(net);
    stack.sysctl.set_validator(
        "net.ipv4.tcp_congestion_control",
        Arc::new(move |name| weak.upgrade().ok_or(Error::NoEnt)?.cong.set_default(name)),
    )
}

/// Those of Fast Open whose values TCP keeps, or acts upon when they are set. Linux: proc_tcp_fastopen_key,
/// proc_tfo_blackhole_detect_timeout.
fn fastopen_sysctls(stack: &Stack, net: &Arc<TcpNet>) -> Result<()> {
    let weak = Arc::downgrade(net);
    stack.sysctl.set_reader(
        "net.ipv4.tcp_fastopen_key",
        Arc::new(move || weak.upgrade().map(|net| net.fastopen.key_text()).unwrap_or_default()),
    )?;
    let weak = Arc::downgrade(net);
    stack.sysctl.set_validator(
        "net.ipv4.tcp_fastopen_key",
        Arc::new(move |text| weak.upgrade().ok_or(Error::NoDev)?.fastopen.set_key_text(text)),
    )?;
    let weak = Arc::downgrade(net);
    stack.sysctl.set_validator(
        "net.ipv4.tcp_fastopen_blackhole_timeout_sec",
        Arc::new(move |_| {
            weak.upgrade().ok_or(Error::NoDev)?.fastopen.blackhole.clear();
            Ok(())
        }),
    )
}

/// Counts a segment that reached its sock (tcp_segs_in).
pub(super) fn count_in(cx: &mut Cx<'_>, skb: &Skb) {
    let n = u32::from(skb.rx_segs.max(1));
    cx.tp.segs_in = cx.tp.segs_in.wrapping_add(n);
    if skb.len() > skb.tcp.header_len() {
        cx.tp.data_segs_in = cx.tp.data_segs_in.wrapping_add(n);
    }
}

impl Tcp {
    /// What TCP keeps for the stack.
    pub(super) fn net(&self) -> &Arc<TcpNet> {
        &self.0
    }

    fn cx<'a, 'g: 'a>(sk: &'a mut SockGuard<'g>) -> Result<Cx<'a>> {
        // A sock whose private part is not TCP's was never initialised by this table.
        Cx::new(sk).ok_or(Error::Inval)
    }
}

impl Proto for Tcp {
    fn contained(&self) -> bool {
        false
    }

    fn name(&self) -> &str {
        "TCP"
    }

    fn init(&self, sk: &mut SockGuard<'_>) -> Result<()> {
        let stack = sk.stack;
        sk.private.set_with(|| TcpSock::new(&self.0, stack));
        if let Some(tp) = sk.private.downcast_mut() {
            tfb::assign(tp);
        }
        sk.common.txrehash = sk.stack.sysctl.txrehash() != 0;
        if sk.sock.family == AF_INET6 {
            sk.common.ip_flags |= flowlabel::of_new_socket(sk.stack);
        }
        Ok(())
    }

    fn destroy(&self, sk: &mut SockGuard<'_>) {
        if let Ok(mut cx) = Tcp::cx(sk) {
            close::destroy(&mut cx);
        }
    }

    fn close(&self, sk: SockRef<'_>, _flags: i32) {
        // O_NONBLOCK does not shorten SO_LINGER, as on Linux.
        close::close(sk);
    }

    fn bind(&self, sk: &mut SockGuard<'_>, addr: SocketAddr) -> Result<()> {
        bind::bind(sk, addr)
    }

    fn connect(&self, sk: &mut SockGuard<'_>, addr: SocketAddr) -> Result<()> {
        connect::connect(&mut Tcp::cx(sk)?, addr)
    }

    fn disconnect(&self, sk: &mut SockGuard<'_>) -> Result<()> {
        connect::disconnect(&mut Tcp::cx(sk)?)
    }

    fn listen(&self, sk: &mut SockGuard<'_>, backlog: u32) -> Result<()> {
        listener::listen(&mut Tcp::cx(sk)?, backlog)
    }

    fn accept(&self, sk: SockRef<'_>, nonblock: bool) -> Result<Arc<Sock>> {
        listener::accept(sk, nonblock)
    }

    fn ioctl(&self, sk: SockRef<'_>, request: u64) -> Result<i32> {
        ioctl::ioctl(sk, request)
    }

    fn shutdown(&self, sk: &mut SockGuard<'_>, how: u8) {
        if let Ok(mut cx) = Tcp::cx(sk) {
            close::shutdown(&mut cx, how);
        }
    }

    fn setsockopt(&self, sk: SockRef<'_>, level: i32, name: i32, value: &[u8]) -> Result<()> {
        sockopt::set(sk, level, name, value)
    }

    fn getsockopt(&self, sk: SockRef<'_>, level: i32, name: i32, value: &mut [u8]) -> Result<usize> {
        sockopt::get(sk, level, name, value)
    }

    fn bypass_getsockopt(&self, level: i32, name: i32) -> bool {
        // TCP_ZEROCOPY_RECEIVE changes the sock as it answers.
        level == libc::IPPROTO_TCP && name == 35
    }

    fn negative_advice(&self, sk: &mut SockGuard<'_>) {
        sk.common.dst = None;
        if let Ok(mut cx) = Tcp::cx(sk) {
            super::segment::rethink_txhash(&mut cx);
        }
    }

    fn set_rcvlowat(&self, sk: &mut SockGuard<'_>, val: i32) {
        if let Ok(mut cx) = Tcp::cx(sk) {
            rcvbuf::set_rcvlowat(&mut cx, val);
        }
    }

    fn keepalive(&self, sk: &mut SockGuard<'_>, on: bool) {
        if let Ok(mut cx) = Tcp::cx(sk) {
            timer::set_keepalive(&mut cx, on);
        }
    }

    fn sendmsg(&self, sk: SockRef<'_>, msg: &mut SendMsg<'_>) -> Result<usize> {
        sendmsg::sendmsg(sk, msg)
    }

    fn recvmsg(&self, sk: SockRef<'_>, msg: &mut RecvMsg<'_, '_>) -> Result<usize> {
        recvmsg::recvmsg(sk, msg)
    }

    fn splice_eof(&self, sk: SockRef<'_>) {
        sendmsg::splice_eof(sk);
    }
    fn sendmsg_locked(&self, sk: &mut SockGuard<'_>, msg: &mut SendMsg<'_>) -> Result<usize> {
        sendmsg::sendmsg_locked(sk, msg)
    }

    fn recvmsg_locked(&self, sk: &mut SockGuard<'_>, msg: &mut RecvMsg<'_, '_>) -> Result<usize> {
        recvmsg::recvmsg_locked(sk, msg)
    }

    fn poll(&self, sk: SockRef<'_>) -> Events {
        recvmsg::poll(sk)
    }

    fn poll_locked(&self, sk: &mut SockGuard<'_>) -> Events {
        recvmsg::poll_locked(sk)
    }

    fn update_proto(&self, sk: &mut SockGuard<'_>, _other: &Arc<dyn Proto>, _restore: bool) -> Result<()> {
        // A layer may be put on any sock of TCP; `ulp` decides which.
        Tcp::cx(sk).map(|_| ())
    }

    fn backlog_rcv(&self, sk: &mut SockGuard<'_>, skb: Skb) {
        let Ok(mut cx) = Tcp::cx(sk) else { return };
        do_rcv(&mut cx, skb);
    }

    fn join_backlog(&self, stack: &Stack, sock: &Sock, last: &mut Skb, skb: &mut Skb) -> bool {
        rcv::join_backlog(stack, sock, last, skb)
    }

    fn release_cb(&self, sk: &mut SockGuard<'_>, bits: u32) {
        let Ok(mut cx) = Tcp::cx(sk) else { return };
        if bits & deferred::MTU_REDUCED != 0 {
            rcv::mtu_deferred(&mut cx);
        }
        if bits & deferred::SYNACK_TIMER != 0 {
            synack::synack_timer(&mut cx);
        }
        timer::run_deferred(&mut cx, bits);
    }

    fn hash(&self, sk: &mut SockGuard<'_>) -> Result<()> {
        // TCP's connect and listen enter the tables themselves, where they know the 4-tuple.
        let _ = sk;
        Ok(())
    }

    fn rehash(&self, sk: &mut SockGuard<'_>) {
        let Ok(mut cx) = Tcp::cx(sk) else { return };
        connect::rehold(&mut cx);
        match cx.state() {
            State::Close => {}
            State::Listen => cx.tp.net.hashinfo.relisten(cx.sock, cx.sk),
            _ => cx.tp.net.hashinfo.rebind_device(cx.stack, cx.sock, cx.sk),
        }
    }

    fn reuseport(&self, sk: &SockGuard<'_>) -> Membership {
        self.0.hashinfo.reuseport(sk.sock, sk.common.sport)
    }

    fn unhash(&self, sk: &mut SockGuard<'_>) {
        if let Ok(mut cx) = Tcp::cx(sk) {
            connect::unhash(&mut cx);
        }
    }

    fn get_port(&self, sk: &mut SockGuard<'_>, port: u16) -> Result<()> {
        connect::get_port(&mut Tcp::cx(sk)?, port)
    }

    fn put_port(&self, sk: &mut SockGuard<'_>) {
        if let Ok(mut cx) = Tcp::cx(sk) {
            connect::put_port(&mut cx);
        }
    }

    fn stream_memory_free(&self, stack: &Stack, sk: &SockState, wake: bool) -> bool {
        sk.private.downcast_ref().is_none_or(|tp| output::stream_memory_free(stack, tp, wake))
    }

    fn remove_ulp(&self, sk: &mut SockGuard<'_>) -> Result<()> {
        super::ulp::remove(sk)
    }

    /// tcp_enter_memory_pressure.
    fn enter_memory_pressure(&self, stack: &Stack, accounts: &ProtoAccounts) {
        if !accounts.pressure.swap(true, Ordering::Relaxed) {
            self.0.pressure_since_ms.store(stack.now().as_millis() as u32, Ordering::Relaxed);
            stack.mib.inc(Mib::TcpExtTCPMemoryPressures);
        }
    }

    /// Counts how long it lasted, in milliseconds (tcp_leave_memory_pressure).
    fn leave_memory_pressure(&self, stack: &Stack, accounts: &ProtoAccounts) {
        if accounts.pressure.swap(false, Ordering::Relaxed) {
            let since = self.0.pressure_since_ms.load(Ordering::Relaxed);
            let lasted = (stack.now().as_millis() as u32).wrapping_sub(since);
            stack.mib.add(Mib::TcpExtTCPMemoryPressuresChrono, u64::from(lasted));
        }
    }

    fn sysctl_mem(&self, stack: &Stack) -> Option<[i64; 3]> {
        Some(stack.sysctl.tcp_mem().map(|n| n.min(i64::MAX as u64) as i64))
    }

    fn sysctl_wmem(&self, stack: &Stack) -> [i32; 3] {
        stack.sysctl.tcp_wmem()
    }

    fn sysctl_rmem(&self, stack: &Stack) -> [i32; 3] {
        stack.sysctl.tcp_rmem()
    }

    fn timewait_size(&self) -> usize {
        size_of::<TimeWait>()
    }

    fn request_size(&self) -> usize {
        size_of::<listener::Request>()
    }

    fn no_autobind(&self) -> bool {
        true
    }

    fn diag_destroy(&self, sk: SockRef<'_>, err: Error) -> Result<()> {
        close::abort(sk, err)
    }

    fn diag_queues(&self, sk: &mut SockGuard<'_>) -> Option<(u32, u32)> {
        let cx = Cx::untimed(sk)?;
        let waits = cx.tp.rcv_nxt.since(cx.tp.copied_seq) as i32;
        Some((waits.max(0) as u32, cx.tp.write_seq.since(cx.tp.snd_una)))
    }

    fn diag_dump(&self, each: &mut dyn FnMut(Dumped)) -> Option<(u16, u16)> {
        let end = |addr: u128, port| {
            let v6 = IpAddr::V6(addr.into());
            unmap(SocketAddr::new(v6, port))
        };
        let mini = |state, t: &Tuple| Dumped::Mini(state, end(t.saddr, t.sport), end(t.daddr, t.dport));
        for (_, sock) in self.0.hashinfo.listeners_all() {
            let requests = requests_of(&sock);
            each(Dumped::Sock(sock));
            requests.iter().for_each(|t| each(mini(State::SynRecv, t)));
        }
        for entry in self.0.hashinfo.established_all() {
            match entry {
                Entry::Sock(sock, _) => each(Dumped::Sock(sock)),
                Entry::TimeWait(tw) => each(mini(tw.substate(), &tw.tuple())),
                // Listed with its listener.
                Entry::Request(..) => {}
            }
        }
        Some((libc::SOCK_STREAM as u16, libc::IPPROTO_TCP as u16))
    }

    fn tskey(&self, sk: &mut SockGuard<'_>, written: bool) -> Result<u32> {
        tstamp::tskey(sk, written)
    }

    fn alternatives(&self) -> Vec<(String, usize)> {
        self.0.tfb.users()
    }

    fn is_stream(&self) -> bool {
        true
    }

    fn net_exit(&self) {
        self.0.hashinfo.clear();
    }

    fn check_invariants(&self, sock: &Sock, state: &SockState) {
        if let Some(tp) = state.private.downcast_ref::<TcpSock>() {
            super::invariants::check(sock, state, tp);
        }
    }
}

/// The 4-tuples of a listener's requests.
fn requests_of(listener: &Arc<Sock>) -> Vec<Tuple> {
    let Some(stack) = listener.stack().upgrade() else { return Vec::new() };
    let g = listener.lock(&stack);
    let tp = g.private.downcast_ref::<TcpSock>();
    tp.and_then(|tp| tp.listener.as_ref()).map_or(Vec::new(), |l| l.tuples().collect())
}

/// A segment for an owned sock, by state. Linux: tcp_v4_do_rcv.
fn do_rcv(cx: &mut Cx<'_>, mut skb: Skb) {
    let state = cx.state();
    if state == State::Close {
        let Some(back) = migrate::follow(cx, skb) else { return };
        skb = back;
    }
    if state != State::Listen
        && !auth::is_unsigned(cx, &skb)
        && let (peer, own) = (cx.sk.daddr, cx.sk.saddr)
        && let Err(reason) = auth::inbound_hash(cx, &skb, peer, own, |_| None)
    {
        cx.sock.drops.fetch_add(1, Ordering::Relaxed);
        return cx.stack.mib.drop(reason);
    }
    if cx.sk.has_filter() && !filtered(cx, &mut skb) {
        cx.sock.drops.fetch_add(1, Ordering::Relaxed);
        return cx.stack.mib.drop(DropReason::SocketFilter);
    }
    if state == State::Listen {
        return handshake::listen_rcv(cx, skb);
    }
    if skb.tcp.ttl < cx.sk.least_ttl(skb.l3) {
        cx.stack.mib.inc(Mib::TcpExtTCPMinTTLDrop);
        return cx.stack.mib.drop(DropReason::TcpMinTtl);
    }
    // Of joined segments the header is the first one's, with the flags and the window of all.
    let read = || TcpHeader::parse(skb.linear()).is_ok_and(|th| th.flag_word() == skb.tcp.flag_word);
    debug_assert!(skb.rx_segs > 1 || read());
    count_in(cx, &skb);
    let ip_options = match state {
        State::Established => Box::default(),
        _ => ip::options::of_segment(skb.saved_header.as_deref()),
    };
    let (seen, end_seq) = (pktoptions::seen(cx.sk, &mut skb), skb.tcp.end_seq);
    if state == State::Established {
        input::rcv_established(cx, skb);
    } else if let Err(skb) = input::rcv_last(cx, skb, state) {
        let cb = skb.tcp;
        let signed = auth::ao_header(cx.tp, &skb);
        if let input::Verdict::Reset(reason) = input::rcv_state_process(cx, skb) {
            rcv::reset_from_sock(cx, &cb, signed, &ip_options);
            cx.stack.mib.drop(reason);
        }
    }
    if let Some(seen) = seen
        && end_seq == cx.tp.rcv_nxt
        && !matches!(cx.state(), State::Close | State::Listen)
    {
        pktoptions::note(cx.sk, seen);
    }
}

/// Whether the socket's filter lets a segment through, which it may cut behind its header (tcp_filter).
fn filtered(cx: &Cx<'_>, skb: &mut Skb) -> bool {
    let (len, header) = (skb.len(), skb.tcp.header_len());
    let admitted = filter::admits(cx.stack, cx.sk, skb, header);
    skb.tcp.end_seq = SeqNum(skb.tcp.end_seq.0.wrapping_sub((len - skb.len()) as u32));
    admitted
}

impl IpHandler for Tcp {
    fn contained(&self) -> bool {
        false
    }

    fn rcv(&self, stack: &Arc<Stack>, skb: Skb, info: &PacketInfo) {
        rcv::rcv(&self.0, stack, skb, info);
    }
    fn rcv_noted(&self, stack: &Arc<Stack>, skb: Skb) {
        rcv::rcv_noted(&self.0, stack, skb);
    }
    fn foresee(&self, stack: &Arc<Stack>, skb: &Skb, info: &PacketInfo) -> Option<u64> {
        let flow = flow_of(stack, info, rcv::ports(skb));
        self.0.hashinfo.prefetch_slot(flow).then_some(flow)
    }
    fn fetch(&self, _stack: &Arc<Stack>, foreseen: u64) {
        self.0.hashinfo.prefetch_sock(foreseen);
    }
    fn err(&self, stack: &Arc<Stack>, icmp: &IcmpError<'_>) {
        rcv::err(&self.0, stack, icmp);
    }
}
