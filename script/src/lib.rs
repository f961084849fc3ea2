//! Packet scripts in packetdrill's language: what arrives (`<`), what must leave (`>`), which system calls are made and
//! when.
//!
//! A script is text. [`parse`] makes a [`Script`] of it or says at which line and column it cannot; nothing in it
//! panics.
//!
//! [`run()`] plays a script in virtual time against anything that implements
//! [`UnderTest`]. The language is described in `tests/packetdrill/README.md`, beside the
//! scripts: what is understood, and what is refused.
//!
//! The library does not ship this: it is how the library is tested, in virtual time, through its public interface.
//!
//! The files: `cursor` (characters, comments, positions), `defines` (names for them), `ast` (what a script says),
//! `parser` (events and their times), `packets` (packet descriptions), `expr` (system calls and their arguments),
//! `code` (the assertions between `%{` and `}%`), `symbols` (names of constants), `info` (`tcp_info` as names); `run`
//! (the player), `connection` (the script's numbers and the wire's), `packet` (bytes), `binding` (calls and their
//! outcomes), `commands` (backticks), `setup` (addresses, tolerances, variants), `under_test` (what is played against),
//! `on_stack` and `epoll` (a stack of this library as that).
mod ast;
mod binding;
mod code;
mod commands;
mod connection;
mod cursor;
mod defines;
mod epoll;
mod expr;
mod info;
pub mod on_stack;
mod packet;
mod packets;
mod parser;
mod run;
mod setup;
mod symbols;
pub mod under_test;

pub use ast::Script;
pub use cursor::{Pos, ScriptError};
pub use parser::parse;
pub use run::{Failure, Report, run};
pub use setup::{Setup, Variant};
pub use under_test::UnderTest;

#[cfg(test)]
mod run_tests;
#[cfg(test)]
mod tests;
