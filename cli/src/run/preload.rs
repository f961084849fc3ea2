//! Where the preload library is, and what LD_PRELOAD becomes. Above: `run`. ld.so(8).

use crate::launch::{Refusal, elf};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

const LIBRARY: &str = "libusersock_preload.so";

/// LD_PRELOAD with the library in front of what is there.
pub(super) fn value() -> Result<OsString, Refusal> {
    let library = find()?;
    if library.as_os_str().as_bytes().iter().any(|b| b" :\n\t".contains(b)) {
        let why = "LD_PRELOAD takes no path with a blank or a colon; USERSOCK_PRELOAD names a copy elsewhere";
        return Err(Refusal::broken(format!("{}: {why}", library.display())));
    }
    let mut value = library.as_os_str().to_owned();
    if let Some(others) = std::env::var_os("LD_PRELOAD") {
        let others = others.as_bytes().split(|b| b" :".contains(b));
        for other in others.filter(|other| !other.is_empty() && *other != library.as_os_str().as_bytes()) {
            value.push(":");
            value.push(std::ffi::OsStr::from_bytes(other));
        }
    }
    Ok(value)
}

/// The library: as USERSOCK_PRELOAD has it, in `lib` beside the directory of the command, as it is installed, or beside
/// the command, as it is built.
fn find() -> Result<PathBuf, Refusal> {
    if let Some(file) = std::env::var_os("USERSOCK_PRELOAD").filter(|file| !file.is_empty()) {
        let path = std::path::absolute(&file).unwrap_or_else(|_| PathBuf::from(&file));
        // The dynamic linker would go on without it, and the program on the kernel's TCP.
        let why = match path.is_file() {
            true if elf::is_elf(&path) => return Ok(path),
            true => "no library for this machine",
            false => "there is no such file",
        };
        return Err(Refusal::broken(format!("USERSOCK_PRELOAD={}: {why}", path.display())));
    }
    let command = std::env::current_exe().map_err(|e| Refusal::broken(format!("/proc/self/exe: {e}")))?;
    let beside = command.parent().unwrap_or(&command);
    let places = [beside.join("../lib").join(LIBRARY), beside.join(LIBRARY)];
    if let Some(found) = places.iter().find_map(|place| place.canonicalize().ok().filter(|p| p.is_file())) {
        return Ok(found);
    }
    let looked = places.map(|place| place.display().to_string()).join(" and ");
    Err(Refusal::broken(format!("there is no {looked}: `cargo xtask install`, or USERSOCK_PRELOAD names it")))
}
