//! A server and sockets of its programs, in one process.

#![allow(dead_code, reason = "each test file uses a part")]

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{FromRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use usersock::config::Config;
use usersock::driver::EventLoop;
use usersock::error::Error;
use usersock::internal::sock::AF_INET;
use usersock_ffi::ptr::sockaddr_bytes;
use usersock_spliced::client::{self, Connect, Ours};
use usersock_spliced::instance::Instance;
use usersock_spliced::server::Server;
use usersock_spliced::sys;

/// A server in a thread of its own.
pub struct Running {
    pub instance: Instance,
    driver: Arc<EventLoop>,
    stop: Arc<AtomicBool>,
    /// How many sockets it has, each time that it is to stop; it goes on until nobody takes that.
    sockets: Mutex<Option<mpsc::Receiver<usize>>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    pub fn new() -> Running {
        Running::with(true)
    }

    /// Without `io_uring`, a request for a ring ends this process.
    pub fn with(io_uring: bool) -> Running {
        let instance = Instance::new(sys::random().unwrap());
        let driver = Arc::new(EventLoop::new().unwrap());
        let stop = Arc::new(AtomicBool::new(false));
        let (up, is_up) = mpsc::channel();
        let (tell, sockets) = mpsc::channel();
        let (d, s) = (driver.clone(), stop.clone());
        let thread = thread::spawn(move || {
            let stack = Config::parse("").unwrap().build_driven_by(d.clone()).unwrap();
            if !io_uring {
                refuse_rings();
            }
            let mut server = Server::new(stack, d, instance, io_uring).unwrap();
            up.send(()).unwrap();
            loop {
                server.run(&s).unwrap();
                s.store(false, Ordering::SeqCst);
                if tell.send(server.sockets()).is_err() {
                    break;
                }
            }
        });
        is_up.recv().unwrap();
        Running { instance, driver, stop, sockets: Mutex::new(Some(sockets)), thread: Some(thread) }
    }

    pub fn socket(&self, family: u16) -> Socket<'_> {
        let fd = client::socket(&self.instance, family, libc::SOCK_CLOEXEC).unwrap();
        Socket::of(self, fd)
    }

    /// A listener at a free port of the loopback.
    pub fn listener(&self) -> (Socket<'_>, SocketAddr) {
        let s = self.socket(AF_INET);
        s.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        s.listen(16).unwrap();
        let addr = s.local_addr();
        (s, addr)
    }

    pub fn pair(&self) -> (Socket<'_>, Socket<'_>) {
        let (listener, addr) = self.listener();
        let c = self.socket(AF_INET);
        c.connect(addr).unwrap();
        let (a, peer) = listener.accept();
        assert_eq!(peer, c.local_addr());
        (c, a)
    }

    /// Ends it when it has `most` sockets or fewer: it may take some time to learn that programs have ended.
    pub fn end(mut self, most: usize) {
        let stop = || {
            self.stop.store(true, Ordering::SeqCst);
            self.driver.wake();
        };
        let sockets = self.sockets.lock().unwrap().take().unwrap();
        let mut left = usize::MAX;
        for _ in 0..6000 {
            stop();
            left = sockets.recv().unwrap();
            if left <= most {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        assert!(left <= most, "{left} sockets are left");
        drop(sockets);
        stop();
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.driver.wake();
    }
}

/// From now on io_uring_setup(2) in this thread ends the process, as under a filter that kills.
fn refuse_rings() {
    let code = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut filter = [
        // The number of the system call.
        code(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, libc::SYS_io_uring_setup as u32),
        code(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
        code(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: numbers, and a program of this frame, which the kernel copies.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program), 0);
    }
}

/// A descriptor as a program has it.
pub struct Socket<'a> {
    pub server: &'a Running,
    pub what: Ours,
    /// Reads, writes and closes as the program does.
    pub file: UnixStream,
    pub fd: RawFd,
}

impl<'a> Socket<'a> {
    pub fn of(server: &'a Running, fd: RawFd) -> Socket<'a> {
        let what = client::ours(&server.instance, fd).expect("a socket of ours");
        // SAFETY: the descriptor was made for this value.
        let file = unsafe { UnixStream::from_raw_fd(fd) };
        Socket { server, what, file, fd }
    }
    pub fn bind(&self, addr: SocketAddr) -> Result<(), Error> {
        client::bind(&self.server.instance, &self.what, &sockaddr_bytes(addr))
    }
    pub fn listen(&self, backlog: i32) -> Result<(), Error> {
        client::listen(&self.server.instance, self.fd, &self.what, backlog)
    }
    pub fn connect(&self, addr: SocketAddr) -> Result<(), Error> {
        let instance = &self.server.instance;
        match client::connect(instance, self.fd, &self.what, &sockaddr_bytes(addr))? {
            Connect::Done => Ok(()),
            Connect::Waits => {
                let events = sys::wait(self.fd, libc::POLLOUT)?;
                client::connected(instance, self.fd, &self.what, events)
            }
        }
    }
    pub fn accept(&self) -> (Socket<'a>, SocketAddr) {
        let (fd, peer) = client::accept(&self.server.instance, self.fd, libc::SOCK_CLOEXEC).unwrap();
        (Socket::of(self.server, fd), peer)
    }
    pub fn local_addr(&self) -> SocketAddr {
        client::local_addr(&self.server.instance, self.fd, &self.what).unwrap()
    }
    pub fn peer_addr(&self) -> Result<SocketAddr, Error> {
        client::peer_addr(&self.server.instance, self.fd, &self.what)
    }
    pub fn set(&self, level: i32, name: i32, value: i32) -> Result<(), Error> {
        client::set_option(&self.server.instance, self.fd, &self.what, level, name, &value.to_ne_bytes())
    }
    pub fn get(&self, level: i32, name: i32) -> Result<i32, Error> {
        let read = |bytes: &[u8]| Ok(i32::from_ne_bytes(bytes.try_into().unwrap()));
        client::option(&self.server.instance, self.fd, &self.what, (level, name), 4, &[], read)
    }
    pub fn so_error(&self) -> Option<Error> {
        Error::try_from_errno(self.get(libc::SOL_SOCKET, libc::SO_ERROR).unwrap())
    }
    pub fn poll(&self) -> i16 {
        sys::wait(self.fd, libc::POLLIN | libc::POLLOUT | libc::POLLRDHUP).unwrap()
    }
    pub fn read_to_end(&self) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        (&self.file).read_to_end(&mut bytes).map(|_| bytes)
    }
}
