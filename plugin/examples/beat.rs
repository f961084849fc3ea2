//! BEAT: each second every bound socket receives the time, 8 bytes big-endian in milliseconds. No packet leaves: the
//! protocol has a timer of its own, visits its socks, and counts in deferred work. Over IP protocol 249.
#![forbid(unsafe_code)]

use usersock_plugin::Drop;
use usersock_plugin::prelude::*;

const SECOND: u64 = 1_000_000_000;
/// The timer, the bit of deferred work, and that of a sock.
const TIMER: u32 = 7;
const BEATS: u32 = 1;
const TICK: u32 = 1 << 3;

struct Beat;

impl Protocol for Beat {
    type Sock = ();
    const NAME: &'static str = "BEAT";
    const TYPE: SockType = SockType::Dgram;
    const PROTOCOL: u16 = 249;
    const COUNTERS: &'static [&'static str] = &["BeatBeats", "BeatTicks"];

    /// The first sock starts the beat.
    fn init(&self, o: &mut Owned<'_, Self>) -> Result<()> {
        let reg = o.reg();
        if reg.timer_at(TIMER).is_none() {
            reg.timer_arm(TIMER, Time(o.now().0 + SECOND))?;
        }
        Ok(())
    }

    /// Without socks the beat ends.
    fn timer(&self, reg: ProtoReg<'_, Self>, index: u32) {
        let mut any = false;
        reg.for_each(|sock| {
            sock.defer(TICK);
            any = true;
            true
        });
        if any && index == TIMER {
            let _ = reg.timer_arm(TIMER, Time(reg.now().0 + SECOND));
            let _ = reg.defer(BEATS);
        }
    }

    fn work(&self, reg: ProtoReg<'_, Self>, bits: u32) {
        let _ = reg.count(0, (bits & BEATS).into());
    }

    fn release_cb(&self, o: &mut Owned<'_, Self>, bits: u32) {
        if bits & TICK != 0
            && let Ok(mut skb) = Skb::new()
            && skb.append(&(o.now().0 / 1_000_000).to_be_bytes()).is_ok()
            && o.receive_push(skb).is_ok()
        {
            let _ = o.reg().count(1, 1);
        }
    }

    fn sendmsg(&self, _: &mut Owned<'_, Self>, _: &mut SendMsg<'_>) -> Result<usize> {
        Err(Errno::OpNotSupp)
    }

    fn recvmsg(&self, o: &mut Owned<'_, Self>, msg: &mut RecvMsg<'_>) -> Result<usize> {
        let until = o.timeo(Direction::Recv, msg.flags());
        while o.receive_peek().is_none() {
            o.wait(Events::IN, until)?;
        }
        o.receive_msg(msg, 0)
    }

    fn rcv(&self, reg: ProtoReg<'_, Self>, skb: Skb, _: &PacketInfo) {
        reg.drop_skb(skb, Drop::NoSocket);
    }

    fn backlog_rcv(&self, o: &mut Owned<'_, Self>, skb: Skb) {
        o.reg().drop_skb(skb, Drop::State);
    }
}

usersock_plugin::plugin!(|plugin| plugin.protocol(Beat));
