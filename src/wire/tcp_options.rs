//! TCP options: a parser for all options and one for the timestamps of data segments; `write` has what is sent. Above:
//! `tcp::input`, `tcp::handshake`, `tcp::output`. RFC 9293 §3.2, RFC 7323 (window scale, timestamps), RFC 2018 (SACK),
//! RFC 7413 (Fast Open), RFC 2385 (MD5). Linux: tcp_parse_options.
//!
//! Parsing follows Linux: an option with length 0 or 1, or one that extends past the header, ends the parsing, and the
//! options before it are kept; an option of a known kind with a wrong length is skipped; if a kind occurs twice, the
//! later one is used. The caller decides whether an option is allowed in this segment (MSS only on a SYN, SACK only
//! when negotiated).

use super::seq::SeqNum;
use super::{be16, be32};
use core::fmt;

mod write;

pub(crate) use write::{AuthOption, EstablishedOptions, FastOpenCookie, SynOptions};

/// Option kinds (IANA tcp-parameters).
pub mod kind {
    /// End of the list.
    pub const EOL: u8 = 0;
    /// One byte of padding.
    pub const NOP: u8 = 1;
    /// Maximum segment size (RFC 9293 §3.2).
    pub const MSS: u8 = 2;
    /// Window scale (RFC 7323 §2.2).
    pub const WINDOW: u8 = 3;
    /// SACK permitted (RFC 2018 §2).
    pub const SACK_PERM: u8 = 4;
    /// SACK blocks (RFC 2018 §3).
    pub const SACK: u8 = 5;
    /// Timestamps (RFC 7323 §3.2).
    pub const TIMESTAMP: u8 = 8;
    /// MD5 signature (RFC 2385).
    pub const MD5SIG: u8 = 19;
    /// Authentication option (RFC 5925).
    pub const AO: u8 = 29;
    /// Fast Open cookie (RFC 7413 §4.1.1).
    pub const FASTOPEN: u8 = 34;
    /// Accurate ECN, order 0 (RFC 9768 §3.2.3).
    pub const ACCECN0: u8 = 172;
    /// Accurate ECN, order 1 (RFC 9768 §3.2.3).
    pub const ACCECN1: u8 = 174;
    /// Experimental option, identified by a 16-bit number (RFC 6994).
    pub const EXP: u8 = 254;
}

/// The experiment number that Fast Open used before it was assigned a kind.
pub const FASTOPEN_MAGIC: u16 = 0xf989;
/// Shortest Fast Open cookie, bytes (RFC 7413 §4.1.1).
pub(crate) const FASTOPEN_COOKIE_MIN: usize = 4;
/// Longest Fast Open cookie, bytes.
pub(crate) const FASTOPEN_COOKIE_MAX: usize = 16;
/// Bytes of NOP NOP TS.
pub(crate) const TIMESTAMP_ALIGNED_LEN: usize = 12;
/// Length of the MD5 signature option, and of the digest in it.
pub(crate) const MD5SIG_LEN: u8 = 18;
pub(crate) const MD5_DIGEST_LEN: usize = 16;
/// Bytes of a TCP-AO option before its MAC.
pub(crate) const AO_BASE_LEN: usize = 4;
/// Bytes of NOP NOP MD5SIG.
pub(crate) const MD5SIG_ALIGNED_LEN: usize = 20;
/// Bytes of NOP NOP SACK before the first block.
pub(crate) const SACK_BASE_ALIGNED_LEN: usize = 4;
/// Bytes of a SACK block.
pub(crate) const SACK_BLOCK_LEN: usize = 8;

/// Bytes of a counter of the AccECN option.
const ACCECN_FIELD_LEN: usize = 3;

/// Bytes of the options of a SYN that offers MSS, SACK, timestamps and window scaling.
pub(crate) const USUAL_SYN_LEN: usize = 20;

/// NOP NOP TS 10, the first word of the options of nearly every segment.
pub(crate) const NOP_NOP_TS: u32 = 0x0101_080a;

/// One option in the segment. Includes NOPs, with no data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawOption<'p> {
    /// See [`kind`].
    pub kind: u8,
    /// The bytes after kind and length.
    pub data: &'p [u8],
    /// Offset of `data` in the option bytes.
    pub offset: usize,
}

/// Iterates over option bytes; ends at EOL, at a length below 2 or past the end, and with the bytes: at most one step
/// per byte.
#[derive(Clone, Copy)]
pub struct RawOptions<'p> {
    bytes: &'p [u8],
    at: usize,
}

impl<'p> RawOptions<'p> {
    /// `bytes` is the bytes after the fixed header.
    #[inline]
    pub fn new(bytes: &'p [u8]) -> RawOptions<'p> {
        RawOptions { bytes, at: 0 }
    }
}

impl<'p> Iterator for RawOptions<'p> {
    type Item = RawOption<'p>;

