//! Kinds of devices that are plugged in: what `device=KIND:ARGUMENT` of a configuration opens. Above: `config`,
//! plug-ins that register kinds. Below: the device that a kind makes.

use super::Device;
use crate::base::error::{Error, Result};
use crate::stack::Stack;
use crate::sys::lock::Mutex;
use crate::wire::ether::MacAddr;
use std::sync::Arc;

/// How a device is wanted.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct DeviceArgs<'a> {
    /// What follows the colon, for the kind to read.
    pub argument: &'a str,
    /// Interface name to have, unique in the stack.
    pub name: &'a str,
    /// MTU wanted, bytes; None: the kind's own.
    pub mtu: Option<u32>,
    /// Hardware address wanted; None: the kind's own.
    pub mac: Option<MacAddr>,
}

/// A kind of device.
pub trait DeviceKind: Send + Sync {
    /// 1 to 15 characters, without colon and comma.
    fn name(&self) -> &str;
    /// Opens a device. The error says why in words, if there is more to say than its errno.
    fn open(
        &self,
        stack: &Arc<Stack>,
        args: &DeviceArgs<'_>,
    ) -> std::result::Result<Arc<dyn Device>, (Error, Option<String>)>;
}

/// The kinds of a stack.
#[derive(Default)]
pub struct DeviceKinds {
    list: Mutex<Vec<Arc<dyn DeviceKind>>>,
}

impl DeviceKinds {
    /// Adds a kind. EEXIST: its name is taken; EINVAL: it is no name.
    pub fn register(&self, kind: Arc<dyn DeviceKind>) -> Result<()> {
        let name = kind.name();
        let good = |b: u8| b.is_ascii_graphic() && !matches!(b, b':' | b',' | b'=');
        if name.is_empty() || name.len() > 15 || !name.bytes().all(good) {
            return Err(Error::Inval);
        }
        let mut list = self.list.lock();
        if list.iter().any(|k| k.name() == name) {
            return Err(Error::Exist);
        }
        list.push(kind);
        Ok(())
    }

    /// Takes a kind out. ENOENT: there is none of the name; EBUSY: somebody holds it, as its devices should.
    pub fn unregister(&self, name: &str) -> Result<()> {
        let mut list = self.list.lock();
        let i = list.iter().position(|k| k.name() == name).ok_or(Error::NoEnt)?;
        if list.get(i).is_some_and(|k| Arc::strong_count(k) > 1) {
            return Err(Error::Busy);
        }
        let gone = list.remove(i);
        drop(list);
        drop(gone);
        Ok(())
    }

    /// By name.
    pub fn find(&self, name: &str) -> Option<Arc<dyn DeviceKind>> {
        self.list.lock().iter().find(|k| k.name() == name).cloned()
    }

    /// The names, in order of registration.
    pub fn names(&self) -> Vec<String> {
        self.list.lock().iter().map(|k| k.name().to_owned()).collect()
    }
}
