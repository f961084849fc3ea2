//! `usersock trace`: what happens in a running stack, a line for each event, until it ends or the command is
//! interrupted.

use crate::instance::Which;
use crate::{Failure, out};
use serde_json::Value;
use std::io::Write;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  usersock trace                         everything
  usersock trace --only retransmit       what is sent again, and why
  usersock trace -j | jq .reason

Events have the names of Linux's tracepoints. A retransmission's reason is rto, fast-retransmit (duplicate
acknowledgements, SACK, RACK), slow-start (marked lost by an earlier timeout), tlp (a loss probe), syn, syn-ack or
zero-window; that of a drop is Linux's (skb_drop_reason), or a plug-in's own, with the place in the code, or, of a
packet that a plug-in drops, from and its name. plugin:log is a line that a plug-in logs, at most 10 of each in 5
seconds; missed says how many were too many. Times are of UTC.")]
pub(crate) struct Args {
    #[command(flatten)]
    which: Which,
    /// One JSON object a line
    #[arg(short, long)]
    json: bool,
    /// Only these events; may be repeated
    #[arg(long, value_name = "KIND")]
    only: Vec<Kind>,
    /// End after so many events
    #[arg(short = 'c', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// Changes of state
    State,
    /// Segments that are sent again
    Retransmit,
    /// Dropped packets
    Drop,
    /// Lines that plug-ins log
    Log,
}

impl Kind {
    fn of(event: &str) -> Option<Kind> {
        match event {
            "sock:inet_sock_set_state" => Some(Kind::State),
            "tcp:tcp_retransmit_skb" | "tcp:tcp_retransmit_synack" => Some(Kind::Retransmit),
            "skb:kfree_skb" => Some(Kind::Drop),
            "plugin:log" => Some(Kind::Log),
            _ => None,
        }
    }
}

/// A time of the day, UTC.
fn clock(time: f64) -> String {
    let us = (time * 1e6).round() as u64;
    let (day, us) = (us / 1_000_000 % 86_400, us % 1_000_000);
    format!("{:02}:{:02}:{:02}.{us:06}", day / 3600, day / 60 % 60, day % 60)
}

/// An event for a person.
fn line(v: &Value) -> String {
    if let Some(n) = v["lost"].as_u64() {
        return format!("{n} events were lost: they came faster than they were read");
    }
    let text = |key: &str| v[key].as_str().unwrap_or_default().to_owned();
    let end = |key: &str| {
        let (ip, port) = (text(key), v[format!("{key}_port")].as_u64()?);
        Some(if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") })
    };
    let mut words = vec![clock(v["time"].as_f64().unwrap_or_default()), text("event")];
    words.extend([end("local"), end("peer")].into_iter().flatten());
    if v["oldstate"].is_string() {
        words.push(format!("{} -> {}", text("oldstate"), text("newstate")));
    }
    for key in ["state", "reason", "seq", "len", "err", "location", "from", "level", "missed"] {
        match &v[key] {
            Value::String(s) => words.push(format!("{key}={s}")),
            Value::Number(n) => words.push(format!("{key}={n}")),
            _ => {}
        }
    }
    words.extend(v["text"].as_str().map(str::to_owned));
    words.join(" ")
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let mut peer = args.which.open()?;
    let mut left = args.count.unwrap_or(u64::MAX);
    peer.follow("trace", |raw, v| {
        let event = v["event"].as_str();
        if event.is_none() && v["lost"].is_null() {
            // That it has begun.
            return Ok(true);
        }
        let kind = event.and_then(Kind::of);
        if event.is_some() && !args.only.is_empty() && !kind.is_some_and(|k| args.only.contains(&k)) {
            return Ok(true);
        }
        let open = out::follow(|out| if args.json { writeln!(out, "{raw}") } else { writeln!(out, "{}", line(v)) })?;
        left -= u64::from(event.is_some());
        Ok(open && left > 0)
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_event_is_a_line() {
        for (json, want) in [
            (
                r#"{"time":3661.5,"event":"sock:inet_sock_set_state","protocol":6,"local":"10.0.0.2","local_port":80,
                    "oldstate":"TCP_CLOSE","newstate":"TCP_LISTEN"}"#,
                "01:01:01.500000 sock:inet_sock_set_state 10.0.0.2:80 TCP_CLOSE -> TCP_LISTEN",
            ),
            (
                r#"{"time":0.0,"event":"tcp:tcp_retransmit_skb","local":"::1","local_port":1,"peer":"::1","peer_port":2,
                    "state":"TCP_ESTABLISHED","reason":"rto","seq":1,"len":9,"err":"EBUSY"}"#,
                "00:00:00.000000 tcp:tcp_retransmit_skb [::1]:1 [::1]:2 state=TCP_ESTABLISHED reason=rto seq=1 len=9 \
                 err=EBUSY",
            ),
            (
                r#"{"time":0.0,"event":"plugin:log","from":"TINY","level":"warning","text":"no key 7","missed":2}"#,
                "00:00:00.000000 plugin:log from=TINY level=warning missed=2 no key 7",
            ),
            (r#"{"lost":7}"#, "7 events were lost: they came faster than they were read"),
        ] {
            assert_eq!(super::line(&serde_json::from_str(json).unwrap()), want);
        }
    }
}
