//! `struct usk_device_ops`: kinds of devices written in C, for `device=KIND:ARGUMENT` of a configuration and for
//! usk_device_add. The Rust traits behind it are `usersock::device::{Device, types::DeviceKind}`. Return values are
//! checked; a device that violates its contract is broken (it sends and receives nothing any more), and the stack goes
//! on.

use super::gate::{kernel, obj_mut};
use super::lists::usk_sysctl_t;
use super::registration::{self, Registered, Registration, begins_with_head, usk_reg_t};
use super::skb::{self, usk_skb_t};
use super::table::Table;
use crate::boundary::boundary;
use crate::held::{contain, status};
use crate::library::usk_plugin_t;
use crate::loader::TableKind;
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

/// The configuration of a device: open's argument.
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct usk_device_args_t {
    /// The text after KIND: in the configuration.
    pub argument: *const c_char,
    /// The interface's name.
    pub name: *const c_char,
    /// mtu=, bytes; 0: not given. A device that cannot support it returns an error.
    pub mtu: u32,
    /// 1: mac= was given, and is in `mac`.
    pub has_mac: u8,
    /// The requested hardware address.
    pub mac: [u8; 6],
    /// 0.
    pub reserved: u8,
    /// The registration, for usk_count, usk_sysctl and usk_user: valid as long as the device.
    pub reg: *mut usk_reg_t,
}

/// The properties of a device, which open fills in. Initially link is USK_LINK_IP, the MTU is the requested one or
/// 1500, and there is one queue. Checksums and segmentation are done before a packet reaches the device.
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

/// The destination of the packets of recv (usk_device_rx).
#[allow(non_camel_case_types)]
pub struct usk_sink_t {
    _opaque: [u8; 0],
}

/// A kind of device. Functions are called from any thread: one thread at a time receives from a queue, any number
/// transmit. None may sleep, and none may call sockets of the stack. A device lives as long as its stack.
///
/// A return value above 0, or below -4095, of recv or xmit breaks the device: none of its functions but close is called
/// any more, packets sent through it are dropped, and the stack goes on. No C++ exception and no panic of a Rust shared
/// object may leave a function. After catching one, recv and xmit return 1; poll_fd returns -2 and open a negative
/// errno, which refuse the device; next_event returns UINT64_MAX and has_pending returns 1, and the next recv or xmit
/// returns 1. In close nothing more is needed.
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct usk_device_ops {
    /// USK_DEVICE_VERSION.
    pub version: u32,
    /// sizeof(struct usk_device_ops). Members that a shorter table lacks are null.
    pub size: u32,
    /// 1 to 15 printable characters without colon, comma and equals sign: the KIND of device=KIND:ARGUMENT; unique in a
    /// stack. Required.
    pub name: *const c_char,
    /// Names of its counters (usk_count), a null-terminated list; null: none. Letters and digits, unique in a stack;
    /// usk_mib_read reads them.
    pub mib_names: *const *const c_char,
    /// Its sysctls (usk_sysctl), called net.NAME. and their names; the list ends with a null name; null: none.
    pub sysctls: *const usk_sysctl_t,

    /// Makes a device: fills `*info`, and `*device`, the argument of the other functions. Returns 0 or a negative
    /// errno; usk_device_refuse can give the reason. Required.
    pub open: Option<
        unsafe extern "C-unwind" fn(
            args: *const usk_device_args_t,
            info: *mut usk_device_info_t,
            device: *mut *mut c_void,
        ) -> c_int,
    >,
    /// Closes a device, when none of its other functions runs any more. Null: no action.
    pub close: Option<unsafe extern "C-unwind" fn(device: *mut c_void)>,
    /// Passes up to `budget` received packets to the stack, each by usk_device_rx, and returns 0 or a negative errno,
    /// which both mean that there is no more now. Never waits for a packet. `now` is the stack's time, nanoseconds.
    /// Required.
    pub recv: Option<
        unsafe extern "C-unwind" fn(
            device: *mut c_void,
            queue: u32,
            now: u64,
            budget: usize,
            sink: *mut usk_sink_t,
        ) -> c_int,
    >,
    /// Sends a packet; usk_skb_copy and usk_skb_header give its bytes. The stack keeps ownership: to use the packet
    /// later, copy or share it (usk_skb_share). Returns 0: sent; -EAGAIN, -EWOULDBLOCK or -EBUSY: the queue is full,
    /// and the stack keeps the packet and tries again when poll_fd polls writable (without a descriptor: the next time
    /// the stack runs); another negative errno: the packet is dropped and counted. Required.
    pub xmit:
        Option<unsafe extern "C-unwind" fn(device: *mut c_void, queue: u32, now: u64, skb: *mut usk_skb_t) -> c_int>,
    /// Returns a descriptor that polls readable when recv of this queue has a packet, or -1. Called once. A thread that
    /// waits for a packet polls it. Null, or -1: a device in memory, see next_event and has_pending. If the descriptor
    /// fails (POLLERR, POLLHUP or POLLNVAL with nothing to receive), the interface goes down.
    pub poll_fd: Option<unsafe extern "C-unwind" fn(device: *mut c_void, queue: u32) -> c_int>,
    /// When recv will have its next packet, nanoseconds of the stack's time; UINT64_MAX: not before something is sent.
    /// Null: as UINT64_MAX.
    pub next_event: Option<unsafe extern "C-unwind" fn(device: *mut c_void, queue: u32) -> u64>,
    /// 1: recv has a packet in memory now; the thread that sent it processes it before it returns. Null: 0.
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

/// The count is one more for each device of the kind that exists.
#[derive(Default)]
pub(crate) struct Devices(Arc<()>);

// SAFETY: begins with those members, as asserted; a plug-in says that its functions may be called from any thread.
unsafe impl Registered for usk_device_ops {
    type Own = Devices;
    const KIND: TableKind = TableKind::Device;

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
        // One count is the registration's; any others are devices.
        if Arc::strong_count(&reg.own.0) > 1 {
            return Err(Error::Busy);
        }
        stack.device_kinds.unregister(&reg.name)
    }
}

