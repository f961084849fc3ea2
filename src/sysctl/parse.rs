//! Text to values and back, with the tolerance of /proc/sys: numbers in bases 8, 10 and 16 separated by blanks, port
//! lists with ranges. Linux: proc_dointvec and its kin, proc_do_large_bitmap (kernel/sysctl.c).

use crate::base::error::{Error, Result};

/// Longest number the kernel takes, sign included.
const NUMBER_LEN: usize = 21;

fn blank(c: u8) -> bool {
    matches!(c, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

/// Reads up to `cells.len()` numbers into `cells`, as a write to /proc/sys does: fewer leave the rest as it is, what
/// follows is ignored. EINVAL for none, for a number out of `min..=max`, or for anything that is not a number.
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
    // `from_str_radix` would take a second sign.
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

/// Ports as a bit each; 8 KiB.
pub(super) type PortSet = [u64; 1024];

/// Reads `8080,10000-10010`. Blanks at the ends and empty entries between commas are fine, as on Linux; anything else
/// is EINVAL, as is a range that runs backwards. No port at all empties the set.
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

/// The shortest list that [`ports`] reads back.
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

/// A word of at most 127 bytes and then blanks, or a list of words with single blanks. EINVAL for control characters.
pub(super) fn text(text: &str) -> Result<String> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    if words.iter().any(|word| word.bytes().any(|c| !c.is_ascii_graphic())) {
        return Err(Error::Inval);
    }
    Ok(words.join(" "))
}
