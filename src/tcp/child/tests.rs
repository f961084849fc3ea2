//! Children that cannot be: what was done for one is undone.

use super::super::peer_test::{ACK, Host, ISS, SYN, SYN_OPTIONS, Seg};
use super::*;
use crate::base::env::Instant;
use crate::counters::Mib;
use crate::inet::Socket;

const PEER: u16 = 4000;

fn option(s: &Socket, level: i32, name: i32, value: i32) {
    s.setsockopt(level, name, &value.to_ne_bytes()).unwrap();
}

/// What a failed child must not change: sockets, orphans and pages of TCP, entries of the established, ends that are
/// established, and until when the stack can sleep.
fn state(h: &Host) -> ([i64; 3], usize, u64, Option<Instant>) {
    let (a, stack) = (h.listener.sock().accounts(), &h.bench.stack);
    let (entries, _) = with_listener(h, |cx| cx.tp.net.hashinfo.established_len());
    let counts = [a.sockets.sum(), a.orphans.sum(), a.pages.sum()];
    (counts, entries, stack.mib.get(Mib::TcpCurrEstab), stack.next_event())
}

fn with_listener<R>(h: &Host, f: impl FnOnce(&mut Cx<'_>) -> R) -> R {
    let mut g = h.listener.sock().lock(&h.bench.stack);
    f(&mut Cx::new(&mut g).unwrap())
}

/// The listener's options ask for a timer, memory and modules in every child. The tuple is another's, as when two
/// processors complete one handshake at once.
#[test]
fn a_child_whose_tuple_is_taken_leaves_nothing_and_the_request_completes_later() {
    let h = Host::new(4);
    option(&h.listener, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1);
    h.listener.setsockopt(libc::IPPROTO_TCP, libc::TCP_CONGESTION, b"cubic").unwrap();
    let answer = h.put(&Seg { options: SYN_OPTIONS.to_vec(), ..Seg::new(PEER, SYN, ISS, 0) });
    let ack = answer[0].seq.wrapping_add(1);
    let before = state(&h);
    with_listener(&h, |cx| {
        let tuple = cx.tp.listener_mut().unwrap().tuples().next().unwrap();
        let key = ReqKey::new(cx.stack, tuple);
        let by = OpenedBy::of(&Skb::from_slice(&[0; 20]), &TcpOptions::default());
        let mut req = cx.tp.listener_mut().unwrap().take(&key);
        for _ in 0..3 {
            let child = syn_recv_sock(cx, &key, &mut req, &by, |_| false, |_, _| panic!("it has no child"));
            assert!(child.is_none());
        }
        cx.tp.listener_mut().unwrap().put_back(&key, req.unwrap());
    });
    assert_eq!(state(&h), before);
    h.put(&Seg::new(PEER, ACK, ISS.wrapping_add(1), ack));
    let (child, _) = h.listener.accept().unwrap();
    assert_eq!((child.sock().state(), h.bench.stack.mib.get(Mib::TcpCurrEstab)), (State::Established, 1));
}
