//! Sequence numbers, windows and segment sizes as types, so that a raw 16-bit window cannot be mistaken for bytes, and
//! two sequence numbers cannot be compared with `<`. Used throughout `tcp`. Linux: before(), after(), between() in
//! net/tcp.h.

use core::fmt;
use core::ops::{Add, AddAssign, Sub, SubAssign};

/// A sequence number, modulo 2^32 (RFC 9293 §3.4). Not `Ord`: the order is cyclic, so `max` and `sort` would be wrong.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SeqNum(pub u32);

impl SeqNum {
    /// Earlier than `other`; meaningful while the two are less than 2^31 apart.
    #[inline]
    pub const fn before(self, other: SeqNum) -> bool {
        (self.0.wrapping_sub(other.0) as i32) < 0
    }

    /// Later than `other`: `other.before(self)`.
    #[inline]
    pub const fn after(self, other: SeqNum) -> bool {
        other.before(self)
    }

    /// Not later than `other`.
    #[inline]
    pub const fn before_eq(self, other: SeqNum) -> bool {
        !self.after(other)
    }

    /// Not earlier than `other`.
    #[inline]
    pub const fn after_eq(self, other: SeqNum) -> bool {
        !self.before(other)
    }

    /// In the range from `lo` to `hi`, both included, modulo 2^32: right for ranges of any length up to 2^32 - 1.
    #[inline]
    pub const fn between(self, lo: SeqNum, hi: SeqNum) -> bool {
        hi.0.wrapping_sub(lo.0) >= self.0.wrapping_sub(lo.0)
    }

    /// Signed distance `self - other`: negative when `self` is before `other`.
    #[inline]
    pub const fn diff(self, other: SeqNum) -> i32 {
        self.0.wrapping_sub(other.0) as i32
    }

    /// Bytes from `other` forward to `self`, 0..2^32. For a pair known to be in order (`snd_nxt.since(snd_una)`).
    #[inline]
    pub const fn since(self, other: SeqNum) -> u32 {
        self.0.wrapping_sub(other.0)
    }

    /// The later of the two, `self` when equal.
    #[inline]
    pub const fn later(self, other: SeqNum) -> SeqNum {
        if self.before(other) { other } else { self }
    }

    /// The earlier of the two, `self` when equal.
    #[inline]
    pub const fn earlier(self, other: SeqNum) -> SeqNum {
        if self.after(other) { other } else { self }
    }
}

impl Add<u32> for SeqNum {
    type Output = SeqNum;
    #[inline]
    fn add(self, n: u32) -> SeqNum {
        SeqNum(self.0.wrapping_add(n))
    }
}

impl Sub<u32> for SeqNum {
    type Output = SeqNum;
    #[inline]
    fn sub(self, n: u32) -> SeqNum {
        SeqNum(self.0.wrapping_sub(n))
    }
}

impl Sub<SeqNum> for SeqNum {
    type Output = i32;
    /// As [`SeqNum::diff`].
    #[inline]
    fn sub(self, other: SeqNum) -> i32 {
        self.diff(other)
    }
}

impl AddAssign<u32> for SeqNum {
    #[inline]
    fn add_assign(&mut self, n: u32) {
        *self = *self + n;
    }
}

impl SubAssign<u32> for SeqNum {
    #[inline]
    fn sub_assign(&mut self, n: u32) {
        *self = *self - n;
    }
}

impl From<u32> for SeqNum {
    #[inline]
    fn from(n: u32) -> SeqNum {
        SeqNum(n)
    }
}

impl fmt::Debug for SeqNum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seq {}", self.0)
    }
}

