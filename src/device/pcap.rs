//! Capture: wraps any device and writes its packets to a nanosecond pcap file, as they would be on a wire. In the file,
//! checksums are complete and super-packets are segmented, so that tshark reports no errors; the packets themselves are
//! not modified. Above and below: `device::Device`. Format: draft-ietf-opsawg-pcap.

use super::{Caps, DevStats, Device, LinkType, Xmit, gso};
use crate::base::env::{Clock, Instant};
use crate::device::netdev::NetDev;
use crate::sock::skb::Skb;
use crate::stack::Stack;
use crate::sys::fd::Fd;
use crate::sys::lock::Mutex;
use crate::wire::ether;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use pcap_file::{DataLink, Endianness, PcapError, TsResolution};
use std::collections::VecDeque;
use std::io::{self, BufWriter, Write};
use std::os::fd::RawFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(test)]
mod tests;

/// Where a capture is written.
pub type Sink = Box<dyn Write + Send>;

/// Size of the write buffer, in bytes; the file is written in pieces of this size and when the capture ends.
const BUFFER: usize = 256 * 1024;

/// The file, and the order of what is to be in it. Its lock is not held while the device sends: that may send again, on
/// this device too, as a tunnel over another port of its own stack does.
struct Output {
    writer: PcapWriter<BufWriter<Sink>>,
    /// Packets behind one that the device is being given: what arrives meanwhile may answer it, and is written after
    /// it.
    waiting: VecDeque<Waiting>,
    /// The number of the first of them.
    first: u64,
}

/// A packet whose turn in the file has not come.
enum Waiting {
    /// The device has not said yet whether it takes it.
    Sending,
    /// To be written.
    Passed(Skb),
    /// A packet that the device returned is captured when it is sent.
    Refused,
}

impl Output {
    /// A packet is about to be given to the device; returns its number.
    fn begin(&mut self) -> u64 {
        self.waiting.push_back(Waiting::Sending);
        self.first + self.waiting.len() as u64 - 1
    }

    /// Puts what became of packet `number` in its place.
    fn end(&mut self, number: u64, passed: Option<Skb>) {
        let at = number.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        if let Some(place) = at.and_then(|at| self.waiting.get_mut(at)) {
            *place = passed.map_or(Waiting::Refused, Waiting::Passed);
        }
    }

    /// The next packet whose turn has come.
    fn next(&mut self) -> Option<Skb> {
        while let Some(front) = self.waiting.pop_front() {
            match front {
                Waiting::Sending => {
                    self.waiting.push_front(front);
                    return None;
                }
                Waiting::Passed(skb) => {
                    self.first += 1;
                    return Some(skb);
                }
                Waiting::Refused => self.first += 1,
            }
        }
        None
    }
}

/// A device that captures the packets of the device it wraps.
pub struct Pcap {
    inner: Arc<dyn Device>,
    /// None: the capture was stopped, or a write failed.
    out: Mutex<Option<Output>>,
    clock: Arc<dyn Clock>,
    l2: usize,
    frames: AtomicU64,
    lost: AtomicU64,
    /// The write error that ended the capture.
    failed: Mutex<Option<io::Error>>,
}

impl std::fmt::Debug for Pcap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pcap({:?}, {} frames)", self.inner, self.frames())
    }
}

fn to_io(e: PcapError) -> io::Error {
    match e {
        PcapError::IoError(e) => e,
        other => io::Error::other(other),
    }
}

impl Pcap {
    /// Wraps `inner`, writing to `sink`. `clock` is the stack's: it gives the packets' wall-clock times. Errors: those
    /// of the sink.
    pub fn new(inner: Arc<dyn Device>, sink: Sink, clock: Arc<dyn Clock>) -> io::Result<Pcap> {
        let (datalink, l2) = match inner.caps().link {
            LinkType::Ip => (DataLink::RAW, 0),
            LinkType::Ethernet(_) => (DataLink::ETHERNET, ether::HEADER_LEN),
        };
        // In this machine's byte order, as libpcap writes it: readers detect it by the magic number.
        let endianness = if cfg!(target_endian = "big") { Endianness::Big } else { Endianness::Little };
        let ts_resolution = TsResolution::NanoSecond;
        let header = PcapHeader { snaplen: 262_144, datalink, ts_resolution, endianness, ..PcapHeader::default() };
        let writer = PcapWriter::with_header(BufWriter::with_capacity(BUFFER, sink), header).map_err(to_io)?;
        let (frames, lost) = (AtomicU64::new(0), AtomicU64::new(0));
        let out = Mutex::new(Some(Output { writer, waiting: VecDeque::new(), first: 0 }));
        Ok(Pcap { inner, out, clock, l2, frames, lost, failed: Mutex::default() })
    }

    /// Ends the capture and flushes the buffer: the file is complete when this returns. The device then passes packets
    /// without capturing. Returns the error of the last write, or the one that ended the capture earlier; a second call
    /// does nothing.
    pub fn finish(&self) -> io::Result<()> {
        if let Some(e) = self.failed.lock().take() {
            return Err(e);
        }
        let mut out = self.out.lock();
        // What waits for a packet that the device is still being given does without it.
        let waiting = out.as_mut().map(|o| std::mem::take(&mut o.waiting)).unwrap_or_default();
        for packet in waiting {
            if let Waiting::Passed(skb) = packet {
                self.write(&mut out, &skb);
            }
        }
        match out.take() {
            Some(out) => out.writer.into_writer().flush(),
            None => self.failed.lock().take().map_or(Ok(()), Err),
        }
    }

