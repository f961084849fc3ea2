//! Unmodified programs on a stack server, over TUN, in a network namespace of the test's own: the ladder, whose rungs
//! are harder and harder. `$U` in front of a program puts it on usersock, at 10.0.0.2; the others are on the kernel's
//! TCP at 10.0.0.1. What passes through is compared byte by byte, and each rung ends with a server that knows of no
//! socket any more.
#![cfg(has_usersock)]

#[allow(dead_code, reason = "a part of the harness is for cases")]
mod harness;

use harness::ours::build;
use harness::preload::shim;
use harness::{namespace, out_dir, skip};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// What each script begins with.
const PROLOGUE: &str = r#"
set -e
ip tuntap add dev tun0 mode tun; ip addr add 10.0.0.1/24 dev tun0; ip link set tun0 up
cd "$DIR"; head -c 3000000 /dev/urandom > file; SUM=$(sha256sum < file)
PIDS=; trap 'kill $PIDS $SERVER 2>/dev/null || true' EXIT
$USERSOCK serve --config tun=tun0,addr=10.0.0.2/24,gw=10.0.0.1 > server.env & SERVER=$!
for i in $(seq 200); do [ -s server.env ] && break; sleep 0.05; done
U="env $(cat server.env) LD_PRELOAD=$SHIM"
# Starts a server, and waits until its port is open.
serve() { # ADDR PORT COMMAND...
    local addr=$1 port=$2; shift 2
    timeout 100 "$@" > server.out 2>&1 & PID=$!; PIDS="$PIDS $PID"
    opened $addr $port || { echo "no server: $*"; cat server.out; exit 1; }
}
opened() {
    for i in $(seq 200); do if (exec 3<>/dev/tcp/$1/$2) 2>/dev/null; then return; fi; sleep 0.05; done; return 1
}
stop() { kill $PID; wait $PID || true; }
same() { [ "$(sha256sum)" = "$SUM" ] || { echo "$1: other bytes"; exit 1; }; }
run() { "$@" > run.out 2>&1 || { echo "$*"; cat run.out; exit 1; }; }
"#;

/// The server is alive at the end.
const EPILOGUE: &str = "\nkill -0 $SERVER\n";

/// Where programs are that PATH may lack: the system's, and Debian's of PostgreSQL.
fn system_dirs() -> Vec<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let postgres = versions.map(|version| version.path().join("bin"));
    ["/usr/sbin", "/sbin"].map(PathBuf::from).into_iter().chain(postgres).collect()
}

/// Runs a rung; it fails with a status other than 0. A rung that cannot run is skipped, which is printed and counted.
fn rung(name: &str, needs: &[&str], script: &str) {
    let installed = |program: &&str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).chain(system_dirs()).any(|dir| dir.join(program).is_file())
    };
    if let Some(missing) = needs.iter().find(|program| !installed(program)) {
        return skip(name, &format!("{missing} is not installed"));
    }
    let Some(prefix) = namespace() else {
        return skip(name, "no network namespace can be made");
    };
    if let Err(error) = fs::File::options().read(true).write(true).open("/dev/net/tun") {
        return skip(name, &format!("/dev/net/tun: {error}"));
    }
    let dir = out_dir().join(format!("spliced-{name}"));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).expect("folder");
    let mut command = Command::new(prefix[0]);
    command.args(&prefix[1..]).args(["timeout", "120", "bash", "-c", &format!("{PROLOGUE}{script}{EPILOGUE}")]);
    command.env("SHIM", shim()).env("USERSOCK", build("usersock-cli").join("usersock")).env("DIR", &dir);
    for variable in ["USERSOCK_CONFIG", "USERSOCK_OWNER", "USERSOCK_SERVER"] {
        command.env_remove(variable);
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let system: Vec<String> = system_dirs().iter().map(|dir| dir.display().to_string()).collect();
    command.env("PATH", format!("/usr/bin:/bin:{path}:{}", system.join(":")));
    let output = command.stdin(Stdio::null()).output().expect("the script starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {}\n{said}", output.status);
    let _ = fs::remove_dir_all(&dir);
}

