//! `struct usk_proto` of a [`Protocol`]: each operation enters by `enter`, which finds the protocol's value and the
//! sock's data, and ends in `contain`.

use super::addr;
use super::contain::{contain, contain_for};
use super::home;
use super::info::{Columns, icmp_error, packet_info};
use super::offload::{Merge, Piece};
use super::reg::Texts;
use super::sock::{Owned, ProtoReg, SlotOf};
use crate::errno::{CReturn, Errno, Result, status};
use crate::msg::{RecvMsg, SendMsg};
use crate::proto::{Protocol, Sizes, flags};
use crate::skb::{Packet, Skb};
use crate::sys::*;
use std::ffi::{c_int, c_ulong, c_void};
use std::ptr::{null, null_mut};

const EIO: c_int = -Errno::Io.number();
const EIO_LEN: isize = EIO as isize;
/// The bits of poll(2) of a broken sock: POLLIN, POLLOUT, POLLERR and POLLHUP.
const BROKEN: u32 = 0x1 | 0x4 | 0x8 | 0x10;

/// Registers `protocol` in the plug-in's stack.
/// # Safety
/// `plugin` is the entry point's argument.
pub(crate) unsafe fn register<P: Protocol>(plugin: *mut usk_plugin_t, protocol: P) -> Result<()> {
    let texts = Texts::new(P::NAME, P::COUNTERS, P::SYSCTLS)?.with_drops(P::DROPS)?;
    let table = table::<P>(&texts);
    // SAFETY: the table's functions are made for the value that is `user`; it is copied, with its texts.
    // If `registered` fails the library refuses the plug-in and unregisters it, and only then the value is dropped.
    let reg = home::register(protocol, |user, reg| unsafe { usk_proto_register(plugin, &table, user, reg) })?;
    // SAFETY: registered, until the plug-in is unloaded.
    unsafe { without_sock::<P, _>(reg, Err(Errno::Io), |p, reg| p.registered(reg)) }
}

fn table<P: Protocol>(texts: &Texts) -> usk_proto {
    const { assert!(align_of::<SlotOf<P>>() <= 16, "Protocol::Sock: its alignment is above 16") };
    const { assert!(size_of::<SlotOf<P>>() <= 65_536, "Protocol::Sock: larger than 64 KiB") };
    let more = &P::MORE;
    usk_proto {
        version: USK_PROTO_VERSION,
        size: size_of::<usk_proto>() as u32,
        name: texts.name.as_ptr(),
        mib_names: texts.mib_names(),
        sysctls: texts.sysctls(),
        socket_type: P::TYPE as c_int,
        protocol: P::PROTOCOL.into(),
        flags: P::FLAGS,
        obj_size: size_of::<SlotOf<P>>() as u32,
        max_header: P::MAX_HEADER,
        timewait_size: 0,
        request_size: 0,
        slab_flags: 0,
        init: Some(init::<P>),
        destroy: Some(destroy::<P>),
        close: Some(close::<P>),
        pre_connect: Some(pre_connect::<P>),
        connect: Some(connect::<P>),
        disconnect: Some(disconnect::<P>),
        listen: Some(listen::<P>),
        accept: if P::FLAGS & flags::CONNECTIONS != 0 { Some(usk_accept_wait) } else { None },
        ioctl: Some(ioctl::<P>),
        shutdown: Some(shutdown::<P>),
        setsockopt: Some(setsockopt::<P>),
        getsockopt: Some(getsockopt::<P>),
        bypass_getsockopt: more.bypass_getsockopt.map(|_| bypass_getsockopt::<P> as _),
        keepalive: Some(keepalive::<P>),
        sendmsg: None,
        recvmsg: None,
        sendpage: more.sendpage.map(|_| sendpage::<P> as _),
        poll: None,
        backlog_rcv: Some(backlog_rcv::<P>),
        release_cb: Some(release_cb::<P>),
        hash: more.hash.map(|_| hash::<P> as _),
        unhash: more.unhash.map(|_| unhash::<P> as _),
        get_port: more.get_port.map(|_| get_port::<P> as _),
        put_port: more.put_port.map(|_| put_port::<P> as _),
        update_proto: Some(update_proto::<P>),
        enter_memory_pressure: Some(enter_memory_pressure::<P>),
        leave_memory_pressure: Some(leave_memory_pressure::<P>),
        stream_memory_free: more.stream_memory_free.map(|_| stream_memory_free::<P> as _),
        sysctl_mem: Some(sysctl_mem::<P>),
        sysctl_wmem: more.sysctl_wmem.map(|_| sysctl_wmem::<P> as _),
        sysctl_rmem: more.sysctl_rmem.map(|_| sysctl_rmem::<P> as _),
        diag_destroy: Some(diag_destroy::<P>),
        rcv: if P::PROTOCOL > 255 { None } else { Some(rcv::<P>) },
        err: if P::PROTOCOL > 255 { None } else { Some(err::<P>) },
        sendmsg_locked: Some(sendmsg::<P>),
        recvmsg_locked: Some(recvmsg::<P>),
        poll_locked: more.poll.map(|_| poll::<P> as _),
        bind: more.bind.map(|_| bind::<P> as _),
        splice_eof: Some(splice_eof::<P>),
        rehash: more.rehash.map(|_| rehash::<P> as _),
        net_exit: None,
        diag_dump: more.diag_dump.map(|_| diag_dump::<P> as _),
        drop_names: texts.drop_names(),
        ports_of: null(),
        timer: Some(timer::<P>),
        work: Some(work::<P>),
        diag_show: Some(diag_show::<P>),
        segment: more.segment.map(|_| segment::<P> as _),
        may_merge: more.may_merge.map(|_| may_merge::<P> as _),
        merge: more.merge.map(|_| merge::<P> as _),
    }
}

