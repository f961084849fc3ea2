/* The forms that packets and their parts take. Place 0 of a table is its most ordinary row; the rows behind are odd or
 * hostile. */
#include "packets.h"
#include <netinet/tcp.h>
#include <string.h>

const char *const seq_bases[] = {"NXT", "ACKED", "EDGE", "ISS", "FAR", "ZERO"};
const int seq_base_count = COUNT(seq_bases);
const char *const ack_bases[] = {"NXT", "UNA", "ISS", "FAR", "ZERO"};
const int ack_base_count = COUNT(ack_bases);

/* Options of the peer's SYN, see tcp_options(). */
static const struct row syn_options[] = {
    {"all", "020405b4 0402080a val ecr 01 030307"},
    {"none", ""},
    {"mss", "020405b4"},
    {"mss and time stamps", "020405b4 0101 080a val ecr"},
    {"sack and scale", "020405b4 01010402 01 030302"},
    {"mss 536", "02040218"},
    {"mss 0", "02040000"},
    {"mss 1", "02040001"},
    {"mss 65535", "0204ffff"},
    {"scale 15", "020405b4 01 03030f"},
    {"scale 0", "020405b4 01 030300"},
    {"wrong lengths", "020305 0303 0402"},
    {"length 0", "020405b4 0800 0101"},
    {"fast open cookie asked", "020405b4 2202 0101"},
};

/* Options of later segments; "usual" is what was negotiated. */
static const struct row tcp_option_rows[] = {
    {"usual", "usual"},
    {"none", ""},
    {"old stamp", "0101080a val-3000 ecr"},
    {"stamp before", "0101080a val-1 ecr"},
    {"stamp 0", "0101080a 00000000 ecr"},
    {"stamp far ahead", "0101080a val+2000000000 ecr"},
    {"echo ahead", "0101080a val ecr+100000"},
    {"echo behind", "0101080a val ecr-100000"},
    {"echo 0", "0101080a val 00000000"},
    {"stamp of 9 bytes", "01010809 val 000000"},
    {"stamp without NOPs", "080a val ecr 0101"},
    {"two stamps", "0101080a val-1000 ecr 0101080a val ecr"},
    {"sack of all", "0101050a una hostnxt"},
    {"sack of the first byte", "0101050a una una+1"},
    {"sack from the second byte", "0101050a una+1 hostnxt"},
    {"sack below", "0101050a una-100 una-50"},
    {"sack beyond", "0101050a hostnxt+1 hostnxt+100"},
    {"sack reversed", "0101050a hostnxt una"},
    {"sack of 9 bytes", "0101050901020304050607"},
    {"sack empty", "01010502"},
    {"sack of three", "01010512 una+1 una+2 una+4 una+5"},
    {"length 0", "0800080a"},
    {"length 1", "0801080a"},
    {"length beyond", "01010828"},
    {"kind at the end", "01010108"},
    {"end and rest", "00ffffff"},
    {"unknown", "fd04abcd"},
    {"mss", "020405b4"},
    {"scale", "01030307"},
    {"forty bytes", "01010101010101010101010101010101010101010101010101010101010101010101010101010101"},
};

static const struct row tcp_damage[] = {
    {"", ""},
    {"checksum", ""},
    {"checksum 0", ""},
    {"offset 4", ""},
    {"offset beyond", ""},
    {"reserved bits", ""},
    {"another port of the host", ""},
    {"another port of the peer", ""},
    {"port 0", ""},
    {"cut header", ""},
    {"urgent pointer 0", ""},
    {"urgent pointer beyond", ""},
};

/* Addresses of both families. */
static const struct row sources[] = {
    {"peer", "10.0.0.2 fd00::2"},
    {"another", "10.0.0.3 fd00::3"},
    {"the host", "10.0.0.1 fd00::1"},
    {"unspecified", "0.0.0.0 ::"},
    {"loopback", "127.0.0.1 ::1"},
    {"group", "224.0.0.5 ff02::5"},
    {"broadcast", "10.0.0.255 ff02::1"},
    {"limited broadcast", "255.255.255.255 ff05::1"},
    {"class E", "240.0.0.1 fe80::2"},
    {"mapped", "0.0.0.5 ::ffff:10.0.0.2"},
};

