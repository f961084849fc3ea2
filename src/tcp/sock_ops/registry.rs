//! A stack's hooks, in the order of their registration, each with the connections that it is called for. Above:
//! `register`'s callers. Beside: `attach`, which decides for one sock. Linux: the programs attached to a cgroup.

use super::scope::{Filter, OptionKind, Scope};
use super::{Ends, NAME_MAX, SockOps};
use crate::base::error::{Error, Result};
use crate::stack::Stack;
use crate::sys::lock::RwLock;
use crate::tcp::net;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Why hooks were refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The error.
    pub error: Error,
    /// The reason, one line for the user.
    pub why: String,
}

impl Refused {
    pub(super) fn new(error: Error, why: impl Into<String>) -> Refused {
        Refused { error, why: why.into() }
    }

    pub(super) fn unknown(name: &str) -> Refused {
        Refused::new(Error::NoEnt, format!("there are no hooks {name:?}"))
    }

    pub(super) fn taken(option: OptionKind, by: &Hook) -> Refused {
        Refused::new(Error::Exist, format!("option {option} is written by the hooks {:?}", by.ops.name()))
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Refused {
        Refused::new(error, error.to_string())
    }
}

impl From<Refused> for Error {
    fn from(r: Refused) -> Error {
        r.error
    }
}

/// A registered hook.
#[derive(Clone)]
pub(super) struct Hook {
    pub(super) id: u64,
    pub(super) ops: Arc<dyn SockOps>,
    pub(super) scope: Scope,
    /// The option that it writes.
    pub(super) option: Option<OptionKind>,
    filters: Arc<[Filter]>,
}

impl Hook {
    /// Whether a filter chooses a connection.
    pub(super) fn matches(&self, ends: Ends) -> bool {
        self.filters.iter().any(|f| f.matches(ends))
    }

    /// Whether a filter may choose a connection to a listener at this address.
    pub(super) fn may_match(&self, saddr: IpAddr, sport: u16) -> bool {
        self.filters.iter().any(|f| f.may_match(saddr, sport))
    }

    /// The option that both write.
    pub(super) fn same_option(&self, other: &Hook) -> Option<OptionKind> {
        self.option.filter(|_| self.option == other.option)
    }

    /// Whether a connection may have both without being asked: attaching is refused where it would clash.
    fn meets(&self, other: &Hook) -> bool {
        self.scope == Scope::Stack
            || other.scope == Scope::Stack
            || self.filters.iter().any(|f| other.filters.iter().any(|g| f.overlaps(g)))
    }
}

/// A stack's hooks.
#[derive(Default)]
pub(crate) struct SockOpsRegistry {
    any: AtomicBool,
    /// Whether one is called for chosen connections only.
    any_chosen: AtomicBool,
    list: RwLock<List>,
}

#[derive(Default)]
struct List {
    next_id: u64,
    /// Replaced as a whole, so that no lock is held while an event runs.
    hooks: Arc<Vec<Arc<Hook>>>,
}

impl List {
    /// EEXIST: `new` writes the option of another that a connection may have as well.
    fn check_option(&self, new: &Hook) -> std::result::Result<(), Refused> {
        for other in self.hooks.iter().filter(|h| h.id != new.id && h.meets(new)) {
            if let Some(option) = other.same_option(new) {
                return Err(Refused::taken(option, other));
            }
        }
        Ok(())
    }
}

impl SockOpsRegistry {
    /// Adds a hook after the others. EINVAL: a name that is empty or longer than 31 bytes, an option of TCP's own;
    /// EEXIST: a hook has that name, or writes that option.
    pub(crate) fn register(&self, ops: Arc<dyn SockOps>) -> std::result::Result<(), Refused> {
        let n = ops.name();
        if n.is_empty() || n.len() > NAME_MAX {
            return Err(Refused::new(Error::Inval, format!("a name has 1 to {NAME_MAX} bytes")));
        }
        let (scope, option) = (ops.scope(), ops.option());
        if let Some(o) = option.filter(|o| o.is_tcps()) {
            return Err(Refused::new(Error::Inval, format!("option {o} is TCP's own")));
        }
        if let Some(o) = option.filter(|o| OptionKind::is_experimental(o.kind) != (o.exid != 0)) {
            let why = format!("option {o}: kinds 253 and 254 have an ExID, and no other kind has one");
            return Err(Refused::new(Error::Inval, why));
        }
        let mut list = self.list.write();
        if list.hooks.iter().any(|h| h.ops.name() == n) {
            return Err(Refused::new(Error::Exist, "there are hooks of that name"));
        }
        let hook = Hook { id: list.next_id + 1, ops, scope, option, filters: Arc::default() };
        list.check_option(&hook)?;
        list.next_id = hook.id;
        let hooks = list.hooks.iter().cloned().chain([Arc::new(hook)]).collect();
        self.replace(&mut list, hooks);
        Ok(())
    }

