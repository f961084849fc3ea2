//! Statistics of a stack: MIB counters with Linux's names, and a counter for each reason to drop a packet. Incremented
//! by all layers; read by nstat-like tools, tests and the C API. Linux: SNMP_INC_STATS per CPU,
//! /proc/net/{snmp,netstat,snmp6}.
//!
//! An increment is a plain addition to a cache line of the thread's own. Threads beyond the first `SHARDS` - 1 share
//! the last copy, with an atomic addition. Reading sums the shards. A sum taken while other threads count is a value
//! between the one before and the one after, as in Linux.
//!
//! | file | what |
//! |---|---|
//! | `mib` | the counters by Linux's names |
//! | `drop_reason` | why a packet was dropped (enum skb_drop_reason) |
//! | `log` | lines that plug-ins log |
//! | `named` | counters and drop reasons of plug-ins |
//! | `percpu` | a number that each thread changes in a copy of its own |

mod drop_reason;
mod log;
mod mib;
mod named;
mod percpu;
#[cfg(test)]
mod tests;

pub use drop_reason::DropReason;
pub use log::{Level, Log};
pub use mib::{Group, Mib};
pub use named::{NamedCounter, NamedCounters};
pub use percpu::PercpuCounter;

use crate::sys::near::here;
use crate::trace::{Dropper, Event, Trace};
use core::cell::Cell;
use core::fmt::Write;
use core::panic::Location;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicU64, AtomicUsize};

/// Number of copies of each counter: one for each thread up to `SHARDS` - 1 threads, and the last for all others.
pub(crate) const SHARDS: usize = 8;

const MIBS: usize = Mib::ALL.len();
const REASONS: usize = DropReason::ALL.len();

/// One copy of all counters. 128 bytes, because processors prefetch pairs of cache lines.
#[repr(align(128))]
struct Shard {
    mibs: [AtomicU64; MIBS],
    drops: [AtomicU64; REASONS],
}

/// A bit for each shard that a thread has reserved. Shards are assigned per process, not per stack: a thread has the
/// same shard in all stacks.
static TAKEN: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static HOLD: Hold = const { Hold(Cell::new(SHARDS - 1)) };
}

/// A thread's reservation of a shard, released when the thread ends; `SHARDS - 1`: it has none.
struct Hold(Cell<usize>);

impl Drop for Hold {
    fn drop(&mut self) {
        let mine = self.0.get();
        here().shard.set(SHARDS);
        if mine < SHARDS - 1 {
            // Release: this thread's increments happen before those of the next owner.
            TAKEN.fetch_and(!(1 << mine), Release);
        }
    }
}

#[cold]
fn take_shard() -> usize {
    let free = |taken: usize| Some(taken | 1 << (!taken).trailing_zeros()).filter(|t| t >> (SHARDS - 1) == 0);
    let reserve = |hold: &Hold| {
        if let Ok(before) = TAKEN.fetch_update(Acquire, Relaxed, free) {
            hold.0.set((!before).trailing_zeros() as usize);
        }
        hold.0.get()
    };
    let mine = HOLD.try_with(reserve).unwrap_or(SHARDS - 1);
    here().shard.set(mine + 1);
    mine
}

/// The shard of the calling thread; `SHARDS - 1`: the shared one.
#[inline]
pub(crate) fn shard_index() -> usize {
    match here().shard.get() {
        0 => take_shard(),
        mine => mine - 1,
    }
}

/// Adds to a counter of shard `shard`.
#[inline]
fn count(shard: usize, counter: &AtomicU64, n: u64) {
    if shard < SHARDS - 1 {
        // No other thread writes it, so no locked instruction is needed, which would be the greatest part of the cost.
        counter.store(counter.load(Relaxed).wrapping_add(n), Relaxed);
    } else {
        counter.fetch_add(n, Relaxed);
    }
}

/// All counters of a stack.
pub struct Counters {
    shards: Box<[Shard; SHARDS]>,
    /// By family (0: ICMP, 1: ICMPv6), direction (0: in, 1: out) and type.
    icmp_types: Box<[[[AtomicU64; 256]; 2]; 2]>,
    /// Counters of plug-ins.
    pub named: NamedCounters,
    /// Drop reasons of plug-ins.
    pub named_drops: NamedCounters,
    /// Who listens to what happens.
    pub(crate) trace: Trace,
}

impl Counters {
    /// Counters at zero, except the four constants of RFC 4022 and the IP ones of RFC 4293, with the values that Linux
    /// prints (on a host that does not forward).
    pub(crate) fn new() -> Counters {
        let zero =
            |_| Shard { mibs: [const { AtomicU64::new(0) }; MIBS], drops: [const { AtomicU64::new(0) }; REASONS] };
        let counters = Counters {
            shards: Box::new(std::array::from_fn(zero)),
            icmp_types: Box::new([const { [const { [const { AtomicU64::new(0) }; 256] }; 2] }; 2]),
            named: NamedCounters::mibs(),
            named_drops: NamedCounters::drops(),
            trace: Trace::default(),
        };
        counters.set(Mib::IpForwarding, 2);
        counters.set(Mib::IpDefaultTTL, 64);
        counters.set(Mib::TcpRtoAlgorithm, 1);
        counters.set(Mib::TcpRtoMin, 200);
        counters.set(Mib::TcpRtoMax, 120_000);
        counters.set(Mib::TcpMaxConn, -1i64 as u64);
        counters
    }

