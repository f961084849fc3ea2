//! FRAGILE: a plug-in in Rust that is a shared object of its own, and what it does about panics. Datagrams with ports
//! and a checksum over IP protocol 254 (RFC 3692), the packets of tiny.c; an option of its own makes an operation
//! panic, each kind in its context.
//!
//! It declares what it uses of `usersock/proto.h`, and needs nothing but rustc:
//! `rustc --edition 2024 --crate-type cdylib fragile.rs`. Its run time is its own, so a panic must end in the operation
//! it began in: `contain` is that end, and can be copied. Above: the stack, through `struct usk_proto`. Below: IP, by
//! the `usk_` calls.

mod fragile_usersock;

use fragile_usersock::*;
use std::ffi::{c_int, c_ulong, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU32, Ordering};

/// What an operation returns when it panicked.
trait Broken {
    const BROKEN: Self;
}
impl Broken for () {
    const BROKEN: () = ();
}
impl Broken for c_int {
    const BROKEN: c_int = -EIO;
}
impl Broken for isize {
    const BROKEN: isize = -EIO as isize;
}
/// Of poll: POLLIN, POLLOUT, POLLERR and POLLHUP.
impl Broken for u32 {
    const BROKEN: u32 = 0x1 | 0x4 | 0x8 | 0x10;
}

/// Runs an operation. A panic ends here, and breaks the operation's socket: `sk`, or null where there is none. What the
/// operation has locked stays so: the stack releases it when the operation returns.
fn contain<R: Broken>(sk: *mut usk_sock_t, operation: impl FnOnce() -> R) -> R {
    catch_unwind(AssertUnwindSafe(operation)).unwrap_or_else(|_| {
        // SAFETY: a sock that the operation was given. Null is refused, and nothing is broken.
        unsafe { usk_break(sk) };
        R::BROKEN
    })
}

/// The same of an operation that is called with the sock owned.
fn contain_owned<R: Broken>(o: *mut usk_owned_t, operation: impl FnOnce() -> R) -> R {
    // SAFETY: the argument of such an operation.
    contain(unsafe { usk_owned_sock(o) }, operation)
}

/// A packet that is ours: freed wherever it is dropped, a panic among it.
struct Packet(*mut usk_skb_t);

impl Packet {
    /// For the calls that take it.
    fn give(self) -> *mut usk_skb_t {
        std::mem::ManuallyDrop::new(self).0
    }
}

impl Drop for Packet {
    fn drop(&mut self) {
        // SAFETY: ours, given to nobody.
        unsafe { usk_skb_free(self.0) }
    }
}

/// A sock that is held: given back in the same way.
struct Held(*mut usk_sock_t);

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: held, and not used any more.
        unsafe { usk_sock_put(self.0) }
    }
}

/// Runs `f` with the sock owned. Where `f` panics nothing is released: see `contain`.
fn locked<R>(sk: *mut usk_sock_t, f: impl FnOnce(*mut usk_owned_t) -> R) -> R {
    let mut o = usk_owned_t([0; 4]);
    // SAFETY: the operation's sock; `o` stays where it is until the release.
    unsafe {
        let r = usk_lock_sock(sk, &mut o);
        assert!(r == 0, "usk_lock_sock: {r}");
        let r = f(&mut o);
        usk_release_sock(&mut o);
        r
    }
}

const PROTOCOL: c_int = 254;
const HEADER: usize = 8;
const MAX_PAYLOAD: usize = 65_000;
/// The option, of level 254, an int: where the socket's next operation is to panic.
const PANIC_IN: c_int = 1;

/// Values of PANIC_IN. `c-tests/plugin_cases/fragile.c` has the same numbers.
mod place {
    pub const SETSOCKOPT: u32 = 1;
    /// Before anything is locked, after, and after with a packet in hand.
    pub const SENDMSG: u32 = 2;
    pub const SENDMSG_LOCKED: u32 = 3;
    pub const SENDMSG_PACKET: u32 = 4;
    /// When it has something to receive, locked.
    pub const RECVMSG: u32 = 5;
    pub const POLL: u32 = 6;
    pub const IOCTL: u32 = 7;
    pub const GETSOCKOPT: u32 = 8;
    pub const GET_PORT: u32 = 9;
    pub const CONNECT: u32 = 10;
    pub const SHUTDOWN: u32 = 11;
    pub const BACKLOG_RCV: u32 = 12;
    /// release_cb, of a timer that the option arms.
    pub const TIMER: u32 = 13;
    /// release_cb, of what the option defers: when setsockopt lets go.
    pub const DEFERRED: u32 = 14;
    pub const CLOSE: u32 = 15;
    pub const CLOSE_LOCKED: u32 = 16;
    pub const DESTROY: u32 = 17;
    /// release_cb, of a timer that close arms in place of ending: nobody has the socket any more.
    pub const FAREWELL: u32 = 18;
    /// Not of this socket: the next packet, before its socket is known, and the next socket.
    pub const RCV: u32 = 19;
    pub const INIT: u32 = 20;
}

