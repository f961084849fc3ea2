//! rec: a record layer over TCP, by `setsockopt(fd, IPPROTO_TCP, TCP_ULP, "rec", 3)`, in Rust: numbered records with a
//! CRC32C. `c-tests/plugins/rec_ulp.c` is the same in C, and explains it. `cargo build -p usersock-plugin --example
//! rec_ulp` makes librec_ulp.so.
//!
//!     | length (32) | number (32) | CRC32C (32) | payload, 1 to 16384 bytes          all big-endian
#![forbid(unsafe_code)]

use std::ffi::c_ulong;
use std::mem::take;
use usersock_plugin::prelude::*;
use usersock_plugin::{MSG_DONTWAIT, MSG_EOR, MSG_MORE, MSG_NOSIGNAL, MSG_PEEK, MSG_WAITALL};

const HEADER: usize = 12;
const MAX_PAYLOAD: usize = 16_384;
/// Level of the options, and the options: `struct rec_stats`, and an int.
const SOL_REC: i32 = 0x5245;
const REC_STATS: i32 = 1;
const REC_MAX: i32 = 2;

const MSG_ERRQUEUE: i32 = 0x2000;
const MSG_CMSG_CLOEXEC: i32 = 0x4000_0000;
const SIOCINQ: c_ulong = 0x541b;
const SIOCOUTQ: c_ulong = 0x5411;

/// Counters, in the order of COUNTERS.
const OUT_RECORDS: usize = 0;
const IN_RECORDS: usize = 1;
const BAD_RECORDS: usize = 2;

/// CRC32C (RFC 3720 appendix B.4), a byte at a time.
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let (mut c, mut bit) = (i as u32, 0);
        while bit < 8 {
            c = c >> 1 ^ if c & 1 != 0 { 0x82f6_3b78 } else { 0 };
            bit += 1;
        }
        table[i] = c;
        i += 1;
    }
    table
};

fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!crc, |crc, b| crc >> 8 ^ TABLE[((crc ^ u32::from(*b)) & 255) as usize])
}

/// The CRC of a record, over all but the CRC field.
fn record_crc(record: &[u8]) -> u32 {
    crc32c(crc32c(0, &record[..8]), &record[HEADER..])
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[derive(Default)]
struct Data {
    /// It is on a connection; on a listener it is for the children.
    started: bool,
    /// The record being sent, and how much of it TCP has.
    out: Vec<u8>,
    out_at: usize,
    /// The record being received, and how much of its payload the program has.
    inbound: Vec<u8>,
    in_at: usize,
    out_number: u32,
    in_number: u32,
    max: usize,
    /// Inside `below_send`, which may run backlog_rcv: that must not flush.
    flushing: bool,
    /// The incoming record is complete and valid.
    whole: bool,
    eof: bool,
    shut_rd: bool,
    bad: bool,
    records_out: u64,
    bytes_out: u64,
    records_in: u64,
    bytes_in: u64,
    partial_out: u32,
}

impl Data {
    fn unread(&self) -> usize {
        if self.whole { self.inbound.len() - HEADER - self.in_at } else { 0 }
    }

    fn encode(&mut self, payload: &[u8]) {
        self.out.clear();
        self.out.extend((payload.len() as u32).to_be_bytes());
        self.out.extend(self.out_number.to_be_bytes());
        self.out.extend([0; 4]);
        self.out.extend(payload);
        let crc = record_crc(&self.out);
        self.out[8..HEADER].copy_from_slice(&crc.to_be_bytes());
        self.out_number = self.out_number.wrapping_add(1);
        self.out_at = 0;
    }

    /// `struct rec_stats` of rec_ulp.h.
    fn stats(&self) -> Vec<u8> {
        let held_out = (self.out.len() - self.out_at) as u32;
        let held_in = if self.whole { self.unread() } else { self.inbound.len() } as u32;
        let long = [self.records_out, self.bytes_out, self.records_in, self.bytes_in].map(u64::to_ne_bytes);
        let short = [held_out, held_in, self.partial_out, self.bad.into()].map(u32::to_ne_bytes);
        [long.concat(), short.concat()].concat()
    }
}

type Sock<'a> = Layered<'a, Rec>;

/// Restores the connection's error, which TCP returns only once, for the program's next call.
fn put_back(l: &Sock<'_>, e: Errno) {
    if !matches!(e, Errno::Again | Errno::Pipe | Errno::BadMsg) {
        l.error_report(e);
    }
}

/// Passes the rest of the record to TCP by `send`, while it takes bytes. EAGAIN: it has no room.
fn flush_by(l: &mut Sock<'_>, send: impl Fn(&Sock<'_>, &[u8]) -> Result<usize>) -> Result<()> {
    if l.data().flushing {
        return Err(Errno::Again);
    }
    let (out, begun) = (take(&mut l.data().out), l.data().out_at > 0);
    l.data().flushing = true;
    let mut result = Ok(());
    while result.is_ok() && l.data().out_at < out.len() {
        let at = l.data().out_at;
        match send(l, &out[at..]) {
            Ok(n) => l.data().out_at += n,
            Err(e) => result = Err(e),
        }
    }
    let d = l.data();
    d.flushing = false;
    d.out = out;
    if result.is_ok() && !d.out.is_empty() {
        d.records_out += 1;
        d.bytes_out += (d.out.len() - HEADER) as u64;
        d.out.clear();
        d.out_at = 0;
        let _ = l.reg().count(OUT_RECORDS, 1);
    } else if result == Err(Errno::Again) && !begun && d.out_at > 0 {
        d.partial_out += 1;
    }
    result
}

