//! Running instances: a directory each below the user's run-time directory, which holds `lock` (locked as long as the
//! instance lives), `info` (what `usersock ps` prints) and `control` (the socket of a running stack). Above: `launch`,
//! `ps`, `exec`. Who is killed leaves a directory without a lock: it is recognised, and removed by whoever finds it.
//! flock(2), file-hierarchy(7).

use super::Refusal;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Bytes of sockaddr_un's path without its NUL: the control socket's path must fit.
const SUN_PATH: usize = 107;
/// The file in the directory of all instances that is locked; no instance's name.
const LOCK_OF_ALL: &str = ".lock";
/// Letters of an instance's name.
const LONGEST_NAME: usize = 64;

/// What is known of an instance, a line `key=value` each in the file `info`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Info {
    /// The process that keeps the instance, whose namespaces are the instance's.
    pub(crate) keeper: i32,
    /// The network namespace, as [`network_namespace`] has it.
    pub(crate) network: String,
    /// The program's process; when it has ended and others go on, one of those.
    pub(crate) pid: i32,
    /// `in-process` or `shell`.
    pub(crate) mode: String,
    /// The stack's configuration as far as the namespace gives it: device, addresses, gateways.
    pub(crate) config: String,
    /// The program, as it was called.
    pub(crate) program: String,
}

impl Info {
    fn text(&self) -> String {
        let Info { keeper, network, pid, mode, config, program } = self;
        let program = program.replace(['\n', '\r'], " ");
        format!("keeper={keeper}\nnetwork={network}\npid={pid}\nmode={mode}\nconfig={config}\nprogram={program}\n")
    }

    fn parse(text: &str) -> Info {
        let mut info = Info::default();
        for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
            match key {
                "keeper" => info.keeper = value.parse().unwrap_or(0),
                "network" => info.network = value.to_owned(),
                "pid" => info.pid = value.parse().unwrap_or(0),
                "mode" => info.mode = value.to_owned(),
                "config" => info.config = value.to_owned(),
                "program" => info.program = value.to_owned(),
                // Written by a later version.
                _ => {}
            }
        }
        info
    }

    /// The values of a key of the configuration, as `addr`.
    pub(crate) fn values<'i>(&'i self, key: &'i str) -> impl Iterator<Item = &'i str> {
        self.config.split(',').filter_map(move |part| part.strip_prefix(key)?.strip_prefix('='))
    }
}

/// Where the instances of this user are.
#[derive(Debug)]
struct Place {
    /// The directories that only this user may enter, the last of which is meant.
    dirs: Vec<PathBuf>,
    /// They go with the last instance. Not one that USERSOCK_DIR names, which is its maker's.
    ours: bool,
    /// The variable that names another place.
    variable: &'static str,
}

impl Place {
    /// As USERSOCK_DIR has it, which the programs of an instance find in their environment, since they may be another
    /// user to themselves; else in XDG_RUNTIME_DIR, /run/user/UID, or /tmp/usersock-UID.
    fn find() -> Result<Place, Refusal> {
        let usual = Place::usual();
        let given = std::env::var_os("USERSOCK_DIR").map(PathBuf::from).filter(|dir| !dir.as_os_str().is_empty());
        let Some(dir) = given else { return Ok(Place { dirs: usual, ours: true, variable: "XDG_RUNTIME_DIR" }) };
        if !dir.is_absolute() {
            return Err(Refusal::usage(format!("USERSOCK_DIR={}: no absolute path", dir.display())));
        }
        let ours = usual.last() == Some(&dir);
        Ok(Place { dirs: if ours { usual } else { vec![dir] }, ours, variable: "USERSOCK_DIR" })
    }

