//! A device as part of a stack: its index, addresses and transmit queue, and the delivery of received packets to the
//! network layer. Above: `ip::output`, `ip::neigh`, and `ip::input` as the stack's `PacketType`. Below:
//! `device::Device`. In `list`: all of a stack. Linux: net/core/dev.c, and pfifo as the queue discipline.

use crate::base::env::Instant;
use crate::base::error::{Error, Result};
use crate::base::read_mostly::{Read, ReadMostly};
use crate::counters::{DropReason, shard_index};
use crate::device::gso::Gro;
use crate::device::loopback::Loopback;
use crate::device::turn::Turn;
use crate::device::{Caps, Device, LinkType, WriteBurst, Xmit};
use crate::sock::skb::{Skb, TxOwner};
use crate::sock::tstamp::{Link, Point, Report, TxStamp};
use crate::sock::{Sock, tsq};
use crate::stack::Stack;
use crate::sys::lock::{Mutex, RwLock};
use crate::sys::near::here;
use crate::sys::thread;
use crate::wire::addr::Cidr;
use crate::wire::ether;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize, Ordering};

mod list;

pub(crate) use list::LOOPBACK_IFINDEX;
pub use list::NetDevs;

/// Most packets that are queued for a full device (txqueuelen).
const TXQUEUELEN: usize = 1000;

/// Devices that send one within the other, at most: a route that leads a tunnel's packets into itself would never end.
const XMIT_RECURSION_LIMIT: u8 = 8;

/// Exists while a device sends.
struct Nested;

impl Nested {
    #[inline]
    fn begin() -> Nested {
        let depth = &here().xmits;
        depth.set(depth.get() + 1);
        Nested
    }
}

impl Drop for Nested {
    #[inline]
    fn drop(&mut self) {
        let depth = &here().xmits;
        depth.set(depth.get() - 1);
    }
}

/// What became of a packet that a device or its queue took. In ascending order of gravity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NetXmit {
    /// NET_XMIT_SUCCESS.
    Success,
    /// The queue is congested: see [`Xmit::Congested`] (NET_XMIT_CN).
    Cn,
}

/// One transmit/receive queue pair. Two threads that use two queues do not write to one pair of cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Queue {
    /// Whether a thread is receiving.
    turn: Turn,
    /// In a [thread's queue](NetDev::per_thread): a bit for each other thread's queue on which this thread has sent
    /// packets, which it has to receive if that thread does not.
    owed: AtomicU8,
    /// Packets for which the device returned `Busy`, and those behind them or [held back](NetDev::hold_tx), in order.
    tx: Mutex<VecDeque<Skb>>,
    tx_len: AtomicUsize,
    /// A thread gives them to the device. Nothing else takes this lock: it is held while a packet is dropped.
    flush: Mutex<()>,
}

/// A device in a stack. Aligned so that the counts of its `Arc` are not on a cache line that packets read.
#[derive(Debug)]
#[repr(align(128))]
pub struct NetDev {
    /// Interface index, from 1: that of the kernel's interface where the device is attached to one.
    pub ifindex: u32,
    /// The device itself; replaceable, so that a capture can wrap it while it runs.
    device: ReadMostly<Arc<dyn Device>>,
    /// It is the stack's own loopback device, which was put into `device` first.
    own: Option<Arc<Loopback>>,
    /// A packet that a thread sends goes to the thread's own queue, and the thread receives it before it leaves the
    /// stack ([`Stack::run_pending`]): a loopback device with several queues. Linux: the backlog of each CPU.
    per_thread: bool,
    /// A thread sends on the queue that it receives from: see [`Caps::replies_follow`].
    replies_follow: bool,
    /// Whether packets that are sent come back (IFF_LOOPBACK), and whether packets have an Ethernet header
    /// (ARPHRD_ETHER). Copies of what the device says, because they are read for each packet; they never change, and a
    /// capture that wraps the device says the same.
    loopback: bool,
    ethernet: bool,
    /// See [`NetDev::takes_as_is`].
    takes_single: AtomicBool,
    queues: Vec<Queue>,
    /// Whether the device is up: when down it sends and receives nothing.
    up: AtomicBool,
    /// See [`NetDev::hold_tx`].
    held: AtomicBool,
    /// MTU set by the administrator; 0: the device's own.
    mtu: AtomicU32,
    /// Largest super-packet, set by the administrator (ip link gso_max_size); 0: the device's own.
    gso_max_size: AtomicU32,
    /// Whether received segments are coalesced in software (ethtool -K gro).
    gro: AtomicBool,
    /// Addresses of the interface.
    addrs: RwLock<Vec<Cidr>>,
}

