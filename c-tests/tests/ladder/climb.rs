//! Which forms of a rung are played, and the comparison with the kernel's. Above: the rungs. Below: `play`.
//!
//! Without a word the part that belongs to every test run is played: stack servers on both sides with 1 % loss, and
//! against the kernel, without loss, the stack in the process on either side, or, where that cannot be, a stack server
//! on the server's. USERSOCK_LADDER, which `cargo xtask programs` sets, plays the whole, or what its words choose
//! (`rung=12`, `form=U-K`, `loss=1`, `seed=7`, `short` loads), prints a line for each play, and takes a rung that
//! cannot run for one that failed.

use crate::harness::skip;
use crate::play::{Form, Setting, Side, missing, namespaces, play};
use std::io::Write;

/// Which forms there are of a rung.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sides {
    /// All: each side is one process at a time, which can have the stack in itself.
    Single,
    /// Those with stack servers.
    Forks,
    /// One, and no kernel's to compare it with.
    Only(Form),
}

/// A rung: a script, and what it asks of the machine.
pub(crate) struct Rung {
    pub(crate) name: &'static str,
    /// Programs.
    pub(crate) needs: &'static [&'static str],
    pub(crate) sides: Sides,
    pub(crate) script: &'static str,
}

/// What is to be played.
struct Plan {
    /// Words of which a rung's name has one, or its number is one; none: all rungs.
    rungs: Vec<String>,
    forms: Vec<Form>,
    losses: Vec<u32>,
    seed: u64,
    /// Chosen by USERSOCK_LADDER.
    whole: bool,
    /// With the loads of every test run.
    short: bool,
}

impl Plan {
    fn of_environment() -> Plan {
        let text = std::env::var("USERSOCK_LADDER").ok();
        let mut plan = Plan {
            rungs: vec![],
            forms: vec![],
            losses: vec![],
            seed: 7,
            whole: text.is_some(),
            short: text.is_none(),
        };
        for word in text.unwrap_or_default().split_whitespace() {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            match key {
                "rung" => plan.rungs.push(value.to_owned()),
                "form" => plan.forms.extend(Form::ALL.into_iter().filter(|form| form.to_string() == value)),
                "loss" => plan.losses.push(value.parse().expect("loss in percent")),
                "short" => plan.short = true,
                "seed" => plan.seed = value.parse().expect("a number"),
                _ => panic!("USERSOCK_LADDER: {word}"),
            }
        }
        plan
    }

    /// Whether a rung is played at all.
    fn names(&self, rung: &Rung) -> bool {
        let number = |word: &str| word.parse::<u32>().is_ok();
        let fits = |word: &String| match rung.name.split_once('-') {
            Some((n, _)) if number(word) => n == word,
            _ => rung.name.contains(word.as_str()),
        };
        self.rungs.is_empty() || self.rungs.iter().any(fits)
    }

    /// Whether a rung is played in this form over a link with this loss.
    fn has(&self, rung: &Rung, form: Form, loss: u32) -> bool {
        let both = form == Form(Side::Usersock, Side::Usersock);
        let (sides, part) = match rung.sides {
            Sides::Single => (true, form.in_process()),
            Sides::Forks => (!form.in_process(), form == Form(Side::Usersock, Side::Kernel)),
            Sides::Only(_) => (false, false),
        };
        let chosen = if self.whole {
            (self.forms.is_empty() || self.forms.contains(&form))
                && (self.losses.is_empty() || self.losses.contains(&loss))
        } else {
            if loss == 0 { part } else { both }
        };
        sides && chosen
    }

    /// Says how a play went: for `cargo xtask programs`, past the test runner's capture.
    fn report(&self, rung: &Rung, form: &str, loss: u32, outcome: Result<f64, &str>) {
        if self.whole {
            let (result, seconds, why) = match outcome {
                Ok(seconds) => ("ok", format!("{seconds:.1}"), ""),
                Err(why) => ("FAILED", String::new(), why.lines().next().unwrap_or_default()),
            };
            let line = format!("LADDER\t{}\t{form}\t{loss}\t{result}\t{seconds}\t{why}\n", rung.name);
            let _ = std::io::stdout().write_all(line.as_bytes());
        }
    }
}

/// Plays a rung in all forms of the plan. The test fails with all that went wrong.
pub(crate) fn climb(rung: &Rung) {
    let plan = Plan::of_environment();
    if !plan.names(rung) {
        return;
    }
    let lacking = missing(rung.needs);
    let cannot = match namespaces() {
        _ if !lacking.is_empty() => Some(format!("{} not installed", lacking.join(", "))),
        Err(why) => Some(why.to_owned()),
        Ok(_) => None,
    };
    if let Some(why) = cannot {
        plan.report(rung, "all", 0, Err(&why));
        assert!(!plan.whole, "{}: {why}", rung.name);
        return skip(rung.name, &why);
    }
    let first = if let Sides::Only(form) = rung.sides { form } else { Form::ORACLE };
    let setting = Setting { form: first, loss: 0, seed: plan.seed, whole: !plan.short };
    let oracle = match play(rung.name, setting, rung.script) {
        Ok(played) => played,
        Err(said) => {
            plan.report(rung, &first.to_string(), 0, Err(&said));
            panic!("{} {first}: {said}", rung.name);
        }
    };
    plan.report(rung, &first.to_string(), 0, Ok(oracle.time.as_secs_f64()));
    assert!(!oracle.results.is_empty(), "{} records nothing", rung.name);
    let mut failures = Vec::new();
    for (form, loss) in Form::ALL.into_iter().flat_map(|form| [(form, 0), (form, 1)]) {
        if !plan.has(rung, form, loss) {
            continue;
        }
        let played = play(rung.name, Setting { form, loss, ..setting }, rung.script).and_then(|played| {
            let differ = format!("not as on the kernel:\n{}instead of\n{}", played.results, oracle.results);
            if played.results == oracle.results { Ok(played) } else { Err(differ) }
        });
        let outcome = played.as_ref().map(|played| played.time.as_secs_f64());
        plan.report(rung, &form.to_string(), loss, outcome.map_err(String::as_str));
        if let Err(said) = played {
            failures.push(format!("{} {form}, {loss} % loss: {said}", rung.name));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
