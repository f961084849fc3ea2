//! The `usersock` command. Above: its users, the manual pages (`man`). Below: the crate `usersock`, its configurations
//! and its Rust API, so a program could do the same; `usersock_spliced` for the stack server, and `usersock_ffi` for
//! plug-ins.
//!
//! | file | commands |
//! |---|---|
//! | `run`, `launch` | `run`, `shell`, `ps`, `exec`: programs in namespaces of their own |
//! | `serve` | `serve`: the stack server |
//! | `link` | `link`: two TUN devices joined by a simulated link |
//! | `ss`, `nstat`, `trace`, `plot`, `pcap` | a look into a running stack, through its control socket (`instance`); `ss` also has `kill` |
//! | `settings`, `protocols` | `sysctl`, `protocols`; `check-config` is in this file |
//! | `pipe`, `address` | `connect`, `listen`: one connection on the terminal |
//! | `new_plugin`, `check_plugin` | plug-ins: a skeleton, and tests of what every plug-in must do |
//! | `man`, `out`, `sys` | manual pages and completions; standard output; system calls |
//!
//! Exit status: 0; 1 when something outside failed (a device, a connection); 2 for wrong arguments. `run`, `shell` and
//! `exec` end with their program's status, or 125 to 127 (docs/run.md). Errors are one line on stderr.

mod address;
mod check_plugin;
mod instance;
mod launch;
mod link;
mod man;
mod new_plugin;
mod nstat;
mod out;
mod pcap;
mod pipe;
mod plot;
mod protocols;
mod run;
mod serve;
mod settings;
mod ss;
mod sys;
mod trace;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};
use instance::{Peer, Which};
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use usersock::config::{self, Config, ConfigError};
use usersock::error::Error;
use usersock::stack::Stack;

/// Why a command ended early.
#[derive(Debug)]
enum Failure {
    /// The arguments are wrong: exit status 2.
    Usage(String),
    /// Something outside failed: exit status 1.
    Broken(String),
    /// `usersock run` and `exec` did not start their program: this exit status.
    Status(u8, String),
}