    fn usual() -> Vec<PathBuf> {
        let user = nix::unistd::geteuid().as_raw();
        // One that is not absolute is to be ignored (XDG Base Directory Specification).
        let given =
            std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_absolute() && dir.is_dir());
        let system = PathBuf::from(format!("/run/user/{user}"));
        match given.or_else(|| system.is_dir().then_some(system)) {
            Some(parent) => vec![parent.join("usersock")],
            None => {
                let parent = PathBuf::from(format!("/tmp/usersock-{user}"));
                vec![parent.clone(), parent.join("usersock")]
            }
        }
    }

    fn base(&self) -> &Path {
        self.dirs.last().map_or(Path::new(""), PathBuf::as_path)
    }

    /// Makes the directories. Refused when another user could change what stands in them. False: somebody who ended
    /// the last instance has removed one meanwhile.
    fn make(&self) -> Result<bool, Refusal> {
        for (nth, dir) in self.dirs.iter().enumerate() {
            match DirBuilder::new().mode(0o700).create(dir) {
                Err(e) if e.kind() == io::ErrorKind::NotFound && nth > 0 => return Ok(false),
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                    let why = format!("{}: cannot be made: {e}; {} names another place", dir.display(), self.variable);
                    return Err(Refusal::broken(why));
                }
                _ if !private(dir, self.variable)? => return Ok(false),
                _ => {}
            }
        }
        Ok(true)
    }

    /// Whether they are there; refused when another user could enter them.
    fn exists(&self) -> Result<bool, Refusal> {
        for dir in &self.dirs {
            if !private(dir, self.variable)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Waits for the lock of all, held while directories come and go, so that one that is being made is not taken for a
    /// stale one. It is a file: NFS locks nothing that is not open for writing. None: there is no directory.
    fn lock(&self) -> Result<Option<Flock<File>>, Refusal> {
        let path = self.base().join(LOCK_OF_ALL);
        let broken = |e: io::Error| Refusal::broken(format!("{}: {e}", path.display()));
        let id = |meta: fs::Metadata| (meta.dev(), meta.ino());
        loop {
            let file = match lock_file(&path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
                file => file.map_err(broken)?,
            };
            let locked = id(file.metadata().map_err(broken)?);
            let lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| broken(e.into()))?;
            // Who held it before may have removed it.
            if fs::symlink_metadata(&path).is_ok_and(|meta| id(meta) == locked) {
                return Ok(Some(lock));
            }
        }
    }

    /// Makes the directories and locks them.
    fn locked(&self) -> Result<Flock<File>, Refusal> {
        loop {
            if self.make()?
                && let Some(lock) = self.lock()?
            {
                return Ok(lock);
            }
        }
    }

    /// Removes the directories, if no instance is in them and they are this module's. The caller holds the lock, and
    /// does nothing else with it: whoever waits for it looks for another from now on.
    fn tidy(&self) {
        let _ = fs::remove_file(self.base().join(LOCK_OF_ALL));
        if self.ours {
            let _ = self.dirs.iter().rev().try_for_each(fs::remove_dir);
        }
    }
}

/// The directory of all instances of this user; None when there is none, and so no instance.
pub(crate) fn existing() -> Result<Option<PathBuf>, Refusal> {
    let place = Place::find()?;
    Ok(place.exists()?.then(|| place.base().to_path_buf()))
}

/// Refuses a directory that another user could enter. False: there is none.
fn private(dir: &Path, variable: &str) -> Result<bool, Refusal> {
    let refuse = |why: String| Refusal::broken(format!("{}: {why}; {variable} names another place", dir.display()));
    // Not what a link leads to.
    let meta = match fs::symlink_metadata(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        meta => meta.map_err(|e| refuse(e.to_string()))?,
    };
    if !meta.is_dir() {
        return Err(refuse("is no directory".to_owned()));
    }
    if meta.uid() != nix::unistd::geteuid().as_raw() {
        return Err(refuse(format!("belongs to user {}", meta.uid())));
    }
    match meta.mode() & 0o077 {
        0 => Ok(true),
        _ => Err(refuse(format!("may be entered by others (mode {:o}) and must be of mode 700", meta.mode() & 0o777))),
    }
}

fn lock_file(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// What this process's network namespace is called, as `net:[4026531840]`; of another process it may not be asked.
pub(crate) fn network_namespace() -> Option<String> {
    fs::read_link("/proc/self/ns/net").ok()?.into_os_string().into_string().ok()
}

/// The same of another process, which the caller must be allowed to trace. NotFound: it is ending, all its threads are.
pub(crate) fn network_namespace_of(pid: i32) -> io::Result<String> {
    let mut error = io::Error::from(io::ErrorKind::NotFound);
    // A first thread that has ended is in none while others go on.
    for task in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
        match fs::read_link(task.path().join("ns/net")) {
            Ok(name) => return Ok(name.to_string_lossy().into_owned()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => error = e,
        }
    }
    Err(error)
}

/// Whether a name can be an instance's: a file's name, and a part of a configuration string.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.len() > LONGEST_NAME || name.starts_with('.') || !name.chars().all(plain) {
        return Err(format!("a name has 1 to {LONGEST_NAME} letters, digits, '.', '_' and '-', no '.' in front"));
    }
    Ok(())
}

/// An instance of this process, which lives as long as the lock is held: by this value, or its copy in a fork.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
    place: Place,
    lock: Flock<File>,
}

