//! Options of TCP-AO: TCP_AO_ADD_KEY, TCP_AO_DEL_KEY, TCP_AO_INFO, TCP_AO_GET_KEYS, TCP_AO_REPAIR. Above: `sockopt`.
//! Layouts, orders and errors are those of Linux 6.18 as read: this machine's kernel was built without TCP-AO. Linux:
//! tcp_ao_add_cmd, tcp_ao_del_cmd, tcp_ao_info_cmd, tcp_ao_copy_mkts_to_user, tcp_ao_get_sock_info.

use super::ao::{Basis, Context, Counters, DEFAULT_MACLEN, Form, Info, Mkt};
use super::mac::Alg;
use super::option::{STORAGE, charge, peer};
use super::{Auth, context};
use crate::base::error::{Error, Result};
use crate::sock::state::State;
use crate::tcp::repair;
use crate::tcp::sockopt::opt;
use crate::tcp::tcb::Cx;
use crate::wire::addr::Cidr;
use crate::wire::seq::SeqNum;
use crate::wire::tcp::MAX_OPTIONS_LEN;
use crate::wire::tcp_options::{AO_BASE_LEN, TIMESTAMP_ALIGNED_LEN};
use std::net::IpAddr;
use std::sync::atomic::Ordering;

/// Bytes of struct tcp_ao_add, tcp_ao_del, tcp_ao_info_opt, tcp_ao_getsockopt, tcp_ao_repair.
const ADD_SIZE: usize = 288;
const DEL_SIZE: usize = 144;
const INFO_SIZE: usize = 48;
const GET_SIZE: usize = 304;
const REPAIR_SIZE: usize = 16;
/// Longest master key (TCP_AO_MAXKEYLEN), and the name's field.
const MAXKEYLEN: usize = 80;
const NAME: usize = 64;
/// Bits of keyflags (TCP_AO_KEYF_*).
const KEYF_IFINDEX: u8 = 1;
const KEYF_EXCLUDE_OPT: u8 = 2;
/// The first two bits of tcp_ao_add, tcp_ao_del and tcp_ao_info_opt.
const SET_CURRENT: u32 = 1;
const SET_RNEXT: u32 = 2;
/// The third of tcp_ao_del.
const DEL_ASYNC: u32 = 4;
/// The others of tcp_ao_info_opt.
const AO_REQUIRED: u32 = 4;
const SET_COUNTERS: u32 = 8;
const ACCEPT_ICMPS: u32 = 16;
/// The bits of tcp_ao_getsockopt.
const IS_CURRENT: u16 = 1;
const IS_RNEXT: u16 = 2;
const GET_ALL: u16 = 4;
/// Where tcp_ao_getsockopt has the number of keys.
const NKEYS_AT: usize = 272;

/// The struct of an option: what is longer must be zero behind it. E2BIG: it is not (copy_struct_from_sockptr).
fn copy_struct<const N: usize>(value: &[u8]) -> Result<[u8; N]> {
    let n = value.len().min(N);
    let mut out = [0; N];
    out[..n].copy_from_slice(&value[..n]);
    if value[n..].iter().any(|b| *b != 0) { Err(Error::TooBig) } else { Ok(out) }
}

/// The same for setsockopt(2), where it must be whole. EINVAL.
fn whole<const N: usize>(value: &[u8]) -> Result<[u8; N]> {
    if value.len() < N { Err(Error::Inval) } else { copy_struct(value) }
}

fn u32_at(v: &[u8], at: usize) -> u32 {
    v.get(at..at + 4).map_or(0, |b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]]))
}

fn u64_at(v: &[u8], at: usize) -> u64 {
    u64::from(u32_at(v, at)) << if cfg!(target_endian = "big") { 32 } else { 0 }
        | u64::from(u32_at(v, at + 4)) << if cfg!(target_endian = "big") { 0 } else { 32 }
}