fn flush(l: &mut Sock<'_>, flags: i32) -> Result<()> {
    flush_by(l, |l, bytes| l.below_send(bytes, flags | MSG_DONTWAIT | MSG_NOSIGNAL))
}

/// The same, regardless of room: no more data will follow.
fn force(l: &mut Sock<'_>) {
    // If memory is out, the peer finds a record cut short.
    let _ = flush_by(l, |l, bytes| match l.below_force(bytes) {
        Ok(0) => Err(Errno::NoMem),
        r => r,
    });
}

fn bad(l: &mut Sock<'_>) -> Errno {
    let d = l.data();
    d.bad = true;
    d.inbound.clear();
    d.out.clear();
    (d.in_at, d.out_at) = (0, 0);
    let _ = l.reg().count(BAD_RECORDS, 1);
    let _ = l.below_abort(Errno::BadMsg);
    Errno::BadMsg
}

/// Reads the incoming record as far as it has arrived. True: complete and valid; false: the end of the stream, between
/// two records; EAGAIN: incomplete.
fn fill(l: &mut Sock<'_>) -> Result<bool> {
    while !l.data().whole {
        let d = l.data();
        if d.bad {
            return Err(Errno::BadMsg);
        }
        if d.eof {
            return Ok(false);
        }
        let payload = if d.inbound.len() >= HEADER { word(&d.inbound, 0) as usize } else { 0 };
        let want = HEADER + payload;
        if d.inbound.len() < want {
            let mut inbound = take(&mut d.inbound);
            let len = inbound.len();
            inbound.resize(want, 0);
            let received = l.below_recv(&mut inbound[len..], MSG_DONTWAIT);
            inbound.truncate(len + received.unwrap_or(0));
            let d = l.data();
            d.inbound = inbound;
            let n = received?;
            if n == 0 && len > 0 && !d.shut_rd {
                return Err(bad(l));
            }
            d.eof = n == 0;
        }
        let d = l.data();
        if d.inbound.len() == HEADER {
            let length = word(&d.inbound, 0) as usize;
            if length == 0 || length > MAX_PAYLOAD || word(&d.inbound, 4) != d.in_number {
                return Err(bad(l));
            }
        } else if d.inbound.len() > HEADER && d.inbound.len() == want {
            if word(&d.inbound, 8) != record_crc(&d.inbound) {
                return Err(bad(l));
            }
            d.whole = true;
            d.in_number = d.in_number.wrapping_add(1);
            d.records_in += 1;
            d.bytes_in += payload as u64;
            let _ = l.reg().count(IN_RECORDS, 1);
        }
    }
    Ok(true)
}

struct Rec;

