//! Segments that make a child, and such as differ from them in one thing, by the short way and the general one; and
//! which of them go the short way.

use super::acts::Memory;
use super::{Call, Side, Wakes, Way, call_socket, compare, count, exact, without};
use crate::base::env::Duration;
use crate::device::capture_test::Bench;
use crate::inet::Socket;
use crate::sock::wait::Events;
use crate::tcp::peer_test::{ACK, FIN, Host, ISS, PSH, SYN, SYN_OPTIONS, Seg, sack};
use crate::wire::tcp::TcpHeader;
use std::sync::Arc;

const PORT: u16 = 4000;
/// TSval of the peer's SYN.
const TSVAL: u32 = 5000;

#[derive(Debug, Clone, Copy)]
struct Setting {
    timestamps: bool,
    /// The SYN asks for ECN, of either kind; the sysctl.
    ecn: Option<&'static str>,
    /// No request is kept.
    cookies: bool,
}

/// The segment: what differs from the bare acknowledgement.
#[derive(Debug, Clone, Copy)]
struct Third {
    flags: u8,
    ae: bool,
    seq: i32,
    ack: i32,
    len: usize,
    window: u16,
    ce: bool,
    /// Distance of its TSval from the SYN's; None: it has none.
    tsval: Option<i32>,
    /// Blocks of SACK that say nothing.
    sack: bool,
    /// `tcp_timestamps` before it comes.
    sysctl: &'static str,
}

const BARE: Third = Third {
    flags: ACK,
    ae: false,
    seq: 0,
    ack: 0,
    len: 0,
    window: 1000,
    ce: false,
    tsval: Some(5),
    sack: false,
    sysctl: "1",
};

/// What it is, how often it goes the short way where timestamps are agreed on, and where they are not.
fn thirds() -> Vec<(&'static str, Third, [u32; 2])> {
    const B: Third = BARE;
    const NEITHER: [u32; 2] = [0, 0];
    let data = Third { len: 3, ..B };
    vec![
        ("bare", B, [1, 1]),
        ("a closed window", Third { window: 0, ..B }, [1, 1]),
        ("marked", Third { ce: true, ..B }, [1, 1]),
        ("the SYN's timestamp", Third { tsval: Some(0), ..B }, [1, 1]),
        ("no timestamp", Third { tsval: None, ..B }, [0, 1]),
        ("timestamps were switched off", Third { sysctl: "0", ..B }, [1, 1]),
        ("the same, and its own is older by a tick", Third { sysctl: "0", tsval: Some(-1), ..B }, [0, 1]),
        ("the same, and its own is older", Third { sysctl: "0", tsval: Some(-9), ..B }, [0, 1]),
        ("an older timestamp", Third { tsval: Some(-1), ..B }, [0, 1]),
        ("a SACK option", Third { sack: true, ..B }, NEITHER),
        ("ahead", Third { seq: 1, ..B }, NEITHER),
        ("behind", Third { seq: -1, ..B }, NEITHER),
        ("of the future", Third { ack: 1, ..B }, NEITHER),
        ("of the past", Third { ack: -1, ..B }, NEITHER),
        ("data", data, NEITHER),
        ("data ahead", Third { seq: 2, ..data }, NEITHER),
        ("data from before", Third { seq: -1, ..data }, NEITHER),
        ("data beyond the window", Third { seq: 70_000, ..data }, NEITHER),
        ("data, PSH", Third { flags: ACK | PSH, ..data }, NEITHER),
        ("data, PSH, FIN", Third { flags: ACK | PSH | FIN, ..data }, NEITHER),
        ("data, FIN", Third { flags: ACK | FIN, ..data }, NEITHER),
        ("data, CWR", Third { flags: ACK | 128, ..data }, NEITHER),
        ("PSH", Third { flags: ACK | PSH, ..B }, NEITHER),
        ("URG", Third { flags: ACK | 32, ..B }, NEITHER),
        ("FIN", Third { flags: ACK | FIN, ..B }, NEITHER),
        ("ECE", Third { flags: ACK | 64, ..B }, NEITHER),
        ("CWR", Third { flags: ACK | 128, ..B }, NEITHER),
        ("AE", Third { ae: true, ..B }, NEITHER),
        ("SYN", Third { flags: ACK | SYN, ..B }, NEITHER),
        ("SYN of the first", Third { flags: ACK | SYN, seq: -1, ..B }, NEITHER),
        ("no ACK", Third { flags: PSH, ..B }, NEITHER),
        ("RST", Third { flags: ACK | 4, ..B }, NEITHER),
    ]
}

