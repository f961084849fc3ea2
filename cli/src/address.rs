//! HOST:PORT as `connect` and `listen` take it: a numeric address, or a name that the system resolves.

use crate::Failure;
use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

/// Which end, as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    text: String,
    host: Host,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Numeric(SocketAddr),
    Name(String, u16),
}

impl FromStr for Address {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Address, &'static str> {
        let host = match text.parse() {
            Ok(addr) => Host::Numeric(addr),
            Err(_) => {
                let (name, port) = text.rsplit_once(':').ok_or("there is no port")?;
                if name.is_empty() || name.contains([':', '[', ']']) {
                    return Err("not HOST:PORT; an IPv6 address stands in brackets");
                }
                let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
                let port = port.parse().ok().filter(|_| digits).ok_or("the port is a number from 0 to 65535")?;
                Host::Name(name.to_owned(), port)
            }
        };
        Ok(Address { text: text.to_owned(), host })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Address {
    /// The addresses to try, at least one, in getaddrinfo(3)'s order. The resolver is the system's: it asks over the
    /// kernel's sockets.
    pub(crate) fn resolve(&self) -> Result<Vec<SocketAddr>, Failure> {
        let (name, port) = match &self.host {
            Host::Numeric(addr) => return Ok(vec![*addr]),
            Host::Name(name, port) => (name.as_str(), *port),
        };
        let found: Vec<_> = match (name, port).to_socket_addrs() {
            Ok(found) => found.collect(),
            Err(e) => return Err(Failure::Broken(format!("{self}: {e}"))),
        };
        if found.is_empty() { Err(Failure::Broken(format!("{self}: the name has no address"))) } else { Ok(found) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_have_a_port() {
        for (text, want) in [
            ("10.0.0.1:80", Ok(Host::Numeric("10.0.0.1:80".parse().unwrap()))),
            ("[::1]:80", Ok(Host::Numeric("[::1]:80".parse().unwrap()))),
            ("localhost:80", Ok(Host::Name("localhost".into(), 80))),
            ("10.0.0.1", Err("there is no port")),
            ("localhost:", Err("the port is a number from 0 to 65535")),
            ("localhost:http", Err("the port is a number from 0 to 65535")),
            ("localhost:+80", Err("the port is a number from 0 to 65535")),
            ("10.0.0.1:65536", Err("the port is a number from 0 to 65535")),
            (":80", Err("not HOST:PORT; an IPv6 address stands in brackets")),
            ("::1:80", Err("not HOST:PORT; an IPv6 address stands in brackets")),
            ("[::1:80", Err("not HOST:PORT; an IPv6 address stands in brackets")),
        ] {
            assert_eq!(text.parse::<Address>().map(|a| a.host), want, "{text}");
        }
    }
}