fn u16_at(v: &[u8], at: usize) -> u16 {
    v.get(at..at + 2).map_or(0, |b| u16::from_ne_bytes([b[0], b[1]]))
}

fn yes(ok: bool) -> Result<()> {
    if ok { Ok(()) } else { Err(Error::Inval) }
}

/// setsockopt(2). EISCONN: a connection that began without TCP-AO cannot have it, but in repair mode.
pub(in crate::tcp) fn set(cx: &mut Cx<'_>, name: i32, value: &[u8]) -> Result<()> {
    if name == opt::AO_REPAIR {
        return set_repair(cx, value);
    }
    let has = cx.tp.auth.as_ref().is_some_and(|a| a.ao.is_some());
    if !has && !matches!(cx.state(), State::Close | State::Listen) && !cx.tp.repair {
        return Err(Error::IsConn);
    }
    match name {
        opt::AO_ADD_KEY => add(cx, &whole(value)?),
        opt::AO_DEL_KEY => del(cx, &whole(value)?),
        _ => info(cx, &whole(value)?),
    }
}

/// The prefix of a key's peers. EINVAL: another family, a port, bits behind the prefix, or not this connection's peer.
fn verify_peers(cx: &Cx<'_>, storage: &[u8], prefix: u8) -> Result<Cidr> {
    let addr = peer(cx.sock.family, storage)?;
    yes(u16_at(storage, 2) == 0)?;
    let mapped = addr.is_ipv4() && i32::from(cx.sock.family) == libc::AF_INET6;
    yes(addr.is_unspecified() == (prefix == 0) && !(mapped && prefix == 0))?;
    let peers = Cidr::new(addr, prefix).ok_or(Error::Inval)?;
    yes(peers.network() == addr)?;
    yes(prefix == 0 || cx.sk.daddr.is_unspecified() || peers.contains(cx.sk.daddr))?;
    Ok(peers)
}

fn add(cx: &mut Cx<'_>, v: &[u8; ADD_SIZE]) -> Result<()> {
    let name = &v[STORAGE..STORAGE + NAME - 1];
    let name = name.split(|b| *b == 0).next().unwrap_or_default();
    let (ifindex, bits, reserved2) = (u32_at(v, 192), u32_at(v, 196), u16_at(v, 200));
    let [prefix, sndid, rcvid, maclen, keyflags, keylen] = [v[202], v[203], v[204], v[205], v[206], v[207]];
    yes(usize::from(keylen) <= MAXKEYLEN)?;
    yes(bits & !(SET_CURRENT | SET_RNEXT) == 0 && reserved2 == 0)?;
    let peers = verify_peers(cx, &v[..STORAGE], prefix)?;
    yes(keyflags & !(KEYF_IFINDEX | KEYF_EXCLUDE_OPT) == 0)?;
    yes(bits == 0 || cx.state() != State::Listen)?;
    // No device is an L3 master.
    yes(ifindex == 0)?;
    if cx.tp.auth.as_ref().is_some_and(|a| a.md5.lookup(peers.addr()).is_some()) {
        return Err(Error::KeyRejected);
    }
    if let Some(ao) = cx.tp.auth.as_ref().and_then(|a| a.ao.as_ref())
        && (ao.lookup(peers, None, Some(rcvid)).is_some() || ao.lookup(peers, Some(sndid), None).is_some())
    {
        // RFC 5925 §3.1: ids of keys for the same peer differ.
        return Err(Error::Exist);
    }
    let (alg, key) = Alg::with_key(name, &v[208..][..usize::from(keylen)]).ok_or(Error::NoEnt)?;
    let maclen = if maclen == 0 { DEFAULT_MACLEN } else { maclen };
    // A SYN's MSS, timestamps and window scale must fit beside it.
    let room = MAX_OPTIONS_LEN - 4 - TIMESTAMP_ALIGNED_LEN - 4;
    if (AO_BASE_LEN + usize::from(maclen)).next_multiple_of(4) > room {
        return Err(Error::MsgSize);
    }
    yes(alg.takes(key.len()) && usize::from(maclen) <= alg.digest_size())?;
    let form = Form { alg, maclen, exclude_opt: keyflags & KEYF_EXCLUDE_OPT != 0 };
    let mut mkt = Mkt::new(peers, (sndid, rcvid), form, key);
    mkt.of_interface = keyflags & KEYF_IFINDEX != 0;
    charge(cx, mkt.size())?;
    let connected = !matches!(cx.state(), State::Close | State::Listen);
    let (snd_una, rcv_nxt) = (cx.tp.snd_una, cx.tp.rcv_nxt);
    let ao = cx.tp.cold_mut().auth.get_or_insert_default().ao.get_or_insert_default();
    let id = ao.link(mkt);
    // Only repair mode gives a connection its first key.
    let only = connected && ao.keys.len() == 1;
    if only {
        ao.begin_at(snd_una, rcv_nxt);
    }
    ao.current = if only || bits & SET_CURRENT != 0 { Some(id) } else { ao.current };
    ao.rnext = if only || bits & SET_RNEXT != 0 { Some(id) } else { ao.rnext };
    if connected {
        let c = cx.tp.auth.as_ref().and_then(|a| a.ao.as_ref()).map(|ao| context(cx, ao));
        if let (Some(c), Some(ao)) = (c, cx.tp.auth_mut().and_then(|a| a.ao.as_mut())) {
            ao.cache_one(id, &c);
        }
    }
    Ok(())
}

