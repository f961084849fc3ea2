//! What a listener leaves when it ends goes to another one of its SO_REUSEPORT group (`tcp_migrate_req`): connections
//! that nobody accepted, requests, and their segments that had met the old listener. Above: `listener::stop`, `proto`.
//! Below: `sock::reuseport`, `lookup`. The old listener is owned, has left its group and is in state CLOSE; the other
//! one is owned inside. No two wait for each other: who is chosen is still in the group, so it leaves later than who
//! chose it. Linux: reuseport_migrate_sock, inet_reqsk_clone.
//!
//! Departure: a request moves when its listener ends; in Linux with its next segment or SYN-ACK, to whom the group has
//! by then. A program of SO_ATTACH_REUSEPORT_CBPF is not asked, as there; those of eBPF that are do not exist here.

use super::handshake;
use super::listener::{self, ReqKey, Request};
use super::lookup::{Entry, tuple_of, tuple_of_sock};
use super::rcv;
use super::tcb::Cx;
use crate::base::hash::Tuple;
use crate::counters::Mib;
use crate::sock::Sock;
use crate::sock::reuseport::ReuseGroup;
use crate::sock::skb::Skb;
use crate::sock::state::State;
use std::sync::Arc;

/// A connection that nobody accepted joins another accept queue; false: nobody listens any more, which is counted.
pub(super) fn child(cx: &Cx<'_>, group: &ReuseGroup, child: &Arc<Sock>) -> bool {
    let tuple = tuple_of_sock(&child.lock(cx.stack).common);
    to_heir(cx, group, &tuple, |heir| {
        handshake::queue_add(heir, child.clone());
        true
    })
}

/// A request becomes another listener's, with the time of its next SYN-ACK. False: as `child`, or it was forgotten
/// meanwhile.
pub(super) fn request(cx: &Cx<'_>, group: &ReuseGroup, key: &ReqKey, req: Box<Request>) -> bool {
    to_heir(cx, group, &key.tuple, |heir| {
        let entry = Entry::Request(heir.sock.clone(), req.oif);
        let mine = |e: &Entry| matches!(e, Entry::Request(s, _) if Arc::ptr_eq(s, cx.sock));
        if !cx.tp.net.hashinfo.insert(key.hash, entry, mine) {
            return false;
        }
        if let Some(l) = heir.tp.listener_mut() {
            l.adopt(*key, req);
        }
        listener::arm(heir);
        true
    })
}

/// Runs `take` with the listener of the group that the flow's hash chooses.
fn to_heir(cx: &Cx<'_>, group: &ReuseGroup, tuple: &Tuple, take: impl FnOnce(&mut Cx<'_>) -> bool) -> bool {
    let heir = group.by_hash(cx.stack.keys.ehash(tuple));
    let taken = heir.is_some_and(|heir| {
        let mut g = heir.lock(cx.stack);
        Cx::new(&mut g).is_some_and(|mut heir| heir.state() == State::Listen && take(&mut heir))
    });
    let mib = if taken { Mib::TcpExtTCPMigrateReqSuccess } else { Mib::TcpExtTCPMigrateReqFailure };
    cx.stack.mib.inc(mib);
    taken
}

/// Hands a segment that met a listener which has ended to whom its request or its connection went; gives it back where
/// there is nobody.
pub(super) fn follow(cx: &Cx<'_>, mut skb: Skb) -> Option<Skb> {
    // A connection has a peer, a listener has none.
    let Some(info) = skb.rx.filter(|_| cx.sk.dport == 0) else { return Some(skb) };
    let (sport, dport) = rcv::ports(&skb);
    let entry = cx.tp.net.hashinfo.established_from(cx.stack, &tuple_of(&info, sport, dport), info.ifindex);
    match entry {
        Some(Entry::Request(heir, _)) if !Arc::ptr_eq(&heir, cx.sock) => {
            rcv::add_backlog(cx.stack, &heir, skb, cx.now);
        }
        Some(Entry::Sock(sock, _)) if !Arc::ptr_eq(&sock, cx.sock) => {
            skb.rx = None;
            rcv::add_backlog(cx.stack, &sock, skb, cx.now);
        }
        _ => return Some(skb),
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inet::Socket;
    use crate::sock::msg::{RecvMsg, SendMsg};
    use crate::stack::Stack;
    use crate::tcp::connect;
    use crate::tcp::testing::Bench;
    use std::io::{IoSlice, IoSliceMut};
    use std::net::{Ipv4Addr, SocketAddr};

    const TCP_DEFER_ACCEPT: i32 = 9;

    fn socket(stack: &Arc<Stack>) -> Socket {
        let s = Socket::new(stack, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
        s.set_nonblocking(true);
        s
    }

    fn member(stack: &Arc<Stack>, here: SocketAddr) -> Socket {
        let s = socket(stack);
        s.setsockopt(libc::SOL_SOCKET, libc::SO_REUSEPORT, &1i32.to_ne_bytes()).unwrap();
        s.bind(here).unwrap();
        s.setsockopt(libc::IPPROTO_TCP, TCP_DEFER_ACCEPT, &30i32.to_ne_bytes()).unwrap();
        s.listen(16).unwrap();
        s
    }

    fn requests(stack: &Arc<Stack>, s: &Socket) -> usize {
        let mut g = s.sock().lock(stack);
        Cx::new(&mut g).unwrap().tp.listener.as_ref().map_or(0, |l| l.requests_len())
    }

    /// The segment met its listener, which was owned, and waits in the backlog while the listener ends.
    #[test]
    fn a_segment_in_the_backlog_of_a_listener_that_ends_follows_its_request() {
        let bench = Bench::new();
        let stack = &bench.stack;
        stack.sysctl.set("net.ipv4.tcp_migrate_req", "1").unwrap();
        let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 5004));
        let (a, b) = (member(stack, here), member(stack, here));
        let client = socket(stack);
        let _ = client.connect(Some(here));
        stack.poll(stack.now());
        let (old, new) = if requests(stack, &a) == 1 { (a, b) } else { (b, a) };
        assert_eq!((requests(stack, &old), requests(stack, &new)), (1, 0));
        let mut g = old.sock().lock(stack);
        client.sendmsg(&mut SendMsg::new(&[IoSlice::new(b"x")], 0)).unwrap();
        stack.poll(stack.now());
        let mut cx = Cx::new(&mut g).unwrap();
        connect::disconnect(&mut cx).unwrap();
        assert_eq!(requests(stack, &new), 1, "it waits for its data");
        drop(g);
        let child = new.accept().expect("the data came to the other listener").0;
        let mut buf = [0];
        assert_eq!(child.recvmsg(&mut RecvMsg::new(&mut [IoSliceMut::new(&mut buf)], libc::MSG_DONTWAIT)), Ok(1));
        assert_eq!(&buf, b"x");
        let moved = [Mib::TcpExtTCPMigrateReqSuccess, Mib::TcpExtTCPMigrateReqFailure].map(|mib| stack.mib.get(mib));
        assert_eq!(moved, [1, 0]);
    }
}
