//! A [`Stack`] as the thing under test: a device in memory, a clock that the script moves, and one thread for calls
//! that may block. Above: `run`. Below: the socket layer and `Stack::poll`.
//!
//! Only one thread ever runs: a call that may block is made by the worker, and the player waits until it has returned
//! or sleeps (`Turn`). So a run is the same each time, though calls block as they do in real time.
use crate::ast::Micros;
use crate::epoll::Epoll;
use crate::setup::Setup;
use crate::under_test::{Call, CallId, ControlMessage, Fd, Outcome, Reply, UnderTest};
use std::collections::{HashMap, VecDeque};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::{JoinHandle, ThreadId};
use std::time::Duration;
use usersock::device::{Caps, DevStats, Device, Xmit};
use usersock::env::{Clock, Instant, SeededEntropy, VirtualClock};
use usersock::error::{Error, Result};
use usersock::internal::sys::lock::{Condvar, Mutex};
use usersock::ip;
use usersock::ip::route::RouteSpec;
use usersock::net::Socket;
use usersock::sock::msg::{Control, RecvMsg, SendMsg};
use usersock::sock::skb::Skb;
use usersock::sock::wait::Events;
use usersock::stack::runner::{PollFd, Runner, Waiter, Woken};
use usersock::stack::{Stack, StackConfig};
use usersock::standard;
use usersock::wire::addr::Cidr;

/// The stack's time when a script starts: a machine that has been up for a while, so that no clock reads zero.
const EPOCH: Instant = Instant::from_secs(1000);
/// First descriptor given; none that a script would write by accident.
const FIRST_FD: Fd = 1000;

/// The device: packets that the script lets arrive, and those that left. One packet at a time, without offloads, so
/// that packets are as on a wire.
#[derive(Debug)]
struct Wire {
    mtu: u32,
    arriving: Mutex<VecDeque<Vec<u8>>>,
    left: Mutex<VecDeque<(Instant, Vec<u8>)>>,
    stats: Mutex<DevStats>,
}

impl Device for Wire {
    fn name(&self) -> &str {
        "tun0"
    }

    fn caps(&self) -> Caps {
        Caps::ip(self.mtu)
    }

    fn recv(&self, _: u16, now: Instant, budget: usize, sink: &mut dyn FnMut(Skb)) -> io::Result<usize> {
        let mut count = 0;
        while count < budget {
            let Some(packet) = self.arriving.lock().pop_front() else { break };
            let mut stats = self.stats.lock();
            (stats.rx_packets, stats.rx_bytes) = (stats.rx_packets + 1, stats.rx_bytes + packet.len() as u64);
            drop(stats);
            let mut skb = Skb::from_slice(&packet);
            skb.tstamp = now;
            sink(skb);
            count += 1;
        }
        Ok(count)
    }

    fn xmit(&self, _: u16, now: Instant, skb: Skb) -> Xmit {
        let packet = skb.to_vec();
        let mut stats = self.stats.lock();
        (stats.tx_packets, stats.tx_bytes) = (stats.tx_packets + 1, stats.tx_bytes + packet.len() as u64);
        self.left.lock().push_back((now, packet));
        Xmit::Sent
    }

    fn has_pending(&self, _: u16) -> bool {
        !self.arriving.lock().is_empty()
    }

    fn stats(&self) -> DevStats {
        *self.stats.lock()
    }
}

/// Whose turn it is: the player's, or the worker's.
#[derive(Default)]
struct Turn {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    worker: Option<ThreadId>,
    /// A call is being made.
    busy: bool,
    /// It sleeps, until it is woken or the moment has come.
    asleep: Option<(Arc<Waiter>, Option<Instant>)>,
    outcome: Option<Outcome>,
    /// The player is gone: no call sleeps any more.
    quit: bool,
}

impl Turn {
    /// Lets the worker run until it sleeps or has nothing to do.
    fn settle(&self, now: Instant) {
        let mut state = self.state.lock();
        while state.busy {
            if let Some((waiter, deadline)) = &state.asleep {
                if !waiter.is_woken() && deadline.is_none_or(|deadline| deadline > now) {
                    return;
                }
                state.asleep = None;
                self.changed.notify_all();
            }
            state = self.changed.wait(state);
        }
    }
}

/// How threads of the stack wait: the worker gives the turn back; nobody else may wait.
struct Turns(Arc<Turn>);