static const struct row destinations[] = {
    {"host", "10.0.0.1 fd00::1"},
    {"another", "10.0.0.9 fd00::9"},
    {"broadcast", "10.0.0.255 ff02::2"},
    {"limited broadcast", "255.255.255.255 ff01::1"},
    {"all hosts", "224.0.0.1 ff02::1"},
    {"group not joined", "224.0.0.7 ff02::7"},
    {"solicited node", "224.0.0.251 ff02::1:ff00:1"},
    {"loopback", "127.0.0.1 ::1"},
    {"unspecified", "0.0.0.0 ::"},
    {"class E", "240.0.0.1 ff00::1"},
    {"net", "10.0.0.0 fd00::"},
    {"mapped", "10.0.1.1 ::ffff:10.0.0.1"},
};

/* IPv4 options. */
static const struct row chains4[] = {
    {"no options", ""},
    {"NOPs", "01010101"},
    {"end and rest", "00ffffff"},
    {"record route, room", "070b04000000000000000000"},
    {"record route, one left", "070b080a0000090000000000"},
    {"record route, full", "07070801020304"},
    {"record route, pointer 3", "07070301020304"},
    {"record route, pointer 5", "07070501020304"},
    {"record route, length 3", "07030401"},
    {"record route, length 2", "07020101"},
    {"two record routes", "070704000000000707040000000000"},
    {"time stamp, room", "440c05000000000000000000"},
    {"time stamp, full", "44080900 01020304"},
    {"time stamp, overflow 15", "440809f001020304"},
    {"time stamp, pointer 4", "44080400 01020304"},
    {"time stamp, length 4", "44040500"},
    {"time stamp, length 3", "44030501"},
    {"stamp and address, room", "440c05010000000000000000"},
    {"stamp and address, no room for both", "440805010000000000"},
    {"stamp prespecified, the host", "440c05030a00000100000000"},
    {"stamp prespecified, another", "440c05030a00000900000000"},
    {"stamp of flag 2", "440c05020a00000900000000"},
    {"loose route, done", "8307080a00000900"},
    {"loose route, to go", "8307040a00000900"},
    {"strict route, to go", "8907040a00000900"},
    {"loose route, pointer 3", "83070301020304"},
    {"loose route, length 2", "83020101"},
    {"two loose routes", "8307080a000009018307080a00000901"},
    {"router alert", "94040000"},
    {"router alert, value 1", "94040001"},
    {"router alert, length 3", "94030001"},
    {"security", "8606000000010000"},
    {"security, length 5", "8605000000010000"},
    {"stream", "88040001"},
    {"unknown, to be copied", "c8040102"},
    {"unknown", "5e040102"},
    {"length 0", "4400 0101"},
    {"length 1", "44010101"},
    {"length beyond", "01074001"},
    {"kind at the end", "01010107"},
    {"quick start", "19080000 00000000"},
};

/* Extension headers, KIND:BYTES behind the next-header byte. */
static const struct row chains6[] = {
    {"no extensions", ""},
    {"hop-by-hop PadN", "0:00010400000000"},
    {"hop-by-hop Pad1s", "0:00000000000000"},
    {"hop-by-hop router alert", "0:00050200000100"},
    {"hop-by-hop router alert of 3", "0:00050300000000"},
    {"hop-by-hop skip", "0:001e0400000000"},
    {"hop-by-hop discard", "0:005e0400000000"},
    {"hop-by-hop problem", "0:009e0400000000"},
    {"hop-by-hop problem unless group", "0:00de0400000000"},
    {"hop-by-hop jumbo", "0:00c20400011000"},
    {"hop-by-hop jumbo small", "0:00c20400000100"},
    {"hop-by-hop pad not zero", "0:00010400aa0000"},
    {"hop-by-hop pad of 9", "0:01010b0000000000000000000000 00"},
    {"hop-by-hop option beyond", "0:00010900000000"},
    {"hop-by-hop beyond", "0:f0010400000000"},
    {"hop-by-hop nine pads", "0:01010001000100010001000100 0100"},
    {"hop-by-hop home address", "0:00c90400000000"},
    {"hop-by-hop twice", "0:00010400000000 0:00010400000000"},
    {"hop-by-hop second", "60:00010400000000 0:00010400000000"},
    {"destination PadN", "60:00010400000000"},
    {"destination twice", "60:00010400000000 60:00010400000000"},
    {"destination skip", "60:001e0400000000"},
    {"destination discard", "60:005e0400000000"},
    {"destination problem", "60:009e0400000000"},
    {"destination problem unless group", "60:00de0400000000"},
    {"destination skip, twice", "60:011e041122334400001e0411223344"},
    {"destination option beyond", "60:001e0900000000"},
    {"destination beyond", "60:f0010400000000"},
    {"destination home address", "60:020102000000c910fd000000000000000000000000000003"},
    {"destination home address, short", "60:00c90400000000"},
    {"destination tunnel limit", "60:00040103010100"},
    {"routing 0, none left", "43:00000000000000"},
    {"routing 0, one left", "43:02000100000000fd000000000000000000000000000009"},
    {"routing 2, none left", "43:02020000000000fd000000000000000000000000000009"},
    {"routing 2, one left", "43:02020100000000fd000000000000000000000000000009"},
    {"routing 2, odd length", "43:01020100000000fd00000000000000"},
    {"routing 4, none left", "43:02040000000000fd000000000000000000000000000009"},
    {"routing 4, one left", "43:02040100000000fd000000000000000000000000000009"},
    {"routing 3, one left", "43:02030100000000fd000000000000000000000000000009"},
    {"routing 3, none left", "43:02030000000000fd000000000000000000000000000009"},
    {"routing 253, none left", "43:00fd0000000000"},
    {"routing 253, one left", "43:00fd0100000000"},
    {"routing beyond", "43:f0000000000000"},
    {"atomic fragment", "44:00000000000123"},
    {"atomic fragment, reserved bits", "44:ff000600000123"},
    {"atomic fragment, then options", "44:00000000000123 60:00010400000000"},
    {"two atomic fragments", "44:00000000000123 44:00000000000124"},
    {"long chain", "0:00010400000000 60:00010400000000 43:00000000000000 44:00000000000123 60:00010400000000"},
    {"authentication", "51:0400000000010000000100112233445566778899aabb"},
    {"encryption", "50:01020304050607"},
    {"mobility", "135:00010203040506"},
    {"host identity", "139:00010203040506"},
    {"shim", "140:00010203040506"},
    {"no next header", "59:"},
    {"unknown header", "200:00010203040506"},
};

