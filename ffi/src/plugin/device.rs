//! `struct usk_device_ops`: kinds of devices written in C, for `device=KIND:ARGUMENT` of a configuration and for
//! usk_device_add. The Rust traits behind it are `usersock::device::{Device, types::DeviceKind}`. What a device answers
//! is checked; one that breaks its word is broken (it sends and receives nothing any more), and the stack goes on.

use super::gate::{kernel, obj_mut};
use super::lists::usk_sysctl_t;
use super::registration::{self, Registered, Registration, begins_with_head, usk_reg_t};
use super::skb::{self, usk_skb_t};
use super::table::Table;
use crate::boundary::boundary;
use crate::held::{contain, status};
use crate::loader::usk_plugin_t;
use crate::note;
use crate::note::{note, noted, noted_line};
use crate::ptr::string;
use crate::stacks::{stack_of, usk_stack_t};
use std::cell::Cell;
use std::ffi::{CString, c_char, c_int, c_void};
use std::io;
use std::mem::offset_of;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use usersock::config::Config;
use usersock::device::types::{DeviceArgs, DeviceKind};
use usersock::device::{Caps, DevStats, Device, LinkType, Xmit};
use usersock::env::Instant;
use usersock::error::{Error, Result};
use usersock::sock::skb::Skb;
use usersock::stack::Stack;
use usersock::wire::ether::{HEADER_LEN, MacAddr};

/// `version` of struct usk_device_ops.
pub const USK_DEVICE_VERSION: u32 = 1;
/// usk_device_info_t.link: IP datagrams without link header.
pub const USK_LINK_IP: u32 = 0;
/// usk_device_info_t.link: Ethernet frames.
pub const USK_LINK_ETHERNET: u32 = 1;
/// Most queue pairs of a device.
const MAX_QUEUES: u32 = 256;

/// How a device is wanted: open's argument.
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct usk_device_args_t {
    /// What follows KIND: in the configuration.
    pub argument: *const c_char,
    /// The interface's name.
    pub name: *const c_char,
    /// mtu=, bytes; 0: none was given. A device that cannot have it refuses.
    pub mtu: u32,
    /// 1: mac= was given, and is in `mac`.
    pub has_mac: u8,
    /// The hardware address wanted.
    pub mac: [u8; 6],
    /// 0.
    pub reserved: u8,
    /// The registration, for usk_count, usk_sysctl and usk_user: valid as long as the device.
    pub reg: *mut usk_reg_t,
}

/// What a device is: open fills it in. It is given with link USK_LINK_IP, an MTU of 1500 or the one wanted, and one
/// queue. Checksums and segmentation are done before a packet reaches the device.
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct usk_device_info_t {
    /// USK_LINK_IP or USK_LINK_ETHERNET.
    pub link: u32,
    /// Largest IP datagram, bytes: 68 to 65535.
    pub mtu: u32,
    /// Queue pairs: 1 to 256.
    pub queues: u32,
    /// Hardware address of an Ethernet device.
    pub mac: [u8; 6],
    /// 0.
    pub reserved: [u8; 2],
}

/// Where recv puts its packets.
#[allow(non_camel_case_types)]
pub struct usk_sink_t {
    _opaque: [u8; 0],
}

