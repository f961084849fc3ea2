//! The results as one table, one line per claim: ours, the kernel's and the peer's, the ratio, the target.

use crate::figure::{Panel, Point};
use std::fmt::Write as _;

/// Lines between which a document keeps its table.
const MARKS: (&str, &str) = ("<!-- cargo bench: begin -->", "<!-- cargo bench: end -->");

/// Unit of a measured number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes per second.
    Throughput,
    /// Nanoseconds.
    Nanos,
    /// Operations per second.
    Rate,
    /// Bytes.
    Bytes,
    /// A number of something.
    Count,
}

impl Unit {
    fn show(self, x: f64) -> String {
        match self {
            Unit::Throughput if x >= 1e9 => format!("{:.2} GB/s", x / 1e9),
            Unit::Throughput => format!("{:.0} MB/s", x / 1e6),
            Unit::Nanos if x >= 10_000.0 => format!("{:.1} µs", x / 1e3),
            Unit::Nanos if x >= 100.0 => format!("{x:.0} ns"),
            Unit::Nanos => format!("{x:.1} ns"),
            Unit::Rate => format!("{x:.0} /s"),
            Unit::Bytes => format!("{x:.0} B"),
            Unit::Count => format!("{x:.2}"),
        }
    }
}

/// A target: how ours compares with something.
#[derive(Clone, Copy)]
pub enum Target {
    /// Ours is at least so many times the kernel's.
    KernelAtLeast(f64),
    /// Ours is at most so many times the kernel's.
    KernelAtMost(f64),
    /// Ours is at least so many times the peer's.
    PeerAtLeast(f64),
    /// Ours is at most this number, in the row's unit.
    AtMost(f64),
    /// Ours is at least this number, in the row's unit.
    AtLeast(f64),
    /// Measured for information.
    None,
}

impl Target {
    /// Whether it compares with the kernel or another stack.
    fn is_beside_a_peer(self) -> bool {
        matches!(self, Target::KernelAtLeast(_) | Target::KernelAtMost(_) | Target::PeerAtLeast(_))
    }
}

/// A line of the table.
pub struct Row {
    /// What was measured.
    pub what: String,
    /// Unit of the three numbers.
    pub unit: Unit,
    /// usersock.
    pub ours: Option<f64>,
    /// The kernel's TCP.
    pub kernel: Option<f64>,
    /// smoltcp.
    pub peer: Option<f64>,
    /// The target.
    pub target: Target,
}

/// All lines, and what could not be measured.
#[derive(Default)]
pub struct Report {
    rows: Vec<Row>,
    notes: Vec<String>,
    points: Vec<Point>,
    failures: usize,
}

impl Report {
    /// Adds a line; one without any number is left out.
    pub fn row(&mut self, row: Row) {
        if row.ours.is_some() || row.kernel.is_some() || row.peer.is_some() {
            self.rows.push(row);
        }
    }

    /// Adds a point to the picture; none if it was not measured.
    pub fn point(&mut self, panel: Panel, line: &str, x: f64, y: Option<f64>) {
        self.points.extend(y.map(|y| Point { panel, line: line.to_owned(), x, y }));
    }

    /// The points of the picture, in the order in which they were measured.
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// Adds a remark below the table.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Adds a remark about something that should have worked.
    pub fn failed(&mut self, note: impl Into<String>) {
        self.failures += 1;
        self.note(note);
    }

    /// Whether all measurements that were tried worked.
    pub fn all_worked(&self) -> bool {
        self.failures == 0
    }

    /// The table and the remarks, in Markdown.
    pub fn markdown(&self) -> String {
        let mut out = self.table(|_| true);
        for note in &self.notes {
            // Writing to a String cannot fail.
            let _ = write!(out, "\n{note}\n");
        }
        out
    }

    /// The table of the rows that are `chosen`.
    fn table(&self, chosen: impl Fn(&Row) -> bool) -> String {
        let mut out = String::from(
            "| | usersock | kernel | smoltcp | of kernel | of smoltcp | target | met |\n\
             |---|---|---|---|---|---|---|---|\n",
        );
        for r in self.rows.iter().filter(|r| chosen(r)) {
            let number = |x: Option<f64>| x.map_or(String::new(), |x| r.unit.show(x));
            let ratio = |to: Option<f64>| Some(r.ours? / to?);
            let times = |x: Option<f64>| x.map_or(String::new(), |x| format!("{x:.2}"));
            let (to_kernel, to_peer) = (ratio(r.kernel), ratio(r.peer));
            let (target, met) = match r.target {
                Target::KernelAtLeast(n) => (format!("≥ {n} × kernel"), to_kernel.map(|x| x >= n)),
                Target::KernelAtMost(n) => (format!("≤ {n} × kernel"), to_kernel.map(|x| x <= n)),
                Target::PeerAtLeast(n) => (format!("≥ {n} × smoltcp"), to_peer.map(|x| x >= n)),
                Target::AtMost(n) => (format!("≤ {}", r.unit.show(n)), r.ours.map(|x| x <= n)),
                Target::AtLeast(n) => (format!("≥ {}", r.unit.show(n)), r.ours.map(|x| x >= n)),
                Target::None => (String::new(), None),
            };
            let met = match met {
                Some(true) => "yes",
                Some(false) => "no",
                None => "",
            };
            // Writing to a String cannot fail.
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} | {} | {} | {target} | {met} |",
                r.what,
                number(r.ours),
                number(r.kernel),
                number(r.peer),
                times(to_kernel),
                times(to_peer)
            );
        }
        out
    }

    /// Puts the table into the document that has all of it, and the rows with a target beside a peer into the README.
    pub fn write_readme(&self) -> Result<(), String> {
        crate::readme::replace("docs/benchmarks.md", MARKS, &self.markdown())?;
        crate::readme::replace("README.md", MARKS, &self.table(|row| row.target.is_beside_a_peer()))
    }
}
