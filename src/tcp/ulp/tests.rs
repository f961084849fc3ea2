//! A layer that frames records over TCP, on connections between two stacks in virtual time.

use super::*;
use crate::base::env::Duration;
use crate::counters::Mib;
use crate::device::link::{Direction, LinkConfig};
use crate::inet::Socket;
use crate::sim::World;
use crate::sock::msg::{RecvMsg, SendMsg};
use crate::sock::proto::SockRef;
use crate::sock::skb::Skb;
use crate::sock::wait::Events;
use crate::stack::Stack;
use crate::tcp::sockopt::opt;
use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;

/// Bytes of a record's length.
const HEAD: usize = 4;

/// A length, then as many bytes; a receive gives one record.
struct Records {
    name: &'static str,
    clone: bool,
    released: AtomicUsize,
}

/// What it keeps of a connection.
#[derive(Default)]
struct Rec {
    /// Of the record that is coming in.
    coming: Vec<u8>,
    /// Of the record that is going out.
    going: Vec<u8>,
}

impl Rec {
    /// Bytes that the incoming record still lacks: of its length first.
    fn lacks(&self) -> usize {
        match self.coming.first_chunk::<HEAD>() {
            None => HEAD - self.coming.len(),
            Some(n) => HEAD + u32::from_be_bytes(*n) as usize - self.coming.len(),
        }
    }
}

impl Ulp for Records {
    fn name(&self) -> &str {
        self.name
    }
    fn init(&self, sk: &mut SockGuard<'_>) -> Result<()> {
        let open = matches!(sk.sock.state(), State::Established | State::CloseWait) || self.clone;
        set_data(sk, Box::new(Rec::default()))?;
        set_layer(sk, RecordLayer)?;
        assert_eq!(set_layer(sk, RecordLayer), Err(Error::Exist));
        if open { Ok(()) } else { Err(Error::NotConn) }
    }
    fn can_clone(&self) -> bool {
        self.clone
    }
    fn clone_to(&self, parent: Option<&(dyn Any + Send)>, child: &mut SockGuard<'_>) -> Result<()> {
        assert!(parent.is_some_and(|p| p.is::<Rec>()));
        self.init(child)
    }
    fn release(&self, _: &mut Cx<'_>, data: Option<Box<dyn Any + Send>>) {
        assert!(data.is_some_and(|d| d.is::<Rec>()));
        self.released.fetch_add(1, Ordering::Relaxed);
    }
}

struct RecordLayer;

impl RecordLayer {
    /// Gets what there is of the incoming record. EAGAIN: more must come; 0 bytes: the end.
    fn fill(&self, below: &dyn Proto, g: &mut SockGuard<'_>) -> Result<usize> {
        loop {
            let lacks = data_mut::<Rec>(g).ok_or(Error::Io)?.lacks();
            if lacks == 0 {
                return Ok(1);
            }
            let mut buf = vec![0; lacks];
            let n = below.recvmsg_locked(g, &mut RecvMsg::new(&mut [IoSliceMut::new(&mut buf)], libc::MSG_DONTWAIT))?;
            if n == 0 {
                return Ok(0);
            }
            data_mut::<Rec>(g).ok_or(Error::Io)?.coming.extend_from_slice(&buf[..n]);
        }
    }

    fn flush(&self, below: &dyn Proto, g: &mut SockGuard<'_>) -> Result<()> {
        loop {
            let going = std::mem::take(&mut data_mut::<Rec>(g).ok_or(Error::Io)?.going);
            if going.is_empty() {
                return Ok(());
            }
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            let r = below.sendmsg_locked(g, &mut SendMsg::new(&[IoSlice::new(&going)], flags));
            let n = *r.as_ref().unwrap_or(&0);
            data_mut::<Rec>(g).ok_or(Error::Io)?.going = going[n..].to_vec();
            r?;
        }
    }
}

