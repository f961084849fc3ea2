//! Signed segments: TCP-MD5 (RFC 2385) and TCP-AO (RFC 5925). A sock has keys for peers; what it sends to such a peer
//! is signed, and what comes from there is dropped unless its signature is right. A listener's keys pass to its
//! connections. Above: `sockopt`; `segment` and `rcv`, where headers are built; `proto` and `handshake`, where segments
//! come in. A sock without keys has no `Auth`: one branch a segment. Linux: tcp_inbound_hash, tcp_get_current_key.
//!
//! | file | what |
//! |---|---|
//! | `inbound` | what becomes of a segment that comes in, by its signature |
//! | `md5` | keys of TCP-MD5, by peer; its digest |
//! | `ao`, `mac` | keys of TCP-AO, by peer and id; traffic keys, digest; the algorithms |
//! | `option`, `ao_option` | TCP_MD5SIG, TCP_MD5SIG_EXT; TCP_AO_ADD_KEY and the others |

pub(super) mod ao;
pub(super) mod ao_option;
pub(super) mod inbound;
mod mac;
pub(super) mod md5;
pub(super) mod option;

pub(super) use inbound::{AoHeader, RequestAuth, ao_header, ignore_icmp, inbound_hash, is_unsigned, key_of_nobody};

use super::listener::Request;
use super::tcb::{Cx, TcpSock};
use crate::base::error::{Error, Result};
use crate::sock::skb::Skb;
use crate::sock::state::State;
use crate::wire::addr::Cidr;
use crate::wire::seq::SeqNum;
use crate::wire::tcp::{HEADER_LEN, TcpFlags};
use crate::wire::tcp_options::AuthOption;
use ao::{Basis, Context, Info, Mkt};
use std::net::IpAddr;
use std::sync::atomic::Ordering;

/// Keys of a sock. Made with the first key, and kept when the last one is deleted.
#[derive(Debug, Default)]
pub(crate) struct Auth {
    md5: md5::Keys,
    ao: Option<Box<Info>>,
}

/// What signs a segment as its header is built.
#[derive(Debug, Clone)]
pub(crate) enum Signer {
    Md5(md5::Secret),
    Ao(ao::Signer),
}

/// A segment or its answer is dropped: the key that it needs is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoKey;

impl Signer {
    /// The room that it needs in the options.
    pub(super) fn option(&self) -> AuthOption {
        match self {
            Signer::Md5(_) => AuthOption::Md5,
            Signer::Ao(s) => s.option(),
        }
    }

    /// Fills in the digest of a segment: its header is complete but for the checksum, its payload is in place.
    pub(super) fn sign(&self, skb: &mut Skb, header_len: usize, src: IpAddr, dst: IpAddr) {
        let at = HEADER_LEN + AuthOption::DIGEST_AT;
        let fill = |skb: &mut Skb, digest: &[u8]| {
            if let Some(room) = skb.head_mut().get_mut(at..at + digest.len()) {
                room.copy_from_slice(digest);
            }
        };
        match self {
            Signer::Md5(secret) => {
                let digest = secret.hash_skb(skb, header_len, src, dst);
                fill(skb, &digest);
            }
            Signer::Ao(s) => {
                let mac = s.mac(skb, header_len, src, dst);
                fill(skb, &mac.bytes()[..usize::from(s.form.maclen)]);
            }
        }
    }
}

impl Auth {
    fn md5_for(&self, peer: IpAddr) -> Option<Signer> {
        self.md5.lookup(peer).map(|k| Signer::Md5(k.secret.clone()))
    }

    /// Bytes of memory of the keys (sk_omem_alloc).
    fn omem(&self) -> i32 {
        self.md5.omem() + self.ao.as_ref().map_or(0, |ao| ao.omem())
    }

    /// Whether a peer's segments must have TCP-AO: the program said so of all, or there is a key (tcp_ao_required).
    fn ao_required(&self, peers: Cidr) -> bool {
        self.ao.as_ref().is_some_and(|ao| ao.ao_required || ao.lookup(peers, None, None).is_some())
    }
}

/// The connection, as we send.
fn context(cx: &Cx<'_>, ao: &Info) -> Context {
    let sk = &*cx.sk;
    Context { src: sk.saddr, dst: sk.daddr, sport: sk.sport, dport: sk.dport, sisn: ao.lisn, disn: ao.risn }
}

/// The connection that a request may become, as we send.
fn context_of(req: &Request) -> Context {
    let (src, dst, sport, dport) = (req.saddr, req.daddr, req.sport, req.dport);
    Context { src, dst, sport, dport, sisn: req.snt_isn, disn: req.rcv_isn }
}

/// The room that this connection's segments need for a signature.
#[inline]
pub(super) fn room(cx: &Cx<'_>) -> Option<AuthOption> {
    let auth = cx.tp.auth.as_ref()?;
    match &auth.ao {
        Some(ao) => {
            let key = ao.by_id(ao.current)?;
            Some(AuthOption::Ao { keyid: key.sndid, rnext: ao.rnext_id(), maclen: key.form.maclen })
        }
        None => auth.md5.lookup(cx.sk.daddr).map(|_| AuthOption::Md5),
    }
}

