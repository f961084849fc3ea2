//! Header options of hooks: reserving and writing them. Above: `segment`, `handshake`, `mtu`. The bytes follow TCP's
//! own options, padded with NOPs to a multiple of four. RFC 6994 (experimental options). Linux: bpf_skops_hdr_opt_len,
//! bpf_skops_write_hdr_opt, bpf_store_hdr_opt, bpf_load_hdr_opt.

use super::super::tcb::Cx;
use super::{OptionKind, Who, cb, each, each_hook, has_option};
use crate::base::error::{Error, Result};
use crate::wire::seq::SeqNum;
use crate::wire::tcp::{MAX_OPTIONS_LEN, TcpFlags};
use crate::wire::tcp_options::{RawOptions, kind};

/// The second option kind for experiments, besides 254 (RFC 4727).
pub(super) const EXP_253: u8 = 253;

/// The segment that the options are for.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct HdrSeg<'p> {
    /// Its control bits; None: there is no segment, and the call computes how much data fits into one.
    pub flags: Option<TcpFlags>,
    /// First sequence number.
    pub seq: SeqNum,
    /// Payload, bytes.
    pub len: usize,
    /// Number of segments that the device cuts it into.
    pub segs: u32,
    /// Option bytes of the SYN, if the segment is a listener's SYN-ACK; otherwise empty.
    pub syn: &'p [u8],
    /// Bytes of options that are free in the header.
    pub remaining: usize,
}

impl HdrSeg<'_> {
    pub(super) fn none() -> HdrSeg<'static> {
        HdrSeg { flags: None, seq: SeqNum(0), len: 0, segs: 0, syn: &[], remaining: MAX_OPTIONS_LEN }
    }
}

/// Bytes that hooks wrote, padding included.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OutOptions {
    buf: [u8; MAX_OPTIONS_LEN],
    len: u8,
}

impl OutOptions {
    /// The bytes: a multiple of four.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buf[..usize::from(self.len)]
    }
}

/// The number of bytes that each hook reserved, in order of registration: at most 20 hooks can have 2 bytes each.
#[derive(Debug, Default)]
pub(super) struct Reserved {
    parts: smallvec::SmallVec<[(u64, u8); 4]>,
}

impl Reserved {
    /// Number of bytes, rounded up to a multiple of four.
    pub(super) fn total(&self) -> usize {
        self.parts.iter().map(|p| usize::from(p.1)).sum::<usize>().next_multiple_of(4)
    }
}

/// Asks the hooks how many bytes they need, of those that `used` bytes of options and `seg.remaining` leave.
#[cold]
pub(super) fn reserve(cx: &mut Cx<'_>, who: Who<'_>, used: usize, seg: &HdrSeg<'_>) -> Reserved {
    let mut left = MAX_OPTIONS_LEN.saturating_sub(used.next_multiple_of(4)).min(seg.remaining);
    let mut r = Reserved::default();
    each(cx, cb::WRITE_HDR_OPT, who, |h, sk| {
        let n = h.hdr_opt_len(sk, &HdrSeg { remaining: left, ..*seg });
        // An option has at least two bytes.
        if (2..=left).contains(&n) {
            left -= n;
            r.parts.push((sk.id(), n as u8));
        }
    });
    r
}

/// Lets hooks reserve bytes, then write them.
#[cold]
pub(super) fn write(cx: &mut Cx<'_>, who: Who<'_>, own: &[u8], seg: &HdrSeg<'_>) -> OutOptions {
    let r = reserve(cx, who, own.len(), seg);
    let mut out = OutOptions { buf: [kind::NOP; MAX_OPTIONS_LEN], len: 0 };
    let mut at = 0;
    each_hook(cx, cb::WRITE_HDR_OPT, who, |h, sk| {
        let Some(&(_, n)) = r.parts.iter().find(|p| p.0 == sk.id()) else { return };
        let end = at + usize::from(n);
        let mut w = HdrWriter { own, only: h.option, buf: &mut out.buf, at, end };
        h.ops.write_hdr_opt(sk, &HdrSeg { remaining: usize::from(n), ..*seg }, &mut w);
        // Bytes that the hook did not write remain padding, so that the options of the next hook are well formed.
        at = end;
    });
    out.len = r.total() as u8;
    out
}

/// The space of a hook in a header.
pub struct HdrWriter<'w> {
    own: &'w [u8],
    /// What the hook said it writes.
    only: Option<OptionKind>,
    buf: &'w mut [u8; MAX_OPTIONS_LEN],
    at: usize,
    end: usize,
}

impl HdrWriter<'_> {
    /// Number of reserved bytes that are still free.
    pub fn remaining(&self) -> usize {
        self.end - self.at
    }

    /// Option bytes that TCP itself wrote into this header.
    pub fn own_options(&self) -> &[u8] {
        self.own
    }

    /// Appends one option: kind, length, data; for the experimental kinds 253 and 254 the data begins with the
    /// experiment's number (RFC 6994 §3). Bytes beyond the option's length are ignored. EINVAL: malformed, or a kind
    /// without length, or not the one that the hook said it writes; ENOSPC: more than was reserved; EEXIST: the header
    /// already has an option of this kind (and experiment), of TCP or of a hook.
    pub fn store(&mut self, option: &[u8]) -> Result<()> {
        let &[kind, len, ..] = option else { return Err(Error::Inval) };
        let len = usize::from(len);
        let least = if OptionKind::is_experimental(kind) { 4 } else { 2 };
        if matches!(kind, kind::EOL | kind::NOP) || len < least || len > option.len() {
            return Err(Error::Inval);
        }
        let option = &option[..len];
        let Some(kind) = OptionKind::of(option).filter(|k| self.only.is_none_or(|only| only == *k)) else {
            return Err(Error::Inval);
        };
        if len > self.remaining() {
            return Err(Error::NoSpc);
        }
        if has_option(self.own, kind) || has_option(&self.buf[..self.at], kind) {
            return Err(Error::Exist);
        }
        self.buf[self.at..self.at + len].copy_from_slice(option);
        self.at += len;
        Ok(())
    }
}

/// Data of the first option of a kind in option bytes; with `exid`, of the first whose data begins with this experiment
/// number (RFC 6994 §3.1). The number is part of the result.
pub fn find_option(options: &[u8], kind: u8, exid: Option<u16>) -> Option<&[u8]> {
    RawOptions::new(options)
        .find(|o| o.kind == kind && exid.is_none_or(|x| o.data.starts_with(&x.to_be_bytes())))
        .map(|o| o.data)
}
