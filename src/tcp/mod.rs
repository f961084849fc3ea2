//! TCP. Which RFC section is in which file: RFC 9293 §3.10 event processing: `handshake` (SYN), `input` (segments),
//! `close`; §3.8 data communication: `sendmsg`, `output`, `window`, `timer`, `recvmsg`; RFC 5681, RFC 6675, RFC 8985
//! recovery: `ack`, `sack`, `recovery`; RFC 6298: `rtt`; RFC 7323: `input` (PAWS), `rtt`; congestion control: `cong`.
//! What users add: algorithms to `cong`, hooks to `sock_ops`, layers on top to `ulp`. What TCP keeps for a stack,
//! tables and those registries: `net`, held by the value that `proto` registers. Above: the socket layer. Below:
//! `ip::output`. Linux: net/ipv4/tcp*.c.

pub(crate) mod ack;
#[cfg(test)]
mod any_segment_test;
pub(crate) mod challenge;
pub(crate) mod chrono;
pub(crate) mod close;
pub mod cong;
pub(crate) mod connect;
pub(crate) mod control;
pub(crate) mod handshake;
pub(crate) mod info;
pub(crate) mod input;
pub(crate) mod invariants;
pub(crate) mod ioctl;
pub(crate) mod listener;
pub(crate) mod lookup;
pub(crate) mod mtu;
pub(crate) mod net;
pub(crate) mod output;
#[cfg(test)]
mod peer_test;
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
pub(crate) mod retransmit;
pub(crate) mod rtt;
pub(crate) mod sack;
pub(crate) mod segment;
pub(crate) mod sendmsg;
pub mod sock_ops;
pub(crate) mod sockopt;
pub(crate) mod state;
pub(crate) mod synsent;
pub(crate) mod tcb;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod threats_test;
pub(crate) mod timer;
pub(crate) mod timewait;
pub mod ulp;
pub(crate) mod undo;
pub(crate) mod urgent;
pub(crate) mod window;
pub(crate) mod xmit;

#[cfg(test)]
mod tests;

use crate::counters::Mib;
use state::State;
use std::sync::atomic::Ordering;
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
}

/// Moves the connection along an arrow of Figure 5 (`State::next`) and keeps the counters that go with it
/// (tcp_set_state): CurrEstab, EstabResets; a closed connection leaves the tables.
pub fn set_state(cx: &mut Cx<'_>, new: State) {
    let old = cx.state();
    debug_assert!(old.leads_to(new), "no arrow leads from {old:?} to {new:?}");
    sock_ops::state(cx, old, new);
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
        // Out of the tables before the state says so: nobody finds a closed connection there.
        connect::unhash(cx);
        if !cx.sk.flag(crate::sock::flag::BINDPORT_LOCK) {
            connect::put_port(cx);
        }
    }
    cx.sock.state.store(new as u8, Ordering::Release);
}