/// The keys that a command names as current and as the next. EINVAL: a listener has none; ENOENT: no such key.
fn chosen(cx: &Cx<'_>, ao: &Info, bits: u32, current: u8, rnext: u8) -> Result<(Option<u32>, Option<u32>)> {
    yes(bits & (SET_CURRENT | SET_RNEXT) == 0 || cx.state() != State::Listen)?;
    let id = |key: Option<&Mkt>| key.map(|k| k.id).ok_or(Error::NoEnt);
    let current = (bits & SET_CURRENT != 0).then(|| id(ao.established_key(Some(current), None))).transpose()?;
    let rnext = (bits & SET_RNEXT != 0).then(|| id(ao.established_key(None, Some(rnext)))).transpose()?;
    Ok((current, rnext))
}

fn del(cx: &mut Cx<'_>, v: &[u8; DEL_SIZE]) -> Result<()> {
    let (ifindex, bits, reserved2) = (u32_at(v, 128), u32_at(v, 132), u16_at(v, 136));
    let [prefix, sndid, rcvid, current, rnext, keyflags] = [v[138], v[139], v[140], v[141], v[142], v[143]];
    yes(bits & !(SET_CURRENT | SET_RNEXT | DEL_ASYNC) == 0 && reserved2 == 0)?;
    yes(bits & (SET_CURRENT | SET_RNEXT) == 0 || cx.state() != State::Listen)?;
    yes(keyflags & !KEYF_IFINDEX == 0 && (ifindex == 0 || keyflags & KEYF_IFINDEX != 0))?;
    let ao = cx.tp.auth.as_ref().and_then(|a| a.ao.as_ref()).ok_or(Error::NoEnt)?;
    let (current, rnext) = chosen(cx, ao, bits, current, rnext)?;
    let at_once = bits & DEL_ASYNC != 0;
    yes(!at_once || cx.state() == State::Listen)?;
    // Its family is not looked at here.
    let mut storage = [0; STORAGE];
    storage.copy_from_slice(&v[..STORAGE]);
    storage[..2].copy_from_slice(&cx.sock.family.to_ne_bytes());
    let addr = peer(cx.sock.family, &storage)?;
    yes(u16_at(v, 2) == 0)?;
    let of_interface = keyflags & KEYF_IFINDEX != 0;
    let is = |k: &&Mkt| {
        (k.sndid, k.rcvid, k.peers.addr(), k.peers.prefix(), k.of_interface)
            == (sndid, rcvid, addr, prefix, of_interface)
            && ifindex == 0
            && Some(k.id) != current
            && Some(k.id) != rnext
    };
    let key = ao.keys.iter().find(is).ok_or(Error::NoEnt)?;
    let (id, size) = (key.id, key.size());
    let Some(ao) = cx.tp.auth_mut().and_then(|a| a.ao.as_mut()) else { return Err(Error::NoEnt) };
    if at_once {
        ao.current = ao.current.filter(|c| *c != id);
        ao.rnext = ao.rnext.filter(|r| *r != id);
    } else {
        (ao.current, ao.rnext) = (current.or(ao.current), rnext.or(ao.rnext));
        if ao.current == Some(id) || ao.rnext == Some(id) {
            return Err(Error::Busy);
        }
    }
    ao.keys.retain(|k| k.id != id);
    cx.sock.unowned().omem_alloc.fetch_sub(size, Ordering::Relaxed);
    Ok(())
}

