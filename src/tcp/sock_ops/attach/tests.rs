//! Hooks of chosen connections: attached to a socket, chosen by a filter; what they inherit, keep and lose.

use super::super::{Filter, HdrSeg, HdrWriter, OptionKind, SockOps, cb, register, set_filters, unregister};
use super::*;
use crate::base::error::Result;
use crate::counters::Mib;
use crate::device::capture_test::Bench;
use crate::inet::Socket;
use crate::sys::lock::Mutex;
use crate::tcp::peer_test::{ACK, Conn, HERE, Host, ISS, PORT, SYN, SYN_OPTIONS, Seg, THERE};
use crate::tcp::sockopt::opt;
use crate::wire::tcp::TcpHeader;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Writes an option of four bytes, of its own kind, on every segment, and logs its events.
struct Tag {
    name: &'static str,
    scope: Scope,
    kind: u8,
    log: Mutex<Vec<String>>,
    /// How often it was asked for the option that it writes.
    options: AtomicU32,
}

impl Tag {
    fn of(name: &'static str, scope: Scope, kind: u8) -> Arc<Tag> {
        Arc::new(Tag { name, scope, kind, log: Mutex::default(), options: AtomicU32::new(0) })
    }

    fn chosen(name: &'static str, kind: u8) -> Arc<Tag> {
        Tag::of(name, Scope::Chosen, kind)
    }

    fn note(&self, what: &str) {
        self.log.lock().push(what.to_owned());
    }

    fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock())
    }
}

impl SockOps for Tag {
    fn name(&self) -> &str {
        self.name
    }
    fn scope(&self) -> Scope {
        self.scope
    }
    fn option(&self) -> Option<OptionKind> {
        self.options.fetch_add(1, Ordering::Relaxed);
        (self.kind != 0).then_some(OptionKind { kind: self.kind, exid: 0 })
    }
    fn attached(&self, sk: &mut HookCx<'_>) {
        sk.set_cb_flags(cb::WRITE_HDR_OPT).unwrap();
        self.note(&format!("attached in {:?}", sk.view().state));
    }
    fn detached(&self, sk: &mut HookCx<'_>) {
        self.note(&format!("detached in {:?}, value {}", sk.view().state, sk.value()));
    }
    fn timeout_init(&self, sk: &mut HookCx<'_>) -> Option<Duration> {
        self.note(if sk.view().is_fullsock { "timeout of a SYN" } else { "timeout of a request" });
        None
    }
    fn tcp_connect(&self, sk: &mut HookCx<'_>) {
        sk.set_cb_flags(cb::WRITE_HDR_OPT).unwrap();
        self.note("connect");
    }
    fn listen(&self, sk: &mut HookCx<'_>) {
        sk.set_cb_flags(cb::WRITE_HDR_OPT).unwrap();
        self.note("listen");
    }
    fn passive_established(&self, sk: &mut HookCx<'_>, _: &[u8], _: &[u8]) {
        sk.set_value(5).unwrap();
        self.note("passive");
    }
    fn hdr_opt_len(&self, _: &mut HookCx<'_>, _: &HdrSeg<'_>) -> usize {
        4
    }
    fn write_hdr_opt(&self, _: &mut HookCx<'_>, _: &HdrSeg<'_>, out: &mut HdrWriter<'_>) {
        if self.kind != 0 {
            assert_eq!(out.store(&[self.kind + 1, 4, 0, 0]), Err(Error::Inval), "it said what it writes");
        }
        out.store(&[self.kind.max(200), 4, 7, 7]).unwrap();
    }
}

const SYN_RECEIVED: &[&str] = &["timeout of a request"];
const A: u8 = 210;
const B: u8 = 211;

fn to_remote(prefix: &str) -> Filter {
    Filter { remote: Some(prefix.parse().unwrap()), ..Filter::default() }
}

fn to_ports(remote_ports: std::ops::RangeInclusive<u16>) -> Filter {
    Filter { remote_ports, ..Filter::default() }
}

/// Kinds of the hooks' options in a packet.
fn kinds(p: &[u8]) -> Vec<u8> {
    let options = TcpHeader::parse(&p[20..]).unwrap().option_bytes().to_vec();
    crate::wire::tcp_options::RawOptions::new(&options).map(|o| o.kind).filter(|k| *k >= 200).collect()
}

