//! Counters of ICMP and ICMPv6: each message sent or received is counted three times, in the total, under the number of
//! its type, and under the name of its type where it has one (RFC 2011, RFC 2466, RFC 4293). Above: all that sends or
//! receives ICMP. Below: `counters`. Linux: struct icmp_mib, icmpmsg_mib and their counterparts for IPv6.

use crate::counters::Mib;
use crate::stack::Stack;
use crate::wire::icmp::kind;
use crate::wire::icmpv6::kind as kind6;
use crate::wire::membership::mld;

/// Counts a message of ICMP that is sent (icmp_out_count).
pub(crate) fn count_out_v4(stack: &Stack, ty: u8) {
    stack.mib.inc(Mib::IcmpOutMsgs);
    stack.mib.icmp_out(ty);
    let mib = match ty {
        kind::ECHO_REPLY => Mib::IcmpOutEchoReps,
        kind::UNREACHABLE => Mib::IcmpOutDestUnreachs,
        kind::SOURCE_QUENCH => Mib::IcmpOutSrcQuenchs,
        kind::REDIRECT => Mib::IcmpOutRedirects,
        kind::ECHO => Mib::IcmpOutEchos,
        kind::TIME_EXCEEDED => Mib::IcmpOutTimeExcds,
        kind::PARAMETER_PROBLEM => Mib::IcmpOutParmProbs,
        kind::TIMESTAMP => Mib::IcmpOutTimestamps,
        kind::TIMESTAMP_REPLY => Mib::IcmpOutTimestampReps,
        _ => return,
    };
    stack.mib.inc(mib);
}

/// Counts one that has arrived (ICMPMSGIN_INC_STATS).
pub(super) fn count_in_v4(stack: &Stack, ty: u8) {
    stack.mib.icmp_in(ty);
    let mib = match ty {
        kind::ECHO_REPLY => Mib::IcmpInEchoReps,
        kind::UNREACHABLE => Mib::IcmpInDestUnreachs,
        kind::SOURCE_QUENCH => Mib::IcmpInSrcQuenchs,
        kind::REDIRECT => Mib::IcmpInRedirects,
        kind::ECHO => Mib::IcmpInEchos,
        kind::TIME_EXCEEDED => Mib::IcmpInTimeExcds,
        kind::PARAMETER_PROBLEM => Mib::IcmpInParmProbs,
        kind::TIMESTAMP => Mib::IcmpInTimestamps,
        kind::TIMESTAMP_REPLY => Mib::IcmpInTimestampReps,
        17 => Mib::IcmpInAddrMasks,
        18 => Mib::IcmpInAddrMaskReps,
        _ => return,
    };
    stack.mib.inc(mib);
}

/// Counts a message of ICMPv6 that is sent.
pub(crate) fn count_out_v6(stack: &Stack, ty: u8) {
    stack.mib.inc(Mib::Icmp6OutMsgs);
    stack.mib.icmp6_out(ty);
    let mib = match ty {
        kind6::UNREACHABLE => Mib::Icmp6OutDestUnreachs,
        kind6::PACKET_TOO_BIG => Mib::Icmp6OutPktTooBigs,
        kind6::TIME_EXCEEDED => Mib::Icmp6OutTimeExcds,
        kind6::PARAMETER_PROBLEM => Mib::Icmp6OutParmProblems,
        kind6::ECHO => Mib::Icmp6OutEchos,
        kind6::ECHO_REPLY => Mib::Icmp6OutEchoReplies,
        mld::REPORT_V1 => Mib::Icmp6OutGroupMembResponses,
        mld::DONE => Mib::Icmp6OutGroupMembReductions,
        mld::REPORT_V2 => Mib::Icmp6OutMLDv2Reports,
        kind6::ROUTER_SOLICITATION => Mib::Icmp6OutRouterSolicits,
        kind6::NEIGHBOUR_SOLICITATION => Mib::Icmp6OutNeighborSolicits,
        kind6::NEIGHBOUR_ADVERTISEMENT => Mib::Icmp6OutNeighborAdvertisements,
        _ => return,
    };
    stack.mib.inc(mib);
}

/// Counts one that has arrived.
pub(super) fn count_in_v6(stack: &Stack, ty: u8) {
    stack.mib.icmp6_in(ty);
    let mib = match ty {
        kind6::UNREACHABLE => Mib::Icmp6InDestUnreachs,
        kind6::PACKET_TOO_BIG => Mib::Icmp6InPktTooBigs,
        kind6::TIME_EXCEEDED => Mib::Icmp6InTimeExcds,
        kind6::PARAMETER_PROBLEM => Mib::Icmp6InParmProblems,
        kind6::ECHO => Mib::Icmp6InEchos,
        kind6::ECHO_REPLY => Mib::Icmp6InEchoReplies,
        mld::QUERY => Mib::Icmp6InGroupMembQueries,
        mld::REPORT_V1 => Mib::Icmp6InGroupMembResponses,
        mld::DONE => Mib::Icmp6InGroupMembReductions,
        kind6::ROUTER_SOLICITATION => Mib::Icmp6InRouterSolicits,
        kind6::ROUTER_ADVERTISEMENT => Mib::Icmp6InRouterAdvertisements,
        kind6::NEIGHBOUR_SOLICITATION => Mib::Icmp6InNeighborSolicits,
        kind6::NEIGHBOUR_ADVERTISEMENT => Mib::Icmp6InNeighborAdvertisements,
        kind6::REDIRECT => Mib::Icmp6InRedirects,
        mld::REPORT_V2 => Mib::Icmp6InMLDv2Reports,
        _ => return,
    };
    stack.mib.inc(mib);
}