#[test]
fn rung_0_the_shim_is_harmless() {
    rung(
        "harmless",
        &["python3"],
        r#"
        $U true; [ "$($U bash -c 'ls / | grep -c usr')" = 1 ]; $U python3 -c 'import ssl'
        [ "$($U sh -c 'echo a; exit 3'; echo $?)" = "a
3" ]
        "#,
    );
}

#[test]
fn rung_1_and_2_wget_and_bash() {
    rung(
        "wget",
        &["wget", "python3"],
        r#"
        serve 10.0.0.1 8000 python3 -m http.server 8000 -b 10.0.0.1
        $U wget -qO- http://10.0.0.1:8000/file | same wget
        echo one line > text
        $U bash -c 'exec 3<>/dev/tcp/10.0.0.1/8000; printf "GET /text HTTP/1.0\r\n\r\n" >&3; cat <&3' > out
        grep -qx 'one line' out
        "#,
    );
}

#[test]
fn rung_3_curl_and_its_exit_codes() {
    rung(
        "curl",
        &["curl", "python3"],
        r#"
        serve 10.0.0.1 8000 python3 -m http.server 8000 -b 10.0.0.1
        $U curl -fsS http://10.0.0.1:8000/file | same curl
        code=0; $U curl -s http://10.0.0.1:1/ || code=$?; [ $code = 7 ]
        code=0; $U curl -sm1 http://10.0.0.99/ || code=$?; [ $code = 7 ] || [ $code = 28 ]
        $U curl -fsSZ $(for i in $(seq 20); do echo -o f$i http://10.0.0.1:8000/file; done)
        for i in $(seq 20); do same "curl $i" < f$i; done
        serve 10.0.0.2 8001 $U python3 -m http.server 8001 -b 10.0.0.2
        $U curl -fsS http://10.0.0.2:8001/file | same "curl within"
        curl -fsS http://10.0.0.2:8001/file | same "curl from the kernel"
        "#,
    );
}

#[test]
fn rung_4_nc_and_half_closed_streams() {
    rung(
        "nc",
        &["nc"],
        r#"
        timeout 60 $U nc -l 10.0.0.2 9000 > got & P=$!; PIDS="$PIDS $P"; sleep 1
        timeout 60 nc -N 10.0.0.2 9000 < file; wait $P; same "to nc" < got
        timeout 60 nc -l 10.0.0.1 9001 > got & P=$!; PIDS="$PIDS $P"; sleep 1
        timeout 60 $U nc -N 10.0.0.1 9001 < file; wait $P; same "from nc" < got
        "#,
    );
}

#[test]
fn rung_5_iperf3() {
    rung(
        "iperf3",
        &["iperf3"],
        r#"
        timeout 100 $U iperf3 -s -D -I $DIR/iperf.pid; sleep 1
        for how in "" "-R" "-P 8" "-C cubic" "--bidir"; do run timeout 30 iperf3 -c 10.0.0.2 -t 1 $how; sleep 0.5; done
        for how in "" "-R" "-P 4"; do run timeout 30 $U iperf3 -c 10.0.0.2 -t 1 $how; sleep 0.5; done
        kill $(tr -d '\0' < iperf.pid)
        "#,
    );
}

#[test]
fn rung_6_and_13_redis_saves_while_it_serves() {
    rung(
        "redis",
        &["redis-server", "redis-benchmark", "redis-cli"],
        r#"
        $U redis-server --port 6379 --bind 10.0.0.2 --protected-mode no --daemonize yes --io-threads 4 --dir $DIR \
            --pidfile $DIR/redis.pid --save '' --logfile $DIR/redis.log
        opened 10.0.0.2 6379
        run timeout 60 redis-benchmark -h 10.0.0.2 -t set,get -c 50 -n 20000 -P 16 -q & B=$!
        for i in 1 2 3; do redis-cli -h 10.0.0.2 bgsave; sleep 0.3; done; redis-cli -h 10.0.0.2 bgrewriteaof
        wait $B
        redis-cli -h 10.0.0.2 -x set file < file > set.out
        redis-cli -h 10.0.0.2 get file | head -c 3000000 | same redis
        $U redis-cli -h 10.0.0.2 get file | head -c 3000000 | same "redis within"
        redis-cli -h 10.0.0.2 shutdown save || true
        for i in $(seq 100); do [ -e redis.pid ] || break; sleep 0.05; done
        [ -s dump.rdb ] && [ ! -e redis.pid ]
        "#,
    );
}

#[test]
fn rung_8_memcached_has_threads() {
    rung(
        "memcached",
        &["memcached", "nc"],
        r#"
        serve 10.0.0.2 11211 $U memcached -l 10.0.0.2 -t 4 -U 0 -u nobody
        for i in 1 2 3 4 5 6 7 8; do
            printf 'set a%d 0 0 5\r\nhello\r\nget a%d\r\nquit\r\n' $i $i | timeout 20 nc -N 10.0.0.2 11211 > out
            printf 'STORED\r\nVALUE a%d 0 5\r\nhello\r\nEND\r\n' $i | cmp - out
        done
        "#,
    );
}

/// A function that writes a configuration of nginx: CONF NAME WORKERS LISTEN...
const NGINX: &str = r#"
conf() { # NAME MAIN SERVER
cat > $1.conf <<END
$2 pid $DIR/$1.pid; error_log $DIR/$1.err; user root; events { worker_connections 256; }
http { access_log off; sendfile on; tcp_nopush on; client_body_temp_path $DIR/1; proxy_temp_path $DIR/2;
  fastcgi_temp_path $DIR/3; uwsgi_temp_path $DIR/4; scgi_temp_path $DIR/5; $3 }
END
}
echo small > small
asks() {
    timeout 30 $1 wrk -t2 -c16 -d2 $2 > wrk.out; ! grep -E 'Socket errors|Non-2xx' wrk.out; grep -q Requests/sec wrk.out
}
"#;

#[test]
fn rung_7_and_9_nginx_and_wrk_and_a_proxy() {
    let script = r#"
        conf theirs "daemon off;" "server { listen 10.0.0.1:80; root $DIR; }"
        serve 10.0.0.1 80 nginx -c $DIR/theirs.conf
        asks "$U" http://10.0.0.1/small
        conf ours "daemon off; master_process off;" "
            server { listen 10.0.0.2:80; root $DIR; }
            server { listen 10.0.0.2:81; location / { proxy_pass http://10.0.0.1:80; } }"
        serve 10.0.0.2 80 $U nginx -c $DIR/ours.conf
        for port in 80 81; do for i in 1 2 3; do curl -fsS http://10.0.0.2:$port/file | same "nginx $port"; done; done
        asks "" http://10.0.0.2/small; asks "" http://10.0.0.2:81/small; asks "$U" http://10.0.0.2/small
        run ab -k -n 2000 -c 20 http://10.0.0.2/small
    "#;
    rung("nginx", &["nginx", "wrk", "curl", "ab"], &format!("{NGINX}{script}"));
}

#[test]
fn rung_12_nginx_reloads_and_replaces_its_binary() {
    let script = r#"
        for REUSE in "" reuseport; do
            conf ours "worker_processes 4;" "server { listen 10.0.0.2:80 $REUSE; root $DIR; }"
            # By its whole path, which it is replaced by.
            $U $(command -v nginx) -c $DIR/ours.conf; opened 10.0.0.2 80
            timeout 30 wrk -t2 -c16 -d2 http://10.0.0.2/small > wrk.out & W=$!; sleep 0.5
            # As on the kernel, connections that are kept are reset, and no more than once each.
            kill -HUP $(cat ours.pid); wait $W
            ! grep -E 'errors: connect [1-9]|write [1-9]|timeout [1-9]|Non-2xx' wrk.out
            curl -fsS http://10.0.0.2/file | same reloaded
            old=$(cat ours.pid); kill -USR2 $old
            for i in $(seq 100); do [ -s ours.pid.oldbin ] && [ -s ours.pid ] && break; sleep 0.05; done
            kill -QUIT $old
            for i in $(seq 200); do [ -e ours.pid.oldbin ] || break; sleep 0.05; done
            [ "$(cat ours.pid)" != $old ]
            curl -fsS http://10.0.0.2/file | same replaced
            kill $(cat ours.pid); for i in $(seq 100); do [ -e ours.pid ] || break; sleep 0.05; done
        done
    "#;
    rung("reload", &["nginx", "wrk", "curl"], &format!("{NGINX}{script}"));
}

#[test]
fn rung_10_node() {
    rung(
        "node",
        &["node", "curl"],
        r#"
        cat > server.js <<'END'
require("http").createServer((q, r) => r.end(require("fs").readFileSync("file"))).listen(8080, "10.0.0.2");
END
        serve 10.0.0.2 8080 $U node server.js
        for i in 1 2 3; do curl -fsS http://10.0.0.2:8080/ | same node; done
        $U node -e 'require("http").get("http://10.0.0.2:8080/", r => r.pipe(process.stdout))' | same "node within"
        "#,
    );
}

#[test]
fn rung_11_haproxy_splices() {
    rung(
        "haproxy",
        &["haproxy", "python3", "curl"],
        r#"
        serve 10.0.0.1 8000 python3 -m http.server 8000 -b 10.0.0.1
        cat > ha.cfg <<END
global
    nbthread 4
defaults
    timeout connect 5s
    timeout client 20s
    timeout server 20s
    option splice-auto
frontend http
    mode http
    bind 10.0.0.2:80
    default_backend http
backend http
    mode http
    server a 10.0.0.1:8000
listen tcp
    mode tcp
    bind 10.0.0.2:81
    server a 10.0.0.1:8000
END
        serve 10.0.0.2 80 $U haproxy -f ha.cfg
        for port in 80 81; do for i in 1 2 3; do curl -fsS http://10.0.0.2:$port/file | same "haproxy $port"; done; done
        "#,
    );
}

#[test]
fn rung_14_postgres_forks_for_each_connection() {
    rung(
        "postgres",
        &["initdb", "pgbench", "postgres", "setpriv"],
        r#"
        chown nobody . ; as="setpriv --reuid nobody --clear-groups"
        run $as initdb -D $DIR/data -A trust -U me; echo 'host all all 10.0.0.0/24 trust' >> data/pg_hba.conf
        serve 10.0.0.2 5432 $as $U postgres -D $DIR/data -h 10.0.0.2 -k $DIR
        run pgbench -h 10.0.0.2 -U me -i -q postgres
        run pgbench -h 10.0.0.2 -U me -c 8 -j 2 -T 3 postgres; grep -q 'number of failed transactions: 0 ' run.out
        run pgbench -h 10.0.0.2 -U me -C -c 4 -j 2 -T 2 postgres; grep -q 'number of failed transactions: 0 ' run.out
        "#,
    );
}

#[test]
fn rung_15_sshd_and_scp() {
    rung(
        "sshd",
        &["sshd", "ssh", "scp", "ssh-keygen"],
        r#"
        mkdir -p /run/sshd; ssh-keygen -q -t ed25519 -N '' -f host; ssh-keygen -q -t ed25519 -N '' -f key
        chmod 700 . ; cp key.pub authorized
        serve 10.0.0.2 2222 $U /usr/sbin/sshd -D -e -p 2222 -o ListenAddress=10.0.0.2 -h $DIR/host -o PidFile=none \
            -o AuthorizedKeysFile=$DIR/authorized -o StrictModes=no -o UsePAM=no -o PermitRootLogin=yes \
            -o 'Subsystem=sftp internal-sftp' -f /dev/null
        options="-i key -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -F /dev/null"
        [ "$(ssh $options -p 2222 10.0.0.2 'echo through; exit 0')" = through ]
        scp -q $options -P 2222 file 10.0.0.2:$DIR/copy; same scp < copy
        [ "$($U ssh $options -p 2222 10.0.0.2 'wc -c' < file)" = 3000000 ]
        "#,
    );
}

#[test]
fn rung_16_sockets_are_inherited_and_passed_on() {
    rung(
        "inherit",
        &["python3", "gunicorn", "curl"],
        r#"
        cat > app.py <<'END'
def app(environ, start):
    start("200 OK", []); return [open("file", "rb").read()]
END
        serve 10.0.0.2 8000 $U gunicorn -w 4 -b 10.0.0.2:8000 app:app
        for i in 1 2 3 4 5 6; do curl -fsS http://10.0.0.2:8000/ | same "gunicorn $i"; done
        cat > pass.py <<'END'
import array, os, socket, socketserver, subprocess, sys, threading
data = open("file", "rb").read()
class Handler(socketserver.BaseRequestHandler):
    def handle(self): self.request.sendall(data)
class Forking(socketserver.ForkingMixIn, socketserver.TCPServer): allow_reuse_address = True
server = Forking(("10.0.0.2", 9000), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
def fetch(s):
    got = b""
    while block := s.recv(1 << 16): got += block
    return got
assert fetch(socket.create_connection(("10.0.0.2", 9000))) == data, "fork"
s = socket.create_connection(("10.0.0.2", 9000))
out = subprocess.run(["sh", "-c", f"cat <&{s.fileno()}"], pass_fds=[s.fileno()], stdout=subprocess.PIPE).stdout
assert out == data, "pass_fds"
a, b = socket.socketpair(); s = socket.create_connection(("10.0.0.2", 9000))
socket.send_fds(a, [b"x"], [s.fileno()]); s.close()
_, fds, _, _ = socket.recv_fds(b, 1, 1)
passed = socket.socket(fileno=fds[0], family=socket.AF_INET, type=socket.SOCK_STREAM)
assert passed.getpeername() == ("10.0.0.2", 9000) and fetch(passed) == data, "SCM_RIGHTS"
f = socket.create_connection(("10.0.0.2", 9000)).makefile("rb")
assert f.read() == data, "makefile"
print("all")
END
        [ "$($U python3 pass.py)" = all ]
        "#,
    );
}

#[test]
fn rung_17_programs_that_are_killed_and_many_idle_connections() {
    rung(
        "robust",
        &["python3"],
        r#"
        cat > many.py <<'END'
import resource, socket, sys
limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (min(limit, 9000), limit))
n = min(2000, min(limit, 9000) // 2 - 20)
a = socket.create_server(("10.0.0.2", 7000), backlog=128)
pairs = []
for i in range(n):
    c = socket.create_connection(a.getsockname()); pairs.append((c, a.accept()[0]))
for i, (c, s) in enumerate(pairs): c.sendall(b"%d\n" % i)
for i, (c, s) in enumerate(pairs): assert s.recv(10) == b"%d\n" % i
print("all")
END
        [ "$($U python3 many.py)" = all ]
        cat > hold.py <<'END'
import signal, socket, sys
a = socket.create_server(("10.0.0.2", 7001)); s, _ = a.accept(); s.recv(1); print("held", flush=True); signal.pause()
END
        cat > peer.py <<'END'
import socket, time
while True:
    try: s = socket.create_connection(("10.0.0.2", 7001)); break
    except ConnectionRefusedError: time.sleep(0.05)
s.sendall(b"x"); s.settimeout(30)
try: print("ended", s.recv(1))
except ConnectionResetError as e: print("ended", e)
END
        for i in 1 2 3; do
            $U python3 hold.py > held & P=$!; PIDS="$PIDS $P"
            python3 peer.py > peer & Q=$!; PIDS="$PIDS $Q"
            for j in $(seq 200); do [ -s held ] && break; sleep 0.05; done
            kill -9 $P; wait $P || true; wait $Q; grep -q ended peer; : > held
        done
        "#,
    );
}
