//! Packets under watch: with `USERSOCK_DEBUG=skb` in the environment, and in every program under AddressSanitizer, each
//! call that gets a packet checks that it is the caller's to use, and ends the process with a line that names the call
//! if it is not: freed twice, used after it was freed, sent or queued, kept after it was lent. The memory of a packet
//! that was given up is poisoned and not used again for a while, so that no other packet has its address, and reports
//! of AddressSanitizer name what the plug-in touches directly: control block, and headers that were pushed. Bytes in
//! shared pages are not watched. Without either, a check is one load. Above: `skb`. Linux: SLUB_DEBUG, KASAN's
//! quarantine.

use std::alloc::{Layout, dealloc};
use std::collections::{HashMap, VecDeque};
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};
use usersock::internal::sys::fork::{PerProcess, generation};
use usersock::internal::sys::lock::Mutex;
use usersock::sock::skb::SkbInner;

/// Packets given up whose memory is kept from being used again.
const QUARANTINE: usize = 1024;
/// What their memory holds (POISON_FREE).
const POISON: u8 = 0x6b;

const UNKNOWN: u8 = 0;
const OFF: u8 = 1;
const ON: u8 = 2;
static MODE: AtomicU8 = AtomicU8::new(UNKNOWN);

/// Whether packets are watched.
#[inline]
pub(super) fn on() -> bool {
    match MODE.load(Ordering::Relaxed) {
        OFF => false,
        ON => true,
        _ => decide(),
    }
}

#[cold]
fn decide() -> bool {
    let mut on = sanitizer().is_some();
    for word in std::env::var("USERSOCK_DEBUG").unwrap_or_default().split(',').filter(|w| !w.is_empty()) {
        match word {
            "skb" => on = true,
            other => eprintln!("usersock: USERSOCK_DEBUG: {other:?} is unknown, there is only skb"),
        }
    }
    MODE.store(if on { ON } else { OFF }, Ordering::Relaxed);
    on
}

type Mark = unsafe extern "C" fn(*const c_void, usize);

/// AddressSanitizer's calls that poison and unpoison memory, if the program has it.
fn sanitizer() -> Option<(Mark, Mark)> {
    static CALLS: OnceLock<Option<(Mark, Mark)>> = OnceLock::new();
    *CALLS.get_or_init(|| {
        // SAFETY: looks a name up in the whole program.
        let call = |name: &std::ffi::CStr| unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
        let (poison, unpoison) = (call(c"__asan_poison_memory_region"), call(c"__asan_unpoison_memory_region"));
        if poison.is_null() || unpoison.is_null() {
            return None;
        }
        // SAFETY: AddressSanitizer's interface (sanitizer/asan_interface.h) declares them so.
        Some(unsafe {
            (std::mem::transmute::<*mut c_void, Mark>(poison), std::mem::transmute::<*mut c_void, Mark>(unpoison))
        })
    })
}