/// Kinds of the hooks' options in the segments of `len` bytes that a program sends.
fn sent(h: &Host, c: &Conn, len: usize) -> Vec<Vec<u8>> {
    c.socket.setsockopt(libc::IPPROTO_TCP, libc::TCP_NODELAY, &1i32.to_ne_bytes()).unwrap();
    c.send(len).unwrap();
    h.bench.poll().iter().map(|p| kinds(p)).collect()
}

fn bench_with(hooks: &[&Arc<Tag>]) -> Bench {
    let b = Bench::on_ip();
    for hook in hooks {
        register(&b.stack, (*hook).clone()).unwrap();
    }
    b
}

fn set(s: &Socket, option: i32, name: &str) -> Result<()> {
    s.setsockopt(libc::IPPROTO_TCP, option, name.as_bytes())
}

fn names_of(s: &Socket) -> String {
    let mut value = [0; 64];
    let len = s.getsockopt(libc::IPPROTO_TCP, opt::HOOKS, &mut value).unwrap();
    assert!(len == 0 || value[len - 1] == 0);
    String::from_utf8(value[..len.saturating_sub(1)].to_vec()).unwrap()
}

fn why<T>(r: std::result::Result<T, Refused>) -> (Error, String) {
    r.err().map(|r| (r.error, r.why)).unwrap()
}

#[test]
fn a_listeners_connections_have_what_is_attached_to_it_and_keep_it_when_it_is_detached() {
    let (a, all) = (Tag::chosen("a", A), Tag::of("all", Scope::Stack, 0));
    let h = Host::on(bench_with(&[&a, &all]), 8);
    assert_eq!((all.take_log(), a.take_log()), (vec!["listen".to_owned()], vec![]));
    let before = h.connect(4000, SYN_OPTIONS);
    assert_eq!(sent(&h, &before, 5), [[200]]);
    set(&h.listener, opt::HOOKS, "a").unwrap();
    assert_eq!(a.take_log(), ["attached in Listen"]);
    assert_eq!((names_of(&h.listener), names_of(&before.socket)), ("a,all".to_owned(), "all".to_owned()));
    // The SYN-ACK, and everything behind it.
    let answer = h.bench.inject(&Seg { options: SYN_OPTIONS.to_vec(), ..Seg::new(4001, SYN, ISS, 0) }.bytes());
    assert_eq!(kinds(&answer[0]), [A, 200], "in the order of registration");
    assert_eq!(a.take_log(), SYN_RECEIVED);
    let c = h.connect(4002, SYN_OPTIONS);
    assert_eq!(sent(&h, &c, 5), [[A, 200]]);
    assert_eq!(a.take_log(), ["timeout of a request", "passive"]);

    set(&h.listener, opt::HOOKS_DETACH, "a").unwrap();
    assert_eq!(a.take_log(), ["detached in Listen, value 0"]);
    assert_eq!((sent(&h, &c, 5), names_of(&c.socket)), (vec![vec![A, 200]], "a,all".to_owned()));
    let after = h.connect(4003, SYN_OPTIONS);
    assert_eq!((sent(&h, &after, 5), names_of(&after.socket)), (vec![vec![200]], "all".to_owned()));
    assert_eq!(a.take_log(), [] as [&str; 0]);
    // The connection that began while it was attached has it, though its handshake ends only now.
    let seq = TcpHeader::parse(&answer[0][20..]).unwrap().seq().0;
    h.put(&Seg::new(4001, ACK, ISS + 1, seq.wrapping_add(1)));
    assert_eq!(a.take_log(), ["passive"]);
    assert_eq!(names_of(&h.listener.accept().unwrap().0), "a,all");
}

