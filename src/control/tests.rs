use super::*;
use crate::base::env::Duration as Span;
use crate::config;
use crate::counters::Mib;
use crate::device::link::{Direction, LinkConfig};
use crate::inet::Socket;
use crate::net::{TcpListener, TcpStream};
use crate::sim::World;
use crate::sock::msg::SendMsg;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

/// A directory of mode 0700, removed with what is in it.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let dir = std::env::temp_dir().join(format!("usersock-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::DirBuilder::new().mode(0o700).create(&dir).unwrap();
        Dir(dir)
    }
    fn socket(&self) -> PathBuf {
        self.0.join("control")
    }
    fn stack(&self) -> Arc<Stack> {
        config::build(&format!("control={}", self.socket().display())).unwrap()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Peer(BufReader<UnixStream>);

impl Peer {
    fn new(path: &Path) -> Peer {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut peer = Peer(BufReader::new(stream));
        assert!(peer.line().starts_with("{\"usersock\":1,\"version\":\""));
        peer
    }
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
    /// The lines of a reply but for the last, which is `{"end":true}`; or the error's line.
    fn ask(&mut self, request: &str) -> Result<Vec<String>, String> {
        self.0.get_mut().write_all(format!("{request}\n").as_bytes()).unwrap();
        let mut lines = Vec::new();
        loop {
            match self.line() {
                line if line == "{\"end\":true}" => return Ok(lines),
                line if line.starts_with("{\"error\":") => return Err(line),
                line => lines.push(line),
            }
            assert!(lines.last().is_some_and(|l| l.starts_with('{')), "{lines:?}");
        }
    }
}

#[test]
fn requests_are_answered_or_refused_in_a_line() {
    let dir = Dir::new("requests");
    let stack = dir.stack();
    let mut peer = Peer::new(&dir.socket());
    assert_eq!(peer.ask("sockets"), Ok(vec![]));
    let file = dir.0.join("lo.pcap");
    for (request, want) in [
        ("", Err("EINVAL\",\"message\":\"\\\"\\\" is no request of this version")),
        ("sockets all", Err("EINVAL\",\"message\":\"sockets all: not the number of a socket")),
        ("sysctl net.ipv4.tcp_sack", Ok("{\"name\":\"net.ipv4.tcp_sack\",\"value\":\"1\",\"default\":\"1\"")),
        ("sysctl net.ipv4.tcp_sack=0", Ok("{\"name\":\"net.ipv4.tcp_sack\",\"value\":\"0\",\"default\":\"1\"")),
        ("sysctl net.ipv4.tcp_sakc", Err("ENOENT\",\"message\":\"net.ipv4.tcp_sakc: ")),
        ("sysctl net.ipv4.tcp_sack=x", Err("EINVAL\",\"message\":\"net.ipv4.tcp_sack: ")),
        ("kill", Err("EINVAL")),
        ("kill 1 2 3", Err("EINVAL")),
        ("kill 1 127.0.0.1:1 -", Err("ENOENT")),
        ("kill 0 127.0.0.1:1 127.0.0.1:2", Err("ENOENT")),
        ("pcap stop lo", Err("EINVAL\",\"message\":\"no capture of lo is running")),
        ("pcap start eth9 /tmp/x", Err("ENODEV\",\"message\":\"there is no device \\\"eth9\\\", only lo")),
        ("pcap start - relative", Err("EINVAL\",\"message\":\"relative: not an absolute name")),
        ("pcap start - /nonexistent/x", Err("ENOENT\",\"message\":\"/nonexistent/x: No such file")),
        (&format!("pcap start lo {}", file.display()), Ok("{\"device\":\"lo\",\"file\":\"")),
        ("pcap start lo /tmp/x", Err("EBUSY\",\"message\":\"a capture of lo is running")),
        ("pcap stop -", Ok("{\"device\":\"lo\"}")),
        ("accounts", Ok("{\"protocol\":")),
        ("protocols", Ok("{\"protocol\":\"PING\",\"size\":")),
        (&"x".repeat(5000), Err("EMSGSIZE")),
    ] {
        match (peer.ask(request), want) {
            (Ok(lines), Ok(head)) => assert!(lines[0].starts_with(head), "{request}: {lines:?}"),
            (Err(line), Err(head)) => assert!(line.starts_with(&format!("{{\"error\":\"{head}")), "{request}: {line}"),
            (got, want) => panic!("{request}: {got:?}, not {want:?}"),
        }
    }
    assert_eq!(stack.sysctl.get("net.ipv4.tcp_sack").unwrap(), "0");
    assert!(fs::metadata(&file).unwrap().len() >= 24, "a whole capture");
    assert_eq!(peer.line(), "", "one that sends too much is hung up on");
    assert_eq!(Peer::new(&dir.socket()).ask("sysctl").unwrap().len(), stack.sysctl.list().len());
}

#[test]
fn the_low_descriptors_are_left_to_the_program() {
    let dir = Dir::new("numbers");
    let (listener, _file) = file::listen(&dir.socket()).unwrap();
    let _peer = UnixStream::connect(dir.socket()).unwrap();
    let accepted = unix::accept(&listener).unwrap();
    for fd in [&listener, &accepted] {
        assert!(fd.raw() >= 128, "{}", fd.raw());
    }
}

/// Hooks that do nothing.
struct Named(&'static str);

impl crate::tcp::sock_ops::SockOps for Named {
    fn name(&self) -> &str {
        self.0
    }
}

#[test]
fn the_list_has_each_socket_with_what_tcp_knows_of_it_and_kill_ends_one() {
    let dir = Dir::new("sockets");
    let stack = dir.stack();
    for name in ["first", "second"] {
        crate::tcp::sock_ops::register(&stack, Arc::new(Named(name))).unwrap();
    }
    let listener = TcpListener::bind_on(&stack, "127.0.0.1:80").unwrap();
    let mut client = TcpStream::connect_on(&stack, "127.0.0.1:80").unwrap();
    let (mut server, from) = listener.accept().unwrap();
    server.write_all(b"hello").unwrap();
    let mut peer = Peer::new(&dir.socket());
    let lines = peer.ask("sockets").unwrap();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[0].contains("\"state\":\"LISTEN\",\"recv_q\":0,\"send_q\":"), "{}", lines[0]);
    assert!(lines[1].contains("\"local\":\"127.0.0.1\",\"local_port\":80,\"peer\":\"127.0.0.1\",\"peer_port\":"));
    for part in [
        "\"cong\":\"cubic\"",
        "\"hooks\":\"first,second\",",
        "\"tcp_info\":{\"state\":1,",
        "\"bytes_sent\":5,",
        "\"skmem\":{\"r\":0,\"rb\":",
    ] {
        assert!(lines[1].contains(part), "{part} in {}", lines[1]);
    }
    assert!(lines[2].contains("\"recv_q\":5,"), "{}", lines[2]);
    let id = |line: &str| line.split("\"id\":").nth(1).unwrap().split(',').next().unwrap().to_owned();
    assert_eq!(peer.ask(&format!("sockets {}", id(&lines[0]))).unwrap()[..], lines[..1]);
    assert_eq!(peer.ask("sockets 1"), Ok(vec![]));
    // The number of one with the ends of another names none.
    assert!(peer.ask(&format!("kill {} 127.0.0.1:80 {from}", id(&lines[0]))).unwrap_err().contains("ENOENT"));
    assert_eq!(peer.ask(&format!("kill {} 127.0.0.1:80 {from}", id(&lines[1]))).unwrap().len(), 1);
    assert_eq!(server.write(b"x").unwrap_err().raw_os_error(), Some(libc::ECONNABORTED));
    let mut five = [0; 5];
    client.read_exact(&mut five).unwrap_or_else(|e| assert_eq!(e.raw_os_error(), Some(libc::ECONNRESET)));
    // The listener too; then there is nothing.
    assert_eq!(peer.ask(&format!("kill {} 127.0.0.1:80 -", id(&lines[0]))).unwrap().len(), 1);
    assert_eq!(peer.ask("sockets"), Ok(vec![]));
}

#[test]
fn a_fin_that_waits_to_be_read_is_in_the_queue() {
    let dir = Dir::new("fin");
    let stack = dir.stack();
    let listener = TcpListener::bind_on(&stack, "127.0.0.1:80").unwrap();
    let mut client = TcpStream::connect_on(&stack, "127.0.0.1:80").unwrap();
    let (mut server, _) = listener.accept().unwrap();
    client.write_all(b"hello").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut peer = Peer::new(&dir.socket());
    for queue in [6, 0] {
        let lines = peer.ask("sockets").unwrap();
        let line = lines.iter().find(|line| line.contains("\"state\":\"CLOSE-WAIT\"")).unwrap();
        assert!(line.contains(&format!("\"recv_q\":{queue},\"send_q\":0,")), "{line}");
        server.read_to_end(&mut Vec::new()).unwrap();
    }
}

#[test]
fn a_closed_connection_is_listed_with_its_time_and_can_be_forgotten() {
    let dir = Dir::new("timewait");
    let stack = dir.stack();
    let listener = TcpListener::bind_on(&stack, "127.0.0.1:80").unwrap();
    let client = TcpStream::connect_on(&stack, "127.0.0.1:80").unwrap();
    let (server, from) = listener.accept().unwrap();
    drop(server);
    drop(client);
    let mut peer = Peer::new(&dir.socket());
    let lines = peer.ask("sockets").unwrap();
    let waits = lines.iter().find(|l| l.contains("\"state\":\"TIME-WAIT\"")).unwrap();
    assert!(waits.contains("\"id\":0,\"timer\":{\"name\":\"timewait\",\"ms\":"), "{waits}");
    assert_eq!(peer.ask(&format!("kill 0 127.0.0.1:80 {from}")).unwrap().len(), 1);
    assert_eq!(peer.ask("sockets").unwrap().len(), 1, "the listener");
}

#[test]
fn counters_are_kept_by_mark_alone() {
    let dir = Dir::new("counters");
    let stack = dir.stack();
    let mut peer = Peer::new(&dir.socket());
    stack.mib.add(Mib::UdpNoPorts, 3);
    let ask = |peer: &mut Peer, what| peer.ask(what).unwrap().remove(0);
    let first = ask(&mut peer, "counters");
    assert!(first.contains("\"UdpNoPorts\":3,") && first.contains("\"history\":{}"), "{first}");
    assert!(ask(&mut peer, "mark").contains("\"history\":{}"));
    stack.mib.add(Mib::UdpNoPorts, 1);
    let then = ask(&mut peer, "counters");
    let (now, history) = then.split_once("\"history\":").unwrap();
    assert!(now.contains("\"UdpNoPorts\":4,") && history.contains("\"UdpNoPorts\":3,"), "{then}");
}

#[test]
fn clients_that_hang_or_send_rubbish_keep_nobody_waiting() {
    let dir = Dir::new("hostile");
    let _stack = dir.stack();
    let path = dir.socket();
    // As many as are served, less one: of each kind several. They stay until the end.
    let mut bad = Vec::new();
    for i in 0..CLIENTS - 1 {
        let mut s = UnixStream::connect(&path).unwrap();
        let _ = match i % 3 {
            0 => Ok(()),
            1 => s.write_all(&[0xff; 3000]),
            // Asks more than it reads.
            _ => {
                s.set_nonblocking(true).unwrap();
                (0..2000).try_for_each(|_| s.write_all(b"sysctl\n"))
            }
        };
        bad.push(s);
    }
    let mut good = Peer::new(&path);
    for _ in 0..20 {
        assert!(good.ask("sysctl net.ipv4.tcp_sack").is_ok());
    }
    // Requests that come together are answered one by one.
    good.0.get_mut().write_all(b"sysctl net.ipv4.tcp_sack\n\nsockets\n").unwrap();
    let heads = ["{\"name\"", "{\"end\"", "{\"error\"", "{\"end\""];
    heads.iter().for_each(|head| assert!(good.line().starts_with(head), "{head}"));
    // One that has said all it will say gets its reply.
    let mut half = Peer::new(&path);
    half.0.get_mut().write_all(b"sockets\n").unwrap();
    half.0.get_mut().shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!((half.line(), half.line()), ("{\"end\":true}".to_owned(), String::new()));
    drop(good);
    // All places taken by those that say nothing: the next waits until their patience is over.
    bad.extend((0..CLIENTS).map(|_| UnixStream::connect(&path).unwrap()));
    assert!(Peer::new(&path).ask("sockets").is_ok());
}

#[test]
fn the_socket_is_this_users_alone_and_its_directory_must_be() {
    let dir = Dir::new("modes");
    let made = dir.0.join("made/control");
    let stack = config::build(&format!("control={}", made.display())).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!((mode(made.parent().unwrap()), mode(&made)), (0o700, 0o600));
    let refusal = |path: &Path| {
        let text = format!("control={}", path.display());
        let e = config::build(&text).err().unwrap();
        let checked = config::Config::parse(&text).unwrap().check();
        (e.message, e.error, checked.is_err())
    };
    let served = refusal(&made);
    assert!(
        served.0.ends_with("another stack's control socket is there") && served.1 == Error::AddrInUse,
        "{served:?}"
    );
    let twice = serve(&stack, &dir.socket()).unwrap_err();
    assert_eq!((twice.error, dir.socket().exists()), (Error::Busy, false));
    for bits in [0o701, 0o770, 0o755] {
        fs::set_permissions(&dir.0, Permissions::from_mode(bits)).unwrap();
        let (message, error, checked) = refusal(&dir.socket());
        let want = format!("is open to others (mode {bits:04o}); it must have mode 0700");
        assert!(message.ends_with(&want) && error == Error::Acces && checked, "{message}");
    }
    fs::set_permissions(&dir.0, Permissions::from_mode(0o700)).unwrap();
    fs::write(dir.socket(), "precious").unwrap();
    assert_eq!(refusal(&dir.socket()).1, Error::AddrInUse);
    assert_eq!(fs::read(dir.socket()).unwrap(), b"precious");
    let (message, error, checked) = refusal(&dir.0.join("not/there/control"));
    assert!(message.contains("cannot be made: No such file") && error == Error::NoEnt && checked, "{message}");
    let long = dir.0.join("x".repeat(120));
    assert_eq!(refusal(&long).1, Error::NameTooLong);
    assert!(refusal(Path::new("/")).0.ends_with("not the name of a file"));
}

#[test]
fn a_stale_socket_is_replaced_and_the_file_goes_with_the_stack() {
    let dir = Dir::new("stale");
    // A listener that is closed leaves its file; one that nobody serves takes connections and says nothing.
    drop(UnixListener::bind(dir.socket()).unwrap());
    drop(dir.stack());
    assert!(!dir.socket().exists());
    let silent = UnixListener::bind(dir.socket()).unwrap();
    let stack = dir.stack();
    assert!(Peer::new(&dir.socket()).ask("sockets").is_ok());
    drop(silent);
    let other = fs::metadata(dir.socket()).unwrap().ino();
    // What another process has put there meanwhile is not removed.
    fs::remove_file(dir.socket()).unwrap();
    let _new = UnixListener::bind(dir.socket()).unwrap();
    assert_ne!(fs::metadata(dir.socket()).unwrap().ino(), other);
    drop(stack);
    assert!(dir.socket().exists());
}

#[test]
fn the_stack_ends_while_clients_are_connected() {
    let dir = Dir::new("ends");
    let stack = dir.stack();
    let (mut asks, mut traces) = (Peer::new(&dir.socket()), Peer::new(&dir.socket()));
    assert!(asks.ask("sockets").is_ok());
    traces.0.get_mut().write_all(b"trace\n").unwrap();
    assert_eq!(traces.line(), "{\"trace\":true}");
    let weak = Arc::downgrade(&stack);
    drop(stack);
    assert_eq!((asks.line(), traces.line(), weak.strong_count()), (String::new(), String::new(), 0));
}

#[test]
fn a_trace_says_why_segments_are_sent_again_and_why_packets_are_dropped() {
    let world = World::new(7);
    let lossy = Direction::default().delay(Span::from_millis(10)).loss(0.05);
    let [(a, _), (b, end)] = world.two(&LinkConfig::both(lossy)).unwrap();
    let listener = b.mib.trace.listen(b.clock.clone(), || ());
    let sender = a.mib.trace.listen(a.clock.clone(), || ());
    let at = SocketAddr::new(end.v4.into(), 80);
    let server = Socket::new(&b, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
    server.bind(at).unwrap();
    server.listen(4).unwrap();
    let client = Socket::new(&a, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
    client.connect(Some(at)).unwrap();
    let data = vec![7; 60_000];
    client.sendmsg(&mut SendMsg::new(&[IoSlice::new(&data)], 0)).unwrap();
    world.run_for(Span::from_secs(30));
    // To a port where nobody listens.
    let nobody = Socket::new(&a, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
    while nobody.connect(Some(SocketAddr::new(end.v4.into(), 81))).is_err_and(|e| e != Error::ConnRefused) {}
    let lines = |l: &crate::trace::Listener| std::iter::from_fn(|| events::next(l)).collect::<Vec<_>>();
    let (sent, got) = (lines(&sender), lines(&listener));
    let has = |all: &[String], part: &str| all.iter().filter(|l| l.contains(part)).count();
    for step in ["\"oldstate\":\"TCP_CLOSE\",\"newstate\":\"TCP_SYN_SENT\"", "\"newstate\":\"TCP_ESTABLISHED\""] {
        assert!(has(&sent, step) > 0, "{step}: {sent:#?}");
    }
    let resent = has(&sent, "\"event\":\"tcp:tcp_retransmit_skb\"") as u64;
    assert!(resent > 0 && has(&sent, "\"reason\":\"fast-retransmit\",\"seq\":") > 0, "{sent:#?}");
    // An event is a super-packet of one or more segments.
    assert!(resent <= a.mib.get(Mib::TcpRetransSegs), "{sent:#?}");
    let place = "\"event\":\"skb:kfree_skb\",\"reason\":\"NO_SOCKET\",\"location\":\"src/tcp/rcv.rs:";
    assert_eq!(has(&got, place) as u64, b.mib.drops(crate::counters::DropReason::NoSocket), "{got:#?}");
    assert!(has(&got, place) > 0, "{got:#?}");
}
