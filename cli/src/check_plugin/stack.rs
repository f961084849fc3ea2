//! A TCP beside the library's: its connections are connections of TCP, on any link and with any peer, and change hands
//! while they live. What holds of each protocol's sockets is asked of TCP's that have chosen it.

use super::part::{Must, Outcome, Part, ensure};
use super::scene::{Pair, Scene, TCP_STACK, calm, set_stack};
use super::tcp::Transfer;
use super::{cong, flow, hook, network, process, states};
use std::time::Duration;
use usersock::device::link::{Direction, LinkConfig};
use usersock::error::{Error, Result};
use usersock::net::Socket;

/// USK_TCP_OWN_OPTIONS: from here on, options are the alternative's.
const OWN_OPTIONS: i32 = 8448;
/// Name of the library's TCP.
const DEFAULT: &str = "default";

/// USK_TCP_STACK: which TCP a socket has.
fn stack_of(s: &Socket) -> Outcome<String> {
    let mut name = [0; 32];
    let len = s.getsockopt(libc::IPPROTO_TCP, TCP_STACK, &mut name).must("getsockopt of USK_TCP_STACK")?;
    let text = name.get(..len).unwrap_or_default();
    Ok(String::from_utf8_lossy(text).trim_end_matches('\0').to_owned())
}

/// Both ends of a connection have it, as their sockets chose.
fn serves(part: &Part, pair: &Pair) -> Outcome {
    for (s, end) in pair.ends.iter().zip(["client", "server"]) {
        let name = stack_of(s)?;
        ensure!(name == part.table, "the {end} chose {}, and its connection has {name}: init has refused", part.table);
    }
    Ok(())
}

pub(super) fn transfer(part: &Part) -> Outcome {
    /// A link for 100 Mbit/s takes these in an eighth of a second; window probes alone take minutes.
    const BYTES: usize = 1_500_000;
    const LONGEST: Duration = Duration::from_secs(30);
    network::bytes(part)?;
    Scene::each(part, &calm(), |scene| {
        let pair = scene.pair()?;
        serves(part, &pair)?;
        let before = scene.world.now();
        Transfer::new(scene, &pair).to(BYTES, |_| Ok(()))?;
        let took = scene.world.now() - before;
        ensure!(
            took <= LONGEST,
            "on a link for 100 Mbit/s with an RTT of 10 ms, {BYTES} bytes took {} s",
            took.as_secs()
        );
        Ok(())
    })
}

pub(super) fn bad_link(part: &Part) -> Outcome {
    network::bad_link(part)?;
    cong::bad_link(part)
}

pub(super) fn outage(part: &Part) -> Outcome {
    cong::outage(part)
}

pub(super) fn idle(part: &Part) -> Outcome {
    cong::idle(part)
}

/// Options of the connection that are off, and options of the alternative's own, of any length.
pub(super) fn options(part: &Part) -> Outcome {
    hook::options(part)?;
    Scene::each(part, &calm(), |scene| {
        let pair = scene.pair()?;
        let s = &pair.ends[0];
        for name in OWN_OPTIONS..OWN_OPTIONS + 32 {
            for len in [1usize, 3, 4, 8, 16, 100, 0] {
                // The room for no bytes comes last: what writes there all the same ends the process.
                let mut value = vec![0xff; len].into_boxed_slice();
                let got = s.getsockopt(libc::IPPROTO_TCP, name, &mut value);
                let right = got.is_err_and(|e| e != Error::Io) || got.is_ok_and(|n| n <= len);
                ensure!(right, "getsockopt of its option {name}, with room for {len} bytes, returns {got:?}");
                let set = s.setsockopt(libc::IPPROTO_TCP, name, &vec![0xff; len]);
                ensure!(set != Err(Error::Io), "setsockopt of its option {name}, with {len} bytes, returns {set:?}");
                ensure!(!s.sock().is_broken(), "its option {name}, with {len} bytes, has broken the socket");
            }
        }
        Ok(())
    })
}

/// The plug-in at one end alone; the other end has the library's TCP.
pub(super) fn one_sided(part: &Part) -> Outcome {
    hook::one_sided(part)
}

pub(super) fn close(part: &Part) -> Outcome {
    states::states_shut(part)?;
    states::states_peer_closed(part)?;
    hook::close(part)
}

/// Changes a live connection's TCP: done, or EBUSY, and then nothing has changed.
fn change(s: &Socket, to: &str) -> Outcome<Result<()>> {
    let before = stack_of(s)?;
    let r = set_stack(s, to);
    ensure!(matches!(r, Ok(()) | Err(Error::Busy)), "USK_TCP_STACK {to} on a live connection returns {r:?}");
    let (now, want) = (stack_of(s)?, if r.is_ok() { to } else { &before });
    ensure!(now == want, "USK_TCP_STACK {to} on a live connection returns {r:?}, and then it has {now}, not {want}");
    Ok(r)
}

