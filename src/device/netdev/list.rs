//! The devices of a stack. Above: `stack`. Below: `netdev`. Linux: register_netdevice, for_each_netdev.

use super::{NetDev, PacketType, Queue, takes_single};
use crate::base::env::Instant;
use crate::base::error::{Error, Result};
use crate::base::read_mostly::ReadMostly;
use crate::counters::SHARDS;
use crate::device::loopback::Loopback;
use crate::device::{Device, LinkType, WriteBurst};
use crate::sock::NO_QUEUE;
use crate::stack::Stack;
use crate::sys::lock::{Mutex, RwLock};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

/// Interface index of the loopback device, which is the first of each stack.
pub(crate) const LOOPBACK_IFINDEX: u32 = 1;

/// The devices of a stack: a list that only grows, so that packets can walk it without a lock.
#[derive(Debug, Default)]
pub struct NetDevs {
    pub(super) pack: OnceLock<Arc<dyn PacketType>>,
    first: OnceLock<Box<Node>>,
    /// A device was added whose packets are not the sending thread's to receive.
    others: AtomicBool,
    /// Held while a device is added.
    adding: Mutex<()>,
}

#[derive(Debug)]
struct Node {
    dev: Arc<NetDev>,
    next: OnceLock<Box<Node>>,
}

/// Queues of a device with a queue per thread, at most: a bit each in `Queue::owed`.
const MAX_PER_THREAD: u16 = 8;
const _: () = assert!(SHARDS <= MAX_PER_THREAD as usize && MAX_PER_THREAD < NO_QUEUE as u16);

/// After a panic within a burst no device holds packets back, and somebody sends what waits.
struct Unhold<'a>(&'a NetDevs, &'a Stack);

impl Drop for Unhold<'_> {
    fn drop(&mut self) {
        self.0.iter().for_each(|d| d.held.store(false, Ordering::SeqCst));
        self.1.note_full();
    }
}

impl NetDevs {
    /// Installs the network layer, for as long as the stack lives. EBUSY: it has one. Linux: dev_add_pack.
    pub(crate) fn add_pack(&self, network: Arc<dyn PacketType>) -> Result<()> {
        self.pack.set(network).map_err(|_| Error::Busy)
    }

    /// Adds a device under the index of the kernel's interface that it is attached to, so that programs that ask the
    /// kernel for a number mean the same device. In memory, or where another device here has that number, it gets the
    /// next one above all. EEXIST: its name is taken. Linux: dev_index_reserve.
    pub(crate) fn add(&self, device: Arc<dyn Device>) -> Result<Arc<NetDev>> {
        self.add_with(device, None)
    }

    /// Adds the stack's own loopback device, its first.
    pub(crate) fn add_own(&self, device: Arc<Loopback>) -> Result<Arc<NetDev>> {
        self.add_with(device.clone(), Some(device))
    }

    fn add_with(&self, device: Arc<dyn Device>, own: Option<Arc<Loopback>>) -> Result<Arc<NetDev>> {
        let _adding = self.adding.lock();
        if self.iter().any(|d| d.device().name() == device.name()) {
            return Err(Error::Exist);
        }
        let next = self.iter().map(|d| d.ifindex).max().unwrap_or(0) + 1;
        let free = |n: &u32| *n != 0 && self.iter().all(|d| d.ifindex != *n);
        let ifindex = device.kernel_ifindex().filter(free).unwrap_or(next);
        let caps = device.caps();
        let per_thread = caps.loopback && caps.queues > 1;
        let queues = if per_thread { caps.queues.min(MAX_PER_THREAD) } else { caps.queues.max(1) };
        let dev = Arc::new(NetDev {
            ifindex,
            per_thread,
            replies_follow: caps.replies_follow,
            loopback: caps.loopback,
            ethernet: matches!(caps.link, LinkType::Ethernet(_)),
            takes_single: AtomicBool::new(takes_single(&caps)),
            device: ReadMostly::new(device),
            own,
            queues: (0..queues).map(|_| Queue::default()).collect(),
            up: AtomicBool::new(true),
            held: AtomicBool::new(false),
            mtu: AtomicU32::new(0),
            gso_max_size: AtomicU32::new(0),
            gro: AtomicBool::new(false),
            addrs: RwLock::default(),
        });
        if !per_thread {
            self.others.store(true, Ordering::Release);
        }
        let mut end = &self.first;
        while let Some(link) = end.get() {
            end = &link.next;
        }
        // No other thread adds now, so the end of the list is unset.
        end.get_or_init(|| Box::new(Node { dev: dev.clone(), next: OnceLock::new() }));
        Ok(dev)
    }

