//! What Linux 6.18 does otherwise and later kernels as here (docs/limits.md, Faults of the kernel).

use crate::base::env::Duration;
use crate::ip::exception::update_pmtu;
use crate::sock::msg::SendMsg;
use crate::tcp::peer_test::{ACK, Host, ISS, SYN, SYN_OPTIONS, Seg, THERE, sack};
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
fn the_mss_of_a_syn_ack_is_that_of_the_device_also_where_a_router_told_less() {
    let h = Host::new(5);
    let now = h.bench.stack.now();
    assert_eq!(update_pmtu(&h.bench.stack, THERE.into(), 900, now), Some(900));
    let syn = Seg { options: SYN_OPTIONS.to_vec(), ..Seg::new(4000, SYN, ISS, 0) };
    let answer = h.bench.inject(&syn.bytes());
    let th = TcpHeader::parse(&answer[0][20..]).unwrap();
    assert_eq!(th.parse_options().mss, Some(1460));
    // What is sent keeps to the path.
    let ack = Seg::new(4000, ACK, ISS.wrapping_add(1), th.seq().0.wrapping_add(1));
    h.put(&ack);
    let (socket, _) = h.listener.accept().unwrap();
    socket.sendmsg(&mut SendMsg::new(&[IoSlice::new(&[7; 2000])], 0)).unwrap();
    let sent: Vec<_> = h.sent().iter().map(|o| o.len).collect();
    assert_eq!(sent, [860, 860, 280]);
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
