use super::*;
use crate::base::env::Duration;
use crate::sys::lock::Mutex;
use crate::tcp::cong;
use crate::tcp::recovery::tests::acknowledge;
use crate::tcp::tcb::XmitTimer;
use crate::tcp::testing::{Bench, ISS};
use crate::wire::seq::SeqNum;

const MSS: u32 = 1460;

/// What an alternative of these tests is told to do, and what it was asked.
#[derive(Default)]
struct Play {
    slots: u8,
    /// Ranges that `ack` marks, counted from the first byte sent.
    marks: Vec<(u32, u32)>,
    /// What marking returned.
    marked: Vec<Result<u32>>,
    /// `ack` takes this range back.
    clears: Option<(u32, u32)>,
    acked: Vec<Acked>,
    fired: Vec<(u64, Fired)>,
    /// The first timeout marks this range, sends it again and takes the mark back.
    finale: Option<(u32, u32)>,
    /// `timer` arms these when it is asked for the first time.
    arms: Vec<(usize, Duration)>,
    outputs: u32,
}

#[derive(Clone, Default)]
struct Alternative(Arc<Mutex<Play>>);

impl FunctionBlock for Alternative {
    fn name(&self) -> &str {
        "alternative"
    }
    fn start(&self, cx: &mut Cx<'_>) -> Result<Box<dyn Functions>> {
        let arms = std::mem::take(&mut self.0.lock().arms);
        arms.into_iter().try_for_each(|(timer, after)| calls::arm(cx, timer, after))?;
        Ok(Box::new(self.clone()))
    }
}

impl Functions for Alternative {
    fn slots(&self) -> u8 {
        self.0.lock().slots
    }
    fn ack(&mut self, cx: &mut Cx<'_>, acked: &Acked) {
        let at = |n: u32| SeqNum(ISS) + n;
        let mut play = self.0.lock();
        play.acked.push(*acked);
        for (seq, end) in std::mem::take(&mut play.marks) {
            play.marked.push(calls::mark_lost(cx, at(seq), at(end)));
        }
        if let Some((seq, end)) = play.clears.take() {
            play.marked.push(calls::clear_lost(cx, at(seq), at(end)));
        }
    }
    fn output(&mut self, _: &mut Cx<'_>) -> Go {
        self.0.lock().outputs += 1;
        Go::Ours
    }
    fn timer(&mut self, cx: &mut Cx<'_>, which: Fired) -> Go {
        let mut play = self.0.lock();
        play.fired.push((cx.now.as_millis(), which));
        let Some((seq, end)) = play.finale.take() else { return Go::Ours };
        let (seq, end) = (SeqNum(ISS) + seq, SeqNum(ISS) + end);
        let marked =
            [calls::mark_lost(cx, seq, end + 1), calls::retransmit(cx, seq, 2), calls::clear_lost(cx, seq, end)];
        play.marked.extend(marked);
        Go::Done
    }
    fn setsockopt(&mut self, cx: &mut Cx<'_>, ms: i32, _: &[u8]) -> Result<()> {
        calls::arm(cx, 0, Duration::from_millis(ms.unsigned_abs().into()))
    }
}

/// A connection whose congestion control has begun, and ten segments of it under way; `play` has it, if that is given.
fn ten_out(play: Option<Play>) -> (Bench, Alternative) {
    let b = Bench::established();
    let block = Alternative::default();
    register(&b.stack, Arc::new(block.clone())).unwrap();
    b.with(|cx| {
        cx.tp.rx_opt.snd_wscale = crate::wire::seq::WindowShift::clamp(7);
        cx.tp.snd_wl1 = cx.tp.rcv_nxt;
        cong::init_congestion_control(cx);
    });
    if let Some(play) = play {
        *block.0.lock() = play;
        b.with(|cx| set(cx, "alternative")).unwrap();
    }
    b.send(&vec![7u8; 10 * MSS as usize], 0).unwrap();
    b.sent();
    b.advance(50);
    (b, block)
}

/// (from segment, to segment, lost, sent again) of each packet under way.
fn queue(b: &Bench) -> Vec<(u32, u32, bool, u8)> {
    b.with(|cx| {
        let (mut all, mut seq) = (Vec::new(), cx.tp.snd_una);
        while let Some(s) = calls::sent(cx, seq) {
            let n = |at: SeqNum| at.since(SeqNum(ISS)) / MSS;
            all.push((n(s.seq), n(s.end_seq), s.is_lost, s.retrans));
            seq = s.end_seq;
        }
        all
    })
}

fn counts(b: &Bench) -> (u32, u32, u32, u32) {
    b.with(|cx| (cx.tp.packets_out, cx.tp.sacked_out, cx.tp.lost_out, cx.tp.retrans_out))
}

