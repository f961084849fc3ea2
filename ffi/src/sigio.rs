//! Signal-driven I/O: the owner of a socket, its signal, and whether it is enabled (F_SETOWN, F_SETSIG, O_ASYNC);
//! SIGURG to the owner. A description that does not use it costs nothing. Above: `fcntl`. Linux: struct fown_struct,
//! fasync_helper, send_sigio, send_sigurg, sk_wake_async.

use crate::kernel;
use std::collections::HashMap;
use std::ffi::{c_int, c_long};
use std::os::fd::RawFd;
use std::sync::{Arc, Weak};
use usersock::error::{Error, Result};
use usersock::internal::sys::fork::PerProcess;
use usersock::internal::sys::lock::Mutex;
use usersock::net::Socket;
use usersock::sock::wait::{Events, Watch, WatchKey};

/// si_code of a queued SIGIO whose code does not tell the event.
const SI_SIGIO: c_int = -5;

/// The receiver of the signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Owner {
    #[default]
    None,
    /// A thread (F_OWNER_TID).
    Thread(c_int),
    /// A process (F_OWNER_PID).
    Process(c_int),
    /// A process group (F_OWNER_PGRP).
    Group(c_int),
}

impl Owner {
    /// As F_SETOWN has it: a process, or a group as a negative number. EINVAL for INT_MIN.
    pub(crate) fn from_number(who: c_int) -> Result<Owner> {
        match who {
            0 => Ok(Owner::None),
            1.. => Ok(Owner::Process(who)),
            _ => Ok(Owner::Group(who.checked_neg().ok_or(Error::Inval)?)),
        }
    }

    /// As F_GETOWN has it.
    pub(crate) fn number(self) -> c_int {
        match self {
            Owner::None => 0,
            Owner::Thread(id) | Owner::Process(id) => id,
            Owner::Group(id) => -id,
        }
    }

    /// Sends a signal without siginfo; 0 only checks that the owner exists. ESRCH, EPERM.
    fn kill(self, signal: c_int) -> Result<()> {
        let signal = signal as c_long;
        match self {
            Owner::None => return Ok(()),
            // SAFETY: two numbers.
            Owner::Thread(id) => unsafe { kernel::call(libc::SYS_tkill, [id as c_long, signal]) },
            // SAFETY: two numbers.
            Owner::Process(id) => unsafe { kernel::call(libc::SYS_kill, [id as c_long, signal]) },
            // SAFETY: two numbers.
            Owner::Group(id) => unsafe { kernel::call(libc::SYS_kill, [-id as c_long, signal]) },
        }
        .map(drop)
    }

    /// Queues a signal with the event of `fd` in its siginfo. EAGAIN: too many are queued. The kernel lets a thread
    /// send POLL_IN and the other kernel codes only to itself; from another thread the code is SI_SIGIO, with the same
    /// fd and band.
    fn queue(self, signal: c_int, fd: RawFd, (code, band): (c_int, c_long)) -> Result<()> {
        match self.queue_as(signal, fd, code, band) {
            Err(Error::Perm) => self.queue_as(signal, fd, SI_SIGIO, band),
            sent => sent,
        }
    }

    fn queue_as(self, signal: c_int, fd: RawFd, code: c_int, band: c_long) -> Result<()> {
        let mut info = [0u8; 128];
        info[..4].copy_from_slice(&signal.to_ne_bytes());
        info[8..12].copy_from_slice(&code.to_ne_bytes());
        info[16..24].copy_from_slice(&band.to_ne_bytes());
        info[24..28].copy_from_slice(&fd.to_ne_bytes());
        let (signal_no, at) = (signal as c_long, info.as_ptr() as c_long);
        match self {
            Owner::None => Ok(()),
            Owner::Thread(id) => {
                let args = [std::process::id() as c_long, id as c_long, signal_no, at];
                // SAFETY: `info` is a siginfo_t: si_signo, si_errno, si_code, then si_band and si_fd.
                unsafe { kernel::call(libc::SYS_rt_tgsigqueueinfo, args) }.map(drop)
            }
            Owner::Process(id) => {
                // SAFETY: as above.
                unsafe { kernel::call(libc::SYS_rt_sigqueueinfo, [id as c_long, signal_no, at]) }.map(drop)
            }
            // No system call queues a signal for a group: it gets one without siginfo.
            Owner::Group(_) => self.kill(signal),
        }
    }
}

