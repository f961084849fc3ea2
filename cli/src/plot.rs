//! `usersock plot`: a connection of a running stack over time, or a table that a program has written, as an SVG. Above:
//! the command. Below: `ss` chooses the connection, its `struct tcp_info` is sampled through the control socket;
//! `table` reads a table; `svg` draws.
//!
//! The file is replaced as a whole every second, so an interrupted command leaves what it had sampled.

mod svg;
mod table;

use crate::instance::Which;
use crate::ss::{self, Sock};
use crate::{Failure, out};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};
use svg::{Panel, Series};

/// How often the file is written.
const WRITE: Duration = Duration::from_secs(1);
/// Samples kept, at most: beyond, every second one is dropped and they are taken half as often.
const SAMPLES: usize = 20_000;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  usersock plot                            the only connection, until it ends or ^C
  usersock plot -o up.svg --seconds 10 'dport = :80'
  usersock plot --csv run.csv -o run.svg   what a program has written

The panels: congestion window, slow-start threshold and segments in flight; smoothed and least RTT; delivery and pacing
rate; the peer's window, ours, and bytes that wait to be sent; segments sent again and lost. FILTER is as for `usersock
ss` and must choose one TCP connection.")]
pub(crate) struct Args {
    #[command(flatten)]
    which: Which,
    /// The file
    #[arg(short, long, value_name = "FILE", default_value = "usersock.svg")]
    output: PathBuf,
    /// End after so long
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: Option<u64>,
    /// Time between samples, milliseconds
    #[arg(short, long, value_name = "MS", default_value = "20",
          value_parser = clap::value_parser!(u64).range(1..=9999))]
    interval: u64,
    /// Draw a table instead: names first, as seconds,PANEL: LINE,PANEL: LINE, then numbers; # begins the title
    #[arg(long, value_name = "TABLE", conflicts_with_all = ["filter", "seconds", "interval"])]
    csv: Option<PathBuf>,
    /// Which connection
    #[arg(value_name = "FILTER")]
    filter: Vec<String>,
}

/// What a line shows: its name, the field, and the value of a unit of its axis.
type Line = (&'static str, &'static str, f64);

/// The panels: title with unit, and lines.
const PANELS: [(&str, &[Line]); 5] = [
    ("segments", &[("cwnd", "snd_cwnd", 1.0), ("ssthresh", "snd_ssthresh", 1.0), ("in flight", "unacked", 1.0)]),
    ("RTT, ms", &[("srtt", "rtt", 1e3), ("least", "min_rtt", 1e3)]),
    ("rate, Mbit/s", &[("delivery", "delivery_rate", 1e6 / 8.0), ("pacing", "pacing_rate", 1e6 / 8.0)]),
    (
        "bytes, KiB",
        &[
            ("peer's window", "snd_wnd", 1024.0),
            ("our window", "rcv_wnd", 1024.0),
            ("not sent", "notsent_bytes", 1024.0),
        ],
    ),
    ("losses, segments", &[("sent again", "total_retrans", 1.0), ("lost now", "lost", 1.0)]),
];

/// Values that mean that there is none: no threshold yet, no sample yet, no limit.
fn value(s: &Sock, (_, field, unit): &Line) -> Option<f64> {
    match (*field, s.tcpi(field)) {
        ("snd_ssthresh", 0x7fff_ffff..) | ("min_rtt", 0xffff_ffff) | ("pacing_rate", u64::MAX) | ("rtt", 0) => None,
        (_, n) => Some(n as f64 / unit),
    }
}

/// What was sampled: the time in seconds, and a value for each line of each panel.
#[derive(Default)]
struct Samples(Vec<(f64, Vec<Option<f64>>)>);

impl Samples {
    fn take(&mut self, at: Duration, s: &Sock) {
        let lines = PANELS.iter().flat_map(|(_, lines)| lines.iter());
        self.0.push((at.as_secs_f64(), lines.map(|line| value(s, line)).collect()));
    }

    /// Drops every second one when there are too many; whether it did.
    fn thin(&mut self) -> bool {
        let many = self.0.len() >= SAMPLES;
        if many {
            let mut keep = false;
            self.0.retain(|_| {
                keep = !keep;
                keep
            });
        }
        many
    }

    fn panels(&self) -> Vec<Panel> {
        let mut column = 0;
        let mut all = Vec::new();
        for (title, lines) in PANELS {
            let mut series = Vec::new();
            for (name, ..) in lines {
                let points = self.0.iter().map(|(t, values)| (*t, values.get(column).copied().flatten())).collect();
                series.push(Series { name: (*name).to_owned(), points });
                column += 1;
            }
            all.push(Panel { title: title.to_owned(), series });
        }
        all
    }
}

/// Replaces the file. A device or a pipe is not replaced: it is written, and at the end only. Of a link, what it leads
/// to is meant.
fn write(path: &Path, text: &str, end: bool) -> Result<(), Failure> {
    if fs::metadata(path).is_ok_and(|meta| !meta.is_file() && !meta.is_dir()) {
        let done = if end { fs::write(path, text) } else { Ok(()) };
        return done.map_err(|e| Failure::Broken(format!("{}: {e}", path.display())));
    }
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut temporary = path.as_os_str().to_os_string();
    temporary.push(format!(".{}", std::process::id()));
    let temporary = Path::new(&temporary);
    let done = fs::write(temporary, text).and_then(|()| fs::rename(temporary, path));
    done.map_err(|e: io::Error| {
        // A part may be left, or nothing.
        let _ = fs::remove_file(temporary);
        Failure::Broken(format!("{}: {e}", path.display()))
    })
}

/// Draws a table.
fn draw_table(file: &Path, output: &Path) -> Result<(), Failure> {
    let text = fs::read_to_string(file).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => Failure::Usage(format!("{}: {e}", file.display())),
        _ => Failure::Broken(format!("{}: {e}", file.display())),
    })?;
    let table = table::read(&text).map_err(|e| Failure::Usage(format!("{}: {e}", file.display())))?;
    let title = table.title.unwrap_or_else(|| file.display().to_string());
    write(output, &svg::draw(&title, &table.panels), true)?;
    out::print(|out| writeln!(out, "{}: {} samples", output.display(), table.samples))
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    if let Some(file) = &args.csv {
        return draw_table(file, &args.output);
    }
    let mut peer = args.which.open()?;
    let mut found = ss::connections(&mut peer, &args.filter)?;
    let first = match (found.pop(), found.len()) {
        (Some(s), 0) => s,
        (None, _) => {
            return Err(Failure::Usage("no TCP connection is chosen: `usersock ss -tn` lists them".to_owned()));
        }
        (Some(s), more) => {
            let why = format!("{} connections: choose one by a filter, as the ends of {}", more + 1, s.ends());
            return Err(Failure::Usage(why));
        }
    };
    let title = format!("{} (pid {}): {}", peer.program, peer.pid, first.ends());
    let (start, mut samples, mut interval) = (Instant::now(), Samples::default(), Duration::from_millis(args.interval));
    samples.take(Duration::ZERO, &first);
    write(&args.output, &svg::draw(&title, &samples.panels()), false)?;
    let end = args.seconds.map(|n| start + Duration::from_secs(n));
    let (mut next, mut written) = (start, start);
    let why = loop {
        next += interval;
        if end.is_some_and(|end| next > end) {
            break "the time is over";
        }
        thread::sleep(next.saturating_duration_since(Instant::now()));
        let now = start.elapsed();
        let answer = match peer.ask(&first.again()) {
            Ok(answer) => answer,
            Err(_) => break "its stack has ended",
        };
        match answer.into_iter().next().map(|(line, v)| Sock::new(line, v)) {
            // Another socket may have the number of one that has ended.
            Some(s) if s.ends() == first.ends() => samples.take(now, &s),
            _ => break "the connection has ended",
        }
        if samples.thin() {
            interval *= 2;
        }
        if written.elapsed() >= WRITE {
            write(&args.output, &svg::draw(&title, &samples.panels()), false)?;
            written = Instant::now();
        }
    };
    write(&args.output, &svg::draw(&title, &samples.panels()), true)?;
    out::print(|out| writeln!(out, "{}: {} samples; {why}", args.output.display(), samples.0.len()))
}
