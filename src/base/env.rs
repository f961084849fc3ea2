//! Time and randomness, which are passed to the stack and never fetched by it. Above: all code that calls `now` or
//! draws a random number. Below: std's monotonic clock and /dev/urandom in service, a settable clock and a seed in
//! tests and simulations. Linux: ktime_get(), ktime_get_real(), get_random_bytes().

pub use core::time::Duration;

use crate::base::padded::Padded;
use crate::sys::lock::Mutex;
use crate::sys::{fork, thread};
use core::hash::Hasher;
use siphasher::sip::SipHasher24;
use std::fs::File;
use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// A point of the stack's monotonic time: nanoseconds since the stack's epoch (its creation, or a value that a test
/// sets). 64 bits last 584 years; arithmetic saturates at both ends, so that adding a wait to a point in time cannot
/// wrap into the past.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

impl Instant {
    /// The stack's epoch.
    pub const ZERO: Instant = Instant(0);
    /// Later than any event: the deadline of a wait without end.
    pub const MAX: Instant = Instant(u64::MAX);

    /// The time `nanos` nanoseconds after the epoch.
    pub const fn from_nanos(nanos: u64) -> Instant {
        Instant(nanos)
    }

    /// The time `micros` microseconds after the epoch; saturates.
    pub const fn from_micros(micros: u64) -> Instant {
        Instant(micros.saturating_mul(1_000))
    }

    /// The time `millis` milliseconds after the epoch; saturates.
    pub const fn from_millis(millis: u64) -> Instant {
        Instant(millis.saturating_mul(1_000_000))
    }

    /// The time `secs` seconds after the epoch; saturates.
    pub const fn from_secs(secs: u64) -> Instant {
        Instant(secs.saturating_mul(1_000_000_000))
    }

    /// Nanoseconds since the epoch.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whole microseconds since the epoch.
    pub const fn as_micros(self) -> u64 {
        self.0 / 1_000
    }

    /// Whole milliseconds since the epoch.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Whole seconds since the epoch.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1_000_000_000
    }

    /// Time elapsed since `earlier`; zero when `earlier` is later.
    pub const fn saturating_sub(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Whole microseconds elapsed since `earlier`; zero when `earlier` is later.
    pub const fn micros_since(self, earlier: Instant) -> i64 {
        (self.0.saturating_sub(earlier.0) / 1_000) as i64
    }

    /// The time `nanos` nanoseconds later; [`Instant::MAX`] on overflow.
    pub(crate) const fn after_nanos(self, nanos: u64) -> Instant {
        Instant(self.0.saturating_add(nanos))
    }

    /// `self + wait`; [`Instant::MAX`] on overflow.
    pub const fn saturating_add(self, wait: Duration) -> Instant {
        Instant(self.0.saturating_add(nanos(wait)))
    }
}

/// A duration in nanoseconds; saturates (the range of `Duration` exceeds 64 bits of nanoseconds).
pub(crate) const fn nanos(duration: Duration) -> u64 {
    // In 64 bits: each timer that is set comes by here.
    match duration.as_secs().checked_mul(1_000_000_000) {
        Some(secs) => secs.saturating_add(duration.subsec_nanos() as u64),
        None => u64::MAX,
    }
}

impl core::fmt::Debug for Instant {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}.{:09}s", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

impl core::ops::Add<Duration> for Instant {
    type Output = Instant;
    fn add(self, wait: Duration) -> Instant {
        self.saturating_add(wait)
    }
}

impl core::ops::AddAssign<Duration> for Instant {
    fn add_assign(&mut self, wait: Duration) {
        *self = *self + wait;
    }
}

impl core::ops::Sub<Duration> for Instant {
    type Output = Instant;
    fn sub(self, back: Duration) -> Instant {
        Instant(self.0.saturating_sub(nanos(back)))
    }
}

impl core::ops::SubAssign<Duration> for Instant {
    fn sub_assign(&mut self, back: Duration) {
        *self = *self - back;
    }
}

impl core::ops::Sub<Instant> for Instant {
    type Output = Duration;
    /// As [`Instant::saturating_sub`].
    fn sub(self, earlier: Instant) -> Duration {
        self.saturating_sub(earlier)
    }
}

/// The source of the stack's time. `now` never goes back.
pub trait Clock: Send + Sync {
    /// Monotonic time since the stack's epoch.
    fn now(&self) -> Instant;
    /// This clock, if it is the system's: most stacks read that one, and so without an indirect call.
    fn real(&self) -> Option<RealClock> {
        None
    }
    /// Time since the UNIX epoch, for timestamps that programs see (`SO_TIMESTAMP`, pcap). It may jump.
    fn wall(&self) -> Duration;
    /// The point of the stack's time at which CLOCK_MONOTONIC is `nanos`, for times that programs give (SCM_TXTIME).
    /// The default is for programs that read this clock.
    fn at_monotonic(&self, nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }
}

/// How long a call may wait, or without limit; half of what an `Option<Duration>` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitLimit(u64);

