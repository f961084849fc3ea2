//! `lock_sock`/`release_sock` without contention, and timers among a million.

use crate::measure::{Bench, cpu_time};
use crate::net::Ours;
use crate::report::{Report, Row, Target, Unit};
use std::hint::black_box;
use std::time::Duration;
use usersock::env;
use usersock::internal::base::Wheel;
use usersock::net::Socket;
use usersock::stack::{TimerSlot, TimerTarget};

/// Timers that are armed while one is measured.
const TIMERS: usize = 1_000_000;
/// Timers measured together, so that reading the clock does not count.
const BATCH: usize = 1000;

/// Lock and release.
pub fn lock(bench: &mut Bench, report: &mut Report) {
    if !bench.wants("lock/lock_sock_release_sock") {
        return;
    }
    let net = Ours::loopback();
    let socket = match Socket::new(&net.0, libc::AF_INET, libc::SOCK_DGRAM, 0) {
        Ok(s) => s,
        Err(e) => return report.note(format!("lock_sock: {e}")),
    };
    let (sock, stack) = (socket.sock(), &net.0);
    let ours = bench.simple("lock", "lock_sock_release_sock", 0, || drop(black_box(sock.lock(stack))));
    report.row(row("lock_sock + release_sock, uncontended", ours, Target::AtMost(50.0)));
}

fn row(what: &str, ours: Option<f64>, target: Target) -> Row {
    Row { what: what.into(), unit: Unit::Nanos, ours, kernel: None, peer: None, target }
}

/// A repeatable stream of numbers (xorshift64).
struct Numbers(u64);
impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    /// A deadline as sockets have them: 200 ms (RTO) to two hours (keepalive), mostly near.
    fn deadline(&mut self, now: env::Instant) -> env::Instant {
        let span = [1u64, 1, 1, 10, 100, 7200][self.next() as usize % 6] * 1_000_000_000;
        now + Duration::from_nanos(200_000_000 + self.next() % span)
    }
}

/// Arms and cancels, through the stack's table of wheels as socks do it.
pub fn timers(bench: &mut Bench, report: &mut Report) {
    if !["timers/arm", "timers/cancel"].iter().any(|n| bench.wants(n)) {
        return;
    }
    let net = Ours::loopback();
    let timers = &net.0.timers;
    let socket = match Socket::new(&net.0, libc::AF_INET, libc::SOCK_DGRAM, 0) {
        Ok(s) => s,
        Err(e) => return report.note(format!("timers: {e}")),
    };
    // One for all: that a sock is in the cache when its timer is moved holds of its count too.
    let target = || TimerTarget::Sock(socket.sock().clone(), 1);
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let now = net.0.now() + Duration::from_secs(3600);
    let mut slots: Vec<TimerSlot> = Vec::new();
    slots.resize_with(TIMERS, TimerSlot::default);
    for slot in &mut slots {
        timers.arm(slot, numbers.deadline(now), target);
    }
    let mut pick = [(0, now); BATCH];
    let mut measure = |bench: &mut Bench, id: &str, timed_arm: bool| {
        bench.custom("timers", id, 0, |n| {
            let mut spent = Duration::ZERO;
            for _ in 0..n {
                // Distinct ones, far apart in memory.
                let first = numbers.next() as usize;
                for (i, p) in pick.iter_mut().enumerate() {
                    *p = ((first + i * 7919) % TIMERS, numbers.deadline(now));
                    // A slot is part of a sock, which is in the cache when its timer is moved.
                    assert!(slots[p.0].is_armed());
                }
                let start = cpu_time();
                for (i, _) in &pick {
                    timers.cancel(&mut slots[*i]);
                }
                let middle = cpu_time();
                for (i, at) in &pick {
                    timers.arm(&mut slots[*i], *at, target);
                }
                spent += if timed_arm { cpu_time() - middle } else { middle - start };
            }
            spent
        })
    };
    let arm = measure(bench, "arm", true).map(|ns| ns / BATCH as f64);
    let cancel = measure(bench, "cancel", false).map(|ns| ns / BATCH as f64);
    report.row(row("arm a timer at 1,000,000 timers", arm, Target::AtMost(100.0)));
    report.row(row("cancel a timer at 1,000,000 timers", cancel, Target::AtMost(100.0)));
    report.note(format!("A pending timer takes {} B.", Wheel::<TimerTarget>::bytes_per_timer()));
    for slot in &mut slots {
        timers.cancel(slot);
    }
}
