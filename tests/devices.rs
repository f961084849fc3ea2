//! The kernel's devices, with the kernel as peer: TUN and raw sockets, each test in a network namespace that it makes
//! itself. Where namespaces are not permitted a test says so and counts as skipped.
//! `cargo test --test devices -- --ignored --nocapture` measures round trips and throughput as well.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::net::{Ipv6Addr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use usersock::device::packet::{Mac, Packet};
use usersock::device::tun::Tun;
use usersock::device::{Caps, Device, LinkType, Xmit};
use usersock::driver::Lease;
use usersock::env::{Instant, OsEntropy, RealClock};
use usersock::internal::sys::netdev;
use usersock::ip::route;
use usersock::sock::skb::{Csum, GsoType, Skb};
use usersock::stack::runner::{Waiter, Woken};
use usersock::stack::{Stack, StackConfig};
use usersock::standard;
use usersock::wire::addr::Cidr;
use usersock::wire::checksum;
use usersock::wire::ether::MacAddr;

const INSIDE: &str = "USERSOCK_TEST_NAMESPACE";

/// Requirements of a test beside a namespace.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    Tun,
}

/// Runs the test `name` of this file in a user and network namespace of its own: true inside, where the test goes on;
/// false outside, if the copy has passed or cannot run here, for which it prints SKIP.
fn in_namespace(name: &str, needs: Needs) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let permitted =
        |args: &[&str]| Command::new("unshare").args(args).arg("true").output().is_ok_and(|o| o.status.success());
    let how: &[&str] = if permitted(&["-n"]) { &["-n"] } else { &["-r", "-n"] };
    if !permitted(how) {
        println!("SKIP {name}: no network namespace can be made");
        return false;
    }
    let tun = File::options().read(true).write(true).open("/dev/net/tun");
    if let (Needs::Tun, Err(error)) = (needs, tun) {
        println!("SKIP {name}: /dev/net/tun: {error}");
        return false;
    }
    let exe = std::env::current_exe().unwrap();
    let out = Command::new("unshare")
        .args(how)
        .arg(exe)
        .args(["--exact", name, "--nocapture", "--include-ignored", "--test-threads=1"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    print!("{}", String::from_utf8_lossy(&out.stdout));
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    false
}

fn ip(args: &str) -> String {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let out = Command::new("ip").args(args.split(' ')).env("PATH", path).output().unwrap();
    assert!(out.status.success(), "ip {args}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// A TUN device with the kernel's end up at 10.9.0.1/24.
fn tun(queues: u16) -> Tun {
    let t = Tun::open("usk%d", queues, true).unwrap();
    ip(&format!("addr add 10.9.0.1/24 dev {}", t.name()));
    t
}

/// A UDP datagram from 10.9.0.2:7 with the checksum left to the device.
fn datagram(to: u16, payload: &[u8]) -> Skb {
    let len = 8 + payload.len();
    let mut p = vec![0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 17, 0, 0, 10, 9, 0, 2, 10, 9, 0, 1];
    p[2..4].copy_from_slice(&((20 + len) as u16).to_be_bytes());
    let sum = checksum::finish(checksum::sum(&p, 0));
    p[10..12].copy_from_slice(&sum.to_be_bytes());
    let pseudo = checksum::sum(&p[12..20], 17 + len as u32);
    p.extend([0, 7]);
    p.extend(to.to_be_bytes());
    p.extend((len as u16).to_be_bytes());
    p.extend(checksum::fold(pseudo).to_be_bytes());
    let mut skb = Skb::from_slice(payload);
    skb.push(p.len()).unwrap().copy_from_slice(&p);
    skb.csum = Csum::Partial { start: 20, offset: 6 };
    skb
}

/// Waits for the next UDP datagram of a device; others (the kernel's router solicitations) are passed over.
fn next_udp(dev: &dyn Device, l2: usize) -> Skb {
    let fd = dev.poll_fd(0).unwrap();
    for _ in 0..1000 {
        let mut got = None;
        dev.recv(0, Instant::ZERO, 1, &mut |s| got = Some(s)).unwrap();
        match got {
            Some(s) if is_udp(&s, l2) => return s,
            Some(_) => {}
            None => wait_readable(fd),
        }
    }
    panic!("no datagram came");
}

fn is_udp(skb: &Skb, l2: usize) -> bool {
    let p = skb.linear();
    p.get(l2).is_some_and(|b| b >> 4 == 4) && p.get(l2 + 9) == Some(&17)
}

fn wait_readable(fd: RawFd) {
    let mut p = [usersock::internal::sys::poll::PollFd::new(fd, libc::POLLIN)];
    assert_eq!(
        usersock::internal::sys::poll::poll(&mut p, Some(Duration::from_secs(10))).unwrap(),
        1,
        "nothing arrives"
    );
}

fn pattern(n: usize) -> Vec<u8> {
    (0..n).map(|i| ((i * 131) >> 4) as u8).collect()
}

/// Makes the kernel send in super-packets of datagrams of `size` bytes (UDP_SEGMENT).
fn segment(socket: &UdpSocket, size: i32) {
    let (level, option) = (libc::SOL_UDP, 103);
    // SAFETY: the kernel reads 4 bytes of an int.
    let r = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const size).cast(), 4) };
    assert_eq!(r, 0);
}

