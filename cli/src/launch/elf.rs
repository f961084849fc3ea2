//! Which file a program's name means, and whether the preload library will reach it: LD_PRELOAD works through the
//! dynamic linker of the C library that the preload library is linked with, and not in programs that run with more
//! privileges than their caller. Above: `launch`. elf(5), ld.so(8), execve(2).

use super::Refusal;
use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Bytes of Elf64_Ehdr, and of an Elf64_Phdr.
const EHDR_LEN: usize = 64;
const PHDR_LEN: usize = 56;
const PT_INTERP: u32 = 3;
const PT_NOTE: u32 = 4;
/// How many interpreters of scripts may follow each other: as many as the kernel takes (binfmt_script).
const SCRIPTS: usize = 5;
/// Bytes of a script's first line that the kernel reads (BINPRM_BUF_SIZE).
const SCRIPT_LINE: usize = 256;

/// The status of env(1) for a program that is there and cannot be run, and for one that is not there.
const CANNOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;

/// What of an ELF file decides.
#[derive(Debug, PartialEq, Eq)]
struct Elf {
    machine: u16,
    /// The dynamic linker (PT_INTERP).
    interpreter: Option<PathBuf>,
    /// Built by Go's own linker, whose run-time library makes system calls itself.
    go: bool,
}

/// Why a file could not be read as an ELF file of this word size.
#[derive(Debug, PartialEq, Eq)]
enum NotElf {
    Otherwise,
    WordSize,
    Broken,
}

impl Elf {
    fn read(file: &File) -> Result<Elf, NotElf> {
        let mut head = [0; EHDR_LEN];
        let got = file.read_at(&mut head, 0).unwrap_or(0);
        if got < 20 || !head.starts_with(b"\x7fELF") {
            return Err(NotElf::Otherwise);
        }
        // EI_CLASS 2: 64 bits; EI_DATA 1: little endian.
        if head[4] != if cfg!(target_pointer_width = "64") { 2 } else { 1 } {
            return Err(NotElf::WordSize);
        }
        let half = |at: usize| u16::from_ne_bytes([head[at], head[at + 1]]);
        let machine = half(18);
        if got < EHDR_LEN || head[5] != if cfg!(target_endian = "little") { 1 } else { 2 } {
            return Ok(Elf { machine: u16::MAX, interpreter: None, go: false });
        }
        let offset = u64::from_ne_bytes(head[32..40].try_into().map_err(|_| NotElf::Broken)?);
        if usize::from(half(54)) != PHDR_LEN {
            return Err(NotElf::Broken);
        }
        let mut table = vec![0; usize::from(half(56)) * PHDR_LEN];
        file.read_exact_at(&mut table, offset).map_err(|_| NotElf::Broken)?;
        let mut elf = Elf { machine, interpreter: None, go: false };
        for header in table.chunks_exact(PHDR_LEN) {
            let long = |at: usize| header[at..at + 8].try_into().map_or(0, u64::from_ne_bytes);
            let (kind, at, len) = (u32::from_ne_bytes([header[0], header[1], header[2], header[3]]), long(8), long(32));
            if ![PT_INTERP, PT_NOTE].contains(&kind) || len > 1 << 16 {
                continue;
            }
            let mut bytes = vec![0; len as usize];
            file.read_exact_at(&mut bytes, at).map_err(|_| NotElf::Broken)?;
            if kind == PT_INTERP {
                let name = bytes.split(|b| *b == 0).next().unwrap_or_default();
                elf.interpreter = Some(PathBuf::from(OsStr::from_bytes(name)));
            } else {
                // Elf64_Nhdr: length of name and description, type; the build's name is of type 4, owner "Go".
                elf.go |= bytes.windows(8).any(|w| w == b"\x04\0\0\0Go\0\0");
            }
        }
        Ok(elf)
    }
}

/// Whether a file is an ELF file of this word size.
pub(crate) fn is_elf(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| Elf::read(&file).is_ok())
}

/// The file that execvp(3) would run for `program`.
pub(crate) fn find(program: &OsStr) -> Result<PathBuf, Refusal> {
    let shown = program.to_string_lossy();
    if program.is_empty() {
        return Err(Refusal { status: NOT_FOUND, message: "the program's name is empty".to_owned() });
    }
    let refuse = |status, why: &str| Refusal { status, message: format!("{shown}: {why}") };
    let executable = |path: &Path| nix::unistd::access(path, nix::unistd::AccessFlags::X_OK).is_ok() && path.is_file();
    let mut seen = false;
    let places: Vec<PathBuf> = if program.as_bytes().contains(&b'/') {
        vec![PathBuf::from(program)]
    } else {
        let path = std::env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
        std::env::split_paths(&path).map(|dir| dir.join(program)).collect()
    };
    for place in places {
        if executable(&place) {
            return Ok(place);
        }
        seen |= place.exists();
    }
    match seen {
        true => Err(refuse(CANNOT_RUN, "it is no executable file (`ls -l` shows its permissions)")),
        false if shown.contains('/') => Err(refuse(NOT_FOUND, "there is no such file")),
        false => Err(refuse(NOT_FOUND, "there is no such program in PATH")),
    }
}

/// Refuses a program that the preload library, linked as this command is, would not reach.
pub(crate) fn judge(program: &Path) -> Result<(), Refusal> {
    let own = File::open("/proc/self/exe").ok().and_then(|f| Elf::read(&f).ok());
    let own = own.ok_or_else(|| Refusal::broken("/proc/self/exe cannot be read: is /proc mounted?".to_owned()))?;
    let mut at = program.to_owned();
    for _ in 0..SCRIPTS {
        match verdict(&at, &own) {
            Ok(None) => return Ok(()),
            Ok(Some(interpreter)) => at = interpreter,
            Err(why) if at == program => return Err(cannot_run(format!("{}: {why}", at.display()))),
            Err(why) => {
                return Err(cannot_run(format!("{}, which runs {}: {why}", at.display(), program.display())));
            }
        }
    }
    Err(cannot_run(format!("{}: too many interpreters, one of another", program.display())))
}

