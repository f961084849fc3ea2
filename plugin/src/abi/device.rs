//! `struct usk_device_ops` of a [`DeviceKind`].

use super::contain::contain;
use super::home;
use super::reg::{Reg, Texts};
use crate::device::{Device, DeviceArgs, DeviceInfo, DeviceKind, Refusal};
use crate::errno::{CReturn, Errno, Result, status};
use crate::skb::{Packet, Skb};
use crate::sys::*;
use crate::time::Time;
use std::ffi::{CStr, CString, c_int, c_void};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};

/// The destination of the packets of `recv`.
pub struct Sink<'a> {
    raw: *mut usk_sink_t,
    of: PhantomData<&'a mut usk_sink_t>,
}

impl Sink<'_> {
    /// Passes a received packet to the stack. ENOBUFS: more than the budget, empty, shorter than a link header, or
    /// larger than the MTU; it is dropped and counted.
    pub fn rx(&mut self, skb: Skb) -> Result<()> {
        // SAFETY: recv's argument; the packet is given up.
        status(unsafe { usk_device_rx(self.raw, skb.give()) })
    }
}

/// An open device, and what belongs to it here.
struct Open<D> {
    device: D,
    /// Valid as long as the device.
    reg: *mut usk_reg_t,
    /// `next_event` or `has_pending` panicked: the next recv or xmit says so.
    broken: AtomicBool,
}

/// What recv and xmit return of a broken device.
const BROKEN: c_int = 1;

/// Registers `kind` in the plug-in's stack.
/// # Safety
/// `plugin` is the entry point's argument.
pub(crate) unsafe fn register<K: DeviceKind>(plugin: *mut usk_plugin_t, kind: K) -> Result<()> {
    let texts = Texts::new(K::NAME, K::COUNTERS, K::SYSCTLS)?;
    let table = usk_device_ops {
        version: USK_DEVICE_VERSION,
        size: size_of::<usk_device_ops>() as u32,
        name: texts.name.as_ptr(),
        mib_names: texts.mib_names(),
        sysctls: texts.sysctls(),
        open: Some(open::<K>),
        close: Some(close::<K>),
        recv: Some(recv::<K>),
        xmit: Some(xmit::<K>),
        poll_fd: Some(poll_fd::<K>),
        next_event: Some(next_event::<K>),
        has_pending: Some(has_pending::<K>),
    };
    // SAFETY: the table's functions are made for the value that is `user`; it is copied, with its texts.
    home::register(kind, |user, reg| unsafe { usk_device_register(plugin, &table, user, reg) }).map(drop)
}

/// Notes the line, on one line, and gives the errno.
fn refuse(why: Refusal) -> c_int {
    let line = match why {
        Refusal::Errno(e) => return -e.number(),
        Refusal::Line(line) => line,
    };
    let line = CString::new(line.replace(['\n', '\0'], " ")).unwrap_or_default();
    // SAFETY: a string.
    unsafe { usk_device_refuse(line.as_ptr()) }
}

// SAFETY of the functions below: the stack calls them as struct usk_device_ops says, with valid arguments; `device` is
// what `open` made, until `close`.