/// A registration as the registry holds it.
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
    /// It violated its contract.
    broken: AtomicBool,
    stats: Stats,
    _lives: Arc<()>,
}

// SAFETY: only the plug-in uses `device`, and it guarantees that its functions may be called from any thread.
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
        // SAFETY: the table's function, called as the table documents: arguments and results live while it runs.
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
        // From here on dropping `dev` closes the device.
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
                // SAFETY: the table's function, called as the table documents.
                Some(f) => contain(|| unsafe { f(dev.device, queue) }).map_err(plain)?,
                None => -1,
            };
            // An invalid descriptor would make every poll return at once. SAFETY: F_GETFD takes no pointer.
            if fd < -1 || (fd >= 0 && unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0) {
                return Err(because(Error::Io, "the device's poll_fd is no descriptor"));
            }
            dev.fds.push((fd >= 0).then_some(fd));
        }
        Ok(Arc::new(dev))
    }
}

thread_local! {
    /// The sink of the recv that runs on this thread; null while the stack processes a packet of it.
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
            // A packet that was sent before, or to which headers were pushed: it arrives as bytes, without the metadata
            // of a sent packet.
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

    /// Calls a function. None: the device was broken before, or the function broke it.
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

    /// Checks a return value: 0 or a negative errno; any other breaks the device.
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

// SAFETY of the calls below, each: the table's function, called as the table documents; arguments live while it runs.
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
        let lent = skb::lend(&mut skb, "xmit");
        let f = self.reg.table.xmit;
        // SAFETY: see above.
        let r = f.and_then(|f| self.call(|dev| unsafe { f(dev, queue.into(), now.as_nanos(), lent) }));
        let skb = skb::left(skb, "the end of xmit");
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
        // A broken device does not read its descriptor any more.
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
            // SAFETY: the table's function, called as the table documents, once, and last. A panic that leaves it is
            // discarded.
            let _ = contain(|| unsafe { f(self.device) });
        }
    }
}

/// Passes a received packet to the stack, during recv. Always consumes `skb`. Returns 0; -ENOBUFS, and the packet is
/// dropped and counted: more than the budget, empty, shorter than a link header, or larger than the MTU; -EINVAL, and
/// the packet is dropped: no recv with this sink is running on this thread (in xmit, or after recv returned).
/// # Safety
/// `skb` is the caller's, and not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_device_rx(sink: *mut usk_sink_t, skb: *mut usk_skb_t) -> c_int {
    kernel(|| {
        // SAFETY: the caller gives the packet up.
        let skb = unsafe { skb::take(skb, "usk_device_rx") }?;
        if sink.is_null() || SINK.get() != sink {
            return Err(Error::Inval);
        }
        // Not reentrant: the stack may send a reply to the packet, and call the plug-in's xmit.
        SINK.set(ptr::null_mut());
        // SAFETY: SINK pointed to the sink of a recv further down this thread's call stack, which is suspended in this
        // call, and SINK is null now: nobody else has it.
        let s = unsafe { obj_mut(sink.cast::<Sink<'_>>()) }?;
        let before = s.taken;
        s.take(skb);
        let taken = s.taken > before;
        SINK.set(sink);
        if taken { Ok(0) } else { Err(Error::NoBufs) }
    })
}

/// Sets the line that usk_config_error returns, the reason why open fails. Line breaks in it become blanks. Returns
/// -EINVAL, for open to return.
/// # Safety
/// `line` is a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_device_refuse(line: *const c_char) -> c_int {
    kernel(|| {
        // SAFETY: a string, as the caller guarantees.
        let line = unsafe { string(line) }?;
        Err(note::refused(line.to_owned()))
    })
}

/// Registers a kind of device in the plug-in's stack. `user` is for usk_user; `*out`, unless null, gets the
/// registration. Returns 0, or a negative errno, and usk_config_error says why in a line: -EINVAL the table does not
/// fit, -EEXIST the name, a counter or a sysctl is taken.
/// # Safety
/// `plugin` is valid; `table` points to as many bytes as its size says, its strings and lists are terminated; `out` is
/// null or writable.
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

/// Adds a device of a plugged-in kind to an existing stack (null: the default one). `config` is as for usk_init, with
/// the keys device, mac, mtu, addr, gw, route and pcap only:
/// "device=udp:127.0.0.1:7001/127.0.0.1:7002,addr=10.9.0.1/24". Returns 0, or -1 with errno EINVAL or the error of
/// open, and usk_config_error returns the reason.
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
