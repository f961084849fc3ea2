//! `usk_piece_t` and `usk_merge_t`: the arguments of segment and merge.

use super::{addr, bytes_mut};
use crate::skb::Packet;
use crate::sys::{usk_merge_t, usk_piece_t};
use std::net::IpAddr;

/// A packet that a super-packet is cut into.
pub struct Piece<'a>(&'a mut usk_piece_t);

impl<'a> Piece<'a> {
    /// # Safety
    /// `raw` is the operation's argument.
    pub(crate) unsafe fn new(raw: *mut usk_piece_t) -> Piece<'a> {
        // SAFETY: the caller vouches for it.
        Piece(unsafe { &mut *raw })
    }

    /// Its header, to be made of what the super-packet has, which stands here.
    pub fn header(&mut self) -> &mut [u8] {
        // SAFETY: the header is writable for as many bytes while the operation runs.
        unsafe { bytes_mut(self.0.header, self.0.header_len as usize) }
    }

    /// Its number, from 0.
    pub fn index(&self) -> u32 {
        self.0.index
    }

    /// Payload bytes in the pieces before it.
    pub fn offset(&self) -> usize {
        self.0.offset as usize
    }

    /// Its own payload bytes: never 0, so it is no container.
    #[allow(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.0.len as usize
    }

    /// No piece follows.
    pub fn is_last(&self) -> bool {
        self.0.last != 0
    }

    /// Source and destination address.
    pub fn ends(&self) -> (IpAddr, IpAddr) {
        (addr::given(&self.0.src).ip(), addr::given(&self.0.dst).ip())
    }

    /// What its checksum begins with, if that is left open: the sum of its pseudo-header.
    pub fn sum(&self) -> u32 {
        self.0.sum
    }

    /// Lets the checksum begin with another sum.
    pub fn set_sum(&mut self, sum: u32) {
        self.0.sum = sum;
    }
}

/// Two received packets that may become one.
pub struct Merge<'a>(&'a mut usk_merge_t);

impl<'a> Merge<'a> {
    /// # Safety
    /// `raw` is the operation's argument.
    pub(crate) unsafe fn new(raw: *mut usk_merge_t) -> Merge<'a> {
        // SAFETY: the caller vouches for it.
        Merge(unsafe { &mut *raw })
    }

    /// The header of the packet that came first, and of those that were merged into it: becomes that of all.
    pub fn header(&mut self) -> &mut [u8] {
        // SAFETY: the header is writable for as many bytes while the operation runs.
        unsafe { bytes_mut(self.0.header, self.0.header_len as usize) }
    }

    /// Payload bytes behind it.
    pub fn held(&self) -> usize {
        self.0.held as usize
    }

    /// The packet that follows, which begins with its header.
    pub fn next(&self) -> &Packet {
        // SAFETY: a packet, lent to the operation.
        match unsafe { Packet::lent(self.0.next) } {
            Some(next) => next,
            None => unreachable!("the stack always gives one"),
        }
    }

    /// Source and destination address of both.
    pub fn ends(&self) -> (IpAddr, IpAddr) {
        (addr::given(&self.0.src).ip(), addr::given(&self.0.dst).ip())
    }
}
