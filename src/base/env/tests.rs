use super::*;

#[test]
fn instants_saturate_instead_of_wrapping() {
    let second = Duration::from_secs(1);
    assert_eq!(Instant::MAX + second, Instant::MAX);
    assert_eq!(Instant::ZERO - second, Instant::ZERO);
    assert_eq!(Instant::ZERO + Duration::MAX, Instant::MAX);
    assert_eq!(Instant::ZERO.saturating_sub(Instant::from_secs(3)), Duration::ZERO);
    assert_eq!(Instant::from_secs(5) - Instant::from_millis(3500), Duration::from_millis(1500));
    assert_eq!(Instant::from_millis(u64::MAX), Instant::MAX);
}

#[test]
fn units_convert_by_powers_of_a_thousand() {
    let t = Instant::from_micros(1_234_567);
    assert_eq!((t.as_nanos(), t.as_micros(), t.as_millis(), t.as_secs()), (1_234_567_000, 1_234_567, 1_234, 1));
    assert_eq!(format!("{t:?}"), "1.234567000s");
}

#[test]
fn real_clock_never_goes_back() {
    let clock = RealClock::new();
    let mut last = Instant::ZERO;
    for _ in 0..1000 {
        let now = clock.now();
        assert!(now >= last);
        last = now;
    }
    assert!(clock.wall() > Duration::from_secs(1_600_000_000));
}

#[test]
fn virtual_clock_moves_only_ahead_and_takes_the_wall_with_it() {
    let clock = VirtualClock::with_wall(Duration::from_secs(100));
    assert_eq!(clock.now(), Instant::ZERO);
    clock.set(Instant::from_secs(5));
    clock.set(Instant::from_secs(3));
    assert_eq!(clock.now(), Instant::from_secs(5));
    assert_eq!(clock.advance(Duration::from_secs(2)), Instant::from_secs(7));
    assert_eq!(clock.wall(), Duration::from_secs(107));
    assert_eq!(clock.advance(Duration::MAX), Instant::MAX);
}

#[test]
fn seeded_entropy_repeats_for_a_seed_and_differs_between_seeds() {
    let draw = |seed| {
        let e = SeededEntropy::new(seed);
        let mut bytes = [0; 13];
        e.fill(&mut bytes);
        (bytes, e.next_u32(), e.next_u64(), e.below(1000))
    };
    assert_eq!(draw(7), draw(7));
    assert_ne!(draw(7), draw(8));
    // The published first outputs of SplitMix64 for seed 1234567.
    let e = SeededEntropy::new(1_234_567);
    assert_eq!([e.next_u64(), e.next_u64()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
}

#[test]
fn below_stays_below_and_reaches_every_value() {
    let e = SeededEntropy::new(1);
    assert_eq!((e.below(0), e.below(1)), (0, 0));
    for n in [2u32, 3, 7, 28_232, 0x8000_0001, u32::MAX] {
        for _ in 0..200 {
            assert!(e.below(n) < n);
        }
    }
    let mut seen = [0u32; 6];
    for _ in 0..6000 {
        seen[e.below(6) as usize] += 1;
    }
    assert!(seen.iter().all(|&n| (850..1150).contains(&n)), "{seen:?}");
}

#[test]
fn os_entropy_gives_each_byte_once_across_buffer_refills() {
    let e = OsEntropy::new().unwrap();
    let mut long = vec![0; 3 * POOL + 5];
    e.fill(&mut long);
    let mut chunks: Vec<&[u8]> = long.chunks_exact(16).collect();
    chunks.sort();
    chunks.dedup();
    assert_eq!(chunks.len(), long.len() / 16);
    // Numbers as well, where the last bytes of a buffer are too few for one.
    let words: Vec<u32> = (0..2 * POOL).map(|_| e.next_u32()).collect();
    let longs: Vec<u64> = (0..POOL).map(|_| e.next_u64()).collect();
    let mut all: Vec<u32> = longs.iter().flat_map(|n| [*n as u32, (*n >> 32) as u32]).chain(words).collect();
    all.sort_unstable();
    all.dedup();
    // Of 4096 draws of 32 bits three pairs are equal less often than once in 10^10 runs.
    assert!(all.len() + 3 > 4 * POOL, "{}", all.len());
    let pool = e.pool().lock();
    assert!(pool.bytes[..pool.used].iter().all(|&b| b == 0), "bytes handed out stay in the buffer");
}

#[test]
fn a_forked_child_draws_no_byte_its_parent_will_draw() {
    let e = OsEntropy::new().unwrap();
    // The buffer that is filled from the start.
    let mut parent = e.pools[0].lock();
    let inherited: Vec<u8> = parent.bytes[parent.used..].to_vec();
    let mut drawn = [0; 64];
    let generation = parent.generation;
    parent.fill(&mut drawn, generation.wrapping_add(1));
    assert!(!inherited.windows(16).any(|w| w == &drawn[..16]));
    let inherited: Vec<u8> = parent.bytes[parent.used..].to_vec();
    let drawn = parent.take::<8>(generation.wrapping_add(2));
    assert!(!inherited.windows(8).any(|w| w == drawn), "a number");
}

#[test]
fn without_the_device_numbers_still_differ_from_each_other_and_between_processes() {
    let closed = |_: &mut [u8]| Err(std::io::Error::from_raw_os_error(libc::EMFILE));
    let e = OsEntropy::new().unwrap();
    let mut pool = e.pool().lock();
    pool.refill(closed);
    let first = *pool.bytes;
    pool.refill(closed);
    assert_ne!(first[..16], pool.bytes[..16]);
    pool.reserve.1 = 0;
    pool.generation = pool.generation.wrapping_add(1);
    pool.refill(closed);
    assert_ne!(first[..16], pool.bytes[..16], "a forked child repeats its parent");
    drop(pool);
    let bytes = |pool: &Mutex<Pool>| {
        let mut pool = pool.lock();
        pool.refill(closed);
        *pool.bytes
    };
    assert_ne!(bytes(&e.pools[1])[..16], bytes(&e.pools[2])[..16], "two buffers");
}

#[test]
fn times_of_the_system_s_monotonic_clock_are_the_stack_s() {
    let clock = RealClock::new();
    let before = clock.now();
    let at = clock.at_monotonic(crate::sys::fd::monotonic());
    assert!(before <= at + Duration::from_millis(1) && at <= clock.now() + Duration::from_millis(1));
    assert_eq!(clock.at_monotonic(0), Instant::ZERO, "before the epoch");
}
