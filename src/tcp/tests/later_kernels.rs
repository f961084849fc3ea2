//! What Linux 6.18 does otherwise and later kernels as here (docs/limits.md, Faults of the kernel).

use crate::base::env::Duration;
use crate::sock::msg::SendMsg;
use crate::tcp::peer_test::{ACK, Host, ISS, SYN, SYN_OPTIONS, Seg, sack};
use crate::wire::tcp::TcpHeader;
use std::io::IoSlice;

#[test]
fn a_syn_ack_is_sent_again_after_the_longest_timeout_at_most() {
    let h = Host::new(5);
    h.bench.stack.sysctl.set("net.ipv4.tcp_rto_max_ms", "1000").unwrap();
    h.put(&Seg::new(4000, SYN, ISS, 0));
    let sent: Vec<_> = (0..4).map(|_| h.wait(Duration::from_secs(1)).len()).collect();
    assert_eq!(sent, [1; 4]);
}

#[test]
fn each_resent_segment_has_its_own_distance_to_the_urgent_byte() {
    let h = Host::new(5);
    let c = h.connect(4000, SYN_OPTIONS);
    h.put(&Seg { window: 500, ..c.seg(ACK) });
    c.send(5 * 1460).unwrap();
    c.socket.sendmsg(&mut SendMsg::new(&[IoSlice::new(&[9])], libc::MSG_OOB)).unwrap();
    h.sent();
    let (hole, end) = (c.ack.wrapping_add(2 * 1460), c.ack.wrapping_add(5 * 1460 + 1));
    h.wait(Duration::from_millis(10));
    let sacked = Seg { window: 500, options: sack(&[(hole, end)]), ..c.seg(ACK) };
    let mut packets = h.bench.inject(&sacked.bytes());
    packets.extend(h.bench.advance(Duration::from_millis(20)));
    let urgent: Vec<_> = packets
        .iter()
        .map(|p| TcpHeader::parse(&p[20..]).unwrap())
        .map(|th| (th.seq().0.wrapping_sub(c.ack), th.payload().len(), u32::from(th.urgent())))
        .collect();
    assert_eq!(urgent, [(0, 1460, 5 * 1460 + 1), (1460, 1460, 4 * 1460 + 1)]);
}