/// What signs a segment of this connection; None: it is not signed (tcp_get_current_key). A SYN has traffic keys of its
/// own (RFC 5925 §5.2).
#[inline]
pub(super) fn current_key(cx: &Cx<'_>, flags: TcpFlags) -> Option<Signer> {
    let auth = cx.tp.auth.as_ref()?;
    let Some(ao) = &auth.ao else { return auth.md5_for(cx.sk.daddr) };
    let mkt = ao.by_id(ao.current)?;
    let mut c = context(cx, ao);
    let traffic_key = if flags.contains(TcpFlags::SYN) {
        if !flags.contains(TcpFlags::ACK) {
            c.disn = SeqNum(0);
        }
        mkt.traffic_key(&c)
    } else {
        mkt.send_key(&c)
    };
    Some(ao_signer(mkt, traffic_key, ao.rnext_id(), ao.snd))
}

fn ao_signer(mkt: &Mkt, traffic_key: mac::Digest, rnext: u8, basis: Basis) -> Signer {
    Signer::Ao(ao::Signer { form: mkt.form, traffic_key, keyid: mkt.sndid, rnext, basis })
}

/// What signs a request's SYN-ACK. Err: none is sent, because the key that the peer asked for is gone
/// (in tcp_make_synack).
pub(super) fn synack_key(tp: &TcpSock, req: &Request) -> std::result::Result<Option<Signer>, NoKey> {
    let Some((rnext, keyid)) = req.ao else { return Ok(tp.auth.as_ref().and_then(|a| a.md5_for(req.daddr))) };
    let mkt = request_mkt(tp, req, Some(rnext)).ok_or(NoKey)?;
    Ok(Some(request_signer(mkt, req, keyid)))
}

fn request_mkt<'a>(tp: &'a TcpSock, req: &Request, sndid: Option<u8>) -> Option<&'a Mkt> {
    tp.auth.as_ref()?.ao.as_ref()?.lookup(Cidr::host(req.daddr), sndid, None)
}

fn request_signer(mkt: &Mkt, req: &Request, rnext: u8) -> Signer {
    let traffic_key = mkt.traffic_key(&context_of(req));
    ao_signer(mkt, traffic_key, rnext, Basis { seq: req.snt_isn, sne: 0 })
}

/// What signs an acknowledgement or a reset that answers a segment for a request: the key that the segment asks for, or
/// any of the peer. Err: none is sent (in tcp_v4_reqsk_send_ack).
pub(super) fn request_key(tp: &TcpSock, req: &Request, skb: &Skb) -> std::result::Result<Option<Signer>, NoKey> {
    if req.ao.is_none() {
        return Ok(tp.auth.as_ref().and_then(|a| a.md5_for(req.daddr)));
    }
    let h = ao_header(tp, skb).ok_or(NoKey)?;
    let mkt = request_mkt(tp, req, Some(h.rnext)).or_else(|| request_mkt(tp, req, None)).ok_or(NoKey)?;
    Ok(Some(request_signer(mkt, req, h.keyid)))
}

/// What signs a listener's reset of a segment that belongs to no request. With TCP-AO there is none: the numbers that
/// the connection began with are not known (RFC 5925 §7.7). Departure: Linux signs it with a key made of the segment's
/// own number, which the peer cannot have.
pub(super) fn listener_key(tp: &TcpSock, skb: &Skb, peer: IpAddr) -> std::result::Result<Option<Signer>, NoKey> {
    match ao_header(tp, skb) {
        Some(_) => Err(NoKey),
        None => Ok(tp.auth.as_ref().and_then(|a| a.md5_for(peer))),
    }
}

/// What signs a connection's reset of a segment that had `header`: the key that it asks for (tcp_ao_prepare_reset).
pub(super) fn reset_key(cx: &Cx<'_>, header: Option<AoHeader>) -> std::result::Result<Option<Signer>, NoKey> {
    let Some(auth) = cx.tp.auth.as_ref() else { return Ok(None) };
    match (&auth.ao, header) {
        (Some(ao), Some(h)) => answer_key(ao, &context(cx, ao), h).map(Some).ok_or(NoKey),
        _ => Ok(auth.md5_for(cx.sk.daddr)),
    }
}

fn answer_key(ao: &Info, c: &Context, h: AoHeader) -> Option<Signer> {
    let mkt = ao.established_key(Some(h.rnext), None)?;
    Some(ao_signer(mkt, mkt.send_key(c), ao.rnext_id(), ao.snd))
}

