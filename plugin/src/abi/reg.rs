//! `usk_reg_t`: what belongs to a registration in one stack; and the texts of a table, which C copies when it is
//! registered.

use crate::errno::{Errno, Result, status};
use crate::skb::Skb;
use crate::sys::*;
use crate::time::Time;
use std::ffi::{CString, c_char, c_int};
use std::marker::PhantomData;
use std::ptr::{null, null_mut};

/// A sysctl of a table, a number, called `net.NAME.` and its name, where NAME is the table's name in lower case.
#[derive(Clone, Copy, Debug)]
pub struct Sysctl {
    /// Last part of the name.
    pub name: &'static str,
    /// Initial value.
    pub value: i64,
    /// Least value.
    pub min: i64,
    /// Greatest value.
    pub max: i64,
    /// A sentence for listings.
    pub help: &'static str,
}

/// Why a packet is dropped, for [`Reg::drop_skb`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Drop {
    /// Too short or malformed.
    Header,
    /// Wrong checksum.
    Csum,
    /// No sock found.
    NoSocket,
    /// Not acceptable in the sock's state, or a duplicate.
    State,
    /// The reason with this index of [`Protocol::DROPS`](crate::Protocol::DROPS). One beyond them is not counted.
    Own(u8),
}

impl Drop {
    fn number(self) -> c_int {
        match self {
            Drop::Header => USK_DROP_HEADER,
            Drop::Csum => USK_DROP_CSUM,
            Drop::NoSocket => USK_DROP_NO_SOCKET,
            Drop::State => USK_DROP_STATE,
            Drop::Own(i) => USK_DROP_OWN + c_int::from(i),
        }
    }
}

/// How grave a line is that [`Reg::log`] logs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
pub enum Level {
    /// Something failed.
    Err = USK_LOG_ERR,
    /// Something may fail.
    Warning = USK_LOG_WARNING,
    /// Unusual, and no fault.
    Notice = USK_LOG_NOTICE,
    /// What happens.
    Info = USK_LOG_INFO,
    /// What helps to find a fault.
    Debug = USK_LOG_DEBUG,
}

/// A registration in one stack: its counters and sysctls, the stack's clock and randomness.
#[derive(Clone, Copy)]
pub struct Reg<'a> {
    raw: *mut usk_reg_t,
    of: PhantomData<&'a usk_reg_t>,
}

// SAFETY: the calls on a registration may be made from any thread.
unsafe impl Send for Reg<'_> {}
// SAFETY: as above.
unsafe impl Sync for Reg<'_> {}

impl Reg<'_> {
    /// # Safety
    /// `raw` is valid while the result is used.
    pub(crate) unsafe fn new<'a>(raw: *mut usk_reg_t) -> Reg<'a> {
        Reg { raw, of: PhantomData }
    }

    pub(crate) fn raw(self) -> *mut usk_reg_t {
        self.raw
    }

    /// Adds `n` to counter `index` of the table's COUNTERS (`usk_count`). EINVAL: an index beyond them.
    pub fn count(self, index: usize, n: u64) -> Result<()> {
        let index = u32::try_from(index).map_err(|_| Errno::Inval)?;
        // SAFETY: valid, as `new` was promised; so in the calls below.
        status(unsafe { usk_count(self.raw, index, n) })
    }

    /// The value of sysctl `index` of the table's SYSCTLS (`usk_sysctl`); 0 for an index beyond them.
    pub fn sysctl(self, index: usize) -> i64 {
        // SAFETY: see `count`.
        u32::try_from(index).map_or(0, |index| unsafe { usk_sysctl(self.raw, index) })
    }

    /// The stack's clock (`usk_now`).
    pub fn now(self) -> Time {
        // SAFETY: see `count`.
        Time(unsafe { usk_now(self.raw) })
    }

    /// Fills memory with the stack's random bytes (`usk_random`): unpredictable, or repeatable where the stack is
    /// seeded. EINVAL: the stack has ended.
    pub fn random(self, to: &mut [u8]) -> Result<()> {
        // SAFETY: see `count`; the slice is writable.
        status(unsafe { usk_random(self.raw, to.as_mut_ptr().cast(), to.len()) })
    }

    /// Frees a packet and counts the reason in the stack's drop counters (`usk_drop`).
    pub fn drop_skb(self, skb: Skb, why: Drop) {
        // SAFETY: see `count`; the packet is given up. The reason is one that the library knows.
        unsafe { usk_drop(self.raw, skb.give(), why.number()) };
    }

    /// Logs a line, up to a NUL byte, which `usersock trace` shows (`usk_log`): of each registration 10 in 5 seconds.
    /// Returns whether somebody reads it.
    pub fn log(self, level: Level, line: &str) -> bool {
        let line = CString::new(line.split('\0').next().unwrap_or_default()).unwrap_or_default();
        // SAFETY: see `count`; a string.
        unsafe { usk_log(self.raw, level as c_int, line.as_ptr()) == 1 }
    }
}

/// A list of texts, and what C gets of it.
fn list(texts: &[&str]) -> Result<(Vec<CString>, Vec<*const c_char>)> {
    let own = texts.iter().map(|text| CString::new(*text).map_err(|_| Errno::Inval)).collect::<Result<Vec<_>>>()?;
    let pointers = own.iter().map(|text| text.as_ptr()).chain([null()]).collect();
    Ok((own, pointers))
}

/// The texts of a table, alive while it is registered.
pub(crate) struct Texts {
    pub(crate) name: CString,
    counters: (Vec<CString>, Vec<*const c_char>),
    drops: (Vec<CString>, Vec<*const c_char>),
    sysctls: (Vec<CString>, Vec<usk_sysctl_t>),
}

impl Texts {
    /// EINVAL: a text with a NUL byte.
    pub(crate) fn new(name: &str, counters: &[&str], sysctls: &[Sysctl]) -> Result<Texts> {
        let text = |text: &str| CString::new(text).map_err(|_| Errno::Inval);
        let (mut texts, mut rows) = (Vec::new(), Vec::new());
        for &Sysctl { name, value, min, max, help } in sysctls {
            let (name, help) = (text(name)?, text(help)?);
            rows.push(usk_sysctl_t { name: name.as_ptr(), value, min, max, help: help.as_ptr() });
            texts.extend([name, help]);
        }
        rows.push(usk_sysctl_t { name: null(), value: 0, min: 0, max: 0, help: null() });
        Ok(Texts { name: text(name)?, counters: list(counters)?, drops: list(&[])?, sysctls: (texts, rows) })
    }

    /// The same with drop reasons.
    pub(crate) fn with_drops(mut self, drops: &[&str]) -> Result<Texts> {
        self.drops = list(drops)?;
        Ok(self)
    }

    /// For `drop_names`; null: there are none.
    pub(crate) fn drop_names(&self) -> *const *const c_char {
        if self.drops.0.is_empty() { null() } else { self.drops.1.as_ptr() }
    }

    /// For `mib_names`; null: there are none.
    pub(crate) fn mib_names(&self) -> *const *const c_char {
        if self.counters.0.is_empty() { null() } else { self.counters.1.as_ptr() }
    }

    /// For `sysctls`; null: there are none.
    pub(crate) fn sysctls(&self) -> *const usk_sysctl_t {
        if self.sysctls.0.is_empty() { null_mut() } else { self.sysctls.1.as_ptr() }
    }
}
