use super::*;
use crate::base::env::{Duration, VirtualClock};
use crate::device::gso::tests::{tcp4, tcp6, udp4};
use crate::device::link::{LinkConfig, pair};
use crate::device::loopback::Loopback;
use crate::device::netdev::NetDevs;
use crate::sock::skb::{Csum, GsoType};
use pcap_file::pcap::PcapReader;
use std::sync::OnceLock;

/// A file in memory.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Write for Memory {
    fn write(&mut self, b: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(b);
        Ok(b.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Full;
impl Write for Full {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::Error::from_raw_os_error(libc::ENOSPC))
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn read(file: &Memory) -> (PcapHeader, Vec<(Duration, Vec<u8>)>) {
    let bytes = file.0.lock().clone();
    let mut r = PcapReader::new(&bytes[..]).unwrap();
    let header = r.header();
    let mut packets = vec![];
    while let Some(p) = r.next_packet() {
        let p = p.unwrap();
        assert_eq!(p.orig_len as usize, p.data.len());
        packets.push((p.timestamp, p.data.into_owned()));
    }
    (header, packets)
}

#[test]
fn both_directions_are_written_as_on_a_wire_with_nanoseconds() {
    let clock = Arc::new(VirtualClock::with_wall(Duration::from_secs(1_000_000)));
    let (a, b) = pair(["a", "b"], &LinkConfig { offload: true, ..LinkConfig::default() }, 1).unwrap();
    let file = Memory::default();
    let pcap = Arc::new(Pcap::new(a, Box::new(file.clone()), clock.clone()).unwrap());
    let mut skb = Skb::from_slice(&tcp4(4000, 0x18));
    (skb.gso_type, skb.gso_size) = (GsoType::TcpV4, 1448);
    skb.csum = Csum::Partial { start: 20, offset: 16 };
    clock.advance(Duration::from_nanos(123_456_789));
    assert!(matches!(pcap.xmit(0, clock.now(), skb), Xmit::Sent));
    assert_eq!(b.recv(0, clock.now(), 9, &mut |s| assert_eq!(s.len(), 4040)).unwrap(), 1, "itself it passes whole");
    let mut answer = Skb::from_slice(&tcp6(100));
    answer.csum = Csum::Partial { start: 40, offset: 16 };
    assert!(matches!(b.xmit(0, clock.now(), answer), Xmit::Sent));
    clock.advance(Duration::from_nanos(1));
    assert_eq!(pcap.recv(0, clock.now(), 9, &mut |_| ()).unwrap(), 1);
    assert_eq!(pcap.frames(), 4);
    pcap.finish().unwrap();
    let (header, packets) = read(&file);
    assert_eq!((header.datalink, header.ts_resolution), (DataLink::RAW, TsResolution::NanoSecond));
    assert_eq!(packets.iter().map(|p| p.1.len()).collect::<Vec<_>>(), [1488, 1488, 1144, 160]);
    assert_eq!(packets[0].0, Duration::new(1_000_000, 123_456_789));
    assert_eq!(packets[3].0, Duration::new(1_000_000, 123_456_790));
    assert_eq!(packets[3].1, tcp6(100), "with its checksum complete");
}

#[test]
fn a_capture_starts_and_stops_on_a_device_that_runs() {
    let clock: Arc<dyn Clock> = Arc::new(VirtualClock::new());
    let devs = crate::device::netdev::NetDevs::default();
    let dev = devs.add(Arc::new(Loopback::new())).unwrap();
    let pass = |dev: &NetDev| {
        assert!(matches!(dev.device().xmit(0, Instant::ZERO, Skb::from_slice(&udp4(9))), Xmit::Sent));
        assert!(dev.device().has_pending(0));
        assert_eq!(dev.device().recv(0, Instant::ZERO, 9, &mut |_| ()).unwrap(), 1);
    };
    let (one, two) = (Memory::default(), Memory::default());
    let errno = |r: io::Result<()>| r.unwrap_err().raw_os_error();
    assert_eq!(errno(stop(&dev)), Some(libc::EINVAL));
    pass(&dev);
    start_to(&dev, Box::new(one.clone()), clock.clone()).unwrap();
    assert_eq!(errno(start_to(&dev, Box::new(two.clone()), clock.clone())), Some(libc::EBUSY));
    pass(&dev);
    pass(&dev);
    stop(&dev).unwrap();
    pass(&dev);
    start_to(&dev, Box::new(two.clone()), clock).unwrap();
    pass(&dev);
    stop(&dev).unwrap();
    assert_eq!((read(&one).1.len(), read(&two).1.len()), (2, 1), "each loopback packet once");
}

#[test]
fn a_file_that_cannot_be_written_ends_the_capture_and_not_the_traffic() {
    let clock: Arc<dyn Clock> = Arc::new(VirtualClock::new());
    let (a, b) = pair(["a", "b"], &LinkConfig::default(), 1).unwrap();
    let pcap = Pcap::new(a, Box::new(Full), clock).unwrap();
    for _ in 0..400 {
        assert!(matches!(pcap.xmit(0, Instant::ZERO, Skb::from_slice(&udp4(1000))), Xmit::Sent));
    }
    assert_eq!(b.recv(0, Instant::ZERO, 1000, &mut |_| ()).unwrap(), 400);
    assert_eq!(pcap.lost(), 1);
    assert!(pcap.frames() < 400);
    assert_eq!(pcap.finish().unwrap_err().raw_os_error(), Some(libc::ENOSPC));
    pcap.finish().unwrap();
}

/// A device that sends again while it sends, through the device that wraps it, as a tunnel that is routed into itself;
/// and that has received the answer to the first packet before it has sent the second.
#[derive(Debug)]
struct Nested {
    inner: Loopback,
    dev: OnceLock<Arc<NetDev>>,
    left: AtomicU64,
}

impl Device for Nested {
    fn name(&self) -> &str {
        "nested0"
    }
    fn caps(&self) -> Caps {
        Caps::ip(1500)
    }
    fn recv(&self, _: u16, now: Instant, budget: usize, sink: &mut dyn FnMut(Skb)) -> io::Result<usize> {
        self.inner.recv(0, now, budget, sink)
    }
    fn xmit(&self, _: u16, now: Instant, skb: Skb) -> Xmit {
        let dev = self.dev.get().unwrap();
        let left = self.left.fetch_sub(1, Ordering::Relaxed);
        if left == 0 {
            return Xmit::Dropped(io::Error::from_raw_os_error(libc::ENOBUFS));
        }
        self.inner.xmit(0, now, Skb::from_slice(&udp4(100 + left as usize)));
        assert_eq!(dev.device().recv(0, now, 1, &mut |_| ()).unwrap(), 1);
        // A capture that begins waits for nobody either.
        dev.replace_device(|d| d);
        dev.device().xmit(0, now, skb);
        Xmit::Sent
    }
    fn stats(&self) -> DevStats {
        DevStats::default()
    }
}

#[test]
fn a_device_that_sends_again_while_it_sends_is_captured_in_order() {
    let clock: Arc<dyn Clock> = Arc::new(VirtualClock::new());
    let nested = Arc::new(Nested { inner: Loopback::new(), dev: OnceLock::new(), left: AtomicU64::new(2) });
    let dev = NetDevs::default().add(nested.clone()).unwrap();
    nested.dev.set(dev.clone()).unwrap();
    let file = Memory::default();
    start_to(&dev, Box::new(file.clone()), clock).unwrap();
    assert!(matches!(dev.device().xmit(0, Instant::ZERO, Skb::from_slice(&udp4(50))), Xmit::Sent));
    stop(&dev).unwrap();
    let lengths: Vec<usize> = read(&file).1.iter().map(|(_, p)| p.len()).collect();
    let [sent, first, second] = [50, 102, 101].map(|n| udp4(n).len());
    // The last one was refused.
    assert_eq!(lengths, [sent, first, sent, second], "each packet before what has come since");
}
