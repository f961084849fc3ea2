//! The end of the demo: programs that know nothing of usersock, on usersock. nginx under `usersock run`, asked by curl
//! and wrk on the kernel's TCP; then curl and wrk under `usersock run --in-process`, from an nginx on the kernel's TCP;
//! then a download over a simulated bad network, which `usersock plot` draws. Every command is printed as it can be
//! typed. Above: `demo`. Below: the command `usersock`, which makes namespaces and devices itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{Guard, KERNEL, STACK, Via, compare, sha256, write_file};
use crate::{Failure, Outcome, broken, setup};

/// The programs of this part.
pub(super) const PROGRAMS: [&str; 3] = ["nginx", "curl", "wrk"];

/// Bytes of the file that crosses the bad network: some five seconds of it.
const PLOTTED: u64 = 25_000_000;
/// That network: the queue in front of a 50 Mbit/s link overflows each time the window has grown enough.
const LINK: &str = "delay=10ms,rate=50mbit,queue=100kb,seed=7";

/// What is not to be the caller's: settings of usersock's, and proxies, which are not in our namespaces.
const ENVIRONMENT: [&str; 9] = [
    "USERSOCK_CONFIG",
    "USERSOCK_INSTANCE",
    "USERSOCK_OWNER",
    "USERSOCK_PRELOAD",
    "USERSOCK_SERVER",
    "http_proxy",
    "HTTP_PROXY",
    "all_proxy",
    "ALL_PROXY",
];

/// What the steps have in common.
pub(super) struct Unmodified<'a> {
    /// The command, with the preload library beside it.
    pub usersock: &'a Path,
    /// The demo's directory, in which everything runs.
    pub dir: &'a Path,
    /// How packets travel.
    pub via: Via,
    /// Where the picture goes.
    pub plot: &'a Path,
}

