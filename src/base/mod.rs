//! What everything stands on: clocks and randomness (`env`), errors (`error`), keyed hashes (`hash`), timer wheels (`wheel`),
//! threads that wait (`waiter`), values that are read often and replaced rarely (`read_mostly`), containment of panics (`contain`). Below: `sys`.

pub(crate) mod contain;
pub mod env;
pub mod error;
pub mod hash;
pub mod read_mostly;
pub mod waiter;
pub mod wheel;
