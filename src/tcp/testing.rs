//! A bench for the tests of this directory: one connection on a stack in virtual time, and a device that keeps what it
//! is given. The protocol is registered under a number of its own, so that only the file under test decides what
//! happens.

use super::tcb::{Cx, TcpSock};
use super::{chrono, sendmsg, timer};
use crate::base::env::{Duration, Instant, SeededEntropy, VirtualClock};
use crate::base::error::Result;
use crate::device::{Caps, DevStats, Device, Xmit};
use crate::driver::Parked;
use crate::ip::route::add_address;
use crate::sock::msg::{RecvMsg, SendMsg};
use crate::sock::proto::{Proto, SockRef};
use crate::sock::registry::ProtoSwitch;
use crate::sock::skb::Skb;
use crate::sock::state::State;
use crate::sock::{Private, Sock, SockGuard};
use crate::stack::runner::Runner;
use crate::stack::{Stack, StackConfig};
use crate::standard;
use crate::sys::lock::Mutex;
use crate::wire::addr::Cidr;
use crate::wire::seq::{SeqNum, WindowShift};
use crate::wire::tcp::{TcpFlags, TcpHeader};
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const NUMBER: i32 = 253;
pub(crate) const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
pub(crate) const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

struct Bare;
impl Proto for Bare {
    fn name(&self) -> &str {
        "BENCH"
    }
    fn init(&self, g: &mut SockGuard<'_>) -> Result<()> {
        let tp = TcpSock::new(&super::net::of(g.stack)?, g.stack);
        g.private = Private::new(tp);
        Ok(())
    }
    fn close(&self, _: SockRef<'_>, _: i32) {}
    fn sendmsg(&self, sk: SockRef<'_>, msg: &mut SendMsg<'_>) -> Result<usize> {
        sendmsg::sendmsg(sk, msg)
    }
    fn recvmsg(&self, _: SockRef<'_>, _: &mut RecvMsg<'_, '_>) -> Result<usize> {
        Ok(0)
    }
    fn backlog_rcv(&self, _: &mut SockGuard<'_>, _: Skb) {}
    fn release_cb(&self, g: &mut SockGuard<'_>, bits: u32) {
        if let Some(mut cx) = Cx::new(&mut *g) {
            timer::run_deferred(&mut cx, bits);
        }
    }
    fn sysctl_mem(&self, stack: &Stack) -> Option<[i64; 3]> {
        Some(stack.sysctl.tcp_mem().map(|n| n as i64))
    }
    fn sysctl_wmem(&self, stack: &Stack) -> [i32; 3] {
        stack.sysctl.tcp_wmem()
    }
    fn sysctl_rmem(&self, stack: &Stack) -> [i32; 3] {
        stack.sysctl.tcp_rmem()
    }
    fn is_stream(&self) -> bool {
        true
    }
}

/// Keeps what it is given; while `hold`, packets stay in its queue uncompleted.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    held: Mutex<Vec<Skb>>,
    sent: Mutex<Vec<Vec<u8>>>,
    times: Mutex<Vec<Instant>>,
    /// Departure times are the device's to keep.
    pub paces: AtomicBool,
    pub hold: AtomicBool,
    pub full: AtomicBool,
    /// It takes packets, and says that its queue has lost some.
    pub congested: AtomicBool,
}

impl Wire {
    /// Completes what is held.
    pub(crate) fn release(&self) {
        let held = std::mem::take(&mut *self.held.lock());
        drop(held);
    }

    /// Departure times of what it was given.
    pub(crate) fn times(&self) -> Vec<Instant> {
        self.times.lock().clone()
    }
}

impl Device for Wire {
    fn name(&self) -> &str {
        "wire"
    }
    fn caps(&self) -> Caps {
        Caps { tx_csum: true, tso: true, departure_times: self.paces.load(Ordering::Relaxed), ..Caps::ip(1500) }
    }
    fn recv(&self, _: u16, _: Instant, _: usize, _: &mut dyn FnMut(Skb)) -> io::Result<usize> {
        Ok(0)
    }
    fn xmit(&self, _: u16, _: Instant, skb: Skb) -> Xmit {
        if self.full.load(Ordering::Relaxed) {
            return Xmit::Dropped(io::Error::from_raw_os_error(libc::ENOBUFS));
        }
        self.sent.lock().push(skb.to_vec());
        self.times.lock().push(skb.tx_time);
        if self.hold.load(Ordering::Relaxed) {
            self.held.lock().push(skb);
        }
        if self.congested.load(Ordering::Relaxed) {
            return Xmit::Congested;
        }
        Xmit::Sent
    }
    fn stats(&self) -> DevStats {
        DevStats::default()
    }
}

/// A segment that left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Out {
    pub seq: u32,
    pub ack: u32,
    pub flags: TcpFlags,
    pub window: u16,
    pub options: String,
    pub data: Vec<u8>,
}

pub(crate) struct Bench {
    pub stack: Arc<Stack>,
    pub clock: Arc<VirtualClock>,
    pub sock: Arc<Sock>,
    pub wire: Arc<Wire>,
    /// Window field of the acknowledgements that tests make.
    pub window: std::cell::Cell<u16>,
}

/// Puts a connection into a state that no arrow may lead to from its own.
pub(crate) fn be_in(cx: &mut Cx<'_>, state: State) {
    cx.sock.set_state(state);
    if state == State::Established {
        cx.stack.mib.inc(crate::counters::Mib::TcpCurrEstab);
    }
}

pub(crate) const ISS: u32 = 0xffff_f000;

impl Bench {
    /// A closed connection from HERE to THERE, routed over the wire (MTU 1500).
    pub(crate) fn new() -> Bench {
        Bench::run_by(Arc::new(Parked::default()))
    }