/* Pieces, see send_fragments(). */
static const struct row fragment_rows[] = {
    {"whole", ""},
    {"two", "0-24+ 24-."},
    {"two reversed", "24-. 0-24+"},
    {"three", "0-24+ 24-48+ 48-."},
    {"three shuffled", "48-. 0-24+ 24-48+"},
    {"tiny first", "0-8+ 8-."},
    {"first of 16", "0-16+ 16-."},
    {"first again", "0-24+ 0-24+ 24-."},
    {"first again, another", "0-24+ 0-24+x 24-."},
    {"overlap", "0-24+ 16-."},
    {"overlap backwards", "16-. 0-24+"},
    {"within", "0-32+ 8-16+ 32-."},
    {"around", "8-16+ 0-32+ 32-."},
    {"last missing", "0-24+"},
    {"first missing", "24-."},
    {"not of eights", "0-21+ 24-."},
    {"last twice", "24-. 24-48 0-24+"},
    {"beyond the last", "24-40 40-56+ 0-24+"},
    {"empty", "0-24+ 24-24+ 24-."},
    {"empty last", "0-24+ 24-24"},
    {"too far", "0-24+ 65528-."},
    {"ends with another codepoint", "0-24+ 24-.e"},
    {"ends with another protocol", "0-24+ 24-.p"},
    {"one that is all", "0-."},
};

static const struct row ip_damage[] = {
    {"", ""},
    {"header checksum", ""},
    {"header length 4", ""},
    {"header length 15", ""},
    {"total too small", ""},
    {"total too large", ""},
    {"total zero", ""},
    {"reserved flag", ""},
    {"bytes behind", ""},
    {"cut in the header", ""},
    {"cut behind the header", ""},
    {"the other version", ""},
    {"the other ICMP", ""},
    {"unknown protocol", ""},
};

/* What an ICMP error quotes. */
static const struct row quotes[] = {
    {"segment", ""},
    {"8 bytes", ""},
    {"4 bytes", ""},
    {"no transport", ""},
    {"half a header", ""},
    {"another source", ""},
    {"another destination", ""},
    {"another port", ""},
    {"later fragment", ""},
    {"unknown protocol", ""},
    {"the other version", ""},
    {"the peer's own", ""},
    {"with options", ""},
    {"an ICMP error", ""},
    {"checksum wrong", ""},
    {"udp", ""},
    {"first fragment", ""},
};

static const struct row udp_damage[] = {
    {"", ""},
    {"checksum", ""},
    {"checksum 0", ""},
    {"length 0", ""},
    {"length 7", ""},
    {"length shorter", ""},
    {"length longer", ""},
    {"cut header", ""},
    {"port 0 from", ""},
    {"port 0 to", ""},
    {"closed port", ""},
    {"another port of the peer", ""},
};

static const struct row udp_ends[] = {
    {"bound", ""},
    {"connected", ""},
    {"connected, RECVERR", ""},
    {"bound, RECVERR", ""},
};

