//! One direction of a simulated link: the queue, the wire, and the packets under way. Above: `link`, whose ends send
//! into one and receive from the other.

use super::{Direction, Fate};
use crate::base::env::{Duration, Entropy, Instant, SeededEntropy};
use crate::device::Xmit;
use crate::device::gso::edit_front;
use crate::sock::skb::{Csum, Skb, TxOwner};
use crate::sys::lock::Mutex;
use crate::wire::checksum;
use crate::wire::ether::HEADER_LEN;
use smallvec::SmallVec;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// A packet in flight; ordered by time of arrival, then by order of sending.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) at: Instant,
    number: u64,
    pub(super) skb: Skb,
}

impl PartialEq for Flight {
    fn eq(&self, o: &Flight) -> bool {
        (self.at, self.number) == (o.at, o.number)
    }
}
impl Eq for Flight {}
impl PartialOrd for Flight {
    fn partial_cmp(&self, o: &Flight) -> Option<std::cmp::Ordering> {
        Some(self.cmp(o))
    }
}
impl Ord for Flight {
    fn cmp(&self, o: &Flight) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(o.at, o.number))
    }
}

/// What becomes of a packet once its last bit has left: drawn when it is sent, so that only the order of sending
/// decides what is drawn.
#[derive(Debug)]
pub(super) struct Planned {
    skb: Skb,
    at: Instant,
    /// Propagation delay, with its jitter.
    delay: Duration,
    /// Extra delay, if it is reordered.
    pub(super) late: Option<Duration>,
    pub(super) twice: bool,
    pub(super) corrupted: bool,
}

impl Planned {
    /// Sets the time of arrival, no earlier than `last`, that of the packet before; it takes that one's place.
    fn schedule(&mut self, departs: Instant, last: &mut Instant) {
        let arrives = (departs + self.delay).max(*last);
        match self.late {
            Some(late) => self.at = arrives + late,
            None => (self.at, *last) = (arrives, arrives),
        }
    }
}

/// A packet in the queue, with the time its last bit leaves.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) departs: Instant,
    /// How long the wire is busy with it.
    serialise: Duration,
    pub(super) bytes: u64,
    /// `last_arrival` before it.
    before: Instant,
    /// The packet, which is here until it departs, so that one that the queue loses has left no trace in `flights`.
    /// None: it is lost on the way.
    planned: Option<Planned>,
    /// The sending sock's charge, if the queue is the sender's own. Dropped outside the lock.
    owner: Option<TxOwner>,
}

/// Charges to drop once no lock is held: few at a time.
pub(super) type Owners = SmallVec<[TxOwner; 8]>;

#[derive(Debug, Default)]
pub(super) struct WireState {
    pub(super) direction: Direction,
    pub(super) queue: VecDeque<Queued>,
    queued_bytes: u64,
    /// How many packets at the front of the queue have departed: they are in `flights`.
    launched: usize,
    /// Until when the wire is busy.
    busy_until: Instant,
    /// Arrival time of the last packet that was not reordered.
    last_arrival: Instant,
    pub(super) flights: BinaryHeap<Reverse<Flight>>,
    number: u64,
    pub(super) fate: Fate,
}

impl WireState {
    /// When the next packet arrives, as the queue is now. Behind a packet that keeps its place none arrives earlier.
    pub(super) fn next_arrival(&self) -> Option<Instant> {
        let mut next = self.flights.peek().map(|Reverse(f)| f.at);
        for p in self.queue.range(self.launched..).filter_map(|q| q.planned.as_ref()) {
            next = Some(next.map_or(p.at, |n| n.min(p.at)));
            if p.late.is_none() {
                break;
            }
        }
        next
    }

