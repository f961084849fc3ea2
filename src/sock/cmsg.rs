//! Ancillary data between C's control buffers and `Control`. Above: the C ABI, and options whose value is such a buffer
//! (IPV6_2292PKTOPTIONS). Linux: __cmsg_nxthdr, put_cmsg.

use super::msg::{Control, SockExtendedErr};
use super::sockopt::{SO_TIMESTAMP_NEW, SO_TIMESTAMPNS_NEW, name_bytes};
use super::tstamp::TIMESTAMPING_NEW as SO_TIMESTAMPING_NEW;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

const ALIGN: usize = size_of::<usize>();
const HEADER: usize = 16;
pub(crate) const UDP_SEGMENT: i32 = 103;
pub(crate) const UDP_GRO: i32 = 104;
const TCP_CM_INQ: i32 = 36;
pub(crate) const IPV6_2292PKTINFO: i32 = 2;
pub(crate) const IPV6_2292HOPLIMIT: i32 = 8;
const SCM_TXTIME: i32 = 61;

fn align(n: usize) -> usize {
    (n + ALIGN - 1) & !(ALIGN - 1)
}

/// cmsg_len, cmsg_level and cmsg_type of the first control message.
fn head(buf: &[u8]) -> Option<(usize, i32, i32)> {
    let [a, b, c, d, e, f, g, h, l @ .., t0, t1, t2, t3] = buf.first_chunk::<HEADER>()?;
    let level = i32::from_ne_bytes(*l);
    Some((usize::from_ne_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), level, i32::from_ne_bytes([*t0, *t1, *t2, *t3])))
}

/// The descriptors that a message passes on (SCM_RIGHTS). Ends at the first control message that is not well formed.
pub fn rights(mut buf: &[u8]) -> Vec<i32> {
    let mut out = Vec::new();
    while let Some((len, level, ty)) = head(buf) {
        let Some(data) = buf.get(HEADER..len) else { break };
        if (level, ty) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            out.extend(data.as_chunks::<4>().0.iter().map(|d| i32::from_ne_bytes(*d)));
        }
        buf = buf.get(align(len)..).unwrap_or_default();
    }
    out
}

/// Reads msg_control of a send. What is wrong with it is for the protocol to judge, behind what it checks before.
pub fn parse(mut buf: &[u8]) -> Vec<Control> {
    let mut out = Vec::new();
    while let Some((len, level, ty)) = head(buf) {
        let Some(data) = buf.get(HEADER..len).filter(|_| len >= HEADER) else {
            out.push(Control::Malformed);
            break;
        };
        out.push(one(level, ty, data).unwrap_or_else(|| Control::Other { level, ty, data: data.to_vec() }));
        buf = buf.get(align(len)..).unwrap_or_default();
    }
    out
}

/// A message that is known, of the length it must have.
fn one(level: i32, ty: i32, d: &[u8]) -> Option<Control> {
    let int = || d.try_into().ok().map(i32::from_ne_bytes);
    Some(match (level, ty) {
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
            let b: &[u8; 12] = d.try_into().ok()?;
            let ifindex = u32::from_ne_bytes([b[0], b[1], b[2], b[3]]);
            Control::PktInfo { ifindex, addr: IpAddr::V4(Ipv4Addr::new(b[4], b[5], b[6], b[7])), spec_dst: None }
        }
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO | IPV6_2292PKTINFO) => {
            let (ip, rest) = d.split_first_chunk::<16>()?;
            let ifindex = u32::from_ne_bytes(*rest.first_chunk()?);
            Control::PktInfo { ifindex, addr: IpAddr::V6(Ipv6Addr::from(*ip)), spec_dst: None }
        }
        (libc::IPPROTO_IP, libc::IP_TTL) => Control::Ttl(int()?),
        (libc::IPPROTO_IP, libc::IP_TOS) => match d {
            [tos] => Control::Tos(i32::from(*tos)),
            _ => Control::Tos(int()?),
        },
        (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT | IPV6_2292HOPLIMIT) => Control::HopLimit(int()?),
        (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => Control::Tclass(int()?),
        (libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG) => match int()? {
            on @ (0 | 1) => Control::DontFrag(on == 1),
            _ => return None,
        },
        (libc::IPPROTO_UDP, UDP_SEGMENT) => Control::UdpSegment(u16::from_ne_bytes(d.try_into().ok()?)),
        (libc::SOL_SOCKET, libc::SO_MARK) => Control::Mark(int()? as u32),
        (libc::SOL_SOCKET, libc::SO_PRIORITY) => Control::Priority(int()? as u32),
        (libc::SOL_SOCKET, SCM_TXTIME) => Control::TxTime(u64::from_ne_bytes(d.try_into().ok()?)),
        _ => return None,
    })
}

