//! Offloads of a protocol written in C: packets that stand for several, sent and received. Above: `cproto`. Below:
//! `device::gso`, by `sock::offload`. Linux: skb_shared_info.gso_size, struct net_offload.

use super::addr::usk_addr_t;
use super::call::broken;
use super::gate::kernel;
use super::guard::{guard, usk_owned_t};
use super::info::peer;
use super::ip::ip_header;
use super::private::living;
use super::proto::{ProtoReg, usk_merge_t, usk_piece_t};
use super::skb::{self, lend, usk_skb_t};
use super::watch;
use crate::held::{contain, status};
use std::ffi::c_int;
use std::net::IpAddr;
use std::sync::{Arc, Weak};
use usersock::error::{Error, Result};
use usersock::ip::plan;
use usersock::sock::offload::{Join, MAX_HEADER, Offload, Piece, Pieces};
use usersock::sock::skb::{Csum, GsoType, Skb};

/// Makes a packet a super-packet, which stands for several: its first `header` bytes are the header of each, which the
/// segment operation makes, and each has `size` bytes of what follows, the last one perhaps fewer. It is sent like
/// another, and cut where a device cannot carry it whole, the loopback device not. One with at most `size` bytes behind
/// its header stays an ordinary packet. Call it last, when the packet is complete; usk_skb_share shares it. Returns 0;
/// -EINVAL: `size` is 0 or above 65535, `header` is 0 or above 52, the packet has no byte behind it; -EMSGSIZE: the
/// packet is longer than 65535 bytes (usk_gso_max); -EOPNOTSUPP: the table has no segment operation
/// (skb_shared_info.gso_size).
/// # Safety
/// `o` is owned; `skb` is a packet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_skb_set_gso(o: *mut usk_owned_t, skb: *mut usk_skb_t, header: u32, size: u32) -> c_int {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (g, skb) = unsafe { (guard(o)?, skb::get(skb, "usk_skb_set_gso")?) };
        let reg = living(g)?.private.registration();
        let size = u16::try_from(size).ok().filter(|n| *n > 0).ok_or(Error::Inval)?;
        let header = u16::try_from(header).ok().filter(|n| (1..=MAX_HEADER).contains(&usize::from(*n)));
        let header = header.filter(|n| usize::from(*n) < skb.len()).ok_or(Error::Inval)?;
        if reg.table.segment.is_none() {
            return Err(Error::OpNotSupp);
        }
        if skb.len() > usize::from(u16::MAX) {
            return Err(Error::MsgSize);
        }
        skb::prepare(skb);
        if skb.len() - usize::from(header) <= usize::from(size) {
            (skb.gso_size, skb.gso_type, skb.pieces) = (0, GsoType::None, None);
            return Ok(0);
        }
        let csum = match skb.csum {
            Csum::Partial { start, offset } => Some((start, offset)),
            _ => None,
        };
        if csum.is_some_and(|(start, offset)| start + offset + 2 > header) {
            return Err(Error::Inval);
        }
        let reg: Weak<ProtoReg> = Arc::downgrade(reg);
        (skb.gso_size, skb.gso_type) = (size, GsoType::Protocol);
        skb.pieces = Some(Pieces { header, csum, offload: reg });
        Ok(0)
    })
}

/// Bytes of header and payload of the largest super-packet to the peer, by its device and by IP's length field
/// (sk_gso_max_size). -ENOTCONN without a peer; -ENETUNREACH.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_gso_max(o: *mut usk_owned_t) -> c_int {
    kernel(|| {
        // SAFETY: owned, as the caller guarantees.
        let g = unsafe { guard(o) }?;
        let peer = peer(g)?;
        let plan = plan::plan(g, peer, &[], 0)?;
        let headers = ip_header(peer.is_ipv4()) + plan.headers_len() + plan.options_len(g);
        let most = (plan.dst.dev.caps().gso_max_size as usize).min(usize::from(u16::MAX));
        Ok(most.saturating_sub(headers) as c_int)
    })
}

fn ends(ends: (IpAddr, IpAddr)) -> (usk_addr_t, usk_addr_t) {
    (usk_addr_t::of(ends.0, 0), usk_addr_t::of(ends.1, 0))
}

/// Shows a packet to an operation that must leave it as it is. Its offloads are not the operation's to change.
fn show<R>(skb: &mut Skb, call: &'static str, f: impl FnOnce(*mut usk_skb_t) -> R) -> Option<R> {
    let lent = lend(skb, call);
    let r = contain(|| f(lent)).ok();
    if watch::on() {
        let whole = std::mem::take(skb);
        *skb = skb::left(whole, call);
    }
    r
}

impl Offload for ProtoReg {
    fn segment(&self, piece: &mut Piece<'_>) -> Result<()> {
        let f = self.table.segment.ok_or(Error::OpNotSupp)?;
        let (src, dst) = ends(piece.ends);
        let mut about = usk_piece_t {
            header: piece.header.as_mut_ptr().cast(),
            header_len: piece.header.len() as u32,
            index: piece.index.into(),
            offset: piece.offset as u32,
            len: piece.len as u32,
            last: piece.last.into(),
            sum: piece.sum,
            src,
            dst,
        };
        // SAFETY: the table's function, called as the table documents.
        let r = contain(|| unsafe { f(self.handle(), &mut about) });
        let wrong = r.map_or(true, |r| !(-4095..=0).contains(&r));
        if let Some(sock) = piece.sock.filter(|_| wrong) {
            broken(sock);
        }
        piece.sum = about.sum;
        status(r?.into())
    }

    fn may_hold(&self, skb: &mut Skb, of: (IpAddr, IpAddr)) -> Option<usize> {
        let f = self.table.may_merge?;
        let (src, dst) = ends(of);
        // SAFETY: as in `segment`.
        let header = show(skb, "may_merge", |skb| unsafe { f(self.handle(), skb, &src, &dst) })?;
        usize::try_from(header).ok().filter(|n| *n > 0)
    }

    fn join(&self, header: &mut [u8], held: usize, next: &mut Skb, of: (IpAddr, IpAddr)) -> Join {
        let Some(f) = self.table.merge else { return Join::No };
        let (src, dst) = ends(of);
        let (header_len, header) = (header.len() as u32, header.as_mut_ptr().cast());
        let r = show(next, "merge", |next| {
            let mut about = usk_merge_t { header, header_len, held: held as u32, next, src, dst };
            // SAFETY: as in `segment`.
            unsafe { f(self.handle(), &mut about) }
        });
        match r {
            Some(1) => Join::Joined,
            Some(2) => Join::Last,
            _ => Join::No,
        }
    }
}
