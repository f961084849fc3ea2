//! Times and numbers as ss(8) writes them. Above: `sock`, `cong`.

/// A time as ss(8) prints it: the greatest unit, and the next below it while it matters.
pub(super) fn time(ms: u64) -> String {
    let (min, sec, rest) = (ms / 60_000, ms / 1000 % 60, ms % 1000);
    match (min, sec) {
        (0, 0) => format!("{rest}ms"),
        (0, 1..=9) if rest != 0 => format!("{sec}.{rest:03}ms"),
        (0, _) => format!("{sec}sec"),
        (1..=9, 1..) => format!("{min}min{sec}sec"),
        _ => format!("{min}min"),
    }
}

/// A number as C's %g with six digits prints it, for what is neither huge nor tiny.
pub(super) fn short(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let whole = value.abs().log10().floor() as i32 + 1;
    let decimals = (6 - whole).clamp(0, 9) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_numbers_are_written_as_ss_writes_them() {
        for (ms, want) in [
            (0, "0ms"),
            (316, "316ms"),
            (1500, "1.500ms"),
            (9000, "9sec"),
            (59_999, "59sec"),
            (119_000, "1min59sec"),
            (120_000, "2min"),
            (7_199_000, "119min"),
        ] {
            assert_eq!(time(ms), want, "{ms}");
        }
        for (value, want) in
            [(0.0, "0"), (204.0, "204"), (0.009, "0.009"), (4.493, "4.493"), (1234.5678, "1234.57"), (1e6, "1000000")]
        {
            assert_eq!(short(value), want, "{value}");
        }
    }
}
