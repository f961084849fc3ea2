<<<<<<< HEAD
//! Capture: wraps any device and writes what passes to a nanosecond pcap file. What the file shows is what a wire would have
//! carried: super-packets are cut and checksums completed in the copy, so that no reader sees a bad checksum that never was.
//! Above: `NetDev`, around whose device it is put and taken off while it runs. File format: pcap, magic 0xa1b23c4d.

use super::{Caps, DevStats, Device, Link, Xmit, gso};
use crate::env::{Duration, Instant};
use crate::ip::netdev::NetDev;
use crate::sock::skb::{Csum, GsoType, Skb};
use crate::stack::Stack;
use parking_lot::Mutex;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use pcap_file::{DataLink, Endianness, PcapError, TsResolution};
use std::borrow::Cow;
use std::fmt;
use std::fs::File;
=======
//! Capture: wraps any device and writes what passes to a nanosecond pcap file, as it would be on a wire. Checksums that a
//! device completes are complete in the file, super-packets are cut, so that tshark finds nothing to complain of; the
//! packets themselves go their way untouched. Above and below: `device::Device`. Format: draft-ietf-opsawg-pcap.

use super::{Caps, DevStats, Device, Link, Xmit, gso};
use crate::env::{Clock, Instant};
use crate::ip::netdev::NetDev;
use crate::sock::skb::Skb;
use crate::wire::ether;
use parking_lot::Mutex;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use pcap_file::{DataLink, PcapError, TsResolution};
>>>>>>> f35431d (Simulated link, worlds in virtual time, and captures around any device)
use std::io::{self, BufWriter, Write};
use std::os::fd::RawFd;
use std::path::Path;
use std::sync::Arc;
<<<<<<< HEAD

type Out = Box<dyn Write + Send>;

/// A device with a capture around it.
pub struct Pcap {
    inner: Arc<dyn Device>,
    /// None once the capture has ended, or failed.
    writer: Mutex<State>,
}

struct State {
    out: Option<PcapWriter<Out>>,
    failed: Option<io::Error>,
    /// Wall time of the stack's epoch, so that the file shows times of day.
    epoch: Duration,
}

impl fmt::Debug for Pcap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pcap({:?})", self.inner)
    }
}

fn io_error(e: PcapError) -> io::Error {
    match e {
        PcapError::IoError(e) => e,
        other => io::Error::other(other.to_string()),
=======
use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(test)]
mod tests;

/// Where a capture is written.
pub type Sink = Box<dyn Write + Send>;

/// Bytes of the first write buffer; the file is written in pieces of this size and when the capture ends.
const BUFFER: usize = 256 * 1024;

struct Output(PcapWriter<BufWriter<Sink>>);

/// A device that captures what passes through the device in it.
pub struct Pcap {
    inner: Arc<dyn Device>,
    /// None: stopped, or the file could not be written.
    out: Mutex<Option<Output>>,
    clock: Arc<dyn Clock>,
    l2: usize,
    frames: AtomicU64,
    lost: AtomicU64,
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
>>>>>>> f35431d (Simulated link, worlds in virtual time, and captures around any device)
    }
}

impl Pcap {
<<<<<<< HEAD
    /// Wraps `inner` and writes to `out`; `epoch` is the wall time at `Instant::ZERO`.
    pub fn new(inner: Arc<dyn Device>, out: Out, epoch: Duration) -> io::Result<Pcap> {
        let header = PcapHeader {
            datalink: if inner.caps().link == Link::Ip { DataLink::RAW } else { DataLink::ETHERNET },
            endianness: Endianness::native(),
            ts_resolution: TsResolution::NanoSecond,
            snaplen: 262_144,
            ..PcapHeader::default()
        };
        let out = PcapWriter::with_header(out, header).map_err(io_error)?;
        Ok(Pcap { inner, writer: Mutex::new(State { out: Some(out), failed: None, epoch }) })
    }

