//! Each short way beside the general one: the same calls and segments on two stacks in virtual time, of which one has
//! short ways closed ([`Way`]). After each step all that a program, a peer or a counter can see must be the same. A
//! failure names the ways that differ when they alone are closed.
//!
//! | file | what |
//! |---|---|
//! | `acts` | what is done with a connection |
//! | `openings` | how connections begin and end |
//! | `endings` | their last segments |
//! | `syns` | which SYNs go a short way |
//! | `thirds` | the segments that make a child |

mod acts;
mod endings;
mod openings;
mod syns;
mod thirds;

use super::peer_test::{Conn, Host, ISS, SYN, SYN_OPTIONS, Seg, THERE};
use super::sockopt::opt;
use super::tcb::Cx;
use super::ulp::{Ulp, set_layer};
use crate::base::cases::so_many;
use crate::base::env::Duration;
use crate::base::error::{Error, Result};
use crate::base::ways::Way;
use crate::base::ways::testing::{ALL, count, without};
use crate::device::capture_test::Bench;
use crate::inet::Socket;
use crate::sock::layer::Layer;
use crate::sock::msg::{RecvMsg, SendMsg};
use crate::sock::pages::Pages;
use crate::sock::proto::Dumped;
use crate::sock::skb::{Known, TcpCb};
use crate::sock::wait::{Events, Watch};
use crate::sock::{Sock, SockGuard, crowd};
use crate::sys::lock::Mutex;
use crate::wire::tcp::TcpHeader;
use acts::{Acks, Act, Call, Incoming, Memory, Peer, Setting, act, setting};
use proptest::prelude::*;
use std::cell::RefCell;
use std::fmt::{self, Write};
use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

// ---- A stack on which it is done.

/// A layer that changes nothing.
struct Through;
impl Layer for Through {}
impl Ulp for Through {
    fn name(&self) -> &str {
        "through"
    }
    fn init(&self, sk: &mut SockGuard<'_>) -> Result<()> {
        set_layer(sk, Through)
    }
}

/// What a sock's waiters are told.
#[derive(Default)]
struct Wakes(Mutex<Vec<u32>>);
impl Watch for Wakes {
    fn notify(&self, events: Events) {
        self.0.lock().push(events.0);
    }
    /// As a signal is: two wake-ups in a row are not one.
    fn counts(&self) -> bool {
        true
    }
}

struct Side {
    host: Host,
    ends: Vec<Socket>,
    /// The peer's port.
    port: u16,
    stamps: bool,
    wakes: Vec<Arc<Wakes>>,
    spy: Option<Socket>,
    /// Packets that left since the last look.
    sent: RefCell<Vec<Vec<u8>>>,
}

fn looped_pair(host: &Host) -> Vec<Socket> {
    let stack = &host.bench.stack;
    let socket = || Socket::new(stack, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
    let (listener, client) = (socket(), socket());
    client.set_nonblocking(true);
    listener.bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 81)).unwrap();
    listener.listen(5).unwrap();
    let at = listener.local_addr().unwrap();
    assert!(matches!(client.connect(Some(at)), Ok(()) | Err(Error::InProgress)));
    host.sent();
    let (server, _) = listener.accept().unwrap();
    vec![client, server]
}

