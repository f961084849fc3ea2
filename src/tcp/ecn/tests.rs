use super::ace::{self, flags_of};
use super::negotiation::{cookie_request, third_ack};
use super::option::{self, ECT_0, ECT_1, first};
use super::{Counters, EcnMode, EcnState, OptSeen, fail};
use crate::counters::Mib;
use crate::inet::Socket;
use crate::sock::skb::Skb;
use crate::tcp::peer_test::{ACK, Host, ISS, SYN, SYN_OPTIONS, Seg, THERE};
use crate::tcp::tcb::TcpSock;
use crate::tcp::testing::Bench;
use crate::wire::seq::{RawWindow, SeqNum};
use crate::wire::tcp::{TcpFlags, TcpHeader, TcpRepr};
use crate::wire::tcp_options::{AccEcn, EstablishedOptions, TcpOptions};
use std::net::SocketAddr;

const NOT: u8 = 0;
const E1: u8 = 1;
const E0: u8 = 2;
const CE: u8 = 3;

/// A segment with this ACE field and codepoint.
fn with_ace(seg: Seg, ace: u8, codepoint: u8) -> Seg {
    Seg { flags: seg.flags | ace << 6, ae: ace & 4 != 0, tos: codepoint, ..seg }
}

/// ACE field and codepoint of a packet.
fn ace_of(packet: &[u8]) -> (u8, u8) {
    (ace::of(TcpHeader::parse(&packet[20..]).unwrap().flags()), packet[1] & 3)
}

fn option_of(packet: &[u8]) -> Option<AccEcn> {
    let options = TcpHeader::parse(&packet[20..]).unwrap().option_bytes().to_vec();
    TcpOptions::parse(&options).accecn(&options)
}

/// RFC 9768 Table 2 and §3.1.2, RFC 3168 §6.1.1: what a listener answers to each combination of flags and codepoint of
/// a SYN, at each tcp_ecn, and what the connection then uses.
#[test]
fn a_listener_answers_each_syn_by_what_it_is_willing_to_do() {
    use EcnMode::{Accurate, Off, Rfc3168};
    for (sysctl, syn, codepoint, answer, mode) in [
        (3, 7, NOT, 2, Accurate),
        (3, 7, E1, 3, Accurate),
        (3, 7, E0, 4, Accurate),
        (3, 7, CE, 6, Accurate),
        (4, 7, NOT, 2, Accurate),
        (5, 7, NOT, 2, Accurate),
        // Combinations that nothing uses yet.
        (3, 1, NOT, 2, Accurate),
        (3, 2, NOT, 2, Accurate),
        (3, 4, E0, 4, Accurate),
        (3, 5, NOT, 2, Accurate),
        (3, 6, NOT, 2, Accurate),
        // Plain ECN, and none.
        (3, 3, NOT, 1, Rfc3168),
        (5, 3, NOT, 1, Rfc3168),
        (3, 3, E0, 0, Off),
        (3, 0, NOT, 0, Off),
        (3, 0, E0, 0, Off),
        // Without accurate ECN the SYN that asks for it asks for plain ECN.
        (1, 7, NOT, 1, Rfc3168),
        (2, 7, NOT, 1, Rfc3168),
        (2, 7, E0, 1, Rfc3168),
        (2, 3, NOT, 1, Rfc3168),
        (2, 3, CE, 0, Off),
        (2, 4, NOT, 0, Off),
        (0, 7, NOT, 0, Off),
        (0, 3, NOT, 0, Off),
    ] {
        let h = Host::new(8);
        h.bench.stack.sysctl.set("net.ipv4.tcp_ecn", &sysctl.to_string()).unwrap();
        let first = Seg { options: SYN_OPTIONS.to_vec(), ..Seg::new(4000, SYN, ISS, 0) };
        let out = h.bench.inject(&with_ace(first, syn, codepoint).bytes());
        let case = format!("tcp_ecn {sysctl}, SYN {syn} {codepoint}");
        assert_eq!(ace_of(&out[0]), (answer, NOT), "{case}");
        assert_eq!(option_of(&out[0]).is_some(), mode == Accurate, "{case}");
        let ack = TcpHeader::parse(&out[0][20..]).unwrap().seq().0.wrapping_add(1);
        h.put(&with_ace(Seg::new(4000, ACK, ISS + 1, ack), if mode == Accurate { 2 } else { 0 }, NOT));
        let (socket, _) = h.listener.accept().unwrap();
        let g = socket.sock().lock(&h.bench.stack);
        let tp = g.private.downcast_ref::<TcpSock>().unwrap();
        assert_eq!((tp.ecn.mode, tp.ecn_counters().fail), (mode, 0), "{case}");
    }
}

