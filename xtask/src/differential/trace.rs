//! Running the program, and what it printed: sequences of lines, a line a call. Below: `netns`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use super::half::Half;
use super::sockets::Sockets;
use crate::{Failure, broken, netns};

/// The built program, and where its by-products go.
pub struct Program {
    pub half: Half,
    path: PathBuf,
    pub directory: PathBuf,
    /// What a peer that is a server is made of: the command and the shim.
    server: Option<[PathBuf; 2]>,
}

/// One sequence's trace.
#[derive(Default, Debug)]
pub struct Sequence {
    pub lines: Vec<Line>,
}

/// A call and what it gave.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    /// The call in numbers, where they were asked for.
    pub numbers: String,
    /// The call as C, and what its socket is, where it has one.
    pub call: String,
    pub socket: String,
    /// Of a call that tells of several sockets, by the field that does.
    others: BTreeMap<String, String>,
    /// What it gave, in order. The first is the result with its errno.
    pub fields: Vec<(String, String)>,
}

/// Where two traces part.
#[derive(Debug)]
pub struct Difference {
    pub line: usize,
    pub call: String,
    pub socket: String,
    pub field: String,
    pub kernel: String,
    pub usersock: String,
}

impl Difference {
    /// What makes two differences one: the call, its option, the field, and what the two sides said, where that is of
    /// few values.
    pub fn kind(&self) -> String {
        let name = self.call.split('(').next().unwrap_or_default();
        let about = if name.ends_with("sockopt") {
            let mut words = self.call.split(", ").skip(1);
            format!(" {}", words.nth(1).unwrap_or_default().trim_end_matches(");"))
        } else if name == "call_counter" {
            self.call.clone()
        } else {
            String::new()
        };
        match self.field.as_str() {
            // What a host answers with, by its socket's state.
            "out" => {
                let state: Vec<&str> = self.socket.split(' ').take(3).collect();
                format!("{name} out of {}: {} here {}", state.join(" "), self.kernel, self.usersock)
            }
            "result" | "died" => {
                let value = |text: &str| match text.parse::<u64>() {
                    Ok(1..) => "some".to_string(),
                    _ => text.to_string(),
                };
                format!("{name}{about} {}: {} here {}", self.field, value(&self.kernel), value(&self.usersock))
            }
            field => format!("{name}{about} {field}"),
        }
    }
}

impl Program {
    pub fn new(half: Half, path: PathBuf, directory: PathBuf, server: Option<[PathBuf; 2]>) -> Program {
        Program { half, path, directory, server }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The program with the right to make network namespaces.
    fn command(&self) -> Command {
        match netns::How::available() {
            netns::How::Root => Command::new(&self.path),
            how => {
                let mut command = netns::myself(&["netns-run", "--how", how.arg(), "--"]);
                command.arg(&self.path);
                command
            }
        }
    }

    /// Why sequences cannot be run on the kernel's side here; None where they can.
    pub fn refused(&self) -> Result<Option<String>, Failure> {
        let mut command = self.command();
        command.args(["--on", "kernel", "--seed", "1", "--count", "1"]).stdin(Stdio::null());
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
        Ok((!output.status.success()).then_some(said))
    }

    /// Runs `count` seeds from `first` on both sides at once: the kernel's traces and usersock's.
    pub fn seeds(&self, first: u64, count: u64, settle: u32) -> Result<(Vec<Sequence>, Vec<Sequence>), Failure> {
        let share = count.div_ceil(self.half.parts());
        let starts = (0..self.half.parts()).map(|part| part * share).filter(|start| *start < count);
        let parts = starts.map(|start| (first + start, share.min(count - start)));
        let run = |(first, count): (u64, u64)| {
            let (first, count, settle) = (first.to_string(), count.to_string(), settle.to_string());
            self.both(&["--settle", &settle, "--seed", &first, "--count", &count, "--calls"], "")
        };
        thread::scope(|scope| {
            let running: Vec<_> = parts.map(|part| scope.spawn(move || run(part))).collect();
            let mut all = (Vec::new(), Vec::new());
            for part in running {
                let (kernel, usersock) = part.join().map_err(|_| broken("a thread of a run panicked"))??;
                all.0.extend(kernel);
                all.1.extend(usersock);
            }
            Ok(all)
        })
    }

    /// Runs one sequence from its text on both sides.
    pub fn script(&self, text: &str, settle: u32) -> Result<(Sequence, Sequence), Failure> {
        let (kernel, usersock) = self.both(&["--settle", &settle.to_string(), "--script", "--calls"], text)?;
        Ok((kernel.into_iter().next().unwrap_or_default(), usersock.into_iter().next().unwrap_or_default()))
    }

    fn both(&self, args: &[&str], text: &str) -> Result<(Vec<Sequence>, Vec<Sequence>), Failure> {
        thread::scope(|scope| {
            let kernel = scope.spawn(|| self.side("kernel", args, text));
            let usersock = self.side(self.half.peer(), args, text)?;
            Ok((kernel.join().map_err(|_| broken("the thread of the kernel's side panicked"))??, usersock))
        })
    }

    fn side(&self, side: &str, args: &[&str], text: &str) -> Result<Vec<Sequence>, Failure> {
        let mut command = self.command();
        if let Some([usersock, shim]) = &self.server {
            command.arg("--command").arg(usersock).arg("--shim").arg(shim);
        }
        let mut child = command
            .args(["--on", side])
            .args(self.half.args())
            .args(args)
            .env_remove("USERSOCK_CONFIG")
            .env_remove("USERSOCK_SERVER")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| broken(format!("{}: {error}", Path::new(&self.path).display())))?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(text.as_bytes())?;
        }
        let output = child.wait_with_output()?;
        if !output.status.success() {
            return Err(broken(format!("{} --on {side} {}: {}", self.path.display(), args.join(" "), output.status)));
        }
        Ok(parse(&String::from_utf8_lossy(&output.stdout)))
    }
}

