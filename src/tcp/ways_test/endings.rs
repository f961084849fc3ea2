//! Segments that end a connection, and such as differ from them in one thing, by the short way and the general one.

use super::acts::{Acks, Act, Call, Incoming, Memory, Peer, Setting};
use super::{Side, Way, compare, count, exact, without};
use crate::tcp::peer_test::{ACK, FIN};
use crate::tcp::sockopt::opt;

/// What the connection has done when the segment comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    ShutDown,
    Closed,
    /// The peer's FIN came first.
    FinThenShutDown,
    FinThenClosed,
    /// What came between the two was read.
    ShutDownThenClosed,
}

const BEFORE: [Before; 6] = [
    Before::Nothing,
    Before::ShutDown,
    Before::Closed,
    Before::FinThenShutDown,
    Before::FinThenClosed,
    Before::ShutDownThenClosed,
];

/// What else there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Besides {
    Nothing,
    /// Data in flight.
    InFlight,
    /// Data that nobody has read.
    Unread,
    /// Data behind a hole.
    Hole,
    /// Urgent data that has not come.
    Urgent,
    /// TCP_LINGER2 of -1.
    NoLinger,
    /// The smallest receive buffer.
    SmallBuffer,
    /// A peer whose window is closed, so that our FIN waits.
    Closed,
    /// Data that waits for the window.
    Waiting,
    /// Data that came twice, which no acknowledgement has reported.
    Twice,
    /// The segment comes later, and so its echo is another.
    Later,
    /// The protocol has no memory left.
    NoMemory,
    /// It has little left.
    Pressure,
}

const BESIDES: [Besides; 13] = [
    Besides::Nothing,
    Besides::InFlight,
    Besides::Unread,
    Besides::Hole,
    Besides::Urgent,
    Besides::NoLinger,
    Besides::SmallBuffer,
    Besides::Closed,
    Besides::Waiting,
    Besides::Twice,
    Besides::Later,
    Besides::NoMemory,
    Besides::Pressure,
];

fn bare(flags: u8) -> Incoming {
    Incoming { seq: 0, ack: Acks::All, flags, ce: false, window: 500, urgent: 0, len: 0, late: 0 }
}

/// The segment, and those that differ.
fn lasts(flags: u8) -> Vec<Incoming> {
    let base = || bare(flags);
    let mut all = vec![base()];
    all.extend([-1, 1].map(|seq| Incoming { seq, ..base() }));
    all.extend([Acks::Nothing, Acks::Half, Acks::Old, Acks::TooMuch].map(|ack| Incoming { ack, ..base() }));
    // PSH, URG, SYN, RST, ECE, CWR; then without ACK, and FIN where there was none.
    all.extend([8, 32, 2, 4, 64, 128].map(|more| Incoming { flags: flags | more, urgent: 1, ..base() }));
    all.extend([flags & !ACK, flags ^ FIN].map(|flags| Incoming { flags, ..base() }));
    all.extend([0, 1000].map(|window| Incoming { window, ..base() }));
    all.extend([2, 100_000].map(|late| Incoming { late, ..base() }));
    all.extend([Incoming { ce: true, ..base() }, Incoming { len: 3, ..base() }]);
    all
}

