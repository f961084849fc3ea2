//! Packets and their control blocks.

pub use crate::abi::skb::{Packet, Skb};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// A value for a packet's control block: stored as bytes, at most 48 (`USK_SKB_CB`). Numbers, arrays of them, addresses
/// and tuples are; a struct of one's own can be. All bytes zero must be a value: that is what a new packet has.
pub trait Cb {
    /// How many bytes.
    const SIZE: usize;
    /// Writes it to `to`, which has SIZE bytes.
    fn store(&self, to: &mut [u8]);
    /// Reads it from `from`, which has SIZE bytes.
    fn load(from: &[u8]) -> Self;
}

macro_rules! numbers {
    ($($number:ty)*) => {$(
        impl Cb for $number {
            const SIZE: usize = size_of::<$number>();
            fn store(&self, to: &mut [u8]) {
                to.copy_from_slice(&self.to_ne_bytes());
            }
            fn load(from: &[u8]) -> Self {
                let mut bytes = [0; size_of::<$number>()];
                bytes.copy_from_slice(from);
                <$number>::from_ne_bytes(bytes)
            }
        }
    )*};
}
numbers!(u8 u16 u32 u64 i8 i16 i32 i64);

impl<const N: usize> Cb for [u8; N] {
    const SIZE: usize = N;
    fn store(&self, to: &mut [u8]) {
        to.copy_from_slice(self);
    }
    fn load(from: &[u8]) -> Self {
        let mut bytes = [0; N];
        bytes.copy_from_slice(from);
        bytes
    }
}

/// Zero bytes are 0.0.0.0:0.
impl Cb for SocketAddr {
    const SIZE: usize = 23;
    fn store(&self, to: &mut [u8]) {
        let (six, scope, ip) = match self {
            SocketAddr::V4(a) => (0u8, 0, a.ip().to_ipv6_mapped().octets()),
            SocketAddr::V6(a) => (1, a.scope_id(), a.ip().octets()),
        };
        ((six, self.port()), (scope, ip)).store(to);
    }
    fn load(from: &[u8]) -> Self {
        let ((six, port), (scope, ip)) = <((u8, u16), (u32, [u8; 16]))>::load(from);
        match six {
            0 => SocketAddr::new(IpAddr::V4(Ipv4Addr::new(ip[12], ip[13], ip[14], ip[15])), port),
            _ => SocketAddrV6::new(Ipv6Addr::from(ip), port, 0, scope).into(),
        }
    }
}

impl<A: Cb, B: Cb> Cb for (A, B) {
    const SIZE: usize = A::SIZE + B::SIZE;
    fn store(&self, to: &mut [u8]) {
        let (a, b) = to.split_at_mut(A::SIZE);
        self.0.store(a);
        self.1.store(b);
    }
    fn load(from: &[u8]) -> Self {
        let (a, b) = from.split_at(A::SIZE);
        (A::load(a), B::load(b))
    }
}

impl<A: Cb, B: Cb, C: Cb> Cb for (A, B, C) {
    const SIZE: usize = A::SIZE + B::SIZE + C::SIZE;
    fn store(&self, to: &mut [u8]) {
        let (a, rest) = to.split_at_mut(A::SIZE);
        let (b, c) = rest.split_at_mut(B::SIZE);
        self.0.store(a);
        self.1.store(b);
        self.2.store(c);
    }
    fn load(from: &[u8]) -> Self {
        let (a, rest) = from.split_at(A::SIZE);
        let (b, c) = rest.split_at(B::SIZE);
        (A::load(a), B::load(b), C::load(c))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_from_a_control_block_as_they_went() {
        let addr = |text: &str| text.parse::<SocketAddr>().unwrap();
        for value in [addr("10.0.0.1:80"), addr("[fe80::1%7]:65535"), addr("[::ffff:10.0.0.1]:1"), addr("0.0.0.0:0")] {
            let mut bytes = [0xaa; SocketAddr::SIZE];
            value.store(&mut bytes);
            assert_eq!(SocketAddr::load(&bytes), value);
        }
        assert_eq!(SocketAddr::load(&[0; SocketAddr::SIZE]), addr("0.0.0.0:0"), "a new packet's");
        type Three = (u8, [u8; 3], (u64, i16));
        let value: Three = (7, [1, 2, 3], (1 << 40, -2));
        let mut bytes = [0; Three::SIZE];
        value.store(&mut bytes);
        assert_eq!((Three::load(&bytes), Three::SIZE), (value, 14));
    }
}
