//! The server's own listeners: programs that ask, each by a connection (a line) of its own, and what they do where
//! descriptors are scarce. Above: the loop. Below: `requests`.

use super::{DATA, LINE, MAX_LINES, REQUESTS, Server};
use crate::rpc::{Call, MAX_MESSAGE, MAX_VALUE, encode_answer};
use crate::sys::{self, Owned};
use std::os::fd::RawFd;
use usersock::error::Error;

impl Server {
    pub(super) fn watch_listeners(&self, events: u32) {
        let _ = self.epoll.modify(self.requests.raw(), events, REQUESTS);
        let _ = self.epoll.modify(self.data.raw(), events, DATA);
    }

    /// Takes a connection of one of the server's own listeners. Where there are no descriptors left, programs wait in
    /// the kernel until there are, and the loop does not run in circles.
    pub(super) fn take(&mut self, listener: RawFd) -> Option<Owned> {
        match sys::accept(listener, libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) {
            Ok(end) => Some(end),
            Err(Error::MFile | Error::NFile | Error::NoMem | Error::NoBufs) => {
                self.watch_listeners(0);
                self.paused = true;
                self.retry_later();
                None
            }
            Err(_) => None,
        }
    }

    /// Takes connections of requests, and answers those whose message is there.
    pub(super) fn accept_lines(&mut self) {
        while let Some(line) = self.take(self.requests.raw()) {
            let fd = line.raw();
            // The kernel gives the lowest number that is free.
            self.newest = Some(fd);
            let waits = self.answer(fd);
            self.newest = None;
            if waits && self.epoll.add(fd, libc::EPOLLIN as u32, LINE | fd as u64).is_ok() {
                self.lines.push_back(line);
            }
            if self.lines.len() > MAX_LINES {
                // Whoever says nothing gives way to those who do.
                self.lines.pop_front();
            }
        }
    }

    /// Whether the descriptors that are left are not for connections: none can be begun.
    pub(super) fn is_scarce(&self) -> bool {
        match self.newest {
            Some(fd) => fd >= self.reserved,
            None => sys::socket(libc::SOCK_STREAM | libc::SOCK_CLOEXEC).map_or(true, |fd| fd.raw() >= self.reserved),
        }
    }

    /// A connection has its message now, or has ended.
    pub(super) fn answer_line(&mut self, fd: RawFd) {
        if !self.answer(fd)
            && let Some(at) = self.lines.iter().position(|line| line.raw() == fd)
        {
            self.lines.remove(at);
        }
    }

    /// Answers a request, if its message is there. Whether it has still to come.
    pub(super) fn answer(&mut self, fd: RawFd) -> bool {
        let mut message = [0; MAX_MESSAGE];
        match sys::recv(fd, &mut message, libc::MSG_DONTWAIT) {
            Err(Error::Again) => return true,
            Err(_) => {}
            Ok(n) => {
                // What is no request of this instance's gets no answer.
                if let Some(call) = Call::decode(&message[..n], &self.instance.clone()) {
                    let mut room = [0; MAX_VALUE];
                    let answer = encode_answer(&self.request(&call, &mut room));
                    let _ = sys::send(fd, answer.bytes(), libc::MSG_DONTWAIT);
                }
            }
        }
        false
    }
}
