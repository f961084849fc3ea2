//! Requests of clients, and their answers: each is one message of a SOCK_SEQPACKET connection, which is made for one
//! request. So they need no state, no lock, and no thought for fork, signals or threads.

use crate::instance::Instance;
use usersock::error::Error;

/// Longest value of an option and longest name.
pub(crate) const MAX_VALUE: usize = 4096;
/// Longest message.
pub(crate) const MAX_MESSAGE: usize = MAX_VALUE + 64;

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request<'a> {
    /// bind(2) to a sockaddr's bytes.
    Bind(&'a [u8]),
    /// listen(2) with this backlog.
    Listen(i32),
    /// connect(2) to a sockaddr's bytes, and whether the client's call waits; this one never does. The value is 1 if
    /// the socket is new to connecting: the client then connects to the server's `Name::Data` and fills the descriptor.
    Connect(&'a [u8], bool),
    /// getsockname(2).
    LocalAddr,
    /// getpeername(2).
    PeerAddr,
    /// setsockopt(2): level, name, value.
    SetOption(i32, i32, &'a [u8]),
    /// getsockopt(2): level, name, room.
    GetOption(i32, i32, u32),
    /// ioctl(2) that returns an int.
    Ioctl(u64),
}

/// Who asks, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call<'a> {
    /// The socket, from its name.
    pub(crate) id: u64,
    /// Its family, from its name.
    pub(crate) family: u16,
    pub(crate) request: Request<'a>,
}

impl Call<'_> {
    /// The message.
    pub(crate) fn encode(&self, instance: &Instance) -> Vec<u8> {
        let mut out = instance.secret.to_vec();
        out.extend(self.id.to_ne_bytes());
        out.extend(self.family.to_ne_bytes());
        let words = |out: &mut Vec<u8>, tag: u8, a: i32, b: i32| {
            out.push(tag);
            out.extend(a.to_ne_bytes());
            out.extend(b.to_ne_bytes());
        };
        match self.request {
            Request::Bind(addr) => {
                words(&mut out, b'b', 0, 0);
                out.extend(addr);
            }
            Request::Listen(backlog) => words(&mut out, b'l', backlog, 0),
            Request::Connect(addr, waits) => {
                words(&mut out, b'c', waits.into(), 0);
                out.extend(addr);
            }
            Request::LocalAddr => words(&mut out, b'n', 0, 0),
            Request::PeerAddr => words(&mut out, b'p', 0, 0),
            Request::SetOption(level, name, value) => {
                words(&mut out, b's', level, name);
                out.extend(value);
            }
            Request::GetOption(level, name, room) => {
                words(&mut out, b'g', level, name);
                out.extend(room.to_ne_bytes());
            }
            Request::Ioctl(request) => {
                words(&mut out, b'i', 0, 0);
                out.extend(request.to_ne_bytes());
            }
        }
        out
    }

    /// Reads a message; None if it is none of this instance's.
    pub(crate) fn decode<'a>(message: &'a [u8], instance: &Instance) -> Option<Call<'a>> {
        let (secret, rest) = message.split_at_checked(instance.secret.len())?;
        // Every byte is looked at, so that the time does not tell how many are right.
        let wrong = secret.iter().zip(&instance.secret).fold(0, |wrong, (a, b)| wrong | (a ^ b));
        if wrong != 0 {
            return None;
        }
        let (id, rest) = rest.split_first_chunk()?;
        let (family, rest) = rest.split_first_chunk()?;
        let ([tag], rest) = rest.split_first_chunk()?;
        let (a, rest) = rest.split_first_chunk()?;
        let (b, rest) = rest.split_first_chunk()?;
        let (a, b) = (i32::from_ne_bytes(*a), i32::from_ne_bytes(*b));
        let request = match tag {
            b'b' => Request::Bind(rest),
            b'l' => Request::Listen(a),
            b'c' => Request::Connect(rest, a != 0),
            b'n' => Request::LocalAddr,
            b'p' => Request::PeerAddr,
            b's' => Request::SetOption(a, b, rest),
            b'g' => Request::GetOption(a, b, u32::from_ne_bytes(rest.try_into().ok()?)),
            b'i' => Request::Ioctl(u64::from_ne_bytes(rest.try_into().ok()?)),
            _ => return None,
        };
        Some(Call { id: u64::from_ne_bytes(*id), family: u16::from_ne_bytes(*family), request })
    }
}

/// The answer: a value with bytes, or an errno.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) value: i32,
    pub(crate) bytes: Vec<u8>,
}

/// The message of an answer.
pub(crate) fn encode_answer(answer: &Result<Answer, Error>) -> Vec<u8> {
    let (errno, value, bytes) = match answer {
        Ok(a) => (0, a.value, &a.bytes[..]),
        Err(e) => (e.errno(), 0, &[][..]),
    };
    [&errno.to_ne_bytes()[..], &value.to_ne_bytes(), bytes].concat()
}

/// Reads it. ENETDOWN: there is none, the server is gone.
pub(crate) fn decode_answer(message: &[u8]) -> Result<Answer, Error> {
    let parts = message.split_first_chunk().and_then(|(e, rest)| Some((e, rest.split_first_chunk()?)));
    let (errno, (value, bytes)) = parts.ok_or(Error::NetDown)?;
    match i32::from_ne_bytes(*errno) {
        0 => Ok(Answer { value: i32::from_ne_bytes(*value), bytes: bytes.to_vec() }),
        errno => Err(Error::try_from_errno(errno).unwrap_or(Error::NetDown)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_back_and_no_other() {
        let instance = Instance::new([5; 24]);
        let requests = [
            Request::Bind(&[1, 2, 3]),
            Request::Listen(-1),
            Request::Connect(&[], false),
            Request::Connect(&[2, 0], true),
            Request::LocalAddr,
            Request::PeerAddr,
            Request::SetOption(6, 13, b"cubic"),
            Request::GetOption(6, 11, 256),
            Request::Ioctl(0x5411),
        ];
        for request in requests {
            let call = Call { id: 9, family: 2, request };
            let message = call.encode(&instance);
            assert_eq!(Call::decode(&message, &instance), Some(call));
            assert_eq!(Call::decode(&message, &Instance::new([6; 24])), None);
            for cut in 0..message.len().min(35) {
                assert_eq!(Call::decode(&message[..cut], &instance), None);
            }
        }
    }

    #[test]
    fn an_answer_is_a_value_or_an_errno() {
        for answer in [Ok(Answer { value: -1, bytes: vec![1, 2] }), Err(Error::InProgress)] {
            assert_eq!(decode_answer(&encode_answer(&answer)), answer);
        }
        assert_eq!(decode_answer(&[]), Err(Error::NetDown));
        assert_eq!(decode_answer(&[0; 7]), Err(Error::NetDown));
    }
}
