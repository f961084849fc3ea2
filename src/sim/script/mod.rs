//! Packet scripts in packetdrill's language: what arrives (`<`), what must leave (`>`), which system calls are made and when.
//!
//! A script is text. [`parse`] makes a [`Script`] of it or says at which line and column it cannot; nothing in it panics.
//!
//! The files: `cursor` (characters, comments, positions), `ast` (what a script says), `parser` (events and their times),
//! `packets` (packet descriptions), `expr` (system calls and their arguments), `code` (the assertions between `%{` and `}%`),
//! `symbols` (names of constants).
pub mod ast;
pub mod code;
mod cursor;
mod expr;
mod packets;
mod parser;
pub mod symbols;

pub use ast::Script;
pub use cursor::{Pos, ScriptError};
pub use parser::parse;

#[cfg(test)]
mod tests;
