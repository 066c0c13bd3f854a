//! The founding scenario, in every order, and its variants, in many: conformance items 48 and 49.

#[path = "../examples/founding_scenario/scenario.rs"]
mod scenario;

use rtc_thread::Simulation;
use scenario::{Variant, disagreement, run};

/// So many at random, of each variant: the systematic ones all begin alike.
const AT_RANDOM: u64 = 1_500;
/// Together more than a hundred thousand.
const OF_EACH: u64 = 13_000;

#[test]
fn item_48_nothing_disagrees_once_nothing_is_under_way_in_any_interleaving() {
    let mut runs = 0;
    for variant in Variant::ALL {
        let explored = Simulation::explore(OF_EACH, |simulation| {
            let rows = run(simulation, variant);
            if let Some(wrong) = disagreement(variant, &rows) {
                panic!("{variant:?}: {wrong}");
            }
        });
        runs += explored.runs;
    }
    println!("{runs} interleavings");
    assert!(runs > 100_000, "only {runs} interleavings");
}

#[test]
fn item_48_nor_in_interleavings_chosen_at_random() {
    let seeds = match std::env::var("RTC_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..AT_RANDOM).collect(),
    };
    for variant in Variant::ALL {
        for seed in &seeds {
            let rows = run(&Simulation::new(*seed), variant);
            if let Some(wrong) = disagreement(variant, &rows) {
                panic!("{variant:?}, seed {seed}: {wrong}");
            }
        }
    }
}
