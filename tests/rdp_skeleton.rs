//! The example `rdp_skeleton` works as documented, and nothing is left when it ends.

#[path = "../examples/rdp_skeleton.rs"]
mod example;

#[test]
fn the_skeleton_carries_messages_both_ways_over_a_bad_link() {
    for seed in 1..6 {
        let o = example::run(seed, 200).unwrap_or_else(|e| panic!("{e}"));
        assert!(o.messages == 200 && o.bytes > 1_000_000 && o.mishaps > 0 && o.resent > 0, "seed {seed}: {o:?}");
    }
}

#[test]
fn the_skeleton_needs_nothing_that_is_internal() {
    assert!(!include_str!("../examples/rdp_skeleton.rs").contains("internal"));
}

#[test]
fn a_seed_played_again_gives_the_same_run() {
    assert_eq!(example::run(7, 100), example::run(7, 100));
}
