//! Conversion between text and values, as tolerant as /proc/sys: numbers in bases 8, 10 and 16 separated by blanks,
//! port lists with ranges. Linux: proc_dointvec and its kin, proc_do_large_bitmap (kernel/sysctl.c).

use crate::base::error::{Error, Result};

/// Longest number that the kernel accepts, sign included.
const NUMBER_LEN: usize = 21;

fn blank(c: u8) -> bool {
    matches!(c, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

/// Parses up to `cells.len()` numbers into `cells`, as a write to /proc/sys does: if there are fewer, the other cells
/// are unchanged; text after them is ignored. EINVAL if there is no number, for a number out of `min..=max`, or for
/// anything that is not a number.
pub(super) fn numbers(text: &str, min: i128, max: i128, cells: &mut [i128]) -> Result<()> {
    let mut given = text.split(|c: char| c.is_ascii() && blank(c as u8)).filter(|word| !word.is_empty());
    let mut any = false;
    for cell in cells {
        let Some(word) = given.next() else { break };
        let value = number(word).ok_or(Error::Inval)?;
        if value < min || value > max {
            return Err(Error::Inval);
        }
        *cell = value;
        any = true;
    }
    if any { Ok(()) } else { Err(Error::Inval) }
}

fn number(word: &str) -> Option<i128> {
    let (negative, digits) = match word.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, word),
    };
    // `from_str_radix` would accept a second sign.
    if word.len() > NUMBER_LEN || !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let hex = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    let value = match (hex, digits.strip_prefix('0')) {
        (Some(hex), _) if hex.starts_with(|c: char| c.is_ascii_hexdigit()) => i128::from_str_radix(hex, 16),
        (Some(_), _) => return None,
        (None, Some(octal)) if !octal.is_empty() => i128::from_str_radix(octal, 8),
        (None, _) => digits.parse(),
    };
    let value = value.ok()?;
    Some(if negative { -value } else { value })
}

/// A set of ports, one bit each; 8 KiB.
pub(super) type PortSet = [u64; 1024];

/// Parses `8080,10000-10010`. Blanks at the ends and empty entries between commas are allowed, as in Linux; anything
/// else is EINVAL, and so is a reversed range. A list without ports empties the set.
pub(super) fn ports(text: &str) -> Result<Box<PortSet>> {
    let mut set = Box::new([0; 1024]);
    for item in text.trim_matches(|c: char| c.is_ascii() && blank(c as u8)).split(',').filter(|item| !item.is_empty()) {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        let port = |digits: &str| match digits.bytes().all(|c| c.is_ascii_digit()) {
            true => digits.parse::<u16>().map_err(|_| Error::Inval),
            false => Err(Error::Inval),
        };
        let (first, last) = (port(first)?, port(last)?);
        if first > last {
            return Err(Error::Inval);
        }
        for port in first..=last {
            set[usize::from(port) / 64] |= 1 << (port % 64);
        }
    }
    Ok(set)
}

/// The shortest list that [`ports`] parses to the same set.
pub(super) fn ports_text(set: &PortSet) -> String {
    let has = |port: usize| port < 65_536 && set[port / 64] >> (port % 64) & 1 == 1;
    let mut items = Vec::new();
    let mut port = 0;
    while port < 65_536 {
        if !has(port) {
            port += 1;
            continue;
        }
        let first = port;
        while has(port) {
            port += 1;
        }
        items.push(if port - first == 1 { first.to_string() } else { format!("{first}-{}", port - 1) });
    }
    items.join(",")
}

/// Parses a word of at most 127 bytes followed by blanks, or a list of words with single blanks. EINVAL for control
/// characters.
pub(super) fn text(text: &str) -> Result<String> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    if words.iter().any(|word| word.bytes().any(|c| !c.is_ascii_graphic())) {
        return Err(Error::Inval);
    }
    Ok(words.join(" "))
}