impl Rec {
    fn sendmsg(&self, l: &mut Sock<'_>, msg: &mut SendMsg<'_>) -> Result<usize> {
        let flags = msg.flags();
        if flags & !(MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE | MSG_EOR) != 0 {
            return Err(Errno::OpNotSupp); // urgent bytes have no place in a record
        }
        // No bytes make no record, but TCP says whether there is a connection.
        if !l.data().started || msg.is_empty() {
            return l.below_sendmsg(msg);
        }
        if l.data().bad {
            return Err(Errno::BadMsg);
        }
        let until = l.timeo(Direction::Send, flags);
        let mut done = 0;
        loop {
            let left = msg.len();
            match flush(l, if left > 0 { MSG_MORE } else { flags & (MSG_MORE | MSG_EOR) }) {
                Err(Errno::Again) if left > 0 => {
                    if let Err(e) = l.wait(Events(0x4), until) {
                        return if done > 0 { Ok(done) } else { Err(e) };
                    }
                }
                // What TCP has no room for is ours to finish.
                Ok(()) | Err(Errno::Again) if left == 0 => return Ok(done),
                Ok(()) => {
                    let n = left.min(l.data().max);
                    let mut payload = vec![0; n];
                    msg.take(&mut payload)?;
                    l.data().encode(&payload);
                    done += n;
                }
                Err(e) => {
                    let d = l.data();
                    if done > 0 && d.out_at == 0 {
                        // TCP accepted nothing of the last record: it was not sent.
                        done -= d.out.len() - HEADER;
                        d.out.clear();
                        d.out_number = d.out_number.wrapping_sub(1);
                    }
                    if done > 0 {
                        put_back(l, e);
                        return Ok(done);
                    }
                    return Err(e);
                }
            }
        }
    }

    fn recvmsg(&self, l: &mut Sock<'_>, msg: &mut RecvMsg<'_>) -> Result<usize> {
        let flags = msg.flags();
        if !l.data().started || flags & MSG_ERRQUEUE != 0 {
            return l.below_recvmsg(msg);
        }
        if flags & !(MSG_DONTWAIT | MSG_NOSIGNAL | MSG_PEEK | MSG_WAITALL | MSG_CMSG_CLOEXEC) != 0 {
            return Err(Errno::OpNotSupp);
        }
        let until = l.timeo(Direction::Recv, flags);
        let target = l.rcvlowat(flags, msg.room());
        let mut done = 0;
        loop {
            let e = match fill(l) {
                Ok(true) => {
                    let d = l.data();
                    let n = msg.put(&d.inbound[HEADER + d.in_at..])?;
                    done += n;
                    if flags & MSG_PEEK != 0 {
                        return Ok(done);
                    }
                    d.in_at += n;
                    if d.unread() == 0 {
                        d.inbound.clear();
                        d.in_at = 0;
                        d.whole = false;
                    }
                    if msg.room() == 0 {
                        return Ok(done);
                    }
                    continue;
                }
                Ok(false) => return Ok(done),
                Err(e) => e,
            };
            if done > 0 && (e != Errno::Again || done >= target) {
                put_back(l, e);
                return Ok(done);
            }
            match e {
                Errno::Again => {
                    if let Err(e) = l.wait(Events(0x1), until) {
                        return if done > 0 { Ok(done) } else { Err(e) };
                    }
                }
                Errno::BadMsg => {
                    let _ = l.take_error(); // told by this call
                    return Err(e);
                }
                e => return Err(e),
            }
        }
    }

    /// Readable with a complete valid record, at the end, or on an error: not with an incomplete record. Writable when
    /// the next record can begin.
    fn poll(&self, l: &mut Sock<'_>) -> Events {
        let mut m = l.below_poll();
        if !l.data().started {
            return m;
        }
        if !m.has(Events::ERR) {
            // A pending error is left for the program.
            if m.has(Events(0x1))
                && let Err(e) = fill(l)
            {
                put_back(l, e);
            }
            if m.has(Events(0x4))
                && let Err(e) = flush(l, 0)
            {
                put_back(l, e);
            }
            m = l.below_poll();
        }
        let gone = m.has(Events::ERR | Events::HUP);
        let d = l.data();
        m = if d.whole || d.eof || d.bad || gone { m | Events::IN } else { m.without(Events::IN) };
        if !d.out.is_empty() && !gone { m.without(Events::OUT) } else { m }
    }

    fn backlog_rcv(&self, l: &mut Sock<'_>, skb: Skb) {
        let _ = l.below_backlog_rcv(skb);
        // The segment may have acknowledged data, and so made room.
        let waits = !l.data().out.is_empty() || l.data().flushing;
        if waits && !l.below_poll().has(Events::ERR | Events::HUP) && flush(l, 0).is_ok() {
            l.wake(Events::OUT);
        }
    }

