//! Shared objects: the code of plug-ins. Each load is of the file as it is now: the dynamic linker gets a private copy
//! (memfd_create(2)), so a file that is rebuilt or overwritten neither changes code that runs nor is taken for it.
//! Loads of the same content, by whatever name and into whichever stacks, share one copy, and so its static data; its
//! exit function runs when the last of them has ended. Above: `loader`. Linux: load_module, try_module_get.

use crate::held::contain;
use std::ffi::{CStr, CString, c_int, c_void};
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::os::fd::{FromRawFd, RawFd};
use std::path::Path;
use std::sync::{Arc, LazyLock, OnceLock, Weak};
use usersock::config::ConfigError;
use usersock::error::Error;
use usersock::internal::sys::fd::Fd;
use usersock::internal::sys::fork;
use usersock::internal::sys::lock::Mutex;
use usersock::sock::proto::Module;

/// A plug-in of one stack: the argument of its entry point. Valid until usk_plugin_unload, or the end of the stack.
#[allow(non_camel_case_types)]
pub struct usk_plugin_t {
    _opaque: [u8; 0],
}

/// Its entry point and its exit function.
pub(crate) type Init = unsafe extern "C-unwind" fn(*mut usk_plugin_t) -> c_int;
type Exit = unsafe extern "C-unwind" fn(*mut usk_plugin_t);

/// A loaded shared object; dropping the last reference calls its exit function and unloads it. Everything that it
/// registered has a reference, and so has every thread that runs its code.
#[derive(Debug)]
pub(crate) struct Library {
    handle: *mut c_void,
    /// Set once its entry point has succeeded.
    exit: OnceLock<Exit>,
    /// The fork count of the process that loaded it.
    born: u32,
    name: String,
    build_id: String,
    content: Content,
    /// The copy. Open as long as it is loaded: the linker knows it by its number, and debuggers read it there.
    copy: Fd,
}
// SAFETY: a dlopen handle may be used from any thread.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

impl Module for Library {
    fn name(&self) -> &str {
        &self.name
    }
    fn build_id(&self) -> &str {
        &self.build_id
    }
}

/// What tells files of the same bytes from others: length, and a hash under a key that is random in each process.
type Content = (usize, u64);

/// The libraries of this process.
static LOADED: Mutex<Vec<Weak<Library>>> = Mutex::new(Vec::new());

fn content(bytes: &[u8]) -> Content {
    static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    (bytes.len(), KEY.hash_one(bytes))
}

/// The line of the dynamic linker's last error.
fn linker_line() -> String {
    // SAFETY: dlerror returns null or a string valid until this thread's next dl call.
    let text = unsafe { libc::dlerror() };
    // SAFETY: as above.
    let text = (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned());
    text.unwrap_or_else(|| "cannot be loaded".to_owned())
}

/// A private copy of a file's bytes, close-on-exec and out of the program's way. Its number is that of no library that
/// is loaded: the linker would take it for that one, if a program has closed its descriptor.
fn copy_of(name: &str, bytes: &[u8]) -> std::io::Result<Fd> {
    let label = CString::new(name).unwrap_or_default();
    // SAFETY: a string. MFD_EXEC is unknown to kernels before 6.3, where every copy may be executed.
    let new = |flags| unsafe { libc::memfd_create(label.as_ptr(), flags) };
    let mut fd: RawFd = new(libc::MFD_CLOEXEC | libc::MFD_EXEC);
    if fd < 0 && std::io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL) {
        fd = new(libc::MFD_CLOEXEC);
    }
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: made above, and nobody else's.
    let mut file = unsafe { File::from_raw_fd(fd) };
    file.write_all(bytes)?;
    let mut copy = Fd::own(std::os::fd::IntoRawFd::into_raw_fd(file))?.out_of_the_way();
    let mut taken = Vec::new();
    while LOADED.lock().iter().filter_map(Weak::upgrade).any(|l| l.copy.raw() == copy.raw()) {
        // SAFETY: F_DUPFD_CLOEXEC takes a number, no pointer.
        let next = unsafe { libc::fcntl(copy.raw(), libc::F_DUPFD_CLOEXEC, copy.raw() + 1) };
        taken.push(std::mem::replace(&mut copy, Fd::own(next)?));
    }
    Ok(copy)
}