fn play(set: &Setting, before: Before, besides: Besides, last: &Incoming, look: &mut dyn FnMut(&Side, &str)) {
    let side = Side::new(set);
    let step = |act: Act| side.play(&act);
    let peer = |i: Incoming| step(Act::Peer(0, i));
    let send = || step(Act::Call(0, Call::Send { len: 9, cut: 9, flags: 0, memory: Memory::Good, control: None }));
    // Of each something has come, and left.
    peer(Incoming { len: 5, ..bare(ACK) });
    step(Act::Call(0, Call::Recv { len: 9, cut: 9, flags: 0, memory: Memory::Good }));
    send();
    let closed = matches!(besides, Besides::Closed | Besides::Waiting);
    peer(Incoming { window: if closed { 0 } else { 500 }, ..bare(ACK) });
    let number = |n: i32| n.to_ne_bytes().to_vec();
    match besides {
        Besides::InFlight | Besides::Waiting => send(),
        Besides::Unread => peer(Incoming { len: 7, ..bare(ACK) }),
        Besides::Hole => peer(Incoming { seq: 20, len: 7, ..bare(ACK) }),
        Besides::Urgent => peer(Incoming { urgent: 30, ..bare(ACK | 32) }),
        Besides::NoLinger => step(Act::Option(0, libc::IPPROTO_TCP, opt::LINGER2, number(-1))),
        Besides::SmallBuffer => step(Act::Option(0, libc::SOL_SOCKET, libc::SO_RCVBUF, number(1))),
        // Acknowledgements are delayed.
        Besides::Twice => step(Act::Option(0, libc::IPPROTO_TCP, opt::QUICKACK, number(0))),
        Besides::Later => step(Act::Wait(7_000)),
        _ => String::new(),
    };
    if matches!(before, Before::FinThenShutDown | Before::FinThenClosed) {
        peer(bare(FIN | ACK));
    }
    match before {
        Before::Nothing => {}
        Before::ShutDown | Before::FinThenShutDown | Before::ShutDownThenClosed => {
            step(Act::Shutdown(0, libc::SHUT_WR));
        }
        Before::Closed | Before::FinThenClosed => side.ends[0].close(),
    }
    if besides == Besides::Twice {
        peer(Incoming { seq: -3, len: 5, ack: Acks::Nothing, ..bare(ACK) });
        step(Act::Call(0, Call::Recv { len: 9, cut: 9, flags: 0, memory: Memory::Good }));
    }
    if before == Before::ShutDownThenClosed {
        side.ends[0].close();
    }
    let tcp_mem = match besides {
        Besides::NoMemory => "0 0 0",
        Besides::Pressure => "0 0 1000",
        _ => "100000 100000 100000",
    };
    side.host.bench.stack.sysctl.set("net.ipv4.tcp_mem", tcp_mem).unwrap();
    look(&side, "");
    for after in [Act::Peer(0, last.clone()), Act::Wait(100_000), Act::Peer(0, bare(ACK)), Act::Wait(70_000_000)] {
        let said = side.play(&after);
        side.host.bench.stack.poll(side.host.bench.stack.now());
        look(&side, &said);
    }
}

fn setting(peer: Peer, timestamps: bool, ecn: &'static str, small: bool) -> Setting {
    let sysctls = vec![("net.ipv4.tcp_ecn", ecn)];
    Setting { peer, timestamps, algorithm: "cubic", sysctls, nodelay: true, small }
}

#[test]
fn the_last_segments_do_the_same_by_the_short_way() {
    for (peer, timestamps, ecn, small) in [
        (Peer::Made, true, "0", false),
        (Peer::Made, false, "0", true),
        (Peer::Plain, true, "1", false),
        (Peer::Ecn, true, "1", false),
        (Peer::Ecn, false, "3", false),
    ] {
        let set = setting(peer, timestamps, ecn, small);
        for before in BEFORE {
            let flags = if matches!(before, Before::FinThenShutDown | Before::FinThenClosed) { ACK } else { FIN | ACK };
            for besides in BESIDES {
                // Most differ from what others have shown in the segment alone, or in what came before.
                let few = peer == Peer::Ecn || besides > Besides::Closed || before == Before::ShutDownThenClosed;
                let some = if few { lasts(flags).into_iter().take(1).collect() } else { lasts(flags) };
                for last in some {
                    let name = |n| format!("{set:?} {before:?} {besides:?} {last:?} {n}");
                    let both = |closed: &[Way], look: &mut dyn FnMut(&Side, &str)| {
                        without(closed, || play(&set, before, besides, &last, look));
                    };
                    compare(&both, &name, &[Way::Closing], exact).unwrap();
                }
            }
        }
    }
}

/// The test says nothing of a way that is not taken.
#[test]
fn each_last_segment_takes_the_short_way() {
    for before in BEFORE {
        let flags = if matches!(before, Before::FinThenShutDown | Before::FinThenClosed) { ACK } else { FIN | ACK };
        let start = count(Way::Closing);
        play(&setting(Peer::Made, true, "0", false), before, Besides::Nothing, &bare(flags), &mut |_, _| {});
        let fins = if flags == ACK { 2 } else { 1 };
        assert_eq!(count(Way::Closing) - start, fins, "{before:?}");
    }
}
