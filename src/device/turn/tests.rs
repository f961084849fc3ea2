//! Every interleaving of threads that send on queues of their own and receive from them, over loom's atomics.

use super::*;
use loom::sync::atomic::{AtomicU8 as LoomU8, AtomicUsize, Ordering::*};
use loom::sync::{Arc, Mutex};
use loom::thread;

impl State for LoomU8 {
    fn get(&self) -> u8 {
        self.load(SeqCst)
    }
    fn swap(&self, to: u8) -> u8 {
        self.swap(to, SeqCst)
    }
    fn exchange(&self, from: u8, to: u8) -> bool {
        self.compare_exchange(from, to, SeqCst, SeqCst).is_ok()
    }
}

/// A queue as the loopback device and `netdev` have it.
struct Queue {
    turn: Turn<LoomU8>,
    packets: Mutex<Vec<u32>>,
    len: AtomicUsize,
}

/// A small model of `netdev` with two queues: it does what the code there does, around the same [`Turn`].
struct Model {
    queues: [Queue; 2],
    /// The sock, which is locked while it sends: its last queue, and its next packet's number.
    sock: Mutex<(Option<usize>, u32)>,
    received: Mutex<Vec<u32>>,
}

impl Model {
    fn new() -> Arc<Model> {
        let queue =
            || Queue { turn: Turn(LoomU8::new(FREE)), packets: Mutex::new(Vec::new()), len: AtomicUsize::new(0) };
        let (sock, received) = (Mutex::new((None, 0)), Mutex::new(Vec::new()));
        Arc::new(Model { queues: [queue(), queue()], sock, received })
    }

    fn has_pending(&self, q: usize) -> bool {
        self.queues[q].len.load(Acquire) > 0
    }

    /// `NetDev::xmit` of the thread whose queue is `own`. Returns the queue.
    fn send(&self, own: usize) -> usize {
        let mut sock = self.sock.lock().unwrap();
        let stays = sock.0.filter(|&q| q != own && !self.queues[q].turn.all_received(|| self.has_pending(q)));
        let q = stays.unwrap_or(own);
        *sock = (Some(q), sock.1 + 1);
        let queue = &self.queues[q];
        let mut packets = queue.packets.lock().unwrap();
        packets.push(sock.1);
        queue.len.store(packets.len(), Release);
        q
    }

    /// `NetDev::receive`.
    fn receive(&self, q: usize) {
        if !self.has_pending(q) {
            return;
        }
        let queue = &self.queues[q];
        let Some(mut turn) = queue.turn.take() else { return };
        loop {
            let batch = {
                let mut packets = queue.packets.lock().unwrap();
                queue.len.store(0, Release);
                std::mem::take(&mut *packets)
            };
            batch.into_iter().for_each(|p| self.received.lock().unwrap().push(p));
            match turn.finish() {
                Ok(()) => return,
                Err(again) => turn = again,
            }
        }
    }

    /// A system call that sends a packet, and receives before it returns.
    fn call(&self, own: usize) {
        let q = self.send(own);
        self.receive(own);
        if q != own {
            self.receive(q);
        }
    }
}

fn check(f: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(f);
}

#[test]
fn a_flow_that_two_threads_send_is_received_whole_and_in_order() {
    check(|| {
        let m = Model::new();
        let other = {
            let m = m.clone();
            thread::spawn(move || m.call(1))
        };
        m.call(0);
        m.call(0);
        other.join().unwrap();
        assert_eq!(*m.received.lock().unwrap(), [1, 2, 3]);
    });
}

#[test]
fn a_thread_that_looks_after_other_queues_neither_loses_nor_reorders_packets() {
    check(|| {
        let m = Model::new();
        let other = {
            let m = m.clone();
            // It receives from queue 0 in the other's place, then sends for the same sock.
            thread::spawn(move || {
                m.receive(0);
                m.call(1);
            })
        };
        m.call(0);
        other.join().unwrap();
        assert_eq!(*m.received.lock().unwrap(), [1, 2]);
    });
}
