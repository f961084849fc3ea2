//! What a hook sets, and what its return values do.

use super::*;
use crate::ip::route::{RouteSpec, add_route};
use crate::sock::dst::RouteMetrics;
use crate::tcp::tcb::TcpSock;

/// Return values and settings of a hook.
#[derive(Default)]
struct Settings {
    timeout: Option<Duration>,
    rwnd: Option<u32>,
    ecn: bool,
    requests: AtomicUsize,
}

impl Settings {
    fn ask(&self, sk: &mut HookCx<'_>) {
        if !sk.view().is_fullsock {
            self.requests.fetch_add(1, Ordering::Relaxed);
            assert_eq!(sk.view().state, State::NewSynRecv);
            assert_eq!(sk.set_cb_flags(cb::ALL), Err(Error::Inval));
            assert_eq!(sk.set_value(1), Err(Error::Inval));
            assert_eq!(sk.set_init_cwnd(1), Err(Error::Inval));
            assert_eq!(sk.set_congestion("reno"), Err(Error::Inval));
        }
    }
}

impl SockOps for Settings {
    fn name(&self) -> &str {
        "settings"
    }
    fn timeout_init(&self, sk: &mut HookCx<'_>) -> Option<Duration> {
        self.ask(sk);
        self.timeout
    }
    fn rwnd_init(&self, sk: &mut HookCx<'_>) -> Option<u32> {
        self.ask(sk);
        self.rwnd
    }
    fn needs_ecn(&self, sk: &mut HookCx<'_>) -> bool {
        self.ask(sk);
        self.ecn
    }
    fn base_rtt(&self, sk: &mut HookCx<'_>) -> Option<Duration> {
        (sk.view().remote.port() == 4000).then_some(Duration::from_micros(700))
    }
    fn passive_established(&self, sk: &mut HookCx<'_>, _: &[u8], _: &[u8]) {
        let ms = Duration::from_millis;
        assert_eq!(sk.set_cb_flags(128), Err(Error::Inval));
        assert_eq!(sk.set_init_cwnd(0), Err(Error::Inval));
        assert_eq!(sk.set_snd_cwnd_clamp(0), Err(Error::Inval));
        assert_eq!(sk.set_rto_min(ms(1)), Err(Error::Inval));
        assert_eq!(sk.set_delack_max(ms(201)), Err(Error::Inval));
        assert_eq!(sk.set_congestion("nosuch"), Err(Error::NoEnt));
        assert_eq!(sk.congestion(), "cubic");
        sk.set_snd_cwnd_clamp(40).unwrap();
        sk.set_init_cwnd(30).unwrap();
        sk.set_rto_min(ms(50)).unwrap();
        sk.set_delack_max(ms(20)).unwrap();
        sk.set_congestion("reno").unwrap();
        sk.set_value(9).unwrap();
        assert_eq!((sk.value(), sk.cb_flags()), (9, 0));
    }
}

/// Enables everything, returns different values each time, and sets everything that can be set.
#[derive(Default)]
pub(in crate::tcp) struct Restless(AtomicUsize);

impl Restless {
    fn next(&self) -> usize {
        self.0.fetch_add(1, Ordering::Relaxed)
    }

    /// Each of these calls may fail, depending on the sock.
    fn stir(&self, sk: &mut HookCx<'_>) {
        let n = self.next();
        let flags = if n.is_multiple_of(5) { n as u8 & cb::ALL } else { cb::ALL };
        let _ = sk.set_cb_flags(flags);
        let _ = sk.set_value(sk.value() + 1);
        let _ = match n % 7 {
            0 => sk.set_init_cwnd(n as u32 % 50),
            1 => sk.set_snd_cwnd_clamp(n as u32 % 90),
            2 => sk.set_rto_min(Duration::from_millis(n as u64 % 300)),
            3 => sk.set_delack_max(Duration::from_millis(n as u64 % 300)),
            4 => sk.set_congestion(if n.is_multiple_of(2) { "reno" } else { "cubic" }),
            5 => sk.set_save_syn(n.is_multiple_of(2)),
            _ => Ok(()),
        };
    }
}