unsafe extern "C" fn open<K: DeviceKind>(
    args: *const usk_device_args_t,
    info: *mut usk_device_info_t,
    device: *mut *mut c_void,
) -> c_int {
    // SAFETY: see above; the value of the registration exists as long as a device of it.
    contain(-Errno::Io.number(), || unsafe {
        let (args, info) = (&*args, &mut *info);
        let text = |text| CStr::from_ptr(text).to_str().map_err(|_| -Errno::Inval.number());
        let (argument, name) = match (text(args.argument), text(args.name)) {
            (Ok(argument), Ok(name)) => (argument, name),
            (Err(e), _) | (_, Err(e)) => return e,
        };
        let wanted = DeviceArgs {
            argument,
            name,
            mtu: (args.mtu != 0).then_some(args.mtu),
            mac: (args.has_mac != 0).then_some(args.mac),
            reg: Reg::new(args.reg),
        };
        let link = info.link == USK_LINK_ETHERNET;
        let mut has = DeviceInfo { ethernet: link, mtu: info.mtu, queues: info.queues, mac: info.mac };
        match (*usk_user(args.reg).cast::<K>()).open(&wanted, &mut has) {
            Ok(opened) => {
                let link = if has.ethernet { USK_LINK_ETHERNET } else { USK_LINK_IP };
                *info = usk_device_info_t { link, mtu: has.mtu, queues: has.queues, mac: has.mac, reserved: [0; 2] };
                let open = Open { device: opened, reg: args.reg, broken: AtomicBool::new(false) };
                *device = Box::into_raw(Box::new(open)).cast();
                0
            }
            Err(why) => refuse(why),
        }
    })
}

unsafe extern "C" fn close<K: DeviceKind>(device: *mut c_void) {
    // SAFETY: see above; no other function runs any more.
    contain((), || unsafe { drop(Box::from_raw(device.cast::<Open<K::Device>>())) });
}

/// # Safety
/// `device` is what `open` made.
unsafe fn opened<'a, K: DeviceKind>(device: *mut c_void) -> &'a Open<K::Device> {
    // SAFETY: the caller vouches for it; it is shared until it is closed.
    unsafe { &*device.cast::<Open<K::Device>>() }
}

unsafe extern "C" fn recv<K: DeviceKind>(
    device: *mut c_void,
    queue: u32,
    now: u64,
    budget: usize,
    sink: *mut usk_sink_t,
) -> c_int {
    // SAFETY: see above.
    contain(BROKEN, || unsafe {
        let open = opened::<K>(device);
        if open.broken.load(Ordering::Relaxed) {
            return BROKEN;
        }
        let mut sink = Sink { raw: sink, of: PhantomData };
        open.device.recv(Reg::new(open.reg), queue, Time(now), budget, &mut sink).c_return() as c_int
    })
}

unsafe extern "C" fn xmit<K: DeviceKind>(device: *mut c_void, queue: u32, now: u64, skb: *mut usk_skb_t) -> c_int {
    // SAFETY: see above; the packet is lent.
    contain(BROKEN, || unsafe {
        let open = opened::<K>(device);
        let Some(skb) = Packet::lent(skb).filter(|_| !open.broken.load(Ordering::Relaxed)) else { return BROKEN };
        open.device.xmit(Reg::new(open.reg), queue, Time(now), skb).c_return() as c_int
    })
}

unsafe extern "C" fn poll_fd<K: DeviceKind>(device: *mut c_void, queue: u32) -> c_int {
    // SAFETY: see above.
    contain(-2, || unsafe { opened::<K>(device).device.poll_fd(queue).unwrap_or(-1) })
}

/// Runs a function that has no value for "broken".
/// # Safety
/// `device` is what `open` made.
unsafe fn noted<K: DeviceKind, R: Copy>(device: *mut c_void, broken: R, f: impl FnOnce(&K::Device) -> R) -> R {
    // SAFETY: the caller vouches for it.
    let open = unsafe { opened::<K>(device) };
    contain(None, || Some(f(&open.device))).unwrap_or_else(|| {
        open.broken.store(true, Ordering::Relaxed);
        broken
    })
}

unsafe extern "C" fn next_event<K: DeviceKind>(device: *mut c_void, queue: u32) -> u64 {
    // SAFETY: see above.
    unsafe { noted::<K, _>(device, u64::MAX, |d| d.next_event(queue).0) }
}

unsafe extern "C" fn has_pending<K: DeviceKind>(device: *mut c_void, queue: u32) -> c_int {
    // SAFETY: see above.
    unsafe { noted::<K, _>(device, 1, |d| d.has_pending(queue).into()) }
}
