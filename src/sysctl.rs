//! The sysctls of a stack, with Linux's names, types, ranges and defaults. Programs and tests set them through text, as
//! in /proc/sys; the data path reads them through getters, one relaxed load each. Linux: /proc/sys/net,
//! kernel/sysctl.c.
//!
//! A sysctl that Linux itself ignores, or ignores on a host without what it is about, which a stack never has
//! ([`Support::Legacy`]), is stored without effect, as there.
//!
//! | file | what |
//! |---|---|
//! | `table` | a row per sysctl |
//! | `nearest` | the known name nearest to one that does not exist |
//! | `parse` | conversion between text and values |

mod nearest;
mod parse;
mod table;
#[cfg(test)]
mod tests;

use crate::base::boxed::boxed_array;
use crate::base::error::{Error, Result};
use crate::sys::lock::{Mutex, RwLock};
pub use nearest::nearest;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use table::{ROWS, Row, TABLE};

const RESERVED: SysctlId = SysctlId(Row::ip_local_reserved_ports as u64);
const RATEMASK6: SysctlId = SysctlId(Row::icmp6_ratemask as u64);

/// What values a sysctl takes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// One integer, `min..=max`, both within what 64 bits hold with or without a sign.
    Number {
        /// Least value.
        min: i128,
        /// Greatest value.
        max: i128,
    },
    /// Three integers, each in `min..=max`.
    Triple {
        /// Least value of each.
        min: i128,
        /// Greatest value of each.
        max: i128,
    },
    /// Two integers, each in `min..=max` and at most 32 bits wide; readers see both of one write.
    Pair {
        /// Least value of each.
        min: i128,
        /// Greatest value of each.
        max: i128,
    },
    /// A set of ports, as `8080,10000-10010`.
    Ports,
    /// Words of printable ASCII with single blanks between.
    Text,
}

/// Whether a sysctl has an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// Its feature is implemented.
    Live,
    /// Linux keeps the name but ignores the value, always or on a host such as this stack, and so does this stack.
    Legacy,
    /// It has an effect on Linux, but nothing here that it could change: any value can be set, and the description says
    /// why none makes a difference.
    Moot,
}

/// Who may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// [`Sysctls::set`] is allowed.
    Rw,
    /// [`Sysctls::set`] fails with EACCES.
    Ro,
}

/// A sysctl's description: a row of the table, or what a plug-in registered.
#[derive(Clone, Debug)]
struct Def {
    name: Cow<'static, str>,
    kind: Kind,
    default: Cow<'static, str>,
    support: Support,
    mode: Mode,
    help: Cow<'static, str>,
}

/// The description of a plug-in's sysctl.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SysctlSpec {
    /// Values that it accepts.
    pub kind: Kind,
    /// Initial value, as text; `kind` must accept it.
    pub default: String,
    /// Whether programs may write it.
    pub mode: Mode,
    /// A sentence for listings.
    pub help: String,
}

impl SysctlSpec {
    /// A sysctl that programs may write. `kind` must accept `default`; `help` is a sentence.
    pub fn new(kind: Kind, default: impl Into<String>, help: impl Into<String>) -> SysctlSpec {
        SysctlSpec { kind, default: default.into(), mode: Mode::Rw, help: help.into() }
    }

    /// The same, but read-only: [`Sysctls::set`] fails with EACCES.
    #[must_use]
    pub fn read_only(mut self) -> SysctlSpec {
        self.mode = Mode::Ro;
        self
    }
}

/// Identifies a sysctl in getters; valid until the sysctl is unregistered, and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SysctlId(u64);

/// A line of [`Sysctls::list`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listing {
    /// Name with dots.
    pub name: String,
    /// Current value, as text.
    pub value: String,
    /// Initial value, as text.
    pub default: String,
    /// Whether it has an effect.
    pub support: Support,
    /// Who may write.
    pub mode: Mode,
    /// Its effect, in a sentence.
    pub help: String,
}

