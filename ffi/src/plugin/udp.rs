//! UDP ports of a registration: datagrams to them go to the plug-in, and it sends from them. Above: transports over
//! UDP. Below: `usersock::udp`, of whose socks a port has one; `registration`, with which a port ends. Linux:
//! udp_sock_create, setup_udp_tunnel_sock, udp_tunnel_xmit_skb, udp_tunnel_sock_release.

use super::addr::usk_addr_t;
use super::gate::{kernel, obj, obj_mut, slice, slice_mut};
use super::ip::{Reported, USK_TX_DF, icmp_error, packet_info, usk_tx_info_t};
use super::proto::{usk_icmp_error_t, usk_packet_info_t};
use super::registration::{Opened, Reg, usk_reg_t};
use super::skb::{self, usk_skb_t};
use super::table::{self, Table};
use crate::held::contain;
use crate::loader::Item;
use crate::note;
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::mem::offset_of;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use usersock::counters::DropReason;
use usersock::error::{Error, Result};
use usersock::internal::inet;
use usersock::internal::udp::{AsTold, Encap, mtu, send_skb, set_encap};
use usersock::internal::wire::udp::HEADER_LEN;
use usersock::ip::plan;
use usersock::net::Socket;
use usersock::sock::packet::{IcmpError, PacketInfo};
use usersock::sock::proto::SockRef;
use usersock::sock::skb::{Csum, Skb};
use usersock::sock::{Sock, SockGuard};
use usersock::stack::Stack;

/// A UDP port of a registration, made by usk_udp_open. Valid until usk_udp_close, or as long as the registration's
/// handle: also in a function of its table that still runs when usk_unregister has ended it. The port is closed then:
/// calls on it return -EINVAL, usk_udp_close -ENOENT, and usk_udp_reg and usk_udp_user what they did before.
#[allow(non_camel_case_types)]
pub struct usk_udp_t {
    _opaque: [u8; 0],
}

/// `version` of struct usk_udp_ops.
pub const USK_UDP_VERSION: u32 = 1;

/// usk_udp_ops.flags: other ports, and sockets of programs, may have this one too, if they are of the same kind
/// (SO_REUSEPORT): a datagram goes to one of them, by its flow.
pub const USK_UDP_REUSEPORT: u32 = 1;
/// usk_udp_ops.flags: a port of AF_INET6 takes no datagrams of IPv4 (IPV6_V6ONLY).
pub const USK_UDP_V6ONLY: u32 = 2;

/// What takes the datagrams of a UDP port. usk_udp_open copies it. Both are called in softirq context with no sock
/// owned, perhaps on several threads at a time. No C++ exception and no panic of a Rust shared object may leave them.
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct usk_udp_ops {
    /// USK_UDP_VERSION.
    pub version: u32,
    /// sizeof(struct usk_udp_ops). Members that a shorter table lacks are null.
    pub size: u32,
    /// A datagram for the port, without its UDP header; its checksum has been verified. The function owns the packet:
    /// it finds the sock that it is for, and calls usk_deliver, or usk_drop. `info` has the ports in its two addresses,
    /// which usk_skb_info does not tell later. Required.
    pub encap_rcv:
        Option<unsafe extern "C-unwind" fn(udp: *mut usk_udp_t, skb: *mut usk_skb_t, info: *const usk_packet_info_t)>,
    /// An ICMP error about a datagram that was sent from the port, with the ports in its addresses. What it says of the
    /// path's MTU is known already (usk_udp_mtu). Routers quote few bytes, perhaps none behind the UDP header; who
    /// knows the ports can forge such an error. usk_icmp_report tells a sock of it. Null: ignored.
    pub encap_err: Option<unsafe extern "C-unwind" fn(udp: *mut usk_udp_t, error: *const usk_icmp_error_t)>,
    /// USK_UDP_...: what a socket is told before it is bound.
    pub flags: u32,
    /// The only interface by which datagrams come and go (SO_BINDTOIFINDEX); 0: any.
    pub ifindex: u32,
}

// SAFETY: repr(C), begins with two u32; None, and zero, are valid for the others.
unsafe impl Table for usk_udp_ops {
    const NAME: &'static str = "struct usk_udp_ops";
    const VERSION: u32 = USK_UDP_VERSION;
    const FIRST_SIZE: usize = offset_of!(usk_udp_ops, flags);
}