fn join(side: &mut Side, socket: Socket) {
    let wakes: Arc<Wakes> = Arc::default();
    socket.set_nonblocking(true);
    socket.sock().wait.add(Events::ALL, false, wakes.clone());
    side.ends.push(socket);
    side.wakes.push(wakes);
}

fn play(set: Setting, third: Third, look: &mut dyn FnMut(&Side, &str)) {
    let host = Host::on(Bench::on_ip(), 5);
    let stack = host.bench.stack.clone();
    let sysctl = |name: &str, value: &str| stack.sysctl.set(name, value).unwrap();
    sysctl("net.ipv4.tcp_timestamps", if set.timestamps { "1" } else { "0" });
    sysctl("net.ipv4.tcp_ecn", set.ecn.unwrap_or("0"));
    sysctl("net.ipv4.tcp_syncookies", if set.cookies { "2" } else { "0" });
    let mut side = Side::of(host, None);
    // Of it accounts are read.
    join(&mut side, Socket::new(&stack, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap());

    let stamp = |val: u32, ecr: u32| [&[1, 1, 8, 10][..], &val.to_be_bytes(), &ecr.to_be_bytes()].concat();
    let asks = if set.ecn.is_some() { 64 | 128 } else { 0 };
    let options = [SYN_OPTIONS, &stamp(TSVAL, 0)].concat();
    let syn = Seg { options, ae: set.ecn.is_some(), ..Seg::new(PORT, SYN | asks, ISS, 0) };
    let answer = side.host.bench.inject(&syn.bytes());
    let answer = TcpHeader::parse(&answer[0][20..]).unwrap();
    let (isn, echo) = (answer.seq().0, answer.parse_options().timestamps.map_or(0, |(val, _)| val));
    side.host.bench.advance(Duration::from_millis(5));
    if set.timestamps {
        sysctl("net.ipv4.tcp_timestamps", third.sysctl);
    }

    let mut options = third.tsval.map_or(Vec::new(), |late| stamp(TSVAL.wrapping_add_signed(late), echo));
    if third.sack {
        options.extend(sack(&[(isn, isn.wrapping_add(1))]));
    }
    let (seq, ack) = (ISS.wrapping_add(1), isn.wrapping_add(1));
    let segment = |at: i32, flags, len| Seg {
        options: options.clone(),
        data: vec![7; len],
        ae: third.ae,
        tos: if third.ce { 3 } else { 0 },
        window: third.window,
        urgent: 1,
        ..Seg::new(PORT, flags, seq.wrapping_add_signed(at), ack.wrapping_add_signed(third.ack))
    };
    let packets = side.host.bench.inject(&segment(third.seq, third.flags, third.len).bytes());
    side.note(packets);
    look(&side, "");
    let said = match side.host.listener.accept() {
        Ok((socket, peer)) => {
            join(&mut side, socket);
            format!("{peer}")
        }
        Err(e) => format!("{e:?}"),
    };
    look(&side, &said);
    let read = Call::Recv { len: 50, cut: 50, flags: 0, memory: Memory::Good };
    for act in 0..4 {
        let said = match (act, side.ends.get(1)) {
            (0, _) => {
                let more = segment(third.len as i32, ACK | PSH, 9);
                let packets = side.host.bench.inject(&Seg { ack, ..more }.bytes());
                side.note(packets);
                String::new()
            }
            (1, Some(child)) => call_socket(child, &read),
            (2, Some(child)) => call_socket(child, &Call::SendPages { len: 9, flags: libc::MSG_NOSIGNAL }),
            _ => {
                let packets = side.host.bench.advance(Duration::from_secs(3));
                side.note(packets);
                String::new()
            }
        };
        look(&side, &said);
    }
}

fn settings() -> Vec<Setting> {
    let mut all = Vec::new();
    for timestamps in [true, false] {
        for cookies in [true, false] {
            all.extend([None, Some("1"), Some("3")].map(|ecn| Setting { timestamps, ecn, cookies }));
        }
    }
    all
}

#[test]
fn third_segments_do_the_same_by_the_short_way() {
    for set in settings() {
        for (case, third, _) in thirds() {
            let name = |n| format!("{set:?} {case} {n}");
            let both = |closed: &[Way], look: &mut dyn FnMut(&Side, &str)| without(closed, || play(set, third, look));
            compare(&both, &name, &[Way::Third], exact).unwrap();
        }
    }
}

#[test]
fn third_segments_without_data_or_flags_go_the_short_way() {
    for timestamps in [true, false] {
        let set = Setting { timestamps, ecn: None, cookies: false };
        for (case, third, taken) in thirds() {
            let before = count(Way::Third);
            play(set, third, &mut |_, _| {});
            let expected = taken[usize::from(!timestamps)];
            assert_eq!(count(Way::Third) - before, expected, "{case}, {set:?}");
        }
    }
}
