//! What the sockets of a sequence are and what has become of them, by what the calls were and what they gave. A row of
//! the list that is about a socket that was shut, say, does not hold for one that was not.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

type Fields = [(String, String)];

/// What may have happened to a socket, in the order in which it is told.
const EVENTS: [&str; 10] =
    ["accepted", "listened", "connected", "failed", "unspecified", "shut", "waited", "ended", "reset", "marked"];

/// A socket: what it was made as, and which of [`EVENTS`] it has seen.
#[derive(Default)]
struct Made {
    what: String,
    seen: [bool; EVENTS.len()],
}

impl Made {
    fn see(&mut self, event: &str) {
        for (name, seen) in EVENTS.iter().zip(&mut self.seen) {
            *seen |= *name == event;
        }
    }

    /// Whether it has asked for a connection, and nothing is known to have come of that.
    fn is_connecting(&self) -> bool {
        let has = |event: &str| EVENTS.iter().zip(self.seen).any(|(name, seen)| *name == event && seen);
        has("connected") && !has("ended")
    }

    fn text(&self) -> String {
        let seen = EVENTS.iter().zip(self.seen).filter(|(_, seen)| *seen).map(|(name, _)| *name);
        std::iter::once(self.what.as_str()).chain(seen).collect::<Vec<_>>().join(" ")
    }
}

/// The sockets by their slots; duplicates are one.
#[derive(Default)]
pub struct Sockets(BTreeMap<String, Rc<RefCell<Made>>>);

impl Sockets {
    /// What a call's socket is before the call.
    pub fn of(&self, call: &str) -> String {
        let Some((name, args)) = split(call) else { return String::new() };
        match name {
            "call_poll" | "call_sleep" | "call_select" | "call_socket" => String::new(),
            // Of packets: an end of a slot.
            "call_end" | "call_udp" | "call_ping" => what_end(name, &args),
            _ => self.of_call(name, &args).map_or(String::new(), |made| made.borrow().text()),
        }
    }

    /// The socket of a call; of a transfer, which has two ends, the first that is one.
    fn of_call(&self, name: &str, args: &[&str]) -> Option<&Rc<RefCell<Made>>> {
        match name {
            "call_sendfile" | "call_splice" => args.iter().find_map(|end| {
                let slot = end.trim_matches('"').strip_prefix("slot ")?;
                self.0.get(slot)
            }),
            _ => self.0.get(*args.first()?),
        }
    }

    /// What the sockets are that fields of poll ("s1") and of epoll_wait ("e9") tell of.
    pub fn told_of(&self) -> BTreeMap<String, String> {
        let numbered = self.0.iter().filter_map(|(slot, made)| Some((slot.parse::<u32>().ok()?, made.borrow().text())));
        numbered.flat_map(|(n, text)| [(format!("s{n}"), text.clone()), (format!("e{}", n + 8), text)]).collect()
    }

