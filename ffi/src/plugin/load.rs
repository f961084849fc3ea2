//! The calls that load, attach and unload a plug-in. Below: `crate::loader`.

use super::gate::kernel;
use crate::boundary::boundary;
use crate::library::usk_plugin_t;
use crate::loader::{Plugin, attach, load_file};
use crate::note::{noted, refused};
use crate::ptr;
use crate::stacks::{give_stack, stack_of, usk_stack_t};
use std::ffi::{c_char, c_int};
use std::path::Path;
use usersock::error::Error;

/// The entry point of a plug-in: registers its tables and returns 0, or a negative errno, with which loading fails
/// (usk_plugin_refuse).
#[allow(non_camel_case_types)]
pub type usk_plugin_init_fn = Option<unsafe extern "C-unwind" fn(plugin: *mut usk_plugin_t) -> c_int>;

/// Loads a plug-in, a shared object, into a stack (null: the default one): calls its entry point
/// `int usk_plugin_init(usk_plugin_t *)`, which registers its tables. What runs is a private copy of the file as it is
/// now: the file may be overwritten afterwards, and what is then loaded is the new one. All stacks of the process into
/// which the same content is loaded share one copy, and so its static data. Its `void usk_plugin_exit(usk_plugin_t *)`,
/// if any, is called with null when its code is no longer used in any stack, just before it is unmapped: by
/// usk_plugin_unload, or by the last thread that was in one of its operations then; what belongs to one stack has its
/// end in usk_user_release. The same as plugin=FILE in a configuration. A name without slash is relative to the working
/// directory. On failure returns null with errno ENOENT, EINVAL, or what the entry
/// point returned, and usk_config_error returns the reason.
/// # Safety
/// `stack` is null or from usk_stack_new; `file` is a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_plugin_load(stack: *mut usk_stack_t, file: *const c_char) -> *mut usk_plugin_t {
    boundary(|| {
        // SAFETY: the caller vouches for both.
        let (stack, file) = unsafe { (stack_of(stack)?, ptr::string(file)?) };
        load_file(&stack, Path::new(file)).map(|p| p.handle()).map_err(noted)
    })
}

/// As usk_plugin_load, for code that is linked into the program: calls `init`. `name` is for messages. The first
/// protocol with rcv that it registers for an IP protocol number stays referenced by its stack, as packets reach it
/// without a lock: its usk_user_release function may be called only when the stack ends, not when it is unregistered.
/// # Safety
/// `stack` is null or from usk_stack_new; `name` is a string; `init` is an entry point.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_plugin_attach(
    stack: *mut usk_stack_t,
    name: *const c_char,
    init: usk_plugin_init_fn,
) -> *mut usk_plugin_t {
    boundary(|| {
        // SAFETY: the caller vouches for both.
        let (stack, name) = unsafe { (stack_of(stack)?, ptr::string(name)?) };
        let init = init.ok_or(Error::Inval)?;
        attach(&stack, name.to_owned(), init, None).map(|p| p.handle()).map_err(noted)
    })
}

/// Sets the line that usk_config_error returns, and messages of the command show, after the plug-in's name: why
/// usk_plugin_init refuses to be loaded. Line breaks in it become blanks. Returns -EINVAL, for usk_plugin_init to
/// return; it may return another errno. A usk_..._register call that fails sets such a line by itself.
/// # Safety
/// `why` is a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_plugin_refuse(why: *const c_char) -> c_int {
    kernel(|| {
        // SAFETY: a string, as the caller guarantees.
        let why = unsafe { ptr::string(why) }?;
        Err(refused(why.to_owned()))
    })
}

/// Unregisters everything that a plug-in registered, the newest first, and unloads it. Returns 0, or -1 with errno
/// EBUSY while something is in use: what was unregistered by then stays unregistered, and the call can be repeated.
/// Must not be called from the plug-in's own code.
/// # Safety
/// `plugin` is valid, and not used after success.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_plugin_unload(plugin: *mut usk_plugin_t) -> c_int {
    boundary(|| {
        // SAFETY: valid, as the caller guarantees.
        unsafe { Plugin::of(plugin) }?.unload().map(|()| 0)
    })
}

/// The stack of a plug-in, for the calls that take one; the caller frees it with usk_stack_free. The stack does not end
/// while a plug-in has it. Null: it has ended.
/// # Safety
/// `plugin` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_plugin_stack(plugin: *mut usk_plugin_t) -> *mut usk_stack_t {
    // SAFETY: valid, as the caller guarantees.
    kernel(|| Ok(give_stack(unsafe { Plugin::of(plugin) }?.stack()?)))
}