#[test]
fn a_datagram_crosses_tun_each_way_with_checksums_left_to_the_other_side() {
    if !in_namespace("a_datagram_crosses_tun_each_way_with_checksums_left_to_the_other_side", Needs::Tun) {
        return;
    }
    let t = tun(1);
    let caps = t.caps();
    assert_eq!((caps.link, caps.mtu, caps.queues, caps.tso), (LinkType::Ip, 1500, 1, true));
    let kernel = UdpSocket::bind("10.9.0.1:0").unwrap();
    kernel.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let payload = pattern(1400);
    assert!(matches!(t.xmit(0, Instant::ZERO, datagram(kernel.local_addr().unwrap().port(), &payload)), Xmit::Sent));
    let mut buf = [0; 2000];
    let (n, from) = kernel.recv_from(&mut buf).unwrap();
    assert_eq!((&buf[..n], from.to_string().as_str()), (&payload[..], "10.9.0.2:7"));
    kernel.send_to(&payload, from).unwrap();
    let skb = next_udp(&t, 0);
    assert_eq!(skb.to_vec()[28..], payload);
    assert_eq!(skb.csum, Csum::Unnecessary, "it was never on a wire");
    let s = t.stats();
    assert_eq!((s.tx_packets, s.tx_bytes, s.tx_dropped, s.rx_dropped), (1, 1428, 0, 0));
    t.set_mtu(9000).unwrap();
    assert_eq!((t.caps().mtu, netdev::mtu(t.name()).unwrap()), (9000, 9000));
}

#[test]
fn super_packets_cross_tun_whole_in_one_call_each() {
    if !in_namespace("super_packets_cross_tun_whole_in_one_call_each", Needs::Tun) {
        return;
    }
    let t = tun(1);
    let kernel = UdpSocket::bind("10.9.0.1:0").unwrap();
    kernel.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    if !t.caps().uso {
        println!("this kernel has no UDP segmentation on TUN");
        return;
    }
    let payload = pattern(20 * 1000 + 1);
    let mut skb = datagram(kernel.local_addr().unwrap().port(), &payload);
    (skb.gso_type, skb.gso_size) = (GsoType::Udp, 1000);
    assert!(matches!(t.xmit(0, Instant::ZERO, skb), Xmit::Sent));
    let mut got = vec![];
    for _ in 0..21 {
        let mut buf = [0; 2000];
        let n = kernel.recv(&mut buf).unwrap();
        got.extend_from_slice(&buf[..n]);
    }
    assert_eq!(got, payload);
    assert_eq!(t.stats().tx_packets, 1);
    segment(&kernel, 1000);
    kernel.send_to(&payload, "10.9.0.2:7").unwrap();
    let skb = next_udp(&t, 0);
    assert_eq!((skb.gso_type, skb.gso_size, skb.rx_segs), (GsoType::Udp, 1000, 21));
    assert_eq!(skb.to_vec()[28..], payload);
}

