//! The search for a local port of a connection where many are taken: which one it chooses, as Linux 6.18 does, and how
//! many it holds on the way.

use super::*;
use std::sync::atomic::Ordering;

/// Twenty ports, of which a search looks at the ten even ones first.
const RANGE: &str = "40000 40019";
const OF_PARITY: usize = 10;

fn range() -> (Net, Socket, SocketAddr) {
    let n = net();
    n.stack.sysctl.set("net.ipv4.ip_local_port_range", RANGE).unwrap();
    let l = n.socket(libc::AF_INET);
    let at = SocketAddr::new(LO, 80);
    l.bind(at).unwrap();
    l.listen(64).unwrap();
    (n, l, at)
}

/// Connects; the client's port, and how many ports were held in the search.
fn connect(n: &Net, c: &Socket, to: SocketAddr) -> Result<(u16, i64), Error> {
    let held = || crate::tcp::net::of(&n.stack).unwrap().hashinfo.bhash.binds_for_connect.load(Ordering::Relaxed);
    let before = held();
    match c.connect(Some(to)) {
        Ok(()) | Err(Error::InProgress) => {}
        Err(e) => {
            assert_eq!(held() - before, 0, "{e:?}");
            return Err(e);
        }
    }
    n.run(Duration::from_millis(1));
    Ok((c.local_addr()?.port(), held() - before))
}

/// Both ends of a connection from each even port.
fn fill(n: &Net, l: &Socket, at: SocketAddr) -> Vec<(Socket, Socket)> {
    let open = |_| {
        let c = n.socket(libc::AF_INET);
        let (port, held) = connect(n, &c, at).unwrap();
        assert!(port.is_multiple_of(2) && held == 1, "{port} {held}");
        (c, l.accept().unwrap().0)
    };
    (0..OF_PARITY).map(open).collect()
}

/// What has become of the connections from the even ports.
#[derive(Clone, Copy, PartialEq)]
enum Taken {
    Open,
    /// The client closed first, so long ago, ms.
    TimeWait(u64),
    /// The server closed first.
    Closed,
}

#[test]
fn a_search_past_taken_ports_holds_none_of_them() {
    let young = Taken::TimeWait(900);
    let old = Taken::TimeWait(1_100);
    for (taken, tw_reuse, timestamps, even) in [
        (Taken::Open, "2", "1", false),
        (Taken::Open, "1", "1", false),
        (Taken::Closed, "0", "1", true),
        (old, "0", "1", false),
        (young, "1", "1", false),
        (old, "1", "1", true),
        (young, "2", "1", false),
        (old, "2", "1", true),
        (old, "1", "0", false),
    ] {
        let (n, l, at) = range();
        n.stack.sysctl.set("net.ipv4.tcp_tw_reuse", tw_reuse).unwrap();
        n.stack.sysctl.set("net.ipv4.tcp_timestamps", timestamps).unwrap();
        let mut ends = fill(&n, &l, at);
        if taken != Taken::Open {
            for (c, s) in ends.drain(..) {
                let (first, second) = if taken == Taken::Closed { (s, c) } else { (c, s) };
                first.close();
                n.run(Duration::from_micros(10));
                second.close();
                n.run(Duration::from_micros(10));
            }
        }
        if let Taken::TimeWait(ms) = taken {
            n.run(Duration::from_millis(ms));
        }
        let c = n.socket(libc::AF_INET);
        let (port, held) = connect(&n, &c, at).unwrap();
        let recycled = u64::from(even && taken == old);
        let case = (tw_reuse, timestamps, port, held);
        assert!(port.is_multiple_of(2) == even && held == 1, "{case:?}");
        assert_eq!(n.mib(Mib::TcpExtTWRecycled), recycled, "{case:?}");
        assert_eq!(c.peer_addr(), Ok(at), "{case:?}");
    }
}

#[test]
fn a_range_without_a_free_port_holds_none_and_another_peer_has_all_of_it() {
    let (n, l, at) = range();
    let mut all: Vec<_> = fill(&n, &l, at);
    for _ in 0..OF_PARITY {
        let c = n.socket(libc::AF_INET);
        let (port, held) = connect(&n, &c, at).unwrap();
        assert!(!port.is_multiple_of(2) && held == 1, "{port} {held}");
        all.push((c, l.accept().unwrap().0));
    }
    let c = n.socket(libc::AF_INET);
    assert_eq!(connect(&n, &c, at), Err(Error::AddrNotAvail));
    let other = n.socket(libc::AF_INET);
    let to = SocketAddr::new(LO, 81);
    other.bind(to).unwrap();
    other.listen(64).unwrap();
    all.extend(fill(&n, &other, to));
}
