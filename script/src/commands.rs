//! Backtick commands: the little of the shell that scripts use to set up a stack, done on the stack under test and on
//! nothing else. No process is started. Above: `run`.
//!
//! Understood: `sysctl [-q] [-w] name=value...` (quotes, `$((1024*1024))`), `sleep SECONDS`, `true`, `:`; a path that
//! ends in `.sh`, which is read beside the script and interpreted the same way; comments, `;`, `&&`, line ends,
//! redirections to /dev/null. Anything else is an error of the script.
use crate::ast::Micros;
use std::path::Path;

/// How deep `.sh` files may call each other.
const MAX_DEPTH: u32 = 8;

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Set a sysctl.
    Sysctl {
        /// Linux's name, with dots.
        name: String,
        /// Its value.
        value: String,
    },
    /// Let time pass.
    Sleep(Micros),
}

/// Reads a command. `beside` is the folder of the script, for `.sh` files.
pub fn read(text: &str, beside: &Path) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    read_into(text, beside, 0, &mut steps)?;
    Ok(steps)
}

fn read_into(text: &str, beside: &Path, depth: u32, steps: &mut Vec<Step>) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err("shell files call each other too deep".into());
    }
    for words in statements(text)? {
        match words[0].as_str() {
            ":" | "true" => {}
            "sysctl" => {
                let settings: Vec<&String> = words[1..].iter().filter(|word| !word.starts_with('-')).collect();
                if let Some(flag) = words[1..].iter().find(|w| w.starts_with('-') && !matches!(w.as_str(), "-q" | "-w"))
                {
                    return Err(format!("sysctl {flag} is not supported"));
                }
                for setting in settings {
                    let (name, value) = setting.split_once('=').ok_or(format!("sysctl {setting}: no value"))?;
                    steps.push(Step::Sysctl { name: name.trim().replace('/', "."), value: value.trim().to_owned() });
                }
            }
            "sleep" => match words.get(1).and_then(|word| word.parse::<f64>().ok()) {
                Some(seconds) if (0.0..1e6).contains(&seconds) => steps.push(Step::Sleep((seconds * 1e6) as Micros)),
                _ => return Err("sleep takes a number of seconds".into()),
            },
            path if path.ends_with(".sh") => {
                let path = beside.join(path);
                let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
                read_into(&text, path.parent().unwrap_or(beside), depth + 1, steps)?;
            }
            command => return Err(format!("command `{command}` is not supported")),
        }
    }
    Ok(())
}

/// Splits a text into statements of words.
fn statements(text: &str) -> Result<Vec<Vec<String>>, String> {
    let mut statements = Vec::new();
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut rest = text;
    loop {
        let mut chars = rest.chars();
        let c = chars.next();
        let after = chars.as_str();
        match c {
            Some('\\') if after.starts_with('\n') => rest = &after[1..],
            Some('#') if word.is_none() => rest = after.find('\n').map_or("", |end| &after[end..]),
            Some(quote @ ('"' | '\'')) => {
                let end = after.find(quote).ok_or("a quote is not closed")?;
                let inner = &after[..end];
                let inner = if quote == '"' { expand(inner)? } else { inner.to_owned() };
                word.get_or_insert_default().push_str(&inner);
                rest = &after[end + 1..];
            }
            Some('$') if after.starts_with("((") => {
                let end = after.find("))").ok_or("$(( is not closed")?;
                word.get_or_insert_default().push_str(&arithmetic(&after[2..end])?.to_string());
                rest = &after[end + 2..];
            }
            Some('$' | '`' | '|') => return Err(format!("`{rest}`: pipes and variables are not supported")),
            Some('>') => {
                // A descriptor's number before it is no word of the command.
                if word.as_deref().is_some_and(|w| w.chars().all(|c| c.is_ascii_digit())) {
                    word = None;
                }
                let target = after.trim_start_matches(['>', ' ']);
                let end = target.find([' ', '\t', '\n', ';']).unwrap_or(target.len());
                match &target[..end] {
                    "/dev/null" | "&1" | "&2" => rest = &target[end..],
                    path => return Err(format!("redirection to {path} is not supported")),
                }
            }
            None | Some('\n' | ';' | '&' | ' ' | '\t' | '\r') => {
                words.extend(word.take());
                if matches!(c, None | Some('\n' | ';' | '&')) && !words.is_empty() {
                    statements.push(std::mem::take(&mut words));
                }
                if c.is_none() {
                    return Ok(statements);
                }
                rest = after;
            }
            Some(c) => {
                word.get_or_insert_default().push(c);
                rest = after;
            }
        }
    }
}

/// `$((..))` inside double quotes.
fn expand(text: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('$') {
        let after = rest[start + 1..].strip_prefix("((").ok_or("variables are not supported")?;
        let end = after.find("))").ok_or("$(( is not closed")?;
        out += &rest[..start];
        out += &arithmetic(&after[..end])?.to_string();
        rest = &after[end + 2..];
    }
    Ok(out + rest)
}

/// Products and sums of whole numbers.
fn arithmetic(text: &str) -> Result<i64, String> {
    let fail = || format!("$(({text})) is not supported");
    text.split('+').try_fold(0i64, |sum, term| {
        let product =
            term.split('*').try_fold(1i64, |product, factor| product.checked_mul(factor.trim().parse().ok()?));
        product.and_then(|product| sum.checked_add(product)).ok_or_else(fail)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sysctls_are_read_as_the_shell_would() {
        let text = "#!/bin/sh\n# comment\nsysctl -q net.ipv4.tcp_sack=1 net/ipv4/tcp_ecn=0; sysctl -q -w \\\n \
                    net.ipv4.tcp_wmem=\"4096 $((256*1024)) 4194304\" > /dev/null 2>&1\nsleep 0.5 && true";
        let set = |name: &str, value: &str| Step::Sysctl { name: name.into(), value: value.into() };
        let want = vec![
            set("net.ipv4.tcp_sack", "1"),
            set("net.ipv4.tcp_ecn", "0"),
            set("net.ipv4.tcp_wmem", "4096 262144 4194304"),
            Step::Sleep(500_000),
        ];
        assert_eq!(read(text, Path::new(".")).unwrap(), want);
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for text in [
            "rm -rf x",
            "sysctl -a",
            "echo 1 > /proc/x",
            "sysctl a=$B",
            "a | b",
            "sysctl a=\"1",
            "sleep x",
            "no/such.sh",
        ] {
            assert!(read(text, Path::new("/nonexistent")).is_err(), "{text}");
        }
    }
}
