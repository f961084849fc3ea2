//! SO_REUSEPORT groups: sockets that share an address and a port, in the order in which they joined, and the program
//! that chooses among them (SO_ATTACH_REUSEPORT_CBPF). Without one the flow's hash chooses, which is the tables'
//! business. Above: `sock::sockopt`, the tables of TCP and UDP. Linux: net/core/sock_reuseport.c.

use super::bpf::{Input, Program};
use super::{Sock, SockCommon, flag};
use crate::base::error::{Error, Result};
use crate::sys::lock::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

/// See the module's text.
#[derive(Debug, Default)]
pub struct ReuseGroup {
    /// There is a program: so that a lookup without one takes no lock.
    programmed: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    socks: Vec<Weak<Sock>>,
    program: Option<Arc<Program>>,
}

impl ReuseGroup {
    /// A sock begins to receive (reuseport_add_sock).
    pub(crate) fn join(&self, sock: &Arc<Sock>) {
        self.inner.lock().socks.push(Arc::downgrade(sock));
    }

    /// A sock receives no more: the last one takes its place (reuseport_detach_sock).
    pub(crate) fn leave(&self, sock: &Arc<Sock>) {
        let mut inner = self.inner.lock();
        if let Some(at) = inner.socks.iter().position(|s| std::ptr::eq(s.as_ptr(), Arc::as_ptr(sock))) {
            inner.socks.swap_remove(at);
        }
    }

    /// The member that a flow's hash chooses (reuseport_select_sock_by_hash).
    pub(crate) fn by_hash(&self, hash: u32) -> Option<Arc<Sock>> {
        let inner = self.inner.lock();
        let at = (u64::from(hash) * inner.socks.len() as u64) >> 32;
        inner.socks.get(at as usize)?.upgrade()
    }

    fn set_program(&self, program: Option<Arc<Program>>) -> Option<Arc<Program>> {
        let mut inner = self.inner.lock();
        self.programmed.store(program.is_some(), Ordering::Release);
        std::mem::replace(&mut inner.program, program)
    }

    /// The sock that the program chooses for a packet. None: there is no program, or no sock of that number (the first
    /// half of reuseport_select_sock).
    pub(crate) fn choose(&self, packet: &impl Input) -> Option<Arc<Sock>> {
        if !self.programmed.load(Ordering::Acquire) {
            return None;
        }
        let program = self.inner.lock().program.clone()?;
        let at = program.run(packet) as usize;
        self.inner.lock().socks.get(at)?.upgrade()
    }
}

/// Of which group a sock is.
#[derive(Debug)]
pub enum Membership {
    /// It is not in the tables yet: it may bring a group with it.
    Unhashed,
    /// It receives alone.
    Alone,
    /// It is of this group.
    Of(Arc<ReuseGroup>),
}

/// SO_ATTACH_REUSEPORT_CBPF: the program is the whole group's. EINVAL: the sock is of no group (reuseport_attach_prog).
pub(crate) fn attach(sk: &mut SockCommon, of: Membership, program: Arc<Program>) -> Result<()> {
    let group = match of {
        Membership::Of(group) => group,
        Membership::Unhashed if sk.flag(flag::REUSEPORT) => {
            sk.cold_mut().filter.get_or_insert_default().group.get_or_insert_default().clone()
        }
        _ => return Err(Error::Inval),
    };
    drop(group.set_program(Some(program)));
    Ok(())
}

/// SO_DETACH_REUSEPORT_BPF. ENOENT: there is no program; EINVAL: nor SO_REUSEPORT (reuseport_detach_prog).
pub(crate) fn detach(sk: &mut SockCommon, of: Membership) -> Result<()> {
    let group = match of {
        Membership::Of(group) => Some(group),
        Membership::Unhashed => sk.filter.as_ref().and_then(|f| f.group.clone()),
        Membership::Alone => None,
    };
    match group {
        Some(group) => group.set_program(None).map(drop).ok_or(Error::NoEnt),
        None if sk.flag(flag::REUSEPORT) => Err(Error::NoEnt),
        None => Err(Error::Inval),
    }
}

/// The group that a sock enters the tables with: of one that it shares address and port with, or its own. It has the
/// program that was attached before.
pub(crate) fn enter(sk: &SockCommon, mate: Option<&Arc<ReuseGroup>>) -> Option<Arc<ReuseGroup>> {
    let own = || sk.filter.as_ref().and_then(|f| f.group.clone()).unwrap_or_default();
    sk.flag(flag::REUSEPORT).then(|| mate.cloned().unwrap_or_else(own))
}

