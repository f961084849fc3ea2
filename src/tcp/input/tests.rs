use super::*;
use crate::sock::msg::RecvMsg;
use crate::tcp::peer_test::{ACK, FIN, Host, PSH, SYN_OPTIONS, Seg};

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

/// As the kernel counts it: a segment with data that acknowledges new data is predicted and counts for both.
#[test]
fn data_that_acknowledges_new_data_counts_as_predicted_data_and_as_a_predicted_acknowledgement() {
    let h = Host::new(5);
    let mut c = h.connect(4000, SYN_OPTIONS);
    h.put(&Seg { data: vec![1; 100], ..c.seg(ACK | PSH) });
    c.seq = c.seq.wrapping_add(100);
    let of = |mib| h.bench.stack.mib.get(mib);
    let counts = || [Mib::TcpExtTCPHPHits, Mib::TcpExtTCPHPAcks, Mib::TcpExtTCPPureAcks].map(of);
    for (data, acked, want) in [(100, 1000, [1, 1, 0]), (0, 1000, [0, 1, 0]), (100, 0, [1, 0, 0])] {
        if acked > 0 {
            assert_eq!(c.send(acked), Ok(acked));
            h.sent();
            c.ack = c.ack.wrapping_add(acked as u32);
        }
        let before = counts();
        h.put(&Seg { data: vec![2; data], ..c.seg(ACK | PSH) });
        c.seq = c.seq.wrapping_add(data as u32);
        let after = counts();
        assert_eq!([0, 1, 2].map(|i| after[i] - before[i]), want, "{data} bytes, {acked} acknowledged");
    }
}

/// Segments that meet a system call wait as one where each goes on where the last ended and has the same options: their
/// bytes and the last window arrive, and each counts.
#[test]
fn segments_that_follow_each_other_are_joined_in_the_backlog() {
    let h = Host::new(5);
    let c = h.connect(4000, SYN_OPTIONS);
    let joined = || h.bench.stack.mib.get(Mib::TcpExtTCPBacklogCoalesce);
    let segs_in = c.tcb(|tp| tp.segs_in);
    let call = c.socket.sock().lock(c.socket.stack());
    for (case, offset, len, flags, options, want) in [
        ("the first waits", 0, 100, ACK, &[][..], 0),
        ("the next", 100, 200, ACK | PSH, &[], 1),
        ("a window", 300, 0, ACK, &[], 1),
        ("other options", 300, 50, ACK, &[1, 1, 1, 1], 0),
        ("the next of that kind", 350, 60, ACK, &[1, 1, 1, 1], 1),
        ("behind a hole", 411, 10, ACK, &[1, 1, 1, 1], 0),
        ("into the hole", 410, 1, ACK, &[1, 1, 1, 1], 0),
        ("the end", 421, 0, ACK | FIN, &[1, 1, 1, 1], 0),
        ("behind the end", 422, 0, ACK, &[1, 1, 1, 1], 0),
    ] {
        let before = joined();
        let seq = c.seq.wrapping_add(offset);
        let window = 2_000 + offset as u16;
        h.put(&Seg { seq, data: vec![len; usize::from(len)], options: options.into(), window, ..c.seg(flags) });
        assert_eq!(joined() - before, want, "{case}");
    }
    drop(call);
    h.sent();
    let shown = c.tcb(|tp| (tp.segs_in - segs_in, tp.bytes_received, tp.snd_wnd));
    assert_eq!(shown, (9, 422, 2_422 << 7));
    assert_eq!(c.state(), State::CloseWait);
    let mut data = vec![0; 500];
    let mut slices = [std::io::IoSliceMut::new(&mut data)];
    assert_eq!(c.socket.recvmsg(&mut RecvMsg::new(&mut slices, libc::MSG_DONTWAIT)), Ok(421));
    let want: Vec<u8> = [100u8, 200, 50, 60, 1, 10].iter().flat_map(|n| vec![*n; usize::from(*n)]).collect();
    assert_eq!(data[..421], want);
}
