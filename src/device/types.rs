//! Plug-in kinds of devices: what `device=KIND:ARGUMENT` of a configuration opens. Above: `config`, plug-ins that
//! register kinds. Below: the device that a kind opens.

use super::Device;
use crate::base::error::{Error, Result};
use crate::stack::Stack;
use crate::sys::lock::Mutex;
use crate::wire::ether::MacAddr;
use std::sync::Arc;

/// Parameters of a device to open.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct DeviceArgs<'a> {
    /// The text after the colon; its meaning is the kind's.
    pub argument: &'a str,
    /// Interface name, unique in the stack.
    pub name: &'a str,
    /// Requested MTU, bytes; None: the kind's default.
    pub mtu: Option<u32>,
    /// Requested hardware address; None: the kind's default.
    pub mac: Option<MacAddr>,
}

/// A kind of device.
pub trait DeviceKind: Send + Sync {
    /// 1 to 15 characters, without colon and comma.
    fn name(&self) -> &str;
    /// Opens a device. The error's text gives the reason, where the errno does not say enough.
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
    /// Registers a kind. EEXIST: its name is taken; EINVAL: its name is invalid.
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

    /// Unregisters a kind. ENOENT: no kind has the name; EBUSY: it is still referenced, as it should be by its devices.
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

    /// The kind with this name.
    pub fn find(&self, name: &str) -> Option<Arc<dyn DeviceKind>> {
        self.list.lock().iter().find(|k| k.name() == name).cloned()
    }

    /// The names, in order of registration.
    pub fn names(&self) -> Vec<String> {
        self.list.lock().iter().map(|k| k.name().to_owned()).collect()
    }
}
