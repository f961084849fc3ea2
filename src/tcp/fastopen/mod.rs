//! TCP Fast Open (RFC 7413): data in the SYN. Above: `connect`, `sendmsg`, `synsent` (client), `handshake`, `listener`,
//! `input`, `timer` (server), `sockopt`. Below: `metrics` (what a client remembers of a server). Linux:
//! net/ipv4/tcp_fastopen.c, net/ipv4/tcp_metrics.c.
//!
//! | file | what |
//! |---|---|
//! | `client` | MSG_FASTOPEN, the SYN with data, and what its answer says |
//! | `blackhole` | pauses after a path has shown that it drops such connections |
//! | `cookie` | the cookies of a server, and its keys |
//! | `server` | whether a SYN's data is taken, and the child until the handshake is over |
//! | `queue` | how many such children a listener has, and those that were reset |

pub(super) mod blackhole;
pub(super) mod client;
pub(super) mod cookie;
pub(super) mod queue;
pub(super) mod server;
#[cfg(test)]
mod tests;

use super::listener::Request;
use super::sockopt::opt;
use super::tcb::{Cx, TcpSock};
use crate::base::error::{Error, Result};
use crate::sock::state::State;
use crate::stack::Stack;
use crate::sys::lock::RwLock;
use crate::sysctl::Sysctls;
use crate::wire::tcp_options::FastOpenCookie;
use blackhole::Blackhole;
use cookie::Keys;
use queue::FastOpenQueue;
use std::sync::Arc;

/// Bits of `net.ipv4.tcp_fastopen` (TFO_*).
pub(super) mod bit {
    pub(crate) const CLIENT_ENABLE: i32 = 1;
    pub(crate) const SERVER_ENABLE: i32 = 2;
    /// Data leaves in the SYN without a cookie.
    pub(crate) const CLIENT_NO_COOKIE: i32 = 4;
    /// It is taken without one.
    pub(crate) const SERVER_COOKIE_NOT_REQD: i32 = 0x200;
    /// Every listener takes part, also without TCP_FASTOPEN; the backlog bounds its queue.
    pub(crate) const SERVER_WO_SOCKOPT1: i32 = 0x400;
}

/// Why data of a SYN was not taken (tcpi_fastopen_client_fail).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub(super) enum ClientFail {
    #[default]
    Unspecified = 0,
    CookieUnavailable = 1,
    DataNotAcked = 2,
    SynRetransmitted = 3,
}

/// A connection attempt with Fast Open (tcp_fastopen_request).
#[derive(Debug, Default)]
pub(super) struct SynRequest {
    /// The option of our SYN; None: without, as in every SYN that is sent again.
    pub cookie: Option<FastOpenCookie>,
    /// Bytes that left with the SYN.
    pub copied: usize,
}

/// A child whose SYN-ACK is not acknowledged yet (fastopen_rsk).
#[derive(Debug)]
pub(super) struct PassiveRequest {
    pub req: Box<Request>,
    /// The listener's queue, in which it counts.
    pub queue: Arc<FastOpenQueue>,
}

/// What Fast Open keeps for a sock; allocated when first used.
#[derive(Debug, Default)]
pub(super) struct FastOpen {
    /// TCP_FASTOPEN_CONNECT: connect(2) leaves the SYN to the first write(2).
    pub connect: bool,
    /// TCP_FASTOPEN_NO_COOKIE.
    pub no_cookie: bool,
    /// An attempt is in progress.
    pub request: Option<SynRequest>,
    /// Our SYN had the option (syn_fastopen), in its experimental form (syn_fastopen_exp).
    pub syn_fastopen: bool,
    pub syn_fastopen_exp: bool,
    /// A success ends the pauses of `blackhole` (syn_fastopen_ch).
    pub syn_fastopen_ch: bool,
    /// The SYN had data (syn_data), and its receiver took all of it (syn_data_acked).
    pub syn_data: bool,
    pub syn_data_acked: bool,
    pub client_fail: ClientFail,
    /// Server: the request of a child before the final ACK.
    pub rsk: Option<PassiveRequest>,
    /// Listener: TCP_FASTOPEN's queue.
    pub queue: Option<Arc<FastOpenQueue>>,
    /// Listener: TCP_FASTOPEN_KEY; None: the stack's keys.
    pub keys: Option<Keys>,
}

impl TcpSock {
    pub(super) fn fastopen_mut(&mut self) -> &mut FastOpen {
        self.cold.get_or_insert_default().fastopen.get_or_insert_default()
    }

    fn fastopen_has(&self, what: impl FnOnce(&FastOpen) -> bool) -> bool {
        self.fastopen().is_some_and(what)
    }

    /// Whether a connection attempt with Fast Open is in progress.
    pub(super) fn has_fastopen_request(&self) -> bool {
        self.fastopen_has(|f| f.request.is_some())
    }

    /// The option of the SYN that leaves now.
    pub(super) fn syn_option(&self) -> Option<FastOpenCookie> {
        self.fastopen()?.request.as_ref()?.cookie
    }

    /// Whether it is the child of a Fast Open SYN and the handshake is not over.
    #[inline]
    pub(super) fn has_fastopen_rsk(&self) -> bool {
        self.fastopen_has(|f| f.rsk.is_some())
    }

