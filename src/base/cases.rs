//! What the property tests play: the same cases in every run, so that a change and nothing else makes one fail. Other
//! cases by the environment: `PROPTEST_RNG_SEED` selects them, `PROPTEST_CASES` says how many. Above: tests.

use proptest::test_runner::{Config, RngSeed};

/// As many as proptest plays by default.
pub(crate) fn cases() -> Config {
    let config = Config { failure_persistence: None, ..Config::default() };
    match config.rng_seed {
        RngSeed::Fixed(_) => config,
        RngSeed::Random => Config { rng_seed: RngSeed::Fixed(0x9293), ..config },
    }
}

/// So many.
pub(crate) fn so_many(n: u32) -> Config {
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    let config = cases();
    if asked { config } else { Config { cases: n, ..config } }
}
