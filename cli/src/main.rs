//! The `usersock` command.
fn main() {}
