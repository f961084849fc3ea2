//! The network namespace that everything here runs in, and a second one behind a veth pair for the kernel's other end.
//! Both vanish with the process; nothing is sent outside.

use nix::sched::{CloneFlags, unshare};
use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Sender, channel};
use std::thread;

/// Whether the kernel's connections keep what the machine has set: `machine_cc`.
static MACHINE_CC: AtomicBool = AtomicBool::new(false);

/// Has the kernel's connections of this process use the machine's own congestion control, not CUBIC (`use_cubic`).
pub fn machine_cc() {
    MACHINE_CC.store(true, Relaxed);
}

/// Whether [`machine_cc`] was called.
pub fn has_machine_cc() -> bool {
    MACHINE_CC.load(Relaxed)
}

/// Address of this side of the veth pair, and of the other.
pub const VETH: (&str, &str) = ("10.99.1.1", "10.99.1.2");

/// Moves this process, which has no other thread yet, into a namespace of its own with a loopback device. Without root,
/// a user namespace too.
pub fn enter() -> Result<(), String> {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let mut flags = CloneFlags::CLONE_NEWNET;
    if !uid.is_root() {
        flags |= CloneFlags::CLONE_NEWUSER;
    }
    unshare(flags).map_err(|e| format!("cannot make a network namespace: {e}"))?;
    if !uid.is_root() {
        // setgroups is denied before an unprivileged process may write its gid map: user_namespaces(7).
        for (file, text) in
            [("setgroups", "deny".to_string()), ("uid_map", format!("0 {uid} 1")), ("gid_map", format!("0 {gid} 1"))]
        {
            fs::write(format!("/proc/self/{file}"), text).map_err(|e| format!("{file}: {e}"))?;
        }
    }
    ip("link set lo up")?;
    use_cubic()
}

/// `ip` with these words, in the calling thread's namespace.
pub fn ip(words: &str) -> Result<(), String> {
    said_by_ip(words).map(drop)
}

fn said_by_ip(words: &str) -> Result<String, String> {
    let out = Command::new("ip").args(words.split_whitespace()).output().map_err(|e| format!("ip: {e}"))?;
    match out.status.success() {
        true => Ok(String::from_utf8_lossy(&out.stdout).into_owned()),
        false => Err(format!("ip {words}: {}", String::from_utf8_lossy(&out.stderr).trim())),
    }
}

/// Has the kernel's connections in the calling thread's namespace use CUBIC, as the stack's do, by the routes that it
/// has now: the machine's default may be another one, and BBR's pacing for example takes a third of the rate across
/// veth. The sysctl of a namespace takes only what the machine has in `tcp_allowed_congestion_control`; a route takes
/// any. A kernel without CUBIC is used as it is, and after [`machine_cc`] every one.
pub fn use_cubic() -> Result<(), String> {
    const AVAILABLE: &str = "/proc/sys/net/ipv4/tcp_available_congestion_control";
    if has_machine_cc()
        || !fs::read_to_string(AVAILABLE).is_ok_and(|names| names.split_whitespace().any(|name| name == "cubic"))
    {
        return Ok(());
    }
    for table in ["local", "main"] {
        // A new namespace has no main table.
        let routes = said_by_ip(&format!("-4 route show table {table}")).unwrap_or_default();
        for route in routes.lines().filter(|r| !r.starts_with("broadcast") && !r.contains("congctl")) {
            // What ip(8) says of a device without a carrier, it does not take.
            let route = route.replace("linkdown", "");
            ip(&format!("route change table {table} {route} congctl cubic"))?;
        }
    }
    Ok(())
}

type Job = Box<dyn FnOnce() + Send>;

/// A thread in the second namespace: descriptors that it opens belong to it.
pub struct Peer(Sender<Job>);

impl Peer {
    /// Makes the namespace and the veth pair with its addresses.
    pub fn new() -> Result<Peer, String> {
        Peer::at(["veth0", "veth1"], VETH)
    }

    /// The same with other names and addresses, this side's first.
    pub fn at([near, far]: [&'static str; 2], address: (&'static str, &'static str)) -> Result<Peer, String> {
        let (jobs, inbox) = channel::<Job>();
        let (born, cradle) = channel();
        thread::spawn(move || {
            let made = unshare(CloneFlags::CLONE_NEWNET).map_err(|e| format!("cannot make a namespace: {e}"));
            let path = format!("/proc/{}/task/{}/ns/net", std::process::id(), nix::unistd::gettid());
            // The receiver is gone if the maker has failed.
            let _ = born.send(made.map(|()| path));
            inbox.iter().for_each(|job| job());
        });
        let path = cradle.recv().map_err(|e| e.to_string())??;
        let peer = Peer(jobs);
        ip(&format!("link add {near} type veth peer name {far}"))?;
        ip(&format!("link set {far} netns {path}"))?;
        ip(&format!("addr add {}/24 dev {near}", address.0))?;
        ip(&format!("link set {near} up"))?;
        peer.run(move || {
            ip("link set lo up")?;
            ip(&format!("addr add {}/24 dev {far}", address.1))?;
            ip(&format!("link set {far} up"))?;
            use_cubic()
        })?;
        use_cubic()?;
        Ok(peer)
    }

    /// Runs `f` there.
    pub fn run<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> T {
        let (answer, result) = channel();
        let job: Job = Box::new(move || {
            let _ = answer.send(f());
        });
        self.0.send(job).expect("the peer's thread lives as long as its handle");
        result.recv().expect("the job panicked")
    }
}