/// Runs an operation that is called with the sock owned.
/// # Safety
/// `o` is the operation's argument, of protocol `P`.
#[inline]
unsafe fn enter<P: Protocol, R>(
    o: *mut usk_owned_t,
    broken: R,
    operation: impl FnOnce(&P, &mut Owned<'_, P>) -> R,
) -> R {
    // SAFETY: owned while the operation runs.
    unsafe {
        contain_for(
            || usk_owned_sock(o),
            broken,
            || {
                let mut o = Owned::<P>::new(o);
                operation(o.protocol(), &mut o)
            },
        )
    }
}

/// Runs an operation that is called with the sock not owned: locks it.
/// # Safety
/// `sk` is the operation's argument, of protocol `P`.
#[inline]
unsafe fn lock<P: Protocol, R>(
    sk: *mut usk_sock_t,
    broken: R,
    operation: impl FnOnce(&P, &mut Owned<'_, P>) -> Result<R>,
) -> std::result::Result<R, R>
where
    R: FromErrno,
{
    let mut raw = usk_owned_t { opaque: [0; 4] };
    // SAFETY: valid while the operation runs; `raw` stays where it is until the release. Where the operation panics
    // nothing is released: the stack does it when this returns.
    unsafe {
        contain_for(
            || sk,
            Err(broken),
            || {
                if let Err(e) = status(usk_lock_sock(sk, &mut raw)) {
                    return Err(R::from_errno(e));
                }
                let mut o = Owned::<P>::new(&mut raw);
                let r = operation(o.protocol(), &mut o);
                usk_release_sock(&mut raw);
                r.map_err(R::from_errno)
            },
        )
    }
}

/// The negative errno of a return type.
trait FromErrno {
    fn from_errno(e: Errno) -> Self;
}
impl FromErrno for c_int {
    fn from_errno(e: Errno) -> c_int {
        -e.number()
    }
}
impl FromErrno for isize {
    fn from_errno(e: Errno) -> isize {
        -(e.number() as isize)
    }
}

fn either<R>(r: std::result::Result<R, R>) -> R {
    match r {
        Ok(r) | Err(r) => r,
    }
}

/// The same of an operation that has a registration and no sock.
/// # Safety
/// `reg` is the operation's argument, of protocol `P`.
pub(crate) unsafe fn without_sock<P: Protocol, R>(
    reg: *mut usk_reg_t,
    broken: R,
    operation: impl FnOnce(&P, ProtoReg<'_, P>) -> R,
) -> R {
    contain(broken, || {
        // SAFETY: `user` is the value of the registration, which exists while the operation runs.
        unsafe { operation(&*usk_user(reg).cast::<P>(), ProtoReg::new(reg)) }
    })
}

// SAFETY of the operations below: the stack calls them as struct usk_proto says, with valid arguments, on socks of the
// protocol whose table they are in.

unsafe extern "C" fn init<P: Protocol>(o: *mut usk_owned_t) -> c_int {
    // SAFETY: see above. The data is made before anyone asks for it.
    unsafe {
        enter::<P, _>(o, EIO, |p, o| {
            (*o.slot).fill(P::Sock::default());
            p.init(o).c_return() as c_int
        })
    }
}

unsafe extern "C" fn destroy<P: Protocol>(o: *mut usk_owned_t) {
    // SAFETY: see above. The data is dropped though `destroy` panics, and once.
    unsafe {
        enter::<P, _>(o, (), |p, o| {
            if (*o.slot).get().is_some() {
                p.destroy(o);
            }
        });
        enter::<P, _>(o, (), |_, o| {
            usk_cong_free(o.raw(), std::mem::replace(&mut (*o.slot).cong, null_mut()));
            (*o.slot).clear();
        });
    }
}

unsafe extern "C" fn close<P: Protocol>(sk: *mut usk_sock_t, flags: c_int) {
    // SAFETY: see above.
    let _ = unsafe {
        lock::<P, c_int>(sk, 0, |p, o| {
            p.close(o, flags);
            Ok(0)
        })
    };
}

unsafe extern "C" fn pre_connect<P: Protocol>(o: *mut usk_owned_t, to: *const usk_addr_t) -> c_int {
    // SAFETY: see above.
    unsafe { enter::<P, _>(o, EIO, |p, o| p.pre_connect(o, addr::given(&*to)).c_return() as c_int) }
}

unsafe extern "C" fn connect<P: Protocol>(o: *mut usk_owned_t, to: *const usk_addr_t) -> c_int {
    // SAFETY: see above.
    unsafe { enter::<P, _>(o, EIO, |p, o| p.connect(o, addr::given(&*to)).c_return() as c_int) }
}

unsafe extern "C" fn disconnect<P: Protocol>(o: *mut usk_owned_t) -> c_int {
    // SAFETY: see above.
    unsafe { enter::<P, _>(o, EIO, |p, o| p.disconnect(o).c_return() as c_int) }
}

unsafe extern "C" fn listen<P: Protocol>(o: *mut usk_owned_t, backlog: u32) -> c_int {
    // SAFETY: see above.
    unsafe { enter::<P, _>(o, EIO, |p, o| p.listen(o, backlog).c_return() as c_int) }
}

unsafe extern "C" fn ioctl<P: Protocol>(sk: *mut usk_sock_t, request: c_ulong, value: *mut c_int) -> c_int {
    // SAFETY: see above; `value` is writable.
    unsafe {
        either(lock::<P, c_int>(sk, EIO, |p, o| {
            *value = p.ioctl(o, request, *value)?;
            Ok(0)
        }))
    }
}

unsafe extern "C" fn shutdown<P: Protocol>(o: *mut usk_owned_t, how: c_int) {
    // SAFETY: see above.
    unsafe { enter::<P, _>(o, (), |p, o| p.shutdown(o, how)) }
}

unsafe extern "C" fn setsockopt<P: Protocol>(
    sk: *mut usk_sock_t,
    level: c_int,
    name: c_int,
    value: *const c_void,
    len: usize,
) -> c_int {
    // SAFETY: see above; `value` is readable for `len` bytes.
    unsafe {
        either(lock::<P, c_int>(sk, EIO, |p, o| p.setsockopt(o, level, name, super::bytes(value, len)).map(|()| 0)))
    }
}

unsafe extern "C" fn getsockopt<P: Protocol>(
    sk: *mut usk_sock_t,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    len: usize,
) -> isize {
    // SAFETY: see above; `value` is writable for `len` bytes.
    unsafe {
        either(lock::<P, isize>(sk, EIO_LEN, |p, o| {
            Ok(p.getsockopt(o, level, name, super::bytes_mut(value, len)).c_return())
        }))
    }
}

unsafe extern "C" fn bypass_getsockopt<P: Protocol>(level: c_int, name: c_int) -> c_int {
    contain(0, || P::MORE.bypass_getsockopt.is_some_and(|f| f(level, name)).into())
}

unsafe extern "C" fn keepalive<P: Protocol>(o: *mut usk_owned_t, on: c_int) {
    // SAFETY: see above.
    unsafe { enter::<P, _>(o, (), |p, o| p.keepalive(o, on != 0)) }
}

unsafe extern "C" fn sendmsg<P: Protocol>(o: *mut usk_owned_t, msg: *mut usk_sendmsg_t) -> isize {
    // SAFETY: see above.
    unsafe { enter::<P, _>(o, EIO_LEN, |p, o| p.sendmsg(o, &mut SendMsg::new(msg)).c_return()) }
}

unsafe extern "C" fn recvmsg<P: Protocol>(o: *mut usk_owned_t, msg: *mut usk_recvmsg_t) -> isize {
    // SAFETY: see above.
    unsafe { enter::<P, _>(o, EIO_LEN, |p, o| p.recvmsg(o, &mut RecvMsg::new(msg)).c_return()) }
}

unsafe extern "C" fn sendpage<P: Protocol>(
    sk: *mut usk_sock_t,
    data: *const c_void,
    len: usize,
    flags: c_int,
) -> isize {
    // SAFETY: see above; `data` is readable for `len` bytes.
    unsafe {
        either(lock::<P, isize>(sk, EIO_LEN, |p, o| {
            let f = P::MORE.sendpage.ok_or(Errno::OpNotSupp)?;
            Ok(f(p, o, super::bytes(data, len), flags).c_return())
        }))
    }
}

unsafe extern "C" fn backlog_rcv<P: Protocol>(o: *mut usk_owned_t, skb: *mut usk_skb_t) {
    // The packet is ours: freed wherever it is dropped.
    let skb = Skb::from_raw(skb);
    // SAFETY: see above.
    unsafe {
        enter::<P, _>(o, (), |p, o| {
            if let Some(skb) = skb {
                p.backlog_rcv(o, skb);
            }
        });
    }
}

unsafe extern "C" fn release_cb<P: Protocol>(o: *mut usk_owned_t, bits: u32) {
    // SAFETY: see above.
    unsafe { enter::<P, _>(o, (), |p, o| p.release_cb(o, bits)) }
}

unsafe extern "C" fn hash<P: Protocol>(o: *mut usk_owned_t) -> c_int {
    // SAFETY: see above.
    unsafe { enter::<P, _>(o, EIO, |p, o| P::MORE.hash.map_or(Ok(()), |f| f(p, o)).c_return() as c_int) }
}

unsafe extern "C" fn unhash<P: Protocol>(o: *mut usk_owned_t) {
    // SAFETY: see above.
    unsafe { enter::<P, _>(o, (), |p, o| P::MORE.unhash.map_or((), |f| f(p, o))) }
}

unsafe extern "C" fn get_port<P: Protocol>(o: *mut usk_owned_t, port: u16) -> c_int {
    // SAFETY: see above.
    unsafe { enter::<P, _>(o, EIO, |p, o| P::MORE.get_port.map_or(Ok(()), |f| f(p, o, port)).c_return() as c_int) }
}

unsafe extern "C" fn put_port<P: Protocol>(o: *mut usk_owned_t) {
    // SAFETY: see above.
    unsafe { enter::<P, _>(o, (), |p, o| P::MORE.put_port.map_or((), |f| f(p, o))) }
}

unsafe extern "C" fn update_proto<P: Protocol>(o: *mut usk_owned_t, restore: c_int) -> c_int {
    // SAFETY: see above.
    unsafe { enter::<P, _>(o, EIO, |p, o| p.update_proto(o, restore != 0).c_return() as c_int) }
}

unsafe extern "C" fn enter_memory_pressure<P: Protocol>(reg: *mut usk_reg_t) {
    // SAFETY: see above.
    unsafe { without_sock::<P, _>(reg, (), |p, reg| p.enter_memory_pressure(reg)) }
}

unsafe extern "C" fn leave_memory_pressure<P: Protocol>(reg: *mut usk_reg_t) {
    // SAFETY: see above.
    unsafe { without_sock::<P, _>(reg, (), |p, reg| p.leave_memory_pressure(reg)) }
}

unsafe extern "C" fn stream_memory_free<P: Protocol>(private: *const c_void, wake: c_int) -> c_int {
    // SAFETY: usk_private of an owned sock: its slot, or zero if it has not begun. Without a panic's sock to break, it
    // says that there is room.
    contain(1, || unsafe {
        let slot = private.cast::<SlotOf<P>>();
        let Some((home, data)) = (*slot).peek() else { return 1 };
        P::MORE.stream_memory_free.is_none_or(|f| f(home, data, wake != 0)).into()
    })
}

unsafe extern "C" fn sysctl_mem<P: Protocol>(reg: *mut usk_reg_t, limits: *mut i64) -> c_int {
    // SAFETY: see above; `limits` is three numbers.
    unsafe {
        without_sock::<P, _>(reg, -1, |p, reg| match p.sysctl_mem(reg) {
            Some(three) => {
                limits.cast::<[i64; 3]>().write(three);
                0
            }
            None => -1,
        })
    }
}

/// # Safety
/// As an operation's; `sizes` is three numbers.
unsafe fn sizes<P: Protocol>(reg: *mut usk_reg_t, sizes: *mut c_int, f: Option<Sizes<P>>) -> c_int {
    // SAFETY: the caller vouches for both.
    unsafe {
        without_sock::<P, _>(reg, -1, |p, reg| match f {
            Some(f) => {
                sizes.cast::<[c_int; 3]>().write(f(p, reg));
                0
            }
            None => -1,
        })
    }
}

unsafe extern "C" fn sysctl_wmem<P: Protocol>(reg: *mut usk_reg_t, to: *mut c_int) -> c_int {
    // SAFETY: see above.
    unsafe { sizes::<P>(reg, to, P::MORE.sysctl_wmem) }
}

unsafe extern "C" fn sysctl_rmem<P: Protocol>(reg: *mut usk_reg_t, to: *mut c_int) -> c_int {
    // SAFETY: see above.
    unsafe { sizes::<P>(reg, to, P::MORE.sysctl_rmem) }
}

unsafe extern "C" fn diag_destroy<P: Protocol>(sk: *mut usk_sock_t, error: c_int) -> c_int {
    // SAFETY: see above.
    unsafe { either(lock::<P, c_int>(sk, EIO, |p, o| p.diag_destroy(o, Errno::from_number(error)).map(|()| 0))) }
}

unsafe extern "C" fn rcv<P: Protocol>(reg: *mut usk_reg_t, skb: *mut usk_skb_t, info: *const usk_packet_info_t) {
    let skb = Skb::from_raw(skb);
    // SAFETY: see above; `info` is readable.
    unsafe {
        without_sock::<P, _>(reg, (), |p, reg| {
            let Some(skb) = skb else { return };
            p.rcv(reg, skb, &packet_info(&*info));
        });
    }
}

unsafe extern "C" fn err<P: Protocol>(reg: *mut usk_reg_t, error: *const usk_icmp_error_t) {
    // SAFETY: see above; `error` is readable, and so are the bytes it quotes.
    unsafe {
        without_sock::<P, _>(reg, (), |p, reg| p.err(reg, &icmp_error(&*error)));
    }
}

unsafe extern "C" fn poll<P: Protocol>(o: *mut usk_owned_t) -> u32 {
    // SAFETY: see above.
    unsafe { enter::<P, _>(o, BROKEN, |p, o| P::MORE.poll.map_or(0, |f| f(p, o).0)) }
}

unsafe extern "C" fn bind<P: Protocol>(o: *mut usk_owned_t, to: *const usk_addr_t) -> c_int {
    // SAFETY: see above.
    unsafe {
        enter::<P, _>(o, EIO, |p, o| {
            P::MORE.bind.map_or(Err(Errno::OpNotSupp), |f| f(p, o, addr::given(&*to))).c_return() as c_int
        })
    }
}

unsafe extern "C" fn splice_eof<P: Protocol>(sk: *mut usk_sock_t) {
    // SAFETY: see above.
    let _ = unsafe {
        lock::<P, c_int>(sk, 0, |p, o| {
            p.splice_eof(o);
            Ok(0)
        })
    };
}

unsafe extern "C" fn rehash<P: Protocol>(o: *mut usk_owned_t) {
    // SAFETY: see above.
    unsafe { enter::<P, _>(o, (), |p, o| P::MORE.rehash.map_or((), |f| f(p, o))) }
}

unsafe extern "C" fn diag_dump<P: Protocol>(reg: *mut usk_reg_t, each: usk_diag_each_t, arg: *mut c_void) {
    // SAFETY: see above; `each` takes `arg` and a sock that is valid until it returns.
    unsafe {
        without_sock::<P, _>(reg, (), |p, _| {
            if let (Some(f), Some(each)) = (P::MORE.diag_dump, each) {
                f(p, &mut |sock| each(arg, sock.0.as_ptr()));
            }
        });
    }
}

unsafe extern "C" fn timer<P: Protocol>(reg: *mut usk_reg_t, index: u32) {
    // SAFETY: see above.
    unsafe { without_sock::<P, _>(reg, (), |p, reg| p.timer(reg, index)) }
}

unsafe extern "C" fn work<P: Protocol>(reg: *mut usk_reg_t, bits: u32) {
    // SAFETY: see above.
    unsafe { without_sock::<P, _>(reg, (), |p, reg| p.work(reg, bits)) }
}

unsafe extern "C" fn diag_show<P: Protocol>(o: *mut usk_owned_t, diag: *mut usk_diag_t) {
    // SAFETY: see above.
    unsafe { enter::<P, _>(o, (), |p, o| p.diag_show(o, &mut Columns::new(diag))) }
}

unsafe extern "C" fn segment<P: Protocol>(reg: *mut usk_reg_t, piece: *mut usk_piece_t) -> c_int {
    // SAFETY: see above; what the pieces behind a panic are is not known: they are lost.
    unsafe {
        without_sock::<P, _>(reg, EIO, |p, _| {
            P::MORE.segment.map_or(Err(Errno::OpNotSupp), |f| f(p, &mut Piece::new(piece))).c_return() as c_int
        })
    }
}

unsafe extern "C" fn may_merge<P: Protocol>(
    reg: *mut usk_reg_t,
    skb: *mut usk_skb_t,
    src: *const usk_addr_t,
    dst: *const usk_addr_t,
) -> c_int {
    // SAFETY: see above; the packet is lent, and both addresses are readable.
    unsafe {
        without_sock::<P, _>(reg, 0, |p, _| {
            let ends = (addr::given(&*src).ip(), addr::given(&*dst).ip());
            let header = P::MORE.may_merge.zip(Packet::lent(skb)).and_then(|(f, skb)| f(p, skb, ends));
            header.and_then(|n| c_int::try_from(n).ok()).unwrap_or(0)
        })
    }
}

unsafe extern "C" fn merge<P: Protocol>(reg: *mut usk_reg_t, merge: *mut usk_merge_t) -> c_int {
    // SAFETY: see above.
    unsafe { without_sock::<P, _>(reg, 0, |p, _| P::MORE.merge.map_or(0, |f| f(p, &mut Merge::new(merge)) as c_int)) }
}