    #[inline]
    fn next(&mut self) -> Option<RawOption<'p>> {
        let at = self.at;
        let kind = *self.bytes.get(at)?;
        if kind == kind::NOP {
            self.at += 1;
            return Some(RawOption { kind, data: &[], offset: at + 1 });
        }
        // After an error or EOL the iterator returns None for good.
        self.at = self.bytes.len();
        if kind == kind::EOL {
            return None;
        }
        let len = usize::from(*self.bytes.get(at + 1)?);
        // With a length of 0 or 1 the range is reversed, and `get` returns None, as it does past the end.
        let data = self.bytes.get(at + 2..at + len)?;
        self.at = at + len;
        Some(RawOption { kind, data, offset: at + 2 })
    }
}

impl fmt::Display for RawOptions<'_> {
    /// In packetdrill's notation: `mss 1460,sackOK,TS val 1 ecr 0,nop,wscale 7`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, o) in (*self).enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            match (o.kind, o.data.len()) {
                (kind::NOP, _) => f.write_str("nop")?,
                (kind::MSS, 2) => write!(f, "mss {}", be16(o.data, 0))?,
                (kind::WINDOW, 1) => write!(f, "wscale {}", o.data[0])?,
                (kind::SACK_PERM, 0) => f.write_str("sackOK")?,
                (kind::TIMESTAMP, 8) => write!(f, "TS val {} ecr {}", be32(o.data, 0), be32(o.data, 4))?,
                (kind::SACK, n) if n % SACK_BLOCK_LEN == 0 => {
                    f.write_str("sack")?;
                    for b in o.data.chunks_exact(SACK_BLOCK_LEN) {
                        write!(f, " {}:{}", be32(b, 0), be32(b, 4))?;
                    }
                }
                (k, _) => {
                    write!(f, "kind {k}")?;
                    if !o.data.is_empty() {
                        f.write_str(" ")?;
                    }
                    for b in o.data {
                        write!(f, "{b:02x}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for RawOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{self}>")
    }
}

/// Up to four SACK blocks, which is what 40 bytes of options can hold. As received: their order has not been checked.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct SackBlocks {
    blocks: [(SeqNum, SeqNum); SackBlocks::MAX],
    count: u8,
}

impl SackBlocks {
    /// The most blocks in a header.
    pub const MAX: usize = 4;

    /// No block.
    #[inline]
    pub const fn new() -> SackBlocks {
        SackBlocks { blocks: [(SeqNum(0), SeqNum(0)); SackBlocks::MAX], count: 0 }
    }

    /// Adds `[start, end)`; false, with nothing added, when there are four already.
    #[inline]
    pub fn push(&mut self, start: SeqNum, end: SeqNum) -> bool {
        match self.blocks.get_mut(usize::from(self.count)) {
            Some(slot) => {
                *slot = (start, end);
                self.count += 1;
                true
            }
            None => false,
        }
    }

    /// The blocks in order: (first sequence number, first one after the block).
    #[inline]
    pub fn as_slice(&self) -> &[(SeqNum, SeqNum)] {
        &self.blocks[..usize::from(self.count)]
    }

    /// Number of blocks.
    #[inline]
    pub const fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are none.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Keeps the first `n`.
    #[inline]
    pub fn truncate(&mut self, n: usize) {
        self.count = self.count.min(n.min(SackBlocks::MAX) as u8);
    }
}

impl fmt::Debug for SackBlocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.as_slice().iter().map(|(s, e)| format_args!("{s}:{e}").to_string())).finish()
    }
}

impl FromIterator<(SeqNum, SeqNum)> for SackBlocks {
    /// Takes the first four.
    fn from_iter<I: IntoIterator<Item = (SeqNum, SeqNum)>>(iter: I) -> SackBlocks {
        let mut s = SackBlocks::new();
        for (start, end) in iter.into_iter().take(SackBlocks::MAX) {
            s.push(start, end);
        }
        s
    }
}

impl<'a> IntoIterator for &'a SackBlocks {
    type Item = &'a (SeqNum, SeqNum);
    type IntoIter = core::slice::Iter<'a, (SeqNum, SeqNum)>;
    fn into_iter(self) -> Self::IntoIter {
        self.as_slice().iter()
    }
}

/// The body of an option, as a range of bytes, so that the parsed value borrows nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionBody {
    offset: u8,
    len: u8,
}

impl OptionBody {
    fn of(o: &RawOption<'_>, skip: usize) -> OptionBody {
        OptionBody { offset: (o.offset + skip) as u8, len: (o.data.len() - skip) as u8 }
    }