impl Runner for Turns {
    fn block(&self, stack: &Arc<Stack>, waiter: &Arc<Waiter>, deadline: Option<Instant>, _: &mut [PollFd]) -> Woken {
        let mut state = self.0.state.lock();
        loop {
            if waiter.take() {
                return Woken::Event;
            }
            if deadline.is_some_and(|deadline| deadline <= stack.now()) {
                return Woken::TimedOut;
            }
            if state.quit || state.worker != Some(std::thread::current().id()) {
                return Woken::Interrupted;
            }
            state.asleep = Some((waiter.clone(), deadline));
            self.0.changed.notify_all();
            while state.asleep.is_some() && !state.quit {
                state = self.0.changed.wait(state);
            }
        }
    }

    fn kick(&self, _: &Arc<Stack>) {}
}

/// What a descriptor stands for.
#[derive(Clone)]
pub(crate) enum File {
    Socket(Arc<Socket>),
    Epoll(Arc<Epoll>),
}

/// What a call works on; shared by the player's thread and the worker.
struct Kernel {
    stack: Arc<Stack>,
    files: Mutex<(HashMap<Fd, File>, Fd)>,
}

/// A stack with a script's device.
pub struct OnStack {
    kernel: Arc<Kernel>,
    clock: Arc<VirtualClock>,
    wire: Arc<Wire>,
    turn: Arc<Turn>,
    jobs: Option<Sender<Call>>,
    worker: Option<JoinHandle<()>>,
    outcomes: HashMap<CallId, Outcome>,
    /// The call that the worker makes.
    blocking: Option<CallId>,
    calls: u64,
}

fn instant(micros: Micros) -> Instant {
    EPOCH + Duration::from_micros(micros.max(0) as u64)
}

impl OnStack {
    /// A fresh stack with the addresses and the MTU of `setup`. The other side is on the link, or behind the gateway
    /// that `setup` names. `seed` is the seed of its random numbers.
    pub fn new(setup: &Setup, seed: u64) -> Result<OnStack> {
        let clock = Arc::new(VirtualClock::new());
        clock.set(EPOCH);
        let turn = Arc::new(Turn::default());
        let stack = standard::stack(StackConfig::new(
            clock.clone(),
            Arc::new(SeededEntropy::new(seed)),
            Arc::new(Turns(turn.clone())),
        ))?;
        let wire = Arc::new(Wire {
            mtu: setup.mtu,
            arriving: Mutex::default(),
            left: Mutex::default(),
            stats: Mutex::default(),
        });
        let device = stack.add_device(wire.clone())?;
        // The longest prefix that holds both ends of the link.
        let neighbour = setup.gateway.unwrap_or(setup.remote);
        let (common, longest) = match (setup.local, neighbour) {
            (IpAddr::V4(a), IpAddr::V4(b)) => ((a.to_bits() ^ b.to_bits()).leading_zeros(), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => ((a.to_bits() ^ b.to_bits()).leading_zeros(), 128),
            _ => return Err(Error::Inval),
        };
        ip::route::add_address(&stack, &device, Cidr::new(setup.local, common as u8).ok_or(Error::Inval)?)?;
        if let Some(gateway) = setup.gateway {
            let remote = Cidr::new(setup.remote, longest).ok_or(Error::Inval)?;
            ip::route::add_route(&stack, RouteSpec::new(remote).via(gateway))?;
        }
        let kernel = Arc::new(Kernel { stack, files: Mutex::new((HashMap::new(), FIRST_FD)) });
        let (jobs, inbox) = channel::<Call>();
        let worker = {
            let (kernel, turn) = (kernel.clone(), turn.clone());
            std::thread::Builder::new().name("script calls".into()).spawn(move || {
                for call in inbox {
                    turn.state.lock().worker = Some(std::thread::current().id());
                    // A panic is the call's failure, with its message on stderr; the player must get its turn back.
                    let made = catch_unwind(AssertUnwindSafe(|| kernel.perform(call)));
                    let outcome = made.unwrap_or(Err(libc::EIO));
                    let mut state = turn.state.lock();
                    (state.outcome, state.busy) = (Some(outcome), false);
                    turn.changed.notify_all();
                }
            })
        };
        let worker = worker.map_err(|_| Error::Again)?;
        Ok(OnStack {
            kernel,
            clock,
            wire,
            turn,
            jobs: Some(jobs),
            worker: Some(worker),
            outcomes: HashMap::new(),
            blocking: None,
            calls: 0,
        })
    }

    /// The stack.
    pub fn stack(&self) -> &Arc<Stack> {
        &self.kernel.stack
    }

    /// Softirq and the worker, until neither has anything to do now.
    fn work(&mut self) {
        loop {
            let now = self.clock.now();
            let any = self.kernel.stack.poll(now);
            self.settle();
            if !any && !self.kernel.stack.netdevs.any_pending() {
                return;
            }
        }
    }

    fn settle(&mut self) {
        self.turn.settle(self.clock.now());
        if let Some(id) = self.blocking
            && let Some(outcome) = self.turn.state.lock().outcome.take()
        {
            self.outcomes.insert(id, outcome);
            self.blocking = None;
        }
    }
}

impl UnderTest for OnStack {
    fn now(&self) -> Micros {
        (self.clock.now() - EPOCH).as_micros() as Micros
    }