/// RCV, INIT, or 0.
static NEXT: AtomicU32 = AtomicU32::new(0);

fn panic_once(here: u32) {
    if NEXT.compare_exchange(here, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
        panic!("in place {here}, as asked");
    }
}

/// A sock's own memory: where it is to panic. The sock is owned.
fn place_of<'a>(o: *mut usk_owned_t) -> &'a mut u32 {
    // SAFETY: the table asked for as much, zero at first; the owner uses one reference at a time.
    unsafe { &mut *usk_private(o).cast::<u32>() }
}

fn panic_if(o: *mut usk_owned_t, here: u32) {
    assert!(*place_of(o) != here, "in place {here}, as asked");
}

// SAFETY of the operations: the stack calls them as struct usk_proto says, and they call it as the header says.

unsafe extern "C" fn init(o: *mut usk_owned_t) -> c_int {
    contain_owned(o, || {
        panic_once(place::INIT);
        0
    })
}

unsafe extern "C" fn destroy(o: *mut usk_owned_t) {
    contain_owned(o, || panic_if(o, place::DESTROY))
}

unsafe extern "C" fn close(sk: *mut usk_sock_t, _flags: c_int) {
    contain(sk, || {
        let place = locked(sk, |o| *place_of(o));
        assert!(place != place::CLOSE, "in place {place}, as asked");
        // SAFETY: owned here; the place is of this sock.
        locked(sk, |o| unsafe {
            panic_if(o, place::CLOSE_LOCKED);
            if place == place::FAREWELL { usk_timer_arm(o, 0, usk_owned_now(o) + 1_000_000) } else { usk_done(o) }
        });
    })
}

unsafe extern "C" fn connect(o: *mut usk_owned_t, to: *const usk_addr_t) -> c_int {
    // SAFETY: the operation's arguments: the sock is owned, the address readable.
    contain_owned(o, || unsafe {
        panic_if(o, place::CONNECT);
        match usk_route_connect(o, to) {
            0 => usk_hash(o),
            error => error,
        }
    })
}

unsafe extern "C" fn get_port(o: *mut usk_owned_t, port: u16) -> c_int {
    // SAFETY: the operation's argument: the sock is owned.
    contain_owned(o, || unsafe {
        panic_if(o, place::GET_PORT);
        usk_get_port(o, port)
    })
}

unsafe extern "C" fn shutdown(o: *mut usk_owned_t, _how: c_int) {
    contain_owned(o, || panic_if(o, place::SHUTDOWN))
}

unsafe extern "C" fn ioctl(sk: *mut usk_sock_t, request: c_ulong, value: *mut c_int) -> c_int {
    contain(sk, || {
        // SAFETY: owned here; `value` is the operation's, writable.
        locked(sk, |o| unsafe {
            panic_if(o, place::IOCTL);
            if request != SIOCOUTQ {
                return -ENOTTY;
            }
            *value = *place_of(o) as c_int;
            0
        })
    })
}

unsafe extern "C" fn setsockopt(
    sk: *mut usk_sock_t,
    level: c_int,
    name: c_int,
    value: *const c_void,
    len: usize,
) -> c_int {
    // SAFETY: the operation's sock, and `len` readable bytes at `value`; what asks for ownership gets it from `locked`.
    contain(sk, || unsafe {
        if level != PROTOCOL {
            return locked(sk, |o| usk_ip_setsockopt(o, level, name, value, len));
        }
        if name != PANIC_IN {
            return -ENOPROTOOPT;
        }
        if len != size_of::<u32>() {
            return -EINVAL;
        }
        let place = value.cast::<u32>().read_unaligned();
        match place {
            place::SETSOCKOPT => panic!("in place {place}, as asked"),
            place::RCV | place::INIT => NEXT.store(place, Ordering::Relaxed),
            _ => locked(sk, |o| {
                *place_of(o) = place;
                match place {
                    place::TIMER => usk_timer_arm(o, 0, usk_owned_now(o) + 1_000_000),
                    place::DEFERRED => usk_defer(sk, 2),
                    _ => 0,
                };
            }),
        }
        0
    })
}