    /// All devices, in the order in which they were added.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = &Arc<NetDev>> {
        std::iter::successors(self.first.get(), |l| l.next.get()).map(|l| &l.dev)
    }

    /// A copy of the list of devices.
    pub fn snapshot(&self) -> Vec<Arc<NetDev>> {
        self.iter().cloned().collect()
    }

    /// The device with this interface index.
    pub fn by_index(&self, ifindex: u32) -> Option<Arc<NetDev>> {
        self.iter().find(|d| d.ifindex == ifindex).cloned()
    }

    /// The device with this name.
    pub fn by_name(&self, name: &str) -> Option<Arc<NetDev>> {
        self.iter().find(|d| d.device().name() == name).cloned()
    }

    /// Whether a device in memory has queued packets.
    pub fn any_pending(&self) -> bool {
        self.iter().any(|d| {
            let dev = d.device.read();
            (0..d.queue_count()).any(|q| dev.has_pending(q))
        })
    }

    /// Whether packets may wait in a device though no thread has raised its mark ([`Stack::raise`]).
    #[inline]
    pub(crate) fn has_others(&self) -> bool {
        self.others.load(Ordering::Relaxed)
    }

    /// Whether a device in memory has packets that this thread is to receive before it leaves the stack.
    pub(crate) fn pending_here(&self) -> bool {
        let mut next = self.first.get();
        while let Some(node) = next {
            let dev = &*node.dev;
            let pending = match dev.own_queue() {
                Some((q, queue)) => dev.has_pending(q) || queue.owed.load(Ordering::Relaxed) != 0,
                None => (0..dev.queue_count()).any(|q| dev.has_pending(q)),
            };
            if pending {
                return true;
            }
            next = node.next.get();
        }
        false
    }

    /// Softirq of a thread's own packets, before it leaves the stack: receives up to `budget` from each device. Returns
    /// how many there were, and whether it knows that [`NetDevs::pending_here`] would find no more.
    #[inline]
    pub(crate) fn receive_here(&self, stack: &Arc<Stack>, now: Instant, budget: usize) -> (usize, bool) {
        let Some(first) = self.first.get() else { return (0, true) };
        let (mut n, mut settled) = first.dev.receive_here(stack, now, budget);
        let mut next = first.next.get();
        while let Some(node) = next {
            n += node.dev.receive_here_too(stack, now, budget);
            // What it received may have been answered on a device before it.
            settled = false;
            next = node.next.get();
        }
        (n, settled)
    }

    /// Earliest event of a device in memory. A device that is down has none, since no packets are received from it.
    pub(crate) fn next_event(&self) -> Option<Instant> {
        let up = self.iter().filter(|d| d.is_up());
        up.flat_map(|d| (0..d.queues.len() as u16).map(|q| d.device().next_event(q))).flatten().min()
    }

    /// Does `f`, during which packets for devices outside wait, and sends them then by as few calls of `write` as each
    /// device can. For a thread that sends many at once: a receiver on this machine which the first one wakes does not
    /// take the processor before all are written. What others send meanwhile waits too.
    pub fn in_burst<R>(&self, stack: &Stack, write: &mut WriteBurst<'_>, f: impl FnOnce() -> R) -> R {
        let outside = || self.iter().filter(|d| !d.loopback);
        outside().for_each(|d| d.hold_tx());
        let unwinding = Unhold(self, stack);
        let r = f();
        std::mem::forget(unwinding);
        let now = stack.now();
        outside().for_each(|d| d.release_tx(stack, now, write));
        r
    }

    /// Retries packets that a full device returned; returns how many were sent.
    pub(crate) fn flush_tx(&self, stack: &Stack, now: Instant) -> usize {
        self.iter().map(|d| d.flush_tx(stack, now)).sum()
    }
}
