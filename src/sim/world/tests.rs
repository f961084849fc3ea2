use super::*;
use crate::base::waiter::{Waiter, Woken};
use crate::counters::Mib;
use crate::device::Device;
use crate::device::link::Direction;
use crate::inet::Socket;
use crate::ip::neigh;
use crate::sock::msg::SendMsg;
use crate::sock::skb::Skb;
use crate::stack::{TimerCall, TimerSlot};
use crate::wire::checksum;
use std::io::IoSlice;

struct Ring(Arc<Waiter>);
impl TimerCall for Ring {
    fn fire(self: Arc<Self>, _: &Arc<Stack>, _: Instant) {
        self.0.wake();
    }
}

/// An ICMP echo request between the ends of link 1.
fn echo(len: usize) -> Skb {
    let mut p = vec![0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 1, 0, 0, 10, 1, 0, 1, 10, 1, 0, 2];
    p[2..4].copy_from_slice(&((28 + len) as u16).to_be_bytes());
    let sum = checksum::finish(checksum::sum(&p, 0));
    p[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut icmp = vec![8, 0, 0, 0, 0, 7, 0, 1];
    icmp.resize(8 + len, 0x55);
    let sum = checksum::finish(checksum::sum(&icmp, 0));
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    p.extend(icmp);
    Skb::from_slice(&p)
}

#[test]
fn an_echo_takes_one_round_trip_of_virtual_time() {
    let world = World::new(1);
    let delay = Direction { delay: Duration::from_millis(30), ..Direction::default() };
    let [(a, ea), (_b, eb)] = world.two(&LinkConfig::both(delay)).unwrap();
    ea.dev.xmit(&a, world.now(), echo(56)).unwrap();
    assert!(world.run_until_idle(Instant::from_secs(10)));
    assert_eq!(world.now(), Instant::from_millis(60));
    assert_eq!((ea.link.fate().received, eb.link.fate().received), (1, 1));
}

#[test]
fn a_blocked_call_steps_the_world_until_it_is_woken_or_its_deadline() {
    let world = World::new(1);
    let [(a, _), (b, _)] = world.two(&LinkConfig::default()).unwrap();
    let w = Waiter::current();
    let mut slot = TimerSlot::default();
    // A timer of the other stack wakes a thread that blocks on this one.
    b.arm_call(&mut slot, Arc::new(Ring(w.clone())), Instant::from_secs(3600));
    assert_eq!(a.block(&w, Some(Instant::from_secs(60))), Woken::TimedOut);
    assert_eq!(world.now(), Instant::from_secs(60));
    assert_eq!(a.block(&w, None), Woken::Event);
    assert_eq!(world.now(), Instant::from_secs(3600));
    assert_eq!(a.block(&w, None), Woken::Interrupted, "nothing can end this wait");
    assert_eq!(a.block(&w, Some(Instant::from_secs(4000))), Woken::TimedOut);
    assert_eq!(world.now(), Instant::from_secs(4000));
}

#[test]
fn running_stops_at_the_time_asked_for_whether_or_not_something_is_left() {
    let world = World::new(1);
    let delay = Direction { delay: Duration::from_secs(5), ..Direction::default() };
    let [(a, ea), _] = world.two(&LinkConfig::both(delay)).unwrap();
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.now(), Instant::from_secs(1));
    ea.dev.xmit(&a, world.now(), echo(0)).unwrap();
    world.run_until(Instant::from_secs(6));
    assert_eq!((world.now(), ea.link.fate().received), (Instant::from_secs(6), 1));
    assert!(!world.run_until_idle(Instant::from_secs(7)));
    assert!(world.run_until_idle(Instant::from_secs(20)));
    assert_eq!(world.now(), Instant::from_secs(11));
}

#[test]
fn a_device_that_is_down_holds_its_packets_back_and_not_the_world() {
    let world = World::new(1);
    let [(a, ea), (_b, eb)] = world.two(&LinkConfig::default()).unwrap();
    eb.dev.set_up(false);
    ea.dev.xmit(&a, world.now(), echo(0)).unwrap();
    assert!(world.run_until_idle(Instant::from_secs(10)));
    assert_eq!(ea.link.fate().received, 0);
    eb.dev.set_up(true);
    assert!(world.run_until_idle(Instant::from_secs(10)));
    assert_eq!(eb.link.fate().received, 1);
}

#[test]
fn two_worlds_of_one_seed_are_the_same_and_their_stacks_are_not() {
    let draw = |seed| {
        let w = World::new(seed);
        let [(a, _), (b, _)] = w.two(&LinkConfig::default()).unwrap();
        (a.entropy.next_u64(), b.entropy.next_u64())
    };
    assert_eq!(draw(5), draw(5));
    assert_ne!(draw(5), draw(6));
    assert_ne!(draw(5).0, draw(5).1);
}

