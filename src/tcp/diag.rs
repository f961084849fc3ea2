//! What ss(8) shows of a connection, and how it ends one (ss -K). Above: `control`. Below: `info`, the timers. Linux:
//! net/ipv4/tcp_diag.c, inet_csk_diag_fill, inet_twsk_diag_fill, inet_req_diag_fill.

use super::handshake;
use super::info::{TCP_INFO_LEN, tcp_info};
use super::listener::ReqKey;
use super::lookup::Entry;
use super::tcb::{Cx, TcpSock, XmitTimer};
use super::{net, sock_ops, tfb, timewait, ulp};
use crate::base::env::{Duration, Instant};
use crate::base::error::{Error, Result};
use crate::base::hash::{Tuple, addr128};
use crate::sock::Sock;
use crate::stack::Stack;
use std::net::SocketAddr;
use std::sync::Arc;

/// The timer that ss(8) shows of a socket (idiag_timer): the first that is armed, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timer {
    /// Retransmission, loss probe or reordering; of a request the SYN-ACK's.
    On,
    /// Zero-window probe.
    Persist,
    /// Keepalive, and the end of FIN_WAIT2.
    Keepalive,
    /// The end of TIME_WAIT.
    TimeWait,
}

impl Timer {
    /// The word that ss(8) prints.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Timer::On => "on",
            Timer::Persist => "persist",
            Timer::Keepalive => "keepalive",
            Timer::TimeWait => "timewait",
        }
    }
}

/// A timer, the time until it fires, and how often it has fired without an answer (idiag_retrans).
pub(crate) type Armed = (Timer, Duration, u8);

/// What is shown of a connection or listener.
#[derive(Debug)]
pub(crate) struct TcpDiag {
    /// `struct tcp_info`.
    pub info: [u8; TCP_INFO_LEN],
    /// The congestion control algorithm.
    pub cong: String,
    /// What it says of itself: INET_DIAG_* attribute, 0 for one of its own, and its bytes (get_info).
    pub cong_info: Option<(i32, Vec<u8>)>,
    /// The upper-layer protocol, if there is one.
    pub ulp: Option<String>,
    /// The hooks that it has, in the order in which they are called.
    pub hooks: Vec<String>,
    /// The alternative TCP that it has, or will have; None: ours.
    pub stack: Option<String>,
    /// The timer.
    pub timer: Option<Armed>,
}

fn timer(tp: &TcpSock, keepalive: Option<Instant>, now: Instant) -> Option<Armed> {
    let left = |at: Instant| at - now;
    let slot = tp.retransmit_timer.at().map(left);
    match (tp.pending, slot) {
        (XmitTimer::Retrans | XmitTimer::LossProbe | XmitTimer::ReoTimeout, Some(left)) => {
            Some((Timer::On, left, tp.retransmits))
        }
        (XmitTimer::Probe0, Some(left)) => Some((Timer::Persist, left, tp.probes_out)),
        _ => keepalive.map(|at| (Timer::Keepalive, left(at), tp.probes_out)),
    }
}

/// What is shown of a sock; None when it is not TCP's.
pub(crate) fn diag(stack: &Arc<Stack>, sock: &Arc<Sock>) -> Option<TcpDiag> {
    let mut g = sock.lock(stack);
    let mut cx = Cx::new(&mut g)?;
    let timer = timer(cx.tp, cx.sk.timer.at(), cx.now);
    let ulp = ulp::name(cx.tp).map(str::to_owned);
    let alternative = Some(tfb::name(cx.tp)).filter(|n| *n != tfb::DEFAULT).map(str::to_owned);
    let cong_info = cx.with_ca(|a, cx| a.get_info(cx)).flatten();
    let hooks = sock_ops::names(cx.tp);
    Some(TcpDiag {
        info: tcp_info(&cx),
        cong: cx.tp.ca.ops.name().to_owned(),
        cong_info,
        ulp,
        hooks,
        stack: alternative,
        timer,
    })
}

fn tuple(local: SocketAddr, peer: SocketAddr) -> Tuple {
    let (saddr, daddr) = (addr128(local.ip()), addr128(peer.ip()));
    Tuple { saddr, sport: local.port(), daddr, dport: peer.port() }
}

/// The timer of a request or of a closed connection between two ends.
pub(crate) fn mini_timer(stack: &Arc<Stack>, local: SocketAddr, peer: SocketAddr) -> Option<Armed> {
    let tuple = tuple(local, peer);
    match net::of(stack).ok()?.hashinfo.established(stack, &tuple)? {
        Entry::Sock(..) => None,
        Entry::TimeWait(tw) => Some((Timer::TimeWait, tw.left(stack.now()), 0)),
        Entry::Request(listener, _) => {
            let mut g = listener.lock(stack);
            let cx = Cx::new(&mut g)?;
            let key = ReqKey::new(stack, tuple);
            let (left, sent) = cx.tp.listener.as_ref()?.left(&key, cx.now)?;
            Some((Timer::On, left, sent))
        }
    }
}

/// Forgets a request or a closed connection (tcp_abort of what is no full sock). ENOENT when there is none between
/// these ends, or a sock by now.
pub(crate) fn destroy_mini(stack: &Arc<Stack>, local: SocketAddr, peer: SocketAddr) -> Result<()> {
    let tuple = tuple(local, peer);
    let net = net::of(stack)?;
    match net.hashinfo.established(stack, &tuple) {
        Some(Entry::TimeWait(tw)) => {
            timewait::kill(&net, stack, &tw);
            Ok(())
        }
        Some(Entry::Request(listener, _)) => {
            let mut g = listener.lock(stack);
            let mut cx = Cx::new(&mut g).ok_or(Error::NoEnt)?;
            let key = ReqKey::new(stack, tuple);
            handshake::unlink(&mut cx, &key).map(drop).ok_or(Error::NoEnt)
        }
        Some(Entry::Sock(..)) | None => Err(Error::NoEnt),
    }
}
