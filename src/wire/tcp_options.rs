//! TCP options: a parser for all options, one for the timestamps of data segments, and emitters for the handshake, for
//! data segments and for resets. Above: `tcp::input`, `tcp::handshake`, `tcp::output`. RFC 9293 §3.2, RFC 7323 (window
//! scale, timestamps), RFC 2018 (SACK), RFC 7413 (Fast Open), RFC 2385 (MD5). Linux: tcp_parse_options,
//! tcp_options_write.
//!
//! Parsing follows Linux: an option with length 0 or 1, or one that extends past the header, ends the parsing, and the
//! options before it are kept; an option of a known kind with a wrong length is skipped; if a kind occurs twice, the
//! later one is used. The caller decides whether an option is allowed in this segment (MSS only on a SYN, SACK only
//! when negotiated).

use super::seq::{SeqNum, WindowShift};
use super::{be16, be32};
use core::fmt;

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
const USUAL_SYN_LEN: usize = 20;

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
        let mut t = TcpOptions::default();
        if options.is_empty() {
            return t;
        }
        if let Some(ts) = parse_timestamp_only(options) {
            t.timestamps = Some(ts);
            return t;
        }
        if is_usual_syn(options) {
            t.mss = Some(be16(options, 2)).filter(|mss| *mss != 0);
            t.sack_permitted = true;
            t.timestamps = Some((be32(options, 8), be32(options, 12)));
            t.window_scale = Some(options[19]);
            return t;
        }
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

/// A cookie to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FastOpenCookie {
    bytes: [u8; FASTOPEN_COOKIE_MAX],
    len: u8,
    /// Send it as kind 254 with number 0xF989.
    pub experimental: bool,
}

impl FastOpenCookie {
    /// A request for a cookie.
    pub(crate) const REQUEST: FastOpenCookie = FastOpenCookie::of([0; 8], 0);

    /// A cookie of eight bytes, as servers here make them.
    pub(crate) const fn eight(bytes: [u8; 8]) -> FastOpenCookie {
        FastOpenCookie::of(bytes, 8)
    }

    const fn of(bytes: [u8; 8], len: u8) -> FastOpenCookie {
        let [a, b, c, d, e, f, g, h] = bytes;
        let bytes = [a, b, c, d, e, f, g, h, 0, 0, 0, 0, 0, 0, 0, 0];
        FastOpenCookie { bytes, len, experimental: false }
    }

    /// The same in the form of kind 254, or of kind 34.
    pub(crate) const fn in_form(mut self, experimental: bool) -> FastOpenCookie {
        self.experimental = experimental;
        self
    }

    /// `None` unless `cookie` is empty (a request) or has 4..=16 bytes, an even number.
    pub(crate) fn new(cookie: &[u8], experimental: bool) -> Option<FastOpenCookie> {
        if !cookie_len_ok(cookie.len()) {
            return None;
        }
        let mut bytes = [0; FASTOPEN_COOKIE_MAX];
        bytes[..cookie.len()].copy_from_slice(cookie);
        Some(FastOpenCookie { bytes, len: cookie.len() as u8, experimental })
    }

    /// The cookie's bytes; none for a request.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Number of bytes in the options, padding included.
    #[inline]
    pub(crate) const fn option_len(&self) -> usize {
        (if self.experimental { 4 } else { 2 } + self.len as usize).next_multiple_of(4)
    }
}

/// Room for a signature, the first option of a segment: it is written with zeros in the place of the digest, which
/// covers the finished header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AuthOption {
    /// MD5 signature (RFC 2385).
    Md5,
    /// TCP-AO (RFC 5925 §2.2).
    Ao { keyid: u8, rnext: u8, maclen: u8 },
}

impl AuthOption {
    /// Where the digest begins in the options.
    pub(crate) const DIGEST_AT: usize = 4;

    /// Number of bytes in the options, padding included.
    #[inline]
    pub(crate) const fn option_len(&self) -> usize {
        match self {
            AuthOption::Md5 => MD5SIG_ALIGNED_LEN,
            AuthOption::Ao { maclen, .. } => (AO_BASE_LEN + *maclen as usize).next_multiple_of(4),
        }
    }
}

/// Options of a SYN or SYN-ACK, written in Linux's order: signature, MSS, timestamps (with SACK permitted instead of
/// their NOPs), AccECN, SACK permitted alone, window scale, Fast Open. The end of an AccECN option that is no full word
/// takes the place of NOPs behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct SynOptions {
    /// Room for a signature.
    pub auth: Option<AuthOption>,
    /// Maximum segment size, bytes.
    pub mss: Option<u16>,
    /// (TSval, TSecr).
    pub timestamps: Option<(u32, u32)>,
    /// SACK permitted.
    pub sack_permitted: bool,
    /// Window scale.
    pub window_scale: Option<WindowShift>,
    /// Fast Open cookie or request.
    pub fastopen: Option<FastOpenCookie>,
    /// Accurate ECN.
    pub accecn: Option<AccEcn>,
}

