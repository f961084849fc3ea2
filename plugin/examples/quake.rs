//! quake: hooks, a layer and a device that do nothing but panic in the function that a sysctl names,
//! `net.quake.panic_in`, `net.quakelayer.panic_in`, `net.quakedev.panic_in`: each panic is contained.
//! `cargo build -p usersock-plugin --example quake` makes libquake.so.
#![forbid(unsafe_code)]

use std::ffi::c_ulong;
use std::sync::atomic::{AtomicU32, Ordering};
use usersock_plugin::hook::{Hdr, cb};
use usersock_plugin::prelude::*;
use usersock_plugin::{Reg, Sysctl};

const SYSCTLS: &[Sysctl] =
    &[Sysctl { name: "panic_in", value: 0, min: 0, max: 100, help: "The function that panics, by number; 0: none." }];

fn maybe(reg: Reg<'_>, place: i64) {
    assert!(reg.sysctl(0) != place, "in place {place}, as asked");
}

// ---- hooks: places 1 to 15 ----

struct Quake;

impl Hooks for Quake {
    const NAME: &'static str = "quake";
    const SYSCTLS: &'static [Sysctl] = SYSCTLS;
    const HOOKS: HookFns<Self> = HookFns {
        attached: None,
        detached: None,
        timeout_init: Some(|_, h| number(h, 1)),
        rwnd_init: Some(|_, h| number(h, 2)),
        needs_ecn: Some(|_, h| number(h, 3) != 0),
        base_rtt: Some(|_, h| number(h, 4)),
        tcp_connect: Some(|_, h| begin(h, 5)),
        active_established: Some(|_, h, _| maybe(h.reg(), 6)),
        passive_established: Some(|_, h, _, _| begin(h, 7)),
        listen: Some(|_, h| begin(h, 8)),
        rto: Some(|_, h, _, _, _| maybe(h.reg(), 9)),
        retrans: Some(|_, h, _, _, _| maybe(h.reg(), 10)),
        state: Some(|_, h, _, _| maybe(h.reg(), 11)),
        rtt: Some(|_, h, _, _| maybe(h.reg(), 12)),
        parse_hdr_opt: Some(|_, h, _| maybe(h.reg(), 13)),
        hdr_opt_len: Some(|_, h, _: &HdrSeg<'_>| {
            maybe(h.reg(), 14);
            4
        }),
        write_hdr_opt: Some(|_, h, _: &HdrSeg<'_>, w: &mut Hdr<'_>| {
            maybe(h.reg(), 15);
            let _ = w.store(&[254, 4, 0x12, 0x34]);
        }),
    };
}

fn number(h: &mut Hook<'_>, place: i64) -> u32 {
    maybe(h.reg(), place);
    0
}

/// Asks for all events.
fn begin(h: &mut Hook<'_>, place: i64) {
    maybe(h.reg(), place);
    let all = cb::RTO | cb::RETRANS | cb::STATE | cb::RTT | cb::PARSE_ALL_HDR_OPT | cb::WRITE_HDR_OPT;
    let _ = h.set_cb_flags(all);
}

// ---- a layer: places 1 to 14 ----

struct QuakeLayer;

type Conn<'a> = Layered<'a, QuakeLayer>;
type Beside<'a> = LayeredSock<'a, QuakeLayer>;

/// Not owned, the place is looked up in the layer.
fn beside(s: &Beside<'_>, place: i64) -> Result<()> {
    s.locked(|l| maybe(l.reg(), place))
}