/// Checks a value, given as canonical text, before it is stored; an error refuses it and is what `set` returns. It must
/// not call [`Sysctls::set`].
pub(crate) type Validator = Arc<dyn Fn(&str) -> Result<()> + Send + Sync>;
/// Computes the text that `get` returns, for values that live elsewhere.
pub(crate) type Reader = Arc<dyn Fn() -> String + Send + Sync>;

/// A sysctl's value. Numbers are stored in the cells as 64 bits, sign-extended; a pair is packed into the first cell,
/// low half first.
struct Value {
    cells: [AtomicU64; 3],
    text: Option<RwLock<Arc<str>>>,
}

struct Dynamic {
    def: Def,
    value: Value,
}

#[derive(Default)]
struct Registered {
    by_name: BTreeMap<String, SysctlId>,
    by_id: HashMap<SysctlId, Arc<Dynamic>>,
    next: u64,
}

#[derive(Clone, Default)]
struct Hooks {
    validator: Option<Validator>,
    reader: Option<Reader>,
}

/// All sysctls of a stack.
pub struct Sysctls {
    values: Box<[Value; ROWS]>,
    /// `ip_local_reserved_ports` as bits.
    reserved: Box<[AtomicU64; 1024]>,
    /// `net.ipv6.icmp.ratemask` as bits.
    ratemask6: [AtomicU64; 4],
    registered: RwLock<Registered>,
    hooks: RwLock<HashMap<SysctlId, Hooks>>,
    /// Serialises writers; readers never take it.
    writer: Mutex<()>,
    generation: AtomicU64,
}

/// A value that passed the checks of its type.
enum Parsed {
    Numbers([i128; 3], usize),
    Ports(Box<parse::PortSet>),
    Text(String),
}

impl Parsed {
    /// The text that `get` would return for it.
    fn canonical(&self) -> String {
        match self {
            Parsed::Numbers(n, len) => n[..*len].iter().map(i128::to_string).collect::<Vec<_>>().join("\t"),
            Parsed::Ports(set) => parse::ports_text(set),
            Parsed::Text(text) => text.clone(),
        }
    }
}

impl Kind {
    /// Number of integers, and their range.
    fn range(&self) -> Option<(usize, i128, i128)> {
        match *self {
            Kind::Number { min, max } => Some((1, min, max)),
            Kind::Pair { min, max } => Some((2, min, max)),
            Kind::Triple { min, max } => Some((3, min, max)),
            Kind::Ports | Kind::Text => None,
        }
    }

    /// Parses `text`; numbers that it omits keep their value in `old`.
    fn parse(&self, text: &str, old: [i128; 3]) -> Result<Parsed> {
        if let Some((len, min, max)) = self.range() {
            let mut numbers = old;
            parse::numbers(text, min, max, &mut numbers[..len])?;
            return Ok(Parsed::Numbers(numbers, len));
        }
        match self {
            Kind::Ports => parse::ports(text).map(Parsed::Ports),
            _ => parse::text(text).map(Parsed::Text),
        }
    }

    /// The number stored in a cell: unsigned if the range extends above `i64`.
    fn widen(&self, cell: u64) -> i128 {
        match self.range() {
            Some((_, _, max)) if max > i128::from(i64::MAX) => i128::from(cell),
            _ => i128::from(cell as i64),
        }
    }
}

impl Def {
    /// The initial value. Fails with EINVAL if the type does not accept the default.
    fn first_value(&self) -> Result<Value> {
        let value = Value {
            cells: [const { AtomicU64::new(0) }; 3],
            text: self.kind.range().is_none().then(|| RwLock::new(Arc::from(""))),
        };
        // A default must contain all numbers; omitted ones would become zeros.
        let given = self.default.split_ascii_whitespace().count();
        if self.kind.range().is_some_and(|(len, ..)| len != given) {
            return Err(Error::Inval);
        }
        value.store(&self.kind, &self.kind.parse(&self.default, [0; 3])?);
        Ok(value)
    }
}

