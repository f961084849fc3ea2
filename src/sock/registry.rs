//! The protocols of a stack: which one socket(2) selects, who receives the packets of an IP protocol number, and how
//! many socks use each. Above: `stack`, which has one; `inet` and `ip::input`, which look things up in it. Below: the
//! tables, `proto`. Linux: proto_register, inet_register_protosw, inet_add_protocol.

use super::proto::{IpHandler, Proto, ProtoAccounts};
use crate::base::boxed::boxed_array;
use crate::base::error::{Error, Result};
use crate::base::hash::PlainMap;
use crate::base::padded::Padded;
use crate::base::read_mostly::{Read, Slot};
use crate::stack::Stack;
use crate::sys::lock::RwLock;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, Weak};

/// Which protocol socket(2) selects for a (family, type, protocol) triple. Linux: struct inet_protosw.
#[derive(Clone)]
#[non_exhaustive]
pub struct ProtoSwitch {
    /// AF_INET or AF_INET6.
    pub family: i32,
    /// SOCK_STREAM and kin.
    pub ty: i32,
    /// IP protocol number, or one above 255 that is socket(2)'s alone (as IPPROTO_MPTCP is); 0 as wildcard (raw sockets
    /// take any).
    pub protocol: i32,
    /// Selected for protocol 0 of its type too (IPPROTO_IP: TCP for SOCK_STREAM, UDP for SOCK_DGRAM).
    pub default: bool,
    /// The operations.
    pub proto: Arc<dyn Proto>,
}

impl ProtoSwitch {
    /// socket(2) selects `proto` for this triple: AF_*, SOCK_*, and the IP protocol number, 0 for any.
    pub fn new(family: i32, ty: i32, protocol: i32, proto: Arc<dyn Proto>) -> ProtoSwitch {
        ProtoSwitch { family, ty, protocol, default: false, proto }
    }

    /// Selects it for protocol 0 of its type too.
    #[must_use]
    pub fn by_default(mut self) -> ProtoSwitch {
        self.default = true;
        self
    }
}

/// Why a registration failed; `error()` is the errno for C.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegisterError {
    /// Another protocol has this name.
    NameTaken(String),
    /// Another protocol is registered for this (family, type, protocol).
    KeyTaken(i32, i32, i32),
    /// socket(2) with this family and type, and protocol 0, means the named protocol already.
    DefaultTaken(i32, i32, String),
    /// The IP protocol number already has a handler.
    NumberTaken(u8),
    /// The named required operation or value is missing.
    Incomplete(&'static str),
    /// This many sockets of the protocol exist.
    InUse(usize),
    /// No such protocol.
    Unknown,
}

impl RegisterError {
    /// EEXIST, EINVAL, EBUSY or ENOENT.
    pub fn error(&self) -> Error {
        match self {
            RegisterError::NameTaken(_)
            | RegisterError::KeyTaken(..)
            | RegisterError::DefaultTaken(..)
            | RegisterError::NumberTaken(_) => Error::Exist,
            RegisterError::Incomplete(_) => Error::Inval,
            RegisterError::InUse(_) => Error::Busy,
            RegisterError::Unknown => Error::NoEnt,
        }
    }
}

impl std::fmt::Display for RegisterError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RegisterError::NameTaken(n) => write!(f, "a protocol named {n:?} is registered already"),
            RegisterError::KeyTaken(fam, ty, p) => {
                write!(f, "family {fam}, type {ty}, protocol {p} is registered already")
            }
            RegisterError::DefaultTaken(fam, ty, holder) => {
                write!(f, "socket(2) with family {fam}, type {ty} and protocol 0 means {holder} already")
            }
            RegisterError::NumberTaken(n) => write!(f, "IP protocol {n} has a handler already"),
            RegisterError::Incomplete(what) => write!(f, "the table lacks {what}"),
            RegisterError::InUse(n) => write!(f, "{n} sockets use the protocol"),
            RegisterError::Unknown => f.write_str("no such protocol"),
        }
    }
}
impl std::error::Error for RegisterError {}

/// A registered protocol: its table and its accounts, which count its sockets.
pub(crate) struct Registered {
    /// The operations.
    pub proto: Arc<dyn Proto>,
    /// Counts shared by its sockets.
    pub accounts: Arc<ProtoAccounts>,
    keys: Vec<(i32, i32, i32, bool)>,
    numbers: Vec<u8>,
}