    /// The body, in the same option bytes that were parsed; empty when given fewer bytes.
    #[inline]
    pub fn bytes<'p>(&self, options: &'p [u8]) -> &'p [u8] {
        let at = usize::from(self.offset);
        options.get(at..at + usize::from(self.len)).unwrap_or(&[])
    }

    /// Length in bytes.
    #[inline]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether the body is empty.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// A Fast Open option: an empty cookie is a request, others have 4..=16 bytes, an even number (RFC 7413 §4.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FastOpenOption {
    /// The cookie.
    pub cookie: OptionBody,
    /// It was received as kind 254 with number 0xF989, and is answered in the same form.
    pub experimental: bool,
}

/// The parsed options of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct TcpOptions {
    /// Maximum segment size, bytes; a value of 0 is ignored, as Linux does.
    pub mss: Option<u16>,
    /// Shift count as received: above 14 it must be clamped and logged (RFC 7323 §2.3), see [`WindowShift::clamp`].
    pub window_scale: Option<u8>,
    /// SACK permitted.
    pub sack_permitted: bool,
    /// (TSval, TSecr).
    pub timestamps: Option<(u32, u32)>,
    /// SACK blocks; empty when there is no such option.
    pub sack: SackBlocks,
    /// Fast Open.
    pub fastopen: Option<FastOpenOption>,
    /// The 16 bytes of an MD5 signature.
    pub md5: Option<OptionBody>,
    /// TCP-AO: KeyID, RNextKeyID and MAC.
    pub ao: Option<OptionBody>,
    /// Accurate ECN of order 0: 24-bit counters, EE0B first.
    pub accecn0: Option<OptionBody>,
    /// Accurate ECN of order 1: 24-bit counters, EE1B first.
    pub accecn1: Option<OptionBody>,
    /// There is an option of another kind, or an experiment with another number.
    pub saw_unknown: bool,
}

impl TcpOptions {
    /// Parses all options. Never fails: any bytes give a value.
    #[inline]
    pub fn parse(options: &[u8]) -> TcpOptions {
        if options.is_empty() {
            return TcpOptions::default();
        }
        // Each made where it is returned.
        if let Some(ts) = parse_timestamp_only(options) {
            return TcpOptions { timestamps: Some(ts), ..TcpOptions::default() };
        }
        if is_usual_syn(options) {
            return TcpOptions {
                mss: Some(be16(options, 2)).filter(|mss| *mss != 0),
                sack_permitted: true,
                timestamps: Some((be32(options, 8), be32(options, 12))),
                window_scale: Some(options[19]),
                ..TcpOptions::default()
            };
        }
        let mut t = TcpOptions::default();
        t.read(options);
        t
    }

    /// The counters of the AccECN option that comes last, in the same option bytes that were parsed. A counter that is
    /// cut, and what comes behind the third, is padding (RFC 9768 §3.2.3.2.5).
    #[inline]
    pub(crate) fn accecn(&self, options: &[u8]) -> Option<AccEcn> {
        let (order1, body) = match (self.accecn0, self.accecn1) {
            (None, None) => return None,
            (Some(zero), Some(one)) if zero.offset > one.offset => (false, zero),
            (_, Some(one)) => (true, one),
            (Some(zero), None) => (false, zero),
        };
        let mut o = AccEcn { order1, len: 0, fields: [0; 3] };
        for (to, from) in o.fields.iter_mut().zip(body.bytes(options).chunks_exact(ACCECN_FIELD_LEN)) {
            *to = u32::from(from[0]) << 16 | u32::from(be16(from, 1));
            o.len += 1;
        }
        Some(o)
    }