#[test]
fn a_connection_gets_and_loses_the_option_with_the_hook_and_its_room_is_the_payloads() {
    let a = Tag::chosen("a", A);
    let h = Host::on(bench_with(&[&a]), 8);
    let c = h.connect(4000, SYN_OPTIONS);
    c.socket.setsockopt(libc::IPPROTO_TCP, libc::TCP_NODELAY, &1i32.to_ne_bytes()).unwrap();
    let mss = |c: &Conn| {
        let len = c.send(4000).unwrap();
        let sizes: Vec<usize> =
            h.bench.poll().iter().map(|p| TcpHeader::parse(&p[20..]).unwrap().payload().len()).collect();
        assert_eq!(sizes.iter().sum::<usize>(), len);
        sizes[0]
    };
    assert_eq!((mss(&c), c.tcb(|tp| tp.sock_ops_flags)), (1460, 0));
    set(&c.socket, opt::HOOKS, "a").unwrap();
    assert_eq!(a.take_log(), ["attached in Established"]);
    assert_eq!(mss(&c), 1456);
    assert_eq!(a.options.load(Ordering::Relaxed), 1, "when it was registered, and not for a segment");
    set(&c.socket, opt::HOOKS_DETACH, "a").unwrap();
    assert_eq!(a.take_log(), ["detached in Established, value 0"]);
    assert_eq!((mss(&c), c.tcb(|tp| tp.sock_ops_flags), names_of(&c.socket)), (1460, 0, String::new()));
    // What was sent with it is sent again without it.
    let again = h.bench.advance(Duration::from_millis(1500));
    assert!(!again.is_empty() && again.iter().all(|p| kinds(p).is_empty()));
}

#[test]
fn a_filter_chooses_connections_when_they_begin_and_costs_the_others_nothing() {
    let a = Tag::chosen("a", A);
    let b = bench_with(&[&a]);
    set_filters(&b.stack, "a", &[to_ports(5000..=5009), to_remote("192.0.2.0/24")]).unwrap();
    let h = Host::on(b, 8);
    assert_eq!(a.take_log(), ["listen"], "some of its connections may match");
    let (inside, outside) = (h.connect(5009, SYN_OPTIONS), h.connect(5010, SYN_OPTIONS));
    assert_eq!(a.take_log(), ["timeout of a request", "passive"]);
    assert_eq!((sent(&h, &inside, 5), sent(&h, &outside, 5)), (vec![vec![A]], vec![vec![]]));
    assert_eq!((names_of(&inside.socket), names_of(&outside.socket)), ("a".to_owned(), String::new()));
    assert_eq!(outside.tcb(|tp| (tp.sock_ops_flags, tp.cold.as_ref().map_or(0, |c| c.hooks.len()))), (0, 0));
    // Other filters are for connections that begin later.
    set_filters(&h.bench.stack, "a", &[to_remote("10.0.0.0/8")]).unwrap();
    assert_eq!((sent(&h, &inside, 5), sent(&h, &outside, 5)), (vec![vec![A]], vec![vec![]]));
    let third = h.connect(5011, SYN_OPTIONS);
    assert_eq!(sent(&h, &third, 5), [[A]]);
    set_filters(&h.bench.stack, "a", &[]).unwrap();
    let fourth = h.connect(5012, SYN_OPTIONS);
    assert_eq!(sent(&h, &fourth, 5), [[]]);
    // Detached from one that has it by a filter.
    set(&inside.socket, opt::HOOKS_DETACH, "a").unwrap();
    assert_eq!(sent(&h, &inside, 5), [[]]);
    assert_eq!(a.take_log().last().unwrap(), "detached in Established, value 5");
}

#[test]
fn a_listener_that_a_filter_cannot_match_is_not_asked() {
    let a = Tag::chosen("a", A);
    let b = bench_with(&[&a]);
    let local =
        |prefix: &str, ports| Filter { local: Some(prefix.parse().unwrap()), local_ports: ports, ..Filter::default() };
    set_filters(&b.stack, "a", &[local("192.0.2.0/24", 0..=u16::MAX), local("10.0.0.0/8", 81..=90)]).unwrap();
    let h = Host::on(b, 8);
    assert_eq!(sent(&h, &h.connect(4000, SYN_OPTIONS), 5), [[]]);
    assert_eq!(a.take_log(), [] as [&str; 0]);
    assert_eq!(h.bench.stack.mib.get(Mib::TcpPassiveOpens), 1);
}

