//! The kernel's list of AF_UNIX sockets, and which of them are a server's programs'. Above: `server`, and the keeper of
//! an instance. Linux: sock_diag(7).

use crate::instance::Instance;
use crate::name::Name;
use crate::sys::{self, Result};
use std::collections::{HashMap, HashSet};
use usersock::error::Error;

/// Bytes of struct nlmsghdr, struct unix_diag_req and struct unix_diag_msg.
const HEADER: usize = 16;
const REQUEST: usize = 24;
const MESSAGE: usize = 16;
/// SOCK_DIAG_BY_FAMILY of linux/sock_diag.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// Of linux/unix_diag.h: what to show, and the attributes of that.
const UDIAG_SHOW_NAME: u32 = 1;
const UDIAG_SHOW_PEER: u32 = 4;
const UDIAG_SHOW_RQLEN: u32 = 16;
const UNIX_DIAG_NAME: u16 = 0;
const UNIX_DIAG_PEER: u16 = 2;
const UNIX_DIAG_RQLEN: u16 = 4;
/// TCP_LISTEN of net/tcp_states.h, the state of any family's listener.
const TCP_LISTEN: u8 = 10;

/// A socket of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unix {
    /// It listens.
    pub listens: bool,
    /// Its inode; 0: nobody has a descriptor of it.
    pub inode: u32,
    /// The inode of the other end.
    pub peer: Option<u32>,
    /// Bytes that can be read; of a listener, connections that can be accepted.
    pub queued: u32,
    /// Its name without sun_family, exact, where proc_net_unix has one sign for two bytes.
    pub name: Vec<u8>,
}

/// All AF_UNIX sockets with a name in this thread's network namespace, or those that listen. ENOENT: this kernel has no
/// unix_diag.
pub fn sockets(listeners: bool) -> Result<Vec<Unix>> {
    let states = if listeners { 1 << TCP_LISTEN } else { u32::MAX };
    let netlink = ask(libc::NLM_F_DUMP, states, 0, UDIAG_SHOW_NAME | UDIAG_SHOW_PEER | UDIAG_SHOW_RQLEN)?;
    let mut all = Vec::new();
    // The kernel fills at most 32 KiB.
    let mut answer = vec![0; 1 << 16];
    loop {
        let n = sys::recv(netlink.raw(), &mut answer, 0)?;
        let mut rest = &answer[..n];
        while let Some((kind, body)) = next_message(&mut rest) {
            match (i32::from(kind), body.first_chunk()) {
                (libc::NLMSG_DONE, _) => return Ok(all),
                (libc::NLMSG_ERROR, Some(&error)) => {
                    return Err(Error::try_from_errno(-i32::from_ne_bytes(error)).unwrap_or(Error::Io));
                }
                _ => all.extend(socket(body)),
            }
        }
    }
}

/// Whether somebody has a descriptor of the other end of the AF_UNIX socket with this inode, however that is shut down.
/// The kernel walks over all AF_UNIX sockets to find it. ENOENT: this kernel has no unix_diag.
pub(crate) fn other_end_is_held(inode: u64) -> Result<bool> {
    let inode = u32::try_from(inode).map_err(|_| Error::NoEnt)?;
    let netlink = ask(0, u32::MAX, inode, UDIAG_SHOW_PEER)?;
    let mut answer = [0; 512];
    let n = sys::recv(netlink.raw(), &mut answer, 0)?;
    let mut rest = &answer[..n];
    match next_message(&mut rest) {
        Some((SOCK_DIAG_BY_FAMILY, body)) => {
            let mut attrs = body.get(MESSAGE..).unwrap_or_default();
            let peer = std::iter::from_fn(|| next_attr(&mut attrs)).find(|(kind, _)| *kind == UNIX_DIAG_PEER);
            Ok(peer.is_some_and(|(_, inode)| inode.iter().any(|byte| *byte != 0)))
        }
        _ => Err(Error::NoEnt),
    }
}