impl SockOps for Restless {
    fn name(&self) -> &str {
        "restless"
    }
    fn timeout_init(&self, sk: &mut HookCx<'_>) -> Option<Duration> {
        self.stir(sk);
        Some(Duration::from_micros((self.next() as u64 % 5) << (self.next() % 40)))
    }
    fn rwnd_init(&self, sk: &mut HookCx<'_>) -> Option<u32> {
        self.stir(sk);
        Some(1 << (self.next() % 32))
    }
    fn needs_ecn(&self, sk: &mut HookCx<'_>) -> bool {
        self.stir(sk);
        self.next().is_multiple_of(2)
    }
    fn tcp_connect(&self, sk: &mut HookCx<'_>) {
        self.stir(sk);
    }
    fn passive_established(&self, sk: &mut HookCx<'_>, _: &[u8], _: &[u8]) {
        self.stir(sk);
    }
    fn listen(&self, sk: &mut HookCx<'_>) {
        sk.set_cb_flags(cb::ALL).unwrap();
    }
    fn rto(&self, sk: &mut HookCx<'_>, _: u32, _: Duration, _: bool) {
        self.stir(sk);
    }
    fn retrans(&self, sk: &mut HookCx<'_>, _: SeqNum, _: u32, _: Result<()>) {
        self.stir(sk);
    }
    fn state(&self, sk: &mut HookCx<'_>, _: State, _: State) {
        self.stir(sk);
    }
    fn rtt(&self, sk: &mut HookCx<'_>, _: u32, _: u32) {
        self.stir(sk);
    }
    fn parse_hdr_opt(&self, sk: &mut HookCx<'_>, options: &[u8]) {
        self.stir(sk);
        find_option(options, 254, Some(EXID));
    }
    fn hdr_opt_len(&self, sk: &mut HookCx<'_>, seg: &HdrSeg<'_>) -> usize {
        self.stir(sk);
        assert!(seg.remaining <= 40);
        self.next() % 44
    }
    fn write_hdr_opt(&self, sk: &mut HookCx<'_>, seg: &HdrSeg<'_>, out: &mut HdrWriter<'_>) {
        self.stir(sk);
        for _ in 0..self.next() % 6 {
            let option: Vec<u8> = (0..self.next() % 12).map(|i| (self.next() >> (i % 3)) as u8 % 14).collect();
            let _ = out.store(&option);
        }
        assert!(out.remaining() <= seg.remaining && out.own_options().len() <= 40);
    }
}

#[test]
fn return_values_and_settings_take_effect() {
    let b = Bench::on_ip();
    let hook = Arc::new(Settings {
        timeout: Some(Duration::from_millis(300)),
        rwnd: Some(4),
        ecn: true,
        requests: AtomicUsize::new(0),
    });
    super::register(&b.stack, hook.clone()).unwrap();
    b.stack.sysctl.set("net.ipv4.tcp_ecn", "0").unwrap();
    let h = Host::on(b, 8);
    let ecn = Seg { flags: SYN | 0xc0, ..syn(SYN_OPTIONS) };
    let answer = h.bench.inject(&ecn.bytes());
    let th = TcpHeader::parse(&answer[0][20..]).unwrap();
    assert!(th.has(TcpFlags::SYN | TcpFlags::ACK | TcpFlags::ECE), "the hook wants ECN");
    assert_eq!(th.window().0, 4 * 1460);
    let seq = th.seq().0.wrapping_add(1);
    assert_eq!(answer[0][1] & 3, 2, "and marks, of its SYN-ACK as well");
    assert_eq!(hook.requests.load(Ordering::Relaxed), 4);
    assert_eq!(h.wait(Duration::from_millis(299)).len(), 0);
    assert_eq!(h.wait(Duration::from_millis(2)).len(), 1, "the SYN-ACK again after 300 ms");
    assert_eq!(h.wait(Duration::from_millis(599)).len(), 1, "and after 600 more");
    h.put(&Seg::new(4000, ACK, ISS + 1, seq));
    let (socket, _) = h.listener.accept().unwrap();
    let c = Conn { socket, port: 4000, seq: ISS + 1, ack: seq };
    let seen = c.tcb(|tp: &TcpSock| {
        (
            tp.snd_cwnd,
            tp.snd_cwnd_clamp,
            tp.snd_ssthresh,
            tp.options().rto_min_us,
            tp.options().delack_max_us,
            tp.ca.ops.name().to_owned(),
        )
    });
    assert_eq!(seen, (30, 40, 40, 50_000, 20_000, "reno".to_owned()));
    let mut g = c.socket.sock().lock(&h.bench.stack);
    assert_eq!(base_rtt(&mut Cx::new(&mut g).unwrap()), Some(Duration::from_micros(700)));
}

#[test]
fn a_hook_may_promise_a_first_window_beyond_the_buffer_and_a_route_may_not() {
    for (case, hook, route, want) in [
        ("nothing", None, 0, 64_240),
        ("a hook", Some(100), 0, 65_535),
        ("a route", None, 100, 64_240),
        ("a small route", None, 3, 4380),
    ] {
        let b = Bench::on_ip();
        let settings = Settings { timeout: None, rwnd: hook, ecn: false, requests: AtomicUsize::new(0) };
        super::register(&b.stack, Arc::new(settings)).unwrap();
        let to = format!("{THERE}/32").parse().unwrap();
        let peer = RouteSpec {
            metrics: RouteMetrics { initrwnd: route, ..RouteMetrics::default() },
            ..RouteSpec::new(to).via_dev(&b.dev)
        };
        add_route(&b.stack, peer).unwrap();
        let h = Host::on(b, 8);
        let answer = h.bench.inject(&syn(SYN_OPTIONS).bytes());
        assert_eq!(TcpHeader::parse(&answer[0][20..]).unwrap().window().0, want, "{case}");
    }
}