#[test]
fn a_link_from_a_stack_to_itself_has_two_devices() {
    let world = World::new(1);
    let a = world.stack().unwrap();
    let [x, y] = world.link(&a, &a, &LinkConfig::default()).unwrap();
    assert_ne!(x.dev.ifindex, y.dev.ifindex);
    assert_eq!((x.link.name(), y.link.name()), ("sim1", "sim1b"));
}

/// RFC 4861 §7.3.1: acknowledgements of what was sent say that the next hop is there, for longer than its entry lasts
/// by itself. A datagram's sender knows nothing of the kind.
#[test]
fn the_progress_of_tcp_keeps_its_neighbour_reachable() {
    for (kind, want) in [(libc::SOCK_STREAM, true), (libc::SOCK_DGRAM, false)] {
        let world = World::new(1);
        let [(a, _), (b, _)] = world.two(&LinkConfig { ethernet: true, ..LinkConfig::default() }).unwrap();
        let open = |stack| {
            let s = Socket::new(stack, libc::AF_INET, kind, 0).unwrap();
            s.set_nonblocking(true);
            s
        };
        let (server, client) = (open(&b), open(&a));
        let to = "10.1.0.2:80".parse().unwrap();
        server.bind(to).unwrap();
        if kind == libc::SOCK_STREAM {
            server.listen(1).unwrap();
        }
        let _ = client.connect(Some(to));
        let mut always = true;
        for second in 0..120 {
            world.run_for(Duration::from_secs(1));
            client.sendmsg(&mut SendMsg::new(&[IoSlice::new(b"x")], 0)).unwrap();
            let known = neigh::list(&a, world.now());
            always &= second == 0 || known.iter().any(|n| n.state == neigh::State::Reachable);
        }
        assert_eq!(always, want, "{kind}");
    }
}

/// What scripted threads did, by the time at which they did it.
type Log = Arc<Mutex<Vec<(u64, &'static str)>>>;

fn logger(world: &Arc<World>) -> (Log, impl Fn(&'static str) + Clone + Send + 'static) {
    let log = Log::default();
    let (to, of) = (log.clone(), Arc::downgrade(world));
    let write = move |what| to.lock().push((of.upgrade().map_or(u64::MAX, |w| w.now().as_millis()), what));
    (log, write)
}

#[test]
fn scripted_threads_block_in_each_other_s_company() {
    let world = Arc::new(World::new(3));
    let way = Direction { delay: Duration::from_millis(10), ..Direction::default() };
    let [(a, _), (b, end)] = world.two(&LinkConfig::both(way)).unwrap();
    let (log, write) = logger(&world);
    let udp = |stack| Socket::new(stack, libc::AF_INET, libc::SOCK_DGRAM, 0).unwrap();
    let (server, client) = (udp(&b), udp(&a));
    server.bind(std::net::SocketAddr::new(end.v4.into(), 9)).unwrap();
    client.connect(Some(std::net::SocketAddr::new(end.v4.into(), 9))).unwrap();
    let w = write.clone();
    let answers = move || {
        let mut buf = [0; 8];
        let mut slices = [std::io::IoSliceMut::new(&mut buf)];
        let mut msg = crate::sock::msg::RecvMsg::new(&mut slices, 0);
        w("server waits");
        assert_eq!(server.recvmsg(&mut msg), Ok(4));
        w("server has it");
    };
    let server = world.spawn(Instant::ZERO, answers).unwrap();
    let (w, inside) = (write.clone(), Arc::downgrade(&world));
    let asks = move || {
        w("client begins");
        let world = inside.upgrade().unwrap();
        world.sleep_until(Instant::from_millis(30)).unwrap();
        client.sendmsg(&mut SendMsg::new(&[IoSlice::new(b"ping")], 0)).unwrap();
        w("client has sent");
    };
    world.spawn(Instant::from_millis(5), asks).unwrap();
    world.join(&server).unwrap();
    let want = [(0, "server waits"), (5, "client begins"), (30, "client has sent"), (40, "server has it")];
    assert_eq!(*log.lock(), want);
}

#[test]
fn what_no_event_can_end_is_a_deadlock_to_join_and_interrupted_by_the_end() {
    let world = Arc::new(World::new(3));
    let stack = world.stack().unwrap();
    let (log, write) = logger(&world);
    let (w, s) = (write.clone(), stack.clone());
    let stuck = world
        .spawn(Instant::ZERO, move || {
            assert_eq!(s.block(&Waiter::current(), None), Woken::Interrupted);
            assert_eq!(s.block(&Waiter::current(), None), Woken::Interrupted, "and again");
            w("stuck ends");
        })
        .unwrap();
    // One that waits for it; one whose time never comes.
    let (w, inside, other) = (write.clone(), Arc::downgrade(&world), stuck.clone());
    let joins = move || {
        let world = inside.upgrade().unwrap();
        assert_eq!(world.join(&other), Ok(()), "the end ends it first");
        assert_eq!(world.sleep_until(Instant::from_secs(5)), Err(Error::Intr));
        w("joiner ends");
    };
    let joiner = world.spawn(Instant::ZERO, joins).unwrap();
    let w = write.clone();
    let late = world.spawn(Instant::from_secs(10), move || w("late")).unwrap();
    world.run_until(Instant::from_secs(1));
    assert_eq!(world.now(), Instant::from_secs(1));
    assert!(!stuck.ended() && !joiner.ended());
    world.end();
    assert!(stuck.ended() && joiner.ended() && late.ended());
    let socket = Socket::new(&stack, libc::AF_INET, libc::SOCK_DGRAM, 0).unwrap();
    assert_eq!(socket.bind("10.1.0.1:1".parse().unwrap()), Err(Error::NetDown));
    assert_eq!(log.lock().iter().map(|l| l.1).collect::<Vec<_>>(), ["stuck ends", "joiner ends"]);

    let world = World::new(4);
    let stack = world.stack().unwrap();
    let stuck =
        world.spawn(Instant::ZERO, move || assert_ne!(stack.block(&Waiter::current(), None), Woken::Event)).unwrap();
    assert_eq!(world.join(&stuck), Err(Error::Deadlk));
    drop(world);
    assert!(stuck.ended());
}

#[test]
fn a_panic_of_a_scripted_thread_is_that_of_the_thread_that_steps() {
    let world = World::new(1);
    let broken = world.spawn(Instant::from_secs(1), || std::panic::resume_unwind(Box::new("no"))).unwrap();
    let stepped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.run_for(Duration::from_secs(2))));
    assert_eq!(stepped.unwrap_err().downcast_ref(), Some(&"no"));
    assert!(broken.ended());
    world.run_for(Duration::from_secs(2));
}