/// A connection is opened: checks that one kind of signature is left for the peer, and one key (the part of tcp_connect
/// for signatures). EKEYREJECTED.
pub(super) fn connect(cx: &mut Cx<'_>) -> Result<()> {
    let (peer, isn) = (cx.sk.daddr, cx.tp.write_seq);
    let Some(auth) = cx.tp.auth_mut() else { return Ok(()) };
    if auth.md5.omem() != 0 && auth.ao.is_some() {
        let (needs_ao, needs_md5) = (auth.ao_required(Cidr::host(peer)), auth.md5.lookup(peer).is_some());
        let before = auth.omem();
        match (needs_md5, needs_ao) {
            (true, true) => return Err(Error::KeyRejected),
            (true, false) => auth.ao = None,
            (false, true) => auth.md5 = md5::Keys::default(),
            (false, false) => {}
        }
        cx.sock.unowned().omem_alloc.fetch_sub(before - auth.omem(), Ordering::Relaxed);
    }
    let Some(ao) = &mut auth.ao else { return Ok(()) };
    if ao.lookup(Cidr::host(peer), None, None).is_none() {
        return Err(Error::KeyRejected);
    }
    let freed = ao.connect_init(peer, isn);
    cx.sock.unowned().omem_alloc.fetch_sub(freed, Ordering::Relaxed);
    Ok(())
}

/// The peer's initial sequence number is known: makes the traffic keys. In repair mode it is not: TCP_AO_REPAIR sets
/// it.
pub(super) fn finish_connect(cx: &mut Cx<'_>, risn: SeqNum) {
    let (rcv_nxt, repair) = (cx.tp.rcv_nxt, cx.tp.repair);
    let Some(ao) = cx.tp.auth.as_ref().and_then(|a| a.ao.as_ref()) else { return };
    let mut c = context(cx, ao);
    if !repair {
        c.disn = risn;
    }
    if let Some(ao) = cx.tp.auth_mut().and_then(|a| a.ao.as_mut()) {
        ao.finish_connect(&c, if repair { rcv_nxt } else { risn });
    }
}

/// A child takes over its listener's keys for the peer. False: its request was signed and there is no key any more.
pub(super) fn inherit(c: &mut Cx<'_>, listener: &TcpSock, req: &Request) -> bool {
    let Some(from) = &listener.auth else { return req.ao.is_none() };
    let auth = match req.ao {
        Some(ids) => {
            let ao = from.ao.as_ref().and_then(|ao| ao.for_child(&context_of(req), ids));
            let Some(ao) = ao else { return false };
            Auth { ao: Some(Box::new(ao)), ..Auth::default() }
        }
        None => match from.md5.copy_for(req.daddr) {
            Some(md5) => Auth { md5, ao: None },
            None => return true,
        },
    };
    c.sock.unowned().omem_alloc.fetch_add(auth.omem(), Ordering::Relaxed);
    c.tp.cold_mut().auth = Some(Box::new(auth));
    true
}

/// What a time-wait record keeps.
#[derive(Debug)]
pub(super) enum Kept {
    Md5(md5::Secret),
    Ao(Box<(Info, Context)>),
}

/// The keys of a connection that becomes a record (tcp_time_wait_init, tcp_ao_time_wait).
pub(super) fn time_wait(cx: &Cx<'_>) -> Option<Kept> {
    let auth = cx.tp.auth.as_ref()?;
    match &auth.ao {
        Some(ao) => {
            let mut kept = Info::clone(ao);
            kept.advance(cx.tp.snd_nxt, cx.tp.rcv_nxt);
            Some(Kept::Ao(Box::new((kept, context(cx, ao)))))
        }
        None => auth.md5.lookup(cx.sk.daddr).map(|k| Kept::Md5(k.secret.clone())),
    }
}

impl Kept {
    /// What signs the acknowledgement of a segment: with TCP-AO the key that it asks for (in tcp_v4_timewait_ack).
    pub(super) fn ack_key(&self, skb: &Skb) -> Option<Signer> {
        match self {
            Kept::Md5(secret) => Some(Signer::Md5(secret.clone())),
            Kept::Ao(of) => answer_key(&of.0, &of.1, inbound::header_of(skb)?),
        }
    }

    /// What signs the reset that answers a segment with TCP-AO. None: it has none, or the record has not, and the reset
    /// is that of nobody. Err: none is sent, since there is no such key.
    pub(super) fn reset_key(&self, skb: &Skb) -> Option<std::result::Result<Signer, NoKey>> {
        match (self, inbound::header_of(skb)) {
            (Kept::Ao(of), Some(h)) => Some(answer_key(&of.0, &of.1, h).ok_or(NoKey)),
            _ => None,
        }
    }

    /// Whether an ICMP error about the record is ignored for TCP-AO, and is counted so.
    pub(super) fn ignores_icmp(&self, v4: bool, ty: u8, code: u8) -> bool {
        inbound::is_hard(v4, ty, code) && matches!(self, Kept::Ao(of) if !of.0.accept_icmps)
    }
}

/// Whether TCP-AO knows all it needs of a connection in this state (TCP_AO_ESTABLISHED).
fn is_established(state: State) -> bool {
    use State::{CloseWait, Closing, Established, FinWait1, FinWait2, LastAck};
    matches!(state, Established | FinWait1 | FinWait2 | CloseWait | LastAck | Closing)
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