    /// The calling thread's copy, for a place that counts several times: finding it costs more than counting.
    #[inline(always)]
    pub(crate) fn here(&self) -> Here<'_> {
        let shard = shard_index();
        Here { shard, mibs: &self.shards[shard % SHARDS].mibs }
    }

    /// Increments a counter.
    #[inline]
    pub(crate) fn inc(&self, mib: Mib) {
        self.add(mib, 1);
    }

    /// Adds `n` to a counter. Wraps at 2^64, as in Linux.
    #[inline]
    pub(crate) fn add(&self, mib: Mib, n: u64) {
        self.here().add(mib, n);
    }

    /// Decrements a gauge (`TcpCurrEstab`). Another thread may have incremented it: the sum is right, but a shard may
    /// be "negative".
    #[inline]
    pub(crate) fn dec(&self, mib: Mib) {
        self.add(mib, 1u64.wrapping_neg());
    }

    /// Sets a gauge to `value`. Concurrent `inc` and `dec` still take effect; two concurrent `set`s may mix.
    pub(crate) fn set(&self, mib: Mib, value: u64) {
        self.add(mib, value.wrapping_sub(self.get(mib)));
    }

    /// The counter's value.
    pub fn get(&self, mib: Mib) -> u64 {
        self.shards.iter().fold(0, |sum, shard| sum.wrapping_add(shard.mibs[mib as usize].load(Relaxed)))
    }

    /// Counts a dropped packet, and traces it with the place of the call (kfree_skb_reason).
    #[inline]
    #[track_caller]
    pub fn drop(&self, reason: DropReason) {
        let at = Location::caller();
        self.trace.point(|| Event::Drop { reason: reason.name().into(), by: Dropper::Place(at) });
        self.count_drop(reason);
    }

    /// The same for a packet that a plug-in drops, traced with its name.
    pub fn drop_from(&self, reason: DropReason, plugin: &str) {
        self.trace.point(|| Event::Drop { reason: reason.name().into(), by: Dropper::Plugin(plugin.to_owned()) });
        self.count_drop(reason);
    }

    /// The same for a reason of the plug-in's own, from `named_drops`.
    pub fn drop_named(&self, reason: &NamedCounter, plugin: &str) {
        let name = || reason.name().to_owned().into();
        self.trace.point(|| Event::Drop { reason: name(), by: Dropper::Plugin(plugin.to_owned()) });
        reason.add(1);
    }

    #[inline]
    fn count_drop(&self, reason: DropReason) {
        let shard = shard_index();
        count(shard, &self.shards[shard % SHARDS].drops[reason as usize], 1);
    }

    /// Number of packets dropped for this reason.
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.shards.iter().fold(0, |sum, shard| sum.wrapping_add(shard.drops[reason as usize].load(Relaxed)))
    }

    /// Every reason of Linux's with its count, including zeros.
    pub fn iter_drops(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.iter().map(|&reason| (reason, self.drops(reason)))
    }

    /// Counts a received ICMP message of this type (`IcmpMsgInType8`).
    pub(crate) fn icmp_in(&self, icmp_type: u8) {
        self.icmp_types[0][0][usize::from(icmp_type)].fetch_add(1, Relaxed);
    }

    /// Counts a sent ICMP message of this type (`IcmpMsgOutType0`).
    pub(crate) fn icmp_out(&self, icmp_type: u8) {
        self.icmp_types[0][1][usize::from(icmp_type)].fetch_add(1, Relaxed);
    }

    /// Counts a received ICMPv6 message of this type (`Icmp6InType128`).
    pub(crate) fn icmp6_in(&self, icmp_type: u8) {
        self.icmp_types[1][0][usize::from(icmp_type)].fetch_add(1, Relaxed);
    }

    /// Counts a sent ICMPv6 message of this type (`Icmp6OutType129`).
    pub(crate) fn icmp6_out(&self, icmp_type: u8) {
        self.icmp_types[1][1][usize::from(icmp_type)].fetch_add(1, Relaxed);
    }

    /// Every counter of the enum with its value, in the order of Linux's files; including zeros.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Mib::ALL.iter().map(|&mib| (mib.name(), self.get(mib)))
    }

    /// The value of a counter by nstat's name, including the per-type ones (`IcmpMsgInType3`, `Icmp6OutType135`) and
    /// those of plug-in protocols.
    pub fn get_by_name(&self, name: &str) -> Option<u64> {
        if let Some(mib) = Mib::from_name(name) {
            return Some(self.get(mib));
        }
        if let Some(n) = self.named.get(name) {
            return Some(n);
        }
        ICMP_TYPE_NAMES.iter().find_map(|&(prefix, family, direction)| {
            let icmp_type: u8 = name.strip_prefix(prefix)?.parse().ok()?;
            Some(self.icmp_types[family][direction][usize::from(icmp_type)].load(Relaxed))
        })
    }

    /// The text of /proc/net/snmp: a line of names and a line of values for Ip, Icmp, IcmpMsg (only types counted), Tcp
    /// and Udp.
    pub fn snmp_text(&self) -> String {
        let mut out = String::new();
        self.write_group(&mut out, Group::Ip);
        self.write_group(&mut out, Group::Icmp);
        let seen: Vec<_> = self.icmp_types_seen(0).collect();
        if !seen.is_empty() {
            let short = |name: &str| name["IcmpMsg".len()..].to_owned();
            write_lines(&mut out, "IcmpMsg", seen.iter().map(|(name, value)| (short(name), value.to_string())));
        }
        self.write_group(&mut out, Group::Tcp);
        self.write_group(&mut out, Group::Udp);
        out
    }

    /// The text of /proc/net/netstat: a line of names and a line of values for TcpExt and IpExt.
    pub fn netstat_text(&self) -> String {
        let mut out = String::new();
        self.write_group(&mut out, Group::TcpExt);
        self.write_group(&mut out, Group::IpExt);
        out
    }

    /// The text of /proc/net/snmp6: a line for each counter; the ICMPv6 types counted are between the ICMPv6 and UDP
    /// lines.
    pub fn snmp6_text(&self) -> String {
        let mut out = String::new();
        let named = |group: Group| group.mibs().iter().map(|&mib| (mib.name().to_owned(), self.get(mib)));
        let lines =
            named(Group::Ip6).chain(named(Group::Icmp6)).chain(self.icmp_types_seen(1)).chain(named(Group::Udp6));
        for (name, value) in lines {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{name:<32}\t{value}");
        }
        out
    }

    fn write_group(&self, out: &mut String, group: Group) {
        let value = |mib| match mib {
            // The only signed value: -1 means that there is no fixed limit.
            Mib::TcpMaxConn => (self.get(mib) as i64).to_string(),
            _ => self.get(mib).to_string(),
        };
        let cells = group.mibs().iter().map(|&mib| (mib.short_name().to_owned(), value(mib)));
        write_lines(out, group.name(), cells);
    }

    /// Every ICMP and ICMPv6 type that was counted, by nstat's names.
    pub(crate) fn icmp_types(&self) -> impl Iterator<Item = (String, u64)> + '_ {
        (0..2).flat_map(|family| self.icmp_types_seen(family))
    }

    fn icmp_types_seen(&self, family: usize) -> impl Iterator<Item = (String, u64)> + '_ {
        ICMP_TYPE_NAMES.iter().filter(move |(_, of, _)| *of == family).flat_map(move |&(prefix, _, direction)| {
            let counts = self.icmp_types[family][direction].iter().enumerate();
            counts.map(move |(t, n)| (format!("{prefix}{t}"), n.load(Relaxed))).filter(|&(_, n)| n > 0)
        })
    }
}

