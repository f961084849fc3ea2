//! `cargo xtask programs`: the whole ladder of unmodified programs (`c-tests/tests/ladder`), each rung with usersock on
//! either side and on both, without loss and with 1 %. The rungs are tests; each prints a line for each play, which
//! becomes a row of a table here.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::{Failure, Outcome, cargo, sanitize, setup};

/// Arguments of `cargo xtask programs`.
#[derive(clap::Args)]
pub struct Args {
    /// Rungs whose number is one of these words, or whose name contains one; none: all
    #[arg(value_name = "RUNG")]
    filter: Vec<String>,
    /// Percent of the packets that the link loses; may be repeated; none: 0 and 1
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(0..=50))]
    loss: Vec<u32>,
    /// Whose TCP the server and the client have: K the kernel's, U a stack server's, P one in the program's process;
    /// may be repeated; none: all
    #[arg(long, value_name = "SERVER-CLIENT", value_parser = ["U-K", "K-U", "U-U", "P-K", "K-P"])]
    form: Vec<String>,
    /// Of the lossy link, and of the moments at which programs are killed
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Rungs that are played at a time
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    jobs: u32,
    /// Loads as short as those of `cargo xtask test`
    #[arg(long)]
    short: bool,
    /// Build the stack server and the shim with a sanitizer of the nightly toolchain; what it reports fails the rung.
    /// The loads are short
    #[arg(long, value_enum)]
    sanitizer: Option<sanitize::Sanitizer>,
}

/// A line of the table.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    rung: String,
    form: String,
    loss: String,
    result: String,
    seconds: String,
    why: String,
}

impl Row {
    /// What `climb` prints for a play: `LADDER`, then the fields, between tabulators.
    fn parse(line: &str) -> Option<Row> {
        let (_, fields) = line.split_once("LADDER\t")?;
        let [rung, form, loss, result, seconds, why] = fields.split('\t').collect::<Vec<_>>()[..] else { return None };
        let [rung, form, loss, result, seconds, why] = [rung, form, loss, result, seconds, why].map(str::to_owned);
        Some(Row { rung, form, loss, result, seconds, why })
    }

    fn print(&self) {
        let Row { rung, form, loss, result, seconds, why } = self;
        println!("{rung:<16} {form:<5} {loss:>4} %  {result:<7} {seconds:>7}  {why}");
    }

    /// The number that the rung's name begins with, to sort by.
    fn order(&self) -> (u32, String) {
        let number = self.rung.split('-').next().and_then(|n| n.parse().ok()).unwrap_or(u32::MAX);
        (number, self.rung.clone())
    }
}

/// Plays the rungs, and prints the table when all have ended; each row also as it comes.
///
/// # Errors
/// The tests could not be started, or a sanitizer's build failed.
pub fn run(args: &Args) -> Outcome {
    let begin = Instant::now();
    setup::tools();
    let mut command = cargo::cargo();
    command.args(["test", "--quiet", "--package", "usersock-c-tests", "--test", "ladder", "--no-fail-fast", "--"]);
    command.args(["--test-threads", &args.jobs.to_string()]);
    command.env("USERSOCK_LADDER", words(args)).env("PATH", setup::system_path());
    if let Some(sanitizer) = args.sanitizer {
        sanitize::build(sanitizer)?.set(&mut command);
    }
    let (mut rows, good) = play(&mut command)?;
    println!("\n{:<16} {:<5} {:>6}  {:<7} {:>7}", "rung", "form", "loss", "result", "s");
    rows.sort_by_key(Row::order);
    rows.iter().for_each(Row::print);
    println!("{}", summary(&rows, begin.elapsed().as_secs()));
    Ok(good && !rows.is_empty() && rows.iter().all(|row| row.result == "ok"))
}

/// What USERSOCK_LADDER is.
fn words(args: &Args) -> String {
    let losses = args.loss.iter().map(|loss| format!("loss={loss}"));
    let forms = args.form.iter().map(|form| format!("form={form}"));
    let rungs = args.filter.iter().map(|word| format!("rung={word}"));
    let short = (args.short || args.sanitizer.is_some()).then(|| "short".to_owned());
    rungs.chain(losses).chain(forms).chain(short).chain([format!("seed={}", args.seed)]).collect::<Vec<_>>().join(" ")
}

/// Runs the tests; prints rows as they come, and what failed tests said.
fn play(command: &mut Command) -> Result<(Vec<Row>, bool), Failure> {
    let mut child = command.current_dir(cargo::root()).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut rows = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line?;
            let line = String::from_utf8_lossy(&line);
            match Row::parse(&line) {
                Some(row) => {
                    row.print();
                    rows.push(row);
                }
                None => println!("{line}"),
            }
        }
    }
    Ok((rows, child.wait()?.success()))
}

fn summary(rows: &[Row], seconds: u64) -> String {
    let mut counts = BTreeMap::new();
    for row in rows {
        *counts.entry(row.result.as_str()).or_insert(0) += 1;
    }
    let counts: Vec<String> = counts.iter().map(|(result, count)| format!("{count} {result}")).collect();
    format!("{} plays: {}, in {seconds} s", rows.len(), counts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_play_is_a_row_and_other_lines_are_not() {
        let row = Row::parse("test rungs::rung_1_wget ... LADDER\t1-wget\tU-K\t1\tok\t2.5\t").expect("a row");
        assert_eq!((row.rung.as_str(), row.form.as_str(), row.loss.as_str()), ("1-wget", "U-K", "1"));
        assert_eq!((row.result.as_str(), row.seconds.as_str(), row.why.as_str()), ("ok", "2.5", ""));
        assert_eq!(Row::parse("test rungs::rung_1_wget ... ok"), None);
        assert_eq!(Row::parse("LADDER\ttoo\tfew"), None);
    }

    #[test]
    fn rows_are_counted_and_sorted_by_the_number_of_the_rung() {
        let row =
            |rung: &str, result: &str| Row::parse(&format!("LADDER\t{rung}\tU-K\t0\t{result}\t1\t")).expect("row");
        let mut rows = vec![row("10-node", "ok"), row("2-bash", "FAILED"), row("1-wget", "ok")];
        rows.sort_by_key(Row::order);
        assert_eq!(rows.iter().map(|row| row.rung.as_str()).collect::<Vec<_>>(), ["1-wget", "2-bash", "10-node"]);
        assert_eq!(summary(&rows, 9), "3 plays: 1 FAILED, 2 ok, in 9 s");
    }
}