impl Library {
    /// Loads the file as it is now. The error is one line.
    pub(crate) fn open(path: &Path) -> Result<Arc<Library>, ConfigError> {
        let fail = |what: String, error| ConfigError::new(format!("plugin={}: {what}", path.display()), error);
        let system = |e: std::io::Error| match e.kind() {
            std::io::ErrorKind::NotFound => fail("no such file".to_owned(), Error::NoEnt),
            _ => fail(e.to_string(), Error::Inval),
        };
        let bytes = std::fs::read(path).map_err(system)?;
        let content = content(&bytes);
        if let Some(same) = Library::of(content) {
            return Ok(same);
        }
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let copy = copy_of(&name, &bytes).map_err(system)?;
        let file = format!("/proc/{}/fd/{}", std::process::id(), copy.raw());
        let at = CString::new(file.as_str()).unwrap_or_default();
        // SAFETY: a string; the object's constructors are the caller's business.
        let handle = unsafe { libc::dlopen(at.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if handle.is_null() {
            // The user knows the file by its own name.
            let line = linker_line();
            return Err(fail(line.strip_prefix(&format!("{file}: ")).unwrap_or(&line).to_owned(), Error::Inval));
        }
        let (born, build_id) = (fork::generation(), build_id(&bytes).unwrap_or_default());
        let library = Library { handle, exit: OnceLock::new(), born, name, build_id, content, copy };
        Ok(library.join())
    }

    /// The library of this process with this content.
    fn of(content: Content) -> Option<Arc<Library>> {
        let loaded = LOADED.lock();
        // In a child of fork the parent's are not used: their static data is the parent's, whatever it was doing.
        loaded.iter().filter_map(Weak::upgrade).find(|l| l.content == content && l.born == fork::generation())
    }

    /// Enters it in the list; if another thread has loaded the same content meanwhile, returns that one.
    fn join(self) -> Arc<Library> {
        let new = Arc::new(self);
        let mut loaded = LOADED.lock();
        loaded.retain(|l| l.strong_count() > 0);
        let same = loaded.iter().filter_map(Weak::upgrade).find(|l| l.content == new.content && l.born == new.born);
        if same.is_none() {
            loaded.push(Arc::downgrade(&new));
        }
        // What is dropped here runs the plug-in's destructors: without the lock.
        drop(loaded);
        same.unwrap_or(new)
    }

    fn symbol(&self, name: &CStr) -> Option<*mut c_void> {
        // SAFETY: the handle is open, the name a string.
        let p = unsafe { libc::dlsym(self.handle, name.as_ptr()) };
        (!p.is_null()).then_some(p)
    }

    /// Its entry point.
    pub(crate) fn init(&self) -> Option<Init> {
        let p = self.symbol(c"usk_plugin_init")?;
        // SAFETY: the name is reserved for functions of this type.
        Some(unsafe { std::mem::transmute::<*mut c_void, Init>(p) })
    }

    /// Its entry point has succeeded in a stack: from now on its end is announced to it.
    pub(crate) fn entered(&self) {
        if let Some(p) = self.symbol(c"usk_plugin_exit") {
            // SAFETY: the name is reserved for functions of this type.
            self.exit.get_or_init(|| unsafe { std::mem::transmute::<*mut c_void, Exit>(p) });
        }
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        if self.born != fork::generation() {
            // In a child of fork the stack is the parent's, and so is unloading.
            return;
        }
        if let Some(exit) = self.exit.get() {
            // A panic that leaves it is discarded. SAFETY: the library is loaded until below; an exit function takes
            // the handle of no stack.
            let _ = contain(|| unsafe { exit(std::ptr::null_mut()) });
        }
        // SAFETY: opened by `open`, closed once; whatever came from it held a count of this.
        unsafe { libc::dlclose(self.handle) };
    }
}

/// The build-id of an ELF file of this machine's word size and byte order, in hexadecimal, as file(1) prints it
/// (NT_GNU_BUILD_ID, a note of a PT_NOTE segment). None: it has none.
fn build_id(elf: &[u8]) -> Option<String> {
    const PT_NOTE: u32 = 4;
    const NT_GNU_BUILD_ID: u32 = 3;
    let bytes = |at: usize, n: usize| elf.get(at..at.checked_add(n)?);
    let u16_at = |at| Some(u16::from_ne_bytes(bytes(at, 2)?.try_into().ok()?));
    let u32_at = |at| Some(u32::from_ne_bytes(bytes(at, 4)?.try_into().ok()?));
    let u64_at = |at| Some(u64::from_ne_bytes(bytes(at, 8)?.try_into().ok()?) as usize);
    if bytes(0, 5)? != b"\x7fELF\x02" {
        return None;
    }
    // e_phoff, e_phentsize, e_phnum.
    let (table, size, count) = (u64_at(32)?, usize::from(u16_at(54)?), usize::from(u16_at(56)?));
    for i in 0..count {
        let head = table.checked_add(i * size)?;
        if u32_at(head)? != PT_NOTE {
            continue;
        }
        // p_offset, p_filesz.
        let (mut at, end) = (u64_at(head + 8)?, u64_at(head + 8)?.checked_add(u64_at(head + 32)?)?);
        while at < end {
            let (name, desc, kind) = (u32_at(at)? as usize, u32_at(at + 4)? as usize, u32_at(at + 8)?);
            let value = at.checked_add(12 + name.next_multiple_of(4))?;
            if kind == NT_GNU_BUILD_ID && bytes(at + 12, name)? == b"GNU\0" {
                return Some(bytes(value, desc)?.iter().map(|b| format!("{b:02x}")).collect());
            }
            at = value.checked_add(desc.next_multiple_of(4))?;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_build_id_of_any_bytes_is_one_or_none() {
        let own = std::fs::read("/proc/self/exe").expect("this program");
        let id = build_id(&own);
        assert!(id.is_none_or(|id| id.len() >= 16 && id.bytes().all(|b| b.is_ascii_hexdigit())));
        // One note, in a segment of its own, after header and table.
        let mut elf = vec![0u8; 64 + 56];
        elf[..5].copy_from_slice(b"\x7fELF\x02");
        elf[32..40].copy_from_slice(&64u64.to_ne_bytes());
        elf[54..56].copy_from_slice(&56u16.to_ne_bytes());
        elf[56..58].copy_from_slice(&1u16.to_ne_bytes());
        elf[64..68].copy_from_slice(&4u32.to_ne_bytes());
        elf[72..80].copy_from_slice(&120u64.to_ne_bytes());
        elf[96..104].copy_from_slice(&20u64.to_ne_bytes());
        for word in [4u32, 4, 3] {
            elf.extend(word.to_ne_bytes());
        }
        elf.extend(b"GNU\0\xde\xad\xbe\xef");
        assert_eq!(build_id(&elf).as_deref(), Some("deadbeef"));
        for n in 0..elf.len() {
            assert_eq!(build_id(&elf[..n]), None, "cut to {n} bytes");
        }
        for at in 0..elf.len() {
            let mut wrong = elf.clone();
            wrong[at] = 0xff;
            build_id(&wrong);
        }
    }
}