#[test]
fn every_queue_of_a_device_sends_and_together_they_receive_everything() {
    if !in_namespace("every_queue_of_a_device_sends_and_together_they_receive_everything", Needs::Tun) {
        return;
    }
    let t = tun(4);
    assert_eq!(t.caps().queues, 4);
    let kernel = UdpSocket::bind("10.9.0.1:0").unwrap();
    kernel.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    for q in 0..4 {
        let sent = t.xmit(q, Instant::ZERO, datagram(kernel.local_addr().unwrap().port(), &[q as u8]));
        assert!(matches!(sent, Xmit::Sent));
        let mut b = [0; 1];
        kernel.recv(&mut b).unwrap();
        assert_eq!(b, [q as u8]);
    }
    for port in 1000..1064 {
        kernel.send_to(&[0], ("10.9.0.2", port)).unwrap();
    }
    let mut per_queue = [0; 4];
    for (q, n) in per_queue.iter_mut().enumerate() {
        t.recv(q as u16, Instant::ZERO, 1000, &mut |s| *n += usize::from(is_udp(&s, 0))).unwrap();
    }
    assert_eq!(per_queue.iter().sum::<usize>(), 64, "{per_queue:?}");
    assert!(per_queue.iter().filter(|&&n| n > 0).count() > 1, "{per_queue:?}");
    assert!(matches!(t.xmit(4, Instant::ZERO, datagram(9, &[])), Xmit::Dropped(_)));
}

#[test]
fn the_kernel_answers_the_first_packet_of_a_device_that_was_up_before_it_was_opened() {
    if !in_namespace("the_kernel_answers_the_first_packet_of_a_device_that_was_up_before_it_was_opened", Needs::Tun) {
        return;
    }
    ip("tuntap add dev early0 mode tun");
    ip("addr add 10.9.0.1/24 dev early0");
    ip("link set early0 up");
    // Each time it is closed it loses its carrier.
    for round in 0..20 {
        let t = Tun::open("early0", 1, false).unwrap();
        assert!(matches!(t.xmit(0, Instant::ZERO, syn(1024 + round)), Xmit::Sent));
        let mut resets = 0;
        t.recv(0, Instant::ZERO, 100, &mut |s| resets += usize::from(s.to_vec()[9] == 6)).unwrap();
        assert_eq!(resets, 1, "{round}");
    }
}

/// Whether this process may load programs of bpf(2): CAP_BPF counts in the machine's first user namespace only.
fn has_cap_bpf() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let caps = status.lines().find_map(|l| l.strip_prefix("CapEff:")).unwrap();
    let first = std::fs::read_to_string("/proc/self/uid_map").unwrap().trim_end().ends_with("4294967295");
    first && u64::from_str_radix(caps.trim(), 16).unwrap() & 1 << 39 != 0
}

/// A SYN from 10.9.0.2 to a port on which nobody listens.
fn syn(from: u16) -> Skb {
    let mut p = datagram(9, &[0; 12]).to_vec();
    p[9] = 6;
    p[10..12].fill(0);
    let sum = checksum::finish(checksum::sum(&p[..20], 0));
    p[10..12].copy_from_slice(&sum.to_be_bytes());
    p[20..22].copy_from_slice(&from.to_be_bytes());
    p[24..].copy_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
    let pseudo = checksum::sum(&p[12..20], 6 + 20);
    p[36..38].copy_from_slice(&checksum::fold(pseudo).to_be_bytes());
    let mut skb = Skb::from_slice(&p);
    skb.csum = Csum::Partial { start: 20, offset: 16 };
    skb
}

