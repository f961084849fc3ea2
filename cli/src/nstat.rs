//! `usersock nstat`: the counters of a running stack, as nstat(8) prints the kernel's: what they have grown by since
//! the last call. What was printed last is kept by the stack, not in a file, so it ends with the stack.

use crate::instance::Which;
use crate::{Failure, out};
use serde_json::{Map, Value};
use std::io::Write;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  usersock nstat                         what has happened since the last call
  usersock nstat -az 'TcpExtTCP*'        all of TCP's extended counters, zeros too
  usersock nstat -s TcpRetransSegs       a look that does not count as a call
  usersock nstat -j                      the same as JSON
  usersock nstat --drops                 also, for each reason, how many packets were dropped")]
pub(crate) struct Args {
    #[command(flatten)]
    which: Which,
    /// Absolute values: do not subtract those of the last call
    #[arg(short = 'a', long)]
    ignore: bool,
    /// Counters that are zero too
    #[arg(short, long)]
    zeros: bool,
    /// As JSON
    #[arg(short, long)]
    json: bool,
    /// JSON with line breaks
    #[arg(short, long, requires = "json")]
    pretty: bool,
    /// Forget the last call, then as always
    #[arg(short, long)]
    reset: bool,
    /// This call is not the next one's last
    #[arg(short = 's', long)]
    noupdate: bool,
    /// Print nothing: this call is only the next one's last
    #[arg(short, long, conflicts_with_all = ["noupdate", "json"])]
    nooutput: bool,
    /// Dropped packets by reason, since the stack began, after the counters
    #[arg(long)]
    drops: bool,
    /// Counters to print: names, in which * and ? stand for letters
    #[arg(value_name = "PATTERN")]
    patterns: Vec<String>,
}

/// Settings that the files of /proc/net have among the counters, and one that goes up and down: not nstat's business.
const NO_COUNTERS: [&str; 7] =
    ["IpForwarding", "IpDefaultTTL", "TcpRtoAlgorithm", "TcpRtoMin", "TcpRtoMax", "TcpMaxConn", "TcpCurrEstab"];

/// Whether a name matches a pattern of letters, `*` and `?`.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, rest) => rest.is_none(),
        (Some((b'*', p)), None) => matches(p, name),
        (Some((b'*', p)), Some((_, n))) => matches(p, name) || matches(pattern, n),
        (Some((c, p)), Some((d, n))) => (*c == b'?' || c == d) && matches(p, n),
        (Some(_), None) => false,
    }
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let mut peer = args.which.open()?;
    let mut answer = peer.ask(if args.noupdate { "counters" } else { "mark" })?;
    let object = |v: &mut Value, key: &str| match v[key].take() {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    let Some((_, v)) = answer.first_mut() else {
        return Err(Failure::Broken("the stack has sent no counters".to_owned()));
    };
    let (now, mut before, drops) = (object(v, "counters"), object(v, "history"), object(v, "drops"));
    if args.ignore || args.reset {
        before.clear();
    }
    if args.nooutput {
        return Ok(());
    }
    let wanted = |name: &str| {
        let named = args.patterns.is_empty() || args.patterns.iter().any(|p| matches(p.as_bytes(), name.as_bytes()));
        named && !NO_COUNTERS.contains(&name)
    };
    let number = |v: Option<&Value>| v.and_then(Value::as_u64).unwrap_or_default();
    let grown = |(name, v): (&String, &Value)| (name.clone(), number(Some(v)).wrapping_sub(number(before.get(name))));
    let shown = |(name, n): &(String, u64)| wanted(name) && (args.zeros || *n != 0);
    let counters: Vec<(String, u64)> = now.iter().map(grown).filter(shown).collect();
    let drops = drops.iter().map(|(name, v)| (name.clone(), number(Some(v)))).filter(|(_, n)| args.zeros || *n != 0);
    let drops: Vec<(String, u64)> = drops.filter(|_| args.drops).collect();
    if args.json {
        let map = |list: Vec<(String, u64)>| Value::Object(list.into_iter().map(|(k, n)| (k, n.into())).collect());
        // The key that nstat(8) has: what reads its JSON reads ours.
        let mut all = Map::from_iter([("kernel".to_owned(), map(counters))]);
        if args.drops {
            all.insert("drops".to_owned(), map(drops));
        }
        let all = Value::Object(all);
        return out::print(|out| if args.pretty { writeln!(out, "{all:#}") } else { writeln!(out, "{all}") });
    }
    out::print(|out| {
        writeln!(out, "#usersock")?;
        counters.iter().try_for_each(|(name, n)| writeln!(out, "{name:<32}{n:<16}   0.0"))?;
        if args.drops {
            writeln!(out, "#drops")?;
        }
        drops.iter().try_for_each(|(name, n)| writeln!(out, "{name:<32}{n}"))
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn stars_and_question_marks_stand_for_letters() {
        for (pattern, name, want) in [
            ("TcpInSegs", "TcpInSegs", true),
            ("TcpInSegs", "TcpInSegsX", false),
            ("TcpIn", "TcpInSegs", false),
            ("Tcp*", "TcpInSegs", true),
            ("*Segs", "TcpInSegs", true),
            ("*In*g?", "TcpInSegs", true),
            ("*In*g?", "TcpInSeg", false),
            ("*", "", true),
            ("?", "", false),
        ] {
            assert_eq!(super::matches(pattern.as_bytes(), name.as_bytes()), want, "{pattern} {name}");
        }
    }
}
