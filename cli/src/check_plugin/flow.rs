//! Bytes and messages both ways between two sockets, in virtual time. Both ends know what the other sends, so that each
//! byte is compared. A protocol with connections delivers all of it, once and in order; of datagrams, what arrives must
//! be one that was sent.

use super::part::{Finding, Must, Outcome, ensure};
use super::scene::{Pair, ROOM, Random, Scene, recv};
use std::collections::{HashMap, VecDeque};
use std::time::Duration;
use usersock::driver::Step;
use usersock::error::Error;

/// Without progress for so long, nothing arrives any more.
const STALL: Duration = Duration::from_secs(900);

/// Lengths of messages, up to `most`: none, small ones, and those of several packets.
fn length(random: &mut Random, most: usize) -> usize {
    let n = match random.below(16) {
        0 => 1,
        1..4 => 1 + random.below(32),
        4..11 => 1 + random.below(1400),
        11..15 => 1 + random.below(8000),
        _ => 1 + random.below(40_000),
    };
    n.min(most)
}

/// One direction of a connection: what is still to be sent, and what is still to come.
struct Way {
    random: Random,
    expected: VecDeque<Vec<u8>>,
    /// Taken off the front of the first expected message, of a stream.
    offset: usize,
    /// Made and not yet accepted by the socket.
    pending: Vec<u8>,
    left: usize,
    sent: usize,
    got: usize,
    ended: [bool; 2],
}

impl Way {
    fn new(seed: u64, bytes: usize) -> Way {
        Way {
            random: Random(seed),
            expected: VecDeque::new(),
            offset: 0,
            pending: Vec::new(),
            left: bytes,
            sent: 0,
            got: 0,
            ended: [false; 2],
        }
    }

    /// Sends what the socket takes. The longest message it takes is found by its EMSGSIZE.
    fn send(&mut self, pair: &Pair, end: usize, stream: bool, most: &mut usize) -> Outcome<bool> {
        let mut did = false;
        loop {
            if self.pending.is_empty() {
                if self.left == 0 {
                    break;
                }
                let n = length(&mut self.random, (*most).min(self.left));
                self.pending = self.random.bytes(n);
                self.left -= n;
                self.expected.push_back(self.pending.clone());
            }
            match pair.send(end, &self.pending, libc::MSG_DONTWAIT) {
                Ok(0) => return Err(Finding::Wrong("send of some bytes returned 0".to_owned())),
                Ok(n) if !stream && n != self.pending.len() => {
                    return Err(Finding::Wrong(format!("send took {n} bytes of a message of {}", self.pending.len())));
                }
                Ok(n) => {
                    self.pending.drain(..n);
                    self.sent += n;
                }
                Err(Error::Again) => return Ok(did),
                Err(Error::MsgSize) if !stream && self.pending.len() > 100 => {
                    *most = self.pending.len() / 2;
                    self.left += self.pending.len();
                    self.expected.pop_back();
                    self.pending.clear();
                }
                r => drop(r.must("send")?),
            }
            did = true;
        }
        if !self.ended[0] {
            pair.ends[end].shutdown(libc::SHUT_WR).must("shutdown(SHUT_WR)")?;
            self.ended[0] = true;
            did = true;
        }
        Ok(did)
    }

    /// Receives what has come.
    fn recv(&mut self, pair: &Pair, end: usize, stream: bool) -> Outcome<bool> {
        let mut did = false;
        while !self.ended[1] {
            let room = if stream { 1 + self.random.clone().below(9000) } else { ROOM };
            let r = match recv(&pair.ends[end], room, libc::MSG_DONTWAIT) {
                Err(Error::Again) => break,
                r => r.must("recv")?,
            };
            did = true;
            if r.is_end() {
                let due = self.left + self.pending.len() + self.expected.iter().map(Vec::len).sum::<usize>();
                ensure!(due == self.offset && self.ended[0], "the end came after {} bytes, before the last", self.got);
                self.ended[1] = true;
            } else if stream {
                self.compare_stream(&r.bytes)?;
            } else {
                let Some(want) = self.expected.pop_front() else {
                    return Err(Finding::Wrong(format!("a message of {} bytes that nobody sent", r.len)));
                };
                let whole = r.bytes == want;
                ensure!(whole, "a message of {} bytes, sent {}: other bytes than were sent", r.len, want.len());
                self.got += r.len;
            }
        }
        Ok(did)
    }

