use super::ca_ack;
use crate::base::env::Duration;
use crate::base::error::Error;
use crate::inet::Socket;
use crate::ip::route::{RouteSpec, add_route};
use crate::sock::dst::rtax;
use crate::sock::skb::Skb;
use crate::sys::lock::Mutex;
use crate::tcp::ecn::{EcnMode, EcnState};
use crate::tcp::peer_test::{Host, SYN_OPTIONS, THERE};
use crate::tcp::tcb::{CaState, Cx, TcpSock};
use crate::tcp::testing::{Bench, ISS};
use crate::tcp::{ack, input, output};
use crate::wire::seq::{RawWindow, SeqNum, WindowShift};
use crate::wire::tcp::{TcpFlags, TcpRepr};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

#[test]
fn slow_start_stops_at_the_threshold_and_hands_back_the_rest() {
    let c = Bench::new();
    c.with(|cx| {
        cx.tp.snd_cwnd = 10;
        cx.tp.snd_ssthresh = 14;
        assert_eq!(super::slow_start(cx, 3), 0);
        assert_eq!(cx.tp.snd_cwnd, 13);
        assert_eq!(super::slow_start(cx, 3), 2);
        assert_eq!(cx.tp.snd_cwnd, 14);
    });
}

#[test]
fn additive_increase_gives_one_segment_for_every_w_acknowledged() {
    let c = Bench::new();
    c.with(|cx| {
        cx.tp.snd_cwnd = 10;
        for _ in 0..9 {
            super::cong_avoid_ai(cx, 10, 1);
        }
        assert_eq!((cx.tp.snd_cwnd, cx.tp.snd_cwnd_cnt), (10, 9));
        super::cong_avoid_ai(cx, 10, 1);
        assert_eq!((cx.tp.snd_cwnd, cx.tp.snd_cwnd_cnt), (11, 0));
        super::cong_avoid_ai(cx, 4, 9);
        assert_eq!((cx.tp.snd_cwnd, cx.tp.snd_cwnd_cnt), (13, 1));
    });
}

#[test]
fn an_unknown_algorithm_is_enoent_and_leaves_the_old_one() {
    let c = Bench::new();
    c.with(|cx| {
        assert_eq!(super::set_congestion_control(cx, "nosuch"), Err(Error::NoEnt));
        assert_eq!(cx.tp.ca.ops.name(), "cubic");
        assert_eq!(super::set_congestion_control(cx, "reno"), Ok(()));
        assert_eq!(cx.tp.ca.ops.name(), "reno");
    });
}

#[test]
fn an_algorithm_in_use_is_ebusy_and_one_that_is_not_goes() {
    struct Other;
    impl super::CongOps for Other {
        fn name(&self) -> &str {
            "other"
        }
        fn start(&self, cx: &mut Cx<'_>) -> Box<dyn super::CongAlgo> {
            super::reno::RenoOps.start(cx)
        }
    }
    let c = Bench::new();
    let net = crate::tcp::net::of(&c.stack).unwrap();
    let cong = &net.cong;
    assert_eq!(cong.register(Arc::new(Other)), Ok(()));
    assert_eq!(cong.register(Arc::new(Other)), Err(Error::Exist));
    assert_eq!(cong.names(), "other reno cubic bbr dctcp");
    c.with(|cx| super::set_congestion_control(cx, "other")).unwrap();
    assert_eq!(cong.unregister("other"), Err(Error::Busy));
    c.with(|cx| super::set_congestion_control(cx, "reno")).unwrap();
    assert_eq!(cong.unregister("other"), Ok(()));
    assert_eq!((cong.unregister("other"), cong.unregister("reno")), (Err(Error::NoEnt), Err(Error::Perm)));
}

/// An algorithm that keeps its window constant; counts calls of `release`.
#[derive(Debug, Clone, Default)]
struct Own {
    /// Optional methods that it says it lacks, bits of `ca_slot`.
    lacks: u32,
    ended: Arc<AtomicU32>,
    /// Algorithms that in_ack_event changes to, taken from the front.
    replace: &'static [&'static str],
    acks: Arc<Mutex<Vec<u32>>>,
}