impl WaitLimit {
    /// No time at all.
    pub const ZERO: WaitLimit = WaitLimit(0);
    /// Without limit.
    pub const NONE: WaitLimit = WaitLimit(u64::MAX);

    /// A limit; what does not fit into 64 bits of nanoseconds, 584 years, is none.
    pub fn new(limit: Option<Duration>) -> WaitLimit {
        WaitLimit(limit.and_then(|t| u64::try_from(t.as_nanos()).ok()).unwrap_or(u64::MAX))
    }

    /// The limit; None: without.
    pub fn get(self) -> Option<Duration> {
        (self != WaitLimit::NONE).then(|| Duration::from_nanos(self.0))
    }
}

/// The system's monotonic clock, counted from the creation of this value.
#[derive(Debug, Clone, Copy)]
pub struct RealClock {
    /// CLOCK_MONOTONIC at the creation, nanoseconds.
    epoch: u64,
}

impl RealClock {
    /// A clock that starts at zero.
    pub fn new() -> RealClock {
        RealClock { epoch: crate::sys::fd::monotonic() }
    }
}

impl Default for RealClock {
    fn default() -> Self {
        RealClock::new()
    }
}

impl Clock for RealClock {
    #[inline]
    fn now(&self) -> Instant {
        self.at_monotonic(crate::sys::fd::monotonic())
    }

    fn real(&self) -> Option<RealClock> {
        Some(*self)
    }

    fn wall(&self) -> Duration {
        // The wall clock is before 1970: return zero, so that the stack runs on a machine whose clock was never set.
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO)
    }

    fn at_monotonic(&self, nanos: u64) -> Instant {
        Instant::from_nanos(nanos.saturating_sub(self.epoch))
    }
}

/// A clock that moves only when told to, and never back. Wall time is monotonic time plus a constant.
#[derive(Debug)]
pub struct VirtualClock {
    now: AtomicU64,
    wall_at_epoch: Duration,
}

impl VirtualClock {
    /// Starts at [`Instant::ZERO`], at wall time 2000-01-01 00:00 UTC.
    pub const fn new() -> VirtualClock {
        VirtualClock::with_wall(Duration::from_secs(946_684_800))
    }

    /// Starts at [`Instant::ZERO`], at wall time `wall_at_epoch` (since the UNIX epoch).
    pub const fn with_wall(wall_at_epoch: Duration) -> VirtualClock {
        VirtualClock { now: AtomicU64::new(0), wall_at_epoch }
    }

    /// Moves the clock to `to`. An earlier time than the current one is ignored.
    pub fn set(&self, to: Instant) {
        self.now.fetch_max(to.0, Ordering::AcqRel);
    }

    /// Moves the clock ahead by `by` and returns the new time; stops at [`Instant::MAX`].
    pub fn advance(&self, by: Duration) -> Instant {
        let ahead = |now: u64| now.saturating_add(nanos(by));
        let before = self.now.fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| Some(ahead(now)));
        Instant(ahead(before.unwrap_or_else(|now| now)))
    }
}

impl Default for VirtualClock {
    fn default() -> Self {
        VirtualClock::new()
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Instant {
        Instant(self.now.load(Ordering::Acquire))
    }

    fn wall(&self) -> Duration {
        self.wall_at_epoch.saturating_add(Duration::from_nanos(self.now().0))
    }
}

/// The source of random numbers. Unpredictable in service ([`OsEntropy`]), repeatable in tests ([`SeededEntropy`]).
pub trait Entropy: Send + Sync {
    /// Fills `buf` with random bytes.
    fn fill(&self, buf: &mut [u8]);

    /// A random number of 32 bits.
    fn next_u32(&self) -> u32 {
        let mut b = [0; 4];
        self.fill(&mut b);
        u32::from_le_bytes(b)
    }

    /// A random number of 64 bits.
    fn next_u64(&self) -> u64 {
        let mut b = [0; 8];
        self.fill(&mut b);
        u64::from_le_bytes(b)
    }

