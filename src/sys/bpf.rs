//! bpf(2): a program for the kernel to run on packets, and a table that it reads, which is memory of this process too.
//! Above: `device::steering`. Linux: kernel/bpf/syscall.c, arraymap.c (BPF_F_MMAPABLE). Both need CAP_BPF of the
//! machine; root in a user namespace gets EPERM.

use super::fd::Fd;
use super::raw::syscall;
use super::retry;
use std::io;
use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, Ordering};

const BPF_MAP_CREATE: u32 = 0;
const BPF_PROG_LOAD: u32 = 5;
const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_F_MMAPABLE: u32 = 1 << 10;
const BPF_PROG_TYPE_SOCKET_FILTER: u32 = 1;

const CAP_SYS_ADMIN: u32 = 21;
const CAP_BPF: u32 = 39;

/// Whether this thread has a capability for bpf(2), in the machine's first user namespace. Who has none does not try: a
/// seccomp filter may kill a process for the call. (With kernel.unprivileged_bpf_disabled=0 it might succeed.)
pub(crate) fn may_load() -> bool {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    // A namespace that maps all users.
    let first = read("/proc/self/uid_map").trim_end().ends_with(" 4294967295");
    let status = read("/proc/thread-self/status");
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    first && effective & (1 << CAP_BPF | 1 << CAP_SYS_ADMIN) != 0
}

/// struct bpf_insn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Insn {
    pub code: u8,
    /// Two fields of four bits, in the order of the machine's.
    regs: u8,
    pub off: i16,
    pub imm: i32,
}

impl Insn {
    pub(crate) const fn new(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Insn {
        let regs = if cfg!(target_endian = "little") { src << 4 | dst } else { dst << 4 | src };
        Insn { code, regs, off, imm }
    }
    /// The registers, destination first.
    #[cfg(test)]
    pub(crate) fn regs(self) -> (usize, usize) {
        let (low, high) = (usize::from(self.regs & 15), usize::from(self.regs >> 4));
        if cfg!(target_endian = "little") { (low, high) } else { (high, low) }
    }
}

/// The first members of union bpf_attr that BPF_MAP_CREATE reads.
#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
}

/// Those of BPF_PROG_LOAD.
#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
}

/// An array map of one entry of `LEN` bytes.
#[derive(Debug)]
pub(crate) struct Table<const LEN: usize> {
    bytes: NonNull<[AtomicU8; LEN]>,
}

// SAFETY: the memory is mapped until the value is dropped, and is read and written by atomic operations alone.
unsafe impl<const LEN: usize> Send for Table<LEN> {}
// SAFETY: as above.
unsafe impl<const LEN: usize> Sync for Table<LEN> {}

impl<const LEN: usize> Table<LEN> {
    /// A table of zeros, and the map's descriptor, which programs name; neither needs the other to last. EPERM, ENOMEM,
    /// EMFILE; EINVAL before Linux 5.5.
    pub(crate) fn new() -> io::Result<(Table<LEN>, Fd)> {
        let attr = MapCreate {
            map_type: BPF_MAP_TYPE_ARRAY,
            key_size: 4,
            value_size: LEN as u32,
            max_entries: 1,
            map_flags: BPF_F_MMAPABLE,
        };
        // SAFETY: the kernel reads the given number of bytes of `attr`, in which there is no pointer.
        let fd = unsafe { syscall!(libc::SYS_bpf, BPF_MAP_CREATE, &raw const attr, size_of::<MapCreate>()) };
        let fd = Fd::own(super::check(fd)? as RawFd)?;
        let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: the kernel chooses the place of a new mapping; nothing that is mapped changes.
        let at = super::check(unsafe { syscall!(libc::SYS_mmap, 0, LEN, prot, flags, fd.raw(), 0) })?;
        let bytes = NonNull::new(std::ptr::with_exposed_provenance_mut(at)).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok((Table { bytes }, fd))
    }

    pub(crate) fn bytes(&self) -> &[AtomicU8; LEN] {
        // SAFETY: LEN bytes are mapped there, readable and writable, until the drop; the kernel's programs do nothing
        // but load bytes of them.
        unsafe { self.bytes.as_ref() }
    }

    /// Stores `value` at `i`, unless it is there: most stores would only take the cache line from another thread.
    #[inline]
    pub(crate) fn set(&self, i: usize, value: u8) {
        if let Some(byte) = self.bytes().get(i)
            && byte.load(Ordering::Relaxed) != value
        {
            byte.store(value, Ordering::Relaxed);
        }
    }
}

impl<const LEN: usize> Drop for Table<LEN> {
    fn drop(&mut self) {
        // SAFETY: it was mapped by `new`, with this length, and no reference to it outlives the value.
        let _ = unsafe { syscall!(libc::SYS_munmap, self.bytes.as_ptr(), LEN) };
    }
}

/// Loads a program of the kind that is run on a packet and returns a number. EPERM; EINVAL, EACCES: the kernel's
/// verifier refuses it.
pub(crate) fn load(program: &[Insn]) -> io::Result<Fd> {
    let license = c"MIT";
    let attr = ProgLoad {
        prog_type: BPF_PROG_TYPE_SOCKET_FILTER,
        insn_cnt: program.len() as u32,
        insns: program.as_ptr() as u64,
        license: license.as_ptr() as u64,
    };
    // EAGAIN: a signal came while the verifier ran.
    let mut tries = 0..8;
    loop {
        // SAFETY: the kernel reads the given number of bytes of `attr`, and behind its pointers the instructions of a
        // slice of that length and a zero-terminated string; all outlive the call.
        let fd = retry(|| unsafe { syscall!(libc::SYS_bpf, BPF_PROG_LOAD, &raw const attr, size_of::<ProgLoad>()) });
        match fd {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && tries.next().is_some() => {}
            fd => return Fd::own(fd? as RawFd),
        }
    }
}