/// The target of a [`usk_udp_t`]. Its registration keeps it, and UDP as long as the sock is open.
struct Port {
    sock: Arc<Sock>,
    stack: Weak<Stack>,
    /// Upgraded while a function of the table runs, so that its code and `user` stay.
    item: Weak<dyn Item>,
    reg: *mut usk_reg_t,
    ops: usk_udp_ops,
    user: *mut c_void,
    closed: AtomicBool,
}

// SAFETY: a plug-in says that its functions may be called from any thread; `user` and `reg` are only passed on.
unsafe impl Send for Port {}
// SAFETY: as above.
unsafe impl Sync for Port {}

impl Port {
    /// # Safety
    /// `p` is null, or valid as long as the result is used.
    unsafe fn of<'a>(p: *mut usk_udp_t) -> Result<&'a Port> {
        // SAFETY: a valid handle is the address of one.
        unsafe { p.cast::<Port>().as_ref() }.ok_or(Error::Inval)
    }
    fn handle(&self) -> *mut usk_udp_t {
        std::ptr::from_ref(self).cast_mut().cast()
    }
    /// Its calls, none of which waits. EINVAL: the stack has ended, or the port is closed.
    fn socket(&self) -> Result<Socket> {
        let stack = self.stack.upgrade().filter(|_| !self.closed.load(Ordering::Acquire)).ok_or(Error::Inval)?;
        Ok(Socket::of_stack(&stack, self.sock.clone()))
    }
    /// Runs `f` as owner of the port's sock. EINVAL: the stack has ended, or the port is closed. ENOBUFS: this thread
    /// owns a port's sock further down its call stack, and somebody owns this one, perhaps this thread: a device that
    /// sends by a port has got a packet of a port, as of a tunnel in a tunnel. To wait could be for ever.
    fn with<R>(&self, f: impl FnOnce(&mut SockGuard<'_>) -> Result<R>) -> Result<R> {
        let stack = self.stack.upgrade().ok_or(Error::Inval)?;
        let owning = Owning::begin();
        let mut g = match owning.is_nested() {
            false => self.sock.lock(&stack),
            true => self.sock.try_lock(&stack).ok_or(Error::NoBufs)?,
        };
        if self.closed.load(Ordering::Relaxed) { Err(Error::Inval) } else { f(&mut g) }
    }
}

thread_local! {
    static OWNED: Cell<u32> = const { Cell::new(0) };
}

/// Exists while this thread owns the sock of a port.
struct Owning;

impl Owning {
    fn begin() -> Owning {
        OWNED.set(OWNED.get() + 1);
        Owning
    }
    fn is_nested(&self) -> bool {
        OWNED.get() > 1
    }
}

impl Drop for Owning {
    fn drop(&mut self) {
        OWNED.set(OWNED.get() - 1);
    }
}

impl Opened for Port {
    fn key(&self) -> usize {
        self.handle() as usize
    }
    fn close(&self, stack: &Arc<Stack>) {
        if !self.closed.swap(true, Ordering::AcqRel) {
            self.sock.proto().close(SockRef { stack, sock: &self.sock }, libc::MSG_DONTWAIT);
        }
    }
}

impl Encap for Port {
    fn rcv(&self, stack: &Arc<Stack>, mut skb: Skb, src: SocketAddr, dst: SocketAddr, info: &PacketInfo) {
        let (Some(f), Some(_running)) = (self.ops.encap_rcv, self.item.upgrade()) else {
            return stack.mib.drop(DropReason::NoSocket);
        };
        // The control block is the plug-in's.
        skb.cb = Default::default();
        let about = usk_packet_info_t { src: src.into(), dst: dst.into(), ..packet_info(info) };
        // SAFETY: the table's function, called as the table documents. The function owns the packet from here.
        if contain(|| unsafe { f(self.handle(), skb::give(skb), &about) }).is_err() {
            stack.mib.drop(DropReason::PluginRefused);
        }
    }

