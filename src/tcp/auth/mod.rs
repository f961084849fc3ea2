//! Signed segments: TCP-MD5 (RFC 2385). A sock has keys for peers; what it sends to such a peer is signed, and what
//! comes from there is dropped unless its signature is right. A listener's keys pass to its connections. Above:
//! `sockopt`; `segment` and `rcv`, where headers are built; `proto` and `handshake`, where segments come in. A sock
//! without keys has no `Auth`: one branch a segment. Linux: tcp_inbound_hash, tcp_get_current_key.
//!
//! | file | what |
//! |---|---|
//! | `md5` | keys of TCP-MD5, by peer; its digest |
//! | `option` | TCP_MD5SIG and TCP_MD5SIG_EXT |

pub(super) mod md5;
pub(super) mod option;

use super::net::TcpNet;
use super::tcb::{Cx, TcpSock};
use crate::counters::{DropReason, Mib};
use crate::sock::packet::PacketInfo;
use crate::sock::skb::Skb;
use crate::stack::Stack;
use crate::wire::tcp::HEADER_LEN;
use crate::wire::tcp_options::{AuthOption, MD5_DIGEST_LEN, MD5SIG_LEN, is_timestamp_only, kind};
use std::net::IpAddr;
use std::sync::Arc;

/// Keys of a sock. Made with the first key, and kept when the last one is deleted.
#[derive(Debug, Default)]
pub(crate) struct Auth {
    md5: md5::Keys,
}

/// What signs a segment as its header is built.
#[derive(Debug, Clone)]
pub(crate) enum Signer {
    Md5(md5::Secret),
}

impl Signer {
    /// The room that it needs in the options.
    pub(super) fn option(&self) -> AuthOption {
        match self {
            Signer::Md5(_) => AuthOption::Md5,
        }
    }

    /// Fills in the digest of a segment: its header is complete but for the checksum, its payload is in place.
    pub(super) fn sign(&self, skb: &mut Skb, header_len: usize, src: IpAddr, dst: IpAddr) {
        match self {
            Signer::Md5(secret) => {
                let digest = secret.hash_skb(skb, header_len, src, dst);
                let at = HEADER_LEN + AuthOption::DIGEST_AT;
                if let Some(room) = skb.head_mut().get_mut(at..at + MD5_DIGEST_LEN) {
                    room.copy_from_slice(&digest);
                }
            }
        }
    }
}

impl Auth {
    fn signer_for(&self, peer: IpAddr) -> Option<Signer> {
        self.md5.lookup(peer).map(|k| Signer::Md5(k.secret.clone()))
    }

    /// What of the keys a connection with `peer` takes over from its listener.
    fn for_child(&self, peer: IpAddr) -> Option<Auth> {
        Some(Auth { md5: self.md5.copy_for(peer)? })
    }

    /// Bytes of memory of the keys (sk_omem_alloc).
    fn omem(&self) -> i32 {
        self.md5.omem()
    }
}

/// What signs a segment of this connection; None: it is not signed (tcp_get_current_key).
#[inline]
pub(super) fn current_key(cx: &Cx<'_>) -> Option<Signer> {
    cx.tp.auth.as_ref()?.signer_for(cx.sk.daddr)
}

/// What signs an answer of a listener to `peer`.
#[inline]
pub(super) fn key_for(tp: &TcpSock, peer: IpAddr) -> Option<Signer> {
    tp.auth.as_ref()?.signer_for(peer)
}

/// A child takes over its listener's key for the peer.
pub(super) fn inherit(c: &mut Cx<'_>, listener: &TcpSock) {
    let Some(auth) = listener.auth.as_ref().and_then(|a| a.for_child(c.sk.daddr)) else { return };
    c.sock.omem_alloc.fetch_add(auth.omem(), std::sync::atomic::Ordering::Relaxed);
    c.tp.auth = Some(Box::new(auth));
}

/// The signature in a segment's options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    /// Where an MD5 digest begins.
    Md5(usize),
}

/// Shortest options that have a signature in them, bytes: shorter ones are not looked at, whatever they are.
const LEAST: usize = MD5SIG_LEN as usize;