    /// Removes a hook: events that begin later do not call it. An event that is running still holds a reference, so
    /// free the resources of the hook's code only when the last clone of the returned value is dropped. ENOENT: no hook
    /// has that name.
    pub(crate) fn unregister(&self, name: &str) -> Result<Arc<dyn SockOps>> {
        let mut list = self.list.write();
        let Some(gone) = list.hooks.iter().find(|h| h.ops.name() == name).cloned() else { return Err(Error::NoEnt) };
        let hooks = list.hooks.iter().filter(|h| h.id != gone.id).cloned().collect();
        self.replace(&mut list, hooks);
        Ok(gone.ops.clone())
    }

    /// See [`super::set_filters`].
    fn set_filters(&self, name: &str, filters: Arc<[Filter]>) -> std::result::Result<(), Refused> {
        let mut list = self.list.write();
        let Some(at) = list.hooks.iter().position(|h| h.ops.name() == name) else { return Err(Refused::unknown(name)) };
        let hook = Hook { filters, ..Hook::clone(&list.hooks[at]) };
        if hook.scope == Scope::Stack {
            return Err(Refused::new(Error::Inval, "they are called for all sockets of the stack"));
        }
        list.check_option(&hook)?;
        let mut hooks = list.hooks.to_vec();
        hooks[at] = Arc::new(hook);
        self.replace(&mut list, hooks);
        Ok(())
    }

    fn replace(&self, list: &mut List, hooks: Vec<Arc<Hook>>) {
        self.any.store(!hooks.is_empty(), Ordering::Relaxed);
        self.any_chosen.store(hooks.iter().any(|h| h.scope == Scope::Chosen), Ordering::Relaxed);
        list.hooks = Arc::new(hooks);
    }

    /// Names in order of registration.
    #[cfg(test)]
    pub(crate) fn names(&self) -> Vec<String> {
        self.snapshot().iter().map(|h| h.ops.name().to_owned()).collect()
    }

    /// Whether there is a hook.
    #[inline]
    pub(crate) fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// Whether there is a hook that not all connections have.
    #[inline]
    pub(super) fn any_chosen(&self) -> bool {
        self.any_chosen.load(Ordering::Relaxed)
    }

    pub(super) fn snapshot(&self) -> Arc<Vec<Arc<Hook>>> {
        self.list.read().hooks.clone()
    }
}

/// Adds a hook to a stack's TCP, after the existing ones. EINVAL: a name that is empty or longer than 31 bytes, an
/// option of TCP's own; EEXIST: a hook has that name, or writes that option on connections of this one; ENOPROTOOPT:
/// the stack has no TCP. Linux: attaching a BPF_PROG_TYPE_SOCK_OPS program to the root cgroup.
pub fn register(stack: &Stack, ops: Arc<dyn SockOps>) -> std::result::Result<(), Refused> {
    net::of(stack)?.sock_ops.register(ops)
}

/// Removes a hook: events that begin later do not call it. An event that is running still holds a reference, so free
/// the resources of the hook's code only when the last clone of the returned value is dropped. ENOENT: no hook has that
/// name; ENOPROTOOPT: the stack has no TCP.
pub fn unregister(stack: &Stack, name: &str) -> Result<Arc<dyn SockOps>> {
    net::of(stack)?.sock_ops.unregister(name)
}

/// Which connections a hook of [`Scope::Chosen`] gets without being attached, instead of those that it was given
/// before: a connection that begins from now on and matches one of `filters`. It is decided once, when its first SYN is
/// sent or received; a connection keeps what it began with. EINVAL: the hook is called for all sockets; EEXIST: a
/// filter of another hook that writes the same option overlaps; ENOENT: no hook has that name; ENOPROTOOPT: the stack
/// has no TCP.
pub fn set_filters(stack: &Stack, name: &str, filters: &[Filter]) -> std::result::Result<(), Refused> {
    net::of(stack)?.sock_ops.set_filters(name, filters.into())
}
