//! The part of a thread's memory that each packet uses, at the cost of a few instructions. In a shared library the
//! compiler reaches a `thread_local!` by a call (`__tls_get_addr`), some 55 times for one message. The [`Block`] here
//! is found by a TLS descriptor: a function that the dynamic linker has chosen, which only returns a constant where the
//! library was there when the program began, and looks the block up where dlopen(3) has loaded it. (The initial-exec
//! model would need room in the static TLS for all thread-locals of the library, more than is kept for dlopen(3).)
//! Values with a destructor, and large ones, are thread-locals whose address the block keeps ([`Near`]). Above: what
//! counts, locks and allocates for each packet. Elsewhere than on x86-64 with glibc, and under Miri, the block is a
//! thread-local. Linux: per-CPU variables, by the gs segment.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::atomic::AtomicU8;

/// See the module's text. All zero at first.
#[repr(C, align(64))]
pub(crate) struct Block {
    /// The thread's copy of the counters, plus one; 0: it has asked for none yet.
    pub(crate) shard: Cell<usize>,
    /// Socks that the thread owns.
    pub(crate) owned: Cell<u32>,
    /// It was cancelled in a wait.
    pub(super) cancelled: Cell<bool>,
    /// Wake-ups wait until it owns no sock.
    pub(crate) wakes: Cell<bool>,
    /// What signal handlers have run in it: bits of `signal`'s. Only this thread writes it, but a handler of its own
    /// may come between any two instructions.
    pub(super) handled: AtomicU8,
    /// Devices that are sending in it, one within the other (softnet_data.xmit.recursion).
    pub(crate) xmits: Cell<u8>,
    /// Its number, plus one; 0: it has none yet.
    pub(super) number: Cell<u32>,
    /// Turns of softirq that run in it, one within the other.
    pub(crate) softirq: Cell<u32>,
    /// The stack for which this thread has sent packets that it receives itself before it leaves the stack; null: none;
    /// 1: more than one.
    pub(crate) raised: Cell<usize>,
    /// What handlers of signals look at, which interrupt it.
    pub(super) call: super::in_call::InCall,
    /// The address of each value that the thread has used; null: not used yet, or destroyed.
    values: [Cell<*const ()>; VALUES],
}

const VALUES: usize = 8;
const BYTES: usize = 128;
const ALIGN: usize = 64;
const _: () = assert!(size_of::<Block>() == BYTES && align_of::<Block>() == ALIGN);

/// The calling thread's block.
#[inline]
pub(crate) fn here() -> &'static Block {
    place::block()
}

/// Whose a place in `Block::values` is.
pub(crate) trait Place {
    const AT: usize;
}

/// A place has one owner: two declarations that take it would implement this twice, which does not compile.
pub(crate) trait Taken: Place {
    type Value: 'static;
}

/// The places, for `near_local!`.
pub(crate) mod places {
    macro_rules! places {
        ($($name:ident = $at:literal),* $(,)?) => {$(
            pub(crate) enum $name {}
            impl super::Place for $name {
                const AT: usize = const { assert!($at < super::VALUES); $at };
            }
        )*};
    }
    places! { Packets = 0, Pages = 1, Rings = 2, RoutesIn = 3, Locals = 4 }
    #[cfg(test)]
    places! { Test = 7 }
}

/// A thread-local that `near_local!` declares.
pub(crate) struct Near<P: Taken> {
    /// Finds the value in the ordinary way. None: it has been destroyed.
    find: fn() -> Option<*const P::Value>,
    place: PhantomData<fn(P)>,
}

impl<P: Taken> Near<P> {
    /// For `near_local!`.
    pub(crate) const fn new(find: fn() -> Option<*const P::Value>) -> Near<P> {
        Near { find, place: PhantomData }
    }

    /// Calls `f` with this thread's value. None: it has been destroyed, as the thread is ending.
    #[inline]
    pub(crate) fn try_with<R>(&self, f: impl FnOnce(&P::Value) -> R) -> Option<R> {
        let known = here().values[P::AT].get();
        let value = if known.is_null() { self.find()? } else { known.cast() };
        // SAFETY: this thread's value of this type, since the place is of no other `Near`, and to which nobody has a
        // unique reference. It is valid until it is destroyed: one without a destructor is as long as the thread, and
        // `Dropped` clears the place of any other first.
        Some(f(unsafe { &*value }))
    }

    #[cold]
    fn find(&self) -> Option<*const P::Value> {
        let value = (self.find)()?;
        here().values[P::AT].set(value.cast());
        Some(value)
    }
}

/// A value in the `thread_local!` that `near_local!` declares for it.
pub(crate) struct Dropped<P: Taken>(P::Value);

impl<P: Taken> Dropped<P> {
    pub(crate) const fn new(value: P::Value) -> Dropped<P> {
        Dropped(value)
    }

    pub(crate) fn value(&self) -> *const P::Value {
        &raw const self.0
    }
}

impl<P: Taken> Drop for Dropped<P> {
    fn drop(&mut self) {
        here().values[P::AT].set(std::ptr::null());
    }
}

