//! Links of a world from C. Below: `sim_world`, `World::link`, `device::link`, `device::pcap`.

use crate::boundary::boundary;
use crate::note::noted;
use crate::ptr;
use crate::sim_world::{Here, Object, find, give, usk_world_t, world_of};
use std::ffi::{c_char, c_int, c_uint};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Weak};
use usersock::config::{self, ConfigError};
use usersock::device::link::Fate;
use usersock::device::pcap;
use usersock::error::{Error, Result};
use usersock::sim::world::End;
use usersock::stack::Stack;

/// A link of two hosts of a world; made by usk_world_link. A handle is a number and points to nothing.
#[allow(non_camel_case_types)]
pub struct usk_link_t {
    _opaque: [u8; 0],
}

/// The link carries Ethernet frames, with ARP and neighbour discovery, and not IP datagrams alone.
pub const USK_SIM_ETHERNET: c_uint = 1;
/// The queue in front of the link's rate is the sender's own: a socket stays charged for what is in it, and it is never
/// too full but makes the sender wait. Without: it is a router's, which the sender does not see.
pub const USK_SIM_OWN_QUEUE: c_uint = 2;
/// Super-packets and partial checksums pass as they are: fast, but not what a wire carries. Not with corruption.
pub const USK_SIM_OFFLOAD: c_uint = 4;

/// What has become of the packets sent from one end of a link, since it was made.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
#[repr(C)]
pub struct usk_link_stats_t {
    /// Packets handed to the link.
    pub sent: u64,
    /// Their bytes, link headers included.
    pub sent_bytes: u64,
    /// Of those, lost by chance.
    pub lost: u64,
    /// Lost because the queue was full.
    pub overflowed: u64,
    /// Marked as having experienced congestion (RFC 3168).
    pub marked: u64,
    /// Delayed so that others passed them.
    pub reordered: u64,
    /// Sent twice.
    pub duplicated: u64,
    /// Corrupted.
    pub corrupted: u64,
    /// Packets that arrived at the other end.
    pub received: u64,
    /// Their bytes.
    pub received_bytes: u64,
}

fn stats(f: &Fate) -> usk_link_stats_t {
    usk_link_stats_t {
        sent: f.sent,
        sent_bytes: f.bytes,
        lost: f.lost,
        overflowed: f.overflowed,
        marked: f.marked,
        reordered: f.reordered,
        duplicated: f.duplicated,
        corrupted: f.corrupted,
        received: f.received,
        received_bytes: f.received_bytes,
    }
}

/// A link, and the hosts at its ends.
pub(crate) struct Link {
    of: Weak<Here>,
    stacks: [Arc<Stack>; 2],
    ends: [End; 2],
}

impl Link {
    /// EINVAL for an end that is neither 0 nor 1.
    fn end(&self, end: c_int) -> Result<(&Arc<Stack>, &End)> {
        let at = usize::try_from(end).ok().filter(|at| *at < 2).ok_or(Error::Inval)?;
        Ok((&self.stacks[at], &self.ends[at]))
    }
}

impl Object for Link {
    fn is_of(&self, world: &Arc<Here>) -> bool {
        std::ptr::eq(self.of.as_ptr(), Arc::as_ptr(world))
    }

    /// Completes the captures that run. The error is the first one's.
    fn complete(&self) -> Result<()> {
        let mut written = Ok(());
        for end in &self.ends {
            if end.dev.device().as_pcap().is_some() {
                written = written.and(pcap::stop(&end.dev).map_err(io_error));
            }
        }
        written
    }
}

/// EBADF: there is none with this handle.
fn link_of(handle: *mut usk_link_t) -> Result<Arc<Link>> {
    find(handle)
}

fn io_error(e: io::Error) -> Error {
    e.raw_os_error().and_then(Error::try_from_errno).unwrap_or(Error::Io)
}