impl Failure {
    /// The exit status, and the line.
    fn parts(self) -> (u8, String) {
        match self {
            Failure::Usage(m) => (2, m),
            Failure::Broken(m) => (1, m),
            Failure::Status(status, m) => (status, m),
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(e: ConfigError) -> Failure {
        // What check-config refuses is the text's fault, and so are EINVAL and a plug-in that does not exist. That
        // there is no /dev/net/tun is not.
        let of_text = |key: &&str| e.message.starts_with(*key);
        match e.error {
            _ if ["addr=", "gw=", "route=", "sysctl."].iter().any(of_text) => Failure::Usage(e.message),
            Error::NoEnt if e.message.starts_with("tun=") => Failure::Broken(e.message),
            Error::Inval | Error::NoEnt => Failure::Usage(e.message),
            _ => Failure::Broken(e.message),
        }
    }
}

#[derive(Parser)]
#[command(
    name = "usersock",
    version,
    about = "TCP sockets in user space",
    disable_help_subcommand = true,
    after_help = "\
Examples:
  usersock run --instance web -- python3 -m http.server -b 10.0.0.2 80   # an unmodified program, on usersock
  usersock exec web -- curl http://10.0.0.2/                             # its peer, on the kernel's TCP
  usersock ss -N web -ti                                                 # what the stack knows of the connections
  usersock run --in-process --outside -- curl https://example.org/

`usersock COMMAND --help` has more of each."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Which stack.
#[derive(Args)]
struct On {
    /// The stack, as tun=tun0,addr=10.0.0.2/24,gw=10.0.0.1; without it the environment variable USERSOCK_CONFIG,
    /// without that the in-memory loopback
    #[arg(long, value_name = "CONFIG")]
    config: Option<String>,
    /// A plug-in to load into the stack, before the configuration's own; may be repeated
    #[arg(long, value_name = "FILE.so")]
    plugin: Vec<String>,
}

impl On {
    fn text(&self) -> Result<String, Failure> {
        let config = match (&self.config, std::env::var("USERSOCK_CONFIG")) {
            (Some(text), _) => text.clone(),
            (None, Ok(text)) => text,
            (None, Err(std::env::VarError::NotPresent)) => String::new(),
            (None, Err(e)) => return Err(Failure::Usage(format!("USERSOCK_CONFIG: {e}"))),
        };
        with_plugins(&self.plugin, &config)
    }

    fn stack(&self) -> Result<Arc<Stack>, Failure> {
        Ok(config::build(&self.text()?)?)
    }
}

/// Which stack: one of this command's own, or a running one.
#[derive(Args)]
struct OnOrRunning {
    #[command(flatten)]
    on: On,
    #[command(flatten)]
    which: Which,
    /// Of the running instance; implied by -N
    #[arg(short, long, conflicts_with_all = ["config", "plugin"])]
    running: bool,
}

impl OnOrRunning {
    /// The running one; None: it is this command's own.
    fn peer(&self) -> Result<Option<Peer>, Failure> {
        if !self.running && self.which.name.is_none() {
            return Ok(None);
        }
        if self.on.config.is_some() || !self.on.plugin.is_empty() {
            return Err(Failure::Usage(
                "-N is of a running stack, --config and --plugin of one of this command's".to_owned(),
            ));
        }
        self.which.open().map(Some)
    }
}

/// A configuration with plug-ins in front.
fn with_plugins(files: &[String], config: &str) -> Result<String, Failure> {
    if let Some(file) = files.iter().find(|file| file.contains(',')) {
        return Err(Failure::Usage(format!("--plugin {file}: a name with a comma")));
    }
    Ok(files.iter().map(|file| format!("plugin={file},")).collect::<String>() + config)
}

/// A connection's end on the terminal.
#[derive(Args)]
struct Pipe {
    #[command(flatten)]
    on: On,
    /// When the connection has ended, print the counters that are not zero to stderr
    #[arg(long)]
    counters: bool,
    /// Socket type (stream, seqpacket, dgram) and IP protocol number of a protocol of the stack; 0: the type's own
    #[arg(long, value_name = "TYPE[:PROTOCOL]", default_value = "stream")]
    socket: pipe::Kind,
    /// Address (of IPv6 in brackets) or name, which the system resolves (getaddrinfo), and port
    #[arg(value_name = "HOST:PORT")]
    addr: address::Address,
}

#[derive(Subcommand)]
enum Command {
    /// Print settings of a stack as sysctl(8) does; with NAME=VALUE, set first
    Sysctl(settings::Args),
    /// List the protocols of a stack, as /proc/net/protocols does: sizes, sockets, memory, the plug-in they come from,
    /// what socket(2) makes them of
    Protocols(protocols::Args),
    /// Say whether a stack would start from a configuration string, without opening its device: status 2 and a line
    /// when not; a warning, and status 0, of what is probably not meant
    #[command(
        name = "check-config",
        after_help = "\
Examples:
  usersock check-config tun=tun0,addr=10.0.0.2/24,gw=10.0.0.1
  usersock check-config --plugin ./tiny.so sysctl.net.ipv4.tcp_sack=0

docs/config.md and usersock(7) have every key."
    )]
    CheckConfig {
        /// As tun=tun0,addr=10.0.0.2/24,gw=10.0.0.1,sysctl.net.ipv4.tcp_sack=1
        config: String,
        /// A plug-in to load before it is judged: its sysctls and devices are known then; may be repeated
        #[arg(long, value_name = "FILE.so")]
        plugin: Vec<String>,
    },
    /// Connect; standard input goes to the peer, what the peer sends to standard output
    #[command(after_help = "\
Examples:
  usersock shell                                 # a namespace with the kernel at 10.0.0.1; in it:
  python3 -m http.server -b 10.0.0.1 80 &
  printf 'GET / HTTP/1.0\\r\\n\\r\\n' | usersock connect 10.0.0.1:80
  usersock connect --config tun=tun0,addr=10.0.0.2/24,gw=10.0.0.1 --counters 10.0.0.1:80")]
    Connect(Pipe),
    /// Wait for one connection, then as connect
    #[command(after_help = "\
Examples:
  usersock shell                                 # a namespace with the kernel at 10.0.0.1; in it:
  printf 'HTTP/1.0 200 OK\\r\\n\\r\\nhello\\n' | usersock listen 10.0.0.2:80 &
  curl http://10.0.0.2/")]
    Listen(Pipe),
    /// Run an unmodified program on usersock, in a network namespace of its own
    Run(run::Run),
    /// Open a shell in such a namespace, on the kernel's side
    Shell(run::Shell),
    /// List the instances that run
    Ps(run::Ps),
    /// Run a command in an instance's namespace, on the kernel's side
    Exec(run::Exec),
    /// Have the TCP sockets of other programs, which the preload library passes here: prints the environment that they
    /// need, and serves until SIGINT or SIGTERM
    Serve(serve::Args),
    /// Join two TUN devices by a simulated link: delay, loss, rate, where the kernel has no netem
    Link(link::Args),
    /// List the sockets of a running stack, as ss(8) does
    Ss(ss::Args),
    /// End sockets of a running stack, as ss -K
    Kill(ss::Kill),
    /// Print what the counters of a running stack have grown by, as nstat(8) does
    Nstat(nstat::Args),
    /// Begin or end a capture of a running stack
    Pcap(pcap::Args),
    /// Watch state changes, retransmissions and drops in a running stack
    Trace(trace::Args),
    /// Draw a connection of a running stack over time: windows, RTT, rates, losses
    Plot(plot::Args),
    /// Make the skeleton of a plug-in, in a new folder: it builds, runs and has a test
    NewPlugin(new_plugin::Args),
    /// Try on a plug-in what every plug-in must do, in worlds of virtual time and by threads: a line a check, and what
    /// fails
    CheckPlugin(check_plugin::Args),
    /// Print what makes a shell complete the arguments of this command
    Completions(man::Completions),
    /// Print a manual page
    #[command(hide = true)]
    Man(man::Man),
}