    /// Whether the SYN's data was taken, ours by the peer or the peer's by us (TCPI_OPT_SYN_DATA).
    pub(super) fn syn_data_acked(&self) -> bool {
        self.fastopen_has(|f| f.syn_data_acked)
    }

    pub(super) fn fastopen_client_fail(&self) -> ClientFail {
        self.fastopen().map_or(ClientFail::Unspecified, |f| f.client_fail)
    }

    /// Whether our SYN had data.
    #[inline]
    pub(super) fn syn_data(&self) -> bool {
        self.fastopen_has(|f| f.syn_data)
    }
}

/// TCP_FASTOPEN, TCP_FASTOPEN_CONNECT, TCP_FASTOPEN_NO_COOKIE. EINVAL: the value, or the state; EOPNOTSUPP: the
/// sysctl's bit for clients is not set.
pub(super) fn set_option(cx: &mut Cx<'_>, name: i32, val: i32) -> Result<()> {
    let state = cx.state();
    let flag = || if (0..=1).contains(&val) { Ok(val == 1) } else { Err(Error::Inval) };
    let new = matches!(state, State::Close | State::Listen);
    match name {
        opt::FASTOPEN if val >= 0 && new => server::tune(cx, val as u32),
        opt::FASTOPEN_CONNECT => {
            let on = flag()?;
            if cx.stack.sysctl.tcp_fastopen() & bit::CLIENT_ENABLE == 0 {
                return Err(Error::OpNotSupp);
            }
            if state != State::Close {
                return Err(Error::Inval);
            }
            cx.tp.fastopen_mut().connect = on;
        }
        opt::FASTOPEN_NO_COOKIE => {
            let on = flag()?;
            if !new {
                return Err(Error::Inval);
            }
            cx.tp.fastopen_mut().no_cookie = on;
        }
        _ => return Err(Error::Inval),
    }
    Ok(())
}

/// Their values.
pub(super) fn option(tp: &TcpSock, name: i32) -> i32 {
    let Some(f) = tp.fastopen() else { return 0 };
    match name {
        opt::FASTOPEN => f.queue.as_ref().map_or(0, |q| q.max_qlen() as i32),
        opt::FASTOPEN_CONNECT => i32::from(f.connect),
        _ => i32::from(f.no_cookie),
    }
}

/// Options that outlive a connection and pass to a listener's children.
pub(super) fn copy_options(to: &mut TcpSock, from: &TcpSock) {
    if let Some(f) = from.fastopen().filter(|f| f.connect || f.no_cookie) {
        let to = to.fastopen_mut();
        (to.connect, to.no_cookie) = (f.connect, f.no_cookie);
    }
}

/// What a sock that begins anew keeps besides: its queue and its keys.
pub(super) fn keep(to: &mut TcpSock, from: &mut TcpSock) {
    if let Some(f) = from.fastopen_if_any().filter(|f| f.queue.is_some() || f.keys.is_some()) {
        let (queue, keys) = (f.queue.take(), f.keys.take());
        let to = to.fastopen_mut();
        (to.queue, to.keys) = (queue, keys);
    }
}

/// What Fast Open keeps for a stack.
#[derive(Debug, Default)]
pub(crate) struct FastOpenNet {
    /// Keys of listeners that have none of their own; None until the first listener takes part.
    keys: RwLock<Option<Keys>>,
    pub(super) blackhole: Blackhole,
}

impl FastOpenNet {
    /// Draws keys unless there are some (tcp_fastopen_init_key_once).
    pub(super) fn init_key_once(&self, stack: &Stack) {
        let mut keys = self.keys.write();
        if keys.is_none() {
            let mut primary = [0; cookie::KEY_LEN];
            stack.entropy.fill(&mut primary);
            *keys = Some(Keys { primary, backup: None });
        }
    }

    fn keys(&self) -> Option<Keys> {
        self.keys.read().clone()
    }

    /// `net.ipv4.tcp_fastopen_key` as it is shown: zeros where there are no keys yet.
    pub(super) fn key_text(&self) -> String {
        self.keys().unwrap_or(Keys { primary: [0; cookie::KEY_LEN], backup: None }).to_string()
    }

    /// Sets it, one key or two with a comma between. EINVAL.
    pub(super) fn set_key_text(&self, text: &str) -> Result<()> {
        let keys = Keys::parse(text).ok_or(Error::Inval)?;
        *self.keys.write() = Some(keys);
        Ok(())
    }
}

/// Whether data may leave, or be taken, without a cookie: by the sysctl's bit, the sock or the route
/// (tcp_fastopen_no_cookie).
fn no_cookie(sysctl: &Sysctls, tp: &TcpSock, by_route: bool, bit: i32) -> bool {
    sysctl.tcp_fastopen() & bit != 0 || by_route || tp.fastopen_has(|f| f.no_cookie)
}

/// Keys that a listener's cookies are made with.
fn keys_of(cx: &Cx<'_>) -> Option<Keys> {
    let own = cx.tp.fastopen().and_then(|f| f.keys.clone());
    own.or_else(|| cx.tp.net.fastopen.keys())
}
