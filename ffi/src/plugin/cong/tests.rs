use super::super::cong_tcp::{usk_tcp_reno_ssthresh, usk_tcp_reno_undo_cwnd};
use super::super::load::usk_plugin_attach;
use super::*;
use crate::admin;
use std::io::IoSlice;
use std::net::SocketAddr;
use usersock::device::link::LinkConfig;
use usersock::env::Duration;
use usersock::inet::Socket;
use usersock::sim::World;
use usersock::sock::msg::SendMsg;

unsafe extern "C-unwind" fn panics(_: *mut usk_tcp_t, _: *mut c_void, _: u32, _: u32) {
    panic!("on purpose");
}

unsafe extern "C-unwind" fn init(plugin: *mut usk_plugin_t) -> c_int {
    let ops = usk_cong_ops {
        version: USK_CONG_VERSION,
        size: size_of::<usk_cong_ops>() as u32,
        name: c"panics".as_ptr(),
        flags: 0,
        priv_size: 0,
        init: None,
        release: None,
        ssthresh: Some(usk_tcp_reno_ssthresh),
        cong_avoid: Some(panics),
        cong_control: None,
        pkts_acked: None,
        in_ack_event: None,
        set_state: None,
        cwnd_event: None,
        undo_cwnd: Some(usk_tcp_reno_undo_cwnd),
        min_tso_segs: None,
        sndbuf_expand: None,
        get_info: None,
    };
    // SAFETY: the argument of an entry point, a whole table, no answer wanted.
    unsafe { usk_cong_register(plugin, &ops, std::ptr::null_mut()) }
}

fn send(s: &Socket) -> Result<usize> {
    s.sendmsg(&mut SendMsg::new(&[IoSlice::new(&[7; 1000])], libc::MSG_NOSIGNAL))
}

#[test]
fn a_function_that_unwinds_breaks_its_socket_and_no_other() {
    let world = World::new(1);
    let [(a, _), (b, eb)] = world.two(&LinkConfig::default()).unwrap();
    let stack = admin::give_stack(a.clone());
    // SAFETY: a stack of ours, a string, an entry point.
    assert!(!unsafe { usk_plugin_attach(stack, c"panics".as_ptr(), Some(init)) }.is_null());
    // SAFETY: made above.
    unsafe { admin::usk_stack_free(stack) };
    let to = SocketAddr::new(eb.v4.into(), 80);
    let stream = |stack| Socket::new(stack, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
    let listener = stream(&b);
    listener.bind(to).unwrap();
    listener.listen(2).unwrap();
    let (bad, good) = (stream(&a), stream(&a));
    bad.setsockopt(libc::IPPROTO_TCP, libc::TCP_CONGESTION, b"panics").unwrap();
    for s in [&bad, &good] {
        s.connect(Some(to)).unwrap();
        assert_eq!(send(s), Ok(1000));
    }
    world.run_for(Duration::from_secs(1));
    assert_eq!((send(&bad), send(&good)), (Err(Error::Io), Ok(1000)));
    assert_eq!(a.cong.unregister("panics"), Err(Error::Busy));
    drop(bad);
    world.run_for(Duration::from_secs(600));
    assert_eq!((send(&good), a.cong.unregister("panics")), (Ok(1000), Ok(())));
}
