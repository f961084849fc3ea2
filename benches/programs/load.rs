//! The loads: which server, which client, and where in its output the number is.

use std::path::Path;

/// Unit of a measured number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bits per second.
    Bits,
    /// Requests per second.
    Requests,
}

impl Unit {
    /// With its name.
    pub fn show(self, x: f64) -> String {
        match self {
            Unit::Bits => format!("{:.2} Gbit/s", x / 1e9),
            Unit::Requests => format!("{x:.0} /s"),
        }
    }
}

/// What a command line is made of.
pub struct Here<'a> {
    /// The server's address.
    pub address: &'a str,
    /// A directory for the server's files.
    pub dir: &'a Path,
    /// This program.
    pub myself: &'a Path,
}

/// A server under a load.
pub struct Load {
    /// The name of the row.
    pub name: &'static str,
    /// Unit of the number.
    pub unit: Unit,
    /// The programs it needs, with Debian's packages.
    pub programs: &'static [(&'static str, &'static str)],
    /// The port on which the server listens.
    pub port: u16,
    /// The server, which stays in the foreground.
    pub server: fn(&Here<'_>) -> Vec<String>,
    /// The client, which ends in a few seconds.
    pub client: fn(&Here<'_>) -> Vec<String>,
    /// The number in the client's output.
    pub number: fn(&str) -> Option<f64>,
}

/// All rows.
pub const LOADS: [Load; 8] = [
    Load {
        name: "iperf3, receiving",
        unit: Unit::Bits,
        programs: &[("iperf3", "iperf3")],
        port: 5201,
        server: |_| words("iperf3 -s"),
        client: |here| words(&format!("iperf3 -c {} -t 2 -J", here.address)),
        number: iperf3,
    },
    Load {
        name: "iperf3, sending",
        unit: Unit::Bits,
        programs: &[("iperf3", "iperf3")],
        port: 5201,
        server: |_| words("iperf3 -s"),
        client: |here| words(&format!("iperf3 -c {} -t 2 -J -R", here.address)),
        number: iperf3,
    },
    Load {
        name: "redis, 1 connection, `redis-benchmark -P 1`",
        unit: Unit::Requests,
        programs: &[("redis-server", "redis-server"), ("redis-benchmark", "redis-tools")],
        port: 6379,
        server: redis,
        client: |here| words(&format!("redis-benchmark -h {} -t get -c 1 -n 20000 -P 1 --csv", here.address)),
        number: redis_benchmark,
    },
    Load {
        name: "redis, 50 connections, `redis-benchmark -P 1`",
        unit: Unit::Requests,
        programs: &[("redis-server", "redis-server"), ("redis-benchmark", "redis-tools")],
        port: 6379,
        server: redis,
        client: |here| words(&format!("redis-benchmark -h {} -t get -c 50 -n 100000 -P 1 --csv", here.address)),
        number: redis_benchmark,
    },
    Load {
        name: "redis, 50 connections, `redis-benchmark -P 16`",
        unit: Unit::Requests,
        programs: &[("redis-server", "redis-server"), ("redis-benchmark", "redis-tools")],
        port: 6379,
        server: redis,
        client: |here| words(&format!("redis-benchmark -h {} -t get -c 50 -n 800000 -P 16 --csv", here.address)),
        number: redis_benchmark,
    },
    Load {
        name: "nginx, 64 connections, `wrk -t2 -c64`",
        unit: Unit::Requests,
        programs: &[("nginx", "nginx-light"), ("wrk", "wrk")],
        port: 8080,
        server: nginx,
        client: |here| words(&format!("wrk -t2 -c64 -d2 http://{}:8080/small", here.address)),
        number: |text| after(text, "Requests/sec:"),
    },
    Load {
        name: "nginx, a connection each request, `ab -c 32`",
        unit: Unit::Requests,
        programs: &[("nginx", "nginx-light"), ("ab", "apache2-utils")],
        port: 8080,
        server: nginx,
        client: |here| words(&format!("ab -q -n 8000 -c 32 http://{}:8080/small", here.address)),
        number: |text| after(text, "Failed requests:").filter(|n| *n == 0.0).and(after(text, "Requests per second:")),
    },
    Load {
        name: "memcached, 50 connections, a get each",
        unit: Unit::Requests,
        programs: &[("memcached", "memcached")],
        port: 11211,
        // Root of the namespace has no other user to change to.
        server: |here| words(&format!("memcached -l {} -U 0 -t 2 -u root", here.address)),
        client: |here| {
            let address = format!("{}:11211", here.address);
            vec![here.myself.display().to_string(), super::memcached::ASK.to_owned(), address]
        },
        number: |text| text.trim().parse().ok(),
    },
];

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

fn redis(here: &Here<'_>) -> Vec<String> {
    let text = format!("redis-server --bind {} --protected-mode no --appendonly no --save", here.address);
    let mut words = words(&text);
    // No snapshots.
    words.extend([String::new(), "--dir".to_owned(), here.dir.display().to_string()]);
    words
}

/// One process, as in-process mode needs it. Its configuration is written here.
fn nginx(here: &Here<'_>) -> Vec<String> {
    let conf = format!(
        "daemon off; master_process off; pid nginx.pid; error_log error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; keepalive_requests 1000000000;
  client_body_temp_path 1; proxy_temp_path 2; fastcgi_temp_path 3; uwsgi_temp_path 4; scgi_temp_path 5;
  server {{ listen {}:8080; root .; }}
}}
",
        here.address
    );
    // What cannot be written nginx will miss, and say so.
    let _ = std::fs::write(here.dir.join("nginx.conf"), conf);
    let _ = std::fs::write(here.dir.join("small"), "small\n");
    words(&format!("nginx -p {} -c nginx.conf", here.dir.display()))
}

/// The first number after a word.
fn after(text: &str, word: &str) -> Option<f64> {
    text.split_once(word)?.1.split_whitespace().next()?.parse().ok()
}

fn iperf3(text: &str) -> Option<f64> {
    let json: serde_json::Value = serde_json::from_str(text).ok()?;
    json["end"]["sum_received"]["bits_per_second"].as_f64().filter(|n| *n > 0.0)
}

/// A line `"GET","91743.12",...`.
fn redis_benchmark(text: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with("\"GET\","))?;
    line.split(',').nth(1)?.trim_matches('"').parse().ok()
}

/// Refused, with what to install, when a program is missing.
pub fn check_installed(loads: &[&Load]) -> Result<(), String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs: Vec<_> = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).collect();
    let installed = |program: &str| dirs.iter().any(|dir| dir.join(program).is_file());
    let needed = loads.iter().flat_map(|load| load.programs).chain(&[("ip", "iproute2")]);
    let mut missing: Vec<&str> =
        needed.filter(|(program, _)| !installed(program)).map(|(_, package)| *package).collect();
    missing.sort_unstable();
    missing.dedup();
    match missing[..] {
        [] => Ok(()),
        _ => Err(format!("please install: {}", missing.join(" "))),
    }
}
