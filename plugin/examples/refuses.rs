//! refuses: a plug-in that says why it is not loaded. `cargo build -p usersock-plugin --example refuses` makes
//! librefuses.so.
#![forbid(unsafe_code)]

usersock_plugin::plugin!(|plugin| Err(plugin.refuse("the moon is in\nthe wrong quarter")));