/// A kind of device. Functions are called from any thread: one at a time receives from a queue, any number transmit.
/// None may sleep, and none may call sockets of the stack. A device lives as long as its stack.
///
/// A return value above 0, or below -4095, of recv or xmit breaks the device: none of its functions but close is called
/// any more, what is sent by it is dropped, and the stack goes on. No exception of C++ and no panic of a Rust shared
/// object may leave a function. What catches one returns 1 in recv and xmit, -2 in poll_fd, a negative errno in open,
/// which both refuse the device. next_event and has_pending note it for recv and xmit, of which the next one called
/// returns 1, and return UINT64_MAX and 1. In close there is nothing left to break.
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct usk_device_ops {
    /// USK_DEVICE_VERSION.
    pub version: u32,
    /// sizeof(struct usk_device_ops). What a shorter table lacks is null.
    pub size: u32,
    /// 1 to 15 printable characters without colon, comma and equals sign: the KIND of device=KIND:ARGUMENT; unique in a
    /// stack. Required.
    pub name: *const c_char,
    /// Names of counters of its own (usk_count), ended by null; null: none. Letters and digits, unique in a stack, read
    /// by usk_mib_read.
    pub mib_names: *const *const c_char,
    /// Sysctls of its own (usk_sysctl), net.NAME. and their names, ended by one with a null name; null: none.
    pub sysctls: *const usk_sysctl_t,

    /// Makes a device: fills `*info` and `*device`, which the other functions get. Returns 0 or a negative errno;
    /// usk_device_refuse can say why. Required.
    pub open: Option<
        unsafe extern "C-unwind" fn(
            args: *const usk_device_args_t,
            info: *mut usk_device_info_t,
            device: *mut *mut c_void,
        ) -> c_int,
    >,
    /// Ends a device: no other function of it runs any more. Null: nothing.
    pub close: Option<unsafe extern "C-unwind" fn(device: *mut c_void)>,
    /// Hands over up to `budget` packets that have arrived, each by usk_device_rx, and returns 0, or a negative errno:
    /// nothing more comes just now, as for 0. Without a packet it returns at once. `now` is the stack's time,
    /// nanoseconds. Required.
    pub recv: Option<
        unsafe extern "C-unwind" fn(
            device: *mut c_void,
            queue: u32,
            now: u64,
            budget: usize,
            sink: *mut usk_sink_t,
        ) -> c_int,
    >,
    /// Sends a packet, of which usk_skb_copy and usk_skb_header give the bytes; it stays the stack's, and what is to be
    /// kept is copied or shared (usk_skb_share). Returns 0: sent; -EAGAIN, -EWOULDBLOCK or -EBUSY: full now, the stack
    /// keeps it and tries again when poll_fd polls writable (without one: whenever the stack runs next); another
    /// negative errno: refused, dropped and counted. Required.
    pub xmit:
        Option<unsafe extern "C-unwind" fn(device: *mut c_void, queue: u32, now: u64, skb: *mut usk_skb_t) -> c_int>,
    /// A descriptor that polls readable when recv of this queue has something, the same one always, or -1: asked once.
    /// Who waits for a packet waits in it. Null, or -1: a device in memory, see next_event and has_pending. One that
    /// has failed (POLLERR, POLLHUP, POLLNVAL with nothing to receive) brings the interface down.
    pub poll_fd: Option<unsafe extern "C-unwind" fn(device: *mut c_void, queue: u32) -> c_int>,
    /// When recv has something next, nanoseconds of the stack's time; UINT64_MAX: only what is sent changes anything.
    /// Null: that.
    pub next_event: Option<unsafe extern "C-unwind" fn(device: *mut c_void, queue: u32) -> u64>,
    /// 1: recv has something in memory now, so that the thread that sent it takes it before it returns. Null: 0.
    pub has_pending: Option<unsafe extern "C-unwind" fn(device: *mut c_void, queue: u32) -> c_int>,
}

// SAFETY: repr(C), begins with two u32; null pointers, None and zero are valid for every field.
unsafe impl Table for usk_device_ops {
    const NAME: &'static str = "struct usk_device_ops";
    const VERSION: u32 = USK_DEVICE_VERSION;
    const FIRST_SIZE: usize = size_of::<usk_device_ops>();
}

const _: () = assert!(begins_with_head(
    offset_of!(usk_device_ops, name),
    offset_of!(usk_device_ops, mib_names),
    offset_of!(usk_device_ops, sysctls)
));

type KindReg = Registration<usk_device_ops>;

/// One more for each device of the kind that lives.
#[derive(Default)]
pub(crate) struct Devices(Arc<()>);

// SAFETY: begins with those members, as asserted; a plug-in says that its functions may be called from any thread.
unsafe impl Registered for usk_device_ops {
    type Own = Devices;

    fn check(&self, _: &str) -> std::result::Result<(), String> {
        let required = [("open", self.open.is_some()), ("recv", self.recv.is_some()), ("xmit", self.xmit.is_some())];
        match required.iter().find(|(_, there)| !there) {
            Some((what, _)) => Err(format!("{what} is null")),
            None => Ok(()),
        }
    }

    fn enter(reg: &Arc<KindReg>, stack: &Arc<Stack>) -> std::result::Result<(), (Error, String)> {
        stack.device_kinds.register(Arc::new(Kind(reg.clone()))).map_err(|e| match e {
            Error::Inval => {
                (e, "a name is 1 to 15 printable characters without colon, comma and equals sign".to_owned())
            }
            e => (e, e.to_string()),
        })
    }

