use super::*;
use crate::tcp::peer_test::{ACK, Host, PSH, SYN_OPTIONS, Seg};

/// Data that is in order takes the fast path with an acknowledgement that others have overtaken; one that the peer
/// cannot have sent is challenged, and the data dropped.
#[test]
fn in_order_data_with_an_older_acknowledgement_takes_the_fast_path() {
    let h = Host::new(5);
    let mut c = h.connect(4000, SYN_OPTIONS);
    let start = c.ack;
    // The first data in each direction: memory is charged, and the window of an acknowledgement has room behind it.
    h.put(&Seg { data: vec![1; 100], ..c.seg(ACK | PSH) });
    c.seq = c.seq.wrapping_add(100);
    assert_eq!(c.send(1000), Ok(1000));
    h.sent();
    c.ack = c.ack.wrapping_add(1000);
    h.put(&c.seg(ACK));
    let hits = || h.bench.stack.mib.get(Mib::TcpExtTCPHPHits);
    for (case, ack, taken) in [
        ("the latest", c.ack, true),
        ("an older one", start, true),
        ("older than what was acknowledged", start.wrapping_sub(1), false),
    ] {
        let before = (c.tcb(|tp| tp.bytes_received), hits());
        h.put(&Seg { data: vec![2; 100], ack, ..c.seg(ACK | PSH) });
        let got = (c.tcb(|tp| tp.bytes_received) - before.0, hits() - before.1);
        assert_eq!(got, if taken { (100, 1) } else { (0, 0) }, "{case}");
        c.seq = c.seq.wrapping_add(if taken { 100 } else { 0 });
    }
    assert_eq!(h.bench.stack.mib.get(Mib::TcpExtTCPChallengeACK), 1);
}
