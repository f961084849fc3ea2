//! The commands that look into a running stack, as a user meets them. The stack is this test's: it has a control
//! socket, a listener, connections and datagram sockets on its in-memory loopback.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use usersock::config;
use usersock::net::{Socket, TcpListener, TcpStream, UdpSocket};
use usersock::stack::Stack;
use usersock::tcp::sock_ops::{self, Scope, SockOps};
use usersock::tcp::tfb::{self, FunctionBlock, Functions};

/// A stack, its socket's directory, and sockets with ports that do not change.
struct Run {
    base: PathBuf,
    stack: Arc<Stack>,
    listener: TcpListener,
    client: TcpStream,
    server: TcpStream,
    _udp: UdpSocket,
}

fn private(dir: &Path) {
    fs::DirBuilder::new().mode(0o700).recursive(true).create(dir).unwrap();
}

fn connect(stack: &Arc<Stack>, from: &str, to: &str) -> TcpStream {
    let s = Socket::new(stack, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
    s.bind(from.parse().unwrap()).unwrap();
    s.connect(Some(to.parse().unwrap())).unwrap();
    TcpStream::from_socket(Arc::new(s))
}

impl Run {
    /// `instance`: the name of the instance.
    fn new(test: &str, instance: &str) -> Run {
        let base = std::env::temp_dir().join(format!("usersock-o-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&base);
        let control = base.join("usersock").join(instance).join("control");
        private(control.parent().unwrap());
        let stack = config::build(&format!("addr=10.0.0.2/24,control={}", control.display())).unwrap();
        let listener = TcpListener::bind_on(&stack, "127.0.0.1:8080").unwrap();
        let client = connect(&stack, "127.0.0.1:40001", "127.0.0.1:8080");
        let (server, _) = listener.accept().unwrap();
        let udp = UdpSocket::bind_on(&stack, "[::]:5353").unwrap();
        (&client).write_all(b"hello").unwrap();
        Run { base, stack, listener, client, server, _udp: udp }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut c = Command::new(env!("CARGO_BIN_EXE_usersock"));
        c.args(args).env_remove("USERSOCK_CONFIG").env_remove("USERSOCK_DIR").env("XDG_RUNTIME_DIR", &self.base);
        c
    }

    fn output(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn stdout(&self, args: &[&str]) -> String {
        let out = self.output(args);
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }

    fn lines(&self, args: &[&str]) -> Vec<String> {
        self.stdout(args).lines().map(str::to_owned).collect()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.base);
    }
}

/// Every number becomes N.
fn normal(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '0'..='9' if out.ends_with('N') => {}
            '0'..='9' => out.push('N'),
            '.' if out.ends_with('N') => {}
            c => out.push(c),
        }
    }
    out
}

#[test]
fn ss_prints_the_table_that_ss_prints() {
    let r = Run::new("ss", "web");
    assert_eq!(
        r.stdout(&["ss", "-an"]),
        "\
Netid State  Recv-Q Send-Q Local Address:Port  Peer Address:Port  Process
udp   UNCONN 0      0                  *:5353             *:*
tcp   LISTEN 0      128        127.0.0.1:8080       0.0.0.0:*
tcp   ESTAB  5      0          127.0.0.1:8080     127.0.0.1:40001
tcp   ESTAB  0      0          127.0.0.1:40001    127.0.0.1:8080
"
    );
    assert_eq!(
        r.stdout(&["ss", "-tn", "state", "established", "sport", "=", ":8080"]),
        "\
Recv-Q Send-Q Local Address:Port Peer Address:Port  Process
5      0          127.0.0.1:8080    127.0.0.1:40001
"
    );
    assert_eq!(r.lines(&["ss", "-Htan", "dst 127.0.0.1"]).len(), 2);
    assert_eq!(r.lines(&["ss", "-Htun6a"]).len(), 1);
    assert_eq!(r.lines(&["ss", "-Hln"]).len(), 2, "a listener, and what is not connected");
    // ss(8) takes the later of the two.
    assert_eq!((r.lines(&["ss", "-Htlan"]).len(), r.lines(&["ss", "-Htaln"]).len()), (3, 1));
    assert_eq!(r.lines(&["ss", "-Hwa"]).len(), 0);
    assert!(r.stdout(&["ss", "-tl"]).contains("127.0.0.1:http-alt"), "ports have names without -n");
}

#[test]
fn ss_s_options_print_the_words_of_ss() {
    let r = Run::new("options", "web");
    let pid = std::process::id();
    let name = fs::read_to_string("/proc/self/comm").unwrap();
    let users = format!("users:((\"{}\",pid={pid}))", name.trim_end());
    assert!(r.lines(&["ss", "-Htlnp"])[0].ends_with(&users), "{users}");
    let keep = connect(&r.stack, "127.0.0.1:40002", "127.0.0.1:8080");
    let on = 1i32.to_ne_bytes();
    keep.socket().setsockopt(libc::SOL_SOCKET, libc::SO_KEEPALIVE, &on).unwrap();
    let kept = r.lines(&["ss", "-Htno", "sport = :40002"]);
    let timer = kept[0].split_whitespace().last().unwrap();
    assert!(["timer:(keepalive,119min,0)", "timer:(keepalive,120min,0)"].contains(&timer), "{timer}");
    let extended = &r.lines(&["ss", "-Htnea", "sport = :40001"])[0];
    assert!(extended.contains(" ino:0 sk:") && extended.ends_with(" <->"), "{extended}");
    assert!(r.lines(&["ss", "-Huane"])[0].contains(" v6only:0 <->"));
    let memory = &r.lines(&["ss", "-Htnm", "sport = :40001"])[1];
    assert_eq!(normal(memory), "\t skmem:(rN,rbN,tN,tbN,fN,wN,oN,blN,dN)");
    let info = &r.lines(&["ss", "-HtniO", "sport = :40001"])[0];
    // Times that are printed once they are a millisecond.
    let late = |word: &&str| !["lastsnd:", "lastrcv:", "lastack:", "busy:"].iter().any(|p| word.starts_with(p));
    assert_eq!(
        normal(&info.split_whitespace().filter(late).collect::<Vec<_>>().join(" ")),
        "ESTAB N N N:N N:N cubic wscale:N,N rto:N rtt:N/N mss:N pmtu:N rcvmss:N advmss:N cwnd:N bytes_sent:N \
         bytes_acked:N segs_out:N segs_in:N data_segs_out:N send Nbps pacing_rate Nbps delivery_rate Nbps delivered:N \
         app_limited rcv_space:N rcv_ssthresh:N minrtt:N snd_wnd:N rcv_wnd:N"
    );
    for options in ["-HtnioO", "-HtnieO"] {
        assert!(r.lines(&["ss", options, "sport = :40001"])[0].contains(" ts sack cubic "), "{options}");
    }
    assert!(r.lines(&["ss", "-Htne", "sport = :40002"])[0].contains(" timer:(keepalive,"), "-e has what -o has");
    // A connection waits to be accepted.
    assert_eq!(normal(&r.lines(&["ss", "-Htli"])[1]), "\t cubic cwnd:N unacked:N");
}

#[test]
fn algorithms_are_shown_in_their_own_words() {
    let r = Run::new("algorithms", "web");
    for (port, name, begins) in [("9005", "bbr", "bbr:(bw:"), ("9006", "dctcp", "dctcp:(ce_state:0,alpha:")] {
        r.stack.sysctl.set("net.ipv4.tcp_congestion_control", name).unwrap();
        // dctcp needs a listener that takes its ECT on the SYN.
        let to = format!("127.0.0.1:{port}");
        let _listener = TcpListener::bind_on(&r.stack, &to).unwrap();
        let c = connect(&r.stack, "127.0.0.1:0", &to);
        (&c).write_all(b"hello").unwrap();
        let line = &r.lines(&["ss", "-HtniO", &format!("dport = :{port}")])[0];
        let words: Vec<&str> = line.split_whitespace().collect();
        let at = words.iter().position(|w| w.starts_with(begins)).unwrap_or_else(|| panic!("{line}"));
        // Between these two, as ss(8) has it.
        assert!(words[at - 1].starts_with("data_segs_") && words[at + 1] == "send", "{line}");
        assert!(words.contains(&name), "{line}");
    }
}

/// Hooks that do nothing, for sockets that they are attached to.
struct Chosen(&'static str);

impl SockOps for Chosen {
    fn name(&self) -> &str {
        self.0
    }
    fn scope(&self) -> Scope {
        Scope::Chosen
    }
}

#[test]
fn ss_i_names_the_hooks_of_a_socket() {
    let r = Run::new("hooks", "web");
    for name in ["first", "second"] {
        sock_ops::register(&r.stack, Arc::new(Chosen(name))).unwrap();
    }
    let listener = Socket::new(&r.stack, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
    listener.bind("127.0.0.1:9007".parse().unwrap()).unwrap();
    listener.listen(1).unwrap();
    for name in ["second", "first"] {
        sock_ops::attach(&r.stack, listener.sock(), name).unwrap();
    }
    let _c = connect(&r.stack, "127.0.0.1:0", "127.0.0.1:9007");
    let (child, _) = listener.accept().unwrap();
    sock_ops::detach(&r.stack, child.sock(), "second").unwrap();
    let hooks = |args: &[&str]| {
        let line = r.lines(args).remove(0);
        line.split_whitespace().find_map(|w| w.strip_prefix("hooks:")).unwrap_or_default().to_owned()
    };
    assert_eq!(hooks(&["ss", "-HtlniO", "sport = :9007"]), "first,second");
    assert_eq!(hooks(&["ss", "-HtniO", "sport = :9007"]), "first");
    assert_eq!(hooks(&["ss", "-HtniO", "dport = :9007"]), "");
}

/// The lines that iproute2's ss prints of the same sockets of the kernel's.
#[test]
fn sockets_of_other_kinds_have_the_ends_that_ss_shows() {
    let r = Run::new("kinds", "web");
    r.stack.sysctl.set("net.ipv4.ping_group_range", "0 4294967294").unwrap();
    let make = |family, ty, protocol| Socket::new(&r.stack, family, ty, protocol).unwrap();
    let _icmp = make(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP);
    let _icmp6 = make(libc::AF_INET6, libc::SOCK_RAW, libc::IPPROTO_ICMPV6);
    let raw = make(libc::AF_INET, libc::SOCK_RAW, 253);
    raw.connect(Some("127.0.0.1:0".parse().unwrap())).unwrap();
    let six = make(libc::AF_INET6, libc::SOCK_STREAM, 0);
    six.setsockopt(libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, &1i32.to_ne_bytes()).unwrap();
    six.bind("[::]:99".parse().unwrap()).unwrap();
    six.listen(3).unwrap();
    let udp = make(libc::AF_INET6, libc::SOCK_DGRAM, 0);
    udp.setsockopt(libc::SOL_SOCKET, libc::SO_BINDTODEVICE, b"lo\0").unwrap();
    udp.bind("[::]:98".parse().unwrap()).unwrap();
    let ping = make(libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_ICMP);
    ping.bind("127.0.0.1:77".parse().unwrap()).unwrap();
    let words = |args: &[&str]| -> Vec<String> {
        let line = |l: String| l.split_whitespace().collect::<Vec<_>>().join(" ");
        r.lines(args).into_iter().map(line).collect()
    };
    assert_eq!(
        words(&["ss", "-Hwan"]),
        [
            "raw UNCONN 0 0 0.0.0.0:1 0.0.0.0:*",
            "raw UNCONN 0 0 *:58 *:*",
            "raw ESTAB 0 0 127.0.0.1:253 127.0.0.1:*",
            "icmp UNCONN 0 0 127.0.0.1:77 0.0.0.0:*",
        ]
    );
    let named = words(&["ss", "-Hwa", "not", "dst", "127.0.0.1"]);
    let first = named.iter().filter(|l| l.starts_with("raw"));
    let ends: Vec<&str> = first.map(|l| l.split(' ').nth(4).unwrap()).collect();
    assert_eq!(ends, ["0.0.0.0:icmp", "*:ipv6-icmp"]);
    assert!(words(&["ss", "-Hw"])[0].contains("127.0.0.1:ipproto-253 127.0.0.1:*"));
    assert_eq!(words(&["ss", "-Htln", "sport = :99"]), ["LISTEN 0 3 [::]:99 [::]:*"]);
    assert_eq!(words(&["ss", "-Huan", "sport = :98"]), ["UNCONN 0 0 *%lo:98 *:*"]);
}

#[test]
fn ss_counts_and_lists_as_json() {
    let r = Run::new("json", "web");
    assert_eq!(
        r.stdout(&["ss", "-s"]),
        "Total: 4\nTCP:   3 (estab 2, closed 0, orphaned 0, timewait 0)\n\n\
         Transport Total     IP        IPv6\nRAW\t  0         0         0        \n\
         UDP\t  1         0         1        \nTCP\t  3         3         0        \n\
         INET\t  4         3         1        \n"
    );
    let all: serde_json::Value = serde_json::from_str(&r.stdout(&["ss", "-j", "-a"])).unwrap();
    let states: Vec<&str> = all.as_array().unwrap().iter().map(|s| s["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["UNCONN", "LISTEN", "ESTAB", "ESTAB"]);
    assert_eq!((&all[2]["tcp_info"]["bytes_received"], &all[3]["tcp_info"]["bytes_sent"]), (&5.into(), &5.into()));
    assert_eq!(all[1]["timer"], serde_json::Value::Null);
}

#[test]
fn nstat_prints_what_has_grown_since_its_last_call() {
    let r = Run::new("nstat", "web");
    let first = r.stdout(&["nstat"]);
    let row = |name: &str, n: u64| format!("{name:<32}{n:<16}   0.0\n");
    assert!(first.starts_with("#usersock\nIpInReceives ") && first.contains(&row("TcpActiveOpens", 1)), "{first}");
    assert!(!first.contains("TcpCurrEstab") && !first.contains("IpDefaultTTL"));
    assert_eq!(r.stdout(&["nstat"]), "#usersock\n");
    let _another = connect(&r.stack, "127.0.0.1:40002", "127.0.0.1:8080");
    for _ in 0..2 {
        // A look changes nothing.
        assert_eq!(r.stdout(&["nstat", "-s", "TcpActive*"]), format!("#usersock\n{}", row("TcpActiveOpens", 1)));
    }
    assert_eq!(r.stdout(&["nstat", "-a", "TcpActive*"]), format!("#usersock\n{}", row("TcpActiveOpens", 2)));
    assert_eq!(r.stdout(&["nstat", "-z", "TcpActive*"]), format!("#usersock\n{}", row("TcpActiveOpens", 0)));
    assert_eq!(r.stdout(&["nstat", "-r", "-j", "TcpActive*"]), "{\"kernel\":{\"TcpActiveOpens\":2}}\n");
    let pretty = r.stdout(&["nstat", "-ajp", "TcpActive*"]);
    assert_eq!(pretty, "{\n  \"kernel\": {\n    \"TcpActiveOpens\": 2\n  }\n}\n");
    let refused = connect_refused(&r.stack);
    assert_eq!(refused, Some(libc::ECONNREFUSED));
    assert_eq!(r.stdout(&["nstat", "-n"]), "");
    let drops = r.stdout(&["nstat", "--drops"]);
    // The SYN, and the reset that answers it.
    assert_eq!(drops, format!("#usersock\n#drops\n{:<32}1\n{:<32}1\n", "NO_SOCKET", "TCP_RESET"));
}

fn connect_refused(stack: &Arc<Stack>) -> Option<i32> {
    TcpStream::connect_on(stack, "127.0.0.1:9").unwrap_err().raw_os_error()
}

#[test]
fn sysctl_pcap_and_kill_change_the_running_stack() {
    let r = Run::new("change", "web");
    assert_eq!(r.stdout(&["sysctl", "-r", "net.ipv4.tcp_sack"]), "net.ipv4.tcp_sack = 1\n");
    assert_eq!(
        r.stdout(&["sysctl", "-N", "web", "net/ipv4/tcp_rmem=4096 9999 99999"]),
        "net.ipv4.tcp_rmem = 4096\t9999\t99999\n"
    );
    assert_eq!(r.stack.sysctl.get("net.ipv4.tcp_rmem").unwrap(), "4096\t9999\t99999");
    assert_eq!(
        r.lines(&["sysctl", "-ra"]),
        r.stack.sysctl.list().iter().map(|l| format!("{} = {}", l.name, l.value)).collect::<Vec<_>>()
    );
    assert!(r.stdout(&["sysctl", "-rd", "net.ipv4.tcp_sack"]).contains("\n    "));

    let file = r.base.join("x.pcap");
    let name = file.to_str().unwrap();
    assert!(r.stdout(&["pcap", "start", name]).ends_with(&format!(" captures lo to {name}\n")));
    (&r.server).write_all(b"captured").unwrap();
    assert!(r.stdout(&["pcap", "stop"]).ends_with(" no longer captures lo\n"));
    let bytes = fs::read(&file).unwrap();
    assert!(bytes.windows(8).any(|w| w == b"captured"), "{} bytes", bytes.len());

    assert_eq!(r.stdout(&["kill", "dport = :8080"]), "tcp ESTAB 127.0.0.1:40001 127.0.0.1:8080\n");
    let mut buf = [0; 9];
    assert_eq!((&r.client).read(&mut buf).unwrap(), 8, "what has arrived before");
    assert_eq!((&r.client).read(&mut buf).unwrap_err().raw_os_error(), Some(libc::ECONNABORTED));
    assert_eq!(r.stdout(&["kill", "dport = :8080"]), "");
    assert_eq!(r.lines(&["ss", "-HKtl", "sport = :8080"]).len(), 1);
    assert_eq!(r.listener.accept().unwrap_err().raw_os_error(), Some(libc::EINVAL));
}

#[test]
fn trace_follows_connections_until_it_has_enough_or_nobody_reads() {
    let r = Run::new("trace", "web");
    let start = |args: &[&str]| {
        let mut child = r.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        (child, out)
    };
    let (mut child, mut out) = start(&["trace", "--only", "state", "-c", "3"]);
    // It listens when a state change reaches it: until then, more are made.
    let mut port = 40_100;
    let done = std::thread::scope(|t| {
        let reader = t.spawn(move || {
            let mut text = String::new();
            out.read_to_string(&mut text).unwrap();
            text
        });
        while !reader.is_finished() {
            drop(connect(&r.stack, &format!("127.0.0.1:{port}"), "127.0.0.1:8080"));
            drop(r.listener.accept().unwrap());
            port += 1;
        }
        reader.join().unwrap()
    });
    assert!(child.wait().unwrap().success());
    let lines: Vec<&str> = done.lines().collect();
    assert_eq!(lines.len(), 3, "{done}");
    assert!(
        lines.iter().all(|l| l.contains(" sock:inet_sock_set_state 127.0.0.1:") && l.contains(" -> TCP_")),
        "{done}"
    );
    // Its reader goes: it ends, quietly.
    let (mut child, mut out) = start(&["trace", "-j"]);
    let mut line = String::new();
    std::thread::scope(|t| {
        let reader = t.spawn(|| out.read_line(&mut line).unwrap());
        while !reader.is_finished() {
            let _ = connect_refused(&r.stack);
        }
    });
    assert!(line.starts_with("{\"time\":"), "{line}");
    drop(out);
    let status = loop {
        let _ = connect_refused(&r.stack);
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
    };
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(status.success() && said.is_empty(), "{status}: {said}");
}

/// What sock:inet_sock_set_state says on Linux 6.18 of the same calls.
#[test]
fn trace_has_the_state_changes_of_linux_s_tracepoint() {
    let r = Run::new("states", "web");
    let mut child = r.command(&["trace", "-j", "--only", "state"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    std::thread::scope(|t| {
        let reader = t.spawn(|| lines.next().unwrap().unwrap());
        // It listens when a state change reaches it: until then, more are made.
        while !reader.is_finished() {
            let _ = connect_refused(&r.stack);
        }
        reader.join().unwrap()
    });
    let client = connect(&r.stack, "127.0.0.1:40003", "127.0.0.1:8080");
    let (server, _) = r.listener.accept().unwrap();
    drop(client);
    let mut buf = [0; 1];
    assert_eq!((&server).read(&mut buf).unwrap(), 0);
    drop(server);
    let mut of = [Vec::new(), Vec::new()];
    let closed = |list: &[String]| list.last().is_some_and(|l| l.ends_with(" CLOSE"));
    while !of.iter().all(|list| closed(list)) {
        let v: serde_json::Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        let which = ["local_port", "peer_port"].iter().position(|end| v[end] == 40003);
        let state = |key: &str| v[key].as_str().unwrap().trim_start_matches("TCP_").to_owned();
        if let Some(which) = which {
            of[which].push(format!("{} {}", state("oldstate"), state("newstate")));
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let [client, server] = of;
    let opened = ["CLOSE SYN_SENT", "SYN_SENT ESTABLISHED"];
    let ended = ["ESTABLISHED FIN_WAIT1", "FIN_WAIT1 FIN_WAIT2", "FIN_WAIT2 CLOSE"];
    assert_eq!(client, [&opened[..], &ended].concat());
    let opened = ["LISTEN SYN_RECV", "SYN_RECV ESTABLISHED"];
    let ended = ["ESTABLISHED CLOSE_WAIT", "CLOSE_WAIT LAST_ACK", "LAST_ACK CLOSE"];
    assert_eq!(server, [&opened[..], &ended].concat());
}

#[test]
fn a_closed_pipe_ends_a_list_quietly() {
    let r = Run::new("pipe", "web");
    for args in [&["ss", "-an"][..], &["nstat", "-az"], &["sysctl", "-ra"], &["ss", "-s"], &["ss", "-ja"]] {
        let mut child = r.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let out = child.wait_with_output().unwrap();
        assert!(out.status.success() && out.stderr.is_empty(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    }
}

#[test]
fn wrong_arguments_are_one_line_and_status_2() {
    let r = Run::new("wrong", "web");
    for (args, want) in [
        (&["ss", "-x"][..], "unexpected argument '-x' found"),
        (&["ss", "-N", "db"], "-N db: no such instance runs; there is web"),
        (&["ss", "-N", "/nonexistent/control"], "/nonexistent/control: there is no such socket"),
        (&["ss", "state", "open"], "filter: wrong state name: open"),
        (&["ss", "sport", "="], "filter: sport which?"),
        (&["ss", "-s", "-j"], "the argument '--summary' cannot be used with '--json'"),
        (&["ss", "-K"], "-K: ends which sockets? `state all` chooses every one"),
        (&["ss", "-46"], "the argument '--ipv4' cannot be used with '--ipv6'"),
        (&["kill"], "the following required arguments were not provided: <FILTER>..."),
        (
            &["kill", "10.0.0.1"],
            "filter: \"10.0.0.1\" is no filter; there is state, exclude, src, dst, sport, dport, dev, and, or, not",
        ),
        (&["nstat", "-p"], "the following required arguments were not provided: --json"),
        (&["nstat", "-ns"], "the argument '--nooutput' cannot be used with '--noupdate'"),
        (&["sysctl", "-r"], "the following required arguments were not provided: --all"),
        (&["sysctl", "-r", "net.ipv4.tcp_sakc"], "net.ipv4.tcp_sakc: "),
        (
            &["sysctl", "-N", "web", "--config", "", "-a"],
            "-N is of a running stack, --config and --plugin of one of this command's",
        ),
        (&["sysctl", "-r", "net.ipv4.tcp_sack=x"], "net.ipv4.tcp_sack: "),
        (&["sysctl", "-r", "net.ipv4.tcp_sack=1\n0"], "an argument has a line break"),
        (&["pcap"], "pcap: which command? start or stop (usersock pcap --help explains them)"),
        (&["pcap", "start"], "the following required arguments were not provided: <FILE>"),
        (&["pcap", "stop"], "no capture of lo is running"),
        (&["pcap", "stop", "-d", "eth 0"], "--device \"eth 0\": not the name of a device"),
        (&["pcap", "start", "-d", "eth9", "x"], "there is no device \"eth9\", only lo"),
        (&["trace", "--only", "all"], "invalid value 'all' for '--only <KIND>'"),
        (&["trace", "-c", "0"], "invalid value '0' for '--count <N>'"),
    ] {
        let out = r.output(args);
        let said = String::from_utf8(out.stderr).unwrap();
        assert!(said.starts_with(&format!("usersock: {want}")), "{args:?}: {said}");
        assert_eq!((out.status.code(), said.lines().count(), out.stdout.len()), (Some(2), 1, 0), "{args:?}: {said}");
    }
}

#[test]
fn the_instance_is_named_where_there_are_several_and_what_is_no_stack_is_said() {
    let r = Run::new("which", "a");
    let dir = r.base.join("usersock");
    private(&dir.join("b"));
    let b = config::build(&format!("control={}", dir.join("b/control").display())).unwrap();
    // Ended without removing its socket.
    private(&dir.join("old"));
    drop(std::os::unix::net::UnixListener::bind(dir.join("old/control")).unwrap());
    let said = |out: Output| (out.status.code(), String::from_utf8(out.stderr).unwrap());
    let which = "usersock: which instance? there is a, b: choose by -N NAME\n";
    assert_eq!(said(r.output(&["ss"])), (Some(2), which.to_owned()));
    assert_eq!((r.lines(&["ss", "-HanN", "b"]).len(), r.lines(&["ss", "-HanN", "a"]).len()), (0, 4));
    let path = dir.join("old/control");
    let path = path.to_str().unwrap();
    assert_eq!(said(r.output(&["ss", "-N", path])), (Some(1), format!("usersock: {path}: its stack has ended\n")));
    drop(b);
    assert_eq!(r.lines(&["ss", "-Han"]).len(), 4, "one is left");
    // Something else that listens there.
    let other = dir.join("other");
    private(&other);
    let listener = std::os::unix::net::UnixListener::bind(other.join("control")).unwrap();
    let path = other.join("control");
    std::thread::scope(|t| {
        t.spawn(|| writeln!(listener.accept().unwrap().0, "SSH-2.0-OpenSSH"));
        let (status, line) = said(r.output(&["ss", "-N", path.to_str().unwrap()]));
        assert!(status == Some(1) && line.contains("an answer is not JSON"), "{line}");
        t.spawn(|| writeln!(listener.accept().unwrap().0, "{{\"usersock\":2,\"version\":\"9.0\"}}"));
        let (status, line) = said(r.output(&["ss", "-N", path.to_str().unwrap()]));
        assert!(
            status == Some(1) && line.contains("speaks version 2 of the protocol (usersock 9.0), this command 1"),
            "{line}"
        );
    });
    fs::remove_dir_all(&other).unwrap();
    let none = Command::new(env!("CARGO_BIN_EXE_usersock"))
        .arg("nstat")
        .env_remove("USERSOCK_DIR")
        .env("XDG_RUNTIME_DIR", &other)
        .output()
        .unwrap();
    assert!(none.status.code() == Some(1) || none.status.success(), "whatever runs outside: {none:?}");
}

#[test]
fn plot_draws_a_table_that_a_program_has_written() {
    let dir = std::env::temp_dir().join(format!("usersock-table-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let (table, picture) = (dir.join("run.csv"), dir.join("run.svg"));
    let plot = |extra: &[&str]| {
        let mut c = std::process::Command::new(env!("CARGO_BIN_EXE_usersock"));
        c.args(["plot", "--csv"]).arg(&table).arg("-o").arg(&picture).args(extra).output().unwrap()
    };
    fs::write(&table, "# two lines\nseconds,ms: delay,ms: least\n0,1,1\n1,3,1\n2,,1\n").unwrap();
    let done = plot(&[]);
    assert!(done.status.success(), "{done:?}");
    assert_eq!(String::from_utf8(done.stdout).unwrap(), format!("{}: 3 samples\n", picture.display()));
    let svg = fs::read_to_string(&picture).unwrap();
    assert!(svg.starts_with("<svg ") && svg.contains("two lines") && svg.contains(">delay<"), "{svg}");
    assert_eq!(svg.matches("<polyline ").count(), 2);
    assert_eq!(plot(&["--seconds", "1"]).status.code(), Some(2), "a table has its own time");
    fs::write(&table, "seconds,ms: delay\n0,x\n").unwrap();
    let refused = plot(&[]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(said, format!("usersock: {}: line 2: \"x\" is not a number\n", table.display()));
    assert_eq!(fs::read_to_string(&picture).unwrap(), svg, "the picture is as it was");
    fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn plot_draws_one_connection_over_time() {
    let r = Run::new("plot", "web");
    let file = r.base.join("conn.svg");
    let name = file.to_str().unwrap();
    let said = |args: &[&str]| String::from_utf8(r.output(args).stderr).unwrap();
    let two = "usersock: 2 connections: choose one by a filter, as the ends of 127.0.0.1:40001 127.0.0.1:8080\n";
    assert_eq!(said(&["plot", "-o", name]), two);
    let none = "usersock: no TCP connection is chosen: `usersock ss -tn` lists them\n";
    assert_eq!(said(&["plot", "-o", name, "sport = :1"]), none);
    let mut child = r.command(&["plot", "-o", name, "-i", "5", "-s", "1", "sport = :40001"]);
    let child = child.stdout(Stdio::piped()).spawn().unwrap();
    let done = std::thread::scope(|t| {
        let wait = t.spawn(|| child.wait_with_output().unwrap());
        let mut buf = [0; 20_000];
        while !wait.is_finished() {
            (&r.client).write_all(&buf).unwrap();
            (&r.server).read_exact(&mut buf).unwrap();
        }
        wait.join().unwrap()
    });
    let line = String::from_utf8(done.stdout).unwrap();
    assert!(done.status.success() && line.starts_with(&format!("{name}: ")), "{line}");
    assert!(line.ends_with(" samples; the time is over\n"), "{line}");
    let svg = fs::read_to_string(&file).unwrap();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    for text in ["cwnd", "ssthresh", "RTT, ms", "rate, Mbit/s", "peer's window", "sent again", "127.0.0.1:40001"] {
        assert!(svg.contains(text), "{text}");
    }
    // What is sampled is drawn: cwnd's line has as many points as there are samples.
    let samples: usize = line.rsplit(": ").next().unwrap().split(' ').next().unwrap().parse().unwrap();
    let first = svg.split("<polyline points=\"").nth(1).unwrap().split('"').next().unwrap();
    assert_eq!(first.split(' ').count(), samples);
    assert!(samples > 1, "{line}");
    // A pipe is written, once, and what a link leads to is replaced, not the link.
    let piped = r.stdout(&["plot", "-o", "/dev/fd/1", "-s", "2", "sport = :40001"]);
    assert!(piped.starts_with("<svg ") && piped.matches("</svg>").count() == 1, "{piped}");
    let link = r.base.join("link.svg");
    std::os::unix::fs::symlink("conn.svg", &link).unwrap();
    r.stdout(&["plot", "-o", link.to_str().unwrap(), "-s", "1", "sport = :40001"]);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    let svg = fs::read_to_string(&file).unwrap();
    // The end of the connection ends it.
    let mut child = r.command(&["plot", "-o", name, "sport = :40001"]);
    let child = child.stdout(Stdio::piped()).spawn().unwrap();
    while fs::read_to_string(&file).unwrap() == svg {
        std::thread::yield_now();
    }
    assert_eq!(r.stdout(&["kill", "sport = :40001"]).lines().count(), 1);
    let line = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    assert!(line.ends_with(" samples; the connection has ended\n"), "{line}");
}

/// The commands that a text has its reader type, without what explains them: lines that begin with `usersock COMMAND`.
fn typed(text: &str) -> Vec<String> {
    const LOOKS: [&str; 7] = ["ss", "kill", "nstat", "sysctl -", "pcap", "trace", "plot"];
    let lines = text.lines().map(str::trim).filter(|l| {
        let rest = l.strip_prefix("usersock ");
        rest.is_some_and(|rest| LOOKS.iter().any(|c| rest.starts_with(c)))
    });
    // What explains a command stands behind it, after blanks.
    lines.map(|l| l.split("  ").next().unwrap().split(" | ").next().unwrap().to_owned()).collect()
}

#[test]
fn the_commands_that_help_and_documents_show_have_arguments_that_are_taken() {
    let read = |name: &str| fs::read_to_string(format!("{}/../{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let mut all = typed(&read("README.md"));
    all.extend(typed(&read("docs/observe.md")));
    for command in ["ss", "kill", "nstat", "sysctl", "pcap", "trace", "plot"] {
        let out = Command::new(env!("CARGO_BIN_EXE_usersock")).args([command, "--help"]).output().unwrap();
        let help = String::from_utf8(out.stdout).unwrap();
        let examples = typed(help.split("Examples:").nth(1).unwrap_or_else(|| panic!("{command} has examples")));
        assert!(!examples.is_empty(), "{command}");
        all.extend(examples);
    }
    assert!(all.len() > 30, "{all:?}");
    let empty = std::env::temp_dir().join(format!("usersock-o-none-{}", std::process::id()));
    private(&empty);
    fs::write(empty.join("run.csv"), "seconds,bytes: taken\n0,0\n1,1000\n").unwrap();
    let bin = Path::new(env!("CARGO_BIN_EXE_usersock")).parent().unwrap();
    for line in &all {
        let out = Command::new("sh")
            .args(["-c", line])
            .env("PATH", format!("{}:/usr/bin:/bin", bin.display()))
            .env("XDG_RUNTIME_DIR", &empty)
            .env_remove("USERSOCK_DIR")
            .current_dir(&empty)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        // Where no instance runs, none is found; what is wrong with an argument would come first.
        let none = out.status.code() == Some(1) && said.contains("no instance runs");
        let named = out.status.code() == Some(2) && said.contains("-N web: no such instance runs");
        assert!(none || named || out.status.success(), "{line}: {said}");
    }
    fs::remove_dir_all(&empty).unwrap();
}

/// A TCP beside the stack's that leaves everything to it.
struct Same;
impl Functions for Same {
    fn slots(&self) -> u8 {
        0
    }
}
impl FunctionBlock for Same {
    fn name(&self) -> &str {
        "same"
    }
    fn start(&self, _: &mut tfb::Cx<'_>) -> usersock::error::Result<Box<dyn Functions>> {
        Ok(Box::new(Same))
    }
}

#[test]
fn alternatives_to_tcp_are_shown_with_the_sockets_that_have_them() {
    let r = Run::new("alternatives", "web");
    tfb::register(&r.stack, std::sync::Arc::new(Same)).unwrap();
    let _listener = TcpListener::bind_on(&r.stack, "127.0.0.1:9007").unwrap();
    r.stack.sysctl.set("net.ipv4.tcp_stack", "same").unwrap();
    let _c = connect(&r.stack, "127.0.0.1:0", "127.0.0.1:9007");
    let info = |filter: &str| r.lines(&["ss", "-HtniO", filter])[0].clone();
    assert!(info("dport = :9007").contains(" cubic tcp-stack-same "), "{}", info("dport = :9007"));
    assert!(!info("sport = :9007").contains("tcp-stack"), "its listener is older than the sysctl");
    let line = r.lines(&["protocols", "-N", "web"]).into_iter().find(|l| l.starts_with("TCP/same ")).unwrap();
    assert_eq!(line.split_whitespace().collect::<Vec<_>>(), [&["TCP/same", "-", "1"][..], &["-"; 9]].concat());
}

#[test]
fn protocols_of_a_running_stack_are_those_of_one_of_our_own() {
    let run = Run::new("protocols", "web");
    let (theirs, own) = (run.lines(&["protocols", "-N", "web"]), run.lines(&["protocols"]));
    assert_eq!(run.lines(&["protocols", "-r"]), theirs);
    assert_eq!(theirs.len(), own.len(), "{theirs:?}");
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    for (theirs, own) in theirs.iter().zip(&own) {
        let (theirs, own) = (words(theirs), words(own));
        // All but how many sockets there are, and their memory.
        assert_eq!((&theirs[..2], &theirs[4..]), (&own[..2], &own[4..]));
    }
    let tcp = theirs.iter().find(|line| line.starts_with("TCP ")).map(|line| words(line)).unwrap();
    assert_eq!(tcp[2], "3", "listener and both ends: {theirs:?}");
    let both = run.output(&["protocols", "-N", "web", "--config", ""]);
    assert_eq!(both.status.code(), Some(2));
}
