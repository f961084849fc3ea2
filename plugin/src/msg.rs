//! The program's messages.

pub use crate::abi::msg::{RecvMsg, SendMsg};
