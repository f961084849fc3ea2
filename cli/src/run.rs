//! `usersock run` and `usersock shell`: a program, or a shell, in a network namespace with a device that joins the
//! kernel of that namespace to usersock. Above: `main`. Below: `launch`.

mod network;
mod preload;
mod shell;

use crate::launch::instance::{self, Info, Instance};
use crate::launch::{self, Job, Place, Refusal, elf, outside};
use crate::{Failure, out};
use network::Network;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio, exit};
use usersock::config::Config;

/// This command, also when its file has been replaced since it was started.
const MYSELF: &str = "/proc/self/exe";

const RUN_EXAMPLES: &str = "\
Examples:
  usersock run --instance web -- python3 -m http.server -b 10.0.0.2 80
  usersock exec web -- curl http://10.0.0.2/            # from the kernel's side of the same namespace
  usersock run --in-process --outside -- curl https://example.org/
  usersock run --in-process --link delay=20ms,loss=1%,seed=7 --pcap conn.pcap -- redis-server --bind 10.0.0.2
  usersock shell                                        # a namespace to work in; `usersock run` in it uses its device

The kernel's end is 10.0.0.1 and fd75:7365:7273::1, the stack's 10.0.0.2 and fd75:7365:7273::2. The exit status is the
program's, 128+N when signal N ended it; 2 for wrong arguments, 125 when the set-up failed, 126 when the program cannot
be run on usersock, 127 when there is none. docs/run.md has the rest.";

const SHELL_EXAMPLES: &str = "\
Examples:
  usersock shell
    (usersock) $ python3 -m http.server -b 10.0.0.1 80 &                  # on the kernel's TCP
    (usersock) $ usersock run --in-process -- curl http://10.0.0.1/       # on usersock
  usersock shell --packet --addr 192.168.7.2/24 -- ip -d address          # one command instead of a shell";

#[derive(clap::Args)]
#[command(after_help = RUN_EXAMPLES)]
pub(crate) struct Run {
    /// Run the stack in the program's own process: usually the fastest way, for programs of one process. Without this
    /// it is in a server, whose sockets survive fork and exec
    #[arg(long)]
    in_process: bool,
    #[command(flatten)]
    network: Network,
    #[command(flatten)]
    stack: StackOptions,
    /// Let the kernel make no TCP socket for the program and its children: what escapes the preload library fails
    /// with EACCES instead of running on the kernel's TCP. io_uring is refused too (EPERM)
    #[arg(long)]
    strict: bool,
    /// The program and its arguments
    #[arg(value_name = "PROGRAM", required = true, trailing_var_arg = true)]
    program: Vec<OsString>,
}

#[derive(clap::Args)]
#[command(after_help = SHELL_EXAMPLES)]
pub(crate) struct Shell {
    #[command(flatten)]
    network: Network,
    /// A command instead of $SHELL
    #[arg(value_name = "COMMAND", trailing_var_arg = true)]
    command: Vec<OsString>,
}

/// Settings of the stack.
#[derive(clap::Args)]
struct StackOptions {
    /// A setting of the stack by Linux's name; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    sysctl: Vec<String>,
    /// Capture the packets to this file
    #[arg(long, value_name = "FILE")]
    pcap: Option<String>,
    /// Send the packets over a simulated link in front of the device: delay=20ms, jitter=2ms, loss=1%, duplicate=1%,
    /// corrupt=1%, reorder=1%, rate=100mbit, queue=100kb, seed=7; with in. or out. in front for one direction
    #[arg(long, value_name = "KEY=VALUE,...")]
    link: Option<String>,
    /// A plug-in to load into the stack; may be repeated
    #[arg(long, value_name = "FILE.so")]
    plugin: Vec<String>,
}

