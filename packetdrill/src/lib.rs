//! usersock as a plug-in of Google's packetdrill, for its `--so_filename` interface, and the same library preloaded
//! into it (`LD_PRELOAD`). packetdrill plays its scripts against a stack in its own process, in virtual time. The
//! contract with the runner and with its stand-ins for tools is in `xtask/src/packetdrill.rs`.
//!
//! | file | role |
//! |---|---|
//! | `interface` | the functions that packetdrill calls |
//! | `time` | which thread moves the clock, and how threads wait for it |
//! | `device` | the wire: what packetdrill injects and sniffs |
//! | `namespace` | the stack's configuration, read from the network namespace |
//! | `netlink` | the configuration of the namespace's `tun0` |
//! | `dump` | counters and sockets, written for the commands of a script |
//! | `preload` | libc functions implemented or wrapped |

mod device;
mod dump;
mod interface;
mod namespace;
mod netlink;
mod preload;
mod time;

use namespace::Namespace;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use time::VirtualTime;
use usersock::env::{Clock, Instant, SeededEntropy, VirtualClock};
use usersock::stack::{Stack, StackConfig};
use usersock::standard;
use usersock_ffi::{boundary, stacks};

/// Virtual time at the start: a machine that has been up for a while, at a whole tick of every clock the stack derives.
const UPTIME: Duration = Duration::from_secs(1000);
/// Seed of the stack's random numbers: the same run gives the same packets.
const SEED: u64 = 0x7573_6572_736f_636b;
/// How long packetdrill is kept waiting for a packet, in virtual time. Longer than the largest interval between two
/// retransmissions; a script that waits for keepalives for hours is not supported.
const PATIENCE: Duration = Duration::from_secs(600);
/// By how much the clock moves when packetdrill spins on it.
const SPIN_STEP: Duration = Duration::from_micros(1);

static INSTANCE: OnceLock<Instance> = OnceLock::new();

/// The stack under test and its world, once packetdrill has asked for it.
fn instance() -> Option<&'static Instance> {
    INSTANCE.get()
}

/// The stack under test and its world. One in a process, as packetdrill runs one script in a process.
struct Instance {
    stack: Arc<Stack>,
    virtual_clock: Arc<VirtualClock>,
    time: Arc<VirtualTime>,
    namespace: Namespace,
    /// The main thread's last call read the clock: the next reading is a spin.
    spinning: AtomicBool,
}

impl Instance {
    /// Makes the stack from the namespace. TCP packets arrive joined from segments of `mss` bytes, unless it is zero.
    /// Errors: it was made before; the namespace has no `tun0`; the stack refuses
    /// what the namespace has.
    fn start(mss: u16) -> Result<(), String> {
        let clock = Arc::new(VirtualClock::new());
        clock.advance(UPTIME);
        let time = Arc::new(VirtualTime::new(clock.clone()));
        let config = StackConfig::new(clock.clone(), Arc::new(SeededEntropy::new(SEED)), time.clone());
        let stack = standard::stack(config).map_err(|error| format!("cannot make a stack: {error:?}"))?;
        let namespace = Namespace::new(&stack)?;
        namespace.wire().set_mss(mss);
        stacks::set_default_stack(stack.clone()).map_err(|_| "there is a stack already")?;
        let spinning = AtomicBool::new(false);
        let instance = Instance { stack, virtual_clock: clock, time, namespace, spinning };
        INSTANCE.set(instance).map_err(|_| "the plug-in was started twice".into())
    }

    /// Runs a call of packetdrill; on the main thread, waits then for all that it caused in other threads. Preserves
    /// errno.
    fn call<R>(&self, call: impl FnOnce() -> R) -> R {
        self.spinning.store(false, Ordering::Relaxed);
        self.time.enter();
        let result = call();
        let errno = boundary::errno();
        self.time.leave();
        boundary::set_errno(errno);
        result
    }

    /// Runs a clock call of packetdrill. Preserves errno.
    fn clock(&self, ask: impl FnOnce() -> i32) -> i32 {
        let errno = boundary::errno();
        let result = ask();
        boundary::set_errno(errno);
        result
    }

    /// Reads the clock. A thread that waits for an event polls the clock: each reading after the first moves it. The
    /// first reading after a call of the second thread is that call's end.
    fn tell(&self) -> i64 {
        if !self.time.is_mover() {
            let micros = self.micros_of(self.virtual_clock.now());
            self.time.clock_read();
            return micros;
        }
        self.time.quiesce();
        if self.spinning.swap(true, Ordering::Relaxed) {
            self.time.advance(&self.stack, self.stack.now() + SPIN_STEP);
        }
        self.micros_of(self.virtual_clock.now())
    }

    /// A moment on the wall clock, in microseconds.
    fn micros_of(&self, moment: Instant) -> i64 {
        let epoch = self.virtual_clock.wall().saturating_sub(Duration::from_nanos(self.virtual_clock.now().as_nanos()));
        (epoch + Duration::from_nanos(moment.as_nanos())).as_micros() as i64
    }

    /// Main thread: a packet arrives now. False if it is no IP datagram.
    fn inject(&self, datagram: &[u8]) -> bool {
        let taken = self.namespace.wire().inject(datagram);
        self.stack.poll(self.stack.now());
        taken
    }

    /// Main thread: the next packet that leaves, with its time in microseconds; moves the clock until one does.
    fn sniff(&self) -> Result<(i64, Vec<u8>), String> {
        self.time.quiesce();
        let limit = self.stack.now() + PATIENCE;
        loop {
            if let Some((moment, datagram)) = self.namespace.wire().sniff() {
                return Ok((self.micros_of(moment), datagram));
            }
            if !self.time.step(&self.stack, limit) {
                return Err(match self.stack.next_event() {
                    None => "no packet left, and nothing is left to happen".into(),
                    Some(_) => format!("no packet left for {} s", PATIENCE.as_secs()),
                });
            }
        }
    }

    /// Lets time pass. packetdrill does not hold its lock meanwhile.
    fn sleep(&self, duration: Duration) {
        self.spinning.store(false, Ordering::Relaxed);
        self.time.advance(&self.stack, self.stack.now() + duration);
        self.time.settle();
    }

    /// A command of the script is about to run.
    fn before_command(&self) -> Result<(), String> {
        self.time.quiesce();
        match self.namespace.dir() {
            Some(dir) => dump::write(&self.stack, dir).map_err(|error| format!("{}: {error}", dir.display())),
            None => Ok(()),
        }
    }

    /// It has run.
    fn after_command(&self) -> Result<(), String> {
        self.namespace.read()
    }
}
