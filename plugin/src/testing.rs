//! For tests of a plug-in: a stack that loads it, and sockets of it. What uses this is linked with libusersock; what
//! `usersock new-plugin` makes is.

pub use crate::abi::testing::{Loaded, Socket, Stack};
use std::path::PathBuf;

/// The shared object `lib<name>.so` that Cargo has built for the running test.
///
/// # Panics
/// It is not there.
pub fn plugin(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the test's own file");
    let file = format!("lib{}.so", name.replace('-', "_"));
    // target/debug/deps/test-0123: beside it, or in the folder above.
    let found = test.ancestors().skip(1).take(2).map(|dir| dir.join(&file)).find(|file| file.exists());
    found.unwrap_or_else(|| panic!("{file} is not beside {}", test.display()))
}