fn parse(text: &str) -> Vec<Sequence> {
    let mut sequences: Vec<Sequence> = Vec::new();
    let mut sockets = Sockets::default();
    for line in text.lines() {
        if line.starts_with("sequence ") {
            sequences.push(Sequence::default());
            sockets = Sockets::default();
            continue;
        }
        let Some(sequence) = sequences.last_mut() else { continue };
        if line == "end" {
            continue;
        }
        // A call that killed the program has left the line's first half only.
        let (line, died) = match line.find("died ") {
            Some(at) if !line.contains(" => ") => (&line[..at], Some(line[at + 5..].to_string())),
            _ => (line, None),
        };
        let mut parts = line.split('\t');
        let (numbers, call) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let fields = match died {
            Some(how) => vec![("died".to_string(), how)],
            None => fields(parts.next().unwrap_or_default()),
        };
        let socket = sockets.of(call);
        let others = match call.split('(').next() {
            Some("call_poll" | "call_epoll_wait") => sockets.told_of(),
            _ => BTreeMap::new(),
        };
        sockets.note(call, &fields);
        sequence.lines.push(Line { numbers: numbers.into(), call: call.into(), socket, others, fields });
    }
    sequences
}

/// "recv => r=-1 errno=EAGAIN k=v ...": the result with its errno, then the others.
fn fields(text: &str) -> Vec<(String, String)> {
    let text = text.split_once(" => ").map_or("", |(_, rest)| rest);
    let mut fields: Vec<(String, String)> = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        match (key, fields.first_mut()) {
            ("r", None) => fields.push(("result".into(), value.into())),
            ("errno", Some((_, result))) => *result = format!("{result} {value}"),
            _ => fields.push((key.into(), value.into())),
        }
    }
    fields
}

/// The first line from `at` on where the two differ, and its first field that does.
pub fn first_difference(kernel: &Sequence, usersock: &Sequence, at: usize) -> Option<Difference> {
    for line in at..kernel.lines.len().max(usersock.lines.len()) {
        let (k, u) = (kernel.lines.get(line), usersock.lines.get(line));
        let none = Vec::new();
        let (a, b) = (k.map_or(&none, |l| &l.fields), u.map_or(&none, |l| &l.fields));
        if k.map(|l| &l.call) == u.map(|l| &l.call) && a == b {
            continue;
        }
        let call = k.or(u)?;
        let died = b.first().is_some_and(|(key, _)| key == "died");
        let [field, kernel, usersock] = differing(call, a, b)?;
        let told_of = [k, u].into_iter().flatten().find_map(|l| l.others.get(&field));
        return Some(Difference {
            line,
            call: call.call.clone(),
            socket: told_of.unwrap_or(&call.socket).clone(),
            field: if died { "died".into() } else { field },
            kernel,
            usersock,
        });
    }
    None
}

/// The first field that the two sides do not have alike: its name, and what each has. How many events there are says
/// less than which.
fn differing(call: &Line, a: &[(String, String)], b: &[(String, String)]) -> Option<[String; 3]> {
    let counts = ["call_poll(", "call_epoll_wait("].iter().any(|name| call.call.starts_with(name));
    // Of each name the first, the second and so on: received messages have the same.
    let nth = |side: &[(String, String)], at: usize| side[..at].iter().filter(|(key, _)| *key == side[at].0).count();
    let find = |side: &[(String, String)], key: &str, n: usize| {
        side.iter().filter(|(k, _)| k == key).nth(n).map_or("(nothing)", |(_, value)| value).to_string()
    };
    let of = |side: &[(String, String)], at: usize| {
        let (key, n) = (&side[at].0, nth(side, at));
        [key.clone(), find(a, key, n), find(b, key, n)]
    };
    let all: Vec<_> = (0..a.len()).map(|at| of(a, at)).chain((0..b.len()).map(|at| of(b, at))).collect();
    let differs = |field: &&[String; 3]| field[1] != field[2];
    let event = all.iter().filter(|field| counts && field[0] != "result").find(differs);
    event.or_else(|| all.iter().find(differs)).or_else(|| all.first()).cloned()
}
