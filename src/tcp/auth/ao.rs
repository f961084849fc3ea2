//! TCP-AO (RFC 5925, RFC 5926): master key tuples by peer and ids, the traffic keys of a connection, the sequence
//! number extension, the digest. Above: `auth`. This machine's kernel was built without TCP-AO: what is said of Linux
//! here was read and not asked. Linux: net/ipv4/tcp_ao.c.

use super::mac::{Alg, Digest};
use crate::sock::skb::Skb;
use crate::wire::addr::Cidr;
use crate::wire::proto;
use crate::wire::seq::SeqNum;
use crate::wire::tcp::{CHECKSUM_OFFSET, HEADER_LEN};
use crate::wire::tcp_options::AuthOption;
use std::net::IpAddr;

/// MAC bytes where the program names none: 96 bits (RFC 5926 §2.2).
pub(super) const DEFAULT_MACLEN: u8 = 12;

/// Both ends of a connection or segment: source and destination address, port and initial sequence number.
#[derive(Debug, Clone, Copy)]
pub(in crate::tcp) struct Context {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub sport: u16,
    pub dport: u16,
    pub sisn: SeqNum,
    pub disn: SeqNum,
}

impl Context {
    /// The same from the other end.
    pub(super) fn reversed(self) -> Context {
        let Context { src, dst, sport, dport, sisn, disn } = self;
        Context { src: dst, dst: src, sport: dport, dport: sport, sisn: disn, disn: sisn }
    }
}

/// How a segment's MAC is made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    pub alg: Alg,
    pub maclen: u8,
    /// TCP_AO_KEYF_EXCLUDE_OPT: the MAC does not cover the other options.
    pub exclude_opt: bool,
}

/// A master key tuple (struct tcp_ao_key).
#[derive(Clone)]
pub(super) struct Mkt {
    /// Tells it from others of the sock, for `current` and `rnext`.
    pub id: u32,
    pub peers: Cidr,
    /// TCP_AO_KEYF_IFINDEX was given, with interface 0.
    pub of_interface: bool,
    pub sndid: u8,
    pub rcvid: u8,
    pub form: Form,
    pub key: Vec<u8>,
    pub pkt_good: u64,
    pub pkt_bad: u64,
    /// Traffic keys of the connection: sent, received.
    traffic: Option<(Digest, Digest)>,
}

impl std::fmt::Debug for Mkt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // No secret appears in a log.
        write!(f, "Mkt({:?} snd {} rcv {} {})", self.peers, self.sndid, self.rcvid, self.form.alg.name())
    }
}

impl Mkt {
    pub(super) fn new(peers: Cidr, (sndid, rcvid): (u8, u8), form: Form, key: Vec<u8>) -> Mkt {
        let (pkt_good, pkt_bad) = (0, 0);
        Mkt { id: 0, peers, of_interface: false, sndid, rcvid, form, key, pkt_good, pkt_bad, traffic: None }
    }

    /// Memory that it counts for, bytes: a guess by the fields of struct tcp_ao_key, and two traffic keys.
    pub(super) fn size(&self) -> i32 {
        168 + 2 * self.form.alg.digest_size() as i32
    }

    /// Whether it is for peers of `peers`, as far as the shorter of the two prefixes says; any address is one of every
    /// prefix (tcp_ao_key_cmp).
    fn overlaps(&self, peers: Cidr) -> bool {
        let (own, other) = (self.peers, peers);
        own.addr().is_ipv4() == other.addr().is_ipv4()
            && (own.addr().is_unspecified()
                || other.addr().is_unspecified()
                || Cidr::new(own.addr(), own.prefix().min(other.prefix())).is_some_and(|c| c.contains(other.addr())))
    }

    /// The same by the whole of another prefix, which may be longer (tcp_ao_key_cmp with the length given).
    pub(super) fn overlaps_at(&self, peers: Cidr) -> bool {
        self.peers.addr().is_ipv4() == peers.addr().is_ipv4()
            && (self.peers.addr().is_unspecified()
                || peers.addr().is_unspecified()
                || peers.contains(self.peers.addr()))
    }

    pub(super) fn matches(&self, peer: IpAddr) -> bool {
        self.overlaps(Cidr::host(peer))
    }

