//! The cookies of a server: a keyed hash of both addresses, which only a client that receives at its address can know
//! (RFC 7413 §4.1.2). No state is kept for a cookie. Above: `server`, `sockopt`, the sysctl. Linux:
//! __tcp_fastopen_cookie_gen_cipher, proc_tcp_fastopen_key.

use crate::wire::tcp_options::FastOpenCookie;
use siphasher::sip::SipHasher24;
use std::fmt;
use std::hash::Hasher;
use std::net::IpAddr;

/// Bytes of a key (TCP_FASTOPEN_KEY_LENGTH).
pub(crate) const KEY_LEN: usize = 16;

type Key = [u8; KEY_LEN];

/// The key that cookies are made with, and the one before it, whose cookies are still good while keys rotate
/// (RFC 7413 §4.1.2).
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Keys {
    pub primary: Key,
    pub backup: Option<Key>,
}

/// Which key a cookie was made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Made {
    Primary,
    Backup,
    /// Neither: it is forged, or older than both.
    Unknown,
}

/// SipHash-2-4 of the client's and the server's address, as they stand in the header; little-endian.
fn hash(key: &Key, client: IpAddr, server: IpAddr) -> u64 {
    let mut hasher = SipHasher24::new_with_key(key);
    for addr in [client, server] {
        match addr {
            IpAddr::V4(a) => hasher.write(&a.octets()),
            IpAddr::V6(a) => hasher.write(&a.octets()),
        }
    }
    hasher.finish()
}

impl Keys {
    /// One key or two in a row, as TCP_FASTOPEN_KEY takes them. None: another length.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Keys> {
        let (primary, rest) = bytes.split_first_chunk::<KEY_LEN>()?;
        let backup = match rest {
            [] => None,
            rest => Some(rest.try_into().ok()?),
        };
        Some(Keys { primary: *primary, backup })
    }

    /// The same the other way round.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        [&self.primary[..], self.backup.as_ref().map_or(&[], |b| &b[..])].concat()
    }

    /// Of the sysctl's text: four hexadecimal numbers a key, each little-endian in it.
    pub(super) fn parse(text: &str) -> Option<Keys> {
        let key = |text: &str| {
            let words: Vec<&str> = text.split('-').collect();
            let mut key = [0; KEY_LEN];
            for (at, word) in key.chunks_exact_mut(4).zip(&words) {
                at.copy_from_slice(&u32::from_str_radix(word.trim(), 16).ok()?.to_le_bytes());
            }
            (words.len() == KEY_LEN / 4).then_some(key)
        };
        match text.split_once(',') {
            Some((primary, backup)) => Some(Keys { primary: key(primary)?, backup: Some(key(backup)?) }),
            None => Some(Keys { primary: key(text)?, backup: None }),
        }
    }

    /// The cookie for a client.
    pub(super) fn cookie(&self, client: IpAddr, server: IpAddr) -> FastOpenCookie {
        FastOpenCookie::eight(hash(&self.primary, client, server).to_le_bytes())
    }

    /// Which key made a client's cookie. A comparison of whole words takes the same time for every forgery.
    pub(super) fn made(&self, cookie: &[u8], client: IpAddr, server: IpAddr) -> Made {
        let Ok(word) = cookie.try_into().map(u64::from_le_bytes) else { return Made::Unknown };
        if hash(&self.primary, client, server) == word {
            return Made::Primary;
        }
        match &self.backup {
            Some(key) if hash(key, client, server) == word => Made::Backup,
            _ => Made::Unknown,
        }
    }
}

/// As /proc/sys shows them.
impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, key) in [Some(&self.primary), self.backup.as_ref()].into_iter().flatten().enumerate() {
            f.write_str(if i > 0 { "," } else { "" })?;
            for (j, word) in key.as_chunks::<4>().0.iter().enumerate() {
                f.write_str(if j > 0 { "-" } else { "" })?;
                write!(f, "{:08x}", u32::from_le_bytes(*word))?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Keys {
    /// Prints no keys, to keep them out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys")
    }
}
