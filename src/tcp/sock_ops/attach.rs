//! Which hooks a sock has: all of the stack's, those that a filter chose when its connection began, and those attached
//! to it or to its listener. Above: `control` (an active open begins), `handshake` (a SYN), `child`, `close`
//! (disconnect), `sockopt`. Beside: `registry`. What is kept of a sock is a slot of its cold state for each hook, so
//! that a sock that no hook has chosen has nothing.

use super::ctx::refresh;
use super::registry::{Hook, Refused};
use super::scope::Scope;
use super::{Ends, Has, HookCx, HookSlot};
use crate::base::error::Error;
use crate::sock::Sock;
use crate::sock::state::State;
use crate::stack::Stack;
use crate::tcp::tcb::{Cx, TcpSock};
use std::sync::Arc;

/// The hooks that a request has, of those that not all have: ids.
pub(in super::super) type Chosen = Option<Box<[u64]>>;

fn slots(tp: &TcpSock) -> &[HookSlot] {
    tp.cold.as_ref().map_or(&[], |c| &c.hooks)
}

fn slot_of(tp: &TcpSock, id: u64) -> Option<&HookSlot> {
    slots(tp).iter().find(|s| s.id == id)
}

/// Whether a sock has a hook.
#[inline]
pub(super) fn has(tp: &TcpSock, hook: &Hook) -> bool {
    hook.scope == Scope::Stack || slot_of(tp, hook.id).is_some()
}

/// The one of `hooks` that is attached to a sock and writes this option.
fn attached_writer<'h>(hooks: &'h [Arc<Hook>], tp: &TcpSock, of: &Hook) -> Option<&'h Arc<Hook>> {
    of.option?;
    hooks.iter().find(|h| {
        h.id != of.id && h.same_option(of).is_some() && slot_of(tp, h.id).is_some_and(|s| s.has == Has::Attached)
    })
}

/// Whether a filter gives a hook to a sock: what is attached comes first, where both write the same option.
fn chooses(hooks: &[Arc<Hook>], tp: &TcpSock, h: &Hook, matches: impl Fn(&Hook) -> bool) -> bool {
    h.scope == Scope::Chosen && matches(h) && attached_writer(hooks, tp, h).is_none()
}

/// The hooks that a SYN's connection will have, of those that not all have. `cx` is the listener.
pub(super) fn of_syn(cx: &Cx<'_>, ends: Ends) -> Chosen {
    let registry = &cx.tp.net.sock_ops;
    if !registry.any_chosen() {
        return None;
    }
    let hooks = registry.snapshot();
    let attached = |h: &Hook| slot_of(cx.tp, h.id).is_some_and(|s| s.has == Has::Attached);
    let has = |h: &&Arc<Hook>| attached(h) || chooses(&hooks, cx.tp, h, |h| h.matches(ends));
    let ids: Box<[u64]> = hooks.iter().filter(has).map(|h| h.id).collect();
    (!ids.is_empty()).then_some(ids)
}

/// A request begins, with the hooks that it gets. One that the listener does not have, because its filter came after
/// listen(2), is asked now, so that its flags there apply to the SYN-ACK.
pub(in super::super) fn begin_request(cx: &mut Cx<'_>, ends: Ends) -> Chosen {
    let chosen = of_syn(cx, ends)?;
    if chosen.iter().any(|&id| slot_of(cx.tp, id).is_none()) {
        let hooks = cx.tp.net.sock_ops.snapshot();
        for hook in hooks.iter().filter(|h| chosen.contains(&h.id)) {
            if slot_of(cx.tp, hook.id).is_none() {
                let slot = HookSlot { id: hook.id, flags: 0, has: Has::ByFilter, value: 0 };
                cx.tp.cold.get_or_insert_default().hooks.push(slot);
                refresh(cx.tp);
                hook.ops.listen(&mut HookCx::new(cx.reborrow(), hook.id, None));
            }
        }
    }
    Some(chosen)
}

