//! Waiting until something is the case.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// What has not come about after so long does not come at all. No test passes or fails by less.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// How often to look. Every look costs the machine that is being looked at.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// Looks until there is something to be found; on failure says what was seen last.
#[track_caller]
pub(crate) fn wait_for<T, S: Debug>(what: &str, look: impl FnMut() -> Result<T, S>) -> T {
    wait_for_at_most(PATIENCE, what, look)
}

/// The same, where the time is part of what is promised.
#[track_caller]
pub(crate) fn wait_for_at_most<T, S: Debug>(
    limit: Duration,
    what: &str,
    mut look: impl FnMut() -> Result<T, S>,
) -> T {
    let start = Instant::now();
    loop {
        // Taken before the look: what is seen in time counts, even if looking took long.
        let waited = start.elapsed();
        match look() {
            Ok(found) => return found,
            Err(seen) => assert!(
                waited < limit,
                "waited {waited:.1?} in vain: {what}; seen last: {seen:#?}"
            ),
        }
        std::thread::sleep(BETWEEN_LOOKS);
    }
}