/* Counters; those that count time or memory are not among them. */
#define C(name) {name, ""}
static const struct row counters[] = {
    C("IpInReceives"), C("IpInHdrErrors"), C("IpInAddrErrors"), C("IpInUnknownProtos"), C("IpInDiscards"),
    C("IpInDelivers"), C("IpOutRequests"), C("IpOutDiscards"), C("IpOutNoRoutes"), C("IpReasmReqds"),
    C("IpReasmOKs"), C("IpReasmFails"), C("IpOutTransmits"), C("IcmpInMsgs"), C("IcmpInErrors"),
    C("IcmpInCsumErrors"), C("IcmpInDestUnreachs"), C("IcmpInTimeExcds"), C("IcmpInParmProbs"), C("IcmpInEchos"),
    C("IcmpInEchoReps"), C("IcmpInTimestamps"), C("IcmpOutMsgs"), C("IcmpOutErrors"), C("IcmpOutDestUnreachs"),
    C("IcmpOutParmProbs"), C("IcmpOutEchoReps"), C("IcmpOutTimestampReps"), C("TcpActiveOpens"),
    C("TcpPassiveOpens"), C("TcpAttemptFails"), C("TcpEstabResets"), C("TcpCurrEstab"), C("TcpInSegs"),
    C("TcpOutSegs"), C("TcpRetransSegs"), C("TcpInErrs"), C("TcpOutRsts"), C("TcpInCsumErrors"),
    C("UdpInDatagrams"), C("UdpNoPorts"), C("UdpInErrors"), C("UdpOutDatagrams"), C("UdpInCsumErrors"),
    C("IpExtInNoRoutes"), C("IpExtInTruncatedPkts"), C("IpExtInMcastPkts"), C("IpExtInBcastPkts"),
    C("IpExtInOctets"), C("IpExtInCsumErrors"), C("IpExtReasmOverlaps"), C("IpExtInNoECTPkts"),
    C("IpExtInECT0Pkts"), C("IpExtInECT1Pkts"), C("IpExtInCEPkts"), C("TcpExtEmbryonicRsts"),
    C("TcpExtOutOfWindowIcmps"), C("TcpExtLockDroppedIcmps"), C("TcpExtTW"), C("TcpExtTWRecycled"),
    C("TcpExtPAWSEstab"), C("TcpExtPAWSOldAck"), C("TcpExtPAWSTimewait"), C("TcpExtDelayedACKs"),
    C("TcpExtDelayedACKLost"), C("TcpExtListenDrops"), C("TcpExtTCPHPHits"), C("TcpExtTCPPureAcks"),
    C("TcpExtTCPHPAcks"), C("TcpExtTCPAbortOnData"), C("TcpExtTCPAbortOnClose"), C("TcpExtTCPSackRecovery"),
    C("TcpExtTCPSACKReneging"), C("TcpExtTCPDSACKOldSent"), C("TcpExtTCPDSACKOfoSent"), C("TcpExtTCPDSACKRecv"),
    C("TcpExtTCPDSACKIgnoredNoUndo"), C("TcpExtTCPSACKDiscard"), C("TcpExtTCPOFOQueue"), C("TcpExtTCPOFODrop"),
    C("TcpExtTCPOFOMerge"), C("TcpExtTCPChallengeACK"), C("TcpExtTCPSYNChallenge"), C("TcpExtTCPReqQFullDrop"),
    C("TcpExtTCPACKSkippedSynRecv"), C("TcpExtTCPACKSkippedPAWS"), C("TcpExtTCPACKSkippedSeq"),
    C("TcpExtTCPACKSkippedFinWait2"), C("TcpExtTCPACKSkippedTimeWait"), C("TcpExtTCPACKSkippedChallenge"),
    C("TcpExtTCPKeepAlive"), C("TcpExtTCPDelivered"), C("TcpExtTCPRcvCollapsed"), C("TcpExtBeyondWindow"),
    C("TcpExtTSEcrRejected"), C("TcpExtPAWSPassive"), C("TcpExtTCPZeroWindowDrop"), C("TcpExtTCPRcvQDrop"),
    C("TcpExtTCPAckCompressed"), C("TcpExtTCPToZeroWindowAdv"), C("TcpExtTCPWantZeroWindowAdv"),
    C("Ip6InReceives"), C("Ip6InHdrErrors"), C("Ip6InTooBigErrors"), C("Ip6InNoRoutes"), C("Ip6InAddrErrors"),
    C("Ip6InUnknownProtos"), C("Ip6InTruncatedPkts"), C("Ip6InDiscards"), C("Ip6InDelivers"),
    C("Ip6ReasmReqds"), C("Ip6ReasmOKs"), C("Ip6ReasmFails"), C("Ip6InMcastPkts"),
    C("Ip6InOctets"), C("Ip6InNoECTPkts"), C("Ip6InECT0Pkts"), C("Icmp6InMsgs"), C("Icmp6InErrors"),
    C("Icmp6InCsumErrors"), C("Icmp6OutErrors"), C("Icmp6InDestUnreachs"),
    C("Icmp6InPktTooBigs"), C("Icmp6InTimeExcds"), C("Icmp6InParmProblems"), C("Icmp6InEchos"),
    C("Icmp6InEchoReplies"), C("Icmp6InNeighborSolicits"), C("Icmp6InNeighborAdvertisements"),
    C("Icmp6OutDestUnreachs"), C("Icmp6OutParmProblems"), C("Icmp6OutEchoReplies"), C("Udp6InDatagrams"),
    C("Udp6NoPorts"), C("Udp6InErrors"), C("Udp6InCsumErrors"),
};

