//! Hooks on whole connections: between two stacks over a lossy link, and against a peer with hand-made segments. In
//! `settings`: what a hook sets.

use super::*;
use crate::base::error::Error;
use crate::device::capture_test::Bench;
use crate::device::link::{Direction, LinkConfig};
use crate::inet::Socket;
use crate::sim::World;
use crate::sock::msg::{RecvMsg, SendMsg};
use crate::sys::lock::Mutex;
use crate::tcp::peer_test::{ACK, Conn, HERE, Host, ISS, PORT, SYN, SYN_OPTIONS, Seg, THERE};
use crate::wire::tcp::{TcpFlags, TcpHeader};
use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

mod settings;

pub(in crate::tcp) use settings::Restless;

const EXID: u16 = 0x5553;

/// Writes the configured options, and logs its calls.
struct Probe {
    name: &'static str,
    flags: u8,
    /// Number of bytes to reserve, and the options to write, in this order.
    reserve: usize,
    options: Vec<Vec<u8>>,
    log: Mutex<Vec<String>>,
    stored: Mutex<Vec<Result<()>>>,
    parsed: Mutex<Vec<Vec<u8>>>,
}

impl Probe {
    fn new(flags: u8) -> Probe {
        let (reserve, options) = (0, Vec::new());
        let (log, stored, parsed) = Default::default();
        Probe { name: "probe", flags, reserve, options, log, stored, parsed }
    }

    fn writing(flags: u8, reserve: usize, options: &[&[u8]]) -> Arc<Probe> {
        let options = options.iter().map(|o| o.to_vec()).collect();
        Arc::new(Probe { reserve, options, ..Probe::new(flags | cb::WRITE_HDR_OPT) })
    }

    fn note(&self, what: String) {
        self.log.lock().push(what);
    }

    fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock())
    }
}

impl SockOps for Probe {
    fn name(&self) -> &str {
        self.name
    }
    fn tcp_connect(&self, sk: &mut HookCx<'_>) {
        sk.set_cb_flags(self.flags).unwrap();
        self.note(format!("connect to {}", sk.view().remote));
    }
    fn listen(&self, sk: &mut HookCx<'_>) {
        sk.set_cb_flags(self.flags).unwrap();
        sk.set_value(7).unwrap();
        self.note(format!("listen on {}", sk.view().local.port()));
    }
    fn active_established(&self, _: &mut HookCx<'_>, options: &[u8]) {
        self.note(format!("active <{}>", RawOptions::new(options)));
    }
    fn passive_established(&self, sk: &mut HookCx<'_>, options: &[u8], syn: &[u8]) {
        assert_eq!((sk.value(), sk.cb_flags()), (0, self.flags), "a child has the flags and no value");
        self.note(format!("passive <{}> after <{}>", RawOptions::new(options), RawOptions::new(syn)));
    }
    fn rto(&self, _: &mut HookCx<'_>, retransmits: u32, rto: Duration, expired: bool) {
        self.note(format!("rto {retransmits} {} {expired}", rto.as_millis()));
    }
    fn retrans(&self, sk: &mut HookCx<'_>, seq: SeqNum, segs: u32, sent: Result<()>) {
        self.note(format!("retrans +{} {segs} {sent:?}", seq.0.wrapping_sub(sk.view().snd_una)));
    }
    fn state(&self, _: &mut HookCx<'_>, old: State, new: State) {
        self.note(format!("{old:?} to {new:?}"));
    }
    fn rtt(&self, sk: &mut HookCx<'_>, sample_us: u32, srtt_us: u32) {
        assert_eq!(sk.view().srtt_us, srtt_us);
        self.note(format!("rtt {sample_us} {srtt_us}"));
    }
    fn parse_hdr_opt(&self, sk: &mut HookCx<'_>, options: &[u8]) {
        assert!(sk.view().is_fullsock);
        self.parsed.lock().push(options.to_vec());
    }
    fn hdr_opt_len(&self, _: &mut HookCx<'_>, _: &HdrSeg<'_>) -> usize {
        self.reserve
    }
    fn write_hdr_opt(&self, _: &mut HookCx<'_>, _: &HdrSeg<'_>, out: &mut HdrWriter<'_>) {
        for o in &self.options {
            self.stored.lock().push(out.store(o));
        }
    }
}