/// RFC 9768 Table 2: what our SYN asks for, and what each answer makes of it.
#[test]
fn a_client_takes_each_answer_as_table_2_says() {
    use EcnMode::{Accurate, Off, Rfc3168};
    for (sysctl, asks, answers) in [
        (0, 0, [Off; 8]),
        (2, 0, [Off; 8]),
        (5, 0, [Off; 8]),
        (1, 3, [Off, Rfc3168, Accurate, Accurate, Accurate, Rfc3168, Accurate, Off]),
        (4, 3, [Off, Rfc3168, Accurate, Accurate, Accurate, Rfc3168, Accurate, Off]),
        (3, 7, [Off, Rfc3168, Accurate, Accurate, Accurate, Accurate, Accurate, Off]),
    ] {
        for (ace, want) in answers.into_iter().enumerate() {
            let bench = crate::device::capture_test::Bench::on_ip();
            bench.stack.sysctl.set("net.ipv4.tcp_ecn", &sysctl.to_string()).unwrap();
            let socket = Socket::new(&bench.stack, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
            socket.set_nonblocking(true);
            let _ = socket.connect(Some(SocketAddr::new(THERE.into(), 5000)));
            let syn = bench.poll();
            assert_eq!(ace_of(&syn[0]), (asks, NOT), "tcp_ecn {sysctl}");
            assert_eq!(option_of(&syn[0]), None, "a SYN has no option");
            let th = TcpHeader::parse(&syn[0][20..]).unwrap();
            let mut answer = Seg::new(5000, SYN | ACK, 77, th.seq().0.wrapping_add(1));
            (answer.dport, answer.options) = (th.src_port(), SYN_OPTIONS.to_vec());
            let out = bench.inject(&with_ace(answer, ace as u8, E0).bytes());
            let case = format!("tcp_ecn {sysctl}, answer {ace}");
            let g = socket.sock().lock(&bench.stack);
            let tp = g.private.downcast_ref::<TcpSock>().unwrap();
            assert_eq!(tp.ecn.mode, want, "{case}");
            // The last acknowledgement tells the codepoint of the SYN-ACK, ECT(0).
            let reflected = if want == Accurate { (4, E0) } else { (0, NOT) };
            assert_eq!(ace_of(&out[0]), reflected, "{case}");
        }
    }
}

/// RFC 9768 Table 3 and §3.2.2.3: what the field of the handshake's last acknowledgement makes of a server that sent
/// its SYN-ACK with a codepoint.
#[test]
fn the_last_acknowledgement_is_checked_against_what_was_sent() {
    for (sent, ace, bare, fallback, fails, ce) in [
        (NOT, 2, true, true, 0, 0),
        (NOT, 4, true, true, fail::ACE_RECV, 0),
        (NOT, 6, true, true, fail::ACE_RECV, 0),
        (NOT, 3, true, true, fail::ACE_RECV, 0),
        (E0, 4, true, true, 0, 0),
        (E0, 3, true, true, 0, 0),
        (E0, 6, true, true, 0, 1),
        (E0, 2, true, true, fail::ACE_RECV, 0),
        (CE, 4, true, true, fail::ACE_RECV, 0),
        // Of a segment with data the field may be a counter.
        (NOT, 6, false, true, 0, 0),
        // Cleared, and values that are unused.
        (NOT, 0, true, true, fail::ACE_RECV | fail::OPT_RECV, 0),
        (NOT, 0, true, false, fail::ACE_RECV | fail::OPT_RECV, 0),
        (NOT, 0, false, true, fail::ACE_RECV, 0),
        (NOT, 1, true, true, 0, 0),
        (NOT, 5, true, true, 0, 0),
        (NOT, 7, true, true, 0, 0),
        // tcp_ecn_fallback 0 believes everything.
        (NOT, 6, true, false, 0, 1),
    ] {
        let b = Bench::established();
        b.stack.sysctl.set("net.ipv4.tcp_ecn_fallback", if fallback { "1" } else { "0" }).unwrap();
        b.with(|cx| {
            cx.tp.begin_ecn(EcnMode::Accurate);
            cx.tp.ecn_counters_mut().syn_ect_snt = sent;
            third_ack(cx, flags_of(ace), bare);
            let case = format!("sent {sent}, field {ace}");
            assert_eq!((cx.tp.ecn_counters().fail, cx.tp.delivered_ce), (fails, ce), "{case}");
            // Without feedback nothing is sent as ECN-capable.
            let mut flags = TcpFlags::ACK;
            let codepoint = super::send(cx, SeqNum(0), 0, &mut flags);
            assert_eq!((codepoint, ace::of(flags)), (if fails == 0 { E0 } else { NOT }, 5), "{case}");
        });
    }
}

#[test]
fn an_acknowledgement_with_a_cookie_is_of_accurate_ecn_by_its_field() {
    for (agreed, ace, want) in [
        (false, 2, EcnMode::Off),
        (true, 0, EcnMode::Rfc3168),
        (true, 1, EcnMode::Rfc3168),
        (true, 2, EcnMode::Accurate),
        (true, 7, EcnMode::Accurate),
    ] {
        let b = Bench::established();
        b.with(|cx| {
            let by = super::Opening::of(&Skb::new(), &TcpOptions::default());
            super::openreq_child(cx, &cookie_request(agreed, flags_of(ace)), &by);
            assert_eq!(cx.tp.ecn.mode, want, "{agreed} {ace}");
        });
    }
}

/// RFC 9768 §3.2.3.2.4: the first option of a path that clears counters has 0 where a count begins with 1.
#[test]
fn the_first_option_tells_whether_the_path_clears_counters() {
    for (len, fields, want) in [
        (0, [0, 0, 0], OptSeen::Empty),
        (1, [1, 0, 0], OptSeen::Counter),
        (1, [0, 0, 0], OptSeen::Fail),
        (2, [1, 0, 0], OptSeen::Counter),
        (3, [1, 0, 1], OptSeen::Counter),
        (3, [1, 0, 0], OptSeen::Fail),
        (3, [0, 5, 1], OptSeen::Fail),
    ] {
        assert_eq!(first(&AccEcn { order1: true, len, fields }), want, "{len} {fields:?}");
    }
}

/// The option has as many counters as fit, at least those that have changed; SACK blocks beyond two yield to those.
#[test]
fn an_option_fits_into_what_the_others_leave() {
    for (timestamps, blocks, required, len, blocks_left) in [
        (false, 0, 0, Some(3), 0),
        (true, 0, 0, Some(3), 0),
        (true, 1, 0, Some(3), 1),
        // 12 + 20 bytes: 8 are left for two counters.
        (true, 2, 0, Some(2), 2),
        (true, 2, 2, Some(2), 2),
        (true, 2, 3, None, 2),
        // 12 + 28: the NOPs before the blocks are left for an empty one.
        (true, 3, 0, Some(0), 3),
        (true, 3, 1, Some(2), 2),
        (true, 3, 3, None, 3),
        (false, 4, 0, Some(1), 4),
        (false, 4, 1, Some(1), 4),
        (false, 4, 2, Some(3), 3),
        (false, 4, 3, Some(3), 3),
        (false, 3, 3, Some(3), 3),
    ] {
        let sack = (0..blocks).map(|n| (SeqNum(n * 10), SeqNum(n * 10 + 5))).collect();
        let timestamps = timestamps.then_some((1, 2));
        let mut o = EstablishedOptions { timestamps, sack, ..Default::default() };
        option::fit(&mut o, [1, 2, 3], required);
        let case = format!("{timestamps:?}, {blocks} blocks, {required}");
        assert_eq!((o.accecn.map(|a| a.len), o.sack.len()), (len, blocks_left), "{case}");
        assert!(o.len() <= 40 && o.len().is_multiple_of(4), "{case}");
        let mut b = [0; 40];
        assert_eq!(o.emit(&mut b), o.len(), "{case}");
    }
}

/// A segment of the peer of [`Bench`].
fn arrives(b: &Bench, acked: u32, ace: u8, codepoint: u8, options: &[u8], len: usize) {
    b.with(|cx| {
        let (seq, una) = (cx.tp.rcv_nxt, SeqNum(crate::tcp::testing::ISS));
        let repr = TcpRepr {
            src_port: 2000,
            dst_port: 1000,
            seq,
            ack: una + acked,
            flags: TcpFlags::ACK | flags_of(ace),
            window: RawWindow(60_000),
            urgent: 0,
            options_len: options.len(),
        };
        let mut bytes = vec![0; 20 + options.len() + len];
        repr.emit(&mut bytes);
        bytes[20..20 + options.len()].copy_from_slice(options);
        let mut skb = Skb::from_slice(&bytes);
        crate::tcp::rcv::fill_cb(&mut skb, codepoint, 64, cx.now).unwrap();
        cx.now = cx.stack.now();
        crate::tcp::input::rcv_established(cx, skb);
    });
}

fn accurate() -> Bench {
    let b = Bench::established();
    b.with(|cx| {
        cx.tp.begin_ecn(EcnMode::Accurate);
        cx.tp.snd_cwnd = 100;
        cx.tp.snd_wnd = 60_000;
    });
    b
}

/// RFC 9768 §3.2.2.5 and Appendix A.2: how many marks an acknowledgement of so many segments reports, after ones of one
/// segment.
#[test]
fn a_counter_that_may_have_wrapped_is_judged_by_segments_and_bytes() {
    // Segments acknowledged, marked segments before, field, marked bytes of the option, marks reported.
    for (segs, before, field, marked, want) in [
        (1, 0, 5, None, 0),
        (1, 0, 6, None, 1),
        (7, 0, 4, None, 7),
        (2, 7, 6, None, 2),
        // Eight and more may be a round of the counter.
        (8, 0, 5, None, 8),
        (8, 0, 6, None, 1),
        (9, 0, 6, None, 9),
        (20, 0, 5, None, 16),
        (20, 0, 1, None, 20),
        // The option says that nothing, or little, was marked, or all of it.
        (9, 0, 6, Some(0), 1),
        (9, 0, 6, Some(1460), 1),
        (9, 0, 6, Some(9 * 1460), 9),
        (20, 0, 5, Some(0), 0),
        (20, 0, 1, Some(4 * 1460), 4),
        (20, 0, 1, Some(12 * 1460), 12),
        (20, 0, 1, Some(20 * 1460), 20),
    ] {
        let b = accurate();
        let bytes = segs * 1460;
        b.send(&vec![7; bytes as usize], 0).unwrap();
        b.with(|cx| {
            cx.tp.cold_mut().delivered_ce = before;
            let c = cx.tp.ecn_counters_mut();
            (c.saw_opt, c.est_ecnfield, c.pkts_acked_ewma) = (OptSeen::Counter, E0, 1 << 6);
        });
        let option = marked.map_or(vec![], |ce: u32| {
            let e0 = 1 + bytes - ce;
            let mut o = vec![172, 8];
            o.extend(&e0.to_be_bytes()[1..]);
            o.extend(&ce.to_be_bytes()[1..]);
            o
        });
        if marked.is_none() {
            b.with(|cx| cx.tp.ecn_counters_mut().est_ecnfield = 0);
        }
        arrives(&b, bytes, field, E0, &option, 0);
        let case = format!("{segs} segments, field {field}, marked {marked:?}");
        b.with(|cx| {
            assert_eq!(cx.tp.snd_una, SeqNum(crate::tcp::testing::ISS) + bytes, "{case}");
            assert_eq!(cx.tp.delivered_ce - before, want, "{case}");
            assert_eq!(cx.stack.mib.get(Mib::TcpExtTCPDeliveredCE), u64::from(want), "{case}");
        });
    }
}

/// The mean of segments that an acknowledgement delivers begins with the first one and moves by a 64th.
#[test]
fn the_mean_of_segments_acknowledged_follows_slowly() {
    let mut c = Counters::NONE;
    for (pkts, want) in [
        (0, 0),
        (10, 640),
        (0, 640),
        // Floors: (63 * 640 + 64 * 1) / 64, and so on.
        (1, 631),
        (1, 622),
        (20, 632),
        (u32::MAX, u16::MAX),
    ] {
        c.count_acked(pkts);
        assert_eq!(c.pkts_acked_ewma, want, "{pkts}");
    }
    // Two hundred short ones make long ones unusual.
    let mut c = Counters::NONE;
    c.count_acked(16);
    for _ in 0..200 {
        c.count_acked(2);
    }
    assert!(c.pkts_acked_ewma < 4 << 6, "{}", c.pkts_acked_ewma);
}

/// Counters of 24 bits go round, and go back where they were estimated too high.
#[test]
fn counters_of_an_option_move_by_the_shorter_way() {
    let b = accurate();
    for (order1, fields, want, estimate) in [
        (true, [1, 0, 2001], [0, 2000, 0], E0),
        (true, [1, 0, 4001], [0, 4000, 0], E0),
        // Two have changed: it is not known which will go on.
        (true, [1001, 0, 5001], [1000, 5000, 0], E1),
        (true, [1001, 500, 6001], [1000, 6000, 500], NOT),
        (false, [7001, 500, 1001], [1000, 7000, 500], E0),
        // A step back.
        (true, [1001, 500, 6501], [1000, 6500, 500], NOT),
        // Half way round.
        (true, [1001, 500, 8_000_001], [1000, 8_000_000, 500], E0),
        (true, [1001, 500, 16_000_001], [1000, 16_000_000, 500], E0),
        (true, [1001, 500, 0x00_0001], [1000, 0x100_0000, 500], E0),
    ] {
        b.send(&[7; 10], 0).unwrap();
        let mut o = vec![if order1 { 174 } else { 172 }, 11];
        for f in fields {
            o.extend(&u32::to_be_bytes(f)[1..]);
        }
        o.push(1);
        let acked = b.with(|cx| cx.tp.snd_nxt.since(SeqNum(crate::tcp::testing::ISS)));
        arrives(&b, acked, 5, E0, &o, 0);
        b.with(|cx| {
            let c = *cx.tp.ecn_counters();
            assert_eq!((c.delivered_bytes, c.est_ecnfield), (want, estimate), "{fields:?}");
            assert_eq!(c.saw_opt, OptSeen::Counter);
        });
    }
    assert_eq!((ECT_1, ECT_0), (0, 1));
}

/// An acknowledgement with the expected field is predicted; one that reports a mark is not, and the next ones are
/// again.
#[test]
fn header_prediction_expects_the_field() {
    let b = accurate();
    b.send(&[7; 6 * 1460], 0).unwrap();
    b.with(|cx| {
        cx.tp.snd_wl1 = cx.tp.rcv_nxt;
        cx.tp.snd_wnd = 60_000 << cx.tp.rx_opt.snd_wscale.get();
        crate::tcp::input::fast_path_on(cx);
    });
    let predicted = |n: u32, field| {
        let before = b.stack.mib.get(Mib::TcpExtTCPHPAcks);
        arrives(&b, n * 1460, field, NOT, &[], 0);
        b.stack.mib.get(Mib::TcpExtTCPHPAcks) - before
    };
    assert_eq!(predicted(1, 5), 1);
    assert_eq!(predicted(2, 6), 0);
    assert_eq!(predicted(3, 6), 1);
    assert_eq!(predicted(4, 7), 0);
    assert_eq!(b.with(|cx| cx.tp.delivered_ce), 2);
}

/// An algorithm sees the echo with each acknowledgement that reports a mark, and how many (DCTCP).
#[test]
fn an_algorithm_is_told_of_each_mark() {
    let b = accurate();
    b.with(|cx| crate::tcp::cong::set_congestion_control(cx, "dctcp").unwrap());
    b.send(&[7; 4 * 1460], 0).unwrap();
    arrives(&b, 2 * 1460, 7, NOT, &[], 0);
    b.with(|cx| {
        assert_eq!((cx.tp.delivered_ce, cx.tp.ca_state), (2, crate::tcp::tcb::CaState::Cwr));
        assert_eq!(cx.tp.ca.ops.name(), "dctcp");
    });
}

/// A change of the codepoint, and each mark, is told in two options; 2^22 bytes of one codepoint in one.
#[test]
fn options_are_due_after_changes_and_many_bytes() {
    let b = accurate();
    b.stack.sysctl.set("net.ipv4.tcp_ecn_option", "1").unwrap();
    b.stack.sysctl.set("net.ipv4.tcp_ecn_option_beacon", "0").unwrap();
    let demand = |codepoint, len| {
        b.with(|cx| {
            cx.tp.ecn_counters_mut().opt_demand = 0;
            ace::count(cx, codepoint, 1, len);
            (cx.tp.ecn_counters().opt_demand, cx.tp.ecn_counters().minlen)
        })
    };
    assert_eq!(demand(E0, 100), (2, 3));
    assert_eq!(demand(E0, 100), (0, 3));
    assert_eq!(demand(E0, 1 << 22), (1, 3));
    assert_eq!(demand(E1, 0), (2, 3));
    assert_eq!(demand(CE, 0), (2, 3));
    assert_eq!(demand(CE, 0), (2, 3), "each mark");
    assert_eq!(demand(NOT, 50), (2, 3), "the end of marks");
    assert_eq!(demand(NOT, 50), (0, 3));
    b.with(|cx| {
        let Counters { received_ce, received_ce_pending, received_bytes, .. } = *cx.tp.ecn_counters();
        assert_eq!((received_ce, received_ce_pending), (2, 2));
        assert_eq!(received_bytes, [0, 200 + (1 << 22), 0]);
        ace::count(cx, CE, 40, 10);
        assert_eq!(cx.tp.ecn_counters().received_ce_pending, 15);
    });
}

#[test]
fn ecn_flags_of_plug_ins_are_linuxs() {
    for (mode, want) in [(EcnMode::Off, 0), (EcnMode::Rfc3168, 1), (EcnMode::Accurate, 16), (EcnMode::Pending, 17)] {
        assert_eq!(EcnState::new(mode).bits(), want);
    }
    let e = EcnState { queue_cwr: true, demand_cwr: true, seen: true, ..EcnState::default() };
    assert_eq!(e.bits(), 2 | 4 | 8);
}