#[test]
fn a_part_of_a_super_packet_is_marked_at_the_boundaries_of_its_segments() {
    let marks = vec![(2 * MSS + 100, 4 * MSS + 1), (0, 0), (9 * MSS, 10 * MSS + 1), (2 * MSS, 3 * MSS)];
    let (b, block) = ten_out(Some(Play { slots: slot::ACK, marks, ..Play::default() }));
    assert_eq!(queue(&b), [(0, 5, false, 0), (5, 10, false, 0)]);
    acknowledge(&b, MSS, &[]);
    assert_eq!(block.0.lock().marked, [Ok(3), Err(Error::Inval), Err(Error::Inval), Ok(0)]);
    let play = block.0.lock();
    let acked = play.acked[0];
    assert_eq!((acked.delivered, acked.sacked, acked.num_dupack, acked.rtt_us), (1, 0, 0, 50_000));
    drop(play);
    assert_eq!(b.with(|cx| cx.tp.ca_state), CaState::Recovery);
    let lost: Vec<_> = queue(&b).into_iter().filter(|p| p.2).map(|p| (p.0, p.1)).collect();
    assert_eq!((lost[0].0, lost[lost.len() - 1].1), (2, 5));
    assert_eq!((counts(&b).0, counts(&b).2), (9, 3));
    // Sent again, as far as the proportional rate reduction allows.
    assert_eq!(b.shapes().iter().map(|s| (s.0, s.1 as u32)).collect::<Vec<_>>(), [(2 * MSS, MSS)]);
    assert!(queue(&b).contains(&(2, 3, true, 1)));
}

#[test]
fn a_mark_is_taken_back_unless_the_segment_was_sent_again() {
    let play = Play { slots: slot::ACK, marks: vec![(2 * MSS, 5 * MSS)], ..Play::default() };
    let (b, block) = ten_out(Some(play));
    acknowledge(&b, MSS, &[]);
    assert_eq!((counts(&b).2, counts(&b).3), (3, 1));
    block.0.lock().clears = Some((2 * MSS, 10 * MSS));
    acknowledge(&b, 2 * MSS, &[]);
    assert_eq!(block.0.lock().marked.last(), Some(&Ok(2)));
    assert_eq!((counts(&b).2, counts(&b).3), (1, 1), "one was sent again");
}

#[test]
fn what_ours_would_find_lost_is_left_to_an_alternative_that_looks() {
    for (slots, recovers, timer) in [
        (0, true, XmitTimer::LossProbe),
        (slot::TIMER, true, XmitTimer::LossProbe),
        (slot::ACK, false, XmitTimer::Retrans),
    ] {
        let (b, block) = ten_out(Some(Play { slots, ..Play::default() }));
        assert_eq!(b.with(|cx| cx.tp.pending), timer, "{slots}");
        for n in 2..5 {
            acknowledge(&b, 0, &[(MSS, n * MSS)]);
        }
        assert_eq!(b.with(|cx| cx.tp.ca_state == CaState::Recovery), recovers, "{slots}");
        assert_eq!(b.with(|cx| cx.tp.ca_state == CaState::Disorder), !recovers, "{slots}");
        let told: Vec<u32> = block.0.lock().acked.iter().map(|a| a.sacked).collect();
        assert_eq!(told, if slots == slot::ACK { vec![1, 1, 1] } else { vec![] });
    }
}

#[test]
fn without_sack_no_more_is_lost_than_what_has_not_arrived() {
    let (b, block) = ten_out(Some(Play { slots: slot::ACK, ..Play::default() }));
    b.with(|cx| cx.tp.rx_opt.sack_ok = 0);
    for _ in 0..4 {
        acknowledge(&b, 0, &[]);
    }
    assert_eq!(block.0.lock().acked.iter().map(|a| a.num_dupack).sum::<u32>(), 4);
    assert_eq!(counts(&b).1, 4);
    block.0.lock().marks = vec![(0, 10 * MSS)];
    // Releasing the sock checks that no more have left the network than are in it.
    acknowledge(&b, 0, &[]);
    assert_eq!((counts(&b).0, counts(&b).2), (10, 10));
}

#[test]
fn the_shared_timer_is_the_retransmission_timer_after_a_change_of_hands() {
    let (b, block) = ten_out(None);
    assert_eq!(b.with(|cx| cx.tp.pending), XmitTimer::LossProbe);
    block.0.lock().slots = slot::ACK | slot::OUTPUT;
    b.with(|cx| set(cx, "alternative")).unwrap();
    assert_eq!(b.with(|cx| (cx.tp.pending, name(cx.tp).to_owned())), (XmitTimer::Retrans, "alternative".to_owned()));
    // And back: what ours finds lost from now on is lost.
    for n in 2..5 {
        acknowledge(&b, 0, &[(MSS, n * MSS)]);
    }
    assert_eq!(b.with(|cx| cx.tp.ca_state), CaState::Disorder);
    assert!(block.0.lock().outputs > 0, "asked after an acknowledgement without new data");
    b.with(|cx| set(cx, "default")).unwrap();
    acknowledge(&b, 0, &[(MSS, 5 * MSS)]);
    assert_eq!(b.with(|cx| cx.tp.ca_state), CaState::Recovery);
    assert_eq!(unregister(&b.stack, "alternative"), Ok(()), "nothing holds it");
}