    fn advance(&mut self, limit: Micros) {
        let now = self.clock.now();
        let asleep_until = self.turn.state.lock().asleep.as_ref().and_then(|(_, deadline)| *deadline);
        let next = [self.kernel.stack.next_event(), asleep_until].into_iter().flatten().min();
        let limit = instant(limit);
        self.clock.set(next.map_or(limit, |next| next.clamp(now, limit.max(now))));
        self.work();
    }

    fn inject(&mut self, packet: &[u8]) {
        self.wire.arriving.lock().push_back(packet.to_vec());
        self.work();
    }

    fn next_packet(&mut self) -> Option<(Micros, Vec<u8>)> {
        let (at, packet) = self.wire.left.lock().pop_front()?;
        Some(((at - EPOCH).as_micros() as Micros, packet))
    }

    fn start(&mut self, call: Call) -> CallId {
        self.calls += 1;
        let id = CallId(self.calls);
        let may_block = match &call {
            Call::Accept(..) | Call::Connect(..) | Call::Send { .. } | Call::Receive { .. } | Call::Close(_) => true,
            Call::Poll { timeout, .. } | Call::EpollWait(_, _, timeout) => *timeout != 0,
            _ => false,
        };
        match &self.jobs {
            Some(jobs) if may_block && self.blocking.is_none() => {
                self.turn.state.lock().busy = true;
                self.blocking = Some(id);
                if jobs.send(call).is_err() {
                    // The worker has ended, which should not happen while its inbox is open.
                    self.turn.state.lock().busy = false;
                    self.blocking = None;
                    self.outcomes.insert(id, Err(libc::EIO));
                }
            }
            _ => {
                let outcome = self.kernel.perform(call);
                self.outcomes.insert(id, outcome);
            }
        }
        self.settle();
        self.work();
        id
    }

    fn finished(&mut self, id: CallId) -> Option<Outcome> {
        self.outcomes.remove(&id)
    }

    fn sysctl(&mut self, name: &str, value: &str) -> std::result::Result<(), String> {
        self.kernel.stack.sysctl.set(name, value).map_err(|error| error.name().to_owned())
    }
}

impl Drop for OnStack {
    fn drop(&mut self) {
        self.jobs = None;
        {
            let mut state = self.turn.state.lock();
            state.quit = true;
            self.turn.changed.notify_all();
        }
        if let Some(worker) = self.worker.take() {
            // The worker ends: no call sleeps any more, and the inbox is closed. A panic in it was reported as the
            // call's failure.
            let _ = worker.join();
        }
        self.kernel.files.lock().0.clear();
    }
}

fn number(result: Result<()>) -> Outcome {
    match result {
        Ok(()) => Ok((0, Reply::None)),
        Err(error) => Err(error.errno()),
    }
}

impl Kernel {
    fn add(&self, file: File) -> i64 {
        let mut files = self.files.lock();
        let fd = files.1;
        files.1 += 1;
        files.0.insert(fd, file);
        fd.into()
    }

    fn socket(&self, fd: Fd) -> std::result::Result<Arc<Socket>, i32> {
        match self.files.lock().0.get(&fd) {
            Some(File::Socket(socket)) => Ok(socket.clone()),
            Some(File::Epoll(_)) => Err(libc::ENOTSOCK),
            None => Err(libc::EBADF),
        }
    }