#[test]
fn the_answer_to_a_flows_first_packet_comes_by_the_queue_that_this_was_sent_by() {
    if !in_namespace("the_answer_to_a_flows_first_packet_comes_by_the_queue_that_this_was_sent_by", Needs::Tun) {
        return;
    }
    if !has_cap_bpf() {
        println!("SKIP the_answer_to_a_flows_first_packet_comes_by_the_queue_that_this_was_sent_by: no CAP_BPF");
        return;
    }
    let t = tun(3);
    // More flows than the kernel notes by itself.
    for round in 0..5000 {
        let (q, port) = (round * 7 % 3, 1024 + round);
        assert!(matches!(t.xmit(q, Instant::ZERO, syn(port)), Xmit::Sent));
        let mut resets = Vec::new();
        for of in 0..3 {
            let mut reset = |s: Skb| {
                let p = s.to_vec();
                let to = u16::from_be_bytes([p[22], p[23]]);
                if (p[0], p[9], to) == (0x45, 6, port) {
                    assert_eq!(p[33] & 4, 4, "{p:02x?}");
                    resets.push(of);
                }
            };
            t.recv(of, Instant::ZERO, 100, &mut reset).unwrap();
        }
        assert_eq!(resets, [q], "{round}");
    }
}

/// Gives up this thread's capabilities for bpf(2).
fn drop_cap_bpf() {
    let (mut header, mut sets) = ([0x2008_0522u32, 0], [0u32; 6]);
    // SAFETY: capget of version 3 reads a header of two words and writes six.
    assert_eq!(unsafe { libc::syscall(libc::SYS_capget, header.as_mut_ptr(), sets.as_mut_ptr()) }, 0);
    // CAP_SYS_ADMIN and CAP_BPF, of the effective ones.
    sets[0] &= !(1 << 21);
    sets[3] &= !(1 << (39 - 32));
    // SAFETY: capset of version 3 reads a header of two words and six.
    assert_eq!(unsafe { libc::syscall(libc::SYS_capset, header.as_mut_ptr(), sets.as_ptr()) }, 0);
}

/// A device that lasts, whose last process was killed: nobody writes in its table of queues any more.
#[test]
fn a_process_without_cap_bpf_inherits_no_choice_of_queues() {
    let name = "a_process_without_cap_bpf_inherits_no_choice_of_queues";
    if !in_namespace(name, Needs::Tun) {
        return;
    }
    if !has_cap_bpf() {
        println!("SKIP {name}: no CAP_BPF");
        return;
    }
    let ports = 1024..1084u16;
    const FIRST: &str = "USERSOCK_TEST_FIRST_PROCESS";
    if std::env::var_os(FIRST).is_some() {
        let t = Tun::open("last0", 3, true).unwrap();
        for port in ports {
            assert!(matches!(t.xmit(port % 3, Instant::ZERO, syn(port)), Xmit::Sent));
        }
        // Nothing is dropped.
        std::process::exit(0);
    }
    ip("tuntap add dev last0 mode tun multi_queue");
    ip("addr add 10.9.0.1/24 dev last0");
    let mut first = Command::new(std::env::current_exe().unwrap());
    assert!(first.args(["--exact", name]).env(FIRST, "1").status().unwrap().success());
    drop_cap_bpf();
    let t = Tun::open("last0", 3, true).unwrap();
    for port in ports {
        let q = (port + 1) % 3;
        let resets = || {
            assert!(matches!(t.xmit(q, Instant::ZERO, syn(port)), Xmit::Sent));
            let mut by = Vec::new();
            for of in 0..3 {
                t.recv(of, Instant::ZERO, 100, &mut |s| by.extend((s.to_vec()[9] == 6).then_some(of))).unwrap();
            }
            by
        };
        // The kernel notes a flow's queue behind its first packet.
        assert_eq!(resets().len(), 1, "{port}");
        assert_eq!(resets(), [q], "{port}");
    }
}