    pub(crate) fn run_by(runner: Arc<dyn Runner>) -> Bench {
        let clock = Arc::new(VirtualClock::new());
        clock.set(Instant::from_secs(100));
        let stack =
            standard::stack(StackConfig { clock: clock.clone(), entropy: Arc::new(SeededEntropy::new(1)), runner })
                .unwrap();
        let wire = Arc::new(Wire::default());
        let dev = stack.add_device(wire.clone()).unwrap();
        add_address(&stack, &dev, Cidr::new(HERE, 24).unwrap()).unwrap();
        let proto: Arc<dyn Proto> = Arc::new(Bare);
        let key = ProtoSwitch { family: libc::AF_INET, ty: libc::SOCK_STREAM, protocol: NUMBER, default: false, proto };
        stack.registry.register(&[key], None).unwrap();
        let (used, _) = stack.registry.find(libc::AF_INET, libc::SOCK_STREAM, NUMBER).unwrap();
        let sock = Sock::new(&stack, libc::AF_INET as u16, libc::SOCK_STREAM as u16, NUMBER as u16, used);
        {
            let mut g = sock.lock(&stack);
            sock.proto().init(&mut g).unwrap();
        }
        let b = Bench { stack, clock, sock, wire, window: std::cell::Cell::new(8192) };
        b.with(|cx| {
            cx.sk.saddr = HERE;
            cx.sk.rcv_saddr = HERE;
            cx.sk.daddr = THERE;
            cx.sk.sport = 1000;
            cx.sk.dport = 2000;
            cx.tp.write_seq = SeqNum(ISS);
            cx.tp.rx_opt.mss_clamp = 1460;
            super::segment::route(cx).unwrap();
        });
        b
    }

    /// An established one: SACK and window scale 7 both ways, no timestamps, window of a megabyte, cwnd 10.
    pub(crate) fn established() -> Bench {
        Bench::new().establish()
    }

    pub(crate) fn establish(self) -> Bench {
        self.with(|cx| {
            super::control::connect_init(cx);
            be_in(cx, State::Established);
            let tp = &mut *cx.tp;
            tp.tcp_header_len = 20;
            tp.rx_opt.sack_ok = 1;
            tp.rx_opt.wscale_ok = true;
            tp.rx_opt.rcv_wscale = WindowShift::clamp(7);
            super::window::begin(tp, SeqNum(5000));
            tp.copied_seq = tp.rcv_nxt;
            tp.snd_wnd = 1 << 20;
            tp.max_window = 1 << 20;
            tp.ack.rcv_mss = 1460;
            tp.rto_us = 200_000;
            let now = cx.now.as_millis() as u32;
            tp.lsndtime_ms = now;
            tp.snd_cwnd_stamp_ms = now;
            tp.rcv_tstamp_ms = now;
            tp.ack.lrcvtime_ms = now;
            cx.sock.sndbuf.store(1 << 20, Ordering::Relaxed);
            super::mtu::sync_mss(cx, 1500);
        });
        self
    }

    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut Cx<'_>) -> R) -> R {
        let mut g = self.sock.lock(&self.stack);
        f(&mut Cx::new(&mut g).unwrap())
    }

    pub(crate) fn send(&self, data: &[u8], flags: i32) -> Result<usize> {
        let slices = [IoSlice::new(data)];
        let sk = SockRef { stack: &self.stack, sock: &self.sock };
        sendmsg::sendmsg(sk, &mut SendMsg::new(&slices, flags | libc::MSG_DONTWAIT))
    }

    /// Everything up to `una` (bytes from ISS) is acknowledged: the least of what an ACK does, in place of `ack`.
    pub(crate) fn ack(&self, una: u32) {
        self.with(|cx| {
            cx.tp.snd_una = SeqNum(ISS) + una;
            while cx.tp.rtx_queue.front().is_some_and(|s| !s.tcp.end_seq.after(cx.tp.snd_una)) {
                let skb = cx.tp.rtx_queue.pop_front().unwrap();
                cx.tp.packets_out -= u32::from(skb.tcp.gso_segs);
                super::output::wmem_free_skb(cx, skb);
            }
            timer::rearm_rto(cx);
            chrono::chrono_stop(cx, chrono::Chrono::Busy);
        });
    }

    /// What left since the last call.
    pub(crate) fn sent(&self) -> Vec<Out> {
        let packets = std::mem::take(&mut *self.wire.sent.lock());
        packets
            .iter()
            .map(|p| {
                let h = TcpHeader::parse(&p[20..]).unwrap();
                Out {
                    seq: h.seq().0.wrapping_sub(ISS),
                    ack: h.ack().0,
                    flags: h.flags(),
                    window: h.window().0,
                    options: h.options().to_string(),
                    data: h.payload().to_vec(),
                }
            })
            .collect()
    }

    /// (relative sequence number, payload length, flags) of what left.
    pub(crate) fn shapes(&self) -> Vec<(u32, usize, String)> {
        self.sent().into_iter().map(|o| (o.seq, o.data.len(), o.flags.to_string())).collect()
    }

    /// Lets time pass to the next event and runs it; the time that passed in milliseconds. None when nothing is due.
    pub(crate) fn step(&self) -> Option<u64> {
        let before = self.clock_now();
        let at = self.stack.next_event()?;
        self.clock.set(at);
        self.stack.poll(self.clock_now());
        Some((self.clock_now() - before).as_millis() as u64)
    }

    pub(crate) fn advance(&self, ms: u64) {
        self.clock.advance(Duration::from_millis(ms));
        self.stack.poll(self.clock_now());
    }

    pub(crate) fn clock_now(&self) -> Instant {
        self.stack.now()
    }
}
