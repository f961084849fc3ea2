//! What is done in `ways_test`, and how it is drawn: all that the conditions of short ways name, and what is near it.

use crate::sock::msg::Control;
use crate::tcp::peer_test::{ACK, FIN, PSH};
use crate::tcp::sockopt::opt;
use proptest::prelude::*;

/// How much of the program's memory is there.
#[derive(Debug, Clone, Copy)]
pub(super) enum Memory {
    Good,
    Half,
    None,
}

impl Memory {
    pub(super) fn probe(self) -> fn(usize, usize) -> usize {
        match self {
            Memory::Good => |_, len| len,
            Memory::Half => |_, len| len / 2,
            Memory::None => |_, _| 0,
        }
    }
}

/// A call that sends or receives. `cut`: where the first of two buffers ends.
#[derive(Debug, Clone)]
pub(super) enum Call {
    Send { len: usize, cut: usize, flags: i32, memory: Memory, control: Option<Control> },
    Recv { len: usize, cut: usize, flags: i32, memory: Memory },
    SendPages { len: usize, flags: i32 },
    RecvPages { len: usize, flags: i32 },
}

/// A segment of a peer made by hand, by its distance from what the connection expects.
#[derive(Debug, Clone)]
pub(super) struct Incoming {
    pub seq: i32,
    pub ack: Acks,
    pub flags: u8,
    pub ce: bool,
    pub window: u16,
    pub urgent: u16,
    pub len: usize,
    /// Milliseconds by which its timestamp is late.
    pub late: u32,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Acks {
    All,
    Nothing,
    Half,
    Old,
    TooMuch,
}

#[derive(Debug, Clone)]
pub(super) enum Act {
    Call(usize, Call),
    /// As sendmmsg(2) does: softirq is left for later.
    Queued(usize, Vec<Call>),
    /// The peer's segments, or a send of the other end, meet a call, which then sends or receives.
    Busy(usize, Vec<Incoming>, Call),
    /// A peer's segment; where both ends are here, the other end reads and sends `len` bytes.
    Peer(usize, Incoming),
    Option(usize, i32, i32, Vec<u8>),
    Shutdown(usize, i32),
    /// An error is pending.
    Fail(usize, i32),
    Poll(usize),
    Wait(u64),
    /// The device takes so many more packets.
    Room(Option<usize>),
    /// It keeps what it has sent, or completes it.
    Hold(bool),
    /// Routes have changed.
    Reroute,
    SpliceEof(usize),
}

fn small() -> impl Strategy<Value = usize> {
    prop_oneof![
        8 => prop::sample::select(vec![1usize, 1, 1, 2, 5, 100, 100, 200, 536, 1000]),
        3 => 0..1500usize,
        2 => prop::sample::select(vec![0usize, 1447, 1448, 1449, 1460, 1461, 2920, 4095, 4096, 4097]),
        2 => 0..9000usize,
        1 => 0..70_000usize,
    ]
}

fn memory() -> impl Strategy<Value = Memory> {
    prop_oneof![20 => Just(Memory::Good), 1 => Just(Memory::Half), 1 => Just(Memory::None)]
}

/// Mostly none; all that a program could give otherwise.
fn flags(some: &'static [i32]) -> impl Strategy<Value = i32> {
    prop_oneof![
        6 => Just(0),
        1 => Just(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL),
        4 => prop::sample::select(some),
        1 => (prop::sample::select(some), prop::sample::select(some)).prop_map(|(a, b)| a | b),
    ]
}

fn control() -> impl Strategy<Value = Option<Control>> {
    let asks =
        Control::Other { level: libc::SOL_SOCKET, ty: libc::SO_TIMESTAMPING, data: 0x12u32.to_ne_bytes().into() };
    let some = vec![asks, Control::Malformed, Control::Mark(3), Control::TxTime(5), Control::Ttl(9)];
    prop_oneof![12 => Just(None), 1 => prop::sample::select(some).prop_map(Some)]
}

fn send() -> impl Strategy<Value = Call> {
    const FLAGS: &[i32] = &[
        libc::MSG_MORE,
        libc::MSG_MORE,
        libc::MSG_OOB,
        libc::MSG_EOR,
        libc::MSG_ZEROCOPY,
        libc::MSG_FASTOPEN,
        libc::MSG_NOSIGNAL,
        0x10,
    ];
    let cut = prop_oneof![4 => Just(usize::MAX), 1 => 0..50usize];
    prop_oneof![
        8 => (small(), cut, flags(FLAGS), memory(), control())
            .prop_map(|(len, cut, flags, memory, control)| Call::Send { len, cut, flags, memory, control }),
        1 => (small(), flags(FLAGS)).prop_map(|(len, flags)| Call::SendPages { len, flags }),
    ]
}

fn recv() -> impl Strategy<Value = Call> {
    const FLAGS: &[i32] = &[
        libc::MSG_PEEK,
        libc::MSG_PEEK,
        libc::MSG_TRUNC,
        libc::MSG_WAITALL,
        libc::MSG_OOB,
        libc::MSG_ERRQUEUE,
        libc::MSG_NOSIGNAL,
    ];
    let cut = prop_oneof![4 => Just(usize::MAX), 1 => 0..50usize];
    prop_oneof![
        8 => (small(), cut, flags(FLAGS), memory())
            .prop_map(|(len, cut, flags, memory)| Call::Recv { len, cut, flags, memory }),
        1 => (small(), flags(FLAGS)).prop_map(|(len, flags)| Call::RecvPages { len, flags }),
    ]
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![send(), recv()]
}

fn incoming() -> impl Strategy<Value = Incoming> {
    let seq = prop_oneof![16 => Just(0), 1 => prop::sample::select(vec![-1, 1, -100, 100, 1460, 70_000])];
    let ack = prop_oneof![
        8 => Just(Acks::All),
        3 => Just(Acks::Nothing),
        2 => Just(Acks::Half),
        1 => Just(Acks::Old),
        1 => Just(Acks::TooMuch),
    ];
    let flags = prop_oneof![
        8 => Just(ACK),
        8 => Just(ACK | PSH),
        1 => Just(ACK | 32),
        1 => Just(ACK | FIN),
        1 => prop::sample::select(vec![ACK | FIN | PSH, ACK | 64, ACK | 128, ACK | 192, 0]),
    ];
    let len = prop_oneof![3 => Just(0), 4 => prop::sample::select(vec![1usize, 100]), 2 => 0..1461usize];
    let window = prop_oneof![10 => Just(1000u16), 2 => Just(0), 1 => any::<u16>()];
    let late = prop_oneof![8 => Just(0u32), 1 => 0..3000u32];
    (seq, ack, flags, prop::bool::weighted(0.03), window, 0..200u16, len, late).prop_map(
        |(seq, ack, flags, ce, window, urgent, len, late)| Incoming { seq, ack, flags, ce, window, urgent, len, late },
    )
}

/// A classic BPF program: `ret n`.
fn filter(n: u32) -> Vec<u8> {
    [&6u16.to_ne_bytes()[..], &[0, 0], &n.to_ne_bytes()].concat()
}

fn option() -> impl Strategy<Value = (i32, i32, Vec<u8>)> {
    let ints: &[(i32, i32, &[i32])] = &[
        (libc::IPPROTO_TCP, opt::NODELAY, &[0, 1, 1]),
        (libc::IPPROTO_TCP, opt::CORK, &[0, 0, 1]),
        (libc::IPPROTO_TCP, opt::QUICKACK, &[0, 1, 2]),
        (libc::IPPROTO_TCP, opt::NOTSENT_LOWAT, &[0, 1, 200, 10_000]),
        (libc::IPPROTO_TCP, opt::INQ, &[0, 1]),
        (libc::IPPROTO_TCP, opt::REPAIR, &[1, 0, -1]),
        (libc::IPPROTO_TCP, opt::REPAIR_QUEUE, &[0, 1, 2]),
        (libc::IPPROTO_TCP, opt::WINDOW_CLAMP, &[1, 3000, 1 << 20]),
        (libc::IPPROTO_TCP, opt::MAXSEG, &[500, 1460]),
        (libc::IPPROTO_TCP, opt::DELACK_MAX_US, &[2000, 200_000]),
        (libc::IPPROTO_TCP, opt::RTO_MIN_US, &[5000, 200_000]),
        (libc::IPPROTO_TCP, opt::TX_DELAY, &[0, 1000]),
        (libc::SOL_SOCKET, libc::SO_SNDBUF, &[1, 5000, 100_000]),
        (libc::SOL_SOCKET, libc::SO_RCVBUF, &[1, 5000, 100_000]),
        (libc::SOL_SOCKET, libc::SO_RCVLOWAT, &[1, 2, 100, 5000]),
        (libc::SOL_SOCKET, libc::SO_PEEK_OFF, &[-1, -1, 0, 5, 100]),
        (libc::SOL_SOCKET, libc::SO_TIMESTAMP, &[0, 1]),
        (libc::SOL_SOCKET, libc::SO_TIMESTAMPING, &[0, 0, 0x98, 0x3ff]),
        (libc::SOL_SOCKET, libc::SO_OOBINLINE, &[0, 1]),
        (libc::SOL_SOCKET, libc::SO_ZEROCOPY, &[0, 1]),
        (libc::SOL_SOCKET, libc::SO_MARK, &[7]),
        (libc::SOL_SOCKET, libc::SO_PRIORITY, &[3]),
        (libc::SOL_SOCKET, libc::SO_DONTROUTE, &[0, 1]),
        (libc::SOL_SOCKET, libc::SO_MAX_PACING_RATE, &[-1, 100_000]),
        (libc::SOL_IP, libc::IP_TOS, &[0, 0x20]),
        (libc::SOL_IP, libc::IP_TTL, &[5, -1]),
        (libc::SOL_IP, libc::IP_MINTTL, &[0, 6]),
        (libc::SOL_IP, libc::IP_MTU_DISCOVER, &[libc::IP_PMTUDISC_DO, libc::IP_PMTUDISC_DONT, libc::IP_PMTUDISC_WANT]),
        (libc::SOL_IP, libc::IP_RECVERR, &[0, 1]),
    ];
    let mut all: Vec<(i32, i32, Vec<u8>)> = Vec::new();
    for (level, name, values) in ints {
        all.extend(values.iter().map(|v| (*level, *name, v.to_ne_bytes().to_vec())));
    }
    for n in [u32::MAX, u32::MAX, 40, 0] {
        all.push((libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, filter(n)));
        all.push((libc::SOL_SOCKET, libc::SO_DETACH_FILTER, 0u32.to_ne_bytes().into()));
    }
    for name in ["reno", "cubic", "bbr", "dctcp"] {
        all.push((libc::IPPROTO_TCP, opt::CONGESTION, name.into()));
    }
    all.push((libc::IPPROTO_TCP, opt::ULP, "through".into()));
    all.push((libc::SOL_IP, libc::IP_OPTIONS, vec![1, 1, 1, 0]));
    // Those that the conditions of short ways name come more often.
    let named = [opt::NODELAY, opt::CORK, opt::REPAIR, opt::REPAIR_QUEUE, opt::INQ];
    let of_all = [
        libc::SO_SNDBUF,
        libc::SO_RCVLOWAT,
        libc::SO_PEEK_OFF,
        libc::SO_TIMESTAMP,
        libc::SO_TIMESTAMPING,
        libc::SO_MAX_PACING_RATE,
    ];
    let often = |(level, name, _): &&(i32, i32, Vec<u8>)| match *level {
        libc::IPPROTO_TCP => named.contains(name),
        libc::SOL_IP => {
            [libc::IP_OPTIONS, libc::IP_MTU_DISCOVER, libc::IP_TOS, libc::IP_TTL, libc::IP_MINTTL].contains(name)
        }
        _ => of_all.contains(name),
    };
    let often: Vec<_> = all.iter().filter(often).cloned().collect();
    prop_oneof![prop::sample::select(all), prop::sample::select(often)]
}

pub(super) fn act() -> impl Strategy<Value = Act> {
    let end = 0..2usize;
    prop_oneof![
        12 => (end.clone(), send()).prop_map(|(end, call)| Act::Call(end, call)),
        12 => (end.clone(), recv()).prop_map(|(end, call)| Act::Call(end, call)),
        16 => (end.clone(), incoming()).prop_map(|(end, seg)| Act::Peer(end, seg)),
        3 => (end.clone(), prop::collection::vec(send(), 1..4)).prop_map(|(end, calls)| Act::Queued(end, calls)),
        4 => (end.clone(), prop::collection::vec(incoming(), 0..3), call())
            .prop_map(|(end, segs, call)| Act::Busy(end, segs, call)),
        6 => (end.clone(), option()).prop_map(|(end, (level, name, value))| Act::Option(end, level, name, value)),
        1 => (end.clone(), 0..3i32).prop_map(|(end, how)| Act::Shutdown(end, how)),
        1 => (end.clone(), prop::sample::select(vec![libc::ECONNRESET, libc::EHOSTUNREACH]))
            .prop_map(|(end, errno)| Act::Fail(end, errno)),
        2 => end.clone().prop_map(Act::Poll),
        8 => prop_oneof![4 => 0..2000u64, 3 => 0..100_000u64, 1 => 0..3_000_000u64].prop_map(Act::Wait),
        1 => prop_oneof![Just(None), Just(Some(0)), Just(Some(1))].prop_map(Act::Room),
        2 => any::<bool>().prop_map(Act::Hold),
        1 => Just(Act::Reroute),
        1 => end.prop_map(Act::SpliceEof),
    ]
}

/// Who is at the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    /// An end of this stack; a raw socket sees what passes.
    Here,
    /// One made by hand.
    Made,
    /// The same, without window scale and SACK.
    Plain,
    /// One made by hand that agrees to ECN, of either kind.
    Ecn,
    /// One that does not answer the SYN.
    Silent,
}

