use super::*;
use proptest::prelude::*;
use std::time::Duration;

#[test]
fn every_default_of_the_table_is_canonical_and_can_be_set_again() {
    let sysctls = Sysctls::new();
    for def in &TABLE {
        assert_eq!(sysctls.get(&def.name).as_deref(), Ok(&*def.default), "{}", def.name);
        let want = if def.mode == Mode::Ro { Err(Error::Acces) } else { Ok(()) };
        assert_eq!(sysctls.set(&def.name, &def.default), want, "{}", def.name);
        if let Kind::Pair { min, max } = def.kind {
            assert!(min >= 0 && max <= i128::from(u32::MAX), "{}", def.name);
        }
    }
    let names: Vec<String> = sysctls.list().into_iter().map(|entry| entry.name).collect();
    assert!(names.is_sorted_by(|a, b| a < b), "a name twice");
    assert_eq!(names.len(), TABLE.len());
}

#[test]
fn writes_are_read_as_proc_sys_reads_them() {
    let inval = Err(Error::Inval);
    for (name, text, want) in [
        ("net.ipv4.tcp_sack", "0", Ok("0")),
        ("net/ipv4/tcp_sack", "2\n", Ok("2")),
        ("/proc/sys/net/ipv4/tcp_sack", " 0x1 9", Ok("1")),
        ("net.ipv4.tcp_sack", "010", Ok("8")),
        ("net.ipv4.tcp_sack", "256", inval),
        ("net.ipv4.tcp_sack", "-1", inval),
        ("net.ipv4.tcp_sack", "1x", inval),
        ("net.ipv4.tcp_sack", "0x", inval),
        ("net.ipv4.tcp_sack", "08", inval),
        ("net.ipv4.tcp_sack", "+1", inval),
        ("net.ipv4.tcp_sack", "--1", inval),
        ("net.ipv4.tcp_sack", "", inval),
        ("net.ipv4.tcp_sack", "\n", inval),
        ("net.ipv4.tcp_sack", "99999999999999999999999999", inval),
        ("net.ipv4.tcp_rmem", "1 2 3", Ok("1\t2\t3")),
        ("net.ipv4.tcp_rmem", "1 2", Ok("1\t2\t33554432")),
        ("net.ipv4.tcp_rmem", "0 2 3", inval),
        ("net.ipv4.tcp_mem", "1 2 18446744073709551615", Ok("1\t2\t18446744073709551615")),
        ("net.ipv4.tcp_mem", "1 2 18446744073709551616", inval),
        ("net.ipv4.tcp_notsent_lowat", "4294967295", Ok("4294967295")),
        ("net.ipv4.tcp_notsent_lowat", "4294967296", inval),
        ("net.ipv4.tcp_adv_win_scale", "-31", Ok("-31")),
        ("net.ipv4.tcp_syn_retries", "0", inval),
        ("net.ipv4.ip_forward", "1", inval),
        ("net.ipv4.ip_local_port_range", "40000 50000", Ok("40000\t50000")),
        ("net.ipv4.ip_local_port_range", "50000 40000", inval),
        ("net.ipv4.ip_local_port_range", "0 40000", inval),
        ("net.ipv4.ip_local_port_range", "1024 65536", inval),
        ("net.ipv4.ping_group_range", "0 4294967294", Ok("0\t4294967294")),
        ("net.ipv4.ping_group_range", "5 3", Ok("1\t0")),
        ("net.ipv4.ping_group_range", "0 4294967295", inval),
        ("net.ipv4.ipfrag_high_thresh", "3145727", inval),
        ("net.ipv4.ipfrag_low_thresh", "4194305", inval),
        ("net.ipv4.ip_local_reserved_ports", "10-12,8080, 9", inval),
        ("net.ipv4.ip_local_reserved_ports", "10-12,8080,12-13\n", Ok("10-13,8080")),
        ("net.ipv4.ip_local_reserved_ports", "\n", Ok("")),
        ("net.ipv4.ip_local_reserved_ports", "65535", Ok("65535")),
        ("net.ipv4.ip_local_reserved_ports", "65536", inval),
        ("net.ipv4.ip_local_reserved_ports", "12-10", inval),
        ("net.ipv4.ip_local_reserved_ports", "+9", inval),
        ("net.ipv4.tcp_congestion_control", "reno\n", Ok("reno")),
        ("net.ipv4.tcp_ehash_entries", "5", Err(Error::Acces)),
        ("net.ipv4.tcp_available_congestion_control", "x", Err(Error::Acces)),
        ("net.ipv4.tcp_no_such", "1", Err(Error::NoEnt)),
        ("", "1", Err(Error::NoEnt)),
    ] {
        let sysctls = Sysctls::new();
        let before = sysctls.get(name);
        assert_eq!(sysctls.set(name, text), want.map(|_| ()), "{name} = {text:?}");
        match want {
            Ok(now) => assert_eq!(sysctls.get(name).as_deref(), Ok(now), "{name} = {text:?}"),
            Err(_) => assert_eq!(sysctls.get(name), before, "{name} = {text:?} failed and changed it"),
        }
        assert_eq!(sysctls.generation(), u64::from(want.is_ok()), "{name} = {text:?}");
    }
}

