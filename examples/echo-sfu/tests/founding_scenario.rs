//! The founding scenario, in every order, and its variants, in many: conformance items 48 and 49.

#[path = "../examples/founding_scenario/scenario.rs"]
mod scenario;

use rtc_thread::Simulation;
use scenario::{Variant, disagreement, run};

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
