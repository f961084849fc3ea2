use super::super::cong_tcp::{usk_tcp_reno_ssthresh, usk_tcp_reno_undo_cwnd};
use super::super::load::usk_plugin_attach;
use super::*;
use crate::admin;
use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use usersock::device::link::{Direction, LinkConfig};
use usersock::env::Duration;
use usersock::net::Socket;
use usersock::sim::World;
use usersock::sock::msg::{RecvMsg, SendMsg};

unsafe extern "C-unwind" fn panics(_: *mut usk_tcp_t, _: *mut c_void, _: u32, _: u32) {
    panic!("on purpose");
}

unsafe extern "C-unwind" fn init(plugin: *mut usk_plugin_t) -> c_int {
    let ops = usk_cong_ops {
        version: USK_CONG_VERSION,
        size: size_of::<usk_cong_ops>() as u32,
        name: c"panics".as_ptr(),
        mib_names: std::ptr::null(),
        sysctls: std::ptr::null(),
        flags: USK_CONG_NON_RESTRICTED,
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
        pkts_delivered: None,
    };
    // SAFETY: the argument of an entry point, a complete table, a null `out`.
    unsafe { usk_cong_register(plugin, &ops, std::ptr::null_mut(), std::ptr::null_mut()) }
}

fn send(s: &Socket) -> Result<usize> {
    s.sendmsg(&mut SendMsg::new(&[IoSlice::new(&[7; 1000])], libc::MSG_NOSIGNAL))
}

#[test]
fn a_function_that_unwinds_breaks_its_socket_and_no_other() {
    let world = World::new(1);
    let [(a, _), (b, eb)] = world.two(&LinkConfig::default()).unwrap();
    let stack = crate::stacks::give_stack(a.clone());
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
    assert_eq!(usersock::tcp::cong::unregister(&a, "panics"), Err(Error::Busy));
    drop(bad);
    world.run_for(Duration::from_secs(600));
    assert_eq!((send(&good), usersock::tcp::cong::unregister(&a, "panics")), (Ok(1000), Ok(())));
}

/// Random numbers of a wild algorithm, small and extreme ones, the same for each seed.
static WILD: AtomicU64 = AtomicU64::new(0);

fn wild() -> u64 {
    let mut x = WILD.load(Ordering::Relaxed);
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    WILD.store(x, Ordering::Relaxed);
    match x % 8 {
        0 => u64::MAX - (x >> 20) % 3,
        1 => 1 << ((x >> 20) % 64),
        2 => 0,
        _ => (x >> 20) % 3000,
    }
}

fn scribble(tp: *mut usk_tcp_t) {
    // SAFETY: a congestion control's argument.
    let tp = unsafe { &mut *tp };
    let before = *tp;
    if wild().is_multiple_of(3) {
        tp.snd_cwnd = wild() as u32;
        tp.snd_cwnd_cnt = wild() as u32;
        tp.snd_ssthresh = wild() as u32;
        tp.snd_cwnd_clamp = (wild() as u32).max(4);
        tp.app_limited = wild() as u32;
        // At a lower rate the transfer would not finish in the test's time.
        tp.pacing_rate = wild().saturating_add(100_000);
        tp.needs_pacing = u32::from(wild().is_multiple_of(64));
    }
    // It may not write this: ignored.
    tp.snd_una = wild() as u32;
    tp.packets_out = wild() as u32;
    tp.mss_cache = wild() as u32;
    assert!(before.snd_cwnd >= 1 && before.snd_cwnd_clamp >= 1 && before.snd_ssthresh >= 1 && before.mss_cache > 0);
}

unsafe extern "C-unwind" fn wild_event(tp: *mut usk_tcp_t, _: *mut c_void) {
    scribble(tp);
}
unsafe extern "C-unwind" fn wild_answer(tp: *mut usk_tcp_t, _: *mut c_void) -> u32 {
    scribble(tp);
    wild() as u32
}
unsafe extern "C-unwind" fn wild_look(_: *const usk_tcp_t, _: *mut c_void) -> u32 {
    wild() as u32
}
unsafe extern "C-unwind" fn wild_avoid(tp: *mut usk_tcp_t, _: *mut c_void, _: u32, _: u32) {
    scribble(tp);
}
unsafe extern "C-unwind" fn wild_control(
    tp: *mut usk_tcp_t,
    _: *mut c_void,
    _: u32,
    _: u32,
    _: *const usk_rate_sample_t,
) {
    scribble(tp);
}
unsafe extern "C-unwind" fn wild_acked(tp: *mut usk_tcp_t, _: *mut c_void, _: *const usk_ack_sample_t) {
    scribble(tp);
}
unsafe extern "C-unwind" fn wild_flags(tp: *mut usk_tcp_t, _: *mut c_void, _: u32) {
    scribble(tp);
}
unsafe extern "C-unwind" fn wild_state(tp: *mut usk_tcp_t, _: *mut c_void, _: u8) {
    scribble(tp);
}
unsafe extern "C-unwind" fn wild_cwnd_event(tp: *mut usk_tcp_t, _: *mut c_void, _: c_int) {
    scribble(tp);
}

