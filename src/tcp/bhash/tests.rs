use super::*;
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};

fn holder(addr: IpAddr) -> Holder {
    let no = false;
    Holder { addr, v6only: no, ifindex: 0, reuse: no, force: no, reuseport: no, listening: no, by_connect: no }
}

#[test]
fn ports_conflict_as_bind_in_linux_says() {
    let any4 = holder(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let any6 = holder(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    let one = holder(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let two = holder(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)));
    let reuse = |h: Holder| Holder { reuse: true, ..h };
    let listen = |h: Holder| Holder { listening: true, ..h };
    let port = |h: Holder| Holder { reuseport: true, ..h };
    for (case, a, b, free) in [
        ("same address", one, one, false),
        ("other address", one, two, true),
        ("wildcard against one", any4, one, false),
        ("IPv6 wildcard takes IPv4", any6, one, false),
        ("IPv6 only does not", Holder { v6only: true, ..any6 }, one, true),
        ("both reuse", reuse(one), reuse(one), true),
        ("one reuses", reuse(one), one, false),
        ("repair against a listener", listen(one), Holder { force: true, ..one }, true),
        ("reuse against a listener", listen(reuse(one)), reuse(one), false),
        ("reuseport both, listening", listen(port(one)), port(one), true),
        ("other devices", Holder { ifindex: 1, ..one }, Holder { ifindex: 2, ..one }, true),
    ] {
        let t = BindTable::default();
        let first = t.bind(80, a).expect(case);
        assert_eq!(t.bind(80, b).is_some(), free, "{case}");
        t.unbind(&first);
        assert!(t.bind(81, b).is_some(), "{case}");
    }
}

#[test]
fn a_connecting_sock_shares_ports_only_with_other_connecting_ones() {
    let t = BindTable::default();
    let h = holder(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let a = t.bind_for_connect(4000, h).unwrap();
    let b = t.bind_for_connect(4000, h).unwrap();
    assert!(t.bind(4000, h).is_none());
    t.unbind(&a);
    t.unbind(&b);
    let _held = t.bind(4000, h).unwrap();
    assert!(t.bind_for_connect(4000, h).is_none());
}

/// Kinds that exist in all shards, and ports that are held.
fn sizes(t: &BindTable) -> (usize, usize) {
    t.shards.iter().map(|s| s.lock()).fold((0, 0), |(kinds, ports), s| {
        assert!(s.more.keys().all(|port| s.first.contains_key(port)), "the others are beside a first");
        assert_eq!(s.kinds.iter().map(|(_, kind)| kind.ports as usize).sum::<usize>(), {
            s.first.len() + s.more.values().map(Vec::len).sum::<usize>()
        });
        (kinds + s.kinds.len(), ports + s.first.len())
    })
}

#[test]
fn ports_of_equal_holders_share_their_kind_and_give_it_back() {
    let t = BindTable::default();
    let of = |n: u8| holder(IpAddr::V4(Ipv4Addr::new(127, 0, 0, n)));
    let bounds: Vec<_> = (1..=100).map(|i| t.bind_for_connect(64 * i, of(1)).unwrap()).collect();
    assert_eq!(sizes(&t), (1, 100));
    bounds.iter().for_each(|b| t.unbind(b));
    assert_eq!(sizes(&t), (1, 0), "the kind is kept for the next");
    let bounds: Vec<_> = (1..=100).map(|n| t.bind(64 * u16::from(n), of(n)).unwrap()).collect();
    assert_eq!(sizes(&t), (100, 100), "the first is one of the second's");
    bounds.iter().for_each(|b| t.unbind(b));
    assert_eq!(sizes(&t), (RECENT, 0));
}

#[test]
fn a_sock_that_begins_to_listen_does_not_conflict_with_itself() {
    let t = BindTable::default();
    let one = holder(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let listens = Holder { listening: true, ..one };
    let a = t.bind(80, one).unwrap();
    let a = t.rebind(&a, listens).expect("nobody else is there");
    assert_eq!(t.holder(&a), listens);
    let shared = Holder { reuse: true, ..one };
    let (b, c) = (t.bind(81, shared).unwrap(), t.bind(81, shared).unwrap());
    assert_eq!(b, c);
    let b = t.rebind(&b, Holder { listening: true, ..shared }).expect("the other does not listen");
    assert!(t.rebind(&c, Holder { listening: true, ..shared }).is_none(), "now it does");
    assert_eq!(t.holder(&c), shared);
    [a, b, c].iter().for_each(|bound| t.unbind(bound));
    assert_eq!(sizes(&t).1, 0);
}

proptest! {
    /// Beside a plain list of holders, for three ports of one shard and some kinds.
    #[test]
    fn the_table_is_as_a_list_of_holders(
        steps in prop::collection::vec((0u8..6, 0u8..3, 0u8..12, any::<u8>()), 1..200),
    ) {
        let t = BindTable::default();
        let mut model: Vec<(Bound, Holder)> = Vec::new();
        for (what, port, kind, which) in steps {
            let port = 1000 + 64 * u16::from(port);
            let addr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, kind / 4));
            let h = Holder { reuse: kind & 1 != 0, reuseport: kind & 2 != 0, ..holder(addr) };
            let of = |model: &[(Bound, Holder)]| -> Vec<Holder> {
                model.iter().filter(|(b, _)| b.port == port).map(|(_, h)| *h).collect()
            };
            match what {
                0 | 1 => {
                    let free = !of(&model).iter().any(|o| h.conflicts(o));
                    let got = t.bind(port, h);
                    prop_assert_eq!(got.is_some(), free);
                    model.extend(got.map(|b| (b, h)));
                }
                2 => {
                    let free = of(&model).iter().all(|o| o.by_connect);
                    let got = t.bind_for_connect(port, h);
                    prop_assert_eq!(got.is_some(), free);
                    model.extend(got.map(|b| (b, Holder { by_connect: true, ..h })));
                }
                3 if !model.is_empty() => {
                    let (b, old) = model.swap_remove(usize::from(which) % model.len());
                    let others: Vec<_> = model.iter().filter(|(o, _)| o.port == b.port).map(|(_, h)| *h).collect();
                    let free = !others.iter().any(|o| h.conflicts(o));
                    let got = t.rebind(&b, h);
                    prop_assert_eq!(got.is_some(), free);
                    model.push(got.map_or((b, old), |new| (new, h)));
                }
                4 if !model.is_empty() => {
                    let (b, old) = &model[usize::from(which) % model.len()];
                    let both = (t.bind_also(b), *old);
                    model.push(both);
                }
                _ if !model.is_empty() => t.unbind(&model.swap_remove(usize::from(which) % model.len()).0),
                _ => {}
            }
            for (b, h) in &model {
                prop_assert_eq!(t.holder(b), *h);
            }
            sizes(&t);
        }
        model.iter().for_each(|(b, _)| t.unbind(b));
        let (kinds, ports) = sizes(&t);
        prop_assert!(kinds <= RECENT && ports == 0);
    }
}
