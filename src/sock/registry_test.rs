//! When a protocol may go: with its last user, neither before nor after.

use super::SockGuard;
use super::msg::{RecvMsg, SendMsg};
use super::proto::{Proto, SockRef};
use super::registry::{ProtoSwitch, RegisterError, Registry};
use super::skb::Skb;
use crate::base::error::{Error, Result};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

const NAME: &str = "GUEST";
const KEYS: [(i32, i32, i32); 2] = [(libc::AF_INET, libc::SOCK_DGRAM, 253), (libc::AF_INET6, libc::SOCK_DGRAM, 253)];

struct Guest;

impl Proto for Guest {
    fn name(&self) -> &str {
        NAME
    }
    fn init(&self, _: &mut SockGuard<'_>) -> Result<()> {
        Ok(())
    }
    fn close(&self, _: SockRef<'_>, _: i32) {}
    fn backlog_rcv(&self, _: &mut SockGuard<'_>, _: Skb) {}
    fn sendmsg(&self, _: SockRef<'_>, _: &mut SendMsg<'_>) -> Result<usize> {
        Err(Error::OpNotSupp)
    }
    fn recvmsg(&self, _: SockRef<'_>, _: &mut RecvMsg<'_, '_>) -> Result<usize> {
        Err(Error::OpNotSupp)
    }
}

/// Registers it for both families. The reference says when its code can go.
fn register(r: &Registry) -> Weak<dyn Proto> {
    let proto: Arc<dyn Proto> = Arc::new(Guest);
    let keys = KEYS.map(|(family, ty, protocol)| ProtoSwitch::new(family, ty, protocol, proto.clone()));
    r.register(&keys, None).unwrap();
    Arc::downgrade(&proto)
}

#[test]
fn users_are_counted_by_their_references_not_by_a_sum_over_processors() {
    let r = Registry::default();
    let proto = register(&r);
    let [a, b] = KEYS.map(|(family, ty, protocol)| r.find(family, ty, protocol).unwrap().0);
    let counted = &a.accounts().clone().sockets;
    // A sum that was read while socks came and went misses two, and has one too many.
    counted.add(-2);
    assert_eq!((counted.sum(), r.unregister(NAME)), (0, Err(RegisterError::InUse(2))));
    counted.add(2);
    let c = b.clone();
    drop((a, b));
    assert_eq!(r.unregister(NAME), Err(RegisterError::InUse(1)));
    drop(c);
    counted.add(1);
    assert_eq!((counted.sum(), r.unregister(NAME)), (1, Ok(())));
    assert_eq!((proto.strong_count(), r.unregister(NAME)), (0, Err(RegisterError::Unknown)));
    assert!(r.find(libc::AF_INET, libc::SOCK_DGRAM, 253).is_err());
}

#[test]
fn nobody_has_a_protocol_any_more_when_it_is_unregistered_among_threads_that_find_it() {
    const THREADS: usize = 3;
    const TURNS: usize = if cfg!(miri) { 5 } else { 500 };
    let (r, over) = (Registry::default(), AtomicBool::new(false));
    std::thread::scope(|s| {
        for (family, ty, protocol) in KEYS.into_iter().cycle().take(THREADS) {
            let (r, over) = (&r, &over);
            s.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    match r.find(family, ty, protocol) {
                        Ok((used, _)) => assert_eq!(used.clone().proto().name(), NAME),
                        Err(_) => std::thread::yield_now(),
                    }
                }
            });
        }
        for _ in 0..TURNS {
            let proto = register(&r);
            while let Err(e) = r.unregister(NAME) {
                assert!(matches!(e, RegisterError::InUse(1..=6)), "{e}");
                std::thread::yield_now();
            }
            assert_eq!(proto.strong_count(), 0);
        }
        over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn the_default_of_a_family_and_type_is_found_by_zero_and_is_no_user() {
    let r = Registry::default();
    let proto: Arc<dyn Proto> = Arc::new(Guest);
    let [(inet, ty, number), (inet6, ..)] = KEYS;
    let key = |family, number| ProtoSwitch { default: true, ..ProtoSwitch::new(family, ty, number, proto.clone()) };
    r.register(&[key(inet, number), key(inet6, 0)], None).unwrap();
    let (used, found) = r.find(inet, ty, 0).unwrap();
    assert_eq!((found, r.unregister(NAME)), (number, Err(RegisterError::InUse(1))));
    // A protocol of number 0 is for any number but 0.
    assert_eq!(r.find(inet6, ty, 0).map(|found| found.1), Err(Error::ProtoNoSupport));
    assert_eq!(r.find(inet6, ty, 9).map(|found| found.1), Ok(9));
    drop(used);
    let (weak, unregistered) = (Arc::downgrade(&proto), r.unregister(NAME));
    drop(proto);
    assert_eq!((unregistered, weak.strong_count()), (Ok(()), 0));
    assert!(r.find(inet, ty, 0).is_err());
}
