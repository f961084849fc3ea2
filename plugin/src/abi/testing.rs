//! Stacks and sockets for tests of plug-ins, by the calls for programs.

use crate::errno::{Errno, Result};
use crate::sock::Events;
use crate::sys::*;
use std::ffi::{CStr, CString, c_int, c_void};
use std::net::{SocketAddr, SocketAddrV6};
use std::path::Path;
use std::ptr::null_mut;
use std::time::Duration;

const AF_INET: i32 = 2;
const AF_INET6: i32 = 10;

/// -1 and errno, as C has it.
fn checked(r: isize) -> Result<usize> {
    usize::try_from(r).map_err(|_| Errno::from_number(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)))
}

/// A stack of the test's own.
pub struct Stack(*mut usk_stack_t);

// SAFETY: a stack's handle may be used from any thread.
unsafe impl Send for Stack {}
// SAFETY: as above.
unsafe impl Sync for Stack {}

/// Why a stack or a plug-in is refused: one line.
fn config_error() -> String {
    // SAFETY: it returns a string, valid until this thread's next failure.
    unsafe { CStr::from_ptr(usk_config_error()) }.to_string_lossy().into_owned()
}

impl Stack {
    /// A stack from a configuration (docs/config.md): "" is one with a loopback alone.
    pub fn new(config: &str) -> std::result::Result<Stack, String> {
        let config = CString::new(config).map_err(|e| e.to_string())?;
        // SAFETY: a string; what it returns is ours.
        let stack = unsafe { usk_stack_new(config.as_ptr()) };
        if stack.is_null() { Err(config_error()) } else { Ok(Stack(stack)) }
    }

    /// Loads a plug-in, a shared object.
    pub fn load(&self, file: &Path) -> std::result::Result<Loaded<'_>, String> {
        let file = CString::new(file.to_string_lossy().as_bytes()).map_err(|e| e.to_string())?;
        // SAFETY: our stack, a string.
        let plugin = unsafe { usk_plugin_load(self.0, file.as_ptr()) };
        if plugin.is_null() { Err(config_error()) } else { Ok(Loaded { plugin, of: self }) }
    }

    /// A socket: AF_INET6 if `v6`.
    pub fn socket(&self, v6: bool, ty: i32, protocol: i32) -> Result<Socket> {
        // SAFETY: our stack.
        let fd = unsafe { usk_socket_on(self.0, if v6 { AF_INET6 } else { AF_INET }, ty, protocol) };
        checked(fd as isize).map(|fd| Socket(fd as c_int))
    }

    /// Sets a sysctl.
    pub fn sysctl_set(&self, name: &str, value: &str) -> Result<()> {
        let text = |text: &str| CString::new(text).map_err(|_| Errno::Inval);
        let (name, value) = (text(name)?, text(value)?);
        // SAFETY: our stack, two strings.
        checked(unsafe { usk_sysctl_set(self.0, name.as_ptr(), value.as_ptr()) } as isize).map(drop)
    }

    /// The value of a counter. ENOENT: there is none of this name.
    pub fn mib(&self, name: &str) -> Result<u64> {
        let name = CString::new(name).map_err(|_| Errno::Inval)?;
        let mut value = 0;
        // SAFETY: our stack, a string, a writable number.
        checked(unsafe { usk_mib_read(self.0, name.as_ptr(), &mut value) } as isize).map(|_| value)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: ours, and not used any more.
        unsafe { usk_stack_free(self.0) };
    }
}

/// A plug-in that is loaded. It stays when this is dropped, until the stack ends.
pub struct Loaded<'a> {
    plugin: *mut usk_plugin_t,
    of: &'a Stack,
}

impl Loaded<'_> {
    /// Unregisters everything and unloads it. EBUSY while something is in use: waits for packets in flight, a minute
    /// at most.
    pub fn unload(self) -> Result<()> {
        for _ in 0..6000 {
            // SAFETY: valid, as its stack is, until this succeeds.
            match checked(unsafe { usk_plugin_unload(self.plugin) } as isize) {
                Err(Errno::Busy) => std::thread::sleep(Duration::from_millis(10)),
                r => return r.map(drop),
            }
        }
        let _ = self.of;
        Err(Errno::Busy)
    }
}

/// A socket's descriptor, closed when it is dropped.
pub struct Socket(c_int);

impl Socket {
    /// Attaches hooks by name (`usk_sock_ops_attach`). ENOENT: the stack has none of this name; EEXIST: the socket has
    /// them, or others that write the same option.
    pub fn attach_hooks(&self, name: &str) -> Result<()> {
        let name = CString::new(name).map_err(|_| Errno::Inval)?;
        // SAFETY: a string.
        checked(unsafe { usk_sock_ops_attach(self.0, name.as_ptr()) } as isize).map(drop)
    }

    /// Detaches them (`usk_sock_ops_detach`). ENOENT: the socket does not have them.
    pub fn detach_hooks(&self, name: &str) -> Result<()> {
        let name = CString::new(name).map_err(|_| Errno::Inval)?;
        // SAFETY: a string.
        checked(unsafe { usk_sock_ops_detach(self.0, name.as_ptr()) } as isize).map(drop)
    }
}

/// `struct sockaddr_in` and `struct sockaddr_in6`, the larger of them.
type Name = [u8; 28];

fn to_name(addr: SocketAddr) -> (Name, u32) {
    let mut name = [0; 28];
    let family = if addr.is_ipv4() { AF_INET } else { AF_INET6 };
    name[..2].copy_from_slice(&(family as u16).to_ne_bytes());
    name[2..4].copy_from_slice(&addr.port().to_be_bytes());
    match addr {
        SocketAddr::V4(a) => {
            name[4..8].copy_from_slice(&a.ip().octets());
            (name, 16)
        }
        SocketAddr::V6(a) => {
            name[8..24].copy_from_slice(&a.ip().octets());
            name[24..].copy_from_slice(&a.scope_id().to_ne_bytes());
            (name, 28)
        }
    }
}

