//! Lines that plug-ins log: to whoever traces the stack, so many in a time. Above: the C ABI. Below: `trace`. Linux:
//! printk, ___ratelimit.

use super::Counters;
use crate::base::env::{Duration, Instant};
use crate::sys::lock::Mutex;
use crate::trace::Event;
use std::borrow::Cow;

/// In each interval, from its first line on, so many lines pass (DEFAULT_RATELIMIT_INTERVAL, DEFAULT_RATELIMIT_BURST).
const INTERVAL: Duration = Duration::from_secs(5);
const BURST: u32 = 10;
/// Bytes of a line; what is behind them is cut off.
const LINE: usize = 500;

/// How grave a line is: the numbers of syslog(3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Something failed.
    Err = 3,
    /// Something may fail.
    Warning = 4,
    /// Unusual, and no fault.
    Notice = 5,
    /// What happens.
    Info = 6,
    /// What helps to find a fault.
    Debug = 7,
}

impl Level {
    /// The level of a number; None: there is none.
    pub fn from_number(n: i32) -> Option<Level> {
        [Level::Err, Level::Warning, Level::Notice, Level::Info, Level::Debug].into_iter().find(|l| *l as i32 == n)
    }

    /// Its word in syslog(3).
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Level::Err => "err",
            Level::Warning => "warning",
            Level::Notice => "notice",
            Level::Info => "info",
            Level::Debug => "debug",
        }
    }
}

/// The lines of one plug-in's table, and how many of them pass.
#[derive(Debug)]
pub struct Log {
    from: String,
    limit: Mutex<Limit>,
}

#[derive(Debug, Default)]
struct Limit {
    begin: Option<Instant>,
    passed: u32,
    missed: u32,
}

impl Limit {
    /// Whether a line passes at `now`: how many did not since the last one that did.
    fn pass(&mut self, now: Instant) -> Option<u32> {
        if self.begin.is_none_or(|begin| now - begin > INTERVAL) {
            (self.begin, self.passed) = (Some(now), 0);
        }
        if self.passed == BURST {
            self.missed = self.missed.saturating_add(1);
            return None;
        }
        self.passed += 1;
        Some(std::mem::take(&mut self.missed))
    }
}

impl Log {
    /// The lines of the table with this name.
    pub fn new(from: &str) -> Log {
        Log { from: from.to_owned(), limit: Mutex::default() }
    }
}

impl Counters {
    /// Logs a line of a plug-in. Returns whether somebody reads it: a trace is taken, and the limit lets it pass. A
    /// line that nobody could read does not count. Control characters become blanks.
    pub fn log<'t>(
        &self,
        log: &Log,
        level: Level,
        text: impl FnOnce() -> Cow<'t, str>,
        now: impl FnOnce() -> Instant,
    ) -> bool {
        let mut read = false;
        self.trace.point_if(|| {
            let missed = log.limit.lock().pass(now())?;
            read = true;
            let text = text();
            let end = (0..=text.len().min(LINE)).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
            let text = text[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            Some(Event::Log { from: log.from.clone(), level: level.name(), text, missed })
        });
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::env::VirtualClock;
    use std::sync::Arc;

    #[test]
    fn ten_lines_pass_in_five_seconds_and_the_next_says_how_many_did_not() {
        let (counters, log) = (Counters::new(), Log::new("TINY"));
        let line = |text: &str, ms| {
            let at = || Instant::ZERO + Duration::from_millis(ms);
            counters.log(&log, Level::Err, || text.to_owned().into(), at)
        };
        assert!(!line("nobody reads", 0));
        let reader = counters.trace.listen(Arc::new(VirtualClock::new()), || ());
        let passed = |from: u64, n: u64| (from..from + n).filter(|ms| line("a\nb", *ms)).count();
        assert_eq!((passed(0, 13), passed(5000, 1), passed(5001, 1)), (10, 0, 1));
        let mut lines = std::iter::from_fn(|| reader.next()).map(|(_, e)| e);
        let event = |missed| Event::Log { from: "TINY".into(), level: "err", text: "a b".into(), missed };
        assert_eq!((lines.next(), lines.nth(9)), (Some(event(0)), Some(event(4))));
        // A line is cut between characters.
        line(&"\u{e9}".repeat(400), 6000);
        let Some((_, Event::Log { text, .. })) = reader.next() else { panic!("no line") };
        assert_eq!(text.len(), LINE);
    }
}
