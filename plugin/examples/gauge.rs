//! gauge: what the other examples leave aside. A datagram protocol (252, RFC 3692 has 253 and 254) whose packets leave
//! with a TTL of their own and whose receiver says what it saw; hooks for chosen sockets. `cargo build -p
//! usersock-plugin --example gauge` makes libgauge.so.
#![forbid(unsafe_code)]

use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use usersock_plugin::hook::{Filter, Hdr, OptionKind, Scope, cb};
use usersock_plugin::prelude::*;
use usersock_plugin::{MSG_PEEK, Sysctl};

const GAUGE: u8 = 252;
/// Ports of both ends: all of a packet's header.
const HEADER: usize = 4;
const TTL: u8 = 7;

struct Gauge;

impl Protocol for Gauge {
    type Sock = ();
    const NAME: &'static str = "GAUGE";
    const TYPE: SockType = SockType::Dgram;
    const PROTOCOL: u16 = GAUGE as u16;
    const COUNTERS: &'static [&'static str] = &["GaugeTtl", "GaugeErrors"];

    fn sendmsg(&self, o: &mut Owned<'_, Self>, msg: &mut SendMsg<'_>) -> Result<usize> {
        o.take_error()?;
        let (local, peer) = o.ends()?;
        let len = msg.len();
        let mut skb = o.send_alloc(msg, len)?;
        // What is sent is the device's to charge, not the send queue's.
        o.uncharge(Direction::Send, Some(&skb), 0);
        let ports: Vec<u8> = [local.port(), peer.port()].iter().flat_map(|port| port.to_be_bytes()).collect();
        skb.push(&ports)?;
        o.set_ecn(2)?;
        o.xmit_info(skb, None, &TxInfo { ttl: Some(TTL), dont_fragment: true, ..TxInfo::default() })?;
        Ok(len)
    }

    fn recvmsg(&self, o: &mut Owned<'_, Self>, msg: &mut RecvMsg<'_>) -> Result<usize> {
        let until = o.timeo(Direction::Recv, msg.flags());
        loop {
            if msg.flags() & MSG_PEEK == 0
                && let Some(skb) = o.receive_pop()
            {
                // TTL and ECN of the packet, as numbers, instead of its payload.
                let info = skb.info().ok_or(Errno::Io)?;
                o.reg().count(0, info.ttl.into())?;
                o.recvmsg_control(msg, &skb)?;
                return msg.put(&[info.ttl, info.tos & 3]);
            }
            o.take_error()?;
            o.wait(Events::IN, until)?;
        }
    }

    fn connect(&self, o: &mut Owned<'_, Self>, to: SocketAddr) -> Result<()> {
        o.route_connect(to)?;
        o.hash()
    }

    fn rcv(&self, reg: ProtoReg<'_, Self>, mut skb: Skb, info: &PacketInfo) {
        let Some([a, b, c, d]) = skb.head::<HEADER>() else { return };
        let from = SocketAddr::new(info.src.ip(), u16::from_be_bytes([a, b]));
        let to = SocketAddr::new(info.dst.ip(), u16::from_be_bytes([c, d]));
        if let Some(sock) = reg.lookup(to, from, info.ifindex) {
            // A full backlog has dropped and counted it.
            let _ = sock.deliver(skb);
        }
    }

    fn backlog_rcv(&self, o: &mut Owned<'_, Self>, skb: Skb) {
        let _ = o.receive_push(skb);
    }

    fn err(&self, reg: ProtoReg<'_, Self>, error: &IcmpError<'_>) {
        let [a, b, c, d, ..] = *error.quoted else { return };
        let local = SocketAddr::new(error.src.ip(), u16::from_be_bytes([a, b]));
        let remote = SocketAddr::new(error.dst.ip(), u16::from_be_bytes([c, d]));
        if let Some(sock) = reg.lookup(local, remote, error.ifindex) {
            let _ = reg.count(1, 1);
            let _ = error.report(&sock, remote.port(), HEADER);
        }
    }
}

const OPTION: OptionKind = OptionKind { kind: 253, exid: 0x4747 };

/// Hooks of connections that their program chooses, and of those to port 4711.
#[derive(Default)]
struct Chosen {
    /// A descriptor that is told, by a byte, when the value is dropped.
    tell: AtomicI64,
}

impl Drop for Chosen {
    fn drop(&mut self) {
        if let fd @ 1.. = self.tell.load(Ordering::Relaxed) {
            let file = std::fs::File::options().write(true).open(format!("/proc/self/fd/{fd}"));
            let _ = file.and_then(|mut file| file.write_all(b"d"));
        }
    }
}

impl Chosen {
    fn begin(&self, h: &mut Hook<'_>) {
        let _ = h.set_cb_flags(cb::WRITE_HDR_OPT);
        self.tell.store(h.reg().sysctl(0), Ordering::Relaxed);
        let _ = h.reg().count(0, 1);
    }
    /// What a program attaches it to is from then on the only thing that it is called for.
    fn attached(&self, h: &mut Hook<'_>) {
        self.begin(h);
        let _ = h.reg().set_filters(&[]);
    }
    fn detached(&self, h: &mut Hook<'_>) {
        let _ = h.reg().count(1, 1);
    }
    fn active_established(&self, h: &mut Hook<'_>, options: &[u8]) {
        let theirs = find_option(options, OPTION.kind, Some(OPTION.exid)).is_some();
        let _ = h.reg().count(2, theirs.into());
    }
    fn write(&self, h: &mut Hook<'_>, _: &HdrSeg<'_>, out: &mut Hdr<'_>) {
        let [a, b] = OPTION.exid.to_be_bytes();
        let stored = [out.store(&[200, 4, 0, 0]), out.store(&[OPTION.kind, 4, a, b])];
        let _ = h.reg().count(3, (stored == [Err(Errno::Inval), Ok(())]).into());
    }
}

impl Hooks for Chosen {
    const NAME: &'static str = "chosen";
    const COUNTERS: &'static [&'static str] = &["ChosenBegun", "ChosenDetached", "ChosenAgreed", "ChosenWritten"];
    const SYSCTLS: &'static [Sysctl] =
        &[Sysctl { name: "tell", value: 0, min: 0, max: 1 << 20, help: "A descriptor to tell of the end." }];
    const SCOPE: Scope = Scope::Chosen;
    const OPTION: Option<OptionKind> = Some(OPTION);
    const HOOKS: HookFns<Self> = HookFns {
        attached: Some(Self::attached),
        detached: Some(Self::detached),
        tcp_connect: Some(Self::begin),
        listen: Some(Self::begin),
        active_established: Some(Self::active_established),
        hdr_opt_len: Some(|_, _, _| 4),
        write_hdr_opt: Some(Self::write),
        ..HookFns::NONE
    };
}

usersock_plugin::plugin!(|plugin| {
    plugin.protocol(Gauge)?;
    let to = Filter { remote_ports: 4711..=4711, ..Filter::ALL };
    let at = Filter { local_ports: 4711..=4711, ..Filter::ALL };
    plugin.hooks_for(Chosen::default(), &[to, at])
});