impl Side {
    fn new(set: &Setting) -> Side {
        let host = Host::on(Bench::on_ip(), 5);
        let stack = &host.bench.stack;
        super::ulp::register(stack, Arc::new(Through)).unwrap();
        stack.sysctl.set("net.ipv4.tcp_congestion_control", set.algorithm).unwrap();
        for (name, value) in &set.sysctls {
            stack.sysctl.set(name, value).unwrap();
        }
        if !set.timestamps {
            stack.sysctl.set("net.ipv4.tcp_timestamps", "0").unwrap();
        }
        if set.small {
            host.listener.setsockopt(libc::SOL_SOCKET, libc::SO_RCVBUF, &1i32.to_ne_bytes()).unwrap();
        }
        let stamps: &[u8] = if set.timestamps { &[1, 1, 8, 10, 0, 0, 3, 232, 0, 0, 0, 0] } else { &[] };
        let made = |options: &[u8], flags: u8, ae: bool| {
            let syn = Seg { options: [options, stamps].concat(), ae, ..Seg::new(4000, SYN | flags, ISS, 0) };
            let Conn { socket, port, .. } = host.connect_by(&syn);
            (vec![socket], port, None)
        };
        let (ends, port, spy) = match set.peer {
            Peer::Here => {
                let spy = Socket::new(stack, libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_TCP).unwrap();
                spy.set_nonblocking(true);
                (looped_pair(&host), 0, Some(spy))
            }
            Peer::Made => made(SYN_OPTIONS, 0, false),
            Peer::Plain => made(&[2, 4, 2, 24], 0, false),
            Peer::Ecn => made(SYN_OPTIONS, 64 | 128, true),
            Peer::Silent => {
                let client = Socket::new(stack, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
                client.set_nonblocking(true);
                assert_eq!(client.connect(Some(SocketAddr::new(IpAddr::V4(THERE), 90))), Err(Error::InProgress));
                (vec![client], 90, None)
            }
        };
        let wakes: Vec<Arc<Wakes>> = ends.iter().map(|_| Arc::default()).collect();
        for (end, wakes) in ends.iter().zip(&wakes) {
            end.set_nonblocking(true);
            end.sock().wait.add(Events::ALL, false, wakes.clone());
            let on = i32::from(set.nodelay).to_ne_bytes();
            end.setsockopt(libc::IPPROTO_TCP, opt::NODELAY, &on).unwrap();
        }
        Side { host, ends, port, stamps: set.timestamps, wakes, spy, sent: RefCell::default() }
    }

    /// Without a connection.
    fn of(host: Host, spy: Option<Socket>) -> Side {
        let (ends, wakes, sent) = (Vec::new(), Vec::new(), RefCell::default());
        Side { host, ends, port: 0, stamps: true, wakes, spy, sent }
    }

    /// These packets were sent.
    fn note(&self, packets: Vec<Vec<u8>>) {
        self.sent.borrow_mut().extend(packets);
    }

    fn end(&self, n: usize) -> &Socket {
        &self.ends[n % self.ends.len()]
    }

    /// The bytes of a peer's segment.
    fn segment(&self, end: &Socket, i: &Incoming) -> Option<Vec<u8>> {
        let mut g = end.sock().lock(end.stack());
        let cx = Cx::new(&mut g)?;
        let (una, nxt) = (cx.tp.snd_una, cx.tp.snd_nxt);
        let ack = match i.ack {
            Acks::All => nxt,
            Acks::Nothing => una,
            Acks::Half => una + nxt.since(una) / 2,
            Acks::Old => una - 10,
            Acks::TooMuch => nxt + 5,
        };
        let seq = cx.tp.rcv_nxt.0.wrapping_add_signed(i.seq);
        let now = cx.stack.now().as_millis() as u32;
        let (val, ecr) = (now.wrapping_sub(i.late), now.wrapping_add(cx.tp.tsoffset).wrapping_sub(i.late / 2));
        let mut options = Vec::new();
        if self.stamps {
            options = [&[1, 1, 8, 10][..], &val.to_be_bytes(), &ecr.to_be_bytes()].concat();
        }
        let data = (0..i.len).map(|k| seq.wrapping_add(k as u32) as u8 ^ 0x35).collect();
        let (window, urgent, tos) = (i.window, i.urgent, if i.ce { 3 } else { 0 });
        Some(Seg { window, urgent, options, data, tos, ..Seg::new(self.port, i.flags, seq, ack.0) }.bytes())
    }

    /// What the peer does, or the end at the other side.
    fn peer(&self, n: usize, i: &Incoming) -> String {
        if self.ends.len() > 1 {
            let other = self.end(n + 1);
            let read = Call::Recv { len: i.len, cut: usize::MAX, flags: 0, memory: Memory::Good };
            let sent = Call::Send { len: i.len, cut: usize::MAX, flags: 0, memory: Memory::Good, control: None };
            return format!("{} {}", call_socket(other, &read), call_socket(other, &sent));
        }
        let Some(bytes) = self.segment(self.end(n), i) else { return "no connection".into() };
        self.note(self.host.bench.inject(&bytes));
        String::new()
    }

    fn play(&self, act: &Act) -> String {
        match act {
            Act::Call(n, call) => call_socket(self.end(*n), call),
            Act::Queued(n, calls) => {
                let end = self.end(*n);
                let said = calls.iter().map(|call| call_with(call, |m| end.sendmsg_queued(m), |m| end.recvmsg(m)));
                said.collect::<Vec<_>>().join("; ")
            }
            Act::Busy(n, segs, call) => {
                let end = self.end(*n);
                let segs: Vec<_> = if self.ends.len() > 1 {
                    Vec::new()
                } else {
                    segs.iter().filter_map(|i| self.segment(end, i)).collect()
                };
                let owner = std::cell::RefCell::new(end.sock().lock(end.stack()));
                let mut said = String::new();
                if self.ends.len() > 1 {
                    let sent = Call::Send { len: 9, cut: 9, flags: 0, memory: Memory::Good, control: None };
                    said = call_socket(self.end(n + 1), &sent);
                }
                for seg in segs {
                    self.note(self.host.bench.inject(&seg));
                }
                let proto = end.sock().proto();
                let dontwait = |flags: &mut i32| *flags |= libc::MSG_DONTWAIT;
                said + &call_with(
                    call,
                    |m| {
                        dontwait(&mut m.flags);
                        proto.sendmsg_locked(&mut owner.borrow_mut(), m)
                    },
                    |m| {
                        dontwait(&mut m.flags);
                        proto.recvmsg_locked(&mut owner.borrow_mut(), m)
                    },
                )
            }
            Act::Peer(n, i) => self.peer(*n, i),
            Act::Option(n, level, name, value) => format!("{:?}", self.end(*n).setsockopt(*level, *name, value)),
            Act::Shutdown(n, how) => format!("{:?}", self.end(*n).shutdown(*how)),
            Act::Fail(n, errno) => {
                self.end(*n).sock().err.store(*errno, Ordering::Relaxed);
                String::new()
            }
            Act::Poll(n) => format!("{:?}", self.end(*n).poll()),
            Act::Wait(us) => {
                self.note(self.host.bench.advance(Duration::from_micros(*us)));
                String::new()
            }
            Act::Room(n) => {
                *self.host.bench.wire.room.lock() = *n;
                String::new()
            }
            Act::Hold(on) => {
                let held = self.host.bench.wire.held.lock().take();
                *self.host.bench.wire.held.lock() = on.then(Vec::new);
                drop(held);
                String::new()
            }
            Act::Reroute => {
                self.host.bench.stack.rt_genid_bump();
                String::new()
            }
            Act::SpliceEof(n) => {
                self.end(*n).splice_eof();
                String::new()
            }
        }
    }

    /// All that can be seen, a thing a line. Lines without a colon are bytes of packets, which say nothing where they
    /// are old.
    fn show(&self, out: &mut dyn Write) -> fmt::Result {
        let stack = &self.host.bench.stack;
        self.note(self.host.bench.wire.take());
        for p in self.sent.take() {
            writeln!(out, "wire: {} {:x?}", p.len(), &p[..p.len().min(100)])?;
            if let Some(h) = TcpHeader::parse(&p[20..]).ok().filter(|h| h.seq_len() > 0) {
                writeln!(out, "sent: {} {} {}", h.seq().0, h.payload().len(), h.flags())?;
            }
        }
        if let Some(spy) = &self.spy {
            let mut buf = vec![0; 70_000];
            while let Ok(n) = spy.recvmsg(&mut RecvMsg::new(&mut [IoSliceMut::new(&mut buf)], 0)) {
                writeln!(out, "spied: {n} {:x?} {:x}", &buf[..n.min(60)], hash(&buf[..n]))?;
            }
        }
        writeln!(out, "next event: {:?}", stack.next_event())?;
        for (end, wakes) in self.ends.iter().zip(&self.wakes) {
            writeln!(out, "woken: {:x?}", std::mem::take(&mut *wakes.0.lock()))?;
            show_sock(end.sock(), out)?;
            let mut info = [0; 512];
            let len = end.getsockopt(libc::IPPROTO_TCP, opt::INFO, &mut info).unwrap_or(0);
            writeln!(out, "tcp_info: {:?}", &info[..len])?;
            let mut g = end.sock().lock(stack);
            let sk = &g.common;
            let memory = (sk.wmem_queued, sk.forward_alloc, sk.err_soft, sk.peek_off, sk.rcvlowat);
            writeln!(out, "common: {memory:?} {:x} {:x}", sk.flags, sk.ip_flags)?;
            for skb in sk.receive_queue.iter() {
                let bytes = hash(&skb.to_vec());
                // How much of the header was known beforehand is the difference between the ways.
                let cb = TcpCb { known: Known::Nothing, ..skb.tcp };
                writeln!(out, "received: {} {} {bytes:x} {cb:?}", skb.len(), skb.truesize)?;
            }
            if let Some(cx) = Cx::new(&mut g) {
                // Only the short ways ask for it.
                cx.tp.peer_hash = 0;
                writeln!(out, "{:#?}", cx.tp)?;
            }
        }
        let accounts = self.ends[0].sock().accounts();
        let (sockets, pages) = (accounts.sockets.sum(), accounts.pages.sum());
        writeln!(out, "accounts: {sockets} {pages} {:?} {}", accounts.pressure, accounts.orphans.sum())?;
        if let Some(cx) = Cx::new(&mut self.host.listener.sock().lock(stack)) {
            cx.tp.net.metrics.show(|block| writeln!(out, "remembered: {block:?}"))?;
        }
        let mut hashed = Vec::new();
        self.ends[0].sock().proto().diag_dump(&mut |d| {
            hashed.push(match d {
                Dumped::Sock(s) => format!("hashed: {:?} {:x}", s.state(), s.family),
                Dumped::Mini(state, own, peer) => format!("hashed: {state:?} {own} {peer}"),
            });
        });
        hashed.sort_unstable();
        hashed.iter().try_for_each(|line| writeln!(out, "{line}"))?;
        for (name, n) in stack.mib.iter().filter(|(_, n)| *n != 0) {
            writeln!(out, "{name}: {n}")?;
        }
        for (reason, n) in stack.mib.iter_drops().filter(|(_, n)| *n != 0) {
            writeln!(out, "drop {reason:?}: {n}")?;
        }
        Ok(())
    }
}

/// Numbers outside the lock.
fn show_sock(s: &Sock, out: &mut dyn Write) -> fmt::Result {
    let (err, down, tsq) = (&s.err, &s.shutdown, &s.tsq_flags);
    writeln!(out, "state: {:?} error {err:?} shutdown {down:?} tsq {tsq:?} drops {:?}", s.state(), s.drops)?;
    writeln!(out, "rmem_alloc: {:?} of {:?}", s.rmem_alloc, s.rcvbuf)?;
    writeln!(out, "wmem_alloc: {:?} of {:?}", s.wmem_alloc, s.sndbuf)?;
    writeln!(out, "unowned: {:?}", s.unowned())
}

/// Which of the lines that are shown must be the same.
type Keep = fn(&str) -> bool;

/// A hash of the lines that are written.
struct Lines {
    hash: u64,
    line: String,
    keep: Keep,
}

impl Write for Lines {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for part in s.split_inclusive('\n') {
            self.line.push_str(part);
            if part.ends_with('\n') {
                if (self.keep)(&self.line) {
                    self.hash = (self.hash ^ hash(self.line.as_bytes())).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                }
                self.line.clear();
            }
        }
        Ok(())
    }
}

fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(1, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3))
}

/// A call on a socket; what came of it.
fn call_socket(s: &Socket, call: &Call) -> String {
    match call {
        Call::SendPages { len, flags } => {
            let mut pages = Pages::default();
            pages.put(&pattern(*len));
            let sent = s.send_pages(&mut pages, *len, *flags);
            format!("{sent:?}, {} left", pages.len())
        }
        Call::RecvPages { len, flags } => {
            let mut pages = Pages::default();
            let got = s.recv_pages(&mut pages, *len, *flags);
            let bytes = pages.slices().iter().flat_map(|s| s.to_vec()).collect::<Vec<_>>();
            format!("{got:?}, {} {:x}", bytes.len(), hash(&bytes))
        }
        call => call_with(call, |m| s.sendmsg(m), |m| s.recvmsg(m)),
    }
}

const PAGE: usize = 4096;

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i ^ (i >> 7)) as u8).collect()
}

/// A call by other functions than the socket's; pages are ordinary memory then.
fn call_with(
    call: &Call,
    send: impl FnOnce(&mut SendMsg<'_>) -> Result<usize>,
    recv: impl FnOnce(&mut RecvMsg<'_, '_>) -> Result<usize>,
) -> String {
    match call.clone() {
        Call::SendPages { len, flags } => {
            let memory = Memory::Good;
            call_with(&Call::Send { len, cut: len, flags, memory, control: None }, send, recv)
        }
        Call::RecvPages { len, flags } => {
            call_with(&Call::Recv { len, cut: len, flags, memory: Memory::Good }, send, recv)
        }
        Call::Send { len, cut, flags, memory, control } => {
            // MSG_ZEROCOPY charges by the pages that the bytes lie in.
            let mut room = vec![0; len + PAGE];
            let at = room.as_ptr().align_offset(PAGE);
            let data = &mut room[at..][..len];
            data.copy_from_slice(&pattern(len));
            let (a, b) = data.split_at(cut.min(len));
            let slices = [IoSlice::new(a), IoSlice::new(b)];
            let mut msg = SendMsg::new(&slices, flags).probed(memory.probe());
            msg.control = control.into_iter().collect();
            let sent = send(&mut msg);
            format!("{sent:?}, {} left, {}", msg.remaining(), msg.faulted())
        }
        Call::Recv { len, cut, flags, memory } => {
            let mut data = vec![0xee; len];
            let (a, b) = data.split_at_mut(cut.min(len));
            let mut slices = [IoSliceMut::new(a), IoSliceMut::new(b)];
            let mut msg = RecvMsg::new(&mut slices, flags).probed(memory.probe());
            let got = recv(&mut msg);
            let said = format!("{got:?}, {:x} {:?} {}", msg.out_flags, msg.control, msg.faulted());
            format!("{said} {:x}", hash(&data))
        }
    }
}

// ---- Both, side by side.

/// Plays something with these ways closed, and has the other function look at the side before the first step and after
/// each, with what the step answered.
type Play<'a> = &'a dyn Fn(&[Way], &mut dyn FnMut(&Side, &str));

/// Plays the acts so.
fn play(set: &Setting, acts: &[Act], closed: &[Way], step: &mut dyn FnMut(&Side, &str)) {
    without(closed, || {
        let side = Side::new(set);
        step(&side, "");
        for act in acts {
            let said = side.play(act);
            // What the call left is done before anything is looked at.
            side.host.bench.stack.poll(side.host.bench.stack.now());
            step(&side, &said);
        }
    });
}

/// A hash of what could be seen at each step.
fn trace(play: Play<'_>, closed: &[Way], keep: Keep) -> Vec<u64> {
    let mut hashes = Vec::new();
    play(closed, &mut |side, said| {
        let mut lines = Lines { hash: 0, line: String::new(), keep };
        let _ = writeln!(lines, "result: {said}");
        let _ = side.show(&mut lines);
        hashes.push(lines.hash);
    });
    hashes
}

/// What could be seen at one step.
fn seen(play: Play<'_>, closed: &[Way], step: usize) -> Vec<String> {
    let (mut at, mut text) = (0, String::new());
    play(closed, &mut |side, said| {
        let mut shown = format!("result: {said}\n");
        let _ = side.show(&mut shown);
        if at == step {
            text = shown;
        }
        at += 1;
    });
    text.lines().map(str::to_owned).collect()
}

/// `name`: what a step is.
fn compare(
    play: Play<'_>,
    name: &dyn Fn(usize) -> String,
    ways: &[Way],
    keep: Keep,
) -> std::result::Result<(), TestCaseError> {
    // Among few, some ways are not taken; other tests must not change what they are between one play and the next.
    let _many = crowd::pretend();
    let short = trace(play, &[], keep);
    let differs = |ways: &[Way]| trace(play, ways, keep).iter().zip(&short).position(|(a, b)| a != b);
    let Some(step) = differs(ways) else { return Ok(()) };
    let alone: Vec<_> = ways.iter().filter(|way| differs(&[**way]).is_some()).collect();
    let (a, b) = (seen(play, &[], step), seen(play, ways, step));
    let only = |a: &[String], b: &[String], name: &str| {
        a.iter().filter(|l| keep(l) && !b.contains(l)).map(|l| format!("{name}: {}", l.trim())).collect::<Vec<_>>()
    };
    let lines = [only(&a, &b, "short"), only(&b, &a, "general")].concat();
    let act = step.checked_sub(1).map(name);
    Err(TestCaseError::fail(format!("by {alone:?}, step {step}, {act:?}: {lines:#?}")))
}

/// All but header prediction: see [`received`].
fn exact_ways() -> Vec<Way> {
    ALL.into_iter().filter(|way| *way != Way::Predict).collect()
}

/// Bytes of packets say nothing where they are old: their lines have no colon. Whether a sock has its receiver noted is
/// not to be seen, and only a short way forgets one that is out of date.
fn exact(line: &str) -> bool {
    line.contains(':') && !line.trim_start().starts_with("receiver:")
}

/// What a predicted segment must leave as any other does. The rest differs as it does in Linux, whose fast path sends
/// no acknowledgement for an acknowledgement, pushes nothing that waits unless something was acknowledged, takes
/// TS.Recent from an old acknowledgement, and takes snd_wl1 from each segment, by which a later window is judged
/// (tcp_rcv_established): so nothing is sent in that test, and the peer's window is not compared.
fn received(line: &str) -> bool {
    const SAME: [&str; 11] = [
        "result:",
        "state:",
        "rmem_alloc:",
        "common:",
        "received:",
        "accounts:",
        "rcv_nxt:",
        "copied_seq:",
        "urg_data:",
        "bytes_received:",
        "snd_una:",
    ];
    let line = line.trim_start();
    SAME.iter().any(|name| line.starts_with(name))
}

proptest! {
    #![proptest_config(so_many(80))]

    #[test]
    fn short_ways_do_what_the_general_ones_do(set in setting(), acts in prop::collection::vec(act(), 1..50)) {
        let play = |closed: &[Way], look: &mut dyn FnMut(&Side, &str)| play(&set, &acts, closed, look);
        compare(&play, &|n| format!("{:?}", acts[n]), &exact_ways(), exact)?;
    }

    #[test]
    fn predicted_segments_are_received_as_others_are(
        // Beyond its buffer a predicted segment is taken as it is, another one has the queue copied together.
        set in setting()
            .prop_map(|set| Setting { small: false, ..set })
            .prop_filter("a peer made by hand", |set| matches!(set.peer, Peer::Made | Peer::Plain | Peer::Ecn)),
        acts in prop::collection::vec(act(), 20..120),
    ) {
        let receives = |act: &Act| matches!(act, Act::Call(_, Call::Recv { .. }) | Act::Peer(..) | Act::Wait(_));
        let acts: Vec<_> = acts.into_iter().filter(receives).collect();
        let play = |closed: &[Way], look: &mut dyn FnMut(&Side, &str)| play(&set, &acts, closed, look);
        compare(&play, &|n| format!("{:?}", acts[n]), &[Way::Predict], received)?;
    }
}

/// The tests say nothing of a way that is not taken.
#[test]
fn each_short_way_is_taken_by_an_exchange() {
    let _many = crowd::pretend();
    let before = ALL.map(count);
    // Behind the shortest there are others.
    for closed in [&[][..], &[Way::Plain, Way::Alone]] {
        without(closed, || {
            let sysctls = Vec::new();
            let set = Setting {
                peer: Peer::Here,
                timestamps: true,
                algorithm: "cubic",
                sysctls,
                nodelay: true,
                small: false,
            };
            let side = Side::new(&set);
            for n in 0..40 {
                let memory = Memory::Good;
                call_socket(side.end(n), &Call::Send { len: 1, cut: 1, flags: 0, memory, control: None });
                call_socket(side.end(n + 1), &Call::Recv { len: 1, cut: 1, flags: 0, memory });
            }
        });
    }
    for (way, before) in ALL.into_iter().zip(before) {
        let taken = count(way) - before;
        let few = matches!(way, Way::Delay | Way::Idle | Way::Third | Way::Closing | Way::Syn);
        assert!(taken >= if few { 1 } else { 20 }, "{way:?}: {taken}");
    }
}
