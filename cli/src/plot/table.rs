//! A table of comma-separated values that `plot --csv` draws: what a program has written down, as an experiment in
//! virtual time does (usersock/sim.h). Beside: `svg`.
//!
//! The first line has the names: of the time, which is in seconds, and of the lines, each `PANEL: LINE`. Then a line a
//! sample, whose cells are numbers, or empty where there is no value. A line that begins with # is the title.

use super::svg::{Panel, Series};

/// A title, if there is one, and what is drawn below it.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) title: Option<String>,
    pub(super) panels: Vec<Panel>,
    /// How many samples there are.
    pub(super) samples: usize,
}

fn number(cell: &str, line: usize) -> Result<f64, String> {
    let number = cell.parse::<f64>().ok().filter(|n| n.is_finite());
    number.ok_or_else(|| format!("line {line}: {cell:?} is not a number"))
}

/// Of each column after the first, the number of its panel, and of its line there.
type Places = Vec<(usize, usize)>;

/// The panels without points, and where the columns belong.
fn panels(names: &str, line: usize) -> Result<(Vec<Panel>, Places), String> {
    let (mut panels, mut places) = (Vec::<Panel>::new(), Vec::new());
    for name in names.split(',').skip(1).map(str::trim) {
        let parts = name.split_once(':').map(|(panel, series)| (panel.trim(), series.trim()));
        let Some((title, series)) = parts.filter(|(panel, series)| !panel.is_empty() && !series.is_empty()) else {
            return Err(format!("line {line}: {name:?} is not PANEL: LINE"));
        };
        let panel = panels.iter().position(|p| p.title == title).unwrap_or_else(|| {
            panels.push(Panel { title: title.to_owned(), series: Vec::new() });
            panels.len() - 1
        });
        let lines = &mut panels[panel].series;
        lines.push(Series { name: series.to_owned(), points: Vec::new() });
        places.push((panel, lines.len() - 1));
    }
    if places.is_empty() {
        return Err(format!("line {line}: names are TIME,PANEL: LINE,..."));
    }
    Ok((panels, places))
}

/// Reads a table. The error is one line, and names the line of the file.
pub(super) fn read(text: &str) -> Result<Table, String> {
    let mut title = None;
    let mut lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim())).filter(|(_, line)| {
        if let Some(said) = line.strip_prefix('#') {
            title.get_or_insert_with(|| said.trim().to_owned());
        }
        !line.is_empty() && !line.starts_with('#')
    });
    let (at, names) = lines.next().ok_or("there is no line of names")?;
    let (mut panels, places) = panels(names, at)?;
    let (mut samples, mut last) = (0, f64::NEG_INFINITY);
    for (at, line) in lines {
        let cells: Vec<&str> = line.split(',').map(str::trim).collect();
        if cells.len() != places.len() + 1 {
            return Err(format!("line {at}: {} cells and not {}", cells.len(), places.len() + 1));
        }
        let time = number(cells[0], at)?;
        if time < 0.0 || time < last {
            return Err(format!("line {at}: the time goes back to {time}"));
        }
        last = time;
        for (cell, (panel, series)) in cells[1..].iter().zip(&places) {
            let value = if cell.is_empty() { None } else { Some(number(cell, at)?) };
            if value.is_some_and(|v| v < 0.0) {
                return Err(format!("line {at}: {cell} is below zero, where the axes begin"));
            }
            panels[*panel].series[*series].points.push((time, value));
        }
        samples += 1;
    }
    if samples == 0 {
        return Err("there is no sample".to_owned());
    }
    Ok(Table { title, panels, samples })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_a_panel_share_it_and_an_empty_cell_is_a_gap() {
        let text = "# a b\n# more\ns,p: x, q,ms : y ,p:z\n0,1,,2\n\n0.5,3,4.5,\n";
        let error = read(text).unwrap_err();
        assert_eq!(error, "line 3: \"q\" is not PANEL: LINE");
        let table = read(&text.replace(", q,", ",")).unwrap();
        assert_eq!((table.title.as_deref(), table.samples), (Some("a b"), 2));
        let all: Vec<_> = table.panels.iter().flat_map(|p| p.series.iter().map(|s| (&*p.title, &*s.name))).collect();
        assert_eq!(all, [("p", "x"), ("p", "z"), ("ms", "y")]);
        assert_eq!(table.panels[0].series[1].points, [(0.0, Some(2.0)), (0.5, None)]);
        assert_eq!(table.panels[1].series[0].points, [(0.0, None), (0.5, Some(4.5))]);
    }

    #[test]
    fn what_is_no_table_is_refused_by_its_line() {
        for (text, want) in [
            ("", "there is no line of names"),
            ("s\n0\n", "line 1: names are TIME"),
            ("s,p: x\n", "there is no sample"),
            ("s,p: x\n0\n", "line 2: 1 cells and not 2"),
            ("s,p: x\n0,y\n", "line 2: \"y\" is not a number"),
            ("s,p: x\n0,nan\n", "line 2: \"nan\" is not a number"),
            ("s,p: x\n0,-1\n", "line 2: -1 is below zero"),
            ("s,p: x\n2,1\n1,1\n", "line 3: the time goes back to 1"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(want), "{text:?}: {error}");
        }
    }
}
