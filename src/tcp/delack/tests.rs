use super::*;
use crate::tcp::peer_test::{ACK, Host, SYN_OPTIONS, Seg};
use crate::tcp::reassembly::tests::{data, receiver};
use crate::tcp::testing::Bench;
use crate::wire::tcp::TcpFlags;

#[test]
fn a_delayed_acknowledgement_leaves_after_its_timeout_unless_data_takes_it() {
    let b = Bench::established();
    let want_ack = |cx: &mut Cx<'_>| {
        cx.tp.rcv_nxt += 100;
        cx.tp.ack.ato_ms = ATO_MIN_MS;
        send_delayed_ack(cx);
    };
    b.with(want_ack);
    assert!(b.sent().is_empty());
    assert_eq!(b.step(), Some(40));
    assert_eq!(b.sent().iter().map(|o| o.ack).collect::<Vec<_>>(), [5_100]);
    assert_eq!(b.stack.mib.get(Mib::TcpExtDelayedACKs), 1);
    b.with(want_ack);
    b.send(&[1; 10], 0).unwrap();
    assert_eq!(b.sent().iter().map(|o| o.ack).collect::<Vec<_>>(), [5_200]);
    b.ack(10);
    b.advance(100);
    assert!(b.sent().is_empty());
    assert_eq!(b.stack.mib.get(Mib::TcpExtDelayedACKs), 1);
}

/// One that knows its peer's segments of 1000 bytes and whose window does not grow: nothing else calls for quick
/// acknowledgements.
fn settled_receiver() -> Bench {
    let b = receiver();
    b.with(|cx| {
        cx.tp.ack.rcv_mss = 1000;
        cx.tp.window_clamp = cx.tp.rcv_ssthresh;
    });
    b
}

/// The counter is of those that never left; the timer's own acknowledgement is not among them.
#[test]
fn compressed_acknowledgements_are_counted_and_one_leaves_for_all() {
    let b = settled_receiver();
    for i in 1..=8 {
        data(&b, i * 1000, (i + 1) * 1000, TcpFlags::NONE);
    }
    assert_eq!(b.sent().len(), 3);
    let slack = b.stack.sysctl.tcp_comp_sack_slack_ns();
    let before = b.clock_now();
    assert!(b.step().is_some());
    // No round trip was measured, so only the slack passes.
    assert_eq!(b.clock_now() - before, slack);
    let out = b.sent();
    assert_eq!((out.len(), out[0].options.as_str()), (1, "nop,nop,sack 6000:14000"));
    assert_eq!(b.stack.mib.get(Mib::TcpExtTCPAckCompressed), 4);
    // Data of our own carries the next, which is one less to send; the timer then finds nothing.
    data(&b, 9000, 10_000, TcpFlags::NONE);
    data(&b, 10_000, 11_000, TcpFlags::NONE);
    b.send(b"reply", 0).unwrap();
    let out = b.sent();
    assert_eq!((out.len(), out[0].options.as_str()), (1, "nop,nop,sack 6000:16000"));
    assert_eq!(b.stack.mib.get(Mib::TcpExtTCPAckCompressed), 6);
    b.advance(1);
    assert_eq!(b.sent().len(), 0);
}

/// As every timer: a system call that owns the sock is not interrupted, and does its work when it lets go.
#[test]
fn the_timer_of_compressed_acknowledgements_waits_for_the_owner() {
    let b = settled_receiver();
    for i in 1..=5 {
        data(&b, i * 1000, (i + 1) * 1000, TcpFlags::NONE);
    }
    assert_eq!(b.sent().len(), 3);
    let owner = b.sock.lock(&b.stack);
    b.advance(10);
    assert_eq!(b.sent().len(), 0);
    drop(owner);
    assert_eq!(b.sent().len(), 1);
    assert_eq!(b.stack.mib.get(Mib::TcpExtTCPAckCompressed), 1);
}

#[test]
fn a_delayed_acknowledgement_and_compressed_ones_leave_at_the_earlier_time() {
    for (delack_us, want_us) in [(40_000, 5_100), (1_000, 1_000)] {
        let b = settled_receiver();
        b.stack.sysctl.set("net.ipv4.tcp_comp_sack_delay_ns", "9000000").unwrap();
        // 100 ms, of which a twentieth is 5 ms.
        b.with(|cx| cx.tp.rcv_rtt_us = 100_000 << 3);
        for i in 1..=3 {
            data(&b, i * 1000, (i + 1) * 1000, TcpFlags::NONE);
        }
        let now = b.clock_now();
        b.with(|cx| {
            delay(cx, now + Duration::from_micros(delack_us));
        });
        data(&b, 4000, 5000, TcpFlags::NONE);
        assert_eq!(b.sent().len(), 3);
        b.step();
        assert_eq!((b.clock_now() - now, b.sent().len()), (Duration::from_micros(want_us), 1));
    }
}

/// The timer of a delayed acknowledgement fires while a system call owns the sock: it is sent at the end of the call.
#[test]
fn an_acknowledgement_that_a_system_call_delays_is_counted() {
    let h = Host::new(5);
    let c = h.connect(4000, SYN_OPTIONS);
    c.socket.setsockopt(libc::IPPROTO_TCP, libc::TCP_QUICKACK, &0i32.to_ne_bytes()).unwrap();
    let locked = || h.bench.stack.mib.get(Mib::TcpExtDelayedACKLocked);
    assert!(h.put(&Seg { data: vec![1; 10], ..c.seg(ACK) }).is_empty());
    {
        let _call = c.socket.sock().lock(c.socket.stack());
        assert_eq!((h.wait(Duration::from_secs(1)).len(), locked()), (0, 0));
    }
    assert_eq!((h.sent().len(), locked()), (1, 1));
}

/// Segments that a system call finds in its backlog are acknowledged once, unless `tcp_backlog_ack_defer` is off.
#[test]
fn the_backlog_of_a_system_call_draws_one_acknowledgement() {
    for (defer, want) in [("1", vec![4_000]), ("0", vec![1_000, 2_000, 3_000, 4_000])] {
        let h = Host::new(5);
        h.bench.stack.sysctl.set("net.ipv4.tcp_backlog_ack_defer", defer).unwrap();
        let mut c = h.connect(4000, SYN_OPTIONS);
        let start = c.seq;
        {
            let _call = c.socket.sock().lock(c.socket.stack());
            for i in 0..4 {
                // Options that differ: the segments are not joined.
                let options = vec![1; 4 * (i % 2)];
                assert!(h.put(&Seg { data: vec![1; 1_000], options, ..c.seg(ACK) }).is_empty());
                c.seq = c.seq.wrapping_add(1_000);
            }
        }
        let acks: Vec<u32> = h.sent().iter().map(|o| o.ack.wrapping_sub(start)).collect();
        assert_eq!(acks, want, "{defer}");
    }
}