unsafe extern "C" fn getsockopt(
    sk: *mut usk_sock_t,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    len: usize,
) -> isize {
    contain(sk, || {
        // SAFETY: owned here; `value` is the operation's, writable for `len` bytes.
        locked(sk, |o| unsafe {
            if level != PROTOCOL {
                return usk_ip_getsockopt(o, level, name, value, len);
            }
            panic_if(o, place::GETSOCKOPT);
            if name != PANIC_IN || len < size_of::<u32>() {
                return -ENOPROTOOPT as isize;
            }
            value.cast::<u32>().write_unaligned(*place_of(o));
            size_of::<u32>() as isize
        })
    })
}

unsafe extern "C" fn poll(sk: *mut usk_sock_t) -> u32 {
    const IN: u32 = 0x1;
    const OUT: u32 = 0x4;
    const ERR: u32 = 0x8;
    contain(sk, || {
        // SAFETY: owned here; `sk` is the operation's sock.
        locked(sk, |o| unsafe {
            panic_if(o, place::POLL);
            let mut info = usk_sock_info_t::default();
            usk_sock_info(o, &mut info, size_of_val(&info));
            let readable = !usk_receive_peek(o).is_null() || info.shutdown & 1 != 0;
            let failed = info.error != 0;
            OUT | if readable { IN } else { 0 } | if failed { ERR | IN } else { 0 }
        })
    })
}

unsafe extern "C" fn sendmsg(sk: *mut usk_sock_t, msg: *mut usk_sendmsg_t) -> isize {
    contain(sk, || {
        let place = locked(sk, |o| *place_of(o));
        assert!(place != place::SENDMSG, "in place {place}, as asked");
        // SAFETY: owned here; the message is the operation's.
        locked(sk, |o| match unsafe { send(o, sk, msg) } {
            Ok(len) => len as isize,
            Err(error) => error as isize,
        })
    })
}

/// 0 or a negative errno, as Rust has it.
fn ok(r: c_int) -> Result<(), c_int> {
    if r == 0 { Ok(()) } else { Err(r) }
}

unsafe fn send(o: *mut usk_owned_t, sk: *mut usk_sock_t, msg: *mut usk_sendmsg_t) -> Result<usize, c_int> {
    panic_if(o, place::SENDMSG_LOCKED);
    // SAFETY: the caller owns the sock and vouches for the message.
    unsafe {
        let len = usk_sendmsg_len(msg);
        if len > MAX_PAYLOAD {
            return Err(-EMSGSIZE);
        }
        ok(usk_sock_error(sk))?;
        let (mut to, mut from) = (usk_addr_t::default(), usk_addr_t::default());
        if usk_sendmsg_name(msg, &mut to) != 0 && usk_ends(o, null_mut(), &mut to) != 0 {
            return Err(-EDESTADDRREQ);
        }
        ok(usk_source(o, &to, &mut from))?;
        let packet = Packet(usk_skb_from_msg(msg, len));
        if packet.0.is_null() {
            return Err(-EFAULT);
        }
        let total = HEADER + len;
        let mut header = [from.port.to_be(), to.port.to_be(), (total as u16).to_be(), 0];
        usk_skb_push(packet.0, HEADER).cast::<[u16; 4]>().write_unaligned(header);
        panic_if(o, place::SENDMSG_PACKET);
        let sum = usk_csum_pseudo(&from, &to, PROTOCOL as u8, total as u32);
        header[3] = (usk_csum_fold(usk_skb_csum(packet.0, 0, total, sum)) as u16).to_be();
        usk_skb_pull(packet.0, HEADER);
        usk_skb_push(packet.0, HEADER).cast::<[u16; 4]>().write_unaligned(header);
        ok(usk_xmit(o, packet.give(), &to))?;
        Ok(len)
    }
}

