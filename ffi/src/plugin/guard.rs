//! `usk_owned_t`: the proof that a sock is owned. An operation gets one while it runs; usk_lock_sock fills one. Above:
//! every call that takes one. Below: `held`, which keeps the guards that usk_lock_sock made.

use crate::handle::usk_sock_t;
use crate::held;
use std::sync::Arc;
use usersock::error::{Error, Result};
use usersock::sock::SockGuard;

/// An owned sock. Operations that are called with the sock owned get one, valid until they return; the others fill one
/// of their own by usk_lock_sock. Not to be copied or moved.
#[allow(non_camel_case_types)]
#[repr(C)]
pub struct usk_owned_t {
    opaque: [u64; 4],
}

/// Magic number of a valid argument; with [`LOCKED`] it was filled by usk_lock_sock and not by an operation's caller.
const LENT: u64 = 0x75736b_6f776e64;
const LOCKED: u64 = LENT | 1;

/// The content of a [`usk_owned_t`].
pub(crate) struct Owned {
    magic: u64,
    guard: *mut SockGuard<'static>,
}
const _: () =
    assert!(size_of::<Owned>() <= size_of::<usk_owned_t>() && align_of::<Owned>() <= align_of::<usk_owned_t>());

impl Owned {
    /// Runs an operation that is called owned: `f` gets the argument. EIO: it unwound or left a lock held
    /// (`held::run`).
    #[inline]
    pub(crate) fn lend<R>(g: &mut SockGuard<'_>, f: impl FnOnce(*mut usk_owned_t) -> R) -> Result<R> {
        let sock = Arc::as_ptr(g.sock);
        let guard = std::ptr::from_mut(g).cast::<SockGuard<'static>>();
        let mut o = Owned { magic: LENT, guard };
        held::run_by(sock, guard, || f(std::ptr::from_mut(&mut o).cast()))
    }

    /// The fast path of `lock`: see [`held::lock_free`]. False: call `lock`.
    /// # Safety
    /// As there.
    #[inline]
    pub(crate) unsafe fn lock_free(o: *mut usk_owned_t, sk: *mut usk_sock_t) -> bool {
        if o.is_null() || sk.is_null() {
            return false;
        }
        // SAFETY: the caller vouches for both.
        unsafe {
            let Some(guard) = held::lock_free(sk) else { return false };
            o.cast::<Owned>().write(Owned { magic: LOCKED, guard });
        }
        true
    }

    /// # Safety
    /// `o` is null or writable; `sk` is null, or valid until the release.
    #[inline(never)]
    pub(crate) unsafe fn lock(o: *mut usk_owned_t, sk: *mut usk_sock_t) -> Result<()> {
        if o.is_null() {
            return Err(Error::Inval);
        }
        // SAFETY: the caller vouches for both.
        unsafe {
            let guard = held::lock(sk)?;
            o.cast::<Owned>().write(Owned { magic: LOCKED, guard });
        }
        Ok(())
    }

    /// # Safety
    /// `o` is null or readable.
    pub(crate) unsafe fn release(o: *mut usk_owned_t) -> Result<()> {
        // SAFETY: readable, as the caller guarantees.
        let o = unsafe { o.cast::<Owned>().as_mut() }.ok_or(Error::Inval)?;
        if o.magic != LOCKED {
            return Err(Error::Inval);
        }
        o.magic = 0;
        held::unlock(o.guard)
    }
}

/// The guard behind an argument.
/// # Safety
/// `o` is null, or was an operation's argument or filled by usk_lock_sock, and is readable.
#[inline]
pub(crate) unsafe fn guard<'a>(o: *mut usk_owned_t) -> Result<&'a mut SockGuard<'static>> {
    // SAFETY: readable, as the caller guarantees.
    let o = unsafe { o.cast::<Owned>().as_ref() }.ok_or(Error::Inval)?;
    if o.magic | (LENT ^ LOCKED) != LOCKED {
        return Err(Error::Inval);
    }
    // SAFETY: the magic number shows that the guard is alive; the sock is owned by this thread, which uses one
    // reference at a time.
    Ok(unsafe { &mut *o.guard })
}
