//! Kinds of devices: the traits [`DeviceKind`] and [`Device`], which are `struct usk_device_ops` in Rust. Below:
//! `abi::device`.

pub use crate::abi::device::Sink;
use crate::abi::reg::{Reg, Sysctl};
use crate::errno::{Errno, Result};
use crate::skb::Packet;
use crate::time::Time;
use std::os::fd::RawFd;

/// The configuration of a device.
#[derive(Clone, Copy)]
pub struct DeviceArgs<'a> {
    /// The text after KIND: in the configuration.
    pub argument: &'a str,
    /// The interface's name.
    pub name: &'a str,
    /// mtu=, bytes. A device that cannot support it refuses.
    pub mtu: Option<u32>,
    /// The requested hardware address.
    pub mac: Option<[u8; 6]>,
    /// The registration: counters, sysctls.
    pub reg: Reg<'a>,
}

/// The properties of a device, which `open` fills in. Checksums and segmentation are done before a packet reaches it.
#[derive(Clone, Copy, Debug)]
pub struct DeviceInfo {
    /// Ethernet frames, in place of IP datagrams without link header.
    pub ethernet: bool,
    /// Largest IP datagram, bytes: 68 to 65535. Initially the requested one, or 1500.
    pub mtu: u32,
    /// Queue pairs: 1 to 256. Initially 1.
    pub queues: u32,
    /// Hardware address of an Ethernet device.
    pub mac: [u8; 6],
}

/// Why a device is not opened: a line for the user, or an errno.
#[derive(Clone, Debug)]
pub enum Refusal {
    /// What usk_config_error says; the errno is EINVAL.
    Line(String),
    /// An errno.
    Errno(Errno),
}

impl From<Errno> for Refusal {
    fn from(e: Errno) -> Refusal {
        Refusal::Errno(e)
    }
}

impl From<&str> for Refusal {
    fn from(line: &str) -> Refusal {
        Refusal::Line(line.to_owned())
    }
}

/// The error's number, where it has one.
impl From<std::io::Error> for Refusal {
    fn from(e: std::io::Error) -> Refusal {
        e.raw_os_error().map_or_else(|| Refusal::Line(e.to_string()), |n| Refusal::Errno(Errno::from_number(n)))
    }
}

/// A kind of device: `device=NAME:ARGUMENT`. The value belongs to one stack, and is dropped when its registration has
/// ended and no function of it runs any more.
pub trait DeviceKind: Send + Sync + Sized + 'static {
    /// An open device.
    type Device: Device;

    /// 1 to 15 printable characters without colon, comma and equals sign, unique in a stack.
    const NAME: &'static str;
    /// Names of its counters: letters and digits, unique in a stack.
    const COUNTERS: &'static [&'static str] = &[];
    /// Its sysctls.
    const SYSCTLS: &'static [Sysctl] = &[];

    /// Makes a device, and fills in what it is.
    fn open(&self, args: &DeviceArgs<'_>, info: &mut DeviceInfo) -> std::result::Result<Self::Device, Refusal>;
}

/// A device. Its functions are called from any thread: one thread at a time receives from a queue, any number transmit.
/// None may sleep, and none may call sockets of the stack. It is dropped when it is closed. A panic breaks the device:
/// packets sent through it are dropped, and the stack goes on.
pub trait Device: Send + Sync + 'static {
    /// Passes up to `budget` received packets to the stack, each by [`Sink::rx`]. `Ok` and `Err` both mean that there
    /// is no more now. Never waits for a packet.
    fn recv(&self, reg: Reg<'_>, queue: u32, now: Time, budget: usize, sink: &mut Sink<'_>) -> Result<()>;

    /// Sends a packet, which stays the stack's: copy it ([`Packet::copy`]), or [`Packet::share`] it to use it later.
    /// EAGAIN or EBUSY: the queue is full, and the stack tries again when `poll_fd` polls writable; another error: the
    /// packet is dropped and counted.
    fn xmit(&self, reg: Reg<'_>, queue: u32, now: Time, skb: &mut Packet) -> Result<()>;

    /// A descriptor that polls readable when `recv` of this queue has a packet. Called once. None: a device in memory.
    fn poll_fd(&self, _queue: u32) -> Option<RawFd> {
        None
    }

    /// When `recv` will have its next packet; FOREVER: not before something is sent.
    fn next_event(&self, _queue: u32) -> Time {
        Time::FOREVER
    }

    /// Whether `recv` has a packet in memory now: the thread that sent it processes it before it returns.
    fn has_pending(&self, _queue: u32) -> bool {
        false
    }
}
