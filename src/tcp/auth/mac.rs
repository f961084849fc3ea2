//! The algorithms of TCP-AO, by the names that Linux's crypto API has for them: HMAC over MD5, SHA-1 and SHA-2,
//! AES-CMAC (RFC 5926 §3). Above: `ao`.

use aes::{Aes128, Aes192, Aes256};
use cmac::Cmac;
use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use sha1::Sha1;
use sha2::{Sha224, Sha256, Sha384, Sha512};

/// Longest digest, bytes.
const MOST: usize = 64;

/// A digest, or a traffic key, which is as long.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Digest {
    bytes: [u8; MOST],
    len: u8,
}

impl Digest {
    fn of(bytes: &[u8]) -> Digest {
        let mut d = Digest { bytes: [0; MOST], len: bytes.len().min(MOST) as u8 };
        d.bytes[..usize::from(d.len)].copy_from_slice(&bytes[..usize::from(d.len)]);
        d
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // It may be a key: no secret appears in a log.
        write!(f, "Digest({} bytes)", self.len)
    }
}

/// An algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alg {
    HmacMd5,
    HmacSha1,
    HmacSha224,
    HmacSha256,
    HmacSha384,
    HmacSha512,
    /// With keys of 16, 24 or 32 bytes.
    CmacAes,
}

impl Alg {
    const ALL: [Alg; 7] =
        [Alg::HmacMd5, Alg::HmacSha1, Alg::HmacSha224, Alg::HmacSha256, Alg::HmacSha384, Alg::HmacSha512, Alg::CmacAes];

    fn by_name(name: &[u8]) -> Option<Alg> {
        Alg::ALL.into_iter().find(|a| a.name().as_bytes() == name)
    }

    /// The algorithm of a name, and the key that it takes: of `cmac(aes128)` 16 bytes, into which others are hashed
    /// (RFC 5926 §3.1.1.2).
    pub(super) fn with_key(name: &[u8], key: &[u8]) -> Option<(Alg, Vec<u8>)> {
        if name != b"cmac(aes128)" {
            return Some((Alg::by_name(name)?, key.to_vec()));
        }
        let key = match key.len() {
            16 => key.to_vec(),
            _ => Alg::CmacAes.mac(&[0; 16], [key].into_iter()).bytes().to_vec(),
        };
        Some((Alg::CmacAes, key))
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Alg::HmacMd5 => "hmac(md5)",
            Alg::HmacSha1 => "hmac(sha1)",
            Alg::HmacSha224 => "hmac(sha224)",
            Alg::HmacSha256 => "hmac(sha256)",
            Alg::HmacSha384 => "hmac(sha384)",
            Alg::HmacSha512 => "hmac(sha512)",
            Alg::CmacAes => "cmac(aes)",
        }
    }

    pub(super) fn digest_size(self) -> usize {
        match self {
            Alg::HmacMd5 | Alg::CmacAes => 16,
            Alg::HmacSha1 => 20,
            Alg::HmacSha224 => 28,
            Alg::HmacSha256 => 32,
            Alg::HmacSha384 => 48,
            Alg::HmacSha512 => 64,
        }
    }

    /// Whether it takes keys of this length.
    pub(super) fn takes(self, keylen: usize) -> bool {
        self != Alg::CmacAes || matches!(keylen, 16 | 24 | 32)
    }

    /// The MAC of a message in parts. The key's length is one that the algorithm takes.
    pub(super) fn mac<'m>(self, key: &[u8], parts: impl Iterator<Item = &'m [u8]>) -> Digest {
        match self {
            Alg::HmacMd5 => run::<Hmac<Md5>>(key, parts),
            Alg::HmacSha1 => run::<Hmac<Sha1>>(key, parts),
            Alg::HmacSha224 => run::<Hmac<Sha224>>(key, parts),
            Alg::HmacSha256 => run::<Hmac<Sha256>>(key, parts),
            Alg::HmacSha384 => run::<Hmac<Sha384>>(key, parts),
            Alg::HmacSha512 => run::<Hmac<Sha512>>(key, parts),
            Alg::CmacAes if key.len() == 24 => run::<Cmac<Aes192>>(key, parts),
            Alg::CmacAes if key.len() == 32 => run::<Cmac<Aes256>>(key, parts),
            Alg::CmacAes => run::<Cmac<Aes128>>(key, parts),
        }
    }
}

fn run<'m, M: Mac + KeyInit>(key: &[u8], parts: impl Iterator<Item = &'m [u8]>) -> Digest {
    // `takes` was asked when the key was set.
    let Ok(mut mac) = <M as KeyInit>::new_from_slice(key) else { return Digest::of(&[]) };
    parts.for_each(|p| mac.update(p));
    Digest::of(&mac.finalize().into_bytes())
}