impl super::CongAlgo for Own {
    fn ssthresh(&mut self, _: &mut Cx<'_>) -> u32 {
        7
    }
    fn cong_avoid(&mut self, _: &mut Cx<'_>, _: SeqNum, _: u32) {}
    fn slots(&self) -> u32 {
        super::ca_slot::ALL & !self.lacks
    }
    fn has_cong_control(&self) -> bool {
        true
    }
    fn in_ack_event(&mut self, cx: &mut Cx<'_>, flags: u32) {
        self.acks.lock().push(flags);
        for name in std::mem::take(&mut self.replace) {
            super::set_congestion_control(cx, name).unwrap();
        }
    }
    fn release(&mut self, _: &mut Cx<'_>) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }
}

impl super::CongOps for Own {
    fn name(&self) -> &str {
        "own"
    }
    fn start(&self, _: &mut Cx<'_>) -> Box<dyn super::CongAlgo> {
        Box::new(self.clone())
    }
}

/// An established connection with that algorithm.
fn with_own(own: &Own) -> Bench {
    let b = Bench::established();
    super::register(&b.stack, Arc::new(own.clone())).unwrap();
    b.with(|cx| super::set_congestion_control(cx, "own")).unwrap();
    b
}

#[test]
fn the_state_of_cubic_lies_in_the_sock_and_that_of_others_in_a_box() {
    let b = with_own(&Own::default());
    for name in ["cubic", "own", "reno", "cubic", "bbr"] {
        b.with(|cx| {
            super::set_congestion_control(cx, name).unwrap();
            let algo = cx.tp.ca.algo.as_ref().unwrap();
            let (at, sock) = ((&raw const **algo).addr(), (&raw const *cx.tp).addr());
            assert_eq!((sock..sock + size_of::<TcpSock>()).contains(&at), name == "cubic", "{name}");
        });
    }
}

#[test]
fn idleness_leaves_the_window_to_an_algorithm_that_sets_it_itself() {
    for (name, after_restart, after_decay) in [("own", 80, 80), ("reno", 10, 45)] {
        let b = with_own(&Own::default());
        b.with(|cx| {
            super::set_congestion_control(cx, name).unwrap();
            cx.tp.snd_cwnd = 80;
        });
        b.clock.advance(Duration::from_secs(60));
        b.with(output::slow_start_after_idle_check);
        assert_eq!(b.with(|cx| cx.tp.snd_cwnd), after_restart, "{name}");
        // For longer than a timeout less is sent than the window allows.
        b.with(|cx| {
            cx.tp.snd_cwnd = 80;
            cx.tp.snd_ssthresh = 20;
            output::cwnd_validate(cx, true);
        });
        b.clock.advance(Duration::from_secs(1));
        b.with(|cx| {
            cx.tp.is_cwnd_limited = false;
            cx.tp.cwnd_usage_seq = cx.tp.snd_una + 1;
            output::cwnd_validate(cx, false);
        });
        assert_eq!(b.with(|cx| cx.tp.snd_cwnd), after_decay, "{name}");
    }
}

#[test]
fn an_algorithm_replaced_from_inside_one_of_its_methods_is_released_once() {
    for (replace, to, gone, all) in
        [(&["reno"][..], "reno", 1, 1), (&["own"], "own", 0, 1), (&["reno", "own"], "own", 1, 2)]
    {
        let own = Own { replace, ..Own::default() };
        let b = with_own(&own);
        b.with(|cx| ack::in_ack_event(cx, 0));
        assert_eq!(b.with(|cx| cx.tp.ca.ops.name().to_owned()), to);
        assert_eq!(own.ended.load(Ordering::Relaxed), gone);
        b.with(|cx| {
            assert!(cx.tp.ca.algo.is_some());
            super::cleanup(cx);
        });
        assert_eq!(own.ended.load(Ordering::Relaxed), all);
    }
}

/// A segment without data and options.
fn arrives(b: &Bench, acked: u32, flags: TcpFlags, window: u16) {
    b.with(|cx| {
        let (seq, ack) = (cx.tp.rcv_nxt, SeqNum(ISS) + acked);
        let window = RawWindow(window);
        let mut bytes = vec![0; 20];
        TcpRepr { src_port: 2000, dst_port: 1000, seq, ack, flags, window, urgent: 0, options_len: 0 }.emit(&mut bytes);
        let mut skb = Skb::from_slice(&bytes);
        crate::tcp::rcv::fill_cb(&mut skb, 0, 64, cx.now).unwrap();
        cx.now = cx.stack.now();
        input::rcv_established(cx, skb);
    });
}

#[test]
fn in_ack_event_tells_the_predicted_acknowledgement_from_others() {
    let own = Own::default();
    let b = with_own(&own);
    b.with(|cx| {
        cx.tp.rx_opt.snd_wscale = WindowShift::clamp(7);
        cx.tp.snd_wl1 = cx.tp.rcv_nxt;
        cx.tp.ecn = EcnState::new(EcnMode::Rfc3168);
        input::fast_path_on(cx);
    });
    b.send(&[7; 6000], 0).unwrap();
    let told = |acked, flags, window| {
        arrives(&b, acked, flags, window);
        std::mem::take(&mut *own.acks.lock())
    };
    assert_eq!(told(1460, TcpFlags::ACK, 8192), [ca_ack::WIN_UPDATE]);
    // A duplicate with the predicted header takes the fast path as well, and reports nothing new.
    assert_eq!(told(1460, TcpFlags::ACK, 8192), [0]);
    assert_eq!(told(1460, TcpFlags::ACK, 8000), [ca_ack::SLOWPATH]);
    assert_eq!(told(2920, TcpFlags::ACK, 9000), [ca_ack::SLOWPATH | ca_ack::WIN_UPDATE]);
    let echo = TcpFlags::ACK | TcpFlags::ECE;
    assert_eq!(told(4380, echo, 9000), [ca_ack::SLOWPATH | ca_ack::WIN_UPDATE | ca_ack::ECE]);
    // The threshold is the algorithm's, and so is the window.
    assert_eq!(b.with(|cx| (cx.tp.ca_state, cx.tp.snd_ssthresh)), (CaState::Cwr, 7));
}

#[test]
fn a_method_that_an_algorithm_lacks_is_not_called() {
    for (lacks, calls) in [(0, 1), (super::ca_slot::IN_ACK_EVENT, 0), (super::ca_slot::PKTS_ACKED, 1)] {
        let own = Own { lacks, ..Own::default() };
        let b = with_own(&own);
        b.with(|cx| ack::in_ack_event(cx, 0));
        assert_eq!(own.acks.lock().len(), calls, "{lacks}");
    }
}

#[test]
fn the_algorithm_that_a_route_names_comes_before_those_of_sysctl_and_listener() {
    for (named, want) in [(None, "cubic"), (Some("reno"), "reno"), (Some("no such"), "cubic")] {
        let b = crate::device::capture_test::Bench::on_ip();
        let to = format!("{THERE}/32").parse().unwrap();
        let route = RouteSpec { congctl: named.map(Arc::from), ..RouteSpec::new(to).via_dev(&b.dev) };
        add_route(&b.stack, route).unwrap();
        let h = Host::on(b, 8);
        let c = h.connect(4000, SYN_OPTIONS);
        assert_eq!(c.tcb(|tp| tp.ca.ops.name().to_owned()), want, "passive, {named:?}");
        let active = Socket::new(&h.bench.stack, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
        active.set_nonblocking(true);
        assert_eq!(active.connect(Some(SocketAddr::new(THERE.into(), 5000))), Err(Error::InProgress));
        let g = active.sock().lock(&h.bench.stack);
        let tp = g.private.downcast_ref::<crate::tcp::tcb::TcpSock>().unwrap();
        assert_eq!(tp.ca.ops.name(), want, "active, {named:?}");
    }
}

/// RFC 8257 §3.2: where marks begin or end, what came before is acknowledged by itself, with its own echo; in between
/// acknowledgements are delayed as ever. A CWR does not end the echo.
#[test]
fn an_exact_echo_tells_marked_segments_from_others() {
    const ECT: u8 = 2;
    const CE: u8 = 3;
    let b = Bench::established();
    b.with(|cx| {
        cx.tp.ecn = EcnState::new(EcnMode::Rfc3168);
        super::set_congestion_control(cx, "dctcp").unwrap();
        cx.tp.ack.rcv_mss = 2_000;
        // Acknowledgements wait for replies.
        crate::tcp::delack::enter_pingpong_mode(cx);
        cx.tp.rcv_wup = cx.tp.rcv_nxt;
        cx.tp.copied_seq = cx.tp.rcv_nxt;
    });
    let first = b.with(|cx| cx.tp.rcv_nxt);
    let cwr = TcpFlags::ACK | TcpFlags::CWR;
    // Codepoint and flags of each 500 bytes; the acknowledgements that leave, and whether they echo.
    for (i, (tos, flags, want)) in [
        (ECT, TcpFlags::ACK, &[][..]),
        (CE, TcpFlags::ACK, &[(500, false), (1_000, true)]),
        (CE, TcpFlags::ACK, &[]),
        (CE, cwr, &[(2_000, true)]),
        (CE, TcpFlags::ACK, &[]),
        (ECT, TcpFlags::ACK, &[(2_500, true), (3_000, false)]),
        (ECT, TcpFlags::ACK, &[]),
    ]
    .into_iter()
    .enumerate()
    {
        b.with(|cx| {
            let (seq, ack, window) = (first + 500 * i as u32, cx.tp.snd_una, RawWindow(8_192));
            let mut bytes = vec![0; 520];
            TcpRepr { src_port: 2000, dst_port: 1000, seq, ack, flags, window, urgent: 0, options_len: 0 }
                .emit(&mut bytes);
            let mut skb = Skb::from_slice(&bytes);
            crate::tcp::rcv::fill_cb(&mut skb, tos, 64, cx.now).unwrap();
            input::rcv_established(cx, skb);
        });
        let left: Vec<_> =
            b.sent().iter().map(|o| (o.ack.wrapping_sub(first.0), o.flags.contains(TcpFlags::ECE))).collect();
        assert_eq!(left, want, "segment {i}");
    }
}

#[test]
fn programs_may_choose_what_is_not_restricted_and_the_sysctls_say_what_is() {
    let bench = Bench::new();
    let stack = &bench.stack;
    let socket = || Socket::new(stack, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
    let choose = |name: &str| socket().setsockopt(libc::IPPROTO_TCP, libc::TCP_CONGESTION, name.as_bytes());
    let allowed = || stack.sysctl.get("net.ipv4.tcp_allowed_congestion_control").unwrap();
    let allow = |names| stack.sysctl.set("net.ipv4.tcp_allowed_congestion_control", names);
    assert_eq!(allowed(), "reno cubic bbr");
    assert_eq!((choose("dctcp"), choose("nosuch")), (Ok(()), Err(Error::NoEnt)), "the stack's owner");
    stack.share();
    assert_eq!((choose("bbr"), choose("dctcp"), choose("nosuch")), (Ok(()), Err(Error::Perm), Err(Error::NoEnt)));
    assert_eq!(allow("dctcp nosuch"), Err(Error::NoEnt));
    assert_eq!(allowed(), "reno cubic bbr");
    assert_eq!(allow("dctcp"), Ok(()));
    assert_eq!((allowed().as_str(), choose("dctcp"), choose("bbr")), ("dctcp", Ok(()), Err(Error::Perm)));
    assert_eq!(choose("cubic"), Ok(()), "what the socket has already");
    // The default is for all.
    stack.sysctl.set("net.ipv4.tcp_congestion_control", "bbr").unwrap();
    assert_eq!((allowed().as_str(), choose("bbr")), ("bbr dctcp", Ok(())));
}

#[test]
fn a_route_may_lock_its_algorithm() {
    let b = Bench::new();
    b.with(|cx| {
        let dst = cx.sk.dst.clone().unwrap();
        for (lock, congctl, want) in [
            (1 << rtax::CC_ALGO, Some("reno"), Err(Error::Perm)),
            (0, Some("reno"), Ok(())),
            (1 << rtax::CC_ALGO, Some("nosuch"), Ok(())),
            (1 << rtax::CC_ALGO, None, Ok(())),
        ] {
            let mut dst = (*dst).clone();
            dst.metrics.lock = lock;
            dst.congctl = congctl.map(Arc::from);
            cx.sk.dst = Some(Arc::new(dst));
            assert_eq!(super::may_choose(cx, "bbr"), want, "{lock:#x} {congctl:?}");
        }
    });
}
