//! A difference's sequence made small: fewer calls, then plainer arguments, as long as the same difference remains
//! (delta debugging). Printed as a C program that a compiler takes as it is, for the kernel's calls or for usersock's;
//! a sequence of packets as the text that the half's program takes.

use std::fmt::Write as _;

use super::half::Half;
use super::known::Known;
use super::trace::{Difference, Line, Program, first_difference};
use super::{Seen, compare};
use crate::Failure;

/// Runs that a difference may cost.
const RUNS: usize = 250;
/// What an argument is tried as: the tables' first rows, and small numbers.
const PLAIN: [i64; 4] = [0, 1, 8, 64];

/// A call in numbers: which, and its arguments.
type Op = Vec<i64>;

struct Search<'a> {
    program: &'a Program,
    known: &'a Known,
    kind: String,
    runs: usize,
}

impl Search<'_> {
    /// Whether these calls show the same difference, and nothing else before it.
    fn same(&mut self, ops: &[Op]) -> Result<bool, Failure> {
        if self.runs == 0 {
            return Ok(false);
        }
        self.runs -= 1;
        let (kernel, usersock) = self.program.script(&text(ops), 0)?;
        let found = compare(self.known, &kernel, &usersock, &mut Seen::default());
        Ok(found.is_some_and(|difference| difference.kind() == self.kind))
    }

    /// Leaves out ever smaller stretches of calls.
    fn fewer(&mut self, ops: &mut Vec<Op>) -> Result<bool, Failure> {
        let (mut changed, mut size) = (false, ops.len().div_ceil(2));
        while size > 0 {
            let mut at = ops.len().saturating_sub(size);
            loop {
                let mut rest = ops.clone();
                rest.drain(at..(at + size).min(ops.len()));
                if self.same(&rest)? {
                    (*ops, changed) = (rest, true);
                }
                if at == 0 {
                    break;
                }
                at = at.saturating_sub(size).min(ops.len());
            }
            size /= 2;
        }
        Ok(changed)
    }

    fn plainer(&mut self, ops: &mut [Op]) -> Result<bool, Failure> {
        let mut changed = false;
        for call in (0..ops.len()).rev() {
            for argument in 1..ops[call].len() {
                let was = ops[call][argument];
                let tries = PLAIN.into_iter().chain([was / 2]);
                for plain in tries.filter(|plain| plain.unsigned_abs() < was.unsigned_abs()) {
                    ops[call][argument] = plain;
                    if self.same(ops)? {
                        changed = true;
                        break;
                    }
                    ops[call][argument] = was;
                }
            }
        }
        Ok(changed)
    }
}

fn text(ops: &[Op]) -> String {
    let mut text = String::new();
    for op in ops {
        let numbers: Vec<String> = op.iter().map(i64::to_string).collect();
        let _ = writeln!(text, "{}", numbers.join(" "));
    }
    text
}

/// Makes the difference of `seed` small and prints it: the program's calls, both traces of the last, and the file with
/// the whole program.
pub fn print(program: &Program, known: &Known, seed: u64, difference: &Difference) -> Result<(), Failure> {
    let (kernel, _) = program.seeds(seed, 1, 0)?;
    let numbers = |line: &Line| line.numbers.split(' ').filter_map(|n| n.parse().ok()).collect();
    let mut ops: Vec<Op> = kernel[0].lines.iter().take(difference.line + 1).map(numbers).collect();
    let mut search = Search { program, known, kind: difference.kind(), runs: RUNS };
    if search.same(&ops)? {
        while search.fewer(&mut ops)? | search.plainer(&mut ops)? {}
    }
    let (kernel, usersock) = program.script(&text(&ops), 0)?;
    for line in &kernel.lines {
        println!("    {}", line.call);
    }
    if let Some(last) = first_difference(&kernel, &usersock, kernel.lines.len().saturating_sub(1)) {
        for (side, sequence) in [("kernel  ", &kernel), ("usersock", &usersock)] {
            let fields = sequence.lines.get(last.line).map_or(&[][..], |line| &line.fields);
            let fields: Vec<String> = fields.iter().map(|(key, value)| format!("{key}={value}")).collect();
            println!("  {side}: {}", fields.join(" "));
        }
    }
    match program.half.printed_headers() {
        Some(headers) => {
            let path = program.directory.join(format!("{}-{seed}.c", program.half.name()));
            std::fs::write(&path, whole(program, headers, &kernel.lines, seed)?)?;
            println!("  {}", path.display());
        }
        None => {
            let path = program.directory.join(format!("{}-{seed}.txt", program.half.name()));
            std::fs::write(&path, text(&ops))?;
            let program = program.path().display();
            println!("  unshare -rn {program} --on kernel --calls --script < {}", path.display());
        }
    }
    Ok(())
}

/// The sequence as a program: the files the calls are made of, then `main`.
fn whole(program: &Program, headers: [&str; 3], lines: &[Line], seed: u64) -> Result<String, Failure> {
    let mut text = format!(
        "/* Seed {seed}, made small. On the kernel, in a namespace of its own:\n\
         \x20*   cc FILE -o repro && unshare -rn sh -c 'ip link set lo up\n\
         \x20*   sysctl -qw net.ipv4.ping_group_range=\"0 0\"; ./repro'\n\
         \x20* On usersock: cc -DUSERSOCK -Iinclude FILE -o repro -lusersock && ./repro\n\
         \x20* On a server: usersock run -- ./repro */\n"
    );
    for file in headers {
        let source = std::fs::read_to_string(program.half.folder().join(file))?;
        let own = |line: &&str| line.starts_with("#include \"") && !line.contains("usersock.h");
        source.lines().filter(|line| !own(line)).for_each(|line| text.extend([line, "\n"]));
    }
    text.push_str("\nint main(void)\n{\n    begin_calls();\n");
    // A server works in a process of its own.
    let then = if program.half == Half::Served { " poll(NULL, 0, 5);" } else { "" };
    for line in lines {
        let _ = writeln!(text, "    {}{then}", line.call);
    }
    text.push_str("    return 0;\n}\n");
    Ok(text)
}