/// Joins two hosts of a world, which are named, by a link; end 0 is `a`'s and end 1 is `b`'s. `settings` are those of
/// link= in a configuration (docs/config.md), in the words of tc-netem(8), with blanks between; null for a perfect
/// wire. A word without direction is for both, out. is from `a` to `b`, in. is from `b` to `a`:
///
/// - rate=10mbit: bits a second, link header included (bit, kbit, mbit, gbit); without: no limit
/// - delay=20ms: propagation delay of each way (us, ms, s)
/// - jitter=1ms: added to it, uniformly from 0 to this; does not reorder
/// - queue=100kb: bytes that the queue in front of the rate holds (b, kb, mb); what does not fit is lost
/// - limit=100: the same in packets
/// - drop=head: a full queue loses its oldest packet, not the one that comes; if the queue is the sender's own
///   (USK_SIM_OWN_QUEUE), TCP is told (NET_XMIT_CN) and reduces its window
/// - ecn=30kb: queue length from which on ECN-capable packets are marked
/// - loss=2%: share of packets lost; of each packet by itself
/// - reorder=1%: share of packets delayed further, by reorder-by=2ms, while later ones pass
/// - duplicate=1%: share of packets that arrive twice
/// - corrupt=1%: share of packets with one bit flipped
/// - seed=7: of this link's chances; without: one of the world's seed
///
/// `mtu` is the longest IP datagram in bytes, 0 for 1500; `flags` are USK_SIM_.... Link number n of a world, counted
/// from 1, has the addresses 10.n.0.1/24 at end 0 and 10.n.0.2/24 at end 1, addresses of IPv6 in a network of their own
/// (usk_link_addr returns all of them), and devices named sim1, sim2 and so on. Null with errno EBADF, EINVAL, ENOENT
/// (no such host) or ENOSPC (255 links); usk_config_error returns the reason.
/// # Safety
/// `a` and `b` are strings; `settings` is null or a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_world_link(
    world: *mut usk_world_t,
    a: *const c_char,
    b: *const c_char,
    settings: *const c_char,
    mtu: c_uint,
    flags: c_uint,
) -> *mut usk_link_t {
    boundary(|| {
        let here = world_of(world)?;
        // SAFETY: strings, as the caller guarantees.
        let (a, b, text) =
            unsafe { (ptr::string(a)?, ptr::string(b)?, if settings.is_null() { "" } else { ptr::string(settings)? }) };
        let refuse = |why: String| noted(ConfigError::new(why, Error::Inval));
        if flags & !(USK_SIM_ETHERNET | USK_SIM_OWN_QUEUE | USK_SIM_OFFLOAD) != 0 {
            return Err(refuse(format!("flags {flags:#x}: not USK_SIM_...")));
        }
        let (config, seed) = config::link(text).map_err(noted)?;
        let config = config
            .mtu(if mtu == 0 { 1500 } else { mtu })
            .ethernet(flags & USK_SIM_ETHERNET != 0)
            .own_queue(flags & USK_SIM_OWN_QUEUE != 0)
            .offload(flags & USK_SIM_OFFLOAD != 0);
        let stacks = [here.host(a)?, here.host(b)?];
        let ends = here.world.link_seeded(&stacks[0], &stacks[1], &config, seed).map_err(|e| match e {
            Error::Inval => refuse(format!("mtu {mtu}: not 68 to 65535, or corrupt= with USK_SIM_OFFLOAD")),
            e => noted(ConfigError::new(format!("link of {a:?} and {b:?}: {e}"), e)),
        })?;
        Ok(give(Arc::new(Link { of: Arc::downgrade(&here), stacks, ends })))
    })
}

