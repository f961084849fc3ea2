//! Congestion controls of TCP: transfers end, whatever the link does, and the window keeps to what it must.

use super::network::unlucky_pair;
use super::part::{Finding, Must, Outcome, Part, ensure};
use super::scene::{PORT, Scene, calm, set_congestion};
use super::tcp::{Info, Transfer};
use super::{network, process};
use std::time::Duration;
use usersock::device::link::{Direction, LinkConfig};
use usersock::error::Error;

/// The window is never none, and grows no faster than by what has been delivered: in a round trip it may at most double
/// twice.
fn within_bounds(info: &Info) -> Outcome {
    let (cwnd, delivered) = (info.cwnd(), info.delivered());
    ensure!(cwnd > 0, "the congestion window is 0");
    let most = 64 + 4 * u64::from(delivered);
    ensure!(u64::from(cwnd) <= most, "when {delivered} segments had been delivered, the window was {cwnd} segments");
    Ok(())
}

fn v4(part: &Part, link: &LinkConfig, act: impl Fn(&Scene) -> Outcome) -> Outcome {
    let scene = Scene::new(part, link, false)?;
    act(&scene)?;
    scene.finish()
}

fn named(what: &str) -> impl Fn(Finding) -> Finding {
    move |f| match f {
        Finding::Wrong(why) => Finding::Wrong(format!("{what}: {why}")),
        unchecked => unchecked,
    }
}

pub(super) fn transfer(part: &Part) -> Outcome {
    Scene::each(part, &calm(), |scene| {
        let pair = scene.pair()?;
        Transfer::new(scene, &pair).to(1_500_000, within_bounds)
    })
}

/// A path of 5 Mbit/s and 40 ms, with a queue of 50 kB: 25 kB and 50 kB of it are 50 segments.
pub(super) fn loss(part: &Part) -> Outcome {
    const CAPACITY: u32 = 50;
    let way = Direction::default().rate(5_000_000).delay(Duration::from_millis(20)).queue_bytes(50_000);
    v4(part, &LinkConfig::both(way), |scene| {
        let buffers = "4096 4194304 33554432";
        scene.sysctl("net.ipv4.tcp_rmem", buffers)?;
        scene.sysctl("net.ipv4.tcp_wmem", buffers)?;
        let pair = scene.pair()?;
        let (mut overflowed, mut least) = (0, u32::MAX);
        let mut transfer = Transfer::new(scene, &pair);
        transfer.during(Duration::from_secs(12), |info| {
            ensure!(info.cwnd() > 0, "the congestion window is 0");
            overflowed = scene.ends[0].link.fate().overflowed;
            if overflowed > 0 {
                least = least.min(info.cwnd());
            }
            Ok(())
        })?;
        let sent = scene.ends[0].link.fate().sent;
        ensure!(overflowed * 4 < sent, "of {sent} packets {overflowed} overflowed the queue: it does not give way");
        ensure!(
            overflowed == 0 || least < CAPACITY,
            "the queue has overflowed, and the window never was below {least}: path and queue hold {CAPACITY} segments"
        );
        let got = transfer.got();
        ensure!(got > 1_500_000, "of a path for 7.5 MB in 12 s it has used {got} bytes");
        Ok(())
    })
}

pub(super) fn bad_link(part: &Part) -> Outcome {
    let way = Direction::default().rate(20_000_000).delay(Duration::from_millis(10)).queue_bytes(60_000);
    for (what, way) in [
        ("loss", way.loss(0.03)),
        ("much loss", way.loss(0.1)),
        ("reordering", way.reorder(0.1).reorder_by(Duration::from_millis(25))),
        ("duplicates", way.duplicate(0.1)),
        ("corruption", way.corrupt(0.03)),
        ("ECN marks", way.ecn_threshold(15_000)),
        ("ECN marks on every packet", way.ecn_threshold(1)),
    ] {
        v4(part, &LinkConfig::both(way), |scene| {
            scene.sysctl("net.ipv4.tcp_ecn", "1")?;
            let pair = unlucky_pair(scene)?;
            Transfer::new(scene, &pair).to(200_000, within_bounds)
        })
        .map_err(named(what))?;
    }
    Ok(())
}

