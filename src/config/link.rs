//! `link=` of a configuration: the simulated link's settings, in the words of tc-netem(8), with blanks between.
//! Above: `config`. Below: `device::link`.

use super::{ConfigError, bad};
use crate::device::link::{Direction, LinkConfig};
use std::collections::BTreeSet;
use std::time::Duration;

/// What a link is like, and its seed if one is given.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Link {
    pub(super) config: LinkConfig,
    pub(super) seed: Option<u64>,
}

/// Number and unit of a text as `1.5ms`; the value is not negative.
fn measure(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<f64>().ok().map(|number| number * factor)
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    let units = [("us", 1e-6), ("ms", 1e-3), ("s", 1.0)];
    let seconds = measure(text, &units).filter(|seconds| *seconds <= 3600.0);
    seconds.map(Duration::from_secs_f64).ok_or("a time as 20ms (us, ms, s; an hour at most)")
}

fn probability(text: &str) -> Result<f64, &'static str> {
    measure(text, &[("%", 0.01)]).filter(|p| *p <= 1.0).ok_or("a share as 1%")
}

fn rate(text: &str) -> Result<u64, &'static str> {
    let units = [("bit", 1.0), ("kbit", 1e3), ("mbit", 1e6), ("gbit", 1e9)];
    measure(text, &units).filter(|r| (1.0..=1e15).contains(r)).map(|r| r as u64).ok_or("a rate as 100mbit")
}

fn bytes(text: &str) -> Result<u64, &'static str> {
    let units = [("b", 1.0), ("kb", 1024.0), ("mb", 1_048_576.0)];
    measure(text, &units).filter(|b| *b <= 1e12).map(|b| b as u64).ok_or("a size as 100kb (b, kb, mb)")
}

/// Changes one setting of a direction.
fn set(d: Direction, key: &str, value: &str) -> Result<Direction, &'static str> {
    Ok(match key {
        "delay" => d.delay(duration(value)?),
        "jitter" => d.jitter(duration(value)?),
        "loss" => d.loss(probability(value)?),
        "duplicate" => d.duplicate(probability(value)?),
        "corrupt" => d.corrupt(probability(value)?),
        "reorder" => d.reorder(probability(value)?),
        "reorder-by" => d.reorder_by(duration(value)?),
        "rate" => d.rate(rate(value)?),
        "queue" => d.queue_bytes(bytes(value)?),
        "limit" => d.queue_packets(value.parse().map_err(|_| "a number of packets")?),
        "drop" => d.head_drop(match value {
            "head" => true,
            "tail" => false,
            _ => return Err("head or tail"),
        }),
        "ecn" => d.ecn_threshold(bytes(value)?),
        _ => {
            return Err("known are delay, jitter, loss, duplicate, corrupt, reorder, reorder-by, rate, queue, limit, \
                        drop, ecn and seed");
        }
    })
}

/// Parses `delay=20ms loss=1% seed=7`.
pub(super) fn parse(text: &str) -> Result<Link, ConfigError> {
    let (mut out, mut into, mut seed) = (Direction::default(), Direction::default(), None);
    let mut given = BTreeSet::new();
    for part in text.split_whitespace() {
        let wrong = |why: &str| bad(format!("link={text}: {part}: {why}"));
        let (key, value) = part.split_once('=').ok_or_else(|| wrong("not KEY=VALUE"))?;
        if !given.insert(key) {
            return Err(wrong("given twice"));
        }
        if key == "seed" {
            seed = Some(value.parse().map_err(|_| wrong("a number"))?);
            continue;
        }
        let (way, key) = key.split_once('.').map_or((None, key), |(way, key)| (Some(way), key));
        if !matches!(way, None | Some("in" | "out")) {
            return Err(wrong("a direction is in. or out."));
        }
        if way != Some("in") {
            out = set(out, key, value).map_err(wrong)?;
        }
        if way != Some("out") {
            into = set(into, key, value).map_err(wrong)?;
        }
    }
    Ok(Link { config: LinkConfig::default().forth(out).back(into), seed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_with_their_units() {
        let all = "delay=20ms jitter=1.5ms loss=1% duplicate=0.5% corrupt=2% reorder=3% reorder-by=4ms rate=100mbit \
                   queue=100kb limit=50 drop=head ecn=20kb seed=7";
        let link = parse(all).unwrap();
        let want = Direction::default()
            .delay(Duration::from_millis(20))
            .jitter(Duration::from_micros(1500))
            .loss(0.01)
            .duplicate(0.005)
            .corrupt(0.02)
            .reorder(0.03)
            .reorder_by(Duration::from_millis(4))
            .rate(100_000_000)
            .queue_bytes(102_400)
            .queue_packets(50)
            .head_drop(true)
            .ecn_threshold(20_480);
        assert_eq!((link.seed, link.config.forth, link.config.back), (Some(7), want, want));
    }

    #[test]
    fn a_direction_can_be_named() {
        let link = parse("delay=1s out.loss=10% in.delay=2s").unwrap();
        let one = Direction::default().delay(Duration::from_secs(1));
        assert_eq!(link.config.forth, one.loss(0.1));
        assert_eq!(link.config.back, one.delay(Duration::from_secs(2)));
        assert_eq!(link.seed, None);
    }

    #[test]
    fn what_is_no_setting_is_refused_by_name() {
        for (text, want) in [
            ("delay", "link=delay: delay: not KEY=VALUE"),
            ("delay=20", "delay=20: a time as 20ms"),
            ("delay=-1ms", "a time as 20ms"),
            ("delay=2000000s", "an hour at most"),
            ("loss=1", "loss=1: a share as 1%"),
            ("loss=101%", "a share as 1%"),
            ("loss=1.2.3%", "a share as 1%"),
            ("rate=0mbit", "a rate as 100mbit"),
            ("queue=1tb", "a size as 100kb"),
            ("limit=x", "a number of packets"),
            ("seed=x", "seed=x: a number"),
            ("lag=1ms", "known are delay"),
            ("up.delay=1ms", "a direction is in. or out."),
            ("delay=1ms loss=1% delay=2ms", "delay=2ms: given twice"),
            ("seed=1 seed=1", "seed=1: given twice"),
        ] {
            let said = parse(text).unwrap_err().message;
            assert!(said.contains(want), "{text}: {said}");
        }
    }
}
