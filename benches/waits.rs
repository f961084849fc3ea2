//! Waits over many sockets, and datagrams by the batch, beside the kernel's: epoll_ctl, epoll_wait, poll, sendmmsg and
//! recvmmsg of the C interface, over the loopback in one thread ([`run`]); and what a thread that waits for a packet
//! across TUN does, asleep or busy-polling ([`tun`]). The calls are in waits_calls.c.

use crate::measure::Bench;
use crate::net::{Kernel, Net, Ours, pair};
use crate::report::{Report, Row, Target, Unit};
use crate::rpc::{self, First};
use crate::space::{Peer, VETH};
use std::ffi::{CStr, c_int, c_void};
use std::time::Duration;

/// Descriptors of the sets: as many as fit under a common limit, a tenth of it, and ten times as many.
const FEW: c_int = 990;
const MANY: c_int = 9_900;
const MORE: c_int = 100_000;
/// Sockets that one turn adds.
const SPARE: c_int = 64;
/// Sockets that become ready in one turn, and datagrams of one: as in waits_calls.c.
const READY: f64 = 10.0;
const DATAGRAMS: f64 = 32.0;

/// Which sockets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    Kernels,
    Ours,
}

impl Whose {
    fn id(self) -> &'static str {
        match self {
            Whose::Kernels => "kernel",
            Whose::Ours => "usersock",
        }
    }
}

#[allow(unsafe_code)]
mod calls {
    use super::{CStr, Whose, c_int, c_void};
    use std::ffi::c_char;
    use std::ptr::{NonNull, null_mut};

    unsafe extern "C" {
        fn waits_new_kernel(pairs: c_int, singles: c_int, spare: c_int) -> *mut c_void;
        fn waits_new_ours(pairs: c_int, singles: c_int, spare: c_int) -> *mut c_void;
        fn waits_run_kernel(w: *mut c_void, what: *const c_char, times: u64) -> i64;
        fn waits_run_ours(w: *mut c_void, what: *const c_char, times: u64) -> i64;
        fn waits_free_kernel(w: *mut c_void);
        fn waits_free_ours(w: *mut c_void);
    }

    /// Sockets, closed when dropped.
    pub(super) struct Sockets(Whose, NonNull<c_void>);

    impl Sockets {
        /// None: the limit on descriptors is too low.
        pub(super) fn new(whose: Whose, pairs: c_int, singles: c_int, spare: c_int) -> Option<Sockets> {
            let w = match whose {
                // SAFETY: takes numbers only.
                Whose::Kernels => unsafe { waits_new_kernel(pairs, singles, spare) },
                // SAFETY: as above.
                Whose::Ours => unsafe { waits_new_ours(pairs, singles, spare) },
            };
            NonNull::new(w).map(|w| Sockets(whose, w))
        }

        /// Nanoseconds of `times` turns of a case.
        pub(super) fn run(&mut self, what: &CStr, times: u64) -> i64 {
            run(self.0, self.1.as_ptr(), what, times)
        }
    }

    impl Drop for Sockets {
        fn drop(&mut self) {
            let w = self.1.as_ptr();
            match self.0 {
                // SAFETY: from `waits_new_kernel`, freed once.
                Whose::Kernels => unsafe { waits_free_kernel(w) },
                // SAFETY: from `waits_new_ours`, freed once.
                Whose::Ours => unsafe { waits_free_ours(w) },
            }
        }
    }

    /// The same for a case that has sockets of its own.
    pub(super) fn run_alone(whose: Whose, what: &CStr, times: u64) -> i64 {
        run(whose, null_mut(), what, times)
    }

    fn run(whose: Whose, w: *mut c_void, what: &CStr, times: u64) -> i64 {
        match whose {
            // SAFETY: `w` is from `waits_new_kernel`, or null for a case that does not use it; `what` is a string.
            Whose::Kernels => unsafe { waits_run_kernel(w, what.as_ptr(), times) },
            // SAFETY: as above, of ours.
            Whose::Ours => unsafe { waits_run_ours(w, what.as_ptr(), times) },
        }
    }
}

/// A case with a set: its name, that of its call, what one turn of it counts, the sockets, and the row.
struct Case {
    group: &'static str,
    what: &'static CStr,
    each: f64,
    /// TCP connections, or else so many UDP sockets.
    pairs: c_int,
    singles: c_int,
    row: &'static str,
    target: Target,
}