    fn err(&self, stack: &Arc<Stack>, src: SocketAddr, dst: SocketAddr, e: &IcmpError<'_>) {
        let (Some(f), Some(_running)) = (self.ops.encap_err, self.item.upgrade()) else { return };
        let mut e = *e;
        e.quoted = e.quoted.get(HEADER_LEN..).unwrap_or_default();
        let about = usk_icmp_error_t { src: src.into(), dst: dst.into(), ..icmp_error(&e) };
        let reported = Reported { about, original: std::ptr::from_ref(&e).cast() };
        // SAFETY: as in `rcv`.
        if contain(|| unsafe { f(self.handle(), &reported.about) }).is_err() {
            stack.mib.drop(DropReason::PluginRefused);
        }
    }
}

/// Opens a UDP port for a registration of any kind: a UDP sock of the stack, in its lists like a program's, whose
/// datagrams go to `ops` (udp_sock_create, setup_udp_tunnel_sock). `local`: the address to bind to, unspecified for any
/// (AF_INET6's takes datagrams of both families), and the port, 0 for any free one. `user` is for usk_udp_user. The
/// port is closed by usk_udp_close, or when the registration ends, and does not keep it in use. -EADDRINUSE,
/// -EADDRNOTAVAIL; -EAFNOSUPPORT; -EPROTONOSUPPORT or -ESOCKTNOSUPPORT: the stack has no UDP; -EINVAL: the table does
/// not fit (usk_config_error says why), or the registration has ended.
/// # Safety
/// `reg` is valid; `local` is readable; `ops` points to as many bytes as its size says; `out` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_udp_open(
    reg: *mut usk_reg_t,
    local: *const usk_addr_t,
    ops: *const usk_udp_ops,
    user: *mut c_void,
    out: *mut *mut usk_udp_t,
) -> c_int {
    kernel(|| {
        // SAFETY: the caller vouches for all four.
        let (owner, local, out) = unsafe { (Reg::of(reg)?, obj(local)?.to_socket_addr()?, obj_mut(out)?) };
        // SAFETY: readable, as the caller guarantees.
        let ops = unsafe { table::read(ops) }.map_err(note::refused)?;
        if ops.encap_rcv.is_none() {
            return Err(note::refused("struct usk_udp_ops: encap_rcv is null".to_owned()));
        }
        if ops.flags & !(USK_UDP_REUSEPORT | USK_UDP_V6ONLY) != 0 {
            return Err(note::refused("struct usk_udp_ops: unknown flags".to_owned()));
        }
        let (stack, item) = (owner.stack()?, owner.weak()?);
        let family = if local.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let sock = inet::create(&stack, family, libc::SOCK_DGRAM, libc::IPPROTO_UDP)?;
        let (closed, weak) = (AtomicBool::new(false), Arc::downgrade(&stack));
        let port = Arc::new(Port { sock: sock.clone(), stack: weak, item, reg, ops, user, closed });
        // Before it is bound: a datagram finds it as soon as it is.
        let opened = set_encap(&sock, port.clone())
            .and_then(|()| bind(&Socket::of_stack(&stack, sock), local, &ops))
            .and_then(|()| owner.opened(port.clone()));
        opened.inspect_err(|_| port.close(&stack))?;
        *out = port.handle();
        Ok(0)
    })
}

/// Binds a port's sock, which gets its options first (udp_sock_create4, udp_sock_create6).
fn bind(socket: &Socket, local: SocketAddr, ops: &usk_udp_ops) -> Result<()> {
    let on = 1i32.to_ne_bytes();
    if ops.flags & USK_UDP_REUSEPORT != 0 {
        socket.setsockopt(libc::SOL_SOCKET, libc::SO_REUSEPORT, &on)?;
    }
    if ops.flags & USK_UDP_V6ONLY != 0 {
        socket.setsockopt(libc::SOL_IPV6, libc::IPV6_V6ONLY, &on)?;
    }
    if ops.ifindex != 0 {
        socket.setsockopt(libc::SOL_SOCKET, SO_BINDTOIFINDEX, &ops.ifindex.to_ne_bytes())?;
    }
    socket.bind(local)
}

const SO_BINDTOIFINDEX: c_int = 62;