impl Value {
    fn numbers(&self, kind: &Kind) -> [i128; 3] {
        match kind {
            Kind::Pair { .. } => {
                let both = self.cells[0].load(Relaxed);
                [i128::from(both as u32), i128::from(both >> 32), 0]
            }
            _ => [0, 1, 2].map(|i: usize| kind.widen(self.cells[i].load(Relaxed))),
        }
    }

    fn store(&self, kind: &Kind, parsed: &Parsed) {
        match (parsed, kind) {
            (Parsed::Numbers(n, _), Kind::Pair { .. }) => {
                self.cells[0].store(u64::from(n[0] as u32) | (n[1] as u64) << 32, Relaxed);
            }
            (Parsed::Numbers(n, len), _) => {
                for (cell, &number) in self.cells.iter().zip(&n[..*len]) {
                    cell.store(number as u64, Relaxed);
                }
            }
            (Parsed::Ports(_) | Parsed::Text(_), _) => {
                if let Some(text) = &self.text {
                    *text.write() = Arc::from(parsed.canonical());
                }
            }
        }
    }

    fn canonical(&self, kind: &Kind) -> String {
        match (&self.text, kind.range()) {
            (_, Some((len, ..))) => Parsed::Numbers(self.numbers(kind), len).canonical(),
            (Some(text), None) => text.read().to_string(),
            (None, None) => String::new(),
        }
    }
}

/// Converts a name to dots: `net/ipv4/tcp_sack`, `/proc/sys/net/ipv4/tcp_sack` and `net.ipv4.tcp_sack` are the same
/// name.
fn dotted(name: &str) -> String {
    name.strip_prefix("/proc/sys/").unwrap_or(name).replace('/', ".")
}

/// Times as the numbers that they are in Linux: making a `Duration` of one, and a number again, takes a division. Those
/// here cannot be negative, nor exceed 32 bits (a test compares the table).
#[derive(Clone, Copy)]
pub(crate) struct Raw<'a>(&'a Sysctls);

impl Raw<'_> {
    /// `tcp_rto_min_us`: microseconds.
    #[inline]
    pub(crate) fn tcp_rto_min_us(self) -> u32 {
        self.0.number(table::Row::tcp_rto_min_us as usize) as u32
    }

    /// `tcp_rto_max_ms`: milliseconds.
    #[inline]
    pub(crate) fn tcp_rto_max_ms(self) -> u32 {
        self.0.number(table::Row::tcp_rto_max_ms as usize) as u32
    }

    /// `tcp_min_rtt_wlen`: seconds, no more than a day.
    #[inline]
    pub(crate) fn tcp_min_rtt_wlen(self) -> u32 {
        self.0.number(table::Row::tcp_min_rtt_wlen as usize) as u32
    }
}

impl Sysctls {
    /// All sysctls of the table, at their defaults.
    pub(crate) fn new() -> Sysctls {
        let first = |def: &Def| def.first_value().expect("a test parses every default of the table");
        Sysctls {
            values: boxed_array(|row| first(&TABLE[row])),
            reserved: Box::new([const { AtomicU64::new(0) }; 1024]),
            ratemask6: [!(1 << 2), u64::MAX, 0, 0].map(AtomicU64::new),
            registered: RwLock::default(),
            hooks: RwLock::default(),
            writer: Mutex::new(()),
            generation: AtomicU64::new(0),
        }
    }

    #[inline]
    fn number(&self, row: usize) -> u64 {
        self.values[row].cells[0].load(Relaxed)
    }

    /// A time; a negative value becomes zero.
    #[inline]
    fn time(&self, row: usize) -> u64 {
        (self.number(row) as i64).max(0) as u64
    }

