//! `cargo xtask install --prefix DIR`: what a C program needs to build and run against usersock, where pkg-config finds
//! it, the preload shim and the command.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::{Failure, Outcome, broken, cargo};

/// Builds in release mode and installs below `prefix`. Files that exist are replaced by renaming, so a program that has
/// the old library mapped keeps it.
///
/// # Errors
/// The build failed, or a file cannot be written.
pub fn run(prefix: &Path) -> Outcome {
    let prefix = std::path::absolute(prefix)?;
    let text = prefix.to_str().filter(|text| !text.contains(char::is_whitespace));
    let text = text.ok_or_else(|| Failure::Usage("--prefix: pkg-config cannot express white space".into()))?;
    let library = cargo::build_c_library()?;
    let command = cargo::build_release("usersock-cli", &[])?;
    let shim = cargo::build_release("usersock-preload", &[])?;
    let native_libs = library.native_libs.as_deref().unwrap_or_default();
    let pc = pc_file(text, env!("CARGO_PKG_VERSION"), native_libs);
    let mut files = vec![
        (library.with_extension("so")?.clone(), "lib/libusersock.so".to_owned()),
        (library.with_extension("a")?.clone(), "lib/libusersock.a".to_owned()),
        (shim.with_extension("so")?.clone(), "lib/libusersock_preload.so".to_owned()),
        (command.with_extension("")?.clone(), "bin/usersock".to_owned()),
    ];
    // usersock.h for programs, usersock/*.h for plug-ins.
    for dir in ["include", "include/usersock"] {
        for entry in fs::read_dir(cargo::root().join(dir))? {
            let from = entry?.path();
            if let Some(name) = from.file_name().filter(|_| from.extension().is_some_and(|ext| ext == "h")) {
                let to = format!("{dir}/{}", name.display());
                files.push((from, to));
            }
        }
    }
    // The crate for plug-ins in Rust: `usersock new-plugin` names it there.
    let crate_dir = cargo::root().join("plugin");
    for dir in ["", "src", "src/abi", "src/sys", "examples"] {
        for entry in fs::read_dir(crate_dir.join(dir))? {
            let from = entry?.path();
            if from.is_file() {
                let to = format!("share/usersock/plugin/{}", from.strip_prefix(&crate_dir).unwrap_or(&from).display());
                files.push((from, to));
            }
        }
    }
    for (from, to) in files {
        put(&prefix.join(&to), |temporary| fs::copy(&from, temporary).map(|_| ()))
            .map_err(|error| broken(format!("{} from {}: {error}", to, from.display())))?;
    }
    put(&prefix.join("lib/pkgconfig/usersock.pc"), |temporary| fs::write(temporary, &pc))?;
    documents(command.with_extension("")?, &prefix)?;
    println!("PKG_CONFIG_PATH={text}/lib/pkgconfig cc prog.c $(pkg-config --cflags --libs usersock)");
    println!("LD_PRELOAD={text}/lib/libusersock_preload.so prog   # unmodified: docs/preload.md");
    println!("LD_LIBRARY_PATH={text}/lib ./a.out   # or link with: pkg-config --static --libs usersock");
    Ok(true)
}

/// Manual pages and shell completions, which the command itself writes.
fn documents(command: &Path, prefix: &Path) -> Result<(), Failure> {
    let ask = |args: &[&str]| -> Result<Vec<u8>, Failure> {
        let output = Command::new(command).args(args).output()?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(broken(format!("usersock {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim())))
    };
    for page in String::from_utf8_lossy(&ask(&["man"])?).lines() {
        let section = page.rsplit('.').next().unwrap_or_default();
        let text = ask(&["man", page])?;
        put(&prefix.join(format!("share/man/man{section}/{page}")), |temporary| fs::write(temporary, &text))?;
    }
    for (shell, file) in [
        ("bash", "bash-completion/completions/usersock"),
        ("zsh", "zsh/site-functions/_usersock"),
        ("fish", "fish/vendor_completions.d/usersock.fish"),
    ] {
        let text = ask(&["completions", shell])?;
        put(&prefix.join("share").join(file), |temporary| fs::write(temporary, &text))?;
    }
    Ok(())
}

/// Writes a file beside `to` and renames it there.
fn put(to: &Path, write: impl FnOnce(&Path) -> std::io::Result<()>) -> std::io::Result<()> {
    if let Some(dir) = to.parent() {
        fs::create_dir_all(dir)?;
    }
    let mut temporary = to.as_os_str().to_os_string();
    temporary.push(format!(".{}", std::process::id()));
    let temporary = Path::new(&temporary);
    write(temporary).and_then(|()| fs::rename(temporary, to)).inspect_err(|_| {
        // Removes a partial file; it may not exist, which is no error.
        let _ = fs::remove_file(temporary);
    })?;
    println!("installed {}", to.display());
    Ok(())
}

/// The pkg-config file. `Libs.private` is what a static link needs beside `libusersock.a`, as rustc tells it. The C
/// compiler adds by itself libc and what unwinds the stack: libgcc_s, or with -static libgcc_eh, since there is no
/// static libgcc_s.
fn pc_file(prefix: &str, version: &str, native_libs: &str) -> String {
    let private: Vec<_> = native_libs.split_whitespace().filter(|lib| !matches!(*lib, "-lgcc_s" | "-lc")).collect();
    let native_libs = private.join(" ");
    format!(
        "prefix={prefix}\n\
         libdir=${{prefix}}/lib\n\
         includedir=${{prefix}}/include\n\
         \n\
         Name: usersock\n\
         Description: TCP sockets in user space, as Linux does them\n\
         Version: {version}\n\
         Cflags: -I${{includedir}}\n\
         Libs: -L${{libdir}} -lusersock\n\
         Libs.private: {native_libs}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pkg_config_reads_the_file_and_keeps_private_libraries_for_static_links() {
        let dir = std::env::temp_dir().join(format!("usersock-pc-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("usersock.pc"), pc_file("/opt/us", "1.2.3", "-lgcc_s -lpthread -lm -lc")).unwrap();
        let ask = |args: &[&str]| {
            let output = Command::new("pkg-config").args(args).arg("usersock").env("PKG_CONFIG_PATH", &dir).output();
            output.ok().map(|output| String::from_utf8_lossy(&output.stdout).trim().to_string())
        };
        let (shared, fixed) = (ask(&["--cflags", "--libs"]), ask(&["--static", "--libs"]));
        fs::remove_dir_all(&dir).unwrap();
        let (Some(shared), Some(fixed)) = (shared, fixed) else {
            println!("SKIP pkg_config_reads_the_file: pkg-config is not installed");
            return;
        };
        assert_eq!(shared, "-I/opt/us/include -L/opt/us/lib -lusersock");
        assert_eq!(fixed, "-L/opt/us/lib -lusersock -lpthread -lm");
    }
}
