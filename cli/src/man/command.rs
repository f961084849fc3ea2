//! usersock(1), and a page for each command, from what `--help` is made of. Above: `man`. Below: clap's description of
//! the arguments.

use super::roff::Page;
use clap::{Arg, Command};

/// What is true of all commands.
const STATUS: &str = "0 on success; 1 when something outside failed (a device, a connection, a stack that has ended); \
                      2 for wrong arguments. An error is one line on standard error.";

fn about(c: &Command) -> String {
    c.get_long_about().or(c.get_about()).map(ToString::to_string).unwrap_or_default()
}

/// The value's placeholder, as `NAME`.
fn value(a: &Arg) -> String {
    let names = a.get_value_names().unwrap_or_default();
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn takes_value(a: &Arg) -> bool {
    a.get_action().takes_values()
}

/// A term such as `-N`, `--instance NAME`.
fn term(a: &Arg) -> String {
    let short = a.get_short().map(|c| format!("`-{c}`"));
    let long = a.get_long().map(|l| format!("`--{l}`"));
    let words = short.into_iter().chain(long).collect::<Vec<_>>().join(", ");
    match (words.is_empty(), takes_value(a)) {
        (true, _) => value(a),
        (false, true) => format!("{words} {}", value(a)),
        (false, false) => words,
    }
}

fn help(a: &Arg) -> String {
    let text = a.get_long_help().or(a.get_help()).map(ToString::to_string).unwrap_or_default();
    let choices: Vec<String> = a
        .get_possible_values()
        .iter()
        .filter(|_| takes_value(a))
        .map(|v| match v.get_help() {
            Some(help) => format!("{} ({})", v.get_name(), first_small(&help.to_string())),
            None => v.get_name().to_owned(),
        })
        .collect();
    let default: Vec<String> = a.get_default_values().iter().map(|v| v.to_string_lossy().into_owned()).collect();
    let mut text = text.trim_end_matches('.').to_owned() + ".";
    if !choices.is_empty() {
        text += &format!(" One of {}.", choices.join(", "));
    }
    if takes_value(a) && !default.is_empty() {
        text += &format!(" Default: {}.", default.join(", "));
    }
    text
}

fn first_small(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |c| c.to_lowercase().chain(chars).collect())
}

fn options(page: &mut Page, c: &Command) {
    let hidden = |a: &&Arg| !a.is_hide_set();
    for a in c.get_arguments().filter(hidden) {
        page.item(&term(a), &help(a));
    }
}

/// What stands behind the options in `--help`: paragraphs, and lines that are indented as they stand.
fn after_help(page: &mut Page, c: &Command) {
    let Some(text) = c.get_after_help().map(ToString::to_string) else { return };
    for part in text.split("\n\n") {
        match part.strip_prefix("Examples:\n") {
            Some(examples) => {
                page.head("EXAMPLES");
                let lines: Vec<&str> = examples.lines().map(|l| l.strip_prefix("  ").unwrap_or(l)).collect();
                page.verbatim(&lines.join("\n"));
            }
            None => {
                page.head("NOTES");
                page.text(part);
            }
        }
    }
}

/// How it is called, without colours.
fn synopsis(name: &str, c: &Command) -> String {
    let usage = c.clone().bin_name(name.to_owned()).render_usage().to_string();
    usage.trim_start_matches("Usage: ").to_owned()
}

/// The page of one command of the program, with those inside it.
pub(super) fn page(name: &str, c: &Command) -> String {
    let full = format!("usersock {name}");
    let mut page = Page::new(&format!("usersock-{name}"), 1, &first_small(&about(c)));
    page.head("SYNOPSIS");
    if !c.has_subcommands() {
        page.bold(&synopsis(&full, c));
    }
    for inner in c.get_subcommands() {
        page.bold(&synopsis(&format!("{full} {}", inner.get_name()), inner));
    }
    page.head("DESCRIPTION");
    page.text(&(about(c) + "."));
    page.head("OPTIONS");
    options(&mut page, c);
    for inner in c.get_subcommands() {
        page.subhead(&format!("{full} {}", inner.get_name()));
        page.text(&(about(inner) + "."));
        options(&mut page, inner);
    }
    after_help(&mut page, c);
    page.head("EXIT STATUS");
    page.text(STATUS);
    page.head("SEE ALSO");
    page.text("usersock(1), usersock(7)");
    page.end()
}

/// The page of the program.
pub(super) fn program(cli: &Command) -> String {
    let mut page = Page::new("usersock", 1, "TCP sockets in user space: the command");
    page.head("SYNOPSIS");
    page.bold("usersock COMMAND ...");
    page.head("DESCRIPTION");
    page.text(
        "usersock is a TCP/IP stack in user space that behaves as Linux's. The command runs programs on it, looks into \
         stacks that run, and tries settings and connections by hand. A stack is described by a configuration string, \
         see usersock(7). Programs in C use it through libusersock(3).",
    );
    page.head("COMMANDS");
    let shown = || cli.get_subcommands().filter(|c| !c.is_hide_set());
    for c in shown() {
        page.item(&format!("`{}`", c.get_name()), &(about(c) + &format!(". See usersock-{}(1).", c.get_name())));
    }
    page.head("ENVIRONMENT");
    page.item("`USERSOCK_CONFIG`", "The configuration of a program, or of a command, that is given none.");
    page.item(
        "`USERSOCK_DIR`, `XDG_RUNTIME_DIR`",
        "Where running instances are found: the directory itself, or the one above its directory `usersock`.",
    );
    page.head("EXIT STATUS");
    page.text(STATUS);
    page.head("SEE ALSO");
    let pages: Vec<String> = shown().map(|c| format!("usersock-{}(1)", c.get_name())).collect();
    page.text(&format!("{}, usersock(7), libusersock(3), ss(8), nstat(8), sysctl(8), tcp(7)", pages.join(", ")));
    page.end()
}