    /// The key of one direction (RFC 5926 §3.1.1): counter, label, connection, length of the output in bits.
    pub(super) fn traffic_key(&self, c: &Context) -> Digest {
        let isns = [c.sisn.0.to_be_bytes(), c.disn.0.to_be_bytes()].concat();
        let ports = [c.sport.to_be_bytes(), c.dport.to_be_bytes()].concat();
        let bits = (self.form.alg.digest_size() as u16 * 8).to_be_bytes();
        let (src, dst) = (octets(c.src), octets(c.dst));
        let parts: [&[u8]; 7] = [&[1], b"TCP-AO", src.bytes(), dst.bytes(), &ports, &isns, &bits];
        self.form.alg.mac(&self.key, parts.into_iter())
    }

    /// Makes the traffic keys of a connection, whose `c` is as we send (tcp_ao_cache_traffic_keys).
    fn cache(&mut self, c: &Context) {
        self.traffic = Some((self.traffic_key(c), self.traffic_key(&c.reversed())));
    }

    /// The key of what we send; before the handshake has made one, that of `c`.
    pub(super) fn send_key(&self, c: &Context) -> Digest {
        self.traffic.map_or_else(|| self.traffic_key(c), |(send, _)| send)
    }

    /// The key of what we receive; `c` as above.
    pub(super) fn recv_key(&self, c: &Context) -> Digest {
        self.traffic.map_or_else(|| self.traffic_key(&c.reversed()), |(_, recv)| recv)
    }
}

impl Form {
    /// The MAC of a segment, whose header begins `skb`: extension, pseudo-header, header with the MAC and the checksum
    /// 0, data (RFC 5925 §5.1). `mac_at`: where the MAC begins in the header.
    pub(super) fn hash_skb(
        &self,
        traffic_key: &Digest,
        skb: &Skb,
        header_len: usize,
        mac_at: usize,
        sne: u32,
        (src, dst): (IpAddr, IpAddr),
    ) -> Digest {
        let mut header = [0u8; 60];
        let maclen = usize::from(self.maclen);
        let given = skb.linear().get(..header_len.min(60)).unwrap_or_default();
        let len = if self.exclude_opt {
            // The fixed header, then this option alone.
            header[..HEADER_LEN].copy_from_slice(&given[..HEADER_LEN]);
            header[HEADER_LEN..HEADER_LEN + 4].copy_from_slice(&given[mac_at - 4..mac_at]);
            HEADER_LEN + 4 + maclen
        } else {
            header[..given.len()].copy_from_slice(given);
            header[mac_at..mac_at + maclen].fill(0);
            given.len()
        };
        header[CHECKSUM_OFFSET..CHECKSUM_OFFSET + 2].fill(0);
        let (s, d, total) = (octets(src), octets(dst), skb.len() as u32);
        let (sne, long) = (sne.to_be_bytes(), total.to_be_bytes());
        let tail: Vec<u8> = match src {
            IpAddr::V4(_) => [&[0, proto::TCP][..], &long[2..]].concat(),
            IpAddr::V6(_) => [&long[..], &[0, 0, 0, proto::TCP]].concat(),
        };
        let front: [&[u8]; 5] = [&sne, s.bytes(), d.bytes(), &tail, &header[..len]];
        self.alg.mac(traffic_key.bytes(), front.into_iter().chain(super::payload(skb, header_len)))
    }
}

/// An address as it stands in a packet.
struct Octets {
    bytes: [u8; 16],
    len: usize,
}

impl Octets {
    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

fn octets(addr: IpAddr) -> Octets {
    let mut bytes = [0; 16];
    let len = match addr {
        IpAddr::V4(a) => {
            bytes[..4].copy_from_slice(&a.octets());
            4
        }
        IpAddr::V6(a) => {
            bytes = a.octets();
            16
        }
    };
    Octets { bytes, len }
}

/// The upper 32 bits of a sequence number near `next`, whose own are `next_sne` (RFC 5925 §6.2; tcp_ao_compute_sne).
pub(super) fn compute_sne(next_sne: u32, next: SeqNum, seq: SeqNum) -> u32 {
    if seq.before(next) {
        if seq.0 > next.0 { next_sne.wrapping_sub(1) } else { next_sne }
    } else if seq.0 < next.0 {
        next_sne.wrapping_add(1)
    } else {
        next_sne
    }
}

/// A sequence number and its extension (RFC 5925 §6.2).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Basis {
    pub seq: SeqNum,
    pub sne: u32,
}

