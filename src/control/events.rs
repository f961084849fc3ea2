//! The lines of a trace: events with the names of Linux's tracepoints. Above: `client`. Below: `trace`.

use super::json::Object;
use crate::sock::state::State;
use crate::trace::{Dropper, Event, Listener};
use std::net::SocketAddr;

/// The next line for a listener; None: nothing has happened.
pub(super) fn next(listener: &Listener) -> Option<String> {
    let lost = listener.take_lost();
    if lost > 0 {
        return Some(Object::new().plain("lost", lost).end());
    }
    let (time, event) = listener.next()?;
    let head = |name| Object::new().plain("time", format_args!("{:.6}", time.as_secs_f64())).text("event", name);
    Some(match event {
        Event::SetState { protocol, local, peer, old, new } => {
            let o = head("sock:inet_sock_set_state").plain("protocol", protocol);
            ends(o, local, peer).text("oldstate", name(old)).text("newstate", name(new)).end()
        }
        Event::Retransmit { local, peer, state, seq, len, why, err } => {
            let synack = state == State::NewSynRecv as u8;
            let o = head(if synack { "tcp:tcp_retransmit_synack" } else { "tcp:tcp_retransmit_skb" });
            let o = ends(o, local, Some(peer)).text("state", name(state)).text("reason", why.name());
            let o = o.plain("seq", seq).plain("len", len);
            match err {
                Some(e) => o.text("err", e.name()),
                None => o,
            }
            .end()
        }
        Event::Drop { reason, by } => {
            let o = head("skb:kfree_skb").text("reason", &reason);
            match by {
                Dropper::Place(at) => o.text("location", &format!("{}:{}", at.file(), at.line())),
                Dropper::Plugin(name) => o.text("from", &name),
            }
            .end()
        }
        // Not a tracepoint of Linux, whose modules print to the kernel's log.
        Event::Log { from, level, text, missed } => {
            let o = head("plugin:log").text("from", &from).text("level", level).text("text", &text);
            if missed > 0 { o.plain("missed", missed) } else { o }.end()
        }
    })
}

fn ends(o: Object, local: SocketAddr, peer: Option<SocketAddr>) -> Object {
    let o = o.text("local", &local.ip().to_string()).plain("local_port", local.port());
    match peer {
        Some(peer) => o.text("peer", &peer.ip().to_string()).plain("peer_port", peer.port()),
        None => o,
    }
}

/// A state as Linux's tracepoints print it.
fn name(state: u8) -> &'static str {
    match State::from_u8(state) {
        State::Established => "TCP_ESTABLISHED",
        State::SynSent => "TCP_SYN_SENT",
        State::SynRecv => "TCP_SYN_RECV",
        State::FinWait1 => "TCP_FIN_WAIT1",
        State::FinWait2 => "TCP_FIN_WAIT2",
        State::TimeWait => "TCP_TIME_WAIT",
        State::Close => "TCP_CLOSE",
        State::CloseWait => "TCP_CLOSE_WAIT",
        State::LastAck => "TCP_LAST_ACK",
        State::Listen => "TCP_LISTEN",
        State::Closing => "TCP_CLOSING",
        State::NewSynRecv => "TCP_NEW_SYN_RECV",
    }
}
