//! TCP_AO_ADD_KEY, TCP_AO_DEL_KEY, TCP_AO_INFO and TCP_AO_GET_KEYS: what they take, show and refuse.

use super::ao::{Add, FIRST, Peer, SECOND, SECRET, add_key, connection, flags_of, mibs, set_info};
use crate::base::error::{Error, Result};
use crate::counters::Mib;
use crate::inet::Socket;
use crate::tcp::peer_test::{ACK, Host, ISS, SYN, SYN_OPTIONS, Seg, THERE};
use crate::tcp::sockopt::opt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// struct tcp_ao_getsockopt of all keys, as TCP_AO_GET_KEYS gives them into `room` places: their ids.
fn get_keys(s: &Socket, room: usize, edit: impl Fn(&mut [u8])) -> Result<(u32, Vec<Vec<u8>>)> {
    let mut v = vec![0; 304 * room.max(1)];
    v[272..276].copy_from_slice(&(room as u32).to_ne_bytes());
    edit(&mut v);
    assert_eq!(s.getsockopt(libc::IPPROTO_TCP, opt::AO_GET_KEYS, &mut v)?, 304);
    let n = u32::from_ne_bytes(v[272..276].try_into().unwrap());
    Ok((n, v.chunks(304).take(room.min(n as usize)).map(<[u8]>::to_vec).collect()))
}

const ALL: u16 = 4;

pub(super) fn keys(s: &Socket) -> Vec<(u8, u8)> {
    let all = get_keys(s, 9, |v| v[276..278].copy_from_slice(&ALL.to_ne_bytes())).unwrap();
    all.1.iter().map(|k| (k[278], k[279])).collect()
}