#[test]
fn getters_read_what_was_set() {
    let sysctls = Sysctls::new();
    assert!(sysctls.tcp_sack());
    assert_eq!(sysctls.tcp_fin_timeout(), Duration::from_secs(60));
    assert_eq!(sysctls.tcp_rto_min_us(), Duration::from_millis(200));
    assert_eq!(sysctls.tcp_rmem(), [4096, 131_072, 33_554_432]);
    assert_eq!(sysctls.ip_local_port_range(), (32_768, 60_999));
    assert_eq!(sysctls.ping_group_range(), (1, 0));
    assert_eq!(&*sysctls.tcp_congestion_control(), "cubic");
    for (name, text) in [
        ("tcp_sack", "0"),
        ("tcp_fin_timeout", "-5"),
        ("tcp_wmem", "8192 16384 65536"),
        ("tcp_mem", "1 2 18446744073709551615"),
        ("tcp_adv_win_scale", "-2"),
        ("tcp_congestion_control", "reno"),
        ("ip_local_reserved_ports", "7,100-130"),
    ] {
        sysctls.set(&format!("net.ipv4.{name}"), text).unwrap();
    }
    assert!(!sysctls.tcp_sack());
    assert_eq!(sysctls.tcp_fin_timeout(), Duration::ZERO);
    assert_eq!(sysctls.tcp_wmem(), [8192, 16_384, 65_536]);
    assert_eq!(sysctls.tcp_mem(), [1, 2, u64::MAX]);
    assert_eq!(sysctls.tcp_adv_win_scale(), -2);
    assert_eq!(&*sysctls.tcp_congestion_control(), "reno");
    let reserved: Vec<u16> = (0..=u16::MAX).filter(|&port| sysctls.port_is_reserved(port)).collect();
    assert_eq!(reserved, [7].into_iter().chain(100..=130).collect::<Vec<_>>());
    sysctls.reset("net.ipv4.tcp_sack").unwrap();
    assert!(sysctls.tcp_sack());
}

#[test]
fn times_that_are_read_as_numbers_fit_in_them() {
    let most = i128::from(u32::MAX);
    for (row, most) in [
        (Row::tcp_rto_min_us, most),
        (Row::tcp_rto_max_ms, most),
        // It is made milliseconds of.
        (Row::tcp_min_rtt_wlen, most / 1000),
    ] {
        let def = &TABLE[row as usize];
        assert!(matches!(def.kind, Kind::Number { min: 0.., max } if max <= most), "{}", def.name);
    }
}

#[test]
fn a_moot_sysctl_takes_every_value_of_its_range_and_says_why_none_matters() {
    let sysctls = Sysctls::new();
    let moot: Vec<_> = TABLE.iter().filter(|def| def.support == Support::Moot).collect();
    assert!(!moot.is_empty());
    for def in moot {
        let Kind::Number { min, max } = def.kind else { panic!("{}", def.name) };
        for value in [min, max] {
            assert_eq!(sysctls.set(&def.name, &value.to_string()), Ok(()), "{}", def.name);
            assert_eq!(sysctls.get(&def.name), Ok(value.to_string()), "{}", def.name);
        }
        assert_eq!(sysctls.set(&def.name, &(max + 1).to_string()), Err(Error::Inval), "{}", def.name);
        assert!(def.help.matches(". ").count() > 0, "{}: why?", def.name);
    }
}

#[test]
fn a_validator_refuses_with_its_own_error_and_a_reader_answers_for_a_value_elsewhere() {
    let sysctls = Sysctls::new();
    let known = |name: &str| if ["reno", "cubic"].contains(&name) { Ok(()) } else { Err(Error::NoEnt) };
    sysctls.set_validator("net.ipv4.tcp_congestion_control", Arc::new(known)).unwrap();
    assert_eq!(sysctls.set("net.ipv4.tcp_congestion_control", "bbr"), Err(Error::NoEnt));
    assert_eq!(sysctls.set("net.ipv4.tcp_congestion_control", "reno"), Ok(()));
    sysctls.set_reader("net.ipv4.tcp_available_congestion_control", Arc::new(|| "reno x".into())).unwrap();
    assert_eq!(sysctls.get("net.ipv4.tcp_available_congestion_control").as_deref(), Ok("reno x"));
    assert_eq!(sysctls.set_reader("net.no", Arc::new(String::new)), Err(Error::NoEnt));
    sysctls.publish("net.ipv4.tcp_ehash_entries", "1024").unwrap();
    assert_eq!(sysctls.tcp_ehash_entries(), 1024);
}