    fn epoll(&self, fd: Fd) -> std::result::Result<Arc<Epoll>, i32> {
        match self.files.lock().0.get(&fd) {
            Some(File::Epoll(epoll)) => Ok(epoll.clone()),
            Some(File::Socket(_)) => Err(libc::EINVAL),
            None => Err(libc::EBADF),
        }
    }

    fn send(
        &self,
        fd: Fd,
        iov: &[Vec<u8>],
        flags: i32,
        to: Option<SocketAddr>,
        control: Vec<ControlMessage>,
    ) -> Outcome {
        let slices: Vec<IoSlice<'_>> = iov.iter().map(|piece| IoSlice::new(piece)).collect();
        let mut message = SendMsg::new(&slices, flags);
        message.name = to;
        message.control =
            control.into_iter().map(|c| Control::Other { level: c.level, ty: c.kind, data: c.data }).collect();
        let sent = self.socket(fd)?.sendmsg(&mut message).map_err(Error::errno)?;
        Ok((sent as i64, Reply::None))
    }

    fn receive(&self, fd: Fd, iov: &[usize], flags: i32) -> Outcome {
        let mut buffers: Vec<Vec<u8>> = iov.iter().map(|&len| vec![0; len]).collect();
        let mut slices: Vec<IoSliceMut<'_>> = buffers.iter_mut().map(|b| IoSliceMut::new(b)).collect();
        let mut message = RecvMsg::new(&mut slices, flags);
        let count = self.socket(fd)?.recvmsg(&mut message).map_err(Error::errno)?;
        let (flags, control) = (message.out_flags, std::mem::take(&mut message.control));
        let mut data = buffers.concat();
        data.truncate(count);
        let v6 = self.socket(fd)?.sock().family == libc::AF_INET6 as u16;
        // The wall clock of the script's begin.
        let begin = self.stack.clock.wall().saturating_sub(self.stack.clock.now() - EPOCH);
        let control = control.into_iter().map(|c| shown(c, begin, v6)).collect();
        Ok((count as i64, Reply::Received { data, flags, control }))
    }

    fn perform(&self, call: Call) -> Outcome {
        match call {
            Call::Socket { family, kind, protocol } => {
                let kind_only = kind & !(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC);
                let socket = Socket::new(&self.stack, family, kind_only, protocol).map_err(Error::errno)?;
                socket.set_nonblocking(kind & libc::SOCK_NONBLOCK != 0);
                Ok((self.add(File::Socket(Arc::new(socket))), Reply::None))
            }
            Call::Bind(fd, address) => number(self.socket(fd)?.bind(address)),
            Call::Listen(fd, backlog) => number(self.socket(fd)?.listen(backlog)),
            Call::Accept(fd, flags) => {
                let (socket, peer) = self.socket(fd)?.accept().map_err(Error::errno)?;
                socket.set_nonblocking(flags & libc::SOCK_NONBLOCK != 0);
                Ok((self.add(File::Socket(Arc::new(socket))), Reply::Peer(peer)))
            }
            Call::Connect(fd, address) => number(self.socket(fd)?.connect(Some(address))),
            Call::Send { fd, iov, flags, to, control } => self.send(fd, &iov, flags, to, control),
            Call::Receive { fd, iov, flags, .. } => self.receive(fd, &iov, flags),
            Call::Shutdown(fd, how) => number(self.socket(fd)?.shutdown(how)),
            Call::Close(fd) => {
                let file = self.files.lock().0.remove(&fd).ok_or(libc::EBADF)?;
                if let File::Socket(socket) = file {
                    let epolls: Vec<Arc<Epoll>> = self.epolls();
                    epolls.iter().for_each(|epoll| epoll.forget(fd));
                    socket.close();
                }
                Ok((0, Reply::None))
            }
            Call::GetSockOpt { fd, level, name, len } => {
                let mut value = vec![0; len];
                let len = self.socket(fd)?.getsockopt(level, name, &mut value).map_err(Error::errno)?;
                value.truncate(len);
                Ok((0, Reply::Bytes(value)))
            }
            Call::SetSockOpt { fd, level, name, value } => number(self.socket(fd)?.setsockopt(level, name, &value)),
            Call::Fcntl(fd, libc::F_GETFL, _) => {
                let nonblock = if self.socket(fd)?.nonblocking() { libc::O_NONBLOCK } else { 0 };
                Ok((i64::from(libc::O_RDWR | nonblock), Reply::None))
            }
            Call::Fcntl(fd, libc::F_SETFL, flags) => {
                self.socket(fd)?.set_nonblocking(flags & i64::from(libc::O_NONBLOCK) != 0);
                Ok((0, Reply::None))
            }
            Call::Fcntl(fd, ..) => self.socket(fd).and(Err(libc::EINVAL)),
            Call::Ioctl(fd, request) => {
                let value = self.socket(fd)?.ioctl(request as u64).map_err(Error::errno)?;
                Ok((0, Reply::Int(value)))
            }
            Call::Poll { fds, timeout } => self.poll(&fds, timeout),
            Call::EpollCreate(size) if size <= 0 => Err(libc::EINVAL),
            Call::EpollCreate(_) => Ok((self.add(File::Epoll(Arc::new(Epoll::new()))), Reply::None)),
            Call::EpollCtl(epoll, operation, fd, events, data) => {
                let (epoll, socket) = (self.epoll(epoll)?, self.socket(fd)?);
                epoll.control(operation, fd, &socket, events, data).map(|()| (0, Reply::None))
            }
            Call::EpollWait(_, most, _) if most <= 0 => Err(libc::EINVAL),
            Call::EpollWait(epoll, most, timeout) => {
                let epoll = self.epoll(epoll)?;
                let events = self.wait(timeout, |waiter| match epoll.ready(most as usize) {
                    events if events.is_empty() => {
                        epoll.wake_when_ready(waiter);
                        None
                    }
                    events => Some(events),
                });
                let events = events?.unwrap_or_default();
                Ok((events.len() as i64, Reply::Events(events)))
            }
        }
    }

