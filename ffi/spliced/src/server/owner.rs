//! Whether a program still has a descriptor that has no other end to say so: a listener, a socket that is only bound.
//! The kernel frees its name with the last descriptor, in whatever way that goes, and then the name can be had.

use super::ready::Signal;
use crate::instance::Instance;
use crate::name::Name;
use crate::sys::{self, Owned};
use std::fmt;
use std::sync::Arc;
use usersock::internal::sys::lock::Mutex;
use usersock::internal::tcp::ListenerOwner;

/// Looks after names.
pub(super) struct Names {
    instance: Instance,
    /// Has no name: it asks for those of others, and what it gets is given back.
    probe: Mutex<Option<Owned>>,
}

impl Names {
    pub(super) fn new(instance: Instance) -> Names {
        Names { instance, probe: Mutex::default() }
    }

    /// Whether no descriptor has the name of this socket. false as well where that cannot be found out.
    pub(super) fn is_free(&self, id: u64, family: u16) -> bool {
        let mut probe = self.probe.lock();
        if probe.is_none() {
            *probe = sys::socket(libc::SOCK_STREAM | libc::SOCK_CLOEXEC).ok();
        }
        let name = Name::Socket { id, family }.encode(&self.instance);
        let free = probe.as_ref().is_some_and(|fd| sys::bind(fd.raw(), &name).is_ok());
        if free {
            *probe = None;
        }
        free
    }
}

/// The program that has a listener.
pub(super) struct Owner {
    pub(super) id: u64,
    pub(super) family: u16,
    pub(super) names: Arc<Names>,
    pub(super) signal: Arc<Signal>,
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Owner({})", self.id)
    }
}

impl ListenerOwner for Owner {
    fn lives(&self) -> bool {
        let ended = self.names.is_free(self.id, self.family);
        if ended {
            self.signal.end();
        }
        !ended
    }
}
