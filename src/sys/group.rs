//! The groups of this process, as a system call sees them. Above: the protocols that ask for a group's right.

use std::io;

/// Whether the effective group or a supplementary one is in `low..=high`.
pub(crate) fn any_within(low: u32, high: u32) -> io::Result<bool> {
    let within = |gid: &libc::gid_t| (low..=high).contains(gid);
    // SAFETY: getegid takes no argument.
    let effective = unsafe { libc::syscall(libc::SYS_getegid) } as libc::gid_t;
    if within(&effective) {
        return Ok(true);
    }
    // SAFETY: with a size of 0 nothing is written.
    let count = super::check(unsafe { libc::syscall(libc::SYS_getgroups, 0, std::ptr::null_mut::<libc::gid_t>()) })?;
    let mut list = vec![0; count];
    // SAFETY: `list` is writable for `count` groups.
    let count = super::check(unsafe { libc::syscall(libc::SYS_getgroups, count, list.as_mut_ptr()) })?;
    Ok(list.iter().take(count).any(within))
}
