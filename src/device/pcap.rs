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
use std::io::{self, BufWriter, Write};
use std::os::fd::RawFd;
use std::path::Path;
use std::sync::Arc;

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
    }
}

impl Pcap {
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
            None => Ok(()),
        }
    }

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
            *out = None;
        }
    }
}

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

impl Device for Pcap {
    fn name(&self) -> &str {
        self.inner.name()
    }
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
}