unsafe extern "C" fn recvmsg(sk: *mut usk_sock_t, msg: *mut usk_recvmsg_t) -> isize {
    const MSG_DONTWAIT: c_int = 0x40;
    const POLLIN: u32 = 1;
    const RECV: c_int = 0;
    contain(sk, || {
        // SAFETY: owned here; the message is the operation's, and a packet is looked at while it is in the queue.
        locked(sk, |o| unsafe {
            let until = usk_timeo(o, RECV, usk_recvmsg_flags(msg) & MSG_DONTWAIT);
            loop {
                let skb = usk_receive_peek(o);
                if !skb.is_null() {
                    panic_if(o, place::RECVMSG);
                    usk_recvmsg_set_name(msg, usk_skb_cb(skb).cast());
                    return usk_receive_msg(o, msg, HEADER);
                }
                match (usk_sock_error(sk), usk_sock_shutdown(sk) & 1) {
                    (0, 0) => {}
                    (error, _) => return error as isize,
                }
                match usk_wait(o, POLLIN, until) {
                    0 => {}
                    error => return error as isize,
                }
            }
        })
    })
}

unsafe extern "C" fn backlog_rcv(o: *mut usk_owned_t, skb: *mut usk_skb_t) {
    let packet = Packet(skb);
    contain_owned(o, || {
        panic_if(o, place::BACKLOG_RCV);
        // SAFETY: owned, and the packet is given up.
        unsafe { usk_receive_push(o, packet.give()) };
    })
}

unsafe extern "C" fn release_cb(o: *mut usk_owned_t, _bits: u32) {
    contain_owned(o, || {
        let place = *place_of(o);
        assert!(!matches!(place, place::TIMER | place::DEFERRED | place::FAREWELL), "in place {place}, as asked");
    })
}

unsafe extern "C" fn rcv(reg: *mut usk_reg_t, skb: *mut usk_skb_t, info: *const usk_packet_info_t) {
    const DROP_HEADER: c_int = 1;
    const DROP_CSUM: c_int = 2;
    const DROP_NO_SOCKET: c_int = 3;
    let packet = Packet(skb);
    // No sock yet: a panic costs the packet. SAFETY: the protocol and `info` are the operation's arguments, the packet
    // is its own; header bytes are read before it changes.
    contain(null_mut(), || unsafe {
        panic_once(place::RCV);
        let (len, header) = (usk_skb_len(packet.0), usk_skb_header(packet.0, HEADER).cast::<[u16; 4]>());
        if header.is_null() || usize::from(u16::from_be(header.read_unaligned()[2])) != len {
            usk_drop(reg, packet.give(), DROP_HEADER);
            return;
        }
        let header = header.read_unaligned();
        let from = usk_addr_t { port: u16::from_be(header[0]), ..(*info).src };
        let to = usk_addr_t { port: u16::from_be(header[1]), ..(*info).dst };
        let sum = usk_csum_pseudo(&from, &to, PROTOCOL as u8, len as u32);
        if usk_csum_fold(usk_skb_csum(packet.0, 0, len, sum)) != 0 {
            usk_drop(reg, packet.give(), DROP_CSUM);
            return;
        }
        let sock = Held(usk_proto_lookup(reg, &to, &from, (*info).ifindex));
        if sock.0.is_null() {
            usk_drop(reg, packet.give(), DROP_NO_SOCKET);
            return;
        }
        usk_skb_cb(packet.0).cast::<usk_addr_t>().write_unaligned(from);
        usk_deliver(sock.0, packet.give());
    })
}

/// The entry point. What it registers is a table that is copied.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_plugin_init(plugin: *mut usk_plugin_t) -> c_int {
    // SAFETY: the plug-in is the entry point's argument; the table and its strings are copied when they are registered.
    contain(null_mut(), || unsafe {
        let table = usk_proto {
            version: 1,
            size: size_of::<usk_proto>() as u32,
            name: c"FRAGILE".as_ptr(),
            socket_type: 2, // SOCK_DGRAM
            protocol: PROTOCOL,
            flags: 1 | 2, // USK_PROTO_V4, USK_PROTO_V6
            obj_size: size_of::<u32>() as u32,
            max_header: HEADER as u32,
            init: Some(init),
            destroy: Some(destroy),
            close: Some(close),
            connect: Some(connect),
            ioctl: Some(ioctl),
            shutdown: Some(shutdown),
            setsockopt: Some(setsockopt),
            getsockopt: Some(getsockopt),
            sendmsg: Some(sendmsg),
            recvmsg: Some(recvmsg),
            poll: Some(poll),
            backlog_rcv: Some(backlog_rcv),
            release_cb: Some(release_cb),
            get_port: Some(get_port),
            rcv: Some(rcv),
            ..std::mem::zeroed()
        };
        usk_proto_register(plugin, &table, null_mut(), null_mut())
    })
}
