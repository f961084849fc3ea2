//! TCP. Above: the socket layer, through the table that `proto` registers. Below: `ip::output`. Linux: net/ipv4/tcp*.c.
//!
//! Where to look: each file names the functions of Linux that it implements, and each function is named in one file
//! only (a test holds this). A segment comes in by `rcv`, `input` and `ack`; data goes out by `sendmsg`, `output`,
//! `xmit` and `segment`. All code that gets a `Cx` owns the sock. Add an algorithm to `cong`, a hook to `sock_ops`, a
//! layer on TCP to `ulp`.
//!
//! | file | what |
//! |---|---|
//! | `proto` | the table of operations; `release_cb`; a segment to the sock by its state |
//! | `net`, `lookup`, `bhash` | what TCP keeps for a stack; the tables of connections, listeners and ports |
//! | `tcb`, `state`, `queue` | the variables of a connection; the transitions of RFC 9293 Figure 5; queues of segments |
//! | `cold` | the variables that few connections need, in a box of their own |
//! | `rtx`, `shift` | the retransmit queue, by sequence number and by time of sending; SACKed packets in it are joined |
//! | `sockopt`, `ioctl`, `info` | IPPROTO_TCP options, ioctl(2), `struct tcp_info` |
//! | `diag` | what ss(8) shows of a connection, and how `ss -K` ends it |
//! | `connect`, `control`, `synsent` | active open: route and port; SYN and FIN; the answer (RFC 9293 §3.10.7.3) |
//! | `listener`, `handshake` | passive open: the queues; SYN to request (RFC 9293 §3.10.7.2) |
//! | `check_req` | a segment for a request; request to connection (RFC 9293 §3.10.7.4) |
//! | `migrate` | what a listener leaves goes to another one (`tcp_migrate_req`) |
//! | `synack`, `child` | SYN-ACKs, sent and sent again; the sock that a request becomes |
//! | `syncookies` | what a SYN-ACK remembers in place of a request (RFC 4987) |
//! | `fastopen`, `metrics` | data in the SYN (RFC 7413); what is remembered of peers |
//! | `close`, `timewait` | close, shutdown, abort, orphans (RFC 9293 §3.10.4); TIME-WAIT records |
//! | `tw_timer` | when TIME-WAIT records end |
//! | `sendmsg`, `output` | send: bytes join the queue; push now or later (RFC 9293 §3.7.4) |
//! | `xmit`, `segment` | which segment, how long; its options and header |
//! | `tstamp` | transmit timestamps: the byte that is reported, its acknowledgement |
//! | `repair` | a connection is taken out of a stack, or put into one (TCP_REPAIR) |
//! | `mtu`, `mtu_probe` | segment sizes and path MTU; probing for it (RFC 4821) |
//! | `probe` | window and loss probes (RFC 9293 §3.8.6.1, RFC 8985 §7) |
//! | `chrono`, `rate` | what limits a sender; delivery-rate samples |
//! | `rcv`, `input`, `challenge` | a segment to its sock; its steps (RFC 9293 §3.10.7.4); challenge ACKs (RFC 5961) |
//! | `reassembly`, `prune` | received data: its queues; when memory is short |
//! | `recvmsg`, `urgent` | received data to the program; the urgent byte (RFC 6093) |
//! | `delack` | when an acknowledgement leaves (RFC 9293 §3.8.6.3) |
//! | `window`, `rcvbuf` | the window that is offered (RFC 7323 §2); the buffer behind it |
//! | `ack`, `sack`, `rtt` | what an acknowledgement does; the scoreboard (RFC 2018); RTT and RTO (RFC 6298) |
//! | `minmax` | the best sample of a sliding window |
//! | `recovery`, `rack` | the states of recovery; which segments are lost (RFC 8985) |
//! | `retransmit`, `prr`, `undo` | sending again; at which rate (RFC 6937); undoing a reduction |
//! | `ecn`, `cong` | congestion notification (RFC 3168, RFC 9768); congestion control, a file an algorithm |
//! | `plb` | another path where one stays congested |
//! | `timer` | retransmission, probes, keepalive (RFC 6298, RFC 1122 §4.2.3.6) |
//! | `auth` | signed segments (RFC 2385, RFC 5925) |
//! | `sock_ops`, `ulp` | hooks; upper-layer protocols |
//! | `tfb` | a TCP of one's own beside this one: TCP_STACK |
//! | `invariants` | what holds whenever a sock is released, checked in debug builds |

