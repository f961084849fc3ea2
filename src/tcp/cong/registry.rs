//! The congestion-control algorithms of a stack, by name: which there are, which every program may choose, and the
//! default of new sockets. Above: TCP_CONGESTION, the sysctls, plug-ins. Linux: tcp_cong.c.

use super::{CongOps, bbr, cubic, dctcp, reno};
use crate::base::error::{Error, Result};
use crate::base::padded::Padded;
use crate::counters::{SHARDS, shard_index};
use crate::stack::Stack;
use crate::sys::lock::{Mutex, RwLock};
use crate::tcp::net;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A registered algorithm, and whether every program may choose it.
struct Registered {
    ops: Arc<dyn CongOps>,
    non_restricted: bool,
    /// One of this folder's.
    built_in: bool,
}

impl Registered {
    fn new(ops: Arc<dyn CongOps>) -> Registered {
        Registered { non_restricted: ops.non_restricted(), ops, built_in: false }
    }

    fn built_in(ops: Arc<dyn CongOps>) -> Registered {
        Registered { built_in: true, ..Registered::new(ops) }
    }
}

/// The sysctls' generation, and the algorithm that was the default then.
type Recent = (u64, Arc<dyn CongOps>);

/// Algorithms of a stack, by name.
pub(crate) struct CongRegistry {
    list: RwLock<Vec<Registered>>,
    /// The default that each thread found last: each new sock asks for it.
    recent: [Padded<Mutex<Option<Recent>>>; SHARDS],
    /// One was replaced: what a sock has selected may have a successor.
    replaced: AtomicBool,
}

impl Default for CongRegistry {
    /// A registry with the algorithms of this folder.
    fn default() -> CongRegistry {
        let own: [Arc<dyn CongOps>; 4] =
            [Arc::new(dctcp::DctcpOps), Arc::new(bbr::BbrOps), Arc::new(cubic::CubicOps), Arc::new(reno::RenoOps)];
        let list = own.into_iter().map(Registered::built_in).collect();
        CongRegistry { list: RwLock::new(list), recent: Default::default(), replaced: AtomicBool::new(false) }
    }
}

impl CongRegistry {
    fn check_name(ops: &dyn CongOps) -> Result<()> {
        let n = ops.name();
        let bad = n.is_empty() || n.len() > 15 || n.bytes().any(|b| b.is_ascii_whitespace());
        if bad { Err(Error::Inval) } else { Ok(()) }
    }

    /// Adds an algorithm. EINVAL: the name is invalid; EEXIST: it is taken.
    pub(crate) fn register(&self, ops: Arc<dyn CongOps>) -> Result<()> {
        CongRegistry::check_name(&*ops)?;
        let n = ops.name();
        let mut list = self.list.write();
        if list.iter().any(|o| o.ops.name() == n) {
            return Err(Error::Exist);
        }
        list.push(Registered::new(ops));
        Ok(())
    }

    /// Puts an algorithm in the place of the one of its name, if there is one. EINVAL: the name is invalid; EPERM: the
    /// other one is built in.
    pub(crate) fn replace(&self, ops: Arc<dyn CongOps>) -> Result<()> {
        CongRegistry::check_name(&*ops)?;
        let mut list = self.list.write();
        let old = match list.iter_mut().find(|o| o.ops.name() == ops.name()) {
            Some(o) if o.built_in => return Err(Error::Perm),
            Some(o) => {
                o.non_restricted |= ops.non_restricted();
                Some(std::mem::replace(&mut o.ops, ops))
            }
            None => {
                list.push(Registered::new(ops));
                None
            }
        };
        if old.is_some() {
            self.replaced.store(true, Ordering::Relaxed);
            self.recent.iter().for_each(|recent| drop(recent.lock().take()));
        }
        // Dropping it may run a plug-in's code: not under the lock.
        drop(list);
        drop(old);
        Ok(())
    }

    /// The algorithm that has replaced `ops`.
    pub(super) fn successor(&self, ops: &Arc<dyn CongOps>) -> Option<Arc<dyn CongOps>> {
        if !self.replaced.load(Ordering::Relaxed) {
            return None;
        }
        self.find(ops.name()).filter(|now| !std::ptr::addr_eq(Arc::as_ptr(now), Arc::as_ptr(ops)))
    }

    /// Removes an algorithm. ENOENT: there is none; EPERM: it is Reno, the fallback; EBUSY: it is in use, by sockets
    /// that selected it or took it as the default, or by holders of a reference from `find` or `register`.
    pub(crate) fn unregister(&self, name: &str) -> Result<()> {
        if name == "reno" {
            return Err(Error::Perm);
        }
        // References are cloned from the list under its lock, so none can be added while it is held.
        let mut list = self.list.write();
        self.recent.iter().for_each(|recent| drop(recent.lock().take()));
        let i = list.iter().position(|o| o.ops.name() == name).ok_or(Error::NoEnt)?;
        if list.get(i).is_some_and(|o| Arc::strong_count(&o.ops) > 1) {
            return Err(Error::Busy);
        }
        let gone = list.remove(i);
        // Dropping it may run a plug-in's code: not under the lock.
        drop(list);
        drop(gone);
        Ok(())
    }

