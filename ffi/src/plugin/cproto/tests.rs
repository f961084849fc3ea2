//! The operations that are called with the sock owned: by a layer in Rust above a C protocol, and in place of null
//! ones.

use super::*;
use crate::admin::{usk_stack_free, usk_stack_new};
use crate::handle::usk_sock_t;
use crate::library::usk_plugin_t;
use crate::plugin::addr::usk_addr_t;
use crate::plugin::load::{usk_plugin_attach, usk_plugin_unload};
use crate::plugin::msg::{usk_recvmsg_put, usk_recvmsg_t, usk_sendmsg_len, usk_sendmsg_t};
use crate::plugin::ports::{usk_inet_bind, usk_unhash};
use crate::plugin::skb::{usk_skb_free, usk_skb_t};
use crate::plugin::sock::usk_error_report;
use crate::stacks::stack_of;
use std::ffi::{CStr, c_void};
use std::io::{IoSlice, IoSliceMut};
use std::sync::Mutex;
use usersock::net::Socket;
use usersock::sock::layer::{Layer, Layered};
use usersock::sock::pages::Pages;

unsafe extern "C-unwind" fn never_send(_: *mut usk_sock_t, _: *mut usk_sendmsg_t) -> isize {
    -(libc::EXDEV as isize)
}
unsafe extern "C-unwind" fn never_recv(_: *mut usk_sock_t, _: *mut usk_recvmsg_t) -> isize {
    -(libc::EXDEV as isize)
}
unsafe extern "C-unwind" fn drop_it(_: *mut usk_owned_t, skb: *mut usk_skb_t) {
    // SAFETY: the packet is this operation's.
    unsafe { usk_skb_free(skb) };
}
unsafe extern "C-unwind" fn agree(_: *mut usk_owned_t, _: c_int) -> c_int {
    0
}
/// Returns the length of the message; for four bytes it returns one too many.
unsafe extern "C-unwind" fn send_owned(_: *mut usk_owned_t, msg: *mut usk_sendmsg_t) -> isize {
    // SAFETY: the message is this operation's.
    let n = unsafe { usk_sendmsg_len(msg) } as isize;
    if n == 4 { 5 } else { n }
}
unsafe extern "C-unwind" fn recv_owned(_: *mut usk_owned_t, msg: *mut usk_recvmsg_t) -> isize {
    // SAFETY: the message is this operation's.
    unsafe { usk_recvmsg_put(msg, c"owned".as_ptr().cast(), 5) }
}
unsafe extern "C-unwind" fn poll_owned(_: *mut usk_owned_t) -> u32 {
    libc::POLLPRI as u32
}

/// The arguments that sendpage and splice_eof got, on the sock with the highest protocol number.
static PAGES: Mutex<Vec<String>> = Mutex::new(Vec::new());

unsafe extern "C-unwind" fn page(_: *mut usk_sock_t, data: *const c_void, len: usize, flags: c_int) -> isize {
    // SAFETY: the operation's arguments.
    let bytes = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), len) };
    PAGES.lock().unwrap().push(format!("{} {}", String::from_utf8_lossy(bytes), flags & libc::MSG_MORE != 0));
    len as isize
}
unsafe extern "C-unwind" fn page_end(_: *mut usk_sock_t) {
    PAGES.lock().unwrap().push("end".to_owned());
}
/// Binds to even ports only, else as usk_inet_bind.
unsafe extern "C-unwind" fn bind_even(o: *mut usk_owned_t, addr: *const usk_addr_t) -> c_int {
    // SAFETY: the operation's arguments.
    unsafe { if (*addr).port % 2 == 1 { -libc::EDOM } else { usk_inet_bind(o, addr) } }
}

/// Calls of the operations below.
static ASKED: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn asked(what: String) {
    ASKED.lock().unwrap().push(what);
}
unsafe extern "C-unwind" fn no_room(_: *const c_void, wake: c_int) -> c_int {
    asked(format!("stream_memory_free {wake}"));
    0
}
unsafe extern "C-unwind" fn give_port_back(o: *mut usk_owned_t) {
    asked("put_port".to_owned());
    // SAFETY: owned.
    unsafe { usk_unhash(o) };
}
unsafe extern "C-unwind" fn end_it(sk: *mut usk_sock_t, err: c_int) -> c_int {
    asked(format!("diag_destroy {err}"));
    // SAFETY: the operation's sock.
    unsafe { usk_error_report(sk, err) }
}
unsafe extern "C-unwind" fn option(_: *mut usk_sock_t, _: c_int, name: c_int, to: *mut c_void, len: usize) -> isize {
    if len == 0 {
        return 0;
    }
    // SAFETY: writable for len bytes.
    unsafe { to.cast::<u8>().write(name as u8) };
    1
}
unsafe extern "C-unwind" fn goes_past(_: c_int, name: c_int) -> c_int {
    (name == 7).into()
}

