//! Counters, sysctls and drop reasons of a table: null-terminated lists. Above: `registration`. Below:
//! `usersock::counters`, `usersock::sysctl`.

use crate::note;
use std::ffi::{CStr, c_char};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use usersock::counters::NamedCounter;
use usersock::error::{Error, Result};
use usersock::stack::Stack;
use usersock::sysctl::{Kind, SysctlId, SysctlSpec};
use usersock::tcp::{tfb, ulp};

/// Most counters, and most sysctls, of a table: a list without terminator is detected.
const MAX_LIST: usize = 256;

/// A sysctl of a table, a number, called net.NAME. and `name`, where NAME is the table's name in lower case.
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct usk_sysctl_t {
    /// Last part of the name; null ends the list.
    pub name: *const c_char,
    /// Initial value.
    pub value: i64,
    /// Least value.
    pub min: i64,
    /// Greatest value.
    pub max: i64,
    /// A sentence for listings, or null.
    pub help: *const c_char,
}

/// A string of a table; an error is noted for usk_config_error. `table` is the table's name.
/// # Safety
/// `p` is null or a string.
pub(super) unsafe fn text(p: *const c_char, table: &str, what: &str) -> Result<String> {
    if p.is_null() {
        return Err(note::refused(format!("{table}: {what} is null")));
    }
    // SAFETY: a string, as the caller guarantees.
    let s = unsafe { CStr::from_ptr(p) }.to_str();
    s.map(str::to_owned).map_err(|_| note::refused(format!("{table}: {what} is not UTF-8")))
}

/// Whether a name is valid for a table or a sysctl.
pub(super) fn good_name(name: &str, max: usize) -> bool {
    (1..=max).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic() && b != b'.')
}

/// Most bytes of memory for each connection that a table of TCP asks for.
pub(super) const DATA_MAX: u32 = 65_536;

/// Checks what a layer on TCP and an alternative to it have in common: a name that TCP_ULP and USK_TCP_STACK take, no
/// flags, and memory for each connection.
pub(super) fn check_of_tcp(name: &str, flags: u32, data_size: u32) -> std::result::Result<(), String> {
    const _: () = assert!(ulp::NAME_MAX == 16 && tfb::NAME_MAX == 16);
    let wrong = [
        (!good_name(name, ulp::NAME_MAX - 1), "a name is 1 to 15 printable characters without dot"),
        (flags != 0, "unknown flags"),
        (data_size > DATA_MAX, "data_size above 65536"),
    ];
    wrong.into_iter().find(|(is, _)| *is).map_or(Ok(()), |(_, what)| Err(what.to_owned()))
}

/// How many lists have the same counter or sysctl: two, while a table that was replaced is in use.
#[derive(Clone)]
struct Users(Arc<AtomicU32>);

impl Users {
    fn one() -> Users {
        Users(Arc::new(AtomicU32::new(1)))
    }

    fn another(&self) -> Users {
        self.0.fetch_add(1, Ordering::Relaxed);
        self.clone()
    }

    /// Whether the last list gives it up.
    fn end(&self) -> bool {
        self.0.fetch_sub(1, Ordering::AcqRel) == 1
    }
}

struct Sysctl {
    id: SysctlId,
    name: String,
    range: (i64, i64),
    users: Users,
}

/// What was registered.
#[derive(Default)]
pub(super) struct Lists {
    counters: Vec<(Arc<NamedCounter>, Users)>,
    sysctls: Vec<Sysctl>,
    drops: Vec<Arc<NamedCounter>>,
}

impl Lists {
    /// Registers both lists of `table`, whose name in a stack is `name`: all or none, with a line for usk_config_error
    /// on failure. Those that the table that it replaces has too are shared: counters go on, and sysctls keep their
    /// values.
    /// # Safety
    /// The lists are null or terminated, by null and by a null name; their strings are valid C strings.
    pub(super) unsafe fn register(
        stack: &Stack,
        table: &str,
        name: &str,
        mib_names: *const *const c_char,
        sysctls: *const usk_sysctl_t,
        replaced: Option<&Lists>,
    ) -> Result<Lists> {
        let none = Lists::default();
        let (mut lists, old) = (Lists::default(), replaced.unwrap_or(&none));
        // SAFETY: passed on.
        let r = unsafe {
            lists.counters(stack, table, mib_names, old).and_then(|()| lists.sysctls(stack, table, name, sysctls, old))
        };
        r.inspect_err(|_| lists.forget(stack)).map(|()| lists)
    }