#[test]
fn keys_are_listed_as_they_were_added_with_what_they_counted() {
    let host = Host::new(8);
    let s = &host.listener;
    assert_eq!(get_keys(s, 1, |_| {}).err(), Some(Error::NoEnt));
    add_key(s, FIRST);
    Add::new(Ipv4Addr::new(192, 0, 2, 0), 24, SECOND).alg("cmac(aes128)").maclen(10).flags(2).to(s).unwrap();
    assert_eq!(keys(s), [SECOND, FIRST], "the newest first");
    let peer = Peer::new(4000, FIRST);
    host.bench.inject(&peer.sign(&peer.seg(SYN, ISS, 0)));
    let by = |bits: u16| move |v: &mut [u8]| v[276..278].copy_from_slice(&bits.to_ne_bytes());
    let (n, one) = get_keys(s, 1, by(ALL)).unwrap();
    assert_eq!((n, one.len()), (2, 1), "there are more than have room");
    let k = &one[0];
    assert_eq!((&k[..8], &k[128..137]), (&Add::new(Ipv4Addr::new(192, 0, 2, 0), 24, SECOND).0[..8], &b"cmac(aes)"[..]));
    // Ids, prefix, length of the MAC, flags, length of the key: into 16 bytes others are hashed.
    assert_eq!(k[278..284], [200, 201, 24, 10, 2, 16]);
    let by_address = |prefix: u8, addr: [u8; 4], ids: (u8, u8)| {
        move |v: &mut [u8]| {
            v[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
            v[4..8].copy_from_slice(&addr);
            (v[278], v[279], v[280]) = (ids.0, ids.1, prefix);
        }
    };
    let (n, first) = get_keys(s, 2, by_address(32, THERE.octets(), FIRST)).unwrap();
    let good = u64::from_ne_bytes(first[0][288..296].try_into().unwrap());
    assert_eq!((n, &first[0][192..205], first[0][283], good), (1, SECRET, 13, 1));
    assert_eq!(get_keys(s, 2, by_address(32, THERE.octets(), SECOND)).unwrap().0, 0);
    assert_eq!(get_keys(s, 2, by_address(0, [0; 4], SECOND)).unwrap().0, 1, "any address");
    for (case, edit, want) in [
        ("all and the current one", by(5), Error::Inval),
        ("an unknown bit", by(8), Error::Inval),
        ("no way to choose", by(0), Error::AfNoSupport),
    ] {
        assert_eq!(get_keys(s, 1, edit).err(), Some(want), "{case}");
    }
    assert_eq!(get_keys(s, 1, by_address(33, THERE.octets(), FIRST)).err(), Some(Error::Inval));
    assert_eq!(
        get_keys(s, 1, by_address(24, THERE.octets(), FIRST)).err(),
        Some(Error::Inval),
        "bits behind the prefix"
    );
    // The keys in use of a connection.
    let (_host, _peer, c) = connection();
    for bits in [1, 2, 3] {
        let (n, k) = get_keys(&c.socket, 2, by(bits)).unwrap();
        assert_eq!((n, k[0][278], u16::from_ne_bytes([k[0][276], k[0][277]])), (1, FIRST.0, 3));
    }
}

#[test]
fn what_is_wrong_with_a_key_is_said_as_linux_says_it() {
    let host = Host::new(8);
    let s = Socket::new(&host.bench.stack, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
    let key = Add::new(THERE, 32, FIRST);
    let net = Ipv4Addr::new(10, 0, 0, 0);
    for (case, add, want) in [
        ("no such algorithm", key.clone().alg("hmac(crc32)"), Error::NoEnt),
        ("81 bytes of key", key.clone().at(207, &[81]), Error::Inval),
        ("a reserved bit", key.clone().bits(4), Error::Inval),
        ("reserved bytes", key.clone().at(200, &[1]), Error::Inval),
        ("an unknown flag", key.clone().flags(4), Error::Inval),
        ("a port", key.clone().at(3, &[1]), Error::Inval),
        ("another family", key.clone().at(0, &(libc::AF_INET6 as u16).to_ne_bytes()), Error::Inval),
        ("bits behind the prefix", Add::new(THERE, 24, FIRST), Error::Inval),
        ("a prefix too long", Add::new(THERE, 33, FIRST), Error::Inval),
        ("no prefix", Add::new(THERE, 0, FIRST), Error::Inval),
        ("any address with a prefix", Add::new(Ipv4Addr::UNSPECIFIED, 8, FIRST), Error::Inval),
        ("an interface without its flag", key.clone().at(192, &1i32.to_ne_bytes()), Error::Inval),
        ("an interface that is no L3 master", key.clone().at(192, &1i32.to_ne_bytes()).flags(1), Error::Inval),
        ("a key of 13 bytes for AES", key.clone().alg("cmac(aes)"), Error::Inval),
        ("a MAC longer than the digest", key.clone().alg("cmac(aes128)").maclen(17), Error::MsgSize),
        ("cut", Add(key.0[..287].to_vec()), Error::Inval),
        ("longer and not zero", Add([&key.0[..], &[1]].concat()), Error::TooBig),
    ] {
        assert_eq!(add.to(&s), Err(want), "{case}");
    }
    assert_eq!(Add([&key.0[..], &[0; 8]].concat()).to(&s), Ok(()), "longer, with zeros");
    for (case, add) in [
        ("the same", key.clone()),
        ("the same id to send", Add::new(THERE, 32, (FIRST.0, 7))),
        ("the same id to receive", Add::new(THERE, 32, (7, FIRST.1))),
        ("a prefix around it", Add::new(net, 24, FIRST)),
        ("any address", Add::new(Ipv4Addr::UNSPECIFIED, 0, FIRST)),
    ] {
        assert_eq!(add.to(&s), Err(Error::Exist), "{case}");
    }
    assert_eq!(Add::new(net, 24, SECOND).to(&s), Ok(()));
    let name =
        |l: &str| Add::new(THERE, 32, (l.len() as u8, 1)).at(203, &[l.len() as u8 + 20, l.len() as u8 + 60]).alg(l);
    for alg in ["hmac(sha224)", "hmac(sha384) ", "hmac(md5)"] {
        let want = if alg.ends_with(' ') { Err(Error::NoEnt) } else { Ok(()) };
        assert_eq!(name(alg).to(&s), want, "{alg}");
    }
    assert_eq!(name("hmac(sha512)").bits(1).to(&host.listener), Err(Error::Inval), "a listener has no current key");
    assert_eq!(set_info(&host.listener, 1, FIRST.0, 0), Err(Error::Inval));
    assert_eq!(set_info(&s, 1, 9, 0), Err(Error::NoEnt));
    assert_eq!(set_info(&s, 32, 0, 0), Err(Error::Inval));
    let plain = Host::new(8);
    let c = plain.connect(4000, SYN_OPTIONS);
    assert_eq!(key.to(&c.socket), Err(Error::IsConn), "a connection without TCP-AO stays so");
    assert_eq!(set_info(&c.socket, 16, 0, 0), Err(Error::IsConn));
    assert_eq!(c.socket.getsockopt(libc::IPPROTO_TCP, opt::AO_INFO, &mut [0; 48]), Err(Error::NoEnt));
}

#[test]
fn md5_and_ao_exclude_each_other_for_a_peer() {
    let host = Host::new(8);
    let s = Socket::new(&host.bench.stack, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
    s.set_nonblocking(true);
    let md5 = |peer: Ipv4Addr| s.setsockopt(libc::IPPROTO_TCP, opt::MD5SIG, &super::md5sig(peer, b"k"));
    let other = Ipv4Addr::new(10, 0, 0, 77);
    add_key(&s, FIRST);
    assert_eq!(md5(THERE), Err(Error::KeyRejected));
    assert_eq!(md5(other), Ok(()));
    assert_eq!(Add::new(other, 32, SECOND).to(&s), Err(Error::KeyRejected));
    assert_eq!(set_info(&s, 4, 0, 0), Err(Error::KeyRejected), "no peer may use MD5 where all must have TCP-AO");
    // To the peer that has an MD5 key no key of TCP-AO is left.
    assert_eq!(s.connect(Some(SocketAddr::new(IpAddr::V4(other), 4000))), Err(Error::InProgress));
    assert_eq!(s.getsockopt(libc::IPPROTO_TCP, opt::AO_INFO, &mut [0; 48]), Err(Error::NoEnt));
    // Where it is required of all, an unsigned stranger is dropped, too.
    set_info(&host.listener, 4, 0, 0).unwrap();
    assert!(host.bench.inject(&Seg::new(4000, SYN, ISS, 0).bytes()).iter().all(|d| flags_of(d) != SYN | ACK));
    assert_eq!(mibs(&host, [Mib::TcpExtTCPAORequired]), [1]);
    let key = super::md5sig(THERE, b"k");
    assert_eq!(host.listener.setsockopt(libc::IPPROTO_TCP, opt::MD5SIG, &key), Err(Error::KeyRejected));
}