pub(crate) mod ack;
#[cfg(test)]
mod any_segment_test;
mod auth;
mod bhash;
pub(crate) mod challenge;
mod check_req;
mod child;
pub(crate) mod chrono;
pub(crate) mod close;
pub mod cold;
pub mod cong;
pub mod connect;
pub mod control;
mod delack;
pub(crate) mod diag;
mod ecn;
mod fastopen;
pub mod handshake;
pub mod info;
pub mod input;
pub mod invariants;
pub mod ioctl;
pub mod listener;
pub mod lookup;
pub mod metrics;
mod migrate;
pub(crate) mod minmax;
pub mod mtu;
mod mtu_probe;
pub mod net;
pub mod output;
#[cfg(test)]
mod peer_test;
mod plb;
pub(crate) mod probe;
pub(crate) mod proto;
pub(crate) mod prr;
mod prune;
pub(crate) mod queue;
pub(crate) mod rack;
pub(crate) mod rate;
pub(crate) mod rcv;
pub(crate) mod rcvbuf;
pub(crate) mod reassembly;
pub(crate) mod recovery;
pub(crate) mod recvmsg;
pub(crate) mod repair;
pub(crate) mod retransmit;
pub(crate) mod rtt;
pub(crate) mod rtx;
pub(crate) mod sack;
pub(crate) mod segment;
pub(crate) mod sendmsg;
pub(crate) mod shift;
pub mod sock_ops;
pub(crate) mod sockopt;
pub(crate) mod state;
mod synack;
mod syncookies;
pub(crate) mod synsent;
pub(crate) mod tcb;
#[cfg(test)]
pub(crate) mod testing;
pub mod tfb;
#[cfg(test)]
mod threats_test;
pub(crate) mod timer;
pub(crate) mod timewait;
mod tstamp;
mod tw_timer;
pub mod ulp;
pub(crate) mod undo;
pub(crate) mod urgent;
#[cfg(test)]
mod ways_test;
pub(crate) mod window;
pub(crate) mod xmit;

#[cfg(test)]
mod tests;

use crate::counters::Mib;
use crate::sock::state::State;
use crate::trace::Event;
use tcb::Cx;

/// Bits of work for `release_cb`: from timers, completions and ICMP (Linux: TCPF_*_DEFERRED).
pub mod deferred {
    /// A device finished with packets of a throttled sock.
    pub const TSQ: u32 = crate::sock::tsq::DEFERRED;
    /// Retransmit, probe, loss-probe or reordering timer.
    pub const WRITE_TIMER: u32 = 2;
    /// Delayed acknowledgement, or a compressed one.
    pub const DELACK_TIMER: u32 = 4;
    /// Keepalive, FIN_WAIT2.
    pub const KEEPALIVE_TIMER: u32 = 8;
    /// ICMP lowered the path MTU.
    pub const MTU_REDUCED: u32 = 16;
    /// Pacing says now.
    pub const PACING: u32 = 32;
    /// A listener's requests: SYN-ACK retransmission.
    pub const SYNACK_TIMER: u32 = 64;
    /// The backlog asked for an acknowledgement.
    pub const ACK: u32 = 128;
    /// A timer of an alternative TCP's own.
    pub const TFB_TIMER: u32 = 256;
}

/// Moves the connection along an arrow of Figure 5 (`State::next`) and keeps the counters that go with it
/// (tcp_set_state): CurrEstab, EstabResets; a closed connection leaves the tables.
// Most callers name the state, by which most of this falls away.
#[inline(always)]
pub fn set_state(cx: &mut Cx<'_>, new: State) {
    change_state(cx, new, true);
}

/// The same; `hashed`: the connection may be in the tables.
#[inline(always)]
fn change_state(cx: &mut Cx<'_>, new: State, hashed: bool) {
    let old = cx.state();
    debug_assert!(old.leads_to(new), "no arrow leads from {old:?} to {new:?}");
    sock_ops::state(cx, old, new);
    cx.stack.mib.trace.point_if(|| state_event(cx, old, new));
    match new {
        State::Established if old != State::Established => cx.stack.mib.inc(Mib::TcpCurrEstab),
        State::CloseWait if old == State::SynRecv => cx.stack.mib.inc(Mib::TcpCurrEstab),
        State::Close if matches!(old, State::CloseWait | State::Established) => {
            cx.stack.mib.inc(Mib::TcpEstabResets);
        }
        _ => {}
    }
    let leaves = |s| matches!(s, State::Established | State::CloseWait);
    if leaves(old) && !leaves(new) {
        cx.stack.mib.dec(Mib::TcpCurrEstab);
    }
    if new == State::Close {
        return closed(cx, hashed);
    }
    cx.sock.set_state(new);
}

/// The state is to be CLOSED: the connection leaves the tables, and the port is free unless the program bound it.
#[inline(never)]
fn closed(cx: &mut Cx<'_>, hashed: bool) {
    // Before the state says so: nobody finds a closed connection there.
    if hashed {
        connect::unhash(cx);
    }
    if !cx.sk.flag(crate::sock::flag::BINDPORT_LOCK) {
        connect::put_port(cx);
    }
    cx.sock.set_state(State::Close);
    connect::rehold(cx);
}

#[cold]
fn state_event(cx: &Cx<'_>, old: State, new: State) -> Option<Event> {
    // Linux copies an accepted connection from its listener (inet_csk_clone_lock): it comes from LISTEN.
    let shown = if (old, new) == (State::Close, State::SynRecv) { State::Listen } else { old };
    let (protocol, local, peer) = (cx.sock.protocol, cx.sk.local(), cx.sk.peer());
    (old != new).then_some(Event::SetState { protocol, local, peer, old: shown as u8, new: new as u8 })
}