impl fmt::Display for SeqNum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The window field in the header, before scaling (RFC 9293 §3.1). Converted to bytes only with a [`WindowShift`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct RawWindow(pub u16);

impl RawWindow {
    /// The window in bytes: at most 65535 << 14, so it fits and stays below 2^30 (RFC 7323 §2.3).
    #[inline]
    pub const fn scale(self, shift: WindowShift) -> u32 {
        (self.0 as u32) << shift.0
    }

    /// The window field for `bytes`, rounded down to the unit of `shift` and limited to 65535.
    #[inline]
    pub const fn from_bytes(bytes: u32, shift: WindowShift) -> RawWindow {
        let scaled = bytes >> shift.0;
        RawWindow(if scaled > 0xffff { 0xffff } else { scaled as u16 })
    }
}

/// Window scale shift count. A shift above 14 cannot be constructed (RFC 7323 §2.3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, PartialOrd, Ord)]
pub struct WindowShift(u8);

impl WindowShift {
    /// No scaling: in force until both SYNs carried the option.
    pub const NONE: WindowShift = WindowShift(0);
    /// The largest shift. Linux: TCP_MAX_WSCALE.
    pub const MAX: WindowShift = WindowShift(14);

    /// `None` above 14.
    #[inline]
    pub const fn new(shift: u8) -> Option<WindowShift> {
        if shift <= 14 { Some(WindowShift(shift)) } else { None }
    }

    /// Values above 14 become 14, as RFC 7323 §2.3 requires of a receiver.
    #[inline]
    pub const fn clamp(shift: u8) -> WindowShift {
        if shift <= 14 { WindowShift(shift) } else { WindowShift::MAX }
    }

    /// Bytes per unit of the window field.
    #[inline]
    pub const fn unit(self) -> u32 {
        1 << self.0
    }

    /// The shift count, 0..=14.
    #[inline]
    pub const fn get(self) -> u8 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn order_holds_across_the_wrap() {
        for isn in [0u32, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_fff0, 0xffff_ffff] {
            let a = SeqNum(isn);
            for d in [1u32, 2, 1000, 0x7fff_ffff] {
                let b = a + d;
                assert!(a.before(b) && b.after(a) && a.before_eq(b) && b.after_eq(a), "{isn} {d}");
                assert!(!b.before(a) && !a.after(b) && !b.before_eq(a) && !a.after_eq(b), "{isn} {d}");
                assert_eq!((b - a, a - b, b.since(a)), (d as i32, -(d as i32), d));
                assert_eq!((a.later(b), b.later(a), a.earlier(b), b.earlier(a)), (b, b, a, a));
                assert!(a.between(a, b) && b.between(a, b) && (a + d / 2).between(a, b) && !(b + 1).between(a, b));
            }
            assert!(a.before_eq(a) && a.after_eq(a) && !a.before(a) && !a.after(a));
        }
    }

    #[test]
    fn shifts_above_fourteen_cannot_be_built() {
        for s in 0..=255u8 {
            assert_eq!(WindowShift::new(s).map(WindowShift::get), (s <= 14).then_some(s));
            assert_eq!(WindowShift::clamp(s).get(), s.min(14));
        }
        assert_eq!(RawWindow(0xffff).scale(WindowShift::MAX), 0xffff << 14);
        assert_eq!(RawWindow::from_bytes(u32::MAX, WindowShift::MAX), RawWindow(0xffff));
    }

    proptest! {
        #![proptest_config(crate::base::cases::cases())]

        #[test]
        fn advertised_window_never_exceeds_the_bytes_given(bytes: u32, s in 0u8..=14) {
            let s = WindowShift::clamp(s);
            let w = RawWindow::from_bytes(bytes, s).scale(s);
            prop_assert!(w <= bytes);
            prop_assert!(bytes - w < (1 << s.get()) || w == 0xffff << s.get());
        }

        #[test]
        fn add_then_sub_is_identity(a: u32, n: u32) {
            let mut s = SeqNum(a);
            s += n;
            prop_assert_eq!(s.since(SeqNum(a)), n);
            s -= n;
            prop_assert_eq!(s, SeqNum(a));
        }
    }
}