/// A protocol as listings show it. Linux: a line of /proc/net/protocols.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listing {
    /// Its name.
    pub name: String,
    /// The (family, type, protocol) triples it is registered for.
    pub keys: Vec<(i32, i32, i32)>,
    /// The IP protocol numbers whose packets it receives; none: it has no wire.
    pub numbers: Vec<u8>,
    /// Bytes of one sock.
    pub obj_size: usize,
    /// Socks that exist.
    pub sockets: i64,
    /// Memory charged, pages of 4096 bytes.
    pub pages: i64,
    /// Under memory pressure.
    pub pressure: bool,
    /// Bytes of header room.
    pub max_header: usize,
    /// Bytes of a time-wait record; 0: none.
    pub timewait_size: usize,
    /// Bytes of a request record; 0: none.
    pub request_size: usize,
    /// See [`Proto::slab_flags`].
    pub slab_flags: u32,
    /// Name and build-id of the shared object that its code comes from ([`Module`](super::proto::Module)); None: the
    /// program's own.
    pub module: Option<(String, String)>,
    /// See [`Proto::alternatives`].
    pub alternatives: Vec<(String, usize)>,
}

impl Listing {
    fn of(name: &str, r: &Registered) -> Listing {
        let mut keys: Vec<_> = r.keys.iter().map(|&(family, ty, protocol, _)| (family, ty, protocol)).collect();
        keys.sort_unstable();
        Listing {
            name: name.to_owned(),
            keys,
            numbers: r.numbers.clone(),
            obj_size: r.proto.obj_size(),
            sockets: r.accounts.sockets.sum(),
            pages: r.accounts.pages.sum(),
            pressure: r.accounts.pressure.load(Ordering::Relaxed),
            max_header: r.proto.max_header(),
            timewait_size: r.proto.timewait_size(),
            request_size: r.proto.request_size(),
            slab_flags: r.proto.slab_flags(),
            module: r.proto.owner().map(|m| (m.name().to_owned(), m.build_id().to_owned())),
            alternatives: r.proto.alternatives(),
        }
    }
}

/// What all socks of a registered protocol share: a sock has one pointer to it.
#[derive(Debug)]
struct Shared {
    proto: Arc<dyn Proto>,
    accounts: Arc<ProtoAccounts>,
    /// Set by the first sock.
    stack: OnceLock<Weak<Stack>>,
}

/// A sock's reference to its registered protocol: while any exists, unregistering fails with EBUSY.
#[derive(Debug)]
pub struct ProtoUse(Arc<Shared>);

impl ProtoUse {
    fn new(shared: &Arc<Shared>) -> ProtoUse {
        shared.accounts.count(1);
        ProtoUse(shared.clone())
    }

    /// The protocol.
    #[inline]
    pub fn proto(&self) -> &Arc<dyn Proto> {
        &self.0.proto
    }

    /// Its accounts.
    #[inline]
    pub fn accounts(&self) -> &Arc<ProtoAccounts> {
        &self.0.accounts
    }

    /// The stack that it is registered with.
    #[inline]
    pub(super) fn stack(&self) -> &Weak<Stack> {
        static NONE: Weak<Stack> = Weak::new();
        self.0.stack.get().unwrap_or(&NONE)
    }

    /// A sock is made on this stack.
    pub(super) fn of(&self, stack: &Arc<Stack>) {
        self.0.stack.get_or_init(|| Arc::downgrade(stack));
    }
}

impl Clone for ProtoUse {
    fn clone(&self) -> Self {
        ProtoUse::new(&self.0)
    }
}

impl Drop for ProtoUse {
    fn drop(&mut self) {
        self.0.accounts.count(-1);
    }
}

/// The stack's protocols.
#[derive(Default)]
pub struct Registry {
    inner: Padded<RwLock<Inner>>,
    /// By IP protocol number; separate from `inner`, for the data path. Changed with `inner` locked.
    handlers: Handlers,
}

/// The handlers of all IP protocol numbers. Linux: inet_protos, inet6_protos.
struct Handlers(Box<[Slot<Arc<dyn IpHandler>>; 256]>);

impl Default for Handlers {
    fn default() -> Self {
        Handlers(boxed_array(|_| Slot::default()))
    }
}