impl StackOptions {
    /// Keys and values with a comma in front of each.
    fn text(&self) -> Result<String, Refusal> {
        let comma = |option: &str, value: &str| match value.contains(',') {
            true => Err(Refusal::usage(format!("--{option} {value}: a value with a comma"))),
            false => Ok(()),
        };
        // The program may change its directory before it opens them.
        let absolute = |option: &str, file: &str| {
            let path = std::path::absolute(file).unwrap_or_else(|_| PathBuf::from(file));
            let path = path.to_string_lossy().into_owned();
            comma(option, &path).map(|()| format!(",{option}={path}"))
        };
        let mut text = String::new();
        for file in &self.plugin {
            text += &absolute("plugin", file)?;
        }
        for setting in &self.sysctl {
            comma("sysctl", setting)?;
            let (name, value) = setting.split_once('=').unwrap_or((setting, ""));
            if value.is_empty() {
                return Err(Refusal::usage(format!("--sysctl {setting}: not NAME=VALUE")));
            }
            let name = name.trim().strip_prefix("/proc/sys/").unwrap_or(name.trim()).replace('/', ".");
            text += &format!(",sysctl.{name}={}", value.trim());
        }
        if let Some(file) = &self.pcap {
            text += &absolute("pcap", file)?;
        }
        if let Some(link) = &self.link {
            if link.split([',', ' ']).all(str::is_empty) {
                return Err(Refusal::usage("--link: nothing is said of the link".to_owned()));
            }
            text += &format!(",link={}", link.replace(',', " "));
        }
        Ok(text)
    }
}

/// Runs a program on usersock; ends with its status.
pub(crate) fn run(args: &Run) -> Result<(), Failure> {
    let options = args.stack.text()?;
    let program = elf::find(&args.program[0])?;
    elf::judge(&program)?;
    let preload = preload::value()?;
    let (place, text) = match shell_around() {
        Some((name, info)) => {
            if let Some(option) = args.network.first_given() {
                let why = format!("--{option}: in the shell {name} the device is there already, {}", info.config);
                return Err(Failure::Usage(why));
            }
            (Place::Here(info.config.clone()), info.config)
        }
        None => {
            let plan = args.network.plan()?;
            let text = plan.config();
            (Place::New(plan), text)
        }
    };
    check_config(&format!("{text}{options}"))?;
    let outside = args.network.outside.then(outside::find).transpose()?;
    let job = Job {
        place,
        mode: if args.in_process { "in-process" } else { "server" },
        server: !args.in_process,
        instance: instance(&args.network, &program)?,
        program,
        argv: args.program.clone(),
        preload: Some(preload),
        environment: Vec::new(),
        options,
        strict: args.strict,
        outside,
    };
    end(launch::launch(job)?)
}

/// Runs a shell on the kernel's side.
pub(crate) fn shell(args: &Shell) -> Result<(), Failure> {
    if let Some((name, _)) = shell_around() {
        return Err(Failure::Usage(format!("this is in the shell {name} already: `exit` leaves it")));
    }
    let mut argv = args.command.clone();
    if argv.is_empty() {
        argv.push(std::env::var_os("SHELL").filter(|shell| !shell.is_empty()).unwrap_or_else(|| "/bin/sh".into()));
    }
    let plan = args.network.plan()?;
    check_config(&plan.config())?;
    let program = elf::find(&argv[0])?;
    let outside = args.network.outside.then(outside::find).transpose()?;
    let instance = instance(&args.network, Path::new("shell"))?;
    let environment = match args.command.is_empty() {
        true => shell::prompt(&program, &instance, &mut argv),
        false => Ok(Vec::new()),
    };
    let environment = match environment {
        Ok(environment) => environment,
        Err(refusal) => {
            instance.remove();
            return Err(refusal.into());
        }
    };
    let job = Job {
        place: Place::New(plan),
        mode: "shell",
        server: false,
        instance,
        program,
        argv,
        preload: None,
        environment,
        options: String::new(),
        strict: false,
        outside,
    };
    end(launch::launch(job)?)
}

/// Ends as the program did.
fn end(status: u8) -> Result<(), Failure> {
    match status {
        0 => Ok(()),
        status => exit(status.into()),
    }
}

/// The shell that this process runs in, if it does: the environment names it, and the network namespace is its own.
fn shell_around() -> Option<(String, Info)> {
    let name = std::env::var("USERSOCK_INSTANCE").ok()?;
    let info = instance::named(&name).ok().filter(|info| info.mode == "shell")?;
    (instance::network_namespace()? == info.network).then_some((name, info))
}