#[test]
fn plug_ins_register_and_unregister_sysctls_of_their_own() {
    let sysctls = Sysctls::new();
    let spec = |kind, default: &str| SysctlSpec::new(kind, default, "A test.");
    let percent = || spec(Kind::Number { min: -100, max: 100 }, "50");
    let id = sysctls.register("net/mine/percent", percent()).unwrap();
    assert_eq!(sysctls.set("net.mine.percent", "-7"), Ok(()));
    assert_eq!(sysctls.set("net.mine.percent", "101"), Err(Error::Inval));
    assert_eq!((sysctls.get_number(id), sysctls.get("net.mine.percent").as_deref()), (Ok(-7), Ok("-7")));
    assert!(sysctls.list().iter().any(|entry| entry.name == "net.mine.percent" && entry.value == "-7"));
    for (name, spec, want) in [
        ("net.mine.percent", percent(), Error::Exist),
        ("net.ipv4.tcp_sack", percent(), Error::Exist),
        ("", percent(), Error::Inval),
        ("net..x", percent(), Error::Inval),
        ("net.a b", percent(), Error::Inval),
        ("net.x", spec(Kind::Number { min: 0, max: 1 }, "2"), Error::Inval),
        ("net.x", spec(Kind::Number { min: 2, max: 1 }, "2"), Error::Inval),
        ("net.x", spec(Kind::Number { min: -1, max: i128::from(u64::MAX) }, "0"), Error::Inval),
        ("net.x", spec(Kind::Pair { min: 0, max: 1 << 32 }, "0 0"), Error::Inval),
        ("net.x", spec(Kind::Triple { min: 0, max: 9 }, "1 2"), Error::Inval),
    ] {
        assert_eq!(sysctls.register(name, spec).err(), Some(want), "{name}");
    }
    sysctls.register("net.mine.seen", spec(Kind::Number { min: 0, max: 9 }, "0").read_only()).unwrap();
    assert_eq!(sysctls.set("net.mine.seen", "3"), Err(Error::Acces));
    sysctls.publish("net.mine.seen", "3").unwrap();
    assert_eq!(sysctls.get("net.mine.seen").as_deref(), Ok("3"));
    assert_eq!(sysctls.unregister(id), Ok(()));
    assert_eq!(sysctls.unregister(id), Err(Error::NoEnt));
    assert_eq!(sysctls.get("net.mine.percent"), Err(Error::NoEnt));
    let again = sysctls.register("net.mine.percent", percent()).unwrap();
    assert_ne!(id, again, "an id came to mean another sysctl");
    assert_eq!(sysctls.unregister(sysctls.id("net.ipv4.tcp_sack").unwrap()), Err(Error::Busy));
}

/// A live sysctl that no code reads would be accepted and ignored. Read-only ones only report a value.
#[test]
fn every_live_sysctl_is_read_by_some_code() {
    fn sources(dir: &std::path::Path, out: &mut String) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let ours = path.ends_with("sysctl") || path.ends_with("sysctl.rs");
            if path.is_dir() && !ours {
                sources(&path, out);
            } else if path.extension().is_some_and(|ext| ext == "rs") && !ours {
                out.push_str(&std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut text = String::new();
    sources(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut text);
    let text: String = text.split_whitespace().collect();
    let read =
        |getter: &str, name: &str| text.contains(&format!(".{getter}()")) || text.contains(&format!("\"{name}\""));
    let unread: Vec<_> = table::GETTERS
        .iter()
        .filter(|(getter, name, support)| *support == Support::Live && !read(getter, name))
        .map(|(_, name, _)| name)
        .filter(|name| {
            ![
                "net.ipv4.ip_local_reserved_ports",
                "net.ipv6.icmp.ratemask",
                "net.ipv4.ip_forward",
                "net.ipv6.conf.all.forwarding",
                "net.ipv4.tcp_available_ulp",
                "net.ipv4.tcp_ehash_entries",
                "net.ipv4.udp_hash_entries",
            ]
            .contains(name)
        })
        .collect();
    assert!(unread.is_empty(), "live, but read nowhere: {unread:#?}");
}

proptest! {
    #![proptest_config(crate::base::cases::cases())]
    #[test]
    fn no_text_panics_and_whatever_is_accepted_reads_back_the_same(
        row in 0..TABLE.len(), text in "[-0-9a-fx, \t\n]{0,24}|\\PC*",
    ) {
        let sysctls = Sysctls::new();
        let name = &TABLE[row].name;
        if sysctls.set(name, &text).is_ok() {
            let value = sysctls.get(name).unwrap();
            prop_assert_eq!(sysctls.set(name, &value), Ok(()));
            prop_assert_eq!(sysctls.get(name).unwrap(), value);
        }
    }

    #[test]
    fn port_lists_round_trip(ports in proptest::collection::btree_set(any::<u16>(), 0..40)) {
        let sysctls = Sysctls::new();
        let list: Vec<String> = ports.iter().map(u16::to_string).collect();
        let name = "net.ipv4.ip_local_reserved_ports";
        sysctls.set(name, &list.join(",")).unwrap();
        sysctls.set(name, &sysctls.get(name).unwrap()).unwrap();
        prop_assert!((0..=u16::MAX).all(|port| sysctls.port_is_reserved(port) == ports.contains(&port)));
    }
}