    /// Loses the packets that would leave next, until there is room for `bytes` more; those behind them leave earlier.
    /// None, if there would be no room without all of them: the one whose bits are leaving stays. The caller drops
    /// them without the lock.
    fn drop_heads(&mut self, now: Instant, bytes: u64) -> Vec<Queued> {
        let (d, len) = (self.direction, self.queue.len());
        let waits = self.queue.iter().position(|q| q.departs - q.serialise > now).unwrap_or(len).max(self.launched);
        let mut left = self.queued_bytes;
        let mut end = waits;
        while d.is_full(len - (end - waits), left, bytes) {
            let Some(q) = self.queue.get(end) else { return Vec::new() };
            left -= q.bytes;
            end += 1;
        }
        let gone: Vec<Queued> = self.queue.drain(waits..end).collect();
        let Some(first) = gone.first() else { return gone };
        let mut last = first.before;
        let gap = gone.iter().map(|q| q.serialise).sum::<Duration>();
        for q in self.queue.range_mut(waits..) {
            q.departs -= gap;
            q.before = last;
            if let Some(p) = &mut q.planned {
                p.schedule(q.departs, &mut last);
            }
        }
        self.last_arrival = last;
        self.busy_until -= gap;
        self.queued_bytes = left;
        gone.iter().for_each(|q| self.fate.overflow(q.planned.as_ref()));
        gone
    }
}

/// One direction.
#[derive(Debug)]
pub(super) struct Wire {
    random: SeededEntropy,
    pub(super) own_queue: bool,
    pub(super) offload: bool,
    pub(super) l2: usize,
    pub(super) state: Mutex<WireState>,
}

impl Wire {
    /// `l2`: length of the link header.
    pub(super) fn new(direction: Direction, seed: u64, [own_queue, offload]: [bool; 2], l2: usize) -> Wire {
        let state = Mutex::new(WireState { direction, ..WireState::default() });
        Wire { random: SeededEntropy::new(seed), own_queue, offload, l2, state }
    }

    /// Decides an event of probability `p`. Draws no random number when `p` is 0, so that the results do not depend on
    /// features that are not used.
    fn chance(&self, p: f64) -> bool {
        p > 0.0 && f64::from(self.random.next_u32()) < p * 4_294_967_296.0
    }

    fn uniform(&self, most: Duration) -> Duration {
        match u64::try_from(most.as_nanos()).unwrap_or(u64::MAX) {
            0 => Duration::ZERO,
            n => Duration::from_nanos(((u128::from(self.random.next_u64()) * u128::from(n)) >> 64) as u64),
        }
    }

    /// Removes packets that have left the queue by `now` and returns how many; the caller drops the charges in `done`.
    pub(super) fn depart(&self, s: &mut WireState, now: Instant, done: &mut Owners) -> usize {
        self.launch(s, now);
        let before = s.queue.len();
        while s.queue.front().is_some_and(|q| q.departs <= now) {
            if let Some(q) = s.queue.pop_front() {
                s.launched -= 1;
                s.queued_bytes -= q.bytes;
                done.extend(q.owner);
            }
        }
        before - s.queue.len()
    }

    /// Packets whose last bit has left by `now` are under way. Their charges remain until `depart`.
    pub(super) fn launch(&self, s: &mut WireState, now: Instant) {
        while let Some(q) = s.queue.get_mut(s.launched).filter(|q| q.departs <= now) {
            s.launched += 1;
            if let Some(p) = q.planned.take() {
                self.fly(s, p);
            }
        }
    }

    fn fly(&self, s: &mut WireState, p: Planned) {
        let again = p.twice.then(|| if self.offload { p.skb.share() } else { copy(&p.skb) });
        for skb in again.into_iter().chain([p.skb]) {
            s.number += 1;
            s.flights.push(Reverse(Flight { at: p.at, number: s.number, skb }));
        }
    }

    /// Draws what becomes of a packet on its way. None: it is lost.
    fn plan(&self, s: &mut WireState, departs: Instant, mut skb: Skb) -> Option<Planned> {
        let d = s.direction;
        if self.chance(d.loss) {
            s.fate.lost += 1;
            return None;
        }
        let corrupted = self.chance(d.corrupt);
        if corrupted {
            self.flip(&mut skb);
        }
        let twice = self.chance(d.duplicate);
        let delay = d.delay + self.uniform(d.jitter);
        let late = self.chance(d.reorder).then_some(d.reorder_by);
        let mut p = Planned { skb, at: departs, delay, late, twice, corrupted };
        p.schedule(departs, &mut s.last_arrival);
        s.fate.reordered += u64::from(late.is_some());
        s.fate.duplicated += u64::from(twice);
        s.fate.corrupted += u64::from(corrupted);
        Some(p)
    }