fn info(cx: &mut Cx<'_>, v: &[u8; INFO_SIZE]) -> Result<()> {
    let (bits, reserved2) = (u32_at(v, 0), u16_at(v, 4));
    yes(bits & (SET_CURRENT | SET_RNEXT) == 0 || cx.state() != State::Listen)?;
    yes(bits & !(SET_CURRENT | SET_RNEXT | AO_REQUIRED | SET_COUNTERS | ACCEPT_ICMPS) == 0 && reserved2 == 0)?;
    let required = bits & AO_REQUIRED != 0;
    if required && cx.tp.auth.as_ref().is_some_and(|a| a.md5.omem() != 0) {
        return Err(Error::KeyRejected);
    }
    let connected = !matches!(cx.state(), State::Close | State::Listen);
    yes(!connected || ao_of(&cx.tp.auth).is_ok())?;
    let none = Info::default();
    let ao = cx.tp.auth.as_ref().and_then(|a| a.ao.as_deref()).unwrap_or(&none);
    let (current, rnext) = chosen(cx, ao, bits, v[6], v[7])?;
    let ao = cx.tp.cold_mut().auth.get_or_insert_default().ao.get_or_insert_default();
    if bits & SET_COUNTERS != 0 {
        ao.counters = Counters {
            pkt_good: u64_at(v, 8),
            pkt_bad: u64_at(v, 16),
            key_not_found: u64_at(v, 24),
            ao_required: u64_at(v, 32),
            dropped_icmp: u64_at(v, 40),
        };
    }
    (ao.ao_required, ao.accept_icmps) = (required, bits & ACCEPT_ICMPS != 0);
    (ao.current, ao.rnext) = (current.or(ao.current), rnext.or(ao.rnext));
    Ok(())
}

fn ao_of(auth: &Option<Box<Auth>>) -> Result<&Info> {
    auth.as_ref().and_then(|a| a.ao.as_deref()).ok_or(Error::NoEnt)
}

/// getsockopt(2). `value` is read as well: the keys that TCP_AO_GET_KEYS is to find, in the first of `nkeys` structs.
/// Returns the struct's length.
pub(in crate::tcp) fn get(cx: &Cx<'_>, name: i32, value: &mut [u8]) -> Result<usize> {
    match name {
        opt::AO_INFO => get_info(cx, value),
        opt::AO_GET_KEYS => get_keys(cx, value),
        _ => get_repair(cx, value),
    }
}

/// TCP_AO_REPAIR is for repair mode alone. EPERM.
fn in_repair_mode(cx: &Cx<'_>) -> Result<()> {
    if cx.tp.repair { Ok(()) } else { Err(Error::Perm) }
}

