//! The names of all counters, as nstat(8) prints them, in the order of Linux 6.18's /proc/net/snmp, netstat and snmp6.
//! Not in the enum: UDP-Lite, MPTCP and the per-type ICMP counters (which have numbers, not names: see
//! [`Counters::icmp_in`](super::Counters::icmp_in)). Linux: snmp.h, net/ipv4/proc.c, net/ipv6/proc.c.

macro_rules! mibs {
    ($($group:ident { $($mib:ident,)* })*) => {
        /// A counter, by its name in nstat(8). Linux's Documentation/networking/snmp_counter.rst describes what each
        /// counts.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u16)]
        #[non_exhaustive]
        pub enum Mib {
            $($(#[doc = concat!("`", stringify!($mib), "` of nstat(8).")] $mib,)*)*
        }

        /// A line (in snmp6, a group of lines) of the files in /proc/net that print counters.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[non_exhaustive]
        pub enum Group {
            $(#[doc = concat!("Counters whose name begins with `", stringify!($group), "`.")] $group,)*
        }

        impl Mib {
            /// Every counter, in the order in which Linux prints them.
            pub const ALL: &[Mib] = &[$($(Mib::$mib,)*)*];

            /// The name nstat(8) prints.
            pub const fn name(self) -> &'static str {
                match self { $($(Mib::$mib => stringify!($mib),)*)* }
            }

            /// The line of the /proc file that contains it.
            pub const fn group(self) -> Group {
                match self { $($(Mib::$mib)|* => Group::$group,)* }
            }
        }

        impl Group {
            /// The line's title, which begins the names of its counters.
            pub const fn name(self) -> &'static str {
                match self { $(Group::$group => stringify!($group),)* }
            }

            /// Its counters, in print order.
            pub const fn mibs(self) -> &'static [Mib] {
                match self { $(Group::$group => &[$(Mib::$mib,)*],)* }
            }
        }
    };
}

