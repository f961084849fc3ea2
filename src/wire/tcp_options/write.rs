//! Writing options: what a SYN, a SYN-ACK or a later segment carries, in Linux's order and with its padding. Above:
//! `tcp::segment`, `tcp::synack`. Linux: tcp_options_write.

use super::{
    AO_BASE_LEN, AccEcn, FASTOPEN_COOKIE_MAX, FASTOPEN_MAGIC, MD5_DIGEST_LEN, MD5SIG_ALIGNED_LEN, MD5SIG_LEN,
    NOP_NOP_TS, SACK_BASE_ALIGNED_LEN, SACK_BLOCK_LEN, SackBlocks, TIMESTAMP_ALIGNED_LEN, USUAL_SYN_LEN, cookie_len_ok,
    kind,
};
use crate::wire::seq::WindowShift;
use crate::wire::tcp::MAX_OPTIONS_LEN;

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
        self.len() + o.len_with(self.accecn_saving()) <= MAX_OPTIONS_LEN
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

    /// The options as they are written, if they are those of most SYNs ([`is_usual_syn`](super::is_usual_syn)).
    #[inline]
    pub(crate) fn usual(&self) -> Option<[u8; USUAL_SYN_LEN]> {
        let rare = self.auth.is_some() || self.fastopen.is_some() || self.accecn.is_some();
        let (Some(mss), Some((val, ecr)), Some(shift)) = (self.mss, self.timestamps, self.window_scale) else {
            return None;
        };
        if rare || !self.sack_permitted {
            return None;
        }
        let mut bytes = [0; USUAL_SYN_LEN];
        let words = [
            u32::from_be_bytes([kind::MSS, 4, 0, 0]) | u32::from(mss),
            u32::from_be_bytes([kind::SACK_PERM, 2, kind::TIMESTAMP, 10]),
            val,
            ecr,
            u32::from_be_bytes([kind::NOP, kind::WINDOW, 3, shift.get()]),
        ];
        for (to, word) in bytes.chunks_exact_mut(4).zip(words) {
            to.copy_from_slice(&word.to_be_bytes());
        }
        Some(bytes)
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
        self.len() + o.len_with(self.accecn_saving()) <= MAX_OPTIONS_LEN
    }

    /// Bytes of an AccECN option that the NOPs before SACK blocks can take.
    fn accecn_saving(&self) -> usize {
        if self.sack_count() > 0 { 2 } else { 0 }
    }

    /// How many SACK blocks fit in addition to the other options: 4, 3 with timestamps, 2 with MD5, 0 with both.
    #[inline]
    pub(crate) fn sack_room(&self) -> usize {
        let left = MAX_OPTIONS_LEN - self.base_len();
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
