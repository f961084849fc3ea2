//! Programs that die at any moment, and programs that mean harm: the server goes on, and keeps nothing of them.

mod common;

use common::{Running, Socket};
use std::fs;
use std::io::{Read, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use usersock::internal::sock::AF_INET;
use usersock_ffi::ptr::sockaddr_bytes;
use usersock_spliced::client::{self, Connect};
use usersock_spliced::instance::Instance;
use usersock_spliced::name::Name;
use usersock_spliced::sys;

/// One test at a time: they count the process's descriptors.
static TURN: Mutex<()> = Mutex::new(());

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// That a connection can be made, and carries bytes.
fn serves(server: &Running) {
    let (c, a) = server.pair();
    (&c.file).write_all(b"still").unwrap();
    let mut bytes = [0; 5];
    (&a.file).read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"still");
}

/// What a program does until it is killed: nothing here allocates, since it runs in a child of a process with threads.
fn program(instance: &Instance, addr: &[u8]) -> ! {
    loop {
        for (step, family) in (0..6).zip([AF_INET; 6]) {
            let Ok(fd) = client::socket(instance, family, libc::SOCK_CLOEXEC) else { continue };
            let Some(what) = client::ours(instance, fd) else { continue };
            let _ = client::set_option(instance, fd, &what, libc::SOL_SOCKET, libc::SO_KEEPALIVE, &1i32.to_ne_bytes());
            if step > 1
                && let Ok(Connect::Waits) = client::connect(instance, fd, &what, addr)
                && step > 2
                && let Ok(events) = sys::wait(fd, libc::POLLOUT)
                && client::connected(instance, fd, &what, events).is_ok()
                && step > 3
            {
                let _ = sys::send(fd, &[7; 5000], 0);
            }
            if step == 1 {
                let _ = client::listen(instance, fd, &what, 4);
            }
            if step % 2 == 0 {
                // SAFETY: the descriptor is this loop's.
                unsafe { libc::close(fd) };
            }
        }
    }
}

#[test]
fn a_program_that_is_killed_leaves_nothing() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let server = Running::new();
    let (listener, addr) = server.listener();
    let name = sockaddr_bytes(addr);
    listener.file.set_nonblocking(true).unwrap();
    for round in 0..12 {
        // SAFETY: the child makes system calls, and is killed.
        let child = unsafe { libc::fork() };
        assert!(child >= 0);
        if child == 0 {
            program(&server.instance, &name);
        }
        let end = Instant::now() + Duration::from_micros(700 * (1 + round * round));
        while Instant::now() < end {
            if let Ok((fd, _)) = client::accept(&server.instance, listener.fd, libc::SOCK_CLOEXEC) {
                let mut a = Socket::of(&server, fd);
                a.file.set_nonblocking(true).unwrap();
                let _ = a.file.read(&mut [0; 100]);
            }
        }
        let mut status = 0;
        // SAFETY: the child is this test's.
        unsafe {
            libc::kill(child, libc::SIGKILL);
            libc::waitpid(child, &mut status, 0);
        }
    }
    while client::accept(&server.instance, listener.fd, libc::SOCK_CLOEXEC)
        // SAFETY: the descriptor was made by this call.
        .map(|(fd, _)| unsafe { libc::close(fd) })
        .is_ok()
    {}
    serves(&server);
    drop(listener);
    server.end(0);
}

fn line(server: &Running) -> sys::Owned {
    let fd = sys::socket(libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC).unwrap();
    sys::connect(fd.raw(), &Name::Requests.encode(&server.instance)).unwrap();
    fd
}

#[test]
fn requests_that_never_come_give_way_to_those_that_do() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let server = Running::new();
    let silent: Vec<_> = (0..3000).map(|_| line(&server)).collect();
    serves(&server);
    // The oldest were let go.
    assert_eq!(sys::recv(silent[0].raw(), &mut [0; 8], 0), Ok(0));
    drop(silent);
    serves(&server);
}

#[test]
fn requests_of_every_length_and_of_random_bytes_get_an_answer_or_none() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let server = Running::new();
    let mut random = 1u64;
    let mut next = || {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (random >> 33) as u8
    };
    // The instance's digits end in the secret.
    let digits = server.instance.to_string();
    let secret: Vec<u8> = (16..48).step_by(2).map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap()).collect();
    for tag in *b"blcnpsgixz\0" {
        for len in (0..64).chain([500, 1023, 1024, 1025, 1500, 70_000]) {
            let mut message = secret.clone();
            message.extend(u64::from(next()).to_ne_bytes());
            message.extend((if next() % 4 == 0 { u16::from(next()) } else { AF_INET }).to_ne_bytes());
            message.push(tag);
            message.extend((0..len).map(|_| next()));
            let fd = line(&server);
            sys::send(fd.raw(), &message, 0).unwrap();
            let n = sys::recv(fd.raw(), &mut [0; 4096], 0).unwrap();
            assert!(n == 0 || n >= 8, "{n} bytes");
        }
    }
    serves(&server);
}

#[test]
fn descriptors_that_are_sent_to_the_server_are_not_kept() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let server = Running::new();
    let (c, a) = server.pair();
    let before = descriptors();
    for _ in 0..50 {
        let fd = line(&server);
        sys::send_mark(fd.raw(), &[9]).unwrap();
        assert_eq!(sys::recv(fd.raw(), &mut [0; 8], 0), Ok(0));
        // A mark that stands for no option, on a connection.
        sys::send_mark(c.fd, &[200]).unwrap();
    }
    (&c.file).write_all(b"end").unwrap();
    (&a.file).read_exact(&mut [0; 3]).unwrap();
    // The server of the test before may be closing some of its own.
    let after = descriptors();
    assert!(after < before + 50, "{before}, {after}: 100 were sent");
}

#[test]
fn data_connections_of_nobody_and_a_second_one_of_somebody_are_closed() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let server = Running::new();
    let (c, a) = server.pair();
    for name in [Name::Socket { id: 77, family: AF_INET }, Name::Socket { id: 1 << 63, family: AF_INET }] {
        let fd = sys::socket(libc::SOCK_STREAM | libc::SOCK_CLOEXEC).unwrap();
        sys::bind(fd.raw(), &name.encode(&server.instance)).unwrap();
        sys::connect(fd.raw(), &Name::Data.encode(&server.instance)).unwrap();
        assert_eq!(sys::recv(fd.raw(), &mut [0; 8], 0), Ok(0));
    }
    (&c.file).write_all(b"x").unwrap();
    (&a.file).read_exact(&mut [0; 1]).unwrap();
}
