//! System calls as a script writes them, turned into [`Call`]s, and their outcomes compared with what the script
//! expects. Above: `run`. A call's arguments and results are handled together: an out-value (`[expr]`, `{...}`) is
//! checked by the same rows that read it. An unknown call, structure or symbol is an error of the script, which names
//! it.
use crate::ast::{Expr, Field, SystemCall};
use crate::connection::pattern;
use crate::setup::Setup;
use crate::symbols;
use crate::under_test::{Call, ControlMessage, Fd, Outcome, Reply};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

/// Descriptors of the script and those of the stack under test.
pub type Fds = HashMap<i64, Fd>;

/// Result of reading an argument, or of comparing; the text says what is wrong with it.
type Bound<T> = Result<T, String>;

/// The context in which an argument list is read.
pub struct Binder<'s> {
    /// Addresses and family.
    pub setup: &'s Setup,
    /// Descriptors known so far.
    pub fds: &'s Fds,
    /// Stream offset of the next byte to send, for buffers written as `...`.
    pub sent: u64,
}

/// The value of an expression that is a number, a symbol or several or'ed.
pub fn number(expr: &Expr) -> Bound<i64> {
    match expr {
        Expr::Int(value) => Ok(*value),
        Expr::Or(a, b) => Ok(number(a)? | number(b)?),
        Expr::Word(name) => symbols::value(name).ok_or_else(|| format!("no symbol {name} is known")),
        Expr::Apply(name, args) => match (name.as_str(), args.as_slice()) {
            ("htons", [port]) => number(port),
            ("htonl", [value]) => number(value),
            _ => Err(format!("no function {name} of {} arguments is known", args.len())),
        },
        Expr::List(list) if list.len() == 1 => number(&list[0]),
        _ => Err("a number was expected".into()),
    }
}

fn int(expr: &Expr) -> Bound<i32> {
    // Flags such as 0x80000000 are written unsigned; the bits are kept.
    let value = number(expr)?;
    i32::try_from(value).or_else(|_| u32::try_from(value).map(|v| v as i32)).map_err(|_| format!("{value} is no int"))
}

fn size(expr: &Expr) -> Bound<usize> {
    match number(expr)? {
        value @ 0..=0x7fff_ffff => Ok(value as usize),
        value => Err(format!("{value} is no size")),
    }
}

/// Members of a structure by name.
fn member<'e>(fields: &'e [Field], name: &str) -> Bound<&'e Expr> {
    let found = fields.iter().find(|field| field.name.as_deref() == Some(name));
    found.map(|field| &field.value).ok_or_else(|| format!("the structure has no member {name}"))
}

fn only_members(fields: &[Field], known: &[&str]) -> Bound<()> {
    for field in fields {
        match &field.name {
            Some(name) if known.contains(&name.as_str()) => {}
            Some(name) => return Err(format!("no member {name} is known here")),
            None => return Err("a member without a name".into()),
        }
    }
    Ok(())
}

fn structure(expr: &Expr) -> Bound<&[Field]> {
    match expr {
        Expr::Struct(fields) => Ok(fields),
        _ => Err("a structure in braces was expected".into()),
    }
}

fn items(expr: &Expr) -> Bound<&[Expr]> {
    match expr {
        Expr::List(list) => Ok(list),
        _ => Err("a list in brackets was expected".into()),
    }
}