const CASES: [Case; 8] = [
    Case {
        group: "waits_add_990",
        what: c"add",
        each: SPARE as f64,
        pairs: 0,
        singles: FEW,
        row: "EPOLL_CTL_ADD to a set of 990 sockets",
        target: Target::AtMost(2000.0),
    },
    Case {
        group: "waits_add_9900",
        what: c"add",
        each: SPARE as f64,
        pairs: 0,
        singles: MANY,
        row: "EPOLL_CTL_ADD to a set of 9,900 sockets",
        target: Target::AtMost(2000.0),
    },
    Case {
        group: "waits_add_100000",
        what: c"add",
        each: SPARE as f64,
        pairs: 0,
        singles: MORE,
        row: "EPOLL_CTL_ADD to a set of 100,000 sockets",
        target: Target::AtMost(2000.0),
    },
    Case {
        group: "waits_ready",
        what: c"ready",
        each: READY,
        pairs: MANY / 2,
        singles: 0,
        row: "epoll_wait, 10 of 9,900 connections ready: the wait alone, an event",
        target: Target::KernelAtMost(1.5),
    },
    Case {
        group: "waits_exchange",
        what: c"exchange",
        each: READY,
        pairs: MANY / 2,
        singles: 0,
        row: "the same with the send and the recv, an event",
        target: Target::KernelAtMost(1.0),
    },
    Case {
        group: "waits_set_idle",
        what: c"wait_none",
        each: 1.0,
        pairs: MANY / 2,
        singles: 0,
        row: "epoll_wait, none of 9,900 connections ready, no timeout",
        target: Target::KernelAtMost(1.5),
    },
    Case {
        group: "waits_list_idle",
        what: c"poll_none",
        each: MANY as f64,
        pairs: MANY / 2,
        singles: 0,
        row: "poll, none of 9,900 connections ready, no timeout: a descriptor",
        target: Target::KernelAtMost(1.0),
    },
    Case {
        group: "waits_list_short",
        what: c"poll_none",
        each: 2.0,
        pairs: 1,
        singles: 0,
        row: "the same of 2 connections: a descriptor",
        target: Target::KernelAtMost(1.0),
    },
];

fn nanos(ns: i64) -> Duration {
    Duration::from_nanos(u64::try_from(ns).unwrap_or(0))
}

/// One case on one stack; None if it is not wanted or cannot be.
fn measure(bench: &mut Bench, report: &mut Report, case: &Case, whose: Whose) -> Option<f64> {
    let name = format!("{}/{}", case.group, whose.id());
    let mut missing = false;
    let spent = bench.attempt(report, &name, |bench| {
        let spare = if case.what == c"add" { SPARE } else { 0 };
        let Some(mut sockets) = calls::Sockets::new(whose, case.pairs, case.singles + spare, spare) else {
            missing = true;
            return None;
        };
        bench.custom(case.group, whose.id(), 0, |n| nanos(sockets.run(case.what, n)))
    });
    if missing {
        report.note(format!("SKIP {name}: RLIMIT_NOFILE"));
    }
    spent.map(|ns| ns / case.each)
}

/// Sets, lists and batches over the loopback.
pub fn run(bench: &mut Bench, report: &mut Report) {
    for case in &CASES {
        let kernel = measure(bench, report, case, Whose::Kernels);
        let ours = measure(bench, report, case, Whose::Ours);
        report.row(Row { what: case.row.into(), unit: Unit::Nanos, ours, kernel, peer: None, target: case.target });
    }
    let mut datagrams = |what: &CStr, group: &str, whose: Whose| {
        bench.attempt(report, &format!("{group}/{}", whose.id()), |bench| {
            let spent = bench.custom(group, whose.id(), 0, |n| nanos(calls::run_alone(whose, what, n)));
            spent.map(|ns| ns / DATAGRAMS)
        })
    };
    let [single, batch] = [(c"single", "waits_datagrams_single"), (c"batch", "waits_datagrams_batch")]
        .map(|(what, group)| [Whose::Ours, Whose::Kernels].map(|whose| datagrams(what, group, whose)));
    for (what, [ours, kernel]) in [
        ("loopback, UDP of 64 B, send and recv: a datagram", single),
        ("loopback, UDP of 64 B, sendmmsg and recvmmsg of 32: a datagram", batch),
    ] {
        report.row(Row { what: what.into(), unit: Unit::Nanos, ours, kernel, peer: None, target: Target::None });
    }
    let [ours, kernel] = [0, 1].map(|i| Some(batch[i]? / single[i]?));
    report.row(Row {
        what: "of which the second is so many times the first".into(),
        unit: Unit::Count,
        ours,
        kernel,
        peer: None,
        target: Target::AtMost(0.75),
    });
}