impl Unmodified<'_> {
    /// All three steps; the files they need are written first.
    ///
    /// # Errors
    /// A program cannot be started.
    pub(super) fn run(&self) -> Outcome {
        write_file(&self.dir.join("www/plotted.bin"), PLOTTED)?;
        fs::write(self.dir.join("www/small"), "small\n")?;
        fs::create_dir_all(self.dir.join("temp"))?;
        for (name, address) in [("usersock", STACK), ("kernel", KERNEL)] {
            fs::write(self.dir.join(format!("{name}.conf")), nginx_conf(name, address))?;
        }
        Ok(self.server()? & self.client()? & self.plotted()?)
    }

    /// nginx on usersock, its peers on the kernel's TCP.
    fn server(&self) -> Outcome {
        println!("\n== 3. an unmodified nginx, with two workers, on usersock; curl and wrk on the kernel's TCP");
        let mut nginx = self.start("web", &["run"], "usersock", &[])?;
        let url = format!("http://{STACK}");
        self.wait_for(&mut nginx, "web", &format!("{url}/small"))?;
        let exec = ["exec", "web", "--"];
        let file = self.download(&exec, &format!("{url}/file.bin"), "www/file.bin")?;
        let load = self.load(&exec, &format!("{url}/small"), "web")?;
        Ok(file & load)
    }

    /// curl and wrk on usersock, nginx on the kernel's TCP.
    fn client(&self) -> Outcome {
        println!("\n== 4. unmodified curl and wrk with usersock in their process; nginx on the kernel's TCP");
        let mut nginx = self.start("lab", &["shell"], "kernel", &[])?;
        let url = format!("http://{KERNEL}");
        self.wait_for(&mut nginx, "lab", &format!("{url}/small"))?;
        // In the namespace of `lab`, on whose device `run` puts its program.
        let curl = ["exec", "lab", "--", "usersock", "run", "--in-process", "--"];
        let file = self.download(&curl, &format!("{url}/file.bin"), "www/file.bin")?;
        let wrk = ["exec", "lab", "--", "usersock", "run", "--in-process", "--instance", "wrk", "--"];
        let load = self.load(&wrk, &format!("{url}/small"), "wrk")?;
        Ok(file & load)
    }

    /// A download over the bad network, drawn as nginx's stack sees it.
    fn plotted(&self) -> Outcome {
        println!("\n== 5. a download over a simulated slow link whose queue overflows, drawn from the sender's side");
        let mut nginx = self.start("slow", &["run", "--in-process"], "usersock", &["--link", LINK])?;
        let url = format!("http://{STACK}");
        self.wait_for(&mut nginx, "slow", &format!("{url}/small"))?;
        // The picture is of one connection: begun once there is one, it ends with it. The one that has just asked
        // whether nginx answers goes first, some round trips of this link later.
        let connections = ["ss", "-N", "slow", "-tnH", "sport", "=", ":80"];
        if !self.until(&connections, |text| text.trim().is_empty())? {
            println!("demo: nginx does not close a connection");
            return Ok(false);
        }
        let mut download = self.show(&["exec", "slow", "--"], &curl(&format!("{url}/plotted.bin")));
        let mut download = Guard::start(download.stdout(Stdio::piped()))?;
        if !self.until(&connections, |text| text.contains("ESTAB"))? {
            println!("demo: curl does not connect");
            return Ok(false);
        }
        let file = self.plot.to_string_lossy();
        let drawn = self.show(&["plot", "-N", "slow", "-o", &file, "sport = :80"], &[]).status()?.success();
        let ended = download.wait(Duration::from_secs(60))? == Some(true);
        let seconds = super::curl_seconds(download.output()?.as_bytes());
        let counted = self.show(&["nstat", "-N", "slow", "TcpOutSegs", "TcpRetransSegs"], &[]).status()?.success();
        let want = sha256(&self.dir.join("www/plotted.bin"))?;
        let good = ended && compare(&format!("{url}/plotted.bin"), &self.dir.join("out.bin"), &want, seconds)?;
        Ok(good & drawn & counted)
    }

    /// `usersock` with `args`, the device that was chosen, and no settings of the caller's.
    fn usersock(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.usersock);
        command.args(args).current_dir(self.dir).stdin(Stdio::null());
        // `usersock` in the commands that it runs is this one.
        let mut path = self.usersock.parent().map_or_else(Default::default, |dir| dir.as_os_str().to_owned());
        path.push(":");
        path.push(setup::system_path());
        command.env("PATH", path).env("USERSOCK_DIR", self.dir.join("run"));
        for variable in ENVIRONMENT {
            command.env_remove(variable);
        }
        command
    }

    /// The same with a program and its arguments, which is printed as it would be typed.
    fn show(&self, args: &[&str], program: &[String]) -> Command {
        let program: Vec<&str> = program.iter().map(String::as_str).collect();
        let all = [args, &program].concat();
        println!("$ usersock {}", all.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "));
        self.usersock(&all)
    }

    /// nginx in an instance, by `how` (`run`, `shell`), with the configuration of that name.
    fn start(&self, instance: &str, how: &[&str], conf: &str, options: &[&str]) -> Result<Guard, Failure> {
        let device = if self.via == Via::Packet { &["--packet"][..] } else { &["--tun"] };
        let mut words = [how, device, &["--instance", instance], options, &["--"]].concat();
        let conf = format!("{conf}.conf");
        // In the process there are no workers.
        let single = if how.contains(&"--in-process") { "master_process off;" } else { "" };
        words.extend(["nginx", "-p", ".", "-c", &conf]);
        if !single.is_empty() {
            words.extend(["-g", single]);
        }
        let said = fs::File::create(self.dir.join("nginx.said"))?;
        Guard::start(self.show(&words, &[]).stdout(said.try_clone()?).stderr(said))
    }

    /// Waits until nginx answers.
    fn wait_for(&self, nginx: &mut Guard, instance: &str, url: &str) -> Result<(), Failure> {
        let deadline = Instant::now() + Duration::from_secs(20);
        let args = ["exec", instance, "--", "curl", "-fs", "--max-time", "2", "-o", "/dev/null"];
        loop {
            // The client is on the kernel's TCP, but where nginx is, too: there it asks the kernel itself.
            let asked = self.usersock(&[&args[..], &[url]].concat()).stderr(Stdio::null()).status()?;
            if asked.success() {
                return Ok(());
            }
            if nginx.wait(Duration::from_millis(50))?.is_some() || Instant::now() > deadline {
                let said = fs::read_to_string(self.dir.join("nginx.said")).unwrap_or_default();
                let log = fs::read_to_string(self.dir.join("error.log")).unwrap_or_default();
                return Err(broken(format!("nginx does not answer: {}", (said + &log).trim().replace('\n', "; "))));
            }
        }
    }

    /// curl, behind `prefix`, downloads what is `file` in our directory.
    fn download(&self, prefix: &[&str], url: &str, file: &str) -> Outcome {
        let mut curl = Guard::start(self.show(prefix, &curl(url)).stdout(Stdio::piped()))?;
        match curl.wait(Duration::from_secs(300))? {
            Some(true) => {}
            ended => {
                println!("demo: curl {}", if ended.is_some() { "failed" } else { "did not end within 300 s" });
                return Ok(false);
            }
        }
        let seconds = super::curl_seconds(curl.output()?.as_bytes());
        compare(url, &self.dir.join("out.bin"), &sha256(&self.dir.join(file))?, seconds)
    }

    /// wrk, behind `prefix`; while it runs, what the stack of `instance` knows of a connection.
    fn load(&self, prefix: &[&str], url: &str, instance: &str) -> Outcome {
        let wrk = ["wrk", "-t2", "-c16", "-d3", url].map(str::to_owned);
        let wrk = Guard::start(self.show(prefix, &wrk).stdout(Stdio::piped()))?;
        let asked = self.until(&["ss", "-N", instance, "-tnH"], |text| text.contains("ESTAB"))?;
        std::thread::sleep(Duration::from_secs(1));
        let list = self.show(&["ss", "-N", instance, "-ti"], &[]).stderr(Stdio::inherit()).output()?;
        let list = String::from_utf8_lossy(&list.stdout).into_owned();
        list.lines().take(3).for_each(|line| println!("{line}"));
        println!("    ... {} lines more", list.lines().count().saturating_sub(3));
        let said = wrk.output()?;
        let good = said.lines().any(|line| line.starts_with("Requests/sec:"))
            && !said.lines().any(|line| line.contains("Socket errors") || line.contains("Non-2xx"));
        said.lines().filter(|line| !line.is_empty()).for_each(|line| println!("{line}"));
        Ok(good & asked & list.contains(" cubic "))
    }

    /// Whether `usersock` with `args` prints within ten seconds what is waited for.
    fn until(&self, args: &[&str], found: impl Fn(&str) -> bool) -> Outcome {
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            let output = self.usersock(args).stderr(Stdio::null()).output()?;
            if found(&String::from_utf8_lossy(&output.stdout)) {
                return Ok(true);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(false)
    }
}

/// curl as the demo calls it: to out.bin, and how long it took to standard output.
fn curl(url: &str) -> Vec<String> {
    ["curl", "-sSf", "-o", "out.bin", "-w", super::CURL_TIMES, url].map(str::to_owned).to_vec()
}

/// A configuration of nginx on port 80 of an address, with all its files in its prefix.
fn nginx_conf(name: &str, address: &str) -> String {
    // Who is root there has no other user to change to.
    let user = if nix::unistd::geteuid().is_root() { "user root;\n" } else { "" };
    format!(
        "daemon off;\nworker_processes 2;\n{user}pid {name}.pid;\nerror_log error.log;\n\
         events {{ worker_connections 256; }}\n\
         http {{\n  access_log off;\n  sendfile on;\n  tcp_nopush on;\n  client_body_temp_path temp/1;\n  \
         proxy_temp_path temp/2;\n  fastcgi_temp_path temp/3;\n  uwsgi_temp_path temp/4;\n  scgi_temp_path temp/5;\n  \
         server {{ listen {address}:80; root www; }}\n}}\n"
    )
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "%@+=:,./-_{}".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// Where the picture goes unless it is said: below the target directory that has the command.
pub(super) fn plot_file(usersock: &Path) -> PathBuf {
    usersock.parent().and_then(Path::parent).unwrap_or(Path::new(".")).join("usersock-demo.svg")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_printed_as_a_shell_takes_them() {
        for (word, want) in [
            ("http://10.0.0.2/file.bin", "http://10.0.0.2/file.bin"),
            ("master_process off;", "'master_process off;'"),
            ("%{time_total}", "%{time_total}"),
            ("*", "'*'"),
            ("it's", "'it'\\''s'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(word), want);
        }
    }

    #[test]
    fn the_picture_is_beside_what_was_built() {
        assert_eq!(plot_file(Path::new("/t/release/usersock")), Path::new("/t/usersock-demo.svg"));
    }
}
