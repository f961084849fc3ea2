//! Signal-driven I/O: who is told of a socket's events, by which signal, and whether (F_SETOWN, F_SETSIG, O_ASYNC);
//! SIGURG to the owner. A description that has never been asked for any of it costs nothing. Above: `fcntl`. Linux:
//! struct fown_struct, fasync_helper, send_sigio, send_sigurg, sk_wake_async.

use crate::kernel;
use std::collections::HashMap;
use std::ffi::{c_int, c_long};
use std::os::fd::RawFd;
use std::sync::{Arc, Weak};
use usersock::error::{Error, Result};
use usersock::inet::Socket;
use usersock::sock::wait::{Events, Watch, WatchKey};
use usersock::sys::fork::PerProcess;
use usersock::sys::lock::Mutex;

/// Who gets the signals; `None` is nobody.
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

    /// Sends a signal without any more to say; 0 only asks whether there is somebody. ESRCH, EPERM.
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

    /// Queues a signal that says what happened to `fd`. The kernel takes such a one for this process alone; another
    /// one gets the bare signal. EAGAIN: too many are queued.
    fn queue(self, signal: c_int, fd: RawFd, (code, band): (c_int, c_long)) -> Result<()> {
        let mut info = [0u8; 128];
        info[..4].copy_from_slice(&signal.to_ne_bytes());
        info[8..12].copy_from_slice(&code.to_ne_bytes());
        info[16..24].copy_from_slice(&band.to_ne_bytes());
        info[24..28].copy_from_slice(&fd.to_ne_bytes());
        let (me, signal_no, at) = (std::process::id() as c_long, signal as c_long, info.as_ptr() as c_long);
        let sent = match self {
            Owner::Thread(id) => {
                let args = [me, id as c_long, signal_no, at];
                // SAFETY: `info` is a siginfo_t: si_signo, si_errno, si_code, then si_band and si_fd.
                unsafe { kernel::call(libc::SYS_rt_tgsigqueueinfo, args) }
            }
            // SAFETY: as above.
            Owner::Process(id) => unsafe { kernel::call(libc::SYS_rt_sigqueueinfo, [id as c_long, signal_no, at]) },
            Owner::Group(_) => Err(Error::Perm),
            Owner::None => return Ok(()),
        };
        match sent {
            Err(Error::Perm | Error::Srch) => self.kill(signal),
            sent => sent.map(drop),
        }
    }
}

/// si_code of what happened, and its si_band (band_table).
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
    /// F_SETSIG's signal; 0 is SIGIO, without more to say.
    signal: c_int,
    /// The descriptor by which O_ASYNC was set.
    on: Option<RawFd>,
    key: Option<WatchKey>,
}

/// What a description's signals are about.
#[derive(Default)]
pub(crate) struct Signals(Mutex<State>);

impl Watch for Signals {
    fn notify(&self, events: Events) {
        let State { owner, signal, on, .. } = *self.0.lock();
        if events == Events::PRI {
            // The owner may have ended since; nobody is left to be told of it.
            let _ = owner.kill(libc::SIGURG);
        }
        let Some(fd) = on else { return };
        if signal == 0 || owner.queue(signal, fd, what(events)).is_err() {
            let _ = owner.kill(libc::SIGIO);
        }
    }
}

/// A description, and what it signals.
type Known = (Weak<Socket>, Arc<Signals>);

/// By address of the description, which stays while an entry remembers it.
static SIGNALS: PerProcess<Mutex<HashMap<usize, Known>>> = PerProcess::new(Mutex::default);

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

/// F_SETOWN, F_SETOWN_EX. ESRCH: there is no such thread, process or group.
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

/// F_SETSIG. EINVAL: no signal's number.
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

/// O_ASYNC of F_SETFL, FIOASYNC; `fd` is what signals will say.
pub(crate) fn set_async(s: &Arc<Socket>, fd: RawFd, on: bool) {
    if is_async(s) != on {
        change(s, |state| state.on = on.then_some(fd));
    }
}

/// O_ASYNC of F_GETFL.
pub(crate) fn is_async(s: &Arc<Socket>) -> bool {
    state(s).on.is_some()
}