#[test]
fn opening_what_is_no_tun_device_or_is_taken_says_why() {
    if !in_namespace("opening_what_is_no_tun_device_or_is_taken_says_why", Needs::Tun) {
        return;
    }
    let errno = |r: io::Result<Tun>| r.unwrap_err().raw_os_error().unwrap();
    let t = tun(1);
    assert_eq!(errno(Tun::open(t.name(), 1, false)), libc::EBUSY);
    assert_eq!(errno(Tun::open("lo", 1, false)), libc::EINVAL);
    assert_eq!(errno(Tun::open("a-name-that-is-too-long", 1, false)), libc::EINVAL);
    // A device that was made without multi-queue has one queue, and the other way round.
    ip("tuntap add dev plain0 mode tun");
    assert_eq!(Tun::open("plain0", 4, false).unwrap().caps().queues, 1);
    ip("tuntap add dev multi0 mode tun multi_queue");
    assert_eq!(Tun::open("multi0", 1, false).unwrap().caps().queues, 1);
    let packet = |name, mac| Packet::open(name, mac).unwrap_err().raw_os_error().unwrap();
    assert_eq!(packet("nothing0", Mac::Interface), libc::ENODEV);
    assert_eq!(packet("lo", Mac::Interface), libc::EINVAL);
    ip("link add v0 type veth peer name v1");
    assert_eq!(packet("v1", Mac::Given(MacAddr::BROADCAST)), libc::EINVAL);
}

/// A veth pair: v0 is the kernel's with 10.9.0.1/24, v1 is for us. Returns v0's hardware address.
fn veth() -> MacAddr {
    ip("link add v0 type veth peer name v1");
    ip("addr add 10.9.0.1/24 dev v0");
    ip("link set v0 up");
    ip("link set v1 up");
    // The kernel handles the carrier change later, in a work queue, and drops packets until then.
    assert!((0..2000).any(|_| ip("-oneline link show v0").contains("state UP")), "v0 does not come up");
    MacAddr(netdev::hwaddr("v0").unwrap())
}

#[test]
fn frames_cross_a_raw_socket_each_way_under_any_hardware_address() {
    if !in_namespace("frames_cross_a_raw_socket_each_way_under_any_hardware_address", Needs::Nothing) {
        return;
    }
    let theirs = veth();
    let kernel = UdpSocket::bind("10.9.0.1:0").unwrap();
    kernel.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let entropy = OsEntropy::new().unwrap();
    for mac in [Mac::Interface, Mac::Random(&entropy), Mac::Given(MacAddr([2, 0, 0, 0, 0, 9]))] {
        let dev = Packet::open("v1", mac).unwrap();
        ip(&format!("neigh replace 10.9.0.2 lladdr {} dev v0", dev.mac()));
        let mut caps = Caps::ethernet(1500, dev.mac());
        (caps.tx_csum, caps.tso) = (true, true);
        assert_eq!(dev.caps(), caps);
        let payload = pattern(1400);
        let mut skb = datagram(kernel.local_addr().unwrap().port(), &payload);
        let frame: Vec<u8> = [theirs.0, dev.mac().0].concat().into_iter().chain([8, 0]).collect();
        skb.push(14).unwrap().copy_from_slice(&frame);
        assert!(matches!(dev.xmit(0, Instant::ZERO, skb), Xmit::Sent));
        let mut buf = [0; 2000];
        let (n, from) = kernel.recv_from(&mut buf).unwrap();
        assert_eq!(buf[..n], payload);
        kernel.send_to(&payload, from).unwrap();
        let skb = next_udp(&dev, 14);
        assert_eq!(skb.to_vec()[42..], payload);
        assert_eq!((skb.csum, skb.link_multicast), (Csum::Unnecessary, false));
        // A frame for another host on the link: the filter in the kernel drops it.
        ip("neigh replace 10.9.0.3 lladdr 02:00:00:00:00:33 dev v0");
        kernel.send_to(b"other", "10.9.0.3:7").unwrap();
        kernel.send_to(b"mine", from).unwrap();
        assert_eq!(next_udp(&dev, 14).to_vec()[42..], *b"mine");
    }
}

fn stack() -> Arc<Stack> {
    let runner = Arc::new(Lease::new(1));
    let entropy = Arc::new(OsEntropy::new().unwrap());
    standard::stack(StackConfig::new(Arc::new(RealClock::new()), entropy, runner)).unwrap()
}

