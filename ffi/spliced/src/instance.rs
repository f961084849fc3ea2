//! Which server a program belongs to.

use std::fmt;
use std::str::FromStr;

/// The environment variable that carries it.
pub const VARIABLE: &str = "USERSOCK_SERVER";

/// Bytes of the identifier and of the secret.
const ID: usize = 8;
const SECRET: usize = 16;
/// Bytes of what accept(2) sends.
pub(crate) const GREETING: usize = SECRET;

/// A server. The identifier is in every name of a descriptor; the secret is in every request, since any process of the
/// network namespace can connect to an abstract name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Instance {
    /// Part of all names.
    pub(crate) id: [u8; ID],
    /// Part of all requests.
    pub(crate) secret: [u8; SECRET],
}

impl Instance {
    /// From random bytes.
    pub fn new(random: [u8; ID + SECRET]) -> Instance {
        let (id, secret) = random.split_at(ID);
        let mut instance = Instance { id: [0; ID], secret: [0; SECRET] };
        instance.id.copy_from_slice(id);
        instance.secret.copy_from_slice(secret);
        instance
    }

    /// What accept(2) of the shim sends before the program can send anything. No program sends the secret by chance.
    pub(crate) fn greeting(&self) -> [u8; GREETING] {
        self.secret
    }
}

/// Hexadecimal digits, as in the environment.
impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.iter().chain(&self.secret).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Without the secret.
impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Instance({:02x?})", self.id)
    }
}

/// Not an instance's digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadInstance;

impl FromStr for Instance {
    type Err = BadInstance;

    fn from_str(text: &str) -> Result<Instance, BadInstance> {
        let digits = text.as_bytes();
        if digits.len() != 2 * (ID + SECRET) {
            return Err(BadInstance);
        }
        let mut bytes = [0; ID + SECRET];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |d: u8| (d as char).to_digit(16).map(|d| d as u8);
            *byte = digit(pair[0]).ok_or(BadInstance)? << 4 | digit(pair[1]).ok_or(BadInstance)?;
        }
        Ok(Instance::new(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_gives_back_what_was_put_there() {
        let instance = Instance::new(std::array::from_fn(|i| (i * 11) as u8));
        assert_eq!(instance.to_string().parse(), Ok(instance));
        for bad in ["", "00", &instance.to_string()[1..], &"g".repeat(48), &"é".repeat(24)] {
            assert_eq!(bad.parse::<Instance>(), Err(BadInstance), "{bad}");
        }
    }
}
