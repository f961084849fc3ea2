//! Mutex, RwLock and Condvar that consist of words of memory only. Used by the whole crate, and by `ffi`. None is ever
//! poisoned, as in parking_lot (`sock` decides what a panic leaves behind). They are not parking_lot's, which queues
//! sleeping threads in one table per process: a fork(2) child inherits that table with locked buckets and with entries
//! of threads that do not exist, and its new stacks would block there.
//!
//! The RwLock is std's. A connection takes some 60 mutexes, of which std's looks three times each whether somebody
//! panics, so the mutex is one here, without poisoning: the third of Drepper, "Futexes Are Tricky" (2011), which is
//! std's as well. Its guards are `lock_api`'s. The condition variable belongs to it.

use super::raw::syscall;
use lock_api::{GuardNoSend, RawMutex};
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{self, PoisonError};

pub(crate) use std::sync::{RwLockReadGuard, RwLockWriteGuard};

/// Words of a mutex: nobody has it; somebody has; and threads may wait for it.
const FREE: u32 = 0;
const LOCKED: u32 = 1;
const CONTENDED: u32 = 2;
/// Looks at a mutex that somebody has before a thread sleeps.
const SPINS: u32 = 100;

/// Sleeps while the word has this value, or for no reason.
fn sleep_while(word: &AtomicU32, value: u32) {
    let op = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: an aligned word that outlives the call; without a timeout.
    let _ = unsafe { syscall!(libc::SYS_futex, word.as_ptr(), op, value, 0) };
}

/// Wakes at most `threads` that sleep on the word.
fn wake(word: &AtomicU32, threads: i32) {
    let op = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the address serves as a key only; nothing is read or written.
    let _ = unsafe { syscall!(libc::SYS_futex, word.as_ptr(), op, threads) };
}

/// A word that threads take in turns. Its value, guards and their rules are `lock_api`'s, as in parking_lot.
pub struct Word(AtomicU32);

// SAFETY: the word is FREE for as long as nobody has it, and only one thread at a time changes it from FREE. What one
// thread wrote before it unlocked (Release) the next one sees (Acquire).
unsafe impl RawMutex for Word {
    #[allow(clippy::declare_interior_mutable_const)] // each mutex begins with its own
    const INIT: Word = Word(AtomicU32::new(FREE));
    /// A thread unlocks what it has locked.
    type GuardMarker = GuardNoSend;

    #[inline]
    fn lock(&self) {
        if !self.try_lock() {
            self.lock_contended();
        }
    }

    #[inline]
    fn try_lock(&self) -> bool {
        self.0.compare_exchange(FREE, LOCKED, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[inline]
    unsafe fn unlock(&self) {
        if self.0.swap(FREE, Ordering::Release) == CONTENDED {
            self.wake_one();
        }
    }
}

impl Word {
    #[cold]
    fn lock_contended(&self) {
        let mut spins = SPINS;
        while self.0.load(Ordering::Relaxed) == LOCKED && spins > 0 {
            std::hint::spin_loop();
            spins -= 1;
        }
        if self.try_lock() {
            return;
        }
        // Whoever takes it from here on cannot know whether others sleep, and wakes one when it unlocks.
        while self.0.swap(CONTENDED, Ordering::Acquire) != FREE {
            sleep_while(&self.0, CONTENDED);
        }
    }

    #[cold]
    fn wake_one(&self) {
        wake(&self.0, 1);
    }
}

/// As std's.
pub struct Mutex<T: ?Sized>(lock_api::Mutex<Word, T>);

/// The value, until it is dropped; then the mutex is free again.
pub(crate) type MutexGuard<'a, T> = lock_api::MutexGuard<'a, Word, T>;

impl<T: ?Sized> UnwindSafe for Mutex<T> {}
impl<T: ?Sized> RefUnwindSafe for Mutex<T> {}

impl<T> Mutex<T> {
    /// Unlocked.
    pub const fn new(value: T) -> Mutex<T> {
        Mutex(lock_api::Mutex::new(value))
    }
    /// The value.
    pub fn into_inner(self) -> T {
        self.0.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Waits for the lock.
    #[inline]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock()
    }
    /// None: another thread holds the lock.
    #[inline]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock()
    }
    /// The value, where no other reference exists.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Mutex<T> {
        Mutex::new(T::default())
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// As std's.
#[derive(Debug, Default)]
pub struct RwLock<T: ?Sized>(sync::RwLock<T>);

impl<T> RwLock<T> {
    /// Unlocked.
    pub const fn new(value: T) -> RwLock<T> {
        RwLock(sync::RwLock::new(value))
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Waits until no writer holds the lock.
    #[inline]
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
    /// Waits until no other thread holds the lock.
    #[inline]
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
    /// The value, where no other reference exists.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As std's, for the mutex above: a count of notifications.
#[derive(Debug, Default)]
pub struct Condvar(AtomicU32);

impl Condvar {
    /// Releases the mutex, waits for a notification, and takes the mutex again. Also returns for no reason.
    pub fn wait<'a, T: ?Sized>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        // Read with the mutex locked: a notification that comes after it is released changes the count.
        let seen = self.0.load(Ordering::Relaxed);
        let mutex = MutexGuard::mutex(&guard);
        drop(guard);
        sleep_while(&self.0, seen);
        mutex.lock()
    }
    /// Wakes one waiting thread.
    pub fn notify_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
        wake(&self.0, 1);
    }
    /// Wakes all waiting threads.
    pub fn notify_all(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
        wake(&self.0, i32::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_poisons_nothing() {
        let (m, r) = (Mutex::new(1), RwLock::new(1));
        std::thread::scope(|s| {
            let died = s.spawn(|| {
                let (_m, _r) = (m.lock(), r.write());
                std::panic::resume_unwind(Box::new(()));
            });
            assert!(died.join().is_err());
        });
        *m.lock() += 1;
        assert_eq!((m.try_lock().map(|g| *g), *r.read()), (Some(2), 1));
        let held = m.lock();
        assert!(m.try_lock().is_none());
        drop(held);
    }

    #[test]
    fn threads_that_meet_at_a_mutex_take_turns_and_each_that_sleeps_is_woken() {
        const THREADS: u64 = 4;
        const TURNS: u64 = if cfg!(miri) { 20 } else { 20_000 };
        let m = Mutex::new((0_u64, 0_u64));
        std::thread::scope(|s| {
            for _ in 0..THREADS {
                s.spawn(|| {
                    for _ in 0..TURNS {
                        let mut g = m.lock();
                        assert_eq!(g.0, g.1);
                        g.0 += 1;
                        if g.0.is_multiple_of(64) {
                            // Long enough that the others stop spinning.
                            std::thread::yield_now();
                        }
                        g.1 += 1;
                    }
                });
            }
        });
        assert_eq!(m.into_inner(), (THREADS * TURNS, THREADS * TURNS));
    }

    #[test]
    fn a_notification_reaches_who_waits() {
        const ROUNDS: u32 = if cfg!(miri) { 5 } else { 2_000 };
        let (turn, changed) = (Mutex::new(0_u32), Condvar::default());
        let play = |mine: u32, all: bool| {
            for _ in 0..ROUNDS {
                let mut g = turn.lock();
                while *g % 2 != mine {
                    g = changed.wait(g);
                }
                *g += 1;
                drop(g);
                if all { changed.notify_all() } else { changed.notify_one() }
            }
        };
        std::thread::scope(|s| {
            s.spawn(|| play(0, false));
            s.spawn(|| play(1, true));
        });
        assert_eq!(*turn.lock(), 2 * ROUNDS);
    }
}
