//! Queues that are each a thread's own: the loopback device.

use super::*;
use crate::counters::SHARDS;
use crate::net::{TcpListener, TcpStream, UdpSocket};
use crate::sock::skb::TxOwner;
use crate::wire::ip::Ipv4Repr;
use crate::wire::{proto, udp};
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::RawFd;
use std::sync::OnceLock;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

const LO: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// A datagram of one byte to a port of this host, as `sock` sends it.
fn datagram(sock: &Arc<Sock>, port: u16, mark: u8) -> Skb {
    let mut bytes = [0; 29];
    let ip = Ipv4Repr { dont_fragment: true, ..Ipv4Repr::new(LO, LO, proto::UDP, 9) };
    let n = ip.emit(&mut bytes);
    udp::emit_header(&mut bytes[n..], 9, port, 1);
    bytes[28] = mark;
    let mut skb = Skb::from_slice(&bytes);
    skb.owner = Some(TxOwner::new(sock, skb.truesize));
    skb
}

#[test]
fn a_sock_that_another_thread_uses_keeps_its_packets_in_order() {
    let stack = crate::config::build("").unwrap();
    let lo = stack.netdevs.by_index(1).unwrap();
    let sender = crate::inet::Socket::new(&stack, libc::AF_INET, libc::SOCK_DGRAM, 0).unwrap();
    let receiver = UdpSocket::bind_on(&stack, (LO, 0)).unwrap();
    receiver.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let port = receiver.local_addr().unwrap().port();
    let send = |mark| lo.xmit(&stack, stack.now(), datagram(sender.sock(), port, mark)).unwrap();
    let queue = || sender.sock().tx_queue.load(Ordering::Relaxed);
    let on_another_thread = |f: &(dyn Fn() + Sync)| std::thread::scope(|s| s.spawn(f).join().unwrap());
    // Sent here, and not received yet.
    send(1);
    let first = queue();
    assert_eq!(usize::from(first), shard_index());
    on_another_thread(&|| {
        send(2);
        assert_eq!(queue(), first, "the queue has a packet of the sock");
        stack.run_pending();
        assert!(!stack.netdevs.any_pending(), "who sends on another thread's queue receives from it");
        send(3);
        assert_eq!(usize::from(queue()), shard_index(), "the flow moves once its packets have been received");
        stack.run_pending();
    });
    let got = [(); 3].map(|()| {
        let mut byte = [0];
        receiver.recv(&mut byte).unwrap();
        byte[0]
    });
    assert_eq!(got, [1, 2, 3]);
}

#[test]
fn more_threads_than_queues_receive_all_that_they_send() {
    let stack = crate::config::build("").unwrap();
    std::thread::scope(|s| {
        for thread in 0..2 * SHARDS as u8 {
            let stack = &stack;
            s.spawn(move || {
                let (a, b) = (UdpSocket::bind_on(stack, (LO, 0)).unwrap(), UdpSocket::bind_on(stack, (LO, 0)).unwrap());
                a.connect(b.local_addr().unwrap()).unwrap();
                b.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
                for n in 0..200 {
                    a.send(&[thread, n]).unwrap();
                    let mut got = [0; 2];
                    b.recv(&mut got).unwrap();
                    assert_eq!(got, [thread, n]);
                }
            });
        }
    });
    assert!(!stack.netdevs.any_pending());
    let stats = stack.netdevs.by_index(1).unwrap().device().stats();
    assert_eq!(stats.rx_packets, 2 * SHARDS as u64 * 200, "of all queues");
}