impl Layer for RecordLayer {
    fn sendmsg_locked(&self, below: &dyn Proto, g: &mut SockGuard<'_>, msg: &mut SendMsg<'_>) -> Result<usize> {
        if data_mut::<Rec>(g).is_none() {
            return below.sendmsg_locked(g, msg);
        }
        loop {
            match self.flush(below, g) {
                Err(Error::Again) if !msg.dontwait() => g.sleep(Events::OUT, false, None)?,
                other => break other?,
            }
        }
        let mut text = vec![0; msg.remaining()];
        let n = msg.copy_to(&mut text);
        let going = &mut data_mut::<Rec>(g).ok_or(Error::Io)?.going;
        going.extend((n as u32).to_be_bytes());
        going.extend(text);
        match self.flush(below, g) {
            Ok(()) | Err(Error::Again) => Ok(n),
            Err(e) => Err(e),
        }
    }

    fn recvmsg_locked(&self, below: &dyn Proto, g: &mut SockGuard<'_>, msg: &mut RecvMsg<'_, '_>) -> Result<usize> {
        if data_mut::<Rec>(g).is_none() {
            return below.recvmsg_locked(g, msg);
        }
        loop {
            match self.fill(below, g) {
                Ok(0) => return Ok(0),
                Ok(_) => break,
                Err(Error::Again) if !msg.dontwait() => g.sleep(Events::IN, true, None)?,
                Err(e) => return Err(e),
            }
        }
        let record = std::mem::take(&mut data_mut::<Rec>(g).ok_or(Error::Io)?.coming);
        let n = msg.put(&record[HEAD..]);
        if n < record.len() - HEAD {
            msg.out_flags |= libc::MSG_TRUNC;
        }
        Ok(n)
    }

    fn poll_locked(&self, below: &dyn Proto, g: &mut SockGuard<'_>) -> Events {
        let (whole, free) = (self.fill(below, g), self.flush(below, g));
        let mut m = below.poll_locked(g);
        if whole == Err(Error::Again) {
            m = Events(m.0 & !Events::IN.0);
        } else {
            m |= Events::IN;
        }
        if free.is_err() {
            m = Events(m.0 & !Events::OUT.0);
        }
        m
    }

    fn backlog_rcv(&self, below: &dyn Proto, g: &mut SockGuard<'_>, skb: Skb) {
        below.backlog_rcv(g, skb);
        // It may have made room; what cannot go now goes later, and errors are the next call's.
        let _ = self.flush(below, g);
    }

    fn may_remove(&self, _: &dyn Proto, g: &mut SockGuard<'_>) -> Result<()> {
        match data_mut::<Rec>(g) {
            Some(r) if !r.coming.is_empty() || !r.going.is_empty() => Err(Error::Busy),
            _ => Ok(()),
        }
    }

    fn setsockopt(&self, below: &dyn Proto, sk: SockRef<'_>, level: i32, name: i32, value: &[u8]) -> Result<()> {
        // A level of its own, as SOL_TLS.
        if level == 282 { Ok(()) } else { below.setsockopt(sk, level, name, value) }
    }
}

struct Net {
    world: World,
    stack: Arc<Stack>,
    ulp: Arc<Records>,
    listener: Socket,
    client: Socket,
    server: Socket,
}

