//! Whatever is trickled brings a bounded number of candidates, or is refused.

#![no_main]

use echo_sfu::fuzzing::candidates;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|fragment: &str| {
    if let Some(candidates) = candidates(fragment) {
        assert!(candidates <= 64);
    }
});
