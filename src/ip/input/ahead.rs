//! Segments of a batch, each of which is handed to TCP two packets late. Among many connections a segment's sock is
//! not in the cache: the look-up misses the table's line, and TCP all of the sock's. While two other segments are
//! processed, both are fetched. A segment that has the batch to itself does not wait. Above: the protocols'
//! `IpHandler`s. Below: `run`. Linux has no counterpart.

use super::hand_up;
use crate::counters::DropReason;
use crate::sock::packet::PacketInfo;
use crate::sock::proto::IpHandler;
use crate::sock::skb::Skb;
use crate::stack::Stack;
use crate::wire::proto;
use std::sync::Arc;

/// A segment, with what IP says of it, and what its protocol has foreseen.
struct Waiting {
    skb: Skb,
    info: PacketInfo,
    foreseen: Option<u64>,
}

/// See the module's text.
#[derive(Default)]
pub(super) struct Ahead {
    /// The one whose sock is being fetched, and the one behind it, whose line of the table is.
    first: Option<Waiting>,
    second: Option<Waiting>,
}

impl Ahead {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.second.is_none()
    }

    /// Takes a segment without its IP header, and hands up the one two places before it.
    pub(super) fn hand_up(&mut self, stack: &Arc<Stack>, handler: &dyn IpHandler, skb: Skb, info: &PacketInfo) {
        let foreseen = handler.foresee(stack, &skb, info);
        if let Some(before) = &self.second {
            before.fetch(stack, handler);
        }
        let due = std::mem::replace(&mut self.first, self.second.take());
        self.second = Some(Waiting { skb, info: *info, foreseen });
        if let Some(due) = due {
            hand_up(stack, handler, due.skb, &due.info);
        }
    }

    /// Hands up those that are left.
    pub(super) fn end(&mut self, stack: &Arc<Stack>) {
        let (first, second) = (self.first.take(), self.second.take());
        let Some(handler) = stack.registry.handler(proto::TCP) else {
            // The protocol has been unregistered since they came.
            return first.into_iter().chain(second).for_each(|_| stack.mib.drop(DropReason::IpNoProto));
        };
        if let (Some(_), Some(last)) = (&first, &second) {
            last.fetch(stack, &**handler);
        }
        for due in first.into_iter().chain(second) {
            hand_up(stack, &**handler, due.skb, &due.info);
        }
    }
}

impl Waiting {
    fn fetch(&self, stack: &Arc<Stack>, handler: &dyn IpHandler) {
        if let Some(foreseen) = self.foreseen {
            handler.fetch(stack, foreseen);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::capture_test::Bench;
    use crate::sock::crowd;
    use crate::sock::packet::IcmpError;
    use crate::sys::lock::Mutex;
    use crate::wire::ip::{self, Ipv4Repr};

    /// In TCP's place; writes down what it is asked. A segment is a byte, its number; none is foreseen of an odd one.
    struct Asked(Arc<Mutex<Vec<String>>>);

    impl IpHandler for Asked {
        fn rcv(&self, _: &Arc<Stack>, skb: Skb, info: &PacketInfo) {
            self.0.lock().push(format!("rcv {} of {}", skb.linear()[0], info.src));
        }
        fn foresee(&self, _: &Arc<Stack>, skb: &Skb, _: &PacketInfo) -> Option<u64> {
            let n = skb.linear()[0];
            self.0.lock().push(format!("foresee {n}"));
            n.is_multiple_of(2).then_some(u64::from(n))
        }
        fn fetch(&self, _: &Arc<Stack>, foreseen: u64) {
            self.0.lock().push(format!("fetch {foreseen}"));
        }
        fn err(&self, _: &Arc<Stack>, _: &IcmpError<'_>) {}
    }

    /// What TCP is asked as a batch of these packets comes, of which each is a protocol and a number.
    fn asked(packets: &[(u8, u8)]) -> Vec<String> {
        let (b, log) = (Bench::on_ip(), Arc::new(Mutex::default()));
        b.stack.registry.unregister("TCP").unwrap();
        b.stack.registry.add_protocol(proto::TCP, Arc::new(Asked(log.clone()))).unwrap();
        for &(protocol, n) in packets {
            let repr = Ipv4Repr::new([10, 0, 0, 100 + n].into(), [10, 0, 0, 1].into(), protocol, 1);
            let mut packet = [n; ip::HEADER_LEN + 1];
            repr.emit(&mut packet);
            b.wire.feed(&packet);
        }
        b.poll();
        std::mem::take(&mut *log.lock())
    }

    #[test]
    fn among_many_socks_a_segment_is_received_two_behind_and_none_passes_another_packet() {
        let _many = crowd::pretend();
        const T: u8 = proto::TCP;
        let alone = ["foresee 2", "rcv 2 of 10.0.0.102"];
        assert_eq!(asked(&[(T, 2)]), alone);
        let four = [
            "foresee 2",
            "foresee 4",
            "fetch 2",
            "foresee 5",
            "fetch 4",
            "rcv 2 of 10.0.0.102",
            "foresee 6",
            "rcv 4 of 10.0.0.104",
            "fetch 6",
            "rcv 5 of 10.0.0.105",
            "rcv 6 of 10.0.0.106",
        ];
        assert_eq!(asked(&[(T, 2), (T, 4), (T, 5), (T, 6)]), four);
        // A packet of another protocol comes between.
        let (before, behind) = (["foresee 1", "rcv 1 of 10.0.0.101"], alone);
        assert_eq!(asked(&[(T, 1), (proto::UDP, 0), (T, 2)]), [before, behind].concat());
    }
}