/// Asks for the sockets of these states, or (`flags` without NLM_F_DUMP) for the one with this inode.
fn ask(flags: i32, states: u32, inode: u32, show: u32) -> Result<sys::Owned> {
    let netlink = sys::netlink_diag()?;
    // struct nlmsghdr: length, type, flags, number, port; struct unix_diag_req: family, protocol, padding; states,
    // inode, what to show, cookie (of any value: INET_DIAG_NOCOOKIE).
    let mut request = [0; HEADER + REQUEST];
    let mut put = |at: usize, bytes: &[u8]| request[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &((HEADER + REQUEST) as u32).to_ne_bytes());
    put(4, &SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    put(6, &((libc::NLM_F_REQUEST | flags) as u16).to_ne_bytes());
    put(HEADER, &[libc::AF_UNIX as u8]);
    put(HEADER + 4, &states.to_ne_bytes());
    put(HEADER + 8, &inode.to_ne_bytes());
    put(HEADER + 12, &show.to_ne_bytes());
    put(HEADER + 16, &[0xff; 8]);
    sys::send(netlink.raw(), &request, 0)?;
    Ok(netlink)
}

/// One of the list, from struct unix_diag_msg (family, type, state, padding; inode; cookie) and its attributes.
fn socket(body: &[u8]) -> Option<Unix> {
    let number = |bytes: &[u8]| Some(u32::from_ne_bytes(*bytes.first_chunk()?));
    let (listens, inode) = (*body.get(2)? == TCP_LISTEN, number(body.get(4..)?)?);
    let (mut name, mut peer, mut queued) = (None, None, 0);
    let mut attrs = body.get(MESSAGE..)?;
    while let Some((kind, value)) = next_attr(&mut attrs) {
        match kind {
            UNIX_DIAG_NAME => name = Some(value.to_vec()),
            UNIX_DIAG_PEER => peer = number(value),
            // struct unix_diag_rqlen: to read, to be read by the other.
            UNIX_DIAG_RQLEN => queued = number(value)?,
            _ => {}
        }
    }
    Some(Unix { listens, inode, peer, queued, name: name? })
}

/// Takes a message off `rest`: its type, and what comes after the header.
fn next_message<'a>(rest: &mut &'a [u8]) -> Option<(u16, &'a [u8])> {
    let (len, kind) = (u32::from_ne_bytes(*rest.first_chunk()?), u16::from_ne_bytes([*rest.get(4)?, *rest.get(5)?]));
    Some((kind, take(rest, HEADER, len as usize)?))
}

/// The same of a struct rtattr.
fn next_attr<'a>(rest: &mut &'a [u8]) -> Option<(u16, &'a [u8])> {
    let &[a, b, c, d] = rest.first_chunk()?;
    Some((u16::from_ne_bytes([c, d]), take(rest, 4, u16::from_ne_bytes([a, b]).into())?))
}

/// Takes `len` bytes and their padding off `rest`, and returns them without their header.
fn take<'a>(rest: &mut &'a [u8], header: usize, len: usize) -> Option<&'a [u8]> {
    let body = rest.get(header..len)?;
    *rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    Some(body)
}