    /// Ends the capture: the file is complete when this returns, or the first error of writing it is told.
    pub fn finish(&self) -> io::Result<()> {
        let mut st = self.writer.lock();
        if let Some(e) = st.failed.take() {
            return Err(e);
        }
        match st.out.take() {
            Some(w) => w.into_writer().flush(),
=======
    /// Wraps `inner`, writing to `sink`. `clock` is the stack's: it gives the packets' wall-clock times. Errors: those of the
    /// sink.
    pub fn new(inner: Arc<dyn Device>, sink: Sink, clock: Arc<dyn Clock>) -> io::Result<Pcap> {
        let (datalink, l2) = match inner.caps().link {
            Link::Ip => (DataLink::RAW, 0),
            Link::Ethernet(_) => (DataLink::ETHERNET, ether::HEADER_LEN),
        };
        let header =
            PcapHeader { snaplen: 262_144, datalink, ts_resolution: TsResolution::NanoSecond, ..PcapHeader::default() };
        let writer = PcapWriter::with_header(BufWriter::with_capacity(BUFFER, sink), header).map_err(to_io)?;
        let (frames, lost) = (AtomicU64::new(0), AtomicU64::new(0));
        Ok(Pcap { inner, out: Mutex::new(Some(Output(writer))), clock, l2, frames, lost })
    }

    /// Starts to capture on a device of a stack while it runs.
    pub fn start(dev: &NetDev, sink: Sink, clock: Arc<dyn Clock>) -> io::Result<Arc<Pcap>> {
        let mut made = Err(io::Error::other("device not replaced"));
        dev.replace_device(|inner| match Pcap::new(inner.clone(), sink, clock) {
            Ok(p) => {
                let p = Arc::new(p);
                made = Ok(p.clone());
                p
            }
            Err(e) => {
                made = Err(e);
                inner
            }
        });
        made
    }

    /// The same into a new file at `path`. Errors of creating it.
    pub fn start_file(dev: &NetDev, path: &Path, clock: Arc<dyn Clock>) -> io::Result<Arc<Pcap>> {
        Pcap::start(dev, Box::new(std::fs::File::create(path)?), clock)
    }

    /// Ends the capture, writes what is buffered, and takes the wrapper off the device unless another was put around it,
    /// in which case it stays and lets everything pass. Errors of the last write; a second call does nothing.
    pub fn stop(self: &Arc<Pcap>, dev: &NetDev) -> io::Result<()> {
        dev.replace_device(|d| {
            let me = Arc::as_ptr(self).cast::<()>();
            if Arc::as_ptr(&d).cast::<()>() == me { self.inner.clone() } else { d }
        });
        match self.out.lock().take() {
            Some(out) => out.0.into_writer().flush(),
>>>>>>> f35431d (Simulated link, worlds in virtual time, and captures around any device)
            None => Ok(()),
        }
    }

<<<<<<< HEAD
    fn record(&self, now: Instant, skb: &Skb) {
        let mut st = self.writer.lock();
        let State { out, failed, epoch } = &mut *st;
        let Some(w) = out else { return };
        let at = *epoch + Duration::from_nanos(now.as_nanos());
        let mut write = |bytes: &[u8]| {
            let p = PcapPacket { timestamp: at, orig_len: bytes.len() as u32, data: Cow::Borrowed(bytes) };
            w.write_packet(&p).map(|_| ()).map_err(io_error)
        };
        if let Err(e) = each_wire_packet(skb, self.inner.caps().link != Link::Ip, &mut write) {
            // A full disk ends the capture, not the traffic.
            *failed = Some(e);
=======
    /// Frames written so far.
    pub fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }

    /// Frames that could not be written, the first of which ended the capture (a full disk).
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn capture(&self, out: &mut Option<Output>, skb: &Skb) {
        let Some(writer) = out.as_mut() else { return };
        // Not the time of the softirq run, which may lie before that of the packet answered here.
        let time = self.clock.wall();
        let mut failed = 0;
        gso::wire_frames(skb, self.l2, &mut |frame| {
            match writer.0.write_packet(&PcapPacket::new(time, frame.len() as u32, frame)) {
                Ok(_) => self.frames.fetch_add(1, Ordering::Relaxed),
                Err(_) => {
                    failed += 1;
                    self.lost.fetch_add(1, Ordering::Relaxed)
                }
            };
        });
        if failed > 0 {
>>>>>>> f35431d (Simulated link, worlds in virtual time, and captures around any device)
            *out = None;
        }
    }
}

<<<<<<< HEAD
/// Gives each packet a wire would carry for `skb`, with complete checksums.
fn each_wire_packet(skb: &Skb, ethernet: bool, write: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let plain = skb.gso_type == GsoType::None && !matches!(skb.csum, Csum::Partial { .. });
    // On the loopback a verified-by-nobody checksum was never computed; elsewhere Unnecessary means the field is right.
    if plain {
        return write(&skb.to_vec());
    }
    let mut copy = skb.share();
    let mut link = [0u8; 14];
    let n = if ethernet { copy.copy_out(0, &mut link) } else { 0 };
    copy.pull(n);
    for piece in gso::segment(copy, &Caps::ip(u32::from(u16::MAX))) {
        let mut bytes = link[..n].to_vec();
        piece.slices().for_each(|s| bytes.extend_from_slice(s));
        write(&bytes)?;
    }
    Ok(())
}

=======
>>>>>>> f35431d (Simulated link, worlds in virtual time, and captures around any device)
impl Device for Pcap {
    fn name(&self) -> &str {
        self.inner.name()
    }
<<<<<<< HEAD
    fn caps(&self) -> Caps {
        self.inner.caps()
    }
    fn recv(&self, queue: u16, now: Instant, budget: usize, sink: &mut dyn FnMut(Skb)) -> io::Result<usize> {
        // A loopback packet was recorded when it was sent.
        let loopback = self.inner.caps().loopback;
        self.inner.recv(queue, now, budget, &mut |skb| {
            if !loopback {
                self.record(now, &skb);
            }
            sink(skb);
        })
    }
    fn xmit(&self, queue: u16, now: Instant, skb: Skb) -> Xmit {
        let copy = skb.share();
        let r = self.inner.xmit(queue, now, skb);
        if matches!(r, Xmit::Sent) {
            self.record(now, &copy);
        }
        r
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

/// Captures a device's packets into a new file from now on, times being those of day. EBUSY when a capture runs there.
pub fn start(dev: &NetDev, path: &Path, stack: &Stack) -> io::Result<()> {
    let (wall, now) = (stack.clock.wall(), stack.now());
    start_to(dev, Box::new(BufWriter::new(File::create(path)?)), wall, now)
}

/// The same into any writer; `wall` is the wall time at `now`.
pub fn start_to(dev: &NetDev, out: Out, wall: Duration, now: Instant) -> io::Result<()> {
    let inner = dev.device();
    if inner.as_pcap().is_some() {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    let epoch = wall.saturating_sub(Duration::from_nanos(now.as_nanos()));
    let pcap: Arc<dyn Device> = Arc::new(Pcap::new(inner, out, epoch)?);
    dev.replace_device(|_| pcap);
    Ok(())
}

/// Ends the capture of a device and completes its file. EINVAL when none runs.
pub fn stop(dev: &NetDev) -> io::Result<()> {
    let device = dev.device();
    let Some((pcap, inner)) = device.as_pcap() else { return Err(io::Error::from_raw_os_error(libc::EINVAL)) };
    dev.replace_device(|_| inner);
    pcap.finish()
=======

    fn caps(&self) -> Caps {
        self.inner.caps()
    }

    fn recv(&self, queue: u16, now: Instant, budget: usize, sink: &mut dyn FnMut(Skb)) -> io::Result<usize> {
        self.inner.recv(queue, now, budget, &mut |skb| {
            self.capture(&mut self.out.lock(), &skb);
            sink(skb);
        })
    }

    fn xmit(&self, queue: u16, now: Instant, skb: Skb) -> Xmit {
        // A loopback's packets are seen when they arrive: once is enough.
        if self.inner.caps().loopback {
            return self.inner.xmit(queue, now, skb);
        }
        let copy = skb.share();
        // Held over both: an answer that another thread receives meanwhile comes behind this packet in the file.
        let mut out = self.out.lock();
        let sent = self.inner.xmit(queue, now, skb);
        // Only what the device took: a packet that comes back is captured when it goes.
        if let Xmit::Sent = sent {
            self.capture(&mut out, &copy);
        }
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
>>>>>>> f35431d (Simulated link, worlds in virtual time, and captures around any device)
}
