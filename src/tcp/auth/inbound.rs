//! What comes in: the signature of a segment is found, verified by the peer's key, and counted; what has none is
//! dropped where there is a key. Above: `proto`, `handshake`, `rcv`. Linux: tcp_inbound_hash, tcp_inbound_md5_hash,
//! tcp_inbound_ao_hash, tcp_ao_ignore_icmp. RFC 5925 §7.3, §7.5, §7.8.

use super::ao::{Context, compute_sne};
use super::mac::Digest;
use super::{Auth, Signer, context, is_established, same};
use crate::counters::{DropReason, Mib};
use crate::sock::packet::PacketInfo;
use crate::sock::skb::{Known, Skb};
use crate::sock::state::State;
use crate::stack::Stack;
use crate::tcp::net::TcpNet;
use crate::tcp::rcv::{option_bytes, ports};
use crate::tcp::tcb::{Cx, TcpSock};
use crate::wire::addr::Cidr;
use crate::wire::seq::SeqNum;
use crate::wire::tcp::{HEADER_LEN, TcpFlags};
use crate::wire::tcp_options::{AO_BASE_LEN, MD5SIG_LEN, is_timestamp_only, is_usual_syn, kind};
use std::net::IpAddr;
use std::sync::Arc;

/// A TCP-AO option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::tcp) struct AoHeader {
    pub keyid: u8,
    /// RNextKeyID: the key that the peer is ready to receive by.
    pub rnext: u8,
    /// Where the MAC begins in the options.
    pub at: usize,
    pub maclen: usize,
}

/// The signature in a segment's options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    /// Where an MD5 digest begins.
    Md5(usize),
    Ao(AoHeader),
}

/// What a request knows of its signature.
#[derive(Debug, Clone, Copy)]
pub(in crate::tcp) struct RequestAuth {
    pub rcv_isn: SeqNum,
    pub snt_isn: SeqNum,
    pub used_ao: bool,
}

/// Shortest rest of the options that is looked at, bytes: a TCP-AO option with a MAC of one. On a kernel without TCP-AO
/// it is that of a TCP-MD5 option, and what is malformed behind that goes unseen.
const LEAST: usize = AO_BASE_LEN + 1;

/// Finds the signature in a segment's options. Err: there are two, or it has a wrong length, or an option before it has
/// (tcp_do_parse_auth_options).
pub(super) fn parse_auth_options(options: &[u8]) -> Result<Found, DropReason> {
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
            kind::MD5SIG | kind::AO if found != Found::Nothing => return Err(DropReason::TcpAuthHdr),
            kind::MD5SIG if len == usize::from(MD5SIG_LEN) => found = Found::Md5(at + 2),
            kind::AO if len > AO_BASE_LEN => {
                let (keyid, rnext) = (options[at + 2], options[at + 3]);
                found = Found::Ao(AoHeader { keyid, rnext, at: at + AO_BASE_LEN, maclen: len - AO_BASE_LEN });
            }
            kind::MD5SIG | kind::AO => return Err(DropReason::TcpAuthHdr),
            _ => {}
        }
        at += len;
    }
    Ok(found)
}

/// The TCP-AO option of a segment, if it has one.
pub(super) fn header_of(skb: &Skb) -> Option<AoHeader> {
    match parse_auth_options(option_bytes(skb)) {
        Ok(Found::Ao(h)) => Some(h),
        _ => None,
    }
}

/// The same for a sock that has keys.
#[inline]
pub(in crate::tcp) fn ao_header(tp: &TcpSock, skb: &Skb) -> Option<AoHeader> {
    tp.auth.as_ref()?;
    header_of(skb)
}

/// Whether a segment with these options has nothing to do with signatures: none, timestamps alone, or those of most
/// SYNs.
#[inline]
fn is_plain(options: &[u8]) -> bool {
    options.is_empty() || is_timestamp_only(options) || is_usual_syn(options)
}

/// Whether that is so, and the sock has no keys, as most.
#[inline]
pub(in crate::tcp) fn is_unsigned(cx: &Cx<'_>, skb: &Skb) -> bool {
    !cx.tp.has_auth() && (skb.tcp.known != Known::Nothing || is_plain(option_bytes(skb)))
}

/// Why a segment from `src` to `dst` is dropped for its signature, or for having none. `req`: of a listener's request
/// that it belongs to.
#[inline]
pub(in crate::tcp) fn inbound_hash(
    cx: &mut Cx<'_>,
    skb: &Skb,
    src: IpAddr,
    dst: IpAddr,
    req: impl FnOnce(&mut TcpSock) -> Option<RequestAuth>,
) -> Result<(), DropReason> {
    if is_unsigned(cx, skb) {
        return Ok(());
    }
    let req = req(cx.tp);
    check_hash(cx, skb, src, dst, req)
}