#[test]
fn a_stack_answers_the_kernel_over_both_kinds_of_device_without_a_thread_of_the_program() {
    if !in_namespace("a_stack_answers_the_kernel_over_both_kinds_of_device_without_a_thread_of_the_program", Needs::Tun)
    {
        return;
    }
    veth();
    let t = Tun::open("usk%d", 1, true).unwrap();
    ip(&format!("addr add 10.8.0.1/24 dev {}", t.name()));
    for (dev, addr) in [
        (Arc::new(Packet::open("v1", Mac::Interface).unwrap()) as Arc<dyn Device>, "10.9.0.2"),
        (Arc::new(t), "10.8.0.2"),
    ] {
        let s = stack();
        let dev = s.add_device(dev).unwrap();
        route::add_address(&s, &dev, Cidr::new(addr.parse().unwrap(), 24).unwrap()).unwrap();
        let kernel = UdpSocket::bind("0.0.0.0:0").unwrap();
        kernel.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        kernel.connect((addr, 9)).unwrap();
        kernel.send(b"is anybody there?").unwrap();
        let errno = kernel.recv(&mut [0; 10]).unwrap_err().raw_os_error().unwrap();
        // An ICMP error came back: no such port, or no such protocol where none is registered.
        assert!([libc::ECONNREFUSED, libc::ENOPROTOOPT].contains(&errno), "{addr}: errno {errno}");
    }
}

/// A router advertisement from fe80::99 as a frame: the router's lifetime, then options.
fn advertisement(lifetime: u16, options: &[u8]) -> Skb {
    let (src, dst): (Ipv6Addr, Ipv6Addr) = ("fe80::99".parse().unwrap(), "ff02::1".parse().unwrap());
    let mut icmp = [&[134, 0, 0, 0, 64, 0][..], &lifetime.to_be_bytes(), &[0; 8], options].concat();
    let pseudo = checksum::pseudo_header(src.into(), dst.into(), 58, icmp.len() as u32);
    let sum = checksum::finish(checksum::sum(&icmp, pseudo));
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut frame = vec![0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0x99, 0x86, 0xdd, 0x60, 0, 0, 0];
    frame.extend((icmp.len() as u16).to_be_bytes());
    frame.extend([58, 255]);
    frame.extend([src.octets(), dst.octets()].concat());
    frame.extend(icmp);
    Skb::from_slice(&frame)
}

fn prefix_option(prefix: &str, len: u8, flags: u8, valid: u32) -> Vec<u8> {
    let ip: Ipv6Addr = prefix.parse().unwrap();
    let lifetimes = [valid.to_be_bytes(), (valid / 2).to_be_bytes(), [0; 4]].concat();
    [&[3, 4, len, flags][..], &lifetimes, &ip.octets()].concat()
}

/// The network of an address.
fn network(c: Cidr) -> String {
    c.trunc().to_string()
}

/// What the kernel has made of a router's advertisements on `v0`, as lines: addresses and routes.
fn kernels() -> Vec<String> {
    let addrs = ip("-6 -oneline addr show dev v0 scope global -tentative");
    let addr = |l: &str| {
        let text = l.split_whitespace().skip_while(|w| *w != "inet6").nth(1)?;
        Some(format!("addr {}", network(text.parse().ok()?)))
    };
    let routes = ip("-6 route show dev v0");
    let route = |l: &str| {
        let words: Vec<&str> = l.split_whitespace().collect();
        let of = |name: &str| Some(*words.iter().skip_while(|w| **w != name).nth(1)?);
        match of("via") {
            Some(gw) => Some(format!("default via {gw} metric {} mtu {}", of("metric")?, of("mtu")?)),
            None if words.first()?.starts_with("2001") => Some(format!("{} metric {}", words[0], of("metric")?)),
            None => None,
        }
    };
    let mut all: Vec<String> = addrs.lines().filter_map(addr).chain(routes.lines().filter_map(route)).collect();
    all.sort();
    all
}