fn err_bytes(e: &SockExtendedErr, v6: bool) -> Vec<u8> {
    let mut b = Vec::with_capacity(44);
    b.extend_from_slice(&e.errno.to_ne_bytes());
    b.extend_from_slice(&[e.origin, e.ty, e.code, 0]);
    b.extend_from_slice(&e.info.to_ne_bytes());
    b.extend_from_slice(&e.data.to_ne_bytes());
    match e.offender {
        Some(IpAddr::V4(ip)) if v6 => b.extend(name_bytes((ip.to_ipv6_mapped(), 0).into())),
        Some(ip) => b.extend(name_bytes((ip, 0).into())),
        // No offender is an empty name of the socket's family.
        None => {
            b.resize(b.len() + if v6 { size_of::<libc::sockaddr_in6>() } else { size_of::<libc::sockaddr_in>() }, 0)
        }
    }
    b
}

/// struct timeval or timespec of a 64-bit time_t.
fn time(t: &Duration, fraction: u32) -> Vec<u8> {
    [t.as_secs() as i64, i64::from(fraction)].map(i64::to_ne_bytes).concat()
}

/// struct scm_timestamping: of three times the first is the software's.
fn timestamping(t: &Duration) -> Vec<u8> {
    let mut b = time(t, t.subsec_nanos());
    b.resize(48, 0);
    b
}

fn bytes(c: &Control, v6: bool) -> (i32, i32, Vec<u8>) {
    let ip_level = if v6 { libc::IPPROTO_IPV6 } else { libc::IPPROTO_IP };
    let i = |n: i32| n.to_ne_bytes().to_vec();
    match c {
        Control::PktInfo { ifindex, addr: IpAddr::V4(a), spec_dst } => {
            let mut b = ifindex.to_ne_bytes().to_vec();
            b.extend_from_slice(&spec_dst.unwrap_or(*a).octets());
            b.extend_from_slice(&a.octets());
            (libc::IPPROTO_IP, libc::IP_PKTINFO, b)
        }
        Control::PktInfo { ifindex, addr: IpAddr::V6(a), .. } => {
            let mut b = a.octets().to_vec();
            b.extend_from_slice(&ifindex.to_ne_bytes());
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, b)
        }
        Control::Ttl(n) => (libc::IPPROTO_IP, libc::IP_TTL, i(*n)),
        Control::HopLimit(n) => (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT, i(*n)),
        Control::Tclass(n) => (libc::IPPROTO_IPV6, libc::IPV6_TCLASS, i(*n)),
        Control::DontFrag(on) => (libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, i(i32::from(*on))),
        Control::Tos(n) => (libc::IPPROTO_IP, libc::IP_TOS, vec![*n as u8]),
        Control::Timestamp(t) => (libc::SOL_SOCKET, libc::SCM_TIMESTAMP, time(t, t.subsec_micros())),
        Control::TimestampNew(t) => (libc::SOL_SOCKET, SO_TIMESTAMP_NEW, time(t, t.subsec_micros())),
        Control::TimestampNs(t) => (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS, time(t, t.subsec_nanos())),
        Control::TimestampNsNew(t) => (libc::SOL_SOCKET, SO_TIMESTAMPNS_NEW, time(t, t.subsec_nanos())),
        Control::Timestamping(t) => (libc::SOL_SOCKET, libc::SCM_TIMESTAMPING, timestamping(t)),
        Control::TimestampingNew(t) => (libc::SOL_SOCKET, SO_TIMESTAMPING_NEW, timestamping(t)),
        Control::Inq(n) => (libc::IPPROTO_TCP, TCP_CM_INQ, i(*n)),
        Control::RxqOvfl(n) => (libc::SOL_SOCKET, libc::SO_RXQ_OVFL, n.to_ne_bytes().to_vec()),
        Control::UdpSegment(n) => (libc::IPPROTO_UDP, UDP_SEGMENT, n.to_ne_bytes().to_vec()),
        Control::UdpGro(n) => (libc::IPPROTO_UDP, UDP_GRO, i(*n)),
        Control::Mark(n) => (libc::SOL_SOCKET, libc::SO_MARK, n.to_ne_bytes().to_vec()),
        Control::Priority(n) => (libc::SOL_SOCKET, libc::SO_PRIORITY, n.to_ne_bytes().to_vec()),
        Control::TxTime(n) => (libc::SOL_SOCKET, SCM_TXTIME, n.to_ne_bytes().to_vec()),
        Control::RecvErr(e) => (ip_level, if v6 { libc::IPV6_RECVERR } else { libc::IP_RECVERR }, err_bytes(e, v6)),
        Control::Other { level, ty, data } => (*level, *ty, data.clone()),
        // `Control` may gain kinds; one that is not known here has no form in C.
        _ => (libc::SOL_SOCKET, 0, Vec::new()),
    }
}