#[cold]
fn check_hash(
    cx: &mut Cx<'_>,
    skb: &Skb,
    src: IpAddr,
    dst: IpAddr,
    req: Option<RequestAuth>,
) -> Result<(), DropReason> {
    let found = parse_auth_options(option_bytes(skb))?;
    if req.is_some_and(|r| r.used_ao != matches!(found, Found::Ao(_))) {
        // What the SYN had, all that follow have (RFC 5925 §7.5.1).
        cx.stack.mib.inc(Mib::TcpExtTCPAOBad);
        return Err(DropReason::TcpAoFailure);
    }
    match found {
        Found::Ao(h) => ao_hash(cx, skb, (src, dst), h, req),
        Found::Nothing if cx.tp.auth.as_ref().is_some_and(|a| a.ao_required(Cidr::host(src))) => {
            cx.stack.mib.inc(Mib::TcpExtTCPAORequired);
            if let Some(ao) = cx.tp.auth_mut().and_then(|a| a.ao.as_mut()) {
                ao.counters.ao_required += 1;
            }
            Err(DropReason::TcpAoNotFound)
        }
        Found::Nothing | Found::Md5(_) => md5_hash(cx, skb, (src, dst), found),
    }
}

fn md5_hash(cx: &Cx<'_>, skb: &Skb, (src, dst): (IpAddr, IpAddr), found: Found) -> Result<(), DropReason> {
    let key = cx.tp.auth.as_ref().and_then(|a| a.md5.lookup(src));
    match (found, key) {
        (Found::Md5(at), Some(key)) if key.secret.verifies(skb, at, src, dst) => Ok(()),
        (Found::Md5(_), Some(_)) => {
            cx.stack.mib.inc(Mib::TcpExtTCPMD5Failure);
            Err(DropReason::TcpMd5Failure)
        }
        (Found::Md5(_), None) => {
            cx.stack.mib.inc(Mib::TcpExtTCPMD5Unexpected);
            Err(DropReason::TcpMd5Unexpected)
        }
        (_, Some(_)) => {
            cx.stack.mib.inc(Mib::TcpExtTCPMD5NotFound);
            Err(DropReason::TcpMd5NotFound)
        }
        (_, None) => Ok(()),
    }
}

/// The key that a segment is to be verified by: its id, the traffic key, the extension of its sequence number.
struct By {
    id: u32,
    traffic_key: Digest,
    sne: u32,
}

/// A segment with TCP-AO. A connection that is established then turns to the key that the peer asks for.
fn ao_hash(
    cx: &mut Cx<'_>,
    skb: &Skb,
    (src, dst): (IpAddr, IpAddr),
    h: AoHeader,
    req: Option<RequestAuth>,
) -> Result<(), DropReason> {
    let (snd_una, rcv_nxt) = (cx.tp.snd_una, cx.tp.rcv_nxt);
    let established = is_established(cx.state());
    let Some(ao) = cx.tp.auth_mut().and_then(|a| a.ao.as_mut()) else {
        cx.stack.mib.inc(Mib::TcpExtTCPAOKeyNotFound);
        return Err(DropReason::TcpAoUnexpected);
    };
    if established {
        ao.advance(snd_una, rcv_nxt);
    } else if cx.sock.state() == State::Close {
        return Err(DropReason::TcpClose);
    }
    let by = match established {
        true => by_connection(cx, skb, h),
        false => by_peer(cx, skb, (src, dst), h, req)?,
    };
    let Some(ao) = cx.tp.auth_mut().and_then(|a| a.ao.as_mut()) else { return Err(DropReason::TcpAoUnexpected) };
    let Some(by) = by else {
        cx.stack.mib.inc(Mib::TcpExtTCPAOKeyNotFound);
        ao.counters.key_not_found += 1;
        return Err(DropReason::TcpAoKeyNotFound);
    };
    let Some(form) = ao.by_id(Some(by.id)).map(|k| k.form) else { return Err(DropReason::TcpAoKeyNotFound) };
    let good = h.maclen == usize::from(form.maclen) && {
        let at = HEADER_LEN + h.at;
        let want = form.hash_skb(&by.traffic_key, skb, skb.tcp.header_len(), at, by.sne, (src, dst));
        same(skb.linear().get(at..at + h.maclen).unwrap_or_default(), &want.bytes()[..h.maclen])
    };
    ao.count(by.id, good);
    cx.stack.mib.inc(if good { Mib::TcpExtTCPAOGood } else { Mib::TcpExtTCPAOBad });
    if !good {
        return Err(DropReason::TcpAoFailure);
    }
    if established && !is_first(skb.tcp.all_flags()) {
        // One that we do not have changes nothing.
        let asked = ao.established_key(Some(h.rnext), None).map(|k| k.id);
        ao.current = asked.or(ao.current);
    }
    Ok(())
}

/// A SYN without ACK, whose sender does not know the other end's number.
fn is_first(flags: TcpFlags) -> bool {
    flags.contains(TcpFlags::SYN) && !flags.contains(TcpFlags::ACK)
}

