use super::*;
use std::collections::HashSet;

#[test]
fn names_are_linuxs_unique_and_lead_back_to_their_counter() {
    let mut seen = HashSet::new();
    for (i, &mib) in Mib::ALL.iter().enumerate() {
        assert_eq!(mib as usize, i);
        assert!(seen.insert(mib.name()), "{} twice", mib.name());
        assert_eq!(Mib::from_name(mib.name()), Some(mib));
        assert!(mib.group().mibs().contains(&mib));
    }
    for (i, &reason) in DropReason::ALL.iter().enumerate() {
        assert_eq!(reason as usize, i);
        assert!(seen.insert(reason.name()), "{} twice", reason.name());
        assert_eq!(DropReason::from_name(reason.name()), Some(reason));
    }
    for name in ["TcpExtTCPAutoCorking", "TcpRetransSegs", "IpInReceives", "Ip6InReceives", "TcpExtTcpTimeoutRehash"] {
        assert!(Mib::from_name(name).is_some(), "{name}");
    }
    assert_eq!(Mib::from_name("TcpExtNoSuch"), None);
}

/// Counters of TCP and IP that never move, and why: docs/observe.md says so, too.
const NEVER: &[(&str, &str)] = &[
    ("TcpExtArpFilter", "every address of the stack is answered for on each device (arp_filter is 0)"),
    ("TcpExtPFMemallocDrop", "no packet is in memory that is kept for swapping"),
    ("TcpExtIPReversePathFilter", "a source is not asked for its route (rp_filter is 0)"),
];

fn read_sources(dir: &std::path::Path, text: &mut String) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let is_test = path.ends_with("tests.rs") || path.ends_with("counters");
        match path.extension() {
            _ if is_test => {}
            None => read_sources(&path, text),
            Some(_) => text.push_str(&std::fs::read_to_string(&path).unwrap()),
        }
    }
}

#[test]
fn each_counter_of_netstat_is_counted_somewhere_or_listed() {
    let mut text = String::new();
    read_sources(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut text);
    let words: HashSet<&str> = text.split(|c: char| !c.is_alphanumeric()).collect();
    let page = include_str!("../../docs/observe.md");
    for mib in Mib::ALL.iter().filter(|m| m.name().starts_with("TcpExt")) {
        let never = NEVER.iter().any(|(name, _)| *name == mib.name());
        let counted = words.contains(mib.name());
        assert!(counted || never, "{} is counted nowhere", mib.name());
        assert!(!(counted && never), "{} is counted now", mib.name());
        assert!(!never || page.contains(mib.name()), "docs/observe.md does not say that {} never moves", mib.name());
    }
}

#[test]
fn counting_from_many_threads_loses_nothing() {
    let counters = Counters::new();
    std::thread::scope(|scope| {
        for _ in 0..2 * SHARDS {
            scope.spawn(|| {
                for _ in 0..1000 {
                    counters.inc(Mib::TcpInSegs);
                    counters.inc(Mib::TcpCurrEstab);
                    counters.drop(DropReason::TcpCsum);
                }
            });
        }
    });
    let n = 2 * SHARDS as u64 * 1000;
    assert_eq!((counters.get(Mib::TcpInSegs), counters.drops(DropReason::TcpCsum)), (n, n));
    for _ in 0..n {
        counters.dec(Mib::TcpCurrEstab);
    }
    assert_eq!(counters.get(Mib::TcpCurrEstab), 0);
    assert_eq!(counters.iter_drops().filter(|d| d.1 > 0).collect::<Vec<_>>(), [(DropReason::TcpCsum, n)]);
}

/// Far more threads than shards, one after another: they share the last shard only while all others are taken.
#[test]
fn a_thread_that_ends_gives_its_shard_back() {
    let shard = || std::thread::scope(|scope| scope.spawn(shard_index).join().unwrap());
    let later = (0..16 * SHARDS).map(|_| shard()).skip(8 * SHARDS);
    assert!(later.into_iter().any(|mine| mine < SHARDS - 1));
}

#[test]
fn set_makes_a_gauge_read_the_value_from_any_thread() {
    let counters = Counters::new();
    counters.set(Mib::TcpCurrEstab, 10);
    std::thread::scope(|s| s.spawn(|| counters.set(Mib::TcpCurrEstab, 3)).join().unwrap());
    counters.inc(Mib::TcpCurrEstab);
    assert_eq!(counters.get(Mib::TcpCurrEstab), 4);
}

#[test]
fn the_texts_have_the_shape_of_the_proc_files() {
    let counters = Counters::new();
    counters.add(Mib::TcpExtTCPAutoCorking, 7);
    counters.icmp_in(3);
    counters.icmp6_out(135);
    for text in [counters.snmp_text(), counters.netstat_text()] {
        let lines: Vec<&str> = text.lines().collect();
        for pair in lines.chunks(2) {
            assert_eq!(pair[0].split(':').next(), pair[1].split(':').next());
            assert_eq!(pair[0].split(' ').count(), pair[1].split(' ').count());
        }
    }
    let snmp = counters.snmp_text();
    assert!(snmp.starts_with("Ip: Forwarding DefaultTTL InReceives "), "{snmp}");
    assert!(snmp.contains("\nIp: 2 64 0 "), "{snmp}");
    assert!(snmp.contains("\nIcmpMsg: InType3\nIcmpMsg: 1\n"), "{snmp}");
    assert!(snmp.contains("\nTcp: 1 200 120000 -1 0 0 "), "{snmp}");
    let netstat = counters.netstat_text();
    let column = netstat.lines().next().unwrap().split(' ').position(|n| n == "TCPAutoCorking").unwrap();
    assert_eq!(netstat.lines().nth(1).unwrap().split(' ').nth(column), Some("7"));
    let snmp6 = counters.snmp6_text();
    assert!(snmp6.contains("\nIcmp6OutType135                 \t1\n"), "{snmp6}");
    assert_eq!(counters.get_by_name("IcmpMsgInType3"), Some(1));
    assert_eq!(counters.get_by_name("Icmp6OutType135"), Some(1));
    assert_eq!(counters.get_by_name("TcpExtTCPAutoCorking"), Some(7));
    assert_eq!(counters.get_by_name("Icmp6OutType256"), None);
}