impl Binder<'_> {
    fn fd(&self, expr: &Expr) -> Bound<Fd> {
        let script = number(expr)?;
        // A descriptor that the script never got is passed unchanged: such a script expects EBADF.
        Ok(self.fds.get(&script).copied().unwrap_or(script.clamp(-1, i64::from(i32::MAX)) as i32))
    }

    fn address(&self, expr: &Expr, default: (IpAddr, u16)) -> Bound<SocketAddr> {
        if *expr == Expr::Ellipsis {
            return Ok(self.setup.socket_address(default.0, default.1));
        }
        let fields = structure(expr)?;
        only_members(fields, &["sa_family", "sin_port", "sin_addr"])?;
        let family = int(member(fields, "sa_family")?)?;
        let port = number(member(fields, "sin_port")?)?;
        let port = u16::try_from(port).map_err(|_| format!("{port} is no port"))?;
        let Expr::Apply(function, args) = member(fields, "sin_addr")? else {
            return Err("sin_addr is inet_addr(\"..\") or inet6_addr(\"..\")".into());
        };
        let [Expr::Str(text)] = args.as_slice() else { return Err(format!("{function} takes one string")) };
        let text = String::from_utf8_lossy(text);
        let ip: IpAddr = text.parse().map_err(|_| format!("`{text}` is no address"))?;
        match (family, ip) {
            (libc::AF_INET, IpAddr::V4(_)) | (libc::AF_INET6, IpAddr::V6(_)) => Ok(SocketAddr::new(ip, port)),
            _ => Err(format!("{text} is of another family")),
        }
    }

    /// A buffer to send: `...` is the predictable stream, a string is itself (filled up with zeros), cut to `len`.
    fn buffer(&self, expr: &Expr, len: usize, skip: usize) -> Bound<Vec<u8>> {
        match expr {
            Expr::Ellipsis => Ok((0..len as u64).map(|i| pattern(self.sent + skip as u64 + i)).collect()),
            Expr::Str(text) | Expr::StrPrefix(text) => {
                let mut bytes = text.clone();
                bytes.resize(len, 0);
                Ok(bytes)
            }
            _ => Err("a buffer is `...` or a string".into()),
        }
    }

    fn iovec(&self, expr: &Expr) -> Bound<Vec<Vec<u8>>> {
        let mut pieces: Vec<Vec<u8>> = Vec::new();
        let mut skip = 0;
        for (base, len) in iovecs(expr)? {
            pieces.push(self.buffer(base, len, skip)?);
            skip += len;
        }
        Ok(pieces)
    }

    /// A call that sends or receives. None: it is another.
    fn transfer(&self, name: &str, args: &[Expr]) -> Bound<Option<Call>> {
        let remote = (self.setup.remote, self.setup.connect_port);
        let send = |fd: &Expr, iov, flags, to, control| Ok(Call::Send { fd: self.fd(fd)?, iov, flags, to, control });
        let receive = |fd: &Expr, iov, flags, control| Ok(Call::Receive { fd: self.fd(fd)?, iov, flags, control });
        let call = match (name, args) {
            // The short form of this project: send(fd, length).
            ("send", [fd, len]) => send(fd, vec![self.buffer(&Expr::Ellipsis, size(len)?, 0)?], 0, None, Vec::new()),
            ("write", [fd, buffer, len]) => send(fd, vec![self.buffer(buffer, size(len)?, 0)?], 0, None, Vec::new()),
            ("send", [fd, buffer, len, flags]) => {
                send(fd, vec![self.buffer(buffer, size(len)?, 0)?], int(flags)?, None, Vec::new())
            }
            ("sendto", [fd, buffer, len, flags, address, _len]) => {
                let to = match address {
                    Expr::Ellipsis => Some(self.address(address, remote)?),
                    Expr::Struct(_) => Some(self.address(address, remote)?),
                    _ => None, // NULL or 0
                };
                send(fd, vec![self.buffer(buffer, size(len)?, 0)?], int(flags)?, to, Vec::new())
            }
            ("writev", [fd, iov, _count]) => send(fd, self.iovec(iov)?, 0, None, Vec::new()),
            ("sendmsg", [fd, message, flags]) => {
                let fields = structure(message)?;
                only_members(fields, &["msg_name", "msg_iov", "msg_flags", "msg_control"])?;
                let control = match member(fields, "msg_control") {
                    Ok(list) => items(list)?.iter().map(control_message).collect::<Bound<_>>()?,
                    Err(_) => Vec::new(),
                };
                send(fd, self.iovec(member(fields, "msg_iov")?)?, int(flags)?, None, control)
            }
            ("read", [fd, _buffer, len]) => receive(fd, vec![size(len)?], 0, 0),
            ("recv", [fd, _buffer, len, flags]) => receive(fd, vec![size(len)?], int(flags)?, 0),
            ("recvfrom", [fd, _buffer, len, flags, _address, _alen]) => receive(fd, vec![size(len)?], int(flags)?, 0),
            ("readv", [fd, iov, _count]) => receive(fd, iovecs(iov)?.into_iter().map(|(_, len)| len).collect(), 0, 0),
            ("recvmsg", [fd, message, flags]) => {
                let fields = structure(message)?;
                only_members(fields, &["msg_name", "msg_iov", "msg_flags", "msg_control"])?;
                let iov = iovecs(member(fields, "msg_iov")?)?.into_iter().map(|(_, len)| len).collect();
                receive(fd, iov, int(flags)?, if member(fields, "msg_control").is_ok() { 4096 } else { 0 })
            }
            _ => return Ok(None),
        };
        call.map(Some)
    }

    /// Reads a call. `accept` and the like with too few or too many arguments are errors.
    pub fn bind(&self, call: &SystemCall) -> Bound<Call> {
        let args = call.args.as_slice();
        let local = (self.setup.local, self.setup.bind_port);
        let remote = (self.setup.remote, self.setup.connect_port);
        if let Some(transfer) = self.transfer(call.name.as_str(), args)? {
            return Ok(transfer);
        }
        match (call.name.as_str(), args) {
            ("socket", [family, kind, protocol]) => Ok(Call::Socket {
                family: if *family == Expr::Ellipsis { self.setup.family() } else { int(family)? },
                kind: int(kind)?,
                protocol: int(protocol)?,
            }),
            ("bind", [fd, address, _len]) => Ok(Call::Bind(self.fd(fd)?, self.address(address, local)?)),
            ("listen", [fd, backlog]) => Ok(Call::Listen(self.fd(fd)?, int(backlog)?)),
            ("accept", [fd, _address, _len]) => Ok(Call::Accept(self.fd(fd)?, 0)),
            ("accept4", [fd, _address, _len, flags]) => Ok(Call::Accept(self.fd(fd)?, int(flags)?)),
            ("connect", [fd, address, _len]) => Ok(Call::Connect(self.fd(fd)?, self.address(address, remote)?)),
            ("shutdown", [fd, how]) => Ok(Call::Shutdown(self.fd(fd)?, int(how)?)),
            ("close", [fd]) => Ok(Call::Close(self.fd(fd)?)),
            ("getsockopt", [fd, level, name, value, len]) => {
                let len = match number(len) {
                    Ok(_) => size(len)?,
                    Err(_) => value_len(value),
                };
                Ok(Call::GetSockOpt { fd: self.fd(fd)?, level: int(level)?, name: int(name)?, len })
            }
            ("setsockopt", [fd, level, name, value, len]) => {
                let mut value = option_value(value)?;
                if *len != Expr::Ellipsis {
                    value.resize(size(len)?, 0);
                }
                Ok(Call::SetSockOpt { fd: self.fd(fd)?, level: int(level)?, name: int(name)?, value })
            }
            ("fcntl", [fd, command]) => Ok(Call::Fcntl(self.fd(fd)?, int(command)?, 0)),
            ("fcntl", [fd, command, value]) => Ok(Call::Fcntl(self.fd(fd)?, int(command)?, number(value)?)),
            ("ioctl", [fd, request, _value]) => Ok(Call::Ioctl(self.fd(fd)?, number(request)?)),
            ("poll", [fds, _count, timeout]) => {
                let fds = items(fds)?.iter().map(|item| {
                    let fields = structure(item)?;
                    only_members(fields, &["fd", "events", "revents"])?;
                    Ok((self.fd(member(fields, "fd")?)?, int(member(fields, "events")?)? as i16))
                });
                Ok(Call::Poll { fds: fds.collect::<Bound<_>>()?, timeout: int(timeout)? })
            }
            ("epoll_create", [size]) => Ok(Call::EpollCreate(int(size)?)),
            ("epoll_ctl", [epoll, operation, fd, event]) => {
                let (events, data) = match event {
                    Expr::Struct(fields) => epoll_event(fields)?,
                    _ => (0, 0), // NULL, for EPOLL_CTL_DEL
                };
                Ok(Call::EpollCtl(self.fd(epoll)?, int(operation)?, self.fd(fd)?, events, data))
            }
            ("epoll_wait", [epoll, _events, most, timeout]) => {
                Ok(Call::EpollWait(self.fd(epoll)?, int(most)?, int(timeout)?))
            }
            (name, args) => Err(format!("no system call {name} of {} arguments is known", args.len())),
        }
    }
}

