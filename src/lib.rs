//! TCP sockets in user space, as Linux does them, for any program.
pub mod counters;
pub mod device;
pub mod driver;
pub mod env;
pub mod error;
pub mod hash;
pub mod inet;
pub mod ip;
pub mod sim;
pub mod sock;
pub mod stack;
pub mod sys;
pub mod sysctl;
pub mod tcp;
pub mod wheel;
pub mod wire;