impl Instance {
    /// Registers `name`. Refused while another instance of this name lives.
    pub(crate) fn register(name: &str) -> Result<Instance, Refusal> {
        let place = Place::find()?;
        let dir = place.base().join(name);
        // It is a part of a configuration.
        let plain = dir.to_str().is_some_and(|text| !text.contains(','));
        if dir.join("control").as_os_str().len() > SUN_PATH || !plain {
            let why = "the control socket's path must be UTF-8 without a comma, of at most 107 bytes; XDG_RUNTIME_DIR \
                       shortens it";
            return Err(Refusal::broken(format!("{}: {why}", dir.display())));
        }
        let _all = place.locked()?;
        if let Some(info) = look(place.base(), name) {
            let by = format!("process {}, {}", info.pid, info.program);
            return Err(Refusal::usage(format!("--instance {name}: there is one already ({by}); take another name")));
        }
        let broken = |e: io::Error| Refusal::broken(format!("{}: {e}", dir.display()));
        DirBuilder::new().mode(0o700).create(&dir).map_err(broken)?;
        let lock = Flock::lock(lock_file(&dir.join("lock")).map_err(broken)?, FlockArg::LockExclusiveNonblock);
        let lock = lock.map_err(|(_, e)| broken(e.into()))?;
        Ok(Instance { name: name.to_owned(), dir, place, lock })
    }

    /// What `usersock ps` and `usersock exec` read, replaced as a whole.
    pub(crate) fn publish(&self, info: &Info) -> io::Result<()> {
        let new = self.dir.join(".info");
        fs::write(&new, info.text())?;
        fs::rename(new, self.dir.join("info"))
    }

    /// Removes what the instance has in the file system, and if it was the last one, what all have.
    pub(crate) fn remove(self) {
        let all = self.place.lock();
        let _ = fs::remove_dir_all(&self.dir);
        if matches!(all, Ok(Some(_))) {
            self.place.tidy();
        }
        drop(self.lock);
        drop(all);
    }

    /// The directory of all instances.
    pub(crate) fn base(&self) -> &Path {
        self.place.base()
    }

    /// The lock's descriptor, which the keeper keeps.
    pub(crate) fn raw_lock(&self) -> std::os::fd::RawFd {
        use std::os::fd::AsRawFd;
        self.lock.as_raw_fd()
    }
}

/// An instance that lives; None for one that does not exist. A stale one is removed; the caller holds the lock of all.
fn look(base: &Path, name: &str) -> Option<Info> {
    let dir = base.join(name);
    let file = File::options().read(true).write(true).open(dir.join("lock"));
    let alive = file.is_ok_and(|file| Flock::lock(file, FlockArg::LockExclusiveNonblock).is_err());
    if !alive {
        let _ = fs::remove_dir_all(&dir);
        return None;
    }
    Some(Info::parse(&fs::read_to_string(dir.join("info")).unwrap_or_default()))
}

/// The instances that live, by name.
pub(crate) fn all() -> Result<Vec<(String, Info)>, Refusal> {
    let place = Place::find()?;
    let _all = loop {
        if !place.exists()? {
            return Ok(Vec::new());
        }
        if let Some(lock) = place.lock()? {
            break lock;
        }
    };
    let base = place.base();
    let entries = fs::read_dir(base).map_err(|e| Refusal::broken(format!("{}: {e}", base.display())))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| check_name(name).is_ok()).collect();
    names.sort_unstable();
    let living = names.into_iter().filter_map(|name| look(base, &name).map(|info| (name, info)));
    // One that is still being made has told nothing of itself.
    let living = living.filter(|(_, info)| info.keeper != 0).collect();
    place.tidy();
    Ok(living)
}

/// The instance of this name. Refused when there is none, with the names that there are.
pub(crate) fn named(name: &str) -> Result<Info, Refusal> {
    let all = all()?;
    if let Some((_, info)) = all.iter().find(|(n, _)| n == name) {
        return Ok(info.clone());
    }
    let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    let there = if names.is_empty() { "none runs".to_owned() } else { format!("there is {}", names.join(", ")) };
    Err(Refusal::usage(format!("{name}: no such instance; {there} (`usersock ps`)")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_survives_its_file() {
        let info = Info {
            keeper: 7,
            network: "net:[4026531840]".to_owned(),
            pid: 8,
            mode: "in-process".to_owned(),
            config: "tun=tun0,addr=10.0.0.2/24,addr=fd00::2/64".to_owned(),
            program: "sh -c a=b\nc".to_owned(),
        };
        let read = Info::parse(&info.text());
        assert_eq!(read, Info { program: "sh -c a=b c".to_owned(), ..info });
        assert_eq!(read.values("addr").collect::<Vec<_>>(), ["10.0.0.2/24", "fd00::2/64"]);
        assert_eq!(read.values("add").count(), 0);
    }

    #[test]
    fn names_are_files_names_and_nothing_else() {
        for name in ["nginx-12", "a", "A_b.c"] {
            assert_eq!(check_name(name), Ok(()));
        }
        for name in ["", ".", "..", ".a", "a/b", "a,b", "a b", "ä", &"x".repeat(65)] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
