//! A listener whose owner, a program of a stack server, ends without a call for it.

use super::*;
use crate::counters::DropReason;
use crate::sock::proto::SockRef;
use crate::tcp::listener::{Owner, set_owner};
use crate::tcp::peer_test::{ACK, Host, ISS, RST, SYN, Seg};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Whether it has ended, and how often it was asked.
#[derive(Debug, Default)]
struct Program(AtomicBool, AtomicUsize);

impl Owner for Program {
    fn lives(&self) -> bool {
        self.1.fetch_add(1, Ordering::Relaxed);
        !self.0.load(Ordering::Relaxed)
    }
}

/// A SYN is refused as where nobody listens; where another listens at the port it is the other's. What was asked before
/// is a connection.
#[test]
fn a_listener_whose_owner_has_ended_answers_no_syn() {
    for group in [false, true] {
        let n = net();
        let shared = |at| {
            let l = n.socket(libc::AF_INET);
            l.setsockopt(libc::SOL_SOCKET, libc::SO_REUSEPORT, &1i32.to_ne_bytes()).unwrap();
            l.bind(at).unwrap();
            l.listen(20).unwrap();
            l
        };
        let dies = shared(SocketAddr::new(LO, 0));
        let at = dies.local_addr().unwrap();
        let program = Arc::new(Program::default());
        let sk = SockRef { stack: &n.stack, sock: dies.sock() };
        set_owner(sk, program.clone()).unwrap();
        let connects = || {
            let c = n.socket(libc::AF_INET);
            assert_eq!(c.connect(Some(at)), Err(Error::InProgress));
            n.run(Duration::from_millis(1));
            c
        };
        let _before = connects();
        assert!(dies.accept().is_ok(), "{group}");
        let lives = group.then(|| shared(at));
        program.0.store(true, Ordering::Relaxed);
        let refused = DropReason::NoSocket;
        let (drops, resets) = (n.stack.mib.drops(refused), n.mib(Mib::TcpOutRsts));
        let all: Vec<_> = (0..20).map(|_| connects()).collect();
        let (dropped, resets) = (n.stack.mib.drops(refused) - drops, n.mib(Mib::TcpOutRsts) - resets);
        let told = all.iter().filter(|c| c.connect(Some(at)) == Err(Error::ConnRefused)).count();
        let waiting = all.iter().filter(|c| c.connect(Some(at)) == Err(Error::Already)).count();
        assert_eq!(dies.accept().err(), Some(Error::Again));
        match lives {
            None => assert_eq!((told, dropped, resets), (20, 20, 20)),
            Some(lives) => {
                let accepted = (0..20).filter(|_| lives.accept().is_ok()).count();
                assert_eq!((waiting, told, dropped, resets, accepted), (0, 0, 0, 0, 20));
            }
        }
        // Its end is known now.
        dies.close();
    }
    let n = net();
    let s = n.socket(libc::AF_INET);
    let sk = SockRef { stack: &n.stack, sock: s.sock() };
    assert_eq!(set_owner(sk, Arc::new(Program::default())), Err(Error::Inval));
}

/// For SYNs that leave nothing behind, because cookies answer them or a queue is full, the owner is asked once in a
/// turn of softirq; for all others each time.
#[test]
fn the_owner_is_asked_once_in_a_turn_for_syns_that_are_not_remembered() {
    for (case, backlog, syncookies, max_syn_backlog, each_time) in [
        ("room", 50, "1", "64", true),
        ("room, no cookies", 50, "0", "64", true),
        ("cookies always", 50, "2", "64", false),
        ("full", 5, "1", "64", false),
        ("full, no cookies", 5, "0", "64", false),
        ("the last quarter, no cookies", 50, "0", "8", false),
        ("full of connections", 0, "1", "64", false),
    ] {
        let host = Host::new(backlog);
        let stack = &host.bench.stack;
        stack.sysctl.set("net.ipv4.tcp_syncookies", syncookies).unwrap();
        stack.sysctl.set("net.ipv4.tcp_max_syn_backlog", max_syn_backlog).unwrap();
        let program = Arc::new(Program::default());
        set_owner(SockRef { stack, sock: host.listener.sock() }, program.clone()).unwrap();
        if backlog == 0 {
            let reply = host.put(&Seg::new(4000, SYN, ISS, 0));
            host.put(&Seg::new(4000, ACK, ISS.wrapping_add(1), reply[0].seq.wrapping_add(1)));
        }
        let asked = |ports: std::ops::Range<u16>| {
            host.wait(Duration::from_millis(1));
            let before = program.1.load(Ordering::Relaxed);
            ports.for_each(|port| drop(host.put(&Seg::new(port, SYN, ISS, 0))));
            program.1.load(Ordering::Relaxed) - before
        };
        asked(5000..5010);
        assert_eq!(asked(5010..5020), if each_time { 10 } else { 1 }, "{case}");
        assert_eq!(asked(5020..5030), if each_time { 10 } else { 1 }, "{case}");
        program.0.store(true, Ordering::Relaxed);
        host.wait(Duration::from_millis(1));
        let reply = host.put(&Seg::new(5030, SYN, ISS, 0));
        assert_eq!(reply.iter().map(|out| out.flags).collect::<Vec<_>>(), [RST | ACK], "{case}");
    }
}