fn table(name: &'static CStr, protocol: c_int) -> usk_proto {
    // SAFETY: all zero is the empty table.
    let mut t: usk_proto = unsafe { std::mem::zeroed() };
    t.version = USK_PROTO_VERSION;
    t.size = size_of::<usk_proto>() as u32;
    (t.name, t.socket_type, t.protocol, t.flags) = (name.as_ptr(), libc::SOCK_DGRAM, protocol, USK_PROTO_V4);
    t.sendmsg = Some(never_send);
    t.recvmsg = Some(never_recv);
    t.backlog_rcv = Some(drop_it);
    t.update_proto = Some(agree);
    t
}

unsafe extern "C-unwind" fn init(plugin: *mut usk_plugin_t) -> c_int {
    let mut whole = table(c"WHOLE", 253);
    whole.sendmsg_locked = Some(send_owned);
    whole.recvmsg_locked = Some(recv_owned);
    whole.poll_locked = Some(poll_owned);
    let bare = table(c"BARE", 254);
    let mut owned = whole;
    (owned.name, owned.protocol) = (c"OWNED".as_ptr(), 252);
    (owned.sendmsg, owned.recvmsg, owned.poll) = (None, None, None);
    let mut paged = table(c"PAGED", 251);
    paged.sendpage = Some(page);
    paged.splice_eof = Some(page_end);
    paged.bind = Some(bind_even);
    let mut asked = table(c"ASKED", 250);
    (asked.obj_size, asked.max_header, asked.timewait_size, asked.request_size) = (4096, 96, 40, 24);
    asked.stream_memory_free = Some(no_room);
    asked.put_port = Some(give_port_back);
    asked.diag_destroy = Some(end_it);
    asked.getsockopt = Some(option);
    asked.bypass_getsockopt = Some(goes_past);
    [whole, bare, owned, paged, asked]
        .iter()
        // SAFETY: the plug-in is valid, the tables are whole.
        .map(|t| unsafe { usk_proto_register(plugin, t, std::ptr::null_mut(), std::ptr::null_mut()) })
        .sum()
}

/// A layer whose operations are all those of the protocol below.
struct Thin;
impl Layer for Thin {}

fn layered(stack: &Arc<Stack>, protocol: i32) -> Socket {
    let s = Socket::new(stack, libc::AF_INET, libc::SOCK_DGRAM, protocol).unwrap();
    let below = s.sock().proto().cloned();
    s.sock().lock(stack).replace_proto(Arc::new(Layered::new(Thin, below))).unwrap();
    s
}

fn send(s: &Socket, data: &[u8]) -> Result<usize> {
    s.sendmsg(&mut SendMsg::new(&[IoSlice::new(data)], 0))
}

fn recv(s: &Socket) -> Result<Vec<u8>> {
    let mut buf = vec![0; 16];
    let n = s.recvmsg(&mut RecvMsg::new(&mut [IoSliceMut::new(&mut buf)], 0))?;
    buf.truncate(n);
    Ok(buf)
}

/// A stack with the three protocols.
fn with_plugin(f: impl FnOnce(&Arc<Stack>)) {
    // SAFETY: a null config is the loopback alone; the handles are freed below. The name is a string.
    let (handle, stack, plugin) = unsafe {
        let handle = usk_stack_new(std::ptr::null());
        (handle, stack_of(handle).unwrap(), usk_plugin_attach(handle, c"test".as_ptr(), Some(init)))
    };
    assert!(!plugin.is_null());
    f(&stack);
    // SAFETY: valid, and not used afterwards.
    unsafe {
        assert_eq!(usk_plugin_unload(plugin), 0);
        usk_stack_free(handle);
    }
}

#[test]
fn a_layer_over_a_protocol_from_c_works_through_its_owned_operations() {
    with_plugin(|stack| {
        let (whole, bare) = (layered(stack, 253), layered(stack, 254));
        assert_eq!((send(&whole, b"abc"), recv(&whole)), (Ok(3), Ok(b"owned".to_vec())));
        assert_eq!(whole.poll(), Events::PRI);
        assert_eq!((send(&bare, b"abc"), recv(&bare)), (Err(Error::OpNotSupp), Err(Error::OpNotSupp)));
        assert_eq!(bare.poll().0 & Events::IN.0, 0, "null: what the queues say");
        // Returning more than was offered breaks this socket and no other.
        assert_eq!((send(&whole, b"abcd"), recv(&whole)), (Err(Error::Io), Err(Error::Io)));
        assert_eq!(send(&bare, b"abcd"), Err(Error::OpNotSupp));
    });
}

#[test]
fn where_sendmsg_recvmsg_and_poll_are_null_the_sock_is_owned_for_the_others() {
    with_plugin(|stack| {
        let open = || Socket::new(stack, libc::AF_INET, libc::SOCK_DGRAM, 252).unwrap();
        let s = open();
        assert_eq!((send(&s, b"abc"), recv(&s), s.poll()), (Ok(3), Ok(b"owned".to_vec()), Events::PRI));
        // The sock is not owned here, or this would deadlock.
        drop(s.sock().lock(stack));
        assert_eq!((send(&s, b"abcd"), recv(&s)), (Err(Error::Io), Err(Error::Io)));
        assert_eq!(send(&open(), b"abc"), Ok(3));
    });
}