impl SynOptions {
    fn sack_alone(&self) -> bool {
        self.sack_permitted && self.timestamps.is_none()
    }

    /// Bytes of an AccECN option that other options' NOPs can take.
    fn accecn_saving(&self) -> usize {
        if self.sack_alone() { 2 } else { usize::from(self.window_scale.is_some()) }
    }

    /// Whether there is room for an AccECN option in addition to the others.
    pub(crate) fn fits(&self, o: &AccEcn) -> bool {
        self.len() + o.len_with(self.accecn_saving()) <= super::tcp::MAX_OPTIONS_LEN
    }

    /// Number of bytes that `emit` writes, a multiple of four. More than 40 do not fit into a header, and the caller
    /// must omit an option.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.auth.as_ref().map_or(0, AuthOption::option_len)
            + (if self.mss.is_some() { 4 } else { 0 })
            + (if self.timestamps.is_some() { TIMESTAMP_ALIGNED_LEN } else { 0 })
            + (if self.sack_alone() { 4 } else { 0 })
            + (if self.window_scale.is_some() { 4 } else { 0 })
            + self.fastopen.as_ref().map_or(0, FastOpenCookie::option_len)
            + self.accecn.as_ref().map_or(0, |o| o.len_with(self.accecn_saving()))
    }

    /// Writes the options to the front of `buf`; returns `len()`.
    ///
    /// # Panics
    /// When `buf` is shorter than `len()`.
    pub(crate) fn emit(&self, buf: &mut [u8]) -> usize {
        let mut w = Writer::new(buf);
        if let Some(auth) = &self.auth {
            w.auth(auth);
        }
        if let Some(mss) = self.mss {
            w.word([kind::MSS, 4, (mss >> 8) as u8, mss as u8]);
        }
        match (self.timestamps, self.sack_permitted) {
            (Some(ts), true) => {
                w.word([kind::SACK_PERM, 2, kind::TIMESTAMP, 10]);
                w.timestamps(ts);
            }
            (Some(ts), false) => {
                w.word(NOP_NOP_TS.to_be_bytes());
                w.timestamps(ts);
            }
            (None, _) => {}
        }
        w.accecn(self.accecn.as_ref());
        if self.sack_alone() {
            w.behind_nops(kind::SACK_PERM, 2);
        }
        if let Some(shift) = self.window_scale {
            let nop = w.one_over();
            w.word([nop, kind::WINDOW, 3, shift.get()]);
        }
        w.end_accecn();
        if let Some(cookie) = &self.fastopen {
            w.fastopen(cookie);
        }
        w.at
    }
}

/// Options of every segment after the handshake, written in Linux's order: signature, NOP NOP timestamps, AccECN, NOP
/// NOP SACK; the end of an AccECN option that is no full word takes the place of these NOPs. A reset carries at most a
/// signature, and an acknowledgement for a time-wait or request sock a signature and timestamps: both use this type
/// with the other fields empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct EstablishedOptions {
    /// Room for a signature.
    pub auth: Option<AuthOption>,
    /// (TSval, TSecr).
    pub timestamps: Option<(u32, u32)>,
    /// SACK blocks, D-SACK first.
    pub sack: SackBlocks,
    /// Accurate ECN.
    pub accecn: Option<AccEcn>,
}

impl EstablishedOptions {
    /// Whether there is room for an AccECN option in addition to the others.
    pub(crate) fn fits(&self, o: &AccEcn) -> bool {
        self.len() + o.len_with(self.accecn_saving()) <= super::tcp::MAX_OPTIONS_LEN
    }

    /// Bytes of an AccECN option that the NOPs before SACK blocks can take.
    fn accecn_saving(&self) -> usize {
        if self.sack_count() > 0 { 2 } else { 0 }
    }

    /// How many SACK blocks fit in addition to the other options: 4, 3 with timestamps, 2 with MD5, 0 with both.
    #[inline]
    pub(crate) fn sack_room(&self) -> usize {
        let left = super::tcp::MAX_OPTIONS_LEN - self.base_len();
        left.saturating_sub(SACK_BASE_ALIGNED_LEN) / SACK_BLOCK_LEN
    }

    #[inline]
    fn base_len(&self) -> usize {
        self.auth.as_ref().map_or(0, AuthOption::option_len)
            + (if self.timestamps.is_some() { TIMESTAMP_ALIGNED_LEN } else { 0 })
    }

    #[inline]
    fn sack_count(&self) -> usize {
        self.sack.len().min(self.sack_room())
    }

