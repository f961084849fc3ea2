use super::*;
use crate::base::env::{Duration, VirtualClock};
use crate::device::gso::tests::{tcp4, tcp6, udp4};
use crate::device::link::{LinkConfig, pair};
use crate::device::loopback::Loopback;
use crate::sock::skb::{Csum, GsoType};
use pcap_file::pcap::PcapReader;

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
