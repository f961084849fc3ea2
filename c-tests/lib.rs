//! Holds the C test programs (`cases/*.c`) and the tests that build and run them (`tests/cases.rs`): on the kernel's
//! sockets, which is the oracle, and on usersock through `include/usersock.h`. No Rust code of its own.