/// What both stacks begin with.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub peer: Peer,
    pub timestamps: bool,
    pub algorithm: &'static str,
    pub sysctls: Vec<(&'static str, &'static str)>,
    pub nodelay: bool,
    /// A peer made by hand meets the smallest receive buffer.
    pub small: bool,
}

pub(super) fn setting() -> impl Strategy<Value = Setting> {
    let sysctls = vec![
        ("net.ipv4.tcp_autocorking", "0"),
        ("net.ipv4.tcp_slow_start_after_idle", "0"),
        ("net.ipv4.tcp_mem", "0 1 2"),
        ("net.ipv4.tcp_mem", "0 0 1000"),
        ("net.ipv4.tcp_ecn", "1"),
        ("net.ipv4.tcp_ecn", "3"),
        ("net.ipv4.tcp_sack", "0"),
        ("net.ipv4.tcp_backlog_ack_defer", "0"),
        ("net.ipv4.tcp_moderate_rcvbuf", "0"),
        ("net.ipv4.tcp_mtu_probing", "2"),
        ("net.ipv4.tcp_wmem", "4096 4096 4096"),
        ("net.ipv4.tcp_early_retrans", "0"),
    ];
    let sysctls = prop::collection::vec(prop::sample::select(sysctls), 0..3);
    let algorithm = prop::sample::select(vec!["cubic", "cubic", "reno", "bbr", "dctcp"]);
    let peer = prop_oneof![
        8 => Just(Peer::Here),
        6 => Just(Peer::Made),
        2 => Just(Peer::Plain),
        1 => Just(Peer::Ecn),
        1 => Just(Peer::Silent),
    ];
    (peer, any::<bool>(), algorithm, sysctls, any::<bool>(), prop::bool::weighted(0.1)).prop_map(
        |(peer, timestamps, algorithm, sysctls, nodelay, small)| Setting {
            peer,
            timestamps,
            algorithm,
            sysctls,
            nodelay,
            small,
        },
    )
}
