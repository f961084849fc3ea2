//! TCP sockets in user space, as Linux does them, for any program.
pub mod wire;
pub mod env;
pub mod counters;
pub mod sysctl;
pub mod wheel;