/// Declares a [`Near`] at one of [`places`]: `static NAME at Place: T = initial`, whose initial value is a constant. It
/// is dropped when the thread ends.
macro_rules! near_local {
    ($(#[$doc:meta])* static $name:ident at $place:ident: $T:ty = $first:expr;) => {
        impl $crate::sys::near::Taken for $crate::sys::near::places::$place {
            type Value = $T;
        }
        $(#[$doc])*
        static $name: $crate::sys::near::Near<$crate::sys::near::places::$place> = {
            use $crate::sys::near::{Dropped, Near, places::$place};
            thread_local!(static VALUE: Dropped<$place> = const { Dropped::new($first) });
            Near::new(|| VALUE.try_with(Dropped::value).ok())
        };
    };
}
pub(crate) use near_local;

#[cfg(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu", not(miri)))]
mod place {
    use super::{ALIGN, BYTES, Block};

    std::arch::global_asm!(
        ".pushsection .tbss.usersock_near, \"awT\", @nobits",
        ".balign {align}",
        ".globl usersock_near",
        ".hidden usersock_near",
        ".type usersock_near, @object",
        ".size usersock_near, {bytes}",
        "usersock_near:",
        ".zero {bytes}",
        ".popsection",
        bytes = const BYTES,
        align = const ALIGN,
    );

    #[inline]
    pub(super) fn block() -> &'static Block {
        let at: *const Block;
        // SAFETY: computes an address, the same one at any time in a thread. A descriptor's function preserves all
        // registers but rax. That of glibc before 2.39 does so with the general ones, but may not with the others
        // where it allocates (bug 31372): they are taken to be lost.
        unsafe {
            std::arch::asm!(
                "leaq usersock_near@tlsdesc(%rip), %rax",
                "call *usersock_near@tlscall(%rax)",
                "addq %fs:0, %rax",
                out("rax") at,
                out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _,
                out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _, out("xmm16") _, out("xmm17") _,
                out("xmm18") _, out("xmm19") _, out("xmm20") _, out("xmm21") _, out("xmm22") _, out("xmm23") _,
                out("xmm24") _, out("xmm25") _, out("xmm26") _, out("xmm27") _, out("xmm28") _, out("xmm29") _,
                out("xmm30") _, out("xmm31") _, out("k0") _, out("k1") _, out("k2") _, out("k3") _, out("k4") _,
                out("k5") _, out("k6") _, out("k7") _, out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
                out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _, out("mm0") _, out("mm1") _,
                out("mm2") _, out("mm3") _, out("mm4") _, out("mm5") _, out("mm6") _, out("mm7") _,
                options(att_syntax, pure, nomem),
            );
        }
        // SAFETY: `usersock_near` has the size and alignment of a `Block` and is zero at first, which is a value of
        // each field. Only this thread reaches it, and only by shared references, which do not leave it (`Cell`).
        unsafe { &*at }
    }
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu", not(miri))))]
mod place {
    use super::{Block, VALUES};
    use std::cell::Cell;
    use std::sync::atomic::AtomicU8;

    thread_local! {
        static BLOCK: Block = const {
            Block {
                shard: Cell::new(0),
                owned: Cell::new(0),
                cancelled: Cell::new(false),
                wakes: Cell::new(false),
                handled: AtomicU8::new(0),
                xmits: Cell::new(0),
                number: Cell::new(0),
                softirq: Cell::new(0),
                raised: Cell::new(0),
                call: crate::sys::in_call::InCall::new(),
                values: [const { Cell::new(std::ptr::null()) }; VALUES],
            }
        };
    }

    pub(super) fn block() -> &'static Block {
        // SAFETY: it has no destructor, so its memory is valid as long as the thread; a reference does not leave the
        // thread (`Cell`).
        BLOCK.with(|block| unsafe { &*std::ptr::from_ref(block) })
    }
}

#[cfg(test)]
mod tests {
    use super::here;
    use std::cell::RefCell;
    use std::sync::atomic::{AtomicUsize, Ordering};

    near_local! {
        static LIST at Test: RefCell<Loud> = RefCell::new(Loud(Vec::new()));
    }
    static DROPPED: AtomicUsize = AtomicUsize::new(0);

    pub(crate) struct Loud(Vec<u32>);
    impl Drop for Loud {
        fn drop(&mut self) {
            // It is not reached any more; the block is.
            let gone = LIST.try_with(|_| ()).is_none() && here().owned.get() == 9;
            DROPPED.fetch_add(if gone { self.0.len() } else { 100 }, Ordering::SeqCst);
        }
    }

    #[test]
    fn each_thread_has_a_block_and_values_of_its_own_which_end_with_it() {
        let len = || LIST.try_with(|l| l.borrow().0.len());
        for round in 1..=2 {
            let work = move || {
                assert_eq!((here().owned.get(), len()), (0, Some(0)));
                here().owned.set(9);
                (0..3).for_each(|n| LIST.try_with(|l| l.borrow_mut().0.push(n)).unwrap());
                assert_eq!((here().owned.get(), len()), (9, Some(3)));
            };
            std::thread::spawn(work).join().unwrap();
            assert_eq!(DROPPED.load(Ordering::SeqCst), 3 * round);
        }
    }
}
