//! accept without a server. Alone in its process, whose accepts share what they have said of it.

use std::thread;
use usersock::error::Error;
use usersock_spliced::client;
use usersock_spliced::instance::Instance;
use usersock_spliced::name::Name;
use usersock_spliced::sys;

#[test]
fn everybody_who_waits_for_a_connection_hears_that_the_server_has_ended() {
    let instance = Instance::new(sys::random().unwrap());
    let listener = || {
        let fd = client::socket(&instance, libc::AF_INET as u16, libc::SOCK_CLOEXEC).unwrap();
        sys::listen(fd, 4).unwrap();
        fd
    };
    let wake = |fd| {
        let name = sys::local_name(fd, |name| Name::decode(name, &instance)).unwrap().unwrap();
        let other = sys::socket(libc::SOCK_STREAM | libc::SOCK_CLOEXEC).unwrap();
        sys::connect(other.raw(), &name.encode(&instance))
    };
    let accept = |fd| client::accept(&instance, fd, libc::SOCK_CLOEXEC).unwrap_err();

    let requests = sys::socket(libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC).unwrap();
    sys::bind(requests.raw(), &Name::Requests.encode(&instance)).unwrap();
    sys::listen(requests.raw(), 4).unwrap();
    let (ours, shut) = (listener(), listener());
    wake(ours).unwrap();
    assert_eq!(accept(ours), Error::ConnAborted, "a stranger's");
    sys::shutdown(shut, libc::SHUT_RDWR).unwrap();
    assert_eq!(accept(shut), Error::Inval, "by the program");
    let again = || client::not_accepted(&instance, shut, Error::Again);
    assert_eq!(again(), Error::Inval, "and who does not wait");
    assert_eq!(client::not_accepted(&instance, ours, Error::Again), Error::Again);
    drop(requests);

    thread::scope(|s| {
        let waiters: Vec<_> = (0..5).map(|_| s.spawn(|| accept(ours))).collect();
        // Some may come later: they find it as those find it who wait.
        wake(ours).unwrap();
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), Error::NetDown);
        }
    });
    assert_eq!(sys::wait(ours, libc::POLLIN).unwrap() & libc::POLLIN, libc::POLLIN, "and stays so");
    assert_eq!(again(), Error::NetDown);
    assert_eq!((accept(ours), wake(ours)), (Error::NetDown, Err(Error::ConnRefused)));
}

#[test]
fn connections_that_a_server_left_in_the_queue_come_first() {
    let instance = Instance::new(sys::random().unwrap());
    let fd = client::socket(&instance, libc::AF_INET as u16, libc::SOCK_CLOEXEC).unwrap();
    sys::listen(fd, 4).unwrap();
    let name = sys::local_name(fd, |name| Name::decode(name, &instance)).unwrap().unwrap();
    let (local, peer) = (([10, 0, 0, 2], 80).into(), ([10, 0, 0, 1], 4000).into());
    for id in 0..2 {
        let end = sys::socket(libc::SOCK_STREAM | libc::SOCK_CLOEXEC).unwrap();
        let of_server = Name::Accepted { id: 1 << 63 | id, family: libc::AF_INET as u16, local, peer };
        sys::bind(end.raw(), &of_server.encode(&instance)).unwrap();
        sys::connect(end.raw(), &name.encode(&instance)).unwrap();
    }
    for _ in 0..2 {
        assert_eq!(client::accept(&instance, fd, libc::SOCK_CLOEXEC).map(|(_, peer)| peer), Ok(peer));
    }
    // Nobody has to say it.
    assert_eq!(client::accept(&instance, fd, libc::SOCK_CLOEXEC), Err(Error::NetDown));
}

/// The kernel knows of no error where a server ends before the program has sent anything.
#[test]
fn a_connect_that_waits_hears_that_the_server_has_ended() {
    let instance = Instance::new(sys::random().unwrap());
    let server = |ty, name: Name| {
        let fd = sys::socket(ty | libc::SOCK_CLOEXEC).unwrap();
        sys::bind(fd.raw(), &name.encode(&instance)).unwrap();
        sys::listen(fd.raw(), 4).unwrap();
        fd
    };
    let (requests, data) = (server(libc::SOCK_SEQPACKET, Name::Requests), server(libc::SOCK_STREAM, Name::Data));
    let fd = client::socket(&instance, libc::AF_INET as u16, libc::SOCK_CLOEXEC).unwrap();
    let ours = client::ours(&instance, fd).unwrap();
    sys::connect(fd, &Name::Data.encode(&instance)).unwrap();
    drop(sys::accept(data.raw(), libc::SOCK_CLOEXEC).unwrap());
    let events = sys::wait(fd, libc::POLLOUT).unwrap();
    assert_eq!((events & libc::POLLHUP, sys::option(fd, libc::SO_ERROR)), (libc::POLLHUP, Ok(0)));
    drop((requests, data));
    assert_eq!(client::connected(&instance, fd, &ours, events), Err(Error::NetDown));
}
