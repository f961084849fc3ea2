//! Counters of plug-in protocols, with names of their own in addition to Linux's. Above: a protocol, which keeps the
//! [`NamedCounter`] and counts without a lookup. Sharded like the others, so that threads share no cache line.

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

/// The counters registered in a stack.
#[derive(Debug, Default)]
pub struct NamedCounters(RwLock<BTreeMap<String, Arc<NamedCounter>>>);

impl NamedCounters {
    /// Registers a new counter at zero. EINVAL: the name is not 1 to 63 letters and digits, the first a letter; EEXIST:
    /// it is the name of a Linux counter or of another registered one.
    pub fn register(&self, name: &str) -> Result<Arc<NamedCounter>> {
        let letters =
            name.bytes().all(|b| b.is_ascii_alphanumeric()) && name.starts_with(|c: char| c.is_ascii_alphabetic());
        if !letters || name.len() > 63 {
            return Err(Error::Inval);
        }
        let mut map = self.0.write();
        if super::Mib::from_name(name).is_some() || map.contains_key(name) {
            return Err(Error::Exist);
        }
        let counter = Arc::new(NamedCounter { name: name.to_owned(), cells: Default::default() });
        map.insert(name.to_owned(), counter.clone());
        Ok(counter)
    }

    /// Removes a counter from the list; holders of a reference may still increment it. ENOENT.
    pub fn unregister(&self, name: &str) -> Result<()> {
        self.0.write().remove(name).map(drop).ok_or(Error::NoEnt)
    }

    /// The counter of this name.
    pub fn find(&self, name: &str) -> Option<Arc<NamedCounter>> {
        self.0.read().get(name).cloned()
    }

    /// The value of a counter.
    pub fn get(&self, name: &str) -> Option<u64> {
        self.find(name).map(|c| c.get())
    }

    /// All counters with their values, sorted by name.
    pub fn list(&self) -> Vec<(String, u64)> {
        self.0.read().values().map(|c| (c.name.clone(), c.get())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_and_values_found_until_unregistered() {
        let own = NamedCounters::default();
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
}
