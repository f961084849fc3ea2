use super::*;
use crate::device::capture_test::Bench;
use crate::inet::Socket;
use crate::sock::msg::SendMsg;
use std::io::IoSlice;

const IPV6_MTU: i32 = 24;

/// Lengths of calls with MSG_MORE, and what SIOCOUTQ says after each, or the call's error: as seen on Linux 6.18, over
/// its loopback.
type Row = (&'static [usize], &'static [Result<i32>]);

fn check(name: &str, (family, ty, protocol): (i32, i32, i32), options: &[(i32, i32, i32)], rows: &[Row]) {
    let b = Bench::on_ip();
    let to = if family == libc::AF_INET { "127.0.0.1" } else { "[::1]" };
    let to = format!("{to}:{}", if ty == libc::SOCK_RAW { 0 } else { 4001 }).parse().unwrap();
    for &(sizes, want) in rows {
        let s = Socket::new(&b.stack, family, ty, protocol).unwrap();
        for (level, option, value) in options {
            s.setsockopt(*level, *option, &value.to_ne_bytes()).unwrap();
        }
        let call = |n: usize| {
            let bytes = vec![7; n];
            let slices = [IoSlice::new(&bytes)];
            let mut m = SendMsg::new(&slices, libc::MSG_MORE | libc::MSG_DONTWAIT);
            m.name = Some(to);
            s.sendmsg(&mut m).and_then(|_| s.ioctl(libc::TIOCOUTQ))
        };
        let got: Vec<_> = sizes.iter().map(|&n| call(n)).collect();
        assert_eq!(got, want, "{name}: {sizes:?}");
        s.close();
    }
}

const UDP4: (i32, i32, i32) = (libc::AF_INET, libc::SOCK_DGRAM, 0);
const UDP6: (i32, i32, i32) = (libc::AF_INET6, libc::SOCK_DGRAM, 0);
const RAW4: (i32, i32, i32) = (libc::AF_INET, libc::SOCK_RAW, 253);
const RAW6: (i32, i32, i32) = (libc::AF_INET6, libc::SOCK_RAW, 253);
const LEAST_SNDBUF: (i32, i32, i32) = (libc::SOL_SOCKET, libc::SO_SNDBUF, 1);
const SHORT: (i32, i32, i32) = (libc::SOL_IPV6, IPV6_MTU, 1280);

#[test]
fn what_a_cork_holds_back_counts_as_the_kernel_counts_it() {
    check(
        "UDP",
        UDP4,
        &[],
        &[
            (&[0], &[Ok(832)]),
            (&[1], &[Ok(832)]),
            (&[197], &[Ok(832)]),
            (&[198], &[Ok(1280)]),
            (&[600], &[Ok(1280)]),
            (&[3000], &[Ok(4352)]),
            (&[9000], &[Ok(16640)]),
            (&[15900], &[Ok(16640)]),
            (&[16000], &[Ok(16640)]),
            (&[16384], &[Ok(17216)]),
            (&[60000], &[Ok(60832)]),
            (&[65507], &[Ok(66339)]),
            (&[1, 1], &[Ok(832), Ok(833)]),
            (&[1, 3000, 10000], &[Ok(832), Ok(3832), Ok(13832)]),
            (&[0, 0, 5], &[Ok(832), Ok(832), Ok(837)]),
            (&[16384, 16384, 16384], &[Ok(17216), Ok(33600), Ok(49984)]),
        ],
    );
    check(
        "UDP over IPv6",
        UDP6,
        &[],
        &[
            (&[0], &[Ok(832)]),
            (&[1], &[Ok(832)]),
            (&[176], &[Ok(832)]),
            (&[184], &[Ok(832)]),
            (&[185], &[Ok(1280)]),
            (&[600], &[Ok(1280)]),
            (&[16384], &[Ok(17216)]),
            (&[65508], &[Ok(67144)]),
            (&[1, 1], &[Ok(832), Ok(833)]),
            (&[60000, 5508], &[Ok(60832), Ok(67144)]),
            (&[60000, 5480, 20], &[Ok(60832), Ok(66312), Ok(67144)]),
        ],
    );
    check(
        "in fragments",
        UDP6,
        &[SHORT],
        &[
            (&[1], &[Ok(832)]),
            (&[1272], &[Ok(3136)]),
            (&[2000], &[Ok(4608)]),
            (&[16384], &[Ok(31232)]),
            (&[1000, 1000], &[Ok(2304), Ok(4832)]),
            (&[1200, 30, 5], &[Ok(2304), Ok(2334), Ok(3166)]),
            (&[1200, 200, 2000], &[Ok(2304), Ok(3160), Ok(6520)]),
        ],
    );
    check(
        "raw",
        RAW4,
        &[],
        &[
            (&[0], &[Ok(832)]),
            (&[1], &[Ok(832)]),
            (&[3000], &[Ok(4352)]),
            (&[16384], &[Ok(17216)]),
            (&[1, 16384], &[Ok(832), Ok(17216)]),
            (&[1000, 9000, 60000, 1000], &[Ok(2304), Ok(11304), Err(Error::MsgSize), Ok(2304)]),
        ],
    );
}

#[test]
fn a_send_buffer_full_twice_over_refuses_the_next_packet_of_a_datagram() {
    check(
        "in fragments",
        UDP6,
        &[SHORT, LEAST_SNDBUF],
        &[
            (&[1000], &[Ok(2304)]),
            (&[2000], &[Ok(4608)]),
            (&[16384], &[Err(Error::NoBufs)]),
            (&[1000, 8000], &[Ok(2304), Err(Error::NoBufs)]),
            (&[1000, 60000], &[Ok(2304), Err(Error::NoBufs)]),
        ],
    );
    check(
        "longer than the path",
        UDP6,
        &[LEAST_SNDBUF],
        &[
            (&[65508], &[Err(Error::NoBufs)]),
            (&[60000], &[Ok(60832)]),
            (&[60000, 5000], &[Ok(60832), Ok(65832)]),
            (&[60000, 5508], &[Ok(60832), Err(Error::NoBufs)]),
        ],
    );
    check(
        "raw",
        RAW6,
        &[LEAST_SNDBUF],
        &[
            (&[0], &[Ok(832)]),
            (&[1], &[Ok(832)]),
            (&[3000], &[Ok(4352)]),
            (&[16384], &[Ok(17216)]),
            (&[1, 16384], &[Ok(832), Ok(17216)]),
            (&[1000, 9000, 60000, 1000], &[Ok(2304), Ok(11304), Err(Error::MsgSize), Ok(2304)]),
        ],
    );
}
