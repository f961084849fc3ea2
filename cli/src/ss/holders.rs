//! Which programs have a stack server's sockets, as ss(8) finds them: the descriptors of all processes that this user
//! may look at, by the inodes that the server tells. Above: `ss`. Linux: proc_pid_fd(5).

use crate::Failure;
use crate::instance::Peer;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs;

/// A descriptor of a process: the program's name, its number, the descriptor's.
type Holder = (String, u32, u32);

/// Of sockets by the stack's numbers. Empty where the stack is in the program.
pub(super) struct Holders {
    inodes: HashMap<u64, u64>,
    by_inode: HashMap<u64, Vec<Holder>>,
}

impl Holders {
    pub(super) fn find(peer: &mut Peer) -> Result<Holders, Failure> {
        let row = |v: &Value| Some((v["id"].as_u64()?, v["inode"].as_u64()?));
        let told = match peer.ask("inodes") {
            // A stack of before this was asked.
            Err(Failure::Usage(_)) => Vec::new(),
            told => told?,
        };
        let inodes: HashMap<u64, u64> = told.iter().filter_map(|(_, v)| row(v)).collect();
        let mut by_inode: HashMap<u64, Vec<Holder>> = inodes.values().map(|inode| (*inode, Vec::new())).collect();
        if !by_inode.is_empty() {
            let all = fs::read_dir("/proc").into_iter().flatten().flatten();
            let mut pids: Vec<u32> = all.filter_map(|e| e.file_name().to_str()?.parse().ok()).collect();
            pids.sort_unstable();
            pids.into_iter().for_each(|pid| look(pid, &mut by_inode));
        }
        Ok(Holders { inodes, by_inode })
    }

    /// The inode of the descriptor, if the server knows one.
    pub(super) fn inode(&self, id: u64) -> Option<u64> {
        self.inodes.get(&id).copied()
    }

    /// Those who have it, as the list of a stack in a program has them.
    pub(super) fn of(&self, id: u64) -> Option<Value> {
        let holders = self.by_inode.get(self.inodes.get(&id)?)?;
        Some(holders.iter().map(|(name, pid, fd)| json!({ "name": name, "pid": pid, "fd": fd })).collect())
    }
}

/// Notes the descriptors of a process. One that ends meanwhile, or is another user's, has none.
fn look(pid: u32, by_inode: &mut HashMap<u64, Vec<Holder>>) {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let mut held: Vec<(u32, u64)> = entries
        .filter_map(|e| {
            let link = fs::read_link(e.path()).ok()?;
            let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()?;
            Some((e.file_name().to_str()?.parse().ok()?, inode))
        })
        .filter(|(_, inode)| by_inode.contains_key(inode))
        .collect();
    if held.is_empty() {
        return;
    }
    held.sort_unstable();
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    for (fd, inode) in held {
        by_inode.entry(inode).or_default().push((name.trim_end().to_owned(), pid, fd));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::{AsRawFd, RawFd};
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::UnixStream;

    #[test]
    fn all_descriptors_of_a_socket_are_found() {
        let (a, _b) = UnixStream::pair().unwrap();
        let twice = a.try_clone().unwrap();
        let inode = fs::metadata(format!("/proc/self/fd/{}", a.as_raw_fd())).unwrap().ino();
        let mut by_inode = HashMap::from([(inode, Vec::new())]);
        look(std::process::id(), &mut by_inode);
        look(u32::MAX, &mut by_inode);
        let name = fs::read_to_string("/proc/self/comm").unwrap().trim_end().to_owned();
        let held = |fd: RawFd| (name.clone(), std::process::id(), fd as u32);
        assert_eq!(by_inode, HashMap::from([(inode, vec![held(a.as_raw_fd()), held(twice.as_raw_fd())])]));
    }
}
