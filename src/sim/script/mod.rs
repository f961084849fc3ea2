//! Packet scripts in packetdrill's language: what arrives (`<`), what must leave (`>`), which system calls are made and when.
//!
//! A script is text. [`parse`] makes a [`Script`] of it or says at which line and column it cannot; nothing in it panics.
//!
//! [`run`](run::run) plays a script in virtual time against anything that implements [`UnderTest`](under_test::UnderTest).
//! The language is described in `README.md` beside the scripts (`tests/packetdrill/`): what is understood, and what is refused.
//!
//! The files: `cursor` (characters, comments, positions), `ast` (what a script says), `parser` (events and their times),
//! `packets` (packet descriptions), `expr` (system calls and their arguments), `code` (the assertions between `%{` and `}%`),
//! `symbols` (names of constants), `info` (`tcp_info` as names); `run` (the player), `connection` (the script's numbers and the
//! wire's), `packet` (bytes), `binding` (calls and their outcomes), `commands` (backticks), `setup` (addresses, tolerances, variants),
//! `under_test` (what is played against), `on_stack` and `epoll` (a stack of this library as that).
pub mod ast;
pub mod binding;
pub mod code;
pub mod commands;
pub mod connection;
mod cursor;
mod epoll;
mod expr;
mod info;
pub mod on_stack;
pub mod packet;
mod packets;
mod parser;
pub mod run;
pub mod setup;
pub mod symbols;
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