fn from_name(n: &Name) -> Option<SocketAddr> {
    let port = u16::from_be_bytes([n[2], n[3]]);
    match i32::from(u16::from_ne_bytes([n[0], n[1]])) {
        AF_INET => Some(SocketAddr::from(([n[4], n[5], n[6], n[7]], port))),
        AF_INET6 => {
            let ip = <[u8; 16]>::try_from(&n[8..24]).ok()?;
            let scope = u32::from_ne_bytes([n[24], n[25], n[26], n[27]]);
            Some(SocketAddrV6::new(ip.into(), port, 0, scope).into())
        }
        _ => None,
    }
}

impl Socket {
    /// The descriptor.
    pub fn fd(&self) -> i32 {
        self.0
    }

    /// bind(2).
    pub fn bind(&self, to: SocketAddr) -> Result<()> {
        let (name, len) = to_name(to);
        // SAFETY: readable for `len` bytes; so are and do the arguments of all calls below.
        checked(unsafe { usk_bind(self.0, name.as_ptr().cast(), len) } as isize).map(drop)
    }

    /// listen(2).
    pub fn listen(&self, backlog: i32) -> Result<()> {
        // SAFETY: see `bind`.
        checked(unsafe { usk_listen(self.0, backlog) } as isize).map(drop)
    }

    /// accept(2), without the address.
    pub fn accept(&self) -> Result<Socket> {
        // SAFETY: see `bind`; null is allowed.
        checked(unsafe { usk_accept(self.0, null_mut(), null_mut()) } as isize).map(|fd| Socket(fd as c_int))
    }

    /// connect(2).
    pub fn connect(&self, to: SocketAddr) -> Result<()> {
        let (name, len) = to_name(to);
        // SAFETY: see `bind`.
        checked(unsafe { usk_connect(self.0, name.as_ptr().cast(), len) } as isize).map(drop)
    }

    /// getsockname(2).
    pub fn name(&self) -> Result<SocketAddr> {
        let (mut name, mut len) = ([0; 28], 28);
        // SAFETY: see `bind`.
        checked(unsafe { usk_getsockname(self.0, name.as_mut_ptr().cast(), &mut len) } as isize)?;
        from_name(&name).ok_or(Errno::AfNoSupport)
    }

    /// send(2), without SIGPIPE.
    pub fn send(&self, bytes: &[u8], flags: i32) -> Result<usize> {
        // SAFETY: see `bind`.
        checked(unsafe { usk_send(self.0, bytes.as_ptr().cast(), bytes.len(), flags | crate::MSG_NOSIGNAL) })
    }

    /// sendto(2).
    pub fn send_to(&self, bytes: &[u8], flags: i32, to: SocketAddr) -> Result<usize> {
        let (name, len) = to_name(to);
        let flags = flags | crate::MSG_NOSIGNAL;
        // SAFETY: see `bind`.
        checked(unsafe { usk_sendto(self.0, bytes.as_ptr().cast(), bytes.len(), flags, name.as_ptr().cast(), len) })
    }

    /// recv(2).
    pub fn recv(&self, to: &mut [u8], flags: i32) -> Result<usize> {
        // SAFETY: see `bind`.
        checked(unsafe { usk_recv(self.0, to.as_mut_ptr().cast(), to.len(), flags) })
    }

    /// recvfrom(2): with the source, if the protocol sets one.
    pub fn recv_from(&self, to: &mut [u8], flags: i32) -> Result<(usize, Option<SocketAddr>)> {
        let (mut name, mut len) = ([0; 28], 28);
        // SAFETY: see `bind`.
        let n = checked(unsafe {
            usk_recvfrom(self.0, to.as_mut_ptr().cast(), to.len(), flags, name.as_mut_ptr().cast(), &mut len)
        })?;
        Ok((n, from_name(&name)))
    }

    /// setsockopt(2).
    pub fn setsockopt(&self, level: i32, name: i32, value: &[u8]) -> Result<()> {
        let (value, len) = (value.as_ptr().cast::<c_void>(), value.len() as u32);
        // SAFETY: see `bind`.
        checked(unsafe { usk_setsockopt(self.0, level, name, value, len) } as isize).map(drop)
    }

    /// getsockopt(2): returns how many bytes it wrote.
    pub fn getsockopt(&self, level: i32, name: i32, value: &mut [u8]) -> Result<usize> {
        let mut len = value.len() as u32;
        // SAFETY: see `bind`.
        checked(unsafe { usk_getsockopt(self.0, level, name, value.as_mut_ptr().cast(), &mut len) } as isize)?;
        Ok(len as usize)
    }

    /// shutdown(2) of sending.
    pub fn shutdown_send(&self) -> Result<()> {
        const SHUT_WR: c_int = 1;
        // SAFETY: see `bind`.
        checked(unsafe { usk_shutdown(self.0, SHUT_WR) } as isize).map(drop)
    }

    /// poll(2) of this descriptor alone: the events that are there within `timeout`.
    pub fn poll(&self, events: Events, timeout: Duration) -> Result<Events> {
        let mut fds = pollfd { fd: self.0, events: events.0 as i16, revents: 0 };
        let timeout = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: see `bind`.
        checked(unsafe { usk_poll(&mut fds, 1, timeout) } as isize)?;
        Ok(Events(fds.revents as u16 as u32))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // SAFETY: ours, and not used any more.
        unsafe { usk_close(self.0) };
    }
}