/// A connection or a listener begins: what filters had chosen of the last one goes, unless it is chosen again.
fn begin(cx: &mut Cx<'_>, matches: impl Fn(&Hook) -> bool) {
    let registry = &cx.tp.net.sock_ops;
    let had = slots(cx.tp).iter().any(|s| s.has == Has::ByFilter);
    if !had && !registry.any_chosen() {
        return;
    }
    let hooks = registry.snapshot();
    let chosen: Vec<u64> = hooks.iter().filter(|h| chooses(&hooks, cx.tp, h, &matches)).map(|h| h.id).collect();
    if chosen.is_empty() && !had {
        return;
    }
    let list = &mut cx.tp.cold.get_or_insert_default().hooks;
    list.retain(|s| s.has != Has::ByFilter || chosen.contains(&s.id));
    for id in chosen {
        if !list.iter().any(|s| s.id == id) {
            list.push(HookSlot { id, flags: 0, has: Has::ByFilter, value: 0 });
        }
    }
    refresh(cx.tp);
}

/// An active open begins; the tuple is chosen.
pub(super) fn begin_connect(cx: &mut Cx<'_>) {
    let sk = &*cx.sk;
    let ends = Ends { saddr: sk.saddr, daddr: sk.daddr, sport: sk.sport, dport: sk.dport };
    begin(cx, |h| h.matches(ends));
}

/// The sock listens: it has a hook that may have children of it, so that the hook can be asked for their SYN-ACKs.
pub(super) fn begin_listen(cx: &mut Cx<'_>) {
    let (saddr, sport) = (cx.sk.rcv_saddr, cx.sk.sport);
    begin(cx, |h| h.may_match(saddr, sport));
}

/// Copies the hooks of a listener to a child, with their flags, and no value: those that all have, and those that its
/// request had.
pub(in super::super) fn to_child(to: &mut TcpSock, from: &TcpSock, chosen: &Chosen) {
    let chosen = chosen.as_deref().unwrap_or_default();
    if slots(from).is_empty() && chosen.is_empty() {
        return;
    }
    let kept = |s: &&HookSlot| s.has == Has::AsAll || chosen.contains(&s.id);
    let mut hooks: Vec<HookSlot> = slots(from).iter().filter(kept).map(|s| HookSlot { value: 0, ..*s }).collect();
    for id in chosen {
        if !hooks.iter().any(|s| s.id == *id) {
            hooks.push(HookSlot { id: *id, flags: 0, has: Has::ByFilter, value: 0 });
        }
    }
    if !hooks.is_empty() {
        to.cold.get_or_insert_default().hooks = hooks;
        refresh(to);
    }
}

/// Copies hooks to what a sock is after its connection has ended, with flags and values.
pub(in super::super) fn keep(to: &mut TcpSock, from: &TcpSock) {
    if !slots(from).is_empty() {
        to.cold.get_or_insert_default().hooks = slots(from).to_vec();
        refresh(to);
    }
}

/// Names of the hooks that a sock has, in the order in which they are called.
pub(in super::super) fn names(tp: &TcpSock) -> Vec<String> {
    let registry = &tp.net.sock_ops;
    if !registry.any() {
        return Vec::new();
    }
    registry.snapshot().iter().filter(|h| has(tp, h)).map(|h| h.ops.name().to_owned()).collect()
}

