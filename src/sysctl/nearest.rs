//! The name a person meant: for messages about a name that does not exist. Above: `config`, the command.

/// The name that is nearest to `word` by edit distance, if one is near enough to be meant: whole names are compared,
/// and what follows the last dot alone, since prefixes are often left out.
pub fn nearest<'n>(word: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let near = |name: &'n str| {
        let whole = distance(word, name);
        let last = distance(last_part(word), last_part(name));
        let most = last_part(word).len().min(9) / 3;
        // Of names with equal last parts, the one whose whole is nearest.
        (whole.min(last) <= most).then_some((whole.min(last), whole, name))
    };
    names.into_iter().filter_map(near).min().map(|(.., name)| name)
}

fn last_part(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// Insertions, deletions, replacements, and exchanges of neighbours that make `b` of `a` (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut before = vec![0; b.len() + 1];
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut next = vec![i + 1; b.len() + 1];
        for j in 0..b.len() {
            let replace = row[j] + usize::from(a[i] != b[j]);
            next[j + 1] = replace.min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                next[j + 1] = next[j + 1].min(before[j - 1] + 1);
            }
        }
        before = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_that_was_meant_is_found_and_no_other_is_made_up() {
        let names = ["net.ipv4.tcp_sack", "net.ipv4.tcp_dsack", "net.ipv4.tcp_rmem", "net.core.rmem_max", "mtu", "mac"];
        for (word, want) in [
            ("net.ipv4.tcp_sakc", Some("net.ipv4.tcp_sack")),
            ("tcp_sack", Some("net.ipv4.tcp_sack")),
            ("net.ipv6.tcp_rmem", Some("net.ipv4.tcp_rmem")),
            ("core.rmem_max", Some("net.core.rmem_max")),
            ("mt", None),
            ("mtuu", Some("mtu")),
            ("net.ipv4.no_such_thing", None),
            ("colour", None),
        ] {
            assert_eq!(nearest(word, names), want, "{word}");
        }
    }
}