impl Layer for QuakeLayer {
    /// Memory, so that a leak checker sees whether it is freed.
    type Data = Vec<u64>;
    const NAME: &'static str = "quakelayer";
    const SYSCTLS: &'static [Sysctl] = SYSCTLS;
    const OPS: LayerOps<Self> = LayerOps {
        clone: Some(|_, l: &mut Conn<'_>, parent: &Vec<u64>| {
            maybe(l.reg(), 2);
            *l.data() = parent.clone();
            Ok(())
        }),
        sendmsg: Some(|_, l: &mut Conn<'_>, msg: &mut SendMsg<'_>| {
            maybe(l.reg(), 3);
            l.below_sendmsg(msg)
        }),
        recvmsg: Some(|_, l: &mut Conn<'_>, msg: &mut RecvMsg<'_>| {
            maybe(l.reg(), 4);
            l.below_recvmsg(msg)
        }),
        poll: Some(|_, l: &mut Conn<'_>| {
            maybe(l.reg(), 5);
            l.below_poll()
        }),
        close: Some(|_, l: &mut Conn<'_>, _| maybe(l.reg(), 6)),
        shutdown: Some(|_, l: &mut Conn<'_>, _| maybe(l.reg(), 7)),
        setsockopt: Some(|_, s: &Beside<'_>, level, name, value: &[u8]| {
            beside(s, 8)?;
            s.below_setsockopt(level, name, value)
        }),
        getsockopt: Some(|_, s: &Beside<'_>, level, name, value: &mut [u8]| {
            beside(s, 9)?;
            s.below_getsockopt(level, name, value)
        }),
        ioctl: Some(|_, s: &Beside<'_>, request: c_ulong, value| {
            beside(s, 10)?;
            s.below_ioctl(request, value)
        }),
        backlog_rcv: Some(|_, l: &mut Conn<'_>, skb: Skb| {
            maybe(l.reg(), 11);
            let _ = l.below_backlog_rcv(skb);
        }),
        release_cb: Some(|_, l: &mut Conn<'_>| maybe(l.reg(), 12)),
        may_remove: Some(|_, l: &mut Conn<'_>| {
            maybe(l.reg(), 13);
            Ok(())
        }),
        disconnect: Some(|_, l: &mut Conn<'_>| {
            maybe(l.reg(), 14);
            Ok(())
        }),
    };

    fn init(&self, l: &mut Conn<'_>) -> Result<()> {
        l.data().push(7);
        maybe(l.reg(), 1);
        Ok(())
    }
}

// ---- a device that gives back what is sent: places 1 to 6 ----

struct QuakeKind;

#[derive(Default)]
struct QuakeDevice {
    /// The place, as it was when the device was opened: some functions have no registration.
    place: AtomicU32,
}

impl QuakeDevice {
    fn maybe(&self, place: u32) {
        assert!(self.place.load(Ordering::Relaxed) != place, "in place {place}, as asked");
    }
}

impl DeviceKind for QuakeKind {
    type Device = QuakeDevice;
    const NAME: &'static str = "quakedev";
    const SYSCTLS: &'static [Sysctl] = SYSCTLS;

    fn open(&self, args: &DeviceArgs<'_>, _: &mut DeviceInfo) -> std::result::Result<QuakeDevice, Refusal> {
        let place = args.argument.parse().map_err(|_| "not a number:\nthe place that panics")?;
        let device = QuakeDevice { place: AtomicU32::new(place) };
        device.maybe(1);
        Ok(device)
    }
}

impl Device for QuakeDevice {
    fn recv(&self, _: Reg<'_>, _: u32, _: Time, _: usize, _: &mut Sink<'_>) -> Result<()> {
        self.maybe(2);
        Ok(())
    }

    fn xmit(&self, _: Reg<'_>, _: u32, _: Time, _: &mut Packet) -> Result<()> {
        self.maybe(3);
        Ok(())
    }

    fn poll_fd(&self, _: u32) -> Option<i32> {
        self.maybe(4);
        None
    }

    fn next_event(&self, _: u32) -> Time {
        self.maybe(5);
        Time::FOREVER
    }

    fn has_pending(&self, _: u32) -> bool {
        self.maybe(6);
        false
    }
}

impl Drop for QuakeDevice {
    fn drop(&mut self) {
        self.maybe(7);
    }
}

usersock_plugin::plugin!(|plugin| {
    // All of its panics are asked for: nobody need be told.
    std::panic::set_hook(Box::new(|_| {}));
    plugin.hooks(Quake)?;
    plugin.layer(QuakeLayer)?;
    plugin.device(QuakeKind)
});