#[rustfmt::skip]
mibs! {
    Ip {
        IpForwarding, IpDefaultTTL, IpInReceives, IpInHdrErrors, IpInAddrErrors, IpForwDatagrams, IpInUnknownProtos,
        IpInDiscards, IpInDelivers, IpOutRequests, IpOutDiscards, IpOutNoRoutes, IpReasmTimeout, IpReasmReqds,
        IpReasmOKs, IpReasmFails, IpFragOKs, IpFragFails, IpFragCreates, IpOutTransmits,
    }
    Icmp {
        IcmpInMsgs, IcmpInErrors, IcmpInCsumErrors, IcmpInDestUnreachs, IcmpInTimeExcds, IcmpInParmProbs,
        IcmpInSrcQuenchs, IcmpInRedirects, IcmpInEchos, IcmpInEchoReps, IcmpInTimestamps, IcmpInTimestampReps,
        IcmpInAddrMasks, IcmpInAddrMaskReps, IcmpOutMsgs, IcmpOutErrors, IcmpOutRateLimitGlobal, IcmpOutRateLimitHost,
        IcmpOutDestUnreachs, IcmpOutTimeExcds, IcmpOutParmProbs, IcmpOutSrcQuenchs, IcmpOutRedirects, IcmpOutEchos,
        IcmpOutEchoReps, IcmpOutTimestamps, IcmpOutTimestampReps, IcmpOutAddrMasks, IcmpOutAddrMaskReps,
    }
    Tcp {
        TcpRtoAlgorithm, TcpRtoMin, TcpRtoMax, TcpMaxConn, TcpActiveOpens, TcpPassiveOpens, TcpAttemptFails,
        TcpEstabResets, TcpCurrEstab, TcpInSegs, TcpOutSegs, TcpRetransSegs, TcpInErrs, TcpOutRsts, TcpInCsumErrors,
    }
    Udp {
        UdpInDatagrams, UdpNoPorts, UdpInErrors, UdpOutDatagrams, UdpRcvbufErrors, UdpSndbufErrors, UdpInCsumErrors,
        UdpIgnoredMulti, UdpMemErrors,
    }
    TcpExt {
        TcpExtSyncookiesSent, TcpExtSyncookiesRecv, TcpExtSyncookiesFailed, TcpExtEmbryonicRsts, TcpExtPruneCalled,
        TcpExtRcvPruned, TcpExtOfoPruned, TcpExtOutOfWindowIcmps, TcpExtLockDroppedIcmps, TcpExtArpFilter, TcpExtTW,
        TcpExtTWRecycled, TcpExtTWKilled, TcpExtPAWSActive, TcpExtPAWSEstab, TcpExtBeyondWindow, TcpExtTSEcrRejected,
        TcpExtPAWSOldAck, TcpExtPAWSTimewait, TcpExtDelayedACKs, TcpExtDelayedACKLocked, TcpExtDelayedACKLost,
        TcpExtListenOverflows, TcpExtListenDrops, TcpExtTCPHPHits, TcpExtTCPPureAcks, TcpExtTCPHPAcks,
        TcpExtTCPRenoRecovery, TcpExtTCPSackRecovery, TcpExtTCPSACKReneging, TcpExtTCPSACKReorder, TcpExtTCPRenoReorder,
        TcpExtTCPTSReorder, TcpExtTCPFullUndo, TcpExtTCPPartialUndo, TcpExtTCPDSACKUndo, TcpExtTCPLossUndo,
        TcpExtTCPLostRetransmit, TcpExtTCPRenoFailures, TcpExtTCPSackFailures, TcpExtTCPLossFailures,
        TcpExtTCPFastRetrans, TcpExtTCPSlowStartRetrans, TcpExtTCPTimeouts, TcpExtTCPLossProbes,
        TcpExtTCPLossProbeRecovery, TcpExtTCPRenoRecoveryFail, TcpExtTCPSackRecoveryFail, TcpExtTCPRcvCollapsed,
        TcpExtTCPBacklogCoalesce, TcpExtTCPDSACKOldSent, TcpExtTCPDSACKOfoSent, TcpExtTCPDSACKRecv,
        TcpExtTCPDSACKOfoRecv, TcpExtTCPAbortOnData, TcpExtTCPAbortOnClose, TcpExtTCPAbortOnMemory,
        TcpExtTCPAbortOnTimeout, TcpExtTCPAbortOnLinger, TcpExtTCPAbortFailed, TcpExtTCPMemoryPressures,
        TcpExtTCPMemoryPressuresChrono, TcpExtTCPSACKDiscard, TcpExtTCPDSACKIgnoredOld, TcpExtTCPDSACKIgnoredNoUndo,
        TcpExtTCPSpuriousRTOs, TcpExtTCPMD5NotFound, TcpExtTCPMD5Unexpected, TcpExtTCPMD5Failure, TcpExtTCPSackShifted,
        TcpExtTCPSackMerged, TcpExtTCPSackShiftFallback, TcpExtTCPBacklogDrop, TcpExtPFMemallocDrop,
        TcpExtTCPMinTTLDrop, TcpExtTCPDeferAcceptDrop, TcpExtIPReversePathFilter, TcpExtTCPTimeWaitOverflow,
        TcpExtTCPReqQFullDoCookies, TcpExtTCPReqQFullDrop, TcpExtTCPRetransFail, TcpExtTCPRcvCoalesce,
        TcpExtTCPOFOQueue, TcpExtTCPOFODrop, TcpExtTCPOFOMerge, TcpExtTCPChallengeACK, TcpExtTCPSYNChallenge,
        TcpExtTCPFastOpenActive, TcpExtTCPFastOpenActiveFail, TcpExtTCPFastOpenPassive, TcpExtTCPFastOpenPassiveFail,
        TcpExtTCPFastOpenListenOverflow, TcpExtTCPFastOpenCookieReqd, TcpExtTCPFastOpenBlackhole,
        TcpExtTCPSpuriousRtxHostQueues, TcpExtBusyPollRxPackets, TcpExtTCPAutoCorking, TcpExtTCPFromZeroWindowAdv,
        TcpExtTCPToZeroWindowAdv, TcpExtTCPWantZeroWindowAdv, TcpExtTCPSynRetrans, TcpExtTCPOrigDataSent,
        TcpExtTCPHystartTrainDetect, TcpExtTCPHystartTrainCwnd, TcpExtTCPHystartDelayDetect, TcpExtTCPHystartDelayCwnd,
        TcpExtTCPACKSkippedSynRecv, TcpExtTCPACKSkippedPAWS, TcpExtTCPACKSkippedSeq, TcpExtTCPACKSkippedFinWait2,
        TcpExtTCPACKSkippedTimeWait, TcpExtTCPACKSkippedChallenge, TcpExtTCPWinProbe, TcpExtTCPKeepAlive,
        TcpExtTCPMTUPFail, TcpExtTCPMTUPSuccess, TcpExtTCPDelivered, TcpExtTCPDeliveredCE, TcpExtTCPAckCompressed,
        TcpExtTCPZeroWindowDrop, TcpExtTCPRcvQDrop, TcpExtTCPWqueueTooBig, TcpExtTCPFastOpenPassiveAltKey,
        TcpExtTcpTimeoutRehash, TcpExtTcpDuplicateDataRehash, TcpExtTCPDSACKRecvSegs, TcpExtTCPDSACKIgnoredDubious,
        TcpExtTCPMigrateReqSuccess, TcpExtTCPMigrateReqFailure, TcpExtTCPPLBRehash, TcpExtTCPAORequired, TcpExtTCPAOBad,
        TcpExtTCPAOKeyNotFound, TcpExtTCPAOGood, TcpExtTCPAODroppedIcmps,
    }
    IpExt {
        IpExtInNoRoutes, IpExtInTruncatedPkts, IpExtInMcastPkts, IpExtOutMcastPkts, IpExtInBcastPkts, IpExtOutBcastPkts,
        IpExtInOctets, IpExtOutOctets, IpExtInMcastOctets, IpExtOutMcastOctets, IpExtInBcastOctets, IpExtOutBcastOctets,
        IpExtInCsumErrors, IpExtInNoECTPkts, IpExtInECT1Pkts, IpExtInECT0Pkts, IpExtInCEPkts, IpExtReasmOverlaps,
    }
    Ip6 {
        Ip6InReceives, Ip6InHdrErrors, Ip6InTooBigErrors, Ip6InNoRoutes, Ip6InAddrErrors, Ip6InUnknownProtos,
        Ip6InTruncatedPkts, Ip6InDiscards, Ip6InDelivers, Ip6OutForwDatagrams, Ip6OutRequests, Ip6OutDiscards,
        Ip6OutNoRoutes, Ip6ReasmTimeout, Ip6ReasmReqds, Ip6ReasmOKs, Ip6ReasmFails, Ip6FragOKs, Ip6FragFails,
        Ip6FragCreates, Ip6InMcastPkts, Ip6OutMcastPkts, Ip6InOctets, Ip6OutOctets, Ip6InMcastOctets, Ip6OutMcastOctets,
        Ip6InBcastOctets, Ip6OutBcastOctets, Ip6InNoECTPkts, Ip6InECT1Pkts, Ip6InECT0Pkts, Ip6InCEPkts, Ip6OutTransmits,
    }
    Icmp6 {
        Icmp6InMsgs, Icmp6InErrors, Icmp6OutMsgs, Icmp6OutErrors, Icmp6InCsumErrors, Icmp6OutRateLimitHost,
        Icmp6InDestUnreachs, Icmp6InPktTooBigs, Icmp6InTimeExcds, Icmp6InParmProblems, Icmp6InEchos, Icmp6InEchoReplies,
        Icmp6InGroupMembQueries, Icmp6InGroupMembResponses, Icmp6InGroupMembReductions, Icmp6InRouterSolicits,
        Icmp6InRouterAdvertisements, Icmp6InNeighborSolicits, Icmp6InNeighborAdvertisements, Icmp6InRedirects,
        Icmp6InMLDv2Reports, Icmp6OutDestUnreachs, Icmp6OutPktTooBigs, Icmp6OutTimeExcds, Icmp6OutParmProblems,
        Icmp6OutEchos, Icmp6OutEchoReplies, Icmp6OutGroupMembQueries, Icmp6OutGroupMembResponses,
        Icmp6OutGroupMembReductions, Icmp6OutRouterSolicits, Icmp6OutRouterAdvertisements, Icmp6OutNeighborSolicits,
        Icmp6OutNeighborAdvertisements, Icmp6OutRedirects, Icmp6OutMLDv2Reports,
    }
    Udp6 {
        Udp6InDatagrams, Udp6NoPorts, Udp6InErrors, Udp6OutDatagrams, Udp6RcvbufErrors, Udp6SndbufErrors,
        Udp6InCsumErrors, Udp6IgnoredMulti, Udp6MemErrors,
    }
}

impl Mib {
    /// The counter with this name (as returned by [`Mib::name`]).
    pub fn from_name(name: &str) -> Option<Mib> {
        Mib::ALL.iter().copied().find(|mib| mib.name() == name)
    }

    /// The name without its line's title, as /proc/net/snmp and netstat print it in the header line.
    pub fn short_name(self) -> &'static str {
        &self.name()[self.group().name().len()..]
    }
}