/// On a connection: by the key that we asked for, or another of its own.
fn by_connection(cx: &Cx<'_>, skb: &Skb, h: AoHeader) -> Option<By> {
    let ao = cx.tp.auth.as_ref()?.ao.as_ref()?;
    let key = ao.by_id(ao.rnext).filter(|k| k.rcvid == h.keyid);
    let key = key.or_else(|| ao.established_key(None, Some(h.keyid)))?;
    let c = context(cx, ao);
    if is_first(skb.tcp.all_flags()) {
        // A SYN that was sent again.
        let c = Context { sisn: skb.tcp.seq, disn: SeqNum(0), ..c.reversed() };
        return Some(By { id: key.id, traffic_key: key.traffic_key(&c), sne: 0 });
    }
    Some(By { id: key.id, traffic_key: key.recv_key(&c), sne: ao.rcv_sne(skb.tcp.seq) })
}

/// Before that, or at a listener: by the peer's address, with the numbers that the segment or its request says. Err:
/// they cannot be known.
fn by_peer(
    cx: &Cx<'_>,
    skb: &Skb,
    (src, dst): (IpAddr, IpAddr),
    h: AoHeader,
    req: Option<RequestAuth>,
) -> Result<Option<By>, DropReason> {
    let Some(ao) = cx.tp.auth.as_ref().and_then(|a| a.ao.as_ref()) else { return Ok(None) };
    let Some(key) = ao.lookup(Cidr::host(src), None, Some(h.keyid)) else { return Ok(None) };
    let (flags, seq) = (skb.tcp.all_flags(), skb.tcp.seq);
    let (syn, ack) = (flags.contains(TcpFlags::SYN), flags.contains(TcpFlags::ACK));
    let (sisn, disn, sne) = if is_first(flags) {
        (seq, SeqNum(0), 0)
    } else if cx.state() != State::Listen {
        // A reset that answers our SYN comes from an end whose number is not known.
        let first = syn || flags.contains(TcpFlags::RST) && cx.state() == State::SynSent;
        (if first { seq } else { ao.risn }, ao.lisn, 0)
    } else if let Some(r) = req {
        (r.rcv_isn, r.snt_isn, compute_sne(0, r.rcv_isn, seq))
    } else if ack && !syn {
        // It may bring a SYN cookie back.
        let (sisn, disn) = (SeqNum(seq.0.wrapping_sub(1)), SeqNum(skb.tcp.ack_seq.0.wrapping_sub(1)));
        (sisn, disn, compute_sne(0, sisn, seq))
    } else {
        return Err(DropReason::TcpFlags);
    };
    let (sport, dport) = ports(skb);
    let traffic_key = key.traffic_key(&Context { src, dst, sport, dport, sisn, disn });
    Ok(Some(By { id: key.id, traffic_key, sne }))
}

/// What signs the reset of a segment that belongs to no connection. One with MD5 may be signed because our end of its
/// connection is gone: a listener on its source port, whose connection it may have been, still has the key. Err: no
/// reset is sent, since the segment's signature is not that listener's; nor is one sent for TCP-AO, whose traffic keys
/// nobody has any more (RFC 5925 §7.7). A listener that is owned cannot be asked, and then none is sent either. Linux:
/// the part of tcp_v4_send_reset without a sock.
pub(in crate::tcp) fn key_of_nobody(
    net: &TcpNet,
    stack: &Arc<Stack>,
    skb: &Skb,
    info: &PacketInfo,
    sport: u16,
) -> Result<Option<Signer>, super::NoKey> {
    let options = option_bytes(skb);
    if is_plain(options) {
        return Ok(None);
    }
    let at = match parse_auth_options(options) {
        Ok(Found::Md5(at)) => at,
        Ok(Found::Nothing) => return Ok(None),
        _ => return Err(super::NoKey),
    };
    let md5_of = |auth: &Auth| auth.md5_for(info.src);
    let listener = net.hashinfo.listener(stack, info, (sport, sport), skb).ok_or(super::NoKey)?;
    let signer = listener.try_own(stack, info.now, |g| Cx::new(g)?.tp.auth.as_deref().and_then(md5_of)).flatten();
    match signer {
        Some(Signer::Md5(secret)) if secret.verifies(skb, at, info.src, info.dst) => Ok(Some(Signer::Md5(secret))),
        _ => Err(super::NoKey),
    }
}

/// A hard error of ICMP: protocol or port unreachable, fragmentation needed; of ICMPv6: prohibited, port unreachable
/// (RFC 5925 §7.8).
pub(super) fn is_hard(v4: bool, ty: u8, code: u8) -> bool {
    if v4 { ty == 3 && (2..=4).contains(&code) } else { ty == 1 && (code == 1 || code == 4) }
}

/// Whether an ICMP error is ignored because it may be forged where no segment can be: a hard error on a synchronized
/// connection with TCP-AO, unless TCP_AO_INFO allows it.
pub(in crate::tcp) fn ignore_icmp(cx: &mut Cx<'_>, v4: bool, ty: u8, code: u8) -> bool {
    let begins = matches!(cx.state(), State::SynSent | State::SynRecv | State::Listen);
    let Some(ao) = cx.tp.auth_mut().and_then(|a| a.ao.as_mut()) else { return false };
    if !is_hard(v4, ty, code) || begins || ao.accept_icmps {
        return false;
    }
    ao.counters.dropped_icmp += 1;
    cx.stack.mib.inc(Mib::TcpExtTCPAODroppedIcmps);
    true
}
