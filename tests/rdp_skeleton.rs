//! The example `rdp_skeleton` works as documented, and nothing is left when it ends.

#[path = "../examples/rdp_skeleton/main.rs"]
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
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/rdp_skeleton");
    let mut files = 0;
    for path in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        assert!(!std::fs::read_to_string(&path).unwrap().contains("internal"), "{path:?}");
        files += 1;
    }
    assert!(files >= 3, "{files} files");
}

#[test]
fn a_seed_played_again_gives_the_same_run() {
    assert_eq!(example::run(7, 100), example::run(7, 100));
}