/// Writes control data into msg_control: returns the length used, and whether something did not fit (MSG_CTRUNC).
pub fn emit(controls: &[Control], v6: bool, buf: &mut [u8]) -> (usize, bool) {
    let mut at = 0;
    let mut truncated = false;
    for c in controls {
        let (level, ty, d) = bytes(c, v6);
        if buf.len() - at < HEADER {
            return (at, true);
        }
        let n = d.len().min(buf.len() - at - HEADER);
        truncated |= n < d.len();
        let len = HEADER + n;
        buf[at..at + 8].copy_from_slice(&len.to_ne_bytes());
        buf[at + 8..at + 12].copy_from_slice(&level.to_ne_bytes());
        buf[at + 12..at + 16].copy_from_slice(&ty.to_ne_bytes());
        buf[at + HEADER..at + len].copy_from_slice(&d[..n]);
        at = (at + align(len)).min(buf.len());
    }
    (at, truncated)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_data_survives_the_way_to_c_and_back() {
        let all = vec![
            Control::PktInfo { ifindex: 3, addr: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)), spec_dst: None },
            Control::PktInfo { ifindex: 4, addr: IpAddr::V6(Ipv6Addr::LOCALHOST), spec_dst: None },
            Control::Ttl(7),
            Control::Tos(3),
            Control::HopLimit(9),
            Control::Tclass(4),
            Control::DontFrag(true),
            Control::UdpSegment(1200),
            Control::Mark(9),
            Control::Priority(5),
        ];
        let mut buf = [0u8; 512];
        let (n, truncated) = emit(&all, false, &mut buf);
        assert!(!truncated);
        assert_eq!(parse(&buf[..n]), all);
    }

    #[test]
    fn bad_lengths_are_told_from_good_ones_and_small_buffers_cut() {
        let header = |len: usize| {
            let mut b = len.to_ne_bytes().to_vec();
            b.extend_from_slice(&libc::IPPROTO_IP.to_ne_bytes());
            b.extend_from_slice(&libc::IP_TTL.to_ne_bytes());
            b.extend_from_slice(&[0; 4]);
            b
        };
        for len in [0, 1, 15, 21, usize::MAX] {
            assert_eq!(parse(&header(len)), [Control::Malformed], "{len}");
        }
        for len in [16, 19] {
            let [Control::Other { level: libc::IPPROTO_IP, ty: libc::IP_TTL, data }] = &parse(&header(len))[..] else {
                panic!("{len}: taken for an IP_TTL");
            };
            assert_eq!(data.len(), len - HEADER);
        }
        assert_eq!(parse(&header(20)), [Control::Ttl(0)]);
        assert_eq!(emit(&[Control::Ttl(1)], false, &mut [0; 18]), (18, true));
        assert_eq!(emit(&[Control::Ttl(1)], false, &mut [0; 8]), (0, true));
    }
}
