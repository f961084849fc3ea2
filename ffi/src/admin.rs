//! Stacks from C: the default one, further ones side by side, their sysctls, counters and captures.

use crate::boundary::boundary;
use crate::note::{self, noted};
use crate::stacks::{default_stack, give_stack, stack_of, usk_stack_t};
use crate::{loader, ptr};
use std::ffi::{c_char, c_int};
use std::path::Path;
use usersock::config;
use usersock::device::pcap;
use usersock::error::Error;

/// Makes the default stack from a configuration, such as
/// "tun=tun0,addr=10.0.0.2/24,gw=10.0.0.1,sysctl.net.ipv4.tcp_sack=1"; null takes it from the environment variable
/// USERSOCK_CONFIG, and does nothing if there is a default stack. Keys: tun, packet, device, mac, queues, mtu, addr,
/// gw, route, pcap, plugin, control, sysctl.NAME. Returns 0, or -1 with errno EINVAL (usk_config_error returns the
/// reason), EBUSY (a configuration is given and there is a default stack already), or the error of opening the device
/// (EPERM, EBUSY, ENODEV ...).
/// # Safety
/// `config` is null or a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_init(config: *const c_char) -> c_int {
    boundary(|| {
        if config.is_null() {
            return default_stack().map(|_| 0);
        }
        // SAFETY: not null, a string as the caller guarantees.
        let text = unsafe { ptr::string(config) }?;
        loader::enable();
        config::set_default_stack(|| config::build(text)).map_err(noted)?;
        Ok(0)
    })
}

/// The error message of this thread's last failed usk_init, usk_stack_new or first usk_socket, one line; empty if none.
/// Valid until the thread's next such call.
#[unsafe(no_mangle)]
pub extern "C" fn usk_config_error() -> *const c_char {
    note::last()
}

/// Makes a further stack from a configuration as for usk_init (null: only an in-memory loopback). Null with errno on
/// failure.
/// # Safety
/// `config` is null or a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_stack_new(config: *const c_char) -> *mut usk_stack_t {
    boundary(|| {
        // SAFETY: a string as the caller guarantees.
        let text = if config.is_null() { "" } else { unsafe { ptr::string(config) }? };
        loader::enable();
        config::build(text).map(give_stack).map_err(noted)
    })
}

/// Frees a stack. It ends, and closes its devices, when its last socket is closed and its own threads have dropped it,
/// which may be a moment after the call. Null is ignored.
/// # Safety
/// `stack` is null or from usk_stack_new and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_stack_free(stack: *mut usk_stack_t) {
    boundary(|| {
        if !stack.is_null() {
            // SAFETY: made by Box::into_raw in usk_stack_new, and freed once as the caller guarantees.
            drop(unsafe { Box::from_raw(stack) });
        }
        Ok(0)
    });
}

/// As usk_socket, on a given stack.
/// # Safety
/// `stack` is null or from usk_stack_new.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_socket_on(stack: *mut usk_stack_t, domain: c_int, ty: c_int, protocol: c_int) -> c_int {
    // SAFETY: the caller vouches for `stack`.
    boundary(|| crate::socket::socket_on(&unsafe { stack_of(stack) }?, domain, ty, protocol))
}

/// Reads a sysctl by Linux's name ("net.ipv4.tcp_sack") into `buf`, NUL-terminated and cut to `len`. Returns the length
/// of the whole value, or -1 with errno EFAULT or ENOENT.
/// # Safety
/// `stack` is null or from usk_stack_new; `name` is a string; `buf` is writable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_sysctl_get(
    stack: *mut usk_stack_t,
    name: *const c_char,
    buf: *mut c_char,
    len: usize,
) -> c_int {
    boundary(|| {
        // SAFETY: the caller vouches for all three.
        let (stack, name, buf) = unsafe { (stack_of(stack)?, ptr::string(name)?, ptr::bytes_mut(buf.cast(), len)?) };
        let value = stack.sysctl.get(name)?;
        if let Some(room) = buf.len().checked_sub(1) {
            let n = value.len().min(room);
            buf[..n].copy_from_slice(&value.as_bytes()[..n]);
            buf[n] = 0;
        }
        Ok(value.len() as c_int)
    })
}

/// Sets a sysctl. Returns 0, or -1 with errno EACCES (read only), EINVAL (bad value), ENOENT (no such name) or
/// EOPNOTSUPP (a value that turns on what this version does not have).
/// # Safety
/// `stack` is null or from usk_stack_new; `name` and `value` are strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_sysctl_set(stack: *mut usk_stack_t, name: *const c_char, value: *const c_char) -> c_int {
    boundary(|| {
        // SAFETY: the caller vouches for all three.
        let (stack, name, value) = unsafe { (stack_of(stack)?, ptr::string(name)?, ptr::string(value)?) };
        stack.sysctl.set(name, value)?;
        Ok(0)
    })
}

/// Reads a MIB counter by nstat's name ("TcpRetransSegs", "TcpExtTCPTimeouts"). Returns 0, or -1 with errno EFAULT or
/// ENOENT.
/// # Safety
/// `stack` is null or from usk_stack_new; `name` is a string; `value` points to a uint64_t.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_mib_read(stack: *mut usk_stack_t, name: *const c_char, value: *mut u64) -> c_int {
    boundary(|| {
        // SAFETY: the caller vouches for all three.
        let (stack, name, value) = unsafe { (stack_of(stack)?, ptr::string(name)?, ptr::value_mut(value)?) };
        *value = stack.mib.get_by_name(name).ok_or(Error::NoEnt)?;
        Ok(0)
    })
}

/// Captures the packets of the stack's device (of the loopback, where it has no other) into a pcap file, from now on.
/// Returns 0, or -1 with errno EBUSY (a capture runs) or the error of creating the file.
/// # Safety
/// `stack` is null or from usk_stack_new; `file` is a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_pcap_start(stack: *mut usk_stack_t, file: *const c_char) -> c_int {
    boundary(|| {
        // SAFETY: the caller vouches for both.
        let (stack, file) = unsafe { (stack_of(stack)?, ptr::string(file)?) };
        let devs = stack.netdevs.snapshot();
        let dev = devs.last().ok_or(Error::NoDev)?;
        pcap::start(dev, Path::new(file), &stack)
            .map_err(|e| e.raw_os_error().and_then(Error::try_from_errno).unwrap_or(Error::Io))?;
        Ok(0)
    })
}

/// Ends the capture and completes its file. Returns 0, or -1 with errno EINVAL (none runs) or the error of writing it.
/// # Safety
/// `stack` is null or from usk_stack_new.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_pcap_stop(stack: *mut usk_stack_t) -> c_int {
    boundary(|| {
        // SAFETY: the caller vouches for `stack`.
        let stack = unsafe { stack_of(stack) }?;
        let devs = stack.netdevs.snapshot();
        let dev = devs.last().ok_or(Error::NoDev)?;
        pcap::stop(dev).map_err(|e| e.raw_os_error().and_then(Error::try_from_errno).unwrap_or(Error::Io))?;
        Ok(0)
    })
}