/// Whether a port has a use for an option: those of sending, and of groups. It has no receive buffer, and nobody calls
/// recvmsg(2) on it.
fn has_use(level: c_int, name: c_int) -> bool {
    // MCAST_JOIN_GROUP to MCAST_MSFILTER.
    const MCAST: std::ops::RangeInclusive<c_int> = 42..=48;
    const SO_SNDBUFFORCE: c_int = 32;
    const IP_MULTICAST_ALL: c_int = 49;
    const IPV6_MULTICAST_ALL: c_int = 29;
    match level {
        libc::SOL_SOCKET => {
            use libc::{SO_BINDTODEVICE, SO_BROADCAST, SO_DONTROUTE, SO_INCOMING_CPU, SO_MARK, SO_PRIORITY, SO_SNDBUF};
            let plain = [SO_BROADCAST, SO_DONTROUTE, SO_MARK, SO_PRIORITY, SO_SNDBUF, SO_SNDBUFFORCE];
            plain.contains(&name) || [SO_BINDTODEVICE, SO_BINDTOIFINDEX, SO_INCOMING_CPU].contains(&name)
        }
        libc::SOL_IP => {
            use libc::{IP_ADD_MEMBERSHIP, IP_ADD_SOURCE_MEMBERSHIP, IP_BLOCK_SOURCE, IP_DROP_MEMBERSHIP};
            use libc::{IP_DROP_SOURCE_MEMBERSHIP, IP_MTU_DISCOVER, IP_MULTICAST_IF, IP_MULTICAST_LOOP};
            use libc::{IP_MULTICAST_TTL, IP_TOS, IP_TTL, IP_UNBLOCK_SOURCE};
            let groups = [IP_ADD_MEMBERSHIP, IP_DROP_MEMBERSHIP, IP_ADD_SOURCE_MEMBERSHIP, IP_DROP_SOURCE_MEMBERSHIP];
            let sending = [IP_TOS, IP_TTL, IP_MTU_DISCOVER, IP_MULTICAST_IF, IP_MULTICAST_TTL, IP_MULTICAST_LOOP];
            let more = [IP_BLOCK_SOURCE, IP_UNBLOCK_SOURCE, IP_MULTICAST_ALL];
            groups.contains(&name) || sending.contains(&name) || more.contains(&name) || MCAST.contains(&name)
        }
        libc::SOL_IPV6 => {
            use libc::{IPV6_ADD_MEMBERSHIP, IPV6_DROP_MEMBERSHIP, IPV6_MTU_DISCOVER, IPV6_MULTICAST_HOPS};
            use libc::{IPV6_MULTICAST_IF, IPV6_MULTICAST_LOOP, IPV6_TCLASS, IPV6_UNICAST_HOPS};
            let groups = [IPV6_ADD_MEMBERSHIP, IPV6_DROP_MEMBERSHIP, IPV6_MULTICAST_ALL];
            let sending = [IPV6_TCLASS, IPV6_UNICAST_HOPS, IPV6_MTU_DISCOVER];
            let to_groups = [IPV6_MULTICAST_IF, IPV6_MULTICAST_HOPS, IPV6_MULTICAST_LOOP];
            let all = [&groups[..], &sending[..], &to_groups[..]];
            all.iter().any(|some| some.contains(&name)) || MCAST.contains(&name)
        }
        _ => false,
    }
}

/// Sets an option of the port, as setsockopt(2) of a UDP socket (sk_setsockopt, ip_mc_join_group): memberships and
/// filters of groups, how datagrams to groups are sent, IP_TOS and IP_TTL, IP_MTU_DISCOVER, SO_SNDBUF, SO_MARK,
/// SO_BROADCAST, SO_BINDTODEVICE. -ENOPROTOOPT: also for what only a program that receives has a use for; other errors
/// as of setsockopt(2); -EINVAL also: the port is closed. In any context, with no UDP port's sock owned.
/// # Safety
/// `udp` is valid; `value` is readable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_udp_setsockopt(
    udp: *mut usk_udp_t,
    level: c_int,
    name: c_int,
    value: *const c_void,
    len: usize,
) -> c_int {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (port, value) = unsafe { (Port::of(udp)?, slice(value, len)?) };
        if !has_use(level, name) {
            return Err(Error::NoProtoOpt);
        }
        port.socket()?.setsockopt(level, name, value).map(|()| 0)
    })
}

/// Reads an option of the port, as getsockopt(2) of a UDP socket: writes at most `len` bytes, returns how many. Errors
/// as of getsockopt(2); -EINVAL also: the port is closed.
/// # Safety
/// `udp` is valid; `value` is writable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_udp_getsockopt(
    udp: *mut usk_udp_t,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    len: usize,
) -> isize {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (port, value) = unsafe { (Port::of(udp)?, slice_mut(value, len)?) };
        port.socket()?.getsockopt(level, name, value).map(|n| n as isize)
    })
}

/// Closes a UDP port (udp_tunnel_sock_release). A function of its table that runs on another thread ends as usual.
/// Neither it nor one of its socks may be owned by the caller, but a sock of the protocol may. Returns 0; -ENOENT: it
/// was closed with its registration; -EINVAL: the stack has ended.
/// # Safety
/// `udp` is valid, and not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_udp_close(udp: *mut usk_udp_t) -> c_int {
    kernel(|| {
        // SAFETY: valid, as the caller guarantees.
        let port = unsafe { Port::of(udp) }?;
        // SAFETY: a port's registration is valid as long as the port.
        let reg = unsafe { Reg::of(port.reg) }?;
        let stack = reg.stack()?;
        reg.closing(udp as usize)?.close(&stack);
        Ok(0)
    })
}