/// The names of the cases of [`tun`].
pub const TUN_GROUPS: [&str; 3] = ["waits_tun_rtt_busy", "waits_tun_connect", "waits_tun_connect_first"];

/// A thread that busy-polls for its packet, and whole connections, across TUN to the kernel; the kernel's across veth.
pub fn tun(bench: &mut Bench, report: &mut Report, ours: &Ours, far: &Peer) {
    let [rtt, ..] = TUN_GROUPS;
    let listen = || far.run(|| Kernel.listen(VETH.1));
    let kernel = bench.attempt(report, &format!("{rtt}/kernel_veth"), |bench| {
        let (listener, addr) = listen();
        let near = Kernel.connect(addr);
        rpc::latency(bench, rtt, "kernel_veth", near, Kernel.accept(&listener))
    });
    let mine = bench.attempt(report, &format!("{rtt}/usersock"), |bench| {
        let busy = |micros| ours.0.sysctl.set("net.core.busy_poll", micros).expect("a valid time");
        busy("100");
        let (a, b) = pair(ours, &Kernel, crate::TUN_PEER);
        let median = rpc::latency(bench, rtt, "usersock", a, b);
        busy("0");
        median
    });
    report.row(Row {
        what: "across TUN, 1 byte there and back, busy polling, median (kernel: veth, asleep)".into(),
        unit: Unit::Nanos,
        ours: mine,
        kernel,
        peer: None,
        target: Target::KernelAtMost(0.5),
    });
    tun_connect(bench, report, ours, far);
}

/// A client that closes first needs the port of a connection in TIME-WAIT again sooner than after a minute: for
/// everyone, as busy clients set it, and not only on the loopback.
const TW_REUSE: (&str, &str) = ("net.ipv4.tcp_tw_reuse", "1");

/// Whole connections across TUN; the kernel's across veth.
fn tun_connect(bench: &mut Bench, report: &mut Report, ours: &Ours, far: &Peer) {
    let [_, server, client] = TUN_GROUPS;
    if let Err(e) = std::fs::write("/proc/sys/net/ipv4/tcp_tw_reuse", TW_REUSE.1) {
        report.note(format!("The kernel keeps its own tcp_tw_reuse: {e}."));
    }
    ours.0.sysctl.set(TW_REUSE.0, TW_REUSE.1).expect("a valid setting");
    for (group, first, what) in [
        (server, First::Server, "across TUN, connect, 1 byte each way, close, the server first (kernel: veth)"),
        (client, First::Client, "the same, the client first, tcp_tw_reuse=1 (kernel: veth)"),
    ] {
        let mut costs = Vec::new();
        let kernel = bench.attempt(report, &format!("{group}/kernel_veth"), |b| {
            let (listener, addr) = far.run(|| Kernel.listen(VETH.1));
            let of = (group, "kernel_veth", first);
            let (rate, cost) = rpc::connections_between(b, of, &Kernel, &Kernel, (&listener, addr))?;
            costs.push(cost);
            Some(rate)
        });
        let mine = bench.attempt(report, &format!("{group}/usersock"), |b| {
            let (listener, addr) = Kernel.listen(crate::TUN_PEER);
            let of = (group, "usersock", first);
            let (rate, cost) = rpc::connections_between(b, of, ours, &Kernel, (&listener, addr))?;
            costs.push(cost);
            Some(rate)
        });
        costs.into_iter().for_each(|cost| report.note(cost));
        report.row(Row {
            what: what.into(),
            unit: Unit::Rate,
            ours: mine,
            kernel,
            peer: None,
            target: Target::KernelAtLeast(1.5),
        });
    }
}
