//! One direction of a TCP connection of a scene, watched: what congestion control is checked by.

use super::part::{Finding, Must, Outcome, ensure};
use super::scene::{Pair, ROOM, Scene, recv};
use std::time::Duration;
use usersock::driver::Step;
use usersock::error::Error;
use usersock::net::Socket;

/// Fields of struct tcp_info, by their offset in linux/tcp.h.
pub(super) struct Info([u8; 256]);

impl Info {
    pub(super) fn of(s: &Socket) -> Outcome<Info> {
        let mut info = [0; 256];
        s.getsockopt(libc::IPPROTO_TCP, libc::TCP_INFO, &mut info).must("TCP_INFO")?;
        Ok(Info(info))
    }

    fn word(&self, at: usize) -> u32 {
        let bytes = self.0.get(at..at + 4).and_then(|b| b.try_into().ok());
        u32::from_ne_bytes(bytes.unwrap_or_default())
    }

    /// tcpi_snd_cwnd.
    pub(super) fn cwnd(&self) -> u32 {
        self.word(80)
    }

    /// tcpi_delivered.
    pub(super) fn delivered(&self) -> u32 {
        self.word(192)
    }
}

/// A transfer from the client to the server.
pub(super) struct Transfer<'a> {
    scene: &'a Scene,
    pair: &'a Pair,
    sent: usize,
    got: usize,
}

/// Byte `at` of what is sent.
fn byte(at: usize) -> u8 {
    ((at % 65_521) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[0]
}

impl<'a> Transfer<'a> {
    pub(super) fn new(scene: &'a Scene, pair: &'a Pair) -> Transfer<'a> {
        Transfer { scene, pair, sent: 0, got: 0 }
    }

    pub(super) fn got(&self) -> usize {
        self.got
    }

    fn turn(&mut self, end: usize) -> Outcome<bool> {
        let mut did = false;
        while self.sent < end {
            let piece: Vec<u8> = (self.sent..end.min(self.sent + 16_384)).map(byte).collect();
            match self.pair.send(0, &piece, libc::MSG_DONTWAIT) {
                Ok(n) => self.sent += n,
                Err(Error::Again) => break,
                r => drop(r.must("send")?),
            }
            did = true;
        }
        loop {
            let r = match recv(&self.pair.ends[1], ROOM, libc::MSG_DONTWAIT) {
                Err(Error::Again) => return Ok(did),
                r => r.must("recv")?,
            };
            let right = r.bytes.iter().enumerate().all(|(i, b)| *b == byte(self.got + i));
            ensure!(right && r.len > 0, "after {} bytes others were received than were sent", self.got);
            self.got += r.len;
            did = true;
        }
    }

    /// Sends until `end` bytes in all have arrived. `watch` looks at the sender at each step. Errors: nothing arrives
    /// for 300 s.
    pub(super) fn to(&mut self, end: usize, mut watch: impl FnMut(&Info) -> Outcome) -> Outcome {
        let mut last = self.scene.world.now();
        while self.got < end {
            let before = self.got;
            self.turn(end)?;
            watch(&Info::of(&self.pair.ends[0])?)?;
            let now = self.scene.world.now();
            if self.got > before {
                last = now;
            }
            ensure!((now - last).as_secs() < 300, "after {} of {end} bytes nothing arrives any more", self.got);
            if self.got < end && self.scene.world.step(now + Duration::from_secs(10)) == Step::Idle {
                return Err(Finding::Wrong(format!("after {} of {end} bytes no timer is armed", self.got)));
            }
        }
        Ok(())
    }

    /// Sends as fast as it goes for `span`.
    pub(super) fn during(&mut self, span: Duration, mut watch: impl FnMut(&Info) -> Outcome) -> Outcome {
        let end = self.scene.world.now() + span;
        while self.scene.world.now() < end {
            if !self.turn(usize::MAX)? || self.scene.world.step(self.scene.world.now()) == Step::Limit {
                self.scene.world.step(end);
            }
            watch(&Info::of(&self.pair.ends[0])?)?;
        }
        Ok(())
    }
}
