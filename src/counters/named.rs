//! Counters and drop reasons of plug-ins, with names of their own in addition to Linux's. Above: a protocol, which
//! keeps the [`NamedCounter`] and counts without a lookup. Sharded like the others, so that threads share no cache
//! line.

use super::{SHARDS, shard_index};
use crate::base::error::{Error, Result};
use crate::sys::lock::RwLock;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::collections::BTreeMap;
use std::sync::Arc;

#[repr(align(128))]
#[derive(Debug, Default)]
struct Cell(AtomicU64);

/// One counter.
#[derive(Debug)]
pub struct NamedCounter {
    name: String,
    cells: [Cell; SHARDS],
}

impl NamedCounter {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// Adds `n`; wraps at 2^64.
    #[inline]
    pub fn add(&self, n: u64) {
        self.cells[shard_index() % SHARDS].0.fetch_add(n, Relaxed);
    }
    /// The value.
    pub fn get(&self) -> u64 {
        self.cells.iter().fold(0, |sum, c| sum.wrapping_add(c.0.load(Relaxed)))
    }
}

/// What the names of a list are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Names {
    /// Counters, as Linux's of nstat.
    Mibs,
    /// Reasons to drop a packet, as Linux's of enum skb_drop_reason.
    Drops,
}

/// The counters registered in a stack, or the reasons to drop a packet.
#[derive(Debug)]
pub struct NamedCounters {
    names: Names,
    list: RwLock<BTreeMap<String, Arc<NamedCounter>>>,
}

impl NamedCounters {
    pub(super) fn mibs() -> NamedCounters {
        NamedCounters { names: Names::Mibs, list: RwLock::default() }
    }

    pub(super) fn drops() -> NamedCounters {
        NamedCounters { names: Names::Drops, list: RwLock::default() }
    }

    /// Whether it is one of Linux's names; EINVAL: it could be none.
    fn is_linux(&self, name: &str) -> Result<bool> {
        let (letter, taken) = match self.names {
            Names::Mibs => (u8::is_ascii_alphanumeric as fn(&u8) -> bool, super::Mib::from_name(name).is_some()),
            Names::Drops => (
                (|b| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'_') as fn(&u8) -> bool,
                super::DropReason::from_name(name).is_some(),
            ),
        };
        let good = name.bytes().all(|b| letter(&b)) && name.starts_with(|c: char| c.is_ascii_alphabetic());
        if good && name.len() <= 63 { Ok(taken) } else { Err(Error::Inval) }
    }

    /// Registers a new one at zero. EINVAL: the name is not 1 to 63 letters and digits (of a drop reason: capital
    /// letters, digits and underscores), the first a letter; EEXIST: it is a name of Linux, or registered already.
    pub fn register(&self, name: &str) -> Result<Arc<NamedCounter>> {
        let taken = self.is_linux(name)?;
        let mut map = self.list.write();
        if taken || map.contains_key(name) {
            return Err(Error::Exist);
        }
        let counter = Arc::new(NamedCounter { name: name.to_owned(), cells: Default::default() });
        map.insert(name.to_owned(), counter.clone());
        Ok(counter)
    }

    /// Removes a counter from the list; holders of a reference may still increment it. ENOENT.
    pub fn unregister(&self, name: &str) -> Result<()> {
        self.list.write().remove(name).map(drop).ok_or(Error::NoEnt)
    }

    /// The counter of this name.
    pub fn find(&self, name: &str) -> Option<Arc<NamedCounter>> {
        self.list.read().get(name).cloned()
    }

    /// The value of a counter.
    pub fn get(&self, name: &str) -> Option<u64> {
        self.find(name).map(|c| c.get())
    }

    /// All counters with their values, sorted by name.
    pub fn list(&self) -> Vec<(String, u64)> {
        self.list.read().values().map(|c| (c.name.clone(), c.get())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_and_values_found_until_unregistered() {
        let own = NamedCounters::mibs();
        for bad in ["", "9Lives", "Rdp Retrans", "Rdp.Retrans", &"R".repeat(64)] {
            assert_eq!(own.register(bad).unwrap_err(), Error::Inval, "{bad:?}");
        }
        assert_eq!(own.register("TcpInSegs").unwrap_err(), Error::Exist);
        let c = own.register("RdpRetransSegs").unwrap();
        assert_eq!(own.register("RdpRetransSegs").unwrap_err(), Error::Exist);
        c.add(2);
        c.add(3);
        assert_eq!((own.get("RdpRetransSegs"), own.list()), (Some(5), vec![("RdpRetransSegs".to_owned(), 5)]));
        own.unregister("RdpRetransSegs").unwrap();
        c.add(1);
        assert_eq!((own.get("RdpRetransSegs"), own.unregister("RdpRetransSegs")), (None, Err(Error::NoEnt)));
    }

    #[test]
    fn a_drop_reason_is_in_capital_letters_and_none_of_linux() {
        let own = NamedCounters::drops();
        for bad in ["", "NoPort", "9_LIVES", "_X", "TWO WORDS", &"R".repeat(64)] {
            assert_eq!(own.register(bad).unwrap_err(), Error::Inval, "{bad:?}");
        }
        assert_eq!(own.register("NO_SOCKET").unwrap_err(), Error::Exist);
        own.register("RDP_OLD_EPOCH").unwrap().add(1);
        assert_eq!(own.list(), [("RDP_OLD_EPOCH".to_owned(), 1)]);
    }
}