fn host(hook: &Arc<Probe>) -> Host {
    let bench = Bench::on_ip();
    super::register(&bench.stack, hook.clone()).unwrap();
    Host::on(bench, 8)
}

/// Option bytes and payload length of a packet.
fn split(p: &[u8]) -> (Vec<u8>, usize) {
    let h = TcpHeader::parse(&p[20..]).unwrap();
    assert!(h.checksum_ok(IpAddr::V4(HERE), IpAddr::V4(THERE)));
    (h.option_bytes().to_vec(), h.payload().len())
}

/// The packets sent after the program wrote `len` bytes.
fn data(h: &Host, c: &Conn, len: usize) -> Vec<(Vec<u8>, usize)> {
    c.send(len).unwrap();
    h.bench.poll().iter().map(|p| split(p)).collect()
}

fn syn(options: &[u8]) -> Seg {
    Seg { options: options.to_vec(), ..Seg::new(4000, SYN, ISS, 0) }
}

const OURS: &[u8] = &[253, 6, 0x55, 0x53, 1, 2];

/// A numbered option on every segment of both ends, checked on arrival.
#[derive(Default)]
struct Numbered {
    sent: AtomicU64,
    segs: AtomicUsize,
    got: AtomicUsize,
    without: AtomicUsize,
    resent: AtomicUsize,
    syn: AtomicUsize,
}