/// Each time with packets under way, and some of them lost.
pub(super) fn switch(part: &Part) -> Outcome {
    let way = Direction::default().rate(10_000_000).delay(Duration::from_millis(10)).queue_bytes(40_000);
    for way in [way, way.loss(0.02).reorder(0.02)] {
        Scene::each(part, &LinkConfig::both(way), |scene| {
            let pair = network::unlucky_pair(scene)?;
            let mut transfer = Transfer::new(scene, &pair);
            for i in 0..24 {
                let to = if i % 2 == 0 { DEFAULT } else { &part.table };
                for s in &pair.ends {
                    let _ = change(s, to)?;
                }
                // It ends in the middle: more than this is on its way.
                transfer.during(Duration::from_millis(150), |_| Ok(()))?;
            }
            let end = transfer.got() + 200_000;
            transfer.to(end, |_| Ok(()))
        })?;
    }
    // All that is in flight when it changes hands is lost: the one that takes over must send it again.
    Scene::each(part, &calm(), |scene| {
        for to in [&part.table, DEFAULT] {
            let pair = scene.pair()?;
            pair.ends
                .iter()
                .try_for_each(|s| change(s, if to == DEFAULT { &part.table } else { DEFAULT }).map(drop))?;
            for end in &scene.ends {
                end.link.set_direction(Direction::default().loss(1.0)).must("the link")?;
            }
            let mut transfer = Transfer::new(scene, &pair);
            transfer.during(Duration::from_millis(5), |_| Ok(()))?;
            pair.ends.iter().try_for_each(|s| change(s, to).map(drop))?;
            for end in &scene.ends {
                end.link.set_direction(calm_way()).must("the link")?;
            }
            transfer.to(200_000, |_| Ok(()))?;
            drop(pair);
            scene.ends_clean()?;
        }
        Ok(())
    })
}

fn calm_way() -> Direction {
    Direction::default().rate(100_000_000).delay(Duration::from_millis(5))
}

pub(super) fn repeat(part: &Part) -> Outcome {
    network::repeat(part)
}

/// A socket that has chosen it keeps it loaded, from its first moment on.
pub(super) fn unload(part: &Part) -> Outcome {
    let scene = Scene::new(part, &calm(), false)?;
    let busy = |host: usize, what: &str| {
        let r = scene.unload(host);
        ensure!(r == Err(Error::Busy), "with {what} that has it, unloading returns {r:?}, and not EBUSY");
        Ok(())
    };
    let s = scene.socket_on(0)?;
    busy(0, "a new socket")?;
    set_stack(&s, DEFAULT).must("USK_TCP_STACK default, of a new socket")?;
    drop(s);
    let pair = scene.pair()?;
    (0..2).try_for_each(|host| busy(host, "a connection"))?;
    flow_some(&scene, &pair)?;
    // The library's takes its place: then it is not in use.
    pair.listener.as_ref().map_or(Ok(()), |l| set_stack(l, DEFAULT)).must("USK_TCP_STACK default, of a listener")?;
    let given = [change(&pair.ends[0], DEFAULT)?, change(&pair.ends[1], DEFAULT)?];
    for (host, given) in given.iter().enumerate() {
        match given {
            Ok(()) => scene.unload(host).must("no connection has it, unloading")?,
            Err(_) => busy(host, "a connection that it does not give away")?,
        }
    }
    if given == [Ok(()); 2] {
        let r = set_stack(&pair.ends[0], &part.table);
        ensure!(r == Err(Error::NoEnt), "it is unloaded, and USK_TCP_STACK returns {r:?}, and not ENOENT");
    }
    flow::connection(&scene, &pair, 50_000)?;
    drop(pair);
    scene.ends_clean()?;
    for (host, given) in given.iter().enumerate() {
        if given.is_err() {
            scene.unload(host).must("all is closed, unloading")?;
        }
    }
    Ok(())
}

/// A short exchange that leaves the connection as it was.
fn flow_some(scene: &Scene, pair: &Pair) -> Outcome {
    for end in 0..2 {
        pair.send(end, b"still there", 0).must("send, when unloading was refused,")?;
        scene.settle();
        let r = pair.recv(1 - end, libc::MSG_DONTWAIT).must("recv, when unloading was refused,")?;
        ensure!(r.bytes == b"still there", "when unloading was refused, {:?} is received", r.bytes);
    }
    Ok(())
}

pub(super) fn memory(part: &Part) -> Outcome {
    process::memory(part)
}
