//! fork(2) and the Rust API: in the child the parent's sockets return ENETDOWN, may be dropped in any order, and close
//! nothing of the parent; the child's default stack is its own. Beside: `cases/fork*.c`, the same of the C ABI.
#![allow(unsafe_code)]

use std::io::{ErrorKind, Read, Write};
use usersock::net::{TcpListener, TcpStream, UdpSocket, default_stack};

fn pair(listener: &TcpListener) -> (TcpStream, TcpStream) {
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (near, listener.accept().unwrap().0)
}

fn exchange(near: &mut TcpStream, far: &mut TcpStream) {
    let mut b = [0; 4];
    near.write_all(b"ping").unwrap();
    far.read_exact(&mut b).unwrap();
    far.write_all(b"pong").unwrap();
    near.read_exact(&mut b).unwrap();
    assert_eq!(&b, b"pong");
}

#[test]
fn a_child_drops_what_is_its_parents_and_begins_anew() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (mut near, mut far) = pair(&listener);
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    exchange(&mut near, &mut far);
    // SAFETY: the child runs what follows and ends by _exit, without the test runner's threads.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: ends the child if it hangs.
        unsafe { libc::alarm(120) };
        let good = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let down = |r: std::io::Result<usize>| assert_eq!(r.unwrap_err().kind(), ErrorKind::NetworkDown);
            down(near.read(&mut [0]));
            down(near.write(&[0]));
            down(udp.send_to(&[0], "127.0.0.1:9"));
            down(udp.recv(&mut [0]));
            down(near.local_addr().map(|_| 0));
            down(near.peer_addr().map(|_| 0));
            down(near.ttl().map(|_| 0));
            down(near.set_ttl(3).map(|()| 0));
            down(near.shutdown(usersock::net::Shutdown::Both).map(|()| 0));
            down(listener.accept().map(|_| 0));
            drop((near, far, udp, listener));
            assert!(!default_stack().unwrap().is_inherited());
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let (mut near, mut far) = pair(&listener);
            exchange(&mut near, &mut far);
        }));
        // SAFETY: ends the child without what the parent registered for its own end.
        unsafe { libc::_exit(i32::from(good.is_err())) };
    }
    exchange(&mut near, &mut far);
    let mut status = 0;
    // SAFETY: waits for the child made above; `status` is writable.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert_eq!(status, 0);
    exchange(&mut near, &mut far);
    let (mut near, mut far) = pair(&listener);
    exchange(&mut near, &mut far);
}
