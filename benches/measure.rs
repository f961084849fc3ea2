//! Criterion, and its median as a number for the table.

use crate::report::Report;
use criterion::{Criterion, SamplingMode, Throughput};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

/// Runs benchmarks and reads criterion's results.
pub struct Bench {
    criterion: Criterion,
    home: PathBuf,
    filter: Option<String>,
    /// `--readme` was given.
    pub readme: bool,
}

impl Bench {
    /// Takes `[--readme] [--machine-cc] [FILTER]`, a part of a benchmark's name, and what cargo adds. Anything else
    /// ends the program with status 2. Measuring times are short: the whole run must end in a few minutes.
    pub fn new() -> Bench {
        let (mut filter, mut readme) = (None, false);
        for arg in std::env::args().skip(1) {
            match arg.as_str() {
                "--bench" => {}
                "--readme" => readme = true,
                "--machine-cc" => crate::space::machine_cc(),
                a if a.starts_with('-') || filter.is_some() => {
                    eprintln!("{a}: unknown; usage: cargo bench -- [--readme] [--machine-cc] [FILTER]");
                    std::process::exit(2);
                }
                a => filter = Some(a.to_owned()),
            }
        }
        let home = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("criterion");
        let criterion = Criterion::default()
            .warm_up_time(Duration::from_millis(500))
            .measurement_time(Duration::from_secs(2))
            .sample_size(10)
            .output_directory(&home)
            .without_plots();
        Bench { criterion, home, filter, readme }
    }

    /// Whether benchmark `name` matches the filter.
    pub fn wants(&self, name: &str) -> bool {
        self.filter.as_ref().is_none_or(|f| name.contains(f.as_str()))
    }

    /// Whether the filter is this word, so that what takes long is measured too.
    pub fn asks(&self, word: &str) -> bool {
        self.filter.as_ref().is_some_and(|f| f == word)
    }

    /// Measures `f`, which does something `n` times and returns how long that took. Returns the median time of one, in
    /// nanoseconds; None if the filter excludes it. `bytes`: the payload of one.
    pub fn custom(&mut self, group: &str, id: &str, bytes: u64, mut f: impl FnMut(u64) -> Duration) -> Option<f64> {
        if !self.wants(&format!("{group}/{id}")) {
            return None;
        }
        {
            let mut g = self.criterion.benchmark_group(group);
            g.sampling_mode(SamplingMode::Flat);
            if bytes > 0 {
                g.throughput(Throughput::Bytes(bytes));
            }
            g.bench_function(id, |b| b.iter_custom(&mut f));
            g.finish();
        }
        self.median(group, id)
    }

    /// Measures `f`, which does not wait and has one thread, in nanoseconds of [`cpu_time`]; see [`Bench::custom`].
    pub fn simple<R>(&mut self, group: &str, id: &str, bytes: u64, mut f: impl FnMut() -> R) -> Option<f64> {
        self.custom(group, id, bytes, |n| {
            let start = cpu_time();
            for _ in 0..n {
                std::hint::black_box(f());
            }
            cpu_time() - start
        })
    }

    /// Runs `f`, which measures something; a panic in it becomes a remark in the report, and None.
    pub fn attempt(
        &mut self,
        report: &mut Report,
        name: &str,
        f: impl FnOnce(&mut Bench) -> Option<f64>,
    ) -> Option<f64> {
        if !self.wants(name) {
            return None;
        }
        if let Ok(mut now) = NOW.lock() {
            now.replace_range(.., name);
        }
        let result = catch_unwind(AssertUnwindSafe(|| f(self)));
        result.unwrap_or_else(|_| {
            let why = LAST_PANIC.lock().map_or(String::new(), |mut p| std::mem::take(&mut *p));
            report.failed(format!("FAILED {name}: {why}"));
            None
        })
    }

    fn median(&self, group: &str, id: &str) -> Option<f64> {
        let path = self.home.join(group).join(id).join("new/estimates.json");
        let text = std::fs::read_to_string(path).ok()?;
        let json: serde_json::Value = serde_json::from_str(&text).ok()?;
        json["median"]["point_estimate"].as_f64()
    }

    /// Criterion's final summary.
    pub fn finish(self) {
        self.criterion.final_summary();
    }
}

/// The benchmark that runs now, for the message when the run is aborted.
pub static NOW: Mutex<String> = Mutex::new(String::new());

static LAST_PANIC: Mutex<String> = Mutex::new(String::new());

/// Panics print a line and are kept for [`Bench::attempt`].
pub fn note_panics() {
    std::panic::set_hook(Box::new(|info| {
        eprintln!("{info}");
        let what = info.payload_as_str().unwrap_or("panic").to_owned();
        if let Ok(mut last) = LAST_PANIC.lock() {
            *last = what;
        }
    }));
}

/// Processor time of this thread: other processes on a busy machine do not count.
pub fn cpu_time() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// Processor time of the whole process: all of it, and the kernel's part, which is exact to a clock tick.
pub fn process_time() -> (Duration, Duration) {
    let clock = nix::time::clock_gettime(nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID);
    // stime is the 13th field behind the name's closing parenthesis, in ticks of 10 ms: proc_pid_stat(5).
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(12)).and_then(|t| t.parse().ok());
    (clock.map_or(Duration::ZERO, Duration::from), Duration::from_millis(10 * ticks.unwrap_or(0)))
}

/// Bytes per second of `bytes` in `nanos`.
pub fn throughput(bytes: u64, nanos: Option<f64>) -> Option<f64> {
    nanos.map(|ns| bytes as f64 * 1e9 / ns)
}