#[test]
fn a_hook_whose_filter_comes_after_listen_is_asked_before_the_first_syn_ack() {
    for cookies in ["1", "2"] {
        let a = Tag::chosen("a", A);
        let b = bench_with(&[&a]);
        b.stack.sysctl.set("net.ipv4.tcp_syncookies", cookies).unwrap();
        let h = Host::on(b, 8);
        assert_eq!(a.take_log(), [] as [&str; 0]);
        set_filters(&h.bench.stack, "a", &[to_ports(4000..=4001)]).unwrap();
        let syn = |port| Seg { options: SYN_OPTIONS.to_vec(), ..Seg::new(port, SYN, ISS, 0) }.bytes();
        // One that it does not choose changes nothing.
        assert_eq!(kinds(&h.bench.inject(&syn(5000))[0]), []);
        assert_eq!((a.take_log(), names_of(&h.listener)), (vec![], String::new()));
        assert_eq!(kinds(&h.bench.inject(&syn(4000))[0]), [A], "cookies {cookies}");
        assert_eq!(
            (a.take_log(), &*names_of(&h.listener)),
            (vec!["listen".to_owned(), SYN_RECEIVED[0].to_owned()], "a")
        );
        let (inside, outside) = (h.connect(4001, SYN_OPTIONS), h.connect(5001, SYN_OPTIONS));
        assert_eq!((sent(&h, &inside, 5), sent(&h, &outside, 5)), (vec![vec![A]], vec![vec![]]));
        let log = a.take_log();
        assert_eq!(log.iter().filter(|l| *l == "listen").count(), 0, "once: {log:?}");
        assert_eq!(outside.tcb(|tp| (tp.sock_ops_flags, tp.cold.as_ref().map_or(0, |c| c.hooks.len()))), (0, 0));
    }
}

/// A socket that connects to the peer's port 80, and the kinds of options on its SYN.
fn connect(b: &Bench, s: &Socket) -> Vec<u8> {
    s.set_nonblocking(true);
    assert_eq!(s.connect(Some(SocketAddr::new(THERE.into(), PORT))), Err(Error::InProgress));
    kinds(&b.poll()[0])
}