    fn compare_stream(&mut self, bytes: &[u8]) -> Outcome {
        for b in bytes {
            let Some(first) = self.expected.front() else {
                return Err(Finding::Wrong(format!("more than the {} bytes that were sent", self.got)));
            };
            ensure!(first.get(self.offset) == Some(b), "byte {} is not the one that was sent", self.got);
            self.got += 1;
            self.offset += 1;
            if self.offset == first.len() {
                self.expected.pop_front();
                self.offset = 0;
            }
        }
        Ok(())
    }
}

/// Sends `bytes` each way over a connection, compares them, and ends both directions.
pub(super) fn connection(scene: &Scene, pair: &Pair, bytes: usize) -> Outcome {
    let stream = scene.traits.stream();
    let seed = scene.world.seed();
    let mut ways = [Way::new(seed, bytes), Way::new(!seed, bytes)];
    let mut most = [ROOM - 1; 2];
    let mut last = scene.world.now();
    while !ways.iter().all(|w| w.ended == [true; 2]) {
        let mut did = false;
        for (end, way) in ways.iter_mut().enumerate() {
            did |= way.send(pair, end, stream, &mut most[end])?;
            did |= way.recv(pair, 1 - end, stream)?;
        }
        let now = scene.world.now();
        if did {
            last = now;
        }
        let [a, b] = [ways[0].got, ways[1].got];
        ensure!(now - last < STALL, "after {a} and {b} of {bytes} bytes nothing arrives any more");
        if scene.world.step(now + Duration::from_secs(60)) == Step::Limit && !did {
            continue;
        }
    }
    Ok(())
}

/// Datagrams both ways. Returns how many arrived.
pub(super) fn datagrams(scene: &Scene, pair: &Pair, count: usize, lossless: bool) -> Outcome<usize> {
    let mut random = Random(scene.world.seed());
    let mut sent: [HashMap<Vec<u8>, usize>; 2] = Default::default();
    let mut arrived = 0;
    let mut total = 0;
    for i in 0..count {
        for (end, sent) in sent.iter_mut().enumerate() {
            // The number makes each unlike all others.
            let mut bytes = (i as u64 * 2 + end as u64).to_be_bytes().to_vec();
            bytes.extend(random.bytes(length(&mut random.clone(), 1200)));
            let n = match pair.send(end, &bytes, 0) {
                // The link's queue is full, or the path is gone: that is a loss.
                Err(Error::NoBufs) => continue,
                r => r.must("send")?,
            };
            ensure!(n == bytes.len(), "send returned {n} of a datagram of {} bytes", bytes.len());
            // What a bad link doubles comes twice.
            sent.insert(bytes, if lossless { 1 } else { 2 });
            total += 1;
        }
        scene.world.run_for(Duration::from_millis(20));
        arrived += receive_datagrams(pair, &mut sent)?;
    }
    scene.world.run_for(Duration::from_secs(60));
    arrived += receive_datagrams(pair, &mut sent)?;
    ensure!(!lossless || arrived >= total, "of {total} datagrams on a link without loss, {arrived} arrived");
    Ok(arrived)
}

fn receive_datagrams(pair: &Pair, sent: &mut [HashMap<Vec<u8>, usize>; 2]) -> Outcome<usize> {
    let mut arrived = 0;
    for end in 0..2 {
        loop {
            let r = match pair.recv(end, libc::MSG_DONTWAIT) {
                Err(Error::Again) => break,
                r => r.must("recv")?,
            };
            let left = sent[1 - end].get_mut(&r.bytes);
            let Some(left) = left else {
                return Err(Finding::Wrong(format!("a datagram of {} bytes that nobody sent", r.len)));
            };
            ensure!(*left > 0, "a datagram of {} bytes came more often than the link doubles one", r.len);
            *left -= 1;
            arrived += 1;
        }
    }
    Ok(arrived)
}

/// Sends over a pair what fits its kind, and compares it.
pub(super) fn both_ways(scene: &Scene, pair: &Pair, bytes: usize, lossless: bool) -> Outcome {
    match scene.traits.connections {
        true => connection(scene, pair, bytes),
        false => datagrams(scene, pair, (bytes / 1000).max(10), lossless).map(drop),
    }
}