#[test]
fn own_timers_fire_at_their_times_and_end_with_the_connection() {
    let ms = Duration::from_millis;
    let arms = vec![(3, ms(80)), (0, ms(60)), (1, ms(70)), (2, ms(500))];
    let (b, block) = ten_out(Some(Play { arms, ..Play::default() }));
    let fired = || block.0.lock().fired.iter().map(|(at, f)| (*at - 100_000, *f)).collect::<Vec<_>>();
    assert_eq!(fired(), []);
    for _ in 0..100 {
        if fired().len() < 3 {
            b.step();
        }
    }
    assert_eq!(fired(), [(60, Fired::Own(0)), (70, Fired::Own(1)), (80, Fired::Own(3))]);
    b.with(crate::tcp::close::done);
    for _ in 0..100 {
        b.step();
    }
    assert_eq!(fired().len(), 3, "closed before the last one's time");
}

/// A timer that fires while a call owns the sock, and is armed anew by that call, is one timer still.
#[test]
fn a_timer_that_was_armed_anew_while_its_expiry_waited_is_one() {
    let arms = vec![(1, Duration::from_secs(1000))];
    let (b, block) = ten_out(Some(Play { arms, ..Play::default() }));
    let held = Arc::strong_count(&b.sock);
    for _ in 0..5 {
        let fired = block.0.lock().fired.len();
        b.with(|cx| conn::setsockopt(cx, 1, &[])).unwrap();
        b.with(|cx| {
            b.advance(5);
            conn::setsockopt(cx, 20, &[]).unwrap();
        });
        b.advance(50);
        assert!(block.0.lock().fired.len() > fired);
        assert_eq!(Arc::strong_count(&b.sock), held);
    }
}

/// The packet is cut in front of its FIN, which makes one more segment of it, and what was sent again stays marked.
#[test]
fn what_is_taken_back_of_a_packet_with_a_fin_is_counted_by_its_segments() {
    let (b, block) = ten_out(Some(Play { slots: slot::ACK | slot::TIMER, ..Play::default() }));
    acknowledge(&b, 10 * MSS, &[]);
    b.with(|cx| cx.tp.snd_cwnd = 1);
    b.send(&vec![7u8; 3 * MSS as usize], 0).unwrap();
    b.with(crate::tcp::control::send_fin);
    b.with(|cx| cx.tp.snd_cwnd = 10);
    acknowledge(&b, 11 * MSS, &[]);
    block.0.lock().finale = Some((11 * MSS, 13 * MSS));
    for _ in 0..20 {
        b.step();
    }
    let play = block.0.lock();
    assert!(play.finale.is_none() && !play.marked.is_empty());
    assert!(play.marked.iter().all(|r| r.is_ok_and(|n| n <= 2)), "{:?}", play.marked);
}

#[test]
fn the_registry_knows_who_has_what() {
    let (b, block) = ten_out(Some(Play::default()));
    let net = net::of(&b.stack).unwrap();
    let again = || register(&b.stack, Arc::new(block.clone()));
    assert_eq!(again(), Err(Error::Exist));
    assert_eq!(net.tfb.names(), "alternative default");
    assert_eq!(net.tfb.users(), [("alternative".to_owned(), 1)]);
    b.stack.sysctl.set("net.ipv4.tcp_stack", "alternative").unwrap();
    assert_eq!(net.tfb.users(), [("alternative".to_owned(), 1)], "the default of new sockets is no socket");
    assert_eq!(b.stack.sysctl.set("net.ipv4.tcp_stack", "other"), Err(Error::NoEnt));
    let sock = crate::inet::create(&b.stack, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
    assert_eq!(sock.lock(&b.stack).private.downcast_ref().map(name), Some("alternative"));
    assert_eq!(net.tfb.users()[0].1, 2);
    drop(sock);
    b.with(|cx| set(cx, "default")).unwrap();
    assert_eq!(unregister(&b.stack, "alternative"), Err(Error::Busy), "it is the default");
    b.stack.sysctl.set("net.ipv4.tcp_stack", "default").unwrap();
    assert_eq!((unregister(&b.stack, "alternative"), unregister(&b.stack, "alternative")), (Ok(()), Err(Error::NoEnt)));
}
