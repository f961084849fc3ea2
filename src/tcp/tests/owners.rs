//! A listener whose owner, a program of a stack server, ends without a call for it.

use super::*;
use crate::counters::DropReason;
use crate::sock::proto::SockRef;
use crate::tcp::listener::{Owner, set_owner};
use std::sync::atomic::{AtomicBool, Ordering};

#[derive(Debug, Default)]
struct Program(AtomicBool);

impl Owner for Program {
    fn lives(&self) -> bool {
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
