//! Calls during which another thread replaces the layer.

use super::*;
use crate::admin::{usk_stack_free, usk_stack_new};
use crate::plugin::guard::guard;
use crate::plugin::load::{usk_plugin_attach, usk_plugin_unload};
use crate::plugin::msg::{usk_recvmsg_t, usk_sendmsg_t};
use crate::stacks::stack_of;
use std::ffi::CStr;
use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddr};
use usersock::net::Socket;

unsafe extern "C-unwind" fn begin_one(_: *mut usk_owned_t, ulp: *const usk_ulp_t) -> c_int {
    // SAFETY: data_size says eight bytes.
    unsafe { (*ulp).data.cast::<u64>().write(1) };
    0
}
/// Refuses everything, and checks that the memory is its own.
unsafe extern "C-unwind" fn send_one(_: *mut usk_owned_t, ulp: *const usk_ulp_t, _: *mut usk_sendmsg_t) -> isize {
    // SAFETY: as above.
    assert_eq!(unsafe { (*ulp).data.cast::<u64>().read() }, 1);
    -(libc::EXDEV as isize)
}
unsafe extern "C-unwind" fn recv_one(_: *mut usk_owned_t, _: *const usk_ulp_t, _: *mut usk_recvmsg_t) -> isize {
    -(libc::EXDEV as isize)
}
/// Tries to remove itself in its own init.
unsafe extern "C-unwind" fn begin_two(o: *mut usk_owned_t, ulp: *const usk_ulp_t) -> c_int {
    // SAFETY: the operation's arguments.
    unsafe {
        assert_eq!(((*ulp).data as usize % 16, (*ulp).data.cast::<u64>().read()), (0, 0), "its own, and clean");
        assert_eq!(usersock::tcp::ulp::remove(guard(o).unwrap()), Err(Error::Busy));
    }
    0
}

fn table(name: &'static CStr) -> usk_ulp_ops {
    // SAFETY: all zero is the empty table.
    let mut t: usk_ulp_ops = unsafe { std::mem::zeroed() };
    t.version = USK_ULP_VERSION;
    t.size = size_of::<usk_ulp_ops>() as u32;
    (t.name, t.data_size) = (name.as_ptr(), 8);
    t
}

unsafe extern "C-unwind" fn init(plugin: *mut usk_plugin_t) -> c_int {
    let one = usk_ulp_ops { init: Some(begin_one), sendmsg: Some(send_one), recvmsg: Some(recv_one), ..table(c"one") };
    // As built against the header before `disconnect` was added.
    let size = usk_ulp_ops::FIRST_SIZE as u32;
    let two = usk_ulp_ops { init: Some(begin_two), size, ..table(c"two") };
    [one, two]
        .iter()
        // SAFETY: the plug-in is valid, the tables are whole.
        .map(|t| unsafe { usk_ulp_register(plugin, t, std::ptr::null_mut(), std::ptr::null_mut()) })
        .sum()
}

fn connection(stack: &Arc<Stack>) -> (Socket, Socket) {
    let socket = || Socket::new(stack, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
    let (l, c) = (socket(), socket());
    l.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 7000))).unwrap();
    l.listen(1).unwrap();
    c.connect(Some(l.local_addr().unwrap())).unwrap();
    let (s, _) = l.accept().unwrap();
    (c, s)
}

#[test]
fn a_call_that_waited_while_its_protocol_was_exchanged_never_sees_the_others_memory() {
    // SAFETY: a null config is the loopback alone; the handles are freed below. The name is a string.
    let (handle, stack, plugin) = unsafe {
        let handle = usk_stack_new(std::ptr::null());
        (handle, stack_of(handle).unwrap(), usk_plugin_attach(handle, c"test".as_ptr(), Some(init)))
    };
    assert!(!plugin.is_null());
    let (c, s) = connection(&stack);
    let set = |name: &[u8]| c.setsockopt(libc::IPPROTO_TCP, libc::TCP_ULP, name);
    set(b"one").unwrap();
    let send = |proto: &dyn Proto| {
        let sk = SockRef { stack: c.stack(), sock: c.sock() };
        proto.sendmsg(sk, &mut SendMsg::new(&[IoSlice::new(b"late")], 0))
    };
    let one = c.sock().proto().cloned();
    assert_eq!(send(&*one), Err(Error::XDev));
    c.remove_ulp().unwrap();
    assert_eq!(send(&*one), Ok(4), "nothing is there: plain");
    set(b"two").unwrap();
    assert_eq!(send(&*one), Ok(4), "another is there");
    assert_eq!(c.setsockopt(libc::IPPROTO_TCP, libc::TCP_ULP, b"one"), Err(Error::Exist));
    drop((c, s, one));
    // SAFETY: valid, and not used afterwards.
    unsafe {
        usk_plugin_unload(plugin);
        usk_stack_free(handle);
    }
}