/// The network layer, which receives the packets of all devices. Linux: struct packet_type.
pub(crate) trait PacketType: Send + Sync {
    /// Processes up to `budget` packets of a queue, which it takes with [`NetDev::recv_queue`]; returns how many there
    /// were. Called once a batch, so that there is no indirect call per packet.
    fn rcv(&self, stack: &Arc<Stack>, dev: &Arc<NetDev>, queue: u16, now: Instant, budget: usize) -> usize;
    /// As [`rcv`](PacketType::rcv), of a packet that was alone in a [thread's queue](NetDev::per_thread).
    fn rcv_only(&self, stack: &Arc<Stack>, dev: &Arc<NetDev>, skb: Skb, now: Instant);
}

impl std::fmt::Debug for dyn PacketType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PacketType")
    }
}

/// Of a device with these capabilities: see [`NetDev::takes_as_is`].
fn takes_single(caps: &Caps) -> bool {
    caps.link == LinkType::Ip && caps.tx_csum && caps.scatter_gather
}

impl NetDev {
    /// The device.
    #[inline]
    pub fn device(&self) -> Read<'_, Arc<dyn Device>> {
        self.device.read()
    }

    /// Replaces the device by one that wraps it (a capture), or by the wrapped one.
    pub fn replace_device(&self, f: impl FnOnce(Arc<dyn Device>) -> Arc<dyn Device>) {
        self.device.replace(|d| {
            let device = f(d.clone());
            self.takes_single.store(takes_single(&device.caps()), Ordering::Relaxed);
            device
        });
    }

    /// Whether the device takes a packet without a link header and without software work before: it is no
    /// super-packet, and the device completes checksums and takes packets in pieces.
    #[inline]
    pub(crate) fn takes_as_is(&self, skb: &Skb) -> bool {
        skb.gso_size == 0 && self.takes_single.load(Ordering::Relaxed)
    }

    #[inline(always)]
    fn has_pending(&self, queue: u16) -> bool {
        match self.own() {
            Some(own) => own.is_pending(queue),
            None => self.device.read().has_pending(queue),
        }
    }

    /// The stack's own loopback device, if nothing has ever wrapped it.
    #[inline(always)]
    fn own(&self) -> Option<&Loopback> {
        match &self.own {
            Some(own) if self.device.is_first() => Some(own),
            _ => None,
        }
    }

    /// Packets that wait for a full device, at most (txqueuelen).
    pub fn tx_queue_len(&self) -> u32 {
        TXQUEUELEN as u32
    }

    /// Whether packets that are sent come back (IFF_LOOPBACK).
    #[inline]
    pub(crate) fn is_loopback(&self) -> bool {
        self.loopback
    }

    /// Whether packets that are sent come back just as they are: it is the stack's own loopback device, and nothing has
    /// ever wrapped it.
    #[inline]
    pub(crate) fn loops_as_is(&self) -> bool {
        self.own().is_some()
    }

    /// Whether packets have an Ethernet header (ARPHRD_ETHER); the address is in [`NetDev::caps`].
    #[inline]
    pub(crate) fn is_ethernet(&self) -> bool {
        self.ethernet
    }

    /// Queue pairs; fixed while the device is part of the stack.
    pub fn queue_count(&self) -> u16 {
        self.queues.len() as u16
    }

    /// What the device offers, with the administrator's settings applied.
    pub fn caps(&self) -> Caps {
        let mut c = self.device.read().caps();
        match self.mtu.load(Ordering::Relaxed) {
            0 => {}
            m => c.mtu = m,
        }
        match self.gso_max_size.load(Ordering::Relaxed) {
            0 => {}
            g => c.gso_max_size = c.gso_max_size.min(g),
        }
        c
    }

    /// Sets the MTU in bytes. EINVAL below 68 (RFC 791) or above 65535. Sockets with a cached route use it after
    /// [`Stack::rt_genid_bump`].
    pub fn set_mtu(&self, mtu: u32) -> Result<()> {
        if !(68..=65_535).contains(&mtu) {
            return Err(Error::Inval);
        }
        self.mtu.store(mtu, Ordering::Relaxed);
        Ok(())
    }

    /// Sets the largest super-packet in bytes, headers included; the device's own limit applies as well. 0: only the
    /// device's own.
    pub fn set_gso_max_size(&self, bytes: u32) {
        self.gso_max_size.store(bytes, Ordering::Relaxed);
    }

    /// Enables software GRO of TCP segments, within a receive batch. Off at first, as for a TUN device in Linux,
    /// because it changes how often a receiver acknowledges. For devices that deliver single segments at a high rate.
    pub fn set_gro(&self, on: bool) {
        self.gro.store(on, Ordering::Relaxed);
    }

    /// Brings the interface up or down.
    pub fn set_up(&self, up: bool) {
        self.up.store(up, Ordering::Relaxed);
    }

    /// Whether the interface is up.
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// Addresses of the interface with their prefix lengths.
    pub fn addrs(&self) -> Vec<Cidr> {
        self.addrs.read().clone()
    }

    /// Adds an address; EEXIST when the interface has it. `ip::route` adds the connected routes.
    pub(crate) fn push_addr(&self, addr: Cidr) -> Result<()> {
        let mut a = self.addrs.write();
        if a.contains(&addr) {
            return Err(Error::Exist);
        }
        a.push(addr);
        Ok(())
    }

    /// Removes an address; false when the interface does not have it.
    pub(crate) fn remove_addr(&self, addr: &Cidr) -> bool {
        let mut a = self.addrs.write();
        let n = a.len();
        a.retain(|x| x != addr);
        a.len() != n
    }

    /// Whether each thread has a queue of its own: see the field `per_thread`.
    #[inline]
    pub(crate) fn is_per_thread(&self) -> bool {
        self.per_thread
    }

    /// This thread's queue, of a device that has one for each thread. Threads beyond their number share the last one.
    #[inline]
    fn own_queue(&self) -> Option<(u16, &Queue)> {
        if !self.per_thread {
            return None;
        }
        let q = shard_index().min(self.queues.len() - 1);
        Some((q as u16, &self.queues[q]))
    }

    /// The queue on which a packet is sent, and the thread's own queue if that is another of its kind. Linux:
    /// netdev_pick_tx; enqueue_to_backlog for the thread's own.
    #[inline(always)]
    fn pick_tx(&self, hash: u32, sock: Option<&Arc<Sock>>) -> (u16, Option<&Queue>) {
        if self.queues.len() == 1 {
            return (0, None);
        }
        let queues = self.queues.len();
        let Some((own, queue)) = self.own_queue() else {
            let q = if self.replies_follow { thread::number() % queues } else { hash as usize % queues };
            return (q as u16, None);
        };
        match sock {
            Some(sock) if sock.tx_queue.load(Ordering::Relaxed) != own as u8 => {
                let q = self.move_flow(sock, own);
                (q, Some(queue).filter(|_| q != own))
            }
            _ => (own, None),
        }
    }

    /// A thread sends for a sock whose last packet another thread sent. So that the packets stay in order, they remain
    /// on the other thread's queue until all of that queue have been received, and this thread sees to it that they
    /// are. Linux: skb->ooo_okay, and the queue counters of RFS (rps_dev_flow) to the same end.
    #[cold]
    fn move_flow(&self, sock: &Sock, own: u16) -> u16 {
        let last = sock.tx_queue.load(Ordering::Relaxed).into();
        let pending = || self.device.read().has_pending(last);
        if self.queues.get(usize::from(last)).is_some_and(|q| !q.turn.all_received(pending)) {
            return last;
        }
        sock.tx_queue.store(own as u8, Ordering::Relaxed);
        own
    }

    /// Softirq of a thread's own packets, before it leaves the stack: receives from this thread's queue and from those
    /// that it has sent on, or from all where queues are not a thread's. Returns how many packets there were, and
    /// whether it knows that none of this thread's are left.
    #[inline(always)]
    fn receive_here(self: &Arc<Self>, stack: &Arc<Stack>, now: Instant, budget: usize) -> (usize, bool) {
        let Some((own, queue)) = self.own_queue() else {
            return ((0..self.queue_count()).map(|q| self.receive(stack, q, now, budget)).sum(), false);
        };
        let any = self.is_up() && self.has_pending(own);
        let mut n = if any { self.receive_up(stack, queue, own, now, budget) } else { 0 };
        let settled = queue.owed.load(Ordering::Relaxed) == 0;
        if !settled {
            n += self.receive_owed(stack, queue, now, budget);
        }
        // With 0 packets this is not known: another thread may be receiving them.
        (n, settled && (1..budget).contains(&n))
    }

    /// As `receive_here`, not inlined: for the devices behind the first.
    #[inline(never)]
    fn receive_here_too(self: &Arc<Self>, stack: &Arc<Stack>, now: Instant, budget: usize) -> usize {
        self.receive_here(stack, now, budget).0
    }

    /// Receives from the queues of other threads that this one has sent on.
    #[cold]
    fn receive_owed(self: &Arc<Self>, stack: &Arc<Stack>, queue: &Queue, now: Instant, budget: usize) -> usize {
        let owed = queue.owed.swap(0, Ordering::Acquire);
        let others = (0..self.queue_count()).filter(|q| owed & 1 << q != 0);
        let n = others.map(|q| self.receive(stack, q, now, budget)).sum();
        // Another batch may be left.
        let left = (0..self.queue_count()).filter(|&q| owed & 1 << q != 0 && self.device().has_pending(q));
        queue.owed.fetch_or(left.fold(0, |bits, q| bits | 1 << q), Ordering::Release);
        n
    }

    /// Sends a packet that is complete for this device (link header in front, segmented as needed). Packets for a full
    /// device are queued in order; when that queue is full the packet is dropped and ENOBUFS returned (in Linux the
    /// positive NET_XMIT_DROP: local congestion).
    pub fn xmit(&self, stack: &Stack, now: Instant, skb: Skb) -> Result<NetXmit> {
        if !self.is_up() {
            stack.mib.drop(DropReason::DevReady);
            return Err(Error::NetDown);
        }
        // A loopback device sends through no other one: the nesting ends with it.
        if !self.loopback && here().xmits.get() > XMIT_RECURSION_LIMIT {
            stack.mib.drop(DropReason::RecursionLimit);
            return Err(Error::NetDown);
        }
        if let Some(stamp) = &skb.tx_stamp
            && let Some(report) = self.report(stamp, Point::Sched, &skb)
        {
            report.queue(stack.now());
        }
        let sock = skb.owner.as_ref().and_then(|owner| owner.sock());
        let (q, debtor) = self.pick_tx(skb.hash, sock);
        let Some(queue) = self.queues.get(q as usize) else { return Err(Error::NoDev) };
        if queue.tx_len.load(Ordering::Acquire) == 0 && !self.held.load(Ordering::Relaxed) {
            match self.start_xmit(stack, q, now, skb) {
                done @ (Xmit::Sent | Xmit::Congested) => {
                    if let Some(own) = debtor {
                        own.owed.fetch_or(1 << q, Ordering::Release);
                    }
                    return Ok(if matches!(done, Xmit::Sent) { NetXmit::Success } else { NetXmit::Cn });
                }
                Xmit::Dropped(_) => {
                    stack.mib.drop(DropReason::DeviceFull);
                    return Err(Error::NoBufs);
                }
                Xmit::Busy(skb) => {
                    let mut tx = queue.tx.lock();
                    tx.push_back(skb);
                    queue.tx_len.store(tx.len(), Ordering::Release);
                    drop(tx);
                    stack.note_full();
                    return Ok(NetXmit::Success);
                }
            }
        }
        let mut tx = queue.tx.lock();
        if tx.len() >= TXQUEUELEN {
            stack.mib.drop(DropReason::DeviceFull);
            return Err(Error::NoBufs);
        }
        tx.push_back(skb);
        let alone = tx.len() == 1;
        queue.tx_len.store(tx.len(), Ordering::SeqCst);
        drop(tx);
        if alone && !self.held.load(Ordering::SeqCst) {
            // The thread that was to send what waits may have found the queue empty, before this packet joined it.
            stack.note_full();
        }
        Ok(NetXmit::Success)
    }

    /// A short way: as [`NetDev::xmit`], for a packet without an owner and without a transmit timestamp, on the
    /// loopback device where it [loops packets as they are](NetDev::loops_as_is). `sock`: the sender, to which a packet
    /// is charged while a device has it. Here the packet is with the receiver at once, so the charge would end as soon
    /// as it was made, and is left out.
    // Most packets of the loopback go this way.
    #[inline(always)]
    pub(crate) fn xmit_looped(
        &self,
        stack: &Stack,
        now: Instant,
        skb: Skb,
        sock: Option<&Arc<Sock>>,
    ) -> Result<NetXmit> {
        let (q, debtor) = self.pick_tx(skb.hash, sock);
        let free = |queue: &Queue| queue.tx_len.load(Ordering::Acquire) == 0;
        let free = debtor.is_none() && self.is_up() && self.queues.get(usize::from(q)).is_some_and(free);
        let own = match self.own() {
            Some(own) if free => own,
            _ => return self.xmit_charged(stack, now, skb, sock),
        };
        stack.raise();
        let sent = own.take_bare(q, skb);
        if let Some(sock) = sock
            && sock.tsq_flags.load(Ordering::Acquire) & tsq::THROTTLED != 0
        {
            sock.tx_completed(0);
        }
        if sent {
            return Ok(NetXmit::Success);
        }
        stack.mib.drop(DropReason::DeviceFull);
        Err(Error::NoBufs)
    }

    /// As `xmit_looped`, by the general code.
    #[cold]
    fn xmit_charged(&self, stack: &Stack, now: Instant, mut skb: Skb, sock: Option<&Arc<Sock>>) -> Result<NetXmit> {
        skb.owner = sock.map(|sock| TxOwner::new(sock, skb.truesize));
        self.xmit(stack, now, skb)
    }

    /// Hands a packet to the device, and reports that if asked to (ndo_start_xmit, skb_tx_timestamp).
    #[inline(always)]
    fn start_xmit(&self, stack: &Stack, q: u16, now: Instant, mut skb: Skb) -> Xmit {
        if self.per_thread {
            stack.raise();
        }
        let Some(stamp) = skb.tx_stamp.take() else { return self.nested_xmit(q, now, skb) };
        let report = self.report(&stamp, Point::Snd, &skb);
        match self.nested_xmit(q, now, skb) {
            Xmit::Busy(mut skb) => {
                skb.tx_stamp = Some(stamp);
                Xmit::Busy(skb)
            }
            done => {
                if matches!(done, Xmit::Sent | Xmit::Congested)
                    && let Some(report) = report
                {
                    report.queue(stack.now());
                }
                done
            }
        }
    }

    /// A device may send again in its `xmit`, as a tunnel does (dev_xmit_recursion_inc).
    #[inline(always)]
    fn nested_xmit(&self, q: u16, now: Instant, skb: Skb) -> Xmit {
        if self.loopback {
            return self.device.read().xmit(q, now, skb);
        }
        let _nested = Nested::begin();
        self.device.read().xmit(q, now, skb)
    }

    #[cold]
    fn report(&self, stamp: &TxStamp, point: Point, skb: &Skb) -> Option<Report> {
        let caps = self.device.read().caps();
        let link = match caps.link {
            LinkType::Ethernet(_) => Link::Header(ether::HEADER_LEN),
            _ if caps.loopback => Link::Loopback,
            _ => Link::Header(0),
        };
        stamp.of_packet(point, skb, self.ifindex, link)
    }

    fn flush_tx(&self, stack: &Stack, now: Instant) -> usize {
        let mut sent = 0;
        for (q, queue) in self.queues.iter().enumerate() {
            if queue.tx_len.load(Ordering::Acquire) == 0 {
                continue;
            }
            let _one = queue.flush.lock();
            let mut tx = queue.tx.lock();
            while let Some(skb) = tx.pop_front() {
                // When the device is done with a packet, its owner may be woken and send at once, from this thread: so
                // the lock is released. What is sent meanwhile joins the queue behind this packet, because `tx_len` is
                // still above 0.
                drop(tx);
                let done = self.start_xmit(stack, q as u16, now, skb);
                tx = queue.tx.lock();
                if let Xmit::Busy(skb) = done {
                    tx.push_front(skb);
                    break;
                }
                sent += 1;
            }
            queue.tx_len.store(tx.len(), Ordering::Release);
        }
        sent
    }

    /// Packets that are sent wait in the queue from now on, until [`NetDev::release_tx`]. Linux: a driver that puts off
    /// its doorbell while netdev_xmit_more().
    fn hold_tx(&self) {
        self.held.store(true, Ordering::Relaxed);
    }

    /// Sends the packets that were held back, by as few calls of `write` as the device can.
    fn release_tx(&self, stack: &Stack, now: Instant, write: &mut WriteBurst<'_>) {
        for (q, queue) in self.queues.iter().enumerate() {
            if queue.tx_len.load(Ordering::Acquire) == 0 {
                continue;
            }
            let _one = queue.flush.lock();
            // What others send meanwhile joins the queue behind these, because `tx_len` is still above 0.
            let mut packets = std::mem::take(&mut *queue.tx.lock());
            // Stamps are reported one by one.
            if self.is_up() && packets.iter().all(|skb| skb.tx_stamp.is_none()) {
                let _nested = Nested::begin();
                self.device.read().xmit_burst(q as u16, &mut packets, write);
            }
            let mut tx = queue.tx.lock();
            packets.append(&mut tx);
            *tx = packets;
            queue.tx_len.store(tx.len(), Ordering::Release);
        }
        // A thread that puts a packet behind these stores `tx_len` and then reads `held`; this stores `held` and then
        // reads `tx_len`. So at least one of the two sees that the packet has to be sent.
        self.held.store(false, Ordering::SeqCst);
        if self.queues.iter().any(|q| q.tx_len.load(Ordering::SeqCst) > 0) {
            self.flush_tx(stack, now);
            if self.tx_backlog() > 0 {
                stack.note_full();
            }
        }
    }

    /// Number of packets queued for a full device.
    pub fn tx_backlog(&self) -> usize {
        self.queues.iter().map(|q| q.tx_len.load(Ordering::Acquire)).sum()
    }

    /// Receives packets of a queue, `budget` at a time, and passes them to the network layer; without one they are
    /// dropped. Also 0 when another thread is receiving from the queue: that thread polls it again before it stops, so
    /// no packet of a device in memory is left behind. Linux: napi_poll, __netif_receive_skb.
    #[inline]
    pub(crate) fn receive(self: &Arc<Self>, stack: &Arc<Stack>, queue: u16, now: Instant, budget: usize) -> usize {
        let Some(q) = self.queues.get(queue as usize).filter(|_| self.is_up()) else { return 0 };
        if self.per_thread && !self.has_pending(queue) {
            return 0;
        }
        self.receive_up(stack, q, queue, now, budget)
    }

    /// The same of a device that is up.
    #[inline(always)]
    fn receive_up(self: &Arc<Self>, stack: &Arc<Stack>, q: &Queue, queue: u16, now: Instant, budget: usize) -> usize {
        let Some(mut turn) = q.turn.take() else { return 0 };
        let (mut total, mut now) = (0, now);
        loop {
            let received = match stack.netdevs.pack.get() {
                Some(network) => match self.recv_only(queue) {
                    // The usual case: a call has sent one packet, which its own thread receives.
                    Some(skb) => {
                        network.rcv_only(stack, self, skb, now);
                        1
                    }
                    None => network.rcv(stack, self, queue, now, budget),
                },
                None => self.recv_queue(
                    stack,
                    queue,
                    now,
                    budget,
                    |_| {
                        stack.mib.drop(DropReason::UnhandledProto);
                        None
                    },
                    |_| {},
                ),
            };
            total += received;
            if self.per_thread && received > 0 && total < budget && self.has_pending(queue) {
                // Answers to what was received, by sockets of this host (process_backlog).
                now = stack.now();
                continue;
            }
            match turn.finish() {
                Ok(()) => return total,
                Err(again) => turn = again,
            }
        }
    }

    /// Takes the packet of a thread's queue, if it is the only one and need not go through GRO.
    #[inline(always)]
    fn recv_only(&self, queue: u16) -> Option<Skb> {
        if !self.per_thread || self.gro.load(Ordering::Relaxed) {
            return None;
        }
        match self.own() {
            Some(own) => own.only(queue),
            None => self.device.read().recv_only(queue),
        }
    }

    /// Notes on which interface a packet has arrived: this one. A packet that loops back from another interface keeps
    /// that one's index (ip_dev_loopback_xmit).
    #[inline]
    pub(crate) fn note_arrival(&self, skb: &mut Skb) {
        if !self.loopback || skb.ifindex == 0 {
            skb.ifindex = self.ifindex;
        }
    }

    /// Takes up to `budget` packets off a queue: `link` gets each, pulls its link header and returns whether to keep
    /// it, and `net` gets the kept ones, coalesced if GRO is on (napi_gro_receive). Returns how many packets there
    /// were. For a [`PacketType`], into whose code both closures are inlined.
    pub(crate) fn recv_queue(
        &self,
        stack: &Stack,
        queue: u16,
        now: Instant,
        budget: usize,
        mut link: impl FnMut(Skb) -> Option<Skb>,
        mut net: impl FnMut(Skb),
    ) -> usize {
        let device = self.device();
        let mut gro = self.gro.load(Ordering::Relaxed).then(Gro::default);
        let mut one = |mut skb: Skb| {
            self.note_arrival(&mut skb);
            let Some(skb) = link(skb) else { return };
            match &mut gro {
                None => net(skb),
                Some(gro) => gro.receive(skb, &|n| stack.registry.handler(n)?.offload(), &mut net),
            }
        };
        let got = device.recv(queue, now, budget, &mut one);
        if let Some(mut gro) = gro {
            gro.flush(&mut net);
        }
        // A receive error is treated as no packets; the device's statistics count it.
        got.unwrap_or(0)
    }
}

#[cfg(test)]
mod tests;
