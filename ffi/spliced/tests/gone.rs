//! accept without a server. Alone in its process, whose accepts share what they know of the server.

use usersock::error::Error;
use usersock_spliced::client;
use usersock_spliced::instance::Instance;
use usersock_spliced::name::Name;
use usersock_spliced::sys;

#[test]
fn an_accept_that_was_woken_without_a_server_asks_before_it_waits_again() {
    let instance = Instance::new(sys::random().unwrap());
    let fd = client::socket(&instance, libc::AF_INET as u16, libc::SOCK_CLOEXEC).unwrap();
    sys::listen(fd, 4).unwrap();
    let name = sys::local_name(fd, |name| Name::decode(name, &instance)).unwrap().unwrap();
    let wake = || {
        let other = sys::socket(libc::SOCK_STREAM | libc::SOCK_CLOEXEC).unwrap();
        sys::connect(other.raw(), &name.encode(&instance)).unwrap();
    };
    let accept = || client::accept(&instance, fd, libc::SOCK_CLOEXEC).unwrap_err();
    assert_eq!(client::may_wait(&instance, fd), Ok(()), "nothing is known yet");
    wake();
    assert_eq!((accept(), accept()), (Error::NetDown, Error::NetDown));
    wake();
    assert_eq!(client::may_wait(&instance, fd), Ok(()), "what is in the queue comes first");
    assert_eq!((accept(), accept()), (Error::NetDown, Error::NetDown));

    let requests = sys::socket(libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC).unwrap();
    sys::bind(requests.raw(), &Name::Requests.encode(&instance)).unwrap();
    sys::listen(requests.raw(), 4).unwrap();
    assert_eq!(client::may_wait(&instance, fd), Ok(()), "a server is back");
    wake();
    assert_eq!(accept(), Error::ConnAborted, "a stranger's");
}