    fn leave(reg: &KindReg, stack: &Arc<Stack>) -> Result<()> {
        // The registration's own: the rest are devices.
        if Arc::strong_count(&reg.own.0) > 1 {
            return Err(Error::Busy);
        }
        stack.device_kinds.unregister(&reg.name)
    }
}

/// A registration as the registry has it.
struct Kind(Arc<KindReg>);

#[derive(Default)]
struct Stats {
    rx_packets: AtomicU64,
    rx_bytes: AtomicU64,
    rx_dropped: AtomicU64,
    tx_packets: AtomicU64,
    tx_bytes: AtomicU64,
    tx_dropped: AtomicU64,
}

fn add(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Ordering::Relaxed);
}

/// A device of a C kind.
struct CDevice {
    reg: Arc<KindReg>,
    name: String,
    device: *mut c_void,
    caps: Caps,
    /// By queue.
    fds: Vec<Option<RawFd>>,
    /// It broke its word.
    broken: AtomicBool,
    stats: Stats,
    _lives: Arc<()>,
}

// SAFETY: `device` is the plug-in's, whose functions may be called from any thread by its word.
unsafe impl Send for CDevice {}
// SAFETY: as above.
unsafe impl Sync for CDevice {}

impl std::fmt::Debug for CDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.name, self.reg.name)
    }
}

type Refusal = (Error, Option<String>);

impl DeviceKind for Kind {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn open(&self, _: &Arc<Stack>, args: &DeviceArgs<'_>) -> std::result::Result<Arc<dyn Device>, Refusal> {
        let plain = |error| (error, None);
        let because = |error, why: &str| (error, Some(why.to_owned()));
        let text = |s: &str| CString::new(s).map_err(|_| because(Error::Inval, "a NUL in it"));
        let (argument, name) = (text(args.argument)?, text(args.name)?);
        let asked = usk_device_args_t {
            argument: argument.as_ptr(),
            name: name.as_ptr(),
            mtu: args.mtu.unwrap_or(0),
            has_mac: args.mac.is_some().into(),
            mac: args.mac.map_or([0; 6], |m| m.0),
            reserved: 0,
            reg: self.0.handle(),
        };
        let mut info = usk_device_info_t {
            link: USK_LINK_IP,
            mtu: args.mtu.unwrap_or(1500),
            queues: 1,
            mac: asked.mac,
            reserved: [0; 2],
        };
        let mut device = ptr::null_mut();
        let open = self.0.table.open.ok_or_else(|| plain(Error::Inval))?;
        note("");
        // SAFETY: the table's function, called as it says: arguments and results live while it runs.
        let r = contain(|| unsafe { open(&asked, &mut info, &mut device) }).and_then(|r| status(r.into()));
        r.map_err(|e| (e, Some(noted_line()).filter(|l| !l.is_empty())))?;
        let mut dev = CDevice {
            reg: self.0.clone(),
            name: args.name.to_owned(),
            device,
            caps: Caps::ip(info.mtu),
            fds: Vec::new(),
            broken: AtomicBool::new(false),
            stats: Stats::default(),
            _lives: self.0.own.0.clone(),
        };
        // From here on `dev` closes what is open.
        dev.caps.link = match info.link {
            USK_LINK_IP => LinkType::Ip,
            USK_LINK_ETHERNET if info.mac[0] & 1 == 0 && info.mac != [0; 6] => LinkType::Ethernet(MacAddr(info.mac)),
            USK_LINK_ETHERNET => return Err(because(Error::Io, "the device's hardware address is none")),
            _ => return Err(because(Error::Io, "the device's link is of no known kind")),
        };
        if !(68..=65_535).contains(&info.mtu) || !(1..=MAX_QUEUES).contains(&info.queues) {
            return Err(because(Error::Io, "the device's MTU is not 68 to 65535, or its queues not 1 to 256"));
        }
        dev.caps.queues = info.queues as u16;
        for queue in 0..info.queues {
            let fd = match dev.reg.table.poll_fd {
                // SAFETY: the table's function, called as it says.
                Some(f) => contain(|| unsafe { f(dev.device, queue) }).map_err(plain)?,
                None => -1,
            };
            // A descriptor that is none would make every wait return at once.
            // SAFETY: F_GETFD looks at a number.
            if fd < -1 || (fd >= 0 && unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0) {
                return Err(because(Error::Io, "the device's poll_fd is no descriptor"));
            }
            dev.fds.push((fd >= 0).then_some(fd));
        }
        Ok(Arc::new(dev))
    }
}