impl Basis {
    fn of(&self, seq: SeqNum) -> u32 {
        compute_sne(self.sne, self.seq, seq)
    }

    /// Goes on to `seq`: called at every segment, so never by 2^31 or more.
    fn advance(&mut self, seq: SeqNum) {
        *self = Basis { seq, sne: self.of(seq) };
    }
}

/// Counters of a sock (TCP_AO_INFO).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub pkt_good: u64,
    pub pkt_bad: u64,
    pub key_not_found: u64,
    pub ao_required: u64,
    pub dropped_icmp: u64,
}

/// TCP-AO of a sock (struct tcp_ao_info).
#[derive(Debug, Clone, Default)]
pub(crate) struct Info {
    /// The newest first.
    pub(super) keys: Vec<Mkt>,
    next_id: u32,
    /// The keys that sign what we send, and that we ask the peer to sign with.
    pub(super) current: Option<u32>,
    pub(super) rnext: Option<u32>,
    pub(super) lisn: SeqNum,
    pub(super) risn: SeqNum,
    /// At `snd_una` and at `rcv_nxt`.
    pub(super) snd: Basis,
    pub(super) rcv: Basis,
    pub(super) ao_required: bool,
    pub(super) accept_icmps: bool,
    pub(super) counters: Counters,
}

impl Info {
    /// Adds a key; its id.
    pub(super) fn link(&mut self, mut key: Mkt) -> u32 {
        self.next_id += 1;
        key.id = self.next_id;
        self.keys.insert(0, key);
        self.next_id
    }

    pub(super) fn by_id(&self, id: Option<u32>) -> Option<&Mkt> {
        self.keys.iter().find(|k| Some(k.id) == id)
    }

    /// The key for a peer with these ids, where they are given (tcp_ao_do_lookup).
    pub(super) fn lookup(&self, peers: Cidr, sndid: Option<u8>, rcvid: Option<u8>) -> Option<&Mkt> {
        self.with_ids(sndid, rcvid).find(|k| k.overlaps(peers))
    }

    /// The key with these ids of a connection, whose keys are all the peer's (tcp_ao_established_key).
    pub(super) fn established_key(&self, sndid: Option<u8>, rcvid: Option<u8>) -> Option<&Mkt> {
        self.with_ids(sndid, rcvid).next()
    }

    fn with_ids(&self, sndid: Option<u8>, rcvid: Option<u8>) -> impl Iterator<Item = &Mkt> {
        let is = |want: Option<u8>, id| want.is_none_or(|w| w == id);
        self.keys.iter().filter(move |k| is(sndid, k.sndid) && is(rcvid, k.rcvid))
    }

    /// A connection to `peer`, for which there is a key, begins: keys of others are deleted, and where the program has
    /// chosen none the first is used (tcp_ao_connect_init). Returns the bytes of memory that this frees.
    pub(super) fn connect_init(&mut self, peer: IpAddr, isn: SeqNum) -> i32 {
        let before = self.omem();
        self.keys.retain(|k| k.matches(peer));
        let first = self.keys.first().map(|k| k.id);
        let kept = |id: Option<u32>| self.by_id(id).map(|k| k.id).or(first);
        (self.current, self.rnext) = (kept(self.current), kept(self.rnext));
        self.lisn = isn;
        self.snd = Basis { seq: isn, sne: 0 };
        self.keys.iter_mut().for_each(|k| k.traffic = None);
        before - self.omem()
    }

    /// The peer's number is known: makes the traffic keys. `c` is as we send; `rcv`: a number that the peer has reached
    /// (tcp_ao_finish_connect).
    pub(super) fn finish_connect(&mut self, c: &Context, rcv: SeqNum) {
        self.risn = c.disn;
        self.rcv = Basis { seq: rcv, sne: 0 };
        self.cache(c);
    }