/// Finds the signature in a segment's options. Err: it is there twice, or has a wrong length, or an option before it
/// has (tcp_do_parse_auth_options).
fn parse_auth_options(options: &[u8]) -> Result<Found, DropReason> {
    let mut found = Found::Nothing;
    let mut at = 0;
    while options.len() - at >= LEAST {
        let (kind, len) = (options[at], usize::from(options[at + 1]));
        match kind {
            kind::EOL => break,
            kind::NOP => {
                at += 1;
                continue;
            }
            _ if len < 2 || len > options.len() - at => return Err(DropReason::TcpAuthHdr),
            kind::MD5SIG if len != usize::from(MD5SIG_LEN) || found != Found::Nothing => {
                return Err(DropReason::TcpAuthHdr);
            }
            kind::MD5SIG => found = Found::Md5(at + 2),
            _ => {}
        }
        at += len;
    }
    Ok(found)
}

/// Whether a segment with these options has nothing to do with signatures: none, or timestamps alone.
#[inline]
fn is_plain(options: &[u8]) -> bool {
    options.is_empty() || is_timestamp_only(options)
}

/// Why a segment from `src` to `dst` is dropped for its signature, or for having none (tcp_inbound_hash). Its options
/// are those of the received header.
#[inline]
pub(super) fn inbound_hash(cx: &Cx<'_>, skb: &Skb, src: IpAddr, dst: IpAddr) -> Result<(), DropReason> {
    if cx.tp.auth.is_none() && is_plain(super::rcv::option_bytes(skb)) {
        return Ok(());
    }
    check_hash(cx, skb, src, dst)
}

#[cold]
fn check_hash(cx: &Cx<'_>, skb: &Skb, src: IpAddr, dst: IpAddr) -> Result<(), DropReason> {
    let options = super::rcv::option_bytes(skb);
    let found = parse_auth_options(options)?;
    let key = cx.tp.auth.as_ref().and_then(|a| a.md5.lookup(src));
    match (found, key) {
        (Found::Nothing, None) => Ok(()),
        (Found::Nothing, Some(_)) => {
            cx.stack.mib.inc(Mib::TcpExtTCPMD5NotFound);
            Err(DropReason::TcpMd5NotFound)
        }
        (Found::Md5(_), None) => {
            cx.stack.mib.inc(Mib::TcpExtTCPMD5Unexpected);
            Err(DropReason::TcpMd5Unexpected)
        }
        (Found::Md5(at), Some(key)) if key.secret.verifies(skb, at, src, dst) => Ok(()),
        (Found::Md5(_), Some(_)) => {
            cx.stack.mib.inc(Mib::TcpExtTCPMD5Failure);
            Err(DropReason::TcpMd5Failure)
        }
    }
}

/// What signs the reset of a segment that belongs to no connection. Such a segment may be signed because our end of its
/// connection is gone: a listener on its source port, whose connection it may have been, still has the key. Err: no
/// reset is sent, since the segment's signature is not that listener's. A listener that is owned cannot be asked, and
/// then none is sent either. Linux: the part of tcp_v4_send_reset without a sock.
pub(super) fn key_of_nobody(
    net: &TcpNet,
    stack: &Arc<Stack>,
    skb: &Skb,
    info: &PacketInfo,
    sport: u16,
) -> Result<Option<Signer>, ()> {
    let options = super::rcv::option_bytes(skb);
    if is_plain(options) {
        return Ok(None);
    }
    let Found::Md5(at) = parse_auth_options(options).map_err(|_| ())? else { return Ok(None) };
    let listener = net.hashinfo.listener(stack, info, (sport, sport), skb).ok_or(())?;
    let signer = listener.try_own(stack, info.now, |g| key_for(Cx::new(g)?.tp, info.src)).flatten();
    match signer {
        Some(Signer::Md5(secret)) if secret.verifies(skb, at, info.src, info.dst) => Ok(Some(Signer::Md5(secret))),
        _ => Err(()),
    }
}

/// The data of a segment whose header begins `skb`.
fn payload(skb: &Skb, header_len: usize) -> impl Iterator<Item = &[u8]> {
    let mut header = header_len;
    skb.slices().map(move |s| {
        let n = header.min(s.len());
        header -= n;
        &s[n..]
    })
}

/// Whether two digests are equal, in a time that does not say where they differ (crypto_memneq).
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0
}

#[cfg(test)]
mod tests;
