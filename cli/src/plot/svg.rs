//! Panels of lines over one axis of time, as SVG 1.1. Nothing in it is fetched from elsewhere.

use std::fmt::Write;

/// Width of the picture, and of what is left and right of the axes.
const WIDTH: f64 = 900.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 150.0;
/// Height of a panel, and of what is above and below its axes.
const HEIGHT: f64 = 150.0;
const GAP: f64 = 42.0;
const TOP: f64 = 40.0;
/// Colours that differ for the colour-blind too (Okabe and Ito).
const COLOURS: [&str; 4] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"];

/// A line: its name, and its points; None: there is no value at that time.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) points: Vec<(f64, Option<f64>)>,
}

/// Lines that share an axis.
#[derive(Debug)]
pub(super) struct Panel {
    pub(super) title: String,
    pub(super) series: Vec<Series>,
}

/// A round step of an axis that has about `parts` of them up to `max`: 1, 2 or 5 times a power of ten.
fn step(max: f64, parts: f64) -> f64 {
    let rough = max / parts;
    let power = 10f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|f| f * power >= rough * 0.999);
    factor.unwrap_or(10.0) * power
}

/// A number on an axis whose steps are `step`.
fn number(value: f64, step: f64) -> String {
    let decimals = (-step.log10().floor()).clamp(0.0, 6.0) as usize;
    format!("{value:.decimals$}")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Draws.
pub(super) fn draw(title: &str, panels: &[Panel]) -> String {
    let height = TOP + panels.len() as f64 * (HEIGHT + GAP) + 20.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"20\" font-size=\"14\">{}</text>\n",
        escape(title)
    );
    let points = panels.iter().flat_map(|p| &p.series).flat_map(|s| &s.points);
    let end = points.map(|(t, _)| *t).fold(0.1, f64::max);
    for (i, panel) in panels.iter().enumerate() {
        let top = TOP + i as f64 * (HEIGHT + GAP);
        draw_panel(&mut out, panel, top, end, i + 1 == panels.len());
    }
    out + "</svg>\n"
}

/// Writing to a String cannot fail.
macro_rules! put {
    ($out:expr, $($arg:tt)*) => {{ let _ = writeln!($out, $($arg)*); }};
}

fn draw_panel(out: &mut String, panel: &Panel, top: f64, end: f64, last: bool) {
    let (width, bottom) = (WIDTH - LEFT - RIGHT, top + HEIGHT);
    let values = panel.series.iter().flat_map(|s| s.points.iter().filter_map(|(_, v)| *v));
    let highest = values.fold(0.0, f64::max);
    // Of what is zero throughout, the axis ends at one.
    let highest = if highest > 0.0 { highest } else { 1.0 };
    let vertical = step(highest, 4.0);
    let max = (highest / vertical).ceil() * vertical;
    let x = |t: f64| LEFT + t / end * width;
    let y = |v: f64| bottom - v / max * HEIGHT;
    put!(out, "<g><title>{}</title>", escape(&panel.title));
    for n in 0..=(max / vertical).round() as u32 {
        let v = f64::from(n) * vertical;
        let (at, right) = (y(v), LEFT + width);
        put!(out, "<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{right}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>");
        let (tx, ty) = (LEFT - 6.0, at + 4.0);
        put!(out, "<text x=\"{tx}\" y=\"{ty:.1}\" text-anchor=\"end\">{}</text>", number(v, vertical));
    }
    let horizontal = step(end, 8.0);
    for n in 0..=(end / horizontal).floor() as u32 {
        let t = f64::from(n) * horizontal;
        let at = x(t);
        put!(out, "<line x1=\"{at:.1}\" y1=\"{top}\" x2=\"{at:.1}\" y2=\"{bottom}\" stroke=\"#eee\"/>");
        let label = number(t, horizontal) + if last { " s" } else { "" };
        put!(out, "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>", bottom + 14.0);
    }
    put!(out, "<path d=\"M{LEFT} {top}V{bottom}H{}\" fill=\"none\" stroke=\"#333\"/>", LEFT + width);
    put!(out, "<text x=\"{LEFT}\" y=\"{:.1}\" font-weight=\"bold\">{}</text>", top - 5.0, escape(&panel.title));
    for (i, series) in panel.series.iter().enumerate() {
        let colour = COLOURS[i % COLOURS.len()];
        for part in series.points.split(|(_, v)| v.is_none()).filter(|part| !part.is_empty()) {
            let points: Vec<String> =
                part.iter().map(|(t, v)| format!("{:.1},{:.1}", x(*t), y(v.unwrap_or(0.0)))).collect();
            let points = points.join(" ");
            put!(out, "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>");
        }
        let (lx, ly) = (LEFT + width + 12.0, top + 12.0 + 16.0 * i as f64);
        put!(out, "<rect x=\"{lx}\" y=\"{:.1}\" width=\"12\" height=\"3\" fill=\"{colour}\"/>", ly - 5.0);
        put!(out, "<text x=\"{}\" y=\"{ly}\">{}</text>", lx + 18.0, escape(&series.name));
    }
    put!(out, "</g>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_steps() {
        for (max, want) in
            [(1.0, 0.5), (9.0, 5.0), (10.0, 5.0), (8.0, 2.0), (37.0, 10.0), (1300.0, 500.0), (0.03, 0.01)]
        {
            assert!((step(max, 4.0) / want - 1.0).abs() < 1e-9, "{max}: {}", step(max, 4.0));
        }
        assert_eq!([number(1500.0, 500.0), number(0.25, 0.05), number(2.0, 0.5)], ["1500", "0.25", "2.0"]);
    }

    #[test]
    fn a_gap_breaks_a_line_and_text_is_text() {
        let points = vec![(0.0, Some(1.0)), (1.0, None), (2.0, Some(3.0)), (3.0, Some(2.0))];
        let text = draw(
            "a<b & c",
            &[Panel { title: "x > y".to_owned(), series: vec![Series { name: "n".to_owned(), points }] }],
        );
        assert_eq!(text.matches("<polyline ").count(), 2);
        assert!(text.contains("a&lt;b &amp; c") && text.contains("x &gt; y"), "{text}");
        assert_eq!(text.matches("<g>").count(), text.matches("</g>").count());
        // Three seconds over 680 points of width from 70; 3 of at most 3 is the top.
        assert!(text.contains("points=\"523.3,40.0 750.0,90.0\""), "{text}");
    }
}