#[cfg(test)]
mod tests {
    use super::super::bpf::Insn;
    use super::*;
    use crate::inet::Socket;
    use crate::stack::Stack;
    use crate::tcp::testing::Bench;
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};

    const ATTACH: i32 = 51;
    const DETACH: i32 = 68;
    const RET: u16 = 0x06;
    const RET_A: u16 = 0x16;
    const LD_B_ABS: u16 = 0x30;
    const AND_K: u16 = 0x54;

    fn program(insns: &[(u16, u32)]) -> Vec<u8> {
        insns.iter().flat_map(|(code, k)| Insn { code: *code, jt: 0, jf: 0, k: *k }.to_bytes()).collect()
    }

    fn here(port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
    }

    fn socket(stack: &Arc<Stack>, ty: i32, reuseport: bool) -> Socket {
        let s = Socket::new(stack, libc::AF_INET, ty, 0).unwrap();
        s.set_nonblocking(true);
        s.setsockopt(libc::SOL_SOCKET, libc::SO_REUSEPORT, &i32::from(reuseport).to_ne_bytes()).unwrap();
        s
    }

    fn member(stack: &Arc<Stack>, ty: i32, port: u16) -> Socket {
        let s = socket(stack, ty, true);
        s.bind(here(port)).unwrap();
        if ty == libc::SOCK_STREAM {
            s.listen(16).unwrap();
        }
        s
    }

    fn attach_to(s: &Socket, insns: &[(u16, u32)]) -> Result<()> {
        s.setsockopt(libc::SOL_SOCKET, ATTACH, &program(insns))
    }

    /// Twelve flows to the group, of datagrams the first byte is their number; what each member got.
    fn flows(stack: &Arc<Stack>, ty: i32, group: &[Socket]) -> Vec<usize> {
        let mut got = vec![0; group.len()];
        for n in 0..12u8 {
            let client = socket(stack, ty, false);
            let _ = client.connect(Some(here(5003)));
            if ty == libc::SOCK_DGRAM {
                let slices = [std::io::IoSlice::new(std::slice::from_ref(&n))];
                client.sendmsg(&mut crate::sock::msg::SendMsg::new(&slices, 0)).unwrap();
            }
            stack.poll(stack.now());
            for (s, got) in group.iter().zip(&mut got) {
                let mut buf = [0];
                let mut slices = [std::io::IoSliceMut::new(&mut buf)];
                let mut msg = crate::sock::msg::RecvMsg::new(&mut slices, libc::MSG_DONTWAIT);
                let arrived = if ty == libc::SOCK_STREAM { s.accept().is_ok() } else { s.recvmsg(&mut msg).is_ok() };
                *got += usize::from(arrived);
            }
        }
        got
    }

    /// Answers of kernel 6.18 to the same calls.
    #[test]
    fn a_program_is_of_a_group_and_chooses_by_the_order_of_joining() {
        for ty in [libc::SOCK_STREAM, libc::SOCK_DGRAM] {
            let bench = Bench::new();
            let stack = &bench.stack;
            let mut group: Vec<Socket> = (0..3).map(|_| member(stack, ty, 5003)).collect();
            for chosen in 0..3 {
                attach_to(&group[1], &[(RET, chosen)]).unwrap();
                let got = flows(stack, ty, &group);
                assert_eq!(got[chosen as usize], 12, "{ty} {got:?}");
            }
            // No such member: the flow's hash chooses.
            attach_to(&group[2], &[(RET, 3)]).unwrap();
            let got = flows(stack, ty, &group);
            assert!(got.iter().sum::<usize>() == 12 && got.iter().all(|n| *n < 12), "{ty} {got:?}");
            if ty == libc::SOCK_DGRAM {
                // It sees the payload.
                attach_to(&group[0], &[(LD_B_ABS, 0), (AND_K, 1), (RET_A, 0)]).unwrap();
                assert_eq!(flows(stack, ty, &group), [6, 6, 0]);
            }
            // The last one takes the place of one that leaves.
            drop(group.remove(0));
            attach_to(&group[0], &[(RET, 0)]).unwrap();
            assert_eq!(flows(stack, ty, &group), [0, 12], "{ty}");
            // One of another address is not of the group.
            let other = socket(stack, ty, true);
            assert_eq!(other.setsockopt(libc::SOL_SOCKET, DETACH, &1i32.to_ne_bytes()), Err(Error::NoEnt));
        }
    }

    #[test]
    fn a_program_needs_the_option_and_one_attached_early_comes_along() {
        for ty in [libc::SOCK_STREAM, libc::SOCK_DGRAM] {
            let bench = Bench::new();
            let stack = &bench.stack;
            let detach = |s: &Socket| s.setsockopt(libc::SOL_SOCKET, DETACH, &1i32.to_ne_bytes());
            let ret = [(RET, 0)];
            let plain = socket(stack, ty, false);
            assert_eq!((attach_to(&plain, &ret), detach(&plain)), (Err(Error::Inval), Err(Error::Inval)));
            let s = socket(stack, ty, true);
            assert_eq!((attach_to(&s, &ret), attach_to(&s, &ret)), (Ok(()), Ok(())));
            assert_eq!((detach(&s), detach(&s)), (Ok(()), Err(Error::NoEnt)));
            assert_eq!(attach_to(&s, &[(LD_B_ABS, 0)]), Err(Error::Inval));
            // Bound without the option: a datagram socket receives already.
            plain.bind(here(5004)).unwrap();
            plain.setsockopt(libc::SOL_SOCKET, libc::SO_REUSEPORT, &1i32.to_ne_bytes()).unwrap();
            let want = if ty == libc::SOCK_DGRAM { Err(Error::Inval) } else { Ok(()) };
            assert_eq!(attach_to(&plain, &ret), want);
            // SO_LOCK_FILTER keeps the program out, and lets go of it.
            s.setsockopt(libc::SOL_SOCKET, libc::SO_LOCK_FILTER, &1i32.to_ne_bytes()).unwrap();
            assert_eq!((attach_to(&s, &ret), detach(&s)), (Err(Error::Perm), Err(Error::NoEnt)));
            // Attached before the first one is bound.
            let first = socket(stack, ty, true);
            attach_to(&first, &[(RET, 1)]).unwrap();
            first.bind(here(5003)).unwrap();
            if ty == libc::SOCK_STREAM {
                first.listen(16).unwrap();
            }
            let group = [first, member(stack, ty, 5003)];
            assert_eq!(flows(stack, ty, &group), [0, 12]);
        }
    }
}
