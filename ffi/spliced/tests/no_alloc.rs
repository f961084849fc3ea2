//! The calls of a program allocate nothing: a signal handler may make them, which has interrupted malloc, and a child
//! of vfork, which shares its parent's memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::Ipv4Addr;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{mem, thread};
use usersock::config::Config;
use usersock::driver::EventLoop;
use usersock::internal::sock::AF_INET;
use usersock_ffi::ptr::sockaddr_bytes;
use usersock_spliced::client::{self, Connect};
use usersock_spliced::instance::Instance;
use usersock_spliced::server::Server;
use usersock_spliced::sys;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

fn count() {
    let _ = COUNT.try_with(|c| c.set(c.get() + 1));
}

// SAFETY: all is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count();
        // SAFETY: passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Runs `f`, and says how often this thread has asked the allocator for something meanwhile.
fn allocations<T>(f: impl FnOnce() -> T) -> (T, usize) {
    let before = COUNT.get();
    let r = f();
    (r, COUNT.get() - before)
}

#[test]
fn no_call_of_a_program_allocates() {
    let instance = Instance::new(sys::random().unwrap());
    let driver = Arc::new(EventLoop::new().unwrap());
    let stop = Arc::new(AtomicBool::new(false));
    let (d, s) = (driver.clone(), stop.clone());
    let (up, is_up) = std::sync::mpsc::channel();
    let server = thread::spawn(move || {
        let stack = Config::parse("").unwrap().build_driven_by(d.clone()).unwrap();
        let mut server = Server::new(stack, d, instance, true).unwrap();
        up.send(()).unwrap();
        server.run(&s).unwrap();
    });
    is_up.recv().unwrap();

    let any = sockaddr_bytes((Ipv4Addr::LOCALHOST, 0).into());
    let (fds, n) = allocations(|| calls(&instance, &any));
    assert_eq!(n, 0);
    // That the counter counts.
    let (_, n) = allocations(|| drop(sockaddr_bytes((Ipv4Addr::LOCALHOST, 0).into())));
    assert_eq!(n, 2);

    for fd in fds {
        // SAFETY: the descriptor is this test's.
        unsafe { libc::close(fd) };
    }
    stop.store(true, Ordering::SeqCst);
    driver.wake();
    server.join().unwrap();
}

/// Every call that the shim makes, without one that allocates of its own.
fn calls(instance: &Instance, any: &[u8]) -> [RawFd; 3] {
    let listener = client::socket(instance, AF_INET, libc::SOCK_CLOEXEC).unwrap();
    let what = client::ours(instance, listener).unwrap();
    client::bind(instance, &what, any).unwrap();
    client::listen(instance, listener, &what, 16).unwrap();
    let addr = client::local_addr(instance, listener, &what).unwrap();
    let mut name: libc::sockaddr_in = {
        // SAFETY: an all-zero sockaddr_in is one.
        unsafe { mem::zeroed() }
    };
    (name.sin_family, name.sin_port) = (AF_INET, addr.port().to_be());
    name.sin_addr.s_addr = u32::from(Ipv4Addr::LOCALHOST).to_be();
    // SAFETY: the bytes of a plain struct.
    let name = unsafe { std::slice::from_raw_parts((&raw const name).cast::<u8>(), size_of::<libc::sockaddr_in>()) };

    let c = client::socket(instance, AF_INET, libc::SOCK_CLOEXEC).unwrap();
    let what = client::ours(instance, c).unwrap();
    assert!(client::bind(instance, &what, &[0; 200]).is_err(), "an error");
    assert_eq!(client::connect(instance, c, &what, name), Ok(Connect::Waits));
    let events = sys::wait(c, libc::POLLOUT).unwrap();
    client::connected(instance, c, &what, events).unwrap();
    client::peer_addr(instance, c, &what).unwrap();
    client::set_option(instance, c, &what, libc::IPPROTO_TCP, libc::TCP_NODELAY, &1i32.to_ne_bytes()).unwrap();
    for (level, option) in [(libc::SOL_SOCKET, libc::SO_ERROR), (libc::IPPROTO_TCP, libc::TCP_INFO)] {
        let len = client::option(instance, c, &what, (level, option), 300, &[], |bytes| Ok(bytes.len())).unwrap();
        assert!(len >= 4);
    }
    client::ioctl(instance, &what, libc::TIOCOUTQ).unwrap();

    let (a, _) = client::accept(instance, listener, libc::SOCK_CLOEXEC).unwrap();
    let what = client::ours(instance, a).unwrap();
    client::set_option(instance, a, &what, libc::IPPROTO_TCP, libc::TCP_CORK, &1i32.to_ne_bytes()).unwrap();
    client::local_addr(instance, a, &what).unwrap();
    client::peer_addr(instance, a, &what).unwrap();
    [listener, c, a]
}