#[test]
fn a_link_changes_while_the_world_runs() {
    let world = World::new(1);
    let [(a, ea), _] = world.two(&LinkConfig::default()).unwrap();
    ea.link.set_direction(Direction::default().loss(1.0)).unwrap();
    ea.dev.xmit(&a, world.now(), echo(0)).unwrap();
    ea.link.set_direction(Direction::default().delay(Duration::from_secs(1))).unwrap();
    ea.dev.xmit(&a, world.now(), echo(0)).unwrap();
    assert_eq!(ea.link.set_direction(Direction::default().loss(1.5)), Err(Error::Inval));
    assert!(world.run_until_idle(Instant::from_secs(10)));
    assert_eq!((world.now(), ea.link.fate().lost, ea.link.fate().received), (Instant::from_secs(1), 1, 1));
}

/// Sent on the kernel through pfifo_head_drop, with a limit of 3, under tbf: each call succeeds, and behind the
/// fragment that meets the congestion no other leaves (ip_do_fragment).
#[test]
fn a_datagram_stops_at_the_fragment_that_meets_a_congested_queue_and_its_call_succeeds() {
    let world = World::new(1);
    let slow = Direction { rate: 200_000, queue_packets: 4, head_drop: true, ..Direction::default() };
    let [(a, ea), (_b, eb)] = world.two(&LinkConfig::both(slow).own_queue(true)).unwrap();
    let s = Socket::new(&a, libc::AF_INET, libc::SOCK_DGRAM, 0).unwrap();
    s.setsockopt(libc::SOL_IP, libc::IP_MTU_DISCOVER, &0i32.to_ne_bytes()).unwrap();
    for _ in 0..3 {
        let data = [IoSlice::new(&[7; 7000])];
        let mut m = SendMsg::new(&data, 0);
        m.name = Some("10.1.0.2:5000".parse().unwrap());
        assert_eq!(s.sendmsg(&mut m), Ok(7000));
    }
    let mib = |which| a.mib.get(which);
    assert_eq!((mib(Mib::IpFragFails), mib(Mib::IpFragCreates), mib(Mib::IpFragOKs)), (3, 4, 0));
    assert_eq!((mib(Mib::UdpOutDatagrams), mib(Mib::UdpSndbufErrors), mib(Mib::IpOutDiscards)), (3, 0, 0));
    world.run_for(Duration::from_secs(2));
    assert_eq!((ea.link.fate().overflowed, eb.link.fate().sent), (3, 0));
}
