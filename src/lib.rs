//! TCP sockets in user space, as Linux does them, for any program.
pub mod counters;
pub mod env;
pub mod error;
pub mod hash;
pub mod sim;
pub mod sysctl;
pub mod wheel;
pub mod wire;