impl Numbered {
    fn check(&self, options: &[u8]) {
        match find_option(options, 254, Some(EXID)) {
            Some([_, _, n @ ..]) => {
                assert_eq!(n.len(), 8);
                self.got.fetch_add(1, Ordering::Relaxed);
            }
            _ => {
                self.without.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl SockOps for Numbered {
    fn name(&self) -> &str {
        "numbered"
    }
    fn tcp_connect(&self, sk: &mut HookCx<'_>) {
        sk.set_cb_flags(cb::WRITE_HDR_OPT | cb::PARSE_ALL_HDR_OPT | cb::RETRANS).unwrap();
    }
    fn listen(&self, sk: &mut HookCx<'_>) {
        self.tcp_connect(sk);
    }
    fn active_established(&self, _: &mut HookCx<'_>, options: &[u8]) {
        self.check(options);
    }
    fn passive_established(&self, _: &mut HookCx<'_>, options: &[u8], syn: &[u8]) {
        self.check(options);
        self.check(syn);
    }
    fn retrans(&self, _: &mut HookCx<'_>, _: SeqNum, segs: u32, _: Result<()>) {
        self.resent.fetch_add(segs as usize, Ordering::Relaxed);
    }
    fn parse_hdr_opt(&self, _: &mut HookCx<'_>, options: &[u8]) {
        self.check(options);
    }
    fn hdr_opt_len(&self, _: &mut HookCx<'_>, seg: &HdrSeg<'_>) -> usize {
        // In addition to two SACK blocks and timestamps there is no room.
        if seg.remaining >= 12 { 12 } else { 0 }
    }
    fn write_hdr_opt(&self, sk: &mut HookCx<'_>, seg: &HdrSeg<'_>, out: &mut HdrWriter<'_>) {
        if seg.flags.is_some_and(|f| f.contains(TcpFlags::SYN)) {
            self.syn.fetch_add(1, Ordering::Relaxed);
            assert_eq!(sk.view().is_fullsock, seg.syn.is_empty());
        }
        let mut o = [254, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        o[2..4].copy_from_slice(&EXID.to_be_bytes());
        o[4..].copy_from_slice(&self.sent.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        self.segs.fetch_add(seg.segs as usize, Ordering::Relaxed);
        out.store(&o).unwrap();
    }
}

#[test]
fn an_experimental_option_travels_both_ways_on_every_kind_of_segment_and_the_bytes_arrive() {
    let lossy = Direction { delay: Duration::from_millis(10), loss: 0.03, ..Direction::default() };
    let config = LinkConfig::both(lossy);
    for sack in ["0", "1"] {
        let w = World::new(0x0971);
        let [(a, _), (b, eb)] = w.two(&config).unwrap();
        let hooks: [Arc<Numbered>; 2] = Default::default();
        for (stack, hook) in [&a, &b].into_iter().zip(&hooks) {
            stack.sysctl.set("net.ipv4.tcp_sack", sack).unwrap();
            super::register(stack, hook.clone()).unwrap();
        }
        let l = Socket::new(&b, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
        l.bind(SocketAddr::new(eb.v4.into(), 80)).unwrap();
        l.listen(4).unwrap();
        let c = Socket::new(&a, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
        c.connect(Some(SocketAddr::new(eb.v4.into(), 80))).unwrap();
        let (s, _) = l.accept().unwrap();
        c.set_nonblocking(true);
        s.set_nonblocking(true);
        let text: Vec<u8> = (0..200_000u32).map(|i| (i ^ i >> 8) as u8).collect();
        let (mut sent, mut got) = ([0; 2], [Vec::new(), Vec::new()]);
        let mut buf = vec![0; 65_536];
        for _ in 0..100_000 {
            for (i, (to, from)) in [(&c, &s), (&s, &c)].into_iter().enumerate() {
                let slices = [IoSlice::new(&text[sent[i]..])];
                sent[i] += to.sendmsg(&mut SendMsg::new(&slices, 0)).unwrap_or(0);
                let mut slices = [IoSliceMut::new(&mut buf)];
                let n = from.recvmsg(&mut RecvMsg::new(&mut slices, 0)).unwrap_or(0);
                got[i].extend_from_slice(&buf[..n]);
            }
            if got.iter().all(|g| g.len() == text.len()) {
                break;
            }
            w.run_for(Duration::from_millis(1));
        }
        assert!(got.iter().all(|g| *g == text), "seed {:#x}, sack {sack}", w.seed());
        for (hook, other) in hooks.iter().zip(hooks.iter().rev()) {
            let load = |n: &AtomicUsize| n.load(Ordering::Relaxed);
            assert!(load(&hook.resent) > 0, "the link lost something");
            assert!(load(&hook.syn) > 0);
            assert!(load(&hook.got) > 150, "{}", load(&hook.got));
            // An acknowledgement with two SACK blocks has no room for it.
            assert!(load(&hook.without) == 0 || sack == "1");
            assert!(load(&other.segs) > load(&hook.got), "what was lost was numbered too");
        }
    }
}

#[test]
fn the_option_is_on_the_syn_ack_and_takes_its_room_from_the_mss() {
    let hook = Probe::writing(0, 6, &[OURS]);
    let h = host(&hook);
    assert_eq!(hook.take_log(), ["listen on 80"]);
    let mut with_unknown = SYN_OPTIONS.to_vec();
    with_unknown.extend([254, 4, 0x12, 0x34]);
    let answer = h.bench.inject(&syn(&with_unknown).bytes());
    let (options, _) = split(&answer[0]);
    assert_eq!(&options[options.len() - 8..], [OURS, &[1, 1]].concat());
    let seq = TcpHeader::parse(&answer[0][20..]).unwrap().seq().0;
    h.put(&Seg::new(4000, ACK, ISS + 1, seq.wrapping_add(1)));
    let (socket, _) = h.listener.accept().unwrap();
    assert_eq!(
        hook.take_log(),
        [r"passive <> after <mss 1460,nop,nop,sackOK,nop,wscale 7,exp 1234>".replace("exp 1234", "kind 254 1234")]
    );
    let c = Conn { socket, port: 4000, seq: ISS + 1, ack: seq.wrapping_add(1) };
    c.socket.setsockopt(libc::IPPROTO_TCP, libc::TCP_NODELAY, &1i32.to_ne_bytes()).unwrap();
    let out = data(&h, &c, 3000);
    let padded = [OURS, &[1, 1]].concat();
    assert_eq!(out, [(padded.clone(), 1452), (padded.clone(), 1452), (padded.clone(), 96)]);
    // The retransmission has the option as well.
    let again = h.bench.advance(Duration::from_millis(3500));
    assert!(!again.is_empty() && again.iter().all(|p| split(p).0 == padded));
    assert!(hook.stored.lock().iter().all(|r| r.is_ok()));
}

#[test]
fn a_super_packet_carries_the_option_in_each_of_its_segments() {
    let hook = Probe::writing(0, 6, &[OURS]);
    let h = host(&hook);
    let c = h.connect(4001, SYN_OPTIONS);
    let out = data(&h, &c, 1452 * 4);
    assert_eq!(c.tcb(|tp| tp.packets_out), 4);
    assert_eq!(out.len(), 4);
    assert!(out.iter().all(|(o, n)| o.starts_with(OURS) && *n == 1452), "{out:?}");
    assert!(hook.stored.lock().len() < 6, "written once a super-packet");
}

/// Requests nothing when data is cut into segments, and later all the room there is.
struct Greedy;

impl SockOps for Greedy {
    fn name(&self) -> &str {
        "greedy"
    }
    fn listen(&self, sk: &mut HookCx<'_>) {
        sk.set_cb_flags(cb::WRITE_HDR_OPT).unwrap();
    }
    fn hdr_opt_len(&self, _: &mut HookCx<'_>, seg: &HdrSeg<'_>) -> usize {
        if seg.flags.is_some() { seg.remaining } else { 0 }
    }
}

#[test]
fn a_hook_that_changes_its_reservation_makes_no_packet_exceed_the_path_mtu_or_the_mss() {
    for (case, mss) in [("the path's MTU", 1460u16), ("the peer's MSS", 1000)] {
        let b = Bench::on_ip();
        super::register(&b.stack, Arc::new(Greedy)).unwrap();
        let h = Host::on(b, 8);
        let mut offer = SYN_OPTIONS.to_vec();
        offer[2..4].copy_from_slice(&mss.to_be_bytes());
        let c = h.connect(4000, &offer);
        c.socket.setsockopt(libc::IPPROTO_TCP, libc::TCP_NODELAY, &1i32.to_ne_bytes()).unwrap();
        let full = usize::from(mss);
        // Full segments have no room, a nearly full one has a little, and a short one as much as a header allows.
        assert_eq!(data(&h, &c, 2 * full), [(vec![], full), (vec![], full)], "{case}");
        assert_eq!(data(&h, &c, 80), [(vec![1; 40], 80)], "{case}");
        assert_eq!(data(&h, &c, full - 7), [(vec![1; 4], full - 7)], "{case}");
    }
}

#[test]
fn writes_that_are_malformed_or_do_not_fit_are_refused() {
    let exp4: &[u8] = &[254, 4, 0x55, 0x53];
    for (case, reserve, options, want, room) in [
        ("end of list", 8, &[&[0u8, 2, 0, 0][..]][..], &[Err(Error::Inval)][..], 8),
        ("padding", 8, &[&[1, 2]], &[Err(Error::Inval)], 8),
        ("no length", 8, &[&[200]], &[Err(Error::Inval)], 8),
        ("length 0", 8, &[&[200, 0]], &[Err(Error::Inval)], 8),
        ("length 1", 8, &[&[200, 1]], &[Err(Error::Inval)], 8),
        ("shorter than its length", 8, &[&[200, 4, 0]], &[Err(Error::Inval)], 8),
        ("an experiment without number", 8, &[&[253, 3, 0]], &[Err(Error::Inval)], 8),
        ("too long", 5, &[&[200, 6, 0, 0, 0, 0]], &[Err(Error::NoSpc)], 8),
        ("twice", 8, &[&[200, 2], &[200, 3, 0]], &[Ok(()), Err(Error::Exist)], 8),
        ("two experiments", 12, &[exp4, &[254, 4, 1, 2], exp4], &[Ok(()), Ok(()), Err(Error::Exist)], 12),
        ("TCP's own", 12, &[&[8, 10, 0, 0, 0, 0, 0, 0, 0, 0]], &[Err(Error::Exist)], 12),
        ("one byte reserved", 1, &[&[200, 2]], &[], 0),
        ("more than there is", 29, &[&[200, 2]], &[], 0),
        ("all there is", 28, &[&[200, 2]], &[Ok(())], 28),
    ] {
        let hook = Probe::writing(0, reserve, options);
        let h = host(&hook);
        // Timestamps take twelve bytes.
        let mut offer = SYN_OPTIONS.to_vec();
        offer.extend([1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0]);
        let answer = h.bench.inject(&syn(&offer).bytes());
        let th = TcpHeader::parse(&answer[0][20..]).unwrap();
        let (seq, ts) = (th.seq().0.wrapping_add(1), th.parse_options().timestamps.unwrap().0);
        let mut echo = vec![1, 1, 8, 10, 0, 0, 0, 2];
        echo.extend(ts.to_be_bytes());
        h.put(&Seg { options: echo, ..Seg::new(4000, ACK, ISS + 1, seq) });
        let (socket, _) = h.listener.accept().unwrap();
        hook.stored.lock().clear();
        let c = Conn { socket, port: 4000, seq: ISS + 1, ack: seq };
        let out = data(&h, &c, 5);
        assert_eq!(*hook.stored.lock(), want, "{case}");
        assert_eq!(out.len(), 1, "{case}");
        assert_eq!((out[0].0.len(), out[0].1), (12 + room, 5), "{case}");
        // The option at the end of the header is read completely.
        assert!(
            RawOptions::new(&out[0].0).map(|o| o.data.len() + 2 - usize::from(o.kind == 1)).sum::<usize>() == 12 + room
        );
    }
}

#[test]
fn flags_decide_which_options_are_shown() {
    let unknown: &[u8] = &[254, 4, 0x55, 0x53];
    for (case, flags, want) in [
        ("none", 0, 0),
        ("unknown", cb::PARSE_UNKNOWN_HDR_OPT, 1),
        ("all", cb::PARSE_ALL_HDR_OPT, 3),
        ("both", cb::PARSE_ALL_HDR_OPT | cb::PARSE_UNKNOWN_HDR_OPT, 3),
    ] {
        let hook = Arc::new(Probe::new(flags));
        let h = host(&hook);
        let mut c = h.connect(4000, SYN_OPTIONS);
        for options in [&[][..], unknown, &[]] {
            h.put(&Seg { options: options.to_vec(), data: vec![1; 10], ..c.seg(ACK) });
            c.seq = c.seq.wrapping_add(10);
        }
        let parsed = hook.parsed.lock();
        assert_eq!(parsed.len(), want, "{case}");
        assert!(want == 0 || parsed.iter().any(|o| find_option(o, 254, Some(0x5553)) == Some(&[0x55, 0x53])), "{case}");
        assert_eq!(c.recv(100), Ok(30), "{case}");
    }
}

#[test]
fn an_unknown_option_behind_timestamps_is_shown_though_the_header_has_the_predicted_length() {
    let hook = Arc::new(Probe::new(cb::PARSE_UNKNOWN_HDR_OPT));
    let h = host(&hook);
    let mut c = h.connect(4000, &[SYN_OPTIONS, &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0]].concat());
    let ts = [8, 10, 0, 0, 0, 1, 0, 0, 0, 0];
    for options in [[&[1, 1][..], &ts].concat(), [&ts[..], &[200, 2]].concat()] {
        h.put(&Seg { options, data: vec![1; 10], ..c.seg(ACK) });
        c.seq = c.seq.wrapping_add(10);
    }
    assert_eq!(*hook.parsed.lock(), [[&ts[..], &[200, 2]].concat()]);
    assert_eq!(c.recv(100), Ok(20));
}

#[test]
fn events_come_in_the_order_of_what_happened() {
    let hook = Arc::new(Probe::new(cb::RTO | cb::RETRANS | cb::STATE | cb::RTT));
    let h = host(&hook);
    h.bench.stack.sysctl.set("net.ipv4.tcp_early_retrans", "0").unwrap();
    let mut c = h.connect(4000, SYN_OPTIONS);
    let srtt = c.tcb(|tp| tp.srtt_us >> 3);
    assert_eq!(
        hook.take_log(),
        [
            "listen on 80".to_owned(),
            format!("rtt 0 {srtt}"),
            "passive <> after <mss 1460,nop,nop,sackOK,nop,wscale 7>".to_owned(),
            "SynRecv to Established".to_owned()
        ]
    );
    c.send(100).unwrap();
    h.wait(Duration::from_millis(250));
    assert_eq!(hook.take_log(), ["rto 0 200 false", "retrans +0 1 Ok(())"]);
    c.ack = c.ack.wrapping_add(100);
    h.put(&c.seg(ACK));
    // Without timestamps the acknowledgement of retransmitted data gives no RTT sample (Karn).
    assert_eq!(hook.take_log(), [] as [&str; 0]);
    c.send(100).unwrap();
    h.wait(Duration::from_millis(40));
    c.ack = c.ack.wrapping_add(100);
    h.put(&c.seg(ACK));
    let log = hook.take_log();
    assert_eq!(log.len(), 1, "{log:?}");
    assert!(log[0].starts_with("rtt 40000 "), "{log:?}");
    c.socket.close();
    h.put(&Seg { ack: c.ack.wrapping_add(1), ..c.seg(ACK | 1) });
    assert_eq!(hook.take_log(), ["Established to FinWait1", "rtt 0 4375", "FinWait1 to FinWait2", "FinWait2 to Close"]);
}

#[test]
fn a_hook_sees_an_active_open_from_its_first_syn_to_its_last_retry() {
    let hook = Arc::new(Probe::new(cb::RTO | cb::RETRANS | cb::STATE));
    let b = Bench::on_ip();
    super::register(&b.stack, hook.clone()).unwrap();
    b.stack.sysctl.set("net.ipv4.tcp_syn_retries", "1").unwrap();
    b.stack.sysctl.set("net.ipv4.tcp_syn_linear_timeouts", "0").unwrap();
    let s = Socket::new(&b.stack, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
    s.set_nonblocking(true);
    assert_eq!(s.connect(Some(SocketAddr::new(THERE.into(), PORT))), Err(Error::InProgress));
    b.advance(Duration::from_secs(10));
    assert_eq!(
        hook.take_log(),
        ["connect to 10.0.0.2:80", "rto 0 1000 false", "retrans +0 1 Ok(())", "rto 1 2000 true", "SynSent to Close"]
    );
}

#[test]
fn a_hook_that_asks_for_nothing_changes_no_byte() {
    let run = |hook: Option<Arc<dyn SockOps>>| {
        let b = Bench::on_ip();
        if let Some(hook) = hook {
            super::register(&b.stack, hook).unwrap();
        }
        let h = Host::on(b, 8);
        let mut all = h.bench.inject(&syn(SYN_OPTIONS).bytes());
        let seq = TcpHeader::parse(&all[0][20..]).unwrap().seq().0.wrapping_add(1);
        h.put(&Seg::new(4000, ACK, ISS + 1, seq));
        let (socket, _) = h.listener.accept().unwrap();
        let c = Conn { socket, port: 4000, seq: ISS + 1, ack: seq };
        c.send(20_000).unwrap();
        all.extend(h.bench.advance(Duration::from_secs(2)));
        all.extend(h.bench.inject(&Seg { data: vec![3; 700], options: vec![254, 4, 1, 1], ..c.seg(ACK) }.bytes()));
        c.socket.close();
        all.extend(h.bench.advance(Duration::from_secs(5)));
        all
    };
    assert_eq!(run(None), run(Some(Arc::new(Probe::new(0)))));
}

#[test]
fn hooks_have_unique_names_and_can_be_unregistered() {
    let b = Bench::on_ip();
    let net = crate::tcp::net::of(&b.stack).unwrap();
    let r = &net.sock_ops;
    assert!(!r.any());
    let probe = |name| Arc::new(Probe { name, ..Probe::new(0) });
    let register = |p| r.register(p).map_err(|refused| refused.error);
    assert_eq!(register(probe("")), Err(Error::Inval));
    assert_eq!(register(probe("abcdefghijklmnopqrstuvwxyz012345")), Err(Error::Inval));
    assert_eq!(register(probe("b")), Ok(()));
    assert_eq!(register(probe("a")), Ok(()));
    assert_eq!(register(probe("b")), Err(Error::Exist));
    assert_eq!(r.names(), ["b", "a"]);
    assert_eq!(r.unregister("c").err(), Some(Error::NoEnt));
    assert_eq!(r.unregister("b").map(|h| h.name().to_owned()), Ok("b".to_owned()));
    assert_eq!(r.unregister("a").map(|h| Arc::strong_count(&h)), Ok(1));
    assert!(!r.any());
}

#[test]
fn the_flags_of_an_unregistered_hook_are_removed() {
    let hook = Probe::writing(cb::PARSE_ALL_HDR_OPT, 6, &[OURS]);
    let h = host(&hook);
    let c = h.connect(4000, SYN_OPTIONS);
    c.socket.setsockopt(libc::IPPROTO_TCP, libc::TCP_NODELAY, &1i32.to_ne_bytes()).unwrap();
    assert_eq!(data(&h, &c, 5)[0].0.len(), 8);
    super::unregister(&h.bench.stack, "probe").unwrap();
    assert_eq!(data(&h, &c, 5)[0].0.len(), 0);
    assert_eq!(c.tcb(|tp| tp.sock_ops_flags), 0);
    // Another hook of the same name does not inherit its flags.
    super::register(&h.bench.stack, Probe::writing(0, 6, &[OURS])).unwrap();
    assert_eq!(data(&h, &c, 5)[0].0.len(), 0);
}

#[test]
fn two_hooks_share_a_header_in_order_of_registration_and_neither_writes_into_the_others_part() {
    let b = Bench::on_ip();
    let first = Probe::writing(0, 3, &[&[200, 3, 9], &[201, 2]]);
    let second = Arc::new(Probe {
        name: "second",
        ..Arc::into_inner(Probe::writing(0, 4, &[&[200, 2], &[202, 4, 7, 7]])).unwrap()
    });
    super::register(&b.stack, first.clone()).unwrap();
    super::register(&b.stack, second.clone()).unwrap();
    let h = Host::on(b, 8);
    let c = h.connect(4000, SYN_OPTIONS);
    first.stored.lock().clear();
    second.stored.lock().clear();
    assert_eq!(data(&h, &c, 5), [(vec![200, 3, 9, 202, 4, 7, 7, 1], 5)]);
    assert_eq!(*first.stored.lock(), [Ok(()), Err(Error::NoSpc)]);
    assert_eq!(*second.stored.lock(), [Err(Error::Exist), Ok(())]);
}

/// Unregisters itself at its first event.
struct Leaver(AtomicUsize);

impl SockOps for Leaver {
    fn name(&self) -> &str {
        "leaver"
    }
    fn rwnd_init(&self, sk: &mut HookCx<'_>) -> Option<u32> {
        let me = super::unregister(sk.stack(), "leaver").unwrap();
        assert!(Arc::strong_count(&me) > 1, "the event that runs holds it");
        self.0.fetch_add(1, Ordering::Relaxed);
        None
    }
    fn passive_established(&self, _: &mut HookCx<'_>, _: &[u8], _: &[u8]) {
        self.0.fetch_add(10, Ordering::Relaxed);
    }
}

#[test]
fn a_hook_may_unregister_during_an_event_and_gets_no_later_ones() {
    let b = Bench::on_ip();
    let leaver = Arc::new(Leaver(AtomicUsize::new(0)));
    super::register(&b.stack, leaver.clone()).unwrap();
    let h = Host::on(b, 8);
    h.connect(4000, SYN_OPTIONS);
    assert_eq!(leaver.0.load(Ordering::Relaxed), 1);
    assert_eq!(Arc::strong_count(&leaver), 1, "and is let go of");
}