thread_local! {
    /// The sink of the recv that runs on this thread, while no packet of it is on its way through the stack.
    static SINK: Cell<*mut usk_sink_t> = const { Cell::new(ptr::null_mut()) };
}

/// What is behind a [`usk_sink_t`].
struct Sink<'a> {
    dev: &'a CDevice,
    now: Instant,
    left: usize,
    taken: usize,
    to: &'a mut dyn FnMut(Skb),
}

impl Sink<'_> {
    fn take(&mut self, mut skb: Skb) {
        let stats = &self.dev.stats;
        let (least, most) = match self.dev.caps.link {
            LinkType::Ip => (1, self.dev.caps.mtu as usize),
            LinkType::Ethernet(_) => (HEADER_LEN, HEADER_LEN + self.dev.caps.mtu as usize),
        };
        if self.left == 0 || !(least..=most).contains(&skb.len()) {
            add(&stats.rx_dropped, 1);
            return;
        }
        if skb.head_len() > 0 || skb.owner.is_some() || skb.gso_size != 0 || skb.rx.is_some() {
            // One that was sent, or had headers put in front: what arrives is bytes, and nothing that was known of
            // them.
            skb = Skb::from_slice(&skb.to_vec());
        }
        skb.tstamp = self.now;
        self.left -= 1;
        self.taken += 1;
        add(&stats.rx_packets, 1);
        add(&stats.rx_bytes, skb.len());
        (self.to)(skb);
    }
}

impl CDevice {
    fn fail(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }

    fn whole(&self) -> bool {
        !self.broken.load(Ordering::Relaxed)
    }

    /// Calls a function; None: the device is broken, or is now.
    fn call<R>(&self, f: impl FnOnce(*mut c_void) -> R) -> Option<R> {
        if !self.whole() {
            return None;
        }
        let r = contain(|| f(self.device));
        if r.is_err() {
            self.fail();
        }
        r.ok()
    }

    /// The answer of a function: 0 or a negative errno. Anything else breaks the device.
    fn checked(&self, r: c_int) -> Result<()> {
        if !(-4095..=0).contains(&r) {
            self.fail();
        }
        status(r.into())
    }
}

fn to_io(e: Error) -> io::Error {
    io::Error::from_raw_os_error(e.errno())
}

// SAFETY of the calls below, each: the table's function, called as it says; arguments live while it runs.
impl Device for CDevice {
    fn name(&self) -> &str {
        &self.name
    }

    fn caps(&self) -> Caps {
        self.caps
    }

    fn recv(&self, queue: u16, now: Instant, budget: usize, sink: &mut dyn FnMut(Skb)) -> io::Result<usize> {
        let Some(f) = self.reg.table.recv else { return Ok(0) };
        let mut s = Sink { dev: self, now, left: budget, taken: 0, to: sink };
        let to: *mut usk_sink_t = (&raw mut s).cast();
        let outer = SINK.replace(to);
        // SAFETY: see above.
        let r = self.call(|dev| unsafe { f(dev, queue.into(), now.as_nanos(), budget, to) });
        SINK.set(outer);
        match r.map(|r| self.checked(r)) {
            Some(Err(e)) if s.taken == 0 => Err(to_io(e)),
            _ => Ok(s.taken),
        }
    }

    fn xmit(&self, queue: u16, now: Instant, mut skb: Skb) -> Xmit {
        let len = skb.len();
        let lent = skb::lend(&mut skb);
        let f = self.reg.table.xmit;
        // SAFETY: see above.
        let r = f.and_then(|f| self.call(|dev| unsafe { f(dev, queue.into(), now.as_nanos(), lent) }));
        match r.map_or(Err(Error::Io), |r| self.checked(r)) {
            Ok(()) => {
                add(&self.stats.tx_packets, 1);
                add(&self.stats.tx_bytes, len);
                Xmit::Sent
            }
            Err(Error::Again | Error::Busy) => Xmit::Busy(skb),
            Err(e) => {
                add(&self.stats.tx_dropped, 1);
                Xmit::Dropped(to_io(e))
            }
        }
    }

    fn poll_fd(&self, queue: u16) -> Option<RawFd> {
        // A broken device empties its descriptor no more.
        self.fds.get(usize::from(queue)).copied().flatten().filter(|_| self.whole())
    }

