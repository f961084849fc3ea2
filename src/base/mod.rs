//! Utilities for all other modules. Below: `sys`.
//!
//! | file | what |
//! |---|---|
//! | `boxed` | an array in a box |
//! | `contain` | a panic in packet or timer context ends a socket, not the thread |
//! | `env` | clocks and random numbers, passed to the stack |
//! | `error` | errors, each an errno |
//! | `hash` | keyed hashes of addresses and ports, initial sequence numbers |
//! | `padded` | a value alone on its cache lines |
//! | `probing` | a hash table whose look-up reads one cache line |
//! | `read_mostly` | values that every packet reads and that are replaced rarely |
//! | `waiter` | a waiting thread, and how it is woken |
//! | `ways` | short ways, which are fast paths: a test closes them to run the general code instead |
//! | `wheel` | the timer wheel |

pub(crate) mod boxed;
#[cfg(test)]
pub(crate) mod cases;
pub(crate) mod contain;
pub mod env;
pub mod error;
pub mod hash;
pub(crate) mod padded;
pub(crate) mod probing;
pub(crate) mod read_mostly;
pub(crate) mod waiter;
pub(crate) mod ways;
pub(crate) mod wheel;
