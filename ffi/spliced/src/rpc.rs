//! Requests of clients, and their answers: each is one message of a SOCK_SEQPACKET connection, which is made for one
//! request. So they need no state, no lock, and no thought for fork, signals or threads. A client allocates nothing: a
//! signal may have interrupted malloc, and a child of vfork shares its parent's memory.

use crate::instance::Instance;
use usersock::error::Error;

/// Longest value of an option and longest name. No option of TCP is as long; messages are on the stacks of programs,
/// which are small where signals are handled.
pub const MAX_VALUE: usize = 1024;
/// Longest message.
pub(crate) const MAX_MESSAGE: usize = MAX_VALUE + 64;

/// Values of connect's answer.
pub(crate) const NEW: i32 = 1;
pub(crate) const AGAIN: i32 = 2;

/// A message in the making.
pub(crate) struct Message {
    bytes: [u8; MAX_MESSAGE],
    len: usize,
}

impl Message {
    pub(crate) fn new() -> Message {
        Message { bytes: [0; MAX_MESSAGE], len: 0 }
    }

    /// As much as there is room for, which is all of what clients send.
    fn put(&mut self, bytes: &[u8]) {
        let n = bytes.len().min(MAX_MESSAGE - self.len);
        self.bytes[self.len..self.len + n].copy_from_slice(&bytes[..n]);
        self.len += n;
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The memory, for an answer.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request<'a> {
    /// bind(2) to a sockaddr's bytes.
    Bind(&'a [u8]),
    /// listen(2) with this backlog, and whether the descriptor has a peer. If it has, nothing is done yet: the value is
    /// [`AGAIN`] if that is of an attempt that failed, and the client asks again with another AF_UNIX socket.
    Listen(i32, bool),
    /// connect(2) to a sockaddr's bytes; whether the client's call waits, while this one never does; and whether the
    /// descriptor has a peer. The value is [`NEW`] if the socket is new to connecting: the client then connects to the
    /// server's `Name::Data` and fills the descriptor; [`AGAIN`] if an attempt has failed before: an AF_UNIX socket
    /// connects once, so the client does it with another. Of AF_UNSPEC it is [`AGAIN`] if the descriptor is of a
    /// connection that the server has forgotten.
    Connect(&'a [u8], bool, bool),
    /// getsockname(2).
    LocalAddr,
    /// getpeername(2).
    PeerAddr,
    /// setsockopt(2): level, name, value.
    SetOption(i32, i32, &'a [u8]),
    /// getsockopt(2): level, name, room, and what the program asks by the value.
    GetOption(i32, i32, u32, &'a [u8]),
    /// shutdown(2) of a listener, or of an attempt to connect.
    Shutdown,
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
    pub(crate) fn encode(&self, instance: &Instance) -> Message {
        let (tag, a, b, number, bytes): (u8, i32, i32, &[u8], &[u8]) = match self.request {
            Request::Bind(addr) => (b'b', 0, 0, &[], addr),
            Request::Listen(backlog, has_peer) => (b'l', backlog, has_peer.into(), &[], &[]),
            Request::Connect(addr, waits, has_peer) => (b'c', waits.into(), has_peer.into(), &[], addr),
            Request::LocalAddr => (b'n', 0, 0, &[], &[]),
            Request::PeerAddr => (b'p', 0, 0, &[], &[]),
            Request::SetOption(level, name, value) => (b's', level, name, &[], value),
            Request::GetOption(level, name, room, asked) => (b'g', level, name, &room.to_ne_bytes(), asked),
            Request::Shutdown => (b'h', 0, 0, &[], &[]),
            Request::Ioctl(request) => (b'i', 0, 0, &request.to_ne_bytes(), &[]),
        };
        let mut out = Message::new();
        out.put(&instance.secret);
        out.put(&self.id.to_ne_bytes());
        out.put(&self.family.to_ne_bytes());
        out.put(&[tag]);
        out.put(&a.to_ne_bytes());
        out.put(&b.to_ne_bytes());
        out.put(number);
        out.put(bytes);
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
            b'l' => Request::Listen(a, b != 0),
            b'c' => Request::Connect(rest, a != 0, b != 0),
            b'n' => Request::LocalAddr,
            b'p' => Request::PeerAddr,
            b's' => Request::SetOption(a, b, rest),
            b'g' => {
                let (room, asked) = rest.split_first_chunk()?;
                Request::GetOption(a, b, u32::from_ne_bytes(*room), asked)
            }
            b'h' => Request::Shutdown,
            b'i' => Request::Ioctl(u64::from_ne_bytes(rest.try_into().ok()?)),
            _ => return None,
        };
        Some(Call { id: u64::from_ne_bytes(*id), family: u16::from_ne_bytes(*family), request })
    }
}

/// The answer: a value with bytes, or an errno.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer<'a> {
    pub(crate) value: i32,
    pub(crate) bytes: &'a [u8],
}

/// The message of an answer.
pub(crate) fn encode_answer(answer: &Result<Answer<'_>, Error>) -> Message {
    let (errno, value, bytes) = match answer {
        Ok(a) => (0, a.value, a.bytes),
        Err(e) => (e.errno(), 0, &[][..]),
    };
    let mut out = Message::new();
    out.put(&errno.to_ne_bytes());
    out.put(&value.to_ne_bytes());
    out.put(bytes);
    out
}

/// Reads it. ENETDOWN: there is none, the server is gone.
pub(crate) fn decode_answer(message: &[u8]) -> Result<Answer<'_>, Error> {
    let parts = message.split_first_chunk().and_then(|(e, rest)| Some((e, rest.split_first_chunk()?)));
    let (errno, (value, bytes)) = parts.ok_or(Error::NetDown)?;
    match i32::from_ne_bytes(*errno) {
        0 => Ok(Answer { value: i32::from_ne_bytes(*value), bytes }),
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
            Request::Listen(-1, false),
            Request::Listen(5, true),
            Request::Connect(&[], false, true),
            Request::Connect(&[2, 0], true, false),
            Request::LocalAddr,
            Request::PeerAddr,
            Request::SetOption(6, 13, b"cubic"),
            Request::GetOption(6, 11, 256, &[]),
            Request::GetOption(41, 32, 32, &[7; 32]),
            Request::Shutdown,
            Request::Ioctl(0x5411),
        ];
        for request in requests {
            let call = Call { id: 9, family: 2, request };
            let message = call.encode(&instance);
            let message = message.bytes();
            assert_eq!(Call::decode(message, &instance), Some(call));
            assert_eq!(Call::decode(message, &Instance::new([6; 24])), None);
            for cut in 0..message.len().min(35) {
                assert_eq!(Call::decode(&message[..cut], &instance), None);
            }
        }
    }

    #[test]
    fn an_answer_is_a_value_or_an_errno() {
        for answer in [Ok(Answer { value: -1, bytes: &[1, 2] }), Err(Error::InProgress)] {
            assert_eq!(decode_answer(encode_answer(&answer).bytes()), answer);
        }
        assert_eq!(decode_answer(&[]), Err(Error::NetDown));
        assert_eq!(decode_answer(&[0; 7]), Err(Error::NetDown));
    }
}