fn cannot_run(message: String) -> Refusal {
    Refusal { status: CANNOT_RUN, message }
}

/// None: the library reaches it. Some: it is a script of this interpreter.
fn verdict(path: &Path, own: &Elf) -> Result<Option<PathBuf>, String> {
    let file = match File::open(path) {
        Ok(file) => file,
        // It may be executed without being readable, and then nothing is known of it but its permissions.
        Err(_) => return privileged(path).map(|()| None),
    };
    match Elf::read(&file) {
        Err(NotElf::Otherwise) => return Ok(script(&file)),
        Err(NotElf::WordSize) => {
            let (theirs, ours) = if cfg!(target_pointer_width = "64") { ("32", "64") } else { ("64", "32") };
            return Err(format!(
                "it is a {theirs}-bit program, and the preload library a {ours}-bit one; take a {ours}-bit build of it"
            ));
        }
        Err(NotElf::Broken) => return Err("it is no ELF file that this system runs".to_owned()),
        Ok(elf) if elf.machine != own.machine => {
            return Err("it is a program for another processor; take a build for this one".to_owned());
        }
        Ok(Elf { interpreter: None, go, .. }) => {
            let also = if go { " (by Go; `go build -linkmode=external` does not help either)" } else { "" };
            return Err(format!(
                "it is statically linked{also}, so no dynamic linker loads the preload library; \
                 take a dynamically linked build, or link it with libusersock"
            ));
        }
        Ok(Elf { go: true, .. }) => {
            return Err("it is a Go program, which makes system calls without the C library; \
                        the preload library would see none of them"
                .to_owned());
        }
        Ok(Elf { interpreter: Some(theirs), .. }) => {
            let ours = own.interpreter.clone().unwrap_or_default();
            if theirs.file_name() != ours.file_name() {
                return Err(format!(
                    "its C library is another one (its dynamic linker is {}, the preload library's {}); \
                     take a build for the latter",
                    theirs.display(),
                    ours.display()
                ));
            }
        }
    }
    privileged(path).map(|()| None)
}

/// The interpreter of a script; without a first line that says so execvp(3) has sh run it.
fn script(mut file: &File) -> Option<PathBuf> {
    let mut line = Vec::new();
    file.by_ref().take(SCRIPT_LINE as u64).read_to_end(&mut line).ok()?;
    let line = line.split(|b| *b == b'\n').next().unwrap_or_default();
    let Some(rest) = line.strip_prefix(b"#!") else { return Some(PathBuf::from("/bin/sh")) };
    let mut words = rest.split(|b| b" \t".contains(b)).filter(|word| !word.is_empty());
    words.next().map(|word| PathBuf::from(OsStr::from_bytes(word)))
}

/// Refuses a file that runs with privileges which its caller has not: of those the dynamic linker ignores LD_PRELOAD.
fn privileged(path: &Path) -> Result<(), String> {
    let Ok(meta) = fs::metadata(path) else { return Ok(()) };
    let (user, group) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let how = if meta.mode() & libc::S_ISUID != 0 && meta.uid() != user {
        "setuid"
    } else if meta.mode() & (libc::S_ISGID | libc::S_IXGRP) == libc::S_ISGID | libc::S_IXGRP && meta.gid() != group {
        "setgid"
    } else if CString::new(path.as_os_str().as_bytes()).is_ok_and(|path| crate::sys::has_capabilities(&path)) {
        "given capabilities (setcap)"
    } else {
        return Ok(());
    };
    Err(format!("it is {how}, and the dynamic linker ignores LD_PRELOAD then; run a copy, which cp(1) makes without"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_is_reached_by_the_library() {
        judge(&std::env::current_exe().unwrap()).unwrap();
    }

    #[test]
    fn a_program_is_found_as_execvp_finds_it() {
        assert!(find(OsStr::new("sh")).unwrap().is_absolute());
        for (program, status) in [("no-such-program", 127), ("/no/such", 127), ("/etc/passwd", 126), ("/tmp", 126)] {
            assert_eq!(find(OsStr::new(program)).unwrap_err().status, status, "{program}");
        }
    }

    #[test]
    fn scripts_name_their_interpreter() {
        let path = std::env::temp_dir().join(format!("usersock-script-{}", std::process::id()));
        for (text, want) in [
            ("#!/bin/sh\n", Some("/bin/sh")),
            ("#! /usr/bin/env python3\nx", Some("/usr/bin/env")),
            ("#!/bin/sh", Some("/bin/sh")),
            ("echo hello\n", Some("/bin/sh")),
            ("#!\n", None),
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(script(&File::open(&path).unwrap()), want.map(PathBuf::from), "{text:?}");
        }
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn any_bytes_are_an_elf_file_or_none() {
        let path = std::env::temp_dir().join(format!("usersock-elf-{}", std::process::id()));
        let whole = fs::read("/proc/self/exe").unwrap();
        for len in [0, 4, 19, 20, 63, 64, 100, 1000] {
            fs::write(&path, &whole[..len]).unwrap();
            let _ = Elf::read(&File::open(&path).unwrap());
        }
        let mut wild = whole[..1000].to_vec();
        wild[32..40].fill(0xff);
        fs::write(&path, &wild).unwrap();
        assert_eq!(Elf::read(&File::open(&path).unwrap()), Err(NotElf::Broken));
        fs::remove_file(&path).unwrap();
    }
}