    /// The algorithm with this name.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<dyn CongOps>> {
        self.list.read().iter().find(|o| o.ops.name() == name).map(|o| o.ops.clone())
    }

    /// Whether only CAP_NET_ADMIN may choose it. ENOENT: there is none of this name.
    pub(super) fn is_restricted(&self, name: &str) -> Result<bool> {
        self.list.read().iter().find(|o| o.ops.name() == name).map(|o| !o.non_restricted).ok_or(Error::NoEnt)
    }

    fn names_of(&self, which: impl Fn(&Registered) -> bool) -> String {
        let list = self.list.read();
        list.iter().rev().filter(|o| which(o)).map(|o| o.ops.name()).collect::<Vec<_>>().join(" ")
    }

    /// Names, newest first (tcp_available_congestion_control).
    pub(crate) fn names(&self) -> String {
        self.names_of(|_| true)
    }

    /// Those that every program may choose (tcp_get_allowed_congestion_control).
    pub(crate) fn allowed(&self) -> String {
        self.names_of(|o| o.non_restricted)
    }

    /// Lets every program choose these, and no others. ENOENT, and nothing changes: one is not registered
    /// (tcp_set_allowed_congestion_control).
    pub(crate) fn set_allowed(&self, names: &str) -> Result<()> {
        let names: Vec<&str> = names.split_ascii_whitespace().collect();
        let mut list = self.list.write();
        if !names.iter().all(|n| list.iter().any(|o| o.ops.name() == *n)) {
            return Err(Error::NoEnt);
        }
        list.iter_mut().for_each(|o| o.non_restricted = names.contains(&o.ops.name()));
        Ok(())
    }

    /// One becomes the default of new sockets: every program may choose it, too. ENOENT: it is not registered
    /// (tcp_set_default_congestion_control).
    pub(crate) fn set_default(&self, name: &str) -> Result<()> {
        let mut list = self.list.write();
        let o = list.iter_mut().find(|o| o.ops.name() == name).ok_or(Error::NoEnt)?;
        o.non_restricted = true;
        Ok(())
    }

    /// The algorithm of new sockets; Reno if the sysctl's has been removed.
    pub(crate) fn default_for(&self, stack: &Stack) -> Arc<dyn CongOps> {
        let (generation, recent) = (stack.sysctl.generation(), &self.recent[shard_index() % SHARDS]);
        if let Some((at, ops)) = &*recent.lock()
            && *at == generation
        {
            return ops.clone();
        }
        // Without the lock of `recent`, which `unregister` takes while it holds the list's.
        let Some(ops) = self.find(&stack.sysctl.tcp_congestion_control()) else { return Arc::new(reno::RenoOps) };
        let mut recent = recent.lock();
        // Nothing is kept any more once one was replaced: this may be the one. `replace` says so before it empties it.
        if !self.replaced.load(Ordering::Relaxed) {
            *recent = Some((generation, ops.clone()));
        }
        ops
    }
}

/// Adds an algorithm to a stack's TCP. EINVAL: a bad name; EEXIST: it is taken; ENOPROTOOPT: the stack has no TCP.
/// Linux: tcp_register_congestion_control.
pub fn register(stack: &Stack, ops: Arc<dyn CongOps>) -> Result<()> {
    net::of(stack)?.cong.register(ops)
}

/// Adds an algorithm to a stack's TCP, in the place of the one of the same name if there is one: connections that begin
/// from now on, and sockets that select it by TCP_CONGESTION, have the new one, and those that have the other keep it.
/// EINVAL: a bad name; EPERM: the other one is built in; ENOPROTOOPT: the stack has no TCP. Linux:
/// tcp_update_congestion_control.
pub fn replace(stack: &Stack, ops: Arc<dyn CongOps>) -> Result<()> {
    net::of(stack)?.cong.replace(ops)
}

/// The algorithm that a stack's TCP has by this name.
pub fn find(stack: &Stack, name: &str) -> Option<Arc<dyn CongOps>> {
    net::of(stack).ok()?.cong.find(name)
}

/// Removes an algorithm. ENOENT: there is none; EPERM: it is Reno, the fallback; EBUSY: connections use it, or a
/// reference from `register` still exists; ENOPROTOOPT: the stack has no TCP.
pub fn unregister(stack: &Stack, name: &str) -> Result<()> {
    net::of(stack)?.cong.unregister(name)
}