#[test]
fn threads_that_write_to_one_stream_by_turns_cause_no_reordering() {
    // Large ones: what small packets need beside their bytes may exceed the receive buffer, and be dropped.
    const WRITES: usize = 300;
    const LEN: usize = 8192;
    let stack = crate::config::build("").unwrap();
    let listener = TcpListener::bind_on(&stack, (LO, 0)).unwrap();
    let client = TcpStream::connect_on(&stack, listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    server.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    client.set_nodelay(true).unwrap();
    std::thread::scope(|s| {
        for _ in 0..3 {
            s.spawn(|| (0..WRITES).for_each(|_| (&client).write_all(&[7; LEN]).unwrap()));
        }
        let mut all = vec![0; 3 * WRITES * LEN];
        (&server).read_exact(&mut all).unwrap();
        assert!(all.iter().all(|&b| b == 7));
    });
    let counter = |name| stack.mib.get_by_name(name).unwrap();
    let dropped = counter("TcpExtTCPBacklogDrop") + counter("TcpExtTCPRcvQDrop");
    assert_eq!((counter("TcpExtTCPOFOQueue"), dropped), (0, 0));
}

/// A device with three queues, which keeps on which of them packets are sent.
#[derive(Debug)]
struct Three {
    follow: bool,
    sent: Mutex<Vec<u16>>,
}

impl Device for Three {
    fn name(&self) -> &str {
        "three0"
    }
    fn caps(&self) -> Caps {
        Caps { queues: 3, replies_follow: self.follow, ..Caps::ip(1500) }
    }
    fn recv(&self, _: u16, _: Instant, _: usize, _: &mut dyn FnMut(Skb)) -> std::io::Result<usize> {
        Ok(0)
    }
    fn xmit(&self, queue: u16, _: Instant, _: Skb) -> Xmit {
        self.sent.lock().push(queue);
        Xmit::Sent
    }
    fn stats(&self) -> crate::device::DevStats {
        Default::default()
    }
}

#[test]
fn a_packet_leaves_on_its_flow_s_queue_or_on_its_thread_s_where_replies_follow() {
    for follow in [false, true] {
        let stack = crate::config::build("").unwrap();
        let device = Arc::new(Three { follow, sent: Mutex::default() });
        let dev = stack.add_device(device.clone()).unwrap();
        let send = |hash| {
            let mut skb = Skb::from_slice(&[0x45; 20]);
            skb.hash = hash;
            dev.xmit(&stack, stack.now(), skb).unwrap();
        };
        let own = std::thread::scope(|s| {
            let threads = (0..4).map(|_| {
                let all = || {
                    (0..3).for_each(send);
                    (thread::number() % 3) as u16
                };
                s.spawn(all).join().unwrap()
            });
            threads.collect::<Vec<_>>()
        });
        let want: Vec<u16> = own.iter().flat_map(|&q| if follow { [q; 3] } else { [0, 1, 2] }).collect();
        assert_eq!(*device.sent.lock(), want, "follow: {follow}");
    }
}

#[test]
fn a_device_takes_as_it_is_what_needs_no_software_before_also_after_it_was_replaced() {
    let stack = crate::config::build("").unwrap();
    let lo = stack.netdevs.by_index(1).unwrap();
    let mut skb = Skb::from_slice(&[0x45; 20]);
    assert!(lo.takes_as_is(&skb), "the loopback does everything itself");
    skb.gso_size = 10;
    assert!(!lo.takes_as_is(&skb), "a super-packet may exceed its limits");
    skb.gso_size = 0;
    let three = Arc::new(Three { follow: false, sent: Mutex::default() });
    lo.replace_device(|_| three);
    assert!(!lo.takes_as_is(&skb), "this one does not complete checksums");
}

/// A tunnel whose own packets are routed into it.
#[derive(Debug, Default)]
struct Tunnel {
    stack: OnceLock<std::sync::Weak<Stack>>,
    sent: AtomicUsize,
    refused: AtomicUsize,
}

impl Device for Tunnel {
    fn name(&self) -> &str {
        "tunl0"
    }
    fn caps(&self) -> Caps {
        Caps::ip(1500)
    }
    fn recv(&self, _: u16, _: Instant, _: usize, _: &mut dyn FnMut(Skb)) -> std::io::Result<usize> {
        Ok(0)
    }
    fn xmit(&self, _: u16, now: Instant, skb: Skb) -> Xmit {
        self.sent.fetch_add(1, Ordering::Relaxed);
        let stack = self.stack.get().unwrap().upgrade().unwrap();
        if let Err(e) = stack.netdevs.by_name("tunl0").unwrap().xmit(&stack, now, skb) {
            assert_eq!(e, Error::NetDown);
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        Xmit::Sent
    }
    fn stats(&self) -> crate::device::DevStats {
        Default::default()
    }
}

#[test]
fn a_tunnel_that_is_routed_into_itself_ends_as_linux_ends_it() {
    let stack = crate::config::build("").unwrap();
    let tunnel = Arc::new(Tunnel::default());
    tunnel.stack.set(Arc::downgrade(&stack)).unwrap();
    let dev = stack.add_device(tunnel.clone()).unwrap();
    for _ in 0..2 {
        dev.xmit(&stack, stack.now(), Skb::from_slice(&[0x45; 20])).unwrap();
    }
    let levels = usize::from(XMIT_RECURSION_LIMIT) + 1;
    let counts = (tunnel.sent.load(Ordering::Relaxed), tunnel.refused.load(Ordering::Relaxed));
    assert_eq!((counts, stack.mib.drops(DropReason::RecursionLimit)), ((2 * levels, 2), 2));
}

/// A device with no room at first.
#[derive(Debug, Default)]
struct Later {
    open: AtomicBool,
    sent: Mutex<Vec<u8>>,
}

impl Device for Later {
    fn name(&self) -> &str {
        "later0"
    }
    fn caps(&self) -> Caps {
        Caps::ip(1500)
    }
    fn recv(&self, _: u16, _: Instant, _: usize, _: &mut dyn FnMut(Skb)) -> std::io::Result<usize> {
        Ok(0)
    }
    fn xmit(&self, _: u16, _: Instant, skb: Skb) -> Xmit {
        if !self.open.load(Ordering::Relaxed) {
            return Xmit::Busy(skb);
        }
        self.sent.lock().extend(skb.to_vec().last());
        Xmit::Sent
    }
    fn stats(&self) -> crate::device::DevStats {
        Default::default()
    }
}

/// Sends a packet by the device that is done with one of its sock's.
struct SendsAgain(Mutex<Option<Sending>>);

/// What is sent then, and where.
type Sending = (Arc<Stack>, Arc<NetDev>, Skb);

impl crate::sock::wait::Watch for SendsAgain {
    fn notify(&self, _: crate::sock::wait::Events) {
        if let Some((stack, dev, skb)) = self.0.lock().take() {
            dev.xmit(&stack, stack.now(), skb).unwrap();
        }
    }
}

#[test]
fn the_owner_of_a_packet_that_waited_for_room_may_send_behind_the_others() {
    let stack = crate::config::build("").unwrap();
    let device = Arc::new(Later::default());
    let dev = stack.add_device(device.clone()).unwrap();
    let sender = crate::inet::Socket::new(&stack, libc::AF_INET, libc::SOCK_DGRAM, 0).unwrap();
    for mark in 1..=3 {
        dev.xmit(&stack, stack.now(), datagram(sender.sock(), 9, mark)).unwrap();
    }
    assert_eq!((dev.tx_backlog(), device.sent.lock().len()), (3, 0));
    let again = Arc::new(SendsAgain(Mutex::new(Some((stack.clone(), dev.clone(), Skb::from_slice(&[4]))))));
    sender.sock().wait.add(crate::sock::wait::Events::OUT, false, again.clone());
    device.open.store(true, Ordering::Relaxed);
    // The background thread may be first.
    while dev.tx_backlog() > 0 {
        dev.flush_tx(&stack, stack.now());
    }
    assert!(again.0.lock().is_none(), "the sender was told");
    assert_eq!(*device.sent.lock(), [1, 2, 3, 4]);
}

/// A device whose packets can be written together, as TUN's. It notes how each left.
#[derive(Debug, Default)]
struct Written {
    one_by_one: Mutex<Vec<u8>>,
    held: AtomicUsize,
}

impl Device for Written {
    fn name(&self) -> &str {
        "written0"
    }
    fn caps(&self) -> Caps {
        Caps::ip(1500)
    }
    fn recv(&self, _: u16, _: Instant, _: usize, _: &mut dyn FnMut(Skb)) -> std::io::Result<usize> {
        Ok(0)
    }
    fn xmit(&self, _: u16, _: Instant, skb: Skb) -> Xmit {
        self.one_by_one.lock().extend(skb.to_vec().last());
        Xmit::Sent
    }
    fn xmit_burst(&self, _: u16, packets: &mut VecDeque<Skb>, write: &mut WriteBurst<'_>) {
        self.held.fetch_add(packets.len(), Ordering::Relaxed);
        let bytes: Vec<_> = packets.iter().map(|skb| skb.to_vec()).collect();
        let slices: Vec<_> = bytes.iter().map(|bytes| [std::io::IoSlice::new(bytes)]).collect();
        let mut marks = vec![false; bytes.len()];
        write(-1, &slices.iter().map(|slices| &slices[..]).collect::<Vec<_>>(), &mut marks);
        let mut marks = marks.into_iter();
        packets.retain(|_| !marks.next().unwrap());
    }
    fn stats(&self) -> crate::device::DevStats {
        Default::default()
    }
}

#[test]
fn packets_of_a_burst_leave_together_and_in_order_and_the_others_as_before() {
    // No other thread sends what waits.
    let parked = Arc::new(crate::driver::Parked::default());
    let stack = crate::config::Config::parse("").unwrap().build_driven_by(parked).unwrap();
    let (device, full) = (Arc::new(Written::default()), Arc::new(Later::default()));
    let (dev, later) = (stack.add_device(device.clone()).unwrap(), stack.add_device(full.clone()).unwrap());
    let lo = stack.netdevs.by_index(1).unwrap();
    let [sender, other] =
        [(); 2].map(|()| crate::inet::Socket::new(&stack, libc::AF_INET, libc::SOCK_DGRAM, 0).unwrap());
    let send = |dev: &Arc<NetDev>, mark| {
        dev.xmit(&stack, stack.now(), datagram(sender.sock(), 9, mark)).unwrap();
    };
    let again = Arc::new(SendsAgain(Mutex::new(Some((stack.clone(), dev.clone(), Skb::from_slice(&[5]))))));
    sender.sock().wait.add(crate::sock::wait::Events::OUT, false, again.clone());
    let (mut calls, before) = (Vec::new(), stack.tx_full());
    let mut write = |_: RawFd, packets: &[&[std::io::IoSlice<'_>]], written: &mut [bool]| {
        calls.push(packets.iter().map(|pieces| *pieces[0].last().unwrap()).collect::<Vec<u8>>());
        // The kernel refuses the third.
        written.fill(true);
        written[2] = false;
    };
    let sent = stack.netdevs.in_burst(&stack, &mut write, || {
        (1..=4).for_each(|mark| send(&dev, mark));
        send(&later, 1);
        lo.xmit(&stack, stack.now(), datagram(other.sock(), 9, 1)).unwrap();
        assert!(lo.device().has_pending(shard_index() as u16), "the loopback does not wait");
        device.one_by_one.lock().len() + device.held.load(Ordering::Relaxed)
    });
    assert_eq!((sent, calls), (0, vec![vec![1, 2, 3, 4]]));
    // The owner of those that were written sends at once, behind the one that was not.
    assert_eq!((device.one_by_one.lock().clone(), again.0.lock().is_none()), (vec![3, 5], true));
    assert_eq!((dev.tx_backlog(), later.tx_backlog(), stack.tx_full() - before), (0, 1, 1), "one waits for room");
    send(&dev, 6);
    assert_eq!(device.one_by_one.lock().last(), Some(&6));
    // One that joins the queue when another thread has just emptied it: somebody is told to look again.
    dev.queues[0].tx_len.store(1, Ordering::SeqCst);
    send(&dev, 7);
    assert_eq!((dev.tx_backlog(), stack.tx_full() - before), (1, 2));
    dev.flush_tx(&stack, stack.now());
    assert_eq!(device.one_by_one.lock().last(), Some(&7));
    // A panic within one leaves nothing behind that waits for ever.
    let panics = std::panic::AssertUnwindSafe(|| {
        stack.netdevs.in_burst(&stack, &mut |_, _, _| unreachable!("it is not written as a burst"), || {
            send(&dev, 8);
            panic!("a test");
        })
    });
    assert!(std::panic::catch_unwind(panics).is_err());
    assert_eq!((dev.tx_backlog(), stack.tx_full() - before), (1, 3));
    dev.flush_tx(&stack, stack.now());
    send(&dev, 9);
    assert!(device.one_by_one.lock().ends_with(&[8, 9]));
}