/// Retransmission timeouts, and an undo where one was needless.
pub(super) fn outage(part: &Part) -> Outcome {
    let way = Direction::default().rate(10_000_000).delay(Duration::from_millis(20)).queue_bytes(60_000);
    for (what, worse) in [
        ("a link that fails for 8 s", Direction::default().loss(1.0)),
        ("a path that is slow for 8 s", way.delay(Duration::from_millis(900))),
    ] {
        v4(part, &LinkConfig::both(way), |scene| {
            let pair = scene.pair()?;
            let mut transfer = Transfer::new(scene, &pair);
            for i in 1..4 {
                transfer.to(i * 150_000, within_bounds)?;
                let set = |way| scene.ends.iter().try_for_each(|e| e.link.set_direction(way)).must("the link");
                set(worse)?;
                transfer.during(Duration::from_secs(8), |info| {
                    ensure!(info.cwnd() > 0, "the congestion window is 0");
                    Ok(())
                })?;
                set(way)?;
                // What was queued meanwhile goes first.
                let sent = transfer.got() + 150_000;
                transfer.to(sent, |info| {
                    ensure!(info.cwnd() > 0, "the congestion window is 0");
                    Ok(())
                })?;
            }
            Ok(())
        })
        .map_err(named(what))?;
    }
    Ok(())
}

pub(super) fn idle(part: &Part) -> Outcome {
    v4(part, &calm(), |scene| {
        let pair = scene.pair()?;
        let mut transfer = Transfer::new(scene, &pair);
        for i in 1..4 {
            transfer.to(i * 100_000, within_bounds)?;
            scene.world.run_for(Duration::from_secs(30));
        }
        for i in 0..50 {
            transfer.to(300_000 + (i + 1) * 500, within_bounds)?;
            scene.world.run_for(Duration::from_millis(40));
        }
        transfer.to(600_000, within_bounds)
    })
}

pub(super) fn switch(part: &Part) -> Outcome {
    let way = Direction::default().rate(10_000_000).delay(Duration::from_millis(10)).queue_bytes(40_000).loss(0.01);
    v4(part, &LinkConfig::both(way), |scene| {
        let pair = unlucky_pair(scene)?;
        let mut transfer = Transfer::new(scene, &pair);
        for i in 0..16 {
            let name = ["reno", &part.table, "cubic", &part.table][i % 4];
            pair.ends.iter().try_for_each(|s| set_congestion(s, name)).must("TCP_CONGESTION, on a live connection")?;
            transfer.to((i + 1) * 40_000, within_bounds)?;
        }
        Ok(())
    })
}

pub(super) fn repeat(part: &Part) -> Outcome {
    network::repeat(part)
}

pub(super) fn unload(part: &Part) -> Outcome {
    v4(part, &calm(), |scene| {
        let pair = scene.pair()?;
        let mut transfer = Transfer::new(scene, &pair);
        transfer.to(50_000, within_bounds)?;
        for host in 0..2 {
            let r = scene.unload(host);
            ensure!(r == Err(Error::Busy), "with a connection that has it, unloading returns {r:?}, and not EBUSY");
        }
        transfer.to(100_000, within_bounds)?;
        // Another one takes its place: then it is not in use.
        pair.ends.iter().try_for_each(|s| set_congestion(s, "reno")).must("TCP_CONGESTION")?;
        let listener = pair.listener.as_ref().map_or(Ok(()), |l| set_congestion(l, "reno"));
        listener.must("TCP_CONGESTION of a listener")?;
        (0..2).try_for_each(|host| scene.unload(host)).must("no connection has it, unloading")?;
        transfer.to(200_000, within_bounds)?;
        let r = set_congestion(&pair.ends[0], &part.table);
        ensure!(r == Err(Error::NoEnt), "it is unloaded, and TCP_CONGESTION returns {r:?}, and not ENOENT");
        let to = scene.addr(1, PORT);
        ensure!(pair.ends[0].peer_addr() == Ok(to), "the connection has lost its peer");
        Ok(())
    })
}

pub(super) fn memory(part: &Part) -> Outcome {
    process::memory(part)
}