/// Sets what the connection was when it was taken out of another sock: both initial sequence numbers and both
/// extensions, of struct tcp_ao_repair (tcp_ao_set_repair).
fn set_repair(cx: &mut Cx<'_>, value: &[u8]) -> Result<()> {
    repair::may(cx)?;
    let v: [u8; REPAIR_SIZE] = whole(value)?;
    in_repair_mode(cx)?;
    let (snd_una, rcv_nxt) = (cx.tp.snd_una, cx.tp.rcv_nxt);
    let ao = ao_of(&cx.tp.auth)?;
    let isn = |at| SeqNum(u32::from_be(u32_at(&v, at)));
    let c = Context { sisn: isn(0), disn: isn(4), ..context(cx, ao) };
    if let Some(ao) = cx.tp.auth_mut().and_then(|a| a.ao.as_mut()) {
        (ao.lisn, ao.risn) = (c.sisn, c.disn);
        ao.snd = Basis { seq: snd_una, sne: u32_at(&v, 8) };
        ao.rcv = Basis { seq: rcv_nxt, sne: u32_at(&v, 12) };
        ao.cache(&c);
    }
    Ok(())
}

fn get_repair(cx: &Cx<'_>, value: &mut [u8]) -> Result<usize> {
    repair::may(cx)?;
    yes(!value.is_empty())?;
    in_repair_mode(cx)?;
    let mut ao = ao_of(&cx.tp.auth)?.clone();
    ao.advance(cx.tp.snd_una, cx.tp.rcv_nxt);
    let fields = [ao.lisn.0.to_be(), ao.risn.0.to_be(), ao.snd.sne, ao.rcv.sne];
    let out: Vec<u8> = fields.into_iter().flat_map(u32::to_ne_bytes).collect();
    let n = value.len().min(REPAIR_SIZE);
    value[..n].copy_from_slice(&out[..n]);
    // The length is not changed.
    Ok(value.len())
}

fn get_info(cx: &Cx<'_>, value: &mut [u8]) -> Result<usize> {
    yes(!value.is_empty())?;
    let given: [u8; INFO_SIZE] = copy_struct(value)?;
    yes(u32_at(&given, 0) >> 5 == 0 && u16_at(&given, 4) == 0)?;
    let ao = ao_of(&cx.tp.auth)?;
    let mut out = [0; INFO_SIZE];
    let (current, rnext) = (ao.by_id(ao.current), ao.by_id(ao.rnext));
    let bit = |on: bool, bit: u32| if on { bit } else { 0 };
    let bits = bit(current.is_some(), SET_CURRENT)
        | bit(rnext.is_some(), SET_RNEXT)
        | bit(ao.ao_required, AO_REQUIRED)
        | bit(ao.accept_icmps, ACCEPT_ICMPS);
    out[..4].copy_from_slice(&bits.to_ne_bytes());
    out[6] = current.map_or(0, |k| k.sndid);
    out[7] = rnext.map_or(0, |k| k.rcvid);
    let Counters { pkt_good, pkt_bad, key_not_found, ao_required, dropped_icmp } = ao.counters;
    for (i, n) in [pkt_good, pkt_bad, key_not_found, ao_required, dropped_icmp].into_iter().enumerate() {
        out[8 + 8 * i..][..8].copy_from_slice(&n.to_ne_bytes());
    }
    let n = value.len().min(INFO_SIZE);
    value[..n].copy_from_slice(&out[..n]);
    // The length is not changed.
    Ok(value.len())
}

/// Which keys TCP_AO_GET_KEYS is to find.
struct Wanted {
    bits: u16,
    peers: Option<Cidr>,
    sndid: u8,
    rcvid: u8,
}