    fn epolls(&self) -> Vec<Arc<Epoll>> {
        let files = self.files.lock();
        let epolls = files.0.values().filter_map(|file| match file {
            File::Epoll(epoll) => Some(epoll.clone()),
            File::Socket(_) => None,
        });
        epolls.collect()
    }

    /// Tries until there is a result, or the milliseconds have passed (negative: infinite).
    fn wait<T>(
        &self,
        timeout: i32,
        mut attempt: impl FnMut(&Arc<Waiter>) -> Option<T>,
    ) -> std::result::Result<Option<T>, i32> {
        let deadline = u64::try_from(timeout).ok().map(|ms| self.stack.now() + Duration::from_millis(ms));
        let waiter = Waiter::current();
        loop {
            if let Some(found) = attempt(&waiter) {
                return Ok(Some(found));
            }
            if timeout == 0 {
                return Ok(None);
            }
            match self.stack.block(&waiter, deadline) {
                Woken::Event => {}
                Woken::TimedOut => return Ok(attempt(&waiter)),
                Woken::Interrupted => return Err(libc::EINTR),
            }
        }
    }

    fn poll(&self, fds: &[(Fd, i16)], timeout: i32) -> Outcome {
        const ALWAYS: i16 = libc::POLLERR | libc::POLLHUP;
        let look = || {
            let ready = fds.iter().map(|&(fd, events)| match self.socket(fd) {
                _ if fd < 0 => 0,
                Ok(socket) => socket.poll().0 as i16 & (events | ALWAYS),
                Err(_) => libc::POLLNVAL,
            });
            ready.collect::<Vec<i16>>()
        };
        let sockets: Vec<Arc<Socket>> = fds.iter().filter_map(|&(fd, _)| self.socket(fd).ok()).collect();
        let mut keys = Vec::new();
        let ready = self.wait(timeout, |waiter| {
            if timeout != 0 && keys.is_empty() {
                keys.extend(sockets.iter().map(|s| s.sock().wait.add(Events::ALL, false, waiter.clone())));
            }
            let ready = look();
            ready.iter().any(|&revents| revents != 0).then_some(ready)
        });
        sockets.iter().zip(keys).for_each(|(socket, key)| socket.sock().wait.remove(key));
        let ready = ready?.unwrap_or_else(|| vec![0; fds.len()]);
        Ok((ready.iter().filter(|&&revents| revents != 0).count() as i64, Reply::Ready(ready)))
    }
}

/// Ancillary data as a script writes it: times count from its begin, and an error has no offender. Kinds that scripts
/// cannot write get level and type -1, so that they match nothing.
fn shown(control: Control, begin: Duration, v6: bool) -> ControlMessage {
    let int = |level, kind, value: i32| ControlMessage { level, kind, data: value.to_ne_bytes().to_vec() };
    match control {
        Control::Timestamping(at) => {
            let at = at.saturating_sub(begin);
            let data = [at.as_secs() as i64, i64::from(at.subsec_nanos())].map(i64::to_ne_bytes).concat();
            ControlMessage { level: libc::SOL_SOCKET, kind: libc::SCM_TIMESTAMPING, data }
        }
        Control::RecvErr(e) => {
            let kind = [e.origin, e.ty, e.code, 0];
            let data = [e.errno.to_ne_bytes(), kind, e.info.to_ne_bytes(), e.data.to_ne_bytes()].concat();
            let (level, kind) =
                if v6 { (libc::SOL_IPV6, libc::IPV6_RECVERR) } else { (libc::SOL_IP, libc::IP_RECVERR) };
            ControlMessage { level, kind, data }
        }
        Control::Inq(bytes) => int(libc::SOL_TCP, libc::TCP_CM_INQ, bytes),
        Control::Ttl(ttl) => int(libc::SOL_IP, libc::IP_TTL, ttl),
        Control::Tos(tos) => int(libc::SOL_IP, libc::IP_TOS, tos),
        Control::Other { level, ty, data } => ControlMessage { level, kind: ty, data },
        _ => ControlMessage { level: -1, kind: -1, data: Vec::new() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::Variant;

    fn fresh() -> OnStack {
        OnStack::new(&Setup::new(Variant::Ipv4), 1).expect("a stack")
    }

    fn wait(timeout: i32) -> Call {
        Call::Poll { fds: Vec::new(), timeout }
    }

    #[test]
    fn a_call_that_sleeps_ends_at_its_moment_and_not_before() {
        let mut on = fresh();
        let id = on.start(wait(500));
        for now in [100_000, 499_999] {
            while on.now() < now {
                on.advance(now);
            }
            assert_eq!(on.finished(id), None, "at {now}");
        }
        while on.now() < 900_000 && on.blocking.is_some() {
            on.advance(900_000);
        }
        assert_eq!(on.now(), 500_000);
        assert_eq!(on.finished(id), Some(Ok((0, Reply::Ready(Vec::new())))));
        assert_eq!(on.finished(id), None, "each outcome is given once");
    }

    #[test]
    fn a_call_that_need_not_wait_ends_at_once_even_beside_one_that_sleeps() {
        let mut on = fresh();
        let asleep = on.start(wait(-1));
        let id = on.start(wait(0));
        assert_eq!(on.finished(id), Some(Ok((0, Reply::Ready(Vec::new())))));
        assert_eq!(on.finished(asleep), None);
    }

    #[test]
    fn a_stack_whose_call_sleeps_for_ever_can_be_dropped() {
        let mut on = fresh();
        let id = on.start(wait(-1));
        on.advance(3_600_000_000);
        assert_eq!((on.now(), on.finished(id)), (3_600_000_000, None));
        drop(on);
    }

    #[test]
    fn unknown_descriptors_and_requests_have_their_errno() {
        let mut on = fresh();
        for (call, errno) in [
            (Call::Close(3), libc::EBADF),
            (Call::Listen(3, 1), libc::EBADF),
            (Call::Fcntl(3, libc::F_GETFL, 0), libc::EBADF),
            (Call::EpollCreate(0), libc::EINVAL),
            (Call::EpollWait(3, 1, 0), libc::EBADF),
        ] {
            let id = on.start(call.clone());
            assert_eq!(on.finished(id), Some(Err(errno)), "{call:?}");
        }
        let id = on.start(Call::EpollCreate(1));
        let Some(Ok((epoll, _))) = on.finished(id) else { panic!("no epoll") };
        let id = on.start(Call::Listen(epoll as Fd, 1));
        assert_eq!(on.finished(id), Some(Err(libc::ENOTSOCK)));
    }

    #[test]
    fn sysctls_reach_the_stack_and_errors_have_their_name() {
        let mut on = fresh();
        on.sysctl("net.ipv4.tcp_syn_retries", "2").unwrap();
        assert_eq!(on.stack().sysctl.get("net.ipv4.tcp_syn_retries").unwrap(), "2");
        assert_eq!(on.sysctl("net.ipv4.tcp_nonesuch", "2"), Err("ENOENT".to_owned()));
    }
}
