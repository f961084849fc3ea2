//! `--strict`: a seccomp filter under which the kernel makes no TCP socket. The preload library never asks it for one,
//! so a call that reaches the kernel has escaped the library (a raw system call, a static helper), and is to fail
//! instead of running on the kernel's TCP unnoticed. Above: `launch`. Linux: seccomp(2), socket(2), socketcall(2).

use std::io;

/// What an escaped socket(2) fails with: EACCES, "permission to create a socket of the specified type is denied".
const ERRNO: u32 = libc::EACCES as u32;
/// What io_uring_setup(2) fails with, since rings make sockets without socket(2): EPERM, as in Docker's filter.
const URING_ERRNO: u32 = libc::EPERM as u32;

/// Offsets in struct seccomp_data: nr, arch, then the instruction pointer, then six arguments of 8 bytes each.
const NR: u32 = 0;
const ARCH: u32 = 4;
const ARGS: u32 = 16;

/// AUDIT_ARCH_* of linux/audit.h.
#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const NATIVE: u32 = 0xc000_00b7;
/// The 32-bit sibling of each, and its numbers of socket(2) and socketcall(2), the latter where there is one.
#[cfg(target_arch = "x86_64")]
const COMPAT: (u32, u32, u32) = (0x4000_0003, 359, 102);
#[cfg(target_arch = "aarch64")]
const COMPAT: (u32, u32, u32) = (0x4000_0028, 281, u32::MAX);
/// __X32_SYSCALL_BIT: the same calls with pointers of 32 bits.
const X32_BIT: u32 = 0x4000_0000;
/// The first argument of socketcall(2) that means socket(2).
const SYS_SOCKET: u32 = 1;
const IO_URING_SETUP: u32 = 425;

/// Where the low word of argument `n` is.
const fn arg(n: u32) -> u32 {
    ARGS + 8 * n + if cfg!(target_endian = "big") { 4 } else { 0 }
}

fn op(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

fn load(offset: u32) -> libc::sock_filter {
    op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset)
}

/// Jumps forward: over `yes` instructions when equal, else over `no`.
fn equal(k: u32, yes: u8, no: u8) -> libc::sock_filter {
    libc::sock_filter { jt: yes, jf: no, ..op(libc::BPF_JMP | libc::BPF_JEQ, k) }
}

/// The filter.
fn program() -> Vec<libc::sock_filter> {
    let (compat, compat_socket, socketcall) = COMPAT;
    let fail = |errno: u32| op(libc::BPF_RET, libc::SECCOMP_RET_ERRNO | errno);
    let and = |k: u32| op(libc::BPF_ALU | libc::BPF_AND, k);
    vec![
        load(ARCH),
        equal(compat, 0, 4),
        // A 32-bit program: socket(2), or socketcall(2), whose family stands in memory that a filter does not see.
        load(NR),
        equal(compat_socket, 7, 0),
        equal(socketcall, 13, 0),
        op(libc::BPF_JMP | libc::BPF_JA, 11),
        // A 64-bit program; of another processor there is none.
        equal(NATIVE, 0, 10),
        load(NR),
        and(!X32_BIT),
        equal(IO_URING_SETUP, 12, 0),
        equal(libc::SYS_socket as u32, 0, 6),
        // socket(family, type, protocol): the type without SOCK_CLOEXEC and SOCK_NONBLOCK.
        load(arg(0)),
        equal(libc::AF_INET as u32, 1, 0),
        equal(libc::AF_INET6 as u32, 0, 3),
        load(arg(1)),
        and(0xf),
        equal(libc::SOCK_STREAM as u32, 3, 0),
        op(libc::BPF_RET, libc::SECCOMP_RET_ALLOW),
        load(arg(0)),
        equal(SYS_SOCKET, 0, 1),
        fail(ERRNO),
        op(libc::BPF_RET, libc::SECCOMP_RET_ALLOW),
        fail(URING_ERRNO),
    ]
}

/// Puts this process and its descendants under the filter. Programs that they execute gain no privilege any more
/// (PR_SET_NO_NEW_PRIVS), as the kernel demands of who may not set filters otherwise.
pub(super) fn enter() -> io::Result<()> {
    nix::sys::prctl::set_no_new_privs()?;
    crate::sys::seccomp(&mut program())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the filter over a call.
    fn answer(arch: u32, nr: u32, args: [u32; 2]) -> u32 {
        let program = program();
        let (mut pc, mut a) = (0, 0);
        loop {
            let i = program[pc];
            pc += 1;
            match u32::from(i.code) {
                c if c == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS => {
                    a = match i.k {
                        NR => nr,
                        ARCH => arch,
                        k if k == arg(0) => args[0],
                        k if k == arg(1) => args[1],
                        k => panic!("reads at {k}"),
                    }
                }
                c if c == libc::BPF_ALU | libc::BPF_AND => a &= i.k,
                c if c == libc::BPF_JMP | libc::BPF_JEQ => pc += usize::from(if a == i.k { i.jt } else { i.jf }),
                c if c == libc::BPF_JMP | libc::BPF_JA => pc += i.k as usize,
                _ => return i.k,
            }
        }
    }

    #[test]
    fn tcp_sockets_and_rings_fail_and_nothing_else_does() {
        let (inet, inet6, unix) = (libc::AF_INET as u32, libc::AF_INET6 as u32, libc::AF_UNIX as u32);
        let (stream, dgram) = (libc::SOCK_STREAM as u32, libc::SOCK_DGRAM as u32);
        let socket = libc::SYS_socket as u32;
        let (allow, eacces) = (libc::SECCOMP_RET_ALLOW, libc::SECCOMP_RET_ERRNO | ERRNO);
        let (compat, compat_socket, socketcall) = COMPAT;
        for (what, got, want) in [
            ("TCP", answer(NATIVE, socket, [inet, stream]), eacces),
            ("TCP over IPv6", answer(NATIVE, socket, [inet6, stream]), eacces),
            ("with flags", answer(NATIVE, socket, [inet, stream | libc::SOCK_CLOEXEC as u32]), eacces),
            ("x32", answer(NATIVE, socket | X32_BIT, [inet, stream]), eacces),
            ("UDP", answer(NATIVE, socket, [inet, dgram]), allow),
            ("AF_UNIX", answer(NATIVE, socket, [unix, stream]), allow),
            ("another call", answer(NATIVE, socket + 1, [inet, stream]), allow),
            ("a ring", answer(NATIVE, IO_URING_SETUP, [8, 0]), libc::SECCOMP_RET_ERRNO | URING_ERRNO),
            ("32-bit TCP", answer(compat, compat_socket, [inet, stream]), eacces),
            ("32-bit UDP", answer(compat, compat_socket, [inet, dgram]), allow),
            ("32-bit other", answer(compat, 1, [inet, stream]), allow),
            ("unknown processor", answer(1, socket, [inet, stream]), allow),
        ] {
            assert_eq!(got, want, "{what}");
        }
        if socketcall != u32::MAX {
            assert_eq!(answer(compat, socketcall, [SYS_SOCKET, 0]), eacces);
            assert_eq!(answer(compat, socketcall, [2, 0]), allow);
        }
    }
}