impl Handlers {
    #[inline]
    fn slot(&self, number: u8) -> &Slot<Arc<dyn IpHandler>> {
        &self.0[usize::from(number)]
    }
}

#[derive(Default)]
struct Inner {
    by_name: BTreeMap<String, Registered>,
    by_key: PlainMap<(i32, i32, i32), Selected>,
    /// (family, type) -> the protocol selected for 0, which `by_key` has, too.
    defaults: PlainMap<(i32, i32), (i32, Arc<Shared>)>,
}

/// What socket(2) takes of a protocol, whose name is beside it.
struct Selected {
    name: String,
    shared: Arc<Shared>,
}

impl Registry {
    /// Registers a protocol with its keys and, if it receives IP datagrams, its handler for IP protocol numbers. All or
    /// nothing: if a name, key or number is taken, or the table is incomplete, nothing changes.
    pub fn register(
        &self,
        keys: &[ProtoSwitch],
        handler: Option<(&[u8], Arc<dyn IpHandler>)>,
    ) -> std::result::Result<(), RegisterError> {
        let Some(first) = keys.first() else { return Err(RegisterError::Incomplete("a family, type and protocol")) };
        let name = first.proto.name().to_owned();
        if name.is_empty() || name.len() > 31 {
            return Err(RegisterError::Incomplete("a name of 1 to 31 bytes"));
        }
        let mut inner = self.inner.write();
        if inner.by_name.contains_key(&name) {
            return Err(RegisterError::NameTaken(name));
        }
        for (i, k) in keys.iter().enumerate() {
            if !Arc::ptr_eq(&k.proto, &first.proto) {
                return Err(RegisterError::Incomplete("one table for all keys"));
            }
            let key = (k.family, k.ty, k.protocol);
            let twice = keys[..i].iter().any(|o| (o.family, o.ty, o.protocol) == key);
            if twice || inner.by_key.contains_key(&key) {
                return Err(RegisterError::KeyTaken(k.family, k.ty, k.protocol));
            }
            if let Some((taken, _)) = inner.defaults.get(&(k.family, k.ty)).filter(|_| k.default) {
                let holder = inner.by_key.get(&(k.family, k.ty, *taken)).map(|s| s.name.clone()).unwrap_or_default();
                return Err(RegisterError::DefaultTaken(k.family, k.ty, holder));
            }
        }
        let numbers = handler.as_ref().map_or(&[][..], |h| h.0);
        if let Some(&n) = numbers.iter().find(|&&n| self.handlers.slot(n).read().is_some()) {
            return Err(RegisterError::NumberTaken(n));
        }
        if let Some((numbers, h)) = &handler {
            for n in *numbers {
                // Code of a shared object must not be referenced after it is unloaded.
                self.handlers.slot(*n).set(h.clone(), first.proto.owner().is_none());
            }
        }
        let accounts = Arc::<ProtoAccounts>::default();
        let (proto, stack) = (first.proto.clone(), OnceLock::new());
        let shared = Arc::new(Shared { proto, accounts: accounts.clone(), stack });
        for k in keys {
            let (name, shared) = (name.clone(), shared.clone());
            if k.default {
                inner.defaults.insert((k.family, k.ty), (k.protocol, shared.clone()));
            }
            inner.by_key.insert((k.family, k.ty, k.protocol), Selected { name, shared });
        }
        inner.by_name.insert(
            name,
            Registered {
                proto: first.proto.clone(),
                accounts,
                keys: keys.iter().map(|k| (k.family, k.ty, k.protocol, k.default)).collect(),
                numbers: numbers.to_vec(),
            },
        );
        Ok(())
    }

    /// Removes a protocol; EBUSY (`InUse`) while a sock of it exists.
    pub fn unregister(&self, name: &str) -> std::result::Result<(), RegisterError> {
        let mut inner = self.inner.write();
        let Some(r) = inner.by_name.get(name) else { return Err(RegisterError::Unknown) };
        // Exact, as the sum over processors is not: with no reference left nobody can clone one, and the lock keeps
        // `find` out.
        let shared = r.keys.first().and_then(|k| inner.by_key.get(&(k.0, k.1, k.2))).map(|s| &s.shared);
        let entries = r.keys.len() + r.keys.iter().filter(|k| k.3).count();
        let users = shared.map_or(0, Arc::strong_count).saturating_sub(entries);
        if users > 0 {
            return Err(RegisterError::InUse(users));
        }
        let Some(r) = inner.by_name.remove(name) else { return Err(RegisterError::Unknown) };
        let mut shared = None;
        for (f, t, p, default) in &r.keys {
            shared = inner.by_key.remove(&(*f, *t, *p)).map(|s| s.shared).or(shared);
            if *default {
                inner.defaults.remove(&(*f, *t));
            }
        }
        let handlers: Vec<_> = r.numbers.iter().map(|n| self.handlers.slot(*n).take()).collect();
        // Dropping the last reference may run a plug-in's code: not under the lock.
        drop(inner);
        drop((r, shared, handlers));
        Ok(())
    }