#define TABLE(n, t) [n] = t
const struct row *const tables[T_TABLES] = {
    TABLE(T_SYN_OPTIONS, syn_options), TABLE(T_TCP_OPTIONS, tcp_option_rows), TABLE(T_TCP_DAMAGE, tcp_damage),
    TABLE(T_SOURCE, sources),          TABLE(T_DESTINATION, destinations),    TABLE(T_CHAIN4, chains4),
    TABLE(T_CHAIN6, chains6),          TABLE(T_FRAGMENTS, fragment_rows),     TABLE(T_IP_DAMAGE, ip_damage),
    TABLE(T_QUOTE, quotes),            TABLE(T_UDP_DAMAGE, udp_damage),       TABLE(T_UDP_END, udp_ends),
    TABLE(T_COUNTER, counters),
};
const int table_counts[T_TABLES] = {
    TABLE(T_SYN_OPTIONS, COUNT(syn_options)), TABLE(T_TCP_OPTIONS, COUNT(tcp_option_rows)),
    TABLE(T_TCP_DAMAGE, COUNT(tcp_damage)),   TABLE(T_SOURCE, COUNT(sources)),
    TABLE(T_DESTINATION, COUNT(destinations)), TABLE(T_CHAIN4, COUNT(chains4)),
    TABLE(T_CHAIN6, COUNT(chains6)),          TABLE(T_FRAGMENTS, COUNT(fragment_rows)),
    TABLE(T_IP_DAMAGE, COUNT(ip_damage)),     TABLE(T_QUOTE, COUNT(quotes)),
    TABLE(T_UDP_DAMAGE, COUNT(udp_damage)),   TABLE(T_UDP_END, COUNT(udp_ends)),
    TABLE(T_COUNTER, COUNT(counters)),
};

const char *name_at(enum table table, int at)
{
    return tables[table][at % table_counts[table]].name;
}

int place(enum table table, const char *name)
{
    for (int i = 0; i < table_counts[table]; i++)
        if (strcmp(tables[table][i].name, name) == 0)
            return i;
    return 0;
}

static void print_state(int v)
{
    static const char *const states[] = {"0",          "ESTABLISHED", "SYN_SENT",  "SYN_RECV", "FIN_WAIT1",
                                         "FIN_WAIT2",  "TIME_WAIT",   "CLOSED",    "CLOSE_WAIT", "LAST_ACK",
                                         "LISTEN",     "CLOSING"};
    printf("%s%s", states[(v & 31) % COUNT(states)], v & BY_CLOSE ? " | BY_CLOSE" : "");
}

static void print_bits(int v)
{
    static const char *const names[] = {"FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR", "AE"};
    bool any = false;
    for (int i = 0; i < COUNT(names); i++)
        if (v & 1 << i) {
            printf("%s%s", any ? "|" : "", names[i]);
            any = true;
        }
    if (!any)
        printf("0");
}

void print_arg(enum arg arg, int v)
{
    switch (arg) {
    case A_STATE:
        return print_state(v);
    case A_BITS:
        return print_bits(v);
    case A_SEQ:
        printf("%s", seq_bases[v % seq_base_count]);
        return;
    case A_ACK:
        printf("%s", ack_bases[v % ack_base_count]);
        return;
    case A_FAMILY:
        printf("%s", v == 6 ? "AF_INET6" : "AF_INET");
        return;
    case A_INT:
    case A_SLOT:
        printf("%d", v);
        return;
    default:
        printf("\"%s\"", name_at((enum table)(arg - A_TABLE), v));
    }
}