/// What programs have of an instance's sockets, by the numbers that the server knows those by. A connection that is not
/// accepted yet is not in the list.
pub fn of_programs<'a>(all: &'a [Unix], instance: &Instance) -> HashMap<u64, &'a Unix> {
    let named: Vec<(Name, &Unix)> = all.iter().filter_map(|u| Some((Name::decode(&u.name, instance)?, u))).collect();
    let by_peer: HashMap<u32, &Unix> = named.iter().filter_map(|(_, u)| Some((u.peer?, *u))).collect();
    // An accepted one has its listener's name: the server's end tells whose it is.
    let accepted = named.iter().filter_map(|(name, u)| match name {
        Name::Accepted { id, .. } => Some((*id, *by_peer.get(&u.inode)?)),
        _ => None,
    });
    let mut programs: HashMap<u64, &Unix> = accepted.collect();
    let taken: HashSet<u32> = programs.values().map(|u| u.inode).collect();
    for (name, u) in named {
        if let Name::Socket { id, .. } = name
            && u.inode != 0
            && !taken.contains(&u.inode)
            && (u.listens || !programs.contains_key(&id))
        {
            programs.insert(id, u);
        }
    }
    programs
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::{AsRawFd, RawFd};
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

    fn inode(fd: RawFd) -> u32 {
        let link = std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap();
        link.to_str().unwrap().trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
    }

    #[test]
    fn listeners_are_told_by_their_names() {
        let name = format!("usk-test-\0@{}", std::process::id());
        let bind = |name: String| UnixListener::bind_addr(&SocketAddr::from_abstract_name(name).unwrap()).unwrap();
        let listener = bind(name.clone());
        let others: Vec<_> = (0..600).map(|i| bind(format!("{name}{i}"))).collect();
        let told = |name: &str| {
            let all = sockets(true).unwrap();
            all.iter().any(|u| u.listens && u.name == [b"\0", name.as_bytes()].concat())
        };
        assert!(told(&name) && told(&format!("{name}599")), "more than one message holds");
        drop((listener, others));
        assert!(!told(&name));
    }

    /// Shut down both ways, too, which poll(2) of the other end does not tell from a close.
    #[test]
    fn an_end_is_held_until_its_last_descriptor_is_closed() {
        let (program, server) = UnixStream::pair().unwrap();
        let held = || other_end_is_held(inode(server.as_raw_fd()).into()).unwrap();
        assert!(held());
        program.shutdown(std::net::Shutdown::Both).unwrap();
        assert!(held() && sys::hung_up(server.as_raw_fd()));
        let other = program.try_clone().unwrap();
        drop(program);
        assert!(held());
        drop(other);
        assert!(!held());
    }

    #[test]
    fn programs_have_a_listener_what_it_accepted_and_what_connects() {
        let instance = Instance::new(sys::random().unwrap());
        let family = libc::AF_INET as u16;
        let named = |name: Name| {
            let fd = sys::socket(libc::SOCK_STREAM | libc::SOCK_CLOEXEC).unwrap();
            sys::bind(fd.raw(), &name.encode(&instance)).unwrap();
            fd
        };
        let of = |id| Name::Accepted { id, family, local: ([1; 4], 1).into(), peer: ([2; 4], 2).into() };
        let (data, listener) = (named(Name::Data), named(Name::Socket { id: 1, family }));
        let (connecting, plain) = (named(Name::Socket { id: 2, family }), named(Name::Socket { id: 3, family }));
        let ends: Vec<_> = (10..13).map(|id| named(of(id))).collect();
        sys::listen(data.raw(), 1).unwrap();
        sys::listen(listener.raw(), 4).unwrap();
        sys::connect(connecting.raw(), &Name::Data.encode(&instance)).unwrap();
        for end in &ends {
            sys::connect(end.raw(), &Name::Socket { id: 1, family }.encode(&instance)).unwrap();
        }
        let [first, second] = [(); 2].map(|()| sys::accept(listener.raw(), libc::SOCK_CLOEXEC).unwrap());
        let mut ends = ends.into_iter();
        sys::send(ends.as_slice()[1].raw(), b"seven b", 0).unwrap();
        sys::send(ends.as_slice()[2].raw(), b"early", 0).unwrap();
        sys::send(second.raw(), b"to the server", 0).unwrap();
        // The server closes the first; its program has the descriptor still.
        drop(ends.next());
        // Bytes to the server are not the program's. The last waits to be accepted, and is not in the kernel's list.
        let expected = [(1, &listener, 1), (2, &connecting, 0), (3, &plain, 0), (11, &second, 7)];
        let expected: HashMap<u64, (u32, u32)> = expected.map(|(id, fd, n)| (id, (inode(fd.raw()), n))).into();
        let all = sockets(false).unwrap();
        let found = |all: &[Unix], of: &Instance| -> HashMap<u64, (u32, u32)> {
            of_programs(all, of).into_iter().map(|(id, u)| (id, (u.inode, u.queued))).collect()
        };
        assert_eq!(found(&all, &instance), expected);
        assert_eq!(found(&all, &Instance::new([1; 24])), HashMap::new());
        assert!(UnixStream::pair().is_ok_and(|(a, _)| !all.iter().any(|u| u.inode == inode(a.as_raw_fd()))));
        drop(first);
    }
}