    /// Number of frames written.
    pub fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }

    /// Number of frames that could not be written; the first write error ended the capture (a full disk).
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Captures a packet that the device has received, in its turn.
    fn received(&self, skb: &Skb) {
        let mut out = self.out.lock();
        match out.as_mut() {
            Some(o) if !o.waiting.is_empty() => o.waiting.push_back(Waiting::Passed(skb.share())),
            _ => self.write(&mut out, skb),
        }
    }

    /// Captures the packet that was sent as `number`, unless it is None, and those that waited for it.
    fn sent(&self, number: u64, passed: Option<Skb>) {
        let mut out = self.out.lock();
        if let Some(o) = out.as_mut() {
            o.end(number, passed);
        }
        while let Some(skb) = out.as_mut().and_then(Output::next) {
            self.write(&mut out, &skb);
        }
    }

    fn write(&self, out: &mut Option<Output>, skb: &Skb) {
        let Some(o) = out.as_mut() else { return };
        // Not the time of the softirq run, which may be before that of the packet that this one replies to.
        let time = self.clock.wall();
        let mut failed = None;
        gso::wire_frames(skb, self.l2, &mut |frame| {
            match o.writer.write_packet(&PcapPacket::new(time, frame.len() as u32, frame)) {
                Ok(_) => self.frames.fetch_add(1, Ordering::Relaxed),
                Err(e) => {
                    failed = failed.take().or(Some(to_io(e)));
                    self.lost.fetch_add(1, Ordering::Relaxed)
                }
            };
        });
        if failed.is_some() {
            *out = None;
            *self.failed.lock() = failed;
        }
    }
}

/// A packet that the device is being given; its end says what became of it, also when the device panics.
struct Turn<'a> {
    pcap: &'a Pcap,
    number: u64,
    passed: Option<Skb>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.pcap.sent(self.number, self.passed.take());
    }
}

impl Device for Pcap {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn caps(&self) -> Caps {
        self.inner.caps()
    }

    fn kernel_ifindex(&self) -> Option<u32> {
        self.inner.kernel_ifindex()
    }

    fn recv(&self, queue: u16, now: Instant, budget: usize, sink: &mut dyn FnMut(Skb)) -> io::Result<usize> {
        self.inner.recv(queue, now, budget, &mut |skb| {
            self.received(&skb);
            sink(skb);
        })
    }

    fn xmit(&self, queue: u16, now: Instant, skb: Skb) -> Xmit {
        // A packet on loopback passes here twice; it is captured on receipt only.
        if self.inner.caps().loopback {
            return self.inner.xmit(queue, now, skb);
        }
        let Some(number) = self.out.lock().as_mut().map(Output::begin) else {
            return self.inner.xmit(queue, now, skb);
        };
        let mut turn = Turn { pcap: self, number, passed: None };
        let copy = skb.share();
        let sent = self.inner.xmit(queue, now, skb);
        turn.passed = matches!(sent, Xmit::Sent | Xmit::Congested).then_some(copy);
        sent
    }

    fn poll_fd(&self, queue: u16) -> Option<RawFd> {
        self.inner.poll_fd(queue)
    }

    fn next_event(&self, queue: u16) -> Option<Instant> {
        self.inner.next_event(queue)
    }

    fn has_pending(&self, queue: u16) -> bool {
        self.inner.has_pending(queue)
    }

    fn stats(&self) -> DevStats {
        self.inner.stats()
    }

    fn as_pcap(&self) -> Option<(&Pcap, Arc<dyn Device>)> {
        Some((self, self.inner.clone()))
    }
}

/// Starts a capture of a device of a stack into a new file, with wall-clock times. Errors: those of creating the file;
/// EBUSY when a capture is running.
pub fn start(dev: &NetDev, path: &Path, stack: &Stack) -> io::Result<()> {
    if dev.device().as_pcap().is_some() {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    start_to(dev, Box::new(Fd::create(path)?), stack.clock.clone())
}

/// As `start`, into any writer; `clock` is the stack's. Errors: those of the writer.
pub fn start_to(dev: &NetDev, sink: Sink, clock: Arc<dyn Clock>) -> io::Result<()> {
    let inner = dev.device().cloned();
    if inner.as_pcap().is_some() {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    let pcap: Arc<dyn Device> = Arc::new(Pcap::new(inner, sink, clock)?);
    dev.replace_device(|_| pcap);
    Ok(())
}

/// Ends the capture of a device and completes its file. EINVAL when none is running; otherwise write errors.
pub fn stop(dev: &NetDev) -> io::Result<()> {
    let device = dev.device();
    let Some((pcap, inner)) = device.as_pcap() else { return Err(io::Error::from_raw_os_error(libc::EINVAL)) };
    dev.replace_device(|_| inner);
    pcap.finish()
}