fn send_page<const N: usize>(s: &Socket, bytes: &[u8; N], flags: i32) -> Result<usize> {
    s.sendpage(&mut Pages::from(bytes), flags)
}

#[test]
fn a_file_s_bytes_come_to_sendpage_and_its_end_to_splice_eof() {
    with_plugin(|stack| {
        let s = Socket::new(stack, libc::AF_INET, libc::SOCK_DGRAM, 251).unwrap();
        assert_eq!(send_page(&s, b"all", 0), Ok(3));
        assert_eq!(send_page(&s, b"part", libc::MSG_MORE), Ok(4));
        s.splice_eof();
        assert_eq!(*PAGES.lock().unwrap(), ["all false", "part true", "end"]);
        // With sendpage null sendmsg is called, and with splice_eof null nothing.
        let s = Socket::new(stack, libc::AF_INET, libc::SOCK_DGRAM, 252).unwrap();
        assert_eq!(send_page(&s, b"abc", libc::MSG_MORE), Ok(3));
        s.splice_eof();
        // On a broken sock neither is called.
        assert_eq!((send_page(&s, b"abcd", 0), send_page(&s, b"abc", 0)), (Err(Error::Io), Err(Error::Io)));
        s.splice_eof();
    });
}

#[test]
fn bind_is_the_protocol_s_where_it_has_one() {
    with_plugin(|stack| {
        let s = Socket::new(stack, libc::AF_INET, libc::SOCK_DGRAM, 251).unwrap();
        let at = |port| std::net::SocketAddr::from(([127, 0, 0, 1], port));
        assert_eq!(s.bind(at(4001)), Err(Error::Dom));
        assert_eq!((s.bind(at(4000)), s.local_addr()), (Ok(()), Ok(at(4000))));
        assert_eq!(s.bind(at(4002)), Err(Error::Inval), "bound already");
        let other = Socket::new(stack, libc::AF_INET, libc::SOCK_DGRAM, 251).unwrap();
        assert_eq!(
            (other.bind(at(4000)), other.bind(([9, 9, 9, 9], 0).into())),
            (Err(Error::AddrInUse), Err(Error::AddrNotAvail))
        );
    });
}

#[test]
fn each_operation_is_asked_where_its_text_says() {
    /// A layer that handles all options itself.
    struct Greedy;
    impl Layer for Greedy {
        fn getsockopt(&self, _: &dyn Proto, _: SockRef<'_>, _: i32, _: i32, value: &mut [u8]) -> Result<usize> {
            value[0] = 99;
            Ok(1)
        }
    }
    let heard = || std::mem::take(&mut *ASKED.lock().unwrap());
    with_plugin(|stack| {
        let s = Socket::new(stack, libc::AF_INET, libc::SOCK_DGRAM, 250).unwrap();
        assert!(!s.poll().intersects(Events::OUT), "the protocol says there is no room");
        assert_eq!(heard(), ["stream_memory_free 0"]);
        s.bind(([127, 0, 0, 1], 4100).into()).unwrap();
        assert_eq!(s.destroy(), Ok(()));
        assert_eq!((recv(&s), heard()), (Err(Error::XDev), vec![format!("diag_destroy {}", libc::ECONNABORTED)]));
        assert_eq!(s.sock().take_error(), Err(Error::ConnAborted));
        drop(s);
        assert_eq!(heard(), ["put_port"]);
        let unbound = Socket::new(stack, libc::AF_INET, libc::SOCK_DGRAM, 250).unwrap();
        drop(unbound);
        assert!(heard().is_empty(), "it had no port");

        let s = Socket::new(stack, libc::AF_INET, libc::SOCK_DGRAM, 251).unwrap();
        assert_eq!(s.destroy(), Err(Error::OpNotSupp));

        let s = Socket::new(stack, libc::AF_INET, libc::SOCK_DGRAM, 250).unwrap();
        let below = s.sock().proto().cloned();
        let layered = Layered::new(Greedy, below);
        let option = |name| {
            let mut value = [0];
            let sk = SockRef { stack, sock: s.sock() };
            assert_eq!(layered.getsockopt(sk, 999, name, &mut value), Ok(1));
            value[0]
        };
        assert_eq!((option(6), option(7)), (99, 7), "7 goes past the layer");
    });
}

#[test]
fn a_listing_shows_what_the_tables_say() {
    with_plugin(|stack| {
        let held = Socket::new(stack, libc::AF_INET, libc::SOCK_DGRAM, 250).unwrap();
        let all = stack.registry.list();
        let line = |name: &str| all.iter().find(|l| l.name == name).unwrap();
        let asked = line("ASKED");
        assert_eq!((asked.sockets, &asked.keys[..]), (1, &[(libc::AF_INET, libc::SOCK_DGRAM, 250)][..]));
        assert_eq!((asked.max_header, asked.timewait_size, asked.request_size), (96, 40, 24));
        assert!(asked.obj_size >= 4096 + size_of::<Sock>() && asked.module.is_none(), "its code is this program's");
        assert!(line("TCP").timewait_size > 0 && all.windows(2).all(|w| w[0].name < w[1].name));
        drop(held);
    });
}