    /// Sends a packet. `Busy` if the queue is full and the sender's own, unless `squeeze` is set: for the remaining
    /// segments of a packet that was segmented here.
    pub(super) fn send(&self, now: Instant, mut skb: Skb, squeeze: bool) -> Xmit {
        let mut done = Owners::new();
        let mut guard = self.state.lock();
        let s = &mut *guard;
        let d = s.direction;
        self.depart(s, now, &mut done);
        let bytes = skb.len() as u64;
        let mut full = !squeeze && d.is_full(s.queue.len(), s.queued_bytes, bytes);
        let gone = if d.head_drop && full { s.drop_heads(now, bytes) } else { Vec::new() };
        full &= gone.is_empty();
        if full && self.own_queue {
            return Xmit::Busy(skb);
        }
        s.fate.sent += 1;
        s.fate.bytes += bytes;
        let mut owner = skb.owner.take();
        if full {
            s.fate.overflowed += 1;
            drop(guard);
            drop(owner);
            return Xmit::Sent;
        }
        if self.offload {
            if skb.csum != Csum::None {
                skb.csum = Csum::Unnecessary;
            }
            skb.rx_segs = if skb.gso_size > 0 { skb.data_len().div_ceil(skb.gso_size.into()).max(1) as u16 } else { 1 };
        } else {
            // A wire carries only bytes: no shared pages, no metadata.
            skb = copy(&skb);
        }
        if d.ecn_threshold > 0 && s.queued_bytes >= d.ecn_threshold && mark_ce(&mut skb, self.l2) {
            s.fate.marked += 1;
        }
        let serialise = match d.rate {
            0 => Duration::ZERO,
            r => Duration::from_nanos((u128::from(bytes) * 8_000_000_000 / u128::from(r)) as u64),
        };
        let departs = s.busy_until.max(now) + serialise;
        s.busy_until = departs;
        let before = s.last_arrival;
        let planned = self.plan(s, departs, skb);
        if departs > now {
            let owner = if self.own_queue { owner.take() } else { None };
            s.queue.push_back(Queued { departs, serialise, bytes, before, planned, owner });
            s.queued_bytes += bytes;
        } else if let Some(p) = planned {
            self.fly(s, p);
        }
        done.extend(owner);
        drop(guard);
        let congested = self.own_queue && !gone.is_empty();
        // Dropped without the lock: a completion may send more.
        drop((done, gone));
        if congested { Xmit::Congested } else { Xmit::Sent }
    }

    fn flip(&self, skb: &mut Skb) {
        let bit = self.random.below((skb.len() * 8).min(u32::MAX as usize) as u32) as usize;
        let mut bytes = skb.to_vec();
        if let Some(b) = bytes.get_mut(bit / 8) {
            *b ^= 1 << (bit % 8);
        }
        *skb = Skb::from_slice(&bytes);
    }
}

/// Copies the packet's bytes into a new packet, as if they arrived from a wire.
fn copy(skb: &Skb) -> Skb {
    let mut c = Skb::new();
    for s in skb.slices() {
        let left = skb.len() - c.len();
        c.append(s, left);
    }
    c
}

/// Sets Congestion Experienced on an ECN-capable packet (RFC 3168 §5); false for others.
fn mark_ce(skb: &mut Skb, l2: usize) -> bool {
    let mut front = [0; HEADER_LEN + 20];
    let n = l2 + 20;
    if skb.copy_out(0, &mut front[..n]) < n {
        return false;
    }
    let ip = &front[l2..n];
    match ip[0] >> 4 {
        4 if ip[1] & 3 != 0 && skb.may_pull(l2 + usize::from(ip[0] & 15) * 4) => {
            let (old, new) = (u16::from_be_bytes([ip[0], ip[1]]), u16::from_be_bytes([ip[0], ip[1] | 3]));
            edit_front(skb, n, |h| {
                let field = u16::from_be_bytes([h[l2 + 10], h[l2 + 11]]);
                h[l2 + 1] |= 3;
                h[l2 + 10..l2 + 12].copy_from_slice(&checksum::update16(field, old, new).to_be_bytes());
            })
        }
        6 if ip[1] & 0x30 != 0 => edit_front(skb, n, |h| h[l2 + 1] |= 0x30),
        _ => false,
    }
}
