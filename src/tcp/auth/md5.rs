//! TCP-MD5 (RFC 2385): keys by peer, with prefixes, and the digest over pseudo-header, header and data. Above:
//! `auth`. Linux: tcp_md5_do_add, tcp_md5_do_del, __tcp_md5_do_lookup, tcp_v4_md5_hash_skb, tcp_v4_md5_hash_hdr.

use crate::base::error::{Error, Result};
use crate::sock::skb::Skb;
use crate::wire::addr::Cidr;
use crate::wire::proto;
use crate::wire::tcp::{CHECKSUM_OFFSET, HEADER_LEN};
use crate::wire::tcp_options::MD5_DIGEST_LEN;
use md5::{Digest, Md5};
use std::net::IpAddr;
use std::sync::Arc;

/// Memory that a key counts for, bytes, as SO_MEMINFO shows it on Linux 6.18 (struct tcp_md5sig_key).
pub(super) const KEY_SIZE: i32 = 136;

/// A secret that both ends know.
#[derive(Clone)]
pub(crate) struct Secret(Arc<[u8]>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // No secret appears in a log.
        write!(f, "Secret({} bytes)", self.0.len())
    }
}

/// A key for the peers of a prefix.
#[derive(Debug, Clone)]
pub(super) struct Key {
    peers: Cidr,
    /// TCP_MD5SIG_FLAG_IFINDEX was given: with another interface it were another key. The interface is 0, since there
    /// are no L3 master devices here.
    of_interface: bool,
    pub(super) secret: Secret,
}

/// The keys of a sock.
#[derive(Debug, Default)]
pub(super) struct Keys(Vec<Key>);

impl Keys {
    fn exact(&self, peers: Cidr, of_interface: bool) -> Option<usize> {
        self.0.iter().position(|k| (k.peers, k.of_interface) == (peers, of_interface))
    }

    /// Whether a key of this place is there already, so that a new one takes no memory.
    pub(super) fn has(&self, peers: Cidr, of_interface: bool) -> bool {
        self.exact(peers, of_interface).is_some()
    }

    /// Adds a key, or gives one a new secret (tcp_md5_do_add).
    pub(super) fn add(&mut self, peers: Cidr, of_interface: bool, secret: &[u8]) {
        let secret = Secret(secret.into());
        match self.exact(peers, of_interface) {
            Some(i) => self.0[i].secret = secret,
            None => self.0.push(Key { peers, of_interface, secret }),
        }
    }

    /// Deletes a key. ENOENT: there is none (tcp_md5_do_del).
    pub(super) fn del(&mut self, peers: Cidr, of_interface: bool) -> Result<()> {
        let i = self.exact(peers, of_interface).ok_or(Error::NoEnt)?;
        self.0.remove(i);
        Ok(())
    }

    /// The key for a peer: of those that match one of an interface, then the one with the longest prefix
    /// (__tcp_md5_do_lookup, better_md5_match).
    pub(super) fn lookup(&self, peer: IpAddr) -> Option<&Key> {
        self.0.iter().filter(|k| k.peers.contains(peer)).max_by_key(|k| (k.of_interface, k.peers.prefix()))
    }

    /// The key for a peer, as its connection's own (tcp_md5_key_copy).
    pub(super) fn copy_for(&self, peer: IpAddr) -> Option<Keys> {
        let key = self.lookup(peer)?;
        let (peers, of_interface) = (Cidr::host(peer), key.of_interface);
        Some(Keys(vec![Key { peers, of_interface, secret: key.secret.clone() }]))
    }

    /// Bytes of memory (sk_omem_alloc).
    pub(super) fn omem(&self) -> i32 {
        self.0.len() as i32 * KEY_SIZE
    }
}

impl Secret {
    /// The digest of a segment, whose header begins `skb`: pseudo-header, header without options and with a checksum of
    /// 0, data, secret (RFC 2385 §2.0).
    pub(super) fn hash_skb(&self, skb: &Skb, header_len: usize, src: IpAddr, dst: IpAddr) -> [u8; MD5_DIGEST_LEN] {
        let mut md5 = Md5::new();
        pseudo_header(&mut md5, src, dst, skb.len() as u32);
        let header = skb.linear().get(..HEADER_LEN).unwrap_or_default();
        let (before, after) = header.split_at(CHECKSUM_OFFSET.min(header.len()));
        md5.update(before);
        md5.update([0; 2]);
        md5.update(after.get(2..).unwrap_or_default());
        super::payload(skb, header_len).for_each(|data| md5.update(data));
        md5.update(&self.0);
        md5.finalize().into()
    }

    /// Whether the digest at `at` in the options of a received segment is right.
    pub(super) fn verifies(&self, skb: &Skb, at: usize, src: IpAddr, dst: IpAddr) -> bool {
        let want = self.hash_skb(skb, skb.tcp.header_len(), src, dst);
        let got = skb.linear().get(HEADER_LEN + at..HEADER_LEN + at + MD5_DIGEST_LEN).unwrap_or_default();
        super::same(got, &want)
    }
}

/// The addresses, the protocol and the length of header and data, as TCP's checksum has them.
fn pseudo_header(md5: &mut Md5, src: IpAddr, dst: IpAddr, len: u32) {
    match (src, dst) {
        (IpAddr::V4(s), IpAddr::V4(d)) => {
            md5.update(s.octets());
            md5.update(d.octets());
            md5.update([0, proto::TCP]);
            md5.update((len as u16).to_be_bytes());
        }
        (s, d) => {
            md5.update(crate::base::hash::addr128(s).to_be_bytes());
            md5.update(crate::base::hash::addr128(d).to_be_bytes());
            md5.update(len.to_be_bytes());
            md5.update([0, 0, 0, proto::TCP]);
        }
    }
}