    fn next_event(&self, queue: u16) -> Option<Instant> {
        let f = self.reg.table.next_event?;
        // SAFETY: see above.
        let at = self.call(|dev| unsafe { f(dev, queue.into()) })?;
        (at != u64::MAX).then(|| Instant::from_nanos(at))
    }

    fn has_pending(&self, queue: u16) -> bool {
        let f = self.reg.table.has_pending;
        // SAFETY: see above.
        f.and_then(|f| self.call(|dev| unsafe { f(dev, queue.into()) })).is_some_and(|r| r != 0)
    }

    fn stats(&self) -> DevStats {
        let s = &self.stats;
        let get = |c: &AtomicU64| c.load(Ordering::Relaxed);
        let mut sum = DevStats::default();
        (sum.rx_packets, sum.rx_bytes, sum.rx_dropped) = (get(&s.rx_packets), get(&s.rx_bytes), get(&s.rx_dropped));
        (sum.tx_packets, sum.tx_bytes, sum.tx_dropped) = (get(&s.tx_packets), get(&s.tx_bytes), get(&s.tx_dropped));
        sum
    }
}

impl Drop for CDevice {
    fn drop(&mut self) {
        if let Some(f) = self.reg.table.close {
            // SAFETY: the table's function, called as it says, once, and last. What unwinds out of it has nowhere to
            // go.
            let _ = contain(|| unsafe { f(self.device) });
        }
    }
}

/// recv hands over a packet. Takes `skb`, always. Returns 0; -ENOBUFS, dropped and counted: more than the budget,
/// empty, shorter than a link header, or larger than the MTU; -EINVAL, dropped: no recv with this sink is running on
/// this thread, as in xmit, or after recv returned.
/// # Safety
/// `skb` is the caller's, and not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_device_rx(sink: *mut usk_sink_t, skb: *mut usk_skb_t) -> c_int {
    kernel(|| {
        // SAFETY: the caller gives the packet up.
        let skb = unsafe { skb::take(skb) }?;
        if sink.is_null() || SINK.get() != sink {
            return Err(Error::Inval);
        }
        // Not twice at once: the stack may send in answer to a packet, and the plug-in be called for that.
        SINK.set(ptr::null_mut());
        // SAFETY: what is in SINK is the sink of a recv further down this thread's stack, which waits, and nobody else
        // has it now.
        let s = unsafe { obj_mut(sink.cast::<Sink<'_>>()) }?;
        let before = s.taken;
        s.take(skb);
        let taken = s.taken > before;
        SINK.set(sink);
        if taken { Ok(0) } else { Err(Error::NoBufs) }
    })
}

/// Says in a line why open refuses, for usk_config_error. Returns -EINVAL, for open to return.
/// # Safety
/// `line` is a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_device_refuse(line: *const c_char) -> c_int {
    kernel(|| {
        // SAFETY: a string by the caller's word.
        let line = unsafe { string(line) }?;
        Err(note::refused(line.to_owned()))
    })
}

/// Registers a kind of device in the plug-in's stack. `user` is for usk_user; `*out`, unless null, gets the
/// registration. Returns 0, or a negative errno, and usk_config_error says why in a line: -EINVAL the table does not
/// fit, -EEXIST the name, a counter or a sysctl is taken.
/// # Safety
/// `plugin` is valid; `table` points to as many bytes as its size says, its strings and lists are ended; `out` is null
/// or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_device_register(
    plugin: *mut usk_plugin_t,
    table: *const usk_device_ops,
    user: *mut c_void,
    out: *mut *mut usk_reg_t,
) -> c_int {
    // SAFETY: the caller vouches for plug-in, table and `out`.
    kernel(|| unsafe { registration::register(plugin, table, user, out) })
}

/// Adds a device of a plugged-in kind to a stack (null: the default one) that is there already. `config` is as usk_init
/// takes it, of the keys device, mac, mtu, addr, gw, route and pcap:
/// "device=udp:127.0.0.1:7001/127.0.0.1:7002,addr=10.9.0.1/24". Returns 0, or -1 with errno EINVAL or what opening
/// gave, and usk_config_error says why.
/// # Safety
/// `stack` is null or from usk_stack_new; `config` is a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_device_add(stack: *mut usk_stack_t, config: *const c_char) -> c_int {
    boundary(|| {
        // SAFETY: the caller vouches for both.
        let (stack, config) = unsafe { (stack_of(stack)?, string(config)?) };
        Config::parse(config).and_then(|c| c.add_to(&stack)).map_err(noted)?;
        Ok(0)
    })
}
