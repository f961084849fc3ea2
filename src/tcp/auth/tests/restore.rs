//! TCP_AO_REPAIR: a signed connection goes on in another sock.

use super::ao::{Add, FIRST, Peer, SECOND, add_key, answer, info};
use crate::base::error::{Error, Result};
use crate::inet::Socket;
use crate::sock::msg::SendMsg;
use crate::sock::state::State;
use crate::tcp::peer_test::{ACK, Host, PSH, Seg, THERE};
use crate::tcp::sockopt::opt;
use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr};

/// Where the restored connection is: both ends are about to cross the wrap.
const SND: u32 = 0xffff_fff0;
const RCV: u32 = 0xffff_fffa;

fn set(s: &Socket, name: i32, value: i32) {
    s.setsockopt(libc::IPPROTO_TCP, name, &value.to_ne_bytes()).unwrap();
}

fn send(s: &Socket, data: &[u8]) {
    assert_eq!(s.sendmsg(&mut SendMsg::new(&[IoSlice::new(data)], 0)), Ok(data.len()));
}

/// struct tcp_ao_repair.
fn set_repair(s: &Socket, isns: (u32, u32), snes: (u32, u32)) -> Result<()> {
    let v = [isns.0.to_be_bytes(), isns.1.to_be_bytes(), snes.0.to_ne_bytes(), snes.1.to_ne_bytes()].concat();
    s.setsockopt(libc::IPPROTO_TCP, opt::AO_REPAIR, &v)
}

fn repair(s: &Socket) -> Result<(u32, u32, u32, u32)> {
    let mut v = [0; 16];
    assert_eq!(s.getsockopt(libc::IPPROTO_TCP, opt::AO_REPAIR, &mut v)?, 16);
    let be = |at: usize| u32::from_be_bytes(v[at..at + 4].try_into().unwrap());
    let ne = |at: usize| u32::from_ne_bytes(v[at..at + 4].try_into().unwrap());
    Ok((be(0), be(4), ne(8), ne(12)))
}

/// A sock in repair mode that is connected with these numbers.
fn restored(host: &Host, key: Option<(u8, u8)>) -> Socket {
    let s = Socket::new(&host.bench.stack, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
    s.set_nonblocking(true);
    set(&s, opt::REPAIR, 1);
    for (queue, seq) in [(2, SND), (1, RCV)] {
        set(&s, opt::REPAIR_QUEUE, queue);
        set(&s, opt::QUEUE_SEQ, seq as i32);
    }
    if let Some(ids) = key {
        add_key(&s, ids);
    }
    s.connect(Some(SocketAddr::new(IpAddr::V4(THERE), 4000))).unwrap();
    assert_eq!(s.sock().state(), State::Established);
    // struct tcp_repair_window.
    let window = [RCV - 1, 1_000, 1_000, 10_000, RCV].map(u32::to_ne_bytes).concat();
    s.setsockopt(libc::IPPROTO_TCP, opt::REPAIR_WINDOW, &window).unwrap();
    s
}

#[test]
fn a_restored_connection_goes_on_with_its_keys_and_extensions() {
    // The key is added before the sock connects, or after.
    for before in [true, false] {
        let host = Host::new(8);
        let s = restored(&host, before.then_some(FIRST));
        if !before {
            add_key(&s, FIRST);
        }
        assert_eq!(info(&s).1, FIRST);
        set_repair(&s, (0x1000, 0x2000), (7, 9)).unwrap();
        assert_eq!(repair(&s), Ok((0x1000, 0x2000, 7, 9)));
        set(&s, opt::REPAIR, -1);
        assert_eq!(repair(&s), Err(Error::Perm), "out of repair mode");
        assert_eq!(set_repair(&s, (0, 0), (0, 0)), Err(Error::Perm));
        let host_port = s.local_addr().unwrap().port();
        let (isn, host_isn, sne, host_sne) = (0x2000, 0x1000, 9, 7);
        let mut peer = Peer { host_port, isn, host_isn, sne, host_sne, ..Peer::new(4000, FIRST) };
        let data = |seq: u32, ack: u32| Seg { data: vec![1; 10], ..peer.seg(ACK | PSH, seq, ack) };
        assert_eq!(answer(&host, &peer, &peer.sign(&data(RCV, SND))), [(Some(FIRST), ACK)]);
        let next = data(RCV.wrapping_add(10), SND);
        send(&s, &[5; 32]);
        let sent = host.bench.poll();
        assert_eq!(peer.verify(&sent[0]), Some(FIRST), "it begins before the wrap");
        // Both ends have crossed it.
        let ack = SND.wrapping_add(32);
        peer.sne = 10;
        host.bench.inject(&peer.sign(&Seg { ack, ..next }));
        send(&s, &[5; 8]);
        let sent = host.bench.poll();
        peer.host_sne = 8;
        assert_eq!(sent.iter().map(|d| peer.verify(d)).collect::<Vec<_>>(), [Some(FIRST)]);
        set(&s, opt::REPAIR, 1);
        assert_eq!(repair(&s), Ok((0x1000, 0x2000, 8, 10)));
    }
}

#[test]
fn only_a_sock_in_repair_mode_with_keys_shows_the_numbers() {
    let host = Host::new(8);
    assert_eq!(
        (repair(&host.listener), set_repair(&host.listener, (0, 0), (0, 0))),
        (Err(Error::Perm), Err(Error::Perm))
    );
    let s = restored(&host, None);
    assert_eq!((repair(&s), set_repair(&s, (0, 0), (0, 0))), (Err(Error::NoEnt), Err(Error::NoEnt)));
    let short = s.setsockopt(libc::IPPROTO_TCP, opt::AO_REPAIR, &[0; 15]);
    assert_eq!(short, Err(Error::Inval));
    let long = s.setsockopt(libc::IPPROTO_TCP, opt::AO_REPAIR, &[1; 17]);
    assert_eq!(long, Err(Error::TooBig));
    // A connection gets its first key by TCP_AO_ADD_KEY alone.
    assert_eq!(s.setsockopt(libc::IPPROTO_TCP, opt::AO_INFO, &[0; 48]), Err(Error::Inval));
    assert_eq!(Add::new(THERE, 32, SECOND).to(&s), Ok(()));
    assert_eq!(info(&s).1, SECOND);
}