/// Changes what a link does to packets that are sent from now on: `settings` as for usk_world_link, all of them, but
/// seed=, which stays what it was. Also while the world runs, in one of its threads. Returns 0, or -1 with errno EBADF
/// or EINVAL; usk_config_error returns the reason.
/// # Safety
/// `settings` is null or a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_link_set(link: *mut usk_link_t, settings: *const c_char) -> c_int {
    boundary(|| {
        let link = link_of(link)?;
        // SAFETY: a string, as the caller guarantees.
        let text = if settings.is_null() { "" } else { unsafe { ptr::string(settings) }? };
        let refuse = |why: &str| noted(ConfigError::new(format!("link={text}: {why}"), Error::Inval));
        let (config, seed) = config::link(text).map_err(noted)?;
        if seed.is_some() {
            return Err(refuse("the seed of a link does not change"));
        }
        let offload = |_| refuse("corrupt= with USK_SIM_OFFLOAD");
        // What one end refuses the other does too: nothing is changed by half.
        link.ends[0].link.set_direction(config.forth).map_err(offload)?;
        link.ends[1].link.set_direction(config.back).map_err(offload)?;
        Ok(0)
    })
}

/// What has become of the packets sent from `end` (0 or 1) of a link. Fills `stats`, of `size` bytes, which is
/// sizeof(usk_link_stats_t): a program compiled against an older header gets what it knows, and for a newer one what
/// the library does not know is zero. Returns 0, or -1 with errno EBADF, EFAULT, or EINVAL (no such end).
/// # Safety
/// `stats` is writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_link_stats(
    link: *mut usk_link_t,
    end: c_int,
    stats: *mut usk_link_stats_t,
    size: usize,
) -> c_int {
    boundary(|| {
        let link = link_of(link)?;
        let have = self::stats(&link.end(end)?.1.link.fate());
        // SAFETY: writable by the caller's word.
        let to = unsafe { ptr::bytes_mut(stats.cast(), size) }?;
        // SAFETY: numbers without padding between them, alive as long as they are read.
        let from = unsafe { std::slice::from_raw_parts(std::ptr::from_ref(&have).cast::<u8>(), size_of_val(&have)) };
        let known = from.len().min(to.len());
        to[..known].copy_from_slice(&from[..known]);
        to[known..].fill(0);
        Ok(0)
    })
}

/// The address of `end` (0 or 1) of a link, of family AF_INET or AF_INET6, with `port` in host order, as getsockname(2)
/// returns one. Returns 0, or -1 with errno EAFNOSUPPORT, EBADF, EFAULT, or EINVAL (no such end, a negative length).
/// # Safety
/// `len` points to the number of bytes for which `addr` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_link_addr(
    link: *mut usk_link_t,
    end: c_int,
    family: c_int,
    port: u16,
    addr: *mut libc::sockaddr,
    len: *mut libc::socklen_t,
) -> c_int {
    boundary(|| {
        let link = link_of(link)?;
        let (_, end) = link.end(end)?;
        let ip = match family {
            libc::AF_INET => end.v4.into(),
            libc::AF_INET6 => end.v6.into(),
            _ => return Err(Error::AfNoSupport),
        };
        // SAFETY: the caller vouches for `addr` and `len`.
        unsafe { ptr::put_name(Some(SocketAddr::new(ip, port)), addr, len) }?;
        Ok(0)
    })
}

/// Captures the packets of `end` (0 or 1) of a link into a pcap file, from now on, with the world's times. Returns 0,
/// or -1 with errno EBADF, EBUSY (a capture runs), EINVAL (no such end) or the error of creating the file.
/// # Safety
/// `file` is a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_link_pcap_start(link: *mut usk_link_t, end: c_int, file: *const c_char) -> c_int {
    boundary(|| {
        let link = link_of(link)?;
        let (stack, end) = link.end(end)?;
        // SAFETY: the caller vouches for it.
        let file = unsafe { ptr::string(file) }?;
        pcap::start(&end.dev, Path::new(file), stack).map_err(io_error)?;
        Ok(0)
    })
}

/// Ends a capture and completes its file. Returns 0, or -1 with errno EBADF, EINVAL (no such end, or none runs) or the
/// error of writing it.
#[unsafe(no_mangle)]
pub extern "C" fn usk_link_pcap_stop(link: *mut usk_link_t, end: c_int) -> c_int {
    boundary(|| {
        let link = link_of(link)?;
        pcap::stop(&link.end(end)?.1.dev).map_err(io_error)?;
        Ok(0)
    })
}
