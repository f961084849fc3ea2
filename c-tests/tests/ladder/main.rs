//! The ladder: unmodified programs on usersock, whose rungs are harder and harder, each with usersock on either side
//! and on both, over a link that loses nothing and one that loses 1 %. What comes of it, exit statuses and bytes, is
//! compared with what the same rung gives with the kernel's TCP on both sides; a program that asks the kernel for a
//! TCP socket is ended by SIGSYS; and each rung ends with stack servers that know of no socket any more.
//!
//! Here a rung is one test, which plays a part of the forms; `cargo xtask programs` plays them all (`climb`).
#![cfg(has_usersock)]

#[path = "../harness/mod.rs"]
#[allow(dead_code, reason = "a part of the harness is for cases")]
mod harness;

mod climb;
mod play;
mod rungs;
