//! The picture of docs/performance.md: what a connection, a window and a second core cost, as lines over their number,
//! which is on a logarithmic axis.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

/// Size of a panel's axes, and what is left of, right of and above them.
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 150.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 290.0;
const GAP: f64 = 60.0;
/// Colours that differ for the colour-blind too (Okabe and Ito).
const COLOURS: [&str; 4] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"];

/// A panel: what is on its axes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Panel {
    /// Nanoseconds of an exchange over established connections in a process.
    Connections,
    /// Nanoseconds of an acknowledgement over packets in flight.
    Window,
    /// Rate over threads, as a multiple of one thread's.
    Cores,
}

impl Panel {
    const ALL: [Panel; 3] = [Panel::Connections, Panel::Window, Panel::Cores];

    fn title(self) -> &'static str {
        match self {
            Panel::Connections => {
                "an exchange of a byte over one connection at random, µs, over established connections"
            }
            Panel::Window => "an acknowledgement with SACK blocks, µs, over packets in flight",
            Panel::Cores => "rate over threads, as a multiple of one thread's",
        }
    }

    /// A value as the axis has it.
    fn scaled(self, y: f64) -> f64 {
        if self == Panel::Cores { y } else { y / 1000.0 }
    }
}

/// A measured point of a line.
pub struct Point {
    /// Where it is drawn.
    pub panel: Panel,
    /// The line's name.
    pub line: String,
    /// How many there were.
    pub x: f64,
    /// What it cost, in the panel's unit.
    pub y: f64,
}

/// Writes the picture, if each panel has points; what is left out is said.
pub fn write(points: &[Point]) -> Result<(), String> {
    if let Some(empty) = Panel::ALL.into_iter().find(|panel| !points.iter().any(|p| p.panel == *panel)) {
        return Err(format!("docs/images/performance.svg is as before: nothing was measured of {}", empty.title()));
    }
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/images/performance.svg"));
    std::fs::write(path, draw(points)).map_err(|e| format!("{}: {e}", path.display()))
}

fn draw(points: &[Point]) -> String {
    let (width, height) = (LEFT + WIDTH + RIGHT, Panel::ALL.len() as f64 * (HEIGHT + GAP) + 10.0);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    for (n, panel) in Panel::ALL.into_iter().enumerate() {
        let of: Vec<&Point> = points.iter().filter(|p| p.panel == panel).collect();
        draw_panel(&mut out, panel, &of, 30.0 + n as f64 * (HEIGHT + GAP));
    }
    out + "</svg>\n"
}

/// The least step of 1, 2 or 5 times a power of ten of which four reach `max`.
fn step(max: f64) -> f64 {
    let power = 10f64.powf((max / 4.0).log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|f| f * power).into_iter().find(|s| 4.0 * s >= max).unwrap_or(max)
}

fn draw_panel(out: &mut String, panel: Panel, points: &[&Point], top: f64) {
    let bottom = top + HEIGHT;
    let xs: BTreeSet<u64> = points.iter().map(|p| p.x as u64).collect();
    let [first, last] = [xs.first(), xs.last()].map(|x| (*x.unwrap_or(&1) as f64).ln());
    let x = |v: f64| LEFT + (v.ln() - first) / (last - first).max(f64::MIN_POSITIVE) * WIDTH;
    let step = step(points.iter().map(|p| panel.scaled(p.y)).fold(0.0, f64::max).max(0.1));
    let y = |v: f64| bottom - v / (4.0 * step) * HEIGHT;
    // Writing to a String cannot fail.
    let mut put = |line: String| {
        let _ = writeln!(out, "{line}");
    };
    put(format!("<text x=\"{LEFT}\" y=\"{}\" font-weight=\"bold\">{}</text>", top - 8.0, panel.title()));
    for n in 0..=4 {
        let (v, at) = (f64::from(n) * step, y(f64::from(n) * step));
        let right = LEFT + WIDTH;
        put(format!("<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{right}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>"));
        let label = (v * 100.0).round() / 100.0;
        put(format!("<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>", LEFT - 6.0, at + 4.0));
    }
    for n in &xs {
        let at = x(*n as f64);
        put(format!("<line x1=\"{at:.1}\" y1=\"{top}\" x2=\"{at:.1}\" y2=\"{bottom}\" stroke=\"#eee\"/>"));
        put(format!("<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{n}</text>", bottom + 14.0));
    }
    let mut names: Vec<&str> = Vec::new();
    for p in points {
        if !names.contains(&p.line.as_str()) {
            names.push(&p.line);
        }
    }
    for (n, name) in names.into_iter().enumerate() {
        let colour = COLOURS[n % COLOURS.len()];
        // The second four are dashed.
        let dash = if n < COLOURS.len() { "" } else { " stroke-dasharray=\"4 3\"" };
        let line: Vec<String> = points
            .iter()
            .filter(|p| p.line == name)
            .map(|p| format!("{:.1},{:.1}", x(p.x), y(panel.scaled(p.y))))
            .collect();
        let stroke = format!("fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"{dash}");
        put(format!("<polyline points=\"{}\" {stroke}/>", line.join(" ")));
        let (at, level) = (LEFT + WIDTH + 14.0, top + 10.0 + 16.0 * n as f64);
        put(format!("<polyline points=\"{at},{level} {},{level}\" {stroke}/>", at + 16.0));
        put(format!("<text x=\"{}\" y=\"{}\">{name}</text>", at + 22.0, level + 4.0));
    }
}
