//! Links the tests with libusersock. The plug-in is not linked with it: it finds the calls in the program that loads
//! it. The environment variable USERSOCK says where usersock is, a prefix or its source tree, if that has changed.

use std::path::Path;

const USERSOCK: &str = "@usersock@";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=USERSOCK");
    let usersock = std::env::var("USERSOCK").unwrap_or_else(|_| USERSOCK.to_owned());
    let folders = ["lib", "target/release", "target/debug"].map(|folder| Path::new(&usersock).join(folder));
    match folders.iter().find(|folder| folder.join("libusersock.so").exists()) {
        Some(folder) => {
            let folder = folder.display();
            for arg in [format!("-L{folder}"), "-lusersock".to_owned(), format!("-Wl,-rpath,{folder}")] {
                println!("cargo::rustc-link-arg-tests={arg}");
            }
        }
        None => println!("cargo::warning=no libusersock.so below {usersock}: the tests cannot be linked"),
    }
}