/// Registers the instance: by the name that was given, or by the program's and this process's number.
fn instance(network: &Network, program: &Path) -> Result<Instance, Refusal> {
    match &network.instance {
        Some(name) => Instance::register(name),
        None => {
            let name = program.file_name().unwrap_or_default().to_string_lossy();
            let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
            let name: String = name.trim_start_matches('.').chars().map(plain).take(40).collect();
            Instance::register(&format!("{name}-{}", std::process::id()))
        }
    }
}

/// Refuses a configuration from which the program's stack would not start. In a process of its own, `usersock
/// check-config`: plug-ins are loaded for the answer, which may start threads, and a user namespace is entered by a
/// process of one thread.
fn check_config(text: &str) -> Result<(), Refusal> {
    Config::parse(text).map_err(|e| Refusal::usage(e.to_string()))?;
    let mut check = Command::new(MYSELF);
    check.args(["check-config", text]).stdin(Stdio::null()).stdout(Stdio::null());
    let output = check.output().map_err(|e| Refusal::broken(format!("{MYSELF}: {e}")))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.trim();
            Err(Refusal::usage(said.strip_prefix("usersock: ").unwrap_or(said).to_owned()))
        }
    }
}

/// `usersock exec`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  usersock exec web -- curl http://10.0.0.2/
  usersock exec web -- ip -s link

The command is on the kernel's side of the instance: its TCP is the kernel's. In a `usersock shell` `usersock run` puts
it on usersock.")]
pub(crate) struct Exec {
    /// As `usersock ps` lists it
    #[arg(value_name = "NAME")]
    name: String,
    /// The command and its arguments
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true)]
    command: Vec<OsString>,
}

/// Becomes a command in an instance's namespaces.
pub(crate) fn exec(args: &Exec) -> Result<(), Failure> {
    let info = instance::named(&args.name)?;
    let program = elf::find(&args.command[0])?;
    // Asked before the namespaces are entered, where this user may be another one.
    let instances = instance::existing()?.unwrap_or_default();
    let user = launch::join::enter(&args.name, info.keeper)?;
    Err(launch::join::become_command(user, &args.name, (&info, &instances), &program, &args.command)?.into())
}

/// `usersock ps`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  usersock ps
  usersock ps -j | python3 -m json.tool")]
pub(crate) struct Ps {
    /// JSON instead of columns
    #[arg(short, long)]
    json: bool,
}

/// Lists the instances of this user that run.
pub(crate) fn ps(args: &Ps) -> Result<(), Failure> {
    let rows: Vec<Row> = instance::all()?.iter().map(|(name, info)| Row::of(name, info)).collect();
    out::print(|out| if args.json { Row::json(&rows, out) } else { Row::columns(&rows, out) })
}

/// An instance as it is printed.
struct Row {
    name: String,
    pid: i32,
    mode: String,
    device: String,
    addresses: Vec<String>,
    program: String,
}

impl Row {
    const HEADINGS: [&str; 6] = ["NAME", "PID", "MODE", "DEVICE", "ADDRESS", "PROGRAM"];

    fn of(name: &str, info: &Info) -> Row {
        let addresses = info.values("addr").map(|a| a.split('/').next().unwrap_or(a).to_owned());
        Row {
            name: name.to_owned(),
            pid: info.pid,
            mode: info.mode.clone(),
            device: info.config.split(',').next().unwrap_or_default().replace('=', ":"),
            addresses: addresses.collect(),
            program: info.program.clone(),
        }
    }