#[test]
fn a_stack_and_the_kernel_make_the_same_of_a_routers_advertisements() {
    if !in_namespace("a_stack_and_the_kernel_make_the_same_of_a_routers_advertisements", Needs::Nothing) {
        return;
    }
    veth();
    let given = |end: &str| Packet::open(end, Mac::Given(MacAddr([2, 0, 0, 0, 0, 0x99]))).unwrap();
    let (to_us, to_kernel) = (given("v0"), given("v1"));
    let line = "packet=v1,mac=02:00:00:00:00:01,sysctl.net.ipv6.conf.all.accept_ra=1";
    let stack = usersock::config::build(line).unwrap();
    let dev = stack.netdevs.by_name("v1").unwrap();
    // Who has just come up solicits.
    let solicits = |skb: &Skb| skb.to_vec().get(54) == Some(&133) && skb.to_vec()[6..12] == [2, 0, 0, 0, 0, 1];
    let mut seen = false;
    while !seen {
        wait_readable(to_us.poll_fd(0).unwrap());
        to_us.recv(0, Instant::ZERO, 8, &mut |skb| seen |= solicits(&skb)).unwrap();
    }
    let options = [
        prefix_option("2001:db8:1::", 64, 0xc0, 3600),
        prefix_option("2001:db8:2::", 80, 0xc0, 3600),
        prefix_option("2001:db8:3::", 64, 0x80, 3600),
        prefix_option("2001:db8:4::", 64, 0x40, 3600),
        prefix_option("2001:db8:5::", 64, 0xc0, 0),
        vec![5, 1, 0, 0, 0, 0, 5, 0x78],
    ];
    for end in [&to_us, &to_kernel] {
        assert!(matches!(end.xmit(0, Instant::ZERO, advertisement(1800, &options.concat())), Xmit::Sent));
    }
    let ours = || {
        let addrs = dev.addrs().into_iter().filter(|a| a.to_string().starts_with("2001"));
        let mut routes: Vec<_> = route::list(&stack).into_iter().filter(|r| r.dst.addr().is_ipv6()).collect();
        routes.retain(|r| r.dev.as_ref().is_some_and(|d| d.ifindex == dev.ifindex) && r.kind == Default::default());
        let routes = routes.into_iter().filter(|r| !r.dst.to_string().starts_with("fe80"));
        let routes = routes.map(|r| match r.gateway {
            Some(gw) => format!("default via {gw} metric {} mtu {}", r.metric, r.mtu),
            None => format!("{} metric {}", r.dst, r.metric),
        });
        let mut all: Vec<String> = addrs.map(|a| format!("addr {}", network(a))).chain(routes).collect();
        all.sort();
        all
    };
    let want = 6;
    for _ in 0..300 {
        if kernels().len() == want && ours().len() == want {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(kernels().len(), want, "{:?}", kernels());
    assert_eq!(ours(), kernels());
    for end in [&to_us, &to_kernel] {
        assert!(matches!(end.xmit(0, Instant::ZERO, advertisement(0, &[])), Xmit::Sent));
    }
    let has_router = |all: Vec<String>| all.iter().any(|l| l.starts_with("default"));
    let gone = (0..300).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        !has_router(ours()) && !has_router(kernels())
    });
    assert!(gone, "{:?} {:?}", ours(), kernels());
}

#[test]
fn a_tun_device_deleted_under_a_stack_goes_down_and_does_not_spin() {
    if !in_namespace("a_tun_device_deleted_under_a_stack_goes_down_and_does_not_spin", Needs::Tun) {
        return;
    }
    let s = stack();
    let t = tun(1);
    let name = t.name().to_owned();
    let dev = s.add_device(Arc::new(t)).unwrap();
    ip(&format!("link del {name}"));
    let w = Waiter::current();
    // Without a time limit: once the error is detected, the interface is down and is not polled any more.
    while dev.is_up() {
        s.block(&w, Some(s.now() + Duration::from_millis(5)));
    }
    assert_eq!(s.block(&w, Some(s.now() + Duration::from_millis(5))), Woken::TimedOut);
}