    fn read(&mut self, options: &[u8]) {
        for o in RawOptions::new(options) {
            match (o.kind, o.data.len()) {
                (kind::NOP, _) => {}
                (kind::MSS, 2) => {
                    let mss = be16(o.data, 0);
                    if mss != 0 {
                        self.mss = Some(mss);
                    }
                }
                (kind::WINDOW, 1) => self.window_scale = Some(o.data[0]),
                (kind::SACK_PERM, 0) => self.sack_permitted = true,
                (kind::TIMESTAMP, 8) => self.timestamps = Some((be32(o.data, 0), be32(o.data, 4))),
                (kind::SACK, n) if n >= SACK_BLOCK_LEN && n % SACK_BLOCK_LEN == 0 => {
                    let blocks = o.data.chunks_exact(SACK_BLOCK_LEN);
                    self.sack = blocks.map(|b| (SeqNum(be32(b, 0)), SeqNum(be32(b, 4)))).collect();
                }
                (kind::MD5SIG, 16) => self.md5 = Some(OptionBody::of(&o, 0)),
                (kind::AO, n) if n >= 2 => self.ao = Some(OptionBody::of(&o, 0)),
                (kind::FASTOPEN, n) if cookie_len_ok(n) => {
                    self.fastopen = Some(FastOpenOption { cookie: OptionBody::of(&o, 0), experimental: false });
                }
                (kind::EXP, n) if n >= 2 && be16(o.data, 0) == FASTOPEN_MAGIC && cookie_len_ok(n - 2) => {
                    self.fastopen = Some(FastOpenOption { cookie: OptionBody::of(&o, 2), experimental: true });
                }
                (kind::ACCECN0, _) => self.accecn0 = Some(OptionBody::of(&o, 0)),
                (kind::ACCECN1, _) => self.accecn1 = Some(OptionBody::of(&o, 0)),
                // A known kind with a wrong length: skipped.
                (kind::MSS | kind::WINDOW | kind::SACK_PERM | kind::TIMESTAMP | kind::SACK, _) => {}
                (kind::MD5SIG | kind::AO | kind::FASTOPEN, _) => {}
                _ => self.saw_unknown = true,
            }
        }
    }
}

fn cookie_len_ok(n: usize) -> bool {
    n == 0 || (n.is_multiple_of(2) && (FASTOPEN_COOKIE_MIN..=FASTOPEN_COOKIE_MAX).contains(&n))
}

/// The timestamps when the options are exactly NOP NOP TS, as in a data segment without SACK; otherwise `None`, and
/// [`TcpOptions::parse`] is needed. Linux: tcp_parse_aligned_timestamp.
#[inline]
pub(crate) fn parse_timestamp_only(options: &[u8]) -> Option<(u32, u32)> {
    if !is_timestamp_only(options) {
        return None;
    }
    let b: &[u8; TIMESTAMP_ALIGNED_LEN] = options.try_into().ok()?;
    Some((u32::from_be_bytes([b[4], b[5], b[6], b[7]]), u32::from_be_bytes([b[8], b[9], b[10], b[11]])))
}

/// Writes NOP NOP TS to the front of `buf`; returns their length.
///
/// # Panics
/// When `buf` is shorter.
#[inline]
pub(crate) fn emit_timestamp_only(buf: &mut [u8], (val, ecr): (u32, u32)) -> usize {
    let words = [NOP_NOP_TS, val, ecr].map(u32::to_be_bytes);
    buf[..TIMESTAMP_ALIGNED_LEN].copy_from_slice(words.as_flattened());
    TIMESTAMP_ALIGNED_LEN
}

/// Whether the options are exactly NOP NOP TS.
#[inline]
pub(crate) fn is_timestamp_only(options: &[u8]) -> bool {
    options.len() == TIMESTAMP_ALIGNED_LEN && options.starts_with(&NOP_NOP_TS.to_be_bytes())
}

/// Whether the options are exactly MSS, SACK permitted, TS, NOP and window scale, as those of a SYN of Linux are.
#[inline]
pub(crate) fn is_usual_syn(options: &[u8]) -> bool {
    let Ok(b) = <&[u8; USUAL_SYN_LEN]>::try_from(options) else { return false };
    b[..2] == [kind::MSS, 4]
        && b[4..8] == [kind::SACK_PERM, 2, kind::TIMESTAMP, 10]
        && b[16..19] == [kind::NOP, kind::WINDOW, 3]
}

/// The counters of an AccECN option (RFC 9768 §3.2.3), of which the first `len` are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AccEcn {
    /// EE1B, ECEB, EE0B; otherwise EE0B, ECEB, EE1B.
    pub order1: bool,
    pub len: u8,
    /// 24 bits each.
    pub fields: [u32; 3],
}

impl AccEcn {
    /// Bytes without padding.
    #[inline]
    const fn raw_len(&self) -> usize {
        2 + self.len as usize * ACCECN_FIELD_LEN
    }

    /// Bytes that it takes where the NOPs of an option behind it can take `saved` of its own.
    #[inline]
    const fn len_with(&self, saved: usize) -> usize {
        let len = self.raw_len();
        if len % 4 > saved { len.next_multiple_of(4) } else { len - len % 4 }
    }

    fn bytes(&self) -> ([u8; 11], usize) {
        let mut b = [kind::NOP; 11];
        b[0] = if self.order1 { kind::ACCECN1 } else { kind::ACCECN0 };
        b[1] = self.raw_len() as u8;
        for (to, field) in b[2..].chunks_exact_mut(ACCECN_FIELD_LEN).zip(&self.fields[..usize::from(self.len)]) {
            to.copy_from_slice(&field.to_be_bytes()[1..]);
        }
        (b, self.raw_len())
    }
}

#[cfg(test)]
mod tests;