/// What a plug-in may do with a packet.
#[derive(Clone, Copy)]
enum State {
    /// It is the plug-in's.
    Owned,
    /// It may look at it, and not give it up: the call that lent it.
    Lent(&'static str),
    /// Nothing: the call that ended it.
    Gone(&'static str),
}

#[derive(Default)]
struct Watched {
    states: HashMap<usize, State>,
    /// Addresses of packets' memory, the oldest first.
    quarantine: VecDeque<usize>,
}

static WATCHED: PerProcess<Mutex<Watched>> = PerProcess::new(|| Mutex::new(Watched::default()));

fn set(skb: *const SkbInner, state: State) {
    WATCHED.get().lock().states.insert(skb as usize, state);
}

/// The plug-in gets a packet for its own.
pub(super) fn given(skb: *const SkbInner) {
    set(skb, State::Owned);
}

/// The plug-in may look at a packet that is not its own; `call` lends it.
pub(super) fn lent(skb: *const SkbInner, call: &'static str) {
    set(skb, State::Lent(call));
}

/// `call` uses a packet: it must be the plug-in's, or lent to it.
pub(super) fn used(skb: *const SkbInner, call: &str) {
    check(skb, call, true);
}

/// `call` gets a packet for good: it must be the plug-in's. Returns its fields in new memory; the old is not used for a
/// while, and no call accepts it.
/// # Safety
/// `skb` is from `Box::into_raw` if it is the plug-in's, and is not used afterwards.
pub(super) unsafe fn taken(skb: *mut SkbInner, call: &'static str) -> Box<SkbInner> {
    check(skb, call, false);
    // SAFETY: the plug-in's, as checked: it came from a box, and nobody else has it.
    unsafe { retire(skb, call) }
}

/// The packet leaves a queue in which a plug-in may have looked at it, for good: by `call`.
pub(super) fn left(inner: Box<SkbInner>, call: &'static str) -> Box<SkbInner> {
    let lent = matches!(WATCHED.get().lock().states.get(&(&raw const *inner as usize)), Some(State::Lent(_)));
    // SAFETY: a box that is ours.
    if lent { unsafe { retire(Box::into_raw(inner), call) } } else { inner }
}

/// Packets that plug-ins own at this moment: in no queue of the stack's, and not given up. None: packets are not
/// watched.
pub fn packets_owned() -> Option<usize> {
    let owned = |s: &&State| matches!(s, State::Owned);
    on().then(|| WATCHED.get().lock().states.values().filter(owned).count())
}

fn check(skb: *const SkbInner, call: &str, may_be_lent: bool) {
    let state = WATCHED.get().lock().states.get(&(skb as usize)).copied();
    match state {
        Some(State::Owned) => {}
        Some(State::Lent(_)) if may_be_lent => {}
        Some(State::Lent(by)) => fault(skb, call, &format!("it is only lent, by {by}")),
        Some(State::Gone(by)) => fault(skb, call, &format!("it has gone with {by}")),
        // A child of fork knows nothing of its parent's packets.
        None if generation() != 0 => {}
        None => fault(skb, call, "there is no packet at this address"),
    }
}

#[cold]
fn fault(skb: *const SkbInner, call: &str, why: &str) -> ! {
    eprintln!("usersock: {call}: packet {skb:p} is not the caller's: {why}");
    std::process::abort()
}

/// Moves the fields of a packet to new memory, and its old memory into quarantine.
/// # Safety
/// `skb` is from `Box::into_raw`, and nobody else's.
unsafe fn retire(skb: *mut SkbInner, call: &'static str) -> Box<SkbInner> {
    // SAFETY: readable, and its fields are not used at the old place again.
    let moved = Box::new(unsafe { skb.read() });
    // SAFETY: the memory is ours, and holds nothing any more.
    unsafe { skb.cast::<MaybeUninit<u8>>().write_bytes(POISON, size_of::<SkbInner>()) };
    if let Some((poison, _)) = sanitizer() {
        // SAFETY: memory of ours.
        unsafe { poison(skb.cast(), size_of::<SkbInner>()) };
    }
    let mut watched = WATCHED.get().lock();
    watched.states.insert(skb as usize, State::Gone(call));
    watched.quarantine.push_back(skb as usize);
    if watched.quarantine.len() > QUARANTINE
        && let Some(oldest) = watched.quarantine.pop_front()
    {
        watched.states.remove(&oldest);
        release(oldest as *mut SkbInner);
    }
    moved
}

/// Frees memory that leaves the quarantine. A byte of it that is not as it was left has been written by somebody.
fn release(old: *mut SkbInner) {
    if let Some((_, unpoison)) = sanitizer() {
        // SAFETY: memory of ours.
        unsafe { unpoison(old.cast(), size_of::<SkbInner>()) };
    }
    // SAFETY: initialized by `retire`, and read only from here.
    let bytes = unsafe { std::slice::from_raw_parts(old.cast::<u8>(), size_of::<SkbInner>()) };
    if let Some(at) = bytes.iter().position(|b| *b != POISON) {
        fault(old, "a later call", &format!("its byte {at} was written after it had been given up"));
    }
    // SAFETY: allocated by a Box of this type, whose fields were moved out.
    unsafe { dealloc(old.cast(), Layout::new::<SkbInner>()) };
}
