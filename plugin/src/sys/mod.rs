//! The C ABI as the headers in `include/usersock/` declare it, kept by hand: types, tables and calls by their names
//! there. `tests/sys.rs` compares it with the source of the headers and, by a C compiler, with the headers themselves.
//!
//! The safe layer is in `abi`; this is for what it lacks. Every call here is unsafe: the header says what it requires.
#![allow(unsafe_code, non_camel_case_types, missing_docs, clippy::missing_safety_doc)]

mod cong;
mod core;
mod device;
mod hooks;
mod over;
mod posix;
mod proto;
mod tcp;
mod ulp;

pub use self::core::*;
pub use cong::*;
pub use device::*;
pub use hooks::*;
pub use over::*;
pub use posix::*;
pub use proto::*;
pub use tcp::*;
pub use ulp::*;
