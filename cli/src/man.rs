//! Manual pages and shell completions, each from the one place where its text stands anyway: the commands' from their
//! arguments, usersock(7) from docs/config.md, libusersock(3) from the header. `cargo xtask install` writes them.
//!
//! `command`, `markdown` and `header` read a source, `roff` writes a page.

mod command;
mod header;
mod markdown;
mod roff;

use crate::{Cli, Failure, out};
use clap::CommandFactory;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub(crate) struct Man {
    /// Write all pages below this directory, as man1/usersock.1
    #[arg(long, value_name = "DIR", conflicts_with = "page")]
    dir: Option<PathBuf>,
    /// A page, as usersock.1; without it, the list of pages
    page: Option<String>,
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  usersock completions bash > ~/.local/share/bash-completion/completions/usersock
  usersock completions fish > ~/.config/fish/completions/usersock.fish")]
pub(crate) struct Completions {
    /// For which shell
    shell: clap_complete::Shell,
}

/// All pages, by file name.
fn pages() -> Vec<(String, String)> {
    let mut cli = Cli::command();
    cli.build();
    let mut all = vec![("usersock.1".to_owned(), command::program(&cli))];
    for c in cli.get_subcommands().filter(|c| !c.is_hide_set()) {
        all.push((format!("usersock-{}.1", c.get_name()), command::page(c.get_name(), c)));
    }
    let mut seven = roff::Page::new("usersock", 7, "configuration strings: a stack from a line of text");
    seven.head("DESCRIPTION");
    markdown::append(&mut seven, include_str!("../../docs/config.md"));
    seven.head("SEE ALSO");
    seven.text("usersock(1), libusersock(3)");
    all.push(("usersock.7".to_owned(), seven.end()));
    all.push(("libusersock.3".to_owned(), header::page(include_str!("../../include/usersock.h"))));
    all
}

fn write(dir: &Path, pages: &[(String, String)]) -> std::io::Result<()> {
    for (name, text) in pages {
        let section = dir.join(format!("man{}", name.rsplit('.').next().unwrap_or_default()));
        fs::create_dir_all(&section)?;
        fs::write(section.join(name), text)?;
    }
    Ok(())
}

pub(crate) fn man(args: &Man) -> Result<(), Failure> {
    let pages = pages();
    if let Some(dir) = &args.dir {
        return write(dir, &pages).map_err(|e| Failure::Broken(format!("{}: {e}", dir.display())));
    }
    let Some(page) = &args.page else {
        return out::print(|out| pages.iter().try_for_each(|(name, _)| writeln!(out, "{name}")));
    };
    match pages.iter().find(|(name, _)| name == page) {
        Some((_, text)) => out::print(|out| out.write_all(text.as_bytes())),
        None => Err(Failure::Usage(format!("there is no page {page:?}; `usersock man` lists them"))),
    }
}

pub(crate) fn completions(args: &Completions) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "usersock", &mut text);
    out::print(|out| out.write_all(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words of a line as a shell takes them, to the first operator or comment.
    fn words(line: &str) -> Vec<String> {
        let mut words = vec![String::new()];
        let (mut quote, mut blank) = (false, true);
        for c in line.chars() {
            match c {
                '\'' => quote = !quote,
                '|' | '>' | '&' if !quote => break,
                '#' if !quote && blank => break,
                ' ' if !quote => words.push(String::new()),
                _ => words.last_mut().unwrap().push(c),
            }
            blank = c == ' ';
        }
        words.retain(|word| !word.is_empty());
        words
    }

    fn check_examples(name: &str, c: &clap::Command) {
        let text = c.get_after_help().map(|help| help.to_string()).unwrap_or_default();
        assert!(
            text.starts_with("Examples:\n") || c.has_subcommands() && name != "usersock pcap",
            "{name}: no example"
        );
        for line in text.lines().filter(|line| line.starts_with("  ")) {
            // A comment is behind three blanks, or a #.
            let typed = line.trim_start();
            let typed = typed.split_once("   ").map_or(typed, |(typed, _)| typed);
            let Some(at) = typed.find("usersock ").filter(|at| *at == 0 || typed[..*at].ends_with(['|', '$', ' ']))
            else {
                continue;
            };
            let words = words(&typed[at..]);
            if let Err(e) = <Cli as clap::Parser>::try_parse_from(&words) {
                panic!("{name}: {words:?}: {e}");
            }
        }
        for inner in c.get_subcommands().filter(|c| !c.is_hide_set()) {
            check_examples(&format!("{name} {}", inner.get_name()), inner);
        }
    }

    #[test]
    fn every_command_has_examples_and_they_are_taken() {
        check_examples("usersock", &Cli::command());
    }

    #[test]
    fn pages_have_every_command_option_and_key() {
        let pages = pages();
        let page = |name: &str| &pages.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("{name}")).1;
        let cli = Cli::command();
        for c in cli.get_subcommands().filter(|c| !c.is_hide_set()) {
            assert!(
                page("usersock.1").contains(&format!("\\fB{}\\fR\n", roff::escape(c.get_name()))),
                "{}",
                c.get_name()
            );
            let text = page(&format!("usersock-{}.1", c.get_name()));
            for long in c.get_arguments().filter(|a| !a.is_hide_set()).filter_map(|a| a.get_long()) {
                assert!(text.contains(&roff::escape(&format!("--{long}"))), "{} --{long}", c.get_name());
            }
        }
        for key in ["tun=NAME", "control=FILE", "sysctl.NAME=VALUE"] {
            assert!(page("usersock.7").contains(&format!("\\fB{key}\\fR\n")), "{key}");
        }
        const MACROS: [&str; 12] = ["TH", "ad", "nh", "SH", "SS", "PP", "TP", "IP", "RS", "RE", "nf", "fi"];
        for (name, text) in &pages {
            let request = |l: &&str| l.starts_with(['.', '\'']);
            for line in text.lines().filter(request) {
                assert!(MACROS.contains(&line[1..].split(' ').next().unwrap_or_default()), "{name}: {line}");
            }
        }
    }
}
