//! Transfers over a link that loses nothing, where the receivers run out of memory: small MTUs make small packets, so
//! that a buffer holds fewer bytes than the advertised window. Whatever is dropped for lack of memory, the transfer
//! must recover. Virtual time; each case is named by its numbers, and a failure prints them.
//!
//! `cargo test` plays some hundred cases, `USERSOCK_FULL=1 cargo test --release --test lossless` 5,000;
//! `USERSOCK_CASE=N` plays one, and `USERSOCK_PCAP=FILE` beside it captures the client's end.

mod common;

use common::transfer::{Case, Stall, run_capturing};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use usersock::device::link::{Direction, LinkConfig};
use usersock::internal::sys::lock::Mutex;

const MTUS: [u32; 5] = [296, 576, 1280, 1500, 9000];
const RCVBUFS: [i32; 10] = [2_304, 4_608, 8_192, 10_000, 16_384, 32_768, 65_536, 100_000, 131_072, 262_144];
const DELAYS_MS: [u64; 5] = [0, 10, 50, 300, 1_000];
/// Milliseconds for which the readers read, and then sleep.
const PAUSES_MS: [(u64, u64); 10] = [
    (1, 0),
    (1, 10),
    (10, 100),
    (100, 100),
    (10, 700),
    (300, 300),
    (300, 3_000),
    (1_000, 1_000),
    (50, 5_000),
    (2_000, 30_000),
];
/// Bits per second: 0, unlimited, and a slow line.
const RATES: [u64; 2] = [0, 2_000_000];

/// Case number `n` of 5,000, and its parameters as text.
fn case(n: usize) -> (String, Case) {
    let mut rest = n;
    let mut pick = |len: usize| {
        let i = rest % len;
        rest /= len;
        i
    };
    // The first varies fastest, so that a stride through the table meets every value of each.
    let mtu = MTUS[pick(MTUS.len())];
    let rcvbuf = RCVBUFS[pick(RCVBUFS.len())];
    let delay = DELAYS_MS[pick(DELAYS_MS.len())];
    let (reads, sleeps) = PAUSES_MS[pick(PAUSES_MS.len())];
    let rate = RATES[pick(RATES.len())];
    let direction = Direction::default().rate(rate).delay(Duration::from_millis(delay));
    let stall =
        (sleeps != 0).then(|| Stall { reads: Duration::from_millis(reads), sleeps: Duration::from_millis(sleeps) });
    let bytes = (rcvbuf as u64 * 4).clamp(20_000, 400_000);
    let case = Case {
        bytes: [bytes; 2],
        link: LinkConfig::both(direction).mtu(mtu),
        rcvbuf: Some(rcvbuf),
        stall,
        ..Case::new(n as u64)
    };
    let name = format!(
        "case {n}: mtu {mtu}, rcvbuf {rcvbuf}, delay {delay} ms, reads {reads} ms, sleeps {sleeps} ms, rate {rate}"
    );
    (name, case)
}

const CASES: usize = 5_000;

/// Runs the case of this number; the error is its name and the failure.
fn play(n: usize) -> Result<(), String> {
    let (name, case) = case(n);
    let capture = std::env::var_os("USERSOCK_PCAP").map(|path| std::fs::File::create(path).unwrap());
    let file = capture.map(|f| Box::new(f) as usersock::device::pcap::Sink);
    let outcome = catch_unwind(AssertUnwindSafe(|| run_capturing(&case, file)));
    outcome.map(drop).map_err(|panic| {
        let why = panic.downcast_ref::<String>().cloned().unwrap_or_default();
        format!("{name}: {why}")
    })
}

#[test]
fn two_ends_that_run_out_of_memory_at_once_find_each_other_again() {
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<usize>().ok());
    // A stride that shares no factor with the table's sides walks through all of their combinations.
    let step = if std::env::var_os("USERSOCK_FULL").is_some() { 1 } else { 23 };
    let cases: Vec<usize> = match number("USERSOCK_CASE") {
        Some(n) => vec![n],
        None => (0..CASES).step_by(step).collect(),
    };
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|threads| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            threads.spawn(|| {
                while let Some(&n) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(why) = play(n) {
                        failed.lock().push((n, why));
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner();
    failed.sort();
    let lines: Vec<String> = failed.into_iter().map(|(_, why)| why).collect();
    assert!(lines.is_empty(), "{} of {} transfers failed:\n{}", lines.len(), cases.len(), lines.join("\n"));
}
