//! Who drops the last reference to an orphan, its protocol gets it once.

use super::msg::{RecvMsg, SendMsg};
use super::proto::{Proto, SockRef};
use super::registry::ProtoSwitch;
use super::skb::{Skb, TxOwner};
use super::{Sock, SockGuard};
use crate::base::env::Instant;
use crate::base::error::Result;
use crate::inet::Socket;
use crate::sim::World;
use crate::stack::{Stack, TimerCall};
use crate::sys::lock::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

const TYPE: i32 = libc::SOCK_DGRAM;
const NUMBER: i32 = 254;

/// Its sock is in a table of the protocol's until the peer has answered.
#[derive(Default)]
struct Lasting {
    ended: AtomicU32,
}

/// The answer, which takes the sock out of the table.
struct Answer(Mutex<Option<Arc<Sock>>>);

impl TimerCall for Answer {
    fn fire(self: Arc<Self>, stack: &Arc<Stack>, _: Instant) {
        let sock = self.0.lock().take();
        sock.into_iter().for_each(|sock| sock.put(stack));
    }
}

impl Proto for Lasting {
    fn name(&self) -> &str {
        "LASTING"
    }
    fn init(&self, _: &mut SockGuard<'_>) -> Result<()> {
        Ok(())
    }
    fn close(&self, sk: SockRef<'_>, _: i32) {
        sk.sock.orphan(sk.stack);
        sk.stack.schedule(Arc::new(Answer(Mutex::new(Some(sk.sock.clone())))));
    }
    fn destruct(&self, _: &mut SockGuard<'_>) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }
    fn backlog_rcv(&self, _: &mut SockGuard<'_>, _: Skb) {}
    fn sendmsg(&self, _: SockRef<'_>, _: &mut SendMsg<'_>) -> Result<usize> {
        Ok(0)
    }
    fn recvmsg(&self, _: SockRef<'_>, _: &mut RecvMsg<'_, '_>) -> Result<usize> {
        Ok(0)
    }
}

#[test]
fn an_orphan_ends_with_its_last_reference_whoever_has_that() {
    let world = World::new(1);
    let stack = world.stack().unwrap();
    let proto = Arc::new(Lasting::default());
    let key = ProtoSwitch { family: libc::AF_INET, ty: TYPE, protocol: NUMBER, default: false, proto: proto.clone() };
    stack.registry.register(&[key], None).unwrap();
    let open = || Socket::new(&stack, libc::AF_INET, TYPE, NUMBER).unwrap();
    let ended = || proto.ended.swap(0, Ordering::Relaxed);

    // The program's: the answer has come before close(2) returns.
    drop(open());
    assert_eq!(ended(), 1, "Socket");

    // That of calls for a protocol: a softirq later.
    let s = open();
    let calls = Socket::of_stack(&stack, s.sock().clone());
    drop(s);
    assert_eq!(ended(), 0);
    drop(calls);
    assert_eq!(ended(), 0, "any lock may be held");
    stack.run_pending();
    assert_eq!(ended(), 1, "Socket::of_stack");

    // A packet's.
    let s = open();
    let owner = TxOwner::new(s.sock(), 100);
    drop(s);
    drop(owner);
    assert_eq!(ended(), 0, "any lock may be held");
    stack.run_pending();
    assert_eq!(ended(), 1, "TxOwner");

    // That of the list of throttled senders.
    let s = open();
    let held = s.sock().clone();
    drop(s);
    assert_eq!(ended(), 0);
    stack.tsq_push(held);
    stack.run_pending();
    assert_eq!(ended(), 1, "run_tsq");
    stack.registry.unregister("LASTING").unwrap();
}