    /// Notes what a call has done.
    pub fn note(&mut self, call: &str, fields: &Fields) {
        let Some((name, args)) = split(call) else { return };
        let result = fields.first().map_or("", |(_, value)| value.as_str());
        let (slot, good) = (args.first().copied().unwrap_or_default(), !result.starts_with("-1"));
        match name {
            "call_socket" if good => {
                let what = args[1..].join(" ").replace(" | SOCK_NONBLOCK", "");
                self.0.insert(slot.to_string(), Rc::new(RefCell::new(Made { what, ..Made::default() })));
            }
            "call_epoll_create" if good => {
                self.0
                    .insert(slot.to_string(), Rc::new(RefCell::new(Made { what: "epoll".into(), ..Made::default() })));
            }
            "call_end" | "call_udp" | "call_ping" => {
                let made = Made { what: what_end(name, &args), ..Made::default() };
                self.0.insert(slot.to_string(), Rc::new(RefCell::new(made)));
            }
            "call_accept" if good && args.len() > 1 => {
                let what = self.0.get(slot).map_or(String::new(), |made| made.borrow().what.clone());
                let mut made = Made { what, ..Made::default() };
                made.see("accepted");
                self.0.insert(args[1].to_string(), Rc::new(RefCell::new(made)));
            }
            "call_dup" | "call_dup2" | "call_dup3" | "call_dupfd" | "call_pass" if good && args.len() > 1 => {
                if let Some(made) = self.0.get(slot).cloned() {
                    self.0.insert(args[1].to_string(), made);
                }
            }
            "call_close" if good => {
                self.0.remove(slot);
            }
            "call_poll" => {
                for (key, value) in &fields[1.min(fields.len())..] {
                    if let Some(made) = key.strip_prefix('s').and_then(|slot| self.0.get(slot)) {
                        see_events(&mut made.borrow_mut(), value);
                    }
                }
            }
            _ => {
                let unspecified = name == "call_connect" && args.get(1).is_some_and(|to| self.is_unspecified(to));
                if let Some(made) = self.of_call(name, &args).filter(|made| made.borrow().what.contains("SOCK_")) {
                    match unspecified && result == "0" {
                        true => made.borrow_mut().see("unspecified"),
                        false => see(&mut made.borrow_mut(), name, &args, result, fields),
                    }
                }
            }
        }
    }

    /// Whether a name is of AF_UNSPEC: one that says so, and that of a slot that has no socket.
    fn is_unspecified(&self, name: &str) -> bool {
        let name = name.trim_matches('"');
        let of_slot = name.strip_prefix("own ").or(name.strip_prefix("peer "));
        let is_socket = |slot: &str| self.0.get(slot).is_some_and(|made| made.borrow().what.contains("SOCK_"));
        name.starts_with("unspec") || of_slot.is_some_and(|slot| !is_socket(slot))
    }
}

fn split(call: &str) -> Option<(&str, Vec<&str>)> {
    let (name, args) = call.split_once('(')?;
    Some((name, args.trim_end_matches(");").split(", ").collect()))
}

fn what_end(name: &str, args: &[&str]) -> String {
    format!("{} {}", name.trim_start_matches("call_"), args[1..].join(" "))
}

fn see_events(made: &mut Made, events: &str) {
    if events.contains("|ERR") {
        made.see(if made.is_connecting() { "failed" } else { "reset" });
    }
    if events.contains("RDHUP") {
        made.see("ended");
    }
}

/// What a call on a socket says of it.
fn see(made: &mut Made, name: &str, args: &[&str], result: &str, fields: &Fields) {
    // What connect says that has not begun.
    const REFUSED: [&str; 7] = ["EINVAL", "EAFNOSUPPORT", "EFAULT", "EBADF", "EISCONN", "EALREADY", "EOPNOTSUPP"];
    let error = result.strip_prefix("-1 ").unwrap_or_default();
    match (name, result) {
        ("call_listen", "0") => made.see("listened"),
        (_, _) if error.is_empty() && args.iter().any(|arg| arg.contains("MSG_WAITALL")) => made.see("waited"),
        ("call_shutdown", "0") => made.see("shut"),
        ("call_setsockopt", "0") if args.contains(&"TCP_NOTSENT_LOWAT") => made.see("marked"),
        ("call_connect", _) if !REFUSED.contains(&error) => {
            made.see("connected");
            if !matches!(error, "" | "EINPROGRESS") {
                made.see("failed");
            }
        }
        _ => {}
    }
    let so_error = args.contains(&"SO_ERROR") && name == "call_getsockopt";
    let value =
        if so_error { fields.iter().find(|(key, _)| key == "value").map_or("", |(_, v)| v.as_str()) } else { "" };
    if error == "ECONNREFUSED" || value == "111" {
        made.see("failed");
    }
    if matches!(error, "ECONNRESET" | "EPIPE") || matches!(value, "32" | "104") {
        made.see("reset");
    }
    if name.starts_with("call_re") && name != "call_recvmmsg" && result == "0" {
        made.see("ended");
    }
}
