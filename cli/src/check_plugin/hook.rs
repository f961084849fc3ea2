//! Hooks into TCP: whatever they do, a connection is one, with a peer that has them and with one that has not. What
//! holds of each protocol's sockets is asked of TCP's with the hooks in place.

use super::part::{Finding, Must, Outcome, Part, ensure};
use super::scene::{Scene, TCP_HOOKS, TCP_HOOKS_DETACH, calm, set_tcp};
use super::{flow, network, process, states};
use std::time::Duration;
use usersock::device::link::{Direction, LinkConfig};
use usersock::error::Error;

pub(super) fn transfer(part: &Part) -> Outcome {
    network::bytes(part)?;
    network::bad_link(part)
}

/// The plug-in at one end alone.
pub(super) fn one_sided(part: &Part) -> Outcome {
    let way = Direction::default().rate(20_000_000).delay(Duration::from_millis(5)).loss(0.02).reorder(0.02);
    for has in [[true, false], [false, true]] {
        for link in [calm(), LinkConfig::both(way)] {
            for v6 in [false, true] {
                let scene = Scene::with(part, &link, v6, has)?;
                let pair = network::unlucky_pair(&scene)?;
                flow::connection(&scene, &pair, 60_000)?;
                drop(pair);
                scene.finish()?;
            }
        }
    }
    Ok(())
}

/// What else wants room in TCP's header, or leaves none.
pub(super) fn options(part: &Part) -> Outcome {
    for settings in [
        &[("net.ipv4.tcp_timestamps", "0"), ("net.ipv4.tcp_sack", "0")][..],
        &[("net.ipv4.tcp_window_scaling", "0")],
        &[("net.ipv4.tcp_syncookies", "2")],
        &[("net.ipv4.tcp_ecn", "1")],
        &[("net.ipv4.tcp_fastopen", "1027")],
    ] {
        let way = Direction::default().rate(20_000_000).delay(Duration::from_millis(5)).loss(0.05).reorder(0.05);
        for link in [calm(), LinkConfig::both(way), calm().mtu(576)] {
            let named = |f| match f {
                Finding::Wrong(why) => Finding::Wrong(format!("with {settings:?}, MTU {}: {why}", link.mtu)),
                unchecked => unchecked,
            };
            let scene = Scene::new(part, &link, false)?;
            let act = || {
                settings.iter().try_for_each(|(name, value)| scene.sysctl(name, value))?;
                let pair = network::unlucky_pair(&scene)?;
                flow::connection(&scene, &pair, 40_000)?;
                drop(pair);
                scene.finish()
            };
            act().map_err(named)?;
        }
    }
    Ok(())
}

/// Hooks of chosen sockets alone come to a connection and leave it while bytes are under way.
pub(super) fn attach(part: &Part) -> Outcome {
    let way = Direction::default().rate(20_000_000).delay(Duration::from_millis(5)).loss(0.02);
    for link in [calm(), LinkConfig::both(way)] {
        let scene = Scene::new(part, &link, false)?;
        let pair = network::unlucky_pair(&scene)?;
        for (round, s) in [0, 1, 0, 1, 1, 0].iter().map(|end| &pair.ends[*end]).enumerate() {
            pair.send(0, &[round as u8; 5000], libc::MSG_DONTWAIT).must("send")?;
            match set_tcp(s, TCP_HOOKS_DETACH, &part.table) {
                Err(Error::NoEnt) if round == 0 => {
                    return Err(Finding::Unchecked("the hooks are for all sockets".to_owned()));
                }
                r => r.must("USK_TCP_HOOKS_DETACH, on a live connection")?,
            }
            let again = set_tcp(s, TCP_HOOKS_DETACH, &part.table);
            ensure!(again == Err(Error::NoEnt), "detached, USK_TCP_HOOKS_DETACH returns {again:?}, and not ENOENT");
            pair.send(0, &[round as u8; 5000], libc::MSG_DONTWAIT).must("send")?;
            set_tcp(s, TCP_HOOKS, &part.table).must("USK_TCP_HOOKS, on a live connection")?;
            scene.settle();
            let mut got = 0;
            let all = scene.until(Duration::from_secs(600), || {
                while let Ok(r) = pair.recv(1, libc::MSG_DONTWAIT) {
                    got += r.bytes.iter().filter(|b| **b == round as u8).count();
                }
                (got == 10_000).then_some(())
            });
            ensure!(all.is_some(), "attached and detached, {got} of 10000 bytes arrive");
        }
        flow::connection(&scene, &pair, 100_000)?;
        drop(pair);
        scene.finish()?;
    }
    Ok(())
}

pub(super) fn close(part: &Part) -> Outcome {
    states::close(part)?;
    states::close_cut_off(part)
}

pub(super) fn repeat(part: &Part) -> Outcome {
    network::repeat(part)
}

/// Hooks are never in use: a connection loses them, and goes on.
pub(super) fn unload(part: &Part) -> Outcome {
    for host in [0, 1] {
        let scene = Scene::new(part, &calm(), false)?;
        let pair = scene.pair()?;
        pair.send(0, b"with it", 0).must("send")?;
        scene.settle();
        scene.unload(host).must("with a live connection, unloading")?;
        let r = pair.recv(1, libc::MSG_DONTWAIT).must("unloaded, recv")?;
        ensure!(r.bytes == b"with it", "unloaded, the connection delivers {:?}", r.bytes);
        flow::connection(&scene, &pair, 100_000)?;
        drop(pair);
        scene.ends_clean()?;
        scene.unload(1 - host).must("unloading at the other end")?;
    }
    Ok(())
}

pub(super) fn memory(part: &Part) -> Outcome {
    process::memory(part)
}