/// Prefix of the per-type counters' names, family and direction.
const ICMP_TYPE_NAMES: [(&str, usize, usize); 4] =
    [("IcmpMsgInType", 0, 0), ("IcmpMsgOutType", 0, 1), ("Icmp6InType", 1, 0), ("Icmp6OutType", 1, 1)];

fn write_lines(out: &mut String, title: &str, cells: impl Iterator<Item = (String, String)>) {
    let (names, values): (Vec<_>, Vec<_>) = cells.unzip();
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{title}: {}\n{title}: {}", names.join(" "), values.join(" "));
}

/// A thread's copy of the counters: see [`Counters::here`].
#[derive(Clone, Copy)]
pub(crate) struct Here<'a> {
    shard: usize,
    mibs: &'a [AtomicU64; MIBS],
}

impl Here<'_> {
    /// See [`Counters::inc`].
    #[inline]
    pub(crate) fn inc(self, mib: Mib) {
        self.add(mib, 1);
    }

    /// See [`Counters::add`].
    #[inline]
    pub(crate) fn add(self, mib: Mib, n: u64) {
        count(self.shard, &self.mibs[mib as usize], n);
    }
}

impl Default for Counters {
    fn default() -> Self {
        Counters::new()
    }
}

impl core::fmt::Debug for Counters {
    /// The counters and drop reasons that are not zero.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let drops = self.iter_drops().map(|(reason, n)| (reason.name(), n));
        f.debug_map().entries(self.iter().chain(drops).filter(|&(_, n)| n != 0)).finish()
    }
}