    fn columns(rows: &[Row], out: &mut impl std::io::Write) -> std::io::Result<()> {
        let mut lines = vec![Row::HEADINGS.map(str::to_owned)];
        for r in rows {
            let plain = |text: &str| text.chars().map(|c| if c.is_control() { '?' } else { c }).collect::<String>();
            let [name, mode, device, program] = [&r.name, &r.mode, &r.device, &r.program].map(|text| plain(text));
            lines.push([name, r.pid.to_string(), mode, device, r.addresses.join(","), program]);
        }
        let widths: Vec<usize> =
            (0..6).map(|i| lines.iter().map(|line| line[i].chars().count()).max().unwrap_or(0)).collect();
        for line in &lines {
            let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }

    fn json(rows: &[Row], out: &mut impl std::io::Write) -> std::io::Result<()> {
        let objects = rows.iter().map(|r| {
            let addresses: Vec<String> = r.addresses.iter().map(|a| quoted(a)).collect();
            format!(
                "{{\"name\":{},\"pid\":{},\"mode\":{},\"device\":{},\"addresses\":[{}],\"program\":{}}}",
                quoted(&r.name),
                r.pid,
                quoted(&r.mode),
                quoted(&r.device),
                addresses.join(","),
                quoted(&r.program)
            )
        });
        writeln!(out, "[{}]", objects.collect::<Vec<_>>().join(",\n "))
    }
}

/// A JSON string (RFC 8259 §7).
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() && u32::from(c) < 0x10000 => out += &format!("\\u{:04x}", u32::from(c)),
            c => out.push(c),
        }
    }
    out + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        let info = Info {
            keeper: 7,
            network: String::new(),
            pid: 8,
            mode: "in-process".to_owned(),
            config: "tun=tun0,addr=10.0.0.2/24,gw=10.0.0.1,addr=fd00::2/64".to_owned(),
            program: "sh -c \"a\tb\"".to_owned(),
        };
        Row::of("sh-6", &info)
    }

    #[test]
    fn columns_are_as_wide_as_what_stands_in_them() {
        let mut text = Vec::new();
        Row::columns(&[row()], &mut text).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "NAME  PID  MODE        DEVICE    ADDRESS            PROGRAM\n\
             sh-6  8    in-process  tun:tun0  10.0.0.2,fd00::2   sh -c \"a?b\"\n"
                .replace("ADDRESS            ", "ADDRESS           ")
                .replace("fd00::2   ", "fd00::2  ")
        );
    }

    #[test]
    fn json_quotes_what_it_must() {
        let mut text = Vec::new();
        Row::json(&[row()], &mut text).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "[{\"name\":\"sh-6\",\"pid\":8,\"mode\":\"in-process\",\"device\":\"tun:tun0\",\
             \"addresses\":[\"10.0.0.2\",\"fd00::2\"],\"program\":\"sh -c \\\"a\\u0009b\\\"\"}]\n"
        );
    }

    #[test]
    fn the_document_has_each_command_and_option() {
        let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/run.md")).unwrap();
        let cli = <crate::Cli as clap::CommandFactory>::command();
        for name in ["run", "shell", "ps", "exec"] {
            assert!(text.contains(&format!("`usersock {name}")), "{name}");
            let command = cli.find_subcommand(name).unwrap();
            for option in command.get_arguments().filter_map(|a| a.get_long()).filter(|o| !["help", "json"].contains(o))
            {
                assert!(text.contains(&format!("`--{option}")), "{name} --{option}");
            }
        }
    }

    #[test]
    fn options_become_keys() {
        let options = |sysctl: &str, link: Option<&str>| StackOptions {
            sysctl: vec![sysctl.to_owned()],
            pcap: None,
            link: link.map(str::to_owned),
            plugin: vec!["/p.so".to_owned()],
        };
        let text = options("net/ipv4/tcp_sack=1", Some("delay=1ms,loss=1%")).text().unwrap();
        assert_eq!(text, ",plugin=/p.so,sysctl.net.ipv4.tcp_sack=1,link=delay=1ms loss=1%");
        let empty = options("a=1", Some(" ,")).text().unwrap_err();
        assert!(empty.status == 2 && empty.message.contains("nothing is said"), "{empty:?}");
        for (setting, want) in [("a", "not NAME=VALUE"), ("a=", "not NAME=VALUE"), ("a=1,2", "with a comma")] {
            assert!(options(setting, None).text().unwrap_err().message.contains(want), "{setting}");
        }
    }
}