    /// Gives an IP protocol number a handler without a protocol table, for as long as the stack lives: for IP's own
    /// ICMP. Linux: inet_add_protocol.
    pub fn add_protocol(&self, number: u8, handler: Arc<dyn IpHandler>) -> std::result::Result<(), RegisterError> {
        let _inner = self.inner.write();
        if self.handlers.slot(number).read().is_some() {
            return Err(RegisterError::NumberTaken(number));
        }
        self.handlers.slot(number).set(handler, true);
        Ok(())
    }

    /// The protocol that socket(2) selects for a triple, and its IP protocol number. Errors: EAFNOSUPPORT for an
    /// unknown family, ESOCKTNOSUPPORT for an unknown type, EPROTONOSUPPORT for an unknown protocol, EINVAL for one
    /// that is not below IPPROTO_MAX. A registered one may be: nothing else takes its number (inet_create has no such).
    pub fn find(&self, family: i32, ty: i32, protocol: i32) -> Result<(ProtoUse, i32)> {
        let inner = self.inner.read();
        let in_range = (0..=libc::IPPROTO_MPTCP).contains(&protocol);
        if protocol == 0
            && let Some((number, shared)) = inner.defaults.get(&(family, ty)).filter(|(number, _)| *number != 0)
        {
            return Ok((ProtoUse::new(shared), *number));
        }
        let exact = if protocol == 0 { None } else { inner.by_key.get(&(family, ty, protocol)) };
        let wild = || if protocol == 0 || !in_range { None } else { inner.by_key.get(&(family, ty, 0)) };
        if let Some(s) = exact.or_else(wild) {
            return Ok((ProtoUse::new(&s.shared), protocol));
        }
        let any = |f: &dyn Fn(&(i32, i32, i32)) -> bool| inner.by_key.keys().any(f);
        if !any(&|k| k.0 == family) {
            return Err(Error::AfNoSupport);
        }
        if !in_range && !inner.by_key.contains_key(&(family, ty, protocol)) {
            return Err(Error::Inval);
        }
        Err(if !any(&|k| k.0 == family && k.1 == ty) { Error::SocktNoSupport } else { Error::ProtoNoSupport })
    }

    /// The handler of an IP protocol number. Takes no lock, and a reference count only for handlers in shared objects.
    #[inline]
    pub(crate) fn handler(&self, number: u8) -> Option<Read<'_, Arc<dyn IpHandler>>> {
        self.handlers.slot(number).read()
    }

    /// See [`Proto::net_exit`].
    pub(crate) fn net_exit(&self) {
        let all: Vec<_> = self.inner.read().by_name.values().map(|r| r.proto.clone()).collect();
        // The destructors of what a protocol drops may use the registry: not under its lock.
        all.iter().for_each(|p| p.net_exit());
    }

    /// All protocols.
    pub(crate) fn protocols(&self) -> Vec<Arc<dyn Proto>> {
        self.inner.read().by_name.values().map(|r| r.proto.clone()).collect()
    }

    /// The operations registered under a name.
    pub fn proto(&self, name: &str) -> Option<Arc<dyn Proto>> {
        self.inner.read().by_name.get(name).map(|r| r.proto.clone())
    }

    /// The accounts of a protocol.
    pub fn accounts(&self, name: &str) -> Option<Arc<ProtoAccounts>> {
        self.inner.read().by_name.get(name).map(|r| r.accounts.clone())
    }

    /// All protocols by name, as /proc/net/protocols shows them.
    pub fn list(&self) -> Vec<Listing> {
        let inner = self.inner.read();
        let mut all: Vec<Listing> = inner.by_name.iter().map(|(name, r)| Listing::of(name, r)).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }
}