    /// Number of bytes that `emit` writes: a multiple of four, at most 40. Blocks beyond
    /// [`EstablishedOptions::sack_room`] are omitted.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        let accecn = self.accecn.as_ref().map_or(0, |o| o.len_with(self.accecn_saving()));
        match self.sack_count() {
            0 => self.base_len() + accecn,
            n => self.base_len() + accecn + SACK_BASE_ALIGNED_LEN + n * SACK_BLOCK_LEN,
        }
    }

    /// Writes the options to the front of `buf`; returns `len()`.
    ///
    /// # Panics
    /// When `buf` is shorter than `len()`.
    #[inline]
    pub(crate) fn emit(&self, buf: &mut [u8]) -> usize {
        let mut w = Writer::new(buf);
        if let Some(auth) = &self.auth {
            w.auth(auth);
        }
        if let Some(ts) = self.timestamps {
            w.word(NOP_NOP_TS.to_be_bytes());
            w.timestamps(ts);
        }
        w.accecn(self.accecn.as_ref());
        let n = self.sack_count();
        if n > 0 {
            w.behind_nops(kind::SACK, (2 + n * SACK_BLOCK_LEN) as u8);
            for (start, end) in &self.sack.as_slice()[..n] {
                w.word(start.0.to_be_bytes());
                w.word(end.0.to_be_bytes());
            }
        }
        w.end_accecn();
        w.at
    }
}

/// Appends words to option bytes.
struct Writer<'b> {
    buf: &'b mut [u8],
    at: usize,
    /// The end of an AccECN option, written in the place of the next NOPs: bytes, and how many.
    over: ([u8; 2], usize),
}

impl Writer<'_> {
    #[inline]
    fn new(buf: &mut [u8]) -> Writer<'_> {
        Writer { buf, at: 0, over: ([kind::NOP; 2], 0) }
    }

    /// Writes full words and keeps the rest for the next NOPs; a rest of three bytes has a NOP added.
    #[inline]
    fn accecn(&mut self, o: Option<&AccEcn>) {
        let Some(o) = o else { return };
        let (b, len) = o.bytes();
        match len % 4 {
            3 => {
                self.bytes(&b[..len]);
                self.bytes(&[kind::NOP]);
            }
            rest => {
                self.bytes(&b[..len - rest]);
                self.over.0[..rest].copy_from_slice(&b[len - rest..len]);
                self.over.1 = rest;
            }
        }
    }

    /// An option of two bytes, or the first two of one, behind two NOPs.
    #[inline]
    fn behind_nops(&mut self, kind: u8, len: u8) {
        let ([a, b], _) = std::mem::replace(&mut self.over, ([kind::NOP; 2], 0));
        self.word([a, b, kind, len]);
    }

    /// A NOP, or the last byte of an AccECN option where just one is left.
    fn one_over(&mut self) -> u8 {
        if self.over.1 != 1 {
            return kind::NOP;
        }
        std::mem::replace(&mut self.over, ([kind::NOP; 2], 0)).0[0]
    }

    /// What no NOP could take.
    #[inline]
    fn end_accecn(&mut self) {
        if self.over.1 != 0 {
            self.behind_nops(kind::NOP, kind::NOP);
        }
    }

    #[inline]
    fn bytes(&mut self, b: &[u8]) {
        self.buf[self.at..self.at + b.len()].copy_from_slice(b);
        self.at += b.len();
    }

    #[inline]
    fn word(&mut self, w: [u8; 4]) {
        self.bytes(&w);
    }

    #[inline]
    fn timestamps(&mut self, (val, ecr): (u32, u32)) {
        self.word(val.to_be_bytes());
        self.word(ecr.to_be_bytes());
    }

    fn auth(&mut self, auth: &AuthOption) {
        match auth {
            AuthOption::Md5 => {
                self.word([kind::NOP, kind::NOP, kind::MD5SIG, MD5SIG_LEN]);
                self.bytes(&[0; MD5_DIGEST_LEN]);
            }
            AuthOption::Ao { keyid, rnext, maclen } => {
                let (mac, end) = (self.at + AO_BASE_LEN, self.at + auth.option_len());
                self.word([kind::AO, AO_BASE_LEN as u8 + maclen, *keyid, *rnext]);
                let padding = mac + usize::from(*maclen);
                self.buf[mac..padding].fill(0);
                self.buf[padding..end].fill(kind::NOP);
                self.at = end;
            }
        }
    }

    fn fastopen(&mut self, c: &FastOpenCookie) {
        let end = self.at + c.option_len();
        if c.experimental {
            let [hi, lo] = FASTOPEN_MAGIC.to_be_bytes();
            self.word([kind::EXP, 4 + c.len, hi, lo]);
        } else {
            self.bytes(&[kind::FASTOPEN, 2 + c.len]);
        }
        self.bytes(c.bytes());
        self.buf[self.at..end].fill(kind::NOP);
        self.at = end;
    }
}

#[cfg(test)]
mod tests;