    /// # Safety
    /// The list is null or terminated by null; its strings are valid C strings.
    unsafe fn counters(
        &mut self,
        stack: &Stack,
        table: &str,
        mib_names: *const *const c_char,
        old: &Lists,
    ) -> Result<()> {
        if mib_names.is_null() {
            return Ok(());
        }
        for i in 0..=MAX_LIST {
            // SAFETY: the list has not ended before `i`.
            let p = unsafe { *mib_names.add(i) };
            if p.is_null() {
                return Ok(());
            }
            // SAFETY: a string, as the caller guarantees.
            let name = unsafe { text(p, table, "a counter's name") }?;
            if let Some((counter, users)) = old.counters.iter().find(|(c, _)| c.name() == name) {
                self.counters.push((counter.clone(), users.another()));
                continue;
            }
            let counter = stack.mib.named.register(&name).inspect_err(|e| {
                note::refused(format!("{table}: counter {name:?}: {e}"));
            })?;
            self.counters.push((counter, Users::one()));
        }
        Err(note::refused(format!("{table}: more than {MAX_LIST} counters, or no null at their end")))
    }

    /// Registers the drop reasons of `table`, in addition.
    /// # Safety
    /// The list is null or terminated by null; its strings are valid C strings.
    pub(super) unsafe fn drops(&mut self, stack: &Stack, table: &str, names: *const *const c_char) -> Result<()> {
        for i in 0..=MAX_LIST {
            // SAFETY: the list has not ended before `i`.
            let p = if names.is_null() { std::ptr::null() } else { unsafe { *names.add(i) } };
            if p.is_null() {
                return Ok(());
            }
            // SAFETY: a string, as the caller guarantees.
            let name = unsafe { text(p, table, "a drop reason's name") }?;
            let reason = stack.mib.named_drops.register(&name).inspect_err(|e| {
                note::refused(format!("{table}: drop reason {name:?}: {e}"));
            })?;
            self.drops.push(reason);
        }
        Err(note::refused(format!("{table}: more than {MAX_LIST} drop reasons, or no null at their end")))
    }

    /// # Safety
    /// The list is null or terminated by a null name; its strings are valid C strings.
    unsafe fn sysctls(
        &mut self,
        stack: &Stack,
        table: &str,
        owner: &str,
        sysctls: *const usk_sysctl_t,
        old: &Lists,
    ) -> Result<()> {
        if sysctls.is_null() {
            return Ok(());
        }
        for i in 0..=MAX_LIST {
            // SAFETY: the list has not ended before `i`.
            let s = unsafe { *sysctls.add(i) };
            if s.name.is_null() {
                return Ok(());
            }
            // SAFETY: strings, as the caller guarantees.
            let (name, help) = unsafe {
                let help = if s.help.is_null() { String::new() } else { text(s.help, table, "help")? };
                (text(s.name, table, "a sysctl's name")?, help)
            };
            let name = format!("net.{}.{name}", owner.to_ascii_lowercase());
            let range = (s.min, s.max);
            if let Some(o) = old.sysctls.iter().find(|o| o.name == name) {
                if o.range != range {
                    let (min, max) = o.range;
                    let why = format!("{table}: sysctl {name}: the one that it replaces is from {min} to {max}");
                    return Err(note::refused(why));
                }
                self.sysctls.push(Sysctl { id: o.id, name, range, users: o.users.another() });
                continue;
            }
            let kind = Kind::Number { min: s.min.into(), max: s.max.into() };
            let spec = SysctlSpec::new(kind, s.value.to_string(), help);
            let id = stack.sysctl.register(&name, spec).inspect_err(|e| {
                note::refused(format!("{table}: sysctl {name}: {e}"));
            })?;
            self.sysctls.push(Sysctl { id, name, range, users: Users::one() });
        }
        Err(note::refused(format!("{table}: more than {MAX_LIST} sysctls, or no null name at their end")))
    }

    /// Unregisters them, once, but for those that another list has too. Those that are not registered any more are
    /// ignored.
    pub(super) fn forget(&self, stack: &Stack) {
        for (c, _) in self.counters.iter().filter(|(_, users)| users.end()) {
            let _ = stack.mib.named.unregister(c.name());
        }
        for s in self.sysctls.iter().filter(|s| s.users.end()) {
            let _ = stack.sysctl.unregister(s.id);
        }
        for reason in &self.drops {
            let _ = stack.mib.named_drops.unregister(reason.name());
        }
    }

    /// Adds `n` to counter `index`. EINVAL: no such counter.
    pub(super) fn count(&self, index: u32, n: u64) -> Result<()> {
        self.counters.get(index as usize).ok_or(Error::Inval)?.0.add(n);
        Ok(())
    }

    /// Drop reason `index`; None: no such reason.
    pub(super) fn drop_reason(&self, index: i32) -> Option<&NamedCounter> {
        self.drops.get(usize::try_from(index).ok()?).map(|reason| &**reason)
    }

    /// The value of sysctl `index`; None: no such sysctl.
    pub(super) fn sysctl(&self, stack: &Stack, index: u32) -> Option<i64> {
        let id = self.sysctls.get(index as usize)?.id;
        i64::try_from(stack.sysctl.get_number(id).ok()?).ok()
    }
}