unsafe extern "C-unwind" fn wild_delivered(tp: *mut usk_tcp_t, _: *mut c_void, _: *const usk_pkt_sample_t, _: u32) {
    scribble(tp);
}

/// "wild" has cong_avoid and the standard reduction, "wilder" has cong_control.
unsafe extern "C-unwind" fn init_wild(plugin: *mut usk_plugin_t) -> c_int {
    let mut ops = usk_cong_ops {
        version: USK_CONG_VERSION,
        size: size_of::<usk_cong_ops>() as u32,
        name: c"wild".as_ptr(),
        mib_names: std::ptr::null(),
        sysctls: std::ptr::null(),
        flags: USK_CONG_NEEDS_ECN,
        priv_size: 8,
        init: Some(wild_event),
        release: Some(wild_event),
        ssthresh: Some(wild_answer),
        cong_avoid: Some(wild_avoid),
        cong_control: None,
        pkts_acked: Some(wild_acked),
        in_ack_event: Some(wild_flags),
        set_state: Some(wild_state),
        cwnd_event: Some(wild_cwnd_event),
        undo_cwnd: Some(wild_answer),
        min_tso_segs: Some(wild_look),
        sndbuf_expand: Some(wild_look),
        get_info: None,
        pkts_delivered: Some(wild_delivered),
    };
    // SAFETY: the argument of an entry point, complete tables, a null `out`.
    unsafe {
        let r = usk_cong_register(plugin, &ops, std::ptr::null_mut(), std::ptr::null_mut());
        ops.name = c"wilder".as_ptr();
        ops.cong_control = Some(wild_control);
        r + usk_cong_register(plugin, &ops, std::ptr::null_mut(), std::ptr::null_mut())
    }
}

#[test]
fn whatever_an_algorithm_writes_and_answers_no_byte_is_lost_and_nothing_panics() {
    for seed in 1..=4u64 {
        WILD.store(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), Ordering::Relaxed);
        let world = World::new(seed);
        let bad = Direction::default()
            .rate(50_000_000)
            .delay(Duration::from_millis(5))
            .ecn_threshold(20_000)
            .loss(0.02)
            .reorder(0.02)
            .reorder_by(Duration::from_millis(3))
            .duplicate(0.01);
        let [(a, _), (b, eb)] = world.two(&LinkConfig::both(bad)).unwrap();
        for s in [&a, &b] {
            let stack = crate::stacks::give_stack(s.clone());
            // SAFETY: a stack of ours, a string, an entry point.
            assert!(!unsafe { usk_plugin_attach(stack, c"wild".as_ptr(), Some(init_wild)) }.is_null());
            // SAFETY: made above.
            unsafe { admin::usk_stack_free(stack) };
            let name = if seed % 2 == 0 { "wild" } else { "wilder" };
            s.sysctl.set("net.ipv4.tcp_congestion_control", name).unwrap();
        }
        let to = SocketAddr::new(eb.v4.into(), 80);
        let listener = Socket::new(&b, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
        listener.bind(to).unwrap();
        listener.listen(2).unwrap();
        let client = Socket::new(&a, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
        client.connect(Some(to)).unwrap();
        let server = listener.accept().unwrap().0;
        let (mut sent, mut got) = (0u64, 0u64);
        let byte = |at: u64| (at * 31 + at / 251) as u8;
        client.set_nonblocking(true);
        server.set_nonblocking(true);
        for _ in 0..600 {
            let chunk: Vec<u8> = (sent..sent + 20_000).map(byte).collect();
            match client.sendmsg(&mut SendMsg::new(&[IoSlice::new(&chunk)], libc::MSG_NOSIGNAL)) {
                Ok(n) => sent += n as u64,
                Err(e) => assert_eq!(e, Error::Again, "seed {seed}"),
            }
            world.run_for(Duration::from_millis(100));
            let mut buf = [0u8; 65536];
            while let Ok(n) = server.recvmsg(&mut RecvMsg::new(&mut [IoSliceMut::new(&mut buf)], 0)) {
                assert!(buf[..n].iter().zip(got..).all(|(b, at)| *b == byte(at)), "seed {seed}, after byte {got}");
                got += n as u64;
            }
        }
        assert!(got > 100_000 && got <= sent, "seed {seed}: {got} of {sent} bytes");
    }
}