fn iovecs(expr: &Expr) -> Bound<Vec<(&Expr, usize)>> {
    let pair = |item| match structure(item)? {
        [Field { name: None, value: base, .. }, Field { name: None, value: len, .. }] => Ok((base, size(len)?)),
        _ => Err("an iovec is {base, length}".to_owned()),
    };
    items(expr)?.iter().map(pair).collect()
}

fn epoll_event(fields: &[Field]) -> Bound<(u32, u64)> {
    only_members(fields, &["events", "fd", "ptr", "u32", "u64"])?;
    let data = fields.iter().find(|f| f.name.as_deref() != Some("events"));
    let data = data.map(|field| number(&field.value)).transpose()?.unwrap_or(0);
    Ok((number(member(fields, "events")?)? as u32, data as u64))
}

fn control_message(expr: &Expr) -> Bound<ControlMessage> {
    let fields = structure(expr)?;
    only_members(fields, &["cmsg_level", "cmsg_type", "cmsg_data"])?;
    let data = option_value(member(fields, "cmsg_data")?)?;
    Ok(ControlMessage { level: int(member(fields, "cmsg_level")?)?, kind: int(member(fields, "cmsg_type")?)?, data })
}

/// The bytes of a socket option's value or of control data: an int, a string, `struct linger`, `struct timeval` as
/// `{tv_sec=, tv_usec=}`, `struct sock_extended_err` by its members, or a timestamp as `{scm_sec=, scm_nsec=}`.
fn option_value(expr: &Expr) -> Bound<Vec<u8>> {
    match expr {
        Expr::List(list) if list.len() == 1 => option_value(&list[0]),
        Expr::Str(text) => Ok(text.clone()),
        Expr::Struct(fields) if member(fields, "onoff").is_ok() => {
            only_members(fields, &["onoff", "linger"])?;
            let [onoff, linger] = [int(member(fields, "onoff")?)?, int(member(fields, "linger")?)?];
            Ok([onoff.to_ne_bytes(), linger.to_ne_bytes()].concat())
        }
        Expr::Struct(fields) if member(fields, "tv_sec").is_ok() => {
            only_members(fields, &["tv_sec", "tv_usec"])?;
            let [sec, usec] = [number(member(fields, "tv_sec")?)?, number(member(fields, "tv_usec")?)?];
            Ok([sec.to_ne_bytes(), usec.to_ne_bytes()].concat())
        }
        Expr::Struct(fields) if member(fields, "ee_errno").is_ok() => extended_err(fields),
        // struct scm_timestamping, of which the first time is the software's; it counts from the script's begin.
        Expr::Struct(fields) if member(fields, "scm_sec").is_ok() => {
            only_members(fields, &["scm_sec", "scm_nsec"])?;
            let [sec, nsec] = [number(member(fields, "scm_sec")?)?, number(member(fields, "scm_nsec")?)?];
            Ok([sec.to_ne_bytes(), nsec.to_ne_bytes()].concat())
        }
        Expr::Struct(_) => Err("no option takes such a structure".into()),
        _ => Ok(int(expr)?.to_ne_bytes().to_vec()),
    }
}