#[test]
fn an_active_open_is_chosen_by_its_ends_each_time_and_what_is_attached_stays() {
    let (a, c) = (Tag::chosen("a", A), Tag::chosen("c", B));
    let b = bench_with(&[&a, &c]);
    set_filters(&b.stack, "a", &[Filter { local: Some(format!("{HERE}/32").parse().unwrap()), ..to_ports(80..=80) }])
        .unwrap();
    let s = Socket::new(&b.stack, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
    assert_eq!(names_of(&s), "");
    set(&s, opt::HOOKS, "c").unwrap();
    assert_eq!(connect(&b, &s), [A, B]);
    assert_eq!(a.take_log(), ["connect", "timeout of a SYN"]);
    assert_eq!(c.take_log(), ["attached in Close", "connect", "timeout of a SYN"]);
    s.connect(None).unwrap();
    b.poll();
    set_filters(&b.stack, "a", &[to_ports(81..=81)]).unwrap();
    assert_eq!(connect(&b, &s), [B]);
    assert_eq!((a.take_log(), names_of(&s)), (vec![], "c".to_owned()));
}

#[test]
fn a_connection_that_a_cookie_makes_has_its_hooks() {
    let a = Tag::chosen("a", A);
    let b = bench_with(&[&a]);
    b.stack.sysctl.set("net.ipv4.tcp_syncookies", "2").unwrap();
    set_filters(&b.stack, "a", &[to_ports(4000..=4000)]).unwrap();
    let h = Host::on(b, 8);
    let (c, d) = (h.connect(4000, SYN_OPTIONS), h.connect(4001, SYN_OPTIONS));
    assert_eq!(h.bench.stack.mib.get(Mib::TcpExtSyncookiesRecv), 2);
    assert_eq!((sent(&h, &c, 5), sent(&h, &d, 5)), (vec![vec![A]], vec![vec![]]));
}

#[test]
fn what_is_attached_comes_before_a_filter_where_both_write_the_same_option() {
    let (a, b) = (Tag::chosen("a", A), Tag::chosen("b", A));
    let bench = bench_with(&[&a, &b]);
    set_filters(&bench.stack, "a", &[Filter::default()]).unwrap();
    let h = Host::on(bench, 8);
    let first = h.connect(4000, SYN_OPTIONS);
    assert_eq!(names_of(&first.socket), "a");
    set(&h.listener, opt::HOOKS, "b").unwrap();
    let c = h.connect(4001, SYN_OPTIONS);
    assert_eq!((names_of(&h.listener), names_of(&c.socket)), ("b".to_owned(), "b".to_owned()));
    assert_eq!(sent(&h, &c, 5), [[A]]);
    let (error, line) = why(attach(&h.bench.stack, c.socket.sock(), "a"));
    assert_eq!((error, &*line), (Error::Exist, r#"option kind 210 is written by the hooks "b""#));
}

#[test]
fn what_does_not_fit_is_refused_and_the_reason_is_a_line() {
    let (all, a, b) = (Tag::of("all", Scope::Stack, B), Tag::chosen("a", A), Tag::chosen("b", A));
    let bench = bench_with(&[&all, &a, &b]);
    let stack = &bench.stack;
    for (kind, error, line) in [
        (B, Error::Exist, r#"option kind 211 is written by the hooks "all""#),
        (8, Error::Inval, "option kind 8 is TCP's own"),
        (172, Error::Inval, "option kind 172 is TCP's own"),
        (254, Error::Inval, "option kind 254: kinds 253 and 254 have an ExID, and no other kind has one"),
    ] {
        assert_eq!(why(register(stack, Tag::chosen("c", kind))), (error, line.to_owned()), "{kind}");
    }
    let taken = r#"option kind 210 is written by the hooks "a""#;
    assert_eq!(why(register(stack, Tag::of("c", Scope::Stack, A))), (Error::Exist, taken.to_owned()));
    set_filters(stack, "a", &[to_ports(1..=10)]).unwrap();
    set_filters(stack, "b", &[to_ports(11..=20)]).unwrap();
    assert_eq!(why(set_filters(stack, "b", &[to_ports(10..=20)])), (Error::Exist, taken.to_owned()));
    let line = "they are called for all sockets of the stack";
    assert_eq!(why(set_filters(stack, "all", &[])), (Error::Inval, line.to_owned()));
    assert_eq!(why(set_filters(stack, "none", &[])), (Error::NoEnt, r#"there are no hooks "none""#.to_owned()));

    let s = Socket::new(stack, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
    let udp = Socket::new(stack, libc::AF_INET, libc::SOCK_DGRAM, 0).unwrap();
    let attach = |name| attach(stack, s.sock(), name);
    let detach = |name| detach(stack, s.sock(), name);
    assert_eq!(why(attach("none")), (Error::NoEnt, r#"there are no hooks "none""#.to_owned()));
    assert_eq!(why(attach("all")), (Error::Exist, r#"hooks "all": all sockets of the stack have them"#.to_owned()));
    assert_eq!(why(detach("a")), (Error::NoEnt, r#"hooks "a": the socket does not have them"#.to_owned()));
    attach("a").unwrap();
    assert_eq!(why(attach("a")), (Error::Exist, r#"hooks "a": the socket has them"#.to_owned()));
    assert_eq!(why(attach("b")), (Error::Exist, taken.to_owned()));
    assert_eq!(why(detach("all")).0, Error::NoEnt);
    detach("a").unwrap();
    attach("b").unwrap();
    for (option, name, error) in [
        (opt::HOOKS, "", Error::Inval),
        (opt::HOOKS, "none", Error::NoEnt),
        (opt::HOOKS, "b", Error::Exist),
        (opt::HOOKS_DETACH, "a", Error::NoEnt),
    ] {
        assert_eq!(set(&s, option, name), Err(error), "{option} {name}");
        assert_eq!(set(&udp, option, name), Err(Error::NoProtoOpt), "{option} {name}");
    }
    // One that is gone is not the one that is registered later.
    unregister(stack, "b").unwrap();
    register(stack, b).unwrap();
    assert_eq!(names_of(&s), "all");
    assert_eq!(why(detach("b")).0, Error::NoEnt);
    attach("a").unwrap();
    assert_eq!(names_of(&s), "all,a");
}