    /// Times that each segment asks for, as plain numbers.
    #[inline]
    pub(crate) fn raw(&self) -> Raw<'_> {
        Raw(self)
    }

    #[inline]
    fn triple(&self, row: usize) -> [u64; 3] {
        let cells = &self.values[row].cells;
        [cells[0].load(Relaxed), cells[1].load(Relaxed), cells[2].load(Relaxed)]
    }

    #[inline]
    fn pair(&self, row: usize) -> (u32, u32) {
        let both = self.number(row);
        (both as u32, (both >> 32) as u32)
    }

    fn text(&self, row: usize) -> Arc<str> {
        self.values[row].text.as_ref().map_or_else(|| Arc::from(""), |text| text.read().clone())
    }

    /// Whether `ip_local_reserved_ports` contains this port.
    #[inline]
    pub(crate) fn port_is_reserved(&self, port: u16) -> bool {
        self.reserved[usize::from(port) / 64].load(Relaxed) >> (port % 64) & 1 == 1
    }

    /// Whether `net.ipv6.icmp.ratemask` contains this type of ICMPv6.
    #[inline]
    pub(crate) fn icmp6_is_limited(&self, ty: u8) -> bool {
        self.ratemask6[usize::from(ty) / 64].load(Relaxed) >> (ty % 64) & 1 == 1
    }

    /// Incremented at each change of any value: a value cached from sysctls is valid while it does not change.
    pub fn generation(&self) -> u64 {
        self.generation.load(std::sync::atomic::Ordering::Acquire)
    }

    /// The id of a name, built-in or registered; ENOENT.
    pub fn id(&self, name: &str) -> Result<SysctlId> {
        let name = dotted(name);
        if let Some(row) = TABLE.iter().position(|def| def.name == name) {
            return Ok(SysctlId(row as u64));
        }
        self.registered.read().by_name.get(&name).copied().ok_or(Error::NoEnt)
    }

    /// Runs `f` on a sysctl's description and value; ENOENT when it was unregistered.
    fn with<T>(&self, id: SysctlId, f: impl FnOnce(&Def, &Value) -> T) -> Result<T> {
        let row = usize::try_from(id.0).unwrap_or(usize::MAX);
        if let (Some(def), Some(value)) = (TABLE.get(row), self.values.get(row)) {
            return Ok(f(def, value));
        }
        let entry = self.registered.read().by_id.get(&id).cloned().ok_or(Error::NoEnt)?;
        Ok(f(&entry.def, &entry.value))
    }

    fn hooks(&self, id: SysctlId) -> Hooks {
        self.hooks.read().get(&id).cloned().unwrap_or_default()
    }

    /// The value as /proc/sys prints it, without the newline: `"4096\t131072\t6291456"`. ENOENT.
    pub fn get(&self, name: &str) -> Result<String> {
        let id = self.id(name)?;
        match self.hooks(id).reader {
            Some(reader) => Ok(reader()),
            None => self.with(id, |def, value| value.canonical(&def.kind)),
        }
    }

    /// The first number of a sysctl by id, for a plug-in that reads its own sysctls on the data path. ENOENT when
    /// unregistered or not a number. Takes a read lock for registered sysctls; where that is too expensive, keep the
    /// result until [`Sysctls::generation`] changes.
    pub fn get_number(&self, id: SysctlId) -> Result<i128> {
        self.with(id, |def, value| def.kind.range().map(|_| value.numbers(&def.kind)[0]))?.ok_or(Error::NoEnt)
    }

    /// Sets a value from text, as a write to /proc/sys: ENOENT for an unknown name, EACCES for a read-only one, EINVAL
    /// for an invalid value, an error of the validator.
    pub fn set(&self, name: &str, text: &str) -> Result<()> {
        let id = self.id(name)?;
        self.write(id, text, false)
    }

    /// Why [`Sysctls::set`] returned `error`, for a person; a name that does not exist with the nearest that does.
    pub fn refusal(&self, name: &str, value: &str, error: Error) -> String {
        let described = |f: fn(&Def) -> String| self.id(name).and_then(|id| self.with(id, |def, _| f(def)));
        let known = match error {
            Error::NoEnt => {
                let names: Vec<String> = self.list().into_iter().map(|l| l.name).collect();
                let near = nearest(&dotted(name), names.iter().map(String::as_str));
                let near = near.map_or_else(String::new, |near| format!("; the nearest is {near}"));
                Ok(format!("there is no such sysctl{near}"))
            }
            Error::Inval => described(|def| match def.kind.range() {
                Some((1, min, max)) => format!(", but a number from {min} to {max}"),
                Some((len, min, max)) => format!(", but {len} numbers from {min} to {max}"),
                None => String::new(),
            })
            .map(|takes| format!("this sysctl does not take the value {value:?}{takes}")),
            Error::Acces => Ok("this sysctl is read-only".to_owned()),
            e => Err(e),
        };
        known.unwrap_or_else(|e| e.to_string())
    }

    /// As [`Sysctls::set`], for read-only sysctls too: how the stack or a plug-in publishes a value of its
    /// own. ENOENT; EINVAL: no value that the sysctl takes.
    pub fn publish(&self, name: &str, text: &str) -> Result<()> {
        let id = self.id(name)?;
        self.write(id, text, true)
    }

    /// Restores the initial value. ENOENT; EACCES for a read-only one.
    pub fn reset(&self, name: &str) -> Result<()> {
        let id = self.id(name)?;
        let default = self.with(id, |def, _| def.default.clone())?;
        self.write(id, &default, false)
    }

    fn write(&self, id: SysctlId, text: &str, publish: bool) -> Result<()> {
        let validator = self.hooks(id).validator;
        let _writer = self.writer.lock();
        self.with(id, |def, value| {
            if def.mode == Mode::Ro && !publish {
                return Err(Error::Acces);
            }
            let mut parsed = def.kind.parse(text, value.numbers(&def.kind))?;
            self.check_row(id, &mut parsed)?;
            if let Some(validator) = &validator {
                validator(&parsed.canonical())?;
            }
            value.store(&def.kind, &parsed);
            if let Parsed::Ports(set) = &parsed {
                let cells: &[AtomicU64] = match id {
                    RATEMASK6 => &self.ratemask6,
                    RESERVED => &*self.reserved,
                    _ => &[],
                };
                for (cell, &bits) in cells.iter().zip(set.iter()) {
                    cell.store(bits, Relaxed);
                }
            }
            self.generation.fetch_add(1, std::sync::atomic::Ordering::Release);
            Ok(())
        })?
    }

    /// Checks conditions between numbers and between sysctls, as Linux does.
    fn check_row(&self, id: SysctlId, parsed: &mut Parsed) -> Result<()> {
        const PORT_RANGE: u64 = Row::ip_local_port_range as u64;
        const UNPRIVILEGED: u64 = Row::ip_unprivileged_port_start as u64;
        const PING_GROUPS: u64 = Row::ping_group_range as u64;
        const FRAG_HIGH: u64 = Row::ipfrag_high_thresh as u64;
        const FRAG_LOW: u64 = Row::ipfrag_low_thresh as u64;
        const FRAG6_HIGH: u64 = Row::ip6frag_high_thresh as u64;
        const FRAG6_LOW: u64 = Row::ip6frag_low_thresh as u64;
        if let (Parsed::Ports(set), RATEMASK6) = (&*parsed, id) {
            // ICMPv6 has 256 types.
            return if set[4..].iter().all(|&bits| bits == 0) { Ok(()) } else { Err(Error::Inval) };
        }
        let Parsed::Numbers(n, _) = parsed else { return Ok(()) };
        let ok = match id.0 {
            PORT_RANGE => n[0] >= 1 && n[0] <= n[1] && n[0] >= i128::from(self.ip_unprivileged_port_start()),
            UNPRIVILEGED => n[0] <= i128::from(self.ip_local_port_range().0),
            PING_GROUPS => {
                // An empty range is stored in the form that Linux shows.
                if n[0] > n[1] {
                    (n[0], n[1]) = (1, 0);
                }
                true
            }
            FRAG_HIGH => n[0] >= i128::from(self.ipfrag_low_thresh()),
            FRAG_LOW => n[0] <= i128::from(self.ipfrag_high_thresh()),
            FRAG6_HIGH => n[0] >= i128::from(self.ip6frag_low_thresh()),
            FRAG6_LOW => n[0] <= i128::from(self.ip6frag_high_thresh()),
            _ => true,
        };
        if ok { Ok(()) } else { Err(Error::Inval) }
    }

    /// Every sysctl, sorted by name.
    pub fn list(&self) -> Vec<Listing> {
        let registered: Vec<SysctlId> = self.registered.read().by_name.values().copied().collect();
        let ids = (0..TABLE.len() as u64).map(SysctlId).chain(registered);
        let mut all: Vec<Listing> = ids
            .filter_map(|id| {
                let reader = self.hooks(id).reader;
                self.with(id, |def, value| Listing {
                    name: def.name.to_string(),
                    value: reader.map_or_else(|| value.canonical(&def.kind), |reader| reader()),
                    default: def.default.to_string(),
                    support: def.support,
                    mode: def.mode,
                    help: def.help.to_string(),
                })
                .ok()
            })
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Adds a check for values, replacing an earlier one. ENOENT.
    pub(crate) fn set_validator(&self, name: &str, validator: Validator) -> Result<()> {
        let id = self.id(name)?;
        self.hooks.write().entry(id).or_default().validator = Some(validator);
        Ok(())
    }

    /// Makes `get` and `list` return the result of `reader`, for a value that is stored elsewhere
    /// (`tcp_available_congestion_control`); replaces an earlier one. ENOENT.
    pub(crate) fn set_reader(&self, name: &str, reader: Reader) -> Result<()> {
        let id = self.id(name)?;
        self.hooks.write().entry(id).or_default().reader = Some(reader);
        Ok(())
    }

    /// Registers a sysctl of a plug-in. EEXIST when the name is taken; EINVAL for a name that is empty or has blanks or
    /// empty parts, for bounds that do not fit into 64 bits (32 for a pair), or when the type does not accept the
    /// default.
    pub fn register(&self, name: &str, spec: SysctlSpec) -> Result<SysctlId> {
        let name = dotted(name);
        let part = |part: &str| !part.is_empty() && part.bytes().all(|c| c.is_ascii_graphic());
        let (least, greatest) = match (&spec.kind, spec.kind.range()) {
            (Kind::Pair { .. }, _) => (0, i128::from(u32::MAX)),
            (_, Some((_, min, _))) if min < 0 => (i128::from(i64::MIN), i128::from(i64::MAX)),
            _ => (0, i128::from(u64::MAX)),
        };
        let bounds_hold = spec.kind.range().is_none_or(|(_, min, max)| least <= min && min <= max && max <= greatest);
        if !name.split('.').all(part) || !bounds_hold {
            return Err(Error::Inval);
        }
        let def = Def {
            name: Cow::Owned(name.clone()),
            kind: spec.kind,
            default: Cow::Owned(spec.default),
            support: Support::Live,
            mode: spec.mode,
            help: Cow::Owned(spec.help),
        };
        let value = def.first_value()?;
        let mut registered = self.registered.write();
        if TABLE.iter().any(|def| def.name == name) || registered.by_name.contains_key(&name) {
            return Err(Error::Exist);
        }
        let id = SysctlId(TABLE.len() as u64 + registered.next);
        registered.next += 1;
        registered.by_name.insert(name, id);
        registered.by_id.insert(id, Arc::new(Dynamic { def, value }));
        Ok(id)
    }

    /// Unregisters a sysctl, with its validator and reader. ENOENT when there is none; EBUSY for a built-in one.
    pub fn unregister(&self, id: SysctlId) -> Result<()> {
        if id.0 < TABLE.len() as u64 {
            return Err(Error::Busy);
        }
        let mut registered = self.registered.write();
        let gone = registered.by_id.remove(&id).ok_or(Error::NoEnt)?;
        registered.by_name.remove(&*gone.def.name);
        drop(registered);
        self.hooks.write().remove(&id);
        Ok(())
    }
}

impl Default for Sysctls {
    fn default() -> Self {
        Sysctls::new()
    }
}

impl core::fmt::Debug for Sysctls {
    /// Prints the values that differ from their defaults.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let changed = self.list().into_iter().filter(|entry| entry.value != entry.default);
        f.debug_map().entries(changed.map(|entry| (entry.name, entry.value))).finish()
    }
}