/// struct sock_extended_err, without the offender behind it.
fn extended_err(fields: &[Field]) -> Bound<Vec<u8>> {
    only_members(fields, &["ee_errno", "ee_origin", "ee_type", "ee_code", "ee_info", "ee_data"])?;
    let word = |name| Ok::<_, String>((number(member(fields, name)?)? as u32).to_ne_bytes());
    let byte = |name| Ok::<_, String>(number(member(fields, name)?)? as u8);
    let kind = [byte("ee_origin")?, byte("ee_type")?, byte("ee_code")?, 0];
    Ok([word("ee_errno")?, kind, word("ee_info")?, word("ee_data")?].concat())
}

/// Whether a control message is the one that is wanted. Times may differ by 4 ms and a hundredth, as a script's events
/// may by default.
fn matches(wanted: &ControlMessage, actual: &ControlMessage) -> bool {
    let nanos = |message: &ControlMessage| {
        let stamp = (message.level, message.kind) == (libc::SOL_SOCKET, libc::SCM_TIMESTAMPING);
        let ([sec, nsec], []) = message.data.as_chunks::<8>() else { return None };
        let nanos = i64::from_ne_bytes(*sec).checked_mul(1_000_000_000)?.checked_add(i64::from_ne_bytes(*nsec));
        nanos.filter(|_| stamp)
    };
    match (nanos(wanted), nanos(actual)) {
        (Some(a), Some(b)) => a.abs_diff(b) <= 4_000_000 + a.unsigned_abs() / 100,
        _ => wanted == actual,
    }
}

fn value_len(expr: &Expr) -> usize {
    option_value(expr).map_or(4, |bytes| bytes.len())
}