fn main() -> ExitCode {
    usersock_ffi::loader::enable();
    sys::hear_of_children();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) if matches!(e.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            return finish(out::print(|out| write!(out, "{e}")));
        }
        Err(e) => return finish(Err(Failure::Usage(one_line(&e)))),
    };
    finish(match cli.command {
        Command::Sysctl(args) => settings::run(&args),
        Command::Protocols(args) => protocols::run(&args),
        Command::CheckConfig { config, plugin } => with_plugins(&plugin, &config).and_then(|text| check(&text)),
        Command::Connect(p) => pipe::connect(&p),
        Command::Listen(p) => pipe::listen(&p),
        Command::Run(args) => run::run(&args),
        Command::Shell(args) => run::shell(&args),
        Command::Ps(args) => run::ps(&args),
        Command::Exec(args) => run::exec(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Link(args) => link::run(&args),
        Command::Ss(args) => ss::run(&args),
        Command::Kill(args) => ss::kill(&args),
        Command::Nstat(args) => nstat::run(&args),
        Command::Pcap(args) => pcap::run(&args),
        Command::Trace(args) => trace::run(&args),
        Command::Plot(args) => plot::run(&args),
        Command::NewPlugin(args) => new_plugin::run(&args),
        Command::CheckPlugin(args) => check_plugin::run(&args),
        Command::Completions(args) => man::completions(&args),
        Command::Man(args) => man::man(&args),
    })
}

/// The exit status; of a failure also one line on stderr.
fn finish(outcome: Result<(), Failure>) -> ExitCode {
    let (status, message) = match outcome {
        Ok(()) => return ExitCode::SUCCESS,
        Err(failure) => failure.parts(),
    };
    out::say(format_args!("usersock: {}", message.replace('\n', " ")));
    ExitCode::from(status)
}

fn check(text: &str) -> Result<(), Failure> {
    // Whatever is wrong with it, it is the text.
    let wrong = |e: ConfigError| Failure::Usage(e.message);
    let config = Config::parse(text).map_err(wrong)?;
    config.check().map_err(wrong)?;
    for warning in config.warnings() {
        out::say(format_args!("usersock: warning: {warning}"));
    }
    Ok(())
}

/// clap's report without its usage and hint paragraphs: the first paragraph, joined to one line.
fn one_line(error: &clap::Error) -> String {
    if matches!(error.kind(), ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand) {
        return which_command(error);
    }
    let text = error.to_string();
    let first: Vec<&str> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    first.join(" ").trim_start_matches("error: ").to_string()
}

/// What there is to choose from, where a command is missing.
fn which_command(error: &clap::Error) -> String {
    let help = error.to_string();
    let names = |c: &clap::Command| {
        let all: Vec<String> =
            c.get_subcommands().filter(|c| !c.is_hide_set()).map(|s| s.get_name().to_owned()).collect();
        let (last, first) = all.split_last().map_or((String::new(), String::new()), |(l, f)| (l.clone(), f.join(", ")));
        format!("which command? {first} or {last}")
    };
    let cli = <Cli as clap::CommandFactory>::command();
    let inner = cli.get_subcommands().find(|c| help.contains(&format!("Usage: usersock {} ", c.get_name())));
    match inner {
        Some(c) => format!("{}: {} (usersock {} --help explains them)", c.get_name(), names(c), c.get_name()),
        None => format!("{} (usersock --help explains them)", names(&cli)),
    }
}