    /// The connection is at these numbers, and no extension is known.
    pub(super) fn begin_at(&mut self, snd_una: SeqNum, rcv_nxt: SeqNum) {
        (self.snd, self.rcv) = (Basis { seq: snd_una, sne: 0 }, Basis { seq: rcv_nxt, sne: 0 });
    }

    /// Makes the traffic keys of all keys.
    pub(super) fn cache(&mut self, c: &Context) {
        self.keys.iter_mut().for_each(|k| k.cache(c));
    }

    /// Makes those of a key that is added to a connection.
    pub(super) fn cache_one(&mut self, id: u32, c: &Context) {
        self.keys.iter_mut().filter(|k| k.id == id).for_each(|k| k.cache(c));
    }

    /// What a child takes over. `c` is as the child sends; `ids`: the RNextKeyID and the KeyID of the peer. None: the
    /// listener has no key for the peer any more (tcp_ao_copy_all_matching).
    pub(super) fn for_child(&self, c: &Context, (rnext, keyid): (u8, u8)) -> Option<Info> {
        let mut keys: Vec<Mkt> = self.keys.iter().filter(|k| k.matches(c.dst)).cloned().collect();
        // Each is put in front of the others, as Linux copies the list.
        keys.reverse();
        keys.iter_mut().for_each(|k| (k.pkt_good, k.pkt_bad) = (0, 0));
        let first = keys.first()?.id;
        let mut info = Info {
            keys,
            next_id: self.next_id,
            lisn: c.sisn,
            snd: Basis { seq: c.sisn, sne: 0 },
            ao_required: self.ao_required,
            accept_icmps: self.accept_icmps,
            ..Info::default()
        };
        info.finish_connect(c, c.disn);
        info.current = Some(info.established_key(Some(rnext), None).map_or(first, |k| k.id));
        info.rnext = Some(info.established_key(None, Some(keyid)).map_or(first, |k| k.id));
        Some(info)
    }

    /// Bytes of memory of the keys.
    pub(super) fn omem(&self) -> i32 {
        self.keys.iter().map(Mkt::size).sum()
    }

    /// Notes how far the connection has come.
    pub(super) fn advance(&mut self, snd_una: SeqNum, rcv_nxt: SeqNum) {
        self.snd.advance(snd_una);
        self.rcv.advance(rcv_nxt);
    }

    pub(super) fn rcv_sne(&self, seq: SeqNum) -> u32 {
        self.rcv.of(seq)
    }

    /// The key that we ask the peer for.
    pub(super) fn rnext_id(&self) -> u8 {
        self.by_id(self.rnext).map_or(0, |k| k.rcvid)
    }

    /// Counts a segment that was verified with a key.
    pub(super) fn count(&mut self, id: u32, good: bool) {
        let key = self.keys.iter_mut().find(|k| k.id == id);
        let (own, of_key) = match good {
            true => (&mut self.counters.pkt_good, key.map(|k| &mut k.pkt_good)),
            false => (&mut self.counters.pkt_bad, key.map(|k| &mut k.pkt_bad)),
        };
        *own += 1;
        if let Some(n) = of_key {
            *n += 1;
        }
    }
}

/// Signs one segment.
#[derive(Debug, Clone)]
pub(crate) struct Signer {
    pub(super) form: Form,
    pub(super) traffic_key: Digest,
    /// The KeyID and RNextKeyID that it carries.
    pub(super) keyid: u8,
    pub(super) rnext: u8,
    pub(super) basis: Basis,
}

impl Signer {
    pub(super) fn option(&self) -> AuthOption {
        AuthOption::Ao { keyid: self.keyid, rnext: self.rnext, maclen: self.form.maclen }
    }

    pub(super) fn mac(&self, skb: &Skb, header_len: usize, src: IpAddr, dst: IpAddr) -> Digest {
        let seq = skb.linear().get(4..8).map_or(0, |b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
        let sne = self.basis.of(SeqNum(seq));
        let at = HEADER_LEN + AuthOption::DIGEST_AT;
        self.form.hash_skb(&self.traffic_key, skb, header_len, at, sne, (src, dst))
    }
}