/// Compares an outcome with what the script expects. A new descriptor is added to `fds`. The error names the first
/// difference.
pub fn check(call: &SystemCall, bound: &Call, outcome: &Outcome, fds: &mut Fds) -> Bound<()> {
    let got = match outcome {
        Ok((value, _)) => value.to_string(),
        Err(errno) => format!("-1 {}", symbols::errno_name(*errno)),
    };
    let wanted = call.result.as_ref().map(number).transpose()?;
    let shown = |value: i64| match &call.errno {
        Some(errno) => format!("{value} {errno}"),
        None => value.to_string(),
    };
    match (wanted, outcome) {
        (Some(wanted), Err(_)) if wanted >= 0 => return Err(format!("expected {}, actual {got}", shown(wanted))),
        (None, Err(_)) => return Err(format!("expected success, actual {got}")),
        (Some(wanted), Err(errno)) => {
            if wanted != -1 {
                return Err(format!("expected {}, actual {got}", shown(wanted)));
            }
            if let Some(name) = &call.errno
                && symbols::value(name) != Some(i64::from(*errno))
            {
                return Err(format!("expected -1 {name}, actual {got}"));
            }
            return Ok(());
        }
        (Some(wanted), Ok((value, _))) => {
            let makes_fd = matches!(bound, Call::Socket { .. } | Call::Accept(..) | Call::EpollCreate(_));
            if makes_fd && wanted >= 0 {
                // The script's numbers are its own; a new one must not be open already.
                if fds.insert(wanted, *value as Fd).is_some() {
                    return Err(format!("descriptor {wanted} is open already"));
                }
            } else if wanted != *value {
                return Err(format!("expected {}, actual {got}", shown(wanted)));
            }
        }
        (None, Ok(_)) => {}
    }
    let Ok((_, reply)) = outcome else { return Ok(()) };
    if let Call::Close(fd) = bound {
        fds.retain(|_, live| live != fd);
    }
    check_reply(call, reply)
}

/// Compares out-values.
fn check_reply(call: &SystemCall, reply: &Reply) -> Bound<()> {
    match (call.name.as_str(), reply) {
        ("getsockopt", Reply::Bytes(actual)) => {
            let value = &call.args[3];
            if *value == Expr::Ellipsis {
                return Ok(());
            }
            let wanted = option_value(value)?;
            let text = matches!(value, Expr::Str(_))
                || matches!(value, Expr::List(list) if matches!(list.as_slice(), [Expr::Str(_)]));
            let same = match text {
                // A name comes back in a fixed field, with zeros after it.
                true => actual.starts_with(&wanted) && actual[wanted.len()..].iter().all(|&b| b == 0),
                false => *actual == wanted,
            };
            let as_int = |bytes: &[u8]| match <[u8; 4]>::try_from(bytes) {
                Ok(bytes) => i32::from_ne_bytes(bytes).to_string(),
                Err(_) => format!("{bytes:?}"),
            };
            if same { Ok(()) } else { Err(format!("value: expected {}, actual {}", as_int(&wanted), as_int(actual))) }
        }
        ("ioctl", Reply::Int(actual)) => {
            let wanted = &call.args[2];
            match wanted {
                Expr::Ellipsis => Ok(()),
                _ if number(wanted)? == i64::from(*actual) => Ok(()),
                _ => Err(format!("value: expected {}, actual {actual}", number(wanted)?)),
            }
        }
        ("poll", Reply::Ready(ready)) => {
            for (item, actual) in items(&call.args[0])?.iter().zip(ready) {
                let wanted = member(structure(item)?, "revents").map_or(Ok(0), int)? as i16;
                if wanted != *actual {
                    return Err(format!("revents: expected {wanted:#x}, actual {actual:#x}"));
                }
            }
            Ok(())
        }
        ("epoll_wait", Reply::Events(events)) => {
            let wanted: Vec<(u32, u64)> = match &call.args[1] {
                Expr::Struct(fields) => vec![epoll_event(fields)?],
                Expr::List(list) => list.iter().map(|item| epoll_event(structure(item)?)).collect::<Bound<_>>()?,
                _ => return Ok(()),
            };
            match events.iter().zip(&wanted).find(|(a, b)| a != b) {
                Some((actual, wanted)) => Err(format!("event: expected {wanted:x?}, actual {actual:x?}")),
                None => Ok(()),
            }
        }
        ("recvmsg", Reply::Received { flags, control, .. }) => {
            let fields = structure(&call.args[1])?;
            if let Ok(wanted) = member(fields, "msg_flags")
                && *wanted != Expr::Ellipsis
                && int(wanted)? != *flags
            {
                return Err(format!("msg_flags: expected {:#x}, actual {flags:#x}", int(wanted)?));
            }
            if let Ok(list) = member(fields, "msg_control") {
                let wanted: Vec<ControlMessage> = items(list)?.iter().map(control_message).collect::<Bound<_>>()?;
                if wanted.len() != control.len() || wanted.iter().zip(control).any(|(a, b)| !matches(a, b)) {
                    return Err(format!("msg_control: expected {wanted:?}, actual {control:?}"));
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}