/// Sends a packet as a datagram from the port to `to`: UDP header with checksum, route, IP header, fragments
/// (udp_tunnel_xmit_skb). It begins with the plug-in's own header. `tx`: what it decides for this packet
/// (usk_xmit_info), and `size` its sizeof; null and 0: nothing. What `tx` leaves open is the port's: options and
/// address of the sock that sends do not count, nor do the control messages of its call. Never waits: the packet is
/// charged to the port's own sock until the device has completed it. In any context; any sock may be owned, but that of
/// a UDP port. Always consumes `skb`. Returns 0; -EINVAL: port 0, or as usk_xmit_info, or it is a super-packet, or its
/// checksum is left open; -EMSGSIZE: longer than a datagram may be, or with USK_TX_DF than the path's MTU; -ENOBUFS:
/// the send buffer or the device's queue is full, or a device's xmit sends by a port that is sending (treat it as a
/// loss); -ENETUNREACH, -EACCES.
/// # Safety
/// `udp` is valid; `skb` is the caller's, and not used afterwards; `to` is readable; `tx` is null or readable for
/// `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_udp_send(
    udp: *mut usk_udp_t,
    skb: *mut usk_skb_t,
    to: *const usk_addr_t,
    tx: *const usk_tx_info_t,
    size: usize,
) -> c_int {
    kernel(|| {
        // SAFETY: the caller gives the packet up.
        let mut skb = unsafe { skb::take(skb, "usk_udp_send") }?;
        // SAFETY: the caller vouches for both.
        let (port, to) = unsafe { (Port::of(udp)?, obj(to)?.to_socket_addr()?) };
        let (mut control, mut told) = (Vec::new(), AsTold::default());
        if !tx.is_null() {
            // SAFETY: readable, as the caller guarantees.
            let tx = unsafe { usk_tx_info_t::read(tx, size) }?;
            tx.ask(to.is_ipv4(), &mut control)?;
            (told.uncut, told.flow_label) = (tx.flags & USK_TX_DF != 0, tx.label());
        }
        skb::outgoing(&mut skb);
        // Offloads are of IP's packets, and the datagram around it has a checksum of its own.
        if skb.pieces.is_some() || skb.csum != Csum::None {
            return Err(Error::Inval);
        }
        port.with(|g| send_skb(g, to, &control, told, skb)).map(|()| 0)
    })
}

/// How many bytes a datagram from the port to `to` may have without being fragmented, by the path's MTU. -ENETUNREACH.
/// # Safety
/// `udp` is valid; `to` is readable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_udp_mtu(udp: *mut usk_udp_t, to: *const usk_addr_t) -> c_int {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (port, to) = unsafe { (Port::of(udp)?, obj(to)?.to_socket_addr()?) };
        port.with(|g| mtu(g, to)).map(|n| n as c_int)
    })
}

/// The source of datagrams from the port to `to`: the address that it is bound to, or the preferred one of the route,
/// and the port. `to` null: the address and port that it is bound to. -ENETUNREACH.
/// # Safety
/// `udp` is valid; `to` is null or readable; `from` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_udp_source(udp: *mut usk_udp_t, to: *const usk_addr_t, from: *mut usk_addr_t) -> c_int {
    kernel(|| {
        // SAFETY: the caller vouches for all three.
        let (port, to, from) = unsafe { (Port::of(udp)?, to.as_ref(), obj_mut(from)?) };
        let to = to.map(|to| to.to_socket_addr()).transpose()?;
        *from = port.with(|g| {
            let ip = match to {
                Some(to) => plan::plan(g, to, &[], 0)?.src,
                None => g.common.rcv_saddr,
            };
            Ok(usk_addr_t::of(ip, g.common.sport))
        })?;
        Ok(0)
    })
}

/// The registration that has opened the port.
/// # Safety
/// `udp` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_udp_reg(udp: *mut usk_udp_t) -> *mut usk_reg_t {
    // SAFETY: valid, as the caller guarantees.
    kernel(|| unsafe { Port::of(udp) }.map(|port| port.reg))
}

/// The pointer that usk_udp_open was given.
/// # Safety
/// `udp` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_udp_user(udp: *mut usk_udp_t) -> *mut c_void {
    // SAFETY: valid, as the caller guarantees.
    kernel(|| unsafe { Port::of(udp) }.map(|port| port.user))
}