/// Two stacks 5 ms apart; `stack` is the server's, and `listener` has what `ulp` says if it can be cloned.
fn net(clone: bool) -> Net {
    let world = World::new(0xface);
    let link = LinkConfig::both(Direction { delay: Duration::from_millis(5), ..Direction::default() });
    let [(a, _), (stack, end)] = world.two(&link).unwrap();
    let ulp = Arc::new(Records { name: "records", clone, released: AtomicUsize::new(0) });
    for s in [&a, &stack] {
        super::register(s, ulp.clone()).unwrap();
    }
    let at = SocketAddr::new(end.v4.into(), 80);
    let listener = Socket::new(&stack, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
    listener.bind(at).unwrap();
    if clone {
        install(&listener).unwrap();
    }
    listener.listen(4).unwrap();
    let client = Socket::new(&a, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
    client.connect(Some(at)).unwrap();
    let (server, _) = listener.accept().unwrap();
    client.setsockopt(libc::IPPROTO_TCP, libc::TCP_NODELAY, &1i32.to_ne_bytes()).unwrap();
    Net { world, stack, ulp, listener, client, server }
}

impl Net {
    fn run(&self) {
        self.world.run_for(Duration::from_millis(200));
    }
    fn released(&self) -> usize {
        self.ulp.released.load(Ordering::Relaxed)
    }
}

fn install(s: &Socket) -> Result<()> {
    s.setsockopt(libc::IPPROTO_TCP, opt::ULP, b"records")
}

fn send(s: &Socket, data: &[u8]) -> Result<usize> {
    s.sendmsg(&mut SendMsg::new(&[IoSlice::new(data)], libc::MSG_NOSIGNAL))
}

fn recv(s: &Socket, flags: i32) -> Result<Vec<u8>> {
    let mut buf = vec![0; 300_000];
    let n = s.recvmsg(&mut RecvMsg::new(&mut [IoSliceMut::new(&mut buf)], flags))?;
    buf.truncate(n);
    Ok(buf)
}

fn ulp_name(s: &Socket) -> Vec<u8> {
    let mut b = [9; 20];
    let n = s.getsockopt(libc::IPPROTO_TCP, opt::ULP, &mut b).unwrap();
    b[..n].to_vec()
}

fn readable(s: &Socket) -> bool {
    s.poll().intersects(Events::IN)
}

#[test]
fn records_travel_whole_between_plain_bytes_before_and_after() {
    let n = net(false);
    let sockets = || n.server.sock().accounts().sockets.sum();
    let before = sockets();
    assert_eq!(send(&n.client, b"plain"), Ok(5));
    assert_eq!(recv(&n.server, 0).unwrap(), b"plain");
    assert_eq!((ulp_name(&n.client), install(&n.client), install(&n.server)), (vec![], Ok(()), Ok(())));
    assert_eq!(ulp_name(&n.client), b"records\0\0\0\0\0\0\0\0\0");
    let record = |i: usize| vec![i as u8; [1, 1000, 0, 20_000, 7, 200_000, 3][i]];
    for (from, to) in [(&n.client, &n.server), (&n.server, &n.client)] {
        for i in 0..7 {
            assert_eq!(send(from, &record(i)), Ok(record(i).len()), "{i}");
            // A blocking receive waits for all of it, while the world goes on.
            assert_eq!(recv(to, 0).unwrap(), record(i), "{i}");
        }
        // Several at once are told apart.
        assert_eq!((send(from, b"one"), send(from, b"three")), (Ok(3), Ok(5)));
        n.run();
        assert_eq!((recv(to, 0).unwrap(), recv(to, 0).unwrap()), (b"one".to_vec(), b"three".to_vec()));
        assert_eq!(recv(to, libc::MSG_DONTWAIT), Err(Error::Again));
    }
    // sendpage does not go around the layer.
    let sk = SockRef { stack: n.client.stack(), sock: n.client.sock() };
    assert_eq!(n.client.sock().proto().sendpage(sk, b"page", 0), Ok(4));
    assert_eq!(recv(&n.server, 0).unwrap(), b"page");
    assert_eq!((n.client.remove_ulp(), n.server.remove_ulp()), (Ok(()), Ok(())));
    assert_eq!((n.client.remove_ulp(), n.released(), ulp_name(&n.server)), (Err(Error::Inval), 2, vec![]));
    assert_eq!(send(&n.client, b"plain again"), Ok(11));
    assert_eq!(recv(&n.server, 0).unwrap(), b"plain again");
    assert_eq!(sockets(), before);
    n.client.close();
    n.run();
    assert_eq!(recv(&n.server, 0).unwrap(), b"");
    n.server.close();
    n.listener.close();
    n.world.run_for(Duration::from_secs(100));
    let accounts = n.stack.registry.accounts("TCP").unwrap();
    assert_eq!((accounts.sockets.sum(), accounts.orphans.sum()), (2, 0));
    assert_eq!(accounts.pages.sum(), 0);
    assert_eq!(n.stack.mib.get(Mib::TcpCurrEstab), 0);
}

#[test]
fn poll_says_readable_for_a_whole_record_and_for_the_end_only() {
    let n = net(false);
    install(&n.server).unwrap();
    for (case, piece, want) in [
        ("nothing", &b""[..], false),
        ("half a length", &[0, 0], false),
        ("a length", &[0, 3], false),
        ("two of three bytes", b"ab", false),
        ("the third, and a byte of the next", b"c\0", true),
    ] {
        send(&n.client, piece).unwrap();
        n.run();
        assert_eq!((readable(&n.server), readable(&n.server)), (want, want), "{case}");
        assert_eq!(n.server.remove_ulp(), if piece.is_empty() { Ok(()) } else { Err(Error::Busy) }, "{case}");
        if piece.is_empty() {
            install(&n.server).unwrap();
        }
    }
    assert_eq!(recv(&n.server, 0).unwrap(), b"abc");
    assert!(!readable(&n.server));
    assert!(n.server.poll().intersects(Events::OUT));
    n.client.shutdown(1).unwrap();
    n.run();
    assert!(readable(&n.server));
    assert_eq!(recv(&n.server, 0).unwrap(), b"");
}

#[test]
fn a_record_that_does_not_fit_the_send_buffer_is_taken_and_the_next_must_wait() {
    let n = net(false);
    install(&n.client).unwrap();
    install(&n.server).unwrap();
    n.client.set_nonblocking(true);
    let big = vec![6; 4 << 20];
    assert_eq!(send(&n.client, &big), Ok(big.len()));
    assert!(!n.client.poll().intersects(Events::OUT));
    assert_eq!(send(&n.client, b"next"), Err(Error::Again));
    assert_eq!(n.client.remove_ulp(), Err(Error::Busy));
    let mut buf = vec![0; big.len()];
    let mut rest = n.server.recvmsg(&mut RecvMsg::new(&mut [IoSliceMut::new(&mut buf)], libc::MSG_DONTWAIT));
    for _ in 0..10_000 {
        if rest.is_ok() {
            break;
        }
        n.world.run_for(Duration::from_millis(1));
        rest = n.server.recvmsg(&mut RecvMsg::new(&mut [IoSliceMut::new(&mut buf)], libc::MSG_DONTWAIT));
    }
    assert!(rest == Ok(big.len()) && buf == big);
    n.run();
    assert_eq!(send(&n.client, b"next"), Ok(4));
    assert_eq!(recv(&n.server, 0).unwrap(), b"next");
}

#[test]
fn setsockopt_refuses_as_linux_does() {
    let n = net(false);
    let set = |s: &Socket, name: &[u8]| s.setsockopt(libc::IPPROTO_TCP, opt::ULP, name);
    assert_eq!(set(&n.client, b""), Err(Error::Inval));
    assert_eq!(set(&n.client, b"\0"), Err(Error::NoEnt));
    assert_eq!(set(&n.client, b"nosuch"), Err(Error::NoEnt));
    assert_eq!(set(&n.client, b"records\0and more"), Ok(()));
    assert_eq!(set(&n.client, b"records"), Err(Error::Exist));
    assert_eq!(n.client.setsockopt(282, 1, &[]), Ok(()));
    assert_eq!(n.server.setsockopt(282, 1, &[]), Err(Error::NoProtoOpt));
    assert_eq!(set(&n.listener, b"records"), Err(Error::NotConn), "a listener, and it does not clone");
    // What init refuses leaves nothing behind.
    let s = Socket::new(&n.stack, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
    assert_eq!(set(&s, b"records"), Err(Error::NotConn));
    assert_eq!((ulp_name(&s), n.released()), (vec![], 0));
    assert_eq!((s.setsockopt(282, 1, &[]), s.remove_ulp()), (Err(Error::NoProtoOpt), Err(Error::Inval)));
    let udp = Socket::new(&n.stack, libc::AF_INET, libc::SOCK_DGRAM, 0).unwrap();
    assert_eq!(udp.remove_ulp(), Err(Error::Inval));
    // A connection that has it, and was ended by its program, has it still: it cannot listen.
    n.client.connect(None).unwrap();
    assert_eq!(ulp_name(&n.client).len(), NAME_MAX);
    assert_eq!(n.client.listen(1), Err(Error::Inval));
    n.client.remove_ulp().unwrap();
    assert_eq!(n.client.listen(1), Ok(()));
}

#[test]
fn what_is_in_use_stays_registered_until_its_last_connection_is_destroyed() {
    let n = net(false);
    let set = |name| Arc::new(Records { name, clone: false, released: AtomicUsize::new(0) });
    for (name, want) in [
        ("", Err(Error::Inval)),
        ("sixteen letters!", Err(Error::Inval)),
        ("two words", Err(Error::Inval)),
        ("records", Err(Error::Exist)),
        ("fifteen-letters", Ok(())),
    ] {
        assert_eq!(super::register(&n.stack, set(name)), want, "{name}");
    }
    assert_eq!(n.stack.sysctl.get("net.ipv4.tcp_available_ulp").unwrap(), "fifteen-letters records");
    assert_eq!(super::unregister(&n.stack, "nosuch").err(), Some(Error::NoEnt));
    assert!(super::unregister(&n.stack, "fifteen-letters").is_ok());
    install(&n.server).unwrap();
    assert_eq!(super::unregister(&n.stack, "records").err(), Some(Error::Busy));
    n.server.close();
    assert_eq!(
        super::unregister(&n.stack, "records").err(),
        Some(Error::Busy),
        "it waits for its FIN's acknowledgement"
    );
    n.run();
    assert_eq!(n.released(), 1);
    assert!(super::unregister(&n.stack, "records").is_ok());
    assert_eq!(install(&n.listener), Err(Error::NoEnt));
}

#[test]
fn children_are_without_unless_the_protocol_clones_itself() {
    let n = net(false);
    assert_eq!(ulp_name(&n.server), b"");
    let n = net(true);
    assert_eq!(ulp_name(&n.server).len(), NAME_MAX);
    assert_eq!(ulp_name(&n.listener).len(), NAME_MAX);
    install(&n.client).unwrap();
    send(&n.client, b"a record").unwrap();
    assert_eq!(recv(&n.server, 0).unwrap(), b"a record");
    // Each has its own layer: it goes without the other.
    n.server.remove_ulp().unwrap();
    assert_eq!((ulp_name(&n.server).len(), ulp_name(&n.listener).len()), (0, NAME_MAX));
    n.listener.close();
    n.run();
    assert_eq!(n.released(), 2);
}

/// All of it is what lies below.
struct Thin;
impl Layer for Thin {}

#[test]
fn layers_lie_on_layers_and_go_from_the_top() {
    let n = net(false);
    let tcp = n.client.sock().proto().cloned();
    let thin: Arc<dyn Proto> = Arc::new(Layered::new(Thin, tcp.clone()));
    n.client.sock().lock(n.client.stack()).replace_proto(thin.clone()).unwrap();
    install(&n.client).unwrap();
    install(&n.server).unwrap();
    send(&n.client, b"through two").unwrap();
    assert_eq!(recv(&n.server, 0).unwrap(), b"through two");
    // The lower one cannot go while the other lies on it, nor can a layer come that is made for what is not uppermost.
    let mut g = n.client.sock().lock(n.client.stack());
    assert_eq!(g.restore_proto(tcp.clone()), Err(Error::Inval));
    assert_eq!(g.replace_proto(Arc::new(Layered::new(Thin, tcp.clone()))), Err(Error::Inval));
    drop(g);
    n.client.remove_ulp().unwrap();
    n.server.remove_ulp().unwrap();
    assert!(Arc::ptr_eq(&n.client.sock().proto().cloned(), &thin));
    n.client.sock().lock(n.client.stack()).restore_proto(tcp).unwrap();
    send(&n.client, b"plain").unwrap();
    assert_eq!(recv(&n.server, 0).unwrap(), b"plain");
}
