//! Interfaces: those of the stack, in the process that has it. A program that asks for its addresses wants those to
//! which it can bind.

use crate::load;
use crate::real::{find, interpose};
use crate::role::Role;
use std::ffi::{c_char, c_int, c_uint, c_void};
use usersock::internal::sys::fork::PerProcess;
use usersock::internal::sys::lock::Mutex;
use usersock_ffi::boundary::set_errno;
use usersock_ffi::ifaddrs::*;
use usersock_ffi::stacks::default_stack;

/// Lists of usk_getifaddrs, which only usk_freeifaddrs can free.
static LISTS: PerProcess<Mutex<Vec<usize>>> = PerProcess::new(Mutex::default);

/// struct if_nameindex.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct NameIndex {
    index: c_uint,
    name: *mut c_char,
}

interpose! {
    /// if_nametoindex(3).
    fn if_nametoindex(name: *const c_char) -> c_uint,
    ours owner() => usk_if_nametoindex(name),
    else std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*const c_char) -> c_uint>(
        find(c"if_nametoindex"))(name);

    /// if_indextoname(3).
    fn if_indextoname(index: c_uint, name: *mut c_char) -> *mut c_char,
    ours owner() => usk_if_indextoname(index, name),
    else std::mem::transmute::<*mut c_void, unsafe extern "C" fn(c_uint, *mut c_char) -> *mut c_char>(
        find(c"if_indextoname"))(index, name);

    /// if_nameindex(3); its list is allocated as the C library's, whose if_freenameindex frees it.
    fn if_nameindex() -> *mut NameIndex,
    ours owner() => name_index(),
    else std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> *mut NameIndex>(find(c"if_nameindex"))();

    /// getifaddrs(3).
    fn getifaddrs(out: *mut *mut libc::ifaddrs) -> c_int,
    ours owner() => list(out),
    else std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut *mut libc::ifaddrs) -> c_int>(
        find(c"getifaddrs"))(out);
}

/// freeifaddrs(3).
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn freeifaddrs(first: *mut libc::ifaddrs) {
    let mut lists = LISTS.get().lock();
    if let Some(at) = lists.iter().position(|list| *list == first as usize) {
        lists.swap_remove(at);
        drop(lists);
        // SAFETY: a list of usk_getifaddrs, which is not freed yet.
        return unsafe { usk_freeifaddrs(first) };
    }
    drop(lists);
    let real = find(c"freeifaddrs");
    // SAFETY: the C library's function of this name.
    let real = unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut libc::ifaddrs)>(real) };
    // SAFETY: a list of the C library's, as the program says.
    unsafe { real(first) }
}

fn owner() -> bool {
    load::ready() == Role::Owner
}

/// # Safety
/// As getifaddrs(3).
unsafe fn list(out: *mut *mut libc::ifaddrs) -> c_int {
    // SAFETY: as the caller says.
    let r = unsafe { usk_getifaddrs(out) };
    if r == 0 {
        // SAFETY: it was just written.
        LISTS.get().lock().push(unsafe { *out } as usize);
    }
    r
}

/// The interfaces of the stack, and one that ends the list. Null with errno ENOBUFS.
fn name_index() -> *mut NameIndex {
    let Ok(stack) = default_stack() else { return std::ptr::null_mut() };
    let devices = stack.netdevs.snapshot();
    // SAFETY: a number; calloc gives zeroed memory, in which every NameIndex is the last one.
    let list = unsafe { libc::calloc(devices.len() + 1, size_of::<NameIndex>()) }.cast::<NameIndex>();
    if list.is_null() {
        set_errno(libc::ENOBUFS);
        return list;
    }
    for (i, device) in devices.iter().enumerate() {
        let name = std::ffi::CString::new(device.device().name().as_bytes()).unwrap_or_default();
        // SAFETY: the list has one more than there are devices; the name is a string, copied by malloc.
        unsafe { *list.add(i) = NameIndex { index: device.ifindex, name: libc::strdup(name.as_ptr()) } };
    }
    list
}