    fn start(l: &mut Sock<'_>, max: usize) {
        *l.data() = Data { started: true, max, ..Data::default() };
    }

    fn clone(&self, l: &mut Sock<'_>, parent: &Data) -> Result<()> {
        Rec::start(l, parent.max);
        Ok(())
    }

    /// Discards buffered bytes; records of the next connection begin with number 0.
    fn disconnect(&self, l: &mut Sock<'_>) -> Result<()> {
        let max = l.data().max;
        Rec::start(l, max);
        Ok(())
    }

    fn shutdown(&self, l: &mut Sock<'_>, how: i32) {
        l.data().shut_rd |= how & 1 != 0;
        if how & 2 != 0 {
            force(l);
        }
    }

    fn close(&self, l: &mut Sock<'_>, _flags: i32) {
        if !l.data().started {
            return;
        }
        force(l);
        if !l.data().inbound.is_empty() {
            let _ = l.below_abort(Errno::ConnReset); // as TCP does with unread data
        }
    }

    fn may_remove(&self, l: &mut Sock<'_>) -> Result<()> {
        let d = l.data();
        if d.inbound.is_empty() && d.out.is_empty() { Ok(()) } else { Err(Errno::Busy) }
    }

    fn setsockopt(&self, s: &LayeredSock<'_, Self>, level: i32, name: i32, value: &[u8]) -> Result<()> {
        if level != SOL_REC {
            return s.below_setsockopt(level, name, value);
        }
        if name != REC_MAX {
            return Err(Errno::NoProtoOpt);
        }
        let max = value.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes)).and_then(|max| usize::try_from(max).ok());
        let max = max.filter(|max| (1..=MAX_PAYLOAD).contains(max)).ok_or(Errno::Inval)?;
        s.locked(|l| l.data().max = max)
    }

    fn getsockopt(&self, s: &LayeredSock<'_, Self>, level: i32, name: i32, value: &mut [u8]) -> Result<usize> {
        if level != SOL_REC {
            return s.below_getsockopt(level, name, value);
        }
        let bytes = match name {
            REC_MAX => s.locked(|l| (l.data().max as i32).to_ne_bytes().to_vec())?,
            REC_STATS => s.locked(|l| l.data().stats())?,
            _ => return Err(Errno::NoProtoOpt),
        };
        let n = bytes.len().min(value.len());
        value[..n].copy_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn ioctl(&self, s: &LayeredSock<'_, Self>, request: c_ulong, value: i32) -> Result<i32> {
        let below = if request == SIOCINQ { value } else { s.below_ioctl(request, value)? };
        if request != SIOCINQ && request != SIOCOUTQ {
            return Ok(below);
        }
        s.locked(|l| {
            if !l.data().started {
                return Err(Errno::Inval);
            }
            if request == SIOCOUTQ {
                let d = l.data();
                return Ok(below + (d.out.len() - d.out_at) as i32);
            }
            let m = l.below_poll();
            if m.has(Events(0x1)) && !m.has(Events::ERR) {
                let _ = fill(l);
            }
            Ok(l.data().unread() as i32)
        })?
    }
}

impl Layer for Rec {
    type Data = Data;
    const NAME: &'static str = "rec";
    const COUNTERS: &'static [&'static str] = &["RecOutRecords", "RecInRecords", "RecBadRecords"];
    const OPS: LayerOps<Self> = LayerOps {
        clone: Some(Self::clone),
        sendmsg: Some(Self::sendmsg),
        recvmsg: Some(Self::recvmsg),
        poll: Some(Self::poll),
        close: Some(Self::close),
        shutdown: Some(Self::shutdown),
        setsockopt: Some(Self::setsockopt),
        getsockopt: Some(Self::getsockopt),
        ioctl: Some(Self::ioctl),
        backlog_rcv: Some(Self::backlog_rcv),
        release_cb: None,
        may_remove: Some(Self::may_remove),
        disconnect: Some(Self::disconnect),
    };

    fn init(&self, l: &mut Sock<'_>) -> Result<()> {
        match l.state() {
            State::ESTABLISHED | State::CLOSE_WAIT => Rec::start(l, MAX_PAYLOAD),
            State::LISTEN => l.data().max = MAX_PAYLOAD,
            _ => return Err(Errno::NotConn),
        }
        Ok(())
    }
}

usersock_plugin::plugin!(|plugin| plugin.layer(Rec));