fn wanted(v: &[u8; GET_SIZE]) -> Result<Wanted> {
    let (bits, ifindex) = (u16_at(v, 276), u32_at(v, 284));
    let [sndid, rcvid, prefix, keyflags] = [v[278], v[279], v[280], v[282]];
    yes(v[288..].iter().all(|b| *b == 0))?;
    yes(keyflags & !KEYF_IFINDEX == 0 && (ifindex == 0 || keyflags & KEYF_IFINDEX != 0))?;
    yes(bits & !(IS_CURRENT | IS_RNEXT | GET_ALL) == 0)?;
    let by_address = bits == 0;
    yes(bits & GET_ALL == 0 || bits == GET_ALL)?;
    let family = u16_at(v, 0);
    let peers = match i32::from(family) {
        libc::AF_INET | libc::AF_INET6 => {
            let addr = peer(family, &v[..STORAGE])?;
            let network = Cidr::new(addr, prefix).ok_or(Error::Inval)?;
            let any = addr.is_unspecified();
            yes(network.network() == addr && (!any || prefix == 0))?;
            yes(i32::from(family) == libc::AF_INET || prefix != 0 || any && addr.is_ipv6())?;
            Some(network)
        }
        0 if !by_address => None,
        _ => return Err(Error::AfNoSupport),
    };
    yes(by_address || peers.is_none() && (prefix, sndid, rcvid) == (0, 0, 0))?;
    Ok(Wanted { bits, peers, sndid, rcvid })
}

fn get_keys(cx: &Cx<'_>, value: &mut [u8]) -> Result<usize> {
    let ao = ao_of(&cx.tp.auth)?;
    yes(!value.is_empty())?;
    let nkeys = u32_at(value, NKEYS_AT) as usize;
    let stride = value.len() / nkeys.max(1);
    let w = wanted(&copy_struct(value.get(..stride).unwrap_or_default())?)?;
    let mut matched = 0;
    for key in &ao.keys {
        let is = |of: Option<u32>| of == Some(key.id);
        let hit = match (w.bits, w.peers) {
            (0, Some(peers)) => (key.sndid, key.rcvid) == (w.sndid, w.rcvid) && key.overlaps_at(peers),
            (GET_ALL, _) => true,
            (bits, _) => (bits & IS_CURRENT != 0 && is(ao.current)) || (bits & IS_RNEXT != 0 && is(ao.rnext)),
        };
        if !hit {
            continue;
        }
        if matched < nkeys {
            let out = shown(key, is(ao.current), is(ao.rnext));
            let n = stride.min(GET_SIZE);
            value[matched * stride..][..n].copy_from_slice(&out[..n]);
        }
        matched += 1;
    }
    if let Some(room) = value.get_mut(NKEYS_AT..NKEYS_AT + 4) {
        room.copy_from_slice(&(matched as u32).to_ne_bytes());
    }
    Ok(GET_SIZE)
}

fn shown(key: &Mkt, current: bool, rnext: bool) -> [u8; GET_SIZE] {
    let mut out = [0; GET_SIZE];
    match key.peers.addr() {
        IpAddr::V4(a) => {
            out[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
            out[4..8].copy_from_slice(&a.octets());
        }
        IpAddr::V6(a) => {
            out[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
            out[8..24].copy_from_slice(&a.octets());
        }
    }
    let name = key.form.alg.name().as_bytes();
    out[STORAGE..][..name.len()].copy_from_slice(name);
    out[192..][..key.key.len()].copy_from_slice(&key.key);
    let bits = if current { IS_CURRENT } else { 0 } | if rnext { IS_RNEXT } else { 0 };
    out[276..278].copy_from_slice(&bits.to_ne_bytes());
    let flag = |on: bool, bit: u8| if on { bit } else { 0 };
    let flags = flag(key.of_interface, KEYF_IFINDEX) | flag(key.form.exclude_opt, KEYF_EXCLUDE_OPT);
    out[278..284].copy_from_slice(&[
        key.sndid,
        key.rcvid,
        key.peers.prefix(),
        key.form.maclen,
        flags,
        key.key.len() as u8,
    ]);
    out[288..296].copy_from_slice(&key.pkt_good.to_ne_bytes());
    out[296..304].copy_from_slice(&key.pkt_bad.to_ne_bytes());
    out
}
