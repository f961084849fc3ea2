//! Abstract names of AF_UNIX sockets. They say what a descriptor is, so that no table has to: the kernel tells them by
//! getsockname(2) and getpeername(2), in any process that has the descriptor.

use crate::instance::Instance;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// Begins every name of ours, after the zero byte of abstract names.
const MAGIC: &[u8; 4] = b"usk1";

/// Longest name: sun_path.
pub(crate) const MAX: usize = 108;

/// What a descriptor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// The server's listener of requests, SOCK_SEQPACKET.
    Requests,
    /// The server's listener of connecting sockets' data.
    Data,
    /// A program's socket.
    Socket {
        /// Identifies it to the server.
        id: u64,
        /// AF_INET or AF_INET6.
        family: u16,
    },
    /// The server's end of an accepted connection.
    Accepted {
        /// Identifies it to the server.
        id: u64,
        /// The listener's: AF_INET or AF_INET6.
        family: u16,
        /// Its own address.
        local: SocketAddr,
        /// The peer's.
        peer: SocketAddr,
    },
}

/// A name as the kernel takes it, without sun_family.
#[derive(Clone, Copy)]
pub struct Encoded {
    bytes: [u8; MAX],
    len: usize,
}

impl Encoded {
    /// The bytes, the leading zero among them.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn put_addr(&mut self, addr: SocketAddr) {
        match addr {
            SocketAddr::V4(a) => {
                self.put(&[4]);
                self.put(&a.ip().octets());
                self.put(&a.port().to_be_bytes());
            }
            SocketAddr::V6(a) => {
                self.put(&[6]);
                self.put(&a.ip().octets());
                self.put(&a.port().to_be_bytes());
                self.put(&a.scope_id().to_be_bytes());
            }
        }
    }
}

impl Name {
    /// The name's bytes.
    pub fn encode(&self, instance: &Instance) -> Encoded {
        let mut out = Encoded { bytes: [0; MAX], len: 1 };
        out.put(MAGIC);
        out.put(&instance.id);
        let kind = |tag: u8, id: u64, family: u16, out: &mut Encoded| {
            out.put(&[tag]);
            out.put(&id.to_be_bytes());
            out.put(&family.to_be_bytes());
        };
        match *self {
            Name::Requests => out.put(b"R"),
            Name::Data => out.put(b"D"),
            Name::Socket { id, family } => kind(b'S', id, family, &mut out),
            Name::Accepted { id, family, local, peer } => {
                kind(b'A', id, family, &mut out);
                out.put_addr(local);
                out.put_addr(peer);
            }
        }
        out
    }

    /// What a name says; None if it is not one of this instance's.
    pub fn decode(bytes: &[u8], instance: &Instance) -> Option<Name> {
        let mut rest = bytes.strip_prefix(&[0])?.strip_prefix(MAGIC)?.strip_prefix(&instance.id)?;
        let name = match take::<1>(&mut rest)? {
            b"R" => Name::Requests,
            b"D" => Name::Data,
            b"S" => Name::Socket { id: number(&mut rest)?, family: u16::from_be_bytes(*take(&mut rest)?) },
            b"A" => Name::Accepted {
                id: number(&mut rest)?,
                family: u16::from_be_bytes(*take(&mut rest)?),
                local: addr(&mut rest)?,
                peer: addr(&mut rest)?,
            },
            _ => return None,
        };
        rest.is_empty().then_some(name)
    }
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (first, others) = rest.split_first_chunk()?;
    *rest = others;
    Some(first)
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    take(rest).map(|bytes| u64::from_be_bytes(*bytes))
}

fn addr(rest: &mut &[u8]) -> Option<SocketAddr> {
    match take::<1>(rest)? {
        [4] => {
            let ip = Ipv4Addr::from(*take::<4>(rest)?);
            Some(SocketAddr::new(IpAddr::V4(ip), u16::from_be_bytes(*take(rest)?)))
        }
        [6] => {
            let ip = Ipv6Addr::from(*take::<16>(rest)?);
            let (port, scope) = (u16::from_be_bytes(*take(rest)?), u32::from_be_bytes(*take(rest)?));
            Some(SocketAddrV6::new(ip, port, 0, scope).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_fits_and_is_read_back() {
        let instance = Instance::new([7; 24]);
        let v6 = SocketAddrV6::new(Ipv6Addr::from([0x20; 16]), 65535, 0, 9).into();
        let v4 = SocketAddr::from(([10, 0, 0, 2], 80));
        let (id, family) = (u64::MAX - 3, libc::AF_INET6 as u16);
        let names = [
            Name::Requests,
            Name::Data,
            Name::Socket { id, family },
            Name::Accepted { id, family, local: v6, peer: v6 },
            Name::Accepted { id, family, local: v4, peer: v6 },
        ];
        for name in names {
            let bytes = name.encode(&instance);
            assert!(bytes.bytes().len() < MAX);
            assert_eq!(Name::decode(bytes.bytes(), &instance), Some(name));
            assert_eq!(Name::decode(bytes.bytes(), &Instance::new([8; 24])), None, "another instance's");
            for cut in 0..bytes.bytes().len() {
                assert_eq!(Name::decode(&bytes.bytes()[..cut], &instance), None, "{name:?} cut at {cut}");
            }
            let longer = [bytes.bytes(), &[0]].concat();
            assert_eq!(Name::decode(&longer, &instance), None);
        }
    }
}
