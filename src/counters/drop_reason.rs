//! Why a packet was dropped: every drop has one of these reasons. Linux: enum skb_drop_reason (dropreason-core.h), with
//! the names that [`DropReason::name`] returns; reasons that Linux does not distinguish are marked as ours.

macro_rules! reasons {
    ($($reason:ident $name:literal $doc:literal,)*) => {
        /// Why a packet was dropped.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum DropReason {
            $(#[doc = $doc] $reason,)*
        }

        impl DropReason {
            /// Every reason, in order of declaration.
            pub const ALL: &[DropReason] = &[$(DropReason::$reason,)*];

            /// The name that Linux's drop monitor and `kfree_skb` trace event print.
            pub const fn name(self) -> &'static str {
                match self { $(DropReason::$reason => $name,)* }
            }

            /// A one-sentence description.
            pub const fn text(self) -> &'static str {
                match self { $(DropReason::$reason => $doc,)* }
            }
        }
    };
}

#[rustfmt::skip]
reasons! {
    Unspecified "NOT_SPECIFIED" "No better reason is known.",
    NoSocket "NO_SOCKET" "No socket is bound or connected there.",
    SocketClose "SOCKET_CLOSE" "The socket was closed with the packet in its queue.",
    SocketFilter "SOCKET_FILTER" "A socket filter refused it.",
    SocketRcvbuff "SOCKET_RCVBUFF" "The receive buffer is full.",
    PktTooSmall "PKT_TOO_SMALL" "Shorter than its headers.",
    TcpCsum "TCP_CSUM" "Wrong TCP checksum.",
    UdpCsum "UDP_CSUM" "Wrong UDP checksum.",
    OtherHost "OTHERHOST" "Addressed to another host on the link.",
    IpCsum "IP_CSUM" "Wrong IPv4 header checksum.",
    IpInHdr "IP_INHDR" "Malformed IP header.",
    IpRpFilter "IP_RPFILTER" "The source is not reachable by the arriving interface.",
    UnicastInL2Multicast "UNICAST_IN_L2_MULTICAST" "Unicast destination in a link-layer multicast.",
    IpNoProto "IP_NOPROTO" "No handler for the IP protocol number.",
    ProtoMem "PROTO_MEM" "The protocol's memory limit (`tcp_mem`, `udp_mem`) is reached.",
    TcpAuthHdr "TCP_AUTH_HDR" "Malformed or double authentication option.",
    TcpMd5NotFound "TCP_MD5NOTFOUND" "The MD5 option is required and absent.",
    TcpMd5Unexpected "TCP_MD5UNEXPECTED" "An MD5 option nobody asked for.",
    TcpMd5Failure "TCP_MD5FAILURE" "Wrong MD5 signature.",
    TcpAoNotFound "TCP_AONOTFOUND" "The AO option is required and absent.",
    TcpAoUnexpected "TCP_AOUNEXPECTED" "An AO option nobody asked for.",
    TcpAoKeyNotFound "TCP_AOKEYNOTFOUND" "Unknown AO key.",
    TcpAoFailure "TCP_AOFAILURE" "Wrong AO signature.",
    SocketBacklog "SOCKET_BACKLOG" "The backlog of an owned socket is full.",
    TcpFlags "TCP_FLAGS" "Flags that make no sense in this state.",
    TcpAbortOnData "TCP_ABORT_ON_DATA" "Data after close: the connection is aborted.",
    TcpZeroWindow "TCP_ZEROWINDOW" "Data while our window is closed.",
    TcpOldData "TCP_OLD_DATA" "Data received before.",
    TcpOverWindow "TCP_OVERWINDOW" "Data beyond the window.",
    TcpOfoMerge "TCP_OFOMERGE" "Out-of-order data that another segment covers.",
    TcpPaws "TCP_RFC7323_PAWS" "The timestamp is old (RFC 7323 §5).",
    TcpPawsAck "TCP_RFC7323_PAWS_ACK" "A pure ACK with an old timestamp.",
    TcpTwPaws "TCP_RFC7323_TW_PAWS" "A SYN to a time-wait socket with an old timestamp.",
    TcpTsecr "TCP_RFC7323_TSECR" "The echoed timestamp was never sent.",
    TcpListenOverflow "TCP_LISTEN_OVERFLOW" "The accept queue is full.",
    TcpReqQueueFull "TCP_REQQFULLDROP" "The SYN queue is full and cookies are off (ours, not Linux's).",
    TcpOldSequence "TCP_OLD_SEQUENCE" "Wholly before the window.",
    TcpInvalidSequence "TCP_INVALID_SEQUENCE" "Outside the window.",
    TcpInvalidEndSequence "TCP_INVALID_END_SEQUENCE" "Its end is beyond the window.",
    TcpInvalidAck "TCP_INVALID_ACK_SEQUENCE" "Acknowledges outside the acceptable range of a handshake.",
    TcpReset "TCP_RESET" "A valid RST ended the connection.",
    TcpInvalidSyn "TCP_INVALID_SYN" "A SYN on an established connection.",
    TcpRfc5961 "TCP_RFC5961" "Answered by a challenge ACK instead (RFC 5961) (ours, not Linux's).",
    TcpClose "TCP_CLOSE" "The socket is closed.",
    TcpFastOpen "TCP_FASTOPEN" "Its data was already taken by Fast Open.",
    TcpOldAck "TCP_OLD_ACK" "Acknowledges what was acknowledged before.",
    TcpTooOldAck "TCP_TOO_OLD_ACK" "Acknowledges further back than any window (RFC 5961 §5.2).",
    TcpAckUnsentData "TCP_ACK_UNSENT_DATA" "Acknowledges what was never sent.",
    TcpOfoQueue "TCP_OFO_QUEUE_PRUNE" "Out-of-order queue pruned for memory.",
    TcpOfoDrop "TCP_OFO_DROP" "No memory for out-of-order data.",
    TcpMinTtl "TCP_MINTTL" "TTL below `IP_MINTTL`.",
    TcpBadOptions "TCP_BAD_OPTIONS" "Malformed TCP option list (ours, not Linux's).",
    IpOutNoRoutes "IP_OUTNOROUTES" "No route to send it by.",
    Ipv6Disabled "IPV6DISABLED" "IPv6 is off on the interface.",
    NeighCreateFail "NEIGH_CREATEFAIL" "No memory for a neighbour entry.",
    NeighFailed "NEIGH_FAILED" "The neighbour did not answer.",
    NeighQueueFull "NEIGH_QUEUEFULL" "Too much waits for the neighbour's address.",
    NeighDead "NEIGH_DEAD" "The neighbour entry is dead.",
    QdiscDrop "QDISC_DROP" "The transmit queue discipline refused it.",
    CpuBacklog "CPU_BACKLOG" "The input queue is full (`netdev_max_backlog`).",
    UnhandledProto "UNHANDLED_PROTO" "Unknown link-layer protocol.",
    SkbCsum "SKB_CSUM" "The checksum could not be computed.",
    SkbGsoSeg "SKB_GSO_SEG" "Segmentation failed.",
    SkbUcopyFault "SKB_UCOPY_FAULT" "Copying to the program failed.",
    DevHdr "DEV_HDR" "Bad device header (virtio-net header).",
    DevReady "DEV_READY" "The device is down.",
    DeviceFull "FULL_RING" "The device's queue is full.",
    RecursionLimit "RECURSION_LIMIT" "Devices that send again while they send were nested too deep.",
    NoMem "NOMEM" "No memory.",
    HdrTrunc "HDR_TRUNC" "Truncated while taking headers.",
    IcmpCsum "ICMP_CSUM" "Wrong ICMP checksum.",
    InvalidProto "INVALID_PROTO" "Not valid for the protocol.",
    IpInAddrErrors "IP_INADDRERRORS" "Not an address we accept or forward to.",
    IpInNoRoutes "IP_INNOROUTES" "No route for an arriving packet.",
    IpLocalSource "IP_LOCAL_SOURCE" "Arrived with one of our own addresses as source.",
    IpInvalidSource "IP_INVALID_SOURCE" "Source is multicast, broadcast or zero.",
    IpLocalNet "IP_LOCALNET" "A loopback address on the wire.",
    IpInvalidDest "IP_INVALID_DEST" "Destination is not valid.",
    PktTooBig "PKT_TOO_BIG" "Larger than the path or the device takes.",
    DupFrag "DUP_FRAG" "Duplicate or overlapping fragment.",
    FragReasmTimeout "FRAG_REASM_TIMEOUT" "Its missing fragments did not come in time.",
    FragTooFar "FRAG_TOO_FAR" "Fragment too far from the others (`ipfrag_max_dist`).",
    FragMem "FRAG_MEM" "Fragment memory is full (`ipfrag_high_thresh`) (ours, not Linux's).",
    Ipv6BadExthdr "IPV6_BAD_EXTHDR" "Malformed IPv6 extension header.",
    Ipv6NdiscFrag "IPV6_NDISC_FRAG" "A neighbour message in fragments (RFC 6980).",
    Ipv6NdiscHopLimit "IPV6_NDISC_HOP_LIMIT" "A neighbour message from off the link.",
    Ipv6NdiscBadCode "IPV6_NDISC_BAD_CODE" "A neighbour message with a code other than 0.",
    Ipv6NdiscBadOptions "IPV6_NDISC_BAD_OPTIONS" "Malformed neighbour options.",
    Ipv6NdiscNsOtherHost "IPV6_NDISC_NS_OTHERHOST" "A solicitation for another host.",
    ArpMalformed "ARP_MALFORMED"
        "An ARP packet that is not well formed or not for Ethernet and IPv4 (ours, not Linux's).",
    IcmpMalformed "ICMP_MALFORMED" "An ICMP message too short or of an unknown type (ours, not Linux's).",
    IcmpImplausible "ICMP_IMPLAUSIBLE"
        "An ICMP error quoting no connection of ours or a sequence not in flight (RFC 5927 §4) (ours, not Linux's).",
    IcmpRateLimit "ICMP_RATELIMIT" "Its answer is withheld by the ICMP rate limit (ours, not Linux's).",
    PfMemalloc "PFMEMALLOC" "Memory reserve packet for a socket that must not use it.",
    QueuePurge "QUEUE_PURGE" "The queue it stood in was emptied.",
    EspNoState "XFRM_NO_STATE" "ESP in UDP, without a security association (ours, not Linux's).",
    IpTunnelEcn "IP_TUNNEL_ECN" "Forbidden ECN combination.",
    PacketSockError "PACKET_SOCK_ERROR" "A packet socket could not take it.",
    MacInvalidSource "MAC_INVALID_SOURCE" "Multicast or zero Ethernet source.",
    LinkLoss "LINK_LOSS" "The simulated link lost it on purpose (ours, not Linux's).",
    PluginCsum "PLUGIN_CSUM" "Wrong checksum, says a plugged-in protocol (ours, not Linux's).",
    PluginRefused "PLUGIN_REFUSED" "A plugged-in protocol, device or hook refused it (ours, not Linux's).",
}

impl DropReason {
    /// The reason with this name (as returned by [`DropReason::name`]).
    pub fn from_name(name: &str) -> Option<DropReason> {
        DropReason::ALL.iter().copied().find(|reason| reason.name() == name)
    }
}

impl core::fmt::Display for DropReason {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}