/// si_code and si_band of an event (band_table).
fn what(events: Events) -> (c_int, c_long) {
    let rows = [
        (Events::ERR, 4, libc::POLLERR),
        (Events::HUP, 6, libc::POLLHUP | libc::POLLERR),
        (Events::OUT, 2, libc::POLLOUT | libc::POLLWRNORM | libc::POLLWRBAND),
        (Events::IN, 1, libc::POLLIN | libc::POLLRDNORM),
    ];
    let row = rows.iter().find(|(e, ..)| events.intersects(*e));
    row.map_or((5, (libc::POLLPRI | libc::POLLRDBAND) as c_long), |&(_, code, band)| (code, band as c_long))
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    owner: Owner,
    /// F_SETSIG's signal; 0 is SIGIO without siginfo.
    signal: c_int,
    /// The descriptor by which O_ASYNC was set.
    on: Option<RawFd>,
    key: Option<WatchKey>,
}

/// The signal settings of a description.
#[derive(Default)]
pub(crate) struct Signals(Mutex<State>);

impl Watch for Signals {
    fn notify(&self, events: Events) {
        let State { owner, signal, on, .. } = *self.0.lock();
        if events == Events::PRI {
            // The owner may have ended meanwhile, which is no error.
            let _ = owner.kill(libc::SIGURG);
        }
        let Some(fd) = on else { return };
        if signal == 0 || owner.queue(signal, fd, what(events)).is_err() {
            let _ = owner.kill(libc::SIGIO);
        }
    }

    fn counts(&self) -> bool {
        true
    }
}

/// By address of the description, which is not reused while an entry has a weak reference to it.
type ByAddress = HashMap<usize, (Weak<Socket>, Arc<Signals>)>;

static SIGNALS: PerProcess<Mutex<ByAddress>> = PerProcess::new(Mutex::default);

fn find(s: &Arc<Socket>) -> Option<Arc<Signals>> {
    SIGNALS.get().lock().get(&(Arc::as_ptr(s) as usize)).map(|(_, signals)| signals.clone())
}

fn change(s: &Arc<Socket>, f: impl FnOnce(&mut State)) {
    let signals = {
        let mut all = SIGNALS.get().lock();
        if !all.contains_key(&(Arc::as_ptr(s) as usize)) && all.len().is_power_of_two() {
            all.retain(|_, (socket, _)| socket.strong_count() > 0);
        }
        all.entry(Arc::as_ptr(s) as usize).or_insert_with(|| (Arc::downgrade(s), Arc::default())).1.clone()
    };
    let (gone, watched) = {
        let mut state = signals.0.lock();
        f(&mut state);
        let wanted = state.owner != Owner::None;
        (state.key.take_if(|_| !wanted), wanted && state.key.is_none())
    };
    let queue = &s.sock().wait;
    if let Some(key) = gone {
        queue.remove(key);
    }
    if watched {
        let key = queue.add(Events::ALL, false, signals.clone());
        if let Some(twice) = signals.0.lock().key.replace(key) {
            queue.remove(twice);
        }
    }
}

fn state(s: &Arc<Socket>) -> State {
    find(s).map(|signals| *signals.0.lock()).unwrap_or_default()
}

/// F_SETOWN, F_SETOWN_EX. ESRCH: no such thread, process or group.
pub(crate) fn set_owner(s: &Arc<Socket>, owner: Owner) -> Result<()> {
    match owner.kill(0) {
        Err(Error::Srch) => Err(Error::Srch),
        _ => {
            change(s, |state| state.owner = owner);
            Ok(())
        }
    }
}

/// F_GETOWN, F_GETOWN_EX.
pub(crate) fn owner(s: &Arc<Socket>) -> Owner {
    state(s).owner
}

/// F_SETSIG. EINVAL: not a signal number.
pub(crate) fn set_signal(s: &Arc<Socket>, signal: c_int) -> Result<()> {
    if !(0..=libc::SIGRTMAX()).contains(&signal) {
        return Err(Error::Inval);
    }
    change(s, |state| state.signal = signal);
    Ok(())
}

/// F_GETSIG.
pub(crate) fn signal(s: &Arc<Socket>) -> c_int {
    state(s).signal
}

/// O_ASYNC of F_SETFL, FIOASYNC; `fd` is si_fd of the signals.
pub(crate) fn set_async(s: &Arc<Socket>, fd: RawFd, on: bool) {
    if is_async(s) != on {
        change(s, |state| state.on = on.then_some(fd));
    }
}

/// O_ASYNC of F_GETFL.
pub(crate) fn is_async(s: &Arc<Socket>) -> bool {
    state(s).on.is_some()
}