    /// A number from 0 to `n` - 1, each equally likely; 0 when `n` is 0.
    fn below(&self, n: u32) -> u32 {
        // The high half of the product is the result. A draw whose low half is below 2^32 mod n is rejected, which
        // makes all results equally likely (Lemire, "Fast random integer generation in an interval").
        let mut wide = u64::from(self.next_u32()) * u64::from(n);
        if (wide as u32) < n {
            let uneven = n.wrapping_neg() % n;
            while (wide as u32) < uneven {
                wide = u64::from(self.next_u32()) * u64::from(n);
            }
        }
        (wide >> 32) as u32
    }
}

/// Size of a buffer, in bytes: 64 keys, so that most port choices cost no system call.
const POOL: usize = 1024;
/// Buffers, each used by some of the threads; all but the first are filled at their first use.
const POOLS: usize = 8;

/// The system's random numbers, read from /dev/urandom through a buffer. Each byte is used once and wiped from the
/// buffer. After fork(2) the child discards the inherited buffer, so that parent and child never share an ISN.
///
/// No descriptor is kept: after a daemon has closed all descriptors, ours would refer to another file. If /dev/urandom
/// can no longer be opened (EMFILE, chroot), numbers come from a keyed generator that was seeded while it could.
pub struct OsEntropy {
    /// Threads do not wait for each other.
    pools: [Padded<Mutex<Pool>>; POOLS],
}

struct Pool {
    /// Bytes from `used` on have not been used.
    bytes: Box<[u8; POOL]>,
    used: usize,
    /// Fork count of the process that filled the buffer.
    generation: u32,
    /// Key and counter of the generator used when the device cannot be opened.
    reserve: ([u8; 16], u64),
}

impl OsEntropy {
    /// Reads /dev/urandom. Fails with the errno of open(2) or read(2); without randomness a stack must not start.
    pub fn new() -> crate::base::error::Result<OsEntropy> {
        let mut bytes = Box::new([0; POOL]);
        let mut key = [0; 16];
        let mut source = File::open("/dev/urandom")?;
        source.read_exact(&mut bytes[..])?;
        source.read_exact(&mut key)?;
        let pools = std::array::from_fn(|i| {
            // The generators of two buffers share the key and no part of its sequence.
            let (generation, reserve) = (fork::generation(), (key, (i as u64) << 56));
            let (bytes, used) = if i == 0 { (bytes.clone(), 0) } else { (Box::new([0; POOL]), POOL) };
            Padded(Mutex::new(Pool { bytes, used, generation, reserve }))
        });
        Ok(OsEntropy { pools })
    }
}

impl OsEntropy {
    /// This thread's.
    fn pool(&self) -> &Mutex<Pool> {
        &self.pools[thread::number() % POOLS]
    }
}

impl Pool {
    /// A number's bytes, of the next in the buffer.
    #[inline]
    fn take<const N: usize>(&mut self, generation: u32) -> [u8; N] {
        let mut taken = [0; N];
        match self.bytes[self.used..].first_chunk_mut::<N>() {
            Some(fresh) if self.generation == generation => {
                taken = std::mem::replace(fresh, taken);
                self.used += N;
            }
            _ => self.fill(&mut taken, generation),
        }
        taken
    }

    fn fill(&mut self, mut buf: &mut [u8], generation: u32) {
        if self.generation != generation {
            self.generation = generation;
            self.used = POOL;
        }
        while !buf.is_empty() {
            if self.used == POOL {
                self.refill(|bytes| File::open("/dev/urandom")?.read_exact(bytes));
            }
            let n = buf.len().min(POOL - self.used);
            let (head, rest) = buf.split_at_mut(n);
            let fresh = &mut self.bytes[self.used..self.used + n];
            head.copy_from_slice(fresh);
            fresh.fill(0);
            self.used += n;
            buf = rest;
        }
    }

    fn refill(&mut self, read: impl FnOnce(&mut [u8]) -> std::io::Result<()>) {
        if read(&mut self.bytes[..]).is_err() {
            let (key, position) = &mut self.reserve;
            let pid = std::process::id();
            for word in self.bytes.chunks_exact_mut(8) {
                // SipHash in counter mode; the process id gives a forked child another sequence than its parent.
                let mut hasher = SipHasher24::new_with_key(key);
                hasher.write_u64(*position);
                hasher.write_u32(pid);
                hasher.write_u32(self.generation);
                word.copy_from_slice(&hasher.finish().to_le_bytes());
                *position += 1;
            }
        }
        self.used = 0;
    }
}

impl Entropy for OsEntropy {
    fn fill(&self, buf: &mut [u8]) {
        self.pool().lock().fill(buf, fork::generation());
    }

    fn next_u32(&self) -> u32 {
        u32::from_le_bytes(self.pool().lock().take(fork::generation()))
    }

    fn next_u64(&self) -> u64 {
        u64::from_le_bytes(self.pool().lock().take(fork::generation()))
    }
}

impl core::fmt::Debug for OsEntropy {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("OsEntropy")
    }
}

/// A seeded generator: the same seed gives the same sequence on every machine. Never for service: with the seed one can
/// compute the ports and the ISNs. SplitMix64 (Steele, Lea, Flood 2014), one atomic add per number.
#[derive(Debug)]
pub struct SeededEntropy {
    state: AtomicU64,
}

impl SeededEntropy {
    /// The sequence for `seed`.
    pub const fn new(seed: u64) -> SeededEntropy {
        SeededEntropy { state: AtomicU64::new(seed) }
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, buf: &mut [u8]) {
        for chunk in buf.chunks_mut(8) {
            chunk.copy_from_slice(&self.next_u64().to_le_bytes()[..chunk.len()]);
        }
    }

    fn next_u32(&self) -> u32 {
        (self.next_u64() >> 32) as u32
    }

    fn next_u64(&self) -> u64 {
        const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.state.fetch_add(GAMMA, Ordering::Relaxed).wrapping_add(GAMMA);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests;