/// See [`attach`].
pub(in super::super) fn attach_to(cx: &mut Cx<'_>, name: &str) -> Result<(), Refused> {
    let hooks = cx.tp.net.sock_ops.snapshot();
    let hook = hooks.iter().find(|h| h.ops.name() == name).ok_or_else(|| Refused::unknown(name))?;
    if hook.scope == Scope::Stack {
        return Err(Refused::new(Error::Exist, format!("hooks {name:?}: all sockets of the stack have them")));
    }
    let in_use = !matches!(cx.state(), State::Close | State::Listen);
    match slot_of(cx.tp, hook.id).map(|s| s.has) {
        Some(Has::ByFilter) if !in_use => {}
        None => {}
        Some(_) => return Err(Refused::new(Error::Exist, format!("hooks {name:?}: the socket has them"))),
    }
    // What a filter gave to an unused socket gives way.
    let clash =
        |h: &&Arc<Hook>| h.id != hook.id && slot_of(cx.tp, h.id).is_some_and(|s| in_use || s.has == Has::Attached);
    if let Some((option, other)) = hooks.iter().filter(clash).find_map(|h| Some((h.same_option(hook)?, h))) {
        return Err(Refused::taken(option, other));
    }
    let list = &mut cx.tp.cold.get_or_insert_default().hooks;
    list.retain(|s| hooks.iter().any(|h| h.id == s.id && (h.id == hook.id || in_use || h.same_option(hook).is_none())));
    match list.iter_mut().find(|s| s.id == hook.id) {
        Some(slot) => slot.has = Has::Attached,
        None => list.push(HookSlot { id: hook.id, flags: 0, has: Has::Attached, value: 0 }),
    }
    refresh(cx.tp);
    hook.ops.attached(&mut HookCx::new(cx.reborrow(), hook.id, None));
    Ok(())
}

/// See [`detach`].
pub(in super::super) fn detach_from(cx: &mut Cx<'_>, name: &str) -> Result<(), Refused> {
    let hooks = cx.tp.net.sock_ops.snapshot();
    let hook = hooks.iter().find(|h| h.ops.name() == name).ok_or_else(|| Refused::unknown(name))?;
    if hook.scope == Scope::Stack {
        let why = format!("hooks {name:?}: all sockets of the stack have them; they can be unregistered");
        return Err(Refused::new(Error::NoEnt, why));
    }
    if slot_of(cx.tp, hook.id).is_none() {
        return Err(Refused::new(Error::NoEnt, format!("hooks {name:?}: the socket does not have them")));
    }
    hook.ops.detached(&mut HookCx::new(cx.reborrow(), hook.id, None));
    if let Some(cold) = &mut cx.tp.cold {
        cold.hooks.retain(|s| s.id != hook.id);
    }
    refresh(cx.tp);
    Ok(())
}

/// A call of a program about a sock, as `inet` has them.
fn change(
    stack: &Arc<Stack>,
    sock: &Arc<Sock>,
    f: impl FnOnce(&mut Cx<'_>) -> Result<(), Refused>,
) -> Result<(), Refused> {
    stack.here()?;
    if sock.is_broken() {
        return Err(Error::Io.into());
    }
    let mut g = sock.lock(stack);
    let r = Cx::new(&mut g).ok_or_else(|| Error::NoProtoOpt.into()).and_then(|mut cx| f(&mut cx));
    drop(g);
    stack.run_pending();
    r
}

/// Attaches a hook of [`Scope::Chosen`] to a socket: connections that it makes have the hook, and so have those that
/// are made by SYNs that arrive while it listens; a connection that exists has it from now on. The hook's `attached`
/// runs. ENOENT: no hook has that name; EEXIST: the socket has it already, or has one that writes the same option;
/// ENOPROTOOPT: it is no TCP socket; EIO: it is broken. Process context, the sock not owned. Linux: BPF_CGROUP_SOCK_OPS
/// for the cgroup of a socket; TCP_ULP is named in the same way.
pub fn attach(stack: &Arc<Stack>, sock: &Arc<Sock>, name: &str) -> Result<(), Refused> {
    change(stack, sock, |cx| attach_to(cx, name))
}

/// Takes a hook off a socket, after its `detached` has run. A listener's connections keep it. Segments that are sent
/// from now on have no options of it, retransmissions included, and the room is the payload's. ENOENT: the socket does
/// not have the hook, or has it as all have; ENOPROTOOPT: it is no TCP socket. Process context, the sock not owned.
pub fn detach(stack: &Arc<Stack>, sock: &Arc<Sock>, name: &str) -> Result<(), Refused> {
    change(stack, sock, |cx| detach_from(cx, name))
}

#[cfg(test)]
mod tests;
